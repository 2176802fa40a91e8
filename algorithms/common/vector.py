"""N environments side by side: made from one, in step, whatever their way of starting again; and
the actions for them.

When an episode ends in step t, Gymnasium's autoreset modes (metadata["autoreset_mode"]) give

                 the observation after step t              step t + 1
    NEXT_STEP    the episode's last                        resets; its action is ignored
    SAME_STEP    the next episode's first; the episode's   is the next episode's first
                 last is in info["final_obs"]
    DISABLED     the episode's last; then                  is the next episode's first
                 reset(options={"reset_mask": ...}) gives the next one's first

NEXT_STEP's reset is no transition: `Stream.real` is False there. (An episode must not end in it.)

Moments of n numbers, an array (3, n): their count, mean, and Σ (x − mean)².
"""

from math import isfinite, sqrt

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from algorithms.common.drivers import copies
from algorithms.common.episode import BLOCK
from npgrad import Softmax

VECTORIZATIONS = ("sync", "async", "vector_entry_point")
FARTHEST = 10.0  # standard deviations from the mean, of a normalised feature (common practice)
LEAST = 1e-8  # variance that normalisation adds


def make(env, n, vectorization):
    """n environments like env: from its spec, or copies of it if it has none; env itself if it is
    a VectorEnv. The caller closes what was made."""
    if isinstance(env, VectorEnv):
        return env
    if vectorization == "vector_entry_point":
        return gymnasium.make_vec(env.spec, num_envs=n, vectorization_mode=vectorization)
    kind = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}[vectorization]
    return kind([copies(env)] * n, copy=False)  # a Stream's observations are copied at once


def check_vector(env, vectorization):
    """Raise ValueError for an environment of which `make` makes nothing that a Stream can use."""
    if isinstance(env, VectorEnv):
        autoreset_mode(env)
        for name in ("observation_space", "action_space"):
            every, one = getattr(env, name), getattr(env, f"single_{name}")
            if every != batch_space(one, env.num_envs):
                raise ValueError(f"{name} = {every}: must be {env.num_envs} times {one}")
    elif vectorization == "vector_entry_point":
        spec = env.spec
        if spec is None or spec.vector_entry_point is None or spec.additional_wrappers:
            raise ValueError(
                f"vectorization = {vectorization!r}: must be sync or async for {env}, which has no "
                "vectorised form of its own"
            )


def noise_rows(head, rng, N, dtype):
    """What `draw` needs at each step, without end, in memory set aside once."""
    rows = np.empty((BLOCK, N, head.n if isinstance(head, Softmax) else head.d), dtype)
    flat = rows.reshape(-1, rows.shape[-1])
    while True:
        for i in range(0, len(flat), BLOCK):
            flat[i : i + BLOCK] = head.noise(rng, BLOCK)
        yield from rows


def draw(head, h, noise, a):
    """head.sample(h, noise) into a; the noise is used up."""
    if isinstance(head, Softmax):
        noise += h
        noise.argmax(-1, a)
    else:
        a[...] = head.sample(h, noise)


def autoreset_mode(envs):
    """The AutoresetMode that envs declares. Raises ValueError if it declares none."""
    mode = envs.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        allowed = ", ".join(AutoresetMode.__members__)
        raise ValueError(
            f'metadata["autoreset_mode"] = {mode!r} of {envs}: must be an AutoresetMode ({allowed})'
        )
    return mode


class Single:
    """The spaces of one environment, of an Env or a VectorEnv."""

    def __init__(self, env):
        one = "single_" if isinstance(env, VectorEnv) else ""
        self.observation_space = getattr(env, f"{one}observation_space")
        self.action_space = getattr(env, f"{one}action_space")


def merge(moments, x, of):
    """Count the rows of x (k, n) into moments (3, n) where of (k,) is True (Chan et al. 1979)."""
    k = np.count_nonzero(of)
    if k == 0:
        return
    count, mean, squares = moments
    weight = of.astype(x.dtype)
    new = weight.dot(x) / k
    gap = new - mean
    squares += weight.dot((x - new) ** 2) + gap**2 * count * k / (count + k)
    mean += gap * k / (count + k)
    count += k


def normalize(moments, x):
    """(x − mean)/√(variance + 1e-8), kept within ±10; x as it is while nothing has been counted.

    Raises FloatingPointError for an observation x that is not finite.
    """
    if not np.isfinite(x).all():
        raise FloatingPointError(f"the environment returned observation {x}: must be finite")
    count, mean, squares = moments
    if count[0] == 0:
        return x
    return np.clip((x - mean) / np.sqrt(squares / count + LEAST), -FARTHEST, FARTHEST)


class Stream:
    """What the environments give in `steps` steps at a time, in memory set aside once.

    s           features now (N, n); another step may overwrite them
    step(t, a)  takes actions a in all environments, as step t
    finish()    after the last of the steps: ((return, length), ...) of the episodes that ended

    r           (steps, N) rewards, 0 where a step was no transition; this and what follows is there
                once finished
    over        (steps + 1, N): over[t + 1] says that the episode ended in step t
    truncated   (steps, N): it ended there, but did not terminate
    real        (steps, N): step t was a transition
    final       (steps, N, n): features of what a truncated step led to, valid where one was; None
                with NEXT_STEP, which has them in s before step t + 1

    seen, returned   moments, None or changed in place by finish(): of the features of transitions,
                     by which s and final are normalised from then on; of Σ_k γ^k r_{t−k}, past
                     rewards of each episode discounted backwards from now, by whose standard
                     deviation r is divided
    """

    def __init__(self, envs, steps, dtype, seen=None, returned=None, gamma=1.0):
        self.envs, self.mode, self.seen = envs, autoreset_mode(envs), seen
        self.returned, self.gamma = returned, gamma
        space, N = envs.single_observation_space, envs.num_envs
        discrete = isinstance(space, Discrete)
        self.one_hot, self.first = (np.eye(int(space.n)), space.start) if discrete else (None, 0)
        n = int(space.n) if discrete else space.shape[0]
        self.r = np.zeros((steps, N), dtype)
        self.over = np.zeros((steps + 1, N), bool)
        self.terminated, self.truncated = np.zeros((2, steps, N), bool)
        self.real = np.ones((steps, N), bool)
        follows = self.mode is AutoresetMode.NEXT_STEP
        self.final = None if follows else np.zeros((steps, N, n), dtype)
        self.raw = None if seen is None else np.zeros((steps + 1, N, n))
        self.G, self.length, self.trace = np.zeros(N), np.zeros(N, np.int64), np.zeros(N)
        self.sums, self.row = np.empty_like(self.r), np.empty(N)

    def start(self, seed):
        """Reset all environments, once."""
        observation, _ = self.envs.reset(seed=seed)
        self.s = self.see(0, observation)

    def features(self, observation):
        return observation if self.one_hot is None else self.one_hot[observation - self.first]

    def see(self, t, observation):
        """The features in which a policy acts as step t."""
        if self.seen is None:
            return self.features(observation)
        self.raw[t] = self.features(observation)
        return normalize(self.seen, self.raw[t])

    def step(self, t, a):
        observation, self.r[t], terminated, truncated, info = self.envs.step(a)
        self.terminated[t], self.truncated[t] = terminated, truncated
        if self.final is not None:
            observation = self.begin_again(t, observation, info)
        self.s = self.see(t + 1, observation)

    def begin_again(self, t, observation, info):
        """Keep what truncated steps led to; the observation from which to go on."""
        over = self.terminated[t] | self.truncated[t]
        if not over.any():
            return observation
        same_step = self.mode is AutoresetMode.SAME_STEP
        if same_step and "final_obs" not in info:
            raise ValueError(f'info["final_obs"] is missing, in a step of {self.envs} (SAME_STEP)')
        last = info["final_obs"] if same_step else observation
        for i in np.flatnonzero(self.truncated[t]):
            x = self.features(last[i])
            self.final[t, i] = x if self.seen is None else normalize(self.seen, x)
        return observation if same_step else self.envs.reset(options={"reset_mask": over})[0]

    def check_finite(self, S):
        """Raise FloatingPointError unless rewards and final features are finite, and so are S
        ((steps + 1) N, n), the features before each step and after the last."""
        S = S.reshape(len(self.over), -1, S.shape[-1])
        for t, i in np.ndindex(self.r.shape):
            final = self.final is not None and self.truncated[t, i]
            after = self.final[t, i] if final else S[t + 1, i]
            if not (isfinite(self.r[t, i]) and np.isfinite(after).all()):
                raise FloatingPointError(
                    f"environment {i} returned reward {self.r[t, i]} and observation {after}: both "
                    "must be finite"
                )
        if not np.isfinite(S[0]).all():
            raise FloatingPointError(f"the environments began with {S[0]}: must be finite")

    def finish(self):
        np.logical_or(self.terminated, self.truncated, self.over[1:])
        np.greater(self.truncated, self.terminated, self.truncated)
        if self.final is None:
            np.logical_not(self.over[:-1], self.real)
            np.copyto(self.r, 0.0, where=self.over[:-1])
        ended = self.count()
        if self.seen is not None:
            n = self.raw.shape[-1]
            merge(self.seen, self.raw[:-1].reshape(-1, n), self.real.reshape(-1))
            self.raw[0] = self.raw[-1]
            self.s = normalize(self.seen, self.raw[0])
        if self.returned is not None:
            self.scale_rewards()
        self.over[0] = self.over[-1]
        return ended

    def count(self):
        """The (return, length) of episodes that ended, in order."""
        ended, gap, sums = [], self.final is None, self.sums  # a reset comes after each, or not
        if np.count_nonzero(self.over[1:]):
            np.add.accumulate(self.r, 0, None, sums)
            for t, i in zip(*(x.tolist() for x in np.nonzero(self.over[1:]))):
                here = float(sums[t, i])
                ended.append((float(self.G[i]) + here, int(self.length[i]) + t + 1))
                self.G[i], self.length[i] = -here, -(t + 1 + gap)
        else:
            np.add.reduce(self.r, 0, None, sums[-1])
        np.copyto(self.row, sums[-1])
        self.G += self.row
        self.length += len(sums)
        return ended

    def scale_rewards(self):
        """r ← r/√(variance + 1e-8) of the discounted returns so far, these steps' included. Rewards
        that are not finite are left for others to name, and do not enter the moments."""
        if not np.isfinite(self.r).all():
            return
        returns = np.zeros((*self.r.shape, 1))
        for t, r in enumerate(self.r):
            self.trace *= self.gamma
            self.trace += r
            returns[t, :, 0] = self.trace
            self.trace[self.over[t + 1]] = 0.0
        merge(self.returned, returns.reshape(-1, 1), self.real.reshape(-1))
        count, _, squares = self.returned[:, 0]
        self.r /= sqrt(squares / count + LEAST)
