"""Twins that do what a page did, after each of its advances."""

from collections import deque

import numpy as np
import torch

from algorithms import a2c, async_q, ddpg
from benchmarks.parity.world import Replay, VectorReplay
from benchmarks.torch_twins import async_q as q_twins
from benchmarks.torch_twins.networks import build, flat, models, networks, pack
from benchmarks.torch_twins.optimizers import Shared


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
    """Return what the twin's workers share."""
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
