"""REINFORCE with and without a learned baseline, CartPole-v1, 64-64 tanh.

torch in float32 (its default, and what CartPole observes; float64 was no faster), the page as it
comes. Every contestant holds the same θ and w, and every step size is 0, so that all of the work is
done and nothing moves: each meets the same distribution of episodes. Two such θ: the seeded start
(episodes of about 20 steps) and one the page has learned (hundreds).
"""

import gymnasium
import numpy as np
import torch

from algorithms import reinforce
from algorithms.common.policy import make_policy, make_value
from benchmarks.speed.race import Goal, Race, agree, precisions, rounds_of
from benchmarks.speed.turns import Recorder, learner, player, replay, until
from benchmarks.torch_twins import reinforce as twins

ROUNDS = 15
ENV = "CartPole-v1"
TWINS = {
    "torch usual": twins.Usual,
    "torch lean": twins.Lean,
    "torch lean, Gumbel": twins.Gumbel,
    "torch bare": twins.Bare,
}
TARGETS = {"torch lean": 4.0, "torch usual": 8.0}


def learned(steps):
    """The page's State after so many steps from seed 0; 0 is the start."""
    config = reinforce.Config()
    with gymnasium.make(ENV) as env:
        state = reinforce.init(env, config, 0)
        run = reinforce.train(env, config, state)
        while state.steps < steps:
            next(run)
    return state


def build(Twin, env, config, theta, w, dtype):
    policy = twins.network(make_policy(env, config.network).model, theta, dtype)
    value = None
    if config.baseline == "value":
        value = twins.network(make_value(env, config.network), w, dtype)
    return Twin(env, config, policy, value)


def check(Twin, config, theta, w, episodes=3):
    """The twin's gradients beside the page's of the same episodes."""
    env, pairs = Recorder(gymnasium.make(ENV)), []
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    twin = build(Twin, env, config, theta, w, torch.float64)
    for _ in range(episodes):
        twin.episode()
        S, A, r, S2, terminated = env.take()
        b, v_final = np.zeros(len(r)), 0.0
        if config.baseline == "value":
            b, v_final = value(w, S)[:, 0], 0.0 if terminated[-1] else value(w, S2[-1])[0]
        G = reinforce.returns(r, config.gamma, v_final)
        weights = reinforce.weights(np.arange(len(G)), G, b, config.gamma, config.weighting)
        d = reinforce.gradient(theta, policy, S, A, weights)
        pairs.append((-d, twins.flat(twin.policy, gradient=True)))
        if config.baseline == "value":
            d = reinforce.value_gradient(w, value, S, G)
            pairs.append((d, twins.flat(twin.value, gradient=True)))
    return agree(Twin.__name__, pairs)


def races(quick):
    n, make = 300 if quick else 3000, lambda: gymnasium.make(ENV)
    for source, steps in (("start", 0), ("learned", 2000 if quick else 40_000)):
        state = learned(steps)
        for baseline, w in (("none", np.empty(0)), ("value", state.w)):
            config = reinforce.Config(baseline=baseline, step_size=0.0, step_size_w=0.0)
            theta = state.theta.astype(float)
            differences = {name: check(T, config, theta, w) for name, T in TWINS.items()}
            act = player(reinforce, make(), config, state)
            turns = {"environment": replay(make(), act, n)}
            for name, Twin in TWINS.items():
                twin = build(Twin, make(), config, theta, w, torch.float32)
                turns[name] = until(twin.episode, n)
            pages = precisions(config)
            for name, own in pages.items():
                turns[name] = page(make(), own, theta, w, n)
            goals = [Goal(2, over, ours, x) for ours in pages for over, x in TARGETS.items()]
            yield Race(
                f"REINFORCE, baseline {baseline}, {source} θ",
                lambda rounds, turns=turns: rounds_of(turns, rounds),
                goals,
                tuple(pages),
                differences=differences,
            )


def page(env, config, theta, w, n):
    state = reinforce.init(env, config, 0)
    state.theta[:], state.w[:] = theta, w
    return learner(reinforce.train(env, config, state), lambda: state.steps, n)
