"""REINFORCE beside its twin."""

from dataclasses import replace

import numpy as np
import torch

from algorithms import reinforce
from algorithms.common.policy import Network, make_policy, make_value
from benchmarks.parity.measure import Probe, Row, Spy, apart, modules, parted, sizes, tensor
from benchmarks.parity.world import Recorder, Replay, World
from benchmarks.torch_twins import heads
from benchmarks.torch_twins import reinforce as twins
from benchmarks.torch_twins.networks import flat
from npgrad.optimizers import OPTIMIZERS

METHODS = ("reinforce",)
START = reinforce.Config(step_size=1e-3, step_size_w=1e-3)
RATES = {"sgd": dict(step_size=2e-4, step_size_w=2e-4)}  # 1e-3 is not stable: sums over episodes


def cases(method):
    """(option, config, continuous actions?, the twin)."""
    for optimizer in OPTIMIZERS:
        for baseline in ("none", "value"):
            rates = RATES.get(optimizer, {})
            config = replace(START, optimizer=optimizer, baseline=baseline, **rates)
            yield f"baseline {baseline}", config, False, twins.Lean
    yield "as tutorials write it", START, False, twins.Usual
    yield "baseline mean", replace(START, baseline="mean"), False, twins.Lean
    for weighting in ("total", "undiscounted_state"):
        yield weighting, replace(START, weighting=weighting), False, twins.Lean
        moving = replace(START, weighting=weighting, form="moving")
        yield f"{weighting}, moving", moving, False, twins.Moving
    yield "moving", replace(START, form="moving"), False, twins.Moving
    yield "3 episodes per update", replace(START, episodes_per_update=3), False, twins.Lean
    yield "linear", replace(START, network=Network("linear")), False, twins.Lean
    for activation in ("relu", "softplus", "elu"):
        network = Network(hidden=(32, 32), activation=activation)
        yield activation, replace(START, network=network), False, twins.Lean
    gentle = replace(START, step_size=1e-4)  # see benchmarks.parity.measure
    yield "Gaussian", gentle, True, twins.Lean


def gradients(config, env):
    """{argument of train: (the page's gradient, the twin's)}, of the same arguments."""
    head = heads.head(env.action_space, config.network)
    policy = Probe(make_policy(env, config.network).model)
    value = Probe(make_value(env, config.network))

    def of_policy(theta, _, S, A, weights):
        loss = lambda pi: twins.loss(head.log_prob(pi(tensor(S)), tensor(A)), tensor(weights))
        return -policy(theta, loss)

    def of_value(w, _, S, G):
        return value(w, lambda v: twins.value_loss(v(tensor(S))[:, 0], tensor(G)))

    return dict(
        gradient=(reinforce.gradient, of_policy),
        value_gradient=(reinforce.value_gradient, of_value),
    )


def run(config, continuous, updates, **gradients):
    """The page learns: its environment, and (θ, w) at the start and after every yield."""
    env = Recorder(World(continuous))
    state = reinforce.init(env, config, 0)
    learning, states = reinforce.train(env, config, state, **gradients), []
    while state.optimizer_steps < updates:
        states.append((state.theta.copy(), state.w.copy()))
        next(learning)
    states.append((state.theta.copy(), state.w.copy()))
    return env, states, state.optimizer_steps


def follow(config, Twin, env, states):
    """The twin learns from the same episodes: the largest difference of its parameters."""
    replay, (theta, w), differences = Replay(env), states[0], []
    models = make_policy(env, config.network).model, make_value(env, config.network)
    policy = modules(models[0], theta)
    value = modules(models[1], w) if len(w) else None
    twin = Twin(replay, config, policy, value)
    twin.act = replay.action
    twin.draw = lambda pi: torch.as_tensor(replay.action())
    for theta, w in states[1:]:
        twin.episode()
        differences.append(apart(sizes(models[0]), theta, flat(policy)))
        if value is not None:
            differences.append(apart(sizes(models[1]), w, flat(value)))
    return float(np.max(differences))


def row(method, case, updates):
    """The Row of one of the cases."""
    option, config, continuous, Twin = case
    spies = {name: Spy(*pair) for name, pair in gradients(config, World(continuous)).items()}
    run(config, continuous, updates, **spies)
    *recorded, done = run(config, continuous, updates)
    parameters = parted(follow, config, Twin, *recorded)
    gradient = float(np.max([spy.worst for spy in spies.values()]))
    return Row(method, option, config.optimizer, gradient, parameters, done)
