"""One episode of a policy in an environment."""

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


def noise_rows(head, rng):
    """Rows for head.sample, without end, drawn in blocks."""
    while True:
        yield from head.noise(rng, BLOCK)


def play(env, policy, theta, rng, greedy=False):
    """Follow policy(θ) from a reset to the episode's end.

    The reset is seeded from rng, so rng's state determines the whole episode.
    Raises FloatingPointError if an observation or reward is not finite (looked at once a block).
    """
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    forward, head = policy.model.bind(theta), policy.head
    encode, decode, act, step = policy.encode, policy.decode, head.sample, env.step
    if greedy:
        act = lambda h, noise: head.mode(h)
    S, A, R = [encode(observation)], [], []
    while True:
        for noise in head.noise(rng, BLOCK):
            a = act(forward(S[-1]), noise)
            observation, r, terminated, truncated, _ = step(decode(a))
            S.append(encode(observation))
            A.append(a)
            R.append(r)
            if terminated or truncated:
                check_finite(S, R)
                s_final = S.pop()
                return Episode(
                    np.array(S), np.array(A), np.array(R, float), s_final, bool(terminated)
                )
        check_finite(S, R)


def check_finite(S, R):
    """Raise FloatingPointError naming the first of the last BLOCK steps that is not finite."""
    first = max(0, len(R) - BLOCK)
    finite = np.isfinite(R[first:]) & np.isfinite(S[first + 1 :]).all(1)
    if not finite.all():
        t = first + int(np.argmin(finite))
        raise FloatingPointError(
            f"the environment returned reward {R[t]} and observation {S[t + 1]} at step {t + 1} "
            "of an episode: both must be finite"
        )
