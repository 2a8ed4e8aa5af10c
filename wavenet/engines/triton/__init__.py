"""The triton engine: many streams on a CUDA device, in one kernel that runs thousands of steps per launch.

A program of the kernel takes a group of streams through all layers, step after step. Nothing is launched for a step,
and no program waits for another. Each program reads all weights once per step, from the second-level cache.
"""

import importlib
import importlib.util
import os
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from wavenet.engines.native import WeightType
from wavenet.engines.resumable import EngineState, ResumableEngine, foreign_part
from wavenet.network import Categorical, Conditioning, ResidualBlock, SamplingOptions, State, WaveNet, compand

__all__ = ["TritonEngine"]

_STEPS = 4096
"""Steps per launch. The launch cannot be interrupted."""

_BIASES = 2**28
"""Bounds the conditioning's biases of a launch to 1 GiB of float32 numbers."""

_SMALLEST, _BLOCK = 16, 64
"""The smallest side of a matrix, and the channels of the head that are computed at once."""

_LARGEST = {"residual_channels": 128, "gate_channels": 256, "skip_channels": 256}
"""Wider layers would not fit the memory of a multiprocessor."""

_AHEAD = 64
"""The widest layers, in residual channels and in half the gate channels, that are loaded ahead."""


class TritonEngine(ResumableEngine):
    """Runs categorical float32 models made of this package's parts on a CUDA device.

    `weights` is the type of the weights and of the operands of products: `"float32"`, which is exact and slow, or
    `"bfloat16"`, on tensor cores. All sums are in float32. A program runs a `group` of streams, a power of two from 16
    on, in `warps` warps; `stages` is how far it loads weights ahead.

    With `TRITON_INTERPRET=1` in the environment the kernel runs on the CPU, under Triton's interpreter, in float32: the
    interpreter (as of Triton 3.8) multiplies the bits of bfloat16 numbers as if they were integers.
    """

    name: ClassVar[str] = "triton"

    def __init__(
        self,
        model: WaveNet,
        batch: int,
        conditioning: Conditioning | None = None,
        *,
        weights: WeightType = "float32",
        group: int = 16,
        warps: int = 8,
        stages: int = 2,
    ) -> None:
        super().__init__(model, batch, conditioning)
        refusal = self.refusal(model)
        if refusal is not None:
            raise ValueError(f"the triton engine cannot run this model: {refusal}")
        if weights not in ("float32", "bfloat16"):
            raise ValueError(f"weights is {weights!r}; the triton engine stores them in float32 or bfloat16")
        if weights == "bfloat16" and model.device.type == "cpu":
            raise ValueError("weights is 'bfloat16'; expected 'float32' under Triton's interpreter")
        self._kernel = importlib.import_module("wavenet.engines.triton.kernel").generate
        self._packed, self._sizes = _pack(model, getattr(torch, weights))
        if weights == "float32" or max(self._sizes["R"], self._sizes["H"]) > _AHEAD:
            stages = 1
        self._launch = {"ROWS": group, "num_warps": warps, "num_stages": stages}
        self._lengths = [context + 1 for context in model.contexts]
        groups, residual = -(-batch // group), self._sizes["R"]
        self._ring = self._packed["conv"].new_zeros(groups, sum(self._lengths), group, residual)
        self._latest = torch.zeros(batch, dtype=torch.long, device=model.device)
        self.start()

    @staticmethod
    def refusal(model: WaveNet) -> str | None:
        """Why the engine cannot run a model; `None` if it can."""
        foreign = foreign_part(model)
        if foreign is not None:
            return foreign
        if model.predictor is not None:
            return "it has no linear prediction; use engine='incremental'"
        if type(model.distribution) is not Categorical or model.distribution.classes > 256:
            return f"it samples up to 256 classes, not {model.distribution}; use engine='incremental'"
        for name, largest in _LARGEST.items():
            if getattr(model.config, name) > largest:
                return f"{name} is {getattr(model.config, name)}, and it has room for {largest}"
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed; install it with `pip install triton`"
        weight = model.output.weight
        if weight.dtype != torch.float32:
            return f"it runs float32 models, and the model is in {weight.dtype}; use model.float()"
        if weight.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            return f"it runs on a CUDA device, and the model is on {weight.device}; use model.to('cuda')"
        return None

    @property
    def time(self) -> int:
        return self._time

    def state(self) -> EngineState:
        config, queues = self.model.config, []
        for ring, length in zip(torch.split(self._ring, self._lengths, dim=1), self._lengths, strict=True):
            turned = ring.roll(-((self._taken + 1) % length), dims=1)[:, : length - 1]
            queue = turned.transpose(1, 2).flatten(0, 1)[: self.batch, :, : config.residual_channels]
            queues.append(queue.to(self._samples.dtype, copy=True, memory_format=torch.contiguous_format))
        return EngineState(self._latest.clone(), State(self._time, self._samples.clone(), queues))

    def load(self, state: EngineState) -> None:
        network = state.network
        self._latest.copy_(state.latest)
        self._time, self._taken, self._samples = network.time, 0, network.samples.clone()
        groups, _, group, residual = self._ring.shape
        rings = torch.split(self._ring, self._lengths, dim=1)
        for ring, queue in zip(rings, network.queues, strict=True):
            spare = (0, residual - queue.shape[2], 0, 0, 0, groups * group - self.batch)
            padded = functional.pad(queue.to(ring.dtype), spare)
            ring[:, 1:] = padded.view(groups, group, *padded.shape[1:]).transpose(1, 2)

    @torch.inference_mode()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        for name in ("top_k", "top_p"):
            if getattr(options, name) is not None:
                value = getattr(options, name)
                raise ValueError(f"{name} is {value}; the triton engine has no filters; use engine='incremental'")
        steps = _STEPS
        if self.model.alignment.reach is not None:
            biases = self.batch * len(self._lengths) * self.model.config.gate_channels
            steps = max(1, min(_STEPS, _BIASES // biases))
        pieces = [self._run(piece.contiguous(), options) for piece in torch.split(uniforms.float(), steps, dim=1)]
        symbols, log_probs = zip(*pieces, strict=True)
        return torch.cat(symbols, dim=1), torch.cat(log_probs, dim=1)

    def _run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        steps, symbols, log_probs = uniforms.shape[1], torch.empty_like(uniforms, dtype=torch.long), uniforms.clone()
        biases = self.model.biases(self.conditioning, self._time + 1, self._time + 1 + steps)
        given = uniforms[:, :, None] if biases is None else biases.contiguous().expand(self.batch, -1, -1)
        varying = biases is not None and biases.shape[1] > 1
        with torch.cuda.device(self._ring.device if self._ring.is_cuda else -1):
            self._kernel[(len(self._ring),)](
                uniforms=uniforms,
                symbols=symbols,
                log_probs=log_probs,
                latest=self._latest,
                ring=self._ring,
                biases=given,
                bias_batch=0 if biases is None else given.stride(0),
                bias_step=given.stride(1) if varying else 0,
                ring_length=sum(self._lengths),
                steps=steps,
                taken=self._taken,
                batch=self.batch,
                temperature=float(options.temperature),
                greedy=options.temperature == 0,
                conditioned=biases is not None,
                **self._packed,
                **self._sizes,
                **self._launch,
            )
        self._time += steps
        self._taken += steps
        return symbols, log_probs


def _pack(model: WaveNet, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Copy the weights to the kernel's layout; also give its sizes."""
    config, distribution, device = model.config, model.distribution, model.device
    blocks = [block for block in model.blocks if isinstance(block, ResidualBlock)]
    layers, taps, half = len(blocks), config.kernel_size, config.gate_channels // 2
    classes = distribution.symbols
    widths = config.residual_channels, half, config.skip_channels, config.head_channels, classes
    residual, gated, skip, head, outputs = (max(_SMALLEST, 1 << (width - 1).bit_length()) for width in widths)
    block_channels = min(_BLOCK, head)

    def padded(weight: Tensor, *shape: int, value: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
        spare = [n for old, new in zip(weight.shape[::-1], shape[::-1], strict=True) for n in (0, new - old)]
        return functional.pad(weight.detach().to(dtype), spare, value=value).contiguous()

    conv = torch.stack([b.conv.weight.view(2, half, taps, -1).permute(2, 0, 3, 1) for b in blocks])
    residuals = [
        torch.zeros(config.residual_channels, half, device=device) if b.residual is None else b.residual.weight
        for b in blocks
    ]
    projected = padded(model.head.weight.T, skip, head, dtype=dtype).view(skip, -1, block_channels)
    every = distribution.decode(torch.arange(classes, device=device))
    table = model.embedding(compand(every, model.embedding.rows)[:, None])
    lengths = torch.tensor([context + 1 for context in model.contexts], device=device)
    packed = {
        "starts": lengths.cumsum(0) - lengths,
        "lengths": lengths.int(),
        "dilations": torch.tensor(config.dilations, dtype=torch.int32, device=device),
        "table": padded(table, outputs, residual),
        "conv": padded(conv, layers, taps, 2, residual, gated, dtype=dtype),
        "conv_bias": padded(torch.stack([b.conv.bias.view(2, half) for b in blocks]), layers, 2, gated),
        "residual": padded(torch.stack([weight.T for weight in residuals]), layers, gated, residual, dtype=dtype),
        "skip": padded(model.skip.weight.T.reshape(layers, half, -1), layers, gated, skip, dtype=dtype),
        "skip_bias": padded(model.skip.bias, skip),
        "head": projected.transpose(0, 1).contiguous(),
        "head_bias": padded(model.head.bias, head),
        "output": padded(model.output.weight.T, head, outputs, dtype=dtype),
        "output_bias": padded(model.output.bias, outputs, value=-torch.inf),
    }
    sizes = {
        "half": half,
        "classes": classes,
        "LAYERS": layers,
        "TAPS": taps,
        "R": residual,
        "H": gated,
        "S": skip,
        "D": head,
        "C": outputs,
        "BLOCK": block_channels,
    }
    return packed, sizes
