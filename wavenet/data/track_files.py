"""Reads tracks from files: CSV, which may have their times, or an array of the values at a model's frames."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from wavenet.data.companions import companions_below, match_companions
from wavenet.network import Tracks, read_array


def read_tracks(path: str | Path, names: Sequence[str] = ()) -> Tracks:
    """The tracks of a file; `names` are those that a model takes.

    A `.csv` has a header that names the tracks, and a line of numbers for each frame; a column `seconds` has the times.
    Any other file has one array `(tracks, F)` (see `read_array`), the rows in the order of `names`. Without times the
    values are those of a model's frames.

    Raises `FileNotFoundError`, or `ValueError` that names the file.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        found, values, seconds = _read_csv(path)
    else:
        array, _ = read_array(path, "track", ".csv, ")
        found, values, seconds = names, array[None] if array.dim() == 1 else array, None
    try:
        return Tracks(tuple(found), values, seconds)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_track_folder(
    folder: Path, recordings: Sequence[str], *, table: Path | None = None, note: Callable[[str], None]
) -> dict[str, Tracks]:
    """The tracks in the `.csv` file below `folder` of each recording that has one, matched as `match_companions` does.

    Raises `FileNotFoundError`, or `ValueError` that names the file or the recording.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of tracks")
    files = [path for path in companions_below(folder, table) if path.suffix.lower() == ".csv"]
    if not files:
        raise ValueError(f"{folder} has no tracks; expected files .csv")
    found = {name: read_tracks(path) for name, path in match_companions(folder, files, recordings, note).items()}
    for name, tracks in found.items():
        if tracks.seconds is None:
            raise ValueError(f"the tracks of {name} in {folder} have no times; expected a column seconds")
    return found


def _read_csv(path: Path) -> tuple[Sequence[str], Tensor, Tensor | None]:
    """The names of a table's columns but `seconds`, their values `(tracks, F)`, and the seconds if it has them."""
    try:
        header, *lines = csv.reader(path.read_text("utf-8-sig").splitlines())
        if not header:
            raise ValueError("the first line is empty")
        rows = [[float(field) for _, field in zip(header, line, strict=True)] for line in lines if line]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not CSV, a header and lines of as many numbers ({error})") from error
    names, columns = [name.strip() for name in header], torch.tensor(rows, dtype=torch.float64).reshape(-1, len(header))
    own = [index for index, name in enumerate(names) if name != "seconds"]
    seconds = columns[:, names.index("seconds")] if "seconds" in names else None
    return [names[index] for index in own], columns[:, own].T, seconds
