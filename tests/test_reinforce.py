"""REINFORCE: exact expectations by enumeration, the box to the letter, what resumes and when."""

import copy
from dataclasses import replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps
from worlds import (
    CHANCE,
    LINEAR,
    NETWORKS,
    SEEDS,
    UNIT,
    Endless,
    Recorder,
    Scripted,
    Wander,
    contents,
)

from algorithms import reinforce
from algorithms.common.policy import make_policy
from algorithms.common.world import BLOCK, returns
from algorithms.exact.mdp import (
    FiniteMDPEnv,
    action_values,
    discounted_occupancy,
    expected_return,
    trajectories,
)
from algorithms.exact.worlds import chain, garnet
from algorithms.reinforce import WEIGHTINGS, Config, gradient, weights
from npgrad import OPTIMIZERS, at, complex_step

BASELINES, FORMS = ("none", "mean", "value"), ("batch", "moving")


def run(env, config, seed, yields):
    state = reinforce.init(env, config, seed)
    return state, list(islice(reinforce.train(env, config, state), yields))


# Expectations


@given(SEEDS, st.integers(1, 5), st.floats(0, 1), st.floats(-2, 2))
def test_returns__are_the_double_sum(seed, T, gamma, last):
    R = np.random.default_rng(seed).normal(size=T)
    for t, G in enumerate(returns(R, gamma, last)):
        expected = sum(gamma ** (k - t) * R[k] for k in range(t, T)) + gamma ** (T - t) * last
        assert abs(G - expected) <= 1e-12


@st.composite
def tabular(draw):
    """(mdp, policy, θ): a table of preferences for the observations of a short-horizon MDP."""
    mdp = draw(mdps(kinds=("layered",)))
    policy = make_policy(FiniteMDPEnv(mdp), LINEAR)
    theta = np.random.default_rng(draw(SEEDS)).normal(size=policy.model.layout.size)
    return mdp, policy, theta


def table(mdp, policy, theta):
    """π(a|s) for all states (S, A)."""
    return policy.at(theta, mdp.observation).probs()


def expected_update(mdp, policy, theta, weighting, b):
    """Σ_τ Pr(τ) Σ_t weight_t ∇ln π_t by the page's functions; b (O,) are numbers."""
    net, total = at(policy.model, theta), 0.0
    for tau in trajectories(mdp, table(mdp, policy, theta), 6):
        S, G = mdp.observation[tau.states[:-1]], returns(tau.rewards, mdp.gamma)
        weight = weights(np.arange(len(G)), G, b[S], mdp.gamma, weighting)
        d_theta = net.backward(gradient(net.forward(S), policy.head, tau.actions, weight))
        total = total + tau.probability * d_theta
    return total


@given(tabular(), st.sampled_from(("total", "reward_to_go")), st.floats(-4, 4))
def test_weights__unbiased_ones_have_the_gradient_as_expectation(world, weighting, c):
    """Σ_τ Pr(τ) ĝ(τ) = ∇J to rounding, for any baseline b(o) of what the agent sees."""
    mdp, policy, theta = world
    b = np.linspace(-c, 2 * c, mdp.n_observations)
    exact = complex_step(lambda theta: expected_return(mdp, table(mdp, policy, theta)), theta)
    expected = expected_update(mdp, policy, theta, weighting, b)
    np.testing.assert_allclose(expected, exact, atol=1e-10)


@given(tabular(), st.floats(-4, 4))
def test_weights__undiscounted_state_is_the_gradient_without_discounted_occupancy(world, c):
    """Σ_t E[(G_t − b) ∇ln π_t] = Σ_s Σ_t Pr(S_t = s) Σ_a ∇π(a|s) q(s, a)."""
    mdp, policy, theta = world
    pi = table(mdp, policy, theta)
    q, visits = action_values(mdp, pi), discounted_occupancy(replace(mdp, gamma=1.0), pi)
    weight = visits[:, None] * q
    exact = complex_step(lambda theta: np.sum(weight * table(mdp, policy, theta)), theta)
    b = np.linspace(-c, 2 * c, mdp.n_observations)
    expected = expected_update(mdp, policy, theta, "undiscounted_state", b)
    np.testing.assert_allclose(expected, exact, rtol=1e-9, atol=1e-10)


@given(tabular(), st.sampled_from(WEIGHTINGS), SEEDS)
def test_train__takes_the_step_whose_expectation_this_is(world, weighting, seed):
    """One batch of one episode, played by `train`: θ moves by α Σ_t weight_t ∇ln π_t of it."""
    mdp, policy, theta = world
    env = Recorder(FiniteMDPEnv(mdp))
    config = Config(gamma=mdp.gamma, weighting=weighting, baseline="none", optimizer="sgd",
                    step_size=0.5, network=LINEAR)  # fmt: skip
    state = reinforce.init(env, config, seed)
    state.theta[:] = theta
    next(reinforce.train(env, config, state))
    S, A, R = (np.array(column) for column in list(zip(*env.log))[:3])
    S, G, net = S.astype(int), returns(R, mdp.gamma), at(policy.model, theta)
    weight = weights(np.arange(len(G)), G, 0.0 * G, mdp.gamma, weighting)
    d_theta = net.backward(gradient(net.forward(S), policy.head, A, weight))
    np.testing.assert_allclose(state.theta, theta + 0.5 * d_theta, rtol=1e-14, atol=1e-14)


# The box


@given(st.sampled_from(WEIGHTINGS), st.sampled_from(FORMS), SEEDS)
def test_train__zero_baseline_is_reinforce(weighting, form, seed):
    """v̂ = 0 (linear, step size 0), and b = none, give the same θ along a whole run."""
    config = Config(weighting=weighting, form=form, network=LINEAR, step_size_w=0.0)
    (a, _), (b, _) = (
        run(Scripted(), replace(config, baseline=baseline), seed, 4)
        for baseline in ("value", "none")
    )
    assert np.array_equal(a.theta, b.theta) and a.theta.any()


def by_the_book(config, log):
    """Sutton & Barto's boxes with loops and scalars over a log of steps: linear softmax, linear v̂,
    any optimiser. θ (3, 3) and w (3,): 2 features and the bias."""
    gamma, value, moving = config.gamma, config.baseline == "value", config.form == "moving"
    optimizer = OPTIMIZERS[config.optimizer]
    theta, w = np.zeros((3, 3)), np.zeros(3)
    m_theta, m_w = optimizer.statistics(theta), optimizer.statistics(w)
    d_theta, d_w, waiting, t, mean, seen, episode = 0 * theta, 0 * w, 0, 0, 0.0, 0, []
    for step in log:
        episode.append(step)
        *_, S2, terminated, truncated = step
        if not (terminated or truncated):
            continue
        T, v_first = len(episode), w @ np.append(episode[0][0], 1.0)
        tail = w @ np.append(S2, 1.0) if value and not terminated else 0.0
        R = [step[2] for step in episode]
        G = [sum(gamma ** (j - k) * R[j] for j in range(k, T)) + gamma ** (T - k) * tail
             for k in range(T)]  # fmt: skip
        for k, (S, A, *_) in enumerate(episode):
            x = np.append(S, 1.0)
            b = {"none": 0.0, "mean": mean, "value": w @ x}[config.baseline]
            delta = {
                "total": G[0] - (v_first if value else b),
                "reward_to_go": gamma**k * (G[k] - b),
                "undiscounted_state": G[k] - b,
            }[config.weighting]
            pi = np.exp(x @ theta)
            d_theta = d_theta + delta * np.outer(x, np.eye(3)[A] - pi / pi.sum())
            d_w = d_w + value * (G[k] - w @ x) * x
            last, n = k == T - 1, 1 if moving else config.episodes_per_update
            waiting += last
            if moving or waiting == n:
                t += 1
                ascent = optimizer.step(d_theta.ravel() / n, m_theta, t, config.step_size)
                theta = theta + ascent.reshape(3, 3)
                w = w + optimizer.step(d_w / n, m_w, t, config.step_size_w)
                d_theta, d_w, waiting = 0 * theta, 0 * w, 0
        for G_t in G[:1] if config.weighting == "total" else G:
            seen += 1
            mean += (G_t - mean) / seen
        episode = []
    return theta.ravel(), w, mean, d_theta.ravel() / config.episodes_per_update


@given(
    st.sampled_from((Scripted, lambda: Scripted(truncate=True), Wander)),
    st.sampled_from(WEIGHTINGS),
    st.sampled_from(BASELINES),
    st.sampled_from(FORMS),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.integers(1, 3),
    UNIT,
    SEEDS,
)
def test_train__is_the_box(make, weighting, baseline, form, optimizer, n, gamma, seed):
    """θ, w, the running mean and what waits for an update equal a loop over the boxes' scalars,
    truncation included.

    The box's δ of `total` under a moving w keeps v̂(S_0) as of the episode's start.
    """
    env = Recorder(make())
    config = Config(
        gamma=gamma, weighting=weighting, baseline=baseline, form=form, step_size=0.1,
        step_size_w=0.2, optimizer=optimizer, network=LINEAR, episodes_per_update=n,
    )  # fmt: skip
    state, _ = run(env, config, seed, 5)
    theta, w, mean, d_theta = by_the_book(config, env.log)
    # adam and rmsprop_outside divide a gradient near 0, with its rounding error, by 1e-8
    close = dict(rtol=1e-9, atol=1e-6 if optimizer in ("adam", "rmsprop_outside") else 1e-11)
    np.testing.assert_allclose(state.theta, theta, **close)
    np.testing.assert_allclose(state.d_theta, d_theta, **close)
    if baseline == "value":
        np.testing.assert_allclose(state.w, w, **close)
    else:
        assert state.w.size == 0
    if baseline == "mean":
        assert abs(state.mean_return - mean) <= 1e-11


@given(SEEDS, st.integers(1, 3), st.integers(1, 7))
def test_train__theta_moves_after_every_nth_episode_alone(seed, n, episodes):
    env, config = Scripted(), Config(episodes_per_update=n, network=LINEAR)
    state = reinforce.init(env, config, seed)
    was = state.theta.copy()
    for m in islice(reinforce.train(env, config, state), episodes):
        assert np.array_equal(was, state.theta) == (m.episodes % n != 0)
        assert state.waiting == m.episodes % n and state.optimizer_steps == m.episodes // n
        assert state.d_theta.any() == (state.waiting > 0)
        was = state.theta.copy()


# What a run reports, and what it goes on from


@st.composite
def variants(draw):
    """Configs of every form, weighting, baseline and optimiser, with batches of 1 and of 3."""
    return Config(
        gamma=0.9,
        weighting=draw(st.sampled_from(WEIGHTINGS)),
        form=draw(st.sampled_from(FORMS)),
        episodes_per_update=draw(st.sampled_from((1, 3))),
        baseline=draw(st.sampled_from(BASELINES)),
        optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
        network=draw(NETWORKS),
        step_size=1e-5,
        step_size_w=1e-5,
    )


LONG = BLOCK + 5  # steps: an episode within which a run yields
PLACES = {
    "scripted": lambda: Scripted(T=LONG),
    "truncated": lambda: Scripted(T=LONG, d=2, truncate=True),
    "short": lambda: Scripted(T=3),
    "wander": Wander,
    "mdp": lambda: gymnasium.wrappers.TimeLimit(FiniteMDPEnv(garnet(0)), LONG),
    "chain": lambda: FiniteMDPEnv(chain()),
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
@given(variants(), st.integers(1, 5), st.integers(1, 6), SEEDS)
def test_train__resumed_at_any_yield_ends_as_if_never_stopped(make, config, before, after, seed):
    """A copy of the State, also one saved within an episode, in a new environment: bit by bit."""
    env = make()
    state = reinforce.init(env, config, seed)
    training = reinforce.train(env, config, state)
    for _ in islice(training, before):
        pass
    saved = copy.deepcopy(state)
    resumed = reinforce.train(make(), config, saved)
    assert list(islice(training, after)) == list(islice(resumed, after))
    np.testing.assert_equal(contents(saved), contents(state))


@given(st.sampled_from(WEIGHTINGS), st.sampled_from(BASELINES), st.sampled_from(FORMS), SEEDS)
def test_train__drops_an_episode_that_is_not_repeated(weighting, baseline, form, seed):
    """It warns, and a new episode begins. Nothing is learned from the steps of the old one."""
    config = Config(weighting=weighting, baseline=baseline, form=form, optimizer="sgd",
                    network=LINEAR, step_size=0.1)  # fmt: skip
    state, _ = run(Scripted(T=LONG), config, seed, 1)
    state.world.seed += 1
    env = Recorder(Scripted(T=LONG))
    with pytest.warns(RuntimeWarning, match="Scripted does not repeat its episodes: a new one"):
        metrics = list(islice(reinforce.train(env, config, state), 2))
    assert metrics[-1].lengths == (LONG,) and metrics[-1].steps == BLOCK + LONG
    log = env.log[BLOCK:]  # the first are those that did not lead where they did
    theta, w, mean, _ = by_the_book(config, log)
    np.testing.assert_allclose(state.theta, theta, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(state.w, w if baseline == "value" else [], rtol=1e-9, atol=1e-11)
    assert abs(state.mean_return - mean) <= 1e-11


@given(SEEDS, st.integers(1, 3), st.integers(1, 80))
def test_train__metrics_count_steps_and_returns(seed, n, T):
    """A report at every episode's end, and after every BLOCK steps within one."""
    env = Recorder(Scripted(T=T))
    config = Config(episodes_per_update=n, network=LINEAR)
    state = reinforce.init(env, config, seed)
    for m in islice(reinforce.train(env, config, state), 5):
        done, t = divmod(len(env.log), T)
        assert (m.steps, m.episodes) == (state.steps, state.episodes) == (len(env.log), done)
        assert t % BLOCK == 0 and m.lengths == (() if t else (T,))
        ended = () if t else (sum(step[2] for step in env.log[-T:]),)
        assert m.returns == pytest.approx(ended, rel=1e-12)


def test_train__yields_in_an_episode_that_never_ends():
    state, metrics = run(Endless(), Config(network=LINEAR), 0, 4)
    assert [m.steps for m in metrics] == [BLOCK * k for k in range(1, 5)]
    assert state.episodes == 0 and not state.theta.any()


def test_actor__follows_the_policy():
    act = reinforce.actor(Scripted(), Config(network=LINEAR))
    theta = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    rng, n = np.random.default_rng(0), 2000
    assert act({"theta": theta}, np.zeros(2), rng, greedy=True) == 1
    draws = [act({"theta": theta}, np.zeros(2), rng) for _ in range(n)]
    pi = np.exp(theta[6:]) / np.exp(theta[6:]).sum()
    assert np.abs(np.bincount(draws) / n - pi).max() <= np.sqrt(np.log(2 / CHANCE) / (2 * n))


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
