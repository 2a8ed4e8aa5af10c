"""Audio from a model: whole clips, or streams as they are made."""

from wavenet.generation.offline import generate, generate_chunks, generate_scored
from wavenet.generation.streaming import FeatureStream, Generated, Stream, StreamState, stream

__all__ = [
    "FeatureStream",
    "Generated",
    "Stream",
    "StreamState",
    "generate",
    "generate_chunks",
    "generate_scored",
    "stream",
]
