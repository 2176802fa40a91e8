"""Ask the functions of others: in the arrays they take, twice, on copies, and check the answers.

    ask = Asked(f)              f takes NumPy, torch or JAX arrays; which, is found out
    y = ask(*args, shape=...)   its answer as an array of floats
    d = ask.gradient(...)       the derivative of its answer, a number, in its first argument

A function is unusable if it raises, changes its arguments, gives another answer to the same
question, a wrong shape, what is not finite, or a tensor that still hangs on a graph. Arrays of
booleans are given as floats, 0 and 1, to a function that raises for booleans.
"""

import copy
import importlib
import inspect
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from npgrad import Array, grad

FRAMEWORKS = "torch", "jax"
TWICE = 100  # questions that are asked twice, to see whether an answer is random


class Unusable(Exception):
    """Error of a function that cannot be judged: one line that says why."""


class Asked:
    """A function of somebody else's; see the module. `name` is said in errors. framework is numpy,
    torch or jax; None: the one that its module has imported, or else NumPy."""

    def __init__(
        self, f: Callable[..., Any], name: str | None = None, framework: str | None = None
    ) -> None:
        self.f, self.name = f, name or getattr(f, "__name__", "f")
        self.frameworks = [framework] if framework else [*_imported_by(f), "numpy"]
        self.asked = 0
        self.latest: list[tuple[str, type]] = []
        self.chosen = framework is not None

    def __call__(
        self, *args: Any, shape: tuple[int, ...] | None = None, finite: bool = True
    ) -> Array:
        """Return f(*args) (shape) as floats. Raises Unusable."""
        return self._ask(lambda into: self._answer(self._f(*into(args))), shape, finite)

    def gradient(self, *args: Any, finite: bool = True) -> Array:
        """Return ∂f/∂args[0], f(*args) being a number. Raises Unusable."""

        def differentiated(into: "Into") -> Array:
            x, *others = into(args)
            return DERIVATIVES[into.framework](self._f, x, *others)

        return self._ask(differentiated, np.shape(args[0]), finite)

    def _f(self, *args: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of nan, which is looked at
            return self.f(*args)

    def _possible(self) -> Iterator[tuple[str, type]]:
        """Yield frameworks and types of flags: what had an answer last; all; and the frameworks
        that f imports itself."""
        yield from self.latest
        yield from itertools.product(self.frameworks, (bool, float))
        if not self.chosen:
            found = [x for x in FRAMEWORKS if x in sys.modules and x not in self.frameworks]
            yield from itertools.product(found, (bool, float))

    def _ask(
        self, question: Callable[["Into"], Array], shape: tuple[int, ...] | None, finite: bool
    ) -> Array:
        """Ask in the first of `_possible` that has an answer; the first questions twice."""
        errors: list[Exception] = []
        for framework, flags in self._possible():
            try:
                into = Into(framework, flags)
                first = question(into)
                into.check_unchanged()
                again = question(Into(framework, flags)) if self.asked < TWICE else first
            except Unusable as error:
                raise Unusable(f"{self.name} {error}") from error
            except Exception as error:
                errors.append(error)
                continue
            self.latest, self.asked = [(framework, flags)], self.asked + 1
            return self._checked(first, again, shape, finite)
        told: Any = next((error for error in errors if "bool" not in str(error)), errors[0])
        text = " ".join(str(told).split())[:300]
        if isinstance(getattr(told, "obj", None), SimpleNamespace):
            text = f"{told.name}: must be among {', '.join(vars(told.obj))}"
        raise Unusable(f"{self.name} raises {type(told).__name__}: {text}") from told

    def _answer(self, y: Any) -> Array:
        """An answer as floats, those of a list of arrays one after the other. Raises Unusable for a
        tensor on a graph, and for what is no numbers."""
        if getattr(y, "requires_grad", False):
            raise Unusable(
                "returns a tensor that requires a gradient: must be numbers (y.detach())"
            )
        if y is None:
            raise Unusable("returns None: must be an array of numbers")
        if isinstance(y, list) and all(np.ndim(x) == 1 for x in y):
            return np.concatenate([self._answer(x) for x in y])
        try:
            given = np.asarray(_numpy(y))
            if np.iscomplexobj(given):
                raise Unusable("returns complex numbers: must be real")
            return np.array(given, float)
        except (TypeError, ValueError) as error:
            raise Unusable(f"returns {type(y).__name__}: must be an array of numbers") from error

    def _checked(
        self, y: Array, again: Array, shape: tuple[int, ...] | None, finite: bool
    ) -> Array:
        """y, if it is the same again, of this shape, and finite if it must be."""
        if shape is not None and y.shape != shape:
            raise Unusable(f"{self.name} returns shape {y.shape}: must be {shape}")
        if finite and not np.isfinite(y).all():
            raise Unusable(f"{self.name} returns {y[~np.isfinite(y)][0]}: must be finite")
        if y.shape != again.shape or not np.array_equal(y, again, equal_nan=True):
            raise Unusable(f"{self.name} gives two answers to one question: must not be random")
        return y


class Into:
    """Copies of arguments in a framework's arrays; `framework` is its name, flags the type of
    booleans, bool or float."""

    def __init__(self, framework: str, flags: type = bool) -> None:
        self.framework, self.flags = framework, flags
        self.given: tuple[Any, ...] = ()
        self.kept: list[Any] = []
        self.library: Any = np if framework == "numpy" else importlib.import_module(framework)
        if framework == "jax":
            self.library.config.update("jax_enable_x64", True)

    def __call__(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.given = tuple(self._into(x) for x in args)
        self.kept = copy.deepcopy([_numpy(x) for x in self.given])
        return self.given

    def _into(self, x: Any) -> Any:
        if isinstance(x, SimpleNamespace):
            return SimpleNamespace(**{name: self._into(value) for name, value in vars(x).items()})
        if isinstance(x, list):
            return [self._into(value) for value in x]
        if not isinstance(x, np.ndarray):
            return x
        x = x.astype(self.flags) if x.dtype == bool else x.copy()
        if self.framework == "numpy":
            return x
        return self.library.tensor(x) if self.framework == "torch" else self.library.numpy.array(x)

    def check_unchanged(self) -> None:
        """Raise Unusable if the arguments are no longer what they were."""
        now = [_numpy(x) for x in self.given]
        if not all(map(_same, now, self.kept)):
            raise Unusable("changes its arguments: must leave them as they are")


def _imported_by(f: Callable[..., Any]) -> list[str]:
    """The frameworks that the module of f has imported, of those that are loaded."""
    names = getattr(inspect.unwrap(f), "__globals__", {}).values()
    origins = {(getattr(x, "__module__", None) or getattr(x, "__name__", "")) for x in names}
    roots = {str(origin).partition(".")[0] for origin in origins}
    return [name for name in FRAMEWORKS if name in roots and name in sys.modules]


def _numpy(x: Any) -> Any:
    """An argument as NumPy's arrays."""
    if isinstance(x, SimpleNamespace):
        return {name: _numpy(value) for name, value in vars(x).items()}
    if isinstance(x, list):
        return [_numpy(value) for value in x]
    if hasattr(x, "detach"):
        return x.detach().numpy()
    return np.asarray(x) if hasattr(x, "shape") else x


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return np.array_equal(a, b)


def _by_npgrad(f: Callable[..., Any], x: Any, *others: Any) -> Array:
    return grad(f)(x, *others)


def _by_torch(f: Callable[..., Any], x: Any, *others: Any) -> Array:
    torch = importlib.import_module("torch")
    x = x.clone().requires_grad_()
    y = f(1 * x, *others)  # no leaf: f may change it in place, as it may what a network gives
    known = isinstance(y, torch.Tensor) and not y.ndim and y.requires_grad
    d = torch.autograd.grad(y, x, allow_unused=True)[0] if known else None
    if d is None:
        raise Unusable("must return a scalar tensor that depends on its first argument")
    return d.numpy()


def _by_jax(f: Callable[..., Any], x: Any, *others: Any) -> Array:
    jax = importlib.import_module("jax")
    return np.array(jax.grad(f)(x, *others), float)


DERIVATIVES = {"numpy": _by_npgrad, "torch": _by_torch, "jax": _by_jax}
