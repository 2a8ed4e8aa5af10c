"""The network: a stack of gated residual blocks over dilated causal convolutions (van den Oord et al. 2016)."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchaudio
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from wavenet.network.conditioning import Conditioner, Conditioning, check_features, check_speaker
from wavenet.network.config import WaveNetConfig
from wavenet.network.conv import CausalConv1d
from wavenet.network.distributions import Prediction
from wavenet.network.embedding import AmplitudeEmbedding
from wavenet.network.features import LogMel
from wavenet.network.model_file import load_tensors, read_model_file, write_model_file
from wavenet.network.prediction import FeaturePredictor, PastPredictor, Predictor
from wavenet.network.quantize import compand

__all__ = ["ResidualBlock", "State", "WaveNet", "check_symbols"]


def check_symbols(symbols: Tensor) -> None:
    """Raise `ValueError` unless these are symbols `(B, T)`, as `WaveNet.encode` makes them of a waveform `(B, T)`."""
    if symbols.dim() != 2 or symbols.dtype != torch.int64:
        raise ValueError(
            f"symbols are {symbols.dtype} of shape {tuple(symbols.shape)}; expected int64 (B, T), "
            "as model.encode(waveform) gives for a waveform (B, T)"
        )


@dataclass(frozen=True)
class State:
    """What the network remembers between chunks.

    `time` is that of the next sample to come in; a clip begins at 0. `samples` `(B, history)` are the last ones, for
    linear prediction; `queues` the last inputs of each block, `(B, context, residual)`.
    """

    time: int
    samples: Tensor
    queues: list[Tensor]


class ResidualBlock(nn.Module):
    """Gated activation unit with a residual connection (WaveNet paper, equations 2 and 5, figure 4).

    The skip projections of all blocks add up, so they live in one matrix of the network and the block returns
    its gated activations. The last block has no residual projection: nothing would read it. The projection has
    no bias: the next convolution's takes its place.

    Shape: x `(B, context + T, residual)`, conditioning's biases `(B, T, gate)` -> x for the next block
    `(B, T, residual)`, gated `(B, T, gate / 2)`.
    """

    def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
        super().__init__()
        self.conv = CausalConv1d(config.residual_channels, config.gate_channels, config.kernel_size, dilation)
        self.residual = None if last else nn.Linear(config.gate_channels // 2, config.residual_channels, bias=False)

    def forward(self, x: Tensor, biases: Tensor | None = None) -> tuple[Tensor, Tensor]:
        gates = self.conv(x) if biases is None else self.conv(x) + biases
        filter_, gate = gates.chunk(2, dim=2)
        gated = torch.tanh(filter_) * torch.sigmoid(gate)
        x = x[:, self.conv.context :]
        return (x if self.residual is None else x + self.residual(gated)), gated


class WaveNet(nn.Module):
    """Maps past samples to the distribution of the next one: the output at time t is about the sample at t + 1.

    `model(symbols)` gives the outputs whose whole context lies in `symbols`, as training wants them.
    `model.advance(symbols, state)` goes on where `state` left off, by a chunk of any length, down to one sample.
    Both run the same layers. (`IncrementalEngine` rearranges the one-sample case for speed, and is tested
    against this.) With `recompute` training holds no block's inner activations, and computes them once more.
    Both take the conditioning that `model.condition` makes. A clip is taken to be preceded by
    endless silence, which is what `initial_state` has seen.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.distribution = config.distribution
        with torch.device("cpu"):  # they have no parameters, and buffers that a model on the meta device needs
            self.log_mel = None if config.features is None else LogMel(config.features, config.sample_rate)
            self.predictor = _predictor(config)
        signals = 1 if self.predictor is None else 4
        self.embedding = AmplitudeEmbedding(signals, self.distribution.input_rows, config.residual_channels)
        last = len(config.dilations) - 1
        self.blocks = nn.ModuleList(
            ResidualBlock(config, dilation, last=index == last) for index, dilation in enumerate(config.dilations)
        )
        self.skip = nn.Linear(len(config.dilations) * config.gate_channels // 2, config.skip_channels)
        self.head = nn.Linear(config.skip_channels, config.head_channels)
        self.output = nn.Linear(config.head_channels, self.distribution.outputs(self.predictor is not None))
        self.conditioner: Conditioner | None = None
        if config.speaker_channels or config.features:
            biases = len(config.dilations) * config.gate_channels
            self.conditioner = Conditioner(
                config.conditioning, config.features, len(config.speakers), config.speaker_channels, biases
            )
        if not self.output.weight.is_meta:
            self._initialise()

    @property
    def device(self) -> torch.device:
        return self.output.weight.device

    @property
    def history(self) -> int:
        """Samples before an input that linear prediction needs."""
        return 0 if self.predictor is None else self.predictor.context

    @property
    def context(self) -> int:
        """Samples that one output depends on: the receptive field, behind the history of its oldest input."""
        return self.config.receptive_field + self.history

    @property
    def look_ahead(self) -> int:
        """Samples beyond the one to be generated that have to be known: those its features are made of."""
        if self.conditioner is None or self.config.features is None:
            return 0
        return self.conditioner.look_ahead * self.config.features.hop + self.config.features.window // 2

    def samples_at_once(self, batch: int) -> int:
        """Samples of a chunk for which what the network holds at a time stays within bounded memory."""
        gates = len(self.blocks) * self.config.gate_channels * (1 if self.conditioner is None else 2)
        order = 0 if self.predictor is None else self.predictor.order
        return max(1, _NUMBERS_AT_ONCE // (batch * (gates + 2 * self.output.out_features + 2 * order)))

    @property
    def grid(self) -> int:
        """Training windows begin at multiples of it, so that frames and blocks of linear prediction lie alike."""
        hop = 1 if self.config.features is None else self.config.features.hop
        return math.lcm(hop, 1 if self.predictor is None else self.predictor.block)

    @property
    def margin(self) -> int:
        """Samples around a training window that its features are made of, a multiple of `grid`."""
        reach = 1 if self.config.pre_emphasis else 0
        if self.conditioner is not None and self.config.features is not None:
            reach = (self.conditioner.look_ahead + 1) * self.config.features.hop + self.config.features.fft // 2
        return -(-reach // self.grid) * self.grid

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds per generated sample: each matrix of the stack once, and the prediction.

        The embedding is a table look-up; what conditioning costs per frame is left out, its projection is not.
        """
        stack = [self.blocks, self.skip, self.head, self.output]
        if self.conditioner is not None and self.conditioner.has_features:
            stack.append(self.conditioner.local)
        matrices = sum(p.numel() for module in stack for p in module.parameters() if p.dim() == 2)
        return matrices + (0 if self.predictor is None else self.predictor.order)

    @torch.no_grad()
    def _initialise(self) -> None:
        weight, bias = self.distribution.initial_output(self.output.in_features, self.predictor is not None)
        self.output.weight.copy_(weight)
        self.output.bias.copy_(bias)
        for layer in (self.skip, self.head):
            nn.init.zeros_(layer.bias)

    def condition(
        self,
        batch: int = 1,
        *,
        speaker: str | Sequence[str] | Tensor | None = None,
        features: Tensor | Sequence[Tensor] | None = None,
    ) -> Conditioning:
        """What the model is to be told about a batch of clips.

        `speaker`: a name for all, a name for each, or, for a model without names, a vector `(speaker_channels,)` or
        `(B, speaker_channels)`. `features`: `(bins, F)` for all, `(B, bins, F)`, or a list of `(bins, F)` of different
        lengths; beyond its own frames a clip has silence. Raises `ValueError` where they do not fit the model.
        """
        config, like = self.config, self.output.weight
        vectors = check_speaker(speaker, batch, config.speakers, config.speaker_channels)
        frames = check_features(features, batch, config.features)
        return Conditioning(
            speaker=None if vectors is None else vectors.to(like if vectors.is_floating_point() else like.device),
            features=None if frames is None else frames.to(like),
            silence=0.0 if config.features is None else config.features.silence,
        )

    def forward(self, symbols: Tensor, conditioning: Conditioning | None = None, start: int = 0) -> Tensor:
        """Parameters of the next sample's distribution, where the whole context is given.

        `start` is the time of the first symbol in the conditioning's clip; linear prediction counts its blocks
        from time 0 too.

        Shape: `(B, T)` int64 -> `(B, parameters, T - context + 1)`.
        """
        check_symbols(symbols)
        if symbols.shape[1] < self.context:
            raise ValueError(
                f"{symbols.shape[1]} samples given; the context of one output is {self.context} "
                "(use advance() with initial_state() to start from silence)"
            )
        samples = self.distribution.decode(symbols).to(self.output.weight.dtype)
        conditioning, first = conditioning or self.condition(symbols.shape[0]), start + self.history
        x, prediction = self._inputs(samples, first, conditioning)
        biases = self._biases(conditioning, first + 1, first + 1 + x.shape[1])
        outputs = self.respond(x, biases)
        if prediction is not None:
            length = outputs.shape[2]
            prediction = Prediction(prediction.mean[:, -length:], prediction.scale[:, -length:])
        return self.distribution.place(outputs, prediction)

    def respond(self, x: Tensor, biases: Tensor | None = None) -> Tensor:
        """The network between embedding and distribution.

        Shape: `(B, T, residual)` -> `(B, outputs, T - receptive_field + 1)`.

        `biases` `(B, T or 1, layers * gate)` are those of the samples to be predicted.
        """
        gated = []
        for block, block_biases in zip(self.blocks, self._by_block(biases), strict=True):
            assert isinstance(block, ResidualBlock)
            length = x.shape[1] - block.conv.context
            if block_biases is not None and block_biases.shape[1] > 1:
                block_biases = block_biases[:, block_biases.shape[1] - length :]
            x, activations = self._run(block, x, block_biases)
            gated.append(activations)
        length = x.shape[1]
        return self._project([activations[:, activations.shape[1] - length :] for activations in gated])

    def advance(self, symbols: Tensor, state: State, conditioning: Conditioning | None = None) -> tuple[Tensor, State]:
        """Take in a chunk: symbols `(B, T)` -> parameters `(B, parameters, T)` and the state after it."""
        check_symbols(symbols)
        conditioning, length = conditioning or self.condition(symbols.shape[0]), symbols.shape[1]
        samples = torch.cat([state.samples, self.distribution.decode(symbols).to(state.samples)], dim=1)
        x, prediction = self._inputs(samples, state.time, conditioning)
        biases = self._biases(conditioning, state.time + 1, state.time + 1 + length)
        outputs, queues = self.respond_after(x, state.queues, biases)
        after = State(state.time + length, samples[:, length:].clone(), queues)
        return self.distribution.place(outputs, prediction), after

    def respond_after(
        self, x: Tensor, queues: Sequence[Tensor], biases: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """`respond` behind what each block has had before: `(B, T, residual)` -> `(B, outputs, T)`, queues after it."""
        gated, after = [], []
        for block, block_biases, queue in zip(self.blocks, self._by_block(biases), queues, strict=True):
            x = torch.cat([queue, x], dim=1)
            after.append(x[:, x.shape[1] - queue.shape[1] :].clone())
            x, activations = self._run(block, x, block_biases)
            gated.append(activations)
        return self._project(gated), after

    def _run(self, block: nn.Module, x: Tensor, biases: Tensor | None) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor]
        if self.recompute and torch.is_grad_enabled():
            result = checkpoint(block, x, biases, use_reentrant=False)
        else:
            result = block(x, biases)
        return result

    def _inputs(self, samples: Tensor, start: int, conditioning: Conditioning) -> tuple[Tensor, Prediction | None]:
        """What the stack is fed: samples `(B, history + T)`, of which the last T begin at time `start`.

        Gives `(B, T, residual)` and the prediction of the sample after each of the T.
        """
        rows, inputs = self.embedding.rows, samples[:, self.history :]
        if self.predictor is None:
            return self.embedding(compand(inputs, rows)[..., None]), None
        with torch.no_grad():
            known = self.predictor(samples, start, conditioning)
            error = (inputs - known.mean[:, :-1]) / known.scale[:, :-1]
            following = Prediction(known.mean[:, 1:], known.scale[:, 1:])
            signals = input_signals(inputs, error, following, rows)
        return self.embedding(signals), following

    def _biases(self, conditioning: Conditioning, start: int, stop: int) -> Tensor | None:
        return None if self.conditioner is None else self.conditioner(conditioning, start, stop)

    def _by_block(self, biases: Tensor | None) -> Sequence[Tensor | None]:
        return [None] * len(self.blocks) if biases is None else torch.split(biases, self.config.gate_channels, dim=2)

    def _project(self, gated: list[Tensor]) -> Tensor:
        """All skip connections in one product, then the head: `(B, T, gate / 2)` each -> `(B, outputs, T)`."""
        skip = self.skip(torch.cat(gated, dim=2))
        hidden = functional.relu(self.head(functional.relu(skip)))
        with torch.autocast(hidden.device.type, enabled=False):  # outputs in bfloat16 would blur a mixture's means
            outputs: Tensor = self.output(hidden.to(self.output.weight.dtype))
        return outputs.transpose(1, 2)

    @torch.no_grad()
    def silent_state(self, batch: int = 1, conditioning: Conditioning | None = None) -> State:
        """The state after endless silence, before any input that the clip's first frames reach.

        So far the conditioning is silent too: all is constant, and each queue repeats one vector.
        """
        conditioning = conditioning or self.condition(batch)
        reach = 0 if self.conditioner is None else (self.conditioner.look_ahead + 1) * self.conditioner.hop
        silence = torch.full((batch, self.history + 1), self.distribution.silence, device=self.device)
        samples = self.distribution.decode(silence).to(self.output.weight.dtype)
        time = -1 - reach
        x, _ = self._inputs(samples, time - 1, conditioning)
        queues = []
        for block, biases in zip(self.blocks, self._by_block(self._biases(conditioning, time, time + 1)), strict=True):
            assert isinstance(block, ResidualBlock)
            x = x.expand(-1, block.conv.context + 1, -1)
            queues.append(x[:, 1:].clone())
            x, _ = block(x, biases)
        return State(time, samples[:, : self.history].clone(), queues)

    @torch.no_grad()
    def initial_state(self, batch: int = 1, conditioning: Conditioning | None = None) -> State:
        """The state after endless silence, the sample before the clip's first still to come in."""
        conditioning = conditioning or self.condition(batch)
        state = self.silent_state(batch, conditioning)
        silence = torch.full((batch, -1 - state.time), self.distribution.silence, device=self.device)
        return self.advance(silence, state, conditioning)[1] if silence.shape[1] else state

    def encode(self, waveform: Tensor) -> Tensor:
        """A waveform in [-1, 1] `(B, T)`, pre-emphasised if the model says so, to symbols `(B, T)`."""
        if self.config.pre_emphasis:
            waveform = torchaudio.functional.preemphasis(waveform, self.config.pre_emphasis)
        return self.distribution.encode(waveform)

    def decode(self, symbols: Tensor, previous: Tensor | None = None) -> Tensor:
        """Symbols `(B, T)` to a float32 waveform `(B, T)`; pre-emphasis is undone, going on from `previous` `(B,)`.

        The waveform is not clipped, so that a chunk's last sample can be the next one's `previous`.
        """
        waveform = self.distribution.decode(symbols)
        if not self.config.pre_emphasis:
            return waveform
        if previous is not None:
            waveform[:, 0] += self.config.pre_emphasis * previous
        feedback = torch.tensor([1.0, -self.config.pre_emphasis], device=waveform.device)
        forward = torch.tensor([1.0, 0.0], device=waveform.device)
        restored: Tensor = torchaudio.functional.lfilter(waveform, feedback, forward, clamp=False)
        return restored

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write a model file (safetensors) that `from_pretrained` reads; an existing one is replaced."""
        write_model_file(path, self.state_dict(), {"config": self.config.to_dict()})

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> "WaveNet":
        """Read a model file, in evaluation mode on the CPU. A file that is no whole model raises `ValueError`."""
        tensors, metadata = read_model_file(path)
        try:
            config = TypeAdapter(WaveNetConfig).validate_json(json.dumps(metadata.get("config")))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{path}: its configuration is not one of this toolkit ({key}: {first['msg']})") from error
        with torch.device("meta"):
            model = cls(config)
        load_tensors(model, tensors, path)
        return model.eval()


def input_signals(inputs: Tensor, error: Tensor, following: Prediction, rows: int) -> Tensor:
    """What the embedding reads beside linear prediction, each `(...)` companded to [-1, 1]: `(..., 4)`.

    The newest sample, the prediction of the next, the newest error in units of what was expected, and what is
    expected next.
    """
    amplitudes = [compand(value, rows) for value in (inputs, following.mean, error / _LARGEST_ERROR)]
    return torch.stack([*amplitudes, compand(following.scale, 65536)], dim=-1)


_LARGEST_ERROR = 16.0

_NUMBERS_AT_ONCE = 2**25
"""Bounds the memory of a chunk, to 128 MiB in float32 and as much again of intermediates."""


def _predictor(config: WaveNetConfig) -> Predictor | None:
    prediction = config.prediction
    if prediction is None:
        return None
    if prediction.source == "past":
        return PastPredictor(prediction)
    assert config.features is not None
    return FeaturePredictor(prediction, config.features, config.sample_rate, config.pre_emphasis)
