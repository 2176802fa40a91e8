"""Families of functions of known derivative, in kinds that mislead gradient checkers.

A function is a list of layers (y, J) → (φ(y), ∂φ/∂y J), one after the other; J may be None. What
goes into φ may be complex, or of any precision.
"""

import math
import zlib
from collections import defaultdict
from functools import partial
from typing import NamedTuple

import numpy as np

FAMILIES = defaultdict(list)  # kind: functions of an rng that return a Drawn


class Drawn(NamedTuple):
    """A function F, `layers` one after the other, at x."""

    layers: list
    x: np.ndarray
    change: object = None  # makes f of (F, max |F(x)|), with the derivative of F
    tempting: object = None  # a wrong derivative, of x
    sides: tuple = ()  # at a kink in x's first entry: derivative to the left and to the right


def family(kind):
    return lambda drawn: FAMILIES[kind].append(drawn) or drawn


def each(phi, slope):
    return lambda y, J: (phi(y), None if J is None else slope(y)[:, None] * J)


def whole(phi, jacobian):
    return lambda y, J: (phi(y), None if J is None else jacobian(y) @ J)


def mix(A):
    return whole(lambda y: A @ y, lambda y: A)


def scaled(c, shift=0.0):
    return each(lambda y: c * (y - shift), lambda y: c + 0 * y)


def of_each(functions, weights):
    """Return Σ_j weights_j φ_j(y_j), as a vector of one entry."""
    terms = list(zip(weights, functions))
    return whole(
        lambda y: np.reshape(sum(w * phi(t) for (w, (phi, _)), t in zip(terms, y)), 1),
        lambda y: np.reshape([w * slope(t) for (w, (_, slope)), t in zip(terms, y)], (1, -1)),
    )


PRODUCT = whole(
    lambda y: y * np.roll(y, 1),
    lambda y: np.diag(np.roll(y, 1)) + np.roll(np.eye(y.size), -1, 1) * y[:, None],
)


def run(layers, x, J=None):
    """Return (F(x), ∂F/∂x J)."""
    y = np.atleast_1d(x)
    for layer in layers:
        y, J = layer(y, J)
    return y, J


PHI = {  # φ and its slope
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda t: -np.sin(t)),
    "tanh": (np.tanh, lambda t: 1 / np.cosh(t) ** 2),
    "arctan": (np.arctan, lambda t: 1 / (1 + t * t)),
    "hill": (lambda t: 1 / (1 + t * t), lambda t: -2 * t / (1 + t * t) ** 2),
    "root": (lambda t: np.sqrt(1 + t * t), lambda t: t / np.sqrt(1 + t * t)),
    "bell": (lambda t: np.exp(-t * t / 2), lambda t: -t * np.exp(-t * t / 2)),
    "line": (lambda t: t * 1.0, lambda t: 1 + 0 * t),
    "square": (lambda t: t * t, lambda t: 2 * t),
    "exp": (np.exp, np.exp),
    "cube": (lambda t: t**3, lambda t: 3 * t * t),
    "softplus": (lambda t: np.log1p(np.exp(t)), lambda t: 1 / (1 + np.exp(-t))),
}
TAME = list(PHI)[:9]  # for arguments of any size
beside_0 = lambda t: t + (t == 0)
KINKS = {  # φ, its slope where there is one, and its slopes to the left and to the right of 0
    "abs": (np.abs, np.sign, (-1, 1)),
    "relu": (lambda t: np.maximum(t, 0), lambda t: np.where(t < 0, 0, 1), (0, 1)),
    "clip": (lambda t: np.clip(t, -9, 0), lambda t: np.where(t < 0, 1, 0), (1, 0)),
    "max": (lambda t: np.maximum(2 * t, t), lambda t: np.where(t < 0, 1, 2), (1, 2)),
    "branch": (lambda t: t if t < 0 else t**2, lambda t: np.where(t < 0, 1, 2 * t), (1, 0)),
    "jump": (lambda t: t if t < 0 else t + 1, lambda t: 1 + 0 * t, (1, 1)),
    "spike": (lambda t: abs(t) ** 0.5, lambda t: np.sign(t) / 2 / abs(beside_0(t)) ** 0.5, (0, 1)),
    "wobble": (lambda t: t * np.sin(1 / beside_0(t)), lambda t: bent(1 / beside_0(t)), (-1, 1)),
    "C1": (lambda t: t * np.abs(t), lambda t: 2 * np.abs(t), ()),
    "power": (lambda t: np.abs(t) ** 1.5, lambda t: 1.5 * np.sign(t) * np.sqrt(np.abs(t)), ()),
}


def bent(u):
    """Return the slope of t sin(1/t) at t = 1/u."""
    return np.sin(u) - u * np.cos(u)


def power(rng, low, high, size=None):
    """Draw 10^u, u uniform."""
    return 10.0 ** rng.uniform(low, high, size)


def signed(rng, low, high, size=None):
    return rng.choice([-1, 1], size) * power(rng, low, high, size)


def chosen(rng, names, n):
    return [PHI[name] for name in rng.choice(names, n)]


def some_layer(rng, n):
    layers = each(*chosen(rng, list(PHI), 1)[0]), mix(rng.normal(size=(n, n)) / np.sqrt(n)), PRODUCT
    return layers[rng.choice(3, p=(0.6, 0.25, 0.15))]


def sums(row, rng):
    (names, x, c), n = row, rng.integers(1, 6)
    return Drawn([of_each(chosen(rng, names, n), c(rng, n))], x(rng, n))


# Σ_j c_j φ_j(x_j): (kind, names, x, c), where x and c are drawn by (rng, n)
normal = lambda rng, n: rng.normal(size=n)
any_size = lambda rng, n: signed(rng, -12, 12, n)
SUMS = (
    ("smooth", TAME[:-1], lambda rng, n: signed(rng, -8, 8, n), normal),
    ("zeros", list(PHI), lambda rng, n: rng.normal(size=n) * (rng.random(n) < 0.5), normal),
    ("small beside large", TAME, normal, any_size),
    ("small beside large", ["line"], normal, any_size),
    ("small beside large", ["square"], any_size, normal),
)
for kind, *row in SUMS:
    family(kind)(partial(sums, row))


@family("smooth")
def compositions(rng):
    n = rng.integers(1, 6)
    z, size = rng.uniform(-2, 2, n), power(rng, -12, 12, n)
    middle = [some_layer(rng, n) for _ in range(rng.integers(1, 6))]
    end = rng.choice([0, 1]) * [mix(np.ones((1, n)))]
    return Drawn([scaled(1 / size), *middle, *end, scaled(power(rng, -12, 12))], z * size)


@family("frequency")
def waves(rng):
    n, m, c = rng.integers(1, 4), rng.integers(1, 4), power(rng, -12, 12)
    omega, phase = power(rng, 0, 4, n), rng.uniform(0, 6, n)
    wave = each(lambda y: np.sin(omega * y + phase), lambda y: omega * np.cos(omega * y + phase))
    return Drawn([wave, mix(rng.normal(size=(m, n))), scaled(c)], power(rng, -2, 2, n))


@family("zeros")
def stationary_points(rng):
    n, c = rng.integers(1, 6), rng.normal()
    flat = chosen(rng, ["cos", "hill", "root", "bell", "square", "cube"], n)
    return Drawn([scaled(1.0, c), of_each(flat, rng.normal(size=n))], np.full(n, c))


@family("zeros")
def inputs_without_effect(rng):
    n = rng.integers(2, 6)
    A = rng.normal(size=(n, n)) * (rng.random(n) < 0.5)
    return Drawn([mix(A), some_layer(rng, n)], rng.normal(size=n))


def wave_on(pair, c, omega, phase, x):
    phi, slope = pair
    wave = lambda y: phi(y) + c * np.sin(omega * y + phase)
    slope_of_wave = lambda y: slope(y) + c * omega * np.cos(omega * y + phase)
    return Drawn([each(wave, slope_of_wave)], np.array([x]), tempting=slope)


@family("aliases")
def waves_on_dyadic_grids(rng):
    """Draw a line and a wave that is 0 at all multiples of a power of two."""
    k, c = 2.0 ** rng.integers(0, 20), rng.choice([1.0, power(rng, -3, 0)])
    x = np.round(rng.uniform(-2, 2) * 2.0 ** rng.integers(0, 12)) / 2.0**11
    return wave_on(PHI["line"], c / k, k * np.pi, 0.0, x)


@family("aliases")
def ripples(rng):
    """Draw a smooth function and a wave of small amplitude, of any period."""
    omega, phase, x = power(rng, 0, 6), rng.uniform(0, 6), rng.uniform(-2, 2)
    return wave_on(PHI[rng.choice(TAME)], power(rng, -5, 0) / omega, omega, phase, x)


@family("aliases")
def stairs(rng):
    """Draw steps: the slope is 0; that between distant points is 1."""
    k = rng.choice([2.0 ** rng.integers(3, 20), power(rng, 1, 5)])
    x = (np.round(rng.uniform(-2, 2) * k) + rng.uniform(-0.4, 0.4)) / k
    steps = each(lambda y: np.round(k * y) / k, lambda y: 0 * y)
    return Drawn([steps], np.array([x]), tempting=np.ones_like)


@family("aliases")
def bumps(rng):
    s, m, c = power(rng, -4, -1), rng.normal(), rng.choice([0.0, 1.0])
    bell, slope = PHI["bell"]
    bump = each(lambda y: c * y + bell((y - m) / s), lambda y: c + slope((y - m) / s) / s)
    return Drawn([bump], np.array([m + s * rng.uniform(-6, 6)]))


def bits(x):
    """Return a number within ±1 that looks random, but is a function of x."""
    return zlib.crc32(np.asarray(x).tobytes()) / 2.0**31 - 1


NOISES = (  # of size s, or relative to F(x) r; noise() and the bits of x look random
    lambda F, s, r, noise: lambda x: F(x) + s * noise(),
    lambda F, s, r, noise: lambda x: F(x) * (1 + r * noise()),
    lambda F, s, r, noise: lambda x: F(x) + s * bits(x),
    lambda F, s, r, noise: lambda x: F(x) * (1 + r * bits(x)),
    lambda F, s, r, noise: lambda x: np.round(F(x) / s) * s,
    lambda F, s, r, noise: lambda x: (F(x) + s * 1e16) - s * 1e16,
)


@family("noise")
def noisy(rng):
    n, r, noise = rng.integers(1, 4), power(rng, -12, -3), NOISES[rng.integers(len(NOISES))]
    change = lambda F, size: noise(F, r * size, r, rng.normal)
    return Drawn([some_layer(rng, n), mix(rng.normal(size=(1, n)))], rng.normal(size=n), change)


@family("noise")
def single_precision(rng):
    """Draw single precision inside f, which may convert its result to double."""
    x = rng.normal(size=rng.integers(1, 4)).astype(np.float32).astype(float)
    double = 1.0 if rng.random() < 0.5 else np.ones(1)
    convert = lambda x: x.astype(np.complex64 if x.dtype.kind == "c" else np.float32)
    layers = [each(*pair) for pair in chosen(rng, TAME[:6], rng.integers(1, 4))]  # no underflow
    return Drawn(layers, x, lambda F, size: lambda x: F(convert(x)) * double)


@family("near a kink")
def near_a_kink(rng):
    name, weight = rng.choice(list(KINKS)), power(rng, -6, 0)
    nearest = -4 if name == "wobble" else -14  # its waves are longer than x's rounding
    return kinked(rng, name, signed(rng, nearest, -1), weight)


@family("near a kink")
def at_a_bend(rng):
    return kinked(rng, rng.choice(["C1", "power"]), 0.0, power(rng, -6, 0))


@family("at a kink")
def at_a_kink(rng):
    weight, name = power(rng, -3, 0), rng.choice([name for name in KINKS if KINKS[name][2]])
    sides = tuple(weight * side for side in KINKS[name][2])
    return kinked(rng, name, 0.0, weight)._replace(sides=sides)


@family("at a kink")
def ties(rng):
    n = rng.integers(2, 5)
    largest = whole(lambda y: np.reshape(y.max(), 1), lambda y: np.eye(n)[:1])
    return Drawn([largest], rng.normal() - np.maximum(np.arange(n) - 1, 0), sides=(0.0, 1.0))


def kinked(rng, name, t, weight):
    """Return Σ_j φ_j(x_j − c_j); the first is weight times KINKS[name] at about t x_0."""
    n = rng.integers(1, 4)
    first, x = np.arange(n) == 0, signed(rng, -3, 3, n)
    functions = [KINKS[name][:2], *chosen(rng, TAME, n - 1)]
    weights = np.where(first, weight, rng.normal(size=n))
    return Drawn([scaled(1.0, np.where(first, x * (1 - t), 0.0)), of_each(functions, weights)], x)


@family("small beside large")
def large_constants(rng):
    """Draw one with a part that moves its last digits, at least where x is another."""
    b, (phi, slope) = power(rng, 3, 12), PHI[rng.choice(TAME)]
    c = max(power(rng, -9, 0), 4 * np.spacing(b))
    return Drawn([each(lambda y: b + c * phi(y), lambda y: c * slope(y))], rng.normal(size=1))


def cosine_slope(t):
    """Return the slope of (1 − cos t)/t² = 1/2! − t²/4! + t⁴/6! − ..., where t is small."""
    return sum(
        -((-1) ** k) * (2 * k - 2) / math.factorial(2 * k) * t ** (2 * k - 3) for k in range(2, 9)
    )


def root_slope(t):
    """Return the slope of √(t² + 1) − t."""
    root = np.sqrt(t * t + 1)
    return -1 / (root * (root + t))


# φ of one number: (kind, φ, its slope, x drawn by rng)
between = lambda low, high: lambda rng: power(rng, low, high)
small, near_1 = between(-12, -1), lambda rng: 1 - power(rng, -12, -1)
very_negative = lambda rng: rng.uniform(-3e4, -2.5e4)
C, E = "cancellation", "extremes"
SINGLE = (
    (C, lambda t: (1 - np.cos(t)) / t**2, cosine_slope, between(-5, -1)),
    (C, lambda t: np.sqrt(t * t + 1) - t, root_slope, between(2, 7)),
    (C, lambda t: np.log(1 + t), lambda t: 1 / (1 + t), small),
    (C, lambda t: (1 + t) ** 2 - 1 - 2 * t, lambda t: 2 * t, between(-7, -1)),
    (C, lambda t: 1 / (np.exp(t) - 1), lambda t: -np.exp(t) / np.expm1(t) ** 2, small),
    (C, lambda t: np.sin(t) ** 2 + np.cos(t) ** 2 + t, lambda t: 1 + 0 * t, between(-12, 3)),
    (E, np.exp, np.exp, lambda rng: rng.uniform(690, 709.7)),
    (E, lambda t: np.exp(-t), lambda t: -np.exp(-t), lambda rng: rng.uniform(600, 700)),
    (E, lambda t: 1 / (1 + np.exp(-t)), lambda t: np.cosh(t / 2) ** -2.0 / 4, very_negative),
    (E, *PHI["square"], between(140, 154)),
    (E, *PHI["cube"], between(-100, -90)),
    (E, *PHI["sin"], between(-320, -290)),
    (E, lambda t: 1e-296 * t, lambda t: 1e-296 + 0 * t, between(-5, 5)),
    (E, lambda t: 1e300 * t, lambda t: 1e300 + 0 * t, between(-315, 7)),
    (E, np.log, lambda t: 1 / t, between(-300, -280)),
    (E, np.sqrt, lambda t: 0.5 / np.sqrt(t), between(290, 307)),
)
BOUNDED = (
    (np.log, lambda t: 1 / t, small),
    (np.sqrt, lambda t: 0.5 / np.sqrt(t), small),
    (lambda t: t**0.3, lambda t: 0.3 * t**-0.7, small),
    (lambda t: 1 / t, lambda t: -1 / (t * t), small),
    (lambda t: t * np.log(t), lambda t: np.log(t) + 1, small),
    (lambda t: np.log(1 - t), lambda t: -1 / (1 - t), near_1),
    (np.arccos, lambda t: -1 / np.sqrt((1 - t) * (1 + t)), near_1),
    (np.arctanh, lambda t: 1 / ((1 - t) * (1 + t)), near_1),
)


def single(row, rng):
    phi, slope, point = row
    return Drawn([each(phi, slope)], np.array([point(rng)]))


for kind, *row in SINGLE:
    family(kind)(partial(single, row))


@family("domain")
def edges_of_domains(rng):
    """Draw an x beside which F is nan; f raises, or is complex, there."""
    way = rng.choice(["nan", "raise", "complex"])
    change = None if way == "nan" else lambda F, size: guarded(F, way)
    return single(BOUNDED[rng.integers(len(BOUNDED))], rng)._replace(change=change)


def guarded(F, way):
    """Return an F that raises, or is complex, instead of nan."""

    def f(x):
        y = F(x)
        if x.dtype.kind == "c" or not np.isnan(y).any():
            return y
        if way == "raise":
            raise ValueError("math domain error")
        return F(x + 0j)

    return f


@family("domain")
def determinants(rng):
    """Draw ln det M of M = [[a, b], [b, c]], which may be nearly singular: by Cholesky, or by
    LU."""
    v, cholesky = rng.normal(size=(2, 1)), rng.random() < 0.5
    M = power(rng, -6, 3) * (v @ v.T + power(rng, -6, 0) * np.eye(2))
    matrix = lambda x: x[[0, 1, 1, 2]].reshape(2, 2)
    root = lambda x: 2 * np.log(np.diagonal(np.linalg.cholesky(matrix(x)))).sum(keepdims=True)
    lu = lambda x: np.reshape(np.log(np.linalg.det(matrix(x))), 1)
    determinant = lambda y: y[:1] * y[2:] - y[1:2] ** 2
    jacobian = lambda y: np.array([[y[2], -2 * y[1], y[0]]]) / determinant(y)
    layer = whole(lambda y: np.log(determinant(y)), jacobian)
    return Drawn([layer], M[[0, 0, 1], [0, 1, 1]], lambda F, size: root if cholesky else lu)


@family("extremes")
def large_products(rng):
    return Drawn([PRODUCT, mix(np.ones((1, 2)))], power(rng, 150, 153, 2))


def softmax(h):
    """Return (π, 1 − π, ln π), without cancellation."""
    z = h - h.max()
    weights = np.exp(z)
    others = np.sort(weights)[:-1].sum()
    rest = (1 - np.eye(h.size)) @ weights
    return weights / (1 + others), rest / (1 + others), z - np.log1p(others)


@family("the library's own")
def log_probabilities(rng):
    n, m = rng.integers(2, 6), rng.integers(1, 4)
    slopes = lambda pi, rest, _: np.where(np.eye(n) == 1, rest, -pi)
    layer = whole(lambda h: softmax(h)[2], lambda h: slopes(*softmax(h)))
    return Drawn([layer, mix(rng.normal(size=(m, n)))], rng.normal(size=n) * power(rng, -1, 2))


@family("the library's own")
def entropies(rng):
    entropy = lambda pi, _, log_pi: -(pi * log_pi).sum(keepdims=True)
    slopes = lambda pi, _, log_pi: -(pi * (log_pi + entropy(pi, _, log_pi)))[None]
    layer = whole(lambda h: entropy(*softmax(h)), lambda h: slopes(*softmax(h)))
    return Drawn([layer], rng.normal(size=rng.integers(2, 6)) * power(rng, -1, 2))


@family("the library's own")
def gaussian_log_densities(rng):
    """Draw −½ ((a − μ)/σ)² − ω of x = (μ, ω), σ = exp ω."""
    n = rng.integers(1, 3)
    a = rng.normal(size=n)
    z = lambda x: (a - x[:n]) / np.exp(x[n:])
    density = lambda x: (-(z(x) ** 2) / 2 - x[n:]).sum(keepdims=True)
    jacobian = lambda x: np.append(z(x) / np.exp(x[n:]), (z(x) - 1) * (z(x) + 1))[None]
    return Drawn([whole(density, jacobian)], rng.normal(size=2 * n) * power(rng, -1, 1))


@family("the library's own")
def network_losses(rng):
    """Draw ½ (v·φ(W s) − t)² of x = (W, v): tanh, or a rectifier."""
    s, t = rng.normal(size=2), rng.normal()
    phi, slope = PHI["tanh"] if rng.random() < 0.5 else KINKS["relu"][:2]
    u = lambda x: x[:6].reshape(3, 2) @ s
    error = lambda x: np.reshape(x[6:] @ phi(u(x)) - t, 1)
    of_y = lambda x: np.append(np.outer(x[6:] * slope(u(x)), s), phi(u(x)))
    layer = whole(lambda x: error(x) ** 2 / 2, lambda x: error(x) * of_y(x)[None])
    return Drawn([layer], rng.normal(size=9))


@family("the library's own")
def discounted_returns(rng):
    """Draw Σ γ^t r_t of x = (γ, r)."""
    t = np.arange(rng.integers(2, 20))
    G = lambda x: np.reshape(x[0] ** t @ x[1:], 1)
    jacobian = lambda x: np.append((t * x[0] ** np.maximum(t - 1, 0)) @ x[1:], x[0] ** t)[None]
    return Drawn([whole(G, jacobian)], np.append(1 - power(rng, -4, -1), rng.normal(size=t.size)))
