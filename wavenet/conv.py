"""Causal dilated convolution and its activation queue.

Everything here is laid out time-major, `(B, T, C)`: a convolution of k taps is then one matrix product
over k shifted views laid side by side, and one sample `(B, C)` goes through the same product as a whole
sequence. (On two CPU cores training ran 2.4 times as fast so as in the `(B, C, T)` layout.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CausalConv1d", "Queue", "stack_taps"]


@dataclass
class Queue:
    """The last `length` inputs of a convolution, oldest at `position`: a ring, so a step moves no data.

    Shape: `buffer` is `(length, B, C)`; `length` is `(kernel_size - 1) * dilation`.
    """

    buffer: Tensor
    position: int = 0

    @classmethod
    def filled(cls, value: Tensor, length: int) -> "Queue":
        """A queue that has seen nothing but `value`, of shape `(B, C)`."""
        return cls(value.detach().repeat(length, 1, 1))

    def clone(self) -> "Queue":
        return Queue(self.buffer.clone(), self.position)

    def history(self) -> Tensor:
        """The remembered inputs, oldest first, `(B, length, C)`."""
        return self.buffer.roll(-self.position, dims=0).transpose(0, 1)

    def remember(self, history: Tensor) -> None:
        """Replace the content by the last `length` samples of `(B, T >= length, C)`."""
        self.buffer.copy_(history[:, history.shape[1] - len(self.buffer) :].transpose(0, 1))
        self.position = 0


def stack_taps(x: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """Lay the taps of each output side by side, oldest first.

    Shape: `(B, T, C)` -> `(B, T - (kernel_size - 1) * dilation, kernel_size * C)`.
    """
    length = x.shape[1] - (kernel_size - 1) * dilation
    return torch.cat([x[:, tap * dilation : tap * dilation + length] for tap in range(kernel_size)], dim=2)


def queue_taps(x: Tensor, queue: Queue, kernel_size: int, dilation: int) -> Tensor:
    """The taps of one new sample `(B, C)` -> `(B, kernel_size * C)`; the sample enters the queue."""
    buffer, position = queue.buffer, queue.position
    length = len(buffer)
    if kernel_size == 2:
        taps = torch.cat((buffer[position], x), 1)
    else:
        past = [buffer[(position + tap * dilation) % length] for tap in range(kernel_size - 1)]
        taps = torch.cat((*past, x), 1)
    buffer[position] = x
    queue.position = position + 1 if position + 1 < length else 0
    return taps


class CausalConv1d(nn.Module):
    """Dilated convolution that sees only the present and the past (WaveNet paper, section 2.1).

    `weight` is the matrix `(out_channels, kernel_size * in_channels)`, the oldest tap's columns first.

    Shape: without a queue `(B, T, in)` -> `(B, T - context, out)`: only outputs whose whole context is
    there, `context = (kernel_size - 1) * dilation`. With a queue `(B, T, in)` -> `(B, T, out)`: the queue
    gives the context and remembers the end of `x`. With a queue and one sample, `(B, in)` -> `(B, out)`.

    >>> conv = CausalConv1d(1, 1, kernel_size=2, dilation=4)
    >>> conv(torch.zeros(1, 10, 1)).shape, conv(torch.zeros(1, 10, 1), conv.queue(torch.zeros(1, 1))).shape
    (torch.Size([1, 6, 1]), torch.Size([1, 10, 1]))
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> None:
        super().__init__()
        if kernel_size < 2 or dilation < 1:
            raise ValueError(
                f"kernel_size is {kernel_size} and dilation {dilation}; expected at least 2 and at least 1"
            )
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.context = (kernel_size - 1) * dilation
        self.weight = nn.Parameter(torch.empty(out_channels, kernel_size * in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.weight)

    def queue(self, value: Tensor) -> Queue:
        """A queue that has seen nothing but `value`, of shape `(B, in_channels)`."""
        return Queue.filled(value, self.context)

    def taps(self, x: Tensor, queue: Queue | None = None) -> Tensor:
        """The taps of each output side by side: `(B, T, in)` or `(B, in)`, as in `forward`."""
        if queue is None:
            return stack_taps(x, self.kernel_size, self.dilation)
        if x.dim() == 2:
            return queue_taps(x, queue, self.kernel_size, self.dilation)
        x = torch.cat([queue.history(), x], dim=1)
        queue.remember(x)
        return stack_taps(x, self.kernel_size, self.dilation)

    def forward(self, x: Tensor, queue: Queue | None = None) -> Tensor:
        return functional.linear(self.taps(x, queue), self.weight, self.bias)
