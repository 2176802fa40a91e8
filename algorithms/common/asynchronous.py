"""The shared parts of the asynchronous methods: hyper-parameters, State, counters, optimiser steps.

A worker is a generator, worker(i, env, config, state, **options). It learns as worker i in its own
environment, on the arrays of a State that all workers share. It yields at every point where another
worker may run:

    "pulled", k          it has read the shared parameters, or is about to act on them
    "computed", k        it has computed the gradient that it will push next
    "pushed", ended      it has pushed that; ((return, length), ...) of the episodes that ended

k is the number of environment steps since the previous yield; they change nothing that is shared.
The worker does not know its driver (algorithms.common.drivers). All that it needs to go on from a
yield is in state.learners[i], so that a run in turns is resumed to the bit.

There are no locks. Every worker writes its own row of the counters, and T is their sum, so no step
is lost. The workers update θ without synchronisation.
"""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from algorithms.common.config import (
    PRECISIONS,
    BelowOne,
    Checked,
    Count,
    Limit,
    NonNegative,
    Positive,
    Precision,
    Unit,
)
from algorithms.common.metrics import Ended
from algorithms.common.policy import Network
from algorithms.common.types import Made
from algorithms.common.world import Position, World
from npgrad import Array
from npgrad.memory import aligned, aligned_copy
from npgrad.optimizers import OPTIMIZERS, Optimizer, clip_norm

PULL, ACT, PUSH = range(3)  # what a worker does next
LAST = 255  # the last bin of the histogram: this staleness and all above
# name: (npgrad's optimiser, the settings it takes, whether its statistics are shared)
OPTIMIZER: Mapping[str, tuple[Optimizer, tuple[str, ...], bool]] = MappingProxyType(
    {
        "sgd": (OPTIMIZERS["sgd"], (), True),
        "momentum": (OPTIMIZERS["momentum"], ("decay",), False),
        "rmsprop": (OPTIMIZERS["rmsprop"], ("decay", "eps"), False),
        "shared_rmsprop": (OPTIMIZERS["rmsprop"], ("decay", "eps"), True),
    }
)


@dataclass(frozen=True)
class Asynchronous(Checked):
    """Hyper-parameters of every asynchronous method."""

    workers: Count = 2
    """Number of workers, each with its own environment and random stream (the paper has 16)."""
    driver: Literal["round-robin", "threads", "processes", "ray"] = "round-robin"
    """round-robin: one process, random order, repeatable. Not repeatable: threads, useful on
    free-threaded Python; processes, in parallel on shared memory (POSIX systems); ray, on the Ray
    cluster at RAY_ADDRESS, for environments slower than about 2 ms a step."""
    T_max: Count = 1_000_000
    """Environment steps of all workers together, after which training ends."""
    gamma: Unit = 0.99
    """Discount γ (as in the paper)."""
    step_size: NonNegative = 7e-4
    """Initial η (the A3C author's value)."""
    annealed: bool = True
    """Decrease η linearly, to 0 at T_max (as in the paper). A run that is resumed with a larger
    T_max continues on the line to the new T_max."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "shared_rmsprop"] = "shared_rmsprop"
    """momentum and rmsprop: each worker has its own statistics; shared_rmsprop (the paper's choice,
    §4): one g for all workers."""
    decay: BelowOne = 0.99
    """α of momentum and RMSProp (as in the paper)."""
    eps: Positive = 0.1
    """ε of RMSProp, inside the root (the A3C author's value)."""
    max_norm: Limit = np.inf
    """Limit on the norm of an update's gradient (the paper gives none)."""
    precision: Precision = "double"
    """Floating-point precision of θ and all arrays computed with it. single is faster."""
    network: Network = field(default_factory=Network)


@dataclass
class Learner:
    """The place of one worker: after a pull, its open segment; after a gradient, what it pushes."""

    theta: Array  # θ', its copy of θ
    d: Array  # the gradient of its segment so far
    rng: np.random.Generator
    world: Position
    next: int = PULL
    k: int = 0  # steps of its segment so far
    seen: int = 0  # number of updates, of all workers, at the time of its pull
    ended: Ended = ()  # ((return, length),) if its latest step ended an episode
    a: int | None = None  # the next action, where it is drawn ahead


@dataclass
class Turns:
    """Worker numbers without end, in rounds: each of n workers has one turn per round, in random
    order.

    A turn is one to three yields. (With one yield per turn, all workers would pull in the same
    round, and push in the same later round.)
    """

    n: int
    rng: np.random.Generator
    drawn: "array[int]" = field(default_factory=lambda: array("q"))
    used: int = 0  # of those that are drawn

    def __iter__(self) -> "Turns":
        return self

    def __next__(self) -> int:
        if self.used == len(self.drawn):
            turns = self.rng.permuted(np.tile(np.arange(self.n), (64, 1)), axis=1).ravel()
            self.drawn = array("q", np.repeat(turns, self.rng.integers(1, 4, turns.size)).tolist())
            self.used = 0
        self.used += 1
        return self.drawn[self.used - 1]


@dataclass
class Shared:
    """The State of an asynchronous method with N workers.

    Only worker i writes row i of an array, except for statistics that are shared. The staleness of
    an update is the number of other workers' updates between its pull and its push. To stop a run,
    set `stop` and iterate until `train` ends: then everything is counted and reported.
    """

    parameters: ClassVar[tuple[str, ...]] = ("theta",)
    theta: Array
    statistics: Array  # of the optimiser: (1 if shared, else N; slots; length of θ)
    T: Array  # (N,) environment steps used in updates so far
    updates: Array  # (N,) number of updates
    begun: Array  # (N,) episodes begun; each has its own random stream
    staleness: Array  # (N, LAST + 1) histogram: updates of each staleness
    stop: Array  # (1,) bool
    seed: int
    learners: list[Learner]  # of workers in turn; in parallel, each worker has its own
    turns: Turns
    episodes: int  # number of episodes reported
    cut: int  # number of episodes that were begun and given up


def start(config: Asynchronous, seed: int, theta: Array) -> dict[str, Any]:
    """Return the fields of Shared before learning, from an initial θ."""
    theta = aligned_copy(theta, PRECISIONS[config.precision])
    optimizer, _, shared = OPTIMIZER[config.optimizer]
    statistics = np.array([optimizer.statistics(theta)] * (1 if shared else config.workers))
    statistics = aligned_copy(statistics)
    rows: Callable[..., Array] = lambda *shape: np.zeros((config.workers, *shape), np.int64)
    counters: dict[str, Any] = dict(T=rows(), updates=rows(), begun=rows(), seed=seed)
    counters |= dict(staleness=rows(LAST + 1), stop=np.zeros(1, bool), episodes=0, cut=0)
    turns = Turns(config.workers, np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0]))
    counters |= dict(learners=learners(config.workers, theta))
    return dict(theta=theta, statistics=statistics, turns=turns, **counters)


def learners(n: int, theta: Array) -> list[Learner]:
    """Return n Learners that have not begun."""
    copy, zeros, rng = aligned_copy, np.zeros_like(theta), np.random.default_rng
    return [Learner(copy(theta), copy(zeros), rng(0), Position(0)) for _ in range(n)]


def check_state(config: Asynchronous, state: Shared) -> None:
    """Raise ValueError if the State was made for another number of workers or another optimiser."""
    optimizer, _, shared = OPTIMIZER[config.optimizer]
    N, (own, slots, _) = config.workers, state.statistics.shape
    if len(state.T) != N:
        raise ValueError(f"workers = {N}: must be {len(state.T)}, as in the State")
    if (own, slots) != (1 if shared else N, optimizer.slots):
        raise ValueError(
            f"optimizer = {config.optimizer!r}: must be the one the State was made for, which has "
            f"{slots} statistics for {own} worker{'s' * (own != 1)}"
        )


def total(counts: Array) -> int:
    """Return Σ over the workers of (N,) counts, as an int."""
    return sum(counts.tolist())


def begin(state: Shared, i: int) -> np.random.Generator:
    """Count worker i's next episode and return its random stream.

    The stream is determined by (seed, i, number of the episode), so a worker that replaces a killed
    one draws the same numbers.
    """
    state.begun[i] += 1
    stream = np.random.SeedSequence(state.seed, spawn_key=(i, int(state.begun[i])))
    return np.random.default_rng(stream)


def enter(env: Made, state: Shared, i: int) -> World:
    """Return the World of worker i, where it was left; or in a new episode, which is begun."""
    me = state.learners[i]
    fresh = me.world.episode == 0
    if fresh:
        me.rng = begin(state, i)
        me.world = Position(int(me.rng.integers(2**31)))
    world = World(env, me.world)
    if not (fresh or world.resumed):
        me.rng, me.a = begin(state, i), None
        state.cut += 1
    return world


def running(config: Asynchronous, state: Shared, i: int) -> bool:
    """Return whether worker i goes on: T ≤ T_max, or it has yet to push."""
    over = state.stop[0] or total(state.T) > config.T_max
    return not over or state.learners[i].next != PULL


def stepper(config: Asynchronous, state: Shared, i: int) -> Callable[[Array], Array]:
    """Return a function d -> step, the optimiser step of worker i for its gradient d.

    d is clipped in place. The caller adds the step to θ or subtracts it. η follows from the current
    T. The function raises FloatingPointError if ‖d‖² is not finite, before it changes statistics.
    """
    optimizer, names, shared = OPTIMIZER[config.optimizer]
    settings: dict[str, Any] = {name: getattr(config, name) for name in names}
    settings["out"] = aligned(state.theta.shape, state.theta.dtype)
    statistics = state.statistics[0 if shared else i]

    def step(d: Array) -> Array:
        T = total(state.T)
        if not isfinite(d.dot(d)):
            raise FloatingPointError(f"the gradient is not finite at T = {T}: theta has diverged")
        if config.max_norm < np.inf:
            clip_norm(d, config.max_norm)
        eta = config.step_size * (max(0.0, 1.0 - T / config.T_max) if config.annealed else 1.0)
        return optimizer.step(d, statistics, int(state.updates[i]) + 1, eta, **settings)

    return step


def landed(state: Shared, i: int, steps: int, seen: int) -> None:
    """Count an update of worker i.

    steps   environment steps used in the update
    seen    total number of updates, of all workers, at the time of its pull
    """
    state.staleness[i, min(total(state.updates) - seen, LAST)] += 1
    state.updates[i] += 1
    state.T[i] += steps
