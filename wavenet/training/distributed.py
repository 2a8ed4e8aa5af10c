"""Training on several processes, as `torchrun` starts them: who this one is, and what they tell each other."""

import os
from collections.abc import Callable, Iterator
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

    def together(self, work: Callable[[], T]) -> T:
        """What `work` returns, once it has returned in all processes: none may wait for one that has failed.

        Where it raises, that; where it raises only elsewhere, `ValueError`.
        """
        try:
            result = work()
        except Exception:
            self.gather([False])
            raise
        done = self.gather([True])
        if not all(done):
            raise ValueError(f"process {done.index(False)} failed, and says why; so process {self.rank} ends too")
        return result


ALONE = Processes(0, 1)


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started with this one (NCCL where there is a GPU, else gloo), or this one alone.

    `ConnectionError` where the others are not reached, or one is gone while this one waits for it.
    """
    processes = _started()
    if processes.count == 1:
        yield processes
        return
    try:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    except RuntimeError as error:
        raise ConnectionError(
            f"process {processes.rank} of {processes.count} does not reach the others ({str(error).splitlines()[0]})"
        ) from error
    try:
        yield processes
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not any(word in str(error) for word in _LOST):
            raise
        raise ConnectionError(
            f"process {processes.rank} has lost another one, which says why if it could; --resume goes on from the "
            "last checkpoint"
        ) from error
    finally:
        distributed.destroy_process_group()


def _started() -> Processes:
    """This process as the environment describes it, on the GPU that is its own."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    if "RANK" not in os.environ:
        raise ValueError(f"WORLD_SIZE is {count} and RANK is missing in the environment; start with torchrun")
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    if torch.cuda.is_available():
        present = torch.cuda.device_count()
        if processes.local_rank >= present:
            raise ValueError(
                f"process {processes.rank} has no GPU: it is number {processes.local_rank + 1} on a machine with "
                f"{present}; expected at most as many, --nproc-per-node {present}"
            )
        torch.cuda.set_device(processes.local_rank)
    return processes


_LOST = ("gloo", "NCCL", "Connection", "Socket", "TCPStore")
"""Words in what torch.distributed raises when a peer is gone, where it is a plain RuntimeError, as gloo's mostly is."""
