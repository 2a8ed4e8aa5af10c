"""A recipe: one TOML file with the datasets, the model and the settings of a training run."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from wavenet.network import KINDS, Distribution, WaveNetConfig
from wavenet.training.config import TrainConfig

_STRICT: Mapping[str, Any] = {"extra": "forbid", "strict": True}
_RENAMED = {"train.voices": "train.speakers"}
"""Keys of older recipes, and their names today."""


@dataclass(frozen=True, kw_only=True)
class DatasetShare:
    """One of several prepared datasets. Its share of the windows is its `weight` over the sum of the weights.

    `speakers` restricts training to these speakers of it.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    path: Path
    weight: float = 1.0
    speakers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.weight < 1e38:
            raise ValueError(f"weight is {self.weight}; expected a positive number")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run: `dataset` is a prepared dataset, or several with weights; `run` is the folder to write.

    Both paths are relative to the current folder.
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
            raise ValueError("run is empty, or the current folder; expected another folder")

    @property
    def datasets(self) -> tuple[DatasetShare, ...]:
        return self.dataset if isinstance(self.dataset, tuple) else (DatasetShare(path=self.dataset),)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in `recipe.json` and in checkpoints."""
        several = [
            {
                "path": str(share.path),
                "weight": share.weight,
                **({"speakers": list(share.speakers)} if share.speakers else {}),
            }
            for share in self.datasets
        ]
        return {
            "dataset": several if isinstance(self.dataset, tuple) else str(self.dataset),
            "run": str(self.run),
            "model": self.model.to_dict(),
            "train": self.train.to_dict(),
        }

    def to_toml(self) -> str:
        """The text of a file that `load_recipe` reads back, with every value spelled out."""
        values = self.to_dict()
        shares = values.pop("dataset") if isinstance(self.dataset, tuple) else []
        tables = "".join(f"\n[[dataset]]\n{_toml(share)}" for share in shares)
        plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
        sections = "".join(f"\n[{name}]\n{_toml(values[name])}" for name in ("model", "train"))
        return _toml(plain) + tables + sections


def _toml(values: Mapping[str, Any]) -> str:
    """A line for each value that is not `None`. JSON and TOML write all values but tables alike."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in values.items() if value is not None)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(one)}" for key, one in value.items() if one is not None) + " }"
    return json.dumps(value, ensure_ascii=False)


def recipe_of_run(run: Path) -> Recipe:
    """The recipe that a run's folder was trained by, from its `recipe.json`."""
    path = run / "recipe.json"
    if not path.is_file():
        raise ValueError(f"{run} holds no recipe.json, as a run does; for a model alone, name its file instead")
    try:
        renamed = path.read_bytes().replace(b'"voices":', b'"speakers":')  # in runs of earlier versions
        return TypeAdapter(Recipe).validate_json(renamed)
    except ValidationError as error:
        raise ValueError(f"{path} is not a run's recipe ({_explain(error.errors()[0])})") from error


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe. Each of `settings` replaces a value: `key=value`, with a dotted key, and TOML or plain text.

    Raises `FileNotFoundError`, or `ValueError` that names the key, the expected and the found value.
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
        # a union reports an error for each alternative
        alike = [one for one in errors if one["loc"][:1] == errors[0]["loc"][:1]]
        closest = max(alike, key=lambda one: len(one["loc"]))
        raise ValueError(f"{path}: {_explain(closest)}") from error


def _apply(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    try:
        setting.encode()
    except UnicodeEncodeError as error:  # bytes of a command line that are not text
        raise ValueError(f"setting {setting!r}: expected text in UTF-8") from error
    if not equals or not all(key.split(".")):
        raise ValueError(f"setting {setting}: expected key=value, such as train.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ValueError(f"setting {setting}: {section} is a value, not a section")
    values[name] = value


_KINDS = {kind.kind for kind in KINDS}
"""Kinds of distribution. Pydantic puts the chosen one into the path of an error; the recipe's keys do not have it."""


def _explain(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"] if part not in _KINDS and "[" not in str(part))
    known = list(_keys(Recipe))
    if table := re.match(r"dataset\.\d+", key):
        known += [f"{table[0]}.{name}" for name in _keys(DatasetShare)]
    if error["type"] == "unexpected_keyword_argument":
        if key in _RENAMED:
            return f"key {key} is now called {_RENAMED[key]}; rename it"
        if key in known:
            return f"key {key} does not go with the chosen kind"
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
        close += [name for name in known if name.endswith(f".{key}")]
        section = key[: key.rfind(".") + 1]
        inside = [section + name.removeprefix(section).split(".")[0] for name in known if name.startswith(section)]
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(dict.fromkeys(inside))}"
        if table and key.rpartition(".")[2] in ("run", "dataset"):
            hint = "run belongs above the first [[dataset]], and there is no other key dataset beside it"
        return f"unknown key {key}; {hint}"
    if error["type"] in ("missing", "missing_argument"):
        return f"key {key} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{key}.{message}" if f"{key}.{message.split()[0]}" in known else f"{key}: {message}".removeprefix(": ")
    if error["loc"][:1] == ("dataset",):
        found = json.dumps(error["input"], default=repr)
        if ".speakers" in key:
            return f'{key} is {found}; expected names in a list, such as speakers = ["ann"]'
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
