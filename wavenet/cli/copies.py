"""The scores of a model's copies, as `wavenet copy` prints them, and the copies as files."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

from wavenet.data import PreparedClip, write_audio
from wavenet.evaluation import SYSTEMS, Copies, Quality, interval, measure
from wavenet.network import WaveNet


def score_copies(network: WaveNet, made: Iterator[Copies[PreparedClip]], audio: Path | None) -> list[dict[str, Any]]:
    """A row for each speaker and system, then rows for all speakers together, whose speaker is `None`.

    Writes the copies to a new folder `audio`, if one is given.
    """
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


def print_scores(rows: list[dict[str, Any]], settings: dict[str, Any], as_json: bool) -> None:
    """Print a table, or the rows as JSON together with the settings they were made with."""
    if as_json:
        print(json.dumps({**settings, "rows": rows}, indent=2))
        return
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


def _write_copies(folder: Path, copies: Copies[PreparedClip], rate: int) -> None:
    """Write FOLDER/SYSTEM/NAME.wav. NAME keeps the folders in the clip's name, so that no two clips share a file."""
    name = Path(copies.clip.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"clip {copies.clip.name!r} would be written outside of {folder}; prepare the dataset again")
    for system, waveform in {"original": copies.original, **copies.audio}.items():
        path = folder / system / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, waveform, rate)
