# mypy: ignore-errors
"""Straight-line programs: what a Tracer wrote down, made shorter, as Python source with `out=`.

No bit of a result changes: the lines keep their order, each result its strides, and each call its
own memory for its operands and its result. Left out are lines that nothing needs, lines whose
result an earlier line has, and copies of what nothing changes. Memory is set aside once, for as
many results as live at one time. Views of it are made once, and views of an argument once for as
long as the next calls have the same array.
"""

import operator

import numpy as np

from npgrad import rules
from npgrad.memory import aligned
from npgrad.shorten import changes, join, joined, shortened
from npgrad.trace import Var, by_value
from npgrad.traced import Traced, holds, walk


class Otherwise(Exception):
    """A value in npgrad's own code decides otherwise than when the program was traced."""


COPIES = {"copy", "astype", rules.broadcast_to}
SCALAR = {np.add: "+", np.subtract: "-", np.multiply: "*", np.divide: "/", np.negative: "-"}


class Source:
    """Write the program of a Tracer's lines.

    make()(*inputs) runs it, where inputs are the arrays among the arguments. Each run that make
    returns has memory of its own.
    """

    def __init__(self, tracer, result):
        outputs = []
        walk(result, lambda x: outputs.append(x.entry) if type(x) is Traced else None)
        lines, self.same = shortened(tracer, outputs)
        self.lines = joined(lines)
        self.outputs = [self.same(v) for v in outputs]
        self.inputs = tracer.inputs
        self.constants = {v.n: array for v, array, _ in tracer.constants.values()}
        self.scope = {"Otherwise": Otherwise, "np": np, "ndarray": np.ndarray, "aligned": aligned}
        self.scope |= {"copyto": np.copyto, "errstate": np.errstate, "shape": np.shape}
        self.names = {}  # {id of an object: its name in the scope}
        self.once, self.first, self.body = [], {v.n: [] for v in self.inputs}, []
        self.made_once = {*self.constants}
        self.of_input = {v.n: v.n for v in self.inputs}
        self._place_pieces()
        self._place_memory()
        for line in self.lines:
            self._write(line)
        self.given = set()  # roots of the results so far: each has memory of its own
        self.returned = walk(result, self._result)
        self.text = self._text()

    def make(self):
        return self.scope["make"]()

    def _place_pieces(self):
        """Let pieces of a vector be computed in it: self.part is {number: (vector, start)}."""
        kept, self.part = {v.root for v in self.outputs}, {}
        able = {line.out.n: line.out.value for line in self.lines if _takes_out(line)}
        for line in self.lines:
            if line.function is not join:
                continue
            vector, whole = f"g{line.out.n}", line.out.value
            self.once.append(f"{vector} = zeros({len(whole)}, {self._constant(whole.dtype)})")
            for x, part in zip(*line.args[:2]):
                y = able.get(x.root)
                if y is None or x.root in kept or x.root in self.part or y.size != x.value.size:
                    continue
                if y.flags.c_contiguous and x.value.flags.c_contiguous:
                    self.part[x.root] = vector, part.start * y.itemsize
                    self.made_once.add(x.root)

    def _place_memory(self):
        """Give the results that are no output a place: {number: index of a block of bytes}."""
        fixed, last = {v.root for v in self.outputs} | {*self.part}, {}
        for k, line in enumerate(self.lines):
            for v in (line.out, *line.inputs):
                if v is not None:
                    last[v.root] = k
        self.block, sizes, free, ends = {}, [], [], {}
        for k, line in enumerate(self.lines):
            v = line.out
            if v is not None and v.root == v.n and v.n not in fixed and _takes_out(line):
                size = v.value.nbytes
                fits = [b for b in free if size <= sizes[b] <= 2 * size + 64]
                b = min(fits, key=sizes.__getitem__) if fits else len(sizes)
                if fits:
                    free.remove(b)
                else:
                    sizes.append(size)
                self.block[line.out.n] = b
                self.made_once.add(line.out.n)
                ends.setdefault(last[line.out.root], []).append(b)
            free += ends.get(k, [])
        for b, size in enumerate(sizes):
            self.once.append(f"b{b} = aligned({size}, 'u1')")

    def _name(self, x):
        """Return the source of a Var, a literal or an object."""
        kind = type(x)
        if kind is Var:
            return self._constant(self.constants[x.n]) if x.n in self.constants else f"v{x.n}"
        if kind is tuple:
            return f"({''.join(self._name(y) + ', ' for y in x)})"
        if kind is list:
            return f"[{', '.join(map(self._name, x))}]"
        if kind is dict:
            items = [f"{self._name(k)}: {self._name(y)}" for k, y in x.items()]
            return "{" + ", ".join(items) + "}"
        if kind is slice:
            return f"slice({', '.join(map(self._name, (x.start, x.stop, x.step)))})"
        if kind in (int, bool, str, type(None)) or (kind is float and np.isfinite(x)):
            return f"({x!r})" if kind in (int, float) else repr(x)
        return self._constant(x)

    def _constant(self, x):
        x = getattr(x, "plain", x)
        if id(x) not in self.names:
            name = f"k{len(self.names)}"
            self.names[id(x)], self.scope[name] = name, x
        return self.names[id(x)]

    def _call(self, line, out=None):
        """Return the source of the call; `out` is the name of the memory of its result."""
        f, kwargs = line.function, dict(line.kwargs)
        args = [self._name(a) for a in line.args]
        given = [f"{key}={self._name(x)}" for key, x in kwargs.items()]
        if f is operator.getitem:
            fixed = not holds(line.args[1], Var) and type(line.args[1]) is not int
            return f"{args[0]}[{self._constant(line.args[1]) if fixed else args[1]}]"
        if out and f in COPIES:
            return f"copyto({out}, {args[0]}{', k_unsafe' if f == 'astype' else ''})"
        if type(f) is str:
            return f"{args[0]}.{f}({', '.join(args[1:] + given)})"
        dot = f is np.dot and type(line.args[0]) is Var and np.ndim(line.args[0].value)
        if len(args) == 2 and not kwargs and (dot or (out and _one_routine(line))):
            return f"{args[0]}.dot({', '.join(args[1:] + [out] * bool(out))})"
        if f in SCALAR and _of_scalars(line):
            return f"{args[0]} {SCALAR[f]} {args[1]}" if len(args) == 2 else f"-{args[0]}"
        if getattr(f, "__name__", "") == "reduce":
            kwargs = dict(zip(("axis", "dtype"), line.args[1:])) | kwargs
            first = [self._name(kwargs.pop(key, d)) for key, d in (("axis", 0), ("dtype", None))]
            keep = self._name(kwargs.pop("keepdims", False))
            given = [f"{key}={self._name(x)}" for key, x in kwargs.items()]
            args, out = [args[0], *first], f"{out}, {keep}"
        if out and f in (np.maximum, np.minimum):  # for which NumPy wants the keyword
            out = f"out={out}"
        return f"{self._constant(f)}({', '.join(args + [out] * bool(out) + given)})"

    def _write(self, line):
        if line.function == "demand":
            return self.body.append(self._demand(*line.args))
        if changes(line):
            return self.body.append(self._call(line))
        out, target = line.out, self.body
        name = f"v{out.n}"
        if line.function is join:
            return self._join(*line.args, out)
        if out.n in self.block or out.n in self.part:
            v = out.value
            memory, start = self.part.get(out.n) or (f"b{self.block[out.n]}", 0)
            place = f"{memory}, {start}, {v.strides}"
            self.once.append(f"{name} = ndarray({v.shape}, {self._constant(v.dtype)}, {place})")
            text = self._call(line, name)
        else:
            text = f"{name} = {self._call(line)}"
            if _is_fixed_view(line):
                (source,) = line.inputs
                if source.n in self.made_once:
                    target = self.once
                    self.made_once.add(out.n)
                elif source.n in self.of_input:
                    n = self.of_input[out.n] = self.of_input[source.n]
                    target = self.first[n]
        if line.err:
            target.append(f"with errstate(**{line.err!r}):")
            text = f"    {text}"
        target.append(text)

    def _join(self, pieces, parts, n, out):
        vector = f"g{out.n}"
        for k, (x, part) in enumerate(zip(pieces, parts)):
            place = f"{vector}_{k}"
            if self.part.get(x.root) != (vector, part.start * x.value.itemsize):
                self.once.append(f"{place} = {vector}[{part.start}:{part.stop}]")
                self.body.append(f"copyto({place}, {self._name(x)})")
        dtype, first = self._constant(out.value.dtype), f"{parts[0].start}:{parts[0].stop}"
        self.once.append(f"zero{out.n} = zeros({n}, {dtype})")
        self.once.append(f"zero{out.n}[{first}] = -0.0")  # x + -0.0 is x, even if x is -0.0
        if out.n in self.block:
            place = f"b{self.block[out.n]}, 0, {out.value.strides}"
            self.once.append(f"v{out.n} = ndarray(({n},), {dtype}, {place})")
            self.body.append(f"add({vector}, zero{out.n}, v{out.n})")
        else:
            self.body.append(f"v{out.n} = add({vector}, zero{out.n})")

    def _demand(self, what, var, expected):
        name = self._name(var)
        if what == "bool":
            return f"if {'not ' if expected else ''}{name}: raise Otherwise"
        if isinstance(var.value, (tuple, list)):
            shapes = tuple(shape for shape, _ in expected)
            return f"if tuple(map(shape, {name})) != {shapes}: raise Otherwise"
        return f"if shape({name}) != {expected[0]}: raise Otherwise"

    def _result(self, x):
        """Return an output as source; one that lies in lasting memory is copied."""
        if type(x) is Traced:
            var = self.same(x.entry)
            lasting = type(var.value) is np.ndarray and (
                var.root in self.constants or var.root in self.of_input or var.root in self.given
            )
            self.given.add(var.root)
            return _Text(f"{self._name(var)}.copy('K')" if lasting else self._name(var))
        if type(x) is np.ndarray:
            return _Text(f"{self._constant(x.copy('K'))}.copy('K')")
        return _Text(self._name(x))

    def _returned(self, x):
        if type(x) is _Text:
            return str(x)
        if type(x) is dict:
            items = [f"{self._name(k)}: {self._returned(y)}" for k, y in x.items()]
            return "{" + ", ".join(items) + "}"
        if not x:
            return repr(x)
        parts = ", ".join(map(self._returned, x))
        if type(x) is list:
            return f"[{parts}]"
        return f"({parts},)" if type(x) is tuple else f"{self._constant(type(x))}({parts})"

    def _text(self):
        """Return the source of make, and run it once to define make."""
        returned = self._returned(self.returned)
        again, names = [], []
        for n, lines in self.first.items():
            if lines:
                names += [t.split(" = ")[0].strip() for t in lines if " = " in t] + [f"s{n}"]
                again += [f"if v{n} is not s{n}:", *(f"    {t}" for t in lines), f"    s{n} = v{n}"]
        body = [f"nonlocal {', '.join(names)}"] * bool(names) + again + self.body
        shared = [f"{name} = None" for name in names]
        arguments = ", ".join(f"v{v.n}" for v in self.inputs)
        self.scope["k_unsafe"] = "unsafe"
        local = [f"{name} = {name}_" for name in self.scope if name[0] == "k" and name != "k_"]
        text = "\n".join([
            "def make():",
            "    zeros, add, copyto = np.zeros, np.add, np.copyto",
            *(f"    {t}" for t in (*local, *self.once, *shared)),
            f"    def run({arguments}):",
            *(f"        {t}" for t in (*body, f"return {returned}")),
            "    return run",
        ])  # fmt: skip
        scope = {f"{k}_" if k[0] == "k" else k: x for k, x in self.scope.items()}
        exec(compile(text, "<npgrad.compiled>", "exec"), scope)
        self.scope["make"] = scope["make"]
        return text


class _Text(str):
    """A part of the program's text, among other parts of a result."""


def _takes_out(line):
    """Return whether the line's call takes memory for its result."""
    f, v = line.function, line.out and line.out.value
    if f is join:
        return True
    if by_value(f, line.args, line.kwargs):  # another shape needs other memory
        return False
    if type(v) is not np.ndarray or not v.size or min((*v.strides, 1)) <= 0:
        return False
    if f is rules.tanh_gradient:
        return all(a.value.dtype == v.dtype for a in line.inputs)
    if f in COPIES:
        return line.out.root == line.out.n and (f != "astype" or len(line.args) == 2)
    if f in (np.dot, np.concatenate):
        return v.flags.c_contiguous and len(line.args) == 2 and not line.kwargs
    if isinstance(f, np.ufunc):
        return f.nout == 1 and "where" not in line.kwargs and len(line.args) == f.nin
    of = getattr(f, "__self__", None)
    return isinstance(of, np.ufunc) and f.__name__ == "reduce" and "out" not in line.kwargs


def _one_routine(line):
    """Return whether `dot` and `matmul`, which is slower, call the same routine of BLAS: gemv.

    So they do for a vector and a matrix of one precision, contiguous, with two rows and columns.
    """
    if line.function is not np.matmul or any(type(a) is not Var for a in line.args):
        return False
    a, b = (v.value for v in line.args)
    fit = a.dtype == b.dtype and a.dtype in (np.float64, np.float32) and {a.ndim, b.ndim} == {1, 2}
    return fit and all(x.flags.forc and x.flags.aligned and min(x.shape) > 1 for x in (a, b))


def _is_fixed_view(line):
    """Return whether the result is a view of an array, the same one whatever numbers it holds."""
    view = line.out.root != line.out.n and type(line.out.value) is np.ndarray
    return view and len(line.inputs) == 1 and not by_value(line.function, line.args, line.kwargs)


def _of_scalars(line):
    """Return whether the line computes a number of one precision from such numbers."""
    kind = type(line.out.value)
    values = [a.value if type(a) is Var else a for a in line.args]
    fit = all(type(x) in (kind, float) for x in values)
    return kind in (np.float64, np.float32) and fit and kind in map(type, values)
