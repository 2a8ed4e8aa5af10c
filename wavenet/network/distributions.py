"""Output distributions: what the network's output says about the next sample.

The network emits outputs. A distribution turns waveforms into symbols and back, turns outputs (and a linear prediction,
if the model has one) into parameters, and owns the likelihood and sampling. Network, training and engines hold a
distribution and never ask which one.

Symbols are whole numbers, one for each value a sample can take. So every likelihood is a probability, and bits per
sample compare between distributions of the same resolution.
"""

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field, GetPydanticSchema, TypeAdapter, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator
from torch import Tensor
from torch.nn import functional

from wavenet.network.embedding import smooth_rows
from wavenet.network.quantize import check_classes, decode_mu_law, encode_mu_law, silence_class
from wavenet.network.sampling import SamplingOptions, choose

_STRICT = {"extra": "forbid", "strict": True}
_COMPONENTS = 3
_OFFSET_PRIOR = 2.0
"""Scale, in classes, of the logistic around the predicted class with which a fresh categorical model starts."""

_FARTHEST, _WIDEST = 2.0, 0.0
"""Bounds of a component's mean and log-scale. Beyond them it would lie outside [-1, 1], or be flat on it."""

_DEEPEST = 1e7
"""The distance, in deviations, up to which a Gaussian's tail is computed: float64 can still represent it there."""

_FAR = 2.0**20
"""Where the outermost steps end. Infinity would give the right probability but no finite gradient."""


@dataclass(frozen=True)
class Prediction:
    """The linear prediction of each sample, which the network corrects: `mean` and `scale`, each `(B, T)`.

    `scale` is the standard deviation expected of the error. Both are in waveform units.
    """

    mean: Tensor
    scale: Tensor


class Distribution(Protocol):
    """What the network, training, scoring and engines ask of a distribution.

    One of your own is a frozen dataclass with these methods: pass it as `WaveNetConfig.distribution`, and its class to
    `WaveNet.from_pretrained(path, distributions=[...])`.
    """

    @property
    def kind(self) -> str:
        """Its name in recipes and model files: a field `kind: Literal["its_name"] = "its_name"`."""

    @property
    def silence(self) -> int:
        """The symbol of a sample of value 0.0."""

    @property
    def symbols(self) -> int:
        """How many there are; they count from 0."""

    @property
    def input_rows(self) -> int:
        """Number of rows of the input embedding table."""

    def outputs(self, predicted: bool) -> int:
        """How many numbers the network gives for each sample, with or without a linear prediction."""

    def initial_output(self, channels: int, predicted: bool) -> tuple[Tensor, Tensor]:
        """Weight `(outputs, channels)` and bias `(outputs,)` of a fresh network's last layer."""

    def encode(self, waveform: Tensor) -> Tensor:
        """A waveform in [-1, 1] to symbols of the same shape, int64."""

    def decode(self, symbols: Tensor) -> Tensor:
        """Symbols to a float32 waveform in [-1, 1] of the same shape."""

    def place(self, outputs: Tensor, prediction: Prediction | None) -> Tensor:
        """The network's outputs `(B, outputs, T)`, relative to a prediction if there is one -> `(B, parameters, T)`."""

    def log_prob(self, parameters: Tensor, symbols: Tensor) -> Tensor:
        """Log-probability in nats: parameters `(B, parameters, T)`, symbols `(B, T)` -> `(B, T)`."""

    def class_log_prob(self, parameters: Tensor, symbols: Tensor, classes: int) -> Tensor:
        """Log-probability of the µ-law class, of `classes`, that holds the symbol: so that resolutions compare."""

    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable symbol, or one close to it: `(B, parameters, T)` -> `(B, T)`."""

    def sample(self, parameters: Tensor, uniforms: Tensor, options: SamplingOptions) -> Tensor:
        """One symbol per row from one uniform each: `(B, parameters)`, `(B,)` in [0, 1) -> `(B,)`."""


@dataclass(frozen=True)
class Categorical:
    """A softmax over µ-law classes (WaveNet paper, section 2.2). Its symbols are class indices.

    With a linear prediction the outputs belong to distances from the predicted class, -(classes - 1) to
    classes - 1, and each sample takes the `classes` of them that are in range.
    """

    __pydantic_config__ = _STRICT

    classes: int = 256
    kind: Literal["categorical"] = "categorical"

    def __post_init__(self) -> None:
        check_classes(self.classes)

    @property
    def silence(self) -> int:
        return silence_class(self.classes)

    @property
    def symbols(self) -> int:
        return self.classes

    @property
    def input_rows(self) -> int:
        return self.classes

    def outputs(self, predicted: bool) -> int:
        return 2 * self.classes - 1 if predicted else self.classes

    def initial_output(self, channels: int, predicted: bool) -> tuple[Tensor, Tensor]:
        """Rows that vary smoothly from class to class; beside a prediction, a peak around it to begin with."""
        outputs = self.outputs(predicted)
        distances = (torch.arange(outputs) - outputs // 2) / _OFFSET_PRIOR
        peak = functional.logsigmoid(distances) + functional.logsigmoid(-distances)
        return smooth_rows(outputs, channels) / 10, peak if predicted else torch.zeros(outputs)

    def encode(self, waveform: Tensor) -> Tensor:
        return encode_mu_law(waveform, self.classes)

    def decode(self, symbols: Tensor) -> Tensor:
        return decode_mu_law(symbols, self.classes)

    def place(self, outputs: Tensor, prediction: Prediction | None) -> Tensor:
        if prediction is None:
            return outputs
        predicted = self.encode(prediction.mean)[:, None]
        classes = torch.arange(self.classes, device=outputs.device)[:, None]
        return outputs.gather(1, classes - predicted + self.classes - 1)

    def log_prob(self, parameters: Tensor, symbols: Tensor) -> Tensor:
        return -functional.cross_entropy(parameters, symbols, reduction="none")

    def class_log_prob(self, parameters: Tensor, symbols: Tensor, classes: int) -> Tensor:
        coarse = encode_mu_law(self.decode(torch.arange(self.classes, device=symbols.device)), classes)
        same = coarse[None, :, None] == coarse[symbols][:, None]
        return torch.log_softmax(parameters, dim=1).masked_fill(~same, -torch.inf).logsumexp(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(dim=1)

    def sample(self, parameters: Tensor, uniforms: Tensor, options: SamplingOptions) -> Tensor:
        return choose(parameters, uniforms, options)[0]


@dataclass(frozen=True)
class Mixture(ABC):
    """What mixtures share: `levels` equal steps over [-1, 1), and `components` of weight, mean and scale.

    A custom mixture is a subclass, again a frozen dataclass, with a field `kind: Literal["its_name"] =
    "its_name"` and the standard component (location 0, scale 1) as `log_mass` and `quantile`:
    recipes/research/distribution.py has one.

    Parameters are `(B, 3 * components, T)`: log-weights, means and log-scales in waveform units. A symbol's
    probability is the integral over its step; the outermost two steps also take what lies beyond. With a linear
    prediction, the network's means and scales are in units of the expected error, around the predicted sample.
    """

    __pydantic_config__ = _STRICT

    components: int = _COMPONENTS
    levels: int = 65536

    def __post_init__(self) -> None:
        if not 1 <= self.components <= 1024:
            raise ValueError(f"components is {self.components}; expected 1 to 1024")
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
        """Equal weights, no offset, and scales an octave apart: a peak with tails, whatever the input."""
        spread = torch.arange(self.components) - (self.components - 1) / 2
        scales = spread * math.log(2) + (-0.5 if predicted else -4.0)
        return torch.zeros(3 * self.components, channels), torch.cat([torch.zeros(2 * self.components), scales])

    def encode(self, waveform: Tensor) -> Tensor:
        half = self.levels // 2
        return ((waveform * half).round() + half).clamp(0, self.levels - 1).long()

    def decode(self, symbols: Tensor) -> Tensor:
        half = self.levels // 2
        return (symbols - half).to(torch.float32) / half

    def place(self, outputs: Tensor, prediction: Prediction | None) -> Tensor:
        weights, means, scales = outputs.chunk(3, dim=1)
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
        coarse = encode_mu_law(self.decode(every), classes)
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


KINDS = (Categorical, LogisticMixture, GaussianMixture)
"""The distributions that recipes and model files can name by their `kind`."""

_Known = Annotated[Categorical | LogisticMixture | GaussianMixture, Field(discriminator="kind")]


def _read_own(value: Any, known: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Read a distribution of a class that the validation's context lists; the package's own are left to `known`."""
    own = {kind.kind: kind for kind in (info.context or {}).get("distributions", ())}
    if isinstance(value, dict) and value.get("kind") in own:
        return TypeAdapter(own[value["kind"]]).validate_json(json.dumps(value))
    return known(value)


AnyDistribution = Annotated[
    Distribution,
    GetPydanticSchema(lambda _, schema_of: schema_of(_Known)),
    WrapValidator(_read_own),
]
"""A distribution as recipes and model files hold it: the package's by their `kind`, others as the reader is told."""
