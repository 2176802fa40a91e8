"""Names and shapes of the arrays in a flat parameter vector."""

import math
import operator
from collections import namedtuple
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from npgrad.types import Array


def whole_numbers(name: str, values: Any, least: int) -> tuple[int, ...]:
    """Return one integer or several as a tuple of ints.

    Raises ValueError, which names them, unless they are integers of at least `least`.
    """
    given = tuple(values) if np.iterable(values) else (values,)
    try:
        numbers = tuple(map(operator.index, given))
    except TypeError:
        numbers = (least - 1,)
    if min(numbers, default=least) < least or any(isinstance(n, bool) for n in given):
        raise ValueError(f"{name} = {values!r}: must be integers of at least {least}")
    return numbers


class Layout:
    """The arrays in a flat θ, in the order given, e.g. Layout(W1=(4, 64), b1=64).

    size     the length of θ
    shapes   {name: shape}
    """

    def __init__(self, /, **shapes: int | Iterable[int]) -> None:
        self.shapes = {name: whole_numbers(name, shape, 0) for name, shape in shapes.items()}
        self._tuple: Callable[..., Any] = namedtuple("Parameters", self.shapes)  # type: ignore[misc]
        self._slices: list[tuple[slice, tuple[int, ...]]] = []
        start = 0
        for shape in self.shapes.values():
            stop = start + math.prod(shape)
            self._slices.append((slice(start, stop), shape))
            start = stop
        self.size = start
        self._seen: tuple[tuple[Any, Any], tuple[Any, Any]] = ((..., None), (..., None))

    def __repr__(self) -> str:
        return f"Layout({', '.join(f'{name}={shape}' for name, shape in self.shapes.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and list(self.shapes.items()) == list(other.shapes.items())

    def __hash__(self) -> int:
        return hash(tuple(self.shapes.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made from the shapes: views of another θ are not theirs."""
        return partial(type(self), **self.shapes), ()

    def views(self, theta: Array) -> Any:
        """Return a named tuple of views of θ (size,); writing into a view writes into θ.

        If θ is being differentiated, so are its views. The views of the last two vectors are
        cached, because parameters change in place and their views are needed at every step.
        Raises ValueError for another shape, and for a strided θ, which has no such views.
        """
        (first, first_views), (second, second_views) = self._seen
        if theta is first:
            return first_views
        if theta is second:
            return second_views
        if not hasattr(theta, "shape"):
            raise TypeError(f"parameters of type {type(theta).__name__}: must be an array")
        if theta.shape != (self.size,):
            raise ValueError(f"parameters of shape {theta.shape}: {self!r} needs ({self.size},)")
        flags = getattr(theta, "flags", None)  # None while θ is being differentiated
        if flags is not None and not flags.c_contiguous:
            raise ValueError("parameters must be a contiguous vector: a strided one has no views")
        views = self._tuple(*(theta[part].reshape(shape) for part, shape in self._slices))
        if flags is not None:
            self._seen = ((theta, views), (first, first_views))
        return views

    def flatten(self, /, **arrays: ArrayLike) -> Array:
        """Return a new θ of doubles, from one array (or a scalar that fills it) for each name."""
        if arrays.keys() != self.shapes.keys():
            raise ValueError(f"arrays for {sorted(arrays)}: {self!r} needs {sorted(self.shapes)}")
        theta = np.empty(self.size)
        for name, view in self.views(theta)._asdict().items():
            if np.shape(arrays[name]) not in ((), view.shape):
                raise ValueError(f"{name} of shape {np.shape(arrays[name])}: must be {view.shape}")
            view[...] = arrays[name]
        return theta

    def name_of(self, i: int) -> str:
        """Return the name of the entry θ[i], e.g. "W1[2, 3]"."""
        for (part, shape), name in zip(self._slices, self.shapes):
            if part.start <= i < part.stop:
                index = ", ".join(str(int(k)) for k in np.unravel_index(i - part.start, shape))
                return f"{name}[{index}]" if shape else name
        raise IndexError(f"entry {i} of a vector of length {self.size}")
