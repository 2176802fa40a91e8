"""What watches and keeps a run: event files, videos, comparisons, programs, versions."""

import json
import re
import runpy
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium
import numpy as np
import pytest
from folders import scratch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algorithms import ddpg
from algorithms.common.features import BASES
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network
from algorithms.runner import compare, export, folder, plot, training
from algorithms.runner.cli import main
from algorithms.runner.environments import Environment
from algorithms.runner.lookup import METHODS, load_method
from algorithms.runner.tensorboard import Events
from npgrad import from_function

CARTPOLE = "CartPole-v1"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Training draws no learning curve, which takes most of its time here."""
    monkeypatch.setattr(plot, "learning_curve", lambda path: None)


def npgrad(capsys, line):
    """(exit status, stdout's lines, stderr's lines) of a command line."""
    capsys.readouterr()
    status = main(line.split())
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def trained(name="reinforce", env=CARTPOLE, steps=100, run="run", seed=0, observers=(), **config):
    method = load_method(name, METHODS)
    session = training.begin(
        name, method, Environment(env), method.Config(**config), seed, run, ["npgrad"]
    )
    training.learn(session, steps, observers=observers)
    return session


SMALL = dict(network=Network(hidden=(3,)))


# TensorBoard


@pytest.fixture
def tensorboard():
    """tensorboardX imports torch if there is one, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", sys.modules.get("torch"))
        pytest.importorskip("tensorboardX")


def events(path):
    """The events of a run folder, file by file, as TensorBoard reads them: a session that starts
    at a step makes it forget what is known of that step and of later ones."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    known = []
    for file in sorted(path.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.session_log.status == SessionLog.START:
                known = [e for e in known if e.step < event.step]
            known += [event] if event.summary.value else []
    return known


def series(path):
    """[(step, {tag: value})] of a run folder's event files."""
    return [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events(path)]


updates = st.lists(st.lists(st.tuples(st.integers(-99, 99), st.integers(1, 9)), max_size=3))


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(updates, updates, st.integers(0, 20))
def test_events__are_the_rows_of_metrics_also_after_a_resume(tensorboard, before, after, cut):
    """A session is resumed from its first `cut` updates; the later ones are taken again."""
    with scratch() as path:
        expected, steps, episodes = [], 0, 0
        for part, kept in ((before, before[:cut]), (after, after)):
            watch = Events(path, steps)
            done = steps, episodes
            for k, update in enumerate(part):
                returns, lengths = tuple(zip(*update)) or ((), ())
                steps, episodes = steps + 1 + sum(lengths), episodes + len(update)
                watch(Metrics(steps, episodes, returns, lengths, {"extra": 0.5}))
                for episode, (G, length) in enumerate(update, episodes - len(update) + 1):
                    row = {"return": G, "length": length, "episodes": episode, "extra": 0.5}
                    expected += [(steps, row)] if k < len(kept) else []
                done = (steps, episodes) if k < len(kept) else done
            watch.close()
            steps, episodes = done
        assert series(path) == expected


def test_train__with_tensorboard_writes_what_metrics_csv_has(here, capsys, tensorboard):
    flags = "--hidden 3 --tensorboard"
    assert npgrad(capsys, f"train a3c --env {CARTPOLE} --steps 200 --run run {flags}")[0] == 0
    assert npgrad(capsys, "train --resume run --steps 400 --tensorboard")[0] == 0
    assert npgrad(capsys, "train --resume run --steps 500")[0] == 0
    header, *rows = folder._rows(Path("run"))
    written = series(Path("run"))
    rows = [dict(zip(header, map(float, row))) for row in rows]
    rows = [row for row in rows if row["step"] <= written[-1][0]]
    assert [step for step, _ in written] == [row["step"] for row in rows]
    for name in ("return", "length", "staleness"):
        np.testing.assert_allclose([x[name] for _, x in written], [row[name] for row in rows])


def test_train__without_tensorboardX_makes_no_folder(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    line = f"train reinforce --env {CARTPOLE} --steps 9 --run run --tensorboard"
    status, out, err = npgrad(capsys, line)
    assert (status, out) == (1, []) and not Path("run").exists()
    text = "npgrad: tensorboardX is not installed: pip install 'npgrad[tensorboard]'"
    assert err == [text]


# videos


def test_record__plays_the_episodes_that_evaluate_plays(here, capsys):
    pytest.importorskip("moviepy")
    pytest.importorskip("pygame")
    session = trained(**SMALL)
    more = "--episodes 2 --seed 3 --greedy --json"
    status, out, _ = npgrad(capsys, f"record {session.path} --max-episode-steps 9 {more}")
    result = json.loads(out[-1])
    assert (
        status == 0 and [Path(v).stat().st_size > 500 for v in result.pop("videos")] == [True] * 2
    )
    status, out, _ = npgrad(capsys, f"evaluate {session.path} --max-episode-steps 9 {more}")
    assert json.loads(out[-1]) == result
    status, _, err = npgrad(capsys, f"record {session.path}")
    assert status == 2 and len(err) == 1 and "--out = run/video: " in err[0]


def test_record__refuses_in_one_line(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    trained("reinforce", "npgrad/Chain-v0", run="chain", **SMALL)
    status, _, err = npgrad(capsys, "record chain")
    assert status == 1
    assert err == ["npgrad: moviepy is not installed: pip install 'npgrad[video]'"]
    monkeypatch.setitem(sys.modules, "moviepy", sys)
    for metadata, why in (
        ({}, "npgrad/Chain-v0 has the render modes []: must have rgb_array"),
        ({"render_modes": ["rgb_array"]}, "npgrad/Chain-v0 gives pictures of shape (): must"),
    ):
        env = Shown(Discrete(1), Discrete(1))
        env.metadata, env.reset, env.render = metadata, lambda: None, lambda: "text"
        with monkeypatch.context() as patch:
            patch.setattr(Environment, "make", lambda self, env=env, **options: env)
            status, _, err = npgrad(capsys, "record chain")
        assert status == 2 and len(err) == 1 and why in err[0]
    trained(**SMALL)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pygame", None)
        status, _, err = npgrad(capsys, "record run")
        assert status == 1 and len(err) == 1 and "npgrad: pygame is not installed" in err[0]
    pytest.importorskip("pygame")
    for out in ("run", "run/config.json", "run/config.json/x"):
        status, _, err = npgrad(capsys, f"record run --out {out}")
        assert status == 2 and len(err) == 1 and f"--out = {out}: " in err[0]
    assert not Path("run/video").exists()


# comparisons

floats = st.floats(-1e3, 1e3)


@given(st.lists(st.lists(floats, min_size=1, max_size=4), min_size=1, max_size=3))
def test_compare__a_row_is_the_interquartile_mean_of_its_runs(scores):
    """Of runs whose last returns are all the same, and which end at steps 10, 20, ..."""
    for k, group in enumerate(scores):
        returns = [np.repeat([1e6, x], [5, plot.WINDOW]) for x in group]
        runs = [{"return": G, "step": np.array([1, 10.0 * i]), "seconds": np.ones(3)}
                for i, G in enumerate(returns, 1)]  # fmt: skip
        row = compare._row(f"group {k}", runs)
        cut = len(group) // 4
        middle = np.sort(group)[cut : len(group) - cut]
        assert row["score"] == pytest.approx(middle.mean(), rel=1e-9, abs=1e-9)
        assert min(group) - 1e-9 <= row["low"] <= row["high"] <= max(group) + 1e-9
        assert row["steps"] == pytest.approx(5.0 * (len(group) + 1)) and row["seconds"] == 1.0
        assert row["runs"] == len(group)


@given(st.lists(st.tuples(st.text(max_size=5), st.text("xy", max_size=4)), min_size=1))
def test_aligned__has_one_width(rows):
    lines = compare.aligned(rows).split("\n") if all("\n" not in a for a, _ in rows) else []
    assert len({len(line) for line in lines}) <= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # among matplotlib and its own
def test_compare__tells_apart_what_differs_within_a_method(here, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    for seed in (0, 1):
        for n in (2, 3):
            trained(run=f"r{n}{seed}", seed=seed, network=Network(hidden=(n,)))
    trained("actor-critic", run="ac", step_size=0.5, **SMALL)
    status, out, err = npgrad(capsys, "compare r20 r21 r30 r31 ac r20 --json --out all.svg")
    result = json.loads(out[-1])
    assert status == 0 and err == [] and result["title"] == CARTPOLE
    labels = {row["label"]: row["runs"] for row in result["rows"]}
    assert labels == {
        "reinforce, hidden = [2]": 2,
        "reinforce, hidden = [3]": 2,
        "actor-critic, hidden = [3]": 1,
    }
    picture = Path("all.svg").read_text()
    assert "<!-- seconds -->" in picture and "<!-- environment steps -->" in picture
    monkeypatch.setattr(plot, "draw", lambda *given: drawn.append(given))
    drawn = []
    status, out, _ = npgrad(capsys, "compare r20 --x seconds")
    assert status == 0 and "reinforce · CartPole-v1 · seed 0" in out[1] and "[" not in out[1]
    assert drawn == [([Path("r20")], Path("comparison.png"), ("seconds",))]


@pytest.mark.parametrize("line, why", [
    ("compare", "RUN is missing after compare"),
    ("compare nowhere", "RUN = nowhere: no such folder"),
    ("compare run --x time", "--x = time: must be one of 'steps', 'seconds', 'both'"),
    ("compare run --out a.gif", "--out = a.gif: must end in .png, .pdf or .svg"),
    ("compare run", "RUN = run: has no finished episode"),
    ("export", "missing: RUN"),
    ("export nowhere", "RUN = nowhere: no such folder"),
    ("export run --out a", "--out = a: must end in .npz"),
    ("export run --out run/mine.npz", "run/mine.py exists"),
    ("export run --out nowhere/a.npz", "--out = nowhere/a.npz: cannot be written"),
    ("record run --episodes 0", "--episodes = 0: must be at least 1"),
    ("export values", "algorithms.td_lambda learns no policy"),
])  # fmt: skip
def test_watch__usage_is_one_line_and_status_2(here, capsys, line, why):
    if " run" in line:
        trained(steps=1, **SMALL)
    if "values" in line:
        trained("td-lambda", "npgrad/RandomWalk19-v0", run="values")
    Path("run").mkdir(exist_ok=True)
    Path("run/mine.py").write_text("print()")
    if line == "compare run":
        folder.cut_metrics(Path("run"), 0, 0)
    status, out, err = npgrad(capsys, line)
    assert (status, out, len(err)) == (2, [], 1) and why in err[0]
    assert Path("run/mine.py").read_text() == "print()" and not Path("run/mine.npz").exists()


# programs


ASYNCHRONOUS_Q = {"async-q", "async-sarsa", "async-n-step-q"}


class Shown(gymnasium.Env):
    """Nothing but spaces."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions


discrete = st.builds(Discrete, st.integers(1, 4), start=st.integers(-2, 2))
boxes = st.builds(
    lambda shape, dtype: Box(-2, 3, shape, dtype),
    st.sampled_from([(), (1,), (3,), (2, 2)]),
    st.sampled_from([np.float32, np.float64]),
)
observations = discrete | boxes
choices = st.builds(MultiDiscrete, st.sampled_from([[2, 3], [[2], [1], [4]]])) | st.just(
    MultiDiscrete([3, 2], start=[1, -2])
)
numbers = st.builds(
    lambda shape, dtype: Box(-1, 2, shape, dtype),
    st.sampled_from([(), (1,), (2,), (2, 2)]),
    st.sampled_from([np.float32, np.float64, np.int64]),
)
binary = st.builds(MultiBinary, st.sampled_from([3, (2, 2)]))
networks = st.builds(
    Network,
    approximator=st.sampled_from(["mlp", "linear"]),
    hidden=st.sampled_from([(3,), (4, 2)]),
    activation=st.sampled_from(["tanh", "relu", "softplus", "elu", "identity"]),
    sigma=st.sampled_from(["exp", "softplus"]),
    spherical=st.booleans(),
)
floating = st.builds(
    lambda shape, dtype: Box(-1, 2, shape, dtype),
    st.sampled_from([(), (2,), (2, 2)]),
    st.sampled_from([np.float32, np.float64]),
)


gaussian = st.sampled_from(["reinforce", "actor-critic", "a2c", "a3c"])
anything = st.sampled_from(sorted(METHODS.keys() - {"td-lambda", "ddpg"} - ASYNCHRONOUS_Q))
flat = Box(np.array([-1, 0], np.float32), np.array([2, 1], np.float32))
# kind of policy: methods, observations, actions
KINDS = {
    "categorical": (anything, observations, discrete),
    "product": (gaussian, observations, choices | binary),
    "gaussian": (gaussian, boxes, numbers),
    "one-hot gaussian": (gaussian, discrete, numbers),
    "normalised": (st.just("a2c"), observations, numbers),
    "features": (st.sampled_from(["actor-critic-traces"]), st.just(flat), discrete),
    "greedy": (st.sampled_from(sorted(ASYNCHRONOUS_Q)), observations, discrete),
    "deterministic": (st.just("ddpg"), observations, floating),
}


@st.composite
def policies(draw, kind):
    """(name, env, config): a method, spaces, and settings of its policy."""
    name, see, act = map(draw, KINDS[kind])
    config = load_method(name, METHODS).Config()
    if name == "ddpg":
        norm, hidden = draw(st.booleans()), draw(st.sampled_from([(3, 2), (2, 2, 2)]))
        config = replace(config, networks=ddpg.Networks(hidden=hidden, batch_norm=norm))
    else:
        config = replace(config, network=draw(networks))
    if name in ("a2c", "a3c"):
        config = replace(config, trunk=draw(st.sampled_from(["shared", "separate"])))
    if kind == "normalised":
        config = replace(config, normalize_observations=True)
    if kind == "features":
        config = replace(config, features=draw(st.sampled_from(BASES)), order=2)
    return name, Shown(see, act), config


def program(name, env, config, parameters):
    """The function act of the exported program, run as a file of its own."""
    record = dict(method=name, env="test/Shown-v0", seed=0, config={})
    method = load_method(name, METHODS)
    arrays, text = export.exported(method, env, config, parameters, record)
    with TemporaryDirectory() as path:
        np.savez(f"{path}/p.npz", **arrays)
        Path(path, "p.py").write_text(text)
        return runpy.run_path(f"{path}/p.py")["act"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), seed=st.integers(0, 2**31), dtype=st.sampled_from([np.float32, np.float64]))
def test_export__acts_as_the_page_does(kind, data, seed, dtype):
    """To the bit; a σ = √softplus(ω) that is drawn from is rounded in other ways."""
    page, env, config = data.draw(policies(kind))
    rng, method = np.random.default_rng(seed), load_method(page, METHODS)
    _, model, *_ = export.acting(method, env, config)
    parameters = {"theta": rng.standard_normal(model.layout.size).astype(dtype)}
    for name, view in model.layout.views(parameters["theta"])._asdict().items():
        if name.startswith("var"):
            view[:] = np.abs(view)
    env.observation_space.seed(seed)
    near = gymnasium.spaces.flatten(env.observation_space, env.observation_space.sample())
    moments = np.abs(rng.standard_normal((3, near.size)))
    moments[0] = rng.integers(4)
    moments[1] = near + 1e-5 * moments[1]
    moments[2] *= 10.0 ** rng.integers(-12, 2)
    parameters["seen"] = moments
    ours, act = program(page, env, config, parameters), method.actor(env, config)
    env.observation_space.seed(seed)
    for k in range(8):
        observation = env.observation_space.sample()
        action = ours(observation)
        mode = act(parameters, observation, np.random.default_rng(k), greedy=True)
        np.testing.assert_array_equal(action, mode)
        assert env.action_space.contains(action)
        if kind not in ("greedy", "deterministic"):
            drawn = act(parameters, observation, np.random.default_rng(k), greedy=False)
            action = ours(observation, np.random.default_rng(k))
            np.testing.assert_allclose(action, drawn, rtol=1e-6, atol=1e-6)


def test_export__refuses_a_network_of_ones_own(here):
    class Mine(Network):
        def model(self, n, m, one_hot=False):
            return from_function(lambda theta, x: np.asarray(x) @ theta.reshape(n, m), n * m)

    method = load_method("reinforce", METHODS)
    env, config = Shown(Box(-1, 1, (2,)), Discrete(3)), method.Config(network=Mine())
    with pytest.raises(ValueError, match="its network is from_function: must be npgrad's"):
        export.exported(method, env, config, {"theta": np.zeros(6)}, {})


def test_export__stands_alone(here, capsys):
    """The program runs where NumPy is, and this project is not; θ's layout is in the file."""
    session = trained(**SMALL)
    status, out, err = npgrad(capsys, f"export {session.path}")
    assert (status, out, err) == (0, ["run/act.npz", "run/act.py"], [])
    assert npgrad(capsys, f"export {session.path}")[0] == 0  # replaces its own program
    text = Path("run/act.py").read_text()
    assert re.findall("^(?:import|from) .*", text, re.M) == ["import numpy as np"]
    with np.load("run/act.npz") as npz:
        about, theta = json.loads(str(npz["about"])), npz["theta"]
    assert np.array_equal(theta, session.state.theta)
    places = [
        (v["offset"], v["offset"] + int(np.prod(v["shape"]))) for v in about["layout"].values()
    ]
    assert [start for start, _ in places] == [0, *(end for _, end in places[:-1])]
    assert places[-1][1] == theta.size and about["activation"] == "tanh"
    code = "import act, sys; print(act.act([0.1, 0, 0, 0])); assert 'gymnasium' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd="run", capture_output=True, text=True)
    page = load_method("reinforce", METHODS).actor(session.env, session.config)
    action = page({"theta": theta}, np.array([0.1, 0, 0, 0]), None, greedy=True)
    assert done.returncode == 0 and int(done.stdout) == action


def test_export__names_the_wrappers(here, capsys):
    line = f"train reinforce --env {CARTPOLE} --steps 9 --hidden 3 --run run"
    assert (
        npgrad(capsys, f"{line} --wrap FlattenObservation --wrap NormalizeReward:gamma=0.9")[0] == 0
    )
    assert npgrad(capsys, "export run")[0] == 0
    text = Path("run/act.py").read_text()
    assert "in its wrappers: FlattenObservation, NormalizeReward.\n" in text


# versions


def test_version__needs_no_extra(capsys, monkeypatch):
    for name in ("tyro", "tqdm", "matplotlib", "tensorboardX", "moviepy"):
        monkeypatch.setitem(sys.modules, name, None)
    status, out, err = npgrad(capsys, "--version")
    assert (status, err) == (0, [])
    assert [line.split()[0] for line in out] == ["npgrad", "numpy", "gymnasium", "python"]
    assert f"numpy {np.__version__}" in out and f"gymnasium {gymnasium.__version__}" in out
    assert json.loads(npgrad(capsys, "--version --json")[1][-1])["numpy"] == np.__version__


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compare__draws_runs_that_have_no_seconds_in_common(here, capsys):
    pytest.importorskip("matplotlib")
    for seed in (0, 1):
        trained(run=f"r{seed}", seed=seed)
        header, *rows = folder._rows(Path(f"r{seed}"))
        rows = [[*row[:4], f"{1000 * seed + k / 1e3:.3f}", *row[5:]] for k, row in enumerate(rows)]
        lines = [",".join(row) + "\n" for row in (header, *rows)]
        Path(f"r{seed}/metrics.csv").write_text("".join(lines))
    status, _, err = npgrad(capsys, "compare r0 r1 --json --out all.svg")
    assert status == 0 and err == [] and Path("all.svg").exists()
