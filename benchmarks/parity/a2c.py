"""A2C beside its twin, in NEXT_STEP vector environments."""

from dataclasses import replace

import torch
from gymnasium.vector import SyncVectorEnv

from algorithms import a2c as page
from algorithms.common.policy import make_actor_critic
from benchmarks.parity.measure import GAUSSIANS, Beside, Displayed, Update, lengths, recorded
from benchmarks.parity.world import System, VectorRecorder, VectorReplay
from benchmarks.torch_twins import a2c as twins
from benchmarks.torch_twins import heads
from benchmarks.torch_twins.networks import networks

METHODS = ("a2c",)
START = page.Config(beta=0.05, value_coef=0.7, precision="double")


def cases(method):
    """(option, config, continuous actions?, the twin)."""
    for optimizer in page.SETTINGS:
        for reduction in ("sum", "mean"):
            config = replace(START, optimizer=optimizer, reduction=reduction)
            yield reduction, config, False, twins.Lean
    yield "as tutorials write it", START, False, twins.Usual
    yield "annealed, norm clipped", replace(START, annealed=True, max_norm=0.1), False, twins.Lean
    yield "3 environments", replace(START, environments=3), False, twins.Lean
    yield "shared trunk", replace(START, trunk="shared"), False, twins.Lean
    gentle = replace(START, step_size=1e-4)  # see benchmarks.parity.measure
    yield "shared trunk, Gaussian", replace(gentle, trunk="shared"), True, twins.Lean
    for option, described in GAUSSIANS.items():
        yield option, replace(gentle, network=described), True, twins.Lean


def displayed(config, space):
    head = heads.head(space, config.network)
    objective = lambda h, v, _, A, *rest: -twins.loss(*head.both(h, A), v, *rest)
    return dict(gradient=Displayed(page.gradient, objective, (0, 1)))


def run(config, continuous, updates):
    """Record a learning run of so many updates."""
    config = replace(config, T_max=60 * updates * config.environments // 8)
    envs = VectorRecorder(SyncVectorEnv([lambda: System(continuous)] * config.environments))
    gradients = displayed(config, envs.single_action_space)
    note = lambda config, state, d: Update(-d, state.theta.copy())
    return recorded(page, envs, config, gradients, updates, "ascend", note)


def follow(Twin, record, led):
    """Let a twin learn from the same steps, and return [Beside]."""
    config, replay = record.config, VectorReplay(record.envs[0])
    model = make_actor_critic(replay, config.network, config.trunk).model
    nets = networks(model, record.start.theta, torch.float64)
    twin = Twin(replay, config, *nets, *[None] * (2 - len(nets)))
    twin.draw = lambda _: torch.from_numpy(replay.action())
    return Beside(record.updates, lengths(model), led).follow(twin.optimizer, twin.update)
