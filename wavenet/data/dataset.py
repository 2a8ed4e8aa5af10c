"""A prepared dataset on disk, larger than memory or not, and random windows of it for training."""

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

__all__ = ["Batch", "PreparedClip", "PreparedDataset", "Source", "WindowSampler", "checksum"]


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
    index_sha256: str | None = None


def checksum(folder: Path, names: Sequence[str] = ("index.jsonl", "audio.pcm")) -> str:
    """That of a dataset's index and samples, or of some of them, which its manifest records."""
    total = hashlib.sha256()
    for name in names:
        with open(folder / name, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def _first(error: ValidationError) -> str:
    details = error.errors()[0]
    return ": ".join([".".join(str(part) for part in details["loc"]), details["msg"]]).removeprefix(": ")


class PreparedDataset:
    """What `wavenet prepare` wrote. Samples stay on disk until they are asked for."""

    def __init__(self, path: str | Path) -> None:
        """Raises `FileNotFoundError` where nothing is, `ValueError` where it is no whole dataset.

        Where the audio is younger than the manifest, which is written last, it is read through to see if it was
        edited; if not, the manifest is marked as younger again.
        """
        self.path = Path(path)
        self.manifest = self._read_manifest()
        self.sample_rate = self.manifest.sample_rate
        self._audio = audio = self.path / "audio.pcm"
        expected = self.manifest.samples * 2
        if not audio.is_file() or audio.stat().st_size != expected:
            found = f"{audio.stat().st_size} bytes" if audio.is_file() else "nothing"
            raise ValueError(f"{audio}: found {found}, its manifest says {expected} bytes; prepare the dataset again")
        self.clips = tuple(self._read_index())
        self._refuse_edits()

    def _refuse_edits(self) -> None:
        file, recorded = self.path / "manifest.json", self.manifest.index_sha256
        edited = len(self.clips) != self.manifest.clips
        if edited or (recorded is not None and checksum(self.path, ["index.jsonl"]) != recorded):
            raise ValueError(f"{self.path / 'index.jsonl'} was edited since it was prepared; prepare the dataset again")
        if self._audio.stat().st_mtime_ns > file.stat().st_mtime_ns:
            if checksum(self.path) != self.manifest.sha256:
                raise ValueError(f"{self._audio} was edited since it was prepared; prepare the dataset again")
            with suppress(OSError):
                os.utime(file)

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
                if clip.offset < 0 or clip.samples < 1 or clip.offset + clip.samples > self.manifest.samples:
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
                there = ", ".join(known) or "none"
                raise ValueError(f"{self.path} has no speaker {voice!r}; it has {there} (to name none is to take all)")
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
        """Samples `start` to `stop` of a clip, int16, `(T,)`. `OSError` or `ValueError` where the file is gone or cut.

        (A memory map would count what was ever read as the process's memory, and end it where the file is cut short.)
        """
        stop = clip.samples if stop is None else stop
        samples = np.fromfile(self._audio, "<i2", stop - start, offset=2 * (clip.offset + start))
        if len(samples) < stop - start:
            raise ValueError(f"{self._audio} was cut short since it was opened; prepare the dataset again")
        return torch.from_numpy(samples.astype(np.int16))


@dataclass(frozen=True)
class Source:
    """Clips of a dataset to train on. Of several sources each gives a share of the windows by its `weight`."""

    dataset: PreparedDataset
    clips: tuple[PreparedClip, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Windows of `clips`, with what lies around them.

    `samples` int16 `(B, margin + context + window + margin)`, zeros beyond a clip's ends; `scored` `(B, window)`, false
    beyond them; `times` `(B,)`, where in its clip each row's context begins (negative before the clip).
    `scored_in_all` counts the scored samples of the whole batch, of which this may be a part.
    """

    samples: Tensor
    scored: Tensor
    times: Tensor
    clips: tuple[PreparedClip, ...]
    scored_in_all: int


@dataclass(frozen=True, kw_only=True)
class WindowSampler:
    """Random windows, each behind the `context` samples that come before it in its clip.

    All windows that hold a sample of a clip are equally likely, so all samples are scored equally often: a clip's
    first (which follow silence, and from which generation starts) like those in its midst. Beyond a clip's ends lie
    zeros, which are not scored.
    `margin` more samples come along at both ends, for features. Windows begin at multiples of `grid`, and context
    and margin are multiples of it: so the frames of all rows lie at the same places.
    The batch is a function of `seed` and the step alone, so a resumed run sees what it would have seen, and several
    processes can each read their rows of it.
    """

    sources: tuple[Source, ...]
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
    def _ends(self) -> list[NDArray[np.int64]]:
        """The running number of windows, clip by clip, of each source."""
        return [
            np.cumsum([(clip.samples - 1) // self.grid + 1 - self._first for clip in source.clips])
            for source in self.sources
        ]

    @property
    def _first(self) -> int:
        """Where a clip's first window begins, in steps of the grid: it holds the clip's first sample alone."""
        return -((self.window - 1) // self.grid)

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of a step, or some rows of it."""
        drawn = self._draw(step)
        scored_in_all = sum(min(clip.samples, start + self.window) - max(0, start) for _, clip, start in drawn)
        drawn = drawn[rows]
        length = self.context + self.window + 2 * self.margin
        samples = torch.zeros(len(drawn), length, dtype=torch.int16)
        scored = torch.zeros(len(drawn), self.window, dtype=torch.bool)
        for row, (dataset, clip, start) in enumerate(drawn):
            begin = start - self.context - self.margin
            first, stop = max(0, begin), min(begin + length, clip.samples)
            samples[row, first - begin : stop - begin] = dataset.read(clip, first, stop)
            scored[row, max(0, -start) : clip.samples - start] = True
        times = torch.tensor([start - self.context for _, _, start in drawn])
        return Batch(samples, scored, times, tuple(clip for _, clip, _ in drawn), scored_in_all)

    def _draw(self, step: int) -> list[tuple[PreparedDataset, PreparedClip, int]]:
        """Of each row the dataset, the clip, and where in it the window begins."""
        random = np.random.default_rng([self.seed, step])
        if len(self.sources) == 1:
            numbers = [(0, number) for number in random.integers(self._ends[0][-1], size=self.batch_size)]
        else:
            weights = np.array([source.weight for source in self.sources])
            chosen = random.choice(len(weights), self.batch_size, p=weights / weights.sum())
            numbers = [(index, random.integers(self._ends[index][-1])) for index in chosen]
        drawn = []
        for index, number in numbers:
            source, ends = self.sources[index], self._ends[index]
            place = int(np.searchsorted(ends, number, side="right"))
            number_in_clip = int(number) - (int(ends[place - 1]) if place else 0)
            drawn.append((source.dataset, source.clips[place], (number_in_clip + self._first) * self.grid))
        return drawn
