"""One state at a time gives the numbers of the batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_reinforce import NETWORKS, Scripted

from algorithms.actor_critic import OneStep, State
from algorithms.common.online import (
    Actor,
    Ascent,
    Critic,
    finite,
    softmax_sample,
    softmax_score,
)
from algorithms.common.policy import make_policy, make_value
from npgrad import OPTIMIZERS, Softmax

SEEDS = st.integers(0, 2**32 - 1)


@given(NETWORKS, st.integers(0, 2), SEEDS)
def test_actor__is_the_policy_at_one_state(network, d, seed):
    rng = np.random.default_rng(seed)
    policy = make_policy(Scripted(d=d), network)
    theta = 0.3 * rng.normal(size=policy.model.layout.size)  # σ far from 0: (a − μ)/σ cancels
    actor = Actor(policy, theta, np.empty_like(theta))
    for noise, _ in zip(actor.noise(rng), range(3)):
        theta += 0.3 * rng.normal(size=theta.size)  # later changes in place are seen
        s = rng.normal(size=2)
        a = actor.act(s, noise)
        drawn = policy.head.sample(policy.model(theta, s), noise)
        np.testing.assert_allclose(a, drawn, rtol=1e-9, atol=1e-11)
        c = rng.normal()
        expected = policy.score(theta, s[None], np.asarray(a)[None], np.array([c]))
        np.testing.assert_allclose(actor.score(c), expected, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(c * actor.score(), expected, rtol=1e-9, atol=1e-11)


@given(NETWORKS, SEEDS)
def test_critic__is_the_value_at_one_state(network, seed):
    rng = np.random.default_rng(seed)
    value = make_value(Scripted(), network)
    w = rng.normal(size=value.layout.size)
    critic = Critic(value, w, np.empty_like(w))
    for s, s2 in rng.normal(size=(3, 2, 2)):
        w += rng.normal(size=w.size)
        assert critic.value(s) == pytest.approx(value(w, s)[0], rel=1e-11, abs=1e-13)
        assert critic.peek(s2) == pytest.approx(value(w, s2)[0], rel=1e-11, abs=1e-13)
        _, pullback = value.vjp(w, s)
        c, expected = rng.normal(), pullback(np.ones(1))[0]
        np.testing.assert_allclose(critic.gradient(c), c * expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(critic.gradient(), expected, rtol=1e-10, atol=1e-12)


@given(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.sampled_from((float, np.float32)),
    st.integers(1, 40),
    st.integers(1, 40),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    SEEDS,
)
def test_ascent__is_the_optimiser_on_theta_and_on_w(name, dtype, n, m, step_sizes, seed):
    """Of gradients c d, wherever they lie; θ and w stay two arrays of the State."""
    rng, optimizer = np.random.default_rng(seed), OPTIMIZERS[name]
    theta, w = rng.normal(size=n).astype(dtype), rng.normal(size=m).astype(dtype)
    start = optimizer.statistics(np.concatenate((theta, w)))
    state = State(theta.copy(), w.copy(), np.zeros(0), np.zeros(0), start, rng)
    ascend = Ascent(OneStep(step_size=step_sizes[0], step_size_w=step_sizes[1], optimizer=name),
                    state)  # fmt: skip
    m_theta, m_w = optimizer.statistics(theta), optimizer.statistics(w)
    for t in range(1, 5):
        d_theta, d_w = rng.normal(size=n).astype(dtype), rng.normal(size=m).astype(dtype)
        c = 1.0 if t < 3 else rng.normal()
        theta += optimizer.step(dtype(c) * d_theta, m_theta, t, step_sizes[0])
        w += optimizer.step(dtype(c) * d_w, m_w, t, step_sizes[1])
        if t % 2:
            ascend.d_theta[:], ascend.d_w[:] = d_theta, d_w
            d_theta, d_w = ascend.d_theta, ascend.d_w
        ascend(d_theta, d_w, c)
        close = dict(rtol=1e-9, atol=1e-12) if dtype is float else dict(rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(state.theta, theta, **close)
        np.testing.assert_allclose(state.w, w, **close)
        assert state.theta.dtype == state.w.dtype == state.statistics.dtype == dtype
        assert state.optimizer_steps == t


@given(st.lists(st.floats(-800, 800), min_size=1, max_size=6), st.floats(-9, 9), st.data())
def test_softmax_score__is_the_heads(h, c, data):
    a = data.draw(st.integers(0, len(h) - 1))
    expected = c * Softmax(len(h)).score(np.array(h)[None], np.array([a]))[0]
    np.testing.assert_allclose(softmax_score(h, a, c), expected, rtol=1e-13, atol=1e-300)


@given(st.lists(st.floats(-800, 800) | st.sampled_from((0.0, 1.0)), min_size=1, max_size=6), SEEDS)
def test_softmax_sample__is_the_heads(h, seed):
    """Of equals the first, as argmax has it."""
    head = Softmax(len(h))
    for noise in (head.noise(np.random.default_rng(seed), 1)[0], np.zeros(len(h))):
        assert softmax_sample(h, noise.tolist()) == head.sample(np.array(h), noise)


@given(arrays(float, st.integers(0, 4)))
def test_finite__is_that_of_numpy(x):
    assert finite(x.tolist()) == np.isfinite(x).all()
    assert finite([1e308, 1e308])
