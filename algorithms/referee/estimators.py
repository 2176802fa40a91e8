"""Estimators of ∇J and what they compute: bias and variance of each, exactly.

Every weighting of REINFORCE with every baseline, and bootstrapped advantages with a critic that is
wrong, on all episodes of a finite MDP.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from algorithms import reinforce
from algorithms.common.policy import Policy
from algorithms.common.world import returns
from algorithms.exact import laboratory as exact
from algorithms.exact.mdp import FiniteMDP, Trajectory, state_values
from npgrad import Array

MOST_EPISODES = 10**5
LAMBDAS = 0.25, 0.5, 0.75, 0.9, 0.95, 1.0


class Row(NamedTuple):
    """|E ĝ - ∇J|, tr Cov ĝ of one episode, the cosine of E ĝ and ∇J (None if one is 0), and
    Pr(ĝ·∇J > 0) of one episode."""

    estimator: str
    bias: float
    variance: float
    cosine: float | None
    uphill: float


def open_study(
    mdp: FiniteMDP, policy: Policy, theta: Array, horizon: int | None = None
) -> exact.Study:
    """All episodes of a Policy with Softmax head, its scores by reinforce.gradient."""
    if horizon is not None:
        mdp = exact.finite_horizon(mdp, horizon)
    x = mdp.observation
    pi = policy.at(theta, x).probs()
    scores = exact.score_table(reinforce.gradient, theta, policy, x, pi.shape[1])
    return exact.enumerate_episodes(mdp, pi, scores, MOST_EPISODES)


def weigh(
    tau: Trajectory,
    b: Array | None = None,
    *,
    gamma: float,
    weighting: str = "reward_to_go",
    baseline: Any = None,
    target: Callable[[Array, Array], Array] | None = None,
) -> Array:
    """reinforce.weights of an episode; b (T,), or else the baseline (S,) where the episode was.

    target(R, states) -> G (T,) stands for the returns, by default common.world.returns.
    """
    R, states, T = tau.rewards, tau.states, len(tau.rewards)
    G = returns(R, gamma) if target is None else target(R, states)
    b = baseline[states[:-1]] if b is None else b
    return reinforce.weights(np.arange(T), G, b, gamma, weighting)


def mean_return(study: exact.Study, weighting: str) -> float:
    """Return the limit of REINFORCE's running mean: E G_0 for total, else E[Σ_t G_t] / E[T]."""
    G = [returns(tau.rewards, study.mdp.gamma) for tau in study.episodes]
    G = [g[:1] for g in G] if weighting == "total" else G
    Pr = np.array([tau.probability for tau in study.episodes])
    return Pr @ [g.sum() for g in G] / (Pr @ [len(g) for g in G])


def laboratory_table(study: exact.Study, critic: float = 0.5) -> list[Row]:
    """REINFORCE's weightings with every baseline; bootstrapped advantages with v̂ = critic · v, and
    λ-returns (the advantage of GAE) also with v̂ = v. λ = 0 is the actor-critic."""
    mdp, gamma = study.mdp, study.mdp.gamma
    v = state_values(mdp, study.pi)
    rows = []
    for weighting in reinforce.WEIGHTINGS:
        of = partial(weigh, gamma=gamma, weighting=weighting)
        mean = np.full_like(v, mean_return(study, weighting))
        best = exact.optimal_baseline(study, of)
        for name, b in (("0", 0 * v), ("mean return", mean), ("v", v), ("b*", best)):
            rows.append(_row(study, f"{weighting}, b = {name}", partial(of, baseline=b)))
    wrong = f"v̂ = {critic:g} v"
    rows.append(_row(study, "actor-critic, v̂ = v", n_step(v, gamma, 1)))
    rows.append(_row(study, f"actor-critic, {wrong}", n_step(critic * v, gamma, 1)))
    dropped = partial(n_step(critic * v, gamma, 1), weighting="undiscounted_state")
    rows.append(_row(study, f"actor-critic without γ^t, {wrong}", dropped))
    for n in (2, 4):
        rows.append(_row(study, f"{n}-step, {wrong}", n_step(critic * v, gamma, n)))
    for name, v_hat in (("v̂ = v", v), (wrong, critic * v)):
        for lam in LAMBDAS:
            rows.append(_row(study, f"λ-return, λ = {lam:g}, {name}", lam_(v_hat, gamma, lam)))
    return rows


def n_step(v_hat: Array, gamma: float, n: int) -> partial[Array]:
    """The weights γ^t (G_t^(n) - v̂(S_t)); n = 1 is the one-step actor-critic."""
    G = lambda R, states: exact.n_step_returns(R, v_hat[states], gamma, n)
    return partial(weigh, gamma=gamma, baseline=v_hat, target=G)


def lam_(v_hat: Array, gamma: float, lam: float) -> partial[Array]:
    """The weights γ^t (G_t^λ - v̂(S_t))."""
    G = lambda R, states: exact.lambda_returns(R, v_hat[states], gamma, lam)
    return partial(weigh, gamma=gamma, baseline=v_hat, target=G)


def sweeps(
    study: exact.Study, critic: float = 0.5, points: int = 21
) -> dict[str, list[tuple[float, ...]]]:
    """{"n": rows, "λ": rows} of (value, |bias|², total variance, total variance with v̂ = v): n up
    to the longest episode, λ from 0 to 1, with v̂ = critic · v."""
    gamma, v = study.mdp.gamma, state_values(study.mdp, study.pi)
    longest = max(len(tau.rewards) for tau in study.episodes)
    made: dict[str, tuple[Callable[..., partial[Array]], Iterable[float]]] = {
        "n": (n_step, range(1, longest + 1)),
        "λ": (lam_, np.linspace(0, 1, points).tolist()),
    }
    curves: dict[str, list[tuple[float, ...]]] = {}
    for name, (estimator, values) in made.items():
        curves[name] = []
        for value in values:
            wrong, right = (exact.moments(study, estimator(c * v, gamma, value))
                            for c in (critic, 1.0))  # fmt: skip
            bias2 = float(wrong.bias @ wrong.bias)
            curves[name].append((value, bias2, wrong.total_variance, right.total_variance))
    return curves


def _row(study: exact.Study, name: str, weigh: exact.Weigh) -> Row:
    m = exact.moments(study, weigh)
    cosine = None if np.isnan(m.cosine) else m.cosine
    return Row(name, float(np.linalg.norm(m.bias)), m.total_variance, cosine, m.uphill)
