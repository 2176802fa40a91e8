"""A2C, CartPole-v1: 8 of them in Gymnasium's SyncVectorEnv, 8 and 64 in the vector environment it
brings along; separate 64-64 tanh networks, n_steps 5, RMSProp with ε inside the root.

All in float32 (torch's default, and the page's). η is 0, so that all of the work is done and
nothing moves: each meets the same distribution of episodes.
"""

import gymnasium
import numpy as np
import torch

from algorithms import a2c
from algorithms.common.policy import make_actor_critic
from benchmarks.parity import a2c as parity
from benchmarks.parity.measure import check
from benchmarks.speed.race import Goal, Race, rounds_of
from benchmarks.speed.turns import repeat
from benchmarks.torch_twins import a2c as twins
from benchmarks.torch_twins import a2c_baseline
from benchmarks.torch_twins.networks import networks

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


def build(Twin, envs, config, theta):
    model = make_actor_critic(envs, config.network, "separate").model
    return Twin(envs, config, *networks(model, theta, torch.float32))


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
        calls[name] = build(Twin, make(), config, state.theta).update
    run = a2c.train(make(), config, state)
    calls["page"] = lambda: next(run)
    return {name: repeat(call, updates, n * N) for name, call in calls.items()}


def races(quick):
    config = a2c.Config(**STILL, precision="double")
    differences = {name: check(parity, config, Twin) for name, Twin in TWINS.items()}
    updates = 10 if quick else 40
    for setting, (vectorization, N, targets) in SETTINGS.items():
        config = a2c.Config(environments=N, **STILL)
        turns = contestants(config, vectorization, updates)
        turns[SB3] = baseline(environments(vectorization, N), config, updates)
        yield Race(
            f"A2C, {setting}",
            lambda rounds, turns=turns: rounds_of(turns, rounds),
            [Goal(over, "page", bound) for over, bound in targets.items()],
            differences=differences,
        )


def baseline(envs, config, updates):
    """A turn of Stable-Baselines3."""
    model, steps = a2c_baseline.baseline(envs, config, 0), updates * config.n_steps * envs.num_envs

    def turn():
        model.learn(steps)
        return steps

    return turn
