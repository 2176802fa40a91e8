"""Actor–critic: the boxes written again, reductions, exact expectations, what resets and when."""

import copy
from dataclasses import replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps, unichain_mdps
from worlds import (
    CHANCE,
    LINEAR,
    NETWORKS,
    SEEDS,
    UNIT,
    Constant,
    Recorder,
    Scripted,
    Wander,
    contents,
)

from algorithms import actor_critic, reinforce
from algorithms.actor_critic import (
    Continuing,
    OneStep,
    State,
    Traces,
    continuing,
    gradient,
    one_step,
    traces,
)
from algorithms.common.policy import Network, make_policy
from algorithms.common.world import BLOCK, Position
from algorithms.exact.average_reward import (
    arriving_trace,
    average_reward,
    expected_step,
    solve,
)
from algorithms.exact.laboratory import lambda_returns, score_table
from algorithms.exact.mdp import FiniteMDPEnv, expected_return, state_values, trajectories
from algorithms.exact.worlds import chain, garnet
from algorithms.runner import training
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Failure
from algorithms.runner.lookup import Method
from npgrad import OPTIMIZERS, at, complex_step

METHODS = OneStep, Traces, Continuing
LINEARS = st.just(LINEAR)
SGD = dict(optimizer="sgd", network=LINEAR)
LONG = BLOCK + 5  # steps: an episode within which a run yields


def run(env, config, seed, yields):
    state = actor_critic.init(env, config, seed)
    return state, list(islice(actor_critic.train(env, config, state), yields))


def blank(theta, w, with_traces=True):
    """A State with these parameters, before anything else has happened."""
    theta, w = np.array(theta, float), np.array(w, float)
    z = [np.zeros_like(x) if with_traces else np.zeros(0) for x in (theta, w)]
    statistics = [np.empty((0, x.size)) for x in (theta, w)]
    return State(theta, w, *z, *statistics, np.random.default_rng(0), Position(0))


def times(d):
    """A gradient as the boxes take it: c -> c d."""
    return lambda c: c * d


# The boxes


def by_the_book(config, begun, log, starts):
    """Sutton & Barto's boxes over a log of steps, from the State `begun`, in whose episode no step
    was taken: linear softmax, linear v̂, any optimiser. (θ, w, z^θ, z^w, R̄)."""
    begun, starts, goes_on = copy.deepcopy(begun), iter(starts), isinstance(config, Continuing)
    theta, w, t, R_bar = begun.theta.reshape(-1, 3), begun.w, begun.optimizer_steps, begun.R_bar
    m_theta, m_w, optimizer = (
        begun.theta_statistics,
        begun.w_statistics,
        OPTIMIZERS[config.optimizer],
    )
    z_theta, z_w, I = 0 * theta, 0 * w, 1.0
    next(starts)
    for S, A, R, S2, terminated, truncated in log:
        first = next(starts, None) if terminated or truncated else None
        if terminated and goes_on:
            S2 = first
        x, x2 = np.append(S, 1.0), np.append(S2, 1.0)
        v, v2 = x @ w, 0.0 if terminated and not goes_on else x2 @ w
        pi = np.exp(x @ theta)
        score = np.outer(x, np.eye(3)[A] - pi / pi.sum())
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


def assert_is(state, config, expected):
    """The State has these (θ, w, z^θ, z^w, R̄)."""
    theta, w, z_theta, z_w, R_bar = expected
    # adam and rmsprop_outside divide a gradient near 0 and its rounding error by down to 1e-8
    loose = config.optimizer in ("adam", "rmsprop_outside")
    close = dict(rtol=1e-8, atol=1e-6 if loose else 1e-10)
    np.testing.assert_allclose(state.theta, theta, **close)
    np.testing.assert_allclose(state.w, w, **close)
    assert abs(state.R_bar - R_bar) <= close["atol"] * 10
    if type(config) is not OneStep:
        np.testing.assert_allclose(state.z_theta, z_theta, **close)
        np.testing.assert_allclose(state.z_w, z_w, **close)


@st.composite
def configs(draw, networks=NETWORKS):
    """Configs of all three methods."""
    Config = draw(st.sampled_from(METHODS))
    options = dict(step_size=0.05, step_size_w=0.1, network=draw(networks))
    options["optimizer"] = draw(st.sampled_from(sorted(OPTIMIZERS)))
    if Config is not OneStep:
        options |= dict(lambda_theta=draw(UNIT), lambda_w=draw(UNIT))
    if Config is Continuing:
        return Config(**options, report_every=draw(st.integers(1, 40)), step_size_R=0.3)
    return Config(**options, gamma=draw(UNIT))


@given(
    configs(LINEARS),
    st.sampled_from((Scripted, lambda: Scripted(truncate=True), Wander)),
    st.integers(1, 4),
    SEEDS,
)
def test_train__is_the_box(config, make, yields, seed):
    """θ, w, z and R̄ equal a loop over the boxes' lines: resets, ends and restarts included."""
    env = Recorder(make())
    begun = actor_critic.init(env, config, seed)
    state, _ = run(env, config, seed, yields)
    assert_is(state, config, by_the_book(config, begun, env.log, env.starts))
    if isinstance(config, Continuing):
        assert state.I == 1.0


@given(UNIT, st.integers(0, 2), st.sampled_from(("sgd", "momentum", "rmsprop")), SEEDS)
def test_traces__without_decay_are_one_step(gamma, d, optimizer, seed):
    """λ = 0: the same θ and w, parameter for parameter, along a whole run."""
    options = dict(gamma=gamma, optimizer=optimizer, network=Network(hidden=(3,)), step_size=0.05)
    one, zero = OneStep(**options), Traces(**options, lambda_theta=0.0, lambda_w=0.0)
    states = [actor_critic.init(Scripted(d=d, T=4), config, seed) for config in (one, zero)]
    runs = [actor_critic.train(Scripted(d=d, T=4), *pair) for pair in zip((one, zero), states)]
    for _ in islice(zip(*runs), 4):
        np.testing.assert_allclose(states[1].theta, states[0].theta, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(states[1].w, states[0].w, rtol=1e-9, atol=1e-11)


@given(UNIT, UNIT, UNIT, st.integers(1, 8), st.booleans(), SEEDS)
def test_traces__sum_to_the_forward_view(gamma, lambda_theta, lambda_w, T, terminated, seed):
    """Frozen v̂ and θ: Σ_t δ_t z_t^θ = Σ_t γ^t (G_t^λ − v̂(S_t)) ∇ln π_t, exactly; for w, without I,
    Σ_t δ_t z_t^w = Σ_t (G_t^λ − v̂(S_t)) ∇v̂_t. λ = 1 is the Monte Carlo update."""
    rng = np.random.default_rng(seed)
    R, v, dlogpi, dv = (*(rng.normal(size=n) for n in (T, T + 1, (T, 3), (T, 2))),)
    v[T] *= not terminated
    state = blank(np.zeros(3), np.zeros(2))
    config = Traces(gamma=gamma, lambda_theta=lambda_theta, lambda_w=lambda_w, step_size=1.0,
                    step_size_w=1.0, **SGD)  # fmt: skip
    for t in range(T):
        traces(config, state, R[t], v[t], v[t + 1], times(dv[t]), times(dlogpi[t]))
    weight = gamma ** np.arange(T) * (lambda_returns(R, v, gamma, lambda_theta) - v[:T])
    np.testing.assert_allclose(state.theta, weight @ dlogpi, atol=1e-11)
    weight = lambda_returns(R, v, gamma, lambda_w) - v[:T]
    np.testing.assert_allclose(state.w, weight @ dv, atol=1e-11)


@given(mdps(kinds=("layered",)), SEEDS)
def test_one_step__expected_update_under_the_exact_v_is_the_policy_gradient(mdp, seed):
    """Σ_τ Pr(τ) Σ_t I δ_t ∇ln π_t = ∇J where v̂ = v^π."""
    policy = make_policy(FiniteMDPEnv(mdp), LINEAR)
    theta = np.random.default_rng(seed).normal(size=policy.model.layout.size)
    table = lambda theta: policy.at(theta, mdp.observation).probs()
    v, net, total = state_values(mdp, table(theta)), at(policy.model, theta), 0.0
    config = OneStep(gamma=mdp.gamma, step_size=1.0, **SGD)
    for tau in trajectories(mdp, table(theta), 6):
        state = blank(np.zeros_like(theta), [0.0], with_traces=False)
        for s, a, R, s2 in zip(tau.states, tau.actions, tau.rewards, tau.states[1:]):
            g = gradient(net.forward(mdp.observation[s]), policy.head, a)
            dlogpi = lambda c, g=g: net.backward(c * g)
            one_step(config, state, R, v[s], v[s2], times(np.zeros(1)), dlogpi)
        total = total + tau.probability * state.theta
    exact = complex_step(lambda theta: expected_return(mdp, table(theta)), theta)
    np.testing.assert_allclose(total, exact, atol=1e-9)


@given(unichain_mdps(), UNIT, st.sampled_from((0.0, 3.0)), st.floats(-3, 3), SEEDS)
def test_continuing__expected_step_is_the_exact_one(mdp, lam, off, R_bar, seed):
    """The box itself, once for every (s, a, s') of the stationary chain, with the trace that comes
    to s. Its z, in the mean over what leads to s', is the trace that comes to s'; δz is ∇ρ where
    v̂ = v, and has the known bias where not; whatever R̄ is."""
    rng = np.random.default_rng(seed)
    policy = make_policy(FiniteMDPEnv(mdp), LINEAR)
    theta = rng.normal(size=policy.model.layout.size)
    table = lambda theta: policy.at(theta, mdp.observation).probs()
    pi = table(theta)
    scores = score_table(reinforce.gradient, theta, policy, mdp.observation, pi.shape[1])
    (d, _, v), e = solve(mdp, pi), off * rng.normal(size=len(pi))
    arriving = arriving_trace(mdp, pi, scores, lam)
    config = Continuing(lambda_theta=lam, lambda_w=0.0, step_size=1.0, **SGD)
    mean, arrived, v_hat = 0.0, np.zeros_like(arriving), v + e
    joint = d[:, None, None] * pi[:, :, None] * mdp.P
    for s, a, s2 in np.argwhere(joint > 0):
        state = blank(np.zeros_like(theta), [0.0])
        state.z_theta[:], state.R_bar = arriving[s] / d[s], R_bar
        dlogpi, dv = times(scores[s, a]), times(np.zeros(1))
        continuing(config, state, mdp.r[s, a, s2], v_hat[s], v_hat[s2], dv, dlogpi)
        mean = mean + joint[s, a, s2] * state.theta
        arrived[s2] += joint[s, a, s2] * state.z_theta
    # the chain forgets in about ten steps: |z| and |v| are at most some tens
    np.testing.assert_allclose(arrived, arriving, atol=1e-11)
    np.testing.assert_allclose(mean, expected_step(mdp, pi, scores, lam, e), atol=1e-9)
    exact = complex_step(lambda theta: average_reward(mdp, table(theta)), theta)
    if off == 0.0 or lam == 1.0:
        np.testing.assert_allclose(mean, exact, atol=1e-9)


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
    box(config, state, R, v, v2, times(dv), times(dlogpi))
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


# The end of an episode, and tasks without one


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
    next(actor_critic.train(env, config, state))
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
    config = Config(gamma=0.8, step_size=0.1, **SGD)
    state, _ = run(Scripted(truncate=truncate), config, seed, 2)
    alone = blank(state.theta, state.w, with_traces=Config is Traces)
    alone.rng, alone.world = copy.deepcopy(state.rng), copy.deepcopy(state.world)
    for each in (state, alone):
        next(actor_critic.train(Scripted(truncate=truncate), config, each))
    assert np.array_equal(state.theta, alone.theta) and np.array_equal(state.w, alone.w)
    assert state.I == alone.I == 1.0 and not state.z_theta.any() and not state.z_w.any()


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
    expected, nothing = 0.0, times(np.zeros(1))
    for s, a, s2 in np.argwhere(mdp.P):
        state = blank([0.0], [0.0])
        state.R_bar = R_bar
        continuing(config, state, mdp.r[s, a, s2], v[s], v[s2], nothing, nothing)
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
    for _ in actor_critic.train(env, config, state):
        if state.steps == n:
            break
    B = np.abs(mdp.r - rho + v - v[:, None, None])[mdp.P > 0].max()
    bound = B * np.sqrt(2 * np.log(2 / CHANCE) * alpha / (2 - alpha))
    assert abs(state.R_bar - rho) <= (1 - alpha) ** n * abs(rho) + bound + 1e-12


class TwoLives(gymnasium.Env):
    """Lives of 2 steps, cut by a time limit: the first in state 0, paid nothing; the others in
    state 1, paid 1 a step."""

    observation_space, action_space = Discrete(2), Discrete(2)
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
    state, _ = run(TwoLives(), config, seed, 1)
    theta = state.theta.reshape(2, 2)
    assert state.w[0] == 0.0 and not theta[0].any()
    assert state.w[1] != 0.0 and theta[1].any()


@pytest.mark.parametrize("precision", ["single", "double"])
def test_train__traces_do_not_decay_into_denormal_numbers(precision):
    """Those of a state that is never seen again after 5 steps."""

    class Leaving(Constant):
        observation_space = gymnasium.spaces.Discrete(2)

        def step(self, action):
            return (int(self.t > 5), *super().step(action)[1:])

    config = Continuing(precision=precision, report_every=10, **SGD)
    env = Leaving(10**9, True)
    env.observation_space = Leaving.observation_space
    state = actor_critic.init(env, config, 0)
    tiny, was = np.finfo(state.w.dtype).tiny, 0.0
    for _ in islice(actor_critic.train(env, config, state), 800):
        for z in (state.z_theta, state.z_w):
            assert not ((z != 0) & (np.abs(z) < tiny)).any()
        was = max(was, float(state.z_w[0]))
    assert was > 0.0 and state.z_w[0] == 0.0 and not state.z_theta[:2].any()


# What a run reports, and what it goes on from


PLACES = {
    "scripted": (lambda: Scripted(T=LONG), {}),
    "truncated": (lambda: Scripted(T=LONG, d=2, truncate=True), {}),
    "short": (lambda: Scripted(T=3), {}),
    "wander": (Wander, {}),
    "mdp": (lambda: FiniteMDPEnv(garnet(0)), {}),
    "chain": (lambda: FiniteMDPEnv(chain()), {}),
    "features": (lambda: gymnasium.make("Pendulum-v1", max_episode_steps=LONG),
                 dict(features="tiles", order=1, precision="single")),
}  # fmt: skip


@pytest.mark.parametrize(("make", "options"), PLACES.values(), ids=PLACES)
@given(configs(), st.integers(1, 5), st.integers(1, 6), SEEDS)
def test_train__resumed_at_any_yield_ends_as_if_never_stopped(
    make, options, config, before, after, seed
):
    """A copy of the State, also one saved within an episode, in a new environment: bit by bit."""
    env, config = make(), replace(config, **options, step_size=1e-5, step_size_w=1e-5)
    state = actor_critic.init(env, config, seed)
    training = actor_critic.train(env, config, state)
    for _ in islice(training, before):
        pass
    saved = copy.deepcopy(state)
    resumed = actor_critic.train(make(), config, saved)
    assert list(islice(training, after)) == list(islice(resumed, after))
    np.testing.assert_equal(contents(saved), contents(state))


@given(configs(LINEARS), SEEDS)
def test_train__begins_with_fresh_traces_where_an_episode_is_not_repeated(config, seed):
    """It warns, and the new episode moves what the old one left as if nothing had come before."""
    config = replace(config, report_every=LONG) if isinstance(config, Continuing) else config
    state, _ = run(Scripted(T=LONG), config, seed, 1)
    assert state.z_w.any() or type(config) is OneStep
    left, state.world.seed, env = (
        copy.deepcopy(state),
        state.world.seed + 1,
        Recorder(Scripted(T=LONG)),
    )
    with pytest.warns(RuntimeWarning, match="Scripted does not repeat its episodes: a new one"):
        metrics = next(actor_critic.train(env, config, state))
    log, starts = env.log[BLOCK:], env.starts[1:]  # without those that did not lead where they did
    assert metrics.steps == BLOCK + len(log) and len(log) in (5, BLOCK)
    assert_is(state, config, by_the_book(config, left, log, starts))


@given(SEEDS, st.sampled_from((OneStep, Traces)), st.integers(1, 80))
def test_train__metrics_count_steps_and_returns(seed, Config, T):
    """A report at every episode's end, and after every BLOCK steps within one."""
    env, config = Recorder(Scripted(T=T)), Config(network=LINEAR)
    state = actor_critic.init(env, config, seed)
    for m in islice(actor_critic.train(env, config, state), 5):
        done, t = divmod(len(env.log), T)
        assert (m.steps, m.episodes) == (state.steps, state.episodes) == (len(env.log), done)
        assert t % BLOCK == 0 and m.lengths == (() if t else (T,))
        ended = () if t else (sum(step[2] for step in env.log[-T:]),)
        assert m.returns == pytest.approx(ended, rel=1e-12)


@given(SEEDS, st.integers(1, 80))
def test_continuing__reports_every_so_many_steps(seed, n):
    env = Recorder(Scripted(T=4))
    state = actor_critic.init(env, config := Continuing(network=LINEAR, report_every=n), seed)
    for m in islice(actor_critic.train(env, config, state), 7):
        done, t = divmod(len(env.log), n)
        assert (m.steps, m.episodes) == (len(env.log), done) and t % BLOCK == 0
        assert m.lengths == (() if t else (n,))
        if t == 0:
            rewards = sum(step[2] for step in env.log[-n:])
            assert m.returns == pytest.approx((rewards,), rel=1e-12, abs=1e-12)
            scalars = {"average_reward": rewards / n, "R_bar": state.R_bar}
            assert m.scalars == pytest.approx(scalars, rel=1e-12, abs=1e-12)


def test_actor__follows_the_policy():
    act = actor_critic.actor(Scripted(), OneStep(network=LINEAR))
    theta = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    rng, n = np.random.default_rng(0), 2000
    assert act({"theta": theta}, np.zeros(2), rng, greedy=True) == 1
    draws = [act({"theta": theta}, np.zeros(2), rng) for _ in range(n)]
    pi = np.exp(theta[6:]) / np.exp(theta[6:]).sum()
    assert np.abs(np.bincount(draws) / n - pi).max() <= np.sqrt(np.log(2 / CHANCE) / (2 * n))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_runner__saves_the_last_good_parameters_of_a_diverging_run(tmp_path):
    method = Method(OneStep, State, actor_critic.init, actor_critic.train, actor_critic.actor)
    config = OneStep(optimizer="sgd", step_size_w=3.0, network=Network(hidden=(4,),
                     activation="relu"))  # fmt: skip
    session = training.begin(
        "actor-critic", method, Environment("CartPole-v1"), config, 0, tmp_path / "run"
    )
    with pytest.raises(Failure, match=r"step \d+: w has diverged.*saved up to step \d+"):
        training.learn(session, 10_000)
    with np.load(tmp_path / "run" / "parameters.npz") as saved:
        assert all(np.isfinite(saved[name]).all() for name in ("theta", "w"))
