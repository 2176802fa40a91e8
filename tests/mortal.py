"""Environments that fail, for processes that import little."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np

from algorithms.runner.environments import Environment


class Nan(gymnasium.Wrapper):
    """CartPole whose 60th step rewards with NaN."""

    def __init__(self):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.count = 0

    def step(self, action):
        self.count += 1
        s, r, *rest = self.env.step(action)
        return s, np.nan if self.count == 60 else r, *rest


class Deadly(gymnasium.Wrapper):
    """CartPole that kills its process at step 80, the first time in this working directory."""

    def __init__(self):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.count = 0

    def step(self, action):
        self.count += 1
        if self.count == 80 and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.env.step(action)


@dataclass(frozen=True)
class Made(Environment):
    """An environment that is made by a class of this module, by its name."""

    maker: str = ""

    def record(self):
        return {"env": self.env}

    def make(self, **options):
        return globals()[self.maker]()
