"""The environments that gymnasium.make knows by name after this module has been imported.

Gymnasium 1.0 removed its plug-in entry points, so this module must be imported: by the user, or
through the id, gymnasium.make("algorithms.exact.register:npgrad/ShortCorridor-v0").
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import gymnasium

WORLDS: Mapping[str, tuple[str, dict[str, Any]]] = MappingProxyType(
    {
        "npgrad/ShortCorridor-v0": ("short_corridor_env", {}),
        "npgrad/RandomWalk19-v0": ("random_walk_19_env", {}),
        "npgrad/Chain-v0": ("chain_env", {}),
        "npgrad/Garnet0-v0": ("garnet_env", {"seed": 0}),
        "npgrad/Garnet1-v0": ("garnet_env", {"seed": 1}),
        "npgrad/Garnet2-v0": ("garnet_env", {"seed": 2}),
    }
)
"""id: the function in algorithms.exact.worlds that makes the environment, and its arguments."""

ELSEWHERE = MappingProxyType(
    {
        "npgrad/AccessControl-v0": "algorithms.exact.queueing:access_control_env",
        "npgrad/LQR-v0": "algorithms.exact.lqr:lqr_env",
        "npgrad/ContinuingPendulum-v0": "gymnasium.envs.classic_control.pendulum:PendulumEnv",
    }
)
"""id: the entry point. The pendulum is Gymnasium's own without a time limit: no episode ends."""


def register() -> None:
    """Register all these environments; a second call changes nothing.

    They have no time limit, because their sources have none.
    """
    for name, (function, arguments) in WORLDS.items():
        if name not in gymnasium.registry:
            entry_point = f"algorithms.exact.worlds:{function}"
            gymnasium.register(name, entry_point=entry_point, kwargs=dict(arguments))
    for name, entry_point in ELSEWHERE.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=entry_point)


register()
