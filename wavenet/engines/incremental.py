"""Fast generation (Le Paine et al. 2016): one queue of past activations per layer, O(layers) per sample."""

from typing import ClassVar

import torch
from torch import Tensor

from wavenet.model import WaveNet
from wavenet.sampling import SamplingOptions

__all__ = ["IncrementalEngine"]

_PRIMING_CHUNK = 8192


class IncrementalEngine:
    """Steps the network with its state; works on every device torch has."""

    name: ClassVar[str] = "incremental"

    def __init__(self, model: WaveNet, batch: int) -> None:
        self.model = model
        self.state = model.initial_state(batch)
        self.latest = torch.full((batch,), model.distribution.silence, device=model.device)

    @torch.no_grad()
    def prime(self, symbols: Tensor) -> None:
        """One parallel pass, in chunks of bounded memory. The newest symbol waits to be the next step's input."""
        unseen = torch.cat([self.latest[:, None], symbols], dim=1)
        for chunk in torch.split(unseen[:, :-1], _PRIMING_CHUNK, dim=1):
            self.model(chunk, self.state)
        self.latest = unseen[:, -1]

    @torch.inference_mode()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        distribution, symbols, parameters = self.model.distribution, [], []
        for uniform in uniforms.unbind(1):
            parameters.append(self.model.step(self.latest, self.state))
            self.latest = distribution.sample(parameters[-1], uniform, options)
            symbols.append(self.latest)
        generated = torch.stack(symbols, dim=1)
        return generated, distribution.log_prob(torch.stack(parameters, dim=2), generated)
