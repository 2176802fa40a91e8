"""Peak memory and import time of a process that trains: ours, torch, Stable-Baselines3.

Each in a process of its own, which imports what it needs and trains for 1,000 steps: REINFORCE on
CartPole-v1 with 64-64, A2C on 8 of them, DDPG on Pendulum-v1 with 400-300, batch 64 and a replay
memory of 100,000. Seconds are the wall's, from the first import on. Memory is the largest resident
set since the process began: VmHWM of Linux, elsewhere ru_maxrss (which on Linux would count that of
the parent). The row of the environment alone is what all need.
"""

import json
import resource
import subprocess
import sys
import time

ROUNDS = 5
STEPS = 1000


def environment():
    import gymnasium

    yield
    gymnasium.make("CartPole-v1")


def page_reinforce():
    import gymnasium

    from algorithms import reinforce as page

    yield
    train(page, gymnasium.make("CartPole-v1"), page.Config(), lambda state: state.steps)


def page_a2c():
    import gymnasium

    from algorithms import a2c as page

    yield
    train(page, gymnasium.make("CartPole-v1"), page.Config(), lambda state: state.T)


def page_ddpg():
    import gymnasium

    from algorithms import ddpg as page

    yield
    config = page.Config(replay=100_000, warmup=200)
    train(page, gymnasium.make("Pendulum-v1"), config, lambda state: state.steps)


def train(page, env, config, count):
    state = page.init(env, config, 0)
    run = page.train(env, config, state)
    while count(state) < STEPS:
        next(run)


def torch_reinforce():
    import gymnasium

    from algorithms import reinforce as page
    from benchmarks.torch_twins import networks
    from benchmarks.torch_twins.reinforce import Lean

    yield
    train_twin(networks, Lean, page, gymnasium.make("CartPole-v1"), page.Config())


def torch_ddpg():
    import gymnasium

    from algorithms import ddpg as page
    from benchmarks.torch_twins import networks
    from benchmarks.torch_twins.ddpg import Lean

    yield
    config = page.Config(replay=100_000, warmup=200)
    train_twin(networks, Lean, page, gymnasium.make("Pendulum-v1"), config)


def train_twin(networks, Twin, page, env, config):
    networks.torch.set_num_threads(1)
    theta, steps = networks.flat(page.init(env, config, 0)), 0
    twin = networks.build(Twin, page, env, config, theta)
    while steps < STEPS:
        steps += twin.advance()


def sb3_a2c():
    import torch
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_vec_env

    yield
    torch.set_num_threads(1)
    A2C("MlpPolicy", make_vec_env("CartPole-v1", 8), device="cpu").learn(STEPS)


def sb3_ddpg():
    import torch
    from stable_baselines3 import DDPG

    yield
    torch.set_num_threads(1)
    options = dict(buffer_size=100_000, learning_starts=200, batch_size=64, device="cpu")
    DDPG("MlpPolicy", "Pendulum-v1", **options).learn(STEPS)


PROGRAMS = {  # each imports what it needs, yields, and trains
    "environment": environment,
    "REINFORCE, page": page_reinforce,
    "REINFORCE, torch lean": torch_reinforce,
    "A2C, page": page_a2c,
    "A2C, Stable-Baselines3": sb3_a2c,
    "DDPG, page": page_ddpg,
    "DDPG, torch lean": torch_ddpg,
    "DDPG, Stable-Baselines3": sb3_ddpg,
}


def child(program):
    """Run a program; print [seconds of its imports, seconds in all, peak megabytes]."""
    start = time.perf_counter()
    program = program()
    next(program)
    imports = time.perf_counter() - start
    next(program, None)
    print(json.dumps([imports, time.perf_counter() - start, peak()]))


def peak():
    try:
        with open("/proc/self/status") as lines:
            return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 1024
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(rounds, quick):
    """{program: {import_seconds, seconds, megabytes}}, one after the other in random order."""
    import numpy as np  # here, for a child must not import it before it says so

    from benchmarks.speed.race import interval

    seen, rng = {name: [] for name in PROGRAMS}, np.random.default_rng(0)
    for _ in range(1 if quick else rounds):
        for name in rng.permutation(list(PROGRAMS)):
            command = [sys.executable, "-m", "benchmarks.speed.footprint", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seen[name].append(json.loads(done.stdout.splitlines()[-1]))
    kinds = ("import_seconds", "seconds", "megabytes")
    return {
        name: {kind: interval(x) for kind, x in zip(kinds, np.transpose(rows))}
        for name, rows in seen.items()
    }


def markdown(results):
    from benchmarks.speed.race import show, table

    head = ["", "imports, s", f"with {STEPS:,} steps, s", "peak memory, MB"]
    forms = dict(import_seconds=".2f", seconds=".2f", megabytes=".0f")
    body = [[name, *(show(row[k], f) for k, f in forms.items())] for name, row in results.items()]
    return f"**A process that trains**\n\n{table(head, body)}"


if __name__ == "__main__":
    child(PROGRAMS[sys.argv[1]])
