"""`wavenet prepare`: recordings to a dataset."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from wavenet.cli.options import Force, between, counted

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
    sample_rate: Annotated[int, typer.Option(help="Sample rate of the dataset, in Hz.")] = 16000,
    trim_db: Annotated[
        float, typer.Option(help="Trim ends of a clip that stay this many dB below its peak; 0 trims nothing.")
    ] = 40.0,
    held_out: Annotated[float, typer.Option(help="Share of clips to hold out; a hash of a clip's name decides.")] = 0.1,
    jobs: Annotated[
        int | None, typer.Option(callback=between(1, 1024), help="Number of processes; one for each core if not given.")
    ] = None,
    force: Force = False,
) -> None:
    """Turn recordings into a dataset for training.

    Reads WAV, FLAC, Ogg and MP3 of any sample rate. Broken files are named, skipped and counted.
    """
    from tqdm import tqdm

    from wavenet.data import PrepareConfig, PreparedDataset, find_clips, prepare_dataset

    if dataset.exists() and not force:
        raise FileExistsError(f"{dataset} exists; choose another path or pass --force to replace it")
    config = PrepareConfig(sample_rate=sample_rate, trim_db=trim_db or None)
    clips = find_clips(source, corpus, held_out=held_out, speakers=speakers, download=download)
    jobs = jobs or os.cpu_count() or 1
    begun, resumed = time.perf_counter(), dataset.with_name(dataset.name + ".partial").exists()
    try:
        with tqdm(total=len(clips), unit="clip", desc="prepare", disable=None) as bar:
            skipped = prepare_dataset(clips, dataset, config, jobs=jobs, force=force, progress=bar.update)
    except KeyboardInterrupt:
        print(f"interrupted; the same command continues from {dataset}.partial", file=sys.stderr)
        raise SystemExit(130) from None
    for clip in skipped:
        print(f"skipped: {clip.reason}", file=sys.stderr)
    prepared = PreparedDataset(dataset)
    present = {clip.split for clip in prepared.clips}
    for missing in {"train", "test"} - present:
        remedy = "add files, each of which is a clip, or change --held-out"
        print(f"no clip fell into split {missing}: training needs both; {remedy}", file=sys.stderr)
    for split in sorted(present):
        members = prepared.split(split)
        minutes = sum(clip.samples for clip in members) / prepared.sample_rate / 60
        print(f"{split}: {counted(len(members), 'clip')}, {minutes:.1f} minutes")
    print(
        f"wrote {dataset}: {counted(len(prepared.clips), 'clip')} at {prepared.sample_rate} Hz, {len(skipped)} skipped"
    )
    if not resumed:
        length, seconds = prepared.manifest.samples / prepared.sample_rate, time.perf_counter() - begun
        print(f"{length / 60:.1f} minutes in {seconds:.1f} s, {length / seconds:,.0f} times real time, --jobs {jobs}")
