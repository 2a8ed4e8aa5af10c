"""Audio that shows what a model does: held-out clips beside its copies or continuations, and audio from silence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.data import PreparedClip, pick_clips
from wavenet.evaluation import copy_clips, labels_of, missing_packages, opinion
from wavenet.generation import generate
from wavenet.network import SamplingOptions, WaveNet, decode_mu_law, encode_mu_law
from wavenet.training import Selection

_PRIME_SECONDS = 1.0
_SHORT_SECONDS = 1.5
"""Shorter clips are chosen only if there are no others."""
_MOST_SPEAKERS = 8
_SYSTEMS = {
    "original": ("The original", ""),
    "model": ("Copied by the model", "from the original's features alone"),
    "griffin_lim": ("Griffin-Lim", "from the same features, without training"),
    "mu_law": ("µ-law, 256 classes", "the original in 8 bits"),
}


@dataclass(frozen=True)
class Sound:
    """A waveform `(T,)` in [-1, 1] at the model's sample rate, and a `note` on how it was made."""

    title: str
    note: str
    waveform: Tensor


@dataclass(frozen=True)
class Example:
    """Sounds under one heading; `note` says what a listener should know."""

    heading: str
    sounds: Sequence[Sound]
    speaker: str | None = None
    text: str | None = None
    note: str | None = None


def examples(
    model: WaveNet, held_out: Sequence[Selection], clips: int, seconds: float, sampling: SamplingOptions, seed: int
) -> Iterator[Example]:
    """For each dataset `clips` held-out clips, which a vocoder copies and another model continues; then babble.

    Continuations and babble last `seconds`. The clips draw from `seed`, `seed` + 1, ... in their order, and so do the
    speakers of the babble.
    """
    following = seed
    for source in held_out:
        longer = [clip for clip in source.clips if clip.samples > _SHORT_SECONDS * model.config.sample_rate]
        chosen = pick_clips(longer or source.clips, clips) if clips else ()
        if model.log_mel is not None and chosen:
            yield from _copied(model, chosen, sampling, following)
        else:
            for index, clip in enumerate(chosen):
                yield _continued(model, clip, seconds, sampling, following + index)
        following += len(chosen)
    if model.log_mel is None:
        yield _babble(model, seconds, sampling, seed)


def _copied(model: WaveNet, clips: Sequence[PreparedClip], sampling: SamplingOptions, seed: int) -> Iterator[Example]:
    for copies in copy_clips(model, clips, sampling, seed=seed):
        sounds = [
            Sound(title, _with_opinion(note, copies.audio[system], model.config.sample_rate), copies.audio[system])
            for system, (title, note) in _SYSTEMS.items()
        ]
        yield Example(copies.clip.name, sounds, copies.clip.speaker, copies.clip.text)


def _with_opinion(note: str, waveform: Tensor, sample_rate: int) -> str:
    """The note, and what listeners would say of the waveform, if the packages for that are installed."""
    if missing_packages():
        return note
    scores = opinion(waveform, sample_rate)
    said = [
        f"{name} {score:.2f}" for name, score in (("DNSMOS", scores.ovrl), ("PLCMOS", scores.plcmos)) if score == score
    ]
    return "; ".join(part for part in (note, ", ".join(said)) if part)


def _continued(model: WaveNet, clip: PreparedClip, seconds: float, sampling: SamplingOptions, seed: int) -> Example:
    rate, original = clip.sample_rate, clip.read()
    beginning = original[: max(1, min(round(_PRIME_SECONDS * rate), len(original) // 2))]
    labels = labels_of(model, clip)
    audio = generate(
        model,
        round(seconds * rate),
        labels=labels,
        prime=beginning.to(model.device),
        seed=seed,
        temperature=sampling.temperature,
    )[0]
    told = "".join(f", with the {kind} {name}" for kind, name in labels.items())
    note = f"after {len(beginning) / rate:.1f} s of the original{told}"
    sounds = [
        Sound("The original", "", original),
        Sound("µ-law, 256 classes", "the original in 8 bits", decode_mu_law(encode_mu_law(original))),
        Sound("Continued by the model", note, torch.cat([beginning, audio.cpu()])),
    ]
    return Example(clip.name, sounds, clip.speaker, clip.text)


def _babble(model: WaveNet, seconds: float, sampling: SamplingOptions, seed: int) -> Example:
    """Audio from silence as each of the model's speakers, up to `_MOST_SPEAKERS`."""
    speakers, known = model.config.speakers[:_MOST_SPEAKERS], model.config.known_labels
    if model.config.speaker_channels and not known:
        return Example(
            "From silence", [], note="The model takes speakers as vectors, and there is none here to give it."
        )
    audio = generate(
        model,
        round(seconds * model.config.sample_rate),
        batch=len(speakers) or 1,
        speaker=speakers or None,
        labels={kind: names[0] for kind, names in known.items() if kind != "speaker"},
        seed=seed,
        temperature=sampling.temperature,
    ).cpu()
    more = len(model.config.speakers)
    told = f" The first {len(speakers)} of its {more} speakers." if more > len(speakers) else ""
    titles = [f"As {speaker}" for speaker in speakers] or ["Generated"]
    sounds = [Sound(title, "from silence", row) for title, row in zip(titles, audio, strict=True)]
    return Example("From silence", sounds, note=f"Nothing tells the model what to say.{told}")
