"""A small environment whose episodes end both ways, and what records it and plays it back."""

from collections import deque

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorEnv, VectorWrapper

N, D = 4, 2  # numbers of an observation, of a continuous action
CHANCE = 0.05  # of a step to terminate the episode, and to truncate it


class System(gymnasium.Env):
    """x ← 0.9 x + 0.3 (Ba + noise), reward tanh(mean of x): a linear system, pushed by one of three
    actions or by two numbers within ±limit."""

    spec = None  # so that workers get copies
    observation_space = Box(-np.inf, np.inf, (N,), float)

    def __init__(self, continuous=False, limit=np.inf):
        self.continuous = continuous
        self.action_space = Box(-limit, limit, (D,), float) if continuous else Discrete(3)
        self.B = np.random.default_rng(0).normal(size=(D if continuous else 3, N))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=N)
        return self.x.copy(), {}

    def step(self, a):
        push = a @ self.B if self.continuous else self.B[a]
        self.x = 0.9 * self.x + 0.3 * (push + self.np_random.normal(size=N))
        terminated, truncated = (self.np_random.random(2) < CHANCE).tolist()
        return self.x.copy(), float(np.tanh(self.x.mean())), terminated, truncated, {}


class Keeper:
    """For a wrapper: `log` keeps what every reset and step gave, and each step's actions before."""

    def __init__(self, env):
        super().__init__(env)
        self.log = []

    def reset(self, **how):
        s, info = self.env.reset(**how)
        self.log.append((None, np.array(s)))
        return s, info

    def step(self, a):
        results = self.env.step(a)
        entry = (a, *results[:4])
        self.log.append(tuple(x.copy() if isinstance(x, np.ndarray) else x for x in entry))
        return results

    def drain(self):
        """Return the log since it was last drained."""
        log, self.log = self.log, []
        return log


class Recorder(Keeper, gymnasium.Wrapper):
    spec = None


class VectorRecorder(Keeper, VectorWrapper):
    pass


class OutOfStep(Exception):
    """The record is not asked for as it was made."""


class Playback:
    """For an environment: plays the log of another, as far as it was given (`log`, a deque). It
    must be asked for in the same order, with the same actions up to rounding, or it raises
    OutOfStep. `resets` counts the episodes begun."""

    def __init__(self, recorder):
        self.log, self.resets = deque(), 0
        self.observation_space = recorder.observation_space
        self.action_space = recorder.action_space

    def action(self, *_):
        """Return the action for the next step."""
        a = self.log[0][0]
        if a is None:
            raise OutOfStep("a step is asked for where the record has a reset")
        return a

    def reset(self, **_):
        a, s = self.log.popleft()[:2]
        if a is not None:
            raise OutOfStep("a reset is asked for where the record has a step")
        self.resets += 1
        return s, {}

    def step(self, a):
        recorded = self.action()
        if not np.allclose(a, recorded, rtol=1e-8, atol=1e-12):
            raise OutOfStep(f"action {a} is asked for where the record has {recorded}")
        _, *results = self.log.popleft()
        return *results, {}


class Replay(Playback, gymnasium.Env):
    pass


class VectorReplay(Playback, VectorEnv):
    def __init__(self, recorder):
        super().__init__(recorder)
        self.num_envs, self.metadata = recorder.num_envs, recorder.metadata
        self.single_observation_space = recorder.single_observation_space
        self.single_action_space = recorder.single_action_space
