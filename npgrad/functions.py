"""NumPy's functions, with NumPy's own signatures, built from the functions of `rules.py`.

`FUNCTIONS[np.f]` is called in place of np.f when an argument is being differentiated. Parameters
that are missing here (out=, where=, dtype=, ...) have no derivative; using one raises a TypeError
that names it. `CONSTANT` holds the functions whose value does not change under small changes of the
argument (comparisons, argmax, floor, shape, ...): they are computed by plain NumPy.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from npgrad import rules
from npgrad.node import CONSTANT, FUNCTIONS, Node, constant, plain, record

CONSTANT |= {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
    *(np.isnan, np.isinf, np.isfinite, np.signbit, np.sign, np.floor, np.ceil, np.trunc, np.rint),
    *(np.floor_divide, np.isclose, np.allclose, np.array_equal, np.array_equiv, np.any, np.all),
    *(np.isin, np.argmax, np.argmin, np.argsort, np.argwhere, np.nonzero, np.flatnonzero),
    *(np.lexsort, np.count_nonzero, np.searchsorted, np.digitize, np.shape, np.ndim, np.size),
    *(np.iscomplexobj, np.isrealobj, np.result_type, np.zeros_like, np.ones_like, np.empty_like),
    np.round,
}


def implements(*numpy_functions):
    def enter(f):
        for numpy_function in numpy_functions:
            FUNCTIONS[numpy_function] = f
        return f

    return enter


def _arrays(function, args):
    """Return the args of `function` as Nodes and arrays."""
    return [a if type(a) is Node else np.asarray(constant(function, a)) for a in args]


# Shapes


@implements(np.reshape)
def reshape(a, /, shape, order="C"):
    if order != "C":
        raise TypeError(f"reshape with order={order!r} has no derivative rule: use order='C'")
    return record(rules.reshape, a, shape)


@implements(np.ravel)
def ravel(a, order="C"):
    return reshape(a, -1, order)


@implements(np.transpose, np.permute_dims)
def transpose(a, axes=None):
    return record(rules.transpose, a, axes and normalize_axis_tuple(axes, a.ndim))


@implements(np.swapaxes)
def swapaxes(a, axis1, axis2):
    axes = list(range(a.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return record(rules.transpose, a, tuple(axes))


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x, /):
    return swapaxes(x, -1, -2)


@implements(np.moveaxis)
def moveaxis(a, source, destination):
    source = normalize_axis_tuple(source, a.ndim)
    destination = normalize_axis_tuple(destination, a.ndim)
    axes = [i for i in range(a.ndim) if i not in source]
    for d, s in sorted(zip(destination, source, strict=True)):
        axes.insert(d, s)
    return record(rules.transpose, a, tuple(axes))


@implements(np.expand_dims)
def expand_dims(a, axis):
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    n = a.ndim + len(axes)
    axes = normalize_axis_tuple(axes, n)
    sizes = iter(a.shape)
    return record(rules.reshape, a, tuple(1 if i in axes else next(sizes) for i in range(n)))


@implements(np.squeeze)
def squeeze(a, axis=None):
    if axis is None:
        axes = [i for i, n in enumerate(a.shape) if n == 1]
    else:
        axes = normalize_axis_tuple(axis, a.ndim)
    if any(a.shape[i] != 1 for i in axes):
        raise ValueError(f"cannot squeeze axis {axis} of shape {a.shape}: its size is not one")
    return record(rules.reshape, a, tuple(n for i, n in enumerate(a.shape) if i not in axes))


@implements(np.broadcast_to)
def broadcast_to(array, shape):
    shape = np.broadcast_shapes(shape)
    if np.broadcast_shapes(array.shape, shape) != shape:
        raise ValueError(f"cannot broadcast shape {array.shape} to {shape}")
    return record(rules.broadcast_to, array, shape)


@implements(np.broadcast_arrays)
def broadcast_arrays(*args):
    shape = np.broadcast_shapes(*map(np.shape, args))
    return tuple(np.broadcast_to(a, shape) for a in args)


@implements(np.atleast_1d)
def atleast_1d(*arys):
    results = [a[None] if a.ndim == 0 else a for a in _arrays(np.atleast_1d, arys)]
    return results[0] if len(arys) == 1 else tuple(results)


@implements(np.atleast_2d)
def atleast_2d(*arys):
    results = [a.reshape(1, -1) if a.ndim < 2 else a for a in _arrays(np.atleast_2d, arys)]
    return results[0] if len(arys) == 1 else tuple(results)


@implements(np.concatenate)
def concatenate(arrays, /, axis=0):
    arrays = _arrays(np.concatenate, arrays)
    if axis is None:
        arrays, axis = [a.reshape(-1) for a in arrays], 0
    axis = normalize_axis_index(axis, arrays[0].ndim)
    before, end = (slice(None),) * axis, 0
    indices = tuple([(*before, slice(end, end := end + a.shape[axis])) for a in arrays])
    return record(rules.concatenate, indices, axis, *arrays)


@implements(np.stack)
def stack(arrays, axis=0):
    return concatenate([np.expand_dims(a, axis) for a in arrays], axis)


@implements(np.hstack)
def hstack(tup):
    arrays = [np.atleast_1d(a) for a in tup]
    return concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


@implements(np.vstack)
def vstack(tup):
    return concatenate([np.atleast_2d(a) for a in tup])


@implements(np.column_stack)
def column_stack(tup):
    arrays = _arrays(np.column_stack, tup)
    return concatenate([a[:, None] if a.ndim == 1 else np.atleast_2d(a) for a in arrays], 1)


@implements(np.append)
def append(arr, values, axis=None):
    return concatenate([arr, values], axis)


def _along(axis, index):
    return (slice(None),) * axis + (index,)


def _split(divide):
    def split(ary, indices_or_sections, axis=0):
        axis = normalize_axis_index(axis, ary.ndim)
        pieces = divide(np.arange(ary.shape[axis]), indices_or_sections)
        return [ary[_along(axis, slice(p[0], p[-1] + 1) if len(p) else slice(0))] for p in pieces]

    return split


FUNCTIONS[np.split] = _split(np.split)
FUNCTIONS[np.array_split] = _split(np.array_split)


@implements(np.tile)
def tile(A, reps):
    reps = tuple(np.atleast_1d(reps).tolist())
    shape = (1,) * (len(reps) - A.ndim) + A.shape
    reps = (1,) * (len(shape) - len(reps)) + reps
    spread = tuple(m for pair in zip(reps, shape) for m in pair)
    one = tuple(m for n in shape for m in (1, n))
    result = record(rules.broadcast_to, A.reshape(one), spread)
    return result.reshape(tuple(r * n for r, n in zip(reps, shape)))


@implements(np.repeat)
def repeat(a, repeats, axis=None):
    if axis is None:
        a, axis = ravel(a), 0
    axis = normalize_axis_index(axis, a.ndim)
    return a[_along(axis, np.repeat(np.arange(a.shape[axis]), repeats))]


@implements(np.flip)
def flip(m, axis=None):
    axes = range(m.ndim) if axis is None else normalize_axis_tuple(axis, m.ndim)
    return m[tuple(slice(None, None, -1 if i in axes else 1) for i in range(m.ndim))]


@implements(np.fliplr)
def fliplr(m):
    return m[:, ::-1]


@implements(np.flipud)
def flipud(m):
    return m[::-1]


@implements(np.roll)
def roll(a, shift, axis=None):
    axis = tuple(axis) if isinstance(axis, list) else axis
    return record(rules.roll, a, np.asarray(shift), axis)


@implements(np.pad)
def pad(array, pad_width, mode="constant", *, constant_values=0):
    """Pad with zeros; the other modes have no derivative rule."""
    if mode != "constant" or type(constant_values) is Node or np.any(constant_values):
        raise TypeError("np.pad has a derivative rule only for mode='constant' with zeros")
    widths = np.broadcast_to(pad_width, (array.ndim, 2)).tolist()
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, array.shape))
    shape = tuple(before + n + after for (before, after), n in zip(widths, array.shape))
    return record(rules.scatter, array, inside, shape)


@implements(np.copy)
def copy(a):
    return record(rules.broadcast_to, a, a.shape)  # an array, even of a scalar


@implements(np.real)
def real(val):
    return val


@implements(np.full_like)
def full_like(a, fill_value):
    if type(fill_value) is Node:
        return np.broadcast_to(fill_value, a.shape).astype(a.dtype)
    return np.full_like(plain(a), fill_value)


# Picking


@implements(np.where)
def where(condition, x=None, y=None, /):
    condition = plain(condition)
    if x is None and y is None:
        return np.where(condition)
    return record(rules.where, condition, x, y)


@implements(np.take)
def take(a, indices, axis=None):
    if axis is None:
        a, axis = ravel(a), 0
    indices = np.asarray(indices)
    if indices.dtype.kind == "b":
        indices = indices.astype(int)  # positions 0 and 1, not a mask
    return a[_along(normalize_axis_index(axis, a.ndim), indices)]


@implements(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    if indices.dtype.kind not in "iu":
        raise IndexError(f"indices have dtype {indices.dtype}: must be integers")
    if axis is None:
        return ravel(arr)[indices]
    axis = normalize_axis_index(axis, arr.ndim)
    if np.ndim(indices) != arr.ndim:
        raise ValueError(f"indices have shape {np.shape(indices)}: must have {arr.ndim} axes")
    shape = [n if i == axis else m for i, (n, m) in enumerate(zip(indices.shape, arr.shape))]
    index = list(np.ogrid[tuple(slice(n) for n in shape)])
    index[axis] = indices
    return arr[tuple(index)]


@implements(np.sort)
def sort(a, axis=-1):
    if axis is None:
        a, axis = ravel(a), -1
    return take_along_axis(a, np.argsort(plain(a), axis, kind="stable"), axis)


@implements(np.diagonal)
def diagonal(a, offset=0, axis1=0, axis2=1):
    a = moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = a.shape[-2:]
    first = max(0, -offset)
    i = np.arange(first, max(first, min(rows, columns - offset)))
    return a[..., i, i + offset]


@implements(np.linalg.diagonal)
def linalg_diagonal(x, /, *, offset=0):
    return diagonal(x, offset, -2, -1)


@implements(np.diag)
def diag(v, k=0):
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"np.diag of shape {v.shape}: must be a vector or a matrix")
    n = len(v) + abs(k)
    i = np.arange(len(v))
    return record(rules.scatter, v, (i + max(0, -k), i + max(0, k)), (n, n))


@implements(np.trace)
def trace(a, offset=0, axis1=0, axis2=1):
    return np.sum(diagonal(a, offset, axis1, axis2), -1)


@implements(np.linalg.trace)
def linalg_trace(x, /, *, offset=0):
    return trace(x, offset, -2, -1)


@implements(np.tril)
def tril(m, k=0):
    return record(rules.tril, m, k)


@implements(np.triu)
def triu(m, k=0):
    return record(rules.triu, m, k)


@implements(np.diff)
def diff(a, n=1, axis=-1):
    axis = normalize_axis_index(axis, a.ndim)
    for _ in range(n):
        a = a[_along(axis, slice(1, None))] - a[_along(axis, slice(None, -1))]
    return a


# Elementwise and reductions


@implements(np.clip)
def clip(a, a_min=None, a_max=None, *, min=None, max=None):
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None:
        a = np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


def _reduction(primitive):
    def reduce(a, axis=None, *, keepdims=False):
        return record(primitive, a, axis, keepdims)

    return reduce


sum_ = implements(np.sum)(_reduction(rules.sum_))
mean = implements(np.mean)(_reduction(rules.mean))
max_ = implements(np.max, np.amax)(_reduction(rules.max_))
min_ = implements(np.min, np.amin)(_reduction(rules.min_))


def _ufunc_reduce(f):
    """Return f as the reduce of a ufunc, which reduces the first axis by default."""

    def reduce(array, axis=0, dtype=None, *, keepdims=False):
        if dtype is not None:
            raise TypeError("reduce with dtype= has no derivative rule: use astype")
        return f(array, axis, keepdims=keepdims)

    return reduce


FUNCTIONS[np.add.reduce] = _ufunc_reduce(sum_)
FUNCTIONS[np.maximum.reduce] = _ufunc_reduce(max_)
FUNCTIONS[np.minimum.reduce] = _ufunc_reduce(min_)
FUNCTIONS[np.logaddexp.reduce] = _ufunc_reduce(_reduction(rules.logsumexp))


@implements(np.ptp)
def ptp(a, axis=None, *, keepdims=False):
    return max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims)


@implements(np.average)
def average(a, axis=None, weights=None, *, keepdims=False):
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    a, weights = _arrays(np.average, (a, weights))
    if weights.shape != a.shape:
        if np.size(axis) != 1 or axis is None or weights.shape != (a.shape[axis],):
            raise TypeError(
                f"np.average has a rule for weights of the array's shape {a.shape} or of its size "
                f"along one axis, not for {weights.shape}"
            )
        shape = [1] * a.ndim
        shape[axis] = -1
        weights = weights.reshape(shape) * np.ones(a.shape)
    total = np.sum(weights, axis, keepdims=keepdims)
    return np.sum(a * weights, axis, keepdims=keepdims) / total


@implements(np.var)
def var(a, axis=None, *, ddof=0, keepdims=False):
    deviation = a - mean(a, axis, keepdims=True)
    total = sum_(deviation * deviation, axis, keepdims=keepdims)
    return total / (a.size // max(total.size, 1) - ddof)


@implements(np.std)
def std(a, axis=None, *, ddof=0, keepdims=False):
    return np.sqrt(var(a, axis, ddof=ddof, keepdims=keepdims))


@implements(np.prod)
def prod(a, axis=None, *, keepdims=False):
    """Multiply pairwise, so that the derivatives are right for factors of zero too."""
    shape = a.shape
    axes = tuple(range(a.ndim)) if axis is None else normalize_axis_tuple(axis, a.ndim)
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    a = moveaxis(a, axes, range(len(axes))).reshape((math.prod(shape[i] for i in axes), *kept))
    while (n := len(a)) > 1:
        pairs = a[: n // 2] * a[n // 2 : n // 2 * 2]
        a = concatenate([pairs, a[-1:]]) if n % 2 else pairs
    if keepdims:
        kept = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return a.reshape(kept) if n else np.ones(kept)


FUNCTIONS[np.multiply.reduce] = _ufunc_reduce(prod)


@implements(np.cumsum)
def cumsum(a, axis=None):
    if axis is None:
        a, axis = ravel(a), 0
    return record(rules.cumsum, a, axis)


# Products


@implements(np.dot)
def dot(a, b):
    a, b = _arrays(np.dot, (a, b))
    if a.ndim == 0 or b.ndim == 0:
        return np.multiply(a, b)
    return np.matmul(a, b) if b.ndim <= 2 else np.tensordot(a, b, (-1, -2))


@implements(np.vdot)
def vdot(a, b, /):
    return np.matmul(np.ravel(a), np.ravel(b))


@implements(np.inner)
def inner(a, b, /):
    a, b = _arrays(np.inner, (a, b))
    if a.ndim == 0 or b.ndim == 0:
        return np.multiply(a, b)
    return np.matmul(a, b) if b.ndim == 1 else np.tensordot(a, b, (-1, -1))


@implements(np.outer)
def outer(a, b):
    return np.ravel(a)[:, None] * np.ravel(b)


@implements(np.linalg.outer)
def linalg_outer(x1, x2, /):
    x1, x2 = _arrays(np.linalg.outer, (x1, x2))
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"np.linalg.outer of shapes {x1.shape}, {x2.shape}: must be vectors")
    return outer(x1, x2)


@implements(np.linalg.matmul)
def linalg_matmul(x1, x2, /):
    return np.matmul(x1, x2)


@implements(np.vecdot, np.linalg.vecdot)
def vecdot(x1, x2, /, *, axis=-1):
    x1, x2 = _arrays(np.vecdot, (x1, x2))
    return np.sum(np.moveaxis(x1, axis, -1) * np.moveaxis(x2, axis, -1), -1)


@implements(np.tensordot)
def tensordot(a, b, axes=2):
    a, b = _arrays(np.tensordot, (a, b))
    n, m = a.ndim, b.ndim
    over_a, over_b = axes if np.iterable(axes) else (range(n - axes, n), range(axes))
    over_a, over_b = normalize_axis_tuple(over_a, n), normalize_axis_tuple(over_b, m)
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ValueError(f"axes = {axes}: sizes differ in shapes {a.shape} and {b.shape}")
    free_a = [i for i in range(n) if i not in over_a]
    free_b = [i for i in range(m) if i not in over_b]
    shape = [a.shape[i] for i in free_a] + [b.shape[i] for i in free_b]
    inner = math.prod(a.shape[i] for i in over_a)
    left = math.prod(a.shape[i] for i in free_a)
    right = math.prod(b.shape[i] for i in free_b)
    a = np.transpose(a, (*free_a, *over_a)).reshape(left, inner)
    b = np.transpose(b, (*over_b, *free_b)).reshape(inner, right)
    return np.matmul(a, b).reshape(shape)


@implements(np.linalg.tensordot)
def linalg_tensordot(x1, x2, /, *, axes=2):
    return tensordot(x1, x2, axes)


@implements(np.einsum)
def einsum(*operands, optimize=False):
    return record(rules.einsum, *_explicit_subscripts(operands))


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _explicit_subscripts(operands):
    """Convert einsum's arguments, in either form, to (("ab", "bc"), "ac", *operands)."""
    if not isinstance(operands[0], str):  # einsum(a, [0, 1], b, [1, 2], [0, 2])
        spell = lambda axes: "".join("..." if i is Ellipsis else _LETTERS[i] for i in axes)
        count = len(operands) // 2
        subscripts = ",".join(spell(axes) for axes in operands[1 : 2 * count : 2])
        if len(operands) % 2:
            subscripts += "->" + spell(operands[-1])
        operands = (subscripts, *operands[0 : 2 * count : 2])
    subscripts, arrays = operands[0], _arrays(np.einsum, operands[1:])
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(arrays):
        raise ValueError(f"einsum {subscripts!r} names {len(terms)} operands, {len(arrays)} given")
    free = [c for c in reversed(_LETTERS) if c not in inputs + output]
    widths = [a.ndim - len(t.replace("...", "")) for t, a in zip(terms, arrays)]
    dots = "".join(free[: max((w for t, w in zip(terms, widths) if "..." in t), default=0)])
    if not arrow:
        letters = inputs.replace(",", "").replace(".", "")
        output = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    elif dots and "..." not in output:
        raise ValueError(f"einsum {subscripts!r}: the ellipsis must be in the output too")
    terms = [t.replace("...", dots[len(dots) - w :]) for t, w in zip(terms, widths)]
    return tuple(terms), output.replace("...", dots), *arrays


@implements(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    over = x.ndim if axis is None else np.size(axis)
    vector, matrix = over == 1, over == 2
    if ord is None or (ord == "fro" and matrix) or (ord == 2 and vector):
        return np.sqrt(sum_(x * x, axis, keepdims=keepdims))
    if vector and ord == 1:
        return sum_(np.abs(x), axis, keepdims=keepdims)
    if vector and ord in (np.inf, -np.inf):
        return (max_ if ord > 0 else min_)(np.abs(x), axis, keepdims=keepdims)
    if vector and isinstance(ord, (int, float)) and ord != 0:
        return sum_(np.abs(x) ** ord, axis, keepdims=keepdims) ** (1.0 / ord)
    raise TypeError(f"np.linalg.norm with ord={ord!r} has no derivative rule for these axes")


@implements(np.linalg.inv)
def inv(a):
    return record(rules.inv, a)


@implements(np.linalg.solve)
def solve(a, b):
    a, b = _arrays(np.linalg.solve, (a, b))
    if b.ndim == 1:
        return record(rules.solve, a, b[:, None])[..., 0]
    return record(rules.solve, a, b)


@implements(np.linalg.cholesky)
def cholesky(a, /):
    return record(rules.cholesky, a)


@implements(np.linalg.det)
def det(a):
    return record(rules.det, a)


_Slogdet = type(np.linalg.slogdet(np.eye(1)))


@implements(np.linalg.slogdet)
def slogdet(a):
    return _Slogdet(np.linalg.slogdet(plain(a))[0], record(rules.logabsdet, a))
