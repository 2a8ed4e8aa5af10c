"""Reads an array from a file of NumPy, torch or safetensors. Reading it runs no code."""

import io
import pickle
import tokenize
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor


def read_array(path: Path, called: str, others: str = "") -> tuple[Tensor, dict[str, str]]:
    """The one array of a file, in float32, without a first dimension of 1 before two others; and what its metadata say.

    The file is one of NumPy (`.npy`; `.npz` with one array), of torch (`.pt`, `.pth` with one tensor), or a safetensors
    file with one tensor. Raises `FileNotFoundError`, or `ValueError` that says why it is no file of what is `called`;
    `others` are suffixes that the caller reads.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such {called} file")
    if not path.is_file():
        raise ValueError(f"{path} is a folder or device; expected a {called} file ({others}{_SUFFIXES})")
    try:
        array, said = _READERS.get(path.suffix.lower(), _read_safetensors)(path)
    except _UNREADABLE as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} is not a {called} file ({reason}); expected {others}{_SUFFIXES}") from error
    return array[0] if array.dim() == 3 and array.shape[0] == 1 else array, said


def _read_npy(path: Path) -> tuple[Tensor, dict[str, str]]:
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError("it does not begin as an array of NumPy does")
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        found = array.dtype if isinstance(array, np.ndarray) else "an archive"
        raise ValueError(f"it holds {found}, not an array of floating-point numbers")
    return _from_array(array), {}


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _read_npz(path: Path) -> tuple[Tensor, dict[str, str]]:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile) or len(archive.files) != 1:
            raise ValueError("it does not hold one array")
        array = archive[archive.files[0]]
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"it holds {array.dtype}, not an array of floating-point numbers")
    return _from_array(array), {}


def _read_torch(path: Path) -> tuple[Tensor, dict[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about what is no pickle of torch
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # its own message advises to run what is in the file
            raise ValueError("it is no file of torch, or holds more than tensors") from error
    if isinstance(found, dict) and len(found) == 1:
        (found,) = found.values()
    if not isinstance(found, Tensor) or not found.is_floating_point():
        what = found.dtype if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(f"it holds {what}, not one tensor of floating-point numbers")
    return found.detach().to(torch.float32), {}


def _read_safetensors(path: Path) -> tuple[Tensor, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} tensors, expected one")
        features = file.get_tensor(names[0])
        if not features.is_floating_point():
            raise ValueError(f"it holds {features.dtype}, not floating-point numbers")
        return features.to(torch.float32), file.metadata() or {}


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".pt": _read_torch, ".pth": _read_torch}
_SUFFIXES = ".npy, .npz, .pt or .safetensors"
_UNREADABLE = (
    *(SafetensorError, ValueError, EOFError, OSError, SyntaxError, MemoryError, RuntimeError, KeyError),
    *(tokenize.TokenError, pickle.UnpicklingError, zipfile.BadZipFile),
)
