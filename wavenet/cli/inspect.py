"""`wavenet inspect`: what a model or a recipe is."""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from wavenet.cli.options import AsJson
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet
from wavenet.recipe import load_recipe

__all__ = ["inspect"]


def inspect(
    path: Annotated[Path, typer.Argument(help="Model file (.safetensors) or recipe (.toml).")],
    as_json: AsJson = False,
) -> None:
    """Show the layers, the receptive field, the parameters and the multiply-adds per sample."""
    if path.suffix == ".toml":
        config = load_recipe(path).model
        with torch.device("meta"):
            network = WaveNet(config)
    else:
        network = WaveNet.from_pretrained(path)
    config = network.config
    layers = _layers(config)
    summary: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds_per_sample": network.multiply_adds,
        "receptive_field_samples": config.receptive_field,
        "receptive_field_ms": config.receptive_field / config.sample_rate * 1000,
    }
    if network.conditioner is not None and config.features is not None:
        summary["look_ahead_frames"] = network.conditioner.look_ahead
        summary["look_ahead_ms"] = network.look_ahead / config.sample_rate * 1000
    if as_json:
        print(json.dumps({"config": config.to_dict(), **summary, "layers": layers}, indent=2))
        return
    print(f"{'layer':>5}{'dilation':>10}{'sees samples':>14}{'ms':>10}")
    for layer in layers:
        print(f"{layer['layer']:>5}{layer['dilation']:>10}{layer['samples']:>14}{layer['ms']:>10.1f}")
    channels = f"{config.residual_channels}/{config.gate_channels}/{config.skip_channels}/{config.head_channels}"
    print(
        f"kernel {config.kernel_size}, residual/gate/skip/head channels {channels}, {config.distribution.kind} output"
    )
    field, milliseconds = summary["receptive_field_samples"], summary["receptive_field_ms"]
    print(f"receptive field {field:,} samples = {milliseconds:.1f} ms at {config.sample_rate} Hz")
    if config.speaker_channels:
        print(
            f"speakers: {', '.join(config.speakers) or f'a vector of {config.speaker_channels}, or as in the dataset'}"
        )
    if config.features is not None:
        print(
            f"features: {config.features.bins} log-mel bins, hop {config.features.hop}; looks "
            f"{summary['look_ahead_frames']} frames ahead, {summary['look_ahead_ms']:.1f} ms with half a window"
        )
    if config.prediction is not None:
        print(f"linear prediction from the {config.prediction.source}, order {config.prediction.order}")
    if config.pre_emphasis:
        print(f"pre-emphasis {config.pre_emphasis}")
    print(f"{summary['parameters']:,} parameters, {network.multiply_adds:,} multiply-adds per sample")


def _layers(config: WaveNetConfig) -> list[dict[str, Any]]:
    seen, layers = 1, []
    for number, dilation in enumerate(config.dilations, start=1):
        seen += (config.kernel_size - 1) * dilation
        layers.append({"layer": number, "dilation": dilation, "samples": seen, "ms": seen / config.sample_rate * 1000})
    return layers
