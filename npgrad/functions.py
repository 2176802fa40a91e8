"""NumPy's functions, in NumPy's own signatures, made of what `rules.py` can differentiate.

`FUNCTIONS[np.f]` is called in np.f's place when an argument is being differentiated. Parameters that
are missing here (out=, where=, dtype=, ...) have no derivative and are refused by name.
`CONSTANT` holds the functions whose value does not change under small changes of the argument
(comparisons, argmax, floor, shape, ...): they are computed as plain NumPy.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from npgrad import rules
from npgrad.node import CONSTANT, FUNCTIONS, record

CONSTANT |= {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
    *(np.isnan, np.isinf, np.isfinite, np.signbit, np.sign, np.floor, np.ceil, np.trunc, np.rint),
    *(np.floor_divide, np.isclose, np.allclose, np.array_equal, np.array_equiv, np.any, np.all),
    *(np.argmax, np.argmin, np.argsort, np.argwhere, np.nonzero, np.flatnonzero, np.lexsort),
    *(np.count_nonzero, np.searchsorted, np.digitize, np.shape, np.ndim, np.size, np.iscomplexobj),
    *(np.isrealobj, np.result_type, np.zeros_like, np.ones_like, np.empty_like, np.round),
}


def implements(*numpy_functions):
    def enter(f):
        for numpy_function in numpy_functions:
            FUNCTIONS[numpy_function] = f
        return f

    return enter


def _axes(axis, ndim):
    if axis is None:
        return None
    if type(axis) is int and -ndim <= axis < ndim:  # the common case, quickly
        return (axis % ndim,)
    return normalize_axis_tuple(axis, ndim)


# Shapes


@implements(np.reshape)
def reshape(a, /, shape, order="C"):
    if order != "C":
        raise TypeError(f"reshape with order={order!r} has no derivative rule: use order='C'")
    return record(rules.reshape, a, shape)


@implements(np.ravel)
def ravel(a, order="C"):
    return reshape(a, (-1,), order)


@implements(np.transpose, np.permute_dims)
def transpose(a, axes=None):
    n = np.ndim(a)
    return record(
        rules.transpose, a, tuple(range(n))[::-1] if axes is None else normalize_axis_tuple(axes, n)
    )


@implements(np.swapaxes)
def swapaxes(a, axis1, axis2):
    axes = list(range(np.ndim(a)))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return record(rules.transpose, a, tuple(axes))


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x, /):
    return swapaxes(x, -1, -2)


@implements(np.moveaxis)
def moveaxis(a, source, destination):
    n = np.ndim(a)
    source, destination = normalize_axis_tuple(source, n), normalize_axis_tuple(destination, n)
    axes = [i for i in range(n) if i not in source]
    for d, s in sorted(zip(destination, source)):
        axes.insert(d, s)
    return record(rules.transpose, a, tuple(axes))


@implements(np.expand_dims)
def expand_dims(a, axis):
    n = np.ndim(a) + (1 if isinstance(axis, int) else len(axis))
    axes = normalize_axis_tuple(axis, n)
    sizes = iter(np.shape(a))
    return record(rules.reshape, a, tuple(1 if i in axes else next(sizes) for i in range(n)))


@implements(np.squeeze)
def squeeze(a, axis=None):
    shape = np.shape(a)
    axes = _axes(axis, len(shape))
    if axes is None:
        axes = [i for i, n in enumerate(shape) if n == 1]
    elif any(shape[i] != 1 for i in axes):
        raise ValueError(f"cannot squeeze axis {axis} of shape {shape}: its size is not one")
    return record(rules.reshape, a, tuple(n for i, n in enumerate(shape) if i not in axes))


@implements(np.broadcast_to)
def broadcast_to(array, shape):
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    np.broadcast_shapes(np.shape(array), shape)
    return record(rules.broadcast_to, array, shape)


@implements(np.atleast_1d)
def atleast_1d(*arys):
    results = [record(rules.reshape, a, (1,)) if np.ndim(a) == 0 else a for a in arys]
    return results[0] if len(arys) == 1 else tuple(results)


@implements(np.atleast_2d)
def atleast_2d(*arys):
    results = [record(rules.reshape, a, (1, -1)) if np.ndim(a) < 2 else a for a in arys]
    return results[0] if len(arys) == 1 else tuple(results)


@implements(np.concatenate)
def concatenate(arrays, /, axis=0):
    if axis is None:
        arrays, axis = [np.ravel(a) for a in arrays], 0
    return record(rules.concatenate, normalize_axis_index(axis, np.ndim(arrays[0])), *arrays)


@implements(np.stack)
def stack(arrays, axis=0):
    return concatenate([expand_dims(a, axis) for a in arrays], axis)


@implements(np.hstack)
def hstack(tup):
    arrays = [np.atleast_1d(a) for a in tup]
    return concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


@implements(np.vstack)
def vstack(tup):
    return concatenate([np.atleast_2d(a) for a in tup])


@implements(np.column_stack)
def column_stack(tup):
    return concatenate([a[:, None] if np.ndim(a) == 1 else a for a in tup], 1)


def _along(axis, index):
    return (slice(None),) * axis + (index,)


@implements(np.split, np.array_split)
def split(ary, indices_or_sections, axis=0):
    axis = normalize_axis_index(axis, np.ndim(ary))
    n = np.shape(ary)[axis]
    pieces = np.split(np.arange(n), indices_or_sections)
    return [ary[_along(axis, slice(p[0], p[-1] + 1) if len(p) else slice(0, 0))] for p in pieces]


@implements(np.tile)
def tile(A, reps):
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    shape = (1,) * (len(reps) - np.ndim(A)) + np.shape(A)
    reps = (1,) * (len(shape) - len(reps)) + reps
    spread = [m for pair in zip(reps, shape) for m in pair]
    one = [m for n in shape for m in (1, n)]
    result = record(rules.broadcast_to, record(rules.reshape, A, one), tuple(spread))
    return record(rules.reshape, result, tuple(r * n for r, n in zip(reps, shape)))


@implements(np.repeat)
def repeat(a, repeats, axis=None):
    if axis is None:
        a, axis = np.ravel(a), 0
    axis = normalize_axis_index(axis, np.ndim(a))
    return a[_along(axis, np.repeat(np.arange(a.shape[axis]), repeats))]


@implements(np.flip)
def flip(m, axis=None):
    axes = range(np.ndim(m)) if axis is None else _axes(axis, np.ndim(m))
    return m[tuple(slice(None, None, -1 if i in axes else 1) for i in range(np.ndim(m)))]


@implements(np.fliplr)
def fliplr(m):
    return m[:, ::-1]


@implements(np.flipud)
def flipud(m):
    return m[::-1]


@implements(np.roll)
def roll(a, shift, axis=None):
    return record(rules.roll, a, shift, axis)


@implements(np.copy)
def copy(a):
    return record(rules.identity, a)


# Picking


@implements(np.where)
def where(condition, x=None, y=None, /):
    condition = getattr(condition, "value", condition)
    if x is None and y is None:
        return np.where(condition)
    return record(rules.where, condition, x, y)


@implements(np.take)
def take(a, indices, axis=None):
    if axis is None:
        a, axis = np.ravel(a), 0
    return a[_along(normalize_axis_index(axis, np.ndim(a)), np.asarray(indices))]


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    if axis is None:
        return np.ravel(arr)[indices]
    n = np.ndim(arr)
    axis = normalize_axis_index(axis, n)
    shape = np.broadcast_shapes(
        *(tuple(1 if i == axis else m for i, m in enumerate(s.shape)) for s in (arr, indices))
    )
    index = list(np.ogrid[tuple(slice(m) for m in shape)])
    index[axis] = indices
    return arr[tuple(index)]


@implements(np.sort)
def sort(a, axis=-1):
    if axis is None:
        a, axis = np.ravel(a), -1
    return take_along_axis(a, np.argsort(a.value, axis, kind="stable"), axis)


@implements(np.diagonal, np.linalg.diagonal)
def diagonal(a, offset=0, axis1=0, axis2=1):
    a = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = a.shape[-2:]
    i = np.arange(max(0, min(rows, columns - offset) - max(0, -offset))) + max(0, -offset)
    return a[..., i, i + offset]


@implements(np.diag)
def diag(v, k=0):
    if np.ndim(v) == 2:
        return diagonal(v, k)
    if np.ndim(v) != 1:
        raise ValueError("np.diag takes a vector or a matrix")
    n = v.shape[0] + abs(k)
    i = np.arange(v.shape[0])
    return record(rules.scatter, v, (i + max(0, -k), i + max(0, k)), (n, n))


@implements(np.trace)
def trace(a, offset=0, axis1=0, axis2=1):
    return np.sum(diagonal(a, offset, axis1, axis2), -1)


@implements(np.tril)
def tril(m, k=0):
    return record(rules.tril, m, k)


@implements(np.triu)
def triu(m, k=0):
    return record(rules.triu, m, k)


@implements(np.diff)
def diff(a, n=1, axis=-1):
    axis = normalize_axis_index(axis, np.ndim(a))
    for _ in range(n):
        a = a[_along(axis, slice(1, None))] - a[_along(axis, slice(None, -1))]
    return a


@implements(np.full_like)
def full_like(a, fill_value):
    return np.broadcast_to(fill_value, np.shape(a))


@implements(np.real)
def real(val):
    return val


# Elementwise and reductions


@implements(np.clip)
def clip(a, a_min=None, a_max=None, *, min=None, max=None):
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None:
        a = np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


@implements(np.sum)
def sum_(a, axis=None, *, keepdims=False):
    return record(rules.sum_, a, _axes(axis, a.ndim), keepdims)


def _reduce(primitive):
    """ufunc.reduce reduces the first axis unless told otherwise."""

    def reduce(array, axis=0, *, keepdims=False):
        return record(primitive, array, _axes(axis, np.ndim(array)), keepdims)

    return reduce


FUNCTIONS[np.add.reduce] = _reduce(rules.sum_)
FUNCTIONS[np.maximum.reduce] = _reduce(rules.max_)
FUNCTIONS[np.minimum.reduce] = _reduce(rules.min_)
FUNCTIONS[np.logaddexp.reduce] = _reduce(rules.logsumexp)


@implements(np.max, np.amax)
def max_(a, axis=None, *, keepdims=False):
    return record(rules.max_, a, _axes(axis, np.ndim(a)), keepdims)


@implements(np.min, np.amin)
def min_(a, axis=None, *, keepdims=False):
    return record(rules.min_, a, _axes(axis, np.ndim(a)), keepdims)


def _count(shape, axes):
    """How many numbers a reduction over these axes takes together."""
    return math.prod(shape if axes is None else [shape[i] for i in axes])


@implements(np.mean)
def mean(a, axis=None, *, keepdims=False):
    axes = _axes(axis, a.ndim)
    return record(rules.mean, a, axes, keepdims, _count(a.shape, axes))


@implements(np.average)
def average(a, axis=None, weights=None):
    if weights is None:
        return mean(a, axis)
    if np.shape(weights) != np.shape(a):
        raise TypeError("np.average has a rule only for weights of the array's shape")
    return sum_(a * weights, axis) / np.sum(weights, axis)


@implements(np.var)
def var(a, axis=None, *, ddof=0, keepdims=False):
    deviation = a - mean(a, axis, keepdims=True)
    n = _count(a.shape, _axes(axis, a.ndim))
    return sum_(deviation * deviation, axis, keepdims=keepdims) / (n - ddof)


@implements(np.std)
def std(a, axis=None, *, ddof=0, keepdims=False):
    return np.sqrt(var(a, axis, ddof=ddof, keepdims=keepdims))


@implements(np.prod)
def prod(a, axis=None, *, keepdims=False):
    """Multiplied pairwise, so that factors of zero have the right derivatives too."""
    shape = np.shape(a)
    axes = tuple(range(len(shape))) if axis is None else _axes(axis, len(shape))
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    a = np.moveaxis(a, axes, range(len(axes)))
    a = record(rules.reshape, a, (math.prod(shape[i] for i in axes), *kept))
    if a.shape[0] == 0:
        return np.ones(kept)
    while (n := a.shape[0]) > 1:
        pairs = a[: n // 2] * a[n // 2 : n // 2 * 2]
        a = np.concatenate([pairs, a[-1:]]) if n % 2 else pairs
    if keepdims:
        kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return record(rules.reshape, a, kept)


@implements(np.cumsum)
def cumsum(a, axis=None):
    if axis is None:
        a, axis = np.ravel(a), 0
    return record(rules.cumsum, a, axis)


# Products


@implements(np.dot)
def dot(a, b):
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return np.matmul(a, b) if np.ndim(b) <= 2 else np.tensordot(a, b, (-1, -2))


@implements(np.vdot)
def vdot(a, b, /):
    return np.matmul(np.ravel(a), np.ravel(b))


@implements(np.inner)
def inner(a, b, /):
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return np.tensordot(a, b, (-1, -1))


@implements(np.outer)
def outer(a, b):
    return np.ravel(a)[:, None] * np.ravel(b)


@implements(np.tensordot)
def tensordot(a, b, axes=2):
    n, m = np.ndim(a), np.ndim(b)
    over_a, over_b = (range(n - axes, n), range(axes)) if isinstance(axes, int) else axes
    over_a, over_b = normalize_axis_tuple(over_a, n), normalize_axis_tuple(over_b, m)
    free_a = [i for i in range(n) if i not in over_a]
    free_b = [i for i in range(m) if i not in over_b]
    shape = [np.shape(a)[i] for i in free_a] + [np.shape(b)[i] for i in free_b]
    inner = math.prod(np.shape(a)[i] for i in over_a)
    left = math.prod(np.shape(a)[i] for i in free_a)
    right = math.prod(np.shape(b)[i] for i in free_b)
    if [np.shape(a)[i] for i in over_a] != [np.shape(b)[i] for i in over_b]:
        raise ValueError(f"tensordot over {axes} of shapes {np.shape(a)} and {np.shape(b)}")
    a = np.reshape(np.transpose(a, (*free_a, *over_a)), (left, inner))
    b = np.reshape(np.transpose(b, (*over_b, *free_b)), (inner, right))
    return np.reshape(np.matmul(a, b), shape)


@implements(np.einsum)
def einsum(*operands, optimize=False):
    subscripts, operands = _explicit_subscripts(operands)
    return record(rules.einsum, subscripts, *operands)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _explicit_subscripts(operands):
    """einsum's arguments in either form -> ("ab,bc->ac", operands), every ellipsis spelled out."""
    if not isinstance(operands[0], str):  # einsum(a, [0, 1], b, [1, 2], [0, 2])
        spell = lambda axes: "".join("..." if i is Ellipsis else _LETTERS[i] for i in axes)
        count = len(operands) // 2
        subscripts = ",".join(spell(axes) for axes in operands[1 : 2 * count : 2])
        if len(operands) % 2:
            subscripts += "->" + spell(operands[-1])
        operands = (subscripts, *operands[0 : 2 * count : 2])
    subscripts, *arrays = operands
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(arrays):
        raise ValueError(f"einsum {subscripts!r} names {len(terms)} operands, {len(arrays)} given")
    free = [c for c in reversed(_LETTERS) if c not in inputs + output]
    widths = [np.ndim(a) - len(t.replace("...", "")) for t, a in zip(terms, arrays)]
    dots = "".join(free[: max((w for t, w in zip(terms, widths) if "..." in t), default=0)])
    if not arrow:
        letters = inputs.replace(",", "").replace(".", "")
        output = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    terms = [t.replace("...", dots[len(dots) - w :]) for t, w in zip(terms, widths)]
    return ",".join(terms) + "->" + output.replace("...", dots), arrays


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    two = ord is None or ord == "fro" or (ord == 2 and (isinstance(axis, int) or np.ndim(x) == 1))
    if two:
        return np.sqrt(sum_(x * x, axis, keepdims=keepdims))
    if np.ndim(x) == 1 or isinstance(axis, int):
        if ord == 1:
            return sum_(np.abs(x), axis, keepdims=keepdims)
        if ord in (np.inf, -np.inf):
            return (max_ if ord > 0 else min_)(np.abs(x), axis, keepdims=keepdims)
        if isinstance(ord, (int, float)) and ord != 0:
            return sum_(np.abs(x) ** ord, axis, keepdims=keepdims) ** (1.0 / ord)
    raise TypeError(f"np.linalg.norm with ord={ord!r} has no derivative rule for these axes")


@implements(np.linalg.inv)
def inv(a):
    return record(rules.inv, a)


@implements(np.linalg.solve)
def solve(a, b):
    if np.ndim(b) == 1:
        return record(rules.solve, a, np.expand_dims(b, -1))[..., 0]
    return record(rules.solve, a, b)


@implements(np.linalg.det)
def det(a):
    return record(rules.det, a)


_Slogdet = type(np.linalg.slogdet(np.eye(1)))


@implements(np.linalg.slogdet)
def slogdet(a):
    return _Slogdet(np.linalg.slogdet(a.value)[0], record(rules.logabsdet, a))
