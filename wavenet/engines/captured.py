"""Steps as CUDA graphs: the host launches `STEPS` of them at once, not each of their kernels.

A graph repeats kernels on the addresses it was captured with. So:

- State of the streams is changed in place, never replaced.
- What varies from step to step is copied into buffers of the graph before each replay, for all of its steps. What can
  be counted from the first step on, such as places in a window, is a Python number and so part of the graph.
- Results are copied out, since the next replay overwrites them.
- Nothing in a step waits for the host. The package's distributions do not; a custom one may, so it runs uncaptured.
- Kernels that load or compile when they first run must have run before: the first time, the steps run uncaptured.
- Sampling options and the number of steps are part of a graph. There is a graph of `STEPS` steps and one of a single
  step, which takes the rest; other options get new graphs, and the old ones are dropped.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from wavenet.network import Categorical, GaussianMixture, LogisticMixture, SamplingOptions, WaveNet

STEPS = 8
"""Steps of a graph. More take more memory, and eight already outweigh the ten or so copies around a replay."""

Inputs = tuple[Tensor, ...]
"""What steps need that is known before them: each tensor has a row for each step, or one for all."""

Results = tuple[Tensor, Tensor]
"""Symbols `(B, T)` and parameters `(B, parameters, T)`."""

Advance = Callable[[Inputs, SamplingOptions], Results]


def can_capture(model: WaveNet) -> bool:
    """Whether a model is on a GPU and its distribution is known not to wait for the host."""
    return model.device.type == "cuda" and type(model.distribution) in (Categorical, GaussianMixture, LogisticMixture)


def part(inputs: Inputs, start: int, stop: int) -> Inputs:
    """The inputs of steps `start` to `stop - 1`."""
    return tuple(tensor if len(tensor) == 1 else tensor[start:stop] for tensor in inputs)


_stream: Callable[[torch.device], torch.cuda.Stream] = torch.cuda.Stream
"""torch captures on a stream of the device it first captured on, unless it is given one."""


class Captured:
    """Runs a function of `Inputs` in pieces, by graphs of it. Only its inputs and tensors changed in place may vary."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._options: SamplingOptions | None = None
        self._graphs: dict[tuple[torch.Size, ...], _Graph | None] = {}

    def __call__(self, inputs: Inputs, options: SamplingOptions) -> Results:
        if options != self._options:
            self._options, self._graphs = options, {}
        count = len(inputs[0])
        rest = count - count % STEPS
        bounds = [*range(0, rest, STEPS), *range(rest, count + 1)]
        pieces = [self._run(part(inputs, start, stop), options) for start, stop in itertools.pairwise(bounds)]
        symbols, parameters = zip(*pieces, strict=True)
        return torch.cat(symbols, dim=1), torch.cat(parameters, dim=2)

    def _run(self, inputs: Inputs, options: SamplingOptions) -> Results:
        key = tuple(tensor.shape for tensor in inputs)
        if key not in self._graphs:
            self._graphs[key] = None
            return self._advance(inputs, options)
        graph = self._graphs[key] or _Graph(self._advance, inputs, options)
        self._graphs[key] = graph
        return graph.replay(inputs)


class _Graph:
    """A function over buffers of its own, captured if they are on a GPU. Capturing runs nothing."""

    def __init__(self, advance: Advance, inputs: Inputs, options: SamplingOptions) -> None:
        self._inputs = tuple(tensor.clone() for tensor in inputs)
        device = inputs[0].device
        self._replay: Callable[[], Results]
        if device.type != "cuda":
            self._replay = lambda: advance(self._inputs, options)
            return
        graph, stream = torch.cuda.CUDAGraph(), _stream(device)
        with torch.cuda.device(device), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            results = advance(self._inputs, options)

        def replay() -> Results:
            graph.replay()
            return results

        self._replay = replay

    def replay(self, inputs: Inputs) -> Results:
        for buffer, values in zip(self._inputs, inputs, strict=True):
            buffer.copy_(values)
        symbols, parameters = self._replay()
        return symbols.clone(), parameters.clone()
