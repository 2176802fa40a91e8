"""Optimal policies of finite MDPs, by policy iteration (Howard 1960; Sutton & Barto 2018, §4.3).

π'(s) = argmax_a q^π(s, a)      until no action is better than the current one
"""

from collections.abc import Callable

import numpy as np

from algorithms.exact.mdp import FiniteMDP, action_values
from npgrad import Array

BETTER = 1e-9


def optimal_policy(
    mdp: FiniteMDP, values: Callable[[FiniteMDP, Array], Array] = action_values
) -> Array:
    """Return a deterministic optimal policy (S, A), with one-hot rows.

    values    action_values: the best discounted return from every state;
              average_reward.differential_action_values: the best average reward
    An action counts as better if it gains more than 1e-9 of the largest |q|, so that rounding of
    ties cannot cause an endless loop. Raises ValueError if `values` does for an intermediate
    policy: with γ = 1, if a state cannot reach a terminal one, or can avoid it and gain by this;
    for average rewards, if a policy is multichain.
    """
    S, A, _ = mdp.P.shape
    actions, seen = _towards_the_end(mdp), set()
    while actions.tobytes() not in seen:
        seen.add(actions.tobytes())
        q = values(mdp, np.eye(A)[actions])
        better = q.max(1) > q[np.arange(S), actions] + BETTER * np.abs(q).max()
        actions = np.where(better, q.argmax(1), actions)
    return np.eye(A)[actions]


def _towards_the_end(mdp: FiniteMDP) -> Array:
    """Return actions (S,) that lead towards a terminal state wherever one can be reached."""
    ends, actions = mdp.terminal, np.zeros(len(mdp.p0), int)
    while True:
        leads = mdp.P @ ends > 0
        new = leads.any(1) & ~ends
        if not new.any():
            return actions
        actions[new] = leads[new].argmax(1)
        ends = ends | new
