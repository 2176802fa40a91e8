"""The boundary to the world for N environments side by side: the contract of `World`, for arrays.

    worlds = beside(envs, positions)
    worlds.s               features of the N states to act in
    worlds.step(A)         Step(r, s2, terminated, truncated, real) of actions A (N, ...)
    worlds.take_ended()    ((return, length), ...) of the episodes that ended since it was asked
    worlds.resumed         (N,) whether each environment was brought back to its saved Position

`Several` are N environments, each a World with a Position of its own. `Worlds` is a VectorEnv, with
one Position: its seed and the actions of all its steps since. It is resumed by repeating these.

When an episode ends in step t, Gymnasium's autoreset modes (metadata["autoreset_mode"]) give

                 the observation after step t              step t + 1
    NEXT_STEP    the episode's last                        resets; its action is ignored
    SAME_STEP    the next episode's first; the episode's   is the next episode's first
                 last is in info["final_obs"]
    DISABLED     the episode's last; then                  is the next episode's first
                 reset(options={"reset_mask": ...}) gives the next one's first

`Worlds` hides that: s2 is always what the actions led to, and `real` is False for a step in which
an environment only reset itself (NEXT_STEP). Features and errors are those of `World`. The N
environments are seeded once, with seed, seed + 1, ...
"""

import os
import signal
import warnings
from array import array
from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import batch_space

from algorithms.common.copies import (
    check_unchanged,
    fingerprint,
    is_factory,
    makers,
    picklable_makers,
)
from algorithms.common.events import HEARTBEAT, WorkerError
from algorithms.common.metrics import Ended
from algorithms.common.remembered import own_return
from algorithms.common.types import Envs, Made, Vector
from algorithms.common.world import (
    MOST_ACTIONS,
    Position,
    World,
    decoder,
    encoder,
    name_of,
    spaces,
)
from npgrad import Array


def vectorized(env: Envs, n: int, vectorization: str) -> list[Made] | Vector:
    """env, if it is or makes a VectorEnv; else n environments like it (algorithms.common.copies): a
    list of them (sync), or a VectorEnv that steps them in processes (async) or in their own form
    (vector_entry_point).

    Raises ValueError for an environment of which this cannot be made. The caller closes the result
    by `close`.
    """
    made: Any = env() if is_factory(env) else env
    if isinstance(made, VectorEnv):
        check_vector(made)
        return made
    if made is not env:
        made.close()
    if vectorization == "vector_entry_point":
        spec = getattr(env, "spec", None)
        if spec is None or spec.vector_entry_point is None or spec.additional_wrappers:
            wrapped = spec and spec.vector_entry_point
            why = "whose wrappers have" if wrapped else "which has"
            raise ValueError(
                f"vectorization = {vectorization!r}: must be sync or async for {env}, {why} no "
                "vectorised form"
            )
        check_unchanged(env)
        return gymnasium.make_vec(spec, num_envs=n, vectorization_mode=vectorization)
    if vectorization == "async":
        make = [partial(_apart, os.getpid(), each) for each in picklable_makers(env, n)]
        return AsyncVectorEnv(make, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
    made = []
    try:
        for another in makers(env, n):
            made.append(another())
    except Exception:
        close(made, env)
        raise
    return made


def positions(envs: list[Made] | Vector, seed: int) -> list[Position]:
    """Return the Positions of what `vectorized` made, before the first step: one of a VectorEnv, or
    one for each environment."""
    n = 1 if isinstance(envs, VectorEnv) else len(envs)
    return [Position(seed + i) for i in range(n)]


def beside(envs: list[Made] | Vector, places: list[Position]) -> "Several | Worlds":
    """Return the Worlds of what `vectorized` made, at these Positions. Raises ValueError if the
    Positions are of another number of environments."""
    n = 1 if isinstance(envs, VectorEnv) else len(envs)
    if len(places) != n:
        raise ValueError(f"environments = {len(places)}: must be as many as in the State")
    return Worlds(envs, places[0]) if isinstance(envs, VectorEnv) else Several(envs, places)


def _apart(parent: int, make: Callable[[], Made]) -> Made:
    """Make an environment in a process of its own, which leaves Ctrl-C to its parent and ends at
    SIGTERM, whatever the parent does at signals."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return make()


def check_vector(envs: Vector) -> None:
    """Raise ValueError for a VectorEnv without an autoreset mode, or with uneven spaces."""
    mode = envs.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        allowed = ", ".join(AutoresetMode.__members__)
        raise ValueError(
            f'metadata["autoreset_mode"] = {mode!r} of {envs}: must be an AutoresetMode ({allowed})'
        )
    for name in ("observation_space", "action_space"):
        every, one = getattr(envs, name), getattr(envs, f"single_{name}")
        if every != batch_space(one, envs.num_envs):
            raise ValueError(f"{name} = {every}: must be {envs.num_envs} times {one}")


class Step(NamedTuple):
    """The outcome of one action in each environment; arrays with one entry per environment.

    s2 are features; of an episode that is over, its last ones. real is False where the environment
    only reset itself: ignore all other values of that entry.
    """

    r: Array
    s2: Array
    terminated: Array
    truncated: Array
    real: Array


class Several:
    """N environments, stepped one after the other; see the module."""

    def __init__(self, envs: list[Made], places: list[Position]) -> None:
        self.worlds = [World(envs[i], places[i], number=i) for i in range(len(envs))]
        self.N, self.n = len(envs), self.worlds[0].n
        self.ended: list[tuple[float, int]] = []
        self.resumed = np.array([world.resumed for world in self.worlds])
        self.real = np.ones(self.N, bool)
        self.s = np.array([world.s for world in self.worlds])

    def step(self, A: Array) -> Step:
        """Take actions A in all environments."""
        steps = []
        for world, a in zip(self.worlds, A.tolist() if A.ndim == 1 else A):
            steps.append(world.step(a))
            self.ended.extend(world.ended)
        r, s2, terminated, truncated = map(np.array, zip(*steps))
        self.s = np.array([world.s for world in self.worlds])
        return Step(r, s2, terminated, truncated, self.real)

    def take_ended(self) -> Ended:
        ended, self.ended = self.ended, []
        return tuple(ended)


class Worlds:
    """A VectorEnv of N environments; see the module. The G of its Position is the sum of all
    rewards since its one seed, t the number of steps."""

    def __init__(self, envs: Vector, position: Position) -> None:
        self.envs, self.N, self.mode = envs, envs.num_envs, envs.metadata["autoreset_mode"]
        self.space: Any = spaces(envs).observation
        self.n, _ = encoder(self.space)
        self.discrete = isinstance(self.space, Discrete)
        self.action = spaces(envs).action
        self.decode = decoder(self.action)
        self.gap = self.mode is AutoresetMode.NEXT_STEP  # a reset takes a step of its own
        self.all, self.position = np.arange(self.N), position
        saved = np.array(position.actions), position.s, position.G, position.t
        private, resumed = position.private, position.t > 0
        self._begin(seed=position.seed)
        if resumed and not (position.private == private and self._replay(*saved)):
            text = f"{name_of(envs)} does not repeat its episodes: new ones begin"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            resumed = False
            self._begin()
        self.resumed = np.full(self.N, resumed)

    def _begin(self, **how: Any) -> None:
        """Reset all environments."""
        self.real = np.ones(self.N, bool)
        self.ended: list[tuple[float, int]] = []
        self.t, self.begun, self.G = 0, np.zeros(self.N, int), np.zeros(self.N)
        self.episode, position, action = np.ones(self.N, int), self.position, self.action
        self.compact = isinstance(action, Discrete) and action.n <= 128
        self.most = MOST_ACTIONS * (10 if self.compact else 1)
        number = "d" if isinstance(action, Box) else "q"
        position.actions = array("b" if self.compact else number)
        position.t, position.G = 0, 0.0
        observation, _ = self._answer(lambda: self.envs.reset(**how))
        position.private = fingerprint(self.envs)
        self.s = position.s = self._features(observation, np.zeros(self.N))

    def _replay(self, actions: Array, s: Array, G: float, t: int) -> bool:
        """Repeat the saved steps; return whether they lead to what was saved."""
        width = () if isinstance(self.action, Discrete) else (-1,)
        if actions.size < t * self.N:  # more steps than are kept
            return False
        for A in actions.reshape(t, self.N, *width):
            self.step(A.astype(int) if self.compact else A)
        self.ended = []
        return self.position.G == G and np.array_equal(self.s, s)

    def step(self, A: Array) -> Step:
        """Take actions A in all environments."""
        answer = self._answer(self.envs.step, self.decode(A))
        observation, r, terminated, truncated, info = answer
        self.t += 1
        real, over = self.real, terminated | truncated
        r = self._rewards(r)
        self.G += r
        ended = np.flatnonzero(over)
        s2 = self.s = self._features(observation, over & (self.mode is AutoresetMode.SAME_STEP))
        if self.gap:
            self.real = ~over
        elif ended.size:
            s2 = self._begin_again(s2.copy(), over, ended, info)
        G = own_return(info, self.G) if ended.size else self.G
        for i in ended.tolist():
            self.ended.append((float(G[i]), self.t - int(self.begun[i])))
            self.G[i], self.begun[i] = 0.0, self.t + self.gap
            self.episode[i] += 1
        position = self.position
        position.s, position.t, position.G = self.s, self.t, position.G + float(r.sum())
        if len(position.actions) + A.size <= self.most:
            position.actions.extend(A.ravel().tolist())
        return Step(r, s2, terminated, truncated, real)

    def _rewards(self, r: Array) -> Array:
        """Rewards (N,), 0 where an environment only reset itself; finite, or an error."""
        if np.shape(r) != (self.N,):
            raise ValueError(f"{name_of(self.envs)}: rewards of shape {np.shape(r)}: must be "
                             f"({self.N},)")  # fmt: skip
        r = np.where(self.real, r, 0.0) if self.gap else r
        if not isfinite(r.dot(r)):
            self._blame("reward", r, self.all, np.zeros(self.N))
        return r

    def _begin_again(self, s2: Array, over: Array, ended: Array, info: dict[str, Any]) -> Array:
        """s2 with the last features of what is over; self.s gets the next episodes' first."""
        if self.mode is AutoresetMode.DISABLED:
            how: Any = dict(options={"reset_mask": over})
            self.s = self._features(self._answer(lambda: self.envs.reset(**how))[0], over)
        elif "final_obs" not in info:
            raise ValueError(f'info["final_obs"] is missing, in a step of {self.envs} (SAME_STEP)')
        else:
            last = np.stack([info["final_obs"][i] for i in ended])
            s2[over] = self._features(last, np.zeros(len(ended)), ended)
        return s2

    def _features(self, observation: Any, first: Array, rows: Array | None = None) -> Array:
        """Features of observations (k, ...), or an error: k × n numbers, or k indices. They are of
        the environments `rows`, by default of all; `first` (k,): whether they begin an episode."""
        observation, rows = np.asarray(observation), self.all if rows is None else rows
        if observation.shape != (len(rows), *self.space.shape):
            k, *shape = observation.shape
            many = "" if k == len(rows) else f" of {k} environments"
            raise ValueError(
                f"{name_of(self.envs)}: observations of shape {tuple(shape)}{many}: must be "
                f"{self.space.shape}, as in {self.space}, of {len(rows)}"
            )
        if self.discrete:
            k = observation - self.space.start
            if k.dtype.kind not in "iu" or k.min() < 0 or k.max() >= self.n:
                raise ValueError(
                    f"{name_of(self.envs)}: observations = {observation}: must be in {self.space}"
                )
            return k
        s = np.array(observation, float).reshape(len(rows), -1)
        if not isfinite(s.reshape(-1).dot(np.ones(s.size, s.dtype))):
            self._blame("observation", s, rows, first)
        return s

    def _blame(self, what: str, x: Array, rows: Array, first: Array) -> None:
        """Raise FloatingPointError, naming what is not finite, unless all of it is."""
        wrong = ~np.isfinite(x).reshape(len(x), -1).all(1)
        if wrong.any():
            k = int(np.argmax(wrong))
            i = int(rows[k])
            episode, t = self.episode[i], self.t - self.begun[i]
            if first[k]:
                episode, t = episode + 1, 0
            raise FloatingPointError(
                f"{name_of(self.envs)}: environment {i}, episode {episode}, step {t}: {what} = "
                f"{x[k]}: must be finite"
            )

    def _answer(self, ask: Callable[..., Any], *args: Any) -> Any:
        """ask(*args), but a process that has died is an error."""
        try:
            return ask(*args)
        except (EOFError, OSError) as error:
            for i, process in enumerate(getattr(self.envs, "processes", ())):
                process.join(HEARTBEAT)
                if not process.is_alive():
                    raise WorkerError(
                        f"environment {i}: its process died ({process.exitcode})"
                    ) from error
            raise

    def take_ended(self) -> Ended:
        ended, self.ended = self.ended, []
        return tuple(ended)


def close(envs: list[Made] | Vector, env: Envs) -> None:
    """Close what `vectorized` made of env: all but env itself."""
    if envs is env:
        return
    if isinstance(envs, list):
        for made in envs:
            if made is not env:
                made.close()
    elif isinstance(envs, AsyncVectorEnv):
        for process in envs.processes:
            process.terminate()
        envs._state = AsyncState.DEFAULT  # else it would wait for what was asked of them
        envs.close(terminate=True)
    else:
        envs.close()
