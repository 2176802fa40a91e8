"""How studies measure and record runs, and benchmarks.learning aggregates them."""

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from worlds import UNIT, Scripted

from algorithms.common.metrics import Metrics
from algorithms.runner.scores import interval, iqm
from benchmarks import (
    a2c,
    actor_critic,
    asynchronous,
    asynchrony,
    ddpg,
    entropy,
    laboratory,
    measure,
    record,
    regulator,
    study,
    traces,
    updates,
)

RUNS = st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=16).map(np.array)


@given(RUNS, st.randoms(use_true_random=False), st.floats(0.1, 10), st.floats(-100, 100))
def test_iqm__follows_affine_maps_and_no_order(x, random, a, b):
    shuffled = np.array(random.sample(list(x), len(x)))
    np.testing.assert_allclose(iqm(a * shuffled + b), a * iqm(x) + b, atol=1e-9)


@given(RUNS, st.floats(0, 1e6))
def test_iqm__is_the_mean_of_the_middle_half(x, far):
    cut = len(x) // 4
    inner = np.sort(x)[cut : len(x) - cut]
    np.testing.assert_allclose(iqm(x), inner.mean(), rtol=0, atol=1e-9)
    outward = np.sort(x)
    outward[:cut] -= far
    outward[len(x) - cut :] += far
    np.testing.assert_allclose(iqm(outward), iqm(x), rtol=0, atol=1e-9)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=3), st.integers(2, 6))
def test_interval__draws_runs_within_their_own_task(levels, runs):
    tasks = [np.full(runs, level) for level in levels]  # no spread but that between the tasks
    low, high = interval(tasks, np.random.default_rng(0))
    middle = iqm(np.concatenate(tasks))
    np.testing.assert_allclose([low, high], middle, rtol=0, atol=1e-12)


@given(st.integers(0, 2**31))
def test_interval__of_curves_is_that_of_each_point(seed):
    x = np.random.default_rng(seed).normal(size=(3, 8))
    low, high = interval([x], np.random.default_rng(seed))
    one = interval([x[1]], np.random.default_rng(seed))
    np.testing.assert_allclose([low[1], high[1]], one, rtol=0, atol=1e-12)


def test_minus__changes_numbers_alone():
    assert study.minus("-1 to -0.5, 1e-3, 0.1-greedy, [-2") == "−1 to −0.5, 1e-3, 0.1-greedy, [−2"


BLOCKS = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 150)), min_size=1, max_size=4)


def until(returns, level):
    """measure.episodes_until by its definition, of whole numbers."""
    sums = [sum(returns[k - 100 : k]) for k in range(100, len(returns) + 1)]
    return next((k for k, x in enumerate(sums, 100) if x / 100 >= level), None)


@given(BLOCKS, st.integers(0, 500), st.sampled_from([-0.004, 0.0, 0.004]))
def test_episodes_until__needs_a_hundred_at_the_level(blocks, at, apart):
    returns = [G for G, n in blocks for _ in range(n)]
    last = sum(returns[at : at + 100]) / 100 + apart
    assert measure.episodes_until(returns, last) == until(returns, last)


@given(BLOCKS, st.integers(1, 500), st.integers(1, 3), st.sampled_from([1.0, 0.5]))
def test_learn__measures_what_the_page_reports(blocks, goal, reports, scale):
    """Of a page whose every report but the first tells of some episodes, 10 steps each."""
    returns = [float(G) for G, n in blocks for _ in range(n)]
    groups = [tuple(scale * G for G in returns[k : k + reports])
              for k in range(0, len(returns), reports)]  # fmt: skip
    told = [Metrics(10 * (k + 1), 0, group, (), {}) for k, group in enumerate([(), *groups])]
    env, page = SimpleNamespace(scale=scale), SimpleNamespace(train=lambda *_: iter(told))
    begun = dict(begin=lambda seed: (env, f"state of {seed}"), config=None, length=np.inf)
    row = SimpleNamespace(page=page, goal=goal, **begun)
    state, found = measure.learn(row, 7, count(0.0, 2.0).__next__)
    k = until(returns, goal)
    assert (state, found["episodes_until_reached"]) == ("state of 7", k)
    assert found["steps_until_reached"] == (k and 10 * ((k - 1) // reports + 2))
    assert found["return_last_100"] == pytest.approx(np.mean(returns[-100:]))
    assert found["steps_per_second"] * found["seconds"] == pytest.approx(10 * len(groups))


@given(st.integers(1, 5), st.integers(1, 4), UNIT, st.booleans())
def test_play__is_the_discounted_return_of_each_environment(T, n, gamma, truncate):
    env = Scripted(T, truncate=truncate)
    found = measure.play(env, lambda S: np.zeros(len(S), int), n, gamma)
    for k, G in enumerate(found):
        env.reset(seed=10**6 + k)
        assert G == pytest.approx(env.R @ gamma ** np.arange(T), rel=1e-12, abs=1e-12)


@given(st.integers(2, 30), st.floats(-2, 2), st.sampled_from([0.0, 1e-9, 3.0]))
def test_judge__plays_on_until_the_goal_is_far(n, goal, scale):
    """Of 3 standard errors, or up to 1,000 episodes; every n on starts of their own."""
    seeds, stream = [], np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        rule = lambda env, act, n, seed=measure.UNUSED: seeds.append(seed) or stream.normal(size=n)
        patch.setattr(measure, "play", lambda *given, **how: scale * rule(*given, **how))
        mean, error, k = measure.judge(None, None, goal, n)
    assert k == n * len(seeds) and seeds == [measure.UNUSED + n * i for i in range(len(seeds))]
    assert abs(mean - goal) >= 3 * error or k >= 1000
    x = scale * np.random.default_rng(0).normal(size=k)
    assert (mean, error) == pytest.approx((x.mean(), x.std(ddof=1) / np.sqrt(k)), abs=1e-12)
    for j in range(n, k, n):
        assert abs(x[:j].mean() - goal) < 3 * x[:j].std(ddof=1) / np.sqrt(j) + 1e-12


def test_perform__records_rows_in_order_and_keeps_what_is_not_run_again(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "module", lambda: "benchmarks.any")
    rows = {
        name: measure.Row("reinforce", "CartPole-v1", goal) for name, goal in (("a", 1), ("b", 2))
    }
    log = []
    run = lambda row, seed: log.append((row.goal, seed)) or dict(evaluation=row.goal + seed)
    made = study.Study(rows, run)
    study.perform("any", made, rows, 2, 1)
    assert log == [(1, 0), (2, 0), (1, 1), (2, 1)]
    study.perform("any", made, {"a": study.shortened(rows, 50)["a"]}, 1, 1)
    a, b = study.recorded("any")
    assert (a.label, a.steps, a.of("evaluation")) == ("a", 50, [1])
    assert (b.label, b.of("evaluation"), b.of("seed"), b.solved()) == ("b", [2, 3], [0, 1], 2)


def test_row__is_judged_without_what_helps_to_learn():
    row = measure.Row("a3c", "Pendulum-v1", changes=dict(workers=1))
    assert row.make(learned=True).scale == 0.1 and not hasattr(row.make(), "scale")
    assert row.config.workers == 1 and row.length == row.config.T_max
    assert measure.Row("a3c", "Pendulum-v1", variant=None, steps=7).config.T_max == 7


STUDIES = {
    f"{prefix}{word}": made
    for module, prefix in (
        (a2c, "a2c_"), (actor_critic, "actor_critic_"), (asynchronous, ""), (asynchrony, ""),
        (ddpg, "ddpg_"), (entropy, ""), (laboratory, ""), (regulator, ""), (traces, ""),
        (updates, ""),
    )
    for word, made in module.STUDIES.items()
    if made.text
}  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_results__are_what_their_record_gives(name):
    whole = isinstance(STUDIES[name], study.Whole)
    text = STUDIES[name].text(record.load(name) if whole else study.recorded(name))
    assert text == (record.RESULTS / f"{name}.md").read_text()


@given(
    arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=st.floats(-9, 9)),
    st.integers(0, 99),
)
def test_bootstrap_band__lies_within_the_runs_and_moves_with_them(curves, seed):
    band = lambda c: study.bootstrap_band(c, np.random.default_rng(seed), resamples=50)
    low, high = band(curves)
    bound = 100 * np.finfo(float).eps * 30
    assert (curves.min(axis=0) - bound <= low).all() and (low <= high).all()
    assert (high <= curves.max(axis=0) + bound).all()
    np.testing.assert_allclose(band(2 * curves + 1), (2 * low + 1, 2 * high + 1), atol=bound)
    np.testing.assert_allclose(band(np.ones((3, 2))), np.ones((2, 2)), atol=bound)


def test_bootstrap_band__covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    curves = rng.standard_normal((30, 400))
    low, high = study.bootstrap_band(curves, rng)
    # 400 independent intervals at about 94% (the percentile interval of 30 is a little short):
    # the count's standard deviation is 1.2%, and 5 of them are allowed.
    assert abs(((low <= 0) & (0 <= high)).mean() - 0.94) < 0.06
