"""How good a model is: likelihood of held-out audio, baselines, and the quality of a vocoder's copies."""

from wavenet.evaluation.baselines import linear_prediction_bits, score_baselines, score_rows
from wavenet.evaluation.free_running import score_free_running
from wavenet.evaluation.likelihood import (
    CLASSES,
    Score,
    condition_on,
    evaluate,
    labels_of,
    pooled_row,
    score_symbols,
)
from wavenet.evaluation.quality import (
    Fidelity,
    Interval,
    Opinion,
    Quality,
    check_installed,
    compare,
    interval,
    measure,
    missing_packages,
    opinion,
    word_error_rate,
)
from wavenet.evaluation.vocoder import SYSTEMS, Copies, copy_clips, griffin_lim

__all__ = [
    "CLASSES",
    "SYSTEMS",
    "Copies",
    "Fidelity",
    "Interval",
    "Opinion",
    "Quality",
    "Score",
    "check_installed",
    "compare",
    "condition_on",
    "copy_clips",
    "evaluate",
    "griffin_lim",
    "interval",
    "labels_of",
    "linear_prediction_bits",
    "measure",
    "missing_packages",
    "opinion",
    "pooled_row",
    "score_baselines",
    "score_free_running",
    "score_rows",
    "score_symbols",
    "word_error_rate",
]
