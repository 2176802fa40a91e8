"""What the studies share. A study is a table of Rows: methods that learn, on seeds 0, 1, ....

    Row, Study, main   what learns where, until when; how it is measured and shown; the command
    learned, watched   what is measured of one run: its training, or its mode on the way
    judge, play        episodes with a policy
    publish            results/NAME.json, .md and .png
    dress, band        the one style of all pictures

Settings are presets (algorithms/runner/presets.py), tuned on seeds from 100 up.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import getitem
from typing import NamedTuple

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from gymnasium.vector import SyncVectorEnv
from matplotlib.ticker import EngFormatter

import algorithms.exact.register  # noqa: F401  (the worlds by their ids)
from algorithms.common.worlds import close, vectorized
from algorithms.runner import plot
from algorithms.runner.environments import parse_wrap, wrapper_class
from algorithms.runner.lookup import METHODS, load_method
from algorithms.runner.plot import COLOURS, running_mean
from algorithms.runner.presets import configured, preset
from benchmarks import record
from benchmarks.record import load

WINDOW = EPISODES = 100
OURS, SB3 = "npgrad", "Stable-Baselines3"
FAR, MOST = 3.0, 1000  # standard errors from a goal that tell on which side of it a mean is
UNUSED = 10**6  # by learning: the first seed of the episodes that are played
POINTS = 60  # of a learning curve that is recorded
HELP = dict(
    draw="draw what is recorded, run nothing",
    jobs="processes",
    minutes="in all, at least",
    quick="run a little of everything, record nothing",
    seeds="number of seeds: 0, 1, ...",
    steps="of every run, to try a study out",
    strangers="number of damaged run folders",
    times="number of times that every other fault is made",
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


@dataclass(frozen=True)
class Row:
    """A row of a study: a method learns in an environment, until its preset's steps are made.

    Its settings are those of a preset, with changes; with variant None the method's defaults. It
    learns in the preset's wrappers; it is judged without the cost and the scale of SoftBounds.
    """

    method: str
    env: str
    goal: float | None = None
    variant: str | None = ""
    changes: Mapping = field(default_factory=dict)
    steps: int = 0  # 0: the preset's
    every: float = np.inf  # steps from one evaluation to the next while it learns
    episodes: int = 20  # of such an evaluation
    final: int = EPISODES  # of the last one, at least
    who: str = OURS

    @cached_property
    def page(self):
        return load_method(self.method, METHODS)

    @property
    def preset(self):
        return None if self.variant is None else (self.method, self.env, self.variant)

    @cached_property
    def config(self):
        found = configured(*self.preset) if self.preset else self.page.Config()
        steps = dict(T_max=self.steps) if self.steps and hasattr(found, "T_max") else {}
        return replace(found, **steps | self.changes)

    @property
    def length(self):
        return self.steps or preset(*self.preset).steps

    @property
    def parallel(self):
        """Whether its workers are processes."""
        return getattr(self.config, "driver", "") == "processes"

    def described(self):
        """Return what is recorded of a row."""
        names = "who", "method", "env", "goal"
        found = {name: getattr(self, name) for name in names}
        return found | dict(steps=self.length, config=repr(self.config))

    def make(self, learned=False):
        """Return an environment to learn in, or to judge in."""
        env = gymnasium.make(self.env)
        for name, arguments in map(parse_wrap, preset(*self.preset).wrap if self.preset else ()):
            if learned or name != "SoftBounds":
                env = wrapper_class(name, None)(env, **arguments)
        return env

    def begin(self, seed):
        """Return (environment, new State)."""
        env = self.make(learned=True)
        return env, self.page.init(env, self.config, seed)

    def act(self, state, greedy):
        """Return act(S) at the parameters that the State has by then."""
        return player(self.page, self.make(), self.config, state, greedy)


class Study(NamedTuple):
    """Rows that learn: one record, results/NAME.json, with its table and its picture."""

    rows: Mapping  # {label: Row}
    run: Callable  # (row, seed) -> dict: what is measured
    text: Callable | None = None  # [Recorded] -> Markdown
    picture: Callable | None = None  # [Recorded] -> figure
    seeds: int = 10


class Whole(NamedTuple):
    """A study that is measured as a whole, by arithmetic of its own."""

    measure: Callable  # (seeds, jobs) -> dict: the record
    text: Callable | None = None  # record -> Markdown
    picture: Callable | None = None  # record -> figure, or {suffix of its name: figure}
    seeds: int = 10


class Recorded:
    """A row as it is recorded: label, who, method, env, goal, steps, config and runs."""

    def __init__(self, label, record):
        self.label, self.runs = label, []
        vars(self).update(record)

    def of(self, *path):
        """Return what all runs have under a name, or under names within names."""
        return [reduce(getitem, path, run) for run in self.runs]

    def solved(self):
        """Return how many runs evaluate at the goal."""
        return sum(x >= self.goal for x in self.of("evaluation"))


def recorded(name):
    """Return [Recorded] of results/NAME.json."""
    return [Recorded(*item) for item in load(name)["rows"].items()]


def main(doc, studies, prefix=""):
    """Run the studies {word: Study} that the command line names, or the rows of the only one, and
    show what is recorded."""
    first = lambda label: label.partition(",")[0]
    only, *more = studies.items()
    rows = getattr(only[1], "rows", {}) if not more else {}
    given = options(doc, dict.fromkeys(map(first, rows)) or (studies if more else ()),
                    seeds=0, jobs=1, steps=0, draw=False)  # fmt: skip
    for word, study in studies.items():
        name, seeds = prefix + word, given.seeds or study.seeds
        if more and word not in given.parts:
            continue
        if isinstance(study, Whole):
            results = None if given.draw else study.measure(seeds, given.jobs)
            publish(name, results)
        elif not given.draw:
            rows = {k: x for k, x in study.rows.items() if more or first(k) in given.parts}
            perform(name, study, shortened(rows, given.steps), seeds, given.jobs)
        present(name, study)


def shortened(rows, steps):
    """Return rows that end after so many steps, if that is not 0, and are watched as often."""
    cut = lambda row: dict(steps=steps, every=row.every * steps / row.length)
    return {label: replace(row, **cut(row)) if steps else row for label, row in rows.items()}


def perform(name, study, rows, seeds, jobs):
    """Run rows on seeds 0, 1, ..., those of a seed in turn, and record them as they end."""
    found = (load(name) or {}).get("rows", {})
    found |= {label: row.described() | dict(runs=[]) for label, row in rows.items()}
    found = {label: found[label] for label in study.rows if label in found}
    alone = {label for label, row in rows.items() if row.parallel}
    for labels, n in ((alone, 1), (set(rows) - alone, jobs)):
        todo = [(label, seed) for seed in range(seeds) for label in rows if label in labels]
        runs = mapped(study.run, [(rows[label], seed) for label, seed in todo], n)
        for (label, seed), run in zip(todo, runs):
            found[label]["runs"].append(show(label, dict(seed=seed) | run))
            publish(name, dict(rows=found))


def present(name, study):
    """Write the table and the pictures of what is recorded."""
    found = load(name) if isinstance(study, Whole) else recorded(name)
    figures = study.picture(found) if study.picture else {}
    if not isinstance(figures, dict):
        figures = {"": figures}
    publish(name, None, study.text(found) if study.text else "")
    for suffix, figure in figures.items():
        publish(name + suffix, figure=figure)


def columns(cells, rows):
    """Return a table with a column for each of cells, {head: Recorded -> words}."""
    return table(list(cells), [[str(cell(row)) for cell in cells.values()] for row in rows])


def mapped(run, jobs, n):
    """Yield run(*job) of all jobs, in order, from n processes."""
    if n == 1:
        yield from (run(*job) for job in jobs)
        return
    with ProcessPoolExecutor(n) as pool:
        yield from pool.map(run, *zip(*jobs))


def gather(name, settings, jobs, run):
    """Return {words of a job: run(*job)} for all jobs, and record each in results/NAME.json as it
    ends. A job that is recorded there with the same settings is not run again."""
    found, runs = load(name), {}
    if found and found["settings"] == json.loads(json.dumps(settings)):
        runs = found["runs"]
    for job in jobs:
        key = " ".join(map(str, job))
        if key not in runs:
            runs[key] = show(key, run(*job))
            publish(name, dict(settings=settings, runs=runs))
    return runs


def kept(name, key, order, made, **more):
    """Return what results/NAME.json has under `key`, with the (part, results) of `made`; each is
    recorded as it comes, in order, and what is not made anew stays."""
    found = (load(name) or {key: {}})[key]
    for part, results in made:
        found[part] = results
        found = {part: found[part] for part in order if part in found}
        publish(name, {key: found}, **more)
    return found


def publish(name, results=None, text="", figure=None, packages=("numpy", "gymnasium")):
    """Write results/NAME.json, .md and .png, those that are given. Print the text."""
    if results is not None:
        record.save(name, record.module(), results, packages)
    if text:
        print(text, flush=True)
        (record.RESULTS / f"{name}.md").write_text(text)
    if figure is not None:
        plot.save(figure, record.RESULTS / f"{name}.png")
        plt.close(figure)


def show(key, found):
    """Print the numbers and words of a run, without its lists and curves; return the run."""
    short = {name: x for name, x in found.items() if not isinstance(x, (list, dict))}
    print(f"{key}: {short}", flush=True)
    return found


def episodes(training):
    """Return the reports of a page's `train` in which an episode ended."""
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


def random_score(env_id):
    """Return the mean return of uniformly random actions."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    return float(play(env, lambda S: np.array([env.action_space.sample() for _ in S])).mean())


def player(page, env, config, state, greedy):
    """Return act(S) of a page, at the parameters that its State has by then."""
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
    """Return the standard error of the mean of G, nan for one number."""
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


def evaluated(row, act, env=None):
    """Return the mean return of the row's `final` episodes or more (see `judge`)."""
    mean, error, n = judge(env or row.make(), act, row.goal, row.final)
    return dict(evaluation=mean, evaluation_error=error, evaluation_episodes=n)


def learned(row, seed):
    """Return what is measured of a run: its training (see `learn`), the policy learned, and 100
    episodes by its mode; of asynchronous methods the staleness of their updates too."""
    state, found = learn(row, seed, time.perf_counter if row.parallel else time.process_time)
    found |= evaluated(row, row.act(state, greedy=False))
    greedy, error, _ = judge(row.make(), row.act(state, greedy=True))
    found |= dict(evaluation_greedy=greedy, evaluation_greedy_error=error)
    if hasattr(state, "staleness"):
        found |= dict(staleness=np.trim_zeros(state.staleness.sum(0), "b").tolist())
    return found


def learn(row, seed, clock=time.process_time):
    """Let a row learn until its page ends, or it has made its steps: (State, measures).

    The measures are of the mean of the last 100 training returns, without the scale of a wrapper:
    its last value, where it first was at the goal (None: nowhere), and its curve. Seconds count
    from the first report on, since processes take a moment to begin.
    """
    config, (env, state), rows, first = row.config, row.begin(seed), [], 0
    most, scale = np.inf if hasattr(config, "T_max") else row.length, getattr(env, "scale", 1.0)
    for metrics in row.page.train(env, config, state):
        if not first and metrics.steps:
            first, start = metrics.steps, clock()
        rows += [(metrics.steps, clock() - start, G / scale) for G in metrics.returns]
        if metrics.steps >= most:
            break
    seconds, last = clock() - start, metrics.steps
    steps, times, returns = np.array(rows).T
    means = running_mean(returns, WINDOW)
    k = episodes_until(returns, row.goal)
    points = np.linspace(0, len(means) - 1, min(POINTS, len(means))).astype(int)
    return state, dict(
        return_last_100=float(means[-1]),
        seconds=seconds,
        steps_per_second=(last - first) / seconds,
        steps_until_reached=k and int(steps[k - 1]),
        episodes_until_reached=k,
        seconds_until_reached=k and float(times[k - 1]),
        curve=dict(steps=steps[points].astype(int).tolist(), means=means[points].round(1).tolist()),
    )


class Watch:
    """Scores act(S) after every so many steps of a run, with the clock stopped: the curve."""

    def __init__(self, row, act):
        self.row, self.act, self.env, self.recent = row, act, row.make(), []
        self.curve, self.seconds = dict(steps=[], seconds=[], scores=[], training=[]), 0.0
        self.start = time.process_time()

    def __call__(self, steps, returns=()):
        """Take the number of steps and the returns of a report; return whether there is more to
        do."""
        self.recent += returns
        if steps >= min(self.row.every * (len(self.curve["steps"]) + 1), self.row.length):
            self.seconds += time.process_time() - self.start
            score = float(play(self.env, self.act, self.row.episodes).mean())
            training = round(float(np.mean(self.recent)), 2) if self.recent else None
            point = steps, round(self.seconds, 3), round(score, 2), training
            for name, x in zip(self.curve, point):
                self.curve[name].append(x)
            self.recent, self.start = [], time.process_time()
        return steps < self.row.length

    def measured(self):
        """Return what is measured of the run."""
        found = dict(curve=self.curve, seconds=round(self.seconds, 1))
        return found | evaluated(self.row, self.act, self.env)


def watched(row, seed, reports=lambda training: training, each=lambda watch, state: True):
    """Let a row learn and score its mode: (State, Watch). `reports` chooses among what the page
    reports; each(watch, state) says after a report whether to go on."""
    env, state = row.begin(seed)
    watch = Watch(row, row.act(state, greedy=True))
    for metrics in reports(row.page.train(env, row.config, state)):
        if not watch(metrics.steps, metrics.returns) or not each(watch, state):
            break
    return state, watch


def episodes_until(returns, level):
    """Return the number of episodes until the mean of the latest 100 is at a level; None: never."""
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
    """Return x in words, a dash for None."""
    return "–" if x is None else f"{x:{form}}"


def spread(x, form):
    """Return mean ± s.d. in words."""
    return f"{np.mean(x):{form}} ± {np.std(x, ddof=1):{form}}"


def median(values):
    """Return the median, where None counts as infinite; None if it is that."""
    middle = float(np.median([np.inf if x is None else x for x in values]))
    return middle if np.isfinite(middle) else None


def largest_error(runs, name="evaluation_error"):
    """Return the largest standard error of the runs' scores, in words; older records have none."""
    errors = [run[name] for run in runs if name in run]
    return f"≤ {max(errors):.1f}" if errors else "–"


def by_seed(rows):
    """Return a table of the measures of a row's runs, one for each seed, and how many reach the
    goal."""
    (row,) = rows
    names = [name for name, x in row.runs[0].items() if not isinstance(x, (dict, list))]
    cell = lambda x: maybe(x, ",.1f" if isinstance(x, float) else ",")
    lines = [[cell(run[name]) for name in names] for run in row.runs]
    lines.append(["median", *(cell(median(row.of(name))) for name in names[1:])])
    text = table([name.replace("_", " ") for name in names], lines)
    if row.goal is None:
        return text
    solved = f"{row.solved()} of {len(row.runs)} seeds evaluate"
    return f"{text}\n{solved} at {row.goal:g} or more.\n"


def bootstrap_band(curves, rng: np.random.Generator, resamples: int = 2000, level: float = 0.95):
    """Return the percentile confidence band (low, high) of the mean over runs, each (n,).

    curves is (runs, n). Whole runs are drawn with replacement (Efron 1979), because the points of
    one curve are dependent.
    """
    drawn = rng.integers(len(curves), size=(resamples, len(curves)))
    weights = np.stack([np.bincount(d, minlength=len(curves)) for d in drawn]) / len(curves)
    return np.quantile(weights @ curves, [(1 - level) / 2, (1 + level) / 2], axis=0)


def interval(x):
    """Return (low, high), the 95 % bootstrap interval of the mean of x (n,)."""
    return bootstrap_band(np.reshape(x, (-1, 1)), np.random.default_rng(0))[:, 0]


def subplots(rows=1, columns=1, size=(8, 4.8), **how):
    """Return plt.subplots with axes that are open above and at the right."""
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        return plt.subplots(rows, columns, figsize=size, dpi=150, layout="constrained", **how)


def dress(ax, title="", legend=None, steps="", **settings):
    """Label axes: a title at the left, a legend without frame (its place, or its options), and
    20k, 1M on the axes named in `steps` ("x", "y"); ax.set takes the rest."""
    ax.set(**settings)
    ax.set_title(title, loc="left", fontsize=11)
    for name in steps:
        getattr(ax, f"{name}axis").set_major_formatter(EngFormatter(sep=""))
    if legend is not None:
        ax.legend(frameon=False, **(dict(loc=legend) if isinstance(legend, str) else legend))


def band(ax, x, curves, colour, label, thin=False):
    """Draw the mean over runs of curves (runs, n) with its 95 % bootstrap band; thin: each run."""
    if len(curves) > 1:
        ends = bootstrap_band(curves, np.random.default_rng(0))
        ax.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    if thin:
        ax.plot(x, curves.T, color=colour, alpha=0.3, linewidth=0.8)
    ax.plot(x, curves.mean(0), color=colour, linewidth=2, label=label)


def goal_line(ax, goal, **style):
    """Draw a dashed line at a threshold."""
    style = dict(color="black", ls="--", lw=1, label=f"threshold, {goal:g}") | style
    ax.axhline(goal, **style)


def picture(rows):
    """Draw the learning curves of one row's runs, as `learn` gives them."""
    (row,), (fig, ax) = rows, subplots()
    curves = row.of("curve")
    grid = np.linspace(max(c["steps"][0] for c in curves), min(c["steps"][-1] for c in curves), 300)
    means = np.array([np.interp(grid, c["steps"], c["means"]) for c in curves])
    label = f"mean of {len(curves)} seeds, 95 % bootstrap band; thin: each seed"
    band(ax, grid, means, COLOURS[0], label, thin=True)
    goal_line(ax, row.goal)
    ax.margins(x=0.01)
    dress(ax, f"{row.method} on {row.env}", "lower right", "x", xlabel="environment steps",
          ylabel=f"return, mean of the last {WINDOW} episodes")  # fmt: skip
    return fig
