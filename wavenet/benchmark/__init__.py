"""Measures how fast engines generate and networks train, side by side."""

from wavenet.benchmark.engines import SHAPES, Limit, Row, cases, measure
from wavenet.benchmark.training import TrainRow, measure_training, train_cases

__all__ = [
    "SHAPES",
    "Limit",
    "Row",
    "TrainRow",
    "cases",
    "measure",
    "measure_training",
    "train_cases",
]
