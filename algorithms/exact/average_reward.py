"""Average reward: exact solutions for finite MDPs whose episodes never end.

    ρ = lim_n 1/n E[R_1 + ... + R_n] = Σ_s d(s) Σ_a π(a|s) Σ_s' P r       d = P_πᵀ d, Σ_s d(s) = 1
    q(s,a) = Σ_t E[R_t − ρ | S_0 = s, A_0 = a] = Σ_s' P[s,a,s'] (r[s,a,s'] − ρ + v(s'))
    v(s) = Σ_a π(a|s) q(s,a), Σ_s d(s) v(s) = 0         (Σ_t as the mean of its partial sums)

γ and p0 are not used: the chain P_π must have one recurrent class, so that ρ does not depend on the
start. pi is an array (S, A), which may be complex, as in mdp. With u = 1/S, all results follow from

    Z = (I − P_π + 1uᵀ)⁻¹:      dᵀ = uᵀZ      v = Z r_π − its mean under d.

The continuing actor-critic with θ, w and R̄ held, S_t ~ d, z_t = λ z_{t−1} + ∇ln π(A_t|S_t) and
v̂ = v + e expects the step

    E[δ_t z_t] = ∇ρ + (1−λ) Σ_s ζ(s) e(s)     ∇ρ = Σ_s d(s) Σ_a π(a|s) q(s,a) ∇ln π(a|s)
    ζ(s) = E[z_{t−1} 1{S_t = s}]:  ζ(s') = Σ_s P_π[s,s'] λ ζ(s) + Σ_{s,a} d(s) π(a|s) P ∇ln π(a|s).

With e = 0, E[δ_t | all before A_t] = 0: only the latest score meets δ_t, and E[q ∇ln π] is ∇ρ. With
e, δ_t has e(S_{t+1}) − e(S_t) besides. E[z_t e(S_{t+1})] = Σ ζe. E[z_t e(S_t)] = λ Σ ζe, for the
latest score has mean 0 given S_t. So a wrong v̂ has no effect on the mean as λ → 1; nor has a wrong
R̄ for any λ, since E z_t = Σ_s ζ(s) = 0.

All functions raise ValueError for an MDP with terminal states, a chain with two recurrent classes,
and a chain that takes more than about 1e9 steps to forget its starting state. Numerical errors are
about eps ‖Z‖.
Sources: Sutton, McAllester, Singh & Mansour 1999; Puterman 1994, chapter 8 (from memory).
"""

from typing import Any, NamedTuple

import numpy as np

from algorithms.exact.mdp import FiniteMDP, markov_chain
from npgrad import Array

SLOWEST_MIXING = 1e9


class Stationary(NamedTuple):
    """Stationary distribution d (S,), average reward per step rho, differential values v (S,)."""

    d: Array
    rho: float
    v: Array


def stationary_distribution(mdp: FiniteMDP, pi: Array) -> Array:
    """Return d (S,): the share of time spent in each state; exactly 0 in transient states."""
    return solve(mdp, pi).d


def average_reward(mdp: FiniteMDP, pi: Array) -> float:
    """Return ρ, the average reward per step."""
    return solve(mdp, pi).rho


def differential_values(mdp: FiniteMDP, pi: Array) -> Array:
    """Return v (S,): the total gain over ρ per step from starting in s instead of from d."""
    return solve(mdp, pi).v


def differential_action_values(mdp: FiniteMDP, pi: Array) -> Array:
    """Return q (S, A): as differential_values, with the first action given."""
    _, rho, v = solve(mdp, pi)
    return np.einsum("sat,sat->sa", mdp.P, mdp.r - rho + v)


def arriving_trace(mdp: FiniteMDP, pi: Array, scores: Array, lam: float) -> Array:
    """Return ζ (S, n), ζ(s) = E[z_{t−1} 1{S_t = s}] in the stationary chain, at λ = 1 its limit.

    scores (S, A, n) are ∇ln π(a|s). Raises ValueError for λ outside [0, 1]; and as `solve`.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam = {lam}: must be in [0, 1]")
    P_pi, _ = markov_chain(mdp, pi)
    d = solve(mdp, pi).d
    latest = np.einsum("s,sa,sat,sai->ti", d, pi, mdp.P, scores)
    # + λ 1dᵀ changes no ζ, since Σ_s ζ(s) = 0, and leaves I - λ P_π regular at λ = 1
    return np.linalg.solve((np.eye(len(d)) - lam * P_pi).T + lam * d[:, None], latest)


def expected_step(
    mdp: FiniteMDP, pi: Array, scores: Array, lam: float, error: Array | float = 0.0
) -> Array:
    """Return E[δ_t z_t] (n,), the mean θ-step over α^θ, of v̂ = v + error: ∇ρ for error = 0.

    error (S,). Raises as `arriving_trace`.
    """
    d, q = solve(mdp, pi).d, differential_action_values(mdp, pi)
    e = np.broadcast_to(np.asarray(error, float), d.shape)
    exact = np.einsum("s,sa,sa,sai->i", d, pi, q, scores)
    return exact + (1 - lam) * e @ arriving_trace(mdp, pi, scores, lam)


def solve(mdp: FiniteMDP, pi: Array) -> Stationary:
    """Return d, ρ and v together."""
    if mdp.terminal.any():
        s = np.flatnonzero(mdp.terminal)[0]
        raise ValueError(f"terminal[{s}] = True: must be False, since episodes must never end")
    P_pi, r_pi = markov_chain(mdp, pi)
    S = len(r_pi)
    recurrent = _recurrent(P_pi != 0)
    try:
        Z = np.linalg.inv(np.eye(S) - P_pi + 1 / S)
    except np.linalg.LinAlgError:
        Z = np.full((S, S), np.inf)
    if not np.abs(Z.real).sum(1).max() <= SLOWEST_MIXING:
        raise ValueError(
            f"pi: must leave every set of states sooner, since its chain takes more than "
            f"{SLOWEST_MIXING:g} steps to forget its starting state"
        )
    d = np.where(recurrent, Z.mean(0), 0)
    v = Z @ r_pi
    rho: Any = d @ r_pi
    return Stationary(d, rho, v - d @ v)


def _recurrent(edges: Array) -> Array:
    """Return the mask of the states that every state can reach along edges (S, S) bool.

    They form the one recurrent class. If there are no such states, there are several classes, and
    ValueError names a state in each of two.
    """
    reach, longer = np.eye(len(edges)) > 0, edges | (np.eye(len(edges)) > 0)
    while (longer != reach).any():
        reach, longer = longer, longer.astype(float) @ longer > 0
    recurrent: Any = reach.all(0)
    if not recurrent.any():
        sizes = reach.sum(1)
        s = sizes.argmin()  # all states that it reaches can reach it, since it reaches the fewest
        s2 = np.where(reach[:, s], len(sizes) + 1, sizes).argmin()
        raise ValueError(
            f"multichain: states {s} and {s2} can never reach each other under pi, so that the "
            "average reward depends on the start; must have one recurrent class"
        )
    return recurrent
