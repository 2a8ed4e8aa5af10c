"""`wavenet copy`: a model's quality as a vocoder, on held-out clips."""

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavenet.atomic import check_writable
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
    from torch import Tensor

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
    recogniser: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Command that prints what it hears in a WAV file; scores word errors of clips with text.",
        ),
    ] = None,
    temperature: Temperature = 1.0,
    seed: Annotated[int, typer.Option(help="Clip i draws from a generator seeded SEED + i.")] = 0,
    weights: Weights = None,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Copy held-out clips from their features and score the copies.

    Scores the clips themselves, the model's copies, those of Griffin-Lim from the same features, and the µ-law round
    trip: opinions as listeners would give them (DNSMOS, PLCMOS), PESQ, STOI and log-mel distance to the original. For
    models that are conditioned on features.
    """
    if audio is not None and os.path.lexists(audio):
        raise ValueError(f"--audio {audio} exists; choose another folder")
    if audio is not None:
        check_writable(audio)
    from wavenet.cli.held_out import open_clips, sample_progress
    from wavenet.engines import EngineOptions
    from wavenet.evaluation import check_installed, copy_clips
    from wavenet.network import SamplingOptions

    check_installed()
    hear = None if recogniser is None else _recogniser(recogniser)
    engine = EngineOptions(weights=weights or "float32", threads=threads)
    network, _, clips = open_clips(model, dataset, split, speaker, limit, as_speaker)
    if audio is not None:
        for clip in clips:
            _copy_name(clip, audio)
    if hear is not None and (spoken := [clip for clip in clips if clip.text]):
        hear(spoken[0].read(), network.config.sample_rate)  # a recogniser that fails does so before the work
    try:
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
            rows = _score(network, copies, audio, hear)
    except KeyboardInterrupt:
        if audio is None or not audio.exists():
            raise
        print(f"interrupted; {audio} has the copies that were made, and no scores are kept", file=sys.stderr)
        raise SystemExit(130) from None
    _print(rows, {"clips": len(clips), "temperature": temperature}, as_json)


def _score(
    network: "WaveNet",
    made: "Iterator[Copies[PreparedClip]]",
    audio: Path | None,
    hear: "Callable[[Tensor, int], str] | None",
) -> list[dict[str, Any]]:
    """A row for each speaker and system, then rows for all speakers together, whose speaker is `None`.

    Writes the copies to a new folder `audio`, if one is given. `hear` recognises the words of a waveform.
    """
    from wavenet.evaluation import SYSTEMS, Quality, interval, measure

    assert network.log_mel is not None
    rate = network.config.sample_rate
    found: defaultdict[tuple[str | None, str], list[Quality]] = defaultdict(list)
    for copies in made:
        if audio is not None:
            _write_copies(audio, copies, rate)
        for system, copy in copies.audio.items():
            heard = hear(copy, rate) if hear is not None and copies.clip.text else None
            quality = measure(copies.audio["original"], copy, network.log_mel, rate, text=copies.clip.text, heard=heard)
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
    """Print a table for each speaker, or the rows as JSON together with the settings they were made with."""
    if as_json:
        print(json.dumps({**settings, "rows": rows}, indent=2))
        return
    for speaker, of_speaker in itertools.groupby(rows, key=lambda row: row["speaker"]):
        columns = list(of_speaker)
        title = f"{speaker or 'all'}, {columns[0]['log_mel_db']['clips']} clips"
        print(f"{title:24}" + "".join(f"{row['system']:>16}" for row in columns))
        for name, title in _TITLES.items():
            if any(row[name]["clips"] for row in columns):
                print(f"{title:24}" + "".join(_cell(row[name]) for row in columns))
        print()
    print("mean and 95% confidence interval over clips")


_TITLES = {
    "ovrl": "DNSMOS overall (OVRL)",
    "sig": "DNSMOS speech (SIG)",
    "bak": "DNSMOS background (BAK)",
    "p808": "DNSMOS P.808",
    "plcmos": "PLCMOS",
    "pesq": "PESQ, wide-band",
    "stoi": "STOI",
    "log_mel_db": "log-mel distance, dB",
    "wer": "word error rate",
}


def _cell(score: dict[str, float | None]) -> str:
    mean, half_width = score["mean"], score["half_width"]
    width = "" if half_width is None else f" ± {half_width:.3f}"
    return ("-" if mean is None else f"{mean:.3f}{width}").rjust(16)


def _recogniser(command: str) -> "Callable[[Tensor, int], str]":
    """Maps a waveform to the text that a command prints when it is given a WAV file."""
    words = shlex.split(command)
    if not words or shutil.which(words[0]) is None:
        raise ValueError(
            f"--recogniser {command!r}: no such command; expected one that prints what it hears in a WAV file"
        )

    def hear(waveform: "Tensor", sample_rate: int) -> str:
        from wavenet.data import write_audio

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "copy.wav"
            write_audio(path, waveform, sample_rate)
            done = subprocess.run([*words, str(path)], capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ValueError(f"--recogniser {command!r} ended with status {done.returncode} ({reason})")
        return done.stdout

    return hear


def _write_copies(folder: Path, copies: "Copies[PreparedClip]", rate: int) -> None:
    """Write FOLDER/SYSTEM/NAME.wav. NAME keeps the folders in the clip's name, so that no two clips share a file."""
    from wavenet.data import write_audio

    name = _copy_name(copies.clip, folder)
    for system, waveform in copies.audio.items():
        path = folder / system / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, waveform, rate)


def _copy_name(clip: "PreparedClip", folder: Path) -> Path:
    """A clip's name as a path below a folder; `ValueError` if it would lie outside, or is too long for a file."""
    name = Path(clip.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"clip {clip.name!r} would be written outside of {folder}; prepare the dataset again")
    if any(len(os.fsencode(part)) > 250 for part in name.parts):
        raise ValueError(f"clip {clip.name!r} has a name that is too long for a file; leave --audio out")
    return name
