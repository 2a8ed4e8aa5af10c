"""A training checkpoint: everything a run needs to go on as if it had never stopped. Reading it runs no code."""

import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from wavenet.atomic import write_atomically

__all__ = ["CHECKPOINTS", "load_checkpoint", "save_checkpoint"]

_DAMAGE = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, OSError, EOFError, pickle.UnpicklingError)
"""What `torch.load` was seen to raise on files cut short, overwritten or flipped."""

CHECKPOINTS = ("checkpoint.pt", "checkpoint.new.pt", "checkpoint.previous.pt")
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


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint of a run, or `None` where there is none.

    Raises `ValueError` where files are there and none of them can be read.
    """
    failures = []
    for name in CHECKPOINTS:
        path = folder / name
        if not path.exists():
            continue
        try:
            with warnings.catch_warnings(action="ignore"):  # of a strange pickle: what it says is an error or nothing
                state = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(state, dict) and state.get("format") == _FORMAT:
                return state
            failures.append(f"{path} is not a checkpoint of this toolkit")
        except _DAMAGE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            failures.append(f"{path} cannot be read ({reason})")
    if failures:
        raise ValueError("; ".join(failures))
    return None
