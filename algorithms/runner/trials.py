"""Trials: many runs at once, each an ordinary run folder, in processes of this machine.

A trial goes on from its run folder, so the same call repeated completes what was interrupted.
`run` is the whole of a trial, wherever it is executed (see also algorithms.runner.cluster).
"""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import resource_tracker
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from algorithms.common.processes import TRIES, _birth
from algorithms.runner import folder, training
from algorithms.runner.checkpoint import restore
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Failure, UsageError, one_line
from algorithms.runner.evaluate import evaluate
from algorithms.runner.lookup import Page, load_method, prepare

PERIOD = 0.5  # seconds: the longest time until a signal is noticed and the display is renewed
TAIL = 4096  # bytes at the end of metrics.csv that are read for the display


class Trial(NamedTuple):
    """One seed of one setting: all that its run folder is made from, and how it is scored."""

    path: str
    name: str  # of the method, at `page`
    page: Page
    environment: Environment
    config: object
    seed: int
    steps: int
    checkpoint_every: float
    evaluate: int  # episodes; 0: the score is the mean return of the last 100 training episodes
    greedy: bool
    command: tuple[str, ...]


# One trial


def run(trial: Trial) -> dict:
    """Begin or resume the run of a trial; return its score, or {"failed": why}, or {"stopped": ..}.

    The score is a mean return, None before the first episode; `error` is the standard error of an
    evaluation. What the run prints goes to log.txt in its folder.
    """
    damage = {}
    try:
        method = load_method(trial.name, {trial.name: trial.page})
        session, damage = _opened(trial, method)
        with open(Path(trial.path) / "log.txt", "a", encoding="utf-8") as log:
            with redirect_stdout(log), redirect_stderr(log):
                result = _finished(trial, method, session)
    except Exception as error:
        told = isinstance(error, (Failure, UsageError))
        result = {"failed": str(error) if told else one_line(error)}
    return result | damage


def _finished(trial, method, session):
    """Learn, unless session is None, and score the run if nothing stopped it."""
    if session is not None:
        learned = training.learn(session, trial.steps, trial.checkpoint_every)
        if learned["signal"]:
            return {"stopped": learned["signal"]}
    return _scored(trial, method)


def _opened(trial, method):
    """Return (Session, or None if the run is complete; {"damage": what} if its folder had any).

    A run that cannot be resumed is moved aside, and a new one takes its place.
    """
    path, damage = Path(trial.path), {}
    env, state = prepare(method, trial.environment, trial.config, trial.seed)
    env.close()
    if (path / "checkpoint.npz").exists():
        try:
            steps = _read(trial, state)
            if steps >= trial.steps:
                return None, damage
        except UsageError as error:
            aside = (path.with_name(f"{path.name}-damaged-{k}") for k in itertools.count(1))
            there = path.rename(next(p for p in aside if not p.exists()))
            damage = {"damage": f"{error}; moved to {there}; begun anew"}
        else:
            return _stoppable(training.resume(path, method, trial.steps)), damage
    elif path.exists():
        shutil.rmtree(path)  # it was interrupted before its first checkpoint
    given = trial.name, method, trial.environment, trial.config, trial.seed
    return _stoppable(training.begin(*given, trial.path, trial.command)), damage


def _read(trial, state):
    """Return the steps of a trial's run. Raises UsageError if it is damaged or another run."""
    path, found = Path(trial.path), folder.read_config(Path(trial.path))
    wanted = dict(method=trial.name, **trial.environment.record(), seed=trial.seed)
    wanted |= {"config": folder.recorded(trial.config)}
    found, wanted = (json.loads(json.dumps(record)) for record in (found, wanted))
    for name, value in wanted.items():
        if found.get(name) != value:
            raise UsageError(f"{path}: {name} = {found.get(name)}: must be {value}")
    tally = restore(path, state, trial.environment.env)
    episodes, least = len(folder.read_metrics(path)["step"]), tally.episodes
    if episodes < least:
        raise UsageError(f"{path / 'metrics.csv'}: has {episodes} episodes: must have {least}")
    return tally.steps


def _stoppable(session):
    """Return the Session with a `train` that ends, as by SIGTERM, once the place is stopped."""

    def train(env, config, state):
        told = False
        with closing(session.method.train(env, config, state)) as updates:
            for metrics in updates:
                if _place.stopped() and not told:
                    told = True
                    signal.raise_signal(signal.SIGTERM)  # training.learn saves and ends
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # see _birth
                yield metrics

    return session._replace(method=session.method._replace(train=train))


def _scored(trial, method):
    """Return the score of a run. Each seed is evaluated on starts of its own."""
    if trial.evaluate:
        played = evaluate(Path(trial.path), method, trial.evaluate, trial.seed, trial.greedy)
        return dict(score=played["return_mean"], error=played["return_error"])
    returns = folder.read_metrics(Path(trial.path))["return"][-100:]
    return dict(score=float(np.mean(returns)) if len(returns) else None, error=None)


def position(trial: Trial) -> tuple[int, float] | None:
    """Return (step, return) of the last episode in metrics.csv, or None if there is none here."""
    try:
        with open(Path(trial.path) / "metrics.csv", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            row = file.read().split(b"\n")[-2].split(b",")
        return int(row[0]), float(row[2])
    except (OSError, IndexError, ValueError):
        return None


# Many trials


def run_all(trials, place, ended, shown):
    """Run trials in `place`. Return the name of a signal, after which they are incomplete, or None.

    ended(trial, result) is called as each one ends, shown(running trials) every PERIOD. A trial
    whose process dies is run again, until it dies TRIES times after the same episode. The first
    SIGINT or SIGTERM lets the running trials save and end; a second one ends the process.
    """
    waiting, running, deaths = deque(trials), {}, Counter()
    with training._stop_signals() as signals:
        while running or (waiting and not signals):
            while waiting and len(running) < place.jobs and not signals:
                trial = waiting.popleft()
                running[place.submit(trial)] = trial
            done, _ = wait(running, PERIOD, FIRST_COMPLETED)
            if signals:
                place.stop()
            for future in done:
                trial = running.pop(future)
                result, died = _result(trial, future)
                deaths[trial.path, position(trial)] += died
                if died and not signals and deaths[trial.path, position(trial)] < TRIES:
                    waiting.appendleft(trial)
                    result["again"] = True
                if not (died and signals) and "stopped" not in result:
                    ended(trial, result)
            shown(list(running.values()))
    return signals[0] if signals else None


def _result(trial, future):
    """Return (result, whether it is only that the trial's process died).

    The files of a run on a machine that does not share this one's storage are written here.
    """
    try:
        result = future.result()
    except BrokenProcessPool:
        return {"failed": "its process died"}, True
    except BaseException as error:  # by which Ray says that it has lost a trial, or cancelled it
        return {"failed": f"its process died: {one_line(error)}"}, True
    for name, content in result.pop("files", {}).items():
        Path(trial.path).mkdir(parents=True, exist_ok=True)
        with folder.replacing(Path(trial.path) / name) as file:
            file.write(content)
    return result, False


class Here:
    """Processes of this machine: `jobs` at once, each with one BLAS thread.

    Every process has an executor of its own, so that its death breaks no other's trial.
    """

    def __init__(self, jobs: int):
        self.jobs, self.latest = jobs, {}  # {executor: its latest future}
        self.context = multiprocessing.get_context("spawn")
        self.stopped = self.context.Event()
        resource_tracker.ensure_running()  # else the first child starts it, which unblocks SIGINT

    def submit(self, trial: Trial):
        """Return the Future of run(trial)."""
        pool = self._idle() or ProcessPoolExecutor(1, self.context, _enter, (self.stopped,))
        with _birth():
            self.latest[pool] = pool.submit(run, trial)
        return self.latest[pool]

    def _idle(self):
        for pool, future in list(self.latest.items()):
            if future.done() and not isinstance(future.exception(), BrokenProcessPool):
                return pool
            if future.done():
                del self.latest[pool]
        return None

    def stop(self):
        """Let every running trial save and end."""
        self.stopped.set()

    def close(self):
        self.stop()
        for pool in self.latest:
            pool.shutdown()


_place = SimpleNamespace(stopped=lambda: False)  # of this process; `_enter` sets it


def _enter(stopped):
    """Prepare a process of `Here`: it heeds `stopped`, and ends when its parent dies."""
    _place.stopped = stopped.is_set
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def locked(path: Path, wait: bool = False):
    """Hold the lock of a file, which is freed when this process ends. Raises UsageError if another
    process holds it, unless `wait`."""
    import fcntl

    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise UsageError(f"{path}: is used by another process") from error
        yield
