"""Amplitudes to channels: a learned, piecewise linear function, by a table that is read between its rows.

Every amplitude of a waveform of `rows` µ-law classes falls on a row: then this is the usual embedding of classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavenet.network.quantize import expand


class AmplitudeEmbedding(nn.Module):
    """Embeds `signals` numbers in [-1, 1], `(..., signals)` -> `(..., channels)`: the sum of a table row for each.

    Each signal has a table of `rows`; a number between two rows takes both, weighted by its distance to each.
    """

    def __init__(
        self,
        signals: int,
        rows: int,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.signals, self.rows, self.channels = signals, rows, channels
        self.weight = nn.Parameter(torch.empty(signals * rows, channels, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        if self.weight.is_meta:  # there is nothing to fill, and torch would load its compiler for the arithmetic
            return
        tables = [smooth_rows(self.rows, self.channels) for _ in range(self.signals)]
        self.weight.copy_(torch.cat(tables) / self.signals**0.5)

    def extra_repr(self) -> str:
        return f"{self.signals} of {self.rows} rows, {self.channels} channels"

    def forward(self, amplitudes: Tensor) -> Tensor:
        places = (amplitudes.flatten(0, -2) + 1) / 2 * (self.rows - 1)
        below = places.floor().clamp(0, self.rows - 2)
        share = (places - below).to(self.weight.dtype)
        tables = torch.arange(self.signals, device=below.device) * self.rows
        index = below.long() + tables
        summed = functional.embedding_bag(
            torch.cat([index, index + 1], dim=1),
            self.weight,
            per_sample_weights=torch.cat([1 - share, share], dim=1),
            mode="sum",
        )
        return summed.view(*amplitudes.shape[:-1], -1)


class LabelEmbedding(nn.Embedding):
    """`nn.Embedding` that draws no weights on the meta device, where torch would load its compiler for that."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


def smooth_rows(classes: int, channels: int) -> Tensor:
    """A table `(classes, channels)` whose columns are smooth functions of the amplitude, mixed at random.

    The functions are the companded amplitude, the linear one, and sines and cosines of the companded one. With
    independent rows the network would first have to learn which classes are neighbours.
    """
    companded = torch.linspace(-1, 1, classes)
    waves = [f(torch.pi * k * companded) / k**0.5 for k in range(1, 17) for f in (torch.sin, torch.cos)]
    features = torch.stack([companded, expand(companded, classes), *waves], dim=1)
    features = features - features.mean(dim=0)
    mixing = torch.randn(features.shape[1], channels) / features.shape[1] ** 0.5
    rows: Tensor = features @ mixing
    return rows / rows.std()
