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
preference of −inf: an action that does not exist. `sample` raises FloatingPointError where h gives
no action (NaN, or +inf), so no such action can leave it.
"""

import math
from functools import partial

import numpy as np

from npgrad.networks import softplus

HALF_LN_2PI = 0.5 * math.log(2.0 * math.pi)
METHODS = ("log_prob", "score", "entropy", "entropy_gradient", "sample", "mode")


class Head:
    """head(h) is a distribution at h.

    distribution   a function h -> an object with the six methods above
    size           length of h
    noise          (rng, k) -> (k, ...), what `sample` needs for k states
    action         shape of one action: () for a number
    """

    def __init__(self, distribution, size, noise, action=()):
        self.distribution, self.size, self.noise, self.action = distribution, size, noise, action
        made = getattr(distribution, "func", distribution)
        missing = [name for name in METHODS if isinstance(made, type) and not hasattr(made, name)]
        if missing:
            raise TypeError(f"distribution {made.__name__}: must have a method {missing[0]}")

    def __call__(self, h):
        return self.distribution(h)


def softmax(n):
    """The head of n actions 0, ..., n − 1 with preferences h (n,)."""
    return Head(Softmax, n, lambda rng, k: rng.gumbel(size=(k, n)))


def gaussian(d, sigma="exp", spherical=False):
    """The head of actions (d,): h holds d means and d numbers ω, or one if spherical."""
    if sigma not in ("exp", "softplus"):
        raise ValueError(f"sigma = {sigma!r}: must be 'exp' or 'softplus'")
    at = partial(Gaussian, sigma=sigma, spherical=spherical)
    return Head(at, d + (1 if spherical else d), lambda rng, k: rng.standard_normal((k, d)), (d,))


def product(sizes):
    """The head of len(sizes) independent choices, the j-th among sizes[j] actions."""
    n = sum(sizes)
    at = partial(Product, sizes=tuple(sizes))
    return Head(at, n, lambda rng, k: rng.gumbel(size=(k, n)), (len(sizes),))


class Softmax:
    """π(a) = exp(h_a) / Σ_b exp(h_b).

    ∂ln π(a)/∂h = e_a − π;   H = −Σ π ln π;   ∂H/∂h_b = −π_b (ln π_b + H).

    With z = h − max h:  ln π_b + H = z_b − Σ_c π_c z_c. Inside, actions come first: sums over them
    then run along whole rows, which is faster.
    """

    def __init__(self, h):
        self.h, self.e = h, None

    def _exponentials(self):
        """(z, e = exp z, Σ e), computed once."""
        if self.e is None:
            h = self.h.T
            self.z = h - np.maximum.reduce(h, 0)
            self.e = np.exp(self.z)
            self.total = np.add.reduce(self.e, 0)
        return self.z, self.e, self.total

    def _chosen(self, a):
        """The index of (z_a) in z. Raises ValueError unless a has one entry per state."""
        shape = a.shape if hasattr(a, "shape") else np.shape(a)
        if shape != self.h.shape[:-1]:
            raise ValueError(f"actions {shape}: must be {self.h.shape[:-1]}, one per state")
        return a if self.h.ndim == 1 else (a, np.arange(len(a)))

    def log_probs(self):
        """ln π of all actions, shaped like h."""
        z, _, total = self._exponentials()
        return (z - np.log(total)).T

    def probs(self):
        """π of all actions, shaped like h."""
        _, e, total = self._exponentials()
        return (e / total).T

    def mean_gradient(self, q):
        """∂/∂h Σ_a π(a) q_a = π_b Σ_a π_a (q_b − q_a), q like h held fixed. It is
        computed from differences, so it stays accurate when π is nearly deterministic."""
        pi = self.probs()
        return pi * ((q[..., :, None] - q[..., None, :]) @ pi[..., None])[..., 0]

    def log_prob(self, a):
        z, _, total = self._exponentials()
        return z[self._chosen(a)] - np.log(total)

    def score(self, a):
        (_, e, total), chosen = self._exponentials(), self._chosen(a)
        score = e / -total
        score[chosen] = 0.0
        score[chosen] = -np.add.reduce(score, 0)  # 1 − π_a as a sum: nothing cancels
        return score.T

    def entropy(self):
        z, e, total = self._exponentials()
        return np.log(total) - (e * np.where(e > 0.0, z, 0.0)).sum(0) / total

    def entropy_gradient(self):
        z, e, total = self._exponentials()
        p, z = e / total, np.where(e > 0.0, z, 0.0)
        return (p * ((p * z).sum(0) - z)).T

    def sample(self, noise):
        """argmax_b (h_b + Gumbel noise) has exactly the probabilities π (Gumbel 1954)."""
        noisy = self.h + noise
        a = noisy.argmax(-1)
        highest = noisy[a] if noisy.ndim == 1 else np.maximum.reduce(noisy, -1)
        if not (math.isfinite(highest) if noisy.ndim == 1 else np.isfinite(highest).all()):
            raise FloatingPointError(f"theta has diverged: no action can be drawn at h = {self.h}")
        return a

    def mode(self):
        return self.h.argmax(-1)


class Product:
    """Independent choices: π(a) = Π_j π_j(a_j), π_j a softmax over its own part of h.

    ln π and H are sums over j; score and entropy gradient of the parts stand side by side.
    """

    def __init__(self, h, sizes):
        ends = np.cumsum((0, *sizes)).tolist()
        self.h, self.slices = h, [slice(*ends[j : j + 2]) for j in range(len(sizes))]
        self.parts = [Softmax(h[..., part]) for part in self.slices]

    def _columns(self, a):
        if np.shape(a) != (*self.h.shape[:-1], len(self.parts)):
            raise ValueError(f"actions {np.shape(a)}: must hold {len(self.parts)} per state")
        return [np.asarray(a)[..., j] for j in range(len(self.parts))]

    def log_prob(self, a):
        return sum(pi.log_prob(a_j) for pi, a_j in zip(self.parts, self._columns(a)))

    def score(self, a):
        columns = self._columns(a)
        return np.concatenate([pi.score(a_j) for pi, a_j in zip(self.parts, columns)], -1)

    def entropy(self):
        return sum(pi.entropy() for pi in self.parts)

    def entropy_gradient(self):
        return np.concatenate([pi.entropy_gradient() for pi in self.parts], -1)

    def sample(self, noise):
        draws = [pi.sample(noise[..., part]) for pi, part in zip(self.parts, self.slices)]
        return np.stack(draws, -1)

    def mode(self):
        return np.stack([pi.mode() for pi in self.parts], -1)


class Gaussian:
    """Independent normal actions a (d,); h = (μ, ω) with d means and d numbers ω (1 if spherical).

    sigma      "exp": σ = e^ω (Sutton & Barto 13.20);  "softplus": σ² = ln(1 + e^ω) (A3C §9)
    spherical  one σ for all dimensions

    With z = (a − μ)/σ:  ln π = Σ_d (−½ z² − ln σ − ½ ln 2π);   H = Σ_d (½ + ½ ln 2π + ln σ);
    ∂ln π/∂μ = z/σ;   ∂ln π/∂ω = (z² − 1) ∂ln σ/∂ω;   ∂H/∂ω = ∂ln σ/∂ω   (Σ over d if one σ);
    ∂ln σ/∂ω = 1 for exp, ½ e^ω / ((1 + e^ω) ln(1 + e^ω)) for softplus.
    """

    def __init__(self, h, sigma="exp", spherical=False):
        self.h, self.sigma, self.spherical = h, sigma, spherical
        self.d = h.shape[-1] - 1 if spherical else h.shape[-1] // 2
        self.mu, self.omega = h[..., : self.d], h[..., self.d :]

    def _log_sigma(self):
        if self.sigma == "exp":
            return self.omega
        small = self.omega < -30.0  # there ln(1 + e^ω) = e^ω to rounding, and may underflow
        return 0.5 * np.where(small, self.omega, np.log(softplus(np.where(small, 0.0, self.omega))))

    def _slope(self):
        """∂ln σ/∂ω."""
        if self.sigma == "exp":
            return np.ones_like(self.omega)
        bounded = np.maximum(self.omega, -30.0)
        slope = 0.5 * np.exp(bounded - softplus(bounded)) / softplus(bounded)
        return np.where(self.omega < -30.0, 0.5, slope)

    def _total(self, x):
        """Σ over the dimensions, of a term that has one entry per ω."""
        return np.sum(x, axis=-1) * (self.d if self.spherical else 1)

    def _standardised(self, a, log_sigma):
        if np.shape(a) != self.mu.shape:
            raise ValueError(f"actions {np.shape(a)}: must be {self.mu.shape}, as the means")
        return (a - self.mu) * np.exp(-log_sigma)

    def log_prob(self, a):
        log_sigma = self._log_sigma()
        z = self._standardised(a, log_sigma)
        return -0.5 * np.sum(z * z, axis=-1) - self._total(log_sigma) - self.d * HALF_LN_2PI

    def score(self, a):
        log_sigma = self._log_sigma()
        z = self._standardised(a, log_sigma)
        d_log_sigma = z * z - 1.0
        if self.spherical:
            d_log_sigma = np.sum(d_log_sigma, axis=-1, keepdims=True)
        return np.concatenate([z * np.exp(-log_sigma), d_log_sigma * self._slope()], axis=-1)

    def entropy(self):
        return self._total(self._log_sigma()) + self.d * (0.5 + HALF_LN_2PI)

    def entropy_gradient(self):
        gradient = np.zeros_like(self.h)
        gradient[..., self.d :] = self._slope() * (self.d if self.spherical else 1)
        return gradient

    def sample(self, noise):
        """μ + σ ε."""
        a = self.mu + np.exp(self._log_sigma()) * noise
        if not np.isfinite(a).all():
            raise FloatingPointError(f"theta has diverged: no action can be drawn at h = {self.h}")
        return a

    def mode(self):
        return self.mu
