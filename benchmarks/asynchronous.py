"""What the asynchronous methods learn.

    python -m benchmarks.asynchronous [PART ...] [--seeds 10] [--jobs 1] [--draw]

a3c-1, a3c-2, a3c-4   A3C on CartPole-v1 by 1, 2 and 4 processes
async-q, async-sarsa, async-n-step-q   the value methods on CartPole-v1, 8 workers in turn
acrobot               A3C on Acrobot-v1, 2 processes
pendulum              A3C on Pendulum-v1 (continuous), 8 workers in turn, from rewards / 10 and
                      less a cost of torques beyond the bounds (benchmarks/pendulum.py), which the
                      training returns shown include and the scores do not

A run is judged by 100 episodes played with the θ at its end (drawn from π by A3C, greedy by Q), and
by the step and the second at which the mean of its last 100 training episodes first reached the
threshold. Hyper-parameters were tuned on seeds from 100 up; reported are seeds 0, 1, .... Seconds
are of training alone: of processor time where workers run in turn, by the clock where they are
processes; only the former take --jobs, seeds at a time.

results/asynchronous.json, .md and .png; runs are recorded as they end, --draw makes the table and
the picture anew from them.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial

import gymnasium
import numpy as np

from algorithms import a3c, async_q
from algorithms.common.policy import Network
from benchmarks.pendulum import pendulum
from benchmarks.record import RESULTS, save

CARTPOLE = dict(T_max=200_000, t_max=20, beta=0.02, step_size=2e-3, eps=1e-5)
VALUE = dict(workers=8, precision="single")
ONE = dict(
    T_max=600_000, I_target=500, I_async_update=20, epsilon_steps=50_000,
    step_size=1.1e-3, eps=1e-3, max_norm=10.0,
)  # fmt: skip
MANY = dict(T_max=500_000, I_target=500, t_max=20, step_size=3e-3, eps=1e-2)
PENDULUM = a3c.Config(
    workers=8,
    T_max=250_000,
    gamma=0.95,
    beta=3e-3,
    step_size=5e-4,
    eps=1e-4,
    precision="single",
    network=Network(activation="relu", sigma="softplus"),
)
SCALE = {"Pendulum-v1": 0.1}  # of the rewards learned from: v̂ need not become as large
# name: (environment, threshold, page, config)
PARTS = {
    **{
        f"a3c-{n}": ("CartPole-v1", 475, a3c, a3c.Config(workers=n, driver="processes", **CARTPOLE))
        for n in (1, 2, 4)
    },
    "async-q": ("CartPole-v1", 475, async_q, async_q.OneStepQ(**VALUE, **ONE)),
    "async-sarsa": ("CartPole-v1", 475, async_q, async_q.OneStepSarsa(**VALUE, **ONE)),
    "async-n-step-q": ("CartPole-v1", 475, async_q, async_q.NStepQ(**VALUE, **MANY)),
    "acrobot": ("Acrobot-v1", -100, a3c, a3c.Config(workers=2, driver="processes", **CARTPOLE)),
    "pendulum": ("Pendulum-v1", -300, a3c, PENDULUM),
}


def run(name, seed):
    """One run of a part, as a dict."""
    env_id, threshold, page, config = PARTS[name]
    scale = SCALE.get(env_id, 1.0)
    if env_id == "Pendulum-v1":
        learned, env = pendulum(scale)
    else:
        learned = env = gymnasium.make(env_id)
    clock = time.perf_counter if config.driver == "processes" else time.process_time
    state = page.init(learned, config, seed)
    started, returns, curve, reached = None, [], [], None
    for metrics in page.train(learned, config, state):
        if started is None and metrics.steps:  # processes take a moment to begin
            started, first = clock(), metrics.steps
        returns += [G / scale for G in metrics.returns]
        if not metrics.returns:
            continue
        mean = float(np.mean(returns[-100:]))
        curve.append((metrics.steps, round(mean, 1)))
        if reached is None and len(returns) >= 100 and mean >= threshold:
            reached = dict(steps=metrics.steps, seconds=clock() - started)
    seconds = clock() - started
    scores = play(env, page.actor(env, config), {"theta": state.theta}, 100, seed)
    at = np.linspace(0, len(curve) - 1, min(50, len(curve))).astype(int)
    steps, means = zip(*(curve[k] for k in at))
    return dict(
        seed=seed,
        score=float(np.mean(scores)),
        steps=int(state.T.sum()),
        seconds=seconds,
        steps_per_second=(int(state.T.sum()) - first) / seconds,
        reached=reached,
        staleness=np.trim_zeros(state.staleness.sum(0), "b").tolist(),
        curve=dict(steps=steps, means=means),
    )


def each_seed(name, seeds, jobs):
    """The runs of seeds 0, 1, ..., in order, as they end."""
    if jobs == 1 or PARTS[name][3].driver == "processes":
        yield from map(partial(run, name), range(seeds))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(run, name), range(seeds))


def play(env, act, parameters, episodes, seed):
    """Returns of episodes played with act."""
    rng, scores = np.random.default_rng(seed), []
    for _ in range(episodes):
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        total, over = 0.0, False
        while not over:
            action = act(parameters, observation, rng, False)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        scores.append(total)
    return scores


def spread(n, values, form):
    """Median and range, and how many of n there are if not all."""
    if not values:
        return "never"
    some = "" if len(values) == n else f", {len(values)} of {n}"
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}}{some})"


def table(results):
    """The results in Markdown."""
    lines = [
        "| | environment | solved | score of 100 episodes, mean ± s.d. | median (range) "
        "| steps until its training had it | seconds until then | steps/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, part in results.items():
        runs, threshold = part["runs"], part["threshold"]
        scores = [r["score"] for r in runs]
        solved = sum(score >= threshold for score in scores)
        reached = [r["reached"] for r in runs if r["reached"]]
        show = partial(spread, len(runs))
        cells = (
            name,
            f"{part['environment']} ({threshold})",
            f"{solved} of {len(runs)}",
            f"{np.mean(scores):.0f} ± {np.std(scores, ddof=1):.0f}",
            show(scores, ".0f"),
            show([r["steps"] for r in reached], ",.0f"),
            show([r["seconds"] for r in reached], ".1f"),
            show([r["steps_per_second"] for r in runs], ",.0f"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(results):
    """The mean of the last 100 training episodes over steps, every run a line."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter

    columns = 4
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(12, 2.8 * rows), layout="constrained")
    for ax in axes.ravel()[len(results) :]:
        ax.remove()
    for ax, (name, part) in zip(axes.ravel(), results.items()):
        for r in part["runs"]:
            ax.plot(
                r["curve"]["steps"], r["curve"]["means"], color="#3b6fb6", alpha=0.5, linewidth=1
            )
        ax.axhline(part["threshold"], color="black", linestyle="--", linewidth=1)
        ax.set_title(f"{name}, {part['environment']}", fontsize=9)
        ax.set_xlabel("steps of all workers")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.spines[["top", "right"]].set_visible(False)
    figure.supylabel("mean of the last 100 training episodes")
    figure.savefig(RESULTS / "asynchronous.png", dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    parser.add_argument("--draw", action="store_true", help="from the recorded runs")
    arguments = parser.parse_args()
    if odd := set(arguments.parts) - set(PARTS):
        parser.error(f"PART = {', '.join(odd)}: must be of {', '.join(PARTS)}")
    path = RESULTS / "asynchronous.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for name in () if arguments.draw else arguments.parts or PARTS:
        env_id, threshold, _, config = PARTS[name]
        command = f"python -m benchmarks.asynchronous {name} --seeds {arguments.seeds}"
        part = dict(command=command, environment=env_id, threshold=threshold,
                    config=asdict(config), runs=[])  # fmt: skip
        results[name] = part
        for r in each_seed(name, arguments.seeds, arguments.jobs):
            part["runs"].append(r)
            print(f"{name}, seed {r['seed']}: {r['score']:.1f}, {r['seconds']:.1f} s", flush=True)
            results = {name: results[name] for name in PARTS if name in results}
            save("asynchronous", "benchmarks.asynchronous", dict(results=results))
    text = table(results)
    print(text)
    (RESULTS / "asynchronous.md").write_text(text)
    draw(results)


if __name__ == "__main__":
    main()
