"""TD(λ): forward views written naively, reductions, expected updates enumerated, exact values."""

import copy
from dataclasses import replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import distributions, mdps, policies, unichain_mdps
from worlds import SEEDS, Recorder, Scripted, Wander, contents

from algorithms import td_lambda
from algorithms.common.policy import Network, make_value
from algorithms.common.world import BLOCK, Position
from algorithms.exact.average_reward import stationary_distribution
from algorithms.exact.mdp import (
    FiniteMDP,
    FiniteMDPEnv,
    discounted_occupancy,
    markov_chain,
    state_values,
    trajectories,
)
from algorithms.exact.worlds import RANDOM_WALK_19_VALUES, garnet, random_walk_19
from algorithms.td_lambda import Config, State, gradient, move_trace, update
from npgrad import grad

UNIT = st.sampled_from((0.0, 1.0)) | st.floats(0, 1)
TRACES = ("accumulating", "replacing", "dutch")
MLP = Network(hidden=(3,))
LONG = BLOCK + 5  # steps: an episode within which a run yields


class Script(gymnasium.Env):
    """Plays given episodes in turn, whatever the actions: each (observations, rewards, terminated),
    with one observation more than rewards; not terminated is truncated."""

    action_space = Discrete(2)

    def __init__(self, space, episodes):
        self.observation_space, self.episodes, self.resets = space, episodes, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.S, self.R, self.terminates = self.episodes[self.resets % len(self.episodes)]
        self.resets += 1
        self.t = 0
        return self.S[0], {}

    def step(self, action):
        self.t += 1
        over = self.t == len(self.R)
        ends = over and self.terminates
        return self.S[self.t], self.R[self.t - 1], ends, over and not ends, {}

    def features(self, observations):
        """x(s) of a linear v̂, one row per observation: one-hot, or (s, 1)."""
        space = self.observation_space
        if isinstance(space, Discrete):
            return np.eye(int(space.n))[np.array(observations) - int(space.start)]
        return np.column_stack([observations, np.ones(len(observations))])


@st.composite
def scripts(draw, one_hot=None, recurrent=True):
    """A Script of 1-3 episodes of 1-6 steps: one-hot states, binary or real features."""
    kind = (
        "one-hot"
        if one_hot
        else draw(st.sampled_from(("one-hot", "binary", "real")[one_hot is False :]))
    )
    rng = np.random.default_rng(draw(SEEDS))
    n = draw(st.integers(1, 4)) if recurrent else 7
    start = draw(st.integers(-2, 2))
    episodes = []
    for _ in range(draw(st.integers(1, 3))):
        T = draw(st.integers(1, 6))
        if kind == "one-hot":
            S = rng.integers(n, size=T + 1) if recurrent else rng.permutation(n)[: T + 1]
            S = (S + start).tolist()
        else:
            S = (
                rng.integers(2, size=(T + 1, n))
                if kind == "binary"
                else rng.uniform(-1, 1, (T + 1, n))
            )
        episodes.append((S, rng.normal(size=T).tolist(), draw(st.booleans())))
    space = Discrete(n, start=start) if kind == "one-hot" else Box(-1.0, 1.0, (n,))
    return Script(space, episodes)


def configs(**fixed):
    drawn = dict(gamma=UNIT, lam=UNIT, step_size=st.floats(0, 0.5))
    return st.builds(Config, **drawn | {name: st.just(x) for name, x in fixed.items()})


def learn(env, config, episodes=None, w=None):
    """(w, z) before each step of the script and after its last, and the Metrics of each episode."""
    state, env.resets = td_lambda.init(env, config, 0), 0
    state.w[:] = start_weights(len(state.w)) if w is None else w
    path = []

    def watched(v):
        path.append((state.w.copy(), state.z.copy()))
        return gradient(v)

    reports = (m for m in td_lambda.train(env, config, state, gradient=watched) if m.returns)
    metrics = list(islice(reports, episodes or len(env.episodes)))
    path.append((state.w.copy(), state.z.copy()))
    return *(np.array(x) for x in zip(*path)), metrics


def start_weights(n):
    return np.linspace(-1.0, 2.0, n)


def assert_close(actual, expected):
    """Equal to rounding: eps = 2e-16, a few hundred operations, growth of w under 1e3."""
    assert np.abs(actual - expected).max() <= 1e-10 * (1 + np.abs(expected).max())


def n_step_return(R, v, t, n, gamma):
    """(12.1): R_{t+1} + ... + γ^{n−1} R_{t+n} + γ^n v[t+n]."""
    return sum(gamma**k * R[t + k] for k in range(n)) + gamma**n * v[t + n]


def lambda_return(R, v, t, h, gamma, lam):
    """(12.9), the λ-return truncated at h; v[k] is what bootstrapping from S_k takes."""
    G = lambda n: n_step_return(R, v, t, n, gamma)
    mixed = sum(lam ** (n - 1) * G(n) for n in range(1, h - t))
    return (1 - lam) * mixed + lam ** (h - t - 1) * G(h - t)


@given(scripts(), configs(updates="offline"))
def test_train__offline_accumulating_is_the_forward_view(env, config):
    """Backward view = Σ_t α (G^λ_t − wᵀx_t) x_t at the w of the episode's start; any γ, λ."""
    W, _, _ = learn(env, config)
    w = W[0]
    for S, R, terminated in env.episodes:
        X, T = env.features(S), len(R)
        v = X @ w * np.append(np.ones(T), 0.0 if terminated else 1.0)
        G = [lambda_return(R, v, t, T, config.gamma, config.lam) for t in range(T)]
        w = w + config.step_size * (G - v[:T]) @ X[:T]
    assert_close(W[-1], w)


@given(scripts(one_hot=False), configs(updates="offline", network=MLP))
def test_train__offline_accumulating_is_the_forward_view_of_a_network(env, config):
    """The same with ∇v̂ of the tape, for a nonlinear v̂."""
    model = make_value(env, MLP)
    w0 = model.init(np.random.default_rng(0))
    W, _, _ = learn(env, config, w=w0)
    w = w0
    for S, R, terminated in env.episodes:
        T, S = len(R), np.array(S, float)
        v = model(w, S)[:, 0] * np.append(np.ones(T), 0.0 if terminated else 1.0)
        G = [lambda_return(R, v, t, T, config.gamma, config.lam) for t in range(T)]
        dv = grad(lambda w, s: model(w, s)[0])
        d_w = sum((G[t] - v[t]) * dv(w, S[t]) for t in range(T))
        w = w + config.step_size * d_w
    assert_close(W[-1], w)


def online_lambda_return(w, X, R, terminated, config):
    """§12.4: at every horizon h all updates are redone from the episode's start. [w_1, ..., w_T]"""
    T, w0, path = len(R), w, []
    v = np.zeros(T + 1)
    for h in range(1, T + 1):
        v[h] = 0.0 if terminated and h == T else w @ X[h]
        w = w0
        for t in range(h):
            G = lambda_return(R, v, t, h, config.gamma, config.lam)
            w = w + config.step_size * (G - w @ X[t]) * X[t]
        path.append(w)
    return path


@given(scripts(), configs(trace="dutch"))
def test_train__true_online_is_the_online_lambda_return_algorithm(env, config):
    """At every step of every episode, for any features, γ, λ and α."""
    W, _, _ = learn(env, config)
    path = [W[0]]
    for S, R, terminated in env.episodes:
        path += online_lambda_return(path[-1], env.features(S), R, terminated, config)
    assert_close(W, np.array(path))


@given(scripts(), configs(trace="dutch", lam=1.0))
def test_train__dutch_with_lambda_1_is_linear_monte_carlo(env, config):
    """§12.6: at the end of a terminated episode, w ← w + α (G_t − wᵀx_t) x_t for t = 0 ... T−1."""
    env.episodes = [(S, R, True) for S, R, _ in env.episodes]
    W, _, _ = learn(env, config)
    w = W[0]
    for S, R, _ in env.episodes:
        for t, x in enumerate(env.features(S)[:-1]):
            G = sum(config.gamma**k * r for k, r in enumerate(R[t:]))
            w = w + config.step_size * (G - w @ x) * x
    assert_close(W[-1], w)


@given(scripts(), configs(lam=1.0, updates="offline"))
def test_train__offline_accumulating_with_lambda_1_is_monte_carlo(env, config):
    W, _, _ = learn(env, config)
    w = W[0]
    for S, R, terminated in env.episodes:
        X = env.features(S)
        G, d_w = 0.0 if terminated else w @ X[-1], 0.0
        for x, r in zip(X[-2::-1], R[::-1]):
            G = r + config.gamma * G
            d_w += (G - w @ x) * x
        w = w + config.step_size * d_w
    assert_close(W[-1], w)


@given(scripts(one_hot=True), configs(gamma=1.0, lam=1.0, updates="offline", trace="replacing"))
def test_train__offline_replacing_with_lambda_1_is_first_visit_monte_carlo(env, config):
    """Singh & Sutton 1996: each state moves towards the return of its first visit alone."""
    W, _, _ = learn(env, config)
    w = W[0]
    for S, R, terminated in env.episodes:
        X, new = env.features(S), w.copy()
        for t in range(len(R)):
            if S[t] not in S[:t]:
                G = sum(R[t:]) + (0.0 if terminated else w @ X[-1])
                new += config.step_size * (G - w @ X[t]) * X[t]
        w = new
    assert_close(W[-1], w)


@given(scripts(one_hot=True), configs(lam=0.0), st.sampled_from(TRACES))
def test_train__lambda_0_is_td_0(env, config, trace):
    """All three kinds: w(S) ← w(S) + α (R + γ w(S') − w(S)), one number at a time."""
    W, _, metrics = learn(env, replace(config, trace=trace))
    w = dict(enumerate(W[0], start=int(env.observation_space.start)))
    for (S, R, terminated), reported in zip(env.episodes, metrics):
        deltas, v_start = [], w[S[0]]
        for t, r in enumerate(R):
            v_next = 0.0 if terminated and t == len(R) - 1 else w[S[t + 1]]
            deltas.append(r + config.gamma * v_next - w[S[t]])
            w[S[t]] += config.step_size * deltas[-1]
        assert_close(reported.scalars["v_start"], v_start)
        assert_close(reported.scalars["mean_abs_delta"], np.mean(np.abs(deltas)))
    assert_close(W[-1], np.array(list(w.values())))


@given(scripts(one_hot=True), configs(), st.sampled_from(("accumulating", "replacing")))
def test_train__is_the_box_with_the_trace_in_closed_form(env, config, trace):
    """z_i = Σ_{visits k} (γλ)^{t−k}, of the last visit only if replacing; δ before w moves."""
    W, Z, _ = learn(env, replace(config, trace=trace))
    w, path, traces = W[0], [W[0]], [0.0 * W[0]]
    first, decay = int(env.observation_space.start), config.gamma * config.lam
    for S, R, terminated in env.episodes:
        X = env.features(S)
        for t, r in enumerate(R):
            z = np.zeros(len(w))
            for i in range(len(w)):
                visits = [k for k in range(t + 1) if S[k] == i + first]
                counted = visits if trace == "accumulating" else visits[-1:]
                z[i] = sum(decay ** (t - k) for k in counted)
            v_next = 0.0 if terminated and t == len(R) - 1 else w @ X[t + 1]
            w = w + config.step_size * (r + config.gamma * v_next - w @ X[t]) * z
            path.append(w)
            traces.append(z)
    assert_close(W, np.array(path))
    ends = np.cumsum([len(R) for _, R, _ in env.episodes])
    for k in range(len(W)):
        assert_close(Z[k], 0.0 * w if k in ends[:-1] else traces[k])  # a new episode's z is 0


@given(scripts(), configs())
def test_train__accumulating_trace_is_the_decayed_sum_of_features(env, config):
    _, Z, _ = learn(env, config, episodes=1)
    S, R, _ = env.episodes[0]
    X, decay = env.features(S), config.gamma * config.lam
    for t in range(len(R)):
        assert_close(Z[t + 1], sum(decay ** (t - k) * X[k] for k in range(t + 1)))


@given(scripts(one_hot=True, recurrent=False), configs())
def test_train__all_kinds_agree_if_no_state_recurs(env, config):
    """Then no update reaches a value that is still to be used: online = offline, too."""
    W, _, _ = learn(env, config)
    for other in (
        replace(config, trace="replacing"),
        replace(config, trace="dutch"),
        replace(config, updates="offline"),
    ):
        assert_close(learn(env, other)[0][-1], W[-1])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8), UNIT, UNIT, UNIT)
def test_move_trace__kinds_differ_in_the_visited_state_only(visits, gamma, lam, step_size):
    """Every trace decays at every step, the visited one too: then accumulating ADDS 1 and replacing
    SETS to 1. Dutch lies between: replacing at α = 1, accumulating at α = 0."""
    Z = {}
    for trace, alpha in (*((trace, step_size) for trace in TRACES), ("dutch", 0.0), ("dutch", 1.0)):
        config = Config(gamma=gamma, lam=lam, trace=trace, step_size=alpha)
        z = np.zeros(3)
        for s in visits:
            before = z.copy()
            move_trace(z, np.eye(3)[s], config)
            decayed = gamma * lam * before
            decayed[s] = {
                "accumulating": decayed[s] + 1,
                "replacing": 1.0,
                "dutch": decayed[s] + 1 - alpha * decayed[s],
            }[trace]
            assert_close(z, decayed)
        Z[trace, alpha] = z
    middle, most, least = Z["dutch", step_size], Z["dutch", 0.0], Z["dutch", 1.0]
    assert_close(most, Z["accumulating", step_size])
    assert_close(least, Z["replacing", step_size])
    assert (least <= middle + 1e-12).all() and (middle <= most + 1e-12).all()


@given(scripts(one_hot=True))
def test_train__replacing_takes_binary_features_as_it_takes_states(env):
    """One-hot rows in a Box do what the states do; the bias, a feature always active, has z = 1."""
    n, config = int(env.observation_space.n), Config(trace="replacing")
    boxed = Script(Box(0.0, 1.0, (n,)), [(env.features(S), R, e) for S, R, e in env.episodes])
    _, Z, _ = learn(env, config)
    _, Z_box, _ = learn(boxed, config)
    assert_close(Z_box[:, :n], Z)
    assert (Z_box[1:, n] == (Z[1:].any(1))).all()


def expected_update(mdp, pi, X, w, config, horizon):
    """E[Σ_t α δ_t z_t] over every trajectory of an episode cut at the horizon, by the page."""
    v, total = X @ w, 0.0
    for tau in trajectories(mdp, pi, horizon, limit=4000):
        state = State(np.zeros_like(w), np.zeros_like(w), np.empty(0), None, Position(0))
        for s, s2, R in zip(tau.states, tau.states[1:], tau.rewards):
            update(state, config, X[s], R, v[s], v[s2])
        total += tau.probability * state.w
    return total


@st.composite
def small_worlds(draw):
    """(mdp, pi, horizon) with at most 4000 trajectories, states that recur included."""
    mdp = draw(mdps())
    pi, horizon = draw(policies(mdp)), 4
    while True:
        try:
            next(trajectories(mdp, pi, horizon, limit=4000))
            return mdp, pi, horizon
        except ValueError:
            horizon -= 1


@given(small_worlds(), st.sampled_from(("accumulating", "replacing")), UNIT)
@settings(max_examples=15)
def test_update__expected_is_zero_at_the_true_values(world, trace, lam):
    """w = v^π is a fixed point, tabular: E[δ_t | S_0 ... S_t] = 0, and z_t is known by then."""
    mdp, pi, horizon = world
    config = Config(gamma=mdp.gamma, lam=lam, trace=trace, step_size=1.0)
    v = state_values(mdp, pi)
    moved = expected_update(mdp, pi, np.eye(len(v)), v, config, horizon)
    assert np.abs(moved).max(initial=0.0) <= 1e-12 * (1 + np.abs(v).max()) * (1 + horizon) ** 2


@given(unichain_mdps(), st.data(), st.floats(0.1, 0.95), UNIT, SEEDS)
def test_fixed_point__has_at_most_the_error_of_12_8(mdp, data, gamma, lam, seed):
    """Σ_s d(s) (v^π − v̂)² is at most (1 − γλ)/(1 − γ) times the least one where a linear v̂ has
    Xᵀ D (I − γλP)⁻¹ (r + γPXw − Xw) = 0, D = diag d the stationary distribution. There the page's
    update expects to stay: of the trace it needs the mean given S_t, on which alone δ_t depends."""
    pi, S = data.draw(policies(mdp)), len(mdp.p0)
    (P, r), d, I = markov_chain(mdp, pi), stationary_distribution(mdp, pi), np.eye(S)
    v, n = state_values(replace(mdp, gamma=gamma), pi), min(2, np.count_nonzero(d > 1e-3))
    X = np.random.default_rng(seed).normal(size=(S, n))
    K = X.T @ (d[:, None] * np.linalg.inv(I - gamma * lam * P))
    A = K @ (I - gamma * P) @ X
    assume(np.linalg.cond(A) < 1e6)
    w, root = np.linalg.solve(A, K @ r), np.sqrt(np.maximum(d, 0.0))
    best = np.linalg.lstsq(root[:, None] * X, root * v)[0]
    error = lambda w: sum(d[s] * (v[s] - X[s] @ w) ** 2 for s in range(S))
    size = np.abs(v).max() + np.abs(X @ w).max() + np.abs(r).max()
    bound = (1 - gamma * lam) / (1 - gamma) * error(best)
    assert error(w) <= bound + 1e-9 * size**2  # w to eps cond(A)
    zeta = np.linalg.solve((I - gamma * lam * P).T, P.T @ (d[:, None] * X))  # E[z_{t−1} 1{S_t = s}]
    config, moved = Config(gamma=gamma, lam=lam, step_size=1.0), np.zeros(n)
    for s, a, s2 in np.argwhere((d[:, None, None] > 1e-12) & (pi[:, :, None] * mdp.P > 0)):
        state = State(w.copy(), zeta[s] / d[s], np.empty(0), None, None)
        update(state, config, X[s], mdp.r[s, a, s2], X[s] @ w, X[s2] @ w)
        moved += d[s] * pi[s, a] * mdp.P[s, a, s2] * (state.w - w)
    np.testing.assert_allclose(moved, 0.0, atol=1e-9 * size * np.abs(X).max() / (1 - gamma * lam))


@given(small_worlds(), UNIT, SEEDS)
@settings(max_examples=15)
def test_update__expected_is_the_linear_systems_residual(world, lam, seed):
    """E = Σ_k Σ_{t≥k} (γλ)^{t−k} Xᵀ D_k Q^{t−k} (r_π + γ P_π X w − X w), D_k = diag Pr(S_k = s),
    Q = P_π between nonterminal states, x(terminal) = 0. Any features, any w."""
    mdp, pi, horizon = world
    rng = np.random.default_rng(seed)
    w, X = rng.normal(size=2), rng.normal(size=(len(pi), 2)) * ~mdp.terminal[:, None]
    P_pi, r_pi = markov_chain(mdp, pi)
    Q = P_pi * ~mdp.terminal[:, None] * ~mdp.terminal
    residual = r_pi + mdp.gamma * P_pi @ X @ w - X @ w
    expected, p = 0.0, mdp.p0
    for k in range(horizon):
        ahead = residual
        for t in range(k, horizon):
            expected = expected + (mdp.gamma * lam) ** (t - k) * X.T @ (p * ahead)
            ahead = Q @ ahead
        p = p @ Q
    config = Config(gamma=mdp.gamma, lam=lam, step_size=1.0)
    assert_close(expected_update(mdp, pi, X, w, config, horizon), expected)


@given(st.sampled_from(TRACES), UNIT, SEEDS)
@settings(max_examples=10)
def test_train__converges_to_the_exact_values_without_noise(trace, lam, seed):
    """A deterministic chain with γ = ½, two steps from each state in turn, at a constant α: with
    λ = 0 a pass shrinks the largest error by 1 − α (1 − γ) at least, 80 passes by 2e-6."""
    rng = np.random.default_rng(seed)
    S, after, r = 3, rng.integers(3, size=3), rng.normal(size=3)
    v = state_values(
        FiniteMDP(np.eye(S)[after][:, None], r[:, None], np.full(S, 1 / S), 0.5), [[1.0]] * S
    )
    starts = [([s, after[s], after[after[s]]], [r[s], r[after[s]]], False) for s in range(S)]
    config = Config(gamma=0.5, lam=lam, trace=trace, step_size=0.3)
    W, _, _ = learn(Script(Discrete(S), starts), config, episodes=80 * S)
    np.testing.assert_allclose(W[-1], v, atol=1e-5)


@pytest.mark.parametrize("trace", TRACES)
def test_train__approaches_the_random_walks_values(trace):
    """RMS error from 0.55 to below 0.1 in 100 episodes, while α falls from 0.4 to 0.05."""
    env = FiniteMDPEnv(random_walk_19())
    state = td_lambda.init(env, Config(), 3)
    for step_size in (0.4, 0.2, 0.1, 0.05):
        config = Config(trace=trace, lam=0.6, step_size=step_size)
        reports = (m for m in td_lambda.train(env, config, state) if m.returns)
        next(islice(reports, 24, None))
    error = state.w[:19] - RANDOM_WALK_19_VALUES
    assert np.sqrt(np.mean(error**2)) < 0.1 and state.w[19] == 0.0


def test_random_walk__has_the_known_values_and_lengths():
    walk = random_walk_19()
    pi = np.full((20, 2), 0.5)
    v = state_values(walk, pi)
    np.testing.assert_allclose(v, np.append(RANDOM_WALK_19_VALUES, 0.0), atol=1e-14)
    assert discounted_occupancy(walk, pi).sum() == pytest.approx(100.0, rel=1e-12)
    left, right = (state_values(walk, np.eye(2)[[a] * 20])[:19] for a in (0, 1))
    assert (left == -1).all() and (right == 1).all()


class Fixed:
    """A generator whose next uniform number is known."""

    def __init__(self, u):
        self.u = u

    def random(self):
        return self.u


@given(distributions((3, 4)), st.integers(-2, 2), UNIT | st.just(1 - 2**-53))
def test_actor__draws_from_the_table_by_inverse_cdf(pi, start, u):
    """a is where the cumulative sum of π(·|o) passes u; no action of probability 0 is drawn."""
    env = Script(Discrete(3, start=start), [])
    env.action_space = Discrete(4, start=-1)
    act, u = td_lambda.actor(env, Config(policy=pi)), min(u, 1 - 2**-53)
    for o in range(3):
        a = act({}, start + o, Fixed(u), True) + 1
        assert pi[o, a] > 0
        assert pi[o, :a].sum() - 1e-12 <= u <= pi[o, : a + 1].sum() + 1e-12


def test_actor__is_uniform_by_default():
    env = Script(Box(-1.0, 1.0, (2,)), [])
    act = td_lambda.actor(env, Config())
    assert [act({}, np.zeros(2), Fixed(u)) for u in (0.0, 0.49, 0.51, 0.99)] == [0, 0, 1, 1]


# What a run reports, and what it goes on from


PLACES = {
    "scripted": lambda: Scripted(T=LONG),
    "short": lambda: Scripted(T=3, truncate=True),
    "wander": Wander,
    "mdp": lambda: FiniteMDPEnv(garnet(0)),
    "truncated": lambda: gymnasium.wrappers.TimeLimit(FiniteMDPEnv(garnet(0)), LONG),
    "walk": lambda: FiniteMDPEnv(random_walk_19()),
}
KINDS = {
    "online": dict(network=MLP),
    "offline": dict(network=MLP, updates="offline"),
    "dutch": dict(trace="dutch"),
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(st.floats(0, 0.2), UNIT, st.integers(1, 5), st.integers(1, 6), SEEDS)
def test_train__resumed_at_any_yield_ends_as_if_never_stopped(
    kind, make, step_size, lam, before, after, seed
):
    """A copy of the State, also one saved within an episode, in a new environment: bit by bit."""
    env, config = make(), Config(gamma=0.9, lam=lam, step_size=step_size, **kind)
    state = td_lambda.init(env, config, seed)
    training = td_lambda.train(env, config, state)
    for _ in islice(training, before):
        pass
    saved = copy.deepcopy(state)
    resumed = td_lambda.train(make(), config, saved)
    assert list(islice(training, after)) == list(islice(resumed, after))
    np.testing.assert_equal(contents(saved), contents(state))


@given(st.sampled_from(("accumulating", "dutch")), UNIT, SEEDS)
def test_train__begins_with_a_fresh_trace_where_an_episode_is_not_repeated(trace, lam, seed):
    """It warns, and w goes on as from a State in which nothing but w has come before."""
    config = Config(gamma=0.9, lam=lam, trace=trace)
    state = td_lambda.init(Scripted(T=LONG), config, seed)
    next(td_lambda.train(Scripted(T=LONG), config, state))
    w, state.world.seed, env = state.w.copy(), state.world.seed + 1, Recorder(Scripted(T=LONG))
    assert state.z.any() and state.abs_delta > 0.0
    with pytest.warns(RuntimeWarning, match="Scripted does not repeat its episodes: a new one"):
        metrics = list(islice(td_lambda.train(env, config, state), 2))[-1]
    log = env.log[BLOCK:]  # the first are those that did not lead where they did
    S = [step[0] for step in log] + [log[-1][3]]
    script = Script(env.observation_space, [(S, [step[2] for step in log], True)])
    W, _, (alone,) = learn(script, config, w=w)
    assert np.array_equal(state.w, W[-1]) and metrics.scalars == alone.scalars
    assert (metrics.steps, metrics.lengths) == (BLOCK + LONG, (LONG,))


@given(scripts())
def test_train__metrics_count_steps_and_returns(env):
    _, _, metrics = learn(env, Config())
    lengths = [len(R) for _, R, _ in env.episodes]
    assert [m.steps for m in metrics] == np.cumsum(lengths).tolist()
    assert [m.episodes for m in metrics] == list(range(1, len(lengths) + 1))
    assert [m.lengths for m in metrics] == [(T,) for T in lengths]
    assert_close(np.ravel([m.returns for m in metrics]), [sum(R) for _, R, _ in env.episodes])


def test_train__yields_in_an_episode_that_never_ends():
    env = FiniteMDPEnv(garnet(0))
    config = Config(gamma=0.5)
    training = td_lambda.train(env, config, td_lambda.init(env, config, 0))
    for k, m in enumerate(islice(training, 4), start=1):
        assert m == (BLOCK * k, 0, (), (), {})


# Bad input


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ((0.5, 0.5), r"policy has 2 entries: must have O · A = 3 · 2"),
        ((0.5, 0.5, 0.5, 0.6, 1, 0), r"policy row 1 = \[0.5 0.6\]: must be nonnegative and sum"),
        ((0.5, 0.5, 1.5, -0.5, 1, 0), "policy row 1"),
        ((0.5, 0.5, np.nan, 1, 1, 0), "policy row 1"),
    ],
)
def test_init__refuses_what_is_no_policy(policy, message):
    with pytest.raises(ValueError, match=message):
        td_lambda.init(Script(Discrete(3), []), Config(policy=policy), 0)


def test_init__refuses_a_table_where_there_are_no_rows():
    with pytest.raises(ValueError, match="policy must be empty: observation_space = Box"):
        td_lambda.init(Script(Box(-1.0, 1.0, (2,)), []), Config(policy=(0.5, 0.5)), 0)


@pytest.mark.parametrize("trace", ["replacing", "dutch"])
def test_config__asks_for_a_linear_value_where_the_trace_does(trace):
    with pytest.raises(ValueError, match=f"trace = '{trace}': must be accumulating unless v̂ is"):
        Config(trace=trace, network=MLP)


def test_train__refuses_replacing_traces_of_features_that_are_not_binary():
    env = Script(Box(-1.0, 1.0, (2,)), [([[0, 1], [0.5, 1], [0, 0]], [1.0, 1.0], True)])
    with pytest.raises(ValueError, match=r"features = \[0.5 1.  1. \]: must be 0 or 1"):
        learn(env, Config(trace="replacing"))


def test_train__stops_where_v_diverges():
    """γ = 0 and α = 3: every visit doubles the error, until it overflows."""
    env = Script(Discrete(1), [([0] * 2000, [1.0] * 1999, False)])
    overflow = np.errstate(over="ignore", invalid="ignore")
    message = r"w has diverged: δ = .*step_size = 3.0 may be"
    with overflow, pytest.raises(FloatingPointError, match=message):
        learn(env, Config(gamma=0.0, step_size=3.0))
