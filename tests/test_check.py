"""The checker itself: right gradients pass, wrong ones do not, and the message says where."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from npgrad import Layout, central_differences, check_gradient, check_grads, complex_step, grad, vjp
from npgrad.node import RULES, plain

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
    assert "(1 of" in message and ("complex step" in message) == analytic
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


@pytest.mark.parametrize("x", [1e-6, 1.0 + 1e-7])
def test_check_gradient__says_where_there_is_no_gradient(x):
    kink = lambda x: np.abs(x) + np.abs(x - 1)
    message = r"argument 0 \(x\), cannot be checked.*do not converge"
    with pytest.raises(AssertionError, match=message):
        check_gradient(kink, lambda x: np.sign(x) + np.sign(x - 1), x)
    noise = np.random.default_rng(0)
    with pytest.raises(AssertionError, match=message):
        check_gradient(lambda x: np.real(x) + 1e-5 * noise.random(), lambda x: 1.0, x)


@pytest.fixture
def tampered():
    """Replace pullbacks of RULES for one test."""
    saved = dict(RULES)
    yield RULES
    RULES.clear()
    RULES.update(saved)


@given(SEEDS)
def test_check_grads__accepts_compositions(seed):
    rng = np.random.default_rng(seed)
    A, x, t = rng.normal(size=(1, 2)), rng.normal(size=2), float(rng.normal())
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
