"""Environment steps per second of A2C: the page beside torch at its best and Stable-Baselines3.

    python -m benchmarks.a2c_speed [--rounds 15] [--updates 40]

CartPole-v1, 8 of them in Gymnasium's SyncVectorEnv, 8 and 64 in the vector environment it brings
along; separate 64-64 tanh networks, n_steps 5, RMSProp with ε inside the root. First: each torch
twin acts and learns in float64, and its gradients and parameters after every update must equal the
page's on the same steps, to 1e-10 of the largest. Then all take turns, in random order, in float32
(torch's default, and the page's). η is 0, so that all of the work is done and nothing moves: each
meets the same distribution of episodes.

Seconds are this process's processor time, single-threaded, warm-up left out. "environment" only
takes steps. Set OMP_NUM_THREADS=1.
"""

import argparse
import time

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorWrapper

from algorithms import a2c
from algorithms.common.policy import make_actor_critic
from algorithms.common.vector import Single
from benchmarks.record import RESULTS, save
from benchmarks.speed import compare, markdown
from benchmarks.torch_twins import a2c as twins

ENV = "CartPole-v1"
TWINS = {"torch lean": twins.Lean, "torch lean, Gumbel": twins.Gumbel}
BASELINE = "torch, Stable-Baselines3"
SETTINGS = {
    "SyncVectorEnv of 8": ("sync", 8, {BASELINE: 7.5, "torch lean": 3.0}),
    "CartPole's own of 8": ("vector_entry_point", 8, {BASELINE: 12.0, "torch lean": 4.2}),
    "CartPole's own of 64": ("vector_entry_point", 64, {BASELINE: 10.0}),
}


def environments(vectorization, N):
    return gymnasium.make_vec(ENV, num_envs=N, vectorization_mode=vectorization)


class Recorder(VectorWrapper):
    """Keeps the steps of a rollout in `log`."""

    def reset(self, **how):
        self.s, info = self.env.reset(**how)
        return self.s, info

    def step(self, actions):
        before = self.s
        self.s, *rest = self.env.step(actions)
        self.log.append((before.copy(), actions.copy(), *rest[:3], self.s.copy()))
        return self.s, *rest


def build(Twin, envs, config, theta, dtype):
    model = make_actor_critic(Single(envs), config.network, "separate").model
    one, two = model.layout.views(theta)
    policy, value = twins.network(model.first, one, dtype), twins.network(model.second, two, dtype)
    return Twin(envs, config, policy, value)


def page_update(config, state, policy, log, over):
    """dθ of recorded NEXT_STEP rollout, and the page's step; over: who is reset in its first."""
    S, A, r, terminated, truncated, after = map(np.array, zip(*log))
    n, N = r.shape
    v = policy.model(state.theta, np.append(S, after[-1:], 0).astype(float))[..., -1]
    ends = terminated | truncated
    r = r + config.gamma * (truncated & ~terminated) * v[1:]
    R = a2c.returns(r, config.gamma * ~ends, v[n]).reshape(-1)
    real = ~np.append(over[None], ends[:-1], 0).reshape(-1)
    data = S.reshape(n * N, -1).astype(float), A.reshape(-1), R, R - v[:n].reshape(-1)
    weights = config.beta, config.value_coef
    d = a2c.gradient(state.theta, policy, *data, real / real.sum(), *weights)
    a2c.ascend(config, state, d.copy(), np.empty_like(d))
    return d, ends[-1]


def check(Twin, config, updates=60):
    """Largest difference between the twin's and the page's gradients and parameters, relative to
    the largest entry. Raises AssertionError above 1e-10."""
    envs = Recorder(environments("vector_entry_point", 8))
    policy, worst = make_actor_critic(Single(envs), config.network, "separate"), 0.0
    state, over = a2c.init(envs, config, 0), np.zeros(8, bool)
    twin = build(Twin, envs, config, state.theta, torch.float64)
    resets = 0
    for _ in range(updates):
        envs.log = []
        twin.update()
        resets += int(over.sum())
        d, over = page_update(config, state, policy, envs.log, over)
        theirs = np.concatenate([g.t().reshape(-1).numpy() for g in twin.gradients])
        parameters = np.concatenate([twins.flat(twin.policy), twins.flat(twin.value)])
        for x, y in ((d, -theirs), (state.theta, parameters)):
            worst = max(worst, float(np.abs(x - y).max() / np.abs(x).max()))
    assert worst < 1e-10, f"{Twin.__name__} differs from the page by {worst:.1e}"
    return worst


def contestants(config, vectorization, updates):
    """{name: function that makes these updates, of n_steps · N steps each}."""
    make = lambda: environments(vectorization, config.environments)
    envs, rng = make(), np.random.default_rng(0)
    envs.reset(seed=0)
    A = rng.integers(2, size=(997, config.environments))
    k = 0

    def only_steps():
        nonlocal k
        for _ in range(config.n_steps):
            k = (k + 1) % len(A)
            envs.step(A[k])

    def repeated(update):
        def run():
            for _ in range(updates):
                update()

        return run

    state = a2c.init(make(), config, 0)
    runs = {"environment": repeated(only_steps)}
    for name, Twin in TWINS.items():
        runs[name] = repeated(build(Twin, make(), config, state.theta, torch.float32).update)
    sb3, steps = twins.baseline(make(), config, 0), updates * config.n_steps * config.environments
    runs[BASELINE] = lambda: sb3.learn(steps)
    run = a2c.train(make(), config, state)
    runs["page"] = repeated(lambda: next(run))
    return runs


def race(config, vectorization, rounds, updates):
    """{name: seconds per step (rounds,)}."""
    runs = contestants(config, vectorization, updates)
    rng, times = np.random.default_rng(0), {name: [] for name in runs}
    for k in range(-1, rounds):
        for name in rng.permutation(list(runs)):
            start = time.process_time()
            runs[name]()
            if k >= 0:
                times[name].append(time.process_time() - start)
    steps = updates * config.n_steps * config.environments
    return {name: np.array(t) / steps for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--updates", type=int, default=40, help="per turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    moving = a2c.Config(step_size=1e-3, annealed=False, precision="double", T_max=10**9)
    differences = {name: check(Twin, moving) for name, Twin in TWINS.items()}
    print(differences)
    tables, text, targets = {}, [], {}
    for name, (vectorization, N, targets[name]) in SETTINGS.items():
        config = a2c.Config(
            environments=N, step_size=0.0, annealed=False, T_max=10**9, reduction="mean"
        )
        times = race(config, vectorization, arguments.rounds, arguments.updates)
        tables[name] = compare(times)
        text.append(markdown(f"A2C, CartPole-v1, {name}", tables[name]))
        print(text[-1], flush=True)
    results = dict(targets=targets, differences=differences, tables=tables)
    packages = ("numpy", "gymnasium", "torch", "stable-baselines3")
    save("a2c_speed", "benchmarks.a2c_speed", results, packages)
    (RESULTS / "a2c_speed.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
