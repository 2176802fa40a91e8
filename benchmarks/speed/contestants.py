"""The table of the methods' races: which page, settings and environment, beside which twins.

torch computes in float32 (its default, and what the environments observe; float64 was no faster).
The page takes part in its own precision or, where that is double, in both. All networks are 64-64,
tanh, unless said otherwise. But in DDPG's races every step size is 0, or too small to move a
parameter, so that all of the work is done and nothing moves: each contestant meets the same
distribution of episodes, at the start (episodes of about 20 steps) or at a θ that the page has
learned (hundreds).

DDPG learns. One step and one update of both networks and both targets are a unit; acting, storing
and sampling are included. "ten products" is what the ten large matrix products of an update alone
take, hidden layer by hidden layer over the batch: with the action at the first hidden layer five
forward, two for weights and three for inputs; with the action at the second nine, for the actor's
gradient needs only ∂Q/∂u, which does not go through it. torch and Stable-Baselines3 take their
turns with torch.set_flush_denormal(True): their Adam's moments decay into denormal numbers, too,
which can cost many times as much; the page sees to that by itself. Slowdown: the page's time per
update around update 5,000 and around update 500, each over the products' time next to it, times
their median.

A3C's processes: environment steps per second, by the wall's clock, of two processes and of one, in
turn, each first in every second round.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import NamedTuple

import gymnasium
import numpy as np
import torch

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, reinforce
from algorithms.ddpg import Networks
from benchmarks.parity.measure import check
from benchmarks.parity.runs import page_of
from benchmarks.speed.race import PRODUCTS, Race, precisions, rounds_of, timed
from benchmarks.speed.turns import alone, learner, player, repeat, replay, until
from benchmarks.torch_twins import a2c as a2c_twins
from benchmarks.torch_twins import a3c as a3c_twins
from benchmarks.torch_twins import actor_critic as ac_twins
from benchmarks.torch_twins import async_q as q_twins
from benchmarks.torch_twins import baselines
from benchmarks.torch_twins import ddpg as ddpg_twins
from benchmarks.torch_twins import reinforce as r_twins
from benchmarks.torch_twins.networks import build, flat
from npgrad.memory import aligned

ROUNDS = MappingProxyType(
    dict(reinforce=15, actor_critic=15, async_q=15, a3c=15, a2c=15, ddpg=9)
)  # fmt: skip
USUAL, LEAN, GUMBEL, BARE = "torch usual", "torch lean", "torch lean, Gumbel", "torch bare"
SB3 = "Stable-Baselines3"


class Entry(NamedTuple):
    """One race. steps: about so many in a turn. checked: settings with which the twins are compared
    with the page before it, besides those of the race. vector: kind of vector environment."""

    setting: str
    config: object
    twins: Mapping
    steps: int
    checked: Mapping = MappingProxyType({})
    env: str = "CartPole-v1"
    vector: str = ""
    learned: object = None  # (config, steps) of a run whose parameters all have
    both: bool = True  # precisions
    rival: bool = False  # Stable-Baselines3


def of_reinforce(quick):
    twins = {USUAL: r_twins.Usual, LEAN: r_twins.Lean, GUMBEL: r_twins.Gumbel, BARE: r_twins.Bare}
    for source, steps in learning(quick):
        for baseline in ("none", "value"):
            config = reinforce.Config(baseline=baseline, step_size=0.0, step_size_w=0.0)
            yield Entry(f"REINFORCE, baseline {baseline}, {source} θ", config, twins, 3000,
                        learned=(reinforce.Config(), steps), both=False)  # fmt: skip


def of_actor_critic(quick):
    still = dict(optimizer="rmsprop_outside", step_size=1e-30, step_size_w=2e-30)
    for method, Config, Usual, Lean, Gumbel in (
        ("one-step", actor_critic.OneStep, ac_twins.Usual, ac_twins.Lean, ac_twins.Gumbel),
        ("traces", actor_critic.Traces, ac_twins.UsualTraces, ac_twins.LeanTraces,
         ac_twins.GumbelTraces),
    ):  # fmt: skip
        twins = {USUAL: Usual, LEAN: Lean, GUMBEL: Gumbel}
        yield Entry(f"actor–critic, {method}", Config(**still), twins, 1000)


def of_async_q(quick):
    """Updates of 5 steps; ε is where it ends, 0.1, and θ⁻ is copied every 1,000 steps."""
    still = dict(workers=1, T_max=10**9, step_size=0.0, annealed=False, final_epsilons=(0.1,),
                 epsilon_chances=(1.0,), epsilon_steps=1)  # fmt: skip
    checked = dict(step_size=1e-3, I_target=50)  # so that θ⁻ differs from θ
    for method, Config, Usual, Lean in (
        ("one-step Q", async_q.OneStepQ, q_twins.Usual, q_twins.Lean),
        ("n-step Q, t_max 5", async_q.NStepQ, q_twins.UsualNStep, q_twins.LeanNStep),
    ):
        yield Entry(method, Config(**still), {USUAL: Usual, LEAN: Lean}, 2000, checked)


STILL = a3c.Config(workers=1, T_max=10**9, step_size=0.0, annealed=False)


def of_a3c(quick):
    twins = {USUAL: a3c_twins.Usual, LEAN: a3c_twins.Lean, GUMBEL: a3c_twins.Gumbel}
    for source, steps in learning(quick):
        learned = a3c.Config(T_max=max(1, steps), t_max=20, step_size=2e-3, eps=1e-5), steps
        for t_max in (5, 20):
            yield Entry(f"A3C, one worker, t_max {t_max}, {source} θ", replace(STILL, t_max=t_max),
                        twins, 2000, learned=learned)  # fmt: skip


def of_a2c(quick):
    """8 in Gymnasium's SyncVectorEnv, 8 and 64 in the vector environment that CartPole brings."""
    for setting, vector, N in (
        ("SyncVectorEnv of 8", "sync", 8),
        ("CartPole's own of 8", "vector_entry_point", 8),
        ("CartPole's own of 64", "vector_entry_point", 64),
    ):
        yield a2c_entry(f"A2C, {setting}", vector, N, 40)


def a2c_entry(setting, vector, N, updates):
    twins = {USUAL: a2c_twins.Usual, LEAN: a2c_twins.Lean, GUMBEL: a2c_twins.Gumbel}
    config = a2c.Config(environments=N, step_size=0.0, annealed=False, T_max=10**9,
                        reduction="mean")  # fmt: skip
    checked = dict(precision="double", environments=8)
    return Entry(setting, config, twins, updates * config.n_steps * N, checked, vector=vector,
                 both=False, rival=True)  # fmt: skip


PAPER = "400-300, batch 64, as the paper: action at layer 2, weight decay"


def of_ddpg(quick):
    twins = {USUAL: ddpg_twins.Usual, LEAN: ddpg_twins.Lean}
    common = dict(replay=100_000, warmup=200, tau=5e-3, l2=0.0)
    checked = dict(precision="double", batch=8, replay=1000, warmup=0)
    for setting, settings in (
        ("400-300, batch 64", dict(networks=Networks(action_layer=1))),
        ("256-256, batch 256", dict(batch=256, networks=Networks((256, 256), action_layer=1))),
        (PAPER, dict(l2=1e-2)),
    ):
        yield Entry(f"DDPG, {setting}", ddpg.Config(**common | settings), twins, 400, checked,
                    "Pendulum-v1", both=False, rival=setting != PAPER)  # fmt: skip


def learning(quick):
    return ("start", 0), ("learned", 2000 if quick else 40_000)


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
    if entry.rival:
        vector = dict(vectorization=entry.vector) if entry.vector else {}
        model = baselines.baseline(entry.env, replace(config, **vector), 0)
        turns[SB3] = flush(baseline(model, n))
    return turns


def races(method, quick):
    """The races of a method."""
    entries = dict(reinforce=of_reinforce, actor_critic=of_actor_critic, async_q=of_async_q,
                   a3c=of_a3c, a2c=of_a2c, ddpg=of_ddpg)[method](quick)  # fmt: skip
    for entry in entries:
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
