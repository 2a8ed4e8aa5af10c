"""Levels: full scale, decibels, loudness, and the removal of what lies below hearing. Waveforms are `(T,)`, float32."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torchaudio import functional

from wavenet.data.audio import warn
from wavenet.data.containers import Note

_MOST_BEYOND = 2.0
"""The highest peak of audio that is only too loud; beyond it the samples are in another unit."""
_CLIPPED_BEYOND = 10 ** (1 / 20)
"""Up to this peak, as lossy codecs and resampling make it, samples are clipped, so that the level stays."""
_SHORTEST_LOUDNESS = 0.4
"""Loudness is measured in blocks of so many seconds."""
_LEAD_PERIODS = 10
"""After so many periods of its cutoff a high-pass has forgotten what was before: it falls by e^-44."""

_ROUNDING = 1e-10
"""Filtered samples below this are rounding errors: the peak of what is filtered is 0.25 at most."""


def fit_full_scale(waveform: Tensor, name: object, note: Note = warn) -> Tensor:
    """Bound a waveform to [-1, 1], and tell `note` how if that changes it; `name` says which it is.

    A peak up to 1 dB over full scale is clipped, up to 6 dB the waveform is scaled down. Raises `ValueError` beyond
    that: such samples are in another unit.
    """
    divisor = full_scale_divisor(float(waveform.abs().max()), count_over(waveform), len(waveform), name, note)
    return (waveform / divisor).clamp(-1, 1)


def count_over(waveform: Tensor) -> int:
    """The samples that lie over full scale by more than half a step of 16 bits."""
    return int((waveform.abs() > 1 + 1 / 65536).sum())


def full_scale_divisor(peak: float, over: int, samples: int, name: object, note: Note = warn) -> float:
    """What to divide a waveform by, before it is clipped, as `fit_full_scale` does, from its peak and `count_over`."""
    if peak > _MOST_BEYOND:
        raise ValueError(
            f"{name} has a peak of {peak:.6g}, and full scale is 1; scale it down (integers of 16 bits, by 32768)"
        )
    if peak > _CLIPPED_BEYOND:
        note(f"{name} has a peak of {peak:.4g}, and full scale is 1: scaled down by {20 * math.log10(peak):.1f} dB")
        return peak
    if over:
        note(f"{name} has a peak of {peak:.4g}, and full scale is 1: {over} of {samples} samples are clipped")
    return 1.0


def amplify(waveform: Tensor, gain: Tensor) -> tuple[Tensor, bool]:
    """Multiply a waveform by a gain, or by the largest that does not clip it; gives whether that is less."""
    largest = 1 / waveform.abs().max()
    return waveform * torch.minimum(gain, largest), bool(gain > largest)


def level_gain(waveform: Tensor, level_db: float) -> Tensor:
    """The gain that brings a waveform to a root mean square of `level_db` decibels below full scale, `()`."""
    return 10 ** (-level_db / 20) / waveform.square().mean().sqrt()


def loudness_gain(waveform: Tensor, sample_rate: int, lufs: float) -> Tensor | None:
    """The gain that brings a waveform to a loudness in LUFS, `()` (ITU-R BS.1770-4, as torchaudio measures it).

    `None` if it has no loudness: if it is shorter than 0.4 s. The waveform is measured at a peak of 0.25, because
    torchaudio's filters clip at 1; so a gain in front of it changes nothing.
    """
    if len(waveform) < _SHORTEST_LOUDNESS * sample_rate:
        return None
    to_quarter = 0.25 / waveform.abs().max()
    measured = functional.loudness((waveform * to_quarter)[None], sample_rate)
    gain = to_quarter * 10 ** ((lufs - measured) / 20)
    return gain if bool(gain.isfinite()) else None


def high_pass(blocks: Iterable[Tensor], sample_rate: int, hertz: float) -> Iterator[Tensor]:
    """Remove what lies below `hertz`, an offset too: a Butterworth filter of second order.

    Each block is filtered after the samples before it, and the first after its mirrored beginning, until the filter has
    forgotten where it began. So the blocks are, but for the rounding of float64, what it makes of the whole.
    """
    before, lead = torch.zeros(0), math.ceil(_LEAD_PERIODS * sample_rate / hertz)
    for block in blocks:
        before = before if len(before) else block[:lead].flip(0)
        waveform = torch.cat([before, block]).double()
        waveform -= waveform[: len(before)].mean()
        bound = 4 * float(waveform.abs().max()) or 1.0  # torchaudio clips at 1
        filtered = functional.highpass_biquad(waveform / bound, sample_rate, hertz)[len(before) :]
        filtered[filtered.abs() < _ROUNDING] = 0.0
        yield (filtered * bound).float()
        before = torch.cat([before, block])[-lead:]
