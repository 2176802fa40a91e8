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
from functools import partial
from importlib import import_module

ROUNDS = 5
STEPS = 1000


def environment():
    import gymnasium

    yield
    gymnasium.make(CAR)


def ours(page, env, **settings):
    import gymnasium

    page = import_module(f"algorithms.{page}")
    yield
    env, config = gymnasium.make(env), page.Config(**settings)
    state = page.init(env, config, 0)
    run = page.train(env, config, state)
    while getattr(state, "steps", getattr(state, "T", 0)) < STEPS:
        next(run)


def twin(page, env, **settings):
    import gymnasium

    from benchmarks.torch_twins import networks

    twins = import_module(f"benchmarks.torch_twins.{page}")
    page = import_module(f"algorithms.{page}")
    yield
    networks.torch.set_num_threads(1)
    env, config, steps = gymnasium.make(env), page.Config(**settings), 0
    twin = networks.build(twins.Lean, page, env, config, networks.flat(page.init(env, config, 0)))
    while steps < STEPS:
        steps += twin.advance()


def baseline(name, env, copies=0, **options):
    import torch
    from stable_baselines3 import A2C, DDPG
    from stable_baselines3.common.env_util import make_vec_env

    yield
    torch.set_num_threads(1)
    env = make_vec_env(env, copies) if copies else env
    dict(A2C=A2C, DDPG=DDPG)[name]("MlpPolicy", env, device="cpu", **options).learn(STEPS)


CAR, PENDULUM = "CartPole-v1", "Pendulum-v1"
MEMORY = dict(replay=100_000, warmup=200)
PROGRAMS = {  # each imports what it needs, yields, and trains
    "environment": environment,
    "REINFORCE, page": partial(ours, "reinforce", CAR),
    "REINFORCE, torch lean": partial(twin, "reinforce", CAR),
    "A2C, page": partial(ours, "a2c", CAR),
    "A2C, Stable-Baselines3": partial(baseline, "A2C", CAR, 8),
    "DDPG, page": partial(ours, "ddpg", PENDULUM, **MEMORY),
    "DDPG, torch lean": partial(twin, "ddpg", PENDULUM, **MEMORY),
    "DDPG, Stable-Baselines3": partial(
        baseline, "DDPG", PENDULUM, buffer_size=100_000, learning_starts=200, batch_size=64
    ),
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
