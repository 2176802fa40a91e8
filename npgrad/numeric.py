"""Numerical derivatives with an error bar.

complex step          ∂f/∂x = Im f(x + i h) / h: no subtraction, so exact up to rounding, but right
                      only for analytic code (Squire & Trapp 1998; Martins et al. 2003). It counts
                      only where npgrad.analytic has proved the code to be analytic at x
central differences   c(h) = (f(x + h) − f(x − h)) / 2h = f' + a₂h² + a₄h⁴ + ..., for steps h from
                      rounding noise upwards in powers of 3.7, extrapolated to h = 0 (Richardson)

The error bar of the differences is the sum of

    truncation   how far the extrapolation is from the two numbers it is made from (Ridders 1982)
    noise        8 σ/h, where σ is the noise of f, measured (Moré & Wild 2011), plus its rounding
    kink         half of the difference J between the slopes on the right and on the left:
                 (f(x + h) + f(x − h) − 2 f(x)) / h = J + b₁h + b₃h³ + ..., extrapolated as well

and a number counts only if all smaller steps agree with it: a function may look smooth at large
steps. Where none counts, or where larger steps see another slope as clearly (a high frequency or
rounding that moves in units), the error bar is infinite.
"""

import contextlib
import warnings
from typing import NamedTuple

import numpy as np

from npgrad.analytic import doubt

TINY = 2.0**-100  # the complex step, relative to the size of x
RATIO = 3.7  # of neighbouring steps: not a power of 2, which periods and grids often are
FIRST = 0.7310585786 * RATIO**-5  # relative to the size of x
TINIEST = np.finfo(float).tiny  # smaller numbers are rounded more coarsely
ORDERS = 4
NOISE = 10.0  # bound of f's noise in units of its standard deviation, as measured from 12 values
SHORT = 1e-9  # steps of a staircase that are shorter, relative to x, are rounding
FLAT = 1e-3  # a step function is one whose steps are longer than this, relative to x


class Derivative(NamedTuple):
    """The derivative of each output along one direction, with its error bar.

    kink, noise   the parts of the error bar that come from there
    zero          where f is constant or even around x, bit for bit, or has no part linear in h
    """

    number: np.ndarray
    error: np.ndarray
    step: np.ndarray
    kink: np.ndarray
    noise: np.ndarray
    zero: np.ndarray
    method: str


class Slopes:
    """The derivatives of f at x along any direction.

    f         a function of x, an array or a float; its value may have any shape
    shape     of f's value
    y         f(x), flat
    doubt     why the complex step cannot be trusted; "" where it is proved
    """

    def __init__(self, f, x):
        self.f, self.x = f, np.asarray(x, dtype=float)
        with quiet():
            value = np.asarray(f(self.x.copy()[()]))
        if value.dtype.kind not in "fiub":
            raise TypeError(
                f"the function returned {value.dtype}: must be one array of real numbers"
            )
        self.shape, self.y = value.shape, value.reshape(-1).astype(float)
        self.eps = np.finfo(value.dtype if value.dtype.kind == "f" else float).eps
        self.sizes = _sizes(self.x)
        self._noise = self._loss = None
        self.steady = True  # f gives the same value again
        self.doubt = self._doubt()

    def _doubt(self):
        """Return why the complex step may be wrong here."""
        signs = np.random.default_rng(0).choice([-1.0, 1.0], self.x.shape)
        z = (self.x + 1j * TINY * self.sizes * signs)[()]
        with quiet():
            try:
                y = np.asarray(self.f(np.copy(z)[()]))
            except Exception as error:
                return f"{type(error).__name__} for complex numbers"
            if y.dtype.kind != "c" or y.shape != self.shape:
                return "f loses the imaginary part"
            gap = np.abs(y.real.reshape(-1) - self.y)
            self.steady = bool(np.all(gap <= 1e-12 * np.abs(self.y)))
            noise = np.zeros(self.y.shape) if self.steady else 2.0 * NOISE * self.noise
            if np.any(gap > 1e-6 * np.abs(self.y) + noise):
                return "f has other values for complex numbers"
            return doubt(self.f, z, y, noise)

    @property
    def noise(self):
        """The standard deviation of f's noise at x, measured once."""
        if self._noise is None:
            with quiet():
                self._noise = self._measured_noise()
        return self._noise

    def _measured_noise(self):
        """σ² = mean (Δᵏ f)² (k!)² / (2k)! of equidistant values, which high differences Δᵏ free
        from the smooth part (Moré & Wild 2011).

        While most values are equal, the spacing is too small. What shows only at a larger spacing
        may be a high frequency, and counts as noise only if it is as small as rounding is.
        """
        sigma, missing = np.zeros(self.y.shape), np.ones(self.y.shape, bool)
        size = max(1.0, self.sizes.max(initial=0.0))
        rounding = 1e-14 * np.maximum(size, np.abs(self.y))
        for spacing in 2.0 ** np.arange(-44, -11, 8):
            found, equal, _ = self._scatter(spacing)
            counts = ~equal & (missing | (found <= rounding))
            sigma = np.where(counts, np.maximum(sigma, found), sigma)
            missing &= equal
        return sigma

    def _scatter(self, spacing):
        """Return (σ of values at this spacing, whether most are equal, the change of f per size).

        σ is the smaller number of the values before and behind x: a kink or a jump at x is no
        noise."""
        v = self.sizes * np.random.default_rng(1).uniform(0.5, 1.0, self.x.shape)
        found, equal = [], []
        for side in (spacing, -spacing):
            f = np.array([self.value(self.x + i * side * v) for i in range(1, 17)])
            orders = ((4, 70.0), (6, 924.0), (8, 12870.0))
            size = np.maximum(np.abs(f).max(0), 1e-300)
            found.append(size * np.min(
                [np.sqrt(np.mean(np.diff(f / size, k, axis=0) ** 2, 0) / g) for k, g in orders], 0
            ))  # fmt: skip
            equal.append(np.mean(np.diff(np.sort(f, 0), axis=0) == 0, 0) > 0.5)
        change = np.nan_to_num(np.ptp(f, 0)) / (16 * spacing)
        return np.nan_to_num(np.fmin(*found)), np.logical_or(*equal), change

    @property
    def loss(self):
        """The noise of f by cancellation, which its derivative has too: σ of what shows at both of
        two spacings, less the natural rounding of f and of its changes."""
        if self._loss is None:
            with quiet():
                found = [self._scatter(spacing) for spacing in (2.0**-20, 2.0**-24)]
            natural = 16.0 * self.eps * np.maximum(np.abs(self.y), found[0][2])
            self._loss = np.maximum(np.minimum(found[0][0], found[1][0]) - natural, 0.0)
        return self._loss

    def value(self, x):
        """Return f(x), flat; NaN where f raises or gives no real numbers of the same shape."""
        try:
            y = np.asarray(self.f(x[()]))
        except Exception:
            return np.full(self.y.shape, np.nan)
        if y.shape != self.shape or y.dtype.kind not in "fiub":
            return np.full(self.y.shape, np.nan)
        return y.reshape(-1).astype(float)

    def entry(self, j, exact=True):
        """Return ∂f/∂x_j; exact=False: by differences."""
        v = np.zeros(self.x.shape)
        v[j] = 1.0
        with quiet():
            if exact and not self.doubt:
                return self._complex(v, self.sizes[j])
            return self._differences(v, self.sizes[j], self.x[j])

    def along(self, v):
        """Return d f(x + t v)/dt at t = 0, where v moves the entries by about their own sizes."""
        with quiet():
            return self._differences(v, 1.0, None) if self.doubt else self._complex(v, 1.0)

    def _complex(self, v, size):
        """The error bar is 8 times the spread over steps of different mantissas, hence different
        roundings, and 1e-12 of the number; f that is not repeatable is called more often."""
        factors = np.array([1.0, 0.7130 * 2.0**-9, 1.3170 * 2.0**9])
        if not self.steady:
            factors = np.repeat(factors, 4)
        found = []
        for h in TINY * size * factors:
            z = self.x + 1j * h * v
            found.append(np.asarray(self.f(z[()])).imag.reshape(-1) / h)
        found = np.array(found)
        number = found[0] if self.steady else found.mean(0)
        spread = found.max(0) - found.min(0)
        error = (8.0 if self.steady else 1.0) * spread + 1e-12 * np.abs(number)
        error += 1e8 * TINIEST / (TINY * size)
        if self.steady:
            error += NOISE * self.loss / size
        step, none = np.full(number.shape, TINY * size), np.zeros(number.shape)
        zero = np.abs(found[1]) < 1e-3 * np.abs(found[0])  # it vanishes with h, as in x³ at 0
        zero |= np.all(found == 0, 0)
        return Derivative(number, error, step, none, error, zero, "complex step")

    def _differences(self, v, size, entry):
        h, above, below = self._ladder(v, size, entry)
        moved = np.fmax(np.abs(above - self.y), np.abs(below - self.y))
        still = np.logical_and.accumulate(moved == 0, axis=0).sum(0)  # the smallest so many steps
        length = np.where(still, h[np.maximum(still - 1, 0)], 0.0)
        unit = np.take_along_axis(moved, np.minimum(still, len(h) - 1)[None], 0)[0]
        # f moves in units: of rounding, if they are short, else it may be a step function
        short = length < SHORT * size
        floor = NOISE * self.noise + np.where(short & (still > 0), 2.0 * unit, 0.0)
        best = _extrapolated(h, above, below, self.y, floor, self.eps)
        best[1] = np.where(self._hair(h, above, below, best[0], size), np.inf, best[1])
        best[1] += np.where(short, 0.0, np.nanmax(np.abs((above - below).T / (2.0 * h)), 1))
        large = np.maximum(np.abs(self.y), abs(entry or 0.0))
        even = np.nanmax(np.abs(above - below), 0) == 0
        even &= best[1] <= 1e-6 * np.nanmax(np.abs((above + below - 2 * self.y).T / h), 1)
        flat = ~short & (
            self._leaves_smoothly(v, length, unit, still < len(h))
            | ((length >= FLAT * size) & (unit >= 1e-2 * large))
            | ((still == len(h)) & ~self._drifts(v, size, still == len(h)))
        )
        seen = 64.0 * (self.eps * np.abs(self.y) + TINIEST) / np.maximum(length, TINIEST)
        zero = np.zeros(self.y.shape)
        best = np.where(flat, [zero, seen, length, zero, seen], best)
        method = f"central differences (no complex step: {self.doubt})"
        return Derivative(*best, flat | even, method)

    def _hair(self, h, above, below, slope, size):
        """Return which slopes hold over so short a length, and for so small a part of f, that they
        may come from rounding, which moves in units, as well as from f."""
        holds = (
            np.abs((above - below).T / (2.0 * h) - slope[:, None]) <= 0.5 * np.abs(slope)[:, None]
        )
        last = len(h) - 1 - np.argmax(holds[:, ::-1], 1)
        short = (last < len(h) - 1) & (h[last] < 1e-5 * size)
        return short & (np.abs(slope) * h[last] < 1e-6 * np.abs(self.y))

    def _leaves_smoothly(self, v, length, unit, leaves):
        """Return which outputs, constant up to the step `length`, begin to move without a jump:
        f is continuous there, hence truly constant around x."""
        smooth = np.zeros(self.y.shape, bool)
        for o in np.flatnonzero(leaves & (length > 0)):
            low, high, last = length[o], RATIO * length[o] * 1.01, unit[o]
            for _ in range(40):
                middle = 0.5 * (low + high)
                sides = [self.value(self.x + side * middle * v) for side in (1, -1)]
                moved = np.fmax(*[np.abs(y - self.y)[o] for y in sides])
                low, high, last = (low, middle, moved) if moved > 0 else (middle, high, last)
            smooth[o] = last <= 1e-6 * unit[o]
        return smooth

    def _drifts(self, v, size, constant):
        """Return which outputs, constant so far, begin to move by no more than rounding at larger
        steps: then they may have moved all the time, unseen."""
        drifts = np.zeros(self.y.shape, bool)
        for step in size * RATIO ** np.arange(1, 16):
            if not constant.any():
                break
            sides = [np.abs(self.value(self.x + side * step * v) - self.y) for side in (1, -1)]
            moved = np.fmax(*sides)
            drifts |= constant & (moved > 0) & (moved < 64.0 * self.eps * np.abs(self.y))
            constant = constant & (moved == 0)
        return drifts

    def _ladder(self, v, size, entry):
        """Return (h, f(x + h v), f(x − h v)) of steps from noise upwards, in ascending order.

        They end at the largest entry of x, where f has been seen to have a value: what happens at
        larger scales says nothing about x.
        """
        rows = []

        def take(h):
            if entry is not None:
                h = float((abs(entry) + h) - abs(entry))  # then x ± h are exact
            rows.append((h, self.value(self.x + h * v), self.value(self.x - h * v)))
            return rows[-1]

        least = 8.0 * np.spacing(abs(entry) if entry is not None else 1.0)
        h, slope = FIRST * size, np.zeros(self.y.shape)
        for count in range(200):  # down to noise
            step, up, down = take(h)
            bend = np.maximum(np.abs(up - down), np.abs(up + down - 2.0 * self.y)) / step
            slope = np.fmax(slope, bend)
            noise = _noise_of(step, up, down, self.y, NOISE * self.noise, self.eps)
            h /= RATIO
            if h < least or (count >= 6 and np.all((noise >= 0.1 * slope) | np.isnan(slope))):
                break
        rows.reverse()
        h, largest = FIRST * size * RATIO, self.sizes.max() if entry is not None else size
        while h < largest and np.isfinite(sum(take(h)[1:])).any():
            h *= RATIO
        return tuple(np.array(column) for column in zip(*rows))


def _noise_of(h, above, below, y, floor, eps):
    """Return the bound of the noise of a central difference of step h."""
    largest = np.fmax(np.fmax(np.abs(above), np.abs(below)), np.abs(y))
    return (floor + 4.0 * eps * largest + TINIEST) / h


def _extrapolated(h, above, below, y, floor, eps):
    """Return (number, error, step, kink, noise) of the best extrapolation, for each output.

    h (K,) ascending; above, below (K, m); floor (m,) of the noise
    """
    h = h[:, None]
    central = (above - below) / (2.0 * h)
    bend = (above + below - 2.0 * y) / h
    noise = _noise_of(h, above, below, y, floor, eps)
    noise = np.where(np.isfinite(central), noise, np.inf)
    c, J, n, n_J = central, bend, noise, 2.0 * noise
    best, rival = np.full((2, 5, len(y)), np.nan)
    best[1] = rival[1] = np.inf
    for order in range(1, min(ORDERS, len(h) - 1) + 1):
        c, truncation, n = _extrapolate(c, n, RATIO ** (2 * order))
        J, bent, n_J = _extrapolate(J, n_J, RATIO ** (2 * order - 1))
        kink = 0.5 * (np.abs(J) + bent + n_J)
        error = truncation + n + kink
        excess = 10.0 * _excess(order, h, bend, noise)
        agrees = _agrees(c, error, order, h, central, noise) & (excess <= 10.0 * error)
        sure = np.where(agrees, error + excess, np.inf)
        best = _better(best, sure, c, h[: len(c)] + 0.0 * c, kink + excess, n)
        clear = np.where(10.0 * error < np.abs(c), error, np.inf)
        rival = _better(rival, clear, c, h[: len(c)] + 0.0 * c, kink, n)
    disagree = np.abs(rival[0] - best[0]) > rival[1] + best[1]
    best[1] = np.where(disagree & (rival[2] > best[2]), np.inf, best[1])
    return best


def _better(best, error, c, h, kink, noise):
    """Return best (number, error, step, kink, noise), or the row of these with a smaller error."""
    k = np.argmin(np.where(np.isnan(error), np.inf, error), 0), np.arange(error.shape[1])
    return np.where(error[k] < best[1], [c[k], error[k], h[k], kink[k], noise[k]], best)


def _extrapolate(coarse, noise, factor):
    """Return (T, its distance from the two numbers it is made from, its noise)."""
    fine, wide = coarse[:-1], coarse[1:]
    T = fine + (fine - wide) / (factor - 1.0)
    distance = np.fmax(np.abs(T - fine), np.abs(T - wide))
    return T, distance, noise[:-1] + (noise[:-1] + noise[1:]) / (factor - 1.0)


def _agrees(number, error, order, h, central, noise):
    """Return which numbers (R, m), made from rows r, ..., r + order, all smaller steps agree with:
    |c(h) − f'| is at most the noise plus 4 (h/h_top)² times what it is at the largest step used."""
    rows = len(number)
    top = np.arange(rows) + order
    allowed = 4.0 * np.abs(central[top] - number)[:, None] * (h / h[top, 0]).T[..., None] ** 2
    distance = np.abs(central[None] - number[:, None])
    fits = ~(distance > noise + error[:, None] + allowed)
    return np.all(fits | (np.arange(len(h)) > top[:, None])[..., None], 1)


def _excess(order, h, bend, noise):
    """Return what is left of (f(x + h) + f(x − h) − 2 f(x))/h at the smaller steps, beyond noise
    and 4 h/h_top of what it is at the largest step used: it should vanish with h."""
    top = np.arange(order, len(h))
    allowed = 4.0 * np.abs(bend[top])[:, None] * (h / h[top, 0]).T[..., None]
    excess = np.abs(bend)[None] - 2.0 * noise - allowed
    smaller = (np.arange(len(h)) <= top[:, None])[..., None]
    return np.max(np.where(smaller & (excess > 0), excess, 0.0), 1)


def complex_step(f, x):
    """Return ∂f/∂x by complex steps, of shape f's shape + x's shape.

    x is a float or an array. f must be analytic: this function does not check it, `check_gradient`
    does. Raises TypeError if f(complex) is not complex.
    """
    x = np.asarray(x, dtype=float)
    sizes, columns = _sizes(x), []
    for j in np.ndindex(x.shape):
        h = TINY * sizes[j]
        z = x.astype(complex)
        z[j] += 1j * h
        y = np.asarray(f(z[()]))
        if y.dtype.kind != "c":
            raise TypeError(f"f gave {y.dtype} values for a complex argument: it is not analytic")
        columns.append(y.imag / h)
    return _stacked(columns, f, x)


def central_differences(f, x):
    """Return ∂f/∂x by extrapolated central differences, of shape f's shape + x's shape.

    x is a float or an array. NaN where the differences do not converge, e.g. at a kink.
    """
    slopes = Slopes(f, x)
    slopes.doubt = "not asked for"
    found = [slopes.entry(j) for j in np.ndindex(slopes.x.shape)]
    columns = [np.where(d.error < np.inf, d.number, np.nan).reshape(slopes.shape) for d in found]
    return _stacked(columns, f, slopes.x)


def _stacked(columns, f, x):
    if not columns:
        return np.zeros(np.shape(f(x[()])) + x.shape)
    return np.stack(columns, axis=-1).reshape(np.shape(columns[0]) + x.shape)


def _sizes(x):
    """Return the size of each entry: |x_j|; where x_j = 0, the largest; if all are 0, 1."""
    sizes = np.where(x == 0, 0.0, np.maximum(np.abs(x), 1e-250))
    largest = sizes[np.isfinite(sizes)].max(initial=0.0)
    return np.where(sizes > 0, sizes, largest if largest > 0 else 1.0)


@contextlib.contextmanager
def quiet():
    """Silence warnings, but make an error of an imaginary part that is thrown away."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield
