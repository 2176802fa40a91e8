"""The three actor–critics beside their twins."""

from dataclasses import replace

import numpy as np
import torch

from algorithms import actor_critic
from algorithms.actor_critic import Continuing, OneStep, Traces
from algorithms.common.policy import Network, make_policy, make_value
from benchmarks.parity.measure import Probe, Row, Spy, apart, modules, parted, sizes, tensor
from benchmarks.parity.world import Recorder, Replay, World
from benchmarks.torch_twins import actor_critic as twins
from benchmarks.torch_twins import heads
from benchmarks.torch_twins.networks import flat
from npgrad.optimizers import OPTIMIZERS

METHODS = {
    "actor-critic": (OneStep(), twins.Lean, twins.Usual),
    "actor-critic-traces": (Traces(), twins.LeanTraces, twins.UsualTraces),
    "actor-critic-continuing": (
        Continuing(report_every=25),
        twins.LeanContinuing,
        twins.UsualContinuing,
    ),
}


def cases(method):
    """(option, config, continuous actions?, the twin)."""
    start, Lean, Usual = METHODS[method]
    start = replace(start, step_size=1e-3, step_size_w=1e-3)
    for optimizer in OPTIMIZERS:
        yield "lean", replace(start, optimizer=optimizer), False, Lean
    yield "as tutorials write it", start, False, Usual
    yield "linear", replace(start, network=Network("linear")), False, Lean
    gentle = replace(start, step_size=1e-4)  # see benchmarks.parity.measure
    for network in (Network(), Network(sigma="softplus"), Network(spherical=True)):
        option = f"Gaussian, {'spherical' if network.spherical else network.sigma}"
        yield option, replace(gentle, network=network), True, Lean


def gradients(config, env):
    """{argument of train: (the page's gradient, the twin's)}, of the same arguments."""
    head = heads.head(env.action_space, config.network)
    policy = Probe(make_policy(env, config.network).model)
    value = Probe(make_value(env, config.network))
    of_policy = lambda theta, _, s, a: policy(theta, lambda pi: head.one(pi(tensor(s)), a))
    of_value = lambda w, _, s: value(w, lambda v: v(tensor(s))[0])
    return dict(
        gradient=(actor_critic.gradient, of_policy),
        value_gradient=(actor_critic.value_gradient, of_value),
    )


def run(config, continuous, updates, **gradients):
    """The page learns: its environment, and (steps, θ, w) at the start and at every yield."""
    env = Recorder(World(continuous))
    state = actor_critic.init(env, config, 0)
    learning, states = actor_critic.train(env, config, state, **gradients), []
    while state.steps < updates:
        states.append((state.steps, state.theta.copy(), state.w.copy()))
        next(learning)
    states.append((state.steps, state.theta.copy(), state.w.copy()))
    return env, states


def follow(config, Twin, env, states):
    """The twin learns from the same steps: the largest difference of its parameters."""
    replay, (steps, theta, w), differences = Replay(env), states[0], []
    models = make_policy(env, config.network).model, make_value(env, config.network)
    policy, value = modules(models[0], theta), modules(models[1], w)
    twin = Twin(replay, config, policy, value)
    twin.draw_action = replay.action
    twin.draw = lambda pi: torch.as_tensor(replay.action())
    for last, theta, w in states[1:]:
        while steps < last:
            twin.step()
            steps += 1
        differences.append(apart(sizes(models[0]), theta, flat(policy)))
        differences.append(apart(sizes(models[1]), w, flat(value)))
    return float(np.max(differences))


def row(method, case, updates):
    """The Row of one of the cases."""
    option, config, continuous, Twin = case
    spies = {name: Spy(*pair) for name, pair in gradients(config, World(continuous)).items()}
    run(config, continuous, updates, **spies)
    env, states = run(config, continuous, updates)
    parameters = parted(follow, config, Twin, env, states)
    gradient = float(np.max([spy.worst for spy in spies.values()]))
    return Row(method, option, config.optimizer, gradient, parameters, states[-1][0])
