"""Hypothesis strategies shared by the tests."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from worlds import LINEAR, SEEDS

from algorithms.common.policy import make_policy
from algorithms.exact.lqr import LQR
from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv
from algorithms.exact.worlds import garnet
from algorithms.referee import estimators
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


def tabular(mdp, seed, spread=1.0):
    """(policy, θ) of a tabular softmax over what an agent sees."""
    policy = make_policy(FiniteMDPEnv(mdp), LINEAR)
    return policy, spread * np.random.default_rng(seed).normal(size=policy.model.layout.size)


@st.composite
def studies(draw, spreads=(0.0, 1.0, 5.0)):
    """A Study of a layered world, of any other cut after a step or two, or of a garnet after 4."""
    kind = draw(st.sampled_from(("layered", "cut", "garnet")))
    if kind == "layered":
        mdp, horizon = draw(mdps(kinds=("layered",))), None
    elif kind == "cut":
        mdp, horizon = draw(mdps()), draw(st.integers(1, 2))
    else:
        mdp, horizon = garnet(draw(SEEDS), gamma=draw(st.floats(0.3, 0.9) | st.just(1.0))), 4
    policy, theta = tabular(mdp, draw(SEEDS), draw(st.sampled_from(spreads)))
    return estimators.open_study(mdp, policy, theta, horizon), policy, theta


def slots(draw, n):
    """An index of an axis of size n."""
    i = draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=3))
    kind = draw(st.sampled_from(["int", "slice", "reversed", "list", "array", "mask", "dots"]))
    return {
        "int": lambda: i[0],
        "slice": lambda: slice(min(i) % n, None),
        "reversed": lambda: slice(None, None, -1),
        "list": lambda: i,
        "array": lambda: np.array([i, i[::-1]]),
        "mask": lambda: np.isin(np.arange(n), np.mod(i, n)),
        "dots": lambda: ...,
    }[kind]()


@st.composite
def programs(draw):
    """(F, x): F has a vector of polynomials of pieces of x, pieces of pieces, and wholes."""
    x = np.array(draw(st.lists(st.integers(-2, 2), min_size=2, max_size=4)), float)
    steps, pool, degrees = [], [x], [1]
    for _ in range(draw(st.integers(2, 8))):
        pick = st.integers(0, len(pool) - 1)
        a, b = draw(pick), draw(pick)
        kinds = ["piece"] * 3 + ["join", "stack", "sum", "add"]
        if degrees[a] + degrees[b] <= 3:
            kinds += ["product"] * 3
        kind = draw(st.sampled_from(kinds))
        index = slots(draw, len(pool[a])) if kind == "piece" else None
        steps.append((kind, a, b, index))
        pool.append(step(pool, *steps[-1]))
        degrees.append(
            degrees[a] + degrees[b] if kind == "product" else max(degrees[a], degrees[b])
        )
    uses = draw(st.lists(st.integers(0, len(pool) - 1), min_size=2, max_size=6))

    def F(x):
        pool = [x]
        for one in steps:
            pool.append(step(pool, *one))
        return np.concatenate([pool[k] * (n + 1.0) for n, k in enumerate(uses)])

    return F, x


def step(pool, kind, a, b, index):
    a, b = pool[a], pool[b]
    n = min(len(a), len(b))
    y = {
        "piece": lambda: a[index],
        "join": lambda: np.concatenate([a, [1.0], b]),
        "stack": lambda: np.stack([a[:n], b[:n]], 1),
        "sum": lambda: np.sum(a) + b,
        "add": lambda: a + b if len(a) == len(b) else a + b[0],
        "product": lambda: a[:n] * b[:n],
    }[kind]()
    return y.reshape(-1)[:5]
