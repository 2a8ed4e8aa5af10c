"""The training loop: windows in, a run folder out, resumable to the bit."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from wavenet.atomic import remove_leftovers, write_atomically
from wavenet.machine import alone_in
from wavenet.training.checkpoint import CHECKPOINTS, load_checkpoint, save_checkpoint
from wavenet.training.distributed import ALONE, Processes
from wavenet.training.observer import Observer
from wavenet.training.optimizer import rate_share
from wavenet.training.recipe import Recipe
from wavenet.training.trainer import Trainer

__all__ = ["train"]


def train(
    recipe: Recipe,
    observer: Observer,
    *,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
) -> bool:
    """Train to the recipe's last step; `False` if `stop()` said to stop before. Either way a checkpoint is there.

    Writes into `recipe.run`: `recipe.json` (`recipe.toml` trains again), `metrics.jsonl`, `checkpoint.pt`, and the
    averaged model: the newest as `model.safetensors`, that of the best evaluation as `best.safetensors`, and with
    `keep_models` those of the last evaluations as `model-STEP.safetensors`.
    Of several processes, which all call this, the first writes; none of them begins where one cannot.
    Raises `FileExistsError` where a run is there and `resume` is off; `FloatingPointError` when training diverges.
    """
    trainer = processes.together(lambda: _begin(recipe, observer, resume, processes))
    _refuse_differences(trainer)  # which waits for all of them: nobody writes before all have looked
    fresh = not trainer.progress.metrics_bytes  # before the first process looks at the file: all have to agree
    with ExitStack() as held:
        metrics = processes.together(lambda: _open_folder(recipe, trainer, held))
        if fresh:
            _evaluate(trainer, metrics)
        finished = _loop(trainer, metrics, stop)
        _save(trainer)
    return finished


def _begin(recipe: Recipe, observer: Observer, resume: bool, processes: Processes) -> Trainer:
    """The run as it stands in its folder, or a fresh one. Writes nothing, and waits for no other process."""
    if recipe.run.exists() and not recipe.run.is_dir():
        raise FileExistsError(f"{recipe.run} is a file; choose a folder with --set run=FOLDER")
    written = (*CHECKPOINTS, "model.safetensors", "best.safetensors", "metrics.jsonl")
    present = [name for name in written if (recipe.run / name).exists()]
    present += [path.name for path in _kept_models(recipe.run)]
    if present and not resume:
        raise FileExistsError(
            f"{recipe.run} holds a run ({', '.join(present)}); "
            "pass --resume to go on, or --set run=FOLDER to begin another"
        )
    if (recipe.run / "manifest.json").exists():
        raise ValueError(f"{recipe.run} holds a prepared dataset; choose another folder with --set run=FOLDER")
    found = load_checkpoint(recipe.run, observer.note)
    if present and found is None:
        raise FileExistsError(
            f"{recipe.run} holds {', '.join(present)} but no checkpoint to go on from; "
            "begin another run with --set run=FOLDER"
        )
    trainer = Trainer(recipe, observer, processes)
    several = f", {processes.count} processes" if processes.count > 1 else ""
    observer.note(f"training on {trainer.device.type}, in {'bfloat16' if trainer.autocast else 'float32'}{several}")
    if found is not None:
        trainer.restore(found)
        observer.note(f"resumed at step {trainer.progress.step}")
    elif recipe.train.init_from is not None:
        trainer.begin_with(recipe.train.init_from)
    return trainer


def _refuse_differences(trainer: Trainer) -> None:
    """`ValueError`, the same one in all processes, where they do not hold the same run."""
    stands = trainer.processes.gather([trainer.fingerprint])
    if len(set(stands)) > 1:
        listed = "; ".join(f"process {rank}: {stand}" for rank, stand in enumerate(stands))
        raise ValueError(
            f"the processes do not find the same run in {trainer.recipe.run} ({listed}); it must be a folder that all "
            "machines share, and recipe and dataset the same on all"
        )


def _open_folder(recipe: Recipe, trainer: Trainer, held: ExitStack) -> "_Metrics":
    """The run's folder, ready to be written to; a run that has just begun leaves its first checkpoint there."""
    run = recipe.run
    if trainer.processes.first:
        run.mkdir(parents=True, exist_ok=True)
        held.enter_context(alone_in(run))
        for folder in (run, run / "audio"):
            remove_leftovers(folder)
        write_atomically(run / "recipe.json", json.dumps(recipe.to_dict(), indent=2).encode())
        write_atomically(run / "recipe.toml", recipe.to_toml().encode())
        if not any((run / name).exists() for name in CHECKPOINTS):
            save_checkpoint(run, trainer.state())
    return _Metrics(run / "metrics.jsonl", trainer)


def _save(trainer: Trainer) -> None:
    """The newest model file and the checkpoint, of the same step."""
    if not trainer.processes.first:
        return
    trainer.average.save_pretrained(trainer.recipe.run / "model.safetensors")
    save_checkpoint(trainer.recipe.run, trainer.state())


def _loop(trainer: Trainer, metrics: "_Metrics", stop: Callable[[], bool]) -> bool:
    config, progress = trainer.config, trainer.progress
    while progress.step < config.steps:
        if trainer.processes.total(torch.tensor(float(stop()), device=trainer.device)):  # all, or none
            return False
        bits = trainer.step()
        trainer.observer.stepped(progress.step, bits)
        last = progress.step == config.steps
        if progress.step % config.log_every == 0 or last:
            metrics.write(
                **progress.take_averages(),
                rate=rate_share(config, progress.step - 1),
                samples_per_second=progress.step * config.batch_size * config.window / progress.seconds,
            )
        if progress.step % config.evaluate_every == 0 or last:
            _evaluate(trainer, metrics)
        if progress.step % config.checkpoint_every == 0 and not last:
            _save(trainer)
    return True


def _evaluate(trainer: Trainer, metrics: "_Metrics") -> None:
    bits = trainer.evaluate()
    metrics.write(held_out_bits=bits)
    if trainer.processes.first:
        _keep_models(trainer, bits)
        trainer.observer.evaluated(trainer.progress.step, bits, trainer.average, trainer.example())


def _keep_models(trainer: Trainer, bits: float) -> None:
    """The models of an evaluation that the recipe asks to keep. A resumed run writes the same ones again."""
    progress, run = trainer.progress, trainer.recipe.run
    if progress.step and bits < progress.best_bits:
        progress.best_bits = bits
        trainer.average.save_pretrained(run / "best.safetensors")
    if progress.step and trainer.config.keep_models:
        trainer.average.save_pretrained(run / f"model-{progress.step:08}.safetensors")
        for old in _kept_models(run)[: -trainer.config.keep_models]:
            old.unlink()


def _kept_models(run: Path) -> list[Path]:
    """Those of single evaluations, the oldest first."""
    return sorted(run.glob(f"model-{'[0-9]' * 8}.safetensors"))


class _Metrics:
    """`metrics.jsonl`; a resumed run first cuts off what was written after its checkpoint, and says what is missing."""

    def __init__(self, path: Path, trainer: Trainer) -> None:
        self.path, self.trainer = path, trainer
        if not trainer.processes.first:
            return
        progress = trainer.progress
        path.touch()
        with open(path, "r+b") as file:
            kept = file.read(progress.metrics_bytes).rfind(b"\n") + 1
            file.truncate(kept)
        if kept != progress.metrics_bytes:
            trainer.observer.note(f"{path} is not what the run wrote: lines before step {progress.step} are lost")
        progress.metrics_bytes = kept

    def write(self, **values: float) -> None:
        """One line: the step, the values and the seconds of training so far."""
        progress = self.trainer.progress
        if not self.trainer.processes.first:
            return
        record = {"step": progress.step, **values, "seconds": round(progress.seconds, 3)}
        line = (json.dumps(record) + "\n").encode()
        try:
            with open(self.path, "ab") as file:
                file.write(line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        progress.metrics_bytes += len(line)
        self.trainer.observer.logged(record)
