"""The int8 arithmetic of the native engine, in torch: what int8.h says, over whole sequences of known symbols.

Everything is float32 or exact, in the engine's order, so parameters must be equal to the bit. By induction the engine
then draws what this would draw one sample after another.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.engines import NativeEngine
from wavenet.network import QUIETEST, Categorical, Distribution, PastPredictor, WaveNet


@dataclass(frozen=True)
class Rounded:
    """Vectors along the last axis: whole numbers in -127 to 127, as float64, and peaks `(..., 1)` in float32."""

    numbers: Tensor
    peaks: Tensor


def rounded(vectors: Tensor) -> Rounded:
    """Round float32 vectors to bytes, each relative to its own peak."""
    peaks = vectors.abs().amax(dim=-1, keepdim=True)
    peaks = torch.where(peaks < 1e-30, 0.0, torch.where(peaks < 1e30, peaks, math.nan))
    factors = torch.full_like(peaks, 127) / peaks  # `127 / peaks` would round twice: torch multiplies by a reciprocal
    return Rounded(torch.where(peaks > 0, (vectors * factors).round(), 0.0).double(), peaks)


def rounded_gates(gates: Tensor) -> Rounded:
    """Gate, and round relative to 1. Shape: `(..., gate)` -> `(..., gate / 2)`."""
    filters, switches = gates.chunk(2, dim=-1)
    a = exp2((filters * -2.88539008).clamp(-50, 50))
    b = exp2((switches * -1.44269504).clamp(-50, 50))
    gated = (1 - a) / ((1 + a) * (1 + b))
    return Rounded((gated * 127).round().double(), torch.ones_like(gated[..., :1]))


def exp2(x: Tensor) -> Tensor:
    """2^x by a polynomial around the nearest whole number."""
    whole = x.round()
    rest = x - whole
    power = rest * 9.58282966e-3 + 5.59064001e-2
    for coefficient in (2.40240991e-1, 6.93124175e-1, 1.0):
        power = power * rest + coefficient
    return torch.ldexp(power, whole.int())


def add_product(y: Tensor, weight: Rounded, x: Rounded) -> Tensor:
    """y + W x. Float64 holds the sums of integers exactly; they are rounded to float32 once."""
    return y + (x.numbers @ weight.numbers.T).float() * ((weight.peaks[:, 0] / 127**2) * x.peaks)


def int8_parameters(engine: NativeEngine, symbols: Tensor) -> Tensor:
    """The parameters of the distribution of each of the next symbols `(B, T)`: `(B, parameters, T)`.

    From the engine come its state, which stays, and what it takes from torch: the conditioning's biases.
    """
    model, state, steps = engine.model, engine.state(), symbols.shape[1]
    inputs = model.distribution.decode(torch.cat([state.latest[:, None], symbols[:, :-1]], dim=1)).float()
    predicted = _predictions(engine, torch.cat([state.network.samples, inputs], dim=1), steps)
    x = _embed(model, inputs, predicted)
    skip_weight, sums, half = rounded(model.skip.weight), 0, model.config.gate_channels // 2
    blocks = zip(model.blocks, state.network.queues, _gate_biases(engine, steps), strict=True)
    for layer, (block, queue, gates) in enumerate(blocks):
        entries = rounded(torch.cat([queue, x], dim=1))
        for tap, weight in enumerate(block.conv.weight.chunk(model.config.kernel_size, dim=1)):
            span = slice(tap * block.conv.dilation, tap * block.conv.dilation + steps)
            gates = add_product(gates, rounded(weight), Rounded(entries.numbers[:, span], entries.peaks[:, span]))
        gated = rounded_gates(gates)
        sums = sums + gated.numbers @ skip_weight.numbers[:, layer * half : (layer + 1) * half].T
        if block.residual is not None:
            x = add_product(x, rounded(block.residual.weight), gated)
    skip = model.skip.bias + sums.float() * (skip_weight.peaks[:, 0] / 127**2)
    head = add_product(model.head.bias, rounded(model.head.weight), rounded(skip.relu()))
    outputs = add_product(model.output.bias, rounded(model.output.weight), rounded(head.relu()))
    return _place(model.distribution, outputs, predicted).transpose(1, 2)


def _gate_biases(engine: NativeEngine, steps: int) -> list[Tensor]:
    """What each layer's gates begin with: its bias, those of the speaker or the samples, and those between frames."""
    model, layers = engine.model, len(engine.model.blocks)
    gates = torch.stack([block.conv.bias for block in model.blocks]).expand(engine.batch, steps, layers, -1)
    constant, (frames, first) = engine._bias(steps), engine._frame_biases(steps)
    if constant is not None:
        gates = gates + constant.unflatten(2, (layers, -1))
    if frames is not None:
        frames, hop = frames.unflatten(2, (layers, -1)), model.alignment.hop
        places = torch.arange(steps) + engine.time + 1 - first * hop
        share, rest = model.frame_conditioner.shares()[places % hop][:, :, None, None].unbind(1)
        gates = gates + (frames[:, places // hop] * share + frames[:, places // hop + 1] * rest)
    return list(gates.unbind(2))


@dataclass(frozen=True)
class Predicted:
    """For each step `(B, T)`: the next sample's prediction and expected error, and the relative error of the newest."""

    mean: Tensor
    scale: Tensor
    error: Tensor


def _predictions(engine: NativeEngine, samples: Tensor, steps: int) -> Predicted | None:
    """Linear prediction. `samples` are the history and the newest sample of each step."""
    predictor, time = engine.model.predictor, engine.time
    if predictor is None:
        return None
    history = samples.shape[1] - steps
    times = torch.arange(time, time + steps + 1)
    blocks, index = torch.unique(times.div(predictor.block, rounding_mode="floor"), return_inverse=True)
    if isinstance(predictor, PastPredictor):
        begins = (blocks * predictor.block - time + history - predictor.window)[:, None]
        weighted = samples[:, begins + torch.arange(predictor.window)].double() * predictor.weights
        power = sum(weight * weight for weight in predictor.weights.tolist())
        length, lags = predictor.window, range(predictor.order + 1)
        products = [dot(weighted[..., lag:], weighted[..., : length - lag]) for lag in lags]
        correlation = torch.stack(products, dim=-1) / power
    else:
        correlation, first = engine._correlation(steps)
        correlation = correlation[:, blocks - first]
    coefficients, scales = _solve(correlation, predictor.config.noise_floor)
    pasts = samples[:, history - predictor.order :].unfold(1, predictor.order, 1)
    means, scales = dot(pasts, coefficients[:, index]).clamp(-1, 1), scales[:, index]
    return Predicted(means[:, 1:], scales[:, 1:], (samples[:, history:] - means[:, :-1]) / scales[:, :-1])


def _solve(correlation: Tensor, noise_floor: float) -> tuple[Tensor, Tensor]:
    """The Levinson-Durbin recursion: coefficients, the oldest sample's first, and expected errors."""
    error = correlation[..., 0] * (1 + noise_floor) + QUIETEST
    backwards, solution = correlation.flip(-1), correlation[..., :0]
    for lag in range(1, correlation.shape[-1]):
        known = dot(solution, backwards[..., -lag:-1])
        reflection = ((correlation[..., lag] - known) / error)[..., None]
        solution = torch.cat([solution - reflection * solution.flip(-1), reflection], dim=-1)
        error = error * (1 - reflection[..., 0] * reflection[..., 0])
    return solution.flip(-1).float(), error.sqrt().float()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Dot products over the last axis, summed as the engine sums: two vectors of 64 bytes, their lanes, the rest."""
    products, lanes = a * b, 64 // a.element_size()
    whole = products.shape[-1] // (2 * lanes)
    pairs = products[..., : whole * 2 * lanes].unflatten(-1, (whole, 2, lanes))
    both = torch.zeros(*products.shape[:-1], 2, lanes, dtype=products.dtype)
    for piece in range(whole):
        both = both + pairs[..., piece, :, :]
    total = torch.zeros(products.shape[:-1], dtype=products.dtype)
    for part in (*both.sum(-2).unbind(-1), *products[..., whole * 2 * lanes :].unbind(-1)):
        total = total + part
    return total


def compand(waveform: Tensor, classes: int) -> Tensor:
    clipped, mu = waveform.clamp(-1, 1), torch.tensor(float(classes - 1))
    return torch.copysign(_log1p(mu * clipped.abs()) / _log1p(mu), clipped)


def _log1p(x: Tensor) -> Tensor:
    return x.double().log1p().float()


def _embed(model: WaveNet, inputs: Tensor, predicted: Predicted | None) -> Tensor:
    rows = model.embedding.rows
    signals = [compand(inputs, rows)]
    if predicted is not None:
        signals += [compand(predicted.mean, rows), compand(predicted.error / 16, rows), compand(predicted.scale, 65536)]
    x = torch.zeros(*inputs.shape, model.config.residual_channels)
    for signal, table in zip(signals, model.embedding.weight.chunk(len(signals)), strict=True):
        place = (signal + 1) / 2 * (rows - 1)
        below = place.long().clamp(0, rows - 2)
        share = (place - below)[..., None]
        x = x + (table[below] * (1 - share) + table[below + 1] * share)
    return x


def _place(distribution: Distribution, outputs: Tensor, predicted: Predicted | None) -> Tensor:
    """The network's outputs relative to the prediction: `(B, T, outputs)` -> `(B, T, parameters)`."""
    if isinstance(distribution, Categorical):
        if predicted is None:
            return outputs
        classes = distribution.classes
        level = (compand(predicted.mean, classes) + 1) / 2 * (classes - 1)
        first = classes - 1 - (level + 0.5).floor().long()
        return outputs.gather(2, first[..., None] + torch.arange(classes))
    weights, means, scales = outputs.chunk(3, dim=2)
    if predicted is not None:
        means = predicted.mean[..., None] + predicted.scale[..., None] * means
        scales = scales + predicted.scale[..., None].double().log().float()
    narrowest = float(torch.tensor(-math.log(distribution.levels * 16), dtype=torch.float32))
    return torch.cat([weights, means.clamp(-2, 2), scales.clamp(narrowest, 0)], dim=2)
