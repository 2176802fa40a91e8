"""The access-control queue, Sutton & Barto 2018, Example 10.2: an average-reward task, exactly.

Customers of priority 1, 2, 4 or 8, equally likely, wait in a queue that never ends; at every step
the one at its head is rejected (0) or, if one of 10 servers is free, accepted (1), which pays the
priority; with no server free, accepting is rejecting. Then every busy server becomes free with
probability 0.06. The book does not say whether a job that was accepted now may finish in the same
step; that is `finish_at_once`, and both answers are known:

    average reward      of the best policy      of accepting always
    it may              2.7476                  2.1814
    it may not          2.6732                  2.0700
"""

from math import comb

import numpy as np

from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv

SERVERS = 10
PRIORITIES = (1, 2, 4, 8)
FREE = 0.06
REJECT, ACCEPT = 0, 1


def access_control(finish_at_once=True) -> FiniteMDP:
    """The queue as data: S = 11 · 4, A = 2. State 4 n + k: n servers free, the head's priority is
    PRIORITIES[k]. It begins with all servers free; γ plays no part."""
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


def access_control_env(finish_at_once=True) -> FiniteMDPEnv:
    """The queue as an environment: gymnasium.make("npgrad/AccessControl-v0") calls this."""
    return FiniteMDPEnv(access_control(finish_at_once))
