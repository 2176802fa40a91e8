"""Numerical derivatives with an error bar, and the noise of the function that they suffer from.

complex step          ∂f/∂x = Im f(x + i h) / h: no subtraction, so exact up to rounding, but right
                      only for analytic code (Squire & Trapp 1998; Martins et al. 2003). It counts
                      only where npgrad.analytic has proved the code to be analytic at x
central differences   elsewhere: npgrad.differences
"""

# mypy: disable-error-code="no-any-return"

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from npgrad.analytic import doubt
from npgrad.differences import RATIO, TINIEST, Ladder, noise_of
from npgrad.types import Array

TINY = 2.0**-100  # the complex step, relative to the size of x
FIRST = 0.7310585786 * RATIO**-5  # relative to the size of x
NOISE = 10.0  # bound of f's noise in units of its standard deviation, as measured from 12 values


class Derivative(NamedTuple):
    """The derivative of each output along one direction, with its error bar.

    kink, noise   the parts of the error bar that come from there
    zero          where f is constant or even around x, bit for bit, or has no part linear in h
    """

    number: Array
    error: Array
    step: Array
    kink: Array
    noise: Array
    zero: Array
    method: str


class Slopes:
    """The derivatives of f at x along any direction.

    f         a function of x, an array or a float; its value may have any shape
    shape     of f's value
    y         f(x), flat
    doubt     why the complex step cannot be trusted; "" where it is proved
    """

    def __init__(self, f: Callable[[Any], Any], x: Any):
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
        self._noise: tuple[Array, Array, Array] | None = None
        self._loss: Array | None = None
        self.steady = True  # f gives the same value again
        self.doubt = self._doubt()

    def _doubt(self) -> str:
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
            noise = np.zeros(self.y.shape) if self.steady else 2.0 * NOISE * self.noise[0]
            if np.any(gap > 1e-6 * np.abs(self.y) + noise):
                return "f has other values for complex numbers"
            return doubt(self.f, z, y, noise)

    @property
    def noise(self) -> tuple[Array, Array, Array]:
        """The standard deviation of f's noise at x: (of all that is seen, of neighbours); and
        where f is constant for neighbours, but not farther away, as a staircase is."""
        if self._noise is None:
            with quiet():
                self._noise = self._measured_noise()
        return self._noise

    def _measured_noise(self) -> tuple[Array, Array, Array]:
        """σ² = mean (Δᵏ f)² (k!)² / (2k)! of equidistant values, which high differences Δᵏ free
        from the smooth part (Moré & Wild 2011).

        While most values are equal, the spacing is too small. What shows only at a larger spacing
        may be a high frequency, and counts as noise only if it is as small as rounding is.
        """
        size = max(1.0, self.sizes.max(initial=0.0))
        rounding = 1e-14 * np.maximum(size, np.abs(self.y))
        near, equal, _ = self._scatter(self.value, 2.0**-44)
        sigma = near = np.where(equal, 0.0, near)
        for spacing in (2.0**-28, 2.0**-12):
            found, still_equal, _ = self._scatter(self.value, spacing)
            counts = ~still_equal & (equal | (found <= rounding))
            sigma = np.where(counts, np.maximum(sigma, found), sigma)
            stairs, equal = equal, equal & still_equal
        return sigma, near, stairs & ~equal

    def _scatter(
        self, function: Callable[[Array], Array], spacing: float
    ) -> tuple[Array, Array, Array]:
        """Return (σ of 16 values at this spacing, whether most are equal, their change).

        They lie before x. If they are noisy, σ is at most that of the values behind x: a kink or a
        jump near x is no noise.
        """
        sigma, equal, change = self._scatter_before(function, spacing)
        if np.any(~equal & ~(sigma <= 64.0 * self.eps * np.abs(self.y))):
            behind, still, _ = self._scatter_before(function, -spacing)
            sigma, equal = np.fmin(sigma, behind), equal | still
        return np.nan_to_num(sigma), equal, change

    def _scatter_before(
        self, function: Callable[[Array], Array], spacing: float
    ) -> tuple[Array, Array, Array]:
        v = self.sizes * np.random.default_rng(1).uniform(0.5, 1.0, self.x.shape)
        f = np.array([function(self.x + i * spacing * v) for i in range(1, 17)])
        size = np.maximum(np.abs(f).max(0), 1e-300)
        scatter = [
            np.sqrt(np.mean(np.diff(f / size, k, axis=0) ** 2, 0) / g)
            for k, g in ((4, 70.0), (6, 924.0), (8, 12870.0))
        ]
        equal = np.mean(np.diff(np.sort(f, 0), axis=0) == 0, 0) > 0.5
        return size * np.min(scatter, 0), equal, np.nan_to_num(np.ptp(f, 0))

    @property
    def loss(self) -> Array:
        """The noise of the complex step by cancellation in f, relative to the size of x: σ of a
        derivative that shows at near and far spacings, beyond its natural rounding."""
        if self._loss is None:
            with quiet():
                spacings = 2.0**-16, 2.0**-22, 1.37 * 2.0**-22
                far, *near = (self._scatter(self._slope, d) for d in spacings)
                whole = np.maximum(np.abs(self._slope(self.x)), np.abs(self.y)) + far[2]
            sigma = np.maximum(near[0][0], near[1][0])
            seen = (sigma > 16.0 * self.eps * whole) & (sigma > 0.03 * far[0])
            self._loss = np.where(seen, np.maximum(far[0], sigma), 0.0)
        return self._loss

    def _slope(self, x: Array) -> Array:
        """Return a directional derivative of f at x by a complex step; NaN where f has no value."""
        v = self.sizes * np.random.default_rng(2).uniform(0.5, 1.0, self.x.shape)
        try:
            y = _step(self.f, x, v, TINY)
        except Exception:
            y = np.full(self.y.shape, np.nan)
        return np.where(np.abs(y) < 0.5 / TINY, y, np.nan)  # larger: the imaginary part is no step

    def value(self, x: Array) -> Array:
        """Return f(x), flat; NaN where f raises or gives no real numbers of the same shape."""
        try:
            y = np.asarray(self.f(x[()]))
        except Exception:
            return np.full(self.y.shape, np.nan)
        if y.shape != self.shape or y.dtype.kind not in "fiub":
            return np.full(self.y.shape, np.nan)
        return y.reshape(-1).astype(float)

    def entry(self, j: tuple[int, ...], exact: bool = True) -> Derivative:
        """Return ∂f/∂x_j; exact=False: by differences."""
        v = unit(self.x, j)
        with quiet():
            if exact and not self.doubt:
                return self._complex(v, self.sizes[j])
            return self._differences(v, self.sizes[j], self.x[j])

    def complex_entry(self, x: Array, j: tuple[int, ...]) -> Array:
        """Return ∂f/∂x_j of all outputs at another x, by one complex step."""
        with quiet():
            return _step(self.f, x, unit(x, j), TINY * self.sizes[j])

    def chord(self, j: tuple[int, ...]) -> Array:
        """Return the largest |f(x ± s e_j) − f(x)| / s, s the size of the largest entry of x."""
        v, s = unit(self.x, j), self.sizes.max()
        with quiet():
            moved = [np.abs(self.value(self.x + side * s * v) - self.y) for side in (1, -1)]
        return np.nan_to_num(np.fmax(*moved)) / s

    def along(self, v: Array) -> Derivative:
        """Return d f(x + t v)/dt at t = 0, where v moves the entries by about their own sizes."""
        with quiet():
            return self._differences(v, 1.0, None) if self.doubt else self._complex(v, 1.0)

    def _complex(self, v: Array, size: float) -> Derivative:
        """The error bar is 8 times the spread over steps of different mantissas, hence different
        roundings, and 1e-12 of the number; f that is not repeatable is called more often."""
        factors = np.array([1.0, 0.7130 * 2.0**-9, 1.3170 * 2.0**9])
        if not self.steady:
            factors = np.repeat(factors, 4)
        found = np.array([_step(self.f, self.x, v, h) for h in TINY * size * factors])
        number = found[0] if self.steady else found.mean(0)
        spread = found.max(0) - found.min(0)
        error = (8.0 if self.steady else 1.0) * spread + 1e-12 * np.abs(number)
        error += 1e8 * TINIEST / (TINY * size)
        if self.steady:
            error += NOISE * self.loss / size
        step, none = np.full(number.shape, TINY * size), np.zeros(number.shape)
        error = np.where(np.isfinite(error), error, np.inf)
        zero = np.abs(found[1]) < 2e-3 * np.abs(found[0])  # it vanishes with h, as in x³ at 0
        zero &= np.abs(found[0]) * (TINY * size) > 1e18 * TINIEST
        zero |= np.all(found == 0, 0) & (self.y == 0)
        return Derivative(number, error, step, none, error, zero, "complex step")

    def _differences(self, v: Array, size: float, entry: float | None) -> Derivative:
        ladder = self._ladder(v, size, entry)
        best, constant = ladder.best(), ladder.constant
        even = ladder.is_even(best[1])
        flat = ~ladder.short & (
            self._leaves_smoothly(v, ladder, ~constant)
            | ladder.is_step_function(np.maximum(np.abs(self.y), abs(entry or 0.0)))
            | constant
        )
        zero = (flat & ~self._drifts(v, size, constant)) | even
        seen = 64.0 * (self.eps * np.abs(self.y) + TINIEST) / np.maximum(ladder.length, TINIEST)
        none = np.zeros(self.y.shape)
        best = np.where(flat, [none, seen, ladder.length, none, seen], best)
        number, error, step, kink, noise = best
        method = f"central differences (no complex step: {self.doubt})"
        return Derivative(number, error, step, kink, noise, zero, method)

    def _leaves_smoothly(self, v: Array, ladder: Ladder, leaves: Array) -> Array:
        """Return which outputs, constant up to the step `length`, begin to move without a jump:
        f is continuous there, hence truly constant around x."""
        smooth = np.zeros(self.y.shape, bool)
        for o in np.flatnonzero(leaves & ~ladder.short):
            low, high, last = ladder.length[o], RATIO * 1.01 * ladder.length[o], np.inf
            for _ in range(40):
                middle = 0.5 * (low + high)
                sides = [self.value(self.x + side * middle * v) for side in (1, -1)]
                moved = np.fmax(*[np.abs(y - self.y)[o] for y in sides])
                low, high, last = (low, middle, moved) if moved > 0 else (middle, high, last)
            smooth[o] = last <= 1e-6 * ladder.unit[o]
        return smooth

    def _drifts(self, v: Array, size: float, constant: Array) -> Array:
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

    def _ladder(self, v: Array, size: float, entry: float | None) -> Ladder:
        """Return the Ladder from the steps where noise hides f up to the largest entry of x, as far
        as f has values there: what happens at larger scales says nothing about x."""
        rows, (sigma, near, stairs) = [], self.noise

        def take(h: float) -> tuple[float, Array, Array]:
            if entry is not None:
                h = float((abs(entry) + h) - abs(entry))  # then x ± h are exact
            rows.append((h, self.value(self.x + h * v), self.value(self.x - h * v)))
            return rows[-1]

        least = 8.0 * np.spacing(abs(entry) if entry is not None else 1.0)
        h, slope = FIRST * size, np.zeros(self.y.shape)
        for count in range(200):
            step, up, down = take(h)
            bend = np.maximum(np.abs(up - down), np.abs(up + down - 2.0 * self.y)) / step
            slope = np.fmax(slope, bend)
            hidden = noise_of(step, up, down, self.y, NOISE * near, self.eps) >= 0.1 * slope
            h /= RATIO
            if h < least or (count >= 6 and np.all(hidden | np.isnan(slope))):
                break
        rows.reverse()
        h, largest = FIRST * size * RATIO, self.sizes.max() if entry is not None else size
        while h < largest and np.isfinite(sum(take(h)[1:])).any():
            h *= RATIO
        steps, above, below = (np.array(column) for column in zip(*rows))
        noise = NOISE * sigma, NOISE * near
        return Ladder(steps, above, below, self.y, *noise, stairs, self.eps, size)


def unit(x: Array, j: tuple[int, ...]) -> Array:
    """Return the direction of entry j of x."""
    v = np.zeros(x.shape)
    v[j] = 1.0
    return v


def _step(f: Callable[[Any], Any], x: Array, v: Array, h: Any) -> Array:
    """Return d f(x + t v)/dt of all outputs, by the complex step h. Raises TypeError if f(complex)
    is not complex."""
    y = np.asarray(f((x + 1j * h * v)[()]))
    if y.dtype.kind != "c":
        raise TypeError(f"f gave {y.dtype} values for a complex argument: it is not analytic")
    return y.imag.reshape(-1) / h


def complex_step(f: Callable[[Any], Any], x: Any) -> Array:
    """Return ∂f/∂x by complex steps, of shape f's shape + x's shape.

    x is a float or an array. f must be analytic: this function does not check it, `check_gradient`
    does. Raises TypeError if f(complex) is not complex.
    """
    x = np.asarray(x, dtype=float)
    sizes = _sizes(x)
    columns = [_step(f, x, unit(x, j), TINY * sizes[j]) for j in np.ndindex(x.shape)]
    return _stacked(columns, f, x)


def central_differences(f: Callable[[Any], Any], x: Any) -> Array:
    """Return ∂f/∂x by extrapolated central differences, of shape f's shape + x's shape.

    x is a float or an array. NaN where the differences do not converge, e.g. at a kink.
    """
    slopes = Slopes(f, x)
    slopes.doubt = "not asked for"
    found = [slopes.entry(j) for j in np.ndindex(slopes.x.shape)]
    columns = [np.where(d.error < np.inf, d.number, np.nan) for d in found]
    return _stacked(columns, f, slopes.x)


def _stacked(columns: list[Array], f: Callable[[Any], Any], x: Array) -> Array:
    """Return the flat columns, one for each entry of x, in the shape of f's value + x's."""
    shape = np.shape(f(x[()])) + x.shape
    return np.stack(columns, axis=-1).reshape(shape) if columns else np.zeros(shape)


def _sizes(x: Array) -> Array:
    """Return the size of each entry: |x_j|; where x_j is 0 or infinite, the largest; or 1."""
    known = np.isfinite(x) & (x != 0)
    sizes = np.where(known, np.maximum(np.abs(x), 1e-250), 0.0)
    largest = sizes.max(initial=0.0)
    return np.where(known, sizes, largest if largest > 0 else 1.0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, but make an error of an imaginary part that is thrown away."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield
