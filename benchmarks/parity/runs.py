"""Learning runs of the pages, an advance at a time, and twins that do the same after each.

An advance is what a page does until it next yields: a few updates. Nothing of it is kept longer, so
that memory does not grow with the number of updates.
"""

import copy
import importlib
from collections import deque
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, reinforce
from algorithms.common.asynchronous import Turns
from algorithms.common.drivers import interleave
from benchmarks.parity.world import Recorder, Replay, System, VectorRecorder, VectorReplay
from benchmarks.torch_twins import async_q as q_twins
from benchmarks.torch_twins.networks import build, flat, models, networks, pack
from benchmarks.torch_twins.optimizers import Shared

# page: (its function that makes an update, the signs that make its gradients those of losses)
UPDATES = {
    reinforce: ("step", (-1.0, 1.0)),
    actor_critic: ("ascend", (-1.0, -1.0)),
    a2c: ("ascend", (-1.0,)),
    ddpg: ("learn", (-1.0, 1.0)),
    a3c: ("stepper", (-1.0,)),
    async_q: ("stepper", (1.0,)),
}
BOX = {async_q.OneStepQ: async_q.one_step, async_q.OneStepSarsa: async_q.one_step,
       async_q.NStepQ: async_q.n_step, a3c.Config: a3c.worker}  # fmt: skip


class Update(NamedTuple):
    """An update of a page: the gradient that its optimiser was given, as of a loss, and all
    parameters after it."""

    d: np.ndarray
    theta: np.ndarray


class Advance(NamedTuple):
    """What a page did: its updates, what its environments gave (a list for each), what workers did
    in which turn [(worker, event, steps)], and the indices of the minibatches."""

    updates: list
    logs: list
    events: list
    batches: list


def page_of(config):
    """The page that a config is of."""
    return importlib.import_module(type(config).__module__)


def lasting(config, updates):
    """The config with a T_max for so many updates; where η falls, it falls by a third or more."""
    if isinstance(config, a2c.Config):
        return replace(config, T_max=60 * updates * config.environments // 8)
    return replace(config, T_max=15 * updates) if hasattr(config, "workers") else config


def environments(config, continuous):
    """Those that the page learns in: one, one of each worker, or a vector of them."""
    if isinstance(config, a2c.Config):
        made = [lambda: System(continuous)] * config.environments
        return [VectorRecorder(SyncVectorEnv(made))]
    limit = 1.5 if isinstance(config, ddpg.Config) else np.inf
    return [Recorder(System(continuous, limit)) for _ in range(getattr(config, "workers", 1))]


class Page:
    """A learning run of a page. seen(update, state): called at every update."""

    def __init__(self, config, continuous, gradients, seen=lambda update, state: None):
        self.config, self.page, self.seen = config, page_of(config), seen
        self.gradients = gradients
        self.envs = environments(config, continuous)
        self.state = self.page.init(self.envs[0], config, 0)
        self.start = copy.deepcopy(self.state)
        self.name, self.signs = UPDATES[self.page]
        self.given, self.pushed, self.now = [], {}, None
        if self.name == "stepper":
            self.running = self.workers()
        else:
            self.running = self.page.train(self.envs[0], config, self.state, **gradients)

    def workers(self):
        """Workers in turn, until a push; they go on from there. Yields after every push."""
        N, box = self.config.workers, BOX[type(self.config)]
        gradient = self.gradients["gradient"]
        made = [box(i, env, self.config, self.state, gradient) for i, env in enumerate(self.envs)]
        for i, event, what in interleave(made, Turns(N, np.random.default_rng(0))):
            self.now.events.append((i, event, what))
            if event == "pushed":
                self.note([self.pushed[i]])
                yield
        raise ValueError(f"T_max = {self.config.T_max}: ends before the last update")

    def note(self, gradients):
        """Remember an update, just made, of these gradients."""
        d = np.concatenate([sign * d for sign, d in zip(self.signs, gradients)])
        self.now.updates.append(Update(d, flat(self.state)))
        self.seen(self.now.updates[-1], self.state)

    def advance(self):
        """Let the page go on until it yields: an Advance."""
        self.now = Advance([], [], [], [])
        with ExitStack() as stack:
            stack.enter_context(patch.object(self.page, self.name, self.spy()))
            stack.enter_context(patch.object(ddpg, "adam", self.adam(ddpg.adam)))
            next(self.running)
        return self.now._replace(logs=[env.drain() for env in self.envs])

    def spy(self):
        """The page's function that makes an update, noting what it made."""
        function = getattr(self.page, self.name)

        def stepper(config, state, i):
            step = function(config, state, i)

            def noted(d):
                made = step(d)  # clips d
                self.pushed[i] = d.copy()
                return made

            return noted

        def learn(config, state, replay, *rest):
            function(config, state, replay, *rest)
            self.now.batches.append(replay.indices.copy())
            of_w, of_theta = self.given
            self.given = []
            self.note([of_theta, of_w])

        def update(*data):
            function(*data)
            self.note([x for x in data if isinstance(x, np.ndarray)])

        return dict(stepper=stepper, learn=learn).get(self.name, update)

    def adam(self, adam):
        """DDPG's optimiser, noting what it is given."""

        def noted(d, *rest):
            self.given.append(d.copy())
            return adam(d, *rest)

        return noted


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


def shared_by(run):
    """What the twin's workers share."""
    config, env = run.config, run.envs[0]
    modules = networks(models(run.page, env, config), flat(run.start), torch.float64)
    return q_twins.SharedQ(config, *modules) if run.page is async_q else Shared(config, modules)


class Follower:
    """A twin, or one for each worker, that does what a page did, after each of its advances.

    seen(d, tensors): called at every update, with its gradient; with the tensors that hold all
    parameters, as they lie in θ.
    """

    def __init__(self, Twin, run, seen):
        Play = VectorReplay if run.page is a2c else Replay
        self.run, self.Twin, self.seen, self.done = run, Twin, seen, 0
        self.replays, self.batches = [Play(env) for env in run.envs], deque()
        self.shared = shared_by(run) if run.name == "stepper" else None
        self.twins = []

    def make(self):
        """The twins, acting as the page did."""
        run, theta = self.run, flat(self.run.start)
        for i, env in enumerate(self.replays):
            how = dict(shared=self.shared) if self.shared else {}
            if run.page is async_q:
                how["final_epsilon"] = float(run.start.final_epsilon[i])
            twin = build(self.Twin, run.page, env, run.config, theta, torch.float64, **how)
            self.act(i, twin, env)
            self.twins.append(twin)
        first = self.twins[0]
        if run.page is ddpg:
            return self.watch([(first.actor_adam, first.mu), (first.critic_adam, first.q)])
        for optimizer in {id(twin.optimizer): twin.optimizer for twin in self.twins}.values():
            self.watch([(optimizer, None)])

    def act(self, i, twin, env):
        """Let a twin take the page's actions, and its minibatches."""
        if self.run.page is ddpg:
            twin.explore = lambda: torch.from_numpy((env.action() - twin.middle) / twin.half)
            twin.draw = lambda stored: torch.from_numpy(self.batches.popleft())
        elif self.run.page is async_q:
            twin.draw = Chooser(self.run.start.seed, i, env)
        elif self.Twin.lean and self.run.page is not a2c:
            twin.draw = env.action
        else:
            twin.draw = lambda _: torch.as_tensor(env.action())

    def watch(self, pairs):
        """Tell `seen` whenever all these (optimiser, network) have made a step."""
        given = {}
        held = {o: o.parameters if net is None else net.tensors() for o, net in pairs}

        def watched(optimizer, move):
            def step(gradients):
                d = pack(with_decay(optimizer, gradients))
                room = sum(p.numel() for p in held[optimizer])
                given[optimizer] = np.append(d, np.zeros(room - d.size))  # averages have none
                move(gradients)
                if len(given) == len(held):
                    d = np.concatenate([given.pop(one) for one in held])
                    self.done += 1
                    self.seen(d, [p for tensors in held.values() for p in tensors])

            return step

        for optimizer in held:
            optimizer.step = watched(optimizer, optimizer.step)

    def follow(self, advance):
        """Do what the page did in an advance."""
        for replay, log in zip(self.replays, advance.logs):
            replay.log.extend(log)
        self.batches.extend(advance.batches)
        if not self.twins:
            self.make()
        if advance.events:
            return self.take_turns(advance.events)
        last = self.done + len(advance.updates)
        while self.done < last:
            self.twins[0].advance()

    def take_turns(self, events):
        stepwise = self.Twin is q_twins.Usual  # a gradient at every step of the environment
        for i, event, what in events:
            twin = self.twins[i]
            if stepwise and event != "pushed":
                twin.step() if what else twin.pull()
            elif event == "computed":
                twin.compute()
            elif event == "pushed" or not what:
                (twin.push if event == "pushed" else twin.pull)()


def with_decay(optimizer, gradients):
    """Add l2 p to d, as torch's optimisers do inside."""
    decay = {id(p): g.get("weight_decay", 0) for g in optimizer.param_groups for p in g["params"]}
    pairs = zip(optimizer.parameters, gradients)
    return [d + decay[id(p)] * p.detach() if decay[id(p)] else d for p, d in pairs]
