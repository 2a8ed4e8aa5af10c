"""Conditioning from frames to samples: learned transposed convolutions, or interpolation and smoothing.

Both go in stages; the product of the scales is the hop. Both start out as plain linear interpolation between
frames, so there is no checkerboard to unlearn (Odena et al. 2016), and keep a frame where it is: frame f comes
out at sample f * hop.

    stage of scale 3    frames      a           b           c
                        points      a   .   .   b   .   .   c        (F - 1) * 3 + 1 of them
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UPSAMPLERS", "InterpolatingUpsampler", "TransposedUpsampler"]


def triangle(scale: int) -> Tensor:
    """The kernel of linear interpolation, `(2 * scale - 1,)`."""
    return 1 - torch.arange(1 - scale, scale).abs() / scale


class TransposedUpsampler(nn.Module):
    """A transposed convolution for each scale, of stride `scale` and kernel `2 * scale - 1`: each point between two
    frames is a learned mixture of both, channel by channel. (Mixing channels is the context network's part. Kernels
    that mixed them here were pushed about by the noise in many small gradients, and grew a checkerboard.)

    Shape: `(B, channels, F)` -> `(B, channels, (F - 1) * hop + 1)`.

    >>> upsampler = TransposedUpsampler(channels=1, scales=[2, 2])  # a fresh one interpolates
    >>> upsampler(torch.tensor([[[0.0, 4.0, 2.0]]])).squeeze().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 3.5, 3.0, 2.5, 2.0]
    """

    def __init__(self, channels: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.margin = 0
        self.stages = nn.ModuleList(
            nn.ConvTranspose1d(channels, channels, 2 * scale - 1, scale, padding=scale - 1, groups=channels)
            for scale in scales
        )
        for stage, scale in zip(self.stages, scales, strict=True):
            assert isinstance(stage, nn.ConvTranspose1d)
            assert stage.bias is not None
            if not stage.weight.is_meta:
                nn.init.zeros_(stage.bias)
                with torch.no_grad():
                    stage.weight.copy_(triangle(scale))

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x


class InterpolatingUpsampler(nn.Module):
    """Linear interpolation for each scale, followed by a smoothing convolution of kernel `2 * scale + 1` over time,
    the same for all channels and at first the identity. It looks `margin` frames beyond either side.

    Shape: `(B, channels, F)` -> `(B, channels, (F - 1 - 2 * margin) * hop + 1)`.
    """

    def __init__(self, channels: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        hop = math.prod(scales)
        before = [math.prod(scales[:index]) for index in range(len(scales))]
        self.margin = math.ceil(sum(1 / points for points in before))
        self.excess = self.margin * hop - sum(hop // points for points in before)
        self.smoothing = nn.ModuleList(nn.Conv1d(1, 1, 2 * scale + 1, bias=False) for scale in scales)
        for convolution, scale in zip(self.smoothing, scales, strict=True):
            assert isinstance(convolution, nn.Conv1d)
            if not convolution.weight.is_meta:
                with torch.no_grad():
                    convolution.weight.zero_()[0, 0, scale] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, _ = x.shape
        for scale, smoothing in zip(self.scales, self.smoothing, strict=True):
            points = (x.shape[2] - 1) * scale + 1
            x = functional.interpolate(x, points, mode="linear", align_corners=True)
            x = smoothing(x.reshape(batch * channels, 1, -1)).view(batch, channels, -1)
        return x[:, :, self.excess : x.shape[2] - self.excess]


UPSAMPLERS: dict[str, type[TransposedUpsampler | InterpolatingUpsampler]] = {
    "transposed": TransposedUpsampler,
    "interpolation": InterpolatingUpsampler,
}
