"""Features that let a linear method bend: Fourier basis, polynomials and tiles of an observation.

    Fourier      x_i(s) = cos(π s·c_i)           s ∈ [0, 1]^d     c_i ∈ {0, ..., n}^d
    polynomial   x_i(s) = Π_j s_j^c_ij           s ∈ [−1, 1]^d    the same c_i
    tiles        x_ki(s) = 1 if ⌊n s + o_k⌋ = c_i, else 0         s ∈ [0, 1]^d, the same c_i
                 o_kj = (k (2j + 1) mod N) / N   k < N tilings, j < d; N = min 2^m ≥ 4d

(n + 1)^d features, N (n + 1)^d of tiles (Sutton & Barto 2018, §9.5.1, 9.5.2, 9.5.4). s is the
observation, scaled by the bounds of its space and clipped to them.

Tiles: every tiling cuts the space into tiles 1/n wide (n + 1 along each dimension, those at the
ends cut short) and one tile of each is active: N ones, the rest zeros. Tiling k lies (1, 3, 5, ...)
k / (N n) from tiling 0. These are odd and N is a power of two, so that along each dimension the
edges of all tilings are 1/(N n) apart: what is nearer than that in every dimension shares at least
N − d tiles. Every tile has its own feature; nothing is hashed. A step size of α/N moves v̂(s) as α
does that of a table.

Which linear method needs which: discrete observations are one-hot, and need none. A linear v̂ or
preference over a Box is a plane, which serves few tasks; online methods take the Fourier basis,
bounded and smooth (the continuing pendulum: order 3), or tiles, binary and local, so that one state
is learned without moving those far away; polynomials suit low orders only. TD(λ)'s replacing traces
ask for x ∈ {0, 1}: one-hot or tiles. All three grow as the d-th power; unbounded observations, as
CartPole's, have no scale: both want a network.
"""

from itertools import product

import gymnasium
import numpy as np

BASES = ("fourier", "polynomial", "tiles")
MOST = 10_000


class Features(gymnasium.ObservationWrapper):
    """env, observed through a basis of order n. Raises ValueError for an observation space that is
    not a flat Box with finite bounds, and for more than 10,000 features; FloatingPointError for an
    observation that is not finite."""

    def __init__(self, env, basis, order):
        super().__init__(env)
        space = env.observation_space
        flat = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
        if not flat or not space.is_bounded():
            raise ValueError(
                f"observation_space = {space}: must be a flat Box with finite bounds for "
                f"{basis} features"
            )
        d = space.shape[0]
        tilings = 2 ** (4 * d - 1).bit_length() if basis == "tiles" else 1
        count = tilings * (order + 1) ** d
        if count > MOST:
            raise ValueError(f"order = {order}: must be less, it gives {count} features")
        self.basis, self.order, self.low = basis, order, space.low.astype(float)
        self.range = space.high - self.low
        self.c = np.array(list(product(range(order + 1), repeat=d)), float)
        k = np.arange(tilings)
        self.offset = np.outer(k, 2 * np.arange(d) + 1) % tilings / tilings
        self.first, self.place = k * (order + 1) ** d, (order + 1) ** np.arange(d)[::-1]
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (count,), float)

    def observation(self, observation):
        """x (count,)."""
        if not np.isfinite(observation).all():
            raise FloatingPointError(
                f"the environment returned observation {observation}: must be finite"
            )
        s = np.minimum(np.maximum((observation - self.low) / self.range, 0.0), 1.0)
        if self.basis == "fourier":
            return np.cos(np.pi * self.c.dot(s))
        if self.basis == "polynomial":
            return np.prod((2.0 * s - 1.0) ** self.c, axis=1)
        x = np.zeros(self.observation_space.shape)
        x[self.first + (self.order * s + self.offset).astype(int) @ self.place] = 1.0
        return x
