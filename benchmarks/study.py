"""What the studies share: the command line, runs over seeds, playing, tables and pictures."""

import argparse
import json
import re
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from gymnasium.vector import SyncVectorEnv
from matplotlib.ticker import EngFormatter

from algorithms.common.worlds import close, vectorized
from algorithms.runner.plot import COLOURS, running_mean
from benchmarks.record import RESULTS, save

WINDOW = EPISODES = 100
FAR, MOST = 3.0, 1000  # standard errors from a goal that tell on which side of it a mean is
UNUSED = 10**6  # by learning: the first seed of the episodes that are played
POINTS = 60  # of a learning curve that is recorded
HELP = dict(
    env="instead of each method's own",
    steps="instead of each method's own",
    again="run again what begins with these words, recorded or not",
    draw="draw what is recorded, run nothing",
    jobs="processes",
    keep="run no variant that is on record",
    minutes="of training, for halfcheetah",
    quick="run a little of everything, record nothing",
    seeds="number of seeds: 0, 1, ...",
)


def options(doc, parts=(), **flags):
    """Read the command line. `parts` are the words that it may give, by default all of them. A flag
    with default False is a switch; the others take a value of their default's type."""

    def part(word):
        if word not in parts:
            raise argparse.ArgumentTypeError(f"{word}: must be of {', '.join(parts)}")
        return word

    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    if parts:
        text = f"of {', '.join(parts)}; by default all of them"
        parser.add_argument("parts", nargs="*", metavar="PART", type=part, help=text)
    for name, default in flags.items():
        kind = dict(action="store_true") if default is False else dict(type=type(default))
        parser.add_argument(f"--{name}", default=default, help=HELP.get(name), **kind)
    given = parser.parse_args()
    if parts:
        given.parts = given.parts or list(parts)
    return given


def gather(name, settings, jobs, run, again=""):
    """Return {words of a job: run(*job)} for all jobs, and record each in results/NAME.json as it
    ends. A job that is recorded there with the same settings is not run again, unless its words
    begin with `again`."""
    path, runs = RESULTS / f"{name}.json", {}
    if path.exists():
        record = json.loads(path.read_text())
        if record["settings"] == json.loads(json.dumps(settings)):
            runs = record["runs"]
    for job in jobs:
        key = " ".join(map(str, job))
        if key not in runs or (again and f"{key} ".startswith(f"{again} ")):
            runs[key] = show(key, run(*job))
            save(name, f"benchmarks.{name}", dict(settings=settings, runs=runs))
    return runs


def show(key, found):
    """Print the numbers and words of a run, without its lists and curves; return the run."""
    short = {name: x for name, x in found.items() if not isinstance(x, (list, dict))}
    print(f"{key}: {short}", flush=True)
    return found


def each_seed(run, seeds, jobs):
    """Yield run(seed) of seeds 0, 1, ..., in order, from so many processes."""
    if jobs == 1:
        yield from map(run, range(seeds))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, range(seeds))


def episodes(training):
    """The reports of a page's `train` in which an episode ended."""
    return (metrics for metrics in training if metrics.returns)


def play(env, act, n=EPISODES, gamma=1.0, seed=UNUSED):
    """Return Σ_t γ^t r_t (n,) of n episodes, played side by side in environments like env, on seeds
    that no learning uses. act(S) gives the actions of all n observations."""
    own = env.spec and env.spec.vector_entry_point and not env.spec.additional_wrappers
    made = vectorized(env, n, "vector_entry_point" if own else "sync")
    envs = made if own else SyncVectorEnv([lambda one=one: one for one in made], copy=False)
    S, _ = envs.reset(seed=seed)
    G, weight, going = np.zeros(n), 1.0, np.ones(n, bool)
    while going.any():
        S, r, terminated, truncated, _ = envs.step(act(S))
        G += going * weight * r
        weight *= gamma
        going &= ~(terminated | truncated)
    close(made, env)
    return G


def player(page, env, config, state, greedy):
    """act(S) of a page, at the parameters that its State has by then."""
    act, rng = page.actor(env, config), np.random.default_rng(UNUSED)

    def actions(S):
        parameters = {name: getattr(state, name) for name in state.parameters}
        return np.array([act(parameters, s, rng, greedy) for s in S])

    return actions


class Watched(gymnasium.Wrapper):
    """Keeps `episodes`: of each the observations (T + 1), the rewards (T), and what seen() returned
    before each of its T steps, lists."""

    def __init__(self, env, seen=lambda: None):
        super().__init__(env)
        self.episodes, self.seen = [], seen

    def reset(self, **options):
        s, info = self.env.reset(**options)
        self.episodes.append(([s], [], []))
        return s, info

    def step(self, action):
        states, rewards, seen = self.episodes[-1]
        seen.append(self.seen())
        s, R, *rest = self.env.step(action)
        states.append(s)
        rewards.append(R)
        return s, R, *rest


def standard_error(G):
    return float(G.std(ddof=1) / np.sqrt(len(G))) if len(G) > 1 else np.nan


def judge(env, act, goal=None, n=EPISODES):
    """Return (mean, its standard error, number) of the returns of episodes.

    With a goal, n more at a time are played, on other starts, until the mean is FAR standard errors
    from the goal, or there are MOST: the first 100 starts, the same for all, may be easy or hard.
    """
    G = play(env, act, n)
    near = lambda: abs(G.mean() - goal) < FAR * standard_error(G)
    while goal is not None and len(G) < MOST and near():
        G = np.append(G, play(env, act, n, seed=UNUSED + len(G)))
    return float(G.mean()), standard_error(G), len(G)


def evaluate(page, env, config, state, goal=None):
    """Mean returns with the policy learned, as it is (see `judge`), and of 100 episodes by its
    mode, and their standard errors."""
    act = partial(player, page, env, config, state)
    mean, error, n = judge(env, act(False), goal)
    greedy, greedy_error, _ = judge(env, act(True))
    found = dict(evaluation=mean, evaluation_error=error, evaluation_episodes=n)
    return found | dict(evaluation_greedy=greedy, evaluation_greedy_error=greedy_error)


def learn(page, env, config, seed, goal, most=np.inf, clock=time.process_time, scale=1.0):
    """Let a page learn until it ends, or has made `most` steps: (State, measures).

    The measures are of the mean of the last 100 training returns, each divided by `scale`: its last
    value, where it first was at the goal (None: nowhere), and its curve. Seconds count from the
    first report on, since processes take a moment to begin.
    """
    state, rows, first = page.init(env, config, seed), [], 0
    for metrics in page.train(env, config, state):
        if not first and metrics.steps:
            first, start = metrics.steps, clock()
        rows += [(metrics.steps, clock() - start, G / scale) for G in metrics.returns]
        if metrics.steps >= most:
            break
    seconds, last = clock() - start, metrics.steps
    steps, times, returns = np.array(rows).T
    means = running_mean(returns, WINDOW)
    k = episodes_until(returns, goal)
    points = np.linspace(0, len(means) - 1, min(POINTS, len(means))).astype(int)
    return state, dict(
        seed=seed,
        return_last_100=float(means[-1]),
        seconds=seconds,
        steps_per_second=(last - first) / seconds,
        steps_until_reached=k and int(steps[k - 1]),
        episodes_until_reached=k,
        seconds_until_reached=k and float(times[k - 1]),
        curve=dict(steps=steps[points].astype(int).tolist(), means=means[points].round(1).tolist()),
    )


def episodes_until(returns, level):
    """The number of episodes until the mean of the latest 100 is at a level; None: never."""
    means = running_mean(returns, WINDOW)[WINDOW - 1 :] if len(returns) >= WINDOW else np.empty(0)
    at = np.flatnonzero(means >= level - 1e-9)
    return int(at[0]) + WINDOW if at.size else None


def table(head, rows):
    """Return a table in Markdown, one line for each row of words."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def minus(text):
    """Replace hyphens before numbers by minus signs."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def maybe(x, form=",.0f"):
    """x in words, a dash for None."""
    return "–" if x is None else f"{x:{form}}"


def median(values):
    """The median, where None counts as infinite; None if it is that."""
    middle = float(np.median([np.inf if x is None else x for x in values]))
    return middle if np.isfinite(middle) else None


def largest_error(runs, name):
    """The largest standard error of the runs' scores, in words; older records have none."""
    errors = [run[name] for run in runs if name in run]
    return f"≤ {max(errors):.1f}" if errors else "–"


def by_seed(runs, goal):
    """Return a table of the measures of runs, a row for each seed, and how many reach the goal."""
    names = [name for name, x in runs[0].items() if not isinstance(x, dict)]
    cell = lambda x: maybe(x, ",.1f" if isinstance(x, float) else ",")
    rows = [[cell(run[name]) for name in names] for run in runs]
    rows.append(["median", *(cell(median([run[name] for run in runs])) for name in names[1:])])
    solved = sum(run["evaluation"] >= goal for run in runs)
    head = [name.replace("_", " ") for name in names]
    return f"{table(head, rows)}\n{solved} of {len(runs)} seeds evaluate at {goal:g} or more.\n"


def bootstrap_band(curves, rng: np.random.Generator, resamples: int = 2000, level: float = 0.95):
    """Return the percentile confidence band (low, high) of the mean over runs, each (n,).

    curves is (runs, n). Whole runs are drawn with replacement (Efron 1979), because the points of
    one curve are dependent.
    """
    drawn = rng.integers(len(curves), size=(resamples, len(curves)))
    weights = np.stack([np.bincount(d, minlength=len(curves)) for d in drawn]) / len(curves)
    return np.quantile(weights @ curves, [(1 - level) / 2, (1 + level) / 2], axis=0)


def subplots(rows=1, columns=1, size=(8, 4.8), **how):
    """Return plt.subplots with axes that are open above and at the right."""
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        return plt.subplots(rows, columns, figsize=size, layout="constrained", **how)


def in_steps(axis):
    """Write the numbers of an axis as 20k, 1M."""
    axis.set_major_formatter(EngFormatter(sep=""))


def band(ax, x, curves, colour, label, thin=False):
    """Draw the mean over runs of curves (runs, n) with its 95 % bootstrap band; thin: each run."""
    if len(curves) > 1:
        ends = bootstrap_band(curves, np.random.default_rng(0))
        ax.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    if thin:
        ax.plot(x, curves.T, color=colour, alpha=0.3, linewidth=0.8)
    ax.plot(x, curves.mean(0), color=colour, linewidth=2, label=label)


def draw(runs, title, goal, path):
    """Draw the learning curves of runs, as `learn` gives them."""
    fig, ax = subplots()
    curves = [run["curve"] for run in runs]
    grid = np.linspace(max(c["steps"][0] for c in curves), min(c["steps"][-1] for c in curves), 300)
    means = np.array([np.interp(grid, c["steps"], c["means"]) for c in curves])
    label = f"mean of {len(runs)} seeds, 95 % bootstrap band; thin: each seed"
    band(ax, grid, means, COLOURS[0], label, thin=True)
    ax.axhline(goal, color="black", ls="--", lw=1, label=f"threshold, {goal:g}")
    ax.set_title(title, loc="left")
    ax.set(xlabel="environment steps", ylabel=f"return, mean of the last {WINDOW} episodes")
    in_steps(ax.xaxis)
    ax.margins(x=0.01)
    ax.legend(frameon=False, loc="lower right")
    fig.savefig(path, dpi=120)
