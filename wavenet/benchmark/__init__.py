"""How fast engines generate and how fast networks train, measured side by side."""

from wavenet.benchmark.engines import SHAPES, Limit, Row, cases, cost_curves, measure
from wavenet.benchmark.training import TrainRow, measure_training, reading_seconds, train_cases

__all__ = [
    "SHAPES",
    "Limit",
    "Row",
    "TrainRow",
    "cases",
    "cost_curves",
    "measure",
    "measure_training",
    "reading_seconds",
    "train_cases",
]
