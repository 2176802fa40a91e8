"""A2C: A3C's gradient averaged, recomputed from what the environments gave, in every reset mode."""

import copy
import tracemalloc
from dataclasses import replace
from itertools import islice

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from hypothesis import given
from hypothesis import strategies as st
from test_reinforce import NETWORKS, Scripted

from algorithms import a2c, a3c
from algorithms.a2c import Config, Update, gradient, objective, returns
from algorithms.common.episode import BLOCK
from algorithms.common.policy import Network, make_actor_critic
from algorithms.common.segment import Segment
from algorithms.common.vector import Single, Stream, draw, make, merge, noise_rows, normalize
from npgrad import Gaussian, Softmax, check_gradient, grad

SEEDS = st.integers(0, 2**32 - 1)
UNIT = st.sampled_from((0.0, 0.5, 0.9, 1.0)) | st.floats(0, 1)
MODES = st.sampled_from(AutoresetMode)
TRUNKS = st.sampled_from(("shared", "separate"))
REDUCTIONS = st.sampled_from(("sum", "mean"))
EXACT = dict(network=Network(hidden=(3,)), precision="double", optimizer="sgd", annealed=False)
CLOSE = dict(rtol=1e-9, atol=1e-11)


def run(env, config, seed, updates, **options):
    state = a2c.init(env, config, seed)
    return state, list(islice(a2c.train(env, config, state, **options), updates))


class Wide(Scripted):
    """Takes continuous actions as they are drawn, unclipped and unrounded."""

    def __init__(self, d=0, **how):
        super().__init__(d=d, **how)
        if d:
            self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (d,), float)


def vector(lengths, mode, d=0, truncate=False):
    """Scripted episodes of these lengths, an environment each, by Gymnasium's own hand."""
    makers = [lambda T=T: Wide(T=T, d=d, truncate=truncate) for T in lengths]
    return SyncVectorEnv(makers, autoreset_mode=mode)


class Recorder(VectorWrapper):
    """Keeps, of each step: observations before, actions, rewards, terminated, truncated, and the
    observations of the states that it led to. A reset step has rewards None, and hands on 100."""

    def __init__(self, env):
        super().__init__(env)
        self.log, self.mode = [], env.metadata["autoreset_mode"]

    def reset(self, **how):
        s, info = self.env.reset(**how)
        self.s = np.array(s)
        if "options" not in how:
            self.over = np.zeros(self.num_envs, bool)
        return s, info

    def step(self, actions):
        before, resets = self.s, self.over & (self.mode is AutoresetMode.NEXT_STEP)
        s, r, terminated, truncated, info = self.env.step(actions)
        self.s, after = np.array(s), np.array(s)
        self.over = terminated | truncated
        if self.mode is AutoresetMode.SAME_STEP:
            for i in np.flatnonzero(self.over):
                after[i] = info["final_obs"][i]
        rewards = [None if reset else float(x) for reset, x in zip(resets, r)]
        flags = terminated.tolist(), truncated.tolist()
        self.log.append((before, np.array(actions), rewards, *flags, after))
        return s, np.where(resets, 100.0, r), terminated, truncated, info


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


def recomputed(theta, policy, config, steps, N):
    """dθ of n recorded steps: A3C's gradients of all their stretches."""
    total, samples = np.zeros_like(theta), 0
    for S, A, r, terminated, after in pieces(steps):
        v = policy.model(theta, S)[:, -1]
        last = 0.0 if terminated else policy.model(theta, after)[-1]
        R = a3c.returns(r, config.gamma, last)
        total += a3c.gradient(theta, policy, S, A, R, R - v, config.beta, config.value_coef)
        samples += len(r)
    return total / (N if config.reduction == "sum" else max(samples, 1)), samples


# the gradient


def samples(rng, policy, d, k):
    """S, A, R, advantage, weight of k samples, some with weight 0."""
    A = rng.normal(size=(k, d)) if d else rng.integers(3, size=k)
    weight = rng.random(k) * rng.integers(2, size=k)
    return rng.normal(size=(k, 2)), A, rng.normal(size=k), rng.normal(size=k), weight


@given(NETWORKS, TRUNKS, st.integers(0, 2), st.integers(1, 5), UNIT, UNIT, SEEDS)
def test_gradient__explicit_is_tape_is_numbers(network, trunk, d, k, beta, value_coef, seed):
    rng = np.random.default_rng(seed)
    policy = make_actor_critic(Scripted(d=d), network, trunk)
    theta = rng.normal(size=policy.model.layout.size)
    data = policy, *samples(rng, policy, d, k), beta, value_coef
    explicit = gradient(theta, *data)
    np.testing.assert_allclose(explicit, grad(objective)(theta, *data), **CLOSE)
    check_gradient(
        lambda theta: objective(theta, *data),
        lambda theta: gradient(theta, *data),
        theta,
        layout=policy.model.layout,
    )


@given(TRUNKS, st.integers(0, 2), st.integers(1, 4), st.integers(1, 4), UNIT, UNIT, SEEDS)
def test_gradient__is_a3cs_summed_or_averaged(trunk, d, n, N, beta, c, seed):
    """One environment and "sum": A3C's gradient. N of them: 1/N Σ_i Δ_i where the founding notes
    (3.3.2) have Σ_i Δ_i; and "mean" is the average of the N "mean" ones, 1/n Δ_i each."""
    rng = np.random.default_rng(seed)
    policy = make_actor_critic(Scripted(d=d), Network(hidden=(3,)), trunk)
    theta = rng.normal(size=policy.model.layout.size)
    each = [samples(rng, policy, d, n)[:-1] for _ in range(N)]
    delta = np.array([a3c.gradient(theta, policy, *data, beta, c) for data in each])
    of = lambda data, weight: gradient(theta, policy, *data, weight, beta, c)
    all_of_them = [np.concatenate(parts) for parts in zip(*each)]
    np.testing.assert_allclose(of(each[0], np.ones(n)), delta[0], **CLOSE)
    summed = of(all_of_them, np.full(n * N, 1 / N))
    averaged = of(all_of_them, np.full(n * N, 1 / (n * N)))
    np.testing.assert_allclose(summed, delta.sum(0) / N, **CLOSE)
    singly = [of(data, np.full(n, 1 / n)) for data in each]
    np.testing.assert_allclose(averaged, np.mean(singly, 0), **CLOSE)
    np.testing.assert_allclose(n * averaged, summed, **CLOSE)


@given(UNIT, st.integers(1, 5), st.integers(1, 3), SEEDS)
def test_returns__begin_anew_where_the_discount_is_0(gamma, n, N, seed):
    rng = np.random.default_rng(seed)
    r, over, last = rng.normal(size=(n, N)), rng.random((n, N)) < 0.4, rng.normal(size=N)
    R = returns(r, gamma * ~over, last)
    for t, i in np.ndindex(n, N):
        ends = np.flatnonzero(over[t:, i])
        k = t + ends[0] if ends.size else n - 1
        G = sum(gamma ** (j - t) * r[j, i] for j in range(t, k + 1))
        bootstrap = 0.0 if ends.size else gamma ** (n - t) * last[i]
        assert abs(R[t, i] - G - bootstrap) <= 1e-12


# the whole update, from what the environments gave


@given(
    MODES,
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 6),
    st.booleans(),
    TRUNKS,
    st.integers(0, 2),
    REDUCTIONS,
    UNIT,
    SEEDS,
)
def test_train__is_recomputed_from_the_recorded_stream(
    mode, lengths, n, truncate, trunk, d, reduction, gamma, seed
):
    """Four updates, so that what a buffer holds from those before would show."""
    envs = Recorder(vector(lengths, mode, d, truncate))
    config = Config(
        n_steps=n, trunk=trunk, reduction=reduction, gamma=gamma, step_size=0.02, **EXACT
    )
    policy, N = make_actor_critic(Single(envs), config.network, trunk), len(lengths)
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


class Known(gymnasium.Env):
    """Environment i: all of its trajectory is a formula. Episodes of T steps, every other one
    truncated."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), float)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, i, T):
        self.i, self.T, self.episode = i, T, -1

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
        return np.sin(self.i + 3.0 * episode + 0.5 * t) + action

    def cut(self, episode):
        return (self.i + episode) % 2 == 0


@given(st.integers(1, 3), st.integers(1, 4), st.integers(2, 9), TRUNKS, REDUCTIONS, SEEDS)
def test_autoreset_modes__give_one_gradient(N, T, k, trunk, reduction, seed):
    """k transitions in each environment, whatever steps it takes to reset: θ moves as the formulas
    of the environment and A3C's gradient say."""
    rng = np.random.default_rng(seed)
    A = rng.integers(3, size=(k, N))
    config, moved = Config(trunk=trunk, reduction=reduction, step_size=1.0, **EXACT), {}
    worlds = [Known(i, T) for i in range(N)]
    policy = make_actor_critic(worlds[0], config.network, trunk)
    theta = rng.normal(size=policy.model.layout.size)
    for mode in AutoresetMode:
        envs = SyncVectorEnv([lambda i=i: Known(i, T) for i in range(N)], autoreset_mode=mode)
        resets = (k - 1) // T if mode is AutoresetMode.NEXT_STEP else 0
        state = a2c.init(envs, config, 0)
        state.theta[:] = theta
        segment = Segment(policy, state.theta, k + resets, N)
        stream = Stream(envs, k + resets, np.dtype(float))
        update = Update(config, state, policy, segment, stream, None)
        stream.start(0)
        actions = iter(A)
        for t in range(k + resets):
            segment.act(t, stream.s)
            resetting = resets and t % (T + 1) == T
            update.A[t] = rng.integers(3, size=N) if resetting else next(actions)
            stream.step(t, update.A[t])
        update()
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
            R = a3c.returns(r, config.gamma, last)
            advantage = R - policy.model(theta, S)[:, -1]
            total += a3c.gradient(theta, policy, S, a, R, advantage, config.beta, config.value_coef)
    expected = total / (N if reduction == "sum" else N * k)
    for mode, step in moved.items():
        np.testing.assert_allclose(step, expected, err_msg=str(mode), **CLOSE)


@given(TRUNKS, st.integers(0, 2), st.permutations(range(4)), REDUCTIONS, SEEDS)
def test_update__does_not_mind_the_order_of_the_environments(trunk, d, order, reduction, seed):
    """The same episodes and actions in other rows: the same θ, to rounding."""
    rng, moved = np.random.default_rng(seed), []
    lengths, n = (1, 2, 3, 5), 6
    A = rng.normal(size=(n, 4, d)) if d else rng.integers(3, size=(n, 4))
    config = Config(trunk=trunk, reduction=reduction, step_size=1.0, **EXACT)
    for rows in (range(4), order):
        envs = vector([lengths[i] for i in rows], AutoresetMode.NEXT_STEP, d)
        state, policy = (
            a2c.init(envs, config, seed),
            make_actor_critic(Single(envs), config.network, trunk),
        )
        theta = state.theta.copy()
        segment, stream = Segment(policy, state.theta, n, 4), Stream(envs, n, np.dtype(float))
        update = Update(config, state, policy, segment, stream, None)
        stream.start([int(i) for i in rows])
        for t in range(n):
            segment.act(t, stream.s)
            update.A[t] = A[t, list(rows)]
            stream.step(t, update.A[t])
        update()
        moved.append(state.theta - theta)
    np.testing.assert_allclose(*moved, **CLOSE)


@pytest.mark.parametrize("d", [0, 2])
@given(mode=MODES, trunk=TRUNKS, seed=SEEDS)
def test_train__gradient_can_be_the_tapes(d, mode, trunk, seed):
    config = Config(n_steps=4, trunk=trunk, step_size=0.1, **EXACT)
    explicit, _ = run(vector((2, 3), mode, d), config, seed, 3)
    tape, _ = run(vector((2, 3), mode, d), config, seed, 3, gradient=grad(objective))
    np.testing.assert_allclose(explicit.theta, tape.theta, **CLOSE)


@given(MODES, TRUNKS, st.integers(0, 2), SEEDS)
def test_train__in_single_precision_goes_the_same_way(mode, trunk, d, seed):
    """Three updates: rounding errors of 2⁻²⁴, grown by a few hundred operations at most."""
    config = Config(n_steps=4, trunk=trunk, network=Network(hidden=(3,)), precision="double")
    double, _ = run(vector((2, 3), mode, d), config, seed, 3)
    single, _ = run(vector((2, 3), mode, d), replace(config, precision="single"), seed, 3)
    assert single.theta.dtype == single.statistics.dtype == np.float32
    assert np.abs(single.theta - double.theta).max() <= 1e-3


@given(MODES, st.sampled_from(("sgd", "momentum", "rmsprop")), st.booleans(), SEEDS)
def test_train__goes_on_from_a_state_alone(mode, optimizer, normal, seed):
    """What config and a State at a yield determine: everything after."""
    options = dict(normalize_observations=normal, normalize_returns=normal, optimizer=optimizer)
    config = Config(n_steps=3, network=Network(hidden=(3,)), **options)
    state, _ = run(vector((2, 3), mode), config, seed, 2)
    other = copy.deepcopy(state)
    for again in (state, other):
        list(islice(a2c.train(vector((2, 3), mode), config, again), 3))
    assert state.rng.bit_generator.state == other.rng.bit_generator.state
    for name in ("theta", "seen", "returned", "statistics", "T", "updates", "episodes"):
        np.testing.assert_array_equal(getattr(state, name), getattr(other, name))


@given(st.booleans(), st.sampled_from((np.inf, 1e-3)), st.integers(1, 40))
def test_train__anneals_clips_and_ends(annealed, max_norm, T_max):
    """θ moves by η_T dθ, ‖dθ‖ ≤ max_norm, until T > T_max: one update after T_max at the most."""
    options = EXACT | dict(annealed=annealed)
    config = Config(n_steps=3, T_max=T_max, max_norm=max_norm, step_size=0.5, **options)
    envs = Recorder(vector((2, 3), AutoresetMode.SAME_STEP))
    policy, state = make_actor_critic(Single(envs), config.network, "separate"), None
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


# what is drawn


@given(st.integers(1, 300), st.integers(1, 3), SEEDS)
def test_noise_rows__are_the_heads_and_draw_what_it_samples(steps, N, seed):
    for head in (Softmax(3), Gaussian(2), Gaussian(1, spherical=True)):
        rng = np.random.default_rng(seed)
        rows = noise_rows(head, np.random.default_rng(seed), N, np.dtype(float))
        expected = np.concatenate([head.noise(rng, BLOCK) for _ in range(N * (1 + steps // BLOCK))])
        h = np.random.default_rng(seed + 1).normal(size=(N, head.size))
        for t, noise in enumerate(islice(rows, steps)):
            theirs = expected[t * N : t * N + N]
            np.testing.assert_array_equal(noise, theirs)
            a = np.empty(N, int) if isinstance(head, Softmax) else np.empty((N, head.d))
            draw(head, h, noise, a)
            np.testing.assert_array_equal(a, head.sample(h, theirs))


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


def scaling(seen):
    """Features as these rows (k, 2) would have them normalised."""
    if not len(seen):
        return lambda s: s
    mean, sd = seen.mean(0), np.sqrt(seen.var(0) + 1e-8)
    return lambda s: np.clip((s - mean) / sd, -10, 10)


@given(MODES, st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), UNIT, SEEDS)
def test_train__normalizes_by_what_it_has_seen(mode, lengths, n, gamma, seed):
    """The gradient of every update is that of features and rewards scaled by the moments of the
    recorded stream: features' up to the rollout before, rewards' with this rollout's."""
    envs = Recorder(vector(lengths, mode, truncate=True))
    options = dict(normalize_observations=True, normalize_returns=True, gamma=gamma)
    config = Config(n_steps=n, reduction="sum", step_size=0.3, **options, **EXACT)
    policy = make_actor_critic(Single(envs), config.network, config.trunk)
    state, N = a2c.init(envs, config, seed), len(lengths)
    theta, seen, sums, trace = state.theta.copy(), np.empty((0, 2)), [], np.zeros(N)
    for k, _ in enumerate(islice(a2c.train(envs, config, state), 4)):
        steps, scaled = envs.log[k * n : k * n + n], []
        normalized = scaling(seen)
        for before, _, rewards, terminated, truncated, _ in steps:
            for i, r in enumerate(rewards):
                if r is not None:
                    trace[i] = gamma * trace[i] + r
                    sums.append(trace[i])
                    seen = np.append(seen, before[i : i + 1].astype(float), 0)
                    trace[i] *= not (terminated[i] or truncated[i])
        sd = np.sqrt(np.var(sums) + 1e-8)
        for before, a, rewards, *ends, after in steps:
            r = [None if r is None else r / sd for r in rewards]
            before, after = (normalized(s.astype(float)) for s in (before, after))
            scaled.append((before, a, r, *ends, after))
        d_theta, _ = recomputed(theta, policy, config, scaled, N)
        np.testing.assert_allclose(state.theta - theta, 0.3 * d_theta, rtol=1e-6, atol=1e-8)
        theta = state.theta.copy()
    np.testing.assert_allclose(state.seen[1], seen.mean(0), atol=1e-12)


def test_actor__normalizes_as_training_did():
    config = Config(normalize_observations=True, network=Network(hidden=(3,)), precision="double")
    env, rng = Scripted(), np.random.default_rng(0)
    state, s = a2c.init(env, config, 0), np.array([3.0, -1.0])
    merge(state.seen, 5 * rng.normal(size=(50, 2)), np.ones(50, bool))
    act = a2c.actor(env, config)
    plain = a2c.actor(env, replace(config, normalize_observations=False))
    parameters = {name: getattr(state, name) for name in state.parameters}
    scaled = normalize(state.seen, s)
    for _ in range(20):
        assert act(parameters, s, np.random.default_rng(1)) == plain(
            parameters, scaled, np.random.default_rng(1)
        )
    h = make_actor_critic(env, config.network, "separate").model(state.theta, scaled)[:-1]
    assert act(parameters, s, rng, greedy=True) == h.argmax()


# environments


@pytest.mark.parametrize("vectorization", ["sync", "async", "vector_entry_point"])
def test_train__makes_its_environments_and_closes_them(vectorization, monkeypatch):
    made = []
    monkeypatch.setattr(a2c, "make", lambda *how: made.append(make(*how)) or made[0])
    config = Config(environments=2, vectorization=vectorization)
    env = gymnasium.make("CartPole-v1")
    state = a2c.init(env, config, 0)
    training = a2c.train(env, config, state)
    for metrics in islice(training, 3):
        assert metrics.steps <= state.T
    assert made[0].num_envs == 2 and made[0] is not env
    closed = []
    monkeypatch.setattr(made[0], "close", lambda close=made[0].close: closed.append(close()))
    training.close()
    assert closed == [None]


def test_train__copies_an_environment_without_a_spec_and_leaves_a_vector_open():
    env = Known(0, 3)
    state, metrics = run(env, Config(environments=3, n_steps=4), 0, 2)
    assert metrics[-1].steps == state.T == 3 * (8 - 2) and env.episode == -1
    envs = vector((2, 3), AutoresetMode.NEXT_STEP)
    run(envs, Config(environments=7), 0, 2)
    assert not envs.closed and envs.num_envs == 2


def test_train__takes_discrete_observations_and_actions_that_begin_anywhere():
    class Shifted(Known):
        observation_space = gymnasium.spaces.Discrete(4, start=3)
        action_space = gymnasium.spaces.Discrete(2, start=-1)

        def state(self, episode, t):
            return 3 + t

        def step(self, action):
            assert self.action_space.contains(action)
            return super().step(action)

    for mode in AutoresetMode:
        envs = SyncVectorEnv([lambda: Shifted(1, 3)] * 2, autoreset_mode=mode)
        state, _ = run(envs, Config(normalize_observations=True), 0, 4)
        assert state.seen.shape == (3, 4) and state.T > 20


class Steady(gymnasium.vector.VectorEnv):
    """Gives the same arrays, its own, at every step; every third step is an episode's last."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, N, d=0):
        self.num_envs, self.t = N, 0
        self.single_observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
        box = gymnasium.spaces.Box(-np.inf, np.inf, (d,))
        self.single_action_space = box if d else gymnasium.spaces.Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, N)
        self.action_space = batch_space(self.single_action_space, N)
        self.s, self.r = np.full((N, 2), 0.5, np.float32), np.ones(N)
        self.flags = np.zeros((2, N), bool)

    def reset(self, *, seed=None, options=None):
        return self.s, {}

    def step(self, actions):
        self.t += 1
        self.flags[1, 0] = self.t % 3 == 0
        return self.s, self.r, *self.flags, {}


@pytest.mark.parametrize("d", [0, 1])
@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_train__allocates_nothing_that_grows_with_n_or_N(trunk, d):
    """Both sizes are beyond those of NumPy's own buffers, of 8192 numbers."""
    peaks = []
    for N, n in ((128, 32), (256, 64)):
        config = Config(n_steps=n, trunk=trunk, network=Network(hidden=(4, 4)), T_max=10**9)
        envs = Steady(N, d)
        training = a2c.train(envs, config, a2c.init(envs, config, 0))
        for _ in islice(training, 6):  # through every part of the noise
            pass
        tracemalloc.start()
        for _ in islice(training, 6):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= peaks[0] + 8192, peaks  # n N numbers are 16384 bytes, then 65536


# what cannot be


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of BLAS, on some processors
@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["reward", "observation", "last observation"])
def test_train__raises_on_what_is_not_finite(mode, bad, where):
    """Before θ moves; the environment at fault is named. tanh would make a finite v̂ of ∞."""

    class Broken(Known):
        def step(self, action):
            s, r, terminated, truncated, info = super().step(action)
            if where == "reward" and self.t == 2:
                r = bad
            last = self.t == self.T
            if where != "reward" and last == (where == "last observation"):
                s[1] = bad
            return s, r, False, terminated or truncated, info

    envs = SyncVectorEnv([lambda: Known(0, 9), lambda: Broken(1, 3)], autoreset_mode=mode)
    n = 1 if where == "observation" else 5
    config = Config(n_steps=n, normalize_returns=where == "reward", **EXACT)
    state = a2c.init(envs, config, 0)
    theta = state.theta.copy()
    with pytest.raises(FloatingPointError, match=r"^environment 1 returned reward"):
        list(islice(a2c.train(envs, config, state), 2))
    np.testing.assert_array_equal(state.theta, theta)
    assert np.isfinite(state.returned).all(), "nor does it enter the moments of returns"


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("t", [1, 3])
def test_train__raises_before_what_is_not_finite_is_normalized(mode, t):
    class Broken(Known):
        def state(self, episode, t_now):
            return np.full(2, np.inf if (episode, t_now) == (2, t) else t_now)

    envs = SyncVectorEnv([lambda: Broken(0, 3)], autoreset_mode=mode)
    config = Config(n_steps=4, normalize_observations=True, normalize_returns=True)
    state = a2c.init(envs, config, 0)
    with pytest.raises(FloatingPointError, match=r"^the environment returned observation .*inf"):
        for _ in islice(a2c.train(envs, config, state), 5):
            assert np.isfinite(state.seen).all() and np.isfinite(state.theta).all()


def test_train__raises_where_same_step_gives_no_final_observation():
    class Silent(VectorWrapper):
        def step(self, actions):
            *given, _ = self.env.step(actions)
            return *given, {}

    envs = Silent(vector((1, 2), AutoresetMode.SAME_STEP))
    with pytest.raises(ValueError, match=r'^info\["final_obs"\] is missing'):
        run(envs, Config(), 0, 1)


def test_train__raises_when_theta_diverges():
    config = Config(step_size=1e200, optimizer="sgd", precision="double", annealed=False)
    envs = vector((2, 3), AutoresetMode.NEXT_STEP)
    with pytest.raises(FloatingPointError, match="theta has diverged"):
        run(envs, config, 0, 10)


SPACES = dict(
    image=gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8),
    dict=gymnasium.spaces.Dict(x=gymnasium.spaces.Discrete(2)),
)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("name", ["observation_space", "action_space"])
def test_init__raises_for_spaces_without_a_policy(space, name):
    env = Known(0, 3)
    setattr(env, name, space)
    with pytest.raises(ValueError, match=f"^{name} = "):
        a2c.init(env, Config(), 0)
    with pytest.raises(ValueError, match=f"^{name} = "):
        a2c.init(SyncVectorEnv([lambda: copy.deepcopy(env)] * 2), Config(), 0)


def test_init__raises_for_vectors_that_do_not_fit():
    envs = vector((2, 3), AutoresetMode.NEXT_STEP)
    for mode in (None, "NextStep"):
        envs.metadata["autoreset_mode"] = mode
        with pytest.raises(ValueError, match=r'^metadata\["autoreset_mode"\] = '):
            a2c.init(envs, Config(), 0)
    one, two = Known(0, 3), Known(1, 3)
    two.observation_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), float)
    envs = SyncVectorEnv([lambda: one, lambda: two], observation_mode="different")
    with pytest.raises(ValueError, match=r"(?s)^observation_space = .*: must be 2 times Box"):
        a2c.init(envs, Config(), 0)
    config = Config(vectorization="vector_entry_point")
    for env in (gymnasium.make("Acrobot-v1"), Known(0, 3)):
        with pytest.raises(ValueError, match=r"^vectorization = 'vector_entry_point': must be"):
            a2c.init(env, config, 0)


@pytest.mark.parametrize(
    "bad",
    [
        dict(environments=0),
        dict(n_steps=0),
        dict(T_max=0),
        dict(gamma=1.5),
        dict(beta=-1.0),
        dict(reduction="max"),
        dict(trunk="both"),
        dict(vectorization="gpu"),
        dict(optimizer="adam"),
        dict(eps=0.0),
        dict(max_norm=0.0),
        dict(precision="half"),
    ],
)
def test_config__names_what_is_out_of_range(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"^{name} = {value!r}: must be"):
        Config(**bad)
