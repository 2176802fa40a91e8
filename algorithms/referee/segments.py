"""Segments of N environments, and what a function with given parameters can know of one.

A segment has n steps, time-major. The arrays are (n, N) unless another shape is given:

    rewards r, values v(s_t), next_values v(s'_t), s'_t being the state that step t led to (of the
    episode's final observation, if it ended); terminated, truncated; last_value (N,), v of the
    observation that the environment shows after the last step.

Where step t ends an episode, Gymnasium's autoreset mode says which observation comes next:

    NEXT_STEP    the final one; step t + 1 only resets: its reward is 0, and `real` is False
    SAME_STEP    the next episode's first
    DISABLED     the next episode's first, but the final one after the last step: nobody has reset
"""

import functools
import inspect
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from npgrad import Array

MODES = "NEXT_STEP", "SAME_STEP", "DISABLED"
GRID = ((0.9, 0.8), (0.5, 0.9), (1.0, 0.5), (0.9, 1.0), (0.8, 0.0), (1.0, 1.0), (0.0, 0.5),
        (0.7, 0.6), (0.95, 0.3), (0.6, 0.9), (1.0, 0.0))  # fmt: skip
"""(γ, λ) in turn."""


class Segment(NamedTuple):
    """See the module. before (N,): whether an episode ended in the step before the first."""

    rewards: Array
    values: Array
    next_values: Array
    terminated: Array
    truncated: Array
    last_value: Array
    before: Array
    real: Array
    gamma: float
    lam: float
    autoreset: str

    @property
    def ends(self) -> Array:
        """Whether the episode ended in each step."""
        return self.terminated | self.truncated

    @property
    def observed(self) -> Array:
        """v of the observation in the next row: values[t+1], and last_value in the last one."""
        return np.append(self.values[1:], self.last_value[None], axis=0)

    @property
    def starts(self) -> Array:
        """Whether the step before each one ended an episode."""
        return np.append(self.before[None], self.ends[:-1], axis=0)


# drawing


@functools.cache
def drawn() -> tuple[Segment, ...]:
    """Return Segments, the same each time, small ones first.

    All ways in which the episodes of one environment can end within 2 steps, in all autoreset
    modes; most within 3 steps, where the mode makes a difference; and some of 2 or 3 environments.
    """
    rng = np.random.default_rng(0)
    ways = [
        (mode, np.array(kinds)[:, None], grid)
        for mode in MODES
        for n, grid in ((1, GRID[:1]), (1, GRID), (2, GRID[:1]), (3, GRID))
        for kinds in product(range(4), repeat=n)
        if mode == "SAME_STEP" or n < 3 or (kinds[2] > 0 and not kinds[1])
    ]
    for mode, n, N in product(MODES, range(1, 7), (2, 3)):
        ways += [(mode, rng.choice(4, (n, N), p=(0.5, 0.2, 0.2, 0.1)), GRID) for _ in range(2)]
    made = [
        draw(rng, mode, kinds, *grid[i % len(grid)]) for i, (mode, kinds, grid) in enumerate(ways)
    ]
    return tuple(sorted(made, key=lambda s: (s.rewards.size, s.ends.sum())))


def draw(rng: np.random.Generator, mode: str, kinds: Array, gamma: float, lam: float) -> Segment:
    """Return a Segment that ends where kinds (n, N) says: 0 nowhere, 1 by termination, 2 by
    truncation, 3 by both. An end that would fall on a reset step (NEXT_STEP) is left out."""
    n, N = kinds.shape

    def numbers(*shape: int) -> Array:
        return rng.integers(1, 30, shape) / rng.choice((-10, 10), shape)

    before: Any = rng.random(N) < 0.3
    real = np.ones((n, N), bool)
    kinds, last = kinds.copy(), before
    for t in range(n if mode == "NEXT_STEP" else 0):
        real[t] = ~last
        kinds[t] *= real[t]
        last = kinds[t] > 0
    terminated, truncated = kinds % 2 == 1, kinds >= 2
    v = numbers(n + 1, N)
    elsewhere = (terminated | truncated) & (mode != "NEXT_STEP")
    if mode == "DISABLED":
        elsewhere[-1] = False
    next_values = np.where(elsewhere, numbers(n, N), v[1:])
    r = numbers(n, N) * real
    found: Any = r, v[:-1], next_values, terminated, truncated, v[-1], before, real
    return Segment(*(*found, float(gamma), float(lam), mode))


# what a function is given


def _last_row(flags: Array) -> Array:
    return np.append(flags[:-1], np.ones_like(flags[:1]), axis=0)


ARGUMENTS: dict[str, tuple[str, Callable[[Segment], Any]]] = {
    "rewards": ("(n, N), r_t; 0 in a reset step", lambda s: s.rewards),
    "values": ("(n, N), v(s_t)", lambda s: s.values),
    "next_values": (
        "(n, N), v of the state that step t led to: of the final observation, if it ended there",
        lambda s: s.next_values,
    ),
    "last_value": ("(N,), v of the observation after the last step", lambda s: s.last_value),
    "terminated": ("(n, N), step t terminated the episode", lambda s: s.terminated),
    "truncated": ("(n, N), step t truncated it", lambda s: s.truncated),
    "dones": ("(n, N), the episode ended in step t; but see below", lambda s: s.ends),
    "next_dones": ("(n, N), the episode ended in step t", lambda s: s.ends),
    "episode_starts": ("(n, N), the episode ended in step t-1 (SB3)", lambda s: s.starts),
    "next_done": ("(N,), it ended in the last step (CleanRL)", lambda s: s.ends[-1]),
    "stops": ("(n, N), the data stop in step t: an end, or t = n-1", lambda s: _last_row(s.ends)),
    "v_next": (
        "(n, N), next_values, but 0 where the episode terminated",
        lambda s: np.where(s.terminated, 0.0, s.next_values),
    ),
    "gamma": ("a number, γ", lambda s: s.gamma),
    "lam": ("a number, λ; a function without it is judged with λ = 1", lambda s: s.lam),
}
ALIASES = {
    "r": "rewards", "v": "values", "last_values": "last_value", "next_value": "last_value",
    "terminations": "terminated", "truncations": "truncated", "done": "dones",
    "last_done": "next_done", "gae_lambda": "lam", "lambda_": "lam",
}  # fmt: skip
FLAGS = "terminated", "truncated", "dones", "next_dones", "episode_starts", "next_done", "stops"
NEXT = "next_values", "v_next"
ZERO = (
    "truncation from termination; at a truncation it takes 0 for the value of the final observation"
)
RUNS_ON = "where an episode was truncated; there its returns run on into the next episode"
NO_NEXT = (
    "no next_values: judged at a truncation only where the next row has the value of the final "
    "observation (NEXT_STEP autoreset)"
)
NO_LAST = (
    "no last_value: cannot bootstrap after the last step; judged where the last step terminates "
    "the episode"
)


class Signature(NamedTuple):
    """The parameters of a function: `given` their own names, `names` those of ARGUMENTS."""

    given: tuple[str, ...]
    names: tuple[str, ...]

    def has(self, *names: str) -> bool:
        return any(name in self.names for name in names)

    def arguments(self, s: Segment) -> dict[str, Any]:
        """Return {given name: value} of what the function is given of a Segment."""
        of = {name: argument[1] for name, argument in ARGUMENTS.items()}
        if self.has("episode_starts"):
            of["dones"] = of["next_done"]
        elif self.has("next_done"):
            of["dones"] = of["episode_starts"]
        return {given: of[name](s) for given, name in zip(self.given, self.names)}

    def knows_truncation(self) -> bool:
        ends = self.has(*(name for name in FLAGS if name != "terminated"))
        return ends and self.has("terminated", "v_next")

    def known(self, s: Segment) -> Segment:
        """Return the Segment without what the function cannot know: it is judged on this one.

        Truncations become terminations if it cannot tell them, or cannot know v of the final
        observation; no step ends an episode if it has no flags; the last step terminates if it
        cannot bootstrap there; λ is 1 if it has none.
        """
        if not self.has(*FLAGS):
            nowhere = np.zeros_like(s.terminated)
            s = s._replace(
                next_values=s.observed, terminated=nowhere, truncated=nowhere, real=~nowhere
            )
        hidden = np.full_like(s.truncated, not self.knows_truncation())
        if not self.has(*NEXT):
            hidden |= (s.next_values != s.observed) | (not self.has("values"))
            s = s._replace(next_values=s.observed)
        terminated = s.terminated | s.truncated & hidden
        if not self.has(*NEXT, "last_value"):
            terminated = _last_row(terminated)
        lam = s.lam if self.has("lam") else 1.0
        return s._replace(terminated=terminated, truncated=s.truncated & ~hidden, lam=lam)

    def cannot(self) -> tuple[str, ...]:
        """Return what it cannot know, in lines."""
        flags = ", ".join(g for g, name in zip(self.given, self.names) if name in FLAGS)
        lines = []
        if not flags:
            lines.append("no flags: cannot tell where an episode ends; judged within one episode")
        elif not self.knows_truncation():
            lines.append(f"{flags} only: cannot tell {RUNS_ON if self.has('terminated') else ZERO}")
        elif not self.has(*NEXT):
            lines.append(NO_NEXT)
        if not self.has(*NEXT, "last_value"):
            lines.append(NO_LAST)
        return tuple(lines)


def signature(f: Callable[..., Any], what: str = "advantages") -> Signature:
    """Return the Signature of a function. Raises ValueError, of one line, for parameters that are
    not among ARGUMENTS and ALIASES, or that leave it unable to know what it is asked for."""
    name, parameters = getattr(f, "__name__", "f"), inspect.signature(f).parameters.values()
    allowed = ", ".join(ARGUMENTS)
    for p in parameters:
        many = p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        if many or ALIASES.get(p.name, p.name) not in ARGUMENTS:
            raise ValueError(f"{name} has a parameter {p.name}: must be among {allowed}")
    given = tuple(p.name for p in parameters)
    found = Signature(given, tuple(ALIASES.get(x, x) for x in given))
    has = found.has
    for twice in {x for x in found.names if found.names.count(x) > 1}:
        both = " and ".join(g for g, x in zip(given, found.names) if x == twice)
        raise ValueError(f"{name} has parameters {both}, which mean the same: must have one")
    for missing, wanted in (
        ("rewards", not has("rewards")),
        ("gamma", not has("gamma")),
        ("values", what == "advantages" and not has("values")),
        ("values or next_values", has("lam") and not has("values", *NEXT)),
        ("terminated", has("truncated") and not has("terminated")),
        ("next_done", has("episode_starts") and not has("dones", "next_done")),
        ("dones or episode_starts", has("next_done") and not has("dones", "episode_starts")),
    ):
        if wanted:
            raise ValueError(f"{name}({', '.join(given)}) has no parameter {missing}: must have it")
    return found
