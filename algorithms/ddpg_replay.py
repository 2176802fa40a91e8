"""Experience replay: a ring of transitions, and batches drawn from it uniformly (DDPG §3).

The ring is one array (capacity, 2n + d + 2), a State's field: row i holds s, u, r, s2, terminated
of one step. Its memory is only taken up as rows are first written (the system hands out zeros
lazily):
capacity · (2n + d + 2) numbers in the end, 168 MB for a million transitions of HalfCheetah in
single precision.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from npgrad import Array
from npgrad.memory import aligned, available_memory


def empty_ring(capacity: int, n: int, d: int, dtype: DTypeLike) -> Array:
    """Room for `capacity` transitions of states (n,) and actions (d,).

    Raises ValueError, before anything is allocated, if they will not fit into memory.
    """
    width, free = 2 * n + d + 2, available_memory()
    row = width * np.dtype(dtype).itemsize
    if free is not None and capacity * row > free:
        raise ValueError(
            f"replay = {capacity}: needs {capacity * row / 1e6:,.0f} MB of memory, "
            f"{free / 1e6:,.0f} MB are available: must be at most {free // row}"
        )
    return np.zeros((capacity, width), dtype)


class Sample(NamedTuple):
    """N transitions: S (N, n), U (N, d), r (N,), S2 (N, n), terminated (N,), 1 or 0. Discrete
    states are S (N,) and S2 (N,). The next sample overwrites them."""

    S: Array
    U: Array
    r: Array
    S2: Array
    terminated: Array


class Replay:
    """Writes into and draws from `ring`, N transitions at a time. Actions are (d,)."""

    def __init__(self, ring: Array, d: int, N: int, discrete: bool = False) -> None:
        self.ring, self.discrete = ring, discrete
        self.n = n = (ring.shape[1] - d - 2) // 2
        self.row = np.empty(ring.shape[1], ring.dtype)
        self.rows = aligned((N, ring.shape[1]), ring.dtype)
        S, U, r, S2, terminated = np.split(self.rows, np.cumsum([n, d, 1, n]), 1)
        self.batch = Sample(S, U, r[:, 0], S2, terminated[:, 0])
        self.indices = np.empty(N, np.intp)

    def store(self, t: int, s: Any, u: Array, r: float, s2: Any, terminated: bool) -> None:
        """Put transition number t (from 0) in the place of number t − capacity.

        Raises FloatingPointError, with nothing stored, if a number is not finite in its precision.
        """
        row, n = self.row, self.n
        with np.errstate(over="ignore"):
            row[:n], row[n : -n - 2], row[-n - 2], row[-n - 1 : -1] = s, u, r, s2
        row[-1] = terminated
        if not np.isfinite(row).all():
            raise FloatingPointError(
                f"reward {r} and observation {s2} at step {t + 1}: must be finite in {row.dtype}"
            )
        self.ring[t % len(self.ring)] = row

    def sample(self, t: int, rng: np.random.Generator) -> Sample:
        """A Sample of those stored, drawn uniformly and independently, t of them ever stored."""
        self.indices[:] = rng.integers(min(t, len(self.ring)), size=len(self.rows))
        self.ring.take(self.indices, 0, self.rows, "clip")  # the one mode that writes straight out
        if not self.discrete:
            return self.batch
        S, S2 = (x[:, 0].astype(np.intp) for x in (self.batch.S, self.batch.S2))
        return self.batch._replace(S=S, S2=S2)
