"""A2C beside its twin, in NEXT_STEP vector environments."""

from dataclasses import replace

import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv

from algorithms import a2c
from algorithms.common.policy import Network, make_actor_critic
from algorithms.common.vector import Single
from benchmarks.parity.measure import Probe, Row, Spy, apart, modules, parted, parts, sizes, tensor
from benchmarks.parity.world import VectorRecorder, VectorReplay, World
from benchmarks.torch_twins import a2c as twins
from benchmarks.torch_twins import heads
from benchmarks.torch_twins.networks import pack

METHODS = ("a2c",)
START = a2c.Config(beta=0.05, value_coef=0.7, precision="double")


def cases(method):
    """(option, config, continuous actions?, the twin)."""
    for optimizer in a2c.SETTINGS:
        for reduction in ("sum", "mean"):
            config = replace(START, optimizer=optimizer, reduction=reduction)
            yield reduction, config, False, twins.Lean
    yield "as tutorials write it", START, False, twins.Usual
    yield "annealed, norm clipped", replace(START, annealed=True, max_norm=0.1), False, twins.Lean
    yield "3 environments", replace(START, environments=3), False, twins.Lean
    yield "shared trunk", replace(START, trunk="shared"), False, twins.LeanTrunk
    gentle = replace(START, step_size=1e-4)  # see benchmarks.parity.measure
    yield "shared trunk, Gaussian", replace(gentle, trunk="shared"), True, twins.LeanTrunk
    for network in (Network(), Network(sigma="softplus"), Network(spherical=True)):
        option = f"Gaussian, {'spherical' if network.spherical else network.sigma}"
        yield option, replace(gentle, network=network), True, twins.Lean


def gradient(config, env):
    """(the page's gradient, the twin's), of the same arguments."""
    probe = Probe(make_actor_critic(env, config.network, config.trunk).model)
    head = heads.head(env.action_space, config.network)

    def of_twin(theta, _, S, A, R, advantage, weight, beta, value_coef):
        def loss(*nets):
            y = torch.cat([net(tensor(S)) for net in nets], 1)
            both = head.both(y[:, :-1], tensor(A))
            data = tensor(R), tensor(advantage), tensor(weight), beta, value_coef
            return twins.loss(*both, y[:, -1], *data)

        return -probe(theta, loss)

    return a2c.gradient, of_twin


def run(config, continuous, updates, gradient=None):
    """The page learns: its environments, and θ at the start and after every update."""
    envs = VectorRecorder(SyncVectorEnv([lambda: World(continuous)] * config.environments))
    state = a2c.init(envs, config, 0)
    learning, thetas = a2c.train(envs, config, state, gradient), [state.theta.copy()]
    while state.updates < updates:
        next(learning)
        thetas.append(state.theta.copy())
    return envs, thetas


def follow(config, Twin, envs, thetas):
    """The twin learns from the same steps: the largest difference of its parameters."""
    replay = VectorReplay(envs)
    model = make_actor_critic(Single(envs), config.network, config.trunk).model
    ends = np.cumsum([part.layout.size for part in parts(model)])[:-1]
    nets = [modules(*pair) for pair in zip(parts(model), np.split(thetas[0], ends))]
    twin = Twin(replay, config, nets[0], nets[1] if len(nets) > 1 else None)
    twin.draw_actions = twin.draw = lambda _: torch.from_numpy(replay.action())
    differences = []
    for theta in thetas[1:]:
        twin.update()
        differences.append(apart(sizes(model), theta, pack(twin.parameters)))
    return float(np.max(differences))


def row(method, case, updates):
    """The Row of one of the cases."""
    option, config, continuous, Twin = case
    config = replace(config, T_max=60 * updates * config.environments // 8)
    spy = Spy(*gradient(config, World(continuous)))
    run(config, continuous, updates, spy)
    parameters = parted(follow, config, Twin, *run(config, continuous, updates))
    return Row(method, option, config.optimizer, spy.worst, parameters, updates)
