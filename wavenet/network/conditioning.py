"""Conditioning: on labels such as the speaker (global) and on features, frame by frame (local).

WaveNet paper, section 2.5: the gates of every layer get a bias from the labels and a time series from the features.
One product, the projection, gives the biases of all layers before the layers run: of each sample, after the upsampler;
or of each frame, before the upsampler. There are far fewer frames than samples, so a projection of frames and a wide
context network cost next to nothing.

`alignment.py` says where frames lie. The bias of sample t is made of the frames around it, up to `look_ahead` beyond
the one at or before t. Beyond a clip's own frames there is silence.

    frames       f-2   f-1    f    f+1   f+2   f+3
    context net   `-----`-----+-----'-----'      context_frames = 2 to either side
    upsampler                 f . t . f+1        between two frames: look_ahead = context_frames + 1
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavenet.network.alignment import Alignment
from wavenet.network.embedding import LabelEmbedding
from wavenet.network.features import LogMelConfig, log_mel_refusal
from wavenet.network.quantize import check_dense
from wavenet.network.settings import STRICT, check_whole
from wavenet.network.upsample import UPSAMPLERS, FrameUpsampler, InterpolatingUpsampler, TransposedUpsampler

_SCALES = (10, 20)
_CHANNELS = {"samples": {"channels": 32, "context_channels": 96}, "frames": {"channels": 256, "context_channels": 256}}
_UPSAMPLERS = {"samples": tuple(UPSAMPLERS), "frames": ("transposed", "linear")}
"""What goes with each `projection`."""


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig:
    """How features become biases: a context network over `2 * context_frames + 1` frames, an upsampler, a projection.

    The context network has `context_channels` inside and `channels` at its end. With `projection = "samples"` the
    upsampler comes first, and the projection makes the biases of each sample. The upsampler is `"transposed"` or
    `"interpolation"`, and the product of its `scales` must be the features' hop. With `projection = "frames"` the
    projection makes the biases of each frame, and the upsampler comes last. It is `"transposed"`, which learns one
    kernel for all biases, or `"linear"`, and has no `scales`. Channels that are `None` become 32, and 96 inside; with
    `"frames"`, 256 each.
    """

    __pydantic_config__ = STRICT

    projection: Literal["samples", "frames"] = "samples"
    channels: int | None = None
    context_channels: int | None = None
    context_frames: int = 2
    upsampler: Literal["transposed", "interpolation", "linear"] = "transposed"
    scales: tuple[int, ...] = _SCALES

    def __post_init__(self) -> None:
        if self.projection not in _UPSAMPLERS:
            raise ValueError(f"projection is {self.projection!r}; expected {' or '.join(_UPSAMPLERS)}")
        if self.upsampler not in _UPSAMPLERS[self.projection]:
            expected = " or ".join(_UPSAMPLERS[self.projection])
            raise ValueError(f"upsampler is {self.upsampler!r}; a projection of {self.projection} needs {expected}")
        if self.projection == "frames" and self.scales != _SCALES:
            raise ValueError(f"scales are {list(self.scales)}; a projection of frames needs none: leave them out")
        for name, default in _CHANNELS[self.projection].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        check_whole(self, channels=(1, 4096), context_channels=(1, 4096), context_frames=(0, 4096))
        if not self.scales or len(self.scales) > 16 or not all(1 <= scale <= 4096 for scale in self.scales):
            raise ValueError(f"scales are {list(self.scales)}; expected one to 16 numbers from 1 to 4096")


@dataclass(frozen=True)
class Conditioning:
    """The conditioning of a batch of clips, as `WaveNet.condition` checks and makes it.

    `labels`: rows of the model's table of labels, `(B,)`, or `(B, kinds)` if there are several kinds of label; or
    speakers' vectors `(B, speaker_channels)`. `features`: `(B, bins + tracks, F)`, the tracks in the range of features,
    frames `first_frame` to `first_frame + F - 1` of the clips; all other frames have the value `silence`.
    """

    labels: Tensor | None = None
    features: Tensor | None = None
    silence: float = 0.0
    first_frame: int = 0

    def frames(self, start: int, stop: int) -> Tensor:
        """Frames `start` to `stop - 1`; those not given are silence: `(B, bins + tracks, stop - start)`."""
        assert self.features is not None
        first, last = self.first_frame, self.first_frame + self.features.shape[2]
        inside = self.features[:, :, max(start - first, 0) : max(min(stop, last) - first, 0)]
        before = min(max(first - start, 0), stop - start)
        after = stop - start - before - inside.shape[2]
        return functional.pad(inside, (before, after), value=self.silence)


ClipLabels = Mapping[str, str] | Sequence[Mapping[str, str]]
"""Labels by kind, of all clips of a batch, or of each."""


def check_labels(
    speaker: str | Sequence[str] | Tensor | None,
    labels: ClipLabels | None,
    batch: int,
    known: Mapping[str, Sequence[str]],
    channels: int | None,
) -> Tensor | None:
    """Rows of a model's table of labels, `(B,)` or `(B, kinds)`; or speakers' vectors `(B, channels)`.

    Raises `ValueError` if the model does not know a label.
    """
    if labels is None and not known:
        return _check_vectors(speaker, batch, channels)
    if isinstance(labels, str):
        raise ValueError(f"labels is {labels!r}; expected names by kind, such as {{'speaker': 'ann'}}")
    by_clip = [labels] * batch if isinstance(labels, Mapping) else list(labels or [{}] * batch)
    for clip in by_clip:
        if not isinstance(clip, Mapping):
            raise ValueError(
                f"labels has {clip!r}; expected names by kind, such as {{'speaker': 'ann'}}, for each clip"
            )
        if speaker is not None and "speaker" in clip:
            raise ValueError("speaker is given, and labels has a speaker too; leave one out")
    if len(by_clip) != batch:
        raise ValueError(f"labels of {len(by_clip)} clips given for a batch of {batch}")
    for kind in sorted({kind for clip in by_clip for kind in clip} - known.keys()):
        others = f", only {', '.join(known)}" if known else ""
        raise ValueError(f"a {kind} is given, and the model knows no {kind}s{others}; leave it out")
    if not known:
        return _check_vectors(speaker, batch, channels)
    if speaker is not None and "speaker" not in known:
        raise ValueError("speaker is given, and the model knows no speakers; leave it out")
    columns, rows = [], 0
    for kind, names in known.items():
        values = _values_by_clip(kind, speaker, by_clip, names)
        columns.append([rows + names.index(value) for value in values])
        rows += len(names)
    index = torch.tensor(columns).T
    return index[:, 0] if len(columns) == 1 else index


def _values_by_clip(
    kind: str, speaker: str | Sequence[str] | Tensor | None, labels: Sequence[Mapping[str, str]], names: Sequence[str]
) -> list[str]:
    """The value of one kind of label for each clip, one of `names`; speakers may be given apart."""
    values: Sequence[object] = [clip.get(kind) for clip in labels]
    if kind == "speaker" and speaker is not None:
        if isinstance(speaker, Tensor):
            raise ValueError(f"the model needs a speaker by name; it knows {', '.join(names)}")
        if isinstance(speaker, bytes) or not isinstance(speaker, Iterable):
            raise ValueError(f"speaker is {speaker!r}; expected a name, or one for each clip: {', '.join(names)}")
        values = [speaker] * len(labels) if isinstance(speaker, str) else list(speaker)
        if len(values) != len(labels):
            raise ValueError(f"{len(values)} speakers given for a batch of {len(labels)}")
    for value in values:
        if value is None:
            raise ValueError(f"the model needs a {kind} by name; it knows {', '.join(names)}")
        if value not in names:
            raise ValueError(f"{kind} {value!r} is unknown; the model knows {', '.join(names)}")
    return [str(value) for value in values]


def _check_vectors(speaker: str | Sequence[str] | Tensor | None, batch: int, channels: int | None) -> Tensor | None:
    if channels is None:
        if speaker is not None:
            raise ValueError("speaker is given, and the model knows no speakers; leave it out")
        return None
    if (
        not isinstance(speaker, Tensor)
        or not speaker.is_floating_point()
        or speaker.shape not in ((channels,), (batch, channels))
    ):
        found = f"{speaker.dtype} {tuple(speaker.shape)}" if isinstance(speaker, Tensor) else speaker
        raise ValueError(
            f"speaker is {found}; the model knows no speakers by name and needs a vector ({channels},) or "
            f"({batch}, {channels})"
        )
    if not bool(speaker.isfinite().all()):
        raise ValueError("speaker has values that are not finite (NaN or infinity)")
    return speaker.expand(batch, channels)


def check_features(
    features: Tensor | Sequence[Tensor] | None, batch: int, config: LogMelConfig | None
) -> list[Tensor] | None:
    """The features of each clip, `(bins, F)`; `ValueError` where they do not fit."""
    if config is None:
        if features is not None:
            raise ValueError("features are given, and the model is not conditioned on features; leave them out")
        return None
    if features is None:
        raise ValueError(f"features are missing; the model needs a tensor ({config.bins}, frames)")
    if (
        not isinstance(features, Tensor | Sequence)
        or isinstance(features, str)
        or (isinstance(features, Tensor) and features.dim() not in (2, 3))
    ):
        found = f"of shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
        raise ValueError(
            f"features are {found}; expected a tensor ({config.bins}, frames), as torch.from_numpy makes of arrays"
        )
    if isinstance(features, Tensor):
        check_dense(features, "features")
    if isinstance(features, Tensor) and features.dim() == 2:
        features = features.expand(batch, -1, -1)
    clips = list(features)
    if len(clips) != batch or not clips:
        raise ValueError(f"features of {len(clips)} clips given for a batch of {batch}")
    for clip in clips:
        if not isinstance(clip, Tensor):
            raise ValueError(f"features hold a {type(clip).__name__}; expected tensors, as torch.from_numpy makes")
        if clip.dim() != 2 or clip.shape[0] != config.bins or clip.shape[1] == 0:
            hint = "; transpose them" if clip.dim() == 2 and clip.shape[1] == config.bins else ""
            raise ValueError(f"features have shape {tuple(clip.shape)}; the model needs ({config.bins}, frames){hint}")
        wrong = log_mel_refusal(clip, config)
        if wrong is not None:
            raise ValueError(f"features have {wrong}")
    return clips


def stack_frames(clips: Sequence[Tensor], silence: float) -> Tensor:
    """Frames `(rows, F)` of each clip to `(B, rows, F)`, the shorter clips' padded with silence."""
    longest = max(clip.shape[1] for clip in clips)
    return torch.stack([functional.pad(clip, (0, longest - clip.shape[1]), value=silence) for clip in clips])


class Conditioner(nn.Module):
    """Conditioning -> biases of all layers, `(B, T, biases)`.

    If `by_frame`, the projection makes the biases of frames, and the upsampler comes last. A custom module in the place
    of this one has the same `forward`, and an `alignment` whose `hop` and `reach` give the frames from which a sample's
    biases are computed.
    """

    def __init__(
        self,
        config: ConditioningConfig,
        features: LogMelConfig | None,
        labels: int,
        speaker_channels: int | None,
        biases: int,
        tracks: int = 0,
    ) -> None:
        super().__init__()
        self.alignment = Alignment()
        self.table = LabelEmbedding(labels, speaker_channels) if labels and speaker_channels else None
        self.speaker = nn.Linear(speaker_channels, biases, bias=False) if speaker_channels else None
        self.local: nn.Linear | None = None
        self.by_frame = features is not None and config.projection == "frames"
        if features is not None:
            self.spread = features.spread
            channels, inside = config.channels, config.context_channels
            assert channels is not None
            assert inside is not None
            first = nn.Conv1d(features.bins + tracks, inside, 2 * config.context_frames + 1)
            second = nn.Conv1d(inside, channels, 1)
            self.upsampler: FrameUpsampler | TransposedUpsampler | InterpolatingUpsampler
            if self.by_frame:
                self.context = nn.Sequential(first, nn.GELU(), second, nn.GELU())
                self.upsampler = FrameUpsampler(features.hop, learned=config.upsampler == "transposed")
            else:
                self.context = nn.Sequential(first, nn.Tanh(), second)
                self.upsampler = UPSAMPLERS[config.upsampler](channels, config.scales)
            self.local = nn.Linear(channels, biases, bias=False)
            self.alignment = Alignment(hop=features.hop, reach=config.context_frames + self.upsampler.margin)

    def forward(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
        """The biases of samples `start` to `stop - 1`: `(B, T, biases)`, or `(B, 1, biases)` without features."""
        (biases,) = self.by_layer(conditioning, [start], stop)
        return biases

    def by_layer(self, conditioning: Conditioning, starts: Sequence[int], stop: int) -> Iterator[Tensor]:
        """`forward` from one of `starts` for each layer, `(B, T or 1, biases / layers)`, made when it is asked for."""
        speaker, parts = self.speaker_biases(conditioning), []
        if speaker is not None:
            parts.append(iter(speaker.chunk(len(starts), dim=2)))
        if self.local is not None:
            parts.append(self._local_biases(conditioning, starts, stop))
        for part, *others in zip(*parts, strict=True):
            yield sum(others, start=part)

    def speaker_biases(self, conditioning: Conditioning) -> Tensor | None:
        """The part of the biases that comes from the speaker, `(B, 1, biases)`, if there is one."""
        vector = self.vector(conditioning)
        if self.speaker is None or vector is None:
            return None
        biases: Tensor = self.speaker(vector)
        return biases[:, None]

    def vector(self, conditioning: Conditioning) -> Tensor | None:
        """What the model knows of a whole clip, `(B, speaker_channels)`, if there is anything."""
        if self.speaker is None:
            return None
        assert conditioning.labels is not None
        if self.table is None:
            return conditioning.labels
        vectors: Tensor = self.table(conditioning.labels)
        return vectors if vectors.dim() == 2 else vectors.sum(dim=1)

    def frame_biases(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
        """The part of the biases that comes from frames `start` to `stop - 1`, `(B, F, biases)`; only if `by_frame`."""
        return self._projected(self._context(conditioning, start, stop))

    def shares(self) -> Tensor:
        """The shares of a frame's biases and of the next one's at each sample from it on, `(hop, 2)`; if `by_frame`."""
        assert isinstance(self.upsampler, FrameUpsampler)
        assert self.local is not None
        return self.upsampler.shares(self.local.weight.detach()).detach()

    def _local_biases(self, conditioning: Conditioning, starts: Sequence[int], stop: int) -> Iterator[Tensor]:
        hop, earliest = self.alignment.hop, min(starts)
        first, after = self.alignment.frames_between(earliest, stop)
        if self.by_frame:
            frames = self.frame_biases(conditioning, first, after)
            for start, own in zip(starts, frames.chunk(len(starts), dim=2), strict=True):
                points = self.upsampler(own[:, start // hop - first :])
                torch._check(start % hop + stop - start <= points.shape[1])  # torch.export cannot infer it
                yield points[:, start % hop : start % hop + stop - start]
        else:
            points, skipped = self.upsampler(self._context(conditioning, first, after)), earliest % hop
            torch._check(skipped + stop - earliest <= points.shape[2])
            biases = self._projected(points[:, :, skipped : skipped + stop - earliest])
            for start, own in zip(starts, biases.chunk(len(starts), dim=2), strict=True):
                yield own[:, start - earliest :]

    def _context(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
        """The context network's outputs for frames `start` to `stop - 1` and the upsampler's margin around them."""
        reach = self.alignment.reach or 0
        context: Tensor = self.context(conditioning.frames(start - reach, stop + reach) / self.spread + 1)
        return context

    def _projected(self, x: Tensor) -> Tensor:
        """`(B, channels, T)` -> `(B, T, biases)`"""
        assert self.local is not None
        biases: Tensor = self.local(x.transpose(1, 2))
        return biases
