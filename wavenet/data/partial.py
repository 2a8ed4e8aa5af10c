"""The half-made dataset of an interrupted preparation, which goes on from the last whole clip."""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from wavenet.data.corpus import Recording, printable
from wavenet.data.dataset import IndexEntry
from wavenet.data.loading import Tally

_DATA_FILES = ("audio.pcm", "index.jsonl", "skipped.jsonl")
PROGRESS = "progress.jsonl"
"""A line for each recording that is done: where the data files ended after it, and a checksum of what it added."""
_BLOCK = 1 << 20
PIECES = "pieces-"
"""Begins the name of a file of pieces that a worker has cut and that are not in the dataset yet."""


@dataclass(frozen=True)
class Skipped:
    """A recording that was left out of the dataset, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """The clips of a recording: where each begins, if it was cut, and its length; samples in memory, or in a file."""

    clips: Sequence[tuple[Recording, float | None, int]]
    samples: NDArray[np.int16] | Path
    tally: Tally


class Work:
    """The half-made dataset in `folder`. A recording's samples and lines are appended first, then what counts them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = 0
        self.skipped: list[Skipped] = []
        self.done: set[str] = set()
        self.clips = 0
        self.tally = Tally()
        self._ends = [0] * len(_DATA_FILES)

    @classmethod
    def resume(cls, folder: Path, settings: dict[str, Any], note: Callable[[str], None]) -> "Work":
        """Go on in `folder` if it was begun with the same recordings and settings; otherwise begin anew.

        `note` is told if work that was done is lost.
        """
        settings_file, data = folder / "settings.json", json.dumps(settings).encode()
        for path in folder.glob(f"{PIECES}*"):
            path.unlink()
        if settings_file.is_file() and settings_file.read_bytes() == data:
            work = cls(folder)
            work._read_back(note)
            return work
        own = {"settings.json", "manifest.json", PROGRESS, *_DATA_FILES}
        if {path.name for path in folder.iterdir()} - own:
            raise ValueError(f"{folder} is in the way: it is not a half-made dataset; move it or choose another path")
        if (folder / PROGRESS).is_file() and (folder / PROGRESS).stat().st_size:
            note(f"{folder} was begun with other settings or files; it begins anew")
        for path in folder.iterdir():
            path.unlink()
        settings_file.write_bytes(data)
        return cls(folder)

    def _read_back(self, note: Callable[[str], None]) -> None:
        """Keep what the recordings have added that are done, up to the first of which something is damaged."""
        progress, kept = self.folder / PROGRESS, 0
        for name in (*_DATA_FILES, PROGRESS):
            (self.folder / name).touch()
        lines = progress.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            del lines[-1]  # it was being written
        with open(self.folder / _DATA_FILES[2], "rb") as skipped:
            for line in lines:
                try:
                    self._take(json.loads(line), skipped)
                except (ValueError, LookupError, TypeError, OverflowError):
                    note(
                        f"{self.folder} is damaged: {len(self.done)} of {len(lines)} recordings are kept, the others "
                        "are read anew"
                    )
                    break
                kept += len(line)
        for name, end in zip((*_DATA_FILES, PROGRESS), (*self._ends, kept), strict=True):
            os.truncate(self.folder / name, end)

    def _take(self, done: dict[str, Any], skipped: BinaryIO) -> None:
        """Count a recording that is done; `ValueError` if what it added is not there."""
        name, ends, clips = str(done["name"]), list(map(int, done["ends"])), int(done["clips"])
        if any(map(int.__lt__, ends, self._ends)) or self._checksum(ends) != done["crc"]:
            raise ValueError("it is damaged")
        skipped.seek(self._ends[2])
        reasons = [Skipped(**json.loads(line)) for line in skipped.read(ends[2] - self._ends[2]).splitlines()]
        self.skipped += reasons
        self.done.add(name)
        self.samples, self.clips, self._ends = ends[0] // 2, clips, ends

    def _checksum(self, ends: Sequence[int]) -> int | None:
        """Of what lies in the data files between where the last recording ended and `ends`; `None` if less is there."""
        crc = 0
        for name, begin, end in zip(_DATA_FILES, self._ends, ends, strict=True):
            with open(self.folder / name, "rb") as file:
                file.seek(begin)
                while begin < end:
                    block = file.read(min(_BLOCK, end - begin))
                    if not block:
                        return None
                    crc, begin = zlib.crc32(block, crc), begin + len(block)
        return crc

    def __enter__(self) -> "Work":
        self._audio = open(self.folder / "audio.pcm", "ab")
        self._index = open(self.folder / "index.jsonl", "a", encoding="utf-8")
        self._skips = open(self.folder / "skipped.jsonl", "a", encoding="utf-8")
        self._progress = open(self.folder / PROGRESS, "a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._audio, self._index, self._skips, self._progress):
            file.close()

    def add(self, name: str, loaded: Loaded | Skipped) -> None:
        """Append what became of the recording called `name`."""
        self._append(loaded)
        ends = [(self.folder / file).stat().st_size for file in _DATA_FILES]
        done = {"name": name, "ends": ends, "clips": self.clips, "crc": self._checksum(ends)}
        self._ends = ends
        self._progress.write(json.dumps(done) + "\n")
        self._progress.flush()

    def _append(self, loaded: Loaded | Skipped) -> None:
        if isinstance(loaded, Skipped):
            self.skipped.append(loaded)
            self._skips.write(json.dumps(asdict(loaded)) + "\n")
            self._skips.flush()
            return
        self.tally.add(loaded.tally)
        if isinstance(loaded.samples, Path):
            with open(loaded.samples, "rb") as file:
                shutil.copyfileobj(file, self._audio)
            loaded.samples.unlink()
        else:
            self._audio.write(loaded.samples.astype("<i2").tobytes())
        self._audio.flush()
        self._index.writelines(self._entry(*clip).to_json() + "\n" for clip in loaded.clips)
        self._index.flush()

    def _entry(self, clip: Recording, start: float | None, samples: int) -> IndexEntry:
        """The line of the next clip, which is counted."""
        entry = IndexEntry(
            name=clip.name,
            split=clip.split,
            speaker=clip.speaker,
            text=clip.text,
            source=printable(str(clip.path)),
            offset=self.samples,
            samples=samples,
            labels=clip.labels,
            timed_labels=clip.timed_labels,
            start=start,
            tracks=clip.tracks,
        )
        self.samples += samples
        self.clips += 1
        return entry
