"""A3C: the method written again as a plain loop, reductions, and any schedule."""

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import (
    LINEAR,
    NETWORKS,
    OPTIMIZERS,
    SCHEDULES,
    SEEDS,
    SGD,
    SMALL,
    Constant,
    Recorder,
    Scripted,
    Wander,
    actions,
    by_hand,
    by_hand_each,
    env_seed,
    pulled_back,
    stream,
)

from algorithms import a3c, actor_critic
from algorithms.a3c import Config, gradient, objective
from algorithms.common.asynchronous import LAST
from algorithms.common.drivers import interleave
from algorithms.common.policy import make_actor_critic, make_policy
from npgrad import at, grad

TRUNKS = st.sampled_from(("shared", "separate"))


@st.composite
def segments(draw):
    """(h, v, head, A, R, advantage, β, c)."""
    d, k, rng = draw(st.integers(0, 2)), draw(st.integers(1, 4)), np.random.default_rng(draw(SEEDS))
    head = draw(NETWORKS).head(actions(d))
    h, (v, R, advantage) = rng.normal(size=(k, head.size)), rng.normal(size=(3, k))
    A = head(h).sample(head.noise(rng, k))
    beta, c = (draw(st.sampled_from((0.0, 1.0)) | st.floats(0, 2)) for _ in range(2))
    return h, v, head, A, R, advantage, beta, c


# the objective and its gradient


@given(segments())
def test_objective__is_the_sum_of_its_three_terms(segment):
    h, v, head, A, R, advantage, beta, c = segment
    expected = sum(
        advantage[i] * head(h[i]).log_prob(A[i])
        + beta * head(h[i]).entropy()
        - c * (R[i] - v[i]) ** 2 / 2
        for i in range(len(h))
    )
    assert objective(*segment) == pytest.approx(expected, rel=1e-11, abs=1e-11)


@given(segments())
def test_gradient__is_the_sum_over_the_steps(segment):
    """Row i belongs to step i, and does not depend on the others."""
    h, v, head, A, R, advantage, beta, c = segment
    d_h, d_v = gradient(*segment)
    for i in range(len(h)):
        h_i, v_i, A_i, R_i, advantage_i = (x[i : i + 1] for x in (h, v, A, R, advantage))
        one_h, one_v = gradient(h_i, v_i, head, A_i, R_i, advantage_i, beta, c)
        np.testing.assert_allclose(d_h[i], one_h[0], rtol=1e-12, atol=1e-12)
        assert d_v[i] == one_v[0]


# one worker


def sequential(env, config, seed):
    """Algorithm S3, one worker, the gradients being the tape's: yields (θ, T) after each update."""
    policy = make_actor_critic(env, config.network, config.trunk)
    model, head, step = policy.model, policy.head, by_hand(config.optimizer, config)
    theta, T, rng, episodes = model.init(np.random.default_rng(seed)), 0, stream(seed, 0, 1), 1
    s, _ = env.reset(seed=env_seed(rng))
    noise, t = head.noise(rng, 1000), 0

    def value(theta, S, A, R, advantage):
        y = model(theta, S)
        return objective(y[:, :-1], y[:, -1], head, A, R, advantage, config.beta, config.value_coef)

    while T <= config.T_max:
        S, A, r, over = [], [], [], False
        while len(S) < config.t_max and not over:
            S.append(np.array(s, float))
            A.append(head(model(theta, S[-1])[:-1]).sample(noise[t]))
            s, reward, terminated, truncated, _ = env.step(policy.decode(A[-1]))
            r.append(reward)
            t, over = t + 1, terminated or truncated
        y = model(theta, np.array([*S, s], float))
        V = y[:, -1].copy()
        V[-1] *= not terminated
        k, gamma = len(r), config.gamma
        if config.entropy == "return":
            r = [r[i] + config.beta * head(y[i, :-1]).entropy() for i in range(k)]
        R = [sum(gamma**j * r[i + j] for j in range(k - i)) + gamma ** (k - i) * V[k]
             for i in range(k)]  # fmt: skip
        d = grad(value)(theta, np.array(S), np.array(A), np.array(R), R - V[:k])
        d *= min(1.0, config.max_norm / np.linalg.norm(d))
        eta = config.step_size * (max(0.0, 1 - T / config.T_max) if config.annealed else 1.0)
        theta, T = theta + step(d, eta), T + k
        yield theta, T
        if over:
            s, _ = env.reset()
            episodes += 1
            noise, t = head.noise(stream(seed, 0, episodes), 1000), 0


@given(
    NETWORKS,
    TRUNKS,
    st.integers(0, 2),
    st.integers(1, 6),
    OPTIMIZERS,
    st.booleans(),
    st.sampled_from((np.inf, 0.5)),
    st.sampled_from(("step", "return")),
    SEEDS,
)
def test_train__one_worker_is_the_sequential_method(
    network, trunk, d, t_max, optimizer, annealed, max_norm, entropy, seed
):
    config = Config(
        workers=1, T_max=40, gamma=0.9, step_size=0.02, annealed=annealed, optimizer=optimizer,
        decay=0.8, max_norm=max_norm, network=network, t_max=t_max, beta=0.05, value_coef=0.5,
        trunk=trunk, entropy=entropy,
    )  # fmt: skip
    state = a3c.init(Wander(d), config, seed)
    book = sequential(Wander(d), replace(config, optimizer=optimizer.removeprefix("shared_")), seed)
    for (theta, T), metrics in zip(book, a3c.train(Wander(d), config, state), strict=True):
        np.testing.assert_allclose(state.theta, theta, rtol=1e-7, atol=1e-9)
        assert metrics.steps == T == state.T.sum()
    assert config.T_max < T <= config.T_max + t_max


@given(NETWORKS, st.integers(0, 2), st.floats(0, 1), st.floats(0, 2), SEEDS)
def test_train__segments_of_one_step_are_the_one_step_actor_critic(network, d, gamma, c, seed):
    """t_max = 1, β = 0, two networks, sgd: actor_critic.one_step with I = 1, α^w = c α^θ."""
    config = Config(workers=1, t_max=1, beta=0.0, value_coef=c, gamma=gamma, step_size=1e-3,
                    network=network, **SGD)  # fmt: skip
    box = actor_critic.OneStep(gamma=gamma, step_size=1e-3, step_size_w=1e-3 * c, optimizer="sgd")
    env, drawn = Recorder(Wander(d)), []
    state = a3c.init(env, config, seed)
    policy = make_actor_critic(env, network, "separate")
    n = policy.model.first.layout.size

    def noted(h, v, head, A, *rest):
        drawn.append(A[0])
        return gradient(h, v, head, A, *rest)

    worker = a3c.worker(0, env, config, state, noted)
    times = lambda net, g: lambda c: net.backward(c * g)
    for _ in range(12):
        theta, w = state.theta[:n].copy(), state.theta[n:].copy()
        list(islice(worker, 3))
        s, _, r, s2, terminated, _ = env.log[-1]
        pi, v_hat = at(make_policy(env, network).model, theta), at(policy.model.second, w)
        h, (v, v2) = pi.forward(s), v_hat.forward(np.array([s, s2]))
        dv = times(v_hat, np.ones(1))
        dlogpi = times(pi, actor_critic.gradient(h, policy.head, drawn[-1]))
        one = SimpleNamespace(I=1.0, theta=theta, w=w, optimizer_steps=0,
                              theta_statistics=np.empty((0, n)),
                              w_statistics=np.empty((0, len(w))))  # fmt: skip
        actor_critic.one_step(box, one, r, v[0], 0.0 if terminated else v2[0], dv, dlogpi)
        np.testing.assert_allclose(state.theta, np.append(theta, w), rtol=1e-9, atol=1e-10)


# the end of an episode


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.01, 0.95), st.booleans(), TRUNKS)
def test_worker__truncation_bootstraps_and_termination_does_not(T, t_max, gamma, truncate, trunk):
    """Reward 1 for ever is worth 1/(1−γ), and a time limit takes nothing from it: there every
    advantage is 0, and θ stays. Where the episode really ends, R_i = 1 + γ + ... + γ^{T−t−1}."""
    config = Config(workers=1, t_max=t_max, gamma=gamma, beta=0.0, trunk=trunk, network=LINEAR,
                    **SGD)  # fmt: skip
    env, found = Constant(T, truncate), []
    state = a3c.init(env, config, 0)
    state.theta[-1] = exact = 1 / (1 - gamma)

    def keep(h, v, head, A, R, advantage, *weights):
        found.extend(R)
        np.testing.assert_allclose(advantage, R - exact, rtol=1e-9, atol=1e-9)
        return np.zeros_like(h), np.zeros_like(v)

    for event, ended in islice(a3c.worker(0, env, config, state, keep), 3 * T):
        if event == "pushed" and ended:
            break
    if truncate:
        np.testing.assert_allclose(found, exact, rtol=1e-12)
    else:
        last = found[t_max * ((T - 1) // t_max) :]  # of the segment with the end
        np.testing.assert_allclose(last, [sum(gamma**j for j in range(i)) for i in
                                          range(len(last), 0, -1)], rtol=1e-9)  # fmt: skip


@given(TRUNKS, st.integers(1, 3), SEEDS)
def test_worker__bootstraps_from_the_final_observation(trunk, T, seed):
    """Scripted's is 0.5 wherever its resets begin."""
    config = Config(workers=1, t_max=3, trunk=trunk, network=SMALL, **SGD)
    env, found = Recorder(Scripted(T=T, truncate=True)), []
    state = a3c.init(env, config, seed)
    V = make_actor_critic(env, SMALL, trunk).model(state.theta, np.full(2, 0.5))[-1]

    def keep(h, v, head, A, R, *rest):
        found.append(R[0])
        return np.zeros_like(h), np.zeros_like(v)

    list(islice(a3c.worker(0, env, config, state, keep), 2))
    expected = sum(config.gamma**j * step[2] for j, step in enumerate(env.log))
    assert len(env.log) == T
    assert found == [pytest.approx(expected + config.gamma**T * V, rel=1e-10)]


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
        optimizer=optimizer, decay=0.8, step_size=0.01, network=SMALL,
    )  # fmt: skip
    state, latest, step = a3c.init(Wander(d), config, seed), {}, by_hand_each(config)
    model = make_actor_critic(Wander(d), SMALL, trunk).model
    workers, envs = [], [Recorder(Wander(d)) for _ in range(3)]
    for i, env in enumerate(envs):

        def keep(h, v, *rest, i=i, log=env.log):
            S = np.array([step[0] for step in log[-len(v) :]])
            y = model(pulled[i], S)
            message = "the network is that of the θ' that was pulled"
            np.testing.assert_allclose(np.column_stack([h, v]), y, 1e-9, 1e-11, err_msg=message)
            g = gradient(h, v, *rest)
            latest[i] = pulled_back(model, pulled[i], S, np.column_stack(g))
            return g

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
        np.testing.assert_allclose(state.theta, theta, rtol=1e-9, atol=1e-11)
    assert sum(done) <= T_max + 3 * t_max
    for each in events:
        assert each == [("pulled", "computed", "pushed")[n % 3] for n in range(len(each))]


@given(SCHEDULES, TRUNKS, st.integers(0, 2), SEEDS)
def test_worker__small_steps_sum_to_the_gradients_at_the_start(turns, trunk, d, seed):
    """(θ − θ_0)/η → Σ of the segment gradients at θ_0 that the workers find each on its own.

    With η = 2⁻²⁸ the sum is off by O(η) and by up to eps |θ|/η = 6e-8 an update.
    """
    config = Config(workers=3, t_max=3, trunk=trunk, step_size=0.0, network=SMALL, **SGD)
    still = a3c.init(Wander(d), config, seed)
    model, total = make_actor_critic(Wander(d), SMALL, trunk).model, np.zeros_like(still.theta)
    for i in range(3):
        env = Recorder(Wander(d))

        def keep(h, v, *rest, log=env.log):
            g, S = gradient(h, v, *rest), [step[0] for step in log[-len(v) :]]
            total[:] += pulled_back(model, still.theta, S, np.column_stack(g))
            return g

        list(islice(a3c.worker(i, env, config, still, keep), 3 * (turns.count(i) // 3)))
    config = replace(config, step_size=2.0**-28)
    state = a3c.init(Wander(d), config, seed)
    list(a3c.train(Wander(d), config, state, schedule=turns))
    moved = (state.theta - still.theta) / config.step_size
    np.testing.assert_allclose(moved, total, rtol=1e-5, atol=1e-5 * (1 + np.abs(total).max()))


# acting, and the paper's settings


@given(SEEDS, st.sampled_from(((0, "shared"), (2, "separate"))))
def test_actor__draws_from_the_policy_or_takes_its_mode(seed, what):
    (d, trunk), rng = what, np.random.default_rng(seed)
    config = Config(trunk=trunk, network=SMALL)
    policy = make_actor_critic(Wander(d), SMALL, trunk)
    theta, s = rng.normal(size=policy.model.layout.size), rng.normal(size=2)
    pi, act = policy.head(policy.model(theta, s)[:-1]), a3c.actor(Wander(d), config)
    assert np.array_equal(act({"theta": theta}, s, rng, True), policy.decode(pi.mode()))
    drawn = act({"theta": theta}, s, np.random.default_rng(seed))
    noise = policy.head.noise(np.random.default_rng(seed), 1)[0]
    assert np.array_equal(drawn, policy.decode(pi.sample(noise)))


def test_config__has_the_papers_settings():
    config = Config()
    assert (config.t_max, config.gamma, config.beta, config.value_coef) == (5, 0.99, 0.01, 1.0)
    assert (config.optimizer, config.decay, config.eps) == ("shared_rmsprop", 0.99, 0.1)
    assert (config.step_size, config.annealed, config.max_norm) == (7e-4, True, np.inf)
