"""The networks of an export: torch modules over the model's own parts, with named tensors as inputs and outputs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from wavenet.export.operations import AnyFrames
from wavenet.network import Conditioning, Prediction, WaveNet, compand, input_signals


class ExportNetwork(nn.Module):
    """A function from named tensors to named tensors, each with the batch first.

    `shapes` are those of the inputs, without the batch. `free` names the axes of an input that have any length.
    """

    def __init__(self, model: WaveNet, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.model, self.shapes = model, shapes
        self.free: dict[str, dict[int, Any]] = {}
        self.silence = 0.0 if model.config.features is None else model.config.features.silence

    def example(self, batch: int) -> dict[str, Tensor]:
        """Noise as inputs, the same each time."""
        generator = torch.Generator().manual_seed(0)
        return {name: self._noise(name, (batch, *shape), generator) for name, shape in self.shapes.items()}

    def _noise(self, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        like = self.model.output.weight
        noise = torch.randn(shape, generator=generator).to(like) / 10
        if name == "symbols":
            return self.model.distribution.encode(noise)
        if name == "speaker" and self.model.config.speakers:
            return torch.arange(shape[0]) % len(self.model.config.speakers)
        if name == "frames":
            return self.silence + 40 * noise.abs()
        return noise.abs() + 0.01 if name in ("scale", "expected") else noise


class _Sequence(ExportNetwork):
    """`model(symbols, conditioning)`: outputs whose whole context is given; the first symbol is at time 0."""

    def __init__(self, model: WaveNet) -> None:
        frames = {} if model.config.features is None else {"frames": (model.config.features.bins, 6)}
        super().__init__(model, {"symbols": (model.context + 5,), **_speaker(model), **frames})
        # the trace of a fit to the past holds from one sample more on; told less, torch would trace it twice
        shortest = model.context + (model.predictor is not None and model.predictor.fits_past)
        self.free = {"symbols": {1: Dim("time", min=shortest)}, "frames": {2: Dim("frames")}}

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        conditioning = AnyFrames(given.get("speaker"), given.get("frames"), self.silence)
        return {"parameters": self.model(given["symbols"], conditioning)}


class _Step(ExportNetwork):
    """One sample. The state comes in by its names and goes out under the same names with `new_` before them."""

    def __init__(self, model: WaveNet) -> None:
        config, ahead = model.config, _speaker(model)
        if config.features is not None:
            ahead = {"biases": (len(config.dilations) * config.gate_channels,)}
        if model.predictor is not None:
            ahead |= {"coefficients": (model.predictor.order,), "scale": ()}
        shapes = [(context, config.residual_channels) for context in model.contexts]
        queues = {f"queue_{layer:02}": shape for layer, shape in enumerate(shapes)}
        state = {} if model.predictor is None else {"samples": (model.history,), "predicted": (), "expected": ()}
        super().__init__(model, {"symbols": (), **ahead, **state, **queues})
        self.queues = list(queues)

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        model, state, following = self.model, {}, None
        newest = model.distribution.decode(given["symbols"]).to(model.output.weight.dtype)
        if model.predictor is None:
            signals = compand(newest, model.embedding.rows)[:, None]
        else:
            error = (newest - given["predicted"]) / given["expected"]
            samples = torch.cat([given["samples"], newest[:, None]], dim=1)
            mean = (samples[:, -model.predictor.order :] * given["coefficients"]).sum(dim=1).clamp(-1, 1)
            signals = input_signals(newest, error, Prediction(mean, given["scale"]), model.embedding.rows)
            state = {"samples": samples[:, 1:], "predicted": mean, "expected": given["scale"].clone()}
            following = Prediction(mean[:, None], given["scale"][:, None])
        x = model.embedding(signals)[:, None]
        outputs, queues = model.respond_after(x, [given[name] for name in self.queues], self._biases(given))
        state |= dict(zip(self.queues, queues, strict=True))
        parameters = model.distribution.place(outputs, following)[:, :, 0]
        return {"parameters": parameters, **{f"new_{name}": tensor for name, tensor in state.items()}}

    def _biases(self, given: dict[str, Tensor]) -> Tensor | None:
        if self.model.conditioner is None:
            return None
        if "biases" in given:
            return given["biases"][:, None]
        biases: Tensor = self.model.conditioner(Conditioning(given["speaker"]), 0, 1)
        return biases


class _Condition(ExportNetwork):
    """Computes what `step` needs of the features for the `hop` samples that begin at a frame: `(B, hop, ...)`.

    `frames` are those around it, from `frames_before` frames before it to `frames_after` after it.
    """

    def __init__(self, model: WaveNet) -> None:
        assert model.conditioner is not None
        assert model.config.features is not None
        self.reach, self.hop = model.alignment.reach or 0, model.alignment.hop
        frames = (model.config.features.bins, 2 * self.reach + 2)
        super().__init__(model, {**_speaker(model), "frames": frames})

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        model, predictor = self.model, self.model.predictor
        assert model.conditioner is not None
        conditioning = Conditioning(given.get("speaker"), given["frames"], self.silence, -self.reach)
        ahead = {"biases": model.conditioner(conditioning, 0, self.hop)}
        if predictor is None or predictor.fits_past:
            return ahead
        fit = predictor.fit(ahead["biases"], 0, 0, self.hop // predictor.block, conditioning)
        return ahead | _by_sample(*fit, predictor.block)


class _Predict(ExportNetwork):
    """Linear prediction for a block from the samples before it: the state's `samples` and the newest symbol."""

    def __init__(self, model: WaveNet) -> None:
        super().__init__(model, {"symbols": (), "samples": (model.history,)})

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        predictor, past = self.model.predictor, given["samples"]
        assert predictor is not None
        newest = self.model.distribution.decode(given["symbols"]).to(past.dtype)
        samples = torch.cat([past, newest[:, None]], dim=1)
        fit = predictor.fit(samples, -samples.shape[1], 0, 1, Conditioning())
        return _by_sample(*fit, predictor.block)


def networks(model: WaveNet) -> dict[str, ExportNetwork]:
    """The networks that together are the model, by name."""
    parts: dict[str, ExportNetwork] = {"sequence": _Sequence(model), "step": _Step(model)}
    if model.config.features is not None:
        parts["condition"] = _Condition(model)
    if model.predictor is not None and model.predictor.fits_past:
        parts["predict"] = _Predict(model)
    return {name: part.eval() for name, part in parts.items()}


def start(model: WaveNet) -> int:
    """The time, at most 0, at which `step` begins. The samples before 0 are silence.

    They bring the clip's first frames into the queues, and the speaker's vector, which `initial_state` cannot know.
    """
    reach = 0 if model.config.features is None else model.alignment.run_up
    if model.config.speaker_channels and not model.config.speakers:
        reach += model.context
    return -model.alignment.round_up(reach)


def initial_state(model: WaveNet) -> dict[str, Tensor]:
    """The state after endless silence, by the names of `step`: `(speakers or 1, ...)`, a row for each speaker."""
    config, speaker, frames = model.config, None, None
    if config.speaker_channels:
        speaker = list(config.speakers) or torch.zeros(config.speaker_channels)
    if config.features is not None:
        frames = torch.full((config.features.bins, 1), config.features.silence)
    rows = max(1, len(config.speakers))
    conditioning = model.condition(rows, speaker=speaker, features=frames)
    state, named = model.silent_state(rows, conditioning), {}
    if model.predictor is not None:
        known = model.predictor(state.samples, state.time, conditioning)
        named = {"samples": state.samples, "predicted": known.mean[:, 0], "expected": known.scale[:, 0]}
    return named | {f"queue_{layer:02}": queue for layer, queue in enumerate(state.queues)}


def _by_sample(coefficients: Tensor, scale: Tensor, block: int) -> dict[str, Tensor]:
    """Repeat the fit of blocks, `(B, blocks, order)` and `(B, blocks)`, for each of their samples."""
    return {
        "coefficients": coefficients.repeat_interleave(block, dim=1),
        "scale": scale.repeat_interleave(block, dim=1),
    }


def _speaker(model: WaveNet) -> dict[str, tuple[int, ...]]:
    """The shape of the speaker's input, if there is one: an index, or a vector if the speakers have no names."""
    channels = model.config.speaker_channels
    return {} if channels is None else {"speaker": () if model.config.speakers else (channels,)}
