"""A page about a run or a model: its training, its held-out bits, its sound, its receptive field.

The page stands alone: it contains its pictures and sounds, and needs no network connection.
"""

import base64
import itertools
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from wavenet.data import check_clips, encode_audio, pick_clips_lasting
from wavenet.evaluation import CLASSES, evaluate, pooled_row, score_baselines, score_rows
from wavenet.network import SamplingOptions, WaveNet, WaveNetConfig, describe_sight, layer_table, seen_lags
from wavenet.page import SpeakingModel, build_page, packing_refusal
from wavenet.reporting.examples import Example, Sound, examples
from wavenet.reporting.plots import draw_cone, draw_curves, draw_sound, to_svg
from wavenet.reporting.subject import Subject
from wavenet.training import Selection

_TEMPLATE = Path(__file__).with_name("report.html")
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, marks of direction that reach beyond their text, and bytes that were not UTF-8."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Sets what the page shows: it plays `clips` held-out clips of each dataset.

    Generated audio lasts `seconds`, unless it copies a clip. `scored_seconds` bounds the held-out audio that is scored;
    0 scores none. Clip i draws from `seed` + i.
    """

    clips: int = 2
    seconds: float = 3.0
    scored_seconds: float = 40.0
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.clips <= 100:
            raise ValueError(f"clips is {self.clips}; expected 0 to 100")
        if not 0.001 <= self.seconds <= 60:
            raise ValueError(f"seconds is {self.seconds:g}; expected 0.001 to 60")
        if not 0 <= self.scored_seconds <= 86400:
            raise ValueError(f"scored_seconds is {self.scored_seconds:g}; expected 0 (for none) to 86400")
        if not 0 <= self.seed < 2**62:
            raise ValueError(f"seed is {self.seed}; expected 0 or more, below 2^62")
        SamplingOptions(temperature=self.temperature)


def build_report(subject: Subject, options: ReportOptions, command: str) -> str:
    """The page, as HTML. Without held-out clips in the subject its only sound is generated from silence.

    `command` is the command line that makes the page, for the reader. Raises `ValueError` if the clips do not suit the
    model.
    """
    model, config = subject.model, subject.model.config
    held_out = _known(model, subject.held_out)
    scored = _scored(held_out, options.scored_seconds)
    trained_on = [clip for source in subject.trained_on for clip in source.clips]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_visible
    )
    sampling = SamplingOptions(temperature=options.temperature)
    made = list(examples(model, held_out, options.clips, options.seconds, sampling, options.seed))
    refusal = packing_refusal(model)
    pictures = (f"sound-{number}" for number in itertools.count(1))
    sight = describe_sight(model)
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        subject=subject,
        config=config,
        options=options,
        commands=_commands(subject, held_out, scored, options, command),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sight=sight,
        cone=None if seen_lags(config) is None else _cone(config, sight),
        layers=layer_table(config),
        curves=_curves(subject),
        evaluations=[one for one in subject.metrics if "held_out_bits" in one],
        trained_clips=len(trained_on),
        trained_minutes=sum(clip.samples for clip in trained_on) / config.sample_rate / 60,
        speakers=sorted({clip.speaker for clip in trained_on if clip.speaker}),
        held_out=held_out,
        scored=scored,
        scores=_scores(model, scored),
        examples=[(one, [_shown(sound, config.sample_rate, next(pictures)) for sound in one.sounds]) for one in made],
        no_speech=refusal,
        speech="" if refusal else _speaking_page(subject, made, options),
        settings=subject.recipe.to_toml() if subject.recipe else json.dumps(config.to_dict(), indent=2),
        versions=f"wavenet-toolkit {version('wavenet-toolkit')}, torch {torch.__version__}, Python {python_version()}",
    )


def _speaking_page(subject: Subject, made: Sequence[Example], options: ReportOptions) -> Markup:
    """The page in which the model speaks, as a JSON string; a vocoder begins with the first clip that is shown."""
    first = next((one for one in made if one.sounds), None)
    name = "the model" if not subject.name.isprintable() else subject.name
    speaking = SpeakingModel(
        model=subject.model,
        name=name,
        example=first.sounds[0].waveform if first else None,
        example_name=first.heading if first else "",
        temperature=min(max(options.temperature, 0.1), 1.2),  # within the page's controls
        seconds=max(options.seconds, 0.1),
    )
    return Markup(json.dumps(build_page([speaking], f"{name} speaks")).replace("<", "\\u003c"))


def _visible(value: Any) -> Any:
    """Spell out the characters of names and texts that a page cannot hold, or that reorder its words."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode(), value)


def _commands(
    subject: Subject, held_out: Sequence[Selection], scored: Sequence[Selection], options: ReportOptions, command: str
) -> list[str]:
    """The commands that make the model, the page's figures, similar audio, the picture, and the page."""
    config, model = subject.model.config, str(subject.path)
    lines: list[list[str]] = []
    if subject.recipe:
        run = subject.path.parent
        lines.append(["wavenet", "train", str(run / "recipe.toml"), "--set", f"run={run}-again"])
    for source, part in zip(held_out, scored, strict=False):
        dataset, speakers = source.dataset, sorted({clip.speaker or "" for clip in source.clips})
        line = ["wavenet", "evaluate", model, str(dataset.path), "--split", dataset.held_out_split]
        if len(source.clips) < len(dataset.split(dataset.held_out_split)):
            line += [word for speaker in speakers for word in ("--speaker", speaker)]
        lines.append([*line, "--limit", str(len(part.clips)), "--baselines"])
    told = [word for kind, names in config.known_labels.items() for word in ("--label", f"{kind}={names[0]}")]
    chosen = ["--temperature", f"{options.temperature:g}", "--seed", str(options.seed)]
    length = ["--features-from", "YOURS.wav"] if config.features else ["--seconds", f"{options.seconds:g}"]
    length += ["--tracks", "YOURS.csv"] if config.tracks else []
    if config.speaker_channels is None or config.known_labels:
        lines.append(["wavenet", "generate", model, "-o", "out.wav", *told, *length, *chosen])
    lines.append(["wavenet", "inspect", model])
    return [*(shlex.join(line) for line in lines), command]


def _known(model: WaveNet, held_out: Sequence[Selection]) -> Sequence[Selection]:
    """The clips whose labels the model knows, if it knows any by name."""
    names, known = model.config.known_labels, []
    if held_out and model.config.speaker_channels is not None and not names:
        raise ValueError("the model takes speakers as vectors, which no dataset has; report on it without a dataset")
    for source in held_out:
        check_clips(source.clips, model.config.sample_rate, str(source.dataset.path))
        clips = tuple(
            clip for clip in source.clips if all(clip.labels.get(kind) in known for kind, known in names.items())
        )
        known += [replace(source, clips=clips)] if clips else []
    if held_out and not known:
        raise ValueError(
            "no held-out clip has labels that the model knows "
            f"({', '.join(name for known in names.values() for name in known)}); choose another dataset"
        )
    return known


def _cone(config: WaveNetConfig, sight: str) -> Markup:
    figure = draw_cone(config.dilations, config.kernel_size, config.sample_rate)
    return Markup(to_svg(figure, f"The receptive field, layer by layer. {sight}.", "cone"))


def _curves(subject: Subject) -> Markup | None:
    bits = [one["held_out_bits"] for one in subject.metrics if "held_out_bits" in one]
    if not bits:
        return None
    label = f"Bits per sample against training: held out from {bits[0]:.2f} to {bits[-1]:.2f}"
    return Markup(to_svg(draw_curves(subject.metrics, subject.samples_per_step), label, "curves"))


def _scored(held_out: Sequence[Selection], seconds: float) -> list[Selection]:
    """About `seconds` of the held-out clips, the datasets giving equal parts; none for 0."""
    if not seconds:
        return []
    parts = [round(seconds / len(held_out) * source.dataset.sample_rate) for source in held_out]
    return [replace(s, clips=pick_clips_lasting(s.clips, samples)) for s, samples in zip(held_out, parts, strict=True)]


def _scores(model: WaveNet, scored: Sequence[Selection]) -> list[dict[str, Any]]:
    """Bits per sample and baselines for each speaker of each dataset; the last row is for all together."""
    rows: list[dict[str, Any]] = []
    for source in scored:
        dataset = source.dataset
        train = [clip for clip in dataset.clips if clip.split == "train"]
        for row in score_rows(evaluate(model, source.clips), score_baselines(source.clips, CLASSES, train=train)):
            told = [dataset.path.name] * (len(scored) > 1) + ([row["speaker"]] if row["speaker"] else [])
            rows.append({**row, "speaker": ", ".join(told) or "all"})
    if len(rows) > 1:
        rows.append({"speaker": "all", **pooled_row(rows)})
    return [{**row, "seconds": row["samples"] / model.config.sample_rate} for row in rows]


def _shown(sound: Sound, rate: int, name: str) -> dict[str, Any]:
    """A sound for the page: its audio, and its picture under this name."""
    encoded = base64.b64encode(encode_audio(sound.waveform, rate, "WAV")).decode()
    seconds = len(sound.waveform) / rate
    label = f"Waveform and spectrogram of {seconds:.1f} s, peak {float(sound.waveform.abs().max()):.2f}"
    picture = Markup(to_svg(draw_sound(sound.waveform, rate), label, name))
    audio = f"data:audio/wav;base64,{encoded}"
    return {"title": sound.title, "note": sound.note, "seconds": seconds, "audio": audio, "picture": picture}
