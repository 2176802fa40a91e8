"""A2C: A3C's gradient averaged, recomputed from what the environments gave, in every reset mode."""

import copy
import os
import signal
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st
from worlds import SEEDS, UNIT, Constant, Scripted, VectorRecorder, numbers, told

from algorithms import a2c, a3c, actor_critic
from algorithms.a2c import Config, gradient, returns
from algorithms.a2c_scaling import merge, normalise
from algorithms.common import world as one
from algorithms.common import worlds as many
from algorithms.common.events import WorkerError
from algorithms.common.policy import Network, make_actor_critic
from algorithms.common.worlds import close, vectorized
from npgrad import gaussian, grad, softmax

MODES = st.sampled_from(AutoresetMode)
TRUNKS = st.sampled_from(("shared", "separate"))
REDUCTIONS = st.sampled_from(("sum", "mean"))
LENGTHS = st.lists(st.integers(1, 4), min_size=1, max_size=3)
SMALL = Network(hidden=(3,))
EXACT = dict(network=SMALL, precision="double", optimizer="sgd")
CLOSE = dict(rtol=1e-9, atol=1e-11)


def run(env, config, seed, updates, **options):
    state = a2c.init(env, config, seed)
    return state, list(islice(a2c.train(env, config, state, **options), updates))


class Wide(Scripted):
    """Takes continuous actions as they are drawn, unclipped and unrounded."""

    def __init__(self, d=0, **how):
        super().__init__(d=d, **how)
        if d:
            self.action_space = numbers(d)


def vector(lengths, mode, d=0, truncate=False):
    """Scripted episodes of these lengths, an environment each, by Gymnasium's own hand."""
    makers = [lambda T=T: Wide(T=T, d=d, truncate=truncate) for T in lengths]
    return SyncVectorEnv(makers, autoreset_mode=mode)


def pieces(steps):
    """Of n recorded steps: (S, A, r, terminated, s after the last) of each environment's stretches
    within an episode."""
    for i in range(len(steps[0][0])):
        S, A, r = [], [], []
        for t, (before, actions, rewards, terminated, truncated, after) in enumerate(steps):
            if rewards[i] is None:
                continue
            S.append(before[i]), A.append(actions[i]), r.append(rewards[i])
            if terminated[i] or truncated[i] or t == len(steps) - 1:
                yield np.array(S, float), np.array(A), r, terminated[i], after[i].astype(float)
                S, A, r = [], [], []
        assert not S


def objective(theta, policy, config, S, A, R, advantage):
    """A3C's, of a stretch."""
    y, coefficients = policy.model(theta, S), (config.beta, config.value_coef)
    return a3c.objective(y[:, :-1], y[:, -1], policy.head, A, R, advantage, *coefficients)


def stretch(theta, policy, config, S, A, r, last):
    """A3C's dθ of a stretch, by the tape, with λ-returns; `last` is what they go on from."""
    y = policy.model(theta, S)
    if config.entropy == "return":
        r = r + config.beta * policy.head(y[:, :-1]).entropy()
    v = y[:, -1]
    R = forward_view(r, config.gamma, np.append(v[1:], last), config.lam)
    return grad(objective)(theta, policy, config, S, A, R, R - v)


def forward_view(r, gamma, v, lam):
    """R_t = (1−λ) Σ_{n<K} λ^{n−1} G_t^(n) + λ^{K−1} G_t^(K) (Sutton & Barto 12.3), K = T − t,
    G_t^(n) = Σ_{k<n} γ^k r_{t+k} + γ^n v[t+n−1]. v (T,) are the values after each step."""
    R, T = np.empty(len(r)), len(r)
    for t in range(T):
        n = np.arange(1, T - t + 1)
        G = np.cumsum(gamma ** (n - 1) * r[t:]) + gamma**n * v[t:]
        R[t] = (1 - lam) * lam ** (n[:-1] - 1) @ G[:-1] + lam ** (n[-1] - 1) * G[-1]
    return R


def recomputed(theta, policy, config, steps, N):
    """(dθ of n recorded steps, their number): A3C's gradients of all their stretches."""
    total, samples = np.zeros_like(theta), 0
    for S, A, r, terminated, after in pieces(steps):
        last = 0.0 if terminated else policy.model(theta, after)[-1]
        total += stretch(theta, policy, config, S, A, r, last)
        samples += len(r)
    return total / (N if config.reduction == "sum" else max(samples, 1)), samples


def episodes(log):
    """(return, length) of the episodes in a log, in the order of their ends."""
    G, length, ended = {}, {}, []
    for _, _, rewards, terminated, truncated, _ in log:
        for i, r in enumerate(rewards):
            if r is not None:
                G[i], length[i] = G.get(i, 0.0) + r, length.get(i, 0) + 1
                if terminated[i] or truncated[i]:
                    ended.append((G.pop(i), length.pop(i)))
    return ended


# the displayed functions


@given(st.integers(0, 2), st.integers(1, 4), st.integers(1, 4), UNIT, UNIT, SEEDS)
def test_gradient__is_a3cs_summed_or_averaged(d, n, N, beta, c, seed):
    """One environment and "sum": A3C's gradient. N of them: 1/N Σ_i Δ_i where the founding notes
    (3.3.2) have Σ_i Δ_i; "mean": 1/(n N) of it. Each row depends on its own step alone."""
    rng, head, k = np.random.default_rng(seed), gaussian(d) if d else softmax(3), n * N
    h, v, R, advantage = rng.normal(size=(k, head.size)), *rng.normal(size=(3, k))
    A = head(h).sample(head.noise(rng, k))
    for w in (1.0, 1 / N, 1 / k):
        d_h, d_v = gradient(h, v, head, A, R, advantage, np.full(k, w), beta, c)
        for i in range(0, k, n):
            rows = slice(i, i + n)
            of_one = [x[rows] for x in (A, R, advantage)]
            theirs = a3c.gradient(h[rows], v[rows], head, *of_one, beta, c)
            np.testing.assert_allclose(d_h[rows], w * theirs[0], **CLOSE)
            np.testing.assert_allclose(d_v[rows], w * theirs[1], **CLOSE)


def segments(seed, n, N):
    """(r, v, v_next, stops) of n steps in N environments, each (n, N): rewards, v(s_t), v(s'_t)."""
    rng = np.random.default_rng(seed)
    (r, v, ends), stops = rng.normal(size=(3, n, N)), rng.random((n, N)) < 0.4
    stops[-1] = True
    ends[rng.random((n, N)) < 0.5] = 0.0  # terminated
    return r, v, np.where(stops, ends, np.append(v[1:], ends[-1:], axis=0)), stops


def parts(stops):
    """(rows, environment) of every stretch of steps at whose end alone the data stop."""
    for i in range(stops.shape[1]):
        ends = np.flatnonzero(stops[:, i]) + 1
        for start, end in zip(np.append(0, ends), ends):
            yield slice(start, end), i


@given(UNIT, st.integers(1, 5), st.integers(1, 3), SEEDS)
def test_returns__begin_anew_where_the_data_stop(gamma, n, N, seed):
    r, _, v_next, stops = segments(seed, n, N)
    R = returns(r, gamma, stops, v_next)
    for t, i in np.ndindex(n, N):
        k = t + np.flatnonzero(stops[t:, i])[0]
        G = sum(gamma ** (j - t) * r[j, i] for j in range(t, k + 1))
        assert abs(R[t, i] - G - gamma ** (k + 1 - t) * v_next[k, i]) <= 1e-12


@given(UNIT, UNIT, st.integers(1, 6), st.integers(1, 3), SEEDS)
def test_returns__are_the_forward_view_up_to_where_the_data_stop(gamma, lam, n, N, seed):
    """And R − v is GAE, Σ_k (γλ)^k δ_{t+k} of the steps until then. At λ = 0, R − v is δ."""
    r, v, v_next, stops = segments(seed, n, N)
    R, delta = returns(r, gamma, stops, v_next, lam), r + gamma * v_next - v
    for rows, i in parts(stops):
        expected = forward_view(r[rows, i], gamma, v_next[rows, i], lam)
        np.testing.assert_allclose(R[rows, i], expected, atol=1e-12)
        k = np.arange(rows.stop - rows.start)
        gae = np.triu((gamma * lam) ** np.abs(k - k[:, None])) @ delta[rows, i]
        np.testing.assert_allclose((R - v)[rows, i], gae, atol=1e-12)
    assert np.array_equal(returns(r, gamma, stops, v_next, 0.0) - v, delta)


@given(UNIT, UNIT, st.integers(1, 6), st.booleans(), SEEDS)
def test_gradient__with_gae_is_that_of_the_episodic_traces(gamma, lam, T, terminated, seed):
    """An episode in one segment, θ and w held, β = 0: Σ_t δ_t z_t of actor_critic.traces is A2C's
    gradient of policy and value. The policy's, if I is kept at 1; the box's own has I = γ^t, which
    is A2C's with weights γ^t."""
    rng, head = np.random.default_rng(seed), softmax(3)
    x, w, theta = rng.normal(size=(T + 1, 2)), rng.normal(size=2), rng.normal(size=(2, 3))
    h, v, r = x[:-1] @ theta, x @ w, rng.normal(size=T)
    v[-1] *= not terminated
    A = head(h).sample(head.noise(rng, T))
    stops = np.arange(T)[:, None] == T - 1
    R = returns(r[:, None], gamma, stops, v[1:, None], lam)[:, 0]
    data = head, A, R, R - v[:-1]
    config = actor_critic.Traces(
        gamma=gamma, lambda_theta=lam, lambda_w=lam, optimizer="sgd", step_size=1.0, step_size_w=1.0
    )
    for undiscounted in (True, False):
        none = np.empty((0, 6)), np.empty((0, 2))
        state = actor_critic.State(
            np.zeros(6), np.zeros(2), np.zeros(6), np.zeros(2), *none, rng, None
        )
        for t in range(T):
            state.I = 1.0 if undiscounted else state.I
            score = np.outer(x[t], actor_critic.gradient(h[t], head, A[t])).ravel()
            dv, dlogpi = lambda c, t=t: c * x[t], lambda c, score=score: c * score
            actor_critic.traces(config, state, r[t], v[t], v[t + 1], dv, dlogpi)
        weight = np.ones(T) if undiscounted else gamma ** np.arange(T)
        d_h, _ = gradient(h, v[:-1], *data, weight, 0.0, 1.0)
        _, d_v = gradient(h, v[:-1], *data, np.ones(T), 0.0, 1.0)
        np.testing.assert_allclose(state.theta, (x[:-1].T @ d_h).ravel(), **CLOSE)
        np.testing.assert_allclose(state.w, x[:-1].T @ d_v, **CLOSE)


# the whole update, from what the environments gave


@given(
    MODES,
    LENGTHS,
    st.integers(1, 6),
    st.booleans(),
    TRUNKS,
    st.integers(0, 2),
    REDUCTIONS,
    st.sampled_from(("step", "return")),
    UNIT,
    UNIT,
    SEEDS,
)
def test_train__is_recomputed_from_the_recorded_stream(
    mode, lengths, n, truncate, trunk, d, reduction, entropy, gamma, lam, seed
):
    """Four updates, so that what a buffer holds from those before would show."""
    envs, N = VectorRecorder(vector(lengths, mode, d, truncate)), len(lengths)
    options = dict(n_steps=n, trunk=trunk, reduction=reduction, gamma=gamma, lam=lam)
    config = Config(step_size=0.02, beta=0.3, entropy=entropy, **options, **EXACT)
    policy = make_actor_critic(envs, config.network, trunk)
    state, steps, previous = a2c.init(envs, config, seed), 0, 0
    theta, ended = state.theta.copy(), []
    for metrics in islice(a2c.train(envs, config, state), 4):
        log, previous = envs.log[previous : previous + n], previous + n
        d_theta, count = recomputed(theta, policy, config, log, N)
        size = 1 + np.abs(d_theta).max() + np.abs(theta).max()
        np.testing.assert_allclose(state.theta - theta, 0.02 * d_theta, atol=1e-11 * size)
        theta, steps = state.theta.copy(), steps + count
        assert metrics.steps == state.T == steps and type(state.T) is int
        ended += zip(metrics.returns, metrics.lengths)
    assert previous == len(envs.log) and metrics.episodes == len(ended)
    expected = episodes(envs.log)
    assert [length for _, length in ended] == [length for _, length in expected]
    np.testing.assert_allclose([G for G, _ in ended], [G for G, _ in expected], **CLOSE)


class Known(gymnasium.Env):
    """Environment i: all of its trajectory is a formula. Episodes of T steps, every other one
    truncated."""

    observation_space = Box(-1.0, 1.0, (2,), float)

    def __init__(self, i, T, d=0):
        self.i, self.T, self.episode = i, T, -1
        self.action_space = numbers(d) if d else Discrete(3)

    def state(self, episode, t):
        return np.cos([1.0 + self.i + 10 * episode + 100 * t, 2.0 * self.i + t - episode])

    def reset(self, *, seed=None, options=None):
        self.t, self.episode = 0, self.episode + 1
        return self.state(self.episode, 0), {}

    def step(self, action):
        r, self.t = self.reward(self.episode, self.t, action), self.t + 1
        over, cut = self.t == self.T, self.cut(self.episode)
        return self.state(self.episode, self.t), r, over and not cut, over and cut, {}

    def reward(self, episode, t, action):
        return np.sin(self.i + 3.0 * episode + 0.5 * t) + float(np.sum(action))

    def cut(self, episode):
        return (self.i + episode) % 2 == 0


@given(st.integers(1, 3), st.integers(1, 4), st.integers(2, 9), TRUNKS, REDUCTIONS, SEEDS)
def test_autoreset_modes__give_one_gradient(N, T, k, trunk, reduction, seed):
    """k transitions in each environment, whatever steps it takes to reset: θ moves as the formulas
    of the environment and A3C's gradient say."""
    rng = np.random.default_rng(seed)
    A, worlds, moved = rng.integers(3, size=(k, N)), [Known(i, T) for i in range(N)], {}
    policy = make_actor_critic(worlds[0], SMALL, trunk)
    theta = rng.normal(size=policy.model.layout.size)
    config = Config(trunk=trunk, reduction=reduction, lam=0.9, step_size=1.0, **EXACT)
    for mode in AutoresetMode:
        resets = (k - 1) // T if mode is AutoresetMode.NEXT_STEP else 0
        rows = iter(A)
        chosen = [
            rng.integers(3, size=N) if resets and t % (T + 1) == T else next(rows)
            for t in range(k + resets)
        ]
        network = told(1e9 * np.eye(3)[np.ravel(chosen)])(
            hidden=(3,)
        )  # so that these actions are drawn
        own = replace(config, network=network, n_steps=k + resets)
        envs = SyncVectorEnv([lambda i=i: Known(i, T) for i in range(N)], autoreset_mode=mode)
        state = a2c.init(envs, own, 0)
        state.theta[:] = theta
        next(a2c.train(envs, own, state))
        assert state.T == k * N
        moved[mode] = state.theta - theta
    total = np.zeros_like(theta)
    for i, world in enumerate(worlds):
        for first in range(0, k, T):
            episode, steps = first // T, range(min(T, k - first))
            S = np.array([world.state(episode, t) for t in steps])
            a = A[first : first + len(S), i]
            r = [world.reward(episode, t, a[t]) for t in steps]
            bootstraps = len(S) < T or world.cut(episode)
            last = policy.model(theta, world.state(episode, len(S)))[-1] if bootstraps else 0.0
            total += stretch(theta, policy, config, S, a, r, last)
    expected = total / (N if reduction == "sum" else N * k)
    for mode, step in moved.items():
        np.testing.assert_allclose(step, expected, err_msg=str(mode), **CLOSE)


@given(MODES, TRUNKS, st.integers(0, 2), st.permutations(range(4)), REDUCTIONS, SEEDS)
def test_train__does_not_mind_the_order_of_the_environments(mode, trunk, d, order, reduction, seed):
    """The same episodes and noise in other rows: the same θ, to rounding."""
    n, moved, lengths = 6, [], (1, 2, 3, 5)
    noise = np.random.default_rng(seed).normal(size=(n, 4, d or 3))
    config = Config(n_steps=n, trunk=trunk, reduction=reduction, step_size=1.0, **EXACT)
    for rows in (range(4), order):
        own = replace(config, network=told(noise[:, list(rows)].reshape(4 * n, -1))(hidden=(3,)))
        makers = [lambda i=i: Known(i, lengths[i], d) for i in rows]
        envs = SyncVectorEnv(makers, autoreset_mode=mode)
        state = a2c.init(envs, own, seed)
        theta = state.theta.copy()
        next(a2c.train(envs, own, state))
        moved.append(state.theta - theta)
    np.testing.assert_allclose(*moved, **CLOSE)


@given(st.booleans(), st.sampled_from((np.inf, 1e-3)), st.integers(1, 40))
def test_train__anneals_clips_and_ends(annealed, max_norm, T_max):
    """θ moves by η_T dθ, ‖dθ‖ ≤ max_norm, until T > T_max: one update after T_max at the most."""
    options = EXACT | dict(annealed=annealed, max_norm=max_norm, step_size=0.5)
    config = Config(n_steps=3, T_max=T_max, **options)
    envs = VectorRecorder(vector((2, 3), AutoresetMode.SAME_STEP))
    policy = make_actor_critic(envs, config.network, "separate")
    state = a2c.init(envs, config, 0)
    theta, T, k = state.theta.copy(), 0, 0
    for k, _ in enumerate(a2c.train(envs, config, state), 1):
        assert T <= T_max
        d_theta, count = recomputed(theta, policy, config, envs.log[3 * k - 3 :], 2)
        d_theta *= min(1.0, max_norm / np.linalg.norm(d_theta))
        eta = 0.5 * (1 - T / T_max if annealed else 1.0)
        np.testing.assert_allclose(state.theta - theta, eta * d_theta, **CLOSE)
        theta, T = state.theta.copy(), T + count
    assert state.T == T > T_max and state.updates == k


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "rmsprop"])
def test_train__moves_nothing_in_an_update_without_a_step(optimizer):
    """n = 1, and all environments only reset themselves: no gradient, no step of the optimiser."""
    envs = VectorRecorder(vector((1, 1), AutoresetMode.NEXT_STEP))
    config = Config(n_steps=1, optimizer=optimizer, network=SMALL)
    state = a2c.init(envs, config, 0)
    kept = None
    for k, metrics in enumerate(islice(a2c.train(envs, config, state), 6)):
        numbers = (state.theta.tobytes(), state.statistics.tobytes(), state.updates, state.T)
        assert numbers == kept if k % 2 else numbers != kept
        assert len(metrics.returns) == (0 if k % 2 else 2)
        kept = numbers


# moments


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.floats(-1e3, 1e3), SEEDS)
def test_merge__is_the_mean_and_variance_of_all(counts, shift, seed):
    rng, moments, every = np.random.default_rng(seed), np.zeros((3, 2)), []
    for k in counts:
        x, of = shift + rng.normal(size=(k, 2)), rng.random(k) < 0.7
        merge(moments, x, of)
        every.append(x[of])
    every = np.concatenate(every)
    assert (moments[0] == len(every)).all()
    if len(every):
        np.testing.assert_allclose(moments[1], every.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments[2] / len(every), every.var(0), rtol=1e-6, atol=1e-9)


def scaled(seen, s):
    """Features s as rows seen (k, 2) would have them normalised."""
    if not len(seen):
        return s
    return np.clip((s - np.mean(seen, 0)) / np.sqrt(np.var(seen, 0) + 1e-8), -10, 10)


@given(MODES, LENGTHS, st.integers(1, 5), st.booleans(), st.booleans(), UNIT, SEEDS)
def test_train__normalises_by_what_it_has_seen(mode, lengths, n, features, rewards, gamma, seed):
    """The gradient of every update is that of features and rewards scaled by the moments of the
    recorded stream: in step t a state by those of the steps before, what it led to and its reward
    by those of step t too. A step that only resets counts for nothing."""
    envs, N = VectorRecorder(vector(lengths, mode, truncate=True)), len(lengths)
    options = dict(normalize_observations=features, normalize_returns=rewards, gamma=gamma, lam=0.8)
    config = Config(n_steps=n, reduction="sum", step_size=0.3, **options, **EXACT)
    policy = make_actor_critic(envs, config.network, config.trunk)
    state, seen, sums, trace = a2c.init(envs, config, seed), [], [], np.zeros(N)
    theta = state.theta.copy()
    for k, _ in enumerate(islice(a2c.train(envs, config, state), 4)):
        steps = []
        for s, a, r, terminated, truncated, s2 in envs.log[k * n : k * n + n]:
            s, s2 = s.astype(float), s2.astype(float)
            x = scaled(seen, s) if features else s
            real = [i for i in range(N) if r[i] is not None]
            seen += [s[i] for i in real]
            for i in real:
                trace[i] = gamma * trace[i] + r[i]
                sums.append(trace[i])
                trace[i] *= not (terminated[i] or truncated[i])
            sd = np.sqrt(np.var(sums) + 1e-8)
            if rewards:
                r = [None if x is None else np.clip(x / sd, -10, 10) for x in r]
            steps.append((x, a, r, terminated, truncated, scaled(seen, s2) if features else s2))
        d_theta, _ = recomputed(theta, policy, config, steps, N)
        size = 1 + np.abs(d_theta).max()
        np.testing.assert_allclose(state.theta - theta, 0.3 * d_theta, atol=1e-7 * size)
        theta = state.theta.copy()
    assert (state.seen[0] == len(seen) * features).all()
    assert state.returned[0, 0] == len(sums) * rewards
    if features:
        np.testing.assert_allclose(state.seen[1], np.mean(seen, 0), atol=1e-12)


def test_train__of_equal_rewards_begins_with_no_giant_one():
    """Rewards of 1, as CartPole's, have no variance at first; they are not divided by its root."""
    config, seen = Config(n_steps=4, normalize_returns=True, gamma=1.0, network=SMALL), []

    def spy(h, v, head, A, R, *rest):
        seen.append(np.abs(R).max())
        return gradient(h, v, head, A, R, *rest)

    run(Constant(100), config, 0, 3, gradient=spy)
    assert max(seen) <= 4 * 10.0 + 1.0  # and 1 for the value from which the last one goes on


@pytest.mark.parametrize("discrete", [False, True])
def test_actor__normalises_as_training_did(discrete):
    config = Config(normalize_observations=True, network=SMALL, precision="double")
    env, rng = Scripted(n=3), np.random.default_rng(0)
    if discrete:
        env.observation_space = Discrete(3, start=1)
    observation = 2 if discrete else np.array([3.0, -1.0, 0.5])
    s = np.eye(3)[1] if discrete else observation
    state = a2c.init(env, config, 0)
    merge(state.seen, 5 * rng.normal(size=(50, 3)), np.ones(50, bool))
    act, parameters = a2c.actor(env, config), dict(theta=state.theta, seen=state.seen)
    plain = a2c.actor(Scripted(n=3), replace(config, normalize_observations=False))
    for seed in range(20):
        theirs = plain(parameters, normalise(state.seen, s), np.random.default_rng(seed))
        assert act(parameters, observation, np.random.default_rng(seed)) == theirs
    h = make_actor_critic(Scripted(n=3), SMALL, "separate").model(
        state.theta, normalise(state.seen, s)
    )[:-1]
    assert act(parameters, observation, rng, greedy=True) == h.argmax()


class Numbered(Known):
    """Observes the number of its steps, from 3 on; or as a one-hot vector. Actions from −1 on."""

    def __init__(self, i, T, one_hot=False):
        super().__init__(i, T)
        self.one_hot, self.action_space = one_hot, Discrete(2, start=-1)
        self.observation_space = (
            Box(0.0, 1.0, (T + 1,), float) if one_hot else Discrete(T + 1, start=3)
        )

    def state(self, episode, t):
        return np.eye(self.T + 1)[t] if self.one_hot else 3 + t

    def step(self, action):
        assert self.action_space.contains(action)
        return super().step(action)


@given(MODES, TRUNKS, st.booleans(), st.booleans(), SEEDS)
def test_train__a_discrete_observation_is_its_one_hot_vector(mode, trunk, features, rewards, seed):
    options = dict(normalize_observations=features, normalize_returns=rewards, trunk=trunk)
    config, states = Config(n_steps=4, **options, **EXACT), []
    for one_hot in (False, True):
        makers = [lambda i=i, one_hot=one_hot: Numbered(i, 3, one_hot) for i in range(2)]
        envs = SyncVectorEnv(makers, autoreset_mode=mode)
        states.append(run(envs, config, seed, 4)[0])
    one, two = states
    np.testing.assert_allclose(one.theta, two.theta, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(one.seen, two.seen, rtol=1e-12, atol=1e-12)
    assert one.T == two.T > 20


# the State


def assert_same(state, other):
    assert state.rng.bit_generator.state == other.rng.bit_generator.state
    names = "theta", "seen", "returned", "trace", "statistics", "T", "updates", "episodes"
    for name in names:
        np.testing.assert_array_equal(getattr(state, name), getattr(other, name))


@given(
    MODES,
    st.sampled_from((0, 2)),
    st.booleans(),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    SEEDS,
)
def test_train__of_a_vector_goes_on_to_the_same_bits(mode, d, truncate, n, before, normal, seed):
    """From a State at any yield, in another vector of the kind; moments and traces included."""
    options = dict(normalize_observations=normal, normalize_returns=normal)
    config, make = Config(n_steps=n, network=SMALL, **options), partial(vector, (2, 3, 5), mode, d)
    envs = make(truncate)
    state = a2c.init(envs, config, seed)
    training = a2c.train(envs, config, state)
    list(islice(training, before))
    other = copy.deepcopy(state)
    again = a2c.train(make(truncate), config, other)
    assert list(islice(training, 3)) == list(islice(again, 3))
    assert_same(state, other)


@pytest.mark.parametrize("vectorization", ["sync", "async", "vector_entry_point"])
def test_train__goes_on_to_the_same_bits_however_it_is_vectorised(vectorization):
    config = Config(environments=3, n_steps=7, vectorization=vectorization)
    env = gymnasium.make("CartPole-v1")
    state = a2c.init(env, config, 0)
    training = a2c.train(env, config, state)
    list(islice(training, 20))
    other = copy.deepcopy(state)
    again = a2c.train(gymnasium.make("CartPole-v1"), config, other)
    assert list(islice(again, 20)) == list(islice(training, 20))
    assert_same(state, other)
    for each in (training, again):
        each.close()


class Fickle(Scripted):
    """Its rewards are others every time."""

    def step(self, action):
        s, _, *rest = super().step(action)
        return s, float(np.random.default_rng().random()), *rest


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("most", [0, 10**6])
def test_train__says_which_environment_does_not_repeat_and_begins_anew(together, most, monkeypatch):
    """Or that more was done in it than a Position keeps."""
    monkeypatch.setattr(many, "MOST_ACTIONS", most)
    monkeypatch.setattr(one, "MOST_ACTIONS", most)
    config = Config(environments=2, n_steps=3, network=SMALL, normalize_returns=True)
    kind = Fickle if most else Scripted
    makers = [lambda: kind(T=99), lambda: Scripted(T=99)]
    env = SyncVectorEnv(makers) if together else lambda: makers[0]()
    state, _ = run(env, config, 0, 2)
    with pytest.warns(RuntimeWarning, match="does not repeat its episodes: (a )?new ones? begins?"):
        next(a2c.train(env, config, state))
    assert state.T == 18 and state.episodes == 0


class Broken(Known):
    """The reward or the observation of a step is not a number."""

    def __init__(self, what):
        super().__init__(1, 3)
        self.what = what

    def state(self, episode, t):
        bad = self.what == "observation" and (episode, t) == (1, 2)
        return np.array([0.5, np.inf]) if bad else super().state(episode, t)

    def reward(self, episode, t, action):
        bad = self.what == "reward" and (episode, t) == (1, 2)
        return np.nan if bad else super().reward(episode, t, action)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("what", ["reward", "observation"])
def test_train__lets_nothing_that_is_not_finite_into_theta_or_moments(mode, what):
    """tanh would make a finite v̂ of ∞, and a bound a finite feature."""
    envs = SyncVectorEnv([lambda: Known(0, 9), lambda: Broken(what)], autoreset_mode=mode)
    config = Config(n_steps=2, normalize_observations=True, normalize_returns=True, **EXACT)
    state = a2c.init(envs, config, 0)
    with pytest.raises(FloatingPointError, match=rf"environment 1.*: {what} = .*: must be finite$"):
        for _ in islice(a2c.train(envs, config, state), 9):
            kept = state.theta.copy()
    np.testing.assert_array_equal(state.theta, kept)
    assert np.isfinite(state.seen).all() and np.isfinite(state.returned).all()


# environments


class Counted(Scripted):
    """Counts those that are open."""

    open = 0

    def __init__(self, **how):
        super().__init__(**how)
        Counted.open += 1

    def __deepcopy__(self, memo):
        return Counted()

    def close(self):
        Counted.open -= 1


@given(st.integers(1, 3), SEEDS)
def test_train__of_an_environment_its_maker_or_a_vector_is_the_same(N, seed):
    """Copies, one of which is the object itself; what a function makes; a vector, or what makes
    one: all are seeded alike. What was handed over stays open, what was made does not."""
    config = Config(environments=N, n_steps=4, network=SMALL)
    mode = AutoresetMode.SAME_STEP
    vector_of, thetas = (lambda: SyncVectorEnv([Counted] * N, autoreset_mode=mode)), []
    mine, envs = Counted(), vector_of()
    for env in (mine, Counted, envs, vector_of):
        before, state = Counted.open, a2c.init(env, config, seed)
        training = a2c.train(env, config, state)
        list(islice(training, 4))
        assert Counted.open == before + {mine: N - 1, envs: 0}.get(env, N)
        training.close()
        assert Counted.open == before
        thetas.append(state.theta)
    assert all(np.array_equal(theta, thetas[0]) for theta in thetas)
    assert hasattr(mine, "R"), "it is one of the N"


def test_train__copies_an_environment_and_leaves_a_vector_open():
    """Copies are as deep as can be, and start where they are. N is the vector's own."""
    env = Known(0, 3)
    state, metrics = run(env, Config(environments=3, n_steps=4), 0, 2)
    assert metrics[-1].steps == state.T == 3 * 8
    envs = vector((2, 3), AutoresetMode.NEXT_STEP)
    run(envs, Config(environments=7), 0, 2)
    assert not envs.closed and envs.num_envs == 2


@pytest.fixture
def made(monkeypatch):
    """The vectors that A2C makes, and what was closed of them."""
    made = []

    def spy(*how):
        envs = vectorized(*how)
        envs.ends, end = 0, envs.close

        def close(**options):
            envs.ends += 1
            end(**options)

        envs.close = close
        made.append(envs)
        return envs

    monkeypatch.setattr(a2c, "vectorized", spy)
    return made


@pytest.mark.parametrize("vectorization", ["async", "vector_entry_point"])
def test_train__makes_its_environments_and_closes_them(vectorization, made):
    config = Config(environments=2, vectorization=vectorization)
    env = gymnasium.make("CartPole-v1")
    training = a2c.train(env, config, a2c.init(env, config, 0))
    list(islice(training, 3))
    assert [(envs.num_envs, envs.ends) for envs in made] == [(2, 1), (2, 0)]
    kind = AsyncVectorEnv if vectorization == "async" else type(made[1].unwrapped)
    assert type(made[1]) is kind and not isinstance(made[1], SyncVectorEnv)
    training.close()
    assert made[1].ends == 1


def test_train__in_processes_is_the_same_as_in_turn():
    config = Config(environments=3, n_steps=4)
    for env in (Scripted(), Scripted, gymnasium.make("CartPole-v1")):
        thetas = [
            run(env, replace(config, vectorization=how), 0, 5)[0].theta for how in ("sync", "async")
        ]
        assert np.array_equal(*thetas)


def test_init__refuses_a_vector_that_does_not_fit_or_cannot_be_made():
    envs = vector((2, 3), AutoresetMode.NEXT_STEP)
    envs.metadata["autoreset_mode"] = None
    for env in (envs, lambda: envs):
        with pytest.raises(ValueError, match=r'^metadata\["autoreset_mode"\] = '):
            a2c.init(env, Config(), 0)
    config = Config(vectorization="vector_entry_point")
    for env in (gymnasium.make("Acrobot-v1"), Known(0, 3)):
        with pytest.raises(ValueError, match=r"^vectorization = 'vector_entry_point': must be"):
            a2c.init(env, config, 0)


# processes


@contextmanager
def watchdog(seconds=100):
    """Interrupt what would wait for ever."""

    def bark(*_):
        raise TimeoutError("waits for ever")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Dies(Known):
    """Its process dies in step t of an episode, or before (0) in its reset; or it raises."""

    def __init__(self, episode, t, raises=False):
        super().__init__(1, 3)
        self.at, self.raises = (episode, t), raises

    def state(self, episode, t):
        if (episode, t) == self.at:
            if self.raises:
                raise LookupError("of its own")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().state(episode, t)


def run_in_processes(**how):
    """A run of two environments, of which the second is Dies(**how)."""
    envs = AsyncVectorEnv([lambda: Known(0, 3), lambda: Dies(**how)])
    with watchdog():
        try:
            run(envs, Config(network=SMALL), 0, 9)
        finally:
            close(envs, None)
            assert not any(process.is_alive() for process in envs.processes)


@pytest.mark.parametrize(("episode", "t"), [(0, 0), (0, 1), (1, 0), (1, 3)])
def test_train__a_process_that_dies_is_an_error(episode, t):
    """In a reset or a step, of the first episode or a later one; and the others are stopped."""
    with pytest.raises(WorkerError, match=r"^environment 1: its process died"):
        run_in_processes(episode=episode, t=t)


@pytest.mark.parametrize("victim", [0, 1])
def test_train__a_process_that_was_killed_between_two_steps_is_an_error(victim, made):
    config = Config(environments=2, vectorization="async", network=SMALL)
    training = a2c.train(Scripted, config, a2c.init(Scripted, config, 0))
    next(training)
    process = made[-1].processes[victim]
    process.kill()
    with watchdog():
        process.join()
        with pytest.raises(WorkerError, match=rf"^environment {victim}: its process died"):
            list(islice(training, 9))
    assert not any(process.is_alive() for process in made[-1].processes)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium prints what the process raised
def test_train__an_error_in_a_process_is_that_error():
    with pytest.raises(LookupError, match="of its own"):
        run_in_processes(episode=1, t=2, raises=True)
