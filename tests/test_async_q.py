"""Asynchronous value methods: the boxes as plain loops, exact q*, targets, ε, and any schedule."""

from dataclasses import replace
from itertools import islice
from math import comb, exp, lgamma, log

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import (
    CHANCE,
    LINEAR,
    NETWORKS,
    OPTIMIZERS,
    SCHEDULES,
    SEEDS,
    SGD,
    SMALL,
    Constant,
    Recorder,
    Wander,
    by_hand,
    by_hand_each,
    env_seed,
    pulled_back,
    stream,
)

from algorithms import async_q
from algorithms.async_q import (
    Common,
    NStepQ,
    OneStepQ,
    OneStepSarsa,
    choose,
    epsilon,
    gradient,
    n_step,
    objective,
    one_step,
    target,
)
from algorithms.common.asynchronous import LAST
from algorithms.common.drivers import interleave
from algorithms.common.policy import make_policy
from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv, action_values
from algorithms.exact.optimal import optimal_policy
from npgrad import grad

METHODS = st.sampled_from((OneStepQ, OneStepSarsa, NStepQ))


def make(Method, steps, **options):
    """A Config with `steps` steps of a worker between its updates."""
    between = {"t_max" if Method is NStepQ else "I_async_update": steps}
    return Method(**between, **options)


def method_of(config):
    return n_step if isinstance(config, NStepQ) else one_step


# the objective and the targets


@given(SEEDS, st.integers(1, 4), st.integers(1, 3))
def test_objective__is_the_sum_of_squares(seed, k, n):
    rng = np.random.default_rng(seed)
    q, A, y = rng.normal(size=(k, n)), rng.integers(n, size=k), rng.normal(size=k)
    expected = sum((y[i] - q[i, A[i]]) ** 2 for i in range(k))
    assert objective(q, A, y) == pytest.approx(expected, rel=1e-12)


@given(SEEDS, st.floats(0, 1), st.floats(-2, 2))
def test_target__is_the_boxs(seed, gamma, r):
    """Q-learning has no a'. Where s' is terminal, q2 may be anything, even NaN."""
    config, q2 = OneStepQ(gamma=gamma), np.random.default_rng(seed).normal(size=3)
    for a2, v2 in ((None, max(q2)), (0, q2[0]), (2, q2[2])):
        assert target(config, r, False, q2, a2) == r + gamma * v2
        assert target(config, r, True, np.nan * q2, a2) == r


# one worker


def sequential(env, config, seed):
    """Algorithm 1 or S2, one worker, the gradients being the tape's: yields (θ, θ⁻, T) after each
    update. n steps act on θ as it was at the start, one step on the same θ, as nobody else moves it
    between updates."""
    model, step = make_policy(env, config.network).model, by_hand(config.optimizer, config)
    init = np.random.default_rng(seed)
    theta = theta_target = model.init(init)
    final = init.choice(config.final_epsilons, p=config.epsilon_chances)
    n, sarsa = isinstance(config, NStepQ), isinstance(config, OneStepSarsa)
    T, episodes, planned, rng = 0, 1, None, stream(seed, 0, 1)
    s, _ = env.reset(seed=env_seed(rng))

    def act(q):
        eps = 1 + min(1, T / config.epsilon_steps) * (final - 1)
        return rng.integers(len(q)) if rng.random() < eps else q.argmax()

    while T <= config.T_max:
        S, A, r, y = [], [], [], []
        due = False
        while not due:
            S.append(np.array(s, float))
            A.append(act(model(theta, s)) if planned is None else planned)
            s, reward, terminated, truncated, _ = env.step(A[-1])
            r.append(reward)
            planned = act(model(theta, s)) if sarsa else None
            q2 = model(theta_target, s)
            v2 = 0 if terminated else q2[planned] if sarsa else q2.max()
            y.append(reward + config.gamma * v2)
            over = terminated or truncated
            due = over or (
                len(S) == config.t_max if n else (T + len(S)) % config.I_async_update == 0
            )
        k, gamma = len(r), config.gamma
        if n:
            y = [sum(gamma**j * r[i + j] for j in range(k - i)) + gamma ** (k - i) * v2
                 for i in range(k)]  # fmt: skip
        S, A, y = np.array(S), np.array(A), np.array(y)
        d = grad(lambda theta, S=S, A=A, y=y: objective(model(theta, S), A, y))(theta)
        d *= min(1.0, config.max_norm / np.linalg.norm(d))
        eta = config.step_size * (max(0.0, 1 - T / config.T_max) if config.annealed else 1.0)
        theta, before, T = theta - step(d, eta), T, T + k
        if before // config.I_target < T // config.I_target:
            theta_target = theta
        yield theta, theta_target, T
        if over:
            episodes, planned = episodes + 1, None
            s, rng = env.reset()[0], stream(seed, 0, episodes)


@given(
    METHODS,
    NETWORKS,
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 50),
    OPTIMIZERS,
    st.booleans(),
    st.sampled_from((np.inf, 0.5)),
    SEEDS,
)
def test_train__one_worker_is_the_sequential_method(
    Method, network, steps, I_target, epsilon_steps, optimizer, annealed, max_norm, seed
):
    config = make(
        Method, steps, workers=1, T_max=40, gamma=0.9, step_size=0.02, annealed=annealed,
        optimizer=optimizer, decay=0.8, max_norm=max_norm, network=network, I_target=I_target,
        epsilon_steps=epsilon_steps,
    )  # fmt: skip
    state = async_q.init(Wander(), config, seed)
    train = async_q.train(Wander(), config, state)
    book = sequential(Wander(), replace(config, optimizer=optimizer.removeprefix("shared_")), seed)
    for (theta, theta_target, T), metrics in zip(book, train, strict=True):
        np.testing.assert_allclose(state.theta, theta, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(state.theta_target, theta_target, rtol=1e-7, atol=1e-9)
        assert metrics.steps == T == state.T.sum()
    assert config.T_max < T <= config.T_max + steps


@given(METHODS, st.integers(1, 6), st.integers(1, 6), st.floats(0.01, 0.95), st.booleans())
def test_worker__truncation_bootstraps_and_termination_does_not(Method, T, steps, gamma, truncate):
    """Reward 1 for ever is worth 1/(1−γ), and a time limit takes nothing from it: there y is what
    Q is already. Where the episode really ends, the last y is 1."""
    config = make(Method, steps, workers=1, gamma=gamma, network=LINEAR, **SGD)
    env, Y = Constant(T, truncate), []
    state = async_q.init(env, config, 0)
    state.theta[:] = state.theta_target[:] = 1 / (1 - gamma)
    keep = lambda q, A, y: Y.extend(y) or np.zeros_like(q)
    for event, ended in islice(method_of(config)(0, env, config, state, keep), 3 * T):
        if event == "pushed" and ended:
            break
    if truncate:
        np.testing.assert_allclose(Y, 1 / (1 - gamma), rtol=1e-12)
    else:
        assert Y[-1] == 1.0


# tables: the exact answer


def deterministic(seed, S=4, A=2, gamma=0.4):
    """An MDP without chance after its first state; its last state is terminal."""
    rng = np.random.default_rng(seed)
    P = np.eye(S)[rng.integers(S, size=(S, A))]
    return FiniteMDP(P, rng.normal(size=(S, A)), np.full(S, 1 / (S - 1)) * (np.arange(S) < S - 1),
                     gamma, np.arange(S) == S - 1)  # fmt: skip


def forked(seed):
    """0 leads to 1 or 2, from where actions all do the same: a corridor of rewards, on to 5."""
    rng = np.random.default_rng(seed)
    P = np.eye(6)[[[1, 2], [3, 3], [4, 4], [4, 4], [5, 5], [5, 5]]]
    r = np.repeat(rng.normal(size=(6, 1)), 2, 1)
    return FiniteMDP(P, r, np.eye(6)[0], 0.9, np.arange(6) == 5)


@pytest.mark.parametrize("Method", [OneStepQ, NStepQ])
@pytest.mark.parametrize("seed", [0, 1])
def test_train__finds_the_exact_q_of_a_finite_mdp(Method, seed):
    """From a table of zeros, every action being random and every episode cut after 6 steps, which
    takes nothing from q*.

    One step, no chance: every visit of (s, a) takes its distance from y down to 1 − 2η of it, ten
    visits between two copies to 0.14; so each of 30 copies takes the distance of θ⁻ from q* down to
    γ + 0.14 (1 + γ) = 0.6 of it or less, in all to 2e-7. n steps find q* where what is random later
    does not matter (forked), and elsewhere with t_max = 1.
    """
    for mdp, steps in ((deterministic(seed), 5 if Method is OneStepQ else 1), (forked(seed), 5)):
        env = gymnasium.wrappers.TimeLimit(FiniteMDPEnv(mdp), 6)
        config = make(
            Method, steps, workers=2, T_max=3000, gamma=mdp.gamma, step_size=0.09,
            network=LINEAR, I_target=100, final_epsilons=(1.0,), epsilon_chances=(1.0,), **SGD,
        )  # fmt: skip
        state = async_q.init(env, config, seed)
        for _ in async_q.train(env, config, state):
            pass
        seen = ~mdp.terminal[:, None] & np.ones(2, bool)
        q = state.theta.reshape(-1, 2)
        expected = action_values(mdp, optimal_policy(mdp))
        np.testing.assert_allclose(q[seen], expected[seen], atol=1e-5)


@pytest.mark.parametrize("Method", [OneStepQ, OneStepSarsa])
@pytest.mark.parametrize("seed", [0, 1])
def test_train__comes_near_the_exact_q_where_chance_rules(Method, seed):
    """Q-learning near q*, Sarsa near q of the policy it follows, which is uniform.

    Each of the 8 pairs is visited some 2,000 times. With η falling to 0, what is forgotten is all
    but the last n visits of which Σ 2η is about 1, here n = 150 and 2η = 0.013: one standard
    deviation of the rest is √(0.013/2) of that of y (below 0.5), five of them 0.2.
    """
    rng, pi = np.random.default_rng(seed), np.full((4, 2), 0.5)
    P, r = rng.dirichlet(np.ones(4), (4, 2)), rng.normal(size=(4, 2))
    mdp = FiniteMDP(P, r, np.full(4, 0.25), 0.5)
    env = gymnasium.wrappers.TimeLimit(FiniteMDPEnv(mdp), 20)
    config = Method(
        workers=2, T_max=16_000, gamma=0.5, step_size=0.09, optimizer="sgd", network=LINEAR,
        I_target=50, final_epsilons=(1.0,), epsilon_chances=(1.0,),
    )  # fmt: skip
    state = async_q.init(env, config, seed)
    for _ in async_q.train(env, config, state):
        pass
    expected = action_values(mdp, pi if Method is OneStepSarsa else optimal_policy(mdp))
    other = action_values(mdp, pi if Method is OneStepQ else optimal_policy(mdp))
    q = state.theta.reshape(4, 2)
    assert np.abs(q - expected).max() < 0.2 < np.abs(expected - other).max()


# any schedule


@given(METHODS, SCHEDULES, st.integers(1, 4), st.integers(1, 9), st.booleans(), OPTIMIZERS, SEEDS)
def test_worker__whatever_the_schedule_nothing_is_lost(
    Method, turns, steps, I_target, annealed, optimizer, seed
):
    """After every event: T counts the steps that are in updates, staleness the pushes of others
    since the first pull, θ is θ_0 minus the steps pushed, each with the η of its T, and θ⁻ is θ as
    it was when T last passed a multiple of I_target, jumped over or not. Each worker pulls,
    computes and pushes in turn, but that of one-step methods every step is a pull."""
    config = make(
        Method, steps, workers=3, T_max=60, optimizer=optimizer, decay=0.8, annealed=annealed,
        step_size=0.01, I_target=I_target, network=SMALL,
    )  # fmt: skip
    step, model = by_hand_each(config), make_policy(Wander(), SMALL).model
    due = lambda t, k: (k if Method is NStepQ else t) % steps == 0  # t of all its steps, k of these
    state, found = async_q.init(Wander(), config, seed), [[], [], []]
    workers, envs = [], [Recorder(Wander()) for _ in range(3)]
    for i, env in enumerate(envs):

        def keep(q, A, y, i=i, log=env.log):
            S = np.array([step[0] for step in log[-len(A) :]])
            here = pulled[i] if Method is NStepQ else state.theta
            message = "n steps have a copy θ', one step the shared θ"
            np.testing.assert_allclose(q, model(here, S), 1e-9, 1e-11, err_msg=message)
            assert A.tolist() == [step[1] for step in log[-len(A) :]]
            g = gradient(q, A, y)
            found[i].append(pulled_back(model, here, S, g))
            return g

        workers.append(method_of(config)(i, env, config, state, keep))
    pulled, pushed_at_pull, pushes, done, computed = {}, {}, [], [0, 0, 0], [[], [], []]
    staleness, theta = np.zeros((3, LAST + 1), int), state.theta.copy()
    copied = theta.copy()
    for i, event, what in interleave(workers, turns):
        if event == "pulled" and i not in pulled:
            pulled[i], pushed_at_pull[i] = state.theta.copy(), len(pushes)
        if event != "pushed":
            computed[i].append(what)
        if event == "pushed":
            eta = 0.01 * (max(0.0, 1 - sum(done) / 60) if annealed else 1.0)
            theta -= step[i](np.sum(found[i], 0), eta)
            staleness[i, len(pushes) - pushed_at_pull[i]] += 1
            pushes.append(i), found[i].clear(), pulled.pop(i)
            log, before, done[i] = envs[i].log[done[i] :], sum(done), len(envs[i].log)
            ends = [step[4] or step[5] for step in log]
            assert computed[i] == [0, *([len(log)] if Method is NStepQ else [1] * len(log))]
            computed[i].clear()
            assert not any(ends[:-1]) and (ends[-1] or due(done[i], len(log)))
            assert len(what) == ends[-1]
            assert not any(due(done[i] - len(log) + k, k) for k in range(1, len(log)))
            if any(T % I_target == 0 for T in range(before + 1, sum(done) + 1)):
                copied = state.theta.copy()
        assert state.T.tolist() == done
        assert state.updates.tolist() == [pushes.count(i) for i in range(3)]
        assert np.array_equal(state.staleness, staleness)
        np.testing.assert_allclose(state.theta, theta, rtol=1e-9, atol=1e-11)
        assert np.array_equal(state.theta_target, copied)


@given(METHODS, SCHEDULES, st.integers(1, 4), SEEDS)
def test_worker__bootstraps_from_the_target(Method, turns, steps, seed):
    """y of every step, of every worker, from what its environment saw and the θ⁻ of that time.
    Sarsa's a' is the action that is taken next."""
    config = make(Method, steps, workers=3, step_size=0.5, I_target=3, gamma=0.9, network=SMALL)
    state, Y = async_q.init(Wander(), config, seed), [[], [], []]
    envs = [Recorder(Wander()) for _ in range(3)]
    keep = lambda i: lambda q, A, y: Y[i].append(y) or gradient(q, A, y)
    workers = [method_of(config)(i, envs[i], config, state, keep(i)) for i in range(3)]
    targets, model = [[], [], []], make_policy(Wander(), SMALL).model
    for i, _, _ in interleave(workers, turns):
        if len(Y[i]) > len(targets[i]):
            targets[i].append(state.theta_target.copy())
    for env, ys, thetas in zip(envs, Y, targets):
        t = 0
        for y, theta in zip(ys, thetas):
            log, t = env.log[t : t + len(y)], t + len(y)
            q, v = model(theta, log[-1][3]), 0.0
            if not log[-1][4] and Method is not OneStepSarsa:
                v = q.max()
            if not log[-1][4] and Method is OneStepSarsa:
                if log[-1][5] or t == len(env.log):
                    continue  # there is no next action to be seen
                v = q[env.log[t][1]]
            for i, x in enumerate(y):
                expected = sum(0.9**j * step[2] for j, step in enumerate(log[i:]))
                assert x == pytest.approx(expected + 0.9 ** (len(y) - i) * v, rel=1e-9, abs=1e-11)


@given(METHODS, SCHEDULES, SEEDS)
def test_worker__small_steps_sum_to_the_gradients_at_the_start(Method, turns, seed):
    """(θ_0 − θ)/η → Σ of the gradients at θ_0 that the workers find each on its own, where ε does
    not depend on the schedule. Errors as for A3C."""
    config = make(Method, 3, workers=3, step_size=0.0, network=SMALL, epsilon_steps=1, **SGD)
    still, moving = (async_q.init(Wander(), config, seed) for _ in range(2))
    still.T[0] = moving.T[0] = 1
    start, method, model = still.theta.copy(), method_of(config), make_policy(Wander(), SMALL).model
    tiny, total, pushed = replace(config, step_size=2.0**-28), np.zeros_like(start), [0, 0, 0]
    workers = [method(i, Wander(), tiny, moving, gradient) for i in range(3)]
    for i, event, _ in interleave(workers, turns):
        pushed[i] += event == "pushed"
    for i, n in enumerate(pushed):
        env, found = Recorder(Wander()), []

        def keep(q, A, y, log=env.log, found=found):
            g, S = gradient(q, A, y), [step[0] for step in log[-len(A) :]]
            found.append(pulled_back(model, start, S, g))
            return g

        worker = method(i, env, config, still, keep)
        while n > 0:
            n -= next(worker)[0] == "pushed"
        total += np.sum(found, 0)
    moved = (start - moving.theta) / tiny.step_size
    np.testing.assert_allclose(moved, total, rtol=1e-5, atol=1e-5 * (1 + np.abs(total).max()))


# exploration


def tail(n, p, k):
    """Pr(X ≥ k), Pr(X ≤ k) for X binomial (n, p)."""
    pmf = [exp(lgamma(n + 1) - lgamma(j + 1) - lgamma(n - j + 1) + j * log(p)
               + (n - j) * log(1 - p)) for j in range(n + 1)]  # fmt: skip
    return sum(pmf[k:]), sum(pmf[: k + 1])


def test_tail__is_the_binomials():
    assert tail(4, 0.5, 3)[0] == pytest.approx((comb(4, 3) + 1) / 16)
    assert tail(4, 0.5, 3)[1] == pytest.approx(15 / 16)


@given(METHODS, SEEDS)
def test_init__draws_every_workers_final_epsilon(Method, seed):
    """0.1, 0.01, 0.5 with probabilities 0.4, 0.3, 0.3: exact binomial tails."""
    config = Method(workers=500, network=LINEAR)
    final = async_q.init(Wander(), config, seed).final_epsilon
    for value, p in ((0.1, 0.4), (0.01, 0.3), (0.5, 0.3)):
        assert min(tail(500, p, int((final == value).sum()))) > CHANCE
    assert np.isin(final, (0.1, 0.01, 0.5)).all()


@given(st.integers(0, 300), st.integers(1, 200), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_epsilon__falls_linearly_from_1_to_each_workers_own(T, epsilon_steps, final):
    config = OneStepQ(workers=2, epsilon_steps=epsilon_steps, network=LINEAR)
    state = async_q.init(Wander(), config, 0)
    state.final_epsilon[:], state.T[:] = final, (T // 3, T - T // 3)
    for i in range(2):
        line = 1 - (1 - final[i]) * T / epsilon_steps
        expected = final[i] if T >= epsilon_steps else line
        assert epsilon(config, state, i) == pytest.approx(expected, abs=1e-12)


@given(METHODS, SCHEDULES, st.integers(0, 2), SEEDS)
def test_worker__explores_with_an_epsilon_of_its_own(Method, turns, greedy, seed):
    """Only one of the three never does, once ε has fallen: it takes the best action for ever."""
    config = make(Method, 3, workers=3, step_size=0.0, network=SMALL, epsilon_steps=1)
    state, envs = async_q.init(Wander(), config, seed), [Recorder(Wander()) for _ in range(3)]
    state.T[0], state.final_epsilon[:] = 1, 1.0
    state.final_epsilon[greedy], method = 0.0, method_of(config)
    list(interleave([method(i, e, config, state, gradient) for i, e in enumerate(envs)], turns))
    q = make_policy(Wander(), SMALL).model
    best = [[int(q(state.theta, S).argmax()) == A for S, A, *_ in env.log] for env in envs]
    assert all(best[greedy])
    assert sum(map(len, best)) < 60 or not all(map(all, best))


@given(st.sampled_from((0.0, 0.3, 1.0)), SEEDS)
def test_choose__is_epsilon_greedy(eps, seed):
    """Each action has ε/n, the best 1 − ε beside it: exact binomial tails."""
    rng, n = np.random.default_rng(seed), 500
    q = rng.permutation([0.0, 1.0, 2.0])
    drawn = [choose(q, eps, rng) for _ in range(n)]
    for a in range(3):
        p = eps / 3 + (1 - eps) * (q[a] == 2.0)
        if p in (0.0, 1.0):
            assert drawn.count(a) == p * n
        else:
            assert min(tail(n, p, drawn.count(a))) > CHANCE


@given(st.permutations((np.nan, 0.0, 1.0)) | st.permutations((np.inf, 0.0, -np.inf)))
def test_choose__stops_where_q_has_diverged(q):
    with pytest.raises(FloatingPointError, match=r"theta has diverged: Q\(s, ·\) = .*(nan|inf)"):
        choose(np.array(q), 1.0, np.random.default_rng(0))


# acting, the paper's settings, and what is refused


@given(SEEDS)
def test_actor__is_greedy(seed):
    rng, config = np.random.default_rng(seed), OneStepQ(network=SMALL)
    env = Wander()
    env.action_space = gymnasium.spaces.Discrete(3, start=-1)
    model = make_policy(env, SMALL).model
    theta, s = rng.normal(size=model.layout.size), rng.normal(size=2)
    action = async_q.actor(env, config)({"theta": theta}, s, rng)
    assert action == model(theta, s).argmax() - 1


def test_config__has_the_papers_settings():
    for config in (OneStepQ(), OneStepSarsa(), NStepQ()):
        assert config.gamma == 0.99
        assert dict(zip(config.final_epsilons, config.epsilon_chances)) == {
            0.1: 0.4, 0.01: 0.3, 0.5: 0.3,
        }  # fmt: skip
    assert OneStepQ().I_async_update == OneStepSarsa().I_async_update == NStepQ().t_max == 5


@pytest.mark.parametrize(
    ("Method", "options", "message"),
    [
        (NStepQ, {"final_epsilons": ()}, r"final_epsilons = \(\): must be one or more numbers in"),
        (Common, {"final_epsilons": (0.1, 1.1, 0.5)}, "final_epsilons = .*: must be one or more"),
        (Common, {"final_epsilons": 0.1}, "final_epsilons = 0.1: must be one or more numbers"),
        (Common, {"final_epsilons": ("a",)}, "final_epsilons = .*: must be one or more numbers"),
        (Common, {"epsilon_chances": 1.0}, "epsilon_chances = 1.0: must be 3 numbers"),
        (Common, {"final_epsilons": (-0.1, 0.1, 0.5)}, "final_epsilons = .*: must be one or more"),
        (Common, {"epsilon_chances": (0.5, 0.5)}, "epsilon_chances = .*: must be 3 numbers, at le"),
        (Common, {"epsilon_chances": (0.7, 0.7, -0.4)}, "epsilon_chances = .*: must be 3 numbers"),
        (Common, {"epsilon_chances": (0.5, 0.5, 0.5)}, "epsilon_chances = .*: must be 3 numbers"),
        (Common, {"epsilon_chances": (np.nan, 0.5, 0.5)}, "epsilon_chances = .*: must be 3 num"),
    ],
)
def test_config__refuses(Method, options, message):
    with pytest.raises(ValueError, match=message):
        Method(**options)


def test_init__refuses_continuous_actions():
    with pytest.raises(ValueError, match=r"action_space = Box.*must be Discrete"):
        async_q.init(Wander(2), OneStepQ(), 0)
