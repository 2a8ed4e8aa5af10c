"""Find the recordings of a corpus: any folder of audio, or a known layout. Nothing is decoded here."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torchaudio import datasets

from wavenet.data.audio import AUDIO_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A file of audio that was found: its path, and what is known of it. `name` is unique in its corpus."""

    name: str
    path: Path
    split: str
    speaker: str | None = None
    text: str | None = None


def stable_split(name: str, held_out: float) -> str:
    """`test` for a share `held_out` of all names, else `train`.

    A hash of the name decides, so adding recordings to a corpus moves none from one split to the other.
    """
    digest = hashlib.sha256(name.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < held_out * 2**64 else "train"


def printable(name: str) -> str:
    """A file name as text; bytes that are not UTF-8 are spelled out, as in `caf\\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def find_clips(
    source: Path, corpus: str, *, held_out: float, speakers: bool = False, download: bool = False
) -> list[Recording]:
    """The recordings below `source`, sorted by name. Raises `ValueError` if there are none.

    `corpus` is a key of `CORPORA`. `held_out`, from 0 to under 1, is the share of the split `test`. `speakers` (for
    `folder`) takes the first folder level as the speaker. With `download` torchaudio fetches, checks and unpacks a
    known corpus first.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out is {held_out}; expected a share from 0 to under 1")
    if corpus not in CORPORA:
        raise ValueError(f"corpus is {corpus!r}; expected one of {', '.join(CORPORA)}")
    if speakers and corpus != "folder":
        raise ValueError(f"speakers is for plain folders; {corpus} names its speakers itself")
    if download:
        if corpus == "folder":
            raise ValueError(f"a plain folder cannot be downloaded; corpus may be {', '.join(list(CORPORA)[1:])}")
        source.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such folder")
    if not source.is_dir():
        raise ValueError(f"{source} is a file; expected a folder of recordings")
    if corpus == "folder":
        recordings = sorted(_folder(source, held_out, speakers), key=lambda recording: recording.name)
    else:
        try:
            recordings = sorted(CORPORA[corpus](source, held_out, download), key=lambda recording: recording.name)
        except (RuntimeError, FileNotFoundError) as error:
            raise ValueError(f"{source} is not laid out as {corpus} ({error})") from error
    twice = [name for name, times in Counter(recording.name for recording in recordings).items() if times > 1]
    if twice:
        raise ValueError(f"{source} has two recordings named {twice[0]!r}; rename one of the files")
    if not recordings:
        raise ValueError(f"{source} has no audio files ({', '.join(AUDIO_SUFFIXES)})")
    return recordings


def _folder(source: Path, held_out: float, speakers: bool) -> Iterator[Recording]:
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    stems = [printable(path.relative_to(source).with_suffix("").as_posix()) for path in files]
    counts = Counter(stems)
    for path, stem in zip(files, stems, strict=True):
        relative = path.relative_to(source)
        if speakers and len(relative.parts) < 2:
            raise ValueError(f"{path} is not in a speaker's folder; expected {source}/SPEAKER/{path.name}")
        transcript = path.with_suffix(".txt")
        yield Recording(
            name=printable(relative.as_posix()) if counts[stem] > 1 else stem,
            path=path,
            split=stable_split(stem, held_out),
            speaker=printable(relative.parts[0]) if speakers else None,
            text=transcript.read_text("utf-8", errors="replace").strip() if transcript.is_file() else None,
        )


def _ljspeech(source: Path, held_out: float, download: bool) -> Iterator[Recording]:
    datasets.LJSPEECH(source, download=download)
    root = source / "LJSpeech-1.1"
    with open(root / "metadata.csv", encoding="utf-8", newline="") as file:
        for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE):
            if len(row) != 3:
                raise ValueError(
                    f"{root / 'metadata.csv'}: a line has {len(row)} fields, expected 3 ({'|'.join(row)[:40]})"
                )
            name, _, text = row
            split = stable_split(name, held_out)
            yield Recording(name=name, path=root / "wavs" / f"{name}.wav", split=split, speaker="LJ", text=text)


def _vctk(source: Path, held_out: float, download: bool) -> Iterator[Recording]:
    datasets.VCTK_092(source, mic_id="mic2", download=download)
    root = source / "VCTK-Corpus-0.92"
    for path in sorted((root / "wav48_silence_trimmed").glob("*/*_mic2.flac")):
        name, speaker = path.stem.removesuffix("_mic2"), path.parent.name
        transcript = root / "txt" / speaker / f"{name}.txt"
        text = transcript.read_text("utf-8").strip() if transcript.is_file() else None
        yield Recording(name=name, path=path, split=stable_split(name, held_out), speaker=speaker, text=text)


def _libritts(source: Path, held_out: float, download: bool) -> Iterator[Recording]:
    root = source / "LibriTTS"
    if download:
        for part in ("train-clean-100", "dev-clean", "test-clean"):
            datasets.LIBRITTS(source, url=part, download=True)
    for path in sorted(path for part in ("train", "dev", "test") for path in root.glob(f"{part}-*/*/*/*.wav")):
        part = path.relative_to(root).parts[0]
        split = {"train": "train", "dev": "validation", "test": "test"}[part.partition("-")[0]]
        transcript = path.with_suffix(".normalized.txt")
        text = transcript.read_text("utf-8").strip() if transcript.is_file() else None
        yield Recording(name=path.stem, path=path, split=split, speaker=path.parent.parent.name, text=text)


_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _sc09(source: Path, held_out: float, download: bool) -> Iterator[Recording]:
    """Speech Commands digits with the official split (Warden 2018), so `held_out` has no effect."""
    for subset, split in (("training", "train"), ("validation", "validation"), ("testing", "test")):
        corpus = datasets.SPEECHCOMMANDS(source, subset=subset, download=download)
        for index in range(len(corpus)):
            relative, _, label, speaker, _ = corpus.get_metadata(index)
            if label in _DIGITS:
                path = source / "SpeechCommands" / relative
                name = f"{label}/{path.stem}"
                yield Recording(name=name, path=path, split=split, speaker=speaker, text=label)


CORPORA: dict[str, Callable[[Path, float, bool], Iterator[Recording]]] = {
    "folder": lambda source, held_out, download: _folder(source, held_out, speakers=False),
    "ljspeech": _ljspeech,
    "vctk": _vctk,
    "libritts": _libritts,
    "sc09": _sc09,
}
