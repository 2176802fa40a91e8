"""Reverse-mode derivatives of plain NumPy code, in 100 lines. The chapter builds it up."""

from itertools import count

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


def shaped(g, shape):
    """Sum g over the axes along which an array of this shape was repeated."""
    g = g.sum(tuple(range(g.ndim - len(shape))))
    repeated = tuple(k for k, n in enumerate(shape) if n == 1 and g.shape[k] != 1)
    return g.sum(repeated, keepdims=True)


RULES = {  # function: (g, y, inputs) -> what each input hands on, if y = function(inputs)
    np.add: lambda g, y, a, b: (g, g),
    np.subtract: lambda g, y, a, b: (g, -g),
    np.multiply: lambda g, y, a, b: (g * b, g * a),
    np.divide: lambda g, y, a, b: (g / b, -g * y / b),
    np.negative: lambda g, y, a: (-g,),
    np.square: lambda g, y, a: (2 * g * a,),
    np.exp: lambda g, y, a: (g * y,),
    np.log: lambda g, y, a: (g / a,),
    np.tanh: lambda g, y, a: (g * (1 - y**2),),
    np.matmul: lambda g, y, a, b: (g @ b.T, a.T @ g),  # matrices only
}


def sum_rule(g, y, a, axis=None, keepdims=False):
    """Every entry of a adds to one entry of y, and receives the g of that one."""
    g = g if axis is None or keepdims else np.expand_dims(g, axis)
    return (np.broadcast_to(g, a.shape),)


def take_rule(g, y, a, key):
    """Give what was taken its g, added up if it was taken twice; give the rest 0."""
    back = np.zeros_like(a)
    np.add.at(back, key, g)
    return (back,)


def reshape_rule(g, y, a):
    """The entries are the same; only their places have changed."""
    return (g.reshape(a.shape),)


def number(x):
    """The numbers of a Node, or of what is none."""
    return x.value if hasattr(x, "value") else np.asarray(x, dtype=float)


TURNS = count()


class Node(NDArrayOperatorsMixin):
    """An array that remembers the rule and the inputs that it was computed by."""

    def __init__(self, value, rule=lambda g, y: (), inputs=(), options=None):
        self.value = np.asarray(value, dtype=float)
        self.rule, self.inputs, self.options = rule, inputs, options or {}
        self.turn = next(TURNS)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method != "__call__" or options or ufunc not in RULES:
            raise NotImplementedError(f"no rule for {ufunc.__name__}")
        return Node(ufunc(*map(number, inputs)), RULES[ufunc], inputs)

    def sum(self, axis=None, keepdims=False, **_):
        how = {"axis": axis, "keepdims": keepdims}
        return Node(self.value.sum(**how), sum_rule, (self,), how)

    def __getitem__(self, key):
        return Node(self.value[key], take_rule, (self,), {"key": key})

    def reshape(self, *shape):
        return Node(self.value.reshape(*shape), reshape_rule, (self,))


def backward(end):
    """Return {turn of a node: ∂end/∂node} for all nodes that end was computed from."""
    gradients, waiting = {end.turn: np.ones_like(end.value)}, {end.turn: end}
    while waiting:
        node = waiting.pop(max(waiting))  # the latest: whatever it went into is done
        g, inputs = gradients[node.turn], map(number, node.inputs)
        for x, back in zip(node.inputs, node.rule(g, node.value, *inputs, **node.options)):
            if isinstance(x, Node):
                waiting[x.turn] = x
                gradients[x.turn] = gradients.get(x.turn, 0.0) + shaped(back, x.value.shape)
    return gradients


def grad(f):
    """Return the function that computes ∂f/∂(its first argument)."""

    def gradient(x, *rest):
        start = Node(x)
        return backward(f(start, *rest))[start.turn]

    return gradient
