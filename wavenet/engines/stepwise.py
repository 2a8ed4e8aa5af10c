"""Stepping through `WaveNet.advance`, one sample at a time: for models with parts that the fast engines do not know."""

from typing import ClassVar

import torch
from torch import Tensor

from wavenet.engines.resumable import EngineState, ResumableEngine
from wavenet.network import Conditioning, SamplingOptions, WaveNet


class StepwiseEngine(ResumableEngine):
    """Runs any model whose `advance` goes on where it left off, on every device, in the model's own precision."""

    name: ClassVar[str] = "stepwise"

    def __init__(self, model: WaveNet, batch: int, conditioning: Conditioning | None = None) -> None:
        super().__init__(model, batch, conditioning)
        refusal = self.refusal(model)
        if refusal is not None:
            raise ValueError(f"the stepwise engine cannot run this model: {refusal}; use engine='naive'")
        self.start()

    @staticmethod
    def refusal(model: WaveNet) -> str | None:
        """Why the engine cannot run a model; `None` if it can."""
        kind = type(model)
        for whole, step in (("forward", "advance"), ("respond", "respond_after")):
            if getattr(kind, whole) is not getattr(WaveNet, whole) and getattr(kind, step) is getattr(WaveNet, step):
                return f"{kind.__name__} overrides {whole} and not {step}, which must compute the same"
        return None

    @property
    def time(self) -> int:
        return self._state.time

    def state(self) -> EngineState:
        return EngineState(self.latest.clone(), self._state)

    def load(self, state: EngineState) -> None:
        self.latest, self._state = state.latest.clone(), state.network

    @torch.no_grad()
    def run(self, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
        distribution, symbols, log_probs = self.model.distribution, [], []
        for uniform in uniforms.unbind(1):
            parameters, self._state = self.model.advance(self.latest[:, None], self._state, self.conditioning)
            self.latest = distribution.sample(parameters[:, :, 0], uniform, options)
            symbols.append(self.latest)
            log_probs.append(distribution.log_prob(parameters, self.latest[:, None]))
        return torch.stack(symbols, dim=1), torch.cat(log_probs, dim=1)
