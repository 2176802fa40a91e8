"""Comparison of gradients with numerical derivatives, with three answers.

Let D ± E be the numerical derivative of an entry (npgrad.numeric) and G the gradient to be checked.
The true relative error of G lies between (|G − D| − E)/|D| and (|G − D| + E)/|D|.

    agrees           the interval lies below rtol; its upper end is the precision that is stated
    wrong            the interval lies above rtol
    cannot be told   it contains rtol: the error bar is too long. The reason is stated: a kink,
                     noise, the domain of f, overflow, rounding

Each entry is judged by its own size. An entry that is 0, as far as rounding lets anyone see, is
compared with the rounding of the others.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from npgrad.autodiff import jacobian
from npgrad.numeric import Derivative, Slopes, quiet
from npgrad.parameters import Layout
from npgrad.types import Array

Answer: TypeAlias = Literal["agrees", "wrong", "cannot be told"]
Function: TypeAlias = Callable[..., Any]
Layouts: TypeAlias = Layout | Mapping[int, Layout] | None

ROUNDING = 1e-12  # relative; of sums whose terms cancel
SECOND = 1e-8  # what differences of a gradient can tell from 0, beside its largest entry
UNDERFLOW = 1e-250  # error bars below come from numbers that are rounded more coarsely
EVERY = 1000  # arguments with more entries are checked along random directions
DIRECTIONS = 16


class CannotTell(AssertionError):
    """The gradient is neither confirmed nor refuted here; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """The answer about a gradient and the entry that decided it; str(verdict) is one line.

    answer      "agrees", "wrong" or "cannot be told"
    argnum, argument, entry, output    where: ∂f[output]/∂args[argnum][entry]; argument is the name
    given, number, error               G, D, E
    method, step                       how D was found, and with which step
    reason      why it cannot be told, or which shape is wrong
    precision   the relative error of the gradient is at most this
    wrong, untold, entries             numbers of entries
    """

    answer: Answer
    message: str
    argnum: int
    argument: str
    entry: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    given: float = math.nan
    number: float = math.nan
    error: float = math.nan
    method: str = ""
    step: float = math.nan
    reason: str = ""
    precision: float = 0.0
    wrong: int = 0
    untold: int = 0
    entries: int = 0

    def __str__(self) -> str:
        return self.message


def check_grads(
    f: Function, *args: Any, order: int = 1, argnums: int | Sequence[int] | None = None,
    layout: Layouts = None, rtol: float = 1e-7, atol: float = 0.0, directions: int | None = None,
) -> Verdict:  # fmt: skip
    """Assert that npgrad's derivatives of f at args agree with numerical ones, entry by entry.

    f         of any shape; plain NumPy code
    order     2: the derivatives of npgrad's gradient are checked too (all of the Hessian), by
              differences of it; these tell an entry from 0 down to 1e-8 of the largest
    argnums   an int or a tuple; None: every float or float array in args
    The other arguments, the result and the errors are as in `check_gradient`.
    """
    indices = _float_arguments(args) if argnums is None else _positions(args, argnums)
    values = _widened(args, indices)
    options: dict[str, Any] = {
        "layout": layout,
        "rtol": rtol,
        "atol": atol,
        "directions": directions,
    }
    functions, beside = [f], 0.0
    for _ in range(order):
        verdicts = [
            _judge(g, jacobian(g, i), values, i, indices, "npgrad", beside=beside, **options)
            for g in functions
            for i in indices
        ]
        verdict = _asserted(_worst(verdicts))
        functions, beside = [_derivative(g, i) for g in functions for i in indices], SECOND
    return verdict


def _derivative(f: Function, i: int) -> Any:
    gradient: Any = jacobian(f, i)
    gradient.__name__ = f"the derivative of {_name(f)} with respect to {_argument(f, i)}"
    gradient.__signature__ = _signature(f)
    return gradient


def check_gradient(
    f: Function, gradient: Function, *args: Any, argnums: int | Sequence[int] = 0,
    layout: Layouts = None, rtol: float = 1e-7, atol: float = 0.0, directions: int | None = None,
) -> Verdict:  # fmt: skip
    """Assert that the hand-written gradient(*args) is ∂f/∂args[argnums]; return the Verdict.

    f, gradient   functions of the same arguments; f need not be NumPy code. gradient returns an
                  array of f's shape + the argument's shape (a tuple of them for a tuple argnums)
    layout        names the entries of the first argument checked, by `layout.name_of(i)`; or a dict
                  {argnum: layout}
    rtol          the relative error of an entry that still agrees
    atol          an absolute error that agrees as well: entries below it are not told from 0
    directions    k: compare along k random directions, at a cost that does not depend on the
                  number of entries; a wrong entry shows if it matters along them. 0: every entry.
                  None: every entry of arguments up to 1,000 entries, else 16 directions
    Raises AssertionError if it is wrong, with both numbers, and CannotTell, an AssertionError, if
    that cannot be told here, with the reason.
    """
    options: dict[str, Any] = {
        "layout": layout,
        "rtol": rtol,
        "atol": atol,
        "directions": directions,
    }
    return _asserted(compare(f, gradient, *args, argnums=argnums, **options))


def compare(
    f: Function, gradient: Function, *args: Any, argnums: int | Sequence[int] = 0,
    layout: Layouts = None, rtol: float = 1e-7, atol: float = 0.0, directions: int | None = None,
) -> Verdict:  # fmt: skip
    """Return the Verdict of `check_gradient`, whatever the answer."""
    several = not isinstance(argnums, int)
    indices = _positions(args, argnums)
    values = _widened(args, indices)
    verdicts = []
    for k, i in enumerate(indices):
        given = (lambda *a, k=k: gradient(*a)[k]) if several else gradient
        options: dict[str, Any] = {
            "layout": layout,
            "rtol": rtol,
            "atol": atol,
            "directions": directions,
        }
        verdicts.append(_judge(f, given, values, i, indices, _name(gradient), **options))
    return _worst(verdicts)


def _asserted(verdict: Verdict) -> Verdict:
    if verdict.answer != "agrees":
        raise (AssertionError if verdict.answer == "wrong" else CannotTell)(str(verdict))
    return verdict


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that decides: a wrong one, else one that cannot be told, else the one that
    is known least precisely."""
    rank = ("agrees", "cannot be told", "wrong")
    return max(verdicts, key=lambda v: (rank.index(v.answer), v.precision))


class _Table(NamedTuple):
    """Numbers of each output (rows) for entries of the argument, or directions (columns)."""

    found: list[Derivative]  # of the columns
    G: Array
    D: Array
    E: Array
    tolerance: Array
    agrees: Array
    wrong: Array
    precision: Array


@quiet()
def _judge(
    f: Function, gradient: Function, args: Sequence[Any], i: int, argnums: Sequence[int],
    who: str, layout: Layouts, rtol: float, atol: float, directions: int | None,
    beside: float = 0.0,
) -> Verdict:  # fmt: skip
    """Return the Verdict on one argument."""
    x = np.asarray(args[i])
    what = f"{_name(f)}, differentiated with respect to {_argument(f, i)}"

    def at(g: Function) -> Function:
        return lambda x: _called(g, [*args[:i], x, *args[i + 1 :]])

    slopes, gradient = Slopes(at(f), x), at(gradient)
    G = np.asarray(gradient(x[()]))
    if G.dtype.kind not in "fiub":
        raise TypeError(f"{who} gave {G.dtype}: must be real numbers")
    if G.shape != slopes.shape + x.shape:
        reason = f"{who} gives shape {G.shape}, must be {slopes.shape + x.shape}"
        return Verdict("wrong", f"{what}: {reason}", i, _argument(f, i), reason=reason)
    if G.size == 0:
        return Verdict("agrees", f"{what}: there are no entries", i, _argument(f, i))
    G = G.reshape(len(slopes.y), x.size).astype(float)
    if directions is None:
        directions = DIRECTIONS if x.size > EVERY else 0
    if directions:
        table = _along_directions(slopes, G, directions, rtol, atol, beside)
    else:
        table = _entry_by_entry(slopes, G, rtol, atol, beside)
    excuses = {} if directions else _excuses(slopes, gradient, table)

    agrees, wrong = table.agrees, table.wrong
    answer: Answer = "wrong" if wrong.any() else "agrees" if agrees.all() else "cannot be told"
    chosen = {"wrong": wrong, "agrees": agrees, "cannot be told": ~agrees & ~wrong}[answer]
    o, k = next(_by_size(chosen, table.precision))
    d, output = table.found[k], _index(o, slopes.shape)
    entry = () if directions else _index(k, x.shape)
    reason = excuses.get((o, k)) or _why(slopes, d, o) if answer == "cannot be told" else ""
    where = f"direction {k}" if directions else _parameter(layout, i, argnums, entry, x.shape)
    where += f", output {_at(output)}" if slopes.shape else ""
    given, number, error = (float(a[o, k]) for a in (table.G, table.D, table.E))
    numbers = f"{who} gives {given:.17g}, {d.method} {number:.17g} ± {error:.1g}"
    count = f"{chosen.sum()} of {agrees.size} {'directions' if directions else 'entries'}"
    precision = float(table.precision[o, k])
    message = {
        "wrong": f"{what} at {where}: {numbers} ({count} differ)",
        "cannot be told": f"{what} at {where}: cannot be told here: {reason}; {numbers} ({count})",
        "agrees": f"{what}: {who} agrees to a relative {precision:.0e} in {count}",
    }[answer]
    return Verdict(
        answer, message, i, _argument(f, i), entry, output, given, number, error, d.method,
        float(d.step[o]), reason, precision,
        int(wrong.sum()), int((~agrees & ~wrong).sum()), int(agrees.size),
    )  # fmt: skip


def _along_directions(
    slopes: Slopes, G: Array, k: int, rtol: float, atol: float, beside: float
) -> _Table:
    """Compare along k random directions, in which every entry moves by about its own size. The
    error of a sum G·v is relative to Σ |G_j v_j|."""
    rng, shape = np.random.default_rng(0), slopes.x.shape
    signs = rng.choice([-1.0, 1.0], (k, *shape))
    vs = list(slopes.sizes * rng.uniform(0.5, 1.5, (k, *shape)) * signs)
    found, v = [slopes.along(v) for v in vs], np.array([v.reshape(-1) for v in vs]).T
    relative = np.array([10 * ROUNDING if d.method == "complex step" else rtol for d in found])
    tolerance = relative * (np.abs(G) @ np.abs(v)) + atol
    tolerance += max(beside, ROUNDING) * np.abs(slopes.y)[:, None]
    return _compared(slopes, found, G @ v, tolerance)


def _entry_by_entry(slopes: Slopes, G: Array, rtol: float, atol: float, beside: float) -> _Table:
    """Compare each entry by its own size; one that is 0, as far as rounding, not noise, lets anyone
    see, by the size that it might have: that of the largest, or of f/x."""
    found = [slopes.entry(j) for j in np.ndindex(slopes.x.shape)]
    D, E = _columns(found)
    largest = np.abs(D).max(1, initial=0.0, where=np.isfinite(D))[:, None]
    scale = np.maximum(largest, np.abs(slopes.y)[:, None] / slopes.sizes.reshape(-1))
    exact = np.array([d.method == "complex step" for d in found])
    unseen = exact & (np.abs(D) <= E) & (E <= ROUNDING * scale)
    unseen &= (E > UNDERFLOW) | (G == 0)
    size = np.where(unseen, scale, np.abs(D))
    absolute = np.where(unseen, ROUNDING, beside) * scale + atol
    table = _compared(slopes, found, G, rtol * np.abs(D) + absolute, size)
    table.wrong[:, ~np.isfinite(slopes.x).reshape(-1)] = False  # no derivative at infinity
    return table


def _compared(
    slopes: Slopes, found: list[Derivative], G: Array, tolerance: Array, size: Array | None = None
) -> _Table:
    D, E = _columns(found)
    zero = np.array([d.zero for d in found]).T
    distance = np.abs(G - D)
    known = np.isfinite(slopes.y)[:, None] & (E < np.inf)
    agrees = known & ((distance + E <= tolerance) | (zero & (G == 0)))
    wrong = known & ~agrees & ~(distance - E <= tolerance)
    precision = (distance + E) / (np.abs(D) if size is None else size)
    precision = np.where(zero & (G == 0) | (distance + E == 0), 0.0, precision)
    return _Table(found, G, D, E, tolerance, agrees, wrong, precision)


def _columns(found: list[Derivative]) -> tuple[Array, Array]:
    """Return the numbers and their error bars, (outputs, columns)."""
    return np.array([d.number for d in found]).T, np.array([d.error for d in found]).T


def _excuses(slopes: Slopes, gradient: Function, table: _Table) -> dict[tuple[int, int], str]:
    """Take back the entries that only look wrong, the largest first, up to one that is wrong, and
    return why they cannot be told."""
    excuses: dict[tuple[int, int], str] = {}
    for o, k in _by_size(table.wrong, table.precision):
        excuse = _excuse(slopes, gradient, table, o, k)
        if not excuse:
            break
        excuses[o, k] = excuse
        table.wrong[o, k] = False
    return excuses


def _called(f: Function, args: Sequence[Any]) -> Any:
    """Return f of copies of args. Raises ValueError if f changes an array among them."""
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    y = f(*copies)
    for i, (a, b) in enumerate(zip(args, copies)):
        if isinstance(a, np.ndarray) and a.tobytes() != b.tobytes():
            raise ValueError(f"{_name(f)} changes {_argument(f, i)} in place: let it copy first")
    return y


def _by_size(mask: Array, precision: Array) -> Iterator[tuple[int, int]]:
    """Yield the indices where mask is true, the largest relative error first."""
    worst = np.argsort(-np.where(mask, np.nan_to_num(precision, nan=np.inf), -1.0), axis=None)
    for flat in worst[: np.count_nonzero(mask)]:
        o, k = np.unravel_index(flat, mask.shape)
        yield int(o), int(k)


def _excuse(slopes: Slopes, gradient: Function, table: _Table, o: int, k: int) -> str:
    """Return why an entry that looks wrong may be right; "" if it is wrong."""
    d, (given, number) = table.found[k], (a[o, k] for a in (table.G, table.D))
    j = _index(k, slopes.x.shape)
    if max(abs(given), abs(number)) <= ROUNDING * slopes.chord(j)[o]:
        return "the derivative is below the rounding of what f changes by"
    if d.method != "complex step":
        return ""
    checked = slopes.entry(j, exact=False)
    if abs(checked.number[o] - number) > checked.error[o] + d.error[o]:
        return f"complex step and differences disagree ({checked.number[o]:.17g})"
    scale = max(np.abs(table.D[o]).max(), np.abs(slopes.y[o]) / slopes.sizes[j])
    if not abs(given - number) <= max(64 * slopes.eps * scale, 1e-1 * abs(number)):
        return ""
    return _fluctuates(slopes, gradient, given - number, number, o, k)


def _fluctuates(
    slopes: Slopes, gradient: Function, error: float, number: float, o: int, k: int
) -> str:
    """Return why a small error may be rounding: around x it does not stay about the same, neither
    absolutely nor relative to the derivative. (A gradient that is constant has no rounding.)"""
    j, same, gradients = _index(k, slopes.x.shape), [], set()
    for step in np.outer([1, -1], [3e-3, 5e-3, 1e-2, 2e-2, 3e-2]).flat:
        x = slopes.x.copy()
        x[j] += step * slopes.sizes[j]
        try:
            there = slopes.complex_entry(x, j)[o]
            given = float(np.asarray(gradient(x[()])).reshape(len(slopes.y), -1)[o, k])
        except Exception:  # outside the domain
            continue
        if not np.isfinite(there + given + slopes.value(x)[o]):
            continue
        gradients.add(given)
        off = given - there
        relative = abs(off * number - error * there) <= 0.5 * abs(error * there)
        same.append(relative or abs(off - error) <= 0.5 * abs(error))
    if not same or np.mean(same) >= 0.7 or len(gradients) == 1:
        return ""
    return "the distance fluctuates around x, as rounding does"


def _why(slopes: Slopes, d: Derivative, o: int) -> str:
    """Return why output o of the derivative d is not known precisely."""
    if not np.isfinite(slopes.y[o]):
        return f"f = {slopes.y[o]}"
    if d.error[o] == np.inf:
        v = slopes.sizes * 2.0**-20
        if np.isnan(slopes.value(slopes.x + v)[o] + slopes.value(slopes.x - v)[o]):
            return "f has no values beside x"
        return "the differences do not converge (a kink, a jump, noise or high frequencies)"
    if d.kink[o] >= 0.5 * d.error[o]:
        return f"a kink: the slopes on both sides may differ by {2 * d.kink[o]:.1g}"
    if d.noise[o] >= 0.25 * d.error[o]:
        return "noise or rounding of f"
    return "the differences do not converge fast enough"


def _float_arguments(args: Sequence[Any]) -> list[int]:
    chosen = [i for i, a in enumerate(args) if np.asarray(a).dtype.kind == "f"]
    if not chosen:
        raise TypeError("none of the arguments is a float or a float array")
    return chosen


def _positions(args: Sequence[Any], argnums: int | Sequence[int]) -> list[int]:
    several = argnums if isinstance(argnums, Sequence) else [argnums]
    return [range(len(args))[i] for i in several]


def _widened(args: Sequence[Any], argnums: Sequence[int]) -> list[Any]:
    """Return args; those to be differentiated are converted to double precision."""
    args = list(args)
    for i in argnums:
        args[i] = np.array(args[i], dtype=float)[()]
    return args


def _name(f: Function) -> str:
    return str(getattr(f, "__name__", type(f).__name__))


def _signature(f: Function) -> inspect.Signature:
    try:
        return inspect.signature(f)
    except (TypeError, ValueError):
        return inspect.Signature()


def _argument(f: Function, i: int) -> str:
    names = [p.name for p in _signature(f).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    return f"argument {i} ({names[i]})" if -len(names) <= i < len(names) else f"argument {i}"


def _parameter(
    layout: Layouts, i: int, argnums: Sequence[int], index: tuple[int, ...], shape: tuple[int, ...]
) -> str:
    layouts = layout if isinstance(layout, Mapping) else {argnums[0]: layout}
    where = f"index {_at(index) or '()'}"
    names = layouts.get(i)
    if names is None:
        return where
    return f"{names.name_of(int(np.ravel_multi_index(index, shape)))}, {where}"


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def _at(index: tuple[int, ...]) -> str:
    return str(list(index)) if index else ""
