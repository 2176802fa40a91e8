"""The worlds that gymnasium.make knows by name, once this module is imported.

Gymnasium 1.0 dropped its plug-in entry points: an environment is registered by importing a module,
here or through the id, gymnasium.make("algorithms.common.register:npgrad/ShortCorridor-v0").
"""

import gymnasium


def register() -> None:
    """Register the worlds of algorithms.common.worlds. Without a time limit: their sources have
    none. Calling it again changes nothing."""
    if "npgrad/ShortCorridor-v0" not in gymnasium.registry:
        gymnasium.register("npgrad/ShortCorridor-v0",
                           entry_point="algorithms.common.worlds:short_corridor_env")


register()
