"""Helpers for speed: aligned arrays, minima of small arrays, removal of denormal numbers."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from npgrad.types import Array


def aligned(shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return np.empty(shape, dtype) that begins at a cache line (64 bytes).

    Two-input ufuncs are up to 1.9x faster on such arrays.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def aligned_copy(x: Array, dtype: DTypeLike | None = None) -> Array:
    """Return a copy of x that begins at a cache line."""
    copy = aligned(x.shape, dtype or x.dtype)
    copy[...] = x
    return copy


def smallest(x: Array) -> Any:
    """Return x.min() as a Python number, inf if x is empty; nan if x has one. Up to four times as
    fast for small arrays."""
    return x.item(x.argmin()) if x.size else math.inf


def flush(x: Array, least: float | None = None) -> None:
    """Set entries of x whose magnitude is below `least` to 0.

    Otherwise they may decay into denormal numbers, with which processors are up to 20 times slower.
    The default of `least` is 1e8 times the smallest normal number.
    """
    if least is None:
        least = 1e8 * float(np.finfo(x.dtype).tiny)
    x[np.abs(x) < least] = 0.0


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(x.split()[1]) for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


@contextmanager
def within_memory() -> Iterator[None]:
    """Let what needs more memory than is available raise MemoryError, on systems that can count it.

    Otherwise the system ends the process, or another one.
    """
    free = available_memory()
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        free = None
    if free is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [bound for bound in (used + free, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
