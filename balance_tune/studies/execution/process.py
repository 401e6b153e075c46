"""A process that runs several trials: its threads and memory, and global state that is restored after each trial."""

from __future__ import annotations

import ctypes
import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count

import numpy as np
import torch

from balance_tune.private_torch import process_flags

DEVICES = ("cpu", "cuda")
_trial_count = count(1)  # trials of this process that ended by themselves
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@cache
def configure_process(cpus: int) -> None:
    """Set the number of threads, glibc's memory thresholds and the permanent generation of garbage collection, once."""
    torch.set_num_threads(max(1, cpus))
    _keep_memory()
    gc.collect()
    gc.freeze()


def freeze_survivors() -> None:
    """Move the objects that a trial left (imported modules, caches) out of garbage collection, with `gc.freeze()`.

    Scanning them costs 60 ms after every trial. Done after the first trial of a process, the second, the
    fourth and so on: each time, Ray's own record of the trial is kept for the life of the process.
    """
    ended = next(_trial_count)
    if ended & (ended - 1) == 0:
        gc.freeze()


def _keep_memory() -> None:
    """Have glibc keep freed memory (up to 128 MB) for the next step, which otherwise faults in every page again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**27)


@contextmanager
def preserve_process_state() -> Iterator[None]:
    """Restore the global state that a method, an encoder or an exception may have changed, and free memory.

    Threads, default dtype, autocast, gradient mode, anomaly detection, deterministic algorithms, the global random
    generators.
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    flags = [(read, write, read()) for read, write in process_flags()]
    autocast = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in DEVICES]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        for read, write, value in flags:
            if read() != value:  # setting the same value again would import torch's compiler
                write(value)
        for device, enabled, kind in autocast:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, kind)
        torch.clear_autocast_cache()
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        free()


def free() -> None:
    """Free the memory of ended runs. A run refers to itself, so only the garbage collector frees it."""
    gc.collect()
    if torch.cuda.is_initialized():
        with suppress(torch.AcceleratorError):  # of a device that has failed: the process ends with its trial
            torch.cuda.empty_cache()  # for other processes on the device
