"""Actor–critic: the boxes written again, reductions, exact expectations, what resets and when."""

import copy
from dataclasses import replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps
from test_reinforce import NETWORKS, Scripted, exact_gradient, table, tabular

from algorithms import actor_critic
from algorithms.actor_critic import (
    Continuing,
    OneStep,
    State,
    Traces,
    continuing,
    gradient,
    objective,
    one_step,
    traces,
    value_gradient,
    value_objective,
)
from algorithms.common.online import Ascent
from algorithms.common.policy import Network, make_policy, make_value
from algorithms.exact.average_reward import solve
from algorithms.exact.mdp import FiniteMDPEnv, state_values, trajectories
from algorithms.runner import training
from algorithms.runner.errors import Failure
from algorithms.runner.lookup import Method
from npgrad import OPTIMIZERS, check_gradient, grad

SEEDS = st.integers(0, 2**32 - 1)
UNIT = st.sampled_from((0.0, 0.5, 0.9, 1.0)) | st.floats(0, 1)
LINEAR = Network(approximator="linear")
SGD = dict(optimizer="sgd", network=LINEAR)
CHANCE = 1e-12  # that a test of frequencies fails


def run(env, config, seed, yields, **options):
    state = actor_critic.init(env, config, seed)
    metrics = list(islice(actor_critic.train(env, config, state, **options), yields))
    return state, metrics


def blank(theta, w, with_traces=True):
    """A State with these parameters, before anything else has happened."""
    theta, w = np.array(theta, float), np.array(w, float)
    z = [np.zeros_like(x) if with_traces else np.zeros(0) for x in (theta, w)]
    return State(theta, w, *z, np.empty((0, theta.size + w.size)), np.random.default_rng(0))


def times(d):
    """A gradient as the boxes take it: c -> c d."""
    return lambda c: c * d


class Recorder(gymnasium.Wrapper):
    """Keeps every (S, A, R, S', terminated, truncated) and the first S after every reset."""

    def __init__(self, env):
        super().__init__(env)
        self.log, self.starts = [], []

    def reset(self, **how):
        self.s, info = self.env.reset(**how)
        self.starts.append(np.array(self.s, float))
        return self.s, info

    def step(self, action):
        before = np.array(self.s, float)
        self.s, R, *ends, info = self.env.step(action)
        self.log.append((before, action, R, np.array(self.s, float), *ends))
        return self.s, R, *ends, info


class Constant(gymnasium.Env):
    """Reward 1 for ever, one state; ends after T steps, by a time limit or really."""

    def __init__(self, T, truncate):
        self.T, self.truncate = T, truncate
        self.observation_space = gymnasium.spaces.Discrete(1)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += 1
        over = self.t == self.T
        return 0, 1.0, over and not self.truncate, over and self.truncate, {}


# gradients


@given(NETWORKS, st.integers(0, 2), SEEDS)
def test_gradient__explicit_is_tape_is_numbers(network, d, seed):
    rng = np.random.default_rng(seed)
    policy = make_policy(Scripted(d=d), network)
    theta, s = rng.normal(size=policy.model.layout.size), rng.normal(size=2)
    a = rng.normal(size=d) if d else rng.integers(3)
    np.testing.assert_allclose(
        gradient(theta, policy, s, a), grad(objective)(theta, policy, s, a), rtol=1e-9, atol=1e-11
    )
    check_gradient(
        lambda theta: objective(theta, policy, s, a),
        lambda theta: gradient(theta, policy, s, a),
        theta,
        layout=policy.model.layout,
    )


@given(NETWORKS, SEEDS)
def test_value_gradient__explicit_is_tape_is_numbers(network, seed):
    rng = np.random.default_rng(seed)
    value = make_value(Scripted(), network)
    w, s = rng.normal(size=value.layout.size), rng.normal(size=2)
    np.testing.assert_allclose(
        value_gradient(w, value, s), grad(value_objective)(w, value, s), rtol=1e-9, atol=1e-11
    )
    check_gradient(lambda w: value_objective(w, value, s), lambda w: value_gradient(w, value, s), w)


@pytest.mark.parametrize("Config", [OneStep, Traces, Continuing])
@pytest.mark.parametrize("d", [0, 2])
@given(seed=SEEDS, sigma=st.sampled_from(("exp", "softplus")))
def test_train__gradients_can_be_the_tapes(Config, d, seed, sigma):
    env = Scripted(d=d)
    config = Config(optimizer="sgd", network=Network(hidden=(3,), sigma=sigma))
    if Config is Continuing:
        config = replace(config, report_every=3)
    explicit, _ = run(env, config, seed, 2)
    swapped = dict(gradient=grad(objective), value_gradient=grad(value_objective))
    tape, _ = run(env, config, seed, 2, **swapped)
    np.testing.assert_allclose(explicit.theta, tape.theta, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(explicit.w, tape.w, rtol=1e-9, atol=1e-11)


# the boxes


def by_the_book(config, log, starts, n_actions=3):
    """Sutton & Barto's boxes over a log of steps: linear softmax, linear v̂, any optimiser."""
    optimizer, starts = OPTIMIZERS[config.optimizer], iter(starts)
    n = len(log[0][0]) + 1
    theta, w = np.zeros((n, n_actions)), np.zeros(n)
    z_theta, z_w, I, R_bar, t = np.zeros((n, n_actions)), np.zeros(n), 1.0, 0.0, 0
    m_theta, m_w = np.zeros((optimizer.slots, theta.size)), np.zeros((optimizer.slots, n))
    goes_on = isinstance(config, Continuing)
    next(starts)
    for S, A, R, S2, terminated, truncated in log:
        first = next(starts) if terminated or truncated else None
        if terminated and goes_on:
            S2 = first
        x, x2 = np.append(S, 1.0), np.append(S2, 1.0)
        v, v2 = x @ w, 0.0 if terminated and not goes_on else x2 @ w
        pi = np.exp(x @ theta)
        score = np.outer(x, np.eye(n_actions)[A] - pi / pi.sum())
        gamma = 1.0 if goes_on else config.gamma
        delta = R - R_bar + gamma * v2 - v
        if goes_on:
            R_bar = R_bar + config.step_size_R * delta
        one = type(config) is OneStep
        z_w = gamma * (0.0 if one else config.lambda_w) * z_w + x
        z_theta = gamma * (0.0 if one else config.lambda_theta) * z_theta + I * score
        t += 1
        w = w + optimizer.step(delta * z_w, m_w, t, config.step_size_w)
        step = optimizer.step(delta * z_theta.ravel(), m_theta, t, config.step_size)
        theta = theta + step.reshape(theta.shape)
        I = I * gamma
        if (truncated and not terminated) or (terminated and not goes_on):
            z_theta, z_w, I = 0 * z_theta, 0 * z_w, 1.0
    return theta.ravel(), w, z_theta.ravel(), z_w, R_bar


@given(
    st.sampled_from((OneStep, Traces, Continuing)),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.booleans(),
    UNIT,
    UNIT,
    UNIT,
    SEEDS,
)
def test_train__is_the_box(Config, optimizer, truncate, gamma, lambda_theta, lambda_w, seed):
    """θ, w, z and R̄ equal a loop over the boxes' lines: resets, ends and restarts included."""
    options = dict(optimizer=optimizer, network=LINEAR, step_size=0.05, step_size_w=0.1)
    if Config is not OneStep:
        options |= dict(lambda_theta=lambda_theta, lambda_w=lambda_w)
    options |= dict(report_every=5, step_size_R=0.3) if Config is Continuing else dict(gamma=gamma)
    config, env = Config(**options), Recorder(Scripted(truncate=truncate))
    state, _ = run(env, config, seed, 3)
    env.starts.append(np.zeros(2))  # what is not begun when the log stops at an episode's end
    theta, w, z_theta, z_w, R_bar = by_the_book(config, env.log, env.starts)
    # adam and rmsprop_outside divide a gradient near 0 and its rounding error by down to 1e-8
    close = dict(rtol=1e-8, atol=1e-6 if optimizer in ("adam", "rmsprop_outside") else 1e-10)
    np.testing.assert_allclose(state.theta, theta, **close)
    np.testing.assert_allclose(state.w, w, **close)
    assert abs(state.R_bar - R_bar) <= close["atol"] * 10
    if Config is Continuing:
        np.testing.assert_allclose(state.z_theta, z_theta, **close)
        np.testing.assert_allclose(state.z_w, z_w, **close)
        assert state.I == 1.0


@given(st.sampled_from((OneStep, Traces, Continuing)), st.integers(0, 2), SEEDS)
def test_train__in_single_precision_goes_the_same_way(Config, d, seed):
    """Three episodes: rounding errors of 2⁻²⁴, grown by a few hundred operations at most."""
    options = {"report_every": 9} if Config is Continuing else {}
    config = Config(step_size=0.01, optimizer="rmsprop", network=Network(hidden=(3,)), **options)
    double, _ = run(Scripted(d=d), config, seed, 3)
    single, _ = run(Scripted(d=d), replace(config, precision="single"), seed, 3)
    for name in ("theta", "w", "z_theta", "z_w", "statistics"):
        assert getattr(single, name).dtype == np.float32
    assert np.abs(single.theta - double.theta).max() <= 1e-3
    assert np.abs(single.w - double.w).max() <= 1e-3


@given(UNIT, st.integers(0, 2), st.sampled_from(("sgd", "momentum", "rmsprop")), SEEDS)
def test_traces__without_decay_are_one_step(gamma, d, optimizer, seed):
    """λ = 0: the same θ and w, parameter for parameter, along a whole run."""
    env = Scripted(d=d, T=4)
    options = dict(gamma=gamma, optimizer=optimizer, network=Network(hidden=(3,)), step_size=0.05)
    one = actor_critic.init(env, OneStep(**options), seed)
    zero = Traces(**options, lambda_theta=0.0, lambda_w=0.0)
    with_traces = actor_critic.init(env, zero, seed)
    runs = zip(
        actor_critic.train(Scripted(d=d, T=4), OneStep(**options), one),
        actor_critic.train(Scripted(d=d, T=4), zero, with_traces),
    )
    for _ in islice(runs, 4):
        np.testing.assert_allclose(with_traces.theta, one.theta, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(with_traces.w, one.w, rtol=1e-9, atol=1e-11)


def rewards_and_scores(rng, T, n):
    return rng.normal(size=T), rng.normal(size=T + 1), rng.normal(size=(T, n))


@given(st.floats(0, 1), st.integers(1, 8), st.booleans(), SEEDS)
def test_traces__with_lambda_1_sum_to_the_monte_carlo_update(gamma, T, terminated, seed):
    """Frozen v̂ and θ: Σ_t δ_t z_t^θ = Σ_t γ^t (G_t − v̂(S_t)) ∇ln π_t, exactly; for w, without I,
    Σ_t δ_t z_t^w = Σ_t (G_t − v̂(S_t)) ∇v̂_t."""
    rng = np.random.default_rng(seed)
    R, v, dlogpi = rewards_and_scores(rng, T, 3)
    dv = rng.normal(size=(T, 2))
    v[T] *= not terminated
    state = blank(np.zeros(3), np.zeros(2))
    config = Traces(gamma=gamma, lambda_theta=1.0, lambda_w=1.0, step_size=1.0, step_size_w=1.0,
                    **SGD)  # fmt: skip
    ascend = Ascent(config, state)
    for t in range(T):
        traces(config, state, R[t], v[t], v[t + 1], times(dv[t]), times(dlogpi[t]), ascend)
    G = [sum(gamma ** (k - t) * R[k] for k in range(t, T)) + gamma ** (T - t) * v[T]
         for t in range(T)]  # fmt: skip
    error = G - v[:T]
    expected = sum(gamma**t * error[t] * dlogpi[t] for t in range(T))
    np.testing.assert_allclose(state.theta, expected, atol=1e-11)
    np.testing.assert_allclose(state.w, error @ dv, atol=1e-11)


@given(tabular())
def test_one_step__expected_update_under_the_exact_v_is_the_policy_gradient(world):
    """Σ_τ Pr(τ) Σ_t I δ_t ∇ln π_t = ∇J where v̂ = v^π."""
    mdp, policy, theta = world
    pi, rows = table(mdp, policy, theta), np.eye(mdp.n_observations)
    v, total = state_values(mdp, pi), np.zeros_like(theta)
    config = OneStep(gamma=mdp.gamma, step_size=1.0, **SGD)
    for tau in trajectories(mdp, pi, 6):
        state = blank(np.zeros_like(theta), np.zeros(1), with_traces=False)
        ascend = Ascent(config, state)
        for s, a, R, s2 in zip(tau.states, tau.actions, tau.rewards, tau.states[1:]):
            score = gradient(theta, policy, rows[mdp.observation[s]], a)
            one_step(config, state, R, v[s], v[s2], times(np.zeros(1)), times(score), ascend)
        total += tau.probability * state.theta
    np.testing.assert_allclose(total, exact_gradient(mdp, policy, theta), atol=1e-9)


@given(st.sampled_from((one_step, traces, continuing)), SEEDS)
def test_boxes__compute_delta_once_from_what_was_there_before(box, seed):
    """One step from I, z, R̄ and θ: every move is a multiple of the same δ, at the old R̄."""
    rng = np.random.default_rng(seed)
    Config = {one_step: OneStep, traces: Traces, continuing: Continuing}[box]
    config = Config(step_size=0.5, step_size_w=0.25, **SGD)
    state = blank(rng.normal(size=3), rng.normal(size=2))
    state.z_theta[:], state.z_w[:] = rng.normal(size=3), rng.normal(size=2)
    state.I, state.R_bar = (1.0, rng.normal()) if box is continuing else (rng.random(), 0.0)
    before, (R, v, v2) = copy.deepcopy(state), rng.normal(size=3)
    dv, dlogpi = rng.normal(size=2), rng.normal(size=3)
    box(config, state, R, v, v2, times(dv), times(dlogpi), Ascent(config, state))
    gamma = 1.0 if box is continuing else config.gamma
    delta = R - before.R_bar + gamma * v2 - v
    keep = 0.0 if box is one_step else gamma * 0.9
    z_theta, z_w = keep * before.z_theta + before.I * dlogpi, keep * before.z_w + dv
    np.testing.assert_allclose(state.theta, before.theta + 0.5 * delta * z_theta, atol=1e-13)
    np.testing.assert_allclose(state.w, before.w + 0.25 * delta * z_w, atol=1e-13)
    assert state.I == before.I * gamma
    if box is continuing:
        assert state.R_bar == pytest.approx(before.R_bar + config.step_size_R * delta, abs=1e-13)
    else:
        assert state.R_bar == 0.0


# the end of an episode, and tasks without one


@given(st.sampled_from((OneStep, Traces)), st.integers(1, 6), st.floats(0.01, 0.95), st.booleans())
def test_train__truncation_bootstraps_and_termination_does_not(Config, T, gamma, truncate):
    """Reward 1 for ever is worth 1/(1−γ), and a time limit takes nothing from it.

    At w = 1/(1−γ) every δ of the cut task is 0: w stays. Where the episode really ends, one-step
    w follows w + α(1 − w) at the last step, w + α(1 + γw − w) at the others.
    """
    env = Constant(T, truncate)
    config = Config(gamma=gamma, step_size_w=0.1, **SGD)
    state = actor_critic.init(env, config, 0)
    state.w[:] = exact = 1 / (1 - gamma)
    next(iter(actor_critic.train(env, config, state)))
    if truncate:
        assert state.w[0] == pytest.approx(exact, rel=1e-12)
    else:
        assert state.w[0] < exact
        if Config is OneStep:
            assert state.w[0] == pytest.approx(exact + 0.1 * (1 - exact), rel=1e-12)


def test_train__learns_the_value_beyond_a_time_limit():
    """From w = 0, w = (1 − (1 − α(1−γ))ⁿ)/(1−γ) after n steps, however they are cut."""
    config = OneStep(gamma=0.9, step_size_w=0.5, **SGD)
    state, _ = run(Constant(7, truncate=True), config, 0, 100)
    assert state.w[0] == pytest.approx(10 * (1 - 0.95**700), rel=1e-12)


@given(st.sampled_from((OneStep, Traces)), st.booleans(), SEEDS)
def test_train__episodic_begins_every_episode_with_fresh_traces(Config, truncate, seed):
    """An episode that follows others moves θ and w as it would have moved them on its own."""
    env, config = Scripted(truncate=truncate), Config(gamma=0.8, step_size=0.1, **SGD)
    state, _ = run(env, config, seed, 2)
    alone = blank(state.theta, state.w, with_traces=Config is Traces)
    alone.rng = copy.deepcopy(state.rng)
    for each in (state, alone):
        next(actor_critic.train(Scripted(truncate=truncate), config, each))
    assert np.array_equal(state.theta, alone.theta) and np.array_equal(state.w, alone.w)
    assert state.I == pytest.approx(0.8**3)


@st.composite
def ergodic(draw):
    """(mdp, pi) with one recurrent class that mixes fast: every step may lead to state 0."""
    mdp = draw(mdps(kinds=("continuing",)))
    S = len(mdp.p0)
    P = 0.7 * mdp.P + 0.3 * np.eye(S)[0]
    mdp = replace(mdp, P=P / P.sum(-1, keepdims=True), observation=None)
    return mdp, np.full(mdp.P.shape[:2], 1 / mdp.P.shape[1])


@given(ergodic(), st.floats(-5, 5), SEEDS)
def test_continuing__R_bar_moves_to_the_average_reward_of_a_fixed_policy(world, R_bar, seed):
    """E[ΔR̄] = α(ρ − R̄) where states are visited by the chain, whatever v̂ is."""
    mdp, pi = world
    d, rho, _ = solve(mdp, pi)
    v, config = np.random.default_rng(seed).normal(size=len(d)), Continuing(step_size_R=0.1, **SGD)
    expected = 0.0
    for s, a, s2 in np.argwhere(mdp.P):
        state = blank([0.0], [0.0])
        state.R_bar, nothing, ascend = R_bar, times(np.zeros(1)), Ascent(config, state)
        continuing(config, state, mdp.r[s, a, s2], v[s], v[s2], nothing, nothing, ascend)
        expected += d[s] * pi[s, a] * mdp.P[s, a, s2] * (state.R_bar - R_bar)
    assert expected == pytest.approx(0.1 * (rho - R_bar), abs=1e-12)


@given(ergodic(), SEEDS)
def test_continuing__R_bar_converges_to_the_average_reward(world, seed):
    """A run with θ held and w at the exact v: δ + R̄ − ρ are martingale differences |M| ≤ B, so by
    Azuma's inequality |R̄ − ρ| ≤ (1−α)ⁿ|ρ| + B √(2 ln(2/chance) α/(2−α))."""
    mdp, pi = world
    _, rho, v = solve(mdp, pi)
    alpha, n = 0.01, 1000
    config = Continuing(step_size=0.0, step_size_w=0.0, step_size_R=alpha, report_every=n, **SGD)
    env = FiniteMDPEnv(mdp)
    state = actor_critic.init(env, config, seed)
    state.w[:] = v
    next(actor_critic.train(env, config, state))
    B = np.abs(mdp.r - rho + v - v[:, None, None])[mdp.P > 0].max()
    bound = B * np.sqrt(2 * np.log(2 / CHANCE) * alpha / (2 - alpha))
    assert abs(state.R_bar - rho) <= (1 - alpha) ** n * abs(rho) + bound + 1e-12


# the State and what a run reports


@given(st.sampled_from((OneStep, Traces)), SEEDS, st.integers(1, 3), st.integers(1, 3))
def test_train__state_holds_all_that_changes(Config, seed, before, after):
    """A deep copy of the State at any yield goes on to the same numbers, bit for bit."""
    config = Config(network=Network(hidden=(4,)))
    state, _ = run(gymnasium.make("CartPole-v1"), config, seed, before)
    resumed = copy.deepcopy(state)
    for s in (state, resumed):
        list(islice(actor_critic.train(gymnasium.make("CartPole-v1"), config, s), after))
    assert np.array_equal(state.theta, resumed.theta) and np.array_equal(state.w, resumed.w)
    assert (state.steps, state.episodes) == (resumed.steps, resumed.episodes)


@given(SEEDS, st.integers(1, 9))
def test_train__metrics_count_steps_and_returns(seed, report_every):
    env = Scripted(T=4)
    _, metrics = run(env, OneStep(network=LINEAR), seed, 3)
    assert [m.steps for m in metrics] == [4, 8, 12] and [m.episodes for m in metrics] == [1, 2, 3]
    assert all(m.lengths == (4,) for m in metrics)
    assert metrics[-1].returns[0] == pytest.approx(env.R.sum(), rel=1e-12)
    env = Recorder(Scripted(T=4))
    _, metrics = run(env, Continuing(network=LINEAR, report_every=report_every), seed, 3)
    rewards = np.reshape([step[2] for step in env.log], (3, report_every)).sum(1)
    np.testing.assert_allclose([m.returns[0] for m in metrics], rewards, atol=1e-12)
    averages = [m.scalars["average_reward"] for m in metrics]
    np.testing.assert_allclose(averages, rewards / report_every, atol=1e-12)
    assert [m.steps for m in metrics] == [report_every * k for k in (1, 2, 3)]


def test_actor__follows_the_policy():
    env = Scripted()
    act = actor_critic.actor(env, OneStep(network=LINEAR))
    theta = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    rng = np.random.default_rng(0)
    assert act({"theta": theta}, np.zeros(2), rng, greedy=True) == 1
    draws = [act({"theta": theta}, np.zeros(2), rng) for _ in range(2000)]
    pi = np.exp(theta[6:]) / np.exp(theta[6:]).sum()
    assert np.abs(np.bincount(draws) / 2000 - pi).max() <= np.sqrt(np.log(2 / CHANCE) / 4000)


# bad input


@pytest.mark.parametrize(
    ("Config", "options", "message"),
    [
        (OneStep, {"gamma": 1.5}, r"gamma = 1.5: must be in \[0.0, 1.0\]"),
        (Traces, {"gamma": float("nan")}, "gamma = nan"),
        (OneStep, {"step_size": -1.0}, "step_size = -1.0: must be at least 0"),
        (Traces, {"step_size_w": -1.0}, "step_size_w = -1.0"),
        (Traces, {"lambda_theta": 1.1}, r"lambda_theta = 1.1: must be in \[0.0, 1.0\]"),
        (Traces, {"lambda_w": -0.1}, "lambda_w = -0.1"),
        (Continuing, {"lambda_theta": -0.1}, "lambda_theta = -0.1"),
        (Continuing, {"lambda_w": 2}, "lambda_w = 2"),
        (Continuing, {"step_size_R": -1.0}, "step_size_R = -1.0: must be at least 0"),
        (Continuing, {"report_every": 0}, "report_every = 0: must be at least 1"),
        (OneStep, {"optimizer": "x"}, "optimizer = 'x'"),
        (OneStep, {"head": "x"}, "head = 'x': must be one of"),
    ],
)
def test_config__names_what_is_wrong_and_what_is_allowed(Config, options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


def test_init__refuses_spaces_without_a_policy():
    env = Scripted()
    env.observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"observation_space = Box.*must be a flat Box"):
        actor_critic.init(env, OneStep(), 0)
    with pytest.raises(ValueError, match=r"head = 'gaussian': must be softmax for Discrete\(3\)"):
        actor_critic.init(Scripted(), OneStep(head="gaussian"), 0)
    with pytest.raises(ValueError, match="head = 'softmax': must be gaussian for Box"):
        actor_critic.init(Scripted(d=1), Continuing(head="softmax"), 0)


class TwoLives(gymnasium.Env):
    """Lives of 2 steps, cut by a time limit: the first in state 0, paid nothing; the others in
    state 1, paid 1 a step."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)
    lives = 0

    def reset(self, *, seed=None, options=None):
        self.lives, self.t = self.lives + 1, 0
        return int(self.lives > 1), {}

    def step(self, action):
        self.t += 1
        return int(self.lives > 1), float(self.lives > 1), False, self.t == 2, {}


@given(st.floats(0.1, 1.0), SEEDS)
def test_continuing__credits_nothing_before_a_truncation_for_what_comes_after(lam, seed):
    config = Continuing(lambda_w=lam, lambda_theta=lam, report_every=6, step_size_R=0.0, **SGD)
    state = actor_critic.init(TwoLives(), config, seed)
    started = state.theta.copy()
    next(actor_critic.train(TwoLives(), config, state))
    theta, before = state.theta.reshape(2, 2), started.reshape(2, 2)
    assert state.w[0] == 0.0 and np.array_equal(theta[0], before[0])
    assert state.w[1] != 0.0 and not np.array_equal(theta[1], before[1])


def test_train__traces_do_not_decay_into_denormal_numbers():
    """Of what is never seen again: after 5 steps the gradients are 0."""
    config = Continuing(precision="single", report_every=1, **SGD)
    env, count = Constant(10**9, True), iter(range(10**9))
    state = actor_critic.init(env, config, 0)
    fading = lambda like: np.full_like(like, 1e-3 if next(count) < 10 else 0.0)
    g, g_w = lambda theta, *_: fading(theta), lambda w, *_: fading(w)
    tiny, was = np.finfo(np.float32).tiny, 0.0
    for _ in islice(actor_critic.train(env, config, state, g, g_w), 2000):
        for z in (state.z_theta, state.z_w):
            assert not ((z != 0) & (np.abs(z) < tiny)).any()
        was = max(was, float(np.abs(state.z_w).max()))
    assert was > 0.0 and not state.z_w.any() and not state.z_theta.any()


@pytest.mark.parametrize("Config", [OneStep, Traces, Continuing])
@pytest.mark.parametrize("where", ["S", "R"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_train__stops_before_it_learns_from_what_is_not_finite(Config, where, bad):
    class Broken(Scripted):
        def reset(self, **options):
            result = super().reset(**options)
            getattr(self, where)[1] = bad
            return result

    config = Config(network=Network(hidden=(3,)))
    state = actor_critic.init(Broken(), config, 0)
    with pytest.raises(FloatingPointError, match=r"at step [12]: both must be finite"):
        next(actor_critic.train(Broken(), config, state))
    assert np.isfinite(state.theta).all() and np.isfinite(state.w).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("Config", [OneStep, Traces, Continuing])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size_w": 1e200}, "w has diverged"),
        ({"step_size": 1e200}, "theta has diverged"),
        ({"step_size_w": 1e200, "network": Network(hidden=(3,))}, "w has diverged"),
        ({"step_size": 1e308, "network": Network(hidden=(3,))}, "theta has diverged"),
    ],
)
def test_train__stops_when_it_diverges(Config, options, message):
    """The error names quantity and step, and no action of a broken policy reaches the world."""
    options = dict(optimizer="sgd", network=LINEAR, step_size=0.0, step_size_w=0.0) | options
    config = Config(**options)
    env = Scripted(d=2)
    state = actor_critic.init(env, config, 0)
    with pytest.raises(FloatingPointError, match=message + r".* step \d+"):
        for _ in islice(actor_critic.train(env, config, state), 300):
            pass


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("Config", [OneStep, Traces, Continuing])
@pytest.mark.parametrize(("name", "option"), [("w", "step_size_w"), ("theta", "step_size")])
def test_train__yields_no_state_that_is_not_finite(Config, name, option):
    """An overflow in the last step before a yield, from which nothing is computed any more."""

    class Rich(Scripted):
        def step(self, action):
            s, R, *rest = super().step(action)
            return s, 1e9 * R, *rest

    options = {"report_every": 1} if Config is Continuing else {}
    config = Config(**{"step_size": 0.0, "step_size_w": 0.0, option: 1e308}, **options, **SGD)
    state = actor_critic.init(Rich(T=1), config, 0)
    with pytest.raises(FloatingPointError, match=f"{name} has diverged: not finite at step 1"):
        next(actor_critic.train(Rich(T=1), config, state))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_runner__saves_the_last_good_parameters_of_a_diverging_run(tmp_path):
    method = Method(OneStep, State, actor_critic.init, actor_critic.train, actor_critic.actor)
    config = OneStep(optimizer="sgd", step_size_w=3.0, network=Network(hidden=(4,),
                     activation="relu"))  # fmt: skip
    session = training.begin("actor-critic", method, "CartPole-v1", config, 0, tmp_path / "run")
    with pytest.raises(Failure, match=r"w has diverged.* step \d+.*saved up to step \d+"):
        training.learn(session, 10_000)
    with np.load(tmp_path / "run" / "parameters.npz") as saved:
        assert all(np.isfinite(saved[name]).all() for name in ("theta", "w"))
