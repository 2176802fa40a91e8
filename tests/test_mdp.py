"""Finite MDPs: the exact answers obey their equations, and the environment samples the arrays."""

import json
import subprocess
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import mdps, policies

from algorithms.exact.mdp import (
    FiniteMDP,
    FiniteMDPEnv,
    action_values,
    advantages,
    discounted_occupancy,
    expected_return,
    state_values,
    trajectories,
)
from algorithms.exact.register import register
from algorithms.exact.worlds import (
    CHAIN_OPTIMUM,
    SHORT_CORRIDOR_OPTIMUM,
    chain,
    garnet,
    short_corridor,
    short_corridor_env,
    short_corridor_features,
    short_corridor_value,
)

LEFT, RIGHT = 0, 1
EPS, TINY = np.finfo(float).eps, np.finfo(float).tiny


def with_policies(n, **kinds):
    """An MDP with n policies for it."""
    return mdps(**kinds).flatmap(lambda m: st.tuples(st.just(m), *[policies(m)] * n))


def longest(mdp):
    """A bound on the expected discounted number of steps, known from how mdps() draws."""
    return 1 / (1 - min(mdp.gamma, 0.99)) if mdp.gamma < 1 else 10


def rounding(mdp):
    """Bound on the error of a value: a solve leaves a residual of eps S (|r| + 2 |v|), at most
    15 eps S longest, and K⁻¹ amplifies it by longest; a third more for the sums around it."""
    return 20 * EPS * len(mdp.p0) * longest(mdp) ** 2


def one_step(mdp, pi):
    """P_π and r_π by the definition."""
    joint = pi[:, :, None] * mdp.P
    return joint.sum(1), (joint * mdp.r).sum((1, 2))


def corridor_policy(p):
    """π(right) = p in every state."""
    return np.tile([1 - p, p], (4, 1))


class Uniforms:
    """Stands in for a Generator: random() gives the numbers it was made of, in turn."""

    def __init__(self, numbers):
        self.random = iter(numbers).__next__


# The exact functions


@given(with_policies(1))
def test_values__satisfy_the_bellman_equations(drawn):
    mdp, pi = drawn
    v, q = state_values(mdp, pi), action_values(mdp, pi)
    successor = mdp.r + mdp.gamma * np.where(mdp.terminal, 0, v)
    np.testing.assert_allclose(q, (mdp.P * successor).sum(2), rtol=0, atol=rounding(mdp))
    np.testing.assert_allclose(v, (pi * q).sum(1), rtol=0, atol=rounding(mdp))
    assert not v[mdp.terminal].any() and not q[mdp.terminal].any()


@given(with_policies(1))
def test_advantages__are_values_apart_from_their_mean_under_the_policy(drawn):
    mdp, pi = drawn
    q, v, advantage = action_values(mdp, pi), state_values(mdp, pi), advantages(mdp, pi)
    np.testing.assert_allclose(advantage, q - v[:, None], rtol=0, atol=2 * rounding(mdp))
    np.testing.assert_allclose((pi * advantage).sum(1), 0, rtol=0, atol=rounding(mdp))


@given(with_policies(1, kinds=("layered",)))
def test_expected_return__is_the_sum_over_all_trajectories(drawn):
    mdp, pi = drawn
    everything = list(trajectories(mdp, pi, horizon=5))
    G = [t.rewards @ mdp.gamma ** np.arange(len(t.rewards)) for t in everything]
    Pr = [t.probability for t in everything]
    assert all(t.terminated for t in everything)
    assert abs(np.dot(Pr, G) - expected_return(mdp, pi)) <= rounding(mdp) + len(Pr) * EPS
    v = state_values(mdp, pi)
    first = [t.states[0] for t in everything]
    for s in np.flatnonzero(mdp.p0):
        at_s = np.equal(first, s)
        assert abs(np.dot(Pr, G * at_s) - mdp.p0[s] * v[s]) <= rounding(mdp) + len(Pr) * EPS


@given(with_policies(1), st.integers(0, 2))
def test_expected_return__is_what_a_cut_trajectory_gave_and_what_is_left(drawn, horizon):
    mdp, pi = drawn
    v, discount, J = state_values(mdp, pi), mdp.gamma ** np.arange(horizon + 1), 0
    for t in trajectories(mdp, pi, horizon):
        T = len(t.rewards)
        J += t.probability * (t.rewards @ discount[:T] + discount[T] * v[t.states[-1]])
    assert abs(J - expected_return(mdp, pi)) <= rounding(mdp)


@given(with_policies(1), st.integers(0, 2))
def test_trajectories__are_every_way_to_go_and_each_once(drawn, horizon):
    mdp, pi = drawn
    everything = list(trajectories(mdp, pi, horizon))
    seen = {(*t.states.tolist(), -1, *t.actions.tolist()) for t in everything}
    assert len(seen) == len(everything)
    total = sum(t.probability for t in everything)
    assert abs(total - 1) <= 1e-12 * (2 * horizon + 1) + EPS * len(everything)
    for probability, s, a, r, terminated in everything:
        assert len(s) == len(a) + 1 == len(r) + 1 and len(a) <= horizon
        chain = mdp.p0[s[0]] * np.prod(pi[s[:-1], a] * mdp.P[s[:-1], a, s[1:]])
        assert abs(probability - chain) <= 4 * (horizon + 1) * EPS * chain + TINY
        assert np.array_equal(r, mdp.r[s[:-1], a, s[1:]])
        assert not mdp.terminal[s[:-1]].any()
        assert terminated == mdp.terminal[s[-1]] and (terminated or len(a) == horizon)


@given(with_policies(1))
def test_occupancy__counts_discounted_visits(drawn):
    mdp, pi = drawn
    d = discounted_occupancy(mdp, pi)
    P_pi, r_pi = one_step(mdp, pi)
    visits = np.where(mdp.terminal, 0, mdp.p0 + mdp.gamma * P_pi.T @ d)
    np.testing.assert_allclose(d, visits, rtol=0, atol=rounding(mdp))
    assert d.min() >= -rounding(mdp) and not d[mdp.terminal].any()
    J = expected_return(mdp, pi)
    assert abs(J - d @ r_pi) <= rounding(mdp)
    assert abs(J - mdp.p0 @ state_values(mdp, pi)) <= rounding(mdp)
    comes = mdp.p0 > 0
    for _ in mdp.p0:
        comes = comes | (comes @ (P_pi > 0))
    assert not d[~comes].any()


@given(with_policies(1, kinds=("continuing",)))
def test_occupancy__sums_to_the_horizon_without_terminal_states(drawn):
    mdp, pi = drawn
    horizon = 1 / (1 - mdp.gamma)
    assert abs(discounted_occupancy(mdp, pi).sum() - horizon) <= rounding(mdp)


@given(with_policies(1), st.integers(1, 30))
def test_occupancy__is_the_sum_of_its_terms_up_to_the_mass_that_remains(drawn, T):
    mdp, pi = drawn
    P_pi, _ = one_step(mdp, pi)
    d, at = np.zeros(len(mdp.p0)), mdp.p0
    for _ in range(T):
        d, at = d + at, np.where(mdp.terminal, 0, mdp.gamma * at @ P_pi)
    remains = at.sum() * longest(mdp) + rounding(mdp)
    rest = discounted_occupancy(mdp, pi) - d
    assert rest.min() >= -rounding(mdp) and rest.sum() <= remains


@given(with_policies(2))
def test_returns__differ_by_the_advantages_where_the_other_policy_goes(drawn):
    """Kakade & Langford 2002, Lemma 6.1: J(π') - J(π) = Σ d' Σ π' (q - v)."""
    mdp, pi, other = drawn
    advantage = action_values(mdp, pi) - state_values(mdp, pi)[:, None]
    gain = discounted_occupancy(mdp, other) @ (other * advantage).sum(1)
    difference = expected_return(mdp, other) - expected_return(mdp, pi)
    assert abs(difference - gain) <= 4 * longest(mdp) * rounding(mdp)


@given(with_policies(2))
def test_expected_return__takes_a_complex_step(drawn):
    """Along D = π' - π, ∂J = Σ d Σ D q (the policy-gradient theorem)."""
    mdp, pi, other = drawn
    D, h = other - pi, 1e-30
    slope = expected_return(mdp, pi + 1j * h * D).imag / h
    exact = discounted_occupancy(mdp, pi) @ (D * action_values(mdp, pi)).sum(1)
    assert abs(slope - exact) <= 4 * longest(mdp) * rounding(mdp)


def trap(gamma, into=0.0):
    """State 0 ends, or falls with probability `into` into state 1, which never does."""
    P = np.array([[[0, into, 1 - into]], [[0, 1, 0]], [[0, 0, 1]]])
    return FiniteMDP(P, np.ones((3, 1)), [1, 0, 0], gamma, [False, False, True])


def test_undiscounted__values_ask_all_states_to_end_and_returns_those_that_come():
    pi = np.ones((3, 1))
    assert expected_return(trap(1.0), pi) == 1
    assert discounted_occupancy(trap(1.0), pi).tolist() == [1, 0, 0]
    for f in (state_values, action_values):
        with pytest.raises(ValueError, match=r"gamma = 1: .*from state 1 under pi"):
            f(trap(1.0), pi)
    for f in (state_values, discounted_occupancy, expected_return):
        with pytest.raises(ValueError, match=r"gamma = 1: .*from state 1 under pi"):
            f(trap(1.0, into=1e-12), pi)
    assert state_values(trap(0.5), pi).tolist() == [1, 2, 0]


@pytest.mark.parametrize("gamma, escape", [(1, 1e-10), (1, 1e-17), (1, 1e-300), (1 - 1e-10, 0)])
def test_episodes__that_all_but_never_end_raise(gamma, escape):
    mdp = FiniteMDP([[[1, 0], [0, 1]]] * 2, np.ones((2, 2)), [1, 0], gamma, [False, True])
    pi = np.tile([1 - escape, escape], (2, 1))
    for f in (state_values, discounted_occupancy, expected_return):
        with pytest.raises(ValueError, match=r"gamma = .*more than 1e\+09"):
            f(mdp, pi)


@given(with_policies(1, kinds=("continuing",)))
def test_episodes__that_end_by_less_than_rounding_raise(drawn):
    mdp, pi = drawn
    S, A = pi.shape
    P = np.full((S + 1, A, S + 1), 1e-17)
    P[:S, :, :S] = mdp.P
    almost = FiniteMDP(P, np.ones((S + 1, A)), [*mdp.p0, 0], 1, np.arange(S + 1) == S)
    with pytest.raises(ValueError, match=r"gamma = .*more than 1e\+09"):
        state_values(almost, np.vstack([pi, pi[:1]]))


# The data


def arguments():
    return {
        "P": np.full((2, 2, 2), 0.5),
        "r": np.zeros((2, 2)),
        "p0": np.array([1.0, 0.0]),
        "gamma": 0.5,
        "terminal": np.array([False, True]),
        "observation": np.array([0, 1]),
    }


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("P", np.full((2, 2), 0.5), r"P has shape \(2, 2\)"),
        ("P", np.full((2, 2, 3), 1 / 3), r"P has shape \(2, 2, 3\)"),
        ("P", [[[0.5, 0.5], [0.5, 0.4]]] * 2, r"P\[0, 1\] sums to 0.9"),
        ("P", [[[1.5, -0.5], [0.5, 0.5]]] * 2, r"P\[0, 0\] .*least entry -0.5"),
        ("P", np.full((2, 2, 2), np.nan), r"P\[0, 0\] sums to nan"),
        ("r", np.zeros((2, 3)), r"r has shape \(2, 3\)"),
        ("r", np.zeros(2), r"r has shape \(2,\)"),
        ("r", [[0, 0], [0, 0], [0, 0]], r"r has shape \(3, 2\)"),
        ("r", [[0, np.inf], [0, 0]], r"r\[0, 1, 0\] = inf"),
        ("p0", [1.0], r"p0 has shape \(1,\)"),
        ("p0", [0.5, 0.4], "p0 sums to 0.9"),
        ("p0", [1.5, -0.5], "p0 .*least entry -0.5"),
        ("p0", [0.5, 0.5], r"p0\[1\] = 0.5: .*terminal"),
        ("gamma", 1.5, r"gamma = 1.5: must be in \[0, 1\]"),
        ("gamma", -0.1, r"gamma = -0.1: must be in \[0, 1\]"),
        ("gamma", np.nan, r"gamma = nan: must be in \[0, 1\]"),
        ("terminal", [True], r"terminal has shape \(1,\)"),
        ("terminal", [0, 1], "terminal has dtype int"),
        ("observation", [0, 1, 2], r"observation has shape \(3,\)"),
        ("observation", [0, -1], "observation = .*>= 0"),
        ("observation", [0.0, 1.0], "observation = .*integers"),
    ],
)
def test_fields__that_are_wrong_are_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        FiniteMDP(**{**arguments(), name: value})


@pytest.mark.parametrize(
    "pi, message",
    [
        (np.ones((2, 1)), r"pi has shape \(2, 1\)"),
        ([[0.5, 0.4], [0.5, 0.5]], r"pi\[0\] sums to 0.9"),
        ([[0.5, 0.5], [1.5, -0.5]], r"pi\[1\] .*least entry -0.5"),
    ],
)
def test_policies__that_are_wrong_are_named(pi, message):
    mdp = FiniteMDP(**arguments())
    for f in (
        state_values,
        action_values,
        discounted_occupancy,
        expected_return,
        lambda m, p: next(trajectories(m, p, 1)),
    ):
        with pytest.raises(ValueError, match=message):
            f(mdp, pi)


@given(with_policies(1), st.integers(1, 2))
def test_trajectories__are_counted_before_the_first_one(drawn, horizon):
    mdp, pi = drawn
    n = len(list(trajectories(mdp, pi, horizon)))
    assert len(list(trajectories(mdp, pi, horizon, limit=n))) == n
    with pytest.raises(ValueError, match=rf"horizon = {horizon}: .*limit = {n - 1}$"):
        next(trajectories(mdp, pi, horizon, limit=n - 1))


def test_trajectories__that_are_too_many_raise_at_once():
    pi = corridor_policy(0.5)
    message = r"horizon = 10000: must be less, since after 23 steps .* limit = 1e\+06"
    with pytest.raises(ValueError, match=message):
        next(trajectories(short_corridor(), pi, 10_000))


def test_trajectories__ask_for_a_horizon():
    with pytest.raises(ValueError, match="horizon = -1"):
        next(trajectories(FiniteMDP(**arguments()), np.full((2, 2), 0.5), -1))


@given(mdps(), st.sampled_from((0.0, 7.0, np.nan)))
def test_terminal_states__absorb_without_reward_whatever_was_said_of_them(mdp, said):
    P, r = mdp.P.copy(), mdp.r.copy()
    P[mdp.terminal] = r[mdp.terminal] = said
    again = replace(mdp, P=P, r=r)
    for s in np.flatnonzero(mdp.terminal):
        assert (again.P[s, :, s] == 1).all() and not again.r[s].any()
    assert np.array_equal(again.P, mdp.P) and np.array_equal(again.r, mdp.r)
    np.testing.assert_allclose(mdp.P.sum(2), 1, rtol=0, atol=1e-12)


def test_arrays__are_copies_and_read_only():
    given_arrays = arguments()
    mdp = FiniteMDP(**given_arrays)
    for name in ("P", "r", "p0", "terminal", "observation"):
        stored = getattr(mdp, name)
        assert not np.shares_memory(stored, given_arrays[name])
        assert given_arrays[name].flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            stored[0] = 0
    assert given_arrays["P"][1, 0, 0] == 0.5


def test_defaults__are_a_continuing_world_seen_whole():
    mdp = FiniteMDP(np.full((3, 1, 3), 1 / 3), np.arange(3.0)[:, None], [1, 0, 0])
    assert not mdp.terminal.any() and mdp.observation.tolist() == [0, 1, 2]
    assert mdp.gamma == 1 and mdp.n_observations == 3
    assert np.array_equal(mdp.r[2], [[2, 2, 2]])


# The environment


@given(mdps(), st.integers(0, 2**31), st.data())
def test_env__gives_what_the_arrays_say(mdp, seed, data):
    env = FiniteMDPEnv(mdp)
    assert env.observation_space.n == mdp.observation.max() + 1
    assert env.action_space.n == mdp.P.shape[1]
    observation, info = env.reset(seed=seed)
    s = info["state"]
    assert mdp.p0[s] > 0 and observation == mdp.observation[s]
    for _ in range(6):
        a = data.draw(st.integers(0, mdp.P.shape[1] - 1))
        observation, reward, terminated, truncated, info = env.step(a)
        s2 = info["state"]
        assert mdp.P[s, a, s2] > 0 and reward == mdp.r[s, a, s2]
        assert observation == mdp.observation[s2] and observation in env.observation_space
        assert terminated is bool(mdp.terminal[s2]) and truncated is False
        if terminated:
            with pytest.raises(gymnasium.error.ResetNeeded):
                env.step(a)
            s2 = env.reset()[1]["state"]
        s = s2


@given(mdps(), st.integers(2, 100))
def test_env__gives_every_outcome_its_share_of_the_unit_interval(mdp, n):
    """On the grid (i + ½)/n an interval of length p holds np points to within one."""
    env, grid = FiniteMDPEnv(mdp), (np.arange(n) + 0.5) / n
    extremes = [0.0, 1 - 2.0**-53]
    S, A, _ = mdp.P.shape
    env.np_random = Uniforms([*grid, *extremes])
    first = [env.reset()[1]["state"] for _ in range(n + 2)]
    count = np.bincount(first[:n], minlength=S)
    assert (abs(count - n * mdp.p0) <= 1 + 1e-9).all() and mdp.p0[first].all()
    for s in np.flatnonzero(mdp.p0):
        start = (mdp.p0[:s].sum() + mdp.p0[: s + 1].sum()) / 2
        for a in range(A):
            env.np_random = Uniforms([u for i in [*grid, *extremes] for u in (start, i)])
            next_states = []
            for _ in range(n + 2):
                assume(env.reset()[1]["state"] == s)
                next_states.append(env.step(a)[4]["state"])
            count = np.bincount(next_states[:n], minlength=S)
            assert (abs(count - n * mdp.P[s, a]) <= 1 + 1e-9).all()
            assert mdp.P[s, a, next_states].all()


def test_env__is_exact_where_the_probabilities_are():
    """The generator gives multiples of a power of ½, from 0 on: so does this grid."""
    env = FiniteMDPEnv(FiniteMDP(np.full((3, 1, 3), 1 / 3), np.zeros((3, 1)), [0.25, 0.5, 0.25]))
    env.np_random = Uniforms(np.arange(8) / 8)
    assert [env.reset()[1]["state"] for _ in range(8)] == [0, 0, 1, 1, 1, 1, 2, 2]


@settings(max_examples=5, derandomize=True)
@given(mdps(kinds=("continuing", "unsure")), st.integers(0, 2**31))
def test_env__has_the_frequencies_of_the_arrays(mdp, seed):
    """Hoeffding: |frequency - P| > ε with probability at most 2 exp(-2 n ε²), here below 1e-12."""
    env, rng = FiniteMDPEnv(mdp), np.random.default_rng(seed)
    S, A, _ = mdp.P.shape
    count, starts = np.zeros((S, A, S)), np.zeros(S)
    terminated, s = True, env.reset(seed=seed)[1]["state"]
    for a in rng.integers(A, size=4000):
        if terminated:
            s = env.reset()[1]["state"]
            starts[s] += 1
        _, _, terminated, _, info = env.step(a)
        count[s, a, info["state"]] += 1
        s = info["state"]
    n = count.sum(2, keepdims=True)
    epsilon = np.sqrt(np.log(2e12) / (2 * np.maximum(n, 1)))
    assert (abs(count - n * mdp.P) <= n * epsilon).all()
    assert not count[mdp.P == 0].any()
    n = starts.sum()
    assert (abs(starts - n * mdp.p0) <= np.sqrt(n * np.log(2e12) / 2)).all()


@given(mdps(), st.integers(0, 2**31))
def test_env__does_the_same_from_the_same_seed(mdp, seed):
    def episode():
        env = FiniteMDPEnv(mdp)
        steps = [env.reset(seed=seed)]
        while len(steps) < 10 and not (len(steps) > 1 and steps[-1][2]):
            steps.append(env.step(0))
        return steps

    assert episode() == episode()


@pytest.mark.parametrize("action", [-1, 2, np.int64(-1)])
def test_env__names_an_action_that_does_not_exist(action):
    env = short_corridor_env()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"action = {action}: must be in 0, ..., 1"):
        env.step(action)


def test_env__asks_for_a_reset_first():
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        short_corridor_env().step(0)


@given(mdps())
def test_env__passes_gymnasiums_own_check(mdp):
    check_env(FiniteMDPEnv(mdp), skip_render_check=True)


# The short corridor


@given(st.floats(1e-3, 1 - 1e-3))
def test_short_corridor__has_the_value_of_its_formula(p):
    mdp, pi = short_corridor(), corridor_policy(p)
    value = short_corridor_value(p)
    assert abs(state_values(mdp, pi)[0] - value) <= 1e-10 * abs(value)
    assert abs(expected_return(mdp, pi) - value) <= 1e-10 * abs(value)
    assert abs(discounted_occupancy(mdp, pi).sum() + value) <= 1e-10 * abs(value)
    assert value <= SHORT_CORRIDOR_OPTIMUM[1] * (1 - 8 * EPS)


def test_short_corridor__is_best_at_its_optimum():
    p, v = SHORT_CORRIDOR_OPTIMUM
    assert abs(short_corridor_value(p) - v) <= 32 * EPS * abs(v)
    assert round(p, 3) == 0.586 and round(v, 3) == -11.657
    for other in (p - 1e-6, p + 1e-6):
        assert short_corridor_value(other) < v


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, np.nan])
def test_short_corridor__has_no_value_where_it_never_ends(p):
    with pytest.raises(ValueError, match=r"p = .*must be in"):
        short_corridor_value(p)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_short_corridor__policies_that_never_end_raise(p):
    with pytest.raises(ValueError, match="gamma = 1"):
        expected_return(short_corridor(), corridor_policy(p))


def test_short_corridor__is_the_books_example():
    mdp = short_corridor()
    moves = {(0, LEFT): 0, (0, RIGHT): 1, (1, LEFT): 2, (1, RIGHT): 0, (2, LEFT): 1, (2, RIGHT): 3}
    for (s, a), s2 in moves.items():
        assert mdp.P[s, a, s2] == 1 and mdp.r[s, a, s2] == -1
    assert mdp.terminal.tolist() == [False] * 3 + [True] and mdp.p0.tolist() == [1, 0, 0, 0]
    env = short_corridor_env()
    assert env.reset(seed=0)[0] == 0 and env.observation_space.n == 1
    steps = [env.step(a) for a in (LEFT, RIGHT, RIGHT, RIGHT, LEFT, LEFT, LEFT, RIGHT)]
    assert [s[4]["state"] for s in steps] == [0, 1, 0, 1, 2, 1, 2, 3]
    assert [s[:4] for s in steps] == [(0, -1.0, False, False)] * 7 + [(0, -1.0, True, False)]


def test_short_corridor__features_start_the_book_near_left():
    """θ = (-1.47, 1.47), the book's start, means π(right) = 0.05."""
    h = short_corridor_features() @ [-1.47, 1.47]
    pi = np.exp(h) / np.exp(h).sum()
    assert round(pi[RIGHT], 2) == 0.05


# The chain and the garnets


def test_chain__is_best_where_it_always_goes_on():
    mdp = chain()
    go = np.tile([0.0, 1.0], (5, 1))
    assert abs(expected_return(mdp, go) - CHAIN_OPTIMUM) <= 8 * EPS * CHAIN_OPTIMUM
    stop = [state_values(mdp, 1 - go)[s] for s in range(4)]
    assert stop == [1, 2, 3, 4]
    np.testing.assert_allclose(state_values(mdp, go)[:4], 8 * 0.72 ** np.arange(3, -1, -1))


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4), st.data())
def test_garnet__has_as_many_successors_as_it_says(seed, states, actions, data):
    branching = data.draw(st.integers(1, states))
    mdp = garnet(seed, states, actions, branching, gamma=0.5)
    assert mdp.P.shape == (states, actions, states) and mdp.gamma == 0.5
    assert (np.count_nonzero(mdp.P, axis=2) == branching).all() and not mdp.terminal.any()
    again = garnet(seed, states, actions, branching, gamma=0.5)
    assert np.array_equal(mdp.P, again.P) and np.array_equal(mdp.r, again.r)
    with pytest.raises(ValueError, match=f"branching = {states + 1}: must be in 1, ..., states"):
        garnet(seed, states, actions, states + 1)


# Registration


def test_register__can_be_repeated_and_sets_no_time_limit():
    register()
    register()
    env = gymnasium.make("npgrad/ShortCorridor-v0")
    assert isinstance(env.unwrapped, FiniteMDPEnv) and env.spec.max_episode_steps is None
    check_env(env.unwrapped)


@pytest.mark.parametrize(
    "name, mdp",
    [("Chain", chain()), ("Garnet0", garnet(0)), ("Garnet1", garnet(1)), ("Garnet2", garnet(2))],
)
def test_register__knows_the_worlds_of_the_laboratory(name, mdp):
    made = gymnasium.make(f"npgrad/{name}-v0").unwrapped.mdp
    assert all(np.array_equal(getattr(made, x), getattr(mdp, x)) for x in ("P", "r", "p0", "gamma"))


def test_register__is_reached_through_the_id_alone():
    program = """if True:
        import gymnasium, json, sys, warnings
        warnings.simplefilter("error")
        before = [m for m in sys.modules if m.startswith(("algorithms", "npgrad"))]
        env = gymnasium.make("algorithms.exact.register:npgrad/ShortCorridor-v0")
        print(json.dumps([before, env.spec.id, env.reset(seed=0)[0]]))"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [[], "npgrad/ShortCorridor-v0", 0]
