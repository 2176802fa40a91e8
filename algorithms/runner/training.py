"""Runs of a method: begin or resume a run folder, iterate `train`, save all results."""

import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithms.common.events import WorkerError
from algorithms.common.world import name_of
from algorithms.runner import folder, plot
from algorithms.runner.checkpoint import Keeper, Tally, check_actions, copy_state, restore, write
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Failure, UsageError, one_line
from algorithms.runner.lookup import Method, prepare
from algorithms.runner.progress import Progress

TWICE = 0.3  # seconds within which two signals are one


class Session(NamedTuple):
    """A run that is ready to continue from `tally`, the totals of its State. `learn` closes env and
    lock."""

    path: Path
    method: Method
    env: object
    config: object
    state: object
    tally: Tally
    lock: folder.Lock


def ending(method: Method, values: dict, steps: int):
    """Return the method's Config with these values; T_max, if there is one, is set to `steps`."""
    end = {"T_max": steps} if "T_max" in values else {}
    return method.Config(**values | end)


def begin(
    name, method: Method, environment: Environment, config, seed: int, run=None, command=()
) -> Session:
    """Set up a new run. Nothing is written before all arguments have been checked.

    config.json is written last: a folder that has one can be resumed, and a folder that has none
    can be given to another run.

    Raises UsageError for an invalid environment, for spaces that the method cannot handle, and for
    an invalid run folder.
    """
    with ExitStack() as undo:
        env, state = prepare(method, environment, config, seed)
        undo.callback(env.close)
        default = f"{name}-{environment.env}-seed{seed}".replace("/", "-").replace(":", "-")
        path = folder.create(run, default)
        lock = folder.Lock(path)
        undo.callback(lock.close)
        if (path / "config.json").exists():
            raise UsageError(f"--run = {path}: another process has begun in it; must be empty")
        try:
            write(path, *copy_state(state, copy=False), Tally(), state.parameters)
            folder.write_config(path, name, environment, seed, config, list(command))
        except OSError as error:
            raise UsageError(f"--run = {path}: cannot be written: {error.strerror}") from error
        undo.pop_all()
    folder.log(path, "begin at step 0")
    return Session(path, method, env, config, state, Tally(), lock)


def resume(path: Path, method: Method, steps: int) -> Session:
    """Resume the run in `path` from its checkpoint, to continue to `steps` steps in total.

    Raises UsageError if it already has that many steps, if its files do not fit together, or if
    another process trains in it.
    """
    record = folder.read_config(path)
    config = ending(method, vars(folder.build(method.Config, record["config"])), steps)
    with ExitStack() as undo:
        lock = folder.Lock(path)
        undo.callback(lock.close)
        env, state = prepare(method, Environment.of(record), config, record["seed"])
        undo.callback(env.close)
        tally = restore(path, state, record["env"])
        check_actions(path, state, env.action_space)
        if steps <= tally.steps:
            raise UsageError(f"--steps = {steps}: must exceed the {tally.steps} steps of {path}")
        try:
            folder.cut_metrics(path, tally.steps, tally.episodes)
        except OSError as error:
            raise UsageError(f"RUN = {path}: cannot be written: {error.strerror}") from error
        undo.pop_all()
    folder.log(path, f"resume at step {tally.steps}")
    return Session(path, method, env, config, state, tally, lock)


def learn(
    session: Session, steps: int, checkpoint_every: float = 30.0, observers: Iterable = ()
) -> dict:
    """Iterate `train` until `steps` environment steps or a signal; return the run's summary.

    Each of the observers is called with every Metrics, after its rows are written.

    Stops at a yield, where the State is valid and can be saved. A method with T_max <= steps ends
    by itself, so that its workers report everything they did. If the method, its environment or the
    disk fails, the latest copy of a valid State is saved before Failure is raised.
    """
    path, method, env, config, state, tally, lock = session
    started, failure, stopped = time.monotonic() - tally.seconds, None, None
    limit = np.inf if getattr(config, "T_max", np.inf) <= steps else steps
    with ExitStack() as stack:
        stack.callback(lock.close)
        signals = stack.enter_context(_stop_signals())
        stack.enter_context(_logged_warnings(path))
        stack.callback(_close, env)
        rows, recent = _open_metrics(path, stack)
        mean = lambda: float(np.mean(recent)) if recent else None
        progress = Progress(steps, tally.steps, "steps")
        keeper = Keeper(path, state, tally, checkpoint_every, rows.sync)
        try:
            with closing(_guarded(method.train(env, config, state))) as updates:
                for metrics in updates:
                    seconds = max(tally.seconds, time.monotonic() - started)
                    rows.append(metrics, seconds)
                    tally = Tally(metrics.steps, metrics.episodes, seconds)
                    recent.extend(metrics.returns)
                    for observe in observers:
                        observe(metrics)
                    keeper.at_yield(tally)
                    progress.update(metrics.steps, mean)
                    if signals or metrics.steps >= limit:
                        if not hasattr(state, "stop"):
                            break
                        state.stop[:] = True  # its workers end and report everything
            keeper.keep(tally)
        except Exception as error:
            failure = error
        if signals and tally.steps < limit:
            stopped = signals[0]
            failure = None if _of_a_worker(failure) else failure  # the signal ended the worker, too
        failure = _saved(keeper) or failure
        progress.finish(tally.steps, mean)
        if not isinstance(failure, OSError):
            _picture(path)
        reason = one_line(failure) if failure else stopped or "done"
        folder.log(path, f"stop at step {keeper.saved.steps}: {reason}")
    result = dict(run=str(path), **tally._asdict(), return_last_100=mean(), signal=stopped)
    if failure is not None:
        what = str(failure) if isinstance(failure, Failure) else one_line(failure)
        where = f"{name_of(env)}, after step {tally.steps}"
        saved = f"saved up to step {keeper.saved.steps} in {path}"
        raise Failure(f"{where}: {what}; {saved}", **result) from failure
    return result


def _open_metrics(path, stack):
    """Return the MetricsFile, and the latest 100 returns in it."""
    try:
        rows = stack.enter_context(closing(folder.MetricsFile(path)))
        return rows, deque(folder.read_metrics(path)["return"], maxlen=100)
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {one_line(error)}") from error


def _guarded(training):
    """Yield from `training`; what it raises becomes Failure, unlike what the loop body raises."""
    try:
        yield from training
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise Failure(one_line(error)) from error


def _of_a_worker(failure):
    return isinstance(failure, Failure) and isinstance(failure.__cause__, WorkerError)


def _saved(keeper):
    """Write the latest copy; return the error, if there is one."""
    try:
        keeper.save()
    except Exception as error:
        return error


def _close(env):
    """Close the environment. If that fails, nothing that was learned is lost."""
    try:
        env.close()
    except Exception as error:
        text = f"{name_of(env)}: cannot be closed: {one_line(error)}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def _picture(path):
    try:
        plot.learning_curve(path)
    except Exception as error:
        warnings.warn(f"{path}: no picture: {one_line(error)}", stacklevel=2)


@contextmanager
def _logged_warnings(path):
    """Write every warning to log.txt as well."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def log_and_show(message, *rest):
            folder.log(path, f"warning: {message}")
            show(message, *rest)

        warnings.showwarning = log_and_show
        yield


@contextmanager
def _stop_signals():
    """Yield a list for the name of the first SIGINT or SIGTERM; a second ends the process, unless
    it comes within TWICE seconds: some programs signal a process and its group.

    A signal that is ignored, as in the background of a script, stays ignored.
    """
    received, handlers, first = [], {}, []

    def note(number, frame):
        if first and time.monotonic() - first[0] > TWICE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        first.append(time.monotonic())
        received.append(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) != signal.SIG_IGN:
                handlers[each] = signal.signal(each, note)
    try:
        yield received
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
