"""`wavenet generate`: a model to audio."""

import math
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from wavenet.cli.options import Force, ModelFile, Temperature, Threads, Weights, between, check_output

EngineName = Literal["auto", "native", "incremental", "stepwise", "naive", "triton"]

_PIPE = Path("-")


def generate(
    model: ModelFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="WAV or FLAC file to write; - streams WAV to standard output.")
    ],
    seconds: Annotated[
        float | None, typer.Option(help="Seconds of new audio; 3, or as long as the features last, if not given.")
    ] = None,
    count: Annotated[
        int,
        typer.Option(callback=between(1, 1000), help="How many recordings; OUTPUT gets -1, -2, ... before its suffix."),
    ] = 1,
    speaker: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who speaks; `wavenet inspect MODEL` lists the speakers.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=NAME", help="A label, such as speaker=theo; `wavenet inspect MODEL` lists them; repeatable."
        ),
    ] = None,
    features_from: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Recording to copy: the model speaks from its features; repeatable."),
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Log-mel features (bins, frames) to speak from, .npy, .npz, .pt or .safetensors; repeatable, numbered "
            "after --features-from.",
        ),
    ] = None,
    say: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="What to say, and for how many seconds each: 'seven:0.45 nine:0.5'; :0.2 is a pause.",
        ),
    ] = None,
    score: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What to say when: timed labels, .TextGrid, .lab, .csv, or Audacity's .txt."),
    ] = None,
    tier: Annotated[str | None, typer.Option(metavar="NAME", help="The tier of a .TextGrid that has several.")] = None,
    tracks: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Tracks such as pitch, beside features or labels: .csv with a header that names them, and seconds "
            "if it has times; or, at the model's frames, an array (tracks, frames), .npy, .npz, .pt or .safetensors. "
            "Repeatable, one for each OUTPUT.",
        ),
    ] = None,
    prime: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Recording to continue; OUTPUT begins with it. Repeatable, one for each OUTPUT."
        ),
    ] = None,
    prime_seconds: Annotated[float | None, typer.Option(help="Take only the first seconds of each --prime.")] = None,
    temperature: Temperature = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k likeliest classes or components.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Sample from the smallest set of likeliest classes or components whose probabilities sum to P."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Recording i draws from a generator seeded SEED + i.")] = 0,
    engine: Annotated[EngineName, typer.Option(help="auto is the fastest engine that can run the model.")] = "auto",
    weights: Weights = None,
    threads: Threads = 1,
    log_probs: Annotated[
        Path | None,
        typer.Option(help="Also write log-probabilities (nats) to this .npy file; NaN after a recording's end."),
    ] = None,
    force: Force = False,
) -> None:
    """Generate audio from a model.

    A model that was trained with timed labels says what --say or --score tells it. One that is conditioned on features
    needs --features-from or --features. Any other model babbles.
    """
    if seconds is not None and not 0 < seconds <= 86400:
        raise ValueError(f"--seconds is {seconds}; expected over 0, up to 86400 (a day)")
    if not prime and prime_seconds is not None:
        raise ValueError("--prime-seconds goes with --prime")
    recordings, feature_files, primes, track_files = features_from or [], features or [], prime or [], tracks or []
    if sum(map(bool, (say is not None, score is not None, recordings or feature_files))) > 1:
        raise ValueError("--say, --score and features each say what to generate; expected one of them")
    if tier is not None and score is None:
        raise ValueError("--tier goes with --score")
    sources = [path for path in (model, *primes, score, *recordings, *feature_files, *track_files) if path is not None]
    inputs_given = {"feature files": len(recordings) + len(feature_files), "--prime files": len(primes)}
    inputs_given["--tracks files"] = len(track_files)
    names = _outputs(output, count, inputs_given, log_probs, sources, force)

    from wavenet.cli.recordings import (
        lasting,
        named_labels,
        new_samples,
        read_feature_inputs,
        read_prime,
        read_track_inputs,
        said_labels,
    )
    from wavenet.cli.writing import (
        check_length,
        check_room,
        sigterm_as_ctrl_c,
        stream_wav,
        with_progress,
        write_files,
    )
    from wavenet.engines import EngineOptions
    from wavenet.generation import Stream, generate_chunks
    from wavenet.network import SamplingOptions, WaveNet

    asked = EngineOptions(engine, weights or "float32", threads)
    options = SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    network = WaveNet.from_pretrained(model)
    rate = network.config.sample_rate
    read = [read_prime(path, prime_seconds, rate) for path in primes]
    beginnings = (read * len(names) if len(read) == 1 else read) or None
    labels = named_labels(label or [], speaker)
    said = said_labels(say, score, tier)
    inputs = read_feature_inputs(network, recordings, feature_files, len(names), said, labels)
    given_tracks = read_track_inputs(network, track_files, inputs)
    before = [0] * len(names) if beginnings is None else list(map(len, beginnings))
    lengths = new_samples(seconds, network.config, inputs, before)
    samples = max(lengths)
    check_length(names, samples + max(before))
    if output != _PIPE:
        check_room(names, samples + max(before), log_probs)
    chosen, reason = asked.resolved(network)
    if reason is not None:
        print(f"note: generating with the {chosen.name} engine: {reason}", file=sys.stderr)
    begun = time.perf_counter()
    frames = [one.features for one in inputs] or None
    conditioning = network.condition(len(names), labels=labels, features=frames, tracks=given_tracks)
    conditioning = lasting(conditioning, network.alignment.hop, samples + max(before))
    stream = Stream(network, conditioning, options, batch=len(names), seed=seed, engine=chosen)
    made = with_progress(generate_chunks(stream, samples, beginnings), samples, len(names), rate)
    with sigterm_as_ctrl_c() as terminated:
        if output == _PIPE:
            written = stream_wav(made, rate, samples, beginnings[0] if beginnings else None)
        else:
            written = write_files(made, names, lengths, beginnings, rate, log_probs)
    speed = len(names) * written.samples / (time.perf_counter() - begun)
    if written.interrupted:
        print(f"interrupted after {written.samples / rate:.2f} of {samples / rate:.2f} s", file=sys.stderr)
    print(
        f"wrote {', '.join(map(str, names))} (seed {seed}, {chosen.name} engine): "
        f"{-written.nats / math.log(2):.2f} bits/sample, {speed:,.0f} samples/s, {speed / rate:.3f} x real time",
        file=sys.stderr if output == _PIPE else sys.stdout,
    )
    if output != _PIPE and chosen.name == "native" and weights is None and speed < rate <= written.samples:
        print(
            "note: this was slower than real time; --weights int8 may be faster (wavenet bench compares them)",
            file=sys.stderr,
        )
    if written.interrupted:
        raise SystemExit(143 if terminated.is_set() else 130)


def _outputs(
    output: Path, count: int, inputs: dict[str, int], log_probs: Path | None, sources: list[Path], force: bool
) -> list[Path]:
    """Name the file of each recording. Raises `ValueError` unless all outputs can be written."""
    if output == _PIPE:
        _check_pipe(max(count, *inputs.values()), log_probs)
        return [Path("standard output")]
    names = _numbered(output, count, inputs)
    written = [*names, *([log_probs] if log_probs else [])]
    for path in written:
        check_output(path, force)
    resolved = {os.path.realpath(path) for path in written}
    if resolved & {os.path.realpath(path) for path in sources} or len(resolved) < len(written):
        raise ValueError("an output is also an input or another output; give each file another name")
    return names


def _check_pipe(recordings: int, log_probs: Path | None) -> None:
    if sys.stdout is None:  # closed by the shell
        raise ValueError("-o - writes audio to standard output, which is closed; pipe it, or give a file name")
    if sys.stdout.isatty():
        raise ValueError("-o - writes audio to standard output, which is a terminal; pipe it, or give a file name")
    if log_probs is not None:
        raise ValueError("--log-probs does not go with -o -, which keeps nothing; give a file name")
    if recordings > 1:
        raise ValueError("-o - streams one recording; give a file name for several")


def _numbered(output: Path, count: int, inputs: dict[str, int]) -> list[Path]:
    """OUTPUT for one recording; OUTPUT-1, OUTPUT-2, ... for several, as many as there are `inputs` of any kind."""
    if output.suffix.lower() not in (".wav", ".flac"):
        raise ValueError(f"{output}: audio is written as .wav or .flac, not as {output.suffix!r}")
    recordings = count
    for what, number in inputs.items():
        if number > 1000:
            raise ValueError(f"{number} {what} are given; expected at most 1000")
        if number > 1 and count > 1:
            raise ValueError(f"--count is {count} with {number} {what}; give one file, or leave --count out")
        if number > 1 and recordings not in (1, number):
            raise ValueError(f"{recordings} {next(iter(inputs))} and {number} {what} are given; expected one of each")
        recordings = max(recordings, number)
    return [output] if recordings == 1 else [output.with_stem(f"{output.stem}-{i + 1}") for i in range(recordings)]
