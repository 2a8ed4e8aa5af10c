"""The network: a stack of gated residual blocks over dilated causal convolutions (van den Oord et al. 2016)."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from wavenet.network.block import BlockFactory, ResidualBlock
from wavenet.network.conditioning import (
    ClipLabels,
    Conditioner,
    Conditioning,
    check_features,
    check_labels,
    stack_frames,
)
from wavenet.network.config import WaveNetConfig
from wavenet.network.distributions import Distribution, Prediction, check_range, check_symbols
from wavenet.network.embedding import AmplitudeEmbedding
from wavenet.network.feature_kinds import FeatureStatistics
from wavenet.network.features import LogMel
from wavenet.network.model_file import (
    load_tensors,
    plain_state,
    read_config,
    read_model_file,
    read_statistics,
    write_model,
)
from wavenet.network.parts import (
    ConditionerFactory,
    align,
    attribute,
    check_biases,
    check_block_output,
    make_acoustic,
    make_conditioner,
    make_predictor,
    own_parts,
)
from wavenet.network.prediction import input_signals
from wavenet.network.quantize import check_level, check_waveform, compand, full_precision
from wavenet.network.timed_labels import TimedLabel, by_clip
from wavenet.network.tracks import Tracks, check_tracks
from wavenet.shipped import model_path


@dataclass(frozen=True)
class State:
    """The network's memory between chunks.

    `time` is the time of the next sample to come in; a clip begins at 0. `samples` `(B, history)` are the last samples,
    for linear prediction. `queues` are the last inputs of each block, `(B, context, residual)`.
    """

    time: int
    samples: Tensor
    queues: list[Tensor]


class WaveNet(nn.Module):
    """Maps past samples to the distribution of the next one: the output at time t predicts the sample at t + 1.

    `model(symbols)` gives the outputs whose whole context lies in `symbols`, as training needs them.
    `model.advance(symbols, state)` goes on from `state` by a chunk of any length, down to one sample. Both run the same
    layers and take the conditioning that `model.condition` makes. Endless silence precedes a clip; `initial_state` is
    the state after it. With `recompute` training stores no activations inside blocks and computes them again.

    `block` makes the block of each layer (see `BlockFactory`). `conditioner` makes the module in the place of
    `Conditioner`, from the configuration. A custom distribution stands in the configuration.
    """

    track_mean: Tensor
    """The mean of each track in training, `(tracks, 1)`, and `track_spread`, its standard deviation."""
    track_spread: Tensor

    @torch.inference_mode(mode=False)  # weights made in inference mode could never be trained
    def __init__(
        self,
        config: WaveNetConfig,
        *,
        block: BlockFactory = ResidualBlock,
        conditioner: ConditionerFactory | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(config, WaveNetConfig):
            raise ValueError(f"config is a {type(config).__name__}; expected a WaveNetConfig")
        self.config = config
        self.recompute = False
        self.feature_statistics: FeatureStatistics | None = None
        self.distribution = config.distribution
        with torch.device("cpu"):  # they have no parameters, and their buffers are needed on the meta device too
            self.log_mel = None if config.features is None else LogMel(config.features, config.sample_rate)
            self.predictor = make_predictor(config)
        signals = 1 if self.predictor is None else 4
        self.embedding = AmplitudeEmbedding(signals, self.distribution.input_rows, config.residual_channels)
        last = len(config.dilations) - 1
        self.blocks = nn.ModuleList(
            block(config, dilation, last=index == last) for index, dilation in enumerate(config.dilations)
        )
        self.contexts = [attribute(block, "context", int) for block in self.blocks]
        self.skip = nn.Linear(len(config.dilations) * config.gate_channels // 2, config.skip_channels)
        self.head = nn.Linear(config.skip_channels, config.head_channels)
        self.output = nn.Linear(config.head_channels, self.distribution.outputs(self.predictor is not None))
        self.conditioner = (conditioner or make_conditioner)(config)
        self.acoustic = make_acoustic(config, self.conditioner)
        self.alignment = align(config, self.conditioner, 1 if self.predictor is None else self.predictor.block)
        if config.tracks:
            self.register_buffer("track_mean", torch.zeros(len(config.tracks), 1))
            self.register_buffer("track_spread", torch.ones(len(config.tracks), 1))
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        if self.output.weight.is_meta:  # as in `AmplitudeEmbedding`: there is nothing to fill
            return
        weight, bias = self.distribution.initial_output(self.output.in_features, self.predictor is not None)
        self.output.weight.copy_(weight)
        self.output.bias.copy_(bias)
        for layer in (self.skip, self.head):
            nn.init.zeros_(layer.bias)

    @property
    def device(self) -> torch.device:
        return self.output.weight.device

    @property
    def receptive_field(self) -> int:
        """Input samples that one output of the stack depends on."""
        return 1 + sum(self.contexts)

    @property
    def history(self) -> int:
        """Samples before an input that linear prediction needs."""
        return 0 if self.predictor is None else self.predictor.context

    @property
    def context(self) -> int:
        """Samples that one output depends on: the receptive field and the history before its oldest input."""
        return self.receptive_field + self.history

    @property
    def own_parts(self) -> dict[str, str]:
        """The classes of a custom `block` and `conditioner`, if the model has any."""
        return own_parts(list(self.blocks), self.conditioner)

    def condition(
        self,
        batch: int = 1,
        *,
        speaker: str | Sequence[str] | Tensor | None = None,
        labels: ClipLabels | None = None,
        features: Tensor | Sequence[Tensor] | None = None,
        timed_labels: Sequence[TimedLabel] | Sequence[Sequence[TimedLabel]] | None = None,
        tracks: Tracks | Tensor | Sequence[Tracks | Tensor] | None = None,
    ) -> Conditioning:
        """Check and pack the conditioning of a batch of clips.

        `speaker`: one name for all clips, a name for each, or, for a model without names, a vector
        `(speaker_channels,)` or `(B, speaker_channels)`. `labels`: a name for each kind of label, for all clips or a
        mapping for each; the speaker may be among them. `features`: `(bins, F)` for all clips, `(B, bins, F)`, or a
        list of `(bins, F)` of different lengths, padded with silence. `timed_labels`: in the place of features, what
        all clips say, or a sequence for each. `tracks`, beside either: `Tracks`, which are interpolated to the frames,
        or their values at the frames, `(tracks, F)`, in the order of the configuration; for all clips or for each.
        Raises `ValueError` if something does not fit the model.
        """
        config, known = self.config, self._check_labels(batch, speaker, labels)
        if timed_labels is not None:
            if features is not None:
                raise ValueError("features and timed_labels are both given; expected one of the two")
            features = [
                self._said(clip, None, None if known is None else known[index : index + 1])
                for index, clip in enumerate(by_clip(timed_labels, batch))
            ]
        clips = check_features(features, batch, config.features)
        if config.tracks or tracks is not None:
            frames, rate = [clip.shape[1] for clip in clips or ()], config.sample_rate / self.alignment.hop
            rows = check_tracks(tracks, frames, config.tracks, rate)
            scaled = map(self.scale_tracks, rows)
            clips = [torch.cat([clip.to(row), row]) for clip, row in zip(clips or (), scaled, strict=True)]
        silence = 0.0 if config.features is None else config.features.silence
        stacked = None if clips is None else stack_frames(clips, silence).to(self.output.weight)
        return Conditioning(labels=known, features=stacked, silence=silence)

    def scale_tracks(self, tracks: Tensor) -> Tensor:
        """Bring tracks `(..., tracks, F)` by the mean and the spread of training to the range of log-mel features."""
        assert self.config.features is not None
        return ((tracks.to(self.track_mean) - self.track_mean) / self.track_spread - 1) * self.config.features.spread

    def _check_labels(
        self, batch: int, speaker: str | Sequence[str] | Tensor | None, labels: ClipLabels | None
    ) -> Tensor | None:
        known = check_labels(speaker, labels, batch, self.config.known_labels, self.config.speaker_channels)
        if known is None:
            return None
        return known.to(self.output.weight if known.is_floating_point() else self.device)

    def features_of(
        self,
        timed_labels: Sequence[TimedLabel],
        samples: int | None = None,
        *,
        speaker: str | Tensor | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Tensor:
        """What the acoustic model makes of one clip's timed labels: log-mel features `(bins, F)`.

        They last `samples`, or to the end of the last label. Raises `ValueError` if the model has no acoustic model, or
        does not know a name.
        """
        (clip,) = by_clip([timed_labels], 1)
        return self._said(clip, samples, self._check_labels(1, speaker, labels))

    @torch.no_grad()
    def _said(self, timed_labels: Sequence[TimedLabel], samples: int | None, known: Tensor | None) -> Tensor:
        if self.acoustic is None:
            raise ValueError("timed_labels are given, and the model was not trained with any; leave them out")
        return self.acoustic.say(timed_labels, samples, self.vector(Conditioning(known)))

    def vector(self, conditioning: Conditioning) -> Tensor | None:
        """What the package's own conditioner knows of a whole clip: `(B, speaker_channels)`, if there is anything."""
        own = getattr(self.conditioner, "_orig_mod", self.conditioner)  # of a compiled one
        return own.vector(conditioning) if isinstance(own, Conditioner) else None

    def forward(self, symbols: Tensor, conditioning: Conditioning | None = None, start: int = 0) -> Tensor:
        """Parameters of the next sample's distribution, for all outputs whose whole context is given.

        `start` is the time of the first symbol in the conditioning's clip; linear prediction counts its blocks from
        time 0 too.

        Shape: `(B, T)` int64 -> `(B, parameters, T - context + 1)`.
        """
        check_symbols(symbols)
        if symbols.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere a step would wait for it
            check_range(symbols, self.distribution.symbols)
        if symbols.shape[1] < self.context:
            raise ValueError(
                f"{symbols.shape[1]} samples given; the context of one output is {self.context} "
                "(use advance() with initial_state() to start from silence)"
            )
        samples = self.distribution.decode(symbols).to(self.output.weight.dtype)
        conditioning, first = conditioning or self.condition(symbols.shape[0]), start + self.history
        x, prediction = self._inputs(samples, first, conditioning)
        starts = [first + 1 + before for before in itertools.accumulate(self.contexts)]  # of the blocks' outputs
        biases = self._lazy_biases(conditioning, first + 1, first + 1 + x.shape[1], starts)
        outputs = self.respond(x, biases)
        if prediction is not None:
            length = outputs.shape[2]
            prediction = Prediction(prediction.mean[:, -length:], prediction.scale[:, -length:])
        return self.distribution.place(outputs, prediction)

    def respond(self, x: Tensor, biases: Tensor | Iterator[Tensor] | None = None) -> Tensor:
        """The network between embedding and distribution.

        `biases` `(B, T or 1, layers * gate)` are those of the samples to be predicted; or `(B, T or 1, gate)` in turn
        for each layer, which then takes no more memory than one layer's.

        Shape: `(B, T, residual)` -> `(B, outputs, T - receptive_field + 1)`.
        """
        gated = []
        for block, context, block_biases in zip(self.blocks, self.contexts, self._by_block(biases), strict=True):
            length = x.shape[1] - context
            if block_biases is not None and block_biases.shape[1] > 1:
                block_biases = block_biases[:, block_biases.shape[1] - length :]
            x, activations = self._run(block, x, block_biases, context)
            gated.append(activations)
        length = x.shape[1]
        return self._project([activations[:, activations.shape[1] - length :] for activations in gated])

    def advance(self, symbols: Tensor, state: State, conditioning: Conditioning | None = None) -> tuple[Tensor, State]:
        """Take in a chunk: symbols `(B, T)` -> parameters `(B, parameters, T)` and the state after it."""
        check_symbols(symbols)
        conditioning, length = conditioning or self.condition(symbols.shape[0]), symbols.shape[1]
        samples = torch.cat([state.samples, self.distribution.decode(symbols).to(state.samples)], dim=1)
        x, prediction = self._inputs(samples, state.time, conditioning)
        starts = [state.time + 1] * len(self.blocks)
        biases = self._lazy_biases(conditioning, state.time + 1, state.time + 1 + length, starts)
        outputs, queues = self.respond_after(x, state.queues, biases)
        after = State(state.time + length, samples[:, length:].clone(), queues)
        return self.distribution.place(outputs, prediction), after

    def respond_after(
        self, x: Tensor, queues: Sequence[Tensor], biases: Tensor | Iterator[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """`respond` with each block's queue before `x`: `(B, T, residual)` -> `(B, outputs, T)`, the new queues."""
        gated, after = [], []
        for block, block_biases, queue in zip(self.blocks, self._by_block(biases), queues, strict=True):
            x = torch.cat([queue, x], dim=1)
            after.append(x[:, x.shape[1] - queue.shape[1] :].clone())
            x, activations = self._run(block, x, block_biases, queue.shape[1])
            gated.append(activations)
        return self._project(gated), after

    def _run(self, block: nn.Module, x: Tensor, biases: Tensor | None, context: int) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor]
        if self.recompute and torch.is_grad_enabled():
            result = checkpoint(block, x, biases, use_reentrant=False)
        else:
            result = block(x, biases)
        if type(block) is not ResidualBlock:
            rows = x.shape[0], x.shape[1] - context
            check_block_output(block, result, rows, x.shape[2], self.config.gate_channels // 2)
        return result

    def _inputs(self, samples: Tensor, start: int, conditioning: Conditioning) -> tuple[Tensor, Prediction | None]:
        """Embed samples `(B, history + T)`, the last T from time `start` on: `(B, T, residual)`.

        Also gives the prediction of the sample after each of the T, if the model predicts.
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

    def biases(self, conditioning: Conditioning, start: int, stop: int) -> Tensor | None:
        """The conditioner's biases of samples `start` to `stop - 1`, `(B, T or 1, layers * gate)`, if there is one."""
        if self.conditioner is None:
            return None
        biases: Tensor = self.conditioner(conditioning, start, stop)
        if type(self.conditioner) is not Conditioner:
            check_biases(self.conditioner, biases, stop - start, len(self.blocks) * self.config.gate_channels)
        return biases

    @property
    def frame_conditioner(self) -> Conditioner | None:
        """The conditioner, if it is the package's own and computes the biases of frames."""
        own = self.conditioner if type(self.conditioner) is Conditioner else None
        return None if own is None or not own.by_frame else own

    def _lazy_biases(
        self, conditioning: Conditioning, start: int, stop: int, starts: Sequence[int]
    ) -> Tensor | Iterator[Tensor] | None:
        """`biases`; or, if they are upsampled from those of frames, each layer's in turn, from its one of `starts`."""
        if self.frame_conditioner is None:
            return self.biases(conditioning, start, stop)
        return self.frame_conditioner.by_layer(conditioning, starts, stop)

    def _by_block(self, biases: Tensor | Iterator[Tensor] | None) -> Iterable[Tensor | None]:
        if isinstance(biases, Tensor):
            return torch.split(biases, self.config.gate_channels, dim=2)
        return [None] * len(self.blocks) if biases is None else biases

    def _project(self, gated: list[Tensor]) -> Tensor:
        """All skip connections in one product, then the head: `(B, T, gate / 2)` each -> `(B, outputs, T)`."""
        skip = self.skip(torch.cat(gated, dim=2))
        hidden = functional.relu(self.head(functional.relu(skip)))
        with torch.autocast(hidden.device.type, enabled=False):  # outputs in bfloat16 would blur a mixture's means
            outputs: Tensor = self.output(hidden.to(self.output.weight.dtype))
        return outputs.transpose(1, 2)

    @torch.no_grad()
    def silent_state(self, batch: int = 1, conditioning: Conditioning | None = None) -> State:
        """The state after endless silence, before the first input that the clip's first frames reach.

        Before that time the conditioning is that of silence too, so everything is constant and each queue repeats one
        vector.
        """
        conditioning = conditioning or self.condition(batch)
        silence = torch.full((batch, self.history + 1), self.distribution.silence, device=self.device)
        samples = self.distribution.decode(silence).to(self.output.weight.dtype)
        time = -1 - (0 if self.conditioner is None else self.alignment.run_up)
        x, _ = self._inputs(samples, time - 1, conditioning)
        queues = []
        by_block = self._by_block(self.biases(conditioning, time, time + 1))
        for block, context, biases in zip(self.blocks, self.contexts, by_block, strict=True):
            x = x.expand(-1, context + 1, -1)
            queues.append(x[:, 1:].clone())
            x, _ = block(x, biases)
        return State(time, samples[:, : self.history].clone(), queues)

    @torch.no_grad()
    def initial_state(self, batch: int = 1, conditioning: Conditioning | None = None) -> State:
        """The state after endless silence; the next sample to come in is the last one before the clip."""
        conditioning = conditioning or self.condition(batch)
        state = self.silent_state(batch, conditioning)
        silence = torch.full((batch, -1 - state.time), self.distribution.silence, device=self.device)
        return self.advance(silence, state, conditioning)[1] if silence.shape[1] else state

    def encode(self, waveform: Tensor) -> Tensor:
        """A waveform in [-1, 1] `(B, T)` to symbols `(B, T)`; with pre-emphasis if the model has it.

        Raises `ValueError` if it is not finite floating point, or in another unit: its peak is over 2.
        """
        check_waveform(waveform)
        check_level(waveform)
        return self.encode_unchecked(full_precision(waveform))

    def encode_unchecked(self, waveform: Tensor) -> Tensor:
        """`encode` without its checks, which would make a step of training wait for the device."""
        if self.config.pre_emphasis:
            waveform = torchaudio.functional.preemphasis(waveform, self.config.pre_emphasis)
        return self.distribution.encode(waveform)

    def decode(self, symbols: Tensor, previous: Tensor | None = None) -> Tensor:
        """Symbols `(B, T)` to a float32 waveform `(B, T)`; undoes pre-emphasis, going on from `previous` `(B,)`.

        The waveform is not clipped, so that a chunk's last sample can be the next chunk's `previous`.
        """
        waveform = self.distribution.decode(symbols)
        if not self.config.pre_emphasis:
            return waveform
        if previous is not None:
            waveform[:, 0] += self.config.pre_emphasis * previous
        feedback, forward = torch.tensor([1.0, -self.config.pre_emphasis]), torch.tensor([1.0, 0.0])
        # sample after sample, so on the CPU; a GPU would round the waveform to TF32 besides
        restored: Tensor = torchaudio.functional.lfilter(waveform.cpu(), feedback, forward, clamp=False)
        return restored.to(waveform.device)

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write a model file (safetensors) that `from_pretrained` reads; an existing file is replaced.

        Parametrized weights are written as they are computed. Raises `ValueError` if `from_pretrained` would refuse the
        file, such as for weights that are not finite.
        """
        expected = None
        if not self.own_parts and type(self) is WaveNet:
            with torch.device("meta"):
                expected = WaveNet(self.config).state_dict()
        write_model(path, self.config, plain_state(self), expected, self.own_parts, self.feature_statistics)

    @classmethod
    @torch.inference_mode(mode=False)
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        block: BlockFactory | None = None,
        conditioner: ConditionerFactory | None = None,
        distributions: Sequence[type[Distribution]] = (),
    ) -> Self:
        """Read a model file, or the shipped model of that name (see `shipped_models`), in evaluation mode on the CPU.

        A model with custom parts is read with them: the `block` and `conditioner` that it was built with, and the class
        of its distribution among `distributions`. Raises `FileNotFoundError` if there is no such model, `ValueError` if
        the file is no whole one, or if it needs a part that was not given.
        """
        path = model_path(path)
        tensors, metadata = read_model_file(path)
        given: dict[str, Any] = {"block": block, "conditioner": conditioner}
        for name, own in metadata.get("own_parts", {}).items():
            if given[name] is None:
                raise ValueError(f"{path} has a custom {name}, {own}; pass {name}={own} to from_pretrained")
        config = read_config(path, metadata.get("config"), distributions)
        parts = {name: part for name, part in given.items() if part is not None}
        with torch.device("cpu" if parts else "meta"):  # buffers of custom parts may not be in the file
            model = cls(config, **parts)
        load_tensors(model, tensors, path)
        model.feature_statistics = read_statistics(path, metadata.get("features"))
        return model.eval()
