"""`wavenet evaluate`: a model's likelihood on held-out clips."""

import json
from typing import Annotated, Any

import typer

from wavenet.cli.options import (
    AsJson,
    AsSpeaker,
    DatasetFolder,
    Limit,
    ModelFile,
    OnlySpeakers,
    Split,
    WeightType,
    counted,
)


def evaluate(
    model: ModelFile,
    dataset: DatasetFolder,
    split: Split = "test",
    speaker: OnlySpeakers = None,
    limit: Limit = None,
    as_speaker: AsSpeaker = None,
    with_baselines: Annotated[
        bool, typer.Option("--baselines", help="Also score three baselines: uniform, unigram and linear prediction.")
    ] = False,
    weights: Annotated[
        WeightType | None, typer.Option(help="Score with the native engine, its weights of this type.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on held-out clips, in bits per sample.

    Every sample is scored once, given all samples of the clip before it.
    """
    from wavenet.cli.held_out import open_clips, sample_progress
    from wavenet.evaluation import CLASSES, pooled_row, score_baselines, score_rows
    from wavenet.evaluation import evaluate as run_evaluation

    network, prepared, clips = open_clips(model, dataset, split, speaker, limit, as_speaker)
    with sample_progress(clips) as bar:
        scores = run_evaluation(network, clips, bar.update, speaker=as_speaker, weights=weights)
    train = [clip for clip in prepared.clips if clip.split == "train"]
    rows = score_rows(scores, score_baselines(clips, CLASSES, train=train) if with_baselines else {})
    total = pooled_row(rows)
    if as_json:
        print(json.dumps({"clips": len(clips), **total, "speakers": rows}, indent=2))
        return
    print(_table(rows, total, prepared.sample_rate))
    print(
        f"bits per sample on {counted(len(clips), 'clip')}; mu_law_bits are those of {CLASSES} µ-law classes, to "
        "compare models of different resolution; accuracy is a share"
    )


def _table(rows: list[dict[str, Any]], total: dict[str, Any], sample_rate: int) -> str:
    """A line for each speaker, if there are several, and one for all."""
    columns = [key for key in total if key != "samples"]
    lines = [f"{'':12}{'seconds':>10}" + "".join(f"{name:>20}" for name in columns)]
    for row in [*(rows if len(rows) > 1 else []), {"speaker": "(all)", **total}]:
        seconds = row["samples"] / sample_rate
        lines.append(f"{row['speaker'] or '-':12}{seconds:10.1f}" + "".join(f"{row[name]:20.4f}" for name in columns))
    return "\n".join(lines)
