"""Mix the channels of a recording down to one, and notice where they cancel each other."""

import math

import numpy as np
from numpy.typing import NDArray

from wavenet.data.containers import Note

_CANCELLED = 0.25
"""Below this level, compared with that of independent channels, channels cancel each other when they are mixed."""
_STRETCHES = 4
"""Levels are compared this many times a second."""
_LEAST_SECONDS, _MOST_SECONDS, _SHARE = 1.0, 10.0, 1 / 60
"""Independent channels may cancel each other by chance for this share of a recording in a row, within these bounds."""
_HEARD = 1e-3
"""A stretch is a pause if its power is below this share of the recording's mean power (-30 dB)."""


class Mixer:
    """The mean of `channels`, block by block, and a check of what it loses when all blocks are mixed."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self.channels, self.stretch = channels, max(1, sample_rate // _STRETCHES)
        self.seconds, self.power, self.left = list[float](), list[float](), list[float]()
        self.sample_rate = sample_rate

    def mix(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(T, C)` -> `(T,)`."""
        mixed: NDArray[np.float32] = block.mean(axis=1)
        if self.channels > 1:
            begins = np.arange(0, len(block), self.stretch)
            self.seconds += (np.diff(begins, append=len(block)) / self.sample_rate).tolist()
            self.power += np.add.reduceat(np.square(block, dtype=np.float64).sum(axis=1), begins).tolist()
            self.left += np.add.reduceat(np.square(mixed, dtype=np.float64), begins).tolist()
        return mixed

    def check(self, note: Note) -> None:
        """Tell `note` how long channels cancel each other in a row; raise `ValueError` if they do on the whole.

        A pause does not end such a row.
        """
        if self.channels == 1:
            return
        seconds, power, left = (np.array(values) for values in (self.seconds, self.power, self.left))
        if left.sum() < self._bound(power.sum()):
            raise ValueError(f"has {self._lost(power.sum(), left.sum())}; write one of them to a file")
        heard = np.flatnonzero(power > _HEARD * power.sum() / seconds.sum() * seconds)
        cancelled = left < self._bound(power)
        runs = np.split(heard, np.flatnonzero(np.diff(cancelled[heard])) + 1)
        least = min(_MOST_SECONDS, max(_LEAST_SECONDS, _SHARE * seconds[heard].sum()))
        long = [run for run in runs if cancelled[run].all() and seconds[run].sum() >= least]
        if long:
            gone, begin = np.concatenate(long), seconds[: long[0][0]].sum()
            note(
                f"for {seconds[gone].sum():.1f} s in all, first at {begin:.1f} s, it has "
                f"{self._lost(power[gone].sum(), left[gone].sum())}; to keep what is there, write one of them to "
                "a file"
            )

    def _bound(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        return _CANCELLED**2 * power / self.channels**2

    def _lost(self, power: float, left: float) -> str:
        lost = 10 * math.log10(power / self.channels / max(left, power * 1e-12))
        return f"{self.channels} channels that cancel each other: mixed down they lose {lost:.0f} dB"
