"""One worker of asynchronous one-step and n-step Q, CartPole-v1, 64-64 tanh, updates of 5 steps.

torch in float32 (its default, and what CartPole observes), the page in both precisions. η is 0, so
that all of the work is done and nothing moves; ε is where it ends, 0.1, and θ⁻ is copied every
1,000 steps. No goal is set.
"""

from dataclasses import replace

import gymnasium
import numpy as np
import torch

from algorithms import async_q
from algorithms.common.policy import make_policy
from benchmarks.parity import asynchronous as parity
from benchmarks.parity.measure import check
from benchmarks.speed.race import Race, precisions, rounds_of
from benchmarks.speed.turns import learner, replay, until
from benchmarks.torch_twins import async_q as twins
from benchmarks.torch_twins.networks import network

ROUNDS = 15
ENV = "CartPole-v1"
KINDS = {
    "one-step Q": (async_q.OneStepQ, twins.Usual, twins.Lean),
    "n-step Q, t_max 5": (async_q.NStepQ, twins.UsualNStep, twins.LeanNStep),
}
NAMES = "torch usual", "torch lean"
STILL = dict(workers=1, T_max=10**9, step_size=0.0, annealed=False, final_epsilons=(0.1,),
             epsilon_chances=(1.0,), epsilon_steps=1)  # fmt: skip


def build(Twin, env, config, theta):
    q = network(make_policy(env, config.network).model, theta, torch.float32)
    shared = twins.SharedQ(config, q)
    shared.T = config.epsilon_steps
    return Twin(env, config, shared)


def races(quick):
    n, make = 200 if quick else 2000, lambda: gymnasium.make(ENV)
    for method, (Config, *Twins) in KINDS.items():
        config = Config(**STILL)
        theta, pages = async_q.init(make(), config, 0).theta, precisions(config)
        turns = {"environment": replay(make(), explorer(make(), config, theta), n)}
        differences = {}
        for name, Twin in zip(NAMES, Twins):
            moving = replace(config, step_size=1e-3, I_target=50)  # so that θ⁻ differs from θ
            differences[name] = check(parity, moving, Twin)
            turns[name] = until(build(Twin, make(), config, theta).segment, n)
        for name, own in pages.items():
            turns[name] = page(make(), own, theta, n)
        yield Race(
            method,
            lambda rounds, turns=turns: rounds_of(turns, rounds),
            ours=tuple(pages),
            differences=differences,
        )


def explorer(env, config, theta):
    """ε-greedy, as all contestants act."""
    greedy, rng = async_q.actor(env, config), np.random.default_rng(0)

    def act(observation):
        if rng.random() < config.final_epsilons[0]:
            return int(rng.integers(env.action_space.n))
        return greedy(dict(theta=theta), observation, rng)

    return act


def page(env, config, theta, n):
    state = async_q.init(env, config, 0)
    state.theta[:] = theta
    return learner(async_q.train(env, config, state), lambda: int(state.T[0]), n)
