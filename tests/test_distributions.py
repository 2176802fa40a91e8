"""Softmax and Gaussian heads: explicit = tape = numbers, and the laws of a distribution."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npgrad import Gaussian, Softmax, check_gradient, grad

EPS = np.finfo(float).eps
SEEDS = st.integers(0, 2**32 - 1)
BATCHES = st.lists(st.integers(1, 3), max_size=2).map(tuple)
GAUSSIANS = st.builds(
    Gaussian, st.integers(1, 3), st.sampled_from(("exp", "softplus")), st.booleans()
)


@st.composite
def softmaxes(draw, scale=3.0):
    """(head, h, a)."""
    n, batch, rng = draw(st.integers(1, 4)), draw(BATCHES), np.random.default_rng(draw(SEEDS))
    return Softmax(n), scale * rng.normal(size=(*batch, n)), rng.integers(n, size=batch)


@st.composite
def gaussians(draw):
    head, batch, rng = draw(GAUSSIANS), draw(BATCHES), np.random.default_rng(draw(SEEDS))
    h = rng.normal(size=(*batch, head.size))
    return head, h, rng.normal(size=(*batch, head.d))


@given(softmaxes() | gaussians())
def test_heads__score_is_the_derivative_of_log_prob(drawn):
    head, h, a = drawn
    explicit = head.score(h, a)
    tape = grad(lambda h: np.sum(head.log_prob(h, a)))(h)
    np.testing.assert_allclose(explicit, tape, rtol=1e-11, atol=1e-13)
    check_gradient(lambda h: np.sum(head.log_prob(h, a)), lambda h: head.score(h, a), h)


@given(softmaxes() | gaussians())
def test_heads__entropy_gradient_is_the_derivative_of_entropy(drawn):
    head, h, _ = drawn
    explicit = head.entropy_gradient(h)
    tape = grad(lambda h: np.sum(head.entropy(h)))(h)
    np.testing.assert_allclose(explicit, tape, rtol=1e-11, atol=1e-13)
    check_gradient(lambda h: np.sum(head.entropy(h)), head.entropy_gradient, h)


@given(
    GAUSSIANS | st.builds(Softmax, st.integers(1, 4)),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from((0.0, 0.5)) | st.floats(0, 2),
    st.booleans(),
    st.sampled_from((float, np.float32)),
    SEEDS,
)
def test_heads__ascent_is_weighted_score_and_entropy_gradient(head, rows, beta, keep, dtype, seed):
    """Σ_rows c ln π + β H, differentiated; in memory of its own or in what served before."""
    rng, memory = np.random.default_rng(seed), {} if keep else None
    for k in rows:
        h, c = rng.normal(size=(k, head.size)).astype(dtype), rng.normal(size=k)
        softmax = isinstance(head, Softmax)
        a = rng.integers(head.n, size=k) if softmax else rng.normal(size=(k, head.d))
        before = h.copy(), a.copy(), c.copy()
        got = head.ascent(h, a, c, beta, memory)
        wide = h.astype(float)
        expected = c[:, None] * head.score(wide, a) + beta * head.entropy_gradient(wide)
        close = dict(rtol=1e-11, atol=1e-12) if dtype is float else dict(rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(got, expected, **close)
        assert all(np.array_equal(x, y) for x, y in zip(before, (h, a, c)))
        gain = lambda h, a, c: np.sum(c * head.log_prob(h, a) + beta * head.entropy(h))
        np.testing.assert_allclose(got, grad(gain)(wide, a, c), **close)


@given(arrays(float, (1, 3), elements=st.floats(-1e3, 1e3)), st.integers(0, 2))
def test_softmax__ascent_is_as_exact_as_score(h, a):
    """1 − π without cancellation, for preferences of any size."""
    head = Softmax(3)
    got = head.ascent(h, np.array([a]), np.ones(1), 0.0)
    np.testing.assert_allclose(got, head.score(h, np.array([a])), rtol=1e-14, atol=1e-300)
    assert np.isfinite(head.ascent(h, np.array([a]), np.ones(1), 1.0)).all()


@given(softmaxes())
def test_softmax__probabilities_sum_to_one_scores_to_zero(drawn):
    head, h, _ = drawn
    actions = [np.full(h.shape[:-1], a) for a in range(head.n)]
    pi = np.stack([np.exp(head.log_prob(h, a)) for a in actions])
    np.testing.assert_allclose(pi.sum(0), 1.0, rtol=8 * EPS)
    mean_score = sum(p[..., None] * head.score(h, a) for p, a in zip(pi, actions))
    np.testing.assert_allclose(mean_score, 0.0, atol=16 * EPS)
    expected_entropy = -sum(p * head.log_prob(h, a) for p, a in zip(pi, actions))
    np.testing.assert_allclose(head.entropy(h), expected_entropy, rtol=1e-12, atol=1e-14)
    assert (head.entropy(h) >= 0).all() and (head.entropy(h) <= np.log(head.n) + 1e-12).all()


@given(arrays(float, st.integers(1, 4), elements=st.floats(-1e3, 1e3)), st.data())
def test_softmax__is_exact_for_extreme_preferences(h, data):
    """Against 60 digits; an error of h itself by one rounding is eps |h| in ln π."""
    head, n = Softmax(len(h)), len(h)
    a = data.draw(st.integers(0, n - 1))
    with localcontext() as context:
        context.prec = 60
        e = [Decimal(float(x)).exp() for x in h]
        log_pi = [float(Decimal(float(x)) - sum(e).ln()) for x in h]
        others = sum(x for i, x in enumerate(e) if i != a)
        score = [float((others if i == a else -x) / sum(e)) for i, x in enumerate(e)]
    error = 8 * EPS * (1.0 + np.ptp(h))
    assert abs(head.log_prob(h, a) - log_pi[a]) <= error * max(1.0, abs(log_pi[a]))
    np.testing.assert_allclose(head.score(h, a), score, rtol=2 * error, atol=1e-300)
    assert np.isfinite(head.entropy(h)) and np.isfinite(head.entropy_gradient(h)).all()


@given(softmaxes(), st.floats(-1e3, 1e3))
def test_softmax__does_not_see_a_common_shift(drawn, shift):
    head, h, a = drawn
    error = 16 * EPS * (1.0 + abs(shift))
    np.testing.assert_allclose(head.log_prob(h + shift, a), head.log_prob(h, a), atol=error)
    np.testing.assert_allclose(head.score(h + shift, a), head.score(h, a), atol=error)


@given(arrays(float, 8, elements=st.floats(-0.5, 0.5)), SEEDS)
def test_softmax__samples_have_the_probabilities(h, seed):
    """Hoeffding: each frequency of N draws is within √(ln(2/1e-12)/2N) = 0.06 but for chance 1e-12.

    With one preference of 3 above seven others, the largest of h − Gumbel would be off by 0.1.
    """
    head, N = Softmax(8), 4000
    h[0] += 3.0
    draws = head.sample(h, head.noise(np.random.default_rng(seed), N))
    pi = np.exp([head.log_prob(h, a) for a in range(8)])
    assert np.abs(np.bincount(draws, minlength=8) / N - pi).max() <= np.sqrt(np.log(2e12) / 2 / N)
    assert head.mode(h) == 0


def quadrature(head, h):
    """Gauss–Hermite nodes a and weights: E f(a) exactly for polynomials of degree < 12."""
    x, weight = np.polynomial.hermite_e.hermegauss(6)
    grid = np.stack(np.meshgrid(*[x] * head.d, indexing="ij"), -1).reshape(-1, head.d)
    weights = np.prod(np.meshgrid(*[weight] * head.d, indexing="ij"), 0).ravel()
    return head.sample(h, grid), weights / weights.sum()


@given(GAUSSIANS, SEEDS)
def test_gaussian__expectations_are_the_laws(head, seed):
    """E ∇ln π = 0;  H = −E ln π;  E (∇ln π)² of μ is 1/σ²: all exact under quadrature."""
    h = np.random.default_rng(seed).normal(size=head.size)
    a, weight = quadrature(head, h)
    H = np.broadcast_to(h, (len(a), head.size))
    score = head.score(H, a)
    np.testing.assert_allclose(weight @ score, 0.0, atol=1e-11)
    np.testing.assert_allclose(-weight @ head.log_prob(H, a), head.entropy(h), atol=1e-11)
    sigma = head.sample(h, np.ones(head.d)) - head.mode(h)
    np.testing.assert_allclose(weight @ score[:, : head.d] ** 2, sigma**-2.0, rtol=1e-9)
    omega = np.broadcast_to(h[head.d :], head.d)
    expected = np.exp(omega) if head.sigma == "exp" else np.sqrt(np.log1p(np.exp(omega)))
    np.testing.assert_allclose(sigma, expected, rtol=1e-12)


@given(GAUSSIANS, SEEDS)
def test_gaussian__density_is_the_normal_density(head, seed):
    rng = np.random.default_rng(seed)
    h, a = rng.normal(size=head.size), rng.normal(size=head.d)
    sigma = head.sample(h, np.ones(head.d)) - head.mode(h)
    density = np.prod(np.exp(-((a - head.mode(h)) ** 2) / (2 * sigma**2)) / sigma) / (
        (2 * np.pi) ** (head.d / 2)
    )
    np.testing.assert_allclose(np.exp(head.log_prob(h, a)), density, rtol=1e-11)


@given(st.booleans(), st.floats(-1e3, 1e3), st.floats(-3, 3))
def test_gaussian__is_exact_for_extreme_omega(spherical, omega, z):
    """Softplus: ln σ = ½ ln ln(1 + e^ω) and its slope, against 500 digits."""
    head = Gaussian(1, "softplus", spherical)
    h = np.array([0.25, omega])
    with localcontext() as context:
        context.prec = 500
        e = Decimal(omega).exp()
        softplus = (1 + e).ln()
        log_sigma = float(softplus.ln() / 2)
        slope = float(e / (1 + e) / softplus / 2)
    np.testing.assert_allclose(head.entropy_gradient(h), [0.0, slope], rtol=1e-11)
    H = log_sigma + 0.5 * np.log(2 * np.pi * np.e)
    assert abs(head.entropy(h) - H) <= 1e-11 * (1 + abs(log_sigma))
    a = head.sample(h, np.array([z]))
    log_prob = -0.5 * z * z - log_sigma - 0.5 * np.log(2 * np.pi)
    rounding = EPS * 0.25 * np.exp(-log_sigma) * (1 + abs(z))  # of a = μ + σz, in units of σ
    if rounding < 1e-6:
        error = 1e-11 * (1 + abs(log_sigma)) + 8 * rounding * (1 + abs(z))
        assert abs(head.log_prob(h, a) - log_prob) <= error


def test_gaussian__has_one_omega_per_dimension_or_one_in_all():
    assert (Gaussian(3).size, Gaussian(3, spherical=True).size) == (6, 4)


def test_gaussian__refuses_another_sigma():
    with pytest.raises(ValueError, match="sigma = 'tanh'"):
        Gaussian(2, "tanh")
