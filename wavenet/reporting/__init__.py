"""A page about a run or a model, with pictures and sounds."""

from wavenet.reporting.plots import (
    draw_cone,
    draw_cone_on,
    draw_spectrogram_on,
    picture_kind,
    save,
)
from wavenet.reporting.report import ReportOptions, build_report
from wavenet.reporting.subject import Subject

__all__ = [
    "ReportOptions",
    "Subject",
    "build_report",
    "draw_cone",
    "draw_cone_on",
    "draw_spectrogram_on",
    "picture_kind",
    "save",
]
