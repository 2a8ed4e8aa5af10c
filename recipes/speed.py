"""Print how fast `incremental` generates: one stream on one core, and its time per sample against length and context.

python recipes/speed.py
"""

import statistics
import time

import torch

from wavenet import SamplingOptions, WaveNet, WaveNetConfig
from wavenet.engines import IncrementalEngine, NaiveEngine

SAMPLES = 1000


def microseconds(engine: IncrementalEngine | NaiveEngine, samples: int = SAMPLES) -> float:
    """Time per sample of one run."""
    begun = time.perf_counter()
    engine.run(torch.rand(1, samples), SamplingOptions())
    return (time.perf_counter() - begun) / samples * 1e6


def side_by_side(engines: dict[str, IncrementalEngine], rounds: int = 7) -> dict[str, float]:
    """Median time per sample of each, the engines taking turns so that a slow moment hits all."""
    for engine in engines.values():
        microseconds(engine, 200)
    times = [{name: microseconds(engine) for name, engine in engines.items()} for _ in range(rounds)]
    return {name: statistics.median(time[name] for time in times) for name in engines}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig()).eval()
    fresh, aged = IncrementalEngine(model, 1), IncrementalEngine(model, 1)
    microseconds(aged, 16000)
    deep = {
        f"30 layers, receptive field {config.receptive_field}": IncrementalEngine(WaveNet(config).eval(), 1)
        for config in (WaveNetConfig(dilations=(1,) * 30), WaveNetConfig(), WaveNetConfig(dilations=(512,) * 30))
    }
    times = side_by_side({"from the start": fresh, "after 16,000 samples": aged, **deep})
    for name, value in times.items():
        print(f"incremental, {name}: {value:.0f} us a sample, {1e6 / value:,.0f} samples/s")
    naive = microseconds(NaiveEngine(model, 1), 5)
    print(f"naive: {naive:,.0f} us a sample, {naive / times['from the start']:.0f} times as long")


if __name__ == "__main__":
    main()
