"""Returns of an episode or of a segment of it."""

import numpy as np


def returns(R, gamma, last=0.0):
    """G_t = R[t] + γ G_{t+1}, t = T − 1, ..., 0, with G_T = last. R (T,); G (T,)."""
    G = np.empty(len(R))
    for t in reversed(range(len(R))):
        G[t] = last = R[t] + gamma * last
    return G
