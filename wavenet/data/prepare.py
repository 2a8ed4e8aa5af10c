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
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from wavenet.atomic import write_atomically
from wavenet.data.corpus import Recording, printable
from wavenet.data.dataset import checksum
from wavenet.data.loading import PrepareConfig, Tally, load_clips
from wavenet.data.partial import PIECES, PROGRESS, Loaded, Skipped, Work
from wavenet.machine import alone_in, workers

FORMAT = "wavenet-toolkit dataset, version 1"
_LARGE_BYTES = 1 << 26
"""A file of this size takes longer to prepare than a process to start."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What is wrong when a file cannot be written, and not because of the recording."""


def _load(recording: Recording, config: PrepareConfig, folder: Path) -> tuple[Loaded | Skipped, list[str]]:
    """The clips of a recording, and the warnings about it, which a worker process cannot print.

    The pieces of a long one are in a file in `folder`. For a broken file, returns the reason.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded: Loaded | Skipped
        try:
            loaded = _load_or_raise(recording, config, folder)
        except (ValueError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            loaded = Skipped(recording.name, printable(str(error)))
    return loaded, [printable(str(warning.message)) for warning in caught]


def _load_or_raise(recording: Recording, config: PrepareConfig, folder: Path) -> Loaded:
    tally, clips = Tally(), list[tuple[Recording, float | None, int]]()
    pieces = load_clips(recording, config, tally, folder)
    first = next(pieces)
    if first.start is None:
        return Loaded([(first.of(recording), None, len(first.samples))], first.samples, tally)
    number, name = tempfile.mkstemp(prefix=PIECES, dir=folder)
    try:
        with open(number, "wb") as file:
            for piece in itertools.chain([first], pieces):
                file.write(piece.samples.astype("<i2").tobytes())
                clips.append((piece.of(recording), piece.start, len(piece.samples)))
    except BaseException:
        Path(name).unlink()  # or it would stay in the finished dataset
        raise
    return Loaded(clips, Path(name), tally)


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
    if destination.is_symlink() and not destination.exists():
        raise ValueError(f"{destination} is a link to {os.readlink(destination)}, which is not there; remove it")
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
        (destination / PROGRESS).unlink(missing_ok=True)
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
) -> Work:
    """Write all files of a dataset in `folder`, which may hold a half-made one with the same settings."""
    work = Work.resume(folder, _settings(recordings, config, found), note)
    progress(len(work.done))
    remaining = [recording for recording in recordings if recording.name not in work.done]
    try:
        with work, _mapper(jobs, remaining) as map_all:
            results = map_all(partial(_load, config=config, folder=folder), remaining)
            for recording, (loaded, warned) in zip(remaining, results, strict=True):
                work.add(recording.name, loaded)
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


def _write_manifest(folder: Path, config: PrepareConfig, found: Mapping[str, str], work: Work) -> None:
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
