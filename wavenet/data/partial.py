"""The half-made dataset of an interrupted preparation, which goes on from the last whole clip."""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
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
    """The half-made dataset in `folder`.

    A recording's samples and lines are appended first, then its line in `progress.jsonl`, which counts them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = 0
        self.skipped: list[Skipped] = []
        self.done: set[str] = set()
        self.clips = 0
        self.tally = Tally()
        self._ends = [0] * len(_DATA_FILES)
        self._crc = 0

    @classmethod
    def resume(cls, folder: Path, settings: dict[str, Any], note: Callable[[str], None]) -> "Work":
        """Go on in `folder` if it was begun with the same recordings and settings; otherwise begin anew.

        All that is kept is read, to compare it with its checksums. `note` is told if work that was done is lost.
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
        if any((folder / name).is_file() and (folder / name).stat().st_size for name in _DATA_FILES):
            note(f"{folder} was begun with other settings or files; it begins anew")
        for path in folder.iterdir():
            path.unlink()
        settings_file.write_bytes(data)
        return cls(folder)

    def _read_back(self, note: Callable[[str], None]) -> None:
        """Keep the finished recordings before the first damaged one."""
        for name in (*_DATA_FILES, PROGRESS):
            (self.folder / name).touch()
        lines, kept, damaged = (self.folder / PROGRESS).read_bytes().splitlines(keepends=True), 0, False
        with ExitStack() as stack:
            files = [stack.enter_context(open(self.folder / name, "rb")) for name in _DATA_FILES]
            for line in lines:
                try:
                    self._take(json.loads(line), files)
                except (ValueError, LookupError, TypeError, OverflowError):
                    damaged = line.endswith(b"\n")  # otherwise it was being written
                    break
                kept += len(line)
            beyond = _recordings_beyond(files, self._ends)
        if damaged or beyond > 1:  # one recording is on its way when a preparation is interrupted
            done = len(self.done)
            found = max(done + beyond, len(lines))
            note(f"{self.folder} is damaged: {done} of {found} recordings are kept, the others are read anew")
        for name, end in zip((*_DATA_FILES, PROGRESS), (*self._ends, kept), strict=True):
            os.truncate(self.folder / name, end)

    def _take(self, done: dict[str, Any], files: Sequence[BinaryIO]) -> None:
        """Count a recording that is done; `ValueError` if its line or what it added is not as it was written."""
        name, ends, clips, crc = done["name"], done["ends"], done["clips"], 0
        for file, begin, end in zip(files, self._ends, ends, strict=True):
            if file.seek(0, os.SEEK_END) < end:
                raise ValueError("it is cut short")
            file.seek(begin)
            for place in range(begin, end, _BLOCK):
                crc = zlib.crc32(file.read(min(_BLOCK, end - place)), crc)
        if done["crc"] != _checksum_of_line(name, ends, clips, crc):
            raise ValueError("it is damaged")
        files[2].seek(self._ends[2])
        reasons = files[2].read(ends[2] - self._ends[2]).splitlines()
        self.skipped += [Skipped(**json.loads(line)) for line in reasons]
        self.done.add(name)
        self.samples, self.clips, self._ends = ends[0] // 2, clips, ends

    def __enter__(self) -> "Work":
        with ExitStack() as stack:
            names = (*_DATA_FILES, PROGRESS)
            self._files = [stack.enter_context(open(self.folder / name, "ab")) for name in names]
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, name: str, loaded: Loaded | Skipped) -> None:
        """Append what became of the recording called `name`."""
        self._crc = 0
        if isinstance(loaded, Skipped):
            self.skipped.append(loaded)
            self._append(2, json.dumps(asdict(loaded)).encode() + b"\n")
        else:
            self._add_clips(loaded)
        for file in self._files[:-1]:
            file.flush()
        crc = _checksum_of_line(name, self._ends, self.clips, self._crc)
        done = {"name": name, "ends": self._ends, "clips": self.clips, "crc": crc}
        self._files[-1].write(json.dumps(done).encode() + b"\n")
        self._files[-1].flush()

    def _add_clips(self, loaded: Loaded) -> None:
        self.tally.add(loaded.tally)
        if isinstance(loaded.samples, Path):
            with open(loaded.samples, "rb") as file:
                while block := file.read(_BLOCK):
                    self._append(0, block)
            loaded.samples.unlink()
        else:
            self._append(0, loaded.samples.astype("<i2").tobytes())
        for clip in loaded.clips:
            self._append(1, self._entry(*clip).to_json().encode() + b"\n")

    def _append(self, number: int, data: bytes) -> None:
        """Write to the data file of this number; the files of a recording are written in their order."""
        self._files[number].write(data)
        self._ends[number] += len(data)
        self._crc = zlib.crc32(data, self._crc)

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


def _checksum_of_line(name: str, ends: Sequence[int], clips: int, crc: int) -> int:
    """The checksum of a line of `progress.jsonl`, and of what its recording added, whose own is `crc`."""
    return zlib.crc32(json.dumps([name, list(ends), clips]).encode(), crc)


def _recordings_beyond(files: Sequence[BinaryIO], ends: Sequence[int]) -> int:
    """How many recordings have lines behind `ends` in the index, and among the skipped."""
    sources: set[object] = set()
    for file, end in zip(files, ends, strict=True):
        file.seek(end)
    for line in files[1]:
        with suppress(ValueError, LookupError, TypeError):
            sources.add(json.loads(line)["source"])
    return len(sources) + len(files[2].read().splitlines())
