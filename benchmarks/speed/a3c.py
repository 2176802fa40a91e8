"""One A3C worker, CartPole-v1, separate 64-64 tanh networks, Shared RMSProp (ε inside the root),
t_max 5 and 20, at the start (episodes of about 22 steps) and after learning; and two processes.

torch in float32 (its default, and what CartPole observes), the page in both precisions. η is 0, so
that all of the work is done and nothing moves: each meets the same distribution of episodes.

Processes: environment steps per second, by the wall's clock, of two processes and of one, in turn,
each first in every second round.
"""

import time
from collections import deque
from contextlib import closing
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import torch

from algorithms import a3c
from algorithms.common.policy import make_actor_critic
from benchmarks.parity import asynchronous as parity
from benchmarks.parity.measure import check
from benchmarks.speed.race import Goal, Race, precisions, rounds_of
from benchmarks.speed.turns import learner, player, replay, until
from benchmarks.torch_twins import a3c as twins
from benchmarks.torch_twins.networks import networks

ROUNDS = 15
ENV = "CartPole-v1"
TWINS = {"torch usual": twins.Usual, "torch lean": twins.Lean, "torch lean, Gumbel": twins.Gumbel}
TARGETS = {5: 11.0, 20: 9.0}
PROCESSES = {5: 1.65, 20: 1.85}
STILL = a3c.Config(workers=1, T_max=10**9, step_size=0.0, annealed=False)


def build(Twin, env, config, theta):
    model = make_actor_critic(env, config.network, "separate").model
    return Twin(env, config, *networks(model, theta, torch.float32))


def learned(steps):
    """The State after so many steps of learning."""
    config = a3c.Config(T_max=max(1, steps), t_max=20, step_size=2e-3, eps=1e-5)
    state = a3c.init(gymnasium.make(ENV), config, 0)
    if steps:
        deque(a3c.train(gymnasium.make(ENV), config, state), maxlen=0)
    return state


def races(quick):
    n, make = 200 if quick else 2000, lambda: gymnasium.make(ENV)
    for source, steps in (("start", 0), ("learned", 2000 if quick else 40_000)):
        state = learned(steps)
        for t_max in TARGETS:
            config = replace(STILL, t_max=t_max)
            turns = {"environment": replay(make(), player(a3c, make(), config, state), n)}
            differences, pages = {}, precisions(config)
            for name, Twin in TWINS.items():
                differences[name] = check(parity, config, Twin)
                turns[name] = until(build(Twin, make(), config, state.theta).segment, n)
            for name, own in pages.items():
                turns[name] = page(make(), own, state.theta, n)
            yield Race(
                f"A3C, one worker, t_max {t_max}, {source} θ",
                lambda rounds, turns=turns: rounds_of(turns, rounds),
                [Goal("torch lean", ours, TARGETS[t_max]) for ours in pages],
                tuple(pages),
                differences=differences,
            )
    for t_max, bound in PROCESSES.items():
        yield Race(
            f"A3C, processes, t_max {t_max}, learned θ, wall-clock",
            partial(processes, t_max, state.theta, 0.5 if quick else 2.0),
            [Goal("one process", "two processes", bound)],
            ours=("two processes",),
        )


def page(env, config, theta, n):
    state = a3c.init(env, config, 0)
    state.theta[:] = theta
    return learner(a3c.train(env, config, state), lambda: int(state.T[0]), n)


def processes(t_max, theta, seconds, rounds):
    """{contestant: seconds of the wall's clock per step}, in half as many rounds: they are long."""
    times = {1: [], 2: []}
    for k in range((rounds + 1) // 2):
        for workers in (1, 2) if k % 2 else (2, 1):
            times[workers].append(1.0 / rate(workers, t_max, theta, seconds))
    return {"one process": np.array(times[1]), "two processes": np.array(times[2])}


def rate(workers, t_max, theta, seconds):
    """Environment steps per second of that many processes, once all have begun."""
    env = gymnasium.make(ENV)
    config = replace(STILL, workers=workers, driver="processes", t_max=t_max)
    state = a3c.init(env, config, 0)
    state.theta[:] = theta
    with closing(a3c.train(env, config, state)) as run:
        while not (state.T > 0).all():
            next(run)
        first, start = state.T.sum(), time.perf_counter()
        while time.perf_counter() < start + seconds:
            next(run)
        return float((state.T.sum() - first) / (time.perf_counter() - start))
