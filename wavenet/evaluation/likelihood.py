"""How well a model predicts held-out audio: bits per sample and accuracy, every sample scored once."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.data import PreparedClip, PreparedDataset, from_int16
from wavenet.engines import NativeEngine, WeightType, chunk_samples
from wavenet.network import Conditioning, WaveNet, check_symbols

__all__ = [
    "CLASSES",
    "Score",
    "SymbolScores",
    "about",
    "check_rate",
    "condition_on",
    "evaluate",
    "score_symbols",
    "speaker_of",
    "spread",
]

CLASSES = 256
"""The µ-law classes in which models of different resolutions compare."""


@dataclass(frozen=True)
class Score:
    """`bits` is the mean of -log2 probability per sample; `accuracy` the share where the mode was right.

    `mu_law_bits` is `bits` of the 256 µ-law classes, whatever the model's own resolution.
    """

    samples: int
    bits: float
    mu_law_bits: float
    accuracy: float

    @classmethod
    def pooled(cls, scores: Iterable["Score"]) -> "Score":
        """The score of all samples together."""
        scores = list(scores)
        samples = sum(score.samples for score in scores)
        means = (
            sum(getattr(score, name) * score.samples for score in scores) / samples
            for name in ("bits", "mu_law_bits", "accuracy")
        )
        return cls(samples, *means)


@dataclass(frozen=True)
class SymbolScores:
    """Of each symbol, `(B, T)`: log-probability (nats), that of its µ-law class of 256, whether it was the mode."""

    log_probs: Tensor
    class_log_probs: Tensor
    right: Tensor


@torch.no_grad()
def score_symbols(
    model: WaveNet,
    symbols: Tensor,
    conditioning: Conditioning | None = None,
    chunk: int | None = None,
    weights: WeightType | None = None,
) -> SymbolScores:
    """Score each symbol given all before it: `(B, T)`, what `model.encode` makes of a waveform `(B, T)` at its rate.

    The clip starts from silence; the state carries the context from chunk to chunk, so the result does not
    depend on `chunk`. With `weights` the native engine gives the scores, its weights stored so.
    """
    check_symbols(symbols)
    chunk = chunk or chunk_samples(model, len(symbols))
    if weights is None:
        follow = _in_parallel(model, len(symbols), conditioning)
    else:
        follow = NativeEngine(model, len(symbols), conditioning, weights=weights).follow
    scores = []
    for targets in torch.split(symbols, chunk, dim=1):
        parameters = follow(targets)
        log_probs = model.distribution.log_prob(parameters, targets)
        class_log_probs = model.distribution.class_log_prob(parameters, targets, CLASSES)
        scores.append((log_probs, class_log_probs, model.distribution.mode(parameters) == targets))
    return SymbolScores(*(torch.cat(pieces, dim=1) for pieces in zip(*scores, strict=True)))


def _in_parallel(model: WaveNet, batch: int, conditioning: Conditioning | None) -> Callable[[Tensor], Tensor]:
    """A function that takes in one chunk after another, each at once: symbols `(B, T)` -> `(B, parameters, T)`."""
    state = model.initial_state(batch, conditioning)
    latest = torch.full((batch, 1), model.distribution.silence, device=model.device)

    def follow(symbols: Tensor) -> Tensor:
        nonlocal state, latest
        parameters, state = model.advance(torch.cat([latest, symbols[:, :-1]], dim=1), state, conditioning)
        latest = symbols[:, -1:]
        return parameters

    return follow


def speaker_of(model: WaveNet, clip: PreparedClip, speaker: str | None = None) -> str | None:
    """Who the model is told speaks in a clip: `speaker` if given, else the clip's own; `None` if it knows none."""
    names = model.config.speakers
    if not names:
        if speaker is not None:
            raise ValueError("the model knows no speakers; leave --speaker out")
        return None
    told = clip.speaker if speaker is None else speaker
    if told not in names:
        whose = f"speaker {told!r}" if speaker is not None else f"{clip.name}: its speaker {told!r}"
        raise ValueError(f"{whose} is unknown to the model; choose one with --speaker: {', '.join(names)}")
    return told


def condition_on(model: WaveNet, waveform: Tensor, speaker: str | None) -> Conditioning:
    """The conditioning of a clip `(T,)` on its own features and its speaker, as far as the model asks for them."""
    return model.condition(
        speaker=speaker,
        features=None if model.log_mel is None else model.log_mel(waveform[None]),
    )


def evaluate(
    model: WaveNet,
    dataset: PreparedDataset,
    clips: Sequence[PreparedClip],
    progress: Callable[[int], None] = lambda samples: None,
    *,
    speaker: str | None = None,
    weights: WeightType | None = None,
) -> Mapping[str | None, Score]:
    """Score clips whole; the result is by speaker (`None` where the corpus names none).

    `speaker` has a multi-speaker model take all clips for that speaker's; `weights` has the native engine do it.
    Raises `ValueError` where the dataset's sample rate is not the model's, or a clip's speaker is none of its own.
    """
    check_rate(model, dataset)
    by_speaker: defaultdict[str | None, list[Score]] = defaultdict(list)
    for clip in clips:
        waveform = from_int16(dataset.read(clip)).to(model.device)
        conditioning = condition_on(model, waveform, speaker_of(model, clip, speaker))
        scores = score_symbols(model, model.encode(waveform[None]), conditioning, weights=weights)
        bits, mu_law_bits = (
            -float(values.double().mean()) / math.log(2) for values in (scores.log_probs, scores.class_log_probs)
        )
        if not math.isfinite(bits):
            raise ValueError(f"the model gives {clip.name} no finite likelihood; its weights are damaged or diverged")
        accuracy = float(scores.right.double().mean())
        by_speaker[clip.speaker].append(Score(clip.samples, bits, mu_law_bits, accuracy))
        progress(clip.samples)
    return {speaker: Score.pooled(scores) for speaker, scores in by_speaker.items()}


def check_rate(model: WaveNet, dataset: PreparedDataset) -> None:
    """Raise `ValueError` where the dataset's sample rate is not the model's."""
    if dataset.sample_rate != model.config.sample_rate:
        raise ValueError(
            f"{dataset.path} has {dataset.sample_rate} Hz, the model {model.config.sample_rate} Hz; "
            f"prepare the dataset with --sample-rate {model.config.sample_rate}"
        )


def spread(clips: Sequence[PreparedClip], count: int) -> tuple[PreparedClip, ...]:
    """A fixed choice of at most `count` clips, spread evenly over the list."""
    if count < 1:
        raise ValueError(f"--limit is {count} clips; expected at least 1")
    count = min(count, len(clips))
    return tuple(clips[index * len(clips) // count] for index in range(count))


def about(clips: Sequence[PreparedClip], samples: int) -> tuple[PreparedClip, ...]:
    """A fixed choice of clips, spread evenly over the list, of about `samples` in all and at least one."""
    total = sum(clip.samples for clip in clips)
    return spread(clips, max(1, round(len(clips) * min(1.0, samples / total))))
