"""Copy-synthesis: a model turns clips' features back into speech, beside two references.

- Griffin-Lim from the same features (Griffin & Lim 1984, with momentum: Perraudin et al. 2013), without training;
- the µ-law round trip of the original, 256 classes, which is the best that 8 bits can give.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torchaudio import transforms

from wavenet.data import Clip, check_clips, clip_tracks, read_clip
from wavenet.engines import EngineOptions
from wavenet.evaluation.likelihood import CLASSES, clip_features, labels_of
from wavenet.generation import generate_scored
from wavenet.network import LogMelConfig, SamplingOptions, WaveNet, decode_mu_law, encode_mu_law

SYSTEMS = ("original", "model", "griffin_lim", "mu_law")
_ITERATIONS = 100

AnyClip = TypeVar("AnyClip", bound=Clip)


@dataclass(frozen=True)
class Copies(Generic[AnyClip]):
    """A clip, and the waveform `(T,)` of each of `SYSTEMS`: its own, and the copies of it."""

    clip: AnyClip
    audio: Mapping[str, Tensor]


def copy_clips(
    model: WaveNet,
    clips: Sequence[AnyClip],
    options: SamplingOptions,
    *,
    speaker: str | None = None,
    batch: int = 16,
    seed: int = 0,
    engine: str | EngineOptions = "auto",
    references: Sequence[str] = SYSTEMS[2:],
    progress: Callable[[int], None] = lambda samples: None,
) -> Iterator[Copies[AnyClip]]:
    """Generate each clip from its own features in batches, shortest clips first, and make the references.

    The clip at index i draws from seed + i in every batch. `references` are those of `SYSTEMS` to make. With `speaker`
    a multi-speaker model generates all clips as this speaker. Raises `ValueError` if the model takes no features or
    does not know a speaker.
    """
    log_mel = model.log_mel
    if log_mel is None:
        raise ValueError("the model is not conditioned on features, so it cannot copy clips; expected a vocoder")
    if unknown := set(references) - set(SYSTEMS[2:]):
        raise ValueError(f"references has {min(unknown)!r}; expected some of {', '.join(SYSTEMS[2:])}")
    check_clips(clips, model.config.sample_rate)
    for clip in clips:
        labels_of(model, clip, speaker)

    def copies() -> Iterator[Copies[AnyClip]]:
        numbered = sorted(enumerate(clips), key=lambda item: item[1].samples)
        for begin in range(0, len(numbered), batch):
            rows = numbered[begin : begin + batch]
            originals = [read_clip(clip) for _, clip in rows]
            labels = [labels_of(model, clip, speaker) for _, clip in rows]
            features = [
                clip_features(model, log_mel, clip, original.to(model.device), told)
                for (_, clip), original, told in zip(rows, originals, labels, strict=True)
            ]
            tracks = [own for _, clip in rows if (own := clip_tracks(clip, model.config)) is not None]
            generated = generate_scored(
                model,
                max(len(original) for original in originals),
                options,
                model.condition(len(rows), labels=labels, features=features, tracks=tracks or None),
                batch=len(rows),
                seed=[seed + index for index, _ in rows],
                engine=engine,
            ).audio.cpu()
            for row, (_, clip) in enumerate(rows):
                original = originals[row]
                audio = {"original": original, "model": generated[row, : len(original)]}
                if "griffin_lim" in references:
                    audio["griffin_lim"] = griffin_lim(
                        features[row].cpu(), log_mel.config, clip.sample_rate, len(original)
                    )
                if "mu_law" in references:
                    audio["mu_law"] = decode_mu_law(encode_mu_law(original, CLASSES), CLASSES)
                progress(len(original))
                yield Copies(clip, audio)

    return copies()


def griffin_lim(features: Tensor, config: LogMelConfig, sample_rate: int, samples: int, seed: int = 0) -> Tensor:
    """A waveform `(samples,)` whose spectrum has these log-mel features `(bins, F)`; it starts from random phases."""
    points = config.fft // 2 + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # empty mel bands
        to_spectrum = transforms.InverseMelScale(
            points, config.bins, sample_rate, config.low_hertz, config.high_hertz, config.norm, config.scale, "gelsd"
        )
    to_waveform = transforms.GriffinLim(config.fft, _ITERATIONS, config.window, config.hop, power=2.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        frames = max(features.shape[1], config.fft // config.hop + 2)  # fewer are too short to pad by reflection
        features = nn.functional.pad(features, (0, frames - features.shape[1]), value=config.silence)
        waveform: Tensor = to_waveform(to_spectrum((features * config.natural).exp()))
    return nn.functional.pad(waveform, (0, max(0, samples - len(waveform))))[:samples].clamp(-1, 1)
