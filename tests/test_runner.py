"""The runner, on a toy method: this file is the toy's page, and as a script its console command."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import gymnasium
import numpy as np
import pytest
from folders import scratch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from algorithms import ddpg
from algorithms.common import policy
from algorithms.common.config import Range, ranges
from algorithms.common.metrics import Metrics
from algorithms.common.world import BLOCK
from algorithms.runner import checkpoint, cli, folder, plot, training
from algorithms.runner.checkpoint import Keeper, Tally
from algorithms.runner.cli import main, strict_json
from algorithms.runner.environments import Environment
from algorithms.runner.errors import UsageError
from algorithms.runner.lookup import METHODS, Page, load_method, summary
from algorithms.runner.progress import Progress


@dataclass(frozen=True)
class Network:
    hidden: tuple[int, ...] = (2, 3)
    """Widths (here); each positive."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Nonlinearity (here)."""


@dataclass(frozen=True)
class Config:
    sigma: float = 0.5
    """Standard deviation of the step (here); in [0, ∞)."""
    episodes: int = 2
    """Episodes per update (here); at least 1."""
    keep: bool = True
    """Keep only steps that gain (here)."""
    signal_at: int = 0
    """Update in which the process sends itself `signal` (here); 0 is never."""
    signal: int = 2
    """Its number (here)."""
    network: Network = Network()
    """The network."""

    def __post_init__(self):
        if not self.sigma >= 0:
            raise ValueError(f"sigma = {self.sigma}: must be in [0, ∞)")


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta",)
    theta: np.ndarray
    best: float
    t: int
    n: int
    rng: np.random.Generator


def init(env, config, seed):
    space = env.observation_space
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"observation space {space}: must be a flat Box")
    return State(np.zeros(space.shape), -np.inf, 0, 0, np.random.default_rng(seed))


def train(env, config, state):
    """Hill climbing on a linear threshold policy."""
    update = 0
    while True:
        update += 1
        step = config.sigma * state.rng.standard_normal(len(state.theta))
        played = [play(env, state.theta + step, state) for _ in range(config.episodes)]
        if update == config.signal_at:
            os.kill(os.getpid(), config.signal)
        returns, lengths = zip(*played)
        if np.mean(returns) >= state.best or not config.keep:
            state.theta += step
            state.best = float(np.mean(returns))
        yield Metrics(state.t, state.n, returns, lengths, {"norm": float(np.linalg.norm(step))})


def play(env, theta, state):
    observation, _ = env.reset(seed=int(state.rng.integers(2**31)))
    G, length, over = 0.0, 0, False
    while not over:
        observation, r, terminated, truncated, _ = env.step(int(observation @ theta > 0))
        if not np.isfinite(r):
            raise FloatingPointError(f"reward = {r}: must be finite")
        G, length, over = G + float(r), length + 1, terminated or truncated
    state.t += length
    state.n += 1
    return G, length


def actor(env, config):
    def act(parameters, observation, rng, greedy):
        noise = 0.0 if greedy else 0.1 * rng.standard_normal()
        return int(observation @ parameters["theta"] + noise > 0)

    return act


TOY = {"toy": Page("test_runner")}
CARTPOLE = "CartPole-v1"


class Faulty(gymnasium.Wrapper):
    """CartPole whose step number `at`, counted over all episodes, raises or rewards with NaN."""

    def __init__(self, at, kind):
        super().__init__(gymnasium.make(CARTPOLE))
        self.at, self.kind, self.count = at, kind, 0

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        self.count += 1
        if self.count == self.at and self.kind == "raises":
            raise RuntimeError("the arm\nis stuck")
        return observation, np.nan if self.count == self.at else reward, *rest


class Pictured(gymnasium.Env):
    """An environment with what no flat method takes."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)


@pytest.fixture(autouse=True, scope="module")
def environments():
    made = {
        "Raises-v0": lambda: Faulty(at=500, kind="raises"),
        "Nan-v0": lambda: Faulty(at=500, kind="nan"),
        "Pictured-v0": Pictured,
    }
    for name, entry in made.items():
        gymnasium.register(f"test/{name}", entry, max_episode_steps=500)
    yield
    for name in made:
        del gymnasium.registry[f"test/{name}"]


@pytest.fixture(autouse=True, scope="module")
def no_matplotlib():
    """Drawing takes most of a short run's time: only the tests of pictures have matplotlib."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        yield patch


@pytest.fixture
def pictures(no_matplotlib):
    no_matplotlib.undo()
    yield
    no_matplotlib.setitem(sys.modules, "matplotlib", None)


def npgrad(capsys, line):
    """(exit status, stdout's lines, stderr's lines) of a command line."""
    capsys.readouterr()
    status = main(line.split(), TOY)
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def run(steps, seed=0, config=None, env=CARTPOLE, **kwargs):
    toy = load_method("toy", TOY)
    session = training.begin("toy", toy, Environment(env), config or Config(), seed)
    return session, training.learn(session, steps, **kwargs)


def rows(path):
    """metrics.csv without its wall clock."""
    return [row[:4] + row[5:] for row in folder._rows(Path(path))]


NOTHING = Tally()


def save(path, state, tally=NOTHING):
    keeper = Keeper(path, state, tally, np.inf)
    keeper.keep(tally)
    keeper.save()
    return keeper


def bits(state):
    arrays, scalars = checkpoint.copy_state(state)
    return {name: (a.shape, a.dtype, a.tobytes()) for name, a in arrays.items()}, repr(scalars)


def files(path="."):
    return sorted(p.name for p in Path(path).iterdir())


floats = st.floats(allow_nan=True, allow_infinity=True, width=64)
finite = st.floats(allow_nan=False, allow_infinity=False)
states = st.builds(
    State,
    theta=arrays(np.float64, array_shapes(min_dims=0, max_dims=3, min_side=0), elements=finite),
    best=floats,
    t=st.integers(0, 2**62),
    n=st.integers(0, 2**62),
    rng=st.integers(0, 2**32).map(np.random.default_rng),
)
configs = st.builds(
    Config,
    sigma=st.floats(0, allow_infinity=True),
    episodes=st.integers(-(2**62), 2**62),
    keep=st.booleans(),
    network=st.builds(
        Network,
        hidden=st.lists(st.integers(1, 9), max_size=3).map(tuple),
        activation=st.sampled_from(["tanh", "relu"]),
    ),
)
positions = st.builds(Tally, *[st.integers(0, 2**62)] * 2, st.floats(0, 1e9))


# checkpoints


@given(states, positions, st.integers(0, 5))
def test_checkpoint__restores_every_bit(state, position, drawn):
    state.rng.standard_normal(drawn)
    other = State(np.full_like(state.theta, 7.0), -np.inf, 2, 3, np.random.default_rng(1))
    theta = other.theta
    with scratch() as path:
        save(path, state, position)
        assert checkpoint.restore(path, other, CARTPOLE) == position
        saved = checkpoint.read_arrays(path / "parameters.npz")
    assert bits(other) == bits(state)
    assert other.theta is theta
    assert other.rng.random() == state.rng.random()
    assert list(saved) == ["theta"] and saved["theta"].tobytes() == state.theta.tobytes()


@given(st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_checkpoint__leaves_out_rows_of_the_replay_memory_that_hold_nothing(steps, seed):
    """A ring of 6: the rows that were written, of as many as there are."""
    env, config = gymnasium.make("Pendulum-v1"), ddpg.Config(replay=6, batch=2)
    state, other = ddpg.init(env, config, seed), ddpg.init(env, config, seed + 1)
    state.ring[: min(steps, 6)] = np.random.default_rng(seed).normal(size=state.ring[:steps].shape)
    state.steps = steps
    assert checkpoint.copy_state(state)[0]["ring"].shape == (min(steps, 6), state.ring.shape[1])
    with scratch() as path:
        save(path, state)
        checkpoint.restore(path, other, "Pendulum-v1")
    assert bits(other) == bits(state) and np.array_equal(other.ring, state.ring)


@given(states, positions)
def test_keeper__saves_the_last_yield_not_what_came_after(state, position):
    state.best = -np.inf  # as a new one's
    before = bits(state)
    with scratch() as path:
        keeper = save(path, state, position)
        state.theta += 1.0
        state.t += 1
        state.rng.random()
        keeper.save()
        assert checkpoint.restore(path, state, CARTPOLE) == position
    assert bits(state) == before


@pytest.mark.parametrize("value", ["text", [1.0], None, np.array([None]), 1j])
def test_copy_state__refuses_what_a_checkpoint_cannot_hold(value):
    state = State(np.zeros(2), value, 0, 0, np.random.default_rng(0))
    with pytest.raises(TypeError, match=r"State\.best"):
        checkpoint.copy_state(state)


@given(st.data())
def test_read_arrays__whole_or_refused(data):
    with scratch() as path:
        save(path, State(np.arange(3.0), 0.5, 1, 2, np.random.default_rng(0)))
        whole = (path / "checkpoint.npz").read_bytes()
        (path / "torn.npz").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(UsageError, match=r"torn\.npz: cannot be read"):
            checkpoint.read_arrays(path / "torn.npz")


@given(st.tuples(st.integers(0, 9)).filter(lambda shape: shape != (4,)))
def test_check_fit__names_parameter_and_shapes(shape):
    state = State(np.zeros(4), 0.0, 0, 0, np.random.default_rng(0))
    with pytest.raises(UsageError) as error:
        checkpoint.check_fit({"theta": np.zeros(shape)}, state, Path("p.npz"), CARTPOLE)
    assert f"theta = {shape}: must have shape (4,) to fit {CARTPOLE}" in str(error.value)
    with pytest.raises(UsageError, match="theta = missing"):
        checkpoint.check_fit({}, state, Path("p.npz"), CARTPOLE)


# the run folder


@given(st.binary(), st.binary())
def test_replacing__all_or_nothing(old, new):
    with scratch() as path:
        (path / "f").write_bytes(old)
        with pytest.raises(ZeroDivisionError), folder.replacing(path / "f") as file:
            file.write(new)
            raise ZeroDivisionError
        assert (path / "f").read_bytes() == old and files() == ["f"]
        with folder.replacing(path / "f") as file:
            file.write(new)
        assert (path / "f").read_bytes() == new and files() == ["f"]


@given(configs)
def test_build__inverts_config_json(config):
    with scratch() as path:
        folder.write_config(path, "toy", Environment(CARTPOLE), 3, config, [])
        assert folder.build(Config, folder.read_config(path)["config"]) == config


@pytest.mark.parametrize("change", [{"gamma": 1.0}, {"sigma": None}, {"sigma": -1.0}])
def test_build__refuses_other_fields_and_values(change):
    values = {k: v for k, v in (dataclasses.asdict(Config()) | change).items() if v is not None}
    with pytest.raises(UsageError, match=next(iter(change))):
        folder.build(Config, values)


updates = st.lists(st.lists(st.tuples(finite, st.integers(1, 99)), max_size=3), max_size=6)


@given(updates, st.data())
def test_metrics_file__reads_back_and_cuts_anywhere(played, data):
    with scratch() as path:
        steps = episodes = 0
        file = folder.MetricsFile(path)
        expected = []
        for update in played:
            returns, lengths = zip(*update) if update else ((), ())
            steps, episodes = steps + sum(lengths), episodes + len(returns)
            file.append(Metrics(steps, episodes, returns, lengths, {"h": 0.5}), 0.25)
            expected += [(steps, G, length, 0.25) for G, length in update]
        file.close()
        names = ("step", "return", "length", "seconds")
        read = folder.read_metrics(path)
        np.testing.assert_array_equal([*zip(*(read[n] for n in names))], expected)
        np.testing.assert_array_equal(read["episode"], 1 + np.arange(len(expected)))

        text = (path / "metrics.csv").read_bytes()
        torn = text[: data.draw(st.integers(0, len(text)))]
        (path / "metrics.csv").write_bytes(torn)
        whole = max(torn.count(b"\n") - 1, 0)
        assert len(folder.read_metrics(path)["step"]) == whole
        keep = data.draw(st.integers(0, whole))
        folder.cut_metrics(path, steps, keep)
        left = (path / "metrics.csv").read_bytes()
        assert left == b"".join(
            text.splitlines(keepends=True)[: keep + 1 if whole else torn.count(b"\n")]
        )


def test_create__numbers_default_folders_and_refuses_taken_ones(here):
    made = [str(folder.create(None, "a")) for _ in range(3)]
    assert made == [str(Path("runs") / name) for name in ("a", "a-2", "a-3")]
    Path("empty").mkdir()
    assert folder.create("empty", "a") == Path("empty")
    Path("empty/file").touch()
    for taken, why in (
        ("empty", "is not empty"),
        ("empty/file", "cannot be made"),
        ("empty/file/x", "cannot"),
    ):
        with pytest.raises(UsageError, match=f"--run = {taken}: {why}"):
            folder.create(taken, "a")


# training


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 2000), min_size=2, max_size=3, unique=True))
def test_learn__resumed_equals_uninterrupted(seed, stops):
    stops.sort()
    with scratch():
        straight, whole = run(stops[-1], seed)
        session, result = run(stops[0], seed)
        for steps in stops[1:]:
            if steps > result["steps"]:
                session = training.resume(session.path, session.method, steps)
                result = training.learn(session, steps)
        assert bits(session.state) == bits(straight.state)
        assert rows(session.path) == rows(straight.path)
        same = ("steps", "episodes", "return_last_100")
        assert [result[k] for k in same] == [whole[k] for k in same]


def test_train__plain_is_the_same_run(here, capsys):
    line = "train actor-critic --env Pendulum-v1 --steps 300 --run {} --hidden 4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "AFTER", 0)
        for flags in ("a", "b --plain"):
            assert main(line.format(flags).split(), METHODS) == 0
            assert "NPGRAD_PLAIN" not in os.environ
    saved = [Path(p, "parameters.npz").read_bytes() for p in "ab"]
    assert saved[0] == saved[1]


def test_learn__same_seed_same_bits_and_other_seed_other_run(here):
    paths = [run(600, seed)[0].path for seed in (5, 5, 6)]
    saved = [(p / "parameters.npz").read_bytes() for p in paths]
    assert saved[0] == saved[1] != saved[2]
    assert rows(paths[0]) == rows(paths[1]) != rows(paths[2])


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 1500), st.integers(1, 4))
def test_learn__stops_at_the_first_yield_with_enough_steps(steps, episodes):
    with scratch():
        session, result = run(steps, config=Config(episodes=episodes))
        metrics = folder.read_metrics(session.path)
    assert result["steps"] >= steps > result["steps"] - metrics["length"][-episodes:].sum()
    assert result["steps"] == session.state.t == metrics["length"].sum() == metrics["step"][-1]
    assert result["episodes"] == len(metrics["step"]) == metrics["episode"][-1]
    assert result["return_last_100"] == pytest.approx(metrics["return"][-100:].mean(), rel=1e-12)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("update", [1, 4])
def test_train__signal_finishes_the_update_and_saves(here, capsys, number, update):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    line = f"--env {CARTPOLE} --steps 1000000 --signal-at {update} --signal {int(number)} --json"
    status, out, err = npgrad(capsys, "train toy " + line)
    assert status == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    result = json.loads(out[-1])
    assert result["episodes"] == 2 * update and result["signal"] == number.name
    assert len([text for text in err if number.name in text and "--resume" in text]) == 1
    straight, _ = run(result["steps"])
    assert rows(result["run"]) == rows(straight.path)
    state = init(gymnasium.make(CARTPOLE), Config(), 1)
    assert checkpoint.restore(Path(result["run"]), state, CARTPOLE).steps == result["steps"]
    assert bits(state) == bits(straight.state)


def script(*arguments):
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_train__killed_leaves_what_it_had(here):
    kill = ("--signal-at", 5, "--signal", int(signal.SIGKILL), "--checkpoint-every", 0)
    done = script("train", "toy", "--env", CARTPOLE, "--steps", 10**6, "--run", "killed", *kill)
    assert done.returncode == -signal.SIGKILL
    position = Tally(
        **json.loads(checkpoint.read_arrays(Path("killed/checkpoint.npz"))["_json"].item())["tally"]
    )
    assert position.episodes == len(folder.read_metrics(Path("killed"))["step"]) == 8
    steps = position.steps + 1
    again = script("train", "--resume", "killed", "--steps", steps, "--json")
    straight, result = run(steps)
    assert json.loads(again.stdout.splitlines()[-1])["steps"] == result["steps"]
    assert rows("killed") == rows(straight.path)
    for name in ("checkpoint.npz", "parameters.npz"):
        ours, theirs = (checkpoint.read_arrays(p / name) for p in (Path("killed"), straight.path))
        np.testing.assert_array_equal(ours["theta"], theirs["theta"])


@pytest.mark.parametrize(
    "env, what", [("test/Raises-v0", "the arm is stuck"), ("test/Nan-v0", "nan")]
)
def test_train__failure_keeps_all_up_to_the_last_yield(here, capsys, env, what):
    status, out, err = npgrad(capsys, f"train toy --env {env} --steps 100000 --json")
    result = json.loads(out[-1])
    assert status == 1 and len(err) == 2 and len(out) == 1
    assert err[1] == f"npgrad: {result['error']}"
    assert all(text in err[1] for text in (env, what, result["run"], f"step {result['steps']}"))
    state = init(gymnasium.make(CARTPOLE), Config(), 1)
    position = checkpoint.restore(Path(result["run"]), state, CARTPOLE)
    straight, _ = run(result["steps"])
    assert rows(result["run"]) == rows(straight.path)
    assert position.steps == state.t <= result["steps"] < 500
    assert result["episodes"] == len(rows(result["run"])) - 1 > 0


# methods that end by themselves


@pytest.mark.filterwarnings("ignore:.* are cut:RuntimeWarning")
@pytest.mark.parametrize("driver", ["round-robin", "threads"])
@pytest.mark.parametrize("name", ["a3c", "async-q", "async-sarsa", "async-n-step-q"])
def test_train__steps_are_the_end_of_a_method_that_has_one(here, capsys, name, driver):
    def result(line):
        assert main([*line.split(), "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    settings = f"--hidden 3 --driver {driver} --run run"
    first = result(f"train {name} --env {CARTPOLE} --steps 300 {settings}")
    then = result("train --resume run --steps 500")
    for steps, made in {300: first, 500: then}.items():
        assert steps < made["steps"] <= steps + 2 * 5  # two workers, segments of up to 5
    saved, table = checkpoint.read_arrays(Path("run/checkpoint.npz")), rows("run")
    assert saved["T"].sum() == then["steps"]
    assert then["episodes"] == len(table) - 1 > first["episodes"] > 0
    assert table[0][-1] == "staleness" and np.isfinite(saved["theta"]).all()
    assert result("evaluate run --episodes 2")["return_mean"] > 0


def test_learn__stops_short_of_a_later_end(here):
    method = load_method("a3c", METHODS)
    session = training.begin(
        "a3c", method, Environment(CARTPOLE), method.Config(workers=3, T_max=10**6), 0
    )
    assert 100 <= training.learn(session, 100)["steps"] == session.state.T.sum() < 100 + 5


@pytest.mark.parametrize("name", METHODS)
def test_offered__hides_only_an_end_which_is_then_the_steps(name):
    from algorithms.runner.arguments import offered, parse

    method = load_method(name, METHODS)
    (parsed,) = parse([], "npgrad", "", method=offered(method.Config))
    config = training.ending(method, vars(parsed), 7)
    assert type(config) is method.Config
    if hasattr(config, "T_max"):
        assert config == dataclasses.replace(method.Config(), T_max=7)
        with pytest.raises(UsageError, match="--T-max: no such flag"):
            parse(["--T-max", "7"], "npgrad", "", method=offered(method.Config))
    else:
        assert config == method.Config()


def test_offered__shows_the_range_of_every_number(capsys):
    from algorithms.runner.arguments import offered, parse

    for name in METHODS:
        Config = load_method(name, METHODS).Config
        with pytest.raises(SystemExit):
            parse(["--help"], "npgrad", "", method=offered(Config))
        shown = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
        for field, (_, allowed, *_) in ranges(Config).items():
            if isinstance(allowed, Range) and field != "T_max":
                default = getattr(Config(), field)
                assert f"({allowed}; default: {default})" in shown, (name, field)


SMALL = {
    "reinforce": ("CartPole-v1", dict(network=policy.Network(hidden=(4,)))),
    "actor-critic": ("CartPole-v1", dict(network=policy.Network(hidden=(4,)))),
    "actor-critic-traces": ("Pendulum-v1", dict(network=policy.Network(hidden=(4,)))),
    "actor-critic-continuing": ("npgrad/Garnet0-v0", dict(report_every=50)),
    "td-lambda": ("npgrad/RandomWalk19-v0", dict(updates="offline")),
    "ddpg": ("Pendulum-v1", dict(networks=ddpg.Networks(hidden=(4, 4)), replay=500, warmup=40)),
}


@pytest.mark.parametrize("name", SMALL)
def test_learn__stopped_inside_an_episode_is_resumed_to_the_bit(name, here):
    env, options = SMALL[name]
    method = load_method(name, METHODS)
    config = method.Config(**options)
    whole = training.begin(name, method, Environment(env), config, 3)
    training.learn(whole, 400)
    part = training.begin(name, method, Environment(env), config, 3)
    for steps in (70, 190, 400):
        training.learn(part, steps)
        part = training.resume(part.path, method, 1000)
    assert whole.state.steps == part.state.steps >= 400
    for field in dataclasses.fields(method.State):
        one, other = (getattr(session.state, field.name) for session in (whole, part))
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
    assert whole.state.rng.bit_generator.state == part.state.rng.bit_generator.state
    ours, theirs = (folder.read_metrics(session.path) for session in (whole, part))
    np.testing.assert_array_equal(ours["return"], theirs["return"])


@pytest.mark.parametrize("name", ["reinforce", "actor-critic", "td-lambda", "actor-critic-traces"])
def test_learn__stops_at_the_steps_in_a_world_that_never_ends(name, here):
    method = load_method(name, METHODS)
    session = training.begin(name, method, Environment("npgrad/Garnet0-v0"), method.Config(), 0)
    result = training.learn(session, 100)
    assert 100 <= result["steps"] < 100 + BLOCK and result["episodes"] == 0


# the command line

GO = f"train toy --env {CARTPOLE} --steps 1"
USAGE = {
    "": "COMMAND is missing: must be one of train, evaluate, plot",
    "trian": "COMMAND = trian: must be one of train",
    "train": "METHOD is missing",
    "train toi --env E --steps 1": "METHOD = toi: must be one of toy; did you mean toy?",
    "train toy --env CartPol-v1 --steps 1": "--env = CartPol-v1: .*did you mean CartPole-v1",
    "train toy --env nosuchmodule:X-v1 --steps 1": "--env = nosuchmodule:X-v1: cannot be imp",
    "train toy --env test/Pictured-v0 --steps 1": r"--env = test/Pictured-v0: .*\(8, 8, 3\)",
    "train toy --env CartPole-v1": "missing: --steps INT",
    "train toy --env CartPole-v1 --steps 0": "--steps = 0: must be at least 1",
    "train toy --env CartPole-v1 --steps 1e3": "--steps = 1e3: must be an int",
    "GO --seed -1": "--seed = -1: must be at least 0",
    f"GO --seed {2**63}": f"--seed = {2**63}: must be below 2",
    "GO --seed": "'--seed'",
    "GO --sigma -1": r"sigma = -1.0: must be in \[0, ∞\)",
    "GO --sigm 1": "--sigm: no such flag; did you mean --sigma?",
    "GO --hidden 3 x": r"--hidden: .*'x'.*must be \[INT",
    "GO --activation elu": "--activation = elu: .*'tanh', 'relu'",
    "GO stray": "stray: no such",
    "GO --checkpoint-every nan": "--checkpoint-every = nan: must",
    "GO --run full": "--run = full: is not empty",
    "GO --run full/file/x": "--run = full/file/x: cannot be made",
    "train toy --resume nowhere --steps 9": "RUN = nowhere: no such folder",
    "train --resume full --steps 9": "RUN = full: has no config.json",
    "train --resume full --steps 9 --sigma 1": "--sigma: no such flag.*own config decides",
    "evaluate": "missing: RUN",
    "evaluate nowhere": "RUN = nowhere: no such folder",
    "evaluate full --episodes 0": "--episodes = 0: must be at least 1",
    "plot": "RUN is missing",
    "plot nowhere": "RUN = nowhere: no such folder",
    "plot full --out a.gif": "--out = a.gif: must end in .png, .pdf or .svg",
    "list stray": "stray: no such",
}


@pytest.mark.parametrize("line", USAGE)
def test_main__usage_is_one_line_and_status_2(here, capsys, line):
    Path("full").mkdir()
    Path("full/file").touch()
    command = line.replace("GO", GO)
    status, out, err = npgrad(capsys, command)
    assert (status, out, len(err)) == (2, [], 1)
    assert re.match("npgrad: .*" + USAGE[line], err[0])
    assert files() == ["full"] and files("full") == ["file"]
    status, out, _ = npgrad(capsys, command + " --json")
    assert status == 2 and json.loads(out[-1])["error"]


@settings(max_examples=25, deadline=None)
@given(st.text("abcxyz0123456789._", min_size=1, max_size=30))
def test_parse__bad_number_is_named_with_its_value(text):
    from algorithms.runner.arguments import parse

    for flag, kind, convert in (("--sigma", "a float", float), ("--episodes", "an int", int)):
        try:
            convert(text)
        except ValueError:
            with pytest.raises(UsageError) as error:
                parse([flag, text], "npgrad", "", toy=Config)
            assert str(error.value) == f"{flag} = {text}: must be {kind}"


@settings(max_examples=25, deadline=None)
@given(configs)
def test_parse__every_config_field_is_a_flag(config):
    from algorithms.runner.arguments import parse

    argv = ["--sigma", repr(config.sigma), f"--episodes={config.episodes}"]
    argv += ["--keep" if config.keep else "--no-keep", "--activation", config.network.activation]
    argv += ["--hidden", *map(str, config.network.hidden)]
    assert parse(argv, "npgrad", "", toy=Config) == [config]


def test_help__explains_every_field_with_default_and_source(capsys):
    status, out, err = npgrad(capsys, "train toy --help")
    text = " ".join(" ".join(line.strip("│ ") for line in out).split())
    assert status == 0 and err == [] and summary(TOY["toy"]) in text
    for flag, told in {
        "--sigma FLOAT": "Standard deviation of the step (here); in [0, ∞). (default: 0.5)",
        "--hidden [INT [INT ...]]": "Widths (here); each positive. (default: 2 3)",
        "--env ID": "Id of a Gymnasium environment",
        "--checkpoint-every FLOAT": "(default: 30.0)",
    }.items():
        assert f"{flag} {told}" in text or (flag in text and told in text)
    for line in ("--help", "train --help", "evaluate --help", "plot --help", "list --help"):
        status, out, err = npgrad(capsys, line)
        assert status == 0 and out and err == []


def test_list__names_every_method(capsys):
    status, out, _ = npgrad(capsys, "list")
    assert status == 0 and any("toy" in line and summary(TOY["toy"]) in line for line in out)
    assert json.loads(npgrad(capsys, "list --json")[1][-1])["methods"] == {
        "toy": summary(TOY["toy"])
    }
    assert all(isinstance(page, Page) for page in METHODS.values())
    with pytest.raises(TypeError):
        METHODS["mine"] = Page("mine")


def test_main__help_imports_nothing_slow():
    code = "import sys; from algorithms.runner.cli import main; main(['--help']); "
    code += "sys.exit(any(m in sys.modules for m in ('numpy', 'gymnasium', 'tyro', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_main__missing_extra_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)
    status, out, err = npgrad(capsys, "list")
    assert (status, out) == (1, [])
    assert err == ["npgrad: tyro is not installed: pip install 'npgrad[app]'"]


def test_main__debug_shows_the_traceback(here, capsys):
    status, _, err = npgrad(capsys, "evaluate nowhere --debug")
    assert status == 2 and err[0].startswith("Traceback") and err[-1].startswith("npgrad: RUN")


def test_main__foreign_warning_is_one_line(here, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [])  # pytest's raise
        status, _, err = npgrad(capsys, "train toy --env CartPole-v0 --steps 1")
    assert status == 0 and len(err) == 2
    assert err[0].startswith("npgrad: warning: The environment CartPole-v0 is out of date")


def test_main__warning_clears_the_bar_of_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("warnings.filters", [])
    with cli._one_line_warnings():
        warnings.warn("worker 1 died", stacklevel=1)
    assert terminal.getvalue() == "\r\x1b[Knpgrad: warning: worker 1 died\n"


def test_resume__refuses_what_the_run_decides(here, capsys):
    session, result = run(50)
    path, more = session.path, result["steps"] + 1
    for line, why in {
        f"train other --resume {path} --steps 900": "METHOD = other: must be toy",
        f"train toy --resume={path} --steps 900 --env Acrobot-v1": "--env = Acrobot-v1: must be",
        f"train toy --resume {path} --steps 900 --seed 1": "--seed = 1: must be 0",
        f"train toy --resume {path} --steps 9": "--steps = 9: must exceed",
    }.items():
        status, _, err = npgrad(capsys, line)
        assert status == 2 and len(err) == 1
        assert why in err[0]
    status, out, _ = npgrad(
        capsys, f"train toy --env {CARTPOLE} --seed 0 --resume {path} --steps {more} --json"
    )
    assert status == 0 and json.loads(out[-1])["steps"] >= more


@given(st.dictionaries(st.text(), floats | st.integers() | st.none() | st.text()))
def test_strict_json__one_line_without_nan(result):
    def forbidden(constant):
        raise AssertionError(constant)

    line = strict_json(result)
    read = json.loads(line, parse_constant=forbidden)
    assert "\n" not in line and read.keys() == result.keys()
    for key, value in result.items():
        finite = not isinstance(value, float) or np.isfinite(value)
        assert read[key] == (value if finite else None)


# evaluation


def test_evaluate__counts_right_and_repeats(here, capsys):
    session, _ = run(400)
    line = f"evaluate {session.path} --episodes 7 --json"
    results = [json.loads(npgrad(capsys, line + more)[1][-1]) for more in ("", "", " --seed 1")]
    assert results[0] == results[1] != results[2]
    for result in results:
        assert result["episodes"] == 7 and result["return_mean"] == result["length_mean"]
    one = json.loads(npgrad(capsys, f"evaluate {session.path} --episodes 1 --greedy --json")[1][-1])
    assert one["return_std"] == 0.0 and one["greedy"]


def test_evaluate__is_the_play_of_the_saved_parameters(here, capsys):
    session, _ = run(400)
    line = f"evaluate {session.path} --episodes 5 --greedy --json"
    result = json.loads(npgrad(capsys, line)[1][-1])
    env, returns = gymnasium.make(CARTPOLE), []
    observation, _ = env.reset(seed=int(np.random.default_rng(0).integers(2**31)))
    while len(returns) < 5:  # seeded once
        G, over = 0.0, False
        while not over:
            action = int(observation @ session.state.theta > 0)
            observation, r, terminated, truncated, _ = env.step(action)
            G, over = G + r, terminated or truncated
        returns.append(G)
        observation, _ = env.reset()
    assert result["return_mean"] == pytest.approx(np.mean(returns), rel=1e-12)
    assert result["return_std"] == pytest.approx(np.std(returns), rel=1e-12, abs=1e-12)


def test_evaluate__refuses_parameters_that_do_not_fit(here, capsys):
    session, _ = run(50)
    np.savez(session.path / "parameters.npz", theta=np.zeros(3))
    status, _, err = npgrad(capsys, f"evaluate {session.path}")
    assert status == 2 and len(err) == 1
    assert "theta = (3,): must have shape (4,) to fit CartPole-v1" in err[0]


# progress and pictures


def test_progress__plain_line_tells_rate_return_and_time_left(capsys):
    progress = Progress(100, 10, "steps")
    progress.update(20, lambda: 3.25)
    assert capsys.readouterr().err == ""
    progress.due = progress.start
    progress.update(55, lambda: 3.25)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert all(x in line for x in ("55/100 steps", "steps/s", "last-100 return 3.25", "s left"))


def test_progress__terminal_gets_one_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(100, 0, "steps")
    progress.finish(120, lambda: 3.25)
    text = terminal.getvalue()
    assert "100%" in text and "last-100 return 3.25" in text and text.count("\n") == 1


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6)), st.integers(1, 20))
def test_running_mean__is_the_mean_of_the_latest(x, window):
    means = [x[max(0, k + 1 - window) : k + 1].mean() for k in range(len(x))]
    # Sums of at most 20 terms, in any order, are off by at most 20 eps Σ|x|.
    bound = 20 * np.finfo(float).eps * 20 * np.abs(x).max()
    np.testing.assert_allclose(plot.running_mean(x, window), means, rtol=0, atol=bound)


@given(st.lists(st.integers(1, 50), min_size=1), st.lists(st.integers(0, 60)))
def test_at_steps__takes_the_latest_known(steps, later):
    steps = np.sort(steps)
    values = np.arange(len(steps))
    grid = steps[0] + np.sort(np.array(later, dtype=int))
    expected = [max(k for k in values if steps[k] <= g) for g in grid]
    np.testing.assert_array_equal(plot.at_steps(grid, steps, values), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # among matplotlib and its own
def test_train__draws_the_learning_curve_if_it_can(here, pictures):
    session, _ = run(100)
    assert (session.path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert not any(name.endswith(".tmp") for name in files(session.path))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_plot__groups_seeds_and_tells_groups_apart(here, capsys, pictures, monkeypatch):
    monkeypatch.setattr(plot, "learning_curve", lambda path: None)
    paths = [run(3000, seed)[0].path for seed in (0, 1)]
    paths += [
        run(3000, seed, Config(sigma=0.1, network=Network((5,))))[0].path for seed in (0, 1, 2)
    ]
    title, groups = plot.groups_of(paths)
    assert title == "toy · CartPole-v1"
    assert {label: len(runs) for label, runs in groups.items()} == {
        "sigma = 0.5, hidden = [2, 3]": 2,
        "sigma = 0.1, hidden = [5]": 3,
    }
    line = "plot " + " ".join(map(str, paths))
    status, out, err = npgrad(capsys, line + " --out all.png --json")
    assert status == 0 and err == [] and json.loads(out[-1])["picture"] == "all.png"
    assert Path("all.png").read_bytes().startswith(b"\x89PNG")
    assert npgrad(capsys, f"plot {paths[0]}")[1] == [str(paths[0] / "learning_curve.png")]
    status, _, err = npgrad(capsys, f"plot {paths[0]} --out nowhere/all.png")
    assert status == 2 and "--out = nowhere/all.png: cannot be written" in err[0]


def test_plot__without_matplotlib_says_what_to_install(here, capsys):
    session, _ = run(50)
    assert "learning_curve.png" not in files(session.path)
    status, _, err = npgrad(capsys, f"plot {session.path}")
    assert status == 1 and err == ["npgrad: matplotlib is not installed: pip install 'npgrad[app]'"]


if __name__ == "__main__":
    raise SystemExit(main(methods=TOY))
