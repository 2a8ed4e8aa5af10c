"""A prepared dataset on disk: it may be larger than memory."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, PlainValidator, TypeAdapter, ValidationError
from torch import Tensor

from wavenet.data.audio import from_int16
from wavenet.network import TimedLabel, Tracks


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """A line of a dataset's index: where a clip's samples lie, and what is known of the clip.

    `labels` has the speaker too. A line without other labels leaves them out, as all lines of earlier versions do, and
    so does one without timed labels or tracks.
    `start` is the second of the file `source` at which a piece of a long recording begins; other clips have none.
    """

    name: str
    split: str
    speaker: str | None
    text: str | None
    source: str
    offset: int
    samples: int
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    timed_labels: tuple[TimedLabel, ...] = ()
    start: float | None = None
    tracks: Annotated[Tracks | None, PlainValidator(Tracks.from_dict)] = None

    def __post_init__(self) -> None:
        if self.speaker is not None and not self.labels:
            object.__setattr__(self, "labels", {"speaker": self.speaker})

    def to_json(self) -> str:
        values = asdict(self)
        if not self.labels.keys() - {"speaker"}:
            del values["labels"]
        if not self.timed_labels:
            del values["timed_labels"]
        if self.start is None:
            del values["start"]
        if self.tracks is None:
            del values["tracks"]
        else:
            values["tracks"] = self.tracks.to_dict()
        return json.dumps(values)


@dataclass(frozen=True, kw_only=True)
class PreparedClip(IndexEntry):
    """A clip of a prepared dataset. Its samples stay on disk, in the file `audio`, until they are asked for."""

    audio: Path
    sample_rate: int

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Samples `start` to `stop`: `(stop - start,)` float32. `OSError` or `ValueError` if the file is gone or cut.

        (A memory map would count all that was ever read as this process's memory, and end the process if the file is
        cut short.)
        """
        stop = self.samples if stop is None else stop
        samples = np.fromfile(self.audio, "<i2", stop - start, offset=2 * (self.offset + start))
        if len(samples) < stop - start:
            raise ValueError(f"{self.audio} was cut short since it was opened; prepare the dataset again")
        return from_int16(torch.from_numpy(samples.astype(np.int16)))


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The settings that a dataset was made with, and the checksum of its index and samples.

    `found` says how its recordings were found, as `prepare_dataset` was told.
    """

    format: Literal["wavenet-toolkit dataset, version 1"]
    sample_rate: Annotated[int, Field(ge=1000, le=768000)]
    trim_db: float | None
    level_db: float | None = None
    max_seconds: float | None = None
    high_pass: float | None = None
    loudness: float | None = None
    clips: Annotated[int, Field(ge=1)]
    samples: Annotated[int, Field(ge=1)]
    skipped: int
    sha256: str
    index_sha256: str | None = None
    found: Mapping[str, str] = field(default_factory=dict, hash=False)


def checksum(folder: Path, names: Sequence[str] = ("index.jsonl", "audio.pcm")) -> str:
    """The SHA-256 of some files of a dataset, in hexadecimal; its manifest records it."""
    total = hashlib.sha256()
    for name in names:
        with open(folder / name, "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def _first(error: ValidationError) -> str:
    details = error.errors()[0]
    return ": ".join([".".join(str(part) for part in details["loc"]), details["msg"]]).removeprefix(": ")


class PreparedDataset:
    """A dataset that `prepare_dataset` wrote: `clips`, which read themselves from disk, and its `manifest`."""

    def __init__(self, path: str | Path) -> None:
        """Raises `FileNotFoundError` if nothing is there, `ValueError` if it is not a whole dataset.

        The manifest is written last. If the audio is younger, its checksum tells whether it was edited; if it was not,
        the manifest is marked as younger again.
        """
        self.path = Path(path)
        self.manifest = self._read_manifest()
        self.sample_rate = self.manifest.sample_rate
        self._audio = audio = self.path / "audio.pcm"
        expected = self.manifest.samples * 2
        if not audio.is_file() or audio.stat().st_size != expected:
            found = f"{audio.stat().st_size} bytes" if audio.is_file() else "nothing"
            raise ValueError(f"{audio}: found {found}, its manifest says {expected} bytes; prepare the dataset again")
        self.clips = tuple(self._read_index())
        self._refuse_edits()

    def _refuse_edits(self) -> None:
        file, recorded = self.path / "manifest.json", self.manifest.index_sha256
        edited = len(self.clips) != self.manifest.clips
        if edited or (recorded is not None and checksum(self.path, ["index.jsonl"]) != recorded):
            raise ValueError(f"{self.path / 'index.jsonl'} was edited since it was prepared; prepare the dataset again")
        if self._audio.stat().st_mtime_ns > file.stat().st_mtime_ns:
            if checksum(self.path) != self.manifest.sha256:
                raise ValueError(f"{self._audio} was edited since it was prepared; prepare the dataset again")
            with suppress(OSError):
                os.utime(file)

    def _read_manifest(self) -> Manifest:
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such dataset; prepare_dataset makes one")
        file = self.path / "manifest.json"
        if not file.is_file():
            raise ValueError(f"{self.path} is not a prepared dataset (no manifest.json); prepare_dataset makes one")
        try:
            return TypeAdapter(Manifest).validate_json(file.read_bytes())
        except ValidationError as error:
            raise ValueError(
                f"{file} is not a dataset's manifest ({_first(error)}); prepare the dataset again"
            ) from error

    def _read_index(self) -> Iterator[PreparedClip]:
        file, reader = self.path / "index.jsonl", TypeAdapter(IndexEntry)
        try:
            for line in file.read_bytes().splitlines():
                entry = reader.validate_json(line)
                if entry.offset < 0 or entry.samples < 1 or entry.offset + entry.samples > self.manifest.samples:
                    raise ValueError(f"clip {entry.name!r} lies outside the audio")
                yield PreparedClip(**vars(entry), audio=self._audio, sample_rate=self.sample_rate)
        except ValidationError as error:
            raise ValueError(f"{file} is not a dataset's index ({_first(error)}); prepare the dataset again") from error
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror}); prepare the dataset again") from error

    def split(self, name: str, speakers: Collection[str] = ()) -> tuple[PreparedClip, ...]:
        """The clips of one split, of these `speakers` if any are named; `ValueError` if there are no such clips."""
        known = sorted({clip.speaker for clip in self.clips if clip.speaker is not None})
        for speaker in speakers:
            if speaker not in known:
                there = ", ".join(known) or "none"
                raise ValueError(f"{self.path} has no speaker {speaker!r}; it has {there} (name none to take all)")
        clips = tuple(clip for clip in self.clips if clip.split == name and (not speakers or clip.speaker in speakers))
        if not clips:
            present = sorted({clip.split for clip in self.clips})
            of = f" of {', '.join(speakers)}" if speakers else ""
            raise ValueError(
                f"{self.path} has no clips{of} in split {name!r}; it has {', '.join(present)}; "
                "prepare it again with more clips or another share held out"
            )
        return clips

    @property
    def held_out_split(self) -> str:
        """The split that training is evaluated on: `validation` if the corpus has one, else `test`."""
        return "validation" if any(clip.split == "validation" for clip in self.clips) else "test"
