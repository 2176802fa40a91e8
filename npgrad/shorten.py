# mypy: ignore-errors
"""Shorter traces: only the lines that something needs, and none twice. No bit changes."""

from collections import defaultdict

import numpy as np

from npgrad import rules
from npgrad.trace import Line, Var
from npgrad.traced import walk

PRODUCTS = {"matmul", "dot", "inner", "tensordot", "multi_dot", "einsum", "vecdot", "matvec"}


def shortened(tracer, outputs):
    """Return (lines, same): the needed lines; same(var) is the Var that has var's value there."""
    written = {line.args[0].root for line in tracer.lines if changes(line)}
    fixed = written | _apart(tracer.lines)
    other, roots, seen, lines = {}, {}, {}, []

    def same(x):
        return other.get(x.n, x) if type(x) is Var else x

    for line in tracer.lines:
        args, kwargs = walk((line.args, line.kwargs), same)
        line = Line(line.function, args, kwargs, line.out, line.place, line.err)
        if line.out is not None and not any(v.root in written for v in (line.out, *line.inputs)):
            source = _copied(line, fixed) or _unscaled(line, fixed, tracer.private)
            key = None if line.out.root in fixed else _key(line)
            earlier = source or seen.setdefault(key, line.out)
            if key is None and source is None:
                earlier = line.out
            if earlier is not line.out:
                other[line.out.n] = earlier
                roots[line.out.root] = roots.get(earlier.root, earlier.root)
                continue
        lines.append(line)
    for var in tracer.vars:
        var.root = roots.get(var.root, var.root)
    return _needed(lines, [same(v) for v in outputs]), same


def changes(line):
    return line.out is None and line.function != "demand"


def _apart(lines):
    """Return the roots of operands that a product may take for a matrix and its transpose.

    x @ x.T of one memory is another routine of BLAS than of two.
    """
    apart = set()
    for line in lines:
        product = getattr(line.function, "__name__", line.function) in PRODUCTS
        arrays = [v for v in line.inputs if product and np.ndim(v.value) >= 2]
        if len({v.root for v in arrays}) == 2:
            a, b = arrays[:2]
            if sorted(a.value.shape[-2:]) == sorted(b.value.shape[-2:]):
                apart |= {a.root, b.root}
    return apart


def _copied(line, fixed):
    """Return the Var that this line copies, if the copy and it are alike."""
    source = line.args[0] if line.function == "copy" else None
    if source is None or line.out.root in fixed or type(source.value) is not np.ndarray:
        return None
    alike = source.value.strides == line.out.value.strides
    if source.value.dtype.kind in "iub":  # an index, which no routine of BLAS takes
        alike = source.value.flags.c_contiguous
    return source if alike else None


def _unscaled(line, fixed, private):
    """Return the Var that this line multiplies by ones, which f made, as the tape's first g is."""
    if line.function is not np.multiply or line.kwargs or line.out.root in fixed:
        return None
    for one, x in (line.args, line.args[::-1]):
        if type(one) is Var is type(x) and one.n in private and type(x.value) is np.ndarray:
            alike = x.value.strides == line.out.value.strides and x.value.dtype == one.value.dtype
            if alike and one.value.shape == x.value.shape and (one.value == 1).all():
                return x
    return None


def _key(line):
    """Return what tells the line from others: equal keys give equal results."""
    parts = []

    def leaf(x):
        if type(x) is Var:
            parts.append(x)
        elif isinstance(x, (float, complex, np.generic)):
            parts.append((type(x), np.asarray(x).tobytes()))
        else:
            parts.append((type(x), x))

    walk((line.args, sorted(line.kwargs.items())), leaf)
    shape = walk((line.args, sorted(line.kwargs.items())), lambda x: None)
    key = line.function, tuple(parts), repr(shape), repr(line.err)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _needed(lines, outputs):
    """Leave out the lines that nothing needs."""
    vars_, roots, needed = set(outputs), {v.root for v in outputs}, []
    for line in reversed(lines):
        demanded = line.function == "demand"
        if demanded or line.out in vars_ or (changes(line) and line.args[0].root in roots):
            needed.append(line)
            vars_.update(line.inputs)
            roots.update(v.root for v in line.inputs)
    return needed[::-1]


def join(pieces, parts, n):
    """Return the sum of pieces at disjoint parts of n zeros; the first is assigned, not added.

    It is a line that stands for `scatter` and `add_at` of a flat vector's slices.
    """
    raise NotImplementedError("written out by Source")


def joined(lines):
    """Put one line in place of the scatter and the add_ats that fill one flat vector."""
    uses, lines = defaultdict(list), list(lines)
    for k, line in enumerate(lines):
        for root in {v.root for v in line.inputs}:
            uses[root].append(k)
    for k, first in enumerate(lines):
        if first is None or first.function is not rules.scatter:
            continue
        of = uses[first.out.root]
        writes = [i for i in of if lines[i].function is rules.add_at]
        pieces = [first.args[:2], *(lines[i].args[2:0:-1] for i in writes)]
        pieces = [(x, _whole(part, first.out.value)) for x, part in pieces]
        if writes and writes == of[: len(writes)] and _disjoint(pieces, first.out.value):
            args = *zip(*pieces), first.args[2][0]
            lines[writes[-1]] = Line(join, args, {}, first.out, first.place, first.err)
            for i in (k, *writes[:-1]):
                lines[i] = None
    return [line for line in lines if line is not None]


def _whole(part, vector):
    """Return a slice of the vector with its start and stop; None of another index."""
    if vector.ndim != 1 or type(part) is not slice or part.step not in (None, 1):
        return None
    return slice(*part.indices(len(vector))[:2])


def _disjoint(pieces, vector):
    """Return whether the pieces are whole slices of the vector that do not meet."""
    end = 0
    if any(part is None or type(x) is not Var for x, part in pieces):
        return False
    for x, part in sorted(pieces, key=lambda piece: piece[1].start):
        fit = type(x.value) is np.ndarray and x.value.shape == (part.stop - part.start,)
        if not fit or part.start < end or x.value.dtype != vector.dtype:
            return False
        end = part.stop
    return True
