"""π and v̂ along a rollout: the numbers of the model, whole, of any length, again and again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reinforce import NETWORKS, Scripted

from algorithms.common.policy import Network, make_actor_critic
from algorithms.common.segment import Segment

SEEDS = st.integers(0, 2**32 - 1)
LINEAR = Network(approximator="linear")
TRUNKS = st.sampled_from(("shared", "separate"))
ANY_ACTIVATION = st.builds(
    replace, NETWORKS, activation=st.sampled_from(("tanh", "relu", "softplus", "elu", "identity"))
)


@given(
    ANY_ACTIVATION,
    TRUNKS,
    st.integers(0, 2),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from((np.float64, np.float32)),
    SEEDS,
)
def test_segment__is_the_model_and_its_vjp(network, trunk, d, lengths, width, dtype, seed):
    """h and v̂ as the model has them; backward(g_h, g_v) = pullback((g_h, g_v)) of the k steps,
    whatever the segment before was and wherever θ has moved since."""
    rng = np.random.default_rng(seed)
    policy = make_actor_critic(Scripted(d=d), network, trunk)
    theta = rng.normal(size=policy.model.layout.size).astype(dtype)
    segment, m = Segment(policy, theta, 4, width), policy.head.size
    close = dict(rtol=1e-9, atol=1e-11) if dtype is np.float64 else dict(rtol=1e-3, atol=1e-3)
    for k in lengths:
        theta += 0.3 * rng.normal(size=theta.size).astype(dtype)
        S = rng.normal(size=(k + 1, width, 2))
        s = S[:, 0] if width == 1 else S
        for t in range(k):
            h = policy.model(theta.astype(float), s[t])[..., :-1]
            np.testing.assert_allclose(segment.act(t, s[t]), h, **close)
        h, v = segment.evaluate(k, s[k])
        y = policy.model(theta.astype(float), S.reshape(-1, 2))
        assert h.shape == (k * width, m) and v.shape == ((k + 1) * width,)
        np.testing.assert_allclose(h, y[: k * width, :m], **close)
        np.testing.assert_allclose(v, y[:, m], **close)
        np.testing.assert_allclose(segment.states(k), S[:k].reshape(-1, 2), rtol=1e-6)
        g_h, g_v = rng.normal(size=(k * width, m)), rng.normal(size=k * width)
        _, pullback = policy.model.vjp(theta.astype(float), S[:k].reshape(-1, 2))
        expected, _ = pullback(np.concatenate([g_h, g_v[:, None]], 1))
        np.testing.assert_allclose(segment.backward(g_h, g_v), expected, **close)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    TRUNKS,
    st.integers(1, 4),
    st.sampled_from((np.nan, np.inf, -np.inf)),
    st.booleans(),
    st.data(),
)
def test_check_finite__names_the_first_step_that_is_not(trunk, k, bad, in_reward, data):
    """And nothing that has not been seen in this segment: what the rows held before may be bad."""
    policy = make_actor_critic(Scripted(), LINEAR, trunk)
    segment = Segment(policy, np.zeros(policy.model.layout.size), 4)

    def see(S, k):
        for t in range(k):
            segment.act(t, S[t])
        segment.evaluate(k, S[k])

    S, r = np.arange(10.0).reshape(5, 2), [0.5, 1.5, 2.5, 3.5][:k]
    see(np.full((5, 2), bad), 4)
    see(S, k)
    segment.check_finite(k, r)
    t = data.draw(st.integers(0, k - 1))
    if in_reward:
        r[t] = bad
    else:
        S[t + 1, data.draw(st.integers(0, 1))] = bad
    see(S, k)
    with pytest.raises(FloatingPointError) as caught:
        segment.check_finite(k, r)
    assert str(caught.value).startswith(f"the environment returned reward {r[t]} and observation")
    assert str(S[t + 1 : t + 2]) in str(caught.value)


@given(st.sampled_from((1e308, -1e308)), TRUNKS)
def test_check_finite__lets_finite_numbers_pass_whose_sum_is_not(huge, trunk):
    policy = make_actor_critic(Scripted(), LINEAR, trunk)
    segment = Segment(policy, np.zeros(policy.model.layout.size), 3)
    for t in range(3):
        segment.act(t, np.full(2, huge))
    with np.errstate(all="ignore"):
        segment.evaluate(3, np.full(2, huge))
        segment.check_finite(3, [huge] * 3)
