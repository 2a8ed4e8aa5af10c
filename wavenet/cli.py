"""The `wavenet` command. Errors are one line on standard error and exit status 2."""

import io
import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

if TYPE_CHECKING:
    from wavenet.model import WaveNet, WaveNetConfig

__all__ = ["app", "main"]

app = typer.Typer(
    help="Train WaveNets on audio, score them on held-out audio, and generate WAV files.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Force = Annotated[bool, typer.Option("--force", help="Replace what is already there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Entry point of the `wavenet` command."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except typer.TyperException as error:
        _fail(f"{error.format_message()} See wavenet --help, or wavenet COMMAND --help.")
    except OSError as error:
        _fail(str(error) if error.filename is None else f"{error.filename}: {error.strerror}")
    except (ValueError, FloatingPointError) as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        _fail("not enough memory for this; try a smaller model, window, batch or count")


def _fail(message: str) -> None:
    print(f"wavenet: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="Folder of recordings, or where a known corpus lies.")],
    dataset: Annotated[Path, typer.Argument(help="Folder to write the prepared dataset to.")],
    corpus: Annotated[str, typer.Option(help="folder, ljspeech, vctk, libritts or sc09.")] = "folder",
    download: Annotated[bool, typer.Option("--download", help="Fetch a known corpus into SOURCE first.")] = False,
    speakers: Annotated[bool, typer.Option("--speakers", help="The first folder level names the speaker.")] = False,
    sample_rate: Annotated[int, typer.Option(help="Sample rate of the dataset, in Hz.")] = 16000,
    trim_db: Annotated[
        float, typer.Option(help="Trim ends that stay this many dB below the clip's own peak; 0 keeps them.")
    ] = 40.0,
    held_out: Annotated[float, typer.Option(help="Share of clips held out, by a hash of the name.")] = 0.1,
    jobs: Annotated[int | None, typer.Option(help="Processes; as many as there are cores if not given.")] = None,
    force: Force = False,
) -> None:
    """Turn recordings (WAV, FLAC, Ogg, MP3; any rate) into a dataset for training."""
    from wavenet.corpus import find_clips
    from wavenet.dataset import PreparedDataset
    from wavenet.prepare import PrepareConfig, prepare_dataset

    if jobs is not None and not 1 <= jobs <= 1024:
        raise ValueError(f"--jobs is {jobs}; expected 1 to 1024")
    if not 0 <= held_out < 1:
        raise ValueError(f"--held-out is {held_out}; expected a share from 0 to under 1")
    config = PrepareConfig(sample_rate=sample_rate, trim_db=trim_db or None)
    clips = find_clips(source, corpus, held_out=held_out, speakers=speakers, download=download)
    jobs = jobs or os.cpu_count() or 1
    try:
        with tqdm(total=len(clips), unit="clip", desc="prepare", disable=None) as bar:
            skipped = prepare_dataset(clips, dataset, config, jobs=jobs, force=force, progress=bar.update)
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on from {dataset}.partial", file=sys.stderr)
        raise typer.Exit(130) from None
    for clip in skipped:
        print(f"skipped: {clip.reason}", file=sys.stderr)
    prepared = PreparedDataset(dataset)
    present = {clip.split for clip in prepared.clips}
    for missing in {"train", "test"} - present:
        print(f"no clip fell into split {missing}: training needs both; see --held-out", file=sys.stderr)
    for split in sorted(present):
        members = prepared.split(split)
        minutes = sum(clip.samples for clip in members) / prepared.sample_rate / 60
        print(f"{split}: {len(members)} clips, {minutes:.1f} minutes")
    print(f"wrote {dataset}: {len(prepared.clips)} clips at {prepared.sample_rate} Hz, {len(skipped)} skipped")


class _TrainingConsole:
    """Shows a run: a progress bar where there is a terminal, and a line for each evaluation."""

    def __init__(self, steps: int, samples_per_step: int, tensorboard: Any) -> None:
        self.bar = tqdm(total=steps, unit="step", desc="train", disable=None)
        self.samples_per_step = samples_per_step
        self.tensorboard = tensorboard
        self.begun: tuple[int, float] | None = None

    def note(self, message: str) -> None:
        tqdm.write(message)
        sys.stdout.flush()

    def stepped(self, step: int, bits: float) -> None:
        begun_step, begun = self.begun = self.begun or (step - 1, time.perf_counter())
        rate = (step - begun_step) * self.samples_per_step / max(1e-9, time.perf_counter() - begun)
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix_str(f"{bits:.2f} bits/sample, {rate:,.0f} samples/s")

    def logged(self, record: dict[str, float]) -> None:
        if self.bar.disable and "train_bits" in record:
            speed = f"{record['samples_per_second']:,.0f} samples/s"
            print(f"step {record['step']:>6}: {record['train_bits']:.3f} bits/sample in training, {speed}", flush=True)
        if self.tensorboard is not None:
            self.tensorboard.logged(record)

    def evaluated(self, step: int, bits: float, model: "WaveNet") -> None:
        self.note(f"step {step:>6}: {bits:.3f} bits/sample held out")
        if self.tensorboard is not None:
            self.tensorboard.evaluated(step, model)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe (TOML).")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a value of the recipe; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint if it has one.")] = False,
) -> None:
    """Train a model. Ctrl-C saves a checkpoint; --resume goes on as if nothing had happened."""
    from wavenet.recipe import load_recipe
    from wavenet.tensorboard import TensorBoardWriter
    from wavenet.training import train as run_training

    loaded = load_recipe(recipe, set_ or [])
    config = loaded.train
    writer = TensorBoardWriter(loaded.run / "tensorboard", config.audio_seconds) if config.tensorboard else None
    stopping = threading.Event()

    def stop(signum: int, frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        message = b"stopping after this step (once more to stop at once, losing what is not in a checkpoint)\n"
        os.write(2, message)  # print is not safe in a signal handler

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    console = _TrainingConsole(config.steps, config.batch_size * config.window, writer)
    finished = run_training(loaded, console, resume=resume, stop=stopping.is_set)
    console.bar.close()
    if not finished:
        print(f"checkpoint saved in {loaded.run}; the same command with --resume goes on", file=sys.stderr)
        raise typer.Exit(130)
    print(f"wrote {loaded.run / 'model.safetensors'}")


@app.command()
def generate(
    model: Annotated[Path, typer.Argument(help="Model file (.safetensors).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="WAV or FLAC file to write.")],
    seconds: Annotated[float, typer.Option(help="Seconds of new audio.")] = 3.0,
    count: Annotated[int, typer.Option(help="How many; OUTPUT gets -1, -2, ... before its suffix.")] = 1,
    prime: Annotated[Path | None, typer.Option(help="Audio to continue; it stands at the start of OUTPUT.")] = None,
    prime_seconds: Annotated[float | None, typer.Option(help="Take only the first seconds of --prime.")] = None,
    temperature: Annotated[float, typer.Option(help="Below 1 is more cautious; 0 takes the likeliest sample.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k likeliest classes.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Sample from the likeliest classes that share p.")] = None,
    seed: Annotated[int, typer.Option(help="Stream i draws from a generator seeded SEED + i.")] = 0,
    engine: Annotated[str, typer.Option(help="auto, incremental or naive.")] = "auto",
    log_probs: Annotated[
        Path | None, typer.Option(help="Also write log-probabilities (nats) to this .npy file.")
    ] = None,
    force: Force = False,
) -> None:
    """Generate audio from a model file."""
    import numpy as np
    import torch

    from wavenet.atomic import write_atomically
    from wavenet.audio import write_audio
    from wavenet.engines import choose_engine
    from wavenet.generation import generate as run_generation
    from wavenet.model import WaveNet

    if output.suffix.lower() not in (".wav", ".flac"):
        raise ValueError(f"{output}: audio is written as .wav or .flac, not as {output.suffix!r}")
    if not 0 < seconds <= 86400 or not 1 <= count <= 1000:
        raise ValueError(f"--seconds is {seconds} and --count {count}; expected up to 86400 (a day) and 1 to 1000")
    names = [output] if count == 1 else [output.with_stem(f"{output.stem}-{i + 1}") for i in range(count)]
    outputs = [*names, *([log_probs] if log_probs else [])]
    for path in outputs:
        _check_output(path, force)
    sources = {path.resolve() for path in (model, prime) if path is not None}
    resolved = {path.resolve() for path in outputs}
    if resolved & sources or len(resolved) < len(outputs):
        raise ValueError("an output is also the model, the prime or another output; give each file a name of its own")
    network = WaveNet.from_pretrained(model)
    rate = network.config.sample_rate
    samples = max(1, round(seconds * rate))
    beginning = _read_prime(prime, prime_seconds, rate)
    begun = time.perf_counter()
    with tqdm(total=samples, unit="sample", desc="generate", disable=None) as bar:

        def progress(done: int) -> None:
            bar.update(done)
            bar.set_postfix_str(f"{count * bar.n / rate / (time.perf_counter() - begun):.3f} x real time")

        audio, log_probabilities = run_generation(
            network,
            samples,
            batch=count,
            seed=seed,
            prime=beginning,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            engine=engine,
            progress=progress,
            return_log_probs=True,
        )
    elapsed = time.perf_counter() - begun
    if beginning is not None:
        audio = torch.cat([beginning.expand(count, -1), audio], dim=1)
    for path, waveform in zip(names, audio, strict=True):
        write_audio(path, waveform, rate)
    if log_probs is not None:
        encoded = io.BytesIO()
        np.save(encoded, log_probabilities.numpy())
        write_atomically(log_probs, encoded.getvalue())
    bits = -float(log_probabilities.double().mean()) / math.log(2)
    speed = count * samples / elapsed
    print(
        f"wrote {', '.join(map(str, names))} (seed {seed}, {choose_engine(engine).name} engine): "
        f"{bits:.2f} bits/sample, {speed:,.0f} samples/s, {speed / rate:.3f} x real time"
    )


def _check_output(path: Path, force: bool) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file to write")
    if path.exists() and not force:
        raise ValueError(f"{path} exists; choose another path or pass --force to replace it")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder to write {path.name} to")


def _read_prime(path: Path | None, seconds: float | None, rate: int) -> Any:
    from wavenet.audio import read_audio, resample

    if path is None:
        if seconds is not None:
            raise ValueError("--prime-seconds goes with --prime")
        return None
    waveform, source_rate = read_audio(path)
    waveform = resample(waveform, source_rate, rate)
    if seconds is None:
        return waveform
    if not 0 < seconds * rate <= len(waveform):
        raise ValueError(f"--prime-seconds is {seconds}; {path} has {len(waveform) / rate:.2f} seconds")
    return waveform[: max(1, round(seconds * rate))]


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model file (.safetensors).")],
    dataset: Annotated[Path, typer.Argument(help="Prepared dataset.")],
    split: Annotated[str, typer.Option(help="Which split to score.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Score only this many clips, evenly spaced.")] = None,
    with_baselines: Annotated[
        bool, typer.Option("--baselines", help="Also score uniform, unigram and linear prediction.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score a model on held-out audio: bits per sample, each sample once with its full context."""
    from wavenet.baselines import baselines
    from wavenet.dataset import PreparedDataset
    from wavenet.evaluation import Score
    from wavenet.evaluation import evaluate as run_evaluation
    from wavenet.model import WaveNet

    network = WaveNet.from_pretrained(model)
    prepared = PreparedDataset(dataset)
    clips = prepared.split(split)
    if limit is not None:
        if limit < 1:
            raise ValueError(f"--limit is {limit}; expected at least 1")
        count = min(limit, len(clips))
        clips = tuple(clips[index * len(clips) // count] for index in range(count))
    with tqdm(total=sum(clip.samples for clip in clips), unit="sample", unit_scale=True, disable=None) as bar:
        scores = run_evaluation(network, prepared, clips, bar.update)
    references = baselines(prepared, clips, network.config.classes) if with_baselines else {}
    rows: list[dict[str, Any]] = []
    for speaker, score in sorted(scores.items(), key=lambda item: str(item[0])):
        rows.append({"speaker": speaker, **vars(score), **(vars(references[speaker]) if references else {})})
    total: dict[str, Any] = vars(Score.pooled(scores.values())).copy()
    for name in ("uniform", "unigram", "linear_prediction") if references else ():
        total[name] = sum(row[name] * row["samples"] for row in rows) / total["samples"]
    if as_json:
        print(json.dumps({"split": split, "clips": len(clips), **total, "speakers": rows}, indent=2))
        return
    if len(rows) == 1:
        rows = []
    columns = [key for key in total if key != "samples"]
    print(f"{'':12}{'seconds':>10}" + "".join(f"{name:>20}" for name in columns))
    for row in [*rows, {"speaker": "all", **total}]:
        seconds = row["samples"] / prepared.sample_rate
        print(f"{row['speaker'] or '-':12}{seconds:10.1f}" + "".join(f"{row[name]:20.4f}" for name in columns))
    print(f"bits per sample on {len(clips)} clips of split {split!r} (accuracy is a share)")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="Model file (.safetensors) or recipe (.toml).")],
    as_json: AsJson = False,
) -> None:
    """Show the layers, the receptive field, the parameters and the multiply-adds per sample."""
    import torch

    from wavenet.model import WaveNet
    from wavenet.recipe import load_recipe

    if path.suffix == ".toml":
        with torch.device("meta"):
            network = WaveNet(load_recipe(path).model)
    else:
        network = WaveNet.from_pretrained(path)
    config = network.config
    layers = _layers(config)
    summary: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds_per_sample": network.multiply_adds,
        "receptive_field_samples": config.receptive_field,
        "receptive_field_ms": config.receptive_field / config.sample_rate * 1000,
    }
    if as_json:
        print(json.dumps({"config": config.to_dict(), **summary, "layers": layers}, indent=2))
        return
    print(f"{'layer':>5}{'dilation':>10}{'sees samples':>14}{'ms':>10}")
    for layer in layers:
        print(f"{layer['layer']:>5}{layer['dilation']:>10}{layer['samples']:>14}{layer['ms']:>10.1f}")
    channels = f"{config.residual_channels}/{config.gate_channels}/{config.skip_channels}/{config.head_channels}"
    print(f"kernel {config.kernel_size}, residual/gate/skip/head channels {channels}, {config.classes} classes")
    field, milliseconds = summary["receptive_field_samples"], summary["receptive_field_ms"]
    print(f"receptive field {field:,} samples = {milliseconds:.1f} ms at {config.sample_rate} Hz")
    print(f"{summary['parameters']:,} parameters, {network.multiply_adds:,} multiply-adds per sample")


def _layers(config: "WaveNetConfig") -> list[dict[str, Any]]:
    seen, layers = 1, []
    for number, dilation in enumerate(config.dilations, start=1):
        seen += (config.kernel_size - 1) * dilation
        layers.append({"layer": number, "dilation": dilation, "samples": seen, "ms": seen / config.sample_rate * 1000})
    return layers
