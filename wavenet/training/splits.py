"""The clips of its datasets that a recipe trains on, and those that are held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from wavenet.data import PreparedClip, PreparedDataset, Source
from wavenet.network import WaveNetConfig
from wavenet.training.recipe import Recipe


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


def with_speakers(model: WaveNetConfig, clips: Sequence[PreparedClip]) -> WaveNetConfig:
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
