"""Silence and pauses, found by the level of 10 ms: where clips are trimmed, and where long recordings are cut."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FRAMES_PER_SECOND = 100
_MARGIN = 5
"""Frames that are kept beside the sound where silence is cut off: 50 ms."""
_PAUSE = 20
"""The frames of the shortest pause: 0.2 s. A plosive is silent for up to 0.15 s."""
_PAUSE_DEPTH = 0.3
"""A pause lies below this share of the way, in decibels, from the quietest 0.2 s around it up to the loud frames."""
_LEAST_DEPTH, _LARGEST_DEPTH = 2.0, 1000.0
"""Without 6 dB between the two there is no pause; more than 60 dB count as 60."""
_LOUDEST_SHARE = 0.005
"""The level of a long recording's sound is what this share of its frames exceeds."""


def find_sound(waveform: Tensor, sample_rate: int, trim_db: float) -> slice:
    """What is left of a waveform `(T,)` without the ends that stay `trim_db` decibels below the clip's level.

    A margin of 50 ms is kept. The level is the clip's peak, so a quiet recording keeps the same samples as a loud one.
    If a click makes the peak, or an end of the clip is no silence only because of an offset, short-time levels decide
    instead. A clip of zeros is kept whole.
    """
    fall = 10 ** (-trim_db / 20)
    peak, margin = float(waveform.abs().max()), math.ceil(0.05 * sample_rate)
    frame = frame_samples(sample_rate)
    levels, means = short_time(waveform, frame)
    reached = float(levels.sort(descending=True).values[min(_SUSTAINED, len(levels) // 10)])
    ends = [(float(means[part].mean().abs()), float(levels[part].mean())) for part in (slice(5), slice(-5, None))]
    offset = any(mean > 3 * level and mean + 2 * level >= fall * peak for mean, level in ends)
    if reached > 0 and (peak > _CLICK * reached or offset):
        (loud,) = torch.nonzero(levels >= reached * fall, as_tuple=True)
        first, last = int(loud[0]) * frame, int(loud[-1] + 1) * frame - 1
    else:
        (positions,) = torch.nonzero(waveform.abs() >= waveform.abs().max() * fall, as_tuple=True)
        first, last = int(positions[0]), int(positions[-1])
    return slice(max(0, first - margin), min(len(waveform), last + 1 + margin))


_SUSTAINED = 10
"""A sound fills more frames of 10 ms than these; a click is shorter."""
_CLICK = 12.0
"""A peak that is this many times the level of the sustained sound, 22 dB, is a click: speech has about 14 dB."""


def short_time(waveform: Tensor, frame: int) -> tuple[Tensor, Tensor]:
    """The level of each frame of `frame` samples about its mean, and its mean. The last sample fills the last frame.

    Shape: `(T,)` -> `(F,)`, `(F,)`.
    """
    frames = torch.cat([waveform, waveform[-1:].expand(-len(waveform) % frame)]).reshape(-1, frame)
    means = frames.mean(dim=1)
    return (frames - means[:, None]).square().mean(dim=1).sqrt(), means


def frame_samples(sample_rate: int) -> int:
    """The samples of a frame of 10 ms."""
    return max(1, sample_rate // _FRAMES_PER_SECOND)


def silence_level(levels: Tensor, trim_db: float) -> float:
    """The level under which frames of a long recording are silent, `trim_db` below that of its sound."""
    rank = min(len(levels) - 1, int(_LOUDEST_SHARE * len(levels)))
    return float(levels.sort(descending=True).values[rank]) * 10 ** (-trim_db / 20)


def cut_at_pauses(levels: Tensor, longest: int, silence: float | None) -> tuple[list[range], int]:
    """Cut a recording into pieces of at most `longest` frames, by the levels of its frames, `(F,)`.

    A piece ends in the middle of the longest pause within reach. Where there is none it ends at the quietest 0.1 s of
    the second half of its reach. Without `silence` the pieces take all frames; with it they leave out the frames below
    that level at their ends, but for a margin of 50 ms. Gives the frames of each piece, and the number of cuts where
    there was no pause.
    """
    heights = levels.numpy()
    heard = np.flatnonzero(heights >= (silence or 0.0))
    margin = 0 if silence is None else _MARGIN
    pieces, without_pause, stop = list[range](), 0, 0
    while (index := int(np.searchsorted(heard, stop))) < len(heard):
        start = max(stop, int(heard[index]) - margin)
        if int(heard[-1]) + 1 - start <= longest:
            stop = min(len(heights), start + longest)
        else:
            length, at_pause = _cut(heights[start : start + longest + _PAUSE], longest, silence or 0.0)
            stop, without_pause = start + length, without_pause + (not at_pause)
        last = int(heard[np.searchsorted(heard, stop) - 1])
        pieces.append(range(start, min(stop, last + 1 + margin)))
    return pieces, without_pause


def _cut(heights: NDArray[np.float32], longest: int, silence: float) -> tuple[int, bool]:
    """Where a piece that begins with these frames ends, at most after `longest` frames, and whether that is a pause."""
    loud, power = float(np.quantile(heights[:longest], 0.9)), np.square(heights, dtype=np.float64)
    quiet = max(math.sqrt(np.convolve(power, np.ones(_PAUSE) / _PAUSE, "valid").min()), loud / _LARGEST_DEPTH)
    below = heights < max(silence, quiet * (loud / quiet) ** _PAUSE_DEPTH if loud > _LEAST_DEPTH * quiet else 0.0)
    begins, ends = np.diff(below.astype(np.int8), prepend=0, append=0).nonzero()[0].reshape(-1, 2).T
    middles = np.where(begins == 0, ends - _PAUSE // 2, (begins + ends) // 2)  # one at the start stays before the sound
    middles = np.minimum(middles, longest)
    usable = (ends - begins >= np.where(begins == 0, 2 * _PAUSE, _PAUSE)) & (begins < longest)
    lengths = np.where(usable & (middles >= longest // 4), ends - begins, 0)
    if lengths.any():
        return int(middles[len(lengths) - 1 - np.argmax(lengths[::-1])]), True
    if usable.any():
        return int(middles[usable][-1]), True
    half = longest // 2
    quietest = int(np.argmin(np.convolve(power[half:longest], np.ones(_PAUSE // 2), "valid")))
    return half + quietest + _PAUSE // 4, False
