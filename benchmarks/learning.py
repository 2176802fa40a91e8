"""Does a method learn an environment with its shipped defaults? Several seeds, measured.

    python -m benchmarks.learning [reinforce] [--env CartPole-v1] [--steps 100000] [--seeds 10]

For each seed 0, 1, ...: train for that many steps, then play 100 episodes with the learned policy
as it is (stochastic) and 100 with its mode (greedy). "Reached": the mean return of the last 100
training episodes first was at least the threshold, the environment's own unless --threshold gives
one. Seconds are of training alone: acting, environment and learning. Defaults were tuned on seeds
from 100 up, never on these.
"""

import argparse
import time

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter

import algorithms.common.register  # noqa: F401
from algorithms.runner.lookup import METHODS, load_method
from algorithms.runner.plot import COLOURS, at_steps, bootstrap_band, running_mean
from benchmarks.record import RESULTS, save

WINDOW = EPISODES = 100


def evaluate(method, env, config, state, greedy):
    """Mean return of 100 episodes with the learned parameters, on seeds of their own."""
    act, rng = method.actor(env, config), np.random.default_rng(10**6)
    parameters = {name: getattr(state, name) for name in state.parameters}
    returns = np.zeros(EPISODES)
    for k in range(EPISODES):
        observation, _ = env.reset(seed=10**6 + k)
        over = False
        while not over:
            action = act(parameters, observation, rng, greedy)
            observation, reward, terminated, truncated, _ = env.step(action)
            returns[k] += reward
            over = terminated or truncated
    return float(returns.mean())


def learn(method, env_id, steps, seed, threshold):
    """One seed: a dict of its measures and its curve, (steps, return) of each training episode."""
    env, config = gymnasium.make(env_id), method.Config()
    state = method.init(env, config, seed)
    curve, clock, start = [], [], time.perf_counter()
    for metrics in method.train(env, config, state):
        now = time.perf_counter() - start
        curve += [(metrics.steps, G) for G in metrics.returns]
        clock += [now] * len(metrics.returns)
        if metrics.steps >= steps:
            break
    at, returns = np.array(curve).T
    mean = running_mean(returns, WINDOW)
    reached = np.flatnonzero((mean >= threshold) & (np.arange(len(mean)) >= WINDOW - 1))
    k = int(reached[0]) if reached.size else None
    return dict(
        seed=seed,
        evaluation=evaluate(method, env, config, state, greedy=False),
        evaluation_greedy=evaluate(method, env, config, state, greedy=True),
        return_last_100=float(mean[-1]),
        seconds=now,
        steps_until_reached=None if k is None else int(at[k]),
        episodes_until_reached=None if k is None else k + 1,
        seconds_until_reached=None if k is None else clock[k],
        curve=dict(steps=at.astype(int).tolist(), returns=returns.tolist()),
    )


def median(runs, name):
    """Median over all runs; one that never reached counts as infinite, and prints as None."""
    middle = float(np.median([np.inf if run[name] is None else run[name] for run in runs]))
    return middle if np.isfinite(middle) else None


def markdown(runs, threshold):
    names = [name for name in runs[0] if name != "curve"]
    show = lambda x: "–" if x is None else f"{x:,.1f}" if isinstance(x, float) else f"{x:,}"
    rows = [names, ["---"] * len(names), *([show(run[name]) for name in names] for run in runs)]
    rows.append(["median", *(show(median(runs, name)) for name in names[1:])])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows).replace("_", " ")
    solved = sum(run["evaluation"] >= threshold for run in runs)
    return f"{table}\n\n{solved} of {len(runs)} seeds evaluate at {threshold:g} or more.\n"


def draw(runs, title, threshold, path):
    fig, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    curves = [run["curve"] for run in runs]
    curves = [(np.array(c["steps"]), running_mean(np.array(c["returns"]))) for c in curves]
    for steps, mean in curves:
        ax.plot(steps, mean, color=COLOURS[0], alpha=0.3, linewidth=0.8)
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.linspace(first, last, 400)
    sampled = np.stack([at_steps(grid, steps, mean) for steps, mean in curves])
    band = bootstrap_band(sampled, np.random.default_rng(0))
    ax.fill_between(grid, *band, color=COLOURS[0], alpha=0.2, linewidth=0)
    ax.plot(
        grid,
        sampled.mean(0),
        color=COLOURS[0],
        linewidth=2,
        label=f"mean of {len(runs)} seeds, 95 % bootstrap band; thin: each seed",
    )
    ax.axhline(threshold, color="black", ls="--", lw=1, label=f"threshold, {threshold:g}")
    ax.set_title(title, loc="left")
    ax.set(xlabel="environment steps", ylabel=f"return, mean of the last {WINDOW} episodes")
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.01)
    ax.legend(frameon=False, loc="lower right")
    fig.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("method", nargs="?", default="reinforce", choices=METHODS)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threshold", type=float)
    arguments = parser.parse_args()
    method, threshold = load_method(arguments.method, METHODS), arguments.threshold
    if threshold is None:
        threshold = gymnasium.spec(arguments.env).reward_threshold
    if threshold is None:
        parser.error(f"--threshold: {arguments.env} has none of its own, so it must be given")
    runs = []
    for seed in range(arguments.seeds):
        runs.append(learn(method, arguments.env, arguments.steps, seed, threshold))
        print({name: x for name, x in runs[-1].items() if name != "curve"}, flush=True)
    RESULTS.mkdir(exist_ok=True)
    name = f"learning_{arguments.method}_{arguments.env.replace('/', '_')}"
    text = markdown(runs, threshold)
    print(text)
    (RESULTS / f"{name}.md").write_text(text)
    draw(
        runs,
        f"{arguments.method} on {arguments.env}, shipped defaults",
        threshold,
        RESULTS / f"{name}.png",
    )
    medians = {key: median(runs, key) for key in runs[0] if key not in ("seed", "curve")}
    save(
        name,
        "benchmarks.learning",
        dict(
            env=arguments.env,
            steps=arguments.steps,
            threshold=threshold,
            config=repr(method.Config()),
            median=medians,
            runs=runs,
        ),
    )


if __name__ == "__main__":
    main()
