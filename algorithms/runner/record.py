"""Videos of episodes with the learned policy of a run."""

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np

from algorithms.runner import arguments, folder
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Failure, Outcome, UsageError, require
from algorithms.runner.evaluate import evaluate
from algorithms.runner.lookup import load_method


@dataclass(frozen=True, kw_only=True)
class Record(arguments.Evaluate):
    episodes: int = 1
    """Episodes to record, each in a file of its own. At least 1."""
    max_episode_steps: int = 1000
    """Steps after which an episode is truncated: its pictures are in memory until it ends, 0.7 MB
    each for CartPole-v1. At least 1."""
    out: arguments._shown(str | None, "DIR", "(default: RUN/video)") = None
    """Folder for the videos; must be new or empty."""


def record_command(argv, methods) -> Outcome:
    """Record the episodes that `evaluate` would play with the same seed."""
    about = "Record a video of episodes with the learned policy: those that evaluate would play."
    (options,) = arguments.parse(argv, "npgrad record", about, run=Record)
    path = Path(options.run)
    record = folder.read_config(path)
    method = load_method(record["method"], methods)
    require("moviepy", "npgrad[video]")
    out = Path(options.out or path / "video")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame then needs no display
    try:
        _check_renders(Environment.of(record))
        _check_new(out)
        result = evaluate(
            path,
            method,
            options.episodes,
            options.seed,
            options.greedy,
            options.max_episode_steps,
            see=lambda env: gymnasium.wrappers.RecordVideo(
                env, str(out), lambda k: k < options.episodes, name_prefix=record["method"]
            ),
            render_mode="rgb_array",
        )
    except gymnasium.error.DependencyNotInstalled as error:
        raise Failure(str(error)) from error
    videos = sorted(map(str, out.iterdir()))
    returns = f"return {result['return_mean']:.4g}, length {result['length_mean']:.4g}"
    return Outcome({**result, "videos": videos}, "\n".join([*videos, returns]))


def _check_renders(environment):
    """Raise UsageError unless the environment draws itself into an array, which is tried."""
    with closing(environment.make()) as env:
        modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise UsageError(
            f"RUN: {environment.env} has the render modes {modes}: must have rgb_array, as "
            "CartPole-v1 has"
        )
    with closing(environment.make(render_mode="rgb_array")) as env:
        env.reset()
        shape = np.shape(env.render())
    if len(shape) != 3:
        raise UsageError(
            f"RUN: {environment.env} gives pictures of shape {shape}: must be height, width, colour"
        )


def _check_new(out: Path):
    """Raise UsageError unless `out` is a folder that can be made. An empty one is removed, because
    RecordVideo warns of folders that exist."""
    try:
        if out.exists():
            out.rmdir()
        out.mkdir(parents=True)
        out.rmdir()
    except OSError as error:
        raise UsageError(
            f"--out = {out}: {error.strerror}: must be a new or an empty folder"
        ) from error
