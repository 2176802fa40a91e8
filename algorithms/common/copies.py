"""Several environments like one: the object itself first, then faithful copies of it.

A copy is faithful if all that the object holds, but for what an episode changes by itself, is the
same in it: numbers, words, flags and arrays, in its attributes and in theirs.

An environment may know better: its attribute `again`, if there is one, is a function that makes
another like it.
"""

import copy
import pickle
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from types import FunctionType, ModuleType
from typing import Any, TypeGuard

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import CloudpickleWrapper

from algorithms.common.types import Made

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.ndarray)
OPAQUE = (type, ModuleType, FunctionType, gymnasium.Space)
GYMNASIUMS = ("_np_random", "_np_random_seed", "spec", "_cached_spec")  # of every environment
STEPS = 32  # in which a fresh environment shows what an episode changes
HAND_IN = "hand in a function () -> environment"


def is_factory(env: Any) -> TypeGuard[Callable[[], Any]]:
    """Whether env is a function () -> environment."""
    return callable(env) and not isinstance(env, (gymnasium.Env, VectorEnv))


def makers(env: Any, n: int) -> list[Callable[[], Any]]:
    """Return n functions () -> environment.

    env is a factory or an environment. For an environment, the first function returns env itself,
    and the others return copies of it: see `copier`, which raises ValueError before anything is
    made.
    """
    if is_factory(env):
        return [env] * n
    if hasattr(env, "again"):
        return [lambda: env] + [env.again] * (n - 1)
    return [lambda: env] + [copier(env)] * (n - 1) if n > 1 else [lambda: env]


def picklable_makers(env: Any, n: int) -> list[Callable[[], Any]]:
    """Return `makers` for processes; if env cannot be pickled, they make it from its spec.

    Raises ValueError as `makers`, and if a process would receive something that differs from env.
    """
    if hasattr(env, "again"):
        return [env.again] * n
    make = makers(env, n)
    if is_factory(env):
        return make
    spec = getattr(env, "spec", None)
    try:
        arrived = pickle.loads(pickle.dumps(CloudpickleWrapper(env))).fn
    except Exception:
        if spec is None:
            return make
    else:
        if faithful(env, arrived, "what a process would receive", spec):
            return make
    check_unchanged(env)
    return [partial(gymnasium.make, env.spec)] * n


def copier(env: Any) -> Callable[[], Any]:
    """Return a function that makes faithful copies of env: deep ones or, if these fail or differ
    from env, environments made from its spec.

    Raises ValueError if env holds a random generator of its own, whose copies would all draw the
    same numbers; or if there is no faithful copy.
    """
    for name in private_generators(env):
        raise ValueError(
            f"env = {env}: its attribute {name} is a random generator, of which all copies "
            f"would draw the same numbers: {HAND_IN}"
        )
    try:
        copied = copy.deepcopy(env)
    except Exception as error:
        if env.spec is None:
            raise ValueError(f"env = {env}: cannot be copied ({error}): {HAND_IN}") from error
    else:
        if faithful(env, copied, "its copy", env.spec):
            return partial(copy.deepcopy, env)
    check_unchanged(env)
    return partial(made_anew, env)


def faithful(env: Any, other: Any, what: str, spec: Any) -> bool:
    """Return whether `other` is as env. Raises ValueError, which says how it differs, if there is
    no spec to make one from. Copies of Gymnasium's own may differ: EzPickle can lose arguments."""
    try:
        check_same(env, other, what)
    except ValueError:
        if spec is None:
            raise
        return False
    return True


def private_generators(env: Any) -> dict[str, Any]:
    """Return {name: generator} of the random generators in env that are not Gymnasium's."""
    return {name: x for name, x in holdings(env).items() if isinstance(x, GENERATORS)}


def fingerprint(env: Any) -> int:
    """Return a number that tells the states of env's private generators apart; 0 if it has none."""
    found = private_generators(env)
    return int(sha256(pickle.dumps(found)).hexdigest()[:15], 16) if found else 0


def made_anew(env: Any) -> Made:
    """Return an environment made from env's spec. Raises ValueError if there can be none."""
    try:
        return gymnasium.make(env.spec)
    except Exception as error:
        raise ValueError(
            f"env = {env}: its spec makes no environment ({error}): {HAND_IN}"
        ) from error


def check_unchanged(env: Any) -> None:
    """Raise ValueError if env differs from an environment made from its spec."""
    check_same(env, made_anew(env), "its spec")


def check_same(env: Any, other: Any, what: str) -> None:
    """Raise ValueError, naming an attribute, if env and `other` differ in something that no episode
    changes. This plays in `other` and closes it."""
    ours, theirs = holdings(env), holdings(other)
    differ = {k for k in ours.keys() | theirs.keys() if not same(ours, theirs, k)}
    if differ:  # a fresh one beside one that was played in: which of these change by themselves?
        differ -= moving(other, theirs)
    other.close()
    for k in sorted(k for k in differ if k in theirs or "[" not in k):
        raise ValueError(
            f"env = {env}: its attribute {k} = {ours.get(k)!r} is {theirs.get(k, 'absent')!r} in "
            f"{what}: {HAND_IN}"
        )


def moving(env: Any, before: dict[str, Any]) -> set[str]:
    """Return the names of all that changes in STEPS random steps of env, which held `before`."""
    found = set()
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(STEPS):
        after = holdings(env)
        found |= {k for k in before.keys() | after.keys() if not same(before, after, k)}
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        after = holdings(env)
        found |= {k for k in before.keys() | after.keys() if not same(before, after, k)}
        if terminated or truncated:
            env.reset()
    return found


def holdings(env: Any) -> dict[str, Any]:
    """Return {name: value} of the numbers, words, flags, arrays and random generators in env and in
    its attributes, without Gymnasium's own and without spaces."""
    found, seen, todo = {}, set(), deque([("", env)])
    while todo:
        name, x = todo.popleft()
        if isinstance(x, PLAIN + GENERATORS):
            found[name] = x
        elif id(x) not in seen and not isinstance(x, OPAQUE):
            seen.add(id(x))
            if isinstance(x, dict):
                todo.extend((f"{name}[{k!r}]", value) for k, value in x.items())
            elif isinstance(x, (list, tuple, deque)):
                todo.extend((f"{name}[{k}]", value) for k, value in enumerate(x))
            else:
                skip = GYMNASIUMS if isinstance(x, (gymnasium.Env, VectorEnv)) else ()
                held = getattr(x, "__dict__", {}).items()
                todo.extend((f"{name}.{k}".lstrip("."), v) for k, v in held if k not in skip)
    return found


def same(ours: dict[str, Any], theirs: dict[str, Any], name: str) -> bool:
    """Return whether both hold `name` with the same value."""
    if name not in ours or name not in theirs:
        return False
    a, b = ours[name], theirs[name]
    if isinstance(a, GENERATORS) or type(a) is not type(b):
        return type(a) is type(b)
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and (a.dtype.hasobject or a.tobytes() == b.tobytes())
        )
    return bool(a == b or (a != a and b != b))
