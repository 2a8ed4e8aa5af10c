"""Measures how fast engines generate, side by side, and how fast this machine would let them.

The cases alternate, round after round, so that a slow moment of the machine hits all of them; a figure is the median
over the rounds. Reading the weights is measured in the same rounds, on a working set of the same size.
"""

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from wavenet.engines import (
    WEIGHT_TYPES,
    Engine,
    EngineOptions,
    IncrementalEngine,
    NativeEngine,
    TritonEngine,
    WeightType,
    make_engine,
    native_module,
)
from wavenet.network import Conditioning, SamplingOptions, WaveNet, WaveNetConfig, multiply_adds

SHAPES: Mapping[str, WaveNetConfig] = {
    "standard": WaveNetConfig(),
    "small": WaveNetConfig(
        cycles=2, layers_per_cycle=9, residual_channels=48, gate_channels=96, skip_channels=96, head_channels=96
    ),
}
"""Model shapes by name: `standard` is 30 layers (3 x 10), kernel 2, channels 64 / 128 / 256 / 256, 256 classes."""


@dataclass(frozen=True)
class Case:
    """An engine and how it is to run."""

    engine: str
    weights: WeightType = "float32"
    threads: int = 1
    batch: int = 1


@dataclass(frozen=True)
class Limit:
    """Bounds of one stream on one core, in samples per second.

    `read`: how often the weights can be read. `multiply_add`: how often the products can be computed in float32.
    """

    weight_bytes: int
    read: float
    multiply_add: float


@dataclass(frozen=True)
class Row:
    """`rate` in samples per second, all streams together; `real_time` is the rate over the sample rate."""

    case: Case
    rate: float
    real_time: float


def cases(engines: Sequence[str], threads: Sequence[int], batches: Sequence[int]) -> list[Case]:
    """Every combination that exists; only the native engine has weight types and threads."""
    native = [
        Case(NativeEngine.name, weights, thread_count, batch)
        for batch in batches
        for weights in WEIGHT_TYPES
        for thread_count in threads
    ]
    others = [Case(name, batch=batch) for name in engines if name != NativeEngine.name for batch in batches]
    return others + (native if NativeEngine.name in engines else [])


def measure(
    model: WaveNet, chosen: Sequence[Case], seconds: float = 0.3, rounds: int = 5
) -> tuple[list[Row], dict[WeightType, Limit]]:
    """Rates of all cases, each run for about `seconds` in each round, and the limits of their weight types."""
    runs: list[Callable[[], float]] = []
    for case in chosen:
        options = EngineOptions(case.engine, case.weights, case.threads)
        engine = make_engine(options, model, case.batch, _silence(model, case.batch))
        runs.append(_timed(engine, case.batch, seconds, model.device))
    types = [weights for weights in WEIGHT_TYPES if Case(NativeEngine.name, weights) in chosen]
    measured = [([run() for run in runs], limits(model, types)) for _ in range(rounds)]
    rates = [statistics.median(rates[index] for rates, _ in measured) for index in range(len(runs))]
    found = {
        weights: Limit(
            measured[0][1][weights].weight_bytes,
            statistics.median(limit[weights].read for _, limit in measured),
            statistics.median(limit[weights].multiply_add for _, limit in measured),
        )
        for weights in types
    }
    rate = model.config.sample_rate
    return [Row(case, speed, speed / rate) for case, speed in zip(chosen, rates, strict=True)], found


GPU_BATCHES = (1, 16, 128, 1024, 2048, 4096)


def measure_gpu(
    model: WaveNet, batches: Sequence[int] = GPU_BATCHES, seconds: float = 1.0, rounds: int = 3
) -> list[Row]:
    """Rates of the engines on the GPU, one batch after the other; those too large for its memory are left out.

    The triton engine multiplies in bfloat16; it is left out if it cannot run the model.
    """
    model, rows = copy.deepcopy(model).to("cuda"), []
    cases = [Case(IncrementalEngine.name, batch=batch) for batch in batches]
    if TritonEngine.refusal(model) is None:
        cases += [Case(TritonEngine.name, "bfloat16", batch=batch) for batch in batches]
    for case in cases:
        try:
            options = EngineOptions(case.engine, case.weights)
            engine = make_engine(options, model, case.batch, _silence(model, case.batch))
            run = _timed(engine, case.batch, seconds, model.device)
            rate = statistics.median(run() for _ in range(rounds))
        except torch.OutOfMemoryError:
            continue
        rows.append(Row(case, rate, rate / model.config.sample_rate))
    return rows


def limits(model: WaveNet, types: Sequence[WeightType]) -> dict[WeightType, Limit]:
    """Measure what this machine allows one stream on one core."""
    if not types:
        return {}
    native = native_module()
    multiply_add = native.multiply_add_rate() / multiply_adds(model)
    found = {}
    for weights in types:
        size = NativeEngine(model, 1, _silence(model, 1), weights=weights).packed.weight_bytes
        found[weights] = Limit(size, native.read_rate(size) / size, multiply_add)
    return found


def _timed(engine: Engine, batch: int, seconds: float, device: torch.device) -> Callable[[], float]:
    """A function that runs the engine for about `seconds` and gives its rate, in samples per second."""
    options = SamplingOptions()

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def once(samples: int) -> float:
        uniforms = torch.rand(batch, samples, device=device)
        wait()
        begun = time.perf_counter()
        engine.run(uniforms, options)
        wait()
        return batch * samples / (time.perf_counter() - begun)

    once(20)
    samples = max(20, int(seconds * once(50) / batch))
    return lambda: once(samples)


def _silence(model: WaveNet, batch: int) -> Conditioning:
    config = model.config
    labels = {kind: names[0] for kind, names in config.known_labels.items()}
    speaker = torch.zeros(config.speaker_channels) if config.speaker_channels and not labels else None
    features = None if config.features is None else torch.full((config.features.bins, 1), config.features.silence)
    tracks = model.track_mean if config.tracks else None
    return model.condition(batch, speaker=speaker, labels=labels, features=features, tracks=tracks)
