"""What the asynchronous methods share: hyper-parameters, counters, and how a gradient lands.

A worker is a generator, worker(i, env, config, state, **options): it learns as worker i in an
environment of its own, on the arrays of a State that all workers share, and yields wherever another
may come between:

    "pulled", k          it has read the shared parameters, or is about to act on them
    "computed", k        the gradient that is to be pushed next is done
    "pushed", ended      that is in; ((return, length), ...) of the episodes that ended

k is the number of environment steps since the yield before; they change nothing that is shared.

Who lets it run is no business of the worker's: see algorithms.common.drivers.

Nothing is locked. Every worker writes its own row of the counters, T is their sum, so that no step
is lost; updates of θ add up as the memory takes them.
"""

from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from algorithms.common.policy import BELOW_1, PRECISIONS, TINY, Network, check
from npgrad.memory import aligned, aligned_copy
from npgrad.optimizers import OPTIMIZERS, clip_norm

DRIVERS = ("round-robin", "threads", "processes")
LAST = 255  # the histogram's last bin: this staleness and any above
# name: (npgrad's optimiser, the settings it takes, whether its statistics are shared)
OPTIMIZER = MappingProxyType(
    {
        "sgd": (OPTIMIZERS["sgd"], (), True),
        "momentum": (OPTIMIZERS["momentum"], ("decay",), False),
        "rmsprop": (OPTIMIZERS["rmsprop"], ("decay", "eps"), False),
        "shared_rmsprop": (OPTIMIZERS["rmsprop"], ("decay", "eps"), True),
    }
)


@dataclass(frozen=True)
class Asynchronous:
    """Hyper-parameters of every asynchronous method."""

    workers: int = 2
    """Workers, each with an environment and a random stream of its own (the paper has 16). At
    least 1."""
    driver: Literal["round-robin", "threads", "processes"] = "round-robin"
    """round-robin: one process, random order, repeatable. Not repeatable: threads, worth it on
    free-threaded Python; processes, in parallel on shared memory (POSIX systems)."""
    T_max: int = 1_000_000
    """Environment steps of all workers together, after which they end. At least 1."""
    gamma: float = 0.99
    """Discount γ (the paper's). In [0, 1]."""
    step_size: float = 7e-4
    """η at the start (the A3C author's). At least 0."""
    annealed: bool = True
    """η falls linearly, to 0 at T_max (the paper's). A run that is resumed with a larger T_max goes
    on along the line to that."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "shared_rmsprop"] = "shared_rmsprop"
    """§4.5. momentum and rmsprop: statistics of each worker's own; shared_rmsprop (the paper's
    choice): one g for all."""
    decay: float = 0.99
    """α of momentum and RMSProp (the paper's). At least 0, below 1."""
    eps: float = 0.1
    """ε of RMSProp, inside the root (the A3C author's). Above 0."""
    max_norm: float = np.inf
    """Limit on the norm of an update's gradient (the paper publishes none). Above 0."""
    precision: Literal["double", "single"] = "double"
    """Floating-point numbers of θ and all that belongs to it. single is faster."""
    network: Network = field(default_factory=Network)

    def __post_init__(self):
        check(self, workers=(1, np.inf), driver=DRIVERS, T_max=(1, np.inf), gamma=(0.0, 1.0))
        check(self, step_size=(0.0, np.inf), optimizer=tuple(OPTIMIZER), decay=(0.0, BELOW_1))
        check(self, eps=(TINY, np.inf), max_norm=(TINY, np.inf), precision=tuple(PRECISIONS))


@dataclass
class Shared:
    """The State of an asynchronous method. N workers; row i is written by worker i alone, but for
    the statistics, if they are shared."""

    parameters: ClassVar[tuple[str, ...]] = ("theta",)
    theta: np.ndarray
    statistics: np.ndarray  # of the optimiser: (1 if they are shared, else N; slots; θ's length)
    T: np.ndarray  # (N,) environment steps that are in updates
    updates: np.ndarray  # (N,)
    begun: np.ndarray  # (N,) episodes begun, each of which has a random stream of its own
    staleness: np.ndarray  # (N, LAST + 1) updates by the number of others' that came between
    seed: int
    episodes: int  # that were reported


def start(config, seed, theta):
    """The fields of Shared before learning, from a first θ."""
    theta = aligned_copy(theta, PRECISIONS[config.precision])
    optimizer, _, shared = OPTIMIZER[config.optimizer]
    statistics = np.array([optimizer.statistics(theta)] * (1 if shared else config.workers))
    statistics = aligned_copy(statistics)
    rows = lambda *shape: np.zeros((config.workers, *shape), np.int64)
    counters = dict(T=rows(), updates=rows(), begun=rows(), staleness=rows(LAST + 1), episodes=0)
    return dict(theta=theta, statistics=statistics, seed=seed, **counters)


def check_state(config, state):
    """Raise ValueError for a State of another number of workers or of another optimiser."""
    optimizer, _, shared = OPTIMIZER[config.optimizer]
    N, (own, slots, _) = config.workers, state.statistics.shape
    if len(state.T) != N:
        raise ValueError(f"workers = {N}: must be {len(state.T)}, as in the State")
    if (own, slots) != (1 if shared else N, optimizer.slots):
        raise ValueError(
            f"optimizer = {config.optimizer!r}: must be the one the State was made for, which has "
            f"{slots} statistics of {own} worker{'s' * (own != 1)}"
        )


def total(counts):
    """Σ over the workers of (N,) counts, as an int."""
    return sum(counts.tolist())


def begin(state, i, env):
    """Reset the environment of worker i: (first observation, rng of the episode).

    All that is random in the k-th episode of worker i follows from (seed, i, k): whoever runs it,
    one that takes the place of a killed worker too, draws the same. Raises FloatingPointError for
    an observation that is not finite.
    """
    state.begun[i] += 1
    stream = np.random.SeedSequence(state.seed, spawn_key=(i, int(state.begun[i])))
    rng = np.random.default_rng(stream)
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    if not np.isfinite(observation).all():
        raise FloatingPointError(
            f"the environment returned observation {observation} at its reset: must be finite"
        )
    return observation, rng


def stepper(config, state, i):
    """d -> the step that worker i makes of its gradient d, which is clipped in place; the caller
    adds it to θ or subtracts it. Its η is that of the present T.

    Raises FloatingPointError if ‖d‖² is not finite, before any statistics move.
    """
    optimizer, settings, shared = OPTIMIZER[config.optimizer]
    settings = {name: getattr(config, name) for name in settings}
    settings["out"] = aligned(state.theta.shape, state.theta.dtype)
    statistics = state.statistics[0 if shared else i]

    def step(d):
        T = total(state.T)
        if not isfinite(d.dot(d)):
            raise FloatingPointError(f"the gradient is not finite at T = {T}: theta has diverged")
        if config.max_norm < np.inf:
            clip_norm(d, config.max_norm)
        eta = config.step_size * (max(0.0, 1.0 - T / config.T_max) if config.annealed else 1.0)
        return optimizer.step(d, statistics, int(state.updates[i]) + 1, eta, **settings)

    return step


def landed(state, i, steps, seen):
    """Count an update of worker i: `steps` environment steps went into it, and `seen` updates, all
    workers' together, were in when it pulled."""
    state.staleness[i, min(total(state.updates) - seen, LAST)] += 1
    state.updates[i] += 1
    state.T[i] += steps
