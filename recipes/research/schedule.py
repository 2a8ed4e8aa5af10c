"""Where should ten layers look? Dilation schedules of equal cost, compared in held-out bits per sample.

    python recipes/research/schedule.py [--steps N] [--seed N]

All networks have the same layers, parameters and multiply-adds per sample. They start from the same weights and train
on the same windows in the same order. Only the dilations differ.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from wavenet import TrainConfig, Trainer, WaveNet, WaveNetConfig, load_folder, multiply_adds
from wavenet.cli.errors import errors_in_one_line
from wavenet.machine import workers

SPEECH = Path(__file__).parents[2] / "samples" / "speech"

SCHEDULES: dict[str, tuple[int, ...]] = {
    "undilated": (1,) * 10,
    "doubling, two cycles": (1, 2, 4, 8, 16) * 2,
    "tripling, two cycles": (1, 3, 9, 27, 81) * 2,
    "doubling, one cycle": tuple(2**layer for layer in range(10)),
    "the same, widest first": tuple(2**layer for layer in reversed(range(10))),
    "the same, interleaved": (1, 512, 2, 256, 4, 128, 8, 64, 16, 32),
    "doubling from 2": tuple(2 ** (layer + 1) for layer in range(10)),
}


@dataclass(frozen=True)
class Result:
    """How many samples a schedule sees, what its network costs, and how well it predicts after training."""

    name: str
    seen: int
    receptive_field: int
    parameters: int
    multiply_adds: int
    bits: float
    seconds: float


def network(dilations: Sequence[int]) -> WaveNetConfig:
    return WaveNetConfig(
        dilations=dilations, residual_channels=32, gate_channels=64, skip_channels=64, head_channels=64
    )


def lags(dilations: Sequence[int]) -> set[int]:
    """How far before the newest input lie the samples that an output sees: each layer adds its dilation, or nothing."""
    seen = {0}
    for dilation in dilations:
        seen |= {lag + dilation for lag in seen}
    return seen


def train_and_score(schedule: tuple[str, Sequence[int]], speech: Path, training: TrainConfig) -> Result:
    name, dilations = schedule
    torch.manual_seed(training.seed)
    model = WaveNet(network(dilations))
    trainer = Trainer(model, *load_folder(speech), training)
    bits = trainer.run()
    return Result(
        name=name,
        seen=len(lags(dilations)),
        receptive_field=model.config.receptive_field,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=multiply_adds(model),
        bits=bits,
        seconds=trainer.progress.seconds,
    )


def main(arguments: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description="Compare dilation schedules of equal cost.")
    parser.add_argument("--steps", type=int, default=450, help="of training, for each schedule")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the windows")
    options = parser.parse_args(arguments)
    training = TrainConfig(
        steps=options.steps,
        seed=options.seed,
        batch_size=1,
        window=1500,
        learning_rate=4e-3,
        muon_learning_rate=0.04,
        precision="float32",  # on every machine, so that figures differ only by rounding
    )
    results = []
    print(f"{'schedule':24}{'sees':>6} of{'field':>6}{'held-out bits':>15}{'seconds of training':>21}")
    with workers(2) as pool:  # a core for each network
        for one in pool.map(partial(train_and_score, speech=SPEECH, training=training), SCHEDULES.items()):
            results.append(one)
            print(
                f"{one.name:24}{one.seen:6,} of{one.receptive_field:6,}{one.bits:15.3f}{one.seconds:21.1f}", flush=True
            )
    ((parameters, multiply_adds),) = {(one.parameters, one.multiply_adds) for one in results}  # all the same
    print(f"each: {parameters:,} parameters, {multiply_adds:,} multiply-adds a sample; ", end="")
    print(f"{training.steps} steps of {training.window} samples, seed {training.seed}")
    return results


if __name__ == "__main__":
    with errors_in_one_line("schedule.py"):
        main()
