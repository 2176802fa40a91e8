"""What the methods learn, by steps and by seconds, beside Stable-Baselines3 and published figures.

    python -m benchmarks.learning [METHOD ...] [--seeds 10] [--jobs 1] [--draw]

METHOD is one that `npgrad train` knows: ddpg on Pendulum-v1, the others on CartPole-v1 (async-q,
async-sarsa and async-n-step-q: 8 workers in turn; a3c: 2). Those that control no episodes are left
out. a2c and ddpg also run in Stable-Baselines3, with the same hyper-parameters, networks,
distribution of first weights and noise (torch_twins/baselines.py); for that ddpg's critic has the
action at its first layer. Seeds are 0 to 9, but of natural-actor-critic, whose settings were chosen
on some of these, 10 to 19.

Score: the mean return of the policy's mode, no exploration: of 20 episodes at each of 15 points of
a run, of 100 or more (measure.judge) at its end, on seeds of their own. Seconds are processor time
of training alone, one thread: acting, environment, learning. Runs are aggregated as rliable does it
(Agarwal et al. 2021): interquartile mean, the mean of the middle half of all runs; its 95 %
interval by stratified bootstrap, which draws whole runs anew within each task
(algorithms.runner.scores). Of methods not named, the runs recorded stay.
"""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from matplotlib.ticker import EngFormatter

from algorithms.runner.plot import COLOURS, at_steps
from algorithms.runner.scores import interval, iqm
from benchmarks import figures, measure, study
from benchmarks.measure import OURS, SB3, Row
from benchmarks.study import Study

POINTS, CAR = 15, "CartPole-v1"
ZOO = "[RL Baselines3 Zoo](https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md)"
PUBLISHED = {
    "a2c, CartPole-v1": f"500 after 500,000 steps, one run ({ZOO})",
    "ddpg, Pendulum-v1": f"−152.1 after 20,000 steps, one run ({ZOO})",
}
METHODS = {
    "reinforce": Row("reinforce", CAR, 475.0),
    "a2c": Row("a2c", CAR, 475.0, "sync", steps=120_000),
    "a3c": Row("a3c", CAR, 475.0, changes=dict(driver="round-robin")),
    "actor-critic": Row("actor-critic", CAR, 475.0, None, steps=100_000),
    "actor-critic-traces": Row("actor-critic-traces", CAR, 475.0),
    "natural-actor-critic": Row("natural-actor-critic", CAR, 475.0),
    "async-n-step-q": Row("async-n-step-q", CAR, 475.0),
    "async-q": Row("async-q", CAR, 475.0),
    "async-sarsa": Row("async-sarsa", CAR, 475.0),
    "ddpg": Row("ddpg", "Pendulum-v1", -160.0, "early"),
}
FIRST = {"natural-actor-critic": 10}  # seed that is reported
AXES = dict(steps="environment steps", seconds="seconds of processor time, training alone")
BOTH = ("a2c", "ddpg") if find_spec("stable_baselines3") else ()
ROWS = {
    f"{name}, {row.env}, {who}": replace(row, who=who, every=row.length / POINTS)
    for name, row in METHODS.items()
    for who in (OURS, *[SB3] * (name in BOTH))
}


def run(row, seed):
    """Return one run."""
    seed += FIRST.get(row.method, 0)
    watch = measure.watched(row, seed)[1] if row.who == OURS else sb3(row, seed)
    return dict(seed=seed) | watch.measured()


def sb3(row, seed):
    """Return the Watch of a run in Stable-Baselines3."""
    import torch

    from benchmarks.torch_twins import baselines

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # what decays in its moments; the pages see to that themselves
    model = baselines.baseline(row.env, row.config, seed)
    steps = lambda: model.env.steps if row.method == "a2c" else model.num_timesteps
    watch = measure.Watch(row, lambda S: model.predict(S, deterministic=True)[0])
    baselines.train(model, 2 * row.length, lambda: watch(steps()))
    torch.set_flush_denormal(False)  # the next run in this process may be a page's
    return watch


def curve(row, by, spaced=np.linspace):
    """Return (grid, iqm, interval) of the scores at the latest point before each of grid, for as
    long as all runs lasted; by is "steps" or "seconds"."""
    at = row.of("curve", by)
    grid = spaced(max(x[0] for x in at), min(x[-1] for x in at), 60)
    pairs = zip(at, row.of("curve", "scores"))
    scores = np.stack([at_steps(grid, np.array(x), np.array(y)) for x, y in pairs], -1)
    return grid, iqm(scores), interval([scores], np.random.default_rng(0))


def reached(row, by):
    """Return where the interquartile mean reaches the goal for good."""
    grid, middle, _ = curve(row, by)
    below = np.flatnonzero(middle < row.goal)
    first = below[-1] + 1 if below.size else 0
    return float(grid[first]) if first < len(grid) else None


def scores(row):
    return np.array(row.of("evaluation"))


def end(row):
    low, high = interval([scores(row)], np.random.default_rng(0))
    return f"{iqm(scores(row)):.0f} [{low:.0f}, {high:.0f}] of {len(row.runs)} runs"


def pace(row):
    ends = ([x[-1] for x in row.of("curve", name)] for name in ("seconds", "steps"))
    return f"{1e5 * np.median(np.divide(*ends)):.1f}"


def name(row, parts=2):
    return ", ".join(row.label.split(", ")[:parts])


COLUMNS = {
    "method": name,
    "": lambda row: row.who,
    "score at the end, IQM [95 %]": end,
    "worst run": lambda row: f"{scores(row).min():.0f}",
    "s.e. of a run": lambda row: study.largest_error(row.runs),
    "runs at the goal": lambda row: f"{row.solved()} at {row.goal:g} or more",
    "steps until the IQM stays there": lambda row: study.maybe(reached(row, "steps")),
    "seconds until then": lambda row: study.maybe(reached(row, "seconds"), ".1f"),
    "seconds per 100,000 steps": pace,
    "published": lambda row: PUBLISHED.get(name(row), "–"),
}


def table(rows):
    """Return a row for each contestant; and what those in Stable-Baselines3 come to together."""
    return study.minus(study.columns(COLUMNS, rows) + together(rows))


def together(rows):
    """Return the IQM of both who run the same tasks, a random policy being 0, the goal 1."""
    shared, text = [row for row in rows if row.who == SB3], []
    if not shared:
        return ""
    zero = {row.env: measure.random_score(row.env) for row in shared}
    for who in (OURS, SB3):
        these = (next(x for x in rows if name(x) == name(row) and x.who == who) for row in shared)
        normal = [(scores(x) - zero[x.env]) / (x.goal - zero[x.env]) for x in these]
        low, high = interval(normal, np.random.default_rng(0))
        text.append(f"{who} {iqm(np.concatenate(normal)):.3f} [{low:.3f}, {high:.3f}]")
    names = " and ".join(name(row).replace(", ", " on ") for row in shared)
    return f"\n{names} together, 0 a random policy and 1 the goal: {', '.join(text)}.\n"


def picture(rows):
    return {"": curves(rows, ("steps", "seconds")), "_seconds": curves(rows, ("seconds",), False)}


def curves(rows, by, bands=True):
    """Draw a line of panels for each environment; without bands a panel for each, side by side."""
    envs = list(dict.fromkeys(row.env for row in rows))
    n, m = (len(envs), len(by)) if bands else (1, len(envs))
    fig, axes = figures.subplots(n, m, (13, 4.6 * n), squeeze=False)
    axes = axes.reshape(len(envs), len(by))
    for row in rows:
        line, ours = axes[envs.index(row.env)], row.who == OURS
        of_env = list(dict.fromkeys(name(other) for other in rows if other.env == row.env))
        again, k = divmod(of_env.index(name(row)), len(COLOURS))
        colour, ls = COLOURS[k], "-." if again else "-"
        label = name(row, 1) + ("" if ours else f", {row.who}")
        for ax, x in zip(line, by):
            grid, middle, band = curve(row, x, np.geomspace)
            if bands:
                ax.fill_between(grid, *band, color=colour, alpha=0.13, lw=0)
            ax.plot(grid, middle, color=colour, ls=ls if ours else "--", lw=2, label=label)
    for line, env in zip(axes, envs):
        row = next(row for row in rows if row.env == env)
        title = f"{env}: interquartile mean of {len(row.runs)} runs" + ", 95 % bands" * bands
        where = dict(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3, fontsize=9)
        figures.dress(line[0], title, where, ylabel="score: return of the policy's mode")
        for ax, x in zip(line, by):
            figures.goal_line(ax, row.goal, ls=":", label=None)
            figures.dress(ax, ax.get_title("left"), xscale="log", xlabel=AXES[x])
            ax.xaxis.set_minor_formatter("")
            ax.xaxis.set_major_formatter(EngFormatter(sep="") if x == "steps" else "{x:g}")
    return fig


STUDIES = {"learning": Study(ROWS, run, table, picture)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
