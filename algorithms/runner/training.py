"""Running a method: begin or resume a run folder, iterate `train`, keep everything it gives."""

import signal
import time
import warnings
from collections import deque
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithms.runner import folder, plot
from algorithms.runner.checkpoint import Keeper, Position, restore
from algorithms.runner.errors import Failure, UsageError, one_line
from algorithms.runner.lookup import Method, prepare
from algorithms.runner.progress import Progress


class Session(NamedTuple):
    """A run that is ready to go on from `position`, where its State stands."""

    path: Path
    method: Method
    env: object
    config: object
    state: object
    position: Position


def ending(method: Method, values: dict, steps: int):
    """The method's Config of these fields; T_max, of a method that ends by itself, is `steps`."""
    end = {"T_max": steps} if "T_max" in values else {}
    return method.Config(**values | end)


def begin(name, method: Method, env_id: str, config, seed: int, run=None, command=()) -> Session:
    """Set up a new run. Nothing is written before all of it is known to fit together.

    Raises UsageError for the environment, spaces the method cannot handle, or the run folder.
    """
    env, state = prepare(method, env_id, config, seed)
    default = f"{name}-{env_id}-seed{seed}".replace("/", "-").replace(":", "-")
    path = folder.create(run, default)
    folder.write_config(path, name, env_id, seed, config, list(command))
    return Session(path, method, env, config, state, Position())


def resume(path: Path, method: Method, steps: int) -> Session:
    """Take up the run in `path` at its checkpoint, to go on to `steps` steps in all.

    Raises UsageError if it has come that far already, or its files do not fit together.
    """
    record = folder.read_config(path)
    config = ending(method, vars(folder.build(method.Config, record["config"])), steps)
    env, state = prepare(method, record["env"], config, record["seed"])
    position = restore(path, state, record["env"])
    if steps <= position.steps:
        raise UsageError(f"--steps = {steps}: must exceed the {position.steps} steps of {path}")
    folder.cut_metrics(path, position.episodes)
    return Session(path, method, env, config, state, position)


def learn(session: Session, steps: int, checkpoint_every: float = 30.0) -> dict:
    """Iterate `train` until `steps` environment steps or a signal; return the run's summary.

    Stops at a yield, so that what is saved is a State the method vouches for; a method that ends by
    itself by then (T_max) is let, so that its workers report all they did. If the method or its
    environment raises, the latest such State is saved before Failure is raised.
    """
    path, method, env, config, state, position = session
    started, failure = time.monotonic() - position.seconds, None
    rows, progress = folder.MetricsFile(path), Progress(steps, position.steps, "steps")
    recent = deque(folder.read_metrics(path)["return"], maxlen=100)
    mean = lambda: float(np.mean(recent)) if recent else None
    limit = np.inf if getattr(config, "T_max", np.inf) <= steps else steps
    with closing(env), closing(rows), _stop_signals() as signals:
        keeper = Keeper(path, state, position, checkpoint_every)
        try:
            with closing(_guarded(method.train(env, config, state))) as updates:
                for metrics in updates:
                    seconds = time.monotonic() - started
                    position = Position(metrics.steps, metrics.episodes, seconds)
                    rows.append(metrics, seconds)
                    recent.extend(metrics.returns)
                    keeper.at_yield(position)
                    progress.update(metrics.steps, mean)
                    if signals or metrics.steps >= limit:
                        break
            keeper.keep(position)
        except Failure as error:
            failure = error
        keeper.save()
        progress.finish(position.steps, mean)
        _picture(path)
    result = dict(run=str(path), **position._asdict(), return_last_100=mean())
    result["signal"] = signals[0] if signals else None
    if failure is not None:
        where = f"{env.spec.id}, after step {position.steps}"
        saved = f"saved up to step {keeper.position.steps} in {path}"
        raise Failure(f"{where}: {failure}; {saved}", **result) from failure
    return result


def _guarded(training):
    """What `training` yields; its exceptions become Failure, unlike those of the loop around it."""
    try:
        yield from training
    except Exception as error:
        raise Failure(one_line(error)) from error


def _picture(path):
    try:
        plot.learning_curve(path)
    except Exception as error:
        warnings.warn(f"{path}: no picture: {one_line(error)}", stacklevel=2)


@contextmanager
def _stop_signals():
    """A list that receives the name of the first SIGINT or SIGTERM; a second ends the process."""
    received, stops = [], (signal.SIGINT, signal.SIGTERM)

    def note(number, frame):
        received.append(signal.Signals(number).name)
        for each in stops:
            signal.signal(each, signal.SIG_DFL)

    previous = {each: signal.signal(each, note) for each in stops}
    try:
        yield received
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
