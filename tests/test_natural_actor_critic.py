"""Natural actor–critic: its sums over all episodes are F and ∇J exactly, its steps those of any
parameterisation."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import given
from hypothesis import strategies as st
from worlds import LINEAR, NETWORKS, SEEDS, Constant, Recorder, Wander, contents, pulled_back

from algorithms import natural_actor_critic as page
from algorithms import policy_gradient_theorem as theorem
from algorithms.common.policy import Network, make_policy, make_value
from algorithms.exact.laboratory import enumerate_episodes, finite_horizon
from algorithms.exact.mdp import FiniteMDPEnv, action_values, discounted_occupancy
from algorithms.exact.worlds import chain, garnet, short_corridor
from algorithms.natural_actor_critic import Config, solve, sums
from npgrad import from_function, linear, linear_preferences

WORLDS = {
    "chain": chain(),
    "garnet": finite_horizon(garnet(0), 3),
    "corridor": finite_horizon(short_corridor(), 6),
}


@st.composite
def studies(draw):
    """(mdp, π, scores ψ (S, A, n), all episodes), of a Gibbs policy with few features."""
    mdp, rng = WORLDS[draw(st.sampled_from(list(WORLDS)))], np.random.default_rng(draw(SEEDS))
    S, A, _ = mdp.P.shape
    n = draw(st.integers(1, 3))
    policy, x = theorem.gibbs(linear_preferences(n)), rng.normal(size=(S, A, n))
    theta = rng.normal(size=n)
    pi, psi = policy(theta, x), theorem.score(theta, policy, x)
    study = enumerate_episodes(mdp, pi, psi)
    return mdp, pi, psi, study.episodes


def expected_sums(mdp, psi, episodes, phi, v_hat):
    """Σ_τ Pr(τ) sums(τ), with the features φ (S, m) of a v̂ (S,)."""
    total = None
    for tau in episodes:
        S = tau.states[:-1]
        G = np.array([mdp.gamma ** np.arange(len(S) - t) @ tau.rewards[t:] for t in range(len(S))])
        part = sums(psi[S, tau.actions], phi[S], G - v_hat[S], mdp.gamma)
        part = [tau.probability * x for x in part]
        total = part if total is None else [a + b for a, b in zip(total, part)]
    return total


@given(studies(), SEEDS)
def test_sums__over_all_episodes_are_the_fisher_matrix_and_the_gradient(study, seed):
    """For any v̂ and any features of it: E F̂ = F, E ĝ = ∇J, E C = 0."""
    mdp, pi, psi, episodes = study
    rng = np.random.default_rng(seed)
    phi, v_hat = rng.normal(size=(len(pi), 2)), 3.0 * rng.normal(size=len(pi))
    F, C, g, _, _ = expected_sums(mdp, psi, episodes, phi, v_hat)
    d, q = discounted_occupancy(mdp, pi), action_values(mdp, pi)
    close = dict(rtol=0, atol=1e-12 * d.sum() * (1 + abs(psi).max()) ** 2 * (20 + abs(q).max()))
    np.testing.assert_allclose(F, theorem.fisher(psi, pi, d), **close)
    np.testing.assert_allclose(C, 0.0, **close)
    gradient = np.einsum("s,sa,sa,sai->i", d, pi, q, psi)
    np.testing.assert_allclose(g, gradient, **close)


@given(studies(), SEEDS)
def test_omega__of_all_episodes_is_the_natural_gradient(study, seed):
    """The w of PG99's (3), with any v̂, and so with v̂ + Δwᵀφ."""
    mdp, pi, psi, episodes = study
    rng = np.random.default_rng(seed)
    phi, v_hat = rng.normal(size=(len(pi), 2)), rng.normal(size=len(pi))
    F, C, g, V, b = expected_sums(mdp, psi, episodes, phi, v_hat)
    omega = solve(F, g - C @ solve(V, b, 0.0), 0.0)
    d, q = discounted_occupancy(mdp, pi), action_values(mdp, pi)
    exact = theorem.fit(psi, pi, d, q - (pi * q).sum(1, keepdims=True))
    assert np.linalg.cond(F) < 1e12  # features drawn without ties
    np.testing.assert_allclose(omega, exact, rtol=0, atol=1e-13 * np.linalg.cond(F) * 1e2)


def test_one_equation_for_an_episode__has_the_weights_gamma_squared():
    """Peters & Schaal's episodic w: where π cannot fit the advantages, it is the natural gradient
    of γ² in d and in F, not of γ; at γ = 1 it is the natural gradient."""
    rng, world = np.random.default_rng(0), garnet(0)
    for gamma in (0.7, 1.0):
        mdp = finite_horizon(replace(world, gamma=gamma), 3)
        S, A, _ = mdp.P.shape
        policy, x = theorem.gibbs(linear_preferences(2)), rng.normal(size=(S, A, 2))
        theta = rng.normal(size=2)
        pi, psi = policy(theta, x), theorem.score(theta, policy, x)
        X, y = np.zeros((3, 3)), np.zeros(3)
        for tau in enumerate_episodes(mdp, pi, psi).episodes:
            discounts = gamma ** np.arange(len(tau.actions))
            row = np.append(discounts @ psi[tau.states[:-1], tau.actions], 1.0)
            X += tau.probability * np.outer(row, row)
            y += tau.probability * row * (discounts @ tau.rewards)
        w = np.linalg.solve(X, y)[:2]
        q = action_values(mdp, pi)
        fits = [
            theorem.fit(psi, pi, discounted_occupancy(replace(mdp, gamma=c), pi), q)
            for c in (gamma**2, gamma)
        ]
        np.testing.assert_allclose(w, fits[0], rtol=1e-9)
        apart = np.linalg.norm(w - fits[1]) / np.linalg.norm(w)
        assert apart > 0.01 if gamma < 1 else apart < 1e-9


# one update, by other means


def least_squares(x, y, c, ridge):
    """argmin Σ c (y − xᵀu)² + ridge |u|², by its rows and not by its normal equation."""
    n = x.shape[1]
    rows = np.concatenate([np.sqrt(c)[:, None] * x, np.sqrt(ridge) * np.eye(n)])
    return np.linalg.lstsq(rows, np.append(np.sqrt(c) * y, np.zeros(n)))[0]


@given(NETWORKS, st.integers(0, 2), st.integers(1, 3), st.floats(0.5, 1), SEEDS)
def test_train__an_update_is_least_squares_of_the_tapes_scores(network, d, M, gamma, seed):
    """Δw and ω from the episodes as the environment gave them; scores and ∇v̂ are the tape's."""
    config = Config(gamma=gamma, episodes_per_update=M, damping=0.1, damping_w=0.05,
                    step_size=0.3, network=network)  # fmt: skip
    env = Recorder(Wander(d))
    env.action_space = Box(-99.0, 99.0, (d,), np.float64) if d else env.action_space  # no clipping
    env.env.action_space = env.action_space
    state = page.init(env, config, seed)
    policy, value = make_policy(env, network), make_value(env, network)
    theta, w = state.theta.copy(), state.w.copy()
    for metrics in page.train(env, config, state):
        if metrics.episodes == M:
            break
    S, A, R, S2, terminated, truncated = zip(*env.log)
    delta, c, psi, phi = [], [], [], []
    last = np.flatnonzero(np.array(terminated) | np.array(truncated))
    for start, end in zip(np.append(0, last[:-1] + 1), last):
        G = 0.0 if terminated[end] else value(w, S2[end])[0]
        back = []
        for k in range(end, start - 1, -1):
            G = R[k] + gamma * G
            back.append(G - value(w, S[k])[0])
        delta += back[::-1]
        c += [gamma**t for t in range(end - start + 1)]
    head, one = policy.head, np.ones((1, 1))
    for s, a in zip(S, A):
        h = policy.model(theta, s[None])
        psi.append(pulled_back(policy.model, theta, s[None], head(h).score(np.array([a]))))
        phi.append(pulled_back(value, w, s[None], one))
    psi, phi, delta, c = map(np.array, (psi, phi, delta, c))
    ridge = lambda x, c, damping: damping * np.sum(c[:, None] * x**2) / x.shape[1]
    d_w = least_squares(phi, delta, np.ones_like(c), ridge(phi, np.ones_like(c), 0.05))
    omega = least_squares(psi, delta - phi @ d_w, c, ridge(psi, c, 0.1))
    close = lambda x, y, step: np.testing.assert_allclose(
        x, y, rtol=0, atol=1e-9 * (1 + abs(step).max())
    )  # λ bounds the condition of the normal equations to n/λ, about 1e3
    close(state.w, w + d_w, d_w)
    close(state.theta, theta + 0.3 * omega, omega)
    assert state.waiting == 0 and not any(x.any() for x in (state.F, state.C, state.g, state.V))


@given(SEEDS, st.integers(0, 2))
def test_train__without_a_step_size_moves_v_alone(seed, d):
    config = Config(step_size=0.0, episodes_per_update=1, network=Network(hidden=(3,)))
    state = page.init(Wander(d), config, seed)
    theta, w = state.theta.copy(), state.w.copy()
    list(islice(page.train(Wander(d), config, state), 6))
    assert np.array_equal(state.theta, theta) and not np.array_equal(state.w, w)


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_train__of_a_policy_without_scores_stays(damping):
    """π is deterministic in floating point: F̂ = 0, of which the shortest solution is ω = 0."""
    config = Config(damping=damping, episodes_per_update=1, network=LINEAR)
    state = page.init(Constant(4), config, 0)
    state.theta[:] = 1000.0, -1000.0
    list(islice(page.train(Constant(4), config, state), 5))
    assert state.theta.tolist() == [1000.0, -1000.0]
    assert state.w == pytest.approx([0.99 * 0.99 + 0.99 + 1], rel=0.35)  # mean of G_0, ..., G_3


def test_train__a_linear_value_is_fitted_at_once():
    """λ^w = 0: after one update v̂ is the mean of the returns, from whatever w."""
    config = Config(damping_w=0.0, gamma=1.0, episodes_per_update=1, network=LINEAR)
    state = page.init(Constant(4), config, 0)
    state.w[:] = 100.0
    next(page.train(Constant(4), config, state))
    assert state.w == pytest.approx([2.5], rel=1e-12)  # of G = 4, 3, 2, 1


# the path of the policy does not depend on its parameters


def gibbs_of(model, change):
    """The softmax policy of model(change(ϑ), ·), and its parameters."""
    f = lambda theta, x: model(change(theta), x)
    return theorem.gibbs(from_function(f, model.layout.size, axes=0))


def exact_path(mdp, policy, x, theta, direction, step_size, updates):
    """π before each of so many exact updates, in the states that are visited."""
    config = theorem.Config(direction=direction, step_size=step_size)
    state, path = theorem.State(theta.copy(), np.zeros_like(theta)), []
    visited = discounted_occupancy(mdp, policy(theta, x)) > 0
    for _ in islice(theorem.iterate(mdp, policy, x, config, state), updates):
        path.append(policy(state.theta, x)[visited])
    return np.array(path)


def mixing(rng, n):
    """M (n, n) of condition 10: a rotation, scales from 1 to 10, another rotation."""
    (Q, _), (P, _) = (np.linalg.qr(rng.normal(size=(n, n))) for _ in range(2))
    return Q * np.logspace(0, 1, n) @ P


@given(SEEDS)
def test_natural_path__is_the_same_under_any_matrix_and_the_plain_one_is_not(seed):
    """θ = Mϑ, three exact updates of a table in a garnet."""
    rng, mdp = np.random.default_rng(seed), garnet(seed)
    table, x = linear(4, 2, bias=False, one_hot=True), np.arange(4)
    M, theta = mixing(rng, 8), rng.normal(size=8)
    mine, other = theorem.gibbs(table), gibbs_of(table, lambda theta: M @ theta)
    for direction, same in (("natural", True), ("gradient", False)):
        how = direction, 0.3, 3
        one = exact_path(mdp, mine, x, theta, *how)
        two = exact_path(mdp, other, x, np.linalg.solve(M, theta), *how)
        apart = np.abs(one - two).max()
        moved = np.abs(np.diff(one, axis=0)).max()
        assert apart <= 1e-9 * moved if same else apart >= 0.1 * moved > 1e-4


@given(SEEDS)
def test_natural_step__is_the_same_to_first_order_under_any_smooth_change(seed):
    """θ_i = sinh(2 ϑ_i): a tenth of α leaves a hundredth of the difference, and of the plain
    gradient's a tenth."""
    rng, mdp = np.random.default_rng(seed), garnet(seed)
    table, x = linear(4, 2, bias=False, one_hot=True), np.arange(4)
    theta = rng.uniform(-1.5, 1.5, 8)
    mine = theorem.gibbs(table)
    other = gibbs_of(table, lambda theta: (np.exp(2 * theta) - np.exp(-2 * theta)) / 2)
    apart = {}
    for direction in ("natural", "gradient"):
        for alpha in (1e-3, 1e-4):
            one = exact_path(mdp, mine, x, theta, direction, alpha, 1)
            two = exact_path(mdp, other, x, np.arcsinh(theta) / 2, direction, alpha, 1)
            apart[direction, alpha] = np.abs(one - two).max()
    assert apart["natural", 1e-4] <= 0.02 * apart["natural", 1e-3] + 1e-12
    assert apart["gradient", 1e-4] >= 0.05 * apart["gradient", 1e-3] > 0
    assert apart["natural", 1e-4] < 0.1 * apart["gradient", 1e-4]


class Changed(Network):
    """A table for the policy, at θ = Mϑ; v̂ is a table as it is."""

    def model(self, n, m, one_hot=False):
        plain = linear(n, m, bias=False, one_hot=True)
        if m == 1:
            return plain
        M = mixing(np.random.default_rng(5), plain.layout.size)
        return from_function(lambda theta, x: x @ (M @ theta).reshape(n, m), plain.layout.size)


@pytest.mark.parametrize("seed", range(3))
def test_train__samples_the_same_path_under_any_matrix(seed):
    """λ = 0, and enough episodes to see every action in every state: the runs of both networks are
    the same, action by action."""
    env, config = FiniteMDPEnv(chain()), Config(damping=0.0, episodes_per_update=60)
    runs = []
    for network in (LINEAR, Changed()):
        mine = replace(config, network=network)
        state, policy = page.init(env, mine, seed), make_policy(env, network)
        for metrics in page.train(env, mine, state):
            if metrics.episodes == 4 * 60:
                break
        runs.append((contents(state)["steps"], policy.at(state.theta, np.arange(4)).probs()))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_allclose(runs[0][1], runs[1][1], atol=1e-8)
    assert np.abs(runs[0][1] - 0.5).max() > 0.05


@given(SEEDS, st.sampled_from((0.25, 2.0, 16.0)))
def test_solve__with_damping_is_the_same_under_a_scale(seed, c):
    """θ = cϑ: F c², g c, and the step of θ, cω, as it was; bit by bit for powers of 2."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 4))
    F, g = x.T @ x, rng.normal(size=4)
    assert np.array_equal(c * solve(c * c * F, c * g, 0.1), solve(F, g, 0.1))


@given(SEEDS, st.sampled_from((0.0, 0.01, 1.0)))
def test_solve__points_uphill(seed, damping):
    """gᵀω ≥ 0 for g = Σ c δ ψ, also of fewer steps than parameters; and ω is in the span of ψ."""
    rng = np.random.default_rng(seed)
    psi, delta, c = rng.normal(size=(2, 5)), rng.normal(size=2), rng.uniform(0.1, 1, 2)
    F, g = (c[:, None] * psi).T @ psi, (c * delta) @ psi
    omega = solve(F, g, damping)
    assert g @ omega >= -1e-12 * abs(g).max() * abs(omega).max()
    shortest = np.linalg.pinv(psi) @ (psi @ omega)
    np.testing.assert_allclose(omega, shortest, atol=1e-9 * abs(omega).max())
    if damping == 0.0:
        np.testing.assert_allclose(psi @ omega, delta, atol=1e-7 * abs(delta).max() / c.min())
