"""Optimisers: the formula written again with scalars, closed forms, reductions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npgrad import OPTIMIZERS, clip_norm, soft_update
from npgrad.optimizers import (
    adam,
    adam_first,
    momentum,
    rmsprop,
    rmsprop_first,
    rmsprop_outside,
)

VECTORS = arrays(float, (5, 3), elements=st.floats(-10, 10))
SEEDS = st.integers(0, 2**32 - 1)
RATES = st.floats(0.0, 1.0)
DECAYS = st.floats(0.0, 0.99)
EPSILONS = st.floats(1e-8, 1.0)
INF = float("inf")


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


@given(
    VECTORS,
    RATES,
    DECAYS,
    DECAYS,
    EPSILONS,
    st.integers(1, 200),
    st.sampled_from((np.float64, np.float32)),
)
def test_adam__is_algorithm_1_of_kingma_and_ba(D, step_size, beta1, beta2, eps, first, dtype):
    """From step `first` on, with m and v at zero, to rounding; where terms of m cancel, that of the
    terms. Every 100 steps V below 1e-30 is flushed: √V is off by 1e-15 beside ε, M by 1e-30."""
    D[np.abs(D) < 1e-9] = 0.0  # d itself is rounded to multiples of 1e-18
    D, info = D.astype(dtype), np.finfo(dtype)
    statistics, m, v, size = np.zeros((2, 3), dtype), np.zeros(3), np.zeros(3), np.zeros(3)
    for t, d in enumerate(D, first):
        given_d, step = d.copy(), adam(d, statistics, t, step_size, beta1, beta2, eps)
        m = beta1 * m + (1 - beta1) * d.astype(float)
        v = beta2 * v + (1 - beta2) * d.astype(float) ** 2
        size = beta1 * size + (1 - beta1) * np.abs(d)
        root = np.sqrt(v / (1 - beta2**t)) + eps
        expected = step_size * m / (1 - beta1**t) / root
        largest = step_size * size / (1 - beta1**t) / root
        flushed = t // 100 > (first - 1) // 100
        error = (
            (64 * info.eps + flushed * 1e-15 / eps) * largest + flushed * 1e-30 / eps + info.tiny
        )
        assert (np.abs(step - expected) <= error).all()
        assert step.dtype == dtype and np.array_equal(d, given_d)
    sums = m / (1 - beta1), v / (1 - beta2)  # what the statistics are
    np.testing.assert_allclose(statistics, sums, rtol=0, atol=64 * info.eps * 500)  # 5 · 10²


@given(arrays(float, 3, elements=st.floats(-10, 10)), DECAYS, EPSILONS, RATES)
def test_first_steps__of_the_same_gradient_have_a_closed_form(d, decay, eps, step_size):
    """A hundred and one steps of the optimisers themselves."""
    m, moments = np.zeros((1, 3)), np.zeros((2, 3))
    d[np.abs(d) < 1e-7] = 0.0  # adam rounds d to multiples of 1e-18: here to 1e-11 of it
    for t in range(1, 102):
        step = rmsprop(d, m, t, step_size, decay=decay, eps=eps)
        close(step, rmsprop_first(d, t, step_size, decay, eps))
        step = adam(d, moments, t, step_size, eps=eps)
        np.testing.assert_allclose(step, adam_first(d, step_size, eps), rtol=1e-9, atol=1e-13)


def test_first_steps__of_rmsprop_are_too_long_and_of_adam_are_not():
    """ε → 0: η/√(1−α) at first, 10 η for α = .99, and still 1.26 η at t = 100; adam's are η."""
    d, m, moments = np.array([3.0]), np.zeros((1, 1)), np.zeros((2, 1))
    steps = [rmsprop(d, m, t, 1.0, eps=1e-30)[0] for t in range(1, 101)]
    close(steps[0], 10.0)
    close(steps, 1 / np.sqrt(1 - 0.99 ** np.arange(1, 101)))
    assert sorted(steps, reverse=True) == steps and 1.25 < steps[-1] < 1.26
    same = [adam(d, moments, t, 1.0)[0] for t in range(1, 101)]
    np.testing.assert_allclose(same, 1.0, rtol=1e-8)
    with_eps = rmsprop(d, np.zeros((1, 1)), 1, 1.0)  # A3C's .1 beside d² = 9
    close(with_eps, 3 / math.sqrt(0.09 + 0.1))


def test_defaults__are_the_papers():
    d = np.array([2.0])
    close(momentum(d, np.zeros((1, 1)), 1, 1.0), 0.01 * 2.0)
    close(rmsprop(d, np.zeros((1, 1)), 1, 1.0), 2.0 / math.sqrt(0.01 * 4.0 + 0.1))
    close(rmsprop_outside(d, np.zeros((1, 1)), 1, 1.0), 2.0 / (math.sqrt(0.01 * 4.0) + 1e-8))
    m = np.zeros((2, 1))
    close(adam(d, m, 1, 1.0), 2.0 / (2.0 + 1e-8))
    close(adam(d, m, 2, 1.0), 2.0 / (2.0 + 1e-8))
    close(m, [[(0.9 + 1.0) * 2.0], [(0.999 + 1.0) * 4.0]])


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@given(D=VECTORS)
def test_optimizers__change_their_statistics_in_place_only(name, D):
    optimizer = OPTIMIZERS[name]
    m = optimizer.statistics(D[0])
    assert m.shape == (optimizer.slots, 3) and not m.any() and m.dtype == D.dtype
    shared = m.view()
    step = optimizer.step(np.abs(D[0]) + 1.0, m, 1, 0.1)
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam__of_a_unit_that_no_longer_fires_has_no_denormal_statistics(dtype):
    m, tiny = np.zeros((2, 3), dtype), np.finfo(dtype).tiny
    for t in range(1, 12_000):
        d = np.array([1e-3, 0.0, 1.0], dtype) if t < 50 else np.array([0.0, 0.0, 1.0], dtype)
        step = adam(d, m, t, 1e-3)
        for x in (m, step):
            assert not ((x != 0) & (np.abs(x) < tiny)).any()
    assert m[0, 0] == 0.0 and m[0, 2] != 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.floats(-30, -1), SEEDS)
def test_adam__squares_no_gradient_into_a_denormal_number(dtype, exponent, seed):
    """d is rounded to multiples of so much that d² is far from them."""
    m, tiny = np.zeros((2, 4), dtype), np.finfo(dtype).tiny
    d = (10.0 ** (exponent * np.arange(1, 5)) * np.random.default_rng(seed).normal(size=4)).astype(
        dtype
    )
    for t in (1, 2):
        adam(d, m, t, 1e-3)
        assert not ((m != 0) & (np.abs(m) < tiny)).any()


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


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@given(D=VECTORS, data=st.data())
def test_optimizers__refuse_memory_that_is_used_twice(name, D, data):
    """Overlapping views too; nothing has changed then. Views that only interleave are right."""
    optimizer, memory = OPTIMIZERS[name], np.arange(9.0)
    d, m = memory[3:6], optimizer.statistics(memory[:3])
    start = data.draw(st.integers(1, 5))
    for out in (d, d[::-1], memory[start : start + 3], *m[:1]):
        with pytest.raises(ValueError, match="out shares memory with"):
            optimizer.step(d, m, 1, 0.1, out=out)
    for shared in m[:1]:
        with pytest.raises(ValueError, match="d shares memory with m"):
            optimizer.step(shared, m, 1, 0.1)
    with pytest.raises(ValueError, match="out shares memory with step_size"):
        optimizer.step(D[0], m, 1, d, out=d)
    assert np.array_equal(memory, np.arange(9.0)) and not m.any()
    memory[:6:2] = D[0]
    step = optimizer.step(D[0], m.copy(), 1, 0.1)
    assert np.array_equal(optimizer.step(memory[:6:2], m, 1, 0.1, out=memory[1:7:2]), step)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@given(arrays(np.int8, 3), st.sampled_from((np.float32, np.float64)), RATES)
def test_optimizers__compute_in_the_precision_of_the_statistics(name, d, dtype, step_size):
    """Whatever d and the step size are: integers, single, double, lists."""
    step, theta = OPTIMIZERS[name].step, np.zeros(3, dtype)
    statistics, rate = OPTIMIZERS[name].statistics, dtype(step_size)
    expected = step(d.astype(dtype), statistics(theta), 1, float(rate))
    for given_d in (d, d.astype(np.float32), d.astype(float), d.tolist()):
        for eta in (rate, float(rate), np.full(3, rate), np.full(3, float(rate)), [rate] * 3):
            found = step(given_d, statistics(theta), 1, eta)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers__refuse_what_does_not_fit(name):
    """Before the statistics change."""
    optimizer, d = OPTIMIZERS[name], np.ones(3)
    m = optimizer.statistics(d)
    n, single, whole = optimizer.slots, np.zeros(3, np.float32), np.zeros(3, int)
    values = [(d, m, t, 0.1) for t in (0, -1, float("nan"))]
    values += [(x, m, 1, 0.1) for x in (d[:1], d[:2], d[None], d[0], np.ones((3, 1)))]
    values += [(d, x, 1, 0.1) for x in (m[:, :1], np.ones((n + 1, 3)), np.ones(3))]
    values += [(d, m, 1, eta) for eta in (d[:1], d[:2], d[None])]
    values += [(d, m, 1, 0.1, out) for out in (d[:1].copy(), np.ones((1, 3)), single, whole)]
    kinds = [(d, m.astype(int), 1, 0.1), (whole, m.astype(int), 1, 0.1), (d + 1j, m, 1, 0.1)]
    kinds += [(d, m, 1, 1j), (d, m, 1, None), (np.array(["a"] * 3), m, 1, 0.1)]
    for error, wrong in ((ValueError, values), (TypeError, kinds)):
        for arguments in wrong:
            out = {"out": arguments[4]} if len(arguments) == 5 else {}
            with pytest.raises(error, match="must be"):
                optimizer.step(*arguments[:4], **out)
    assert not m.any()


@pytest.mark.parametrize("step", [momentum, rmsprop, rmsprop_outside, adam])
@given(st.sampled_from((-0.1, 1.0, 1.5, float("nan"))), st.sampled_from((0.0, -1.0, float("nan"))))
def test_optimizers__refuse_settings_that_define_no_step(step, decay, eps):
    names = ("beta1", "beta2") if step is adam else ("decay",)
    wrong = [{name: decay} for name in names] + [{"eps": eps}] * (step is not momentum)
    for options in wrong:
        with pytest.raises(ValueError, match="must be"):
            step(np.ones(3), np.zeros((1 + (step is adam), 3)), 1, 0.1, **options)


@given(VECTORS, st.floats(0.0, 1.0), st.integers(1, 6))
def test_soft_update__closed_form(D, tau, k):
    """k updates towards a fixed θ leave (1−τ)ᵏ of the distance; τ = 1 copies exactly."""
    target, theta = D[0].copy(), D[1].copy()
    for _ in range(k):
        soft_update(target, theta, tau)
    np.testing.assert_allclose(target, D[1] + (1 - tau) ** k * (D[0] - D[1]), atol=1e-12)
    assert np.array_equal(theta, D[1])
    soft_update(target, theta, 1.0)
    assert np.array_equal(target, theta)


@given(arrays(np.int8, (2, 3)), st.floats(0.0, 1.0), st.permutations((np.float32, float, int)))
def test_soft_update__is_right_in_any_precision_or_refuses(x, tau, dtypes):
    target, theta = x[0].astype(dtypes[0]), x[1].astype(dtypes[1])
    if dtypes[0] is int:
        with pytest.raises(TypeError, match="theta_target of dtype int64: must be floating-point"):
            soft_update(target, theta, tau)
        return
    soft_update(target, theta, tau)
    assert target.dtype == dtypes[0]
    eps = np.finfo(target.dtype).eps
    np.testing.assert_allclose(target, x[0] + tau * (x[1] - x[0].astype(float)), atol=512 * eps)


@given(st.sampled_from((-0.1, 1.1, float("nan"), float("inf"))))
def test_soft_update__refuses_other_taus_and_shapes(tau):
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        soft_update(np.zeros(3), np.zeros(3), tau)
    for theta in (np.zeros(1), np.zeros((1, 3)), np.zeros(())):
        with pytest.raises(ValueError, match="theta of shape"):
            soft_update(np.zeros(3), theta, 1.0)


EXPONENTS = {np.float32: st.integers(-37, 38), np.float64: st.integers(-307, 307)}


@pytest.mark.parametrize("dtype", EXPONENTS)
@given(data=st.data(), d=arrays(float, 3, elements=st.floats(-3, 3)))
def test_clip_norm__shortens_and_keeps_the_direction(dtype, data, d):
    """Also where squares overflow or underflow; a denormal number is off by a few of the least."""
    info, least = np.finfo(dtype), 16 * float(np.finfo(dtype).smallest_subnormal)
    d = (d * 10.0 ** data.draw(EXPONENTS[dtype])).astype(dtype)
    limit = float(dtype(data.draw(st.floats(0.1, 3.0)) * 10.0 ** data.draw(EXPONENTS[dtype])))
    clipped, exact = d.copy(), math.hypot(*d.tolist())
    norm = clip_norm(clipped, limit)
    assert abs(norm - exact) <= 8 * float(info.eps) * exact + least
    factor = Fraction(limit) / Fraction(exact) if exact > limit else 1
    expected = [float(factor * Fraction(x)) for x in d.tolist()]
    np.testing.assert_allclose(clipped, expected, rtol=16 * info.eps, atol=least)
    assert clipped.dtype == dtype


@given(st.sampled_from((0.0, -1.0, float("nan"))), st.sampled_from((INF, -INF, float("nan"))))
def test_clip_norm__refuses_what_has_no_norm(limit, bad):
    with pytest.raises(ValueError, match="limit = "):
        clip_norm(np.ones(2), limit)
    for d in (np.ones((2, 2)), np.ones(2, int), np.ones(2) + 0j, np.ones(())):
        with pytest.raises(ValueError, match=r"must be floating-point and one vector"):
            clip_norm(d, 1.0)
    for d in (np.array([1.0, bad]), np.array([bad, 1e200]), np.array([1e30, bad], np.float32)):
        with pytest.raises(FloatingPointError, match="the gradient is not finite"):
            clip_norm(d, 1.0)
    assert clip_norm(np.zeros(0), 1.0) == 0.0 and clip_norm(np.zeros(3), 1.0) == 0.0
