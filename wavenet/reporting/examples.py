"""What a model sounds like, for a reader: held-out clips beside what it makes of them, and what it says of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.data import PreparedClip, PreparedDataset, Source, from_int16
from wavenet.evaluation import copy_clips, speaker_of, spread
from wavenet.generation import generate
from wavenet.network import SamplingOptions, WaveNet, decode_mu_law, encode_mu_law

__all__ = ["Example", "Sound", "examples"]

_PRIME_SECONDS = 1.0
_SHORT_SECONDS = 1.5
"""Clips that are shorter are heard only where there are no others."""
_MOST_VOICES = 8
_SYSTEMS = {
    "model": ("Copied by the model", "from the original's features alone"),
    "griffin_lim": ("Griffin-Lim", "from the same features, without training"),
    "mu_law": ("µ-law, 256 classes", "the original in 8 bits"),
}


@dataclass(frozen=True)
class Sound:
    """A waveform `(T,)` in [-1, 1] at the model's sample rate, and how it came about."""

    title: str
    note: str
    waveform: Tensor


@dataclass(frozen=True)
class Example:
    """Sounds that belong together, beneath one heading; `note` says what a listener should know."""

    heading: str
    sounds: Sequence[Sound]
    speaker: str | None = None
    text: str | None = None
    note: str | None = None


def examples(
    model: WaveNet, held_out: Sequence[Source], clips: int, seconds: float, sampling: SamplingOptions, seed: int
) -> Iterator[Example]:
    """Of each dataset `clips` held-out clips, copied by a vocoder, else continued; and babble out of silence.

    What the model chooses the length of lasts `seconds`. The clips draw from `seed`, `seed` + 1, ... in their order,
    the voices of the babble too.
    """
    following = seed
    for source in held_out:
        longer = [clip for clip in source.clips if clip.samples > _SHORT_SECONDS * model.config.sample_rate]
        chosen = spread(longer or source.clips, clips) if clips else ()
        if model.log_mel is not None:
            yield from _copied(model, source.dataset, chosen, sampling, following)
        else:
            for index, clip in enumerate(chosen):
                yield _continued(model, source.dataset, clip, seconds, sampling, following + index)
        following += len(chosen)
    if model.log_mel is None:
        yield _babble(model, seconds, sampling, seed)


def _copied(
    model: WaveNet, dataset: PreparedDataset, clips: Sequence[PreparedClip], sampling: SamplingOptions, seed: int
) -> Iterator[Example]:
    for copies in copy_clips(model, dataset, clips, sampling, seed=seed):
        sounds = [Sound("The original", "", copies.original)]
        sounds += [Sound(title, note, copies.audio[system]) for system, (title, note) in _SYSTEMS.items()]
        yield Example(copies.clip.name, sounds, copies.clip.speaker, copies.clip.text)


def _continued(
    model: WaveNet, dataset: PreparedDataset, clip: PreparedClip, seconds: float, sampling: SamplingOptions, seed: int
) -> Example:
    rate, original = dataset.sample_rate, from_int16(dataset.read(clip))
    beginning = original[: max(1, min(round(_PRIME_SECONDS * rate), len(original) // 2))]
    speaker = speaker_of(model, clip)
    audio = generate(
        model,
        round(seconds * rate),
        speaker=speaker,
        prime=beginning.to(model.device),
        seed=seed,
        temperature=sampling.temperature,
    )[0]
    told = f", told that {speaker} speaks" if speaker else ""
    note = f"after {len(beginning) / rate:.1f} s of the original{told}"
    sounds = [
        Sound("The original", "", original),
        Sound("µ-law, 256 classes", "the original in 8 bits", decode_mu_law(encode_mu_law(original))),
        Sound("Continued by the model", note, torch.cat([beginning, audio.cpu()])),
    ]
    return Example(clip.name, sounds, clip.speaker, clip.text)


def _babble(model: WaveNet, seconds: float, sampling: SamplingOptions, seed: int) -> Example:
    """What the model says of its own, in each of its voices up to `_MOST_VOICES`."""
    voices = model.config.speakers[:_MOST_VOICES]
    if model.config.speaker_channels and not voices:
        return Example("Out of silence", [], note="Its speakers are vectors from outside, of which none is at hand.")
    audio = generate(
        model,
        round(seconds * model.config.sample_rate),
        batch=len(voices) or 1,
        speaker=voices or None,
        seed=seed,
        temperature=sampling.temperature,
    ).cpu()
    unheard = len(model.config.speakers) - len(voices)
    told = f" The first {len(voices)} of its {len(voices) + unheard} voices." if unheard else ""
    titles = [f"As {voice}" for voice in voices] or ["Generated"]
    sounds = [Sound(title, "from silence", row) for title, row in zip(titles, audio, strict=True)]
    return Example("Out of silence", sounds, note=f"Nothing tells the model what to say.{told}")
