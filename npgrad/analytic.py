"""A proof that the complex step may be used: f is run once on a `Probe`, which sees each operation.

The complex step is exact for analytic code, and silently wrong for np.abs, .real, float() and many
others. A Probe wraps a complex array. It lets through the operations that are analytic at this
point, with NumPy's own results, and raises Doubt at the first that is not known to be:

    arithmetic, exp, sin, ..., sums, products, shapes, indexing   analytic
    sqrt, log, arcsin, ..., powers that are no integers           inside their domain only: at its
                                                                  edge sqrt(x x) has a kink
    comparisons, maximum, max, clip, sort, argmax, ...            without a tie only: then NumPy's
                                                                  order of complex numbers chooses
                                                                  as for real numbers
    all else, e.g. abs, sign, real, norm, cholesky, np.asarray    doubtful
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from npgrad.types import Array


class Doubt(BaseException):
    """The operation that is not known to be analytic. An `except Exception` in f misses it."""


ANALYTIC = {
    *(np.negative, np.positive, np.add, np.subtract, np.multiply, np.divide, np.square, np.matmul),
    *(np.reciprocal, np.exp, np.exp2, np.expm1, np.sin, np.cos, np.tan, np.sinh, np.cosh, np.tanh),
    *(np.arctan, np.arcsinh),
    *(np.reshape, np.ravel, np.transpose, np.swapaxes, np.matrix_transpose, np.moveaxis),
    *(np.expand_dims, np.squeeze, np.broadcast_to, np.broadcast_arrays, np.atleast_1d),
    *(np.atleast_2d, np.atleast_3d, np.concatenate, np.stack, np.hstack, np.vstack, np.dstack),
    *(np.column_stack, np.append, np.split, np.array_split, np.tile, np.repeat, np.flip, np.fliplr),
    *(np.flipud, np.roll, np.rot90, np.pad, np.copy, np.where, np.take, np.take_along_axis),
    *(np.diagonal, np.diag, np.trace, np.tril, np.triu, np.diff, np.sum, np.mean),
    *(np.prod, np.cumsum, np.cumprod, np.average, np.dot, np.inner, np.outer, np.tensordot),
    *(np.einsum, np.kron, np.cross, np.polyval, np.trapezoid, np.linalg.inv, np.linalg.solve),
    *(np.linalg.det, np.linalg.outer, np.linalg.matmul, np.linalg.trace, np.linalg.diagonal),
    *(np.zeros_like, np.ones_like),
}
FACTS = {np.shape, np.ndim, np.size, np.result_type}
INSIDE = {  # f: where it is analytic
    np.sqrt: lambda x: x > 0,
    np.log: lambda x: x > 0,
    np.log2: lambda x: x > 0,
    np.log10: lambda x: x > 0,
    np.log1p: lambda x: x > -1,
    np.arcsin: lambda x: abs(x) < 1,
    np.arccos: lambda x: abs(x) < 1,
    np.arctanh: lambda x: abs(x) < 1,
    np.arccosh: lambda x: x > 1,
}
POWERS = {np.power, np.float_power}
CHOICES = {
    *(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal),
    *(np.maximum, np.minimum),
}
EXTREMES = {np.max, np.amax, np.argmax, np.min, np.amin, np.argmin}
ORDERS: set[Callable[..., Any]] = {np.sort, np.argsort}
METHODS = set(
    "sum mean prod cumsum cumprod ravel swapaxes squeeze repeat take diagonal trace dot copy clip "
    "max min argmax argmin argsort".split()
)


class Probe(NDArrayOperatorsMixin):
    """A complex array that lets only analytic operations through."""

    def __init__(self, value: Array):
        self.value = value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "reduce" and ufunc in (np.add, np.multiply, np.maximum, np.minimum):
            kwargs.setdefault("axis", 0)
            name = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}
            function = getattr(np, name[ufunc.__name__])
            return self.__array_function__(function, (), inputs, kwargs)
        plain = [_plain(x) for x in inputs]
        if method != "__call__" or kwargs:
            raise Doubt(f"np.{ufunc.__name__} with {method}, {', '.join(kwargs)}")
        if ufunc in CHOICES:
            if np.any(np.real(plain[0]) == np.real(plain[1])):
                raise Doubt(f"np.{ufunc.__name__} has a tie")
        elif ufunc in POWERS:
            _power(*inputs)
        elif ufunc in INSIDE:
            if not np.all(INSIDE[ufunc](plain[0].real)):
                raise Doubt(f"np.{ufunc.__name__} at the edge of its domain")
        elif ufunc not in ANALYTIC:
            raise Doubt(f"np.{ufunc.__name__} is not analytic")
        return _wrapped(ufunc(*plain))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if "out" in kwargs:
            raise Doubt(f"{function.__name__} with out=")
        plain, options = _plain(args), {name: _plain(x) for name, x in kwargs.items()}
        if function is np.clip:
            low, high = [*args[1:], None, None][:2]
            low = kwargs.get("min", kwargs.get("a_min", low))
            high = kwargs.get("max", kwargs.get("a_max", high))
            y = args[0] if low is None else np.maximum(args[0], low)
            return y if high is None else np.minimum(y, high)
        if function is np.where and isinstance(args[0], Probe):
            raise Doubt("np.where with a condition that is no comparison")
        if function in EXTREMES | ORDERS:
            _no_ties(function, plain, options)
        elif function not in ANALYTIC | FACTS:
            raise Doubt(f"{getattr(function, '__name__', function)} is not known to be analytic")
        return _wrapped(function(*plain, **options))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise Doubt("np.asarray, or a function outside NumPy")

    def _number(self, *_: Any) -> Any:
        raise Doubt("float() or a function outside NumPy")

    __float__ = __int__ = __complex__ = __index__ = __setitem__ = _number

    def __getattr__(self, name: str) -> Any:
        if name in ("real", "imag", "conj", "conjugate"):
            raise Doubt(f"the attribute {name}")
        if name not in METHODS:
            raise AttributeError(name)
        function = getattr(np, name)
        return lambda *args, **kwargs: self.__array_function__(function, (), (self, *args), kwargs)

    def __getitem__(self, index: Any) -> Any:
        return _wrapped(self.value[index])

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (_wrapped(x) for x in self.value)

    def __bool__(self) -> bool:
        if np.any(np.real(self.value) == 0):
            raise Doubt("the truth of 0")
        return bool(self.value)

    def reshape(self, *shape: Any) -> Any:
        return _wrapped(self.value.reshape(*shape))

    def transpose(self, *axes: Any) -> Any:
        return _wrapped(self.value.transpose(*axes))

    def astype(self, dtype: Any) -> Any:
        if np.dtype(dtype) != self.value.dtype:
            raise Doubt(f"astype({dtype})")
        return self

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    T = property(lambda self: _wrapped(self.value.T))
    mT = property(lambda self: _wrapped(np.swapaxes(self.value, -1, -2)))


def doubt(f: Callable[[Any], Any], z: Any, y: Array, noise: Array) -> str:
    """Return why it is not certain that f is analytic at the complex z; "" if it is.

    y      f(z), shaped like `noise`, the bound of the noise of its real part
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            traced = np.asarray(_plain(f(Probe(z))))
    except Doubt as found:
        return str(found)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    traced = traced.reshape(-1) if traced.shape == np.shape(y) else np.array([np.nan])
    y, rtol = np.ravel(y), 1e-6 + noise / np.maximum(np.abs(np.ravel(y)), 1e-300)
    same = [
        np.abs(a - b) <= rtol * np.abs(b) for a, b in ((traced.real, y.real), (traced.imag, y.imag))
    ]
    if not np.all(same):
        return "f takes another branch for arrays that are no np.ndarray"
    return ""


def _plain(x: Any) -> Any:
    """Return x with every Probe replaced by its array."""
    if isinstance(x, (tuple, list)):
        return type(x)(map(_plain, x)) if type(x) in (tuple, list) else x
    return x.value if isinstance(x, Probe) else x


def _wrapped(y: Any) -> Any:
    """Return y with its complex arrays as Probes."""
    if isinstance(y, (tuple, list)):
        return type(y)(map(_wrapped, y)) if type(y) in (tuple, list) else y
    return Probe(y) if np.asarray(y).dtype.kind == "c" else y


def _power(x: Any, y: Any) -> None:
    """Raise Doubt unless the exponents are plain integers or the bases are positive."""
    if not isinstance(y, Probe) and np.all(np.asarray(y) == np.round(np.real(y))):
        return
    if not np.all(np.real(_plain(x)) > 0):
        raise Doubt("a power at the edge of its domain")


def _no_ties(function: Any, args: Any, options: Any) -> None:
    """Raise Doubt if two of the entries that `function` chooses between are equal."""
    x = np.real(args[0])
    axis = options.get("axis", args[1] if len(args) > 1 else (-1 if function in ORDERS else None))
    if axis is None:
        x, axis = x.reshape(-1), 0
    if isinstance(axis, tuple):
        raise Doubt(f"np.{function.__name__} over several axes")
    ordered = np.sort(x, axis)
    gaps = np.diff(ordered, axis=axis) == 0
    if function in EXTREMES:
        last = function in (np.max, np.amax, np.argmax)
        gaps = np.take(gaps, [-1 if last else 0], axis) if gaps.shape[axis] else gaps
    if np.any(gaps):
        raise Doubt(f"np.{function.__name__} has a tie")
