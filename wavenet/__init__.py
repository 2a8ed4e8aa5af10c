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

    from wavenet.data import (
        Augmentation,
        Clip,
        HeldOut,
        PreparedDataset,
        TensorClip,
        load_folder,
        read_audio,
        read_timed_labels,
        read_tracks,
        tensor_clips,
        write_audio,
    )
    from wavenet.engines import EngineOptions
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
        TimedLabel,
        TimedLabelsConfig,
        Tracks,
        WaveNet,
        WaveNetConfig,
        decode_mu_law,
        encode_mu_law,
        multiply_adds,
    )
    from wavenet.shipped import ShippedModel, shipped_models
    from wavenet.training import TrainConfig, Trainer, train

_PACKAGES = ("shipped", "network", "data", "engines", "generation", "evaluation", "training")

__all__ = [
    "Augmentation",
    "Categorical",
    "CausalConv1d",
    "Clip",
    "ConditioningConfig",
    "Distribution",
    "EngineOptions",
    "FeatureStream",
    "GaussianMixture",
    "HeldOut",
    "LogMel",
    "LogMelConfig",
    "LogisticMixture",
    "Mixture",
    "PredictionConfig",
    "PreparedDataset",
    "ResidualBlock",
    "SamplingOptions",
    "ShippedModel",
    "TensorClip",
    "TimedLabel",
    "TimedLabelsConfig",
    "Tracks",
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
    "read_timed_labels",
    "read_tracks",
    "score_symbols",
    "shipped_models",
    "stream",
    "tensor_clips",
    "train",
    "write_audio",
]


def __getattr__(name: str) -> "Any":
    """Import a public name when it is first used, so that the command starts without torch."""
    import importlib

    for package in _PACKAGES if name in __all__ else ():
        module = importlib.import_module(f"wavenet.{package}")
        if name in module.__all__:
            return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
