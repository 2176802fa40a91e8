"""Average reward and optimal policies: every answer obeys the equations that define it."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import mdps, policies, unichain_mdps

from algorithms.exact.average_reward import (
    arriving_trace,
    average_reward,
    differential_action_values,
    differential_values,
    expected_step,
    solve,
    stationary_distribution,
)
from algorithms.exact.mdp import FiniteMDP, action_values, expected_return, state_values
from algorithms.exact.optimal import BETTER, optimal_policy
from algorithms.exact.worlds import CHAIN_OPTIMUM, chain, garnet, short_corridor

EPS = np.finfo(float).eps
# ‖Z‖ <= 2/0.1 + 1: two copies of a chain meet with Pr >= 0.1 per step, so deviations of at most 2
# last for 10 steps. A solve leaves a residual of at most 4 eps S ‖Z‖ |r|, |r| <= 5, and Z amplifies
# it by ‖Z‖.
ROUNDING = 20 * EPS * 7 * 21**2


def drawn_policies(n):
    return unichain_mdps().flatmap(lambda mdp: st.tuples(st.just(mdp), *[policies(mdp)] * n))


def one_step(mdp, pi):
    joint = pi[:, :, None] * mdp.P
    return joint.sum(1), (joint * mdp.r).sum((1, 2))


def recurrent(mdp, pi):
    """Mask of the states that are reached from the one to which every step may lead."""
    edges = one_step(mdp, pi)[0] > 0
    reached = np.arange(len(edges)) == np.flatnonzero(edges.all(0))[0]
    for _ in edges:
        reached = reached | (reached @ edges)
    return reached


@given(drawn_policies(1))
def test_stationary_distribution__stays_and_leaves_transient_states_out(drawn):
    mdp, pi = drawn
    P_pi, r_pi = one_step(mdp, pi)
    d = stationary_distribution(mdp, pi)
    np.testing.assert_allclose(d @ P_pi, d, rtol=0, atol=ROUNDING)
    assert abs(d.sum() - 1) <= ROUNDING and d.min() >= -ROUNDING
    assert abs(average_reward(mdp, pi) - d @ r_pi) <= ROUNDING
    assert not d[~recurrent(mdp, pi)].any()


@given(drawn_policies(1))
def test_differential_values__satisfy_the_poisson_equation(drawn):
    mdp, pi = drawn
    d, rho, v = solve(mdp, pi)
    q = differential_action_values(mdp, pi)
    np.testing.assert_allclose(q, (mdp.P * (mdp.r - rho + v)).sum(2), rtol=0, atol=ROUNDING)
    np.testing.assert_allclose((pi * q).sum(1), v, rtol=0, atol=20 * ROUNDING)
    assert abs(d @ v) <= 20 * ROUNDING and np.array_equal(v, differential_values(mdp, pi))


@given(drawn_policies(1), st.integers(1, 50))
def test_average_reward__is_what_n_steps_give_but_for_the_values(drawn, n):
    """E[R_1 + ... + R_n | s] = n ρ + v(s) - E[v(S_n) | s], step by step."""
    mdp, pi = drawn
    P_pi, r_pi = one_step(mdp, pi)
    _, rho, v = solve(mdp, pi)
    gained, ahead = np.zeros_like(r_pi), r_pi
    for _ in range(n):
        gained, ahead = gained + ahead, P_pi @ ahead
    expected = n * rho + v - np.linalg.matrix_power(P_pi, n) @ v
    np.testing.assert_allclose(gained, expected, rtol=0, atol=n * 40 * ROUNDING)


@given(drawn_policies(2))
def test_average_reward__takes_a_complex_step(drawn):
    mdp, pi, other = drawn
    h = 2.0**-70
    slope = average_reward(mdp, pi + 1j * h * (other - pi)).imag / h
    d, q = stationary_distribution(mdp, pi), differential_action_values(mdp, pi)
    assert abs(slope - d @ ((other - pi) * q).sum(1)) <= 100 * ROUNDING


@given(unichain_mdps(), unichain_mdps(), st.data())
def test_average_reward__of_two_worlds_side_by_side_is_not_one_number(a, b, data):
    """The error names a recurrent state of each."""
    n, A = len(a.p0), min(a.P.shape[1], b.P.shape[1])
    a, b = (replace(mdp, P=mdp.P[:, :A], r=mdp.r[:, :A]) for mdp in (a, b))
    S = n + len(b.p0)
    P = np.zeros((S, A, S))
    P[:n, :, :n], P[n:, :, n:] = a.P, b.P
    mdp = FiniteMDP(P, np.zeros((S, A)), np.eye(S)[0], 0.5)
    pi = data.draw(policies(mdp))
    with pytest.raises(ValueError, match=r"multichain: states .* one recurrent class") as error:
        average_reward(mdp, pi)
    states = sorted(map(int, re.findall(r"\d+", str(error.value))))
    assert states[0] < n <= states[1]
    assert recurrent(a, pi[:n])[states[0]] and recurrent(b, pi[n:])[states[1] - n]


def test_average_reward__names_recurrent_states_not_those_on_the_way():
    """0 and 2 absorb; 1 leads to 2, so that it is no class of its own."""
    mdp = FiniteMDP(np.eye(3)[[0, 2, 2]][:, None], np.zeros((3, 1)), [0, 1, 0], 0.5)
    with pytest.raises(ValueError, match="multichain: states 0 and 2 can never reach each other"):
        average_reward(mdp, np.ones((3, 1)))


@pytest.mark.parametrize("escape", [1e-10, 1e-17, 1e-300])
def test_average_reward__of_a_chain_that_all_but_splits_raises(escape):
    P = np.array([[[1 - escape, escape]], [[escape, 1 - escape]]])
    mdp = FiniteMDP(P, np.ones((2, 1)), [1, 0], 0.5)
    with pytest.raises(ValueError, match=r"pi: must leave .* more than 1e\+09 steps"):
        average_reward(mdp, np.ones((2, 1)))


def test_average_reward__has_no_place_for_terminal_states():
    with pytest.raises(ValueError, match=r"terminal\[3\] = True: must be False"):
        average_reward(short_corridor(), np.full((4, 2), 0.5))


def test_average_reward__of_a_cycle_is_its_mean():
    """Two states in turn, rewards 1 and 3: the partial sums of R - ρ alternate, v is their mean."""
    mdp = FiniteMDP([[[0, 1]], [[1, 0]]], [[1.0], [3.0]], [1, 0], 0.5)
    d, rho, v = solve(mdp, np.ones((2, 1)))
    np.testing.assert_allclose(d, [0.5, 0.5], rtol=8 * EPS)
    assert abs(rho - 2) <= 8 * EPS
    np.testing.assert_allclose(v, [-0.5, 0.5], rtol=16 * EPS)


# The continuing actor–critic


def scored(drawn, seed):
    """An MDP, its policy and any scores (S, A, 2) that have mean 0 under it."""
    mdp, pi = drawn
    scores = np.random.default_rng(seed).normal(size=(*pi.shape, 2))
    return mdp, pi, scores - np.einsum("sa,sai->si", pi, scores)[:, None]


@given(drawn_policies(1), st.floats(0, 0.9), st.integers(0, 2**32 - 1))
def test_expected_step__is_the_sum_over_past_scores(drawn, lam, seed):
    """E[δ_t z_t] = Σ_k λ^k E[∇ln π_{t−k} δ_t], term by term: ∇ln π_{t−k}, then k steps to δ_t. The
    400 terms leave λ^400 < 1e-18 of terms that are bounded."""
    mdp, pi, scores = scored(drawn, seed)
    d, rho, v = solve(mdp, pi)
    e = np.random.default_rng(seed + 1).normal(size=len(d))
    v_hat = v + e
    delta = (mdp.P * (mdp.r - rho + v_hat - v_hat[:, None, None])).sum(2)  # E[δ | s, a]
    total = np.einsum("s,sa,sai,sa->i", d, pi, scores, delta)
    ahead, after = (pi * delta).sum(1), np.einsum("s,sa,sai,sat->it", d, pi, scores, mdp.P)
    for k in range(1, 400):
        total = total + lam**k * after @ ahead
        after = after @ one_step(mdp, pi)[0]
    found = expected_step(mdp, pi, scores, lam, e)
    np.testing.assert_allclose(found, total, rtol=0, atol=1000 * ROUNDING)


@given(drawn_policies(1), st.integers(0, 2**32 - 1))
def test_expected_step__has_no_bias_as_lambda_goes_to_1(drawn, seed):
    """It falls with 1 − λ, and is 0 at 1; an error that is the same everywhere is none at any λ."""
    mdp, pi, scores = scored(drawn, seed)
    exact, e = expected_step(mdp, pi, scores, 0.5), np.random.default_rng(seed).normal(size=len(pi))
    size = np.abs(arriving_trace(mdp, pi, scores, 1.0)).sum()
    bias = lambda lam, e: expected_step(mdp, pi, scores, lam, e) - exact
    assert np.abs(bias(0.999, e)).max() <= 0.01 * (1 + size) * np.abs(e).max()
    np.testing.assert_allclose(bias(1.0, e), 0, atol=1000 * ROUNDING)
    for lam in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(bias(lam, 5.0), 0, atol=1000 * ROUNDING)
        trace = arriving_trace(mdp, pi, scores, lam)
        np.testing.assert_allclose(trace.sum(0), 0, atol=1000 * ROUNDING)


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan")])
def test_expected_step__refuses_other_lambdas(lam):
    with pytest.raises(ValueError, match=r"lam = .*: must be in \[0, 1\]"):
        expected_step(garnet(0), np.full((4, 2), 0.5), np.zeros((4, 2, 1)), lam)


# Optimal policies


@given(mdps())
def test_optimal_policy__satisfies_the_optimality_equation(mdp):
    pi = optimal_policy(mdp)
    q = action_values(mdp, pi)
    assert np.isin(pi, (0, 1)).all() and (pi.sum(1) == 1).all()
    assert (q.max(1) - state_values(mdp, pi)).max() <= 2 * BETTER * abs(q).max() + 1e-10


@given(mdps().flatmap(lambda mdp: st.tuples(st.just(mdp), policies(mdp))))
def test_optimal_policy__is_beaten_by_none(drawn):
    mdp, pi = drawn
    best, v = state_values(mdp, optimal_policy(mdp)), state_values(mdp, pi)
    assert (best - v).min() >= -100 * BETTER * (1 + abs(best).max())


@given(drawn_policies(1))
def test_optimal_policy__has_the_best_average_reward(drawn):
    mdp, other = drawn
    pi = optimal_policy(mdp, differential_action_values)
    q, v = differential_action_values(mdp, pi), differential_values(mdp, pi)
    tolerance = 2 * BETTER * abs(q).max() + 20 * ROUNDING
    assert (q.max(1) - v).max() <= tolerance
    assert average_reward(mdp, other) <= average_reward(mdp, pi) + tolerance


@pytest.mark.parametrize("seed", range(3))
def test_optimal_policy__is_the_best_of_all_deterministic_ones(seed):
    mdp = garnet(seed)
    every = [np.eye(2)[list(actions)] for actions in itertools.product(range(2), repeat=4)]
    best = expected_return(mdp, optimal_policy(mdp))
    assert abs(best - max(expected_return(mdp, pi) for pi in every)) <= 1e-12 * abs(best)
    best = average_reward(mdp, optimal_policy(mdp, differential_action_values))
    assert abs(best - max(average_reward(mdp, pi) for pi in every)) <= 1e-12


def test_optimal_policy__knows_the_way_through_the_worlds():
    assert abs(expected_return(chain(), optimal_policy(chain())) - CHAIN_OPTIMUM) <= 1e-14
    corridor = short_corridor()
    pi = optimal_policy(corridor)
    assert (
        pi[:3].argmax(1).tolist() == [1, 0, 1] and abs(expected_return(corridor, pi) + 3) <= 1e-14
    )


@given(st.integers(0, 2**32 - 1))
def test_optimal_policy__does_not_stay_for_ever_where_staying_costs_nothing(seed):
    """γ = 1: to stay for nothing is as good as to go on, to rounding, but ends nowhere."""
    rng = np.random.default_rng(seed)
    P = np.zeros((4, 2, 4))
    P[np.arange(3), 0, np.arange(3)] = 1
    P[:3, 1] = rng.dirichlet(np.ones(4), 3)
    r = np.zeros((4, 2, 4))
    r[:3, 1, 3] = rng.normal(size=3)
    mdp = FiniteMDP(P, r, [1, 0, 0, 0], 1.0, np.arange(4) == 3)
    if (state_values(mdp, np.eye(2)[[1, 1, 1, 1]]) >= 0).all():
        assert (optimal_policy(mdp)[:3].argmax(1) == 1).all()


def test_optimal_policy__names_a_state_that_cannot_end():
    mdp = FiniteMDP(np.eye(2)[:, None], np.zeros((2, 1)), [1, 0], 1.0, [False, True])
    with pytest.raises(ValueError, match="no terminal state can be reached from state 0"):
        optimal_policy(mdp)
    with pytest.raises(ValueError, match="multichain: states 0 and 1"):
        optimal_policy(replace(mdp, terminal=None), differential_action_values)
