"""The half-made dataset of an interrupted preparation, which goes on from the last whole clip."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.data.corpus import Recording, printable
from wavenet.data.dataset import IndexEntry
from wavenet.data.loading import Tally

_DATA_FILES = ("audio.pcm", "index.jsonl", "skipped.jsonl")
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
    """The half-made dataset in `folder`. Samples are appended first, then the index line that counts them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = 0
        self.skipped: list[Skipped] = []
        self.done: set[str] = set()
        self.clips = 0
        self.tally = Tally()

    @classmethod
    def resume(cls, folder: Path, settings: dict[str, Any]) -> "Work":
        """Go on in `folder` if it was begun with the same recordings and settings; otherwise begin anew."""
        work = cls(folder)
        settings_file = folder / "settings.json"
        if settings_file.is_file() and settings_file.read_text("utf-8") == json.dumps(settings):
            try:
                work._read_back()
                return work
            except (ValueError, LookupError, TypeError, OSError):
                work = cls(folder)  # damaged: begin anew
        for path in folder.glob(f"{PIECES}*"):
            path.unlink()
        if {path.name for path in folder.iterdir()} - {"settings.json", "manifest.json", *_DATA_FILES}:
            raise ValueError(f"{folder} is in the way: it is not a half-made dataset; move it or choose another path")
        for path in folder.iterdir():
            path.unlink()
        for name in _DATA_FILES:
            (folder / name).touch()
        settings_file.write_text(json.dumps(settings), "utf-8")
        return work

    def _read_back(self) -> None:
        index, skipped = self.folder / "index.jsonl", self.folder / "skipped.jsonl"
        for path in self.folder.glob(f"{PIECES}*"):
            path.unlink()
        for file in (index, skipped):
            whole = file.read_bytes().rpartition(b"\n")
            os.truncate(file, len(whole[0]) + len(whole[1]))
        lines = index.read_bytes().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines]
        if entries and "start" in entries[-1]:  # the last pieces of a long recording may be missing
            entries = [entry for entry in entries if entry["source"] != entries[-1]["source"]]
        os.truncate(index, sum(map(len, lines[: len(entries)])))
        for entry in entries:
            self.samples = entry["offset"] + entry["samples"]
            self.done.add(entry["name"].rpartition("/")[0] if "start" in entry else entry["name"])
            self.clips += 1
        for line in skipped.read_text("utf-8").split("\n")[:-1]:
            self.skipped.append(Skipped(**json.loads(line)))
            self.done.add(self.skipped[-1].name)
        audio = self.folder / "audio.pcm"
        if audio.stat().st_size < self.samples * 2:
            raise ValueError("samples are missing")
        os.truncate(audio, self.samples * 2)

    def __enter__(self) -> "Work":
        self._audio = open(self.folder / "audio.pcm", "ab")
        self._index = open(self.folder / "index.jsonl", "a", encoding="utf-8")
        self._skips = open(self.folder / "skipped.jsonl", "a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._audio, self._index, self._skips):
            file.close()

    def add(self, loaded: Loaded | Skipped) -> None:
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
