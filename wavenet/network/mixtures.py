"""Mixtures over equal steps of amplitude: discretised logistics and Gaussians, and the base of a custom one."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from wavenet.network.distributions import Prediction
from wavenet.network.quantize import check_classes, full_precision, quantize
from wavenet.network.sampling import SamplingOptions, choose
from wavenet.network.settings import STRICT, check_whole

_FARTHEST, _WIDEST = 2.0, 0.0
"""Bounds of a component's mean and log-scale. Beyond them it would lie outside [-1, 1], or be flat on it."""

_DEEPEST = 1e7
"""The distance, in deviations, up to which a Gaussian's tail is computed: float64 can still represent it there."""

_FAR = 2.0**20
"""The outermost steps end here. Infinity would give the right probability but no finite gradient."""

_OUTLIER_LOG_SCALE, _OUTLIER_WEIGHT = 6.0, 1e-5
"""Log-scale, in expected errors, and weight of a fresh mixture's outlier component.

With a hundredth in place of 1e-5, a vocoder still drew eight clicks a second from it after 200 steps.
"""


@dataclass(frozen=True)
class Mixture(ABC):
    """The base of mixtures: `levels` equal steps over [-1, 1), and `components` of weight, mean and scale.

    A custom mixture is a subclass, again a frozen dataclass, with a field `kind: Literal["its_name"] =
    "its_name"` and the standard component (location 0, scale 1) as `log_mass` and `quantile`:
    recipes/research/distribution.py has one.

    Parameters are `(B, 3 * components, T)`: log-weights, means and log-scales in waveform units. A symbol's
    probability is the integral over its step; the outermost two steps also take what lies beyond. With a linear
    prediction, the network's means and scales are in units of the expected error, around the predicted sample.
    """

    __pydantic_config__ = STRICT

    components: int = 3
    levels: int = 65536

    def __post_init__(self) -> None:
        check_whole(self, components=(1, 1024))
        check_classes(self.levels)

    @property
    def _narrowest(self) -> float:
        """The least log-scale. A narrower component would lie within one step and have no useful gradient."""
        return -math.log(self.levels * 16)

    @property
    def silence(self) -> int:
        return self.levels // 2

    @property
    def symbols(self) -> int:
        return self.levels

    @property
    def input_rows(self) -> int:
        return 256

    def outputs(self, predicted: bool) -> int:
        return 3 * self.components

    def initial_output(self, channels: int, predicted: bool) -> tuple[Tensor, Tensor]:
        """Equal weights, no offset, and scales an octave apart: a peak with tails for every input.

        Beside a prediction the last component is rare and wide; a single one is wide. A predictor from the past expects
        next to no error after silence, and the first samples of a sound, hundreds of expected errors away, would cost
        thousands of bits.
        """
        usual = self.components - predicted
        scales = (torch.arange(usual) - (usual - 1) / 2) * math.log(2) + (-0.5 if predicted else -4.0)
        weights = torch.zeros(self.components)
        if predicted:
            scales = torch.cat([scales, torch.tensor([_OUTLIER_LOG_SCALE])])
            weights[-1] = math.log(_OUTLIER_WEIGHT) if usual else 0.0
        bias = torch.cat([weights, torch.zeros(self.components), scales])
        return torch.zeros(3 * self.components, channels), bias

    def encode(self, waveform: Tensor) -> Tensor:
        half = self.levels // 2
        return ((waveform * half).round() + half).clamp(0, self.levels - 1).long()

    def decode(self, symbols: Tensor) -> Tensor:
        half = self.levels // 2
        return (symbols - half).to(torch.float32) / half

    def place(self, outputs: Tensor, prediction: Prediction | None) -> Tensor:
        weights, means, scales = full_precision(outputs).chunk(3, dim=1)
        if prediction is not None:
            means = prediction.mean[:, None] + prediction.scale[:, None] * means
            scales = scales + prediction.scale[:, None].log()
        means, scales = means.clamp(-_FARTHEST, _FARTHEST), scales.clamp(self._narrowest, _WIDEST)
        return torch.cat([weights, means, scales], dim=1)

    def log_prob(self, parameters: Tensor, symbols: Tensor) -> Tensor:
        values, half_step = self.decode(symbols).to(parameters), 1 / self.levels
        lower = torch.where(symbols == 0, -_FAR, values - half_step)
        upper = torch.where(symbols == self.levels - 1, _FAR, values + half_step)
        return self._log_integral(parameters, lower, upper)

    def class_log_prob(self, parameters: Tensor, symbols: Tensor, classes: int) -> Tensor:
        every = torch.arange(self.levels, device=symbols.device)
        coarse = quantize(self.decode(every), classes)
        lowest = torch.searchsorted(coarse, torch.arange(classes + 1, device=symbols.device))  # symbol of each class
        edges = self.decode(lowest).to(parameters) - 1 / self.levels
        edges[0], edges[-1] = -_FAR, _FAR
        return self._log_integral(parameters, edges[coarse[symbols]], edges[coarse[symbols] + 1])

    def _log_integral(self, parameters: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Log-probability of a sample between two values, `(B, T)` each."""
        weights, means, scales = parameters.chunk(3, dim=1)
        inverse = torch.exp(-scales)
        masses = self.log_mass((lower[:, None] - means) * inverse, (upper[:, None] - means) * inverse)
        return torch.logsumexp(torch.log_softmax(weights, dim=1) + masses, dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        """The mean of the heaviest component: a likely symbol, if not always the likeliest."""
        weights, means, _ = parameters.chunk(3, dim=1)
        heaviest = weights.argmax(dim=1, keepdim=True)
        return self.encode(means.gather(1, heaviest)[:, 0])

    def sample(self, parameters: Tensor, uniforms: Tensor, options: SamplingOptions) -> Tensor:
        """Temperature, top-k and top-p choose among the components; temperature also narrows the one chosen."""
        weights, means, scales = parameters.double().chunk(3, dim=1)
        component, remainder = choose(weights, uniforms, options)
        mean, scale = (values.gather(1, component[:, None])[:, 0] for values in (means, scales))
        deviation = self.quantile(remainder.clamp(2.0**-20, 1 - 2.0**-20))
        return self.encode(mean + options.temperature * scale.exp() * deviation)

    @abstractmethod
    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Log of the standard component's integral from `lower` to `upper`, which is above it; any shape.

        The bounds count scales from the component's mean, in the dtype of the parameters (float32 in training). With
        65,536 levels they reach three million to either side, and the outermost 2^40: result and gradient must be
        finite there too. Write the tails so that a difference loses no digits, as `LogisticMixture` does.
        """

    @abstractmethod
    def quantile(self, share: Tensor) -> Tensor:
        """The standard component's inverse cumulative distribution, any shape; `share` is float64, within (0, 1)."""


@dataclass(frozen=True)
class LogisticMixture(Mixture):
    """Discretised mixture of logistics (Salimans et al. 2017, equation 2; Parallel WaveNet, section 2.1).

    The integral is computed as `sigmoid(u) sigmoid(-l) (1 - exp(l - u))`, which loses no digits anywhere.

    >>> mixture = LogisticMixture(components=1, levels=4)
    >>> parameters = torch.tensor([0.0, 0.0, -1.0])[None, :, None]  # log-weight, mean and log-scale, (1, 3, 1)
    >>> probabilities = mixture.log_prob(parameters.expand(1, 3, 4), torch.arange(4)[None]).exp()
    >>> [round(probability, 3) for probability in probabilities[0].tolist()]  # of -1, -0.5, 0 and 0.5: the sum is one
    [0.115, 0.221, 0.327, 0.336]
    """

    kind: Literal["logistic_mixture"] = "logistic_mixture"

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        inside = functional.logsigmoid(upper) + functional.logsigmoid(-lower)
        return inside + torch.log(-torch.expm1(lower - upper))

    def quantile(self, share: Tensor) -> Tensor:
        quantile: Tensor = torch.logit(share)
        return quantile


@dataclass(frozen=True)
class GaussianMixture(Mixture):
    """Discretised mixture of Gaussians (ClariNet, section 3.1, with one). Integrals are computed in float64."""

    kind: Literal["gaussian_mixture"] = "gaussian_mixture"

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        lower, upper = lower.clamp(-_DEEPEST, _DEEPEST), upper.clamp(-_DEEPEST, _DEEPEST)
        right = lower + upper > 0  # the far side is mirrored, where the integral is not 1 - 1
        near, far = torch.where(right, -lower, upper).double(), torch.where(right, -upper, lower).double()
        log_near = torch.special.log_ndtr(near)
        mass: Tensor = log_near + torch.log(-torch.expm1(torch.special.log_ndtr(far) - log_near))
        return mass.to(lower)

    def quantile(self, share: Tensor) -> Tensor:
        quantile: Tensor = torch.special.ndtri(share)
        return quantile
