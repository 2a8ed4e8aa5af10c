"""`wavenet copy`: a model's quality as a vocoder, on held-out clips."""

import os
from pathlib import Path
from typing import Annotated

import typer

from wavenet.cli.options import (
    AsJson,
    AsSpeaker,
    DatasetFolder,
    Limit,
    ModelFile,
    OnlySpeakers,
    Split,
    Temperature,
    Threads,
    Weights,
)


def copy(
    model: ModelFile,
    dataset: DatasetFolder,
    split: Split = "test",
    speaker: OnlySpeakers = None,
    limit: Limit = None,
    as_speaker: AsSpeaker = None,
    audio: Annotated[Path | None, typer.Option(help="New folder to write each copy to, as a WAV file.")] = None,
    temperature: Temperature = 1.0,
    seed: Annotated[int, typer.Option(help="Clip i draws from a generator seeded SEED + i.")] = 0,
    weights: Weights = None,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Copy held-out clips from their features and score the copies.

    PESQ, STOI and log-mel distance of the model's copies, beside those of Griffin-Lim from the same features and of
    the µ-law round trip. For models that are conditioned on features.
    """
    if audio is not None and os.path.lexists(audio):
        raise ValueError(f"--audio {audio} exists; choose another folder")
    from wavenet.cli.copies import print_scores, score_copies
    from wavenet.cli.held_out import open_clips, sample_progress
    from wavenet.engines import EngineOptions
    from wavenet.evaluation import check_installed, copy_clips
    from wavenet.network import SamplingOptions

    check_installed()
    engine = EngineOptions(weights=weights or "float32", threads=threads)
    network, _, clips = open_clips(model, dataset, split, speaker, limit, as_speaker)
    with sample_progress(clips) as bar:
        copies = copy_clips(
            network,
            clips,
            SamplingOptions(temperature=temperature),
            speaker=as_speaker,
            seed=seed,
            engine=engine,
            progress=bar.update,
        )
        rows = score_copies(network, copies, audio)
    print_scores(rows, {"clips": len(clips), "temperature": temperature}, as_json)
