"""The policy-gradient theorem: every equation of PG99 as an equality of two computations."""

import copy
from dataclasses import replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import mdps, unichain_mdps
from worlds import CHANCE, SEEDS

from algorithms import policy_gradient_theorem as page
from algorithms.exact.average_reward import average_reward, differential_action_values
from algorithms.exact.mdp import (
    FiniteMDP,
    FiniteMDPEnv,
    action_values,
    advantages,
    expected_return,
)
from algorithms.exact.optimal import optimal_policy
from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM, chain, garnet, short_corridor
from algorithms.policy_gradient_theorem import (
    Config,
    State,
    evaluate,
    exact_gradient,
    fisher,
    fit,
    gibbs,
    gradient,
    objective,
    performance,
    score,
)
from npgrad import (
    at,
    complex_step,
    from_function,
    grad,
    linear,
    linear_preferences,
    mlp,
    vjp,
)

# below it numbers lose digits to underflow: the complex step, 2⁻¹⁰⁰ of an entry of θ, gives a
# derivative in multiples of 5e-324/2⁻¹⁰⁰/|θ_j|, 1e-287 for an entry of 1e-6
TINY = 1e-270
FORMULATIONS = ("start", "average")
EXACT = {"start": expected_return, "average": average_reward}


def on_the_torus(theta, x):
    """π ∝ exp Σ_i sin(θ_i + x[s,a,i]), in plain NumPy: smooth, and never deterministic."""
    e = np.exp(np.sum(np.sin(theta + x), axis=-1))
    return e / np.sum(e, axis=1, keepdims=True)


def mixture(theta, x):
    """90 % softmax of xθ, 10 % any action, in plain NumPy."""
    h = x @ theta
    e = np.exp(h - np.max(h, axis=1, keepdims=True))
    return 0.9 * e / np.sum(e, axis=1, keepdims=True) + 0.1 / x.shape[1]


@st.composite
def policies(draw, mdp):
    """(policy, x, θ): Gibbs of features, tables and networks, and functions in plain NumPy."""
    S, A, _ = mdp.P.shape
    rng, n = np.random.default_rng(draw(SEEDS)), draw(st.integers(1, 4))
    kind = draw(st.sampled_from(("features", "table", "network", "torus", "mixture")))
    if kind == "table":
        model, x = linear(mdp.n_observations, A, bias=False, one_hot=True), mdp.observation
    elif kind == "network":
        model, x = mlp((mdp.n_observations, 3, A), one_hot=True), mdp.observation
    else:
        model, x = linear_preferences(n), rng.normal(size=(S, A, n))
    if kind in ("torus", "mixture"):
        policy = from_function({"torus": on_the_torus, "mixture": mixture}[kind], n, axes=2)
    else:
        policy = gibbs(model)
    return policy, x, draw(st.sampled_from((0.3, 1.0, 10.0))) * rng.normal(size=model.layout.size)


@st.composite
def worlds(draw):
    """(mdp, formulation, policy, x, θ)."""
    formulation = draw(st.sampled_from(FORMULATIONS))
    mdp = draw(mdps() if formulation == "start" else unichain_mdps())
    return mdp, formulation, *draw(policies(mdp))


def ascent(theta, policy, x, d, q):
    """Σ_s d(s) Σ_a ∇π(a|s) q(s,a): the page's gradient through the policy's backward pass."""
    net = at(policy, theta)
    return net.backward(gradient(net.forward(x), d, q))


def scale(mdp, pi, psi, d, q, w=0.0):
    """Σ_s d(s) (max|q| + max|r| + max|ψ| Σ|w|) max(1, |∇π|): the size of what is added up and may
    well cancel. Features that nearly coincide make w, and with it the rounding of f_w, large."""
    size = abs(q).max() + abs(mdp.r).max() + abs(psi).max() * np.sum(abs(w)) + TINY
    return abs(d).sum() * size * max(1.0, abs(pi[..., None] * psi).max())


@given(worlds())
def test_theorem_1__is_the_derivative_of_the_exact_performance(world):
    """∇J by (2) equals the complex step through the linear solves of J, to 1e-8 and rounding."""
    mdp, formulation, policy, x, theta = world
    pi = policy(theta, x)
    J, d, q = evaluate(mdp, pi, formulation)
    size = scale(mdp, pi, score(theta, policy, x), d, q)
    explicit = exact_gradient(theta, mdp, policy, x, formulation)
    exact = complex_step(lambda theta: EXACT[formulation](mdp, policy(theta, x)), theta)
    np.testing.assert_allclose(explicit, exact, rtol=1e-8, atol=1e-11 * size)
    assert abs(J - EXACT[formulation](mdp, pi)) <= 1e-12 * (abs(J) + abs(d).sum() * 5)
    assert np.array_equal(explicit, ascent(theta, policy, x, d, q))


@given(worlds(), SEEDS)
def test_theorem_1__has_the_recursion_that_its_proof_unrolls(world, seed):
    """∇v(s) = Σ_a (∇π q + π ∇q), with ∇q = γ Σ_s' P ∇v(s') from a start, and without γ, less ∇J,
    for the average reward: each of the proof's lines as it stands, in every state. ∇ is the
    derivative along a random direction of θ, by the complex step."""
    mdp, formulation, policy, x, theta = world
    start = formulation == "start"
    values, gamma = (action_values, mdp.gamma) if start else (differential_action_values, 1.0)
    u, h = np.random.default_rng(seed).normal(size=theta.size), 2.0**-70
    pi, pi_h = policy(theta, x), policy(theta + 1j * h * u, x)
    q, q_h = values(mdp, pi), values(mdp, pi_h)
    d_pi, d_q, d_v = pi_h.imag / h, q_h.imag / h, (pi_h * q_h).sum(1).imag / h
    d_J = 0.0 if start else average_reward(mdp, pi_h).imag / h
    S, A = pi.shape
    size = (abs(q).max() + abs(mdp.r).max()) * (1 + abs(d_pi).max()) + abs(d_q).max() + TINY
    for s in np.flatnonzero(~mdp.terminal):
        by_parts = sum(d_pi[s, a] * q[s, a] + pi[s, a] * d_q[s, a] for a in range(A))
        assert d_v[s] == pytest.approx(by_parts, rel=1e-9, abs=1e-11 * size)
        for a in range(A):
            later = sum(mdp.P[s, a, s2] * d_v[s2] for s2 in range(S))
            assert d_q[s, a] == pytest.approx(gamma * later - d_J, rel=1e-9, abs=1e-10 * size)


@given(worlds())
def test_performance__in_plain_numpy_is_the_exact_one_and_so_is_its_tape(world):
    mdp, formulation, policy, x, theta = world
    pi = policy(theta, x)
    _, d, q = evaluate(mdp, pi, formulation)
    size = scale(mdp, pi, score(theta, policy, x), d, q)
    J = performance(theta, mdp, policy, x, formulation)
    assert abs(J - EXACT[formulation](mdp, pi)) <= 1e-11 * (abs(J) + abs(d).sum() * 5)
    tape = grad(performance)(theta, mdp, policy, x, formulation)
    explicit = exact_gradient(theta, mdp, policy, x, formulation)
    np.testing.assert_allclose(explicit, tape, rtol=1e-8, atol=1e-10 * size)


@given(worlds())
def test_gradient__through_the_policy_is_tape_is_complex_step(world):
    """d and q held: the derivative that Theorem 1 takes."""
    mdp, formulation, policy, x, theta = world
    pi = policy(theta, x)
    _, d, q = evaluate(mdp, pi, formulation)
    explicit = ascent(theta, policy, x, d, q)
    held = lambda theta: objective(policy(theta, x), d, q)
    atol = 1e-12 * scale(mdp, pi, score(theta, policy, x), d, q)
    np.testing.assert_allclose(explicit, grad(held)(theta), rtol=1e-9, atol=atol)
    np.testing.assert_allclose(explicit, complex_step(held, theta), rtol=1e-9, atol=atol)


@given(worlds(), SEEDS)
def test_policies__at_theta_are_what_they_are_called_with_and_its_derivative(world, seed):
    """`forward` gives π; `backward` takes any g back as the tape and the complex step do."""
    _, _, policy, x, theta = world
    net, pi = at(policy, theta), policy(theta, x)
    g = np.random.default_rng(seed).normal(size=pi.shape)
    np.testing.assert_allclose(net.forward(x), pi, rtol=1e-13)
    np.testing.assert_allclose(pi.sum(1), 1, rtol=1e-14)
    d_theta, tape = net.backward(g).copy(), vjp(policy, theta, x, argnums=0)[1](g)
    numbers = complex_step(lambda theta: np.sum(g * policy(theta, x)), theta)
    atol = 1e-13 * (1 + abs(g).sum() * abs(pi[..., None] * score(theta, policy, x)).max())
    np.testing.assert_allclose(d_theta, tape, rtol=1e-9, atol=atol)
    np.testing.assert_allclose(d_theta, numbers, rtol=1e-9, atol=atol)


@given(SEEDS, st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_score__of_a_gibbs_policy_is_its_centred_features(seed, S, A, n):
    """∇ln π = φ(s,a) − Σ_b π(b|s) φ(s,b) (PG99 §3), by the tape too."""
    rng = np.random.default_rng(seed)
    phi, theta = rng.normal(size=(S, A, n)), rng.normal(size=n)
    by_hand = gibbs(linear_preferences(n))
    by_tape = gibbs(from_function(lambda theta, x: x @ theta, n, axes=2))
    softmax = lambda theta, x: np.exp(x @ theta) / np.exp(x @ theta).sum(1)[:, None]
    whole = from_function(softmax, n, axes=2)
    pi = by_hand(theta, phi)
    centred = phi - np.einsum("sa,san->sn", pi, phi)[:, None]
    for policy in (by_hand, by_tape, whole):
        np.testing.assert_allclose(score(theta, policy, phi), centred, rtol=1e-9, atol=1e-12)


@given(worlds())
def test_score__is_the_derivative_of_the_log_probabilities(world):
    _, _, policy, x, theta = world
    pi = policy(theta, x)
    assume(pi.min() > 1e-12)
    exact = complex_step(lambda theta: np.log(policy(theta, x)), theta)
    psi = score(theta, policy, x)
    np.testing.assert_allclose(psi, exact, rtol=1e-9, atol=1e-11 * (1 + abs(psi).max()))
    centred = np.einsum("sa,san->sn", pi, psi)
    np.testing.assert_allclose(centred, 0, atol=1e-12 * (1 + abs(pi[..., None] * psi).max()))


@given(worlds(), SEEDS)
def test_theorem_2__compatible_features_give_the_gradient(world, seed):
    """(3) holds exactly; then (5) does, f_w has mean 0 under π, and any v(s) may be added to it."""
    mdp, formulation, policy, x, theta = world
    pi = policy(theta, x)
    _, d, q = evaluate(mdp, pi, formulation)
    psi = score(theta, policy, x)
    w = fit(psi, pi, d, q - (pi * q).sum(1, keepdims=True))
    f, size = psi @ w, scale(mdp, pi, psi, d, q, w)
    residual = np.einsum("s,sa,san->n", d, pi * (q - f), psi)
    np.testing.assert_allclose(residual, 0, atol=1e-12 * size)
    exact = exact_gradient(theta, mdp, policy, x, formulation)
    np.testing.assert_allclose(ascent(theta, policy, x, d, f), exact, rtol=1e-8, atol=1e-12 * size)
    assert (abs(d * (pi * f).sum(1)) <= 1e-12 * size).all()
    v = abs(q).max() * np.random.default_rng(seed).normal(size=(len(d), 1))
    shifted = ascent(theta, policy, x, d, f + v)
    np.testing.assert_allclose(shifted, exact, rtol=1e-8, atol=1e-12 * size)


@given(worlds())
def test_natural_gradient__is_the_same_w(world):
    """F w = ∇J."""
    mdp, formulation, policy, x, theta = world
    pi = policy(theta, x)
    _, d, q = evaluate(mdp, pi, formulation)
    psi = score(theta, policy, x)
    w = fit(psi, pi, d, q - (pi * q).sum(1, keepdims=True))
    F = fisher(psi, pi, d)
    exact = exact_gradient(theta, mdp, policy, x, formulation)
    size = scale(mdp, pi, psi, d, q, w)
    np.testing.assert_allclose(F @ w, exact, rtol=1e-8, atol=1e-12 * size)


def table():
    """(policy, x): a table of preferences for the four states of a garnet, two actions each."""
    return gibbs(linear(4, 2, bias=False, one_hot=True)), np.arange(4)


@given(st.sampled_from(FORMULATIONS), SEEDS)
def test_compatible_features__of_a_table_are_the_advantages(formulation, seed):
    """As many features as actions in every state: f_w is q − v, not only close to it."""
    rng = np.random.default_rng(seed)
    mdp, (policy, x), theta = garnet(seed), table(), rng.normal(size=8)
    pi = policy(theta, x)
    _, d, q = evaluate(mdp, pi, formulation)
    assume(d.min() > 1e-6)
    psi = score(theta, policy, x)
    w = fit(psi, pi, d, q)
    f = psi @ w
    np.testing.assert_allclose(f, q - (pi * q).sum(1, keepdims=True), atol=1e-9 * abs(q).max())
    shortest = np.abs(w.reshape(4, 2).sum(1))  # the same number added to all of a state is not seen
    np.testing.assert_allclose(shortest, 0, atol=1e-9 * abs(w).max())
    if formulation == "start":
        np.testing.assert_allclose(f, advantages(mdp, pi), atol=1e-9 * abs(q).max())


def test_uncentred_features__are_not_compatible():
    """One state, two actions, q = (1, 0), φ = (0, 1), π = (½, ½): ∇J = −¼, by w = −1 of the
    centred features; the uncentred ones solve (3) with w = 0, which says ∇J = 0."""
    mdp = FiniteMDP([[[0, 1], [0, 1]]] * 2, [[1.0, 0.0]] * 2, [1, 0], 1.0, [False, True])
    policy, phi, theta = gibbs(linear_preferences(1)), np.array([[[0.0], [1.0]]] * 2), np.zeros(1)
    pi = policy(theta, phi)
    _, d, q = evaluate(mdp, pi)
    assert exact_gradient(theta, mdp, policy, phi) == pytest.approx([-0.25], rel=1e-14)
    psi = score(theta, policy, phi)
    w, wrong = fit(psi, pi, d, q), fit(phi, pi, d, q)
    assert w == pytest.approx([-1.0], rel=1e-14) and abs(wrong[0]) <= 1e-15
    assert ascent(theta, policy, phi, d, psi @ w) == pytest.approx([-0.25], rel=1e-14)
    assert abs(ascent(theta, policy, phi, d, phi @ wrong)[0]) <= 1e-15


@given(SEEDS, st.sampled_from(FORMULATIONS))
def test_uncentred_features__are_wrong_by_what_centring_takes_away(seed, formulation):
    """∇J − (5) = −Σ_s d(s) φ̄(s) Σ_a π (q − f_w), φ̄ = Σ_b π φ: 0 for no world drawn here."""
    rng = np.random.default_rng(seed)
    mdp, policy = garnet(seed), gibbs(linear_preferences(3))
    phi, theta = rng.normal(size=(4, 2, 3)), rng.normal(size=3)
    pi = policy(theta, phi)
    _, d, q = evaluate(mdp, pi, formulation)
    f = phi @ fit(phi, pi, d, q)
    exact = exact_gradient(theta, mdp, policy, phi, formulation)
    error = exact - ascent(theta, policy, phi, d, f)
    mean = np.einsum("sa,san->sn", pi, phi)
    expected = -np.einsum("s,sn,s->n", d, mean, (pi * (q - f)).sum(1))
    np.testing.assert_allclose(error, expected, rtol=1e-7, atol=1e-10 * d.sum() * abs(q).max())
    assert np.linalg.norm(error) > 1e-8 * d.sum() * abs(q).max()


# Theorem 3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_theorem_3__the_gradient_vanishes(seed, formulation):
    """Bounded second derivatives, α_k = α/(1 + k)^0.3: ‖∇J‖ falls below 1e-6, and J rises all along
    the last stretch, from 1e-3. Two parameters for four states: no table, and no advantages that
    f_w could equal. Early steps are too long to promise that J rises."""
    rng = np.random.default_rng(seed)
    mdp, policy = garnet(seed), from_function(on_the_torus, 2, axes=2)
    x, start = rng.normal(size=(4, 2, 2)), rng.normal(size=2)
    config = Config(formulation=formulation, step_size={"start": 1.0, "average": 10.0}[formulation],
                    decay=0.3)  # fmt: skip
    state, norms, J = State(start, np.zeros(2)), [np.inf], []
    training = page.iterate(mdp, policy, x, config, state)
    while norms[-1] >= 1e-6 and len(J) < 3000:
        metrics = next(training)
        norms.append(metrics.scalars["gradient_norm"])
        J += metrics.returns
    assert norms[-1] < 1e-6
    assert np.linalg.norm(exact_gradient(state.theta, mdp, policy, x, formulation)) < 1e-6
    last = np.array(J[np.flatnonzero(np.array(norms[1:]) >= 1e-3)[-1] :])
    assert (np.diff(last) >= -1e-13 * abs(last).max()).all() and last[-1] > last[0]


def run(mdp, config, updates, seed=0):
    env = FiniteMDPEnv(mdp)
    state = page.init(env, config, seed)
    return state, list(islice(page.train(env, config, state), updates))


def test_train__finds_the_best_stochastic_policy_of_the_corridor():
    state, metrics = run(short_corridor(), Config(), 30)
    p, v = SHORT_CORRIDOR_OPTIMUM
    assert metrics[-1].scalars["gradient_norm"] < 1e-6
    assert metrics[-1].returns[0] == pytest.approx(v, rel=1e-12)
    right = np.exp(state.theta[1]) / np.exp(state.theta).sum()
    assert right == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("mdp", [chain(), garnet(0), garnet(1), garnet(2)])
def test_train__natural_steps_of_a_table_reach_the_optimum(mdp, formulation):
    if formulation == "average" and mdp.terminal.any():
        return
    values = {"start": action_values, "average": differential_action_values}[formulation]
    best = EXACT[formulation](mdp, optimal_policy(mdp, values))
    config = Config(formulation=formulation, direction="natural", step_size=5.0)
    _, metrics = run(mdp, config, 150)
    J = [m.returns[0] for m in metrics]
    assert J[-1] == pytest.approx(best, rel=1e-9) and (np.diff(J) >= -1e-12 * abs(best)).all()
    assert metrics[-1].scalars["gradient_norm"] < 1e-6


@given(SEEDS, st.sampled_from(("gradient", "natural")), st.floats(0.1, 1))
def test_train__steps_as_theorem_3_says(seed, direction, decay):
    """θ_{k+1} − θ_k is α_k (5), equal to α_k ∇J, or α_k w with F w = ∇J; w_k is kept."""
    mdp, rng = garnet(seed), np.random.default_rng(seed)
    config = Config(direction=direction, step_size=0.3, decay=decay)
    env = FiniteMDPEnv(mdp)
    state = page.init(env, config, 0)
    state.theta[:] = rng.normal(size=8)
    policy, x = table()
    training = page.train(env, config, state)
    for k in range(3):
        theta = state.theta.copy()
        J, d, _ = evaluate(mdp, policy(theta, x))
        exact = exact_gradient(theta, mdp, policy, x)
        metrics = next(training)
        step_size = 0.3 / (k + 1) ** decay
        F = fisher(score(theta, policy, x), policy(theta, x), d)
        size = 1e-9 * (1 + d.sum() * abs(J))
        np.testing.assert_allclose(F @ state.w, exact, rtol=1e-8, atol=size)
        step = state.w if direction == "natural" else exact
        np.testing.assert_allclose(state.theta - theta, step_size * step, rtol=1e-8, atol=size)
        assert metrics.returns[0] == pytest.approx(J, rel=1e-12)
        norm = np.linalg.norm(exact)
        assert metrics.scalars == pytest.approx(
            {"gradient_norm": norm, "step_size": step_size}, rel=1e-7, abs=size
        )
        assert (metrics.steps, metrics.episodes, metrics.lengths) == (k + 1, k + 1, (1,))


@given(st.integers(1, 3), st.integers(1, 3))
def test_train__state_holds_all_that_changes(before, after):
    state, _ = run(garnet(1), Config(), before)
    resumed = copy.deepcopy(state)
    for s in (state, resumed):
        list(islice(page.train(FiniteMDPEnv(garnet(1)), Config(), s), after))
    assert np.array_equal(state.theta, resumed.theta) and np.array_equal(state.w, resumed.w)
    assert state.updates == resumed.updates == before + after


def test_actor__follows_the_policy():
    env = FiniteMDPEnv(chain())
    act = page.actor(env, Config())
    theta, rng = np.zeros(10), np.random.default_rng(0)
    theta[[2, 3]] = 0.0, 1.0  # state 1: stop, go
    assert act({"theta": theta}, 1, rng, greedy=True) == 1
    draws = [act({"theta": theta}, 1, rng) for _ in range(2000)]
    pi = np.exp([0, 1]) / np.exp([0, 1]).sum()
    assert np.abs(np.bincount(draws) / 2000 - pi).max() <= np.sqrt(np.log(2 / CHANCE) / 4000)


# Bad input


def test_init__refuses_what_has_no_performance():
    with pytest.raises(ValueError, match=r"terminal\[4\] = True: must be False"):
        page.init(FiniteMDPEnv(chain()), Config(formulation="average"), 0)
    endless = replace(garnet(0), gamma=1.0)
    with pytest.raises(ValueError, match=r"gamma = 1: .*from state 0"):
        page.init(FiniteMDPEnv(endless), Config(), 0)


def test_init__sees_through_gymnasiums_wrappers():
    from algorithms.exact.register import register

    register()
    state = page.init(gymnasium.make("npgrad/ShortCorridor-v0"), Config(), 0)
    assert state.theta.shape == state.w.shape == (2,) and state.updates == 0
