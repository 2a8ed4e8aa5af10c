"""From a recipe, which names files, to objects: the clips that it trains on and holds out, and its trainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from wavenet.data import PreparedClip, PreparedDataset, Source
from wavenet.network import WaveNet, WaveNetConfig
from wavenet.training.checkpoint import CHECKPOINTS
from wavenet.training.distributed import ALONE, Processes
from wavenet.training.loop import check_folder, train
from wavenet.training.observer import Observer
from wavenet.training.recipe import Recipe
from wavenet.training.trainer import Trainer


@dataclass(frozen=True)
class Selection:
    """Some `clips` of a prepared dataset, and the dataset's weight in a recipe."""

    dataset: PreparedDataset
    clips: tuple[PreparedClip, ...]
    weight: float = 1.0

    @property
    def source(self) -> Source:
        return Source(self.clips, self.weight, self.dataset.manifest.sha256)


def training_clips(recipe: Recipe, datasets: Sequence[PreparedDataset]) -> tuple[Selection, ...]:
    """The clips of each dataset that the recipe trains on."""
    return _selections(recipe, datasets, lambda dataset: "train")


def held_out_clips(recipe: Recipe, datasets: Sequence[PreparedDataset]) -> tuple[Selection, ...]:
    """The clips of each dataset that are held out, of the speakers that the recipe trains on if it names any."""
    return _selections(recipe, datasets, lambda dataset: dataset.held_out_split)


def _selections(
    recipe: Recipe, datasets: Sequence[PreparedDataset], split: Callable[[PreparedDataset], str]
) -> tuple[Selection, ...]:
    wanted = recipe.train.speakers
    found = {clip.speaker for dataset in datasets for clip in dataset.clips}
    for speaker in wanted:
        if len(datasets) > 1 and speaker not in found:
            raise ValueError(f"train.speakers names {speaker!r}, and none of the datasets has that speaker")
    selections = []
    for dataset, share in zip(datasets, recipe.datasets, strict=True):
        present = {clip.speaker for clip in dataset.clips}
        speakers = [speaker for speaker in wanted if len(datasets) == 1 or speaker in present]
        if speakers or not wanted:
            selections.append(Selection(dataset, dataset.split(split(dataset), speakers), share.weight))
    return tuple(selections)


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
    config = _with_speakers(recipe.model, [clip for selection in selections for clip in selection.clips])
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


def _with_speakers(model: WaveNetConfig, clips: Sequence[PreparedClip]) -> WaveNetConfig:
    """The configuration of a model; one with `speaker_channels` but no names gets the names of the clips' speakers."""
    if model.speaker_channels is None:
        return model
    found = {clip.speaker for clip in clips}
    if None in found:
        raise ValueError(
            "model.speaker_channels is set, and the dataset names no speakers; prepare it with its speakers"
        )
    names = tuple(sorted(name for name in found if name is not None))
    if model.speakers and set(names) - set(model.speakers):
        raise ValueError(f"model.speakers lacks {sorted(set(names) - set(model.speakers))[0]!r} of the dataset")
    return replace(model, speakers=model.speakers or names)


def _of_known_speakers(held_out: Selection, speakers: tuple[str, ...]) -> Selection:
    """The held-out clips of the model's speakers, if it has any."""
    clips = tuple(clip for clip in held_out.clips if not speakers or clip.speaker in speakers)
    if not clips:
        raise ValueError(f"{held_out.dataset.path}: no held-out clip is by a speaker that is trained on")
    return replace(held_out, clips=clips)
