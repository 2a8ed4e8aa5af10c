"""`wavenet report`: a page about a run or a model, with pictures and sound."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from wavenet.cli.options import Force, Temperature, check_output


def report(
    path: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_MODEL", help="A run's folder, a model file, or a name of `wavenet models`."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")],
    dataset: Annotated[
        Path | None, typer.Option(help="Dataset to take held-out clips from; the run's own if not given.")
    ] = None,
    clips: Annotated[int, typer.Option(help="Number of held-out clips to play.")] = 2,
    seconds: Annotated[
        float,
        typer.Option(help="Length of generated audio that copies no clip, in seconds."),
    ] = 3.0,
    scored_seconds: Annotated[float, typer.Option(help="Seconds of held-out audio to score; 0 scores none.")] = 40.0,
    temperature: Temperature = 1.0,
    seed: Annotated[int, typer.Option(help="Clip i draws from a generator seeded SEED + i.")] = 0,
    force: Force = False,
) -> None:
    """Write a page that shows and plays a run or a model.

    The page is one HTML file: training curves, held-out and generated audio, scores, and what the network sees.
    """
    from wavenet.atomic import write_atomically
    from wavenet.reporting import ReportOptions, Subject, build_report

    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{output}: a report is written as .html, not as {output.suffix!r}")
    options = ReportOptions(
        clips=clips, seconds=seconds, scored_seconds=scored_seconds, temperature=temperature, seed=seed
    )
    check_output(output, force)
    subject = Subject.open(path)
    if dataset is not None:
        subject = subject.scored_on(dataset)
    elif subject.missing:
        missing = ", ".join(map(str, subject.missing))
        print(f"note: {missing}: no such dataset; its clips are not shown; --dataset names another", file=sys.stderr)
    page = build_report(subject, options, shlex.join(["wavenet", *sys.argv[1:]]))
    write_atomically(output, page.encode())
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")
