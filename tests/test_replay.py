"""The replay memory against a plain list, its draws against uniform ones, its memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from worlds import CHANCE, SEEDS

from algorithms import ddpg_replay
from algorithms.ddpg_replay import Replay, empty_ring
from npgrad import memory
from npgrad.memory import available_memory

NUMBERS = st.floats(-1e6, 1e6, width=32)


class RingIsAList(RuleBasedStateMachine):
    """The last `capacity` of everything stored, whatever order of storing, drawing, reloading."""

    @initialize(
        capacity=st.integers(1, 6),
        n=st.integers(0, 3),
        d=st.integers(1, 2),
        N=st.integers(1, 5),
        dtype=st.sampled_from((np.float32, np.float64)),
    )
    def begin(self, capacity, n, d, N, dtype):
        """n = 0: the states are numbers of a Discrete space."""
        self.shape, self.N, self.discrete = (max(n, 1), d), N, n == 0
        self.all, self.t = [], 0
        self.ring = empty_ring(capacity, *self.shape, dtype)
        self.replay = Replay(self.ring, d, N, self.discrete)
        self.rng = np.random.default_rng(0)

    @rule(data=st.data(), r=NUMBERS, terminated=st.booleans())
    def store(self, data, r, terminated):
        n, d = self.shape
        draw = lambda m: np.array(data.draw(st.lists(NUMBERS, min_size=m, max_size=m)))
        state = lambda: np.intp(data.draw(st.integers(0, 10**6))) if self.discrete else draw(n)
        s, u, s2 = state(), draw(d), state()
        self.replay.store(self.t, s, u, r, s2, terminated)
        self.t += 1
        self.all.append((*np.atleast_1d(s), *u, r, *np.atleast_1d(s2), float(terminated)))

    @rule(bad=st.sampled_from((np.nan, np.inf, 1e300)), where=st.integers(0, 2))
    def refuse(self, bad, where):
        if bad == 1e300 and self.ring.dtype == np.float64:
            return
        n, d = self.shape
        s, r, s2 = np.zeros(n), 0.0, np.zeros(n)
        if where == 1:
            r = bad
        else:
            (s, s2)[where // 2][-1] = bad
        before = self.ring.copy()
        with pytest.raises(FloatingPointError, match=f"at step {self.t + 1}: must be finite"):
            self.replay.store(self.t, s, np.zeros(d), r, s2, False)
        assert np.array_equal(self.ring, before)

    @rule()
    def save_and_load(self):
        """What is in the array is all there is."""
        self.ring = self.ring.copy()
        self.replay = Replay(self.ring, self.shape[1], self.N, self.discrete)

    @precondition(lambda self: self.all)
    @rule()
    def sample(self):
        kept = [tuple(map(self.ring.dtype.type, row)) for row in self.kept()]
        found = self.replay.sample(self.t, self.rng)
        (n, d), N = self.shape, self.N
        states = (N,) if self.discrete else (N, n)
        assert [x.shape for x in found] == [states, (N, d), (N,), states, (N,)]
        kinds = "i" if self.discrete else "f", "f"
        assert (found.S.dtype.kind, found.U.dtype.kind) == kinds and found.S2.dtype == found.S.dtype
        for row in zip(*found):
            assert tuple(np.hstack(row)) in kept

    @invariant()
    def holds_the_latest(self):
        if hasattr(self, "ring"):
            kept = self.kept()
            rows = self.ring[: len(kept)]
            start = self.t % len(self.ring) if self.t > len(self.ring) else 0
            expected = np.array(kept, self.ring.dtype).reshape(rows.shape)
            assert np.array_equal(np.roll(rows, -start, 0), expected)
            assert not self.ring[len(kept) :].any()

    def kept(self):
        return self.all[-len(self.ring) :]


TestRingIsAList = RingIsAList.TestCase
TestRingIsAList.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)


@given(st.integers(1, 9), st.integers(1, 20), SEEDS)
def test_sample__is_uniform_over_what_is_stored(capacity, t, seed):
    """Each of the k rows kept comes up n/k times, give or take √(n ln(2k/chance)/2) (Hoeffding)."""
    ring, n = empty_ring(capacity, 1, 1, float), 4000
    memory = Replay(ring, 1, n)
    for i in range(t):
        memory.store(i, [i], [0.0], 0.0, [0.0], False)
    kept = np.arange(max(0, t - capacity), t)
    seen, counts = np.unique(memory.sample(t, np.random.default_rng(seed)).S, return_counts=True)
    assert np.array_equal(seen, kept)
    bound = np.sqrt(n * np.log(2 * len(kept) / CHANCE) / 2)
    assert np.abs(counts - n / len(kept)).max() <= bound


@given(st.integers(2, 6), SEEDS)
def test_sample__draws_its_rows_independently(t, seed):
    """Pairs of neighbours in a sample: each of t² comes up as often as the others (Hoeffding)."""
    ring, n = empty_ring(t, 1, 1, float), 8000
    memory = Replay(ring, 1, n)
    for i in range(t):
        memory.store(i, [i], [0.0], 0.0, [0.0], False)
    first, second = memory.sample(t, np.random.default_rng(seed)).S.reshape(-1, 2).T.astype(int)
    counts = np.bincount(first * t + second, minlength=t * t)
    bound = np.sqrt(n / 2 * np.log(2 * t * t / CHANCE) / 2)
    assert np.abs(counts - n / 2 / t**2).max() <= bound


def test_ring__of_a_million_halfcheetah_transitions_is_under_200_MB():
    assert empty_ring(1_000_000, 17, 6, np.float32).nbytes == 168_000_000


def test_ring__that_does_not_fit_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(ddpg_replay, "available_memory", lambda: 1_000_000)
    message = (r"^replay = 1000000: needs 36 MB of memory, 1 MB are available: "
               r"must be at most 27777$")  # fmt: skip
    monkeypatch.setattr(np, "zeros", None)
    with pytest.raises(ValueError, match=message):
        empty_ring(1_000_000, 3, 1, np.float32)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="replay = 1000000000000000: needs"):
        empty_ring(10**15, 3, 1, np.float32)


def test_available_memory__is_a_number_of_bytes_or_unknown(monkeypatch):
    free = available_memory()
    assert free is None or free > 1_000_000
    monkeypatch.setattr(memory.Path, "read_text", lambda path: "nothing of use\n")
    total = available_memory()
    assert total is None or total > 1_000_000
    monkeypatch.delattr(memory.os, "sysconf")
    assert available_memory() is None
    assert empty_ring(3, 1, 1, np.float32).shape == (3, 5)
