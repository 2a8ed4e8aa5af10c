"""Streams: audio as it is made, that can pause, be copied, saved and resumed; and features that arrive in pieces."""

import json
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from wavenet.atomic import write_atomically
from wavenet.engines import EngineOptions, EngineState, ResumableEngine, make_engine
from wavenet.network import Conditioning, SamplingOptions, State, WaveNet, as_given, whole_number

_FORMAT = "stream state, version 1"
_CHUNK = 800
"""Samples of a chunk. The audio does not depend on it."""


@dataclass(frozen=True)
class Generated:
    """`audio`: float32, `(B, T)`. `log_probs`: the model's log-probability of each sample, in nats, `(B, T)`."""

    audio: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class StreamState:
    """Everything a stream's future depends on, beside its model and settings: tensors, safe to keep and to copy.

    `previous` `(B,)` is the last sample, from which pre-emphasis goes on. `randomness` is the state of each generator.
    `features` `(B, bins, F)` are the frames that are still needed, from `first_frame` on.
    """

    engine: EngineState
    previous: Tensor
    randomness: tuple[Tensor, ...]
    features: Tensor | None = None
    first_frame: int = 0
    ended: bool = False

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `load` reads; an existing file is replaced."""
        network = self.engine.network
        tensors = {"latest": self.engine.latest, "samples": network.samples, "previous": self.previous}
        tensors |= {f"queue.{layer:04}": queue for layer, queue in enumerate(network.queues)}
        tensors |= {f"random.{row:08}": state for row, state in enumerate(self.randomness)}
        tensors |= {} if self.features is None else {"features": self.features}
        header = {"format": _FORMAT, "time": network.time, "first_frame": self.first_frame, "ended": self.ended}
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(path, save(contiguous, metadata={"stream": json.dumps(header)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "StreamState":
        """Read what `save` wrote. Raises `FileNotFoundError`, or `ValueError` if it is no whole state."""
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such stream state")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["stream"])
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}; this version reads {_FORMAT!r}")
            queues = [tensor for name, tensor in tensors.items() if name.startswith("queue.")]
            network = State(int(header["time"]), tensors["samples"], queues)
            return cls(
                engine=EngineState(tensors["latest"], network),
                previous=tensors["previous"],
                randomness=tuple(tensor for name, tensor in tensors.items() if name.startswith("random.")),
                features=tensors.get("features"),
                first_frame=int(header["first_frame"]),
                ended=bool(header["ended"]),
            )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is not a stream state, or not a whole one ({error})") from error


class Stream:
    """A batch of streams whose conditioning is known. `take` makes the next samples of each.

    Stream i draws its uniforms from a generator seeded with `seed + i`, or with `seed[i]`. `engine` is an engine's name
    or `EngineOptions`. `take(a)` and then `take(b)` give what `take(a + b)` gives, to the bit on the native engine.
    """

    def __init__(
        self,
        model: WaveNet,
        conditioning: Conditioning | None = None,
        options: SamplingOptions | None = None,
        *,
        batch: int = 1,
        seed: int | Sequence[int] = 0,
        engine: str | EngineOptions = "auto",
    ) -> None:
        model, batch = as_given(model, WaveNet), check_count("batch", batch)
        try:
            seeds = list(map(operator.index, seed)) if isinstance(seed, Iterable) else [operator.index(seed)]
        except TypeError as error:
            raise ValueError(f"seed is {seed!r}; expected a whole number, or one for each stream") from error
        seeds = seeds if isinstance(seed, Iterable) else [seeds[0] + row for row in range(batch)]
        if len(seeds) != batch:
            raise ValueError(f"seed has {len(seeds)} entries; batch is {batch}")
        if not all(-(2**63) <= row_seed < 2**64 for row_seed in seeds):
            raise ValueError(f"seed is {seed}; expected -2^63 to 2^64 - {batch}")
        self.model, self.options, self.batch = model, options or SamplingOptions(), batch
        self.conditioning = conditioning or model.condition(batch)
        self.generators = [torch.Generator().manual_seed(row_seed) for row_seed in seeds]
        self.engine_options, self.engine = engine, make_engine(engine, model, batch, self.conditioning)
        self._begun, self.previous = False, torch.zeros(batch, device=model.device)

    def prime(self, symbols: Tensor | Sequence[Tensor]) -> None:
        """Take in existing audio as symbols `(B, T)`; what follows continues it.

        Before any other, a stream takes rows `(T,)` of different lengths too, if they differ by multiples of `period`:
        the endless silence before the shorter ones lasts so much longer.
        """
        rows = list(symbols)
        longest = max(map(len, rows))
        if self._begun and any(len(row) < longest for row in rows):
            raise ValueError("primes differ in length, and the stream has begun; expected rows of one length, (B, T)")
        if any((longest - len(row)) % (self.period or longest) for row in rows):
            lengths, step = ", ".join(str(len(row)) for row in rows), self.period
            expected = f"lengths that differ by multiples of {step}" if step else "one length, because of the features"
            raise ValueError(f"primes have {lengths} samples; expected {expected}, or a stream for each")
        silence = self.model.distribution.silence
        self.engine.prime(torch.stack([functional.pad(row, (longest - len(row), 0), value=silence) for row in rows]))
        ends = [self.model.decode(row[None], last) for row, last in zip(rows, self.previous[:, None], strict=True)]
        self._begun, self.previous = True, torch.cat([end[:, -1] for end in ends])

    @property
    def period(self) -> int | None:
        """A clip may begin later by multiples of so many samples, and be the same; `None` with features."""
        return None if self.conditioning.features is not None else self.model.alignment.grid

    def part(self, rows: Sequence[int]) -> "Stream":
        """Some of the streams, in a new batch, all from their beginning."""
        labels, features = self.conditioning.labels, self.conditioning.features
        part = replace(
            self.conditioning,
            labels=None if labels is None else labels[list(rows)],
            features=None if features is None else features[list(rows)],
        )
        seeds = [self.generators[row].initial_seed() for row in rows]
        return Stream(self.model, part, self.options, batch=len(rows), seed=seeds, engine=self.engine_options)

    def take(self, samples: int) -> Generated:
        """The next `samples` of each stream, not clipped. Raises `ValueError` if the model's weights are damaged."""
        samples = check_count("samples", samples)
        rows = [torch.rand(samples, generator=generator, dtype=torch.float32) for generator in self.generators]
        uniforms = torch.stack(rows)
        symbols, log_probs = self.engine.run(uniforms.to(self.model.device), self.options)
        if not bool(log_probs.isfinite().all()):
            raise ValueError("the model gives its own sample no finite likelihood; its weights are damaged or diverged")
        audio = self.model.decode(symbols, self.previous)
        self._begun, self.previous = True, audio[:, -1]
        return Generated(audio, log_probs)

    def chunks(self, samples: int | None = None) -> Iterator[Generated]:
        """The next `samples` of each stream in chunks, clipped to [-1, 1]; without end if it is `None`."""
        while samples is None or samples > 0:
            piece = self.take(_CHUNK if samples is None else min(_CHUNK, samples))
            yield Generated(piece.audio.clamp(-1, 1), piece.log_probs)
            samples = None if samples is None else samples - _CHUNK

    def state(self) -> StreamState:
        """The state of the streams. Raises `ValueError` with the naive engine, which cannot pause."""
        randomness = tuple(generator.get_state() for generator in self.generators)
        return StreamState(_resumable(self.engine).state(), self.previous.clone(), randomness)

    def load(self, state: StreamState) -> None:
        """Go on from a state of a stream of the same model. Raises `ValueError` if it does not fit."""
        engine = _resumable(self.engine)
        if state.features is not None:
            raise ValueError("the state belongs to a stream of features; use FeatureStream")
        _check_state(state, self.model, self.batch)
        self._load(state, engine)

    def _load(self, state: StreamState, engine: ResumableEngine) -> None:
        generators = [_generator(randomness) for randomness in state.randomness]
        device, network = self.model.device, state.engine.network
        queues = [queue.to(device) for queue in network.queues]
        engine.load(
            EngineState(state.engine.latest.to(device), State(network.time, network.samples.to(device), queues))
        )
        self._begun, self.previous = True, state.previous.to(device, copy=True)
        self.generators = generators


class FeatureStream:
    """One stream whose features arrive in pieces. `push` gives the audio that the frames so far allow.

    A sample waits for the frames it is made of and no others: `model.alignment.look_ahead` frames beyond its own.
    Memory does not grow. `speaker` and `labels` are what `WaveNet.condition` takes.
    """

    def __init__(
        self,
        model: WaveNet,
        *,
        speaker: str | Tensor | None = None,
        labels: Mapping[str, str] | None = None,
        options: SamplingOptions | None = None,
        seed: int = 0,
        engine: str | EngineOptions = "auto",
    ) -> None:
        model = as_given(model, WaveNet)
        features = model.config.features
        if model.conditioner is None or features is None:
            raise ValueError("the model is not conditioned on features; use Stream")
        self.model, self.alignment = model, model.alignment
        self._condition = partial(model.condition, speaker=speaker, labels=labels)
        self._ended, self._bins, tracks = False, features.bins, len(model.config.tracks)
        before = torch.zeros(tracks, 1) if tracks else None
        self._frames = self._condition(features=torch.full((features.bins, 1), features.silence), tracks=before)
        self._stream = Stream(model, self._frames, options, seed=seed, engine=engine)
        self._resumable.load_silence()
        assert self._frames.features is not None
        self._frames = replace(self._frames, features=self._frames.features[:, :, :0])

    @property
    def arrived(self) -> int:
        """Frames pushed so far."""
        assert self._frames.features is not None
        return self._frames.first_frame + self._frames.features.shape[2]

    @property
    def made(self) -> int:
        """Samples given so far."""
        return max(0, self._resumable.time + 1)

    def push(self, frames: Tensor, tracks: Tensor | None = None) -> Tensor:
        """Take in frames `(bins, F)`; gives the audio that can now be made, float32 in [-1, 1], `(T,)`, T often 0.

        A model with tracks needs their values at these frames, `(tracks, F)`.
        """
        if self._ended:
            raise ValueError("the stream is finished; start another one")
        if not isinstance(frames, Tensor) or frames.dim() != 2:
            found = f"of shape {tuple(frames.shape)}" if isinstance(frames, Tensor) else type(frames).__name__
            raise ValueError(f"frames are {found}; expected a tensor ({self._bins}, frames)")
        if frames.shape[1] == 0:
            return torch.zeros(0, device=self.model.device)
        new = self._condition(features=frames, tracks=tracks).features
        assert new is not None
        assert self._frames.features is not None
        self._frames = replace(self._frames, features=torch.cat([self._frames.features, new], dim=2))
        return self._make(self.alignment.samples_ready(self.arrived))

    def finish(self) -> Tensor:
        """End the features; gives the rest of the audio, `(T,)`. In all there are hop samples for each frame."""
        self._ended = True
        return self._make(self.arrived * self.alignment.hop)

    def _make(self, until: int) -> Tensor:
        """Go on to that sample. The silence before the clip is taken in as frames arrive, so that audio is not late."""
        self._resumable.conditioning = self._frames
        self._resumable.run_up(max(0, min(until, 0) - self._resumable.time - 1))
        audio = torch.zeros(0, device=self.model.device)
        if until > self.made:
            audio = self._stream.take(until - self.made).audio[0].clamp(-1, 1)
        self._forget()
        return audio

    def _forget(self) -> None:
        """Drop the frames that no sample to come is made of."""
        assert self._frames.features is not None
        first = self.alignment.first_frame_after(self.made)
        kept = self._frames.features[:, :, first - self._frames.first_frame :].clone()
        self._frames = replace(self._frames, features=kept, first_frame=first)
        self._resumable.conditioning = self._frames

    @property
    def _resumable(self) -> ResumableEngine:
        return _resumable(self._stream.engine)

    def state(self) -> StreamState:
        """The state of the stream."""
        state = self._stream.state()
        frames = self._frames
        return replace(state, features=frames.features, first_frame=frames.first_frame, ended=self._ended)

    def load(self, state: StreamState) -> None:
        """Go on from a state of a stream of the same model. Raises `ValueError` if it does not fit."""
        frames = state.features
        if frames is None or frames.shape[:2] != (1, self._bins + len(self.model.config.tracks)):
            raise ValueError("the state does not belong to a stream of features for this model")
        _check_state(state, self.model, 1)
        self._frames = replace(self._frames, features=frames.to(self.model.device), first_frame=state.first_frame)
        self._resumable.conditioning = self._frames  # which linear prediction needs when the engine loads
        self._stream._load(state, self._resumable)
        self._ended = state.ended


def stream(
    model: WaveNet,
    num_samples: int | None = None,
    *,
    features: Iterable[Tensor] | None = None,
    speaker: str | Tensor | None = None,
    labels: Mapping[str, str] | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    engine: str | EngineOptions = "auto",
) -> Iterator[Tensor]:
    """Audio in chunks, `(T,)` each, float32 in [-1, 1], as soon as it can be made.

    `features` gives frames `(bins, F)`, any number at a time, and is asked for more only when those before are used up.
    A model without features goes on for `num_samples`, or for ever. Together the chunks are what `generate` gives for
    the same settings. `FeatureStream` and `Stream` are streams to pause and save.
    """
    options = SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    if features is not None:
        if num_samples is not None:
            raise ValueError("num_samples and features are both given; the features say how long to go on")
        if as_given(model, WaveNet).config.tracks:
            raise ValueError(
                f"the model takes the tracks {', '.join(model.config.tracks)}; use FeatureStream.push(frames, tracks)"
            )
        arriving = FeatureStream(model, speaker=speaker, labels=labels, options=options, seed=seed, engine=engine)
        return _as_frames_arrive(arriving, features)
    model = as_given(model, WaveNet)
    if num_samples is not None:
        num_samples = check_count("num_samples", num_samples)
    going_on = Stream(model, model.condition(speaker=speaker, labels=labels), options, seed=seed, engine=engine)
    return (piece.audio[0] for piece in going_on.chunks(num_samples))


def _as_frames_arrive(arriving: FeatureStream, features: Iterable[Tensor]) -> Iterator[Tensor]:
    for frames in features:
        audio = arriving.push(frames)
        if len(audio):
            yield audio
    audio = arriving.finish()
    if len(audio):
        yield audio


def check_count(name: str, count: int) -> int:
    """The argument `name` as an int; `ValueError` unless it is a whole number, at least 1."""
    return whole_number(name, count, 1)


def _generator(state: Tensor) -> torch.Generator:
    generator = torch.Generator()
    try:
        generator.set_state(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the state does not fit: it has no state of a generator ({error})") from error
    return generator


def _resumable(engine: object) -> ResumableEngine:
    if not isinstance(engine, ResumableEngine):
        raise ValueError("the naive engine cannot pause; use native, incremental or stepwise")
    return engine


def _check_state(state: StreamState, model: WaveNet, batch: int) -> None:
    """Raise `ValueError` unless the state has the shapes and the precision of `batch` streams of this model."""
    network, like = state.engine.network, model.output.weight
    found = [state.engine.latest, state.previous, network.samples, *network.queues]
    shapes = [(batch,), (batch,), (batch, model.history)]
    shapes += [(batch, context, model.config.residual_channels) for context in model.contexts]
    if [tuple(tensor.shape) for tensor in found] != shapes or len(state.randomness) != batch:
        raise ValueError(f"the state does not fit: it is of another model, or of another batch than {batch}")
    if any(tensor.dtype != like.dtype for tensor in (network.samples, *network.queues)):
        raise ValueError(f"the state does not fit: the model is in {like.dtype}, and the state is not")
