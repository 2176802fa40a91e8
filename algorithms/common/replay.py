"""Experience replay: a ring of transitions, and batches drawn from it uniformly (DDPG §3).

The ring is one array (capacity, 2n + d + 3), a State's field: row i holds s, u, r, s2, terminated,
truncated of one step. Its memory is only taken up as rows are first written (the system hands out
zeros lazily): capacity · (2n + d + 3) numbers in the end, 172 MB for a million transitions of
HalfCheetah in single precision.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npgrad.memory import aligned


def available_memory():
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


def empty_ring(capacity, n, d, dtype):
    """Room for `capacity` transitions of states (n,) and actions (d,).

    Raises ValueError, before anything is allocated, if they will not fit into memory.
    """
    width, free = 2 * n + d + 3, available_memory()
    row = width * np.dtype(dtype).itemsize
    if free is not None and capacity * row > free:
        raise ValueError(
            f"replay = {capacity}: needs {capacity * row / 1e6:,.0f} MB of memory, "
            f"{free / 1e6:,.0f} MB are available: must be at most {free // row}"
        )
    return np.zeros((capacity, width), dtype)


class Sample(NamedTuple):
    """N transitions, views of one array that the next sample overwrites.

    S (N, n), U (N, d), R (N,), S2 (N, n), terminated and truncated (N,), 1 or 0.
    """

    S: np.ndarray
    U: np.ndarray
    R: np.ndarray
    S2: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


def fields(rows, n, d):
    """A Sample of views into `rows` (N, 2n + d + 3)."""
    S, U, R, S2, ends = np.split(rows, np.cumsum([n, d, 1, n]), 1)
    return Sample(S, U, R[:, 0], S2, ends[:, 0], ends[:, 1])


class Replay:
    """Writes into and draws from `ring`, N transitions at a time; `t` counts all ever stored."""

    def __init__(self, ring, n, d, N):
        self.ring, self.n = ring, n
        self.row = np.empty(ring.shape[1], ring.dtype)
        self.rows = aligned((N, ring.shape[1]), ring.dtype)
        self.batch = fields(self.rows, n, d)
        self.indices = np.empty(N, np.intp)

    def store(self, t, s, u, r, s2, terminated, truncated):
        """Put transition number t (from 0) in the place of number t − capacity.

        Raises FloatingPointError, with nothing stored, if a number is not finite in its precision.
        """
        row, n = self.row, self.n
        with np.errstate(over="ignore"):
            row[:n], row[n : -n - 3], row[-n - 3], row[-n - 2 : -2] = s, u, r, s2
        row[-2], row[-1] = terminated, truncated
        if not np.isfinite(row).all():
            raise FloatingPointError(
                f"the environment returned reward {r} and observation {s2} at step {t + 1}: "
                f"both must be finite in {row.dtype}"
            )
        self.ring[t % len(self.ring)] = row

    def sample(self, t, rng):
        """A Sample of those stored, drawn uniformly and independently, t of them ever stored."""
        self.indices[:] = rng.integers(min(t, len(self.ring)), size=len(self.rows))
        self.ring.take(self.indices, 0, self.rows, "clip")  # the one mode that writes straight out
        return self.batch
