"""`wavenet bench`: how fast each engine generates here, beside what the machine allows."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from wavenet.cli.options import AsJson, between

Shape = Literal["standard", "small"]


def bench(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="Model file; a fresh model of --shape if not given.")
    ] = None,
    shape: Annotated[Shape | None, typer.Option(help="Shape of the fresh model; standard if not given.")] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            callback=between(1, 1024), metavar="N", help="Streams at once; repeatable; 1 and 16 if not given."
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
    curves: Annotated[
        bool, typer.Option("--curves", help="Measure instead how the time per sample grows with the model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure how fast the engines generate on this machine.

    For each engine: samples per second, and the share of what one core could reach.
    """
    if shape is not None and model is not None:
        raise ValueError("--shape does not go with MODEL; leave one of them out")
    if curves and (batch or threads):
        raise ValueError("--curves is for one stream on one thread; leave --batch and --threads out")
    if train and (model is not None or batch or threads or curves):
        raise ValueError("--train measures a shape; leave MODEL, --batch, --threads and --curves out")
    if train:
        _bench_training(shape or "standard", as_json)
    else:
        _bench_engines(model, shape or "standard", batch or [1, 16], threads or [1, 2], seconds, curves, as_json)


def _bench_engines(
    model: Path | None, shape: str, batch: list[int], threads: list[int], seconds: float, curves: bool, as_json: bool
) -> None:
    import torch

    from wavenet.benchmark import SHAPES, cases, cost_curves, measure
    from wavenet.cli.bench_tables import curve_table, engine_table
    from wavenet.engines import IncrementalEngine, NativeEngine
    from wavenet.network import WaveNet, multiply_adds

    torch.set_num_threads(1)  # each engine runs on one core, apart from its own threads
    torch.manual_seed(0)
    network = WaveNet(SHAPES[shape]).eval() if model is None else WaveNet.from_pretrained(model)
    refusal = NativeEngine.refusal(network)
    engines = [IncrementalEngine.name, *([] if refusal else [NativeEngine.name])]
    if curves:
        found = {name: cost_curves(name, network.config, seconds) for name in engines}
        print(json.dumps(found, indent=2) if as_json else curve_table(found))
        return
    rows, limits = measure(network, cases(engines, threads, batch), seconds)
    if as_json:
        values = {name: asdict(limit) for name, limit in limits.items()}
        print(json.dumps({"rows": [asdict(row) for row in rows], "limits": values}, indent=2))
        return
    print(engine_table(rows, limits))
    if refusal:
        print(f"no native engine: {refusal}")
    print(f"{os.cpu_count()} cores; {multiply_adds(network):,} multiply-adds a sample; medians of interleaved rounds")


def _bench_training(shape: str, as_json: bool) -> None:
    import torch

    from wavenet.benchmark import SHAPES, measure_training, reading_seconds, train_cases
    from wavenet.cli.bench_tables import training_table
    from wavenet.machine import multiplies_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = measure_training(SHAPES[shape], train_cases(device))
    reading = reading_seconds(SHAPES[shape], batch=2, window=4000)
    (usual,) = (row for row in rows if (row.case.batch, row.case.window) == (2, 4000))
    share = reading / (reading + 8000 / usual.rate)
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "reading_share": share}, indent=2))
        return
    print(training_table(rows))
    print("* memory as torch manages it: freed memory returns to the system and comes back filled with zeros")
    print(
        f"reading 2 x 4,000 samples and their context from cached files: {1000 * reading:.2f} ms, {share:.2%} of a step"
    )
    if not multiplies_bfloat16(device):
        print("bfloat16 is left out: this processor has no units for it")
    print(f"{device.type}, {torch.get_num_threads()} threads; medians of interleaved rounds, a process for each case")
