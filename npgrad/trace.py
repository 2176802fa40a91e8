# mypy: ignore-errors
"""Traced values, which replace arrays while a function is written down as a straight line.

NumPy passes every ufunc and function that meets a `Traced` to it. It computes the value at once,
and its `Tracer` writes the line (function, arguments, result). A tape may lie on top: then the
values of its Nodes are Traced.

A value may decide nothing in the user's code: `if`, `range`, an index by int(x), float(x) and
print(x) raise TypeError and name the line. Where npgrad's own code branches on a value, the Tracer
writes a line that demands the same outcome; another outcome needs another program.
"""

import builtins
import functools
import operator
import sys
from threading import get_ident

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

_tracers = {}  # {thread: the Tracer at work there}

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


class Var:
    """The result of a line, or an input: its number, value, and the number of its memory's root."""

    __slots__ = ("n", "root", "value")

    def __init__(self, n, value, root):
        self.n, self.value, self.root = n, value, root


class Line:
    """One call: out = function(*args, **kwargs), in which Vars stand for the arrays.

    function   a function of NumPy or of rules.py, or the name of an array's method; "demand": the
               arguments are (what, expected); a line without `out` changes its first argument
    place      what `explain` wants to know of the line
    err        np.geterr() at the line, if it was not that of the caller
    """

    __slots__ = ("args", "err", "function", "kwargs", "out", "place")

    def __init__(self, function, args, kwargs, out, place=None, err=None):
        self.function, self.args, self.kwargs, self.out = function, args, kwargs, out
        self.place, self.err = place, err

    def inputs(self):
        found = []
        walk((self.args, self.kwargs), lambda x: found.append(x) if type(x) is Var else None)
        return found


def walk(x, leaf):
    """Return x with leaf(y) in place of each y in its tuples, lists, dicts and slices."""
    kind = type(x)
    if kind is tuple or kind is list:
        return kind([walk(y, leaf) for y in x])
    if kind is dict:
        return {key: walk(y, leaf) for key, y in x.items()}
    if kind is slice:
        return slice(walk(x.start, leaf), walk(x.stop, leaf), walk(x.step, leaf))
    if issubclass(kind, tuple):  # a NamedTuple
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


class Tracer:
    """The lines of one call of a function.

    lines      in the order of computation
    inputs     the Vars of the arguments' arrays
    constants  {where an array lies: (Var, the array, its bytes when it was met)}
    private    numbers of the constants that f made itself
    refusal    the first error, which is raised even if the function caught it
    note       None, or a function that returns a line's `place`
    """

    def __init__(self, note=None):
        self.lines, self.inputs, self.constants = [], [], {}
        self.refusal, self.note, self.vars, self.open = None, note, [], True
        self.err, self.private = np.geterr(), set()

    def var(self, value, root=None):
        v = Var(len(self.vars), value, len(self.vars) if root is None else root)
        self.vars.append(v)
        return v

    def input(self, value):
        self.inputs.append(self.var(value))
        return Traced(self, self.inputs[-1])

    def lift(self, array):
        """Return the Traced of a plain array, which the program will read where it lies."""
        where = array.__array_interface__["data"][0], array.shape, array.strides, array.dtype
        if where not in self.constants:
            self.constants[where] = self.var(array), array, array.tobytes()
        return Traced(self, self.constants[where][0])

    def refuse(self, what, instead):
        frame = user_frame()
        at = f"{frame.f_code.co_filename}:{frame.f_lineno}: " if frame else ""
        error = TypeError(f"{at}{what} in a compiled function: {instead}")
        self.refusal = self.refusal or error
        return error

    def record(self, function, args, kwargs):
        """Return function(*args, **kwargs) as Traced values, by a line."""
        if not self.open:
            raise TypeError("a value of a compiled function has outlived the call that traced it")
        refs = walk((tuple(args), kwargs), self._reference)
        args, kwargs = walk((tuple(args), kwargs), value_of)
        if type(function) is str:
            value = getattr(args[0], function)(*args[1:], **kwargs)
        else:
            value = function(*args, **kwargs)
        return self._written(function, *refs, value)

    def _reference(self, x):
        if type(x) is Traced:
            if x.tracer is not self:
                raise TypeError("a value of another call of a compiled function")
            return x.entry
        if type(x) is np.ndarray:
            return self.lift(x).entry
        return x

    def _written(self, function, args, kwargs, value):
        err = np.geterr()
        err = None if err == self.err else err
        line = Line(function, args, kwargs, None, self.note and self.note(), err)
        line.out = self.var(value, self._root(line, value))
        self.lines.append(line)
        out = Traced(self, line.out)
        if _by_value(function, args):
            self.demand("shape", line.out, _shapes(value))
        return self._opened(out, line)

    def _opened(self, out, line):
        """Return a tuple or list of results as one of Traced values."""
        if not isinstance(out.value, (tuple, list)):
            return out
        parts = []
        for i, value in enumerate(out.value):
            item = Line(operator.getitem, (out.entry, i), {}, None, line.place, line.err)
            item.out = self.var(value, self._root(line, value))
            self.lines.append(item)
            parts.append(self._opened(Traced(self, item.out), line))
        kind = type(out.value)
        return getattr(kind, "_make", kind)(parts)

    def _root(self, line, value):
        """Return the root of the input that the result is a view of; None if it is of none."""
        if type(value) is np.ndarray and (value.base is not None or value.size == 0):
            for v in line.inputs():
                if type(v.value) is np.ndarray and np.may_share_memory(value, v.value):
                    return v.root
        return next((v.root for v in line.inputs() if v.value is value), None)

    def demand(self, what, var, expected):
        self.lines.append(Line("demand", (what, var, expected), {}, None))

    def effect(self, function, target, *args):
        """Record function(target, *args), which changes the array `target`; return its Traced."""
        if type(target) is not Traced:
            target = self.record("copy", (target,), {})
        refs = walk(args, self._reference)
        function(target.value, *walk(args, value_of))
        self.lines.append(
            Line(function, (target.entry, *refs), {}, None, self.note and self.note())
        )
        return target

    def close(self):
        """End the trace; raise TypeError if something in it was refused."""
        self.open = False
        for _, array, before in self.constants.values():
            if array.tobytes() != before:
                self.refuse("an array was changed in place after its use", IN_PLACE)
        if self.refusal:
            raise self.refusal


def _by_value(function, args):
    """Return whether the shape of the result may depend on the numbers."""
    if function is operator.getitem:
        parts = args[1] if type(args[1]) is tuple else (args[1],)
        return any(type(p) is Var and p.value.dtype.kind == "b" for p in parts if _has_dtype(p))
    if type(function) is str:
        return function in ("nonzero", "repeat", "compress")
    if isinstance(function, np.ufunc) or isinstance(getattr(function, "__self__", None), np.ufunc):
        return False
    return getattr(function, "__name__", "") not in SHAPED


def _has_dtype(x):
    return type(x) is Var and hasattr(x.value, "dtype")


SHAPED = set(
    "reshape ravel transpose swapaxes moveaxis expand_dims squeeze broadcast_to concatenate stack "
    "where clip mean var std sum cumsum cumprod dot einsum take take_along_axis argmax argmin "
    "argsort sort inv det solve cholesky norm tril triu flip roll outer inner trace diagonal "
    "copy isclose real imag any all max min prod masked won ratio lead unit tanh_gradient "
    "arctan_gradient logsumexp_gradient scatter scatter_all count_nonzero index".split()
)


def _shapes(value):
    if isinstance(value, (tuple, list)):
        return tuple(map(_shapes, value))
    return np.shape(value), np.result_type(value) if not isinstance(value, str) else None


def user_frame():
    """Return the innermost frame that is neither NumPy's nor npgrad's."""
    frame = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in ("numpy", "npgrad"):
        frame = frame.f_back
    return frame


def ours(depth=2):
    """Return whether the caller's caller is npgrad's code."""
    return sys._getframe(depth).f_globals.get("__name__", "").startswith("npgrad.")


def tracing(f, args, kwargs, note=None):
    """Return (Tracer, f's result) of one call; args and kwargs hold Traced values of this Tracer.

    `args` is a function of the Tracer that returns (args, kwargs).
    """
    tracer = Tracer(note)
    me, before = get_ident(), sys.getprofile()
    outer = _tracers.get(me)
    _tracers[me] = tracer
    try:
        if before is None:  # else a profiler is at work, and print is not noticed
            sys.setprofile(functools.partial(_watch, tracer))
        try:
            result = f(*args(tracer), **kwargs(tracer))
        finally:
            if before is None:
                sys.setprofile(None)
        tracer.close()
    except Exception:
        if tracer.refusal is not None:
            raise tracer.refusal from None
        raise
    finally:
        tracer.open = False
        if outer is None:
            del _tracers[me]
        else:
            _tracers[me] = outer
    return tracer, result


def _watch(tracer, frame, event, function):
    if event == "c_call" and function in (builtins.print, builtins.input):
        raise tracer.refuse(
            f"{function.__name__}()", "it would run only while the function is traced: print outside"
        )


def current():
    """Return the Tracer at work in this thread, or None."""
    return _tracers.get(get_ident())


def as_line(f, *args):
    """Return f(*args) as one line of a program; None where f computes on arrays, or is taped.

    It is for an f that branches on the numbers in its arrays.
    """
    kinds = set()
    if (tracer := current()) is None:
        return None
    walk(args, lambda x: kinds.add(type(x)))
    taped = any(kind.__name__ == "Node" for kind in kinds)
    return None if taped or Traced not in kinds else tracer.record(f, args, {})


def whole(f):
    """Return f, which is `as_line` if there are Traced values in its arguments."""

    @functools.wraps(f)
    def call(*args):
        if _tracers and (line := as_line(call, *args)) is not None:
            return line
        return f(*args)

    call.plain = f
    return call


def changed(f, target, *args):
    """Do f(target, ...), which changes target in place, as one line if it is traced."""
    tracer = current()
    if tracer is not None and (type(target) is Traced or holds(args, Traced)):
        return tracer.effect(f, target, *args)
    f(target, *args)
    return target


def kept(x):
    """Return what a tape may hold of x: an array that later changes cannot reach.

    x   a Traced; or a plain array, while a function is traced
    """
    x = x if type(x) is Traced else current().lift(x)
    return x.tracer.record("copy", (x, "K"), {}) if type(x.value) is np.ndarray else x


def indexable(x, index):
    """Return x, or its Traced if x is a plain array and the index has Traced parts."""
    plain = type(x) is np.ndarray and (tracer := current()) and holds(index, Traced)
    return tracer.lift(x) if plain else x


def static_index(x):
    """Return the Traced of operator.index(x)."""
    return x.tracer.record(operator.index, (x,), {})


def _refused_number(name, instead=BY_VALUE):
    def refuse(self, *_):
        raise self.tracer.refuse(f"{name} of a value", instead)

    return refuse


def _shown(self, *_):
    if self.tracer.open:
        raise self.tracer.refuse("printing of a value", "return the value, and print the result")
    return f"Traced({self.value!r})"


class Traced(NDArrayOperatorsMixin):
    """A value that stands for an array or number, and the Var that its Tracer gave it.

    x.__class__ is the value's, so that isinstance answers as for the value.
    """

    __slots__ = ("tracer", "entry")
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
        raise self.tracer.refuse("a[i] = x", IN_PLACE)

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
        raise AttributeError(f"array attribute or method '{name}' of a value in a compiled function")

    def __pow__(self, exponent):
        if type(exponent) in (int, float) and exponent == 2 and self.dtype.kind in "fc":
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
