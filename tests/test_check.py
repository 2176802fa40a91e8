"""The checker itself: right gradients pass, wrong ones do not, and the message says where."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from npgrad import (
    CannotTell,
    Layout,
    central_differences,
    check_gradient,
    check_grads,
    compare,
    complex_step,
    grad,
    vjp,
)
from npgrad.node import RULES, plain
from npgrad.numeric import Slopes

EPS = np.finfo(float).eps
SEEDS = st.integers(0, 2**32 - 1)

# name: (f, its derivative, whether it is analytic) of one number, smooth on ±[0.3, 2]
SMOOTH = {
    "exp": (np.exp, np.exp, True),
    "power": (lambda x: x**5, lambda x: 5 * x**4, True),
    "rational": (lambda x: 1 / (x * x + 0.5), lambda x: -2 * x / (x * x + 0.5) ** 2, True),
    "fast": (lambda x: np.sin(9 * x), lambda x: 9 * np.cos(9 * x), True),
    "softplus": (lambda x: np.log1p(np.exp(x)), lambda x: 1 / (1 + np.exp(-x)), True),
    "abs": (lambda x: np.abs(x) ** 3, lambda x: 3 * x * np.abs(x), False),
    "relu": (lambda x: np.maximum(x, 0.0) * x, lambda x: 2 * np.maximum(x, 0.0), False),
    "mixed": (lambda x: x + 1e-5 * np.abs(x), lambda x: 1 + 1e-5 * np.sign(x), False),
    "real part": (lambda x: np.real(x) ** 2 + x * 0, lambda x: 2 * x, False),
    "math": (lambda x: math.exp(x), lambda x: np.exp(x), False),
    "branch": (lambda x: x**2 if x > 0 else x**3, lambda x: 2 * x if x > 0 else 3 * x**2, False),
}
SHAPES_X = st.sampled_from([(), (2,), (2, 3), (0,)])
SHAPES_Y = st.sampled_from([(), (3,), (1, 2), (0, 2)])
POINTS = st.floats(0.3, 2.0) | st.floats(-2.0, -0.3)


@given(st.sampled_from([name for name in SMOOTH if SMOOTH[name][2]]), POINTS)
def test_complex_step__is_exact_to_rounding(name, x):
    f, derivative, _ = SMOOTH[name]
    np.testing.assert_allclose(complex_step(f, x), derivative(x), rtol=64 * EPS)


@given(st.sampled_from(list(SMOOTH)), POINTS)
def test_central_differences__are_right_to_eleven_digits(name, x):
    f, derivative, _ = SMOOTH[name]
    scale = abs(derivative(x)) + abs(f(x))
    np.testing.assert_allclose(central_differences(f, x), derivative(x), rtol=0, atol=1e-11 * scale)


@given(SEEDS, SHAPES_X, SHAPES_Y)
def test_numbers__have_the_functions_shape_and_then_the_arguments(seed, shape_x, shape_y):
    rng = np.random.default_rng(seed)
    A, x = rng.normal(size=shape_y + shape_x), rng.normal(size=shape_x)
    before = x.copy()
    f = lambda x: np.tensordot(A, x, x.ndim if np.ndim(x) else 0) if np.ndim(x) else A * x
    for numbers in (complex_step, central_differences):
        np.testing.assert_allclose(numbers(f, x), A, rtol=1e-9, atol=1e-11)
        assert numbers(f, x).shape == shape_y + shape_x
    assert np.array_equal(x, before)


def test_complex_step__refuses_what_does_not_stay_complex():
    with pytest.raises(TypeError, match="not analytic"):
        complex_step(lambda x: np.abs(x), np.ones(2))


@given(st.sampled_from(list(SMOOTH)), POINTS)
def test_check_gradient__accepts_the_right_and_refuses_one_wrong_by_1e_6(name, x):
    f, derivative, _ = SMOOTH[name]
    assume(abs(derivative(x)) > 1e-2 * abs(f(x)))
    check_gradient(f, derivative, x)
    for factor in (1 + 1e-6, 1 - 1e-6, -1.0, 0.0, np.nan, np.inf):
        with pytest.raises(AssertionError, match="argument 0"):
            check_gradient(f, lambda x, factor=factor: factor * derivative(x), x)


@given(SEEDS, st.booleans(), st.data())
def test_check_gradient__finds_the_one_wrong_entry_of_any_argument(seed, analytic, data):
    rng = np.random.default_rng(seed)
    W, b, x = rng.uniform(0.5, 1.5, (2, 3)), rng.uniform(0.5, 1.5, 3), rng.uniform(0.5, 1.5, (4, 2))
    size = (lambda h: h * h) if analytic else (lambda h: h * np.abs(h))
    f = lambda W, b, x: np.sum(size(x @ W + b))

    def right(W, b, x):
        h = 2 * (x @ W + b)
        return x.T @ h, h.sum(0), h @ W.T

    args = (W, b, x)
    check_gradient(f, right, *args, argnums=(0, 1, 2))
    which = data.draw(st.integers(0, 2))
    index = tuple(data.draw(st.integers(0, n - 1)) for n in args[which].shape)

    def wrong(W, b, x):
        gradients = right(W, b, x)
        gradients[which][index] *= 1 + 1e-6
        return gradients

    with pytest.raises(AssertionError) as caught:
        check_gradient(f, wrong, *args, argnums=(0, 1, 2))
    message = str(caught.value)
    assert f"argument {which} ({'Wbx'[which]}) at index {list(index)}: wrong gives" in message
    assert "(1 of" in message and (", complex step" in message) == analytic
    gives, number = re.search(r"gives (\S+), .* (\S+) ±", message).groups()
    assert float(gives) == wrong(*args)[which][index]
    assert math.isclose(float(number), right(*args)[which][index], rel_tol=1e-8)
    check_gradient(f, lambda *args: right(*args)[1], *args, argnums=1)
    with pytest.raises(AssertionError, match="argument 1"):
        check_gradient(f, lambda *args: right(*args)[1] * (1 + 1e-6), *args, argnums=-2)


def test_check_gradient__names_the_parameter_by_its_layout():
    layout = Layout(W=(2, 2), b=(2,))
    theta, x = np.arange(1.0, 7.0), np.array([0.5, 2.0])

    def f(x, theta):
        p = layout.views(theta)
        return np.sum((x @ p.W + p.b) ** 2)

    def wrong(x, theta):
        d = grad(f, 1)(x, theta)
        d[3] += 1e-3
        return d

    check_grads(f, x, theta, order=2)
    named = r"argument 1 \(theta\) at W\[1, 1\], index \[3\]: wrong"
    for layouts in (layout, {1: layout}):
        with pytest.raises(AssertionError, match=named):
            check_gradient(f, wrong, x, theta, argnums=1, layout=layouts)
    with pytest.raises(AssertionError, match=r"at index \[3\]: wrong"):
        check_gradient(f, wrong, x, theta, argnums=1, layout={0: layout})


def test_check_gradient__names_the_output_and_refuses_a_wrong_shape():
    x = np.array([1.0, 2.0])
    check_gradient(np.square, lambda x: np.diag(2 * x), x)
    with pytest.raises(AssertionError, match=r"at index \[0\], output \[1\]: <lambda> gives 0.1"):
        check_gradient(np.square, lambda x: np.array([[2.0, 0.0], [0.1, 4.0]]), x)
    with pytest.raises(AssertionError, match=r"gives shape \(2,\), must be \(2, 2\)"):
        check_gradient(np.square, lambda x: 2 * x, x)
    with pytest.raises(AssertionError, match="of 4 entries differ"):
        check_gradient(np.square, lambda x: np.full((2, 2), np.nan), x)


# name: (f, its derivative, x, what is answered to the right gradient and to a wrong one)
TOLD = ("agrees", "wrong")
UNTOLD = ("cannot be told", "cannot be told")


def opaque(f):
    """f as code that takes no complex numbers and no arrays that are not NumPy's."""
    return lambda x: f(np.asarray(x, float))


def step(a):
    return lambda x: np.where(np.asarray(x, float) > a, 1.0, 0.0)


def pdf(x):
    return np.exp(-0.5 * ((x - 5) / 1e-3) ** 2) / 1e-3


ANSWERS = {
    "a period of the steps": (opaque(lambda x: np.sin(64 * np.pi * x)), 64 * np.pi, 1.0, TOLD),
    "a staircase": (lambda x: np.round(128 * x) / 128, 0.0, 0.3, ("agrees", "agrees")),
    "a narrow density": (opaque(pdf), -500 * pdf(5.0005), 5.0005, TOLD),
    "a far argument": (opaque(lambda x: np.sin(1e3 * x)), 1e3 * np.cos(1e4), 10.0, TOLD),
    "a wide function": (lambda x: 1 + np.sin(1e-12 * x), 1e-12 * np.cos(1e-12), 1.0, TOLD),
    "the edge of a domain": (math.log, 100.0, 0.01, TOLD),
    "outside a domain": (opaque(np.sqrt), math.inf, 0.0, UNTOLD),
    "overflow": (np.exp, math.inf, 710.0, UNTOLD),
    "a kink": (np.abs, 0.5, 0.0, UNTOLD),
    "a kink in sqrt": (lambda x: np.sqrt(x * x), 0.5, 0.0, UNTOLD),
    "a kink within rounding": (lambda x: np.abs(x - 1), 1.0, 1.0 + 1e-14, ("cannot be told", None)),
    "a kink of maximum": (lambda x: np.maximum(x, 0) + x, 1.5, 0.0, UNTOLD),
    "a kink nearby": (lambda x: np.abs(x - 1), 1.0, 1.0 + 1e-5, TOLD),
    "a jump": (step(0.5), 0.0, 0.5, ("cannot be told", None)),
    "noise": (opaque(lambda x: x + 1e-5 * np.sin(1e17 * x)), 1.0, 0.3, UNTOLD),
    "an inactive unit": (opaque(lambda x: 3.0 + np.maximum(x, 0)), 0.0, -0.3, ("agrees", "agrees")),
    "a large constant": (lambda x: 1e8 + 1e-7 * x**2, 2e-7, 1.0, TOLD),
    "a part below rounding": (opaque(lambda x: 1e8 + 1e-7 * x**2), 2e-7, 1.0, UNTOLD),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_compare__gives_only_answers_that_the_evidence_carries(name):
    f, right, x, (of_right, of_wrong) = ANSWERS[name]
    assert compare(f, lambda x: right, x).answer == of_right
    assert of_wrong is None or compare(f, lambda x: right * (1 + 1e-6), x).answer == of_wrong
    if (of_right, of_wrong) == TOLD and right:
        for wrong in (0.0, -right, 2 * right, math.nan, math.inf):
            assert compare(f, lambda x, wrong=wrong: wrong, x).answer == "wrong"


@given(st.integers(-16, 16), st.integers(-8, 8), st.booleans())
def test_compare__judges_each_entry_by_its_own_size(exponent, size, analytic):
    c, x = np.array([1.0, 10.0**exponent]), np.array([1.3, 0.7 * 10.0**size])
    bend = np.square if analytic else lambda x: x * np.abs(x)
    f = lambda x: np.sum(c * bend(x))
    told = lambda answer, truth: answer in (truth, truth if analytic else "cannot be told")
    assert told(compare(f, lambda x: 2 * c * x, x).answer, "agrees")
    for k in (0, 1):
        off = np.where(np.arange(2) == k, 1 + 1e-6, 1.0)
        verdict = compare(f, lambda x, off=off: 2 * c * x * off, x)
        assert told(verdict.answer, "wrong")
        assert verdict.answer != "wrong" or verdict.entry == (k,)
        assert verdict.answer != "wrong" or math.isclose(
            verdict.number, 2 * c[k] * x[k], rel_tol=1e-7
        )


@pytest.mark.parametrize("noise", [1e-12, 1e-9, 1e-6])
def test_compare__finds_a_wrong_sign_in_noise_but_for_unlucky_draws(noise):
    """In 38 of 40 noisy functions at least: noise may look like a kink."""
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        f = lambda x, rng=rng: np.exp(np.asarray(x)) + noise * rng.normal()
        found += compare(f, lambda x: -np.exp(x), rng.uniform(0.5, 2)).answer == "wrong"
    assert found >= 38


@given(SEEDS, st.sampled_from([1e-12, 1e-9, 1e-6, 1e-3]), st.booleans())
@example(13, 1e-12, False)
@example(177, 1e-3, True)
def test_compare__never_accuses_because_of_noise(seed, noise, complex_too):
    rng = np.random.default_rng(seed)
    x, inside = rng.uniform(0.5, 2), (lambda x: x) if complex_too else np.asarray
    f = lambda x: np.exp(inside(x)) + noise * rng.normal()
    right = compare(f, np.exp, x)
    told = complex_too and noise < 1e-3  # 1e-3 seldom looks like another branch of f
    assert right.answer == "agrees" if told else right.answer != "wrong"
    assert compare(f, lambda x: np.exp(x) * (1 + 1e-6), x).answer != "agrees"
    assert compare(f, lambda x: -np.exp(x), x).answer != "agrees"
    assert right.answer == "agrees" or not abs(right.number - np.exp(x)) > right.error  # or nan


def test_compare__does_not_take_rounding_of_the_gradient_for_an_error():
    f = lambda h: h[0] - np.log(np.sum(np.exp(h)))
    pi = lambda h: np.exp(h) / np.sum(np.exp(h))
    score = lambda h: np.array([1.0, 0.0, 0.0]) - pi(h)  # 1 - pi cancels
    assert compare(f, score, np.array([30.0, 0.0, 1.0])).answer == "cannot be told"
    assert compare(f, score, np.array([33.0, 0.0, 0.0])).answer == "cannot be told"
    exact = lambda h: np.array([1.0, -1.0]) * pi(h)[1]
    assert compare(f, exact, np.array([2.0, -44.0])).answer == "cannot be told"
    assert compare(f, score, np.array([3.0, 0.0, 1.0])).answer == "agrees"
    assert (
        compare(lambda h: np.sum(pi(h)), np.zeros_like, np.array([3.0, 0.1, 1.0])).answer
        == "agrees"
    )


def test_check_gradient__raises_what_cannot_be_told_as_an_error_of_its_own():
    with pytest.raises(CannotTell, match=r"argument 0.*cannot be told here: a kink: the slopes"):
        check_gradient(np.abs, np.sign, 0.0)
    with pytest.raises(AssertionError) as caught:
        check_gradient(np.sin, np.sin, 1.0)
    assert caught.type is AssertionError
    verdict = check_gradient(np.sin, np.cos, 1.0)
    assert verdict.answer == "agrees" and 0 < verdict.precision < 1e-11


def test_compare__refuses_functions_that_change_their_arguments():
    def spoils(x, a):
        a += 1
        return np.sum(x * a)

    with pytest.raises(ValueError, match=r"spoils changes argument 1 \(a\) in place"):
        compare(spoils, lambda x, a: a, np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match=r"spoils changes argument 1"):
        compare(lambda x, a: np.sum(x * a), spoils, np.ones(2), np.ones(2))


@given(SEEDS, st.booleans())
def test_compare__along_directions_costs_the_same_for_any_length(seed, analytic):
    calls = []
    for n in (3, 3000):
        rng = np.random.default_rng(seed)
        a, x = rng.uniform(0.5, 1.5, n), rng.uniform(0.5, 2, n) * rng.choice([-1, 1], n)
        count = [0]

        def f(x, a=a, count=count):
            count[0] += 1
            return np.sum(a * (np.square(x) if analytic else x * np.abs(x)))

        def gradient(x, a=a, factor=1.0):
            d = 2 * a * (x if analytic else np.abs(x))
            d[len(d) // 2] *= factor
            return d

        assert compare(f, gradient, x, directions=4).answer == "agrees"
        calls.append(count[0])
        assert compare(f, lambda x, g=gradient: g(x, factor=1.5), x, directions=4).answer == "wrong"
    assert abs(calls[0] - calls[1]) <= 0.2 * calls[0]
    assert compare(f, gradient, x).entries == 16  # directions, by default, of long arguments


# name: f of a vector of three entries, whose complex step is right, wrong or refused
CODE = {
    "products": lambda x: np.einsum("i,j->", x, np.exp(x)) + x @ x * np.prod(x),
    "methods": lambda x: (x.reshape(3, 1).T.sum(0) * x.cumsum()).mean() + x.dot(x[::-1]),
    "pieces": lambda x: (
        np.concatenate([x[1:], [x[0]]]).take([0, 0, 1]).sum() + np.stack(list(x))[0]
    ),
    "choices": lambda x: np.where(x > 0, x**3, x**2).max() + np.sort(x)[1] + np.clip(x, -1, 1)[0],
    "truth": lambda x: x[0] ** 2 if x[1] > x[2] else x[0] ** 3,
    "powers": lambda x: np.sum((x * x) ** x),
    "inverse": lambda x: np.linalg.det(np.outer(x, x) + np.eye(3)),
    "abs": lambda x: np.sum(np.abs(x)),
    "part of abs": lambda x: np.sum(x) + 1e-5 * np.abs(x[0]),
    "real": lambda x: np.sum(np.real(x) * x),
    "conj": lambda x: np.sum(x * np.conj(x)),
    "norm": lambda x: np.linalg.norm(x),
    "std": lambda x: np.std(x),
    "vdot": lambda x: np.vdot(x, x),
    "vecdot": lambda x: np.vecdot(x, x),
    "sign": lambda x: np.sum(np.sign(x) * x),
    "cholesky": lambda x: np.sum(np.linalg.cholesky(np.outer(x, x) + np.eye(3))),
    "slogdet": lambda x: np.linalg.slogdet(np.outer(x, x) + np.eye(3))[1] + x[0],
    "asarray": lambda x: np.sum(np.asarray(x) ** 2),
    "float": lambda x: x[0] * float(np.real(x[1])),
    "assignment": lambda x: assigned(x).sum(),
    "swallowed": lambda x: swallowed(x),
    "isinstance": lambda x: np.sum(x * x) if isinstance(x, np.ndarray) else np.sum(x * x * x),
    "edge of sqrt": lambda x: np.sum(np.sqrt(x * x - x * x)) + np.sum(x),
    "edge of power": lambda x: np.sum((x * x - x * x) ** 1.5) + np.sum(x),
    "ties": lambda x: np.max(np.stack([x[0], x[0] * x[1] / x[1], x[0] - 1])),
    "ties of sort": lambda x: np.sort(np.stack([x[0], x[1], x[1]]))[1],
    "dtype": lambda x: np.sum(x * (2 if x.dtype == float else 3)),
}
PROVED = ("products", "methods", "pieces", "choices", "truth", "powers", "inverse")


def assigned(x):
    y = np.zeros(3, x.dtype)
    y[:] = x
    return y * np.abs(y)


def swallowed(x):
    try:
        return np.sum(np.abs(x))
    except Exception:
        return np.sum(x + 0j)


@pytest.mark.parametrize("name", CODE)
@given(st.lists(st.floats(0.3, 2) | st.floats(-2, -0.3), min_size=3, max_size=3, unique=True))
def test_complex_step__is_used_only_where_it_is_right(name, x):
    f, x = CODE[name], np.array(x)
    # differences need room: no tie and no branch within 0.1
    assume(min(abs(np.diff(np.sort(x)))) > 0.1 and np.all(abs(abs(x) - 1) > 0.1))
    slopes = Slopes(f, x)
    assert (slopes.doubt == "") == (name in PROVED) or name in ("ties",)
    for j in range(3):
        if not slopes.doubt:
            exact, checked = slopes.entry((j,)), slopes.entry((j,), exact=False)
            assert name == "ties" or checked.error < 1e-3
            assert not abs(exact.number - checked.number) > exact.error + checked.error


@pytest.fixture
def tampered():
    """Replace pullbacks of RULES for one test."""
    saved = dict(RULES)
    yield RULES
    RULES.clear()
    RULES.update(saved)


@settings(max_examples=5)
@given(SEEDS)
def test_check_grads__accepts_compositions(seed):
    rng = np.random.default_rng(seed)
    A, x, t = rng.uniform(0.3, 0.7, (1, 2)), rng.uniform(0.3, 0.7, 2), float(rng.uniform(0.5, 1))
    before = A.copy(), x.copy()
    check_grads(lambda A, x, t, n: np.tanh(A @ x * t) ** n, A, x, t, 2, order=2)
    check_grads(lambda A, x: np.sum(A.astype(float) * x), A.astype(np.float32), x, order=2)
    assert np.array_equal(A, before[0]) and np.array_equal(x, before[1])


def test_check_grads__catches_one_wrong_entry_of_a_rule(tampered):
    def off(g, y, x):
        d = g * np.cos(x)
        return d * np.where(np.arange(d.size) == 1, 1 + 1e-6, 1.0)

    x = np.array([0.3, 0.4, 0.5])
    check_grads(np.sin, x, order=2)
    tampered[np.sin] = [off]
    with pytest.raises(AssertionError, match=r"^sin, .* index \[1\], output \[1\]: npgrad gives"):
        check_grads(np.sin, x)


def test_check_grads__catches_an_error_in_one_argument_only(tampered):
    tampered[np.divide] = [lambda g, z, x, y: g / y, lambda g, z, x, y: -g * z / y * (1 + 1e-6)]
    f = lambda a, b: np.sum(np.divide(a, b))
    a, b = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    check_grads(f, a, b, argnums=0)
    for argnums in (None, 1, -1, (0, 1)):
        with pytest.raises(AssertionError, match=r"argument 1 \(b\)"):
            check_grads(f, a, b, argnums=argnums)


@pytest.mark.parametrize(
    "change",
    [
        lambda g, x, frozen: g * 1e-6 * (x - frozen) * np.exp(x),
        lambda g, x, frozen: 1e-6 * g * (x[::-1] - frozen[::-1]),
    ],
)
def test_check_grads__catches_an_error_in_the_second_derivative_only(tampered, change):
    def f(x):
        return np.sum(np.exp(x))

    # x - frozen is 0 as a number, but its derivative is 1 where x is differentiated once more
    tampered[np.exp] = [lambda g, y, x: g * y + change(g, x, plain(x))]
    x = np.array([0.5, 1.5])
    check_grads(f, x)
    with pytest.raises(AssertionError, match=r"^the derivative of f with respect to argument 0"):
        check_grads(f, x, order=2)


def test_check_grads__differentiates_every_float_argument_by_default():
    f = lambda x, n, flag, t: np.sum(x**n) * t if flag else 0.0
    check_grads(f, np.array([1.0, 2.0]), 3, True, 0.5, order=2)
    check_grads(f, np.array([1.0, 2.0], np.float32), 3, True, np.float32(0.5))
    with pytest.raises(TypeError, match="none of the arguments is a float"):
        check_grads(lambda n: n, 3)
    with pytest.raises(IndexError):
        check_grads(np.sin, 1.0, argnums=3)


@given(st.floats(-12, 12))
def test_check__is_independent_of_the_functions_scale(exponent):
    x, scale = np.array([0.7, 1.3]), 10.0**exponent
    f = lambda x: scale * np.sum(np.abs(x) ** 3)
    options = {"atol": 1e-15 * scale}
    check_gradient(f, lambda x: scale * 3 * x * np.abs(x), x, **options)
    with pytest.raises(AssertionError):
        check_gradient(f, lambda x: scale * 3 * x * np.abs(x) * [1, 1 + 1e-6], x, **options)
    _, pullback = vjp(f, x)
    assert pullback(1.0)[0].shape == (2,)
