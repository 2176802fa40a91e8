"""From spaces to policies, and one episode."""

from dataclasses import replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given
from hypothesis import strategies as st

from algorithms import a3c, actor_critic, async_q, reinforce
from algorithms.common.episode import BLOCK, play
from algorithms.common.policy import (
    Network,
    Policy,
    encoder,
    make_actor_critic,
    make_policy,
    make_value,
)
from npgrad import Layout, Softmax, from_function

SEEDS = st.integers(0, 2**32 - 1)


class Clock(gymnasium.Env):
    """Observes the time; reward 2t + action; ends after T steps."""

    def __init__(self, T, actions=None, truncate=False):
        self.T, self.truncate = T, truncate
        self.observation_space = Box(-np.inf, np.inf, (1,))
        self.action_space = actions or Discrete(2)
        self.actions, self.seeds = [], []

    def reset(self, *, seed=None, options=None):
        self.t, self.reused = 0, np.zeros(1, np.float32)
        self.seeds.append(seed)
        return self.reused, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.actions.append(action)
        self.t += 1
        self.reused[0] = self.t  # the same array at every step, as some environments do
        over = self.t == self.T
        reward = 2.0 * (self.t - 1)
        return self.reused, reward, over and not self.truncate, over and self.truncate, {}


@given(st.integers(1, 5), st.integers(-3, 3), st.data())
def test_encoder__discrete_is_one_hot(n, start, data):
    size, encode = encoder(Discrete(n, start=start))
    i = data.draw(st.integers(0, n - 1))
    assert size == n and np.array_equal(encode(start + i), np.eye(n)[i])


def test_encoder__copies_box_observations():
    size, encode = encoder(Box(-1, 1, (3,)))
    observation = np.ones(3, np.float32)
    s = encode(observation)
    observation[:] = 0.0
    assert size == 3 and s.dtype == float and np.array_equal(s, np.ones(3))


@pytest.mark.parametrize("space", [Box(0, 255, (4, 4, 3), np.uint8), Dict(a=Discrete(2))])
def test_encoder__refuses_other_spaces(space):
    with pytest.raises(ValueError, match="must be a flat Box or Discrete"):
        encoder(space)


@given(st.integers(1, 3 * BLOCK), st.booleans(), st.booleans(), SEEDS)
def test_play__records_every_step_once(T, truncate, greedy, seed):
    env = Clock(T, truncate=truncate)
    policy = make_policy(env, Network(approximator="linear"))
    theta = np.array([0.1, -0.1, 0.0, 0.0])
    episode = play(env, policy, theta, np.random.default_rng(seed), greedy)
    assert np.array_equal(episode.S, np.arange(T)[:, None])
    assert np.array_equal(episode.s_final, [T])
    assert np.array_equal(episode.R, 2.0 * np.arange(T))
    assert np.array_equal(episode.A, env.actions) and episode.A.dtype.kind == "i"
    assert episode.terminated is not truncate
    if greedy:
        assert not episode.A.any()


@given(SEEDS)
def test_play__draws_from_the_policy_independently_at_every_step(seed):
    """Frequencies of single actions and of pairs of neighbours: Hoeffding at chance 1e-12."""
    env = Clock(3000)
    policy = make_policy(env, Network(approximator="linear"))
    theta = np.array([0.0, 0.0, 0.0, np.log(3.0)])  # π = (¼, ¾) at every time
    A = play(env, policy, theta, np.random.default_rng(seed)).A
    bound = np.sqrt(np.log(2e12) / 2 / 1500)
    assert abs(A.mean() - 0.75) <= bound
    assert abs((A[::2] * A[1::2]).mean() - 0.75**2) <= bound


@given(st.integers(1, 3 * BLOCK), st.data(), st.sampled_from(("reward", "observation")))
def test_play__names_the_first_step_that_is_not_finite(T, data, what):
    bad = data.draw(st.integers(1, T))

    class Broken(Clock):
        def step(self, action):
            s, r, *rest = super().step(action)
            if self.t >= bad:
                s, r = (s, np.inf) if what == "reward" else (np.full(1, np.nan), r)
            return s, r, *rest

    env = Broken(T)
    policy = make_policy(env, Network(approximator="linear"))
    with pytest.raises(FloatingPointError, match=f"at step {bad} of an episode: both must be fin"):
        play(env, policy, np.zeros(4), np.random.default_rng(0))
    assert env.t < bad + BLOCK


@given(SEEDS)
def test_play__is_determined_by_rng(seed):
    env = gymnasium.make("CartPole-v1")
    policy = make_policy(env, Network(hidden=(3,)))
    theta = policy.model.init(np.random.default_rng(0))
    a, b = (play(env, policy, theta, np.random.default_rng(seed)) for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b))


def test_make_policy__offsets_discrete_and_clips_continuous_actions():
    env = Clock(3, Discrete(2, start=5))
    policy = make_policy(env, Network())
    play(env, policy, np.zeros(policy.model.layout.size), np.random.default_rng(0))
    assert set(env.actions) <= {5, 6}
    env = Clock(50, Box(np.array([-0.1, -0.2], np.float32), np.array([0.3, 0.1], np.float32)))
    policy = make_policy(env, Network(approximator="linear", spherical=True))
    episode = play(env, policy, np.zeros(policy.model.layout.size), np.random.default_rng(0))
    taken = np.array(env.actions)
    assert policy.head.spherical and taken.dtype == np.float32
    clipped = np.clip(episode.A, env.action_space.low, env.action_space.high)
    assert np.array_equal(taken, clipped.astype(np.float32))
    assert np.abs(episode.A).max() > 0.3, "the action recorded is the one drawn, not clipped"


def test_make_policy__has_one_output_per_preference():
    env = Clock(1)
    assert make_policy(env, Network(hidden=(5, 3))).model.sizes == (1, 5, 3, 2)
    assert make_value(env, Network(hidden=(5, 3), activation="relu")).sizes == (1, 5, 3, 1)
    assert make_value(env, Network(hidden=(5, 3), activation="relu")).activation == "relu"
    env.observation_space = Discrete(3)
    linear = make_policy(env, Network(approximator="linear"))
    assert linear.model.layout.size == 6, "no bias beside a one-hot"
    assert isinstance(linear, Policy) and isinstance(linear.head, Softmax)


@pytest.mark.parametrize("approximator", ["mlp", "linear"])
@pytest.mark.parametrize("actions", [Discrete(3), Box(-1.0, 1.0, (2,))])
@pytest.mark.parametrize("observations", [Discrete(4), Box(-1.0, 1.0, (2,))])
def test_make_actor_critic__is_the_policy_and_the_value_in_one_model(
    approximator, actions, observations
):
    """One output more than the head's; separate networks are those of make_policy, make_value."""
    env, network = Clock(1, actions), Network(approximator, hidden=(5, 3))
    env.observation_space = observations
    policy, value = make_policy(env, network), make_value(env, network)
    s, rng = policy.encode(observations.sample()), np.random.default_rng(0)
    for trunk in ("shared", "separate"):
        both = make_actor_critic(env, network, trunk)
        assert both.head.size == policy.head.size and type(both.head) is type(policy.head)
        theta = both.model.init(rng)
        assert theta.shape == (both.model.layout.size,)
        assert both.model(theta, s).shape == (policy.head.size + 1,)
        assert np.array_equal(both.encode(env.observation_space.sample()) * 0, 0 * s)
        if trunk == "shared":
            assert both.model.sizes == (*policy.model.sizes[:-1], policy.head.size + 1)
            assert both.model.bias is policy.model.bias
        else:
            theta = rng.normal(size=theta.size)
            n = policy.model.layout.size
            expected = [*policy.model(theta[:n], s), *value(theta[n:], s)]
            assert np.array_equal(both.model(theta, s), expected)


@given(SEEDS)
def test_policy__score_is_the_weighted_sum_of_single_scores(seed):
    rng = np.random.default_rng(seed)
    policy = make_policy(Clock(1), Network(hidden=(3,)))
    theta = policy.model.init(rng)
    S, A, weight = rng.normal(size=(4, 1)), rng.integers(2, size=4), rng.normal(size=4)
    single = [policy.score(theta, S[t : t + 1], A[t : t + 1], np.ones(1)) for t in range(4)]
    np.testing.assert_allclose(
        policy.score(theta, S, A, weight), weight @ np.array(single), rtol=1e-10, atol=1e-12
    )


class Mine(Network):
    """A network of the user's own: one function in plain NumPy."""

    def model(self, n, m, one_hot=False):
        layout = Layout(W=(n, m), b=(m,))

        def f(theta, x):
            W, b = layout.views(theta)
            return np.sin(x) @ W + b

        return from_function(f, layout, lambda rng: 0.3 * rng.normal(size=layout.size))


class Sines(gymnasium.ObservationWrapper):
    def observation(self, observation):
        return np.sin(np.asarray(observation, float))


@pytest.mark.parametrize(
    ("page", "config"),
    [
        (reinforce, reinforce.Config()),
        (actor_critic, actor_critic.Traces()),
        (a3c, a3c.Config(workers=2, T_max=150)),
        (a3c, a3c.Config(workers=2, T_max=150, trunk="shared")),
        (async_q, async_q.OneStepSarsa(workers=2, T_max=150)),
        (async_q, async_q.NStepQ(workers=2, T_max=150)),
    ],
    ids=lambda x: x.__name__.split(".")[-1] if hasattr(x, "__name__") else type(x).__name__,
)
def test_network__any_numpy_function_is_a_policy_in_every_method(page, config):
    """Linear in sin(x), by the tape, is the linear model of an environment that shows sin(x)."""
    linear = Network(approximator="linear")
    states = []
    for network, make in ((Mine(), lambda env: env), (linear, Sines)):
        env = make(gymnasium.make("CartPole-v1").unwrapped)
        env.unwrapped.spec = None  # so that its copies are as it is
        state = page.init(env, replace(config, network=network), 0)
        for name in state.parameters:
            getattr(state, name)[:] = np.random.default_rng(1).normal(
                size=getattr(state, name).size
            )
        if hasattr(state, "theta_target"):
            state.theta_target[:] = state.theta
        for _ in islice(page.train(env, replace(config, network=network), state), 5):
            pass
        states.append(state)
    for name in states[0].parameters:
        one, two = (getattr(state, name) for state in states)
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-9)
