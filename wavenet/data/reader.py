"""Reads the batches of training: at request, or ahead of the steps in processes beside it."""

import errno
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from wavenet.data.windows import Batch, WindowSampler
from wavenet.machine import begin_worker, starting_workers

_STEPS = 2**31


class BatchReader:
    """Reads the `parts` of each step's batch.

    With `workers` that many processes read ahead, so that a device that computes beside the processor does not wait for
    audio. They are forked, so clips need not be pickled. The batches are the same.
    """

    def __init__(self, sampler: WindowSampler, parts: Sequence[slice], workers: int = 0) -> None:
        self._sampler, self._parts, self._workers = sampler, parts, workers
        self._ahead: Iterator[Any] = iter(())
        self._next = -1

    def read(self, step: int) -> list[Batch]:
        """The parts of a step's batch. Raises what reading a clip raises, `OSError` if a process was killed."""
        if not self._workers:
            return [self._sampler.batch(step, rows) for rows in self._parts]
        if step != self._next:
            self._ahead = self._begin(step)
        self._next = step + 1
        try:
            arrays = next(self._ahead)
        except RuntimeError as error:
            reason = "a process that reads audio was killed, perhaps for lack of memory"
            raise OSError(errno.ECHILD, reason) from error
        if isinstance(arrays, Exception):
            raise arrays
        drawn = self._sampler.draw(step)
        return [
            Batch(**_tensors(values), clips=tuple(clip for clip, _ in drawn[rows]))
            for rows, values in zip(self._parts, arrays, strict=True)
        ]

    def close(self) -> None:
        """End the processes, which hold what this one had open when they began, such as its lock of a run folder."""
        self._ahead, self._next = iter(()), -1

    def _begin(self, step: int) -> Iterator[Any]:
        steps = _Steps(self._sampler, self._parts)
        loader = DataLoader(
            steps,
            batch_size=None,
            sampler=range(step, _STEPS),
            collate_fn=_same,
            num_workers=self._workers,
            worker_init_fn=_begin_worker,
            multiprocessing_context="fork",
        )
        with starting_workers(), warnings.catch_warnings():
            # Python 3.12 warns of threads; like the workers of every torch program, these touch nothing that they hold
            warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
            return iter(loader)


class _Steps(Dataset[Any]):
    """The parts of each step's batch as arrays, which travel through a pipe; tensors would take shared memory."""

    def __init__(self, sampler: WindowSampler, parts: Sequence[slice]) -> None:
        self.sampler, self.parts = sampler, parts

    def __getitem__(self, step: int) -> Any:
        try:
            return [_arrays(self.sampler.batch(step, rows)) for rows in self.parts]
        except (OSError, ValueError) as error:
            return error


def _arrays(batch: Batch) -> dict[str, Any]:
    values = {name: value for name, value in vars(batch).items() if name != "clips"}
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in values.items()}


def _tensors(values: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(value) if hasattr(value, "dtype") else value for name, value in values.items()}


def _same(values: Any) -> Any:
    return values


def _begin_worker(number: int) -> None:
    begin_worker()
