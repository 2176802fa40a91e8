"""How benchmarks.learning aggregates runs, and how benchmarks.claims judges comparisons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import learning
from benchmarks.claims import recorded
from benchmarks.claims.__main__ import minus
from benchmarks.claims.sampled import episodes_until

RUNS = st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=16).map(np.array)


@given(RUNS, st.randoms(use_true_random=False), st.floats(0.1, 10), st.floats(-100, 100))
def test_iqm__follows_affine_maps_and_no_order(x, random, a, b):
    shuffled = np.array(random.sample(list(x), len(x)))
    np.testing.assert_allclose(learning.iqm(a * shuffled + b), a * learning.iqm(x) + b, atol=1e-9)


@given(RUNS, st.floats(0, 1e6))
def test_iqm__is_the_mean_of_the_middle_half(x, far):
    cut = len(x) // 4
    inner = np.sort(x)[cut : len(x) - cut]
    np.testing.assert_allclose(learning.iqm(x), inner.mean(), rtol=0, atol=1e-9)
    outward = np.sort(x)
    outward[:cut] -= far
    outward[len(x) - cut :] += far
    np.testing.assert_allclose(learning.iqm(outward), learning.iqm(x), rtol=0, atol=1e-9)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=3), st.integers(2, 6))
def test_interval__draws_runs_within_their_own_task(levels, runs):
    tasks = [np.full(runs, level) for level in levels]  # no spread but that between the tasks
    low, high = learning.interval(tasks, np.random.default_rng(0))
    middle = learning.iqm(np.concatenate(tasks))
    np.testing.assert_allclose([low, high], middle, rtol=0, atol=1e-12)


@given(st.integers(0, 2**31))
def test_interval__of_curves_is_that_of_each_point(seed):
    x = np.random.default_rng(seed).normal(size=(3, 8))
    low, high = learning.interval([x], np.random.default_rng(seed))
    one = learning.interval([x[1]], np.random.default_rng(seed))
    np.testing.assert_allclose([low[1], high[1]], one, rtol=0, atol=1e-12)


def contest(better, worse):
    """What benchmarks.ddpg records, as far as it is read."""
    runs = lambda scores: [
        dict(evaluation=x, curve=dict(steps=[1, 2], returns=[x, x])) for x in scores
    ]
    variants = {"a, first": dict(runs=runs(better)), "b, other": dict(runs=runs(worse))}
    return dict(env="none", steps=2, variants=variants)


@pytest.mark.parametrize("gap, verdict", [(50, "right"), (-50, "wrong"), (0, "unsupported")])
def test_compared__follows_the_gap(monkeypatch, gap, verdict):
    scores = np.random.default_rng(0).normal(size=(2, 10))
    monkeypatch.setattr(recorded, "result", lambda name: contest(scores[0] + gap, scores[1]))
    assert recorded.compared("any", "a", ("b",))(None)[0] == verdict


@pytest.mark.parametrize("others", [("b", "c"), ("a",)])
def test_compared__says_what_is_not_recorded(monkeypatch, others):
    unmeasured = "unmeasured", "not recorded yet", None
    monkeypatch.setattr(recorded, "result", lambda name: None)
    assert recorded.compared("any", "a", ("b",))(None) == unmeasured
    monkeypatch.setattr(recorded, "result", lambda name: contest([1.0], [2.0]))
    assert recorded.compared("any", "a", others)(None) == unmeasured


def test_minus__changes_numbers_alone():
    assert minus("-1 to -0.5, 1e-3, 0.1-greedy, [-2") == "−1 to −0.5, 1e-3, 0.1-greedy, [−2"


BLOCKS = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 150)), min_size=1, max_size=4)


@given(BLOCKS, st.integers(0, 400), st.sampled_from([-0.004, 0.0, 0.004]))
def test_episodes_until__needs_a_hundred_at_the_level(blocks, at, apart):
    returns = [G for G, n in blocks for _ in range(n)]
    sums = [sum(returns[k - 100 : k]) for k in range(100, len(returns) + 1)]
    level = (sums[at % len(sums)] if sums else 100 * at) / 100 + apart
    (found,) = episodes_until(returns, (level,))
    assert found == next((k for k, x in enumerate(sums, 100) if x / 100 >= level), None)
