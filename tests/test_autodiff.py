"""npgrad's derivatives = complex step or differences, for every rule; nesting, ties and errors."""

import copy
import inspect
import math
import pickle
import threading
from fractions import Fraction
from functools import partial, reduce
from itertools import chain
from operator import getitem
from zlib import crc32

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from npgrad import CannotTell, check_grads, grad, jacobian, rules, value_and_grad, vjp
from npgrad.autodiff import _Trace
from npgrad.node import CONSTANT, FUNCTIONS, RULES, Node, astype

EPS = np.finfo(float).eps
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=max(2, settings().max_examples * 3 // 5))  # of each of many rules
SHAPES = st.lists(st.integers(1, 3), max_size=3).filter(lambda s: math.prod(s) <= 6).map(tuple)


# Values: domains keep them off poles, kinks and ties.


def fill(draw, shape, domain="any"):
    rng = np.random.default_rng(draw(SEEDS))
    low, high = {
        "any": (-2.0, 2.0),
        "positive": (0.3, 2.5),
        "unit": (-0.8, 0.8),
        "over one": (1.3, 3.0),
        "above -1": (-0.7, 2.0),
    }.get(domain, (0.3, 2.0))
    x = rng.uniform(low, high, shape)
    if domain == "nonzero":
        x = x * rng.choice([-1.0, 1.0], shape)
    return x if shape == () and draw(st.booleans()) else np.asarray(x)


def distinct(draw, *shapes):
    """Arrays whose entries differ by 0.25 or more, and from 0 by 0.1."""
    rng = np.random.default_rng(draw(SEEDS))
    size = sum(math.prod(s) for s in shapes)
    values = 0.3 * (rng.permutation(2 * size + 2)[:size] - size - 0.5) + rng.uniform(0, 0.05, size)
    parts = np.split(values, np.cumsum([math.prod(s) for s in shapes])[:-1])
    return [part.reshape(s) for part, s in zip(parts, shapes)]


@st.composite
def broadcastable(draw, n=2, max_size=6):
    """n shapes that broadcast together to at most max_size entries."""
    full = draw(SHAPES.filter(lambda s: math.prod(s) <= max_size))
    shapes = []
    for _ in range(n):
        kept = tuple(1 if draw(st.integers(0, 3)) == 0 else m for m in full)
        shapes.append(kept[draw(st.integers(0, len(kept))) :] if draw(st.booleans()) else kept)
    return shapes


def axes(draw, ndim, several=True, none=True, empty=True):
    """An axis argument: None, an int of either sign, or a tuple."""
    kinds = ["none"] * none + ["int"] * (ndim > 0) + ["tuple"] * several
    kind = draw(st.sampled_from(kinds or ["none"]))
    sign = lambda i: draw(st.sampled_from([int, np.int64]))(i - ndim * draw(st.booleans()))
    if kind == "none":
        return None
    if kind == "int":
        return sign(draw(st.integers(0, ndim - 1)))
    some = draw(st.integers(0 if empty else 1, ndim))
    return tuple(sign(i) for i in draw(st.permutations(range(ndim)))[:some])


# Cases: CASES[np.f] draws (f, args) that use np.f; every float argument is differentiated.

CASES = {}


def named(functions):
    """The functions; a name is one that NumPy may lack."""
    found = [getattr(np, f, None) if isinstance(f, str) else f for f in functions]
    return [f for f in found if f is not None]


def case(*functions):
    def enter(draw_case):
        for function in named(functions):
            assert function not in CASES
            CASES[function] = partial(draw_case, function)
        return draw_case

    return enter


def elementwise(domain, *ufuncs):
    for ufunc in ufuncs:
        CASES[ufunc] = lambda draw, ufunc=ufunc: (ufunc, [fill(draw, draw(SHAPES), domain)])


elementwise("any", np.negative, np.positive, np.conjugate, np.square, np.exp, np.exp2, np.expm1)
elementwise("any", np.sin, np.cos, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh)
elementwise("any", np.sinc, np.nan_to_num)
elementwise("any", np.deg2rad, np.radians, np.rad2deg, np.degrees)
elementwise("nonzero", np.absolute, np.fabs, np.cbrt, np.reciprocal)
elementwise("positive", np.sqrt, np.log, np.log2, np.log10)
elementwise("above -1", np.log1p)
elementwise("unit", np.tan, np.arcsin, np.arccos, np.arctanh)
elementwise("over one", np.arccosh)


def binary(domain_x, domain_y, *ufuncs):
    def draw_case(draw, ufunc):
        x, y = (fill(draw, s, d) for s, d in zip(draw(broadcastable()), (domain_x, domain_y)))
        return ufunc, [x, y]

    for ufunc in ufuncs:
        CASES[ufunc] = partial(draw_case, ufunc=ufunc)


binary("any", "any", np.add, np.subtract, np.multiply, np.logaddexp, np.logaddexp2)
binary("any", "nonzero", np.divide)
binary("nonzero", "nonzero", np.hypot, np.arctan2, np.copysign)
binary("nonzero", "any", np.heaviside)
binary("positive", "any", np.power, np.float_power)


@case(np.maximum, np.minimum, np.fmax, np.fmin)
def _(function, draw):
    return function, distinct(draw, *draw(broadcastable()))


@case(np.remainder, np.fmod)
def _(function, draw):
    shape_x, shape_y = draw(broadcastable())
    y = fill(draw, shape_y, "nonzero")
    shape = np.broadcast_shapes(shape_x, shape_y)
    whole = np.random.default_rng(draw(SEEDS)).integers(-3, 3, shape)
    x = (whole + 0.5) * y + 0.1 * fill(draw, whole.shape, "unit") * y
    return function, [x, y]


# shapes


def of_one(function, draw, make, domain="any", shapes=SHAPES):
    """The case of function(x, ...) with x of any shape; make(draw, x) gives the other arguments."""
    x = fill(draw, draw(shapes), domain)
    args, kwargs = make(draw, np.asarray(x))
    return (lambda x: function(x, *args, **kwargs)), [x]


def shape_case(*functions, shapes=SHAPES, domain="any"):
    def enter(make):
        for function in named(functions):
            CASES[function] = partial(
                of_one, function, make=lambda draw, x: make(draw, x), domain=domain, shapes=shapes
            )

    return enter


def at_least(ndim, max_size=8):
    return (
        st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim + 1)
        .filter(lambda s: math.prod(s) <= max_size)
        .map(tuple)
    )


@shape_case(np.reshape)
def _(draw, x):
    shape = [*draw(st.permutations(x.shape)), *[1] * draw(st.integers(0, 2))]
    if shape and draw(st.booleans()):
        shape[draw(st.integers(0, len(shape) - 1))] = -1
    return [draw(st.sampled_from([-1, tuple(shape), shape]))], {}


@shape_case(np.ravel, np.copy, np.real)
def _(draw, x):
    return [], {}


@shape_case(np.transpose, np.permute_dims)
def _(draw, x):
    order = [i - x.ndim * draw(st.booleans()) for i in draw(st.permutations(range(x.ndim)))]
    return draw(st.sampled_from([[], [None], [tuple(order)], [order]])), {}


@shape_case(np.swapaxes, shapes=at_least(1))
def _(draw, x):
    return [axes(draw, x.ndim, False, False), axes(draw, x.ndim, False, False)], {}


@shape_case(np.matrix_transpose, np.linalg.matrix_transpose, shapes=at_least(2))
def _(draw, x):
    return [], {}


@shape_case(np.moveaxis, shapes=at_least(1))
def _(draw, x):
    source = draw(st.permutations(range(x.ndim)))[: draw(st.integers(1, x.ndim))]
    destination = draw(st.permutations(range(-x.ndim, 0)))[: len(source)]
    if len(source) == 1 and draw(st.booleans()):
        return [source[0], destination[0]], {}
    return [source, tuple(destination)], {}


@shape_case(np.expand_dims)
def _(draw, x):
    n = x.ndim
    return [draw(st.sampled_from([0, -1, n, (0, -1), (0, n + 1), [0], np.int64(n)]))], {}


@shape_case(np.squeeze)
def _(draw, x):
    ones = [i - x.ndim * draw(st.booleans()) for i, n in enumerate(x.shape) if n == 1]
    return draw(st.sampled_from([[], [None], [tuple(ones)], *[[i] for i in ones]])), {}


@shape_case(np.broadcast_to)
def _(draw, x):
    shape = tuple(2 if n == 1 and draw(st.booleans()) else n for n in x.shape)
    return [draw(st.sampled_from([(2, *shape), shape] + [3] * (x.shape in ((), (3,)))))], {}


@case(np.broadcast_arrays)
def _(function, draw):
    args = [fill(draw, s) for s in draw(broadcastable(3, 4))]
    return (lambda *args: reduce(np.multiply, function(*args))), args


@case(np.atleast_1d, np.atleast_2d, np.atleast_3d)
def _(function, draw):
    x, y = fill(draw, draw(SHAPES)), fill(draw, (2,))
    if draw(st.booleans()):
        return function, [x]
    return (lambda x, y: np.sum(function(x, y)[0]) * function(x, y, [1.0, 2.0])[1]), [x, y]


@case(np.concatenate)
def _(function, draw):
    shape = list(draw(at_least(1, 4)))
    axis = draw(st.integers(0, len(shape) - 1))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        shape[axis] = draw(st.integers(0, 2))
        parts.append(fill(draw, tuple(shape)))
    axis = draw(st.sampled_from([axis, axis - len(shape), None]))
    constant = draw(st.booleans())
    extra = [np.ones(shape).tolist()] if constant and shape[axis or 0] else []
    return (lambda *parts: function([*parts, *extra, parts[0]], axis=axis)), parts


@case(np.stack)
def _(function, draw):
    shape = draw(SHAPES.filter(lambda s: math.prod(s) <= 3))
    parts = [fill(draw, shape) for _ in range(draw(st.integers(1, 3)))]
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return (lambda *parts: function([*parts, np.ones(shape), parts[0]], axis)), parts


@shape_case(np.rollaxis, shapes=at_least(1))
def _(draw, x):
    return [axes(draw, x.ndim, False, False), draw(st.integers(-x.ndim, x.ndim))], {}


@case("unstack")
def _(function, draw):
    shape = draw(at_least(1))
    axis = axes(draw, len(shape), False, False)
    return (lambda x: weigh(function(x, axis=axis))), [fill(draw, shape)]


@case(np.hstack, np.vstack, np.dstack, np.column_stack)
def _(function, draw):
    shape = draw(st.sampled_from([(2,), (2, 2)] + [()] * (function is not np.column_stack)))
    parts = [fill(draw, shape) for _ in range(draw(st.integers(1, 2)))]
    return (lambda *parts: function([*parts, np.ones(shape).tolist()])), parts


@case(np.append)
def _(function, draw):
    x, y = fill(draw, (2, 2)), fill(draw, (1, 2))
    axis = draw(st.sampled_from([None, 0, -2]))
    return (lambda x, y: function(x, y, axis)), [x, y]


def weigh(pieces):
    return np.stack([np.sum(np.sin(i + p)) for i, p in enumerate(pieces)])


@case(np.split, np.array_split)
def _(function, draw):
    shape = draw(at_least(1))
    axis = axes(draw, len(shape), False, False)
    n = shape[axis]
    sections = [n, [1], [0, 2], [2, 1], [5]] + [2] * (function is np.array_split)
    sections = draw(st.sampled_from(sections))
    return (lambda x: weigh(function(x, sections, axis))), [fill(draw, shape)]


@case(np.hsplit, np.vsplit, np.dsplit)
def _(function, draw):
    least = {np.hsplit: 1, np.vsplit: 2, np.dsplit: 3}[function]
    sections = draw(st.sampled_from([1, [1], [0, 2], [2, 1], [5]]))
    return (lambda x: weigh(function(x, sections))), [fill(draw, draw(at_least(least)))]


@shape_case(np.tile)
def _(draw, x):
    return [draw(st.sampled_from([2, 0, (2,), (1, 2), [2, 1, 1], np.int64(2)]))], {}


@shape_case(np.repeat)
def _(draw, x):
    axis = axes(draw, x.ndim, several=False)
    n = x.size if axis is None else x.shape[axis]
    rng = np.random.default_rng(draw(SEEDS))
    return [draw(st.sampled_from([2, 0, rng.integers(0, 3, n)])), axis], {}


@shape_case(np.flip)
def _(draw, x):
    return [axes(draw, x.ndim)], {}


@shape_case(np.fliplr, shapes=at_least(2))
def _(draw, x):
    return [], {}


@shape_case(np.flipud, shapes=at_least(1))
def _(draw, x):
    return [], {}


@shape_case(np.rot90, shapes=at_least(2))
def _(draw, x):
    return [draw(st.integers(-5, 5)), draw(st.permutations(range(-x.ndim, 0)))[:2]], {}


@shape_case(np.unwrap, shapes=at_least(1))
def _(draw, x):
    return [], {"axis": axes(draw, x.ndim, False, False), "period": 1.1}


@shape_case(np.roll, shapes=at_least(1))
def _(draw, x):
    axis = axes(draw, x.ndim)
    shift = draw(st.integers(-4, 4))
    if isinstance(axis, tuple) and draw(st.booleans()):
        shift = tuple(draw(st.integers(-4, 4)) for _ in axis)
    return [shift, axis], {}


@shape_case(np.pad)
def _(draw, x):
    widths = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in x.shape)
    return [draw(st.sampled_from([1, widths or 0]))], {}


@case(np.full_like)
def _(function, draw):
    x = fill(draw, draw(st.sampled_from([(), (2,)])))
    return (lambda x: function(np.stack([x, x]), x) * function(x, 3.0)), [x]


# picking


@case(np.where)
def _(function, draw):
    shape_c, shape_x, shape_y = draw(broadcastable(3))
    condition = np.random.default_rng(draw(SEEDS)).random(shape_c) < 0.5
    x, y = fill(draw, shape_x), fill(draw, shape_y)
    if draw(st.booleans()):
        return (lambda x: function(condition, x, 0.0)), [x]
    return (lambda x, y: function(condition, x, y)), [x, y]


@case(np.select)
def _(function, draw):
    shape_c, shape_x, shape_y = draw(broadcastable(3))
    one, two = np.random.default_rng(draw(SEEDS)).random((2, *shape_c)) < 0.5
    x, y = fill(draw, shape_x), fill(draw, shape_y)
    default = draw(st.sampled_from([0, 1.5, np.float32(2.0), np.ones(shape_c)]))
    if draw(st.booleans()):
        return (lambda x: function([one, two], [x, 3], np.sum(x))), [x]
    return (lambda x, y: function([one, two], [x, y], default)), [x, y]


@shape_case(np.delete, shapes=at_least(1))
def _(draw, x):
    axis = axes(draw, x.ndim, several=False)
    return [draw(st.sampled_from([0, -1, [0], slice(1, None), []])), axis], {}


@case(np.bincount)
def _(function, draw):
    (x,) = distinct(draw, (draw(st.integers(1, 4)),))
    places = np.random.default_rng(draw(SEEDS)).integers(0, 3, x.shape)
    minlength = draw(st.integers(0, 5))
    return (lambda x: function(places, x, minlength)), [x]


@shape_case(np.take, shapes=at_least(1))
def _(draw, x):
    axis = axes(draw, x.ndim, several=False)
    n = x.size if axis is None else x.shape[axis]
    rng = np.random.default_rng(draw(SEEDS))
    indices = rng.integers(-n, n, draw(st.sampled_from([(), (3,), (2, 2)])))
    return [draw(st.sampled_from([indices, indices.tolist()])), axis], {}


@shape_case(np.take_along_axis, shapes=at_least(1))
def _(draw, x):
    axis = axes(draw, x.ndim, several=False)
    rng = np.random.default_rng(draw(SEEDS))
    if axis is None:
        return [rng.integers(0, x.size, 4), None], {}
    shape = [1 if draw(st.booleans()) and i != axis % x.ndim else n for i, n in enumerate(x.shape)]
    shape[axis] = draw(st.integers(1, 3))
    return [rng.integers(-x.shape[axis], x.shape[axis], shape), axis], {}


@case(np.sort)
def _(function, draw):
    shape = draw(at_least(1))
    axis = axes(draw, len(shape), several=False)
    return (lambda x: function(x, axis)), distinct(draw, shape)


@case(np.partition)
def _(function, draw):
    shape = draw(at_least(1))
    axis = axes(draw, len(shape), several=False)
    size = math.prod(shape) if axis is None else shape[axis]
    kth = draw(st.sampled_from([0, -1, [0, size - 1], size // 2]))
    return (lambda x: function(x, kth, axis)), distinct(draw, shape)


@case(np.median)
def _(function, draw):
    shape = draw(at_least(1))
    axis, keepdims = axes(draw, len(shape), empty=False), draw(st.booleans())
    return (lambda x: function(x, axis, keepdims=keepdims)), distinct(draw, shape)


@case(np.quantile, np.percentile)
def _(function, draw):
    shape = draw(at_least(1))
    axis, keepdims = axes(draw, len(shape), empty=False), draw(st.booleans())
    if draw(st.booleans()):
        q = np.float64(0.43 if function is np.quantile else 43.0)  # between two entries
        return (lambda x, q: function(x, q, axis, keepdims=keepdims)), [*distinct(draw, shape), q]
    q = draw(st.sampled_from([0, 1, 0.35, 0.5, [0.2, 0.8], [[0.3], [1.0]], np.zeros(0)]))
    q = q if function is np.quantile else np.multiply(q, 100.0).tolist()
    return (lambda x: function(x, q, axis, keepdims=keepdims)), distinct(draw, shape)


@shape_case(np.diagonal, np.trace, shapes=at_least(2))
def _(draw, x):
    axis1, axis2 = draw(st.permutations(range(-x.ndim, 0)))[:2]
    return [draw(st.integers(-3, 3)), axis1, axis2][: draw(st.integers(0, 1)) * 3], {}


@shape_case(np.linalg.diagonal, np.linalg.trace, shapes=at_least(2))
def _(draw, x):
    return [], {"offset": draw(st.integers(-3, 3))}


@shape_case(np.diag, shapes=st.sampled_from([(1,), (3,), (2, 2), (3, 2), (2, 3)]))
def _(draw, x):
    return [draw(st.integers(-3, 3))], {}


@shape_case(np.tril, np.triu, shapes=at_least(1))
def _(draw, x):
    return [draw(st.integers(-2, 2))], {}


@shape_case(np.diff, shapes=at_least(1))
def _(draw, x):
    return [draw(st.integers(0, 2)), axes(draw, x.ndim, False, False)], {}


# reductions


def masked(draw, shape, initial):
    """The keywords of a reduction."""
    rng = np.random.default_rng(draw(SEEDS))
    options = {"keepdims": draw(st.booleans())}
    if draw(st.booleans()):
        options |= initial
        if draw(st.booleans()):
            options["where"] = rng.random(shape[-draw(st.integers(0, len(shape))) :]) < 0.7
    return options


@shape_case(np.sum, np.nansum)
def _(draw, x):
    return [axes(draw, x.ndim)], masked(draw, x.shape, {"initial": 1.5})


@shape_case(np.add.reduce, np.logaddexp.reduce, shapes=at_least(1))
def _(draw, x):
    axis = axes(draw, x.ndim)
    return draw(st.sampled_from([[], [axis]])), draw(st.sampled_from([{}, {"keepdims": True}]))


@shape_case(np.multiply.reduce, shapes=at_least(1))
def _(draw, x):
    return draw(st.sampled_from([[], [axes(draw, x.ndim)]])), {}


@case(
    *(np.max, np.min, np.amax, np.amin, np.maximum.reduce, np.minimum.reduce, np.ptp),
    *(np.nanmax, np.nanmin, np.fmax.reduce, np.fmin.reduce),
)
def _(function, draw):
    shape = draw(at_least(1))
    axis = axes(draw, len(shape), empty=False)
    options = masked(draw, shape, {} if function is np.ptp else {"initial": 0.02})
    if function is np.ptp:
        options.pop("where", None)
    return (lambda x: function(x, axis=axis, **options)), distinct(draw, shape)


@case(np.mean, np.nanmean)
def _(function, draw):
    shape = draw(SHAPES)
    axis, options = axes(draw, len(shape)), {"keepdims": draw(st.booleans())}
    if draw(st.booleans()):
        where = np.random.default_rng(draw(SEEDS)).random(shape) < 0.6
        options["where"] = where | (np.sum(where, axis, keepdims=True) == 0)
    return (lambda x: function(x, axis, **options)), [fill(draw, shape)]


@case(np.prod, np.nanprod)
def _(function, draw):
    shape = draw(SHAPES)
    x = np.asarray(fill(draw, shape))
    zero = np.random.default_rng(draw(SEEDS)).random(shape) < 0.2
    axis, options = axes(draw, len(shape)), masked(draw, shape, {"initial": 0.5})
    return (lambda x: function(x, axis, **options)), [np.where(zero, 0.0, x)]


@case(np.average)
def _(function, draw):
    shape = draw(at_least(1, 6))
    axis = axes(draw, len(shape), empty=False)
    x, w = fill(draw, shape), fill(draw, shape, "positive")
    if axis is not None and draw(st.booleans()):
        over = axis if isinstance(axis, tuple) else (axis,)
        w = fill(draw, tuple(shape[i] for i in over), "positive")
    if draw(st.booleans()):
        return (lambda x: function(x, axis)), [x]
    return (lambda x, w: function(x, axis, w)), [x, w]


@case(np.var, np.std, np.nanvar, np.nanstd)
def _(function, draw):
    shape = draw(st.sampled_from([(3,), (2, 3), (2, 2, 2)]))
    axis = draw(st.sampled_from([None, 0, -1, (0,), tuple(range(len(shape)))]))
    ddof = draw(st.sampled_from([0, 1, 0.5]))
    options = {"ddof": ddof, "keepdims": draw(st.booleans())}
    if draw(st.booleans()):
        where = np.random.default_rng(draw(SEEDS)).random(shape) < 0.5
        options["where"] = where | (np.sum(where, axis, keepdims=True) < 2)
    return (lambda x: function(x, axis, **options)), distinct(draw, shape)


@shape_case(np.cumprod, shapes=SHAPES.filter(lambda s: math.prod(s) < 6))
def _(draw, x):
    return [axes(draw, x.ndim, several=False)], {}


@shape_case("cumulative_sum", "cumulative_prod", shapes=at_least(1, 4))
def _(draw, x):
    axis = axes(draw, x.ndim, False, x.ndim == 1)
    return [], {"axis": axis, "include_initial": draw(st.booleans())}


@shape_case(np.cumsum)
def _(draw, x):
    return [axes(draw, x.ndim, several=False)], {}


@case(np.clip)
def _(function, draw):
    shape_x, shape_low, shape_high = draw(broadcastable(3))
    (x,) = distinct(draw, shape_x)
    low, high = np.full(shape_low, -0.28), np.full(shape_high, 0.32)
    pick = draw(st.integers(0, 3))
    if pick == 0:
        return (lambda x: function(x, None, 0.32)), [x]
    if pick == 1:
        return (lambda x: function(x, -0.28, None)), [x]
    if pick == 2:
        return (lambda low, high: function(x, low, high)), [low, high]
    return function, [x, low, high]


@case(np.linspace, np.logspace)
def _(function, draw):
    shapes = draw(broadcastable(2, 3))
    start, stop = (fill(draw, s, "unit") for s in shapes)
    num, endpoint = draw(st.integers(0, 4)), draw(st.booleans())
    axis = draw(st.sampled_from([0, -1]))
    if draw(st.booleans()):
        return (lambda x: function(x, 2, num, endpoint, axis=axis)), [start]
    return (lambda x, y: function(x, y, num, endpoint, axis=axis)), [start, stop]


@case(np.geomspace)
def _(function, draw):
    start, stop = fill(draw, (), "positive"), fill(draw, (), "positive")
    sign, num, endpoint = (
        draw(st.sampled_from([1, -1])),
        draw(st.integers(0, 4)),
        draw(st.booleans()),
    )
    return (lambda x, y: function(sign * x, sign * y, num, endpoint)), [start, stop]


@case(np.interp)
def _(function, draw):
    n = draw(st.integers(2, 4))
    xp = np.arange(n) + fill(draw, (n,), "unit") / 4
    x = np.random.default_rng(draw(SEEDS)).choice(np.arange(-1, n) + 0.5, draw(SHAPES))
    ends = draw(st.sampled_from([(None, None), (0.5, -1.0)]))
    return (lambda x, xp, fp: function(x, xp, fp, *ends)), [x, xp, fill(draw, (n,))]


@case(np.trapezoid)
def _(function, draw):
    shape = draw(at_least(1, 6))
    axis = axes(draw, len(shape), False, False)
    y = fill(draw, shape)
    if draw(st.booleans()):
        return (lambda y: function(y, dx=0.5, axis=axis)), [y]
    x = fill(draw, draw(st.sampled_from([shape, (shape[axis],)])))
    return (lambda y, x: function(y, x, axis=axis)), [y, x]


@case(np.gradient)
def _(function, draw):
    shape = draw(st.sampled_from([(2,), (3,), (4,), (3, 2), (3, 4)]))
    order = draw(st.sampled_from([1, 2])) if min(shape) > 2 else 1
    f, h = fill(draw, shape), fill(draw, (), "positive")
    points = [np.cumsum(fill(draw, (n,), "positive")) for n in shape]
    pile = lambda slopes: np.stack(slopes) if isinstance(slopes, tuple) else slopes
    if draw(st.booleans()):
        return (lambda f, h: pile(function(f, h, edge_order=order))), [f, h]
    if draw(st.booleans()):
        axis = draw(st.integers(-len(shape), -1))
        return (lambda f, x: function(f, x, axis=axis, edge_order=order)), [f, points[axis]]
    return (lambda f, *x: pile(function(f, *x, edge_order=order))), [f, *points]


@case(np.polyval)
def _(function, draw):
    return function, [fill(draw, (draw(st.integers(1, 4)),)), fill(draw, draw(SHAPES))]


@shape_case(np.vander, domain="nonzero", shapes=st.sampled_from([(1,), (3,)]))
def _(draw, x):
    return [draw(st.sampled_from([None, 0, 1, 4])), draw(st.booleans())], {}


# products

BATCHES = st.sampled_from([(), (), (2,), (1,), (2, 1), (1, 2)])


@st.composite
def matrix_shapes(draw):
    """Shapes of a and b for a @ b, at every combination of ranks."""
    n, k, m = (draw(st.integers(1, 2)) for _ in range(3))
    a = draw(st.sampled_from([(k,), (n, k), (*draw(BATCHES), n, k)]))
    b = draw(st.sampled_from([(k,), (k, m), (*draw(BATCHES), k, m)]))
    return a, b


@case(np.matmul, np.linalg.matmul)
def _(function, draw):
    a, b = draw(matrix_shapes())
    if function is np.linalg.matmul and len(a) == len(b) == 1:
        a = (1, *a)
    return function, [fill(draw, a), fill(draw, b)]


@case(np.dot)
def _(function, draw):
    k = draw(st.integers(1, 2))
    a = draw(st.sampled_from([(), (k,), (2, k), (2, 1, k)]))
    b = draw(st.sampled_from([(), (k,), (k, 2), (2, k, 2), (2, 1, k, 1)]))
    return function, [fill(draw, a), fill(draw, b)]


@case(np.inner)
def _(function, draw):
    k = draw(st.integers(1, 2))
    a = draw(st.sampled_from([(), (k,), (2, k), (2, 1, k)]))
    b = draw(st.sampled_from([(), (k,), (2, k), (1, 2, k)]))
    return function, [fill(draw, a), fill(draw, b)]


@case(np.vdot)
def _(function, draw):
    shape = draw(SHAPES)
    return function, [fill(draw, shape), fill(draw, draw(st.permutations(shape).map(tuple)))]


@case(np.outer, np.linalg.outer)
def _(function, draw):
    shapes = [(1,), (2,), (3,)] + [(), (2, 1)] * (function is np.outer)
    return function, [fill(draw, draw(st.sampled_from(shapes))) for _ in range(2)]


@case(np.vecdot, np.linalg.vecdot)
def _(function, draw):
    shape = draw(at_least(1, 4))
    axis = axes(draw, len(shape), False, False)
    return (lambda x, y: function(x, y, axis=axis)), [fill(draw, shape), fill(draw, shape)]


@case("matvec", "vecmat")
def _(function, draw):
    n, m = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    shapes = [(*draw(BATCHES), n, m), (*draw(BATCHES), m)]
    matvec = function.__name__ == "matvec"
    args = [fill(draw, s) for s in (shapes if matvec else shapes[::-1])]
    if not matvec:
        args[1] = np.swapaxes(args[1], -1, -2)
    return function, args


@case(np.kron)
def _(function, draw):
    shapes = st.sampled_from([(), (2,), (1, 2), (2, 1, 1)])
    return function, [fill(draw, draw(shapes)), fill(draw, draw(shapes))]


@case(np.cross, np.linalg.cross)
def _(function, draw):
    a, b = draw(st.sampled_from([((3,), (3,)), ((2, 3), (3,)), ((1, 3), (2, 3)), ((3, 3), (3, 3))]))
    axis = draw(st.sampled_from([-1, len(a) - 1])) if len(a) == len(b) else -1
    return (lambda a, b: function(a, b, axis=axis)), [fill(draw, a), fill(draw, b)]


@case(np.tensordot, np.linalg.tensordot)
def _(function, draw):
    a, b, over = draw(
        st.sampled_from(
            [
                ((2,), (2,), 1),
                ((2,), (3,), 0),
                ((2, 2), (2, 2), 2),
                ((2, 1, 2), (1, 2, 2), 2),
                ((2, 3), (3,), ((1,), (0,))),
                ((3, 2), (2, 3), ((0, 1), (1, 0))),
                ((2, 2), (2, 2), (-1, -1)),
                ((), (2,), 0),
                ((2, 1), (2, 1), [[0], [0]]),
            ]
        )
    )
    return (lambda x, y: function(x, y, axes=over)), [fill(draw, a), fill(draw, b)]


EINSUMS = [
    ("ij,jk->ik", (2, 2), (2, 2)),
    ("ij,jk", (2, 3), (3, 1)),
    ("ij->ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iji->j", (2, 2, 2)),
    ("iij,j->i", (2, 2, 2), (2,)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (2,), (3,)),
    ("i,j->", (2,), (3,)),
    ("ij,ij->i", (2, 2), (2, 2)),
    ("...i,...i->...", (2, 2), (2, 2)),
    ("...ij,...jk", (2, 1, 2), (2, 1)),
    ("i...,i...->...", (2, 2), (2, 1)),
    ("...,...", (2,), ()),
    ("...i->...", (2, 3)),
    ("ij,j", (1, 2), (2,)),
    ("ij,ij->ij", (1, 2), (2, 2)),
    ("bi,ij,bj->b", (2, 2), (2, 2), (2, 2)),
    (" i j , j -> i ", (2, 2), (2,)),
    ("a,b,c->cab", (2,), (1,), (2,)),
    ("ijk->kij", (2, 1, 3)),
    (",i->i", (), (2,)),
    ("ij,jk->ik", (2, 1), (3, 2)),
    ("i,i", (1,), (3,)),
    ("...i,...i", (2, 1, 1), (3, 2)),
]


@case(np.einsum)
def _(function, draw):
    subscripts, *shapes = draw(st.sampled_from(EINSUMS))
    args = [fill(draw, s) for s in shapes]
    if subscripts == "ij,jk->ik" and draw(st.booleans()):
        return (lambda x, y: function(x, [0, 1], y, [1, 2], [0, 2])), args
    if subscripts == "...i,...i->..." and draw(st.booleans()):
        return (lambda x, y: function(x, [..., 0], y, [..., 0], [...])), args
    return (lambda *args: function(subscripts, *args, optimize=draw is None)), args


@case(np.linalg.norm)
def _(function, draw):
    shape = draw(at_least(1, 6))
    axis = axes(draw, len(shape), several=False)
    (x,) = distinct(draw, shape)
    orders = [None]
    if len(shape) == 1 or axis is not None:
        orders += [1, 2, np.inf, -np.inf, 3, 1.5, -1]
    elif len(shape) == 2:
        orders += ["fro"]
    order, keepdims = draw(st.sampled_from(orders)), draw(st.booleans())
    return (lambda x: function(x, order, axis, keepdims)), [x]


@case(np.linalg.vector_norm)
def _(function, draw):
    shape = draw(at_least(1, 6))
    axis = axes(draw, len(shape), empty=False)
    order, keepdims = draw(st.sampled_from([2, 1, 3, np.inf])), draw(st.booleans())
    return (lambda x: function(x, axis=axis, keepdims=keepdims, ord=order)), distinct(draw, shape)


@case(np.linalg.matrix_norm)
def _(function, draw):
    keepdims = draw(st.booleans())
    return (lambda x: function(x, keepdims=keepdims)), distinct(draw, draw(at_least(2, 6)))


def regular(draw, *batch, n=2):
    """Matrices with singular values between about 1 and 3."""
    return fill(draw, (*batch, n, n), "unit") * (0.8 / n) + np.diag([2.0, -1.8, 1.9][:n])


@case(np.linalg.inv, np.linalg.det)
def _(function, draw):
    return function, [regular(draw, *draw(st.sampled_from([(), (2,)])), n=draw(st.integers(1, 2)))]


@case(np.linalg.slogdet)
def _(function, draw):
    a = regular(draw, *draw(st.sampled_from([(), (2,)])))
    return draw(st.sampled_from([lambda a: function(a)[1], lambda a: function(a).logabsdet])), [a]


@case(np.linalg.solve)
def _(function, draw):
    a, b = draw(
        st.sampled_from([((), (2,)), ((), (2, 2)), ((2,), (2, 1)), ((2,), (2,)), ((1,), (2, 2, 1))])
    )
    return function, [regular(draw, *a), fill(draw, b)]


@case(np.linalg.cholesky)
def _(function, draw):
    a = fill(draw, (*draw(st.sampled_from([(), (2,)])), 2, 2), "unit")
    upper = draw(st.booleans())
    return (lambda a: function(a, upper=upper)), [a @ np.swapaxes(a, -1, -2) + np.eye(2)]


PRIMITIVES = {  # the rules that are not those of a ufunc, and the case that needs each
    rules.reshape: np.reshape,
    rules.transpose: np.moveaxis,
    rules.broadcast_to: np.broadcast_to,
    rules.concatenate: np.stack,
    rules.roll: np.roll,
    rules.tril: np.tril,
    rules.triu: np.triu,
    rules.scatter: np.pad,
    rules.where: np.where,
    rules.sum_: np.sum,
    rules.mean: np.mean,
    rules.max_: np.max,
    rules.min_: np.min,
    rules.logsumexp: np.logaddexp.reduce,
    rules.nanmax: np.nanmax,
    rules.nanmin: np.nanmin,
    rules.var: np.var,
    rules.std: np.std,
    rules.norm: np.linalg.matrix_norm,
    rules.sinc: np.sinc,
    rules.cumsum: np.cumsum,
    rules.prod: np.prod,
    rules.cumprod: np.cumprod,
    rules.einsum: np.einsum,
    rules.inv: np.linalg.inv,
    rules.solve: np.linalg.solve,
    rules.cholesky: np.linalg.cholesky,
    rules.det: np.linalg.det,
    rules.logabsdet: np.linalg.slogdet,
    getitem: np.flip,
}


def label(function):
    owner = getattr(function, "__self__", None)
    return f"{owner.__name__}.reduce" if isinstance(owner, np.ufunc) else function.__name__


def check(f, args, seed=0):
    """The derivative of f in every float argument, and for one input in four the second; value as
    without npgrad; args unchanged."""
    before = copy.deepcopy(args)
    trace = _Trace(f, args, {}, range(len(args)))
    plain = f(*args)
    assert np.shape(trace.value) == np.shape(plain)
    assert np.result_type(trace.value) == np.result_type(plain)
    np.testing.assert_allclose(trace.value, plain, rtol=8 * EPS, atol=8 * EPS)
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, np.shape(plain))
    square = lambda *args: np.sum(weights * np.square(f(*args)))
    order = 2 if crc32(repr(args).encode()) % 4 == 0 else 1
    try:  # an input where it cannot be told is no test; if most are, Hypothesis complains
        check_grads(f, *args, atol=1e-12)  # numbers of order 1, whose terms may cancel
        check_grads(square, *args, order=order, directions=1, atol=1e-10)
    except CannotTell:
        reject()
    assert all(np.array_equal(a, b) for a, b in zip(before, args))
    return {function for _, function, _, _ in trace.entries}


def test_tables__have_a_case_for_every_entry():
    ufuncs = {f for f in RULES if isinstance(f, np.ufunc)}
    assert ufuncs | set(FUNCTIONS) == set(CASES)
    inside_rules = {rules.sigmoid, rules.sech_squared, rules.scatter_all}
    assert set(RULES) - ufuncs == {*PRIMITIVES, *inside_rules, astype} - {getitem}
    assert not CONSTANT & (set(RULES) | set(FUNCTIONS))


@pytest.mark.parametrize("function", CASES, ids=label)
@FEW
@given(data=st.data())
def test_rules__are_the_numbers(function, data):
    f, args = CASES[function](data.draw)
    used = check(f, args)
    if args and all(np.size(a) for a in args):
        assert function in FUNCTIONS or function in used
        for primitive, needing in PRIMITIVES.items():
            if needing is function and np.shape(args[0]):
                assert primitive in used


@pytest.mark.parametrize("function", CASES, ids=label)
@settings(max_examples=max(2, settings().max_examples // 5))
@given(data=st.data(), kept=st.sampled_from([[], [0], [1]]))
def test_values__are_numpys_in_every_dtype(function, data, kept):
    f, args = CASES[function](data.draw)
    args = [a if i in kept else np.float32(a) for i, a in enumerate(args)]
    plain = f(*args)
    value, pullback = vjp(f, *args)
    assert np.shape(value) == np.shape(plain) and np.result_type(value) == np.result_type(plain)
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(value, plain, rtol=64 * eps, atol=64 * eps)
    for a, d in zip(args, pullback(np.ones(np.shape(plain), np.result_type(plain)))):
        assert d.shape == np.shape(a) and d.dtype == np.result_type(a)


REDUCTIONS = [np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.nansum, np.nanmean]
REDUCTIONS += [np.nanprod, np.nanvar, np.nanstd, np.linalg.norm]


@pytest.mark.parametrize("reduce", REDUCTIONS, ids=label)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3), (), (1,), (1, 2), (2, 1)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_reductions__of_empty_and_single_axes_are_numpys(reduce, shape, dtype):
    x = np.linspace(300.1, 901.3, math.prod(shape), dtype=dtype).reshape(shape)
    some = [None, *range(-len(shape), len(shape)), *[(0, -1)] * (len(shape) > 1)]
    for axis, keepdims in [(axis, k) for axis in some for k in (False, True)]:
        f = partial(reduce, axis=axis, keepdims=keepdims)
        try:
            plain = f(x)
        except ValueError:  # the maximum of nothing
            with pytest.raises(ValueError):
                vjp(f, x)
            continue
        value, pullback = vjp(f, x)
        np.testing.assert_array_equal(value, plain, strict=True)
        (d,) = pullback(np.ones_like(plain))
        assert d.shape == shape and d.dtype == dtype


def test_mean__of_float16_does_not_overflow():
    assert value_and_grad(np.mean)(np.float16([6e4, 6e4]))[0] == np.float16(6e4)


@pytest.mark.parametrize("function", [np.var, np.std])
@pytest.mark.parametrize("ddof", [2, 3, 2.5])
def test_var__with_too_few_numbers_is_numpys(function, ddof):
    x = np.array([1.0, 2.0])
    for derivative in (function, value_and_grad(function)):
        with pytest.warns(RuntimeWarning, match="Degrees of freedom"), np.errstate(all="ignore"):
            value = derivative(x, ddof=ddof)
    assert value[0] == np.inf and np.array_equal(value[1], [-np.inf, np.inf])


# Nodes: operators, methods, indexing

OPERATORS = {
    "__add__": lambda x, y: x + y,
    "__radd__": lambda x, y: 2.0 + x * y,
    "__sub__": lambda x, y: x - y,
    "__rsub__": lambda x, y: 2 - x * y,
    "__mul__": lambda x, y: x * y,
    "__rmul__": lambda x, y: 3 * (x + y),
    "__truediv__": lambda x, y: x / y,
    "__rtruediv__": lambda x, y: 1.5 / x + 1 / y,
    "__matmul__": lambda x, y: x @ y,
    "__rmatmul__": lambda x, y: [0.5, 1.5] @ (x * y),
    "__mod__": lambda x, y: x % (x + 1.0) + y,
    "__rmod__": lambda x, y: 1.05 % (x + 2.0) + y,
    "__floordiv__": lambda x, y: x // (x + 1.0) + x * y,
    "__rfloordiv__": lambda x, y: 1.05 // (x + 2.0) + x * y,
    "__pow__": lambda x, y: x**y + x**2 + x**3.0,
    "__rpow__": lambda x, y: 1.5**x + y,
    "__neg__": lambda x, y: -x * y,
    "__pos__": lambda x, y: +x * y,
    "__abs__": lambda x, y: abs(x) * y,
    "__lt__": lambda x, y: np.where(x < 1.0, x, y),
    "__le__": lambda x, y: np.where(x <= 1.0, x, y),
    "__gt__": lambda x, y: np.where(x > 1.0, x, y),
    "__ge__": lambda x, y: np.where(x >= 1.0, x, y),
    "__eq__": lambda x, y: np.where(x == 1.0, x, y),
    "__ne__": lambda x, y: np.where(x != 1.0, x, y),
    "__getitem__": lambda x, y: x[0] * y[1],
    "__iter__": lambda x, y: sum(a * b for a, b in zip(x, y)),
    "__len__": lambda x, y: x * len(y),
    "__format__": lambda x, y: x * y if f"{y[0]:.1f}" else y,
    "__bool__": lambda x, y: x if np.sum(y) else y,
}

METHODS = {
    "sum": lambda x: x.sum(axis=0),
    "mean": lambda x: x.mean(-1, keepdims=True),
    "prod": lambda x: x.prod(1),
    "var": lambda x: x.var(0, ddof=1),
    "std": lambda x: x.std(),
    "max": lambda x: x.max(axis=1),
    "min": lambda x: x.min(),
    "cumsum": lambda x: x.cumsum(0),
    "ravel": lambda x: x.ravel(),
    "flatten": lambda x: x.flatten(),
    "reshape": lambda x: x.reshape(3, -1) * x.reshape((3, 2)) * x.reshape(-1)[0],
    "transpose": lambda x: x.transpose() * x.transpose(1, 0) * x.transpose((1, 0)),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "squeeze": lambda x: x[None].squeeze(0),
    "repeat": lambda x: x.repeat(2, axis=1),
    "take": lambda x: x.take([0, 0, 1], axis=1),
    "diagonal": lambda x: x.diagonal(1),
    "trace": lambda x: x.trace(),
    "dot": lambda x: x.dot([1.0, 2.0, 3.0]) * x.dot(x.T)[0],
    "clip": lambda x: x.clip(-0.28, max=0.32),
    "copy": lambda x: x.copy(),
    "astype": lambda x: x.astype(np.float64) * (0.0 * x + 1.5).astype(int),
    "real": lambda x: x.real,
    "round": lambda x: x * (x.round(-2) + 1.0),  # constant as far as the next kink, at 50
    "argmax": lambda x: x[:, x.argmax(1)],
    "argmin": lambda x: x[:, x.argmin(1)],
    "argsort": lambda x: x[0, x.argsort(1)],
    "nonzero": lambda x: x[(x > 0).nonzero()] * x.nonzero()[0].size,
    "any": lambda x: x * x.any(),
    "all": lambda x: x * x.all(axis=0),
    "searchsorted": lambda x: x * np.sort(x[0]).searchsorted(0.1),
    "shape": lambda x: x.reshape(x.shape[::-1]),
    "ndim": lambda x: x * x.ndim,
    "size": lambda x: x / x.size,
    "dtype": lambda x: x * np.ones(3, x.dtype),
    "base": lambda x: x * (x.base is None or 1.0),
    "__class__": lambda x: x * x if isinstance(x, np.ndarray) else x,
    "value": lambda x: x,
    "tape": lambda x: x,
}
REFUSED = {"item", "tolist", "__float__", "__int__", "__complex__", "__index__", "__array__"}
REFUSED |= {"__setitem__", "__reduce_ex__", "__getattr__", "_no_number"}


def test_nodes__have_a_case_for_every_method():
    in_place = {name for name in vars(Node) if name[:3] == "__i" and name not in OPERATORS}
    plumbing = {"__array_ufunc__", "__array_function__", "__hash__", "__repr__", "__slots__"}
    plumbing |= {"__module__", "__doc__", "__firstlineno__", "__static_attributes__"}
    own = set(vars(Node)) - plumbing - in_place - REFUSED
    assert own == set(OPERATORS) | set(METHODS)


@pytest.mark.parametrize("name", OPERATORS)
@FEW
@given(seed=SEEDS, kind=st.sampled_from(["both", "first", "second", "scalars"]))
def test_operators__are_the_numbers(name, seed, kind):
    x, y = np.random.default_rng(seed).uniform(0.4, 0.9, (2, 2)) + [[1.0], [0.0]]
    f = OPERATORS[name]
    if kind == "scalars" and name not in ("__getitem__", "__iter__", "__len__", "__format__"):
        if "matmul" not in name:
            check(f, [np.float64(x[0]), y[0]])
    elif kind == "first":
        check(lambda x: f(x, y), [x])
    elif kind == "second":
        check(lambda y: f(x, y), [y])
    else:
        check(f, [x, y])


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(data=st.data())
def test_methods__are_the_numbers(name, data):
    check(METHODS[name], distinct(data.draw, (2, 3)))


@st.composite
def indexed(draw):
    """(shape, index): ints, steps, None, ..., arrays with repeats, masks; in any mixture."""
    shape = draw(at_least(1, 8))
    rng = np.random.default_rng(draw(SEEDS))
    batch = draw(st.sampled_from([(2,), (3,), (1,), (2, 2), (0,)]))

    def part(n):
        kind = draw(st.sampled_from(["int", "0-d", "slice", "slice", "array", "list", "mask"]))
        if kind == "int":
            return draw(st.integers(-n, n - 1))
        if kind == "0-d":
            return draw(st.sampled_from([np.int64(n - 1), np.array(n - 1)]))
        if kind == "array" or (kind == "list" and 0 in batch):
            return rng.integers(-n, n, batch)
        if kind == "list":
            return rng.integers(-n, n, batch).tolist()
        if kind == "mask" and len(batch) == 1 and batch[0] <= n:
            return rng.permutation(np.arange(n) < batch[0])
        bound = st.none() | st.integers(-n - 1, n + 1)
        return slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, -1, -2])))

    index = [part(n) for n in shape[: draw(st.integers(0, len(shape)))]]
    if len(index) == len(shape) and draw(st.booleans()):
        index.insert(draw(st.integers(0, len(index))), Ellipsis)
    for _ in range(draw(st.integers(0, 2))):
        index.insert(draw(st.integers(0, len(index))), None)
    return shape, index[0] if len(index) == 1 and draw(st.booleans()) else tuple(index)


@given(indexed(), SEEDS)
def test_indexing__is_the_numbers(indexed, seed):
    shape, index = indexed
    x = np.random.default_rng(seed).normal(size=shape)
    check(lambda x: x[index], [x])
    check(lambda x: x[index] * np.sum(x[0]) + np.sum(x[..., -1]) * np.sum(x[index]), [x])


@given(SEEDS, st.sampled_from([(4,), (2, 3), (2, 1, 2)]))
def test_indexing__by_masks_of_any_rank(seed, shape):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    x += np.copysign(0.2, x)  # away from the jump, by more than the differences step
    mask = rng.random(shape[: rng.integers(1, len(shape) + 1)]) < 0.5
    check(lambda x: x[mask], [x])
    check(lambda x: np.sum(x[x > 0.0]) * x[~mask], [x])


def test_pieces__of_a_flat_vector_add_up_in_one_buffer():
    x = np.arange(6.0)
    check(lambda x: np.sum(x[:4] ** 2) + np.sum(x[2:] ** 3) + x[3] * x[[3, 3]][1], [x])
    check(lambda x: np.sum(x[:4] * x[2:]) + x[3] * np.sum(x) + np.sum(x[1:] * x[1]), [x])
    check(lambda x: np.sum(x * x) + x[1] * x[1], [x])


# What the tape promises


@pytest.mark.parametrize("function", [np.maximum, np.minimum])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_ties__of_two_share_equally(function, order):
    x, y = np.array([1.0, 2.0, 0.0, 3.0]), np.array([1.0, 2.0, -0.0, 4.0])
    d = vjp(lambda x, y: function(*[(x, y)[i] for i in order]), x, y)[1](np.full(4, 8.0))
    wins = np.array([4.0, 4.0, 4.0, 0.0 if function is np.maximum else 8.0])
    assert np.array_equal(d[0], wins) and np.array_equal(d[1], 8.0 - wins)


@pytest.mark.parametrize("function", [np.max, np.min])
@given(SEEDS, st.sampled_from([None, 0, -1, (0, 1)]), st.booleans())
def test_ties__of_max_and_min_share_equally(function, seed, axis, keepdims):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (3, 3)).astype(float)
    best = x == function(x, axis=axis, keepdims=True)
    g = rng.normal(size=np.shape(function(x, axis, keepdims=keepdims)))
    (d,) = vjp(lambda x: function(x, axis, keepdims=keepdims), x)[1](g)
    wide = g.reshape(np.shape(function(x, axis=axis, keepdims=True)))
    expected = best * wide / best.sum(axis, keepdims=True)
    np.testing.assert_allclose(d, expected, rtol=4 * EPS)


def test_kinks__are_as_documented():
    assert grad(np.abs)(0.0) == grad(np.fabs)(0.0) == 0.0
    assert grad(lambda x: np.maximum(x, 0.0))(0.0) == 0.5
    assert grad(lambda x: np.clip(x, 0.0, 1.0))(1.0) == 0.5


@pytest.mark.parametrize("g", [np.inf, -np.inf, np.nan])
@np.errstate(all="ignore")
def test_choices__give_the_others_0_for_any_gradient(g):
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 4.0, 3.0])
    won, none = np.where(x > y, g, 0.0), np.zeros(4)
    every = lambda f, *args: vjp(f, *args)[1](np.full(np.shape(f(*args)), g))
    same = np.testing.assert_array_equal
    for greater, less in ((np.maximum, np.minimum), (np.fmax, np.fmin)):
        same(every(greater, x, y), [won, np.where(x > y, 0.0, g)])
        same(every(less, x, y), [np.where(x < y, g, 0.0), np.where(x < y, 0.0, g)])
    for largest in (np.max, np.nanmax, np.maximum.reduce, lambda x: np.sort(x)[-1], np.ptp):
        (d,) = every(largest, x)
        same(d[1:], [0.0, 0.0, g])
    same(every(lambda x: np.clip(x, 1.5, 3.5), x), [[0.0, g, g, 0.0]])
    same(every(lambda x: np.where(x > y, x, 0.0), x), [won])
    same(every(lambda x: np.select([x > y], [x], 0.0), x), [won])
    for f in (np.sum, np.mean, np.var, np.std):
        (d,) = every(lambda x, f=f: f(x, where=x > 2.5), x)
        same(d[:2], [0.0, 0.0])
    same(every(lambda x: x**0, x), [none])
    same(every(lambda x: np.power(x, np.zeros(4)), x), [none])
    same(every(lambda x: np.median(x[:3]), x), [[0.0, g, 0.0, 0.0]])


@np.errstate(divide="ignore")
def test_roots__of_a_choice_that_was_not_made_have_slope_0():
    for f in (
        lambda x: np.sqrt(np.maximum(x, 0.0)),
        lambda x: np.sqrt(np.clip(x, 0.0, 1.0)),
        lambda x: np.sqrt(np.fmax(0.0, x)),
        lambda x: np.maximum(x, 0.0) ** 0.5,
        lambda x: np.cbrt(np.where(x > 0, x, 0.0)),
        lambda x: np.log(np.clip(x, 0.0, None)),
        lambda x: np.sqrt(np.max(np.append(x, 0.0))),
    ):
        assert grad(f)(-1.0) == 0.0
    assert np.array_equal(grad(lambda x: np.sqrt(np.max(x)))(np.array([0.0, -1.0])), [np.inf, 0.0])
    assert grad(lambda x: np.sqrt(np.maximum(x, 0.0)))(0.0) == np.inf  # half of inf


def test_norms__have_slope_0_at_0_in_every_order():
    zero, row = np.zeros((2, 3)), np.array([[0.0, 0.0], [3.0, 4.0]])
    for order in (None, 1, 2, 3, 1.5, np.inf):
        norms = lambda x, order=order: np.linalg.norm(x, order, axis=-1)
        assert not np.any(jacobian(norms)(zero))
        assert not np.any(jacobian(lambda x, norms=norms: norms(x) ** 2)(zero))
        d = grad(lambda w, norms=norms: np.sum(norms(w * row)))(2.0)
        np.testing.assert_allclose(d, norms(row)[1], rtol=4 * EPS)
    for f in (np.linalg.norm, np.linalg.vector_norm, np.linalg.matrix_norm):
        assert not np.any(grad(f)(zero)) and not np.any(jacobian(grad(f))(zero))
    for order in (0.5, 2, 3):
        d, hessian = grad(np.linalg.norm), jacobian(grad(np.linalg.norm))
        assert np.array_equal(d(row[:, 0], order), [0.0, 1.0])
        curvature = [[1 / 3 * (order == 2), 0.0], [0.0, 0.0]]
        np.testing.assert_allclose(hessian(row[:, 0], order), curvature, atol=8 * EPS)
    with np.errstate(divide="ignore", invalid="ignore"):  # the second derivative is infinite there
        assert not np.isfinite(jacobian(grad(lambda x: np.linalg.norm(x, 1.5)))(row[:, 0])[0, 0])
    assert grad(np.hypot, (0, 1))(0.0, 0.0) == (0.0, 0.0)
    assert not np.any(jacobian(grad(np.hypot))(0.0, 0.0))
    assert grad(np.arctan2, (0, 1))(0.0, 0.0) == (0.0, 0.0)
    assert grad(np.copysign)(0.0, -1.0) == 0.0


@given(st.floats(-1e6, 1e6), st.integers(1, 5), st.sampled_from([np.float32, np.float64]))
def test_std__of_constant_data_has_slope_0(value, n, dtype):
    x = np.full((2, n), value, dtype)
    assert not np.any(grad(np.std)(x)) and not np.any(jacobian(grad(np.std))(x))
    assert not np.any(jacobian(lambda x: np.std(x, 1))(x)) and not np.any(grad(np.var)(x))


@given(SEEDS, st.integers(-150, 150))
def test_norm_and_std__have_slopes_of_every_scale(seed, exponent):
    x, scale = np.random.default_rng(seed).normal(size=4), 10.0**exponent
    cube, pair = lambda x: np.linalg.norm(x, 3), lambda x: np.hypot(x[0], x[1])
    for f in (np.linalg.norm, np.std, cube, pair):
        expected = grad(f)(x)  # f is positively homogeneous
        with np.errstate(all="ignore"):
            d = grad(f)(x * scale)
        np.testing.assert_allclose(d, expected, rtol=64 * EPS, atol=16 * EPS)


def exact_det(a):
    """The determinant of rows of Fractions, by Laplace's expansion, and that of absolute values."""
    if not a:
        return Fraction(1), Fraction(1)
    terms = [(x, exact_det([r[:j] + r[j + 1 :] for r in a[1:]])) for j, x in enumerate(a[0])]
    signed = sum((-1) ** j * x * d for j, (x, (d, _)) in enumerate(terms))
    return signed, sum(abs(x) * p for x, (_, p) in terms)


def exact_cofactors(a):
    a = [[Fraction(x) for x in row] for row in np.asarray(a).tolist()]
    minor = lambda i, j: [r[:j] + r[j + 1 :] for r in a[:i] + a[i + 1 :]]
    pairs = [[exact_det(minor(i, j)) for j in range(len(a))] for i in range(len(a))]
    n = range(len(a))
    values = [[float((-1) ** (i + j) * pairs[i][j][0]) for j in n] for i in n]
    return np.array(values), np.array([[float(p) for _, p in row] for row in pairs])


@st.composite
def near_rank(draw):
    """Matrices of any rank, and matrices near them."""
    n = draw(st.integers(1, 5))
    rank, bits = draw(st.integers(0, n)), draw(st.integers(0, 60))
    rng = np.random.default_rng(draw(SEEDS))
    a = (rng.integers(-3, 4, (n, rank)) @ rng.integers(-3, 4, (rank, n))).astype(float)
    return a + draw(st.booleans()) * rng.integers(-1, 2, (n, n)) * 2.0**-bits


@given(near_rank(), st.booleans())
def test_det__has_its_cofactors_as_gradient_at_every_rank(a, stacked):
    exact, size = exact_cofactors(a)
    regular = np.eye(len(a)) * 2.0
    a = np.stack([regular, a, regular]) if stacked else a
    d = vjp(np.linalg.det, a)[1](np.ones(a.shape[:-2]))[0]
    if stacked:
        np.testing.assert_allclose(d[0], regular * 2.0 ** (len(exact) - 2), rtol=4 * EPS)
        d = d[1]
    rounding = 256 * EPS * (size if len(exact) < 5 else max(size.max(), 1.0))
    assert np.all(np.abs(d - exact) <= rounding)


@given(near_rank().filter(lambda a: len(a) < 4))
def test_det__has_exact_second_derivatives_at_every_rank(a):
    n = len(a)
    hessian = jacobian(grad(np.linalg.det))(a)
    for i, j in np.ndindex(n, n):  # det is linear in each entry
        unit = np.zeros((n, n))
        unit[i, j] = 1.0
        # cofactors are linear in a[i, j]: their slope is that of the matrix with a 1 less a 0
        high, low = (exact_cofactors(np.where(unit, value, a))[0] for value in (1.0, 0.0))
        scale = 8 * n**6 * EPS * max(1.0, np.max(np.abs(a))) ** (n - 2)
        np.testing.assert_allclose(hessian[:, :, i, j], high - low, rtol=0, atol=scale)


def test_det__known_answers():
    slope = grad(np.linalg.det)
    assert np.array_equal(slope(np.array([[1.0, 2.0], [2.0, 4.0]])), [[4.0, -2.0], [-2.0, 1.0]])
    assert np.array_equal(slope(np.zeros((1, 1))), [[1.0]])
    assert not np.any(slope(np.zeros((2, 2)))) and slope(np.zeros((0, 0))).shape == (0, 0)
    assert np.array_equal(slope(np.diag([1.0, 0.0, 2.0])), np.diag([0.0, 2.0, 0.0]))
    with np.errstate(over="ignore"):
        for x in (1e-200, 1e200):
            np.testing.assert_allclose(slope(np.diag([x, x])), np.diag([x, x]), rtol=1e-12)
    third = grad(lambda a: grad(lambda a: slope(a)[0, 0])(a)[1, 1])(np.zeros((3, 3)))
    assert np.array_equal(third, np.diag([0.0, 0.0, 1.0]))
    large = np.diag(np.arange(12.0))
    np.testing.assert_allclose(slope(large)[0, 0], math.factorial(11), rtol=16 * EPS)
    assert np.count_nonzero(slope(large)) == 1


def test_singular__matrices_raise_errors_that_name_the_function():
    a = np.array([[[2.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [2.0, 4.0]]])
    with pytest.raises(np.linalg.LinAlgError, match="slogdet of a singular matrix"):
        jacobian(lambda a: np.linalg.slogdet(a)[1])(a)
    for f in (np.linalg.inv, lambda a: np.linalg.solve(a, np.ones(2)[:, None])):
        with pytest.raises(np.linalg.LinAlgError):
            jacobian(f)(a)
    for f in (np.linalg.inv, np.linalg.cholesky, np.linalg.det, lambda a: np.linalg.solve(a, a)):
        empty = np.zeros((0, 0))
        assert vjp(f, empty)[1](np.ones_like(f(empty)))[0].shape == (0, 0)


LD = np.longdouble
SLOPES = {  # in extended precision; (slope, domain)
    np.sqrt: (lambda x: 0.5 / np.sqrt(x), "positive"),
    np.cbrt: (lambda x: 1 / (3 * np.cbrt(x) ** 2), "any"),
    np.reciprocal: (lambda x: -1 / (x * x), "any"),
    np.square: (lambda x: 2 * x, "any"),
    np.exp: (np.exp, "any"),
    np.exp2: (lambda x: np.log(LD(2)) * np.exp2(x), "any"),
    np.expm1: (np.exp, "any"),
    np.log: (lambda x: 1 / x, "positive"),
    np.log2: (lambda x: 1 / (x * np.log(LD(2))), "positive"),
    np.log10: (lambda x: 1 / (x * np.log(LD(10))), "positive"),
    np.log1p: (lambda x: 1 / (1 + x), "above -1"),
    np.arctan: (lambda x: 1 / (1 + x * x), "any"),
    np.arcsin: (lambda x: 1 / np.sqrt((1 - x) * (1 + x)), "unit"),
    np.arccos: (lambda x: -1 / np.sqrt((1 - x) * (1 + x)), "unit"),
    np.arctanh: (lambda x: 1 / ((1 - x) * (1 + x)), "unit"),
    np.arcsinh: (lambda x: 1 / np.sqrt(1 + x * x), "any"),
    np.arccosh: (lambda x: 1 / np.sqrt((x - 1) * (x + 1)), "over 1"),
    np.sinh: (np.cosh, "any"),
    np.cosh: (np.sinh, "any"),
    np.tanh: (lambda x: 1 / np.cosh(x) ** 2, "any"),
}
DOMAINS = {
    "any": lambda x: x,
    "positive": abs,
    "above -1": lambda x: abs(x) - 1.0,
    "unit": lambda x: x if abs(x) < 1.0 else 1.0 / x,
    "over 1": lambda x: abs(x) + 1.0,
}


@st.composite
def ranges(draw, low, high):
    """Numbers of every magnitude from 10^low to 10^high, and at such a distance from ±1."""
    size = draw(st.floats(1.0, 9.9)) * 10.0 ** draw(st.integers(low, high))
    return draw(st.sampled_from([1.0, -1.0])) * size + draw(st.sampled_from([0.0, 0.0, 1.0, -1.0]))


@pytest.mark.skipif(np.finfo(LD).maxexp < 4096, reason="needs a long double of wider range")
@pytest.mark.parametrize("function", SLOPES, ids=label)
@given(x=st.one_of(ranges(-300, 300), ranges(-3, 3), ranges(-16, 0)))
def test_slopes__are_exact_at_every_magnitude(function, x):
    slope, domain = SLOPES[function]
    info = np.finfo(float)
    x = DOMAINS[domain](x)
    with np.errstate(all="ignore"):
        exact = slope(LD(x))
        assume(info.tiny < abs(exact) < info.max and np.isfinite(function(x)))
        d = grad(function)(x)
    assert abs(d - exact) <= 8 * EPS * abs(exact)


@given(ranges(-300, 300), ranges(-300, 300))
def test_arctan2_and_hypot__have_slopes_of_every_scale(x, y):
    assume(x and y)
    norm = np.hypot(LD(x), LD(y))
    for f, exact in (
        (np.hypot, (x / norm, y / norm)),
        (np.arctan2, (y / norm / norm, -x / norm / norm)),
        (np.copysign, (np.copysign(1.0, x) * np.copysign(1.0, y), 0.0)),
    ):
        for d, e in zip(grad(f, (0, 1))(x, y), exact):
            assert abs(d - e) <= 8 * EPS * abs(e) + np.finfo(float).tiny or abs(e) > 1e308


def test_slopes__of_extreme_numbers_are_right_without_warnings():
    assert [grad(np.tanh)(x) for x in (355.0, 1e3, -1e3, 1e300)] == [4 * np.exp(-710.0), 0, 0, 0]
    assert grad(np.tanh)(np.float32(100.0)) == 0.0 == grad(np.arctan)(1e200)
    np.testing.assert_allclose(grad(np.tanh)(19.06), 4 * np.exp(-38.12), rtol=1e-14)
    assert grad(np.log10)(1e308) * np.log(10.0) * 1e308 == pytest.approx(1.0)
    assert math.isclose(grad(np.arctan)(1e160), 1e-320, rel_tol=1e-3)  # a subnormal number
    for f, infinite in ((np.arcsin, np.inf), (np.arccos, -np.inf), (np.arccosh, -np.inf)):
        with np.errstate(divide="ignore"):
            assert grad(grad(f))(1.0) == infinite


@pytest.mark.parametrize("function", [np.fmod, np.remainder])
@given(st.floats(0.1, 10.0), st.integers(1, 50), st.integers(-3, 3), st.sampled_from([1, -1]))
def test_remainders__count_exactly_near_multiples(function, y, n, ulps, sign):
    x = sign * n * y * (1.0 + ulps * EPS)
    quotient = Fraction(x) / Fraction(y)
    count = math.floor(quotient) if function is np.remainder else math.trunc(quotient)
    assert grad(function, (0, 1))(x, y) == (1.0, -count)


def test_nan__is_left_out_where_numpy_leaves_it_out():
    x, rest = np.array([3.0, np.nan, 1.0, 2.0]), np.array([3.0, 1.0, 2.0])
    for f, g in (
        *((np.nansum, np.sum), (np.nanmean, np.mean), (np.nanprod, np.prod), (np.nanvar, np.var)),
        *((np.nanstd, np.std), (np.nanmax, np.max), (np.nanmin, np.min)),
    ):
        d = grad(f)(x)
        assert f(x) == value_and_grad(f)(x)[0] and d[1] == 0.0
        np.testing.assert_allclose(np.delete(d, 1), grad(g)(rest), rtol=4 * EPS)
    for f in (np.fmax, np.fmin):
        assert grad(f, (0, 1))(np.nan, 1.0) == (0.0, 1.0) == grad(f, (1, 0))(1.0, np.nan)
        assert grad(f, (0, 1))(np.nan, np.nan) == (0.0, 0.0)
    for f in (np.maximum, np.minimum):
        assert grad(f, (0, 1))(np.nan, 1.0) == (0.0, 0.0)
    for f in (np.max, np.min):
        assert not np.any(grad(f)(x))
    for f in (np.median, lambda x: np.quantile(x, 0.3), lambda x: np.percentile(x, 70)):
        value, d = value_and_grad(f)(x)
        assert np.isnan(f(x)) and np.isnan(value) and np.array_equal(d, [0.0, 1.0, 0.0, 0.0])
    y = np.array([np.nan, np.inf, -np.inf, 1.5])
    value, pullback = vjp(lambda y: np.nan_to_num(y, nan=2.0, neginf=-3.0), y)
    assert np.array_equal(value, np.nan_to_num(y, nan=2.0, neginf=-3.0))
    assert np.array_equal(pullback(np.ones(4))[0], [0.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("function", [np.logaddexp, np.logaddexp2])
@given(st.floats(-1e9, 1e9), st.floats(-800, 800))
def test_logaddexp__has_exact_shares(function, x, d):
    y = x + d
    base = np.exp if function is np.logaddexp else np.exp2
    share = 1 / (1 + base(LD(y) - LD(x)))
    for weight, exact in zip(grad(function, (0, 1))(x, y), (share, share * base(LD(y) - LD(x)))):
        assert abs(weight - exact) <= 4 * (4 + abs(y - x)) * EPS * exact + np.finfo(float).tiny
    for infinite in (np.inf, -np.inf):
        assert grad(function, (0, 1))(infinite, infinite) == (0.5, 0.5)
        assert grad(function, (0, 1))(infinite, x) == ((1.0, 0.0) if infinite > 0 else (0.0, 1.0))
        row = np.array([infinite, x, infinite])
        expected = [0.5, 0.0, 0.5] if infinite > 0 else [0.0, 1.0, 0.0]
        assert np.array_equal(grad(np.logaddexp.reduce)(row), expected)
    assert grad(grad(np.logaddexp))(x, x) == 0.25


@given(st.one_of(ranges(-300, 0), ranges(-3, 3)))
def test_sinc__has_exact_derivatives_near_0_too(x):
    t = np.pi * LD(x)
    series = [(-1) ** k * t ** (2 * k) / math.factorial(2 * k + 1) for k in range(30)]
    first = sum(2 * k * term / LD(x) for k, term in enumerate(series))
    second = sum(2 * k * (2 * k - 1) * term / LD(x) / LD(x) for k, term in enumerate(series))
    if abs(t) > 2:
        first = (np.cos(t) - np.sin(t) / t) / LD(x)
        second = -(np.pi**2) * np.sin(t) / t - 2 * first / LD(x)
    rounding = 16 * EPS * (abs(x) > 0.1)  # of πx, which changes the slope by up to π² / 3 of it
    assert abs(grad(np.sinc)(x) - first) <= 8 * EPS * abs(first) + rounding
    assert abs(grad(grad(np.sinc))(x) - second) <= 8 * EPS * abs(second) + 16 * rounding


@given(SEEDS, st.integers(1, 6), st.integers(0, 3))
def test_products__are_right_with_factors_of_zero(seed, n, zeros):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 2.0, n) * rng.choice([-1.0, 1.0], n)
    x[rng.integers(0, n, zeros)] = 0.0
    check(np.prod, [x])
    check(np.cumprod, [x])
    assert np.array_equal(vjp(np.prod, x)[0], np.prod(x))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.0, 1.0, 2.0, 3.0, 2.5])
@pytest.mark.parametrize("power", [np.power, lambda x, y: x**y, np.float_power])
def test_power__is_exact_at_zero_and_below(power, exponent):
    slope = 1.0 if exponent == 1 else 0.0
    assert grad(lambda x: power(x, exponent))(0.0) == slope
    assert grad(lambda x: power(x, np.array(exponent)))(0.0) == slope
    assert grad(power)(0.0, float(exponent)) == slope
    if exponent:
        assert grad(power, 1)(0.0, float(exponent)) == 0.0
    if exponent != 2.5:
        x = np.array([-1.5, -0.3, 0.4])
        check(lambda x: power(x, exponent), [x])
        check(lambda x: power(x, np.full(3, exponent)), [x])


@given(SEEDS, st.sampled_from([1e3, 1e2, 1.0]), SHAPES.filter(len))
def test_softmax__stays_finite_for_extreme_preferences(seed, scale, shape):
    h = scale * np.random.default_rng(seed).normal(size=shape)
    stable = lambda h: h - np.logaddexp.reduce(h, -1, keepdims=True)
    shifted = lambda h: (lambda c: c - np.log(np.sum(np.exp(c), -1, keepdims=True)))(
        h - np.max(h, -1, keepdims=True)
    )
    pi = np.exp(stable(h))
    expected = np.eye(shape[-1]) - pi[..., None, :]
    g = np.random.default_rng(seed).normal(size=shape)
    for log_softmax in (stable, shifted):
        (d,) = vjp(log_softmax, h)[1](g)
        product = np.einsum("...b,...ba->...a", g, expected)
        np.testing.assert_allclose(d, product, atol=32 * EPS * scale)


@given(st.floats(-1.5, 1.5), st.integers(2, 5))
def test_grad__nests_to_any_depth(x, n):
    f = lambda x: x**n * np.sin(x)
    exact = lambda k: sum(
        math.comb(k, j) * math.perm(n, j) * x ** max(n - j, 0) * np.sin(x + (k - j) * np.pi / 2)
        for j in range(min(k, n) + 1)
    )
    for k in range(1, 5):
        f = grad(f)
        np.testing.assert_allclose(f(x), exact(k), rtol=1e-12, atol=1e-12)


def test_grad__does_not_confuse_the_perturbations_of_nested_variables():
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0) == 6.0
    assert grad(lambda x: grad(lambda y: x * y * y)(x))(3.0) == 4 * 3.0
    assert grad(lambda x: x + grad(lambda x: x * x)(x))(3.0) == 3.0
    assert grad(lambda x: x * grad(lambda y: x)(1.0))(3.0) == 0.0
    assert grad(lambda x: grad(lambda y: x * x)(x) + x)(3.0) == 1.0
    assert grad(lambda x: grad(lambda y: grad(lambda z: x * y * z * z)(y))(x))(2.0) == 16.0
    inner = lambda x: lambda y: x[0] * y[1] + y[0] * x[1] * y[1]
    J = jacobian(lambda x: grad(inner(x))(x))(np.array([2.0, 3.0]))
    assert np.array_equal(J, [[0.0, 6.0], [4.0, 2.0]])


@given(SEEDS, st.integers(1, 4))
def test_hessian__is_symmetric_and_equals_its_products(seed, n):
    rng = np.random.default_rng(seed)
    A, x, v = rng.normal(size=(n, n)), rng.normal(size=n), rng.normal(size=n)
    f = lambda x: np.sum(np.tanh(A @ x) ** 3) * np.exp(-np.mean(x * x)) + x[0] * x[-1]
    check_grads(f, x, order=2)
    H = jacobian(grad(f))(x)
    np.testing.assert_allclose(H, H.T, atol=64 * EPS * n)
    products = [
        grad(lambda x: np.dot(grad(f)(x), v))(x),
        grad(lambda x: vjp(f, x)[1](1.0)[0] @ v)(x),
        vjp(grad(f), x)[1](v)[0],
        grad(lambda t: np.sum(v * grad(f)(x + t)))(np.zeros(n)),
        grad(lambda s: grad(lambda t: f(x + s + t * v))(0.0))(np.zeros(n)),
    ]
    for product in products:
        np.testing.assert_allclose(product, H @ v, rtol=1e-11, atol=1e-12)


@given(SEEDS)
def test_vjp__is_linear_in_a_traced_cotangent(seed):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(2, 3))
    A = rng.normal(size=(3, 3))
    f = lambda x: np.sin(A @ x) * x[::-1]
    J = jacobian(f)(x)
    _, pullback = vjp(f, x)  # outside the outer derivative, and used inside
    np.testing.assert_allclose(jacobian(lambda g: pullback(g)[0])(g), J.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        jacobian(lambda g: vjp(f, x)[1](g * g)[0])(g), J.T * 2 * g, rtol=1e-12, atol=1e-14
    )
    both = lambda x, g: np.sum(vjp(f, x)[1](g * x[0])[0] ** 2)
    try:
        check_grads(both, x, g, order=2, directions=2, atol=1e-10)
    except CannotTell:
        reject()


@given(SEEDS)
def test_jacobian__rows_are_pullbacks_of_unit_vectors(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 3)), rng.normal(size=3)
    f = lambda x, y: np.exp(x * y)[:, :2]
    J_x, J_y = jacobian(f, (0, 1))(x, y)
    _, pullback = vjp(f, x, y)
    for i in np.ndindex(2, 2):
        unit = np.zeros((2, 2))
        unit[i] = 1.0
        for J, d in zip((J_x, J_y), pullback(unit)):
            assert np.array_equal(J[i], d)


def test_jacobian__of_empty_and_constant_functions_has_its_shape():
    x = np.ones((2, 3))
    assert jacobian(lambda x: x[:0])(x).shape == (0, 3, 2, 3)
    assert np.array_equal(jacobian(lambda x: np.ones(4))(x), np.zeros((4, 2, 3)))
    assert jacobian(lambda x: np.sin(x))(np.zeros((0, 2))).shape == (0, 2, 0, 2)
    assert jacobian(lambda x: 3.0)(x).shape == (2, 3)


def test_argnums__choose_arguments_and_the_form_of_the_result():
    f = lambda a, b, c=2.0: np.sum(a * b**2) * c
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    da, db = 2.0 * b**2, 4.0 * a * b
    assert np.array_equal(grad(f)(a, b), da)
    assert np.array_equal(grad(f, 1)(a, b), db)
    assert np.array_equal(grad(f, -1)(a, b), db)
    for argnums in ((0, 1), [0, 1], range(2)):
        value, both = value_and_grad(f, argnums)(a, b)
        assert value == f(a, b) and isinstance(both, tuple)
        assert np.array_equal(both[0], da) and np.array_equal(both[1], db)
    assert np.array_equal(grad(f, (1,))(a, b, c=4.0)[0], 2 * db)
    assert [d.shape for d in vjp(f, a, b)[1](1.0)] == [(2,), (2,)]
    assert vjp(f, a, b, argnums=1)[1](1.0).shape == (2,)
    with pytest.raises(IndexError, match="argnums has 2, but there are 2 positional"):
        grad(f, 2)(a, b)
    with pytest.raises(ValueError, match="argument -2 twice"):
        grad(f, (0, -2))(a, b)


def test_grad__of_constants_leaves_and_unused_arguments():
    x = np.ones((2, 2))
    assert np.array_equal(grad(lambda x: 3.0)(x), np.zeros((2, 2)))
    assert np.array_equal(grad(lambda x: np.float64(3) if np.sum(x) > 0 else x)(x), 0 * x)
    assert np.array_equal(grad(lambda x, y: np.sum(y), 0)(x, x), 0 * x)
    assert grad(lambda x: x)(2.0) == 1.0 and value_and_grad(lambda x: x)(2.0) == (2.0, 1.0)
    value, pullback = vjp(lambda x: x, x)
    (d,) = pullback(2 * x)
    assert np.array_equal(d, 2 * x) and value is not x and not np.shares_memory(value, x)
    assert np.array_equal(jacobian(lambda x: x)(x).reshape(4, 4), np.eye(4))


def test_grad__counts_a_node_used_twice_in_one_call():
    x = np.array([1.0, 2.0])
    check(lambda x: x * x + np.concatenate([x, x])[1:3] + np.stack([x, x])[0] + x @ x, [x])
    check(lambda x: np.einsum("i,i->", x, x) + np.where([True, False], x, x) / x**x, [x])


MIXED = {
    "ufuncs": lambda x: np.sum(np.tanh(x) * 2 + np.exp(x) / 3.0 + np.maximum(x, 0.0) ** 2),
    "reductions": lambda x: np.mean(x) + np.max(x) + np.std(x) + np.prod(x) + np.linalg.norm(x),
    "products": lambda x: np.sum(x @ x.T) + np.einsum("ij->", x) + np.sum(np.outer(x, x)),
    "pieces": lambda x: np.sum(x[0] * x[[1, 1]]) + np.sum(np.where(x > 0, x, 0.0)),
    "logs": lambda x: np.sum(np.log10(x * x) + np.log2(x * x) + np.logaddexp(x, 1.0) + np.exp2(x)),
    "linalg": lambda x: np.linalg.slogdet(x @ x.T)[1] + np.sum(np.linalg.inv(x @ x.T)),
    "python numbers": lambda x: np.sum(2 * x + x / 3 - (1.5 - x) ** 2 + x**0.5),
}


@pytest.mark.parametrize("name", MIXED)
def test_dtypes__float32_stays_float32_all_the_way(name):
    f, x = MIXED[name], np.array([[0.5, 1.5, 0.7], [1.1, 0.3, 0.9]])
    value, d = value_and_grad(f)(x.astype(np.float32))
    assert value.dtype == d.dtype == np.float32
    np.testing.assert_allclose(d, grad(f)(x), rtol=2e-4, atol=1e-5)
    trace = _Trace(f, [x.astype(np.float32)], {}, [0])
    gradients = trace._backward(np.float32(1.0))
    assert {d.dtype for d in gradients.values()} == {np.dtype(np.float32)}
    hessian = jacobian(grad(f))(x.astype(np.float32))
    assert hessian.dtype == np.float32


def test_dtypes__each_gradient_has_its_arguments():
    x, y = np.ones(3, np.float32), np.ones(3)
    dx, dy = grad(lambda x, y: np.sum(np.exp(x * y)), (0, 1))(x, y)
    assert dx.dtype == np.float32 and dy.dtype == np.float64
    assert grad(lambda x: np.sum(x.astype(np.float64) ** 2))(x).dtype == np.float32
    assert grad(lambda x: x * 2)(np.float32(1)).dtype == np.float32
    check(lambda y: y.astype(np.float64) * y * np.float32(0.5) * np.float64(2) * 3, [y])


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: np.sum(x + y),
        lambda x, y: np.sum(x - y) + np.sum(x),
        lambda x, y: np.sum(x.T) + np.sum(y.reshape(-1)),
        lambda x, y: np.sum(np.concatenate([x, y, x])),
        lambda x, y: np.sum(x[0]) + np.sum(y[[0, 0]]) + x[1, 1],
        lambda x, y: np.sum(np.where(True, x, y)),
        lambda x, y: np.sum(np.broadcast_to(x, (2, 2, 2)) * y),
        lambda x, y: x[0, 0],
        lambda x, y: np.sum(y) * 1.0,
    ],
)
def test_gradients__are_fresh_and_writable(f):
    x, y = np.arange(4.0).reshape(2, 2), np.ones((2, 2))
    pulled = vjp(lambda x, y: np.stack([f(x, y)] * 2), x, y)[1]
    g = np.ones(2)
    results = [*grad(f, (0, 1))(x, y), *pulled(g), *pulled(g)]
    for i, d in enumerate(results):
        assert d.flags.writeable and d.flags.owndata
        assert not any(np.shares_memory(d, other) for other in [x, y, g, *results[:i]])
    _, pullback = vjp(lambda x, y: x + 0 * y, x, y)
    g = np.ones((2, 2))
    for d in pullback(g):
        assert not np.shares_memory(d, g) and d.flags.writeable
    first = pullback(g)[0].copy()
    x += 1.0  # vjp holds its own copy
    assert np.array_equal(pullback(g)[0], first)
    assert np.array_equal(g, np.ones((2, 2)))


def test_arguments__may_be_read_only_or_views():
    x = np.arange(12.0).reshape(3, 4)
    x.flags.writeable = False
    for view in (x, x[::2], x.T, x[:, 1:3], x[::-1, ::-1], np.asfortranarray(x)):
        assert np.array_equal(grad(lambda x: np.sum(x * x))(view), 2 * view)
    assert grad(lambda x: np.sum(x) + 1.0)(np.zeros((0, 3))).shape == (0, 3)
    assert grad(lambda x: np.sum(x * 2.0))(np.array(3.0)) == 2.0


def test_tape__keeps_constants_as_they_were():
    def f(x):
        buffer, index, mask, total = np.empty(3), np.zeros(2, int), np.empty(3, bool), 0.0
        for t in range(3):
            buffer[:] = t
            index[:] = t
            mask[:] = np.arange(3) == t
            total = total + np.sum(buffer * x * x) + buffer @ x**2 + np.sum(x[index]) * x[index[0]]
            total = total + np.sum(np.where(mask, x**2, 0.0)) + np.sum(x[mask] ** 3 * x[[index[0]]])
            total = total + np.einsum("i,i->", buffer, x * x) + np.sum(np.stack([buffer, x]) ** 2)
        return total

    check(f, [np.array([0.5, 1.5, -1.0])])


def test_tape__of_a_hundred_thousand_nodes_is_no_recursion():
    def f(x):
        y = x
        for _ in range(100_000):
            y = y * 1.00001
        return y + np.sum([1.0])

    assert math.isclose(grad(f)(1.0), 1.00001**100_000, rel_tol=1e-9)


def test_tape__is_as_long_as_the_computation():
    def power(x, n):
        for i in range(n):
            x = x + x[i % 2] * 0.001
        return np.sum(x)

    lengths = [len(_Trace(power, [np.ones(2), n], {}, [0]).entries) for n in (10, 20, 40)]
    assert lengths == [3 * n + 1 for n in (10, 20, 40)]


def test_threads__differentiate_at_once_without_meeting():
    def work(seed, results):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            a, x = rng.normal(size=2)
            f = lambda x, a=a: np.sin(a * x) * grad(lambda y: x * y**3)(x)
            results.append((grad(grad(f))(x), a, x))

    results = [[] for _ in range(6)]
    threads = [threading.Thread(target=work, args=(i, r)) for i, r in enumerate(results)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(r) for r in results] == [20] * 6
    for d, a, x in chain(*results):  # f = 3 x³ sin(a x)
        exact = (18 * x - 3 * a**2 * x**3) * np.sin(a * x) + 18 * a * x**2 * np.cos(a * x)
        assert math.isclose(d, exact, rel_tol=1e-9, abs_tol=1e-9)


def test_nodes__that_outlive_their_derivative_are_constants():
    kept = []

    def f(x):
        kept.append(x * x)
        return np.sum(kept[-1])

    x = np.array([1.0, 2.0])
    assert np.array_equal(grad(f)(x), 2 * x)
    late = kept[0]
    for y in (late * 1.0, np.exp(np.log(late)), late[:], np.sum(late) - [4.0, 1.0], 1 * late.T):
        assert type(y) is np.ndarray
        np.testing.assert_allclose(y, x * x, rtol=1e-15)
    assert np.array_equal(grad(lambda x: np.sum(x * late))(x), x * x)
    assert np.array_equal(grad(lambda x: np.sum(x) * np.sum(late))(x), [5.0, 5.0])
    assert value_and_grad(lambda x: late[0])(x)[0] == 1.0

    def outer(x):
        grad(lambda y: f(x * y))(x)
        return np.sum(kept[-1]) * x[0]  # an inner node: its part in x is still differentiated

    np.testing.assert_allclose(grad(outer)(x), [4 * x[0] ** 4 + np.sum(x**4), 4 * x[1] ** 3 * x[0]])


def test_errors__leave_no_trace():
    x = np.array([1.0, 2.0])
    with pytest.raises(ZeroDivisionError):
        grad(lambda x: grad(lambda y: np.sum(x * y) / 0)(x) if 1 / 0 else x)(x)
    assert np.array_equal(grad(lambda x: np.sum(x * x))(x), 2 * x)


# Errors: each says what cannot be done, and what to do


def assign(x):
    a = np.zeros(3)
    a[:] = x
    return np.sum(a)


def assign_one(x):
    a = np.zeros(3)
    a[0] = x[0]
    return np.sum(a)


def accumulate(x):
    a = np.zeros(3)
    a += x
    return np.sum(a)


def increment(x):
    x += 1.0
    return np.sum(x)


def set_item(x):
    x[0] = 1.0
    return np.sum(x)


def objects(x):
    a = np.empty((), object)
    a[()] = x
    return a


rng = np.random.default_rng(0)
MATRIX = np.eye(3).view(type("Matrix", (np.ndarray,), {}))
REFUSALS = [
    (lambda x: np.histogram(x)[0][0], "np.histogram has no derivative rule"),
    (lambda x: np.sum(np.fft.fft(x)), "np.fft.fft has no derivative rule"),
    (lambda x: np.linalg.eigvalsh(x * np.eye(3))[0], "np.linalg.eigvalsh has no derivative rule"),
    (lambda x: np.add.accumulate(x)[0], r"np.add.accumulate has no derivative rule"),
    (lambda x: np.subtract.reduce(x), r"np.subtract.reduce has no derivative rule"),
    (lambda x: np.multiply.outer(x, x)[0, 0], "np.multiply.outer has no derivative rule"),
    (lambda x: np.spacing(x)[0], "np.spacing has no derivative rule"),
    (lambda x: np.linalg.norm(x * np.eye(3), 2), "np.linalg.norm with ord=2 has no derivative"),
    (lambda x: np.linalg.norm(x, 0), "np.linalg.norm with ord=0 has no derivative"),
    (lambda x: np.pad(x, 1, mode="edge")[0], "np.pad has a derivative rule only for"),
    (lambda x: np.reshape(x, -1, order="F")[0], "order='C'"),
    (lambda x: np.average(x, weights=np.ones((1, 3))), "np.average has a rule for weights"),
    (lambda x: np.copyto(np.zeros(3), x), "np.copyto has no derivative rule"),
    (lambda x: np.sum(np.exp(x, out=np.zeros(3))), "np.exp with out=.*write a = a [+] x"),
    (lambda x: np.sum(np.exp(x, np.zeros(3))), "np.exp with out="),
    (lambda x: np.sum(x, out=np.zeros(())), r"np.sum\(a, axis=None.*unexpected keyword.*'out'"),
    (lambda x: np.median(x, overwrite_input=True), r"np.median\(a.*keyword.*'overwrite_input'"),
    (lambda x: np.quantile(x, 0.5, method="lower"), r"np.quantile\(a, q.*keyword.*'method'"),
    (lambda x: np.sum(x, dtype=float), r"np.sum\(a, axis=None.*unexpected keyword.*'dtype'"),
    (lambda x: np.add.reduce(x, dtype=float), "dtype="),
    (lambda x: np.add.reduce(x, out=np.zeros(())), "np.add with out="),
    (lambda x: x.sum(0, float), r"np.sum\(a, axis=None.*too many positional"),
    (lambda x: np.sum(np.exp(x, where=x > 0)), "np.exp with where= has no derivative rule"),
    (lambda x: np.sum(np.exp(x, dtype=float)), "np.exp with dtype= has no derivative rule"),
    (lambda x: np.matmul(x, x, axes=[0, 0, ()]), "np.matmul with axes= has no derivative rule"),
    (lambda x: np.add.at(np.zeros(3), [0], x[0]), "np.add.at.*write a = a [+] x"),
    (assign, r"a\[i\] = x.*np.stack or np.concatenate"),
    (accumulate, "np.add with out=, or an operator such as [+]="),
    (increment, r"in-place operator [+]=.*write x = x [+] y"),
    (set_item, "item assignment.*np.where, np.concatenate or np.stack"),
    (lambda x: np.sum(np.array([x[0], x[1]])), "np.stack or np.concatenate"),
    (lambda x: np.sum([x[0], x[1]]), "np.stack or np.concatenate"),
    (lambda x: np.sum(np.array(x, dtype=object)), "np.stack or np.concatenate"),
    (lambda x: np.sum(np.asarray(x)), "cannot become a plain array"),
    (lambda x: np.sum(np.eye(3).dot(x)), r"np.dot\(a, x\) for a.dot\(x\)"),
    (lambda x: np.linspace(x[0], x[1], retstep=True)[0][0], r"np.linspace\(start.*'retstep'"),
    (lambda x: np.sum(np.full(3, x[0])), "cannot become a plain array"),
    (lambda x: np.sum(np.vectorize(lambda a: a * a)(x)), "cannot become a plain array"),
    (lambda x: rng.normal(x)[0], "cannot become a plain array"),
    (lambda x: rng.choice(3, p=x / np.sum(x)), "cannot become a plain array"),
    (lambda x: np.random.poisson(x)[0], "cannot become a plain array"),  # noqa: NPY002
    (lambda x: float(x[0]), "cannot become a Python number.*Use NumPy functions"),
    (lambda x: int(x[0]), "cannot become a Python number"),
    (lambda x: complex(x[0]), "cannot become a Python number"),
    (lambda x: math.exp(x[0]), "cannot become a Python number"),
    (lambda x: x[0].item(), "cannot become a Python number"),
    (lambda x: x.tolist()[0], "cannot become a Python number"),
    (lambda x: [1.0, 2.0][x[0]], "cannot become a Python number"),
    (lambda x: x[x[0]], "cannot become"),
    (lambda x: np.sum(copy.copy(x)), "np.copy keeps its derivative"),
    (lambda x: np.sum(copy.deepcopy(x)), "np.copy keeps its derivative"),
    (lambda x: pickle.dumps(x), "np.copy keeps its derivative"),
    (lambda x: np.sum(x * 1j), "np.multiply of .* and complex: must be real numbers"),
    (lambda x: np.sum(x * np.array(1j)), "np.multiply of .* and complex128 array: must be real"),
    (lambda x: np.sum(np.where(x > 0, x, 1j)), "where of .* and complex128 array: must be real"),
    (lambda x: np.sum(x * np.array([1, 2, 3], object)), "np.multiply of .* and object array"),
    (lambda x: np.sum(x * MATRIX), "np.multiply of .* and Matrix: .*plain array"),
    (lambda x: np.sum(MATRIX @ x), "np.matmul of .* and Matrix"),
    (lambda x: np.sum(np.concatenate([MATRIX, x[None]])), "np.concatenate of .* and Matrix"),
    (lambda x: x * np.ma.masked_array([1.0, 2.0, 3.0]), "cannot become a plain array|MaskedArray"),
    (lambda x: x * None, "np.multiply of .* and NoneType"),
    (lambda x: x * x, r"grad needs a scalar function, this one returned shape \(3,\)"),
    (lambda x: x[:1], r"grad needs a scalar function, this one returned shape \(1,\)"),
    (lambda x: (x[0], x[1]), "the function returned tuple: return one real array or float"),
    (lambda x: None, "the function returned NoneType"),
    (lambda x: np.complex128(1), "the function returned complex128: return one real array"),
    (lambda x: objects(x[0]), "the function returned ndarray: return one real array"),
]


@pytest.mark.parametrize(
    ("f", "message"), [pytest.param(*r, id=f"{i}-{r[1][:24]}") for i, r in enumerate(REFUSALS)]
)
def test_refusals__say_what_and_what_to_do(f, message):
    x = np.array([0.2, 0.3, 0.5])
    with pytest.raises(TypeError, match=message):
        grad(f)(x)
    with pytest.raises(TypeError, match=message):
        grad(lambda x: grad(f)(x)[0])(x)
    assert np.array_equal(x, [0.2, 0.3, 0.5])


def test_refusals__of_shapes_are_numpys():
    x = np.ones((2, 3))
    for f in (
        lambda x: np.einsum("...i->i", x)[0],
        lambda x: np.einsum("ij,jk->ik", x)[0, 0],
        lambda x: np.einsum("ij->ii", x)[0, 0],
        lambda x: np.tensordot(x, x, 1)[0, 0],
        lambda x: np.broadcast_to(x[None], (2, 3))[0, 0],
        lambda x: np.squeeze(x, 0)[0],
        lambda x: np.split(x, 2, 1)[0][0, 0],
        lambda x: np.moveaxis(x, (0, 1), (0,))[0, 0],
        lambda x: np.take_along_axis(x, np.zeros(2, int), 1)[0, 0],
        lambda x: np.concatenate([x, x[0]])[0, 0],
        lambda x: np.diag(x[None])[0],
        lambda x: np.linalg.outer(x, x)[0, 0],
        lambda x: np.reshape(x, (4, 2))[0, 0],
        lambda x: np.linalg.norm(x[0], "fro"),
        lambda x: np.max(x[:0]),
        lambda x: x @ x,
        lambda x: x + x[:, :2],
    ):
        for derivative in (f, grad(f)):
            with pytest.raises((ValueError, TypeError)):
                derivative(x)


def test_refusals__of_item_assignment_name_their_cause():
    with pytest.raises(ValueError, match="setting an array element") as caught:
        grad(assign_one)(np.ones(3))
    assert "cannot become a Python number" in str(caught.value.__cause__)


def test_refusals__of_unknown_attributes_name_them():
    for name in ("fill", "sort", "imag", "conj", "ptp", "partition"):
        with pytest.raises(AttributeError, match=f"'{name}' has no derivative rule"):
            grad(lambda x, name=name: getattr(x, name)())(1.0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.arange(3), "argument 0 has dtype int64.*x.astype"),
        (np.ones(2, bool), "argument 0 has dtype bool"),
        (np.ones(2) * 1j, "argument 0 has dtype complex128"),
        (np.array([1.0, 2.0], object), "argument 0 has dtype object"),
        (3, "argument 0 is of type int"),
        (True, "argument 0 is of type bool"),
        (1j, "argument 0 is of type complex"),
        ([1.0, 2.0], "argument 0 is of type list.*Layout flattens"),
        ({"w": np.ones(2)}, "argument 0 is of type dict"),
        (MATRIX, "argument 0 is of type Matrix"),
        (np.ma.masked_array([1.0]), "argument 0 is of type MaskedArray"),
        (np.float64, "argument 0 is of type type"),
    ],
)
def test_refusals__of_arguments_name_position_and_kind(x, message):
    for derivative in (grad(np.sum), jacobian(np.sum), partial(vjp, np.sum)):
        with pytest.raises(TypeError, match=message):
            derivative(x)


def test_refusals__of_cotangents_name_their_shape_and_dtype():
    _, pullback = vjp(np.exp, np.ones(3))
    with pytest.raises(ValueError, match=r"g has shape \(2,\), the function's output \(3,\)"):
        pullback(np.ones(2))
    with pytest.raises(TypeError, match="g has dtype complex128"):
        pullback(np.ones(3) * 1j)
    assert np.array_equal(pullback([1, 2, 3])[0], np.exp(1.0) * np.array([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("function", FUNCTIONS, ids=label)
def test_functions__have_numpys_own_parameters(function):
    try:
        numpys = list(inspect.signature(function).parameters.values())
    except ValueError:
        pytest.skip("NumPy does not tell its parameters")
    if any(p.kind is p.VAR_KEYWORD for p in numpys) and function is not np.pad:
        pytest.skip("NumPy does not tell its parameters")
    ours = list(inspect.signature(FUNCTIONS[function]).parameters.values())
    for i, p in enumerate(ours):
        if p.kind is p.VAR_POSITIONAL or (function is np.pad and p.name == "constant_values"):
            continue
        if p.kind is p.KEYWORD_ONLY:
            assert p.name in {q.name for q in numpys}
        elif p.kind is p.POSITIONAL_OR_KEYWORD:
            assert p.name == numpys[i].name.replace("newshape", "shape")  # before NumPy 2.1
            assert numpys[i].kind is p.POSITIONAL_OR_KEYWORD
        if p.default not in (p.empty, np._NoValue, numpys[min(i, len(numpys) - 1)].default):
            assert p.kind is p.KEYWORD_ONLY or numpys[i].default in (p.empty, np._NoValue)
