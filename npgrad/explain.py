# mypy: ignore-errors
"""A function and its gradient as the NumPy program that npgrad computes, to be read and run."""

import ast
import functools
import inspect
import keyword
import operator
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from npgrad import autodiff, rules
from npgrad.compiled import trace_of
from npgrad.node import RULES, Node
from npgrad.shorten import shortened
from npgrad.trace import Var
from npgrad.traced import REDUCE, Traced, walk

MECHANISM = "trace", "traced", "node", "autodiff", "rules", "functions", "explain"
MECHANISM = {f"npgrad.{name}" for name in MECHANISM}
INFIX = {
    **{np.add: "+", np.subtract: "-", np.multiply: "*", np.divide: "/", np.matmul: "@"},
    **{np.less: "<", np.less_equal: "<=", np.greater: ">", np.greater_equal: ">="},
    **{np.equal: "==", np.not_equal: "!=", np.bitwise_and: "&", np.bitwise_or: "|"},
    operator.pow: "**",
}
PREFIX = {np.negative: "-", np.invert: "~"}
SUMS = {reduce: f"np.{f.__name__}" for f, reduce in REDUCE.items()}


class Place(NamedTuple):
    """Say where a line comes from: the user's line, or the tape's rule."""

    backward: bool
    comment: str


class Notes:
    """Hold what a Tracer's lines are called, gathered while they are traced.

    names      {number of a value: the user's name of it}
    gradients  {number of a value: number of the value whose gradient it is}
    """

    def __init__(self):
        self.names, self.gradients = {}, {}

    def __call__(self):
        """Return the Place of the line that is being traced."""
        frame, rule = sys._getframe(2), None
        while frame is not None:
            code = frame.f_code
            if code is autodiff._Trace._backward.__code__:
                return self._backward(frame, rule)
            if code is autodiff._Trace.pull.__code__:
                return Place(True, "the gradient as it is returned")
            module = frame.f_globals.get("__name__", "")
            if module not in MECHANISM and module.split(".")[0] != "numpy":
                self.look(frame)
            if module.split(".")[0] not in ("numpy", "npgrad"):
                return Place(False, f"line {frame.f_lineno}")
            rule = frame if module in ("npgrad.rules", "npgrad.autodiff") else rule
            frame = frame.f_back
        return Place(False, "")

    def look(self, frame):
        """Take the names of the values among the frame's variables."""
        for name, x in frame.f_locals.items():
            if (n := _number(x)) is not None and re.match(r"[A-Za-z]\w*$", name):
                self.names.setdefault(n, name)

    def _backward(self, frame, rule):
        local = frame.f_locals
        function, node, g = (local.get(name) for name in ("function", "node", "g"))
        if (n := _number(g)) is not None and (value := _number(node)) is not None:
            self.gradients.setdefault(n, value)
        if rule is None:
            return Place(True, "a value that is used again: its gradients add up")
        return Place(True, f"{_called(function)}: {_text(function, rule.f_code)}")


def _number(x):
    """Return the number of a value's Var, also of a Node's value; None of anything else."""
    while type(x) is Node:
        x = x.value
    return x.entry.n if type(x) is Traced else None


def _called(function):
    if function is operator.getitem:
        return "x[index]"
    ours = (name for name, f in vars(rules).items() if f is function)
    name = next(ours, function.__name__).strip("_")
    return f"np.{name}" if hasattr(np, name) else name


def _text(function, code):
    """Return a rule as text: a lambda's own, or what the docstring says."""
    pullbacks = RULES.get(function)
    pullbacks = pullbacks if isinstance(pullbacks, list) else [pullbacks]
    for pullback in [*pullbacks, *vars(rules).values()]:
        if getattr(getattr(pullback, "plain", pullback), "__code__", None) is code:
            if code.co_name == "<lambda>":
                line = code.co_firstlineno
                same = [p for p in pullbacks if p and p.__code__.co_firstlineno == line]
                return _lambdas()[line][same.index(pullback)]
            doc = (pullback.__doc__ or "").split("\n")[0]
            return re.split(r"[;.](?:\s|$)", doc)[0].removeprefix("Return ") or code.co_name
    doc = getattr(getattr(autodiff, code.co_name, None), "__doc__", None) or code.co_name
    return re.split(r"[;.](?:\s|$)", doc)[0]


@functools.cache
def _lambdas():
    """Return {line: [the body of each lambda there]} of the rules."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(rules))):
        if isinstance(node, ast.Lambda):
            found.setdefault(node.lineno, []).append((node.col_offset, ast.unparse(node.body)))
    return {line: [text for _, text in sorted(bodies)] for line, bodies in found.items()}


def explain(f: Callable[..., Any], *args: Any, argnums: int | Sequence[int] | None = 0) -> str:
    """Return f and its gradient at args as the text of a NumPy program.

    argnums   as in `value_and_grad`; None: f alone

    The program is a function of the arrays among args, for their shapes and dtypes. It has one
    operation a line, in the order and by the rules in which npgrad computes, with the names of f's
    variables, d_x for the gradient with respect to x, and each result's shape. Python numbers, and
    arrays that f closes over, are written into it. It runs as it is printed and agrees with
    value_and_grad(f, argnums) bit for bit. f must be such as `compiled` takes.
    """
    chosen = autodiff._indices(argnums) if argnums is not None else ()
    args = [np.float64(x) if i in chosen and type(x) is float else x for i, x in enumerate(args)]
    notes = Notes()
    both = f if argnums is None else autodiff.value_and_grad(f, argnums)
    tracer, result = trace_of(both, tuple(args), {}, notes)
    return Page(f, args, chosen, tracer, result, notes).text()


class Page:
    """The text of one program."""

    def __init__(self, f, args, chosen, tracer, result, notes):
        outputs = []
        walk(result, lambda x: outputs.append(x.entry) if type(x) is Traced else None)
        self.lines, self.same = shortened(tracer, outputs)
        self.result, self.notes, self.tracer = result, notes, tracer
        self.name = re.sub(r"\W", "", getattr(f, "__name__", "f")) or "f"
        self.name = "f" if self.name == "lambda" else self.name
        self.title = f"{self.name}_and_gradient" if chosen else self.name
        self.taken, self.names, self.imports = {*keyword.kwlist, "np", "operator"}, {}, {}
        self.taken |= {self.title, *vars(rules)}
        self.constants = {v.n: array for v, array, _ in tracer.constants.values()}
        self._name_inputs(f, args)
        if chosen:
            self._name_gradients(result, args, chosen)
        main = result[0] if chosen else result
        if type(main) is Traced:
            self._give(self.same(main.entry), notes.names.get(main.entry.n, "value"))
        for line in self.lines:
            if line.out is not None:
                self._name(line.out)

    def _name_inputs(self, f, args):
        try:
            parameters = list(inspect.signature(f).parameters)
        except (TypeError, ValueError):
            parameters = []
        parameters = [p.strip("_") for p in parameters] + [f"x{i}" for i in range(len(args))]
        inputs = iter(self.tracer.inputs)
        for name, x in zip(parameters, args):
            found = self._arrays(x)
            for k in range(len(found)):
                self._give(next(inputs), name if found[0] is x else f"{name}_{k}")

    def _name_gradients(self, result, args, chosen):
        gradients = result[1] if isinstance(result[1], tuple) else (result[1],)
        places = {id(x): v for x, v in zip(self._arrays(args), self.tracer.inputs)}
        for i, g in zip(chosen, gradients):
            if type(g) is Traced and id(args[i]) in places:
                self._give(self.same(g.entry), f"d_{self.names[places[id(args[i])].n]}")

    def _arrays(self, args):
        found = []
        walk(args, lambda y: found.append(y) if isinstance(y, (np.ndarray, np.generic)) else None)
        return found

    def _give(self, var, name):
        """Give a Var a name that no other has."""
        if var.n in self.names:
            return
        k, free = 1, name
        while free in self.taken:
            k += 1
            free = f"{name}_{k}"
        self.taken.add(free)
        self.names[var.n] = free

    def _name(self, var):
        n = self.notes.gradients.get(var.n)
        if var.n in self.notes.names:
            return self._give(var, self.notes.names[var.n])
        if n is None:
            k = 1
            while f"t{k}" in self.taken:
                k += 1
            return self._give(var, f"t{k}")
        value = self.same(self.tracer.vars[n])
        return self._give(var, f"d_{self.names.get(value.n, 'value')}")

    # The text of a line

    def _source(self, x, inside=False):
        kind = type(x)
        if kind is Var:
            array = self.constants.get(x.n)
            return self.names[x.n] if array is None else self._array(array)
        if kind is np.ndarray:
            return self._array(x)
        if isinstance(x, np.generic):
            return f"np.{kind.__name__}({self._number(x.item())})"
        if kind is float:
            return self._number(x)
        if kind is slice:
            parts = ["" if p is None else self._source(p) for p in (x.start, x.stop, x.step)]
            text = ":".join(parts if x.step is not None else parts[:2])
            return text if inside else f"np.s_[{text}]"
        if kind is tuple and inside and x:
            return ", ".join(self._source(y, True) for y in x) + "," * (len(x) == 1)
        if kind in (tuple, list):
            left, right = "()" if kind is tuple else "[]"
            comma = "," * (kind is tuple and len(x) == 1)
            return f"{left}{', '.join(map(self._source, x))}{comma}{right}"
        if x is Ellipsis:
            return "..."
        if isinstance(x, np.dtype):
            return "np.bool_" if x.kind == "b" else f"np.{x.name}"
        if isinstance(x, type) and issubclass(x, np.generic):
            return f"np.{x.__name__}"
        return x.__name__ if isinstance(x, type) else repr(x)

    def _number(self, x):
        return re.sub(r"\b(nan|inf)\b", r"np.\1", repr(x))

    def _array(self, x):
        first = x.reshape(-1)[:1]
        usual = x.size and x.dtype in (np.float64, np.int64, np.bool_)
        dtype = "" if usual else f", {self._source(x.dtype)}"
        if x.size > 1 and x.tobytes() == np.full(x.shape, first[0], x.dtype).tobytes():
            text = f"np.full({x.shape}, {self._number(first[0].item())}{dtype})"
        else:
            text = f"np.array({self._number(x.tolist())}{dtype})"
            text += f".reshape({x.shape})" * (not x.size)
        fortran = x.flags.f_contiguous and not x.flags.c_contiguous
        return f"np.asfortranarray({text})" if fortran else text

    def _function(self, f):
        if isinstance(f, np.ufunc):
            return f"np.{f.__name__}"
        if isinstance(getattr(f, "__self__", None), np.ufunc):
            return SUMS.get(f, f"np.{f.__self__.__name__}.{f.__name__}")
        module = f.__module__ or ""
        if module in ("numpy", "numpy.linalg", "numpy.fft"):
            return f"{module.replace('numpy', 'np')}.{f.__name__}"
        if module == "_operator":
            self.imports["operator"] = None
            return f"operator.{f.__name__}"
        self.imports.setdefault(module, set()).add(f.__name__)
        return f.__name__

    def _call(self, line):
        f, kwargs = line.function, dict(line.kwargs)
        args = [self._source(a) for a in line.args]
        if f in INFIX and len(args) == 2 and not kwargs:
            return f"{args[0]} {INFIX[f]} {args[1]}"
        if f in PREFIX and not kwargs:
            return f"{PREFIX[f]}{args[0]}"
        if f is operator.getitem:
            return f"{args[0]}[{self._source(line.args[1], True)}]"
        if f in SUMS:
            axis = line.args[1] if len(line.args) > 1 else kwargs.pop("axis", 0)
            kwargs = {"axis": axis, **kwargs}
            args = args[:1]
            kwargs = {k: x for k, x in kwargs.items() if x is not None and x is not False}
        given = [f"{key}={self._source(x)}" for key, x in kwargs.items()]
        if f == "transpose" and len(args) == 1:
            return f"{args[0]}.T"
        if type(f) is str:
            return f"{args[0]}.{f}({', '.join(args[1:] + given)})"
        return f"{self._function(f)}({', '.join(args + given)})"

    def _written(self, line):
        """Return a line of the program and its comment."""
        if line.function == "demand":
            what, var, expected = line.args
            name = self._source(var)
            holds = name
            if what == "shape" and isinstance(var.value, (tuple, list)):
                shapes = tuple(shape for shape, _ in expected)
                holds = f"tuple(map(np.shape, {name})) == {shapes}"
            elif what == "shape":
                holds = f"np.shape({name}) == {expected[0]}"
            text = f"assert {'not ' * (what == 'bool' and not expected)}{holds}"
            return text, "the program is for arguments of which this is true"
        text, comment = self._call(line), line.place.comment if line.place else ""
        if line.out is None:
            return text, comment
        shape = np.shape(line.out.value) if not isinstance(line.out.value, tuple) else "a tuple"
        return f"{self.names[line.out.n]} = {text}", f"{shape}, {comment}".rstrip(", ")

    def text(self):
        body, part = [], None
        for line in self.lines:
            backward = bool(line.place and line.place.backward)
            if line.place and backward is not part:
                part = backward
                body.append(f"# {'backward' if part else 'forward'}")
            text, comment = self._written(line)
            if line.err:
                body.append(f"with np.errstate(**{line.err!r}):")
                text = f"    {text}"
            body.append(f"{text}  # {comment}" if comment else text)
        returned = self._source(walk(self.result, self._output))
        returned = returned[1:-1] if type(self.result) is tuple and self.result else returned
        arguments = ", ".join(self.names[v.n] for v in self.tracer.inputs)
        shapes = ", ".join(f"{self.names[v.n]} {np.shape(v.value)}" for v in self.tracer.inputs)
        what = f"{self.name} and its gradient" if self.title != self.name else self.name
        imports = ["import operator", ""] if self.imports.pop("operator", 0) is None else []
        theirs = [f"from {m} import {', '.join(sorted(names))}"
                  for m, names in sorted(self.imports.items())]  # fmt: skip
        head = [*imports, "import numpy as np", *[""] * bool(theirs), *theirs, "", ""]
        doc = f'"""Return {what} at {shapes or "no arrays"}."""'
        inner = [doc, *body, f"return {returned}"]
        return "\n".join(
            [*head, f"def {self.title}({arguments}):", *(f"    {t}" for t in inner), ""]
        )

    def _output(self, x):
        return self.same(x.entry) if type(x) is Traced else x
