"""Engines run a model sample by sample. They own state, never randomness: uniforms come from the caller."""

import warnings
from typing import ClassVar, Protocol

from torch import Tensor

from wavenet.engines.incremental import IncrementalEngine
from wavenet.engines.naive import NaiveEngine
from wavenet.engines.native import NOT_BUILT, WEIGHT_TYPES, NativeEngine, WeightType
from wavenet.engines.resumable import EngineState, ResumableEngine
from wavenet.network import Conditioning, SamplingOptions, WaveNet

__all__ = [
    "ENGINES",
    "WEIGHT_TYPES",
    "Engine",
    "EngineState",
    "IncrementalEngine",
    "NaiveEngine",
    "NativeEngine",
    "ResumableEngine",
    "WeightType",
    "fastest_engine",
    "make_engine",
]


class Engine(Protocol):
    """What generation asks of an engine. A new one stands at the end of endless silence."""

    name: ClassVar[str]

    def prime(self, symbols: Tensor) -> None:
        """Take in existing audio as symbols `(B, T)`; what follows continues it."""

    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        """Generate one sample for each uniform: `(B, T)` -> symbols `(B, T)` and log-probabilities `(B, T)`.

        Log-probabilities, in nats, are the model's own, before temperature and filters.
        """


ENGINES = (NaiveEngine.name, IncrementalEngine.name, NativeEngine.name)


def fastest_engine(model: WaveNet) -> tuple[str, str | None]:
    """The name of the fastest engine for a model where it lies; and why that is not the native one, if it is not."""
    refusal = NativeEngine.refusal(model)
    if refusal is None:
        return NativeEngine.name, None
    return (IncrementalEngine if IncrementalEngine.refusal(model) is None else NaiveEngine).name, refusal


def make_engine(
    name: str,
    model: WaveNet,
    batch: int,
    conditioning: Conditioning | None = None,
    *,
    weights: WeightType = "float32",
    threads: int = 1,
) -> Engine:
    """The engine of that name; `auto` is the fastest, and says so in a warning where a faster one is wanting.

    Raises `ValueError` for an unknown name, and where the engine cannot run the model or has no such `weights`.
    """
    if name == "auto":
        if weights != "float32" or threads != 1:
            name, reason = NativeEngine.name, None  # which says so if it cannot
        else:
            name, reason = fastest_engine(model)
        if reason == NOT_BUILT or name == NaiveEngine.name:
            warnings.warn(f"generating with the {name} engine: {reason}", stacklevel=4)
    if name == NativeEngine.name:
        return NativeEngine(model, batch, conditioning, weights=weights, threads=threads)
    for option, value, default in (("weights", weights, "float32"), ("threads", threads, 1)):
        if value != default:
            raise ValueError(f"{option} is {value!r}; only the native engine has a choice, and this is {name!r}")
    if name == IncrementalEngine.name:
        return IncrementalEngine(model, batch, conditioning)
    if name == NaiveEngine.name:
        return NaiveEngine(model, batch, conditioning)
    raise ValueError(f"engine is {name!r}; expected auto or one of {', '.join(ENGINES)}")
