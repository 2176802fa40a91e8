"""The regulator: linear solves against sums, numbers, iteration; the environment beside them."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import regulators
from worlds import SEEDS

import algorithms.exact.register  # noqa: F401
from algorithms.exact.lqr import (
    LQR,
    LQREnv,
    action_value,
    closed_loop,
    cost_matrix,
    occupancy,
    optimal_gain,
    performance,
    policy_gradient,
    spring,
    state_value,
)
from npgrad import complex_step


def close(a, b, rtol=1e-8):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@given(regulators())
def test_performance__is_the_sum_of_expected_rewards(world):
    """Discounted second moments γᵗ E s sᵀ pushed forward a step at a time, and their sum."""
    lqr, K = world
    M, X, total, seen = lqr.A - lqr.B @ K, lqr.Sigma0, 0.0, 0.0
    for t in range(1200):
        total -= np.trace((lqr.Q + K.T @ lqr.R @ K) @ X)
        seen = seen + X
        X = lqr.gamma * M @ X @ M.T + lqr.gamma ** (t + 1) * lqr.W
    close(performance(lqr, K), total)
    close(occupancy(lqr, K), seen)


@given(regulators(), SEEDS)
def test_values__satisfy_bellmans_equation(world, seed):
    """v(s) = q(s, −Ks) and q(s, a) = r + γ E v(As + Ba + ε); the noise's part by its moments."""
    lqr, K = world
    rng = np.random.default_rng(seed)
    S, A = rng.normal(size=(4, len(lqr.A))), rng.normal(size=(4, lqr.B.shape[1]))
    close(state_value(lqr, K, S), action_value(lqr, K, S, -S @ K.T))
    r = -np.einsum("ti,ij,tj->t", S, lqr.Q, S) - np.einsum("ti,ij,tj->t", A, lqr.R, A)
    v2 = state_value(lqr, K, S @ lqr.A.T + A @ lqr.B.T) - np.trace(cost_matrix(lqr, K) @ lqr.W)
    close(action_value(lqr, K, S, A), r + lqr.gamma * v2)


@given(regulators())
def test_performance__is_the_value_of_the_start(world):
    lqr, K = world
    root = np.linalg.cholesky(lqr.Sigma0 + 1e-14 * np.eye(len(lqr.A)))
    S = np.sqrt(len(root)) * root.T  # mean s sᵀ = Σ₀
    close(performance(lqr, K), np.mean(state_value(lqr, K, S)), rtol=1e-7)


@given(regulators())
def test_policy_gradient__is_the_complex_step(world):
    lqr, K = world
    close(policy_gradient(lqr, K), complex_step(lambda K: performance(lqr, K), K), rtol=1e-7)


@given(regulators())
def test_optimal_gain__is_where_the_gradient_vanishes_and_value_iteration_ends(world):
    lqr, K = world
    best, P = optimal_gain(lqr), lqr.Q
    assert performance(lqr, best) >= performance(lqr, K) - 1e-9 * abs(performance(lqr, K))
    A, B, R, gamma = lqr.A, lqr.B, lqr.R, lqr.gamma
    cancels = gamma * B.T @ cost_matrix(lqr, best) @ A, occupancy(lqr, best)
    scale = np.prod([np.abs(factor).max() for factor in cancels])
    assert np.abs(policy_gradient(lqr, best)).max() <= 1e-8 * (1 + scale)
    for _ in range(400):
        gain = np.linalg.solve(R + gamma * B.T @ P @ B, gamma * B.T @ P @ A)
        P = lqr.Q + gain.T @ R @ gain + gamma * (A - B @ gain).T @ P @ (A - B @ gain)
    close(gain, best, rtol=1e-6)


@given(st.floats(0.1, 2), st.floats(0.1, 2), st.floats(0.1, 2), st.floats(0.1, 0.99))
def test_optimal_gain__of_one_dimension_is_the_quadratic_equations(a, b, r, gamma):
    """P = q + γa²P − (γabP)²/(r + γb²P), q = 1: a quadratic in P, of which P > 0."""
    lqr = LQR([[a]], [[b]], [[1.0]], [[r]], [[0.0]], [[1.0]], gamma)
    B, C = r * (1 - gamma * a**2) - gamma * b**2, -r
    P = (-B + np.sqrt(B * B - 4 * gamma * b**2 * C)) / (2 * gamma * b**2)
    close(optimal_gain(lqr)[0, 0], gamma * a * b * P / (r + gamma * b**2 * P))
    close(cost_matrix(lqr, optimal_gain(lqr))[0, 0], P)


@given(regulators(), SEEDS)
def test_environment__is_the_same_arrays(world, seed):
    lqr, _ = world
    env, rng = LQREnv(replace(lqr, W=0 * lqr.W), 2.0, horizon=5), np.random.default_rng(seed)
    s, _ = env.reset(seed=seed)
    for t in range(1, 6):
        a = rng.uniform(-2, 2, lqr.B.shape[1])
        s2, r, terminated, truncated, _ = env.step(a)
        close(s2, lqr.A @ s + lqr.B @ a)
        close(r, -(s @ lqr.Q @ s) - a @ lqr.R @ a)
        assert (terminated, truncated) == (False, t == 5)
        s = s2


def test_environment__noise_has_the_covariances_asked_for():
    """Of 4000 draws: entries of the mean of s sᵀ have deviation ≤ √(2/4000) of the diagonal."""
    Sigma0 = np.array([[1.0, 0.5], [0.5, 0.5]])
    lqr = replace(spring(), A=np.zeros((2, 2)), W=2 * Sigma0, Sigma0=Sigma0)
    env = LQREnv(lqr, 1.0, 10)
    starts = np.array([env.reset(seed=k)[0] for k in range(4000)])
    after = np.array([env.step(np.zeros(1))[0] for _ in range(4000)])
    for samples, covariance in ((starts, Sigma0), (after, 2 * Sigma0)):
        moment = samples.T @ samples / len(samples)
        assert np.abs(moment - covariance).max() <= 6 * np.sqrt(2 / 4000) * covariance.max()


def test_environment__is_registered_and_deterministic_given_the_seed():
    env = gymnasium.make("npgrad/LQR-v0")
    first, second = (env.reset(seed=3)[0] for _ in range(2))
    assert np.array_equal(first, second) and env.action_space.shape == (1,)
    assert env.unwrapped.lqr.gamma == spring().gamma


def test_spring__optimum_rarely_meets_the_bounds():
    """K* s, s ~ N(0, Σ) of any time, has deviation below a third of the action bound."""
    lqr = spring()
    K = optimal_gain(lqr)
    X, worst = lqr.Sigma0, 0.0
    for _ in range(100):
        worst = max(worst, np.sqrt((K @ X @ K.T).max()))
        M = closed_loop(lqr, K)
        X = M @ X @ M.T + lqr.W
    assert 3 * worst < 4.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(gamma=1.0), r"gamma = 1.0: must be in \[0, 1\)"),
        (dict(A=np.eye(3)), r"A has shape \(3, 3\): must be \(2, 2\)"),
        (dict(R=[[0.0]]), r"R = \[\[0.0\]\]: must be positive definite"),
        (dict(Q=np.diag([1.0, -1.0])), "Q = .*must be positive semidefinite"),
        (dict(W=[[1.0, 2.0], [0.0, 1.0]]), "W = .*must be symmetric"),
    ],
)
def test_lqr__names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        replace(spring(), **change)


def test_gains__without_finite_cost_are_refused():
    lqr = spring()
    with pytest.raises(ValueError, match=r"√γ ρ\(A − BK\) = .*must be < 1"):
        performance(lqr, np.array([[-50.0, 0.0]]))
    hopeless = replace(lqr, A=2 * np.eye(2), B=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="no linear policy has a finite cost"):
        optimal_gain(hopeless)
