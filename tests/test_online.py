"""One state at a time gives the numbers of the batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_reinforce import NETWORKS, Scripted

from algorithms.common.online import Actor, Critic, finite, softmax_score
from algorithms.common.policy import make_policy, make_value
from npgrad import Softmax

SEEDS = st.integers(0, 2**32 - 1)


@given(NETWORKS, st.integers(0, 2), SEEDS)
def test_actor__is_the_policy_at_one_state(network, d, seed):
    rng = np.random.default_rng(seed)
    policy = make_policy(Scripted(d=d), network)
    theta = 0.3 * rng.normal(size=policy.model.layout.size)  # σ far from 0: (a − μ)/σ cancels
    actor = Actor(policy, theta)
    for noise, _ in zip(actor.noise(rng), range(3)):
        theta += 0.3 * rng.normal(size=theta.size)  # later changes in place are seen
        s = rng.normal(size=2)
        a = actor.act(s, noise)
        drawn = policy.head.sample(policy.model(theta, s), noise)
        np.testing.assert_allclose(a, drawn, rtol=1e-9, atol=1e-11)
        expected = policy.score(theta, s[None], np.asarray(a)[None], np.ones(1))
        np.testing.assert_allclose(actor.score(a), expected, rtol=1e-9, atol=1e-11)


@given(NETWORKS, SEEDS)
def test_critic__is_the_value_at_one_state(network, seed):
    rng = np.random.default_rng(seed)
    value = make_value(Scripted(), network)
    w = rng.normal(size=value.layout.size)
    critic = Critic(value, w)
    for s, s2 in rng.normal(size=(3, 2, 2)):
        w += rng.normal(size=w.size)
        assert critic.value(s) == pytest.approx(value(w, s)[0], rel=1e-11, abs=1e-13)
        assert critic.peek(s2) == pytest.approx(value(w, s2)[0], rel=1e-11, abs=1e-13)
        _, pullback = value.vjp(w, s)
        expected = pullback(np.ones(1))[0]
        np.testing.assert_allclose(critic.gradient(), expected, rtol=1e-10, atol=1e-12)


@given(st.lists(st.floats(-800, 800), min_size=1, max_size=6), st.data())
def test_softmax_score__is_the_heads(h, data):
    h, a = np.array(h), data.draw(st.integers(0, len(h) - 1))
    expected = Softmax(len(h)).score(h[None], np.array([a]))[0]
    np.testing.assert_allclose(softmax_score(h, a), expected, rtol=1e-13, atol=0)


@given(arrays(float, st.integers(0, 4)))
def test_finite__is_that_of_numpy(x):
    assert finite(x) == np.isfinite(x).all()
