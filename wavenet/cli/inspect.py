"""`wavenet inspect`: what a model or a recipe is."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from wavenet.cli.options import AsJson, Force, check_output
from wavenet.network import WaveNet, WaveNetConfig, describe_sight, layer_table, measure_reach, multiply_adds, seen_lags
from wavenet.reporting import draw_cone, picture_kind, save
from wavenet.training import load_recipe

__all__ = ["inspect"]

_MOST_WORK = 2**24
"""Samples, taps and layers multiplied, up to which a picture takes seconds."""


def inspect(
    path: Annotated[Path, typer.Argument(help="Model file (.safetensors) or recipe (.toml).")],
    plot: Annotated[
        Path | None, typer.Option(help="Also draw which inputs reach the output: .svg, .png or .pdf.")
    ] = None,
    force: Force = False,
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
    layers = layer_table(config)
    summary: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds_per_sample": multiply_adds(network),
        "receptive_field_samples": config.receptive_field,
        "receptive_field_ms": config.receptive_field / config.sample_rate * 1000,
    }
    if network.conditioner is not None and config.features is not None:
        summary["look_ahead_frames"] = network.alignment.look_ahead
        ahead = network.alignment.look_ahead * config.features.hop + config.features.window // 2
        summary["look_ahead_ms"] = ahead / config.sample_rate * 1000
    seen = seen_lags(config)
    if seen is not None:
        summary["unseen_samples"] = int((~seen).sum())
    if plot is not None:
        _plot(config, seen, plot, force)
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
    print(describe_sight(network))
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
    print(f"{summary['parameters']:,} parameters, {multiply_adds(network):,} multiply-adds per sample")


def _plot(config: WaveNetConfig, seen: Tensor | None, path: Path, force: bool) -> None:
    picture_kind(path)
    check_output(path, force)
    work = config.receptive_field * config.kernel_size * len(config.dilations)
    if seen is None or work > _MOST_WORK:
        raise ValueError(
            f"the receptive field is {config.receptive_field:,} samples, over {len(config.dilations)} layers of "
            f"{config.kernel_size} taps: too much to draw input by input; leave --plot out"
        )
    measured = measure_reach(config.dilations, config.kernel_size)
    save(draw_cone(config.dilations, config.kernel_size, config.sample_rate), path)
    agree = "by counting paths and by gradient of a small network of this schedule"
    if not torch.equal(measured, seen):  # a gradient over hundreds of layers is too small for a number
        agree = f"by counting paths; {int(measured.sum()):,} by gradient of a small network, where it does not vanish"
    print(f"wrote {path}: {int(seen.sum()):,} inputs reach the output, {agree}", file=sys.stderr)
