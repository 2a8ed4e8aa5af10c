"""The native engine: one sample at a time in C++, faster than real time on one core.

`engine.h` is the interface of the C++. `matrix.h` stores and multiplies weights in float32 and bfloat16, and `int8.h`
weights and activations in 8 bits. `network.h` has the step and its two threads, and `sampling.h` and `prediction.h`
compute what the Python modules of these names compute.
"""

import importlib
import os
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from wavenet.engines.resumable import EngineState, FramePieces, ResumableEngine, chunk_samples, foreign_part
from wavenet.network import (
    QUIETEST,
    Categorical,
    CausalConv1d,
    Conditioning,
    FeaturePredictor,
    GaussianMixture,
    LogisticMixture,
    PastPredictor,
    Predictor,
    ResidualBlock,
    SamplingOptions,
    State,
    WaveNet,
)

# the modules in this folder are not among them: some only run on another processor
__all__ = ["NOT_BUILT", "WEIGHT_TYPES", "NativeEngine", "WeightType", "native_module"]

WeightType = Literal["float32", "bfloat16", "int8"]
WEIGHT_TYPES: tuple[WeightType, ...] = ("float32", "bfloat16", "int8")
NOT_BUILT = "the native engine is not built; install GCC or Clang, and then install the package again"


def native_module() -> Any:
    """The compiled module for this processor: what `engine.h` describes, under the names in `module.cpp`.

    The environment variable `WAVENET_NATIVE` chooses an instruction set (`avx512vnni`, `avx512`, `avxvnni`, `avx2`,
    `baseline`), or none (`0`).
    Raises `ImportError` if there is no module, and `ValueError` if `WAVENET_NATIVE` has another value.
    """
    wanted = os.environ.get("WAVENET_NATIVE", "")
    if wanted == "0":
        raise ImportError("WAVENET_NATIVE=0 switches the native engine off")
    try:
        found = importlib.import_module("wavenet.engines.native._native_baseline").instruction_sets()
    except ImportError as error:
        raise ImportError(NOT_BUILT) from error
    if wanted and wanted not in found:
        raise ValueError(f"WAVENET_NATIVE is {wanted!r}; expected 0, {', '.join(found)}, or no value")
    return importlib.import_module(f"wavenet.engines.native._native_{wanted or found[0]}")


class NativeEngine(ResumableEngine):
    """Runs float32 models made of this package's parts on the CPU.

    `weights` is the type in which the weights are stored. With int8, activations have 8 bits too, and from the
    same conditioning and seed every instruction set computes the same audio. `threads` share a batch. A single
    stream uses at most two: the second does the work for which the next layer does not wait. An engine serves one
    caller at a time; several engines run in parallel, because they release the lock of the Python interpreter.
    """

    name: ClassVar[str] = "native"

    def __init__(
        self,
        model: WaveNet,
        batch: int,
        conditioning: Conditioning | None = None,
        *,
        weights: WeightType = "float32",
        threads: int = 1,
    ) -> None:
        super().__init__(model, batch, conditioning)
        refusal = self.refusal(model)
        if refusal is not None:
            raise ValueError(f"the native engine cannot run this model: {refusal}")
        self.native = native_module()
        self.packed = _pack(self.native, model, weights)
        self.generator = self.native.Generator(self.packed, batch, threads)
        self._forget()
        self.start()

    @staticmethod
    def refusal(model: WaveNet) -> str | None:
        """The reason why the engine cannot run a model; `None` if it can."""
        foreign = foreign_part(model)
        if foreign is not None:
            return foreign
        if model.predictor is not None and type(model.predictor) not in (PastPredictor, FeaturePredictor):
            return f"it supports only the package's own linear prediction, not {type(model.predictor).__name__}"
        if type(model.distribution) not in (Categorical, LogisticMixture, GaussianMixture):
            return f"it does not support the distribution {model.distribution.kind!r}"
        weight = model.output.weight
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            return f"it computes in float32 on the CPU, and the model is in {weight.dtype} on {weight.device}"
        try:
            native_module()
        except ImportError as error:
            return str(error)
        return None

    @property
    def time(self) -> int:
        time: int = self.generator.time
        return time

    def _forget(self) -> None:
        """Drop what was computed from another conditioning."""
        self._cached = self.conditioning
        hop = self.model.alignment.hop
        blocks = 1 if self.model.predictor is None else max(1, hop // self.model.predictor.block)
        self._biases = FramePieces(self._bias_piece, hop)
        self._frames = FramePieces(self._frame_piece, 1)
        self._correlations = FramePieces(self._correlation_piece, blocks)
        self._constant: Tensor | None = None

    def state(self) -> EngineState:
        config, batch = self.model.config, self.batch
        samples = torch.empty(batch, self.model.history, dtype=torch.float32)
        queues = [
            torch.empty(batch, context, config.residual_channels, dtype=torch.float32)
            for context in self.model.contexts
        ]
        latest = torch.empty(batch, dtype=torch.long)
        time = self.generator.save(latest, samples, queues)
        return EngineState(latest, State(time, samples, queues))

    def load(self, state: EngineState) -> None:
        network = state.network
        queues = [queue.contiguous() for queue in network.queues]
        self.generator.load(network.time, state.latest.contiguous(), network.samples.contiguous(), queues)

    @torch.inference_mode()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        symbols, log_probs = [], []
        for piece in torch.split(uniforms, chunk_samples(self.model, self.batch), dim=1):
            symbols.append(torch.empty(piece.shape, dtype=torch.long))
            parameters = self._run(symbols[-1], piece.contiguous(), options)
            log_probs.append(self.model.distribution.log_prob(parameters, symbols[-1]))
        return torch.cat(symbols, dim=1), torch.cat(log_probs, dim=1)

    @torch.inference_mode()
    def follow(self, symbols: Tensor) -> Tensor:
        """Run over given symbols `(B, T)`: the parameters of the distribution of each, `(B, parameters, T)`."""
        pieces = torch.split(symbols, chunk_samples(self.model, self.batch), dim=1)
        return torch.cat([self._run(piece.contiguous(), None, SamplingOptions()) for piece in pieces], dim=2)

    def run_up(self, samples: int) -> None:
        if samples:  # step by step, so that the pieces in which frames arrive change no bit
            self.follow(torch.full((self.batch, samples), self.model.distribution.silence))

    def _run(self, symbols: Tensor, uniforms: Tensor | None, options: SamplingOptions) -> Tensor:
        if self.conditioning is not self._cached:
            self._forget()
        batch, steps = symbols.shape
        width = self.model.distribution.outputs(False)
        parameters = torch.empty(batch, steps, width, dtype=torch.float32)
        frames, first_frame = self._frame_biases(steps)
        correlation, first_block = self._correlation(steps)
        self.generator.run(
            uniforms=uniforms,
            symbols=symbols,
            parameters=parameters,
            biases=self._bias(steps),
            frames=frames,
            first_frame=first_frame,
            correlation=correlation,
            first_block=first_block,
            options=self.native.SamplingOptions(
                temperature=options.temperature,
                top_k=min(options.top_k or 0, self.model.distribution.symbols),
                top_p=options.top_p or 0.0,
            ),
        )
        return parameters.transpose(1, 2)

    def _bias(self, steps: int) -> Tensor | None:
        """The conditioning's biases of all layers for the next samples: `(B, steps or 1, layers * gate)`.

        If features give biases of frames, only the speaker's.
        """
        by_frame = self.model.frame_conditioner
        if by_frame is None and self.model.alignment.reach is not None:
            return self._biases(self.time + 1, self.time + 1 + steps).contiguous()
        if self._constant is None and by_frame is not None:
            self._constant = by_frame.speaker_biases(self.conditioning)
        elif self._constant is None and self.model.conditioner is not None:
            self._constant = self._bias_piece(0, 1).contiguous()
        return self._constant

    def _bias_piece(self, start: int, stop: int) -> Tensor:
        biases = self.model.biases(self.conditioning, start, stop)
        assert biases is not None
        return biases

    def _frame_biases(self, steps: int) -> tuple[Tensor | None, int]:
        """The biases of the frames between which the next samples lie, `(B, F, layers * gate)`, and the first frame."""
        if self.model.frame_conditioner is None:
            return None, 0
        hop = self.model.alignment.hop
        first, last = (self.time + 1) // hop, (self.time + steps) // hop
        return self._frames(first, last + 2).contiguous(), first

    def _frame_piece(self, first: int, last: int) -> Tensor:
        assert self.model.frame_conditioner is not None
        return self.model.frame_conditioner.frame_biases(self.conditioning, first, last)

    def _correlation(self, steps: int) -> tuple[Tensor | None, int]:
        """The features' autocorrelations for the next samples, `(B, blocks, order + 1)`, and the first block."""
        predictor = self.model.predictor
        if not isinstance(predictor, FeaturePredictor):
            return None, 0
        first, last = self.time // predictor.block, (self.time + steps) // predictor.block
        return self._correlations(first, last + 1).contiguous(), first

    def _correlation_piece(self, first: int, last: int) -> Tensor:
        assert isinstance(self.model.predictor, FeaturePredictor)
        return self.model.predictor.correlation(first, last - first, self.conditioning)


def _pack(native: Any, model: WaveNet, weights: WeightType) -> Any:
    """Copy the weights to the engine's own layout."""
    by_frame, distribution = model.frame_conditioner, model.distribution
    blocks = [block for block in model.blocks if isinstance(block, ResidualBlock)]
    layers = [
        native.Layer(
            dilation=block.conv.dilation,
            convolution=_projection(native, block.conv),
            residual=None if block.residual is None else block.residual.weight.detach(),
        )
        for block in blocks
    ]
    symbols = native.Distribution(
        kind=distribution.kind,
        components=getattr(distribution, "components", 0),
        decoded=distribution.decode(torch.arange(distribution.symbols)).tolist(),
    )
    description = native.Description(
        layers=layers,
        skip=_projection(native, model.skip),
        head=_projection(native, model.head),
        output=_projection(native, model.output),
        table=model.embedding.weight.detach(),
        shares=None if by_frame is None else by_frame.shares(),
        distribution=symbols,
        prediction=_prediction(native, model.predictor),
    )
    return native.Model(description, weights)


def _projection(native: Any, layer: nn.Linear | CausalConv1d) -> Any:
    return native.Projection(weight=layer.weight.detach(), bias=layer.bias.detach())


def _prediction(native: Any, predictor: Predictor | None) -> Any:
    if predictor is None:
        return None
    return native.Prediction(
        order=predictor.order,
        block=predictor.block,
        noise_floor=predictor.config.noise_floor,
        quietest=QUIETEST,
        window=predictor.weights.tolist() if isinstance(predictor, PastPredictor) else [],
    )
