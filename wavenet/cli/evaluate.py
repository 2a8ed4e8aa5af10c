"""`wavenet evaluate`: a model's held-out likelihood, or its quality as a vocoder."""

import json
import math
from collections import defaultdict
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from wavenet.audio import write_audio
from wavenet.baselines import baselines
from wavenet.cli.options import AsJson, ModelFile
from wavenet.dataset import PreparedClip, PreparedDataset
from wavenet.evaluation import CLASSES, Score, spread
from wavenet.evaluation import evaluate as run_evaluation
from wavenet.model import WaveNet
from wavenet.sampling import SamplingOptions
from wavenet.vocoder import SYSTEMS, Quality, check_installed, copy_clips, interval, measure

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
    temperature: Annotated[float, typer.Option(help="With --vocoder: below 1 is more cautious.")] = 1.0,
    seed: Annotated[int, typer.Option(help="With --vocoder: clip i draws from SEED + i.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Score a model on held-out audio: bits per sample, each sample once with its full context."""
    if vocoder and (with_baselines or speaker):
        raise ValueError("--vocoder does not go with --baselines or --speaker: it reports its own references")
    if audio is not None and not vocoder:
        raise ValueError("--audio goes with --vocoder")
    if audio is not None and audio.exists():
        raise ValueError(f"{audio} exists; choose another folder")
    if vocoder:
        check_installed()
    network = WaveNet.from_pretrained(model)
    prepared = PreparedDataset(dataset)
    clips = prepared.split(split, voice or [])
    if limit is not None:
        clips = spread(clips, limit)
    if vocoder:
        options = SamplingOptions(temperature=temperature)
        _evaluate_vocoder(network, prepared, clips, options, seed, audio, as_json)
    else:
        _evaluate_likelihood(network, prepared, clips, speaker, with_baselines, as_json)


def _progress(clips: tuple[PreparedClip, ...]) -> Any:
    return tqdm(total=sum(clip.samples for clip in clips), unit="sample", unit_scale=True, disable=None)


def _evaluate_likelihood(
    network: WaveNet,
    prepared: PreparedDataset,
    clips: tuple[PreparedClip, ...],
    speaker: str | None,
    with_baselines: bool,
    as_json: bool,
) -> None:
    with _progress(clips) as bar:
        scores = run_evaluation(network, prepared, clips, bar.update, speaker=speaker)
    references = baselines(prepared, clips, CLASSES) if with_baselines else {}
    rows: list[dict[str, Any]] = []
    for name, score in sorted(scores.items(), key=lambda item: str(item[0])):
        rows.append({"speaker": name, **vars(score), **(vars(references[name]) if references else {})})
    total: dict[str, Any] = vars(Score.pooled(scores.values())).copy()
    for name in ("uniform", "unigram", "linear_prediction") if references else ():
        total[name] = sum(row[name] * row["samples"] for row in rows) / total["samples"]
    if as_json:
        print(json.dumps({"clips": len(clips), **total, "speakers": rows}, indent=2))
        return
    if len(rows) == 1:
        rows = []
    columns = [key for key in total if key != "samples"]
    print(f"{'':12}{'seconds':>10}" + "".join(f"{name:>20}" for name in columns))
    for row in [*rows, {"speaker": "all", **total}]:
        seconds = row["samples"] / prepared.sample_rate
        print(f"{row['speaker'] or '-':12}{seconds:10.1f}" + "".join(f"{row[name]:20.4f}" for name in columns))
    print(
        f"bits per sample on {len(clips)} clips; mu_law_bits are those of {CLASSES} µ-law classes, to compare models "
        "of different resolution; accuracy is a share"
    )


def _evaluate_vocoder(
    network: WaveNet,
    prepared: PreparedDataset,
    clips: tuple[PreparedClip, ...],
    options: SamplingOptions,
    seed: int,
    audio: Path | None,
    as_json: bool,
) -> None:
    found: defaultdict[tuple[str, str], list[Quality]] = defaultdict(list)
    with _progress(clips) as bar:
        for copies in copy_clips(network, prepared, clips, options, seed=seed, progress=bar.update):
            if audio is not None:
                _write_copies(audio, copies.clip, {"original": copies.original, **copies.audio}, prepared.sample_rate)
            assert network.log_mel is not None
            for system, copy in copies.audio.items():
                quality = measure(copies.original, copy, network.log_mel, prepared.sample_rate)
                found[copies.clip.speaker or "-", system].append(quality)
                found["all", system].append(quality)
    speakers = sorted({speaker for speaker, _ in found} - {"all"})
    rows: list[dict[str, Any]] = []
    for speaker in [*speakers, "all"] if len(speakers) > 1 else speakers:
        for system in SYSTEMS:
            qualities = found[speaker, system]
            scores = {
                field.name: asdict(interval([getattr(quality, field.name) for quality in qualities]))
                for field in fields(Quality)
            }
            rows.append({"speaker": speaker, "system": system, **scores})
    if as_json:
        print(json.dumps({"clips": len(clips), "temperature": options.temperature, "rows": rows}, indent=2))
        return
    print(f"{'':12}{'':14}{'clips':>6}" + "".join(f"{field.name:>20}" for field in fields(Quality)))
    for row in rows:
        cells = "".join(_cell(row[field.name]) for field in fields(Quality))
        print(f"{row['speaker']:12}{row['system']:14}{row['log_mel_db']['clips']:6}{cells}")
    print("mean and 95% confidence interval over clips; PESQ is wide-band, log_mel_db the distance of the features")


def _cell(score: dict[str, float]) -> str:
    width = "" if math.isnan(score["half_width"]) else f" ± {score['half_width']:.3f}"
    return f"{score['mean']:.3f}{width}".rjust(20)


def _write_copies(folder: Path, clip: PreparedClip, waveforms: dict[str, Any], rate: int) -> None:
    for system, waveform in waveforms.items():
        path = folder / system / f"{clip.name.replace('/', '_')}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, waveform, rate)
