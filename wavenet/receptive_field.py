"""What a network can see of the past, measured by gradient; `WaveNetConfig.receptive_field` is the formula."""

import copy

import torch
from torch import Tensor

from wavenet.model import WaveNet

__all__ = ["measure_receptive_field", "visible_lags"]


def visible_lags(model: WaveNet, samples: int | None = None) -> Tensor:
    """Which of the last `samples` inputs reach one output: bool `(samples,)`, lag 0 (the newest input) first.

    Measured: the gradient of the output with respect to each input's embedding, in float64, of a copy whose
    output layer is all ones (a fresh one has columns that sum to zero). `samples` defaults to the receptive field
    and one more. What linear prediction and features see beyond it is not the stack's, and not counted.
    """
    probe = copy.deepcopy(model).double()
    torch.nn.init.ones_(probe.output.weight)
    samples = samples or probe.config.receptive_field + 1
    length = max(samples, probe.config.receptive_field)
    generator = torch.Generator().manual_seed(0)
    amplitudes = torch.rand(1, length, probe.embedding.signals, generator=generator) * 2 - 1
    embedded = probe.embedding(amplitudes.to(probe.device)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(probe.respond(embedded)[0, :, -1].sum(), embedded)
    reached: Tensor = (gradient[0] != 0).any(dim=1)
    return reached.flip(0)[:samples]


def measure_receptive_field(model: WaveNet) -> int:
    """How many samples back the farthest input that reaches an output lies, counting the newest as 1."""
    return int(visible_lags(model).nonzero().max()) + 1
