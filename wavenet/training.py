"""The training loop: windows in, a run folder out, resumable to the bit."""

import json
from collections.abc import Callable
from pathlib import Path

from wavenet.atomic import write_atomically
from wavenet.checkpoint import load_checkpoint, save_checkpoint
from wavenet.optimizer import rate_share
from wavenet.recipe import Recipe
from wavenet.trainer import Observer, Trainer

__all__ = ["train"]


def train(
    recipe: Recipe,
    observer: Observer,
    *,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the recipe's last step; `False` if `stop()` said to stop before. Either way a checkpoint is there.

    Writes into `recipe.run`: `recipe.json`, `metrics.jsonl`, `checkpoint.pt`, `model.safetensors` (the average).
    Raises `FileExistsError` where a run is there and `resume` is off; `FloatingPointError` when training diverges.
    """
    present = [name for name in ("checkpoint.pt", "model.safetensors", "metrics.jsonl") if (recipe.run / name).exists()]
    if present and not resume:
        raise FileExistsError(
            f"{recipe.run} holds a run ({', '.join(present)}); "
            "pass --resume to go on, or --set run=FOLDER to begin another"
        )
    if (recipe.run / "manifest.json").exists():
        raise ValueError(f"{recipe.run} holds a prepared dataset; choose another folder with --set run=FOLDER")
    found = load_checkpoint(recipe.run)
    if present and found is None:
        raise FileExistsError(
            f"{recipe.run} holds {', '.join(present)} but no checkpoint to go on from; "
            "begin another run with --set run=FOLDER"
        )
    trainer = Trainer(recipe, observer)
    observer.note(f"training on {trainer.device}, in {'bfloat16' if trainer.autocast else 'float32'}")
    if found is not None:
        trainer.restore(found)
        observer.note(f"resumed at step {trainer.progress.step}")
    elif recipe.train.init_from is not None:
        trainer.begin_with(recipe.train.init_from)
    recipe.run.mkdir(parents=True, exist_ok=True)
    write_atomically(recipe.run / "recipe.json", json.dumps(recipe.to_dict(), indent=2).encode())
    if found is None:
        save_checkpoint(recipe.run, trainer.state())
    metrics = _Metrics(recipe.run / "metrics.jsonl", trainer)
    if not trainer.progress.metrics_bytes:
        metrics.evaluate()
    finished = _loop(trainer, metrics, stop)
    _save(trainer)
    return finished


def _save(trainer: Trainer) -> None:
    """The model file and the checkpoint, of the same step."""
    trainer.average.save_pretrained(trainer.recipe.run / "model.safetensors")
    save_checkpoint(trainer.recipe.run, trainer.state())


def _loop(trainer: Trainer, metrics: "_Metrics", stop: Callable[[], bool]) -> bool:
    config, progress = trainer.config, trainer.progress
    while progress.step < config.steps:
        if stop():
            return False
        bits = trainer.step()
        trainer.observer.stepped(progress.step, bits)
        last = progress.step == config.steps
        if progress.step % config.log_every == 0 or last:
            metrics.log()
        if progress.step % config.evaluate_every == 0 or last:
            metrics.evaluate()
        if progress.step % config.checkpoint_every == 0 and not last:
            _save(trainer)
    return True


class _Metrics:
    """`metrics.jsonl`; a resumed run first cuts off what was written after its checkpoint."""

    def __init__(self, path: Path, trainer: Trainer) -> None:
        self.path, self.trainer = path, trainer
        path.touch()
        with open(path, "r+b") as file:
            kept = min(path.stat().st_size, trainer.progress.metrics_bytes)
            file.truncate(kept)
        trainer.progress.metrics_bytes = kept

    def log(self) -> None:
        progress, config = self.trainer.progress, self.trainer.config
        self._write(
            step=progress.step,
            train_bits=progress.bits_sum / progress.bits_count,
            rate=rate_share(config, progress.step - 1),
            samples_per_second=progress.step * config.batch_size * config.window / progress.seconds,
        )
        progress.bits_sum, progress.bits_count = 0.0, 0

    def evaluate(self) -> None:
        trainer = self.trainer
        bits = trainer.evaluate()
        self._write(step=trainer.progress.step, held_out_bits=bits)
        trainer.observer.evaluated(trainer.progress.step, bits, trainer.average, trainer.example())

    def _write(self, **record: float) -> None:
        record["seconds"] = round(self.trainer.progress.seconds, 3)
        line = (json.dumps(record) + "\n").encode()
        try:
            with open(self.path, "ab") as file:
                file.write(line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.trainer.progress.metrics_bytes += len(line)
        self.trainer.observer.logged(record)
