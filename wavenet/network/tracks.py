"""Tracks: values over time, such as pitch and loudness, that condition a model beside its log-mel features.

A track is interpolated linearly to the model's frames, and scaled by the mean and the spread of its training data to
the range of log-mel features. A frame of conditioning is one column, features above tracks, so that engines, streams
and the silence around a clip need not tell the two apart.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.network.quantize import check_dense
from wavenet.network.settings import check_names

_HELD_SECONDS = 0.1
"""For so long the first and the last value hold outwards: analyses begin and end half a window inside a clip."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """The tracks called `names`: `values` `(tracks, N)` at the `seconds` `(N,)` of a clip.

    Without `seconds` the values are those of the frames of the model that takes them. Raises `ValueError` unless values
    are finite and times rise.

    >>> Tracks(("pitch",), torch.tensor([[100.0, 200.0]]), torch.tensor([0.0, 1.0])).at(["pitch"], 3, 2.0)
    tensor([[100., 150., 200.]])
    """

    names: tuple[str, ...]
    values: Tensor
    seconds: Tensor | None = None

    def __post_init__(self) -> None:
        names, values = check_names(self.names, "names"), _numbers(self.values, "values").float()
        seconds = None if self.seconds is None else _numbers(self.seconds, "seconds").double()
        if values.shape[:-1] != (len(names),) or not values.numel():
            expected = f"({len(names)}, frames), the rows {', '.join(names)}"
            raise ValueError(f"tracks have values of shape {tuple(values.shape)}; expected {expected}")
        for row, place in values.isfinite().logical_not().nonzero()[:1].tolist():
            raise ValueError(
                f"track {names[row]!r} has the value {values[row, place]:g} at frame {place}; expected finite numbers"
            )
        if seconds is not None and seconds.shape != values.shape[1:]:
            raise ValueError(f"tracks have seconds of shape {tuple(seconds.shape)}; expected ({values.shape[1]},)")
        if seconds is not None and not bool(seconds.isfinite().all() and (seconds.diff() > 0).all()):
            raise ValueError("the seconds of tracks do not rise; expected each later than the one before it")
        for name, value in (("names", names), ("values", values), ("seconds", seconds)):
            object.__setattr__(self, name, value)

    def at(self, names: Sequence[str], frames: int, frames_per_second: float) -> Tensor:
        """The tracks `names` at a clip's frames, `(names, frames)`; frame f lies at f / `frames_per_second`.

        Raises `ValueError` if one of the names is missing, or the tracks are shorter or longer than the frames.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise ValueError(f"tracks lack {', '.join(missing)}; there is {', '.join(self.names)}")
        rows = [self.names.index(name) for name in names]
        if self.seconds is None:
            if self.values.shape[1] != frames:
                raise ValueError(
                    f"tracks have {self.values.shape[1]} frames, and the clip {frames}; expected as many: tracks with "
                    "seconds are interpolated"
                )
            return self.values[rows]
        self.check_end((frames - 1) / frames_per_second, 1 / frames_per_second)
        return self._interpolated(torch.arange(frames, dtype=torch.float64) / frames_per_second)[rows]

    def check_end(self, end: float, tolerance: float = 0.0) -> None:
        """Raise `ValueError` unless the tracks last from 0 to `end`, in seconds, but for a tenth or a `tolerance`."""
        assert self.seconds is not None
        first, last = float(self.seconds[0]), float(self.seconds[-1])
        if max(abs(first), abs(last - end)) > max(_HELD_SECONDS, tolerance):
            raise ValueError(f"tracks last from {first:g} to {last:g} s; expected 0 to {end:g} s, as the clip does")

    def cut(self, start: float, end: float) -> "Tracks":
        """The tracks of the piece from `start` to `end`, in seconds, by its own clock."""
        assert self.seconds is not None
        inside = self.seconds[(self.seconds > start) & (self.seconds < end)]
        places = torch.cat([inside.new_tensor([start]), inside, inside.new_tensor([end])])
        return Tracks(self.names, self._interpolated(places), places - start)

    def _interpolated(self, places: Tensor) -> Tensor:
        assert self.seconds is not None
        rows = [np.interp(places.numpy(), self.seconds.numpy(), row.numpy()) for row in self.values]
        return torch.from_numpy(np.stack(rows)).float()

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` reads: the names, and the numbers in base64."""
        assert self.seconds is not None
        numbers = {"seconds": self.seconds.numpy().astype("<f8"), "values": self.values.numpy().astype("<f4")}
        coded = {name: base64.b64encode(array.tobytes()).decode() for name, array in numbers.items()}
        return {"names": list(self.names), **coded}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Tracks":
        """Raises `ValueError` if it is not what `to_dict` gave."""
        try:
            names = tuple(stored["names"])
            seconds, values = (
                torch.from_numpy(np.frombuffer(base64.b64decode(stored[key], validate=True), kind).astype(kind[1:]))
                for key, kind in (("seconds", "<f8"), ("values", "<f4"))
            )
            return cls(names, values.reshape(len(names), -1), seconds)
        except (LookupError, TypeError, RuntimeError) as error:
            raise ValueError(f"no tracks are stored here ({error})") from error


def _numbers(value: object, called: str) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"tracks have {called} {type(value).__name__}; expected a floating-point tensor")
    check_dense(value, f"the {called} of tracks")
    return value.detach().cpu()


def check_tracks(
    tracks: Tracks | Tensor | Sequence[Tracks | Tensor] | None,
    frames: Sequence[int],
    names: Sequence[str],
    frames_per_second: float,
) -> list[Tensor]:
    """Each clip's tracks `names` at its `frames`, `(tracks, F)`; a tensor has those of the frames, in the names' order.

    Raises `ValueError` if tracks are missing or do not fit.
    """
    if not names:
        raise ValueError("tracks are given, and the model takes none; leave them out")
    if tracks is None:
        raise ValueError(f"tracks are missing; the model takes {', '.join(names)}: give Tracks, or a tensor")
    if isinstance(tracks, Tracks) or (isinstance(tracks, Tensor) and tracks.dim() == 2):
        tracks = [tracks] * len(frames)
    clips = list(tracks) if isinstance(tracks, Tensor | Sequence) else [tracks]
    if len(clips) != len(frames):
        raise ValueError(f"tracks of {len(clips)} clips are given for a batch of {len(frames)}")
    known = [clip if isinstance(clip, Tracks) else Tracks(tuple(names), clip) for clip in clips]
    return [clip.at(names, count, frames_per_second) for clip, count in zip(known, frames, strict=True)]
