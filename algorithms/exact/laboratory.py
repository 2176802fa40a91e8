"""The exact laboratory: expectation, bias and covariance of sampled policy gradients.

An estimator weighs the scores of one episode τ, ĝ(τ) = Σ_t weight_t(τ) ∇ln π(A_t|S_t). Where every
episode has a last step there are finitely many τ, and nothing need be sampled:

    E ĝ = Σ_τ Pr(τ) ĝ(τ)     bias = E ĝ − ∇J     Cov ĝ = Σ_τ Pr(τ) (ĝ − E ĝ)(ĝ − E ĝ)ᵀ
    ∇J = Σ_s d(s) Σ_a π(a|s) q(s,a) ∇ln π(a|s)                     total variance: tr Cov ĝ

What biased ones expect is also known in closed form (`expectation`), by other d or by q + Δ for q:

    γ^t dropped (Thomas 2014)       d(s) = Σ_t Pr(S_t = s): visits are not discounted
    v̂ = v + e, n-step returns       Δ = γ^n P P_π^(n−1) e            (actor-critic: n = 1)
    v̂ = v + e, λ-returns            Δ = (1−λ) γ P (I − γλ P_π)⁻¹ e

The best baseline: ĝ with b is ĝ_0 − Σ_s b(s) Z_s, where Z_s is the sum of c_t ∇ln π_t over the
visits of s, c_t = γ^t or 1 (where weights take b(S_0) alone: of all ∇ln π_t, if S_0 = s). Since
E Z_s = 0, tr Cov ĝ is least where its slope is 0,

    M b* = m       M_{s s'} = E[Z_s·Z_s']       m_s = E[Z_s·ĝ_0].

A score has mean 0 given all that went before, so that E[∇ln π_t·∇ln π_t'] = 0 for t ≠ t': M is
diagonal, M_ss = E[Σ_t 1{S_t=s} c_t² |∇ln π_t|²]. The states meet in m: ĝ_0 is all of the episode.
Why b* is not v, and what bootstrapping takes off the variance: see exact.variance.

A step along an unbiased ĝ improves the policy in the mean, not every time: `uphill` = Pr(ĝ·∇J > 0).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np

from algorithms.common.policy import Policy
from algorithms.exact.mdp import (
    MOST_TRAJECTORIES,
    FiniteMDP,
    Trajectory,
    action_values,
    discounted_occupancy,
    markov_chain,
    trajectories,
)
from npgrad import Array, at

ROUNDING = 1e-12  # |cos| of the angle of ĝ and ∇J below which ĝ·∇J counts as 0
Weigh: TypeAlias = Callable[[Trajectory], Array]  # τ -> the weights (T,) of its ∇ln π_t


class Study(NamedTuple):
    """An MDP, a policy pi (S, A), its scores ∇ln π(a|s) (S, A, n), all episodes it can have."""

    mdp: FiniteMDP
    pi: Array
    scores: Array
    episodes: tuple[Trajectory, ...]


class Moments(NamedTuple):
    """mean (n,) = E ĝ, bias (n,) = E ĝ − ∇J, covariance (n, n) of one episode's ĝ, and
    uphill = Pr(ĝ·∇J > 0), the chance that a small step along ĝ improves the policy."""

    mean: Array
    bias: Array
    covariance: Array
    uphill: float

    @property
    def total_variance(self) -> float:
        """tr Cov ĝ = E |ĝ − E ĝ|²."""
        return float(np.trace(self.covariance))

    @property
    def cosine(self) -> float:
        """Return the cosine of the angle between E ĝ and ∇J; nan if one of them is 0."""
        exact = self.mean - self.bias
        norms = np.linalg.norm(exact) * np.linalg.norm(self.mean)
        return float(exact @ self.mean / norms) if norms else np.nan


def score_table(
    gradient: Callable[..., Array], theta: Array, policy: Policy, x: Array, A: int
) -> Array:
    """∇ln π(a|s) (S, A, n) by a method's own gradient(h, head, A, weights), one step at a time.

    x (S, ...) are the features of the states; A is the number of actions.
    """
    net, one = at(policy.model, theta), np.ones(1)
    scores = np.empty((len(x), A, len(theta)))
    for s, a in np.ndindex(len(x), A):
        h = net.forward(x[s : s + 1])
        scores[s, a] = net.backward(gradient(h, policy.head, np.array([a]), one))
    return scores


def enumerate_episodes(
    mdp: FiniteMDP, pi: Array, scores: Array, limit: float = MOST_TRAJECTORIES
) -> Study:
    """Raises ValueError if episodes need not end (`finite_horizon` ends them) or exceed `limit`."""
    steps = longest_episode(mdp, pi)
    return Study(mdp, np.asarray(pi), scores, tuple(trajectories(mdp, pi, steps, limit)))


def longest_episode(mdp: FiniteMDP, pi: Array) -> int:
    """The most steps an episode can have. Raises ValueError, naming a state, where it has none."""
    edges, alive = markov_chain(mdp, pi)[0] != 0, mdp.p0 != 0
    for t in range(1, len(alive) + 1):
        alive = (alive @ edges) & ~mdp.terminal
        if not alive.any():
            return t
    raise ValueError(
        f"horizon: must be given, since an episode can be in state {np.flatnonzero(alive)[0]} "
        f"after {t} steps, and so need not end"
    )


def finite_horizon(mdp: FiniteMDP, horizon: int) -> FiniteMDP:
    """The MDP whose episodes end after `horizon` steps: its J is E[Σ_{t<horizon} γ^t R_{t+1}].

    Its states are pairs of a time and a state, t S + s, those of t = horizon terminal: v, q, b and
    v̂ may know the time; an agent sees what it saw. Its policy is np.tile(pi, (horizon + 1, 1)).
    """
    if horizon < 1:
        raise ValueError(f"horizon = {horizon}: must be >= 1 steps")
    S, A, _ = mdp.P.shape
    P = np.zeros((horizon + 1, S, A, horizon + 1, S))
    r = np.zeros_like(P)
    for t in range(horizon):
        P[t, :, :, t + 1], r[t, :, :, t + 1] = mdp.P, mdp.r
    n = (horizon + 1) * S
    return FiniteMDP(
        P.reshape(n, A, n),
        r.reshape(n, A, n),
        np.append(mdp.p0, np.zeros(n - S)),
        mdp.gamma,
        np.append(np.tile(mdp.terminal, horizon), np.ones(S, bool)),
        np.tile(mdp.observation, horizon + 1),
    )


def expectation(study: Study, shift: Array | float = 0.0, discounted: bool = True) -> Array:
    """Σ_s d(s) Σ_a π(a|s) (q(s,a) + Δ(s,a)) ∇ln π(a|s) (n,), without enumeration; ∇J by default.

    shift (S, A) is Δ; discounted = False counts visits with 1 for γ^t.
    """
    mdp, pi, scores, _ = study
    d = discounted_occupancy(mdp if discounted else replace(mdp, gamma=1.0), pi)
    return np.einsum("s,sa,sa,sai->i", d, pi, action_values(mdp, pi) + shift, scores)


def n_step_shift(mdp: FiniteMDP, pi: Array, error: Array, n: int) -> Array:
    """Δ (S, A) of n-step returns with v̂ = v + error, error (S,) 0 in terminal states."""
    P_pi, _ = markov_chain(mdp, pi)
    for _ in range(n - 1):
        error = mdp.gamma * P_pi @ error
    return mdp.gamma * mdp.P @ error


def lambda_shift(mdp: FiniteMDP, pi: Array, error: Array, lam: float) -> Array:
    """Δ (S, A) of λ-returns with v̂ = v + error, error (S,) 0 in terminal states.

    Raises ValueError for λ outside [0, 1].
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam = {lam}: must be in [0, 1]")
    P_pi, _ = markov_chain(mdp, pi)
    K = np.eye(len(error)) - lam * mdp.gamma * np.where(mdp.terminal, 0, 1)[:, None] * P_pi
    return (1 - lam) * mdp.gamma * mdp.P @ np.linalg.solve(K, error)


def n_step_returns(R: Array, v: Array, gamma: float, n: int) -> Array:
    """G_t = Σ_{k<n} γ^k R[t+k] + γ^n v[t+n], with the episode's end T in place of any later t + n.

    R (T,) rewards, v (T+1,) the v̂ of S_0 ... S_T; G (T,).
    """
    T = len(R)
    G = np.empty(T)
    for t in range(T):
        k = min(n, T - t)
        G[t] = gamma ** np.arange(k) @ R[t : t + k] + gamma**k * v[t + k]
    return G


def lambda_returns(R: Array, v: Array, gamma: float, lam: float) -> Array:
    """G_t = R[t] + γ ((1−λ) v[t+1] + λ G_{t+1}), G_T = v[T]. Shapes as n_step_returns."""
    G = np.append(np.zeros(len(R)), v[-1])
    for t in range(len(R) - 1, -1, -1):
        G[t] = R[t] + gamma * ((1 - lam) * v[t + 1] + lam * G[t + 1])
    return G[:-1]


def moments(study: Study, weigh: Weigh) -> Moments:
    """E, bias and Cov of ĝ(τ) = Σ_t weigh(τ)_t ∇ln π_t, weigh(τ) (T,)."""
    return weighted(*gradients(study, weigh), expectation(study))


def gradients(study: Study, weigh: Weigh) -> tuple[Array, Array]:
    """Return the probabilities (k,) of all episodes, and their ĝ (k, n)."""
    p = np.array([tau.probability for tau in study.episodes])
    return p, np.array([weigh(tau) @ _scores(study, tau) for tau in study.episodes])


def weighted(p: Array, g: Array, gradient: Array) -> Moments:
    """E, bias and Cov of outcomes g (k, n) of probabilities p (k,), ∇J being `gradient`."""
    mean, along = p @ g, g @ gradient
    apart = g - mean
    zero = ROUNDING * np.linalg.norm(g, axis=1) * np.linalg.norm(gradient)
    uphill = float(p @ (along > zero))
    return Moments(mean, mean - gradient, (p[:, None] * apart).T @ apart, uphill)


def optimal_baseline(study: Study, weigh: Callable[[Trajectory, Array], Array]) -> Array:
    """b* (S,), which no b(s) beats in total variance; 0 where b(s) has no effect on it.

    weigh(τ, b) (T,) takes the baselines b (T,) of S_0 ... S_{T−1}, and is affine in them with
    factors that depend on t only.
    """
    M, m = np.zeros((2, len(study.pi)))
    for tau in study.episodes:
        states, scores = tau.states[:-1], _scores(study, tau)
        plain = weigh(tau, np.zeros(len(states)))
        for s in np.unique(states):
            Z = (plain - weigh(tau, (states == s).astype(float))) @ scores
            M[s] += tau.probability * Z @ Z
            m[s] += tau.probability * Z @ (plain @ scores)
    return np.divide(m, M, out=np.zeros_like(m), where=M > 0)


def _scores(study: Study, tau: Trajectory) -> Array:
    return study.scores[tau.states[:-1], tau.actions]
