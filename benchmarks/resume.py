"""Runs that are killed at random and resumed, beside runs that are not: is the end the same?

    python -m benchmarks.resume [METHOD ...] [--kills 20] [--steps 2000] [--seed 0]

Every sequential method on five environments. A run of --steps steps is made in one piece, and again
in a process that kills itself (SIGKILL) at a random yield and is resumed, --kills times in a row.
Its checkpoint, written every few milliseconds, is older than what was done, so that work is done
again. In the end the checkpoint's bits, the parameters and the rows of metrics.csv (without its
clock) are compared. Writes results/resume.md.
"""

import os
import signal
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from algorithms.common.policy import Network
from algorithms.ddpg_networks import Networks
from algorithms.runner import folder, training
from algorithms.runner.checkpoint import read_arrays
from algorithms.runner.environments import Environment
from algorithms.runner.lookup import METHODS, load_method
from benchmarks import study

DISCRETE = "CartPole-v1 Acrobot-v1 FrozenLake-v1 LunarLander-v3 npgrad/Garnet0-v0".split()
CONTINUOUS = "Pendulum-v1 MountainCarContinuous-v0 BipedalWalker-v3 InvertedPendulum-v5".split()
FINITE = [f"npgrad/{x}-v0" for x in ("Chain", "ShortCorridor", "Garnet0", "Garnet1", "Garnet2")]
ENVIRONMENTS = {"theorem": FINITE, "ddpg": [*CONTINUOUS, "npgrad/LQR-v0"]}
SETTINGS = {
    "theorem": dict(step_size=1e-3),
    "reinforce": dict(gamma=0.9),
    "natural-actor-critic": dict(gamma=0.9),
    "a2c": dict(environments=3, normalize_observations=True, normalize_returns=True),
    "a3c": dict(workers=3),
    "async-q": dict(workers=3, I_target=100),
    "async-sarsa": dict(workers=3, I_target=100),
    "async-n-step-q": dict(workers=3, I_target=100),
    "td-lambda": dict(gamma=0.9, step_size=1e-4),
    "ddpg": dict(warmup=200, replay=1500, batch=32),
}
VECTOR = dict(environments=3, vectorization="vector_entry_point")


def rows(names):
    """Yield (row's name, method, environment, settings) of the methods named."""
    for name in names:
        for env in ENVIRONMENTS.get(name, DISCRETE):
            yield name, name, env, SETTINGS.get(name, {})
        if name == "a2c":
            yield "a2c, vector_entry_point", name, "CartPole-v1", VECTOR


def config_of(method, name, settings):
    """Return the method's Config with small networks."""
    if name == "ddpg":
        return method.Config(**settings, networks=Networks(hidden=(16, 16)))
    return method.Config(**settings, network=Network(hidden=(16,)))


def piece(begin, steps, kill, every, errors):
    """Train in a process of its own, killed at yield number `kill` (0: never). Returns its status:
    0 when all steps were done."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    sys.stderr = open(errors, "a")
    status = 1
    try:
        warnings.simplefilter("error")
        session = begin()
        training.learn(deadly(session, kill), steps, every)
        status = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def deadly(session, kill):
    """Return the session, with a `train` that kills its process at yield number `kill`."""

    def train(*given):
        for number, metrics in enumerate(session.method.train(*given), 1):
            yield metrics
            if number == kill:
                os.kill(os.getpid(), signal.SIGKILL)

    return session._replace(method=session.method._replace(train=train))


def contents(path):
    """Return what two runs must have in common."""
    arrays = read_arrays(path / "checkpoint.npz")
    text = str(arrays.pop("_json"))
    text = text[: text.index('"seconds"')] + text[text.index('"scalars"') :]
    table = [row[:4] + row[5:] for row in folder._rows(path)]
    return {name: (x.dtype, x.shape, x.tobytes()) for name, x in arrays.items()}, text, table


def trial(name, env, settings, steps, kills, seed):
    """Return (kills made, whether the end was the same)."""
    method, rng = load_method(name, METHODS), np.random.default_rng(seed)
    config = training.ending(method, vars(config_of(method, name, settings)), steps)
    with TemporaryDirectory() as place:
        whole, killed, errors = (Path(place, part) for part in ("whole", "killed", "errors"))
        given = name, method, Environment(env), config, seed
        yields = counted(method, config, env, seed, steps)
        status = piece(lambda: training.begin(*given, whole), steps, 0, 60.0, errors)
        assert status == 0, errors.read_text()
        made, begin = 0, lambda: training.begin(*given, killed)
        while True:
            kill = int(rng.integers(1, max(2, 2 * yields // kills))) if made < kills else 0
            status = piece(begin, steps, kill, float(rng.choice([0.0, 0.002, 0.02])), errors)
            if status == 0:
                return made, contents(whole) == contents(killed)
            assert os.WIFSIGNALED(status), errors.read_text()
            made += 1
            begin = lambda: training.resume(killed, method, steps)


def counted(method, config, env, seed, steps):
    """Return the number of yields of a run."""
    made = Environment(env).make()
    training = method.train(made, config, method.init(made, config, seed))
    count = 0
    for metrics in training:
        count += 1
        if metrics.steps >= steps:
            break
    training.close()
    made.close()
    return count


def main():
    given = study.options(__doc__, dict.fromkeys(METHODS), kills=20, steps=2000, seed=0)
    table, start = [], time.monotonic()
    for shown, name, env, settings in rows(given.parts):
        steps = 100 if name == "theorem" else given.steps
        made, same = trial(name, env, settings, steps, given.kills, given.seed)
        table.append((shown, env, str(made), "the same" if same else "ANOTHER"))
        print(*table[-1], flush=True)
    made = sum(int(row[2]) for row in table)
    same = sum(row[3] == "the same" for row in table)
    text = (
        f"{made} kills in {len(table)} runs of {given.steps} steps (theorem: 100 updates), "
        f"{time.monotonic() - start:.0f} s: {same} of {len(table)} end to the bit as the run that "
        "was not killed.\n\n"
    )
    text += study.table(("method", "environment", "kills", "the end is"), table)
    study.publish("resume", text=text) if len(given.parts) == len(METHODS) else print(text)


if __name__ == "__main__":
    main()
