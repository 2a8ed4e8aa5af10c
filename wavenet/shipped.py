"""The models that come with the package, by name. Nothing here imports torch."""

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ShippedModel", "model_path", "shipped_models"]

_INSTALLED = Path(__file__).parent / "models"
_FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1] / "samples" / "models"  # in a clone


@dataclass(frozen=True, kw_only=True)
class ShippedModel:
    """A model that comes with the package. What its file does not say stands in `models.toml` beside it.

    `does` says what it is for, `example` is a command that uses it, `figures` are measured on held-out audio, `data` is
    what it was trained on, `licence` that of the data, and `page` the page about it in the repository.
    """

    name: str
    does: str
    example: str
    figures: str
    data: str
    licence: str
    page: str

    @property
    def path(self) -> Path:
        return _FOLDER / f"{self.name}.safetensors"

    @property
    def size(self) -> int:
        """The size of its file, in bytes."""
        return self.path.stat().st_size

    @property
    def sample_rate(self) -> int:
        """Its sample rate, in Hz."""
        with self.path.open("rb") as file:  # the header of a safetensors file: its length, and JSON
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return int(json.loads(header["__metadata__"]["wavenet-toolkit"])["config"]["sample_rate"])


def shipped_models() -> dict[str, ShippedModel]:
    """The models that come with the package, by name.

    >>> list(shipped_models())
    ['digits', 'prompts', 'speakers', 'vocoder']
    >>> shipped_models()["vocoder"].sample_rate
    16000
    """
    facts = tomllib.loads((_FOLDER / "models.toml").read_text("utf-8"))
    return {name: ShippedModel(name=name, **facts[name]) for name in sorted(facts)}


def model_path(model: str | os.PathLike[str]) -> Path:
    """The path of a model that is given by its path, or by the name of a shipped one.

    A file of that name in the current folder comes first, and so does a folder with a `model.safetensors`.
    Raises `FileNotFoundError` if there is neither a file or folder nor a shipped model of that name.
    """
    path = Path(model)
    if path.is_file() or (path / "model.safetensors").is_file():
        return path
    shipped = shipped_models()
    if str(path) in shipped:
        return shipped[str(path)].path
    if not path.exists():
        names = f", nor a shipped model: {', '.join(shipped)}" if path.name == str(path) else ""
        raise FileNotFoundError(f"{path}: no such model file{names}")
    return path
