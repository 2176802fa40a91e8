"""Asynchronous workers on a Ray cluster, the shared arrays in an actor. Only this file imports Ray.

Every worker has a copy of the State. After "computed" it receives the arrays as they are, so that
its optimiser step begins from them and staleness is counted; after "pushed" it sends what it has
changed, and does not wait. The actor ADDS the changes of what many workers sum up (SUMMED), and
assigns all others, entry by entry. So an update costs one round trip.

The actor is on the machine of the caller. A worker whose machine is lost is replaced by Ray, TRIES
times, and begins its next episode. What is lost are its steps since its last push.
"""

import os
import pickle
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeAlias

import numpy as np

from algorithms.common.asynchronous import Asynchronous, Shared
from algorithms.common.events import HEARTBEAT, PATIENCE, Events, Worker, WorkerError
from algorithms.common.metrics import Ended
from algorithms.common.processes import TRIES, _arrays, _pack
from algorithms.common.types import Made
from npgrad import Array
from npgrad.memory import aligned_copy

SUMMED = ("theta", "statistics")
Changes: TypeAlias = dict[str, tuple[Any, Array]]  # {name: (flat indices, values)}


class Parameters:
    """The arrays that all workers share, and the episodes that ended since the last `drain`."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.arrays = {name: a.copy() for name, a in arrays.items()}
        self.ended: list[tuple[float, int]] = []
        self.stopped = False

    def push(self, changes: Changes, ended: Ended = ()) -> None:
        """Take the changes of a worker, {name: (flat indices, values)}, and its ended episodes."""
        for name, (where, values) in changes.items():
            flat = self.arrays[name].reshape(-1)
            flat[where] = flat[where] + values if name in SUMMED else values
        self.ended += ended

    def exchange(self, changes: Changes) -> dict[str, Array] | None:
        """`push`, and return all arrays; None tells the worker to end."""
        self.push(changes)
        return None if self.stopped else self.arrays

    def drain(self) -> tuple[list[tuple[float, int]], dict[str, Array]]:
        """Return the ended episodes since the last call, and all arrays."""
        ended, self.ended = self.ended, []
        return ended, self.arrays

    def stop(self) -> None:
        self.stopped = True


def changes(state: Shared, before: dict[str, Array]) -> Changes:
    """Return {name: (flat indices, values)} of what is not as in `before`, {name: array}."""
    found = {}
    for name, old in before.items():
        new = getattr(state, name)
        where: Any = np.flatnonzero(new != old)
        if where.size:
            where = slice(None) if where.size == new.size else where
            values = new.reshape(-1)[where]
            found[name] = where, values - old.reshape(-1)[where] if name in SUMMED else values
    return found


def work(
    i: int,
    worker: Callable[..., Worker],
    env: Made,
    config: Asynchronous,
    state: Shared,
    options: dict[str, Any],
    exchange: Callable[[Changes], dict[str, Array] | None],
    push: Callable[[Changes, Ended], None],
) -> None:
    """Run worker i on a State of its own, whose arrays come from `exchange` and go to `push`."""
    before: Any = exchange({})
    for name, a in (before or {}).items():
        setattr(state, name, aligned_copy(a))
    with closing(worker(i, env, config, state, **options)) as events:
        for event, what in events if before else ():
            if event == "computed":
                before = exchange(changes(state, before))
                if before is None:
                    return
                for name, a in before.items():
                    getattr(state, name)[...] = a
            if event == "pushed":
                push(changes(state, before), what)
                before = {name: getattr(state, name).copy() for name in before}


def cluster(
    worker: Callable[..., Worker],
    make: list[Callable[[], Made]],
    config: Asynchronous,
    state: Shared,
    options: dict[str, Any],
) -> Events:
    """Run config.workers workers on the Ray cluster at RAY_ADDRESS or, without one, on a new one of
    this machine; each takes one CPU. Other arguments, and what is yielded: see processes.

    Raises WorkerError, after all workers have been stopped, if a worker fails.
    """
    ray, own = _connected(config.workers)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, scheduling_strategy=node)(Parameters)
    server = actor.remote({name: getattr(state, name) for name in _arrays(state)})
    task = ray.remote(num_cpus=1, max_retries=TRIES)(_task)
    luggage = ray.put(_pack(worker, make, config, state, options))
    running = {task.remote(i, luggage, server): i for i in range(config.workers)}
    try:
        while running:
            done, _ = ray.wait(list(running), timeout=HEARTBEAT)
            yield None, "pushed", _drained(ray, server, state)
            if state.stop[0]:
                ray.get(server.stop.remote())
            for ref in done:
                yield _end(ray, ref, running.pop(ref)), "ended", None
    finally:
        ray.get(server.stop.remote())
        for ref in running and ray.wait([*running], num_returns=len(running), timeout=PATIENCE)[1]:
            ray.cancel(ref, force=True)
        _drained(ray, server, state)
        ray.kill(server)
        if own:
            ray.shutdown()


def _connected(cpus: int) -> tuple[Any, bool]:
    """Return (ray, whether this call has connected to it)."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ValueError("driver = ray: pip install 'npgrad[cluster]'") from error
    own = not ray.is_initialized()
    if own:
        address = os.environ.get("RAY_ADDRESS", "local")
        local: dict[str, Any] = (
            {"num_cpus": cpus, "include_dashboard": False} if address == "local" else {}
        )
        ray.init(address, log_to_driver=False, logging_level="ERROR", **local)
    return ray, own


def _task(i: int, luggage: Any, server: Any) -> None:
    """Run worker i wherever this is."""
    import ray

    worker, make, config, state, options = pickle.loads(luggage).fn
    exchange: Callable[[Changes], Any] = lambda changes: ray.get(server.exchange.remote(changes))
    push = lambda changes, ended: server.push.remote(changes, list(ended))
    with closing(make[i]()) as env:
        work(i, worker, env, config, state, options, exchange, push)
    exchange({})  # so that all has arrived


def _drained(ray: Any, server: Any, state: Shared) -> Ended:
    """Copy the shared arrays into `state`, but for `stop`, the caller's; return the ended
    episodes."""
    ended, arrays = ray.get(server.drain.remote())
    for name in arrays.keys() - {"stop"}:
        getattr(state, name)[...] = arrays[name]
    return ended


def _end(ray: Any, ref: Any, i: int) -> int:
    """Return i if worker i has ended without an error, else raise WorkerError."""
    try:
        ray.get(ref)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise WorkerError(f"worker {i}: {type(cause).__name__}: {cause}") from error
    return i
