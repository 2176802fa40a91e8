"""Actor and critic of DDPG: their settings, and the models for an environment's spaces."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from algorithms.common.config import Count, Unit, check, widths
from algorithms.common.world import HasSpaces, encoder, spaces
from npgrad import mlp


@dataclass(frozen=True)
class Networks:
    hidden: tuple[int, ...] = (400, 300)
    """Widths of the hidden ReLU layers, of actor and critic (§7). Positive integers."""
    action_layer: Count = 2
    """The critic's hidden layer that the action enters: 2 (§7), or 1. At most len(hidden)."""
    batch_norm: bool = False
    """Normalise states, hidden layers of the actor, and those of the critic before the action (§3,
    optional)."""
    norm_decay: Unit = 0.99
    """Decay of the running averages by which batch_norm acts (the paper is silent)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", widths(self.hidden))
        check(self)
        if not 1 <= self.action_layer <= len(self.hidden):
            raise ValueError(
                f"action_layer = {self.action_layer}: must be one of the hidden layers, 1 to "
                f"{len(self.hidden)} with hidden = {self.hidden}"
            )


def models(env: HasSpaces, config: Any) -> tuple[mlp, mlp]:
    """(actor, critic): models of μ(s) -> u (d,) and Q(s, u). Raises ValueError for other spaces."""
    (observations, space), nets = spaces(env), config.networks
    n, _ = encoder(observations)
    if not (
        isinstance(space, Box)
        and space.dtype.kind == "f"
        and np.isfinite(space.low).all()
        and np.isfinite(space.high).all()
    ):
        raise ValueError(f"action_space = {space}: must be a Box of floats with finite bounds")
    if isinstance(observations, Discrete) and nets.action_layer == 1:
        raise ValueError("action_layer = 1: must be 2 or more for Discrete observations")
    d = int(np.prod(space.shape))
    options: dict[str, Any] = dict(activation="relu", batch_norm=nets.batch_norm, last=3e-3)
    options["one_hot"] = isinstance(observations, Discrete)
    actor = mlp((n, *nets.hidden, d), output="tanh", **options)
    return actor, mlp((n, *nets.hidden, 1), second=d, at=nets.action_layer, **options)
