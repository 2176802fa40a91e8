# mypy: ignore-errors
"""The table of derivative rules.

`RULES[f]` holds one pullback per positional argument of f: pullback(g, y, *args) is the gradient of
that argument, Σ_out g ∂y/∂arg, where y = f(*args) and g is the gradient of y. None stands for an
argument that has no derivative (a shape, an axis, a condition). The pullbacks are plain NumPy code:
they run on arrays, or on Nodes when derivatives are nested. If an argument was broadcast, its
gradient is larger than the argument; `autodiff.py` then sums the gradient to the argument's shape
(`unbroadcast`), so no rule handles broadcasting.

An f of any number of arrays takes them after two other arguments, and `RULES[f]` is one function:
RULES[f](g, y, *args) returns the function i -> gradient of args[i].

Where a function is not differentiable, the rules give

    maximum, minimum, fmax, fmin, max, min, clip     operands that tie share the gradient equally
    logaddexp and its reduce, of infinite operands   as max
    abs, norm, hypot, arctan2, copysign at 0         0
    std of constant data                             0 (np.sqrt(np.var(x)) gives nan there: inf · 0)
    sqrt, cbrt, log, x**p with p < 1 at 0            ±inf, the one-sided limit
    sort, partition, median, quantile                equal entries keep their order
    sign, floor, ceil, trunc, rint, round, heaviside 0
    det of a singular matrix                         its cofactors: det is differentiable everywhere
    inv, solve, slogdet of a singular matrix         LinAlgError

An operand that was not chosen gets 0, even if the gradient is infinite or nan: np.sqrt(np.maximum(
x, 0)) has slope 0 at -1. A slope of 0 times an infinite gradient is nan: np.sqrt(np.abs(x)) at 0.
So is np.where(x != 0, np.sin(x) / x, 1.0) at 0, where the slope of the division is infinite. Make
the argument safe first: s = np.where(x != 0, x, 1.0), then np.where(x != 0, np.sin(s) / s, 1.0).
If an operand of maximum, minimum, max or min is nan, the value is nan and the gradient is 0.
"""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from npgrad.node import RULES, Node, astype, plain, record
from npgrad.trace import as_line, indexable, tracers, whole
from npgrad.traced import Traced

LN2, LN10 = math.log(2.0), math.log(10.0)


def unbroadcast(g, shape):
    """Sum g over the axes along which an array of this shape was broadcast."""
    wide = g.shape
    if wide[1:] == shape:  # fast paths for the common cases: a bias, and the sum of a row
        return g[0] if wide[0] == 1 else np.add.reduce(g, 0)
    if wide[:-1] == shape[:-1] and shape[-1] == 1:
        return np.add.reduce(g, -1, None, None, True)
    extra = len(wide) - len(shape)
    axes = [i for i, n in enumerate(wide) if i < extra or (shape[i - extra] == 1 and n != 1)]
    return np.add.reduce(g, tuple(axes)).reshape(shape)


def masked(g, mask):
    """Return g where the mask is set, else 0, even if g is infinite there."""
    if tracers and (line := as_line(masked, g, mask)) is not None:
        return line
    if type(g) is not Node and np.count_nonzero(np.isfinite(g)) == g.size:
        return g * mask  # up to 5 times faster
    return np.where(mask, g, 0.0)


def won(g, wins, ties):
    """Return an operand's share of the gradient of maximum or minimum: all, half if tied, or 0."""
    if tracers and (line := as_line(won, g, wins, ties)) is not None:
        return line
    if np.count_nonzero(ties):
        return np.where(ties, 0.5 * g, masked(g, wins))
    return masked(g, wins)


def _power_x(g, z, x, y):
    """Return g y x^(y-1)."""
    if type(y) in (int, float):
        return g * (y * np.power(x, y - 1)) if y else np.zeros_like(g)
    zero = y == 0  # 0·x⁻¹ would be nan at x = 0
    return np.where(zero, 0.0, g * (y * np.power(x, np.where(zero, 1.0, y - 1))))


def _power_y(g, z, x, y):
    """Return g x^y ln x."""
    flat = (x == 0) & (y >= 0)  # 0^y has slope 0
    return np.where(flat, 0.0, g * z * np.log(np.where(flat, 1.0, x)))


@whole
def ratio(x, z):
    """Return x / z, and 0 where z is 0."""
    zero = z == 0
    if not np.count_nonzero(zero):
        return x / z
    return np.where(zero, 0.0, x / np.where(zero, 1.0, z))


@whole
def arctan_gradient(g, y, x):
    """Return g / (1 + x²)."""
    if np.count_nonzero(np.abs(plain(x)) > 100.0):  # the square may overflow
        norm = np.hypot(x, 1.0)
        return g / norm / norm
    return g / (1.0 + x * x)


def _arctan2_x(g, z, x, y):
    """Return g y / (x² + y²)."""
    norm = np.hypot(x, y)
    return g * ratio(ratio(y, norm), norm)


def tanh_gradient(g, y, x, out=None):
    """Return g (1 - y²) = g / cosh² x, within 11 ε; from x where 1 - y² < 0.1 loses more digits."""
    if type(x) is Node:
        return g * record(sech_squared, x)
    if tracers and (line := as_line(tanh_gradient, g, y, x)) is not None:
        return line
    slope = np.multiply(y, y, out)
    slope = np.subtract(1.0, slope, out)
    if not slope.shape:
        return g * (slope if slope >= 0.1 else sech_squared(x))
    if slope.size and not slope.item(slope.argmin()) >= 0.1:  # argmin is the fastest reduction
        low = ~(slope >= 0.1)
        slope[low] = sech_squared(x[low])
    return np.multiply(g, slope, out)


def _one_less_square(x):
    """Return 1 - x²; the product is accurate near ±1, but at ±1 its derivative is nan (0 · inf)."""
    return np.where(np.abs(plain(x)) == 1.0, 1.0 - x * x, (1.0 - x) * (1.0 + x))


@whole
def lead(x, y):
    """Return x - y, which is 0 for equal infinite numbers."""
    even = (x == y) & np.isinf(x)
    if np.count_nonzero(even):
        x, y = np.where(even, 0.0, x), np.where(even, 0.0, y)
    return x - y


def _sinc_x(g, y, x):
    """Return g (cos πx - sinc x) / x; near 0, where this cancels, its power series."""
    t = np.pi * x
    near = np.abs(plain(t)) < 1.0
    t = np.where(near, t, 0.0)
    series = 1.0
    for k in range(8, 0, -1):
        series = 1.0 - t * t * series / (2 * k * (2 * k + 3))
    far = (np.cos(np.pi * x) - y) / np.where(near, 1.0, x)
    return g * np.where(near, -np.pi / 3.0 * t * series, far)


RULES |= {
    # elementwise, one argument
    np.negative: [lambda g, y, x: -g],
    np.positive: [lambda g, y, x: g],
    np.conjugate: [lambda g, y, x: g],
    np.deg2rad: [lambda g, y, x: np.deg2rad(g)],
    np.radians: [lambda g, y, x: np.radians(g)],
    np.rad2deg: [lambda g, y, x: np.rad2deg(g)],
    np.degrees: [lambda g, y, x: np.degrees(g)],
    np.absolute: [lambda g, y, x: g * np.sign(x)],
    np.fabs: [lambda g, y, x: g * np.sign(x)],
    np.square: [lambda g, y, x: g * (x + x)],
    np.sqrt: [lambda g, y, x: g * (0.5 / y)],
    np.cbrt: [lambda g, y, x: g / (3.0 * y * y)],
    np.reciprocal: [lambda g, y, x: -g * y * y],
    np.exp: [lambda g, y, x: g * y],
    np.exp2: [lambda g, y, x: g * (LN2 * y)],
    np.expm1: [lambda g, y, x: g * np.exp(x)],
    np.log: [lambda g, y, x: g / x],
    np.log2: [lambda g, y, x: g / LN2 / x],
    np.log10: [lambda g, y, x: g / LN10 / x],
    np.log1p: [lambda g, y, x: g / (1.0 + x)],
    np.sin: [lambda g, y, x: g * np.cos(x)],
    np.cos: [lambda g, y, x: -g * np.sin(x)],
    np.tan: [lambda g, y, x: g * (1.0 + y * y)],
    np.arcsin: [lambda g, y, x: g / np.sqrt(_one_less_square(x))],
    np.arccos: [lambda g, y, x: -g / np.sqrt(_one_less_square(x))],
    np.arctan: [arctan_gradient],
    np.sinh: [lambda g, y, x: g * np.cosh(x)],
    np.cosh: [lambda g, y, x: g * np.sinh(x)],
    np.tanh: [tanh_gradient],
    np.arcsinh: [lambda g, y, x: g / np.hypot(x, 1.0)],
    np.arccosh: [lambda g, y, x: g / np.sqrt(x - 1.0) / np.sqrt(x + 1.0)],
    np.arctanh: [lambda g, y, x: g / _one_less_square(x)],
    # elementwise, two arguments
    np.add: [lambda g, z, x, y: g, lambda g, z, x, y: g],
    np.subtract: [lambda g, z, x, y: g, lambda g, z, x, y: -g],
    np.multiply: [lambda g, z, x, y: g * y, lambda g, z, x, y: g * x],
    np.divide: [lambda g, z, x, y: g / y, lambda g, z, x, y: -g * z / y],
    np.remainder: [lambda g, z, x, y: g, lambda g, z, x, y: -g * np.floor_divide(x, y)],
    np.fmod: [lambda g, z, x, y: g, lambda g, z, x, y: -g * np.rint((x - z) / y)],
    np.power: [_power_x, _power_y],
    np.float_power: [_power_x, _power_y],
    np.maximum: [
        lambda g, z, x, y: won(g, x > y, x == y),
        lambda g, z, x, y: won(g, y > x, x == y),
    ],
    np.minimum: [
        lambda g, z, x, y: won(g, x < y, x == y),
        lambda g, z, x, y: won(g, y < x, x == y),
    ],
    np.fmax: [
        lambda g, z, x, y: won(g, (x == x) & ~(x <= y), x == y),
        lambda g, z, x, y: won(g, (y == y) & ~(y <= x), x == y),
    ],
    np.fmin: [
        lambda g, z, x, y: won(g, (x == x) & ~(x >= y), x == y),
        lambda g, z, x, y: won(g, (y == y) & ~(y >= x), x == y),
    ],
    np.heaviside: [
        lambda g, z, x, y: np.zeros_like(g),
        lambda g, z, x, y: np.where(x == 0, g, 0.0),
    ],
    np.copysign: [
        lambda g, z, x, y: g * (np.sign(x) * np.sign(z)),
        lambda g, z, x, y: np.zeros_like(g),
    ],
    np.logaddexp: [
        lambda g, z, x, y: g * record(sigmoid, lead(x, y)),
        lambda g, z, x, y: g * record(sigmoid, lead(y, x)),
    ],
    np.logaddexp2: [
        lambda g, z, x, y: g * record(sigmoid, LN2 * lead(x, y)),
        lambda g, z, x, y: g * record(sigmoid, LN2 * lead(y, x)),
    ],
    np.hypot: [lambda g, z, x, y: g * ratio(x, z), lambda g, z, x, y: g * ratio(y, z)],
    np.arctan2: [_arctan2_x, lambda g, z, x, y: -_arctan2_x(g, z, y, x)],
}


def primitive(*pullbacks):
    """Return a decorator that enters f with these pullbacks into RULES."""

    def enter(f):
        def none(*_):
            raise TypeError(f"an argument of {f.__name__} that is no array has no derivative rule")

        RULES[f] = [none if pullback is None else pullback for pullback in pullbacks]
        return f

    return enter


@primitive(lambda g, y, x: g * (y * record(sigmoid, -x)))
def sigmoid(x):
    """Return 1 / (1 + e⁻ˣ), to full relative precision in both tails."""
    t = np.exp(-np.abs(x))
    return np.where(x < 0, t, 1.0) / (1.0 + t)


@primitive(lambda g, y, x: g * (-2.0 * y * np.tanh(x)))
def sech_squared(x):
    t = np.exp(-2.0 * np.abs(x))
    return 4.0 * t / np.square(1.0 + t)


@primitive(_sinc_x)
def sinc(x):
    return np.sinc(x)


RULES[astype] = [lambda g, y, x, dtype: g.astype(x.dtype), None]


# Shapes


@primitive(lambda g, y, x, shape: g.reshape(x.shape), None)
def reshape(x, shape):
    return x.reshape(shape)


@primitive(lambda g, y, x, axes: g.transpose(axes and np.argsort(axes).tolist()), None)
def transpose(x, axes):
    return x.transpose(axes)


@primitive(lambda g, y, x, shape: g, None)
@whole
def broadcast_to(x, shape):
    """Return a new array, not a view as NumPy does; writing into new memory is also faster."""
    y = np.empty(shape, x.dtype)
    y[...] = x
    return y


def concatenate(indices, axis, *arrays):
    """Return np.concatenate(arrays, axis), in which each array is found at its index."""
    return np.concatenate(arrays, axis)


RULES[concatenate] = lambda g, y, indices, axis, *arrays: lambda i: g[indices[i - 2]]


@primitive(lambda g, y, x, shift, axis: np.roll(g, np.negative(shift), axis), None, None)
def roll(x, shift, axis):
    return np.roll(x, shift, axis)


@primitive(lambda g, y, x, k: np.tril(g, k), None)
def tril(x, k):
    return np.tril(x, k)


@primitive(lambda g, y, x, k: np.triu(g, k), None)
def triu(x, k):
    return np.triu(x, k)


# Indexing: the gradient of x[index] is a scatter of one piece; `autodiff.py` collects the pieces of
# one x. An index holds integers, slices, None, ... and arrays of integers or booleans.


@primitive(lambda g, y, x, index, shape: _at(g, index), None, None)
@whole
def scatter(x, index, shape):
    """Return an array of zeros to which x is added at [index]; repeated positions add up."""
    y = np.zeros(shape, x.dtype)
    if x.size == 1 or not _may_repeat(index):
        y[index] = x
    else:
        np.add.at(y, index, x)
    return y


@whole
def scatter_all(indices, shape, *pieces):
    """Return an array of zeros to which each piece is added at its index."""
    y = np.zeros(shape, np.result_type(*{piece.dtype for piece in pieces}))
    for index, piece in zip(indices, pieces):
        add_at(y, index, piece)
    return y


RULES[scatter_all] = lambda g, y, indices, shape, *pieces: lambda i: _at(g, indices[i - 2])


def _at(g, index):
    return indexable(g, index)[index] if tracers else g[index]


def add_at(y, index, x):
    """Add x to y[index] in place; repeated positions add up."""
    if type(index) is slice:  # a parameter's slice of θ: fast path for the common case
        part = y[index]
        part += x
    elif x.size == 1 or not _may_repeat(index):
        y[index] += x
    else:
        np.add.at(y, index, x)


def _may_repeat(index):
    """Return whether the index may select a position twice; only an array of integers may."""
    for i in index if type(index) is tuple else (index,):
        mask = type(i) is np.ndarray and i.dtype.kind == "b"
        if not (mask or type(i) in (int, slice) or i is None or i is Ellipsis):
            return True
    return False


@primitive(
    None,
    lambda g, z, condition, x, y: np.where(condition, g, 0.0),
    lambda g, z, condition, x, y: np.where(condition, 0.0, g),
)
def where(condition, x, y):
    return np.where(condition, x, y)


# Reductions; `axis` is None, an int or a tuple


def _expand(y, x, axis, keepdims):
    """Return y with its reduced axes restored, each of size 1."""
    if keepdims or y.shape == ():
        return y
    shape = list(x.shape)
    for i in axis if type(axis) is tuple else (axis,):
        shape[i] = 1
    return y.reshape(shape)


def _sum_x(g, y, x, axis, keepdims):
    """Return g, repeated along the axes of the sum."""
    g = _expand(g, x, axis, keepdims)
    if type(g) is Node:
        return record(broadcast_to, g, x.shape)
    if type(g) is Traced:
        return broadcast_to(g, x.shape)
    d = np.empty(x.shape, g.dtype)
    d[...] = g
    return d


@primitive(_sum_x, None, None)
def sum_(x, axis, keepdims):
    return np.add.reduce(x, axis, None, None, keepdims)


def _mean_x(g, y, x, axis, keepdims, where):
    """Return g / n, repeated along the axes of the mean."""
    if where is True:
        return _sum_x(g / max(1, x.size // max(1, g.size)), y, x, axis, keepdims)
    n = np.add.reduce(np.broadcast_to(where, x.shape), axis, x.dtype, None, keepdims)
    return np.where(where, _sum_x(g / n, y, x, axis, keepdims), 0.0)


@primitive(_mean_x, None, None, None)
def mean(x, axis, keepdims, where):
    if where is not True or x.size == 0 or x.itemsize == 2:  # in the last case in float32
        return np.mean(x, axis, keepdims=keepdims, where=where)
    y = np.add.reduce(x, axis, None, None, keepdims)
    return y / (x.size // y.size)


def _deviation(x, axis, where):
    """Return x - its mean, and the number of entries averaged.

    An entry is subtracted first, so that the deviations of constant data are exactly 0.
    """
    x = x - np.minimum.reduce(plain(x), axis, None, None, True, np.inf, where)
    total = np.add.reduce(x, axis, keepdims=True, where=where)
    if where is True:
        n = x.dtype.type(max(1, x.size // max(1, total.size)))
        return x - total / n, n
    n = np.add.reduce(np.broadcast_to(where, x.shape), axis, x.dtype, None, True)
    return np.where(where, x - total / np.maximum(n, 1.0), 0.0), n


@whole
def unit(x, axis):
    """Return x / ‖x‖₂, and 0 for x = 0; scale x first where squares overflow or underflow."""
    square = np.add.reduce(x * x, axis, keepdims=True)
    if np.count_nonzero((square > 1e-30) & np.isfinite(square)) == square.size:
        return x / np.sqrt(square)
    scale = np.maximum.reduce(np.abs(plain(x)), axis, None, None, True, 0.0)
    zero = scale == 0
    x = x / np.where(zero, 1.0, scale)
    square = np.where(zero, 1.0, np.add.reduce(x * x, axis, keepdims=True))
    return np.where(zero, 0.0, x / np.sqrt(square))


def _var_x(g, y, x, axis, ddof, keepdims, where):
    """Return g 2 (x - mean) / (n - ddof)."""
    d, n = _deviation(x, axis, where)
    d = _expand(g, x, axis, keepdims) * (d * np.divide(2.0, np.maximum(n - ddof, 0.0)))
    return d if where is True else np.where(where, d, 0.0)


def _std_x(g, y, x, axis, ddof, keepdims, where):
    """Return g (x - mean) / (y (n - ddof))."""
    d, n = _deviation(x, axis, where)
    d = _expand(g, x, axis, keepdims) * (unit(d, axis) / np.sqrt(np.maximum(n - ddof, 0.0)))
    return d if where is True else np.where(where, d, 0.0)


@primitive(_var_x, None, None, None, None)
def var(x, axis, ddof, keepdims, where):
    return np.var(x, axis, ddof=ddof, keepdims=keepdims, where=where)


@primitive(_std_x, None, None, None, None)
def std(x, axis, ddof, keepdims, where):
    return np.std(x, axis, ddof=ddof, keepdims=keepdims, where=where)


def _norm_x(g, y, x, ord, axis, keepdims):
    """Return g ∂‖x‖/∂x; for ord p, ∂‖x‖/∂x_i = sign x_i (|x_i|^p / Σ_j |x_j|^p)^(1 - 1/p)."""
    g = _expand(g, x, axis, keepdims)
    if ord in (None, 2, "fro"):
        return g * unit(x, axis)
    scale = np.maximum.reduce(np.abs(plain(x)), axis, None, None, True, 0.0)
    u = np.abs(x) / np.where(scale == 0, 1.0, scale)
    zero = (u == 0) & (not 1 < ord < 2)  # orders from 1 to 2 have infinite second derivatives there
    power = np.where(zero, 1.0, u) ** ord
    total = np.sum(np.where(zero, 0.0 if ord > 0 else np.inf, power), axis, keepdims=True)
    share = power / np.where(total == 0, 1.0, total)
    return g * np.where(zero, 0.0, np.sign(x) * share ** (1.0 - 1.0 / ord))


@primitive(_norm_x, None, None, None)
def norm(x, ord, axis, keepdims):
    """Return np.linalg.norm of vectors for ord None, 2, "fro" or p."""
    return np.linalg.norm(x, ord, axis, keepdims)


def _extremum_x(g, y, x, axis, keepdims):
    """Return g, shared equally by the entries equal to the extremum."""
    ties = x == _expand(y, x, axis, keepdims)
    count = np.add.reduce(ties, axis, g.dtype, None, True)
    return masked(_expand(g, x, axis, keepdims) / np.maximum(count, 1.0), ties)


def _extremum(ufunc):
    return primitive(_extremum_x, None, None)(
        lambda x, axis, keepdims: ufunc.reduce(x, axis, None, None, keepdims)
    )


max_, min_, nanmax, nanmin = map(_extremum, (np.maximum, np.minimum, np.fmax, np.fmin))


@whole
def logsumexp_gradient(g, y, x, axis, keepdims):
    """Return g exp(x - y)."""
    g, y = _expand(g, x, axis, keepdims), _expand(y, x, axis, keepdims)
    if not np.count_nonzero(np.isinf(y)):
        return g * np.exp(x - y)
    even = (x == y) & np.isinf(y)  # equal infinite operands share, as for max
    share = np.exp(np.where(even, 0.0, x) - np.where(even, 0.0, y))
    return g * (share / np.sum(share, axis, keepdims=True))


@primitive(logsumexp_gradient, None, None)
def logsumexp(x, axis, keepdims):
    return np.logaddexp.reduce(x, axis, None, None, keepdims)


@primitive(lambda g, y, x, axis: np.flip(np.cumsum(np.flip(g, axis), axis), axis), None)
def cumsum(x, axis):
    return np.cumsum(x, axis)


def _prod_x(g, y, x, axis, keepdims):
    """Return g times the product of the other factors, which may be zero."""
    if x.size == 0:
        return np.zeros(x.shape, x.dtype)
    whole = axis is None or not x.ndim
    axes = tuple(range(x.ndim)) if whole else normalize_axis_tuple(axis, x.ndim)
    front = range(len(axes))
    a = np.moveaxis(x, axes, front)
    shape, kept = a.shape, a.shape[len(axes) :]
    a = np.reshape(a, (-1, *kept))
    one = np.ones((1, *kept), x.dtype)
    before = np.cumprod(np.concatenate([one, a[:-1]]), 0)
    after = np.cumprod(np.concatenate([one, a[:0:-1]]), 0)[::-1]
    others = np.moveaxis(np.reshape(before * after, shape), front, axes)
    return _expand(g, x, axis, keepdims) * others


@primitive(_prod_x, None, None)
def prod(x, axis, keepdims):
    return np.multiply.reduce(x, axis, None, None, keepdims)


def _cumprod_x(g, y, x, axis):
    """Return (Π_{j<i} x_j) s_i with s_i = g_i + x_{i+1} s_{i+1}, in log₂ n steps of doubled length.

    After each step s_i is the sum of the first k terms, and a_i = x_{i+1} ... x_{i+k}.
    """
    s, y, x = (np.moveaxis(a, axis, 0) for a in (g, y, x))
    a, k = np.concatenate([x[1:], np.zeros_like(x[:1])]), 1
    while k < len(x):
        pad = np.zeros_like(a[:k])
        s = s + a * np.concatenate([s[k:], pad])
        a = a * np.concatenate([a[k:], pad])
        k *= 2
    return np.moveaxis(np.concatenate([np.ones_like(y[:1]), y[:-1]]) * s, 0, axis)


@primitive(_cumprod_x, None)
def cumprod(x, axis):
    return np.cumprod(x, axis)


# Linear algebra


def _matrices(g, a, b):
    """Return g, a, b of y = a @ b with the axes that matmul adds to vectors."""
    if b.ndim == 1:
        g, b = np.expand_dims(g, -1), b[:, None]
    if a.ndim == 1:
        g, a = np.expand_dims(g, -2), a[None, :]
    return g, a, b


def _dot(a, b):
    return a.dot(b) if type(b) is np.ndarray else np.dot(a, b)


def _matmul_a(g, y, a, b):
    """Return g bᵀ."""
    if b.ndim == 2 and a.ndim <= 2:
        return _dot(g, b.T)
    shape = a.shape
    g, a, b = _matrices(g, a, b)
    d = np.matmul(g, np.swapaxes(b, -1, -2))
    return np.reshape(d if d.shape == a.shape else unbroadcast(d, a.shape), shape)


def _matmul_b(g, y, a, b):
    """Return aᵀ g."""
    if b.ndim == 2 and a.ndim == 2:
        return _dot(a.T, g)
    if b.ndim == 2 and a.ndim == 1:
        return _dot(a[:, None], g[None, :])
    shape = b.shape
    g, a, b = _matrices(g, a, b)
    d = np.matmul(np.swapaxes(a, -1, -2), g)
    return np.reshape(d if d.shape == b.shape else unbroadcast(d, b.shape), shape)


RULES[np.matmul] = [_matmul_a, _matmul_b]


def _einsum_operand(k, g, inputs, output, *operands):
    """Return the gradient of operand k: an einsum of g with the other operands.

    If an index has its full size in operand k only, an operand of ones restores it. If an index
    occurs twice in operand k, an identity matrix restores its second position.
    """
    sizes = {}
    for letters, operand in zip(inputs, operands):
        for c, n in zip(letters, operand.shape):
            sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
    terms = [output, *inputs[:k], *inputs[k + 1 :]]
    factors = [g, *operands[:k], *operands[k + 1 :]]
    unused = iter(set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") - set(sizes))
    wanted = ""
    for c in inputs[k]:
        if c in wanted:
            twin = next(unused)
            terms.append(c + twin)
            factors.append(np.eye(sizes[c], dtype=g.dtype))
            c = twin
        elif not any(
            c in term and factor.shape[term.index(c)] == sizes[c]
            for term, factor in zip(terms, factors)
        ):
            terms.append(c)
            factors.append(np.ones(sizes[c], g.dtype))
        wanted += c
    return np.einsum(",".join(terms) + "->" + wanted, *factors)


def einsum(inputs, output, *operands):
    """Return np.einsum of explicit subscripts, one for each operand, without ellipses."""
    return np.einsum(",".join(inputs) + "->" + output, *operands)


RULES[einsum] = lambda g, y, *args: lambda i: _einsum_operand(i - 2, g, *args)


def _transposed(a):
    return np.swapaxes(a, -1, -2)


@primitive(lambda g, y, a: -(_transposed(y) @ g @ _transposed(y)))
def inv(a):
    return np.linalg.inv(a)


def _transposed_solve(a, g):
    """Return a⁻ᵀ g for the derivative of solve."""
    try:
        return np.linalg.solve(_transposed(a), g)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(
            "np.linalg.solve has no derivative here: the matrix is singular to rounding"
        ) from None


@primitive(
    lambda g, y, a, b: -(_transposed_solve(a, g) @ _transposed(y)),
    lambda g, y, a, b: _transposed_solve(a, g),
)
def solve(a, b):
    """Return a⁻¹ b for matrices b, or stacks of them."""
    return np.linalg.solve(a, b)


def _cholesky_a(g, y, a):
    """Return ā = Φ(S + Sᵀ), S = L⁻ᵀ Φ(Lᵀ ḡ) L⁻¹.

    Φ takes the lower triangle and halves its diagonal. ā is lower triangular, not symmetric,
    because NumPy reads only the lower triangle of a.
    """
    phi = np.tril(np.ones(a.shape[-2:], a.dtype)) - 0.5 * np.eye(a.shape[-1], dtype=a.dtype)
    lt = _transposed(y)
    left = np.linalg.solve(lt, phi * (lt @ g))
    s = np.linalg.solve(lt, _transposed(left))
    return phi * (s + _transposed(s))


@primitive(_cholesky_a)
def cholesky(a):
    return np.linalg.cholesky(a)


def _as_matrices(g):
    return np.expand_dims(g, (-1, -2))


def _minors(a):
    """Return (-1)^(i+j) times the determinant of a without row i and column j."""
    n = range(a.shape[-1])
    others = np.array([[j for j in n if j != i] for i in n], int)
    rows = [a[..., others[i, None, :, None], others[:, None, :]] for i in n]
    rows = [row[..., 0, 0] if len(n) == 2 else np.linalg.det(row) for row in rows]
    return np.stack(rows, -2) * (-1.0) ** np.add.outer(n, n).astype(a.dtype)


def _cofactors(y, a):
    """Return ∂(det a)/∂a: det(a) a⁻ᵀ, or from the minors where that is not accurate.

    It is not if a is singular. If a is small, only the minors give each entry its own digits.
    """
    if a.shape[-1] <= 4:
        return _minors(a) if a.size else a
    size = np.abs(plain(y))
    bad = ~((size >= np.finfo(a.dtype).tiny) & (size < np.inf))
    safe = np.where(_as_matrices(bad), np.eye(a.shape[-1], dtype=a.dtype), a)
    regular = _as_matrices(np.where(bad, 0.0, y)) * _transposed(np.linalg.inv(safe))
    if not np.count_nonzero(bad):
        return regular
    return np.where(_as_matrices(bad), record(scatter, _minors(a[bad]), bad, a.shape), regular)


@primitive(lambda g, y, a: _as_matrices(g) * _cofactors(y, a))
def det(a):
    return np.linalg.det(a)


def _logabsdet_a(g, y, a):
    """Return g a⁻ᵀ."""
    if np.any(np.isinf(plain(y))):
        raise np.linalg.LinAlgError(
            "np.linalg.slogdet of a singular matrix is -inf and has no derivative"
        )
    return _as_matrices(g) * _transposed(np.linalg.inv(a))


@primitive(_logabsdet_a)
def logabsdet(a):
    return np.linalg.slogdet(a)[1]
