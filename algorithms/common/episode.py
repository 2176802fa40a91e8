"""One episode of a policy in an environment."""

from math import isfinite
from typing import NamedTuple

import numpy as np

BLOCK = 128  # steps of noise drawn at once


class Episode(NamedTuple):
    """S (T, n) features, A (T, ...) actions, R (T,) rewards: R[t] follows A[t].

    s_final is the observation after the last step; terminated says that the return ends there,
    otherwise the data was only cut (truncated).
    """

    S: np.ndarray
    A: np.ndarray
    R: np.ndarray
    s_final: np.ndarray
    terminated: bool


def play(env, policy, theta, rng, greedy=False):
    """Follow policy(θ) from a reset to the episode's end.

    The reset is seeded from rng, so rng's state determines the whole episode.
    Raises FloatingPointError at the first observation or reward that is not finite.
    """
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    encode, model, head, decode = policy.encode, policy.model, policy.head, policy.decode
    S, A, R = [], [], []
    s = encode(observation)
    while True:
        if len(A) % BLOCK == 0:
            noise = iter(head.noise(rng, BLOCK))
        h = model(theta, s)
        a = head.mode(h) if greedy else head.sample(h, next(noise))
        observation, r, terminated, truncated, _ = env.step(decode(a))
        S.append(s)
        A.append(a)
        R.append(r)
        s = encode(observation)
        if not (isfinite(r) and isfinite(s.dot(s))):
            raise FloatingPointError(
                f"the environment returned reward {r} and observation {observation} at step "
                f"{len(R)} of an episode: both must be finite"
            )
        if terminated or truncated:
            return Episode(np.array(S), np.array(A), np.array(R, float), s, bool(terminated))
