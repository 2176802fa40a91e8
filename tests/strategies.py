"""Hypothesis strategies shared by the tests."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from worlds import SEEDS

from algorithms.exact.lqr import LQR
from algorithms.exact.mdp import FiniteMDP
from npgrad.testing import distributions, finite_mdps


@st.composite
def mdps(draw, **options):
    """Draw a FiniteMDP, also with observations that several states share."""
    data = draw(finite_mdps(**options))
    observation = st.none() | arrays(int, len(data.p0), elements=st.integers(0, len(data.p0)))
    return FiniteMDP(*data, draw(observation))


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
