"""Optimal policies of finite MDPs, by policy iteration (Howard 1960; Sutton & Barto 2018, §4.3).

π'(s) = argmax_a q^π(s, a)      until no action is better than the one that is taken
"""

import numpy as np

from algorithms.exact.mdp import FiniteMDP, action_values

BETTER = 1e-9


def optimal_policy(mdp: FiniteMDP, values=action_values) -> np.ndarray:
    """A deterministic optimal policy (S, A), its rows one-hot.

    values    action_values: the best discounted return from every state;
              average_reward.differential_action_values: the best average reward
    An action counts as better from 1e-9 of the largest |q| on, so that rounding turns no tie into a
    step that never ends. Raises ValueError as `values` does for a policy on the way: with γ = 1
    where a state cannot reach a terminal one, or need not and is paid for that; for average rewards
    where a policy is multichain.
    """
    S, A, _ = mdp.P.shape
    actions, seen = _towards_the_end(mdp), set()
    while actions.tobytes() not in seen:
        seen.add(actions.tobytes())
        q = values(mdp, np.eye(A)[actions])
        better = q.max(1) > q[np.arange(S), actions] + BETTER * np.abs(q).max()
        actions = np.where(better, q.argmax(1), actions)
    return np.eye(A)[actions]


def _towards_the_end(mdp):
    """Actions (S,) with which an episode ends from every state from which it can."""
    ends, actions = mdp.terminal, np.zeros(len(mdp.p0), int)
    while True:
        leads = mdp.P @ ends > 0
        new = leads.any(1) & ~ends
        if not new.any():
            return actions
        actions[new] = leads[new].argmax(1)
        ends = ends | new
