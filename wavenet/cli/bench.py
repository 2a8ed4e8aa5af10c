"""`wavenet bench`: how fast each engine generates here, beside what the machine allows."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wavenet.cli.options import AsJson, between

if TYPE_CHECKING:
    from wavenet.benchmark import Limit, Row, TrainRow
    from wavenet.engines import WeightType

Shape = Literal["standard", "small"]


def bench(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL", help="Model file, or a name of `wavenet models`; a fresh model of --shape if not given."
        ),
    ] = None,
    shape: Annotated[Shape | None, typer.Option(help="Shape of the fresh model; standard if not given.")] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            callback=between(1, 4096),
            metavar="N",
            help="Streams at once; repeatable; 1 and 16 if not given, and up to 4096 on a GPU.",
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            callback=between(1, 1024), metavar="N", help="Threads of the engine; repeatable; 1 and 2 if not given."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(callback=between(0.01, 60), help="Seconds for each case in each of five rounds.")
    ] = 0.3,
    train: Annotated[bool, typer.Option("--train", help="Measure training instead, on all cores or the GPU.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how fast the engines generate on this machine.

    For each engine: samples per second, and the share of what one core could reach. A GPU is measured too.
    """
    if shape is not None and model is not None:
        raise ValueError("--shape does not go with MODEL; leave one of them out")
    if train and (model is not None or batch or threads):
        raise ValueError("--train measures a shape; leave MODEL, --batch and --threads out")
    if train:
        _bench_training(shape or "standard", as_json)
    else:
        _bench_engines(model, shape or "standard", batch or [], threads or [1, 2], seconds, as_json)


def _bench_engines(
    model: Path | None, shape: str, batch: list[int], threads: list[int], seconds: float, as_json: bool
) -> None:
    import torch

    from wavenet.benchmark import GPU_BATCHES, SHAPES, cases, measure, measure_gpu
    from wavenet.engines import IncrementalEngine, NativeEngine
    from wavenet.network import WaveNet, multiply_adds

    torch.set_num_threads(1)  # each engine runs on one core, apart from its own threads
    torch.manual_seed(0)
    network = WaveNet(SHAPES[shape]).eval() if model is None else WaveNet.from_pretrained(model)
    refusal = NativeEngine.refusal(network)
    engines = [IncrementalEngine.name, *([] if refusal else [NativeEngine.name])]
    rows, limits = measure(network, cases(engines, threads, batch or [1, 16]), seconds)
    on_gpu = measure_gpu(network, batch or GPU_BATCHES) if torch.cuda.is_available() else []
    if as_json:
        values = {name: asdict(limit) for name, limit in limits.items()}
        gpu = {"gpu": [asdict(row) for row in on_gpu]} if on_gpu else {}
        print(json.dumps({"rows": [asdict(row) for row in rows], "limits": values, **gpu}, indent=2))
        return
    print(_engine_table(rows, limits))
    if refusal:
        print(f"no native engine: {refusal}")
    print(f"{os.cpu_count()} cores; {multiply_adds(network):,} multiply-adds a sample; medians of interleaved rounds")
    if on_gpu:
        print(_gpu_table(on_gpu))
        print(f"{torch.cuda.get_device_name()}; medians of rounds")


def _bench_training(shape: str, as_json: bool) -> None:
    import torch

    from wavenet.benchmark import SHAPES, measure_training, train_cases
    from wavenet.machine import multiplies_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    turns = {"rounds": 3, "steps": 3} if device.type == "cuda" else {}  # a GPU is steadier, and its steps short
    rows = measure_training(SHAPES[shape], train_cases(device), **turns)
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2))
        return
    print(_training_table(rows))
    if not all(row.case.keeps for row in rows):
        print("* memory as torch manages it: freed memory returns to the system and comes back filled with zeros")
    if not multiplies_bfloat16(device):
        print("bfloat16 is left out: this processor has no units for it")
    where = "cpu" if device.type == "cpu" else torch.cuda.get_device_name()
    print(f"{where}, {torch.get_num_threads()} threads; medians of interleaved rounds, a process for each case")


def _engine_table(rows: "list[Row]", limits: "dict[WeightType, Limit]") -> str:
    """A line for each case. One stream on one thread also shows its share of the limit, which is for that case."""
    base = rows[0].rate
    lines = [
        f"{'engine':12}{'weights':>10}{'threads':>9}{'batch':>7}{'samples/s':>12}{'x real time':>13}{'ratio':>8}  limit"
    ]
    for row in rows:
        case, limit = row.case, limits.get(row.case.weights)
        note = ""
        if limit is not None and case.engine == "native" and case.threads == case.batch == 1:
            note = (
                f"  reading {limit.weight_bytes / 1e6:.2f} MB {limit.read:,.0f} ({row.rate / limit.read:.0%}), "
                f"products {limit.multiply_add:,.0f} ({row.rate / limit.multiply_add:.0%})"
            )
        lines.append(
            f"{case.engine:12}{case.weights:>10}{case.threads:9}{case.batch:7}{row.rate:12,.0f}"
            f"{row.real_time:13.2f}{row.rate / base:8.1f}{note}"
        )
    return "\n".join(lines)


def _gpu_table(rows: "list[Row]") -> str:
    """A line for each batch on the GPU, with the rate of all its streams and of each."""
    lines = [f"{'on the GPU':12}{'batch':>7}{'samples/s':>12}{'per stream':>12}{'x real time':>13}"]
    for row in rows:
        batch = row.case.batch
        lines.append(f"{row.case.engine:12}{batch:7}{row.rate:12,.0f}{row.rate / batch:12,.0f}{row.real_time:13.2f}")
    return "\n".join(lines)


def _training_table(rows: "list[TrainRow]") -> str:
    """A line for each case; `ratio` is the rate over that of the first."""
    title = (
        f"{'network':9}{'precision':>10}{'':14}{'batch':>11}{'samples/s':>11}{'ratio':>7}{'memory':>10}  of products"
    )
    lines = [title]
    for row in rows:
        case = row.case
        how = "compiled" if case.compiled else "checkpointed" if case.recompute else "eager"
        how = "alone" if case.network == "products" else how
        network = case.network + ("" if case.keeps else "*")
        lines.append(
            f"{network:9}{case.precision:>10}{how:>14}{f'{case.batch} x {case.window:,}':>11}{row.rate:11,.0f}"
            f"{row.rate / rows[0].rate:7.2f}{row.memory / 1e6:7,.0f} MB{row.share:8.0%}"
        )
    return "\n".join(lines)
