"""npgrad.testing: planted errors are found and shrunk, right gradients are not accused."""

import functools
import math
import runpy
import subprocess
import sys
import typing
from typing import Annotated

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npgrad import testing
from npgrad.check import CannotTell
from npgrad.networks import linear
from npgrad.testing import Arguments, Bool, Float, Int, Unusable, examine, gradient_of

pytest_plugins = ["pytester"]

# name: (f, its gradient). Each argument has a value at which every wrong gradient shows.


def log_prob(h: Float["N A"], a: Int["N"]):
    z = h - np.max(h, 1, keepdims=True)
    return z[np.arange(len(a)), a] - np.log(np.sum(np.exp(z), 1))


def score(h, a):
    e = np.exp(h - np.max(h, 1, keepdims=True))
    d = -e / e.sum(1, keepdims=True)
    d[np.arange(len(a)), a] = 0.0
    d[np.arange(len(a)), a] = -d.sum(1)
    return d


def td_loss(v: Float["T+1"], r: Float["T"], terminated: Bool["T"], gamma: float):
    return 0.5 * np.sum((r + gamma * ~terminated * v[1:] - v[:-1]) ** 2)


def td_gradient(v, r, terminated, gamma, mask=None):
    mask = ~terminated if mask is None else mask
    delta = r + gamma * ~terminated * v[1:] - v[:-1]
    return np.append(-delta, 0.0) + np.append(0.0, gamma * mask * delta)


def discounted(r: Float["T"], gamma: float):
    return np.sum(gamma ** np.arange(len(r)) * r)


def discounts(r, gamma):
    return gamma ** np.arange(len(r)), np.sum(np.arange(len(r))[1:] * gamma ** np.arange(len(r) - 1) * r[1:])


def energy(x: Float["N"], c: float):
    return c * np.sum(np.cos(x / 7))


def force(x, c):
    return -c * np.sin(x / 7) / 7


RIGHT = {"score": (log_prob, score), "td": (td_loss, td_gradient), "energy": (energy, force),
         "discounts": (discounted, discounts)}  # fmt: skip


def last(g, factor):
    g[..., -1] *= factor
    return g


# name: (f, wrong gradient, how many numbers the smallest failing input has at most)
WRONG = {
    "sign": (log_prob, lambda h, a: -score(h, a), 3),
    "factor": (energy, lambda x, c: 2 * force(x, c), 2),
    "missing c": (energy, lambda x, c: force(x, 1.0), 2),
    "missing gamma": (td_loss, lambda v, r, t, gamma: td_gradient(v, r, t, gamma, ~t / gamma), 5),
    "mean for sum": (log_prob, lambda h, a: score(h, a) / len(a), 6),
    "off by one": (discounted, lambda r, gamma: gamma * discounts(r, gamma)[0], 2),
    "where x is large": (energy, lambda x, c: force(x, c) * np.where(np.abs(x) > 300, 1.1, 1.0), 2),
    "at ties": (log_prob, lambda h, a: score(h, a) * (1 + (h == h.max(1, keepdims=True)).sum(1, keepdims=True) // 2), 3),
    "last entry": (energy, lambda x, c: last(force(x, c), 1 + 1e-5), 2),
    "second row": (log_prob, lambda h, a: np.concatenate([score(h, a)[:1], 2 * score(h, a)[1:]]), 6),
    "first step terminated": (td_loss, lambda v, r, t, gamma: td_gradient(v, r, t, gamma, ~t | (np.arange(len(t)) == 0)), 5),
    "another argument": (discounted, lambda r, gamma: (discounts(r, gamma)[0], discounts(r, gamma)[1] + 1e-3), 2),
    "shape": (energy, lambda x, c: force(x, c)[:, None], 2),
    "raises": (energy, lambda x, c: force(x, c)[3], 2),
    "nan": (energy, lambda x, c: force(x, c) / c, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_examine__finds_a_planted_error_and_shrinks_it(name):
    f, wrong, size = WRONG[name]
    trial = examine(f, wrong, examples=200, seed=0)
    assert trial.answer == "wrong" and str(trial).startswith("wrong: ")
    values = [np.asarray(x, float) for x in trial.inputs.values()]
    assert sum(x.size for x in values) <= size
    assert all(np.all(np.abs(x) <= (1000 if name == "where x is large" else 3)) for x in values)
    assert str(examine(f, wrong, examples=200, seed=0)) == str(trial)


@pytest.mark.parametrize("name", RIGHT)
def test_examine__does_not_accuse_the_right_gradient(name):
    trial = examine(*RIGHT[name], examples=40)
    assert trial.answer == "agrees" and trial.examples == 40 and trial.inputs is None
    assert not trial.discarded and trial.untold.total() < 20 and trial.precision <= 1e-7


def test_examine__judges_npgrads_own_derivative_by_default():
    trial = examine(td_loss, examples=20)
    assert trial.answer == "agrees" and "npgrad agrees" in trial.line and "by v, r, gamma" in trial.line
    assert examine(td_loss, examples=20, jacobian=lambda f, i: lambda *values: (0.0,) * 3).answer == "wrong"


def test_examine__gives_an_input_that_fails_when_pasted():
    trial = examine(log_prob, WRONG["mean for sum"][1], seed=1)
    pasted = {"np": np}
    exec(testing.paste(trial.inputs), pasted)
    h, a = pasted["h"], pasted["a"]
    assert testing.paste(trial.inputs) in str(trial)
    again = examine(log_prob, WRONG["mean for sum"][1], inputs={"h": h, "a": a})
    assert again.answer == "wrong" and np.array_equal(again.inputs["h"], h)


VALUES = (np.array([[1.5, -np.inf], [np.nan, 0.1 + 0.2]]), np.zeros((0, 3)), np.array([]),
          np.array([True]), np.arange(3), np.float32([0.1]), 0.1, 3, True, "text", np.float64(2.0))  # fmt: skip


@pytest.mark.parametrize("x", VALUES, ids=repr)
def test_paste__is_python_for_the_same_value(x):
    pasted = {"np": np}
    exec(testing.paste({"x": x}), pasted)
    np.testing.assert_array_equal(pasted["x"], x)
    assert np.asarray(pasted["x"]).dtype == np.asarray(x).dtype


# what is discarded, and what cannot be told


def positive(x: float):
    if x <= 0:
        raise ValueError("x <= 0")
    return x * x


def test_examine__discards_and_counts_inputs_at_which_f_raises():
    some = {"x": st.integers(-40, 400).map(lambda k: k / 8)}
    trial = examine(positive, lambda x: 2 * x, examples=30, inputs=some)
    assert trial.answer == "agrees" and trial.examples == 30
    assert list(trial.discarded) == ["positive raises ValueError: x <= 0"]
    assert f"discarded {trial.discarded.total()} inputs, because positive raises" in str(trial)
    trial = examine(positive, lambda x: 2 * x, inputs={"x": st.floats(-9, -1)})
    assert trial.answer == "cannot be told" and trial.examples == 0 < trial.discarded.total()


def kinked(x: float):
    return abs(x)


def test_examine__counts_inputs_that_give_no_answer():
    trial = examine(kinked, np.sign, inputs={"x": st.sampled_from((0.0, 1.0, 2.0))})
    assert trial.answer == "agrees" and trial.untold.total() == 1 and "kink" in str(trial)
    trial = examine(kinked, np.sign, inputs={"x": 0.0})
    assert trial.answer == "cannot be told" and trial.examples == trial.untold.total() == 1
    trial = examine(lambda x: np.heaviside(x, 1) * np.frombuffer(x), inputs={"x": st.floats(1, 2)})
    assert trial.answer == "cannot be told" and "TypeError" in str(trial)


def test_examine__says_that_a_gradient_is_random():
    calls = iter(range(1000))
    trial = examine(energy, lambda x, c: force(x, c) + (next(calls) < 2), seed=0)
    assert trial.answer == "cannot be told" and "other numbers at the same input" in str(trial)


def test_examine__gives_copies_and_says_what_changes_them():
    def doubled(x: Float["N"]):
        x *= 2
        return np.sum(x * x)

    trial = examine(doubled, lambda x: 8 * x, examples=10)
    assert trial.answer == "agrees"
    assert list(trial.notes) == ["doubled changes x in place; it was given copies"]


def square(x: Float["N"]):
    return x * x


def test_examine__takes_a_gradient_of_the_sum_of_the_outputs():
    assert examine(square, lambda x: np.diag(2 * x), examples=20).answer == "agrees"
    trial = examine(square, lambda x: 2 * x, examples=20)
    assert trial.answer == "agrees" and "the sum of square" in trial.line
    assert examine(square, lambda x: 2 * x / len(x), examples=50).answer == "wrong"
    trial = examine(square, lambda x: 2 * x[:, None], examples=20)
    assert "gives shape (1, 1) for x" not in trial.line or trial.answer == "wrong"


@pytest.mark.parametrize("argnums", [1, -2, "terminated", (0, "gamma"), "nothing", 4, (0, 0.5)])
def test_examine__differentiates_the_arguments_that_are_chosen(argnums):
    whole = lambda v, r, t, gamma: (td_gradient(v, r, t, gamma), np.sum((r + gamma * ~t * v[1:] - v[:-1]) * ~t * v[1:]))  # fmt: skip
    if argnums in ((0, "gamma"),):
        assert examine(td_loss, whole, argnums=argnums, examples=20).answer == "agrees"
    elif argnums == 1:
        delta = lambda v, r, t, gamma: r + gamma * ~t * v[1:] - v[:-1]
        assert examine(td_loss, delta, argnums=argnums, examples=20).answer == "agrees"
    else:
        with pytest.raises(Unusable, match="argnums = |differentiated by floats"):
            examine(td_loss, whole, argnums=argnums, examples=20)
