"""The gated residual block, and the interface of a custom block."""

from typing import Protocol

import torch
from torch import Tensor, nn

from wavenet.network.config import WaveNetConfig
from wavenet.network.conv import CausalConv1d


class BlockFactory(Protocol):
    """Makes the block of one layer: a class such as `ResidualBlock`, or a function.

    The block is a module with the attribute `context`, the number of inputs that an output needs before its own. Its
    `forward(x, biases)` maps `(B, context + T, residual)` and the conditioning's biases, `(B, T or 1, gate)` or `None`,
    to the input of the next block `(B, T, residual)` and its activations `(B, T, gate / 2)`. An output must not depend
    on later inputs. `last` is true for the last layer, whose first output is unused.
    """

    def __call__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> nn.Module: ...


class ResidualBlock(nn.Module):
    """Gated activation unit with a residual connection (WaveNet paper, equations 2 and 5, figure 4).

    The skip projections of all blocks add up. So they are one matrix of the network, and a block returns its gated
    activations. The last block has no residual projection, since nothing reads it. The projection has no bias: the bias
    of the next convolution takes its place.

    Shape: x `(B, context + T, residual)`, biases `(B, T or 1, gate)` -> x for the next block `(B, T, residual)`, gated
    `(B, T, gate / 2)`.
    """

    def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
        super().__init__()
        self.conv = CausalConv1d(config.residual_channels, config.gate_channels, config.kernel_size, dilation)
        self.residual = None if last else nn.Linear(config.gate_channels // 2, config.residual_channels, bias=False)
        self.context = self.conv.context

    def forward(self, x: Tensor, biases: Tensor | None = None) -> tuple[Tensor, Tensor]:
        gates = self.conv(x) if biases is None else self.conv(x) + biases
        filter_, gate = gates.chunk(2, dim=2)
        gated = torch.tanh(filter_) * torch.sigmoid(gate)
        x = x[:, self.context :]
        return (x if self.residual is None else x + self.residual(gated)), gated
