"""Sutton & Barto's figures 13.1 and 13.2: REINFORCE, and with baseline, on the short corridor.

    python -m benchmarks.corridor [--seeds 100] [--jobs 1] [--draw]

The box to the letter (form "moving", γ = 1, sgd), linear softmax, v̂(s, w) = w. The parameters start
at 1.47 for left and −1.47 for right, so that p = π(right) = 0.05. Drawn, averaged over the runs:
the return of each episode, and the exact value v(p) of the policy after that episode, against the
best of all policies, −11.657.

A run sticks once v(p) < −10,000: p is so near to 0 or 1 that an episode takes 10,000 steps on
average, or never ends. It is stopped there and counted; the averages are over the other runs.
"""

from functools import partial
from itertools import islice

import numpy as np

from algorithms.common.policy import make_policy
from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM, short_corridor_value
from algorithms.runner.plot import COLOURS
from benchmarks import figures, measure, study
from benchmarks.measure import Row
from benchmarks.study import Whole

WITHOUT, WITH = "α = 2⁻¹³", "with baseline, α^θ = 2⁻⁹, α^w = 2⁻⁶"
PLAIN = partial(Row, "reinforce", "npgrad/ShortCorridor-v0", None)
ROWS = {
    "α = 2⁻¹²": PLAIN("none", dict(step_size=2**-12)),
    WITHOUT: PLAIN("none"),
    "α = 2⁻¹⁴": PLAIN("none", dict(step_size=2**-14)),
    WITH: PLAIN(),
}
FIGURES = {"13_1": list(ROWS)[:3], "13_2": [WITHOUT, WITH]}
EPISODES, REACHED, STUCK = 1000, -12.5, -1e4


def values(row, seed, n, stuck, env=None):
    """Yield (report, exact value of the policy) after each of n episodes; it ends where the value
    is below `stuck`: p is then so near 0 or 1 that episodes hardly end."""
    env, config = env or row.make(), row.config
    state, policy = row.page.init(env, config, seed), make_policy(env, config.network)
    state.theta[:] = 1.47, -1.47  # left, right
    for metrics in islice(measure.episodes(row.page.train(env, config, state)), n):
        p = policy.at(state.theta, 0).probs()[1]
        value = short_corridor_value(p) if 0 < p < 1 else -np.inf
        yield metrics, value
        if value < stuck:
            break


def one_run(label, seed):
    """Return each episode's return and the value after it, NaN from where it sticks: (2, n)."""
    found = np.full((2, EPISODES), np.nan)
    for k, (metrics, value) in enumerate(values(ROWS[label], seed, EPISODES, STUCK)):
        if value >= STUCK:
            found[:, k] = metrics.returns[0], value
    return found


def smooth(x, width=50):
    """Return the mean of the last `width` entries; NaN before there are as many."""
    total = np.cumsum(np.concatenate([[0.0], x]))
    return np.concatenate([np.full(width - 1, np.nan), (total[width:] - total[:-width]) / width])


def episodes_until(curve):
    """Return the number of episodes until a curve reaches −12.5, None if it does not."""
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
        standard_error=measure.standard_error(last),
        exact_value_at_end=float(values[:, -1].mean()),
        episodes_until_value_reaches=episodes_until(values.mean(0)),
        episodes_until_smoothed_return_reaches=episodes_until(smooth(returns.mean(0))),
        mean_return=returns.mean(0).round(3).tolist(),
        mean_value=values.mean(0).round(4).tolist(),
    )


def picture(record):
    """Draw the figures of the book."""
    return {f"_{figure}": drawn(record, figure) for figure in FIGURES}


def drawn(record, figure):
    fig, ax = figures.subplots()
    colours, best = dict(zip(ROWS, COLOURS)), record["best_value"]
    for label in FIGURES[figure]:
        curve, name = record["curves"][label], "REINFORCE" + ", "[label == WITH :] + label
        episode = np.arange(1, len(curve["mean_return"]) + 1)
        ax.plot(episode, curve["mean_return"], color=colours[label], alpha=0.3, lw=0.7)
        if curve["runs_stuck"]:
            name += f" (without the {curve['runs_stuck']:.0%} of runs that stuck)"
        ax.plot(episode, curve["mean_value"], color=colours[label], lw=1.8, label=name)
    figures.goal_line(ax, best, label=f"best policy, v = −{-best:.3f}", zorder=3)
    title = f"Short corridor: Sutton & Barto's figure {figure.replace('_', '.')}\n"
    title += "thin: returns as they came    thick: exact value of the policies"
    ax.set(xlim=(0, len(episode)), ylim=(-92, -8), xlabel="episode")
    what = f"return of an episode, mean of {record['runs']} runs"
    figures.dress(ax, title, "lower right", ylabel=what)
    return fig


def measured(runs, jobs):
    """Return the averages over so many runs."""
    curves = {}
    for label in ROWS:
        given = [(label, seed) for seed in range(runs)]
        data = np.array(list(study.mapped(one_run, given, jobs)))
        curves[label] = study.show(label, summary(data[:, 0], data[:, 1]))
    until = [curves[label]["episodes_until_value_reaches"] for label in (WITHOUT, WITH)]
    return dict(
        runs=runs,
        episodes=EPISODES,
        best_value=SHORT_CORRIDOR_OPTIMUM[1],
        threshold=REACHED,
        stuck_below=STUCK,
        times_sooner_with_baseline=until[0] / until[1] if all(until) else None,
        curves=curves,
    )


STUDIES = {"corridor": Whole(measured, None, picture, 100)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
