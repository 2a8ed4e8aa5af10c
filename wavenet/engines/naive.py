"""The oracle: re-run the whole receptive field for every sample. Slow, and short enough to be sure of."""

from typing import ClassVar

import torch
from torch import Tensor

from wavenet.model import WaveNet
from wavenet.sampling import SamplingOptions

__all__ = ["NaiveEngine"]


class NaiveEngine:
    """Keeps the last `receptive_field` symbols and nothing else."""

    name: ClassVar[str] = "naive"

    def __init__(self, model: WaveNet, batch: int) -> None:
        self.model = model
        silence = model.distribution.silence
        self.past = torch.full((batch, model.config.receptive_field), silence, device=model.device)

    def prime(self, symbols: Tensor) -> None:
        self.past = torch.cat([self.past, symbols], dim=1)[:, -self.model.config.receptive_field :]

    @torch.no_grad()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        distribution, symbols, log_probs = self.model.distribution, [], []
        for uniform in uniforms.unbind(1):
            parameters = self.model(self.past)
            symbol = distribution.sample(parameters[:, :, 0], uniform, options)[:, None]
            self.prime(symbol)
            symbols.append(symbol)
            log_probs.append(distribution.log_prob(parameters, symbol))
        return torch.cat(symbols, dim=1), torch.cat(log_probs, dim=1)
