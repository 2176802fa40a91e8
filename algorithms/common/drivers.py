"""Drivers of asynchronous workers: in turn, in simulated time, in threads, in processes.

A worker is a generator of (event, what); see algorithms.common.asynchronous.
"""

import queue
import threading
from contextlib import ExitStack, closing
from heapq import heappop, heappush

import numpy as np

from algorithms.common.asynchronous import LAST, check_state, total
from algorithms.common.cluster import cluster
from algorithms.common.copies import makers, picklable_makers
from algorithms.common.events import HEARTBEAT, WorkerError
from algorithms.common.metrics import Metrics
from algorithms.common.processes import processes
from algorithms.common.world import check_finite

BINS = np.arange(LAST + 1)


def round_robin(n, rng):
    """Yield worker numbers without end, in rounds: each of n workers has one turn per round, in
    random order.

    A turn is one to three yields. (With one yield per turn, all workers would pull in the same
    round, and push in the same later round.)
    """
    while True:
        turns = rng.permuted(np.tile(np.arange(n), (64, 1)), axis=1).ravel()
        yield from np.repeat(turns, rng.integers(1, 4, turns.size)).tolist()


def advance(i, worker):
    """Return the next (event, what) of worker i, or None at its end. Raises WorkerError."""
    try:
        return next(worker, None)
    except Exception as error:
        raise WorkerError(f"worker {i}: {type(error).__name__}: {error}") from error


def interleave(workers, schedule):
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


def virtual_clock(workers, step, gradient, push, bus=False):
    """Run the workers as if in parallel, on a simulated clock.

    step, gradient, push   seconds for an environment step, for a segment's gradient and for a push,
                           each (N,), one entry per worker
    bus                    whether pushes wait for one another, as on one memory bus

    A pull reads what was pushed up to that time. Yields (time, i, event, what).
    """
    running, free = list(workers), 0.0
    agenda = [(0.0, i, i, None) for i in range(len(running))]  # time, order, worker, push is due
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


def threads(workers):
    """Run each worker in a thread.

    Yields (i, "pushed", what) when episodes ended, (i, "ended", None) when a worker ended, and
    (None, "waiting", None) after HEARTBEAT seconds without either.
    """
    news, stop = queue.SimpleQueue(), threading.Event()

    def run(i, worker):
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
    everyone = list(running.values())
    try:
        while running:
            try:
                i, event, what = news.get(timeout=HEARTBEAT)
            except queue.Empty:
                yield None, "waiting", None
                continue
            if event == "failed":
                raise WorkerError(f"worker {i}: {type(what).__name__}: {what}") from what
            if event == "ended":
                del running[i]
            yield i, event, what
    finally:
        stop.set()
        for thread in everyone:
            thread.join()


def train(worker, env, config, state, schedule=None, **options):
    """Train with config.workers workers until T > T_max.

    env is an environment for the first worker, copied for the others, or a function
    () -> environment. Yields Metrics after every update; in threads and processes, whenever
    episodes ended and at least every HEARTBEAT seconds.

    schedule   worker numbers, in the order of their turns; used in place of config.driver
    options    passed to the worker

    Raises ValueError for a State of another number of workers or another optimiser, and for an
    environment that cannot be copied faithfully.
    """
    check_state(config, state)
    N = config.workers
    with ExitStack() as stack:
        if schedule is None and config.driver in ("processes", "ray"):
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
            if schedule is None and config.driver == "threads":
                events = threads(workers)
            else:
                stream = np.random.SeedSequence(state.seed, spawn_key=(N, total(state.T)))
                turns = round_robin(N, np.random.default_rng(stream))
                events = interleave(workers, turns if schedule is None else schedule)
        for _, event, what in stack.enter_context(closing(events)):
            if event not in ("pulled", "computed"):
                yield report(state, what or ())


def report(state, ended):
    """Return Metrics, given the (return, length) of the episodes that ended since the last report.

    Raises FloatingPointError if θ is not finite, so that no such State is yielded.
    """
    check_finite(total(state.T), theta=state.theta)
    state.episodes += len(ended)
    returns, lengths = tuple(zip(*ended)) or ((), ())
    scalars = {"staleness": mean_staleness(state)} if ended else {}
    return Metrics(total(state.T), state.episodes, returns, lengths, scalars)


def mean_staleness(state):
    """Return the mean number of other workers' updates between a pull and its push."""
    return float((state.staleness @ BINS).sum()) / max(1, total(state.updates))
