"""Features that let a linear method bend: the Fourier basis and polynomials of an observation.

    Fourier      x_i(s) = cos(π s·c_i)          s ∈ [0, 1]^k      c_i ∈ {0, ..., n}^k
    polynomial   x_i(s) = Π_j s_j^c_ij          s ∈ [−1, 1]^k     the same c_i

(n + 1)^k features each (Sutton & Barto 2018, §9.5.1–9.5.2). s is the observation, scaled by the
bounds of its space.
"""

from itertools import product

import gymnasium
import numpy as np

BASES = ("fourier", "polynomial")
MOST = 10_000


class Features(gymnasium.ObservationWrapper):
    """env, observed through a basis of order n. Raises ValueError for an observation space that is
    not a flat Box with finite bounds, and for more than 10,000 features."""

    def __init__(self, env, basis, order):
        super().__init__(env)
        space = env.observation_space
        flat = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
        if not flat or not space.is_bounded():
            raise ValueError(
                f"observation_space = {space}: must be a flat Box with finite bounds for "
                f"{basis} features"
            )
        count = (order + 1) ** space.shape[0]
        if count > MOST:
            raise ValueError(f"order = {order}: must be less, it gives {count} features")
        self.basis, self.low, self.range = basis, space.low.astype(float), space.high - space.low
        self.c = np.array(list(product(range(order + 1), repeat=space.shape[0])), float)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (count,), float)

    def observation(self, observation):
        """x (count,)."""
        s = (observation - self.low) / self.range
        if self.basis == "fourier":
            return np.cos(np.pi * self.c.dot(s))
        return np.prod((2.0 * s - 1.0) ** self.c, axis=1)
