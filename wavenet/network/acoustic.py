"""The acoustic model: timed labels to log-mel features, which then condition the network like a recording's.

The features are what listeners and editors know, linear prediction needs them, and every engine takes them. So a model
that says words is a vocoder with an acoustic model before it. The acoustic model works at frame rate, and is taught by
the features of the recordings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wavenet.network.embedding import LabelEmbedding
from wavenet.network.features import LogMelConfig
from wavenet.network.settings import STRICT, check_names, check_whole
from wavenet.network.timed_labels import TimedLabel, timed_frames

_BUMPS = 24
"""How finely a frame knows the share of its label that has passed."""


@dataclass(frozen=True, kw_only=True)
class TimedLabelsConfig:
    """What a model can say: the `names` of its timed labels, and the widths of its acoustic model.

    In training, a clip without timed labels of its own counts as one label from start to end, which is the clip's label
    of the kind `whole_clip`, if that is given. A recipe without `names` takes those of its clips.
    """

    __pydantic_config__ = STRICT

    names: tuple[str, ...] = ()
    whole_clip: str | None = None
    channels: int = 64
    hidden_channels: int = 256

    def __post_init__(self) -> None:
        check_whole(self, channels=(1, 4096), hidden_channels=(1, 4096))
        object.__setattr__(self, "names", check_names(self.names, "names"))


class AcousticModel(nn.Module):
    """Rows of `timed_frames` and the clip's vector to log-mel features: `(B, 5, F)`, `(B, V)` -> `(B, bins, F)`.

    A frame's features depend on its own column alone. The names before and after count for nothing until training shows
    that they matter, so names may stand in an order that was never heard.
    """

    def __init__(
        self, config: TimedLabelsConfig, features: LogMelConfig, sample_rate: int, vector_channels: int | None
    ) -> None:
        super().__init__()
        self.names, self.hop, self.sample_rate = config.names, features.hop, sample_rate
        names, hidden = len(config.names) + 1, config.hidden_channels
        self.silence, self.spread, self.bumps = features.silence, features.spread, _BUMPS
        self.before, self.name, self.after = (LabelEmbedding(names, config.channels) for _ in range(3))
        inputs = 3 * config.channels + _BUMPS + 1 + (vector_channels or 0)
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, features.bins),
        )
        for table in (self.before, self.after):
            nn.init.zeros_(table.weight)

    def forward(self, timed: Tensor, vector: Tensor | None) -> Tensor:
        names, passed, length = timed[:, :3].long(), timed[:, 3], timed[:, 4]
        neighbours = [table(names[:, row]) for row, table in enumerate((self.before, self.name, self.after))]
        bumps = torch.linspace(0, 1, _BUMPS, device=passed.device)
        places = torch.exp(-0.5 * ((passed[..., None] - bumps) * (_BUMPS - 1)).square())
        known = [*neighbours, places, length[..., None]]
        if vector is not None:
            known.append(vector[:, None].expand(-1, timed.shape[2], -1))
        features: Tensor = self.layers(torch.cat(known, dim=2)).transpose(1, 2)
        return ((features - 1) * self.spread).clamp(min=self.silence)

    @torch.no_grad()
    def say(self, labels: Sequence[TimedLabel], samples: int | None, vector: Tensor | None) -> Tensor:
        """The features `(bins, F)` of one clip that lasts `samples`, or to the end of its last label.

        Raises `ValueError` if a name is unknown, or nothing says how long the clip lasts.
        """
        if samples is None:
            if not labels:
                raise ValueError("timed_labels are none; expected at least one, which says how long to go on")
            samples = math.ceil(max(label.end for label in labels) * self.sample_rate)
        frames, rate = samples // self.hop + 1, self.sample_rate / self.hop
        timed = timed_frames(labels, self.names, frames=frames, frames_per_second=rate)
        features: Tensor = self(timed[None].to(self.name.weight), vector)
        return features[0]

    def loss(self, predicted: Tensor, features: Tensor) -> Tensor:
        """The mean square of the error, in units of the features' spread: `(B, bins, F)` both -> `(B, F)`."""
        return ((predicted - features) / self.spread).square().mean(dim=1)
