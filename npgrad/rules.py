"""The table of derivative rules.

`RULES[f]` holds one pullback per positional argument of f: pullback(g, y, *args) is the gradient of
that argument, Σ_out g ∂y/∂arg, where y = f(*args) and g is the gradient of y. None stands for an
argument that has no derivative (a shape, an axis, a condition). The pullbacks are plain NumPy code:
they run on arrays, or on Nodes when derivatives are nested. If an argument was broadcast, its
gradient is larger than the argument; `autodiff.py` then sums the gradient to the argument's shape
(`unbroadcast`), so no rule handles broadcasting.

An f of any number of arrays takes them after two other arguments, and `RULES[f]` is one function:
RULES[f](g, y, *args) returns the function i -> gradient of args[i].

At points where a function is not differentiable: ties of maximum, minimum, max and min share the
gradient equally (the hand-written relu of npgrad.networks has slope 0 at 0); abs has slope 0 at 0.
If an operand of maximum or minimum is nan, the value is nan and the gradient is 0.
"""

import math

import numpy as np

from npgrad.node import RULES, Node, astype, record

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


def _won(g, wins, ties):
    """Return an operand's share of the gradient of maximum or minimum: all, half if tied, or 0."""
    return g * wins + (0.5 * g) * ties if np.count_nonzero(ties) else g * wins


def _power_x(g, z, x, y):
    if type(y) in (int, float):
        return g * (y * np.power(x, y - 1)) if y else g * 0.0
    zero = y == 0  # 0·x⁻¹ would be nan at x = 0
    return g * np.where(zero, 0.0, y * np.power(x, np.where(zero, 1.0, y - 1)))


def _power_y(g, z, x, y):
    return g * z * np.log(np.where((x == 0) & (y > 0), 1.0, x))  # 0^y has slope 0


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
    np.log2: [lambda g, y, x: g / (LN2 * x)],
    np.log10: [lambda g, y, x: g / (LN10 * x)],
    np.log1p: [lambda g, y, x: g / (1.0 + x)],
    np.sin: [lambda g, y, x: g * np.cos(x)],
    np.cos: [lambda g, y, x: -g * np.sin(x)],
    np.tan: [lambda g, y, x: g * (1.0 + y * y)],
    np.arcsin: [lambda g, y, x: g / np.sqrt((1.0 - x) * (1.0 + x))],
    np.arccos: [lambda g, y, x: -g / np.sqrt((1.0 - x) * (1.0 + x))],
    np.arctan: [lambda g, y, x: g / (1.0 + x * x)],
    np.sinh: [lambda g, y, x: g * np.cosh(x)],
    np.cosh: [lambda g, y, x: g * np.sinh(x)],
    np.tanh: [lambda g, y, x: g - g * y * y],
    np.arcsinh: [lambda g, y, x: g / np.hypot(x, 1.0)],
    np.arccosh: [lambda g, y, x: g / np.sqrt((x - 1.0) * (x + 1.0))],
    np.arctanh: [lambda g, y, x: g / ((1.0 - x) * (1.0 + x))],
    # elementwise, two arguments
    np.add: [lambda g, z, x, y: g, lambda g, z, x, y: g],
    np.subtract: [lambda g, z, x, y: g, lambda g, z, x, y: -g],
    np.multiply: [lambda g, z, x, y: g * y, lambda g, z, x, y: g * x],
    np.divide: [lambda g, z, x, y: g / y, lambda g, z, x, y: -g * z / y],
    np.remainder: [lambda g, z, x, y: g, lambda g, z, x, y: -g * np.floor_divide(x, y)],
    np.fmod: [lambda g, z, x, y: g, lambda g, z, x, y: -g * np.trunc(x / y)],
    np.power: [_power_x, _power_y],
    np.float_power: [_power_x, _power_y],
    np.maximum: [
        lambda g, z, x, y: _won(g, x > y, x == y),
        lambda g, z, x, y: _won(g, y > x, x == y),
    ],
    np.minimum: [
        lambda g, z, x, y: _won(g, x < y, x == y),
        lambda g, z, x, y: _won(g, y < x, x == y),
    ],
    np.logaddexp: [lambda g, z, x, y: g * np.exp(x - z), lambda g, z, x, y: g * np.exp(y - z)],
    np.logaddexp2: [lambda g, z, x, y: g * np.exp2(x - z), lambda g, z, x, y: g * np.exp2(y - z)],
    np.hypot: [lambda g, z, x, y: g * (x / z), lambda g, z, x, y: g * (y / z)],
    np.arctan2: [
        lambda g, z, x, y: g * (y / (x * x + y * y)),
        lambda g, z, x, y: -g * (x / (x * x + y * y)),
    ],
}


def primitive(*pullbacks):
    """Return a decorator that enters f with these pullbacks into RULES."""

    def enter(f):
        RULES[f] = pullbacks
        return f

    return enter


RULES[astype] = [lambda g, y, x, dtype: g.astype(x.dtype), None]


# Shapes


@primitive(lambda g, y, x, shape: g.reshape(x.shape), None)
def reshape(x, shape):
    return x.reshape(shape)


@primitive(lambda g, y, x, axes: g.transpose(axes and np.argsort(axes).tolist()), None)
def transpose(x, axes):
    return x.transpose(axes)


@primitive(lambda g, y, x, shape: g, None)
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


@primitive(lambda g, y, x, index, shape: g[index], None, None)
def scatter(x, index, shape):
    """Return an array of zeros to which x is added at [index]; repeated positions add up."""
    y = np.zeros(shape, x.dtype)
    if x.size == 1 or not _may_repeat(index):
        y[index] = x
    else:
        np.add.at(y, index, x)
    return y


def scatter_all(indices, shape, *pieces):
    """Return an array of zeros to which each piece is added at its index."""
    y = np.zeros(shape, np.result_type(*{piece.dtype for piece in pieces}))
    for index, piece in zip(indices, pieces):
        add_at(y, index, piece)
    return y


RULES[scatter_all] = lambda g, y, indices, shape, *pieces: lambda i: g[indices[i - 2]]


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
    g = _expand(g, x, axis, keepdims)
    if type(g) is Node:
        return record(broadcast_to, g, x.shape)
    d = np.empty(x.shape, g.dtype)
    d[...] = g
    return d


@primitive(_sum_x, None, None)
def sum_(x, axis, keepdims):
    return np.add.reduce(x, axis, None, None, keepdims)


def _mean_x(g, y, x, axis, keepdims):
    return _sum_x(g / (x.size // g.size), y, x, axis, keepdims)


@primitive(_mean_x, None, None)
def mean(x, axis, keepdims):
    y = np.add.reduce(x, axis, None, None, keepdims)
    return y / (x.size // y.size)


def _extremum_x(g, y, x, axis, keepdims):
    ties = x == _expand(y, x, axis, keepdims)
    return _expand(g, x, axis, keepdims) * ties / np.add.reduce(ties, axis, g.dtype, None, True)


@primitive(_extremum_x, None, None)
def max_(x, axis, keepdims):
    return np.maximum.reduce(x, axis, None, None, keepdims)


@primitive(_extremum_x, None, None)
def min_(x, axis, keepdims):
    return np.minimum.reduce(x, axis, None, None, keepdims)


def _logsumexp_x(g, y, x, axis, keepdims):
    return _expand(g, x, axis, keepdims) * np.exp(x - _expand(y, x, axis, keepdims))


@primitive(_logsumexp_x, None, None)
def logsumexp(x, axis, keepdims):
    return np.logaddexp.reduce(x, axis, None, None, keepdims)


@primitive(lambda g, y, x, axis: np.flip(np.cumsum(np.flip(g, axis), axis), axis), None)
def cumsum(x, axis):
    return np.cumsum(x, axis)


# Linear algebra


def _matrices(g, a, b):
    """Return g, a, b of y = a @ b with the axes that matmul adds to vectors."""
    if b.ndim == 1:
        g, b = np.expand_dims(g, -1), b[:, None]
    if a.ndim == 1:
        g, a = np.expand_dims(g, -2), a[None, :]
    return g, a, b


def _dot(a, b):
    return np.dot(a, b) if type(b) is Node else a.dot(b)


def _matmul_a(g, y, a, b):
    if b.ndim == 2 and a.ndim <= 2:
        return _dot(g, b.T)
    shape = a.shape
    g, a, b = _matrices(g, a, b)
    d = np.matmul(g, np.swapaxes(b, -1, -2))
    return np.reshape(d if d.shape == a.shape else unbroadcast(d, a.shape), shape)


def _matmul_b(g, y, a, b):
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


@primitive(
    lambda g, y, a, b: -(np.linalg.solve(_transposed(a), g) @ _transposed(y)),
    lambda g, y, a, b: np.linalg.solve(_transposed(a), g),
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


@primitive(lambda g, y, a: _as_matrices(g * y) * _transposed(np.linalg.inv(a)))
def det(a):
    return np.linalg.det(a)


@primitive(lambda g, y, a: _as_matrices(g) * _transposed(np.linalg.inv(a)))
def logabsdet(a):
    return np.linalg.slogdet(a)[1]
