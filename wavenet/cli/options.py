"""Options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "Force", "ModelFile"]

Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ModelFile = Annotated[Path, typer.Argument(help="Model file (.safetensors).")]
