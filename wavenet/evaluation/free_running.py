"""Scores of what a model makes in free running, where it hears its own samples instead of a clip's."""

import copy
import math
import statistics
from collections.abc import Mapping, Sequence

from wavenet.data import Clip
from wavenet.engines import EngineOptions
from wavenet.evaluation.likelihood import speaker_of
from wavenet.evaluation.quality import measure, opinion
from wavenet.evaluation.vocoder import copy_clips
from wavenet.generation import generate
from wavenet.network import SamplingOptions, WaveNet


def score_free_running(model: WaveNet, clips: Sequence[Clip], *, seconds: float = 3.0) -> dict[str, float]:
    """Mean scores, by the names of `Quality`, of copies of the clips, or of babble if the model is no vocoder.

    Babble lasts `seconds`, is as long as there are clips, and speaks as their speakers; only the predicted opinions
    score it. Clip i draws from seed i. What cannot be scored is left out. The model may be on any device; a copy of it
    generates on the CPU, where the fast engine is.
    """
    model, sampling = copy.deepcopy(model).cpu().eval(), SamplingOptions()
    scores: list[Mapping[str, float]]
    if model.log_mel is not None:
        made = copy_clips(model, clips, sampling, engine=EngineOptions(), systems=("original", "model"))
        rate = model.config.sample_rate
        scores = [vars(measure(one.audio["original"], one.audio["model"], model.log_mel, rate)) for one in made]
    else:
        speakers = [speaker_of(model, clip) or "" for clip in clips] if model.config.speakers else None
        samples = round(seconds * model.config.sample_rate)
        audio = generate(model, samples, batch=len(clips), speaker=speakers)
        scores = [vars(opinion(row, model.config.sample_rate)) for row in audio]
    columns = {name: [row[name] for row in scores if not math.isnan(row[name])] for name in scores[0]}
    return {name: statistics.fmean(values) for name, values in columns.items() if values}
