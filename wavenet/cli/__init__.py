"""The `wavenet` command. Errors are one line on standard error and exit status 2."""

import io
import sys

import typer

from wavenet.cli.bench import bench
from wavenet.cli.errors import errors_in_one_line
from wavenet.cli.evaluate import evaluate
from wavenet.cli.export import export
from wavenet.cli.generate import generate
from wavenet.cli.inspect import inspect
from wavenet.cli.prepare import prepare
from wavenet.cli.report import report
from wavenet.cli.train import train

__all__ = ["app", "main"]

app = typer.Typer(
    help="Train WaveNets on audio, score them on held-out audio, and generate WAV files.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (prepare, train, generate, evaluate, inspect, report, bench, export):
    app.command()(command)


def main() -> None:
    """Entry point of the `wavenet` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no µ is no reason to fail
    with errors_in_one_line("wavenet"):
        try:
            status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        except typer.TyperException as error:
            raise ValueError(f"{error.format_message()} See wavenet --help, or wavenet COMMAND --help.") from error
        except typer.Abort:
            raise KeyboardInterrupt from None
        if status == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    sys.exit(status)
