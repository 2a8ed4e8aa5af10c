"""The micro-batches of a rank, their precision, who reads them, and a check that they fit in memory."""

import multiprocessing
import os

import torch

from wavenet.machine import multiplies_bfloat16
from wavenet.network import WaveNet
from wavenet.training.config import TrainConfig
from wavenet.training.distributed import Processes


def micro_batches(config: TrainConfig, processes: Processes) -> list[slice]:
    """The rows of a batch that each micro-batch of this rank takes; `ValueError` if the batch cannot be shared."""
    count, left = divmod(config.batch_size, processes.count * config.accumulate)
    if left:
        raise ValueError(
            f"batch_size is {config.batch_size}; expected a multiple of {processes.count * config.accumulate}, "
            f"{processes.count} processes times accumulate"
        )
    first = processes.rank * config.accumulate
    return [slice((first + turn) * count, (first + turn + 1) * count) for turn in range(config.accumulate)]


def reading_processes(device: torch.device, processes: Processes) -> int:
    """How many processes read ahead of a rank's steps: none for a CPU, which has work enough itself."""
    if device.type == "cpu" or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    return max(1, min(8, len(os.sched_getaffinity(0)) // processes.count - 1))


def wants_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """`auto` takes bfloat16 only on hardware that multiplies it: emulated, it is forty times slower than float32."""
    return multiplies_bfloat16(device) if config.precision == "auto" else config.precision == "bfloat16"


def refuse_too_large(model: WaveNet, rows: int, window: int, context: int) -> None:
    """Raise `ValueError` if not even the gates of a micro-batch fit in memory: the system would kill the process.

    Two bytes are counted for each number, so what is refused is too large in any precision.
    """
    layers = 1 if model.recompute else len(model.blocks)
    numbers = rows * (context + window) * model.config.gate_channels * layers
    cpu = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    memory = torch.cuda.mem_get_info(model.device)[1] if model.device.type == "cuda" else cpu
    if 2 * numbers > memory:
        raise ValueError(
            f"{rows} windows of {window:,} samples at a time do not fit: their gates alone take "
            f"{2 * numbers / 2**30:,.0f} GiB of {memory / 2**30:,.0f}; lower batch_size or window, or raise accumulate"
        )
