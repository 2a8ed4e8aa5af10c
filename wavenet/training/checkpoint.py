"""A training checkpoint: everything a run needs to go on as if it had never stopped. Reading it runs no code."""

import io
import math
import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from wavenet.atomic import write_atomically

__all__ = ["CHECKPOINTS", "Progress", "load_checkpoint", "save_checkpoint"]

_Count = Annotated[int, Field(strict=True, ge=0)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass
class Progress:
    """Where a run stands. `bits_sum` over `bits_count` is the training loss since the last log line, `norm_sum` over
    it the gradient's norm, before clipping.

    `best_bits` is the lowest held-out figure so far.
    """

    step: _Count = 0
    bits_sum: _Finite = 0.0
    norm_sum: _Finite = 0.0
    bits_count: _Count = 0
    seconds: _Finite = 0.0
    metrics_bytes: _Count = 0
    best_bits: float = math.inf

    def take_averages(self) -> dict[str, float]:
        """The loss and the gradient's norm, averaged over the steps since they were last taken."""
        averages = {"train_bits": self.bits_sum, "gradient_norm": self.norm_sum}
        count, self.bits_sum, self.norm_sum, self.bits_count = self.bits_count, 0.0, 0.0, 0
        return {name: total / count for name, total in averages.items()}


@dataclass
class _RecipeRecord:
    """What `Recipe.to_dict` gives, as far as a resumed run looks at it."""

    dataset: str | list[dict[str, Any]]
    model: dict[str, Any]
    train: dict[str, Any]


@dataclass
class _State:
    """What `Trainer.state` gives; that the tensors fit is seen where they are loaded."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True}

    recipe: _RecipeRecord
    dataset_sha256: str
    model: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    progress: Progress


_DAMAGE = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, OSError, EOFError, pickle.UnpicklingError)
"""What `torch.load` was seen to raise on files cut short, overwritten or flipped."""

CHECKPOINTS = ("checkpoint.new.pt", "checkpoint.pt", "checkpoint.previous.pt")
"""The files of a run that it can go on from, the newest first."""

_FORMAT = "wavenet-toolkit checkpoint, version 1"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `checkpoint.pt`, and keep the one before it as `checkpoint.previous.pt`.

    The new one is whole on disk before the old one is touched.
    """
    current, previous, new = (
        folder / name for name in ("checkpoint.pt", "checkpoint.previous.pt", "checkpoint.new.pt")
    )
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **state}, buffer)
    write_atomically(new, buffer.getvalue())
    if current.exists():
        os.replace(current, previous)
    os.replace(new, current)


def load_checkpoint(folder: Path, note: Callable[[str], None] = lambda message: None) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run, or `None` where there is none; `note` is told what is passed over.

    Raises `ValueError` where files are there and none of them is whole.
    """
    failures = []
    for name in CHECKPOINTS:
        path = folder / name
        if not path.exists():
            continue
        try:
            state = _read(path)
        except ValueError as error:
            failures.append(str(error))
            continue
        if failures:
            note(f"{'; '.join(failures)}; going on from {path.name}, of step {state['progress']['step']}")
        return state
    if failures:
        raise ValueError(f"{'; '.join(failures)}; begin another run with --set run=FOLDER")
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of a strange pickle: what it says is an error or nothing
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read ({reason})") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this toolkit")
    try:
        TypeAdapter(_State).validate_python(state)
    except ValidationError as error:
        details = error.errors()[0]
        key = ".".join(str(part) for part in details["loc"])
        raise ValueError(f"{path} is damaged ({key}: {details['msg']})") from error
    return state
