"""The boundary to the world for N environments side by side: the contract of `World`, for arrays.

    worlds = Worlds(envs, seed)
    worlds.s               features of the N states to act in
    worlds.step(A)         Step(r, s2, terminated, truncated, real) of actions A (N, ...)
    worlds.take_ended()    ((return, length), ...) of the episodes that ended since it was asked

When an episode ends in step t, Gymnasium's autoreset modes (metadata["autoreset_mode"]) give

                 the observation after step t              step t + 1
    NEXT_STEP    the episode's last                        resets; its action is ignored
    SAME_STEP    the next episode's first; the episode's   is the next episode's first
                 last is in info["final_obs"]
    DISABLED     the episode's last; then                  is the next episode's first
                 reset(options={"reset_mask": ...}) gives the next one's first

`Worlds` hides that: s2 is always what the actions led to, and `real` is False for a step in which
an environment only reset itself (NEXT_STEP). Features and errors are those of `World`. Gymnasium
seeds the N environments once, with seed, seed + 1, ...
"""

import os
import signal
from functools import partial
from math import isfinite
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import batch_space

from algorithms.common.copies import check_unchanged, makers, picklable_makers
from algorithms.common.events import HEARTBEAT, WorkerError
from algorithms.common.world import decoder, encoder, is_factory, name_of, spaces


def vectorized(env, n, vectorization):
    """env, if it is or makes a VectorEnv; else n environments like it (algorithms.common.copies),
    stepped in turn (sync), in processes (async), or in its own form (vector_entry_point).

    Raises ValueError for an environment of which this cannot be made. The caller closes the result
    by `close`.
    """
    made = env() if is_factory(env) else env
    if isinstance(made, VectorEnv):
        check_vector(made)
        return made
    if made is not env:
        made.close()
    if vectorization == "vector_entry_point":
        spec = getattr(env, "spec", None)
        if spec is None or spec.vector_entry_point is None or spec.additional_wrappers:
            raise ValueError(
                f"vectorization = {vectorization!r}: must be sync or async for {env}, which has no "
                "vectorised form of its own"
            )
        check_unchanged(env)
        return gymnasium.make_vec(spec, num_envs=n, vectorization_mode=vectorization)
    if vectorization == "async":
        make = [partial(_apart, os.getpid(), each) for each in picklable_makers(env, n)]
        return AsyncVectorEnv(make, copy=False)
    return SyncVectorEnv(makers(env, n), copy=False)  # `Worlds` copies the features


def _apart(parent, make):
    """Make an environment in a process of its own, which leaves Ctrl-C to its parent and ends at
    SIGTERM, whatever the parent does at signals."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return make()


def check_vector(envs):
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

    r: np.ndarray
    s2: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    real: np.ndarray


class Worlds:
    """N environments; see the module."""

    def __init__(self, envs, seed):
        self.envs, self.N, self.mode = envs, envs.num_envs, envs.metadata["autoreset_mode"]
        self.space = spaces(envs).observation
        self.n, _ = encoder(self.space)
        self.discrete = isinstance(self.space, Discrete)
        self.decode = decoder(spaces(envs).action)
        self.gap = self.mode is AutoresetMode.NEXT_STEP  # a reset takes a step of its own
        self.real, self.ended = np.ones(self.N, bool), []
        self.t, self.begun, self.G = 0, np.zeros(self.N, int), np.zeros(self.N)
        self.episode, self.all = np.ones(self.N, int), np.arange(self.N)
        self.s = self._features(self._answer(lambda: envs.reset(seed=seed))[0], np.zeros(self.N))

    def step(self, A):
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
        for i in ended.tolist():
            self.ended.append((float(self.G[i]), self.t - int(self.begun[i])))
            self.G[i], self.begun[i] = 0.0, self.t + self.gap
            self.episode[i] += 1
        return Step(r, s2, terminated, truncated, real)

    def _rewards(self, r):
        """Rewards (N,), 0 where an environment only reset itself; finite, or an error."""
        if np.shape(r) != (self.N,):
            raise ValueError(f"{name_of(self.envs)}: rewards of shape {np.shape(r)}: must be "
                             f"({self.N},)")  # fmt: skip
        r = np.where(self.real, r, 0.0) if self.gap else r
        if not isfinite(r.dot(r)):
            self._blame("reward", r, self.all, np.zeros(self.N))
        return r

    def _begin_again(self, s2, over, ended, info):
        """s2 with the last features of what is over; self.s gets the next episodes' first."""
        if self.mode is AutoresetMode.DISABLED:
            how = dict(options={"reset_mask": over})
            self.s = self._features(self._answer(lambda: self.envs.reset(**how))[0], over)
        elif "final_obs" not in info:
            raise ValueError(f'info["final_obs"] is missing, in a step of {self.envs} (SAME_STEP)')
        else:
            last = np.stack([info["final_obs"][i] for i in ended])
            s2[over] = self._features(last, np.zeros(len(ended)), ended)
        return s2

    def _features(self, observation, first, rows=None):
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

    def _blame(self, what, x, rows, first):
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

    def _answer(self, ask, *args):
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

    def take_ended(self):
        ended, self.ended = self.ended, []
        return tuple(ended)


def close(envs, env):
    """Close what `vectorized` made of env: all but env itself."""
    if envs is env:
        return
    if isinstance(envs, SyncVectorEnv):
        for made in envs.envs:
            if made is not env:
                made.close()
    elif isinstance(envs, AsyncVectorEnv):
        for process in envs.processes:
            process.terminate()
        envs._state = AsyncState.DEFAULT  # else it would wait for what was asked of them
        envs.close(terminate=True)
    else:
        envs.close()
