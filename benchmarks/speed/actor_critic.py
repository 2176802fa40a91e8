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
from benchmarks.speed.race import Goal, Race, agree, precisions, rounds_of
from benchmarks.speed.turns import Recorder, learner, player, repeat, replay
from benchmarks.torch_twins import actor_critic as twins

ROUNDS = 15
ENV = "CartPole-v1"
KINDS = {
    "one-step": (OneStep, twins.Usual, twins.Lean, twins.Gumbel),
    "traces": (Traces, twins.UsualTraces, twins.LeanTraces, twins.GumbelTraces),
}
NAMES = "torch usual", "torch lean", "torch lean, Gumbel"
TARGETS = {"torch lean": 14.0, "torch usual": 28.0}
STILL = dict(optimizer="rmsprop_outside", step_size=1e-30, step_size_w=2e-30)


def build(Twin, env, config, state, dtype):
    policy = twins.network(make_policy(env, config.network).model, state.theta, dtype)
    value = twins.network(make_value(env, config.network), state.w, dtype)
    return Twin(env, config, policy, value)


def check(Twin, config, state, steps=100):
    """The twin's gradients beside the page's at the same steps."""
    env, pairs, theta, w = Recorder(gymnasium.make(ENV)), [], state.theta, state.w
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    twin = build(Twin, env, config, state, torch.float64)
    keep = [config.gamma * getattr(config, name, 0.0) for name in ("lambda_theta", "lambda_w")]
    for _ in range(steps):
        if twin.over:
            I, z_theta, z_w = 1.0, 0.0, 0.0
        twin.step()
        S, A, r, S2, terminated = (x[0] for x in env.take())
        v2 = 0.0 if terminated else value(w, S2)[0]
        delta = r + config.gamma * v2 - value(w, S)[0]
        z_theta = keep[0] * z_theta + I * actor_critic.gradient(theta, policy, S, A)
        z_w = keep[1] * z_w + actor_critic.value_gradient(w, value, S)
        I *= config.gamma
        pairs.append((-delta * z_theta, twins.flat(twin.policy, gradient=True)))
        pairs.append((-delta * z_w, twins.flat(twin.value, gradient=True)))
    return agree(Twin.__name__, pairs)


def races(quick):
    n, make = 200 if quick else 1000, lambda: gymnasium.make(ENV)
    for method, (Config, *Twins) in KINDS.items():
        config = Config(**STILL)
        state, pages = actor_critic.init(make(), config, 0), precisions(config)
        turns = {"environment": replay(make(), player(actor_critic, make(), config, state), n)}
        differences = {}
        for name, Twin in zip(NAMES, Twins):
            differences[name] = check(Twin, config, state)
            turns[name] = repeat(build(Twin, make(), config, state, torch.float32).step, n)
        for name, own in pages.items():
            turns[name] = page(make(), own, n)
        yield Race(
            f"actor–critic, {method}",
            lambda rounds, turns=turns: rounds_of(turns, rounds),
            [Goal(4, over, ours, x) for ours in pages for over, x in TARGETS.items()],
            tuple(pages),
            differences=differences,
        )


def page(env, config, n):
    state = actor_critic.init(env, config, 0)
    return learner(actor_critic.train(env, config, state), lambda: state.steps, n)
