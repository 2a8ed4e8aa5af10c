"""Reads tracks from files: CSV, which may have their times, or an array of the values at a model's frames."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from wavenet.network import Tracks, read_array


def read_tracks(path: str | Path, names: Sequence[str] = ()) -> Tracks:
    """The tracks of a file. Those of a model are called `names`, and the file may have no others.

    A `.csv` has a header that names the tracks, and a line of numbers for each frame; a column `seconds` has the times.
    Any other file has one array `(tracks, F)` (see `read_array`), the rows in the order of `names`. Without times the
    values are those of a model's frames.

    Raises `FileNotFoundError`, or `ValueError` that names the file.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        found, values, seconds = _read_csv(path)
        if unknown := [name for name in found if names and name not in names]:
            raise ValueError(f"{path} has a track {unknown[0]!r}; the model takes {', '.join(names)}")
    else:
        array, _ = read_array(path, "track")
        found, values, seconds = names, array[None] if array.dim() == 1 else array, None
    try:
        return Tracks(tuple(found), values, seconds)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_csv(path: Path) -> tuple[Sequence[str], Tensor, Tensor | None]:
    """The names of a table's columns but `seconds`, their values `(tracks, F)`, and the seconds if it has them."""
    try:
        header, *lines = csv.reader(path.read_text("utf-8-sig").splitlines())
        rows = [[float(field) for _, field in zip(header, line, strict=True)] for line in lines if line]
    except ValueError as error:
        raise ValueError(f"{path} is not CSV, a header and lines of as many numbers ({error})") from error
    names, columns = [name.strip() for name in header], torch.tensor(rows, dtype=torch.float64).reshape(-1, len(header))
    own = [index for index, name in enumerate(names) if name != "seconds"]
    seconds = columns[:, names.index("seconds")] if "seconds" in names else None
    return [names[index] for index in own], columns[:, own].T, seconds
