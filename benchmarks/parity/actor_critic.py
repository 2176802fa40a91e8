"""The three actor–critics beside their twins."""

from dataclasses import replace

import numpy as np
import torch

from algorithms import actor_critic as page
from algorithms.common.policy import Network, make_policy, make_value
from benchmarks.parity.measure import GAUSSIANS, Beside, Displayed, Update, actor, lengths, recorded
from benchmarks.parity.world import Recorder, Replay, System
from benchmarks.torch_twins import actor_critic as twins
from benchmarks.torch_twins import heads
from benchmarks.torch_twins.networks import network
from npgrad.optimizers import OPTIMIZERS

METHODS = {
    "actor-critic": (page.OneStep(), twins.Lean, twins.Usual),
    "actor-critic-traces": (page.Traces(), twins.LeanTraces, twins.UsualTraces),
    "actor-critic-continuing": (
        page.Continuing(report_every=25),
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
    for option, described in GAUSSIANS.items():
        yield option, replace(gentle, network=described), True, Lean


def displayed(config, space):
    head = heads.head(space, config.network)
    return dict(gradient=Displayed(page.gradient, lambda h, _, a: head.one(h, a)))


def run(config, continuous, updates):
    """Record a learning run of at least so many updates."""

    def note(config, state, d_theta, d_w):
        return Update(-np.concatenate([d_theta, d_w]), np.concatenate([state.theta, state.w]))

    env = Recorder(System(continuous))
    gradients = displayed(config, env.action_space)
    return recorded(page, env, config, gradients, updates, "ascend", note)


def follow(Twin, record, led):
    """Let a twin learn from the same steps, and return [Beside]."""
    config, start, replay = record.config, record.start, Replay(record.envs[0])
    models = make_policy(replay, config.network).model, make_value(replay, config.network)
    pairs = zip(models, (start.theta, start.w))
    twin = Twin(replay, config, *[network(*pair, torch.float64) for pair in pairs])
    twin.draw = actor(replay, Twin)
    return Beside(record.updates, lengths(*models), led).follow(twin.optimizer, twin.step)
