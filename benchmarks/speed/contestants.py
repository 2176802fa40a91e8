"""The contestants of an entry, and their races."""

import time
from contextlib import closing
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType

import gymnasium
import numpy as np
import torch

from algorithms import a3c, ddpg
from algorithms.common.policy import Network
from benchmarks.parity.measure import check
from benchmarks.parity.runs import page_of
from benchmarks.speed.entries import ENTRIES, PAPER, SB3, STILL
from benchmarks.speed.race import PRODUCTS, Race, precisions, rounds_of, timed
from benchmarks.speed.turns import alone, learner, player, repeat, replay, until
from benchmarks.torch_twins import baselines
from benchmarks.torch_twins.networks import build, flat
from npgrad import compiled, from_function, mlp
from npgrad.memory import aligned


class Own(Network):
    """The pages' own network, as a user would write it in NumPy."""

    def __init__(self, wrap):
        super().__init__()
        object.__setattr__(self, "wrap", wrap)

    def model(self, n, m, one_hot=False):
        same = mlp((n, *self.hidden, m))

        def f(theta, x):
            p = same.layout.views(theta)
            return np.tanh(np.tanh(x @ p.W1 + p.b1) @ p.W2 + p.b2) @ p.W3 + p.b3

        return from_function(self.wrap(f), same.layout, same.init)


ROUNDS = MappingProxyType(
    dict(reinforce=15, natural_actor_critic=15, actor_critic=15, async_q=15, a3c=15, a2c=15,
         ddpg=9)
)  # fmt: skip


@lru_cache
def learned(config, steps, env="CartPole-v1"):
    """The State after so many steps from seed 0; 0 is the start."""
    page = page_of(config)
    with closing(gymnasium.make(env)) as world:
        state = page.init(world, config, 0)
        for metrics in page.train(world, config, state) if steps else ():
            if metrics.steps >= steps:
                break
    return state


def make(entry):
    if entry.vector:
        return gymnasium.make_vec(entry.env, num_envs=entry.config.environments,
                                  vectorization_mode=entry.vector)  # fmt: skip
    return gymnasium.make(entry.env)


def started(entry, config):
    """(environment, State) of a contestant."""
    env = make(entry)
    state = page_of(config).init(env, config, 0)
    if entry.learned:
        source = learned(*entry.learned)
        for name in state.parameters:
            x = getattr(state, name)
            x[:] = getattr(source, name)[: x.size]
    return env, state


def page_turn(entry, config, n):
    env, state = started(entry, config)
    run = page_of(config).train(env, config, state)
    if entry.vector:
        units = config.n_steps * config.environments
        return repeat(lambda: next(run), n // units, units)
    return learner(run, lambda: int(np.sum(getattr(state, "steps", getattr(state, "T", 0)))), n)


def environment_turn(entry, n):
    if entry.vector:
        return alone(make(entry), n)
    env, state = started(entry, entry.config)
    eps = getattr(entry.config, "final_epsilons", (0.0,))[0]
    return replay(env, player(page_of(entry.config), make(entry), entry.config, state, eps), n)


def contestants(entry, n):
    """{name: turn of about n steps}."""
    config, page = entry.config, page_of(entry.config)
    turns = {"environment": environment_turn(entry, n)}
    flush = flushed if page is ddpg else lambda turn: turn
    if page is ddpg:
        turns[PRODUCTS] = repeat(products(config), n)
    for name, Twin in entry.twins.items():
        env, state = started(entry, config)
        turns[name] = flush(until(build(Twin, page, env, config, flat(state)).advance, n))
    pages = precisions(config) if entry.both else {"page": config}
    for name, own in pages.items():
        turns[name] = page_turn(entry, own, n)
    for name, wrap in {"own policy": lambda f: f, "own policy, compiled": compiled}.items():
        if entry.own:
            turns[name] = page_turn(entry, replace(config, network=Own(wrap)), n)
    if entry.rival:
        vector = dict(vectorization=entry.vector) if entry.vector else {}
        model = baselines.baseline(entry.env, replace(config, **vector), 0)
        turns[SB3] = flush(baseline(model, n))
    return turns


def races(method, quick):
    """The races of a method."""
    for entry in ENTRIES[method](quick):
        is_ddpg = isinstance(entry.config, ddpg.Config)
        checked = replace(entry.config, **entry.checked)
        differences = {name: check(checked, Twin, is_ddpg) for name, Twin in entry.twins.items()}
        turns = contestants(entry, entry.steps // (4 if quick else 1))
        yield Race(
            entry.setting,
            partial(rounds_of, turns),
            tuple(name for name in turns if name.startswith("page")),
            "update" if is_ddpg else "step",
            differences,
            leave_out=not is_ddpg,
        )
    if method == "a3c":
        yield from of_processes(quick)
    if method == "ddpg" and not quick:
        yield Race(f"DDPG, slowdown, {PAPER}", partial(slowdown, entry), ("update 500",), "update")


def baseline(model, n):
    """A turn of Stable-Baselines3."""

    def turn():
        model.learn(n, log_interval=10**9, reset_num_timesteps=False)
        return n

    return turn


def flushed(turn):
    """The turn, with denormal numbers taken for 0."""

    def call():
        torch.set_flush_denormal(True)
        try:
            return turn()
        finally:
            torch.set_flush_denormal(False)

    return call


def products(config):
    """The large matrix products of one update, by the same calls on the same shapes."""
    (a, b), N = config.networks.hidden, config.batch
    shapes = (N, a), (a, b), (N, b), (N, b), (a, b), (N, a)
    x, W, z, g, d_W, d_x = (aligned(shape, np.float32) for shape in shapes)
    rng = np.random.default_rng(0)
    for array in (x, W, g):
        array[:] = rng.normal(size=array.shape)

    def call():
        for _ in range(5):
            np.dot(x, W, z)
        for _ in range(2):
            np.dot(x.T, g, d_W)
        for _ in range(3 if config.networks.action_layer == 1 else 2):
            np.dot(g, W.T, d_x)

    return call


def slowdown(entry, windows):
    """{around which update: seconds of an update (windows,)}; a window is an episode of 200
    updates, and there are at most 4."""
    bound, times, beside = repeat(products(entry.config), 100), {}, []
    env, state = started(entry, entry.config)
    turn = learner(ddpg.train(env, entry.config, state), lambda: state.steps, 200)
    windows = min(windows, 4)
    for update in (500, 5000):
        while state.updates <= update - 100 * windows:
            turn()
        ratios = []
        for _ in range(windows):
            before, own, after = timed(bound), timed(turn), timed(bound)
            ratios.append(2 * own / (before + after))
            beside += before, after
        times[f"update {update:,}"] = np.array(ratios)
    return {name: ratios * np.median(beside) for name, ratios in times.items()}


def of_processes(quick):
    state = learned(a3c.Config(T_max=2000 if quick else 40_000, t_max=20, step_size=2e-3, eps=1e-5),
                    2000 if quick else 40_000)  # fmt: skip
    for t_max in (5, 20):
        measure = partial(processes, t_max, state.theta, 0.5 if quick else 2.0)
        yield Race(f"A3C, processes, t_max {t_max}, learned θ, wall-clock", measure,
                   ("two processes",))  # fmt: skip


def processes(t_max, theta, seconds, rounds):
    """{contestant: seconds of the wall's clock per step}, in half as many rounds: they are long."""
    times = {1: [], 2: []}
    for k in range((rounds + 1) // 2):
        for workers in (1, 2) if k % 2 else (2, 1):
            times[workers].append(1.0 / rate(workers, t_max, theta, seconds))
    return {"one process": np.array(times[1]), "two processes": np.array(times[2])}


def rate(workers, t_max, theta, seconds):
    """Environment steps per second of that many processes, once all have begun."""
    env = gymnasium.make("CartPole-v1")
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
