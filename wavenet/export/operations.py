"""Stand-ins for those operations of a model that ONNX lacks, or has only at a price."""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan
from torch.nn import functional

from wavenet.network import AmplitudeEmbedding, Conditioning, WaveNet, compand

__all__ = ["AnyFrames", "exportable"]


def exportable(model: WaveNet) -> WaveNet:
    """A copy that computes the same, up to rounding, by operations that ONNX has."""
    model = copy.deepcopy(model)
    of_classes = model.predictor is None and model.distribution.symbols == model.embedding.rows
    model.embedding = _Rows(model) if of_classes else _Gathered(model.embedding)
    if model.predictor is not None:
        model.predictor.correlate, model.predictor.recursion = _autocorrelation, _levinson
    return model


class _Gathered(AmplitudeEmbedding):
    """Two look-ups in place of a bag, of which ONNX makes a loop over samples."""

    def __init__(self, embedding: AmplitudeEmbedding) -> None:
        with torch.device("meta"):
            super().__init__(embedding.signals, embedding.rows, embedding.weight.shape[1])
        self.weight = embedding.weight

    def forward(self, amplitudes: Tensor) -> Tensor:
        places = (amplitudes + 1) / 2 * (self.rows - 1)
        below = places.floor().clamp(0, self.rows - 2)
        share = (places - below).to(self.weight.dtype)[..., None]
        index = below.long() + torch.arange(self.signals) * self.rows
        lower, upper = functional.embedding(index, self.weight), functional.embedding(index + 1, self.weight)
        return (lower * (1 - share) + upper * share).sum(dim=-2)


class _Rows(_Gathered):
    """One look-up, where every symbol has a row: what the model makes of each, to the last bit."""

    def __init__(self, model: WaveNet) -> None:
        super().__init__(model.embedding)
        with torch.no_grad():
            waveform = model.distribution.decode(torch.arange(self.rows)).to(self.weight.dtype)
            self.weight = nn.Parameter(model.embedding(compand(waveform, self.rows)[:, None]))

    def forward(self, amplitudes: Tensor) -> Tensor:
        nearest = ((amplitudes[..., 0] + 1) / 2 * (self.rows - 1) + 0.5).floor().long()
        return functional.embedding(nearest, self.weight)


class AnyFrames(Conditioning):
    """Looks frames up, so that nothing of the graph depends on how many there are."""

    def frames(self, start: int, stop: int) -> Tensor:
        assert self.features is not None
        known = functional.pad(self.features, (1, 1), value=self.silence)
        index = torch.arange(start - self.first_frame, stop - self.first_frame)
        return known[:, :, index.clamp(-1, self.features.shape[2]) + 1]


def _autocorrelation(power: Tensor, order: int) -> Tensor:
    """`autocorrelation` as a product: runtimes learnt to transform back to real numbers in 2026 only."""
    last = power.shape[-1] - 1
    shares = np.where(np.arange(last + 1) % last == 0, 0.5, 1.0) / last
    cosines = np.cos(np.outer(np.arange(last + 1), np.arange(order + 1)) * (np.pi / last))
    return power @ torch.tensor(shares[:, None] * cosines)  # one constant: plain numbers would become float32


def _levinson(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """`levinson` as a loop of steps that all have the same shape: unrolled, an order of 256 would fill the graph."""
    order = correlation.shape[-1] - 1
    lags = (torch.arange(order + 1) - torch.arange(1, order + 1)[:, None]).abs()
    first = (torch.arange(order + 1) == 0).to(correlation.dtype).expand(correlation.shape)

    def lengthen(known: tuple[Tensor, ...], row: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        forwards, backwards, error = known
        backwards = functional.pad(backwards[..., :-1], (1, 0))
        reflection = (forwards * row).sum(dim=-1, keepdim=True) / error
        after = forwards - reflection * backwards, backwards - reflection * forwards
        return (*after, error - error * reflection * reflection), reflection

    begin = (first.clone(), first.clone(), correlation[..., :1].clone(memory_format=torch.contiguous_format))
    (forwards, _, error), _ = scan(lengthen, begin, correlation[..., lags].movedim(-2, 0))
    return -forwards[..., 1:], error[..., 0]
