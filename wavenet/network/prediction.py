"""Linear prediction inside the network: the spectrum predicts the next sample, and the network corrects it.

    mean[t] = sum over k of a[k] * x[t - k],      scale[t] = the error this leads one to expect

The Levinson-Durbin recursion (Makhoul 1975) computes the coefficients of a block of samples from an autocorrelation:
that of the features' spectrum (as in LPCNet, Valin & Skoglund 2019), or that of the past samples (backward-adaptive, as
in G.728). A long order reaches past the pitch period, so that it predicts the harmonics that the features resolve.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from wavenet.network.conditioning import Conditioning
from wavenet.network.distributions import Prediction
from wavenet.network.features import LogMelConfig, mel_bands
from wavenet.network.quantize import compand
from wavenet.network.settings import STRICT, check_whole


@dataclass(frozen=True, kw_only=True)
class PredictionConfig:
    """Linear prediction of `order` coefficients from `features` or from the `past`, fitted anew for each `block`.

    `window` counts the past samples to which the coefficients are fitted. `noise_floor` is added to the spectrum,
    relative to its mean, so that the predictor does not trust what lies below the quantization noise.
    """

    __pydantic_config__ = STRICT

    source: Literal["features", "past"]
    order: int = 32
    block: int = 40
    window: int = 480
    noise_floor: float = 1e-4

    def __post_init__(self) -> None:
        check_whole(self, order=(1, 1024), block=(1, 65536), window=(2, 65536))
        if self.source == "past" and self.window <= self.order:
            raise ValueError(f"window is {self.window} samples, order {self.order}; expected a window longer than that")
        if not 0 < self.noise_floor < 1:
            raise ValueError(f"noise_floor is {self.noise_floor}; expected a share between 0 and 1")


def levinson(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Prediction coefficients and the power of the error (Levinson-Durbin recursion).

    Shape: autocorrelations of lags 0 to order `(..., order + 1)` -> coefficients `(..., order)`, that of the newest
    sample first, and powers `(...,)`.

    >>> levinson(torch.tensor([1.0, 0.5, 0.25]))  # each sample is half the one before it, and noise
    (tensor([0.5000, 0.0000]), tensor(0.7500))
    """
    order = correlation.shape[-1] - 1
    coefficients, error = torch.zeros_like(correlation[..., 1:]), correlation[..., :1]
    backwards = correlation.flip(-1)
    for lag in range(1, order + 1):
        known = coefficients[..., : lag - 1]
        explained = (known * backwards[..., order + 1 - lag : order]).sum(-1, keepdim=True)
        reflection = (correlation[..., lag : lag + 1] - explained) / error
        coefficients[..., : lag - 1] = torch.addcmul(known, reflection, known.flip(-1), value=-1)
        coefficients[..., lag - 1 : lag] = reflection
        error = torch.addcmul(error, error * reflection, reflection, value=-1)
    return coefficients, error[..., 0]


def predict(samples: Tensor, coefficients: Tensor) -> Tensor:
    """Predict samples from those before them: `(B, order + T)`, `(B, T, order)` oldest first -> `(B, T)` in [-1, 1].

    Entry t predicts the sample that follows `samples[:, t : t + order]`.
    """
    pasts = samples.unfold(1, coefficients.shape[2], 1)[:, : coefficients.shape[1]]
    return (pasts * coefficients).sum(dim=2).clamp(-1, 1)


def input_signals(inputs: Tensor, error: Tensor, following: Prediction, rows: int) -> Tensor:
    """The four signals that a network with linear prediction embeds, each `(...)` companded to [-1, 1]: `(..., 4)`.

    They are the newest sample, the prediction of the next, the newest error in units of the expected error, and the
    next expected error.
    """
    amplitudes = [compand(value, rows) for value in (inputs, following.mean, error / _LARGEST_ERROR)]
    return torch.stack([*amplitudes, compand(following.scale, 65536)], dim=-1)


_LARGEST_ERROR = 16.0


class Predictor(nn.Module, ABC):
    """Fits coefficients block by block; block b predicts samples b * block to (b + 1) * block - 1 of a clip."""

    fits_past: ClassVar[bool]
    """Whether a block's coefficients depend on the samples before it."""

    def __init__(self, config: PredictionConfig) -> None:
        super().__init__()
        self.config = config
        self.order, self.block = config.order, config.block
        self.context = config.order
        """Past samples that a prediction and its fit need."""

    @abstractmethod
    def fit(
        self, samples: Tensor, start: int, first: int, blocks: int, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        """Coefficients `(B, blocks, order)`, oldest first, and expected errors `(B, blocks)` of `blocks` from `first`.

        `samples` `(B, T)` are the known samples from time `start` on.
        """

    def forward(self, samples: Tensor, start: int, conditioning: Conditioning) -> Prediction:
        """Predict samples `start` to `start + T`; the last one is still to come.

        Shape: `(B, context + T)`, the last T from time `start` on -> `(B, T + 1)` each.
        """
        length = samples.shape[1] - self.context
        first = start // self.block
        blocks = (start + length) // self.block - first + 1
        coefficients, scales = self.fit(samples, start - self.context, first, blocks, conditioning)
        index = torch.arange(start, start + length + 1, device=samples.device) // self.block - first
        mean = predict(samples[:, self.context - self.order :], coefficients[:, index])
        return Prediction(mean, scales[:, index])

    def correlate(self, power: Tensor) -> Tensor:
        """Autocorrelations of lags 0 to order from a power spectrum of frequencies 0 to half the sample rate.

        Shape: `(..., points)` -> `(..., order + 1)`.
        """
        correlation: Tensor = torch.fft.irfft(power)[..., : self.order + 1]
        return correlation

    def solve(self, correlation: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Autocorrelations `(..., order + 1)`, lag 0 the power of a sample, to coefficients and expected errors."""
        lag_zero = correlation[..., :1] * (1 + self.config.noise_floor) + QUIETEST
        coefficients, power = levinson(torch.cat([lag_zero, correlation[..., 1:]], dim=-1))
        return coefficients.flip(-1).to(dtype), power.sqrt().to(dtype)


QUIETEST = 2.0**-32 / 3
"""The least power expected of an error: about that of rounding to 16 bits."""


class FeaturePredictor(Predictor):
    """Coefficients from log-mel features, interpolated in time to the middle of each block.

    Each band's power is spread evenly over its width and interpolated between bands. This is the power spectrum, and
    its Fourier transform is the autocorrelation.
    """

    fits_past = False
    interpolation: Tensor
    offset: Tensor

    def __init__(self, config: PredictionConfig, features: LogMelConfig, sample_rate: int, pre_emphasis: float) -> None:
        super().__init__(config)
        self.hop = features.hop
        points = features.fft // 2 + 1
        bands = mel_bands(features, sample_rate).double()
        areas = bands.sum(dim=0)
        interpolation = _interpolation(bands, areas)
        window_power = float(torch.hann_window(features.window, dtype=torch.float64).square().sum())
        offsets = -torch.log(areas.where(areas > 0, 1.0) * window_power)
        angles = torch.arange(points).double() * math.pi / (points - 1)
        emphasis = 1 + pre_emphasis**2 - 2 * pre_emphasis * torch.cos(angles)
        self.register_buffer("interpolation", interpolation, persistent=False)
        self.register_buffer("offset", offsets @ interpolation + emphasis.log(), persistent=False)

    def fit(
        self, samples: Tensor, start: int, first: int, blocks: int, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        return self.solve(self.correlation(first, blocks, conditioning), samples.dtype)

    def correlation(self, first: int, blocks: int, conditioning: Conditioning) -> Tensor:
        """The features' autocorrelations of lags 0 to order: `(B, blocks, order + 1)`, float64."""
        centres = (torch.arange(first, first + blocks, dtype=torch.float64) + 0.5) * self.block - 0.5
        places = centres / self.hop
        before, last = (((2 * b + 1) * self.block - 1) // (2 * self.hop) for b in (first, first + blocks - 1))
        features = conditioning.frames(before, last + 2)[:, : len(self.interpolation)]  # tracks come after them
        frames = features.transpose(1, 2).double()
        index = places.floor().long() - before
        share = (places - places.floor()).to(frames.device)[:, None]
        between = frames[:, index] * (1 - share) + frames[:, index + 1] * share
        spectrum = torch.exp(between @ self.interpolation.double() + self.offset.double())
        return self.correlate(spectrum)


def _interpolation(bands: Tensor, areas: Tensor) -> Tensor:
    """The matrix `(bins, points)` that interpolates linearly between the bands' centres and extends the ends.

    Bands narrower than the transform resolves may be empty and are ignored, or share a centre and are averaged.
    """
    points = torch.arange(len(bands), dtype=torch.float64)
    filled = torch.nonzero(areas > 0)[:, 0]
    centres, group = torch.unique((bands * points[:, None]).sum(dim=0)[filled] / areas[filled], return_inverse=True)
    members = torch.zeros(bands.shape[1], len(centres), dtype=torch.float64)
    members[filled, group] = 1
    members = members / members.sum(dim=0)
    if len(centres) == 1:
        return members.expand(-1, len(points))
    places = points.clamp(float(centres[0]), float(centres[-1]))
    after = torch.searchsorted(centres, places).clamp(1, len(centres) - 1)
    share = (places - centres[after - 1]) / (centres[after] - centres[after - 1])
    between: Tensor = members[:, after] * share + members[:, after - 1] * (1 - share)
    return between


class PastPredictor(Predictor):
    """Coefficients from the `window` samples before each block, under a window that rises slowly and falls fast."""

    fits_past = True
    weights: Tensor

    def __init__(self, config: PredictionConfig) -> None:
        super().__init__(config)
        self.window = config.window
        self.context = config.window + config.block
        rise = torch.sin(torch.linspace(0, math.pi / 2, self.window * 15 // 16, dtype=torch.float64)) ** 2
        fall = torch.cos(torch.linspace(0, math.pi / 2, self.window - len(rise), dtype=torch.float64))
        self.register_buffer("weights", torch.cat([rise, fall]), persistent=False)

    def fit(
        self, samples: Tensor, start: int, first: int, blocks: int, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor]:
        begin = first * self.block - self.window - start
        assert begin >= 0, "the samples before the first block are not all there"
        windows = samples[:, begin:].unfold(1, self.window, self.block)[:, :blocks].double() * self.weights
        spectrum = torch.fft.rfft(windows, 2 * self.window)
        correlation = self.correlate(spectrum.abs().square())
        return self.solve(correlation / self.weights.square().sum(), samples.dtype)
