"""The shape of a network, frozen and checked where it is built."""

import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Annotated, Any

from pydantic import Field, GetPydanticSchema, TypeAdapter, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator

from wavenet.network.acoustic import TimedLabelsConfig
from wavenet.network.conditioning import ConditioningConfig
from wavenet.network.distributions import Categorical, Distribution
from wavenet.network.features import LogMelConfig
from wavenet.network.mixtures import GaussianMixture, LogisticMixture
from wavenet.network.prediction import PredictionConfig
from wavenet.network.settings import STRICT, check_names, check_whole

KINDS = (Categorical, LogisticMixture, GaussianMixture)
"""The distributions that recipes and model files can name by their `kind`."""

_Known = Annotated[Categorical | LogisticMixture | GaussianMixture, Field(discriminator="kind")]


def _read_own(value: Any, known: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Read a distribution of a class that the validation's context lists; the package's own are left to `known`."""
    own = {kind.kind: kind for kind in (info.context or {}).get("distributions", ())}
    if isinstance(value, dict) and value.get("kind") in own:
        return TypeAdapter(own[value["kind"]]).validate_json(json.dumps(value))
    return known(value)


AnyDistribution = Annotated[
    Distribution,
    GetPydanticSchema(lambda _, schema_of: schema_of(_Known)),
    WrapValidator(_read_own),
]
"""Distributions in recipes and model files: the package's by `kind`, custom ones from classes that the reader has."""

_BOUNDS = {
    "sample_rate": (1000, 768000),
    "kernel_size": (2, 1024),
    "cycles": (1, 100),
    "layers_per_cycle": (1, 24),
    "residual_channels": (1, 65536),
    "gate_channels": (2, 65536),
    "skip_channels": (1, 65536),
    "head_channels": (1, 65536),
    "speaker_channels": (1, 65536),
}


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """The shape of a network. Dilations come from `cycles` of `layers_per_cycle` (1, 2, 4, ...) or as a list.

    `gate_channels` counts filter and gate together. `distribution` is what the output means: one of the package's, or a
    custom frozen dataclass with the methods of `Distribution`. `speakers` names the speakers of a multi-speaker
    model, and `labels` the values of other kinds of label, such as word or instrument; each is a vector of
    `speaker_channels`, and a clip's vectors are summed. With `speaker_channels` alone a speaker is a vector
    `(speaker_channels,)`. `features` switches local conditioning on, and `conditioning` details it; `timed_labels` adds
    an acoustic model, which makes features of labels; `tracks` names values over time, such as pitch, that go beside
    the features; `prediction` switches linear prediction on. `pre_emphasis` is the coefficient c of
    `y[t] = x[t] - c x[t - 1]`, applied before audio becomes symbols and undone afterwards.
    Raises `ValueError` if settings contradict each other.

    >>> config = WaveNetConfig(cycles=2, layers_per_cycle=3)
    >>> config.dilations, config.receptive_field
    ((1, 2, 4, 1, 2, 4), 15)
    >>> WaveNetConfig(dilations=(1, 3, 9), kernel_size=3).receptive_field
    27
    """

    __pydantic_config__ = STRICT

    sample_rate: int = 16000
    kernel_size: int = 2
    cycles: int | None = None
    layers_per_cycle: int | None = None
    dilations: Sequence[int] = field(default=())
    residual_channels: int = 64
    gate_channels: int = 128
    skip_channels: int = 256
    head_channels: int = 256
    distribution: AnyDistribution = Categorical()
    speakers: tuple[str, ...] = ()
    speaker_channels: int | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    features: LogMelConfig | None = None
    conditioning: ConditioningConfig = ConditioningConfig()
    prediction: PredictionConfig | None = None
    timed_labels: TimedLabelsConfig | None = None
    tracks: tuple[str, ...] = ()
    pre_emphasis: float = 0.0

    def __post_init__(self) -> None:
        off = {name for name in ("cycles", "layers_per_cycle", "speaker_channels") if getattr(self, name) is None}
        check_whole(self, **{name: bounds for name, bounds in _BOUNDS.items() if name not in off})
        if self.gate_channels % 2:
            raise ValueError(f"gate_channels is {self.gate_channels}; expected an even number (filter and gate)")
        object.__setattr__(self, "dilations", self._resolved_dilations())
        own = self.distribution
        if isinstance(own, type) or not is_dataclass(own) or not isinstance(getattr(own, "kind", None), str):
            raise ValueError(
                f"distribution is {own!r}; expected an object of a frozen dataclass with a field kind, "
                'such as kind: Literal["its_name"] = "its_name" (see Distribution)'
            )
        if not 0 <= self.pre_emphasis < 1:
            raise ValueError(f"pre_emphasis is {self.pre_emphasis}; expected from 0 (off) to below 1")
        self._check_conditioning()

    def _resolved_dilations(self) -> tuple[int, ...]:
        try:
            listed = tuple(map(operator.index, self.dilations))
        except TypeError as error:
            raise ValueError(f"dilations is {self.dilations!r}; expected whole numbers, one for each layer") from error
        if not listed and not isinstance(self.dilations, tuple):  # the default is a tuple
            raise ValueError("dilations is an empty list; expected a dilation for each layer, or leave it out")
        if len(listed) > 1000:
            raise ValueError(f"dilations lists {len(listed)} layers; expected at most 1000")
        for dilation in listed:
            if not 1 <= dilation <= 2**23:
                raise ValueError(f"dilations has {dilation}; expected whole numbers from 1 to {2**23}")
        if listed and self.cycles is None and self.layers_per_cycle is None:
            return listed
        cycles, layers = self.cycles or 3, self.layers_per_cycle or 10
        cycled = tuple(2**layer for _ in range(cycles) for layer in range(layers))
        if listed and listed != cycled:
            raise ValueError(
                f"dilations is a list of {len(listed)} that contradicts cycles = {cycles} with layers_per_cycle = "
                f"{layers} (1 to {2 ** (layers - 1)}); give one of them: "
                "dataclasses.replace takes dilations=() beside the cycles"
            )
        return cycled

    def _check_conditioning(self) -> None:
        for name, kind in (
            ("features", LogMelConfig),
            ("prediction", PredictionConfig),
            ("timed_labels", TimedLabelsConfig),
        ):
            if not isinstance(getattr(self, name), kind | None):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a {kind.__name__}, or None")
        object.__setattr__(self, "speakers", check_names(self.speakers, "speakers"))
        labels = {kind: check_names(names, f"labels.{kind}") for kind, names in self.labels.items()}
        object.__setattr__(self, "labels", labels)
        if "speaker" in labels:
            raise ValueError("labels has the kind speaker; name the speakers in speakers")
        if labels and self.speaker_channels is None:
            raise ValueError(f"labels has {', '.join(labels)} and speaker_channels is missing; 16 is usual")
        if self.features is None and self.conditioning != ConditioningConfig():
            raise ValueError("conditioning is set, and the model has no features for it; add them or leave it out")
        if self.speakers and self.speaker_channels is None:
            raise ValueError(f"speakers names {len(self.speakers)} and speaker_channels is missing; 16 is usual")
        if self.timed_labels is not None and self.features is None:
            raise ValueError("timed_labels are set, and the model has no features to make of them; add features")
        object.__setattr__(self, "tracks", check_names(self.tracks, "tracks"))
        if self.tracks and self.features is None:
            raise ValueError("tracks are set, and the model has no features for them to go beside; add features")
        if "seconds" in self.tracks:
            raise ValueError("tracks has the name 'seconds', which is that of their times; expected another")
        if self.features is not None:
            low, high = self.features.low_hertz, self.features.high_hertz or self.sample_rate / 2
            if not low < high <= self.sample_rate / 2:
                raise ValueError(
                    f"the mel bands reach from {low} to {high} Hz; expected them within half the sample rate, "
                    f"{self.sample_rate / 2} Hz"
                )
            hop, scales = self.features.hop, list(self.conditioning.scales)
            if self.conditioning.projection == "samples" and math.prod(scales) != hop:
                raise ValueError(
                    f"conditioning.scales are {scales}, whose product is {math.prod(scales)}; "
                    f"expected the features' hop, {hop}"
                )
        if self.prediction is not None and self.prediction.source == "features":
            if self.features is not None and (self.features.natural != 1 or not self.features.centred):
                raise ValueError(
                    f'prediction.source is "features", which must be centred natural logs of power, and they are '
                    f'{self.features.kind}; take "past"'
                )
            if self.features is None:
                raise ValueError('prediction.source is "features", and the model has none; add features or take "past"')
            if self.prediction.order > self.features.fft // 2:
                raise ValueError(
                    f"prediction.order is {self.prediction.order}; a window of {self.features.window} samples "
                    f"gives at most {self.features.fft // 2}"
                )
            if self.features.hop % self.prediction.block:
                raise ValueError(
                    f"prediction.block is {self.prediction.block} samples; expected a divisor of the hop, "
                    f"{self.features.hop}"
                )

    @property
    def known_labels(self) -> dict[str, tuple[str, ...]]:
        """The names of each kind of label that the model knows a clip by; speakers that are vectors have none."""
        speakers = {"speaker": self.speakers} if self.speakers else {}
        return {**speakers, **self.labels}

    @property
    def receptive_field(self) -> int:
        """How many input samples one output of the stack sees: 1 + (kernel_size - 1) * sum of the dilations."""
        return 1 + (self.kernel_size - 1) * sum(self.dilations)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that the configuration is read back from; the schedule is spelled out in `dilations`.

        A model without tracks leaves them out, as files of earlier versions do.
        """
        features = {} if self.features is None else {"features": self.features.to_dict()}
        values = {**asdict(self), **features}
        if not self.tracks:
            del values["tracks"]
        return {**values, "cycles": None, "layers_per_cycle": None, "dilations": list(self.dilations)}
