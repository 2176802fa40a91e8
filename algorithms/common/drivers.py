"""Drivers of asynchronous workers: in turn, in simulated time, in threads, in processes.

A worker is a generator of (event, what); see algorithms.common.asynchronous.
"""

import queue
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from heapq import heappop, heappush
from typing import Any

import numpy as np

from algorithms.common.asynchronous import LAST, Asynchronous, Shared, check_state, learners, total
from algorithms.common.cluster import cluster
from algorithms.common.copies import makers, picklable_makers
from algorithms.common.events import (
    HEARTBEAT,
    PATIENCE,
    Deadline,
    Events,
    Worker,
    WorkerError,
    abandoned,
)
from algorithms.common.metrics import Ended, Metrics
from algorithms.common.processes import processes
from algorithms.common.types import Env, Schedule, Training
from algorithms.common.world import check_finite
from npgrad import Array

BINS = np.arange(LAST + 1)


def advance(i: int, worker: Worker) -> tuple[str, Any] | None:
    """Return the next (event, what) of worker i, or None at its end. Raises WorkerError."""
    try:
        return next(worker, None)
    except Exception as error:
        raise WorkerError(f"worker {i}: {type(error).__name__}: {error}") from error


def interleave(workers: Iterable[Worker], schedule: Iterable[int]) -> Events:
    """Run the workers in turn, each to its next yield, in the order of the schedule's numbers.

    Yields (i, event, what). Workers that have ended are skipped. Ends when all workers have ended,
    or when the schedule ends.
    """
    running = dict(enumerate(workers))
    for i in schedule:
        if i in running:
            event = advance(i, running[i])
            if event is not None:
                yield i, *event
                continue
            del running[i]
            if not running:
                return


def virtual_clock(
    workers: Iterable[Worker], step: Array, gradient: Array, push: Array, bus: bool = False
) -> Generator[tuple[float, int, str, Any], None, None]:
    """Run the workers as if in parallel, on a simulated clock.

    step, gradient, push   seconds for an environment step, for a segment's gradient and for a push,
                           each (N,), one entry per worker
    bus                    whether pushes wait for one another, as on one memory bus

    A pull reads what was pushed up to that time. Yields (time, i, event, what).
    """
    running, free = list(workers), 0.0
    # time, order, worker, push is due
    agenda: list[Any] = [(0.0, i, i, None) for i in range(len(running))]
    order = len(agenda)
    while agenda:
        now, _, i, due = heappop(agenda)
        order += 1
        if due:
            free = max(now, free) + push[i] if bus else now + push[i]
            heappush(agenda, (free, order, i, None))
            continue
        event = advance(i, running[i])
        if event is not None:
            yield now, i, *event
            computed = event[0] == "computed"
            later = now + gradient[i] if computed else now
            if event[0] != "pushed":
                later += event[1] * step[i]
            heappush(agenda, (later, order, i, computed))


def threads(workers: Iterable[Worker], late: Callable[[], bool] = lambda: False) -> Events:
    """Run each worker in a thread, until all have ended, or there is no news and late().

    A thread that then does not end within PATIENCE seconds is abandoned, with a warning.

    Yields (i, "pushed", what) when episodes ended, (i, "ended", None) when a worker ended, and
    (None, "waiting", None) after HEARTBEAT seconds without either.
    """
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()

    def run(i: int, worker: Worker) -> None:
        try:
            for event, what in worker:
                if event == "pushed" and what:
                    news.put((i, event, what))
                if stop.is_set():
                    break
            news.put((i, "ended", None))
        except BaseException as error:  # any exception that ends a thread must end the wait for it
            news.put((i, "failed", error))

    running = {
        i: threading.Thread(target=run, args=(i, worker), daemon=True)
        for i, worker in enumerate(workers)
    }
    for thread in running.values():
        thread.start()
    everyone = dict(running)
    try:
        while running:
            try:
                i, event, what = news.get(timeout=HEARTBEAT)
            except queue.Empty:
                if late():
                    break
                yield None, "waiting", None
                continue
            if event == "failed":
                raise WorkerError(f"worker {i}: {type(what).__name__}: {what}") from what
            if event == "ended":
                del running[i]
            yield i, event, what
    finally:
        stop.set()
        deadline = time.monotonic() + PATIENCE
        for i, thread in everyone.items():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                warnings.warn(abandoned(i), RuntimeWarning, stacklevel=2)


def train(
    worker: Callable[..., Worker],
    env: Env,
    config: Asynchronous,
    state: Shared,
    schedule: Schedule = None,
    **options: Any,
) -> Training:
    """Train with config.workers workers until T > T_max.

    env is an environment for the first worker, copied for the others, or a function
    () -> environment. Yields Metrics after every update; in threads and processes, whenever
    episodes ended and at least every HEARTBEAT seconds.

    schedule   worker numbers, in the order of their turns; used in place of config.driver
    options    passed to the worker

    In turn, a State goes on where it was at its last yield; in threads and processes, episodes in
    progress are cut, with a warning that says how many.

    Raises ValueError for a State of another number of workers or another optimiser, and for an
    environment that cannot be copied faithfully.
    """
    check_state(config, state)
    N, in_turn = config.workers, schedule is not None or config.driver == "round-robin"
    state.stop[:] = False
    if not in_turn:
        cut_episodes(state)
    with ExitStack() as stack:
        if not in_turn and config.driver in ("processes", "ray"):
            run = processes if config.driver == "processes" else cluster
            events = run(worker, picklable_makers(env, N), config, state, options)
        else:
            envs = []
            for make in makers(env, N):
                envs.append(make())
                if envs[-1] is not env:
                    stack.enter_context(closing(envs[-1]))
            if len(set(map(id, envs))) < N:
                raise ValueError(f"env = {env}: must make a new environment at every call")
            workers = [worker(i, envs[i], config, state, **options) for i in range(N)]
            turns = state.turns if schedule is None else schedule
            late = Deadline(state, config)
            events = interleave(workers, turns) if in_turn else threads(workers, late)
        for _, event, what in stack.enter_context(closing(events)):
            if event not in ("pulled", "computed"):
                yield report(state, what or ())
            if in_turn and state.stop[0]:
                return


def cut_episodes(state: Shared) -> None:
    """Give up the episodes in progress, with a warning, and let every worker begin anew."""
    cut = total(state.begun) - state.episodes - state.cut
    state.cut += cut
    state.learners[:] = learners(len(state.learners), state.theta)
    if cut:
        text = f"{cut} episodes in progress at T = {total(state.T)} are cut: new ones begin"
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def report(state: Shared, ended: Ended) -> Metrics:
    """Return Metrics, given the (return, length) of the episodes that ended since the last report.

    Raises FloatingPointError if θ is not finite, so that no such State is yielded.
    """
    check_finite(total(state.T), theta=state.theta)
    state.episodes += len(ended)
    returns, lengths = tuple(zip(*ended)) or ((), ())
    scalars = {"staleness": mean_staleness(state)} if ended else {}
    return Metrics(total(state.T), state.episodes, returns, lengths, scalars)


def mean_staleness(state: Shared) -> float:
    """Return the mean number of other workers' updates between a pull and its push."""
    return float((state.staleness @ BINS).sum()) / max(1, total(state.updates))
