"""Central differences with an error bar.

    c(h) = (f(x + h) − f(x − h)) / 2h = f' + a₂h² + a₄h⁴ + ...,     h = h₀ 3.7ᵏ

is extrapolated to h = 0 (Richardson). The error bar is the sum of

    truncation   how far the extrapolation is from the two numbers it is made from (Ridders 1982)
    noise        that of f, divided by h
    kink         half of the difference J of the slopes on the right and on the left:
                 b(h) = (f(x + h) + f(x − h) − 2 f(x)) / h = J + b₁h + b₃h³ + ..., extrapolated too

A number counts only if all smaller steps agree with it, because a function may look smooth at large
steps. The error bar is infinite where none counts, and where larger steps see another slope as
clearly: a high frequency, or rounding that moves in units.
"""

# mypy: disable-error-code="no-any-return"

from dataclasses import dataclass
from typing import Any

import numpy as np

from npgrad.types import Array

RATIO = 3.7  # of neighbouring steps: not a power of 2, which periods and grids often are
ORDERS = 4
SHORT = 1e-9  # steps of a staircase that are shorter, relative to x, are rounding
FLAT = 1e-3  # a step function is one whose steps are longer than this, relative to x
TINIEST = np.finfo(float).tiny  # smaller numbers are rounded more coarsely


@dataclass
class Ladder:
    """Values of f along a line, at steps in ascending order.

    h              (K,) the steps
    above, below   (K, m) f at x + h and at x − h; NaN where it has no value
    y              (m,) f(x)
    noise          (m,) the bound of its noise
    near           (m,) the bound of what is seen of it at the smallest distances
    stairs         (m,) whether f is constant at small distances, but noisy farther away
    eps            the rounding of f's dtype
    size           of x along this line
    """

    h: Array
    above: Array
    below: Array
    y: Array
    noise: Array
    near: Array
    stairs: Array
    eps: float
    size: float

    def __post_init__(self) -> None:
        self.central = (self.above - self.below) / (2.0 * self.h[:, None])
        self.bend = (self.above + self.below - 2.0 * self.y) / self.h[:, None]
        moved = np.fmax(np.abs(self.above - self.y), np.abs(self.below - self.y))
        self.still = np.logical_and.accumulate(moved == 0, axis=0).sum(0)
        self.constant = (self.still > 0) & np.all((moved == 0) | np.isnan(moved), 0)
        # f does not move up to the step `length`, and then by `unit`
        self.length = np.where(self.still, self.h[np.maximum(self.still - 1, 0)], 0.0)
        first = np.minimum(self.still, len(self.h) - 1)[None]
        self.unit = np.take_along_axis(moved, first, 0)[0]
        self.short = self.length < SHORT * self.size
        self.wide = self.stairs | ~self.short

    def best(self) -> Array:
        """Return (5, m): number, error bar, step, and the parts of the bar: kink and noise."""
        unit = np.where(self.short & (self.still > 0), 2.0 * self.unit, 0.0)
        rounding = 160.0 * self.eps * np.nanmax(np.abs(self.above + self.below), 0)
        near = np.maximum(self.near, np.minimum(self.noise, rounding))
        noise, near = (
            noise_of(self.h[:, None], self.above, self.below, self.y, bound + unit, self.eps)
            for bound in (self.noise, np.where(self.wide, self.noise, near))
        )
        noise = np.where(np.isfinite(self.central), noise, np.inf)
        moves = ~(self.wide & (self.h[:, None] <= self.length))
        self.central, self.bend = (np.where(moves, a, np.nan) for a in (self.central, self.bend))
        c, J, n, n_J = self.central, self.bend, noise, 2.0 * noise
        best, rival = np.full((2, 5, len(self.y)), np.nan)
        best[1] = rival[1] = np.inf
        for order in range(1, min(ORDERS, len(self.h) - 1) + 1):
            c, truncation, n = _extrapolated(c, n, RATIO ** (2 * order))
            J, bent, n_J = _extrapolated(J, n_J, RATIO ** (2 * order - 1))
            kink = 0.5 * (np.abs(J) + bent + n_J)
            error = truncation + n + kink
            step = self.h[: len(c), None] + 0.0 * c
            counts = self._agrees(c, error, order, near) & self._bends(error, order, near)
            best = _better(best, np.where(counts, error, np.inf), c, step, kink, n)
            clear = np.where(10.0 * error < np.abs(c), error, np.inf)
            rival = _better(rival, clear, c, step, kink, n)
        rivalled = np.abs(rival[0] - best[0]) > rival[1] + best[1]
        rivalled &= rival[2] > best[2]
        best[1] = np.where(rivalled | self._is_hair(best[0]), np.inf, best[1])
        best[1] += np.where(self.wide, 1.01 * np.abs(best[0]), 0.0)  # 0 is not excluded
        best[1, np.isnan(best[1])] = np.inf
        return best

    def _bends(self, error: Array, order: int, noise: Array) -> Array:
        """Return where b(h) vanishes with h: at the smaller steps, of which there must be a few, it
        is at most noise, a tenth of the error, and 4 h/h_top of what it is at the largest."""
        h, top = self.h, np.arange(order, len(self.h))
        allowed = 4.0 * np.abs(self.bend[top])[:, None] * (h / h[top][:, None])[..., None]
        fits = ~(np.abs(self.bend) > 2.0 * noise + 0.1 * error[:, None] + allowed)
        fits = np.all(fits | (np.arange(len(h)) > top[:, None])[..., None], 1)
        return fits & (top >= 4)[:, None]

    def _agrees(self, number: Array, error: Array, order: int, noise: Array) -> Array:
        """Return which numbers all smaller steps agree with: |c(h) − f'| is at most the noise plus
        4 (h/h_top)² of what it is at the largest step used."""
        h, top = self.h, np.arange(order, len(self.h))
        far = np.abs(self.central[top] - number)
        allowed = 4.0 * far[:, None] * (h / h[top][:, None])[..., None] ** 2
        distance = np.abs(self.central - number[:, None])
        fits = ~(distance > noise + error[:, None] + allowed)
        return np.all(fits | (np.arange(len(h)) > top[:, None])[..., None], 1)

    def _is_hair(self, slope: Array) -> Array:
        """Return which slopes hold over so short a length, and for so small a part of f, that they
        may come from rounding as well as from f."""
        holds = np.abs(self.central - slope) <= 0.5 * np.abs(slope)
        last = len(self.h) - 1 - np.argmax(holds[::-1], 0)
        h = self.h[last]
        short = (last < len(self.h) - 1) & (h < 1e-5 * self.size)
        return short & (np.abs(slope) * h < 1e-6 * np.abs(self.y))

    def is_even(self, error: Array) -> Array:
        """Return where f(x + h) = f(x − h), bit for bit, without a kink at x."""
        even = np.nanmax(np.abs(self.above - self.below), 0) == 0
        return even & (error <= 1e-6 * np.nanmax(np.abs(self.bend), 0))

    def is_step_function(self, large: Array) -> Array:
        """Return where f is constant around x and then jumps, by much more than rounding."""
        return (self.length >= FLAT * self.size) & (self.unit >= 1e-2 * large)


def noise_of(h: Any, above: Array, below: Array, y: Array, noise: Array, eps: float) -> Array:
    """Return the bound of the noise of a central difference of step h."""
    largest = np.fmax(np.fmax(np.abs(above), np.abs(below)), np.abs(y))
    return (noise + 4.0 * eps * largest + TINIEST) / h


def _extrapolated(coarse: Array, noise: Array, factor: float) -> tuple[Array, Array, Array]:
    """Return (T, its distance from the two numbers it is made from, its noise)."""
    fine, wide = coarse[:-1], coarse[1:]
    T = fine + (fine - wide) / (factor - 1.0)
    distance = np.fmax(np.abs(T - fine), np.abs(T - wide))
    return T, distance, noise[:-1] + (noise[:-1] + noise[1:]) / (factor - 1.0)


def _better(best: Array, error: Array, c: Array, step: Array, kink: Array, noise: Array) -> Array:
    """Return, for each output, the best so far or the row of these with a smaller error."""
    k = np.argmin(np.where(np.isnan(error), np.inf, error), 0), np.arange(error.shape[1])
    return np.where(error[k] < best[1], [c[k], error[k], step[k], kink[k], noise[k]], best)
