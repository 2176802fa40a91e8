"""Look-up of methods and environments by their names."""

import ast
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from algorithms.runner.environments import Environment
from algorithms.runner.errors import UsageError, near, one_line


class Method(NamedTuple):
    """One method of a page: everything that the runner uses."""

    Config: type
    State: type
    init: Callable
    train: Callable
    actor: Callable


class Page(NamedTuple):
    """The location of a method: a module, and the names in it for the fields of Method."""

    module: str
    names: tuple[str, ...] = Method._fields


def _actor_critic(config: str) -> Page:
    return Page("algorithms.actor_critic", (config, *Method._fields[1:]))


def _async_q(config: str) -> Page:
    return Page("algorithms.async_q", (config, *Method._fields[1:]))


METHODS: Mapping[str, Page] = MappingProxyType(
    {
        "theorem": Page("algorithms.policy_gradient_theorem"),
        "reinforce": Page("algorithms.reinforce"),
        "td-lambda": Page("algorithms.td_lambda"),
        "natural-actor-critic": Page("algorithms.natural_actor_critic"),
        "actor-critic": _actor_critic("OneStep"),
        "actor-critic-traces": _actor_critic("Traces"),
        "actor-critic-continuing": _actor_critic("Continuing"),
        "a3c": Page("algorithms.a3c"),
        "async-q": _async_q("OneStepQ"),
        "async-sarsa": _async_q("OneStepSarsa"),
        "async-n-step-q": _async_q("NStepQ"),
        "a2c": Page("algorithms.a2c"),
        "ddpg": Page("algorithms.ddpg"),
    }
)


def load_method(name: str, methods: Mapping[str, Page]) -> Method:
    """Import the method called `name`. Raises UsageError for a name that is not in `methods`."""
    if name not in methods:
        allowed = ", ".join(methods)
        raise UsageError(f"METHOD = {name}: must be one of {allowed}{near(name, methods)}")
    module = importlib.import_module(methods[name].module)
    return Method(*(getattr(module, attribute) for attribute in methods[name].names))


def summary(page: Page) -> str:
    """Return the first line of the page's docstring, without importing the page and Gymnasium."""
    source = Path(importlib.util.find_spec(page.module).origin).read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)).partition("\n")[0]


def prepare(method: Method, environment: Environment, config, seed: int, **options):
    """Return (environment, new State). Raises UsageError if the id or the spaces are invalid."""
    from npgrad.memory import within_memory  # here, because --help imports no NumPy

    env = environment.make(**options)
    try:
        _check_moments(env, config)
        with within_memory():
            return env, method.init(env, config, seed)
    except (ValueError, OverflowError, MemoryError) as error:
        env.close()
        what = str(error) if isinstance(error, ValueError) else one_line(error)
        raise UsageError(f"--env = {environment.env}: {what}") from error


def _check_moments(env, config):
    """Raise ValueError if running moments of observations would stay in other processes, or in
    threads, where no checkpoint has them."""
    from algorithms.common.remembered import normalises_observations

    for name, right in (("driver", "round-robin"), ("vectorization", "sync")):
        value = getattr(config, name, right)
        if value != right and normalises_observations(env):
            text = "to keep the moments of wrappers that normalise observations"
            raise ValueError(f"{name} = {value}: must be {right} {text}")
