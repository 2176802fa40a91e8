"""What the methods learn, by steps and by seconds, beside Stable-Baselines3 and published figures.

    python -m benchmarks.learning [METHOD ...] [--env ID] [--steps N] [--seeds 10] [--jobs 2]
                                  [--quick] [--draw]

METHOD is of reinforce, actor_critic (traces), async_q (n-step Q, 8 workers in turn), a3c (2 workers
in turn), a2c: CartPole-v1; and ddpg: Pendulum-v1. Shipped defaults, or the settings that
benchmarks.asynchronous, .a2c and .ddpg record; all were tuned on seeds from 100 up, reported are
seeds 0, 1, .... a2c and ddpg also run in Stable-Baselines3 where it is installed, with the same
hyper-parameters, networks, distribution of first weights and noise (torch_twins/baselines.py); for
that ddpg's critic has the action at its first layer.
--env and --steps take another environment, or number of steps, for the methods named.

Score: the mean return of the policy's mode, no exploration: of 20 episodes at each of 15 points of
a run, of 100 or more (study.judge) at its end, on seeds of their own. Seconds are processor time of
training alone, one thread: acting, environment, learning. Runs are aggregated as rliable does it
(Agarwal et al. 2021): interquartile mean, the mean of the middle half of all runs; its 95 %
interval by stratified bootstrap, which draws whole runs anew within each task
(algorithms.runner.scores).

Writes results/learning.json after each contestant, .md and .png; of methods not named, the runs
recorded stay. --quick runs a little of everything and records nothing.
"""

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import gymnasium
import numpy as np

import algorithms.exact.register  # noqa: F401
from algorithms.runner.plot import COLOURS, at_steps
from algorithms.runner.presets import configured
from algorithms.runner.scores import interval, iqm
from benchmarks import study
from benchmarks.record import RESULTS, save

POINTS, AT_A_POINT = 15, 20
OURS, SB3 = "npgrad", "Stable-Baselines3"
TORCH = ("stable-baselines3", "torch") if find_spec("stable_baselines3") else ()
GOALS = {"CartPole-v1": 475.0, "Pendulum-v1": -160.0}
ZOO = "[RL Baselines3 Zoo](https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md)"
PUBLISHED = {
    "a2c, CartPole-v1": f"500 after 500,000 steps, one run ({ZOO})",
    "ddpg, Pendulum-v1": f"−152.1 after 20,000 steps, one run ({ZOO})",
}


class Task(NamedTuple):
    page: str  # of algorithms
    config: object
    env: str
    steps: int
    contestants: tuple = (OURS,)


CAR, BOTH = "CartPole-v1", (OURS, SB3) if TORCH else (OURS,)
PARALLEL = configured("a3c", CAR)
TASKS = {
    "reinforce": Task("reinforce", configured("reinforce", CAR), CAR, 100_000),
    "actor_critic": Task("actor_critic", configured("actor-critic-traces", CAR), CAR, 100_000),
    "async_q": Task("async_q", configured("async-n-step-q", CAR), CAR, 500_000),
    "a3c": Task("a3c", replace(PARALLEL, driver="round-robin"), CAR, PARALLEL.T_max),
    "a2c": Task("a2c", configured("a2c", CAR, "sync"), CAR, 120_000, BOTH),
    "ddpg": Task("ddpg", configured("ddpg", "Pendulum-v1", "early"), "Pendulum-v1", 6_000, BOTH),
}


class Watch:
    """Scores act(S) at POINTS of its training, with the clock stopped."""

    def __init__(self, env, steps, act):
        self.env, self.total, self.act = env, steps, act
        self.steps, self.seconds, self.scores, self.spent = [], [], [], 0.0
        self.start = time.process_time()

    def __call__(self, steps):
        """Called after every report; returns whether there is more to do."""
        if steps >= self.total * (len(self.steps) + 1) / POINTS:
            self.spent += time.process_time() - self.start
            self.steps.append(steps)
            self.seconds.append(round(self.spent, 3))
            self.scores.append(round(float(study.play(self.env, self.act, AT_A_POINT).mean()), 1))
            self.start = time.process_time()
        return steps < self.total


def page(task, seed):
    """One run of a page, watched."""
    method, env = import_module(f"algorithms.{task.page}"), gymnasium.make(task.env)
    state = method.init(env, task.config, seed)
    act = study.player(method, env, task.config, state, greedy=True)
    watch = Watch(gymnasium.make(task.env), task.steps, act)
    for metrics in method.train(env, task.config, state):
        if not watch(metrics.steps):
            break
    return watch


def stable_baselines3(task, seed):
    """The same in Stable-Baselines3."""
    import torch

    from benchmarks.torch_twins import baselines

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # what decays in its moments; the pages see to that themselves
    model = baselines.baseline(task.env, task.config, seed)
    steps = lambda: model.env.steps if task.page == "a2c" else model.num_timesteps
    mode = lambda S: model.predict(S, deterministic=True)[0]
    watch = Watch(gymnasium.make(task.env), task.steps, mode)
    baselines.train(model, 2 * task.steps, lambda: watch(steps()))
    torch.set_flush_denormal(False)  # the next run in this process may be a page's
    return watch


def run(task, who, seed):
    """One run as a dict."""
    watch = (page if who == OURS else stable_baselines3)(task, seed)
    score, error, n = study.judge(watch.env, watch.act, GOALS.get(task.env))
    judged = dict(score=round(score, 2), error=round(error, 2), episodes=n)
    return dict(**judged, steps=watch.steps, seconds=watch.seconds, scores=watch.scores)


def curve(runs, by, spaced=np.linspace):
    """(grid, iqm, interval) of the scores at the latest point before each of grid, for as long as
    all runs lasted; by is "steps" or "seconds"."""
    first, last = max(r[by][0] for r in runs), min(r[by][-1] for r in runs)
    grid = spaced(first, last, 60)
    scores = [at_steps(grid, np.array(r[by]), np.array(r["scores"])) for r in runs]
    scores = np.stack(scores, -1)
    return grid, iqm(scores), interval([scores], np.random.default_rng(0))


def reached(runs, by, goal):
    """Return where the interquartile mean reaches the goal for good."""
    grid, middle, _ = curve(runs, by)
    below = np.flatnonzero(middle < goal)
    first = below[-1] + 1 if below.size else 0
    return float(grid[first]) if first < len(grid) else None


HEAD = "method", "", "score at the end, IQM [95 %]", "worst run", "s.e. of a run"
HEAD += ("runs at the goal",)
HEAD += "steps until the IQM stays there", "seconds until then", "seconds per 100,000 steps"
HEAD += ("published",)


def table(contestants):
    """Markdown, a row for each contestant; and what those in Stable-Baselines3 come to together."""
    rows, until = [], lambda runs, by, goal: None if goal is None else reached(runs, by, goal)
    for c in contestants.values():
        runs, goal = c["runs"], c["goal"]
        scores = np.array([r["score"] for r in runs])
        low, high = interval([scores], np.random.default_rng(0))
        pace = np.median([1e5 * r["seconds"][-1] / r["steps"][-1] for r in runs])
        rows.append((
            f"{c['method']}, {c['env']}", c["who"],
            f"{iqm(scores):.0f} [{low:.0f}, {high:.0f}] of {len(runs)} runs",
            f"{scores.min():.0f}",
            study.largest_error(runs, "error"),
            "–" if goal is None else f"{np.sum(scores >= goal)} at {goal:g} or more",
            study.maybe(until(runs, "steps", goal)),
            study.maybe(until(runs, "seconds", goal), ".1f"),
            f"{pace:.1f}",
            PUBLISHED.get(f"{c['method']}, {c['env']}", "–"),
        ))  # fmt: skip
    return study.minus(f"{study.table(HEAD, rows)}{together(contestants)}")


def together(contestants):
    """Both who run the same tasks: IQM over all of them, a random policy being 0, the goal 1."""
    shared = [c for c in contestants.values() if c["who"] == SB3 and c["goal"] is not None]
    if not shared:
        return ""
    text = []
    for who in (OURS, SB3):
        normal = []
        for c in shared:
            runs = contestants[f"{c['method']}, {c['env']}, {who}"]["runs"]
            zero, one = c["random"], c["goal"]
            normal.append(np.array([(r["score"] - zero) / (one - zero) for r in runs]))
        low, high = interval(normal, np.random.default_rng(0))
        text.append(f"{who} {iqm(np.concatenate(normal)):.3f} [{low:.3f}, {high:.3f}]")
    names = " and ".join(f"{c['method']} on {c['env']}" for c in shared)
    return f"\n{names} together, 0 a random policy and 1 the goal: {', '.join(text)}.\n"


def draw_curves(contestants):
    envs = list(dict.fromkeys(c["env"] for c in contestants.values()))
    fig, axes = study.subplots(len(envs), 2, (13, 4.6 * len(envs)), squeeze=False)
    methods = list(dict.fromkeys(c["method"] for c in contestants.values()))
    for (left, right), env in zip(axes, envs):
        for c in (c for c in contestants.values() if c["env"] == env):
            colour, ours = COLOURS[methods.index(c["method"])], c["who"] == OURS
            style = dict(color=colour, ls="-" if ours else "--", lw=2)
            for ax, by in ((left, "steps"), (right, "seconds")):
                grid, middle, band = curve(c["runs"], by, np.geomspace)
                ax.fill_between(grid, *band, color=colour, alpha=0.13, lw=0)
                label = c["method"] + ("" if ours else f", {c['who']}")
                ax.plot(grid, middle, **style, label=label)
        for ax in (left, right):
            if c["goal"] is not None:
                ax.axhline(c["goal"], color="black", ls=":", lw=1)
                ax.annotate("goal", (0, c["goal"]), (4, 3), ("axes fraction", "data"),
                            textcoords="offset points", fontsize=9)  # fmt: skip
        left.set(xlabel="environment steps", xscale="log")
        left.set(ylabel="score: return of the policy's mode")
        left.set_title(f"{env}: IQM of {len(c['runs'])} runs, 95 % bands", loc="left")
        study.in_steps(left.xaxis)
        left.xaxis.set_minor_formatter("")
        right.set(xlabel="seconds of processor time, training alone", xscale="log")
        right.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        left.legend(frameon=False, loc="lower right")
    fig.savefig(RESULTS / "learning.png", dpi=130)


def random_score(env_id):
    """The mean return of uniformly random actions."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    act = lambda S: np.array([env.action_space.sample() for _ in S])
    return float(study.play(env, act).mean())


def compete(chosen, seeds, jobs):
    """Yields (name, contestant with its runs), one after the other."""
    entries = [(name, task, who) for name, task in chosen.items() for who in task.contestants]
    with ProcessPoolExecutor(jobs) as pool:
        futures = [[pool.submit(run, t, who, k) for k in range(seeds)] for _, t, who in entries]
        for (name, task, who), runs in zip(entries, futures):
            contestant = dict(
                method=name,
                who=who,
                env=task.env,
                goal=GOALS.get(task.env, gymnasium.spec(task.env).reward_threshold),
                random=random_score(task.env),
                config=repr(task.config),
                runs=[future.result() for future in runs],
            )
            yield f"{name}, {task.env}, {who}", contestant


def main():
    given = study.options(
        __doc__, TASKS, env="", steps=0, seeds=10, jobs=2, quick=False, draw=False
    )
    chosen = {}
    for name in given.parts:
        task = TASKS[name]
        steps = given.steps or (task.steps // 40 if given.quick else task.steps)
        config = replace(task.config, T_max=steps) if hasattr(task.config, "T_max") else task.config
        chosen[name] = task._replace(env=given.env or task.env, steps=steps, config=config)
    if given.quick:
        return print(table(dict(compete(chosen, 2, given.jobs))))
    path, found = RESULTS / "learning.json", {}
    if path.exists():
        found = json.loads(path.read_text())["contestants"]
    for name, contestant in () if given.draw else compete(chosen, given.seeds, given.jobs):
        found[name] = contestant
        print(name, sorted(r["score"] for r in contestant["runs"]), flush=True)
        packages = "numpy", "gymnasium", *TORCH
        save(path.stem, "benchmarks.learning", dict(contestants=found), packages)
    found = dict(sorted(found.items(), key=lambda entry: list(TASKS).index(entry[1]["method"])))
    text = table(found)
    print(text)
    path.with_suffix(".md").write_text(text)
    draw_curves(found)


if __name__ == "__main__":
    main()
