"""What a model is told beside the past samples: who speaks (global) and how it sounds, frame by frame (local).

WaveNet paper, section 2.5: every layer's gates get a bias from the speaker, and a time series from the features.
All layers' biases come out of one product, ahead of the sequential part.

Time and frames: frame f lies at sample f * hop (`features.py`). The bias of sample t is made of the frames around
it, up to `look_ahead` beyond the one at or before t; before and after a clip's own frames there is silence.

    frames       f-2   f-1    f    f+1   f+2   f+3
    context net   `-----`-----+-----'-----'      context_frames = 2 to either side
    upsampler                 f . t . f+1        between two frames: look_ahead = context_frames + 1
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavenet.network.features import LogMelConfig, log_mel_refusal
from wavenet.network.upsample import UPSAMPLERS

__all__ = ["Conditioner", "Conditioning", "ConditioningConfig", "check_features", "check_speaker"]

_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig:
    """How features become biases: a context network over `2 * context_frames + 1` frames, then an upsampler.

    The product of the `scales` is the features' hop.
    """

    __pydantic_config__ = _STRICT

    channels: int = 32
    context_channels: int = 96
    context_frames: int = 2
    upsampler: Literal["transposed", "interpolation"] = "transposed"
    scales: tuple[int, ...] = (10, 20)

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("context_channels", 1), ("context_frames", 0)):
            if not least <= getattr(self, name) <= 4096:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {least} to 4096")
        if not self.scales or len(self.scales) > 16 or not all(1 <= scale <= 4096 for scale in self.scales):
            raise ValueError(f"scales are {list(self.scales)}; expected one to 16 numbers from 1 to 4096")


@dataclass(frozen=True)
class Conditioning:
    """A batch's conditioning, as `WaveNet.condition` checks and makes it.

    `speaker`: indices `(B,)` of the model's speakers, or vectors `(B, speaker_channels)`. `features`: `(B, bins, F)`,
    of which the first is frame `first_frame` of the clip; all others are silence.
    """

    speaker: Tensor | None = None
    features: Tensor | None = None
    silence: float = 0.0
    first_frame: int = 0

    def frames(self, start: int, stop: int) -> Tensor:
        """Frames `start` to `stop - 1`, whether given or silent: `(B, bins, stop - start)`."""
        assert self.features is not None
        first, last = self.first_frame, self.first_frame + self.features.shape[2]
        inside = self.features[:, :, max(start - first, 0) : max(min(stop, last) - first, 0)]
        before = min(max(first - start, 0), stop - start)
        after = stop - start - before - inside.shape[2]
        return functional.pad(inside, (before, after), value=self.silence)


def check_speaker(
    speaker: str | Sequence[str] | Tensor | None, batch: int, names: Sequence[str], channels: int | None
) -> Tensor | None:
    """Indices `(B,)` of a model's speakers, or vectors `(B, channels)`; `ValueError` where the model knows no such."""
    if channels is None:
        if speaker is not None:
            raise ValueError("the model knows no speakers; leave the speaker out")
        return None
    if names:
        if speaker is None or isinstance(speaker, Tensor):
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
            f"speaker is {found}; the model knows no names and needs a vector ({channels},) or ({batch}, {channels}), "
            "which can be given in Python only"
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
            raise ValueError("the model is not conditioned on features; leave them out")
        return None
    if features is None:
        raise ValueError(
            f"the model needs features, ({config.bins}, frames); give them, on the command line by --features or "
            "--features-from"
        )
    if isinstance(features, Tensor) and features.dim() == 2:
        features = features.expand(batch, -1, -1)
    clips = list(features)
    if len(clips) != batch or not clips:
        raise ValueError(f"features of {len(clips)} clips given for a batch of {batch}")
    for clip in clips:
        if clip.dim() != 2 or clip.shape[0] != config.bins or clip.shape[1] == 0:
            raise ValueError(f"features have shape {tuple(clip.shape)}; the model needs ({config.bins}, frames)")
        wrong = log_mel_refusal(clip)
        if wrong is not None:
            raise ValueError(f"features have {wrong}")
    longest = max(clip.shape[1] for clip in clips)
    return torch.stack([functional.pad(clip, (0, longest - clip.shape[1]), value=config.silence) for clip in clips])


class Conditioner(nn.Module):
    """Conditioning to the biases of all layers, `biases` numbers for each sample."""

    def __init__(
        self,
        config: ConditioningConfig,
        features: LogMelConfig | None,
        speakers: int,
        speaker_channels: int | None,
        biases: int,
    ) -> None:
        super().__init__()
        self.biases = biases
        self.table = nn.Embedding(speakers, speaker_channels) if speakers and speaker_channels else None
        self.speaker = nn.Linear(speaker_channels, biases, bias=False) if speaker_channels else None
        self.look_ahead = 0
        self.hop = 1
        if features is not None:
            self.hop = features.hop
            self.context = nn.Sequential(
                nn.Conv1d(features.bins, config.context_channels, 2 * config.context_frames + 1),
                nn.Tanh(),
                nn.Conv1d(config.context_channels, config.channels, 1),
            )
            self.upsampler = UPSAMPLERS[config.upsampler](config.channels, config.scales)
            self.local = nn.Linear(config.channels, biases, bias=False)
            self.reach = config.context_frames + self.upsampler.margin
            self.look_ahead = self.reach + 1
        self.has_features = features is not None

    def forward(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
        """Biases of samples `start` to `stop - 1`: `(B, T, biases)`, or `(B, 1, biases)` where they do not change."""
        parts = []
        if self.speaker is not None:
            assert conditioning.speaker is not None
            vectors = conditioning.speaker if self.table is None else self.table(conditioning.speaker)
            parts.append(self.speaker(vectors)[:, None])
        if self.has_features:
            parts.append(self.local(self.upsampled(conditioning, start, stop).transpose(1, 2)))
        biases: Tensor = sum(parts[1:], start=parts[0])
        return biases

    def upsampled(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
        """The features at the sample rate, between context network and projection: `(B, channels, stop - start)`."""
        first, last = start // self.hop, math.ceil((stop - 1) / self.hop)
        frames = conditioning.frames(first - self.reach, last + self.reach + 1)
        points: Tensor = self.upsampler(self.context(frames / _SPREAD + 1))
        skipped = start - first * self.hop
        torch._check(skipped + stop - start <= points.shape[2])  # torch.export does not see it by itself
        return points[:, :, skipped : skipped + stop - start]


_SPREAD = 4.0
"""Log-mel features of speech lie around -4 and spread by about as much; so scaled they suit a fresh network."""
