"""Named worlds whose exact answers are known, beside those answers.

The short corridor (Sutton & Barto 2018, Example 13.1): states 0, 1, 2 and the terminal state 3;
actions left = 0 and right = 1; in state 0 left stays, in state 1 the two are swapped. Every step,
the last one too, costs -1, and γ = 1. All states look alike, so a policy is one number,
p = π(right), and v(0) = (2p - 4) / (p (1 - p)), greatest at p = 2 - √2 where it is -(6 + 4√2).
"""

from math import sqrt

import numpy as np

from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv

SHORT_CORRIDOR_OPTIMUM = (2 - sqrt(2), -(6 + 4 * sqrt(2)))
"""The best p and its value, about (0.586, -11.657)."""


def short_corridor() -> FiniteMDP:
    """The corridor as data: S = 4, A = 2, one observation (O = 1) for all states."""
    successor = [[0, 1], [2, 0], [1, 3]]
    P = np.zeros((4, 2, 4))
    P[np.arange(3)[:, None], np.arange(2), successor] = 1
    return FiniteMDP(
        P,
        r=np.full((4, 2), -1.0),
        p0=np.eye(4)[0],
        gamma=1.0,
        terminal=np.arange(4) == 3,
        observation=np.zeros(4, int),
    )


def short_corridor_env() -> FiniteMDPEnv:
    """The corridor as an environment: gymnasium.make("npgrad/ShortCorridor-v0") calls this."""
    return FiniteMDPEnv(short_corridor())


def short_corridor_features() -> np.ndarray:
    """x (A, d), the same in every state: x(left) = (0, 1), x(right) = (1, 0), so θ = (right, left).

    A linear softmax over the one-hot observation [1.] has the same two parameters in the order of
    the actions, (left, right).
    """
    return np.array([[0.0, 1.0], [1.0, 0.0]])


def short_corridor_value(p: float) -> float:
    """v(0) under π(right) = p, exactly. Raises ValueError outside (0, 1): no episode would end."""
    if not 0 < p < 1:
        raise ValueError(f"p = {p}: must be in (0, 1), or no episode ends")
    return (2 * p - 4) / (p * (1 - p))


CHAIN_OPTIMUM = 0.72**3 * 8
"""The best expected return of the chain: to go on, always; 0.72 = 0.9 · 0.8."""


def chain() -> FiniteMDP:
    """Four states in a row, 0..3, and the end, state 4; γ = 0.9; an episode has 1 to 4 steps.

    stop = 0 pays s + 1 and ends. go = 1 pays nothing: it leads on with probability 0.8 and ends
    otherwise; from state 3 it pays 8 and ends.
    """
    P, r = np.zeros((5, 2, 5)), np.zeros((5, 2))
    P[:, 0, 4] = 1
    P[np.arange(3), 1, np.arange(1, 4)] = 0.8
    P[:3, 1, 4] = 0.2
    P[3, 1, 4] = 1
    r[:4, 0] = np.arange(1, 5)
    r[3, 1] = 8
    return FiniteMDP(P, r, p0=np.eye(5)[0], gamma=0.9, terminal=np.arange(5) == 4)


def garnet(seed: int, states=4, actions=2, branching=2, gamma=0.9) -> FiniteMDP:
    """A random MDP without terminal states, begun in state 0 (Archibald, McKinnon & Thomas 1995).

    Every state and action has `branching` distinct successors, drawn without preference, their
    probabilities the gaps between uniform cuts of [0, 1], and a reward r(s, a) ~ N(0, 1).
    """
    if not 1 <= branching <= states:
        raise ValueError(f"branching = {branching}: must be in 1, ..., states = {states}")
    rng = np.random.default_rng(seed)
    order = rng.random((states, actions, states)).argsort(-1)[..., :branching]
    cuts = np.sort(rng.random((states, actions, branching - 1)))
    P = np.zeros((states, actions, states))
    np.put_along_axis(P, order, np.diff(cuts, prepend=0, append=1), -1)
    return FiniteMDP(P, rng.normal(size=(states, actions)), np.eye(states)[0], gamma)


def chain_env() -> FiniteMDPEnv:
    """The chain as an environment: gymnasium.make("npgrad/Chain-v0") calls this."""
    return FiniteMDPEnv(chain())


def garnet_env(seed: int) -> FiniteMDPEnv:
    """garnet(seed) as an environment: gymnasium.make("npgrad/Garnet0-v0") gives seed 0."""
    return FiniteMDPEnv(garnet(seed))


RANDOM_WALK_19_VALUES = tuple(k / 10 for k in range(-9, 10))
"""v of the 19 states when both directions are equally likely: -0.9, -0.8, ..., 0.9."""


def random_walk_19() -> FiniteMDP:
    """Sutton & Barto 2018, Example 7.1: states 0..18 in a row, begun in the middle; γ = 1.

    Actions left = 0 and right = 1. Beyond either end is the terminal state 19: stepping off the
    left end pays -1, off the right end +1, every other step nothing. An episode of the random walk
    has 100 steps on average.
    """
    P, r, states = np.zeros((20, 2, 20)), np.zeros((20, 2)), np.arange(19)
    P[states, 0, np.append(19, states[:-1])] = 1
    P[states, 1, states + 1] = 1
    r[0, 0], r[18, 1] = -1, 1
    return FiniteMDP(P, r, p0=np.eye(20)[9], gamma=1.0, terminal=np.arange(20) == 19)


def random_walk_19_env() -> FiniteMDPEnv:
    """The walk as an environment: gymnasium.make("npgrad/RandomWalk19-v0") calls this."""
    return FiniteMDPEnv(random_walk_19())
