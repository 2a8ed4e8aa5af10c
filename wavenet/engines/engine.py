"""The contract of an engine."""

from typing import ClassVar, Protocol

from torch import Tensor

from wavenet.network import SamplingOptions


class Engine(Protocol):
    """Runs a model sample by sample. A new engine stands at the end of endless silence.

    An engine owns state and never randomness: the caller brings the uniforms.
    """

    name: ClassVar[str]

    def prime(self, symbols: Tensor) -> None:
        """Take in existing audio as symbols `(B, T)`; what follows continues it."""

    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        """Generate one sample for each uniform: `(B, T)` -> symbols `(B, T)` and log-probabilities `(B, T)`.

        Log-probabilities, in nats, are the model's own, before temperature and filters.
        """
