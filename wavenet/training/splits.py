"""Which clips of its datasets a recipe trains on, and which it is watched on."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from wavenet.data import PreparedClip, PreparedDataset, Source
from wavenet.evaluation import about
from wavenet.network import WaveNetConfig
from wavenet.training.recipe import Recipe

__all__ = ["held_out_sources", "training_sources", "watched_sources", "with_speakers"]


def training_sources(recipe: Recipe, datasets: Sequence[PreparedDataset]) -> tuple[Source, ...]:
    """The clips of each dataset that the recipe trains on, with the datasets' weights."""
    return _sources(recipe, datasets, lambda dataset: "train")


def held_out_sources(recipe: Recipe, datasets: Sequence[PreparedDataset]) -> tuple[Source, ...]:
    """The clips of each dataset that are held out, by the voices that the recipe trains on if it names any."""
    return _sources(recipe, datasets, lambda dataset: dataset.held_out_split)


def _sources(
    recipe: Recipe, datasets: Sequence[PreparedDataset], split: Callable[[PreparedDataset], str]
) -> tuple[Source, ...]:
    sources = []
    for dataset, share in zip(datasets, recipe.datasets, strict=True):
        present = {clip.speaker for clip in dataset.clips}
        voices = [voice for voice in recipe.train.voices if len(datasets) == 1 or voice in present]
        if voices or not recipe.train.voices:
            sources.append(Source(dataset, dataset.split(split(dataset), voices), share.weight))
    found = {clip.speaker for source in sources for clip in source.dataset.clips}
    for voice in recipe.train.voices:
        if voice not in found:
            raise ValueError(f"train.voices names {voice!r}, and none of the datasets has that speaker")
    return tuple(sources)


def watched_sources(recipe: Recipe, datasets: Sequence[PreparedDataset]) -> tuple[Source, ...]:
    """About `evaluation_seconds` of the held-out clips, each dataset giving its part."""
    chosen = []
    sources = held_out_sources(recipe, datasets)
    for source in sources:
        clips = source.clips
        if recipe.model.speakers:
            clips = tuple(clip for clip in clips if clip.speaker in recipe.model.speakers)
            if not clips:
                raise ValueError(f"{source.dataset.path}: no held-out clip is by a speaker that is trained on")
        seconds = recipe.train.evaluation_seconds / len(sources)
        chosen.append(replace(source, clips=about(clips, int(seconds * source.dataset.sample_rate))))
    return tuple(chosen)


def with_speakers(model: WaveNetConfig, clips: Sequence[PreparedClip]) -> WaveNetConfig:
    """A model with `speaker_channels` and no names takes the names from the clips it is trained on."""
    if model.speaker_channels is None:
        return model
    found = {clip.speaker for clip in clips}
    if None in found:
        raise ValueError("model.speaker_channels is set, and the dataset names no speakers; prepare it with --speakers")
    names = tuple(sorted(name for name in found if name is not None))
    if model.speakers and set(names) - set(model.speakers):
        raise ValueError(f"model.speakers lacks {sorted(set(names) - set(model.speakers))[0]!r} of the dataset")
    return replace(model, speakers=model.speakers or names)
