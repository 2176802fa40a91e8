"""REINFORCE: gradients, exact expectations by enumeration, reductions, the box to the letter."""

import copy
from dataclasses import FrozenInstanceError, replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps

from algorithms import reinforce
from algorithms.common.policy import Network, make_policy, make_value
from algorithms.exact.mdp import (
    FiniteMDPEnv,
    action_values,
    discounted_occupancy,
    expected_return,
    trajectories,
)
from algorithms.reinforce import (
    WEIGHTINGS,
    Config,
    gradient,
    objective,
    returns,
    value_gradient,
    value_objective,
    weights,
)
from npgrad import OPTIMIZERS, check_gradient, complex_step, grad

SEEDS = st.integers(0, 2**32 - 1)
LINEAR = Network(approximator="linear")
NETWORKS = st.builds(
    Network,
    approximator=st.sampled_from(("mlp", "linear")),
    hidden=st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple),
    activation=st.sampled_from(("tanh", "softplus", "identity")),
    sigma=st.sampled_from(("exp", "softplus")),
    spherical=st.booleans(),
)


class Scripted(gymnasium.Env):
    """Box observations and rewards drawn at each reset; terminates or is truncated after T steps.

    The last observation is the constant 0.5, so that a bootstrap from it can be computed by hand.
    """

    def __init__(self, T=3, n=2, d=0, truncate=False):
        self.T, self.n, self.truncate = T, n, truncate
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n,))
        self.action_space = (
            gymnasium.spaces.Box(-1.0, 1.0, (d,)) if d else gymnasium.spaces.Discrete(3)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.S = self.np_random.normal(size=(self.T + 1, self.n)).astype(np.float32)
        self.S[-1] = 0.5
        self.R = self.np_random.normal(size=self.T)
        return self.S[0], {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        over = self.t == self.T
        return self.S[self.t], self.R[self.t - 1], over and not self.truncate, over, {}


def run(env, config, seed, updates, **options):
    state = reinforce.init(env, config, seed)
    metrics = list(islice(reinforce.train(env, config, state, **options), updates))
    return state, metrics


@given(NETWORKS, st.integers(0, 2), st.integers(1, 4), SEEDS)
def test_gradient__explicit_is_tape_is_numbers(network, d, T, seed):
    rng = np.random.default_rng(seed)
    policy = make_policy(Scripted(d=d), network)
    theta, S, weight = rng.normal(size=policy.model.layout.size), *rng.normal(size=(2, T, 2))
    weight = weight[:, 0]
    A = rng.normal(size=(T, d)) if d else rng.integers(3, size=T)
    explicit = gradient(theta, policy, S, A, weight)
    np.testing.assert_allclose(
        explicit, grad(objective)(theta, policy, S, A, weight), rtol=1e-9, atol=1e-11
    )
    check_gradient(
        lambda theta: objective(theta, policy, S, A, weight),
        lambda theta: gradient(theta, policy, S, A, weight),
        theta,
        layout=policy.model.layout,
    )


@given(NETWORKS, st.integers(1, 4), SEEDS)
def test_value_gradient__explicit_is_tape_is_numbers(network, T, seed):
    rng = np.random.default_rng(seed)
    value = make_value(Scripted(), network)
    w, S, G = rng.normal(size=value.layout.size), rng.normal(size=(T, 2)), rng.normal(size=T)
    explicit = value_gradient(w, value, S, G)
    np.testing.assert_allclose(
        explicit, grad(value_objective)(w, value, S, G), rtol=1e-9, atol=1e-11
    )
    check_gradient(
        lambda w: value_objective(w, value, S, G), lambda w: value_gradient(w, value, S, G), w
    )


@given(SEEDS, st.integers(1, 5), st.floats(0, 1), st.floats(-2, 2))
def test_returns__are_the_double_sum(seed, T, gamma, v_final):
    R = np.random.default_rng(seed).normal(size=T)
    for t, G in enumerate(returns(R, gamma, v_final)):
        expected = sum(gamma ** (k - t) * R[k] for k in range(t, T)) + gamma ** (T - t) * v_final
        assert abs(G - expected) <= 1e-12


@st.composite
def tabular(draw, **options):
    """(mdp, policy, θ): a linear softmax over one-hot observations of a short-horizon MDP."""
    mdp = draw(mdps(kinds=("layered",), **options))
    policy = make_policy(FiniteMDPEnv(mdp), LINEAR)
    theta = np.random.default_rng(draw(SEEDS)).normal(size=policy.model.layout.size)
    return mdp, policy, theta


def table(mdp, policy, theta):
    """π(a|s) for all states (S, A)."""
    h = policy.model(theta, np.eye(mdp.n_observations)[mdp.observation])
    e = np.exp(h - h.real.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def expectation(mdp, policy, theta, estimate):
    """Σ_τ Pr(τ) estimate(S, A, R, states) over every trajectory."""
    rows = np.eye(mdp.n_observations)
    return sum(
        tau.probability
        * estimate(rows[mdp.observation[tau.states[:-1]]], tau.actions, tau.rewards, tau.states)
        for tau in trajectories(mdp, table(mdp, policy, theta), 6)
    )


def exact_gradient(mdp, policy, theta):
    return complex_step(lambda theta: expected_return(mdp, table(mdp, policy, theta)), theta)


@given(tabular(), st.sampled_from(("total", "reward_to_go")), st.booleans())
def test_weights__unbiased_ones_have_the_gradient_as_expectation(world, weighting, with_baseline):
    """Σ_τ Pr(τ) ĝ(τ) = ∇J to rounding, for any baseline b(o) of what the agent sees."""
    mdp, policy, theta = world
    b = with_baseline * np.linspace(-3.0, 4.0, mdp.n_observations)

    def estimate(S, A, R, states):
        G = returns(R, mdp.gamma)
        t = np.arange(len(G))
        weight = weights(t, G, b[mdp.observation[states[:-1]]], mdp.gamma, weighting)
        return gradient(theta, policy, S, A, weight)

    np.testing.assert_allclose(
        expectation(mdp, policy, theta, estimate), exact_gradient(mdp, policy, theta), atol=1e-10
    )


@given(tabular())
def test_weights__undiscounted_state_is_the_gradient_without_discounted_occupancy(world):
    """Σ_t E[G_t ∇ln π_t] = Σ_s Σ_t Pr(S_t = s) Σ_a ∇π(a|s) q(s, a)."""
    mdp, policy, theta = world
    pi = table(mdp, policy, theta)
    q = action_values(mdp, pi)
    visits = discounted_occupancy(replace(mdp, gamma=1.0), pi)
    expected = complex_step(
        lambda theta: np.sum(visits[:, None] * q * table(mdp, policy, theta)), theta
    )

    def estimate(S, A, R, states):
        G = returns(R, mdp.gamma)
        t, zero = np.arange(len(G)), np.zeros(len(G))
        weight = weights(t, G, zero, mdp.gamma, "undiscounted_state")
        return gradient(theta, policy, S, A, weight)

    np.testing.assert_allclose(
        expectation(mdp, policy, theta, estimate), expected, rtol=1e-9, atol=1e-10
    )


@given(st.sampled_from(WEIGHTINGS), st.sampled_from(("batch", "moving")), SEEDS)
def test_train__zero_baseline_is_reinforce(weighting, form, seed):
    """v̂ = 0 (linear, step size 0), and b = none, give the same θ along a whole run."""
    env = Scripted()
    config = Config(weighting=weighting, form=form, network=LINEAR, step_size_w=0.0)
    (a, _), (b, _) = (
        run(env, replace(config, baseline=baseline), seed, 4) for baseline in ("value", "none")
    )
    assert np.array_equal(a.theta, b.theta) and a.theta.any()


def by_the_book(env, config, seed, updates, truncate):
    """Sutton & Barto's boxes with loops and scalars: linear softmax, linear v̂, any optimiser.

    Episodes are recorded first at the θ of their start, then learned from, as in the boxes.
    """
    state = reinforce.init(env, config, seed)
    theta, w, rng = np.zeros((3, 3)), np.zeros(3), state.rng  # rows: 2 features and the bias
    mean, seen, gamma = 0.0, 0, config.gamma
    policy = make_policy(env, config.network)
    step = OPTIMIZERS[config.optimizer].step
    t, m_theta, m_w = 0, np.zeros((2, 9)), np.zeros((2, 3))
    slots = OPTIMIZERS[config.optimizer].slots

    def moved(d_theta, d_w):
        ascent = step(d_theta.ravel(), m_theta[:slots], t, config.step_size).reshape(3, 3)
        return theta + ascent, w + step(d_w, m_w[:slots], t, config.step_size_w)

    for _ in range(updates):
        batch = []
        for _ in range(config.episodes_per_update if config.form == "batch" else 1):
            flat = np.concatenate([theta[:2].ravel(), theta[2]])
            batch.append(reinforce.play(env, policy, flat, rng))
        d_theta, d_w = np.zeros_like(theta), np.zeros_like(w)
        means = []
        for episode in batch:
            T = len(episode.R)
            X = np.column_stack([episode.S, np.ones(T)])
            tail = gamma * (w @ [0.5, 0.5, 1.0]) if truncate and config.baseline == "value" else 0.0
            G = [
                sum(gamma ** (j - k) * episode.R[j] for j in range(k, T))
                + gamma ** (T - 1 - k) * tail
                for k in range(T)
            ]
            v_first = w @ X[0]
            for k in range(T):
                b = {"none": 0.0, "mean": mean, "value": w @ X[k]}[config.baseline]
                delta = {
                    "total": G[0] - (v_first if config.baseline == "value" else b),
                    "reward_to_go": gamma**k * (G[k] - b),
                    "undiscounted_state": G[k] - b,
                }[config.weighting]
                pi = np.exp(X[k] @ theta)
                score = np.outer(X[k], np.eye(3)[episode.A[k]] - pi / pi.sum())
                dw = (G[k] - w @ X[k]) * X[k] if config.baseline == "value" else 0.0 * X[k]
                if config.form == "moving":
                    t += 1
                    theta, w = moved(delta * score, dw)
                else:
                    d_theta += delta * score / len(batch)
                    d_w += dw / len(batch)
            means.append(G[:1] if config.weighting == "total" else G)
        if config.form == "batch":
            t += 1
            theta, w = moved(d_theta, d_w)
        for G in np.concatenate(means):
            seen += 1
            mean += (G - mean) / seen
    return theta, w, mean


@given(
    st.sampled_from(WEIGHTINGS),
    st.sampled_from(("none", "mean", "value")),
    st.sampled_from(("batch", "moving")),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.booleans(),
    st.floats(0.5, 1.0),
    SEEDS,
)
def test_train__is_the_box(weighting, baseline, form, optimizer, truncate, gamma, seed):
    """θ, w and the running mean equal a loop over the boxes' scalars, truncation included.

    The box's δ of `total` under a moving w keeps v̂(S_0) as of the episode's start.
    """
    env = Scripted(truncate=truncate)
    config = Config(
        gamma=gamma, weighting=weighting, baseline=baseline, form=form, step_size=0.1,
        step_size_w=0.2, optimizer=optimizer, network=LINEAR, episodes_per_update=2,
    )  # fmt: skip
    state, _ = run(env, config, seed, 3)
    theta, w, mean = by_the_book(env, config, seed, 3, truncate)
    # adam and rmsprop_outside divide a gradient near 0, with its rounding error, by 1e-8
    atol = 1e-6 if optimizer in ("adam", "rmsprop_outside") else 1e-11
    np.testing.assert_allclose(state.theta, theta.ravel(), rtol=1e-9, atol=atol)
    if baseline == "value":
        np.testing.assert_allclose(state.w, w, rtol=1e-9, atol=atol)
    else:
        assert state.w.size == 0
    if baseline == "mean":
        assert abs(state.mean_return - mean) <= 1e-11


@given(SEEDS, st.sampled_from(("batch", "moving")), st.integers(0, 2))
def test_train__gradient_can_be_the_tapes(seed, form, d):
    env, config = Scripted(d=d), Config(form=form, network=Network(hidden=(3,)))
    explicit, _ = run(env, config, seed, 2)
    tape, _ = run(
        *(env, config, seed, 2),
        gradient=grad(objective),
        value_gradient=grad(value_objective),
    )
    np.testing.assert_allclose(explicit.theta, tape.theta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(explicit.w, tape.w, rtol=1e-7, atol=1e-9)


@given(SEEDS, st.integers(1, 3), st.integers(1, 4))
def test_train__state_holds_all_that_changes(seed, before, after):
    """A deep copy of the State at any yield goes on to the same numbers, bit for bit."""
    env = gymnasium.make("CartPole-v1")
    config = Config(network=Network(hidden=(4,)), baseline="value")
    state, _ = run(env, config, seed, before)
    resumed = copy.deepcopy(state)
    for s in (state, resumed):
        list(islice(reinforce.train(gymnasium.make("CartPole-v1"), config, s), after))
    assert np.array_equal(state.theta, resumed.theta) and np.array_equal(state.w, resumed.w)
    assert (state.steps, state.episodes) == (resumed.steps, resumed.episodes)


@given(SEEDS, st.integers(1, 3))
def test_train__metrics_count_steps_and_returns(seed, n):
    env = Scripted(T=4)
    state, metrics = run(env, Config(episodes_per_update=n, network=LINEAR), seed, 3)
    assert [m.steps for m in metrics] == [4 * n, 8 * n, 12 * n] and state.steps == 12 * n
    assert [m.episodes for m in metrics] == [n, 2 * n, 3 * n]
    assert all(len(m.returns) == n and m.lengths == (4,) * n for m in metrics)
    assert metrics[-1].returns[-1] == pytest.approx(env.R.sum(), rel=1e-12)


def test_actor__follows_the_policy():
    env = Scripted()
    config = Config(network=LINEAR)
    act = reinforce.actor(env, config)
    theta = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    rng = np.random.default_rng(0)
    assert act({"theta": theta}, np.zeros(2), rng, greedy=True) == 1
    draws = [act({"theta": theta}, np.zeros(2), rng) for _ in range(2000)]
    pi = np.exp(theta[6:]) / np.exp(theta[6:]).sum()
    assert np.abs(np.bincount(draws) / 2000 - pi).max() <= np.sqrt(np.log(2e12) / 4000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.5}, r"gamma = 1.5: must be in \[0.0, 1.0\]"),
        ({"gamma": float("nan")}, "gamma = nan"),
        ({"step_size": -1.0}, "step_size = -1.0: must be at least 0"),
        ({"step_size_w": -1.0}, "step_size_w = -1.0"),
        ({"episodes_per_update": 0}, "episodes_per_update = 0: must be at least 1"),
        ({"weighting": "all"}, "weighting = 'all': must be one of total, reward_to_go"),
        ({"form": "x"}, "form = 'x'"),
        ({"baseline": "x"}, "baseline = 'x'"),
        ({"optimizer": "x"}, "optimizer = 'x'"),
    ],
)
def test_config__names_what_is_wrong_and_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)
    with pytest.raises(FrozenInstanceError):
        Config().gamma = 0.5


@pytest.mark.parametrize("options", [{"hidden": ()}, {"hidden": (0,)}, {"activation": "x"}])
def test_network__names_what_is_wrong(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Network(**options)


def test_init__refuses_spaces_without_a_policy():
    env = Scripted()
    env.observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"observation_space = Box.*must be a flat Box"):
        reinforce.init(env, Config(), 0)
    env = Scripted()
    env.action_space = gymnasium.spaces.MultiDiscrete([2, 2])
    with pytest.raises(ValueError, match="action_space = MultiDiscrete"):
        reinforce.init(env, Config(), 0)


@pytest.mark.parametrize("where", ["S", "R"])
def test_train__stops_at_what_is_not_finite(where):
    class Broken(Scripted):
        def reset(self, **options):
            result = super().reset(**options)
            getattr(self, where)[1] = np.nan
            return result

    with pytest.raises(FloatingPointError, match="must be finite"):
        run(Broken(), Config(network=LINEAR), 0, 1)


@pytest.mark.slow
def test_train__learns_cartpole():
    env = gymnasium.make("CartPole-v1")
    state = reinforce.init(env, Config(), 7)
    scores = []
    for metrics in reinforce.train(env, Config(), state):
        scores += metrics.returns
        if metrics.steps >= 40_000:
            break
    assert np.mean(scores[-20:]) > 300
