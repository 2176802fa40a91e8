"""What DDPG learns, and what its noise and its target networks are for.

    python -m benchmarks.ddpg [pendulum] [mountain_car] [inverted_pendulum] [regulator] [noise]
                              [noise_car] [targets] [tau] [annealing] [halfcheetah]
                              [--seeds 10] [--jobs 2] [--minutes 60] [--keep]

pendulum, mountain_car, inverted_pendulum   100 episodes or more (study.judge) played with μ after
               the steps given here, against a threshold; inverted_pendulum and halfcheetah need
               Gymnasium's MuJoCo worlds
regulator      the cost of μ over that of the exact optimum K*, both met with the same noise
noise, noise_car (notes 4.2.2)   OU, white, ε-greedy and no noise, on Pendulum-v1 and on
               MountainCarContinuous-v0, where the goal is only found by pushing for long
targets, tau (4.3)   soft, hard and no target networks; soft ones of several τ
annealing (4.2.1)    σ from 0.3 to 0.01, and σ that stays
halfcheetah    one seed for --minutes of processor time or a million steps, beside published results

A comparison varies one thing, on the same seeds. Its measures are the return of μ averaged over
the learning curve (soon good, and never bad again) and that after the last step; the sentence under
its table says which variants differ from the first by more than the 95 % bootstrap band of the mean
paired difference.

Settings were tuned on seeds from 100 up; reported are seeds 0, 1, .... Those of pendulum, regulator
and mountain_car had been seen before the settings were last looked at (mountain_car with σ = 0.5
and ou_theta = 0.15: 8 of 10, then, after edits to the page, 1 of the first 4). Each part writes
results/ddpg_PART.json as it goes, and .png (comparisons .md too) at its end; seeds are shared out
among --jobs processes. With --keep, variants of comparisons that are on record with the same
settings are tabled and drawn, not run again. Set OMP_NUM_THREADS=1.
"""

import json
import time
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

import algorithms.exact.register  # noqa: F401
from algorithms import ddpg
from algorithms.ddpg import Config
from algorithms.ddpg_noise import Noise
from algorithms.exact.lqr import LQREnv, optimal_gain, performance, spring
from algorithms.runner.plot import COLOURS
from algorithms.runner.presets import configured
from benchmarks import study
from benchmarks.record import RESULTS, save

SMALL = configured("ddpg", "Pendulum-v1")
CAR = configured("ddpg", "MountainCarContinuous-v0")
SPRING = configured("ddpg", "npgrad/LQR-v0")
POLE = configured("ddpg", "InvertedPendulum-v5")
CHEETAH = configured("ddpg", "HalfCheetah-v5")
PUBLISHED = {  # HalfCheetah at 1M steps, in earlier versions of the world
    "Tianshou": 11719,  # its examples/mujoco/README.md: v3, best evaluation, 10 seeds
    "CleanRL": 10374,  # its docs/rl-algorithms/ddpg.md: v4, returns in training, 3 seeds
    "OurDDPG": 8577,  # Fujimoto et al. 2018 (TD3), table 1: v1, best evaluation, 10 seeds
    "DDPG as in 2015": 3306,  # the same table
}


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
    "halfcheetah": Task("HalfCheetah-v5", CHEETAH, 1_000_000, 10_000, np.nan, 5),
}
SWING = Task("Pendulum-v1", SMALL, 6000, 400, -200.0, 5)
HILL = TASKS["mountain_car"]._replace(steps=20_000, every=2000)


def noises(config, white):
    """The four kinds of noise; white noise as strong in the long run as that OU noise."""
    return {
        f"OU, σ = {config.noise.sigma:g}": config,
        f"white, as strong ({white:g})": replace(config, noise=Noise("white", white)),
        "ε-greedy, ε = 0.1": replace(config, noise=Noise("epsilon")),
        "none after the warm-up": replace(config, noise=Noise("none")),
    }


COMPARISONS = {
    "noise": (SWING, noises(SMALL, 0.38)),
    "noise_car": (HILL, noises(CAR, 0.96)),
    "targets": (SWING, {
        "soft, τ = 0.005": SMALL,
        "hard, C = 200": replace(SMALL, target="hard", copy_every=200),
        "hard, C = 400 (on average as old)": replace(SMALL, target="hard", copy_every=400),
        "hard, C = 1000": replace(SMALL, target="hard", copy_every=1000),
        "none (τ = 1)": replace(SMALL, tau=1.0),
    }),
    "tau": (SWING, {
        f"τ = {tau:g}": replace(SMALL, tau=tau) for tau in (0.005, 0.001, 0.01, 0.05, 0.2)
    }),
    "annealing": (SWING, {
        "σ = 0.3 → 0.01": replace(SMALL, noise=Noise(sigma=0.3, sigma_final=0.01,
                                                     sigma_steps=5000)),
        "σ = 0.3": replace(SMALL, noise=Noise(sigma=0.3)),
        "σ = 0.2": SMALL,
        "σ = 0.01": replace(SMALL, noise=Noise(sigma=0.01)),
    }),
}  # fmt: skip
NOTES = {
    "noise": "4.2.2: OU noise suits systems with inertia, ε-greedy may switch abruptly",
    "noise_car": "4.2.2: OU noise suits systems with inertia, ε-greedy may switch abruptly",
    "targets": "4.3: hard copies of the targets make learning unstable, soft ones are more stable",
    "tau": "4.3: τ has to be tuned, usually between 0.001 and 0.01",
    "annealing": "4.2.1: σ large at first (0.3) to search widely, small at last (0.01) to be fine",
}


def learn(task, seed, final=study.EPISODES, minutes=np.inf, each=lambda run, state: None):
    """(run, state) of one seed: the curve of evaluations, the evaluation at the end, and seconds of
    training alone (processor time). `each` is told after every point of the curve."""
    env, test_env = (gymnasium.make(task.env) for _ in range(2))
    state = ddpg.init(env, task.config, seed)
    mu = study.player(ddpg, env, task.config, state, greedy=True)
    curve, recent, seconds = dict(steps=[], returns=[], training=[]), [], 0.0
    run = dict(seed=seed, curve=curve)
    training = study.episodes(ddpg.train(env, task.config, state))
    while state.steps < task.steps and seconds < 60 * minutes:
        start = time.process_time()
        metrics = next(training)
        seconds += time.process_time() - start
        recent += metrics.returns
        if state.steps >= task.every * (len(curve["steps"]) + 1) or state.steps >= task.steps:
            curve["steps"].append(state.steps)
            curve["returns"].append(mean(study.play(test_env, mu, task.points)))
            curve["training"].append(mean(recent))
            recent = []
            each(run | dict(seconds=round(seconds, 1)), state)
    score, error, n = study.judge(test_env, mu, task.threshold, final)
    found = dict(evaluation=round(score, 2), error=round(error, 2), episodes=n)
    return run | dict(seconds=round(seconds, 1)) | found, state


def mean(x):
    return round(float(np.mean(x)), 2)


def regulator_ratio(config, seed, steps):
    """A run, with the discounted cost of the learned μ over that of K*, on the same starts and
    noise."""
    lqr, K = spring(), optimal_gain(spring())
    run, state = learn(TASKS["regulator"]._replace(config=config, steps=steps), seed, final=1)
    env = LQREnv(lqr, 4.0, horizon=300)
    both = study.player(ddpg, env, config, state, True), lambda S: np.clip(-S @ K.T, -4.0, 4.0)
    cost, optimal = (-float(study.play(env, act, gamma=lqr.gamma).mean()) for act in both)
    return run | dict(evaluation=-cost, cost=cost, optimal=optimal, ratio=cost / optimal)


def one_seed(task, final, seed):
    if task.env == "npgrad/LQR-v0":
        return regulator_ratio(task.config, seed, task.steps)
    return learn(task, seed, final)[0]


@lru_cache
def on_record():
    """{(environment, steps, settings): runs} of the comparisons in results/."""
    known = {}
    for path in (RESULTS / f"ddpg_{name}.json" for name in COMPARISONS):
        found = json.loads(path.read_text()) if path.exists() else dict(variants={})
        for variant in found["variants"].values():
            known[found["env"], found["steps"], variant["config"]] = variant["runs"]
    return known


@lru_cache
def compared(task, seeds, jobs, keep):
    """The runs of a variant; several comparisons share the one that they vary."""
    known = on_record().get((task.env, task.steps, repr(task.config)), []) if keep else []
    if len(known) == seeds:
        return known
    return list(study.each_seed(partial(one_seed, task, 50), seeds, jobs))


def curves(ax, runs, colour, label, thin=False):
    """The mean of the runs' evaluations with its band."""
    least = min(len(run["curve"]["steps"]) for run in runs)
    at = np.median([run["curve"]["steps"][:least] for run in runs], 0)
    values = np.array([run["curve"]["returns"][:least] for run in runs])
    study.band(ax, at, values, colour, label, thin)


def finish(ax, name, task, legend="lower right"):
    ax.set(xlabel="environment steps", ylabel="return of μ")
    ax.set_title(f"DDPG on {task.env}", loc="left")
    study.in_steps(ax.xaxis)
    ax.margins(x=0.01)
    ax.legend(frameon=False, loc=legend)
    ax.figure.savefig(RESULTS / f"ddpg_{name}.png", dpi=150)
    plt.close(ax.figure)


def record(name, task, **results):
    save(f"ddpg_{name}", "benchmarks.ddpg", dict(env=task.env, steps=task.steps) | results)


def solve(name, seeds, jobs):
    """One of TASKS on seeds 0, 1, ...."""
    task, runs = TASKS[name], []
    for run in study.each_seed(partial(one_seed, task, study.EPISODES), seeds, jobs):
        runs.append(study.show(name, run))
        scores = np.array([run["evaluation"] for run in runs])
        summary = dict(median=float(np.median(scores)), worst=float(scores.min()))
        if name == "regulator":
            ratios = [run["ratio"] for run in runs]
            exact = -performance(spring(), optimal_gain(spring()))
            summary |= dict(ratio_median=float(np.median(ratios)), ratio_worst=max(ratios),
                            within_5_percent=int(np.sum(np.array(ratios) <= 1.05)),
                            exact_optimum=float(exact))  # fmt: skip
        else:
            summary |= dict(threshold=task.threshold,
                            largest_error=max(run["error"] for run in runs),
                            reached=int(np.sum(scores >= task.threshold)))  # fmt: skip
        record(name, task, config=repr(task.config), summary=summary, runs=runs)
    _, ax = study.subplots()
    curves(ax, runs, COLOURS[0], f"mean of {seeds} seeds, 95 % band; thin: each seed", thin=True)
    if np.isfinite(task.threshold):
        label = f"threshold, {task.threshold:g}"
        ax.axhline(task.threshold, color="black", ls="--", lw=1, label=label)
    finish(ax, name, task)


def compare(name, seeds, jobs, keep):
    """One of COMPARISONS on seeds 0, 1, ...: the final evaluation, and how soon it is good."""
    base, variants = COMPARISONS[name]
    table, every = {}, {}
    _, ax = study.subplots()
    for colour, (label, config) in zip(COLOURS, variants.items()):
        task = base._replace(config=config)
        runs = compared(task, seeds, jobs, keep)
        curves(ax, runs, colour, label)
        final = np.array([run["evaluation"] for run in runs])
        soon = [next((s for s, r in zip(c["steps"], c["returns"]) if r >= task.threshold), None)
                for c in (run["curve"] for run in runs)]  # fmt: skip
        table[label] = dict(
            average=mean([np.mean(run["curve"]["returns"]) for run in runs]),
            median=float(np.median(final)),
            worst=float(final.min()),
            training=float(np.median([np.mean(run["curve"]["training"]) for run in runs])),
            steps_until_reached=study.median(soon),
            reached=sum(s is not None for s in soon),
        )
        every[label] = dict(config=repr(config), runs=runs)
        print(name, label, table[label], flush=True)
        record(name, task, threshold=task.threshold, table=table, variants=every)
    named = {label: f"{label} ({row['reached']} of {seeds})" for label, row in table.items()}
    text = f"{markdown(base, table, seeds)}\nThe notes, {NOTES[name]}. Measured, with the seeds "
    text += f"that reach {base.threshold:g} in brackets: {finding(every, named)}"
    (RESULTS / f"ddpg_{name}.md").write_text(text)
    finish(ax, name, base, legend="upper left")


def markdown(task, table, seeds):
    head = (
        f"{task.env}, {task.steps:,} steps, {seeds} seeds",
        "return of μ, mean of the curve",
        "at the end, median",
        "worst",
        "return in training, median",
        f"first evaluation ≥ {task.threshold:g}, median steps",
        "seeds",
    )
    rows = []
    for label, row in table.items():
        scores = [f"{row[k]:.0f}" for k in ("average", "median", "worst", "training")]
        steps = study.maybe(row["steps_until_reached"])
        rows.append([label, *scores, steps, str(row["reached"])])
    return study.table(head, rows)


def finding(every, named):
    """In words: how each variant differs from the first, seed by seed; `named` names them."""
    (first, base), *others = every.items()
    words = []
    for label, variant in others:
        parts = []
        for name, score in (
            ("over the curve", lambda run: np.mean(run["curve"]["returns"])),
            ("at the end", lambda run: run["evaluation"]),
        ):
            x = np.array([[score(a) - score(b)] for a, b in zip(variant["runs"], base["runs"])])
            low, high = study.bootstrap_band(x, np.random.default_rng(0))[:, 0]
            verdict = "better" if low > 0 else "worse" if high < 0 else "not measurably different"
            parts.append(f"{verdict} {name} ({x.mean():+.0f} [{low:+.0f}, {high:+.0f}])")
        words.append(f"{named[label]} is {' and '.join(parts)}")
    return f"against {named[first]}, {'; '.join(words)}.\n"


def halfcheetah(minutes):
    """One seed, for as long as is given; recorded and drawn at every point of its curve."""
    task = TASKS["halfcheetah"]

    def report(run, state):
        print("halfcheetah", state.steps, run["seconds"], run["curve"]["returns"][-1], flush=True)
        record("halfcheetah", task._replace(steps=state.steps), config=repr(task.config),
               published_at_1M_steps=PUBLISHED, replay_megabytes=state.ring.nbytes / 1e6,
               runs=[run])  # fmt: skip
        _, ax = study.subplots()
        curves(ax, [run], COLOURS[0], "seed 0")
        for colour, (label, score) in zip(COLOURS[1:], PUBLISHED.items()):
            ax.axhline(score, color=colour, ls="--", lw=1, label=f"{label}, at 1M steps: {score}")
        finish(ax, "halfcheetah", task)

    report(*learn(task, 0, final=10, minutes=minutes, each=report))


def main():
    parts = [*TASKS, *COMPARISONS]
    given = study.options(__doc__, parts, seeds=10, jobs=2, minutes=60.0, keep=False)
    RESULTS.mkdir(exist_ok=True)
    for name in given.parts:
        if name == "halfcheetah":
            halfcheetah(given.minutes)
        elif name in TASKS:
            solve(name, given.seeds, given.jobs)
        else:
            compare(name, given.seeds, given.jobs, given.keep)


if __name__ == "__main__":
    main()
