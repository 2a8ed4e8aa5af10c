"""What a report is about: a model, and what is known of the run that made it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from wavenet.dataset import PreparedDataset, Source
from wavenet.model import WaveNet
from wavenet.recipe import Recipe, recipe_of_run
from wavenet.splits import held_out_sources, training_sources

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """`trained_on` and `held_out` are clips of the run's datasets, as far as these are there and not `missing`."""

    name: str
    path: Path
    model: WaveNet
    recipe: Recipe | None
    metrics: Sequence[dict[str, float]]
    trained_on: Sequence[Source] = ()
    held_out: Sequence[Source] = ()
    missing: Sequence[Path] = ()

    @property
    def samples_per_step(self) -> int | None:
        return self.recipe.train.batch_size * self.recipe.train.window if self.recipe else None

    @classmethod
    def open(cls, path: Path) -> "Subject":
        """A run's folder, or a model file with its `NAME.metrics.jsonl` beside it if there is one."""
        if not path.is_dir():
            beside = path.with_suffix(".metrics.jsonl")
            return cls(path.stem, path, WaveNet.from_pretrained(path), None, _read_metrics(beside))
        file = path / "model.safetensors"
        if not file.is_file():
            raise ValueError(f"{path} holds no model.safetensors; expected a run's folder or a model file")
        recipe = recipe_of_run(path)
        subject = cls(path.name, file, WaveNet.from_pretrained(file), recipe, _read_metrics(path / "metrics.jsonl"))
        missing = tuple(share.path for share in recipe.datasets if not share.path.exists())
        shares = tuple(share for share in recipe.datasets if share.path not in missing)
        if not shares:
            return replace(subject, missing=missing)
        datasets = [PreparedDataset(share.path) for share in shares]
        present = {clip.speaker for dataset in datasets for clip in dataset.clips}
        voices = tuple(voice for voice in recipe.train.voices if not missing or voice in present)
        there = replace(recipe, dataset=shares, train=replace(recipe.train, voices=voices))
        trained_on, held_out = training_sources(there, datasets), held_out_sources(there, datasets)
        return replace(subject, trained_on=trained_on, held_out=held_out, missing=missing)

    def scored_on(self, dataset: Path) -> "Subject":
        """The same with the held-out clips of a dataset, which need not be one that it was trained on."""
        prepared = PreparedDataset(dataset)
        clips = prepared.split(prepared.held_out_split)
        return replace(self, held_out=[Source(prepared, clips)], missing=())


def _read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics; one that has no end yet is still being written."""
    if not path.is_file():
        return []
    line = TypeAdapter(dict[str, Annotated[float, Field(ge=-1e9, le=1e15, allow_inf_nan=False)]])
    records = []
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            records.append(line.validate_json(text))
            if not records[-1].keys() >= {"step", "seconds"}:
                raise ValueError("step or seconds missing")
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}, is none of a run's metrics; expected JSON of names and numbers, step and "
                "seconds among them"
            ) from error
    return records
