"""How good a model is: likelihood of held-out audio, baselines, and the quality of a vocoder's copies."""

from wavenet.evaluation.baselines import linear_prediction_bits, score_baselines, score_rows
from wavenet.evaluation.likelihood import (
    CLASSES,
    Score,
    condition_on,
    evaluate,
    pooled_row,
    score_symbols,
    speaker_of,
)
from wavenet.evaluation.vocoder import (
    SYSTEMS,
    Copies,
    Quality,
    check_installed,
    copy_clips,
    griffin_lim,
    interval,
    measure,
)

__all__ = [
    "CLASSES",
    "SYSTEMS",
    "Copies",
    "Quality",
    "Score",
    "check_installed",
    "condition_on",
    "copy_clips",
    "evaluate",
    "griffin_lim",
    "interval",
    "linear_prediction_bits",
    "measure",
    "pooled_row",
    "score_baselines",
    "score_rows",
    "score_symbols",
    "speaker_of",
]
