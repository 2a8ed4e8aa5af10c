"""Conditioning from frames to samples: learned transposed convolutions, or interpolation and smoothing.

All begin as plain linear interpolation between frames, so there is no checkerboard to unlearn (Odena et al. 2016), and
keep a frame where it is: frame f comes out at sample f * hop. `FrameUpsampler` takes one step, the same for all
channels. The others work in stages; the product of the scales is the hop.

    stage of scale 3    frames      a           b           c
                        points      a   .   .   b   .   .   c        (F - 1) * 3 + 1 of them
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_CPU = torch.device("cpu")
"""Kernels are computed on the CPU, because torch would load its compiler for arithmetic on the meta device."""


def triangle(scale: int, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
    """The kernel of linear interpolation, `(2 * scale - 1,)`."""
    return 1 - torch.arange(1 - scale, scale, dtype=dtype, device=device).abs() / scale


class TransposedUpsampler(nn.Module):
    """Learned upsampling, `(B, channels, F)` -> `(B, channels, (F - 1) * hop + 1)`, channel by channel.

    Each scale is a transposed convolution of stride `scale` and kernel `2 * scale - 1`: each point between two frames
    is a learned mixture of both. Channels are mixed by the context network, not here: kernels that mixed them followed
    the noise of many small gradients and grew a checkerboard.

    >>> upsampler = TransposedUpsampler(channels=1, scales=[2, 2])  # a fresh one interpolates
    >>> upsampler(torch.tensor([[[0.0, 4.0, 2.0]]])).squeeze().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 3.5, 3.0, 2.5, 2.0]
    """

    margin = 0
    """Frames needed beyond either side of those that are upsampled."""

    def __init__(self, channels: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.stages = nn.ModuleList(
            nn.ConvTranspose1d(channels, channels, 2 * scale - 1, scale, padding=scale - 1, groups=channels)
            for scale in self.scales
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        for stage, scale in zip(self.stages, self.scales, strict=True):
            weight, bias = stage.parameters()
            weight.copy_(triangle(scale, device=_CPU))
            bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x


class InterpolatingUpsampler(nn.Module):
    """Interpolation and smoothing, `(B, channels, F)` -> `(B, channels, (F - 1 - 2 * margin) * hop + 1)`.

    Each scale is linear interpolation, then a smoothing convolution of kernel `2 * scale + 1` over time, the same for
    all channels and at first the identity. It needs `margin` frames beyond either side.
    """

    def __init__(self, channels: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        hop = math.prod(scales)
        before = [math.prod(scales[:index]) for index in range(len(scales))]
        self.margin = math.ceil(sum(1 / points for points in before))
        self.excess = self.margin * hop - sum(hop // points for points in before)
        self.smoothing = nn.ModuleList(nn.Conv1d(1, 1, 2 * scale + 1, bias=False) for scale in scales)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        for scale, kernel in zip(self.scales, self.smoothing.parameters(), strict=True):
            kernel.zero_()[0, 0, scale] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, _ = x.shape
        for scale, smoothing in zip(self.scales, self.smoothing, strict=True):
            points = (x.shape[2] - 1) * scale + 1
            x = functional.interpolate(x, points, mode="linear", align_corners=True)
            x = smoothing(x.reshape(batch * channels, 1, -1)).view(batch, channels, -1)
        return x[:, :, self.excess : x.shape[2] - self.excess]


class FrameUpsampler(nn.Module):
    """Upsampling of many channels by one kernel, `(B, F, channels)` -> `(B, F * hop, channels)`.

    Each point between two frames is a mixture of both, in shares that all channels have in common: two multiply-adds a
    number. The shares are those of linear interpolation, or, if `learned`, those of a transposed convolution of stride
    `hop` and kernel `2 * hop - 1` that begins as linear interpolation. After the last frame the points fade to zero.

    >>> upsampler = FrameUpsampler(hop=2)
    >>> upsampler(torch.tensor([[[0.0], [4.0], [2.0]]])).squeeze().tolist()
    [0.0, 2.0, 4.0, 3.0, 2.0, 1.0]
    """

    margin = 0

    def __init__(self, hop: int, *, learned: bool = False) -> None:
        super().__init__()
        self.hop = hop
        self.kernel = nn.Parameter(torch.empty(2 * hop - 1)) if learned else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        if self.kernel is not None:
            self.kernel.copy_(triangle(self.hop, device=_CPU))

    def extra_repr(self) -> str:
        return f"hop={self.hop}, learned={self.kernel is not None}"

    def shares(self, like: Tensor) -> Tensor:
        """The shares of a frame and of the next one at each point from the frame on: `(hop, 2)`, typed as `like`."""
        kernel = triangle(self.hop, like.dtype, like.device) if self.kernel is None else self.kernel
        return torch.stack([kernel[self.hop - 1 :], functional.pad(kernel[: self.hop - 1], (1, 0))], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.stack([x, functional.pad(x[:, 1:], (0, 0, 0, 1))], dim=2).flatten(0, 1)
        points = torch.bmm(self.shares(x).expand(pairs.shape[0], -1, -1), pairs)
        return points.view(x.shape[0], -1, x.shape[2])


UPSAMPLERS: dict[str, type[TransposedUpsampler | InterpolatingUpsampler]] = {
    "transposed": TransposedUpsampler,
    "interpolation": InterpolatingUpsampler,
}
