"""What A3C and A2C expect of one update, exactly, split into ∇J and all that it has besides.

Both cut their data into segments of at most n steps. v̂ = v + e is wrong by e. A time limit of L
steps truncates an episode: it ends the segment, which bootstraps from v̂. While θ and v̂ are held,

    μ_t(s) = Pr(S_t = s)              s not terminal, t < L     d(s) = Σ_t γ^t μ_t(s), without limit
    W_k(s) = E Σ_t 1{S_t = s, k steps are left in the segment}  D(s) = Σ_k W_k(s) = Σ_{t<L} μ_t(s)
    F_k(s)   the same, if no time limit ended a segment: k = n in its first step, ..., 1
    Δ_k      what a k-step return has besides q(s,a): γ^k P P_π^(k−1) e  (laboratory.n_step_shift)

The dθ of the policy, summed over an episode, is Σ_{s,a} ∇π(a|s) c(s,a), c being the sum of

    gradient         d q                        ∇J, J = E Σ_t γ^t R_{t+1} without the limit
    unseen         − Σ_{t≥L} γ^t μ_t q          steps that the time limit leaves out
    undiscounted     Σ_{t<L} (1 − γ^t) μ_t q    γ^t is dropped
    bootstrap        Σ_k F_k Δ_k                v̂ is wrong: the mixture of 1- to n-step returns
    cut              Σ_k (W_k − F_k) Δ_k        the time limit lets segments bootstrap sooner
    entropy        − D β ln π                   β Σ_s D ∇H, since ∇H = −Σ_a ∇π ln π

One update is that over E Σ_t 1{S_t is the first of a segment} = Σ_s F_n(s), the number of segments
in an episode. (A2C: a segment of one environment, reduction "sum"; 1/n of it for "mean".)

A3C's segments begin with the episode, A2C's wherever the clock says. Modulo n, the times at which
A2C's episodes begin go round: each step adds the length of an episode. In the long run all the
multiples of g, the common divisor of n and all lengths, are equally frequent, and independent of
what happens in the episode. (No step is lost to a reset; in NEXT_STEP mode one is.)

With entropy "return" (a3c, a2c) the rewards are r + βH(S): in place of q stands q_soft − β ln π
with v_soft = Σ_a π (q_soft − β ln π) and v̂ = v_soft + e, and `gradient` is ∇E Σ_t γ^t (R + βH):

    ∇v_soft(s) = Σ_a ∇π q_soft + β∇H(s) + Σ_a π ∇q_soft,  ∇q_soft = γ Σ_s' P ∇v_soft(s')

unrolls as in policy_gradient_theorem. H(S_t) itself is no advantage of A_t, as Σ_a ∇π H(S_t) = 0:
it is in R_t because v̂ learns v_soft from R_t, and then R_t − v̂(S_t) has mean 0.
"""

from dataclasses import replace
from math import gcd, inf
from typing import Any, NamedTuple

import numpy as np

from algorithms.exact.laboratory import n_step_shift
from algorithms.exact.mdp import (
    FiniteMDP,
    action_values,
    discounted_occupancy,
    markov_chain,
)
from npgrad import Array


class Parts(NamedTuple):
    """The coefficients c (S, A) of ∇π(a|s), by reason; or what `through` makes of them (n,)."""

    gradient: Array
    unseen: Array
    undiscounted: Array
    bootstrap: Array
    cut: Array
    entropy: Array


class Visits(NamedTuple):
    """F and W (n, S) of the module, row k − 1 for k; discounted (S,) = Σ_{t<L} γ^t μ_t."""

    whole: Array
    left: Array
    discounted: Array

    @property
    def segments(self) -> float:
        """Return the expected number of segments in an episode."""
        return self.whole[-1].sum()


def entropies(mdp: FiniteMDP, pi: Array) -> Array:
    """H(π(·|s)) in nats (S,), 0 in terminal states."""
    return np.where(mdp.terminal, 0, -(pi * _log(pi)).sum(1))


def visits(
    mdp: FiniteMDP, pi: Array, n: int, limit: int | None = None, spacing: int | None = None
) -> Visits:
    """Count the visits of an episode by state and steps left. A segment begins `spacing` steps
    after the episode, or any multiple of it, equally often; by default with it, as A3C's.

    Raises ValueError for n < 1 or limit < 1, and for a spacing that does not divide n; without a
    limit, if episodes need not end.
    """
    if n < 1 or (limit is not None and limit < 1):
        raise ValueError(f"n = {n}, limit = {limit}: must be >= 1")
    if spacing is not None and (spacing < 1 or n % spacing):
        raise ValueError(f"spacing = {spacing}: must divide n = {n}")
    P_pi, spacing = markov_chain(mdp, pi)[0], spacing or n
    Q, mu, times = np.where(mdp.terminal, 0, P_pi), mdp.p0, range(limit or n)
    discounted: Any = 0.0
    if limit is None:
        D, discounted = _endless(mdp, pi), discounted_occupancy(mdp, pi)
        Q = np.where(D.real > 0, Q.T, 0).T  # the others are never visited
        mu = np.linalg.solve(np.eye(len(Q)) - np.linalg.matrix_power(Q.T, n), mdp.p0)
    whole, left = np.zeros((2, n, len(mdp.p0)), P_pi.dtype)
    for t in times:
        for start in range(0, n, spacing):
            k = n - (t + start) % n
            whole[k - 1] += mu * spacing / n
            left[int(min(k, (limit or inf) - t)) - 1] += mu * spacing / n
        if limit is not None:
            discounted = discounted + mdp.gamma**t * mu
        mu = mu @ Q
    return Visits(whole, left, discounted)


def clockwork(mdp: FiniteMDP, pi: Array, n: int, limit: int | None = None) -> int:
    """The spacing of A2C's segments: the greatest common divisor of n and all episode lengths."""
    edges, alive, found = markov_chain(mdp, pi)[0] != 0, mdp.p0 != 0, n
    longest = n * (1 + len(alive)) if limit is None else limit
    for t in range(1, longest + 1):
        after = alive @ edges
        if (after & mdp.terminal).any() or (t == limit and after.any()):
            found = gcd(found, t)
        alive = after & ~mdp.terminal
    return found


def parts(
    mdp: FiniteMDP, pi: Array, error: Array, beta: float, seen: Visits, entropy: str = "step"
) -> Parts:
    """The coefficients of one episode's dθ for v̂ = v + error, error (S,); terminal states have no
    v̂. entropy as in a3c.Config. Raises ValueError for β < 0 and an error that is not finite, and as
    state_values does."""
    _check(mdp, error, beta, entropy)
    error, D = np.where(mdp.terminal, 0, error), seen.left.sum(0)[:, None]
    soft = beta if entropy == "return" else 0.0
    q = action_values(mdp, pi, soft * entropies(mdp, pi)) - soft * _log(pi)
    d, seen_d = discounted_occupancy(mdp, pi)[:, None], seen.discounted[:, None]
    whole: Any = 0.0
    left: Any = 0.0
    for k, (F, W) in enumerate(zip(seen.whole, seen.left), 1):
        shift = n_step_shift(mdp, pi, error, k)
        whole, left = whole + F[:, None] * shift, left + W[:, None] * shift
    bonus = -(beta - soft) * D * _log(pi)
    return Parts(d * q, (seen_d - d) * q, (D - seen_d) * q, whole, left - whole, bonus)


def through(found: Parts, pi: Array, scores: Array) -> Parts:
    """Σ_{s,a} ∇π(a|s) c(s,a) (n,) of each part. scores (S, A, n) are ∇ln π."""
    return Parts(*(np.einsum("sa,sa,sai->i", pi, c, scores) for c in found))


def value_errors(mdp: FiniteMDP, pi: Array, error: Array, seen: Visits) -> Array:
    """Σ_k W_k(s) E[R − v̂(s)] (S,), E[R − v̂] = γ^k P_π^k e − e: the update of v̂ over an episode is
    c Σ_s of it times ∇v̂(s)."""
    P_pi, error = markov_chain(mdp, pi)[0], np.where(mdp.terminal, 0, error)
    total: Any = 0.0
    after = error
    for W in seen.left:
        after = mdp.gamma * P_pi @ after
        total = total + W * (after - error)
    return total


def _log(pi: Array) -> Array:
    """ln π, 0 where π = 0."""
    return np.log(np.where(pi.real > 0, pi, 1.0))


def _endless(mdp: FiniteMDP, pi: Array) -> Array:
    try:
        return discounted_occupancy(replace(mdp, gamma=1.0), pi)
    except ValueError as error:
        raise ValueError(f"limit: must be given, since episodes need not end ({error})") from error


def _check(mdp: FiniteMDP, error: Array, beta: float, entropy: str) -> None:
    if not 0 <= beta < inf:
        raise ValueError(f"beta = {beta}: must be at least 0, and finite")
    if not np.isfinite(error).all():
        raise ValueError("error: must be finite")
    if np.shape(error) != mdp.p0.shape:
        raise ValueError(f"error has shape {np.shape(error)}: must be {mdp.p0.shape}")
    if entropy not in ("step", "return"):
        raise ValueError(f"entropy = {entropy!r}: must be one of step, return")
