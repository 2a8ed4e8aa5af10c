"""Engines, which run a model sample by sample, and the choice among them."""

from wavenet.engines.choice import ENGINES, EngineOptions, make_engine
from wavenet.engines.engine import Engine
from wavenet.engines.incremental import IncrementalEngine
from wavenet.engines.naive import NaiveEngine
from wavenet.engines.native import WEIGHT_TYPES, NativeEngine, WeightType, native_module
from wavenet.engines.resumable import EngineState, ResumableEngine, chunk_samples, foreign_part
from wavenet.engines.stepwise import StepwiseEngine
from wavenet.engines.triton import TritonEngine

__all__ = [
    "ENGINES",
    "WEIGHT_TYPES",
    "Engine",
    "EngineOptions",
    "EngineState",
    "IncrementalEngine",
    "NaiveEngine",
    "NativeEngine",
    "ResumableEngine",
    "StepwiseEngine",
    "TritonEngine",
    "WeightType",
    "chunk_samples",
    "foreign_part",
    "make_engine",
    "native_module",
]
