"""Asynchronous workers in processes of their own, on shared memory, without locks.

The memory has no name that could be left behind: it goes with the last process that maps it. A
worker whose process dies is replaced, and goes on with the next of its episodes. When the parent
dies, the workers see it at their next yield, and end.

Two windows stay open without locks. A worker that is killed in the instant between its push and the
count of it leaves an update in θ that T does not count; one killed, or a run stopped, between that
count and the report of an episode's end leaves steps in T whose episode nobody hears of.
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
from contextlib import closing, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait

import numpy as np

from algorithms.common.drivers import HEARTBEAT, WorkerError

LINE = 64  # bytes: arrays begin at a line of the cache of their own
PATIENCE = 5.0  # seconds in which workers that are to end may do so by themselves
TRIES = 3  # deaths in a row without an update between: no longer bad luck
BLAS = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "VECLIB_MAXIMUM")
ONE_THREAD = {f"{name}_THREADS": "1" for name in BLAS}


def processes(worker, make, config, state, options):
    """Let config.workers workers run, each in a spawned process (so that a script which calls this
    needs its `if __name__ == "__main__":`) whose BLAS has one thread, on the arrays of `state`:
    these lie in shared memory until this generator is closed.

    Yields (i, "pushed", what) where episodes ended, (i, "ended", None), (i, "died", None), and
    (None, "waiting", None) at least every HEARTBEAT seconds. A worker that died is replaced, with a
    warning, when the caller goes on.

    Raises ValueError for what cannot be sent to a process; WorkerError, once all workers have been
    stopped, if one fails or dies TRIES times without an update between.
    """
    if not hasattr(signal, "pthread_sigmask"):
        raise ValueError("driver = processes: this system has no POSIX signals; round-robin works")
    crew = Crew(state, _pack(worker, make, config, state, options))
    try:
        for i in range(config.workers):
            crew.start(i)
        while crew.members:
            ready = wait(list(crew.members), HEARTBEAT)
            if not ready:
                yield None, "waiting", None
            for connection in ready:
                i, event, what, life = crew.receive(connection)
                if event == "failed":
                    message, trace = what
                    raise WorkerError(f"worker {i}: {message}") from RuntimeError(trace)
                yield i, event, what
                if event == "died":
                    crew.replace(i, *life)
    finally:
        crew.end()


class Crew:
    """The processes of the workers, and the arrays of `state` in the memory that they share."""

    def __init__(self, state, luggage):
        self.context, self.state, self.luggage = (
            multiprocessing.get_context("spawn"),
            state,
            luggage,
        )
        self.stop = self.context.RawValue(ctypes.c_bool, False)
        self.places = {name: _share(self.context, state, name) for name in _arrays(state)}
        self.children = []  # all there ever were
        self.members = {}  # by connection: i, its process, T[i] at its start, the deaths before
        resource_tracker.ensure_running()  # or the first child starts it, which unblocks SIGINT

    def start(self, i, deaths=0):
        ours, theirs = self.context.Pipe(duplex=False)
        arguments = i, self.luggage, self.places, self.stop, theirs
        child = self.context.Process(target=_child, args=arguments, daemon=True)
        self.children.append(child)  # before its birth, during which Ctrl-C may come
        with _birth(), theirs:
            child.start()
            self.members[ours] = i, child, int(self.state.T[i]), deaths

    def receive(self, connection):
        """(i, event, what, the rest of the member), who is none any more after its last event."""
        try:
            event, what = connection.recv()
        except (EOFError, OSError):
            event, what = "died", None
        i, *life = self.members[connection]
        if event != "pushed":
            del self.members[connection]
            connection.close()
        return i, event, what, life

    def replace(self, i, child, T, deaths):
        _end([child])
        code, deaths = child.exitcode, deaths + 1 if self.state.T[i] == T else 0
        cause = f"exit status {code}" if code >= 0 else signal.strsignal(-code)
        if deaths == TRIES:
            raise WorkerError(f"worker {i} died ({cause}), {TRIES} times before an update")
        text = f"worker {i} died ({cause}) after {self.state.T[i]} steps and is replaced"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        self.start(i, deaths)

    def end(self):
        """End all processes, and give `state` arrays of its own again."""
        self.stop.value = True
        for connection in self.members:
            connection.close()  # so that nobody waits for us to read
        _end(self.children)
        for name in self.places:
            setattr(self.state, name, getattr(self.state, name).copy())


def _arrays(state):
    return [name for name, value in vars(state).items() if isinstance(value, np.ndarray)]


def _pack(worker, make, config, state, options):
    """What a worker needs, but for the arrays of `state`, as bytes. Raises ValueError."""
    state = dataclasses.replace(state, **dict.fromkeys(_arrays(state)))
    try:
        return pickle.dumps((worker, make, config, state, options))
    except Exception as error:
        what = "the environment and all options must be such as can be pickled"
        raise ValueError(f"driver = processes: {what}: {error}") from error


def _child(i, luggage, places, stop, connection):
    """The life of a worker's process: until the worker ends, or it is told to, or alone."""
    parent = multiprocessing.parent_process().pid
    try:
        worker, make, config, state, options = pickle.loads(luggage)
        for name, place in places.items():
            setattr(state, name, _view(*place))
        with closing(make()) as env:
            for event, what in worker(i, env, config, state, **options):
                if stop.value or os.getppid() != parent:
                    return
                if event == "pushed" and what:
                    connection.send((event, what))
        last = "ended", None
    except Exception as error:
        last = "failed", (f"{type(error).__name__}: {error}", traceback.format_exc())
    with suppress(BrokenPipeError):  # nobody listens any more
        connection.send(last)


def _end(children):
    """Wait until all have ended; kill those that have not after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    for child in (child for child in children if child.pid is not None):
        child.join(max(0.0, deadline - time.monotonic()))
        child.kill()
        child.join()


def _share(context, state, name):
    """Move an array of `state` into shared memory: (memory, dtype, shape), for _view."""
    a = getattr(state, name)
    place = context.RawArray(ctypes.c_byte, a.nbytes + LINE), a.dtype, a.shape
    setattr(state, name, _view(*place))
    getattr(state, name)[...] = a
    return place


def _view(memory, dtype, shape):
    """The array that lies in `memory`, from its first line on."""
    return np.ndarray(shape, dtype, memory, -ctypes.addressof(memory) % LINE)


@contextmanager
def _birth():
    """A process spawned meanwhile has one BLAS thread and is deaf to Ctrl-C for life: a terminal
    sends that to all processes, and the parent decides."""
    before = {name: os.environ[name] for name in ONE_THREAD if name in os.environ}
    os.environ.update(ONE_THREAD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        for name in ONE_THREAD:
            del os.environ[name]
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # last: Ctrl-C strikes here
