"""The pages as a library: the examples run, a State is saved and loaded, the package is ours."""

import ast
import inspect
import os
import subprocess
import sys
import warnings
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import algorithms
import algorithms.exact.register
from algorithms import load, reinforce, save
from algorithms.common.policy import Network
from algorithms.ddpg import Networks
from algorithms.runner import checkpoint
from algorithms.runner.lookup import METHODS, load_method

ROOT = Path(__file__).parent.parent


SMALL = {
    "ddpg": ("Pendulum-v1", dict(networks=Networks((4, 3)), replay=300, warmup=20, batch=8)),
    "theorem": ("npgrad/Chain-v0", {}),
    "td-lambda": ("npgrad/RandomWalk19-v0", {}),
}
ELSE = "CartPole-v1", dict(network=Network(hidden=(3,)))
# whose observations lie column by column
SMALL["a2c"] = "CartPole-v1", ELSE[1] | dict(vectorization="vector_entry_point")


def made(name, seed):
    """(method, env, config, State) of a small case."""
    method, (env, options) = load_method(name, METHODS), SMALL.get(name, ELSE)
    env, config = gymnasium.make(env), method.Config(**options)
    return method, env, config, method.init(env, config, seed)


@pytest.mark.parametrize("name", METHODS)
def test_pages__have_the_names_that_the_package_promises(name):
    method, _, _, state = made(name, 0)
    page = sys.modules[method.init.__module__]
    assert type(state) is page.State
    for function, arguments in {
        "init": ["env", "config", "seed"],
        "train": ["env", "config", "state"],
        "actor": ["env", "config"],
    }.items():
        found = list(inspect.signature(getattr(page, function)).parameters)
        assert found[: len(arguments)] == arguments
    assert all(isinstance(vars(state)[name], np.ndarray) for name in state.parameters)


def bits(state):
    arrays, scalars = checkpoint.copy_state(state)
    return {name: (a.shape, a.dtype, a.tobytes()) for name, a in arrays.items()}, repr(scalars)


@settings(max_examples=30)
@given(st.sampled_from(list(METHODS)), st.integers(0, 99), st.integers(0, 4))
@example("a2c", 0, 1)
def test_load__inverts_save_to_the_bit(name, seed, yields):
    method, env, config, state = made(name, seed)
    for _ in islice(method.train(env, config, state), yields):
        pass
    before = bits(state)
    with TemporaryDirectory() as folder:
        save(state, Path(folder, "any name"))
        other = method.init(env, config, seed + 1)
        assert load(f"{folder}/any name", other) is other
    assert bits(other) == before == bits(state)
    act = method.actor(env, config)
    observation = env.observation_space.sample()
    ours, theirs = (
        act(vars(s), observation, np.random.default_rng(0), True) for s in (state, other)
    )
    assert np.array_equal(ours, theirs)


@settings(max_examples=8)
@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9))
def test_load__goes_on_as_if_nothing_had_been(seed, before, after):
    method, env, config, whole = made("reinforce", seed)
    for _ in islice(method.train(env, config, whole), before + after):
        pass
    _, env, _, part = made("reinforce", seed)
    for _ in islice(method.train(env, config, part), before):
        pass
    with TemporaryDirectory() as folder:
        save(part, Path(folder, "x"))
        _, env, _, other = made("reinforce", seed + 1)
        load(Path(folder, "x"), other)
    for _ in islice(method.train(env, config, other), after):
        pass
    assert bits(other) == bits(whole)


def test_load__refuses_in_one_line(tmp_path):
    _, env, _, state = made("reinforce", 0)
    save(state, tmp_path / "state")
    (tmp_path / "other").write_text("text")
    np.savez(tmp_path / "foreign.npz", theta=state.theta, w=state.w)
    wide = reinforce.Config(network=Network(hidden=(5,)))
    for file, config in (("none", wide), ("other", wide), ("foreign.npz", wide), ("state", wide)):
        with pytest.raises(ValueError, match=file) as error:
            load(tmp_path / file, reinforce.init(env, config, 0))
        assert "\n" not in str(error.value)
    with pytest.raises(OSError, match="nowhere"):
        save(state, tmp_path / "nowhere" / "state")
    state.steps = "ten"
    with pytest.raises(TypeError, match=r"State\.steps: str"):
        save(state, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


# the package's name


def python(code, *paths, **options):
    """A process that runs `code` with these folders first on its path."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONWARNINGS": ""}
    command = [sys.executable, *options.pop("flags", ()), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=env, **options)


def distribution(folder, name, packages):
    """Leave behind what pip leaves of an installed distribution."""
    (folder / f"{name}.dist-info").mkdir(parents=True)
    (folder / f"{name}.dist-info" / "top_level.txt").write_text(packages)


def test_import__is_fast_and_silent():
    code = "import algorithms, sys; print([m for m in ('numpy', 'gymnasium') if m in sys.modules])"
    done = python(code, ROOT, flags=["-W", "error"])
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_import__tells_of_another_package_of_its_name(tmp_path, monkeypatch):
    distribution(tmp_path, "others-1.0", "something\nalgorithms\n")
    distribution(tmp_path, "npgrad-9.0", "algorithms\nnpgrad\n")
    distribution(tmp_path, "apart-2.0", "my_algorithms\n")
    (tmp_path / "odd.dist-info" / "top_level.txt").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "none")])
    assert algorithms._rivals() == ["others-1.0"]
    with pytest.warns(UserWarning, match="^others-1.0: has a package `algorithms`, as npgrad has"):
        algorithms._warn()
    monkeypatch.setattr(sys, "path", [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        algorithms._warn()


OTHERS = {
    "found first": ("algorithms/__init__.py", ""),
    "broken": ("algorithms/__init__.py", "raise RuntimeError('line 1\\nline 2')"),
    "a module": ("algorithms.py", ""),
    "ended": ("algorithms/__init__.py", "import sys; sys.exit()"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_command__says_in_one_line_that_another_package_is_found(tmp_path, other):
    file, text = OTHERS[other]
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    code = "import sys, npgrad_command; sys.exit(npgrad_command.main())"
    done = python(code, tmp_path, ROOT, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(
        "npgrad: `algorithms` is not npgrad's, but another distribution's"
    )


def test_command__goes_on_where_the_other_package_is_not_found_first(tmp_path):
    distribution(tmp_path, "others-1.0", "algorithms\n")
    code = "import sys, npgrad_command; sys.argv[1:] = ['--help']; sys.exit(npgrad_command.main())"
    done = python(code, ROOT, tmp_path, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("usage: npgrad")
    assert done.stderr.count("\n") == 1 and "warning: others-1.0: has a package" in done.stderr


def test_command__is_the_one_that_pyproject_names():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'npgrad = "npgrad_command:main"' in text and '"npgrad_command"' in text
    tree = ast.parse((ROOT / "npgrad_command.py").read_text("utf-8"))
    assert "main" in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
