"""`wavenet bench`: how fast each engine generates here, beside what the machine allows."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from wavenet.benchmark import (
    SHAPES,
    Limit,
    Row,
    cases,
    cost_curves,
    measure,
    measure_training,
    reading_seconds,
    train_cases,
)
from wavenet.cli.options import AsJson
from wavenet.engines import IncrementalEngine, NativeEngine, WeightType
from wavenet.machine import multiplies_bfloat16
from wavenet.network import WaveNet, WaveNetConfig, multiply_adds

__all__ = ["bench"]


def bench(
    model: Annotated[Path | None, typer.Argument(help="Model file; without one, a fresh model of --shape.")] = None,
    shape: Annotated[
        str | None, typer.Option(help=f"Model shape: {' or '.join(SHAPES)}; the first if not given.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Streams at once; repeatable; 1 and 16 if not given.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Repeatable; 1 and 2 if not given.")] = None,
    seconds: Annotated[float, typer.Option(help="Time for each case in each of five rounds.")] = 0.3,
    train: Annotated[bool, typer.Option("--train", help="Measure training instead, on all cores.")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Time per sample against the model's size instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure engines side by side: samples per second, and the share of what one core could reach. Or training."""
    if shape is not None and (model is not None or shape not in SHAPES):
        raise ValueError(f"--shape is {shape!r}; expected one of {', '.join(SHAPES)}, or a model file instead")
    if curves and (batch or threads):
        raise ValueError("--curves is for one stream on one thread; leave --batch and --threads out")
    if not 0.01 <= seconds <= 60:
        raise ValueError(f"--seconds is {seconds}; expected 0.01 to 60")
    for name, counts in (("--batch", batch or []), ("--threads", threads or [])):
        if not all(1 <= count <= 1024 for count in counts):
            raise ValueError(f"{name} is {min(counts)}; expected 1 to 1024")
    if train:
        if model is not None or batch or threads or curves:
            raise ValueError("--train measures a shape; leave MODEL, --batch, --threads and --curves out")
        _bench_training(SHAPES[shape or "standard"], as_json)
        return
    torch.set_num_threads(1)  # one core for each engine, unless its own threads are counted
    torch.manual_seed(0)
    network = WaveNet(SHAPES[shape or "standard"]).eval() if model is None else WaveNet.from_pretrained(model)
    refusal = NativeEngine.refusal(network)
    engines = [IncrementalEngine.name, *([] if refusal else [NativeEngine.name])]
    if curves:
        found = {name: cost_curves(name, network.config, seconds) for name in engines}
        print(json.dumps(found, indent=2) if as_json else _curve_table(found))
        return
    rows, limits = measure(network, cases(engines, threads or [1, 2], batch or [1, 16]), seconds)
    if as_json:
        values = {name: asdict(limit) for name, limit in limits.items()}
        print(json.dumps({"rows": [asdict(row) for row in rows], "limits": values}, indent=2))
        return
    print(_table(rows, limits))
    if refusal:
        print(f"no native engine: {refusal}")
    print(f"{os.cpu_count()} cores; {multiply_adds(network):,} multiply-adds a sample; medians of rounds in turn")


def _bench_training(config: WaveNetConfig, as_json: bool) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = measure_training(config, train_cases(device))
    reading = reading_seconds(config, batch=2, window=4000)
    (usual,) = (row for row in rows if (row.case.batch, row.case.window) == (2, 4000))
    share = reading / (reading + 8000 / usual.rate)
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "reading_share": share}, indent=2))
        return
    print(f"{'network':9}{'precision':>10}{'':14}{'batch':>11}{'samples/s':>11}{'ratio':>7}{'memory':>10}  of products")
    for row in rows:
        case = row.case
        how = "compiled" if case.compiled else "checkpointed" if case.recompute else "eager"
        how = "alone" if case.network == "products" else how
        network = case.network + ("" if case.keeps else "*")
        print(
            f"{network:9}{case.precision:>10}{how:>14}{f'{case.batch} x {case.window:,}':>11}{row.rate:11,.0f}"
            f"{row.rate / rows[0].rate:7.2f}{row.memory / 1e6:7,.0f} MB{row.share:8.0%}"
        )
    print("* as torch leaves it: memory that is freed goes back to the system, and comes again filled with zeros")
    print(
        f"reading 2 x 4,000 samples and their context from cached files: {1000 * reading:.2f} ms, {share:.2%} of a step"
    )
    if not multiplies_bfloat16(device):
        print("bfloat16 is left out: this processor has no units for it")
    print(f"{device.type}, {torch.get_num_threads()} threads; medians of rounds in turn, each case in its own process")


def _table(rows: list[Row], limits: dict[WeightType, Limit]) -> str:
    """A line for each case; the share of the limit for one stream on one thread, which is what the limit is for."""
    base = rows[0].rate
    lines = [
        f"{'engine':12}{'weights':>10}{'threads':>9}{'batch':>7}{'samples/s':>12}{'x real time':>13}{'ratio':>8}  limit"
    ]
    for row in rows:
        case, limit = row.case, limits.get(row.case.weights)
        note = ""
        if limit is not None and case.engine == NativeEngine.name and case.threads == case.batch == 1:
            note = (
                f"  reading {limit.weight_bytes / 1e6:.2f} MB {limit.read:,.0f} ({row.rate / limit.read:.0%}), "
                f"products {limit.multiply_add:,.0f} ({row.rate / limit.multiply_add:.0%})"
            )
        lines.append(
            f"{case.engine:12}{case.weights:>10}{case.threads:9}{case.batch:7}{row.rate:12,.0f}"
            f"{row.real_time:13.2f}{row.rate / base:8.1f}{note}"
        )
    return "\n".join(lines)


def _curve_table(curves: dict[str, dict[str, list[tuple[int, float]]]]) -> str:
    lines = ["microseconds a sample, one stream, one thread"]
    for engine, by_name in curves.items():
        for name, points in by_name.items():
            cells = "  ".join(f"{place:,}: {value:,.1f}" for place, value in points)
            lines.append(f"{engine:12}{name:18}{cells}")
    return "\n".join(lines)
