"""Train in a run folder, from which a run can be resumed to the bit."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from wavenet.atomic import remove_leftovers, write_atomically
from wavenet.machine import alone_in
from wavenet.training.checkpoint import CHECKPOINTS, Progress, load_checkpoint, save_checkpoint
from wavenet.training.observer import Keeper
from wavenet.training.optimizer import rate_share
from wavenet.training.recipe import Recipe
from wavenet.training.trainer import Trainer


def train(
    trainer: Trainer,
    folder: str | Path,
    *,
    recipe: Recipe | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the last step in a run folder; returns `False` if `stop()` ended it before. Leaves a checkpoint.

    The folder gets `metrics.jsonl`, `checkpoint.pt`, and the averaged model: the newest as `model.safetensors`, that of
    the best evaluation as `best.safetensors`, with `listen` that of the highest sum of free-running OVRL and PLCMOS as
    `best-heard.safetensors`, and with `keep_models` those of the last evaluations as
    `model-STEP.safetensors`; with a `recipe` also `recipe.json`, and `recipe.toml`, which trains again.
    With `resume` a run that is there goes on; with more `steps` a finished one does too, from the state of its
    optimizers, at the learning rates that the schedule of the new steps has there. All ranks must call this; rank 0
    writes, and nothing is written if one cannot begin.
    Raises `FileExistsError` if a run is there without `resume`, `FloatingPointError` if training diverges.
    """
    run, processes = Path(folder), trainer.processes
    processes.together(lambda: check_folder(run, resume))
    resumed = processes.together(lambda: _restore(trainer, run))
    _refuse_differences(trainer, run)
    several = f", {processes.count} processes" if processes.count > 1 else ""
    precision = "bfloat16" if trainer.autocast else "float32"
    trainer.observer.note(f"training on {trainer.device.type}, in {precision}{several}")
    progress = trainer.progress
    if resumed:
        trainer.observer.note(f"resumed at step {progress.step}{_other_schedule(trainer, resumed)}")
    fresh = not progress.metrics_bytes  # all ranks must agree, and rank 0 may change it when it opens the file
    with ExitStack() as held:
        keeper = processes.together(lambda: _RunFolder(run, trainer, recipe, held) if processes.first else Keeper())
        held.callback(trainer.reader.close)
        if fresh:
            trainer.watch(keeper)
        trainer.proceed(keeper, stop)
        if processes.first:
            keeper.save()
    return progress.step == trainer.config.steps


def check_folder(run: Path, resume: bool) -> None:
    """Raise `FileExistsError` or `ValueError` if no run can begin in the folder, or, with `resume`, go on in it."""
    if run.exists() and not run.is_dir():
        raise FileExistsError(f"{run} is a file; choose a folder")
    written = (*CHECKPOINTS, "model.safetensors", "best.safetensors", "best-heard.safetensors", "metrics.jsonl")
    present = [name for name in written if (run / name).exists()]
    present += [path.name for path in _kept_models(run)]
    if present and not resume:
        raise FileExistsError(f"{run} holds a run ({', '.join(present)}); resume it or choose another folder")
    if (run / "manifest.json").exists():
        raise ValueError(f"{run} holds a prepared dataset; choose another folder")
    if present and not any((run / name).exists() for name in CHECKPOINTS):
        raise FileExistsError(
            f"{run} holds {', '.join(present)} but no checkpoint to go on from; choose another folder"
        )


def _other_schedule(trainer: Trainer, planned: int) -> str:
    """What other steps than those planned do to the learning rates; nothing if they are the same."""
    config, step = trainer.config, trainer.progress.step
    if config.steps == planned or config.steps == step:
        return ""
    share = rate_share(config, step)
    return (
        f" with {config.steps} steps in place of {planned}: the learning rates now follow the schedule of "
        f"{config.steps}, and go on at {share:.0%} of their height"
    )


def _restore(trainer: Trainer, run: Path) -> int:
    """Restore the run in the folder; returns the steps that it planned, 0 if there is none.

    Writes nothing, and waits for no other rank.

    In a folder without a run the trainer begins new metrics: it may have trained in another folder.
    """
    found = load_checkpoint(run, trainer.observer.note)
    if found is None:
        first = Progress()
        trainer.progress.metrics_bytes, trainer.progress.best_bits = first.metrics_bytes, first.best_bits
        trainer.progress.best_opinion = first.best_opinion
        return 0
    try:
        trainer.restore(found)
    except ValueError as error:
        raise ValueError(f"{run}: {error}") from error
    planned: int = found["recipe"]["train"]["steps"]
    return planned


def _refuse_differences(trainer: Trainer, run: Path) -> None:
    """Raise the same `ValueError` on all ranks if they do not hold the same run. All ranks must call this."""
    found = trainer.processes.gather([trainer.fingerprint])
    if len(set(found)) > 1:
        listed = "; ".join(f"rank {rank}: {one}" for rank, one in enumerate(found))
        raise ValueError(
            f"the ranks do not find the same run in {run} ({listed}); it must be a folder that all machines share, and "
            "settings and audio must be the same on all"
        )


class _RunFolder(Keeper):
    """Keeps a run's metrics, models and checkpoints in a folder, which other processes cannot use until `held` ends.

    A new run gets its first checkpoint. In a resumed one the metrics after its checkpoint are cut off, and the observer
    is told if earlier ones are missing.
    """

    def __init__(self, run: Path, trainer: Trainer, recipe: Recipe | None, held: ExitStack) -> None:
        self.run, self.trainer = run, trainer
        self.metrics = run / "metrics.jsonl"
        run.mkdir(parents=True, exist_ok=True)
        held.enter_context(alone_in(run))
        for folder in (run, run / "audio"):
            remove_leftovers(folder)
        if recipe is not None:
            write_atomically(run / "recipe.json", json.dumps(recipe.to_dict(), indent=2).encode())
            write_atomically(run / "recipe.toml", recipe.to_toml().encode())
        if not any((run / name).exists() for name in CHECKPOINTS):
            save_checkpoint(run, trainer.state())
        self._cut_metrics()

    def _cut_metrics(self) -> None:
        progress = self.trainer.progress
        self.metrics.touch()
        with open(self.metrics, "r+b") as file:
            kept = file.read(progress.metrics_bytes).rfind(b"\n") + 1
            file.truncate(kept)
        if kept != progress.metrics_bytes:
            self.trainer.observer.note(
                f"{self.metrics} is not what the run wrote: lines before step {progress.step} are lost"
            )
        progress.metrics_bytes = kept

    def log(self, record: dict[str, float]) -> None:
        line = (json.dumps(record) + "\n").encode()
        try:
            with open(self.metrics, "ab") as file:
                file.write(line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.metrics)) from error
        self.trainer.progress.metrics_bytes += len(line)

    def evaluated(self, bits: float, scores: Mapping[str, float]) -> None:
        """Keep the best models and the last ones. A resumed run writes the same ones again."""
        progress, keep = self.trainer.progress, self.trainer.config.keep_models
        if progress.step and bits < progress.best_bits:
            progress.best_bits = bits
            self.trainer.average.save_pretrained(self.run / "best.safetensors")
        opinion = scores.get("ovrl", 0.0) + scores.get("plcmos", 0.0)
        if progress.step and opinion > progress.best_opinion:
            progress.best_opinion = opinion
            self.trainer.average.save_pretrained(self.run / "best-heard.safetensors")
        if progress.step and keep:
            self.trainer.average.save_pretrained(self.run / f"model-{progress.step:08}.safetensors")
            for old in _kept_models(self.run)[:-keep]:
                old.unlink()

    def save(self) -> None:
        """Write the newest model and the checkpoint, of the same step."""
        self.trainer.average.save_pretrained(self.run / "model.safetensors")
        save_checkpoint(self.run, self.trainer.state())


def _kept_models(run: Path) -> list[Path]:
    """The models of single evaluations, the oldest first."""
    return sorted(run.glob(f"model-{'[0-9]' * 8}.safetensors"))
