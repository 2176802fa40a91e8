# mypy: ignore-errors
"""NumPy's functions, with NumPy's own signatures, built from the functions of `rules.py`.

`FUNCTIONS[np.f]` is called in place of np.f when an argument is being differentiated. Parameters
that are missing here (out=, dtype=, ...) have no derivative; using one raises a TypeError
that names it. `CONSTANT` holds the functions whose value does not change under small changes of the
argument (comparisons, argmax, floor, shape, ...): they are computed by plain NumPy.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from npgrad import rules
from npgrad.node import CONSTANT, FUNCTIONS, Node, constant, plain, record
from npgrad.traced import Traced

CONSTANT |= {
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.logical_and, np.logical_or, np.logical_xor, np.logical_not),
    *(np.isnan, np.isinf, np.isfinite, np.signbit, np.sign, np.floor, np.ceil, np.trunc, np.rint),
    *(np.floor_divide, np.isclose, np.allclose, np.array_equal, np.array_equiv, np.any, np.all),
    *(np.isin, np.argmax, np.argmin, np.argsort, np.argwhere, np.nonzero, np.flatnonzero),
    *(np.lexsort, np.count_nonzero, np.searchsorted, np.digitize, np.shape, np.ndim, np.size),
    *(np.iscomplexobj, np.isrealobj, np.result_type, np.zeros_like, np.ones_like, np.empty_like),
    *(np.isposinf, np.isneginf, np.argpartition, np.nanargmax, np.nanargmin, np.round, np.fix),
    *(np.tril_indices_from, np.triu_indices_from, np.diag_indices_from),
}


def implements(*numpy_functions):
    """Return a decorator that enters f for these functions; a name is one that NumPy may lack."""

    def enter(f):
        for numpy_function in numpy_functions:
            if isinstance(numpy_function, str):
                numpy_function = getattr(np, numpy_function, None)
            if numpy_function is not None:
                FUNCTIONS[numpy_function] = f
        return f

    return enter


def _arrays(function, args):
    """Return the args of `function` as Nodes and arrays."""
    return [a if type(a) is Node else _array(constant(function, a)) for a in args]


def _array(x):
    return x if type(x) is Traced else np.asarray(x)


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


@implements(np.rollaxis)
def rollaxis(a, axis, start=0):
    axis = normalize_axis_index(axis, a.ndim)
    start = normalize_axis_index(start, a.ndim + 1) if start >= 0 else start + a.ndim
    return moveaxis(a, axis, start - (axis < start))


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


@implements(np.atleast_3d)
def atleast_3d(*arys):
    arys = [a if np.ndim(a) > 1 else np.atleast_2d(a) for a in _arrays(np.atleast_3d, arys)]
    results = [a[:, :, None] if a.ndim == 2 else a for a in arys]
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


@implements(np.dstack)
def dstack(tup):
    return concatenate([np.atleast_3d(a) for a in tup], 2)


@implements("unstack")
def unstack(x, /, *, axis=0):
    return tuple(moveaxis(x, axis, 0))


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


split = implements(np.split)(_split(np.split))
FUNCTIONS[np.array_split] = _split(np.array_split)


@implements(np.hsplit)
def hsplit(ary, indices_or_sections):
    return split(ary, indices_or_sections, min(1, ary.ndim - 1))


@implements(np.vsplit)
def vsplit(ary, indices_or_sections):
    if ary.ndim < 2:
        raise ValueError(f"np.vsplit of shape {ary.shape}: must have two axes or more")
    return split(ary, indices_or_sections)


@implements(np.dsplit)
def dsplit(ary, indices_or_sections):
    return split(ary, indices_or_sections, 2)


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


@implements(np.rot90)
def rot90(m, k=1, axes=(0, 1)):
    first, second = normalize_axis_tuple(axes, m.ndim)
    if k % 4 in (0, 2):
        return flip(m, axes) if k % 4 else copy(m)
    return swapaxes(flip(m, second if k % 4 == 1 else first), first, second)


@implements(np.roll)
def roll(a, shift, axis=None):
    axis = tuple(axis) if isinstance(axis, list) else axis
    return record(rules.roll, a, _array(shift), axis)


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


@implements(np.nan_to_num)
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    if not copy:
        raise TypeError("np.nan_to_num with copy=False would change its argument in place")
    limits = np.finfo(x.dtype)
    x = np.where(np.isnan(x), nan, x)
    x = np.where(x == np.inf, float(limits.max) if posinf is None else posinf, x)
    return np.where(x == -np.inf, float(limits.min) if neginf is None else neginf, x)[()]


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


@implements(np.select)
def select(condlist, choicelist, default=0):
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(f"np.select of {len(condlist)} conditions and {len(choicelist)} choices")
    choices = [c if type(c) in (Node, int, float) else _array(c) for c in choicelist]
    result = default
    if type(default) is not Node:
        kind = np.result_type(*plain(choices), default)
        result = default if type(default) is Traced else np.asarray(default, kind)
    for condition, choice in zip(condlist[::-1], choices[::-1]):
        if np.result_type(condition).kind != "b":
            raise TypeError(f"np.select of {np.result_type(condition)} conditions: must be bool")
        result = np.where(condition, choice, result)
    return result


@implements(np.delete)
def delete(arr, obj, axis=None):
    if axis is None:
        arr, axis = ravel(arr), 0
    axis = normalize_axis_index(axis, arr.ndim)
    return arr[_along(axis, np.delete(np.arange(arr.shape[axis]), obj))]


@implements(np.bincount)
def bincount(x, /, weights=None, minlength=0):
    size = np.bincount(plain(x), minlength=minlength).size
    return record(rules.scatter, weights.astype(np.float64), _array(x), (size,))


@implements(np.take)
def take(a, indices, axis=None):
    if axis is None:
        a, axis = ravel(a), 0
    indices = _array(indices)
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


@implements(np.partition)
def partition(a, kth, axis=-1):
    if axis is None:
        a, axis = ravel(a), -1
    value = np.partition(plain(a), kth, axis)
    rank = np.argsort(np.argsort(value, axis, kind="stable"), axis)
    index = np.take_along_axis(np.argsort(plain(a), axis, kind="stable"), rank, axis)
    return take_along_axis(a, index, axis)


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


def _kept(a, where, fill):
    """Return a with `fill` where the mask of a reduction is not set."""
    return np.where(np.broadcast_to(plain(where), a.shape), a, fill)


@implements(np.sum)
def sum_(a, axis=None, *, keepdims=False, initial=None, where=True):
    if where is not True:
        a = _kept(a, where, 0.0)
    total = record(rules.sum_, a, axis, keepdims)
    return total if initial is None else total + initial


@implements(np.prod)
def prod(a, axis=None, *, keepdims=False, initial=None, where=True):
    if where is not True:
        a = _kept(a, where, 1.0)
    product = record(rules.prod, a, axis, keepdims)
    return product if initial is None else product * initial


@implements(np.mean)
def mean(a, axis=None, *, keepdims=False, where=True):
    return record(rules.mean, a, axis, keepdims, where)


def _extremum(primitive, choose):
    def reduce(a, axis=None, *, keepdims=False, initial=None, where=True):
        if initial is None:
            if where is not True:
                raise ValueError("a maximum or minimum with where= needs initial=")
            return record(primitive, a, axis, keepdims)
        if a.size == 0:
            return sum_(a, axis, keepdims=keepdims) + initial
        if where is not True:
            a = _kept(a, where, initial)
        return choose(record(primitive, a, axis, keepdims), initial)

    return reduce


max_ = implements(np.max, np.amax)(_extremum(rules.max_, np.maximum))
min_ = implements(np.min, np.amin)(_extremum(rules.min_, np.minimum))
nanmax = implements(np.nanmax)(_extremum(rules.nanmax, np.fmax))
nanmin = implements(np.nanmin)(_extremum(rules.nanmin, np.fmin))


def _ufunc_reduce(f):
    """Return f as the reduce of a ufunc, which reduces the first axis by default."""

    def reduce(array, axis=0, dtype=None, *, keepdims=False, **options):
        if dtype is not None:
            raise TypeError("reduce with dtype= has no derivative rule: use astype")
        return f(array, axis, keepdims=keepdims, **options)

    return reduce


def _logsumexp(a, axis, *, keepdims):
    return record(rules.logsumexp, a, axis, keepdims)


FUNCTIONS[np.add.reduce] = _ufunc_reduce(sum_)
FUNCTIONS[np.maximum.reduce] = _ufunc_reduce(max_)
FUNCTIONS[np.minimum.reduce] = _ufunc_reduce(min_)
FUNCTIONS[np.multiply.reduce] = _ufunc_reduce(prod)
FUNCTIONS[np.fmax.reduce] = _ufunc_reduce(nanmax)
FUNCTIONS[np.fmin.reduce] = _ufunc_reduce(nanmin)
FUNCTIONS[np.logaddexp.reduce] = _ufunc_reduce(_logsumexp)


@implements(np.ptp)
def ptp(a, axis=None, *, keepdims=False):
    return max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims)


@implements(np.average)
def average(a, axis=None, weights=None, *, keepdims=False):
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    a, weights = _arrays(np.average, (a, weights))
    if weights.shape != a.shape:
        axes = () if axis is None else normalize_axis_tuple(axis, a.ndim)
        if not axes or weights.shape != tuple(a.shape[i] for i in axes):
            raise TypeError(
                f"np.average has a rule for weights of the array's shape {a.shape} or of its sizes "
                f"along the axes, not for {weights.shape}"
            )
        weights = np.transpose(weights, np.argsort(axes).tolist())
        weights = weights.reshape([n if i in axes else 1 for i, n in enumerate(a.shape)])
    weights = weights.astype(np.result_type(a.dtype, weights.dtype))
    total = np.sum(weights, axis, keepdims=keepdims)
    if np.any(total == 0.0):
        raise ZeroDivisionError("np.average: the weights sum to zero")
    return np.sum(a * weights, axis, keepdims=keepdims) / total


@implements(np.var)
def var(a, axis=None, *, ddof=0, keepdims=False, where=True):
    return record(rules.var, a, axis, ddof, keepdims, where)


@implements(np.std)
def std(a, axis=None, *, ddof=0, keepdims=False, where=True):
    return record(rules.std, a, axis, ddof, keepdims, where)


def _without_nan(f):
    def reduce(a, axis=None, *, keepdims=False, where=True, **options):
        return f(a, axis, keepdims=keepdims, where=where & ~np.isnan(a), **options)

    return reduce


for nanreduce, f in (
    *((np.nansum, sum_), (np.nanprod, prod)),
    *((np.nanmean, mean), (np.nanvar, var), (np.nanstd, std)),
):
    FUNCTIONS[nanreduce] = _without_nan(f)


def _lines(a, axis):
    """Return a with these axes joined into the first one, and the axes."""
    axes = tuple(range(a.ndim)) if axis is None else normalize_axis_tuple(axis, a.ndim)
    a = np.moveaxis(a, axes, range(len(axes)))
    return a.reshape(math.prod(a.shape[: len(axes)]), *a.shape[len(axes) :]), axes


@implements(np.median)
def median(a, axis=None, *, keepdims=False):
    a, axes = _lines(a, axis)
    a, n = sort(a, 0), len(a)
    result = mean(a[(n - 1) // 2 : n // 2 + 1], 0)
    if n:
        result = np.where(np.isnan(a[-1]), a[-1], result)
    return np.expand_dims(result, axes) if keepdims else result[()]  # a scalar, if it is one


def _quantile(f, a, q, axis, keepdims):
    """Interpolate linearly; the other methods have no rule. Which float f returns, f is asked."""
    (a,) = _arrays(np.quantile, (a,))
    if not np.all((0 <= q) & (q <= 1)):
        raise ValueError("np.quantile: q must be between 0 and 1")
    a, axes = _lines(a, axis)
    a = np.sort(a, 0)
    position = q * (len(a) - 1)
    low = np.floor(plain(position)).astype(int)
    t = np.subtract(position, low).astype(f(np.ones(1, a.dtype), plain(q)).dtype)
    t = t.reshape(*low.shape, *[1] * (a.ndim - 1)) if low.shape else t
    left, right = a[low], a[np.minimum(low + 1, len(a) - 1)]
    result = np.where(t < 0.5, left + (right - left) * t, right - (right - left) * (1 - t))
    result = np.where(np.isnan(a[-1]), a[-1], result)
    return np.expand_dims(result, [low.ndim + i for i in axes]) if keepdims else result[()]


@implements(np.quantile)
def quantile(a, q, axis=None, *, keepdims=False):
    q = q if type(q) in (int, float, Node) else _array(q)
    return _quantile(np.quantile, a, q, axis, keepdims)


@implements(np.percentile)
def percentile(a, q, axis=None, *, keepdims=False):
    q = q if type(q) in (int, float, Node) else _array(q)
    return _quantile(np.percentile, a, q / 100, axis, keepdims)


@implements(np.cumsum)
def cumsum(a, axis=None):
    if axis is None:
        a, axis = ravel(a), 0
    return record(rules.cumsum, a, axis)


@implements(np.cumprod)
def cumprod(a, axis=None):
    if axis is None or not a.ndim:
        a, axis = ravel(a), 0
    return record(rules.cumprod, a, normalize_axis_index(axis, a.ndim))


def _cumulative(f, start):
    def cumulative(x, /, *, axis=None, include_initial=False):
        if axis is None and x.ndim != 1:
            raise ValueError(f"shape {x.shape}: axis must be given")
        axis = normalize_axis_index(0 if axis is None else axis, x.ndim)
        y = f(x, axis)
        first = np.full((*y.shape[:axis], 1, *y.shape[axis + 1 :]), start, y.dtype)
        return concatenate([first, y], axis) if include_initial else y

    return cumulative


implements("cumulative_sum")(_cumulative(cumsum, 0.0))
implements("cumulative_prod")(_cumulative(cumprod, 1.0))


# Sequences, interpolation, polynomials


@implements(np.linspace)
def linspace(start, stop, num=50, endpoint=True, *, axis=0):
    delta = np.subtract(stop, start)
    k = np.arange(num, dtype=delta.dtype).reshape(-1, *[1] * delta.ndim)
    y = k * (delta / max(num - bool(endpoint), 1)) + start
    if endpoint and num > 1:
        y = concatenate([y[:-1], np.expand_dims(stop + np.zeros_like(delta), 0)])
    return moveaxis(y, 0, axis)


@implements(np.logspace)
def logspace(start, stop, num=50, endpoint=True, base=10.0, *, axis=0):
    return np.power(base, np.linspace(start, stop, num, endpoint, axis=axis))


@implements(np.geomspace)
def geomspace(start, stop, num=50, endpoint=True, *, axis=0):
    start, stop = (a.astype(np.float64) for a in _arrays(np.geomspace, (start, stop)))
    sign = np.sign(start)
    start, stop = np.log10(start * sign), np.log10(stop * sign)
    return sign * np.power(10.0, np.linspace(start, stop, num, endpoint, axis=axis))


@implements(np.interp)
def interp(x, xp, fp, left=None, right=None):
    x, xp, fp = (a.astype(np.float64) for a in _arrays(np.interp, (x, xp, fp)))
    i = np.clip(np.searchsorted(plain(xp), plain(x), "right") - 1, 0, len(xp) - 2)
    slope = (fp[i + 1] - fp[i]) / (xp[i + 1] - xp[i])
    y = np.where(x < xp[0], fp[0] if left is None else left, slope * (x - xp[i]) + fp[i])
    return np.where(x > xp[-1], fp[-1] if right is None else right, y)[()]


@implements(np.trapezoid)
def trapezoid(y, x=None, dx=1.0, axis=-1):
    (y,) = _arrays(np.trapezoid, (y,))
    axis = normalize_axis_index(axis, y.ndim)
    if x is not None:
        (x,) = _arrays(np.trapezoid, (x,))
        dx = np.diff(x) if x.ndim == 1 else np.diff(x, axis=axis)
        dx = dx.reshape([-1 if i == axis else 1 for i in range(y.ndim)]) if x.ndim == 1 else dx
    pairs = y[_along(axis, slice(1, None))] + y[_along(axis, slice(None, -1))]
    return np.sum(dx * pairs / 2.0, axis)


@implements(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    (f,) = _arrays(np.gradient, (f,))
    axes = range(f.ndim) if axis is None else normalize_axis_tuple(axis, f.ndim)
    spacings = varargs or (1.0,)
    if len(spacings) == 1 and np.ndim(spacings[0]) == 0:
        spacings = spacings * len(axes)
    if len(spacings) != len(axes):
        raise TypeError(f"np.gradient: {len(spacings)} spacings for {len(axes)} axes")
    results = [
        moveaxis(_slopes(np.moveaxis(f, i, 0), h, edge_order), 0, i) for i, h in zip(axes, spacings)
    ]
    return results[0] if len(axes) == 1 else tuple(results)


def _slopes(f, x, edge_order):
    """Return np.gradient of f along its first axis; x is the spacing, or the coordinates."""
    if edge_order not in (1, 2) or len(f) <= edge_order:
        raise ValueError(f"np.gradient of {len(f)} values with edge_order={edge_order}")
    if np.ndim(x) and len(x) != len(f):
        raise ValueError(f"np.gradient: {len(x)} coordinates of {len(f)} values")
    h = np.diff(x) if np.ndim(x) else np.broadcast_to(x, (len(f) - 1,))
    h = h.reshape(-1, *[1] * (f.ndim - 1))
    a, b = h[:-1], h[1:]
    if np.all(h == h[:1]):
        inner = (f[2:] - f[:-2]) / (2.0 * a)
    else:
        inner = (b - a) / (a * b) * f[1:-1] + a / (b * (a + b)) * f[2:] - b / (a * (a + b)) * f[:-2]

    def edge(f, a, b):
        if edge_order == 1:
            return (f[1] - f[0]) / a
        step = a + b
        return step / (a * b) * f[1] - a / (b * step) * f[2] - (step + a) / (a * step) * f[0]

    first, last = edge(f, h[0], h[1 % len(h)]), edge(f[::-1], -h[-1], -h[-2 % len(h)])
    slopes = np.concatenate([first[None], inner, last[None]])
    return slopes.astype(f.dtype if f.dtype.kind == "f" else np.float64)


@implements(np.unwrap)
def unwrap(p, discont=None, axis=-1, *, period=2.0 * np.pi):
    return p + (np.unwrap(plain(p), discont, axis, period=period) - plain(p))


@implements(np.sinc)
def sinc(x):
    return record(rules.sinc, x)


@implements(np.polyval)
def polyval(p, x):
    y = np.zeros_like(x)
    for coefficient in p if type(p) is Node else _array(p):
        y = y * x + coefficient
    return y


@implements(np.vander)
def vander(x, N=None, increasing=False):
    if x.ndim != 1:
        raise ValueError(f"np.vander of shape {x.shape}: must be a vector")
    exponents = np.arange(len(x) if N is None else N)
    return np.power(x[:, None], exponents if increasing else exponents[::-1])


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


@implements("matvec")
def matvec(x1, x2, /):
    return np.matmul(x1, np.expand_dims(x2, -1))[..., 0]


@implements("vecmat")
def vecmat(x1, x2, /):
    return np.matmul(np.expand_dims(x1, -2), x2)[..., 0, :]


@implements(np.kron)
def kron(a, b):
    a, b = _arrays(np.kron, (a, b))
    left = (1,) * (b.ndim - a.ndim) + a.shape
    right = (1,) * (a.ndim - b.ndim) + b.shape
    a = a.reshape([m for n in left for m in (n, 1)])
    b = b.reshape([m for n in right for m in (1, n)])
    return (a * b).reshape([n * m for n, m in zip(left, right)])


@implements(np.cross)
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    a, b = _arrays(np.cross, (a, b))
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(f"np.cross has a rule for vectors of 3 entries, not {a.shape}, {b.shape}")
    turn = lambda x, k: np.roll(x, k, -1)
    return np.moveaxis(turn(a, -1) * turn(b, -2) - turn(a, -2) * turn(b, -1), -1, axisc)


@implements(np.linalg.cross)
def linalg_cross(x1, x2, /, *, axis=-1):
    return cross(x1, x2, axis=axis)


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
    vector = over == 1
    if type(ord) is Node:
        raise TypeError("np.linalg.norm has no derivative rule for ord: compute it with np.power")
    if vector and ord == 1:
        return sum_(np.abs(x), axis, keepdims=keepdims)
    if vector and ord in (np.inf, -np.inf):
        initial = 0.0 if ord > 0 and x.size == 0 else None
        return (max_ if ord > 0 else min_)(np.abs(x), axis, keepdims=keepdims, initial=initial)
    p = vector and isinstance(ord, (int, float)) and ord != 0
    if ord is None or p or (ord == "fro" and over == 2):
        return record(rules.norm, x, ord, axis, keepdims)
    raise TypeError(f"np.linalg.norm with ord={ord!r} has no derivative rule for these axes")


@implements(np.linalg.vector_norm)
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    x, axes = _lines(x, axis)
    y = norm(x, ord, 0)
    return np.expand_dims(y, axes) if keepdims else y


@implements(np.linalg.matrix_norm)
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    return norm(x, ord, (-2, -1), keepdims)


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
def cholesky(a, /, *, upper=False):
    if upper:
        return matrix_transpose(cholesky(matrix_transpose(a)))
    return record(rules.cholesky, a)


@implements(np.linalg.det)
def det(a):
    return record(rules.det, a)


_Slogdet = type(np.linalg.slogdet(np.eye(1)))


@implements(np.linalg.slogdet)
def slogdet(a):
    return _Slogdet(np.linalg.slogdet(plain(a))[0], record(rules.logabsdet, a))
