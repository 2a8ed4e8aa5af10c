"""How good a model is: likelihood of held-out audio, baselines, the quality of a vocoder's copies."""

from wavenet.evaluation.baselines import baselines, linear_prediction_bits
from wavenet.evaluation.likelihood import (
    CLASSES,
    Score,
    about,
    check_rate,
    condition_on,
    evaluate,
    score_symbols,
    speaker_of,
    spread,
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
    "about",
    "baselines",
    "check_installed",
    "check_rate",
    "condition_on",
    "copy_clips",
    "evaluate",
    "griffin_lim",
    "interval",
    "linear_prediction_bits",
    "measure",
    "score_symbols",
    "speaker_of",
    "spread",
]
