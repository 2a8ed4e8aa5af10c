"""Make the parts of a model, and check custom ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from wavenet.network.acoustic import AcousticModel
from wavenet.network.alignment import Alignment
from wavenet.network.block import ResidualBlock
from wavenet.network.conditioning import Conditioner
from wavenet.network.config import WaveNetConfig
from wavenet.network.prediction import FeaturePredictor, PastPredictor, Predictor

ConditionerFactory = Callable[[WaveNetConfig], nn.Module | None]
"""Makes a module that replaces `Conditioner`; the docstring of that class says what the module must do."""

T = TypeVar("T")


def make_conditioner(config: WaveNetConfig) -> Conditioner | None:
    """The package's own conditioner, if the model is conditioned on anything."""
    if config.speaker_channels is None and config.features is None:
        return None
    biases = len(config.dilations) * config.gate_channels
    return Conditioner(
        config.conditioning,
        config.features,
        sum(map(len, config.known_labels.values())),
        config.speaker_channels,
        biases,
        len(config.tracks),
    )


def make_acoustic(config: WaveNetConfig, conditioner: nn.Module | None) -> AcousticModel | None:
    """The acoustic model, if the model takes timed labels."""
    if config.timed_labels is None:
        return None
    if type(conditioner) is not Conditioner:
        raise ValueError(f"timed_labels do not go with a custom conditioner, {type(conditioner).__name__}")
    assert config.features is not None
    return AcousticModel(config.timed_labels, config.features, config.sample_rate, config.speaker_channels)


def make_predictor(config: WaveNetConfig) -> Predictor | None:
    """The linear prediction that the configuration asks for."""
    prediction = config.prediction
    if prediction is None or prediction.source == "past":
        return None if prediction is None else PastPredictor(prediction)
    assert config.features is not None
    return FeaturePredictor(prediction, config.features, config.sample_rate, config.pre_emphasis)


def align(config: WaveNetConfig, conditioner: nn.Module | None, block: int) -> Alignment:
    """Place the conditioner's frames, their windows and the `block` of linear prediction on the sample axis."""
    frames = Alignment() if conditioner is None else attribute(conditioner, "alignment", Alignment)
    if config.features is None:
        return replace(frames, half_window=1 if config.pre_emphasis else 0, block=block)
    if frames.hop != config.features.hop:
        raise ValueError(
            f"the conditioner's alignment has a hop of {frames.hop} samples; expected that of the features, "
            f"{config.features.hop}"
        )
    return replace(frames, half_window=config.features.half_window, block=block)


def as_given(model: object, kind: type[T]) -> T:
    """The model itself if it is compiled; `ValueError` unless it is a `kind`."""
    plain = getattr(model, "_orig_mod", model)
    if not isinstance(plain, kind):
        hint = ": pass model.module" if isinstance(getattr(plain, "module", None), kind) else ""
        raise ValueError(f"model is a {type(plain).__name__}; expected a {kind.__name__}{hint}")
    return plain


def own_parts(blocks: Sequence[nn.Module], conditioner: nn.Module | None) -> dict[str, str]:
    """The classes of a custom `block` and `conditioner`, if there are any."""
    custom = {}
    for name, own, parts in (("block", ResidualBlock, blocks), ("conditioner", Conditioner, [conditioner])):
        for part in parts:
            part = getattr(part, "_orig_mod", part)  # of a compiled one
            if part is not None and type_before_parametrizations(part) is not own:
                custom[name] = type_before_parametrizations(part).__name__
    return custom


def attribute(part: nn.Module, name: str, kind: type[T]) -> T:
    """Return an attribute that a part must have; raise `ValueError` if it is missing."""
    value = getattr(part, name, None)
    if not isinstance(value, kind):
        raise ValueError(f"{type(part).__name__}.{name} is {value!r}; expected {kind.__name__}: see WaveNet")
    return value


def check_block_output(block: nn.Module, found: object, rows: tuple[int, int], residual: int, half: int) -> None:
    """Raise `ValueError` unless a custom block gave what `BlockFactory` says, for `rows` = `(B, T)`."""
    expected = [(*rows, residual), (*rows, half)]
    if not isinstance(found, tuple) or [getattr(part, "shape", None) for part in found] != expected:
        raise ValueError(
            f"{type(block).__name__}.forward gave {_describe(found)}; expected the next block's input {expected[0]} "
            f"and activations {expected[1]}"
        )


def check_biases(conditioner: nn.Module, found: object, length: int, channels: int) -> None:
    """Raise `ValueError` unless a custom conditioner gave `(B, length or 1, channels)`."""
    shape = tuple(found.shape) if isinstance(found, Tensor) else ()
    if len(shape) != 3 or shape[1] not in (1, length) or shape[2] != channels:
        raise ValueError(
            f"{type(conditioner).__name__}.forward gave {_describe(found)}; expected (B, {length} or 1, {channels})"
        )


def _describe(found: object) -> str:
    if isinstance(found, tuple):
        return "a tuple of " + (" and ".join(map(_describe, found)) or "nothing")
    return str(tuple(found.shape)) if isinstance(found, Tensor) else type(found).__name__
