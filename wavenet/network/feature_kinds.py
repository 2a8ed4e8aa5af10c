"""Notice features of another kind than a model was trained on: another logarithm, magnitudes, or normalised ones."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.network.features import LogMelConfig
from wavenet.network.settings import STRICT

_SPEECH = -4.0, 4.0, 1.0
"""Mean, spread and roughness of log-mel power of speech, for a model file that does not know those of its training."""
_ENOUGH_FRAMES, _ENOUGH_BINS = 20, 16
"""Fewer say nothing about where they come from."""
_KINDS = {
    "natural logs of power": 1.0,
    "natural logs of magnitude": 2.0,
    "log10 of power": math.log(10),
    "log10 of magnitude": 2 * math.log(10),
    "decibels": math.log(10) / 10,
}
"""What to multiply each kind with to get natural logs of power."""
_CLOSE, _MARGIN, _FAR = 0.9, 0.4, 3.0


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


def foreign_features(features: Tensor, config: LogMelConfig, trained_on: FeatureStatistics | None) -> str | None:
    """One line about features `(bins, F)` that are unlike those a model was trained on; `None` if they are like them.

    A clip may be quieter or shorter than the corpus. So only another unit, which explains both mean and spread better
    by far, or a great distance from the corpus is taken for another kind.
    """
    if features.shape[0] < _ENOUGH_BINS or features.shape[1] < _ENOUGH_FRAMES:
        return None
    features = features.double()
    if bool((features <= config.silence).all()):
        return None  # silence is of every kind
    mean, spread, rough = (value / config.natural for value in _SPEECH)
    if trained_on is not None:
        mean, spread = (sum(values) / len(values) for values in (trained_on.mean, trained_on.spread))
        rough = trained_on.roughness
    own, variation = float(features.mean()), float(features.std(dim=1, correction=0).mean())
    found = f"the features have a mean of {own:.3g} and a spread of {variation:.3g}, those trained on {mean:.3g} and "
    found += f"{spread:.3g}; "
    if float(features.abs().max()) <= 1.0 and variation < spread / 2:
        return found + "they seem normalised to a range: undo it, x * (max - min) + min, and take the model's logarithm"
    if abs(own) < 0.3 and 0.7 < variation < 1.3 and float(features.mean(dim=1).abs().mean()) < 0.3 and spread > 1.6:
        return found + "they seem z-scored: multiply each band by its spread and add its mean"
    if variation > 0.3 and float(features.mean(dim=1).abs().max()) < 1e-3:
        return found + "each band's mean is 0, so its mean seems to be subtracted: add it again"

    own_roughness = _roughness(features)

    def distance(factor: float) -> float:
        converted = (features * factor).clamp(min=config.silence)
        return (
            abs(float(converted.mean()) - mean) / max(spread, 1e-9) / 2
            + _ratio(float(converted.std(dim=1, correction=0).mean()), spread)
            + _ratio(factor * own_roughness, rough)
        )

    distances = {kind: distance(factor / config.natural) for kind, factor in _KINDS.items()}
    likely = sorted(distances, key=distances.__getitem__)
    best, as_they_are = distances[likely[0]], distance(1.0)
    if best < _CLOSE and as_they_are > best + _MARGIN:
        doubt = _MARGIN if trained_on is None else _MARGIN / 2
        close = [kind for kind in likely if distances[kind] <= best + doubt]
        remedies = (f"{kind}: multiply them by {_KINDS[kind] / config.natural:.4g}" for kind in close)
        return found + f"they seem to be {', or '.join(remedies)}"
    if as_they_are > _FAR:
        if abs(float(features.max())) < 1e-3 and own < -10:
            factor = math.log(10) / 10 / config.natural
            found += f"they seem to be decibels below their maximum: add its decibels, multiply by {factor:.4g}; "
        return found + f"the model takes {config.kind}"
    return None


def _ratio(one: float, other: float) -> float:
    return abs(math.log(max(one, 1e-9) / max(other, 1e-9)))
