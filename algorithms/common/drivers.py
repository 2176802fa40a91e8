"""Who lets asynchronous workers run: in turn, in simulated time, in threads, in processes.

A worker is a generator of (event, what); see algorithms.common.asynchronous.
"""

import copy
import queue
import threading
from contextlib import ExitStack, closing
from functools import partial
from heapq import heappop, heappush
from math import isfinite

import gymnasium
import numpy as np

from algorithms.common.asynchronous import LAST, check_state, total
from algorithms.common.metrics import Metrics

BINS = np.arange(LAST + 1)
HEARTBEAT = 0.2  # seconds after which a parallel driver lets its caller look, whatever happens


class WorkerError(RuntimeError):
    """What went wrong in a worker, with its number; the others have been stopped."""


def copies(env):
    """() -> an environment like env: made anew from its spec (whatever was changed in env itself is
    not in it), or a deep copy if it has none, which raises ValueError if there can be none."""
    return partial(copied, env) if env.spec is None else partial(gymnasium.make, env.spec)


def copied(env):
    try:
        return copy.deepcopy(env)
    except Exception as error:
        raise ValueError(f"env = {env}: has no spec, and cannot be copied: {error}") from error


def round_robin(n, rng):
    """Endless schedule: rounds in which each of n workers has one turn, in random order, of one to
    three yields. (With turns of one, all would pull, and then push, in the same round.)"""
    while True:
        turns = rng.permuted(np.tile(np.arange(n), (64, 1)), axis=1).ravel()
        yield from np.repeat(turns, rng.integers(1, 4, turns.size)).tolist()


def advance(i, worker):
    """The next (event, what) of worker i, or None. Raises WorkerError."""
    try:
        return next(worker, None)
    except Exception as error:
        raise WorkerError(f"worker {i}: {type(error).__name__}: {error}") from error


def interleave(workers, schedule):
    """Let the workers run in turn, to their next yield each, as the schedule's numbers say.

    Yields (i, event, what). One that has ended is passed over; ends when all have, or the schedule.
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
    """Let the workers run as if in parallel, on a clock of their own.

    step, gradient, push   seconds of an environment step, of a segment's gradient, of a push, each
                           (N,), one entry per worker
    bus                    whether pushes wait for one another, as on one memory bus

    What a worker pulls is what has been pushed by that time. Yields (time, i, event, what).
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
    """Let each worker run in a thread. Yields (i, "pushed", what) where episodes ended,
    (i, "ended", None), and (None, "waiting", None) at least every HEARTBEAT seconds."""
    news, stop = queue.SimpleQueue(), threading.Event()

    def run(i, worker):
        try:
            for event, what in worker:
                if event == "pushed" and what:
                    news.put((i, event, what))
                if stop.is_set():
                    break
            news.put((i, "ended", None))
        except BaseException as error:  # whatever ends a thread must end the wait for it
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
    """Let config.workers workers learn until T > T_max; yields Metrics after every update, or, in
    threads and processes, whenever episodes ended and at least every HEARTBEAT seconds.

    schedule   numbers of workers, each of which then has a turn, instead of config.driver
    options    handed on to the worker

    Raises ValueError for a State of another number of workers or another optimiser.
    """
    check_state(config, state)
    with ExitStack() as stack:
        if schedule is None and config.driver == "processes":
            from algorithms.common.processes import processes

            events = processes(worker, copies(env), config, state, options)
        else:
            make, N = copies(env), range(config.workers)
            envs = [stack.enter_context(closing(make())) for _ in N]
            workers = [worker(i, envs[i], config, state, **options) for i in N]
            if schedule is None and config.driver == "threads":
                events = threads(workers)
            else:
                stream = np.random.SeedSequence(state.seed, spawn_key=(len(N), total(state.T)))
                turns = round_robin(len(N), np.random.default_rng(stream))
                events = interleave(workers, turns if schedule is None else schedule)
        for _, event, what in stack.enter_context(closing(events)):
            if event not in ("pulled", "computed"):
                yield report(state, what or ())


def report(state, ended):
    """Metrics, given the (return, length) of the episodes that ended since the last.

    Raises FloatingPointError if ‖θ‖² is not finite, so that no such State is yielded.
    """
    if not isfinite(state.theta.dot(state.theta)):
        raise FloatingPointError(f"theta has diverged: not finite at T = {total(state.T)}")
    state.episodes += len(ended)
    returns, lengths = tuple(G for G, _ in ended), tuple(length for _, length in ended)
    scalars = {"staleness": mean_staleness(state)} if ended else {}
    return Metrics(total(state.T), state.episodes, returns, lengths, scalars)


def mean_staleness(state):
    """Updates of other workers that came, on average, between a pull and its push."""
    return float((state.staleness @ BINS).sum()) / max(1, total(state.updates))
