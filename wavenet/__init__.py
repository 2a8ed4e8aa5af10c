"""WaveNet: raw-audio generation with causal dilated convolutions (van den Oord et al. 2016).

>>> from wavenet import WaveNet, WaveNetConfig, generate
>>> config = WaveNetConfig(cycles=2, layers_per_cycle=5, residual_channels=32)
>>> config.receptive_field
63
>>> model = WaveNet(config)
>>> generate(model, num_samples=80, seed=0).shape
torch.Size([1, 80])

Shapes: `(B, C, T)` is batch, channels, samples; waveforms are `(B, T)`, float32 in [-1, 1]; `F` counts frames.
"""

TYPE_CHECKING = False  # importing `typing` would double the time until the command handles Ctrl-C
if TYPE_CHECKING:
    from typing import Any

    from wavenet.data import Clip, PreparedDataset, TensorClip, load_folder, read_audio, tensor_clips, write_audio
    from wavenet.evaluation import evaluate, score_symbols
    from wavenet.generation import FeatureStream, generate, stream
    from wavenet.network import (
        Categorical,
        CausalConv1d,
        ConditioningConfig,
        Distribution,
        GaussianMixture,
        LogisticMixture,
        LogMel,
        LogMelConfig,
        Mixture,
        PredictionConfig,
        ResidualBlock,
        SamplingOptions,
        WaveNet,
        WaveNetConfig,
        decode_mu_law,
        encode_mu_law,
        multiply_adds,
    )
    from wavenet.training import TrainConfig, Trainer, train

_ROOMS = {
    "data": ("Clip", "PreparedDataset", "TensorClip", "load_folder", "read_audio", "tensor_clips", "write_audio"),
    "evaluation": ("evaluate", "score_symbols"),
    "generation": ("FeatureStream", "generate", "stream"),
    "network": (
        "Categorical",
        "CausalConv1d",
        "ConditioningConfig",
        "Distribution",
        "GaussianMixture",
        "LogMel",
        "LogMelConfig",
        "LogisticMixture",
        "Mixture",
        "PredictionConfig",
        "ResidualBlock",
        "SamplingOptions",
        "WaveNet",
        "WaveNetConfig",
        "decode_mu_law",
        "encode_mu_law",
        "multiply_adds",
    ),
    "training": ("TrainConfig", "Trainer", "train"),
}
"""Where the public names live. A name is imported when it is first used, so that the command starts without torch."""

_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Categorical",
    "CausalConv1d",
    "Clip",
    "ConditioningConfig",
    "Distribution",
    "FeatureStream",
    "GaussianMixture",
    "LogMel",
    "LogMelConfig",
    "LogisticMixture",
    "Mixture",
    "PredictionConfig",
    "PreparedDataset",
    "ResidualBlock",
    "SamplingOptions",
    "TensorClip",
    "TrainConfig",
    "Trainer",
    "WaveNet",
    "WaveNetConfig",
    "decode_mu_law",
    "encode_mu_law",
    "evaluate",
    "generate",
    "load_folder",
    "multiply_adds",
    "read_audio",
    "score_symbols",
    "stream",
    "tensor_clips",
    "train",
    "write_audio",
]


def __getattr__(name: str) -> "Any":
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"wavenet.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
