"""What the asynchronous methods learn.

    python -m benchmarks.asynchronous [PART ...] [--seeds 10] [--jobs 1] [--draw]

a3c-1, a3c-2, a3c-4   A3C on CartPole-v1 by 1, 2 and 4 processes
async-q, async-sarsa, async-n-step-q   the value methods on CartPole-v1, 8 workers in turn
acrobot               A3C on Acrobot-v1, 2 processes
pendulum              A3C on Pendulum-v1 (continuous), 8 workers in turn. It learns from a tenth of
                      the rewards, minus a cost of torques beyond the bounds (see
                      benchmarks/pendulum.py); training returns include that cost, scores do not

The score of a run is the mean return of 100 episodes or more (study.judge) with the last θ (A3C
draws from π, Q is greedy). The table also tells at which step and second the mean of the last 100
training episodes first reached the threshold. Hyper-parameters were tuned on seeds from 100 up; the
results are of seeds 0, 1, .... Seconds are of training alone: processor time where workers run in
turn, wall time where they are processes. --jobs seeds run at a time, unless the workers are
processes.

Writes results/asynchronous.json after each run, .md and .png; --draw makes the last two again.
"""

import json
import time
from dataclasses import asdict, replace
from functools import partial

import gymnasium
import numpy as np

from algorithms import a3c, async_q
from algorithms.runner.plot import COLOURS
from algorithms.runner.presets import configured
from benchmarks import study
from benchmarks.pendulum import pendulum
from benchmarks.record import RESULTS, save

CAR, PARALLEL = "CartPole-v1", configured("a3c", "CartPole-v1")
SCALE = {"Pendulum-v1": 0.1}  # of the rewards learned from: v̂ need not become as large
# name: (environment, threshold, page, config)
PARTS = {
    **{f"a3c-{n}": (CAR, 475, a3c, replace(PARALLEL, workers=n)) for n in (1, 2, 4)},
    **{
        name: (CAR, 475, async_q, configured(name, CAR))
        for name in ("async-q", "async-sarsa", "async-n-step-q")
    },
    "acrobot": ("Acrobot-v1", -100, a3c, configured("a3c", "Acrobot-v1")),
    "pendulum": ("Pendulum-v1", -300, a3c, configured("a3c", "Pendulum-v1")),
}


def run(name, seed):
    """One run of a part, as a dict."""
    env_id, threshold, page, config = PARTS[name]
    scale, learned = SCALE.get(env_id, 1.0), gymnasium.make(env_id)
    learned, env = pendulum(scale) if env_id == "Pendulum-v1" else (learned, learned)
    clock = time.perf_counter if config.driver == "processes" else time.process_time
    state, found = study.learn(page, learned, config, seed, threshold, clock=clock, scale=scale)
    reached = {name: found[f"{name}_until_reached"] for name in ("steps", "seconds")}
    act = study.player(page, env, config, state, False)
    score, error, episodes = study.judge(env, act, threshold)
    return dict(
        seed=seed,
        score=score,
        score_error=error,
        score_episodes=episodes,
        steps=int(state.T.sum()),
        seconds=found["seconds"],
        steps_per_second=found["steps_per_second"],
        reached=None if reached["steps"] is None else reached,
        staleness=np.trim_zeros(state.staleness.sum(0), "b").tolist(),
        curve=found["curve"],
    )


def spread(n, values, form):
    """Median and range, and how many of n there are if not all."""
    if not values:
        return "never"
    some = "" if len(values) == n else f", {len(values)} of {n}"
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}}{some})"


HEAD = "", "environment", "solved", "score, mean ± s.d. of the runs", "their s.e."
HEAD += ("median (range)",)
HEAD += "steps until its training had it", "seconds until then", "steps/s"


def table(results):
    """The results in Markdown."""
    rows = []
    for name, part in results.items():
        runs, threshold = part["runs"], part["threshold"]
        scores = [r["score"] for r in runs]
        solved = sum(score >= threshold for score in scores)
        reached = [r["reached"] for r in runs if r["reached"]]
        show = partial(spread, len(runs))
        cells = [
            name,
            f"{part['environment']} ({threshold})",
            f"{solved} of {len(runs)}",
            f"{np.mean(scores):.0f} ± {np.std(scores, ddof=1):.0f}",
            study.largest_error(runs, "score_error"),
            show(scores, ".0f"),
            show([r["steps"] for r in reached], ",.0f"),
            show([r["seconds"] for r in reached], ".1f"),
            show([r["steps_per_second"] for r in runs], ",.0f"),
        ]
        rows.append(cells)
    return study.table(HEAD, rows)


def draw(results):
    """The mean of the last 100 training episodes over steps, every run a line."""
    columns = 4
    rows = -(-len(results) // columns)
    figure, axes = study.subplots(rows, columns, (12, 2.8 * rows), squeeze=False)
    for ax in axes.ravel()[len(results) :]:
        ax.remove()
    for ax, (name, part) in zip(axes.ravel(), results.items()):
        for curve in (r["curve"] for r in part["runs"]):
            ax.plot(curve["steps"], curve["means"], color=COLOURS[0], alpha=0.5, linewidth=1)
        ax.axhline(part["threshold"], color="black", linestyle="--", linewidth=1)
        ax.set_title(f"{name}, {part['environment']}", fontsize=9)
        ax.set_xlabel("steps of all workers")
        study.in_steps(ax.xaxis)
    figure.supylabel("mean of the last 100 training episodes")
    figure.savefig(RESULTS / "asynchronous.png", dpi=120)


def main():
    given = study.options(__doc__, PARTS, seeds=10, jobs=1, draw=False)
    path = RESULTS / "asynchronous.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for name in () if given.draw else given.parts:
        env_id, threshold, _, config = PARTS[name]
        command = f"python -m benchmarks.asynchronous {name} --seeds {given.seeds}"
        part = dict(command=command, environment=env_id, threshold=threshold,
                    config=asdict(config), runs=[])  # fmt: skip
        results[name] = part
        jobs = 1 if config.driver == "processes" else given.jobs
        for r in study.each_seed(partial(run, name), given.seeds, jobs):
            part["runs"].append(study.show(name, r))
            results = {name: results[name] for name in PARTS if name in results}
            save("asynchronous", "benchmarks.asynchronous", dict(results=results))
    text = table(results)
    print(text)
    (RESULTS / "asynchronous.md").write_text(text)
    draw(results)


if __name__ == "__main__":
    main()
