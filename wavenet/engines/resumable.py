"""What engines with queues share: a state that can be saved and restored, priming, and conditioning piece by piece."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from wavenet.network import AmplitudeEmbedding, CausalConv1d, Conditioning, ResidualBlock, State, WaveNet

__all__ = ["EngineState", "FramePieces", "ResumableEngine", "foreign_part"]

_KNOWN = (WaveNet, AmplitudeEmbedding, ResidualBlock, CausalConv1d, nn.Linear)


def foreign_part(model: WaveNet) -> str | None:
    """Why no engine that computes the layers by itself can run a model: a part of another class. `None` if it can.

    A subclass may compute something else than the class whose weights it has.
    """
    layers = [layer for block in model.blocks for layer in block.children()]
    for part in (model, model.embedding, *model.blocks, *layers, model.skip, model.head, model.output):
        if type_before_parametrizations(part) not in _KNOWN:
            return f"it knows what the package's own layers compute, and not what {type(part).__name__} makes of it"
    return None


@dataclass(frozen=True)
class EngineState:
    """Where a batch of streams stands: the network's state, and the newest symbols `(B,)`, which it has yet to see."""

    latest: Tensor
    network: State


class ResumableEngine(ABC):
    """An engine whose streams can pause.

    `conditioning` may be replaced by one that knows more frames, of which the samples so far were not made.
    """

    def __init__(self, model: WaveNet, batch: int, conditioning: Conditioning | None = None) -> None:
        self.model, self.batch = model, batch
        self.conditioning = conditioning or model.condition(batch)

    @property
    @abstractmethod
    def time(self) -> int:
        """That of the newest sample, which is the next step's input; before a clip's first sample it is -1."""

    def start(self) -> None:
        """Stand before a clip's first sample, at the end of endless silence."""
        self.be_silent()
        self.run_up(-1 - self.time)

    def be_silent(self) -> None:
        """Stand so far before the clip that its frames do not reach there yet."""
        latest = torch.full((self.batch,), self.model.distribution.silence, device=self.model.device)
        self.load(EngineState(latest, self.model.silent_state(self.batch, self.conditioning)))

    def run_up(self, samples: int) -> None:
        """Take in this much more of the silence before the clip; the conditioning has to know the frames."""
        if samples:
            silence = self.model.distribution.silence
            self.prime(torch.full((self.batch, samples), silence, device=self.model.device))

    @abstractmethod
    def state(self) -> EngineState:
        """A copy of where the streams stand."""

    @abstractmethod
    def load(self, state: EngineState) -> None:
        """Go on from there. The state is copied."""

    @torch.no_grad()
    def prime(self, symbols: Tensor) -> None:
        """One parallel pass, in chunks of bounded memory."""
        before = self.state()
        unseen, state = torch.cat([before.latest[:, None], symbols], dim=1), before.network
        for chunk in torch.split(unseen[:, :-1], self.model.samples_at_once(len(unseen)), dim=1):
            _, state = self.model.advance(chunk, state, self.conditioning)
        self.load(EngineState(unseen[:, -1], state))


class FramePieces:
    """Cuts a function of time, `(B, T, ...)` for times `start` to `stop - 1`, from pieces of whole frames.

    A matrix product's rounding depends on its size. Of pieces that always have the same size every sample gets the
    same bits, however the stretches lie that it is asked for in.
    """

    def __init__(self, piece: Callable[[int, int], Tensor], length: int) -> None:
        self._piece, self._length = piece, length
        self._known: tuple[int, Tensor] | None = None

    def __call__(self, start: int, stop: int) -> Tensor:
        length = self._length
        pieces = [self._at(index) for index in range(start // length, (stop - 1) // length + 1)]
        skipped = start - start // length * length
        return torch.cat(pieces, dim=1)[:, skipped : skipped + stop - start]

    def _at(self, index: int) -> Tensor:
        if self._known is None or self._known[0] != index:
            self._known = index, self._piece(index * self._length, (index + 1) * self._length)
        return self._known[1]
