"""The code of others, judged: its import, its time, and arrays of other frameworks."""

import contextlib
import functools
import importlib
import inspect
import operator
import os
import re
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithms.runner.errors import Failure, UsageError, near, one_line, require

STATUS = {"agrees": 0, "wrong": 1, "cannot be told": 3}


class Untold(Failure):
    """Error of a check that ends without an answer."""

    status = STATUS["cannot be told"]


class Late(BaseException):
    """A call that takes too long; no `except Exception` in the code under test may catch it."""


# the command line


PHRASES = {
    r"argument (\S+): invalid (\w+) value: '(.*)'": r"\1 = \3: must be of type \2",
    r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)": r"\1 = \2: must be one of \3",
    r"argument (\S+): (expected .*)": r"\1: \2",
    r"unrecognized arguments: (.*)": r"\1: no such flag or argument",
    r"the following arguments are required: (.*)": r"missing: \1",
}


def usage(message):
    """Raise argparse's message as UsageError, in the words of the other commands."""
    for pattern, phrase in PHRASES.items():
        message = re.sub(pattern, phrase, message)
    raise UsageError(message)


def installed(module, package):
    try:
        return require(module, package)
    except Failure as error:  # status 1 would say that the gradient is wrong
        raise UsageError(str(error)) from error


# the code


@contextlib.contextmanager
def importing_from_here():
    before = sys.path.copy()
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def load(file, seconds):
    """Import a module, or run a file as one. No bytecode is kept: files change within a second."""
    path = Path(file)
    try:
        with limited(seconds, file):
            if path.suffix != ".py" and not path.is_file():
                return importlib.import_module(file)
            sys.path.insert(0, str(path.parent.resolve()))
            module = types.ModuleType(f"checked_{path.stem}")  # which replaces no other
            module.__file__, module.__package__ = str(path), ""
            sys.modules[module.__name__] = module  # where dataclasses look for it
            exec(compile(path.read_bytes(), file, "exec"), vars(module))
            return module
    except Late as late:
        raise UsageError(f"FILE = {file}: its import does not end within {seconds:g} s") from late
    except (Exception, SystemExit) as error:
        hint = "; must be named as a module, like package.module:f"
        more = hint if "relative import" in str(error) else ""
        raise UsageError(f"FILE = {file}: cannot be imported: {one_line(error)}{more}") from error


def named(flag, text, seconds):
    """Return (function, its name) of FILE:NAME, whose calls end within `seconds`, or raise."""
    file, _, name = text.rpartition(":")
    if not file or not name:
        raise UsageError(f"{flag} = {text}: must be like mine.py:f")
    return timed(seconds, function(load(file, seconds), file, name), name), name


def function(module, file, name):
    try:
        f = operator.attrgetter(name)(module)
    except AttributeError:
        raise UsageError(f"{file} has no {name}{near(name, vars(module))}") from None
    if not callable(f):
        raise UsageError(f"{file}:{name} is of type {type(f).__name__}: must be a function")
    return f


def timed(seconds, f, name=None):
    """Return f, which raises Late if a call takes longer than `seconds`."""

    @functools.wraps(f)
    def timed(*args, **kwargs):
        inputs = lambda: inspect.signature(f).bind(*args, **kwargs).arguments
        with limited(seconds, timed.__name__, inputs):
            try:
                return f(*args, **kwargs)
            except SystemExit as stop:
                raise RuntimeError(f"SystemExit: {stop}") from stop

    timed.__name__ = name or timed.__name__
    return timed


@contextlib.contextmanager
def limited(seconds, name, inputs=dict):
    """Raise Late if Python code in the block runs longer; end the process if that is caught."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    rings = []

    def ring(*_):
        rings.append(1)
        if len(rings) > 2:
            os.write(2, f"npgrad: {name} does not end within {seconds:g} s\n".encode())
            os._exit(Untold.status)
        raise Late(name, inputs())

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# frameworks


class Framework(NamedTuple):
    """A library of arrays: their type, conversions, and J(f, positions, values) as a tuple."""

    array: type
    into: Callable
    back: Callable
    J: Callable

    def adapted(self, f):
        """Return f, which takes their arrays, for NumPy's as well."""

        @functools.wraps(f)
        def adapted(*args, **kwargs):
            theirs = any(isinstance(x, self.array) for x in (*args, *kwargs.values()))
            y = f(*map(self.taken, args), **{name: self.taken(x) for name, x in kwargs.items()})
            return self.back(y) if isinstance(y, self.array) and not theirs else y

        return adapted

    def taken(self, x):
        return self.into(np.asarray(x)) if isinstance(x, (np.ndarray, float)) else x

    def jacobian(self, f, positions):
        """Return their derivative as a function like npgrad's."""
        return lambda *values: map(self.back, self.J(f, positions, [*map(self.taken, values)]))


def _torch():
    torch = installed("torch", "torch")

    def J(f, positions, values):
        def of_chosen(*chosen):
            return f(*[dict(zip(positions, chosen)).get(i, x) for i, x in enumerate(values)])

        chosen = tuple(values[i] for i in positions)
        return torch.autograd.functional.jacobian(of_chosen, chosen)

    return Framework(torch.Tensor, torch.as_tensor, lambda y: y.detach().numpy(), J)


def _jax():
    jax = installed("jax", "jax")
    jax.config.update("jax_enable_x64", True)
    J = lambda f, positions, values: jax.jacrev(f, positions)(*values)
    return Framework(jax.Array, jax.numpy.asarray, np.asarray, J)


FRAMEWORKS = {"numpy": lambda: None, "torch": _torch, "jax": _jax}
