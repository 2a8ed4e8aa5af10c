"""A page about a run or a model: what it was trained on, how it went, what it sounds like, what it sees.

The page stands alone: pictures and sound are inside of it, and it asks nothing of a network.
"""

import base64
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Annotated, Any

import torch
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from wavenet.audio import encode_audio, from_int16
from wavenet.baselines import baselines
from wavenet.dataset import PreparedClip, PreparedDataset
from wavenet.evaluation import CLASSES, Score, about, check_rate, evaluate, speaker_of, spread
from wavenet.generation import generate
from wavenet.model import WaveNet
from wavenet.plots import draw_cone, draw_curves, draw_sound, to_svg
from wavenet.quantize import decode_mu_law, encode_mu_law
from wavenet.receptive_field import WIDEST, count_paths, describe_reach, layer_table
from wavenet.recipe import Recipe, recipe_of_run
from wavenet.sampling import SamplingOptions
from wavenet.vocoder import copy_clips

__all__ = ["ReportOptions", "Subject", "build_report"]

_TEMPLATE = Path(__file__).with_name("report.html")
_PRIME_SECONDS = 1.0
_SHORT_SECONDS = 1.5
"""Clips that are shorter are heard only where there are no others."""
_MOST_VOICES = 8


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What is made for the page: sound of `clips` held-out clips, `seconds` long where the model chooses the length.

    `scored_seconds` bounds the held-out audio that is scored; 0 scores none.
    """

    clips: int = 2
    seconds: float = 3.0
    scored_seconds: float = 40.0
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.clips <= 100:
            raise ValueError(f"--clips is {self.clips}; expected 0 to 100")
        for name, value, most in (("--seconds", self.seconds, 60), ("--scored-seconds", self.scored_seconds, 86400)):
            if not 0 <= value <= most or (name == "--seconds" and value == 0):
                raise ValueError(f"{name} is {value:g}; expected over 0, up to {most}")


@dataclass(frozen=True)
class Subject:
    """What the page is about: a model, and what is known of the run that made it."""

    name: str
    path: Path
    model: WaveNet
    recipe: Recipe | None
    metrics: Sequence[dict[str, float]]

    @property
    def samples_per_step(self) -> int | None:
        return self.recipe.train.batch_size * self.recipe.train.window if self.recipe else None

    @classmethod
    def open(cls, path: Path) -> "Subject":
        """A run's folder, or a model file with its `NAME.metrics.jsonl` beside it if there is one."""
        if not path.is_dir():
            beside = path.with_suffix(".metrics.jsonl")
            return cls(path.stem, path, WaveNet.from_pretrained(path), None, _read_metrics(beside))
        file = path / "model.safetensors"
        if not file.is_file():
            raise ValueError(f"{path} holds no model.safetensors; expected a run's folder or a model file")
        recipe = recipe_of_run(path)
        return cls(path.name, file, WaveNet.from_pretrained(file), recipe, _read_metrics(path / "metrics.jsonl"))


@dataclass(frozen=True)
class Sound:
    """A recording with its picture, both ready for the page."""

    title: str
    note: str
    audio: str
    picture: Markup
    seconds: float


@dataclass(frozen=True)
class Clip:
    """Sounds that belong together, beneath one heading."""

    heading: str
    speaker: str | None
    text: str | None
    sounds: Sequence[Sound]


def build_report(subject: Subject, dataset: PreparedDataset | None, options: ReportOptions, command: str) -> str:
    """The page, as HTML. Without a dataset it has only what the model makes out of silence.

    `command` is what made it, for the reader. Raises `ValueError` where the dataset does not suit the model.
    """
    model = subject.model
    held_out: Sequence[PreparedClip] = ()
    if dataset is not None:
        check_rate(model, dataset)
        held_out = _known(model, dataset.split(dataset.held_out_split))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        subject=subject,
        config=model.config,
        options=options,
        commands=_commands(subject, dataset, command),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        reach=_reach(model),
        cone=_cone(model),
        layers=layer_table(model.config),
        curves=_curves(subject),
        evaluations=[one for one in subject.metrics if "held_out_bits" in one],
        dataset=dataset,
        held_out=held_out,
        speakers=sorted({clip.speaker for clip in dataset.clips if clip.speaker}) if dataset else [],
        scores=_scores(model, dataset, held_out, options.scored_seconds) if dataset else [],
        clips=list(_listen(model, dataset, held_out, options)),
        settings=subject.recipe.to_toml() if subject.recipe else json.dumps(model.config.to_dict(), indent=2),
        versions=f"wavenet-toolkit {version('wavenet-toolkit')}, torch {torch.__version__}, Python {python_version()}",
    )


def _commands(subject: Subject, dataset: PreparedDataset | None, command: str) -> list[str]:
    """What makes the model, its figures, its sound and this page."""
    model, commands = shlex.quote(str(subject.path)), []
    if subject.recipe:
        commands.append("wavenet train recipe.toml")
    if dataset is not None:
        commands.append(f"wavenet evaluate {model} {shlex.quote(str(dataset.path))} --baselines")
    if subject.model.log_mel is None:
        commands.append(f"wavenet generate {model} -o out.wav --seconds 3")
    else:
        commands.append(f"wavenet generate {model} -o out.wav --features-from recording.wav")
    return [*commands, f"wavenet inspect {model} --plot cone.svg", command]


def _read_metrics(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    line = TypeAdapter(dict[str, Annotated[float, Field(ge=-1e9, le=1e15)]])
    try:
        records = [line.validate_json(text) for text in path.read_bytes().splitlines()]
    except ValidationError as error:
        raise ValueError(f"{path} is not a run's metrics; expected names and numbers, JSON, on each line") from error
    if not all(record.keys() >= {"step", "seconds"} for record in records):
        raise ValueError(f"{path} is not a run's metrics; expected a step and seconds on each line")
    return records


def _known(model: WaveNet, clips: Sequence[PreparedClip]) -> Sequence[PreparedClip]:
    """The clips whose speaker the model knows, if it knows any by name."""
    names = model.config.speakers
    known = tuple(clip for clip in clips if not names or clip.speaker in names)
    if not known:
        raise ValueError(f"no held-out clip is by one of the speakers ({', '.join(names)}); choose another --dataset")
    return known


def _reach(model: WaveNet) -> str:
    config = model.config
    if config.receptive_field > WIDEST:
        return f"reaches {config.receptive_field:,} samples back"
    *_, counts = count_paths(config.dilations, config.kernel_size)
    return describe_reach(counts > 0, config.sample_rate)


def _cone(model: WaveNet) -> Markup | None:
    config = model.config
    if config.receptive_field > WIDEST:
        return None
    figure = draw_cone(config.dilations, config.kernel_size, config.sample_rate)
    return Markup(to_svg(figure, f"The receptive field, layer by layer: it {_reach(model)}"))


def _curves(subject: Subject) -> Markup | None:
    bits = [one["held_out_bits"] for one in subject.metrics if "held_out_bits" in one]
    if not bits:
        return None
    label = f"Bits per sample against training: held out from {bits[0]:.2f} to {bits[-1]:.2f}"
    return Markup(to_svg(draw_curves(subject.metrics, subject.samples_per_step), label))


def _scores(
    model: WaveNet, dataset: PreparedDataset, held_out: Sequence[PreparedClip], seconds: float
) -> list[dict[str, Any]]:
    """Bits per sample for each speaker, and for all together last, beside what to beat."""
    if not seconds:
        return []
    clips = about(held_out, round(seconds * dataset.sample_rate))
    scores, references = evaluate(model, dataset, clips), baselines(dataset, clips, CLASSES)
    names = sorted(scores, key=str)
    rows = [{"speaker": name or "-", **vars(scores[name]), **vars(references[name])} for name in names]
    if len(rows) > 1:
        total: dict[str, Any] = {"speaker": "all", **vars(Score.pooled(scores.values()))}
        for name in ("uniform", "unigram", "linear_prediction"):
            total[name] = sum(row[name] * row["samples"] for row in rows) / total["samples"]
        rows.append(total)
    return [{**row, "seconds": row["samples"] / dataset.sample_rate} for row in rows]


def _listen(
    model: WaveNet, dataset: PreparedDataset | None, held_out: Sequence[PreparedClip], options: ReportOptions
) -> Iterator[Clip]:
    longer = [clip for clip in held_out if clip.samples > _SHORT_SECONDS * model.config.sample_rate] or held_out
    chosen = spread(longer, options.clips) if options.clips and longer else ()
    if model.log_mel is not None:
        if dataset is not None:
            yield from _copies(model, dataset, chosen, options)
        return
    if dataset is not None:
        for index, clip in enumerate(chosen):
            yield _continued(model, dataset, clip, options, options.seed + index)
    yield _babble(model, options)


def _copies(
    model: WaveNet, dataset: PreparedDataset, clips: Sequence[PreparedClip], options: ReportOptions
) -> Iterator[Clip]:
    rate = dataset.sample_rate
    sampling = SamplingOptions(temperature=options.temperature)
    for copies in copy_clips(model, dataset, clips, sampling, seed=options.seed):
        sounds = [_sound("The original, held out", "", copies.original, rate)]
        for system, (title, note) in _SYSTEMS.items():
            sounds.append(_sound(title, note, copies.audio[system], rate))
        yield Clip(copies.clip.name, copies.clip.speaker, copies.clip.text, sounds)


_SYSTEMS = {
    "model": ("Copied by the model", "from the original's features alone"),
    "griffin_lim": ("Griffin-Lim", "from the same features, without training"),
    "mu_law": ("µ-law, 256 classes", "the original in 8 bits"),
}


def _continued(model: WaveNet, dataset: PreparedDataset, clip: PreparedClip, options: ReportOptions, seed: int) -> Clip:
    rate, original = dataset.sample_rate, from_int16(dataset.read(clip))
    beginning = original[: max(1, min(round(_PRIME_SECONDS * rate), len(original) // 2))]
    speaker = speaker_of(model, clip)
    audio = generate(
        model,
        round(options.seconds * rate),
        speaker=speaker,
        prime=beginning.to(model.device),
        seed=seed,
        temperature=options.temperature,
    )[0]
    continued = torch.cat([beginning, audio.cpu()])
    told = f", told that {speaker} speaks" if speaker else ""
    note = f"after {len(beginning) / rate:.1f} s of the original{told}"
    sounds = [
        _sound("The original, held out", "", original, rate),
        _sound("µ-law, 256 classes", "the original in 8 bits", decode_mu_law(encode_mu_law(original)), rate),
        _sound("Continued by the model", note, continued, rate),
    ]
    return Clip(clip.name, clip.speaker, clip.text, sounds)


def _babble(model: WaveNet, options: ReportOptions) -> Clip:
    """What the model says of its own, in each of its voices."""
    rate, voices = model.config.sample_rate, model.config.speakers[:_MOST_VOICES]
    if model.config.speaker_channels and not voices:
        return Clip("Out of silence", None, "Its speakers are vectors from outside, of which none is at hand.", [])
    audio = generate(
        model,
        round(options.seconds * rate),
        batch=len(voices) or 1,
        speaker=voices or None,
        seed=options.seed,
        temperature=options.temperature,
    ).cpu()
    titles = [f"As {voice}" for voice in voices] or ["Generated"]
    sounds = [_sound(title, "from silence", row, rate) for title, row in zip(titles, audio, strict=True)]
    return Clip("Out of silence", None, "Nothing tells the model what to say.", sounds)


def _sound(title: str, note: str, waveform: Tensor, rate: int) -> Sound:
    encoded = base64.b64encode(encode_audio(waveform, rate, "WAV")).decode()
    seconds = len(waveform) / rate
    peak = float(waveform.abs().max())
    picture = to_svg(draw_sound(waveform, rate), f"Waveform and spectrogram of {seconds:.1f} s, peak {peak:.2f}")
    return Sound(title, note, f"data:audio/wav;base64,{encoded}", Markup(picture), seconds)
