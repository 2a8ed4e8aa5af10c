"""A waveform on disk: what a long recording becomes before it is cut, because its level is known only at its end."""

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from wavenet.data.levels import count_over
from wavenet.data.pauses import frame_samples, short_time

_FRAMES_AT_ONCE = 1000


class Spool:
    """The samples of `blocks`, in a file without a name in `folder`: float32, `samples` of them.

    `peak` is the largest, and `over` how many lie over full scale.
    """

    def __init__(self, blocks: Iterable[Tensor], folder: Path | None = None) -> None:
        self.samples, self.peak, self.over = 0, 0.0, 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the spool)
        try:
            for block in blocks:
                if len(block):
                    self._file.write(block.numpy().tobytes())
                    self.peak = max(self.peak, float(block.abs().max()))
                    self.over += count_over(block)
                self.samples += len(block)
            self._file.flush()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, start: int, stop: int) -> Tensor:
        """Samples `start` to `stop`, or to the end: `(T,)`."""
        waveform = torch.empty(min(stop, self.samples) - start)
        rest, place = waveform.numpy().data.cast("B"), 4 * start
        while rest:  # the system reads at most 2 GiB at once
            read = os.preadv(self._file.fileno(), [rest], place)
            if not read:
                raise OSError(errno.EIO, "the temporary file was cut short", self._file.name)
            rest, place = rest[read:], place + read
        return waveform

    def levels(self, sample_rate: int) -> Tensor:
        """The level of each frame of 10 ms about its mean, `(F,)`."""
        frame = frame_samples(sample_rate)
        levels = torch.empty(-(-self.samples // frame))  # parts of it, kept in a list, would scatter over the heap
        for first in range(0, len(levels), _FRAMES_AT_ONCE):
            part = self.read(first * frame, (first + _FRAMES_AT_ONCE) * frame)
            levels[first : first + _FRAMES_AT_ONCE] = short_time(part, frame)[0]
        return levels
