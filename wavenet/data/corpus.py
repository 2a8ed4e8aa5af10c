"""Find the recordings of a corpus: any folder of audio, or a known layout. Nothing is decoded here."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torchaudio import datasets

from wavenet.data.audio import audio_suffixes, warn
from wavenet.data.folders import describe_others, walk
from wavenet.data.held_out import HeldOut, stable_split
from wavenet.data.label_files import read_label_folder
from wavenet.data.labels import label_pattern, match_rows, read_metadata
from wavenet.data.track_files import read_track_folder
from wavenet.network import TimedLabel, Tracks


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A file of audio that was found: its path, and what is known of it. `name` is unique in its corpus.

    If the file is cut into pieces, the share `held_out` of them is held out, by a hash of their names; if that is
    `None`, they are all in its `split`.
    """

    name: str
    path: Path
    split: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    text: str | None = None
    timed_labels: tuple[TimedLabel, ...] = ()
    tracks: Tracks | None = None
    held_out: float | None = None

    @property
    def speaker(self) -> str | None:
        return self.labels.get("speaker")

    def piece(self, start: float) -> "Recording":
        """The piece that begins at `start` seconds, as a recording of its own, without the text, which has no times.

        Its split depends on its name, which has its start, and changes only with that.

        >>> Recording(name="book", path=Path("book.mp3"), split="train").piece(754.32).name
        'book/00754.320'
        """
        begins, stem = f"/{start:09.3f}", self.name.removesuffix(self.path.suffix)
        split = self.split if self.held_out is None else stable_split(stem + begins, self.held_out)
        return replace(self, name=self.name + begins, split=split, text=None)


def printable(name: str) -> str:
    """A file name as text; bytes that are not UTF-8 are spelled out, as in `caf\\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def find_clips(
    source: Path,
    corpus: str,
    *,
    held_out: float | HeldOut,
    speakers: bool = False,
    labels: str | None = None,
    metadata: Path | None = None,
    timed_labels: Path | None = None,
    tier: str | None = None,
    tracks: Path | None = None,
    download: bool = False,
    note: Callable[[str], None] = warn,
) -> list[Recording]:
    """The recordings below `source`, sorted by name. Raises `ValueError` if there are none.

    `corpus` is a key of `CORPORA`. `held_out`, a share from 0 to under 1 or another rule, chooses the split `test`.
    With `download` torchaudio fetches, checks and unpacks a known corpus first. `timed_labels` is a folder of files
    that tell what is said when (see `read_label_folder`), and `tier` their tier if they have several. `tracks` is a
    folder of files with values over time (see `read_tracks`).

    Only for `folder`: `speakers` takes the first folder level as the speaker; `labels`, such as
    `{word}_{speaker}_{take}`, reads labels from a file's path below `source`, without its suffix (see
    `label_pattern`); `metadata` is a table of texts and labels (see `read_metadata`).

    `note` is told, by default as a warning, which files are not taken, which folders have two names, and which rows of
    the table, files of timed labels or tracks, and recordings have no partner. A link to nothing and a folder that may
    not be read are recordings too, so that they are counted among those that cannot be read.
    """
    rule = held_out if isinstance(held_out, HeldOut) else HeldOut(share=held_out)
    _check_options(corpus, rule, speakers, labels, metadata)
    if tier is not None and timed_labels is None:
        raise ValueError(f"tier is {tier!r}, and timed_labels, whose tier it is, is missing; give both")
    if download:
        if corpus == "folder":
            raise ValueError(f"a plain folder cannot be downloaded; corpus may be {', '.join(list(CORPORA)[1:])}")
        source.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such folder")
    if not source.is_dir():
        raise ValueError(f"{source} is a file; expected a folder of recordings")
    if corpus == "folder":
        recordings = list(_folder(source, rule, speakers, labels, metadata, note))
    else:
        try:
            recordings = list(CORPORA[corpus](source, rule, download))
        except (RuntimeError, FileNotFoundError) as error:
            raise ValueError(f"{source} is not laid out as {corpus} ({error})") from error
    _check_found(source, recordings, rule)
    if timed_labels is not None:
        recordings = _with_timed_labels(recordings, timed_labels, tier, metadata, note)
    if tracks is not None:
        found = read_track_folder(tracks, _file_names(recordings), table=metadata, note=note)
        named = zip(recordings, _file_names(recordings), strict=True)
        recordings = [replace(recording, tracks=found.get(name)) for recording, name in named]
    return sorted(recordings, key=lambda recording: recording.name)


def _with_timed_labels(
    recordings: list[Recording], folder: Path, tier: str | None, table: Path | None, note: Callable[[str], None]
) -> list[Recording]:
    """The recordings with their timed labels. A `.txt` that holds them is not the recording's text."""
    names = _file_names(recordings)
    found, labelled = read_label_folder(folder, names, tier=tier, table=table, note=note), []
    for recording, name in zip(recordings, names, strict=True):
        path, labels = found.get(name, (None, ()))
        is_text = (
            path is not None and path.suffix.lower() == ".txt" and recording.text == _text(path, lambda message: None)
        )
        text = None if is_text else recording.text
        labelled.append(replace(recording, timed_labels=labels, text=text))
    return labelled


def _file_names(recordings: Sequence[Recording]) -> list[str]:
    """Names of recordings with the suffixes of their files, as files of labels or tracks are matched to them."""
    return [recording.name.removesuffix(recording.path.suffix) + recording.path.suffix for recording in recordings]


def _check_options(corpus: str, rule: HeldOut, speakers: bool, labels: str | None, metadata: Path | None) -> None:
    if corpus not in CORPORA:
        raise ValueError(f"corpus is {corpus!r}; expected one of {', '.join(CORPORA)}")
    for name, value in {"speakers": speakers, "labels": labels is not None, "metadata": metadata is not None}.items():
        if value and corpus != "folder":
            raise ValueError(f"{name} is for plain folders; {corpus} names its speakers and texts itself")
    if rule.label is not None and corpus in ("libritts", "sc09"):
        raise ValueError(f"held_out is by the label {rule.label!r}; {corpus} comes with a split of its own")
    if speakers and labels is not None:
        raise ValueError(f"labels is {labels!r} beside speakers=True; leave one out: a pattern may have {{speaker}}")


def _check_found(source: Path, recordings: list[Recording], rule: HeldOut) -> None:
    twice = [name for name, times in Counter(recording.name for recording in recordings).items() if times > 1]
    if twice:
        raise ValueError(f"{source} has two recordings named {twice[0]!r}; rename one of the files")
    if not recordings:
        raise ValueError(f"{source} has no audio files that are read here ({', '.join(sorted(audio_suffixes()))})")
    present = {recording.labels.get(rule.label or "") for recording in recordings}
    for value in rule.values:
        if value not in present:
            raise ValueError(f"held_out is by the {rule.label} {value!r}, which no clip has; leave it out")


def _folder(
    source: Path,
    rule: HeldOut,
    speakers: bool = False,
    labels: str | None = None,
    metadata: Path | None = None,
    note: Callable[[str], None] = lambda message: None,
) -> Iterator[Recording]:
    found = walk(source, note)
    files = found.files
    if others := describe_others(found):
        note(f"{source}: {others}")
    for path in found.broken:  # reading them says why they are left out
        yield Recording(
            name=printable(path.relative_to(source).as_posix()) + "/" * os.path.isdir(path), path=path, split="train"
        )
    names = [printable(path.relative_to(source).as_posix()) for path in files]
    stems = [printable(path.relative_to(source).with_suffix("").as_posix()) for path in files]
    counts = Counter(stems)
    pattern = None if labels is None else label_pattern(labels)
    rows = match_rows(metadata, read_metadata(metadata), names, note) if metadata is not None and files else {}
    for path, name, stem in zip(files, names, stems, strict=True):
        known = _speaker(source, path) if speakers else {}
        if pattern is not None:
            match = pattern.fullmatch(stem)
            if match is None:
                raise ValueError(f"labels is {labels!r}; {path} does not match it: rename the file, or move it away")
            known = match.groupdict()
        text = _text(path.with_suffix(".txt"), note)
        if row := rows.get(name):
            for kind in known.keys() & row.labels.keys():
                raise ValueError(
                    f"{metadata} has a column {kind!r}, and so has the name of {path}; drop one of the two"
                )
            known, text = {**known, **row.labels}, row.text or text
        name = name if counts[stem] > 1 else stem
        yield Recording(
            name=name,
            path=path,
            split=rule.split(stem, known),
            labels=known,
            text=text,
            held_out=rule.share_of_names,
        )


def _text(path: Path, note: Callable[[str], None]) -> str | None:
    """The text in a file; `None` if there is none, or it may not be read, which `note` is told."""
    try:
        text = path.read_text("utf-8", errors="replace").strip() if path.is_file() else None
    except OSError as error:
        note(f"{path} is not read ({error.strerror})")
        return None
    if text is None:
        return None
    if "\ufffd" in text:
        note(f"{path} is not text in UTF-8; what is not is replaced by question marks")
    return text


def _speaker(source: Path, path: Path) -> dict[str, str]:
    relative = path.relative_to(source)
    if len(relative.parts) < 2:
        raise ValueError(f"{path} is not in a speaker's folder; expected {source}/SPEAKER/{path.name}")
    return {"speaker": printable(relative.parts[0])}


def _ljspeech(source: Path, rule: HeldOut, download: bool) -> Iterator[Recording]:
    datasets.LJSPEECH(source, download=download)
    root = source / "LJSpeech-1.1"
    with open(root / "metadata.csv", encoding="utf-8", newline="") as file:
        for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE):
            if len(row) != 3:
                raise ValueError(
                    f"{root / 'metadata.csv'}: a line has {len(row)} fields, expected 3 ({'|'.join(row)[:40]})"
                )
            name, _, text = row
            path, labels = root / "wavs" / f"{name}.wav", {"speaker": "LJ"}
            split, share = rule.split(name, labels), rule.share_of_names
            yield Recording(name=name, path=path, split=split, labels=labels, text=text, held_out=share)


def _vctk(source: Path, rule: HeldOut, download: bool) -> Iterator[Recording]:
    datasets.VCTK_092(source, mic_id="mic2", download=download)
    root = source / "VCTK-Corpus-0.92"
    for path in sorted((root / "wav48_silence_trimmed").glob("*/*_mic2.flac")):
        name, labels = path.stem.removesuffix("_mic2"), {"speaker": path.parent.name}
        transcript = root / "txt" / path.parent.name / f"{name}.txt"
        text = transcript.read_text("utf-8").strip() if transcript.is_file() else None
        split, share = rule.split(name, labels), rule.share_of_names
        yield Recording(name=name, path=path, split=split, labels=labels, text=text, held_out=share)


def _libritts(source: Path, rule: HeldOut, download: bool) -> Iterator[Recording]:
    root = source / "LibriTTS"
    if download:
        for part in ("train-clean-100", "dev-clean", "test-clean"):
            datasets.LIBRITTS(source, url=part, download=True)
    for path in sorted(path for part in ("train", "dev", "test") for path in root.glob(f"{part}-*/*/*/*.wav")):
        part = path.relative_to(root).parts[0]
        split = {"train": "train", "dev": "validation", "test": "test"}[part.partition("-")[0]]
        transcript = path.with_suffix(".normalized.txt")
        text = transcript.read_text("utf-8").strip() if transcript.is_file() else None
        labels = {"speaker": path.parent.parent.name}
        yield Recording(name=path.stem, path=path, split=split, labels=labels, text=text)


_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _sc09(source: Path, rule: HeldOut, download: bool) -> Iterator[Recording]:
    """Speech Commands digits with the official split (Warden 2018), so a share held out has no effect."""
    for subset, split in (("training", "train"), ("validation", "validation"), ("testing", "test")):
        corpus = datasets.SPEECHCOMMANDS(source, subset=subset, download=download)
        for index in range(len(corpus)):
            relative, _, label, speaker, _ = corpus.get_metadata(index)
            if label in _DIGITS:
                path = source / "SpeechCommands" / relative
                name = f"{label}/{path.stem}"
                yield Recording(name=name, path=path, split=split, labels={"speaker": speaker}, text=label)


CORPORA: dict[str, Callable[[Path, HeldOut, bool], Iterator[Recording]]] = {
    "folder": lambda source, rule, download: _folder(source, rule),
    "ljspeech": _ljspeech,
    "vctk": _vctk,
    "libritts": _libritts,
    "sc09": _sc09,
}
