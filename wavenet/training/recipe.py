"""A recipe: one TOML file that says what is trained on what, and how. Any value can be set from outside."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from wavenet.network import KINDS, Distribution, WaveNetConfig

__all__ = ["Recipe", "TrainConfig", "load_recipe", "recipe_of_run", "refuse_changes"]

_STRICT: Mapping[str, Any] = {"extra": "forbid", "strict": True}
_BYSTANDERS = ("audio", "audio_seconds", "checkpoint_every", "keep_models", "log_every", "tensorboard")
"""Keys that may change when a run is resumed: they change nothing about the model."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. Windows and contexts are in samples, intervals in steps.

    The learning rates rise linearly over `warmup_steps` and fall linearly to zero over the last `decay_share` of
    the run. With `optimizer = "muon"` the matrices take `muon_learning_rate`, the rest `learning_rate` with Adam;
    `weight_decay` is Muon's.
    `batch_size` windows make a step, however many processes share them; with `accumulate` each takes its part of them
    in that many turns, which costs time and saves memory, as does `checkpoint_activations` (computing them again for
    the gradient). `precision = "auto"` is bfloat16 where the hardware multiplies it, else float32; `compile = "auto"`
    compiles where the precision is bfloat16, which is where it pays. `evaluation_seconds` bounds the held-out audio
    scored at each evaluation; at each the last `keep_models` models are kept, beside the best and the newest. With
    `audio` each leaves `audio_seconds` of generated sound in the run's folder, made beside the training; TensorBoard
    gets as much to hear. `voices` restricts training to these
    speakers of the dataset. `init_from` is a model file to start from; what of it does not fit is named and left out.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    steps: int
    init_from: Path | None = None
    voices: tuple[str, ...] = ()
    batch_size: int = 2
    accumulate: int = 1
    checkpoint_activations: bool = False
    window: int = 4000
    optimizer: Literal["muon", "adam"] = "muon"
    learning_rate: float = 1e-3
    muon_learning_rate: float = 0.01
    weight_decay: float = 0.1
    warmup_steps: int = 20
    decay_share: float = 1.0
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 1000
    checkpoint_every: int = 500
    evaluation_seconds: float = 30.0
    keep_models: int = 0
    tensorboard: bool = False
    audio: bool = False
    audio_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "window", "log_every", "evaluate_every", "checkpoint_every"):
            if not 1 <= getattr(self, name) <= 2**31:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 to 2^31")
        for name in ("learning_rate", "muon_learning_rate", "gradient_clip", "evaluation_seconds"):
            if not 0 < getattr(self, name) < 1e38:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a positive number below 1e38")
        if not 0 < self.audio_seconds <= 60:
            raise ValueError(f"audio_seconds is {self.audio_seconds}; expected over 0, up to 60")
        for name in ("warmup_steps", "seed", "weight_decay", "keep_models"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more, below 2^63")
        for name, below in (("decay_share", 1.0000001), ("ema_decay", 1.0)):
            if not 0 <= getattr(self, name) < below:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share from 0 to 1")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size is {self.batch_size}; expected a multiple of accumulate, {self.accumulate}")


@dataclass(frozen=True, kw_only=True)
class DatasetShare:
    """One of several prepared datasets: its share of the windows is its `weight` over the sum of all."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    path: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < 1e38:
            raise ValueError(f"weight is {self.weight}; expected a positive number")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """`dataset` is a prepared dataset, or several with weights; `run` the folder that training writes.

    Both are relative to where it is run.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    dataset: Path | tuple[DatasetShare, ...]
    run: Path
    train: TrainConfig
    model: WaveNetConfig

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("dataset is an empty list; expected a prepared dataset, or several with path and weight")
        for path in (self.run, *(share.path for share in self.datasets)):
            if "\0" in str(path):
                raise ValueError(f"{str(path)!r} has a NUL in it; expected the path of a folder")
        if self.run == Path():
            raise ValueError("run is empty, or the folder that this is run in; expected a folder of its own")

    @property
    def datasets(self) -> tuple[DatasetShare, ...]:
        return self.dataset if isinstance(self.dataset, tuple) else (DatasetShare(path=self.dataset),)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in `recipe.json` and in checkpoints."""
        several = [{"path": str(share.path), "weight": share.weight} for share in self.datasets]
        return {
            "dataset": several if isinstance(self.dataset, tuple) else str(self.dataset),
            "run": str(self.run),
            "model": self.model.to_dict(),
            "train": {
                **asdict(self.train),
                "voices": list(self.train.voices),
                "init_from": str(self.train.init_from) if self.train.init_from else None,
            },
        }

    def to_toml(self) -> str:
        """The recipe as a file that `load_recipe` reads back, every value spelled out."""
        values = self.to_dict()
        shares = values.pop("dataset") if isinstance(self.dataset, tuple) else []
        tables = "".join(f"\n[[dataset]]\n{_toml(share)}" for share in shares)
        plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
        sections = "".join(f"\n[{name}]\n{_toml(values[name])}" for name in ("model", "train"))
        return _toml(plain) + tables + sections


def _toml(values: Mapping[str, Any]) -> str:
    """A line for each value; what is off has none. JSON and TOML write all but tables alike."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in values.items() if value is not None)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(one)}" for key, one in value.items() if one is not None) + " }"
    return json.dumps(value, ensure_ascii=False)


def recipe_of_run(run: Path) -> Recipe:
    """The recipe that a run's folder was trained by, from its `recipe.json`."""
    path = run / "recipe.json"
    if not path.is_file():
        raise ValueError(f"{run} holds no recipe.json, which a run has; for a model alone, name its file instead")
    try:
        return TypeAdapter(Recipe).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} is not a run's recipe ({_explain(error.errors()[0])})") from error


def _weights(recipe: dict[str, Any]) -> list[Any]:
    """Those of the datasets. (Where they lie may change: their checksums are in the checkpoint.)"""
    datasets = recipe["dataset"]
    return [share.get("weight") for share in datasets] if isinstance(datasets, list) else [1.0]


def refuse_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise `ValueError` that names the keys in which a run's recipe, as `to_dict` gives it, is not what it was."""
    before, now = (json.loads(json.dumps(values, default=repr, skipkeys=True)) for values in (before, now))
    changed = []
    for section, config in (("model", WaveNetConfig), ("train", TrainConfig)):
        defaults = {field.name: field.default for field in fields(config)}  # of keys that came later
        was, is_now = {**defaults, **before[section]}, {**defaults, **now[section]}
        changed += [
            f"{section}.{key} was {was.get(key)!r}, is {is_now.get(key)!r}"
            for key in sorted(was.keys() | is_now.keys())
            if was.get(key) != is_now.get(key) and key not in _BYSTANDERS
        ]
    if _weights(before) != _weights(now):
        changed.append(f"the datasets' weights were {_weights(before)}, are {_weights(now)}")
    if changed:
        raise ValueError(
            f"the recipe has changed since the run began ({'; '.join(changed)}); "
            "restore it, or begin another run with --set run=FOLDER, from this one's model if need be (--set "
            "train.init_from=FILE)"
        )


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe; each of `settings` is `key=value` with a dotted key and a TOML value, or plain text.

    Raises `FileNotFoundError`, or `ValueError` that names the key, what was expected and what was found.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such recipe")
    if not path.is_file():
        raise ValueError(f"{path} is a folder or device; expected a recipe (.toml)")
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a TOML recipe ({error})") from error
    for setting in settings:
        _apply(values, setting)
    try:
        return TypeAdapter(Recipe).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        errors = error.errors()
        alike = [one for one in errors if one["loc"][:1] == errors[0]["loc"][:1]]  # a choice fails in each of its ways
        closest = max(alike, key=lambda one: len(one["loc"]))
        raise ValueError(f"{path}: {_explain(closest)}") from error


def _apply(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    try:
        setting.encode()
    except UnicodeEncodeError as error:  # bytes of the command line that are no text
        raise ValueError(f"--set {setting!r}: expected text in UTF-8") from error
    if not equals or not all(key.split(".")):
        raise ValueError(f"--set {setting}: expected key=value, such as train.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ValueError(f"--set {setting}: {section} is a value, not a section")
    values[name] = value


_KINDS = {kind.kind for kind in KINDS}
"""Pydantic names the kind of distribution it settled on in the path of an error; the recipe does not."""


def _explain(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"] if part not in _KINDS and "[" not in str(part))
    known = list(_keys(Recipe))
    if table := re.match(r"dataset\.\d+", key):
        known += [f"{table[0]}.{name}" for name in _keys(DatasetShare)]
    if error["type"] == "unexpected_keyword_argument":
        if key in known:
            return f"key {key} does not go with the kind that is chosen"
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
        section = [name for name in known if name.startswith(key.rpartition(".")[0])] or known
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(section)}"
        if table and key.rpartition(".")[2] in ("run", "dataset"):
            hint = "run stands above the first [[dataset]], in whose place no other dataset is named"
        return f"unknown key {key}; {hint}"
    if error["type"] in ("missing", "missing_argument"):
        return f"key {key} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{key}.{message}" if f"{key}.{message.split()[0]}" in known else f"{key}: {message}".removeprefix(": ")
    if error["loc"][:1] == ("dataset",):
        found = json.dumps(error["input"], default=repr)
        return f'{key} is {found}; expected dataset = "FOLDER", or [[dataset]] with path and weight'
    if error["type"] in ("union_tag_not_found", "union_tag_invalid"):
        message = f"expected a table with kind, one of {', '.join(sorted(_KINDS))}"
    return f"{key} is {json.dumps(error['input'], default=repr)}; {message[0].lower()}{message[1:]}"


def _keys(config: type) -> Iterator[str]:
    for name, hint in get_type_hints(config).items():
        kinds = KINDS if hint is Distribution else (hint, *get_args(hint))
        sections = [kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)]
        if not sections and not name.startswith("__"):
            yield name
        for section in sections:
            yield from (f"{name}.{key}" for key in _keys(section))
