"""The model file: named tensors and JSON metadata in safetensors. Reading it runs no code."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.utils import parametrize

from wavenet.atomic import check_utf8, write_atomically
from wavenet.network.config import WaveNetConfig
from wavenet.network.distributions import Distribution
from wavenet.network.feature_kinds import FeatureStatistics

_KEY = "wavenet-toolkit"  # one key for all metadata: safetensors writes several in no stable order
_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_FORMAT = "model, version 1"


def write_model(
    path: str | os.PathLike[str],
    config: WaveNetConfig,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor] | None,
    own_parts: Mapping[str, str],
    statistics: FeatureStatistics | None,
) -> None:
    """Write a model: its configuration, its tensors, the classes of its custom parts, the statistics of its features.

    Raises `ValueError` if the file would be refused when it is read, such as for tensors that are not as `expected`.
    """
    metadata: dict[str, Any] = {"config": config.to_dict()}
    if read_config(path, metadata["config"], [type(config.distribution)]).to_dict() != metadata["config"]:
        raise ValueError(f"{path}: the configuration would be read back as another; it is {config}")
    check_tensors(tensors, tensors if expected is None else expected, path)
    if own_parts:
        metadata["own_parts"] = dict(own_parts)
    if statistics is not None:
        metadata["features"] = asdict(statistics)
    write_model_file(path, tensors, metadata)


def write_model_file(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata. A file at `path` is replaced whole or not at all."""
    check_utf8(Path(path), "safetensors")
    header = {_KEY: json.dumps({"format": _FORMAT, **metadata}, ensure_ascii=False)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, metadata=header))


def read_model_file(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_model_file` wrote.

    Raises `ValueError` if there is no whole model file.
    """
    path = Path(path)
    if not path.is_file():
        inside = path / "model.safetensors"
        hint = f", such as {inside}" if inside.is_file() else " (.safetensors)"
        raise ValueError(f"{path} is a folder or device; expected a model file{hint}")
    check_utf8(path, "safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            metadata = json.loads(header[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except KeyError as error:
        raise ValueError(f"{path} is a safetensors file, but not a model of this toolkit (no {error} in it)") from error
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        raise ValueError(
            f"{path} is not a model file, or not a whole one; expected safetensors written by this toolkit"
        ) from error
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        found = metadata.get("format") if isinstance(metadata, dict) else metadata
        raise ValueError(f"{path}: its format is {found!r}; this version of the toolkit reads {_FORMAT!r}")
    return tensors, metadata


def plain_state(model: torch.nn.Module) -> dict[str, Tensor]:
    """The tensors of a model under the names that it has without parametrizations and compiled parts."""
    state = dict(model.state_dict())
    for prefix, module in model.named_modules():
        for name in getattr(module, "parametrizations", {}) if parametrize.is_parametrized(module) else ():
            inside = f"{prefix}.parametrizations.{name}.".lstrip(".")
            state = {key: tensor for key, tensor in state.items() if not key.startswith(inside)}
            state[f"{prefix}.{name}".lstrip(".")] = getattr(module, name)
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Raise `ValueError` that names the first tensor which is not as expected, or has weights that are not finite."""
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"{path}: tensor {name!r} is missing; the file does not fit its own configuration")
        if name not in expected:
            raise ValueError(f"{path}: tensor {name!r} is unknown; the file does not fit its own configuration")
        found, own = tensors[name], expected[name]
        if found.shape != own.shape:
            raise ValueError(
                f"{path}: tensor {name!r} has shape {tuple(found.shape)}; its configuration needs {tuple(own.shape)}"
            )
        if found.dtype not in (_TYPES if own.is_floating_point() else (own.dtype,)):
            kind = "a floating-point type" if own.is_floating_point() else own.dtype
            raise ValueError(f"{path}: tensor {name!r} is {found.dtype}; expected {kind}")
        if found.is_meta:
            raise ValueError(f"{path}: tensor {name!r} is on the meta device and has no values; load weights first")
        if not bool(_as_read(found).isfinite().all()):
            raise ValueError(f"{path}: tensor {name!r} has weights that are not finite (NaN or infinity)")


def _as_read(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def load_tensors(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Load these tensors, numbers in float32, into `module`, which may be on the meta device.

    Raises `ValueError` that names the first tensor which does not fit, or has weights that are not finite.
    """
    check_tensors(tensors, module.state_dict(), path)
    module.load_state_dict({name: _as_read(tensor) for name, tensor in tensors.items()}, assign=True)


def read_config(
    path: str | os.PathLike[str], values: Any, distributions: Sequence[type[Distribution]]
) -> WaveNetConfig:
    """The configuration of a model file; `distributions` are the classes of custom ones."""
    reader = TypeAdapter(WaveNetConfig)
    try:
        return reader.validate_json(json.dumps(values), context={"distributions": distributions})
    except TypeError as error:
        raise ValueError(f"{path}: its configuration is no plain values, as JSON has them ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        hint = ""
        if first["type"] == "union_tag_invalid":
            hint = "; pass the class of a custom distribution in from_pretrained(path, distributions=[...])"
        raise ValueError(
            f"{path}: its configuration is not one of this toolkit ({key}: {first['msg']}){hint}"
        ) from error


def read_statistics(path: str | os.PathLike[str], values: Any) -> FeatureStatistics | None:
    """The statistics of a model's features, which files of earlier versions lack."""
    try:
        return None if values is None else TypeAdapter(FeatureStatistics).validate_json(json.dumps(values))
    except ValidationError as error:
        raise ValueError(f"{path}: the statistics of its features are damaged ({error.errors()[0]['msg']})") from error
