"""Comparison of gradients with numerical derivatives: one of the five checks of every gradient.

complex step          ∂f/∂x_j = Im f(x + i h e_j) / h, h = 2⁻⁷⁰: no subtraction, so exact up to
                      rounding; but f must be analytic and use only functions that accept complex
                      numbers (Squire & Trapp 1998)
central differences   (f(x + h e_j) − f(x − h e_j)) / 2h for h = h₀, h₀/2, ..., extrapolated to
                      h = 0 (Richardson; table and error estimate by Ridders 1982)

np.abs, np.maximum and comparisons of complex numbers give wrong complex steps without an error. A
complex step is therefore used only if it agrees with the differences to within their error.
"""

import inspect
import warnings

import numpy as np

from npgrad.autodiff import jacobian

COMPLEX_STEP = 2.0**-70
FIRST_STEP = 2.0**-5  # relative to max(1, |x_j|)
LEVELS = 12


def complex_step(f, x):
    """Return ∂f/∂x by complex steps, of shape f's shape + x's shape.

    x is a float or an array. f must be analytic: this function does not check it, `check_gradient`
    does, by differences. Raises TypeError if f(complex) is not complex.
    """
    x = np.asarray(x, dtype=float)
    columns = []
    for j in np.ndindex(x.shape):
        z = x.astype(complex)
        z[j] += 1j * COMPLEX_STEP
        y = np.asarray(f(z[()]))
        if y.dtype.kind != "c":
            raise TypeError(f"f gave {y.dtype} values for a complex argument: it is not analytic")
        columns.append(y.imag / COMPLEX_STEP)
    return _columns(columns, f, x)


def central_differences(f, x):
    """Return ∂f/∂x by extrapolated central differences, of shape f's shape + x's shape.

    x is a float or an array; f is evaluated within x_j ± max(1, |x_j|)/16 at most. If the
    differences do not converge (a kink, noise), the best of them is returned; `check_gradient`
    raises in this case.
    """
    return _differences(f, x, 0.0)[0]


def check_grads(f, *args, order=1, argnums=None, layout=None, rtol=1e-8, atol=1e-15):
    """Assert that npgrad's derivatives of f at args agree with numerical ones, entry by entry.

    f         of any shape; plain NumPy code
    order     2: the derivatives of npgrad's gradient are checked too (all of the Hessian)
    argnums   an int or a tuple; None: every float or float array in args
    layout    names the entries of the first argument checked, by `layout.name_of(i)`; or a dict
              {argnum: layout}
    rtol      allowed relative error of an entry, in addition to the numerical uncertainty
    atol      rounding error to expect in values and gradients whose terms nearly cancel; make it
              smaller to check gradients far below 1
    Raises AssertionError that names the argument, the parameter and the index, with both numbers.
    """
    argnums = _float_arguments(args) if argnums is None else _positions(args, argnums)
    args = _widened(args, argnums)
    for i in argnums:
        _compare(f, jacobian(f, i), args, i, layout, argnums, (rtol, atol), "npgrad")
    if order > 1:
        for i in argnums:
            gradient = jacobian(f, i)
            gradient.__name__ = f"the derivative of {_name(f)} with respect to {_argument(f, i)}"
            gradient.__signature__ = _signature(f)
            options = {"argnums": argnums, "layout": layout, "rtol": rtol, "atol": atol}
            check_grads(gradient, *args, order=order - 1, **options)


def check_gradient(f, gradient, *args, argnums=0, layout=None, rtol=1e-8, atol=1e-15):
    """Assert that the hand-written gradient(*args) is ∂f/∂args[argnums], entry by entry.

    f, gradient   functions of the same arguments; f need not be NumPy code. gradient returns an
                  array of f's shape + the argument's shape (a tuple of them for a tuple argnums)
    The other arguments and the errors are as in `check_grads`.
    """
    several = np.iterable(argnums)
    indices = _positions(args, argnums)
    args = _widened(args, indices)
    for k, i in enumerate(indices):
        given = (lambda *a, k=k: gradient(*a)[k]) if several else gradient
        _compare(f, given, args, i, layout, indices, (rtol, atol), _name(gradient))


def _compare(f, gradient, args, i, layout, argnums, tolerance, who):
    x = args[i]
    what = f"{_name(f)}, differentiated with respect to {_argument(f, i)}"
    given = np.asarray(gradient(*(a.copy() if isinstance(a, np.ndarray) else a for a in args)))
    f_of_x = lambda x: f(*args[:i], x, *args[i + 1 :])
    y = np.asarray(f_of_x(x))
    if given.shape != y.shape + np.shape(x):
        raise AssertionError(
            f"{what}: {who} gives shape {given.shape}, must be {y.shape + np.shape(x)}"
        )
    rtol, atol = tolerance
    numbers, uncertainty, method = _numbers(f_of_x, x, y, atol)
    uncertainty = np.broadcast_to(uncertainty, numbers.shape)
    if np.isnan(uncertainty).any():
        index = np.argwhere(np.isnan(uncertainty))[0][y.ndim :]
        raise AssertionError(
            f"{what}, cannot be checked: the differences with respect to "
            f"{_parameter(layout, i, argnums, index, np.shape(x))} do not converge "
            "(a kink, a jump, noise or nan)"
        )
    distance = np.abs(given - numbers)
    wrong = ~(distance <= rtol * np.abs(numbers) + uncertainty)
    if wrong.any():
        worst = np.argmax(np.where(wrong, np.nan_to_num(distance, nan=np.inf), -1.0))
        worst = np.unravel_index(worst, wrong.shape)
        raise AssertionError(
            f"{what} at {_parameter(layout, i, argnums, worst[y.ndim :], np.shape(x))}"
            + (f", output {_at(worst[: y.ndim])}" if y.ndim else "")
            + f": {who} gives {given[worst]:.17g}, {method} {numbers[worst]:.17g} "
            f"± {uncertainty[worst]:.1g} ({wrong.sum()} of {wrong.size} entries differ)"
        )


def _numbers(f, x, y, atol):
    """Return (∂f/∂x, its uncertainty, the method).

    The method is the complex step if it agrees with the differences, else the differences. The
    uncertainty broadcasts to ∂f/∂x; it is nan where the differences do not converge.
    """
    differences, error = _differences(f, x, atol)
    eps = np.finfo(y.dtype if y.dtype.kind == "f" else float).eps
    inputs = tuple(range(y.ndim, differences.ndim))
    scale = np.abs(y) + np.abs(differences).max(inputs, initial=0.0)
    scale = scale.reshape(y.shape + (1,) * np.ndim(x))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            exact = complex_step(f, x)
    except Exception:  # f may not accept complex numbers and may raise any exception
        exact = np.full(differences.shape, np.nan)
    if np.all(np.abs(exact - differences) <= 10 * error):
        return exact, 64 * eps * scale + atol, "complex step"  # rounding of the checked gradient
    converged = 10 * error <= np.maximum(1e-6 * scale, 1e5 * atol)
    return differences, np.where(converged, 10 * error, np.nan), "central differences"


def _differences(f, x, atol):
    """Return (∂f/∂x, error), by Ridders' table for each entry of x."""
    x = np.asarray(x, dtype=float)
    columns = [_ridders(f, x, j, atol) for j in np.ndindex(x.shape)]
    return tuple(_columns([column[k] for column in columns], f, x) for k in (0, 1))


def _ridders(f, x, j, atol):
    """Return (∂f/∂x_j, error).

    T[k, 0] is the difference with step h₀ 2⁻ᵏ; T[k, m] = T[k, m−1] + (T[k, m−1] − T[k−1, m−1])
    / (4ᵐ − 1) cancels the error's h²ᵐ term. The error of an entry is its distance from the two
    entries it is computed from, plus f's rounding error divided by the step. The entry with the
    smallest error is returned. Once the rounding part alone exceeds the smallest error, later
    entries cannot be better, and the loop ends.
    """
    step = FIRST_STEP * 2.0 ** np.ceil(np.log2(max(1.0, abs(x[j]))))
    shape = np.shape(f(x[()]))
    best, error, row = np.full(shape, np.nan), np.full(shape, np.inf), []
    with np.errstate(all="ignore"):
        for _ in range(LEVELS):
            above, below = x.copy(), x.copy()
            above[j] += step
            below[j] -= step
            high, low = np.asarray(f(above[()])), np.asarray(f(below[()]))
            eps = np.finfo(np.result_type(high, 1.0 if high.dtype.kind != "f" else high)).eps
            noise = (4 * eps * np.maximum(np.abs(high), np.abs(low)) + atol) / step
            previous, row = row, [(high - low) / (above[j] - below[j])]
            for m, coarse in enumerate(previous, 1):
                row.append(row[-1] + (row[-1] - coarse) / (4.0**m - 1.0))
                distance = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - coarse))
                distance = np.where(np.isnan(distance), np.inf, distance + noise)
                best = np.where(distance < error, row[-1], best)
                error = np.minimum(distance, error)
            if np.all(error <= 2 * noise):
                break
            step /= 2
    return best, error


def _columns(columns, f, x):
    if not columns:
        return np.zeros(np.shape(f(x)) + x.shape)
    return np.stack(columns, axis=-1).reshape(np.shape(columns[0]) + x.shape)


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
