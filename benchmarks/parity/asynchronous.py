"""The asynchronous methods beside their twins: A3C, one-step Q, one-step Sarsa and n-step Q.

Two workers of the page take turns, in random order, between a pull, a gradient and its push, so
that most gradients land on parameters that have moved. Two workers of the twin take the same turns.
"""

from contextlib import closing
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch

from algorithms import a3c, async_q
from algorithms.common.asynchronous import OPTIMIZER, Turns
from algorithms.common.drivers import interleave
from algorithms.common.policy import make_actor_critic, make_policy
from benchmarks.parity.measure import GAUSSIANS, Beside, Displayed, Record, Update, actor, lengths
from benchmarks.parity.world import Recorder, Replay, System
from benchmarks.torch_twins import a3c as a3c_twins
from benchmarks.torch_twins import async_q as q_twins
from benchmarks.torch_twins import heads
from benchmarks.torch_twins.asynchronous import Shared
from benchmarks.torch_twins.networks import network, networks

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
    Usual, Lean = a3c_twins.Usual, a3c_twins.Lean
    yield "as tutorials write it", A3C, False, Usual
    yield "t_max 20", replace(A3C, t_max=20), False, Lean
    yield "shared trunk", replace(A3C, trunk="shared"), False, Lean
    gentle = replace(A3C, step_size=2e-4)  # see benchmarks.parity.measure
    yield "shared trunk, Gaussian", replace(gentle, trunk="shared"), True, Lean
    for option, described in GAUSSIANS.items():
        yield option, replace(gentle, network=described), True, Lean


def parts(config):
    """Return (page, its worker, the sign that makes its gradient that of a loss)."""
    if isinstance(config, a3c.Config):
        return a3c, a3c.worker, -1.0
    return async_q, async_q.n_step if isinstance(config, async_q.NStepQ) else async_q.one_step, 1.0


def displayed(config, space):
    head = heads.head(space, config.network)
    of_a3c = lambda h, v, _, A, *rest: -a3c_twins.loss(*head.both(h, A), v, *rest)
    of_q = lambda q, A, y: ((y - q.gather(1, A[:, None])[:, 0]) ** 2).sum()
    if isinstance(config, a3c.Config):
        return dict(gradient=Displayed(a3c.gradient, of_a3c, (0, 1)))
    return dict(gradient=Displayed(async_q.gradient, of_q))


def run(config, continuous, updates):
    """Record a learning run of so many updates; also: [(worker, event, steps), ...]."""
    config = replace(config, T_max=15 * updates)  # η falls by a third or more
    (page, box, sign), N = parts(config), config.workers
    envs = [Recorder(System(continuous)) for _ in range(N)]
    state, gradients = page.init(envs[0], config, 0), displayed(config, envs[0].action_space)
    record = Record(config, gradients, envs, page.init(envs[0], config, 0), [], [])
    stepper, pushed = page.stepper, [None] * N

    def noting(config, state, i):
        step = stepper(config, state, i)

        def noted(d):
            made = step(d)
            pushed[i] = sign * d
            return made

        return noted

    with patch.object(page, "stepper", noting):
        workers = [box(i, env, config, state, **gradients) for i, env in enumerate(envs)]
        turns = Turns(N, np.random.default_rng(0))
        with closing(interleave(workers, turns)) as running:
            for i, event, what in running:
                record.also.append((i, event, what))
                if event == "pushed":
                    record.updates.append(Update(pushed[i], state.theta.copy()))
                if len(record.updates) == updates:
                    return record
    raise ValueError(f"T_max = {config.T_max}: ends before {updates} updates")


class Chooser:
    """ε-greedy from the stream of the page's worker i, which begins anew with every episode."""

    def __init__(self, seed, i, replay):
        self.seed, self.i, self.replay, self.episode = seed, i, replay, 0

    def __call__(self, preferences, eps):
        if self.replay.resets > self.episode:
            self.episode = self.replay.resets
            stream = np.random.SeedSequence(self.seed, spawn_key=(self.i, self.episode))
            self.rng = np.random.default_rng(stream)
            if self.episode == 1:
                self.rng.integers(2**31)  # the page's seed of the environment
        q = preferences().detach().numpy()
        return async_q.choose(q, eps, self.rng)


def workers_of_q(config, Twin, replays, start):
    """Make a twin for each worker, with the page's random streams: (twins, model)."""
    model = make_policy(replays[0], config.network).model
    shared = q_twins.SharedQ(config, network(model, start.theta, torch.float64))
    finals = start.final_epsilon.tolist()
    twins = [Twin(replay, config, shared, final) for replay, final in zip(replays, finals)]
    for i, (twin, replay) in enumerate(zip(twins, replays)):
        twin.draw = Chooser(start.seed, i, replay)
    return twins, model


def workers_of_a3c(config, Twin, replays, start):
    """Make a twin for each worker, which acts as the page did: (twins, model)."""
    model = make_actor_critic(replays[0], config.network, config.trunk).model
    nets = networks(model, start.theta, torch.float64)
    shared, nets = Shared(config, nets), [*nets, *[None] * (2 - len(nets))]
    twins = [Twin(replay, config, *nets, shared) for replay in replays]
    for twin, replay in zip(twins, replays):
        twin.draw = actor(replay, Twin)
    return twins, model


def follow(Twin, record, led):
    """Let twins take the same turns, and return [Beside]."""
    replays = [Replay(env) for env in record.envs]
    workers = workers_of_a3c if isinstance(record.config, a3c.Config) else workers_of_q
    twins, model = workers(record.config, Twin, replays, record.start)
    beside = Beside(record.updates, lengths(model), led)
    for optimizer in {id(twin.optimizer): twin.optimizer for twin in twins}.values():
        beside.watch(optimizer)
    stepwise = Twin is q_twins.Usual  # a gradient at every step of the environment
    for i, event, what in record.also:
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
    return [beside]
