"""Scores of what a model generates in free running: it is given its own samples instead of a clip's."""

import copy
import math
import statistics
from collections.abc import Mapping, Sequence

from wavenet.data import Clip, TensorClip, clip_tracks, read_clip, timed_labels
from wavenet.engines import EngineOptions
from wavenet.evaluation.likelihood import labels_of
from wavenet.evaluation.quality import measure, opinion
from wavenet.evaluation.vocoder import copy_clips
from wavenet.generation import generate
from wavenet.network import SamplingOptions, Tracks, WaveNet, cut_timed_labels


def score_free_running(model: WaveNet, clips: Sequence[Clip], *, seconds: float = 4.0) -> dict[str, float]:
    """Mean scores, by the names of `Quality`, of copies of the clips, or of babble if the model takes no features.

    Copies are of the first `seconds` of each clip. Babble lasts `seconds` for each clip, with the clip's labels, and
    has only the predicted opinions. Clip i draws from seed i. Scores that are NaN are left out. The model may be on any
    device: a copy of it generates on the CPU, where the fast engine is.
    """
    model, rate = copy.deepcopy(model).cpu().eval(), model.config.sample_rate
    scores: list[Mapping[str, float]]
    if model.log_mel is not None:
        lengths = [min(clip.samples, round(seconds * rate)) for clip in clips]
        begun = [_beginning(model, clip, length) for clip, length in zip(clips, lengths, strict=True)]
        made = copy_clips(model, begun, SamplingOptions(), engine=EngineOptions(), references=())
        scores = [vars(measure(one.audio["original"], one.audio["model"], model.log_mel, rate)) for one in made]
    else:
        labels = [labels_of(model, clip) for clip in clips]
        audio = generate(model, round(seconds * rate), batch=len(clips), labels=labels)
        scores = [vars(opinion(row, rate)) for row in audio]
    columns = {name: [row[name] for row in scores if not math.isnan(row[name])] for name in scores[0]}
    return {name: statistics.fmean(values) for name, values in columns.items() if values}


def _beginning(model: WaveNet, clip: Clip, length: int) -> TensorClip:
    """The first samples of a clip, with what the clip says in them, and its tracks."""
    known = model.config.timed_labels
    said = () if known is None else timed_labels(clip, known.whole_clip)
    waveform, said = read_clip(clip, 0, length), cut_timed_labels(said, 0, length / clip.sample_rate)
    rows = clip_tracks(clip, model.config)
    tracks = None if rows is None else Tracks(model.config.tracks, rows[:, : model.alignment.frames(length)])
    return TensorClip(waveform, clip.sample_rate, clip.name, clip.labels, said, tracks)
