"""The network: a stack of gated residual blocks over dilated causal convolutions (van den Oord et al. 2016)."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional

from wavenet.conv import CausalConv1d
from wavenet.distributions import Categorical
from wavenet.model_file import load_tensors, read_model_file, write_model_file
from wavenet.quantize import expand

__all__ = ["ResidualBlock", "State", "WaveNet", "WaveNetConfig"]

State = list[Tensor]
"""What the network remembers between chunks: the last inputs of each block, `(B, context, residual)`."""


_BOUNDS = {
    "sample_rate": (1000, 768000),
    "kernel_size": (2, 1024),
    "cycles": (1, 100),
    "layers_per_cycle": (1, 24),
    "residual_channels": (1, 65536),
    "gate_channels": (2, 65536),
    "skip_channels": (1, 65536),
    "head_channels": (1, 65536),
}


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """The shape of a network. Dilations come from `cycles` of `layers_per_cycle` (1, 2, 4, ...) or as a list.

    `gate_channels` counts filter and gate together. Contradictions raise `ValueError`.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True}

    sample_rate: int = 16000
    classes: int = 256
    kernel_size: int = 2
    cycles: int | None = None
    layers_per_cycle: int | None = None
    dilations: Sequence[int] = field(default=())
    residual_channels: int = 64
    gate_channels: int = 128
    skip_channels: int = 256
    head_channels: int = 256

    def __post_init__(self) -> None:
        Categorical(self.classes)
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} is {value}; expected {least} to {most}")
        if self.gate_channels % 2:
            raise ValueError(f"gate_channels is {self.gate_channels}; expected an even number (filter and gate)")
        if len(self.dilations) > 1000:
            raise ValueError(f"dilations lists {len(self.dilations)} layers; expected at most 1000")
        for dilation in self.dilations:
            if not 1 <= dilation <= 2**23:
                raise ValueError(f"dilations has {dilation}; expected whole numbers from 1 to {2**23}")
        object.__setattr__(self, "dilations", self._resolved_dilations())

    def _resolved_dilations(self) -> tuple[int, ...]:
        listed = tuple(self.dilations)
        if listed and self.cycles is None and self.layers_per_cycle is None:
            return listed
        cycles, layers = self.cycles or 3, self.layers_per_cycle or 10
        cycled = tuple(2**layer for _ in range(cycles) for layer in range(layers))
        if listed and listed != cycled:
            raise ValueError(
                f"dilations is a list of {len(listed)} that contradicts cycles = {cycles} with layers_per_cycle = "
                f"{layers} (1 to {2 ** (layers - 1)}); give either the list or the cycles"
            )
        return cycled

    @property
    def receptive_field(self) -> int:
        """How many input samples one output sees: 1 + (kernel_size - 1) * sum of the dilations."""
        return 1 + (self.kernel_size - 1) * sum(self.dilations)

    @property
    def distribution(self) -> Categorical:
        return Categorical(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `WaveNetConfig(**values)` takes back; the schedule is spelled out in `dilations`."""
        return {**asdict(self), "cycles": None, "layers_per_cycle": None, "dilations": list(self.dilations)}


class ResidualBlock(nn.Module):
    """Gated activation unit with a residual connection (WaveNet paper, equation 2 and figure 4).

    The skip projections of all blocks add up, so they live in one matrix of the network and the block returns
    its gated activations. The last block has no residual projection: nothing would read it. The projection has
    no bias: the next convolution's takes its place.

    Shape: x `(B, context + T, residual)` -> x for the next block `(B, T, residual)`, gated `(B, T, gate / 2)`.
    """

    def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
        super().__init__()
        self.conv = CausalConv1d(config.residual_channels, config.gate_channels, config.kernel_size, dilation)
        self.residual = None if last else nn.Linear(config.gate_channels // 2, config.residual_channels, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        filter_, gate = self.conv(x).chunk(2, dim=2)
        gated = torch.tanh(filter_) * torch.sigmoid(gate)
        x = x[:, self.conv.context :]
        return (x if self.residual is None else x + self.residual(gated)), gated


class WaveNet(nn.Module):
    """Maps past samples to the distribution of the next one: the output at time t is about the sample at t + 1.

    `model(symbols)` gives the outputs whose whole receptive field lies in `symbols`, as training wants them.
    `model.advance(symbols, state)` goes on where `state` left off, by a chunk of any length, down to one sample.
    Both run the same layers. (`IncrementalEngine` rearranges the one-sample case for speed, and is tested
    against this.) A clip is taken to be preceded by endless silence, which is what `initial_state` has seen.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.distribution = config.distribution
        self.embedding = nn.Embedding(config.classes, config.residual_channels)
        last = len(config.dilations) - 1
        self.blocks = nn.ModuleList(
            ResidualBlock(config, dilation, last=index == last) for index, dilation in enumerate(config.dilations)
        )
        self.skip = nn.Linear(len(config.dilations) * config.gate_channels // 2, config.skip_channels)
        self.head = nn.Linear(config.skip_channels, config.head_channels)
        self.output = nn.Linear(config.head_channels, self.distribution.parameters)
        if not self.output.weight.is_meta:
            self._initialise()

    @property
    def device(self) -> torch.device:
        return self.output.weight.device

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds per generated sample: each matrix once. The embedding is a table look-up."""
        matrices = sum(parameter.numel() for parameter in self.parameters() if parameter.dim() == 2)
        return matrices - self.embedding.weight.numel()

    @torch.no_grad()
    def _initialise(self) -> None:
        self.embedding.weight.copy_(smooth_rows(*self.embedding.weight.shape))
        self.output.weight.copy_(smooth_rows(*self.output.weight.shape) / 10)
        for layer in (self.skip, self.head, self.output):
            nn.init.zeros_(layer.bias)

    def forward(self, symbols: Tensor) -> Tensor:
        """Parameters of the next sample's distribution, where the whole receptive field is given.

        Shape: `(B, T)` int64 -> `(B, parameters, T - receptive_field + 1)`.
        """
        if symbols.shape[1] < self.config.receptive_field:
            raise ValueError(
                f"{symbols.shape[1]} samples given; the receptive field needs {self.config.receptive_field} "
                "(use advance() with initial_state() to start from silence)"
            )
        return self.respond(self.embedding(symbols))

    def respond(self, x: Tensor) -> Tensor:
        """The network after its embedding: `(B, T, residual)` -> `(B, parameters, T - receptive_field + 1)`."""
        gated = []
        for block in self.blocks:
            x, activations = block(x)
            gated.append(activations)
        length = x.shape[1]
        return self._project([activations[:, activations.shape[1] - length :] for activations in gated])

    def advance(self, symbols: Tensor, state: State) -> tuple[Tensor, State]:
        """Take in a chunk: symbols `(B, T)` -> parameters `(B, parameters, T)` and the state after it."""
        x, gated, histories = self.embedding(symbols), [], []
        for block, history in zip(self.blocks, state, strict=True):
            x = torch.cat([history, x], dim=1)
            histories.append(x[:, x.shape[1] - history.shape[1] :].clone())
            x, activations = block(x)
            gated.append(activations)
        return self._project(gated), histories

    def _project(self, gated: list[Tensor]) -> Tensor:
        """All skip connections in one product, then the head: `(B, T, gate / 2)` each -> `(B, parameters, T)`."""
        skip = self.skip(torch.cat(gated, dim=2))
        parameters: Tensor = self.output(functional.relu(self.head(functional.relu(skip))))
        return parameters.transpose(1, 2)

    @torch.no_grad()
    def initial_state(self, batch: int = 1) -> State:
        """The state after endless silence. Silence is constant, so each history repeats one vector."""
        silence = torch.full((batch, 1), self.distribution.silence, device=self.device)
        x, state = self.embedding(silence), []
        for block in self.blocks:
            assert isinstance(block, ResidualBlock)
            x = x.expand(-1, block.conv.context + 1, -1)
            state.append(x[:, 1:].clone())
            x, _ = block(x)
        return state

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


def smooth_rows(classes: int, channels: int) -> Tensor:
    """A table `(classes, channels)` whose columns are smooth functions of the amplitude, mixed at random.

    The functions are the companded and the linear amplitude and sines and cosines of the companded one. From
    independent rows the network would have to learn first which classes are neighbours.
    """
    companded = torch.linspace(-1, 1, classes)
    waves = [f(torch.pi * k * companded) / k**0.5 for k in range(1, 17) for f in (torch.sin, torch.cos)]
    features = torch.stack([companded, expand(companded, classes), *waves], dim=1)
    features = features - features.mean(dim=0)
    mixing = torch.randn(features.shape[1], channels) / features.shape[1] ** 0.5
    rows: Tensor = features @ mixing
    return rows / rows.std()
