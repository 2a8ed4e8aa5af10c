"""The commands, put together."""

import io
import os
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from wavenet.cli.bench import bench
from wavenet.cli.copy import copy
from wavenet.cli.errors import errors_in_one_line
from wavenet.cli.evaluate import evaluate
from wavenet.cli.export import export
from wavenet.cli.generate import generate
from wavenet.cli.inspect import inspect
from wavenet.cli.models import models
from wavenet.cli.prepare import prepare
from wavenet.cli.report import report
from wavenet.cli.train import train

_ARGUMENT = re.compile(r"""^(\w+)(?= is )|(?<![^\s(`])(\w+)=(["']?)([\w.]+)\3""")
"""An argument of Python in an error: `top_k is 0` at its beginning, `force=True` or `engine="naive"` anywhere."""


class _Command(TyperCommand):
    """A command that spells its options as flags in the library's errors: `--top-k is 0`, `pass --force`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            if len(error.args) == 1:
                error.args = (self.with_flags(str(error.args[0])),)
            raise

    def with_flags(self, message: str) -> str:
        """The message with this command's options in place of the arguments of the same names."""
        flags = {option.name: option.opts[0] for option in self.params if option.opts[0].startswith("-")}

        def spelled(found: re.Match[str]) -> str:
            flag, value = flags.get(found[1] or found[2]), found[4]
            if flag is None:
                return found[0]
            return flag if value in (None, "True") else f"{flag} {value}"

        return _ARGUMENT.sub(spelled, message).replace("or None to", "or leave it out to")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in (prepare, train, generate, evaluate, copy, inspect, report, bench, export, models):
    app.command(cls=_Command)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"wavenet {version('wavenet-toolkit')}")
        raise typer.Exit


@app.callback()
def _wavenet(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train WaveNets on audio, score them on held-out audio, and generate audio."""


def _open_closed_streams() -> None:
    """Let no file take the number of a standard stream that the shell closed; what is said there goes nowhere."""
    while (nothing := os.open(os.devnull, os.O_RDWR)) <= 2:
        if nothing == 2:
            sys.stderr = os.fdopen(nothing, "w", encoding="utf-8")
    os.close(nothing)


def run() -> None:
    """Run the command that the process was started with."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for a terminal that has no µ
    with errors_in_one_line("wavenet"):
        try:
            status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
            if sys.stdout is not None:  # closed by the shell
                sys.stdout.flush()
        except SystemExit as ended:
            if ended.code == 1:  # typer turns a broken pipe into this
                raise BrokenPipeError from None
            raise
        except typer.TyperException as error:
            message = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's prefix
            raise ValueError(f"{message}; see wavenet --help, or wavenet COMMAND --help") from error
        except typer.Abort:
            raise KeyboardInterrupt from None
        if status == 130:  # typer turns Ctrl-C into this
            raise KeyboardInterrupt
    sys.exit(status)
