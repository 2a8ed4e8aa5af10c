"""A copy of a model by operations that ONNX has and its runtimes do well."""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan
from torch.nn import functional

from wavenet.network import (
    QUIETEST,
    AmplitudeEmbedding,
    Conditioning,
    FeaturePredictor,
    PastPredictor,
    Predictor,
    WaveNet,
    compand,
)


def exportable(model: WaveNet) -> WaveNet:
    """A copy that computes the same as `model`, up to rounding.

    Its embedding and its predictor become subclasses of what they were: they keep all that they hold, and override
    the methods that ONNX has no operation for, or a slow one.
    """
    model = copy.deepcopy(model)
    embedding, predictor = model.embedding, model.predictor
    if predictor is None and model.distribution.symbols == embedding.rows:
        with torch.no_grad():
            waveform = model.distribution.decode(torch.arange(embedding.rows)).to(embedding.weight.dtype)
            embedding.weight = nn.Parameter(embedding(compand(waveform, embedding.rows)[:, None]))
        embedding.__class__ = _ClassEmbedding
    else:
        embedding.__class__ = _AmplitudeEmbedding
    for known, stand_in in ((PastPredictor, _PastPredictor), (FeaturePredictor, _FeaturePredictor)):
        if type(predictor) is known:
            predictor.__class__ = stand_in
    return model


class _AmplitudeEmbedding(AmplitudeEmbedding):
    """Looks up two rows for each signal. The exporter would turn an embedding bag into a loop over samples."""

    def forward(self, amplitudes: Tensor) -> Tensor:
        places = (amplitudes + 1) / 2 * (self.rows - 1)
        below = places.floor().clamp(0, self.rows - 2)
        share = (places - below).to(self.weight.dtype)[..., None]
        index = below.long() + torch.arange(self.signals) * self.rows
        lower, upper = functional.embedding(index, self.weight), functional.embedding(index + 1, self.weight)
        return (lower * (1 - share) + upper * share).sum(dim=-2)


class _ClassEmbedding(AmplitudeEmbedding):
    """Looks up one row for each sample: the row of a class is what the model makes of the class, to the last bit."""

    def forward(self, amplitudes: Tensor) -> Tensor:
        nearest = ((amplitudes[..., 0] + 1) / 2 * (self.rows - 1) + 0.5).floor().long()
        return functional.embedding(nearest, self.weight)


class _Predictor(Predictor):
    """Fits by other operations. Constants are float64 tensors, because the exporter writes numbers as float32."""

    def correlate(self, power: Tensor) -> Tensor:
        """Multiply by cosines: ONNX runtimes have had an inverse transform to real numbers only since 2026."""
        last, lags = power.shape[-1] - 1, np.arange(self.order + 1)
        shares = np.where(np.arange(last + 1) % last == 0, 0.5, 1.0) / last
        cosines = np.cos(np.outer(np.arange(last + 1), lags) * (np.pi / last))
        return power @ torch.tensor(shares[:, None] * cosines)

    def solve(self, correlation: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        more, least = (torch.tensor(c, dtype=torch.float64) for c in (1 + self.config.noise_floor, QUIETEST))
        lag_zero = correlation[..., :1] * more + least
        coefficients, power = _levinson(torch.cat([lag_zero, correlation[..., 1:]], dim=-1))
        return coefficients.flip(-1).to(dtype), power.sqrt().to(dtype)


class _PastPredictor(_Predictor, PastPredictor):
    pass


class _FeaturePredictor(_Predictor, FeaturePredictor):
    pass


class AnyFrames(Conditioning):
    """Conditioning that looks frames up by index, so that the graph holds for any number of frames."""

    def frames(self, start: int, stop: int) -> Tensor:
        assert self.features is not None
        known = functional.pad(self.features, (1, 1), value=self.silence)
        index = torch.arange(start - self.first_frame, stop - self.first_frame)
        return known[:, :, index.clamp(-1, self.features.shape[2]) + 1]


def _levinson(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """`levinson` as a loop whose steps all have the same shape. Unrolled, an order of 256 would fill the graph."""
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
