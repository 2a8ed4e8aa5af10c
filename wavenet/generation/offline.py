"""Whole clips from a model: uniforms in, waveform out, on any engine."""

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from wavenet.engines import EngineOptions
from wavenet.generation.streaming import Generated, Stream, check_count
from wavenet.network import (
    ClipLabels,
    Conditioning,
    SamplingOptions,
    TimedLabel,
    Tracks,
    WaveNet,
    as_given,
    check_level,
    check_waveform,
    foreign_features,
)


def generate(
    model: WaveNet,
    num_samples: int | None = None,
    *,
    batch: int | None = None,
    speaker: str | Sequence[str] | Tensor | None = None,
    labels: ClipLabels | None = None,
    features: Tensor | Sequence[Tensor] | None = None,
    timed_labels: Sequence[TimedLabel] | Sequence[Sequence[TimedLabel]] | None = None,
    tracks: Tracks | Tensor | Sequence[Tracks | Tensor] | None = None,
    seed: int = 0,
    prime: Tensor | Sequence[Tensor] | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    engine: str | EngineOptions = "auto",
) -> Tensor:
    """Generate `num_samples` new samples for each of `batch` streams: float32 in [-1, 1], `(B, T)`.

    Stream i draws its uniforms from a generator seeded with `seed + i`: it equals a batch of one with that seed.
    `prime` is a waveform `(T,)` or `(B, T)` to continue, or a sequence of one `(T,)` for each stream, which may differ
    in length; without one the audio starts from silence. `speaker`, `labels`, `features`, `timed_labels` and `tracks`
    are what `WaveNet.condition` takes. With features or timed labels a clip lasts as long as its frames, F * hop
    samples, unless `num_samples` says less; in a batch, the shorter clips go on in silence to the end of the longest.
    `engine` is an engine's name or `EngineOptions`.

    Raises `ValueError` if options are out of range or do not fit the model.
    """
    model = as_given(model, WaveNet)
    if batch is None and isinstance(prime, list | tuple):
        batch = len(prime)
    if batch is None:
        batch = _clips(features if timed_labels is None else timed_labels)
    batch = check_count("batch", batch)
    conditioning = model.condition(
        batch, speaker=speaker, labels=labels, features=features, timed_labels=timed_labels, tracks=tracks
    )
    if features is not None and conditioning.features is not None and model.config.features is not None:
        own = conditioning.features[0, : model.config.features.bins]
        foreign = foreign_features(own, model.config.features, model.feature_statistics)
        if foreign is not None:
            warnings.warn(foreign, stacklevel=2)
    return generate_scored(
        model,
        num_samples,
        SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p),
        conditioning,
        batch=batch,
        seed=seed,
        prime=prime,
        engine=engine,
    ).audio


def generate_scored(
    model: WaveNet,
    num_samples: int | None,
    options: SamplingOptions,
    conditioning: Conditioning,
    *,
    batch: int = 1,
    seed: int | Sequence[int] = 0,
    prime: Tensor | Sequence[Tensor] | None = None,
    engine: str | EngineOptions = "auto",
) -> Generated:
    """`generate`, with the model's own log-probability of each sample, before temperature and filters.

    `seed` may be a list, one for each stream.
    """
    stream = Stream(model, conditioning, options, batch=batch, seed=seed, engine=engine)
    pieces = list(generate_chunks(stream, num_samples, prime))
    audio, log_probs = torch.cat([p.audio for p in pieces], dim=1), torch.cat([p.log_probs for p in pieces], dim=1)
    return Generated(audio, log_probs)


def generate_chunks(
    stream: Stream, num_samples: int | None, prime: Tensor | Sequence[Tensor] | None = None
) -> Iterator[Generated]:
    """Prime a new stream and run it to its end, the audio clipped to [-1, 1]. Everything is checked before it runs.

    Streams whose primes differ in length run in several batches if they must: those with features for each length, and
    those with linear prediction for each place that the primes end at in its blocks.
    """
    symbols = None if prime is None else _prime_symbols(stream.model, prime, stream.batch)
    lengths = [0] if symbols is None else [len(row) for row in symbols]
    num_samples = _length(stream, num_samples, lengths)
    if symbols is None:
        return stream.chunks(num_samples)
    batches: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        batches.setdefault(length if stream.period is None else length % stream.period, []).append(row)
    if len(batches) == 1:
        stream.prime(symbols)
        return stream.chunks(num_samples)
    parts = [stream.part(rows) for rows in batches.values()]
    for part, rows in zip(parts, batches.values(), strict=True):
        part.prime([symbols[row] for row in rows])
    order = torch.tensor([row for rows in batches.values() for row in rows]).argsort()
    together = zip(*(part.chunks(num_samples) for part in parts), strict=True)
    return (
        Generated(torch.cat([p.audio for p in pieces])[order], torch.cat([p.log_probs for p in pieces])[order])
        for pieces in together
    )


def _clips(given: Tensor | Sequence[Tensor] | Sequence[TimedLabel] | Sequence[Sequence[TimedLabel]] | None) -> int:
    """How many clips features or timed labels are given for; 1 if all clips share them."""
    if isinstance(given, Tensor):
        return max(1, len(given)) if given.dim() == 3 else 1
    if not isinstance(given, Sequence) or isinstance(given, str) or not given or isinstance(given[0], TimedLabel):
        return 1  # of all clips, or something that `condition` refuses
    return len(given)


def _length(stream: Stream, num_samples: int | None, lengths: Sequence[int]) -> int:
    """How many samples to generate after primes of these lengths: `num_samples`, or as many as the features last."""
    primed = max(lengths)
    if num_samples is not None:
        num_samples = check_count("num_samples", num_samples)
    features = stream.conditioning.features
    if features is None:
        if num_samples is None:
            raise ValueError("num_samples is missing; only features say how long to go on")
        return num_samples
    frames, hop = features.shape[2], stream.model.alignment.hop
    if num_samples is None and min(lengths) < primed:
        raise ValueError("num_samples is missing; after primes of different lengths the features last differently long")
    if num_samples is None and primed >= frames * hop:
        raise ValueError(f"features last {frames * hop} samples, no longer than prime, {primed}; shorten prime")
    total = primed + (num_samples or 1)
    if total > frames * hop:
        raise ValueError(f"features have {frames} frames; {total} samples at hop {hop} need {-(-total // hop)}")
    return num_samples or frames * hop - primed


def _prime_symbols(model: WaveNet, prime: Tensor | Sequence[Tensor], batch: int) -> list[Tensor]:
    """The symbols `(T,)` of each stream's prime."""
    if not isinstance(prime, list | tuple):
        return list(_symbols(model, prime, batch))
    if len(prime) != batch:
        raise ValueError(f"prime has {len(prime)} entries; expected one for each of {batch} streams")
    return [_symbols(model, one, 1)[0] for one in prime]


def _symbols(model: WaveNet, prime: object, batch: int) -> Tensor:
    check_waveform(prime, "prime")
    assert isinstance(prime, Tensor)
    check_level(prime, "prime")
    waveforms = prime.expand(batch, -1) if prime.dim() == 1 else prime
    if waveforms.dim() != 2 or waveforms.shape[0] != batch or waveforms.shape[1] == 0:
        raise ValueError(f"prime has shape {tuple(prime.shape)}; expected (T,) or ({batch}, T) with T at least 1")
    return model.encode(waveforms.to(model.device))
