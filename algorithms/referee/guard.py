"""Ask the functions of others: in the arrays they take, twice, on copies, and check the answers.

    ask = Asked(f)              f takes NumPy, torch or JAX arrays; which, is found out
    y = ask(*args, shape=...)   its answer as an array of floats
    d = ask.gradient(...)       the derivative of its answer, a number, in its first argument

A function is unusable if it raises, changes its arguments, gives another answer to the same
question, a wrong shape, what is not finite, or a tensor that still hangs on a graph.
"""

import copy
import importlib
import inspect
import sys
from types import SimpleNamespace

import numpy as np

from npgrad import grad

FRAMEWORKS = "torch", "jax"


class Unusable(Exception):
    """Error of a function that cannot be judged: one line that says why."""


class Asked:
    """A function of somebody else's; see the module. `name` is said in errors. framework is numpy,
    torch or jax; None: the one that its module has imported, or else NumPy."""

    def __init__(self, f, name=None, framework=None):
        self.f, self.name = f, name or getattr(f, "__name__", "f")
        self.frameworks = [framework] if framework else [*_imported_by(f), "numpy"]

    def __call__(self, *args, shape=None):
        """Return f(*args) (shape) as floats. Raises Unusable."""
        return self._ask(lambda into: _answer(self.f(*into(args))), args, shape)

    def gradient(self, *args):
        """Return ∂f/∂args[0], f(*args) being a number. Raises Unusable."""

        def differentiated(into):
            x, *others = into(args)
            return DERIVATIVES[into.framework](self.f, x, *others)

        return self._ask(differentiated, args, np.shape(args[0]))

    def _ask(self, question, args, shape):
        """Ask twice, in the first framework in which there is an answer."""
        errors = []
        for framework in self.frameworks:
            try:
                into = Into(framework)
                first = question(into)
            except Unusable as error:
                raise Unusable(f"{self.name} {error}") from error
            except Exception as error:
                errors.append(error)
                continue
            self.frameworks = [framework]
            into.check_unchanged(self.name)
            return self._checked(first, question(Into(framework)), shape)
        error = errors[0]
        text = " ".join(str(error).split())[:300]
        raise Unusable(f"{self.name} raises {type(error).__name__}: {text}") from error

    def _checked(self, y, again, shape):
        """y as floats, if it is the same again, of this shape, and finite."""
        if shape is not None and y.shape != shape:
            raise Unusable(f"{self.name} returns shape {y.shape}: must be {shape}")
        if not np.isfinite(y).all():
            raise Unusable(f"{self.name} returns {y[~np.isfinite(y)][0]}: must be finite")
        if y.shape != again.shape or not np.array_equal(y, again):
            raise Unusable(f"{self.name} gives two answers to one question: must not be random")
        return y


class Into:
    """Copies of arguments in a framework's arrays; `framework` is its name."""

    def __init__(self, framework):
        self.framework, self.given, self.kept = framework, (), ()
        self.library = None if framework == "numpy" else importlib.import_module(framework)
        if framework == "jax":
            self.library.config.update("jax_enable_x64", True)

    def __call__(self, args):
        self.given = tuple(self._into(x) for x in args)
        self.kept = copy.deepcopy([_numpy(x) for x in self.given])
        return self.given

    def _into(self, x):
        if isinstance(x, SimpleNamespace):
            return SimpleNamespace(**{name: self._into(value) for name, value in vars(x).items()})
        if not isinstance(x, np.ndarray):
            return x
        if self.framework == "numpy":
            return x.copy()
        return self.library.tensor(x) if self.framework == "torch" else self.library.numpy.array(x)

    def check_unchanged(self, name):
        """Raise Unusable if the arguments are no longer what they were."""
        now = [_numpy(x) for x in self.given]
        if not all(map(_same, now, self.kept)):
            raise Unusable(f"{name} changes its arguments: must leave them as they are")


def _imported_by(f):
    """The frameworks that the module of f has imported, of those that are loaded."""
    names = getattr(inspect.unwrap(f), "__globals__", {}).values()
    origins = {(getattr(x, "__module__", None) or getattr(x, "__name__", "")) for x in names}
    roots = {str(origin).partition(".")[0] for origin in origins}
    return [name for name in FRAMEWORKS if name in roots and name in sys.modules]


def _numpy(x):
    """An argument as NumPy's arrays."""
    if isinstance(x, SimpleNamespace):
        return {name: _numpy(value) for name, value in vars(x).items()}
    if hasattr(x, "detach"):
        return x.detach().numpy()
    return np.asarray(x) if hasattr(x, "shape") else x


def _same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    return np.array_equal(a, b)


def _answer(y):
    """An answer as an array of floats. Raises Unusable for a tensor on a graph or no numbers."""
    if getattr(y, "requires_grad", False):
        raise Unusable("returns a tensor that requires a gradient: must be numbers (y.detach())")
    try:
        return np.array(y, float)
    except (TypeError, ValueError) as error:
        raise Unusable(f"returns {type(y).__name__}: must be an array of numbers") from error


def _by_npgrad(f, x, *others):
    return grad(f)(x, *others)


def _by_torch(f, x, *others):
    torch = importlib.import_module("torch")
    x = x.clone().requires_grad_()
    y = f(x, *others)
    if not isinstance(y, torch.Tensor) or y.ndim or not y.requires_grad:
        raise Unusable("must return a scalar tensor that depends on its first argument")
    return torch.autograd.grad(y, x)[0].numpy()


def _by_jax(f, x, *others):
    jax = importlib.import_module("jax")
    return np.array(jax.grad(f)(x, *others), float)


DERIVATIVES = {"numpy": _by_npgrad, "torch": _by_torch, "jax": _by_jax}
