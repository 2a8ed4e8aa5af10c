"""Abilities of the machine, worker processes, and locks of folders."""

import ctypes
import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt` (malloc.h)."""


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has units for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of freed tensors instead of returning it to the system.

    Each step of training frees the same gigabytes and allocates them again. The system fills what it gets back with
    zeros, page by page: this took a quarter of a step on two CPU cores. Does nothing without glibc.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_TRIM_THRESHOLD, -1)
        library.mallopt(_MMAP_MAX, 0)


def peak_memory() -> int:
    """The peak memory of this process, in bytes. (getrusage begins at the parent's peak.)"""
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def begin_worker(threads: int = 1) -> None:
    """In a worker: leave Ctrl-C to the process that started it, and end when that process is gone, for any reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def starting_workers() -> Iterator[None]:
    """Start workers inside this block: Ctrl-C never reaches them, not even while they import what they need.

    They inherit the blocked signal. In this process the signal arrives when the block ends; it is not lost.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it would unblock the signal when the first worker starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def workers(count: int, begin: Callable[[], None] = begin_worker) -> Iterator[ProcessPoolExecutor]:
    """Start processes, which call `begin`. They end with the block: after their work, or at once if the block fails.

    Raises `OSError` if one of them was killed.
    """
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=begin) as pool:
        with starting_workers():
            for _ in range(count):
                pool.submit(int)  # starts one worker each time, because none is idle yet
        try:
            yield pool
        except BaseException as error:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            if not isinstance(error, BrokenExecutor):
                raise
            reason = "a worker process was killed, perhaps for lack of memory (fewer of them need less)"
            raise OSError(errno.ECHILD, reason) from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; `ValueError` if another process holds the lock. Any end of a process frees it.

    Systems that cannot lock folders (Windows, some network disks) have no lock.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another process is at work in {folder}; wait for it or end it") from error
        except OSError:
            pass
        yield
    finally:
        os.close(handle)
