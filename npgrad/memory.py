"""What makes a processor fast: aligned arrays, parts that fit its cache, no denormal numbers."""

import numpy as np


def aligned(shape, dtype):
    """np.empty, but beginning at a cache line, 64 bytes: two-input ufuncs are up to 1.9x faster."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def aligned_copy(x, dtype=None):
    """A copy of x, so aligned."""
    copy = aligned(x.shape, dtype or x.dtype)
    copy[...] = x
    return copy


def parts(x, size=2**15):
    """Slices of x so short that what belongs to one stays in the processor's cache."""
    return (slice(i, i + size) for i in range(0, x.size, size))


def flush(x, least=None):
    """Set to 0 what is nearer to it than `least`, before it decays into a denormal number, with
    which processors are up to 20 times slower. By default 1e8 times the largest of these."""
    if least is None:
        least = 1e8 * np.finfo(x.dtype).tiny
    x[np.abs(x) < least] = 0.0
