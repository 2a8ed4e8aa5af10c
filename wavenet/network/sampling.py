"""Inverse-CDF sampling of classes from logits and uniforms, with temperature, top-k and top-p.

Nothing here draws a random number. Every generated sample uses one uniform in [0, 1) from the caller, so all engines
turn the same uniforms into the same audio.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.network.settings import plain_numbers


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How logits become classes: first `temperature`, then `top_k`, then `top_p` (nucleus) filtering.

    `temperature` 0 takes the most probable class. `None` switches a filter off.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        plain_numbers(self)
        for name, kinds in (("temperature", int | float), ("top_p", int | float | None)):
            if not isinstance(getattr(self, name), kinds):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a number")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature is {self.temperature}; expected 0 or a positive number")
        if self.top_k is not None and not (isinstance(self.top_k, int) and self.top_k >= 1):
            raise ValueError(f"top_k is {self.top_k!r}; expected at least 1, or None to switch it off")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; expected over 0 and at most 1, or None to switch it off")


def choose(logits: Tensor, uniforms: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor]:
    """Choose one class per row by inverse CDF, in float64; the remainder says where in its share the uniform fell.

    Shape: logits `(B, classes)`, uniforms `(B,)` in [0, 1) -> classes `(B,)` int64, remainders `(B,)` float64 in
    [0, 1]. Uniforms have at most 24 bits (float32 draws), so that a uniform times the total stays below the total.
    Given the class, a remainder is uniform again; at temperature 0 it is 0.5.

    >>> logits = torch.tensor([[0.2, 0.8]]).log().expand(3, 2)
    >>> choose(logits, torch.tensor([0.1, 0.3, 0.9]), SamplingOptions())[0]
    tensor([0, 1, 1])
    >>> choose(logits, torch.tensor([0.1, 0.3, 0.9]), SamplingOptions(top_k=1))[0]
    tensor([1, 1, 1])
    """
    if options.temperature == 0:
        return logits.argmax(dim=1), torch.full_like(uniforms, 0.5, dtype=torch.float64)
    if options.temperature != 1:
        logits = (logits - logits.amax(dim=1, keepdim=True)).double() / options.temperature
    probabilities = torch.softmax(logits, dim=1, dtype=torch.float64)
    if options.top_k is not None and options.top_k < probabilities.shape[1]:
        probabilities = _keep_top_k(probabilities, options.top_k)
    if options.top_p is not None:
        probabilities = _keep_top_p(probabilities, options.top_p)
    cdf = probabilities.cumsum(dim=1)
    thresholds = cdf[:, -1:] * uniforms[:, None]
    classes = torch.searchsorted(cdf, thresholds, right=True).clamp(max=logits.shape[1] - 1)  # if all is NaN
    share = probabilities.gather(1, classes)
    remainders = (thresholds - cdf.gather(1, classes) + share) / share
    return classes[:, 0], remainders[:, 0].clamp(0, 1)


def _keep_top_k(probabilities: Tensor, k: int) -> Tensor:
    top, classes = probabilities.topk(k, dim=1)
    return torch.zeros_like(probabilities).scatter_(1, classes, top)


def _keep_top_p(probabilities: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable classes that together reach the share `p` (Holtzman et al. 2020)."""
    ranked, classes = probabilities.sort(dim=1, descending=True, stable=True)
    mass_before = ranked.cumsum(dim=1) - ranked
    kept = torch.where(mass_before < p * ranked.sum(dim=1, keepdim=True), ranked, 0.0)
    return torch.zeros_like(probabilities).scatter_(1, classes, kept)
