"""Find the past samples that a network sees: count paths along its dilations, or measure gradients.

`WaveNetConfig.receptive_field` is the formula for how far it reaches. A network may not see every sample within its
reach: a schedule that starts at dilation 2 never sees half of them.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from wavenet.network.config import WaveNetConfig
from wavenet.network.model import WaveNet

WIDEST = 2**16
"""The widest receptive field, in samples, that is examined input by input."""
_NAMED = 4
"""How many holes are named one by one; the rest are counted."""


def count_paths(dilations: Sequence[int], kernel_size: int) -> Iterator[Tensor]:
    """Count the paths from each input of each layer to the newest output, from the last layer to the first.

    Yields a float64 `(reach,)` for each layer, lag 0 (the newest) first; the last one counts from the network's inputs.

    >>> [counts.tolist() for counts in count_paths([1, 2], 2)]
    [[1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    counts = torch.ones(1, dtype=torch.float64)
    for dilation in reversed(dilations):
        reach = len(counts) + (kernel_size - 1) * dilation
        below = torch.zeros(reach, dtype=torch.float64)
        for tap in range(kernel_size):
            below[tap * dilation : tap * dilation + len(counts)] += counts
        counts = below.clamp(max=torch.finfo(torch.float64).max)
        yield counts


def seen_lags(config: WaveNetConfig) -> Tensor | None:
    """Which inputs within the receptive field reach the newest output, by counting paths: bool, lag 0 first.

    `None` if the field is wider than `WIDEST`.
    """
    if config.receptive_field > WIDEST:
        return None
    *_, counts = count_paths(config.dilations, config.kernel_size)
    return counts > 0


def measure_reach(dilations: Sequence[int], kernel_size: int) -> Tensor:
    """Which inputs reach the newest output of a network with this schedule: bool `(receptive field,)`, lag 0 first.

    Measured by gradient, on a network of few channels: their number does not change the answer. Raises `ValueError` if
    the receptive field is wider than `WIDEST`.

    >>> measure_reach([2, 4], kernel_size=2)  # it never sees every second input
    tensor([ True, False,  True, False,  True, False,  True])
    """
    channels = 8
    config = WaveNetConfig(
        dilations=dilations,
        kernel_size=kernel_size,
        residual_channels=channels,
        gate_channels=2 * channels,
        skip_channels=channels,
        head_channels=channels,
    )
    if config.receptive_field > WIDEST:
        raise ValueError(
            f"the receptive field is {config.receptive_field} samples; up to {WIDEST} are examined one by one"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return visible_lags(WaveNet(config), config.receptive_field)


def visible_lags(model: WaveNet, samples: int | None = None) -> Tensor:
    """Which of the last `samples` inputs reach one output: bool `(samples,)`, lag 0 (the newest input) first.

    Measured as the gradient of the output with respect to each input's embedding, in float64, on a copy whose output
    layer is all ones (a fresh one has columns that sum to zero) and whose rectifiers are all open. `samples` defaults
    to the receptive field and one more. Inputs of linear prediction and features are not counted.
    """
    probe = copy.deepcopy(model).double()
    torch.nn.init.ones_(probe.output.weight)
    for layer, level in ((probe.skip, 1e6), (probe.head, 1e12)):
        torch.nn.init.constant_(layer.bias, level)
    samples = samples or probe.receptive_field + 1
    length = max(samples, probe.receptive_field)
    generator = torch.Generator().manual_seed(0)
    amplitudes = torch.rand(1, length, probe.embedding.signals, generator=generator) * 2 - 1
    embedded = probe.embedding(amplitudes.to(probe.device)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(probe.respond(embedded)[0, :, -1].sum(), embedded)
    reached: Tensor = (gradient[0] != 0).any(dim=1)
    return reached.flip(0)[:samples]


def layer_table(config: WaveNetConfig) -> list[dict[str, float]]:
    """Each layer's number, its dilation, and how far it sees, in `samples` and `ms`."""
    seen, layers = 1, []
    for number, dilation in enumerate(config.dilations, start=1):
        seen += (config.kernel_size - 1) * dilation
        layers.append({"layer": number, "dilation": dilation, "samples": seen, "ms": seen / config.sample_rate * 1000})
    return layers


def describe_reach(seen: Tensor, sample_rate: int) -> str:
    """Say in one sentence which of the last samples are seen, bool `(T,)` with lag 0 first, and name the holes.

    >>> describe_reach(torch.tensor([True, True, True, True]), 1000)
    'sees every sample of the last 4.0 ms'
    >>> describe_reach(torch.tensor([True, False, False, True]), 1000)
    'sees 2 of the last 4 samples (4.0 ms); never those 1 to 2 before the newest'
    """
    milliseconds = len(seen) / sample_rate * 1000
    if bool(seen.all()):
        return f"sees every sample of the last {milliseconds:.1f} ms"
    lags = torch.nonzero(~seen)[:, 0].tolist()
    runs: list[tuple[int, int]] = []
    for lag in lags:
        if runs and lag == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], lag
        else:
            runs.append((lag, lag))
    named = [str(first) if first == last else f"{first} to {last}" for first, last in runs[:_NAMED]]
    unnamed = len(runs) - _NAMED
    more = f" and {unnamed} more run{'s' * (unnamed > 1)}" if unnamed > 0 else ""
    holes = f"never those {', '.join(named)}{more} before the newest"
    return f"sees {int(seen.sum()):,} of the last {len(seen):,} samples ({milliseconds:.1f} ms); {holes}"


def describe_sight(model: WaveNet) -> str:
    """Say in one sentence on which past samples an output depends: through the layers, and by linear prediction.

    >>> describe_sight(WaveNet(WaveNetConfig(dilations=(1, 2), sample_rate=8000)))
    'It sees every sample of the last 0.5 ms'
    """
    config, seen = model.config, seen_lags(model.config)
    reach = f"reaches {model.receptive_field:,} samples back"
    if seen is not None and "block" not in model.own_parts:
        reach = describe_reach(seen, config.sample_rate)
    if model.predictor is None:
        return f"It {reach}"
    return f"Its stack of layers {reach}; linear prediction also takes in the last {model.history:,} samples"
