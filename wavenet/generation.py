"""Generate audio from a model: uniforms in, waveform out, whichever engine does the work."""

from collections.abc import Callable
from typing import Literal, overload

import torch
from torch import Tensor

from wavenet.engines import choose_engine
from wavenet.model import WaveNet
from wavenet.sampling import SamplingOptions

__all__ = ["generate"]

_CHUNK = 800
"""Samples between two reports of progress. Chunking changes nothing of the audio."""


@overload
def generate(
    model: WaveNet,
    num_samples: int,
    *,
    batch: int = ...,
    seed: int = ...,
    prime: Tensor | None = ...,
    temperature: float = ...,
    top_k: int | None = ...,
    top_p: float | None = ...,
    engine: str = ...,
    progress: Callable[[int], None] | None = ...,
    return_log_probs: Literal[False] = ...,
) -> Tensor: ...


@overload
def generate(
    model: WaveNet,
    num_samples: int,
    *,
    batch: int = ...,
    seed: int = ...,
    prime: Tensor | None = ...,
    temperature: float = ...,
    top_k: int | None = ...,
    top_p: float | None = ...,
    engine: str = ...,
    progress: Callable[[int], None] | None = ...,
    return_log_probs: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def generate(
    model: WaveNet,
    num_samples: int,
    *,
    batch: int = 1,
    seed: int = 0,
    prime: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    engine: str = "auto",
    progress: Callable[[int], None] | None = None,
    return_log_probs: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Generate `num_samples` new samples for each of `batch` streams: float32 in [-1, 1], `(B, T)`.

    Stream i draws its uniforms from a generator seeded `seed + i`, so it is what a batch of one with that seed
    gives. `prime` is a waveform `(T,)` or `(B, T)` to continue; without one the audio starts from silence. With
    `return_log_probs` also the model's log-probability of each sample, in nats, `(B, T)`: temperature and
    filters do not enter. `progress` is called with the number of samples per stream just made.

    Raises `ValueError` for impossible options.
    """
    options = SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    if num_samples < 1 or batch < 1:
        raise ValueError(f"num_samples is {num_samples} and batch {batch}; expected at least 1 of each")
    if not -(2**63) <= seed <= 2**64 - batch:
        raise ValueError(f"seed is {seed}; expected -2^63 to 2^64 - {batch}")
    runner = choose_engine(engine)(model, batch)
    if prime is not None:
        runner.prime(_prime_symbols(model, prime, batch))
    generators = [torch.Generator().manual_seed(seed + stream) for stream in range(batch)]
    symbols, log_probs = [], []
    for done in range(0, num_samples, _CHUNK):
        length = min(_CHUNK, num_samples - done)
        uniforms = torch.stack([torch.rand(length, generator=generator) for generator in generators])
        chunk, chunk_log_probs = runner.run(uniforms.to(model.device), options)
        symbols.append(chunk)
        log_probs.append(chunk_log_probs)
        if progress is not None:
            progress(length)
    audio = model.distribution.decode(torch.cat(symbols, dim=1))
    return (audio, torch.cat(log_probs, dim=1)) if return_log_probs else audio


def _prime_symbols(model: WaveNet, prime: Tensor, batch: int) -> Tensor:
    waveforms = prime.expand(batch, -1) if prime.dim() == 1 else prime
    if waveforms.dim() != 2 or waveforms.shape[0] != batch or waveforms.shape[1] == 0:
        raise ValueError(f"prime has shape {tuple(prime.shape)}; expected (T,) or ({batch}, T) with T at least 1")
    if not bool(torch.isfinite(waveforms).all()):
        raise ValueError("prime has samples that are not finite (NaN or infinity)")
    return model.distribution.encode(waveforms.to(model.device))
