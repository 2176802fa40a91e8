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
from benchmarks.parity import reinforce as parity
from benchmarks.parity.measure import check
from benchmarks.speed.race import Goal, Race, rounds_of
from benchmarks.speed.turns import learner, player, replay, until
from benchmarks.torch_twins import reinforce as twins
from benchmarks.torch_twins.networks import network

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


def build(Twin, env, config, theta, w):
    pairs = [(make_policy(env, config.network).model, theta)]
    if config.baseline == "value":
        pairs.append((make_value(env, config.network), w))
    nets = [network(*pair, torch.float32) for pair in pairs]
    return Twin(env, config, *nets, *[None] * (2 - len(nets)))


def races(quick):
    n, make = 300 if quick else 3000, lambda: gymnasium.make(ENV)
    for source, steps in (("start", 0), ("learned", 2000 if quick else 40_000)):
        state = learned(steps)
        for baseline, w in (("none", np.empty(0)), ("value", state.w)):
            config = reinforce.Config(baseline=baseline, step_size=0.0, step_size_w=0.0)
            differences = {name: check(parity, config, Twin) for name, Twin in TWINS.items()}
            turns = {"environment": replay(make(), player(reinforce, make(), config, state), n)}
            for name, Twin in TWINS.items():
                turns[name] = until(build(Twin, make(), config, state.theta, w).episode, n)
            turns["page"] = page(make(), config, state.theta, w, n)
            yield Race(
                f"REINFORCE, baseline {baseline}, {source} θ",
                lambda rounds, turns=turns: rounds_of(turns, rounds),
                [Goal(over, "page", bound) for over, bound in TARGETS.items()],
                differences=differences,
            )


def page(env, config, theta, w, n):
    state = reinforce.init(env, config, 0)
    state.theta[:], state.w[:] = theta, w
    return learner(reinforce.train(env, config, state), lambda: state.steps, n)
