"""DDPG, Pendulum-v1, float32: one step of the environment and one update of both networks and both
targets at a time; acting, storing and sampling included. All learn.

"ten products" is what the ten large matrix products of an update alone take, hidden layer by hidden
layer over the batch: with the action at the first hidden layer five forward, two for weights and
three for inputs; with the action at the second nine, for the actor's gradient needs only ∂Q/∂u,
which does not go through it. Its time over the page's is the page's share of that bound.

torch and Stable-Baselines3 take their turns with torch.set_flush_denormal(True): their Adam's
moments decay into denormal numbers, too, which can cost many times as much; the page sees to that
by itself.

Slowdown: the page's time per update around update 5,000 and around update 500, each over the
products' time next to it, times their median.
"""

from dataclasses import replace

import gymnasium
import numpy as np
import torch

from algorithms import ddpg
from algorithms.ddpg import Config, Networks
from benchmarks.parity import ddpg as parity
from benchmarks.parity.measure import check
from benchmarks.speed.race import Goal, Race, rounds_of, timed
from benchmarks.speed.turns import learner, player, repeat, replay
from benchmarks.torch_twins import ddpg as twins
from benchmarks.torch_twins import ddpg_baseline
from npgrad.memory import aligned

ROUNDS = 9
ENV = "Pendulum-v1"
TWINS = {"torch usual": twins.Usual, "torch lean": twins.Lean}
SB3, PRODUCTS = "Stable-Baselines3", "ten products"
COMMON = dict(replay=100_000, warmup=200, tau=5e-3, l2=0.0)
SETTINGS = {
    "400-300, batch 64": (
        Config(**COMMON, networks=Networks(action_layer=1)),
        {SB3: 2.8, "torch lean": 1.8, PRODUCTS: 0.62},
    ),
    "256-256, batch 256": (
        Config(**COMMON, batch=256, networks=Networks(hidden=(256, 256), action_layer=1)),
        {SB3: 2.0, "torch lean": 1.4, PRODUCTS: 0.70},
    ),
    "400-300, batch 64, as the paper: action at layer 2, weight decay": (
        Config(**COMMON | dict(l2=1e-2)),
        {},
    ),
}
SLOWDOWN = 1.05


def build(Twin, config):
    env = gymnasium.make(ENV)
    models, state = ddpg.models(env, config), ddpg.init(env, config, 0)
    return Twin(env, config, *models, state, torch.float32)


def page(config, n):
    env = gymnasium.make(ENV)
    state = ddpg.init(env, config, 0)
    return learner(ddpg.train(env, config, state), lambda: state.steps, n), state


def baseline(config, n):
    """Turns of Stable-Baselines3's DDPG."""
    model = ddpg_baseline.baseline(gymnasium.make(ENV), config, 0)

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


def contestants(config, n):
    """{name: turn of n steps}, all but Stable-Baselines3."""
    make = lambda: gymnasium.make(ENV)
    state = ddpg.init(make(), config, 0)
    steps = {name: build(Twin, config).step for name, Twin in TWINS.items()}
    return {
        "environment": replay(make(), player(ddpg, make(), config, state), n),
        PRODUCTS: repeat(products(config), n),
        **{name: flushed(repeat(step, n)) for name, step in steps.items()},
        "page": page(config, n)[0],
    }


def races(quick):
    n = 200 if quick else 400
    for setting, (config, targets) in SETTINGS.items():
        small = replace(config, precision="double", batch=8, replay=1000, warmup=0)
        differences = {name: check(parity, small, Twin, True) for name, Twin in TWINS.items()}
        turns = contestants(config, n)
        if targets:
            turns[SB3] = flushed(baseline(config, n))
        yield Race(
            f"DDPG, {setting}",
            lambda rounds, turns=turns: rounds_of(turns, rounds),
            [Goal(over, "page", bound) for over, bound in targets.items()],
            unit="update",
            differences=differences,
            leave_out=False,
        )
    if not quick:
        yield Race(
            f"DDPG, slowdown, {setting}",
            lambda rounds: slowdown(config, rounds),
            [Goal("update 5,000", "update 500", SLOWDOWN, at_most=True)],
            ours=("update 500",),
            unit="update",
        )


def slowdown(config, windows):
    """{around which update: seconds of an update (windows,)}; a window is an episode of 200
    updates, and there are at most 4."""
    (turn, state), bound, times, beside = page(config, 200), repeat(products(config), 100), {}, []
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
