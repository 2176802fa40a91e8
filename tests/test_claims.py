"""The claims of benchmarks.claims: every verdict that is cheap to find is found again."""

from functools import partial
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms import ddpg
from algorithms.common.asynchronous import ACT, PULL, PUSH
from algorithms.exact.laboratory import expectation, moments
from algorithms.exact.mdp import state_values
from algorithms.referee.estimators import n_step, weigh
from benchmarks import record, study, traces
from benchmarks.claims import cartpole, claim, exact, recorded, sampled, workers
from benchmarks.claims.__main__ import CLAIMS, in_order, markdown
from benchmarks.claims.claim import Found

RECORD = record.load("claims")["claims"]
SLOW = {"lucky", "advantages", "baseline_cartpole", "correlation", "overwrite", "rare_action",
        "explores", "jitter"}  # fmt: skip
QUICK = SimpleNamespace(quick=True, seeds=2, jobs=1)
KINDS = {"right", "partly", "wrong", "unsupported", "unmeasured"}


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in SLOW])
def test_claims__find_the_verdict_that_is_recorded(name):
    assert CLAIMS[name].run(QUICK).verdict == RECORD[name]["verdict"]


@pytest.mark.parametrize("name", CLAIMS)
def test_claims__say_what_they_ask_and_find(name):
    given, found = CLAIMS[name], RECORD[name]
    assert given.says.endswith(".") and found["verdict"] in KINDS and found["number"]
    assert found["verdict"] == "unmeasured" or given.asks.startswith("Right if ")


def test_baseline_cartpole__is_what_its_runs_give():
    found = RECORD["baseline_cartpole"]
    again = cartpole.by_episodes(found["data"]["runs"], cartpole.CAP)
    assert again[:3] == tuple(found[name] for name in ("verdict", "number", "rest"))


def test_claims__are_what_their_record_gives():
    assert markdown(in_order(RECORD)) == (record.RESULTS / "claims.md").read_text()


def test_objective__has_the_visits_of_a3c():
    """benchmarks.updates finds these by its own way, with algorithms.exact.updates."""
    rest = exact.objective(SimpleNamespace(quick=False)).rest
    for found in ("ShortCorridor -1.000", "Chain 0.952", "Garnet0 0.998", "Garnet1 0.985",
                  "Garnet2 1.000"):  # fmt: skip
        assert found in rest


@pytest.mark.parametrize("world", ["Chain", "Garnet0"])
def test_segment__of_one_step_is_one_step_and_of_all_steps_the_return(world):
    x = exact.opened()[world]
    v, gamma = state_values(x.mdp, x.pi), x.mdp.gamma
    v_hat = np.where(x.mdp.terminal, 0.0, v + 1.0)
    whole = partial(weigh, gamma=gamma, baseline=v_hat)
    for tau in x.episodes[::7]:
        one, all_steps = (exact.segment(v_hat, gamma, n, 0)(tau) for n in (1, 99))
        np.testing.assert_allclose(one, n_step(v_hat, gamma, 1)(tau), rtol=1e-13)
        np.testing.assert_allclose(all_steps, whole(tau), rtol=0, atol=1e-13)


@pytest.mark.parametrize("phase", range(3))
def test_segment__ends_where_the_clock_says(phase):
    x = exact.opened()["Garnet0"]
    v_hat, gamma = np.where(x.mdp.terminal, 0.0, 1.0 + np.arange(len(x.pi))), x.mdp.gamma
    for tau in x.episodes[::99]:
        found = exact.segment(v_hat, gamma, 3, phase)(tau)
        for t in range(len(found)):
            steps = 3 - (t + phase) % 3
            np.testing.assert_allclose(found[t], n_step(v_hat, gamma, steps)(tau)[t], atol=1e-12)


@pytest.mark.parametrize("phase", range(exact.N))
def test_segment__is_unbiased_where_v_is_exact(phase):
    x = exact.opened()["Chain"]
    found = moments(x, exact.segment(state_values(x.mdp, x.pi), x.mdp.gamma, exact.N, phase))
    np.testing.assert_allclose(found.mean, expectation(x), rtol=0, atol=1e-14)


def test_reinforced__is_every_bad_action_or_none():
    """Three arms of which one is best: rewards less v are below 0 for the others."""
    x = exact.tabular(exact.bandit([0.0, 0.0, 1.0]), np.zeros(6))
    weight = partial(weigh, gamma=1.0, baseline=state_values(x.mdp, x.pi))
    assert exact.reinforced(x, weight) == 0.0
    assert exact.reinforced(x, lambda tau: -weight(tau)) == 1.0


def test_pushed__is_every_push_of_the_turns():
    turns = [0, 1, 0, 1, 0, 1, 1, 1, 1]
    d, moved, config = workers.pushed("sgd", turns)
    assert len(d) == 3 and np.linalg.norm(d, axis=1).min() > 0
    np.testing.assert_allclose(moved, config.step_size * d.sum(0), rtol=0, atol=1e-15)


def test_targets_along__follow_each_rule():
    config, rng = sampled.SWING.config, np.random.default_rng(0)
    mu, q = ddpg.models(sampled.gymnasium.make("Pendulum-v1"), config)
    start = [model.init(rng).astype(np.float32) for model in (mu, q)]
    moved = [x + np.float32(0.01) for x in start]
    batch = rng.normal(size=(5, 3)).astype(np.float32), np.zeros(5, np.float32), np.zeros(5)
    path = [start] + [moved] * 3
    y = sampled.targets_along([[x.copy() for x in pair] for pair in path], config, batch)
    assert np.ptp(y["hard, C = 200"], 0).max() == 0.0 and np.ptp(y["none"], 0).max() == 0.0
    ends = y["hard, C = 200"][0], y["none"][0]
    for end, (theta, w) in zip(ends, (start, moved)):
        u = mu(theta, batch[0])
        np.testing.assert_allclose(end, config.gamma * q(w, batch[0], u=u)[:, 0], rtol=1e-4)
    assert np.abs(ends[1] - ends[0]).min() > 0
    soft = np.abs(y["soft, τ = 0.005"] - ends[0])
    assert (np.diff(soft, axis=0) > 0).all() and (soft < np.abs(ends[1] - ends[0])).all()


def test_midway__is_between_a_pull_and_a_push_with_steps():
    me = lambda k, next: SimpleNamespace(k=k, next=next)
    learners = [me(0, ACT), me(2, ACT), me(5, PUSH), me(5, PULL)]
    assert workers.midway(SimpleNamespace(learners=learners)) == 2


def test_statements__are_those_that_do_something():
    tree = workers.ast.parse('"""doc"""\nimport os\nfrom a import b\nx = 1\nif x:\n    x = 2\n')
    assert workers.statements(tree) == 3


def test_needs__are_all_modules_that_are_imported():
    found = workers.needs("algorithms.a3c")
    assert {"algorithms.a3c", "algorithms.common.drivers", "algorithms.common.world"} <= set(found)
    assert not any(name.startswith(("npgrad", "algorithms.runner")) for name in found)


def test_markdown__has_one_line_for_each_statement_and_a_section_for_the_rest():
    row = dict(notes="1", says="a|b.", verdict="right", number="-1", how="x", pictures=["p", "q"])
    rows = dict(any=dict(row, more="#any", rest="some", asks="Right if so."),
                other=dict(row, more="traces"))  # fmt: skip
    lines = markdown(rows).splitlines()
    assert "| a∣b. | **right** | −1 | [more](#any) | 1 |" in lines
    assert "| a∣b. | **right** | −1 | [traces](traces.md) | 1 |" in lines
    assert "2 statements: 2 right, 0 partly, 0 wrong, 0 unsupported." in lines
    assert "### any" in lines and "### other" not in lines
    assert "Some." in lines and "`x`, [p](p.png), [q](q.png)" in lines


def contest(better, worse, *more):
    """Return what benchmarks.ddpg records, as far as it is read."""
    runs = lambda scores: [
        dict(evaluation=x, curve=dict(steps=[1, 2], scores=[x, x])) for x in scores
    ]
    row = dict(env="none", steps=2, goal=0.0, config="")
    named = zip(("a, first", "b, other", "c, third"), (better, worse, *more))
    return {name: study.Recorded(name, row | dict(runs=runs(x))) for name, x in named}


def compared(*given, by="run"):
    return recorded.compared("any", *given, by, None)


@pytest.mark.parametrize("gap, verdict", [(50, "right"), (-50, "unsupported"), (0, "unsupported")])
@pytest.mark.parametrize("by", ["run", "end"])
def test_compared__follows_the_gap(monkeypatch, gap, verdict, by):
    scores = np.random.default_rng(0).normal(size=(2, 10))
    monkeypatch.setattr(claim, "result", lambda name: contest(scores[0] + gap, scores[1]))
    assert compared(("a",), ("b",), by=by).verdict == verdict


@pytest.mark.parametrize("first, verdict", [(("a", "b"), "partly"), (("b",), "unsupported")])
def test_compared__weighs_every_first_against_the_others(monkeypatch, first, verdict):
    scores = np.random.default_rng(0).normal(size=(3, 10)) + [[50], [-50], [0]]
    monkeypatch.setattr(claim, "result", lambda name: contest(*scores))
    assert compared(first, ("c",)).verdict == verdict


@pytest.mark.parametrize("reached, verdict", [(8, "right"), (5, "right"), (4, "unsupported")])
def test_compared__by_goal_counts_seeds(monkeypatch, reached, verdict):
    """5 of 10 against 0 of 10 have p = 0.033 by Fisher's exact test, 4 have 0.087."""
    scores = [1.0] * reached + [-99.0] * (10 - reached)
    monkeypatch.setattr(claim, "result", lambda name: contest(scores, [-1.0] * 10))
    assert compared(("a",), ("b",), by="goal").verdict == verdict


def test_compared__makes_nothing_of_one_seed(monkeypatch):
    monkeypatch.setattr(claim, "result", lambda name: contest([50.0], [-50.0]))
    assert compared(("a",), ("b",)).verdict == "unsupported"


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9))
def test_exact_test__sums_all_tables_as_unlikely(a, b, n, m):
    a, b = min(a, n), min(b, m)
    draws = [sum(subset) for subset in combinations([1] * (a + b) + [0] * (n + m - a - b), n)]
    chance = np.bincount(draws, minlength=a + 1)
    p = chance[chance <= chance[a]].sum() / len(draws)
    assert claim.exact_test(a, n, b, m) == pytest.approx(p)


@pytest.mark.parametrize("others", [("b", "c"), ("a",)])
def test_compared__says_what_is_not_recorded(monkeypatch, others):
    unmeasured = Found("unmeasured", "not recorded yet")
    monkeypatch.setattr(claim, "result", lambda name: None)
    assert compared(("a",), ("b",)) == unmeasured
    monkeypatch.setattr(claim, "result", lambda name: contest([1.0], [2.0]))
    assert compared(("a",), others) == unmeasured
    monkeypatch.setattr(claim, "CLAIMED", {})
    partial = claim.claim("1", "any", "any")(lambda options, record: Found(record["b"], ""))
    assert partial(None).verdict == "unmeasured"


def test_recorded__claims_say_what_is_not_there(monkeypatch):
    monkeypatch.setattr(claim, "result", lambda name: None)
    reading = [x for x in CLAIMS.values() if x.how]
    assert len(reading) >= 12
    assert {x.run(None) for x in reading} == {Found("unmeasured", "not recorded yet")}
    assert recorded.tabled(traces, "2.1.1") == {}


@pytest.mark.parametrize("stale, verdict", [(0, "right"), (2, "unsupported")])
def test_staleness__needs_no_median(monkeypatch, stale, verdict):
    rows = dict(steps=[1, None, None], seeds=6)
    summary = {
        kind: {N: rows | dict(reached=reached) for N in ("16", "64")}
        for kind, reached in (("clock", stale), ("serial", 5))
    }
    monkeypatch.setattr(claim, "result", lambda name: dict(summary=summary))
    assert recorded.staleness(None).verdict == verdict
