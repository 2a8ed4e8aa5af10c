"""Options that commands share. Nothing here imports torch, so that `--help` is quick."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def between(least: float, most: float = math.inf) -> Callable[[typer.CallbackParam, Any], Any]:
    """A callback for an option that is a number, or a list of numbers, from `least` to `most`."""

    def check(option: typer.CallbackParam, value: Any) -> Any:
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not least <= number <= most:
                expected = f"at least {least}" if most == math.inf else f"{least} to {most}"
                raise ValueError(f"{option.opts[0]} is {number}; expected {expected}")
        return value

    return check


WeightType = Literal["float32", "bfloat16", "int8"]
"""The same as `wavenet.engines.WeightType`, which cannot be had without torch."""

Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ModelFile = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Model file (.safetensors), or a name of `wavenet models`.")
]
DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset that `wavenet prepare` wrote.")]
Split = Annotated[str, typer.Option(help="Split of the dataset to take clips from.")]
OnlySpeakers = Annotated[
    list[str] | None, typer.Option("--speaker", metavar="NAME", help="Take only this speaker's clips; repeatable.")
]
Limit = Annotated[
    int | None, typer.Option(callback=between(1), help="Take at most this many clips, evenly spaced over the split.")
]
AsSpeaker = Annotated[
    str | None, typer.Option(metavar="NAME", help="Tell the model that this speaker speaks in every clip.")
]
Temperature = Annotated[float, typer.Option(help="Below 1, sampling is more cautious; at 0, the likeliest value wins.")]
Weights = Annotated[
    WeightType | None,
    typer.Option(help="Type of the native engine's weights; float32 if not given. The smaller ones are faster."),
]
Threads = Annotated[int, typer.Option(help="Threads of the native engine; a single stream uses at most two.")]


def counted(count: int, noun: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def check_output(path: Path, force: bool) -> None:
    """Raise `ValueError` unless a file can be written there; `force` allows it to replace another."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file to write")
    if os.path.lexists(path) and not force:
        raise ValueError(f"{path} exists; choose another path or pass --force to replace it")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder to write {path.name} to")
    from wavenet.atomic import check_writable

    check_writable(path)
