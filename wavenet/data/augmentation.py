"""Random changes of training windows, so that a network copes with what its corpus does not have."""

import io
import math
from dataclasses import asdict, dataclass

import numpy as np
import soundfile
import torch
from torch import Tensor

from wavenet.network import STRICT, decode_mu_law, encode_mu_law

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_DELAY = 1105
"""Samples that an encoder and decoder of MP3 add before the first one, where the file does not say so."""
_CLASSES = 256


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes, drawn anew for each training window; all are off by default.

    `input_noise` concerns the network's inputs alone, not the features and not the samples to predict: in free running
    a network meets its own errors, which training never shows it (FFTNet, Jin et al. 2018; LPCNet, Valin & Skoglund
    2019). It is the largest standard deviation of Gaussian noise, in steps of 8-bit µ-law at the amplitude of each
    sample; each window draws its own strength, uniformly from 0.

    The others change the window itself, in this order. `tilt_db`: the spectrum is tilted by up to this many decibels an
    octave, up or down. `band_share`, from 0 to 1, is the share of windows that are limited to a band like that of a
    telephone or a cheap microphone. `level_db`: the level is lowered by up to this many decibels. `noise_share` get
    white noise, 20 to 60 dB below them. A window that is now beyond [-1, 1] is scaled down. `mu_law_share` are rounded
    to 8-bit µ-law, `mp3_share` go through MP3 at 24 to 64 kbit/s, as far as the sample rate allows it.
    """

    __pydantic_config__ = STRICT

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

    def apply(self, window: Tensor, sample_rate: int, seed: list[int]) -> tuple[Tensor, Tensor | None]:
        """The changed window `(T,)`, and what the network is given for it, `None` if that is the same.

        The same seed gives the same changes. Each change draws from a generator of its own, so that switching one on
        does not alter the others.
        """
        spectrum, level, noise, mu_law, mp3, inputs = (np.random.default_rng([*seed, number]) for number in range(1, 7))
        changed = self._filter(window, sample_rate, spectrum)
        changed = changed * 10 ** (-self.level_db * level.random() / 20)
        if noise.random() < self.noise_share:
            added = torch.from_numpy(noise.standard_normal(len(window), np.float32))
            changed = changed + added * changed.square().mean().sqrt() * 10 ** (-(1 + 2 * noise.random()))
        changed = changed / changed.abs().max().clamp(min=1)
        if mu_law.random() < self.mu_law_share:
            changed = decode_mu_law(encode_mu_law(changed, _CLASSES), _CLASSES)
        if mp3.random() < self.mp3_share:
            changed = _through_mp3(changed, sample_rate, 24 + 40 * mp3.random())
        if not self.input_noise:
            return changed, None
        strength = self.input_noise * inputs.random()
        added = torch.from_numpy(inputs.standard_normal(len(window), np.float32))
        return changed, changed + added * strength * mu_law_step(changed)

    def _filter(self, window: Tensor, sample_rate: int, random: np.random.Generator) -> Tensor:
        """The window with another spectrum, without delay."""
        tilt, limited = random.uniform(-self.tilt_db, self.tilt_db), random.random() < self.band_share
        low, high = random.uniform(40, 300), random.uniform(0.4, 0.95) * sample_rate / 2
        if not tilt and not limited:
            return window
        hertz = torch.linspace(0, sample_rate / 2, len(window) // 2 + 1)
        gains = 10 ** (torch.log2(hertz.clamp(min=50) / 1000) * tilt / 20)
        if limited:  # the edges of Butterworth filters of order 6
            gains = gains / (1 + (low / hertz.clamp(min=1)) ** 12).sqrt() / (1 + (hertz / high) ** 12).sqrt()
        filtered: Tensor = torch.fft.irfft(torch.fft.rfft(window) * gains, len(window))
        return filtered


def mu_law_step(waveform: Tensor) -> Tensor:
    """The distance of neighbouring levels of 8-bit µ-law at each sample's amplitude."""
    most = _CLASSES - 1
    return (1 + most * waveform.abs()) * (2 * math.log(1 + most) / most**2)


def _through_mp3(window: Tensor, sample_rate: int, kilobits: float) -> Tensor:
    """A window as it comes back from MP3 of a constant rate, at the same place."""
    most, least = (320, 32) if sample_rate >= 32000 else (160, 8) if sample_rate >= 16000 else (64, 8)
    level = min(max((most - kilobits) / (most - least), 0.0), 0.99)  # libsndfile refuses 1 at some rates
    file = io.BytesIO()
    soundfile.write(file, window.numpy(), sample_rate, "MPEG_LAYER_III", None, "MP3", True, level, "CONSTANT")
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    if len(decoded) > len(window):  # at low rates the file has no room to say how long it is
        decoded = decoded[_MP3_DELAY:]
    decoded = torch.from_numpy(decoded[: len(window)]).clamp(-1, 1)
    return torch.nn.functional.pad(decoded, (0, len(window) - len(decoded)))
