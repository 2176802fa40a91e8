"""Right and wrong claims about the derivative of a function that is drawn at random.

What is right is the chain rule over the function's layers; a function where this differs between
double precision and np.longdouble by more than a relative 1e-9 in an entry is not used. Where f has
noise, its derivative is that without the noise.
"""

import math
from typing import NamedTuple

import numpy as np

from benchmarks.checker.functions import FAMILIES, run


class Case(NamedTuple):
    """f at x, and claims (question, gradient). The question is one of `benchmarks.checker`'s."""

    kind: str
    f: object
    x: np.ndarray
    claims: list
    stepped: bool  # whether f takes complex numbers, and a complex step of it is right


def partly(w):
    return lambda F: lambda x: w * F(x) + (1 - w) * F(np.real(x)), w


# The same values of real x, where a complex step is wrong or impossible; what it is, relative to
# what is right
DISGUISES = (
    (lambda F: lambda x: F(np.real(x)), 0.0),
    (lambda F: lambda x: F(np.copysign(np.abs(x), np.real(x))), 0.0),
    (lambda F: lambda x: F(np.array([math.fsum([t]) for t in np.ravel(x)])), 0.0),
    (lambda F: lambda x: F(np.conj(x)), -1.0),
    *map(partly, (0.5, *1 - 2.0 ** -np.array([10, 16, 20, 23]))),
)


def complex_step(f, x):
    """Return ∂f/∂x, by a step relative to each entry of x; nan where f raises."""
    columns = []
    for j in np.ndindex(x.shape):
        z, h = x.astype(complex), 1e-170 * (abs(x[j]) or 1.0)
        z[j] += 1j * h
        try:
            columns.append(np.imag(f(z[()])) / h)
        except Exception:  # f may raise any exception
            return np.nan
    return np.stack(columns, -1).reshape(np.shape(columns[0]) + x.shape)


def changed(g, entry, how):
    """Return the gradient g with one entry changed."""

    def claim(x):
        d = g(x)
        d.flat[entry] = how(d.flat[entry])
        return d

    return claim


def wrong_claims(rng, g, x, tempting):
    """Return claims with one entry off by a relative 1e-6; and what tempts, or sometimes the
    largest entry far off."""
    right = g(x)
    entry = rng.choice(np.flatnonzero(right if right.any() else np.ones(right.shape)))
    off, far = rng.choice([-1e-6, 1e-6]), rng.choice([-1.0, 2.0, 0.0, np.nan])
    claims = [("1e-6", changed(g, entry, lambda d: d * (1 + off) if d else off))]
    if tempting and np.any(np.abs(tempting(x) - right) > 5e-7 * np.abs(right)):
        claims.append(("wrong", tempting))
    elif rng.random() < 0.25:
        largest = np.argmax(np.abs(right))
        claims.append(("wrong", changed(g, largest, lambda d: d * far if d else 1.0)))
    return claims


def accurate(layers, x):
    """Tell whether F(x) and its derivative are finite, the latter to a relative 1e-9 in every
    entry."""
    y, J = run(layers, x, np.eye(x.size))
    exact = run(layers, x.astype(np.longdouble), np.eye(x.size, dtype=np.longdouble))[1]
    finite = np.isfinite(y).all() and np.isfinite(exact.astype(float)).all()
    return finite and np.all(np.abs(J - exact) <= 1e-9 * np.abs(exact))


def case(kind, drawn, rng):
    """Return the Case of what was drawn: x a number or a vector, f too, as it is or in disguise."""
    layers, x, n = drawn.layers, drawn.x, drawn.x.size
    F, right = lambda x: run(layers, x)[0], lambda x: run(layers, x, np.eye(n))[1]
    y = F(x)
    f, tempting = drawn.change(F, np.abs(y).max()) if drawn.change else F, drawn.tempting
    disguised = rng.random() < 0.5
    if disguised:
        disguise, factor = DISGUISES[rng.integers(len(DISGUISES))]
        f, tempting = disguise(f), tempting or (lambda x: factor * right(x))
    x = x.reshape(() if n == 1 and rng.random() < 0.5 else n)
    shape = () if y.size == 1 and rng.random() < 0.8 else y.shape
    given = lambda x: np.reshape(f(x), shape)[()]
    shaped = lambda g: lambda x: np.array(g(np.atleast_1d(x))).reshape(shape + np.shape(x))
    if drawn.sides:
        beside = lambda side: shaped(lambda x: np.where(np.arange(n) == 0, side, right(x)))
        sides = *drawn.sides, sum(drawn.sides) / 2
        return Case(kind, given, x, [("kink", beside(side)) for side in sides], False)
    right, tempting = shaped(right), tempting and shaped(tempting)
    stepped = np.abs(complex_step(given, x) - right(x)) <= 1e-8 * np.abs(right(x))
    claims = [("right", right), *wrong_claims(rng, right, x, tempting)]
    return Case(kind, given, x, claims, not disguised and bool(np.all(stepped)))


def draw(seed, number):
    """Return a Case, of a kind that depends on the number."""
    rng = np.random.default_rng([seed, number])
    kind = list(FAMILIES)[number % len(FAMILIES)]
    family = FAMILIES[kind][rng.integers(len(FAMILIES[kind]))]
    while not accurate(*(drawn := family(rng))[:2]):
        pass
    return case(kind, drawn, rng)
