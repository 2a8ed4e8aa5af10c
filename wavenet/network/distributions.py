"""Output distributions: they turn the network's output into the probability of the next sample.

The network emits outputs. A distribution turns waveforms into symbols and back, turns outputs (and a linear prediction,
if the model has one) into parameters, and owns the likelihood and sampling. Network, training and engines hold a
distribution and never ask which one.

Symbols are whole numbers, one for each value a sample can take. So every likelihood is a probability, and bits per
sample compare between distributions of the same resolution.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from wavenet.network.embedding import smooth_rows
from wavenet.network.quantize import check_classes, decode_mu_law, quantize, silence_class
from wavenet.network.sampling import SamplingOptions, choose
from wavenet.network.settings import STRICT, plain_numbers

_OFFSET_PRIOR = 2.0
"""Scale, in classes, of the logistic around the predicted class with which a fresh categorical model starts."""


@dataclass(frozen=True)
class Prediction:
    """The linear prediction of each sample, which the network corrects: `mean` and `scale`, each `(B, T)`.

    `scale` is the standard deviation expected of the error. Both are in waveform units.
    """

    mean: Tensor
    scale: Tensor


class Distribution(Protocol):
    """The methods that the network, training, scoring and engines call.

    A custom distribution is a frozen dataclass with these methods: pass it as `WaveNetConfig.distribution`, and its
    class to `WaveNet.from_pretrained(path, distributions=[...])`.
    """

    @property
    def kind(self) -> str:
        """Its name in recipes and model files: a field `kind: Literal["its_name"] = "its_name"`."""

    @property
    def silence(self) -> int:
        """The symbol of a sample of value 0.0."""

    @property
    def symbols(self) -> int:
        """The number of symbols, which count from 0."""

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

    __pydantic_config__ = STRICT

    classes: int = 256
    kind: Literal["categorical"] = "categorical"

    def __post_init__(self) -> None:
        plain_numbers(self)
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
        return quantize(waveform, self.classes)

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
        coarse = quantize(self.decode(torch.arange(self.classes, device=symbols.device)), classes)
        same = coarse[None, :, None] == coarse[symbols][:, None]
        return torch.log_softmax(parameters, dim=1).masked_fill(~same, -torch.inf).logsumexp(dim=1)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(dim=1)

    def sample(self, parameters: Tensor, uniforms: Tensor, options: SamplingOptions) -> Tensor:
        return choose(parameters, uniforms, options)[0]


def check_symbols(symbols: Tensor) -> None:
    """Raise `ValueError` unless these are symbols `(B, T)`, which `WaveNet.encode` makes of a waveform `(B, T)`."""
    if not isinstance(symbols, Tensor):
        raise ValueError(f"symbols are a {type(symbols).__name__}; expected a tensor, as model.encode gives")
    if symbols.dim() != 2 or symbols.dtype != torch.int64:
        raise ValueError(
            f"symbols are {symbols.dtype} of shape {tuple(symbols.shape)}; expected int64 (B, T), "
            "as model.encode(waveform) gives for a waveform (B, T)"
        )


def check_range(symbols: Tensor, count: int) -> None:
    """Raise `ValueError` unless all symbols are from 0 to below `count`."""
    least, most = (int(value) for value in symbols.aminmax()) if symbols.numel() else (0, 0)
    if least < 0 or most >= count:
        raise ValueError(f"symbols are from {least} to {most}; the model has {count}, from 0")
