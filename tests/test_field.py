"""The field, judged: the verdicts on published formulas, and libraries that are not installed."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.field import __main__ as field
from benchmarks.field import judged, published

SMALL = 40  # episodes of a world
TO_GO, MEAN = "reward-to-go G_t", "minus its mean over the episode"
VERDICTS = {  # formula: (what it is, exactly; whether it is unbiased)
    published.box: (f"{TO_GO}, times γ^t", True),
    published.without_discount: (f"{TO_GO}, without γ^t", False),
    published.whole_return: ("the total return G_0 for every t", True),
    published.mean_loss: (f"{TO_GO}, without γ^t, divided by T", False),
    published.less_mean: (f"{TO_GO} {MEAN}, without γ^t", False),
    published.td_error: ("the TD error, v̂ = v, without γ^t", False),
    published.discounted_td_error: ("the TD error, v̂ = v, times γ^t", True),
}


@pytest.mark.parametrize("formula", VERDICTS, ids=lambda formula: formula.__name__)
def test_published__is_named_and_its_bias_known(formula):
    found = judged.estimated(formula, most=SMALL)
    assert (found["computes"], found["agrees"]) == VERDICTS[formula]
    assert (found["bias"][1] < 1e-9) == found["agrees"] == (found["departure"] == "none")


def test_product_of_means__expects_the_gradient_of_its_weight():
    found = judged.estimated(published.product_of_means, most=SMALL)
    assert found["departure"].startswith("biased: its expectation is ∇E f(τ)")
    assert found["cosine"][0] < 0.999


def test_normalised__is_no_number_for_one_step():
    found = judged.estimated(published.normalised, most=SMALL)
    assert "npgrad/Chain-v0: it returns nan for an episode of 1 step(s)" in found["notes"]
    assert np.isfinite(found["bias"]).all()


def test_mean_over_all_steps__is_no_multiple_of_the_gradient():
    found = judged.estimated(published.simplest, gamma=1.0, most=8)
    assert not found["agrees"] and found["cosine"][0] < 0.999


def test_over_all_steps__weighs_steps_alike():
    pay = [np.array([2.0]), np.array([3.0, 5.0, 7.0])]
    episodes = [SimpleNamespace(R=G) for G in pay]
    weights = published.over_all_steps(lambda episode: episode.R, episodes)
    assert np.allclose(np.concatenate(weights) / 2, np.concatenate(pay) / 4)


def test_tutorial_gae__drops_the_last_step():
    found = judged.returned(published.but_last)
    assert found["departure"].startswith("drops_last_step")


def advantages(rewards, values, next_values, terminated, truncated, gamma, lam):
    A, ends = np.zeros_like(rewards), terminated | truncated
    for t in reversed(range(len(rewards))):
        later = A[t + 1] if t + 1 < len(A) else 0.0
        v = np.where(terminated[t], 0.0, next_values[t])
        A[t] = rewards[t] + gamma * v - values[t] + gamma * lam * np.where(ends[t], 0.0, later)
    return A


def test_returned__says_where_alone_a_function_departs():
    def raises(rewards, values, next_values, terminated, truncated, gamma, lam):
        return advantages(
            rewards, values, next_values, terminated, truncated, gamma, lam / bool(gamma * lam)
        )

    def bootstraps(rewards, values, next_values, terminated, truncated, gamma, lam):
        terminated = terminated & ~truncated
        return advantages(rewards, values, next_values, terminated, truncated, gamma, lam)

    assert judged.returned(advantages)["departure"] == "none"
    assert judged.returned(raises)["departure"].endswith("only where γλ = 0")
    found = judged.returned(bootstraps)
    assert found["departure"] == "departs, only where a step both terminates and truncates"
    assert found["computes"] == "advantages by their definition" and not found["agrees"]


def test_judged__says_what_is_not_installed(monkeypatch):
    monkeypatch.setitem(field.LIBRARIES, "no-such-package", ("by_nobody",))
    (row,) = field.judged("no-such-package")
    assert field.cells(row)[:3] == ["no-such-package", "–", "not installed"]


def test_pfrl_reinforce__weights_by_hand():
    pytest.importorskip("pfrl")
    from benchmarks.field import by_pfrl

    episode = SimpleNamespace(R=np.array([1.0, 10.0, 100.0]))
    assert by_pfrl.reinforce(episode).tolist() == [210.0, 200.0, 100.0]
