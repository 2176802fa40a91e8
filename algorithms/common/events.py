"""Definitions shared by all drivers of workers."""

import time
from collections.abc import Generator
from typing import Any, TypeAlias

HEARTBEAT = 0.2  # seconds: the longest time that a parallel driver waits before it yields
PATIENCE = 5.0  # seconds that workers have to end by themselves
Worker: TypeAlias = Generator[tuple[str, Any], None, None]  # (event, what) of one
Events: TypeAlias = Generator[tuple[int | None, str, Any], None, None]  # (worker, event, what)


class WorkerError(RuntimeError):
    """An error in a worker, with its number; the other workers have been stopped."""


class Deadline:
    """A function () -> whether workers have been told to end, by T > T_max or by state.stop, for
    PATIENCE seconds."""

    def __init__(self, state: Any, config: Any) -> None:
        self.state, self.T_max = state, config.T_max
        self.over: float | None = None

    def __call__(self) -> bool:
        if self.over is None and (self.state.stop[0] or self.state.T.sum() > self.T_max):
            self.over = time.monotonic()
        return self.over is not None and time.monotonic() - self.over > PATIENCE


def abandoned(i: int) -> str:
    """Return the text of a warning."""
    return f"worker {i} does not end by itself: it is stopped, and its latest steps are lost"
