"""Sweeps and searches: grids of settings, trials that go on, and what their scores are."""

import json
import re
import shlex
import signal
import socket
import sys
from collections import Counter
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import replace
from math import prod
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from folders import scratch
from hypothesis import given, settings
from hypothesis import strategies as st
from mortal import Made

from algorithms.common.policy import Network
from algorithms.common.processes import TRIES, _birth
from algorithms.runner import arguments, folder, search, sweep, training, trials
from algorithms.runner.cli import main
from algorithms.runner.commands import settled
from algorithms.runner.environments import Environment
from algorithms.runner.errors import UsageError
from algorithms.runner.grid import checked, find, grid, last, leaves, put, value_of
from algorithms.runner.lookup import METHODS, load_method
from algorithms.runner.scores import summarise
from algorithms.runner.trials import Here, Trial, run, run_all

CARTPOLE = "CartPole-v1"
REINFORCE = load_method("reinforce", METHODS)
PLAIN = Environment(CARTPOLE)
SMALL = REINFORCE.Config(network=Network(hidden=(3,)))
CONFIGS = {name: load_method(name, METHODS).Config() for name in METHODS}


class Own(Network):
    """A network of a user's own."""


@pytest.fixture(autouse=True, scope="module")
def no_matplotlib():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        yield


def trial(path, seed=0, steps=120, config=SMALL, environment=PLAIN, **how):
    name, page = "reinforce", METHODS["reinforce"]
    given = dict(checkpoint_every=0.0, evaluate=0, greedy=False, command=())
    return Trial(str(path), name, page, environment, config, seed, steps, **(given | how))


def parameters(path):
    return (Path(path) / "parameters.npz").read_bytes()


class Inline:
    """A place that runs a trial where it is submitted, and dies as often as it is told."""

    def __init__(self, deaths=(), jobs=2, work=lambda trial: {"score": 1.0, "error": None}):
        self.deaths, self.jobs, self.work = Counter(deaths), jobs, work
        self.submitted, self.stopped = Counter(), False

    def submit(self, trial):
        future = Future()
        self.submitted[trial.path] += 1
        if self.submitted[trial.path] <= self.deaths[trial.path]:
            future.set_exception(BrokenProcessPool("killed"))
        else:
            future.set_result(self.work(trial))
        return future

    def stop(self):
        self.stopped = True

    close = stop


# settings by name


@pytest.mark.parametrize("name", CONFIGS)
def test_find__takes_a_field_by_its_flag_or_its_dotted_name(name):
    config = CONFIGS[name]
    for dotted in leaves(config):
        for given_as in (dotted, last(dotted), f"--{last(dotted).replace('_', '-')}"):
            assert find(given_as, config, "--grid") == dotted


@settings(max_examples=15)
@given(st.sampled_from(list(CONFIGS)), st.data())
def test_put__changes_what_is_named_and_nothing_else(name, data):
    config = CONFIGS[name]
    fields = leaves(config)
    chosen = data.draw(st.lists(st.sampled_from(list(fields)), max_size=4, unique=True))
    values = {dotted: value_of(config, dotted) for dotted in chosen}
    assert put(config, values) == config
    floats = [d for d in chosen if fields[d] is float and "dt" not in d]
    changed = {d: value_of(config, d) / 2 for d in floats}
    for dotted in fields:
        expected = changed.get(dotted, value_of(config, dotted))
        assert value_of(put(config, changed), dotted) == expected


def test_put__puts_values_in_at_once_that_are_valid_only_together():
    values = {"networks.hidden": (4,), "networks.action_layer": 1}
    assert put(CONFIGS["ddpg"], values).networks.hidden == (4,)
    with pytest.raises(UsageError, match="action_layer = 2"):
        checked(CONFIGS["ddpg"], {"networks.hidden": (4,)})


@pytest.mark.parametrize("name", ["ddpg", "a3c"])
def test_flags__give_the_config_back(name):
    """Of any two points, here the defaults and one with every float halved and every bool turned,
    the flags of one make it from the other."""
    config = CONFIGS[name]
    other = {}
    for dotted, kind in leaves(config).items():
        value = value_of(config, dotted)
        if kind is bool:
            other[dotted] = not value
        elif kind is float and np.isfinite(value):
            other[dotted] = value / 2
        elif kind == tuple[int, ...]:
            other[dotted] = tuple(2 * n for n in value)
    point = checked(config, other)
    words = search.flags(point, config, {}).split()
    (parsed,) = arguments.parse(words, "npgrad", "", method=arguments.offered(type(config)))
    assert vars(parsed) == vars(point)
    assert search.flags(point, point, {}) == ""


json_values = st.none() | st.booleans() | st.integers() | st.floats(-1, 1) | st.text("a1'\"=,[ ")


@settings(max_examples=8)
@given(
    st.dictionaries(st.sampled_from(["size", "kind"]), json_values | st.lists(json_values)),
    st.none() | st.integers(1, 99),
    st.lists(st.sampled_from(["NormalizeReward", "RescaleAction:min_action=-1,max_action=1"])),
    st.booleans(),
)
def test_command__gives_environment_and_network_back(arguments_, limit, wraps, own):
    environment = Environment("CartPole-v1", arguments_, limit, tuple(wraps))
    config = replace(REINFORCE.Config(), network=Own() if own else Network())
    one = SimpleNamespace(name="reinforce", environment=environment, steps=60)
    words = shlex.split(search.command(one, config))
    given_back = settled("reinforce", REINFORCE, words[3:], arguments.Train, "npgrad", "")
    assert given_back[2:] == (environment, config)


sizes = st.lists(st.integers(1, 3), min_size=0, max_size=3)


@settings(max_examples=4)
@given(sizes)
def test_grid__has_every_combination_once(counts):
    fields = ("gamma", "step_size", "network.hidden")
    texts = (("0.5", "0.7", "0.9"), ("1e-3", "2e-3", "inf"), ("8", "16 16", "4"))
    texts = texts[0], ("1e-3", "2e-3", "5e-3"), texts[2]
    specs = [f"{f}={','.join(t[:n])}" for f, t, n in zip(fields, texts, counts)]
    points = grid(specs, SMALL, [], "alone")
    assert len(points) == prod(counts) == len({repr(config) for config in points.values()})
    assert all(re.fullmatch(r"[\w.,=+-]+", name) for name in points)
    for config in points.values():
        free = {f: value_of(SMALL, f) for f in fields[: len(counts)]}
        assert put(config, free) == SMALL
    if not counts:
        assert points == {"alone": SMALL}


GRIDS = {
    "lamda=1": "--grid = lamda: no such field; must be one of gamma, .*mean gamma",
    "gamma": "--grid = gamma: must be FIELD=A,B,...",
    "gamma=": "--grid = gamma=: must be FIELD=A,B,...",
    "gamma=.9,": "--grid = gamma=.9,: must be FIELD=A,B,...",
    "gamma=x": "--gamma = x: must be a float",
    "gamma=.5,2": r"gamma = 2.0: must be in \[0, 1\]",
    "optimizer=adam,x": "--optimizer = x: .*'adam'",
    "gamma=.9,0.9": "--grid = gamma=.9,0.9: .9 and 0.9 are the same",
    "gamma=.9 gamma=.8": "--grid = gamma: is given twice",
    "step-size=.9": "--step-size: is in --grid, too",
    "spherical=yes": "--spherical = yes: must be one of 'True', 'False'",
    "hidden=0": "hidden = \\(0,\\): must be one or more positive integers",
    "T_max=9": "--grid = T_max: no such field",
}
SPACES = {
    "": "--range and --choice are missing",
    "gamma": "--range = gamma: must be FIELD=LOW:HIGH",
    "gamma=0:1:lin": "--range = gamma=0:1:lin: must be FIELD=LOW:HIGH",
    "gamma=0:2": r"gamma = 2.0: must be in \[0, 1\]",
    "gamma=1:0": "--range = gamma=1:0: must be finite, and LOW < HIGH",
    "gamma=0:inf": "--range = gamma=0:inf: must be finite",
    "gamma=0:1:log": "must be finite, and 0 < LOW < HIGH",
    "optimizer=adam:sgd": "optimizer is no number; must be in --choice",
    "gamma=0:1 gamma=0:1": "gamma: is given twice",
}


@pytest.mark.parametrize("specs", GRIDS)
def test_grid__refuses_what_no_flag_takes(specs):
    with pytest.raises(UsageError, match=GRIDS[specs]):
        grid(specs.split(), SMALL, ["--no-spherica", "--step-size=1"], "")


@pytest.mark.parametrize("specs", SPACES)
def test_searched__refuses_what_is_no_space(specs):
    with pytest.raises(UsageError, match=SPACES[specs]):
        search.searched(SimpleNamespace(range=specs.split(), choice=[]), SMALL, [])


GO = f"sweep reinforce --env {CARTPOLE} --steps 5"
USAGE = {
    "sweep": "METHOD is missing after sweep: must be one of theorem, ",
    "sweep reinforc --env E --steps 1": "METHOD = reinforc: .*did you mean reinforce",
    "GO --grid lamda=1": "--grid = lamda: no such field",
    "GO --grid gamma=.1,.2 --seeds 5001": "2 points with 5001 seeds: must be at most 10000",
    "GO --seeds 0": "--seeds = 0: must be at least 1",
    "GO --tensorboard": "--tensorboard: no such flag",
    "GO --seed 1": "--seed: no such flag; did you mean --first-seed",
    "GO --out full": "--out = .*full: is not empty; must be new, or hold its sweep.json",
    "GO --out full/file": "--out = .*file: cannot be written",
    "sweep reinforce --env CartPol-v1 --steps 5": "--env = CartPol-v1: not known",
    "search reinforce --env CartPole-v1 --steps 5": "--range and --choice are missing",
}


@pytest.mark.parametrize("line", USAGE)
def test_main__says_in_one_line_what_no_sweep_takes(here, capsys, line):
    Path("full").mkdir()
    Path("full/file").touch()
    assert main(line.replace("GO", GO).split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.match("npgrad: .*" + USAGE[line], err)
    assert [p.name for p in Path().iterdir()] == ["full"]


# one trial


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(1, 9), min_size=1, max_size=2))
def test_run__stopped_and_run_again_is_the_uninterrupted_run(seed, stops):
    with scratch(), pytest.MonkeyPatch.context() as patch:
        straight = run(trial("straight", seed))
        for yields in stops:
            left = iter([False] * yields)
            patch.setattr(trials._place, "stopped", lambda left=left: next(left, True))
            with _birth():  # as the processes of `Here` begin: signals wait
                assert run(trial("cut", seed)) in ({"stopped": "SIGTERM"}, straight)
        patch.setattr(trials._place, "stopped", lambda: False)
        assert run(trial("cut", seed)) == straight
        assert parameters("cut") == parameters("straight")
        returns = folder.read_metrics(Path("cut"))["return"]
        assert straight == {"score": pytest.approx(returns[-100:].mean()), "error": None}
        before = parameters("cut"), (Path("cut") / "metrics.csv").stat().st_mtime_ns
        assert run(trial("cut", seed)) == straight
        assert before == (parameters("cut"), (Path("cut") / "metrics.csv").stat().st_mtime_ns)


def test_run__tells_workers_once_to_stop(here, monkeypatch):
    monkeypatch.setattr(trials._place, "stopped", lambda: True)
    config = load_method("a3c", METHODS).Config(workers=2, driver="threads", T_max=10**6)
    one = trial("run", config=config, steps=10**6)._replace(name="a3c", page=METHODS["a3c"])
    with _birth():
        assert run(one) == {"stopped": "SIGTERM"}
    assert trials.position(one)[0] < 10**6


def test_run__is_the_run_of_training(here):
    session = training.begin("reinforce", REINFORCE, Environment(CARTPOLE), SMALL, 3, "plain")
    result = training.learn(session, 120)
    assert run(trial("one", seed=3))["score"] == result["return_last_100"]
    assert parameters("one") == parameters("plain")


@pytest.mark.parametrize("name", ["checkpoint.npz", "metrics.csv", "config.json"])
def test_run__moves_a_damaged_run_aside_and_begins_anew(here, name):
    straight = run(trial("one"))
    (here / "one" / name).write_bytes(b"torn")
    again = run(trial("one"))
    assert "one-damaged-1" in again.pop("damage") and again == straight
    assert (here / "one-damaged-1" / name).read_bytes() == b"torn"
    other = run(trial("one", config=replace(SMALL, gamma=0.5)))  # a run, but not this one
    assert "config" in other["damage"] and "one-damaged-2" in other["damage"]


def test_run__begins_anew_without_a_word_before_the_first_checkpoint(here):
    straight = run(trial("one"))
    (here / "one" / "checkpoint.npz").unlink()
    assert run(trial("one")) == straight


def test_run__evaluates_each_seed_on_its_own_starts(here):
    played = [run(trial(f"{k}", seed=k, evaluate=3, greedy=True)) for k in (0, 1)]
    for k, result in enumerate(played):
        told = sweep_evaluate(f"{k}", k)
        assert result == {"score": told["return_mean"], "error": told["return_error"]}


def sweep_evaluate(path, seed):
    return trials.evaluate(Path(path), REINFORCE, 3, seed, True)


def test_run__reports_a_run_that_fails(here):
    result = run(trial("one", environment=Made(CARTPOLE, maker="Nan")))
    assert result.keys() == {"failed"} and "nan" in result["failed"]
    assert "\n" not in result["failed"]


# many trials


@settings(max_examples=25)
@given(st.lists(st.integers(0, TRIES + 2), min_size=1, max_size=6), st.integers(1, 4))
def test_run_all__ends_every_trial_once_whoever_dies(deaths, jobs):
    todo = [trial(f"nowhere/{k}", seed=k) for k in range(len(deaths))]
    place = Inline({t.path: n for t, n in zip(todo, deaths)}, jobs)
    ended, again = {}, Counter()

    def note(trial, result):
        assert trial.path not in ended
        if "again" in result:
            again[trial.path] += 1
        else:
            ended[trial.path] = result

    assert run_all(todo, place, note, lambda running: None) is None
    for t, n in zip(todo, deaths):
        assert ("failed" in ended[t.path]) == (n >= TRIES)
        assert place.submitted[t.path] == min(n + 1, TRIES)
        assert again[t.path] == min(n, TRIES - 1)
    assert not place.stopped


@given(st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=10)
def test_run_all__after_a_signal_starts_no_other(n, jobs):
    def work(trial):
        signal.raise_signal(signal.SIGTERM)
        return {"stopped": "SIGTERM"}

    place, ended = Inline(jobs=jobs, work=work), []
    todo = [trial(f"{k}") for k in range(n)]
    before = signal.getsignal(signal.SIGTERM)
    assert run_all(todo, place, lambda *e: ended.append(e), lambda r: None) == "SIGTERM"
    assert place.stopped and ended == [] and place.submitted.total() == 1
    assert signal.getsignal(signal.SIGTERM) is before


@given(st.lists(st.none() | st.floats(-1e3, 1e3), max_size=8), st.integers(0, 3), st.randoms())
def test_summarise__counts_all_and_follows_no_order(scores, failed, random):
    results = [{"score": x, "error": None} for x in scores] + [{"failed": "x"}] * failed
    found = summarise(results)
    known = [x for x in scores if x is not None]
    assert (found["seeds"], found["failed"]) == (len(known), failed)
    assert found["error"] is None
    if known:
        slack = 1e-9 * max(1.0, *map(abs, known))
        assert found["worst"] == min(known)
        assert min(known) - slack <= found["low"] <= found["high"] <= max(known) + slack
        random.shuffle(results)
        assert summarise(results)["iqm"] == found["iqm"]
    else:
        assert found["iqm"] is found["low"] is found["worst"] is None


@pytest.fixture
def inline(monkeypatch):
    places = []

    def placed(options, token):
        places.append(Inline(jobs=options.jobs, work=run))
        return places[-1]

    for module in (sweep, search):
        monkeypatch.setattr(module, "placed", placed)
    return places


def test_sweep__completes_what_is_missing_and_nothing_else(here, capsys, inline):
    line = f"{GO} --seeds 2 --first-seed 4 --grid gamma=.5,.9 --hidden 3 --out all --json"
    assert main(line.split()) == 0
    out, err = capsys.readouterr()
    first = json.loads(out)
    assert inline[0].submitted.total() == 4 and len(err.splitlines()) == 4
    assert first["points"].keys() == {"gamma=.5", "gamma=.9"}
    for name, point in first["points"].items():
        means = [folder.read_metrics(p)["return"].mean() for p in Path("all", name).iterdir()]
        assert {p.name for p in Path("all", name).iterdir()} == {"seed-4", "seed-5"}
        assert point["seeds"] == 2 and point["iqm"] == pytest.approx(np.mean(means))
        assert folder.read_config(Path("all", name, "seed-5"))["config"]["gamma"] == float(name[6:])
    for removed in ("gamma=.5/seed-4", "gamma=.9/seed-5"):
        for file in Path("all", removed).iterdir():
            file.unlink()
        Path("all", removed).rmdir()
    assert main(line.split()) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert inline[1].submitted.total() == 2
    for other in ("--steps 6", "--step-size 1", "--grid gamma=.5"):
        assert main(line.replace("--json", other).split()) == 2
        out, err = capsys.readouterr()
        assert re.fullmatch(r"npgrad: (--|\w+ = .*must be .*all/sweep.json).*\n", err), err
    with trials.locked(here / "all" / "lock"):
        assert main(line.split()) == 2
    assert "lock: is used by another process" in capsys.readouterr().err


def test_sweep__goes_on_when_a_trial_fails_and_tells_by_its_status(here, capsys, inline):
    place = lambda options, token: Inline(
        work=lambda trial: {"failed": "diverged"} if trial.seed else run(trial)
    )
    sweep.placed, before = place, sweep.placed
    try:
        assert main(f"{GO} --seeds 3 --out all".split()) == 1
    finally:
        sweep.placed = before
    out, err = capsys.readouterr()
    assert re.search(r"^reinforce  .*, 1 seeds, 2 failed$", out, re.M)
    assert err.count("failed: diverged") == 2
    assert main(f"{GO} --seeds 3 --out all".split()) == 0  # what failed is tried again
    assert inline[0].submitted.total() == 2


def test_search__resumes_and_names_the_best(here, capsys, monkeypatch):
    pytest.importorskip("optuna")
    score = lambda trial: {"score": trial.config.step_size + trial.seed, "error": None}
    places = []
    placed = lambda options, token: places.append(Inline(work=score)) or places[-1]
    monkeypatch.setattr(search, "placed", placed)
    line = f"search reinforce --env {CARTPOLE} --steps 60 --seeds 2 --hidden 3 --out all --json"
    line += " --range step_size=1e-4:1e-2:log --choice optimizer=adam,rmsprop"
    line += " --range episodes_per_update=1:3 --trials"
    found = []
    for most in "2", "3":
        assert main([*line.split(), most]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [r["trials"] for r in found] == [2, 3]
    assert [place.submitted.total() for place in places] == [4, 2]
    rows = found[1]["best"]
    assert [row["iqm"] for row in rows] == sorted((row["iqm"] for row in rows), reverse=True)
    assert all(row["iqm"] == pytest.approx(row["step_size"] + 0.5) for row in rows)
    assert {row["trial"] for row in found[0]["best"]} < {row["trial"] for row in rows}
    assert len({row["step_size"] for row in rows}) == 3
    words = found[1]["command"].split()[7:]
    (best,) = arguments.parse(words, "npgrad", "", m=arguments.offered(REINFORCE.Config))
    for name in ("step_size", "optimizer", "episodes_per_update"):
        assert getattr(best, name) == rows[0][name]
    assert 1e-4 <= best.step_size <= 1e-2 and best.network.hidden == (3,)
    assert main([*line.replace("--seeds 2", "--seeds 3").split(), "3"]) == 2


def test_search__takes_over_the_trials_of_a_process_that_died(here):
    optuna = pytest.importorskip("optuna")
    from contextlib import ExitStack

    study, space = search.opened(optuna, here / "journal.log"), {"gamma": (0.0, 1.0, False)}
    options = arguments.Search(env=CARTPOLE, steps=5, trials=2)
    with ExitStack() as one, ExitStack() as two, ExitStack() as three:
        take = lambda held: search.taken(optuna, study, options, here, held)
        first = take(one)
        drawn = search.suggested(first, space)
        second = take(two)
        assert {first.number, second.number} == {0, 1} and take(three) is None
        one.close()  # as when its process dies
        again = take(three)
        assert again.number == first.number and search.suggested(again, space) == drawn
        assert search.suggested(second, space) != drawn


# processes


def test_here__replaces_a_process_that_is_killed_and_its_trial_goes_on(here):
    deadly, results = trial(here / "deadly", environment=Made(CARTPOLE, maker="Deadly")), []
    with closing(Here(1)) as place:
        note = lambda trial, result: results.append(result)
        assert run_all([deadly], place, note, lambda running: None) is None
        children = [p for pool in place.latest for p in pool._processes.values()]
    straight = run(trial(here / "straight"))
    assert len(results) == 2 and "again" in results[0] and results[1] == straight
    assert parameters(here / "deadly") == parameters(here / "straight")
    assert not any(child.is_alive() for child in children)


# extras


@pytest.mark.parametrize(
    "line, extra",
    [(f"{GO} --cluster local", "ray.*cluster"), (f"{GO} --choice gamma=.9", "optuna.*search")],
)
def test_main__says_which_extra_is_missing(here, capsys, monkeypatch, line, extra):
    for module in ("ray", "optuna"):
        monkeypatch.setitem(sys.modules, module, None)
    line = line.replace("sweep", "search") if "choice" in line else line
    assert main(line.split()) == 1
    name, _, package = extra.partition(".*")
    wanted = f"npgrad: {name} is not installed: pip install 'npgrad[{package}]'\n"
    assert capsys.readouterr().err == wanted and list(Path().iterdir()) == []


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad request\r\n", b"", None])
def test_connect__refuses_at_once_what_is_no_cluster(monkeypatch, answer):
    from algorithms.runner import cluster

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=None))
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"

    def reply():
        with server.accept()[0] as connection:
            connection.sendall(answer)
            connection.recv(999)

    thread = Thread(target=reply)
    if answer is None:
        server.close()
    else:
        thread.start()
    for wrong in (address, "nonsense", "host:port"):
        with pytest.raises(UsageError, match=f"--cluster = {wrong}: must be auto, local"):
            cluster.connect(wrong, 1)
    if answer is not None:
        thread.join()
    server.close()
