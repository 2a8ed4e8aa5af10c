"""How well a model predicts held-out audio: bits per sample and accuracy, every sample scored once."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.audio import from_int16
from wavenet.dataset import PreparedClip, PreparedDataset
from wavenet.model import WaveNet

__all__ = ["Score", "evaluate", "evenly_spaced", "score_symbols"]

_CHUNK_PARAMETERS = 2**21
"""Network outputs held at a time when scoring: it bounds the memory, not the context."""


@dataclass(frozen=True)
class Score:
    """`bits` is the mean of -log2 probability per sample; `accuracy` the share where the mode was right."""

    samples: int
    bits: float
    accuracy: float

    @classmethod
    def pooled(cls, scores: Iterable["Score"]) -> "Score":
        """The score of all samples together."""
        scores = list(scores)
        samples = sum(score.samples for score in scores)
        return cls(
            samples,
            sum(score.bits * score.samples for score in scores) / samples,
            sum(score.accuracy * score.samples for score in scores) / samples,
        )


@torch.no_grad()
def score_symbols(model: WaveNet, symbols: Tensor, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """Log-probability in nats of each symbol given all before it, and whether it was the mode.

    Shape: `(B, T)` -> `(B, T)` and `(B, T)`. The clip starts from silence; the state carries the context from
    chunk to chunk, so the result does not depend on `chunk`.
    """
    chunk = chunk or max(1, _CHUNK_PARAMETERS // model.distribution.parameters)
    state = model.initial_state(symbols.shape[0])
    latest = torch.full_like(symbols[:, :1], model.distribution.silence)
    log_probs, right = [], []
    for targets in torch.split(symbols, chunk, dim=1):
        inputs = torch.cat([latest, targets[:, :-1]], dim=1)
        parameters, state = model.advance(inputs, state)
        log_probs.append(model.distribution.log_prob(parameters, targets))
        right.append(model.distribution.mode(parameters) == targets)
        latest = targets[:, -1:]
    return torch.cat(log_probs, dim=1), torch.cat(right, dim=1)


def evaluate(
    model: WaveNet,
    dataset: PreparedDataset,
    clips: Sequence[PreparedClip],
    progress: Callable[[int], None] = lambda samples: None,
) -> Mapping[str | None, Score]:
    """Score clips whole; the result is by speaker (`None` where the corpus names none).

    Raises `ValueError` where the dataset's sample rate is not the model's.
    """
    if dataset.sample_rate != model.config.sample_rate:
        raise ValueError(
            f"{dataset.path} has {dataset.sample_rate} Hz, the model {model.config.sample_rate} Hz; "
            f"prepare the dataset with --sample-rate {model.config.sample_rate}"
        )
    by_speaker: defaultdict[str | None, list[Score]] = defaultdict(list)
    for clip in clips:
        symbols = model.distribution.encode(from_int16(dataset.read(clip)))[None].to(model.device)
        log_probs, right = score_symbols(model, symbols)
        bits = -float(log_probs.double().mean()) / math.log(2)
        by_speaker[clip.speaker].append(Score(clip.samples, bits, float(right.double().mean())))
        progress(clip.samples)
    return {speaker: Score.pooled(scores) for speaker, scores in by_speaker.items()}


def evenly_spaced(clips: Sequence[PreparedClip], samples: int) -> list[PreparedClip]:
    """A fixed choice of clips, spread evenly over the list, of about `samples` in all and at least one."""
    total = sum(clip.samples for clip in clips)
    step = max(1.0, total / max(1, samples))
    count = max(1, round(len(clips) / step))
    return [clips[int(index * len(clips) / count)] for index in range(count)]
