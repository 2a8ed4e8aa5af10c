"""From a recipe, which names files, to a trainer, which holds objects."""

from collections.abc import Callable
from dataclasses import replace

import torch

from wavenet.data import PreparedDataset
from wavenet.network import WaveNet
from wavenet.training.checkpoint import CHECKPOINTS
from wavenet.training.distributed import ALONE, Processes
from wavenet.training.loop import check_folder, train
from wavenet.training.observer import Observer
from wavenet.training.recipe import Recipe
from wavenet.training.splits import Selection, held_out_clips, training_clips, with_speakers
from wavenet.training.trainer import Trainer


def train_recipe(
    recipe: Recipe,
    observer: Observer | None = None,
    *,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
) -> bool:
    """Train a recipe in its run folder, as `train` does with the trainer of `from_recipe`. All ranks must call this."""
    processes.together(lambda: check_folder(recipe.run, resume))
    resumable = resume and any((recipe.run / name).exists() for name in CHECKPOINTS)
    trainer = processes.together(lambda: from_recipe(recipe, observer, processes, fresh=not resumable))
    return train(trainer, recipe.run, recipe=recipe, resume=resume, stop=stop)


def from_recipe(
    recipe: Recipe, observer: Observer | None = None, processes: Processes = ALONE, *, fresh: bool = True
) -> Trainer:
    """A trainer for a recipe: opens its datasets, and builds its model from the seed and from `train.init_from`.

    With `fresh` off `train.init_from` is not read, because the trainer will be restored.
    Raises `FileNotFoundError` or `ValueError` if the recipe, its datasets and its model do not fit together.
    """
    datasets = [PreparedDataset(share.path) for share in recipe.datasets]
    selections = training_clips(recipe, datasets)
    config = with_speakers(recipe.model, [clip for selection in selections for clip in selection.clips])
    for dataset in datasets:
        if dataset.sample_rate != config.sample_rate:
            raise ValueError(
                f"{dataset.path} has {dataset.sample_rate} Hz, the recipe's model.sample_rate is "
                f"{config.sample_rate}; prepare the dataset with that sample rate"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        model = WaveNet(config)
    trainer = Trainer(
        model,
        [selection.source for selection in selections],
        [_of_known_speakers(selection, config.speakers).source for selection in held_out_clips(recipe, datasets)],
        replace(recipe.train, init_from=None, speakers=()),
        observer=observer,
        processes=processes,
    )
    trainer.record = replace(recipe, model=config).to_dict()
    trainer.checksum = " ".join(dataset.manifest.sha256 for dataset in datasets)
    if fresh and recipe.train.init_from is not None:
        trainer.begin_with(WaveNet.from_pretrained(recipe.train.init_from), str(recipe.train.init_from))
    return trainer


def _of_known_speakers(held_out: Selection, speakers: tuple[str, ...]) -> Selection:
    """The held-out clips of the model's speakers, if it has any."""
    clips = tuple(clip for clip in held_out.clips if not speakers or clip.speaker in speakers)
    if not clips:
        raise ValueError(f"{held_out.dataset.path}: no held-out clip is by a speaker that is trained on")
    return replace(held_out, clips=clips)
