"""Evaluation of the parameters of a run folder."""

from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np

from algorithms.common.remembered import (
    freeze,
    normalises_observations,
    pooled,
    remembered,
    remind,
)
from algorithms.common.world import Position, World
from algorithms.runner import folder
from algorithms.runner.checkpoint import read_parameters, read_scalars
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Failure, UsageError, one_line
from algorithms.runner.lookup import Method, prepare
from algorithms.runner.progress import Progress


def evaluate(
    path: Path,
    method: Method,
    episodes: int,
    seed: int,
    greedy: bool,
    longest: int = 10_000,
    error: float | None = None,
    see=lambda env: env,
    **options,
) -> dict:
    """Play episodes with the parameters of a run, and return statistics of them.

    These are the mean and standard deviation of the undiscounted return, the standard error of the
    mean, the mean length, and the number of truncated episodes. With `error`, more episodes are
    played until the standard error is at most that. In wrappers that normalise, the moments are
    those at the end of the run, and the returns are the environment's own.

    The actions are those of the learned policy, or its mode if `greedy`; the same seed gives the
    same numbers. Episodes are truncated after `longest` steps. They are played in see(env), env
    made with `options`. Raises UsageError for parameters that do not fit the environment, Failure
    if the environment raises an error.
    """
    record = folder.read_config(path)
    config = folder.build(method.Config, record["config"])
    env, state = prepare(method, Environment.of(record), config, record["seed"], **options)
    with closing(see(env)) as env:
        parameters = read_parameters(path / "parameters.npz", state, record["env"])
        hold_moments(env, path)
        act, rng = method.actor(env, config), np.random.default_rng(seed)
        played, cut, progress = [], 0, Progress(episodes, 0, "episodes")
        enough = lambda: error is None or _standard_error(played) <= error
        limited = gymnasium.wrappers.TimeLimit(env, longest)
        world = World(limited, Position(int(rng.integers(2**31))), decode=lambda a: a, keep=False)
        mean = lambda: float(np.mean([G for G, _ in played[-100:]])) if played else None
        while len(played) < episodes or not enough():
            try:
                scored, over_time = _play(world, act, parameters, rng, greedy)
            except Exception as failure:
                where = f"episode {len(played) + 1} on {record['env']}"
                raise Failure(f"{where}: {one_line(failure)}") from failure
            played.append(scored)
            cut += over_time
            progress.update(len(played), mean)
        progress.finish(len(played), mean)
    returns, lengths = np.array(played).T
    summary = dict(return_mean=returns.mean(), return_std=returns.std(), length_mean=lengths.mean())
    summary["return_error"] = _standard_error(played)
    summary = {name: float(value) for name, value in summary.items()}
    return dict(
        run=str(path), episodes=len(played), **summary, truncated=cut, greedy=greedy, seed=seed
    )


def hold_moments(env, path: Path):
    """Give the wrappers of env the moments that the run in `path` ended with, to stay as they are.

    Those of several environments are pooled. Raises UsageError if there are none or do not fit.
    """
    if not remembered(env):
        return
    file = path / "checkpoint.npz"
    try:
        scalars = read_scalars(file)
        latest = [x for name, x in scalars.items() if name.split(".")[-1] == "latest" and x]
        if latest:
            remind(env, pooled(latest))
        elif normalises_observations(env):
            raise ValueError("has no moments of the observations that the wrappers normalise")
    except (LookupError, ArithmeticError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: {one_line(error)}") from error
    freeze(env)


def _standard_error(played):
    """Return the standard error of the mean return of [(return, length)]; NaN for one."""
    returns = np.array([G for G, _ in played])
    n = len(returns)
    return returns.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan


def _play(world, act, parameters, rng, greedy):
    """Play one episode; return ((return, length), whether it was truncated)."""
    while True:
        action = act(parameters, world.observation, rng, greedy)
        _, _, terminated, _ = world.step(action)
        if world.ended:
            return world.ended[0], not terminated
