"""Policy-gradient methods, one page each. A program uses every page by the same names:

    Config                             a page's hyper-parameters. actor_critic has OneStep, Traces
                                       and Continuing; async_q OneStepQ, OneStepSarsa and NStepQ
    init(env, config, seed)            the State before learning
    State                              all that changes while learning; State.parameters are the
                                       names of what is learned
    train(env, config, state)          a generator: it changes state in place and yields Metrics.
                                       Whatever it yields at, you may stop, save, and go on
    actor(env, config)                 act(vars(state), observation, rng, greedy=False) -> action
    save(state, path), load(path, state)     a State in one file, without pickle, bit for bit

env is a Gymnasium environment, of your own class or made by its id, or a function that makes one;
a2c takes a VectorEnv, too. Metrics are (steps, episodes, returns, lengths, scalars).

    import gymnasium
    import numpy as np

    from algorithms import load, reinforce, save

    env, config = gymnasium.make("CartPole-v1"), reinforce.Config()
    state = reinforce.init(env, config, seed=0)
    for metrics in reinforce.train(env, config, state):
        if metrics.steps >= 1000:
            break
    save(state, "cartpole.npz")
    state = load("cartpole.npz", reinforce.init(env, config, seed=0))  # go on with train
    act, rng = reinforce.actor(env, config), np.random.default_rng(0)
    action = act(vars(state), env.reset()[0], rng, greedy=True)
"""

import glob
import os
import sys
import warnings
from typing import Any, TypeVar

_State = TypeVar("_State")


def save(state: Any, path: str | os.PathLike[str]) -> None:
    """Write a State, as it is when `train` has yielded, to the npz file `path`."""
    from algorithms.runner.checkpoint import save

    save(state, path)


def load(path: str | os.PathLike[str], state: _State) -> _State:
    """Return `state`, a new State of the same Config and spaces, as the one saved at `path`.

    Raises ValueError, naming the file, if it cannot be read or does not fit.
    """
    from algorithms.runner.checkpoint import load

    return load(path, state)


def _rivals() -> list[str]:
    """Return the other distributions that provide a package `algorithms`, as name-version."""
    found = set()
    for folder in filter(os.path.isdir, sys.path):
        for file in glob.iglob(os.path.join(glob.escape(folder), "*-info", "top_level.txt")):
            name = os.path.basename(os.path.dirname(file)).rpartition(".")[0]
            if name.partition("-")[0] != "npgrad" and _provides(file):
                found.add(name)
    return sorted(found)


def _provides(file: str) -> bool:
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            return __name__ in text.read().split()
    except OSError:
        return False


def _warn() -> None:
    """Warn of rivals, but not again in the processes that this one starts."""
    parent = getattr(sys.modules.get("multiprocessing"), "parent_process", lambda: None)
    rivals = [] if parent() else _rivals()
    if rivals:
        warnings.warn(
            f"{', '.join(rivals)}: has a package `algorithms`, as npgrad has: one hides or damages "
            "the other; give each an environment of its own",
            stacklevel=3,
        )


_warn()
