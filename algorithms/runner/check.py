"""`npgrad check`: the gradient test of npgrad.testing for a function in any file or module."""

import argparse
import contextlib
import functools
import importlib
import inspect
import operator
import os
import re
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithms.runner.errors import Failure, Outcome, UsageError, near, one_line, require

STATUS = {"agrees": 0, "wrong": 1, "cannot be told": 3}
ABOUT = """\
Judge a gradient of f at inputs drawn from its signature, and shrink a failing one to the smallest.
Without --gradient, npgrad's own derivative of f is judged, or that of --framework.

The arguments are annotated, as in (h: Float["N A"], a: Int["N"], x: float), or the module has
inputs = {"h": strategy}; see npgrad.testing.

exit status: 0 agrees, 1 wrong, 2 usage, 3 cannot be told"""


class Untold(Failure):
    """Error of a check that ends without an answer."""

    status = STATUS["cannot be told"]


class Late(BaseException):
    """A call that takes too long; no `except Exception` in the code under test may catch it."""


def check_command(argv, methods) -> Outcome:
    """Judge a gradient in somebody's code, which prints to stderr."""
    start, options = time.perf_counter(), _parse(argv)
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.devnull)  # leave no folder behind
    _installed("hypothesis", "npgrad[testing]")
    from npgrad.testing import Unusable, examine, paste

    framework = FRAMEWORKS[options.framework]()
    try:
        with contextlib.redirect_stdout(sys.stderr), _importing_from_here():
            f, gradient, how = _functions(options)
            given = {"argnums": options.argnums, "rtol": options.rtol}
            how |= {name: x for name, x in given.items() if x is not None}
            if framework:
                how |= {"jacobian": framework.jacobian, "who": options.framework}
                f, gradient = framework.adapted(f), gradient and framework.adapted(gradient)
            trial = examine(f, gradient, examples=options.examples, seed=options.seed, **how)
    except Unusable as error:
        raise UsageError(str(error)) from error
    except Late as late:
        name, inputs = late.args
        where = paste(inputs).replace("\n", "; ")
        raise Untold(f"{name} does not end within {options.timeout:g} s at {where}") from late
    except Exception as error:
        raise error if isinstance(error, UsageError) else Untold(one_line(error)) from error
    if not trial.examples:
        raise Untold(str(trial).replace("\n", "; "))
    seconds = round(time.perf_counter() - start, 3)
    return Outcome(_result(trial, paste, seconds), str(trial), STATUS[trial.answer])


def _result(trial, paste, seconds):
    """Return the Trial as what JSON can hold."""
    names = ("argument", "entry", "output", "given", "number", "error", "method", "step")
    return {
        "answer": trial.answer,
        "line": trial.line,
        **{name: getattr(trial.verdict, name, None) for name in names},
        "input": trial.inputs and paste(trial.inputs),
        "examples": trial.examples,
        "untold": dict(trial.untold),
        "discarded": dict(trial.discarded),
        "notes": list(trial.notes),
        "seconds": seconds,
    }


# The command line


def _parse(argv):
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "npgrad check", description=ABOUT, allow_abbrev=False, formatter_class=shape
    )
    parser.error = _usage
    add = parser.add_argument
    add("f", metavar="FILE:f", help="a function in a file or module, or one under @gradient_of")
    add("--gradient", metavar="FILE:g", help="its gradient, written by hand; g alone: in that FILE")
    add("--argnums", metavar="ARG", nargs="+", type=_number_or_name,
        help="numbers or names (default: all floats; with g, as many as it gives)")  # fmt: skip
    add("--examples", metavar="INT", type=int, default=100, help="inputs to judge (default: 100)")
    add("--rtol", metavar="FLOAT", type=float, help="relative error that agrees (default: 1e-7)")
    add("--seed", metavar="INT", type=int, default=0, help="seed of the inputs (default: 0)")
    add("--timeout", metavar="SECONDS", type=float, default=10.0, help="per call (default: 10)")
    add("--framework", choices=FRAMEWORKS, default="numpy",
        help="whose arrays f takes, and whose derivative is judged (default: numpy)")  # fmt: skip
    add("--json", action="store_true", help="print the result as one JSON object")
    add("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(argv)
    for name, right, allowed in (
        ("examples", options.examples >= 1, "at least 1"),
        ("rtol", options.rtol is None or 0 < options.rtol < 1, "in (0, 1)"),
        ("seed", options.seed >= 0, "at least 0"),
        ("timeout", 0 < options.timeout < 1e6, "in (0, 1e6)"),
    ):
        if not right:
            raise UsageError(f"--{name} = {getattr(options, name)}: must be {allowed}")
    return options


PHRASES = {
    r"argument (\S+): invalid (\w+) value: '(.*)'": r"\1 = \3: must be of type \2",
    r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)": r"\1 = \2: must be one of \3",
    r"argument (\S+): (expected .*)": r"\1: \2",
    r"unrecognized arguments: (.*)": r"\1: no such flag or argument",
    r"the following arguments are required: (.*)": r"missing: \1",
}


def _usage(message):
    """Raise argparse's message as UsageError, in the words of the other commands."""
    for pattern, phrase in PHRASES.items():
        message = re.sub(pattern, phrase, message)
    raise UsageError(message)


def _number_or_name(text):
    try:
        return int(text)
    except ValueError:
        return text


def _installed(module, package):
    try:
        return require(module, package)
    except Failure as error:  # status 1 would say that the gradient is wrong
        raise UsageError(str(error)) from error


# The code under test


@contextlib.contextmanager
def _importing_from_here():
    before = sys.path.copy()
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def _functions(options):
    """Return (f, its gradient or None, what @gradient_of says about the test)."""
    file, _, name = options.f.rpartition(":")
    if not file or not name:
        raise UsageError(f"FILE:f = {options.f}: must be like losses.py:loss")
    timed, module = functools.partial(_timed, options.timeout), _module(file, options.timeout)
    f = _function(module, file, name)
    if options.gradient is not None:
        other, _, other_name = options.gradient.rpartition(":")
        if not other_name:
            raise UsageError(f"--gradient = {options.gradient}: must be like losses.py:gradient")
        if other and other != file:
            file, module = other, _module(other, options.timeout)
        return timed(f, name), timed(_function(module, file, other_name), other_name), {}
    if hasattr(f, "gradient_of"):
        return timed(f.gradient_of), timed(f, name), dict(f.options)
    return timed(f, name), None, {}


def _module(file, seconds):
    """Import a module, or run a file as one. No bytecode is kept: files change within a second."""
    path = Path(file)
    try:
        with _limited(seconds, file):
            if path.suffix != ".py" and not path.is_file():
                return importlib.import_module(file)
            sys.path.insert(0, str(path.parent.resolve()))
            module = types.ModuleType(f"checked_{path.stem}")  # which replaces no other
            module.__file__ = str(path)
            sys.modules[module.__name__] = module  # where dataclasses look for it
            exec(compile(path.read_bytes(), file, "exec"), vars(module))
            return module
    except Late as late:
        raise UsageError(f"FILE = {file}: its import does not end within {seconds:g} s") from late
    except (Exception, SystemExit) as error:
        raise UsageError(f"FILE = {file}: cannot be imported: {one_line(error)}") from error


def _function(module, file, name):
    try:
        f = operator.attrgetter(name)(module)
    except AttributeError:
        raise UsageError(f"{file} has no {name}{near(name, vars(module))}") from None
    if not callable(f):
        raise UsageError(f"{file}:{name} is of type {type(f).__name__}: must be a function")
    return f


def _timed(seconds, f, name=None):
    """Return f, which raises Late if a call takes longer than `seconds`."""

    @functools.wraps(f)
    def timed(*args, **kwargs):
        inputs = lambda: inspect.signature(f).bind(*args, **kwargs).arguments
        with _limited(seconds, timed.__name__, inputs):
            try:
                return f(*args, **kwargs)
            except SystemExit as stop:
                raise RuntimeError(f"SystemExit: {stop}") from stop

    timed.__name__ = name or timed.__name__
    return timed


@contextlib.contextmanager
def _limited(seconds, name, inputs=dict):
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


# Frameworks


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
    torch = _installed("torch", "torch")

    def J(f, positions, values):
        def of_chosen(*chosen):
            return f(*[dict(zip(positions, chosen)).get(i, x) for i, x in enumerate(values)])

        chosen = tuple(values[i] for i in positions)
        return torch.autograd.functional.jacobian(of_chosen, chosen)

    return Framework(torch.Tensor, torch.as_tensor, lambda y: y.detach().numpy(), J)


def _jax():
    jax = _installed("jax", "jax")
    jax.config.update("jax_enable_x64", True)
    J = lambda f, positions, values: jax.jacrev(f, positions)(*values)
    return Framework(jax.Array, jax.numpy.asarray, np.asarray, J)


FRAMEWORKS = {"numpy": lambda: None, "torch": _torch, "jax": _jax}
