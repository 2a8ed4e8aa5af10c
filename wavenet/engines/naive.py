"""The slow reference: runs the whole context again for every sample. The other engines are tested against it."""

from typing import ClassVar

import torch
from torch import Tensor

from wavenet.network import Conditioning, SamplingOptions, WaveNet


class NaiveEngine:
    """Keeps the last `context` symbols and nothing else."""

    name: ClassVar[str] = "naive"

    def __init__(self, model: WaveNet, batch: int, conditioning: Conditioning | None = None) -> None:
        self.model = model
        self.conditioning = conditioning or model.condition(batch)
        self.past = torch.full((batch, model.context), model.distribution.silence, device=model.device)
        self.time = 0

    @staticmethod
    def refusal(model: WaveNet) -> None:
        """It can run every model."""

    def prime(self, symbols: Tensor) -> None:
        self.past = torch.cat([self.past, symbols], dim=1)[:, -self.model.context :]
        self.time += symbols.shape[1]

    @torch.no_grad()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        distribution, symbols, log_probs = self.model.distribution, [], []
        for uniform in uniforms.unbind(1):
            parameters = self.model(self.past, self.conditioning, start=self.time - self.past.shape[1])
            symbol = distribution.sample(parameters[:, :, 0], uniform, options)[:, None]
            self.prime(symbol)
            symbols.append(symbol)
            log_probs.append(distribution.log_prob(parameters, symbol))
        return torch.cat(symbols, dim=1), torch.cat(log_probs, dim=1)
