"""The replay memory against a plain list, its draws against uniform ones, its memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from algorithms.common import replay
from algorithms.common.replay import Replay, empty_ring, fields

NUMBERS = st.floats(-1e6, 1e6, width=32)
CHANCE = 1e-9  # that a test of frequencies fails


class RingIsAList(RuleBasedStateMachine):
    """The last `capacity` of everything stored, whatever order of storing, drawing, reloading."""

    @initialize(
        capacity=st.integers(1, 6),
        n=st.integers(1, 3),
        d=st.integers(1, 2),
        N=st.integers(1, 5),
        dtype=st.sampled_from((np.float32, np.float64)),
    )
    def begin(self, capacity, n, d, N, dtype):
        self.shape, self.N, self.all, self.t = (n, d), N, [], 0
        self.ring = empty_ring(capacity, n, d, dtype)
        self.replay = Replay(self.ring, n, d, N)
        self.rng = np.random.default_rng(0)

    @rule(data=st.data(), r=NUMBERS, terminated=st.booleans(), truncated=st.booleans())
    def store(self, data, r, terminated, truncated):
        n, d = self.shape
        draw = lambda m: np.array(data.draw(st.lists(NUMBERS, min_size=m, max_size=m)))
        s, u, s2 = draw(n), draw(d), draw(n)
        self.replay.store(self.t, s, u, r, s2, terminated, truncated)
        self.t += 1
        self.all.append((*s, *u, r, *s2, float(terminated), float(truncated)))

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
        with pytest.raises(FloatingPointError, match=f"at step {self.t + 1}: both must be finite"):
            self.replay.store(self.t, s, np.zeros(d), r, s2, False, False)
        assert np.array_equal(self.ring, before)

    @rule()
    def save_and_load(self):
        """What is in the array is all there is."""
        self.ring = self.ring.copy()
        self.replay = Replay(self.ring, *self.shape, self.N)

    @precondition(lambda self: self.all)
    @rule()
    def sample(self):
        kept = [tuple(map(self.ring.dtype.type, row)) for row in self.kept()]
        S, U, R, S2, terminated, truncated = self.replay.sample(self.t, self.rng)
        for row in zip(S, U, R, S2, terminated, truncated):
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


@given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_sample__is_uniform_over_what_is_stored(capacity, t, seed):
    """Each of the k rows kept comes up n/k times, give or take √(n ln(2k/chance)/2) (Hoeffding)."""
    ring, n = empty_ring(capacity, 1, 1, float), 4000
    memory = Replay(ring, 1, 1, n)
    for i in range(t):
        memory.store(i, [i], [0.0], 0.0, [0.0], False, False)
    kept = np.arange(max(0, t - capacity), t)
    seen, counts = np.unique(memory.sample(t, np.random.default_rng(seed)).S, return_counts=True)
    assert np.array_equal(seen, kept)
    bound = np.sqrt(n * np.log(2 * len(kept) / CHANCE) / 2)
    assert np.abs(counts - n / len(kept)).max() <= bound


@given(st.integers(1, 5), st.integers(1, 3))
def test_fields__are_views_that_share_no_number(n, d):
    rows = np.zeros((4, 2 * n + d + 3))
    for value, part in enumerate(fields(rows, n, d), 1):
        assert not part.any()
        part[...] = value
    expected = [1] * n + [2] * d + [3] + [4] * n + [5, 6]
    assert np.array_equal(rows[0], expected)


def test_ring__of_a_million_halfcheetah_transitions_is_under_200_MB():
    ring = empty_ring(1_000_000, 17, 6, np.float32)
    assert ring.nbytes == 172_000_000


def test_ring__that_does_not_fit_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(replay, "available_memory", lambda: 1_000_000)
    message = (r"replay = 1000000: needs 40 MB of memory, 1 MB are available: "
               r"must be at most 25000")  # fmt: skip
    monkeypatch.setattr(np, "zeros", None)
    with pytest.raises(ValueError, match=message):
        empty_ring(1_000_000, 3, 1, np.float32)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="replay = 1000000000000000: needs"):
        empty_ring(10**15, 3, 1, np.float32)


def test_available_memory__is_a_number_of_bytes_or_unknown(monkeypatch):
    free = replay.available_memory()
    assert free is None or free > 1_000_000
    monkeypatch.setattr(replay.Path, "read_text", lambda path: "nothing of use\n")
    total = replay.available_memory()
    assert total is None or total > 1_000_000
    monkeypatch.delattr(replay.os, "sysconf")
    assert replay.available_memory() is None
    assert empty_ring(3, 1, 1, np.float32).shape == (3, 6)
