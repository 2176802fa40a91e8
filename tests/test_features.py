"""Fourier and polynomial features against their definitions."""

from itertools import product

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import given
from hypothesis import strategies as st
from test_reinforce import Scripted

from algorithms import actor_critic
from algorithms.common.features import Features
from algorithms.common.policy import Network


class Bounded(Scripted):
    def __init__(self, low, high):
        super().__init__(n=len(low))
        self.observation_space = Box(np.array(low, np.float32), np.array(high, np.float32))


@given(st.sampled_from(("fourier", "polynomial")), st.integers(1, 3), st.integers(1, 3), st.data())
def test_features__are_the_basis(basis, d, order, data):
    low = np.array(data.draw(st.lists(st.integers(-4, 0), min_size=d, max_size=d)))
    high = low + data.draw(st.integers(1, 4))
    s = np.array(data.draw(st.lists(st.floats(0, 1), min_size=d, max_size=d)))
    env = Features(Bounded(low, high), basis, order)
    x = env.observation(low + s * (high - low))
    if basis == "fourier":
        expected = [np.cos(np.pi * sum(c * s)) for c in product(range(order + 1), repeat=d)]
    else:
        expected = [np.prod((2 * s - 1) ** c) for c in product(range(order + 1), repeat=d)]
    assert env.observation_space.shape == x.shape == ((order + 1) ** d,)
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_features__refuse_what_has_no_bounds():
    with pytest.raises(ValueError, match="must be a flat Box with finite bounds for fourier"):
        Features(Scripted(), "fourier", 2)
    with pytest.raises(ValueError, match="order = 99: must be less, it gives 1000000 features"):
        Features(Bounded([0.0] * 3, [1.0] * 3), "polynomial", 99)


def test_actor_critic__sees_features_in_training_and_in_acting():
    env = gymnasium.make("Pendulum-v1")
    network = Network(approximator="linear")
    config = actor_critic.Traces(features="fourier", order=2, network=network)
    state = actor_critic.init(env, config, 0)
    assert state.w.size == 27 + 1
    next(actor_critic.train(env, config, state))
    act = actor_critic.actor(env, config)
    observation, _ = env.reset(seed=0)
    action = act({"theta": state.theta}, observation, np.random.default_rng(0), greedy=True)
    x = Features(env, "fourier", 2).observation(observation)
    mean = np.append(x, 1.0) @ state.theta.reshape(28, 2)[:, 0]
    assert action == pytest.approx(np.clip(mean, -2, 2), rel=1e-5)
