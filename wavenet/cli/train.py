"""`wavenet train`: a dataset and a recipe to a model."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from wavenet.conditioning import Conditioning
from wavenet.model import WaveNet
from wavenet.recipe import load_recipe
from wavenet.tensorboard import TensorBoardWriter
from wavenet.training import train as run_training

__all__ = ["train"]


class _TrainingConsole:
    """Shows a run: a progress bar where there is a terminal, and a line for each evaluation."""

    def __init__(self, steps: int, samples_per_step: int, tensorboard: TensorBoardWriter | None) -> None:
        self.bar = tqdm(total=steps, unit="step", desc="train", disable=None)
        self.samples_per_step = samples_per_step
        self.tensorboard = tensorboard
        self.begun: tuple[int, float] | None = None

    def note(self, message: str) -> None:
        tqdm.write(message)
        sys.stdout.flush()

    def stepped(self, step: int, bits: float) -> None:
        begun_step, begun = self.begun = self.begun or (step - 1, time.perf_counter())
        rate = (step - begun_step) * self.samples_per_step / max(1e-9, time.perf_counter() - begun)
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix_str(f"{bits:.2f} bits/sample, {rate:,.0f} samples/s")

    def logged(self, record: dict[str, float]) -> None:
        if self.bar.disable and "train_bits" in record:
            speed = f"{record['samples_per_second']:,.0f} samples/s"
            print(f"step {record['step']:>6}: {record['train_bits']:.3f} bits/sample in training, {speed}", flush=True)
        if self.tensorboard is not None:
            self.tensorboard.logged(record)

    def evaluated(self, step: int, bits: float, model: WaveNet, example: Conditioning) -> None:
        self.note(f"step {step:>6}: {bits:.3f} bits/sample held out")
        if self.tensorboard is not None:
            self.tensorboard.evaluated(step, model, example)


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (TOML).")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a value of the recipe; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint if it has one.")] = False,
) -> None:
    """Train a model. Ctrl-C saves a checkpoint; --resume goes on as if nothing had happened."""
    loaded = load_recipe(recipe, set_ or [])
    config = loaded.train
    writer = TensorBoardWriter(loaded.run / "tensorboard", config.audio_seconds) if config.tensorboard else None
    stopping = threading.Event()

    def stop(signum: int, frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        message = b"stopping after this step (once more to stop at once, losing what is not in a checkpoint)\n"
        os.write(2, message)  # print is not safe in a signal handler

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    console = _TrainingConsole(config.steps, config.batch_size * config.window, writer)
    finished = run_training(loaded, console, resume=resume, stop=stopping.is_set)
    console.bar.close()
    if not finished:
        print(f"checkpoint saved in {loaded.run}; the same command with --resume goes on", file=sys.stderr)
        raise typer.Exit(130)
    print(f"wrote {loaded.run / 'model.safetensors'}")
