"""Notice features of another kind than a model was trained on: another logarithm, magnitudes, or normalised ones."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.network.features import LogMelConfig
from wavenet.network.settings import STRICT

_SPEECH = -3.5, 3.3, 0.95
"""Mean, spread and roughness of log-mel power of speech, for a model file that does not know those of its training."""
_ENOUGH_FRAMES, _ENOUGH_BINS = 20, 16
"""Fewer say nothing about where they come from."""
_KINDS = {
    "natural logs of power": 1.0,
    "natural logs of magnitude": 2.0,
    "log2 of power": math.log(2),
    "log2 of magnitude": 2 * math.log(2),
    "log10 of power": math.log(10),
    "log10 of magnitude": 2 * math.log(10),
    "decibels": math.log(10) / 10,
}
"""What to multiply each kind with to get natural logs of power."""
_CLOSE, _MARGIN, _FAR = 1.5, 0.4, 4.5
_TONAL = 0.8
"""Roughness of noise and of tones differs from that of speech by more than this factor, as a natural log."""
_SCALED = 0.5
"""Speech differs less than by this factor, as a natural log, in spread and roughness at once."""
_HEADROOM = 3.0
"""How far natural logs of power may lie above those of a sine of full scale, and it is no mistake."""


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """The mean and the spread (standard deviation over time) of each band, as a model was trained on them.

    `roughness` is how much neighbouring bands differ, a measure of the unit that knows no pauses and no level.
    """

    __pydantic_config__ = STRICT

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    roughness: float

    @classmethod
    def of(cls, clips: Iterable[Tensor]) -> "FeatureStatistics":
        """Those of clips' features `(bins, F)`."""
        frames = torch.cat([clip.double() for clip in clips], dim=1)
        means, spreads = frames.mean(dim=1), frames.std(dim=1, correction=0)
        return cls(mean=tuple(means.tolist()), spread=tuple(spreads.tolist()), roughness=_roughness(frames))


def _roughness(features: Tensor) -> float:
    """The median second difference of neighbouring bands `(bins, F)`, where none of the three is at the floor."""
    heard = features > features.min() + 1e-3
    three = heard[2:] & heard[1:-1] & heard[:-2]
    differences = (features[2:] - 2 * features[1:-1] + features[:-2]).abs()[three]
    return float(differences.median()) if len(differences) else 0.0


@dataclass(frozen=True)
class _Summary:
    """Mean, spread and roughness of features."""

    mean: float
    spread: float
    roughness: float

    @classmethod
    def of(cls, features: Tensor) -> "_Summary":
        return cls(float(features.mean()), float(features.std(dim=1, correction=0).mean()), _roughness(features))

    @classmethod
    def of_training(cls, config: LogMelConfig, trained_on: FeatureStatistics | None) -> "_Summary":
        if trained_on is None:
            return cls(*(value / config.natural for value in _SPEECH))
        mean, spread = (sum(values) / len(values) for values in (trained_on.mean, trained_on.spread))
        return cls(mean, spread, trained_on.roughness)

    def distance(self, other: "_Summary") -> float:
        """Speech differs most in its mean, and least in its roughness."""
        return (
            abs(self.mean - other.mean) / max(other.spread, 1e-9) / 2
            + abs(_ratio(self.spread, other.spread))
            + 3 * min(_TONAL, abs(_ratio(self.roughness, other.roughness)))
        )


def foreign_features(features: Tensor, config: LogMelConfig, trained_on: FeatureStatistics | None) -> str | None:
    """One line about features `(bins, F)` that are unlike those a model was trained on; `None` if they are like them.

    A clip may be quieter or shorter than the corpus. So only another unit, which explains mean, spread and roughness
    better by far, bands in reverse order, or a great distance from the corpus is taken for another kind.
    """
    if features.shape[0] < _ENOUGH_BINS or features.shape[1] < _ENOUGH_FRAMES:
        return None
    features = features.double()
    if bool((features <= config.silence).all()):
        return None  # silence is of every kind
    own, usual = _Summary.of(features), _Summary.of_training(config, trained_on)
    reasons = [
        _other_range(features, own, usual, config) or _other_unit(features, own, usual, config, trained_on is not None)
    ]
    varied = own.spread * usual.roughness > usual.spread * own.roughness / 2  # in any unit; a tone is not
    if varied and _is_reversed(features, trained_on):
        reasons.append("their bands seem to be in reverse order, the highest first: flip them")
    said = ", and ".join(reason for reason in reasons if reason)
    means = f"the features have a mean of {own.mean:.3g} and a spread of {own.spread:.3g}"
    return f"{means}, those trained on {usual.mean:.3g} and {usual.spread:.3g}; {said}" if said else None


def _other_range(features: Tensor, own: _Summary, usual: _Summary, config: LogMelConfig) -> str | None:
    """What was done to features so that they lie in a range of their own."""
    if float(features.abs().max()) <= 1.0 and own.spread < usual.spread / 2:
        return "they seem normalised to a range: undo it, x * (max - min) + min, and take the model's logarithm"
    means = features.mean(dim=1).abs()
    by_band = 0.7 < own.spread < 1.3 and float(means.mean()) < 0.3 and usual.spread > 1.6
    if (abs(own.mean) < 0.3 and by_band) or (abs(own.mean) < 1e-2 and abs(float(features.std()) - 1) < 1e-2):
        return "they seem z-scored: multiply each band by its spread and add its mean"
    if own.spread > 0.3 and float(means.max()) < 1e-3:
        return "each band's mean is 0, so its mean seems to be subtracted: add it again"
    if 0 <= float(features.min()) < float(features.max()) / 100:
        return "none is below 0, so they seem to have no logarithm: take the model's"
    if abs(float(features.max())) < 1e-3 and own.mean < -10:
        factor = math.log(10) / 10 / config.natural
        return f"they seem to be decibels below their maximum: add its decibels, multiply by {factor:.4g}"
    return None


def _other_unit(features: Tensor, own: _Summary, usual: _Summary, config: LogMelConfig, exactly: bool) -> str | None:
    """Which unit the features seem to have, if not the model's; `exactly` if what is usual is known of its training."""

    def distance(factor: float) -> float:
        converted = (features * factor).clamp(min=config.silence)
        spread = float(converted.std(dim=1, correction=0).mean())
        return _Summary(float(converted.mean()), spread, factor * own.roughness).distance(usual)

    distances = {kind: distance(factor / config.natural) for kind, factor in _KINDS.items()}
    likely = sorted(distances, key=distances.__getitem__)
    best, as_they_are = distances[likely[0]], distance(1.0)
    own_floor = float(features.min()) > config.silence - _MARGIN  # the quietest are as the model's may be
    if best < _CLOSE and as_they_are > best + (1.5 if own_floor else 0.75) * _MARGIN:
        doubt = _MARGIN / 2 if exactly else _MARGIN
        close = [kind for kind in likely if distances[kind] <= best + doubt]
        remedies = (f"{kind}: multiply them by {_KINDS[kind] / config.natural:.4g}" for kind in close)
        return f"they seem to be {', or '.join(remedies)}"
    if float(features.max()) * config.natural > math.log(config.fft * config.window) + _HEADROOM:
        return (
            "they are far above full scale, as those of samples in integers of 16 bits: subtract "
            f"{2 * math.log(32768) / config.natural:.4g}; the model takes {config.kind}"
        )
    scale, other = _ratio(own.spread, usual.spread), _ratio(own.roughness, usual.roughness)
    if min(abs(scale), abs(other)) > _SCALED and abs(scale - other) < _MARGIN:
        return f"they seem to be scaled by about {math.exp((scale + other) / 2):.2g} and shifted: undo it"
    return f"the model takes {config.kind}" if as_they_are > _FAR else None


def _is_reversed(features: Tensor, trained_on: FeatureStatistics | None) -> bool:
    """Whether the highest band seems to come first.

    Low bands take few points of the spectrum and vary more from band to band than high ones, in all but pure tones; and
    the bands' means fall, or are as in training.
    """
    half, means = len(features) // 2, features.mean(dim=1)
    usual = means.new_tensor(range(0, -len(means), -1) if trained_on is None else trained_on.mean)
    turned, straight = (float(torch.corrcoef(torch.stack([means, one]))[0, 1]) for one in (usual.flip(0), usual))
    return turned > max(0.0, straight) + _MARGIN / 2 and _roughness(features[half:]) > _roughness(features[:half])


def _ratio(one: float, other: float) -> float:
    return math.log(max(one, 1e-9) / max(other, 1e-9))
