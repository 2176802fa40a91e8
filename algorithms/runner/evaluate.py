"""Evaluation of the parameters of a run folder."""

from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np

from algorithms.common.world import Position, World
from algorithms.runner import folder
from algorithms.runner.checkpoint import check_fit, read_arrays
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Failure, one_line
from algorithms.runner.lookup import Method, prepare
from algorithms.runner.progress import Progress


def evaluate(
    path: Path,
    method: Method,
    episodes: int,
    seed: int,
    greedy: bool,
    longest: int = 10_000,
    see=lambda env: env,
    **options,
) -> dict:
    """Play episodes with the parameters of a run, and return statistics of them.

    These are the mean and (population) standard deviation of the undiscounted return, the standard
    error of the mean, the mean length, and the number of truncated episodes.

    The actions are those of the learned policy, or its mode if `greedy`; the same seed gives the
    same numbers. Episodes are truncated after `longest` steps. They are played in see(env), env
    made with `options`. Raises UsageError for parameters that do not fit the environment, Failure
    if the environment raises an error.
    """
    record = folder.read_config(path)
    config = folder.build(method.Config, record["config"])
    env, state = prepare(method, Environment.of(record), config, record["seed"], **options)
    with closing(see(env)) as env:
        parameters = read_arrays(path / "parameters.npz")
        check_fit(parameters, state, path / "parameters.npz", record["env"])
        act, rng = method.actor(env, config), np.random.default_rng(seed)
        played, cut, progress = [], 0, Progress(episodes, 0, "episodes")
        limited = gymnasium.wrappers.TimeLimit(env, longest)
        world = World(limited, Position(int(rng.integers(2**31))), decode=lambda a: a, keep=False)
        mean = lambda: float(np.mean([G for G, _ in played[-100:]])) if played else None
        for episode in range(1, episodes + 1):
            try:
                scored, over_time = _play(world, act, parameters, rng, greedy)
            except Exception as error:
                raise Failure(f"episode {episode} on {record['env']}: {one_line(error)}") from error
            played.append(scored)
            cut += over_time
            progress.update(episode, mean)
        progress.finish(episodes, mean)
    returns, lengths = np.array(played).T
    summary = dict(return_mean=returns.mean(), return_std=returns.std(), length_mean=lengths.mean())
    summary["return_error"] = returns.std() / np.sqrt(episodes)
    summary = {name: float(value) for name, value in summary.items()}
    return dict(
        run=str(path), episodes=episodes, **summary, truncated=cut, greedy=greedy, seed=seed
    )


def _play(world, act, parameters, rng, greedy):
    """Play one episode; return ((return, length), whether it was truncated)."""
    while True:
        action = act(parameters, world.observation, rng, greedy)
        _, _, terminated, _ = world.step(action)
        if world.ended:
            return world.ended[0], not terminated
