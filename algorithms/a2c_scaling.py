"""Normalised features and rewards for A2C, by running moments (common practice).

    s ← (s − mean)/√(variance + 1e-8), within ±10        mean, variance of the features so far
    r ← r/√(variance + 1e-8), within ±10                 variance of Σ_k γ^k r_{t−k} so far

Moments of n numbers are an array (3, n): their count, mean, and Σ (x − mean)².
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from algorithms.common.policy import Policy
from algorithms.common.types import Act
from algorithms.common.world import HasSpaces, Spaces, encoder, one_hot, spaces
from algorithms.common.worlds import Several, Step, Worlds
from npgrad import Array

FARTHEST = 10.0  # bound of what is normalised, in standard deviations (common practice)
LEAST = 1e-8  # variance that normalisation adds


def merge(moments: Array, x: Array, of: Array) -> None:
    """Count the rows of x (k, n) into moments (3, n) where of (k,) is True (Chan et al. 1979)."""
    k = np.count_nonzero(of)
    if k == 0:
        return
    count, mean, squares = moments
    weight = of.astype(x.dtype)
    new = weight.dot(x) / k
    gap = new - mean
    squares += weight.dot((x - new) ** 2) + gap**2 * count * k / (count + k)
    mean += gap * k / (count + k)
    count += k


def normalise(moments: Array, x: Array) -> Array:
    """(x − mean)/√(variance + 1e-8), kept within ±10; x unchanged before the first count."""
    count, mean, squares = moments
    if count[0] == 0:
        return x
    return np.clip((x - mean) / np.sqrt(squares / count + LEAST), -FARTHEST, FARTHEST)


def acting(policy: Policy, env: HasSpaces) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step, on normalised features."""
    n, encode = encoder(spaces(env).observation)

    def act(
        parameters: Mapping[str, Any],
        observation: Any,
        rng: np.random.Generator,
        greedy: bool = False,
    ) -> Any:
        s = normalise(parameters["seen"], one_hot(encode(observation), n))
        pi = policy.at(parameters["theta"], s)
        return policy.decode(pi.mode() if greedy else pi.sample(policy.head.noise(rng, 1)[0]))

    return act


def seen_spaces(env: HasSpaces, config: Any) -> Spaces:
    """Return env's spaces. Normalised features are numbers, whatever the observations are."""
    found = spaces(env)
    if config.normalize_observations:
        n, _ = encoder(found.observation)
        found = found._replace(observation=Box(-np.inf, np.inf, (n,), float))
    return found


class Scaled:
    """Worlds whose features and rewards are normalised as config asks. state.seen and
    state.returned, the moments of transitions so far, and state.trace change at every step."""

    def __init__(self, worlds: Several | Worlds, config: Any, state: Any) -> None:
        self.worlds, self.config, self.state = worlds, config, state
        self.N, self.take_ended = worlds.N, worlds.take_ended

    @property
    def s(self) -> Array:
        return self._scale(self.worlds.s)

    def _raw(self, s: Array) -> Array:
        return one_hot(s, self.worlds.n).astype(float)

    def _scale(self, s: Array) -> Array:
        if not self.config.normalize_observations:
            return s
        return normalise(self.state.seen, self._raw(s))

    def step(self, A: Array) -> Step:
        s = self.worlds.s
        s = self._raw(s) if self.config.normalize_observations else s
        r, s2, terminated, truncated, real = self.worlds.step(A)
        if self.config.normalize_observations:
            merge(self.state.seen, s, real)
        if self.config.normalize_returns:
            trace = self.state.trace
            trace[:] = self.config.gamma * trace + r
            merge(self.state.returned, trace[:, None], real)
            trace[terminated | truncated] = 0.0
            count, _, squares = self.state.returned[:, 0]
            r = np.clip(r / np.sqrt(squares / count + LEAST), -FARTHEST, FARTHEST)
        return Step(r, self._scale(s2), terminated, truncated, real)
