"""Fast generation (Le Paine et al. 2016): a queue of past inputs per layer, O(layers) work per sample.

For a new sample every layer's past taps are known before its newest input is. So their products, with the
biases, are one batched product ahead of the layers, and a layer's own turn is short: add the newest
tap, filter, gate, add to the residual. The queues are rings in one tensor; a step moves no data but the newest
inputs. All buffers are made once.
"""

from typing import ClassVar

import torch
from torch import Tensor

from wavenet.model import ResidualBlock, State, WaveNet
from wavenet.sampling import SamplingOptions

__all__ = ["IncrementalEngine"]

_PRIMING_CHUNK = 8192


class IncrementalEngine:
    """Works on every device torch has, in the model's own precision."""

    name: ClassVar[str] = "incremental"

    def __init__(self, model: WaveNet, batch: int) -> None:
        self.model = model
        self.latest = torch.full((batch,), model.distribution.silence, device=model.device)
        self._stepper = _Stepper(model, batch)
        self._stepper.load(model.initial_state(batch))

    @torch.no_grad()
    def prime(self, symbols: Tensor) -> None:
        """One parallel pass, in chunks of bounded memory. The newest symbol waits to be the next step's input."""
        unseen = torch.cat([self.latest[:, None], symbols], dim=1)
        state = self._stepper.state()
        for chunk in torch.split(unseen[:, :-1], _PRIMING_CHUNK, dim=1):
            _, state = self.model.advance(chunk, state)
        self._stepper.load(state)
        self.latest = unseen[:, -1]

    @torch.inference_mode()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        distribution, symbols, parameters = self.model.distribution, [], []
        slots = self._stepper.slots(uniforms.shape[1])
        for uniform, slot in zip(uniforms.unbind(1), slots, strict=True):
            parameters.append(self._stepper.step(self.latest, slot))
            self.latest = distribution.sample(parameters[-1], uniform, options)
            symbols.append(self.latest)
        generated = torch.stack(symbols, dim=1)
        return generated, distribution.log_prob(torch.stack(parameters, dim=2), generated)


class _Stepper:
    """The network for one sample per stream, over rings of past inputs. Layers L, batch B, taps before the newest P."""

    @torch.no_grad()
    def __init__(self, model: WaveNet, batch: int) -> None:
        self.model = model
        blocks = [block for block in model.blocks if isinstance(block, ResidualBlock)]
        config, weight = model.config, model.output.weight
        residual, half = config.residual_channels, config.gate_channels // 2
        self.contexts = torch.tensor([block.conv.context for block in blocks])
        self.starts = self.contexts.cumsum(0) - self.contexts
        self.dilations = torch.tensor(config.dilations)
        self.past_taps = config.kernel_size - 1
        self.time = 0

        split = self.past_taps * residual
        self.past_weights = torch.stack([block.conv.weight[:, :split].T for block in blocks])  # (L, P * residual, gate)
        self.biases = torch.stack([block.conv.bias[None] for block in blocks])  # (L, 1, gate)
        self.ring = weight.new_zeros(int(self.contexts.sum()), batch, residual)
        self.inputs = weight.new_zeros(len(blocks), batch, residual)
        self.gates = weight.new_zeros(len(blocks), batch, config.gate_channels)
        self.gated = weight.new_zeros(batch, len(blocks) * half)
        self.outermost = weight.new_zeros(batch, residual)
        self.projections = [(layer.bias, layer.weight.T) for layer in (model.skip, model.head)]
        self.output_bias, self.output_weight = model.output.bias, model.output.weight.T
        following = [*self.inputs.unbind(0)[1:], self.outermost]
        self.layers = [
            (
                self.inputs[index],
                block.conv.weight[:, split:].T.contiguous(),
                self.gates[index],
                self.gates[index][:, :half],
                self.gates[index][:, half:],
                self.gated[:, index * half : (index + 1) * half],
                None if block.residual is None else block.residual.weight.T.contiguous(),
                following[index],
            )
            for index, block in enumerate(blocks)
        ]

    def load(self, state: State) -> None:
        """Take over a state, oldest input first in each ring."""
        self.time = 0
        torch.cat([history.transpose(0, 1) for history in state], out=self.ring)

    def state(self) -> State:
        """The rings as the network's own state."""
        rings = torch.split(self.ring, self.contexts.tolist())
        turned = (ring.roll(-(self.time % len(ring)), dims=0) for ring in rings)
        return [ring.transpose(0, 1).contiguous() for ring in turned]

    def slots(self, steps: int) -> list[tuple[Tensor, Tensor]]:
        """For each of the next steps, where in the ring the past taps lie `(L * P,)` and where the inputs go `(L,)`."""
        times = torch.arange(self.time, self.time + steps)[:, None, None]
        offsets = self.dilations[:, None] * torch.arange(self.past_taps)
        reads = (times + offsets) % self.contexts[:, None] + self.starts[:, None]
        reads, writes = reads.flatten(1).to(self.ring.device), reads[:, :, 0].to(self.ring.device)
        return list(zip(reads.unbind(0), writes.contiguous().unbind(0), strict=True))

    def step(self, symbols: Tensor, slot: tuple[Tensor, Tensor]) -> Tensor:
        """Symbols `(B,)` -> parameters `(B, parameters)`; the rings move on by one."""
        reads, writes = slot
        layers, batch, _ = self.inputs.shape
        past = self.ring.index_select(0, reads).view(layers, self.past_taps, batch, -1)
        past = past.transpose(1, 2).reshape(layers, batch, -1)
        torch.baddbmm(self.biases, past, self.past_weights, out=self.gates)
        torch.index_select(self.model.embedding.weight, 0, symbols, out=self.inputs[0])
        for x, newest_weight, gates, filter_, gate, gated, residual_weight, following in self.layers:
            gates.addmm_(x, newest_weight)
            torch.mul(filter_.tanh_(), gate.sigmoid_(), out=gated)
            if residual_weight is not None:
                torch.addmm(x, gated, residual_weight, out=following)
        self.ring.index_copy_(0, writes, self.inputs)
        self.time += 1
        x = self.gated
        for bias, weight in self.projections:
            x = torch.addmm(bias, x, weight)
            x.relu_()
        return torch.addmm(self.output_bias, x, self.output_weight)
