"""Reverse-mode automatic differentiation of plain NumPy code.

A function under differentiation is called with `Node`s in place of arrays. NumPy hands every ufunc
and function that meets one back to it (`__array_ufunc__`, `__array_function__`), so user code keeps
its `import numpy as np`; the node computes the value and remembers function and arguments. Walking
from the result back to the variables, each function's rule (`rules.py`) turns the gradient of its
output into the gradients of its inputs:

    ḡ_x = Σ_{y made from x}  (∂y/∂x)ᵀ ḡ_y .

Nodes own their parents and nothing else is kept: no global tape, so threads never meet. A nested
derivative needs no second machinery. When an enclosing derivative is still being traced (a variable
that is not ours and still `active`, or a Node handed in as argument), the rules are run on the nodes
instead of on their values, and what they compute is itself a graph that can be walked again.

What has no rule raises. Arrays that the function closes over must not be changed in place while it
runs: their values are read again on the way back.
"""

from operator import attrgetter, getitem

import numpy as np

from npgrad import functions as _functions  # noqa: F401  (fills the tables)
from npgrad.node import RULES, Node
from npgrad.rules import add_at, identity, unbroadcast

_by_rank = attrgetter("rank")


def _variable(x, position, copy):
    """The Node that stands for argument `position`; its value is a private copy if asked for."""
    node = Node()
    node.active = True
    if type(x) is Node:
        node.value, node.function, node.rank = x.value, identity, x.rank + 1
        node.args, node.values = (x,), (x.value,)
        return node
    if type(x) is float:
        x = np.float64(x)
    if type(x) is not np.ndarray and not isinstance(x, np.generic):
        raise TypeError(
            f"argument {position} is of type {type(x).__name__}: differentiate with respect to "
            "float arrays or floats (argnums chooses the arguments; Layout flattens containers)"
        )
    if x.dtype.kind != "f":
        raise TypeError(
            f"argument {position} has dtype {x.dtype}: differentiate with respect to real floats, "
            "e.g. x.astype(float)"
        )
    node.value, node.function, node.args, node.rank = x.copy() if copy else x, None, (), 0
    return node


class _Trace:
    """f at args, with the variables that stand for args[i], i in argnums."""

    def __init__(self, f, args, kwargs, argnums, copy=False):
        args = list(args)
        self.variables = []
        for i in argnums:
            if not -len(args) <= i < len(args):
                raise IndexError(f"argnums has {i}, but there are {len(args)} positional arguments")
            args[i] = variable = _variable(args[i], i, copy)
            self.variables.append(variable)
        try:
            self.output = output = f(*args, **kwargs)
        finally:
            for variable in self.variables:
                variable.active = False
        if type(output) is Node:
            self.shape = output.value.shape
            self._walk()
        elif isinstance(output, (float, int, np.ndarray, np.generic)):
            self.shape = np.shape(output)
            self.nodes, self.nested = [], False
        else:
            raise TypeError(
                f"the function returned {type(output).__name__}: return one array or float"
            )

    @property
    def value(self):
        """The output: still a Node if an enclosing derivative goes through it."""
        if type(self.output) is Node and not self.nested:
            return self.output.value
        return self.output

    def _walk(self):
        """Find the nodes the output was computed from, latest first, down to the variables.

        An enclosing derivative goes through them (`nested`) if they lead to a variable that is
        still active, or to a variable of ours that stands for a Node.
        """
        own = set(self.variables)
        nested = False
        seen = set()
        nodes = []
        ahead = [self.output]
        for node in ahead:
            function = node.function
            if function is None:
                nested = nested or node.active
            elif function is identity and node in own:
                nested = True
            else:
                nodes.append(node)
                for arg in node.args:
                    if type(arg) is Node and arg not in seen:
                        seen.add(arg)
                        ahead.append(arg)
        nodes.sort(key=_by_rank, reverse=True)
        self.nodes, self.nested = nodes, nested

    def one(self):
        """The gradient of a scalar output with respect to itself."""
        return self.output.dtype.type(1.0) if type(self.output) is Node else 1.0

    def pull(self, g):
        """The gradients of the variables, given the gradient g of the output."""
        if type(self.output) is not Node:
            gradients = {}
        elif self.nested or type(g) is Node:
            gradients = self._backward_traced(g)
        else:
            gradients = self._backward(g)
        results = []
        given = {id(g)}
        for variable in self.variables:
            value = variable.value
            d = gradients.get(variable)
            if d is None:
                d = np.zeros_like(value)
            elif type(d) is not Node and (d.base is not None or id(d) in given):
                d = d.copy()  # a rule may hand on g itself, or a view of it
            if d.dtype != value.dtype:
                d = d.astype(value.dtype)
            given.add(id(d))
            results.append(d)
        return results

    def _backward(self, g):
        """{variable: gradient}: from the output back, each node hands its own to its args."""
        gradients = {self.output: g}
        buffers = set()  # nodes whose gradient array was made here, so that it may be added to
        for node in self.nodes:
            function = node.function
            g = gradients.pop(node)
            args = node.args
            if function is getitem:
                _add_piece(gradients, buffers, args[0], args[1], g)
                continue
            y = node.value
            values = node.values
            rules = RULES[function]
            for i, arg in enumerate(args):
                if type(arg) is not Node:
                    continue
                d = rules[i](g, y, *values)
                if d.shape != arg.value.shape:
                    d = unbroadcast(d, arg.value.shape)
                if arg not in gradients:
                    gradients[arg] = d
                elif arg in buffers:
                    gradients[arg] += d
                else:
                    gradients[arg] = gradients[arg] + d
        return gradients

    def _backward_traced(self, g):
        """The same in NumPy code that is recorded, so that it can be differentiated again."""
        reaches = set(self.variables)
        nodes = []
        for node in reversed(self.nodes):
            if any(type(arg) is Node and arg in reaches for arg in node.args):
                reaches.add(node)
                nodes.append(node)
        gradients = {self.output: g}
        for node in reversed(nodes):
            g = gradients.pop(node)
            y, args = (node, node.args) if self.nested else (node.value, node.values)
            for i, arg in enumerate(node.args):
                if type(arg) is Node and arg in reaches:
                    d = RULES[node.function][i](g, y, *args)
                    if d.shape != arg.value.shape:
                        d = unbroadcast(d, arg.value.shape)
                    gradients[arg] = gradients[arg] + d if arg in gradients else d
        return gradients


def _add_piece(gradients, buffers, x, index, g):
    """The pieces x[index] of one x add into one buffer: no array of zeros for each."""
    if x not in buffers:
        buffer = np.zeros(x.value.shape, x.value.dtype)
        if x in gradients:
            buffer += gradients[x]
        gradients[x] = buffer
        buffers.add(x)
    add_at(gradients[x], index, g)


def _indices(argnums):
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def value_and_grad(f, argnums=0):
    """(f, ∇f) of a scalar function: a function of the same arguments.

    argnums   an int, or a tuple for a tuple of gradients; each has its argument's shape and dtype
    Raises TypeError where f is not scalar or does something that has no rule.
    """
    indices = _indices(argnums)

    def f_and_gradient(*args, **kwargs):
        trace = _Trace(f, args, kwargs, indices)
        if trace.shape != ():
            raise TypeError(
                f"grad needs a scalar function, this one returned shape {trace.shape}: "
                "sum or average it, or use jacobian or vjp"
            )
        gradients = trace.pull(trace.one())
        return trace.value, gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return f_and_gradient


def grad(f, argnums=0):
    """∇f of a scalar function; arguments and errors as in `value_and_grad`."""
    both = value_and_grad(f, argnums)

    def gradient(*args, **kwargs):
        return both(*args, **kwargs)[1]

    return gradient


def vjp(f, *args, argnums=None):
    """(f(*args), pullback), where pullback(g) = (Jᵀg for each argument).

    g         has the shape of f's output
    argnums   None: the pullback returns a tuple over all args; an int: one array; a tuple: a tuple
    """
    indices = range(len(args)) if argnums is None else _indices(argnums)
    trace = _Trace(f, args, {}, indices, copy=True)

    def pullback(g):
        if type(g) is not Node:
            g = np.asarray(g, dtype=float) if np.ndim(g) == 0 else np.asarray(g)
        if g.shape != trace.shape:
            raise ValueError(f"g has shape {g.shape}, the function's output {trace.shape}")
        gradients = trace.pull(g)
        return gradients[0] if isinstance(argnums, int) else tuple(gradients)

    value = trace.value
    return (value.copy() if type(value) is np.ndarray else value), pullback


def jacobian(f, argnums=0):
    """∂f_i/∂x_j, of shape f's shape + x's shape; f may have any shape."""
    indices = _indices(argnums)

    def jacobian_of_f(*args, **kwargs):
        trace = _Trace(f, args, kwargs, indices)
        size = int(np.prod(trace.shape))
        if size == 0:
            rows = []
        else:
            rows = [trace.pull(e.reshape(trace.shape)) for e in np.eye(size)]
        results = tuple(
            np.reshape(np.stack([row[k] for row in rows]), trace.shape + v.shape)
            if rows
            else np.zeros(trace.shape + v.shape)
            for k, v in enumerate(trace.variables)
        )
        return results[0] if isinstance(argnums, int) else results

    return jacobian_of_f
