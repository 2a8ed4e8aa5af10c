"""The clips of a training: checked against the model, measured, and picked for listening."""

import itertools
from collections.abc import Sequence

import torch

from wavenet.data import Clip, Source, as_sources, clip_tracks, pick_clips, read_clip, timed_labels
from wavenet.network import FeatureStatistics, TimedLabelsConfig, WaveNet

_MEASURED_SECONDS, _MEASURED_CLIPS = 5, 16
"""The beginnings of so many clips of each source give the mean and spread of features."""


def suitable_sources(clips: Sequence[Clip] | Sequence[Source], model: WaveNet, called: str) -> tuple[Source, ...]:
    """The sources of the argument `called`; `ValueError` if the model cannot be trained on, or scored on, a clip."""
    config = model.config
    sources = as_sources(clips, config.sample_rate, config.known_labels, called)
    for clip in (clip for source in sources for clip in source.clips):
        if config.timed_labels is not None:
            _check_timed(clip, config.timed_labels)
        if config.tracks:
            clip_tracks(clip, config)  # which refuses a clip without them
    return sources


def _check_timed(clip: Clip, known: TimedLabelsConfig) -> None:
    """Raise `ValueError` if a clip has no timed labels, or one whose name the model does not know."""
    labels = timed_labels(clip, known.whole_clip)
    if not labels:
        raise ValueError(f"{clip.name} has no timed labels, and the model needs them; leave the clip out")
    for label in labels:
        if label.name not in known.names:
            raise ValueError(
                f"{clip.name} has the timed label {label.name!r}, and the model knows {', '.join(known.names)}; "
                "add it to timed_labels.names, or leave the clip out"
            )


def pick_from_each(sources: Sequence[Source], count: int) -> list[Clip]:
    """`count` clips, one of each source after another; fewer if there are no more."""
    rows = itertools.zip_longest(*(pick_clips(source.clips, count) if count else () for source in sources))
    return [clip for row in rows for clip in row if clip is not None][:count]


@torch.no_grad()
def measure_conditioning(model: WaveNet, sources: Sequence[Source]) -> None:
    """Give the model the mean and spread of its features, from some clips, and of its tracks, from all clips."""
    if model.log_mel is not None:
        measured = []
        for clip in (clip for source in sources for clip in pick_clips(source.clips, _MEASURED_CLIPS)):
            waveform = read_clip(clip, 0, min(clip.samples, _MEASURED_SECONDS * clip.sample_rate))
            measured.append(model.log_mel(waveform[None].to(model.device))[0])
        model.feature_statistics = FeatureStatistics.of(measured)
    if model.config.tracks:
        found = (clip_tracks(clip, model.config) for source in sources for clip in source.clips)
        frames = torch.cat([tracks for tracks in found if tracks is not None], dim=1).double()
        spread = frames.std(dim=1, correction=0, keepdim=True)
        model.track_mean.copy_(frames.mean(dim=1, keepdim=True))
        model.track_spread.copy_(spread.where(spread > 0, 1.0))
