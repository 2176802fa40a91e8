"""Exploration noise: the linear recursion's moments against the process's, exactly."""

from math import exp, inf, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import CHANCE, SEEDS

from algorithms.ddpg_noise import Noise, clip

RATES, STEPS = st.floats(0.01, 2.0), st.floats(0.01, 0.9)
FORMS = st.sampled_from(("euler", "exact"))


class Told:
    """Gives the normal numbers it was told to."""

    def __init__(self, *xi):
        self.xi = list(xi)

    def standard_normal(self, d):
        return np.full(d, self.xi.pop(0))


def path(noise, xi, N=None):
    """N after every step of `explore`, driven by the numbers xi; u is 0 and cannot clip."""
    N, rng, seen = np.full(1, noise.ou_mean if N is None else N), Told(*xi), []
    for t in range(len(xi)):
        noise.explore(np.zeros(1), N, t, rng)
        seen.append(N[0])
    return np.array(seen)


def impulse_response(noise, n):
    """(c_0, ..., c_{n−1}): N_t − ou_mean = Σ_k c_k ξ_{t−k} when begun at ou_mean."""
    return path(noise, [1.0] + [0.0] * (n - 1)) - noise.ou_mean


@given(RATES, STEPS, st.floats(0, 2), st.floats(-1, 1), FORMS, SEEDS)
def test_ou__is_linear_in_what_drives_it(ou_theta, dt, sigma, mean, form, seed):
    """So its moments are sums over the impulse response, and ou_mean is its mean at all times."""
    noise = Noise(ou_theta=ou_theta, dt=dt, sigma=sigma, ou_mean=mean, ou_form=form)
    assert path(noise, [0.0] * 5) == pytest.approx(mean, abs=1e-15)
    xi = np.random.default_rng(seed).normal(size=12)
    c = impulse_response(noise, 12)
    expected = mean + np.convolve(c, xi)[:12]
    np.testing.assert_allclose(path(noise, xi), expected, atol=1e-12 * (1 + sigma))


@given(RATES, STEPS, st.floats(0.01, 2), FORMS, st.integers(0, 8))
def test_ou__long_run_variance_and_autocorrelation(ou_theta, dt, sigma, form, k):
    """Σ c_j², and Σ c_j c_{j+k} over it, to the last of enough terms; for `exact` those of the
    continuous process, for `euler` spread²/(1 − keep²) and keepᵏ with keep = 1 − ou_theta dt."""
    noise = Noise(ou_theta=ou_theta, dt=dt, sigma=sigma, ou_form=form)
    c = impulse_response(noise, 64)
    keep = c[1] / c[0]
    np.testing.assert_allclose(c, c[0] * keep ** np.arange(64), rtol=1e-9, atol=1e-300)
    rest = keep**128 / (1 - keep**2)  # of Σ keep^2j from j = 64 on
    variance = np.sum(c**2) + c[0] ** 2 * rest
    correlation = np.sum(c[: 64 - k] * c[k:]) + c[0] ** 2 * keep ** (128 - k) / (1 - keep**2)
    correlation /= variance
    if form == "exact":
        assert variance == pytest.approx(sigma**2 / (2 * ou_theta), rel=1e-8)
        assert correlation == pytest.approx(exp(-ou_theta * k * dt), rel=1e-8)
    else:
        keep = 1 - ou_theta * dt
        assert variance == pytest.approx(sigma**2 * dt / (1 - keep**2), rel=1e-8)
        assert correlation == pytest.approx(keep**k, rel=1e-8, abs=1e-12)


@given(RATES, STEPS, st.integers(1, 20))
def test_ou__exact_steps_compose(ou_theta, dt, n):
    """n exact steps of dt have the law of one of n dt: equal decay, equal variance from a point."""
    one = Noise(ou_theta=ou_theta, dt=n * dt, ou_form="exact")
    many = Noise(ou_theta=ou_theta, dt=dt, ou_form="exact")
    assert path(one, [0.0], N=1.0)[0] == pytest.approx(path(many, [0.0] * n, N=1.0)[-1], rel=1e-9)
    variance = np.sum(impulse_response(many, n) ** 2)
    assert impulse_response(one, 1)[0] ** 2 == pytest.approx(variance, rel=1e-9)


@given(RATES, st.floats(0.01, 2))
def test_ou__euler_tends_to_exact(ou_theta, sigma):
    """As dt → 0, with errors of the order dt."""
    forms = [Noise(ou_theta=ou_theta, dt=1e-4, sigma=sigma, ou_form=f) for f in ("euler", "exact")]
    (keep, spread), (exact_keep, exact_spread) = (f.coefficients(sigma) for f in forms)
    assert abs(keep - exact_keep) <= (1e-4 * ou_theta) ** 2
    assert abs(spread / exact_spread - 1) <= 1e-4 * ou_theta


def test_ou__without_return_is_brownian():
    for form in ("euler", "exact"):
        assert Noise(ou_theta=0.0, dt=0.25, ou_form=form).coefficients(2.0) == (1.0, 1.0)


def test_ou__papers_stationary_deviation():
    noise = Noise(ou_form="exact")
    keep, spread = noise.coefficients(noise.sigma)
    assert spread / sqrt(1 - keep**2) == pytest.approx(0.2 / sqrt(0.3), rel=1e-12)
    assert round(0.2 / sqrt(0.3), 3) == 0.365


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 100), st.integers(0, 300))
def test_sigma__is_annealed_linearly(sigma, final, steps, t):
    noise = Noise(sigma=sigma, sigma_final=final, sigma_steps=steps)
    assert Noise(sigma=sigma, sigma_steps=steps).sigma_at(t) == sigma
    expected = np.interp(t, [0, steps], [sigma, final])
    assert noise.sigma_at(t) == pytest.approx(expected, abs=1e-15)
    for kind in ("white", "ou"):
        N = np.zeros(1)
        annealed = Noise(noise=kind, sigma=sigma, sigma_final=final, sigma_steps=steps)
        out = annealed.explore(np.zeros(1), N, t, Told(0.5))
        assert out[0] == pytest.approx(0.5 * expected, abs=1e-15)


@given(st.sampled_from(("ou", "white", "epsilon", "none")), st.floats(0, 5), SEEDS)
def test_explore__stays_within_the_box(kind, sigma, seed):
    rng = np.random.default_rng(seed)
    noise, N = Noise(noise=kind, sigma=sigma, epsilon=0.5), rng.normal(size=3)
    for t in range(20):
        u = rng.uniform(-1, 1, 3)
        before, held = u.copy(), N.copy()
        out = noise.explore(u, N, t, rng)
        assert np.abs(out).max() <= 1.0 and np.array_equal(u, before)
        if kind == "none":
            assert np.array_equal(out, u)
        if kind == "ou":
            np.testing.assert_array_equal(out, np.clip(u + N, -1, 1))
        else:
            assert np.array_equal(N, held)


@given(st.lists(st.floats(), min_size=1))
def test_clip__is_numpys(u):
    np.testing.assert_array_equal(clip(np.array(u)), np.clip(u, -1, 1))


@given(st.floats(0, 1), SEEDS)
def test_epsilon__replaces_that_share_of_actions_by_uniform_ones(epsilon, seed):
    """The share by Hoeffding's inequality, the distribution function by that of Dvoretzky, Kiefer
    and Wolfowitz: both are off by more than √(ln(2/chance)/2n) by chance only."""
    rng, n = np.random.default_rng(seed), 2000
    noise, u = Noise(noise="epsilon", epsilon=epsilon), np.array([2.0])
    out = np.array([noise.explore(u, np.zeros(1), 0, rng)[0] for _ in range(n)])
    drawn = np.sort(out[out != 2.0])
    bound = lambda n: sqrt(np.log(2 / CHANCE) / (2 * n))
    assert abs(len(drawn) / n - epsilon) <= bound(n)
    if len(drawn):
        below = np.arange(1, len(drawn) + 1) / len(drawn)
        assert np.abs(below - (drawn + 1) / 2).max() <= bound(len(drawn)) + 1 / len(drawn)


@given(SEEDS)
def test_white__is_independent_of_its_past(seed):
    noise, N = Noise(noise="white", sigma=0.3), np.full(2, 0.7)
    out = noise.explore(np.zeros(2), N, 0, np.random.default_rng(seed))
    expected = 0.3 * np.random.default_rng(seed).standard_normal(2)
    np.testing.assert_allclose(out, np.clip(expected, -1, 1), atol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dt=0.0), r"dt = 0.0: must be in \(0, 2/ou_theta\)"),
        (dict(dt=14.0), r"dt = 14.0: must be in \(0, 2/ou_theta\) = \(0, 13.3333\)"),
        (dict(dt=nan), "dt = nan: must be in"),
        (dict(dt=-1.0, ou_form="exact"), "dt = -1.0: must be above 0"),
        (dict(dt=inf, ou_form="exact"), "dt = inf: must be above 0"),
        (dict(dt=-1.0, ou_theta=0.0), "dt = -1.0: must be above 0"),
        (dict(ou_mean=1.5), r"ou_mean = 1.5: must be in \[-1, 1\]"),
        (dict(sigma_final=-0.1), "sigma_final = -0.1: must be at least 0"),
    ],
)
def test_noise__names_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Noise(**options)
    Noise(dt=14.0, ou_form="exact", sigma_final=None)
