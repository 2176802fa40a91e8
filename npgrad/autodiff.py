"""Reverse-mode automatic differentiation of plain NumPy code.

A function under differentiation is called with `Node`s in place of arrays. NumPy passes every ufunc
and function that meets a Node to the Node (`__array_ufunc__`, `__array_function__`), so user code
keeps its `import numpy as np`. The Node computes the value, and the tape of this derivative records
the function and its arguments. Then the tape is read backwards: each entry passes the gradient ȳ of
its output y to its arguments by the function's rule (`rules.py`):

    x̄ = Σ_{y made from x}  (∂y/∂x)ᵀ ȳ .

Nested derivatives need no extra mechanism. In an inner derivative the values are Nodes of the
enclosing derivative, and the rules, which are NumPy code, are recorded by the enclosing tape. Each
tape belongs to one call, so derivatives in several threads are independent.

A function without a rule raises TypeError. The differentiated function may change its own plain
arrays in place, but not the arrays it is differentiated with respect to: the backward pass reads
these again (`vjp` copies them).

isinstance, np.isscalar, np.iterable and np.ndim answer inside f as on plain values, so f takes the
same branch. The limits, and what to write instead: a float argument is an np.float64 inside f;
type(x) is Node (use isinstance); a Node is hashed by its identity, so x in {0.0} and d[x] find no
number (use ==); a scalar Node has __len__ and __iter__ (use np.ndim).
"""

# mypy: disable-error-code="no-untyped-call"

import math
from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from npgrad import functions as _functions  # noqa: F401  (fills the tables)
from npgrad.node import RULES, Node, Tape, record
from npgrad.rules import add_at, scatter, scatter_all, unbroadcast
from npgrad.trace import changed, tracers
from npgrad.traced import Traced
from npgrad.types import Array

Function: TypeAlias = Callable[..., Any]


class _Trace:
    """Record of one call of f at args, with variables in place of args[i], i in argnums.

    value      of f: an array or float, or a Node of an enclosing derivative
    node       this record's Node of that value; None if f does not depend on the variables
    entries    the entries of the tape
    """

    __slots__ = ("entries", "node", "shape", "value", "variables")

    def __init__(
        self, f: Function, args: Any, kwargs: Any, argnums: tuple[int, ...], copy: bool = False
    ) -> None:
        tape = Tape()
        args = list(args)
        variables: list[Any] = []
        self.variables = variables
        for i in argnums:
            try:
                x = args[i]
            except IndexError:
                raise IndexError(
                    f"argnums has {i}, but there are {len(args)} positional arguments"
                ) from None
            if type(x) is not np.ndarray or x.dtype.kind != "f":
                x = _differentiable(x, i, tape)
            variable: Any = Node()
            args[i] = variable
            variable.value = x.copy() if copy else x
            variable.tape = tape
            variables.append(variable)
        try:
            value = f(*args, **kwargs)
        finally:
            self.entries = tape.close()
        self.node = None
        while type(value) is Node and value.tape.entries is None:
            if value.tape is tape:
                self.node = value
            value = value.value
        self.value = value
        self.shape = _shape(value) if self.node is None else value.shape

    def pull(self, g: Any) -> list[Any]:
        """Return the gradients of the variables, given the gradient g of the value."""
        gradients = {} if self.node is None else self._backward(g)
        results = []
        given = {id(g)}
        for variable in self.variables:
            value = variable.value
            d = gradients.get(variable)
            if type(d) is _Pieces:
                d = d.sum()
            if d is None:
                d = np.zeros_like(value)
            elif d.base is not None or id(d) in given:
                d = d.copy()  # a rule may return g itself or a view of it
            if d.dtype is not value.dtype:
                d = d.astype(value.dtype)
            given.add(id(d))
            results.append(d)
        return results

    def _backward(self, g: Any) -> Any:
        """Return {node: gradient}, computed from the value back to the variables."""
        gradients = {self.node: g}
        buffers: set[Any] = (
            set()
        )  # nodes whose gradient is an array made here, which may be changed in place
        for node, function, args, values in reversed(self.entries):
            g = gradients.pop(node, None)
            if g is None:
                continue
            if type(g) is _Pieces:
                g = g.sum()
            if function is getitem:
                _add_piece(gradients, buffers, args[0], values[1], g)
                continue
            y = node.value
            rules = RULES[function]
            if len(args) == 1:  # one and two arguments, the common cases, are written out: faster
                x = args[0]
                d = rules[0](g, y, values[0])
                gradients[x] = gradients[x] + d if x in gradients else d
            elif len(args) == 2:
                x, w = args
                a, b = values
                if type(x) is Node:
                    d = rules[0](g, y, a, b)
                    if d.shape != a.shape:
                        d = unbroadcast(d, a.shape)
                    gradients[x] = gradients[x] + d if x in gradients else d
                if type(w) is Node:
                    d = rules[1](g, y, a, b)
                    if d.shape != b.shape:
                        d = unbroadcast(d, b.shape)
                    gradients[w] = gradients[w] + d if w in gradients else d
            else:
                of = rules(g, y, *values) if callable(rules) else None
                for i, x in enumerate(args):
                    if type(x) is Node:
                        d = of(i) if of else rules[i](g, y, *values)
                        if d.shape != values[i].shape:
                            d = unbroadcast(d, values[i].shape)
                        gradients[x] = gradients[x] + d if x in gradients else d
        return gradients


class _Pieces:
    """The gradient of a node of this shape, some of whose pieces are Nodes.

    The pieces wait for `sum`, which adds all of them, each at its index, by one operation.
    """

    __slots__ = ("indices", "pieces", "shape")

    def __init__(self, shape: Any) -> None:
        self.shape = shape
        self.indices: list[Any] = []
        self.pieces: list[Any] = []

    def add(self, index: Any, piece: Any) -> "_Pieces":
        self.indices.append(index)
        self.pieces.append(piece)
        return self

    def __add__(self, whole: Any) -> "_Pieces":
        return self.add(..., whole)

    def sum(self) -> Any:
        return record(scatter_all, tuple(self.indices), self.shape, *self.pieces)


def _add_piece(gradients: Any, buffers: Any, x: Any, index: Any, g: Any) -> None:
    """Add g to the gradient of x at [index]; all pieces of x that are arrays share one array."""
    total = gradients.get(x)
    if not tracers and type(total) is np.ndarray and x in buffers and type(g) is not Node:
        add_at(total, index, g)
    elif x in buffers and type(g) is not Node and _is_array(total):
        gradients[x] = changed(add_at, total, index, g)
    elif type(g) is Node or type(total) in (Node, _Pieces):
        if type(total) is not _Pieces:
            gradients[x] = _Pieces(x.shape) if total is None else _Pieces(x.shape) + total
        gradients[x].add(index, g)
    else:
        piece = scatter(g, index, x.shape)
        gradients[x] = piece if total is None else total + piece
        buffers.add(x)


def _is_array(x: Any) -> bool:
    return type(x) is np.ndarray or (type(x) is Traced and type(x.value) is np.ndarray)


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of a function value that does not depend on the variables."""
    if isinstance(value, (Node, np.ndarray, np.generic)) and value.dtype.kind in "fiub":
        return value.shape
    if isinstance(value, (float, int)):
        return ()
    raise TypeError(f"the function returned {type(value).__name__}: return one real array or float")


def _differentiable(x: Any, position: int, tape: Tape) -> Any:
    """Check the argument x and return it as the value of a variable of this tape."""
    if type(x) is float:
        return np.float64(x)
    if type(x) is Node and x.tape is tape:
        raise ValueError(f"argnums has argument {position} twice")
    if type(x) is Node and x.tape.entries is None:
        return _differentiable(x.value, position, tape)
    if type(x) not in (np.ndarray, Traced) and not isinstance(x, (np.generic, Node)):
        raise TypeError(
            f"argument {position} is of type {type(x).__name__}: differentiate with respect to "
            "float arrays or floats (argnums chooses the arguments; Layout flattens containers)"
        )
    if x.dtype.kind != "f":
        raise TypeError(
            f"argument {position} has dtype {x.dtype}: differentiate with respect to real floats, "
            "e.g. x.astype(float)"
        )
    return x


def _indices(argnums: Any) -> tuple[int, ...]:
    return tuple(argnums) if isinstance(argnums, (tuple, list, range)) else (argnums,)


def _like(argnums: Any, results: list[Any]) -> Any:
    """Return one result if argnums is an int, a tuple of results if it is a tuple."""
    return tuple(results) if isinstance(argnums, (tuple, list, range)) else results[0]


@overload
def value_and_grad(f: Function, argnums: int = 0) -> Callable[..., tuple[Any, Array]]: ...
@overload
def value_and_grad(
    f: Function, argnums: Sequence[int]
) -> Callable[..., tuple[Any, tuple[Array, ...]]]: ...
def value_and_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return a function of f's arguments that computes (f, ∇f) of the scalar function f.

    argnums   an int, or a tuple for a tuple of gradients; each has its argument's shape and dtype
    The function raises TypeError if f is not scalar or uses an operation without a rule.
    """
    indices = _indices(argnums)

    def f_and_gradient(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace(f, args, kwargs, indices)
        if trace.shape != ():
            raise TypeError(
                f"grad needs a scalar function, this one returned shape {trace.shape}: "
                "sum or average it, or use jacobian or vjp"
            )
        one = 1.0 if trace.node is None else trace.value.dtype.type(1.0)
        return trace.value, _like(argnums, trace.pull(one))

    return f_and_gradient


@overload
def grad(f: Function, argnums: int = 0) -> Callable[..., Array]: ...
@overload
def grad(f: Function, argnums: Sequence[int]) -> Callable[..., tuple[Array, ...]]: ...
def grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return a function that computes ∇f; arguments and errors as in `value_and_grad`."""
    both = value_and_grad(f, argnums)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


@overload
def vjp(f: Function, *args: Any, argnums: int) -> tuple[Any, Callable[[ArrayLike], Array]]: ...
@overload
def vjp(
    f: Function, *args: Any, argnums: Sequence[int] | None = None
) -> tuple[Any, Callable[[ArrayLike], tuple[Array, ...]]]: ...
def vjp(
    f: Function, *args: Any, argnums: int | Sequence[int] | None = None
) -> tuple[Any, Function]:
    """Return (f(*args), pullback), where pullback(g) = (Jᵀg for each argument).

    g         has the shape of f's output
    argnums   None: the pullback returns a tuple over all args; an int: one array; a tuple: a tuple
    """
    argnums = range(len(args)) if argnums is None else argnums
    trace = _Trace(f, args, {}, _indices(argnums), copy=True)

    def pullback(g: Any) -> Any:
        if type(g) not in (Node, Traced):
            g = np.asarray(g)
        if g.shape != trace.shape:
            raise ValueError(f"g has shape {g.shape}, the function's output {trace.shape}")
        if g.dtype.kind not in "fiub":
            raise TypeError(f"g has dtype {g.dtype}: must be real")
        return _like(argnums, trace.pull(g.astype(np.result_type(trace.value))))

    value = trace.value
    return (value.copy() if _is_array(value) else value), pullback


@overload
def jacobian(f: Function, argnums: int = 0) -> Callable[..., Array]: ...
@overload
def jacobian(f: Function, argnums: Sequence[int]) -> Callable[..., tuple[Array, ...]]: ...
def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return a function for ∂f_i/∂x_j, of shape f's shape + x's shape; f may have any shape."""
    indices = _indices(argnums)

    def jacobian_of_f(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace(f, args, kwargs, indices)
        size = math.prod(trace.shape)
        units = np.eye(size, dtype=np.result_type(trace.value)).reshape(size, *trace.shape)
        rows = [trace.pull(g) for g in units]
        shapes = [trace.shape + v.shape for v in trace.variables]
        return _like(
            argnums,
            [np.stack(column).reshape(shape) for column, shape in zip(zip(*rows), shapes)]
            or [np.zeros(shape) for shape in shapes],
        )

    return jacobian_of_f
