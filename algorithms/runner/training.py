"""Runs of a method: begin or resume a run folder, iterate `train`, save all results."""

import signal
import time
import warnings
from collections import deque
from collections.abc import Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithms.runner import folder, plot
from algorithms.runner.checkpoint import Keeper, Tally, restore
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Failure, UsageError, one_line
from algorithms.runner.lookup import Method, prepare
from algorithms.runner.progress import Progress


class Session(NamedTuple):
    """A run that is ready to continue from `tally`, the totals of its State."""

    path: Path
    method: Method
    env: object
    config: object
    state: object
    tally: Tally


def ending(method: Method, values: dict, steps: int):
    """Return the method's Config with these values; T_max, if there is one, is set to `steps`."""
    end = {"T_max": steps} if "T_max" in values else {}
    return method.Config(**values | end)


def begin(
    name, method: Method, environment: Environment, config, seed: int, run=None, command=()
) -> Session:
    """Set up a new run. Nothing is written before all arguments have been checked.

    Raises UsageError for an invalid environment, for spaces that the method cannot handle, and for
    an invalid run folder.
    """
    env, state = prepare(method, environment, config, seed)
    default = f"{name}-{environment.env}-seed{seed}".replace("/", "-").replace(":", "-")
    path = folder.create(run, default)
    folder.write_config(path, name, environment, seed, config, list(command))
    return Session(path, method, env, config, state, Tally())


def resume(path: Path, method: Method, steps: int) -> Session:
    """Resume the run in `path` from its checkpoint, to continue to `steps` steps in total.

    Raises UsageError if it already has that many steps, or if its files do not fit together.
    """
    record = folder.read_config(path)
    config = ending(method, vars(folder.build(method.Config, record["config"])), steps)
    env, state = prepare(method, Environment.of(record), config, record["seed"])
    tally = restore(path, state, record["env"])
    if steps <= tally.steps:
        raise UsageError(f"--steps = {steps}: must exceed the {tally.steps} steps of {path}")
    folder.cut_metrics(path, tally.episodes)
    return Session(path, method, env, config, state, tally)


def learn(
    session: Session, steps: int, checkpoint_every: float = 30.0, observers: Iterable = ()
) -> dict:
    """Iterate `train` until `steps` environment steps or a signal; return the run's summary.

    Each of the observers is called with every Metrics, after its rows are written.

    Stops at a yield, where the State is valid and can be saved. A method with T_max <= steps ends
    by itself, so that its workers report everything they did. If the method or its environment
    raises, the latest copy of a valid State is saved before Failure is raised.
    """
    path, method, env, config, state, tally = session
    started, failure = time.monotonic() - tally.seconds, None
    rows, progress = folder.MetricsFile(path), Progress(steps, tally.steps, "steps")
    recent = deque(folder.read_metrics(path)["return"], maxlen=100)
    mean = lambda: float(np.mean(recent)) if recent else None
    limit = np.inf if getattr(config, "T_max", np.inf) <= steps else steps
    with closing(env), closing(rows), _stop_signals() as signals:
        keeper = Keeper(path, state, tally, checkpoint_every)
        try:
            with closing(_guarded(method.train(env, config, state))) as updates:
                for metrics in updates:
                    seconds = time.monotonic() - started
                    tally = Tally(metrics.steps, metrics.episodes, seconds)
                    rows.append(metrics, seconds)
                    recent.extend(metrics.returns)
                    for observe in observers:
                        observe(metrics)
                    keeper.at_yield(tally)
                    progress.update(metrics.steps, mean)
                    if signals or metrics.steps >= limit:
                        break
            keeper.keep(tally)
        except Failure as error:
            failure = error
        keeper.save()
        progress.finish(tally.steps, mean)
        _picture(path)
    result = dict(run=str(path), **tally._asdict(), return_last_100=mean())
    result["signal"] = signals[0] if signals else None
    if failure is not None:
        where = f"{env.spec.id}, after step {tally.steps}"
        saved = f"saved up to step {keeper.tally.steps} in {path}"
        raise Failure(f"{where}: {failure}; {saved}", **result) from failure
    return result


def _guarded(training):
    """Yield from `training`; only its exceptions become Failure, not those of the loop body."""
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
    """Yield a list for the name of the first SIGINT or SIGTERM; a second ends the process."""
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
