"""Put a page together: its template, styles and scripts, the engine as WebAssembly, and the models."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from torch import Tensor

from wavenet.data import encode_audio
from wavenet.network import WaveNet
from wavenet.page.packing import pack_model, packing_refusal

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class SpeakingModel:
    """A model in a page, and what the page says of it: its `name`, what it `does`, its `data` and their `licence`.

    `example` is a recording `(T,)` at the model's sample rate, called `example_name`, which a vocoder begins with.
    `temperature` and `seconds` are where the controls stand at first.
    """

    model: WaveNet = field(repr=False)
    name: str
    does: str = ""
    data: str = ""
    licence: str = ""
    example: Tensor | None = None
    example_name: str = ""
    temperature: float = 0.9
    seconds: float = 3.0


def build_page(models: Sequence[SpeakingModel], title: str) -> str:
    """The page, as HTML. Raises `ValueError` if a page cannot run one of the models."""
    if not models:
        raise ValueError("models is empty; expected at least one model to speak")
    for one in models:
        refusal = packing_refusal(one.model)
        if refusal is not None:
            raise ValueError(f"a page cannot run {one.name}: {refusal}")
    packed = [pack_model(one.model) for one in models]
    cards = [_card(one, len(weights)) for one, weights in zip(models, packed, strict=True)]
    files = {path.name: path.read_text("utf-8") for path in _FOLDER.iterdir() if path.suffix in (".js", ".css")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((_FOLDER / "page.html").read_text("utf-8")).render(
        title=title,
        models=json.dumps(cards).replace("<", "\\u003c"),
        weights=[_base64(weights) for weights in packed],
        engine=_base64((_FOLDER / "engine.wasm").read_bytes()),
        files=files,
    )


def _card(one: SpeakingModel, size: int) -> dict[str, Any]:
    """What the page's script knows of a model: see page.js."""
    config = one.model.config
    copies = config.features is not None and config.timed_labels is None
    example = None
    if copies and one.example is not None:
        example = _base64(encode_audio(one.example, config.sample_rate, "WAV"))
    return {
        "name": one.name,
        "does": one.does,
        "rate": config.sample_rate,
        "size": round(size / 1e6, 1),
        "layers": len(config.dilations),
        "licence": one.licence,
        "data": one.data,
        "labels": [[kind, list(names)] for kind, names in config.known_labels.items()],
        "names": None if config.timed_labels is None else list(config.timed_labels.names),
        "copies": copies,
        "temperature": one.temperature,
        "seconds": one.seconds,
        "example": example,
        "example_name": one.example_name,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
