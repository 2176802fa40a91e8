"""Names and shapes of the arrays in a flat parameter vector."""

import math
from collections import namedtuple

import numpy as np


class Layout:
    """The arrays in a flat θ, in the order given, e.g. Layout(W1=(4, 64), b1=(64,)).

    size     the length of θ
    shapes   {name: shape}
    """

    def __init__(self, **shapes):
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._tuple = namedtuple("Parameters", shapes)
        self._slices = []
        start = 0
        for shape in self.shapes.values():
            stop = start + math.prod(shape)
            self._slices.append((slice(start, stop), shape))
            start = stop
        self.size = start
        self._seen = ((None, None), (None, None))

    def __repr__(self):
        return f"Layout({', '.join(f'{name}={shape}' for name, shape in self.shapes.items())})"

    def __eq__(self, other):
        return isinstance(other, Layout) and list(self.shapes.items()) == list(other.shapes.items())

    def __hash__(self):
        return hash(tuple(self.shapes.items()))

    def views(self, theta):
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
        if theta.shape != (self.size,):
            raise ValueError(f"parameters of shape {theta.shape}: {self!r} needs ({self.size},)")
        flags = getattr(theta, "flags", None)  # None while θ is being differentiated
        if flags is not None and not flags.c_contiguous:
            raise ValueError("parameters must be a contiguous vector: a strided one has no views")
        views = self._tuple(*(theta[part].reshape(shape) for part, shape in self._slices))
        if flags is not None:
            self._seen = ((theta, views), (first, first_views))
        return views

    def flatten(self, **arrays):
        """Return a new θ, from one array (or a scalar that fills it) for each name."""
        if arrays.keys() != self.shapes.keys():
            raise ValueError(f"arrays for {sorted(arrays)}: {self!r} needs {sorted(self.shapes)}")
        theta = np.empty(self.size)
        for name, view in self.views(theta)._asdict().items():
            view[...] = arrays[name]
        return theta

    def name_of(self, i):
        """Return the name of the entry θ[i], e.g. "W1[2, 3]"."""
        for (part, shape), name in zip(self._slices, self.shapes):
            if part.start <= i < part.stop:
                index = ", ".join(str(int(k)) for k in np.unravel_index(i - part.start, shape))
                return f"{name}[{index}]" if shape else name
        raise IndexError(f"entry {i} of a vector of length {self.size}")
