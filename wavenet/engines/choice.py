"""Which engine runs a model: one value, resolved once."""

import warnings
from dataclasses import dataclass, replace

from wavenet.engines.engine import Engine
from wavenet.engines.incremental import IncrementalEngine
from wavenet.engines.naive import NaiveEngine
from wavenet.engines.native import NOT_BUILT, WEIGHT_TYPES, NativeEngine, WeightType
from wavenet.engines.stepwise import StepwiseEngine
from wavenet.engines.triton import TritonEngine
from wavenet.network import Conditioning, WaveNet

_OTHERS = {engine.name: engine for engine in (IncrementalEngine, StepwiseEngine, NaiveEngine)}

ENGINES = (NativeEngine.name, *_OTHERS, TritonEngine.name)
"""The engines by name: those that `auto` takes, the fastest first, and the one for CUDA devices."""


@dataclass(frozen=True)
class EngineOptions:
    """An engine by `name`; for the native one also how it stores `weights`, and on how many `threads` it runs.

    `auto` is the fastest engine that can run the model, but never `triton`, which has to be asked for, and has a choice
    of `weights` too. Without a name, other `weights` or `threads` than the defaults imply `native`.

    >>> EngineOptions(weights="int8").name
    'native'
    """

    name: str = "auto"
    weights: WeightType = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.name not in ("auto", *ENGINES):
            raise ValueError(f"engine is {self.name!r}; expected auto or one of {', '.join(ENGINES)}")
        if self.weights not in WEIGHT_TYPES:
            raise ValueError(f"weights is {self.weights!r}; expected one of {', '.join(WEIGHT_TYPES)}")
        if not 1 <= self.threads <= 1024:
            raise ValueError(f"threads is {self.threads}; expected 1 to 1024")
        if (self.weights, self.threads) != ("float32", 1):
            if self.name == TritonEngine.name and self.threads == 1:
                if self.weights == "int8":
                    raise ValueError("weights is 'int8'; expected float32 or bfloat16 for the triton engine")
                return
            if self.name not in ("auto", NativeEngine.name):
                option, value = ("weights", self.weights) if self.weights != "float32" else ("threads", self.threads)
                raise ValueError(
                    f"{option} is {value!r}; only the native engine has a choice, and this is {self.name!r}"
                )
            object.__setattr__(self, "name", NativeEngine.name)

    @classmethod
    def of(cls, engine: "str | EngineOptions") -> "EngineOptions":
        """Turn an engine's name into options with default settings."""
        return engine if isinstance(engine, EngineOptions) else cls(engine)

    def resolved(self, model: WaveNet) -> tuple["EngineOptions", str | None]:
        """Replace `auto` by the fastest engine that can run `model`; also return why it is not native."""
        if self.name != "auto":
            return self, None
        refusal = NativeEngine.refusal(model)
        if refusal is None:
            return replace(self, name=NativeEngine.name), None
        able = (name for name, engine in _OTHERS.items() if engine.refusal(model) is None)
        return replace(self, name=next(able)), refusal


def make_engine(
    options: str | EngineOptions, model: WaveNet, batch: int, conditioning: Conditioning | None = None
) -> Engine:
    """Make the engine; warn if `auto` has to take a slower one than the model or its device would allow.

    Raises `ValueError` if the engine cannot run the model.
    """
    asked = EngineOptions.of(options)
    chosen, reason = asked.resolved(model)
    if reason == NOT_BUILT or (reason is not None and chosen.name != IncrementalEngine.name):
        warnings.warn(f"generating with the {chosen.name} engine: {reason}", stacklevel=4)
    if chosen.name == NativeEngine.name:
        return NativeEngine(model, batch, conditioning, weights=chosen.weights, threads=chosen.threads)
    if chosen.name == TritonEngine.name:
        return TritonEngine(model, batch, conditioning, weights=chosen.weights)
    return _OTHERS[chosen.name](model, batch, conditioning)
