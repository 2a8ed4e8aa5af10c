"""`wavenet inspect`: what a model or a recipe is."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from wavenet.cli.options import AsJson, Force, check_output


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="MODEL_OR_RECIPE", help="Model file (.safetensors) or recipe (.toml).")
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
    from wavenet.cli.inspection import describe, open_network, plot_cone, summarise
    from wavenet.network import layer_table

    network = open_network(path)
    summary, layers = summarise(network), layer_table(network.config)
    if plot is not None:
        print(plot_cone(network.config, plot), file=sys.stderr)
    if as_json:
        print(json.dumps({"config": network.config.to_dict(), **summary, "layers": layers}, indent=2))
        return
    print(f"{'layer':>5}{'dilation':>10}{'sees samples':>14}{'ms':>10}")
    for layer in layers:
        print(f"{layer['layer']:>5}{layer['dilation']:>10}{layer['samples']:>14}{layer['ms']:>10.1f}")
    print("\n".join(describe(network, summary)))
