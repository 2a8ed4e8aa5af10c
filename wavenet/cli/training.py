"""A run of training as `wavenet train` shows it: progress, signals, and what to do after an interruption."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from wavenet.data import write_audio
from wavenet.machine import keep_freed_memory
from wavenet.network import Conditioning, WaveNet
from wavenet.training import (
    Listener,
    Observer,
    Processes,
    Recipe,
    TensorBoardWriter,
    joined,
    load_recipe,
    train_recipe,
)


class TrainingConsole(Observer):
    """Shows a run: a progress bar if standard error is a terminal, and a line for each evaluation."""

    def __init__(self, recipe: Recipe) -> None:
        config, self.run = recipe.train, recipe.run
        self.bar = tqdm(total=config.steps, unit="step", desc="train", disable=None)
        self.samples_per_step = config.batch_size * config.window
        self.tensorboard = TensorBoardWriter(recipe.run / "tensorboard") if config.tensorboard else None
        callbacks: list[Callable[[int, Tensor, int], None]] = [self.keep_audio] if config.audio else []
        callbacks += [self.tensorboard.on_audio] if self.tensorboard is not None else []
        self.listener = Listener(config.audio_seconds, callbacks) if callbacks else None
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
        if "ovrl" in record:
            scores = (
                f"{name.upper()} {record[name]:.2f}" for name in ("ovrl", "plcmos", "pesq", "stoi") if name in record
            )
            self.note(f"step {record['step']:>6}: {', '.join(scores)} in free running")
        if self.tensorboard is not None:
            self.tensorboard.logged(record)

    def evaluated(self, step: int, bits: float, model: WaveNet, example: Conditioning) -> None:
        self.note(f"step {step:>6}: {bits:.3f} bits/sample held out")
        if self.listener is not None:
            self.listener.evaluated(step, model, example)

    def keep_audio(self, step: int, audio: Tensor, sample_rate: int) -> None:
        (self.run / "audio").mkdir(exist_ok=True)
        write_audio(self.run / "audio" / f"step-{step:08}.wav", audio, sample_rate)

    def close(self, *, wait: bool) -> None:
        self.bar.close()
        if self.listener is not None:
            self.listener.close(wait=wait)
        if self.tensorboard is not None:
            self.tensorboard.close()


def run(recipe: Path, settings: list[str], resume: bool) -> None:
    """Train as the recipe says; exits with status 130 if a signal stopped the run early."""
    keep_freed_memory()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of missing GPUs
    with joined() as processes:
        loaded = processes.together(lambda: load_recipe(recipe, settings))
        console = processes.together(lambda: TrainingConsole(loaded) if processes.first else None)
        _train(loaded, console, resume, processes)


def _train(recipe: Recipe, console: TrainingConsole | None, resume: bool, processes: Processes) -> None:
    stopping = threading.Event()

    def stop(signum: int, frame: object) -> None:
        if stopping.is_set():
            os.write(2, b"interrupted\n")
            os._exit(130)  # files on disk stay whole; an exception would have to wait for threads at work
        stopping.set()
        message = b"stopping after this step (once more to stop at once, losing what is not in a checkpoint)\n"
        os.write(2, message)  # print is not safe in a signal handler

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    finished = False
    try:
        finished = train_recipe(recipe, console, resume=resume, stop=stopping.is_set, processes=processes)
    except FileExistsError as error:
        raise FileExistsError(f"{error} (--resume continues a run, --set run=FOLDER begins another)") from error
    finally:
        if console is not None:
            console.close(wait=finished)
    if console is not None:
        if finished:
            print(f"wrote {recipe.run / 'model.safetensors'}")
        else:
            print(f"checkpoint saved in {recipe.run}; the same command with --resume continues", file=sys.stderr)
    if not finished:
        raise SystemExit(130)
