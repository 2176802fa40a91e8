"""Named worlds whose exact answers are known, beside those answers.

The short corridor (Sutton & Barto 2018, Example 13.1): states 0, 1, 2 and the terminal state 3;
actions left = 0 and right = 1; in state 0 left stays, in state 1 the two are swapped. Every step,
the last one too, costs -1, and γ = 1. All states look alike, so a policy is one number,
p = π(right), and v(0) = (2p - 4) / (p (1 - p)), greatest at p = 2 - √2 where it is -(6 + 4√2).
"""

from math import sqrt

import numpy as np

from algorithms.common.mdp import FiniteMDP, FiniteMDPEnv

SHORT_CORRIDOR_OPTIMUM = (2 - sqrt(2), -(6 + 4 * sqrt(2)))
"""The best p and its value, about (0.586, -11.657)."""


def short_corridor() -> FiniteMDP:
    """The corridor as data: S = 4, A = 2, one observation (O = 1) for all states."""
    successor = [[0, 1], [2, 0], [1, 3]]
    P = np.zeros((4, 2, 4))
    P[np.arange(3)[:, None], np.arange(2), successor] = 1
    return FiniteMDP(P, r=np.full((4, 2), -1.0), p0=np.eye(4)[0], gamma=1.0,
                     terminal=np.arange(4) == 3, observation=np.zeros(4, int))


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
