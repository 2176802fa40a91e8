"""benchmarks/checker: the functions' derivatives are right, the wrong ones wrong, and counted."""

import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.checker import cases, functions
from benchmarks.checker.functions import BOUNDED, FAMILIES, KINKS, PHI, SINGLE

SEEDS = st.integers(0, 2**32 - 1)
NUMBERS = st.integers(0, len(FAMILIES) - 1)
PAIRS = [*PHI.values(), *(row[:2] for row in (*KINKS.values(), *BOUNDED))]
PAIRS += [row[1:3] for row in SINGLE if row[0] == "cancellation"]
ANALYTIC = ["smooth", "frequency", "zeros", "aliases", "small beside large", "domain"]
ANALYTIC += ["the library's own"]
POINTS = st.floats(0.02, 0.1) | st.floats(-0.1, -0.02)


@pytest.mark.parametrize("phi, slope", PAIRS)
@settings(max_examples=10)
@given(t=POINTS)
def test_slope__is_that_of_differences_in_long_precision(phi, slope, t):
    """The error of the differences is h⁴ φ⁽⁵⁾/30, and rounding below that."""
    t, h = np.longdouble(t), abs(np.longdouble(t)) / 1000
    with np.errstate(all="ignore"):
        numbers = [phi(t + k * h) for k in (-2, -1, 1, 2)]
        assume(np.isfinite(numbers).all())
        difference = np.dot(numbers, [1, -8, 8, -1]) / (12 * h)
        np.testing.assert_allclose(float(slope(t)), float(difference), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("family", [family for kind in ANALYTIC for family in FAMILIES[kind]])
@settings(max_examples=10)
@given(seed=SEEDS)
def test_run__gives_the_derivative_of_a_complex_step(family, seed):
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        layers, x = family(rng)[:2]
        assume(cases.accurate(layers, x))
        steps = cases.complex_step(lambda x: functions.run(layers, x)[0], x)
        _, J = functions.run(layers, x, np.eye(x.size))
    np.testing.assert_allclose(steps, J, rtol=1e-7, atol=1e-100)


def test_accurate__refuses_what_double_precision_gets_wrong():
    layers = [functions.each(lambda t: t, lambda t: (1 + t) - t)]
    assert cases.accurate(layers, np.array([1.0, 2.0]))
    assert not cases.accurate(layers, np.array([1.0, 1e17]))


@given(SEEDS, NUMBERS)
def test_draw__gives_one_right_claim_and_wrong_ones_or_those_at_a_kink(seed, number):
    with np.errstate(all="ignore"):
        case, again = cases.draw(seed, number), cases.draw(seed, number)
        y = case.f(case.x[()])
        claims = [(question, claim(case.x)) for question, claim in case.claims]
    assert all(claim.shape == np.shape(y) + case.x.shape for _, claim in claims)
    assert np.array_equal(case.x, again.x)
    kinds = [question for question, _ in claims]
    assert kinds == ["kink"] * 3 or kinds in (["right", "1e-6"], ["right", "1e-6", "wrong"])
    for _, wrong in claims[1:] if kinds[0] == "right" else ():
        right = claims[0][1]
        assert not np.all(np.abs(wrong - right) <= 5e-7 * np.abs(right))


@given(SEEDS, st.sampled_from(cases.DISGUISES))
def test_disguise__has_the_same_values_and_another_complex_step(seed, disguise):
    rng, (wrapped, factor) = np.random.default_rng(seed), disguise
    x = rng.normal(size=3)
    np.testing.assert_allclose(wrapped(np.exp)(x), np.exp(x), rtol=1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        step = cases.complex_step(wrapped(np.exp), x)
    np.testing.assert_allclose(step, factor * np.diag(np.exp(x)), rtol=1e-9)


@pytest.fixture
def trial():
    pytest.importorskip("torch", reason="the checkers of others need pip install 'npgrad[bench]'")
    from benchmarks.checker import __main__

    with mock.patch.object(__main__, "PER_SEED", 4 * len(FAMILIES)):
        yield __main__


@pytest.mark.parametrize("name", ["npgrad", "torch"])
@pytest.mark.parametrize("answer", ["agrees", "wrong", "cannot be told"])
def test_trial__counts_what_is_false(trial, name, answer):
    with mock.patch.dict(trial.CHECKERS, {name: lambda f, claim, x: answer}):
        counts, false = trial.quiet_trial([name], 0)
    total = sum((counts[name, kind] for kind in FAMILIES), trial.Counter())
    kinks = counts[name, "at a kink"]["questions"]
    right = total["functions"] - 4
    assert right + 4 == trial.PER_SEED and kinks == 12
    found = [total[f"{question}, false"] for question in trial.QUESTIONS]
    far_off = total["questions"] - kinks - 2 * right
    assert (
        found
        == {
            "agrees": [0, right, far_off, kinks],
            "wrong": [right, 0, 0, kinks if name == "npgrad" else 0],
            "cannot be told": [0, 0, 0, 0],
        }[answer]
    )
    assert len(false) == (sum(found) if name == "npgrad" else 0)


@pytest.mark.parametrize("name", ["npgrad", "torch", "autograd"])
def test_checkers__tell_right_from_wrong_for_any_shapes(trial, name):
    ask = trial.CHECKERS[name]
    for f, g, x in (
        (np.sum, np.ones_like, np.array([1.0, 2.0])),
        (np.exp, lambda x: np.diag(np.exp(x)), np.array([0.5, 1.0])),
        (np.sin, np.cos, np.array(0.5)),
    ):
        assert ask(f, g, x) == "agrees"
        assert ask(f, lambda x, g=g: 2 * g(x), x) == "wrong"
