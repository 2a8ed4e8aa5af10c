"""Walk a folder of recordings: nothing in it vanishes. Links are followed, and what is not taken is said."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from wavenet.data.audio import FFMPEG_SUFFIXES, audio_suffixes

_APPLE_DOUBLE = b"\x00\x05\x16\x07"


@dataclass
class Found:
    """What lies below a folder, sorted by path.

    `files` have a suffix of audio. `broken` are what cannot be followed: links to nothing, folders that may not be
    read, paths that are too long. `others` are all other files.
    """

    files: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def walk(source: Path, note: Callable[[str], None]) -> Found:
    """Find the files below `source`. Linked folders are followed; each folder is taken once, by its own name if it has
    one there, and `note` is told of the other names.

    What macOS writes beside files on foreign disks (`._NAME`, `.DS_Store`) is passed over.
    """
    found, taken, suffixes = Found(), set[tuple[int, int]](), audio_suffixes()
    links = [source]
    while links:  # folders by their own names come before those behind links
        waiting, links = sorted(links), []
        for root in waiting:
            for folder, linked, names in _folders(root, taken, found, note):
                links += linked
                for name in names:
                    _sort_in(folder / name, suffixes, found)
    for paths in (found.files, found.broken, found.others):
        paths.sort()
    return found


def _folders(
    root: Path, taken: set[tuple[int, int]], found: Found, note: Callable[[str], None]
) -> Iterator[tuple[Path, list[Path], list[str]]]:
    """Each folder from `root` down that is not `taken` yet, the linked folders in it, and the names of its files.

    (`os.walk` calls itself for each level until Python 3.12, and fails in a folder 1,000 levels deep.)
    """
    waiting = [os.fspath(root)]
    while waiting:
        path = waiting.pop()
        try:
            status, names = os.stat(path), sorted(os.listdir(path))
        except OSError:
            found.broken.append(Path(path))
            continue
        if (status.st_dev, status.st_ino) in taken:
            note(f"{path} is a folder that is there by another name too; it is taken once")
            continue
        taken.add((status.st_dev, status.st_ino))
        folders, linked, files = list[str](), list[Path](), list[str]()
        for name in names:
            inside = os.path.join(path, name)
            if not os.path.isdir(inside):
                files.append(name)
            elif os.path.islink(inside):
                linked.append(Path(inside))
            else:
                folders.append(inside)
        waiting += reversed(folders)
        yield Path(path), linked, files


def _sort_in(path: Path, suffixes: frozenset[str], found: Found) -> None:
    if not os.path.exists(path):
        found.broken.append(path)
    elif path.name != ".DS_Store" and not _is_apple_double(path):
        (found.files if path.suffix.lower() in suffixes else found.others).append(path)


def _is_apple_double(path: Path) -> bool:
    """Whether macOS wrote a file to keep what a foreign disk cannot of another one, which is mostly beside it."""
    if not path.name.startswith("._"):
        return False
    if path.with_name(path.name[2:]).exists():
        return True
    with suppress(OSError), open(path, "rb") as file:
        return file.read(4) == _APPLE_DOUBLE
    return False


_TEXTS = tuple(".txt .md .csv .tsv .json .jsonl .xml .html .pdf .yaml .yml .toml .log .py .sh".split())  # noqa: SIM905


def describe_others(found: Found) -> str | None:
    """One line about the files that were not taken, by suffix; `None` if there are none.

    It leaves out texts, tables and programs, and what else has the name of a recording beside it, as labels do.
    """
    recordings = {path.with_suffix("") for path in found.files}
    by_suffix: dict[str, list[Path]] = {}
    for path in found.others:
        suffix = path.suffix.lower()
        if suffix in FFMPEG_SUFFIXES or (suffix not in _TEXTS and path.with_suffix("") not in recordings):
            by_suffix.setdefault(suffix or "without a suffix", []).append(path)
    if not by_suffix:
        return None
    parts = [f"{len(paths)} {suffix} ({paths[0].name})" for suffix, paths in sorted(by_suffix.items())]
    hint = "; ffmpeg, which is not installed, would read some" if by_suffix.keys() & set(FFMPEG_SUFFIXES) else ""
    return f"files that are not taken: {', '.join(parts)}{hint}"
