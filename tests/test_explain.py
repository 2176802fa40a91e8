"""Explained functions: the printed program runs, and is the function and its gradient."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import programs

from algorithms.runner.cli import main
from npgrad import explain, grad, mlp, value_and_grad

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=max(2, settings().max_examples // 3))
EPS = np.finfo(float).eps


def run_text(text, *arrays):
    """The result of the printed program, run as it is."""
    scope = {}
    exec(text, scope)
    (name,) = re.findall(r"^def (\w+)", text, re.M)
    return scope[name](*arrays)


def bits(x):
    if isinstance(x, tuple):
        return [bits(y) for y in x]
    return type(x), np.shape(x), np.result_type(x), np.asarray(x).tobytes()


def agree(f, *args, argnums=0):
    """Assert that the printed program is the tape, bit for bit; return its text."""
    text = explain(f, *args, argnums=argnums)
    arrays = [x for x in args if isinstance(x, (np.ndarray, np.generic))]
    both = f if argnums is None else value_and_grad(f, argnums)
    assert bits(run_text(text, *arrays)) == bits(both(*args))
    return text


@FEW
@given(programs(), SEEDS)
def test_explain__prints_the_tape_bit_for_bit(program, seed):
    F, x = program
    w = np.random.default_rng(seed).normal(size=len(F(x)))
    f = lambda x: np.sum(w * np.cos(F(x)))
    agree(f, x)
    agree(F, x, argnums=None)
    agree(lambda x: x @ grad(f)(x), x)


def loss(theta, x, a, G):
    W, b = theta[:6].reshape(2, 3), theta[6:]
    h = np.tanh(x @ W + b)
    z = h - np.max(h, 1, keepdims=True)
    log_pi = z - np.log(np.sum(np.exp(z), 1, keepdims=True))
    chosen = log_pi[np.arange(len(a)), a]
    return -np.mean(G * chosen)


def inputs(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=9), rng.normal(size=(4, 2)), rng.integers(0, 3, 4), rng.normal(size=4)


@FEW
@given(SEEDS)
def test_explain__gradient_is_the_complex_step_of_the_printed_value(seed):
    theta, *data = inputs(seed)
    smooth = lambda theta, x, a, G: loss(theta, x, a, G) + np.sum(np.exp(theta) * G[0])
    forward = agree(smooth, theta, *data, argnums=None).replace(
        "np.max(h, axis=1", "np.max(h.real, axis=1"
    )
    _, gradient = run_text(agree(smooth, theta, *data), theta, *data)
    steps = [run_text(forward, theta + 1e-200j * e, *data).imag / 1e-200 for e in np.eye(9)]
    scale = np.abs(data[2]).max() * 64 * EPS + 64 * EPS * np.abs(gradient).max()
    np.testing.assert_allclose(gradient, steps, rtol=0, atol=scale)


def test_explain__names_the_users_variables_rules_and_shapes():
    text = agree(loss, *inputs(0))
    for line in (
        "def loss_and_gradient(theta, x, a, G):",
        "    # forward",
        "    h = np.tanh(t3)  # (4, 3), line ",
        "    # backward",
        "tanh_gradient(d_h, h, t3)  # (4, 3), np.tanh: g (1 - y²) = g / cosh² x",
        "d_W = np.dot(t",
        "# (2, 3), np.matmul: aᵀ g",
        "np.log: g / x",
        "np.exp: g * y",
        "add_at(d_theta, np.s_[:6], ",
        "from npgrad.rules import add_at, broadcast_to, masked, scatter, tanh_gradient",
        "    return value, d_theta",
    ):
        assert line in text, line
    first = loss.__code__.co_firstlineno
    assert f"line {first + 1}\n" in text and f"line {first + 6}\n" in text
    assert not re.search(r" _\w+\(", text)


def test_explain__of_a_network_and_of_several_arguments():
    model, rng = mlp((3, 4, 2), "relu"), np.random.default_rng(0)
    theta, x = model.init(rng), rng.normal(size=(5, 3))
    text = agree(lambda theta, x: np.sum(model(theta, x) ** 2), theta, x, argnums=(0, 1))
    assert "return value, (d_theta, d_x)" in text and "np.maximum: " in text


@pytest.mark.parametrize("f", [
    lambda x: np.sum(np.arctan(x) * np.logaddexp(x, 0.5)),
    lambda x: np.linalg.norm(x) + np.hypot(x[0], x[1]),
    lambda x: np.sum(np.maximum(x, np.array([0.0, np.inf, -0.0]))),
    lambda x: np.linalg.slogdet(np.diag(x) + 2.0)[1],
    lambda x: np.prod(x[::-1]) + np.var(x) + np.quantile(x, 0.3),
    lambda x: np.sum(np.einsum("i,j->ij", x, x) ** 3) / np.float32(3.0),
    lambda x: np.sum(x.astype(np.float32) * np.ones(3, np.float32)),
    lambda x: np.sum(np.where(x > 0, x, np.full(3, -1.0)) * np.asfortranarray(np.eye(3))),
    lambda x: sum(np.sum(p) * k for k, p in enumerate(np.split(x, 3))),
    lambda x: 3.0,
])  # fmt: skip
def test_explain__of_every_kind_of_line(f):
    agree(f, np.array([0.3, -1.25, 2.0]))


def test_explain__of_numbers():
    text = explain(lambda x, n: x**3 / n, 2.0, 4)
    assert bits(run_text(text, np.float64(2.0))) == bits(
        value_and_grad(lambda x, n: x**3 / n)(2.0, 4)
    )


def test_explain__refuses_what_compiled_refuses():
    with pytest.raises(TypeError, match=r"test_explain.py:\d+: a branch on a value"):
        explain(lambda x: x if x > 0 else -x, np.float64(1.0))


# The command

CODE = """
import numpy as np
from npgrad.testing import Float, Int

def loss(h: Float["N A"], a: Int["N"], beta: float):
    log_pi = h - np.log(np.sum(np.exp(h), 1, keepdims=True))
    return np.sum(log_pi[np.arange(len(a)), a]) + beta * np.sum(h)

def branch(x: float): return x if x > 0 else -x
def unknown(x): return x
def count(n: int): return n
def fails(x: float): raise ValueError("never")
def vector(x: Float["N"]): return 2 * x
"""


@pytest.fixture
def run(tmp_path, capfd, monkeypatch):
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)

    def run(line):
        status = main(["explain", *line.split()])
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.mark.parametrize("flags, returned", [
    ("", "return value"), ("--grad", "return value, (d_h, d_beta)"),
    ("--grad h", "return value, d_h"), ("--grad beta h --seed 3", "return value, (d_beta, d_h)"),
])  # fmt: skip
def test_command__prints_a_program_that_runs(run, flags, returned):
    status, out, err = run(f"mine.py:loss {flags}")
    assert (status, err, out.split("\n")[-2].strip()) == (0, "", returned)
    status, printed, _ = run(f"mine.py:loss {flags} --json")
    result, scope = json.loads(printed), {"np": np}
    assert out.strip() == result["program"].strip()
    exec(result["input"], scope)
    arguments = [np.float64(v) if type(v) is float else v
                 for v in (scope[name] for name in ("h", "a", "beta"))]  # fmt: skip
    exec(CODE, scope)
    by = {"": None, "--grad": (0, 2), "--grad h": 0}.get(flags, (2, 0))
    f = scope["loss"] if by is None else value_and_grad(scope["loss"], by)
    with np.errstate(all="ignore"):
        assert bits(run_text(out, *arguments)) == bits(f(*arguments))


@pytest.mark.parametrize("line, status, message", [
    ("mine.py:branch", 1, "TypeError: mine.py:9: a branch on a value"),
    ("mine.py:unknown", 2, "argument x: cannot be drawn"),
    ("mine.py:count --grad", 2, "--grad: f has no argument of floats"),
    ("mine.py:fails", 2, "fails raises at every input: ValueError: never"),
    ("mine.py:vector --grad", 1, "TypeError: grad needs a scalar function"),
    ("mine.py:loss --grad z", 2, "argnums = ['z']: must be among"),
    ("mine.py:los", 2, "mine.py has no los; did you mean loss?"),
    ("mine.py", 2, "FILE:f = mine.py: must be like"),
    ("mine.py:loss --seed -1", 2, "--seed = -1: must be at least 0"),
])  # fmt: skip
def test_command__bad_input_is_one_line(run, line, status, message):
    given, out, err = run(line)
    assert (given, out) == (status, "") and err.startswith(f"npgrad: {message}")
    assert err.count("\n") == 1
