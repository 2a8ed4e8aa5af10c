"""A model as bytes, for the engine in a page: `model_reader.h` reads what is written here, in the same order.

The engine's weights are rounded to 8 bits, as the native engine rounds them with `weights="int8"`, so both compute the
same. The upsampler is linear, so it is written as its response to an impulse in each frame.
"""

import itertools
import math
import struct
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wavenet.engines import foreign_part
from wavenet.network import (
    QUIETEST,
    Categorical,
    Conditioner,
    FeaturePredictor,
    GaussianMixture,
    InterpolatingUpsampler,
    LogisticMixture,
    LogMel,
    PastPredictor,
    Predictor,
    ResidualBlock,
    TransposedUpsampler,
    WaveNet,
)

_KINDS = ("categorical", "logistic_mixture", "gaussian_mixture")
_MOST_CHOICES = 1000


def packing_refusal(model: WaveNet) -> str | None:
    """The reason why a page cannot run a model; `None` if it can."""
    foreign = foreign_part(model)
    if foreign is not None:
        return foreign
    if model.conditioner is not None and type(model.conditioner) is not Conditioner:
        return f"it supports only the package's own conditioner, not {type(model.conditioner).__name__}"
    if model.predictor is not None and type(model.predictor) not in (PastPredictor, FeaturePredictor):
        return f"it supports only the package's own linear prediction, not {type(model.predictor).__name__}"
    if type(model.distribution) not in (Categorical, LogisticMixture, GaussianMixture):
        return f"it does not support the distribution {model.distribution.kind!r}"
    if model.config.speaker_channels and not model.config.known_labels:
        return "the model takes speakers as vectors, and a page offers only names"
    if model.config.tracks:
        return f"the model takes the tracks {', '.join(model.config.tracks)}, which a page does not"
    weight = model.output.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"it takes models in float32 on the CPU, and this one is in {weight.dtype} on {weight.device}"
    choices = math.prod(map(len, model.config.known_labels.values()))
    if choices > _MOST_CHOICES:
        return f"its labels can be combined in {choices} ways, and a page has room for {_MOST_CHOICES}"
    return None


@torch.no_grad()
def pack_model(model: WaveNet) -> bytes:
    """The bytes of a model for which `packing_refusal` gives `None`."""
    writer, config, silent = _Writer(), model.config, _silent_states(model)
    writer.wholes(config.sample_rate, model.distribution.silence, silent[0].time)
    writer.numbers(config.pre_emphasis)
    _write_network(writer, model)
    own = model.conditioner if isinstance(model.conditioner, Conditioner) else None
    writer.wholes(int(model.log_mel is not None))
    if model.log_mel is not None:
        _write_log_mel(writer, model.log_mel)
    writer.wholes(int(own is not None and own.local is not None))
    if own is not None and own.local is not None:
        _write_local(writer, model, own)
    _write_acoustic(writer, model)
    if config.features is not None:
        writer.numbers(config.features.silence)
    if isinstance(model.predictor, FeaturePredictor):
        writer.sparse(model.predictor.interpolation.T)
        writer.list(model.predictor.offset, "<f8")
    writer.wholes(len(silent))
    for state in silent:
        writer.list(state.rows, "<f4")
        writer.list(state.biases, "<f4")
        writer.list(state.vector, "<f4")
    return bytes(writer.data)


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def wholes(self, *values: int) -> None:
        self.data += struct.pack(f"<{len(values)}i", *values)

    def numbers(self, *values: float) -> None:
        self.data += struct.pack(f"<{len(values)}d", *values)

    def list(self, values: Tensor | Sequence[float] | None, kind: str) -> None:
        array = np.asarray([] if values is None else values).ravel().astype(kind)
        self.wholes(len(array))
        self.data += array.tobytes()

    def rounded(self, matrix: Tensor) -> None:
        """The rows as bytes, each with its peak, as `int8.h` rounds them."""
        peaks = matrix.abs().amax(dim=1)
        peaks = peaks.where(peaks >= 1e-30, 0.0)
        full = torch.full_like(peaks, 127)  # torch would multiply by a reciprocal for `127 / peaks`, and round twice
        factors = torch.where(peaks > 0, full / peaks, 0.0)
        self.list(peaks, "<f4")
        self.list((matrix * factors[:, None]).round(), "<i1")

    def projection(self, layer: nn.Linear) -> None:
        self.rounded(layer.weight)
        self.list(layer.bias, "<f4")

    def dense(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.wholes(weight.shape[1])
        self.list(weight, "<f4")
        self.list(torch.zeros(len(weight)) if bias is None else bias, "<f4")

    def sparse(self, matrix: Tensor) -> None:
        """The entries of a matrix that are not zero: where each row begins, their columns, and they."""
        kept = matrix != 0
        begins = torch.cat([torch.zeros(1), kept.sum(dim=1).cumsum(dim=0)])
        self.list(begins, "<i4")
        self.list(kept.nonzero()[:, 1], "<i4")
        self.list(matrix[kept], "<f8")


def _write_network(writer: _Writer, model: WaveNet) -> None:
    config, distribution = model.config, model.distribution
    writer.wholes(len(model.blocks), config.kernel_size, config.residual_channels, config.gate_channels)
    writer.wholes(config.skip_channels, config.head_channels, model.output.out_features, len(model.embedding.weight))
    for block in model.blocks:
        assert isinstance(block, ResidualBlock)
        writer.wholes(block.conv.dilation)
        for tap in torch.split(block.conv.weight, config.residual_channels, dim=1):
            writer.rounded(tap)
        writer.list(block.conv.bias, "<f4")
        if block.residual is not None:
            writer.rounded(block.residual.weight)
    for layer in (model.skip, model.head, model.output):
        writer.projection(layer)
    writer.list(model.embedding.weight, "<f4")
    components = getattr(distribution, "components", 0)
    writer.wholes(_KINDS.index(distribution.kind), components, distribution.symbols)
    writer.list(None if components else distribution.decode(torch.arange(distribution.symbols)), "<f4")
    _write_prediction(writer, model.predictor)


def _write_prediction(writer: _Writer, predictor: Predictor | None) -> None:
    writer.wholes(0 if predictor is None else predictor.order)
    if predictor is not None:
        writer.wholes(predictor.block)
        writer.numbers(predictor.config.noise_floor, QUIETEST)
        writer.list(predictor.weights if isinstance(predictor, PastPredictor) else None, "<f8")


def _write_log_mel(writer: _Writer, log_mel: LogMel) -> None:
    config = log_mel.config
    around = (config.fft - config.window) // 2
    writer.wholes(config.hop, config.lead, int(config.spectrum == "magnitude"))
    writer.numbers(config.floor, config.silence / math.log(config.floor))
    writer.list(nn.functional.pad(log_mel.window, (around, config.fft - config.window - around)), "<f4")
    writer.sparse(log_mel.bands)


def _write_local(writer: _Writer, model: WaveNet, own: Conditioner) -> None:
    first, second = (layer for layer in own.context if isinstance(layer, nn.Conv1d))
    assert own.local is not None
    writer.wholes(model.config.conditioning.context_frames)
    writer.numbers(own.spread)
    writer.wholes(int(own.by_frame))
    writer.dense(first.weight.transpose(1, 2).flatten(1), first.bias)
    writer.dense(second.weight[:, :, 0], second.bias)
    writer.dense(own.local.weight)
    writer.wholes(own.alignment.hop)
    if own.by_frame:
        writer.list(own.shares(), "<f4")
        writer.list(None, "<f4")
        return
    shares, offsets = _upsampling(own.upsampler, second.out_channels)
    writer.list(shares, "<f4")
    writer.list(offsets, "<f4")


def _upsampling(upsampler: nn.Module, channels: int) -> tuple[Tensor, Tensor]:
    """What each point from a frame to the next is made of: shares `(hop, width, channels)`, offsets `(hop, channels)`.

    The shares are those of `width` frames: as many before the frame as after the next one, which is the margin.
    """
    assert isinstance(upsampler, TransposedUpsampler | InterpolatingUpsampler)
    width = 2 + 2 * upsampler.margin
    impulses = torch.eye(width)[:, None].expand(width, channels, width)
    offset: Tensor = upsampler(torch.zeros(1, channels, width))[:, :, :-1]
    shares: Tensor = upsampler(impulses)[:, :, :-1] - offset
    return shares.permute(2, 0, 1), offset[0].T


def _write_acoustic(writer: _Writer, model: WaveNet) -> None:
    acoustic = model.acoustic
    writer.wholes(int(acoustic is not None))
    if acoustic is None:
        return
    writer.numbers(acoustic.sample_rate / acoustic.hop, acoustic.spread)
    writer.wholes(acoustic.name.embedding_dim, acoustic.bumps)
    for table in (acoustic.before, acoustic.name, acoustic.after):
        writer.list(table.weight, "<f4")
    layers = [layer for layer in acoustic.layers if isinstance(layer, nn.Linear)]
    writer.wholes(len(layers))
    for layer in layers:
        writer.dense(layer.weight, layer.bias)


class _Silent:
    """What a choice of labels gives: the state after endless silence, the biases, and the labels' vector."""

    def __init__(self, model: WaveNet, labels: dict[str, str]) -> None:
        features = model.config.features
        frames = None if features is None else torch.full((features.bins, 1), features.silence)
        conditioning = model.condition(labels=labels or None, features=frames)
        state = model.silent_state(1, conditioning)
        own = model.conditioner if isinstance(model.conditioner, Conditioner) else None
        self.time = state.time
        self.rows = torch.cat([queue[0, 0] for queue in state.queues])
        self.biases = None if own is None else own.speaker_biases(conditioning)
        self.vector = model.vector(conditioning)


def _silent_states(model: WaveNet) -> list[_Silent]:
    """One for each combination of labels; those of the last kind change fastest."""
    known = model.config.known_labels
    return [_Silent(model, dict(zip(known, names, strict=True))) for names in itertools.product(*known.values())]
