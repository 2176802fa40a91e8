"""REINFORCE beside its twin."""

from dataclasses import replace

import numpy as np
import torch

from algorithms import reinforce as page
from algorithms.common.policy import Network, make_policy, make_value
from benchmarks.parity.measure import Beside, Displayed, Update, actor, lengths, recorded
from benchmarks.parity.world import Recorder, Replay, System
from benchmarks.torch_twins import heads
from benchmarks.torch_twins import reinforce as twins
from benchmarks.torch_twins.networks import network
from npgrad.optimizers import OPTIMIZERS

METHODS = ("reinforce",)
START = page.Config(step_size=5e-4, step_size_w=1e-3)  # see benchmarks.parity.measure
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
    mean = replace(START, episodes_per_update=3, baseline="mean")
    yield "3 episodes per update, baseline mean", mean, False, twins.Lean
    yield "linear", replace(START, network=Network("linear")), False, twins.Lean
    for activation in ("relu", "softplus", "elu"):
        described = Network(hidden=(32, 32), activation=activation)
        yield activation, replace(START, network=described), False, twins.Lean
    gentle = replace(START, step_size=1e-4)  # see benchmarks.parity.measure
    yield "Gaussian", gentle, True, twins.Lean


def displayed(config, space):
    head = heads.head(space, config.network)
    return dict(
        gradient=Displayed(
            page.gradient, lambda h, _, A, weights: -twins.loss(head.log_prob(h, A), weights)
        ),
        value_gradient=Displayed(page.value_gradient, twins.value_loss),
    )


def run(config, continuous, updates):
    """Record a learning run of at least so many updates."""

    def note(state, config, d_theta, d_w):
        return Update(np.concatenate([-d_theta, d_w]), np.concatenate([state.theta, state.w]))

    env = Recorder(System(continuous))
    gradients = displayed(config, env.action_space)
    return recorded(page, env, config, gradients, updates, "step", note)


def follow(Twin, record, led):
    """Let a twin learn from the same episodes, and return [Beside]."""
    config, start, replay = record.config, record.start, Replay(record.envs[0])
    pairs = [(make_policy(replay, config.network).model, start.theta)]
    if config.baseline == "value":
        pairs.append((make_value(replay, config.network), start.w))
    nets = [network(*pair, torch.float64) for pair in pairs]
    twin = Twin(replay, config, *nets, *[None] * (2 - len(nets)))
    twin.draw = actor(replay, Twin)
    beside = Beside(record.updates, lengths(*[model for model, _ in pairs]), led)
    return beside.follow(twin.optimizer, twin.episode)
