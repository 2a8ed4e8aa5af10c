"""Measures how fast the network trains, beside a plain WaveNet of the common design, each case in its own process.

The cases alternate, round after round; a figure is the median over the rounds. A step is forward, loss on every
sample of the batch, backward, clipping and Adam.
One case is no network: the matrix products of a step alone, each as one call, which bounds what any network reaches.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavenet.machine import begin_worker, keep_freed_memory, multiplies_bfloat16, peak_memory, workers
from wavenet.network import WaveNet, WaveNetConfig, multiply_adds


class PlainWaveNet(nn.Module):
    """The design that is commonly written down: one-hot input, a `Conv1d` for each connection of each layer.

    The same function as `WaveNet` computes of categorical samples, but for the constants. Symbols `(B, T)` -> logits
    `(B, classes, T)`, the first of which look back on zeros.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        residual, gate, skip = config.residual_channels, config.gate_channels, config.skip_channels
        self.classes = config.distribution.symbols
        self.first = nn.Conv1d(self.classes, residual, 1)
        self.gates = nn.ModuleList(
            nn.Conv1d(residual, gate, config.kernel_size, dilation=dilation) for dilation in config.dilations
        )
        self.residuals = nn.ModuleList(nn.Conv1d(gate // 2, residual, 1) for _ in config.dilations)
        self.skips = nn.ModuleList(nn.Conv1d(gate // 2, skip, 1) for _ in config.dilations)
        self.head = nn.Conv1d(skip, config.head_channels, 1)
        self.output = nn.Conv1d(config.head_channels, self.classes, 1)
        self.contexts = [(config.kernel_size - 1) * dilation for dilation in config.dilations]

    def forward(self, symbols: Tensor) -> Tensor:
        x = self.first(functional.one_hot(symbols, self.classes).transpose(1, 2).to(self.first.weight))
        skips = torch.zeros((), device=x.device)
        for context, gates, residual, skip in zip(self.contexts, self.gates, self.residuals, self.skips, strict=True):
            filter_, gate = gates(functional.pad(x, (context, 0))).chunk(2, dim=1)
            gated = torch.tanh(filter_) * torch.sigmoid(gate)
            skips = skips + skip(gated)
            x = x + residual(gated)
        logits: Tensor = self.output(functional.relu(self.head(functional.relu(skips))))
        return logits


@dataclass(frozen=True)
class TrainCase:
    """A way to run a step of training: on `batch` windows of `window` samples.

    `network` is `plain`, `wavenet`, or `products` for the matrix products of its step and nothing else. It `keeps` the
    memory of freed tensors, as `wavenet train` does, or gives it back.
    """

    network: str
    precision: str = "float32"
    compiled: bool = False
    recompute: bool = False
    keeps: bool = True
    batch: int = 2
    window: int = 8000


@dataclass(frozen=True)
class TrainRow:
    """`rate` in samples per second, `memory` the peak of the process (of the GPU, where there is one) in bytes.

    `share` is that of the device's rate of matrix products in this precision, measured in the same rounds by all cases.
    """

    case: TrainCase
    rate: float
    share: float
    memory: int


def train_cases(device: torch.device) -> list[TrainCase]:
    """The plain network, this one in each way that the hardware is made for, and other shapes of the batch.

    On a GPU the batches are large enough to fill it, and fewer cases are compiled, which takes most of the time.
    """
    precisions = ["float32", *(["bfloat16"] if multiplies_bfloat16(device) else [])]
    if device.type == "cuda":
        return _gpu_cases(precisions)
    cases = [TrainCase("plain", keeps=False), TrainCase("plain")]
    cases += [TrainCase("wavenet", precision, compiled) for precision in precisions for compiled in (False, True)]
    cases += [TrainCase("wavenet", precisions[-1], recompute=True)]
    best = precisions[-1]
    cases += [
        TrainCase("wavenet", best, best != "float32", batch=batch, window=window)
        for batch, window in ((1, 8000), (2, 4000), (4, 4000))
    ]
    return [*cases, *(TrainCase("products", precision) for precision in precisions)]


def _gpu_cases(precisions: Sequence[str]) -> list[TrainCase]:
    best = precisions[-1]
    cases = [TrainCase("plain"), *(TrainCase("wavenet", precision) for precision in precisions)]
    cases += [
        TrainCase("wavenet", best, recompute=True),
        *(TrainCase("products", precision) for precision in precisions),
    ]
    large = [replace(case, batch=16) for case in cases]
    return [*large, TrainCase("wavenet", best, True, batch=16), TrainCase("wavenet", best, True, batch=32)]


def measure_training(
    config: WaveNetConfig, cases: Sequence[TrainCase], rounds: int = 9, steps: int = 1
) -> list[TrainRow]:
    """Rates of all cases, `steps` steps of each in each round, on the threads that torch has here."""
    begin = partial(_begin, config, threads=torch.get_num_threads())
    with ExitStack() as stack:
        pools = [stack.enter_context(workers(1, partial(begin, case))) for case in cases]
        first = [pool.submit(_measure, 2) for pool in pools] if torch.cuda.is_available() else []
        for pool, begun in zip_longest(pools, first):  # it compiles, on a machine with a GPU all at the same time
            (begun or pool.submit(_measure, 2)).result()
        turns = [[pool.submit(_measure, steps).result() for pool in pools] for _ in range(rounds)]
    operations = 6 * multiply_adds(WaveNet(config))  # two for each multiply-add; forward, and twice as many backward
    rows = []
    for index, case in enumerate(cases):
        alike = [place for place, other in enumerate(cases) if other.precision == case.precision]
        product = statistics.median(turn[place][1] for turn in turns for place in alike)
        seconds = statistics.median(turn[index][0] for turn in turns)
        rate = case.batch * case.window / seconds
        rows.append(TrainRow(case, rate, operations * rate / product, turns[-1][index][2]))
    return rows


_work: tuple[Callable[[], None], Callable[[], None], torch.device]
"""The work of a worker's process: a step of training, a matrix product, and the device they run on."""


def _begin(config: WaveNetConfig, case: TrainCase, threads: int) -> None:
    global _work
    begin_worker(threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _work = _step(config, case, device), _matrix_product(case.precision, device), device


def _measure(steps: int) -> tuple[float, float, int]:
    """Seconds a step, operations a second in matrix products, and the peak of memory in bytes."""
    step, product, device = _work
    if device.type == "cuda":
        _seconds(step, 1, device)  # takes the memory back that is given to the others below
    seconds = _seconds(step, steps, device) / steps
    rate = 4 * 2 * _SIZE**3 / _seconds(product, 4, device)
    if device.type != "cuda":
        return seconds, rate, peak_memory()
    torch.cuda.empty_cache()
    return seconds, rate, torch.cuda.max_memory_allocated()


def _step(config: WaveNetConfig, case: TrainCase, device: torch.device) -> Callable[[], None]:
    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    if case.keeps:
        keep_freed_memory()
    if case.network == "products":
        return _products(config, case, device)
    if case.network == "plain":
        network = forward = PlainWaveNet(config).to(device)
    else:
        network = model = WaveNet(config).to(device)
        model.recompute = case.recompute
        state = model.initial_state(case.batch)

        def forward(inputs: Tensor) -> Tensor:
            return model.advance(inputs, state)[0]

    optimizer = torch.optim.Adam(network.parameters())
    symbols = torch.randint(config.distribution.symbols, (case.batch, case.window + 1), device=device)

    def loss() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bfloat16"):
            logits = forward(symbols[:, :-1])
        return functional.cross_entropy(logits.float(), symbols[:, 1:])

    objective = torch.compile(loss, dynamic=False) if case.compiled else loss

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def _products(config: WaveNetConfig, case: TrainCase, device: torch.device) -> Callable[[], None]:
    """Run the three products of each weight matrix: output, input gradient, weight gradient."""
    network = WaveNet(config)
    stack = (network.blocks, network.skip, network.head, network.output)
    shapes = [p.shape for module in stack for p in module.parameters() if p.dim() == 2]
    samples = case.batch * case.window

    def matrices(sizes: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Tensor]:
        return {size: torch.randn(*size, device=device, dtype=_type(case.precision)) for size in sizes}

    inputs = matrices((samples, columns) for _, columns in shapes)
    outputs = matrices((samples, rows) for rows, _ in shapes)
    weights = matrices((rows, columns) for rows, columns in shapes)

    def step() -> None:
        for rows, columns in shapes:
            x, y, weight = inputs[samples, columns], outputs[samples, rows], weights[rows, columns]
            torch.mm(x, weight.t())
            torch.mm(y, weight)
            torch.mm(y.t(), x)

    return step


def _type(precision: str) -> torch.dtype:
    return torch.float32 if precision == "float32" else torch.bfloat16


def _matrix_product(precision: str, device: torch.device) -> Callable[[], None]:
    """Multiply two large square matrices, which a library does at its highest rate."""
    a = torch.randn(_SIZE, _SIZE, device=device, dtype=_type(precision))
    into = torch.empty_like(a)

    def product() -> None:
        torch.mm(a, a, out=into)

    return product


_SIZE = 1024 if not torch.cuda.is_available() else 8192


def _seconds(work: Callable[[], None], times: int, device: torch.device) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun
