"""What DDPG learns, and what its noise and its target networks are for.

    python -m benchmarks.ddpg [pendulum] [mountain_car] [inverted_pendulum] [regulator] [noise]
                              [targets] [tau] [annealing] [halfcheetah] [--seeds 10]

pendulum, mountain_car, inverted_pendulum   100 episodes played with μ after the steps given here,
               against a threshold; inverted_pendulum and halfcheetah need Gymnasium's MuJoCo worlds
regulator      the cost of μ over that of the exact optimum K*, both met with the same noise
noise, targets, tau, annealing   the notes' comparisons (4.2, 4.3), on Pendulum-v1 with a small
               network, everything else alike
halfcheetah    the paper's networks on HalfCheetah-v5 for --minutes, one seed, beside published
               results at a million steps

Settings were tuned on seeds from 100 up; reported are seeds 0, 1, .... Each part writes
results/ddpg_PART.json after every seed, and .png (comparisons .md too) at its end. Set
OMP_NUM_THREADS=1.
"""

import argparse
import time
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter

import algorithms.common.register  # noqa: F401
from algorithms import ddpg
from algorithms.common.lqr import LQREnv, optimal_gain, performance, spring
from algorithms.common.noise import Noise
from algorithms.ddpg import Config, Networks
from algorithms.runner.plot import COLOURS, bootstrap_band
from benchmarks.record import RESULTS, save

SMALL = Config(
    networks=Networks(hidden=(128, 128)),
    step_size=3e-4,
    step_size_w=1e-3,
    tau=5e-3,
    l2=0.0,
    replay=100_000,
)
CAR = replace(
    SMALL,
    networks=Networks(hidden=(64, 64)),
    step_size=1e-3,
    noise=Noise(sigma=0.5),
)
SPRING = replace(SMALL, gamma=spring().gamma, step_size=1e-4)
POLE = replace(SMALL, step_size_w=3e-3)
PUBLISHED = {"CleanRL": 10374, "OurDDPG (TD3's authors)": 8577}  # HalfCheetah at 1M steps


class Task(NamedTuple):
    env: str
    config: Config
    steps: int
    every: int  # steps between two points of the curve
    threshold: float
    points: int = 10  # episodes of a point of the curve


TASKS = {
    "pendulum": Task("Pendulum-v1", SMALL, 20_000, 1000, -160.0, 5),
    "mountain_car": Task("MountainCarContinuous-v0", CAR, 40_000, 4000, 90.0, 3),
    "inverted_pendulum": Task("InvertedPendulum-v5", POLE, 20_000, 2000, 950.0, 3),
    "regulator": Task("npgrad/LQR-v0", SPRING, 15_000, 1500, np.nan, 3),
}
COMPARED = Task("Pendulum-v1", SMALL, 6000, 400, -200.0, 5)
ANNEALED = Noise(sigma=0.3, sigma_final=0.01, sigma_steps=5000)
COMPARISONS = {
    "noise": {
        "OU, σ = 0.2": SMALL,
        "white, as strong (0.38)": replace(SMALL, noise=Noise("white", 0.38)),
        "ε-greedy, ε = 0.1": replace(SMALL, noise=Noise("epsilon")),
        "none after the warm-up": replace(SMALL, noise=Noise("none")),
    },
    "targets": {
        "soft, τ = 0.005": SMALL,
        "hard, C = 200 (as old)": replace(SMALL, target="hard", copy_every=200),
        "hard, C = 1000": replace(SMALL, target="hard", copy_every=1000),
        "none (τ = 1)": replace(SMALL, tau=1.0),
    },
    "tau": {f"τ = {tau:g}": replace(SMALL, tau=tau) for tau in (0.001, 0.005, 0.01, 0.05, 0.2)},
    "annealing": {
        "σ = 0.2": SMALL,
        "σ = 0.3": replace(SMALL, noise=Noise(sigma=0.3)),
        "σ = 0.3 → 0.01": replace(SMALL, noise=ANNEALED),
        "σ = 0.01": replace(SMALL, noise=Noise(sigma=0.01)),
    },
}


def play(env, config, state, episodes):
    """Returns of episodes played with μ, on seeds of their own."""
    act, returns = ddpg.actor(env, config), np.zeros(episodes)
    for k in range(episodes):
        observation, _ = env.reset(seed=10**6 + k)
        over = False
        while not over:
            observation, r, terminated, truncated, _ = env.step(
                act(dict(theta=state.theta), observation, None)
            )
            returns[k] += r
            over = terminated or truncated
    return returns


def learn(task, seed, final=100, minutes=np.inf):
    """One seed: evaluation at the end, seconds of training alone (processor time), and the curve of
    evaluations."""
    env, test_env = (gymnasium.make(task.env) for _ in range(2))
    state = ddpg.init(env, task.config, seed)
    steps, means, train_means, recent, seconds = [], [], [], [], 0.0
    training = ddpg.train(env, task.config, state)
    while state.steps < task.steps and seconds < 60 * minutes:
        start = time.process_time()
        metrics = next(training)
        seconds += time.process_time() - start
        recent += metrics.returns
        if state.steps >= task.every * (len(steps) + 1) or state.steps >= task.steps:
            steps.append(state.steps)
            means.append(float(play(test_env, task.config, state, task.points).mean()))
            train_means.append(float(np.mean(recent)))
            recent = []
    return dict(
        seed=seed,
        evaluation=float(play(test_env, task.config, state, final).mean()),
        seconds=seconds,
        curve=dict(steps=steps, returns=means, training=train_means),
    ), state


@lru_cache
def once(task, seed):
    """A run of a comparison; several comparisons share the one that they vary."""
    return learn(task, seed, final=50)[0]


def regulator_ratio(config, seed, steps, episodes=100):
    """Discounted cost of the learned μ over that of K*, on the same starts and noise."""
    lqr = spring()
    run, state = learn(TASKS["regulator"]._replace(config=config, steps=steps), seed, final=1)
    act, K, costs = ddpg.actor(gymnasium.make("npgrad/LQR-v0"), config), optimal_gain(lqr), []
    learned = lambda s: act(dict(theta=state.theta), s, None)
    for policy in (learned, lambda s: np.clip(-K @ s, -4.0, 4.0)):
        env, cost = LQREnv(lqr, 4.0, horizon=300), 0.0
        for k in range(episodes):
            s, _ = env.reset(seed=10**6 + k)
            for t in range(300):
                s, r, *_ = env.step(policy(s))
                cost -= lqr.gamma**t * r / episodes
        costs.append(cost)
    return run | dict(evaluation=-costs[0], cost=costs[0], optimal=costs[1],
                      ratio=costs[0] / costs[1])  # fmt: skip


def curves(ax, runs, colour, label):
    """Mean of the runs' evaluations with its bootstrap band."""
    least = min(len(run["curve"]["steps"]) for run in runs)
    at = np.median([run["curve"]["steps"][:least] for run in runs], 0)
    values = np.array([run["curve"]["returns"][:least] for run in runs])
    if len(runs) > 1:
        band = bootstrap_band(values, np.random.default_rng(0))
        ax.fill_between(at, *band, color=colour, alpha=0.15, linewidth=0)
    ax.plot(at, values.mean(0), color=colour, linewidth=2, label=label)
    return at, values


def finish(ax, name, task, ylabel="return of μ"):
    ax.set(xlabel="environment steps", ylabel=ylabel)
    ax.set_title(f"DDPG on {task.env}", loc="left")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.01)
    ax.legend(frameon=False, loc="lower right")
    ax.figure.savefig(RESULTS / f"ddpg_{name}.png", dpi=150)
    plt.close(ax.figure)


def record(name, task, **results):
    save(f"ddpg_{name}", "benchmarks.ddpg", dict(env=task.env, steps=task.steps) | results)


def solve(name, seeds):
    """One of TASKS on seeds 0, 1, ...."""
    task, runs = TASKS[name], []
    for seed in range(seeds):
        if name == "regulator":
            runs.append(regulator_ratio(task.config, seed, task.steps))
        else:
            runs.append(learn(task, seed)[0])
        print(name, {k: x for k, x in runs[-1].items() if k != "curve"}, flush=True)
        scores = np.array([run["evaluation"] for run in runs])
        summary = dict(median=float(np.median(scores)), worst=float(scores.min()))
        if name == "regulator":
            ratios = [run["ratio"] for run in runs]
            exact = -performance(spring(), optimal_gain(spring()))
            summary |= dict(ratio_median=float(np.median(ratios)), ratio_worst=max(ratios),
                            exact_optimum=float(exact))  # fmt: skip
        else:
            summary |= dict(threshold=task.threshold,
                            reached=int(np.sum(scores >= task.threshold)))  # fmt: skip
        record(name, task, config=repr(task.config), summary=summary, runs=runs)
    _, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    at, values = curves(ax, runs, COLOURS[0], f"mean of {seeds} seeds, 95 % band; thin: each seed")
    ax.plot(at, values.T, color=COLOURS[0], alpha=0.3, linewidth=0.8)
    if np.isfinite(task.threshold):
        label = f"threshold, {task.threshold:g}"
        ax.axhline(task.threshold, color="black", ls="--", lw=1, label=label)
    finish(ax, name, task)


def compare(name, seeds):
    """One of COMPARISONS on seeds 0, 1, ...: the final evaluation, and how soon it is good."""
    table, every = {}, {}
    _, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for colour, (label, config) in zip(COLOURS, COMPARISONS[name].items()):
        task = COMPARED._replace(config=config)
        runs = [once(task, seed) for seed in range(seeds)]
        curves(ax, runs, colour, label)
        final = np.array([run["evaluation"] for run in runs])
        soon = [next((s for s, r in zip(c["steps"], c["returns"]) if r >= task.threshold), None)
                for c in (run["curve"] for run in runs)]  # fmt: skip
        middle = np.median([np.inf if s is None else s for s in soon])
        table[label] = dict(
            median=float(np.median(final)),
            worst=float(final.min()),
            training=float(np.median([np.mean(run["curve"]["training"]) for run in runs])),
            steps_until_reached=float(middle) if np.isfinite(middle) else None,
            reached=sum(s is not None for s in soon),
        )
        every[label] = dict(config=repr(config), runs=runs)
        print(name, label, table[label], flush=True)
        record(name, task, threshold=task.threshold, table=table, variants=every)
    (RESULTS / f"ddpg_{name}.md").write_text(markdown(table, seeds))
    finish(ax, name, COMPARED)


def markdown(table, seeds):
    head = (f"| Pendulum-v1, {COMPARED.steps:,} steps, {seeds} seeds | return of μ, median | worst "
            f"| return in training | first evaluation ≥ {COMPARED.threshold:g}, median steps "
            "| seeds |")  # fmt: skip
    rows = [head, "|---|---|---|---|---|---|"]
    for label, row in table.items():
        steps = row["steps_until_reached"]
        cells = [label, *(f"{row[k]:.0f}" for k in ("median", "worst", "training"))]
        rows.append(f"| {' | '.join(cells)} | {'–' if steps is None else f'{steps:,.0f}'} "
                    f"| {row['reached']} |")  # fmt: skip
    return "\n".join(rows) + "\n"


def halfcheetah(minutes):
    """The paper's networks, one seed, for as long as is given."""
    task = Task("HalfCheetah-v5", Config(tau=5e-3, l2=0.0, step_size=1e-3, warmup=10_000),
                1_000_000, 5000, np.nan, 3)  # fmt: skip
    run, state = learn(task, 0, final=10, minutes=minutes)
    record(
        "halfcheetah",
        task._replace(steps=state.steps),
        config=repr(task.config),
        published_at_1M_steps=PUBLISHED,
        replay_megabytes=state.ring.nbytes / 1e6,
        runs=[run],
    )
    print("halfcheetah", state.steps, {k: x for k, x in run.items() if k != "curve"})
    _, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    curves(ax, [run], COLOURS[0], "seed 0")
    for colour, (label, score) in zip(COLOURS[1:], PUBLISHED.items()):
        ax.axhline(score, color=colour, ls="--", lw=1, label=f"{label}, at 1M steps: {score}")
    finish(ax, "halfcheetah", task)


def main():
    parts = [*TASKS, *COMPARISONS, "halfcheetah"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=", ".join(parts) + "; all of them by default")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, for halfcheetah")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(parts)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: must be of {', '.join(parts)}")
    RESULTS.mkdir(exist_ok=True)
    for name in arguments.parts or parts:
        if name == "halfcheetah":
            halfcheetah(arguments.minutes)
        else:
            (solve if name in TASKS else compare)(name, arguments.seeds)


if __name__ == "__main__":
    main()
