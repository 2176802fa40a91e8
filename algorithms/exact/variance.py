"""Variance of sampled policy gradients, exactly: what bootstrapping removes, and what is left.

With v̂ = v, every advantage is a sum of TD errors, G_t − v(S_t) = Σ_k c_k γ^k δ_{t+k}: c_k = λ^k for
λ-returns, and 1 for k < n, else 0, for n-step returns. Given (S_t, A_t), δ_{t+k} with k >= 1 has
mean 0 whatever came before it, so that the products of two of them vanish in the mean:

    E[(G_t − v(S_t))² | s,a] = Σ_k c_k² γ^{2k} E[δ_{t+k}² | S_t = s, A_t = a]            (spread)

It grows with n and with λ: a step's own term γ^t (G_t − v) ∇ln π_t has the least variance at n = 1
and λ = 0. This is the law of total variance. H is all up to S_{t+n}, Monte Carlo's G_t expects the
n-step return given H, and bootstrapping leaves the second part out:

    Var G_t = Var E[G_t | H] + E Var[G_t | H] = Var G_t^(n) + γ^{2n} E Var[G_{t+n} | S_{t+n}].

The terms of one episode are correlated: tr Cov ĝ is not the sum of their variances, and need not
grow with n (`explained` splits it by enumeration, for any weights). A wrong v̂ biases
bootstrapped returns, and this law no longer holds.

The best baseline b* is not v (`matched_baseline`). b(s) takes b(s) ∇ln π off ĝ. What is left
varies least where b(s) is the mean of q weighed by π |∇ln π|² instead of π: rare actions have
large scores. A table's softmax over two actions has |∇ln π(a)|² = 2 (1−π(a))², so that b* = π(1)
q(0) + π(0) q(1): each value with the other action's probability. It is v only if both are as
likely, or as good.
"""

from dataclasses import replace

import numpy as np

from algorithms.exact.laboratory import Study, Weigh, gradients
from algorithms.exact.mdp import FiniteMDP, discounted_occupancy, markov_chain, state_values
from npgrad import Array


def td_spread(mdp: FiniteMDP, pi: Array) -> Array:
    """Return E[δ² | s,a] (S, A), δ = r + γ v(s') − v(s) with the exact v; 0 in terminal states."""
    v = state_values(mdp, pi)
    return np.einsum("sat,sat->sa", mdp.P, (mdp.r + mdp.gamma * v - v[:, None, None]) ** 2)


def n_step_spread(mdp: FiniteMDP, pi: Array, n: int) -> Array:
    """Return E[(G_t^(n) − v(s))² | s,a] (S, A), v̂ = v. Raises ValueError for n < 1."""
    if n < 1:
        raise ValueError(f"n = {n}: must be at least 1")
    first = td_spread(mdp, pi)
    P_pi, total = markov_chain(mdp, pi)[0], first
    later = np.einsum("sa,sa->s", pi, first)  # E[δ_k² | S_k = s]
    for k in range(1, n):
        total = total + mdp.gamma ** (2 * k) * mdp.P @ later
        later = P_pi @ later
    return total


def lambda_spread(mdp: FiniteMDP, pi: Array, lam: float) -> Array:
    """Return E[(G_t^λ − v(s))² | s,a] (S, A), v̂ = v. Raises ValueError for λ outside [0, 1]."""
    if not 0 <= lam <= 1:
        raise ValueError(f"lam = {lam}: must be in [0, 1]")
    first, decay = td_spread(mdp, pi), (lam * mdp.gamma) ** 2
    P_pi, alive = markov_chain(mdp, pi)[0], ~mdp.terminal
    K = np.eye(len(alive)) - decay * alive[:, None] * P_pi
    return first + decay * mdp.P @ np.linalg.solve(K, np.einsum("sa,sa->s", pi, first))


def own_terms(study: Study, spread: Array) -> float:
    """Return Σ_t E|γ^t (G_t − v(S_t)) ∇ln π_t|²: tr Cov ĝ and |E ĝ|² without what two terms share.

    spread (S, A) is `n_step_spread` or `lambda_spread`.
    """
    mdp, pi, scores, _ = study
    d = discounted_occupancy(replace(mdp, gamma=mdp.gamma**2), pi)
    return float(np.einsum("s,sa,sa,sai->", d, pi, spread, scores**2))


def explained(study: Study, weigh: Weigh, n: int) -> tuple[float, float]:
    """Return (tr Var E[ĝ | H], E tr Var[ĝ | H]), H the first n steps up to S_n.

    Their sum is tr Cov ĝ. weigh is as in laboratory.moments. Raises ValueError for n < 0.
    """
    if n < 0:
        raise ValueError(f"n = {n}: must be at least 0")
    p, g = gradients(study, weigh)
    groups: dict[tuple[int | None, ...], list[int]] = {}
    for i, tau in enumerate(study.episodes):
        groups.setdefault((*tau.states[: n + 1], None, *tau.actions[:n]), []).append(i)
    chance = np.array([p[i].sum() for i in groups.values()])
    mean = np.array([p[i] @ g[i] for i in groups.values()])
    mean /= np.where(chance > 0, chance, 1.0)[:, None]  # what underflowed does not count
    inside = sum(p[i] @ ((g[i] - m) ** 2).sum(1) for i, m in zip(groups.values(), mean))
    return float(chance @ ((mean - chance @ mean) ** 2).sum(1)), float(inside)


def matched_baseline(pi: Array, scores: Array, q: Array) -> Array:
    """Return Σ_a π |∇ln π|² q / Σ_a π |∇ln π|² (S,), 0 where no score depends on the action.

    It is b* of reward_to_go, for actions of values q (S, A), if an episode visits a state at most
    once and no two states share a parameter. scores (S, A, n).
    """
    weight = pi * (scores**2).sum(2)
    total = weight.sum(1)
    return np.divide((weight * q).sum(1), total, out=np.zeros_like(total), where=total > 0)
