"""A3C: gradients, the method written again as a plain loop, reductions, and any schedule."""

import copy
from dataclasses import replace
from functools import partial
from itertools import count, islice
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_actor_critic import Constant, Recorder, times
from test_reinforce import NETWORKS, Scripted

from algorithms import a3c, actor_critic
from algorithms.a3c import Config, gradient, objective, returns
from algorithms.common.asynchronous import LAST
from algorithms.common.drivers import WorkerError, interleave
from algorithms.common.policy import Network, make_actor_critic, make_policy
from npgrad import check_gradient, complex_step, grad

SEEDS = st.integers(0, 2**32 - 1)
TRUNKS = st.sampled_from(("shared", "separate"))
LINEAR = Network(approximator="linear")
SGD = dict(optimizer="sgd", annealed=False)
OPTIMIZERS = st.sampled_from(("sgd", "momentum", "rmsprop", "shared_rmsprop"))
SCHEDULES = st.lists(st.integers(0, 2), max_size=60) | st.builds(
    lambda seed: np.random.default_rng(seed).integers(3, size=90).tolist(), SEEDS
)


class Wander(gymnasium.Env):
    """s ← ½ s + what the action does + noise. Any step may terminate or truncate the episode."""

    def __init__(self, d=0, n=2):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n,))
        self.action_space = (
            gymnasium.spaces.Box(-1.0, 1.0, (d,)) if d else gymnasium.spaces.Discrete(3)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = self.np_random.normal(size=self.observation_space.shape)
        return self.s, {}

    def step(self, action):
        assert self.action_space.contains(action)
        noise = self.np_random.normal(size=self.s.size)
        self.s = 0.5 * self.s + 0.3 * np.sum(action) + 0.2 * noise
        u = self.np_random.random()
        return self.s, float(self.s[0] - 0.1 * np.sum(action)), u < 0.15, u > 0.85, {}


def crew(method, env, config, state, **options):
    """(workers, their recorders), each with an environment of its own."""
    envs = [Recorder(copy.deepcopy(env)) for _ in range(config.workers)]
    return [method(i, e, config, state, **options) for i, e in enumerate(envs)], envs


def stream(seed, i, k):
    """What worker i draws its k-th episode from."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i, k)))


def by_hand(optimizer, config):
    """dθ -> step, as §4.5 writes it: its statistics start at 0."""
    g, alpha = 0.0, config.decay

    def step(d, eta):
        nonlocal g
        if optimizer == "sgd":
            return eta * d
        g = alpha * g + (1 - alpha) * (d if optimizer == "momentum" else d**2)
        return eta * (g if optimizer == "momentum" else d / np.sqrt(g + config.eps))

    return step


def by_hand_each(config):
    """by_hand of every worker; what is shared_..., one for all."""
    name = config.optimizer.removeprefix("shared_")
    each = [by_hand(name, config) for _ in range(config.workers)]
    return each if name == config.optimizer else each[:1] * config.workers


@st.composite
def segments(draw):
    """(θ, policy, S, A, R, advantage, β, c); no output is beyond ±5: NumPy's log1p of a complex
    number, in σ² = softplus(ω), is good to eps/σ² only."""
    d, k, rng = draw(st.integers(0, 2)), draw(st.integers(1, 4)), np.random.default_rng(draw(SEEDS))
    policy = make_actor_critic(Scripted(d=d), draw(NETWORKS), draw(TRUNKS))
    theta = rng.normal(size=policy.model.layout.size)
    S, (R, advantage) = rng.normal(size=(k, 2)), rng.normal(size=(2, k))
    while np.abs(policy.model(theta, S)).max() > 5.0:
        theta *= 0.7
    A = rng.normal(size=(k, d)) if d else rng.integers(3, size=k)
    beta, c = (draw(st.sampled_from((0.0, 1.0)) | st.floats(0, 2)) for _ in range(2))
    return theta, policy, S, A, R, advantage, beta, c


# gradients and returns


@given(segments())
def test_gradient__explicit_is_tape_is_numbers(segment):
    theta, policy, *data = segment
    f, explicit = lambda theta: objective(theta, policy, *data), gradient(theta, policy, *data)
    np.testing.assert_allclose(explicit, grad(f)(theta), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(explicit, complex_step(f, theta), rtol=1e-9, atol=1e-10)
    check_gradient(
        f, lambda theta: gradient(theta, policy, *data), theta, layout=policy.model.layout,
        atol=1e-14,
    )  # fmt: skip


@given(segments())
def test_objective__is_the_sum_of_its_three_terms(segment):
    theta, policy, S, A, R, advantage, beta, c = segment
    y = policy.model(theta, S)
    expected = sum(
        advantage[i] * policy.head.log_prob(y[i, :-1], A[i])
        + beta * policy.head.entropy(y[i, :-1])
        - c * (R[i] - y[i, -1]) ** 2 / 2
        for i in range(len(S))
    )
    got = objective(theta, policy, S, A, R, advantage, beta, c)
    assert got == pytest.approx(expected, rel=1e-11, abs=1e-11)


@given(segments())
def test_gradient__is_the_sum_over_the_steps(segment):
    theta, policy, S, A, R, advantage, beta, c = segment
    single = [
        gradient(theta, policy, *(x[i : i + 1] for x in (S, A, R, advantage)), beta, c)
        for i in range(len(S))
    ]
    whole = gradient(theta, policy, S, A, R, advantage, beta, c)
    np.testing.assert_allclose(whole, np.sum(single, 0), rtol=1e-9, atol=1e-10)


@given(SEEDS, st.integers(1, 7), st.floats(0, 1), st.floats(-2, 2))
def test_returns__are_the_double_sum(seed, k, gamma, last):
    """R_i = Σ_j γ^j r_{i+j} + γ^{k−i} V."""
    r = np.random.default_rng(seed).normal(size=k)
    for i, R in enumerate(returns(r.tolist(), gamma, last)):
        expected = sum(gamma**j * r[i + j] for j in range(k - i)) + gamma ** (k - i) * last
        assert abs(R - expected) <= 1e-12


@given(NETWORKS, TRUNKS, st.integers(0, 2), SCHEDULES, SEEDS, st.sampled_from(("double", "single")))
def test_train__gradients_can_be_the_pages_or_the_tapes(network, trunk, d, turns, seed, precision):
    """The same θ after every update of a whole run."""
    config = Config(workers=3, trunk=trunk, t_max=3, network=network, precision=precision, beta=0.1,
                    step_size=0.01)  # fmt: skip
    paths = []
    for g in (None, gradient, grad(objective)):
        state = a3c.init(Wander(d), config, seed)
        run = a3c.train(Wander(d), config, state, g, schedule=turns)
        paths.append(np.array([state.theta.copy() for _ in run]))
    close = dict(rtol=1e-8, atol=1e-10) if precision == "double" else dict(rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(paths[0], paths[1], **close)
    np.testing.assert_allclose(paths[0], paths[2], **close)


# one worker


def sequential(env, config, seed):
    """Algorithm S3, one worker, the gradients being the tape's: yields (θ, T) after each update."""
    policy = make_actor_critic(env, config.network, config.trunk)
    model, head, step = policy.model, policy.head, by_hand(config.optimizer, config)
    theta, T, episodes, over = model.init(np.random.default_rng(seed)), 0, 0, True
    while T <= config.T_max:
        if over:
            episodes += 1
            rng = stream(seed, 0, episodes)
            s, _ = env.reset(seed=int(rng.integers(2**31)))
            noise, t = head.noise(rng, 1000), 0
        S, A, r, over = [], [], [], False
        while len(S) < config.t_max and not over:
            S.append(np.array(s, float))
            A.append(head.sample(model(theta, S[-1])[:-1], noise[t]))
            s, reward, terminated, truncated, _ = env.step(policy.decode(A[-1]))
            r.append(reward)
            t, over = t + 1, terminated or truncated
        V = model(theta, np.array([*S, s], float))[:, -1]
        V[-1] *= not terminated
        k, gamma = len(r), config.gamma
        R = [sum(gamma**j * r[i + j] for j in range(k - i)) + gamma ** (k - i) * V[k]
             for i in range(k)]  # fmt: skip
        data = np.array(S), np.array(A), np.array(R), R - V[:k]
        d = grad(objective)(theta, policy, *data, config.beta, config.value_coef)
        d *= min(1.0, config.max_norm / np.linalg.norm(d))
        eta = config.step_size * (max(0.0, 1 - T / config.T_max) if config.annealed else 1.0)
        theta, T = theta + step(d, eta), T + k
        yield theta, T


@given(
    NETWORKS,
    TRUNKS,
    st.integers(0, 2),
    st.integers(1, 6),
    OPTIMIZERS,
    st.booleans(),
    st.sampled_from((np.inf, 0.5)),
    SEEDS,
)
def test_train__one_worker_is_the_sequential_method(
    network, trunk, d, t_max, optimizer, annealed, max_norm, seed
):
    config = Config(
        workers=1, T_max=40, gamma=0.9, step_size=0.02, annealed=annealed, optimizer=optimizer,
        decay=0.8, max_norm=max_norm, network=network, t_max=t_max, beta=0.05, value_coef=0.5,
        trunk=trunk,
    )  # fmt: skip
    optimizer = "rmsprop" if optimizer == "shared_rmsprop" else optimizer
    state = a3c.init(Wander(d), config, seed)
    book = sequential(Wander(d), replace(config, optimizer=optimizer), seed)
    for (theta, T), metrics in zip(book, a3c.train(Wander(d), config, state), strict=True):
        np.testing.assert_allclose(state.theta, theta, rtol=1e-7, atol=1e-9)
        assert metrics.steps == T == state.T.sum()
    assert config.T_max < T <= config.T_max + t_max


@given(
    NETWORKS,
    st.integers(0, 2),
    st.floats(0, 1),
    st.floats(0, 2),
    SEEDS,
)
def test_train__segments_of_one_step_are_the_one_step_actor_critic(network, d, gamma, c, seed):
    """t_max = 1, β = 0, two networks, sgd: actor_critic.one_step with I = 1, α^w = c α^θ."""
    config = Config(workers=1, t_max=1, beta=0.0, value_coef=c, gamma=gamma, step_size=0.05,
                    network=network, **SGD)  # fmt: skip
    env = Recorder(Wander(d))
    state = a3c.init(env, config, seed)
    policy = make_actor_critic(env, network, "separate")
    n = policy.model.first.layout.size
    pi, value = make_policy(env, network), policy.model.second
    box, drawn = actor_critic.OneStep(gamma=gamma), []

    def tape(theta, policy, S, A, *rest):
        drawn.append(A[0])
        return gradient(theta, policy, S, A, *rest)

    worker = a3c.worker(0, env, config, state, tape)
    for _ in range(12):
        theta, w = state.theta[:n].copy(), state.theta[n:].copy()
        list(islice(worker, 3))
        s, _, r, s2, terminated, _ = env.log[-1]
        v, v2 = value(w, s)[0], 0.0 if terminated else value(w, s2)[0]
        dv = times(actor_critic.value_gradient(w, value, s))
        score = times(actor_critic.gradient(theta, pi, s, drawn[-1]))
        steps = []
        ascend = partial(lambda kept, *d: kept.extend(d), steps)
        actor_critic.one_step(box, SimpleNamespace(I=1.0), r, v, v2, dv, score, ascend)
        np.testing.assert_allclose(state.theta[:n], theta + 0.05 * steps[0], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(state.theta[n:], w + 0.05 * c * steps[1], rtol=1e-9, atol=1e-10)


# the end of an episode


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.01, 0.95), st.booleans(), TRUNKS)
def test_worker__truncation_bootstraps_and_termination_does_not(T, t_max, gamma, truncate, trunk):
    """Reward 1 for ever is worth 1/(1−γ), and a time limit takes nothing from it: there every
    advantage is 0, and θ stays. Where the episode really ends, R_i = 1 + γ + ... + γ^{T−t−1}."""
    config = Config(workers=1, t_max=t_max, gamma=gamma, beta=0.0, trunk=trunk, network=LINEAR,
                    **SGD)  # fmt: skip
    env, R = Constant(T, truncate), []
    state = a3c.init(env, config, 0)
    state.theta[-1] = exact = 1 / (1 - gamma)

    def keep(theta, policy, S, A, returns, advantage, *weights):
        R.extend(returns)
        np.testing.assert_allclose(advantage, returns - exact, rtol=1e-9, atol=1e-9)
        return np.zeros_like(theta)

    for _, event, ended in a_turn_each(a3c.worker(0, env, config, state, keep)):
        if event == "pushed" and ended:
            break
    if truncate:
        np.testing.assert_allclose(R, exact, rtol=1e-12)
    else:
        last = R[t_max * ((T - 1) // t_max) :]  # of the segment with the end
        np.testing.assert_allclose(last, [sum(gamma**j for j in range(i)) for i in
                                          range(len(last), 0, -1)], rtol=1e-9)  # fmt: skip


def a_turn_each(*workers):
    return interleave(workers, (i for _ in count() for i in range(len(workers))))


@given(TRUNKS, st.integers(1, 3), SEEDS)
def test_worker__bootstraps_from_the_final_observation(trunk, T, seed):
    """Scripted's is 0.5 wherever its resets begin."""
    config = Config(workers=1, t_max=3, trunk=trunk, network=Network(hidden=(3,)), **SGD)
    env, seen = Scripted(T=T, truncate=True), []
    state = a3c.init(env, config, seed)
    policy = make_actor_critic(env, config.network, trunk)
    V = policy.model(state.theta, np.full(2, 0.5))[-1]
    keep = lambda theta, policy, S, A, R, *rest: seen.append(R) or np.zeros_like(theta)
    for _ in islice(a3c.worker(0, env, config, state, keep), 2):
        pass
    expected = sum(config.gamma**j * env.R[j] for j in range(T)) + config.gamma**T * V
    assert seen[0][0] == pytest.approx(expected, rel=1e-10)


# any schedule


@given(
    SCHEDULES,
    st.integers(1, 4),
    st.integers(0, 2),
    TRUNKS,
    st.sampled_from((np.inf, 0.5)),
    st.booleans(),
    st.integers(5, 60),
    OPTIMIZERS,
    SEEDS,
)
def test_worker__whatever_the_schedule_nothing_is_lost(
    turns, t_max, d, trunk, max_norm, annealed, T_max, optimizer, seed
):
    """After every event: T counts the steps that are in updates, staleness the pushes of others
    since the pull, θ is θ_0 plus the steps pushed, each with the η of its T. Each worker pulls,
    computes and pushes in turn."""
    config = Config(
        workers=3, T_max=T_max, t_max=t_max, trunk=trunk, max_norm=max_norm, annealed=annealed,
        optimizer=optimizer, decay=0.8, step_size=0.01, network=Network(hidden=(3,)),
    )  # fmt: skip
    state, latest, step = a3c.init(Wander(d), config, seed), {}, by_hand_each(config)
    workers, envs = [], [Recorder(Wander(d)) for _ in range(3)]
    for i, env in enumerate(envs):

        def keep(*arguments, i=i):
            latest[i] = gradient(*arguments)
            assert np.array_equal(arguments[0], pulled[i]), "the gradient is at the θ' it acted on"
            return latest[i].copy()

        workers.append(a3c.worker(i, env, config, state, keep))
    pulled, pushes, pushed_at_pull, done, events = {}, [], {}, [0, 0, 0], [[], [], []]
    staleness, theta = np.zeros((3, LAST + 1), int), state.theta.copy()
    for i, event, what in interleave(workers, turns):
        events[i].append(event)
        if event == "pulled":
            pulled[i], pushed_at_pull[i] = state.theta.copy(), len(pushes)
        if event == "computed":
            assert what == len(envs[i].log) - done[i] <= t_max
        if event == "pushed":
            d = latest[i] * min(1.0, max_norm / np.linalg.norm(latest[i]))
            theta += step[i](d, 0.01 * (max(0.0, 1 - sum(done) / T_max) if annealed else 1.0))
            staleness[i, len(pushes) - pushed_at_pull[i]] += 1
            pushes.append(i)
            steps, done[i] = envs[i].log[done[i] :], len(envs[i].log)
            ends = [step[4] or step[5] for step in steps]
            assert not any(ends[:-1]) and (ends[-1] or len(steps) == t_max)
            assert len(what) == ends[-1]
        assert state.T.tolist() == done
        assert state.updates.tolist() == [pushes.count(i) for i in range(3)]
        assert np.array_equal(state.staleness, staleness)
        np.testing.assert_allclose(state.theta, theta, rtol=1e-10, atol=1e-12)
    assert sum(done) <= T_max + 3 * t_max
    for each in events:
        assert each == [("pulled", "computed", "pushed")[n % 3] for n in range(len(each))]


@given(st.integers(1, 4), SEEDS)
def test_worker__reports_the_returns(t_max, seed):
    """Σ R of each episode and its length, whole, however many segments it spans."""
    config, env = Config(workers=1, t_max=t_max, network=LINEAR), Recorder(Wander())
    worker = a3c.worker(0, env, config, a3c.init(env, config, seed))
    for event, what in islice(worker, 90):
        if event == "pushed" and what:
            [(G, length)] = what
            assert length == len(env.log)
            assert G == pytest.approx(sum(step[2] for step in env.log), rel=1e-9, abs=1e-12)
            env.log.clear()


@given(SCHEDULES, OPTIMIZERS, TRUNKS, st.integers(0, 2), SEEDS)
def test_train__stays_finite_and_reports_every_episode(turns, optimizer, trunk, d, seed):
    config = Config(workers=3, T_max=50, optimizer=optimizer, trunk=trunk, step_size=0.05)
    state = a3c.init(Wander(d), config, seed)
    metrics = list(a3c.train(Wander(d), config, state, schedule=turns))
    assert len(metrics) == state.updates.sum() == state.staleness.sum()
    assert np.isfinite(state.theta).all() and np.isfinite(state.statistics).all()
    ended = 0
    for m in metrics:
        ended += len(m.returns)
        assert m.episodes == ended and len(m.lengths) == len(m.returns)
    assert not metrics or metrics[-1].steps == state.T.sum() >= sum(sum(m.lengths) for m in metrics)


@given(SCHEDULES, TRUNKS, st.integers(0, 2), SEEDS)
def test_worker__small_steps_sum_to_the_gradients_at_the_start(turns, trunk, d, seed):
    """(θ − θ_0)/η → Σ of the segment gradients at θ_0 that the workers find each on its own.

    With η = 2⁻²⁸ the sum is off by O(η) and by up to eps |θ|/η = 6e-8 an update.
    """
    config = Config(workers=3, t_max=3, trunk=trunk, step_size=0.0, network=Network(hidden=(3,)),
                    **SGD)  # fmt: skip
    still, alone = a3c.init(Wander(d), config, seed), [[], [], []]
    for i, found in enumerate(alone):
        keep = lambda *arguments, found=found: found.append(gradient(*arguments)) or found[-1]
        worker = a3c.worker(i, Wander(d), config, still, keep)
        list(islice(worker, 3 * (turns.count(i) // 3)))
    config = replace(config, step_size=2.0**-28)
    state = a3c.init(Wander(d), config, seed)
    list(a3c.train(Wander(d), config, state, schedule=turns))
    total = sum((sum(found) for found in alone), np.zeros_like(still.theta))
    moved = (state.theta - still.theta) / config.step_size
    np.testing.assert_allclose(moved, total, rtol=1e-5, atol=1e-5 * (1 + np.abs(total).max()))


@given(SCHEDULES, SCHEDULES, SEEDS)
def test_worker__its_kth_episode_is_the_same_whatever_the_schedule(one, other, seed):
    """While θ stands still; and no two workers' episodes are alike."""
    config = Config(workers=3, t_max=3, step_size=0.0, network=Network(hidden=(3,)))
    logs = []
    for turns in (one, other):
        state = a3c.init(Wander(), config, seed)
        workers, envs = crew(a3c.worker, Wander(), config, state)
        list(interleave(workers, turns))
        logs.append([[(*step[0], step[1], step[2]) for step in env.log] for env in envs])
    for a, b in zip(*logs):
        assert all(x == y for x, y in zip(a, b))
    firsts = [log[0] for log in logs[0] if log]
    assert len(set(firsts)) == len(firsts)


# what a run reports, keeps and refuses


def test_train__round_robin_runs_until_T_passes_T_max():
    config = Config(workers=3, T_max=60, t_max=4, network=LINEAR)
    state = a3c.init(Wander(), config, 1)
    metrics = list(a3c.train(Wander(), config, state))
    assert 60 < metrics[-1].steps <= 60 + 3 * 4 and metrics[-2].steps >= 60 - 4
    assert all(n > 0 for n in state.T) and state.episodes == metrics[-1].episodes > 0
    assert list(a3c.train(Wander(), config, state)) == [], "T is beyond T_max already"


@given(SEEDS, st.integers(0, 6), st.integers(1, 6))
def test_train__state_holds_all_that_changes(seed, before, after):
    """A deep copy of the State at any yield goes on to the same numbers, bit for bit."""
    config = Config(workers=2, network=Network(hidden=(3,)))
    state = a3c.init(Wander(), config, seed)
    list(islice(a3c.train(Wander(), config, state), before))
    resumed = copy.deepcopy(state)
    for s in (state, resumed):
        list(islice(a3c.train(Wander(), config, s), after))
    for name in ("theta", "statistics", "T", "updates", "begun", "staleness", "episodes"):
        assert np.array_equal(getattr(state, name), getattr(resumed, name))


@given(SEEDS, TRUNKS, st.integers(0, 2), OPTIMIZERS)
def test_train__in_single_precision_goes_the_same_way(seed, trunk, d, optimizer):
    """Ten updates: rounding errors of 2⁻²⁴, grown by a few hundred operations at most."""
    config = Config(trunk=trunk, optimizer=optimizer, network=Network(hidden=(3,)))
    thetas = []
    for precision in ("double", "single"):
        config = replace(config, precision=precision)
        state = a3c.init(Wander(d), config, seed)
        list(islice(a3c.train(Wander(d), config, state), 10))
        assert state.theta.dtype == state.statistics.dtype
        thetas.append(state.theta)
    assert thetas[1].dtype == np.float32
    np.testing.assert_allclose(thetas[0], thetas[1], rtol=1e-3, atol=1e-3)


@given(SEEDS)
def test_actor__draws_from_the_policy_or_takes_its_mode(seed):
    rng = np.random.default_rng(seed)
    for env, trunk in ((Wander(), "shared"), (Wander(2), "separate")):
        config = Config(trunk=trunk, network=Network(hidden=(3,)))
        policy = make_actor_critic(env, config.network, trunk)
        theta, s = rng.normal(size=policy.model.layout.size), rng.normal(size=2)
        h, act = policy.model(theta, s)[:-1], a3c.actor(env, config)
        greedy = act({"theta": theta}, s, rng, True)
        assert np.array_equal(greedy, policy.decode(policy.head.mode(h)))
        drawn = act({"theta": theta}, s, np.random.default_rng(seed))
        noise = policy.head.noise(np.random.default_rng(seed), 1)[0]
        assert np.array_equal(drawn, policy.decode(policy.head.sample(h, noise)))


class Bad(Wander):
    """Whose step number `at`, or reset if 0, gives what is not finite."""

    def __init__(self, where, bad, at):
        super().__init__()
        self.where, self.bad, self.at, self.t = where, bad, at, 0

    def reset(self, **how):
        s, info = super().reset(**how)
        return (s * self.bad if self.at == 0 else s), info

    def step(self, action):
        s, r, _, _, info = super().step(action)
        self.t += 1
        if self.t == self.at:
            s, r = (s * self.bad, r) if self.where == "observation" else (s, self.bad)
        return s, r, False, False, info


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    st.sampled_from(("observation", "reward", "reset", "gradient")),
    st.sampled_from((np.nan, np.inf)),
    st.integers(0, 2),
    st.integers(1, 9),
    TRUNKS,
    OPTIMIZERS,
    SEEDS,
)
def test_worker__pushes_nothing_that_is_not_finite(where, bad, j, at, trunk, optimizer, seed):
    """The worker is named; θ, the statistics and the counters stay as they were before."""
    config = Config(workers=3, trunk=trunk, optimizer=optimizer, network=LINEAR)
    state, calls = a3c.init(Wander(), config, seed), []

    def broken(*arguments):
        calls.append(1)
        return gradient(*arguments) * (bad if len(calls) == at else 1.0)

    envs = [Wander(), Wander(), Wander()]
    if where != "gradient":
        envs[j] = Bad(where, bad, 0 if where == "reset" else at)
    options = [broken if where == "gradient" and i == j else None for i in range(3)]
    workers = [a3c.worker(i, envs[i], config, state, options[i]) for i in range(3)]
    message = "gradient is not finite" if where == "gradient" else "the environment returned"
    with pytest.raises(WorkerError, match=f"^worker {j}: FloatingPointError: .*{message}"):
        for _ in a_turn_each(*workers):
            good = copy.deepcopy(state)
    assert np.isfinite(state.theta).all() and np.array_equal(good.theta, state.theta)
    assert np.array_equal(good.statistics, state.statistics)
    assert np.array_equal(good.T, state.T) and np.array_equal(good.updates, state.updates)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_train__yields_no_state_that_is_not_finite():
    """A step that overflows, of a gradient that does not."""
    config = Config(workers=1, step_size=1e308, value_coef=1e5, network=LINEAR, **SGD)
    state = a3c.init(Wander(), config, 0)
    state.theta[:] = 1.0
    with pytest.raises(FloatingPointError, match="theta has diverged: not finite at T = "):
        for _ in a3c.train(Wander(), config, state):
            assert np.isfinite(state.theta).all()


def test_config__has_the_papers_settings():
    config = Config()
    assert (config.t_max, config.gamma, config.beta, config.value_coef) == (5, 0.99, 0.01, 1.0)
    assert (config.optimizer, config.decay, config.eps) == ("shared_rmsprop", 0.99, 0.1)
    assert (config.step_size, config.annealed, config.max_norm) == (7e-4, True, np.inf)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers = 0: must be at least 1"),
        ({"workers": 2.5}, "workers = 2.5: must be whole and at least 1"),
        ({"t_max": np.float64(5)}, "t_max = .*: must be whole and at least 1"),
        ({"step_size": np.inf}, "step_size = inf: must be finite and at least 0"),
        ({"beta": "a"}, "beta = 'a': must be at least 0"),
        ({"gamma": True}, "gamma = True: must be in"),
        ({"driver": "mpi"}, "driver = 'mpi': must be one of round-robin, threads, processes"),
        ({"T_max": 0}, "T_max = 0: must be at least 1"),
        ({"gamma": 1.5}, r"gamma = 1.5: must be in \[0.0, 1.0\]"),
        ({"gamma": float("nan")}, "gamma = nan"),
        ({"step_size": -1e-9}, "step_size = -1e-09: must be at least 0"),
        ({"optimizer": "adam"}, "optimizer = 'adam': must be one of sgd, momentum, rmsprop, sh"),
        ({"decay": -0.1}, "decay = -0.1: must be in"),
        ({"decay": 1.0}, "decay = 1.0: must be in"),
        ({"eps": 0.0}, "eps = 0.0: must be at least"),
        ({"max_norm": 0.0}, "max_norm = 0.0: must be at least"),
        ({"precision": "half"}, "precision = 'half': must be one of double, single"),
        ({"t_max": 0}, "t_max = 0: must be at least 1"),
        ({"beta": -0.01}, "beta = -0.01: must be at least 0"),
        ({"value_coef": -1.0}, "value_coef = -1.0: must be at least 0"),
        ({"trunk": "none"}, "trunk = 'none': must be one of shared, separate"),
    ],
)
def test_config__refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Config(**options)


def test_config__takes_numpys_numbers():
    assert Config(t_max=np.int64(7), step_size=np.float32(0.5), max_norm=np.inf).t_max == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "workers = 2: must be 3, as in the State"),
        ({"optimizer": "sgd"}, "optimizer = 'sgd': must be the one the State was made"),
        ({"optimizer": "rmsprop"}, "optimizer = 'rmsprop': must be the one the State was made"),
    ],
)
def test_train__refuses_the_state_of_another_config(options, message):
    config = Config(workers=3)
    state = a3c.init(Wander(), config, 0)
    with pytest.raises(ValueError, match=message):
        next(a3c.train(Wander(), replace(config, **options), state))


def test_init__refuses_spaces_without_a_policy():
    env = Wander()
    env.action_space = gymnasium.spaces.MultiDiscrete([2, 2])
    with pytest.raises(ValueError, match="action_space"):
        a3c.init(env, Config(), 0)
