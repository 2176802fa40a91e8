"""The exact laboratory: what estimators expect and how they vary, against every law there is."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, studies, tabular
from worlds import SEEDS

from algorithms import reinforce
from algorithms.common.world import Position, returns
from algorithms.exact.laboratory import (
    Study,
    enumerate_episodes,
    expectation,
    finite_horizon,
    lambda_returns,
    lambda_shift,
    longest_episode,
    moments,
    n_step_returns,
    n_step_shift,
    optimal_baseline,
    score_table,
)
from algorithms.exact.mdp import (
    FiniteMDP,
    expected_return,
    state_values,
    trajectories,
)
from algorithms.exact.worlds import chain, garnet, short_corridor
from algorithms.referee import estimators
from algorithms.runner import laboratory as runner
from algorithms.runner.errors import UsageError
from npgrad import Softmax, at, complex_step, from_function, grad

UNBIASED = ("total", "reward_to_go")
WEIGHTINGS = st.sampled_from(reinforce.WEIGHTINGS)


def numbers(study, seed):
    """Any number for each state, 0 for terminal ones."""
    b = np.random.default_rng(seed).normal(scale=3, size=len(study.pi))
    return np.where(study.mdp.terminal, 0, b)


def reinforce_of(study, weighting, b):
    return lambda tau: estimators.weigh(
        tau, gamma=study.mdp.gamma, weighting=weighting, baseline=np.asarray(b, float)
    )


def exact_gradient(study, policy, theta):
    """∇J by complex steps through the linear solve."""
    pi = lambda theta: policy.at(theta, study.mdp.observation).probs()
    return complex_step(lambda theta: expected_return(study.mdp, pi(theta)), theta)


def reinforce_gradient(study, policy, theta, tau, weights):
    """Σ_t weights_t ∇ln π(A_t|S_t) of an episode, by the page's gradient and one backward pass."""
    net = at(policy.model, theta)
    h = net.forward(study.mdp.observation[tau.states[:-1]])
    return net.backward(reinforce.gradient(h, policy.head, tau.actions, weights))


# What is enumerated


@given(mdps(), st.integers(1, 2), SEEDS)
def test_finite_horizon__has_the_episodes_of_the_cut_world(mdp, horizon, seed):
    """Same probabilities and rewards as trajectories up to the horizon; J sums horizon rewards."""
    policy, theta = tabular(mdp, seed)
    study = estimators.open_study(mdp, policy, theta, horizon)
    S = len(mdp.p0)
    cut = list(trajectories(mdp, study.pi[:S], horizon))
    assert longest_episode(study.mdp, study.pi) <= horizon
    assert len(cut) == len(study.episodes)
    for a, b in zip(cut, study.episodes):
        assert a.probability == pytest.approx(b.probability, rel=1e-14)
        assert b.terminated and np.array_equal(a.rewards, b.rewards)
        assert np.array_equal(b.states, a.states + S * np.arange(len(a.states)))
    J = sum(tau.probability * returns(tau.rewards, mdp.gamma)[0] for tau in cut)
    assert abs(J - expected_return(study.mdp, study.pi)) <= 1e-12 * (1 + abs(mdp.r).max())
    assert np.array_equal(study.mdp.observation, np.tile(mdp.observation, horizon + 1))


@given(studies())
def test_scores__are_reinforces_own_gradient(drawn):
    """Σ_t weight_t ∇ln π_t of a whole episode by reinforce.gradient is the sum over the table."""
    study, policy, theta = drawn
    for tau in study.episodes[:20]:
        weights = np.arange(1.0, 1.0 + len(tau.actions))
        whole = reinforce_gradient(study, policy, theta, tau, weights)
        summed = weights @ study.scores[tau.states[:-1], tau.actions]
        np.testing.assert_allclose(summed, whole, atol=1e-12)


@given(studies())
def test_scores__are_the_derivatives_of_the_log_probabilities(drawn):
    study, policy, theta = drawn
    ln_pi = lambda theta: policy.at(theta, study.mdp.observation).log_probs()
    np.testing.assert_allclose(study.scores, complex_step(ln_pi, theta), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(study.pi, np.exp(ln_pi(theta)), rtol=1e-13)


@given(studies())
def test_expectation__is_the_gradient(drawn):
    np.testing.assert_allclose(expectation(drawn[0]), exact_gradient(*drawn), atol=1e-10)


# The likelihood ratio, literally


def probabilities(study, policy):
    """θ -> π(a|s) (S, A) in plain NumPy, for the tape and for complex steps."""
    return lambda theta: Softmax(policy.model(theta, study.mdp.observation)).probs()


def spelled_out(mdp, pi, tau):
    """Pr(τ) = p0(S_0) Π_t π(A_t|S_t) P(S_{t+1}|S_t, A_t)."""
    S, A = tau.states, tau.actions
    Pr = mdp.p0[S[0]]
    for s, a, s2 in zip(S, A, S[1:]):
        Pr = Pr * pi[s, a] * mdp.P[s, a, s2]
    return Pr


@given(studies(spreads=(0.0, 1.0)))
@settings(max_examples=15)
def test_gradient__is_that_of_the_sum_over_trajectories(drawn):
    """J = Σ_τ Pr(τ) R(τ) and ∇J by complex steps. The tape, which is slow, differentiates the part
    of up to 20 episodes: Σ_τ Pr(τ) R(τ) ∇ln Pr(τ)."""
    study, policy, theta = drawn
    pi, some = probabilities(study, policy), study.episodes[:20]
    J = lambda pi, episodes: sum(
        spelled_out(study.mdp, pi, tau) * returns(tau.rewards, study.mdp.gamma)[0]
        for tau in episodes
    )
    size = 1 + np.abs(study.mdp.r).max() * longest_episode(study.mdp, study.pi)
    exact = expected_return(study.mdp, study.pi)
    assert abs(J(pi(theta), study.episodes) - exact) <= 1e-12 * size
    found = complex_step(lambda theta: J(pi(theta), study.episodes), theta)
    np.testing.assert_allclose(found, expectation(study), atol=1e-10 * size)
    ratio = sum(
        tau.probability
        * returns(tau.rewards, study.mdp.gamma)[0]
        * study.scores[tau.states[:-1], tau.actions].sum(0)
        for tau in some
    )
    found = grad(lambda theta: J(pi(theta), some))(theta)
    np.testing.assert_allclose(found, ratio, atol=1e-10 * size)


@given(studies(spreads=(0.0, 1.0)), SEEDS)
@settings(max_examples=15)
def test_log_probability__has_the_sum_of_scores_as_gradient_whatever_the_world(drawn, seed):
    """∇ln Pr(τ) = Σ_t ∇ln π(A_t|S_t): p0 and P do not depend on θ. With other chances of the same
    successors it is the same, although Pr(τ) is not."""
    study, policy, theta = drawn
    pi = probabilities(study, policy)
    other = np.random.default_rng(seed).uniform(0.5, 1.0, study.mdp.P.shape) * study.mdp.P
    other = replace(study.mdp, P=other / other.sum(2, keepdims=True))
    for tau in study.episodes[:5]:
        if tau.probability < 1e-200:  # ln 0 where it underflows
            continue
        summed = study.scores[tau.states[:-1], tau.actions].sum(0)
        assert spelled_out(study.mdp, pi(theta), tau) == pytest.approx(tau.probability, rel=1e-12)
        for mdp in (study.mdp, other):
            ln_Pr = lambda theta, of=(mdp, tau): np.log(spelled_out(of[0], pi(theta), of[1]))
            np.testing.assert_allclose(complex_step(ln_Pr, theta), summed, rtol=1e-9, atol=1e-10)
            np.testing.assert_allclose(grad(ln_Pr)(theta), summed, rtol=1e-9, atol=1e-10)


# Unbiased estimators


@given(studies(), st.sampled_from(UNBIASED), SEEDS)
def test_unbiased__for_every_baseline(drawn, weighting, seed):
    """E ĝ = ∇J to 1e-10 for no baseline, a constant, v, b* and any b(s); the bias says so too."""
    study, policy, theta = drawn
    exact = exact_gradient(study, policy, theta)
    best = optimal_baseline(study, lambda tau, b: reinforce_weights(study, tau, weighting, b))
    zero, v = np.zeros(len(study.pi)), state_values(study.mdp, study.pi)
    for b in (zero, zero + 2.5, v, best, numbers(study, seed)):
        m = moments(study, reinforce_of(study, weighting, b))
        np.testing.assert_allclose(m.mean, exact, atol=1e-10)
        np.testing.assert_allclose(m.bias, 0, atol=1e-10)


@given(studies(), SEEDS, st.integers(1, 6), st.floats(0, 1))
def test_unbiased__bootstrapping_from_the_right_values(drawn, seed, n, lam):
    """v̂ = v: every n-step and λ-return advantage, the actor-critic's (n = 1) too, expects ∇J."""
    study, policy, theta = drawn
    exact, gamma = exact_gradient(study, policy, theta), study.mdp.gamma
    v = state_values(study.mdp, study.pi)
    for weigh in (estimators.n_step(v, gamma, n), estimators.lam_(v, gamma, lam)):
        np.testing.assert_allclose(moments(study, weigh).mean, exact, atol=1e-10)


@given(studies(), SEEDS)
def test_unbiased__at_the_end_of_n_and_of_lambda_whatever_the_critic(drawn, seed):
    study, policy, theta = drawn
    exact, gamma, v_hat = (
        exact_gradient(study, policy, theta),
        study.mdp.gamma,
        numbers(drawn[0], seed),
    )
    for weigh in (estimators.n_step(v_hat, gamma, 6), estimators.lam_(v_hat, gamma, 1.0)):
        np.testing.assert_allclose(moments(study, weigh).mean, exact, atol=1e-10)


# Biased estimators: by how much


@given(studies(), SEEDS)
def test_bias__of_dropping_the_discount_is_that_of_counting_visits(drawn, seed):
    study, b = drawn[0], numbers(drawn[0], seed)
    m = moments(study, reinforce_of(study, "undiscounted_state", b))
    visits = expectation(study, discounted=False)
    np.testing.assert_allclose(m.mean, visits, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(m.bias, visits - expectation(study), rtol=1e-9, atol=1e-10)


@given(studies(), SEEDS, st.integers(1, 3), st.floats(0, 1), st.booleans())
def test_bias__of_a_critic_that_is_off_is_known(drawn, seed, n, lam, discounted):
    """v̂ = v + e: E ĝ = Σ d Σ ∇π (q + Δ), with γ^t or without."""
    study, e = drawn[0], numbers(drawn[0], seed)
    mdp, gamma = study.mdp, study.mdp.gamma
    v_hat = state_values(mdp, study.pi) + e
    weighting = "reward_to_go" if discounted else "undiscounted_state"
    for weigh, shift in (
        (estimators.n_step(v_hat, gamma, n), n_step_shift(mdp, study.pi, e, n)),
        (estimators.lam_(v_hat, gamma, lam), lambda_shift(mdp, study.pi, e, lam)),
    ):
        mean = moments(study, lambda tau, weigh=weigh: weigh(tau, weighting=weighting)).mean
        expected = expectation(study, shift, discounted)
        np.testing.assert_allclose(mean, expected, rtol=1e-9, atol=1e-10)


def two_steps(gamma=0.5):
    """From state 0, action 1 leads to state 1 and action 0 to the end, for nothing; from state 1
    both end, action 1 pays 1. An agent sees no difference: with p = π(1) = ½, J = γ p²."""
    P = np.zeros((3, 2, 3))
    P[0, 1, 1] = P[0, 0, 2] = P[1, :, 2] = 1
    r = [[0, 0], [0, 1.0], [0, 0]]
    mdp = FiniteMDP(P, r, [1, 0, 0], gamma, [False, False, True], [0, 0, 0])
    policy, _ = tabular(mdp, 0)
    return estimators.open_study(mdp, policy, np.zeros(2))


def test_bias__by_hand():
    """p = ½, ∂p/∂θ_1 = ¼ = −∂p/∂θ_0, γ = ½. ∇J = 2 γ p ∂p = ⅛. At state 0, q(1) = γ p = ¼; there
    Σ ∇π q = 1/16. At state 1, reached with Pr ½, Σ ∇π q = ¼: with γ^t 1/16 more, without 1/8.
    A critic that says v̂(1) = v(1) + 1 adds γ ∂p = ⅛ at state 0."""
    study, up = two_steps(), np.array([-1.0, 1.0])
    plain = moments(study, reinforce_of(study, "reward_to_go", np.zeros(3)))
    np.testing.assert_allclose(plain.mean, up / 8, rtol=1e-14)
    dropped = moments(study, reinforce_of(study, "undiscounted_state", np.zeros(3)))
    np.testing.assert_allclose(dropped.bias, up / 16, rtol=1e-14)
    v_hat = state_values(study.mdp, study.pi) + [0, 1.0, 0]
    np.testing.assert_allclose(
        moments(study, estimators.n_step(v_hat, 0.5, 1)).bias, up / 8, rtol=1e-14
    )
    np.testing.assert_allclose(moments(study, estimators.lam_(v_hat, 0.5, 0.25)).bias, up * 3 / 32)


# Returns


@given(SEEDS, st.integers(1, 6), st.floats(0, 1), st.floats(0, 1), st.integers(1, 8))
def test_returns__are_their_definitions(seed, T, gamma, lam, n):
    """G^(n) by its sum; G^λ = (1−λ) Σ_{n<T−t} λ^{n−1} G^(n) + λ^{T−t−1} G (Sutton & Barto 12.3)."""
    rng = np.random.default_rng(seed)
    R, v = rng.normal(size=T), np.append(rng.normal(size=T), 0.0)

    def G(t, n):
        end = min(t + n, T)
        return sum(gamma ** (k - t) * R[k] for k in range(t, end)) + gamma ** (end - t) * v[end]

    np.testing.assert_allclose(
        n_step_returns(R, v, gamma, n), [G(t, n) for t in range(T)], atol=1e-12
    )
    expected = [
        (1 - lam) * sum(lam ** (n - 1) * G(t, n) for n in range(1, T - t))
        + lam ** (T - t - 1) * G(t, T)
        for t in range(T)
    ]
    np.testing.assert_allclose(lambda_returns(R, v, gamma, lam), expected, atol=1e-12)
    np.testing.assert_allclose(n_step_returns(R, v, gamma, T), returns(R, gamma), atol=1e-12)


# Variance and the best baseline


def reinforce_weights(study, tau, weighting, b):
    return estimators.weigh(tau, b, gamma=study.mdp.gamma, weighting=weighting)


@given(studies(), WEIGHTINGS, SEEDS)
def test_moments__are_the_second_moments(drawn, weighting, seed):
    """E ĝĝᵀ − E ĝ E ĝᵀ, one episode at a time by reinforce.gradient itself."""
    study, policy, theta = drawn
    b, gamma = numbers(study, seed), study.mdp.gamma
    mean, second = 0.0, 0.0
    for tau in study.episodes:
        G = returns(tau.rewards, gamma)
        weights = reinforce.weights(np.arange(len(G)), G, b[tau.states[:-1]], gamma, weighting)
        g = reinforce_gradient(study, policy, theta, tau, weights)
        mean, second = mean + tau.probability * g, second + tau.probability * np.outer(g, g)
    m = moments(study, reinforce_of(study, weighting, b))
    size = 1 + np.trace(second)
    np.testing.assert_allclose(m.mean, mean, atol=1e-12 * size)
    np.testing.assert_allclose(m.covariance, second - np.outer(mean, mean), atol=1e-12 * size)
    assert m.total_variance == pytest.approx(np.trace(m.covariance), rel=1e-14)
    assert np.linalg.eigvalsh(m.covariance).min() >= -1e-12 * size
    exact = expectation(study)
    if np.linalg.norm(exact) > 1e-6:
        angle = m.mean @ exact / np.linalg.norm(m.mean) / np.linalg.norm(exact)
        assert m.cosine == pytest.approx(angle, rel=1e-9)


@given(studies(), WEIGHTINGS, SEEDS)
def test_optimal_baseline__is_beaten_by_none(drawn, weighting, seed):
    """Not by 0, v, a constant, nor any b; and by none near it: tr Cov rises by uᵀMu for b* + u."""
    study = drawn[0]
    variance = lambda b: moments(study, reinforce_of(study, weighting, b)).total_variance
    best = optimal_baseline(study, lambda tau, b: reinforce_weights(study, tau, weighting, b))
    least, zero, v = variance(best), np.zeros(len(best)), state_values(study.mdp, study.pi)
    others = [variance(b) for b in (zero, v, zero + v @ study.mdp.p0, numbers(study, seed))]
    size = 1 + sum(others)
    assert least <= min(others) + 1e-12 * size
    M, _ = system(study, weighting)
    u = np.random.default_rng(seed).normal(size=len(best))
    assert variance(best + u) == pytest.approx(least + u @ M @ u, rel=1e-9, abs=1e-11 * size)


def system(study, weighting):
    """M and m of M b = m in full, episode by episode, with c_t ∇ln π_t written out."""
    S, gamma = len(study.pi), study.mdp.gamma
    M, m = np.zeros((S, S)), np.zeros(S)
    for tau in study.episodes:
        states, scores = tau.states[:-1], study.scores[tau.states[:-1], tau.actions]
        G, Z = returns(tau.rewards, gamma), np.zeros((S, scores.shape[1]))
        if weighting == "total":
            Z[states[0]] = scores.sum(0)
            g = G[0] * scores.sum(0)
        else:
            c = gamma ** np.arange(len(G)) if weighting == "reward_to_go" else np.ones(len(G))
            np.add.at(Z, states, c[:, None] * scores)
            g = (c * G) @ scores
        M += tau.probability * Z @ Z.T
        m += tau.probability * Z @ g
    return M, m


@given(studies(), WEIGHTINGS)
def test_optimal_baseline__solves_the_joint_system_which_is_diagonal(drawn, weighting):
    study = drawn[0]
    M, m = system(study, weighting)
    best = optimal_baseline(study, lambda tau, b: reinforce_weights(study, tau, weighting, b))
    np.testing.assert_allclose(M - np.diag(np.diag(M)), 0, atol=1e-12 * (1 + M.max()))
    np.testing.assert_allclose(M @ best, m, rtol=1e-9, atol=1e-11 * (1 + abs(m).max()))


def test_optimal_baseline__is_not_v():
    """The corridor cut at 8: v leaves more than 1.4 times the variance, no baseline 15 times."""
    policy, theta = tabular(short_corridor(), 0, spread=0.0)
    study = estimators.open_study(short_corridor(), policy, theta, 8)
    best = optimal_baseline(study, lambda tau, b: reinforce_weights(study, tau, "reward_to_go", b))
    by = {"best": best, "v": state_values(study.mdp, study.pi), "none": 0 * best}
    left = {
        name: moments(study, reinforce_of(study, "reward_to_go", b)).total_variance
        for name, b in by.items()
    }
    assert left["v"] > 1.4 * left["best"] and left["none"] > 15 * left["best"]


# Bad input


def test_study__asks_for_a_horizon_where_episodes_need_not_end():
    pi = np.full((4, 2), 0.5)
    with pytest.raises(ValueError, match=r"horizon: must be given, .* be in state [0-3] after 4"):
        longest_episode(short_corridor(), pi)
    with pytest.raises(ValueError, match=r"horizon = 0: must be >= 1"):
        finite_horizon(short_corridor(), 0)


def test_study__names_how_many_episodes_are_too_many():
    mdp, pi = finite_horizon(garnet(0), 5), np.full((24, 2), 0.5)
    scores = np.zeros((24, 2, 1))
    assert len(enumerate_episodes(mdp, pi, scores, limit=1024).episodes) == 1024
    with pytest.raises(ValueError, match=r"horizon = 5: .* 1024 trajectories, .* limit = 1023"):
        enumerate_episodes(mdp, pi, scores, limit=1023)


def test_longest_episode__counts_steps():
    assert longest_episode(chain(), np.full((5, 2), 0.5)) == 4
    assert longest_episode(chain(), np.tile([1.0, 0.0], (5, 1))) == 1


def test_score_table__is_one_step_at_a_time():
    """h = 2 x; a gradient that says h + a of one state and action, weight 1: times x it is ∇."""
    policy = SimpleNamespace(model=from_function(lambda theta, x: theta * x, 1), head="head")

    def gradient(h, head, A, weights):
        assert head == "head" and h.shape == (1, 1) and weights == 1.0
        return h + A[:, None]

    table = score_table(gradient, np.array([2.0]), policy, np.array([[1.0], [3.0]]), 2)
    assert table.tolist() == [[[2.0], [3.0]], [[18.0], [21.0]]]


# The table and the command


def test_table__tells_the_biased_from_the_unbiased():
    policy, theta = tabular(chain(), 0)
    study = estimators.open_study(chain(), policy, theta)
    rows = {row.estimator: row for row in estimators.laboratory_table(study, critic=0.5)}
    assert len(rows) == 29
    for name, row in rows.items():
        biased = name.startswith(("undiscounted", "actor-critic without")) or (
            "0.5 v" in name and not name.startswith(("4-step", "λ-return, λ = 1,"))
        )
        assert row.bias > 1e-3 if biased else row.bias < 1e-14, name
    for weighting in reinforce.WEIGHTINGS:
        best = rows[f"{weighting}, b = b*"].variance
        assert all(best <= row.variance for row in rows.values() if weighting in row.estimator)
    right = estimators.laboratory_table(study, critic=1.0)
    for row in right[12:]:
        expected = rows["undiscounted_state, b = v"].bias if "without" in row.estimator else 0
        assert row.bias == pytest.approx(expected, abs=1e-14), row.estimator
    text = runner.text_table(right).splitlines()
    head = ["estimator", "|bias|", "variance", "cosine", "Pr(ĝ·∇J>0)"]
    assert len(text) == 30 and text[0].split() == head


@given(studies(), st.sampled_from(UNBIASED))
def test_mean_return__is_the_limit_of_reinforces_running_mean(drawn, weighting):
    """The mean of all returns of episodes, each as often as its probability says."""
    study = drawn[0]
    config = reinforce.Config(weighting=weighting)
    mean = estimators.mean_return(study, weighting)
    total = count = 0.0
    for tau in study.episodes:
        G = returns(tau.rewards, study.mdp.gamma)
        state = reinforce.State(*[np.empty(0)] * 6, np.random.default_rng(0), Position(0))
        reinforce.learn_mean(state, config, G)
        total += tau.probability * state.mean_return * state.returns_seen
        count += tau.probability * state.returns_seen
    assert mean == pytest.approx(total / count, rel=1e-9, abs=1e-12)


def test_sweeps__end_where_the_critic_plays_no_part():
    policy, theta = tabular(chain(), 0)
    study = estimators.open_study(chain(), policy, theta)
    curves = estimators.sweeps(study, critic=0.5, points=5)
    rows = {row.estimator: row for row in estimators.laboratory_table(study, critic=0.5)}
    assert [n for n, *_ in curves["n"]] == [1, 2, 3, 4]
    assert [lam for lam, *_ in curves["λ"]] == [0, 0.25, 0.5, 0.75, 1]
    for curve in curves.values():
        bias2 = [b for _, b, *_ in curve]
        assert bias2[-1] < 1e-28 and bias2[0] == pytest.approx(
            rows["actor-critic, v̂ = 0.5 v"].bias ** 2, rel=1e-12
        )
        assert curve[0][3] == pytest.approx(rows["actor-critic, v̂ = v"].variance, rel=1e-12)
    assert curves["n"][-1][1:] == pytest.approx(curves["λ"][-1][1:], rel=1e-12, abs=1e-28)


def test_command__prints_the_table_and_draws_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = runner.laboratory_command(["--env", "npgrad/Chain-v0", "--seed", "3"], {})
    picture = tmp_path / "laboratory-npgrad-Chain-v0.png"
    assert picture.read_bytes()[:4] == b"\x89PNG" and outcome.text.endswith(picture.name)
    assert outcome.status == 0 and "reward_to_go, b = b*" in outcome.text
    result = json.loads(json.dumps(outcome.result, allow_nan=False))
    assert result["episodes"] == 8 and len(result["table"]) == 29
    assert list(result["updates"]) == ["end"] and "\ncut " in outcome.text
    flags = ["--env", "npgrad/ShortCorridor-v0", "--horizon", "3", "--out", "a.svg"]
    flat = runner.laboratory_command([*flags, "--spread", "0"], {})
    assert flat.result["theta"] == [0, 0] and (tmp_path / "a.svg").exists()
    assert list(flat.result["updates"]) == ["end", "time limit"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env", "npgrad/Garnet0-v0"], r"--horizon: must be given.* state \d after 4 steps"),
        (["--env", "npgrad/Garnet0-v0", "--horizon", "40"], r"--horizon = 40: .*limit = 100000"),
        (["--env", "npgrad/Chain-v0", "--horizon", "0"], "--horizon = 0: must be >= 1"),
        (["--env", "CartPole-v1"], "--env = CartPole-v1: .*must be a finite MDP"),
        (["--env", "npgrad/Chain-v0", "--spread", "-1"], "--spread = -1.0: must be at least 0"),
        (["--env", "npgrad/Chain-v0", "--beta", "-0.1"], "--beta = -0.1: must be at least 0"),
        (
            ["--env", "npgrad/Chain-v0", "--beta", "inf"],
            "--beta = inf: must be a number of at most",
        ),
        (["--env", "npgrad/Chain-v0", "--critic", "nan"], "--critic = nan: must be a number"),
        (["--env", "npgrad/Chain-v0", "--spread", "inf"], "--spread = inf: must be a number"),
        (["--env", "npgrad/Chain-v0", "--n", "0"], "--n = 0: must be at least 1"),
        (["--env", "npgrad/Chain-v0", "--out", "a.txt"], "--out = a.txt: must end in"),
        (["--env", "npgrad/Chain-v0", "--out", "none/a.png"], "--out = none/a.png: cannot be"),
    ],
)
def test_command__names_what_it_cannot_do(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        runner.laboratory_command(flags, {})


def test_moments__of_a_zero_gradient_have_no_angle():
    mdp = FiniteMDP(chain().P, np.zeros((5, 2)), chain().p0, 0.9, chain().terminal)
    policy, theta = tabular(mdp, 0)
    study = estimators.open_study(mdp, policy, theta)
    assert isinstance(study, Study)
    assert all(row.cosine is None for row in estimators.laboratory_table(study) if row.bias == 0)
    first = runner.text_table(estimators.laboratory_table(study)).splitlines()[1]
    assert first.split()[-2:] == ["-", "0.000"]
