"""A network in words, numbers and a drawing, as `wavenet inspect` shows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from wavenet.network import WaveNet, WaveNetConfig, describe_sight, measure_reach, multiply_adds, seen_lags
from wavenet.reporting import draw_cone, picture_kind, save
from wavenet.training import load_recipe

_MOST_WORK = 2**24
"""Samples times taps times layers, up to which a drawing takes seconds."""


def open_network(path: Path) -> WaveNet:
    """The network of a model file, or the one that a recipe (.toml) would train, without values."""
    if path.suffix != ".toml":
        return WaveNet.from_pretrained(path)
    with torch.device("meta"):
        return WaveNet(load_recipe(path).model)


def summarise(network: WaveNet) -> dict[str, Any]:
    """The network's figures by name."""
    config = network.config
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
    return summary


def describe(network: WaveNet, summary: dict[str, Any]) -> Iterator[str]:
    """Describe what the table of layers leaves out, line by line."""
    config = network.config
    channels = f"{config.residual_channels}/{config.gate_channels}/{config.skip_channels}/{config.head_channels}"
    yield f"kernel {config.kernel_size}, residual/gate/skip/head channels {channels}, {config.distribution.kind} output"
    field, milliseconds = summary["receptive_field_samples"], summary["receptive_field_ms"]
    yield f"receptive field {field:,} samples = {milliseconds:.1f} ms at {config.sample_rate} Hz"
    yield describe_sight(network)
    if config.speaker_channels:
        names = ", ".join(config.speakers)
        yield f"speakers: {names or f'a vector of {config.speaker_channels}, or as in the dataset'}"
    if config.features is not None:
        yield (
            f"features: {config.features.bins} log-mel bins, hop {config.features.hop}; looks "
            f"{summary['look_ahead_frames']} frames ahead, {summary['look_ahead_ms']:.1f} ms with half a window"
        )
    if config.prediction is not None:
        yield f"linear prediction from the {config.prediction.source}, order {config.prediction.order}"
    if config.pre_emphasis:
        yield f"pre-emphasis {config.pre_emphasis}"
    yield f"{summary['parameters']:,} parameters, {summary['multiply_adds_per_sample']:,} multiply-adds per sample"


def plot_cone(config: WaveNetConfig, path: Path) -> str:
    """Draw the receptive field to a file; returns a line about it. `ValueError` if it is too large to draw."""
    picture_kind(path)
    seen = seen_lags(config)
    work = config.receptive_field * config.kernel_size * len(config.dilations)
    if seen is None or work > _MOST_WORK:
        raise ValueError(
            f"the receptive field is {config.receptive_field:,} samples, over {len(config.dilations)} layers of "
            f"{config.kernel_size} taps: too much to draw input by input; leave --plot out"
        )
    measured = measure_reach(config.dilations, config.kernel_size)
    save(draw_cone(config.dilations, config.kernel_size, config.sample_rate), path)
    agree = "by counting paths and by gradient of a small network of this schedule"
    if not torch.equal(measured, seen):  # over hundreds of layers the gradient underflows
        agree = f"by counting paths; {int(measured.sum()):,} by gradient of a small network, where it does not vanish"
    return f"wrote {path}: {int(seen.sum()):,} inputs reach the output, {agree}"
