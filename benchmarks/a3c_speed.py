"""Steps per second of one A3C worker: the page beside its torch twins.

    python -m benchmarks.a3c_speed [worker] [processes] [--rounds 15] [--steps 2000]

gymnasium.make("CartPole-v1"), separate 64-64 tanh networks, Shared RMSProp (ε inside the root),
t_max 5 and 20, at the start (episodes of about 22 steps) and after learning. First: each twin acts
and learns in float64, and its gradients and the shared parameters after every segment must equal
the page's on the same steps, to 1e-10 of the largest.
Then all take turns, in random order; torch in float32 (its default, and what CartPole observes),
the page in both precisions. η is 0, so that all of the work is done and nothing moves: each meets
the same distribution of episodes.

Seconds are this process's processor time, single-threaded, warm-up left out. "environment" only
takes steps and resets. Set OMP_NUM_THREADS=1.

processes: environment steps per second, by the wall's clock, of two processes and of one, in turn.
"""

import argparse
import time
from collections import deque
from contextlib import closing
from dataclasses import replace

import gymnasium
import numpy as np
import torch

from algorithms import a3c
from algorithms.common.asynchronous import stepper
from algorithms.common.policy import make_actor_critic
from benchmarks.actor_critic_speed import ENV, Stepper, environment_step
from benchmarks.record import RESULTS, save
from benchmarks.speed import compare, interval, markdown
from benchmarks.torch_twins import a3c as twins

TWINS = {"torch usual": twins.Usual, "torch lean": twins.Lean, "torch lean, Gumbel": twins.Gumbel}
SCALING = {"t_max 5": 1.65, "t_max 20": 1.85}
TARGETS = {"t_max 5": {"torch lean": 11.0}, "t_max 20": {"torch lean": 9.0}}


class Recorder(gymnasium.Wrapper):
    """Keeps every step in `log`."""

    def reset(self, **how):
        self.s, info = self.env.reset(**how)
        return self.s, info

    def step(self, action):
        before = self.s
        self.s, r, terminated, truncated, info = self.env.step(action)
        self.log.append((before.astype(float), action, r, self.s.astype(float), terminated))
        return self.s, r, terminated, truncated, info


def build(Twin, env, config, theta, dtype):
    model = make_actor_critic(env, config.network, "separate").model
    make = lambda value=False: twins.network(
        model.second if value else model.first, model.layout.views(theta)[int(value)], dtype
    )
    return Twin(env, config, make(), make(value=True), make)


def flat(modules, gradient=False):
    return np.concatenate([twins.flat(module, gradient) for module in modules])


def check(Twin, config, segments=60):
    """Largest difference between the twin's and the page's gradients and parameters, relative to
    the largest entry. Raises AssertionError above 1e-10."""
    env = Recorder(gymnasium.make(ENV))
    policy = make_actor_critic(env, config.network, "separate")
    state = a3c.init(env, config, 0)
    twin, worst = build(Twin, env, config, state.theta, torch.float64), 0.0
    for _ in range(segments):
        env.log = []
        k = twin.segment()
        S, A, r, S2, terminated = map(np.array, zip(*env.log))
        v = policy.model(state.theta, np.append(S, S2[-1:], 0))[:, -1]
        R = a3c.returns(r, config.gamma, 0.0 if terminated[-1] else v[k])
        weights = config.beta, config.value_coef
        d = a3c.gradient(state.theta, policy, S, A, R, R - v[:k], *weights)
        theirs = np.concatenate([g.t().reshape(-1).numpy() for g in twin.gradients])
        state.theta += stepper(config, state, 0)(d.copy())
        for x, y in ((d, -theirs), (state.theta, flat(twin.shared))):
            worst = max(worst, float(np.abs(x - y).max() / np.abs(x).max()))
    assert worst < 1e-10, f"{Twin.__name__} differs from the page by {worst:.1e}"
    return worst


def learned(steps):
    """θ after so many steps of learning."""
    config = a3c.Config(T_max=max(1, steps), t_max=20, step_size=2e-3, eps=1e-5)
    state = a3c.init(gymnasium.make(ENV), config, 0)
    if steps:
        deque(a3c.train(gymnasium.make(ENV), config, state), maxlen=0)
    return state.theta


class Page:
    """The page as a contestant."""

    def __init__(self, config, theta):
        env = gymnasium.make(ENV)
        self.state = a3c.init(env, config, 0)
        self.state.theta[:] = theta
        self.run = a3c.train(env, config, self.state)

    def seconds_per_step(self, steps):
        first, start = int(self.state.T[0]), time.process_time()
        while self.state.T[0] < first + steps:
            next(self.run)
        return (time.process_time() - start) / (int(self.state.T[0]) - first)


class Twin:
    """A twin as a contestant."""

    def __init__(self, twin):
        self.segment = twin.segment

    def seconds_per_step(self, steps):
        done, start = 0, time.process_time()
        while done < steps:
            done += self.segment()
        return (time.process_time() - start) / done


def race(config, theta, rounds, steps):
    """{name: seconds per step (rounds,)}."""
    contestants = {"environment": Stepper(environment_step(gymnasium.make(ENV)))}
    for name, Kind in TWINS.items():
        contestants[name] = Twin(build(Kind, gymnasium.make(ENV), config, theta, torch.float32))
    contestants["page"] = Page(config, theta)
    contestants["page, single"] = Page(replace(config, precision="single"), theta)
    rng, times = np.random.default_rng(0), {name: [] for name in contestants}
    for k in range(-1, rounds):
        for name in rng.permutation(list(contestants)):
            seconds = contestants[name].seconds_per_step(steps if k >= 0 else 300)
            if k >= 0:
                times[name].append(seconds)
    return {name: np.array(t) for name, t in times.items()}


def rate(workers, t_max, theta, seconds=2.0):
    """Environment steps per second of that many processes, once all have begun."""
    env = gymnasium.make(ENV)
    config = a3c.Config(
        workers=workers, driver="processes", T_max=10**9, t_max=t_max, step_size=0.0
    )
    state = a3c.init(env, config, 0)
    state.theta[:] = theta
    with closing(a3c.train(env, config, state)) as run:
        while not (state.T > 0).all():
            next(run)
        first, start = state.T.sum(), time.perf_counter()
        while time.perf_counter() < start + seconds:
            next(run)
        return float((state.T.sum() - first) / (time.perf_counter() - start))


def processes(rounds):
    """{t_max: steps per second of one and of two processes, and their ratio}, each with its
    interval."""
    theta, table = learned(40_000), {}
    for t_max in (5, 20):
        pairs = [[rate(n, t_max, theta) for n in (1, 2)] for _ in range(rounds)]
        one, two = np.transpose(pairs)
        table[f"t_max {t_max}"] = dict(
            one=interval(one), two=interval(two), ratio=interval(two / one)
        )
        print(f"t_max {t_max}: {table[f't_max {t_max}']}", flush=True)
    save("a3c_processes", "benchmarks.a3c_speed", dict(targets=SCALING, table=table))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=["worker", "processes"], default="worker")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2000, help="per turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "processes" in arguments.parts:
        processes(arguments.rounds)
    if "worker" in arguments.parts:
        worker(arguments)


def worker(arguments):
    """The page beside its twins."""
    moving = a3c.Config(workers=1, T_max=10**9, step_size=1e-3, annealed=False)
    differences = {name: check(Kind, moving) for name, Kind in TWINS.items()}
    print(differences)
    tables, text = {}, []
    for source, trained in (("start", 0), ("learned", 40_000)):
        theta = learned(trained)
        for t_max in (5, 20):
            still = replace(moving, step_size=0.0, t_max=t_max)
            times = race(still, theta, arguments.rounds, arguments.steps)
            tables[f"t_max {t_max}, {source} θ"] = table = compare(times)
            setting = f"one A3C worker, separate 64-64 networks, t_max {t_max}, {source} θ"
            text.append(markdown(setting, table))
            print(text[-1], flush=True)
    results = dict(targets=TARGETS, differences=differences, tables=tables)
    save("a3c_speed", "benchmarks.a3c_speed", results, ("numpy", "gymnasium", "torch"))
    (RESULTS / "a3c_speed.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
