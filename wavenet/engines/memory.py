"""How long a chunk may be: the memory that a network needs at a time is bounded."""

from wavenet.network import WaveNet

__all__ = ["chunk_samples"]

_NUMBERS_AT_ONCE = 2**25
"""Bounds a chunk to 128 MiB of float32 numbers, and as much again of intermediates."""


def chunk_samples(model: WaveNet, batch: int) -> int:
    """Samples of a chunk of `batch` rows whose activations, biases and outputs stay within bounded memory."""
    gates = len(model.blocks) * model.config.gate_channels * (1 if model.conditioner is None else 2)
    order = 0 if model.predictor is None else model.predictor.order
    return max(1, _NUMBERS_AT_ONCE // (batch * (gates + 2 * model.output.out_features + 2 * order)))
