"""Features that let a linear method bend: Fourier basis, polynomials and tiles of an observation.

    Fourier      x_i(s) = cos(π s·c_i)           s ∈ [0, 1]^d     c_i ∈ {0, ..., n}^d
    polynomial   x_i(s) = Π_j s_j^{c_ij}         s ∈ [−1, 1]^d    the same c_i
    tiles        x_ki(s) = 1 if ⌊n s + o_k⌋ = c_i, else 0         s ∈ [0, 1]^d, the same c_i
                 o_kj = (k (2j + 1) mod N) / N   k < N tilings, j < d; N = min 2^m ≥ 4d

(n + 1)^d features, N (n + 1)^d of tiles (Sutton & Barto 2018, §9.5.1, 9.5.2, 9.5.4). s is the
observation, scaled by the bounds of its space and clipped to them; s_j = 0 where both bounds of
dimension j are the same.

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
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from algorithms.common.types import Made
from algorithms.common.world import name_of
from npgrad import Array

BASES = ("fourier", "polynomial", "tiles")
MOST = 10_000  # features
WIDEST = 1e30  # bounds that far apart, as float32's largest numbers are, stand for none


def observed(env: Made, config: Any) -> Made:
    """env, seen through the basis config.features of order config.order; "none" is env itself."""
    return env if config.features == "none" else Features(env, config.features, config.order)


class Features(gymnasium.ObservationWrapper[Any, Any, Any]):
    """env, observed through a basis of order n.

    Raises ValueError for an observation space that is not a flat Box with finite bounds, less than
    1e30 apart, for more than 10,000 features, and for an observation of another shape. The
    features of an observation that is not finite are NaN, so that a World stops there.
    """

    def __init__(self, env: Made, basis: str, order: int) -> None:
        super().__init__(env)
        self.basis, self.order = basis, order
        self.low, self.high = bounds(env.observation_space, basis)
        d = len(self.low)
        tilings = 2 ** (4 * d - 1).bit_length() if basis == "tiles" else 1
        count = tilings * (order + 1) ** d
        if count > MOST:
            raise ValueError(f"order = {order}: must be less, it gives {count} features")
        self.range = np.where(self.high > self.low, self.high - self.low, 1.0)
        self.c = np.array(list(product(range(order + 1), repeat=d)), float)
        k = np.arange(tilings)
        self.offset = np.outer(k, 2 * np.arange(d) + 1) % tilings / tilings
        self.first, self.place = k * (order + 1) ** d, (order + 1) ** np.arange(d)[::-1]
        self.observation_space = Box(-1.0, 1.0, (count,), float)

    def observation(self, observation: Any) -> Array:
        """x (count,)."""
        if np.shape(observation) != self.low.shape:
            raise ValueError(
                f"{name_of(self.env)}: observation of shape {np.shape(observation)}: must be "
                f"{self.low.shape}, as in {self.env.observation_space}"
            )
        shape: Any = self.observation_space.shape
        if not np.isfinite(observation).all():
            return np.full(shape, np.nan)
        clipped = np.minimum(np.maximum(observation, self.low), self.high)
        s = (clipped - self.low) / self.range
        if self.basis == "fourier":
            return np.cos(np.pi * self.c.dot(s))
        if self.basis == "polynomial":
            return np.prod((2.0 * s - 1.0) ** self.c, axis=1)
        x = np.zeros(shape)
        x[self.first + (self.order * s + self.offset).astype(int) @ self.place] = 1.0
        return x


def bounds(space: gymnasium.Space[Any], basis: str) -> tuple[Array, Array]:
    """(low (d,), high (d,)) of a flat Box. Raises ValueError for other spaces and bounds."""
    if isinstance(space, Box) and len(space.shape) == 1:
        low, high = space.low.astype(float), space.high.astype(float)
        with np.errstate(over="ignore", invalid="ignore"):
            if (high - low < WIDEST).all():
                return low, high
    raise ValueError(
        f"observation_space = {space}: must be a flat Box with finite bounds, less than "
        f"{WIDEST:g} apart, for {basis} features"
    )
