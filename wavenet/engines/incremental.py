"""Fast generation (Le Paine et al. 2016): a queue of past inputs per layer, O(layers) work per sample.

The past taps of every layer are known before its newest input is. So one batched product gives their sums, with the
biases, before the layers run, and each layer has little left to do: add the newest tap, filter, gate, add to the
residual. The queues are rings in one tensor; a step moves no data but the newest inputs. Conditioning, and linear
prediction from features, are prepared for many samples at once.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from wavenet.engines.resumable import EngineState, ResumableEngine, chunk_samples, foreign_part
from wavenet.network import (
    Conditioning,
    Prediction,
    Predictor,
    ResidualBlock,
    SamplingOptions,
    State,
    WaveNet,
    compand,
    input_signals,
)


class IncrementalEngine(ResumableEngine):
    """Works on every device torch has, in the model's own precision."""

    name: ClassVar[str] = "incremental"

    def __init__(self, model: WaveNet, batch: int, conditioning: Conditioning | None = None) -> None:
        super().__init__(model, batch, conditioning)
        refusal = self.refusal(model)
        if refusal is not None:
            raise ValueError(f"the incremental engine cannot run this model: {refusal}; use engine='auto'")
        self._stepper = _Stepper(self, batch)
        self.start()

    @staticmethod
    def refusal(model: WaveNet) -> str | None:
        """Why the engine cannot run a model; `None` if it can."""
        return foreign_part(model)

    @property
    def time(self) -> int:
        time: int = self._stepper.time
        return time

    def state(self) -> EngineState:
        return EngineState(self.latest.clone(), self._stepper.state())

    def load(self, state: EngineState) -> None:
        self.latest = state.latest.clone()
        self._stepper.load(state.network)

    @torch.inference_mode()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        pieces = torch.split(uniforms, chunk_samples(self.model, len(uniforms)), dim=1)
        symbols, log_probs = zip(*(self._run(piece, options) for piece in pieces), strict=True)
        return torch.cat(symbols, dim=1), torch.cat(log_probs, dim=1)

    def _run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        distribution, symbols, parameters = self.model.distribution, [], []
        for uniform, step in zip(uniforms.unbind(1), self._stepper.steps(uniforms.shape[1]), strict=True):
            parameters.append(step(self.latest))
            self.latest = distribution.sample(parameters[-1], uniform, options)
            symbols.append(self.latest)
        generated = torch.stack(symbols, dim=1)
        return generated, distribution.log_prob(torch.stack(parameters, dim=2), generated)


class _Predictions:
    """Linear prediction one sample at a time. `known` is the prediction of the newest sample."""

    def __init__(self, predictor: Predictor, engine: ResumableEngine) -> None:
        self.predictor, self.engine = predictor, engine

    def load(self, time: int, samples: Tensor) -> None:
        """`samples` `(B, context)` end before `time`."""
        self.time, self.samples = time, samples
        known = self.predictor(samples, time, self.engine.conditioning)
        self.known = Prediction(known.mean[:, 0], known.scale[:, 0])
        self.first = self.blocks = 0

    def prepare(self, steps: int) -> None:
        """Make room for the next samples."""
        context = self.predictor.context
        history = self.samples[:, self.samples.shape[1] - context :]
        self.samples = torch.cat([history, history.new_zeros(len(history), steps)], dim=1)
        self.end = context
        self.last = (self.time + steps) // self.predictor.block

    def take(self, newest: Tensor) -> tuple[Tensor, Prediction]:
        """Take in a sample `(B,)`; gives its error in units of the expected error, and the prediction of the next."""
        error = (newest - self.known.mean) / self.known.scale
        self.samples[:, self.end] = newest
        self.end += 1
        self.time += 1
        block = self.time // self.predictor.block
        if not self.first <= block < self.first + self.blocks:
            self._fit(block)
        coefficients, scales = self.coefficients[:, block - self.first], self.scales[:, block - self.first]
        past = self.samples[:, self.end - self.predictor.order : self.end]
        self.known = Prediction((past * coefficients).sum(dim=1).clamp(-1, 1), scales)
        return error, self.known

    def _fit(self, block: int) -> None:
        self.first = block
        self.blocks = 1 if self.predictor.fits_past else self.last - block + 1
        known = self.samples[:, : self.end]
        start = self.time - self.end
        self.coefficients, self.scales = self.predictor.fit(known, start, block, self.blocks, self.engine.conditioning)


class _Stepper:
    """The network for one sample per stream, over rings of past inputs. Layers L, batch B, taps before the newest P."""

    @torch.no_grad()
    def __init__(self, engine: ResumableEngine, batch: int) -> None:
        self.engine, self.model = engine, engine.model
        model = self.model
        self.predictions = None if model.predictor is None else _Predictions(model.predictor, engine)
        blocks = [block for block in model.blocks if isinstance(block, ResidualBlock)]
        config, weight = model.config, model.output.weight
        residual, half = config.residual_channels, config.gate_channels // 2
        self.contexts = torch.tensor([block.conv.context for block in blocks])
        self.starts = self.contexts.cumsum(0) - self.contexts
        self.dilations = torch.tensor(config.dilations)
        self.past_taps = config.kernel_size - 1
        self.taken = 0

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
        """Go on from a state, the oldest input first in each ring."""
        self.time, self.taken = state.time, 0
        torch.cat([queue.transpose(0, 1) for queue in state.queues], out=self.ring)
        self.samples = state.samples
        if self.predictions is not None:
            self.predictions.load(state.time, state.samples)

    def state(self) -> State:
        """The rings as the network's own state."""
        rings = torch.split(self.ring, self.contexts.tolist())
        turned = (ring.roll(-(self.taken % len(ring)), dims=0) for ring in rings)
        samples = self.samples
        if self.predictions is not None:
            end = self.predictions.end if self.taken else samples.shape[1]
            samples = self.predictions.samples[:, end - self.model.history : end].clone()
        return State(self.time, samples, [ring.transpose(0, 1).contiguous() for ring in turned])

    def steps(self, count: int) -> Iterator[Callable[[Tensor], Tensor]]:
        """The next steps, each a function of symbols `(B,)` that gives parameters `(B, parameters)`."""
        biases = self._biases(count)
        if self.predictions is not None:
            self.predictions.prepare(count)
        for index, (reads, writes) in enumerate(self._slots(count)):
            yield partial(self._step, biases=biases[index % len(biases)], reads=reads, writes=writes)

    def _biases(self, count: int) -> Tensor:
        """The biases of convolutions and conditioning: `(count or 1, L, B or 1, gate)`."""
        layers, _, gate = self.gates.shape
        biases = self.model.biases(self.engine.conditioning, self.time + 1, self.time + 1 + count)
        if biases is None:
            return self.biases[None]
        by_step = biases.view(*biases.shape[:2], layers, gate).permute(1, 2, 0, 3)
        summed: Tensor = (by_step + self.biases).contiguous()
        return summed

    def _slots(self, steps: int) -> list[tuple[Tensor, Tensor]]:
        """Where, in each of the next steps, the past taps lie in the ring `(L * P,)` and where the inputs go `(L,)`."""
        times = torch.arange(self.taken, self.taken + steps)[:, None, None]
        offsets = self.dilations[:, None] * torch.arange(self.past_taps)
        reads = (times + offsets) % self.contexts[:, None] + self.starts[:, None]
        reads, writes = reads.flatten(1).to(self.ring.device), reads[:, :, 0].to(self.ring.device)
        return list(zip(reads.unbind(0), writes.contiguous().unbind(0), strict=True))

    def _step(self, symbols: Tensor, biases: Tensor, reads: Tensor, writes: Tensor) -> Tensor:
        layers, batch, _ = self.inputs.shape
        past = self.ring.index_select(0, reads).view(layers, self.past_taps, batch, -1)
        past = past.transpose(1, 2).reshape(layers, batch, -1)
        torch.baddbmm(biases, past, self.past_weights, out=self.gates)
        following = self._embed(self.model.distribution.decode(symbols).to(self.inputs.dtype))
        for x, newest_weight, gates, filter_, gate, gated, residual_weight, next_input in self.layers:
            gates.addmm_(x, newest_weight)
            torch.mul(filter_.tanh_(), gate.sigmoid_(), out=gated)
            if residual_weight is not None:
                torch.addmm(x, gated, residual_weight, out=next_input)
        self.ring.index_copy_(0, writes, self.inputs)
        self.time += 1
        self.taken += 1
        x = self.gated
        for bias, weight in self.projections:
            x = torch.addmm(bias, x, weight)
            x.relu_()
        outputs = torch.addmm(self.output_bias, x, self.output_weight)
        return self.model.distribution.place(outputs[:, :, None], following)[:, :, 0]

    def _embed(self, newest: Tensor) -> Prediction | None:
        """Embed a sample `(B,)` as the first block's input; gives the prediction of the next, `(B, 1)`, if any."""
        embedding = self.model.embedding
        if self.predictions is None:
            self.inputs[0] = embedding(compand(newest, embedding.rows)[:, None])
            return None
        error, following = self.predictions.take(newest)
        self.inputs[0] = embedding(input_signals(newest, error, following, embedding.rows))
        return Prediction(following.mean[:, None], following.scale[:, None])
