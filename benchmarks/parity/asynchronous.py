"""The asynchronous methods beside their twins: A3C, one-step Q, one-step Sarsa and n-step Q.

Two workers of the page take turns, in random order, between a pull, a gradient and its push, so
that most gradients land on parameters that have moved. Two workers of the twin take the same turns.
"""

from contextlib import closing
from dataclasses import replace

import numpy as np
import torch

from algorithms import a3c, async_q
from algorithms.common.asynchronous import OPTIMIZER, total
from algorithms.common.drivers import interleave, round_robin
from algorithms.common.policy import Network, make_actor_critic, make_policy
from benchmarks.parity.measure import (
    Probe,
    Row,
    SpyOnSums,
    apart,
    modules,
    parted,
    parts,
    sizes,
    tensor,
)
from benchmarks.parity.world import Recorder, Replay, World
from benchmarks.torch_twins import a3c as a3c_twins
from benchmarks.torch_twins import async_q as q_twins
from benchmarks.torch_twins import heads
from benchmarks.torch_twins.asynchronous import Shared
from benchmarks.torch_twins.networks import pack

A3C = a3c.Config(step_size=1e-3, beta=0.05, value_coef=0.7)
Q = dict(step_size=1e-3, I_target=100, epsilon_steps=1000)
METHODS = {
    "async-q": (async_q.OneStepQ(**Q), q_twins.Usual, q_twins.Lean),
    "async-sarsa": (async_q.OneStepSarsa(**Q), q_twins.Usual, q_twins.Lean),
    "async-n-step-q": (async_q.NStepQ(**Q), q_twins.LeanNStep, q_twins.UsualNStep),
    "a3c": (A3C, a3c_twins.Lean, None),
}
OTHER = {q_twins.Lean: "batched", q_twins.UsualNStep: "as tutorials write it"}


def cases(method):
    """(option, config, continuous actions?, the twin)."""
    start, Twin, Other = METHODS[method]
    for optimizer in OPTIMIZER:
        yield "two workers", replace(start, optimizer=optimizer), False, Twin
    yield "two workers, norm clipped", replace(start, max_norm=0.5), False, Twin
    if method == "a3c":
        yield from cases_of_a3c()
    else:
        yield f"one worker, {OTHER[Other]}", replace(start, workers=1), False, Other


def cases_of_a3c():
    """The others."""
    Usual, Lean, LeanTrunk = a3c_twins.Usual, a3c_twins.Lean, a3c_twins.LeanTrunk
    yield "as tutorials write it", A3C, False, Usual
    yield "t_max 20", replace(A3C, t_max=20), False, Lean
    yield "shared trunk", replace(A3C, trunk="shared"), False, LeanTrunk
    gentle = replace(A3C, step_size=2e-4)  # see benchmarks.parity.measure
    yield "shared trunk, Gaussian", replace(gentle, trunk="shared"), True, LeanTrunk
    for network in (Network(), Network(sigma="softplus"), Network(spherical=True)):
        option = f"Gaussian, {'spherical' if network.spherical else network.sigma}"
        yield option, replace(gentle, network=network), True, Lean


def model_of(config, env):
    if isinstance(config, a3c.Config):
        return make_actor_critic(env, config.network, config.trunk).model
    return make_policy(env, config.network).model


def gradient(config, env):
    """(the page's gradient, the twin's), of the same arguments."""
    probe = Probe(model_of(config, env))
    head = heads.head(env.action_space, config.network)

    def of_q(theta, _, S, A, y):
        chosen = lambda q: q(tensor(S)).gather(1, tensor(A)[:, None])[:, 0]
        return probe(theta, lambda q: ((tensor(y) - chosen(q)) ** 2).sum())

    def of_actor_critic(theta, _, S, A, R, advantage, beta, value_coef):
        def loss(*nets):
            y = torch.cat([net(tensor(S)) for net in nets], 1)
            both = head.both(y[:, :-1], tensor(A))
            data = tensor(R), tensor(advantage), beta, value_coef
            return a3c_twins.loss(*both, y[:, -1], *data)

        return -probe(theta, loss)

    if isinstance(config, a3c.Config):
        return a3c.gradient, of_actor_critic
    return async_q.gradient, of_q


def run(config, continuous, updates, spies=None):
    """The page learns: the environments; the first State; [(worker, event, steps, θ after it)]."""
    page = a3c if isinstance(config, a3c.Config) else async_q
    box = a3c.worker if page is a3c else async_q.one_step
    if isinstance(config, async_q.NStepQ):
        box = async_q.n_step
    envs = [Recorder(World(continuous)) for _ in range(config.workers)]
    state, events = page.init(envs[0], config, 0), []
    start = page.init(envs[0], config, 0)
    gradients = spies or [None] * config.workers
    workers = [box(i, env, config, state, gradients[i]) for i, env in enumerate(envs)]
    turns = round_robin(config.workers, np.random.default_rng(0))
    with closing(interleave(workers, turns)) as running:
        for i, event, what in running:
            theta = state.theta.copy() if event == "pushed" else None
            events.append((i, event, what, theta))
            if spies and event == "computed":
                spies[i].compare()
            if total(state.updates) == updates:
                return envs, start, events
    raise ValueError(f"T_max = {config.T_max}: ends before {updates} updates")


def q_workers(config, Twin, replays, start):
    """The shared parameters, and a twin for each worker, with the page's random streams."""
    shared = q_twins.SharedQ(config, modules(model_of(config, replays[0]), start.theta))
    twins = [
        Twin(replay, config, shared, float(final))
        for replay, final in zip(replays, start.final_epsilon)
    ]
    for i, twin in enumerate(twins):
        twin.draw_action = Chooser(start.seed, i, replays[i])
    return shared, twins


class Chooser:
    """ε-greedy from the stream of the page's worker i, which begins anew with every episode."""

    def __init__(self, seed, i, replay):
        self.seed, self.i, self.replay, self.episode = seed, i, replay, 0

    def __call__(self, preferences, eps):
        if self.replay.resets > self.episode:
            self.episode = self.replay.resets
            stream = np.random.SeedSequence(self.seed, spawn_key=(self.i, self.episode))
            self.rng = np.random.default_rng(stream)
            self.rng.integers(2**31)  # the page's seed of the environment
        q = preferences().detach().numpy()
        return async_q.choose(q, eps, self.rng)


def actor_critic_workers(config, Twin, replays, start):
    """The shared parameters, and a twin for each worker, which does as the page did."""
    model = model_of(config, replays[0])
    ends = np.cumsum([part.layout.size for part in parts(model)])[:-1]
    nets = [modules(*pair) for pair in zip(parts(model), np.split(start.theta, ends))]
    shared = Shared(config, nets)
    make = lambda value=False: modules(parts(model)[int(value)])
    policy, value = nets if len(nets) > 1 else (*nets, None)
    twins = [Twin(replay, config, policy, value, make, shared) for replay in replays]
    for twin, replay in zip(twins, replays):
        twin.draw_action = replay.action
        twin.draw = lambda pi, replay=replay: torch.as_tensor(replay.action())
    return shared, twins


def follow(config, Twin, envs, start, events):
    """The twins take the same turns: the largest difference of the shared parameters."""
    replays, lengths = [Replay(env) for env in envs], sizes(model_of(config, envs[0]))
    workers = actor_critic_workers if isinstance(config, a3c.Config) else q_workers
    shared, twins = workers(config, Twin, replays, start)
    stepwise = Twin is q_twins.Usual  # a gradient at every step of the environment
    differences = []
    for i, event, what, theta in events:
        if stepwise and event != "pushed":
            if what:
                twins[i].step()
            else:
                twins[i].pull()
        elif event == "pulled" and not what:
            twins[i].pull()
        elif event == "computed":
            twins[i].compute()
        elif event == "pushed":
            twins[i].push()
            differences.append(apart(lengths, theta, pack(shared.parameters)))
    return float(np.max(differences))


def row(method, case, updates):
    """The Row of one of the cases."""
    option, config, continuous, Twin = case
    config = replace(config, T_max=15 * updates)  # η falls by a third or more
    pair = gradient(config, World(continuous))
    spies = [SpyOnSums(*pair) for _ in range(config.workers)]
    run(config, continuous, updates, spies)
    parameters = parted(follow, config, Twin, *run(config, continuous, updates))
    worst = float(np.max([spy.worst for spy in spies]))
    return Row(method, option, config.optimizer, worst, parameters, updates)
