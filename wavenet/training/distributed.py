"""Training on several processes that `torchrun` starts: the rank of this one, and collectives."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's `rank` among `count` processes, from 0, and its `local_rank` on its machine."""

    rank: int
    count: int
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes the files."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks (an all-reduce). All ranks must call this."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather(self, values: list[T]) -> list[T]:
        """The lists of all ranks, concatenated. All ranks must call this."""
        if self.count == 1:
            return values
        gathered: list[list[T]] = [[] for _ in range(self.count)]
        distributed.all_gather_object(gathered, values)
        return [value for part in gathered for value in part]

    def together(self, work: Callable[[], T]) -> T:
        """Run `work` and wait until all ranks have, so that none waits later for one that failed.

        All ranks must call this. Re-raises this rank's error; raises `ValueError` if only another rank failed.
        """
        try:
            result = work()
        except Exception:
            self.gather([False])
            raise
        done = self.gather([True])
        if not all(done):
            raise ValueError(f"rank {done.index(False)} failed, and prints the reason; so rank {self.rank} ends too")
        return result


ALONE = Processes(0, 1)


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started with this one (NCCL if there is a GPU, else gloo), or this one alone.

    Raises `ConnectionError` if this rank cannot reach the others, or waits for one that has ended.
    """
    processes = _started()
    if processes.count == 1:
        yield processes
        return
    try:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    except RuntimeError as error:
        raise ConnectionError(
            f"rank {processes.rank} of {processes.count} cannot reach the others ({str(error).splitlines()[0]})"
        ) from error
    try:
        yield processes
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not any(word in str(error) for word in _LOST):
            raise
        raise ConnectionError(
            f"rank {processes.rank} has lost the connection to another, which prints the reason if it could; resume "
            "the run from its last checkpoint"
        ) from error
    finally:
        distributed.destroy_process_group()


def _started() -> Processes:
    """This process as the environment describes it. Selects its GPU."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    if "RANK" not in os.environ:
        raise ValueError(f"WORLD_SIZE is {count} and RANK is not set; start the processes with torchrun")
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    if torch.cuda.is_available():
        present = torch.cuda.device_count()
        if processes.local_rank >= present:
            raise ValueError(
                f"rank {processes.rank} has no GPU: it is process {processes.local_rank + 1} on a machine with "
                f"{present}; start at most {present} processes there"
            )
        torch.cuda.set_device(processes.local_rank)
    return processes


_LOST = ("gloo", "NCCL", "Connection", "Socket", "TCPStore")
"""Words in the plain RuntimeErrors that torch.distributed, mostly gloo, raises when a peer is gone."""
