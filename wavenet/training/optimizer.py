"""The optimizers of training, their learning rates, and Muon: orthogonalised momentum (Jordan et al. 2024).

torch has `torch.optim.Muon`, and a test compares this one with it. torch's orthogonalises each matrix by itself in
bfloat16, which took 0.9 seconds a step for the prompts model on two CPU cores without bfloat16 units. This one took
0.03: it orthogonalises matrices of one shape together, in their own precision.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from wavenet.network import WaveNet
from wavenet.training.config import TrainConfig

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring all singular values of each matrix near 1 (between about 0.7 and 1.2) by Newton-Schulz iteration.

    Shape: `(N, rows, columns)` -> the same.
    """
    a, b, c = _COEFFICIENTS
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    wide = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    orthogonal: Tensor = wide if matrices.shape[1] <= matrices.shape[2] else wide.mT
    return orthogonal


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, which keeps steps of constant size from growing matrices.

    The step of a matrix is scaled by `max(1, rows / columns) ** 0.5`. Parameters must be matrices; those without a
    gradient are skipped.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() != 2:
                    raise ValueError(f"Muon takes matrices; got a parameter of shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for (rows, columns), parameters in by_shape.items():
                directions = torch.stack([self._direction(p, group["momentum"]) for p in parameters])
                scale = -group["lr"] * max(1.0, rows / columns) ** 0.5
                for parameter, direction in zip(parameters, orthogonalise(directions), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=scale)

    def _direction(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum"]
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def optimizers_for(model: WaveNet, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between embedding and output and Adam for the rest; or Adam for all."""
    tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    tables |= {model.embedding.weight, model.output.weight}
    matrices = [p for p in model.parameters() if p.dim() == 2 and p not in tables and config.optimizer == "muon"]
    rest = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, lr=config.learning_rate, betas=(0.9, 0.95))]
    if matrices:
        optimizers.append(Muon(matrices, lr=config.muon_learning_rate, weight_decay=config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return optimizers


def rate_share(config: TrainConfig, step: int) -> float:
    """The share of the full learning rate at a step, counted from 0: warm-up, plateau, linear decay to zero."""
    rising = (step + 1) / max(1, config.warmup_steps)
    falling = (config.steps - step) / max(1.0, config.decay_share * config.steps)
    return min(1.0, rising, falling)
