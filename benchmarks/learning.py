"""What the methods learn, by steps and by seconds, beside Stable-Baselines3 and published figures.

    python -m benchmarks.learning [METHOD ...] [--env ID] [--steps N] [--seeds 10] [--jobs 2]
                                  [--quick] [--draw]

METHOD is of reinforce, actor_critic (traces), async_q (n-step Q, 8 workers in turn), a3c (2 workers
in turn), a2c: CartPole-v1; and ddpg: Pendulum-v1. Shipped defaults, or the settings that
benchmarks.asynchronous, .a2c and .ddpg record; all were tuned on seeds from 100 up, reported are
seeds 0, 1, .... a2c and ddpg also run in Stable-Baselines3 where it is installed, with the same
hyper-parameters, networks, distribution of first weights and noise (torch_twins/a2c.py,
ddpg_baseline.py); for that ddpg's critic has the action at its first layer.
--env and --steps take another environment, or number of steps, for the methods named.

Score: the mean return of the policy's mode, no exploration: of 20 episodes at each of 15 points of
a run, of 100 at its end, on seeds of their own. Seconds are processor time of training alone, one
thread: acting, environment, learning. Runs are aggregated as rliable does it (Agarwal et al. 2021):
interquartile mean, the mean of the middle half of all runs; its 95 % interval by stratified
bootstrap, which draws whole runs anew within each task. (Written here: rliable itself needs
packages that no longer import together.)

Writes results/learning.json after each contestant, .md and .png; of methods not named, the runs
recorded stay. --quick runs a little of everything and records nothing. learn, markdown and draw
serve benchmarks.actor_critic and .a2c: one method, its training returns.
"""

import argparse
import json
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter

import algorithms.exact.register  # noqa: F401
from algorithms import a3c, actor_critic, async_q, reinforce
from algorithms.runner.plot import COLOURS, at_steps, bootstrap_band, running_mean
from benchmarks.record import RESULTS, save

WINDOW = EPISODES = 100
POINTS, AT_A_POINT, RESAMPLES = 15, 20, 2000
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


def tasks():
    """Settings from the benchmarks that recorded them, which themselves import this module."""
    from benchmarks.a2c import BASELINE
    from benchmarks.asynchronous import CARTPOLE, MANY, VALUE
    from benchmarks.ddpg import SMALL

    car, both = "CartPole-v1", (OURS, SB3) if TORCH else (OURS,)
    small = replace(SMALL, networks=replace(SMALL.networks, action_layer=1))
    return {
        "reinforce": Task("reinforce", reinforce.Config(), car, 100_000),
        "actor_critic": Task("actor_critic", actor_critic.Traces(), car, 100_000),
        "async_q": Task("async_q", async_q.NStepQ(**VALUE, **MANY), car, 500_000),
        "a3c": Task("a3c", a3c.Config(workers=2, **CARTPOLE), car, CARTPOLE["T_max"]),
        "a2c": Task("a2c", BASELINE, car, 120_000, both),
        "ddpg": Task("ddpg", small, "Pendulum-v1", 6_000, both),
    }


class Watch:
    """Scores a policy at POINTS of its training, with the clock stopped."""

    def __init__(self, env_id, steps, act):
        self.env_id, self.total, self.act = env_id, steps, act
        self.steps, self.seconds, self.scores, self.spent = [], [], [], 0.0
        self.start = time.process_time()

    def __call__(self, steps):
        """Called after every update; returns whether there is more to do."""
        if steps >= self.total * (len(self.steps) + 1) / POINTS:
            self.spent += time.process_time() - self.start
            self.steps.append(steps)
            self.seconds.append(round(self.spent, 3))
            self.scores.append(round(float(play(self.act, self.env_id, AT_A_POINT).mean()), 1))
            self.start = time.process_time()
        return steps < self.total


def play(act, env_id, episodes):
    """Returns of episodes played side by side, on seeds of their own (episodes,)."""
    kind = "vector_entry_point" if gymnasium.spec(env_id).vector_entry_point else "sync"
    envs = gymnasium.make_vec(env_id, num_envs=episodes, vectorization_mode=kind)
    S, _ = envs.reset(seed=10**6)
    total, going = np.zeros(episodes), np.ones(episodes, bool)
    while going.any():
        S, r, terminated, truncated, _ = envs.step(act(S))
        total += going * r
        going &= ~(terminated | truncated)
    envs.close()
    return total


def page(task, seed):
    """One run of a page, watched; and its policy's mode."""
    method, env = import_module(f"algorithms.{task.page}"), gymnasium.make(task.env)
    state, act = method.init(env, task.config, seed), method.actor(env, task.config)

    def mode(S):
        parameters = {name: getattr(state, name) for name in state.parameters}
        return np.array([act(parameters, s, None, True) for s in S])

    watch = Watch(task.env, task.steps, mode)
    for metrics in method.train(env, task.config, state):
        if not watch(metrics.steps):
            break
    return watch, mode


def stable_baselines3(task, seed):
    """The same in Stable-Baselines3."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    from benchmarks.torch_twins import a2c as a2c_twins
    from benchmarks.torch_twins import ddpg_baseline

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # what decays in its moments; the pages see to that themselves
    config = task.config
    if task.page == "a2c":
        envs = gymnasium.make_vec(
            task.env, num_envs=config.environments, vectorization_mode=config.vectorization
        )
        model = a2c_twins.baseline(envs, config, seed)
        model.env.seed_of_reset = seed
        steps = lambda: model.env.steps
    else:
        model = ddpg_baseline.baseline(gymnasium.make(task.env), config, seed)
        steps = lambda: model.num_timesteps
    mode = lambda S: model.predict(S, deterministic=True)[0]
    watch = Watch(task.env, task.steps, mode)

    class Callback(BaseCallback):
        def _on_step(self):
            return watch(steps())

    model.learn(2 * task.steps, callback=Callback())
    torch.set_flush_denormal(False)  # the next run in this process may be a page's
    return watch, mode


def run(task, who, seed):
    """One run as a dict."""
    watch, mode = (page if who == OURS else stable_baselines3)(task, seed)
    score = float(play(mode, task.env, EPISODES).mean())
    return dict(
        score=round(score, 2), steps=watch.steps, seconds=watch.seconds, scores=watch.scores
    )


def iqm(x):
    """Mean over the last axis of its middle half, int(n/4) entries being cut at either end."""
    x = np.sort(x, axis=-1)
    cut = x.shape[-1] // 4
    return x[..., cut : x.shape[-1] - cut].mean(-1)


def interval(tasks, rng):
    """95 % interval of the iqm over all runs of all tasks, a list of arrays (points, runs) or
    (runs,); each bootstrap sample draws every task's runs from its own."""
    draw = lambda n: rng.integers(n, size=(RESAMPLES, n))
    picks = np.concatenate([x[..., draw(x.shape[-1])] for x in tasks], axis=-1)
    return np.quantile(iqm(picks), [0.025, 0.975], axis=-1)


def curve(runs, by, spaced=np.linspace):
    """(grid, iqm, interval) of the scores at the latest point before each of grid, for as long as
    all runs lasted; by is "steps" or "seconds"."""
    first, last = max(r[by][0] for r in runs), min(r[by][-1] for r in runs)
    grid = spaced(first, last, 60)
    scores = [at_steps(grid, np.array(r[by]), np.array(r["scores"])) for r in runs]
    scores = np.stack(scores, -1)
    return grid, iqm(scores), interval([scores], np.random.default_rng(0))


def reached(runs, by, goal):
    """Where the interquartile mean is at the goal, and stays."""
    grid, middle, _ = curve(runs, by)
    below = np.flatnonzero(middle < goal)
    first = below[-1] + 1 if below.size else 0
    return float(grid[first]) if first < len(grid) else None


def table(contestants):
    """Markdown, a row for each contestant; and what those in Stable-Baselines3 come to together."""
    head = "method", "", "score at the end, IQM [95 %]", "worst run", "runs at the goal"
    head += "steps until the IQM stays there", "seconds until then", "seconds per 100,000 steps"
    head += ("published",)
    lines, show = [head, ("---",) * len(head)], lambda x, f: "–" if x is None else f"{x:{f}}"
    for c in contestants.values():
        runs, goal = c["runs"], c["goal"]
        scores = np.array([r["score"] for r in runs])
        low, high = interval([scores], np.random.default_rng(0))
        pace = np.median([1e5 * r["seconds"][-1] / r["steps"][-1] for r in runs])
        known = goal is not None
        lines.append((
            f"{c['method']}, {c['env']}", c["who"],
            f"{iqm(scores):.0f} [{low:.0f}, {high:.0f}] of {len(runs)} runs",
            f"{scores.min():.0f}",
            f"{np.sum(scores >= goal)} at {goal:g} or more" if known else "–",
            show(reached(runs, "steps", goal) if known else None, ",.0f"),
            show(reached(runs, "seconds", goal) if known else None, ".1f"),
            f"{pace:.1f}",
            PUBLISHED.get(f"{c['method']}, {c['env']}", "–"),
        ))  # fmt: skip
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return re.sub(r"(?<!\w)-(?=\d)", "−", f"{text}\n{together(contestants)}")


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
    fig, axes = plt.subplots(
        len(envs), 2, figsize=(13, 4.6 * len(envs)), layout="constrained", squeeze=False
    )
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
            ax.spines[["top", "right"]].set_visible(False)
        left.set(xlabel="environment steps", xscale="log")
        left.set(ylabel="score: return of the policy's mode")
        left.set_title(f"{env}: IQM of {len(c['runs'])} runs, 95 % bands", loc="left")
        left.xaxis.set_major_formatter(EngFormatter(sep=""))
        left.xaxis.set_minor_formatter("")
        right.set(xlabel="seconds of processor time, training alone", xscale="log")
        right.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        left.legend(frameon=False, loc="lower right")
    fig.savefig(RESULTS / "learning.png", dpi=130)


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


def random_score(env_id):
    """The mean return of uniformly random actions."""
    actions = gymnasium.make_vec(env_id, num_envs=EPISODES).action_space
    actions.seed(0)
    return float(play(lambda S: actions.sample(), env_id, EPISODES).mean())


def compete(chosen, seeds, jobs):
    """Yields (name, contestant with its runs), one after the other."""
    entries = [(name, task, who) for name, task in chosen.items() for who in task.contestants]
    with ProcessPoolExecutor(jobs) as pool:
        futures = [[pool.submit(run, t, who, k) for k in range(seeds)] for _, t, who in entries]
        for (name, task, who), runs in zip(entries, futures):
            yield (
                f"{name}, {task.env}, {who}",
                dict(
                    method=name,
                    who=who,
                    env=task.env,
                    goal=GOALS.get(task.env, gymnasium.spec(task.env).reward_threshold),
                    random=random_score(task.env),
                    config=repr(task.config),
                    runs=[future.result() for future in runs],
                ),
            )


def main():
    known = tasks()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(known))
    parser.add_argument("--env", metavar="ID", help="instead of each method's own")
    parser.add_argument("--steps", type=int, help="instead of each method's own")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--quick", action="store_true", help="a little, not recorded")
    parser.add_argument("--draw", action="store_true", help="draw what is recorded, run nothing")
    options = parser.parse_args()
    if odd := set(options.methods) - set(known):
        parser.error(f"METHOD = {', '.join(odd)}: must be of {', '.join(known)}")
    chosen = {name: known[name] for name in options.methods or known}
    for name, task in chosen.items():
        steps = options.steps or (task.steps // 40 if options.quick else task.steps)
        config = replace(task.config, T_max=steps) if hasattr(task.config, "T_max") else task.config
        chosen[name] = task._replace(env=options.env or task.env, steps=steps, config=config)
    if options.quick:
        return print(table(dict(compete(chosen, 2, options.jobs))))
    path, found = RESULTS / "learning.json", {}
    if path.exists():
        found = json.loads(path.read_text())["contestants"]
    for name, contestant in () if options.draw else compete(chosen, options.seeds, options.jobs):
        found[name] = contestant
        print(name, sorted(r["score"] for r in contestant["runs"]), flush=True)
        packages = "numpy", "gymnasium", *TORCH
        save(path.stem, "benchmarks.learning", dict(contestants=found), packages)
    found = dict(sorted(found.items(), key=lambda entry: list(known).index(entry[1]["method"])))
    text = table(found)
    print(text)
    path.with_suffix(".md").write_text(text)
    draw_curves(found)


if __name__ == "__main__":
    main()
