"""npgrad.testing: planted errors are found and shrunk, right gradients are not accused."""

import functools
import re
import runpy
import subprocess
import sys
from collections import Counter
from typing import Annotated, Any, TypeVar

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typing_extensions import TypeAliasType

from npgrad import testing
from npgrad.check import CannotTell
from npgrad.networks import linear
from npgrad.testing import Arguments, Bool, Float, Int, Unusable, examine, gradient_of

pytest_plugins = ["pytester"]


def log_prob(h: Float["N A"], a: Int["N"]):
    z = h - np.max(h, 1, keepdims=True)
    return z[np.arange(len(a)), a] - np.log(np.sum(np.exp(z), 1))


def score(h, a):
    e = np.exp(h - np.max(h, 1, keepdims=True))
    return np.eye(h.shape[1])[a] - e / e.sum(1, keepdims=True)


def td_loss(v: Float["T+1"], r: Float["T"], terminated: Bool["T"], gamma: float):
    return 0.5 * np.sum((r + gamma * ~terminated * v[1:] - v[:-1]) ** 2)


def td_gradient(v, r, terminated, gamma, mask=None):
    mask = ~terminated if mask is None else mask
    delta = r + gamma * ~terminated * v[1:] - v[:-1]
    return np.append(-delta, 0.0) + np.append(0.0, gamma * mask * delta)


def discounted(r: Float["T"], gamma: float):
    return np.sum(gamma ** np.arange(len(r)) * r)


def discounts(r, gamma):
    return gamma ** np.arange(len(r)), np.sum(
        np.arange(len(r))[1:] * gamma ** np.arange(len(r) - 1) * r[1:]
    )


def energy(x: Float["N"], c: float):
    return c * np.sum(np.cos(x / 7))


def force(x, c):
    return -c * np.sin(x / 7) / 7


RIGHT = {"score": (log_prob, score), "td": (td_loss, td_gradient), "energy": (energy, force),
         "discounts": (discounted, discounts)}  # fmt: skip


def last(g, factor):
    g[..., -1] *= factor
    return g


def tied(h):
    return (np.sum(h == h.max(1, keepdims=True), 1) > 1)[:, None]


# name: (f, wrong gradient, how many numbers the smallest failing input has at most)
WRONG = {
    "sign": (log_prob, lambda h, a: -score(h, a), 3),
    "factor": (energy, lambda x, c: 2 * force(x, c), 2),
    "missing c": (energy, lambda x, c: force(x, 1.0), 2),
    "missing gamma": (td_loss, lambda v, r, t, gamma: td_gradient(v, r, t, gamma, ~t / gamma), 5),
    "mean for sum": (log_prob, lambda h, a: score(h, a) / len(a), 6),
    "off by one": (discounted, lambda r, gamma: gamma * discounts(r, gamma)[0], 2),
    "where x is large": (energy, lambda x, c: force(x, c) * np.where(np.abs(x) > 300, 1.1, 1.0), 2),
    "at ties": (log_prob, lambda h, a: score(h, a) * (1 + tied(h)), 3),
    "last entry": (energy, lambda x, c: last(force(x, c), 1 + 1e-5), 2),
    "second row": (log_prob, lambda h, a: score(h, a) * (1 + (np.arange(len(h)) == 1))[:, None], 6),
    "first step terminated": (
        td_loss,
        lambda v, r, t, gamma: td_gradient(v, r, t, gamma, ~t | (np.arange(len(t)) == 0)),
        5,
    ),
    "another argument": (discounted, lambda r, gamma: (discounts(r, gamma)[0], 1e-3), 2),
    "shape": (energy, lambda x, c: force(x, c)[:, None], 2),
    "raises": (energy, lambda x, c: force(x, c)[3], 2),
    "nan": (energy, lambda x, c: force(x, c) / c, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_examine__finds_a_planted_error_and_shrinks_it(name):
    f, wrong, size = WRONG[name]
    trial = examine(f, wrong, examples=200, seed=1)
    assert trial.answer == "wrong" and str(trial).startswith("wrong: ")
    values = [np.asarray(x, float) for x in trial.inputs.values()]
    assert sum(x.size for x in values) <= size
    assert all(np.all(np.abs(x) <= (1000 if name == "where x is large" else 1)) for x in values)


@pytest.mark.parametrize("name", RIGHT)
def test_examine__does_not_accuse_the_right_gradient(name):
    trial = examine(*RIGHT[name], examples=40)
    assert trial.answer == "agrees" and trial.examples == 40 and trial.inputs is None
    assert not trial.discarded and trial.untold.total() < 20 and trial.precision <= 1e-7


def test_examine__same_seed_same_trial():
    f, wrong, _ = WRONG["second row"]
    assert str(examine(f, wrong, seed=3)) == str(examine(f, wrong, seed=3))


def test_examine__judges_npgrads_own_derivative_by_default():
    trial = examine(td_loss, examples=20)
    assert (
        trial.answer == "agrees"
        and "npgrad agrees" in trial.line
        and "by v, r, gamma" in trial.line
    )
    assert (
        examine(td_loss, examples=20, jacobian=lambda f, i: lambda *values: (0.0,) * 3).answer
        == "wrong"
    )


def test_examine__gives_an_input_that_fails_when_pasted():
    trial = examine(log_prob, WRONG["mean for sum"][1], seed=1)
    pasted = {"np": np}
    exec(testing.paste(trial.inputs), pasted)
    h, a = pasted["h"], pasted["a"]
    assert testing.paste(trial.inputs) in str(trial)
    again = examine(log_prob, WRONG["mean for sum"][1], inputs={"h": h, "a": a})
    assert again.answer == "wrong" and np.array_equal(again.inputs["h"], h)


VALUES = (
    np.array([[1.5, -np.inf], [np.nan, 0.1 + 0.2]]),
    *(np.zeros((0, 3)), np.array([]), np.array([True]), np.arange(3), np.float32([0.1])),
    *(0.1, 3, True, "inf", np.float64(2.0), np.inf),
)


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
    above = st.integers(0, 1000).map(lambda k: k - 500.0)
    trial = examine(positive, lambda x: x, inputs={"x": above}, seed=0)
    assert trial.inputs == {"x": 1.0} and trial.discarded.total() < 10  # not while shrinking
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
    calls = Counter()

    def changing(x, c):  # right from the third call at an input
        calls[x.tobytes(), c] += 1
        return force(x, c) + (calls[x.tobytes(), c] < 3)

    trial = examine(energy, changing, seed=0)
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


def td_both(v, r, terminated, gamma):
    delta = r + gamma * ~terminated * v[1:] - v[:-1]
    return td_gradient(v, r, terminated, gamma), np.sum(delta * ~terminated * v[1:])


@pytest.mark.parametrize("argnums", [(0, 3), ("v", "gamma"), (-4, "gamma")])
def test_examine__differentiates_the_arguments_that_are_chosen(argnums):
    assert examine(td_loss, td_both, argnums=argnums, examples=20).answer == "agrees"
    by_gamma = lambda v, r, terminated, gamma: td_both(v, r, terminated, gamma)[1]
    trial = examine(td_loss, by_gamma, argnums=argnums[1], examples=20)
    assert trial.answer == "agrees"
    assert examine(td_loss, td_both, argnums=argnums[::-1], examples=20).answer == "wrong"


@pytest.mark.parametrize("argnums", ["w", 4, -5, 0.5, "terminated"])
def test_examine__refuses_other_arguments(argnums):
    with pytest.raises(Unusable, match=r"argnums = |must be differentiated by floats"):
        examine(td_loss, td_gradient, argnums=argnums)


# arguments


def drawn(f, count=40, **inputs):
    """What f is given, as dictionaries."""
    arguments, seen = Arguments([f], inputs), []

    @settings(max_examples=count, deadline=None, database=None)
    @given(testing._values(arguments.sources, 4))
    def keep(values):
        seen.append(dict(zip(arguments.names, values)))

    keep()
    return seen


class Foreign:
    """An annotation of jaxtyping, as far as it is read."""

    dtypes, dim_str = ("float16", "float32", "float64"), "N"


def test_arguments__have_one_size_for_a_name():
    def f(
        h: Float["N A"],
        a: Int["N < A"],
        v: "Float['N+1']",
        w: Foreign,
        m: Bool["*b A"],
        g: Float["*b 3"],
    ): ...

    for x in drawn(f, 20):
        N, A = x["h"].shape
        assert x["a"].shape == x["w"].shape == (N,) and x["v"].shape == (N + 1,)
        assert np.all((x["a"] >= 0) & (x["a"] < A)) and x["m"].dtype == bool
        assert x["m"].shape == (*x["g"].shape[:-1], A) and x["g"].shape[-1] == 3
        assert x["h"].dtype == x["w"].dtype == np.float64
    shapes = [x["h"].shape for x in drawn(f, 60)]
    for sizes in zip(*shapes):
        assert {1, 4} <= set(sizes) <= {1, 2, 3, 4}


def test_arguments__come_from_annotations_values_and_defaults():
    def f(x: float, n: int, b: bool, y: NDArray[np.float64], k: NDArray[np.int64], z: np.ndarray,
          s: Annotated[float, st.floats(5, 6)], t: Annotated[np.ndarray, Float["2"]], u, kept=3.5,
          *, only: Int[""], also=0): ...  # fmt: skip

    names = ["x", "n", "b", "y", "k", "z", "s", "t", "u", "only"]
    for x in drawn(f, u=st.just("drawn")):
        assert list(x) == names and x["u"] == "drawn"
        assert [type(x[name]) for name in ("n", "b", "only")] == [int, bool, int]
        assert isinstance(x["x"], float) and x["y"].dtype == x["z"].dtype == float
        assert np.asarray(x["k"]).dtype == int and 5 <= x["s"] <= 6 and x["t"].shape == (2,)
    assert drawn(f, u=1, also=7)[0]["also"] == 7


K = TypeVar("K", bound=np.generic)
ROW = TypeAliasType("ROW", np.ndarray[Any, np.dtype[K]], type_params=(K,))  # type ROW[K] = ...
REAL = TypeAliasType("REAL", Annotated[float, st.floats(5, 6)])


def test_arguments__come_from_what_an_alias_of_types_stands_for():
    def f(x: ROW[np.float64], k: ROW[np.int64], c: REAL): ...

    for x in drawn(f):
        assert np.asarray(x["x"]).dtype == float and np.asarray(x["k"]).dtype == int
        assert 5 <= x["c"] <= 6


def test_arguments__are_those_of_the_modules_inputs():
    made = {}
    exec("def f(x, y): return x * y", made)
    for inputs in ({"x": st.just(2.0), "y": 3.0, "other": 1}, lambda: {"x": 2.0, "y": 3.0}):
        made["inputs"] = inputs
        assert drawn(made["f"])[0] == {"x": 2.0, "y": 3.0}
    assert drawn(made["f"], y=4.0)[0] == {"x": 2.0, "y": 4.0}


def product(x: Float["N"], y: float = 2.0, *, z: float):
    return np.sum(x) * y * z


def test_arguments__reach_every_function_in_its_own_way():
    """By position or by name; under other names; from defaults."""
    by_position = lambda a, b, c: np.full(a.shape, b * c)
    assert examine(product, by_position, examples=20).answer == "agrees"
    assert examine(product, by_position, examples=20, inputs={"y": 3.0}).answer == "agrees"
    assert examine(functools.partial(product), by_position, examples=20).answer == "agrees"
    for f in (product, lambda x, z: product(x, z=z)):
        g = lambda x, y=2.0, *, z: np.full(x.shape, y * z)
        g = g if f is product else lambda x, z: np.full(x.shape, 2.0 * z)
        assert (
            examine(f, g, inputs={"x": testing.reals(3), "z": 1.5}, examples=20).answer == "agrees"
        )


def between(x: float, kept=3.0, y: float = 1.0):
    return kept * x * y


def test_arguments__after_one_that_keeps_its_default():
    assert examine(between, lambda x, c=3.0, d=1.0: c * d, examples=20).answer == "agrees"


UNUSABLE = {
    "def f(x): return x": "argument x: cannot be drawn; annotate it, as in x: float",
    "def f(d: dict, x: float): return x": "argument d: cannot be drawn",
    "def f(x: complex): return x": "argument x: cannot be drawn",
    "def f(x: Absent['N']): return x": "argument x: cannot be drawn",
    "def f(self, x: float): return x": "argument self: a method needs its object",
    "def f(*args, **more): return 1.0": "f: no argument has a name",
    "def f(x: Float['N 5.5']): return 1.0": "'5.5' is no size",
    "def f(n: int): return 1.0": "must be differentiated by floats",
    "def f(x: float): return None": "f gives NoneType: must be a float",
    "def f(x: float): return 'text'": "f gives str",
    "def f(x: float): return 1j * x": "f gives complex",
    "def f(x: float): return x * 1j": "f gives complex128",
    "def f(x: float): return [[x]]": "f gives list",
    "def f(x: float): return x > 0": "f gives bool",
    "def f(x: float): return np.array([x, None])": "f gives an array of object",
    "def f(x: float): yield x": "f gives generator",
    "async def f(x: float): return x": "f gives coroutine",
}


@pytest.mark.parametrize("text", UNUSABLE)
def test_examine__refuses_what_cannot_be_tested(text):
    made = {"np": np}
    exec("from __future__ import annotations\n" + text, made)
    with pytest.raises(Unusable, match=re.escape(UNUSABLE[text])):
        examine(made["f"])


def test_examine__refuses_functions_of_other_arguments():
    with pytest.raises(Unusable, match="<lambda> and energy: must take the same arguments"):
        examine(energy, lambda x, c, more: x)
    with pytest.raises(Unusable, match="d: must be an argument of force and energy: x, c"):
        examine(energy, force, inputs={"d": 1.0})


# @gradient_of, pytest


def test_gradient_of__leaves_the_function_as_it_is():
    decorated = gradient_of(energy, rtol=1e-6, c=st.floats(1, 2))(force)
    assert decorated is force and decorated.gradient_of is energy
    assert decorated.check(examples=20).answer == "agrees"
    twice = gradient_of(energy)(lambda x, c: 2 * force(x, c))
    with pytest.raises(AssertionError, match=r"wrong: energy, .*\n.*\nx = np.array"):
        twice.check(seed=0)
    untold = gradient_of(kinked, x=0.0)(lambda x: 0.0)
    with pytest.raises(CannotTell, match=r"(?s)cannot be told: .* kink"):
        untold.check()


TESTED = """
import numpy as np
import pytest
from npgrad.testing import Float, gradient_of

@gradient_of(np.sin)
def cosine(x: float):
    return np.cos(x)

@gradient_of(np.sin)
def test_wrong(x: float):
    return -np.cos(x)

@pytest.mark.skip
@gradient_of(lambda x: np.sum(x**2))
def left_out(x: Float["N"]):
    return x
"""


def test_plugin__collects_gradients_as_tests(pytester):
    pytester.makepyfile(TESTED)
    options = "-p", "npgrad_pytest", "-p", "no:cacheprovider", "-p", "no:xdist"
    result = pytester.runpytest_inprocess(*options, "-rA")
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    lines = result.stdout.str()
    assert "::cosine[gradient of sin]" in lines
    known = f"cosine agrees with the derivative of sin by x at {settings().max_examples} inputs"
    assert known in lines
    assert re.search(r"SKIPPED \[1\] test_plugin\S*\.py:\d+: ", lines)
    assert "AssertionError: wrong: sin" in lines and "x = 0.0" in lines


def test_plugin__does_not_import_numpy():
    code = "import sys, npgrad_pytest; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_testing__says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ModuleNotFoundError, match=r"^hypothesis is not installed: pip install"):
        runpy.run_path(testing.__file__)


# strategies


def reaches(strategy, *laws, count=300):
    """Assert that each law holds for something that is drawn, always the same."""
    found = set()

    @settings(max_examples=count, derandomize=True, database=None, phases=[Phase.generate])
    @given(strategy)
    def look(x):
        found.update(k for k, law in enumerate(laws) if law(x))

    look()
    assert found == set(range(len(laws)))


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_segments__end_in_every_place(flag):
    marks = lambda x: getattr(x, flag)
    reaches(
        testing.segments(features=1, steps=3, environments=2),
        lambda x: len(x.R) > 1 and marks(x)[0].any() and not marks(x)[1:].any(),
        lambda x: len(x.R) > 1 and marks(x)[-1].any() and not marks(x)[:-1].any(),
        lambda x: len(x.R) > 1 and marks(x).all(),
        lambda x: len(x.R) > 1 and not marks(x).any(),
        lambda x: (x.terminated & x.truncated).any(),
        count=100,
    )


@given(testing.segments(features=3, actions=2, steps=4, environments=2))
def test_segments__continue_where_nothing_ended(x):
    T, N = x.R.shape
    assert x.S.shape == x.S2.shape == (T, N, 3) and T <= 4 and N <= 2
    assert x.A.shape == x.terminated.shape == x.truncated.shape == (T, N) and x.A.max() < 2
    goes_on = ~(x.terminated | x.truncated)[:-1]
    assert np.array_equal(x.S[1:][goes_on], x.S2[:-1][goes_on])
    assert 0 <= x.gamma <= 1 and 0 <= x.lam <= 1


@given(testing.episodes())
def test_episodes__end_at_most_in_the_last_step(x):
    assert not (x.terminated | x.truncated)[:-1].any() and x.S.ndim == 2
    assert np.array_equal(x.S[1:], x.S2[:-1])


def test_episodes__end_in_every_way():
    ends = lambda x: (x.terminated[-1], x.truncated[-1])
    ways = [(False, False), (False, True), (True, False), (True, True)]
    reaches(testing.episodes(), *[lambda x, way=way: ends(x) == way for way in ways], count=100)


@given(testing.preferences((3, 4), absent=True))
def test_preferences__keep_an_action_in_every_row(h):
    assert h.shape == (3, 4) and np.isfinite(h).any(1).all() and not np.isnan(h).any()
    assert np.all(h < np.inf)


def test_preferences__are_tied_huge_and_absent():
    reaches(
        testing.preferences((1, 3), absent=True),
        lambda h: np.all(h == h[0, 0]) and h[0, 0] != 0,
        lambda h: h.max() >= 1000 and h.min() < 1000,
        lambda h: np.isinf(h).sum() == 2,
        lambda h: np.isfinite(h).all(),
        count=200,
    )


def test_batches__have_one_row_equal_rows_zeros_and_extremes():
    reaches(
        testing.batches((1, 2), rows=3),
        lambda x: x.shape == (1, 1, 2),
        lambda x: len(x) == 3 and len(np.unique(x, axis=0)) == 2,
        lambda x: np.any((x == 0).all((1, 2))) and np.any(x),
        lambda x: np.abs(x).max() >= 1000,
        count=150,
    )


@given(st.data())
def test_thetas__fit_their_layout(data):
    layout = data.draw(testing.layouts())
    assert set(layout.views(data.draw(testing.thetas(layout)))._fields) == set(layout.shapes)
    assert data.draw(testing.thetas(linear(3, 2))).shape == (linear(3, 2).layout.size,)
