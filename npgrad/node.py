# mypy: ignore-errors
"""Nodes, which replace arrays while a function is being differentiated, and their tapes.

NumPy passes every ufunc and function that meets a `Node` to the Node (`__array_ufunc__`,
`__array_function__`). The Node computes the value, and its tape records the function and its
arguments. `rules.py` fills the table of derivatives, RULES; `functions.py` fills the tables of
NumPy's functions, FUNCTIONS and CONSTANT.
"""

import inspect
import math
from itertools import count
from operator import getitem
from operator import index as integer
from weakref import WeakValueDictionary

import numpy as np

from npgrad.trace import current, indexable, kept, static_index, tracers
from npgrad.traced import Traced

RULES = {}
FUNCTIONS = {}
CONSTANT = set()

_NUMBERS = {float, int, bool, *(np.dtype(c).type for c in "efdg?bhilqBHILQ")}
_VALUES = {*_NUMBERS, Traced}
_levels = count()  # only the order matters: a derivative that begins later has a larger level
_LARGE = 2**14  # bytes: to copy a smaller array is faster than to look for an equal copy
_copies = WeakValueDictionary()  # {where an array lies: a copy}, while a tape holds the copy


class Tape:
    """The record of one derivative: an entry (node, function, args, values) per operation.

    entries   in the order of computation. values are args with the Nodes of this tape replaced by
              their values, and arrays by copies, because the function may change them later. In
              args, None replaces arrays and the Nodes of other tapes. After the function has
              returned, entries is None, and the Nodes of this tape are constants
    level     an inner derivative has a larger level than the enclosing ones; infinite at the end
    """

    __slots__ = ("entries", "level")

    def __init__(self):
        self.entries = []
        self.level = next(_levels)

    def close(self):
        entries, self.entries, self.level = self.entries, None, math.inf
        return entries


class Node:
    """A value and the tape that records how it was computed.

    The value is an array, or a Node of an enclosing derivative. x.__class__ is the value's, so that
    isinstance(x, ...) and np.isscalar(x) are as for the value; type(x) is Node.
    """

    __slots__ = ("tape", "value")
    __hash__ = object.__hash__
    __class__ = property(lambda self: self.value.__class__)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method == "__call__" and not kwargs:
            if ufunc in RULES:
                return _unary(ufunc, *inputs) if len(inputs) == 1 else _binary(ufunc, *inputs)
            if ufunc in CONSTANT:
                return ufunc(*plain(inputs))
        if "out" not in kwargs and (method == "reduce" or ufunc in FUNCTIONS):
            function = ufunc if method == "__call__" else getattr(ufunc, method)
            return self.__array_function__(function, (), inputs, kwargs)
        if "out" in kwargs or method == "at":
            raise TypeError(
                f"{name_of(ufunc)}{'.at' if method == 'at' else ' with out='}, or an operator such "
                "as += on a plain array, would write a value that is being differentiated into an "
                "array: write a = a + x"
            )
        what = name_of(ufunc) if method == "__call__" else f"{name_of(ufunc)}.{method}"
        raise _no_rule(what + (f" with {'=, '.join(kwargs)}=" if kwargs else ""))

    def __array_function__(self, function, types, args, kwargs):
        implementation = FUNCTIONS.get(function)
        if implementation is None:
            if function in CONSTANT:
                return function(*plain(args), **{k: plain(v) for k, v in kwargs.items()})
            raise _no_rule(name_of(function))
        try:
            return implementation(*args, **kwargs)
        except TypeError:
            signature = inspect.signature(implementation)
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(
                    f"only {name_of(function)}{signature} has a derivative rule: {error}"
                ) from None
            raise

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "a value that is being differentiated cannot become a plain array here: np.array, "
            "np.asarray, a[i] = x, methods of plain arrays (write np.dot(a, x) for a.dot(x)) and "
            "functions outside NumPy would lose its derivative. Use np.stack or np.concatenate to "
            "collect values, and NumPy functions to compute with them"
        )

    def _no_number(self, *_):
        raise TypeError(
            "a value that is being differentiated cannot become a Python number (float(), int(), "
            "math.*, .item(), an index): its derivative would be lost. Use NumPy functions"
        )

    __float__ = __int__ = __complex__ = __index__ = item = tolist = _no_number

    def __reduce_ex__(self, protocol):
        raise TypeError(
            "a value that is being differentiated cannot be copied by copy.copy or pickled: "
            "np.copy keeps its derivative"
        )

    def __setitem__(self, index, value):
        raise TypeError(
            "item assignment into a value that is being differentiated has no derivative rule: "
            "build the result with np.where, np.concatenate or np.stack instead"
        )

    def __getitem__(self, index):
        value = self.value
        tape = self.tape
        entries = tape.entries
        if type(index) is slice:
            if (
                type(index.start) is not int
                or type(index.stop) is not int
                or index.step is not None
            ):
                index = _frozen(index)
        elif type(index) is not int:
            index = _frozen_index(index)
            if tracers:
                value = indexable(value, index)
        if entries is None:
            return value[index]
        node = Node()
        node.value = value[index]
        node.tape = tape
        entries.append((node, getitem, (self, None), (value, index)))
        return node

    def __bool__(self):
        return bool(self.value)

    def __len__(self):
        return len(self.value)

    def __iter__(self):
        return (self[i] for i in range(len(self.value)))

    def __repr__(self):
        return f"Node({self.value!r})"

    def __format__(self, spec):
        return format(self.value, spec)

    def __getattr__(self, name):
        raise AttributeError(
            f"array attribute or method '{name}' has no derivative rule: use a NumPy function "
            "that has one, or compute it outside the differentiated function"
        )

    def __pow__(self, exponent):
        if type(exponent) is int and exponent == 2:
            return _unary(np.square, self)
        return _binary(np.power, self, exponent)

    def reshape(self, *shape, order="C"):
        return FUNCTIONS[np.reshape](self, shape[0] if len(shape) == 1 else shape, order)

    def transpose(self, *axes):
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def astype(self, dtype):
        dtype = np.dtype(dtype)
        if dtype.kind == "f":
            return record(astype, self, dtype)
        if dtype.kind in "iub":
            return self.value.astype(dtype)  # a constant
        raise TypeError(
            f"astype({dtype}) of a value that is being differentiated: must be a real float type, "
            "or an integer type or bool for a constant; write a complex number as two real ones"
        )

    def flatten(self):
        return np.ravel(self)

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    base = None  # as for an array that is not a view
    real = property(lambda self: self)
    T = property(lambda self: FUNCTIONS[np.transpose](self))
    mT = property(lambda self: np.swapaxes(self, -1, -2))


def record(function, *args):
    """Return function(*args), recorded if an arg is a Node; `function` must be in RULES."""
    tape = None
    values = []
    arrays = False
    for arg in args:
        if type(arg) is Node:
            if type(arg.value) is Node or (tape is not None and arg.tape is not tape):
                return _record_nested(function, args)
            tape = arg.tape
            arg = arg.value
        elif type(arg) is np.ndarray:
            arg = keep(arg)
            arrays = True
        elif type(arg) is Traced:
            arg = kept(arg)
        values.append(arg)
    value = function(*values)
    if tape is None or tape.entries is None:
        return value
    if value.dtype.kind != "f" or (type(value) is not np.ndarray and type(value) not in _VALUES):
        raise _refused(function, value)
    node = Node()
    node.value = value
    node.tape = tape
    nodes = [arg if type(arg) is Node else None for arg in args] if arrays else args
    tape.entries.append((node, function, nodes, values))
    return node


def _record_nested(function, args):
    """Do what `record` does; the innermost derivative treats Nodes of the others as values."""
    tape = max((arg.tape for arg in args if type(arg) is Node), key=lambda tape: tape.level)
    nodes = [arg if type(arg) is Node and arg.tape is tape else None for arg in args]
    values = [keep(arg) if type(arg) in (np.ndarray, Traced) else arg for arg in args]
    values = [arg if node is None else node.value for arg, node in zip(values, nodes)]
    value = record(function, *values)
    if tape.entries is None:
        return value
    node = Node()
    node.value = value
    node.tape = tape
    tape.entries.append((node, function, nodes, values))
    return node


def _unary(ufunc, x):
    """Return record(ufunc, x) for a Node x, by a shorter path."""
    value = x.value
    tape = x.tape
    entries = tape.entries
    if entries is None:
        return ufunc(value)
    node = Node()
    node.value = ufunc(value)
    node.tape = tape
    entries.append((node, ufunc, (x,), (value,)))
    return node


def _binary(ufunc, x, y):
    """Return record(ufunc, x, y) for a Node and a Node or a constant, by a shorter path."""
    if type(x) is Node:
        tape = x.tape
        a = x.value
        if type(y) is Node:
            if y.tape is not tape:
                return _record_nested(ufunc, (x, y))
            b = y.value
        else:
            b = y if type(y) in _NUMBERS else constant(ufunc, y)
            y = None
    else:
        tape = y.tape
        a = x if type(x) in _NUMBERS else constant(ufunc, x)
        b = y.value
        x = None
    value = ufunc(a, b)
    entries = tape.entries
    if entries is None:
        return value
    node = Node()
    node.value = value
    node.tape = tape
    entries.append((node, ufunc, (x, y), (a, b)))
    return node


def constant(function, x):
    """Return x for use beside Nodes in the arguments of `function`; an array is copied.

    Raises TypeError unless x is real numbers in a plain array.
    """
    if type(x) is np.ndarray and x.dtype.kind in "fiub":
        if tracers and current():
            return kept(x)
        return x.copy("K") if x.nbytes < _LARGE else keep(x)
    if type(x) in (list, tuple):
        return constant(function, np.asarray(x))
    if type(x) in _NUMBERS:
        return x
    if type(x) is Traced and x.dtype.kind in "fiub":
        return kept(x)
    raise _refused(function, x)


def keep(x):
    """Return a copy of the array x, for a tape to hold.

    A large array is copied once: as long as a tape holds a copy and x has its bytes, that copy is
    returned again. Its memory is a bytes object, which nothing can change, and which tells such a
    copy, or a view of one, from other arrays: it is returned as it is.
    """
    if type(x) is Traced or (tracers and current()):
        return kept(x)
    if x.nbytes < _LARGE or x.dtype.hasobject:
        return x.copy("K")
    if bytes in (type(x.base), type(getattr(x.base, "base", None))):
        return x
    order = "F" if x.flags.fnc else "C"
    flat = x.reshape(-1, order=order)
    layout = None if x.flags.forc else (x.shape, x.strides)
    key = x.__array_interface__["data"][0], x.size, x.dtype, layout
    copy = _copies.get(key)
    bits = f"{'u' if x.itemsize in (1, 2, 4, 8) else 'V'}{x.itemsize}"  # so that nan equals nan
    if copy is None or not np.array_equal(copy.view(bits), flat.view(bits)):
        copy = _copies[key] = np.ndarray(x.size, x.dtype, flat.tobytes())
    return copy.reshape(x.shape, order=order)


def _frozen_index(index):
    """Return an index that later changes cannot affect; only its arrays of integers may repeat."""
    if isinstance(index, tuple):
        return tuple([_frozen(part) for part in index])
    return _frozen(index)


def _frozen(part):
    """Return a part of an index as an int, a slice of ints, None, ... or a copy as an array."""
    kind = type(part)
    if kind is np.ndarray:
        return keep(part)
    if kind is Traced:
        if type(part.value) is int:
            return part
        whole = part.ndim == 0 and part.dtype.kind in "iu"
        return static_index(part) if whole else keep(part)
    if kind is int or part is None or part is Ellipsis:
        return part
    if kind is slice:
        bounds = part.start, part.stop, part.step
        return slice(*[n if n is None else integer(n) for n in bounds])
    if kind not in (bool, np.bool):  # an integer to an older NumPy
        try:
            return integer(part)
        except TypeError:  # no integer, so NumPy makes an array of it
            pass
    array = np.asarray(part)
    return keep(array) if array.size else array.astype(int)  # an empty list has no integers


def _refused(function, x):
    kind = f"{x.dtype} array" if type(x) is np.ndarray else type(x).__name__
    return TypeError(
        f"{name_of(function)} of a value that is being differentiated and {kind}: must be real "
        "numbers in a plain array, e.g. np.asarray(x); write a complex number as two real ones"
    )


def astype(x, dtype):
    return x.astype(dtype)


def plain(args):
    """Return args with every Node replaced by its value, repeatedly, until no Node is left."""
    if isinstance(args, (tuple, list)):
        return (tuple if isinstance(args, tuple) else list)(map(plain, args))
    return plain(args.value) if type(args) is Node else args


def name_of(function):
    if isinstance(function, np.ufunc):
        return f"np.{function.__name__}"
    if hasattr(function, "__self__"):  # a ufunc's method, e.g. np.add.reduce
        return f"np.{function.__self__.__name__}.{function.__name__}"
    module = (getattr(function, "__module__", None) or "").replace("numpy", "np")
    return f"{module}.{function.__name__}" if module.startswith("np") else function.__name__


def _no_rule(what):
    return TypeError(
        f"{what} has no derivative rule: write it with NumPy functions that have one, or compute "
        "it outside the differentiated function"
    )


def _add_operators():
    """Give Node Python's operators and NumPy's array methods; each calls its NumPy function."""

    def arithmetic(name, ufunc):
        def operator(self, other):
            return _binary(ufunc, self, other)

        def reflected(self, other):
            return _binary(ufunc, other, self)

        def in_place(self, other):
            if isinstance(plain(self), np.ndarray):
                raise TypeError(
                    f"in-place operator {name}= on an array that is being differentiated: write "
                    f"x = x {name} y"
                )
            return _binary(ufunc, self, other)

        return operator, reflected, in_place

    for special, name, ufunc in (
        ("add", "+", np.add),
        ("sub", "-", np.subtract),
        ("mul", "*", np.multiply),
        ("truediv", "/", np.divide),
        ("matmul", "@", np.matmul),
        ("mod", "%", np.remainder),
        ("pow", "**", np.power),
    ):
        operator, reflected, in_place = arithmetic(name, ufunc)
        if special != "pow":
            setattr(Node, f"__{special}__", operator)
        setattr(Node, f"__r{special}__", reflected)
        setattr(Node, f"__i{special}__", in_place)

    def constant(ufunc):
        return lambda self, other: ufunc(*plain((self, other)))

    for special, ufunc in (
        ("lt", np.less),
        ("le", np.less_equal),
        ("gt", np.greater),
        ("ge", np.greater_equal),
        ("eq", np.equal),
        ("ne", np.not_equal),
        ("floordiv", np.floor_divide),
    ):
        setattr(Node, f"__{special}__", constant(ufunc))
    Node.__rfloordiv__ = lambda self, other: np.floor_divide(other, self.value)

    def unary(ufunc):
        return lambda self: _unary(ufunc, self)

    for special, ufunc in (("neg", np.negative), ("pos", np.positive), ("abs", np.absolute)):
        setattr(Node, f"__{special}__", unary(ufunc))

    def method(function):
        def call(self, *args, **kwargs):
            return self.__array_function__(function, (), (self, *args), kwargs)

        return call

    for name in (
        "sum mean prod var std max min cumsum ravel swapaxes squeeze repeat take diagonal trace "
        "dot clip round copy argmax argmin argsort nonzero any all searchsorted"
    ).split():
        setattr(Node, name, method(getattr(np, name)))


_add_operators()
