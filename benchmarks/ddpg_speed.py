"""Updates per second of DDPG: the page beside torch and Stable-Baselines3.

    python -m benchmarks.ddpg_speed [--rounds 9] [--steps 400]

gymnasium.make("Pendulum-v1"), float32, one step of the environment and one update of both networks
and both targets at a time; acting, storing and sampling included. First: the lean torch twin, in
float64, makes 20 updates of the same batches, and its gradients and parameters must equal the
page's. Then all take turns, in random order, while they learn. "ten products" is what the ten
large matrix products of an update alone take, hidden layer by hidden layer over the batch: with the
action at the first hidden layer five forward, two for weights and three for inputs; with the action
at the second nine, for the actor's gradient needs only ∂Q/∂u, which does not go through it.

"no slowdown": the page's time per update around update 500 and around update 5,000, each over the
products' time next to it.

Seconds are this process's processor time, single-threaded, warm-up left out. "environment" only
takes steps and resets. Set OMP_NUM_THREADS=1.
"""

import argparse
import time
from dataclasses import replace

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DDPG as StableBaselines3

from algorithms import ddpg
from algorithms.common.replay import fields
from algorithms.ddpg import Config, Networks
from benchmarks.actor_critic_speed import Stepper
from benchmarks.record import RESULTS, save
from benchmarks.speed import interval
from benchmarks.torch_twins import ddpg as twins
from npgrad.networks import Batch, aligned

ENV = "Pendulum-v1"
COMMON = dict(replay=100_000, warmup=200, tau=5e-3, l2=0.0)
SETTINGS = {
    "400-300, batch 64": Config(**COMMON, networks=Networks(action_layer=1)),
    "256-256, batch 256": Config(
        **COMMON, batch=256, networks=Networks(hidden=(256, 256), action_layer=1)
    ),
    "400-300, batch 64, as the paper: action at layer 2, weight decay": Config(
        **COMMON | dict(l2=1e-2)
    ),
}
TARGETS = {
    "400-300, batch 64": {"Stable-Baselines3": 2.8, "torch lean": 1.8, "ten products": 0.62},
    "256-256, batch 256": {"Stable-Baselines3": 2.0, "torch lean": 1.4, "ten products": 0.70},
}


def check(config, updates=20):
    """Largest difference between the twin's and the page's gradients and parameters, relative to
    the largest entry. Raises AssertionError above 1e-8: Adam divides by roots of tiny numbers."""
    config = replace(config, precision="double", batch=8, replay=1000)
    env, rng, worst = gymnasium.make(ENV), np.random.default_rng(0), 0.0
    state = ddpg.init(env, config, 0)
    actor, critic = ddpg.models(env, config)
    twin = twins.Lean(env, config, actor, critic, state, torch.float64)
    batches = [Batch(model, config.batch, float) for model in (actor, critic)]
    seen = {}

    class Given:
        def sample(self, t, _):
            return self.batch

    def keep(name, function):
        def gradient(*arguments):
            d = function(*arguments)
            seen[name] = d.copy()
            return d

        return gradient

    gradients = keep("w", ddpg.critic_gradient), keep("theta", ddpg.actor_gradient)
    for _ in range(updates):
        rows = rng.normal(size=(config.batch, 2 * 3 + 1 + 3))
        rows[:, -2:] = rng.random((config.batch, 2)) < 0.5
        replay = Given()
        replay.batch = S, U, R, S2, terminated, _ = fields(rows, 3, 1)
        ddpg.learn(config, state, replay, *batches, *gradients)
        columns = (S, U, R[:, None], S2, terminated[:, None])
        twin.update(*(torch.tensor(x) for x in columns))
        seen["w"][: critic.weights(state.w).size] *= config.l2 == 0.0  # torch adds decay later
        pairs = [(state.theta, twins.flat(twin.mu)), (state.w, twins.flat(twin.q)),
                 (-seen["theta"], twins.flat(twin.mu, gradient=True)),
                 (state.theta_target, twins.flat(twin.mu_target)),
                 (state.w_target, twins.flat(twin.q_target))]  # fmt: skip
        if config.l2 == 0.0:
            pairs.append((seen["w"], twins.flat(twin.q, gradient=True)))
        for x, y in pairs:
            worst = max(worst, float(np.abs(x - y).max() / np.abs(x).max()))
    assert worst < 1e-8, f"the twin differs from the page by {worst:.1e}"
    return worst


class Page:
    """The page as a contestant: at least so many steps, to an episode's end."""

    def __init__(self, config):
        env = gymnasium.make(ENV)
        self.state = ddpg.init(env, config, 0)
        self.run = ddpg.train(env, config, self.state)

    def seconds_per_step(self, steps):
        first, start = self.state.steps, time.process_time()
        while self.state.steps < first + steps:
            next(self.run)
        return (time.process_time() - start) / (self.state.steps - first)


class Baselines:
    """Stable-Baselines3's DDPG with the same networks, batch, replay memory and τ."""

    def __init__(self, config):
        self.model = StableBaselines3(
            "MlpPolicy",
            gymnasium.make(ENV),
            policy_kwargs=dict(net_arch=list(config.networks.hidden)),
            learning_rate=config.step_size_w,
            batch_size=config.batch,
            buffer_size=config.replay,
            tau=config.tau,
            learning_starts=config.warmup,
            train_freq=1,
            gradient_steps=1,
            device="cpu",
            seed=0,
        )

    def seconds_per_step(self, steps):
        start = time.process_time()
        self.model.learn(steps, log_interval=10**9, reset_num_timesteps=False)
        return (time.process_time() - start) / steps


def products(config):
    """The large matrix products of one update, by the same calls on the same shapes."""
    (a, b), N = config.networks.hidden, config.batch
    shapes = (N, a), (a, b), (N, b), (N, b), (a, b), (N, a)
    x, W, z, g, d_W, d_x = (aligned(shape, np.float32) for shape in shapes)
    rng = np.random.default_rng(0)
    for array in (x, W, g):
        array[:] = rng.normal(size=array.shape)

    def step():
        for _ in range(5):
            np.dot(x, W, z)
        for _ in range(2):
            np.dot(x.T, g, d_W)
        for _ in range(3 if config.networks.action_layer == 1 else 2):
            np.dot(g, W.T, d_x)

    return step


def race(config, with_baselines, rounds, steps):
    """{name: seconds per step (rounds,)}."""
    env, twin_env = gymnasium.make(ENV), gymnasium.make(ENV)
    contestants = dict(
        environment=Stepper(wander(env)),
        products=Stepper(products(config)),
        page=Page(config),
    )
    models, state = ddpg.models(env, config), ddpg.init(env, config, 0)
    twin = twins.Lean(twin_env, config, *models, state, torch.float32)
    contestants["torch lean"] = Stepper(twin.step)
    if with_baselines:
        contestants["Stable-Baselines3"] = Baselines(config)
    order, rng = list(contestants), np.random.default_rng(0)
    times = {name: [] for name in order}
    for k in range(-1, rounds):
        for name in rng.permutation(order):
            seconds = contestants[name].seconds_per_step(steps)
            if k >= 0:
                times[name].append(seconds)
    return {name: np.array(t) for name, t in times.items()}


def wander(env):
    """A function that takes one random step, resetting where an episode is over."""
    over = True

    def step():
        nonlocal over
        if over:
            env.reset()
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        over = terminated or truncated

    return step


def compare(times):
    table = {}
    for name, t in times.items():
        row = dict(updates_per_second=interval(1 / t))
        if name in ("torch lean", "Stable-Baselines3"):
            row["times_faster"] = interval(t / times["page"])
        if name == "products":
            row["share_of_bound"] = interval(t / times["page"])
        table[name] = row
    return table


def slowdown(config, windows=5):
    """Time per update near update 5,000 over that near update 500, each in units of the matrix
    products' time beside it; medians of `windows` episodes of 200 updates."""
    page, bound, ratios = Page(config), Stepper(products(config)), {}
    for update in (500, 5000):
        while page.state.updates < update - 100 * windows:
            next(page.run)
        relative = []
        for _ in range(windows):
            before = bound.seconds_per_step(100)
            own = page.seconds_per_step(200)
            relative.append(2 * own / (before + bound.seconds_per_step(100)))
        ratios[update] = float(np.median(relative))
    return dict(update_over_products=ratios, slowdown=ratios[5000] / ratios[500])


def markdown(setting, table):
    """A table of median (5 %–95 % of rounds)."""
    show = lambda q, form: "" if q is None else "{} ({}–{})".format(*(format(x, form) for x in q))
    lines = [f"**{setting}**\n", "| | updates/s | page is faster by | page's share |",
             "|---|---|---|---|"]  # fmt: skip
    for name, row in table.items():
        cells = (
            show(row["updates_per_second"], ",.0f"),
            show(row.get("times_faster"), ".2f"),
            show(row.get("share_of_bound"), ".1%"),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=400, help="per turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings, text = {}, []
    for setting, config in SETTINGS.items():
        difference = check(config)
        table = compare(race(config, setting in TARGETS, arguments.rounds, arguments.steps))
        settings[setting] = dict(config=repr(config), difference=difference, table=table)
        text.append(markdown(setting, table))
        print(difference, text[-1], flush=True)
    slow = slowdown(Config(**COMMON))
    text.append(f"An update near the 5,000th takes {slow['slowdown']:.3f} times what one near the "
                "500th takes.\n")  # fmt: skip
    print(slow)
    save(
        "ddpg_speed",
        "benchmarks.ddpg_speed",
        dict(targets=TARGETS, settings=settings, slowdown=slow),
        ("numpy", "gymnasium", "torch", "stable-baselines3"),
    )
    (RESULTS / "ddpg_speed.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
