"""Workers in processes, and everything that may happen to them; as a script, the console command.

No law here depends on how fast anything is: what is waited for comes at last, or never.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest

from algorithms import a3c, async_q
from algorithms.common import events, processes
from algorithms.common.drivers import WorkerError
from algorithms.common.policy import Network
from algorithms.runner.checkpoint import read_arrays
from algorithms.runner.cli import main

NETWORK = Network(hidden=(4,))
LENGTH, T_MAX = 7, 5  # of an episode, of a segment: segments of 5, 2, 5, 2, ... steps
AT = 13  # the step, of those of one life, at which a fault happens: 5 + 2 + 5 came before


class Logged(gymnasium.Env):
    """Episodes of LENGTH steps, logged step by step in lives/PID, and one of these faults:

    killed      the first process that comes to its step AT is killed; the next waits there until
                another has taken that one's place
    stillborn   a process ends with status 3 before there is an environment
    locked      it can be neither copied nor pickled
    endless     the episode of every process's step AT does not end
    hangs       in the first process that comes to its step AT
    mortal, raises, nan, sleeps   at every process's step AT
    """

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault=None):
        if multiprocessing.parent_process() and fault == "stillborn":
            os._exit(3)
        self.fault, self.steps, self.log = fault, 0, None
        if fault == "locked":
            self.lock = threading.Lock()

    def write(self, text):
        if self.log is None:
            Path("lives").mkdir(exist_ok=True)
            self.log = os.open(f"lives/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self.log, text)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if multiprocessing.parent_process():
            assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            assert all(os.environ[name] == "1" for name in processes.ONE_THREAD)
        self.t = 0
        self.write(b"\n%d " % (-1 if seed is None else seed))
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        if self.steps == AT and self.fault == "killed":
            with suppress(FileExistsError):
                Path("killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            wait_until(lambda: len(lives()) == 3)
        if self.steps == AT and self.fault == "mortal":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.steps == AT and self.fault == "raises":
            raise RuntimeError("the arm\nis stuck")
        if self.steps == AT and self.fault == "hangs":
            with suppress(FileExistsError):
                Path("hung").touch(exist_ok=False)
                time.sleep(600)
        if self.steps == AT and self.fault == "sleeps":
            Path(f"asleep-{os.getpid()}").touch()
            time.sleep(600)
        self.write(b".")
        reward = np.nan if self.steps == AT and self.fault == "nan" else 1.0
        observation = np.array([min(1, self.t / LENGTH), action], np.float32)
        over = self.t == LENGTH and not (self.fault == "endless" and self.steps > AT)
        return observation, reward, over, False, {}


FAULTS = ("fine", "killed", "mortal", "endless", "raises", "nan", "sleeps", "locked", "hangs")


def register():
    for fault in FAULTS:
        gymnasium.register(f"test/{fault}-v0", "test_processes:Logged", kwargs={"fault": fault})


@pytest.fixture(autouse=True, scope="module")
def environments():
    register()
    yield
    for fault in FAULTS:
        del gymnasium.registry[f"test/{fault}-v0"]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path, monkeypatch):
    """A new working directory; no process, shared memory or temporary file is there afterwards.

    Ctrl-C works, in the processes begun here too, even if the suite was started without it.
    """
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.chdir(tmp_path)
    before, handler = segments(), signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)
    while Run.all:
        Run.all.pop().abandon()
    assert multiprocessing.active_children() == [] and not list(Path("temporary").iterdir())
    wait_until(lambda: segments() <= before)  # another test may have some for a moment


def segments():
    """Named shared memory and semaphores, where they can be looked at."""
    place = Path("/dev/shm")
    names = [p.name for p in place.iterdir()] if place.is_dir() else []
    return {name for name in names if name.startswith(("pym", "psm_", "sem."))}


def lives():
    """By process: the (seed, steps) of its episodes; the seed is −1 if the reset had none."""
    texts = {int(p.name): p.read_text().splitlines()[1:] for p in Path("lives").glob("*")}
    split = {pid: [line.partition(" ") for line in lines] for pid, lines in texts.items()}
    return {pid: [(int(s), len(dots)) for s, _, dots in lines] for pid, lines in split.items()}


def asleep():
    return len(list(Path().glob("asleep-*")))


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def at_work(number):
    """Whether so many processes have finished an episode."""
    return lambda: sum(len(episodes) > 1 for episodes in lives().values()) >= number


def seed(i, k):
    """Of the environment whose first episode is the k-th of worker i, where the State's is 0."""
    stream = np.random.SeedSequence(0, spawn_key=(i, k))
    return int(np.random.default_rng(stream).integers(2**31))


def learning(env, page=a3c, Config=a3c.Config, options=None, **settings):
    """(State, generator) of a run of the page's method, in processes. env may be a fault."""
    env = gymnasium.make(f"test/{env}-v0") if isinstance(env, str) else env
    config = Config(driver="processes", network=NETWORK, **settings)
    state = page.init(env, config, 0)
    return state, page.train(env, config, state, **(options or {}))


def test_processes__killed_worker_is_replaced_and_every_step_counts_once():
    state, training = learning("killed", workers=2, T_max=300, t_max=T_MAX)
    with pytest.warns(RuntimeWarning, match=r"worker \d died \(Killed.*\) after 12 steps and is"):
        reports = list(training)
    assert 300 < state.T.sum() <= 300 + 2 * T_MAX
    assert reports[-1].steps == state.T.sum() and len(lives()) == 3
    who = {seed(i, k): (i, k) for i in range(2) for k in range(1, 1 + state.begun[i])}
    T, updates, finished, begun = np.zeros(2, int), np.zeros(2, int), 0, []
    for (first, _), *later in lives().values():
        assert {s for s, _ in later} == {-1}  # seeded once
        i, k = who[first]
        played = [length for _, length in ((first, LENGTH), *later) if length]
        begun += [(i, k + j) for j in range(len(played))]
        counted = [length // T_MAX * T_MAX if length < LENGTH else LENGTH for length in played]
        T[i] += sum(counted)
        updates[i] += sum(-(-length // T_MAX) for length in counted)
        finished += counted.count(LENGTH)
    assert T.tolist() == state.T.tolist() and updates.tolist() == state.updates.tolist()
    assert state.staleness.sum(1).tolist() == updates.tolist()
    assert sorted(begun) == sorted(who.values())  # each episode's stream was drawn once
    assert state.episodes == reports[-1].episodes == finished
    assert [r for report in reports for r in report.returns] == [float(LENGTH)] * finished
    assert np.isfinite(state.theta).all() and state.theta.flags.owndata


@pytest.mark.parametrize("Method", [async_q.OneStepQ, async_q.OneStepSarsa])
def test_processes__share_the_target_and_its_copies(Method):
    settings = dict(workers=2, T_max=300, I_target=40, I_async_update=T_MAX, optimizer="sgd")
    state, training = learning("fine", async_q, Method, **settings)
    start = state.theta.copy()
    list(training)
    T = state.T.sum()
    assert 300 < T <= 300 + 2 * T_MAX and state.copied[0] == T // 40 > 6
    assert not np.array_equal(state.theta_target, start)
    assert private(state.theta_target) and private(state.final_epsilon)


def test_processes__ctrl_c_at_a_birth_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(KeyboardInterrupt), processes._birth():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    assert (dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before


def test_processes__gradient_that_is_not_finite_is_never_pushed():
    state, training = learning("nan", async_q, async_q.NStepQ, workers=1, T_max=10**6)
    where = r"test/nan-v0: episode 2, step 6: reward = nan: must be finite"
    with pytest.raises(WorkerError, match=f"^worker 0: FloatingPointError: {where}"):
        list(training)
    assert state.T.tolist() == [12] and state.updates.tolist() == [3]
    assert np.isfinite(state.theta).all() and np.isfinite(state.statistics).all()


def test_processes__worker_that_dies_again_and_again_ends_the_run():
    state, training = learning(lambda: Logged("stillborn"), workers=1, T_max=10**6)
    with pytest.warns(RuntimeWarning, match=r"worker 0 died \(exit status 3\) after 0") as told:
        with pytest.raises(WorkerError, match=r"worker 0 died \(exit status 3\), 3 times before"):
            for _ in training:
                assert len(told) < 3
    assert state.T.tolist() == state.begun.tolist() == [0]


def test_processes__worker_that_dies_after_updates_is_replaced_as_often_as_it_takes():
    state, training = learning("mortal", workers=1, T_max=40, t_max=T_MAX)
    with pytest.warns(RuntimeWarning) as told:
        list(training)
    deaths = [str(warning.message).split(" after ")[1] for warning in told]
    assert deaths == [f"{T} steps and is replaced" for T in (12, 24, 36)]
    assert len(deaths) == processes.TRIES and state.T.tolist() == [41]


def test_processes__workers_end_by_themselves_when_they_are_told(monkeypatch):
    """Nobody is killed."""
    end, children = processes._end, []
    monkeypatch.setattr(processes, "PATIENCE", 120)
    monkeypatch.setattr(processes, "_end", lambda all: (end(all), children.extend(all)))
    _, training = learning("fine", workers=2, T_max=10**9)
    wait_until(lambda: next(training) and at_work(2)())
    training.close()
    assert [child.exitcode for child in children] == [0, 0]


def test_processes__worker_that_hangs_does_not_keep_a_finished_run(monkeypatch):
    """The other one reaches T_max."""
    for place in (processes, events):
        monkeypatch.setattr(place, "PATIENCE", 0.5)
    state, training = learning("hangs", workers=2, T_max=300)
    with pytest.warns(RuntimeWarning, match=r"worker \d does not end by itself"):
        list(training)
    assert state.T.sum() > 300 and state.T.min() == AT - 1


def test_processes__worker_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.1)
    state, training = learning("sleeps", workers=1, T_max=10**6)
    wait_until(lambda: next(training) and asleep())
    with pytest.warns(RuntimeWarning, match="worker 0 does not end by itself"):
        training.close()
    assert state.T.tolist() == [12]


def private(x):
    """Whether x lies in memory of NumPy's own, not in what processes share."""
    while getattr(x, "base", None) is not None:
        x = x.base
    return isinstance(x, np.ndarray)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("what", ["environment", "gradient"])
def test_processes__what_cannot_be_sent_is_one_clear_error(what, workers):
    """What cannot be copied either, of two workers, is refused before it is to be sent."""
    lock = threading.Lock()
    env = Logged("locked") if what == "environment" else Logged()
    options = (
        dict(gradient=lambda *data: lock and a3c.gradient(*data)) if what == "gradient" else {}
    )
    state, training = learning(env, workers=workers, options=options)
    sent = "driver = processes: the environment and all options must be objects that can be pickled"
    copied = r"env = .*: cannot be copied"
    message = copied if what == "environment" and workers > 1 else sent
    with pytest.raises(ValueError, match=f"^{message}.*lock"):
        next(training)
    assert private(state.theta) and not state.begun.any()


@pytest.mark.parametrize("as_factory", [False, True])
def test_processes__lambdas_and_local_classes_travel(as_factory):
    """And so do a user's own wrapper and a gradient; what was changed in an environment holds."""

    class Paying(Logged):
        pay = staticmethod(lambda t: 0.0)

        def step(self, action):
            s, _, *rest = super().step(action)
            return s, self.pay(self.t), *rest

    class Half(gymnasium.RewardWrapper):
        def reward(self, r):
            return 0.5 * r

    def make():
        env = Half(gymnasium.wrappers.TimeLimit(Paying(), 4))
        env.unwrapped.pay = lambda t: float(t)
        return env

    doubled = dict(gradient=lambda *data: tuple(2.0 * g for g in a3c.gradient(*data)))
    env = make if as_factory else make()
    state, training = learning(env, workers=2, T_max=60, options=doubled)
    reports = list(training)
    assert 60 < state.T.sum() <= 60 + 2 * T_MAX and state.episodes > 8
    assert {r for report in reports for r in report.returns} == {0.5 * (1 + 2 + 3 + 4)}
    assert {n for report in reports for n in report.lengths} == {4}
    assert not hasattr(env, "log") or env.unwrapped.log is None, "each plays in its own process"


def test_processes__what_cannot_be_copied_is_made_from_its_spec_if_unchanged():
    env = gymnasium.make("test/locked-v0")
    state, training = learning(env, workers=2, T_max=60)
    assert {n for report in list(training) for n in report.lengths} == {LENGTH}
    assert state.T.sum() > 60 and len(lives()) == 2
    env.unwrapped.fault = "fine"
    with pytest.raises(ValueError, match=r"its attribute .*fault = 'fine' is 'locked' in its"):
        next(learning(env, workers=2)[1])


# the command line


def command(*arguments):
    return [sys.executable, __file__, "train", *map(str, arguments)]


A3C = "a3c --driver processes --hidden 4 --t-max 5 --run run".split()


class Run:
    """A command in a session of its own, whose processes all hold its stdout open."""

    all: ClassVar[list] = []

    def __init__(self, *arguments):
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.parent = subprocess.Popen(command(*arguments), start_new_session=True, **pipes)
        self.all.append(self)

    def wait_until(self, condition):
        wait_until(lambda: self.parent.poll() is not None or condition())
        assert self.parent.poll() is None, self.end()

    def abandon(self):
        """Kill it, if a law was broken before it came to its end."""
        if self.parent.poll() is None:
            os.killpg(self.parent.pid, signal.SIGKILL)
            self.parent.communicate()

    def end(self):
        """(exit status, stdout's lines, stderr's) once no process of it is left."""
        out, err = self.parent.communicate(timeout=120)
        return self.parent.returncode, out.splitlines(), err.splitlines()


def saved(path="run"):
    arrays = read_arrays(Path(path) / "checkpoint.npz")
    assert np.isfinite(read_arrays(Path(path) / "parameters.npz")["theta"]).all()
    return arrays, json.loads(arrays["_json"].item())["tally"]


def test_train__killed_worker_is_reported_and_ctrl_c_leaves_nothing():
    run = Run(*A3C, "--env", "test/fine-v0", "--steps", 10**9, "--json")
    run.wait_until(at_work(2))
    os.kill(next(iter(lives())), signal.SIGKILL)
    run.wait_until(at_work(3))
    os.killpg(run.parent.pid, signal.SIGINT)  # as a terminal does
    status, out, err = run.end()
    result = json.loads(out[-1])
    arrays, tally = saved()
    assert status == 130 and result["signal"] == "SIGINT" and len(out) == 1
    assert len([line for line in err if line.startswith("npgrad: warning: worker ")]) == 1
    assert err[-1].startswith("npgrad: SIGINT: stopped, all is saved")
    assert not any("Traceback" in line for line in err)
    assert tally["steps"] == result["steps"] <= arrays["T"].sum()
    assert arrays["T"].sum() <= sum(length for life in lives().values() for _, length in life)


@pytest.mark.parametrize(
    "number, moment, send",
    [
        (signal.SIGTERM, lambda: asleep() == 2, os.killpg),
        (signal.SIGTERM, lambda: asleep() == 2, os.kill),
        (signal.SIGINT, Path("run/metrics.csv").exists, os.killpg),
    ],
    ids=["sigterm_at_work", "sigterm_to_the_parent_alone", "sigint_at_birth"],
)
def test_train__signal_saves_and_replaces_nobody(number, moment, send):
    run = Run(*A3C, "--env", "test/sleeps-v0", "--steps", 10**9)
    run.wait_until(moment)
    send(run.parent.pid, number)
    status, out, err = run.end()
    assert status == 128 + number and out[-1].startswith("run: ")
    assert len(lives()) <= 2
    between = [line for line in err[1:-1] if "steps/s" not in line]  # after the run folder
    assert number.name in err[-1]
    assert all(line.endswith("its latest steps are lost") for line in between)
    arrays, tally = saved()
    assert arrays["T"].sum() >= tally["steps"]
    if number == signal.SIGTERM:  # both sleep in the third segment of their AT − 1 steps
        assert arrays["T"].tolist() == [AT - 1, AT - 1]


def test_train__killed_parent_takes_its_workers_along_and_is_resumed():
    run = Run(*A3C, "--env", "test/endless-v0", "--steps", 10**9, "--checkpoint-every", 0)
    run.wait_until(lambda: at_work(2)() and saved()[1]["episodes"] == 2)
    run.parent.kill()  # the workers have nothing to tell it any more, but see that it is gone
    assert run.end()[0] == -signal.SIGKILL
    before, tally = saved()
    steps = int(before["T"].sum()) + 100
    status, out, _ = Run("--resume", "run", "--steps", steps, "--json").end()
    result, (after, _) = json.loads(out[-1]), saved()
    assert status == 0 and steps < result["steps"] == after["T"].sum() <= steps + 2 * T_MAX
    assert (after["begun"] >= before["begun"]).all() and after["begun"].sum() > before[
        "begun"
    ].sum()
    rows = Path("run/metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[1]) for row in rows] == list(range(1, result["episodes"] + 1))
    assert result["episodes"] > tally["episodes"]


def test_train__failing_worker_is_one_line(capsys):
    status = main(["train", *A3C, "--env", "test/raises-v0", "--steps", "999", "--json"])
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]  # below the progress, on a slow machine
    assert status == 1 and "Traceback" not in err and json.loads(out)["run"] == "run"
    assert line.startswith("npgrad: test/raises-v0, after step ") and "saved up to step" in line
    assert "WorkerError: worker " in line and "RuntimeError: the arm is stuck" in line
    arrays, tally = saved()
    assert 0 < tally["steps"] <= arrays["T"].sum() and arrays["updates"].sum() > 0


if __name__ == "__main__":
    register()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.modules["matplotlib"] = None  # drawing takes most of a short run's time
    raise SystemExit(main())
