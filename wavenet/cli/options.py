"""Options that commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from wavenet.engines import WEIGHT_TYPES, WeightType

__all__ = ["AsJson", "Force", "ModelFile", "Threads", "Weights", "check_output", "weight_type"]

Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ModelFile = Annotated[Path, typer.Argument(help="Model file (.safetensors).")]

Weights = Annotated[
    str | None, typer.Option(help="How the native engine stores weights: float32 (the default), bfloat16 or int8.")
]
Threads = Annotated[int, typer.Option(help="The native engine's; a single stream uses two at most.")]


def weight_type(name: str | None) -> WeightType:
    """The type of that name, float32 for none; `ValueError` where there is no such."""
    for weights in WEIGHT_TYPES:
        if name in (weights, None):
            return weights
    raise ValueError(f"--weights is {name!r}; expected one of {', '.join(WEIGHT_TYPES)}")


def check_output(path: Path, force: bool) -> None:
    """Raise `ValueError` unless a file can be written there, and replaces another only with `force`."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file to write")
    if os.path.lexists(path) and not force:
        raise ValueError(f"{path} exists; choose another path or pass --force to replace it")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder to write {path.name} to")
