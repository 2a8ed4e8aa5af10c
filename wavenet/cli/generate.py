"""`wavenet generate`: a model to audio."""

import io
import math
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor
from tqdm import tqdm

from wavenet.atomic import write_atomically
from wavenet.cli.options import Force, ModelFile, Threads, Weights, check_output, weight_type
from wavenet.data import read_audio, resample, to_int16, write_audio
from wavenet.engines import EngineOptions
from wavenet.generation import Generated, Stream, generate_chunks
from wavenet.network import LogMel, SamplingOptions, WaveNet, read_features

__all__ = ["generate"]

_DEFAULT_SECONDS = 3.0


def generate(
    model: ModelFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="WAV or FLAC file to write; - streams WAV to standard output.")
    ],
    seconds: Annotated[
        float | None, typer.Option(help="Seconds of new audio; 3, or as long as the features, if not given.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many; OUTPUT gets -1, -2, ... before its suffix.")] = 1,
    speaker: Annotated[str | None, typer.Option(help="Who speaks: a name that `wavenet inspect MODEL` lists.")] = None,
    features_from: Annotated[
        list[Path] | None, typer.Option(help="Copy-synthesis: speak what this recording's features say; repeatable.")
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(
            help="Log-mel features (bins, frames), .npy or .safetensors; repeatable, numbered after --features-from."
        ),
    ] = None,
    prime: Annotated[Path | None, typer.Option(help="Audio to continue; it stands at the start of OUTPUT.")] = None,
    prime_seconds: Annotated[float | None, typer.Option(help="Take only the first seconds of --prime.")] = None,
    temperature: Annotated[float, typer.Option(help="Below 1 is more cautious; 0 takes the likeliest sample.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k likeliest classes or components.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the likeliest of them that share p.")] = None,
    seed: Annotated[int, typer.Option(help="Stream i draws from a generator seeded SEED + i.")] = 0,
    engine: Annotated[str, typer.Option(help="auto, native, incremental or naive.")] = "auto",
    weights: Weights = None,
    threads: Threads = 1,
    log_probs: Annotated[
        Path | None,
        typer.Option(help="Also write log-probabilities (nats) to this .npy file; NaN past a stream's end."),
    ] = None,
    force: Force = False,
) -> None:
    """Generate audio from a model file."""
    if seconds is not None and not 0 < seconds <= 86400:
        raise ValueError(f"--seconds is {seconds}; expected over 0, up to 86400 (a day)")
    feature_files = [*(features_from or []), *(features or [])]
    to_pipe = str(output) == "-"
    if to_pipe:
        _check_pipe(log_probs)
    names = _outputs(output, count, len(feature_files))
    others = [path for path in (model, prime, *feature_files) if path is not None]
    _check_outputs([*(names if not to_pipe else []), *([log_probs] if log_probs else [])], others, force)
    options = SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    network = WaveNet.from_pretrained(model)
    rate = network.config.sample_rate
    beginning = _read_prime(prime, prime_seconds, rate)
    spoken = [_from_recording(network, path) for path in features_from or []]
    spoken += [_from_features(network, path) for path in features or []]
    if len(spoken) == 1:
        spoken = spoken * len(names)
    hop = 1 if network.log_mel is None else network.log_mel.config.hop
    lengths = _lengths(seconds, rate, hop, spoken, len(names), beginning)
    samples = max(lengths)
    if to_pipe and 2 * (samples + (0 if beginning is None else len(beginning))) >= 2**32 - 2**24:
        raise ValueError(f"{samples} samples are more than a WAV file holds; take fewer --seconds")
    chosen = _engine(EngineOptions(engine, weight_type(weights), threads), network)
    begun = time.perf_counter()
    conditioning = network.condition(len(names), speaker=speaker, features=[clip for clip, _ in spoken] or None)
    stream = Stream(
        network,
        conditioning,
        options,
        batch=len(names),
        seed=seed,
        engine=chosen,
    )
    pieces = generate_chunks(stream, samples, beginning)
    with tqdm(total=samples, unit="sample", desc="generate", disable=None) as bar:

        def watched() -> Iterator[Generated]:
            for piece in pieces:
                yield piece
                bar.update(piece.audio.shape[1])
                bar.set_postfix_str(f"{len(names) * bar.n / rate / (time.perf_counter() - begun):.3f} x real time")

        if to_pipe:
            nats = _stream_wav(watched(), rate, samples, beginning)
        else:
            nats = _write_files(watched(), names, lengths, beginning, rate, log_probs)
    speed = len(names) * samples / (time.perf_counter() - begun)
    print(
        f"wrote {', '.join(map(str, names))} (seed {seed}, {chosen.name} engine): "
        f"{-nats / math.log(2):.2f} bits/sample, {speed:,.0f} samples/s, {speed / rate:.3f} x real time",
        file=sys.stderr if to_pipe else sys.stdout,
    )


def _write_files(
    pieces: Iterator[Generated],
    names: list[Path],
    lengths: list[int],
    beginning: Tensor | None,
    rate: int,
    log_probs: Path | None,
) -> float:
    """Write each stream to its length, once all is made; the mean log-probability of a sample, in nats."""
    made = list(pieces)
    scores = torch.cat([piece.log_probs for piece in made], dim=1)
    for path, waveform, length in zip(names, torch.cat([piece.audio for piece in made], dim=1), lengths, strict=True):
        whole = waveform[:length] if beginning is None else torch.cat([beginning, waveform[:length]])
        write_audio(path, whole, rate)
    if log_probs is not None:
        within = torch.arange(scores.shape[1]) < torch.tensor(lengths)[:, None]
        encoded = io.BytesIO()
        np.save(encoded, scores.where(within, torch.nan).numpy())
        write_atomically(log_probs, encoded.getvalue())
    scored = torch.cat([row[:length] for row, length in zip(scores, lengths, strict=True)])
    return float(scored.double().mean())


def _stream_wav(pieces: Iterator[Generated], rate: int, samples: int, beginning: Tensor | None) -> float:
    """16-bit WAV on standard output, piece by piece, nothing kept; the mean log-probability of a sample, in nats."""
    total, nats = samples + (0 if beginning is None else len(beginning)), 0.0
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as pipe:
        pipe.write(_wav_header(rate, total))  # it says the whole length at once
        if beginning is not None:
            pipe.write(_pcm(beginning))
        for piece in pieces:
            pipe.write(_pcm(piece.audio[0]))
            pipe.flush()
            nats += float(piece.log_probs.double().sum())
    return nats / samples


def _wav_header(rate: int, samples: int) -> bytes:
    """The header of a WAV file of 16-bit samples, mono. (The `wave` module writes one only where it can seek back.)"""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + 2 * samples, b"WAVE") + form + struct.pack("<4sI", b"data", 2 * samples)


def _pcm(waveform: Tensor) -> bytes:
    return to_int16(waveform).numpy().astype("<i2").tobytes()


def _engine(options: EngineOptions, network: WaveNet) -> EngineOptions:
    """The engine to use, with a note if `auto` takes another one than the native."""
    chosen, reason = options.resolved(network)
    if reason is not None:
        print(f"note: generating with the {chosen.name} engine: {reason}", file=sys.stderr)
    return chosen


def _check_pipe(log_probs: Path | None) -> None:
    if sys.stdout.isatty():
        raise ValueError("-o - writes audio to standard output, which is a terminal; pipe it, or give a file name")
    if log_probs is not None:
        raise ValueError("--log-probs does not go with -o -, which keeps nothing; give a file name")


def _outputs(output: Path, count: int, files: int) -> list[Path]:
    """Where each stream goes: OUTPUT, or OUTPUT-1, OUTPUT-2, ... of several."""
    if str(output) == "-":
        if count > 1 or files > 1:
            raise ValueError("-o - streams one recording; give a file name for several")
        return [Path("standard output")]
    if output.suffix.lower() not in (".wav", ".flac"):
        raise ValueError(f"{output}: audio is written as .wav or .flac, not as {output.suffix!r}")
    if not 1 <= count <= 1000 or files > 1000:
        raise ValueError(f"--count is {count}, and {files} feature files are given; expected 1 to 1000 streams")
    if files > 1 and count > 1:
        raise ValueError(f"--count is {count} with {files} feature files; give one file, or leave --count out")
    streams = max(count, files)
    return [output] if streams == 1 else [output.with_stem(f"{output.stem}-{i + 1}") for i in range(streams)]


def _check_outputs(outputs: list[Path], sources: list[Path], force: bool) -> None:
    for path in outputs:
        check_output(path, force)
    resolved = {os.path.realpath(path) for path in outputs}
    if resolved & {os.path.realpath(path) for path in sources} or len(resolved) < len(outputs):
        raise ValueError("an output is also an input or another output; give each file a name of its own")


def _log_mel(network: WaveNet) -> LogMel:
    if network.log_mel is None:
        raise ValueError("the model is not conditioned on features; leave --features and --features-from out")
    return network.log_mel


def _from_recording(network: WaveNet, path: Path) -> tuple[Tensor, int]:
    """The features of a recording, and how many samples it has at the model's rate."""
    log_mel = _log_mel(network)
    waveform = _read_at(path, network.config.sample_rate)
    return log_mel(waveform[None])[0], len(waveform)


def _from_features(network: WaveNet, path: Path) -> tuple[Tensor, int]:
    config = _log_mel(network).config
    clip = read_features(path, config, network.config.sample_rate)
    return clip, clip.shape[1] * config.hop


def _lengths(
    seconds: float | None,
    rate: int,
    hop: int,
    spoken: list[tuple[Tensor, int]],
    streams: int,
    beginning: Tensor | None,
) -> list[int]:
    """How many samples to generate for each stream: as asked for, or to the end of its features."""
    before = 0 if beginning is None else len(beginning)
    if seconds is not None or not spoken:
        samples = max(1, round((_DEFAULT_SECONDS if seconds is None else seconds) * rate))
        shortest = min((features.shape[1] * hop for features, _ in spoken), default=before + samples)
        if before + samples > shortest:
            raise ValueError(
                f"{shortest // hop} frames of features last {shortest / rate:.2f} s; "
                f"--seconds {samples / rate:g} after {before / rate:.2f} s needs {-(-(before + samples) // hop)} frames"
            )
        return [samples] * streams
    shortest = min(samples for _, samples in spoken)
    if shortest <= before:
        raise ValueError(f"the features last {shortest / rate:.2f} s, no longer than --prime, {before / rate:.2f} s")
    return [samples - before for _, samples in spoken]


def _read_at(path: Path, rate: int) -> Tensor:
    """A recording at the model's rate, bounded to [-1, 1]."""
    waveform, source_rate = read_audio(path)
    try:
        return resample(waveform, source_rate, rate).clamp(-1, 1)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_prime(path: Path | None, seconds: float | None, rate: int) -> Tensor | None:
    if path is None:
        if seconds is not None:
            raise ValueError("--prime-seconds goes with --prime")
        return None
    waveform = _read_at(path, rate)
    if seconds is None:
        return waveform
    if not 0 < seconds * rate <= len(waveform):
        raise ValueError(f"--prime-seconds is {seconds}; {path} has {len(waveform) / rate:.2f} seconds")
    return waveform[: max(1, round(seconds * rate))]
