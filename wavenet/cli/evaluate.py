"""`wavenet evaluate`: a model's held-out likelihood, or its quality as a vocoder."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from wavenet.cli.options import AsJson, ModelFile, Threads, Weights, weight_type
from wavenet.data import PreparedClip, PreparedDataset, pick_clips, write_audio
from wavenet.engines import WeightType
from wavenet.evaluation import (
    CLASSES,
    SYSTEMS,
    Copies,
    Quality,
    Score,
    baselines,
    check_installed,
    copy_clips,
    interval,
    measure,
)
from wavenet.evaluation import evaluate as run_evaluation
from wavenet.network import SamplingOptions, WaveNet

__all__ = ["evaluate"]


def evaluate(
    model: ModelFile,
    dataset: Annotated[Path, typer.Argument(help="Prepared dataset.")],
    split: Annotated[str, typer.Option(help="Which split to score.")] = "test",
    voice: Annotated[list[str] | None, typer.Option(help="Score only this speaker's clips; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(help="Score only this many clips, evenly spaced.")] = None,
    speaker: Annotated[str | None, typer.Option(help="Take every clip for this speaker's.")] = None,
    with_baselines: Annotated[
        bool, typer.Option("--baselines", help="Also score uniform, unigram and linear prediction.")
    ] = False,
    vocoder: Annotated[
        bool, typer.Option("--vocoder", help="Generate the clips from their features; PESQ, STOI, log-mel distance.")
    ] = False,
    audio: Annotated[Path | None, typer.Option(help="With --vocoder: new folder for a WAV of each copy.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="With --vocoder: below 1 is more cautious; 1 if not given.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="With --vocoder: clip i draws from SEED + i; 0 if not given.")
    ] = None,
    weights: Weights = None,
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Score a model on held-out audio: bits per sample, each sample once with its full context."""
    if vocoder and with_baselines:
        raise ValueError("--vocoder does not go with --baselines: it reports its own references")
    for name, value in (("--audio", audio), ("--temperature", temperature), ("--seed", seed)):
        if value is not None and not vocoder:
            raise ValueError(f"{name} goes with --vocoder")
    if audio is not None and os.path.lexists(audio):
        raise ValueError(f"{audio} exists; choose another folder")
    if vocoder:
        check_installed()
    network = WaveNet.from_pretrained(model)
    prepared = PreparedDataset(dataset)
    clips = prepared.split(split, voice or [])
    if limit is not None:
        if limit < 1:
            raise ValueError(f"--limit is {limit} clips; expected at least 1")
        clips = pick_clips(clips, limit)
    if vocoder:
        options = SamplingOptions(temperature=1.0 if temperature is None else temperature)
        with _progress(clips) as bar:
            copies = copy_clips(
                network,
                clips,
                options,
                speaker=speaker,
                seed=seed or 0,
                weights=weight_type(weights),
                threads=threads,
                progress=bar.update,
            )
            rows = _score_copies(network, prepared, copies, audio)
        _print_copies(rows, {"clips": len(clips), "temperature": options.temperature}, as_json)
    else:
        if threads != 1:
            raise ValueError("--threads goes with --vocoder")
        _evaluate_likelihood(
            network, prepared, clips, speaker, weight_type(weights) if weights else None, with_baselines, as_json
        )


def _progress(clips: tuple[PreparedClip, ...]) -> Any:
    return tqdm(total=sum(clip.samples for clip in clips), unit="sample", unit_scale=True, disable=None)


def _evaluate_likelihood(
    network: WaveNet,
    prepared: PreparedDataset,
    clips: tuple[PreparedClip, ...],
    speaker: str | None,
    weights: WeightType | None,
    with_baselines: bool,
    as_json: bool,
) -> None:
    with _progress(clips) as bar:
        scores = run_evaluation(network, clips, bar.update, speaker=speaker, weights=weights)
    train = [clip for clip in prepared.clips if clip.split == "train"]
    references = baselines(clips, CLASSES, train=train) if with_baselines else {}
    rows: list[dict[str, Any]] = []
    for name, score in sorted(scores.items(), key=lambda item: str(item[0])):
        rows.append({"speaker": name, **vars(score), **(references[name].known() if references else {})})
    total: dict[str, Any] = vars(Score.pooled(scores.values())).copy()
    for name in [name for name in rows[0] if name != "speaker" and name not in total]:
        total[name] = sum(row[name] * row["samples"] for row in rows) / total["samples"]
    if as_json:
        print(json.dumps({"clips": len(clips), **total, "speakers": rows}, indent=2))
        return
    if len(rows) == 1:
        rows = []
    columns = [key for key in total if key != "samples"]
    print(f"{'':12}{'seconds':>10}" + "".join(f"{name:>20}" for name in columns))
    for row in [*rows, {"speaker": "(all)", **total}]:
        seconds = row["samples"] / prepared.sample_rate
        print(f"{row['speaker'] or '-':12}{seconds:10.1f}" + "".join(f"{row[name]:20.4f}" for name in columns))
    print(
        f"bits per sample on {len(clips)} clips; mu_law_bits are those of {CLASSES} µ-law classes, to compare models "
        "of different resolution; accuracy is a share"
    )


def _score_copies(
    network: WaveNet, prepared: PreparedDataset, made: Iterator[Copies[PreparedClip]], audio: Path | None
) -> list[dict[str, Any]]:
    """A row for each speaker and system, and one for all speakers together, whose speaker is `None`."""
    assert network.log_mel is not None
    found: defaultdict[tuple[str | None, str], list[Quality]] = defaultdict(list)
    for copies in made:
        if audio is not None:
            _write_copies(audio, copies, prepared.sample_rate)
        for system, copy in copies.audio.items():
            quality = measure(copies.original, copy, network.log_mel, prepared.sample_rate)
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


def _print_copies(rows: list[dict[str, Any]], settings: dict[str, Any], as_json: bool) -> None:
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
    """FOLDER/SYSTEM/NAME.wav, the name with its folders, so that no two clips share a file."""
    name = Path(copies.clip.name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"clip {copies.clip.name!r} would be written outside of {folder}; prepare the dataset again")
    for system, waveform in {"original": copies.original, **copies.audio}.items():
        path = folder / system / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, waveform, rate)
