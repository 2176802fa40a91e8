"""What wrappers remember of earlier episodes: the running moments of Gymnasium's normalisation.

    memory = remembered(env)   {name: [dtype, ...]} of plain numbers, for JSON; {} if there are none
    remind(env, memory)        makes env remember just that
    freeze(env)                moments stay as they are from now on
    normalises_observations(env)   whether a policy sees something else by it
    pooled(memories)           the memory of one that had seen all that these have seen

    OwnReturn(env)             notes the return of what it wraps, below wrappers that change rewards
    own_return(info, G)        that return, at an episode's end; G if there is no OwnReturn

A name is "k.attribute", k being the number of wrappers below the one that remembers. So wrappers
may be added on top. Moments are [dtype, mean, var, count].
"""

from collections.abc import Iterator
from typing import Any, SupportsFloat, TypeAlias

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorWrapper
from gymnasium.wrappers import NormalizeReward
from gymnasium.wrappers.utils import RunningMeanStd

from algorithms.common.types import Made

Memory: TypeAlias = dict[str, list[Any]]
OWN = "own return"
TRACE = "discounted_reward"  # of NormalizeReward: Σ_k γ^k r_{t−k}, which a truncation does not end


class OwnReturn(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds to `info` the sum of the rewards since the reset."""

    def __init__(self, env: Made) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.G = 0.0

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        self.G = 0.0
        return self.env.reset(**how)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        answer: Any = self.env.step(action)
        s, r, terminated, truncated, info = answer
        self.G += r if type(r) is float else float(np.sum(r))
        return s, r, terminated, truncated, info | {OWN: self.G}


def own_return(info: Any, G: Any) -> Any:
    """Return what OwnReturn noted in the info of a step, of one environment or of a VectorEnv,
    whose info of an episode's end may be set apart; or else G."""
    last = info.get("final_info", info) if isinstance(info, dict) else None
    return last.get(OWN, G) if isinstance(last, dict) else G


def remembered(env: Any) -> Memory:
    """Return all that the wrappers of env remember."""
    memory = {}
    for name, wrapper, attribute in _places(env):
        value = getattr(wrapper, attribute)
        if attribute == TRACE:
            memory[name] = [value.dtype.name, value.tolist()]
        else:
            mean, var = np.asarray(value.mean), np.asarray(value.var)
            memory[name] = [mean.dtype.name, mean.tolist(), var.tolist(), float(value.count)]
    return memory


def remind(env: Any, memory: Memory) -> None:
    """Make the wrappers of env remember `memory`. Raises ValueError, before anything changes, if it
    is not of such wrappers, of these shapes, or not finite."""
    places = {name: (wrapper, attribute) for name, wrapper, attribute in _places(env)}
    if not isinstance(memory, dict) or places.keys() != memory.keys():
        given = ", ".join(memory) if isinstance(memory, dict) else None
        needed = ", ".join(places) or "nothing"
        raise ValueError(f"memory of {given or 'nothing'}: must be of {needed}")
    read = {name: _read(name, *places[name], memory[name]) for name in places}
    for name, (wrapper, attribute) in places.items():
        if attribute == TRACE:
            (wrapper.discounted_reward,) = read[name]
        else:
            moments = getattr(wrapper, attribute)
            moments.mean, moments.var, moments.count = read[name]


def freeze(env: Any) -> None:
    """Let the wrappers of env use their moments, but not renew them."""
    for _, wrapper, _ in _places(env):
        if hasattr(wrapper, "update_running_mean"):
            wrapper.update_running_mean = False


def normalises_observations(env: Any) -> bool:
    """Return whether what a policy sees depends on what the wrappers of env remember."""
    rewards = ("return_rms", TRACE)
    return any(name.split(".")[1] not in rewards for name in remembered(env))


def pooled(memories: list[Memory]) -> Memory:
    """Return the moments of all that several environments have seen (Chan et al. 1979); the first's
    discounted reward."""
    first, *others = memories
    merged = dict(first)
    for name, other in ((name, x) for memory in others for name, x in memory.items()):
        if name.rpartition(".")[2] != TRACE:
            dtype, mean, var, count = merged[name]
            _, mean2, var2, count2 = other
            mean, var, gap = np.array(mean), np.array(var), np.array(mean2) - mean
            n = count + count2
            new = mean + gap * count2 / n
            square = (var * count + np.array(var2) * count2) / n + gap**2 * count * count2 / n**2
            merged[name] = [dtype, new.tolist(), square.tolist(), n]
    return merged


def _places(env: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield (name, wrapper, attribute) of all that is remembered, from the inside outwards."""
    chain = [env]
    while isinstance(chain[0], (gymnasium.Wrapper, VectorWrapper)):
        chain.insert(0, chain[0].env)
    for k, wrapper in enumerate(chain):
        for attribute, value in vars(wrapper).items():
            trace = attribute == TRACE and isinstance(wrapper, NormalizeReward)
            if trace or isinstance(value, RunningMeanStd):
                yield f"{k}.{attribute}", wrapper, attribute


def _read(name: str, wrapper: Any, attribute: str, entry: Any) -> list[Any]:
    """Return the arrays, and for moments the count, of an entry. Raises ValueError."""
    old = getattr(wrapper, attribute)
    shapes = [np.shape(old)] if attribute == TRACE else [np.shape(old.mean), np.shape(old.var), ()]
    try:
        dtype, *values = entry
        kind = {"float32": np.float32, "float64": np.float64}[dtype]
        arrays = [np.array(x, kind) for x in values[:2]] + [float(x) for x in values[2:]]
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"memory of {name}: must be [dtype, numbers ...] ({error!r})") from error
    found = [np.shape(x) for x in arrays]
    if found != shapes:
        raise ValueError(f"memory of {name}: shapes {found}: must be {shapes}")
    if not all(np.isfinite(x).all() for x in arrays):
        raise ValueError(f"memory of {name}: must be finite")
    return arrays
