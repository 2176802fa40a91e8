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
from dataclasses import dataclass

import numpy as np

from npgrad.autodiff import jacobian
from npgrad.numeric import Slopes, quiet

ROUNDING = 1e-12  # relative; of sums whose terms cancel
SECOND = 1e-8  # what differences of a gradient can tell from 0, beside its largest entry
EVERY = 1000  # arguments with more entries are checked along random directions
DIRECTIONS = 16


class CannotTell(AssertionError):
    """The gradient is neither confirmed nor refuted here; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """The answer about a gradient and the entry that decided it; str(verdict) is one line.

    answer      "agrees", "wrong" or "cannot be told"
    precision   the relative error of the gradient is at most this
    argnum, argument, entry, output    where: ∂f[output]/∂args[argnum][entry]; argument is the name
    given, number, error               G, D, E
    method, step                       how D was found, and with which step
    reason                             why it cannot be told, or which shape is wrong
    wrong, untold, entries             numbers of entries
    """

    answer: str
    message: str
    precision: float
    argnum: int
    argument: str
    entry: tuple
    output: tuple
    given: float
    number: float
    error: float
    method: str
    step: float
    reason: str
    wrong: int
    untold: int
    entries: int

    def __str__(self):
        return self.message


def check_grads(f, *args, order=1, argnums=None, layout=None, rtol=1e-7, atol=0.0, directions=None):
    """Assert that npgrad's derivatives of f at args agree with numerical ones, entry by entry.

    f         of any shape; plain NumPy code
    order     2: the derivatives of npgrad's gradient are checked too (all of the Hessian), by
              differences of it; these tell an entry from 0 down to 1e-8 of the largest
    argnums   an int or a tuple; None: every float or float array in args
    The other arguments, the result and the errors are as in `check_gradient`.
    """
    argnums = _float_arguments(args) if argnums is None else _positions(args, argnums)
    args = _widened(args, argnums)
    options = {"layout": layout, "rtol": rtol, "atol": atol, "directions": directions}
    functions, beside = [f], 0.0
    for _ in range(order):
        verdicts = [
            _judge(g, jacobian(g, i), args, i, argnums, "npgrad", beside=beside, **options)
            for g in functions
            for i in argnums
        ]
        verdict = _asserted(_worst(verdicts))
        functions, beside = [_derivative(g, i) for g in functions for i in argnums], SECOND
    return verdict


def _derivative(f, i):
    gradient = jacobian(f, i)
    gradient.__name__ = f"the derivative of {_name(f)} with respect to {_argument(f, i)}"
    gradient.__signature__ = _signature(f)
    return gradient


def check_gradient(
    f, gradient, *args, argnums=0, layout=None, rtol=1e-7, atol=0.0, directions=None
):
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
    options = {"layout": layout, "rtol": rtol, "atol": atol, "directions": directions}
    return _asserted(compare(f, gradient, *args, argnums=argnums, **options))


def compare(f, gradient, *args, argnums=0, layout=None, rtol=1e-7, atol=0.0, directions=None):
    """Return the Verdict of `check_gradient`, whatever the answer."""
    several = np.iterable(argnums)
    indices = _positions(args, argnums)
    args = _widened(args, indices)
    verdicts = []
    for k, i in enumerate(indices):
        given = (lambda *a, k=k: gradient(*a)[k]) if several else gradient
        options = {"layout": layout, "rtol": rtol, "atol": atol, "directions": directions}
        verdicts.append(_judge(f, given, args, i, indices, _name(gradient), **options))
    return _worst(verdicts)


def _asserted(verdict):
    if verdict.answer != "agrees":
        raise (AssertionError if verdict.answer == "wrong" else CannotTell)(str(verdict))
    return verdict


def _worst(verdicts):
    """Return the verdict that decides: a wrong one, else one that cannot be told, else the one that
    is known least precisely."""
    rank = ("agrees", "cannot be told", "wrong")
    return max(verdicts, key=lambda v: (rank.index(v.answer), v.precision))


@quiet()
def _judge(f, gradient, args, i, argnums, who, layout, rtol, atol, directions, beside=0.0):
    """Return the Verdict on one argument.

    Columns are entries of the argument, or directions v. G, D, E, tolerance (outputs, columns)
    """
    x = np.asarray(args[i])
    what = f"{_name(f)}, differentiated with respect to {_argument(f, i)}"
    at = lambda g: lambda x: _called(g, [*args[:i], x, *args[i + 1 :]])
    slopes, gradient = Slopes(at(f), x), at(gradient)
    G = np.asarray(gradient(x[()]))
    if G.dtype.kind not in "fiub":
        raise TypeError(f"{who} gave {G.dtype}: must be real numbers")
    if G.shape != slopes.shape + x.shape:
        reason = f"{who} gives shape {G.shape}, must be {slopes.shape + x.shape}"
        return _verdict("wrong", f"{what}: {reason}", i, f, reason=reason, precision=np.inf)
    G = G.reshape(len(slopes.y), x.size).astype(float)
    if directions is None:
        directions = DIRECTIONS if x.size > EVERY else 0
    if directions:
        vs = _directions(slopes, directions)
        found = [slopes.along(v) for v in vs]
        flat = np.array([v.reshape(-1) for v in vs]).T
        size, G = np.abs(G) @ np.abs(flat), G @ flat
        tolerance = [ROUNDING * 10 if d.method == "complex step" else rtol for d in found] * size
    else:
        found = [slopes.entry(j) for j in np.ndindex(x.shape)]
        tolerance = None
    columns = lambda name: np.array([getattr(d, name) for d in found]).reshape(-1, len(slopes.y)).T
    D, E, zero = columns("number"), columns("error"), columns("zero").astype(bool)
    if tolerance is None:
        scale = _scale(slopes, D)
        exact = np.array([d.method == "complex step" for d in found], bool)
        unseen = exact & (np.abs(D) <= E) & (E <= ROUNDING * scale)  # 0, as far as rounding shows
        tolerance = rtol * np.abs(D) + np.where(unseen, ROUNDING * scale, beside * scale)
    distance = np.abs(G - D)
    known = np.isfinite(slopes.y)[:, None] & (E < np.inf)
    agrees = known & ((distance + E <= tolerance + atol) | (zero & (G == 0)))
    wrong = known & ~(distance - E <= tolerance + atol)
    precision = np.where(zero & (G == 0) | (distance + E == 0), 0.0, (distance + E) / np.abs(D))
    reasons = {}
    for o, k in _by_size(wrong, precision):
        reasons[o, k] = None if directions else _excuse(slopes, gradient, G, D, o, k, found[k])
        if not reasons[o, k]:
            break
        wrong[o, k] = False
    answer = "wrong" if wrong.any() else "agrees" if agrees.all() else "cannot be told"
    of_interest = {"wrong": wrong, "agrees": agrees, "cannot be told": ~agrees & ~wrong}[answer]
    if not of_interest.size:
        return _verdict("agrees", f"{what}: there are no entries", i, f)
    o, k = next(_by_size(of_interest, precision))
    d, output = found[k], np.unravel_index(o, slopes.shape)
    entry = () if directions else np.unravel_index(k, x.shape)
    reason = reasons.get((o, k)) or ("" if answer != "cannot be told" else _why(slopes, d, o))
    where = f"direction {k}" if directions else _parameter(layout, i, argnums, entry, x.shape)
    where += f", output {_at(output)}" if slopes.shape else ""
    numbers = f"{who} gives {G[o, k]:.17g}, {d.method} {D[o, k]:.17g} ± {E[o, k]:.1g}"
    count = f"{of_interest.sum()} of {G.size} {'directions' if directions else 'entries'}"
    message = {
        "wrong": f"{what} at {where}: {numbers} ({count} differ)",
        "cannot be told": f"{what} at {where}: cannot be told here: {reason}; {numbers} ({count})",
        "agrees": f"{what}: {who} agrees to a relative {precision.max():.0e} in {count}",
    }[answer]
    return _verdict(
        answer, message, i, f, float(precision[o, k]), tuple(map(int, entry)),
        tuple(map(int, output)), float(G[o, k]), float(D[o, k]), float(E[o, k]), d.method,
        float(d.step[o]), reason, int(wrong.sum()), int((~agrees & ~wrong).sum()), G.size,
    )  # fmt: skip


def _verdict(answer, message, i, f, precision=0.0, entry=(), output=(), given=np.nan,
             number=np.nan, error=np.nan, method="", step=np.nan, reason="",
             wrong=0, untold=0, entries=0):  # fmt: skip
    return Verdict(answer, message, precision, i, _argument(f, i), entry, output, given, number,
                   error, method, step, reason, wrong, untold, entries)  # fmt: skip


def _called(f, args):
    """Return f of copies of args. Raises ValueError if f changes an array among them."""
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    y = f(*copies)
    for i, (a, b) in enumerate(zip(args, copies)):
        if isinstance(a, np.ndarray) and a.tobytes() != b.tobytes():
            raise ValueError(f"{_name(f)} changes {_argument(f, i)} in place: let it copy first")
    return y


def _directions(slopes, k):
    """Return k random directions in which every entry moves by about its own size."""
    rng = np.random.default_rng(0)
    shape = slopes.x.shape
    return [slopes.sizes * rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)
            for _ in range(k)]  # fmt: skip


def _scale(slopes, D):
    """Return the size that each entry might have: that of the largest, or of f/x."""
    largest = np.abs(D).max(1, initial=0.0, where=np.isfinite(D))[:, None]
    return np.maximum(largest, np.abs(slopes.y)[:, None] / slopes.sizes.reshape(-1))


def _by_size(mask, precision):
    """Yield the indices where mask is true, the largest relative error first."""
    worst = np.argsort(-np.where(mask, np.nan_to_num(precision, nan=np.inf), -1.0), axis=None)
    for flat in worst[: np.count_nonzero(mask)]:
        yield np.unravel_index(flat, mask.shape)


def _excuse(slopes, gradient, G, D, o, k, d):
    """Return why an entry that looks wrong by the complex step may be right; "" if it is wrong."""
    if d.method != "complex step":
        return ""
    j = np.unravel_index(k, slopes.x.shape)
    checked = slopes.entry(j, exact=False)
    if abs(checked.number[o] - d.number[o]) > checked.error[o] + d.error[o]:
        return f"complex step and differences disagree ({checked.number[o]:.17g})"
    scale = max(np.abs(D[o]).max(), np.abs(slopes.y[o]) / slopes.sizes[j])
    if not abs(G[o, k] - D[o, k]) <= max(64 * slopes.eps * scale, 1e-2 * abs(D[o, k])):
        return ""
    return _fluctuates(slopes, gradient, G[o, k] - D[o, k], D[o, k], o, j)


def _fluctuates(slopes, gradient, error, number, o, j):
    """Return why a small error may be rounding: around x it does not stay about the same, neither
    absolutely nor relative to the derivative. (A gradient that is constant has no rounding.)"""
    same, gradients = [], set()
    for step in np.outer([1, -1], [3e-3, 5e-3, 1e-2, 2e-2, 3e-2]).flat:
        x = slopes.x.copy()
        x[j] += step * slopes.sizes[j]
        try:
            there = Slopes(slopes.f, x).entry(j).number[o]
            given = np.asarray(gradient(x[()])).reshape(len(slopes.y), -1)
        except Exception:  # outside the domain
            continue
        given = given[o, np.ravel_multi_index(j, x.shape)]
        if not np.isfinite(there + given):
            continue
        gradients.add(float(given))
        off = given - there
        relative = abs(off * number - error * there) <= 0.5 * abs(error * there)
        same.append(relative or abs(off - error) <= 0.5 * abs(error))
    if not same or np.mean(same) >= 0.7 or len(gradients) == 1:
        return ""
    return "the distance fluctuates around x, as rounding does"


def _why(slopes, d, o):
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


def _float_arguments(args):
    chosen = [i for i, a in enumerate(args) if np.asarray(a).dtype.kind == "f"]
    if not chosen:
        raise TypeError("none of the arguments is a float or a float array")
    return chosen


def _positions(args, argnums):
    return [range(len(args))[i] for i in (argnums if np.iterable(argnums) else [argnums])]


def _widened(args, argnums):
    """Return args; those to be differentiated are converted to double precision."""
    args = list(args)
    for i in argnums:
        args[i] = np.array(args[i], dtype=float)[()]
    return args


def _name(f):
    return getattr(f, "__name__", type(f).__name__)


def _signature(f):
    try:
        return inspect.signature(f)
    except (TypeError, ValueError):
        return inspect.Signature()


def _argument(f, i):
    names = [p.name for p in _signature(f).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    return f"argument {i} ({names[i]})" if -len(names) <= i < len(names) else f"argument {i}"


def _parameter(layout, i, argnums, index, shape):
    layouts = layout if isinstance(layout, dict) else {argnums[0]: layout}
    where = f"index {_at(index) or '()'}"
    if layouts.get(i) is None:
        return where
    return f"{layouts[i].name_of(int(np.ravel_multi_index(index, shape)))}, {where}"


def _at(index):
    return str([int(i) for i in index]) if len(index) else ""
