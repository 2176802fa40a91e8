"""Online actor–critic, one-step and with traces, CartPole-v1, two 64-64 tanh networks, RMSprop (ε
outside the root), an update of both at every step.

torch in float32 (its default, and what CartPole observes), the page in double precision, its
default, and in single, which is torch's. The step sizes are too small to change any parameter, so
that all of the work is done and nothing moves: each meets the same distribution of episodes.
"""

import gymnasium
import torch

from algorithms import actor_critic
from algorithms.actor_critic import OneStep, Traces
from algorithms.common.policy import make_policy, make_value
from benchmarks.parity import actor_critic as parity
from benchmarks.parity.measure import check
from benchmarks.speed.race import Goal, Race, precisions, rounds_of
from benchmarks.speed.turns import learner, player, repeat, replay
from benchmarks.torch_twins import actor_critic as twins
from benchmarks.torch_twins.networks import network

ROUNDS = 15
ENV = "CartPole-v1"
KINDS = {
    "one-step": (OneStep, twins.Usual, twins.Lean, twins.Gumbel),
    "traces": (Traces, twins.UsualTraces, twins.LeanTraces, twins.GumbelTraces),
}
NAMES = "torch usual", "torch lean", "torch lean, Gumbel"
TARGETS = {"torch lean": 14.0, "torch usual": 28.0}
STILL = dict(optimizer="rmsprop_outside", step_size=1e-30, step_size_w=2e-30)


def build(Twin, env, config, state):
    models = make_policy(env, config.network).model, make_value(env, config.network)
    pairs = zip(models, (state.theta, state.w))
    return Twin(env, config, *[network(*pair, torch.float32) for pair in pairs])


def races(quick):
    n, make = 200 if quick else 1000, lambda: gymnasium.make(ENV)
    for method, (Config, *Twins) in KINDS.items():
        config = Config(**STILL)
        state, pages = actor_critic.init(make(), config, 0), precisions(config)
        turns = {"environment": replay(make(), player(actor_critic, make(), config, state), n)}
        differences = {}
        for name, Twin in zip(NAMES, Twins):
            differences[name] = check(parity, config, Twin)
            turns[name] = repeat(build(Twin, make(), config, state).step, n)
        for name, own in pages.items():
            turns[name] = page(make(), own, n)
        yield Race(
            f"actor–critic, {method}",
            lambda rounds, turns=turns: rounds_of(turns, rounds),
            [Goal(over, ours, x) for ours in pages for over, x in TARGETS.items()],
            tuple(pages),
            differences=differences,
        )


def page(env, config, n):
    state = actor_critic.init(env, config, 0)
    return learner(actor_critic.train(env, config, state), lambda: state.steps, n)
