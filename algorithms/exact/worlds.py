"""Named finite MDPs, together with their known exact results.

The short corridor (Sutton & Barto 2018, Example 13.1): states 0, 1, 2 and the terminal state 3;
actions left = 0 and right = 1; in state 0, left does not move; in state 1, the two actions are
swapped. Every step, including the last, gives reward -1, and γ = 1. All states look alike, so a
policy is one number, p = π(right), and v(0) = (2p - 4) / (p (1 - p)). Its maximum is -(6 + 4√2), at
p = 2 - √2.
"""

from math import sqrt

import numpy as np

from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv
from npgrad import Array

SHORT_CORRIDOR_OPTIMUM = (2 - sqrt(2), -(6 + 4 * sqrt(2)))
"""The best p and its value, about (0.586, -11.657)."""


def short_corridor() -> FiniteMDP:
    """Return the corridor as arrays: S = 4, A = 2, one observation (O = 1) for all states."""
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
    """Return the corridor environment: gymnasium.make("npgrad/ShortCorridor-v0") calls this."""
    return FiniteMDPEnv(short_corridor())


def short_corridor_features() -> Array:
    """Return x (A, d), the same in every state: x(left) = (0, 1), x(right) = (1, 0).

    So θ = (right, left). A linear softmax over the one-hot observation [1.] has the same two
    parameters in the order of the actions, (left, right).
    """
    return np.array([[0.0, 1.0], [1.0, 0.0]])


def short_corridor_value(p: float) -> float:
    """Return the exact v(0) under π(right) = p.

    Raises ValueError if p is outside (0, 1), because no episode would end.
    """
    if not 0 < p < 1:
        raise ValueError(f"p = {p}: must be in (0, 1), since otherwise no episode ends")
    return (2 * p - 4) / (p * (1 - p))


CHAIN_OPTIMUM = 0.72**3 * 8
"""The best expected return of the chain, from always choosing go; 0.72 = 0.9 · 0.8."""


def chain() -> FiniteMDP:
    """Return four states in a row, 0..3, and the terminal state 4; γ = 0.9.

    An episode has 1 to 4 steps. stop = 0 pays s + 1 and ends the episode. go = 1 pays nothing: it
    leads to the next state with probability 0.8 and ends the episode otherwise; from state 3 it
    pays 8 and ends the episode.
    """
    P, r = np.zeros((5, 2, 5)), np.zeros((5, 2))
    P[:, 0, 4] = 1
    P[np.arange(3), 1, np.arange(1, 4)] = 0.8
    P[:3, 1, 4] = 0.2
    P[3, 1, 4] = 1
    r[:4, 0] = np.arange(1, 5)
    r[3, 1] = 8
    return FiniteMDP(P, r, p0=np.eye(5)[0], gamma=0.9, terminal=np.arange(5) == 4)


def garnet(
    seed: int, states: int = 4, actions: int = 2, branching: int = 2, gamma: float = 0.9
) -> FiniteMDP:
    """Return a random MDP that starts in state 0 (Archibald, McKinnon & Thomas 1995).

    It has no terminal states. Every state and action has `branching` distinct successors, drawn
    uniformly, and a reward r(s, a) ~ N(0, 1). The probabilities of the successors are the gaps
    between uniform cuts of [0, 1].
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
    """Return the chain as an environment: gymnasium.make("npgrad/Chain-v0") calls this."""
    return FiniteMDPEnv(chain())


def garnet_env(seed: int) -> FiniteMDPEnv:
    """Return garnet(seed) as an environment: gymnasium.make("npgrad/Garnet0-v0") gives seed 0."""
    return FiniteMDPEnv(garnet(seed))


RANDOM_WALK_19_VALUES = tuple(k / 10 for k in range(-9, 10))
"""v of the 19 states if both directions are equally likely: -0.9, -0.8, ..., 0.9."""


def random_walk_19() -> FiniteMDP:
    """Return the random walk of Sutton & Barto 2018, Example 7.1: states 0..18 in a row; γ = 1.

    Episodes start in the middle. Actions left = 0 and right = 1. Beyond either end is the terminal
    state 19: stepping off the left end gives -1, off the right end +1, every other step 0. If both
    directions are equally likely, an episode has 100 steps on average.
    """
    P, r, states = np.zeros((20, 2, 20)), np.zeros((20, 2)), np.arange(19)
    P[states, 0, np.append(19, states[:-1])] = 1
    P[states, 1, states + 1] = 1
    r[0, 0], r[18, 1] = -1, 1
    return FiniteMDP(P, r, p0=np.eye(20)[9], gamma=1.0, terminal=np.arange(20) == 19)


def random_walk_19_env() -> FiniteMDPEnv:
    """Return the walk as an environment: gymnasium.make("npgrad/RandomWalk19-v0") calls this."""
    return FiniteMDPEnv(random_walk_19())
