"""What the machine can do, and how this process and its children live on it."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from multiprocessing.pool import Pool
from pathlib import Path

import torch

__all__ = [
    "alone_in",
    "begin_worker",
    "end_with_parent",
    "keep_freed_memory",
    "multiplies_bfloat16",
    "peak_memory",
    "starting_workers",
    "workers",
]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt` (malloc.h)."""


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has units for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of freed tensors instead of handing it back to the system.

    A step of training frees and asks for the same gigabytes; each time they come back from the system, it fills them
    with zeros, page by page, which took a quarter of a step on two CPU cores. Does nothing without glibc.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_TRIM_THRESHOLD, -1)
        library.mallopt(_MMAP_MAX, 0)


def peak_memory() -> int:
    """The most memory that this process has held, in bytes. (getrusage begins at what its parent held.)"""
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def end_with_parent() -> None:
    """For a worker's process: end when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def begin_worker() -> None:
    """A worker keeps to its core, and leaves Ctrl-C to the process that started it, which it does not outlive."""
    end_with_parent()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def starting_workers() -> Iterator[None]:
    """Ctrl-C never reaches the processes that are started in here, not even while they import what they need.

    They inherit that it is held back. Here it comes when they are started, and is not lost.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which would let the signal through again when the first worker is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def workers(count: int) -> Iterator[Pool]:
    """Processes of one thread each that end with the block: when their work is done, at once where the block fails."""
    with ExitStack() as held:
        with starting_workers():
            pool = held.enter_context(multiprocessing.get_context("spawn").Pool(count, begin_worker))
        yield pool
        pool.close()
        pool.join()  # so that they end by themselves, not by the block's end


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a folder for this process; `ValueError` where another one is at work in it. Its end, SIGKILL too, frees it.

    On systems that cannot lock folders (Windows, some network disks) nothing is kept.
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
