"""Environments, wrappers, networks and presets as a command line describes them."""

import json
import pickle
import re
import sys
from dataclasses import replace
from keyword import iskeyword
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TransformReward
from hypothesis import given
from hypothesis import strategies as st
from worlds import SEEDS, Scripted

import algorithms.exact.register  # noqa: F401
from algorithms import ddpg, reinforce
from algorithms.common.copies import makers, picklable_makers
from algorithms.common.policy import Network
from algorithms.common.remembered import OwnReturn, remembered
from algorithms.common.world import Position, World
from algorithms.runner import evaluate, folder, training
from algorithms.runner.cli import main
from algorithms.runner.environments import Environment, described, literal, parse_wrap
from algorithms.runner.errors import UsageError
from algorithms.runner.lookup import METHODS, load_method
from algorithms.runner.presets import PRESETS, applied, configured

MINE = """
import gymnasium, numpy as np
from algorithms.common.policy import Network

class Mine(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, T=5):
        self.T, self.own_generator = T, np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 2), {}

    def step(self, action):
        self.t += 1
        return self.np_random.uniform(-1, 1, 2), float(action), False, self.t == self.T, {}

class Times(gymnasium.RewardWrapper):
    def __init__(self, env, factor=2.0):
        super().__init__(env)
        self.factor = factor

    def reward(self, r):
        return self.factor * r

class Plain(Network):
    pass

class Neither:
    pass

gymnasium.register("Registered-v0", Mine)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module of one's own, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # no pictures
    (tmp_path / "my_own.py").write_text(MINE)
    yield tmp_path
    sys.modules.pop("my_own", None)
    gymnasium.registry.pop("Registered-v0", None)


def npgrad(capsys, line):
    """(exit status, the last line of stdout, the last line of stderr) of a command line."""
    capsys.readouterr()
    status = main(line.split())
    out, err = capsys.readouterr()
    return status, (out.splitlines() or [""])[-1], (err.splitlines() or [""])[-1]


# descriptions

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda name: not iskeyword(name))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | NUMBERS | st.text()
VALUES = st.recursive(PLAIN, lambda x: st.lists(x, max_size=3), max_leaves=6)
ENVIRONMENTS = st.builds(
    Environment,
    env=st.text(),
    env_args=st.dictionaries(NAMES, VALUES, max_size=3),
    max_episode_steps=st.none() | st.integers(1),
    wrap=st.lists(st.just("TimeLimit:max_episode_steps=3"), max_size=2).map(tuple),
).filter(lambda environment: ":" not in environment.env)


@given(ENVIRONMENTS)
def test_environment__comes_back_from_its_record_and_from_a_pickle(environment):
    assert Environment.of(json.loads(json.dumps(environment.record()))) == environment
    assert pickle.loads(pickle.dumps(environment)) == environment


@given(VALUES)
def test_literal__reads_what_python_writes(value):
    assert literal(repr(value)) == value


@given(st.dictionaries(NAMES, PLAIN, max_size=3))
def test_parse_wrap__reads_names_and_values(arguments):
    text = ",".join(f"{name}={value!r}" for name, value in arguments.items())
    assert parse_wrap(f"Any:{text}") == ("Any", arguments)
    assert parse_wrap(f"a/b.py:Any:{text}") == ("a/b.py:Any", arguments)


@given(st.lists(st.integers(-9, 9) | st.floats(-9, 9, width=32), min_size=1))
def test_parse_wrap__makes_an_array_of_numbers_in_a_list(numbers):
    _, arguments = parse_wrap(f"Any:x={numbers}")
    np.testing.assert_array_equal(arguments["x"], np.array(numbers, np.float32), strict=True)


# environments

CHAIN = ("my_own.py:Times:factor=3.0", "NormalizeObservation", "TimeLimit:max_episode_steps=4")


@pytest.mark.parametrize("env", ["my_own.py:Mine", "my_own:Registered-v0"])
def test_make__gives_environments_of_ones_own_each_anew(here, env):
    """Also such whose generator no copy may share, and in a process that reads a pickle."""
    environment = described(env, ["T=7"], None, CHAIN)
    assert environment.home == str(here)
    again = pickle.loads(pickle.dumps(environment)).make()
    made = [make() for make in makers(again, 3)] + [f() for f in picklable_makers(again, 2)]
    assert made[0] is again and len(set(map(id, made))) == 5
    for each in made:
        assert each.unwrapped.T == 7 and type(each.unwrapped).__name__ == "Mine"
        assert [k.__name__ for k in (type(each), type(each.env), type(each.env.env))] == [
            "TimeLimit",
            "NormalizeObservation",
            "Times",
        ]


@pytest.mark.parametrize("limit, wrap, length", [(None, (), 9), (4, (), 4), (7, CHAIN[2:], 4)])
def test_make__limits_an_episode(here, limit, wrap, length):
    env, t, over = described("my_own.py:Mine", ["T=9"], limit, wrap).make(), 0, False
    env.reset(seed=0)
    while not over:
        *_, terminated, truncated, _ = env.step(0)
        t, over = t + 1, terminated or truncated
    assert t == length


@given(st.integers(1, 5), st.booleans(), SEEDS)
def test_own_return__is_below_what_changes_rewards(T, truncate, seed):
    """In `World`: learned from is the changed reward, reported the environment's own."""
    env = Scripted(T, truncate=truncate)
    world = World(TransformReward(OwnReturn(env), lambda r: 10 * r + 1), Position(seed))
    plain = World(Scripted(T, truncate=truncate), Position(seed))
    for _ in range(2 * T):
        r, plain_r = world.step(0)[0], plain.step(0)[0]
        assert r == pytest.approx(10 * plain_r + 1, rel=1e-12)
        assert world.ended == plain.ended


# evaluation


@pytest.mark.parametrize("method", ["reinforce", "a3c"])
def test_evaluate__plays_with_the_moments_of_the_runs_end(here, monkeypatch, method):
    """Frozen; pooled over the workers. Its score is that of the environment's own rewards."""
    page = load_method(method, METHODS)
    environment = described("my_own.py:Mine", wrap=("NormalizeObservation", "NormalizeReward"))
    config = page.Config(network=Network(hidden=(2,)))
    session = training.begin(method, page, environment, config, 0, run="run")
    training.learn(session, 200)
    held, freeze = [], evaluate.freeze
    monkeypatch.setattr(evaluate, "freeze", lambda env: held.append(env) or freeze(env))
    found = evaluate.evaluate(session.path, page, 20, 0, False)
    (env,) = held
    memory = remembered(env)
    mean, var, count = memory["4.obs_rms"][1:]
    assert count > 150 and np.abs(mean).max() < 0.3 and np.abs(np.array(var) - 1 / 3).max() < 0.15
    scores = folder.read_metrics(session.path)["return"]
    assert set(scores) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0} and 0 < found["return_mean"] < 5
    assert found["return_error"] * np.sqrt(19) == pytest.approx(found["return_std"])


def test_evaluate__plays_until_the_error_is_small(here):
    page = load_method("reinforce", METHODS)
    environment = described("my_own.py:Mine")
    session = training.begin("reinforce", page, environment, reinforce.Config(), 0, run="run")
    training.learn(session, 20)
    for error in (0.4, 0.1):
        found = evaluate.evaluate(session.path, page, 2, 0, False, error=error)
        assert found["return_error"] <= error
    assert found["episodes"] > 50


# networks


def test_network__of_ones_own_is_recorded_and_taken_up(here, capsys):
    line = "train reinforce --env my_own.py:Mine --steps 30 --run run --hidden 3 --network "
    assert npgrad(capsys, line + "my_own.py:Plain")[0] == 0
    config = folder.build(reinforce.Config, folder.read_config(Path("run"))["config"])
    assert type(config.network).__name__ == "Plain" and config.network.hidden == (3,)
    assert folder.recorded(config)["network"]["class"] == f"{here / 'my_own.py'}:Plain"
    assert npgrad(capsys, "train --resume run --steps 60")[0] == 0
    assert npgrad(capsys, "evaluate run --episodes 2")[0] == 0


# presets


@pytest.mark.parametrize("key", PRESETS)
def test_presets__are_of_methods_that_learn_there(key):
    method, env, _ = key
    config, found = configured(*key), PRESETS[key]
    assert found.steps >= 1 and getattr(config, "T_max", found.steps) == found.steps
    assert env in gymnasium.registry and (method, env, "") in PRESETS
    assert all(parse_wrap(text)[0] for text in found.wrap)


def test_applied__changes_what_is_named_alone():
    default = ddpg.Config()
    changed = applied(default, dict(tau=0.5, noise=dict(sigma=0.1)))
    assert changed == replace(default, tau=0.5, noise=replace(default.noise, sigma=0.1))


@pytest.mark.parametrize("flags", ["--preset early", "--preset=early"])
def test_preset__gives_settings_and_steps_and_flags_beside_it_win(here, capsys, flags):
    line = f"train ddpg {flags} --env Pendulum-v1 --tau 0.5 --hidden 4 4 --run run --steps 40"
    assert npgrad(capsys, line)[0] == 0
    config = folder.build(ddpg.Config, folder.read_config(Path("run"))["config"])
    expected = configured("ddpg", "Pendulum-v1", "early")
    networks = replace(expected.networks, hidden=(4, 4))
    assert config == replace(expected, tau=0.5, networks=networks)


@pytest.mark.parametrize("flags", ["", "--step-size 2e-3", "--preset"])
def test_train__by_defaults_alone_is_told_of_a_preset(here, capsys, flags):
    line = f"train a2c --env CartPole-v1 --steps 20 --vectorization sync --run run {flags}"
    assert main(line.split()) == 0
    hint = "hint: --preset has settings for CartPole-v1: "
    assert (hint in capsys.readouterr().err) == (not flags)


def test_list__shows_every_preset(capsys):
    status, line, _ = npgrad(capsys, "list --presets --json")
    shown = [(p["method"], p["env"], p["name"]) for p in json.loads(line)["presets"]]
    assert status == 0 and shown == list(PRESETS)


# bad input

CAR = "CartPole-v1"
WRONG = [  # (what `described` is given, its error or that of `make`)
    (("my_own.py",), "--env = my_own.py: must be FILE.py:CLASS"),
    (("no.py:Mine",), "--env = no.py:Mine: there is no file"),
    (("my_own.py:Min",), "--env = my_own.py:Min: .* has no Min; did you mean Mine?"),
    (("my_own.py:Neither",), "--env = my_own.py:Neither: must be a subclass of gymnasium.*Env"),
    (("my_own:Registred-v0",), "--env = my_own:Registred-v0: not known .* mean Registered-v0"),
    (("wrong.py:A",), "--env = wrong.py:A: cannot be imported: ZeroDivisionError"),
    (("json.py:A",), "--env = json.py:A: json is .* already; rename the file"),
    ((CAR, ["x"]), "--env-arg = x: must be NAME=VALUE"),
    ((CAR, ["x={1}"]), r"--env-arg x = \{1\}: must be numbers, words"),
    ((CAR, ["sutton_barto_rewar=1"]), "--env-arg sutton_barto_rewar: .*did you mean"),
    (("my_own.py:Mine", ["S=1"]), "--env-arg S: no argument of my_own.py:Mine: must be of T"),
    ((CAR, (), None, ["FlattenObs"]), "--wrap = FlattenObs: .*did you mean FlattenObservation?"),
    ((CAR, (), None, ["TimeLimit:9"]), "--wrap = TimeLimit:9: must be NAME or NAME:arg=value"),
    ((CAR, (), None, ["TimeLimit:a=f(2)"]), r"--wrap = TimeLimit:a=f\(2\): must be NAME"),
    ((CAR, (), None, ["TimeLimit:max=2"]), "--wrap max: .*: must be of max_episode_steps"),
    ((CAR, (), None, ["TimeLimit"]), "--wrap = TimeLimit: cannot be made: TypeError"),
    ((CAR, (), None, ["SoftBounds"]), r"--wrap = SoftBounds: cannot be made: .*Discrete\(2\)"),
    ((CAR, (), None, ["my_own.py:Mine"]), "--wrap = my_own.py:Mine: must be a subclass of gymn"),
]


@pytest.mark.parametrize("given, message", WRONG)
def test_make__refuses_in_one_line(here, given, message):
    (here / "wrong.py").write_text("1 / 0")
    (here / "json.py").touch()
    with pytest.raises(UsageError) as error:
        described(*given).make()
    assert re.match(message, str(error.value)) and "\n" not in str(error.value)


GO = "train reinforce --steps 9 --env CartPole-v1"
USAGE = {
    "GO --env-arg x": "--env-arg = x: must be NAME=VALUE",
    "GO --wrap FlattenObs": "--wrap = FlattenObs: .*did you mean FlattenObservation?",
    "GO --max-episode-steps 0": "--max-episode-steps = 0: must be at least 1",
    "GO --max-episode-steps x": "--max-episode-steps = x: must be INT",
    "GO --network my_own.py:Mine": "--network = my_own.py:Mine: must be a subclass",
    "GO --network Plain": "--network = Plain: must be FILE.py:CLASS",
    "GO --preset x": "--preset = x: none of reinforce for CartPole-v1; there is one for CartPole",
    "train ddpg --steps 9 --env Pendulum-v1 --network my_own.py:Plain": "--network = .*ddpg has no",
    "train theorem --preset --env E": "--preset: none of theorem for E; theorem has none",
    "train reinforce --preset": "missing: --steps",
    "GO --wrap NormalizeObservation": (
        "--env = CartPole-v1: driver = processes: must be round-robin to keep the moments"
    ),
    "GO --wrap TimeLimit:max_episode_steps=9": (
        "--env = CartPole-v1: vectorization = 'vector_entry_point': must be sync or async"
    ),
    "evaluate run --error 0": "--error = 0.0: must be above 0",
    "evaluate elsewhere": "config.json: code in .*: is imported from the working directory",
    "plot elsewhere": "elsewhere/metrics.csv: cannot be read",  # but nothing is imported
    "evaluate odd": "wrap = 3: is nothing that train records",
}
OF = {"Normal": "a3c --driver processes", "TimeL": "a2c --vectorization vector_entry_point"}


@pytest.mark.parametrize("line", USAGE)
def test_main__refuses_in_one_line(here, capsys, line):
    record = dict(method="reinforce", env="CartPole-v1", seed=0)
    record["config"] = folder.recorded(reinforce.Config())
    elsewhere = dict(env="my_own.py:Mine", home=str(here.parent / "no"))
    for name, change in dict(elsewhere=elsewhere, odd=dict(wrap=3)).items():
        (here / name).mkdir()
        (here / name / "config.json").write_text(json.dumps(record | change))
    method = next((method for word, method in OF.items() if word in line), "reinforce")
    command = line.replace("GO", GO.replace("reinforce", method))
    status, out, err = npgrad(capsys, command)
    assert (status, out) == (2, "")
    assert re.match("npgrad: .*" + USAGE[line], err)
    assert not (here / "runs").exists()


def test_build__imports_no_code_from_elsewhere(here, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "evil.py").write_text("raise SystemExit('was imported')")
    values = folder.recorded(reinforce.Config())
    values["network"]["class"] = f"{other / 'evil.py'}:Evil"
    with pytest.raises(UsageError, match="is imported from the working directory"):
        folder.build(reinforce.Config, values)
