"""Sutton & Barto's figures 13.1 and 13.2: REINFORCE, and with baseline, on the short corridor.

    python -m benchmarks.corridor [--runs 100] [--episodes 1000] [--jobs 2]

The box to the letter (form "moving", γ = 1, sgd), linear softmax, v̂(s, w) = w. The parameters start
at 1.47 for left and −1.47 for right, so that p = π(right) = 0.05. Drawn, averaged over the runs:
the return of each episode, and the exact value v(p) of the policy after that episode, against the
best of all policies, −11.657.

A run sticks once v(p) < −10,000: p is so near to 0 or 1 that an episode takes 10,000 steps on
average, or never ends. It is stopped there and counted; the averages are over the other runs.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product

import gymnasium
import numpy as np

import algorithms.exact.register  # noqa: F401
from algorithms import reinforce
from algorithms.common.policy import make_policy
from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM, short_corridor_value
from algorithms.runner.plot import COLOURS
from algorithms.runner.presets import configured
from benchmarks import study
from benchmarks.record import RESULTS, save

LEFT, RIGHT = 0, 1
WITHOUT, WITH = "α = 2⁻¹³", "with baseline, α^θ = 2⁻⁹, α^w = 2⁻⁶"
PLAIN = configured("reinforce", "npgrad/ShortCorridor-v0", "none")
CURVES = {
    "α = 2⁻¹²": replace(PLAIN, step_size=2**-12),
    WITHOUT: PLAIN,
    "α = 2⁻¹⁴": replace(PLAIN, step_size=2**-14),
    WITH: configured("reinforce", "npgrad/ShortCorridor-v0"),
}
FIGURES = {"13_1": list(CURVES)[:3], "13_2": [WITHOUT, WITH]}
REACHED = -12.5
STUCK = -1e4


def one_run(label, seed, episodes):
    """Return of each episode and exact value of the policy after it, NaN from where it sticks.
    Two arrays (episodes,)."""
    env = gymnasium.make("npgrad/ShortCorridor-v0")
    config = CURVES[label]
    state = reinforce.init(env, config, seed)
    policy = make_policy(env, config.network)
    p_right = lambda: float(policy.at(state.theta, 0).probs()[RIGHT])
    state.theta[[LEFT, RIGHT]] = 1.47, -1.47
    assert abs(p_right() - 0.05) < 1e-3
    returns, values = np.full((2, episodes), np.nan)
    for k, metrics in zip(range(episodes), study.episodes(reinforce.train(env, config, state))):
        p = p_right()
        if not 0 < p < 1 or short_corridor_value(p) < STUCK:
            break
        (returns[k],) = metrics.returns
        values[k] = short_corridor_value(p)
    return returns, values


def smooth(x, width=50):
    """Mean of the last `width` entries; NaN before there are as many."""
    total = np.cumsum(np.concatenate([[0.0], x]))
    return np.concatenate([np.full(width - 1, np.nan), (total[width:] - total[:-width]) / width])


def episodes_until(curve):
    """Number of episodes until a curve reaches −12.5, None if it does not."""
    reached = np.flatnonzero(curve >= REACHED)
    return int(reached[0]) + 1 if reached.size else None


def summary(returns, values):
    """Summarise arrays (runs, episodes)."""
    stuck = np.isnan(values[:, -1])
    returns, values = returns[~stuck], values[~stuck]
    last = returns[:, -100:].mean(1)
    return dict(
        runs_stuck=float(stuck.mean()),
        return_last_100=float(last.mean()),
        standard_error=float(last.std(ddof=1) / np.sqrt(len(last))),
        exact_value_at_end=float(values[:, -1].mean()),
        episodes_until_value_reaches=episodes_until(values.mean(0)),
        episodes_until_smoothed_return_reaches=episodes_until(smooth(returns.mean(0))),
        mean_return=returns.mean(0).round(3).tolist(),
        mean_value=values.mean(0).round(4).tolist(),
    )


def draw(figure, curves, runs):
    best = SHORT_CORRIDOR_OPTIMUM[1]
    fig, ax = study.subplots()
    colors = dict(zip(CURVES, COLOURS))
    for label, curve in curves.items():
        episode = np.arange(1, len(curve["mean_return"]) + 1)
        ax.plot(episode, curve["mean_return"], color=colors[label], alpha=0.3, linewidth=0.7)
        name = "REINFORCE " + label if label == WITH else "REINFORCE, " + label
        if curve["runs_stuck"]:
            name += f" (without the {curve['runs_stuck']:.0%} of runs that stuck)"
        ax.plot(episode, curve["mean_value"], color=colors[label], linewidth=1.8, label=name)
    label = f"best policy, v = −{-best:.3f}"
    ax.axhline(best, color="black", linestyle="--", linewidth=1, zorder=3, label=label)
    ax.set(
        xlim=(0, len(episode)),
        ylim=(-92, -8),
        xlabel="episode",
        ylabel=f"return of an episode, mean of {runs} runs",
    )
    ax.set_title(
        f"Short corridor: Sutton & Barto's figure {figure.replace('_', '.')}\n"
        "thin: returns as they came    thick: exact value of the policies",
        fontsize=10,
    )
    ax.legend(frameon=False, loc="lower right")
    fig.savefig(RESULTS / f"corridor_{figure}.png", dpi=150)


def main():
    arguments = study.options(__doc__, runs=100, episodes=1000, jobs=2)
    jobs = list(product(CURVES, range(arguments.runs)))
    with ProcessPoolExecutor(arguments.jobs) as pool:
        labels, seeds = zip(*jobs)
        results = pool.map(one_run, labels, seeds, [arguments.episodes] * len(jobs), chunksize=5)
        data = np.array(list(results)).reshape(len(CURVES), arguments.runs, 2, -1)
    curves = {label: summary(runs[:, 0], runs[:, 1]) for label, runs in zip(CURVES, data)}
    until = [curves[label]["episodes_until_value_reaches"] for label in (WITHOUT, WITH)]
    ratio = until[0] / until[1] if all(until) else None
    for label, curve in curves.items():
        print(label, {key: x for key, x in curve.items() if not isinstance(x, list)})
    print(f"episodes until {REACHED}, without : with baseline = {until[0]} : {until[1]} = {ratio}")
    RESULTS.mkdir(exist_ok=True)
    for figure, drawn in FIGURES.items():
        draw(figure, {label: curves[label] for label in drawn}, arguments.runs)
    save(
        "corridor",
        "benchmarks.corridor",
        dict(
            runs=arguments.runs,
            episodes=arguments.episodes,
            best_value=SHORT_CORRIDOR_OPTIMUM[1],
            threshold=REACHED,
            stuck_below=STUCK,
            times_sooner_with_baseline=ratio,
            curves=curves,
        ),
    )


if __name__ == "__main__":
    main()
