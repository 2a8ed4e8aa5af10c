"""Files that belong to the recordings of a corpus, such as timed labels and tracks, matched to them by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wavenet.data.folders import walk
from wavenet.data.labels import match_rows


@dataclass(frozen=True)
class _Companion:
    name: str
    path: Path


def companions_below(folder: Path, table: Path | None) -> list[Path]:
    """The files below `folder` that are neither audio nor the corpus's `table` of metadata."""
    return [path for path in walk(folder, lambda message: None).others if not (table and path.samefile(table))]


def match_companions(
    folder: Path, files: Sequence[Path], recordings: Sequence[str], note: Callable[[str], None]
) -> dict[str, Path]:
    """The one of `files` of each recording that has one.

    `recordings` are paths below a corpus. A file has the name of its recording, perhaps without the folders. `note` is
    told what has no partner. Raises `ValueError` if two files are for one recording.
    """
    named: dict[str, _Companion] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if (other := named.setdefault(name, _Companion(name, path))).path is not path:
            raise ValueError(f"{other.path} and {path} are for one recording; keep one of them")
    matched = match_rows(folder, list(named.values()), recordings, note, called="file")
    return {name: file.path for name, file in matched.items()}
