"""Who lets asynchronous workers run: in turn, in simulated time, in threads; what they count."""

import copy
import sys
import threading
from dataclasses import fields
from itertools import cycle, groupby, islice
from types import FunctionType
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from worlds import (
    LINEAR,
    OPTIMIZERS,
    SCHEDULES,
    SEEDS,
    SGD,
    SMALL,
    Constant,
    Endless,
    Recorder,
    Wander,
    by_hand,
    env_seed,
    stream,
)

from algorithms import a3c, async_q
from algorithms.common import drivers
from algorithms.common.asynchronous import (
    LAST,
    Turns,
    begin,
    landed,
    learners,
    start,
    stepper,
    total,
)
from algorithms.common.drivers import (
    WorkerError,
    interleave,
    mean_staleness,
    threads,
    virtual_clock,
)

TIMES = st.integers(1, 9)  # whole seconds: sums are exact, and many events fall together


class Method(NamedTuple):
    """A method of this kind: its page, its worker, its Config and the field that is the number of
    steps between a worker's updates."""

    page: object
    worker: FunctionType
    Config: type
    between: str

    def config(self, steps=5, **options):
        """A Config, with those of the options that it has."""
        known = {field.name for field in fields(self.Config)}
        options = {self.between: steps, "network": SMALL, **options}
        return self.Config(**{k: x for k, x in options.items() if k in known})


METHODS = {
    "a3c": Method(a3c, a3c.worker, a3c.Config, "t_max"),
    "q": Method(async_q, async_q.one_step, async_q.OneStepQ, "I_async_update"),
    "sarsa": Method(async_q, async_q.one_step, async_q.OneStepSarsa, "I_async_update"),
    "n-step-q": Method(async_q, async_q.n_step, async_q.NStepQ, "t_max"),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
RANDOM = dict(final_epsilons=(1.0,), epsilon_chances=(1.0,))  # ε of the Q methods, for ever


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


# in turn


@given(st.integers(1, 5), st.integers(1, 200), SEEDS)
def test_turns__gives_everyone_one_turn_a_round(n, rounds, seed):
    """Of one to three yields: after any number of rounds, nobody has had more than thrice the
    yields of another, and the same seed gives the same turns."""
    turns = list(islice(Turns(n, np.random.default_rng(seed)), 3 * n * rounds))
    counts, whole = np.zeros(n, int), 0
    for i in turns:
        counts[i] += 1
        whole = max(whole, -(-counts.max() // 3))
        assert counts.max() <= 3 * (counts.min() + 1)
    assert counts.min() >= whole - 1
    assert turns == list(islice(Turns(n, np.random.default_rng(seed)), 3 * n * rounds))


def test_turns__has_every_order_and_length_of_turns():
    turns = list(islice(Turns(4, np.random.default_rng(0)), 4000))
    runs = [(i, len(list(run))) for i, run in groupby(turns)]
    firsts = {(runs[j][0], runs[j + 1][0]) for j in range(len(runs) - 1)}
    assert firsts == {(i, j) for i in range(4) for j in range(4) if i != j}
    assert {1, 2, 3} <= {length for _, length in runs} <= set(range(1, 7))


def test_turns__does_not_keep_the_workers_in_step():
    """With turns of one yield each, everybody would pull before anybody pushes."""
    board, pulls = [], []
    workers = [toy(board, 50) for _ in range(3)]
    for _, event, _ in interleave(workers, Turns(3, np.random.default_rng(0))):
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
    events = list(interleave([toy(board, 2), toy(board, 1)], Turns(2, np.random.default_rng(0))))
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
        list(interleave(workers, Turns(3, np.random.default_rng(0))))
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


@every_method
@given(st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_virtual_clock__lets_the_methods_workers_run(method, n, steps, seed):
    """The histogram has, of every update, how many of others' were in between its pull and it."""
    config = method.config(steps, workers=n, T_max=60, network=LINEAR)
    state = method.page.init(Wander(), config, seed)
    gradient = method.page.gradient
    workers = [method.worker(i, Wander(), config, state, gradient) for i in range(n)]
    pushes, pulled, staleness = 0, {}, np.zeros((n, LAST + 1), int)
    for _, i, event, _ in virtual_clock(workers, np.ones(n), np.ones(n), np.ones(n)):
        if event == "pulled":
            pulled.setdefault(i, pushes)
        if event == "pushed":
            staleness[i, pushes - pulled.pop(i)] += 1
            pushes += 1
    assert 60 < total(state.T) <= 60 + n * steps
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
    """Counts its steps, knows whether it was closed, and joins others, as its copies do."""

    def __init__(self, join):
        super().__init__()
        self.join, self.steps, self.closed = join, 0, False
        join(self)

    def __deepcopy__(self, memo):
        return Counted(self.join)

    def step(self, action):
        self.steps += 1
        return super().step(action)

    def close(self):
        self.closed = True


@every_method
def test_train__threads_reach_T_max_and_lose_nothing(eager, method):
    """Every step is in an update of T; each worker overshoots by one segment at most."""
    config, kin = method.config(driver="threads", workers=3, T_max=400), []
    state = method.page.init(Wander(), config, 0)
    metrics = list(method.page.train(lambda: Counted(kin.append), config, state))
    assert state.T.tolist() == [env.steps for env in kin]
    assert 400 < metrics[-1].steps == state.T.sum() <= 400 + 3 * 5
    assert state.staleness.sum() == state.updates.sum() and np.isfinite(state.theta).all()
    assert state.episodes == sum(len(m.returns) for m in metrics) == metrics[-1].episodes
    assert state.begun.sum() - 3 <= state.episodes <= state.begun.sum()
    assert all(env.closed for env in kin)


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


def test_threads__one_that_hangs_is_abandoned_with_a_word(monkeypatch):
    monkeypatch.setattr(drivers, "HEARTBEAT", 1e-3)
    monkeypatch.setattr(drivers, "PATIENCE", 1e-2)
    go = threading.Event()

    def hung():
        go.wait()
        yield "pulled", None

    def short():
        yield "pushed", ((1.0, 2),)

    news = []
    workers = threads([hung(), short()], lambda: len(news) == 2)
    with pytest.warns(RuntimeWarning, match="worker 0 does not end by itself"):
        for found in workers:
            news += [found] if found[0] is not None else []
    go.set()
    assert news == [(1, "pushed", ((1.0, 2),)), (1, "ended", None)]


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


# what a run reports, keeps and refuses


@every_method
@given(SCHEDULES, OPTIMIZERS, st.integers(1, 6), SEEDS)
def test_train__stays_finite_and_reports_every_episode(method, turns, optimizer, steps, seed):
    config = method.config(steps, workers=3, T_max=50, optimizer=optimizer, step_size=0.05)
    state = method.page.init(Wander(), config, seed)
    metrics = list(method.page.train(Wander(), config, state, schedule=turns))
    assert len(metrics) == state.updates.sum() == state.staleness.sum()
    assert np.isfinite(state.theta).all() and np.isfinite(state.statistics).all()
    ended = 0
    for m in metrics:
        ended += len(m.returns)
        assert m.episodes == ended and len(m.lengths) == len(m.returns)
    assert not metrics or metrics[-1].steps == state.T.sum() >= sum(sum(m.lengths) for m in metrics)


@every_method
@settings(max_examples=8)
@given(st.integers(1, 4), SEEDS)
def test_worker__reports_the_returns(method, steps, seed):
    """Σ R of each episode and its length, whole, however many updates it spans."""
    config, env = method.config(steps, workers=1), Recorder(Wander())
    state = method.page.init(env, config, seed)
    for event, what in islice(method.worker(0, env, config, state, method.page.gradient), 90):
        if event == "pushed" and what:
            [(G, length)] = what
            assert length == len(env.log)
            assert G == pytest.approx(sum(step[2] for step in env.log), rel=1e-9, abs=1e-12)
            env.log.clear()


@every_method
@given(SCHEDULES, SCHEDULES, SEEDS)
def test_worker__its_kth_episode_is_the_same_whatever_the_schedule(method, one, other, seed):
    """While θ and ε stand still; and no two workers' episodes are alike."""
    config, logs = method.config(3, workers=3, step_size=0.0, **RANDOM), []
    for turns in (one, other):
        state, envs = method.page.init(Wander(), config, seed), [Recorder(Wander()) for _ in "012"]
        crew = [
            method.worker(i, e, config, state, method.page.gradient) for i, e in enumerate(envs)
        ]
        list(interleave(crew, turns))
        logs.append([[(*step[0], step[1], step[2]) for step in env.log] for env in envs])
    for a, b in zip(*logs):
        assert all(x == y for x, y in zip(a, b))
    firsts = [log[0] for log in logs[0] if log]
    assert len(set(firsts)) == len(firsts)


@every_method
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), SEEDS)
def test_worker__takes_over_with_the_next_episode(method, lives, seed):
    """Each life of worker 1 is ended after so many yields. An environment is seeded once, from the
    stream of the first episode that is played in it, and no episode's stream is drawn twice."""
    config = method.config(2, workers=2)
    state = method.page.init(Wander(), config, seed)
    for yields in lives:
        state.learners[:] = learners(2, state.theta)
        env, before = Recorder(Wander()), int(state.begun[1])
        list(islice(method.worker(1, env, config, state, method.page.gradient), yields))
        first, *later = env.seeds
        assert first == env_seed(stream(seed, 1, before + 1)) and not any(later)
        ended = sum(step[4] or step[5] for step in env.log)
        assert before + 1 <= state.begun[1] <= before + 1 + ended
        assert state.begun[1] >= before + ended
    assert state.begun[0] == 0


class Bad(Endless):
    """Whose step number `at`, or first reset if 0, gives what is not finite."""

    def __init__(self, where, bad, at):
        super().__init__()
        self.where, self.bad, self.at, self.t = where, bad, at, 0

    def reset(self, **how):
        s, info = super().reset(**how)
        return (s * self.bad if self.at == 0 else s), info

    def step(self, action):
        s, r, *rest = super().step(action)
        self.t += 1
        if self.t == self.at:
            s, r = (s * self.bad, r) if self.where == "observation" else (s, self.bad)
        return s, r, *rest


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_method
@given(
    st.sampled_from(("observation", "reward", "reset", "gradient")),
    st.sampled_from((np.nan, np.inf)),
    st.integers(0, 2),
    st.integers(1, 9),
    OPTIMIZERS,
    SEEDS,
)
def test_worker__pushes_nothing_that_is_not_finite(method, where, bad, j, at, optimizer, seed):
    """The worker is named, and its environment, episode, step and quantity; θ, the statistics and
    the counters stay as they were before."""
    config = method.config(workers=3, optimizer=optimizer)
    state, calls = method.page.init(Wander(), config, seed), []

    def broken(*arguments):
        calls.append(1)
        g, factor = method.page.gradient(*arguments), bad if len(calls) == at else 1.0
        return tuple(x * factor for x in g) if type(g) is tuple else g * factor

    envs, gradients = [Wander(), Wander(), Wander()], [method.page.gradient] * 3
    message = r"the gradient is not finite at T = \d+: theta has diverged"
    if where == "gradient":
        gradients[j] = broken
    else:
        envs[j] = Bad(where, bad, 0 if where == "reset" else at)
        what = "reward" if where == "reward" else "observation"
        message = f"Bad: episode 1, step {envs[j].at}: {what} = .*: must be finite"
    workers = [method.worker(i, envs[i], config, state, gradients[i]) for i in range(3)]
    good = copy.deepcopy(state)
    with pytest.raises(WorkerError, match=f"^worker {j}: FloatingPointError: {message}"):
        for _ in interleave(workers, cycle(range(3))):
            good = copy.deepcopy(state)
    assert np.isfinite(state.theta).all()
    for name in ("theta", "statistics", "T", "updates", "staleness"):
        assert np.array_equal(getattr(good, name), getattr(state, name))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_train__yields_no_state_that_is_not_finite():
    """A step that overflows, of a gradient that does not."""
    config = a3c.Config(workers=1, step_size=1e308, value_coef=1e5, network=LINEAR, **SGD)
    state = a3c.init(Wander(), config, 0)
    state.theta[:] = 1.0
    with pytest.raises(FloatingPointError, match="theta has diverged: not finite at step "):
        for _ in a3c.train(Wander(), config, state):
            assert np.isfinite(state.theta).all()


@every_method
def test_train__round_robin_runs_until_T_passes_T_max(method):
    config = method.config(4, workers=3, T_max=60)
    state = method.page.init(Wander(), config, 1)
    metrics = list(method.page.train(Wander(), config, state))
    assert 60 < metrics[-1].steps <= 60 + 3 * 4 and metrics[-2].steps >= 60 - 4
    assert all(n > 0 for n in state.T) and state.episodes == metrics[-1].episodes > 0
    assert list(method.page.train(Wander(), config, state)) == [], "T is beyond T_max already"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "workers = 2: must be 3, as in the State"),
        ({"optimizer": "sgd"}, "optimizer = 'sgd': must be the one the State was made"),
        ({"optimizer": "rmsprop"}, "optimizer = 'rmsprop': must be the one the State was made"),
    ],
)
@every_method
def test_train__refuses_the_state_of_another_config(method, options, message):
    state = method.page.init(Wander(), method.config(workers=3), 0)
    with pytest.raises(ValueError, match=message):
        next(method.page.train(Wander(), method.config(**{"workers": 3, **options}), state))


# environments


@pytest.mark.parametrize("driver", ["round-robin", "threads"])
def test_train__closes_what_it_made_and_not_what_was_handed_over(driver):
    """Even if it is not run to its end. The first worker has the object, the others have copies."""
    config, mine, theirs = a3c.Config(workers=3, network=LINEAR, driver=driver), [], []
    for kin, env in ((mine, Counted(mine.append)), (theirs, lambda: Counted(theirs.append))):
        run = a3c.train(env, config, a3c.init(Wander(), config, 0))
        next(run)
        while not (kin[0].steps and kin[-1].steps):
            next(run)
        run.close()
    assert [made.closed for made in mine] == [False] + [True] * (len(mine) - 1) != [False]
    assert len(theirs) == 3 and all(made.closed for made in theirs)


def test_train__closes_what_it_made_if_it_cannot_make_all():
    kin = []

    def make():
        if len(kin) == 2:
            raise OSError("no more")
        return Counted(kin.append)

    config = a3c.Config(workers=3, network=LINEAR)
    state = a3c.init(Wander(), config, 0)
    with pytest.raises(OSError, match="no more"):
        next(a3c.train(make, config, state))
    assert [env.closed for env in kin] == [True, True]


def test_train__refuses_a_factory_that_gives_the_same_environment_twice():
    env, config = Wander(), a3c.Config(workers=2, network=LINEAR)
    state = a3c.init(env, config, 0)
    with pytest.raises(ValueError, match="env"):
        next(a3c.train(lambda: env, config, state))


@pytest.mark.parametrize("driver", ["round-robin", "threads", "processes"])
@pytest.mark.parametrize("workers", [1, 3])
def test_train__what_was_changed_in_the_environment_holds_for_all(driver, workers):
    env = Constant(3)
    env.T = 5
    config = a3c.Config(workers=workers, network=LINEAR, driver=driver, T_max=100)
    state = a3c.init(env, config, 0)
    lengths = [n for m in a3c.train(env, config, state) for n in m.lengths]
    assert len(lengths) == state.episodes > 10 and set(lengths) == {5}


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


@every_method
@settings(max_examples=10)
@given(SEEDS, st.integers(1, 20), st.sampled_from(("sgd", "shared_rmsprop")), st.booleans())
def test_train__stops_when_it_is_told_to(method, seed, yields, optimizer, threads):
    """In turn, at once; in threads, when all is pushed and reported."""
    driver = "threads" if threads else "round-robin"
    config = method.config(workers=3, T_max=10**6, optimizer=optimizer, driver=driver)
    state, reports = method.page.init(Wander(), config, seed), []
    for metrics in method.page.train(Wander(), config, state):
        reports.append(metrics)
        if len(reports) == yields:
            state.stop[:] = True
        assert threads or len(reports) <= yields
    assert reports[-1].steps == total(state.T)
    assert sum(len(m.returns) for m in reports) == state.episodes


@every_method
@settings(max_examples=10)
@given(SEEDS)
def test_train__in_threads_says_how_many_episodes_it_cuts(method, seed):
    config, later = (method.config(workers=3, T_max=T, driver="threads") for T in (60, 99))
    state = method.page.init(Endless(), config, seed)
    list(method.page.train(Endless(), config, state))
    assert (state.begun.tolist(), state.episodes, state.cut) == ([1, 1, 1], 0, 0)
    with pytest.warns(RuntimeWarning, match=f"^3 episodes in progress at T = {total(state.T)} are"):
        list(method.page.train(Endless(), later, state))
    assert (state.begun.tolist(), state.episodes, state.cut) == ([2, 2, 2], 0, 3)


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
    OPTIMIZERS,
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 30)), min_size=2, max_size=8),
    st.booleans(),
    st.floats(0.1, 0.99),
    SEEDS,
)
def test_stepper__only_which_statistics_differs(optimizer, pushes, annealed, decay, seed):
    """By §4, momentum and rmsprop go by each worker's own dθ, shared_rmsprop by everyone's; η falls
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
    OPTIMIZERS,
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

    def episode(seed, i, k):
        _, state = shared(workers=4)
        state.seed, state.begun[i] = seed, k
        rng = begin(state, i)
        assert state.begun.sum() == state.begun[i] == k + 1
        return rng.random()

    grid = {(j, n): episode(seed, j, n) for j in range(4) for n in range(4)}
    assert len(set(grid.values())) == 16
    assert grid[i, k] == stream(seed, i, k + 1).random()
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
