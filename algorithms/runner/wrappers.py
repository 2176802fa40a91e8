"""Wrappers of this project that --wrap knows beside Gymnasium's."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs

__all__ = ("SoftBounds",)


class SoftBounds(gymnasium.Wrapper, RecordConstructorArgs):
    """Takes actions a up to ±3 times their bounds ±b, applies them clipped to ±b, and subtracts
    c Σ max(0, |a| − b)² from the reward; returns `scale` times what that gives.

    A mean μ has no bounds, an action has: beyond ±b the reward no longer depends on μ, whose
    gradient is noise. The cost gives μ a reason to come back.
    """

    def __init__(self, env, c=0.3, scale=1.0):
        RecordConstructorArgs.__init__(self, c=c, scale=scale)
        super().__init__(env)
        self.c, self.scale, space = c, scale, env.action_space
        if not isinstance(space, Box) or not np.array_equal(space.low, -space.high):
            raise ValueError(f"action_space = {space}: must be a Box with bounds ±b")
        self.bound = space.high
        self.action_space = Box(3 * space.low, 3 * space.high, dtype=space.dtype)

    def step(self, action):
        a, b = np.asarray(action, float), self.bound
        applied = np.clip(a, -b, b).astype(b.dtype)
        observation, reward, *rest = self.env.step(applied)
        cost = self.c * float(np.sum(np.maximum(0.0, np.abs(a) - b) ** 2))
        return observation, self.scale * (float(reward) - cost), *rest
