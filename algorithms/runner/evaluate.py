"""Playing with the parameters of a run folder."""

from contextlib import closing
from pathlib import Path

import numpy as np

from algorithms.runner import folder
from algorithms.runner.checkpoint import check_fit, read_arrays
from algorithms.runner.errors import Failure, one_line
from algorithms.runner.lookup import Method, prepare
from algorithms.runner.progress import Progress


def evaluate(path: Path, method: Method, episodes: int, seed: int, greedy: bool) -> dict:
    """Mean and (population) standard deviation of the undiscounted return, and the mean length.

    Acts with the learned policy, or with its mode if `greedy`; the same seed gives the same
    numbers. Raises UsageError for parameters that do not fit the environment, Failure if that
    one breaks.
    """
    record = folder.read_config(path)
    config = folder.build(method.Config, record["config"])
    env, state = prepare(method, record["env"], config, record["seed"])
    with closing(env):
        parameters = read_arrays(path / "parameters.npz")
        check_fit(parameters, state, path / "parameters.npz", record["env"])
        act, rng = method.actor(env, config), np.random.default_rng(seed)
        played, progress = [], Progress(episodes, 0, "episodes")
        mean = lambda: float(np.mean([G for G, _ in played[-100:]])) if played else None
        for episode in range(1, episodes + 1):
            try:
                played.append(_play(env, act, parameters, rng, greedy))
            except Exception as error:
                raise Failure(f"episode {episode} on {record['env']}: {one_line(error)}") from error
            progress.update(episode, mean)
        progress.finish(episodes, mean)
    returns, lengths = np.array(played).T
    summary = dict(return_mean=returns.mean(), return_std=returns.std(), length_mean=lengths.mean())
    summary = {name: float(value) for name, value in summary.items()}
    return dict(run=str(path), episodes=episodes, **summary, greedy=greedy, seed=seed)


def _play(env, act, parameters, rng, greedy):
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    G, length, over = 0.0, 0, False
    while not over:
        action = act(parameters, observation, rng, greedy)
        observation, reward, terminated, truncated, _ = env.step(action)
        G, length, over = G + float(reward), length + 1, terminated or truncated
    if not np.isfinite(G):
        raise FloatingPointError(f"return = {G}: the rewards must be finite")
    return G, length
