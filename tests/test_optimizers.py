"""Optimisers: the formula written again with scalars, closed forms, reductions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npgrad import OPTIMIZERS, clip_norm, soft_update
from npgrad.optimizers import adam, adam_onto, momentum, rmsprop, rmsprop_outside

VECTORS = arrays(float, (5, 3), elements=st.floats(-10, 10))
RATES = st.floats(0.0, 1.0)
DECAYS = st.floats(0.0, 0.99)
EPSILONS = st.floats(1e-8, 1.0)


def steps_of(optimizer, D, slots, step_size, **options):
    m = np.zeros((slots, D.shape[1]))
    before = D.copy()
    steps = [optimizer(d, m, t, step_size, **options) for t, d in enumerate(D, 1)]
    assert np.array_equal(D, before)
    return np.array(steps)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@given(VECTORS, RATES)
def test_sgd__is_step_size_times_gradient(D, step_size):
    close(steps_of(OPTIMIZERS["sgd"].step, D, 0, step_size), step_size * D)


@given(VECTORS, RATES, DECAYS)
def test_momentum__is_the_discounted_sum(D, step_size, decay):
    """m_T = (1−α) Σ_t α^{T−t} d_t."""
    for T, step in enumerate(steps_of(momentum, D, 1, step_size, decay=decay), 1):
        m = (1 - decay) * sum(decay ** (T - t) * D[t - 1] for t in range(1, T + 1))
        close(step, step_size * m)


@given(VECTORS, RATES, DECAYS, EPSILONS)
def test_rmsprop__has_epsilon_inside_the_root(D, step_size, decay, eps):
    for T, step in enumerate(steps_of(rmsprop, D, 1, step_size, decay=decay, eps=eps), 1):
        for i in range(3):
            g = (1 - decay) * sum(decay ** (T - t) * D[t - 1, i] ** 2 for t in range(1, T + 1))
            close(step[i], step_size * D[T - 1, i] / math.sqrt(g + eps))


@given(VECTORS, RATES, DECAYS, EPSILONS)
def test_rmsprop_outside__has_epsilon_outside_the_root(D, step_size, decay, eps):
    steps = steps_of(rmsprop_outside, D, 1, step_size, decay=decay, eps=eps)
    for T, step in enumerate(steps, 1):
        for i in range(3):
            g = (1 - decay) * sum(decay ** (T - t) * D[t - 1, i] ** 2 for t in range(1, T + 1))
            close(step[i], step_size * D[T - 1, i] / (math.sqrt(g) + eps))


@given(VECTORS, RATES, DECAYS, DECAYS, EPSILONS)
def test_adam__is_the_bias_corrected_ratio(D, step_size, beta1, beta2, eps):
    steps = steps_of(adam, D, 2, step_size, beta1=beta1, beta2=beta2, eps=eps)
    for T, step in enumerate(steps, 1):
        for i in range(3):
            past = range(1, T + 1)
            mean = (1 - beta1) * sum(beta1 ** (T - t) * D[t - 1, i] for t in past)
            square = (1 - beta2) * sum(beta2 ** (T - t) * D[t - 1, i] ** 2 for t in past)
            mean, square = mean / (1 - beta1**T), square / (1 - beta2**T)
            close(step[i], step_size * mean / (math.sqrt(square) + eps))


def test_defaults__are_the_papers():
    d = np.array([2.0])
    close(momentum(d, np.zeros((1, 1)), 1, 1.0), 0.01 * 2.0)
    close(rmsprop(d, np.zeros((1, 1)), 1, 1.0), 2.0 / math.sqrt(0.01 * 4.0 + 0.1))
    close(rmsprop_outside(d, np.zeros((1, 1)), 1, 1.0), 2.0 / (math.sqrt(0.01 * 4.0) + 1e-8))
    m = np.zeros((2, 1))
    adam(d, m, 1, 1.0)
    close(m, [[0.1 * 2.0], [0.001 * 4.0]])
    close(adam(np.zeros(1), np.zeros((2, 1)) + 1.0, 1, 1.0), 9.0 / (math.sqrt(999.0) + 1e-8))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@given(D=VECTORS)
def test_optimizers__change_their_statistics_in_place_only(name, D):
    optimizer = OPTIMIZERS[name]
    m = optimizer.statistics(D[0])
    assert m.shape == (optimizer.slots, 3) and not m.any() and m.dtype == D.dtype
    shared = m.view()
    step = optimizer.step(D[0] + 1.0, m, 1, 0.1)
    assert step.shape == (3,) and not np.shares_memory(step, m)
    assert np.array_equal(m, shared)
    assert optimizer.slots == 0 or shared.any()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@given(D=VECTORS, step_sizes=arrays(float, 3, elements=RATES))
def test_optimizers__take_a_step_size_for_each_entry_and_write_into_out(name, D, step_sizes):
    optimizer, out = OPTIMIZERS[name], np.empty(3)
    m, alone, D = optimizer.statistics(D[0]), optimizer.statistics(D[0]), np.vstack([D, D[:1]])
    for t, d in enumerate(D, 1):
        before = d.copy()
        assert optimizer.step(d, m, t, step_sizes, out=out) is out
        each = [optimizer.step(d, alone.copy(), t, step_size)[i]
                for i, step_size in enumerate(step_sizes.tolist())]  # fmt: skip
        close(out, each)
        optimizer.step(d, alone, t, 1.0)
        assert np.array_equal(d, before) and np.array_equal(m, alone)


@given(VECTORS, st.floats(0, 1), st.integers(1, 200))
def test_adam_onto__is_adam(D, step_size, first):
    """Also its moments, but for the constant factors 1 − β₁ and 1 − β₂."""
    D[np.abs(D) < 1e-9] = 0.0  # whose squares would be flushed
    theta, m, plain, m_plain = np.ones(3), np.zeros((2, 3)), np.ones(3), np.zeros((2, 3))
    for t, d in enumerate(D, first):
        plain += adam(d, m_plain, t, step_size)
        adam_onto(theta, d.copy(), m, t, step_size)
    np.testing.assert_allclose(theta, plain, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(m * [[0.1], [0.001]], m_plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_onto__of_a_unit_that_no_longer_fires_has_no_denormal_moment(dtype):
    theta, m = np.zeros(3, dtype), np.zeros((2, 3), dtype)
    tiny = np.finfo(dtype).tiny
    for t in range(1, 12_000):
        d = np.array([1e-3, 0.0, 1.0], dtype) if t < 50 else np.array([0.0, 0.0, 1.0], dtype)
        adam_onto(theta, d, m, t, 1e-3)
        assert not ((m != 0) & (np.abs(m) < tiny)).any()
    assert m[0, 0] == 0.0 and m[0, 2] != 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers__statistics_do_not_decay_into_denormal_numbers(name, dtype):
    """Where a gradient is 0 for good, moments that were small already; others stay."""
    optimizer, (tiny, one) = OPTIMIZERS[name], np.array([np.finfo(dtype).tiny, 1.0], dtype)
    m = optimizer.statistics(np.zeros(2, dtype))
    m[:] = 1e9 * tiny, one
    for t in range(1, 4001):
        optimizer.step(np.array([0.0, 1.0], dtype), m, t, 1e-3)
        assert not ((m != 0) & (np.abs(m) < tiny)).any()
    assert (m[:, 0] == 0.0).all() and (m[:, 1] > 0.0).all()


@given(VECTORS, st.floats(0.0, 1.0), st.integers(1, 6))
def test_soft_update__closed_form(D, tau, k):
    """k updates towards a fixed θ leave (1−τ)ᵏ of the distance; τ = 1 copies exactly."""
    target, theta = D[0].copy(), D[1].copy()
    for i in range(k):
        soft_update(target, theta, tau, np.empty(3) if i % 2 else None)
    np.testing.assert_allclose(target, D[1] + (1 - tau) ** k * (D[0] - D[1]), atol=1e-12)
    assert np.array_equal(theta, D[1])
    soft_update(target, theta, 1.0)
    assert np.array_equal(target, theta)


@given(VECTORS, st.floats(0.1, 20.0))
def test_clip_norm__shortens_and_keeps_the_direction(D, limit):
    d = D[0].copy()
    norm = clip_norm(d, limit)
    assert abs(norm - math.hypot(*D[0])) <= 1e-12 * (1 + norm)
    np.testing.assert_allclose(d, D[0] * min(1.0, limit / max(norm, 1e-300)), rtol=1e-12)
