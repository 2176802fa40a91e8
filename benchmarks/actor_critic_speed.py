"""Steps per second of online one-step actor–critic: the page beside its torch twins.

    python -m benchmarks.actor_critic_speed [--rounds 15] [--steps 1000]

gymnasium.make("CartPole-v1"), two 64-64 tanh networks, RMSprop (ε outside the root), an update of
both at every step. First: each twin acts and learns in float64, and its gradients and parameters
after every step must equal the page's on the same steps, to 1e-10 of the largest. Then all take
turns, in random order; torch in float32 (its default, and what CartPole observes), the page as it
comes. Every step size is 0, so that all of the work is done and nothing moves: each meets the same
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
from algorithms.actor_critic import OneStep, State
from algorithms.common.policy import make_policy, make_value
from benchmarks.record import RESULTS, save
from benchmarks.speed import compare, markdown
from benchmarks.torch_twins import actor_critic as twins

ENV = "CartPole-v1"
TWINS = {
    "torch usual": twins.Usual,
    "torch lean": twins.Lean,
    "torch lean, Gumbel noise": twins.Gumbel,
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
    worst = 0.0
    for _ in range(steps):
        if twin.over:
            state.I = 1.0
        twin.step()
        S, A, R, S2, terminated = env.latest
        v, v2 = value(state.w, S)[0], 0.0 if terminated else value(state.w, S2)[0]
        dv = actor_critic.value_gradient(state.w, value, S)
        dlogpi = actor_critic.gradient(state.theta, policy, S, A)
        delta, I = R + config.gamma * v2 - v, state.I
        ours = [(-I * delta * dlogpi, state.theta, twin.policy), (-delta * dv, state.w, twin.value)]
        ours = [(d.copy(), parameters, module) for d, parameters, module in ours]
        actor_critic.one_step(config, state, R, v, v2, dv, dlogpi)
        for d, parameters, module in ours:
            for x, y in ((d, twins.flat(module, gradient=True)), (parameters, twins.flat(module))):
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
    for name, Twin in TWINS.items():
        contestants[name] = Stepper(build(Twin, make(), config, state, torch.float32).step)
    contestants["page"] = Page(make(), config, state)
    single = replace(config, precision="single")
    contestants["page, single"] = Page(make(), single, actor_critic.init(make(), single, 0))
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
    moving = OneStep(optimizer="rmsprop_outside", step_size=1e-4, step_size_w=1e-4)
    differences = {name: check(Twin, moving) for name, Twin in TWINS.items()}
    still = OneStep(optimizer="rmsprop_outside", step_size=0.0, step_size_w=0.0)
    table = compare(race(still, arguments.rounds, arguments.steps))
    text = markdown("one-step, two 64-64 tanh networks, RMSprop, an update every step", table)
    print(differences, text, sep="\n")
    save(
        "actor_critic_speed",
        "benchmarks.actor_critic_speed",
        dict(targets=TARGETS, differences=differences, table=table),
        ("numpy", "gymnasium", "torch"),
    )
    (RESULTS / "actor_critic_speed.md").write_text(text)


if __name__ == "__main__":
    main()
