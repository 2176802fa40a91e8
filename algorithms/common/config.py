"""Ranges of hyper-parameters: said once, in a field's annotation, and checked from there.

gamma: Unit = 0.99                     a number in [0, 1]
batch: Count = 64                      a whole number, at least 1
form: Literal["batch", "moving"]       one of these words

class Config(Checked)                  the dataclass, which checks them when it is made
"""

from dataclasses import fields
from functools import cache
from math import inf
from numbers import Integral, Real
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np

PRECISIONS = MappingProxyType({"double": np.float64, "single": np.float32})
LARGEST = 2**63  # of whole numbers, which config.json and NumPy's integers hold below it


class Range(NamedTuple):
    """Numbers from low to high, both included unless `above` or `below` says that they are not."""

    low: float
    high: float = inf
    above: bool = False
    below: bool = False
    infinite: bool = False  # whether inf itself is allowed

    def __contains__(self, x: Any) -> bool:
        if x == inf:
            return self.infinite
        return (self.low < x if self.above else self.low <= x) and (
            x < self.high if self.below else x <= self.high
        )

    def __str__(self) -> str:
        if self.high == inf:
            return f"{'above' if self.above else 'at least'} {self.low:g}"
        left, right = "(" if self.above else "[", ")" if self.below else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


Unit = Annotated[float, Range(0, 1)]
BelowOne = Annotated[float, Range(0, 1, below=True)]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Limit = Annotated[float, Range(0, above=True, infinite=True)]
Count = Annotated[int, Range(1)]
WholeNumber = Annotated[int, Range(0)]
Precision = Literal["double", "single"]
OptimizerName = Literal["sgd", "momentum", "rmsprop", "rmsprop_outside", "adam"]


@cache
def ranges(cls: Any) -> dict[str, tuple[Any, Any, bool, bool]]:
    """{name: (kinds, Range or words, whether None is allowed)} of a dataclass's fields."""
    found = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        allowed: Any = None
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            allowed = next((x for x in extras if isinstance(x, Range)), None)
        if get_origin(hint) is Literal:
            allowed = get_args(hint)
        kinds = get_args(hint) or (hint,)
        if allowed is not None or hint is bool:
            found[name] = hint, allowed, NoneType in kinds, int in kinds
    return found


def check(config: Any) -> None:
    """Raise ValueError, naming the field, its value and what is allowed, unless all fields fit."""
    cls: Any = type(config)
    known = ranges(cls)
    for name in (field.name for field in fields(config)):
        if name in known:
            hint, allowed, optional, whole = known[name]
            value = getattr(config, name)
            wrong = _wrong(value, hint, allowed, whole)
            if wrong and not (optional and value is None):
                raise ValueError(f"{name} = {value!r}: must be {wrong}")


class Checked:
    """The base of a dataclass that runs `check` when it is made."""

    def __post_init__(self) -> None:
        check(self)


def _wrong(value: Any, hint: Any, allowed: Any, whole: bool) -> str | None:
    """Return what is allowed, or None if `value` is."""
    if hint is bool:
        return None if isinstance(value, (bool, np.bool_)) else "True or False"
    if not isinstance(allowed, Range):
        return None if value in allowed else f"one of {', '.join(allowed)}"
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if number and whole and value >= LARGEST:
        return "below 2**63"
    if number and value in allowed:
        return None
    if whole and not number:
        return f"whole and {allowed}"
    return f"finite and {allowed}" if value == inf else str(allowed)


def widths(hidden: Any) -> tuple[int, ...]:
    """`hidden` as a tuple. Raises ValueError unless it is one or more positive integers."""
    sizes = tuple(hidden) if np.iterable(hidden) else ()
    if not sizes or any(type(n) is not int or not 1 <= n < LARGEST for n in sizes):
        raise ValueError(f"hidden = {hidden}: must be one or more positive integers below 2**63")
    return sizes
