"""What A3C and A2C expect of an update: the closed forms against the pages' own functions, run on
every segment that there can be, and against the pages' own workers."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import mdps
from worlds import LINEAR, SEEDS, SGD, Replay, told

from algorithms import a2c, a3c, reinforce
from algorithms.common.drivers import interleave
from algorithms.common.policy import make_policy
from algorithms.exact import updates as exact
from algorithms.exact.laboratory import expectation, n_step_shift, score_table
from algorithms.exact.mdp import (
    FiniteMDP,
    FiniteMDPEnv,
    expected_return,
    markov_chain,
    state_values,
    trajectories,
)
from algorithms.exact.worlds import chain, garnet
from algorithms.referee.estimators import open_study
from algorithms.referee.updates import expected_update, staleness, updates_table
from npgrad import Softmax, at, complex_step

MOST = 800  # segments to enumerate in one example
MODES = st.sampled_from(("step", "return"))
BETAS = st.sampled_from((0.0, 0.01, 1.0))


class World:
    """A finite MDP with a tabular softmax policy at θ, a wrong v̂, and a time limit or None."""

    def __init__(self, mdp, seed, limit, entropy="step", beta=0.0, spread=1.0):
        self.mdp, self.limit, self.entropy, self.beta = mdp, limit, entropy, beta
        self.policy = make_policy(FiniteMDPEnv(mdp), LINEAR)
        rng = np.random.default_rng(seed)
        self.theta = spread * rng.normal(size=self.policy.model.layout.size)
        self.pi = self.policy.at(self.theta, mdp.observation).probs()
        bonus = beta * exact.entropies(mdp, self.pi) if entropy == "return" else 0.0
        self.error = np.where(mdp.terminal, 0, rng.normal(scale=3, size=len(self.pi)))
        self.v_hat = state_values(mdp, self.pi, bonus) + self.error
        self.scores = score_table(
            reinforce.gradient, self.theta, self.policy, mdp.observation, mdp.P.shape[1]
        )

    def spacing(self, page, n):
        return n if page is a3c else exact.clockwork(self.mdp, self.pi, n, self.limit)

    def visits(self, page, n):
        return exact.visits(self.mdp, self.pi, n, self.limit, self.spacing(page, n))

    def parts(self, page, n):
        seen = self.visits(page, n)
        found = exact.parts(self.mdp, self.pi, self.error, self.beta, seen, self.entropy)
        return exact.through(found, self.pi, self.scores)


@st.composite
def worlds(draw):
    """Worlds whose episodes end by themselves, or by a time limit of up to 4 steps."""
    kind = draw(st.sampled_from(("layered", "proper", "limited", "clock")))
    if kind == "clock":  # all episodes have the same length
        mdp = garnet(draw(SEEDS), states=3, branching=1, gamma=draw(st.sampled_from((0.0, 0.9))))
    else:
        mdp = draw(mdps() if kind == "limited" else mdps(kinds=(kind,)))
    limit = draw(st.integers(1, 4)) if kind in ("limited", "clock") else None
    return World(mdp, draw(SEEDS), limit, draw(MODES), draw(BETAS))


# every segment


def segments(world, age, s, n, restarts):
    """(probability, [(s, a, r, s', terminated, truncated)], (age, s) of the next segment) of each
    segment of n steps from state s of that age; restarts: it goes on in the next episode."""
    mdp, branches = world.mdp, np.argwhere(world.pi[s][:, None] * world.mdp.P[s] > 0).tolist()
    for a, s2 in branches:
        p = world.pi[s, a] * mdp.P[s, a, s2]
        terminated, truncated = bool(mdp.terminal[s2]), age + 1 == world.limit
        step = (s, a, mdp.r[s, a, s2], s2, terminated, truncated and not terminated)
        ended = terminated or truncated
        older = age + 1 if world.limit else 0
        after = [(p * mdp.p0[x], (0, x)) for x in np.flatnonzero(mdp.p0)] if ended else [
            (p, (older, s2))
        ]  # fmt: skip
        for q, place in after:
            if n == 1 or (ended and not restarts):
                yield q, [step], place
            else:
                for p_rest, rest, end in segments(world, *place, n - 1, restarts):
                    yield q * p_rest, [step, *rest], end


def rows(page, world, steps):
    """(R, advantage, w) of a segment, by the page's functions."""
    s, _, r, s2, terminated, truncated = map(np.array, zip(*steps))
    gamma, h = world.mdp.gamma, np.log(np.maximum(world.pi[s], 1e-300))
    r = page.soft_rewards(r, h, Softmax, world.beta, world.entropy)
    if page is a3c:
        R = a3c.returns(r, gamma, 0.0 if terminated[-1] else world.v_hat[s2[-1]])
    else:
        stops = (terminated | truncated)[:, None]
        stops[-1] = True
        v_next = np.where(terminated, 0.0, world.v_hat[s2])[:, None]
        R = a2c.returns(r[:, None], gamma, stops, v_next)[:, 0]
    return R, R - world.v_hat[s]


def enumerated(page, world, n):
    """(E dθ of the policy (n,), E dθ of a table v̂ (S,)) of one update in the long run."""
    mdp = world.mdp
    starts = list(product(range(world.limit or 1), np.flatnonzero(~mdp.terminal)))
    index, moves, found = {x: i for i, x in enumerate(starts)}, np.zeros((len(starts),) * 2), []
    for i, start in enumerate(starts):
        for p, steps, end in segments(world, *start, n, page is a2c):
            moves[i, index[end]] += p
            found.append((i, p, steps))
            assume(len(found) <= MOST)
    first = [mdp.p0[s] * (age == 0) for age, s in starts]
    share = first @ long_run(moves)
    weight = np.concatenate([np.full(len(steps), share[i] * p) for i, p, steps in found])
    R, advantage = np.concatenate([rows(page, world, steps) for *_, steps in found], 1)
    s, A = np.array([step[:2] for *_, steps in found for step in steps]).T
    net = at(world.policy.model, world.theta)
    h, v, head = net.forward(mdp.observation[s]), world.v_hat[s], world.policy.head
    if page is a3c:
        g_h, g_v = a3c.gradient(h, v, head, A, R, advantage, world.beta, 1.0)
        g_h, g_v = weight[:, None] * g_h, weight * g_v
    else:
        g_h, g_v = a2c.gradient(h, v, head, A, R, advantage, weight, world.beta, 1.0)
    return net.backward(g_h), np.bincount(s, g_v, len(mdp.p0))


def long_run(moves, doublings=40):
    """lim 1/m Σ_{j<m} movesʲ, m = 2^40: off by some 1e-12."""
    mean = np.eye(len(moves))
    for _ in range(doublings):
        mean = (mean + moves @ mean) / 2
        moves = moves @ moves
        moves /= moves.sum(1, keepdims=True)
    return mean


@pytest.mark.parametrize("page", [a3c, a2c])
@given(world=worlds(), n=st.integers(1, 4))
def test_parts__sum_to_what_the_page_itself_expects(page, world, n):
    """Its returns and its gradient on every segment, each as often as in the long run."""
    of_policy, of_v = enumerated(page, world, n)
    found, seen = world.parts(page, n), world.visits(page, n)
    size = 1 + max(np.abs(part).max() for part in found) + np.abs(of_v).max()
    np.testing.assert_allclose(sum(found) / seen.segments, of_policy, atol=1e-10 * size)
    errors = exact.value_errors(world.mdp, world.pi, world.error, seen)
    np.testing.assert_allclose(errors / seen.segments, of_v, atol=1e-10 * size)


# each part


def policy_of(world):
    return lambda theta: world.policy.at(theta, world.mdp.observation).probs()


@given(world=worlds(), page=st.sampled_from((a3c, a2c)), n=st.integers(1, 4))
def test_parts__gradient_is_that_of_the_objective(world, page, n):
    """∇E Σ γ^t R, or with entropy "return" ∇E Σ γ^t (R + βH): complex steps through the solves."""
    mdp, beta = world.mdp, world.beta * (world.entropy == "return")
    pi = policy_of(world)
    J = lambda theta: expected_return(mdp, pi(theta), beta * exact.entropies(mdp, pi(theta)))
    found = world.parts(page, n).gradient
    np.testing.assert_allclose(
        found, complex_step(J, world.theta), atol=1e-9 * (1 + abs(found).max())
    )


@given(world=worlds(), page=st.sampled_from((a3c, a2c)), n=st.integers(1, 6))
def test_parts__entropy_is_that_of_the_visits_held(world, page, n):
    """β Σ_s D(s) ∇H(s): the gradient of β Σ D H with D held. With "return" it is in `gradient`."""
    D, pi = world.visits(page, n).left.sum(0), policy_of(world)
    held = lambda theta: world.beta * np.sum(D * exact.entropies(world.mdp, pi(theta)))
    expected = complex_step(held, world.theta) * (world.entropy == "step")
    np.testing.assert_allclose(world.parts(page, n).entropy, expected, atol=1e-10 * (1 + D.sum()))


@given(world=worlds(), page=st.sampled_from((a3c, a2c)), n=st.integers(1, 6))
def test_parts__are_none_without_their_reason(world, page, n):
    right = world.parts(page, n)
    if world.limit is None:
        assert not right.unseen.any() and not right.cut.any()
    world.error = 0 * world.error
    right = world.parts(page, n)
    assert not right.bootstrap.any() and not right.cut.any()
    if world.mdp.gamma == 1:
        np.testing.assert_allclose(right.undiscounted, 0, atol=1e-10)
    world.beta = 0.0
    assert not world.parts(page, n).entropy.any()


@given(world=worlds(), seed=SEEDS)
def test_parts__of_segments_of_one_step_are_the_laboratorys(world, seed):
    """n = 1: Δ = γ P e at every visit, which is counted without γ^t; a limit changes no segment."""
    mdp, seen = world.mdp, world.visits(a3c, 1)
    found = exact.parts(mdp, world.pi, world.error, 0.0, seen)
    shift = n_step_shift(mdp, world.pi, world.error, 1)
    np.testing.assert_allclose(found.bootstrap, seen.left[0][:, None] * shift, rtol=1e-13)
    assert not found.cut.any()
    if world.limit is None:
        study = open_study(mdp, world.policy, world.theta, 3)
        cut = study.mdp
        q = expectation(study, discounted=False)
        seen = exact.visits(cut, study.pi, 1)
        found = exact.parts(cut, study.pi, np.zeros(len(study.pi)), 0.0, seen)
        whole = exact.through(found, study.pi, study.scores)
        np.testing.assert_allclose(sum(whole), q, atol=1e-9 * (1 + abs(q).max()))


@given(world=worlds(), page=st.sampled_from((a3c, a2c)), n=st.integers(1, 6))
def test_visits__are_those_of_an_episode(world, page, n):
    """Σ_k W_k = Σ_t Pr(S_t = s), and with γ^t `discounted`; W = F where no limit cuts. A segment of
    A2C has n steps, of A3C at most n; so n segments have at least all the steps."""
    seen, P_pi = world.visits(page, n), markov_chain(world.mdp, world.pi)[0]
    mu, D, d = world.mdp.p0, 0.0, 0.0
    for t in range(world.limit or 400):  # of proper worlds: 0.9^400 is 5e-19
        D, d, mu = D + mu, d + world.mdp.gamma**t * mu, np.where(world.mdp.terminal, 0, mu @ P_pi)
    for W in (seen.whole, seen.left):
        assert (W >= -1e-13).all()
        np.testing.assert_allclose(W.sum(0), D, atol=1e-11)
    np.testing.assert_allclose(seen.discounted, d, atol=1e-11)
    np.testing.assert_array_equal(seen.whole, seen.left) if world.limit is None else None
    assert n * seen.segments >= D.sum() - 1e-11
    if page is a2c:
        assert n * seen.segments == pytest.approx(D.sum(), rel=1e-11)


@given(world=worlds(), n=st.integers(1, 4))
def test_parts__take_nothing_from_what_v_hat_says_of_terminal_states(world, n):
    mdp, seen = world.mdp, world.visits(a3c, n)
    odd = np.where(mdp.terminal, 7.0, world.error)
    for error in (odd, world.error):
        found = exact.parts(mdp, world.pi, error, 0.1, seen)
        errors = exact.value_errors(mdp, world.pi, error, seen)
        if error is odd:
            first = *found, errors
    for x, y in zip(first, (*found, errors)):
        np.testing.assert_array_equal(x, y)


def ways(*edges, gamma=0.9):
    """One action, each of the edges (s, s') of a state as likely; the last state is terminal."""
    S = 1 + max(max(edge) for edge in edges)
    P = np.zeros((S, 1, S))
    for s, s2 in edges:
        P[s, 0, s2] = 1
    P[S - 1] = np.eye(S)[S - 1]
    return FiniteMDP(P / P.sum(2, keepdims=True), np.ones((S, 1)), np.eye(S)[0], gamma,
                     np.arange(S) == S - 1)  # fmt: skip


def test_clockwork__is_the_common_divisor_of_all_lengths():
    """0 → 1 → end; 1 → 2 → 1, and 2 → 2 now and then: 2, 4 or 5 steps. Without the loop at 2 even
    numbers. A limit of 3 allows 2 and 3."""
    of = lambda mdp, *rest: exact.clockwork(mdp, np.ones((len(mdp.p0), 1)), *rest)
    edges = (0, 1), (1, 3), (1, 2), (2, 1)
    assert of(ways(*edges, (2, 2)), 2) == 1
    assert [of(ways(*edges), n) for n in (1, 2, 3, 4, 6)] == [1, 2, 1, 2, 2]
    assert of(ways(*edges), 2, 3) == 1 and of(ways(*edges), 4, 4) == 2
    assert of(ways((0, 1), (1, 2), (2, 3)), 6) == 3


def test_visits__need_no_end_where_no_episode_comes():
    """State 1 leads to itself for ever; no episode begins there."""
    mdp = ways((0, 2), (1, 1))
    seen = exact.visits(mdp, np.ones((3, 1)), 2)
    assert seen.whole.tolist() == [[0, 0, 0], [1, 0, 0]]


def two_steps(gamma=0.5):
    """From state 0, action 1 leads to state 1 and action 0 to the end, for nothing; from state 1
    both end, action 1 pays 1."""
    P = np.zeros((3, 2, 3))
    P[0, 1, 1] = P[0, 0, 2] = P[1, :, 2] = 1
    return FiniteMDP(P, [[0, 0], [0, 1.0], [0, 0]], [1, 0, 0], gamma, [False, False, True])


def test_parts__by_hand():
    """π = ½, γ = ½: Σ_a ∇π(a) x(a) = ¼ (x(1) − x(0)). q(0) = (0, ¼), q(1) = (0, 1), D = (1, ½), d =
    (1, ¼). v̂(1) = v(1) + 1. Without a limit one segment of n = 2 holds every episode of A3C, so no
    v̂ is used; half of A2C's are cut between the steps, where Δ = γ e = ½: lengths are 1 and 2, so
    that the clock stands at 0 and 1 equally often. With the limit 1 the second step is unseen,
    and the first bootstraps from v̂(1)."""
    mdp, pi, error = two_steps(), np.full((3, 2), 0.5), np.array([0, 1.0, 0])
    assert exact.clockwork(mdp, pi, 2) == 1 and exact.clockwork(mdp, pi, 2, 1) == 1
    slope = lambda c: (c[:2, 1] - c[:2, 0]) / 4
    of = lambda seen: [slope(c).tolist() for c in exact.parts(mdp, pi, error, 0.0, seen)]
    none = [0, 0]
    kept = [[1 / 16, 1 / 16], none, [0, 1 / 16]]
    assert of(exact.visits(mdp, pi, 2)) == [*kept, none, none, none]
    assert of(exact.visits(mdp, pi, 2, spacing=1)) == [*kept, [1 / 16, 0], none, none]
    limited = [[1 / 16, 1 / 16], [0, -1 / 16], none, none, [1 / 8, 0], none]
    assert of(exact.visits(mdp, pi, 2, limit=1)) == limited
    assert exact.visits(mdp, pi, 2).segments == 1
    assert exact.visits(mdp, pi, 2, spacing=1).segments == 0.75


# what the page tells


def studied(env_id, horizon):
    mdp = dict(Chain=chain(), Garnet0=garnet(0), Garnet1=garnet(1))[env_id]
    theta = np.random.default_rng(0).standard_normal(mdp.p0.size * 2)
    return open_study(mdp, make_policy(FiniteMDPEnv(mdp), LINEAR), theta, horizon)


@pytest.mark.parametrize(
    ("env_id", "horizon", "expected"),
    [("Chain", None, 0.952), ("Garnet0", 6, 0.998), ("Garnet1", 6, 0.985)],
)
def test_entropy__of_a_step_is_not_quite_the_gradient_of_the_returns(env_id, horizon, expected):
    """The cosine of Σ_s D ∇H, D the undiscounted visits that A3C has, with ∇E Σ_t γ^t H."""
    mdp, pi, scores, _ = studied(env_id, horizon)
    seen, none = exact.visits(mdp, pi, 5), np.zeros(len(pi))
    of = lambda entropy, beta: exact.through(
        exact.parts(mdp, pi, none, beta, seen, entropy), pi, scores
    )
    step = of("step", 1.0).entropy
    returns = of("return", 1.0).gradient - of("return", 0.0).gradient
    cosine = step @ returns / np.linalg.norm(step) / np.linalg.norm(returns)
    assert round(float(cosine), 3) == expected


def test_pages__tell_the_numbers_of_the_chain():
    mdp, pi, scores, _ = studied("Chain", None)
    theta = np.random.default_rng(0).standard_normal(10)
    of = lambda n: {row.term: row for row in updates_table(mdp, pi, scores, theta, 0.5, n, 0.01)}
    two, five = of(2), of(5)
    assert f"adds {two['undiscounted'].a3c:.2f} |∇J|, the bootstrap" in a3c.__doc__
    assert f"the bootstrap {two['bootstrap'].a3c:.2f} |∇J|." in a3c.__doc__
    assert f"the cosine {two['cosine of entropy with ∇E Σ γ^t βH'].a3c:.3f} with" in a3c.__doc__
    assert f"{two['staleness, per η and update behind'].a3c:.2f} η k of its own" in a3c.__doc__
    assert f"the bootstrap adds {five['bootstrap'].a2c:.2f} |∇J|, and in A3C" in a2c.__doc__
    assert five["bootstrap"].a3c < 1e-15


# staleness


def stale(world, theta, eta, k, fresh, **options):
    """E dθ of worker k of k + 1 of A3C itself, in a world without a limit whose episodes have at
    most 5 steps; the others push meanwhile, or before it pulls if `fresh`. Each episode that every
    worker can have is run."""
    mdp, S, k_last = world.mdp, len(world.mdp.p0), k
    others = [i for i in range(k) for _ in range(3)]
    schedule = [*others, k_last, k_last] if fresh else [k_last, *others, k_last]
    pi = lambda theta: Softmax(theta[:-S].reshape(-1, mdp.P.shape[1])).probs()
    taus = list(trajectories(mdp, pi(theta), 5))
    total, config = 0.0, dict(workers=k + 1, beta=0.1, gamma=mdp.gamma, step_size=eta)
    config |= SGD | options
    for chosen in product(taus, repeat=k + 1):
        configs = [
            a3c.Config(network=told(1e9 * np.eye(mdp.P.shape[1])[np.resize(tau.actions, 5)])
                       (approximator="linear"), **config) for tau in chosen
        ]  # fmt: skip
        state = a3c.init(FiniteMDPEnv(mdp), configs[0], 0)
        state.theta[:] = theta
        workers = [
            a3c.worker(i, Replay(mdp, tau), configs[i], state, a3c.gradient)
            for i, tau in enumerate(chosen)
        ]
        for _ in interleave(workers, schedule):
            pass
        probability = 1.0
        for tau, me in zip(chosen, state.learners):
            s = tau.states[:-1]
            probability *= np.prod(
                pi(me.theta)[s, tau.actions] * mdp.P[s, tau.actions, tau.states[1:]]
            )
        total = total + probability * state.learners[k].d
    return total


@pytest.mark.parametrize("k", [1, 2])
def test_staleness__is_what_the_workers_show_to_first_order(k):
    """Halving η quarters what is left, up to O(η)."""
    mdp = two_steps(0.9)
    world = World(mdp, 0, None)
    theta = np.append(world.theta, [0.3, -0.4, 0.0])
    update = partial(expected_update, mdp=mdp, n=5, beta=0.1)
    left = []
    for eta in (2e-3, 1e-3):
        shown = stale(world, theta, eta, k, False) - stale(world, theta, eta, k, True)
        first = staleness(update, theta, eta, k)
        np.testing.assert_allclose(shown, first, rtol=0.05, atol=0.02 * abs(first).max())
        left.append(shown - first)
    np.testing.assert_allclose(left[0], 4 * left[1], rtol=0.02, atol=0.02 * abs(left[0]).max())


@given(world=worlds(), n=st.integers(1, 4), k=st.integers(1, 3))
def test_staleness__is_the_first_order_of_updates_at_an_older_theta(world, n, k):
    """u(θ) − u(θ + η k u(θ)) is −η k (∂u/∂θ) u + O(η²), in every world; θ has v̂ too."""
    assume(world.policy.model.layout.size <= 12)
    theta = np.append(world.theta, world.v_hat)
    update = partial(expected_update, mdp=world.mdp, n=n, beta=world.beta, limit=world.limit,
                     entropy=world.entropy)  # fmt: skip
    u = update(theta)
    steps, left = (2e-3, 1e-3), []
    scale = 1 + np.abs(u).max()
    for eta in steps:
        eta /= scale
        lost = u - update(theta + eta * k * u)
        left.append(lost - staleness(update, theta, eta, k))
    bound = np.abs(left[0]).max()
    np.testing.assert_allclose(left[0], 4 * left[1], atol=0.1 * bound + 1e-9 * scale)


@given(world=worlds(), page=st.sampled_from((a3c, a2c)), n=st.integers(1, 4), c=st.floats(0, 2))
def test_expected_update__is_the_sum_of_the_parts_of_a_tabular_network(world, page, n, c):
    mdp, seen, theta = world.mdp, world.visits(page, n), np.append(world.theta, world.v_hat)
    options = (world.beta, c, world.limit, world.spacing(page, n), world.entropy)
    errors = exact.value_errors(mdp, world.pi, world.error, seen)
    expected = np.append(sum(world.parts(page, n)), c * errors) / seen.segments
    found = expected_update(theta, mdp, n, *options)
    np.testing.assert_allclose(found, expected, atol=1e-10 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("entropy", ["step", "return"])
def test_expected_update__is_that_of_the_workers(entropy):
    """At one θ, of all that a worker can meet: the chain, segments of whole episodes."""
    world = World(chain(), 1, None)
    theta = np.append(world.theta, [0.5, -1.0, 0.2, 2.0, 0.0])
    u = expected_update(theta, chain(), 5, 0.1, entropy=entropy)
    shown = stale(world, theta, 0.0, 0, True, entropy=entropy)
    np.testing.assert_allclose(shown, u, atol=1e-12)


def test_expected_update__with_entropy_in_the_return_ascends_soft_returns():
    """γ = 1 and whole episodes, so that no v̂ is used: ∇E Σ (R + βH) by complex steps, and the
    steps of A3C's own workers sum to it."""
    world = World(two_steps(1.0), 2, None)
    theta = np.append(world.theta, [0.3, -0.4, 0.0])

    def J(theta):
        pi = Softmax(theta.reshape(3, 2)).probs()
        return expected_return(world.mdp, pi, 0.1 * exact.entropies(world.mdp, pi))

    shown = stale(world, theta, 0.0, 0, True, entropy="return")
    np.testing.assert_allclose(shown[:6], complex_step(J, theta[:6]), atol=1e-14)
    apart = stale(world, theta, 0.0, 0, True)[:6] - shown[:6]
    assert np.abs(apart).max() > 1e-3  # what the entropy of each step alone leaves out


# bad input


def test_parts__name_what_is_wrong():
    mdp, pi, none = chain(), np.full((5, 2), 0.5), np.zeros(5)
    seen = exact.visits(mdp, pi, 5)
    with pytest.raises(ValueError, match=r"beta = -0.1: must be at least 0"):
        exact.parts(mdp, pi, none, -0.1, seen)
    with pytest.raises(ValueError, match=r"beta = nan: must be at least 0"):
        exact.parts(mdp, pi, none, np.nan, seen)
    with pytest.raises(ValueError, match=r"error has shape \(4,\): must be \(5,\)"):
        exact.parts(mdp, pi, none[1:], 0.1, seen)
    with pytest.raises(ValueError, match=r"entropy = 'both': must be one of step, return"):
        exact.parts(mdp, pi, none, 0.1, seen, "both")
    with pytest.raises(ValueError, match=r"n = 0, limit = None: must be >= 1"):
        exact.visits(mdp, pi, 0)
    with pytest.raises(ValueError, match=r"n = 5, limit = 0: must be >= 1"):
        exact.visits(mdp, pi, 5, 0)
    with pytest.raises(ValueError, match="spacing = 3: must divide n = 4"):
        exact.visits(mdp, pi, 4, spacing=3)
    with pytest.raises(ValueError, match="spacing = 5: must divide n = 4"):
        exact.visits(mdp, pi, 4, spacing=5)
    with pytest.raises(ValueError, match="spacing = -1: must divide n = 4"):
        exact.visits(mdp, pi, 4, spacing=-1)
    with pytest.raises(ValueError, match=r"limit: must be given, since episodes need not end"):
        exact.visits(garnet(0), np.full((4, 2), 0.5), 5)
    for page in (a3c, a2c):
        with pytest.raises(ValueError, match=r"beta = -0.1: must be at least 0"):
            page.Config(beta=-0.1, entropy="return")
        with pytest.raises(ValueError, match="entropy = 'both': must be one of step, return"):
            page.Config(entropy="both")


def test_table__has_a_row_for_every_part():
    world = World(chain(), 0, None)
    of = partial(updates_table, chain(), world.pi, world.scores, world.theta)
    rows = {row.term: row for row in of(0.5, 2, 0.01, 3)}
    assert list(rows)[:6] == list(exact.Parts._fields) and len(rows) == 9
    assert rows["gradient"][1:] == (1.0, 1.0) and min(rows["cut"][1:]) > 0
    assert max(rows["cosine of their sum with ∇J"][1:]) < 1
    right = {row.term: row for row in of(1.0, 5, 0.0)}
    assert [right[name].a2c for name in ("unseen", "bootstrap", "cut", "entropy")] == [0] * 4
    assert right["cosine of entropy with ∇E Σ γ^t βH"][1:] == (None, None)
