"""Pendulum-v1 as the benchmarks of A3C and A2C learn it.

They learn with a cost of torques beyond the bounds (algorithms.runner.wrappers.SoftBounds): runs
whose μ got there in all states would stay there, and end near −800. Policies are judged on
Pendulum-v1 as it is.
"""

import gymnasium
import numpy as np
from gymnasium.wrappers import RescaleObservation

from algorithms.runner.wrappers import SoftBounds

WIDEST = np.array([1.0, 1.0, 2.0], np.float32)  # |observations| as they are seen


def pendulum(scale=1.0):
    """(environment to learn in, environment to judge in); both with a quarter of the velocity."""
    plain, learned = (
        RescaleObservation(gymnasium.make("Pendulum-v1"), -WIDEST, WIDEST) for _ in range(2)
    )
    return SoftBounds(learned, scale=scale), plain
