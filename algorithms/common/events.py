"""Definitions shared by all drivers of workers."""

HEARTBEAT = 0.2  # seconds: the longest time that a parallel driver waits before it yields


class WorkerError(RuntimeError):
    """An error in a worker, with its number; the other workers have been stopped."""
