"""`wavenet prepare`: recordings to a dataset."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wavenet.cli.options import Force, between, counted

if TYPE_CHECKING:
    from wavenet.data import HeldOut, PreparedDataset

Corpus = Literal["folder", "ljspeech", "vctk", "libritts", "sc09"]


def prepare(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder of recordings, or folder of a known corpus.")
    ],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder to write the dataset to.")],
    corpus: Annotated[Corpus, typer.Option(help="What SOURCE holds: recordings in folders, or a known corpus.")] = (
        "folder"
    ),
    download: Annotated[bool, typer.Option("--download", help="First download the known corpus into SOURCE.")] = False,
    speakers: Annotated[
        bool, typer.Option("--speakers", help="The first level of folders in SOURCE names the speakers.")
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Labels in the files' names, such as '{speaker}/{word}_{take}'; {} stands for text to pass over.",
        ),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of texts and labels: lines name|text, or CSV with a header: name, text, kinds of label.",
        ),
    ] = None,
    timed_labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of timed labels, a file for each recording and of its name: .TextGrid, .lab, .csv, or "
            "Audacity's .txt.",
        ),
    ] = None,
    tier: Annotated[str | None, typer.Option(metavar="NAME", help="The tier of --timed-labels' TextGrids.")] = None,
    tracks: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of tracks such as pitch, a .csv for each recording and of its name: the header names the "
            "tracks, and a column seconds has the times.",
        ),
    ] = None,
    sample_rate: Annotated[int, typer.Option(help="Sample rate of the dataset, in Hz.")] = 16000,
    max_seconds: Annotated[
        float,
        typer.Option(help="Cut longer recordings at pauses into clips that are no longer; 0 cuts nothing."),
    ] = 15.0,
    high_pass: Annotated[
        float, typer.Option(metavar="HZ", help="Remove what lies below, such as 20, an offset too; 0 removes nothing.")
    ] = 0.0,
    trim_db: Annotated[
        float, typer.Option(help="Trim ends of a clip that stay this many dB below its peak; 0 trims nothing.")
    ] = 40.0,
    level_db: Annotated[
        float,
        typer.Option(help="Scale each clip to this many dB below full scale, such as 26; 0 keeps the clips' levels."),
    ] = 0.0,
    loudness: Annotated[
        float | None,
        typer.Option(metavar="LUFS", help="Scale each clip to this loudness (ITU-R BS.1770), such as -23."),
    ] = None,
    held_out: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="What to hold out, by a hash: a share of the clips, such as 0.1, or of a label's values, such as "
            "sentence:0.1; or exactly the clips with some values, such as take=0,1.",
        ),
    ] = "0.1",
    jobs: Annotated[
        int | None, typer.Option(callback=between(1, 1024), help="Number of processes; one for each core if not given.")
    ] = None,
    force: Force = False,
) -> None:
    """Turn recordings into a dataset for training.

    Reads WAV, FLAC, Ogg, MP3, AIFF, AU, CAF, W64 and Opus of any sample rate, and with the program ffmpeg M4A, WMA and
    others. Broken files are named, skipped and counted. A recording longer than --max-seconds becomes several clips, of
    which --held-out holds out a share: their names say where they begin, as in book/00754.320.
    """
    from tqdm import tqdm

    from wavenet.data import PrepareConfig, PreparedDataset, find_clips, prepare_dataset

    if dataset.name in ("", ".."):
        raise ValueError(f"DATASET is {dataset}, the {_PLACES[dataset.name]} folder; give the new folder a name")
    if dataset.exists() and not force:
        raise FileExistsError(f"{dataset} exists; choose another path or pass --force to replace it")
    if tier is not None and timed_labels is None:
        raise ValueError("--tier goes with --timed-labels")
    for flag, value, (least, most) in (
        ("--max-seconds", max_seconds, (1, 3600)),
        ("--high-pass", high_pass, (5, sample_rate / 4)),
    ):
        if value and not least <= value <= most:
            raise ValueError(f"{flag} is {value:g}; expected {least} to {most:g}, or 0 to switch it off")
    config = PrepareConfig(
        sample_rate=sample_rate,
        max_seconds=max_seconds or None,
        high_pass=high_pass or None,
        trim_db=trim_db or None,
        level_db=level_db or None,
        loudness=loudness,
    )
    clips = find_clips(
        source,
        corpus,
        held_out=_held_out_rule(held_out),
        speakers=speakers,
        labels=labels,
        metadata=metadata,
        timed_labels=timed_labels,
        tier=tier,
        tracks=tracks,
        download=download,
        note=_note,
    )
    ways = {
        "corpus": corpus,
        "speakers": speakers,
        "labels": labels,
        "metadata": metadata,
        "timed_labels": timed_labels,
        "tier": tier,
        "tracks": tracks,
        "held_out": held_out,
    }
    found = {name: str(way) for name, way in ways.items() if way}
    jobs = jobs or os.cpu_count() or 1
    begun, resumed = time.perf_counter(), dataset.with_name(dataset.name + ".partial").exists()
    try:
        with tqdm(total=len(clips), unit="clip", desc="prepare", disable=None) as bar:
            skipped = prepare_dataset(
                clips, dataset, config, jobs=jobs, force=force, found=found, progress=bar.update, note=_note
            )
    except KeyboardInterrupt:
        print(f"interrupted; the same command continues from {dataset}.partial", file=sys.stderr)
        raise SystemExit(130) from None
    for clip in skipped:
        print(f"skipped: {clip.reason}", file=sys.stderr)
    prepared = PreparedDataset(dataset)
    _describe(prepared)
    print(
        f"wrote {dataset}: {counted(len(prepared.clips), 'clip')} at {prepared.sample_rate} Hz, {len(skipped)} skipped"
    )
    if not resumed:
        length, seconds = prepared.manifest.samples / prepared.sample_rate, time.perf_counter() - begun
        print(f"{length / 60:.1f} minutes in {seconds:.1f} s, {length / seconds:,.0f} times real time, --jobs {jobs}")


_PLACES = {"": "current", "..": "parent"}


def _note(message: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"note: {message}", file=sys.stderr)


def _held_out_rule(text: str) -> "HeldOut":
    """The rule that `--held-out` spells."""
    from wavenet.data import HeldOut

    label, equals, values = text.partition("=")
    if label and equals and all(values.split(",")):
        return HeldOut(label=label, values=tuple(values.split(",")))
    label, colon, share = text.rpartition(":")
    with suppress(ValueError):
        number = float(share)
        if bool(label) == bool(colon):
            return HeldOut(label=label or None, share=number)
    raise ValueError(
        f"--held-out is {text}; expected a share from 0 to under 1 such as 0.1, or of a label's values such as "
        "sentence:0.1, or a label's values such as take=0,1"
    )


def _describe(dataset: "PreparedDataset") -> None:
    """Print the size of each split, and how many values each kind of label has."""
    present = {clip.split for clip in dataset.clips}
    for missing in {"train", "test"} - present:
        remedy = "add recordings, or change --held-out or --max-seconds"
        print(f"no clip fell into split {missing}: training needs both; {remedy}", file=sys.stderr)
    for split in sorted(present):
        members = dataset.split(split)
        minutes = sum(clip.samples for clip in members) / dataset.sample_rate / 60
        print(f"{split}: {counted(len(members), 'clip')}, {minutes:.1f} minutes")
    kinds = dict.fromkeys(kind for clip in dataset.clips for kind in clip.labels)
    counts = [f"{kind} ({len({clip.labels.get(kind) for clip in dataset.clips})})" for kind in kinds]
    if counts:
        print(f"labels and their values: {', '.join(counts)}")
    if said := [clip.timed_labels for clip in dataset.clips if clip.timed_labels]:
        count, names = sum(map(len, said)), {label.name for labels in said for label in labels}
        print(f"timed labels: {count} of {counted(len(names), 'name')} in {counted(len(said), 'clip')}")
    if tracked := [clip.tracks.names for clip in dataset.clips if clip.tracks is not None]:
        print(f"tracks: {', '.join(sorted(set().union(*tracked)))} in {counted(len(tracked), 'clip')}")
