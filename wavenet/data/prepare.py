"""Turn recordings into a prepared dataset: one file of int16 samples, an index of clips and a manifest.

The files grow in `DATASET.partial/`, clip by clip in order, which is renamed to `DATASET/` at the end. An interrupted
preparation goes on from the last whole clip.
"""

import errno
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.atomic import write_atomically
from wavenet.data.corpus import Recording, printable
from wavenet.data.dataset import IndexEntry, checksum
from wavenet.data.loading import PrepareConfig, Tally, load_clips
from wavenet.machine import alone_in, workers

FORMAT = "wavenet-toolkit dataset, version 1"
_DATA_FILES = ("audio.pcm", "index.jsonl", "skipped.jsonl")
_PIECES = "pieces-"
"""Begins the name of a file of pieces that a worker has cut and that are not in the dataset yet."""
_LARGE_BYTES = 1 << 26
"""A file of this size takes longer to prepare than a process to start."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What is wrong when a file cannot be written, and not because of the recording."""


@dataclass(frozen=True)
class Skipped:
    """A recording that was left out of the dataset, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Loaded:
    """The clips of a recording: where each begins, if it was cut, and its length; samples in memory, or in a file."""

    clips: Sequence[tuple[Recording, float | None, int]]
    samples: NDArray[np.int16] | Path
    tally: Tally


def _load(recording: Recording, config: PrepareConfig, folder: Path) -> tuple[_Loaded | Skipped, list[str]]:
    """The clips of a recording, and the warnings about it, which a worker process cannot print.

    The pieces of a long one are in a file in `folder`. For a broken file, returns the reason.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded: _Loaded | Skipped
        try:
            loaded = _load_or_raise(recording, config, folder)
        except (ValueError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            loaded = Skipped(recording.name, printable(str(error)))
    return loaded, [printable(str(warning.message)) for warning in caught]


def _load_or_raise(recording: Recording, config: PrepareConfig, folder: Path) -> _Loaded:
    tally, clips = Tally(), list[tuple[Recording, float | None, int]]()
    pieces = load_clips(recording, config, tally, folder)
    first = next(pieces)
    if first.start is None:
        return _Loaded([(first.of(recording), None, len(first.samples))], first.samples, tally)
    number, name = tempfile.mkstemp(prefix=_PIECES, dir=folder)
    try:
        with open(number, "wb") as file:
            for piece in itertools.chain([first], pieces):
                file.write(piece.samples.astype("<i2").tobytes())
                clips.append((piece.of(recording), piece.start, len(piece.samples)))
    except BaseException:
        Path(name).unlink()  # or it would stay in the finished dataset
        raise
    return _Loaded(clips, Path(name), tally)


def prepare_dataset(
    recordings: Sequence[Recording],
    destination: Path,
    config: PrepareConfig,
    *,
    jobs: int = 1,
    force: bool = False,
    found: Mapping[str, str] | None = None,
    progress: Callable[[int], None] = lambda recordings: None,
    note: Callable[[str], None] = lambda message: warnings.warn(message, stacklevel=4),
) -> list[Skipped]:
    """Write the dataset and return the recordings that had to be left out.

    `force` replaces a dataset that stands at `destination`. `found` says how the recordings were found, such as the
    pattern of their labels, for the manifest. `progress` is called with the number of recordings just done,
    `note` with a line about each recording that is not taken as it is: clipped, scaled down, mostly trimmed, or read
    against its header.
    Raises `FileExistsError` if `destination` exists without `force`, `ValueError` if no recording could be read.
    """
    if destination.name in ("", ".."):
        raise ValueError(f"destination is {destination}, which has no name of its own; give the new folder a name")
    if destination.exists() and not force:
        raise FileExistsError(f"{destination} exists; choose another path or replace it (force=True)")
    if destination.exists() and not (destination / "manifest.json").is_file():
        raise ValueError(f"{destination} is not a prepared dataset, so it is not replaced; choose another path")
    replaced = destination.with_name(destination.name + ".replaced")
    if replaced.exists() and not (replaced / "manifest.json").is_file():
        raise ValueError(f"{replaced} is in the way: it is not a replaced dataset; move it or choose another path")
    partial_folder = destination.with_name(destination.name + ".partial")
    if partial_folder.exists() and not partial_folder.is_dir():
        raise ValueError(f"{partial_folder} is in the way: it is not a half-made dataset; move it")
    partial_folder.mkdir(parents=True, exist_ok=True)
    with alone_in(partial_folder):
        work = _write(recordings, partial_folder, config, found or {}, jobs, progress, note)
        if destination.exists():
            destination.rename(replaced)
        partial_folder.rename(destination)
        shutil.rmtree(replaced, ignore_errors=True)
    return work.skipped


def _write(
    recordings: Sequence[Recording],
    folder: Path,
    config: PrepareConfig,
    found: Mapping[str, str],
    jobs: int,
    progress: Callable[[int], None],
    note: Callable[[str], None],
) -> "_Work":
    """Write all files of a dataset in `folder`, which may hold a half-made one with the same settings."""
    work = _Work.resume(folder, _settings(recordings, config, found))
    progress(len(work.done))
    remaining = [recording for recording in recordings if recording.name not in work.done]
    try:
        with work, _mapper(jobs, remaining) as map_all:
            results = map_all(partial(_load, config=config, folder=folder), remaining)
            for loaded, warned in results:
                work.add(loaded)
                for message in warned:
                    note(message)
                progress(1)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; calling prepare_dataset again continues", str(folder)) from error
    finally:  # at Ctrl-C too: what is done is not counted again
        for line in work.tally.lines(config):
            note(line)
    if not work.samples:
        shutil.rmtree(folder)
        for skipped in work.skipped[1:]:
            note(f"skipped: {skipped.reason}")
        raise ValueError(f"none of the {len(recordings)} recordings could be read; the first: {work.skipped[0].reason}")
    _write_manifest(folder, config, found, work)
    return work


def _settings(recordings: Sequence[Recording], config: PrepareConfig, found: Mapping[str, str]) -> dict[str, Any]:
    listing = json.dumps([_known(recording) for recording in recordings])
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return {"format": FORMAT, **asdict(config), "found": dict(found), "clips": digest}


def _known(recording: Recording) -> dict[str, Any]:
    """What is known of a recording and of its file: a file that has changed is read anew."""
    tracks = None if recording.tracks is None else recording.tracks.to_dict()
    known = {**asdict(recording), "path": str(recording.path.absolute()), "tracks": tracks}
    with suppress(OSError):
        status = recording.path.stat()
        known["file"] = [status.st_size, status.st_mtime_ns]
    return known


class _Work:
    """The half-made dataset in `folder`. Samples are appended first, then the index line that counts them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = 0
        self.skipped: list[Skipped] = []
        self.done: set[str] = set()
        self.clips = 0
        self.tally = Tally()

    @classmethod
    def resume(cls, folder: Path, settings: dict[str, Any]) -> "_Work":
        """Go on in `folder` if it was begun with the same recordings and settings; otherwise begin anew."""
        work = cls(folder)
        settings_file = folder / "settings.json"
        if settings_file.is_file() and settings_file.read_text("utf-8") == json.dumps(settings):
            try:
                work._read_back()
                return work
            except (ValueError, LookupError, TypeError, OSError):
                work = cls(folder)  # damaged: begin anew
        for path in folder.glob(f"{_PIECES}*"):
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
        for path in self.folder.glob(f"{_PIECES}*"):
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

    def __enter__(self) -> "_Work":
        self._audio = open(self.folder / "audio.pcm", "ab")
        self._index = open(self.folder / "index.jsonl", "a", encoding="utf-8")
        self._skips = open(self.folder / "skipped.jsonl", "a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._audio, self._index, self._skips):
            file.close()

    def add(self, loaded: _Loaded | Skipped) -> None:
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


@contextmanager
def _mapper(jobs: int, recordings: Sequence[Recording]) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` that uses processes if it pays: each takes seconds to start, because it imports torch."""
    large = sum(_size(recording.path) > _LARGE_BYTES for recording in recordings)
    count = min(jobs, max(len(recordings) // 100, large))
    if count <= 1:
        yield map
        return
    with workers(count) as pool:

        def map_ahead(work: Callable[[Recording], Any], recordings: Sequence[Recording]) -> Iterator[Any]:
            """Results in order. Workers run only so far ahead that results do not pile up behind a long recording."""
            pending: deque[Future[Any]] = deque()
            for recording in recordings:
                pending.append(pool.submit(work, recording))
                if len(pending) > 4 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

        yield map_ahead


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _write_manifest(folder: Path, config: PrepareConfig, found: Mapping[str, str], work: _Work) -> None:
    manifest = {
        "format": FORMAT,
        **asdict(config),
        "found": dict(found),
        "clips": work.clips,
        "samples": work.samples,
        "skipped": len(work.skipped),
        "sha256": checksum(folder),
        "index_sha256": checksum(folder, ["index.jsonl"]),
    }
    write_atomically(folder / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())
