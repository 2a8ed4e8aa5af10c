"""Turn recordings into a prepared dataset: one file of int16 samples, an index of clips and a manifest.

The files grow in `DATASET.partial/`, clip by clip in order, which is renamed to `DATASET/` at the end. An interrupted
preparation goes on from the last whole clip.
"""

import hashlib
import json
import os
import shutil
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
from torch import Tensor

from wavenet.atomic import write_atomically
from wavenet.data.audio import (
    check_sample_rate,
    find_sound,
    fit_full_scale,
    read_audio,
    resample,
    scale_to_level,
    to_int16,
)
from wavenet.data.corpus import Recording, printable
from wavenet.data.dataset import IndexEntry, checksum
from wavenet.machine import alone_in, workers
from wavenet.network import TimedLabel, cut_timed_labels, plain_numbers

FORMAT = "wavenet-toolkit dataset, version 1"
_DATA_FILES = ("audio.pcm", "index.jsonl", "skipped.jsonl")


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Settings of preparation.

    The ends of a clip that stay `trim_db` below its peak are cut; `None` keeps them. With `level_db` each clip is then
    scaled to this level in decibels below full scale (root mean square), or as near as its peak allows; `None` keeps
    its own.
    """

    sample_rate: int = 16000
    trim_db: float | None = 40.0
    level_db: float | None = None

    def __post_init__(self) -> None:
        plain_numbers(self)
        check_sample_rate(self.sample_rate)
        if self.trim_db is not None and not self.trim_db > 0:
            raise ValueError(
                f"trim_db is {self.trim_db}; expected a positive number of decibels, or none to switch off"
            )
        if self.level_db is not None and not 0 < self.level_db < 100:
            raise ValueError(f"level_db is {self.level_db}; expected 0 to 100 decibels below full scale, such as 26")


@dataclass(frozen=True)
class Skipped:
    """A recording that was left out of the dataset, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """A clip as it is written: `samples` `(T,)`, and its timed labels by its own clock. `cut`: trimming cut some."""

    samples: NDArray[np.int16]
    timed_labels: tuple[TimedLabel, ...] = ()
    cut: bool = False


def load_clip(recording: Recording, config: PrepareConfig) -> Loaded | Skipped:
    """Decode, resample and trim a recording and round it to int16. For a broken file, returns the reason."""
    try:
        waveform, rate = read_audio(recording.path)
        try:
            waveform = resample(waveform, rate, config.sample_rate)
        except ValueError as error:
            raise ValueError(f"{recording.path}: {error}") from error
        if not waveform.any():
            raise ValueError(f"{recording.path}: nothing but digital silence")
        kept = _kept(waveform, recording.path, config)
        seconds = (number / config.sample_rate for number in (len(waveform), kept.start, kept.stop))
        labels, cut = _labels_in(recording, *seconds)
        waveform = waveform[kept]
        if config.level_db is None:
            waveform = fit_full_scale(waveform, recording.path)
        else:
            waveform = scale_to_level(waveform, config.level_db)
        samples = to_int16(waveform).numpy()
        if not samples.any():
            peak = float(waveform.abs().max())
            raise ValueError(f"{recording.path}: its peak of {peak:.2g} rounds to silence in 16 bits; make it louder")
        return Loaded(samples, labels, cut)
    except (ValueError, OSError, MemoryError) as error:
        return Skipped(recording.name, printable(str(error)))


def _labels_in(recording: Recording, seconds: float, start: float, end: float) -> tuple[tuple[TimedLabel, ...], bool]:
    """The timed labels of what is kept of a recording, from `start` to `end`, and whether some were cut."""
    labels = recording.timed_labels
    if labels and labels[-1].end > seconds + _ROUNDED:
        raise ValueError(
            f"{recording.path} lasts {seconds:g} s, and its timed label {labels[-1].name!r} ends at "
            f"{labels[-1].end:g} s; expected the labels of this recording"
        )
    cut = bool(labels) and not (labels[0].start >= start - _ROUNDED and labels[-1].end <= end + _ROUNDED)
    return cut_timed_labels(labels, start, end), cut


_ROUNDED = 0.02
"""Aligners count in frames: labels may reach so much beyond what they label, in seconds."""


def _kept(waveform: Tensor, path: Path, config: PrepareConfig) -> slice:
    """All but silent ends, if the settings say so; with a warning if that is less than half of the waveform."""
    if config.trim_db is None:
        return slice(0, len(waveform))
    kept = find_sound(waveform, config.sample_rate, config.trim_db)
    if 2 * (kept.stop - kept.start) < len(waveform):
        left, all_of_it = (kept.stop - kept.start) / config.sample_rate, len(waveform) / config.sample_rate
        warnings.warn(f"{path}: trimming keeps {left:.2f} of {all_of_it:.2f} s", stacklevel=2)
    return kept


def _load(recording: Recording, config: PrepareConfig) -> tuple[Loaded | Skipped, list[str]]:
    """The clip, and the warnings about it, which a worker process cannot print."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load_clip(recording, config)
    return loaded, [printable(str(warning.message)) for warning in caught]


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
    cut = []
    try:
        with work, _mapper(jobs, len(remaining)) as map_all:
            loaded = map_all(partial(_load, config=config), remaining)
            for recording, (clip, warned) in zip(remaining, loaded, strict=True):
                work.add(recording, clip)
                if isinstance(clip, Loaded) and clip.cut:
                    cut.append(recording.name)
                for message in warned:
                    note(message)
                progress(1)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; calling prepare_dataset again continues", str(folder)) from error
    if not work.samples:
        shutil.rmtree(folder)
        for skipped in work.skipped[1:]:
            note(f"skipped: {skipped.reason}")
        raise ValueError(f"none of the {len(recordings)} recordings could be read; the first: {work.skipped[0].reason}")
    if cut:
        note(f"clips whose timed labels trimming cut: {len(cut)} (the first: {cut[0]})")
    _write_manifest(folder, config, found, work)
    return work


def _settings(recordings: Sequence[Recording], config: PrepareConfig, found: Mapping[str, str]) -> dict[str, Any]:
    listing = json.dumps([_known(recording) for recording in recordings])
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return {"format": FORMAT, **asdict(config), "found": dict(found), "clips": digest}


def _known(recording: Recording) -> dict[str, Any]:
    """What is known of a recording and of its file: a file that has changed is read anew."""
    with suppress(OSError):
        status = recording.path.stat()
        return {
            **asdict(recording),
            "path": str(recording.path.absolute()),
            "file": [status.st_size, status.st_mtime_ns],
        }
    return {**asdict(recording), "path": str(recording.path.absolute())}


class _Work:
    """The half-made dataset in `folder`. Samples are appended first, then the index line that counts them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = 0
        self.skipped: list[Skipped] = []
        self.done: set[str] = set()
        self.clips = 0

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
        for file in (index, skipped):
            whole = file.read_bytes().rpartition(b"\n")
            os.truncate(file, len(whole[0]) + len(whole[1]))
        for line in index.read_text("utf-8").split("\n")[:-1]:
            entry = json.loads(line)
            self.samples = entry["offset"] + entry["samples"]
            self.done.add(entry["name"])
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

    def add(self, recording: Recording, loaded: Loaded | Skipped) -> None:
        if isinstance(loaded, Skipped):
            self.skipped.append(loaded)
            self._skips.write(json.dumps(asdict(loaded)) + "\n")
            self._skips.flush()
            return
        self._audio.write(loaded.samples.astype("<i2").tobytes())
        self._audio.flush()
        entry = IndexEntry(
            name=recording.name,
            split=recording.split,
            speaker=recording.speaker,
            text=recording.text,
            source=printable(str(recording.path)),
            offset=self.samples,
            samples=len(loaded.samples),
            labels=recording.labels,
            timed_labels=loaded.timed_labels,
        )
        self._index.write(entry.to_json() + "\n")
        self._index.flush()
        self.samples += len(loaded.samples)
        self.clips += 1


@contextmanager
def _mapper(jobs: int, recordings: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` that uses processes if it pays: each takes seconds to start, because it imports torch."""
    count = min(jobs, recordings // 100)
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
