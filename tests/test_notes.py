"""Formulas and statements of the founding notes that no other test writes out, section by section.

Each is written as the notes have it (sums over actions, episodes, updates) and compared with what
the pages compute. Where the notes are wrong, the test has the right one and shows that theirs
differs. EQUATIONS.md has a row for each.
"""

from dataclasses import replace
from itertools import pairwise, product
from math import erfc, exp, log, prod
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import mdps, policies, regulators, studies, unichain_mdps
from worlds import LINEAR, SEEDS, SGD, SMALL, Constant, Wander

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, reinforce, td_lambda
from algorithms.common.drivers import interleave
from algorithms.common.policy import make_policy
from algorithms.common.world import returns
from algorithms.ddpg_noise import Noise
from algorithms.exact.average_reward import average_reward, stationary_distribution
from algorithms.exact.deterministic import curvature
from algorithms.exact.laboratory import expectation, moments
from algorithms.exact.lqr import action_value, cost_matrix
from algorithms.exact.mdp import (
    FiniteMDP,
    FiniteMDPEnv,
    action_values,
    advantages,
    expected_return,
    state_values,
    trajectories,
)
from algorithms.exact.worlds import chain
from algorithms.policy_gradient_theorem import exact_gradient, gibbs
from algorithms.referee.estimators import open_study, weigh
from npgrad import Softmax, complex_step, linear, softmax
from npgrad.optimizers import rmsprop

PREFERENCES = st.lists(st.floats(-3, 3), min_size=2, max_size=4).map(np.array)
NUMBERS = st.floats(-3, 3)


def bandit(rewards):
    """One state, in which action a pays rewards[a] and ends the episode."""
    A = len(rewards)
    return FiniteMDP([[[0.0, 1.0]] * A] * 2, [rewards, [0.0] * A], [1.0, 0.0], 1.0, [False, True],
                     [0, 0])  # fmt: skip


def probabilities(h):
    """π(a) = e^h_a / Σ_b e^h_b."""
    e = [exp(x) for x in h]
    return np.array([x / sum(e) for x in e])


def score(pi, a):
    """∂ln π(a)/∂h_b = 1{b = a} − π(b)."""
    return np.array([(b == a) - pi[b] for b in range(len(pi))])


def entropy(pi):
    """H = −Σ_a π(a) ln π(a)."""
    return -sum(p * log(p) for p in pi)


def sampled_step(h, a, R, b=0.0, weighting="total"):
    """REINFORCE's ĝ of an episode of one step, by the page."""
    weights = reinforce.weights(np.zeros(1, int), np.array([R]), np.array([b]), 1.0, weighting)
    return reinforce.gradient(h[None], softmax(len(h)), np.array([a]), weights)[0]


# 1.1: why policy gradients


@given(regulators(), SEEDS, st.floats(0.01, 1.0))
def test_discretised_actions__lose_the_square_of_the_distance_to_the_best(world, seed, spacing):
    """q(s, a°) − q(s, a) = (a − a°)ᵀ N (a − a°). On a grid the nearest action is up to half a
    spacing off in every coordinate; half the spacing loses a quarter, and takes 2^d times as many
    actions."""
    lqr, K = world
    d, rng = len(K), np.random.default_rng(seed)
    s, signs, P = rng.normal(size=len(lqr.A)), rng.choice([-1.0, 1.0], d), cost_matrix(lqr, K)
    N = curvature(lqr, P)
    best = -np.linalg.solve(N, lqr.gamma * lqr.B.T @ P @ lqr.A @ s)
    q = lambda a: action_value(lqr, K, s, a)
    loss = lambda spacing: q(best) - q(best + 0.5 * spacing * signs)
    expected = sum(N[i, j] * signs[i] * signs[j] for i in range(d) for j in range(d)) / 4
    size = abs(q(best)) + np.abs(N).max()
    assert loss(spacing) == pytest.approx(expected * spacing**2, rel=1e-9, abs=1e-11 * size)
    assert loss(spacing / 2) == pytest.approx(loss(spacing) / 4, rel=1e-9, abs=1e-11 * size)


def test_gradient_descent__lowers_J():
    """Along +∇J J rises by |∇J|² for a small step, along −∇J it falls: the notes say descent."""
    mdp, policy, x = chain(), gibbs(linear(5, 2, bias=False, one_hot=True)), np.arange(5)
    theta = np.random.default_rng(0).normal(size=10)
    g = exact_gradient(theta, mdp, policy, x)
    J = lambda theta: expected_return(mdp, policy(theta, x))
    slope = complex_step(lambda t: J(theta + t[0] * g), np.zeros(1))[0]
    assert slope == pytest.approx(g @ g, rel=1e-9)
    assert J(theta + 0.01 * g) > J(theta) > J(theta - 0.01 * g)


# 1.2: REINFORCE


@given(studies(spreads=(0.0, 1.0)))
def test_total_return__is_the_notes_formula_over_all_episodes(drawn):
    """E[(Σ_t ∇ln π(a_t|s_t)) (Σ_t γ^t r_t)] = ∇J with t = 0 ... T−1 in both sums: an episode of T
    steps has T actions, T rewards and T + 1 states. Its weights are the same at every t."""
    study, _, _ = drawn
    mdp, pi = study.mdp, study.pi
    found = np.zeros(study.scores.shape[-1])
    for tau in study.episodes:
        T = len(tau.rewards)
        assert len(tau.actions) == T and len(tau.states) == T + 1
        R = sum(mdp.gamma**t * tau.rewards[t] for t in range(T))
        scores = sum(study.scores[tau.states[t], tau.actions[t]] for t in range(T))
        found += tau.probability * scores * R
        weights = weigh(tau, gamma=mdp.gamma, weighting="total", baseline=np.zeros(len(pi)))
        np.testing.assert_allclose(weights, [R] * T, rtol=1e-12, atol=1e-12)
    size = 1 + np.abs(mdp.r).max() * len(mdp.p0) + np.abs(expectation(study)).max()
    np.testing.assert_allclose(found, expectation(study), atol=1e-11 * size)


@given(studies(spreads=(0.0, 1.0)), SEEDS)
def test_baseline__adds_nothing_in_the_mean(drawn, seed):
    """Σ_τ Pr(τ) Σ_t γ^t b(S_t) ∇ln π(A_t|S_t) = 0 for any b(s), and Σ_a π(a|s) b(s) ∇ln π(a|s) in
    every state. Of a b(s, a) it is not: b = q gives ∇J."""
    study, _, _ = drawn
    mdp, pi = study.mdp, study.pi
    b = np.random.default_rng(seed).normal(size=len(pi))
    q, added = action_values(mdp, pi), np.zeros((2, study.scores.shape[-1]))
    for tau in study.episodes:
        for t, (s, a) in enumerate(zip(tau.states, tau.actions)):
            once = tau.probability * mdp.gamma**t * study.scores[s, a]
            added += [b[s] * once, q[s, a] * once]
    size = 1 + np.abs(q).max() * len(mdp.p0)
    np.testing.assert_allclose(added[0], 0.0, atol=1e-11 * size)
    np.testing.assert_allclose(added[1], expectation(study), atol=1e-11 * size)
    for s in range(len(pi)):
        mean = sum(pi[s, a] * b[s] * study.scores[s, a] for a in range(pi.shape[1]))
        np.testing.assert_allclose(mean, 0.0, atol=1e-12)


@given(PREFERENCES, st.data())
def test_lucky_episode__weighs_as_much_more_as_its_return(h, data):
    """|ĝ| = R |∇ln π|: R = 1000 weighs 100 times as much as the same actions with R = 10."""
    a = data.draw(st.integers(0, len(h) - 1))
    few, many = sampled_step(h, a, 10.0), sampled_step(h, a, 1000.0)
    np.testing.assert_allclose(few, 10.0 * score(probabilities(h), a), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(many, 100.0 * few, rtol=1e-14)


@given(PREFERENCES, st.floats(0.01, 2.0), st.lists(st.floats(0.1, 5), min_size=4, max_size=4),
       st.data())  # fmt: skip
def test_bad_action__is_reinforced_without_baseline_and_not_with_v(h, alpha, rewards, data):
    """A step along ĝ multiplies the odds of the action taken against c by e^{α(R−b)(1−π_a+π_c)}.
    Where all rewards are positive, b = 0 makes every action likelier once it is taken, the worst
    too; b = v does so for those that are better than v alone."""
    r, pi = rewards[: len(h)], probabilities(h)
    a, v = data.draw(st.integers(0, len(h) - 1)), float(pi @ rewards[: len(h)])
    assume(abs(r[a] - v) > 1e-3)
    for b in (0.0, v):
        after = probabilities(h + alpha * sampled_step(h, a, r[a], b))
        for c in set(range(len(h))) - {a}:
            factor = after[a] / after[c] / (pi[a] / pi[c])
            power = alpha * (r[a] - b) * (1 - pi[a] + pi[c])
            assert factor == pytest.approx(exp(power), rel=1e-10)
        assert (after[a] > pi[a]) == (r[a] > b)


@given(PREFERENCES, st.data())
def test_large_return__drives_the_policy_to_one_action(h, data):
    """1 − π'(a) ≤ Σ_c π_c/π_a e^{−αR(1−π_a+π_c)}, which goes to 0 as R grows."""
    a, pi, left = data.draw(st.integers(0, len(h) - 1)), probabilities(h), []
    for R in (1.0, 10.0, 100.0, 1000.0):
        after = Softmax(h + 0.5 * sampled_step(h, a, R)).probs()
        others = [c for c in range(len(h)) if c != a]
        bound = sum(pi[c] / pi[a] * exp(-0.5 * R * (1 - pi[a] + pi[c])) for c in others)
        left.append(after[others].sum())
        assert left[-1] <= bound * (1 + 1e-9) + 1e-300  # denormals have fewer digits
    assert all(late <= early for early, late in pairwise(left)) and left[-1] < left[0]


@given(NUMBERS, st.floats(0.01, 2.0))
def test_fire__once_lucky_is_fired_in_every_state_that_looks_the_same(preference, alpha):
    """Fire pays 1 in one of two states that look alike, and −3 in the other. Along the ĝ of the
    lucky shot π(fire) rises in both, and J = ½ π(fire) − 1½ π(fire) falls."""
    P = np.zeros((3, 2, 3))
    P[:, :, 2] = 1.0
    mdp = FiniteMDP(P, [[1.0, 0.0], [-3.0, 0.0], [0.0, 0.0]], [0.5, 0.5, 0.0], 1.0,
                    [False, False, True], [0, 0, 0])  # fmt: skip
    policy = make_policy(FiniteMDPEnv(mdp), LINEAR)
    J = lambda h: expected_return(mdp, policy.at(h, mdp.observation).probs())
    h = np.array([preference, 0.0])
    after = h + alpha * sampled_step(h, 0, 1.0)
    assert J(h) == pytest.approx(-probabilities(h)[0], rel=1e-12)
    assert J(after) < J(h)


@given(mdps(kinds=("layered",)), st.data())
def test_advantages__have_the_range_of_q_in_every_state(mdp, data):
    """A = q − v: max_a A − min_a A = max_a q − min_a q. A range [0, 1000] over the actions of a
    state never becomes [−50, 50]; only what differs between states goes."""
    pi = data.draw(policies(mdp))
    q, v, A = action_values(mdp, pi), state_values(mdp, pi), advantages(mdp, pi)
    size = 1 + np.abs(q).max()
    for s in np.flatnonzero(~mdp.terminal):
        for a in range(pi.shape[1]):
            assert A[s, a] == pytest.approx(q[s, a] - v[s], abs=1e-12 * size)
        assert np.ptp(A[s]) == pytest.approx(np.ptp(q[s]), abs=1e-12 * size)


@given(st.floats(0.05, 0.95), st.floats(-3, 3), st.floats(-3, 3))
def test_baseline_v__can_raise_the_variance(p, q0, q1):
    """Two arms, a table: tr Cov ĝ = Σ_a π_a (q_a − b)² 2 (1 − π_a)² − |∇J|², a parabola in b about
    b* = π_1 q_0 + π_0 q_1. So b = v is worse than b = 0 wherever |v − b*| > |b*|: 64 times with
    π = (0.9, 0.1) and q = (1, 0). The notes say that the variance falls."""
    found = {}
    for pi, q in (((p, 1 - p), (q0, q1)), ((0.9, 0.1), (1.0, 0.0))):
        mdp = bandit(list(q))
        study = open_study(mdp, make_policy(FiniteMDPEnv(mdp), LINEAR), np.log(pi))
        v, best = pi[0] * q[0] + pi[1] * q[1], pi[1] * q[0] + pi[0] * q[1]
        slope = sum(pi[a] * q[a] * score(pi, a) for a in (0, 1))
        for b in (0.0, v, best):
            literal = sum(pi[a] * (q[a] - b) ** 2 * 2 * (1 - pi[a]) ** 2 for a in (0, 1))
            weights = lambda tau, b=b: weigh(tau, gamma=1.0, baseline=np.array([b, 0.0]))
            found[b] = moments(study, weights).total_variance
            assert found[b] == pytest.approx(literal - slope @ slope, rel=1e-9, abs=1e-12)
        gap = (v - best) ** 2 - best**2
        if abs(gap) > 1e-6:
            assert (found[v] > found[0.0]) == (gap > 0)
    assert found[0.9] == pytest.approx(64 * found[0.0], rel=1e-9)


@given(PREFERENCES, st.floats(0, 3), st.floats(-3, 3), st.data())
def test_rare_action__counts_by_its_probability_in_the_mean_and_not_in_a_sample(h, R, b, data):
    """All episodes with action a contribute π_a (R_a − b) ∇ln π_a to E ĝ, at most √2 π_a |R_a − b|;
    one of them is 1/π_a times that. n episodes miss a with probability (1 − π_a)^n, and as long as
    they do, returns that are not negative never raise its preference (b = 0)."""
    pi, a = probabilities(h), data.draw(st.integers(0, len(h) - 1))
    mdp = bandit([R] * len(h))
    share = sum(
        tau.probability * sampled_step(h, tau.actions[0], tau.rewards[0], b)
        for tau in trajectories(mdp, np.array([pi, pi]), 1)
        if tau.actions[0] == a
    )
    np.testing.assert_allclose(share, pi[a] * (R - b) * score(pi, a), rtol=1e-9, atol=1e-13)
    assert np.linalg.norm(share) <= np.sqrt(2) * pi[a] * abs(R - b) * (1 + 1e-9)
    np.testing.assert_allclose(pi[a] * sampled_step(h, a, R, b), share, rtol=1e-9, atol=1e-13)
    missed = 0.0
    for tried in product(range(len(h)), repeat=3):
        if a not in tried:
            missed += prod(pi[c] for c in tried)
            assert all(sampled_step(h, c, R)[a] <= 0.0 for c in tried)
    assert missed == pytest.approx((1 - pi[a]) ** 3, rel=1e-9, abs=1e-15)


# 2: actor–critic, continuing


@given(unichain_mdps(), st.data(), st.floats(0.1, 0.95))
def test_continuing__discounting_is_possible_and_in_the_mean_the_average_reward(mdp, data, gamma):
    """Σ_s d(s) v_γ(s) = ρ/(1 − γ) under the stationary d: a discount is no obstacle, and changes
    nothing where the distribution of states is d (Sutton & Barto 2018, §10.4). With γ = 1 the sum
    has no value; the notes say that a continuing problem needs γ = 1."""
    pi = data.draw(policies(mdp))
    d, rho = stationary_distribution(mdp, pi), average_reward(mdp, pi)
    v = state_values(replace(mdp, gamma=gamma), pi)
    mean = sum(d[s] * v[s] for s in range(len(d)))
    size = np.abs(mdp.r).max() / (1 - gamma)
    assert mean == pytest.approx(rho / (1 - gamma), rel=1e-9, abs=1e-9 * size + 1e-300)
    with pytest.raises(ValueError, match="gamma = 1"):
        state_values(replace(mdp, gamma=1.0), pi)


def test_parameters__have_the_ranges_of_the_notes_and_step_sizes_may_be_0():
    """λ^w, λ^θ in [0, 1]; α^w, α^θ, α^R̄ above 0 in the notes, at least 0 here: 0 stops learning."""
    for name in ("lambda_w", "lambda_theta"):
        for value in (0.0, 1.0):
            actor_critic.Continuing(**{name: value})
        for value in (-0.01, 1.01):
            with pytest.raises(ValueError, match=name):
                actor_critic.Continuing(**{name: value})
    for name in ("step_size", "step_size_w", "step_size_R"):
        actor_critic.Continuing(**{name: 0.0})
        with pytest.raises(ValueError, match=name):
            actor_critic.Continuing(**{name: -0.01})


def test_init__has_no_average_reward_no_traces_and_linear_parameters_0():
    """R̄ = 0, z^w = 0, z^θ = 0; w and θ are 0 for linear models, drawn for networks."""
    for network, zero in ((LINEAR, True), (SMALL, False)):
        state = actor_critic.init(Constant(3), actor_critic.Continuing(network=network), 0)
        assert state.R_bar == 0.0 and not state.z_w.any() and not state.z_theta.any()
        assert state.z_w.shape == state.w.shape and state.z_theta.shape == state.theta.shape
        assert state.w.any() == state.theta.any() == (not zero)


# 2.1.1: traces


def boxes_traces(X, gamma, lambda_w, continuing=False):
    """z^w of the actor–critic's box after each of the gradients X (T, n)."""
    Config = actor_critic.Continuing if continuing else actor_critic.Traces
    options = {} if continuing else dict(gamma=gamma)
    config = Config(lambda_w=lambda_w, optimizer="sgd", step_size=0.0, step_size_w=0.0, **options)
    zeros, none = np.zeros((4, X.shape[1])), np.zeros((0, X.shape[1]))
    state = SimpleNamespace(
        theta=zeros[0], w=zeros[1], z_theta=zeros[2], z_w=zeros[3], theta_statistics=none,
        w_statistics=none, optimizer_steps=0, I=1.0, R_bar=0.0,
    )  # fmt: skip
    box, seen = actor_critic.continuing if continuing else actor_critic.traces, []
    for x in X:
        box(config, state, 0.0, 0.0, 0.0, lambda c, x=x: c * x, lambda c: np.zeros(X.shape[1]))
        seen.append(state.z_w.copy())
    return np.array(seen)


@pytest.mark.parametrize(
    ("kind", "of_A"),
    [("accumulating", [1, 0.5, 1.25, 1.625, 0.8125]), ("replacing", [1, 0.5, 1, 1, 0.5])],
)
def test_visited_state__adds_one_or_becomes_one(kind, of_A):
    """e(A) in A B A A C at γλ = ½. e ← e + 1 accumulates; a replacing trace is set to 1, which the
    notes call by that name. If only states that are not visited decayed, as the notes can be read,
    e(A) would be 1, 0.5, 1.5, 2.5, 1.25."""
    config, z, notes = td_lambda.Config(gamma=1.0, lam=0.5, trace=kind), np.zeros(3), np.zeros(3)
    found, theirs = [], []
    for s in (0, 1, 0, 0, 2):
        td_lambda.move_trace(z, np.eye(3)[s], config)
        notes = np.array([e + 1 if i == s else 0.5 * e for i, e in enumerate(notes)])
        found.append(z[0])
        theirs.append(notes[0])
    assert found == of_A and theirs == [1, 0.5, 1.5, 2.5, 1.25]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.floats(0.5, 1), st.floats(0, 1))
def test_count_and_gradient__are_one_trace(visits, gamma, lam):
    """The visits of s, decayed by γλ a step, are TD(λ)'s trace and the actor–critic's: ∇v̂ of a
    one-hot state is the count. The notes have two mechanisms."""
    z, X = np.zeros(4), np.eye(4)[visits]
    by_gradient = boxes_traces(X, gamma, lam)
    for t, x in enumerate(X):
        td_lambda.move_trace(z, x, td_lambda.Config(gamma=gamma, lam=lam))
        count = [sum((gamma * lam) ** (t - k) for k in range(t + 1) if visits[k] == s)
                 for s in range(4)]  # fmt: skip
        np.testing.assert_allclose(z, count, rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(z, by_gradient[t])


@given(SEEDS, st.floats(0.5, 0.99), st.floats(0, 1))
def test_trace_without_gamma__is_the_continuing_one_and_that_of_lambda_over_gamma(seed, gamma, lam):
    """z ← λz + ∇v̂ is the continuing box's. In the episodic one, which has γλ, it is the trace of
    λ/γ: of a larger λ, and of none where λ > γ."""
    X, z, theirs = np.random.default_rng(seed).normal(size=(8, 3)), np.zeros(3), []
    for x in X:
        z = lam * z + x
        theirs.append(z)
    np.testing.assert_allclose(boxes_traces(X, 1.0, lam, continuing=True), theirs, rtol=1e-12)
    if lam <= gamma:
        same = boxes_traces(X, gamma, lam / gamma)
        np.testing.assert_allclose(same, theirs, rtol=1e-9, atol=1e-12)
    else:
        with pytest.raises(ValueError, match="lambda_w"):
            boxes_traces(X, gamma, lam / gamma)
    if lam > 0.01:
        assert np.abs(boxes_traces(X, gamma, lam) - theirs)[1:].max() > 0.0


# 3.1: counters


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(2, 12))
def test_target__is_copied_where_T_passes_a_multiple(ks, I_target):
    """T grows by the k steps of an update: it passes multiples of I_target more often than it meets
    them, and T mod I_target = 0, as the notes have it, would miss those copies."""
    config = async_q.NStepQ(I_target=I_target)
    state = SimpleNamespace(T=np.zeros(1, int), copied=np.zeros(1, int), theta=np.zeros(1),
                            theta_target=np.full(1, -1.0))  # fmt: skip
    copies, theirs, T = 0, 0, 0
    for k in ks:
        before, T = T, T + k
        state.T[0], state.theta[0] = T, T
        async_q.copy_target(config, state)
        passed = any(t % I_target == 0 for t in range(before + 1, T + 1))
        assert (state.theta_target[0] == T) == passed
        copies, theirs = copies + passed, theirs + (T % I_target == 0)
    assert copies >= theirs
    if all(k == 1 for k in ks):
        assert copies == theirs


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 20), SEEDS)
def test_workers__stop_by_themselves_once_T_is_past_T_max(turns, T_max, seed):
    """No main process checks T: each worker of A3C and of Q-learning ends on its own, after the
    push of the segment that it is in. `interleave` gives turns and nothing else."""
    env, options = Wander(), dict(workers=3, T_max=T_max, network=SMALL, **SGD)
    for page, worker, config in (
        (a3c, a3c.worker, a3c.Config(t_max=3, **options)),
        (async_q, async_q.one_step, async_q.OneStepQ(I_async_update=3, **options)),
    ):
        state = page.init(env, config, seed)
        workers = [worker(i, Wander(), config, state, page.gradient) for i in range(3)]
        for _ in interleave(workers, turns):
            pass
        for each in workers:
            for _ in each:
                pass
        assert T_max < state.T.sum() <= T_max + 3 * 3


# 3.2: A3C


@given(SEEDS, st.integers(1, 5), st.integers(2, 4), st.floats(0.0, 1.0), st.floats(0.0, 2.0))
def test_a3c__is_the_notes_sum_with_advantages_of_n_steps(seed, k, A, gamma, beta):
    """A_i = Σ_{j<k−i} γ^j r_{i+j} + γ^{k−i} V(s_k) − V(s_i), and the update
    Σ_i ∇ln π(a_i|s_i) A_i + β ∇H, H = −Σ π ln π, written out in the preferences h."""
    rng = np.random.default_rng(seed)
    h, V, r = rng.normal(size=(k, A)), rng.normal(size=k + 1), rng.normal(size=k)
    taken, R = rng.integers(A, size=k), returns(r, gamma, V[k])
    found, d_v = a3c.gradient(h, V[:k], softmax(A), taken, R, R - V[:k], beta, 0.5)
    for i in range(k):
        advantage = sum(gamma**j * r[i + j] for j in range(k - i)) + gamma ** (k - i) * V[k] - V[i]
        pi = probabilities(h[i])
        d_entropy = [-pi[b] * (log(pi[b]) + entropy(pi)) for b in range(A)]
        expected = score(pi, taken[i]) * advantage + beta * np.array(d_entropy)
        np.testing.assert_allclose(found[i], expected, rtol=1e-9, atol=1e-12)
        assert d_v[i] == pytest.approx(0.5 * advantage, rel=1e-9, abs=1e-12)


@given(PREFERENCES, st.floats(0.0, 2.0), SEEDS)
def test_entropy_bonus__of_a_bandit_ascends_the_return_and_beta_H(h, beta, seed):
    """Where an episode has one step, E dθ is the gradient of J = E[R] + β H(π), for any V. (With
    more steps it is not: test_updates.py.) The loss L = −E[ln π A] − β H is its negative."""
    r, V = np.random.default_rng(seed).normal(size=(2, len(h)))
    pi, head = probabilities(h), softmax(len(h))
    mean, loss = 0.0, 0.0
    data = lambda a: (head, np.array([a]), r[a : a + 1], r[a : a + 1] - V[:1], beta, 0.0)
    for a in range(len(h)):
        mean = mean + pi[a] * a3c.gradient(h[None], V[:1], *data(a))[0][0]
        loss -= pi[a] * a3c.objective(h[None], V[:1], *data(a))

    def J(h):
        e = np.exp(h)
        p = e / np.sum(e)
        return np.sum(p * r) - beta * np.sum(p * np.log(p))

    np.testing.assert_allclose(mean, complex_step(J, h), rtol=1e-8, atol=1e-11)
    literal = -sum(pi[a] * log(pi[a]) * (r[a] - V[0]) for a in range(len(h))) - beta * entropy(pi)
    assert loss == pytest.approx(literal, rel=1e-9, abs=1e-11)


@given(st.floats(-2, 2).filter(bool), st.floats(0.001, 1.0), st.floats(0.5, 0.99))
def test_rmsprop__takes_the_notes_step(d, eta, alpha):
    """g = αg + (1−α)Δθ²; θ ← θ − η Δθ/√(g + ε), three times."""
    g, m, eps = 0.0, np.zeros((1, 1)), 0.1
    for t in range(1, 4):
        g = alpha * g + (1 - alpha) * (t * d) ** 2
        step = rmsprop(np.array([t * d]), m, t, eta, decay=alpha, eps=eps)
        assert step[0] == pytest.approx(eta * t * d / (g + eps) ** 0.5, rel=1e-12)


# 3.2.3: what entropy does


@given(PREFERENCES)
def test_entropy_gradient__raises_what_is_rarer_than_the_mean(h):
    """∂H/∂h_b > 0 where −ln π_b > H, the mean of −ln π: what is rarely taken is made likelier."""
    pi = probabilities(h)
    for p, slope in zip(pi, Softmax(h).entropy_gradient()):
        assert slope == pytest.approx(p * (-log(p) - entropy(pi)), rel=1e-9, abs=1e-12)


@given(PREFERENCES, st.floats(0, 1), st.floats(0, 1))
def test_entropy__is_larger_the_more_uniform(h, t, more):
    """H rises from π to the uniform distribution, where it is ln n, the most."""
    n, pi = len(h), probabilities(h)
    towards = lambda t: Softmax(np.log((1 - t) * pi + t / n)).entropy()
    assert towards(t) <= towards(t + (1 - t) * more) + 1e-12
    assert towards(0.0) == pytest.approx(entropy(pi), abs=1e-12)
    assert towards(1.0) == pytest.approx(log(n), rel=1e-12)


def test_entropy_alone__goes_through_the_notes_policy_to_the_uniform_one():
    """From [.9, .05, .05] along ∇H: π passes [.4, .3, .3] and ends at [⅓, ⅓, ⅓]."""
    h, path = np.log([0.9, 0.05, 0.05]), []
    for _ in range(1000):
        path.append(Softmax(h).probs())
        h = h + 0.05 * Softmax(h).entropy_gradient()
    path = np.array(path)
    assert np.abs(path[:, 1] - path[:, 2]).max() < 1e-12
    assert (np.diff([entropy(pi) for pi in path]) > -1e-15).all()
    assert np.abs(path - [0.4, 0.3, 0.3]).sum(1).min() < 0.01
    np.testing.assert_allclose(path[-1], [1 / 3] * 3, atol=1e-6)


@given(PREFERENCES, st.floats(0.1, 10.0))
def test_beta__holds_the_policy_at_the_exponential_of_advantages(values, weight):
    """E dθ = 0 at π ∝ e^{q/β}, the greatest E[R] + βH: uniform as β grows, the best action as it
    vanishes. [.4, .3, .3] is held by β = 1/ln(4/3) = 3.476 times the first action's advantage over
    the others."""
    for q, beta in ((values, weight), (np.array([1.0, 0.0, 0.0]), 1 / log(4 / 3))):
        pi, head = probabilities(q / beta), softmax(len(q))
        v, mean = np.array([float(pi @ q)]), 0.0
        for a in range(len(q)):
            data = head, np.array([a]), q[a : a + 1], q[a : a + 1] - v, beta, 0.0
            mean = mean + pi[a] * a3c.gradient((q / beta)[None], v, *data)[0][0]
        np.testing.assert_allclose(mean, 0.0, atol=1e-12 * (1 + beta))
    np.testing.assert_allclose(pi, [0.4, 0.3, 0.3], rtol=1e-12)
    assert beta == pytest.approx(3.476, abs=5e-4)


@given(PREFERENCES, SEEDS, st.floats(1.0, 6.0))
def test_sharp_policy__has_the_smaller_variance(preferences, seed, sharpness):
    """tr Cov ĝ = Σ_a π_a q_a² |e_a − π|² − |∇J|² ≤ 4 max q² (1 − max π): it vanishes as π becomes
    sure. The notes say that high entropy lowers it. With q = (1, 0), uniform: 1/8."""
    values = np.random.default_rng(seed).normal(size=len(preferences))
    for h, q in ((sharpness * preferences, values), (np.zeros(2), np.array([1.0, 0.0]))):
        pi, mdp = probabilities(h), bandit(q.tolist())
        study = open_study(mdp, make_policy(FiniteMDPEnv(mdp), LINEAR), h)
        weights = lambda tau: weigh(tau, gamma=1.0, baseline=np.zeros(2))
        found = moments(study, weights).total_variance
        slope = sum(pi[a] * q[a] * score(pi, a) for a in range(len(h)))
        square = sum(pi[a] * q[a] ** 2 * np.sum(score(pi, a) ** 2) for a in range(len(h)))
        assert found == pytest.approx(square - slope @ slope, rel=1e-9, abs=1e-12)
        assert found <= 4 * max(q**2) * (1 - max(pi)) + 1e-12
    assert found == pytest.approx(1 / 8, rel=1e-12)


# 3.3: A2C


@given(SEEDS, st.integers(1, 4), st.integers(2, 3))
def test_a2c__averages_what_a3c_adds(seed, N, A):
    """Δθ_A2C = 1/N Σ_i ∇ln π(a^i|s^i) A^i, and without 1/N the sum of A3C's, at one θ."""
    rng = np.random.default_rng(seed)
    h, taken = rng.normal(size=(N, A)), rng.integers(A, size=N)
    R, V = rng.normal(size=(2, N))
    data, shares = (softmax(A), taken, R, R - V), np.full(N, 1 / N)
    found, _ = a2c.gradient(h, V, *data, shares, 0.0, 1.0)
    each = [score(probabilities(h[i]), taken[i]) * (R[i] - V[i]) for i in range(N)]
    np.testing.assert_allclose(found, np.array(each) / N, rtol=1e-9, atol=1e-12)
    summed = [
        a3c.gradient(h[i : i + 1], V[i : i + 1], softmax(A), taken[i : i + 1], R[i : i + 1],
                     (R - V)[i : i + 1], 0.0, 1.0)[0][0]
        for i in range(N)
    ]  # fmt: skip
    np.testing.assert_allclose(summed, each, rtol=1e-9, atol=1e-12)


# 4: DDPG


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 2), st.floats(0.1, 1.0), SEEDS)
def test_noise__is_the_notes_equation_step_by_step(mean, rate, sigma, dt, seed):
    """N ← N + θ(μ − N) dt + σ dW, dW ~ N(0, dt); a = μ(s) + N, kept in [−1, 1]."""
    noise = Noise(ou_theta=rate, ou_mean=mean, sigma=sigma, dt=dt)
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    N, expected, u = np.full(2, mean), np.full(2, mean), np.array([0.6, -0.9])
    for t in range(5):
        a = noise.explore(u, N, t, rng)
        dW = dt**0.5 * again.standard_normal(2)
        expected = expected + rate * (mean - expected) * dt + sigma * dW
        np.testing.assert_allclose(N, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(a, [min(max(x, -1), 1) for x in u + expected], atol=1e-12)


def test_sinus__is_no_such_noise():
    """0.05 sin(0.1 t) has s.d. 0.035 and correlation cos(0.1 k), −1.00 at lag 31; OU noise with the
    paper's values has s.d. 0.380 and correlation 0.85^k, never below 0. Its steps are of r.m.s.
    √(2 (1 − keep)) times its s.d., 0.208, not ± 0.02."""
    keep, spread = Noise().coefficients(0.2)
    sd = spread / (1 - keep**2) ** 0.5
    assert keep == 0.85 and sd == pytest.approx(0.380, abs=5e-4)
    step = (spread**2 + (1 - keep) ** 2 * sd**2) ** 0.5  # N' − N = (keep − 1) N + spread ξ
    assert step == pytest.approx((2 * (1 - keep)) ** 0.5 * sd, rel=1e-12)
    assert step == pytest.approx(0.208, abs=5e-4)
    t = np.arange(20_000)  # 318 periods
    wave = 0.05 * np.sin(0.1 * t)
    correlation = lambda k: np.mean(wave[: t.size - k] * wave[k:]) / np.mean(wave**2)
    assert wave.std() == pytest.approx(0.05 / 2**0.5, rel=1e-3)
    for k in (10, 31):
        assert correlation(k) == pytest.approx(np.cos(0.1 * k), abs=0.01)
        assert keep**k > 0.0


@given(st.floats(-1, 1), SEEDS)
def test_no_noise__never_tries_another_action(u, seed):
    """With μ(s) = .6 and no noise .65 is never tried. Stationary OU noise with the paper's values
    is off by more than .05 with probability erfc(.05/(s.d. √2)) = .89."""
    rng, mu, N = np.random.default_rng(seed), np.array([u]), np.zeros(1)
    for t in range(5):
        np.testing.assert_array_equal(Noise(noise="none").explore(mu, N, t, rng), mu)
    keep, spread = Noise(ou_form="exact").coefficients(0.2)
    sd = spread / (1 - keep**2) ** 0.5
    assert erfc(0.05 / sd / 2**0.5) == pytest.approx(0.89, abs=5e-3)


@given(st.integers(2, 6), st.integers(0, 50), SEEDS)
def test_epsilon_greedy__changes_fewer_than_epsilon_of_the_actions(n, share, seed):
    """ "50 % wholly random": one in n of them is the greedy action, so that ε (1 − 1/n) change.
    Every draw of a grid of 50 · n equally likely ones, ε a multiple of 1/50."""
    q, changed = np.random.default_rng(seed).normal(size=n), 0
    for i, a in product(range(50), range(n)):
        rng = SimpleNamespace(random=lambda i=i: (i + 0.5) / 50, integers=lambda _, a=a: a)
        changed += async_q.choose(q, share / 50, rng) != q.argmax()
    assert changed == share * (n - 1)


@given(SEEDS, st.floats(0, 1))
def test_targets__are_the_notes_y(seed, gamma):
    """y_i = r_i + γ Q'(s_{i+1}, μ'(s_{i+1})), and r_i where s_{i+1} is terminal."""
    rng = np.random.default_rng(seed)
    r, q2 = rng.normal(size=(2, 6))
    over = rng.integers(2, size=6).astype(float)
    y = ddpg.targets(ddpg.Config(gamma=gamma), r, over, q2)
    for i in range(6):
        assert y[i] == pytest.approx(r[i] + (0.0 if over[i] else gamma * q2[i]), rel=1e-14)


@given(SEEDS, st.floats(0.001, 1.0), st.integers(1, 12))
def test_soft_target__is_an_exponential_moving_average(seed, tau, n):
    """θ'_n = (1−τ)^n θ'_0 + τ Σ_k (1−τ)^{n−k} θ_k. It leaves a constant as it is and an alternating
    θ all but τ/(2 − τ) of it: a low-pass filter."""
    thetas, config = np.random.default_rng(seed).normal(size=(n + 1, 3)), ddpg.Config(tau=tau)
    target = thetas[0].copy()
    for k in range(1, n + 1):
        ddpg.follow(target, thetas[k].copy(), config, k)
    literal = (1 - tau) ** n * thetas[0]
    literal = literal + tau * sum((1 - tau) ** (n - k) * thetas[k] for k in range(1, n + 1))
    np.testing.assert_allclose(target, literal, rtol=1e-9, atol=1e-12)
    swing, level = np.array([tau / (2 - tau)]), np.ones(1)  # the filter's answer to +1, −1, ...
    for k in range(1, n + 1):
        ddpg.follow(swing, np.array([(-1.0) ** k]), config, k)
        ddpg.follow(level, np.ones(1), config, k)
    assert swing[0] == pytest.approx((-1) ** n * tau / (2 - tau), rel=1e-9)
    assert level[0] == pytest.approx(1.0, rel=1e-12)


@given(st.floats(0.01, 0.5), st.integers(2, 10))
def test_hard_copies__jump_where_soft_targets_follow(tau, C):
    """θ drifts by 1 an update, and y = γ Q' with θ'. A hard copy stays, then jumps by C; a soft
    target moves by 1 − (1 − τ)^n in update n, never by more than the drift, and in the end lags by
    (1 − τ)/τ updates."""
    n, theta, y = 40 * C, np.zeros(1), {}
    for name, config in (("soft", ddpg.Config(tau=tau)),
                         ("hard", ddpg.Config(target="hard", copy_every=C))):  # fmt: skip
        target, seen = np.zeros(1), [0.0]
        for k in range(1, n + 1):
            ddpg.follow(target, theta + k, config, k)
            seen.append(float(ddpg.targets(config, 0.0, 0.0, target)[0]) / config.gamma)
        y[name] = np.diff(seen)
    np.testing.assert_allclose(y["soft"], 1 - (1 - tau) ** np.arange(1, n + 1), atol=1e-10)
    assert set(np.round(y["hard"], 9)) == {0.0, float(C)}
    assert np.count_nonzero(y["hard"]) == n // C
    lag = n - np.sum(y["soft"])
    assert lag == pytest.approx((1 - tau) / tau * (1 - (1 - tau) ** n), rel=1e-8)
