"""Amplitudes to channels by a table that is read between its rows: a learned, piecewise linear function.

For a waveform of `rows` µ-law classes every amplitude falls on a row, and this is the usual embedding of classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavenet.network.quantize import expand

__all__ = ["AmplitudeEmbedding", "smooth_rows"]


class AmplitudeEmbedding(nn.Module):
    """The sum of one table of `rows` for each of `signals` numbers in [-1, 1].

    Shape: `(..., signals)` -> `(..., channels)`.
    """

    def __init__(self, signals: int, rows: int, channels: int) -> None:
        super().__init__()
        self.signals, self.rows = signals, rows
        self.weight = nn.Parameter(torch.empty(signals * rows, channels))
        if not self.weight.is_meta:
            with torch.no_grad():
                self.weight.copy_(torch.cat([smooth_rows(rows, channels) for _ in range(signals)]) / signals**0.5)

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


def smooth_rows(classes: int, channels: int) -> Tensor:
    """A table `(classes, channels)` whose columns are smooth functions of the amplitude, mixed at random.

    The functions are the companded and the linear amplitude and sines and cosines of the companded one. From
    independent rows the network would have to learn first which classes are neighbours.
    """
    companded = torch.linspace(-1, 1, classes)
    waves = [f(torch.pi * k * companded) / k**0.5 for k in range(1, 17) for f in (torch.sin, torch.cos)]
    features = torch.stack([companded, expand(companded, classes), *waves], dim=1)
    features = features - features.mean(dim=0)
    mixing = torch.randn(features.shape[1], channels) / features.shape[1] ** 0.5
    rows: Tensor = features @ mixing
    return rows / rows.std()
