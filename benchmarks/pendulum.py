"""Pendulum-v1 as the benchmarks of A3C and A2C learn it.

A mean μ has no bounds, the torque has: beyond ±2 the reward no longer depends on the action, the
gradient of μ is noise, and runs whose μ got there in all states stay there (they end near −800).
`Soft` gives μ a reason to come back; policies are judged on Pendulum-v1 as it is.
"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import RescaleObservation

WIDEST = np.array([1.0, 1.0, 2.0], np.float32)  # |observations| as they are seen


class Soft(gymnasium.Wrapper, RecordConstructorArgs):
    """Takes torques a up to ±3 times their bound b, applies them clipped to ±b, and subtracts
    c max(0, |a| − b)² from the reward; returns scale times what that gives."""

    def __init__(self, env, c=0.3, scale=1.0):
        RecordConstructorArgs.__init__(self, c=c, scale=scale)
        super().__init__(env)
        self.c, self.scale, self.bound = c, scale, float(env.action_space.high[0])
        self.action_space = Box(3 * env.action_space.low, 3 * env.action_space.high)

    def step(self, action):
        a, b = float(action[0]), self.bound
        torque = np.array([min(max(a, -b), b)], np.float32)
        observation, reward, *rest = self.env.step(torque)
        excess = max(0.0, abs(a) - b)
        return observation, self.scale * (float(reward) - self.c * excess**2), *rest


def pendulum(scale=1.0):
    """(environment to learn in, environment to judge in); both with a quarter of the velocity."""
    plain = RescaleObservation(gymnasium.make("Pendulum-v1"), -WIDEST, WIDEST)
    learned = RescaleObservation(gymnasium.make("Pendulum-v1"), -WIDEST, WIDEST)
    return Soft(learned, scale=scale), plain
