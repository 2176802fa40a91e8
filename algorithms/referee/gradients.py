"""Judge a method's gradient, or an optimiser's step: which terms are in it, and how much of each.

    made = batch("a2c", seed=0)          arrays: see algorithms.referee.gradient_batches
    d = mine(made.theta, made)           (d,), in any framework
    verdict = judge(d, made)             verdict.agrees, verdict.coefficients, print(verdict)

Where d differs from the page's own, it is fitted, by least squares, as a sum of the terms of that
(algorithms.referee.gradient_terms): in the page's variant, in those that differ from it in one
choice, and in those that differ in two. A fit counts only if it leaves less than 1e-8 of d (1e-5 if
all of d is of single precision): what is reported is what d is, not what it resembles. A common
factor of all terms is reported as a reduction, if it is that of one. If nothing fits, all entries
but those of one array are tried.

METHODS has each method's d: its sense (ascent or descent), and what is summed or averaged.
"""

import itertools
from collections.abc import Iterator
from math import prod
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.linalg import norm

from algorithms.referee.gradient_batches import NAMES, batch, load, save
from algorithms.referee.gradient_terms import METHODS
from algorithms.referee.gradient_words import line_of, table_of
from algorithms.referee.guard import Unusable
from npgrad import Array

__all__ = ["METHODS", "NAMES", "Verdict", "batch", "judge", "load", "page_gradient", "save"]


class Precision(NamedTuple):
    fit: float  # the part of d that a fit may leave
    zero: float  # the part of d below which a term is taken for 0


DOUBLE, SINGLE = Precision(1e-8, 1e-12), Precision(1e-5, 1e-5)


class Fit(NamedTuple):
    """d as Σ coefficient · term in a variant."""

    coefficients: dict[str, float]
    variants: dict[str, str]
    rest: Array  # d − fit
    departing: list[str]  # names of the coefficients, and axes, that are not the page's
    but: str | None = None  # the array of θ that is left out


Multiple: TypeAlias = tuple[float, list[str]]  # see _multiple
Trial: TypeAlias = tuple[dict[str, str], dict[str, Array]]  # a variant, and the terms in it


class Verdict(NamedTuple):
    """Say what d is.

    coefficients, page           those of the raw terms in d, and in the page's gradient
    variants, page_variants      the choices made in d, and on the page
    departing                    names of the coefficients and variants that are not the page's
    multiple, apart              k of the first term in d, as a multiple of the page's, and the
                                 terms that are not k times the page's
    but                          the array of θ where d is something else, if it is in one alone
    residual                     ‖d − fit‖ / ‖d‖
    worst                        the entry that is farthest from the fit, or None if d fits

    Unless d fits, coefficients and variants are those that come closest to it.
    """

    agrees: bool
    fits: bool
    coefficients: dict[str, float]
    page: dict[str, float]
    variants: dict[str, str]
    page_variants: dict[str, str]
    departing: list[str]
    multiple: float
    apart: list[str]
    but: str | None
    residual: float
    worst: dict[str, Any] | None
    method: str

    @property
    def line(self) -> str:
        return line_of(self, METHODS[self.method].sense)

    def __str__(self) -> str:
        return "\n".join([self.line, *table_of(self)])


def judge(d: Any, made: SimpleNamespace, descent: bool = False) -> Verdict:
    """Judge d (d,), computed from the batch `made`. With descent, d is that of a loss.

    Raises Unusable for a d that is no gradient of this θ.
    """
    d = _checked(d, made)
    d = -d if descent and METHODS[made.method].sense != "descent" else d
    with np.errstate(over="ignore"):
        precision = SINGLE if np.array_equal(d, d.astype(np.float32)) else DOUBLE
    off, near = d - page_gradient(made), []
    if norm(off) <= precision.fit * norm(d - off):
        return _verdict(Fit(*_page(made), off, []), (1.0, []), d, made)
    for departures in range(3):
        variants = list(_variants(made, departures))
        trials = [(variant, METHODS[made.method].terms(made, variant)) for variant in variants]
        fits = [(_fit(d, made, *trial, precision), trial) for trial in trials]
        exact = [pair for pair in fits if norm(pair[0].rest) <= precision.fit * norm(d)]
        if exact:
            told = [(fit, _multiple(fit, d, made, trial, precision)) for fit, trial in exact]
            fit, multiple = min(told, key=_departure)
            rounded = norm(off) <= SINGLE.fit * norm(d) and norm(fit.rest) > 1e-3 * norm(off)
            if not rounded:
                return _verdict(fit, multiple, d, made)
        if norm(off) <= SINGLE.fit * norm(d):  # what is off is no term, but less than a term
            return _verdict(Fit(*_page(made), off, []), None, d, made)
        near += trials if departures < 2 else []
    return _verdict(_closest(d, made, near, precision), None, d, made)


def _departure(told: tuple[Fit, Multiple]) -> tuple[Any, ...]:
    """The order in which exact fits are preferred."""
    fit, (k, apart) = told
    return len(apart), abs(abs(k) - 1.0) > 1e-3, len(fit.departing)


def page_gradient(made: SimpleNamespace) -> Array:
    """Return the page's own d (d,), of the batch `made`."""
    terms = METHODS[made.method].terms(made, next(_variants(made, 0)))
    d: Any = sum(c * terms[name] for name, c in METHODS[made.method].page(made).items())
    return d


def _page(made: SimpleNamespace) -> tuple[dict[str, float], dict[str, str]]:
    """The page's (coefficients, variants)."""
    method, variants = METHODS[made.method], next(_variants(made, 0))
    return method.page(made), variants | {
        "reduction": next(iter(method.reductions(made, variants)))
    }


def _variants(made: SimpleNamespace, departures: int) -> Iterator[dict[str, str]]:
    """The variants that depart from the page in so many axes."""
    axes = METHODS[made.method].axes(made)
    for chosen in itertools.combinations(axes, departures):
        for values in itertools.product(*(axes[axis][1:] for axis in chosen)):
            yield {axis: found[0] for axis, found in axes.items()} | dict(zip(chosen, values))


def _checked(d: Any, made: SimpleNamespace) -> Array:
    """d as an array of floats. Raises Unusable."""
    d = np.asarray(d)
    if d.dtype.kind not in "fiu" or d.shape != made.theta.shape:
        raise Unusable(f"d {d.dtype} {d.shape}: must be floats {made.theta.shape}, as theta")
    if not np.isfinite(d).all():
        i = int(np.argmin(np.isfinite(d)))
        name, index = _entry(made, i)
        raise Unusable(f"d at {name}{index} is {d[i]}: must be finite")
    return d.astype(float)


def _arrays(made: SimpleNamespace) -> Iterator[tuple[str, slice, tuple[int, ...]]]:
    """(name, slice of θ, shape) of each array in θ."""
    for name, where in made.layout.items():
        size = prod(where["shape"])
        yield name, slice(where["offset"], where["offset"] + size), where["shape"]


def _entry(made: SimpleNamespace, i: int) -> tuple[str, list[int]]:
    """The name of the array that holds θ[i], and its index in it."""
    name, part, shape = next(found for found in _arrays(made) if i < found[1].stop)
    return name, [int(j) for j in np.unravel_index(i - part.start, shape)]


# The fit


def _fit(
    d: Array,
    made: SimpleNamespace,
    variant: dict[str, str],
    terms: dict[str, Array],
    precision: Precision,
    but: str | None = None,
) -> Fit:
    """The least-squares fit of d, or of the entries that are not in the array `but`. Terms that
    give nothing to it are left out."""
    rows = _outside(made, but)
    scale = norm(d[rows]) or 1.0
    sizes = {name: norm(term[rows]) for name, term in terms.items()}
    kept = [name for name, size in sizes.items() if size > 0.0]
    for _ in range(2):
        columns = np.array([terms[name][rows] / sizes[name] for name in kept])
        parts = np.linalg.lstsq(columns.reshape(-1, rows.sum()).T, d[rows], None)[0]
        large = np.abs(parts) > precision.zero * scale
        kept, parts = list(itertools.compress(kept, large)), parts[large]
    found = dict.fromkeys(terms, 0.0)
    found |= {name: float(part / sizes[name]) for name, part in zip(kept, parts)}
    rest = d - sum(c * terms[name] for name, c in found.items())
    page, standard = _page(made)
    coefficients, reduction, factor = _reduced(found, made, variant, 100 * precision.fit)
    off = ((name, abs(c - page.get(name, 0.0)) * sizes[name]) for name, c in coefficients.items())
    departing = [name for name, size in off if size * factor > precision.fit * scale]
    variants = variant | {"reduction": reduction}
    departing += [axis for axis in standard if variants[axis] != standard[axis]]
    return Fit(coefficients, variants, rest, departing, but)


def _outside(made: SimpleNamespace, but: str | None) -> Array:
    """(d,) true outside of the array `but`."""
    rows = np.ones(len(made.theta), bool)
    for name, part, _ in _arrays(made):
        rows[part] = name != but
    return rows


def _reduced(
    coefficients: dict[str, float], made: SimpleNamespace, variant: dict[str, str], tolerance: float
) -> tuple[dict[str, float], str, float]:
    """(coefficients, reduction, its factor over the page's): the reduction with which the first
    term that is there has the page's coefficient, or its negative; if there is none, the page's."""
    method = METHODS[made.method]
    (first, own), *others = method.reductions(made, variant).items()
    wanted = [(c, coefficients[name]) for name, c in method.page(made).items()]
    for page, c in [pair for pair in wanted if all(pair)][:1]:
        for reduction, factor in [(first, own), *others]:
            if abs(abs(c * own / factor / page) - 1.0) <= tolerance:
                scaled = {name: c * own / factor for name, c in coefficients.items()}
                return scaled, reduction, factor / own
    return coefficients, first, 1.0


def _multiple(
    fit: Fit, d: Array, made: SimpleNamespace, trial: Trial, precision: Precision
) -> Multiple:
    """(k, the terms of d that are not k times the page's): k is that of the first term in d."""
    for name, c in METHODS[made.method].page(made).items():
        if c and fit.coefficients[name]:
            k = fit.coefficients[name] / c
            departing = _fit(d / k, made, *trial, precision).departing
            return k, [name for name in departing if name in fit.coefficients]
    return 1.0, fit.departing


def _closest(d: Array, made: SimpleNamespace, near: list[Trial], precision: Precision) -> Fit:
    """The fit of all arrays but one, if there is an exact one; or else the closest of all."""
    names = [name for name, *_ in _arrays(made)]
    for trial, but in itertools.product(near, names if len(names) > 1 else ()):
        fit = _fit(d, made, *trial, precision, but)
        if norm(fit.rest[_outside(made, but)]) <= precision.fit * norm(d):
            return fit
    return min((_fit(d, made, *trial, precision) for trial in near), key=lambda fit: norm(fit.rest))


def _verdict(fit: Fit, multiple: Multiple | None, d: Array, made: SimpleNamespace) -> Verdict:
    """The Verdict of a fit and of its `_multiple`; None for that if it is only the closest."""
    (page, standard), worst = _page(made), None
    if multiple is None:
        i = int(np.argmax(np.abs(fit.rest)))
        name, index = _entry(made, i)
        worst = {
            "parameter": name,
            "index": index,
            "yours": float(d[i]),
            "page": float(page_gradient(made)[i]),
            "fit": float((d - fit.rest)[i]),
        }
    page = {name: page.get(name, 0.0) for name in fit.coefficients}
    residual = float(norm(fit.rest) / (norm(d) or 1.0))
    k, apart = multiple or (1.0, fit.departing)
    return Verdict(worst is None and not fit.departing, worst is None, fit.coefficients, page,
                   fit.variants, standard, fit.departing, k, apart, fit.but, residual, worst,
                   made.method)  # fmt: skip
