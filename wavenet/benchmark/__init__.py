"""Measures how fast engines generate and networks train, side by side."""

from wavenet.benchmark.engines import GPU_BATCHES, SHAPES, Limit, Row, cases, measure, measure_gpu
from wavenet.benchmark.training import TrainRow, measure_training, train_cases

__all__ = [
    "GPU_BATCHES",
    "SHAPES",
    "Limit",
    "Row",
    "TrainRow",
    "cases",
    "measure",
    "measure_gpu",
    "measure_training",
    "train_cases",
]
