"""Compile a NumPy function, or its derivative, into a straight-line program."""

# mypy: disable-error-code="no-untyped-call,comparison-overlap"

import os
import threading
import warnings
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

import numpy as np

from npgrad.node import Node
from npgrad.program import Otherwise, Source
from npgrad.trace import tracing
from npgrad.traced import Traced, holds, walk

PROGRAMS = 64  # that a compiled function keeps
MET = 10_000  # sets of shapes that it counts
OUTCOMES = 8  # of them for one set of shapes
SCALARS = {np.dtype(c).type for c in "efdgFD?bhilqBHILQ"}  # data, as arrays are
STATIC = {float, int, bool, str, type(None)}


class _Program:
    """A program's source, and the runs of it that no thread uses now."""

    __slots__ = ("idle", "source")

    def __init__(self, source: Source) -> None:
        self.source, self.idle = source, [source.make()]


def compiled(f: Callable[..., Any], after: int = 0) -> Callable[..., Any]:
    """Return a function that behaves as f, bit for bit, but runs as a straight line of NumPy calls.

    f      any function of arrays in plain NumPy, grad(g), value_and_grad(g), or what uses them
    after  f itself runs in so many calls with arrays of new shapes, dtypes or strides

    The next call traces f, which takes milliseconds. 64 programs are kept. A new one replaces the
    oldest; with `after`, f itself runs instead. While the environment variable NPGRAD_PLAIN is set,
    nothing is traced: f itself runs where there is no program yet.

    Arrays among the arguments are data, of integers and booleans too. Numbers, strings, None and
    functions among them may decide in f; another one is traced anew. They may stand in tuples,
    lists and dicts.
    What is decided by an array's values (if x > 0, range(int(n)), x[int(i)], float(x), print(x))
    raises TypeError, which names the line: write np.where, x[i] and np.take.
    In-place operators and a[i] = x on what f computes, and random numbers, raise TypeError too.

    An array that f closes over is read at each call where it meets an argument; what f computes
    from such arrays alone is computed once. Whatever else f reads (another array or number under
    the same name, an object's attribute) is read when f is traced. f must have no other effect: it
    runs only when it is traced, and then twice. What does not enter the result is not computed.

    Results are new arrays. f_compiled(..., out=a) copies the result into an array a, or into each
    array of a tuple, and returns `out`. The program keeps the last arguments alive. Threads may
    call one compiled function at once.
    """
    if type(after) is not int or after < 0:
        raise ValueError(f"after = {after!r}: must be a whole number, at least 0")
    programs: dict[Any, list[_Program]] = {}
    met: dict[Any, int] = {}
    lock = threading.RLock()
    warned: list[bool] = []

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        key, arrays = _fast_key(args)
        if key is None or kwargs:
            if _is_traced((args, kwargs)):
                return f(*args, **kwargs)
            key, arrays = _key(args, kwargs)
        found = tuple(key)
        for program in programs.get(found, ()):
            idle = program.idle
            try:
                run = idle.pop()
            except IndexError:  # other threads are using all
                run = program.source.make()
            try:
                result = run(*arrays)
                break
            except Otherwise:
                continue
            finally:
                idle.append(run)
        else:
            if len(met) > MET:
                met.clear()
            met[found] = met.get(found, 0) + 1
            early = met[found] <= after or "NPGRAD_PLAIN" in os.environ
            early = early or (after > 0 and sum(map(len, programs.values())) >= PROGRAMS)
            result = (f if early else partial(traced, found, arrays))(*args, **kwargs)
        return result if out is None else _into(out, result)

    def traced(key: Any, arrays: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the result, by a new program if there is room for one more outcome."""
        with lock:
            known = programs.get(key, [])
            if len(known) >= OUTCOMES:
                return f(*args, **kwargs)
            program = _Program(program_of(f, args, kwargs))
            programs[key] = [*known, program]
            if sum(map(len, programs.values())) > PROGRAMS:
                del programs[next(iter(programs))]
                if not warned:
                    warned.append(True)
                    warnings.warn(
                        f"{_name(f)}, compiled, met more than {PROGRAMS} sets of shapes and "
                        "numbers: each new one is traced, and the oldest is dropped",
                        RuntimeWarning,
                        stacklevel=3,
                    )
        try:
            return program.source.make()(*arrays)
        except Otherwise:  # even with the numbers that were traced
            return f(*args, **kwargs)

    update_wrapper(call, f, updated=())
    call.compiled = call  # type: ignore[attr-defined]
    return call


def is_compiled(f: Any) -> bool:
    """Return whether `compiled` returned f; functools.wraps copies its attributes to others."""
    return getattr(f, "compiled", None) is f


def _is_traced(x: Any) -> bool:
    """Return whether another derivative or trace is under way: then f is a part of it."""
    return bool(holds(x, Node) or holds(x, Traced))


def _fast_key(args: Any) -> tuple[Any, list[Any]]:
    """Return what `_key` does, or (None, []) for tuples, lists and dicts among the arguments."""
    key: list[Any] = []
    arrays: list[Any] = []
    for x in args:
        kind = type(x)
        if kind is np.ndarray:
            key += (x.shape, x.strides, x.dtype)
            arrays.append(x)
        elif kind in SCALARS:
            key.append(kind)
            arrays.append(x)
        elif kind in STATIC:
            key += (kind, x if kind is not float else x.hex())
        elif callable(x):
            key += ("function", x)
        else:
            return None, []
    return key, arrays


def _key(args: Any, kwargs: Any) -> tuple[list[Any], list[Any]]:
    """Return what the program depends on, and the arrays among the arguments."""
    key: list[Any] = []
    arrays: list[Any] = []

    def leaf(x: Any) -> None:
        if type(x) is np.ndarray:
            key.extend((x.shape, x.strides, x.dtype))
            arrays.append(x)
        elif isinstance(x, np.generic):
            key.append(type(x))
            arrays.append(x)
        elif type(x) is float:
            key.append(x.hex())
        elif type(x) in (int, bool, str, complex, bytes, type(None), type(...)) or callable(x):
            key.append((type(x), x))
        elif isinstance(x, np.dtype):
            key.append(x)
        else:
            raise TypeError(
                f"an argument of a compiled function is of type {type(x).__name__}: must be an "
                "array, a number, a string, None, a function, or a tuple, list or dict of these"
            )

    walk((args, kwargs), leaf)
    form = walk((args, sorted(kwargs)), lambda x: None)
    key.append(repr((form, list(_dict_keys(args)), list(_dict_keys(kwargs)))))
    return key, arrays


def _dict_keys(x: Any) -> Any:
    if isinstance(x, dict):
        for name, y in x.items():
            yield name
            yield from _dict_keys(y)
    elif isinstance(x, (tuple, list)):
        for y in x:
            yield from _dict_keys(y)


def program_of(f: Callable[..., Any], args: Any, kwargs: Any) -> Source:
    """Trace f twice and return its program; raise TypeError if the two differ."""
    traces = [trace_of(f, args, kwargs) for _ in range(2)]
    (one, first), (two, second) = traces
    if _fingerprint(one, first) != _fingerprint(two, second):
        raise TypeError(
            f"{_name(f)} is not a function of its arguments: two calls with the same ones differ "
            "(random numbers, a counter, the time): pass these as arguments"
        )
    for where, (var, array, before) in one.constants.items():
        if where not in two.constants:  # made by f itself: nothing else can change it
            own = array.copy("K") if array.flags.forc else array  # of the same strides
            one.constants[where] = var, own, before
            one.private.add(var.n)
    return Source(one, first)


def trace_of(f: Callable[..., Any], args: Any, kwargs: Any, note: Any = None) -> Any:
    """Return (Tracer, result) of f, with a Traced value for each array among the arguments."""
    made: dict[int, Any] = {}

    def traced_args(tracer: Any) -> Any:
        def leaf(x: Any) -> Any:
            if type(x) is np.ndarray and x.dtype.kind not in "biufc":
                raise TypeError(f"an argument has dtype {x.dtype}: must be numbers or booleans")
            return tracer.input(x) if isinstance(x, (np.ndarray, np.generic)) else x

        made[0] = walk((args, kwargs), leaf)
        return made[0][0]

    tracer, result = tracing(f, traced_args, lambda tracer: made[0][1], note)
    walk(result, _checked)
    return tracer, result


def _checked(x: Any) -> None:
    if type(x) is Node:
        raise TypeError(
            "a compiled function closes over a value that is being differentiated: pass it as an "
            "argument"
        )
    plain = (np.ndarray, np.generic, int, float, complex, str, type(None))
    if not (type(x) is Traced or isinstance(x, plain)):
        raise TypeError(
            f"a compiled function returned {type(x).__name__}: must be arrays, numbers, strings, "
            "None, and tuples, lists and dicts of these"
        )


def _fingerprint(tracer: Any, result: Any) -> Any:
    """Return what two traces of one function have in common: lines, constants, result."""
    parts: list[Any] = []

    def leaf(x: Any) -> None:
        if isinstance(x, np.ndarray) and type(x) is not Traced:
            parts.append((x.shape, x.dtype, x.tobytes()))
        elif isinstance(x, (float, complex, np.generic)) and type(x) is not Traced:
            parts.append((type(x), np.asarray(x).tobytes()))
        elif type(x) is Traced:
            parts.append(x.entry.n)
        else:
            parts.append(getattr(x, "n", x if isinstance(x, (int, str)) else str(type(x))))

    for line in tracer.lines:
        parts.append(line.function)
        walk((line.args, line.kwargs), leaf)
    for var, _, before in tracer.constants.values():
        parts.append((var.n, var.value.shape, before))
    walk(result, leaf)
    return parts


def _name(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)


def _into(out: Any, result: Any) -> Any:
    """Copy the result into `out`, arrays in the form of the result."""
    if isinstance(result, (tuple, list)):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise TypeError(f"out: must have {len(result)} arrays, as the result has")
        for a, y in zip(out, result):
            _into(a, y)
        return out
    if type(out) is not np.ndarray or out.shape != np.shape(result):
        raise TypeError(f"out: must be an array of shape {np.shape(result)}")
    if out.dtype != np.result_type(result):
        raise TypeError(f"out has dtype {out.dtype}: must be {np.result_type(result)}")
    out[...] = result
    return out
