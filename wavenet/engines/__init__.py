"""Engines run a model sample by sample. They own state, never randomness: uniforms come from the caller."""

from typing import ClassVar, Protocol

from torch import Tensor

from wavenet.conditioning import Conditioning
from wavenet.engines.incremental import IncrementalEngine
from wavenet.engines.naive import NaiveEngine
from wavenet.model import WaveNet
from wavenet.sampling import SamplingOptions

__all__ = ["ENGINES", "Engine", "IncrementalEngine", "NaiveEngine", "choose_engine"]


class Engine(Protocol):
    """What generation asks of an engine. A new one stands at the end of endless silence."""

    name: ClassVar[str]

    def __init__(self, model: WaveNet, batch: int, conditioning: Conditioning | None = None) -> None: ...

    def prime(self, symbols: Tensor) -> None:
        """Take in existing audio as symbols `(B, T)`; what follows continues it."""

    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        """Generate one sample for each uniform: `(B, T)` -> symbols `(B, T)` and log-probabilities `(B, T)`.

        Log-probabilities, in nats, are the model's own, before temperature and filters.
        """


ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (NaiveEngine, IncrementalEngine)}


def choose_engine(name: str = "auto") -> type[Engine]:
    """The engine of that name; `auto` is the fastest there is. Raises `ValueError` for an unknown name."""
    if name == "auto":
        return IncrementalEngine
    if name not in ENGINES:
        raise ValueError(f"engine is {name!r}; expected auto or one of {', '.join(ENGINES)}")
    return ENGINES[name]
