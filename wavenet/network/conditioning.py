"""Conditioning: on a speaker (global) and on features, frame by frame (local).

WaveNet paper, section 2.5: the gates of every layer get a bias from the speaker and a time series from the features.
One product gives the biases of all layers, before the layers run.

`alignment.py` says where frames lie. The bias of sample t is made of the frames around it, up to `look_ahead` beyond
the one at or before t. Beyond a clip's own frames there is silence.

    frames       f-2   f-1    f    f+1   f+2   f+3
    context net   `-----`-----+-----'-----'      context_frames = 2 to either side
    upsampler                 f . t . f+1        between two frames: look_ahead = context_frames + 1
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavenet.network.alignment import Alignment
from wavenet.network.features import LogMelConfig, log_mel_refusal
from wavenet.network.settings import STRICT, check_whole
from wavenet.network.upsample import UPSAMPLERS


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig:
    """How features become biases: a context network over `2 * context_frames + 1` frames, then an upsampler.

    The product of the upsampler's `scales` must be the features' hop.
    """

    __pydantic_config__ = STRICT

    channels: int = 32
    context_channels: int = 96
    context_frames: int = 2
    upsampler: Literal["transposed", "interpolation"] = "transposed"
    scales: tuple[int, ...] = (10, 20)

    def __post_init__(self) -> None:
        check_whole(self, channels=(1, 4096), context_channels=(1, 4096), context_frames=(0, 4096))
        if not self.scales or len(self.scales) > 16 or not all(1 <= scale <= 4096 for scale in self.scales):
            raise ValueError(f"scales are {list(self.scales)}; expected one to 16 numbers from 1 to 4096")


@dataclass(frozen=True)
class Conditioning:
    """The conditioning of a batch of clips, as `WaveNet.condition` checks and makes it.

    `speaker`: indices `(B,)` of the model's speakers, or vectors `(B, speaker_channels)`. `features`: `(B, bins, F)`,
    frames `first_frame` to `first_frame + F - 1` of the clips; all other frames have the value `silence`.
    """

    speaker: Tensor | None = None
    features: Tensor | None = None
    silence: float = 0.0
    first_frame: int = 0

    def frames(self, start: int, stop: int) -> Tensor:
        """Frames `start` to `stop - 1`; those not given are silence: `(B, bins, stop - start)`."""
        assert self.features is not None
        first, last = self.first_frame, self.first_frame + self.features.shape[2]
        inside = self.features[:, :, max(start - first, 0) : max(min(stop, last) - first, 0)]
        before = min(max(first - start, 0), stop - start)
        after = stop - start - before - inside.shape[2]
        return functional.pad(inside, (before, after), value=self.silence)


def check_speaker(
    speaker: str | Sequence[str] | Tensor | None, batch: int, names: Sequence[str], channels: int | None
) -> Tensor | None:
    """Indices `(B,)` of a model's speakers, or vectors `(B, channels)`.

    Raises `ValueError` if the model does not know a speaker.
    """
    if channels is None:
        if speaker is not None:
            raise ValueError("speaker is given, and the model knows no speakers; leave it out")
        return None
    if names:
        if not isinstance(speaker, str | Sequence):
            raise ValueError(f"the model needs a speaker by name; it knows {', '.join(names)}")
        chosen = [speaker] * batch if isinstance(speaker, str) else list(speaker)
        for name in chosen:
            if name not in names:
                raise ValueError(f"speaker {name!r} is unknown; the model knows {', '.join(names)}")
        if len(chosen) != batch:
            raise ValueError(f"{len(chosen)} speakers given for a batch of {batch}")
        return torch.tensor([names.index(name) for name in chosen])
    if not isinstance(speaker, Tensor) or speaker.shape not in ((channels,), (batch, channels)):
        found = tuple(speaker.shape) if isinstance(speaker, Tensor) else speaker
        raise ValueError(
            f"speaker is {found}; the model knows no speakers by name and needs a vector ({channels},) or "
            f"({batch}, {channels})"
        )
    if not bool(speaker.isfinite().all()):
        raise ValueError("speaker has values that are not finite (NaN or infinity)")
    return speaker.expand(batch, channels)


def check_features(
    features: Tensor | Sequence[Tensor] | None, batch: int, config: LogMelConfig | None
) -> Tensor | None:
    """Features `(B, bins, F)`, the shorter clips' padded with silence; `ValueError` where they do not fit."""
    if config is None:
        if features is not None:
            raise ValueError("features are given, and the model is not conditioned on features; leave them out")
        return None
    if features is None:
        raise ValueError(f"features are missing; the model needs a tensor ({config.bins}, frames)")
    if isinstance(features, Tensor) and features.dim() == 2:
        features = features.expand(batch, -1, -1)
    clips = list(features)
    if len(clips) != batch or not clips:
        raise ValueError(f"features of {len(clips)} clips given for a batch of {batch}")
    for clip in clips:
        if not isinstance(clip, Tensor):
            raise ValueError(f"features hold a {type(clip).__name__}; expected tensors, as torch.from_numpy makes")
        if clip.dim() != 2 or clip.shape[0] != config.bins or clip.shape[1] == 0:
            raise ValueError(f"features have shape {tuple(clip.shape)}; the model needs ({config.bins}, frames)")
        wrong = log_mel_refusal(clip)
        if wrong is not None:
            raise ValueError(f"features have {wrong}")
    longest = max(clip.shape[1] for clip in clips)
    return torch.stack([functional.pad(clip, (0, longest - clip.shape[1]), value=config.silence) for clip in clips])


class Conditioner(nn.Module):
    """Conditioning -> biases of all layers, `(B, T, biases)`.

    A custom module in its place has the same `forward`, and an `alignment` whose `hop` and `reach` give the frames from
    which a sample's biases are computed.
    """

    def __init__(
        self,
        config: ConditioningConfig,
        features: LogMelConfig | None,
        speakers: int,
        speaker_channels: int | None,
        biases: int,
    ) -> None:
        super().__init__()
        self.alignment = Alignment()
        self.table = nn.Embedding(speakers, speaker_channels) if speakers and speaker_channels else None
        self.speaker = nn.Linear(speaker_channels, biases, bias=False) if speaker_channels else None
        self.local: nn.Linear | None = None
        if features is not None:
            self.context = nn.Sequential(
                nn.Conv1d(features.bins, config.context_channels, 2 * config.context_frames + 1),
                nn.Tanh(),
                nn.Conv1d(config.context_channels, config.channels, 1),
            )
            self.upsampler = UPSAMPLERS[config.upsampler](config.channels, config.scales)
            self.local = nn.Linear(config.channels, biases, bias=False)
            self.alignment = Alignment(hop=features.hop, reach=config.context_frames + self.upsampler.margin)

    def forward(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
        """The biases of samples `start` to `stop - 1`: `(B, T, biases)`, or `(B, 1, biases)` without features."""
        parts = []
        if self.speaker is not None:
            assert conditioning.speaker is not None
            vectors = conditioning.speaker if self.table is None else self.table(conditioning.speaker)
            parts.append(self.speaker(vectors)[:, None])
        if self.local is not None:
            parts.append(self.local(self.upsampled(conditioning, start, stop).transpose(1, 2)))
        biases: Tensor = sum(parts[1:], start=parts[0])
        return biases

    def upsampled(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
        """The features at the sample rate, between context network and projection: `(B, channels, stop - start)`."""
        frames = conditioning.frames(*self.alignment.frames_around(start, stop))
        points: Tensor = self.upsampler(self.context(frames / _SPREAD + 1))
        skipped = start % self.alignment.hop
        torch._check(skipped + stop - start <= points.shape[2])  # torch.export cannot infer it
        return points[:, :, skipped : skipped + stop - start]


_SPREAD = 4.0
"""Log-mel features of speech have a mean near -4 and a spread near 4; this scaling normalises them."""
