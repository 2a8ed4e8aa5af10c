"""From a recipe, which names files, to objects: the clips that it trains on and holds out, and its trainer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from wavenet.data import PreparedClip, PreparedDataset, Source, timed_labels
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
    found = {clip.speaker for dataset in datasets for clip in dataset.clips}
    for speaker in recipe.train.speakers:
        if len(datasets) > 1 and speaker not in found:
            raise ValueError(f"train.speakers names {speaker!r}, and none of the datasets has that speaker")
    selections = []
    for dataset, share in zip(datasets, recipe.datasets, strict=True):
        present = {clip.speaker for clip in dataset.clips}
        speakers = share.speakers or [s for s in recipe.train.speakers if len(datasets) == 1 or s in present]
        if speakers or not recipe.train.speakers:
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
    for dataset in datasets:
        if observer is not None and all(selection.dataset is not dataset for selection in selections):
            observer.note(
                f"{dataset.path} is left out: it has none of train.speakers; to restrict one dataset only, set its own "
                "speakers in [[dataset]]"
            )
    clips = [clip for selection in selections for clip in selection.clips]
    config = _with_timed_names(_with_labels(recipe.model, clips), clips)
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
        [_of_known_labels(selection, config.known_labels).source for selection in held_out_clips(recipe, datasets)],
        replace(recipe.train, init_from=None, speakers=()),
        observer=observer,
        processes=processes,
    )
    trainer.record = replace(recipe, model=config).to_dict()
    trainer.checksum = " ".join(dataset.manifest.sha256 for dataset in datasets)
    if fresh and recipe.train.init_from is not None:
        trainer.begin_with(WaveNet.from_pretrained(recipe.train.init_from), str(recipe.train.init_from))
    return trainer


def _with_labels(model: WaveNetConfig, clips: Sequence[PreparedClip]) -> WaveNetConfig:
    """The configuration of a model; speakers and labels that it names none of get the names of the clips'."""
    if model.speaker_channels is None:
        return model
    wanted = {**({} if model.labels and not model.speakers else {"speaker": model.speakers}), **model.labels}
    found = {kind: _names_of(kind, names, clips) for kind, names in wanted.items()}
    return replace(model, speakers=found.pop("speaker", ()), labels=found)


def _names_of(kind: str, names: Sequence[str], clips: Sequence[PreparedClip]) -> tuple[str, ...]:
    """The names of a kind of label: those that the recipe gives, or else the clips'."""
    key = "speakers" if kind == "speaker" else f"labels.{kind}"
    found = {clip.labels.get(kind) for clip in clips}
    if None in found:
        wants = "speaker_channels" if kind == "speaker" else key
        raise ValueError(f"model.{wants} is set, and the dataset names no {kind}s; prepare it with its {kind}s")
    known = sorted(name for name in found if name is not None)
    if names and set(known) - set(names):
        raise ValueError(f"model.{key} lacks {min(set(known) - set(names))!r} of the dataset")
    return tuple(names or known)


def _with_timed_names(model: WaveNetConfig, clips: Sequence[PreparedClip]) -> WaveNetConfig:
    """The configuration of a model; one with `timed_labels` but no names of them gets the names in the clips."""
    timed = model.timed_labels
    if timed is None or timed.names:
        return model
    names = {label.name for clip in clips for label in timed_labels(clip, timed.whole_clip)}
    return replace(model, timed_labels=replace(timed, names=tuple(sorted(names))))


def _of_known_labels(held_out: Selection, known: Mapping[str, Sequence[str]]) -> Selection:
    """The held-out clips whose labels the model knows."""
    clips = tuple(
        clip for clip in held_out.clips if all(clip.labels.get(kind) in names for kind, names in known.items())
    )
    if not clips:
        kinds = " and ".join(known)
        raise ValueError(f"{held_out.dataset.path}: no held-out clip is by a {kinds} that is trained on")
    return replace(held_out, clips=clips)
