"""The subject of a report: a model, and what is known of the run that made it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from wavenet.data import PreparedDataset
from wavenet.network import WaveNet, WaveNetConfig
from wavenet.shipped import model_path
from wavenet.training import Recipe, Selection, held_out_clips, recipe_of_run, training_clips


@dataclass(frozen=True)
class Subject:
    """A model and its run. `trained_on` and `held_out` are clips of the run's datasets, but for the `missing` ones."""

    name: str
    path: Path
    model: WaveNet
    recipe: Recipe | None
    metrics: Sequence[dict[str, float]]
    trained_on: Sequence[Selection] = ()
    held_out: Sequence[Selection] = ()
    missing: Sequence[Path] = ()

    @property
    def samples_per_step(self) -> int | None:
        return self.recipe.train.batch_size * self.recipe.train.window if self.recipe else None

    @classmethod
    def open(cls, path: Path) -> "Subject":
        """Open a run folder, a model file in one, or any model, with its `NAME.metrics.jsonl` if that exists.

        `path` may also be the name of a shipped model.
        """
        path = model_path(path)
        run, file = (path, path / "model.safetensors") if path.is_dir() else (path.parent, path)
        if path.is_dir() and not file.is_file():
            raise ValueError(f"{path} holds no model.safetensors; expected a run's folder or a model file")
        model = WaveNet.from_pretrained(file)
        kept = path.is_dir() or re.fullmatch(r"model|best|model-\d+", path.stem)  # the names of models in run folders
        if not kept or (not path.is_dir() and not (run / "recipe.json").exists()):
            return cls(path.stem, path, model, None, _read_metrics(path.with_suffix(".metrics.jsonl")))
        recipe, metrics = recipe_of_run(run), _until(_read_metrics(run / "metrics.jsonl"), file)
        if _nameless(model.config) != _nameless(recipe.model):
            raise ValueError(
                f"{file} is not one of the run's models: its network is not that of {run / 'recipe.json'}; move it to "
                "another folder to report on it alone"
            )
        name = run.absolute().name if path.is_dir() else f"{run.absolute().name}, {file.stem}"
        return cls(name, file, model, recipe, metrics)._with_clips(recipe)

    def _with_clips(self, recipe: Recipe) -> "Subject":
        missing = tuple(share.path for share in recipe.datasets if not share.path.exists())
        shares = tuple(share for share in recipe.datasets if share.path not in missing)
        datasets = [PreparedDataset(share.path) for share in shares]
        present = {clip.speaker for dataset in datasets for clip in dataset.clips}
        speakers = tuple(speaker for speaker in recipe.train.speakers if not missing or speaker in present)
        if not shares or (recipe.train.speakers and not speakers):  # to name none is to take all
            return replace(self, missing=missing)
        there = replace(recipe, dataset=shares, train=replace(recipe.train, speakers=speakers))
        trained_on, held_out = training_clips(there, datasets), held_out_clips(there, datasets)
        return replace(self, trained_on=trained_on, held_out=held_out, missing=missing)

    def scored_on(self, dataset: Path) -> "Subject":
        """The same subject with the held-out clips of a dataset, which it need not have been trained on."""
        prepared = PreparedDataset(dataset)
        clips = prepared.split(prepared.held_out_split)
        return replace(self, held_out=[Selection(prepared, clips)])


def _until(metrics: list[dict[str, float]], file: Path) -> list[dict[str, float]]:
    """The records up to the evaluation at which the model `file` was kept; all of them for the newest model."""
    bits = {one["step"]: one["held_out_bits"] for one in metrics if one["step"] and "held_out_bits" in one}
    kept_at = re.fullmatch(r"model-(\d+)", file.stem)
    if kept_at is not None:
        last = float(kept_at[1])
    elif file.stem == "best" and bits:
        last = min(bits, key=bits.__getitem__)
    else:
        return metrics
    return [one for one in metrics if one["step"] <= last]


def _nameless(config: WaveNetConfig) -> dict[str, Any]:
    """The configuration without the names of labels, which a run takes from its dataset."""
    timed = config.timed_labels and replace(config.timed_labels, names=())
    return replace(config, speakers=(), labels=dict.fromkeys(config.labels, ()), timed_labels=timed).to_dict()


def _read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics. A line without an end is still being written, and left out."""
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
                f"{path}: line {number} is not a record of metrics ({text[:40]!r}); expected JSON of names and "
                "numbers, step and seconds among them; remove the line"
            ) from error
    return records
