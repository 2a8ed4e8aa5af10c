"""The `wavenet` command. Errors are one line on standard error and exit status 2."""

import io
import os
import sys

import typer

from wavenet.cli.bench import bench
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
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if status == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status)
    except typer.TyperException as error:
        _fail(f"{error.format_message()} See wavenet --help, or wavenet COMMAND --help.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: no reason to complain
        sys.exit(141)
    except OSError as error:
        _fail(str(error) if error.filename is None else f"{error.filename}: {error.strerror}")
    except (ValueError, FloatingPointError) as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        _fail("not enough memory for this; try a smaller model, window, batch or count")


def _fail(message: str) -> None:
    print(f"wavenet: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
