"""A2C, CartPole-v1: 8 of them in Gymnasium's SyncVectorEnv, 8 and 64 in the vector environment it
brings along; separate 64-64 tanh networks, n_steps 5, RMSProp with ε inside the root.

All in float32 (torch's default, and the page's). η is 0, so that all of the work is done and
nothing moves: each meets the same distribution of episodes.
"""

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorWrapper

from algorithms import a2c
from algorithms.common.policy import make_actor_critic
from algorithms.common.vector import Single
from benchmarks.speed.race import Goal, Race, agree, rounds_of
from benchmarks.speed.turns import repeat
from benchmarks.torch_twins import a2c as twins

ROUNDS = 15
ENV = "CartPole-v1"
TWINS = {"torch usual": twins.Usual, "torch lean": twins.Lean, "torch lean, Gumbel": twins.Gumbel}
SB3 = "Stable-Baselines3"
SETTINGS = {
    "SyncVectorEnv of 8": ("sync", 8, {SB3: 7.5, "torch lean": 3.0}),
    "CartPole's own of 8": ("vector_entry_point", 8, {SB3: 12.0, "torch lean": 4.2}),
    "CartPole's own of 64": ("vector_entry_point", 64, {SB3: 10.0}),
}
STILL = dict(step_size=0.0, annealed=False, T_max=10**9, reduction="mean")


def environments(vectorization, N):
    return gymnasium.make_vec(ENV, num_envs=N, vectorization_mode=vectorization)


class Recorder(VectorWrapper):
    """Keeps the steps of a rollout in `log`."""

    def reset(self, **how):
        self.s, info = self.env.reset(**how)
        return self.s, info

    def step(self, actions):
        before = self.s
        self.s, *rest = self.env.step(actions)
        self.log.append((before.copy(), actions.copy(), *rest[:3], self.s.copy()))
        return self.s, *rest


def build(Twin, envs, config, theta, dtype):
    model = make_actor_critic(Single(envs), config.network, "separate").model
    one, two = model.layout.views(theta)
    policy, value = twins.network(model.first, one, dtype), twins.network(model.second, two, dtype)
    return Twin(envs, config, policy, value)


def gradient(config, theta, policy, log, over):
    """dθ of a recorded NEXT_STEP rollout, and who ended in its last step; over: in the one before
    its first."""
    S, A, r, terminated, truncated, after = map(np.array, zip(*log))
    n, N = r.shape
    v = policy.model(theta, np.append(S, after[-1:], 0).astype(float))[..., -1]
    ends = terminated | truncated
    r = r + config.gamma * (truncated & ~terminated) * v[1:]
    R = a2c.returns(r, config.gamma * ~ends, v[n]).reshape(-1)
    real = ~np.append(over[None], ends[:-1], 0).reshape(-1)
    data = S.reshape(n * N, -1).astype(float), A.reshape(-1), R, R - v[:n].reshape(-1)
    weights = real / real.sum(), config.beta, config.value_coef
    return a2c.gradient(theta, policy, *data, *weights), ends[-1]


def check(Twin, config, updates=60):
    """The twin's gradients beside the page's of the same rollouts."""
    envs, over, pairs = Recorder(environments("vector_entry_point", 8)), np.zeros(8, bool), []
    policy = make_actor_critic(Single(envs), config.network, "separate")
    theta = a2c.init(envs, config, 0).theta.astype(float)
    twin = build(Twin, envs, config, theta, torch.float64)
    for _ in range(updates):
        envs.log = []
        twin.update()
        d, over = gradient(config, theta, policy, envs.log, over)
        pairs.append((-d, np.concatenate([g.t().reshape(-1).numpy() for g in twin.gradients])))
    return agree(Twin.__name__, pairs)


def alone(envs, n):
    """The environments alone, under random actions: a function that makes n steps of each."""
    A = np.random.default_rng(0).integers(2, size=(997, envs.num_envs))
    envs.reset(seed=0)
    k = 0

    def steps():
        nonlocal k
        for _ in range(n):
            k = (k + 1) % len(A)
            envs.step(A[k])

    return steps


def contestants(config, vectorization, updates):
    """{name: turn of so many updates, of n_steps · N steps each}."""
    N, n = config.environments, config.n_steps
    make = lambda: environments(vectorization, N)
    state = a2c.init(make(), config, 0)
    calls = {"environment": alone(make(), n)}
    for name, Twin in TWINS.items():
        calls[name] = build(Twin, make(), config, state.theta, torch.float32).update
    run = a2c.train(make(), config, state)
    calls["page"] = lambda: next(run)
    return {name: repeat(call, updates, n * N) for name, call in calls.items()}


def races(quick):
    differences = {name: check(T, a2c.Config(**STILL)) for name, T in TWINS.items()}
    updates = 10 if quick else 40
    for setting, (vectorization, N, targets) in SETTINGS.items():
        config = a2c.Config(environments=N, **STILL)
        turns = contestants(config, vectorization, updates)
        turns[SB3] = baseline(environments(vectorization, N), config, updates)
        yield Race(
            f"A2C, {setting}",
            lambda rounds, turns=turns: rounds_of(turns, rounds),
            [Goal(6, over, "page", bound) for over, bound in targets.items()],
            differences=differences,
        )


def baseline(envs, config, updates):
    """A turn of Stable-Baselines3."""
    model, steps = twins.baseline(envs, config, 0), updates * config.n_steps * envs.num_envs

    def turn():
        model.learn(steps)
        return steps

    return turn
