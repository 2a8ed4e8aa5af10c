"""Shared by the engines with queues: a state to save and restore, priming, chunks of bounded memory, and pieces."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from wavenet.network import AmplitudeEmbedding, CausalConv1d, Conditioning, ResidualBlock, State, WaveNet

_KNOWN = (WaveNet, AmplitudeEmbedding, ResidualBlock, CausalConv1d, nn.Linear)

_NUMBERS_AT_ONCE = 2**25
"""Bounds a chunk to 128 MiB of float32 numbers, and as much again of intermediates."""


def chunk_samples(model: WaveNet, batch: int) -> int:
    """Samples of a chunk of `batch` rows whose activations, biases and outputs stay within bounded memory."""
    gates = len(model.blocks) * model.config.gate_channels * (1 if model.conditioner is None else 2)
    order = 0 if model.predictor is None else model.predictor.order
    return max(1, _NUMBERS_AT_ONCE // (batch * (gates + 2 * model.output.out_features + 2 * order)))


def foreign_part(model: WaveNet) -> str | None:
    """Why an engine that computes the layers itself cannot run a model: a part of another class. `None` if it can.

    A subclass may compute something else from the same weights.
    """
    layers = [layer for block in model.blocks for layer in block.children()]
    for part in (model, model.embedding, *model.blocks, *layers, model.skip, model.head, model.output):
        if type_before_parametrizations(part) not in _KNOWN:
            return f"it supports only the package's own layers, and {type(part).__name__} is not one of them"
    return None


@dataclass(frozen=True)
class EngineState:
    """The state of a batch of streams: the network's, and the newest symbols `(B,)`, which it has yet to take in."""

    latest: Tensor
    network: State


class ResumableEngine(ABC):
    """An engine whose streams can pause.

    `conditioning` may be replaced by one with more frames, as long as the samples so far do not depend on them.
    """

    def __init__(self, model: WaveNet, batch: int, conditioning: Conditioning | None = None) -> None:
        self.model, self.batch = model, batch
        self.conditioning = conditioning or model.condition(batch)

    @property
    @abstractmethod
    def time(self) -> int:
        """The time of the newest sample, which is the next step's input; -1 before a clip's first sample."""

    def start(self) -> None:
        """Go to the end of endless silence, before a clip's first sample."""
        self.load_silence()
        self.run_up(-1 - self.time)

    def load_silence(self) -> None:
        """Set the state after endless silence, at a time before the clip's first frames have an effect."""
        latest = torch.full((self.batch,), self.model.distribution.silence, device=self.model.device)
        self.load(EngineState(latest, self.model.silent_state(self.batch, self.conditioning)))

    def run_up(self, samples: int) -> None:
        """Take in `samples` more of the silence before the clip. Their frames must be known."""
        if samples:
            silence = self.model.distribution.silence
            self.prime(torch.full((self.batch, samples), silence, device=self.model.device))

    @abstractmethod
    def state(self) -> EngineState:
        """A copy of the streams' state."""

    @abstractmethod
    def load(self, state: EngineState) -> None:
        """Go on from a state, which is copied."""

    @torch.no_grad()
    def prime(self, symbols: Tensor) -> None:
        """Take in symbols `(B, T)` in parallel, in chunks of bounded memory."""
        before = self.state()
        unseen, state = torch.cat([before.latest[:, None], symbols], dim=1), before.network
        for chunk in torch.split(unseen[:, :-1], chunk_samples(self.model, len(unseen)), dim=1):
            _, state = self.model.advance(chunk, state, self.conditioning)
        self.load(EngineState(unseen[:, -1], state))


class FramePieces:
    """Computes a function of time, `(B, T, ...)` for times `start` to `stop - 1`, in pieces of whole frames.

    The rounding of a matrix product depends on its size. Pieces of one fixed size make each sample's value independent
    of how the range is requested, to the bit.
    """

    def __init__(self, piece: Callable[[int, int], Tensor], length: int) -> None:
        self._piece, self._length = piece, length
        self._known: dict[int, Tensor] = {}

    def __call__(self, start: int, stop: int) -> Tensor:
        length = self._length
        pieces = [self._at(index) for index in range(start // length, (stop - 1) // length + 1)]
        skipped = start - start // length * length
        return torch.cat(pieces, dim=1)[:, skipped : skipped + stop - start]

    def _at(self, index: int) -> Tensor:
        if index not in self._known:
            latest = list(self._known.items())[-1:]  # a range may begin with the last pieces of the one before
            self._known = dict([*latest, (index, self._piece(index * self._length, (index + 1) * self._length))])
        return self._known[index]
