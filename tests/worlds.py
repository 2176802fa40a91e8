"""Environments whose every number a test can know, and what records them."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorWrapper
from hypothesis import strategies as st

from algorithms.common.policy import Network
from npgrad import Head, vjp

SEEDS = st.integers(0, 2**32 - 1)
UNIT = st.sampled_from((0.0, 0.5, 0.9, 1.0)) | st.floats(0, 1)
LINEAR = Network(approximator="linear")
CHANCE = 1e-12  # that a test of frequencies fails
NETWORKS = st.builds(
    Network,
    approximator=st.sampled_from(("mlp", "linear")),
    hidden=st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple),
    activation=st.sampled_from(("tanh", "softplus", "identity")),
    sigma=st.sampled_from(("exp", "softplus")),
    spherical=st.booleans(),
)


def numbers(n):
    return Box(-np.inf, np.inf, (n,), np.float64)


def actions(d):
    """d actions in [−1, 1]; Discrete(3) for d = 0."""
    return Box(-1.0, 1.0, (d,)) if d else Discrete(3)


class Scripted(gymnasium.Env):
    """Box observations and rewards drawn at each reset; terminates or is truncated after T steps.

    The last observation is the constant 0.5, so that a bootstrap from it can be computed by hand.
    """

    def __init__(self, T=3, n=2, d=0, truncate=False):
        self.T, self.n, self.truncate = T, n, truncate
        self.observation_space = Box(-np.inf, np.inf, (n,))
        self.action_space = actions(d)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.S = self.np_random.normal(size=(self.T + 1, self.n)).astype(np.float32)
        self.S[-1] = 0.5
        self.R = self.np_random.normal(size=self.T)
        return self.S[0], {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        over = self.t == self.T
        return self.S[self.t], self.R[self.t - 1], over and not self.truncate, over, {}


class Constant(gymnasium.Env):
    """Reward 1 for ever, one state; ends after T steps, by a time limit or really."""

    def __init__(self, T, truncate=False):
        self.T, self.truncate = T, truncate
        self.observation_space = Discrete(1)
        self.action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += 1
        over = self.t == self.T
        return 0, 1.0, over and not self.truncate, over and self.truncate, {}


class Wander(gymnasium.Env):
    """s ← ½ s + what the action does + noise. Any step may terminate or truncate the episode."""

    def __init__(self, d=0, n=2):
        self.observation_space = numbers(n)
        self.action_space = actions(d)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = self.np_random.normal(size=self.observation_space.shape)
        return self.s, {}

    def step(self, action):
        assert self.action_space.contains(action)
        noise = self.np_random.normal(size=self.s.size)
        self.s = 0.5 * self.s + 0.3 * np.sum(action) + 0.2 * noise
        u = self.np_random.random()
        return self.s, float(self.s[0] - 0.1 * np.sum(action)), u < 0.15, u > 0.85, {}


class Endless(Wander):
    """`Wander`, but no episode ever ends."""

    def step(self, action):
        s, r, _, _, info = super().step(action)
        return s, r, False, False, info


class Arm(gymnasium.Env):
    """Two joints pulled towards 0, driven by actions of an asymmetric box; T steps."""

    def __init__(self, T=5, truncate=True, low=(-1.0, 0.5), high=(3.0, 2.0), dtype=np.float64):
        self.T, self.truncate = T, truncate
        self.observation_space = numbers(2)
        self.action_space = Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
        self.actions, self.starts = [], []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.starts.append(len(self.actions))
        self.s, self.t = self.np_random.normal(size=2), 0
        return self.s, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.actions.append(action)
        self.s *= 0.9  # the same array every time, as some environments do
        self.s += 0.1 * action[0] + 0.05 * self.np_random.normal(size=2)
        self.t += 1
        r = float(action[-1] - self.s @ self.s)
        over = self.t == self.T
        return self.s, r, over and not self.truncate, over and self.truncate, {}


class Recorder(gymnasium.Wrapper):
    """Keeps every (S, A, R, S', terminated, truncated), the first S after every reset, and the
    seeds that the resets were given."""

    def __init__(self, env):
        super().__init__(env)
        self.log, self.starts, self.seeds = [], [], []

    def reset(self, **how):
        self.seeds.append(how.get("seed"))
        self.s, info = self.env.reset(**how)
        self.starts.append(np.array(self.s, float))
        return self.s, info

    def step(self, action):
        before = np.array(self.s, float)
        self.s, R, *ends, info = self.env.step(action)
        self.log.append((before, action, R, np.array(self.s, float), *ends))
        return self.s, R, *ends, info


class VectorRecorder(VectorWrapper):
    """Keeps (S, A, rewards, terminated, truncated, S') of every step of N environments. A step in
    which an environment only resets itself is recorded with reward None, and pays 100."""

    def __init__(self, env):
        super().__init__(env)
        self.log, self.mode = [], env.metadata["autoreset_mode"]

    def reset(self, **how):
        s, info = self.env.reset(**how)
        self.s = np.array(s)
        if "options" not in how:
            self.over = np.zeros(self.num_envs, bool)
        return s, info

    def step(self, actions):
        before, resets = self.s, self.over & (self.mode is AutoresetMode.NEXT_STEP)
        s, r, terminated, truncated, info = self.env.step(actions)
        self.s, after = np.array(s), np.array(s)
        self.over = terminated | truncated
        if self.mode is AutoresetMode.SAME_STEP:
            for i in np.flatnonzero(self.over):
                after[i] = info["final_obs"][i]
        rewards = [None if reset else float(x) for reset, x in zip(resets, r)]
        flags = terminated.tolist(), truncated.tolist()
        self.log.append((before, np.array(actions), rewards, *flags, after))
        return s, np.where(resets, 100.0, r), terminated, truncated, info


# asynchronous workers

SMALL = Network(hidden=(3,))
SGD = dict(optimizer="sgd", annealed=False)
OPTIMIZERS = st.sampled_from(("sgd", "momentum", "rmsprop", "shared_rmsprop"))
SCHEDULES = st.lists(st.integers(0, 2), max_size=60) | st.builds(
    lambda seed: np.random.default_rng(seed).integers(3, size=90).tolist(), SEEDS
)


def stream(seed, i, k):
    """What worker i draws its k-th episode from; the first number of its first seeds the env."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i, k)))


def env_seed(rng):
    return int(rng.integers(2**31))


def by_hand(optimizer, config):
    """(dθ, η) -> step, as §4 of the A3C paper writes it: its statistics start at 0."""
    g, alpha = 0.0, config.decay

    def step(d, eta):
        nonlocal g
        if optimizer == "sgd":
            return eta * d
        g = alpha * g + (1 - alpha) * (d if optimizer == "momentum" else d**2)
        return eta * (g if optimizer == "momentum" else d / np.sqrt(g + config.eps))

    return step


def by_hand_each(config):
    """by_hand of every worker; what is shared_..., one for all."""
    name = config.optimizer.removeprefix("shared_")
    each = [by_hand(name, config) for _ in range(config.workers)]
    return each if name == config.optimizer else each[:1] * config.workers


def pulled_back(model, theta, S, g):
    """Σ_i (∂y_i/∂θ)ᵀ g_i by the tape, y_i the outputs at S[i]."""
    S = np.array(S)
    return vjp(lambda theta: model(theta, S), theta)[1](g)[0]


def contents(state):
    """All that a State holds, as plain values."""
    world, rng = {**vars(state.world)}, state.rng.bit_generator.state
    return {**vars(state), "world": {**world, "actions": list(world["actions"])}, "rng": rng}


def told(noise):
    """A Network whose heads are given this noise, an array of rows."""

    class Told(Network):
        def head(self, space):
            head = super().head(space)
            return Head(head.distribution, head.size, lambda rng, k: noise, head.action)

    return Told


class Replay(gymnasium.Env):
    """One episode of a finite MDP, an exact.mdp.Trajectory, again and again."""

    def __init__(self, mdp, tau):
        self.mdp, self.tau = mdp, tau
        self.observation_space = Discrete(mdp.n_observations)
        self.action_space = Discrete(mdp.P.shape[1])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return int(self.mdp.observation[self.tau.states[0]]), {}

    def step(self, action):
        assert action == self.tau.actions[self.t]
        self.t += 1
        over, s = self.t == len(self.tau.actions), self.tau.states[self.t]
        cut = over and not self.tau.terminated
        r = float(self.tau.rewards[self.t - 1])
        return int(self.mdp.observation[s]), r, over and not cut, cut, {}
