"""Learning runs of the pages, an advance at a time.

An advance is what a page does until it next yields: a few updates. Nothing of it is kept longer, so
that memory does not grow with the number of updates.
"""

import copy
import importlib
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from gymnasium.vector import SyncVectorEnv

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, natural_actor_critic, reinforce
from algorithms.common.asynchronous import Turns
from algorithms.common.drivers import interleave
from benchmarks.parity.world import Recorder, System, VectorRecorder
from benchmarks.torch_twins.networks import flat

# page: (its function that makes an update, the signs that make its gradients those of losses)
UPDATES = {
    reinforce: ("step", (-1.0, 1.0)),
    natural_actor_critic: ("step", (-1.0, -1.0)),
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
    """Hold what a page did: its updates, what its environments gave (a list for each), what workers
    did in which turn [(worker, event, steps)], and the indices of the minibatches."""

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
            for page, name, noting in (
                (ddpg, "adam", self.adam),
                (natural_actor_critic, "solve", self.solve),
            ):
                stack.enter_context(patch.object(page, name, noting(getattr(page, name))))
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
            solved, self.given = self.given[::-1], []  # of θ, of w
            self.note(solved or [x for x in data if isinstance(x, np.ndarray)])

        return dict(stepper=stepper, learn=learn).get(self.name, update)

    def adam(self, adam):
        """DDPG's optimiser, noting what it is given."""

        def noted(d, *rest):
            self.given.append(d.copy())
            return adam(d, *rest)

        return noted

    def solve(self, solve):
        """Natural actor–critic's least squares, noting its solutions: Δw, ω."""

        def noted(*data):
            self.given.append(solve(*data))
            return self.given[-1]

        return noted
