"""Random windows of clips, for training."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.data.augmentation import Augmentation
from wavenet.data.clips import Clip, check_clips, check_known, read_clip


@dataclass(frozen=True)
class Source:
    """Clips to draw windows from. Each source gives a share of the windows in proportion to its `weight`.

    `checksum` tells a resumed run whether its audio has changed. Without a checksum, the clips' names and lengths are
    compared.
    """

    clips: Sequence[Clip]
    weight: float = 1.0
    checksum: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.weight < 1e38:
            raise ValueError(f"weight is {self.weight}; expected a positive number")

    @cached_property
    def fingerprint(self) -> str:
        """The checksum, or else one of the clips' names and lengths."""
        listing = json.dumps([(clip.name, clip.samples) for clip in self.clips])
        return self.checksum or f"{zlib.crc32(listing.encode()):08x}"


def as_sources(
    clips: Sequence[Clip] | Sequence[Source],
    sample_rate: int,
    known: Mapping[str, Sequence[str]] | None = None,
    name: str = "clips",
) -> tuple[Source, ...]:
    """Sources as they are, clips as one source.

    Raises `ValueError` if the argument called `name` mixes the two or has no clips, or if a clip has another sample
    rate, or lacks a label of a `known` kind, or has none of the known names.
    """
    sources = tuple(item for item in clips if isinstance(item, Source))
    if len(sources) not in (0, len(clips)):
        raise ValueError(f"{name} mixes Sources and Clips; expected either, such as Source(clips, weight=1.0)")
    sources = sources or (Source(tuple(item for item in clips if not isinstance(item, Source))),)
    for source in sources:
        check_clips(source.clips, sample_rate, name)
        check_known(source.clips, known or {}, name)
    return sources


@dataclass(frozen=True)
class Batch:
    """Windows of `clips`, with the audio around them.

    `samples` float32 `(B, margin + context + window + margin)`, zeros beyond a clip's ends; `scored` `(B, window)`,
    false beyond them; `times` `(B,)`, the time in its clip at which each row's context begins (negative before the
    clip). `scored_in_all` counts the scored samples of the whole batch, of which this may be a part. `inputs`, of the
    shape of `samples`, is what the network is given in place of them, if augmentation disturbs its inputs.
    """

    samples: Tensor
    scored: Tensor
    times: Tensor
    clips: tuple[Clip, ...]
    scored_in_all: int
    inputs: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class WindowSampler:
    """Random windows, each with the `context` samples that come before it in its clip.

    All windows that hold a sample of a clip are equally likely, so each sample is scored equally often, the first and
    the last of a clip too (the first follow silence, as generation does). Beyond a clip's ends lie zeros, which are
    not scored.
    `margin` more samples at both ends serve the features. Windows begin at multiples of `grid`; context and margin are
    multiples of it too. So the frames of all rows lie at the same places.
    A batch depends on `seed` and the step alone, its augmentation too: a resumed run sees what it would have seen, and
    each of several processes can read its own rows.
    """

    sources: tuple[Source, ...]
    context: int
    window: int
    batch_size: int
    seed: int
    margin: int = 0
    grid: int = 1
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        assert self.context % self.grid == self.margin % self.grid == 0
        if self.window < self.grid:
            raise ValueError(
                f"window is {self.window} samples; expected at least {self.grid}, the grid of the model's frames and "
                "blocks of linear prediction"
            )
        if self.augmentation is not None:
            self.augmentation.check_rate(self.sources[0].clips[0].sample_rate)

    @cached_property
    def _ends(self) -> list[NDArray[np.int64]]:
        """For each source, the running number of windows after each clip."""
        return [
            np.cumsum([(clip.samples - 1) // self.grid + 1 - self._first for clip in source.clips])
            for source in self.sources
        ]

    @property
    def _first(self) -> int:
        """The start of a clip's first window, which holds only the first sample, in steps of the grid."""
        return -((self.window - 1) // self.grid)

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of a step, or some rows of it."""
        drawn = self.draw(step)
        scored_in_all = sum(min(clip.samples, start + self.window) - max(0, start) for clip, start in drawn)
        drawn = drawn[rows]
        length = self.context + self.window + 2 * self.margin
        samples = torch.zeros(len(drawn), length)
        scored = torch.zeros(len(drawn), self.window, dtype=torch.bool)
        inputs = torch.zeros_like(samples) if self.augmentation and self.augmentation.input_noise else None
        for row, (clip, start) in enumerate(drawn):
            begin = start - self.context - self.margin
            first, stop = max(0, begin), min(begin + length, clip.samples)
            inside, audio = slice(first - begin, stop - begin), read_clip(clip, first, stop)
            if self.augmentation is not None:
                number = range(self.batch_size)[rows][row]
                audio, given = self.augmentation.apply(audio, clip.sample_rate, [self.seed, step, number])
                if inputs is not None and given is not None:
                    inputs[row, inside] = given
            samples[row, inside] = audio
            scored[row, max(0, -start) : clip.samples - start] = True
        times = torch.tensor([start - self.context for _, start in drawn])
        return Batch(samples, scored, times, tuple(clip for clip, _ in drawn), scored_in_all, inputs)

    def draw(self, step: int) -> list[tuple[Clip, int]]:
        """For each row the clip, and the time in it at which the window begins."""
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
            drawn.append((source.clips[place], (number_in_clip + self._first) * self.grid))
        return drawn
