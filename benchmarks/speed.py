"""Steps per second of acting plus learning: a method's page beside its torch twins.

    python -m benchmarks.speed [reinforce] [--rounds 15] [--steps 3000]

First: each twin plays and learns from episodes in float64, and the gradients it took and the
parameters it reached must equal the page's on the same episodes, to 1e-10. Then all take turns, in
random order, on gymnasium.make("CartPole-v1"), torch in float32 (its default, and what CartPole
observes; float64 was no faster), the page as it comes. Every contestant holds the same θ and w, and
every step size is 0, so that all of the work is done and nothing moves: each meets the same
distribution of episodes. Two such θ: the seeded start (episodes of about 20 steps) and one the page
has learned (hundreds).

Seconds are this process's processor time, single-threaded, warm-up left out. "environment" only
replays recorded actions, which all contestants must spend too; "without environment" are ratios of
what remains after it is subtracted. Set OMP_NUM_THREADS=1.
"""

import argparse
import time
from copy import deepcopy
from dataclasses import replace

import gymnasium
import numpy as np
import torch

from algorithms import reinforce
from algorithms.common.episode import Episode, play
from algorithms.common.policy import make_policy, make_value
from benchmarks.record import RESULTS, save
from benchmarks.torch_twins import reinforce as twins

ENV = "CartPole-v1"
TWINS = {
    "torch usual": twins.Usual,
    "torch lean": twins.Lean,
    "torch lean, Gumbel noise": twins.Gumbel,
    "torch bare": twins.Bare,
}
TARGETS = {"torch lean": 4.0, "torch usual": 8.0}


class Recorder(gymnasium.Wrapper):
    """Keeps the last episode."""

    def reset(self, **how):
        s, info = self.env.reset(**how)
        self.S, self.A, self.R = [s], [], []
        return s, info

    def step(self, action):
        s, r, self.terminated, truncated, info = self.env.step(action)
        self.S.append(s)
        self.A.append(action)
        self.R.append(r)
        return s, r, self.terminated, truncated, info

    def episode(self):
        S = np.array(self.S, float)
        return Episode(S[:-1], np.array(self.A), np.array(self.R), S[-1], self.terminated)


def learned(config, steps):
    """The page's State after `steps` steps from seed 0; 0 is the start."""
    with gymnasium.make(ENV) as env:
        state = reinforce.init(env, config, 0)
        run = reinforce.train(env, config, state)
        while state.steps < steps:
            next(run)
    return state


def build(Twin, env, config, theta, w, dtype):
    policy = twins.network(make_policy(env, config.network).model, theta, dtype)
    value = None
    if config.baseline == "value":
        value = twins.network(make_value(env, config.network), w, dtype)
    return Twin(env, config, policy, value)


def check(Twin, config, theta, w, episodes=3):
    """Largest difference between the twin's and the page's gradients and parameters, relative to
    the largest entry. Raises AssertionError above 1e-10."""
    env = Recorder(gymnasium.make(ENV))
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    state = reinforce.init(env, config, 0)
    state.theta[:] = theta
    state.w[:] = w
    twin = build(Twin, env, config, theta, w, torch.float64)
    modules = [module for module in (twin.policy, twin.value) if module is not None]
    gradients, worst = {}, 0.0

    def ascent(*data):
        gradients["theta"] = reinforce.gradient(*data)
        return gradients["theta"]

    def descent(*data):
        gradients["w"] = reinforce.value_gradient(*data)
        return gradients["w"]

    for _ in range(episodes):
        twin.episode()
        reinforce.update_batch(state, config, policy, value, [env.episode()], ascent, descent)
        ours = [(-gradients["theta"], state.theta), (gradients.get("w"), state.w)]
        for (d, parameters), module in zip(ours, modules):
            for x, y in ((d, twins.flat(module, gradient=True)), (parameters, twins.flat(module))):
                worst = max(worst, float(np.abs(x - y).max() / np.abs(x).max()))
    assert worst < 1e-10, f"{Twin.__name__} differs from the page by {worst:.1e}"
    return worst


class Page:
    """The page as a contestant."""

    def __init__(self, env, config, theta, w):
        state = reinforce.init(env, config, 0)
        state.theta[:] = theta
        state.w[:] = w
        self.run = reinforce.train(env, config, state)

    def episode(self):
        return next(self.run).lengths[0]


class Environment:
    """Replays episodes of the policy: what stepping alone costs."""

    def __init__(self, env, config, theta, steps):
        policy, rng = make_policy(env, config.network), np.random.default_rng(0)
        self.env, self.next, self.episodes, total = env, 0, [], 0
        while total < steps:
            seed = int(deepcopy(rng).integers(2**31))  # the one that play is about to draw
            A = play(env, policy, theta, rng).A
            self.episodes.append((seed, A.tolist()))
            total += len(A)

    def episode(self):
        seed, actions = self.episodes[self.next % len(self.episodes)]
        self.next += 1
        step = self.env.step
        self.env.reset(seed=seed)
        for a in actions:
            step(a)
        return len(actions)


def seconds_per_step(contestant, steps):
    done, start = 0, time.process_time()
    while done < steps:
        done += contestant.episode()
    return (time.process_time() - start) / done, done


def race(config, theta, w, rounds, steps):
    """{name: seconds per step (rounds,)}, and the mean episode length of the page."""
    still = replace(config, step_size=0.0, step_size_w=0.0)
    env = gymnasium.make(ENV)
    contestants = {"environment": Environment(env, still, theta, steps)}
    contestants["page"] = Page(gymnasium.make(ENV), still, theta, w)
    for name, Twin in TWINS.items():
        contestants[name] = build(Twin, gymnasium.make(ENV), still, theta, w, torch.float32)
    order, rng = list(contestants), np.random.default_rng(0)
    times = {name: [] for name in order}
    for k in range(-1, rounds):
        for name in rng.permutation(order):
            seconds, _ = seconds_per_step(contestants[name], steps if k >= 0 else 500)
            if k >= 0:
                times[name].append(seconds)
    lengths = [len(actions) for _, actions in contestants["environment"].episodes]
    return {name: np.array(t) for name, t in times.items()}, float(np.mean(lengths))


def interval(x):
    """Median and the range of the middle 90 % of rounds."""
    return [float(f"{q:.4g}") for q in np.quantile(x, [0.5, 0.05, 0.95])]


def compare(times):
    """{name: steps per second and the page's ratios to it}, each with its interval."""
    page, floor = times["page"], times["environment"]
    table = {}
    for name, t in times.items():
        row = dict(steps_per_second=interval(1 / t))
        if name.startswith("torch"):
            row["times_faster"] = interval(t / page)
            row["times_faster_without_environment"] = interval((t - floor) / (page - floor))
        table[name] = row
    return table


def markdown(setting, table):
    """A table of median (5 %–95 % of rounds)."""
    show = lambda q, form: "" if q is None else "{} ({}–{})".format(*(format(x, form) for x in q))
    lines = [
        f"**{setting}**\n",
        "| | steps/s | page is faster by | without environment |\n|---|---|---|---|",
    ]
    for name, row in table.items():
        cells = (
            show(row["steps_per_second"], ",.0f"),
            show(row.get("times_faster"), ".2f"),
            show(row.get("times_faster_without_environment"), ".2f"),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("method", nargs="?", default="reinforce", choices=["reinforce"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3000, help="at least, per turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings, text = {}, []
    for source, steps in (("start", 0), ("learned", 40_000)):
        state = learned(reinforce.Config(), steps)
        for baseline, w in (("none", np.empty(0)), ("value", state.w)):
            config = reinforce.Config(baseline=baseline)
            differences = {name: check(T, config, state.theta, w) for name, T in TWINS.items()}
            times, length = race(config, state.theta, w, arguments.rounds, arguments.steps)
            setting = f"baseline {baseline}, {source} θ, {length:.0f} steps per episode"
            table = compare(times)
            settings[setting] = dict(differences=differences, table=table)
            text.append(markdown(setting, table))
            print(text[-1], flush=True)
    save(
        "speed_reinforce",
        "benchmarks.speed",
        dict(targets=TARGETS, settings=settings),
        ("numpy", "gymnasium", "torch"),
    )
    (RESULTS / "speed_reinforce.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
