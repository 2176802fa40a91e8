"""Faults: what may happen to a run, and to a run folder. The whole list: benchmarks/faults.py."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from algorithms import ddpg, reinforce
from algorithms.common import policy
from algorithms.runner import checkpoint, cli, errors, folder, plot, training
from algorithms.runner.checkpoint import Keeper, Tally
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Failure, UsageError
from algorithms.runner.lookup import METHODS, load_method
from algorithms.runner.progress import Progress
from benchmarks import strangers

CONFIG = reinforce.Config(network=policy.Network(hidden=(2,)))
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A new working directory, without pictures; Ctrl-C works, even if the suite ignores it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def begin(run="run", env="CartPole-v1"):
    return training.begin("reinforce", reinforce, Environment(env), CONFIG, 0, run)


def learned(path="run"):
    """θ and the rows, without the wall clock."""
    rows = folder._rows(Path(path))
    theta = checkpoint.read_arrays(Path(path) / "checkpoint.npz")["theta"]
    return theta.tobytes(), [row[:4] + row[5:] for row in rows]


def goes_on(steps=600, path="run"):
    """Whether the resumed run ends as one that nothing happened to."""
    training.learn(training.resume(Path(path), reinforce, steps), steps)
    training.learn(begin("whole"), steps)
    return learned(path) == learned("whole")


def events(path="run"):
    return [line.partition(" ")[2] for line in Path(path, "log.txt").read_text().splitlines()]


class Broken:
    """A stream that takes `room` letters, and then none."""

    def __init__(self, room=0):
        self.room = room

    def write(self, text):
        self.room -= len(text)
        if self.room < 0:
            raise BrokenPipeError("nobody reads")

    def flush(self):
        self.write(" ")

    isatty = lambda self: False


# the lock


def test_lock__one_owner_at_a_time_readers_go_on():
    session = begin()
    with pytest.raises(UsageError, match="RUN = run: another process trains in it; must be idle"):
        training.resume(Path("run"), reinforce, 99)
    with pytest.raises(UsageError, match="--run = run: is not empty"):
        begin()
    assert folder.read_config(Path("run"))["seed"] == 0
    assert checkpoint.read_arrays(Path("run/parameters.npz"))
    training.learn(session, 50)
    assert goes_on()


def test_lock__dies_with_its_owner_whatever_it_has_forked():
    code = """if True:
        import os, sys, time
        from pathlib import Path
        from algorithms.runner.folder import Lock
        lock = Lock(Path("run"))
        if not os.fork():
            print("locked", flush=True)  # by the child: it has closed its copy of the lock
            time.sleep(60)
            os._exit(0)
        time.sleep(60)"""
    Path("run").mkdir()
    pipes = dict(stdout=subprocess.PIPE, start_new_session=True)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as owner:
        try:
            assert owner.stdout.readline() == b"locked\n"
            with pytest.raises(UsageError, match="another process"):
                folder.Lock(Path("run"))
            owner.kill()
            os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
            folder.Lock(Path("run")).close()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(owner.pid, signal.SIGKILL)


# a failure at the beginning


@pytest.mark.parametrize("name", ["write", "write_config"])
def test_begin__that_fails_leaves_a_folder_that_a_run_takes(name, monkeypatch):
    place = training if name == "write" else folder
    with monkeypatch.context() as patch:
        whole = getattr(place, name)

        def full(path, *rest):
            if name == "write":
                whole(path, *rest)
            raise OSError(28, "No space left on device")

        patch.setattr(place, name, full)
        with pytest.raises(UsageError, match="--run = run: cannot be written: No space left"):
            begin()
    training.learn(begin(), 50)
    assert goes_on()


def test_resume__takes_a_run_that_never_learned():
    begin().lock.close()
    assert goes_on() and events()[:2] == ["begin at step 0", "resume at step 0"]


# failures of the loop around `train`


def fails(session, steps=400):
    with pytest.raises(Failure) as failure:
        training.learn(session, steps)
    line = str(failure.value)
    assert "\n" not in line and "saved up to step" in line
    return line, int(line.partition("saved up to step ")[2].split()[0])


@pytest.mark.parametrize("count", [1, 3])
def test_learn__disk_that_is_full_loses_no_row_of_what_is_saved(count, monkeypatch):
    session, calls = begin(), []
    append = folder.MetricsFile.append

    def full(self, metrics, seconds):
        calls.append(metrics)
        if len(calls) > count:
            self.file.write(b"a half-wr")
            raise OSError(28, "No space left on device")
        append(self, metrics, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(folder.MetricsFile, "append", full)
        patch.setattr(checkpoint.time, "monotonic", lambda: 0.0)  # a copy at every yield
        line, saved = fails(session)
    assert "CartPole-v1, after step" in line and "No space left on device" in line
    assert saved == calls[count - 1].steps
    assert goes_on()


def test_learn__save_that_fails_leaves_the_latest_saved(monkeypatch):
    session = begin()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", lambda *_: (_ for _ in ()).throw(OSError(30, "ro")))
        _, saved = fails(session)
    assert saved == 0 and events()[-1].startswith("stop at step 0: OSError")
    assert goes_on()


def test_learn__folder_that_is_deleted_is_one_line():
    session = begin()
    update = Progress.update

    def delete(self, *given):
        for file in Path("run").iterdir():
            file.unlink()
        Path("run").rmdir()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "update", delete)
        patch.setattr(training, "_picture", lambda path: None)
        with pytest.raises(Failure, match="No such file"):
            training.learn(session, 1)
    assert update is Progress.update


@pytest.mark.parametrize("place, name", [(Progress, "_draw"), (plot, "learning_curve")])
def test_learn__shows_fail_and_nothing_is_lost(place, name, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("no size")

    with monkeypatch.context() as patch:
        patch.setattr(place, name, broken)
        patch.setattr(Progress, "__init__", eager(Progress.__init__))
        with pytest.warns((RuntimeWarning, UserWarning), match="no size"):
            result = training.learn(begin(), 100)
    assert result["steps"] >= 100 and events()[-1] == f"stop at step {result['steps']}: done"
    assert any(line.startswith("warning: ") for line in events())
    assert goes_on()


def eager(init):
    def begin(self, *given):
        init(self, *given)
        self.due = self.interval = 0.0
        self.start -= 1.0

    return begin


def test_learn__other_errors_of_the_loop_save_too(monkeypatch):
    def broken(*_):
        raise KeyError("an observer")

    session = begin()
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", broken)
        line, saved = fails(session)
    assert "KeyError" in line and saved > 0
    assert goes_on()


def test_learn__clocks_that_jump_change_no_number(monkeypatch):
    real, jumps = time.monotonic, np.random.default_rng(0)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: float(jumps.normal() * 1e9))
        patch.setattr(time, "monotonic", lambda: real() + float(jumps.normal() * 100))
        training.learn(begin(), 300)
    seconds = folder.read_metrics(Path("run"))["seconds"]
    assert (seconds >= 0).all() and (np.diff(seconds) >= 0).all()
    assert goes_on()


def test_learn__an_ignored_ctrl_c_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with training._stop_signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals == [] and signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_learn__two_signals_at_once_are_one(apart, monkeypatch):
    """As `timeout` sends them, to a process and to its group. A later one ends the process."""
    ended = []
    monkeypatch.setattr(signal, "raise_signal", ended.append)
    with training._stop_signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(training, "TWICE", -1.0 if apart else 100.0)
        os.kill(os.getpid(), signal.SIGTERM)
    assert signals[0] == "SIGTERM" and ended == ([signal.SIGTERM] if apart else [])


# memory


def test_keeper__copies_into_the_same_memory():
    env, config = Environment("Pendulum-v1").make(), ddpg.Config(replay=50, batch=2)
    state = ddpg.init(env, config, 0)
    Path("run").mkdir()
    keeper = Keeper(Path("run"), state, Tally(), np.inf)
    keeper.keep(Tally())
    before = {name: array.ctypes.data for name, array in keeper.memory.items()}
    for state.steps in (3, 50, 60):
        state.ring[: state.steps] = state.steps
        keeper.keep(Tally(state.steps))
        assert {name: array.ctypes.data for name, array in keeper.memory.items()} == before
        assert np.array_equal(keeper.copy[0]["ring"], state.ring[: state.steps])


def test_keeper__puts_the_rows_on_the_disk_before_the_checkpoint(monkeypatch):
    order, state = [], reinforce.init(Environment("CartPole-v1").make(), CONFIG, 0)
    monkeypatch.setattr(checkpoint, "write", lambda *_: order.append("checkpoint"))
    keeper = Keeper(Path("."), state, Tally(), 0.0, lambda: order.append("rows"))
    keeper.at_yield(Tally(3, 1))
    assert order == ["rows", "checkpoint"] and keeper.saved == Tally(3, 1)


@pytest.mark.parametrize("free", [1, None])
def test_keeper__without_memory_for_a_copy_saves_at_yields(free, monkeypatch):
    """Because it is said to be too little, or because there is none when it is asked for."""

    def refuse(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        if free:
            patch.setattr(checkpoint, "available_memory", lambda: free)
            patch.setattr(checkpoint, "CHUNK", 0)
        else:
            patch.setattr(checkpoint, "_copy_array", refuse)
        with pytest.warns(RuntimeWarning, match="a copy of the State does not fit") as told:
            result = training.learn(begin(), 300, 0.0)
    assert len(told) == 1 and events()[-1] == f"stop at step {result['steps']}: done"
    assert goes_on()


# streams


@given(st.integers(0, 300))
@settings(max_examples=4, deadline=None)
def test_main__stdout_that_breaks_leaves_what_is_saved(room):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", Broken(room))
        assert cli.main(["list"]) == 1
        assert cli._printed("text", errors.Outcome({}, "", 0, kept=True)) == 0
        assert cli._printed("text", errors.Outcome({}, "", 130, kept=True)) == 130


@pytest.mark.parametrize(
    "command, status",
    [
        ("--help", 0),
        ("--help >&-", 1),
        ("--help >/dev/full", 1),
        ("--help 2>&- | true", 0),
        ("nonsense >&- 2>/dev/full", 2),
        ("list --json >/dev/full", 1),
    ],
)
def test_main__streams_are_closed_full_or_gone(command, status):
    """On a terminal without our letters. benchmarks/faults.py tries all commands."""
    code = "import sys; from algorithms.runner.cli import main; sys.exit(main())"
    line = f'PYTHONIOENCODING=ascii "{sys.executable}" -c "{code}" {command}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert len(lines) <= 1 and all(text.startswith("npgrad: ") for text in lines)
    assert done.returncode == status


def test_main__a_file_never_takes_the_number_of_a_closed_stream():
    code = "import os, sys; from algorithms.runner.cli import main; main(['--help']); "
    code += "sys.exit(os.open(os.devnull, os.O_RDONLY))"
    done = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{code}" <&- >&- 2>&-'])
    assert done.returncode > 2


def test_tell__a_reader_that_went_away_stops_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Broken())
    errors.tell("nobody hears")
    monkeypatch.setattr(Progress, "__init__", eager(Progress.__init__))
    assert training.learn(begin(), 100)["steps"] >= 100


LEAVES = st.floats() | st.integers() | st.text() | st.none()
DEEPER = lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)


@given(st.recursive(LEAVES, DEEPER, max_leaves=4))
@example([(np.nan, {"": [np.float64(np.inf)]}), np.array([np.nan])])
def test_strict_json__at_every_depth(result):
    def forbidden(constant):
        raise AssertionError(constant)

    json.loads(cli.strict_json({"result": result}), parse_constant=forbidden)


# metrics.csv and the checkpoint


@given(st.data())
@settings(max_examples=8, deadline=None)
def test_resume__refuses_rows_that_do_not_continue_the_checkpoint(data):
    path = Path(tempfile.mkdtemp(dir="."))
    training.learn(begin(path), 200)
    lines = (path / "metrics.csv").read_bytes().splitlines(keepends=True)
    k = data.draw(st.integers(1, len(lines) - 1))
    changed = data.draw(st.sampled_from(["lost", "twice", "later"]))
    lines[k : k + 1] = {"lost": [], "twice": 2 * lines[k : k + 1], "later": [b"9" + lines[k]]}[
        changed
    ]
    (path / "metrics.csv").write_bytes(b"".join(lines))
    if changed == "twice" and k == len(lines) - 2:
        training.resume(path, reinforce, 900).lock.close()  # the row after the last one is cut
        return
    with pytest.raises(UsageError, match=r"metrics\.csv: (row|ends)"):
        training.resume(path, reinforce, 900)


# files from strangers


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Small runs of several methods, with the steps to which they can be resumed."""
    made = []
    for name, env, options in (
        ("reinforce", "CartPole-v1", dict(network=policy.Network(hidden=(2,)))),
        ("ddpg", "Pendulum-v1", dict(replay=99, warmup=40, networks=ddpg.Networks(hidden=(2, 2)))),
        ("td-lambda", "npgrad/RandomWalk19-v0", {}),
    ):
        method, path = load_method(name, METHODS), tmp_path_factory.mktemp(name) / "run"
        config = training.ending(method, vars(method.Config(**options)), 150)
        session = training.begin(name, method, Environment(env), config, 0, path)
        made.append((path, training.learn(session, 150)["steps"] + 40))
    return made


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_strangers__are_refused_in_one_line_or_whole(runs, seed):
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strangers.trial(*runs[rng.integers(len(runs))], rng)


@pytest.mark.parametrize("how", sorted(strangers.ARRAYS))
def test_restore__names_an_array_that_does_not_fit(runs, how):
    shutil.copytree(runs[0][0], "copy")
    file = Path("copy/checkpoint.npz")
    arrays = strangers.entries(file)
    value = checkpoint.read_arrays(file)["theta_statistics"]
    wrong = strangers.ARRAYS[how](value)
    strangers.rewrite(file, {**arrays, "theta_statistics": wrong}.items())
    with pytest.raises(UsageError, match=r"checkpoint\.npz: .*theta_statistics"):
        training.resume(Path("copy"), reinforce, 999)


@pytest.mark.parametrize("action", [-1, 2])
def test_resume__refuses_actions_that_the_environment_does_not_have(action):
    training.learn(begin(), 1)
    file = Path("run/checkpoint.npz")
    arrays = strangers.entries(file)
    actions = strangers.npy(np.array([0, 1, action]))
    strangers.rewrite(file, {**arrays, "world.actions": actions}.items())
    with pytest.raises(UsageError, match=r"checkpoint\.npz: actions: must be of Discrete\(2\)"):
        training.resume(Path("run"), reinforce, 99)


def test_read_arrays__refuses_what_would_grow_as_it_is_read():
    np.savez_compressed("bomb.npz", x=np.zeros(10**6))
    with pytest.raises(UsageError, match=r"bomb\.npz: .*'x\.npy': must be an array, uncompressed"):
        checkpoint.read_arrays(Path("bomb.npz"))


def test_resume__says_that_a_newer_version_made_it(runs):
    for file in ("checkpoint.npz", "config.json"):
        shutil.copytree(runs[0][0], file)
    arrays = strangers.entries(Path("checkpoint.npz/checkpoint.npz"))
    text = str(np.load(BytesIO(arrays["_json"])))
    arrays["_json"] = strangers.npy(np.array(text.replace('"format": 1', '"format": 2')))
    strangers.rewrite(Path("checkpoint.npz/checkpoint.npz"), arrays.items())
    text = Path("config.json/config.json").read_text()
    Path("config.json/config.json").write_text(text.replace('"format": 1', '"format": 2'))
    for file in ("checkpoint.npz", "config.json"):
        with pytest.raises(UsageError, match=rf"{file}: .*format = 2: made by a newer version"):
            training.resume(Path(file), reinforce, 999)
