"""The variance of sampled policy gradients: what bootstrapping removes, why b* is not v."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, studies, tabular
from worlds import SEEDS, UNIT

from algorithms import reinforce
from algorithms.exact.laboratory import (
    expectation,
    lambda_returns,
    lambda_shift,
    moments,
    n_step_returns,
    optimal_baseline,
    weighted,
)
from algorithms.exact.mdp import action_values, expected_return, state_values
from algorithms.exact.variance import (
    explained,
    lambda_spread,
    matched_baseline,
    n_step_spread,
    own_terms,
    td_spread,
)
from algorithms.exact.worlds import chain, short_corridor
from algorithms.referee import estimators
from npgrad import complex_step


def opened(mdp, seed=0, horizon=None, spread=1.0):
    return estimators.open_study(mdp, *tabular(mdp, seed, spread), horizon)


def values(study):
    return state_values(study.mdp, study.pi)


def monte_carlo(study):
    """The weights γ^t (G_t − v(S_t))."""
    return partial(estimators.weigh, gamma=study.mdp.gamma, baseline=values(study))


def first(weigh):
    """The same for the term t = 0 alone."""

    def alone(tau):
        weights = weigh(tau)
        weights[1:] = 0.0
        return weights

    return alone


# One step's own term


@given(studies(), UNIT, st.integers(1, 5), SEEDS)
def test_spread__is_that_of_every_episode(drawn, lam, n, seed):
    """Σ_t E[γ^2t (G_t − v)² |score_t|²] over all episodes, for any scores."""
    study = drawn[0]
    gamma, v = study.mdp.gamma, values(study)
    any_scores = np.random.default_rng(seed).normal(size=study.scores.shape)
    study = study._replace(scores=any_scores)
    of_lam = lambda R, v: lambda_returns(R, v, gamma, lam)
    of_n = lambda R, v: n_step_returns(R, v, gamma, n)
    for G, spread in (
        (of_lam, lambda_spread(study.mdp, study.pi, lam)),
        (of_n, n_step_spread(study.mdp, study.pi, n)),
    ):
        total = 0.0
        for tau in study.episodes:
            weights = gamma ** np.arange(len(tau.rewards))
            weights = weights * (G(tau.rewards, v[tau.states]) - v[tau.states[:-1]])
            squares = (any_scores[tau.states[:-1], tau.actions] ** 2).sum(1)
            total += tau.probability * weights**2 @ squares
        assert own_terms(study, spread) == pytest.approx(total, rel=1e-9, abs=1e-12)


@given(mdps(kinds=("layered",)), st.floats(0, 1), st.floats(0, 1), SEEDS)
def test_spread__grows_with_n_and_with_lambda(mdp, a, b, seed):
    """From that of δ to that of the return; more steps than an episode has change nothing."""
    study = opened(mdp, seed)
    low, high = (lambda_spread(mdp, study.pi, lam) for lam in sorted((a, b)))
    by_n = [n_step_spread(mdp, study.pi, n) for n in (1, 2, 3, 40)]
    size = 1 + by_n[-1].max()
    for less, more in ((low, high), *pairwise(by_n)):
        assert (more - less).min() >= -1e-12 * size
    delta = td_spread(mdp, study.pi)
    for same in (by_n[0], lambda_spread(mdp, study.pi, 0.0)):
        np.testing.assert_allclose(same, delta, atol=1e-12 * size)
    np.testing.assert_allclose(by_n[-1], lambda_spread(mdp, study.pi, 1.0), atol=1e-12 * size)


# The law of total variance


@given(studies(), st.integers(1, 5))
@settings(max_examples=15)
def test_total_variance__bootstrapping_from_v_leaves_out_the_rest(drawn, n):
    """Of one step's term, by Monte Carlo: what the n steps from then explain is the variance of
    the n-step term, and the rest is gone."""
    study = drawn[0]
    by_n = moments(study, first(estimators.n_step(values(study), study.mdp.gamma, n)))
    all_of_it = moments(study, first(monte_carlo(study)))
    known, rest = explained(study, first(monte_carlo(study)), n)
    size = 1e-12 * (1 + all_of_it.total_variance)
    assert known == pytest.approx(by_n.total_variance, rel=1e-9, abs=size)
    left = all_of_it.total_variance - by_n.total_variance
    assert rest == pytest.approx(left, rel=1e-9, abs=1e3 * size) and rest >= 0.0


@given(studies(), UNIT, st.integers(0, 6))
@settings(max_examples=15)
def test_total_variance__is_what_n_steps_explain_and_the_rest(drawn, lam, n):
    """For any weights, a wrong v̂'s too: the sum is tr Cov ĝ, and more steps explain more."""
    study = drawn[0]
    weigh = estimators.lam_(0.5 * values(study), study.mdp.gamma, lam)
    total = moments(study, weigh).total_variance
    known, rest = explained(study, weigh, n)
    assert known + rest == pytest.approx(total, rel=1e-10, abs=1e-13)
    assert explained(study, weigh, n + 1)[0] >= known - 1e-10 * (1 + total)
    assert explained(study, weigh, 99)[1] == pytest.approx(0.0, abs=1e-13 * (1 + total))
    one_start = np.count_nonzero(study.mdp.p0) == 1
    assert not one_start or explained(study, weigh, 0)[0] <= 1e-12 * (1 + total)


@given(mdps(kinds=("layered",)), SEEDS, st.integers(0, 3))
@settings(max_examples=10)
def test_total_variance__is_that_of_the_conditional_mean(mdp, seed, n):
    """E[ĝ | n steps] = Σ_{k<n} γ^k δ_k Σ_{t≤k} ∇ln π_t + γ^n ∇v(S_n), for b = v."""
    (policy, theta), gamma = tabular(mdp, seed), mdp.gamma
    study = estimators.open_study(mdp, policy, theta)
    v, grad_v = values(study), np.zeros((len(mdp.p0), theta.size))
    for s in np.flatnonzero(~mdp.terminal):
        of = lambda theta, s=s: state_values(mdp, policy.at(theta, mdp.observation).probs())[s]
        grad_v[s] = complex_step(of, theta)
    means = []
    for tau in study.episodes:
        S, k = tau.states, np.arange(min(n, len(tau.rewards)))
        delta = tau.rewards + gamma * v[S[1:]] - v[S[:-1]]
        Z = np.cumsum(study.scores[S[:-1], tau.actions], 0)
        ahead = gamma**n * grad_v[S[n]] if n < len(S) else 0.0
        means.append((gamma**k * delta[k]) @ Z[k] + ahead)
    p = np.array([tau.probability for tau in study.episodes])
    expected = weighted(p, np.array(means), expectation(study)).total_variance
    known, _ = explained(study, monte_carlo(study), n)
    assert known == pytest.approx(expected, rel=1e-9, abs=1e-10)


def test_total_variance__of_an_episode_need_not_grow_with_n():
    """The corridor cut at 10: the 3-step estimator has less variance than the 2-step one, although
    each of its terms has more; terms of an episode are correlated."""
    study = opened(short_corridor(), horizon=10)
    by_n = [estimators.n_step(values(study), 1.0, n) for n in (1, 2, 3)]
    one, two, three = (moments(study, weigh).total_variance for weigh in by_n)
    assert one < three < two
    own = [own_terms(study, n_step_spread(study.mdp, study.pi, n)) for n in (1, 2, 3)]
    assert own == sorted(own)


# The best baseline


@given(mdps(kinds=("layered",)), SEEDS, st.sampled_from(reinforce.WEIGHTINGS[1:]))
@settings(max_examples=15)
def test_best_baseline__weighs_q_by_the_squares_of_scores(mdp, seed, weighting):
    """No state is seen twice, and no two share parameters. It is v only where the actions' values,
    or their chances, are the same."""
    study = opened(replace(mdp, observation=None), seed)
    mdp, pi = study.mdp, study.pi
    weigh = partial(estimators.weigh, gamma=mdp.gamma, weighting=weighting)
    best, q = optimal_baseline(study, weigh), action_values(mdp, pi)
    seen = best != 0.0
    matched = matched_baseline(pi, study.scores, q)
    np.testing.assert_allclose(best[seen], matched[seen], rtol=1e-8, atol=1e-10)
    uniform = matched_baseline(np.full_like(pi, 1 / pi.shape[1]), np.ones((*pi.shape, 1)), q)
    np.testing.assert_allclose(uniform, q.mean(1), rtol=1e-12)
    if pi.shape[1] == 2:
        swapped = (pi[:, ::-1] * q).sum(1)
        np.testing.assert_allclose(matched, swapped, rtol=1e-8, atol=1e-10)


def test_best_baseline__is_not_v():
    """The chain: b* − v = (π(1) − π(0)) (q(0) − q(1)), and v leaves more variance."""
    study = opened(chain())
    v, q, pi = values(study), action_values(study.mdp, study.pi), study.pi
    weigh = partial(estimators.weigh, gamma=study.mdp.gamma)
    best = optimal_baseline(study, weigh)
    np.testing.assert_allclose((best - v)[:4], ((pi[:, 1] - pi[:, 0]) * (q[:, 0] - q[:, 1]))[:4])
    assert np.abs(best - v).max() > 0.5
    by_v, by_best = (moments(study, partial(weigh, baseline=b)).total_variance for b in (v, best))
    assert 1.01 * by_best < by_v


# Whether a sample improves the policy


@pytest.mark.parametrize(("weighting", "b"), [("total", 0.0), ("reward_to_go", 1.0)])
def test_uphill__is_the_chance_that_a_small_step_along_a_sample_improves_the_policy(weighting, b):
    """J(θ + ε ĝ) > J(θ) literally, ε |ĝ| = 1e-6; "every sample improves" would be 1."""
    policy, theta = tabular(chain(), 0)
    study = estimators.open_study(chain(), policy, theta)
    baseline = np.full(5, b)
    weigh = partial(estimators.weigh, gamma=0.9, weighting=weighting, baseline=baseline)
    J = lambda theta: expected_return(chain(), policy.at(theta, np.arange(5)).probs())
    improves = 0.0
    for tau in study.episodes:
        g = weigh(tau) @ study.scores[tau.states[:-1], tau.actions]
        gain = J(theta + 1e-6 * g / (np.linalg.norm(g) or 1.0)) - J(theta)
        assert abs(gain) > 1e-9 or abs(g @ expectation(study)) < 1e-12
        improves += tau.probability * (gain > 1e-9)
    uphill = moments(study, weigh).uphill
    assert uphill == pytest.approx(improves, rel=1e-12) and 0.0 < uphill < 0.7


@pytest.mark.parametrize(
    ("mdp", "horizon", "chance"), [(short_corridor(), 10, 0.478), (chain(), None, 0.308)]
)
def test_uphill__of_the_total_return_is_less_than_half(mdp, horizon, chance):
    study = opened(mdp, horizon=horizon)
    weigh = partial(
        estimators.weigh, gamma=mdp.gamma, weighting="total", baseline=0 * values(study)
    )
    assert moments(study, weigh).uphill == pytest.approx(chance, abs=5e-4)


def test_uphill__does_not_count_a_right_angle_that_rounding_makes_less():
    eps = np.finfo(float).eps
    g = np.array([[1.0 + 4 * eps, -1.0], [-1.0, 1.0 - 4 * eps], [2.0, 1.0], [-1.0, -1.0]])
    found = weighted(np.array([0.4, 0.3, 0.2, 0.1]), g, np.array([1.0, 1.0]))
    assert found.uphill == 0.2


# Bad input


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan")])
def test_lambda__outside_the_unit_interval_is_refused(lam):
    study = opened(chain())
    for f in (lambda_spread, partial(lambda_shift, error=np.zeros(5))):
        with pytest.raises(ValueError, match=r"lam = .*: must be in \[0, 1\]"):
            f(study.mdp, study.pi, lam=lam)


def test_n__below_its_least_is_refused():
    study = opened(chain())
    with pytest.raises(ValueError, match="n = 0: must be at least 1"):
        n_step_spread(study.mdp, study.pi, 0)
    with pytest.raises(ValueError, match="n = -1: must be at least 0"):
        explained(study, monte_carlo(study), -1)
