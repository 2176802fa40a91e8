"""The types of what the pages take and give, in annotations; arrays are npgrad.Array."""

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from algorithms.common.metrics import Metrics
from npgrad import Array, Layout

Made: TypeAlias = gymnasium.Env[Any, Any]
Env: TypeAlias = Made | Callable[[], Made]  # an environment, or a function that makes one
Vector: TypeAlias = VectorEnv[Any, Any, Any]
Envs: TypeAlias = Env | Vector | Callable[[], Vector]  # one, or several side by side
Gradient: TypeAlias = Callable[..., Any]  # a function with the arguments of a page's own gradient
Schedule: TypeAlias = Iterable[int] | None  # workers' numbers, in the order of their turns
Training: TypeAlias = Generator[Metrics, None, None]


class Model(Protocol):
    """A model as npgrad.networks has them."""

    layout: Layout
    axes: int

    def init(self, rng: np.random.Generator, /) -> Array: ...

    def __call__(self, theta: Array, x: Any, /) -> Array: ...


class Act(Protocol):
    """Choose the action for env.step by the parameters in vars(state); `actor` returns such."""

    def __call__(
        self,
        parameters: Mapping[str, Any],
        observation: Any,
        rng: np.random.Generator,
        /,
        greedy: bool = False,
    ) -> Any: ...
