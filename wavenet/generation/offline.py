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
    seed: int = 0,
    prime: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    engine: str | EngineOptions = "auto",
) -> Tensor:
    """Generate `num_samples` new samples for each of `batch` streams: float32 in [-1, 1], `(B, T)`.

    Stream i draws its uniforms from a generator seeded with `seed + i`: it equals a batch of one with that seed.
    `prime` is a waveform `(T,)` or `(B, T)` to continue; without one the audio starts from silence. `speaker`,
    `labels`, `features` and `timed_labels` are what `WaveNet.condition` takes. With features or timed labels a clip
    lasts as long as its frames, F * hop samples, unless `num_samples` says less; in a batch, the shorter clips go on in
    silence to the end of the longest. `engine` is an engine's name or `EngineOptions`.

    Raises `ValueError` if options are out of range or do not fit the model.
    """
    model = as_given(model, WaveNet)
    if batch is None:
        batch = _clips(features if timed_labels is None else timed_labels)
    batch = check_count("batch", batch)
    conditioning = model.condition(batch, speaker=speaker, labels=labels, features=features, timed_labels=timed_labels)
    if features is not None and conditioning.features is not None and model.config.features is not None:
        foreign = foreign_features(conditioning.features[0], model.config.features, model.feature_statistics)
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
    prime: Tensor | None = None,
    engine: str | EngineOptions = "auto",
) -> Generated:
    """`generate`, with the model's own log-probability of each sample, before temperature and filters.

    `seed` may be a list, one for each stream.
    """
    stream = Stream(model, conditioning, options, batch=batch, seed=seed, engine=engine)
    pieces = list(generate_chunks(stream, num_samples, prime))
    audio, log_probs = torch.cat([p.audio for p in pieces], dim=1), torch.cat([p.log_probs for p in pieces], dim=1)
    return Generated(audio, log_probs)


def generate_chunks(stream: Stream, num_samples: int | None, prime: Tensor | None = None) -> Iterator[Generated]:
    """Prime a new stream and run it to its end, the audio clipped to [-1, 1]. Everything is checked before it runs."""
    symbols = None if prime is None else _prime_symbols(stream.model, prime, stream.batch)
    num_samples = _length(stream, num_samples, 0 if symbols is None else symbols.shape[1])
    if symbols is not None:
        stream.prime(symbols)
    return stream.chunks(num_samples)


def _clips(given: Tensor | Sequence[Tensor] | Sequence[TimedLabel] | Sequence[Sequence[TimedLabel]] | None) -> int:
    """How many clips features or timed labels are given for; 1 if all clips share them."""
    if isinstance(given, Tensor):
        return max(1, len(given)) if given.dim() == 3 else 1
    if not isinstance(given, Sequence) or isinstance(given, str) or not given or isinstance(given[0], TimedLabel):
        return 1  # of all clips, or something that `condition` refuses
    return len(given)


def _length(stream: Stream, num_samples: int | None, primed: int) -> int:
    """How many samples to generate: `num_samples`, or as many as the features last."""
    if num_samples is not None:
        num_samples = check_count("num_samples", num_samples)
    features = stream.conditioning.features
    if features is None:
        if num_samples is None:
            raise ValueError("num_samples is missing; only features say how long to go on")
        return num_samples
    frames, hop = features.shape[2], stream.model.alignment.hop
    if num_samples is None and primed >= frames * hop:
        raise ValueError(f"features last {frames * hop} samples, no longer than prime, {primed}; shorten prime")
    total = primed + (num_samples or 1)
    if total > frames * hop:
        raise ValueError(f"features have {frames} frames; {total} samples at hop {hop} need {-(-total // hop)}")
    return num_samples or frames * hop - primed


def _prime_symbols(model: WaveNet, prime: Tensor, batch: int) -> Tensor:
    if isinstance(prime, list | tuple):
        raise ValueError("prime is a list; expected one tensor: torch.stack primes of one length, (batch, T)")
    check_waveform(prime, "prime")
    check_level(prime, "prime")
    waveforms = prime.expand(batch, -1) if prime.dim() == 1 else prime
    if waveforms.dim() != 2 or waveforms.shape[0] != batch or waveforms.shape[1] == 0:
        raise ValueError(f"prime has shape {tuple(prime.shape)}; expected (T,) or ({batch}, T) with T at least 1")
    return model.encode(waveforms.to(model.device))
