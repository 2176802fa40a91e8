"""DDPG: the box written again, its gradients on the regulator, ends of episodes, bounds, spaces."""

import copy
from dataclasses import fields, is_dataclass, replace
from itertools import islice
from types import SimpleNamespace
from unittest import mock

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from strategies import regulators
from worlds import SEEDS, Arm

import algorithms.exact.register  # noqa: F401
from algorithms import ddpg
from algorithms.common.world import BLOCK, Position
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
from algorithms.ddpg_noise import Noise
from algorithms.exact.lqr import action_value, cost_matrix, occupancy, policy_gradient
from algorithms.runner import cli, training
from algorithms.runner.environments import Environment
from algorithms.runner.lookup import Method
from npgrad import at, grad, mlp
from npgrad.optimizers import adam

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
LEARNED = ("theta", "w", "theta_target", "w_target")


def run(env, config, seed, yields, **options):
    state = ddpg.init(env, config, seed)
    return state, list(islice(ddpg.train(env, config, state, **options), yields))


def numbers_of(x):
    """All that x holds, for a comparison bit for bit."""
    if is_dataclass(x):
        return {field.name: numbers_of(getattr(x, field.name)) for field in fields(x)}
    if isinstance(x, np.random.Generator):
        return x.bit_generator.state
    return (x.dtype, x.shape, x.tobytes()) if isinstance(x, (np.ndarray, np.generic)) else x


def columns(state, n, d):
    """(S, U, r, S2, terminated) of the transitions in the memory."""
    rows = state.ring[: min(state.steps, len(state.ring))]
    S, U, r, S2, terminated = np.split(rows, np.cumsum([n, d, 1, n]), 1)
    return S, U, r[:, 0], S2, terminated[:, 0]


# gradients: from the displayed ones, at outputs, to the parameters


@st.composite
def problems(draw):
    """(actor, critic, θ, w, S, U, y, minibatch): every activation, action layer, normalisation, and
    at times a feature that never changes: normalised it is 0, its scale 1/√1e-5."""
    rng, N = np.random.default_rng(draw(SEEDS)), 5
    n, d, norm = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.booleans())
    same = dict(activation=draw(st.sampled_from(("tanh", "softplus", "relu"))), batch_norm=norm)
    actor = mlp((n, 4, 3, d), output="tanh", **same)
    critic = mlp((n, 4, 3, 1), second=d, at=draw(st.integers(1, 2)), **same)
    theta, w = (0.7 * rng.normal(size=model.layout.size) for model in (actor, critic))
    for model, x in ((actor, theta), (critic, w)):
        for k in model.normed:
            getattr(model.layout.views(x), f"var{k}")[:] = rng.uniform(0.1, 2.0, model.sizes[k])
    S, U, y = rng.normal(size=(N, n)), rng.uniform(-1, 1, (N, d)), rng.normal(size=N)
    if draw(st.booleans()):
        S[:, 0] = 0.75
    return actor, critic, theta, w, S, U, y, norm


class Drawn:
    """A replay memory that always gives the same batch."""

    def __init__(self, *batch):
        self.batch = batch

    def sample(self, t, rng):
        return self.batch


def learned(actor, critic, theta, w, S, U, y, norm, l2):
    """(d_theta, d_w) of one update by `learn`, both at θ and w; y are rewards that end."""
    config = replace(SMALL, networks=Networks(hidden=(4, 3), batch_norm=norm), l2=l2)
    none, seen = np.zeros(0), []
    copies = [x.copy() for x in (theta, w, theta, w)]
    state = State(*copies, none, none, none[None], none, None, Position(0))
    mu, q, mu_target, q_target = (
        model if isinstance(model, Exact) else at(model, x)
        for model, x in zip((actor, critic) * 2, copies)
    )
    replay = Drawn(S, U, y, S, np.ones(len(y)))
    with mock.patch.object(ddpg, "adam", lambda d, *_: seen.append(d.copy()) or 0.0):
        ddpg.learn(config, state, replay, mu, q, mu_target, q_target, critic_gradient,
                   actor_gradient)  # fmt: skip
    return seen[1], seen[0]


def loss(w, Q, S, U, y, l2, minibatch):
    return critic_objective(Q(w, S, U, minibatch)[:, 0], y, Q.weights(w), l2)


def gain(theta, mu, Q, w, S, minibatch):
    return actor_objective(Q(w, S, mu(theta, S, None, minibatch), minibatch)[:, 0])


@given(problems(), st.sampled_from((0.0, 0.3)))
def test_learn__takes_the_derivatives_of_the_objectives(problem, l2):
    """Through both networks and their normalisation: those of the tape."""
    actor, critic, theta, w, S, U, y, norm = problem
    tapes = (
        grad(gain)(theta, actor, critic, w, S, norm),
        grad(loss)(w, critic, S, U, y, l2, norm),
    )
    for explicit, tape in zip(learned(*problem, l2), tapes):
        assert np.isfinite(explicit).all()
        np.testing.assert_allclose(explicit, tape, rtol=1e-7, atol=1e-8 * (1 + np.abs(tape).max()))


@given(problems(), st.floats(0.1, 2))
def test_learn__l2_pulls_at_the_critics_weights_only(problem, l2):
    _, critic, _, w, *_ = problem
    (d_theta, d_w), (same, without) = learned(*problem, l2), learned(*problem, 0.0)
    assert np.array_equal(d_theta, same)
    for i, (pull, x) in enumerate(zip(d_w - without, w)):
        expected = l2 * x if critic.layout.name_of(i).startswith("W") else 0.0
        assert pull == pytest.approx(expected, abs=1e-12 * (1 + abs(without[i])))


@given(problems())
def test_learn__takes_means_over_the_batch(problem):
    """Every row twice: the same gradients."""
    *models, S, U, y, norm = problem
    twice = [np.concatenate([x, x]) for x in (S, U, y)]
    for a, b in zip(learned(*models, *twice, norm, 0.2), learned(*problem, 0.2)):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8 * (1 + np.abs(b).max()))


class Exact:
    """The exact q of a = −K s in place of a critic."""

    model = SimpleNamespace(weights=lambda w: [])

    def __init__(self, lqr, K):
        self.lqr, self.K, self.P = lqr, K, cost_matrix(lqr, K)

    def forward(self, S, u, minibatch=False):
        self.S, self.U = S, u.copy()
        return action_value(self.lqr, self.K, S, u)[:, None]

    def backward(self, g):
        return np.zeros(0)

    def backward_u(self, g):
        """g ∇_a q = −2 g (R a + γ Bᵀ P (A s + B a))."""
        S2 = self.S @ self.lqr.A.T + self.U @ self.lqr.B.T
        return -2 * g * (self.U @ self.lqr.R + self.lqr.gamma * S2 @ self.P @ self.lqr.B)

    def track(self, decay):
        pass


@given(regulators())
def test_learn__on_the_regulator_ascends_the_closed_form(world):
    """States of second moment Σ_K (and mean 0), a linear μ, the exact q: ∇_K J to rounding."""
    lqr, K = world
    n, d = lqr.B.shape
    values, vectors = np.linalg.eigh(occupancy(lqr, K))
    root = np.sqrt(n * np.maximum(values, 0))[:, None] * vectors.T
    S, actor = np.concatenate([root, -root]), mlp((n, d), "identity", bias=False)
    U, y = -S @ K.T, np.zeros(2 * n)
    problem = actor, Exact(lqr, K), -K.T.reshape(-1), np.zeros(0), S, U, y, False
    d_theta, _ = learned(*problem, 0.0)
    expected = policy_gradient(lqr, K)
    found = -d_theta.reshape(n, d).T
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())


# steps and targets

VECTORS = arrays(float, (6, 4), elements=st.floats(-10, 10))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_follow__of_weights_that_only_decay_meets_no_denormal_number(dtype):
    """Weight decay alone moves the weights of a unit that no longer fires, the slower the larger
    their gradients were before: they come near 0 at different times, and their targets after."""
    was, tiny = 10.0 ** np.arange(-6.0, 2.0), np.finfo(dtype).tiny
    theta, m = np.full(8, 1e-2, dtype), np.zeros((2, 8), dtype)
    target, config = theta.copy(), Config(tau=0.02)
    for t in range(1, 20_000):
        d = np.array(1e-2 * theta + (was if t < 50 else 0.0), dtype)
        theta -= adam(d, m, t, 1e-3)
        follow(target, theta, config, t)
        for x in (theta, target, *m):
            assert not ((x != 0) & (np.abs(x) < tiny)).any()
    assert (theta == 0.0).any() and (target == 0.0).any()


@given(VECTORS, st.floats(0, 1), st.integers(1, 6))
def test_follow__soft_targets_in_closed_form(D, tau, k):
    """k updates towards a fixed θ leave (1−τ)ᵏ of the distance."""
    target, theta, config = D[0].copy(), D[1].copy(), Config(tau=tau)
    for update in range(1, k + 1):
        follow(target, theta, config, update)
    np.testing.assert_allclose(target, D[1] + (1 - tau) ** k * (D[0] - D[1]), atol=1e-12)
    assert np.array_equal(theta, D[1])
    whole, copied = D[0].copy(), D[0].copy()
    follow(whole, theta, Config(tau=1.0), 1)
    follow(copied, theta, Config(target="hard", copy_every=1), 1)
    assert np.array_equal(whole, theta) and np.array_equal(copied, theta)


@given(VECTORS, st.integers(1, 4))
def test_follow__hard_targets_are_copied_every_C_updates(D, C):
    target, config = np.full(4, 99.0), Config(target="hard", copy_every=C)
    for update, theta in enumerate(D, 1):
        follow(target, theta, config, update)
        last = update // C * C
        assert np.array_equal(target, D[last - 1] if last else np.full(4, 99.0))


# actions

LARGE = float(np.finfo(np.float32).max)
BOUNDS = st.floats(-LARGE, LARGE, width=32) | st.floats(-10, 10, width=32)
DTYPES = st.sampled_from((np.float32, np.float64))


@given(st.tuples(BOUNDS, BOUNDS), st.floats(-1, 1), st.sampled_from(((), (1,), (2, 1))), DTYPES)
@example(ends=(-1e30, 1.0), u=0.5, shape=(1,), dtype=np.float64)
@example(ends=(-1.0, 1e30), u=0.5, shape=(), dtype=np.float32)
def test_scale__hits_the_bounds_exactly_and_is_affine_between(ends, u, shape, dtype):
    low, high = sorted(ends)
    space = Box(np.full(shape, low, dtype), np.full(shape, high, dtype), dtype=dtype)
    action, d = ddpg.scale(space), int(np.prod(shape))
    a = action(np.full(d, u))
    assert isinstance(a, np.ndarray) and a.dtype == dtype and space.contains(a)
    for dtype_of_u in (np.float32, np.float64):
        assert np.array_equal(action(np.full(d, -1.0, dtype_of_u)), space.low)
        assert np.array_equal(action(np.full(d, 1.0, dtype_of_u)), space.high)
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    size = 4 * np.finfo(dtype).eps * max(abs(low), abs(high))
    assert np.abs(a - (middle + half * u)).max() <= size


@given(SEEDS, DTYPES)
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


class Counter(Arm):
    """Observes the number of its steps: Discrete, from 1 on, or as a one-hot vector."""

    def __init__(self, T=3, one_hot=False, truncate=True):
        super().__init__(T, truncate)
        self.one_hot = one_hot
        self.observation_space = (
            Box(0.0, 1.0, (T + 1,), np.float64) if one_hot else Discrete(T + 1, start=1)
        )

    def seen(self):
        return np.eye(self.T + 1)[self.t] if self.one_hot else self.t + 1

    def reset(self, **how):
        _, info = super().reset(**how)
        return self.seen(), info

    def step(self, action):
        _, *rest = super().step(action)
        return self.seen(), *rest


def test_train__stores_the_index_of_a_discrete_observation():
    state, _ = run(Counter(), replace(SMALL, replay=20), 0, 4)
    S, _, _, S2, _ = columns(state, 1, 2)
    assert state.ring.shape == (20, 1 + 2 + 1 + 1 + 1)
    assert np.array_equal(S[:, 0], [0, 1, 2] * 4) and np.array_equal(S2[:, 0], [1, 2, 3] * 4)


def test_init__names_an_action_layer_that_one_hot_vectors_cannot_share():
    config = replace(SMALL, networks=Networks(hidden=(4, 3), action_layer=1))
    with pytest.raises(ValueError, match="action_layer = 1: must be 2 or more for Discrete"):
        ddpg.init(Counter(), config, 0)


@given(SEEDS)
def test_train__a_discrete_observation_is_its_one_hot_vector(seed):
    """In μ and Q, in their gradients, in what acts: parameters to rounding, which Adam may divide
    by down to 1e-8. (One-hot vectors are not normalised: see the box for batch_norm.)"""
    config = replace(SMALL, networks=Networks(hidden=(4, 3)), batch=6)
    (index, _), (vector, _) = (run(Counter(5, one_hot), config, seed, 3) for one_hot in (0, 1))
    for name in LEARNED:
        one, two = getattr(index, name), getattr(vector, name)
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-6)
    for k in range(6):
        a, b = (
            ddpg.actor(Counter(5, one_hot), config)(dict(theta=index.theta), o, None)
            for one_hot, o in ((0, k + 1), (1, np.eye(6)[k]))
        )
        np.testing.assert_allclose(a, b, rtol=1e-12)


# the box


def averaged(model, theta, x, decay):
    """Move the running averages in θ towards those of the rows x and of what follows from them."""
    views, x = model.layout.views(theta), np.eye(model.sizes[0])[x] if model.one_hot else x
    for k in range(len(model.normed) and model.normed[-1] + 1):
        z = x @ getattr(views, f"W{k}") if k else x
        if k in model.normed:
            moments = z.mean(0), z.var(0)
            for name, new in zip(("mean", "var"), moments):
                old = getattr(views, f"{name}{k}")
                old[:] = decay * old + (1 - decay) * new
            z = getattr(views, f"gain{k}") * (z - moments[0]) / np.sqrt(moments[1] + 1e-5)
            z = z + getattr(views, f"b{k}")
        x = np.maximum(z, 0.0) if k else z


def kingma(d, m, t, step_size):
    """Adam's Algorithm 1, line by line."""
    m[0] = 0.9 * m[0] + 0.1 * d
    m[1] = 0.999 * m[1] + 0.001 * d**2
    first, second = m[0] / (1 - 0.9**t), m[1] / (1 - 0.999**t)
    return step_size * first / (np.sqrt(second) + 1e-8)


def by_the_book(env, config, state, episodes):
    """Algorithm 1 with a dict for a replay memory, and the tape."""
    (mu, Q), norm = ddpg.models(env, config), config.networks.batch_norm
    theta, w = state.theta.copy(), state.w.copy()
    theta2, w2, rng, slots, t, updates = theta.copy(), w.copy(), state.rng, {}, 0, 0
    m_theta, m_w = np.zeros((2, theta.size)), np.zeros((2, w.size))
    low, high = env.action_space.low, env.action_space.high
    totals, first = np.zeros(episodes), getattr(env.observation_space, "start", 0)
    state_of = lambda observation: np.array(observation) - first
    for k in range(episodes):
        s, _ = env.reset(seed=None if k else state.world.seed)
        s, N, over = state_of(s), np.zeros(2), False
        while not over:
            if t < config.warmup:
                u = rng.uniform(-1, 1, 2)
            else:
                sigma = 0.5 + min(t / 15, 1) * (0.1 - 0.5)
                N = N - 0.15 * N + sigma * rng.standard_normal(2)
                u = np.clip(mu(theta, s) + N, -1, 1)
            s2, r, terminated, truncated, _ = env.step((low + high) / 2 + (high - low) / 2 * u)
            s2, over = state_of(s2), terminated or truncated
            totals[k] += r
            slots[t % config.replay] = (s, u, r, s2, terminated)
            t, s = t + 1, s2
            if t < max(config.warmup, config.batch):
                continue
            drawn = [slots[i] for i in rng.integers(len(slots), size=config.batch)]
            S, U, R, S2, terminated = map(np.array, zip(*drawn))
            y = R + config.gamma * ~terminated * Q(w2, S2, mu(theta2, S2))[:, 0]
            updates += 1
            d_w = grad(loss)(w, Q, S, U, y, config.l2, norm)
            averaged(Q, w, S, config.networks.norm_decay)
            w -= kingma(d_w, m_w, updates, config.step_size_w)
            d_theta = grad(gain)(theta, mu, Q, w, S, norm)
            averaged(mu, theta, S, config.networks.norm_decay)
            theta += kingma(d_theta, m_theta, updates, config.step_size)
            if config.target == "soft":
                theta2 = config.tau * theta + (1 - config.tau) * theta2
                w2 = config.tau * w + (1 - config.tau) * w2
            elif updates % config.copy_every == 0:
                theta2, w2 = theta.copy(), w.copy()
    return (theta, w, theta2, w2), t, updates, totals


@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 2),
    st.sampled_from(("soft", "hard")),
    SEEDS,
)
def test_train__is_the_box(discrete, truncate, batch_norm, action_layer, target, seed):
    """Parameters and targets after four episodes, the ring having gone round. Discrete states are
    not normalised: a batch of equal ones would lie on the kink of every ReLU."""
    action_layer, batch_norm = (2, False) if discrete else (action_layer, batch_norm)
    nets = Networks(hidden=(4, 3), action_layer=action_layer, batch_norm=batch_norm)
    config = replace(SMALL, networks=nets, target=target, copy_every=3, gamma=0.8, batch=6)
    env = lambda: Counter(5, truncate=truncate) if discrete else Arm(truncate=truncate)
    state, metrics = run(env(), config, seed, 4)
    start = ddpg.init(env(), config, seed)
    expected, t, updates, totals = by_the_book(env(), config, start, 4)
    # Adam divides a gradient near 0 and its rounding error by down to 1e-8
    close = dict(rtol=1e-7, atol=1e-6 if not batch_norm else 1e-5)
    for name, x in zip(LEARNED, expected):
        np.testing.assert_allclose(getattr(state, name), x, err_msg=name, **close)
    assert (state.steps, state.updates, state.episodes) == (t, updates, 4) == (20, 15, 4)
    assert [m.lengths for m in metrics] == [(5,)] * 4
    assert [m.steps for m in metrics] == [5, 10, 15, 20]
    np.testing.assert_allclose([m.returns for m in metrics], totals[:, None], **close)


@pytest.mark.parametrize("ends", [(True, False), (False, True), (True, True)])
@given(seed=SEEDS)
def test_train__bootstraps_unless_terminated(ends, seed):
    """Episodes of one step: y is r where they terminate, also within the last step that a time
    limit allows; r + γ Q'(s', μ'(s')) where they are only truncated."""

    class Ends(Arm):
        def step(self, action):
            s, r, *_, info = super().step(action)
            return s, r, *ends, info

    config, seen = replace(SMALL, tau=0.0, replay=1000), []
    start = ddpg.init(Ends(T=1), config, seed)

    def spy(q, y, W, l2):
        seen.append(y.copy())
        return critic_gradient(q, y, W, l2)

    state, _ = run(Ends(T=1), config, seed, 10, critic_gradient=spy)
    mu, Q = ddpg.models(Ends(), config)
    _, _, r, S2, terminated = columns(state, 2, 2)
    assert terminated.all() == ends[0]
    answers = r + (not ends[0]) * config.gamma * Q(start.w, S2, mu(start.theta, S2))[:, 0]
    assert np.shape(seen) == (7, 3)
    for y in np.ravel(seen):
        assert np.abs(y - answers).min() <= 1e-12 * (1 + np.abs(answers).max())


@given(SEEDS)
def test_train__restarts_the_noise_with_each_episode(seed):
    """μ = 0 and ξ = 0: the noise, begun at ou_mean, stays there; left over from before, not."""
    noise = Noise(sigma=0.0, ou_mean=0.25)
    config = replace(SMALL, warmup=0, step_size=0.0, noise=noise)
    env = Arm()
    state = ddpg.init(env, config, seed)
    state.theta[:], state.N[:] = 0.0, 0.9
    list(islice(ddpg.train(env, config, state), 2))
    expected = ddpg.scale(env.action_space)(np.full(2, 0.25))
    np.testing.assert_allclose(env.actions, [expected] * 10, atol=1e-14)


@given(st.integers(0, 12), st.integers(1, 6))
def test_train__learns_from_the_warmup_on(warmup, batch):
    config = replace(SMALL, warmup=warmup, batch=batch)
    state, _ = run(Arm(), config, 0, 3)
    assert state.updates == max(0, 15 - max(warmup, batch, 1) + 1)


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
    (S, U, _, S2, _), rng, N = columns(state, 2, 2), start.rng, np.zeros(2)
    for t in range(20):
        N[:] = N if t % 5 else 0.0
        u = noise.explore(mu(start.theta, S[t]), N, t, rng)
        np.testing.assert_allclose(U[t], u, rtol=1e-14, atol=1e-14)
        assert np.array_equal(env.actions[t], ddpg.scale(env.action_space)(U[t]))
    assert np.array_equal(S[1:5], S2[:4]) and state.updates == 0


# the State


@given(
    st.sampled_from((3, BLOCK, BLOCK + 1, 3 * BLOCK)),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(("ou", "white", "epsilon")),
    SEEDS,
)
def test_train__goes_on_from_any_yield_bit_for_bit(T, before, batch_norm, kind, seed):
    """At an episode's end and within one: the environment is brought back to where it stood."""
    nets, noise = Networks(hidden=(4, 3), batch_norm=batch_norm), Noise(noise=kind)
    config = replace(SMALL, networks=nets, noise=noise)
    env = lambda: Counter(T) if seed % 2 else Arm(T=T)
    state = ddpg.init(env(), config, seed)
    training = ddpg.train(env(), config, state)
    list(islice(training, before))
    resumed = copy.deepcopy(state)
    again = ddpg.train(env(), config, resumed)
    for _ in range(3):
        assert next(training) == next(again)
        assert numbers_of(state) == numbers_of(resumed)


def test_runner__takes_up_a_run_bit_for_bit(tmp_path):
    """Ring, targets, moments and noise go through the checkpoint; the ring has gone round."""
    method = Method(Config, State, ddpg.init, ddpg.train, ddpg.actor)
    config = replace(SMALL, replay=150, precision="single")
    whole = training.begin(
        "ddpg", method, Environment("npgrad/LQR-v0"), config, 3, tmp_path / "whole"
    )
    parts = training.begin(
        "ddpg", method, Environment("npgrad/LQR-v0"), config, 3, tmp_path / "parts"
    )
    training.learn(whole, 400)
    training.learn(parts, 200)
    resumed = training.resume(tmp_path / "parts", method, 400)
    assert resumed.state.steps < whole.state.steps
    training.learn(resumed, 400)
    assert numbers_of(resumed.state) == numbers_of(whole.state)


@given(SEEDS)
def test_init__the_same_seed_gives_the_same_run(seed):
    (first, metrics), (second, again) = (run(Arm(), SMALL, seed, 3) for _ in range(2))
    assert numbers_of(first) == numbers_of(second) and metrics == again
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
        (dict(batch=64, replay=63), "batch = 64: must be at most replay = 63"),
        (dict(batch=1, networks=Networks(batch_norm=True)), "batch = 1: must be at least 2"),
    ],
)
def test_config__names_what_does_not_go_together(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Config(**options)


def test_networks__names_a_layer_that_is_not_there():
    with pytest.raises(
        ValueError, match=r"^action_layer = 3: must be .* 1 to 2 with hidden = \(400"
    ):
        Networks(action_layer=3)


@pytest.mark.parametrize(
    "space", [Discrete(3), Box(-np.inf, np.inf, (2,)), Box(0.0, np.inf, ()), Box(0, 5, (2,), int)]
)
def test_init__refuses_other_action_spaces(space):
    env = Arm()
    env.action_space = space
    with pytest.raises(ValueError, match=r"^action_space = .*must be a Box of floats with finite"):
        ddpg.init(env, SMALL, 0)


def test_init__refuses_a_replay_memory_that_does_not_fit():
    with pytest.raises(ValueError, match=r"^replay = 10+: needs .* MB of memory.* at most \d+"):
        ddpg.init(Arm(), replace(SMALL, replay=10**15), 0)


def test_train__stores_nothing_that_is_not_finite_in_its_precision():
    """A reward of 1e300 is a number, but none in single precision."""

    class Large(Arm):
        def step(self, action):
            s, r, *rest = super().step(action)
            return s, 1e300 if len(self.actions) == 8 else r, *rest

    config = replace(SMALL, precision="single")
    state = ddpg.init(Large(), config, 0)
    with pytest.raises(FloatingPointError, match=r"reward 1e\+300 .* at step 8: must be finite in"):
        list(ddpg.train(Large(), config, state))
    assert state.steps == 7
    assert all(np.isfinite(getattr(state, name)).all() for name in ("ring", *LEARNED))


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
    infinite = dict(actor_gradient=lambda q: np.full_like(q, np.inf))
    with pytest.raises(FloatingPointError, match="theta has diverged: not finite at step 1"):
        run(Arm(T=1), config, 0, 1, **infinite)


@pytest.mark.slow
def test_train__comes_near_the_regulators_optimum():
    """6000 steps of a small network: the cost of what it does, over the cost of K*."""
    from benchmarks import ddpg as studied

    row = replace(studied.TASKS["regulator"], steps=6000)
    assert studied.run(row, seed=1)["ratio"] < 1.15


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
        ("--env CartPole-v1", "action_space = Discrete(2): must be a Box of floats"),
        ("--env Unbounded-v0", "must be a Box of floats with finite bounds"),
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
    assert "Spoilt-v0: episode 4, step 10: reward = nan: must be finite" in capsys.readouterr().err
    (folder,) = (tmp_path / "runs").iterdir()
    with np.load(folder / "checkpoint.npz") as saved:
        for name in ("theta", "w", "ring"):
            assert np.isfinite(saved[name]).all()
        assert not saved["ring"][30:].any()
