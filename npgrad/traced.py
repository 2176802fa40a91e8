# mypy: ignore-errors
"""Traced values, which replace arrays while a function is written down as a straight line.

NumPy passes every ufunc and function that meets a `Traced` to it. It computes the value at once,
and its `Tracer` (trace.py) writes the line (function, arguments, result). A tape may lie on top:
then the values of its Nodes are Traced.

A value may decide nothing in the user's code: `if`, `range`, an index by int(x), float(x) and
print(x) raise TypeError and name the line. Where npgrad's own code branches on a value, the Tracer
writes a line that demands the same outcome; another outcome needs another program.
"""

import operator
import sys

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

STATIC = {
    *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.iscomplexobj, np.isrealobj),
    *(np.zeros_like, np.ones_like, np.empty_like, np.common_type),
    *(np.tril_indices_from, np.triu_indices_from, np.diag_indices_from),
}  # which look at shapes and dtypes only
WRITING = {
    *(np.copyto, np.put, np.place, np.putmask, np.put_along_axis, np.fill_diagonal),
}
SAVING = {np.save, np.savez, np.savetxt, np.savez_compressed, np.array_repr, np.array_str}
SAVING |= {np.array2string}
REDUCE = {
    np.sum: np.add.reduce,
    np.prod: np.multiply.reduce,
    np.max: np.maximum.reduce,
    np.min: np.minimum.reduce,
}
BY_VALUE = (
    "write both cases with NumPy, e.g. np.where(mask, a, b); a Python number among the arguments "
    "may decide"
)
IN_PLACE = "write a = a + x, or build the result with np.where, np.stack or np.concatenate"
INDEX = "index by the array itself, e.g. x[i] or np.take(x, i, 0)"


_LEAVES = {int, float, bool, str, type(None), np.ndarray, np.dtype}


def walk(x, leaf):
    """Return x with leaf(y) in place of each y in its tuples, lists, dicts and slices."""
    kind = type(x)
    if kind is tuple or kind is list:
        return kind([walk(y, leaf) for y in x])
    if kind is dict:
        return {key: walk(y, leaf) for key, y in x.items()}
    if kind is slice:
        return slice(walk(x.start, leaf), walk(x.stop, leaf), walk(x.step, leaf))
    if kind not in _LEAVES and issubclass(kind, tuple):  # a NamedTuple
        new = getattr(kind, "_make", kind)
        return new([walk(y, leaf) for y in x])
    return leaf(x)


def value_of(x):
    return x.value if type(x) is Traced else x


def holds(x, kind):
    """Return whether x is of this type, or has such a part."""
    found = []
    walk(x, lambda y: found.append(y) if type(y) is kind else None)
    return bool(found)


def ours(depth=2):
    """Return whether the caller's caller is npgrad's code."""
    return sys._getframe(depth).f_globals.get("__name__", "").startswith("npgrad.")


def _refused_number(name, instead=BY_VALUE):
    def refuse(self, *_):
        raise self.tracer.refuse(f"{name} of a value", instead)

    return refuse


def _shown(self, *_):
    if self.tracer.open and not ours():  # npgrad's own messages may show it
        raise self.tracer.refuse("printing of a value", "return the value, and print the result")
    return repr(self.value)


class Traced(NDArrayOperatorsMixin):
    """A value that stands for an array or number, and the Var that its Tracer gave it.

    x.__class__ is the value's, so that isinstance answers as for the value.
    """

    __slots__ = ("entry", "tracer")
    __hash__ = object.__hash__
    __class__ = property(lambda self: self.entry.value.__class__)

    def __init__(self, tracer, var):
        self.tracer, self.entry = tracer, var

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if any(type(x).__name__ == "Node" for x in inputs):
            return NotImplemented
        name = f"np.{ufunc.__name__}"
        if out is not None or method == "at":
            raise self.tracer.refuse(f"{name} into an array (+=, out= or .at)", IN_PLACE)
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return self.tracer.record(function, inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if any(kind.__name__ == "Node" for kind in types):
            return NotImplemented
        name = f"np.{function.__name__}"
        if kwargs.get("out") is not None or function in WRITING:
            raise self.tracer.refuse(f"{name} into an array", IN_PLACE)
        kwargs = {key: x for key, x in kwargs.items() if key != "out"}
        if function in SAVING:
            raise self.tracer.refuse(name, "print or save the result of the call")
        if function in STATIC or (function is np.full_like and not holds(args[1:], Traced)):
            return function(*walk(args, value_of), **walk(kwargs, value_of))
        if function in REDUCE and len(args) <= 2 and type(args[0]) is Traced:
            args = args if len(args) == 2 else (*args, kwargs.pop("axis", None))
            return self.tracer.record(REDUCE[function], args, kwargs)
        return self.tracer.record(function, args, kwargs)

    def __array__(self, dtype=None, copy=None):
        raise self.tracer.refuse(
            "a value where NumPy wants a plain array (np.array, np.asarray, a[i] = x, a.dot(x), or "
            "a plain array indexed by it)",
            "use np.stack or np.concatenate to collect values, np.take(a, i, 0) for a[i], "
            "np.dot(a, x) for a.dot(x)",
        )

    __float__ = _refused_number("float() or a[i] = x", f"{BY_VALUE}; np.stack collects values")
    __int__ = _refused_number("int()")
    __complex__, tolist = _refused_number("complex()"), _refused_number(".tolist()")
    tobytes = _refused_number(".tobytes()")
    __repr__ = __str__ = __format__ = _shown

    def __index__(self):
        raise self.tracer.refuse("a value where Python wants an integer (range, an index)", INDEX)

    def __bool__(self):
        if not ours():
            raise self.tracer.refuse("a branch on a value (if, while, and, or, in)", BY_VALUE)
        outcome = bool(self.value)
        self.tracer.demand("bool", self.entry, outcome)
        return outcome

    def item(self, *index):
        if not ours():
            raise self.tracer.refuse(".item() of a value", BY_VALUE)
        return self.tracer.record("item", (self, *index), {})

    def __reduce_ex__(self, protocol):
        raise self.tracer.refuse("a pickle or copy.copy of a value", "np.copy copies it")

    def __setitem__(self, index, value):
        if not ours():
            raise self.tracer.refuse("a[i] = x", IN_PLACE)
        self.tracer.effect(operator.setitem, self, index, value)

    def __getitem__(self, index):
        return self.tracer.record(operator.getitem, (self, _listed(index)), {})

    def __len__(self):
        return len(self.value)

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self.value)))

    def __getattr__(self, name):
        if name in ("fill", "sort", "put", "partition", "resize", "setflags", "itemset"):
            raise self.tracer.refuse(f".{name}()", IN_PLACE)
        raise AttributeError(
            f"array attribute or method '{name}' of a value in a compiled function"
        )

    def __pow__(self, exponent):
        array = type(self.value) is np.ndarray and self.dtype.kind in "fc"
        if type(exponent) in (int, float) and exponent == 2 and array:
            return self.tracer.record(np.square, (self,), {})
        if type(exponent).__name__ == "Node":
            return NotImplemented
        return self.tracer.record(operator.pow, (self, exponent), {})

    def __rpow__(self, base):
        return self.tracer.record(operator.pow, (base, self), {})

    def dot(self, other):
        return np.dot(self, other)

    value = property(lambda self: self.entry.value)
    shape = property(lambda self: self.entry.value.shape)
    ndim = property(lambda self: self.entry.value.ndim)
    size = property(lambda self: self.entry.value.size)
    dtype = property(lambda self: self.entry.value.dtype)
    itemsize = property(lambda self: self.entry.value.itemsize)
    nbytes = property(lambda self: self.entry.value.nbytes)
    strides = property(lambda self: self.entry.value.strides)
    base = property(lambda self: None if self.entry.value.base is None else self)
    T = property(lambda self: self.tracer.record("transpose", (self,), {}))
    mT = property(lambda self: np.swapaxes(self, -1, -2))
    real = property(lambda self: np.real(self))
    imag = property(lambda self: np.imag(self))


def _listed(index):
    """Return an index in which lists are arrays, as NumPy reads them."""
    if type(index) is tuple:
        return tuple(map(_listed, index))
    if type(index) is list:
        return np.asarray(index) if index else np.asarray(index, int)
    return index


def _add_methods():
    def method(name):
        numpy = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}.get(name)

        def call(self, *args, **kwargs):
            if kwargs.get("out") is not None:
                raise self.tracer.refuse(f".{name}() with out=", IN_PLACE)
            if numpy:
                return self.__array_function__(numpy, (), (self, *args), kwargs)
            return self.tracer.record(name, (self, *args), kwargs)

        return call

    def in_place(name, operation):
        def operate(self, other):
            if not ours():
                raise self.tracer.refuse(f"the operator {name}", IN_PLACE)
            return operation(self, other)

        return operate

    for name, symbol in zip(
        "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split(),
        "+= -= *= /= //= %= **= @= &= |= ^= <<= >>=".split(),
    ):
        setattr(Traced, f"__i{name}__", in_place(symbol, getattr(operator, f"__{name}__")))

    for name in (
        "sum mean prod var std max min cumsum cumprod ravel swapaxes squeeze repeat take diagonal "
        "trace clip round copy argmax argmin argsort nonzero any all searchsorted astype reshape "
        "transpose flatten conj conjugate choose compress view"
    ).split():
        setattr(Traced, name, method(name))


_add_methods()
