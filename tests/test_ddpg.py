"""DDPG: gradients on every leg, the box written again, ends of episodes, bounds, resuming."""

import copy
from dataclasses import replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_lqr import regulators

import algorithms.exact.register  # noqa: F401
from algorithms import ddpg
from algorithms.common import replay
from algorithms.common.noise import Noise
from algorithms.ddpg import (
    Config,
    Networks,
    State,
    actor_gradient,
    actor_objective,
    critic_gradient,
    critic_objective,
    follow,
)
from algorithms.exact.lqr import cost_matrix, occupancy, policy_gradient
from algorithms.runner import cli, training
from algorithms.runner.checkpoint import copy_state
from algorithms.runner.lookup import Method
from npgrad import check_gradient, grad, optimizers, soft_update
from npgrad.networks import Batch, network
from npgrad.optimizers import adam_onto

SEEDS = st.integers(0, 2**32 - 1)
METHOD = Method(Config, State, ddpg.init, ddpg.train, ddpg.actor)
SMALL = Config(
    networks=Networks(hidden=(4, 3)),
    precision="double",
    batch=3,
    warmup=4,
    replay=7,
    step_size=1e-2,
    step_size_w=1e-2,
    tau=0.1,
    noise=Noise(sigma=0.5, sigma_final=0.1, sigma_steps=15),
)


class Arm(gymnasium.Env):
    """Two joints pulled towards 0, driven by actions of an asymmetric box; T steps."""

    def __init__(self, T=5, truncate=True, low=(-1.0, 0.5), high=(3.0, 2.0), dtype=np.float64):
        self.T, self.truncate = T, truncate
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
        self.actions, self.starts = [], []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.starts.append(len(self.actions))
        self.s, self.t = self.np_random.normal(size=2), 0
        return self.s, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.actions.append(action)
        self.s *= 0.9  # the same array every time, as some environments do
        self.s += 0.1 * action[0] + 0.05 * self.np_random.normal(size=2)
        self.t += 1
        r = float(action[-1] - self.s @ self.s)
        over = self.t == self.T
        return self.s, r, over and not self.truncate, over and self.truncate, {}


def run(env, config, seed, episodes, **options):
    state = ddpg.init(env, config, seed)
    metrics = list(islice(ddpg.train(env, config, state, **options), episodes))
    return state, metrics


def equal(state, other):
    """Whether two States are the same, bit for bit."""
    (a, b), (c, d) = (copy_state(s) for s in (state, other))
    return b == d and all(np.array_equal(a[name], c[name]) for name in a)


# gradients


@st.composite
def problems(draw, activations=("tanh", "softplus", "relu")):
    """(actor, critic, θ, w, S, U, y): every activation, action position and normalisation."""
    rng, N = np.random.default_rng(draw(SEEDS)), 5
    n, d = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    same = dict(activation=draw(st.sampled_from(activations)), batch_norm=draw(st.booleans()))
    actor = network((n, 4, 3, d), output="tanh", **same)
    critic = network((n, 4, 3, 1), second=d, at=draw(st.integers(1, 2)), **same)
    theta, w = (0.7 * rng.normal(size=model.layout.size) for model in (actor, critic))
    S, U, y = rng.normal(size=(N, n)), rng.uniform(-1, 1, (N, d)), rng.normal(size=N)
    return Batch(actor, N, float), Batch(critic, N, float), theta, w, S, U, y


@given(problems(), st.sampled_from((0.0, 0.3)))
def test_critic_gradient__explicit_is_tape(problem, l2):
    _, critic, _, w, *data = problem
    tape = grad(critic_objective)(w, critic, *data, l2)
    explicit = critic_gradient(w, critic, *data, l2)
    np.testing.assert_allclose(explicit, tape, rtol=1e-8, atol=1e-9 * (1 + np.abs(tape).max()))


@given(problems())
def test_actor_gradient__explicit_is_tape(problem):
    actor, critic, theta, w, S, _, _ = problem
    tape = grad(actor_objective)(theta, actor, critic, w, S)
    explicit = actor_gradient(theta, actor, critic, w, S)
    np.testing.assert_allclose(explicit, tape, rtol=1e-8, atol=1e-9 * (1 + np.abs(tape).max()))


@given(problems(activations=("tanh", "softplus")))
def test_gradients__explicit_is_numbers(problem):
    actor, critic, theta, w, S, U, y = problem
    loose = dict(rtol=1e-6, atol=1e-8) if actor.model.normed else {}
    check_gradient(
        lambda w: critic_objective(w, critic, S, U, y, 0.1),
        lambda w: critic_gradient(w, critic, S, U, y, 0.1).copy(),
        w,
        layout=critic.model.layout,
        **loose,
    )
    check_gradient(
        lambda theta: actor_objective(theta, actor, critic, w, S),
        lambda theta: actor_gradient(theta, actor, critic, w, S).copy(),
        theta,
        layout=actor.model.layout,
        **loose,
    )


@given(problems(), st.floats(0.1, 2))
def test_critic_gradient__l2_pulls_at_weights_only(problem, l2):
    _, critic, _, w, *data = problem
    without = critic_gradient(w, critic, *data, 0.0).copy()
    pull = critic_gradient(w, critic, *data, l2) - without
    for i, (p, x) in enumerate(zip(pull, w)):
        expected = l2 * x if critic.model.layout.name_of(i).startswith("W") else 0.0
        assert p == pytest.approx(expected, abs=1e-12 * (1 + abs(without[i])))


@given(problems())
def test_gradients__are_means_over_the_batch(problem):
    """Every row twice: the same gradients."""
    actor, critic, theta, w, S, U, y = problem
    twice = [np.concatenate([x, x]) for x in (S, U, y)]
    actor2, critic2 = (Batch(b.model, 10, float) for b in (actor, critic))
    close = dict(rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(
        critic_gradient(w, critic2, *twice, 0.2), critic_gradient(w, critic, S, U, y, 0.2), **close
    )
    np.testing.assert_allclose(
        actor_gradient(theta, actor2, critic2, w, twice[0]),
        actor_gradient(theta, actor, critic, w, S),
        **close,
    )


class Quadratic:
    """The exact q of a = −K s in place of a critic."""

    def __init__(self, lqr, K):
        self.lqr, self.P = lqr, cost_matrix(lqr, K)

    def forward(self, w, S, U):
        self.S, self.U = S, U

    def gradient_u(self, g):
        """∇_a q = −2 (R a + γ Bᵀ P (A s + B a))."""
        S2 = self.S @ self.lqr.A.T + self.U @ self.lqr.B.T
        return -2 * g * (self.U @ self.lqr.R + self.lqr.gamma * S2 @ self.P @ self.lqr.B)


@given(regulators())
def test_actor_gradient__on_the_regulator_is_the_closed_form(world):
    """States of second moment Σ_K (and mean 0), a linear μ, the exact q: ∇_K J to rounding."""
    lqr, K = world
    n, d = lqr.B.shape
    values, vectors = np.linalg.eigh(occupancy(lqr, K))
    root = np.sqrt(n * np.maximum(values, 0))[:, None] * vectors.T
    S = np.concatenate([root, -root])
    actor = Batch(network((n, d)), 2 * n, float)
    theta = np.zeros(actor.model.layout.size)
    actor.model.weights(theta)[:] = -K.T.reshape(-1)
    ascent = actor_gradient(theta, actor, Quadratic(lqr, K), None, S)
    expected = policy_gradient(lqr, K)
    found = -actor.model.weights(ascent).reshape(n, d).T
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())


# steps and targets

VECTORS = arrays(float, (6, 4), elements=st.floats(-10, 10))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_onto_and_follow__of_weights_that_only_decay_meet_no_denormal_number(dtype):
    """Weight decay alone moves the weights of a unit that no longer fires, the slower the larger
    their gradients were before: they come near 0 at different times, and their targets after."""
    was, tiny = 10.0 ** np.arange(-6.0, 2.0), np.finfo(dtype).tiny
    theta, m = np.full(8, 1e-2, dtype), np.zeros((2, 8), dtype)
    target, config = theta.copy(), Config(tau=0.02)
    for t in range(1, 20_000):
        d = np.array(1e-2 * theta + (was if t < 50 else 0.0), dtype)
        adam_onto(theta, d, m, t, -1e-3)
        follow(target, theta, d.copy(), config, t)
        for x in (theta, target, *m, d):
            assert not ((x != 0) & (np.abs(x) < tiny)).any()
    assert (theta == 0.0).any() and (target == 0.0).any()


@given(VECTORS, st.floats(0, 1), st.integers(1, 6))
def test_follow__soft_targets_in_closed_form(D, tau, k):
    """k updates towards a fixed θ leave (1−τ)ᵏ of the distance."""
    target, theta, config = D[0].copy(), D[1].copy(), Config(tau=tau)
    for update in range(1, k + 1):
        follow(target, theta, np.empty(4), config, update)
    np.testing.assert_allclose(target, D[1] + (1 - tau) ** k * (D[0] - D[1]), atol=1e-12)
    assert np.array_equal(theta, D[1])
    whole, copied = D[0].copy(), D[0].copy()
    follow(whole, theta, np.empty(4), Config(tau=1.0), 1)
    follow(copied, theta, np.empty(4), Config(target="hard", copy_every=1), 1)
    np.testing.assert_allclose(whole, copied, atol=1e-14)
    assert np.array_equal(copied, theta)


@given(VECTORS, st.integers(1, 4))
def test_follow__hard_targets_are_copied_every_C_updates(D, C):
    target, config = np.full(4, 99.0), Config(target="hard", copy_every=C)
    for update, theta in enumerate(D, 1):
        follow(target, theta, np.empty(4), config, update)
        last = update // C * C
        assert np.array_equal(target, D[last - 1] if last else np.full(4, 99.0))


# actions

LARGE = float(np.finfo(np.float32).max)
BOUNDS = st.floats(-LARGE, LARGE, width=32) | st.floats(-10, 10, width=32)


@given(st.tuples(BOUNDS, BOUNDS), st.floats(-1, 1), st.sampled_from((np.float32, np.float64)))
@example(ends=(-1e30, 1.0), u=0.5, dtype=np.float64)
@example(ends=(-1.0, 1e30), u=0.5, dtype=np.float32)
def test_scale__hits_the_bounds_exactly_and_is_affine_between(ends, u, dtype):
    low, high = sorted(ends)
    space = Box(np.array([low], dtype), np.array([high], dtype), dtype=dtype)
    action = ddpg.scale(space)
    a = action(np.array([u]))
    assert a.dtype == dtype and space.contains(a)
    assert action(np.array([-1.0]))[0] == dtype(low)
    assert action(np.array([1.0]))[0] == dtype(high)
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    size = 4 * np.finfo(dtype).eps * max(abs(low), abs(high))
    assert abs(a[0] - (middle + half * u)) <= size
    assert np.array_equal(action(np.array([1.0], np.float32)), action(np.array([1.0])))


@given(SEEDS, st.sampled_from((np.float32, np.float64)))
def test_train__sends_actions_of_the_box_that_reach_its_bounds(seed, dtype):
    """Strong noise: clipped to the bounds; Arm asserts that its space contains every action."""
    env = Arm(T=30, dtype=dtype)
    loud = replace(SMALL, noise=Noise(noise="white", sigma=50.0))
    run(env, loud, seed, 1)
    late = np.array(env.actions[SMALL.warmup :])
    assert np.isin(late, np.array([[-1.0, 0.5], [3.0, 2.0]])).mean() > 0.5
    assert np.unique(env.actions[: SMALL.warmup]).size == 2 * SMALL.warmup


def test_actor__saturates_at_the_bounds_and_draws_nothing():
    env = Arm()
    state = ddpg.init(env, SMALL, 0)
    act = ddpg.actor(env, SMALL)
    state.theta[-2:] = 1e3, -1e3  # the last layer's biases
    parameters = dict(theta=state.theta, w=state.w)
    for greedy in (False, True):
        assert np.array_equal(act(parameters, np.zeros(2), None, greedy), [3.0, 0.5])


# the box


def by_the_book(env, config, state, episodes):
    """Algorithm 1 with a dict for a replay memory, the tape and npgrad's optimisers."""
    mu, Q = ddpg.models(env, config)
    theta, w = state.theta.copy(), state.w.copy()
    theta2, w2, rng, slots, t, updates = theta.copy(), w.copy(), state.rng, {}, 0, 0
    m_theta, m_w = np.zeros((2, theta.size)), np.zeros((2, w.size))
    low, high = env.action_space.low, env.action_space.high
    batches = [Batch(model, config.batch, float) for model in (mu, Q)]
    step = lambda d, m, size: optimizers.adam(d, m, updates, size)
    totals = np.zeros(episodes)
    for k in range(episodes):
        s, _ = env.reset(seed=int(rng.integers(2**31)))
        s, N, over = s.copy(), np.zeros(2), False
        while not over:
            if t < config.warmup:
                u = rng.uniform(-1, 1, 2)
            else:
                sigma = 0.5 + min(t / 15, 1) * (0.1 - 0.5)
                N = N - 0.15 * N + sigma * rng.standard_normal(2)
                u = np.clip(mu(theta, s) + N, -1, 1)
            s2, r, terminated, truncated, _ = env.step((low + high) / 2 + (high - low) / 2 * u)
            s2, over = s2.copy(), terminated or truncated
            totals[k] += r
            slots[t % config.replay] = (s, u, r, s2, terminated)
            t, s = t + 1, s2
            if t < max(config.warmup, config.batch):
                continue
            drawn = [slots[i] for i in rng.integers(len(slots), size=config.batch)]
            S, U, R, S2, terminated = map(np.array, zip(*drawn))
            y = R + config.gamma * ~terminated * Q(w2, S2, mu(theta2, S2))[:, 0]
            updates += 1
            d_w = grad(critic_objective)(w, batches[1], S, U, y, config.l2)
            batches[1].track(w, S, U, config.networks.norm_decay)
            w -= step(d_w, m_w, config.step_size_w)
            d_theta = grad(actor_objective)(theta, *batches, w, S)
            batches[0].track(theta, S, None, config.networks.norm_decay)
            theta += step(d_theta, m_theta, config.step_size)
            if config.target == "soft":
                soft_update(theta2, theta, config.tau)
                soft_update(w2, w, config.tau)
            elif updates % config.copy_every == 0:
                theta2[:], w2[:] = theta, w
    return theta, w, theta2, w2, t, updates, totals


@given(
    st.booleans(), st.booleans(), st.integers(1, 2), st.sampled_from(("soft", "hard")), SEEDS,
)  # fmt: skip
def test_train__is_the_box(truncate, batch_norm, action_layer, target, seed):
    """Parameters and targets after four episodes, the ring having gone round. Batches of six hold
    more than one state: normalised to 0, those of one would lie on the kink of every ReLU."""
    nets = Networks(hidden=(4, 3), action_layer=action_layer, batch_norm=batch_norm)
    config = replace(SMALL, networks=nets, target=target, copy_every=3, gamma=0.8, batch=6)
    env = lambda: Arm(truncate=truncate)
    state, metrics = run(env(), config, seed, 4)
    start = ddpg.init(env(), config, seed)
    theta, w, theta2, w2, t, updates, totals = by_the_book(env(), config, start, 4)
    # Adam divides a gradient near 0 and its rounding error by down to 1e-8
    close = dict(rtol=1e-7, atol=1e-6 if not batch_norm else 1e-5)
    np.testing.assert_allclose(state.theta, theta, **close)
    np.testing.assert_allclose(state.w, w, **close)
    np.testing.assert_allclose(state.theta_target, theta2, **close)
    np.testing.assert_allclose(state.w_target, w2, **close)
    assert (state.steps, state.updates, state.episodes) == (t, updates, 4) == (20, 15, 4)
    assert [m.lengths for m in metrics] == [(5,)] * 4
    assert [m.steps for m in metrics] == [5, 10, 15, 20]
    np.testing.assert_allclose([m.returns for m in metrics], totals[:, None], **close)


@given(st.booleans(), SEEDS)
def test_train__truncation_bootstraps_and_termination_does_not(truncate, seed):
    """Episodes of one step: y is r where they end, r + γ Q'(s', μ'(s')) where they are cut."""
    env, seen = Arm(T=1, truncate=truncate), []
    config = replace(SMALL, tau=0.0, replay=1000)
    state = ddpg.init(env, config, seed)
    mu, Q = ddpg.models(env, config)
    theta, w = state.theta.copy(), state.w.copy()

    def spy(w, critic, S, U, y, l2):
        seen.append((S.copy(), U.copy(), y.copy()))
        return critic_gradient(w, critic, S, U, y, l2)

    list(islice(ddpg.train(env, config, state, critic_gradient=spy), 10))
    rows = replay.fields(state.ring[: state.steps], 2, 2)
    assert rows.truncated.all() == truncate and rows.terminated.all() != truncate
    answers = rows.R + truncate * config.gamma * Q(w, rows.S2, mu(theta, rows.S2))[:, 0]
    assert len(seen) == 7
    for S, U, y in seen:
        for s, u, target in zip(S, U, y):
            (i,) = np.flatnonzero((rows.S == s).all(1) & (rows.U == u).all(1))
            assert target == pytest.approx(answers[i], abs=1e-12)


@given(SEEDS)
def test_train__restarts_the_noise_with_each_episode(seed):
    """μ = 0 and ξ = 0: the noise, begun at ou_mean, stays there; left over from before, not."""
    noise = Noise(sigma=0.0, ou_mean=0.25)
    config = replace(SMALL, warmup=0, step_size=0.0, noise=noise)
    env = Arm()
    state = ddpg.init(env, config, seed)
    state.theta[:], state.N[:] = 0.0, 0.9
    next(ddpg.train(env, config, state))
    np.testing.assert_allclose(env.actions, ddpg.scale(env.action_space)(np.full(2, 0.25))[None]
                               .repeat(5, 0), atol=1e-14)  # fmt: skip


@given(st.integers(0, 12), st.integers(1, 6))
def test_train__learns_from_the_warmup_on(warmup, batch):
    config = replace(SMALL, warmup=warmup, batch=batch)
    state, _ = run(Arm(), config, 0, 3)
    assert state.updates == max(0, 15 - max(warmup, batch, 1) + 1)


@given(st.booleans(), SEEDS)
def test_train__in_single_precision_goes_the_same_way(batch_norm, seed):
    """Two episodes of small steps: Adam turns rounding errors of 2⁻²⁴ into steps, of α at most."""
    nets = Networks(hidden=(4, 3), batch_norm=batch_norm)
    config = replace(SMALL, networks=nets, step_size=1e-4, step_size_w=1e-4)
    double, _ = run(Arm(), config, seed, 2)
    single, _ = run(Arm(), replace(config, precision="single"), seed, 2)
    for name in ("theta", "w", "theta_target", "w_target", "theta_statistics", "w_statistics",
                 "ring"):  # fmt: skip
        assert getattr(single, name).dtype == np.float32
    for name in ("theta", "w", "theta_target", "w_target"):
        difference = np.abs(getattr(single, name) - getattr(double, name))
        assert difference.max() <= 2 * 7 * 1e-4 + (2e-2 if batch_norm else 0.0)


def test_train__gradients_can_be_the_tapes():
    tape = dict(critic_gradient=grad(critic_objective), actor_gradient=grad(actor_objective))
    explicit, _ = run(Arm(), SMALL, 0, 3)
    swapped, _ = run(Arm(), SMALL, 0, 3, **tape)
    for name in ("theta", "w", "theta_target", "w_target"):
        np.testing.assert_allclose(getattr(explicit, name), getattr(swapped, name), atol=1e-6)


# the State


@given(st.booleans(), st.sampled_from(("ou", "white", "epsilon")), SEEDS, st.integers(1, 3))
def test_train__state_holds_all_that_changes(batch_norm, noise, seed, before):
    config = replace(
        SMALL, networks=Networks(hidden=(4, 3), batch_norm=batch_norm), noise=Noise(noise=noise)
    )
    state, _ = run(Arm(), config, seed, before)
    resumed = copy.deepcopy(state)
    for s in (state, resumed):
        list(islice(ddpg.train(Arm(), config, s), 2))
    assert equal(state, resumed)


def test_runner__takes_up_a_run_bit_for_bit(tmp_path):
    """Ring, targets, moments and noise go through the checkpoint; the ring has gone round."""
    config = replace(SMALL, replay=150, precision="single")
    whole = training.begin("ddpg", METHOD, "npgrad/LQR-v0", config, 3, tmp_path / "whole")
    parts = training.begin("ddpg", METHOD, "npgrad/LQR-v0", config, 3, tmp_path / "parts")
    training.learn(whole, 400)
    training.learn(parts, 200)
    resumed = training.resume(tmp_path / "parts", METHOD, 400)
    assert resumed.state.steps == 200 and not equal(resumed.state, whole.state)
    training.learn(resumed, 400)
    assert equal(resumed.state, whole.state)


@given(SEEDS)
def test_init__the_same_seed_gives_the_same_run(seed):
    (first, metrics), (second, again) = (run(Arm(), SMALL, seed, 3) for _ in range(2))
    assert equal(first, second) and metrics == again
    other, _ = run(Arm(), SMALL, seed + 1, 3)
    assert not np.array_equal(first.theta, other.theta)


def test_init__targets_start_as_copies():
    state = ddpg.init(Arm(), SMALL, 0)
    assert np.array_equal(state.theta, state.theta_target)
    assert np.array_equal(state.w, state.w_target)
    assert not np.shares_memory(state.theta, state.theta_target)
    assert not state.theta_statistics.any() and not state.ring.any()


# what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(gamma=1.5), r"gamma = 1.5: must be in \[0.0, 1.0\]"),
        (dict(tau=-0.1), r"tau = -0.1: must be in \[0.0, 1.0\]"),
        (dict(batch=64, replay=63), "batch = 64: must be at most replay = 63"),
        (dict(target="slow"), "target = 'slow': must be one of soft, hard"),
        (dict(l2=float("nan")), "l2 = nan: must be at least 0"),
        (dict(copy_every=0), "copy_every = 0: must be at least 1"),
        (dict(batch=1, networks=Networks(batch_norm=True)), "batch = 1: must be at least 2"),
        (dict(precision="half"), "precision = 'half'"),
    ],
)
def test_config__names_what_is_wrong_and_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(hidden=()), r"hidden = \(\): must be one or more positive integers"),
        (dict(hidden=(4, 0)), r"hidden = \(4, 0\)"),
        (dict(action_layer=3), r"action_layer = 3: must be .* 1 to 2 with hidden = \(400, 300\)"),
        (dict(norm_decay=2.0), r"norm_decay = 2.0: must be in \[0.0, 1.0\]"),
    ],
)
def test_networks__names_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        Networks(**options)


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(3),
        Box(-np.inf, np.inf, (2,)),
        Box(0.0, np.inf, (1,)),
        Box(0, 5, (2,), np.int64),
        Box(-1.0, 1.0, (2, 2)),
    ],
)
def test_init__refuses_other_action_spaces(space):
    env = Arm()
    env.action_space = space
    with pytest.raises(ValueError, match=r"action_space = .*must be a flat Box of floats with"):
        ddpg.init(env, SMALL, 0)


def test_init__refuses_images():
    env = Arm()
    env.observation_space = Box(0, 255, (8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"observation_space = Box.*must be a flat Box"):
        ddpg.init(env, SMALL, 0)


def test_init__refuses_a_replay_memory_that_does_not_fit():
    with pytest.raises(ValueError, match=r"replay = 10+: needs .* MB of memory.* at most \d+"):
        ddpg.init(Arm(), replace(SMALL, replay=10**15), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["r", "s"])
@pytest.mark.parametrize("at", [2, 8])
def test_train__stores_nothing_that_is_not_finite(where, bad, at):
    class Broken(Arm):
        def step(self, action):
            s, r, *rest = super().step(action)
            if len(self.actions) == at:
                s, r = (s, bad) if where == "r" else (np.array([0.0, bad]), r)
            return s, r, *rest

    state = ddpg.init(Broken(), SMALL, 0)
    with pytest.raises(FloatingPointError, match=f"at step {at}: both must be finite"):
        list(ddpg.train(Broken(), SMALL, state))
    assert state.steps == at - 1 and np.isfinite(state.ring).all()
    assert np.isfinite(state.theta).all() and np.isfinite(state.w).all()


def test_train__begins_from_nothing_that_is_not_finite():
    class Broken(Arm):
        def reset(self, **how):
            return np.array([0.0, np.nan]), super().reset(**how)[1]

    state = ddpg.init(Broken(), replace(SMALL, warmup=0), 0)
    with pytest.raises(FloatingPointError, match=r"the environment began with .*: must be finite"):
        next(ddpg.train(Broken(), replace(SMALL, warmup=0), state))
    assert state.steps == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("option", ["step_size_w", "step_size"])
def test_train__stops_when_it_diverges(option):
    """And no action of a broken policy reaches the world: Arm would refuse it."""
    config = replace(SMALL, **{"step_size": 0.0, "step_size_w": 0.0, option: 1e308})
    with pytest.raises(FloatingPointError, match=r"(w|theta) has diverged.* step \d+"):
        run(Arm(), config, 0, 50)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_train__yields_no_state_that_is_not_finite():
    """An overflow in the last step before a yield, from which nothing is computed any more."""
    config = replace(SMALL, warmup=0, batch=1)
    infinite = dict(actor_gradient=lambda theta, *_: np.full(theta.size, np.inf))
    with pytest.raises(FloatingPointError, match="theta has diverged: not finite at step 1"):
        run(Arm(T=1), config, 0, 1, **infinite)


@pytest.mark.slow
def test_train__comes_near_the_regulators_optimum():
    """6000 steps of a small network: the cost of what it does, over the cost of K*."""
    from benchmarks.ddpg import SPRING, regulator_ratio

    assert regulator_ratio(SPRING, seed=0, steps=6000, episodes=20)["ratio"] < 1.15


# what the environment is handed, and what the ring is


@given(st.sampled_from(("ou", "white", "epsilon", "none")), st.sampled_from(("euler", "exact")),
       SEEDS)  # fmt: skip
def test_train__plays_the_action_that_it_stores(kind, form, seed):
    """Every kind of noise, before anything is learned: u = explore(μ(s), N, t), with N begun anew
    in each episode and t the steps before; the environment gets its scaled value."""
    noise = Noise(kind, sigma=0.8, sigma_final=0.1, sigma_steps=15, ou_form=form, epsilon=0.5)
    config = replace(SMALL, warmup=0, batch=50, replay=50, noise=noise)
    env, start = Arm(), ddpg.init(Arm(), config, seed)
    mu, _ = ddpg.models(env, config)
    start.theta[-2:] = 0.5, -0.5  # the last layer's biases: μ is not near 0
    state = copy.deepcopy(start)
    list(islice(ddpg.train(env, config, state), 4))
    rows, rng, N = replay.fields(state.ring[:20], 2, 2), start.rng, np.zeros(2)
    for t in range(20):
        if t % 5 == 0:
            rng.integers(2**31)  # the episode's seed
            N[:] = 0.0
        u = noise.explore(mu(start.theta, rows.S[t]), N, t, rng)
        assert np.array_equal(rows.U[t], u)
        assert np.array_equal(env.actions[t], ddpg.scale(env.action_space)(u))
    assert np.array_equal(rows.S[1:5], rows.S2[:4]) and state.updates == 0


@given(SEEDS)
def test_train__a_step_that_ends_both_ways_does_not_bootstrap(seed):
    """Terminated within the last step that a time limit allows: y = r."""

    class Both(Arm):
        def step(self, action):
            s, r, _, over, info = super().step(action)
            return s, r, over, over, info

    seen = []

    def spy(w, critic, S, U, y, l2):
        seen.append(y.copy())
        return critic_gradient(w, critic, S, U, y, l2)

    state, _ = run(Both(T=1), replace(SMALL, replay=50), seed, 10, critic_gradient=spy)
    rewards = replay.fields(state.ring[:10], 2, 2).R
    assert len(seen) == 7 and np.isin(seen, rewards).all()


@given(problems(), st.integers(0, 2))
def test_gradients__of_a_feature_that_never_changes_are_the_tapes(problem, column):
    """Normalised it is 0 in every row, its scale 1/√1e-5, and its gradient finite."""
    actor, critic, theta, w, S, U, y = problem
    S[:, column % S.shape[1]] = 0.75
    pairs = (
        (critic_gradient(w, critic, S, U, y, 0.1).copy(),
         grad(critic_objective)(w, critic, S, U, y, 0.1)),
        (actor_gradient(theta, actor, critic, w, S).copy(),
         grad(actor_objective)(theta, actor, critic, w, S)),
    )  # fmt: skip
    for explicit, tape in pairs:
        assert np.isfinite(explicit).all()
        np.testing.assert_allclose(explicit, tape, rtol=1e-7, atol=1e-8 * (1 + np.abs(tape).max()))


def test_train__takes_observations_that_are_numbers_of_states():
    """Discrete observations come in as one-hot vectors, in the ring and in μ."""

    class Counter(Arm):
        def __init__(self):
            super().__init__(T=3)
            self.observation_space = gymnasium.spaces.Discrete(4, start=1)

        def reset(self, **how):
            return 1, super().reset(**how)[1]

        def step(self, action):
            _, r, *rest = super().step(action)
            return self.t + 1, r, *rest

    state, _ = run(Counter(), replace(SMALL, replay=20), 0, 4)
    rows = replay.fields(state.ring[:12], 4, 2)
    assert np.array_equal(rows.S, np.tile(np.eye(4)[:3], (4, 1)))
    assert np.array_equal(rows.S2, np.tile(np.eye(4)[1:], (4, 1)))
    assert ddpg.actor(Counter(), SMALL)(dict(theta=state.theta), 4, None).shape == (2,)


# the command line


class Spoilt(gymnasium.Env):
    """Two numbers that stay 0; the reward of step 40 of all is not a number."""

    def __init__(self, low=-1.0, high=1.0):
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = Box(low, high, (1,), np.float64)
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2), {}

    def step(self, action):
        self.steps += 1
        r = np.nan if self.steps == 40 else 1.0
        return np.zeros(2), r, False, self.steps % 10 == 0, {}


@pytest.fixture
def spoilt():
    gymnasium.register("Spoilt-v0", Spoilt)
    gymnasium.register("Unbounded-v0", Spoilt, kwargs=dict(low=-np.inf))
    yield
    for name in ("Spoilt-v0", "Unbounded-v0"):
        del gymnasium.registry[name]


@pytest.mark.usefixtures("spoilt")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--env CartPole-v1", "action_space = Discrete(2): must be a flat Box of floats"),
        ("--env Unbounded-v0", "must be a flat Box of floats with finite bounds"),
        ("--env Pendulum-v1 --replay 1000000000000000", "replay = 1000000000000000: needs"),
        ("--env Pendulum-v1 --batch 64 --replay 63", "batch = 64: must be at most replay = 63"),
    ],
)
def test_cli__refuses_before_it_begins(options, message, tmp_path, monkeypatch, capsys):
    """One line on stderr, status 2, and no run folder."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "ddpg", *options.split(), "--steps", "100"]) == 2
    out, err = capsys.readouterr()
    assert message in err and len(err.splitlines()) == 1 and not out
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("spoilt")
def test_cli__keeps_what_was_learned_before_a_reward_that_is_not_a_number(
    tmp_path, monkeypatch, capsys
):
    """The run's checkpoint is a State at the end of an episode; its numbers are all finite."""
    monkeypatch.chdir(tmp_path)
    options = "--env Spoilt-v0 --steps 100 --warmup 5 --batch 4 --replay 50 --hidden 4 4"
    assert cli.main(["train", "ddpg", *options.split()]) == 1
    err = capsys.readouterr().err
    assert "the environment returned reward nan and observation [0. 0.] at step 40" in err
    (folder,) = (tmp_path / "runs").iterdir()
    with np.load(folder / "checkpoint.npz") as saved:
        for name in ("theta", "w", "ring"):
            assert np.isfinite(saved[name]).all()
        assert not saved["ring"][30:].any()
