"""What passes between an environment and a method: observations as features, actions as they are.

Features s of an observation: its n numbers, for a Box of any shape but an image; an index 0, ...,
n − 1 in place of a one-hot vector, for Discrete. An action a of a method is an index for Discrete,
a vector of indices for MultiDiscrete and MultiBinary, a vector of numbers for a Box.
"""

from math import prod
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import VectorEnv


class Spaces(NamedTuple):
    """The spaces of one environment."""

    observation: gymnasium.Space
    action: gymnasium.Space


def spaces(env):
    """The Spaces of an Env, of one of a VectorEnv, or of what a factory makes."""
    if isinstance(env, Spaces):
        return env
    if is_factory(env):
        made = env()
        try:
            return spaces(made)
        finally:
            made.close()
    one = "single_" if isinstance(env, VectorEnv) else ""
    return Spaces(getattr(env, f"{one}observation_space"), getattr(env, f"{one}action_space"))


def is_factory(env):
    """Whether env is a function () -> environment."""
    return callable(env) and not isinstance(env, (gymnasium.Env, VectorEnv))


def encoder(space):
    """(n, encode): the number of features, and observation -> features, always new ones.

    Raises ValueError for images, Dict and other spaces.
    """
    if isinstance(space, Discrete):
        start = int(space.start)
        return int(space.n), lambda observation: np.intp(observation - start)
    if isinstance(space, Box):
        image = space.dtype == np.uint8 and len(space.shape) == 3
        if not image:
            if len(space.shape) == 1:
                return space.shape[0], lambda observation: np.array(observation, float)
            return prod(space.shape), lambda observation: np.array(observation, float).reshape(-1)
    raise ValueError(
        f"observation_space = {space}: must be Discrete or a Box that is no image "
        "(gymnasium.wrappers.FlattenObservation makes a flat Box of others)"
    )


def one_hot(k, n):
    """Rows of the identity: (..., n) of integers k (...)."""
    k = np.asarray(k)
    if k.dtype.kind not in "iu":  # one-hot already
        return k
    rows = np.zeros((*k.shape, n))
    np.put_along_axis(rows, k[..., None], 1.0, -1)
    return rows


def decoder(space):
    """a -> what env.step takes, for one environment or for N side by side.

    A continuous action is clipped to the bounds, and rounded to the nearest integer in a Box of
    integers; its log-probability stays that of the action drawn.
    """
    if isinstance(space, Discrete):
        start = int(space.start)
        return (lambda a: a) if start == 0 else (lambda a: start + a)
    if isinstance(space, Box):
        low, high, shape, dtype = space.low, space.high, space.shape, space.dtype
        whole, flat = dtype.kind in "iu", len(shape) == 1

        def decode(a):
            a = a if flat else a.reshape((*a.shape[:-1], *shape))
            a = np.rint(a) if whole else a
            return np.asarray(np.minimum(np.maximum(a, low), high), dtype)

        return decode
    if isinstance(space, (MultiDiscrete, MultiBinary)):
        start = space.start if isinstance(space, MultiDiscrete) else 0
        return lambda a: (a.reshape(*a.shape[:-1], *space.shape) + start).astype(space.dtype)
    raise ValueError(f"action_space = {space}: must be Discrete, MultiDiscrete, MultiBinary or Box")
