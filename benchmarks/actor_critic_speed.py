"""Steps per second of online actor–critic, one-step and with traces: the page and its torch twins.

    python -m benchmarks.actor_critic_speed [--rounds 15] [--steps 1000]

gymnasium.make("CartPole-v1"), two 64-64 tanh networks, RMSprop (ε outside the root), an update of
both at every step. First: each twin acts and learns in float64, and its gradients and parameters
after every step must equal the page's on the same steps, to 1e-10 of the largest. Then all take
turns, in random order; torch in float32 (its default, and what CartPole observes), the page in
double precision, its default, and in single, which is torch's. The step sizes are too small to
change any parameter, so that all of the work is done and nothing moves: each meets the same
distribution of episodes.

Seconds are this process's processor time, single-threaded, warm-up left out. "environment" only
takes steps and resets. Set OMP_NUM_THREADS=1.
"""

import argparse
import time
from dataclasses import replace

import gymnasium
import numpy as np
import torch

from algorithms import actor_critic
from algorithms.actor_critic import BOXES, PRECISIONS, OneStep, State, Traces
from algorithms.common.online import Ascent
from algorithms.common.policy import make_policy, make_value
from benchmarks.record import RESULTS, save
from benchmarks.speed import compare, markdown
from benchmarks.torch_twins import actor_critic as twins

ENV = "CartPole-v1"
TWINS = {
    OneStep: {
        "torch usual": twins.Usual,
        "torch lean": twins.Lean,
        "torch lean, Gumbel noise": twins.Gumbel,
    },
    Traces: {
        "torch usual": twins.UsualTraces,
        "torch lean": twins.LeanTraces,
        "torch lean, Gumbel noise": twins.GumbelTraces,
    },
}
TARGETS = {"torch lean": 14.0, "torch usual": 28.0}


class Recorder(gymnasium.Wrapper):
    """Keeps the latest step."""

    def reset(self, **how):
        self.s, info = self.env.reset(**how)
        self.I = 1.0
        return self.s, info

    def step(self, action):
        before = self.s
        self.s, R, terminated, truncated, info = self.env.step(action)
        self.latest = before.astype(float), action, R, self.s.astype(float), terminated
        return self.s, R, terminated, truncated, info


def build(Twin, env, config, state, dtype):
    policy = twins.network(make_policy(env, config.network).model, state.theta, dtype)
    value = twins.network(make_value(env, config.network), state.w, dtype)
    return Twin(env, config, policy, value)


def check(Twin, config, steps=100):
    """Largest difference between the twin's and the page's gradients and parameters, relative to
    the largest entry. Raises AssertionError above 1e-10."""
    env = Recorder(gymnasium.make(ENV))
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    state = actor_critic.init(env, config, 0)
    twin = build(Twin, env, config, state, torch.float64)
    ascend, worst = Ascent(config, state), 0.0
    for _ in range(steps):
        if twin.over:
            state.I, state.z_theta[:], state.z_w[:] = 1.0, 0.0, 0.0
        twin.step()
        S, A, R, S2, terminated = env.latest
        v, v2 = value(state.w, S)[0], 0.0 if terminated else value(state.w, S2)[0]
        dv = actor_critic.value_gradient(state.w, value, S)
        dlogpi = actor_critic.gradient(state.theta, policy, S, A)
        times = [lambda c, d=d: c * d for d in (dv, dlogpi)]
        BOXES[type(config)](config, state, R, v, v2, *times, ascend)
        for x, y in (
            (-ascend.d_theta, twins.flat(twin.policy, gradient=True)),
            (-ascend.d_w, twins.flat(twin.value, gradient=True)),
            (state.theta, twins.flat(twin.policy)),
            (state.w, twins.flat(twin.value)),
        ):
            worst = max(worst, float(np.abs(x - y).max() / np.abs(x).max()))
    assert worst < 1e-10, f"{Twin.__name__} differs from the page by {worst:.1e}"
    return worst


class Page:
    """The page as a contestant."""

    def __init__(self, env, config, state: State):
        self.state, self.run = state, actor_critic.train(env, config, state)

    def seconds_per_step(self, steps):
        first, start = self.state.steps, time.process_time()
        while self.state.steps < first + steps:
            next(self.run)
        return (time.process_time() - start) / (self.state.steps - first)


class Stepper:
    """A contestant with step(): a twin, or the environment alone under random actions."""

    def __init__(self, step):
        self.step = step

    def seconds_per_step(self, steps):
        start = time.process_time()
        for _ in range(steps):
            self.step()
        return (time.process_time() - start) / steps


def environment_step(env):
    """A function that takes one step, beginning anew where an episode is over."""
    over = True

    def step():
        nonlocal over
        if over:
            env.reset()
        _, _, terminated, truncated, _ = env.step(step.actions.pop())
        over = terminated or truncated

    step.actions = np.random.default_rng(0).integers(2, size=10**6).tolist()
    return step


def race(config, rounds, steps):
    """{name: seconds per step (rounds,)}."""
    make = lambda: gymnasium.make(ENV)
    state = actor_critic.init(make(), config, 0)
    contestants = {"environment": Stepper(environment_step(make()))}
    for name, Twin in TWINS[type(config)].items():
        contestants[name] = Stepper(build(Twin, make(), config, state, torch.float32).step)
    for precision in PRECISIONS:
        ours = replace(config, precision=precision)
        contestants[precision] = Page(make(), ours, actor_critic.init(make(), ours, 0))
    rng, times = np.random.default_rng(0), {name: [] for name in contestants}
    for k in range(-1, rounds):
        for name in rng.permutation(list(contestants)):
            seconds = contestants[name].seconds_per_step(steps if k >= 0 else 200)
            if k >= 0:
                times[name].append(seconds)
    return {name: np.array(t) for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1000, help="per turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings, text = {}, []
    for Config, method in ((OneStep, "one-step"), (Traces, "traces")):
        moving = Config(optimizer="rmsprop_outside", step_size=1e-4, step_size_w=2e-4)
        differences = {name: check(Twin, moving) for name, Twin in TWINS[Config].items()}
        still = Config(optimizer="rmsprop_outside", step_size=1e-30, step_size_w=2e-30)
        times = race(still, arguments.rounds, arguments.steps)
        pages = {precision: times.pop(precision) for precision in PRECISIONS}
        for precision, page in pages.items():
            setting = f"{method}, {precision} precision"
            table = compare(times | {"page": page})
            settings[setting] = dict(differences=differences, table=table)
            text.append(markdown(setting, table))
            print(text[-1], flush=True)
    save(
        "actor_critic_speed",
        "benchmarks.actor_critic_speed",
        dict(targets=TARGETS, settings=settings),
        ("numpy", "gymnasium", "torch"),
    )
    (RESULTS / "actor_critic_speed.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
