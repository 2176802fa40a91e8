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

import gymnasium
import numpy as np
import pytest

from algorithms import a3c, async_q
from algorithms.common import processes
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
    endless     the episode of every process's step AT does not end
    raises, nan, sleeps   at every process's step AT
    """

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault=None):
        if multiprocessing.parent_process():
            if fault == "stillborn":
                os._exit(3)
            assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            assert all(os.environ[name] == "1" for name in processes.ONE_THREAD)
        self.fault, self.steps, self.log = fault, 0, None

    def write(self, text):
        if self.log is None:
            Path("lives").mkdir(exist_ok=True)
            self.log = os.open(f"lives/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self.log, text)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.write(b"\n%d " % seed)
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        if self.steps == AT and self.fault == "killed":
            with suppress(FileExistsError):
                Path("killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            wait_until(lambda: len(lives()) == 3)
        if self.steps == AT and self.fault == "raises":
            raise RuntimeError("the arm\nis stuck")
        if self.steps == AT and self.fault == "sleeps":
            Path(f"asleep-{os.getpid()}").touch()
            time.sleep(600)
        self.write(b".")
        reward = np.nan if self.steps == AT and self.fault == "nan" else 1.0
        observation = np.array([min(1, self.t / LENGTH), action], np.float32)
        over = self.t == LENGTH and not (self.fault == "endless" and self.steps > AT)
        return observation, reward, over, False, {}


FAULTS = ("fine", "killed", "stillborn", "endless", "raises", "nan", "sleeps")


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
    """A new working directory; no process, shared memory or temporary file is there afterwards."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.chdir(tmp_path)
    before = segments()
    yield
    assert multiprocessing.active_children() == []
    assert segments() <= before and not list(Path("temporary").iterdir())


def segments():
    """Named shared memory and semaphores, where they can be looked at."""
    place = Path("/dev/shm")
    names = [p.name for p in place.iterdir()] if place.is_dir() else []
    return {name for name in names if name.startswith(("pym", "psm_", "sem."))}


def lives():
    """By process: the (seed, steps) of its episodes."""
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
    """Of the k-th episode of worker i, where the State's seed is 0."""
    stream = np.random.SeedSequence(0, spawn_key=(i, k))
    return int(np.random.default_rng(stream).integers(2**31))


def learning(fault, page=a3c, Config=a3c.Config, **settings):
    """(State, generator) of a run of the page's method, in processes."""
    env = gymnasium.make(f"test/{fault}-v0")
    config = Config(driver="processes", network=NETWORK, **settings)
    state = page.init(env, config, 0)
    return state, page.train(env, config, state)


def test_processes__killed_worker_is_replaced_and_every_step_counts_once():
    state, training = learning("killed", workers=2, T_max=300, t_max=T_MAX)
    with pytest.warns(RuntimeWarning, match=r"worker \d died \(Killed.*\) after 12 steps and is"):
        reports = list(training)
    assert 300 < state.T.sum() <= 300 + 2 * T_MAX
    assert reports[-1].steps == state.T.sum() and len(lives()) == 3
    who = {seed(i, k): (i, k) for i in range(2) for k in range(1, 1 + state.begun[i])}
    T, updates, finished, begun = np.zeros(2, int), np.zeros(2, int), 0, []
    for episodes in lives().values():
        (i,) = {who[s][0] for s, _ in episodes}
        begun += [who[s] for s, _ in episodes]
        counted = [length // T_MAX * T_MAX if length < LENGTH else LENGTH for _, length in episodes]
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
    with pytest.raises(WorkerError, match="worker 0: FloatingPointError: the environment returned"):
        list(training)
    assert state.T.tolist() == [12] and state.updates.tolist() == [3]
    assert np.isfinite(state.theta).all() and np.isfinite(state.statistics).all()


def test_processes__worker_that_dies_again_and_again_ends_the_run():
    state, training = learning("stillborn", workers=1, T_max=10**6)
    with pytest.warns(RuntimeWarning, match=r"worker 0 died \(exit status 3\) after 0") as told:
        with pytest.raises(WorkerError, match=r"worker 0 died \(exit status 3\), 3 times before"):
            for _ in training:
                assert len(told) < 3
    assert state.T.tolist() == state.begun.tolist() == [0]


def test_processes__worker_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.1)
    state, training = learning("sleeps", workers=1, T_max=10**6)
    wait_until(lambda: next(training) and asleep())
    training.close()
    assert state.T.tolist() == [12]


def private(x):
    """Whether x lies in memory of NumPy's own, not in what processes share."""
    while getattr(x, "base", None) is not None:
        x = x.base
    return isinstance(x, np.ndarray)


def test_processes__what_cannot_be_sent_is_one_clear_error():
    env = Logged()
    env.made_of = lambda: None
    config = a3c.Config(driver="processes", network=NETWORK)
    state = a3c.init(env, config, 0)
    with pytest.raises(ValueError, match=r"driver = processes: the environment .* be pickled: .*"):
        next(a3c.train(env, config, state))
    assert private(state.theta)


# the command line


def command(*arguments):
    return [sys.executable, __file__, "train", *map(str, arguments)]


A3C = "a3c --driver processes --hidden 4 --t-max 5 --run run".split()


class Run:
    """A command in a session of its own, whose processes all hold its stdout open."""

    def __init__(self, *arguments):
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.parent = subprocess.Popen(command(*arguments), start_new_session=True, **pipes)

    def end(self):
        """(exit status, stdout's lines, stderr's) once no process of it is left."""
        out, err = self.parent.communicate(timeout=120)
        return self.parent.returncode, out.splitlines(), err.splitlines()


def saved(path="run"):
    arrays = read_arrays(Path(path) / "checkpoint.npz")
    assert np.isfinite(read_arrays(Path(path) / "parameters.npz")["theta"]).all()
    return arrays, json.loads(arrays["_json"].item())["position"]


def test_train__killed_worker_is_reported_and_ctrl_c_leaves_nothing():
    run = Run(*A3C, "--env", "test/fine-v0", "--steps", 10**9, "--json")
    wait_until(at_work(2))
    os.kill(next(iter(lives())), signal.SIGKILL)
    wait_until(at_work(3))
    os.killpg(run.parent.pid, signal.SIGINT)  # as a terminal does
    status, out, err = run.end()
    result = json.loads(out[-1])
    arrays, position = saved()
    assert status == 130 and result["signal"] == "SIGINT" and len(out) == 1
    assert len([line for line in err if line.startswith("npgrad: warning: worker ")]) == 1
    assert err[-1].startswith("npgrad: SIGINT: stopped, all is saved")
    assert not any("Traceback" in line for line in err)
    assert position["steps"] == result["steps"] <= arrays["T"].sum()
    assert arrays["T"].sum() <= sum(length for life in lives().values() for _, length in life)


@pytest.mark.parametrize(
    "number, moment, send",
    [
        (signal.SIGTERM, lambda: asleep() == 2, os.killpg),
        (signal.SIGTERM, lambda: asleep() == 2, os.kill),
        (signal.SIGINT, Path("run/parameters.npz").exists, os.killpg),
    ],
    ids=["sigterm_at_work", "sigterm_to_the_parent_alone", "sigint_at_birth"],
)
def test_train__signal_saves_and_replaces_nobody(number, moment, send):
    run = Run(*A3C, "--env", "test/sleeps-v0", "--steps", 10**9)
    wait_until(moment)
    send(run.parent.pid, number)
    status, out, err = run.end()
    assert status == 128 + number and out[-1].startswith("run: ") and len(lives()) <= 2
    assert len(err) == 2 and number.name in err[1]  # after the run folder
    arrays, position = saved()
    assert arrays["T"].sum() >= position["steps"]
    if number == signal.SIGTERM:  # both sleep in the third segment of their AT − 1 steps
        assert arrays["T"].tolist() == [AT - 1, AT - 1]


def test_train__killed_parent_takes_its_workers_along_and_is_resumed():
    run = Run(*A3C, "--env", "test/endless-v0", "--steps", 10**9, "--checkpoint-every", 0)
    wait_until(lambda: at_work(2)() and saved()[1]["episodes"] == 2)
    run.parent.kill()  # the workers have nothing to tell it any more, but see that it is gone
    assert run.end()[0] == -signal.SIGKILL
    before, position = saved()
    steps = int(before["T"].sum()) + 100
    status, out, _ = Run("--resume", "run", "--steps", steps, "--json").end()
    result, (after, _) = json.loads(out[-1]), saved()
    assert status == 0 and steps < result["steps"] == after["T"].sum() <= steps + 2 * T_MAX
    assert (after["begun"] >= before["begun"]).all() and after["begun"].sum() > before[
        "begun"
    ].sum()
    rows = Path("run/metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[1]) for row in rows] == list(range(1, result["episodes"] + 1))
    assert result["episodes"] > position["episodes"]


def test_train__failing_worker_is_one_line(capsys):
    status = main(["train", *A3C, "--env", "test/raises-v0", "--steps", "999", "--json"])
    out, err = capsys.readouterr()
    (line,) = err.splitlines()[1:]
    assert status == 1 and json.loads(out)["run"] == "run"
    assert line.startswith("npgrad: test/raises-v0, after step ") and "saved up to step" in line
    assert "WorkerError: worker " in line and "RuntimeError: the arm is stuck" in line
    arrays, position = saved()
    assert 0 < position["steps"] <= arrays["T"].sum() and arrays["updates"].sum() > 0


if __name__ == "__main__":
    register()
    sys.modules["matplotlib"] = None  # drawing takes most of a short run's time
    raise SystemExit(main())
