"""Asynchronous workers in separate processes, on shared memory, without locks.

The shared memory has no name: the system frees it when the last process that maps it ends. A worker
whose process dies is replaced, and the new process begins the worker's next episode. If the parent
dies, the workers detect it at their next yield and end.

Without locks, two errors are possible. If a worker is killed between its push and the count of this
push, θ contains an update that T does not count. If a worker is killed, or the run is stopped,
between this count and the report of an episode's end, T contains steps of an episode that is never
reported.
"""

import ctypes
import dataclasses
import multiprocessing
import os
import pickle
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper

from algorithms.common.asynchronous import Asynchronous, Shared
from algorithms.common.events import (
    HEARTBEAT,
    PATIENCE,
    Deadline,
    Events,
    Worker,
    WorkerError,
    abandoned,
)
from algorithms.common.types import Made
from npgrad import Array

LINE = 64  # bytes in a cache line; each array begins at a new one
TRIES = 3  # deaths of a worker in a row, without an update between, that end the run
BLAS = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "VECLIB_MAXIMUM")
ONE_THREAD = {f"{name}_THREADS": "1" for name in BLAS}


def processes(
    worker: Callable[..., Worker],
    make: list[Callable[[], Made]],
    config: Asynchronous,
    state: Shared,
    options: dict[str, Any],
) -> Events:
    """Run config.workers workers, each in a spawned process, on the arrays of `state`.

    The BLAS of each process has one thread. The arrays of `state` are in shared memory until this
    generator is closed. Since processes are spawned, a script that calls this function needs
    `if __name__ == "__main__":`.

    Yields (i, "pushed", what) when episodes ended, (i, "ended", None), (i, "died", None), and
    (None, "waiting", None) after HEARTBEAT seconds without any of these. A worker that died is
    replaced, with a warning, when the caller continues, unless state.stop is set. When T exceeds
    T_max, state.stop is set, or the generator is closed, the workers have PATIENCE seconds to end
    by themselves; then they are killed, with a warning.

    Raises ValueError for objects that cannot be sent to a process. Raises WorkerError, after all
    workers have been stopped, if a worker fails or dies TRIES times without an update between.
    """
    if not hasattr(signal, "pthread_sigmask"):
        raise ValueError("driver = processes: this system has no POSIX signals; use round-robin")
    crew = Crew(state, _pack(worker, make, config, state, options))
    late = Deadline(state, config)
    try:
        for i in range(config.workers):
            crew.start(i)
        while crew.members:
            ready = wait(list(crew.members), HEARTBEAT)
            if not ready:
                if late():
                    break
                yield None, "waiting", None
            for connection in ready:
                i, event, what, life = crew.receive(connection)
                if event == "failed":
                    message, trace = what
                    raise WorkerError(f"worker {i}: {message}") from RuntimeError(trace)
                yield i, event, what
                if event == "died" and not state.stop[0]:
                    crew.replace(i, *life)
    finally:
        crew.end()


class Crew:
    """The processes of the workers, and the arrays of `state` in shared memory."""

    def __init__(self, state: Shared, luggage: bytes) -> None:
        self.context, self.state, self.luggage = (
            multiprocessing.get_context("spawn"),
            state,
            luggage,
        )
        self.stop = self.context.RawValue(ctypes.c_bool, False)
        self.places = {name: _share(self.context, state, name) for name in _arrays(state)}
        self.children: dict[Any, int] = {}  # {process: i} of all that were started and not replaced
        # {connection: (i, process, T[i] at its start, deaths before)}
        self.members: dict[Any, tuple[int, Any, int, int]] = {}
        resource_tracker.ensure_running()  # else the first child starts it, which unblocks SIGINT

    def start(self, i: int, deaths: int = 0) -> None:
        ours, theirs = self.context.Pipe(duplex=False)
        arguments = i, self.luggage, self.places, self.stop, theirs
        child = self.context.Process(target=_child, args=arguments, daemon=True)
        self.children[child] = i  # before its start, which Ctrl-C may interrupt
        with _birth(), theirs:
            child.start()
            self.members[ours] = i, child, int(self.state.T[i]), deaths

    def receive(self, connection: Any) -> tuple[int, str, Any, list[Any]]:
        """Return (i, event, what, the rest of the member); its last event removes the member."""
        try:
            event, what = connection.recv()
        except (EOFError, OSError):
            event, what = "died", None
        i, *life = self.members[connection]
        if event != "pushed":
            del self.members[connection]
            connection.close()
        return i, event, what, life

    def replace(self, i: int, child: Any, T: int, deaths: int) -> None:
        _end({child: i})
        code, deaths = child.exitcode, deaths + 1 if self.state.T[i] == T else 0
        del self.children[child]
        child.close()  # its files
        cause = f"exit status {code}" if code >= 0 else signal.strsignal(-code)
        if deaths == TRIES:
            raise WorkerError(f"worker {i} died ({cause}), {TRIES} times before an update")
        text = f"worker {i} died ({cause}) after {self.state.T[i]} steps and is replaced"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        self.start(i, deaths)

    def end(self) -> None:
        """End all processes, and copy the arrays of `state` out of the shared memory."""
        self.stop.value = True
        for connection in self.members:
            connection.close()  # so that no worker waits for this process to read
        _end(self.children)
        for name in self.places:
            setattr(self.state, name, getattr(self.state, name).copy())


def _arrays(state: Shared) -> list[str]:
    return [name for name, value in vars(state).items() if isinstance(value, np.ndarray)]


def _pack(
    worker: Callable[..., Worker],
    make: list[Callable[[], Made]],
    config: Asynchronous,
    state: Shared,
    options: dict[str, Any],
) -> bytes:
    """Return all that a worker needs, except the arrays of `state`, as bytes.

    Raises ValueError if it cannot be pickled.
    """
    none: Any = dict.fromkeys(_arrays(state))
    luggage: Any = worker, make, config, dataclasses.replace(state, **none), options
    try:
        return pickle.dumps(CloudpickleWrapper(luggage))
    except Exception as error:
        what = "the environment and all options must be objects that can be pickled"
        raise ValueError(f"driver = processes: {what}: {error}") from error


def _child(i: int, luggage: bytes, places: dict[str, Any], stop: Any, connection: Any) -> None:
    """Run worker i in its process until it ends, is told to stop, or the parent has died."""
    process: Any = multiprocessing.parent_process()
    parent = process.pid
    try:
        worker, make, config, state, options = pickle.loads(luggage).fn
        for name, place in places.items():
            setattr(state, name, _view(*place))
        with closing(make[i]()) as env:
            for event, what in worker(i, env, config, state, **options):
                if stop.value or os.getppid() != parent:
                    return
                if event == "pushed" and what:
                    connection.send((event, what))
        last: tuple[str, Any] = "ended", None
    except Exception as error:
        last = "failed", (f"{type(error).__name__}: {error}", traceback.format_exc())
    with suppress(BrokenPipeError):  # the parent no longer reads
        connection.send(last)


def _end(children: dict[Any, int]) -> None:
    """Wait until all processes {process: i} have ended; after PATIENCE seconds, kill the others."""
    deadline = time.monotonic() + PATIENCE
    for child, i in children.items():
        if child.pid is not None:
            child.join(max(0.0, deadline - time.monotonic()))
            if child.is_alive():
                child.kill()
                warnings.warn(abandoned(i), RuntimeWarning, stacklevel=2)
            child.join()


def _share(context: Any, state: Shared, name: str) -> tuple[Any, np.dtype[Any], tuple[int, ...]]:
    """Move an array of `state` into shared memory; return (memory, dtype, shape) for `_view`."""
    a = getattr(state, name)
    place = context.RawArray(ctypes.c_byte, a.nbytes + LINE), a.dtype, a.shape
    setattr(state, name, _view(*place))
    getattr(state, name)[...] = a
    return place


def _view(memory: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Return the array in `memory`, which begins at its first cache line."""
    return np.ndarray(shape, dtype, memory, -ctypes.addressof(memory) % LINE)


@contextmanager
def _birth() -> Iterator[None]:
    """Let a process that is spawned in this block have one BLAS thread, and ignore Ctrl-C and
    SIGTERM.

    A terminal, or a system that shuts down, sends them to all; only the parent responds.
    """
    before = {name: os.environ[name] for name in ONE_THREAD if name in os.environ}
    os.environ.update(ONE_THREAD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        for name in ONE_THREAD:
            del os.environ[name]
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # last: a pending Ctrl-C is raised here
