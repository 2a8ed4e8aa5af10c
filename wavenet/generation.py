"""Generate audio from a model: uniforms in, waveform out, whichever engine does the work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.conditioning import Conditioning
from wavenet.engines import choose_engine
from wavenet.model import WaveNet
from wavenet.sampling import SamplingOptions

__all__ = ["Generated", "generate", "generate_scored"]

_CHUNK = 800
"""Samples between two reports of progress. Chunking changes nothing of the audio."""


@dataclass(frozen=True)
class Generated:
    """`audio`: float32 in [-1, 1], `(B, T)`. `log_probs`: the model's own of each sample, in nats, `(B, T)`."""

    audio: Tensor
    log_probs: Tensor


def generate(
    model: WaveNet,
    num_samples: int | None = None,
    *,
    batch: int | None = None,
    speaker: str | Sequence[str] | Tensor | None = None,
    features: Tensor | Sequence[Tensor] | None = None,
    seed: int = 0,
    prime: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    engine: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Generate `num_samples` new samples for each of `batch` streams: float32 in [-1, 1], `(B, T)`.

    Stream i draws its uniforms from a generator seeded `seed + i`, so it is what a batch of one with that seed
    gives. `prime` is a waveform `(T,)` or `(B, T)` to continue; without one the audio starts from silence.
    `speaker` and `features` are what `WaveNet.condition` takes. With features a clip lasts as long as its frames,
    F * hop samples, unless `num_samples` says less; in a batch of different lengths the shorter rows go on in
    silence to the longest's end. `progress` is called with the number of samples per stream just made.

    Raises `ValueError` for impossible options.
    """
    batch = _batch(batch, features)
    return generate_scored(
        model,
        num_samples,
        SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p),
        model.condition(batch, speaker=speaker, features=features),
        batch=batch,
        seed=seed,
        prime=prime,
        engine=engine,
        progress=progress,
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
    engine: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Generated:
    """`generate` with the log-probability of each sample; temperature and filters do not enter into it.

    `seed` may be a list, one for each stream.
    """
    seeds = [seed + stream for stream in range(batch)] if isinstance(seed, int) else seed
    primed = torch.zeros(batch, 0, dtype=torch.long, device=model.device)
    if prime is not None:
        primed = _prime_symbols(model, prime, batch)
    num_samples = _length(model, conditioning, num_samples, primed.shape[1])
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; expected at least 1")
    if not all(-(2**63) <= stream_seed < 2**64 for stream_seed in seeds):
        raise ValueError(f"seed is {seed}; expected -2^63 to 2^64 - {batch}")
    runner = choose_engine(engine)(model, batch, conditioning)
    previous = None
    if primed.shape[1]:
        runner.prime(primed)
        previous = model.decode(primed)[:, -1]
    generators = [torch.Generator().manual_seed(stream_seed) for stream_seed in seeds]
    audio, log_probs = [], []
    for done in range(0, num_samples, _CHUNK):
        length = min(_CHUNK, num_samples - done)
        uniforms = torch.stack([torch.rand(length, generator=generator) for generator in generators])
        symbols, chunk_log_probs = runner.run(uniforms.to(model.device), options)
        if not bool(chunk_log_probs.isfinite().all()):
            raise ValueError("the model gives its own sample no finite likelihood; its weights are damaged or diverged")
        audio.append(model.decode(symbols, previous))
        previous = audio[-1][:, -1]
        log_probs.append(chunk_log_probs)
        if progress is not None:
            progress(length)
    return Generated(torch.cat(audio, dim=1).clamp(-1, 1), torch.cat(log_probs, dim=1))


def _batch(batch: int | None, features: Tensor | Sequence[Tensor] | None) -> int:
    if batch is not None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; expected at least 1")
        return batch
    if features is None or (isinstance(features, Tensor) and features.dim() == 2):
        return 1
    return len(features)


def _length(model: WaveNet, conditioning: Conditioning, num_samples: int | None, primed: int) -> int:
    """How many samples to generate: what is asked for, or what the features last for."""
    if conditioning.features is None or model.config.features is None:
        if num_samples is None:
            raise ValueError("num_samples is missing; only a model conditioned on features knows how long to go on")
        return num_samples
    frames, hop = conditioning.features.shape[2], model.config.features.hop
    if num_samples is None:
        return frames * hop - primed
    if primed + num_samples > frames * hop:
        needed = -(-(primed + num_samples) // hop)
        raise ValueError(f"features have {frames} frames; {primed + num_samples} samples at hop {hop} need {needed}")
    return num_samples


def _prime_symbols(model: WaveNet, prime: Tensor, batch: int) -> Tensor:
    waveforms = prime.expand(batch, -1) if prime.dim() == 1 else prime
    if waveforms.dim() != 2 or waveforms.shape[0] != batch or waveforms.shape[1] == 0:
        raise ValueError(f"prime has shape {tuple(prime.shape)}; expected (T,) or ({batch}, T) with T at least 1")
    if not bool(torch.isfinite(waveforms).all()):
        raise ValueError("prime has samples that are not finite (NaN or infinity)")
    return model.encode(waveforms.to(model.device))
