"""`wavenet inspect`: what a model or a recipe is."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavenet.cli.options import AsJson, Force, check_output

if TYPE_CHECKING:
    from wavenet.network import WaveNet, WaveNetConfig

_MOST_WORK = 2**24
"""Samples times taps times layers, up to which a drawing takes seconds."""


def inspect(
    path: Annotated[
        Path,
        typer.Argument(metavar="MODEL_OR_RECIPE", help="Model file, a name of `wavenet models`, or recipe (.toml)."),
    ],
    plot: Annotated[
        Path | None, typer.Option(help="Also draw which inputs reach the output: .svg, .png or .pdf.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Show a model's layers, receptive field, size and cost.

    The cost is in multiply-adds per sample.
    """
    if plot is not None:
        check_output(plot, force)
    from wavenet.network import layer_table

    network = _open(path)
    summary, layers = _summarise(network), layer_table(network.config)
    if plot is not None:
        print(_plot(network.config, plot), file=sys.stderr)
    if as_json:
        print(json.dumps({"config": network.config.to_dict(), **summary, "layers": layers}, indent=2))
        return
    print(f"{'layer':>5}{'dilation':>10}{'sees samples':>14}{'ms':>10}")
    for layer in layers:
        print(f"{layer['layer']:>5}{layer['dilation']:>10}{layer['samples']:>14}{layer['ms']:>10.1f}")
    print("\n".join(_describe(network, summary)))


def _open(path: Path) -> "WaveNet":
    """The network of a model file, or the one that a recipe (.toml) would train, without values."""
    import torch

    from wavenet.network import WaveNet
    from wavenet.training import load_recipe

    if path.suffix != ".toml":
        return WaveNet.from_pretrained(path)
    with torch.device("meta"):
        return WaveNet(load_recipe(path).model)


def _summarise(network: "WaveNet") -> dict[str, Any]:
    """The network's figures by name."""
    from wavenet.network import multiply_adds, seen_lags

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


def _describe(network: "WaveNet", summary: dict[str, Any]) -> Iterator[str]:
    """Describe what the table of layers leaves out, line by line."""
    from wavenet.network import describe_sight

    config = network.config
    channels = f"{config.residual_channels}/{config.gate_channels}/{config.skip_channels}/{config.head_channels}"
    yield f"kernel {config.kernel_size}, residual/gate/skip/head channels {channels}, {config.distribution.kind} output"
    field, milliseconds = summary["receptive_field_samples"], summary["receptive_field_ms"]
    yield f"receptive field {field:,} samples = {milliseconds:.1f} ms at {config.sample_rate} Hz"
    yield describe_sight(network)
    if config.speaker_channels and (config.speakers or not config.labels):
        names = ", ".join(config.speakers)
        yield f"speakers: {names or f'a vector of {config.speaker_channels}, or as in the dataset'}"
    for kind, values in config.labels.items():
        yield f"{kind}: {', '.join(values) or 'the names in the dataset'}"
    if config.features is not None:
        yield (
            f"features: {config.features.bins} log-mel bins, hop {config.features.hop}; looks "
            f"{summary['look_ahead_frames']} frames ahead, {summary['look_ahead_ms']:.1f} ms with half a window"
        )
    if config.timed_labels is not None:
        names = ", ".join(config.timed_labels.names)
        yield f"says, as timed labels: {names or 'the names in the dataset'}"
    if config.tracks:
        yield f"tracks: {', '.join(config.tracks)}"
    if config.prediction is not None:
        yield f"linear prediction from the {config.prediction.source}, order {config.prediction.order}"
    if config.pre_emphasis:
        yield f"pre-emphasis {config.pre_emphasis}"
    yield f"{summary['parameters']:,} parameters, {summary['multiply_adds_per_sample']:,} multiply-adds per sample"


def _plot(config: "WaveNetConfig", path: Path) -> str:
    """Draw the receptive field to a file; returns a line about it. `ValueError` if it is too large to draw."""
    from wavenet.network import seen_lags
    from wavenet.reporting import draw_cone, save

    seen = seen_lags(config)
    work = config.receptive_field * config.kernel_size * len(config.dilations)
    if seen is None or work > _MOST_WORK:
        raise ValueError(
            f"the receptive field is {config.receptive_field:,} samples, over {len(config.dilations)} layers of "
            f"{config.kernel_size} taps: too much to draw input by input; leave --plot out"
        )
    save(draw_cone(config.dilations, config.kernel_size, config.sample_rate), path)
    return f"wrote {path}: {int(seen.sum()):,} inputs reach the output"
