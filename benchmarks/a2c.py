"""What A2C learns, and how long that takes.

    python -m benchmarks.a2c [cartpole] [baseline] [acrobot] [pendulum] [lunarlander] [--seeds N]
                             [--jobs 1] [--draw]

cartpole   CartPole-v1 in the vector environment it brings along: until the mean of the last 100
           TRAINING episodes is 475; 20 seeds
baseline   the same until-475, beside Stable-Baselines3's A2C with the same hyper-parameters,
           networks, start distribution and optimiser, in SyncVectorEnv and in CartPole's own of 8;
           10 seeds, ours and theirs in turn. Stable-Baselines3 takes the step that resets an
           environment for a transition, with reward 0; it is not counted here
acrobot, pendulum, lunarlander
           Acrobot-v1 (threshold −100), Pendulum-v1 (−250; learned as benchmarks/pendulum.py says)
           and LunarLander-v3 (156 is published of Stable-Baselines3, -v2, at 200,000 steps; needs
           box2d): 10 seeds each, --jobs at a time, then 100 episodes played with the policy
           learned, as it is and by its mode

Seconds are this process's processor time, one thread, of acting, environment and learning alone.
Settings were tuned on seeds from 100 up; reported are seeds 0, 1, .... Each part writes
results/a2c_PART.json and .md, the last three a picture; --draw draws it again from the .json.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter

from algorithms import a2c
from algorithms.a2c import Config
from algorithms.common.policy import Network
from algorithms.runner.lookup import Method
from algorithms.runner.plot import COLOURS, bootstrap_band, running_mean
from benchmarks import learning
from benchmarks.pendulum import pendulum
from benchmarks.record import RESULTS, save

CARTPOLE = Config(
    environments=48,
    vectorization="vector_entry_point",
    trunk="shared",
    step_size=1e-2,
    annealed=True,
    max_norm=0.5,
    gamma=0.98,
    beta=0.0,
    normalize_observations=True,
    T_max=250_000,
)
BASELINE = Config(  # 8 environments
    step_size=3e-3, annealed=True, max_norm=0.5, gamma=0.98, beta=0.0, T_max=300_000
)
WINDOW, THRESHOLD = 100, 475.0
NORMAL = dict(annealed=True, max_norm=0.5, normalize_returns=True, normalize_observations=True)
ACROBOT = Config(environments=16, step_size=2e-3, beta=1e-3, T_max=150_000, **NORMAL)
PENDULUM = Config(
    step_size=7e-4,
    gamma=0.95,
    beta=0.0,
    T_max=300_000,
    network=Network(activation="relu", sigma="softplus"),
    **NORMAL | dict(max_norm=np.inf),
)
LANDER = Config(
    n_steps=8,
    step_size=3.4e-3,
    gamma=0.99,
    beta=0.0,
    trunk="shared",
    decay=0.9,
    max_norm=1.0,
    normalize_observations=True,
    normalize_returns=True,
    T_max=200_000,
    network=Network(hidden=(256, 256), activation="relu"),
)
TASKS = MappingProxyType(
    {
        "acrobot": ("Acrobot-v1", -100.0, ACROBOT),
        "pendulum": ("Pendulum-v1", -250.0, PENDULUM),
        "lunarlander": ("LunarLander-v3", 156.0, LANDER),
    }
)


def until_solved(episodes):
    """(steps, episodes) when the mean of the last 100 of these (steps, return) first is 475."""
    at, returns = np.array(episodes).T
    means = np.convolve(returns, np.full(WINDOW, 1 / WINDOW), "valid")
    reached = np.flatnonzero(means >= THRESHOLD - 1e-9)
    return (int(at[reached[0] + WINDOW - 1]), int(reached[0] + WINDOW)) if reached.size else None


def page(config, seed):
    """One run of the page, ended when it has solved CartPole: steps, episodes, seconds."""
    env, recent, total = gymnasium.make("CartPole-v1"), [], 0.0
    state = a2c.init(env, config, seed)
    start, wall = time.process_time(), time.perf_counter()
    for metrics in a2c.train(env, config, state):
        recent += metrics.returns
        if metrics.returns and len(recent) >= WINDOW:
            total = sum(recent[-WINDOW:]) / WINDOW
            if total >= THRESHOLD:
                break
    return dict(
        seed=seed,
        steps=metrics.steps if total >= THRESHOLD else None,
        episodes=metrics.episodes,
        updates=state.updates,
        seconds=time.process_time() - start,
        wall_seconds=time.perf_counter() - wall,
    )


def sb3(config, seed):
    """One run of Stable-Baselines3's A2C, ended alike."""
    from stable_baselines3.common.callbacks import BaseCallback

    from benchmarks.torch_twins.a2c import baseline

    n, vectorization = config.environments, config.vectorization
    envs = gymnasium.make_vec("CartPole-v1", num_envs=n, vectorization_mode=vectorization)
    model = baseline(envs, config, seed)
    model.env.seed_of_reset, episodes = seed, model.env.episodes

    class Solved(BaseCallback):
        def _on_step(self):
            last = [G for _, G in episodes[-WINDOW:]]
            return len(last) < WINDOW or sum(last) / WINDOW < THRESHOLD

    start, wall = time.process_time(), time.perf_counter()
    model.learn(config.T_max, callback=Solved())
    solved = until_solved(episodes)
    return dict(
        seed=seed,
        steps=solved and solved[0],
        episodes=len(episodes),
        seconds=time.process_time() - start,
        wall_seconds=time.perf_counter() - wall,
    )


def summary(runs):
    """Medians over all runs, one that failed counting as infinite."""
    middle = lambda name: float(
        np.median([run[name] if run["steps"] is not None else np.inf for run in runs])
    )
    medians = {name: middle(name) for name in ("steps", "seconds", "wall_seconds")}
    failed = sum(run["steps"] is None for run in runs)
    return medians | dict(failed=failed, most_seconds=max(run["seconds"] for run in runs))


def line(name, runs):
    s = summary(runs)
    steps = [run["steps"] for run in runs if run["steps"] is not None]
    reach = f"{s['steps']:,.0f} ({min(steps):,}–{max(steps):,})"
    seconds = f"{s['seconds']:.2f} | {s['most_seconds']:.2f}"
    return f"| {name} | {len(runs)} | {s['failed']} | {reach} | {seconds} |"


HEAD = (
    "| | runs | failed | steps to 475, median (range) | seconds, median | most |\n"
    + 6 * "|---"
    + "|"
)


def cartpole(seeds):
    page(CARTPOLE, 100)  # warm
    runs = [page(CARTPOLE, seed) for seed in range(seeds or 20)]
    text = "\n".join([HEAD, line("page", runs)])
    return dict(config=repr(CARTPOLE), summary=summary(runs), runs=runs), text


def baseline(seeds):
    import torch

    torch.set_num_threads(1)
    results, text = {}, [HEAD]
    for vectorization in ("sync", "vector_entry_point"):
        config = replace(BASELINE, vectorization=vectorization)
        ours, theirs = [], []
        for seed in range(seeds or 10):
            ours.append(page(config, seed)), theirs.append(sb3(config, seed))
            print(ours[-1], theirs[-1], flush=True)
        one, other = summary(ours), summary(theirs)
        times = {name: other[name] / one[name] for name in ("seconds", "steps")}
        results[vectorization] = dict(config=repr(config), page=ours, sb3=theirs, sb3_by_page=times)
        text += [line(f"page, {vectorization}", ours), line("Stable-Baselines3", theirs)]
        text += [f"\nseconds {times['seconds']:.1f} times, steps {times['steps']:.2f} times\n"]
    return results, "\n".join(text)


def one(name, seed):
    """One run of a task; its curve: steps, means of the last 100 returns, at 60 episodes."""
    env_id, threshold, config = TASKS[name]
    learned, judged = pendulum() if name == "pendulum" else (gymnasium.make(env_id),) * 2
    state, at, returns = a2c.init(learned, config, seed), [], []
    start = time.process_time()
    for metrics in a2c.train(learned, config, state):
        returns += metrics.returns
        at += [metrics.steps] * len(metrics.returns)
    seconds = time.process_time() - start
    means, at = running_mean(np.array(returns), WINDOW), np.array(at)
    reached = at[WINDOW - 1 :][means[WINDOW - 1 :] >= threshold]
    method = Method(lambda: config, a2c.State, a2c.init, a2c.train, a2c.actor)
    points = np.linspace(0, len(at) - 1, min(60, len(at))).astype(int)
    return dict(
        seed=seed,
        evaluation=learning.evaluate(method, judged, config, state, greedy=False),
        evaluation_greedy=learning.evaluate(method, judged, config, state, greedy=True),
        return_last_100=float(means[-1]),
        seconds=seconds,
        steps_until_reached=int(reached[0]) if reached.size else None,
        curve=dict(steps=at[points].tolist(), means=means[points].round(1).tolist()),
    )


def task(name, seeds, jobs):
    _, threshold, config = TASKS[name]
    with ProcessPoolExecutor(jobs) as pool:
        runs = list(pool.map(partial(one, name), range(seeds or 10)))
    spread = {}
    for key in ("return_last_100", "evaluation", "evaluation_greedy"):
        values = [run[key] for run in runs]
        spread[key] = dict(mean=float(np.mean(values)), sd=float(np.std(values, ddof=1)))
    means = ", ".join(
        f"{key.replace('_', ' ')} {x['mean']:.1f} ± {x['sd']:.1f}" for key, x in spread.items()
    )
    text = learning.markdown(runs, threshold) + f"\nMean and s.d. over seeds: {means}.\n"
    return dict(config=repr(config), threshold=threshold, spread=spread, runs=runs), text


def draw(record, title, path):
    fig, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    curves = [run["curve"] for run in record["runs"]]
    grid = np.linspace(max(c["steps"][0] for c in curves), min(c["steps"][-1] for c in curves), 300)
    means = np.array([np.interp(grid, c["steps"], c["means"]) for c in curves])
    ax.plot(grid, means.T, color=COLOURS[0], alpha=0.3, linewidth=0.8)
    band = bootstrap_band(means, np.random.default_rng(0))
    ax.fill_between(grid, *band, color=COLOURS[0], alpha=0.2, linewidth=0)
    label = f"mean of {len(curves)} seeds, 95 % bootstrap band; thin: each seed"
    ax.plot(grid, means.mean(0), color=COLOURS[0], linewidth=2, label=label)
    goal = record["threshold"]
    ax.axhline(goal, color="black", ls="--", lw=1, label=f"threshold, {goal:g}")
    ax.set_title(title, loc="left")
    ax.set(xlabel="environment steps", ylabel=f"return, mean of the last {WINDOW} episodes")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.01)
    ax.legend(frameon=False, loc="lower right")
    fig.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = {"cartpole": cartpole, "baseline": baseline} | {
        name: lambda seeds, name=name: task(name, seeds, arguments.jobs) for name in TASKS
    }
    parser.add_argument("parts", nargs="*", help=", ".join(parts) + "; all of them by default")
    parser.add_argument("--seeds", type=int, help="instead of each part's own number")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, of the last three")
    parser.add_argument("--draw", action="store_true", help="draw what is recorded, learn nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(parts)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: must be of {', '.join(parts)}")
    for name in arguments.parts or parts:
        path = RESULTS / f"a2c_{name}.json"
        if not arguments.draw:
            results, text = parts[name](arguments.seeds)
            print(text, flush=True)
            path = save(path.stem, "benchmarks.a2c", results)
            path.with_suffix(".md").write_text(text + "\n")
        if name in TASKS:
            record = json.loads(path.read_text())
            draw(record, f"A2C on {TASKS[name][0]}", path.with_suffix(".png"))


if __name__ == "__main__":
    main()
