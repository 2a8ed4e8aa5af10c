"""Reads the inputs of `wavenet generate`: the recording to continue, and the features to synthesise."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from wavenet.data import read_audio, resample
from wavenet.network import WaveNet, WaveNetConfig, read_features

_DEFAULT_SECONDS = 3.0


@dataclass(frozen=True)
class FeatureInput:
    """Features `(bins, F)` to synthesise, and how many samples they last."""

    features: Tensor
    samples: int


def read_prime(path: Path, seconds: float | None, rate: int) -> Tensor:
    """The recording to continue, `(T,)` at the model's rate, or its first seconds."""
    waveform = _read_at(path, rate)
    if seconds is None:
        return waveform
    if not 0 < seconds * rate <= len(waveform):
        raise ValueError(f"--prime-seconds is {seconds}; {path} has {len(waveform) / rate:.2f} seconds")
    return waveform[: max(1, round(seconds * rate))]


def read_feature_inputs(
    network: WaveNet, recordings: list[Path], feature_files: list[Path], streams: int
) -> list[FeatureInput]:
    """Read the features of each stream: the recordings', then the files'; a single one serves all streams."""
    log_mel, rate = network.log_mel, network.config.sample_rate
    if log_mel is None:
        if recordings or feature_files:
            raise ValueError("the model is not conditioned on features; leave --features and --features-from out")
        return []
    inputs = []
    for path in recordings:
        waveform = _read_at(path, rate)
        inputs.append(FeatureInput(log_mel(waveform[None])[0], len(waveform)))
    for path in feature_files:
        features = read_features(path, log_mel.config, rate)
        inputs.append(FeatureInput(features, features.shape[1] * log_mel.config.hop))
    if not inputs:
        raise ValueError("the model is conditioned on features; give them with --features-from or --features")
    return inputs * streams if len(inputs) == 1 else inputs


def new_samples(
    seconds: float | None, config: WaveNetConfig, inputs: list[FeatureInput], streams: int, before: int
) -> list[int]:
    """Count the samples to generate for each stream after `before` samples of prime: `seconds`, or all its features."""
    rate = config.sample_rate
    if seconds is None and inputs:
        shortest = min(one.samples for one in inputs)
        if shortest <= before:
            last, primed = shortest / rate, before / rate
            raise ValueError(f"the features last {last:.2f} s, no longer than --prime, {primed:.2f} s")
        return [one.samples - before for one in inputs]
    samples = max(1, round((_DEFAULT_SECONDS if seconds is None else seconds) * rate))
    if config.features is not None:
        hop, frames = config.features.hop, min(one.features.shape[1] for one in inputs)
        if before + samples > frames * hop:
            raise ValueError(
                f"{frames} frames of features last {frames * hop / rate:.2f} s; "
                f"--seconds {samples / rate:g} after {before / rate:.2f} s needs {-(-(before + samples) // hop)} frames"
            )
    return [samples] * streams


def _read_at(path: Path, rate: int) -> Tensor:
    """A recording at the model's rate, bounded to [-1, 1]."""
    waveform, source_rate = read_audio(path)
    try:
        return resample(waveform, source_rate, rate).clamp(-1, 1)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
