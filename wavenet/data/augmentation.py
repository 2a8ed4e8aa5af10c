"""Random changes of training windows, so that a network copes with what its corpus does not have."""

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import mu_law_decoding, mu_law_encoding

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_KBIT = (160, 8)
"""Kilobits a second of constant-rate MPEG-2 layer III at compression levels 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes, drawn anew for each training window; all are off by default.

    `input_noise` concerns the network's inputs alone, not the features and not the samples to predict: in free running
    a network meets its own errors, which training never shows it (FFTNet, Jin et al. 2018; LPCNet, Valin & Skoglund
    2019). It is the largest standard deviation of Gaussian noise, in steps of 8-bit µ-law at the amplitude of each
    sample; each window draws its own strength, uniformly from 0.

    The others change the window itself, in this order. `tilt_db`: the spectrum is tilted by up to this many decibels an
    octave, up or down. `level_db`: the level is lowered by up to this many decibels. Of the `..._share`s of all
    windows, from 0 to 1: `band_share` is limited to a band like a telephone's or a cheap microphone's, `noise_share`
    gets white noise, 20 to 60 dB below the window, `mu_law_share` is rounded to 8-bit µ-law,
    `mp3_share` goes through MP3 at 24 to 64 kbit/s.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True}

    input_noise: float = 0.0
    tilt_db: float = 0.0
    level_db: float = 0.0
    band_share: float = 0.0
    noise_share: float = 0.0
    mu_law_share: float = 0.0
    mp3_share: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            most = 1 if name.endswith("_share") else 100
            if not 0 <= value <= most:
                raise ValueError(f"{name} is {value}; expected 0 to {most}")

    def check_rate(self, sample_rate: int) -> None:
        """Raise `ValueError` if windows of this sample rate cannot go through MP3 and are to."""
        if self.mp3_share and sample_rate not in _MP3_RATES:
            rates = ", ".join(str(rate) for rate in _MP3_RATES)
            raise ValueError(f"mp3_share is set, and the sample rate is {sample_rate}; MP3 has {rates}")

    def apply(self, window: Tensor, sample_rate: int, seed: list[int]) -> tuple[Tensor, Tensor]:
        """The changed window, and what the network is given for it: the same with `input_noise`. `(T,)` each.

        The same seed gives the same changes.
        """
        random = np.random.default_rng(seed)
        draws = random.random(10)  # always as many, so that switching one change on does not alter the others
        gains = self._gains(len(window), sample_rate, draws)
        changed = window if gains is None else torch.fft.irfft(torch.fft.rfft(window) * gains, len(window))
        changed = changed * 10 ** (-self.level_db * float(draws[2]) / 20)
        if draws[3] < self.noise_share:
            noise = torch.from_numpy(random.standard_normal(len(window), np.float32))
            changed = changed + noise * changed.square().mean().sqrt() * 10 ** (-float(1 + 2 * draws[4]))
        changed = changed / changed.abs().max().clamp(min=1)
        if draws[5] < self.mu_law_share:
            changed = mu_law_decoding(mu_law_encoding(changed, 256), 256)
        if draws[6] < self.mp3_share:
            changed = _through_mp3(changed, sample_rate, 24 + 40 * float(draws[7]))
        if not self.input_noise:
            return changed, changed
        strength = self.input_noise * float(draws[8])
        noise = torch.from_numpy(random.standard_normal(len(window), np.float32))
        return changed, changed + noise * strength * mu_law_step(changed)

    def _gains(self, samples: int, sample_rate: int, draws: Any) -> Tensor | None:
        """The factor of each frequency of a window, `(samples // 2 + 1,)`."""
        limited = draws[0] < self.band_share
        if not limited and not self.tilt_db:
            return None
        hertz = torch.linspace(0, sample_rate / 2, samples // 2 + 1)
        octaves = torch.log2(hertz.clamp(min=50) / 1000)
        gains = 10 ** (octaves * self.tilt_db * float(2 * draws[1] - 1) / 20)
        if limited:  # edges of Butterworth filters of order 6
            share = float(draws[0]) / self.band_share
            low, high = 40 + 260 * share, sample_rate / 2 * (0.4 + 0.55 * float(draws[9]))
            gains = gains / (1 + (low / hertz.clamp(min=1)) ** 12).sqrt() / (1 + (hertz / high) ** 12).sqrt()
        return gains


def mu_law_step(waveform: Tensor) -> Tensor:
    """The distance of neighbouring levels of 8-bit µ-law at each sample's amplitude."""
    return (1 + 255 * waveform.abs()) * (2 * math.log(256) / 255 / 255)


def _through_mp3(window: Tensor, sample_rate: int, kilobits: float) -> Tensor:
    file = io.BytesIO()
    slowest, fastest = _MP3_KBIT[1], _MP3_KBIT[0]
    soundfile.write(
        file,
        window.numpy(),
        sample_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=(fastest - kilobits) / (fastest - slowest),
        bitrate_mode="CONSTANT",
    )
    file.seek(0)
    decoded, _ = soundfile.read(file, len(window), dtype="float32", fill_value=0.0)
    return torch.from_numpy(decoded).clamp(-1, 1)
