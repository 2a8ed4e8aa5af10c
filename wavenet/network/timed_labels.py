"""Timed labels: what is said or played when, and what a frame knows of it.

An aligner or a person says that a name lasts from a start to an end. Each frame is told the name that lasts at its
centre, the ones before and after, how much of it has passed, and how long it is: enough to place a sound within a word
(WaveNet paper, section 3.2, conditions on such features; so does Deep Voice). Gaps between labels are labels without a
name.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.network.settings import plain_numbers

TIMED_ROWS = ("before", "name", "after", "passed", "length")
"""The rows of `timed_frames`: three indices of names, the share that has passed, and the logarithm of the seconds."""


@dataclass(frozen=True)
class TimedLabel:
    """A `name` that lasts from `start` to `end`, in seconds; the end is not part of it.

    Raises `ValueError` unless the times are numbers, 0 <= start < end, and the name is text.
    """

    start: float
    end: float
    name: str

    def __post_init__(self) -> None:
        plain_numbers(self)
        if not isinstance(self.name, str) or not all(isinstance(time, int | float) for time in (self.start, self.end)):
            raise ValueError(f"{self!r}: expected start and end in seconds, and a name, such as (0.0, 0.45, 'seven')")
        if not (math.isfinite(self.end) and 0 <= self.start < self.end):
            raise ValueError(
                f"label {self.name!r} lasts from {self.start:g} to {self.end:g} s; expected 0 <= start < end"
            )


def check_timed_labels(labels: Sequence[TimedLabel]) -> tuple[TimedLabel, ...]:
    """The labels in the order of time; those without a name are gaps and are left out.

    Raises `ValueError` that names the first two that overlap by more than a microsecond.
    """
    named = sorted((label for label in labels if label.name), key=lambda label: label.start)
    for first, second in itertools.pairwise(named):
        if second.start < first.end - 1e-6:
            raise ValueError(
                f"label {second.name!r} begins at {second.start:g} s, before {first.name!r} ends at {first.end:g} s; "
                "expected labels that do not overlap"
            )
    return tuple(named)


def cut_timed_labels(labels: Sequence[TimedLabel], start: float, end: float) -> tuple[TimedLabel, ...]:
    """The labels of the piece from `start` to `end`, in seconds, by its own clock; what lies outside is cut off.

    >>> cut_timed_labels([TimedLabel(0.0, 1.0, "one"), TimedLabel(1.0, 2.0, "two")], 0.5, 1.0)
    (TimedLabel(start=0.0, end=0.5, name='one'),)
    """
    inside = ((max(label.start, start), min(label.end, end), label.name) for label in labels)
    return tuple(TimedLabel(first - start, last - start, name) for first, last, name in inside if last - first > 1e-6)


def by_clip(labels: Sequence[TimedLabel] | Sequence[Sequence[TimedLabel]], batch: int) -> list[Sequence[TimedLabel]]:
    """The labels of each clip of a batch: those of all clips, or a sequence for each.

    Raises `ValueError` if they are something else, or of another number of clips.
    """
    if not isinstance(labels, Sequence) or isinstance(labels, str):
        raise ValueError(f"timed_labels is {labels!r}; expected a sequence of TimedLabel, or one for each clip")
    single = [label for label in labels if isinstance(label, TimedLabel)]
    several = [clip for clip in labels if not isinstance(clip, TimedLabel)]
    if single and several:
        raise ValueError("timed_labels mix labels and sequences of them; expected either")
    for clip in several:
        if not isinstance(clip, Sequence) or not all(isinstance(label, TimedLabel) for label in clip):
            raise ValueError(f"timed_labels has {clip!r}; expected a TimedLabel, or a sequence of them for each clip")
    if several and len(several) != batch:
        raise ValueError(f"timed_labels of {len(several)} clips are given for a batch of {batch}")
    return list(several) or [single] * batch


def timed_frames(
    labels: Sequence[TimedLabel], names: Sequence[str], *, frames: int, frames_per_second: float, first: int = 0
) -> Tensor:
    """What each of `frames` from `first` on knows: `(5, frames)`, the rows of `TIMED_ROWS`.

    Frame f lies at f / `frames_per_second`. Index 0 is a gap, index i the i-th of `names`. Before the first label and
    after the last one nothing has passed and the length is that of a second. Raises `ValueError` if a name is unknown
    or labels overlap.

    >>> timed_frames([TimedLabel(0.5, 1.5, "one")], ["one", "two"], frames=4, frames_per_second=2)[:4].tolist()
    [[0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0]]
    """
    lasting = _with_gaps(check_timed_labels(labels))
    for label in lasting:
        if label.name and label.name not in names:
            raise ValueError(f"label {label.name!r} at {label.start:g} s is unknown; known are {', '.join(names)}")
    if not lasting:
        return torch.zeros(len(TIMED_ROWS), frames)
    index = {"": 0, **{name: number for number, name in enumerate(names, 1)}}
    name = torch.tensor([0, *(index[label.name] for label in lasting), 0, 0])
    start = torch.tensor([label.start for label in lasting], dtype=torch.float64)
    end = torch.tensor([label.end for label in lasting], dtype=torch.float64)
    time = torch.arange(first, first + frames, dtype=torch.float64) / frames_per_second
    begun = torch.searchsorted(start, time + _SAME, right=True)  # labels that have begun, the current one too
    latest = (begun - 1).clamp(min=0)
    outside = (begun == 0) | (time >= end[latest] - _SAME)
    length = end[latest] - start[latest]
    rows = [
        name[begun].where(outside, name[latest]),
        name[begun].where(~outside, 0),
        name[begun + 1],
        ((time - start[latest]) / length).where(~outside, 0.0),
        length.log().where(~outside, 0.0),
    ]
    return torch.stack([row.float() for row in rows])


_SAME = 1e-9
"""Times that differ by less, in seconds, are the same."""


def _with_gaps(labels: Sequence[TimedLabel]) -> list[TimedLabel]:
    """The labels, with one without a name wherever neither lasts between two of them."""
    filled = list(labels[:1])
    for label in labels[1:]:
        if label.start > filled[-1].end + 1e-6:
            filled.append(TimedLabel(filled[-1].end, label.start, ""))
        filled.append(label)
    return filled
