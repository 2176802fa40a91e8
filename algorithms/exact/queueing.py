"""The access-control queue of Sutton & Barto 2018, Example 10.2: an exact average-reward task.

Customers of priority 1, 2, 4 or 8, equally likely, wait in a queue that never ends. At every step
the customer at its head is rejected (0) or, if one of 10 servers is free, accepted (1); accepting
gives the priority as reward. If no server is free, accepting is the same as rejecting. Then every
busy server becomes free with probability 0.06. The book does not say whether a job that was just
accepted may finish in the same step; `finish_at_once` selects one of the two. Both results are
known:

    average reward      of the best policy      of accepting always
    it may finish       2.7476                  2.1814
    it may not          2.6732                  2.0700
"""

from math import comb

import numpy as np

from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv

SERVERS = 10
PRIORITIES = (1, 2, 4, 8)
FREE = 0.06
REJECT, ACCEPT = 0, 1


def access_control(finish_at_once: bool = True) -> FiniteMDP:
    """Return the queue as arrays: S = 11 · 4, A = 2.

    In state 4 n + k, n servers are free, and the priority of the first customer is PRIORITIES[k].
    All servers are free at the start; γ is not used.
    """
    K = len(PRIORITIES)
    P, r = np.zeros((SERVERS + 1, K, 2, SERVERS + 1, K)), np.zeros((SERVERS + 1, K, 2))
    r[1:, :, ACCEPT] = PRIORITIES
    for n in range(SERVERS + 1):
        for action in (REJECT, ACCEPT):
            taken = int(action == ACCEPT and n > 0)
            busy = SERVERS - n + (taken if finish_at_once else 0)
            for m in range(busy + 1):
                chance = comb(busy, m) * FREE**m * (1 - FREE) ** (busy - m)
                P[n, :, action, n - taken + m] = chance / K
    S = (SERVERS + 1) * K
    p0 = np.append(np.zeros(S - K), np.full(K, 1 / K))
    return FiniteMDP(P.reshape(S, 2, S), r.reshape(S, 2), p0)


def access_control_env(finish_at_once: bool = True) -> FiniteMDPEnv:
    """Return the queue as an environment: gymnasium.make("npgrad/AccessControl-v0") calls this."""
    return FiniteMDPEnv(access_control(finish_at_once))
