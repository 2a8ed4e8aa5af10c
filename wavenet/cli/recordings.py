"""Reads the inputs of `wavenet generate`: the recording to continue, what to say, and the features to synthesise."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from wavenet.data import fit_full_scale, read_audio, read_timed_labels, read_tracks, resample
from wavenet.network import Conditioning, TimedLabel, WaveNet, WaveNetConfig, foreign_features, read_features

_DEFAULT_SECONDS = 3.0
_LONGEST_SECONDS = 86400


@dataclass(frozen=True)
class FeatureInput:
    """Features `(bins, F)` to synthesise, and how many samples they last."""

    features: Tensor
    samples: int


def read_prime(path: Path, seconds: float | None, rate: int) -> Tensor:
    """The recording to continue, `(T,)` at the model's rate, or its first seconds."""
    waveform = read_recording(path, rate)
    if seconds is None:
        return waveform
    if not 0 < seconds * rate <= len(waveform):
        raise ValueError(f"--prime-seconds is {seconds}; {path} has {len(waveform) / rate:.2f} seconds")
    return waveform[: max(1, round(seconds * rate))]


def named_labels(label: list[str], speaker: str | None) -> dict[str, str]:
    """The names by kind that `--label` and `--speaker` give."""
    labels: dict[str, str] = {}
    for text in [*label, *([] if speaker is None else [f"speaker={speaker}"])]:
        kind, equals, name = text.partition("=")
        if not kind or not equals:
            raise ValueError(f"--label is {text!r}; expected KIND=NAME, such as speaker=theo")
        if kind in labels:
            raise ValueError(f"--label gives the {kind} twice, {labels[kind]!r} and {name!r}; expected one")
        labels[kind] = name
    return labels


def said_labels(say: str | None, score: Path | None, tier: str | None) -> tuple[TimedLabel, ...]:
    """The labels of `--say` or of `--score`; none without them."""
    if score is not None:
        return read_timed_labels(score, tier=tier)
    return () if say is None else _spelled_labels(say)


def _spelled_labels(text: str) -> tuple[TimedLabel, ...]:
    """The labels that `seven:0.45 :0.2 nine:0.5` spells, one after the other; one without a name is a pause."""
    labels: list[TimedLabel] = []
    now = 0.0
    for word in text.split():
        name, _, seconds = word.rpartition(":")
        try:
            after = now + float(seconds)
            labels.append(TimedLabel(now, after, name))
        except ValueError as error:
            raise ValueError(f"--say has {word!r}; expected NAME:SECONDS, such as seven:0.45") from error
        now = after
    if now > _LONGEST_SECONDS:
        raise ValueError(f"--say lasts {now:g} seconds; expected up to {_LONGEST_SECONDS} (a day)")
    if not any(label.name for label in labels):
        raise ValueError(f"--say is {text!r}; expected labels NAME:SECONDS, such as 'seven:0.45 nine:0.5'")
    return tuple(labels)


def read_feature_inputs(
    network: WaveNet,
    recordings: list[Path],
    feature_files: list[Path],
    streams: int,
    said: tuple[TimedLabel, ...] = (),
    labels: Mapping[str, str] | None = None,
) -> list[FeatureInput]:
    """Features of each stream: the recordings', then the files', or of what is `said`; a single one serves all."""
    log_mel, rate = network.log_mel, network.config.sample_rate
    if said:
        features = network.features_of(said, labels=labels)
        return [FeatureInput(features, max(1, round(said[-1].end * rate)))] * streams
    if log_mel is None:
        if recordings or feature_files:
            raise ValueError("the model is not conditioned on features; leave --features and --features-from out")
        return []
    inputs = []
    for path in recordings:
        waveform = read_recording(path, rate)
        inputs.append(FeatureInput(log_mel(waveform[None])[0], len(waveform)))
    for path in feature_files:
        features = read_features(path, log_mel.config, rate)
        foreign = foreign_features(features, log_mel.config, network.feature_statistics)
        if foreign is not None:
            print(f"note: {path}: {foreign}", file=sys.stderr)
        inputs.append(FeatureInput(features, features.shape[1] * log_mel.config.hop))
    if not inputs:
        if network.config.timed_labels is not None:
            names = ", ".join(network.config.timed_labels.names)
            raise ValueError(f"the model says what it is told; tell it with --say or --score; it knows {names}")
        raise ValueError("the model is conditioned on features; give them with --features-from or --features")
    return inputs * streams if len(inputs) == 1 else inputs


def new_samples(
    seconds: float | None, config: WaveNetConfig, inputs: list[FeatureInput], before: list[int]
) -> list[int]:
    """Count the samples to generate for each stream after its samples of prime: `seconds`, or all its features."""
    rate = config.sample_rate
    if seconds is None and inputs:
        for one, primed in zip(inputs, before, strict=True):
            if one.samples <= primed:
                raise ValueError(
                    f"the features last {one.samples / rate:.2f} s, no longer than --prime, {primed / rate:.2f} s"
                )
        return [one.samples - primed for one, primed in zip(inputs, before, strict=True)]
    samples = max(1, round((_DEFAULT_SECONDS if seconds is None else seconds) * rate))
    if config.features is not None:
        for one, primed in zip(inputs, before, strict=True):
            hop, frames = config.features.hop, one.features.shape[1]
            if primed + samples > frames * hop:
                raise ValueError(
                    f"{frames} frames of features last {frames * hop / rate:.2f} s; --seconds {samples / rate:g} "
                    f"after {primed / rate:.2f} s needs {-(-(primed + samples) // hop)} frames"
                )
    return [samples] * len(before)


def read_track_inputs(network: WaveNet, paths: list[Path], inputs: list[FeatureInput]) -> list[Tensor] | None:
    """The tracks at the frames of each stream's features, a single file serves all; `None` if the model takes none."""
    names = network.config.tracks
    if paths and not names:
        raise ValueError("the model takes no tracks; leave --tracks out")
    if not names:
        return None
    if not paths:
        raise ValueError(f"the model takes the tracks {', '.join(names)}; give them with --tracks")
    rows, frames_per_second = [], network.config.sample_rate / network.alignment.hop
    for path, one in zip(paths * len(inputs) if len(paths) == 1 else paths, inputs, strict=True):
        tracks = read_tracks(path, names)
        try:
            rows.append(tracks.at(names, one.features.shape[1], frames_per_second))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return rows


def lasting(conditioning: Conditioning, hop: int, samples: int) -> Conditioning:
    """The conditioning, with silence behind its features up to so many samples."""
    if conditioning.features is None:
        return conditioning
    missing = max(0, -(-samples // hop) - conditioning.features.shape[2])
    padded = functional.pad(conditioning.features, (0, missing), value=conditioning.silence)
    return replace(conditioning, features=padded)


def read_recording(path: Path, rate: int) -> Tensor:
    """A recording at the model's rate, in [-1, 1]. How that changes it is said on standard error."""

    def note(message: str) -> None:
        print(f"note: {message}", file=sys.stderr)

    waveform, source_rate = read_audio(path, note=note)
    try:
        waveform = resample(waveform, source_rate, rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return fit_full_scale(waveform, path, note)
