"""Distributions over actions, each an object at the outputs h of a policy's network.

    pi = head(h)               h (size,) of one state, or (k, size) of k states
    pi.log_prob(a)             ln π(a), plain NumPy: the tape and the complex step go through it
    pi.score(a)                ∂ ln π(a)/∂h, by hand
    pi.entropy()               H in nats (differential entropy for the Gaussian), plain NumPy
    pi.entropy_gradient()      ∂H/∂h, by hand
    pi.sample(noise)           an action drawn from π, given a row of head.noise for each state
    pi.mode()                  the most probable action

    softmax(n), gaussian(d), product(sizes)     the heads; head.size is the length of h
    head.noise(rng, k)                          k rows of randomness for `sample`

Results have one entry per state; score and entropy_gradient have the shape of h. Everything is
computed from h, never from a rounded probability, so preferences of ±1000 are exact, and so is a
preference of −inf: an action that does not exist. Results have h's precision. Where h gives no
action (NaN, or +inf), `sample` and `mode` raise FloatingPointError, and the others give NaN. Other
shapes raise ValueError; an action that is none of 0, ..., n − 1 raises TypeError or IndexError.
"""

# NumPy's ufuncs are declared to return Any.
# mypy: disable-error-code="no-any-return"

import math
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from npgrad.memory import smallest
from npgrad.networks import softplus
from npgrad.parameters import whole_numbers
from npgrad.types import Array

HALF_LN_2PI = 0.5 * math.log(2.0 * math.pi)
INEXACT = frozenset(map(np.dtype, "efdgFDG"))  # the dtypes of h
METHODS = ("log_prob", "score", "entropy", "entropy_gradient", "sample", "mode")


class Head:
    """head(h) is a distribution at h.

    distribution   a class, or a function h -> an object, with the six methods above
    size           length of h
    noise          (rng, k) -> (k, ...), what `sample` needs for k states
    action         shape of one action: () for a number
    """

    def __init__(self, distribution: Callable[[Array], Any], size: int,
                 noise: Callable[[np.random.Generator, int], Array],
                 action: tuple[int, ...] = ()) -> None:  # fmt: skip
        (self.size,) = whole_numbers("size", size, 1)
        self.distribution, self.noise, self.action = distribution, noise, action
        made: Any = getattr(distribution, "func", distribution)
        made = made if isinstance(made, type) else distribution(np.zeros(size))
        missing = [name for name in METHODS if not hasattr(made, name)]
        if missing:
            name = getattr(made, "__name__", type(made).__name__)
            raise TypeError(f"distribution {name}: must have a method {missing[0]}")

    def __call__(self, h: Array) -> Any:
        if h.shape[-1:] != (self.size,):
            raise ValueError(f"h of shape {h.shape}: must be ({self.size},) or (k, {self.size})")
        return self.distribution(h)


def softmax(n: int) -> Head:
    """The head of n actions 0, ..., n − 1 with preferences h (n,)."""
    return Head(Softmax, n, partial(_gumbel, n))


def gaussian(d: int, sigma: str = "exp", spherical: bool = False) -> Head:
    """The head of actions (d,): h holds d means and d numbers ω, or one if spherical."""
    (d,) = whole_numbers("d", d, 1)
    at, size = partial(Gaussian, sigma=sigma, spherical=spherical), d + (1 if spherical else d)
    at(np.zeros(size))  # refuses another sigma
    return Head(at, size, partial(_normal, d), (d,))


def product(sizes: Iterable[int]) -> Head:
    """The head of len(sizes) independent choices, the j-th among sizes[j] actions."""
    sizes = whole_numbers("sizes", sizes, 1)
    return Head(partial(Product, sizes=sizes), sum(sizes), partial(_gumbel, sum(sizes)),
                (len(sizes),))  # fmt: skip


def _gumbel(n: int, rng: np.random.Generator, k: int) -> Array:
    return rng.gumbel(size=(k, n))


def _normal(d: int, rng: np.random.Generator, k: int) -> Array:
    return rng.standard_normal((k, d))


def _real(h: Any) -> Array:
    """Return h as it is if it has floating-point numbers, else as an array of them."""
    return h if getattr(h, "dtype", None) in INEXACT else np.asarray(h, float)


@lru_cache(maxsize=16)
def _arange(k: int) -> Array:
    indices = np.arange(k)
    indices.setflags(write=False)
    return indices


@lru_cache(maxsize=16)
def _exponents(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return −½, and an exponent x for which exp(x) is finite, nearly the largest one."""
    largest = math.floor(math.log(np.finfo(dtype).max))
    return np.array(-0.5, dtype), np.array(largest, dtype)


class Softmax:
    """π(a) = exp(h_a) / Σ_b exp(h_b).

    ∂ln π(a)/∂h = e_a − π;   H = −Σ π ln π;   ∂H/∂h_b = −π_b (ln π_b + H).

    With z = h − max h:  ln π_b + H = z_b − Σ_c π_c z_c. Inside, actions come first in a
    copy of h: sums over them then run along whole rows, which is up to ten times faster.
    """

    def __init__(self, h: Array) -> None:
        self.h = _real(h)
        self.e: Any = None
        if self.h.ndim not in (1, 2):
            raise ValueError(f"h of shape {self.h.shape}: must be (n,) or (k, n)")

    def _exponentials(self) -> tuple[Array, Array, Array]:
        """(z, e = exp z, Σ e), computed once."""
        if self.e is None:
            if self.h.ndim == 1:
                h, highest = self.h, self.h[self.h.argmax()]
            else:
                h = self.h.T.copy()
                highest = np.maximum.reduce(h, 0)
            self.z = h - highest
            self.e = np.exp(self.z)
            self.total = np.add.reduce(self.e, 0)
        return self.z, self.e, self.total

    def _chosen(self, a: Any) -> Any:
        """The index of (z_a) in z. Raises ValueError unless a has one entry per state, TypeError or
        IndexError unless it is the number of an action; NumPy refuses those that are too large."""
        chosen: Any = a
        lowest: Any = a
        if self.h.ndim == 2 or not isinstance(a, np.integer):
            a = a if hasattr(a, "dtype") else np.asarray(a)
            if a.shape != self.h.shape[:-1]:
                raise ValueError(f"actions {a.shape}: must be {self.h.shape[:-1]}, one per state")
            if a.dtype.kind not in "iu":
                raise TypeError(f"actions of dtype {a.dtype}: must be integers")
            lowest = smallest(a)
            chosen = (a, _arange(len(a))) if a.ndim else lowest
        if lowest < 0:
            raise IndexError(f"action {lowest}: must be from 0 to {self.h.shape[-1] - 1}")
        return chosen

    def log_probs(self) -> Array:
        """ln π of all actions, shaped like h."""
        z, _, total = self._exponentials()
        return (z - np.log(total)).T

    def probs(self) -> Array:
        """π of all actions, shaped like h."""
        _, e, total = self._exponentials()
        return (e / total).T

    def mean_gradient(self, q: Array) -> Array:
        """∂/∂h Σ_a π(a) q_a = π_b Σ_a π_a (q_b − q_a), q like h held fixed. It is
        computed from differences, so it stays accurate when π is nearly deterministic."""
        if np.shape(q) != self.h.shape:
            raise ValueError(f"q of shape {np.shape(q)}: must be {self.h.shape}, like h")
        pi = self.probs()
        return pi * ((q[..., :, None] - q[..., None, :]) @ pi[..., None])[..., 0]

    def log_prob(self, a: Any) -> Array:
        z, _, total = self._exponentials()
        return z[self._chosen(a)] - np.log(total)

    def score(self, a: Any) -> Array:
        (_, e, total), chosen = self._exponentials(), self._chosen(a)
        score = e / -total
        score[chosen] = 0.0
        score[chosen] = -np.add.reduce(score, 0)  # 1 − π_a as a sum: nothing cancels
        return score.T

    def entropy(self) -> Array:
        z, e, total = self._exponentials()
        return np.log(total) - (e * np.where(e > 0.0, z, 0.0)).sum(0) / total

    def entropy_gradient(self) -> Array:
        z, e, total = self._exponentials()
        p, z = e / total, np.where(e > 0.0, z, 0.0)
        return (p * ((p * z).sum(0) - z)).T

    def sample(self, noise: Array) -> Array:
        """argmax_b (h_b + Gumbel noise) has exactly the probabilities π (Gumbel 1954)."""
        if noise.shape != self.h.shape:
            raise ValueError(f"noise of shape {noise.shape}: must be {self.h.shape}, as h")
        return self._argmax(self.h + noise)

    def mode(self) -> Array:
        return self._argmax(self.h)

    def _argmax(self, h: Array) -> Array:
        a = h.argmax(-1)
        highest = h[a] if h.ndim == 1 else h[_arange(len(a)), a]
        if not (math.isfinite(highest) if h.ndim == 1 else smallest(np.isfinite(highest))):
            raise FloatingPointError(f"theta has diverged: there is no action at h = {self.h}")
        return a


class Product:
    """Independent choices: π(a) = Π_j π_j(a_j), π_j a softmax over its own part of h.

    ln π and H are sums over j; score and entropy gradient of the parts stand side by side.
    """

    def __init__(self, h: Array, sizes: tuple[int, ...]) -> None:
        ends = np.cumsum((0, *sizes)).tolist()
        self.h, self.slices = _real(h), [slice(*ends[j : j + 2]) for j in range(len(sizes))]
        if self.h.shape[-1:] != (ends[-1],):
            raise ValueError(f"h of shape {self.h.shape}: must hold {ends[-1]} numbers per state")
        self.parts = [Softmax(self.h[..., part]) for part in self.slices]

    def _columns(self, a: Any) -> list[Array]:
        if np.shape(a) != (*self.h.shape[:-1], len(self.parts)):
            raise ValueError(f"actions {np.shape(a)}: must hold {len(self.parts)} per state")
        a = a if hasattr(a, "dtype") else np.asarray(a)
        return [a[..., j] for j in range(len(self.parts))]

    def log_prob(self, a: Any) -> Any:
        return sum(pi.log_prob(a_j) for pi, a_j in zip(self.parts, self._columns(a)))

    def score(self, a: Any) -> Array:
        columns = self._columns(a)
        return np.concatenate([pi.score(a_j) for pi, a_j in zip(self.parts, columns)], -1)

    def entropy(self) -> Any:
        return sum(pi.entropy() for pi in self.parts)

    def entropy_gradient(self) -> Array:
        return np.concatenate([pi.entropy_gradient() for pi in self.parts], -1)

    def sample(self, noise: Array) -> Array:
        if noise.shape != self.h.shape:
            raise ValueError(f"noise of shape {noise.shape}: must be {self.h.shape}, as h")
        draws = [pi.sample(noise[..., part]) for pi, part in zip(self.parts, self.slices)]
        return np.stack(draws, -1)

    def mode(self) -> Array:
        return np.stack([pi.mode() for pi in self.parts], -1)


class Gaussian:
    """Independent normal actions a (d,); h = (μ, ω) with d means and d numbers ω (1 if spherical).

    sigma      "exp": σ = e^ω (Sutton & Barto 13.20);  "softplus": σ² = ln(1 + e^ω) (A3C §9)
    spherical  one σ for all dimensions

    With z = (a − μ)/σ:  ln π = Σ_d (−½ z² − ln σ − ½ ln 2π);   H = Σ_d (½ + ½ ln 2π + ln σ);
    ∂ln π/∂μ = z/σ;   ∂ln π/∂ω = (z² − 1) ∂ln σ/∂ω;   ∂H/∂ω = ∂ln σ/∂ω   (Σ over d if one σ);
    ∂ln σ/∂ω = 1 for exp, ½ e^ω / ((1 + e^ω) ln(1 + e^ω)) for softplus.
    """

    def __init__(self, h: Array, sigma: str = "exp", spherical: bool = False) -> None:
        self.h, self.sigma, self.spherical = _real(h), sigma, spherical
        n = self.h.shape[-1]
        if n < 2 or (n % 2 and not spherical):
            many = "2 or more" if spherical else "2 d"
            raise ValueError(f"h of shape {self.h.shape}: must hold {many} numbers per state")
        if sigma not in ("exp", "softplus"):
            raise ValueError(f"sigma = {sigma!r}: must be 'exp' or 'softplus'")
        self.d = n - 1 if spherical else n // 2
        self.mu, self.omega = self.h[..., : self.d], self.h[..., self.d :]

    def _log_sigma(self) -> Array:
        if self.sigma == "exp":
            return self.omega
        small = self.omega < -30.0  # there ln(1 + e^ω) = e^ω to rounding, and may underflow
        return 0.5 * np.where(small, self.omega, np.log(softplus(np.where(small, 0.0, self.omega))))

    def _times_slope(self, x: Array) -> Array:
        """x ∂ln σ/∂ω."""
        if self.sigma == "exp":
            return x
        bounded = np.maximum(self.omega, -30.0)
        slope = 0.5 * np.exp(bounded - softplus(bounded)) / softplus(bounded)
        return x * np.where(self.omega < -30.0, 0.5, slope)

    def _total(self, x: Array) -> Array:
        """Σ over the dimensions, of a term that has one entry per ω."""
        return np.add.reduce(x, -1) * (self.d if self.spherical else 1)

    def _standardised(self, a: Array, log_sigma: Array) -> tuple[Array, Array]:
        """(z, 1/√σ), z = (a − μ)/√σ/√σ: 1/σ may overflow where z does not."""
        shape = a.shape if hasattr(a, "shape") else np.shape(a)
        if shape != self.mu.shape:
            raise ValueError(f"actions {shape}: must be {self.mu.shape}, as the means")
        off = a - self.mu
        if off.dtype != self.mu.dtype:
            off = off.astype(self.mu.dtype)
        minus_half, largest = _exponents(off.dtype)
        root = np.exp(np.minimum(minus_half * log_sigma, largest))
        return off * root * root, root

    def log_prob(self, a: Array) -> Array:
        log_sigma = self._log_sigma()
        z, _ = self._standardised(a, log_sigma)
        return -0.5 * np.add.reduce(z * z, -1) - self._total(log_sigma) - self.d * HALF_LN_2PI

    def score(self, a: Array) -> Array:
        z, root = self._standardised(a, self._log_sigma())
        d_log_sigma = z * z - 1.0
        if self.spherical:
            d_log_sigma = np.sum(d_log_sigma, axis=-1, keepdims=True)
        return np.concatenate([z * root * root, self._times_slope(d_log_sigma)], -1)

    def entropy(self) -> Array:
        return self._total(self._log_sigma()) + self.d * (0.5 + HALF_LN_2PI)

    def entropy_gradient(self) -> Array:
        d_log_sigma = np.full_like(self.omega, self.d if self.spherical else 1)
        return np.concatenate([np.zeros_like(self.mu), self._times_slope(d_log_sigma)], -1)

    def sample(self, noise: Array) -> Array:
        """μ + σ ε."""
        if noise.shape != self.mu.shape:
            raise ValueError(f"noise of shape {noise.shape}: must be {self.mu.shape}, as the means")
        a = self.mu + np.exp(self._log_sigma()) * noise
        self._check_finite(a)
        return a if a.dtype == self.mu.dtype else a.astype(self.mu.dtype)

    def mode(self) -> Array:
        self._check_finite(self.h)
        return self.mu

    def _check_finite(self, x: Array) -> None:
        if not smallest(np.isfinite(x)):
            raise FloatingPointError(f"theta has diverged: there is no action at h = {self.h}")
