"""Hypothesis strategies shared by the tests."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from worlds import SEEDS

from algorithms.exact.lqr import LQR
from algorithms.exact.mdp import FiniteMDP

KINDS = ("continuing", "unsure", "proper", "layered")
WEIGHTS = st.sampled_from((0.0, 1e-9, 1e-3, 1.0)) | st.floats(0, 1)


@st.composite
def distributions(draw, shape):
    """An array whose last axis holds distributions: spread, nearly or wholly deterministic."""
    weights = draw(arrays(float, shape, elements=WEIGHTS))
    sure = draw(arrays(int, shape[:-1], elements=st.integers(0, shape[-1] - 1)))
    np.put_along_axis(weights, sure[..., None], 1.0, axis=-1)
    return weights / weights.sum(-1, keepdims=True)


@st.composite
def mdps(draw, kinds=KINDS):
    """A FiniteMDP of 1-5 nonterminal states in any order among 0-2 terminal ones, 1-4 actions.

    continuing  no terminal state                             0 <= γ <= 0.99
    unsure      0-2 terminal states, which may never come     0 <= γ <= 0.99
    proper      every step ends the episode with Pr >= 0.1    γ = 1 too
    layered     states come in one order: at most 5 steps     γ = 1 too
    """
    kind = draw(st.sampled_from(kinds))
    N, A = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    ended = draw(st.integers(*{"continuing": (0, 0), "unsure": (0, 2)}.get(kind, (1, 2))))
    S = N + ended
    P = draw(distributions((S, A, S)))
    if kind == "proper":
        P = 0.9 * P + 0.1 * np.eye(S)[S - 1]
    if kind == "layered":
        P = np.where(np.triu(np.ones((S, S)), 1)[:, None] > 0, P, 0)
        P[..., S - 1] += P.sum(-1) == 0
        P /= P.sum(-1, keepdims=True)
    r = draw(arrays(float, draw(st.sampled_from(((S, A), (S, A, S)))), elements=st.floats(-5, 5)))
    p0 = np.append(draw(distributions((N,))), np.zeros(ended))
    gamma = draw(
        st.just(0.0) | st.floats(0, 0.99) | st.just(1.0 if kind in ("proper", "layered") else 0.9)
    )
    order = np.array(draw(st.permutations(range(S))))
    observation = draw(st.none() | arrays(int, S, elements=st.integers(0, S)))
    return FiniteMDP(
        P[np.ix_(order, range(A), order)],
        r[np.ix_(order, range(A), order)] if r.ndim == 3 else r[order],
        p0[order],
        gamma,
        (np.arange(S) >= N)[order],
        observation,
    )


def policies(mdp):
    """Policies (S, A) of an MDP, some rows nearly or wholly deterministic."""
    return distributions(mdp.P.shape[:2])


@st.composite
def unichain_mdps(draw):
    """A continuing MDP whose every step leads to one state with Pr >= 0.1, whatever the policy.

    So it has one recurrent class, mixes in about ten steps, and may have transient states.
    """
    mdp = draw(mdps(kinds=("continuing",)))
    home = np.eye(len(mdp.p0))[draw(st.integers(0, len(mdp.p0) - 1))]
    return replace(mdp, P=0.9 * mdp.P + 0.1 * home)


@st.composite
def regulators(draw):
    """(lqr, K) with √γ ρ(A − BK) ≤ 0.8, so that 1200 terms of every sum are all of it."""
    n, d = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(SEEDS))
    square = lambda m: (lambda x: x @ x.T / m)(rng.normal(size=(m, m)))
    gamma, B, K = draw(st.floats(0.1, 0.97)), rng.normal(size=(n, d)), rng.normal(size=(d, n))
    M = rng.normal(size=(n, n))
    M *= draw(st.floats(0.1, 0.8)) / np.sqrt(gamma) / max(np.linalg.norm(M, 2), 1e-6)
    R, (Q, W, Sigma0) = square(d) + 0.1 * np.eye(d), (square(n) for _ in range(3))
    return LQR(M + B @ K, B, Q, R, W, Sigma0, gamma), K
