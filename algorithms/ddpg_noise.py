"""Exploration noise of a deterministic policy: OU, white and ε-greedy-style noise.

    dN = ou_theta (ou_mean − N) dt + σ dW                 Uhlenbeck & Ornstein 1930; DDPG §3, §7

Both discretisations are N ← ou_mean + keep (N − ou_mean) + spread ξ, ξ ~ N(0, I):

    euler   keep = 1 − ou_theta dt     spread = σ √dt                           Euler–Maruyama
    exact   keep = e^(−ou_theta dt)    spread = σ √((1 − keep²)/(2 ou_theta))   of N(t + dt)

In the long run N has mean ou_mean, variance spread²/(1 − keep²) and autocorrelation keepᵏ at lag k.
With `exact`, these are the values of the continuous process: variance σ²/(2 ou_theta) and
autocorrelation e^(−ou_theta k dt).
"""

from dataclasses import dataclass
from math import exp, expm1, sqrt
from typing import Annotated, Literal

import numpy as np

from algorithms.common.config import Count, NonNegative, Range, Unit, check
from npgrad import Array


def clip(u: Array) -> Array:
    """Clip u to [−1, 1]; np.clip takes three times as long."""
    return np.minimum(np.maximum(u, -1.0), 1.0)


@dataclass(frozen=True)
class Noise:
    """Settings of the noise, in units of half the action range: actions lie in [−1, 1]."""

    noise: Literal["ou", "white", "epsilon", "none"] = "ou"
    """ou: correlated, restarted with each episode (Algorithm 1); white: N(0, σ²) at every step;
    epsilon: with probability epsilon, a uniform action instead (as in DQN); none: no noise."""
    sigma: NonNegative = 0.2
    """Initial σ (DDPG §7): for OU noise, per square root of time; for white noise, its standard
    deviation."""
    sigma_final: Annotated[float | None, Range(0)] = None
    """Final σ, reached linearly. None: σ stays constant (as in the paper)."""
    sigma_steps: Count = 100_000
    """Environment steps from sigma to sigma_final, including warm-up steps without noise."""
    ou_theta: NonNegative = 0.15
    """Rate of return to the mean, per unit of time (DDPG §7)."""
    ou_mean: Annotated[float, Range(-1, 1)] = 0.0
    """Mean of OU noise, which is also its initial value (DDPG: 0)."""
    dt: float = 1.0
    """Time between two steps (not given in the paper; 1e-2, found in other code, makes the noise
    stay correlated for 100 times as many steps). Above 0; for euler also below 2/ou_theta, because
    otherwise the noise would grow."""
    ou_form: Literal["euler", "exact"] = "euler"
    """Discretisation of OU noise."""
    epsilon: Unit = 0.1
    """Probability of a uniform action, if noise is epsilon."""

    def __post_init__(self) -> None:
        check(self)
        stable = 2 / self.ou_theta if self.ou_form == "euler" and self.ou_theta else np.inf
        if not 0 < self.dt < stable:
            what = "above 0" if stable == np.inf else f"in (0, 2/ou_theta) = (0, {stable:g})"
            raise ValueError(f"dt = {self.dt!r}: must be {what}")

    def sigma_at(self, t: int) -> float:
        """Return σ after t steps."""
        if self.sigma_final is None:
            return self.sigma
        return self.sigma + min(t / self.sigma_steps, 1.0) * (self.sigma_final - self.sigma)

    def coefficients(self, sigma: float) -> tuple[float, float]:
        """Return (keep, spread) of OU noise."""
        if self.ou_form == "euler":
            return 1 - self.ou_theta * self.dt, sigma * sqrt(self.dt)
        if self.ou_theta == 0.0:
            return 1.0, sigma * sqrt(self.dt)
        decayed = -expm1(-2 * self.ou_theta * self.dt)
        return exp(-self.ou_theta * self.dt), sigma * sqrt(decayed / (2 * self.ou_theta))

    def explore(self, u: Array, N: Array, t: int, rng: np.random.Generator) -> Array:
        """Return the action to take for μ(s) = u (d,), within [−1, 1].

        N (d,), the state of OU noise, is updated in place; t is the number of steps taken.
        """
        sigma = self.sigma_at(t)
        if self.noise == "epsilon":
            return rng.uniform(-1.0, 1.0, len(u)) if rng.random() < self.epsilon else u.copy()
        if self.noise == "none":
            return u.copy()
        xi = rng.standard_normal(len(u))
        if self.noise == "white":
            return clip(u + sigma * xi)
        keep, spread = self.coefficients(sigma)
        N -= self.ou_mean
        N *= keep
        N += spread * xi
        N += self.ou_mean
        return clip(u + N)
