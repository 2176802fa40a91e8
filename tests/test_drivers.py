"""Who lets asynchronous workers run: in turn, in simulated time, in threads; what they count."""

import sys
import threading
from dataclasses import replace
from itertools import groupby, islice

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_a3c import Wander, by_hand

from algorithms import a3c, async_q
from algorithms.common import drivers
from algorithms.common.asynchronous import LAST, begin, landed, start, stepper, total
from algorithms.common.drivers import (
    WorkerError,
    copies,
    interleave,
    mean_staleness,
    round_robin,
    threads,
    virtual_clock,
)
from algorithms.common.policy import Network

SEEDS = st.integers(0, 2**32 - 1)
LINEAR = Network(approximator="linear")
TIMES = st.integers(1, 9)  # whole seconds: sums are exact, and many events fall together


def toy(board, n, k=1, apart=False):
    """A worker that puts on `board` how much it saw there when it pulled, n times; its k steps are
    in one go, or one by one."""
    for _ in range(n):
        seen = len(board)
        yield "pulled", 0
        for _ in range(k - 1 if apart else 0):
            yield "pulled", 1
        yield "computed", 1 if apart else k
        board.append(seen)
        yield "pushed", ()


def shared(workers=2, n=3, **options):
    """(config, State) with θ (n,) = 0."""
    config = a3c.Config(workers=workers, **options)
    return config, a3c.State(**start(config, 0, np.zeros(n)))


def test_train__says_so_if_the_environment_cannot_be_copied():
    env, config = Wander(), a3c.Config(network=LINEAR)
    env.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"^env = .*: has no spec, and cannot be copied: .*lock"):
        next(a3c.train(env, config, a3c.init(env, config, 0)))


# in turn


@given(st.integers(1, 5), st.integers(1, 200), SEEDS)
def test_round_robin__gives_everyone_one_turn_a_round(n, rounds, seed):
    """Of one to three yields: after any number of rounds, nobody has had more than thrice the
    yields of another, and the same seed gives the same turns."""
    turns = list(islice(round_robin(n, np.random.default_rng(seed)), 3 * n * rounds))
    counts, whole = np.zeros(n, int), 0
    for i in turns:
        counts[i] += 1
        whole = max(whole, -(-counts.max() // 3))
        assert counts.max() <= 3 * (counts.min() + 1)
    assert counts.min() >= whole - 1
    assert turns == list(islice(round_robin(n, np.random.default_rng(seed)), 3 * n * rounds))


def test_round_robin__has_every_order_and_length_of_turns():
    turns = list(islice(round_robin(4, np.random.default_rng(0)), 4000))
    runs = [(i, len(list(run))) for i, run in groupby(turns)]
    firsts = {(runs[j][0], runs[j + 1][0]) for j in range(len(runs) - 1)}
    assert firsts == {(i, j) for i in range(4) for j in range(4) if i != j}
    assert {1, 2, 3} <= {length for _, length in runs} <= set(range(1, 7))


def test_round_robin__does_not_keep_the_workers_in_step():
    """With turns of one yield each, everybody would pull before anybody pushes."""
    board, pulls = [], []
    workers = [toy(board, 50) for _ in range(3)]
    for _, event, _ in interleave(workers, round_robin(3, np.random.default_rng(0))):
        if event == "pulled":
            pulls.append(len(board))
    assert len(set(pulls)) > 100


@given(st.lists(st.integers(0, 4), max_size=30), st.lists(st.integers(0, 3), max_size=4))
def test_interleave__gives_each_turn_to_the_worker_of_that_number(schedule, lengths):
    """One that has ended, or does not exist, is passed over; the rest goes on."""
    workers = [iter([(j, i) for j in range(n)]) for i, n in enumerate(lengths)]
    expected, done = [], [0] * 5
    for i in schedule:
        if i < len(lengths) and done[i] < lengths[i]:
            expected.append((i, done[i], i))
            done[i] += 1
    assert list(interleave(workers, schedule)) == expected


def test_interleave__ends_with_the_last_worker_though_the_schedule_does_not():
    board = []
    events = list(
        interleave([toy(board, 2), toy(board, 1)], round_robin(2, np.random.default_rng(0)))
    )
    assert len(events) == 9 and len(board) == 3


def broken(i, steps):
    for _ in range(steps):
        yield "pulled", None
    raise KeyError("engine")


@given(st.integers(0, 2), st.integers(0, 3))
def test_interleave__names_the_worker_that_fails(i, steps):
    workers = [toy([], 9), toy([], 9), toy([], 9)]
    workers[i] = broken(i, steps)
    with pytest.raises(WorkerError, match=f"^worker {i}: KeyError: 'engine'$") as caught:
        list(interleave(workers, round_robin(3, np.random.default_rng(0))))
    assert isinstance(caught.value.__cause__, KeyError)


# in simulated time


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), TIMES, TIMES, TIMES, st.booleans())
def test_virtual_clock__n_equal_workers_are_n_times_as_fast(
    n, pushes, k, step, gradient, push, apart
):
    """Without a bus, all the j-th pushes are in at j times what one takes."""
    board, times = [], [np.full(n, x) for x in (step, gradient, push)]
    events = virtual_clock([toy(board, pushes, k, apart) for _ in range(n)], *times)
    done = [time for time, _, event, _ in events if event == "pushed"]
    cycle = k * step + gradient + push
    assert done == [j * cycle for j in range(1, pushes + 1) for _ in range(n)]


@given(st.integers(1, 6), st.integers(1, 6), TIMES, TIMES, TIMES)
def test_virtual_clock__a_bus_takes_one_push_at_a_time(n, pushes, step, gradient, push):
    """Once n pushes take longer than the rest, one is in every `push` seconds, and no sooner."""
    times = [np.full(n, x) for x in (step, gradient, push)]
    events = virtual_clock([toy([], pushes) for _ in range(n)], *times, bus=True)
    done = [time for time, _, event, _ in events if event == "pushed"]
    assert len(done) == n * pushes and min(np.diff(done), default=push) >= push
    first, cycle = step + gradient + push, step + gradient + push
    if n * push >= cycle:
        assert done == [first + j * push for j in range(n * pushes)]
    else:  # the first round queues, and nobody ever waits again
        assert done == [first + i * push + j * cycle for j in range(pushes) for i in range(n)]


@given(
    st.lists(st.tuples(TIMES, TIMES, TIMES, st.integers(1, 5), st.integers(0, 5)), min_size=1,
             max_size=5),
    st.booleans(),
)  # fmt: skip
def test_virtual_clock__pulls_see_what_was_pushed_by_then(crew, bus):
    """And each push takes its worker's time, from when the gradient is there; on a bus, from when
    those that were there before are through."""
    step, gradient, push, k, n = zip(*crew)
    board = []
    workers = [toy(board, n[i], k[i]) for i in range(len(crew))]
    pulls, order, ready, clock, computed = [], [], {}, 0.0, []
    for time, i, event, what in virtual_clock(workers, step, gradient, push, bus):
        assert time >= clock
        clock = time
        if event == "pulled":
            pulls.append((time, i, len(board)))
        if event == "computed":
            assert what == k[i]
            ready[i] = time + k[i] * step[i] + gradient[i]
            computed.append((ready[i], i))
        if event == "pushed":
            order.append((time, i, ready[i], board[-1]))
    assert len(order) == sum(n)
    for j, (time, i, since, seen) in enumerate(order):
        before = order[j - 1][0] if bus and j else 0.0
        assert time == max(since, before) + push[i]
        mine = [p for p in pulls if p[1] == i and p[0] <= since - k[i] * step[i] - gradient[i]][-1]
        assert seen == mine[2]
        assert sum(t < mine[0] for t, *_ in order) <= seen <= sum(t <= mine[0] for t, *_ in order)
        assert seen >= sum(o[1] == i for o in order[:j]), "a worker sees its own pushes"


@given(st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_virtual_clock__lets_the_methods_workers_run(n, t_max, seed):
    """The histogram has, of every update, how many of others' were in between its pull and it."""
    config = a3c.Config(workers=n, t_max=t_max, T_max=60, network=LINEAR)
    state = a3c.init(Wander(), config, seed)
    workers = [a3c.worker(i, Wander(), config, state) for i in range(n)]
    pushes, pulled, staleness = 0, [0] * n, np.zeros((n, LAST + 1), int)
    for _, i, event, _ in virtual_clock(workers, np.ones(n), np.ones(n), np.ones(n)):
        if event == "pulled":
            pulled[i] = pushes
        if event == "pushed":
            staleness[i, pushes - pulled[i]] += 1
            pushes += 1
    assert 60 < total(state.T) <= 60 + n * t_max
    assert np.array_equal(state.staleness, staleness)


# in threads


@pytest.fixture
def eager():
    """Threads that are switched as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Counted(Wander):
    """Counts its steps, and whether it was closed, in `fleet`, which its copies share."""

    fleet = ()

    def __deepcopy__(self, memo):
        twin = Counted()
        self.fleet.append(twin)
        twin.steps, twin.closed = 0, False
        return twin

    def step(self, action):
        self.steps += 1
        return super().step(action)

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("page", "config"),
    [
        (a3c, a3c.Config()),
        (async_q, async_q.OneStepQ()),
        (async_q, async_q.OneStepSarsa()),
        (async_q, async_q.NStepQ()),
    ],
)
def test_train__threads_reach_T_max_and_lose_nothing(eager, page, config):
    """Every step is in an update of T; each worker overshoots by one segment at most."""
    config = replace(config, driver="threads", workers=3, T_max=400, network=Network(hidden=(3,)))
    env, Counted.fleet = Counted(), []
    state = page.init(env, config, 0)
    metrics = list(page.train(env, config, state))
    assert state.T.tolist() == [twin.steps for twin in Counted.fleet]
    assert 400 < metrics[-1].steps == state.T.sum() <= 400 + 3 * 5
    assert state.staleness.sum() == state.updates.sum() and np.isfinite(state.theta).all()
    assert state.episodes == sum(len(m.returns) for m in metrics) == metrics[-1].episodes
    assert state.begun.sum() - 3 <= state.episodes <= state.begun.sum()
    assert all(twin.closed for twin in Counted.fleet)


def endless(stopped):
    try:
        while True:
            yield "pulled", None
    finally:
        stopped.append(1)


@pytest.mark.parametrize("error", [KeyError, SystemExit])
def test_threads__one_that_fails_is_named_and_stops_all(error):
    def failing():
        yield "pulled", None
        raise error("engine")

    before, stopped = threading.active_count(), []
    with pytest.raises(WorkerError, match=f"^worker 1: {error.__name__}: '?engine'?$") as caught:
        list(threads([endless(stopped), failing(), endless(stopped)]))
    assert isinstance(caught.value.__cause__, error)
    assert threading.active_count() == before


def test_threads__stop_when_they_are_closed():
    before = threading.active_count()

    def busy():
        while True:
            yield "pushed", ((0.0, 1),)

    events = threads([busy(), busy()])
    assert next(events)[1:] == ("pushed", ((0.0, 1),))
    assert threading.active_count() == before + 2
    events.close()
    assert threading.active_count() == before


def test_threads__tell_of_ended_episodes_and_let_their_caller_look(monkeypatch):
    """A worker that waits for its caller: only `waiting` lets it go on."""
    monkeypatch.setattr(drivers, "HEARTBEAT", 1e-3)
    go = threading.Event()

    def patient():
        yield "pulled", None
        yield "pushed", ()
        go.wait()
        yield "pushed", ((1.0, 2), (3.0, 4))

    news = []
    for i, event, what in threads([patient()]):
        if event == "waiting":
            assert i is None and what is None
            go.set()
        else:
            news.append((i, event, what))
    assert go.is_set()
    assert news == [(0, "pushed", ((1.0, 2), (3.0, 4))), (0, "ended", None)]


# environments and reports


def test_copies__are_made_anew_or_copied():
    env = gymnasium.make("CartPole-v1")
    twin = copies(env)()
    assert twin is not env and twin.spec.id == "CartPole-v1" and twin.spec.max_episode_steps == 500
    scripted = Wander(n=3)
    assert copies(scripted)() is not scripted and copies(scripted)().observation_space.shape == (3,)


def test_train__closes_every_environment_even_if_it_is_not_run_to_its_end():
    env, Counted.fleet = Counted(), []
    config = a3c.Config(workers=3, network=LINEAR)
    run = a3c.train(env, config, a3c.init(env, config, 0))
    next(run)
    assert len(Counted.fleet) == 3 and not any(twin.closed for twin in Counted.fleet)
    run.close()
    assert all(twin.closed for twin in Counted.fleet)


@given(arrays(np.int64, (2, LAST + 1), elements=st.integers(0, 5)))
def test_mean_staleness__is_that_of_all_updates(histogram):
    _, state = shared()
    state.staleness[:], state.updates[:] = histogram, histogram.sum(1)
    each = [n for row in histogram for n, times in enumerate(row) for _ in range(times)]
    assert mean_staleness(state) == pytest.approx(np.mean(each) if each else 0.0)


def test_train__reports_staleness_where_episodes_ended():
    config = a3c.Config(workers=2, T_max=60, network=LINEAR)
    state = a3c.init(Wander(), config, 0)
    for m in a3c.train(Wander(), config, state):
        assert m.scalars == ({"staleness": mean_staleness(state)} if m.returns else {})
        assert m.steps == state.T.sum()


@settings(max_examples=5)
@given(SEEDS)
def test_train__round_robin_is_another_after_a_resume(seed):
    """Which turns come next depends on T, not only on the seed."""
    config = a3c.Config(workers=3, T_max=200, t_max=1, network=LINEAR)
    state = a3c.init(Wander(), config, seed)
    firsts = set()
    for _ in range(40):
        before = state.updates.copy()
        next(a3c.train(Wander(), config, state))
        firsts.add(int(np.argmax(state.updates - before)))
    assert firsts == {0, 1, 2}, "but for a chance of 3e-7"


# what a worker counts and how its gradient lands


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 99), st.integers(1, 9)), max_size=20))
def test_landed__counts_updates_steps_and_staleness(updates):
    """Beyond LAST others, the last bin."""
    _, state = shared(workers=3)
    expected = np.zeros((3, LAST + 1), int)
    for j, (i, ago, steps) in enumerate(updates):
        landed(state, i, steps, j - ago)
        expected[i, min(ago, LAST)] += 1
    assert np.array_equal(state.staleness, expected) and total(state.updates) == len(updates)
    for i in range(3):
        assert state.T[i] == sum(steps for j, _, steps in updates if j == i)
        assert state.updates[i] == sum(j == i for j, _, _ in updates)


@given(
    st.sampled_from(("sgd", "momentum", "rmsprop", "shared_rmsprop")),
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 30)), min_size=2, max_size=8),
    st.booleans(),
    st.floats(0.1, 0.99),
    SEEDS,
)
def test_stepper__only_which_statistics_differs(optimizer, pushes, annealed, decay, seed):
    """§4.5: momentum and rmsprop go by each worker's own dθ, shared_rmsprop by everyone's; η falls
    to 0 at T_max, and stays there."""
    config, state = shared(
        optimizer=optimizer, annealed=annealed, decay=decay, step_size=0.5, T_max=100
    )
    steps = [stepper(config, state, i) for i in range(2)]
    twin = by_hand(optimizer.removeprefix("shared_"), config)
    books = [twin, twin if optimizer.startswith("shared") else by_hand(optimizer, config)]
    rng = np.random.default_rng(seed)
    for i, k in [(0, 1), (1, 1), *pushes]:
        d = rng.normal(size=3)
        eta = 0.5 * (max(0.0, 1 - state.T.sum() / 100) if annealed else 1.0)
        got = steps[i](d.copy())
        np.testing.assert_allclose(got, books[i](d, eta), rtol=1e-9, atol=1e-12)
        landed(state, i, k, total(state.updates))


@given(SEEDS, st.floats(0.1, 2.0))
def test_stepper__limits_the_norm(seed, share):
    d = np.random.default_rng(seed).normal(size=3)
    max_norm = share * np.linalg.norm(d)
    config, state = shared(optimizer="sgd", annealed=False, step_size=1.0, max_norm=max_norm)
    got = stepper(config, state, 0)(d.copy())
    np.testing.assert_allclose(got, d * min(1.0, share), rtol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    st.sampled_from(("sgd", "momentum", "rmsprop", "shared_rmsprop")),
    st.sampled_from((np.nan, np.inf, -np.inf)),
    st.integers(0, 2),
)
def test_stepper__refuses_what_is_not_finite_before_statistics_move(optimizer, bad, j):
    config, state = shared(optimizer=optimizer)
    state.T[:] = 3, 4
    step, d = stepper(config, state, 1), np.ones(3)
    d[j] = bad
    with pytest.raises(FloatingPointError, match="gradient is not finite at T = 7"):
        step(d)
    assert not state.statistics.any()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_stepper__refuses_finite_gradients_whose_square_is_not():
    """RMSProp's g would be infinite for ever."""
    config, state = shared()
    with pytest.raises(FloatingPointError, match="theta has diverged"):
        stepper(config, state, 0)(np.full(3, 1e200))
    assert not state.statistics.any()


@given(SEEDS, SEEDS, st.integers(0, 3), st.integers(0, 3))
def test_begin__every_episode_of_every_worker_draws_from_its_own_stream(seed, other, i, k):
    """A function of (seed, worker, episode) and of nothing else."""

    class Seeds(Wander):
        def reset(self, *, seed=None, options=None):
            self.seed = seed
            return super().reset(seed=seed)

    def episode(seed, i, k):
        _, state = shared(workers=4)
        state.seed, state.begun[i] = seed, k
        env = Seeds()
        _, rng = begin(state, i, env)
        assert state.begun.sum() == state.begun[i] == k + 1
        return env.seed, rng.random()

    grid = {(j, n): episode(seed, j, n) for j in range(4) for n in range(4)}
    assert len({x for _, x in grid.values()}) == 16
    assert len({x for x, _ in grid.values()}) > 14  # 31 bits: two may be alike by chance
    assert episode(seed, i, k) == grid[i, k]
    assert seed == other or episode(other, i, k) != grid[i, k]


@given(st.lists(st.integers(0, 2**40), max_size=5))
def test_total__is_an_exact_int(counts):
    assert total(np.array(counts, np.int64)) == sum(counts)
    assert type(total(np.array(counts, np.int64))) is int


@pytest.mark.parametrize(
    ("optimizer", "shape"),
    [("sgd", (1, 0, 5)), ("momentum", (3, 1, 5)), ("rmsprop", (3, 1, 5)),
     ("shared_rmsprop", (1, 1, 5))],
)  # fmt: skip
@pytest.mark.parametrize(("precision", "dtype"), [("double", float), ("single", np.float32)])
def test_start__sets_out_from_nothing(optimizer, shape, precision, dtype):
    _, state = shared(workers=3, n=5, optimizer=optimizer, precision=precision)
    assert state.statistics.shape == shape and not state.statistics.any()
    assert state.theta.dtype == state.statistics.dtype == dtype
    for name in ("T", "updates", "begun", "staleness"):
        counts = getattr(state, name)
        assert len(counts) == 3 and counts.dtype == np.int64 and not counts.any()
    assert state.episodes == 0 and state.staleness.shape[1] == LAST + 1
