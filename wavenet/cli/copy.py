"""`wavenet copy`: a model's quality as a vocoder, on held-out clips."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from wavenet.data import PreparedClip
    from wavenet.evaluation import Copies
    from wavenet.network import WaveNet


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
        rows = _score(network, copies, audio)
    _print(rows, {"clips": len(clips), "temperature": temperature}, as_json)


def _score(network: "WaveNet", made: "Iterator[Copies[PreparedClip]]", audio: Path | None) -> list[dict[str, Any]]:
    """A row for each speaker and system, then rows for all speakers together, whose speaker is `None`.

    Writes the copies to a new folder `audio`, if one is given.
    """
    from wavenet.evaluation import SYSTEMS, Quality, interval, measure

    assert network.log_mel is not None
    found: defaultdict[tuple[str | None, str], list[Quality]] = defaultdict(list)
    for copies in made:
        if audio is not None:
            _write_copies(audio, copies, network.config.sample_rate)
        for system, copy in copies.audio.items():
            quality = measure(copies.original, copy, network.log_mel, network.config.sample_rate)
            for speaker in {copies.clip.speaker, None}:
                found[speaker, system].append(quality)
    rows: list[dict[str, Any]] = []
    for speaker in [*sorted({speaker for speaker, _ in found if speaker is not None}), None]:
        for system in SYSTEMS:
            columns = zip(*(astuple(quality) for quality in found[speaker, system]), strict=True)
            names = (field.name for field in fields(Quality))
            scores = {name: asdict(interval(column)) for name, column in zip(names, columns, strict=True)}
            rows.append({"speaker": speaker, "system": system, **scores})
    return rows


def _print(rows: list[dict[str, Any]], settings: dict[str, Any], as_json: bool) -> None:
    """Print a table, or the rows as JSON together with the settings they were made with."""
    if as_json:
        print(json.dumps({**settings, "rows": rows}, indent=2))
        return
    from wavenet.evaluation import Quality

    names = [field.name for field in fields(Quality)]
    print(f"{'':12}{'':14}{'clips':>6}" + "".join(f"{name:>20}" for name in names))
    for row in rows:
        cells = "".join(_cell(row[name]["mean"], row[name]["half_width"]) for name in names)
        speaker = "(all)" if row["speaker"] is None else row["speaker"]
        print(f"{speaker:12}{row['system']:14}{row['log_mel_db']['clips']:6}{cells}")
    print("mean and 95% confidence interval over clips; PESQ is wide-band, log_mel_db the distance of the features")


def _cell(mean: float | None, half_width: float | None) -> str:
    width = "" if half_width is None else f" ± {half_width:.3f}"
    return ("-" if mean is None else f"{mean:.3f}{width}").rjust(20)


def _write_copies(folder: Path, copies: "Copies[PreparedClip]", rate: int) -> None:
    """Write FOLDER/SYSTEM/NAME.wav. NAME keeps the folders in the clip's name, so that no two clips share a file."""
    from wavenet.data import write_audio

    name = Path(copies.clip.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"clip {copies.clip.name!r} would be written outside of {folder}; prepare the dataset again")
    for system, waveform in {"original": copies.original, **copies.audio}.items():
        path = folder / system / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, waveform, rate)
