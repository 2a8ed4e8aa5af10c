"""Notice features of another kind than a model was trained on: another logarithm, magnitudes, or normalised ones."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wavenet.network.features import LogMelConfig
from wavenet.network.settings import STRICT

_SPEECH = -3.5, 3.3, 0.95
"""Mean, spread and roughness of natural logs of mel power of speech, for model files without statistics."""
_ENOUGH_FRAMES, _ENOUGH_BINS = 20, 16
"""Features with fewer frames or bins are not judged."""
_KINDS = {
    "natural logs of power": 1.0,
    "natural logs of magnitude": 2.0,
    "log10 of power": math.log(10),
    "log10 of magnitude": 2 * math.log(10),
    "decibels": math.log(10) / 10,
}
"""The factor that converts each kind to natural logs of power; log2 (1.443) is too close to 1 to be told from noise."""
_BY_BAND = "z-scored by band: multiply each band by its spread and add its mean"
_AS_A_WHOLE = "z-scored as a whole: multiply them by the spread of all values and add the mean of all"
_SCALED = 2.0
"""Features are scaled if their spread and their roughness both differ from the usual by this factor or more."""
_SAME_MEAN, _SAME_SPREAD, _SAME_ROUGHNESS = 0.75, 1.8, 1.2
"""Clean speech in one unit differs from the usual by less: in its mean by this many spreads, else by this factor."""
_Z_SCORED = 0.3
"""The mean of a clip differs from 0 by less than this, and its spread from 1, if its corpus was z-scored."""
_EXACT_MEAN, _EXACT_SPREAD = 1e-3, 0.03
"""A mean or maximum this close to 0 was set to 0, and a spread this close to 1 was set to 1."""
_PEAKED = 10.0
"""The largest power or magnitude exceeds the median by more than this factor, unlike the largest logarithm."""
_TURNED = 0.2
"""Band means correlate better with the usual ones in reverse order by at least this much if bands are reversed."""


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """The mean and the spread (standard deviation over time) of each band, as a model was trained on them.

    `roughness` is how much neighbouring bands differ. It depends on the unit, and hardly on noise, pauses or level.
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


class _Summary(NamedTuple):
    """Mean, spread and roughness of features."""

    mean: float
    spread: float
    roughness: float

    @classmethod
    def of(cls, statistics: FeatureStatistics) -> "_Summary":
        mean, spread = (sum(values) / len(values) for values in (statistics.mean, statistics.spread))
        return cls(mean, spread, statistics.roughness)

    def scale(self, usual: "_Summary") -> float | None:
        """The factor that features of this summary were multiplied with, if spread and roughness agree on one."""
        spread, roughness = _ratio(self.spread, usual.spread), _ratio(self.roughness, usual.roughness)
        scaled = min(spread, roughness) >= _SCALED or max(spread, roughness) <= 1 / _SCALED
        return math.sqrt(spread * roughness) if scaled and _near(spread, roughness, _SAME_SPREAD) else None

    def resembles(self, usual: "_Summary") -> bool:
        """Whether mean, spread and roughness are each as usual."""
        return (
            abs(self.mean - usual.mean) < _SAME_MEAN * usual.spread
            and _near(self.spread, usual.spread, _SAME_SPREAD)
            and _near(self.roughness, usual.roughness, _SAME_ROUGHNESS)
        )


def foreign_features(features: Tensor, config: LogMelConfig, trained_on: FeatureStatistics | None) -> str | None:
    """One line about features `(bins, F)` of another kind than a model was trained on; `None` if there is no sign.

    A clip may be noisier, quieter or shorter than the corpus. Another unit is named only if mean, spread and roughness
    all agree with it.
    """
    if features.shape[0] < _ENOUGH_BINS or features.shape[1] < _ENOUGH_FRAMES:
        return None
    features = features.double()
    if bool((features <= config.silence).all()):
        return None  # silence is of every kind
    own = _Summary.of(FeatureStatistics.of([features]))
    usual = _Summary.of(trained_on) if trained_on else _Summary(*(value / config.natural for value in _SPEECH))
    reasons = [_other_range(features, own, usual, config) or _other_unit(features, own, usual, config)]
    varied = own.spread * usual.roughness > usual.spread * own.roughness / 2  # unlike a tone
    if varied and _is_reversed(features, trained_on):
        reasons.append("their bands seem to be in reverse order, the highest first: flip them")
    said = ", and ".join(reason for reason in reasons if reason)
    found = f"the features have a mean of {own.mean:.3g} and a spread of {own.spread:.3g}"
    return f"{found}, those trained on {usual.mean:.3g} and {usual.spread:.3g}; {said}" if said else None


def _other_range(features: Tensor, own: _Summary, usual: _Summary, config: LogMelConfig) -> str | None:
    """How the features seem to have been scaled to a range; `None` if they were not."""
    largest, means = float(features.max()), features.mean(dim=1).abs()
    if float(features.min()) >= 0 and largest > _PEAKED * float(features[features > 0].median()):
        return "none is below 0 and most are far below the largest, so they seem to have no logarithm: take the model's"
    shrunk = own.spread < usual.spread / _SCALED and own.roughness < usual.roughness / _SCALED
    if shrunk and float(features.abs().max()) <= 1.0:
        return "they seem normalised to a range: undo it, x * (max - min) + min, and take the model's logarithm"
    if own.spread > 0 and float(means.max()) < _EXACT_MEAN:
        if abs(float(features.std(dim=1).median()) - 1) < _EXACT_SPREAD:
            return f"they seem to be {_BY_BAND}"
        return "each band's mean is 0, so its mean seems to be subtracted: add it again"
    if abs(own.mean) < _EXACT_MEAN and abs(float(features.std()) - 1) < _EXACT_SPREAD:
        return f"they seem to be {_AS_A_WHOLE}"
    factor = _KINDS["decibels"] / config.natural
    if abs(largest) < _EXACT_MEAN and _near(own.roughness * factor, usual.roughness, _SCALED):
        return f"they seem to be decibels below their maximum: add its decibels, multiply by {factor:.4g}"
    return None


def _other_unit(features: Tensor, own: _Summary, usual: _Summary, config: LogMelConfig) -> str | None:
    """Which unit the features seem to have, if not the model's."""
    factors = {kind: natural / config.natural for kind, natural in _KINDS.items()}
    seem = [
        f"{kind}: multiply them by {factor:.4g}"
        for kind, factor in factors.items()
        if not 1 / _SCALED < factor < _SCALED
        and _Summary.of(FeatureStatistics.of([(features * factor).clamp(min=config.silence)])).resembles(usual)
    ]
    scale = own.scale(usual)
    if scale and abs(own.mean) < _Z_SCORED and abs(float(features.std()) - 1) < _Z_SCORED:
        seem += [_BY_BAND, _AS_A_WHOLE]
    if not seem and scale:
        seem.append(f"scaled by about {scale:.2g}, and perhaps shifted: the model takes {config.kind}")
    if seem:
        return f"they seem to be {', or '.join(seem)}"
    shift = 2 * math.log(32768) / config.natural  # more than full scale has
    if float(features.max()) < shift or not _near(own.roughness, usual.roughness, _SCALED):
        return None
    return f"they are far above full scale, as those of samples in integers of 16 bits: subtract {shift:.4g}"


def _is_reversed(features: Tensor, trained_on: FeatureStatistics | None) -> bool:
    """Whether the highest band seems to come first.

    Neighbouring low bands differ more than high ones, as they take fewer points of the spectrum. The bands' means fall,
    or are as in training.
    """
    half, means = len(features) // 2, features.mean(dim=1)
    usual = means.new_tensor(range(0, -len(means), -1) if trained_on is None else trained_on.mean)
    turned, straight = (float(torch.corrcoef(torch.stack([means, one]))[0, 1]) for one in (usual.flip(0), usual))
    return turned > max(0.0, straight) + _TURNED and _roughness(features[half:]) > _roughness(features[:half])


def _ratio(one: float, other: float) -> float:
    return max(one, 1e-9) / max(other, 1e-9)


def _near(one: float, other: float, factor: float) -> bool:
    return 1 / factor < _ratio(one, other) < factor
