"""How well a model predicts audio: bits per sample and accuracy, each sample scored once."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavenet.data import Clip, check_clips, check_known, clip_tracks, read_clip, speaker_label, timed_labels
from wavenet.engines import NativeEngine, WeightType, chunk_samples
from wavenet.network import Conditioning, LogMel, WaveNet, check_symbols

CLASSES = 256
"""Models of different resolutions are compared in this many µ-law classes."""


@dataclass(frozen=True)
class Score:
    """`bits` is the mean of -log2 probability per sample, `accuracy` the share of samples that were the mode.

    `mu_law_bits` is the same as `bits` for the 256 µ-law classes, independent of the model's resolution.
    """

    samples: int
    bits: float
    mu_law_bits: float
    accuracy: float

    @classmethod
    def pooled(cls, scores: Iterable["Score"]) -> "Score":
        """The score of all samples together."""
        return cls(**pooled_row([vars(score) for score in scores]))


def pooled_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row of all samples together: the means of the columns that all rows have, weighted by `samples`."""
    samples = sum(row["samples"] for row in rows)
    shared = [name for name in rows[0] if name not in ("speaker", "samples") and all(name in row for row in rows)]
    return {"samples": samples, **{name: sum(row[name] * row["samples"] for row in rows) / samples for name in shared}}


@dataclass(frozen=True)
class SymbolScores:
    """For each symbol, `(B, T)`: log-probability in nats, that of its µ-law class of 256, and if it was the mode."""

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
    """Score each symbol given all before it. `symbols` `(B, T)` come from `model.encode` of a waveform `(B, T)`.

    The clip starts from silence. The state carries the context from chunk to chunk, so the result does not depend on
    `chunk`. With `weights` the native engine computes the scores, and stores its weights as that type.
    """
    check_symbols(symbols)
    if not symbols.numel():
        raise ValueError(f"symbols have shape {tuple(symbols.shape)}; expected at least one sample")
    least, most = int(symbols.min()), int(symbols.max())
    if least < 0 or most >= model.distribution.symbols:
        raise ValueError(
            f"symbols are {least} to {most}; the model's are 0 to {model.distribution.symbols - 1}: make them with "
            "model.encode(waveform)"
        )
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
    """A function that takes in chunk after chunk, all samples in parallel: `(B, T)` -> `(B, parameters, T)`."""
    state = model.initial_state(batch, conditioning)
    latest = torch.full((batch, 1), model.distribution.silence, device=model.device)

    def follow(symbols: Tensor) -> Tensor:
        nonlocal state, latest
        parameters, state = model.advance(torch.cat([latest, symbols[:, :-1]], dim=1), state, conditioning)
        latest = symbols[:, -1:]
        return parameters

    return follow


def labels_of(model: WaveNet, clip: Clip, speaker: str | None = None) -> dict[str, str]:
    """What a model is told of a clip: the clip's labels of the kinds that it knows, or `speaker` in the place of one.

    Raises `ValueError` if the model does not know such a label.
    """
    known = model.config.known_labels
    if speaker is None:
        check_known([clip], known)
        return {kind: clip.labels[kind] for kind in known}
    if "speaker" not in known:
        raise ValueError("the model knows no speakers; leave speaker out")
    if speaker not in known["speaker"]:
        raise ValueError(f"speaker is {speaker!r}; the model knows {', '.join(known['speaker'])}")
    check_known([clip], {kind: names for kind, names in known.items() if kind != "speaker"})
    return {kind: clip.labels[kind] if kind != "speaker" else speaker for kind in known}


def condition_on(model: WaveNet, clip: Clip, waveform: Tensor, labels: Mapping[str, str]) -> Conditioning:
    """The conditioning of a clip of this waveform `(T,)`: features, tracks and labels, as the model takes them."""
    features = None if model.log_mel is None else clip_features(model, model.log_mel, clip, waveform, labels)
    return model.condition(labels=labels, features=features, tracks=clip_tracks(clip, model.config))


def clip_features(model: WaveNet, log_mel: LogMel, clip: Clip, waveform: Tensor, labels: Mapping[str, str]) -> Tensor:
    """What a model is given of a clip: features `(bins, F)` of its timed labels, or else of its waveform `(T,)`."""
    if model.config.timed_labels is None:
        features: Tensor = log_mel(waveform[None])[0]
        return features
    said = timed_labels(clip, model.config.timed_labels.whole_clip)
    return model.features_of(said, clip.samples, labels=labels)


def evaluate(
    model: WaveNet,
    clips: Sequence[Clip],
    progress: Callable[[int], None] = lambda samples: None,
    *,
    speaker: str | None = None,
    weights: WeightType | None = None,
) -> Mapping[str | None, Score]:
    """Score whole clips. Returns a score for each speaker label (`None` for clips without one).

    With `speaker` a multi-speaker model scores all clips as this speaker's; with `weights` the native engine scores.
    Raises `ValueError` if a clip's sample rate is not the model's, or the model does not know its speaker.
    """
    check_clips(clips, model.config.sample_rate)
    by_speaker: defaultdict[str | None, list[Score]] = defaultdict(list)
    for clip in clips:
        waveform = read_clip(clip).to(model.device)
        conditioning = condition_on(model, clip, waveform, labels_of(model, clip, speaker))
        scores = score_symbols(model, model.encode(waveform[None]), conditioning, weights=weights)
        bits, mu_law_bits = (
            -float(values.double().mean()) / math.log(2) for values in (scores.log_probs, scores.class_log_probs)
        )
        if not math.isfinite(bits):
            raise ValueError(
                f"{clip.name}: its likelihood is not finite; the model's weights are damaged or have diverged"
            )
        accuracy = float(scores.right.double().mean())
        by_speaker[speaker_label(clip)].append(Score(clip.samples, bits, mu_law_bits, accuracy))
        progress(clip.samples)
    return {speaker: Score.pooled(scores) for speaker, scores in by_speaker.items()}
