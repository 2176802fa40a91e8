"""The deterministic policy-gradient theorem on the regulator: closed forms against derivatives,
sums and quadrature."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import regulators
from worlds import SEEDS

from algorithms.exact.deterministic import (
    action_gradient,
    compatible,
    curvature,
    errors,
    exploration,
    gradient,
    score_variance,
    stochastic_gradient,
    stochastic_loss,
)
from algorithms.exact.lqr import (
    action_value,
    cost_matrix,
    occupancy,
    performance,
    policy_gradient,
    spring,
    state_value,
)
from npgrad import complex_step

SIGMA = st.sampled_from((1e-3, 0.1, 1.0, 3.0))


def close(a, b, rtol=1e-8, scale=None):
    """Sums of a few hundred products, through Lyapunov equations of condition 1/(1 − .8²)⁴."""
    scale = np.abs(b).max() if scale is None else scale
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


@st.composite
def two_gains(draw):
    """(lqr, K, K_b), both stable."""
    lqr, K = draw(regulators())
    rng = np.random.default_rng(draw(SEEDS))
    K_b = K + 0.05 * rng.normal(size=K.shape)
    assume(lqr.gamma * np.abs(np.linalg.eigvals(lqr.A - lqr.B @ K_b)).max() ** 2 < 0.9)
    return lqr, K, K_b


def normals(d):
    """(ξ (k, d), weights (k,)): E f(ξ), ξ ~ N(0, I), exactly for polynomials of degree ≤ 7."""
    x, w = np.polynomial.hermite_e.hermegauss(4)
    rows = list(product(range(4), repeat=d))
    return np.array([x[list(r)] for r in rows]), np.array([np.prod(w[list(r)]) for r in rows]) / (
        2 * np.pi
    ) ** (d / 2)


@given(two_gains(), SEEDS)
def test_action_gradient__is_that_of_the_action_value(world, seed):
    """At a = −K s, by the complex step; also that of another gain's q."""
    lqr, K, other = world
    s = np.random.default_rng(seed).normal(size=len(lqr.A))
    for critic in (None, other):
        q = lambda a, critic=critic: action_value(lqr, K if critic is None else critic, s, a)
        close(action_gradient(lqr, K, critic) @ s, complex_step(q, -K @ s))


@given(regulators())
def test_theorem_1__is_the_gradient(world):
    lqr, K = world
    explicit = gradient(action_gradient(lqr, K), occupancy(lqr, K))
    close(explicit, complex_step(lambda K: performance(lqr, K), K), rtol=1e-7)
    close(explicit, policy_gradient(lqr, K))


def stochastic_performance(lqr, K, sigma):
    """Of a = −K s + σξ: the sum of the expected rewards, from second moments pushed forward."""
    M, X, total, gamma = lqr.A - lqr.B @ K, lqr.Sigma0, 0.0, lqr.gamma
    cost, tr_R = lqr.Q + K.T @ lqr.R @ K, np.trace(lqr.R)
    noise = lqr.W + sigma**2 * lqr.B @ lqr.B.T
    for t in range(1200):
        total -= np.sum(cost * X) + gamma**t * sigma**2 * tr_R
        X = gamma * (M @ X @ M.T) + gamma ** (t + 1) * noise
    return total


@given(regulators(), SIGMA)
def test_stochastic_loss__is_what_the_noise_costs(world, sigma):
    lqr, K = world
    J = performance(lqr, K)
    close(J - stochastic_loss(lqr, K, sigma), stochastic_performance(lqr, K, sigma), scale=abs(J))


@given(regulators(), SIGMA)
def test_stochastic_gradient__is_the_derivative(world, sigma):
    lqr, K = world
    J = lambda K: performance(lqr, K) - stochastic_loss(lqr, K, sigma)
    close(stochastic_gradient(lqr, K, sigma), complex_step(J, K), rtol=1e-7)


@given(regulators(), SIGMA)
def test_stochastic_gradient__is_theorem_1_of_the_noisier_regulator(world, sigma):
    """W + σ² B Bᵀ for W: nothing else of ∇J_σ depends on σ."""
    lqr, K = world
    covariance = lqr.W + sigma**2 * lqr.B @ lqr.B.T
    noisier = replace(lqr, W=(covariance + covariance.T) / 2)
    close(stochastic_gradient(lqr, K, sigma), policy_gradient(noisier, K))


@given(regulators())
def test_theorem_2__the_limit_is_the_deterministic_gradient_at_the_rate_of_sigma_squared(world):
    """∇J_σ − ∇J = −σ² H D, to rounding of ∇J itself."""
    lqr, K = world
    exact = policy_gradient(lqr, K)
    size = np.abs(exact).max()
    rate = gradient(action_gradient(lqr, K), exploration(lqr, K))
    for sigma in (1.0, 1e-1, 1e-2, 1e-3):
        apart = stochastic_gradient(lqr, K, sigma) - exact
        close(apart, sigma**2 * rate, scale=size)
    close(stochastic_gradient(lqr, K, 1e-9), exact, rtol=1e-7)


@given(regulators(), SIGMA, st.floats(-2, 2), SEEDS)
def test_score_variance__is_that_of_the_score_times_q(world, sigma, b, seed):
    """Mean and variance by Gauss–Hermite quadrature, which is exact for this polynomial."""
    lqr, K = world
    s = np.random.default_rng(seed).normal(size=len(lqr.A))
    xi, weights = normals(len(K))
    q = action_value(lqr, K, np.tile(s, (len(xi), 1)), -K @ s + sigma * xi)
    samples = -np.einsum("ki,j,k->kij", xi / sigma, s, q - b)
    mean = np.einsum("k,kij->ij", weights, samples)
    square = weights @ (samples**2).sum((1, 2))
    largest = np.abs(samples).max()  # what cancels
    close(mean, -np.outer(action_gradient(lqr, K) @ s, s), scale=largest)
    variance = weights @ ((samples - mean) ** 2).sum((1, 2))
    close(score_variance(lqr, K, s, sigma, b), variance, scale=square)


@given(regulators(), SEEDS)
def test_score_variance__grows_as_one_over_sigma_squared_but_for_the_value_as_baseline(world, seed):
    lqr, K = world
    s = np.random.default_rng(seed).normal(size=len(lqr.A))
    d, g, v = len(K), action_gradient(lqr, K) @ s, state_value(lqr, K, s)
    small = 1e-6
    close(small**2 * score_variance(lqr, K, s, small, v + 1.0), d * (s @ s), rtol=1e-4)
    close(score_variance(lqr, K, s, small, v), (d + 1) * (s @ s) * (g @ g), rtol=1e-4,
          scale=(s @ s) * np.trace(curvature(lqr, cost_matrix(lqr, K))) ** 2)  # fmt: skip


@given(regulators(), st.integers(1, 4), SEEDS)
def test_theorem_3__a_compatible_critic_gives_the_gradient(world, m, seed):
    """E[∇_θμ ∇_a Q^w] = ∇_θ J = the complex step, though ∇_a Q^w is not ∇_a q; w is least squares
    over states of the second moment Σ."""
    lqr, K = world
    rng = np.random.default_rng(seed)
    basis, theta = rng.normal(size=(m, *K.shape)), rng.normal(size=m)
    H, Sigma = action_gradient(lqr, K), occupancy(lqr, K)
    S = np.linalg.cholesky(Sigma + 1e-13 * np.trace(Sigma) * np.eye(len(Sigma))).T
    w, slope = compatible(H, Sigma, basis)
    gains = lambda theta: K + np.tensordot(theta - theta0, basis, 1)
    theta0 = theta
    exact = complex_step(lambda theta: performance(lqr, gains(theta)), theta)
    close(slope, exact, rtol=1e-7)
    d_mu = -np.einsum("iab,tb->tia", basis, S)  # of states S, the rows
    critic = np.einsum("i,tia->ta", w, d_mu)
    size = np.abs(d_mu).max() * max(np.abs(critic).max(), np.abs(S @ H.T).max())
    close(np.einsum("tia,ta->i", d_mu, critic), exact, rtol=1e-6, scale=size)
    residual = np.einsum("tia,ta->i", d_mu, critic - S @ H.T)
    np.testing.assert_allclose(residual, 0, atol=1e-6 * size)


def test_theorem_3__does_not_need_a_right_critic():
    """A gain that sees the position alone: Q^w errs in ∇_a Q by a tenth and more, and still −H_w Σ
    along that gain is ∇_θ J."""
    lqr, K = spring(), np.array([[0.3, 0.0]])
    H, Sigma = action_gradient(lqr, K), occupancy(lqr, K)
    position = np.array([[[1.0, 0.0]]])
    (w,), (slope,) = compatible(H, Sigma, position)
    H_w = -w * position[0]
    assert np.abs(H_w - H).max() > 0.1 * np.abs(H).max()
    assert gradient(H_w, Sigma)[0, 0] == pytest.approx(slope, rel=1e-12)
    assert slope == pytest.approx(policy_gradient(lqr, K)[0, 0], rel=1e-12)


def test_compatible__of_gains_that_say_the_same_is_the_shortest():
    """Twice the same K_i: G is singular, and w is halved between them."""
    lqr, K = spring(), np.array([[0.3, 0.1]])
    H, Sigma = action_gradient(lqr, K), occupancy(lqr, K)
    one = np.array([[[1.0, 0.5]]])
    (w,), _ = compatible(H, Sigma, one)
    twice, _ = compatible(H, Sigma, np.concatenate([one, one]))
    np.testing.assert_allclose(twice, w / 2, rtol=1e-10)


@given(regulators())
def test_compatible__of_all_gains_is_minus_the_action_gradient(world):
    """Then Q^w has the right ∇_a, and w = −H is F⁻¹∇J: ∇J = −H Σ."""
    lqr, K = world
    H, Sigma = action_gradient(lqr, K), occupancy(lqr, K)
    assume(np.linalg.cond(Sigma) < 1e6)
    basis = np.eye(K.size).reshape(K.size, *K.shape)
    w, _ = compatible(H, Sigma, basis)
    close(w.reshape(K.shape), -H, rtol=1e-7)


@given(two_gains())
def test_errors__of_states_and_critic_are_the_whole(world):
    """s from the occupancy of another gain, q of another gain: the update is ∇J and both errors."""
    lqr, K, other = world
    H, Sigma, Sigma_b = action_gradient(lqr, K), occupancy(lqr, K), occupancy(lqr, other)
    wrong = action_gradient(lqr, K, critic=other)
    states, critic = errors(H, Sigma, wrong - H, Sigma_b)
    update = -wrong @ Sigma_b
    exact = complex_step(lambda K: performance(lqr, K), K)
    size = np.abs(H).max() * np.abs(Sigma).max() + np.abs(wrong).max() * np.abs(Sigma_b).max()
    close(exact + states + critic, update, scale=size)
    none, alone = errors(H, Sigma, wrong - H, Sigma)
    assert not none.any()
    close(alone, -wrong @ Sigma - exact, scale=size)


def test_theorem_1__needs_a_finite_cost():
    lqr, K = spring(), np.array([[-50.0, 0.0]])
    for ask in (action_gradient, exploration, lambda lqr, K: stochastic_gradient(lqr, K, 0.1)):
        with pytest.raises(ValueError, match=r"√γ ρ\(A − BK\) = .*must be < 1"):
            ask(lqr, K)
