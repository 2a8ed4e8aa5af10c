"""A training checkpoint: all that a run needs to go on as if it had never stopped. Reading it runs no code."""

import io
import json
import math
import os
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from wavenet.atomic import write_atomically
from wavenet.network import WaveNetConfig
from wavenet.training.config import TrainConfig


@dataclass
class Progress:
    """The step that a run has reached, and its figures so far.

    `bits_sum` over `bits_count` is the training loss since the last log line; `norm_sum` over `bits_count` is the norm
    of the gradient before clipping. `best_bits` is the lowest held-out figure so far, `best_opinion` the highest
    sum of free-running OVRL and PLCMOS.
    """

    step: int = 0
    bits_sum: float = 0.0
    norm_sum: float = 0.0
    bits_count: int = 0
    seconds: float = 0.0
    metrics_bytes: int = 0
    best_bits: float = math.inf
    best_opinion: float = 0.0

    def take_averages(self) -> dict[str, float]:
        """Return the loss and the gradient's norm, averaged since the last call, and begin new averages."""
        averages = {"train_bits": self.bits_sum, "gradient_norm": self.norm_sum}
        count, self.bits_sum, self.norm_sum, self.bits_count = self.bits_count, 0.0, 0.0, 0
        return {name: total / count for name, total in averages.items()}


_DAMAGE = (
    *(RuntimeError, LookupError, ValueError, TypeError, AttributeError, OSError, EOFError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
)
"""Exceptions seen when `zipfile` and `torch.load` read files that were cut, overwritten or had bits flipped."""

CHECKPOINTS = ("checkpoint.new.pt", "checkpoint.pt", "checkpoint.previous.pt")
"""The files that a run can go on from, the newest first."""

MAY_CHANGE = ("audio", "audio_seconds", "checkpoint_every", "keep_models", "log_every", "steps", "tensorboard")
"""Keys of `TrainConfig` that may change when a run is resumed: `steps`, and those that do not affect the model."""

_FORMAT = "wavenet-toolkit checkpoint, version 1"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `checkpoint.pt`, and keep the one before it as `checkpoint.previous.pt`.

    The new file is whole on disk before the old ones are touched.
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
    """The newest whole checkpoint in a run folder, or `None` if there is none; `note` is told of damaged ones.

    Raises `ValueError` if there are checkpoints and all are damaged.
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
        raise ValueError(f"{'; '.join(failures)}; begin another run in another folder")
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load ignores the checksums
        if damaged is not None:
            raise ValueError(f"the checksum of its {damaged} is wrong")
        with warnings.catch_warnings(action="ignore"):  # strange pickles cause warnings before errors
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read ({reason})") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this toolkit")
    return state


def refuse_changes(state: Mapping[str, Any], now: Mapping[str, Any], checksum: str, held_out: str) -> None:
    """Raise `ValueError` that names what has changed since a checkpoint's `state`, if a run's record or audio has.

    `checksum` and `held_out` are those of the audio. Checkpoints of earlier versions do not know the latter.
    A record has the settings of `model` and `train`, and the `dataset`: a path, or the sources with their weights.
    (The paths may change, if the checksum of the audio is the same.)
    """
    before, changed, taken = state["recipe"], [], state["progress"]["step"]
    if now["train"]["steps"] < taken:
        raise ValueError(
            f"train.steps is {now['train']['steps']}, and the run has taken {taken}; expected {taken} or more"
        )
    for section, config in (("model", WaveNetConfig), ("train", TrainConfig)):
        was, is_now = (_plain(_complete(config, record[section])) for record in (before, now))
        if "voices" in was:  # the name of `speakers` in earlier versions
            was["speakers"] = was.pop("voices")
        changed += [
            f"{section}.{key} was {was.get(key)!r}, is {is_now.get(key)!r}"
            for key in sorted(was.keys() | is_now.keys())
            if was.get(key) != is_now.get(key) and key not in MAY_CHANGE
        ]
    if _weights(before) != _weights(now):
        changed.append(f"the datasets' weights were {_weights(before)}, are {_weights(now)}")
    if changed:
        raise ValueError(
            f"the settings have changed since the run began ({'; '.join(changed)}); restore them, or begin another run "
            "in another folder, if need be from this one's model (begin_with; train.init_from in a recipe)"
        )
    if state["dataset_sha256"] != checksum:
        datasets = now["dataset"] if isinstance(now["dataset"], list) else [{"path": now["dataset"]}]
        paths = ", ".join(share["path"] for share in datasets if "path" in share) or "the audio"
        raise ValueError(f"{paths} has changed since the run began; start a new run in another folder")
    if state.get("held_out_sha256", held_out) != held_out:
        raise ValueError("the held-out audio has changed since the run began; start a new run in another folder")


def _complete(config: type[WaveNetConfig] | type[TrainConfig], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the defaults of keys that are newer than the run, also in tables such as `model.conditioning`."""
    complete: dict[str, Any] = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in fields(config)
    } | dict(settings)
    for field in fields(config):
        default: Any = field.default
        if is_dataclass(type(default)) and isinstance(complete[field.name], Mapping):
            complete[field.name] = {**asdict(default), **complete[field.name]}
    return complete


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with lists in place of tuples, as JSON has them."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=repr))
    return plain


def _weights(record: Mapping[str, Any]) -> list[float]:
    datasets = record["dataset"]
    return [share["weight"] for share in datasets] if isinstance(datasets, list) else [1.0]
