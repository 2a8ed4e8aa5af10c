"""Training on several processes, as `torchrun` starts them: who this one is, and what they tell each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

__all__ = ["ALONE", "Processes", "joined"]

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """`count` processes, of which this is `rank` (from 0) and, on its machine, `local_rank`."""

    rank: int
    count: int
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather(self, values: list[T]) -> list[T]:
        """The lists of all processes, one after the other."""
        if self.count == 1:
            return values
        gathered: list[list[T]] = [[] for _ in range(self.count)]
        distributed.all_gather_object(gathered, values)
        return [value for part in gathered for value in part]

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes(0, 1)


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started with this one (NCCL where there is a GPU, else gloo), or this one alone.

    `ConnectionError` where another one is gone while this one waits for it.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    if torch.cuda.is_available():
        torch.cuda.set_device(processes.local_rank)
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield processes
    except RuntimeError as error:
        if not any(word in str(error) for word in _LOST):
            raise
        raise ConnectionError(
            f"process {processes.rank} has lost another one, which says why if it could; --resume goes on from the "
            "last checkpoint"
        ) from error
    finally:
        distributed.destroy_process_group()


_LOST = ("gloo", "NCCL", "ncclRemoteError", "Connection", "Socket", "TCPStore")
"""Words in what torch.distributed raises, mostly as a plain RuntimeError, when a peer is gone."""
