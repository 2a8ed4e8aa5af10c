"""A prepared dataset on disk, read through a memory map, and random windows of it for training."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

__all__ = ["Batch", "PreparedClip", "PreparedDataset", "WindowSampler"]


@dataclass(frozen=True, kw_only=True)
class PreparedClip:
    """Where a clip's samples lie in the dataset and what is known of it."""

    name: str
    split: str
    speaker: str | None
    text: str | None
    source: str
    offset: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a dataset was made with, and the checksum of its index and samples."""

    format: Literal["wavenet-toolkit dataset, version 1"]
    sample_rate: Annotated[int, Field(ge=1000, le=768000)]
    trim_db: float | None
    clips: Annotated[int, Field(ge=1)]
    samples: Annotated[int, Field(ge=1)]
    skipped: int
    sha256: str


def _first(error: ValidationError) -> str:
    details = error.errors()[0]
    return ": ".join([".".join(str(part) for part in details["loc"]), details["msg"]]).removeprefix(": ")


class PreparedDataset:
    """What `wavenet prepare` wrote. Samples stay on disk until they are asked for."""

    def __init__(self, path: str | Path) -> None:
        """Raises `FileNotFoundError` where nothing is, `ValueError` where it is no whole dataset."""
        self.path = Path(path)
        self.manifest = self._read_manifest()
        self.sample_rate = self.manifest.sample_rate
        audio = self.path / "audio.pcm"
        expected = self.manifest.samples * 2
        if not audio.is_file() or audio.stat().st_size != expected:
            found = f"{audio.stat().st_size} bytes" if audio.is_file() else "nothing"
            raise ValueError(f"{audio}: found {found}, its manifest says {expected} bytes; prepare the dataset again")
        self._pcm: NDArray[np.int16] = np.memmap(audio, dtype="<i2", mode="r")
        self.clips = tuple(self._read_index())

    def _read_manifest(self) -> Manifest:
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such dataset; `wavenet prepare SOURCE {self.path}` makes one")
        file = self.path / "manifest.json"
        if not file.is_file():
            raise ValueError(f"{self.path} is not a prepared dataset (no manifest.json); `wavenet prepare` makes one")
        try:
            return TypeAdapter(Manifest).validate_json(file.read_bytes())
        except ValidationError as error:
            raise ValueError(
                f"{file} is not a dataset's manifest ({_first(error)}); prepare the dataset again"
            ) from error

    def _read_index(self) -> Iterator[PreparedClip]:
        file, reader = self.path / "index.jsonl", TypeAdapter(PreparedClip)
        try:
            for line in file.read_bytes().splitlines():
                clip = reader.validate_json(line)
                if clip.offset < 0 or clip.samples < 1 or clip.offset + clip.samples > len(self._pcm):
                    raise ValueError(f"clip {clip.name!r} lies outside the audio")
                yield clip
        except ValidationError as error:
            raise ValueError(f"{file} is not a dataset's index ({_first(error)}); prepare the dataset again") from error
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror}); prepare the dataset again") from error

    def split(self, name: str, voices: Collection[str] = ()) -> tuple[PreparedClip, ...]:
        """The clips of one split, of the speakers in `voices` if it names any; `ValueError` if there are none."""
        known = sorted({clip.speaker for clip in self.clips if clip.speaker is not None})
        for voice in voices:
            if voice not in known:
                raise ValueError(f"{self.path} has no speaker {voice!r}; it has {', '.join(known) or 'none'}")
        clips = tuple(clip for clip in self.clips if clip.split == name and (not voices or clip.speaker in voices))
        if not clips:
            present = sorted({clip.split for clip in self.clips})
            of = f" of {', '.join(voices)}" if voices else ""
            raise ValueError(
                f"{self.path} has no clips{of} in split {name!r}; it has {', '.join(present)}; "
                "prepare it again with more clips or another --held-out"
            )
        return clips

    @property
    def held_out_split(self) -> str:
        """What training is watched on: `validation` where the corpus has one, else `test`."""
        return "validation" if any(clip.split == "validation" for clip in self.clips) else "test"

    def read(self, clip: PreparedClip, start: int = 0, stop: int | None = None) -> Tensor:
        """Samples `start` to `stop` of a clip, int16, `(T,)`."""
        stop = clip.samples if stop is None else stop
        return torch.from_numpy(self._pcm[clip.offset + start : clip.offset + stop].astype(np.int16))


@dataclass(frozen=True)
class Batch:
    """Windows of `clips`, with what lies around them.

    `samples` int16 `(B, margin + context + window + margin)`, zeros beyond a clip's ends; `scored` `(B, window)`, false
    beyond them; `times` `(B,)`, where in its clip each row's context begins (negative before the clip).
    """

    samples: Tensor
    scored: Tensor
    times: Tensor
    clips: tuple[PreparedClip, ...]


@dataclass(frozen=True, kw_only=True)
class WindowSampler:
    """Random windows, each behind the `context` samples that come before it in its clip.

    All windows that hold a sample of a clip are equally likely, so all samples are scored equally often: a clip's
    first (which follow silence, and from which generation starts) like those in its midst. Beyond a clip's ends lie
    zeros, which are not scored.
    `margin` more samples come along at both ends, for features. Windows begin at multiples of `grid`, and context
    and margin are multiples of it: so the frames of all rows lie at the same places.
    The batch is a function of `seed` and the step alone, so a resumed run sees what it would have seen.
    """

    dataset: PreparedDataset
    clips: tuple[PreparedClip, ...]
    context: int
    window: int
    batch_size: int
    seed: int
    margin: int = 0
    grid: int = 1

    def __post_init__(self) -> None:
        assert self.context % self.grid == self.margin % self.grid == 0
        if self.window < self.grid:
            raise ValueError(
                f"train.window is {self.window} samples; expected at least {self.grid}, the grid of the model's "
                "frames and blocks of linear prediction"
            )

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """The running number of windows, clip by clip."""
        return np.cumsum([(clip.samples - 1) // self.grid + 1 - self._first for clip in self.clips])

    @property
    def _first(self) -> int:
        """Where a clip's first window begins, in steps of the grid: it holds the clip's first sample alone."""
        return -((self.window - 1) // self.grid)

    def batch(self, step: int) -> Batch:
        random = np.random.default_rng([self.seed, step])
        length = self.context + self.window + 2 * self.margin
        samples = torch.zeros(self.batch_size, length, dtype=torch.int16)
        scored = torch.zeros(self.batch_size, self.window, dtype=torch.bool)
        times = torch.zeros(self.batch_size, dtype=torch.long)
        clips = []
        for row, number in enumerate(random.integers(self._ends[-1], size=self.batch_size)):
            place = int(np.searchsorted(self._ends, number, side="right"))
            clip = self.clips[place]
            number_in_clip = int(number) - (int(self._ends[place - 1]) if place else 0)
            start = (number_in_clip + self._first) * self.grid
            begin = start - self.context - self.margin
            first, stop = max(0, begin), min(begin + length, clip.samples)
            samples[row, first - begin : stop - begin] = self.dataset.read(clip, first, stop)
            scored[row, max(0, -start) : clip.samples - start] = True
            times[row] = start - self.context
            clips.append(clip)
        return Batch(samples, scored, times, tuple(clips))
