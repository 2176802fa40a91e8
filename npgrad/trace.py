# mypy: ignore-errors
"""Tracers, which write down what a function does with Traced values (traced.py), line by line."""

import builtins
import functools
import operator
import sys
from threading import get_ident

import numpy as np

from npgrad.traced import IN_PLACE, Traced, holds, value_of, walk

tracers = {}  # {thread: the Tracer at work there}


class Var:
    """The result of a line, or an input: its number, value, and the number of its memory's root."""

    __slots__ = ("n", "root", "value")

    def __init__(self, n, value, root):
        self.n, self.value, self.root = n, value, root


class Line:
    """One call: out = function(*args, **kwargs), in which Vars stand for the arrays.

    function   a function of NumPy or of rules.py, or the name of an array's method; "demand": the
               arguments are (what, expected); a line without `out` changes its first argument
    inputs     its Vars
    place      what `explain` wants to know of the line
    err        np.geterr() at the line, if it was not that of the caller
    """

    __slots__ = ("args", "err", "function", "inputs", "kwargs", "out", "place")

    def __init__(self, function, args, kwargs, out, place=None, err=None):
        self.function, self.args, self.kwargs, self.out = function, args, kwargs, out
        self.place, self.err, self.inputs = place, err, []
        walk((args, kwargs), lambda x: self.inputs.append(x) if type(x) is Var else None)


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
        if by_value(function, args, kwargs):
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
            for v in line.inputs:
                if type(v.value) is np.ndarray and np.may_share_memory(value, v.value):
                    return v.root
        return next((v.root for v in line.inputs if v.value is value), None)

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


def by_value(function, args, kwargs):
    """Return whether the shape of the result may depend on the numbers."""
    if function is operator.getitem:
        parts = args[1] if type(args[1]) is tuple else (args[1],)
        if any(type(p) is slice and holds(p, Var) for p in parts):
            return True
        return any(type(p) is Var and p.value.dtype.kind == "b" for p in parts if _has_dtype(p))
    if type(function) is not np.ufunc and _whole_number((args[1:], kwargs)):  # an axis, a length
        return True
    if function is np.where and len(args) == 1:
        return True
    if type(function) is str:
        return function in ("nonzero", "repeat", "compress")
    if isinstance(function, np.ufunc) or isinstance(getattr(function, "__self__", None), np.ufunc):
        return False
    return getattr(function, "__name__", "") not in SHAPED


def _whole_number(x):
    """Return whether x holds a Var that is an integer, not an array of them."""
    found = []
    walk(x, lambda y: found.append(y.value) if type(y) is Var else None)
    return any(np.ndim(y) == 0 and getattr(y, "dtype", np.dtype(int)).kind in "iub" for y in found)


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


def tracing(f, args, kwargs, note=None):
    """Return (Tracer, f's result) of one call; args and kwargs hold Traced values of this Tracer.

    `args` is a function of the Tracer that returns (args, kwargs).
    """
    tracer = Tracer(note)
    me, before = get_ident(), sys.getprofile()
    outer = tracers.get(me)
    tracers[me] = tracer
    try:
        if before is None:  # else a profiler is at work, and print is not noticed
            sys.setprofile(functools.partial(_watch, tracer))
        try:
            result = f(*args(tracer), **kwargs(tracer))
            result = walk(result, lambda x: tracer.lift(x) if type(x) is np.ndarray else x)
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
            del tracers[me]
        else:
            tracers[me] = outer
    return tracer, result


def _watch(tracer, frame, event, function):
    if event == "c_call" and function in (builtins.print, builtins.input):
        raise tracer.refuse(
            f"{function.__name__}()",
            "it would run only while the function is traced: print outside",
        )


def current():
    """Return the Tracer at work in this thread, or None."""
    return tracers.get(get_ident())


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
        if tracers and (line := as_line(call, *args)) is not None:
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
