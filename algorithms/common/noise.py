"""What a deterministic policy adds to its action to explore: OU, white and ε-greedy-style noise.

    dN = ou_theta (ou_mean − N) dt + σ dW                 Ornstein & Uhlenbeck 1930; DDPG §3, §7

Both discretisations are N ← ou_mean + keep (N − ou_mean) + spread ξ, ξ ~ N(0, I):

    euler   keep = 1 − ou_theta dt     spread = σ √dt                           Euler–Maruyama
    exact   keep = e^(−ou_theta dt)    spread = σ √((1 − keep²)/(2 ou_theta))   of N(t + dt)

so mean ou_mean, variance spread²/(1 − keep²) in the long run, and autocorrelation keepᵏ at lag k;
of `exact` they are those of the process: σ²/(2 ou_theta), and e^(−ou_theta k dt).
"""

from dataclasses import dataclass
from math import exp, expm1, sqrt
from typing import Literal

import numpy as np

from algorithms.common.policy import check


def clip(u):
    """u within [−1, 1]; np.clip takes three times as long."""
    return np.minimum(np.maximum(u, -1.0), 1.0)


@dataclass(frozen=True)
class Noise:
    """All in units of half the action range: actions lie in [−1, 1]."""

    noise: Literal["ou", "white", "epsilon", "none"] = "ou"
    """ou: correlated, restarted with each episode (DDPG §7); white: N(0, σ²) at every step;
    epsilon: now and then an action drawn uniformly instead (DQN's way)."""
    sigma: float = 0.2
    """σ at first (DDPG §7): of OU noise per square root of time, of white noise its s.d. At least
    0."""
    sigma_final: float | None = None
    """σ in the end, reached linearly. At least 0; None: σ stays as it is (the paper)."""
    sigma_steps: int = 100_000
    """Environment steps from sigma to sigma_final, those without noise (warm-up) counted. At least
    1."""
    ou_theta: float = 0.15
    """Rate of return to the mean, per unit of time (DDPG §7). At least 0."""
    ou_mean: float = 0.0
    """What OU noise returns to, and starts from (DDPG: 0). In [-1, 1]."""
    dt: float = 1.0
    """Time between two steps (the paper is silent; 1e-2, found in other code, makes the noise 100
    times longer correlated). Above 0; for euler below 2/ou_theta, or the noise would grow."""
    ou_form: Literal["euler", "exact"] = "euler"
    """How OU noise is discretised."""
    epsilon: float = 0.1
    """Probability of a uniform action, for epsilon. In [0, 1]."""

    def __post_init__(self):
        check(self, noise=("ou", "white", "epsilon", "none"), ou_form=("euler", "exact"))
        check(self, sigma=(0.0, np.inf), sigma_steps=(1, np.inf))
        if self.sigma_final is not None:
            check(self, sigma_final=(0.0, np.inf))
        check(self, ou_theta=(0.0, np.inf), ou_mean=(-1.0, 1.0), epsilon=(0.0, 1.0))
        stable = 2 / self.ou_theta if self.ou_form == "euler" and self.ou_theta else np.inf
        if not 0 < self.dt < stable:
            what = "above 0" if stable == np.inf else f"in (0, 2/ou_theta) = (0, {stable:g})"
            raise ValueError(f"dt = {self.dt!r}: must be {what}")

    def sigma_at(self, t):
        """σ after t steps."""
        if self.sigma_final is None:
            return self.sigma
        return self.sigma + min(t / self.sigma_steps, 1.0) * (self.sigma_final - self.sigma)

    def coefficients(self, sigma):
        """(keep, spread) of OU noise."""
        if self.ou_form == "euler":
            return 1 - self.ou_theta * self.dt, sigma * sqrt(self.dt)
        if self.ou_theta == 0.0:
            return 1.0, sigma * sqrt(self.dt)
        decayed = -expm1(-2 * self.ou_theta * self.dt)
        return exp(-self.ou_theta * self.dt), sigma * sqrt(decayed / (2 * self.ou_theta))

    def explore(self, u, N, t, rng):
        """The action to take for μ(s) = u (d,), within [−1, 1]. N (d,), OU's state, moves in place;
        t counts the steps taken."""
        sigma = self.sigma_at(t)
        if self.noise == "epsilon":
            return rng.uniform(-1.0, 1.0, len(u)) if rng.random() < self.epsilon else u
        if self.noise == "none":
            return u
        xi = rng.standard_normal(len(u))
        if self.noise == "white":
            return clip(u + sigma * xi)
        keep, spread = self.coefficients(sigma)
        N -= self.ou_mean
        N *= keep
        N += spread * xi
        N += self.ou_mean
        return clip(u + N)
