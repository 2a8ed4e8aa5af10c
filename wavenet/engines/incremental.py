"""Fast generation (Le Paine et al. 2016): a queue of past inputs per layer, O(layers) work per sample.

The past taps of every layer are known before its newest input is. So one batched product gives their sums, with the
biases, before the layers run, and each layer has little left to do: add the newest tap, filter, gate, add to the
residual. The queues are rings in one tensor; a step moves no data but the newest inputs. Conditioning, and linear
prediction from features, are prepared for many samples at once.

On a GPU the host would take longer to launch a step's kernels than the GPU takes to run them. So there some steps at
once are a CUDA graph: see `captured.py`.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wavenet.engines.captured import STEPS, Captured, Inputs, can_capture, part
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
    """Works on every device torch has, in the model's own precision.

    `captured` says whether steps run as CUDA graphs. `None` means where it is possible: on a GPU, with a distribution
    of the package's own. On the CPU `True` takes the same buffers and captures nothing, so that tests can compare.
    """

    name: ClassVar[str] = "incremental"

    def __init__(
        self,
        model: WaveNet,
        batch: int,
        conditioning: Conditioning | None = None,
        *,
        captured: bool | None = None,
    ) -> None:
        super().__init__(model, batch, conditioning)
        refusal = self.refusal(model)
        if refusal is not None:
            raise ValueError(f"the incremental engine cannot run this model: {refusal}; use engine='auto'")
        self._stepper = _Stepper(model, batch)
        self._captured = can_capture(model) if captured is None else captured
        self._advance = Captured(self._stepper.advance) if self._captured else self._stepper.advance
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
        return EngineState(self._stepper.latest.clone(), self._stepper.state())

    @torch.inference_mode()
    def load(self, state: EngineState) -> None:
        self._stepper.load(state, self.conditioning)

    @torch.inference_mode()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        chunk, least = chunk_samples(self.model, len(uniforms)), STEPS if self._captured else 1
        pieces = torch.split(uniforms, max(1, chunk // least) * least, dim=1)
        symbols, log_probs = zip(*(self._run(piece, options) for piece in pieces), strict=True)
        return torch.cat(symbols, dim=1), torch.cat(log_probs, dim=1)

    def _run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        stepper, count, done, pieces = self._stepper, uniforms.shape[1], 0, []
        known = uniforms.T, stepper.biases(self.conditioning, count), *stepper.slots(count)
        while done < count:
            length, fitted = stepper.fit(self.conditioning, count - done)
            pieces.append(self._advance((*part(known, done, done + length), *fitted), options))
            stepper.time, stepper.taken, done = stepper.time + length, stepper.taken + length, done + length
        symbols, parameters = zip(*pieces, strict=True)
        generated = torch.cat(symbols, dim=1)
        return generated, self.model.distribution.log_prob(torch.cat(parameters, dim=2), generated)


class _Predictions:
    """Linear prediction one sample at a time: `known` predicts the newest sample; `history` holds those before it."""

    def __init__(self, predictor: Predictor, batch: int, like: Tensor) -> None:
        self.predictor = predictor
        self.history = like.new_zeros(batch, predictor.context)
        self.known = Prediction(like.new_zeros(batch), like.new_zeros(batch))

    def load(self, time: int, samples: Tensor, conditioning: Conditioning) -> None:
        """`samples` `(B, context)` end before `time`."""
        known = self.predictor(samples, time, conditioning)
        self.history.copy_(samples)
        self.known.mean.copy_(known.mean[:, 0])
        self.known.scale.copy_(known.scale[:, 0])

    def fit(self, time: int, newest: Tensor, steps: int, conditioning: Conditioning) -> tuple[int, Inputs]:
        """Fit the samples after `time`, that of the newest: `steps` of them, or those whose fit needs no later sample.

        Gives their number, the coefficients `(steps, B, order)` and the expected errors `(steps, B)`.
        """
        predictor, following = self.predictor, time + 1
        if predictor.fits_past:
            steps = min(steps, predictor.block - following % predictor.block)
        first = following // predictor.block
        blocks = (time + steps) // predictor.block - first + 1
        samples = torch.cat([self.history, newest[:, None]], dim=1)
        coefficients, scales = predictor.fit(samples, time - predictor.context, first, blocks, conditioning)
        index = torch.arange(following, following + steps, device=newest.device) // predictor.block - first
        return steps, (coefficients[:, index].transpose(0, 1), scales[:, index].T)

    def begin(self, steps: int) -> None:
        """Make room for the next samples."""
        room = self.history.new_zeros(len(self.history), steps)
        self.samples, self.newest = torch.cat([self.history, room], dim=1), self.known
        self.end = self.predictor.context

    def take(self, newest: Tensor, coefficients: Tensor, scales: Tensor) -> tuple[Tensor, Prediction]:
        """Take in a sample `(B,)`; gives its error in units of the expected error, and the prediction of the next."""
        error = (newest - self.newest.mean) / self.newest.scale
        self.samples[:, self.end] = newest
        self.end += 1
        past = self.samples[:, self.end - self.predictor.order : self.end]
        self.newest = Prediction((past * coefficients).sum(dim=1).clamp(-1, 1), scales)
        return error, self.newest

    def finish(self) -> None:
        """Keep what the steps after these need."""
        self.history.copy_(self.samples[:, self.end - self.predictor.context :])
        self.known.mean.copy_(self.newest.mean)
        self.known.scale.copy_(self.newest.scale)


class _Stepper:
    """The network for one sample per stream, over rings of past inputs. Layers L, batch B, taps before the newest P.

    All state of the streams lies in tensors that are made once and changed in place, except for `time`, of the newest
    sample, and `taken`, the steps since the rings began.
    """

    @torch.no_grad()
    def __init__(self, model: WaveNet, batch: int) -> None:
        self.model = model
        blocks = [block for block in model.blocks if isinstance(block, ResidualBlock)]
        config, weight, device = model.config, model.output.weight, model.device
        self.predictions = None if model.predictor is None else _Predictions(model.predictor, batch, weight)
        residual, half = config.residual_channels, config.gate_channels // 2
        self.contexts = torch.tensor([block.conv.context for block in blocks], device=device)
        self.starts = self.contexts.cumsum(0) - self.contexts
        self.dilations = torch.tensor(config.dilations, device=device)
        self.past_taps = config.kernel_size - 1
        self.time = self.taken = 0
        self.latest = torch.full((batch,), model.distribution.silence, device=device)

        split = self.past_taps * residual
        self.past_weights = torch.stack([block.conv.weight[:, :split].T for block in blocks])  # (L, P * residual, gate)
        self.bias = torch.stack([block.conv.bias[None] for block in blocks])  # (L, 1, gate)
        self.ring = weight.new_zeros(sum(model.contexts), batch, residual)
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

    def load(self, state: EngineState, conditioning: Conditioning) -> None:
        """Go on from a state, the oldest input first in each ring."""
        network = state.network
        self.time, self.taken = network.time, 0
        self.latest.copy_(state.latest)
        torch.cat([queue.transpose(0, 1) for queue in network.queues], out=self.ring)
        if self.predictions is not None:
            self.predictions.load(network.time, network.samples, conditioning)

    def state(self) -> State:
        """The rings as the network's own state."""
        rings = torch.split(self.ring, self.contexts.tolist())
        turned = (ring.roll(-(self.taken % len(ring)), dims=0) for ring in rings)
        samples = self.ring.new_zeros(len(self.latest), 0) if self.predictions is None else self.predictions.history
        return State(self.time, samples.clone(), [ring.transpose(0, 1).contiguous() for ring in turned])

    def biases(self, conditioning: Conditioning, steps: int) -> Tensor:
        """The biases of convolutions and conditioning in the next steps: `(steps or 1, L, B or 1, gate)`."""
        layers, _, gate = self.gates.shape
        biases = self.model.biases(conditioning, self.time + 1, self.time + 1 + steps)
        if biases is None:
            return self.bias[None]
        by_step = biases.view(*biases.shape[:2], layers, gate).permute(1, 2, 0, 3)
        summed: Tensor = (by_step + self.bias).contiguous()
        return summed

    def slots(self, steps: int) -> tuple[Tensor, Tensor]:
        """Where, in the next steps, the past taps lie in the ring, `(steps, L * P)`, and where the inputs go.

        The latter is `(steps, L)`.
        """
        times = torch.arange(self.taken, self.taken + steps, device=self.ring.device)[:, None, None]
        offsets = self.dilations[:, None] * torch.arange(self.past_taps, device=self.ring.device)
        reads = (times + offsets) % self.contexts[:, None] + self.starts[:, None]
        return reads.flatten(1), reads[:, :, 0].contiguous()

    def fit(self, conditioning: Conditioning, steps: int) -> tuple[int, Inputs]:
        """How many of the next `steps` can run now, and what they need of linear prediction, if there is any."""
        if self.predictions is None:
            return steps, ()
        newest = self.model.distribution.decode(self.latest).to(self.ring.dtype)
        return self.predictions.fit(self.time, newest, steps, conditioning)

    def advance(self, inputs: Inputs, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        """Generate a sample for each row of `inputs`: symbols `(B, T)` and parameters `(B, parameters, T)`.

        The inputs are uniforms, biases, slots and the fit of linear prediction: each has a row for each step, or one
        for all. Reads and changes nothing else that varies, apart from tensors in place, so that it can be captured.
        """
        distribution, latest, symbols, parameters = self.model.distribution, self.latest, [], []
        steps = len(inputs[0])
        if self.predictions is not None:
            self.predictions.begin(steps)
        rows = (tensor.expand(steps, *tensor.shape[1:]).unbind(0) for tensor in inputs)
        for uniforms, biases, reads, writes, *fitted in zip(*rows, strict=True):
            parameters.append(self._step(latest, biases, reads, writes, fitted))
            latest = distribution.sample(parameters[-1], uniforms, options)
            symbols.append(latest)
        self.latest.copy_(latest)
        if self.predictions is not None:
            self.predictions.finish()
        return torch.stack(symbols, dim=1), torch.stack(parameters, dim=2)

    def _step(self, symbols: Tensor, biases: Tensor, reads: Tensor, writes: Tensor, fitted: Sequence[Tensor]) -> Tensor:
        layers, batch, _ = self.inputs.shape
        past = self.ring.index_select(0, reads).view(layers, self.past_taps, batch, -1)
        past = past.transpose(1, 2).reshape(layers, batch, -1)
        torch.baddbmm(biases, past, self.past_weights, out=self.gates)
        following = self._embed(self.model.distribution.decode(symbols).to(self.inputs.dtype), fitted)
        for x, newest_weight, gates, filter_, gate, gated, residual_weight, next_input in self.layers:
            gates.addmm_(x, newest_weight)
            torch.mul(filter_.tanh_(), gate.sigmoid_(), out=gated)
            if residual_weight is not None:
                torch.addmm(x, gated, residual_weight, out=next_input)
        self.ring.index_copy_(0, writes, self.inputs)
        x = self.gated
        for bias, weight in self.projections:
            x = torch.addmm(bias, x, weight)
            x.relu_()
        outputs = torch.addmm(self.output_bias, x, self.output_weight)
        return self.model.distribution.place(outputs[:, :, None], following)[:, :, 0]

    def _embed(self, newest: Tensor, fitted: Sequence[Tensor]) -> Prediction | None:
        """Embed a sample `(B,)` as the first block's input; gives the prediction of the next, `(B, 1)`, if any."""
        embedding = self.model.embedding
        if self.predictions is None:
            self.inputs[0] = embedding(compand(newest, embedding.rows)[:, None])
            return None
        error, following = self.predictions.take(newest, *fitted)
        self.inputs[0] = embedding(input_signals(newest, error, following, embedding.rows))
        return Prediction(following.mean[:, None], following.scale[:, None])
