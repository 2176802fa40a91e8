"""Policy heads: what the numbers h of a model say about the action.

    log_prob(h, a)        ln π(a), plain NumPy: the tape and the complex step go through it
    score(h, a)           ∂ ln π(a)/∂h, explicit
    entropy(h)            H in nats (differential entropy for the Gaussian), plain NumPy
    entropy_gradient(h)   ∂H/∂h, explicit
    ascent(h, a, c, β)    c ∂ln π(a)/∂h + β ∂H/∂h of rows h (k, size), c (k,), both at once; in a
                          dict `memory` that is handed in it keeps its arrays for the next time
    noise(rng, n)         n rows of randomness; sample(h, row) is an action drawn from π
    mode(h)               the most probable action

h is (..., size); a is (...) for Softmax, (..., d) for Gaussian; results lose the last axis of h,
the two gradients keep it. Everything is computed from h, never from a rounded probability, so that
preferences of ±1000 are as good as any.
"""

import numpy as np

from npgrad.models import softplus

HALF_LN_2PI = 0.5 * np.log(2.0 * np.pi)


def _chosen(a):
    """The index of h[..., a]."""
    a = np.asarray(a)
    if a.ndim == 1:
        return np.arange(a.size), a
    return (*np.indices(a.shape), a)


class Softmax:
    """π(a) = exp(h_a) / Σ_b exp(h_b) over n actions.

    ∂ln π(a)/∂h = e_a − π;   H = −Σ π ln π;   ∂H/∂h_i = −π_i (ln π_i + H).
    """

    def __init__(self, n):
        self.n = self.size = n

    def log_probs(self, h):
        """ln π = h − max h − ln Σ exp(h − max h), for all actions."""
        h = h - h.max(-1, keepdims=True)
        return h - np.log(np.exp(h).sum(-1, keepdims=True))

    def log_prob(self, h, a):
        return self.log_probs(h)[_chosen(a)]

    def score(self, h, a):
        e = np.exp(h - h.max(-1, keepdims=True))
        score = e / -e.sum(-1, keepdims=True)
        chosen = _chosen(a)
        score[chosen] = 0.0
        score[chosen] = -score.sum(-1)  # 1 − π_a without cancellation
        return score

    def entropy(self, h):
        log_pi = self.log_probs(h)
        return -(np.exp(log_pi) * log_pi).sum(-1)

    def entropy_gradient(self, h):
        log_pi = self.log_probs(h)
        p = np.exp(log_pi)
        H = -(p * log_pi).sum(-1, keepdims=True)
        return -p * (log_pi + H)

    def ascent(self, h, a, c, beta, memory=None):
        """Arrays here have actions first, so that sums over them go along whole rows, which is
        faster; ln π + H = z − Σ_b π_b z_b, z = h − max h, needs no logarithm."""
        k, memory = len(a), {} if memory is None else memory
        if k not in memory:
            rows = *np.empty((4, self.n, k), h.dtype), np.empty(k, h.dtype)
            memory[k] = *rows, rows[2].reshape(-1), np.arange(k), np.empty(k, np.intp)
        z, p, g, scratch, row, flat, i, chosen = memory[k]
        np.copyto(z, h.T)
        z -= np.maximum.reduce(z, 0, None, row)
        np.exp(z, p)
        p /= np.add.reduce(p, 0, None, row)
        np.multiply(p, np.multiply(c, -1.0, row), g)
        np.multiply(a, k, chosen)
        chosen += i
        flat[chosen] = 0.0  # then c (1 − π_a), as a sum: nothing cancels
        flat[chosen] = np.multiply(np.add.reduce(g, 0, None, row), -1.0, row)
        if beta:
            np.multiply(p, z, scratch)
            z -= np.add.reduce(scratch, 0, None, row)
            z *= p
            z *= beta
            g -= z
        return g.T

    def noise(self, rng, n):
        return rng.gumbel(size=(n, self.n))

    def sample(self, h, noise):
        """argmax_a (h_a + Gumbel noise) has exactly the probabilities π (Gumbel 1954)."""
        return (h + noise).argmax(-1)

    def mode(self, h):
        return h.argmax(-1)


class Gaussian:
    """Independent normal actions a ∈ R^d; h = (μ, ω) with d means and d numbers ω (1 if spherical).

    sigma      "exp": σ = e^ω (Sutton & Barto 13.20);  "softplus": σ² = ln(1 + e^ω) (A3C §9)
    spherical  one σ for all dimensions

    With z = (a − μ)/σ:  ln π = Σ_d (−½ z² − ln σ − ½ ln 2π);   H = Σ_d (½ + ½ ln 2π + ln σ);
    ∂ln π/∂μ = z/σ;   ∂ln π/∂ω = (z² − 1) ∂ln σ/∂ω;   ∂H/∂ω = ∂ln σ/∂ω   (Σ over d if one σ);
    ∂ln σ/∂ω = 1 for exp, ½ e^ω / ((1 + e^ω) ln(1 + e^ω)) for softplus.
    """

    def __init__(self, d, sigma="exp", spherical=False):
        if sigma not in ("exp", "softplus"):
            raise ValueError(f"sigma = {sigma!r}: must be 'exp' or 'softplus'")
        self.d, self.sigma, self.spherical = d, sigma, spherical
        self.size = d + (1 if spherical else d)

    def _log_sigma(self, omega):
        if self.sigma == "exp":
            return omega
        small = omega < -30.0  # there ln(1 + e^ω) = e^ω to rounding, and may underflow
        return 0.5 * np.where(small, omega, np.log(softplus(np.where(small, 0.0, omega))))

    def _slope(self, omega):
        """∂ln σ/∂ω."""
        if self.sigma == "exp":
            return np.ones_like(omega)
        bounded = np.maximum(omega, -30.0)
        return np.where(
            omega < -30.0, 0.5, 0.5 * np.exp(bounded - softplus(bounded)) / softplus(bounded)
        )

    def _total(self, x):
        """Σ over the dimensions, of a term that has one entry per ω."""
        return np.sum(x, axis=-1) * (self.d if self.spherical else 1)

    def log_prob(self, h, a):
        log_sigma = self._log_sigma(h[..., self.d :])
        z = (a - h[..., : self.d]) * np.exp(-log_sigma)
        return -0.5 * np.sum(z * z, axis=-1) - self._total(log_sigma) - self.d * HALF_LN_2PI

    def score(self, h, a):
        omega = h[..., self.d :]
        inverse = np.exp(-self._log_sigma(omega))
        z = (a - h[..., : self.d]) * inverse
        d_log_sigma = z * z - 1.0
        if self.spherical:
            d_log_sigma = np.sum(d_log_sigma, axis=-1, keepdims=True)
        return np.concatenate([z * inverse, d_log_sigma * self._slope(omega)], axis=-1)

    def entropy(self, h):
        return self._total(self._log_sigma(h[..., self.d :])) + self.d * (0.5 + HALF_LN_2PI)

    def entropy_gradient(self, h):
        gradient = np.zeros_like(h)
        gradient[..., self.d :] = self._slope(h[..., self.d :])
        return gradient * (self.d if self.spherical else 1)

    def ascent(self, h, a, c, beta, memory=None):
        k, d, memory = len(a), self.d, {} if memory is None else memory
        if k not in memory:
            memory[k] = tuple(np.empty((k, m), h.dtype) for m in (self.size, d, self.size - d))
        g, z, inverse = memory[k]
        omega, d_omega = h[:, d:], g[:, d:]
        np.multiply(self._log_sigma(omega), -1.0, inverse)
        np.exp(inverse, inverse)
        np.subtract(a, h[:, :d], z)
        z *= inverse
        np.multiply(z, inverse, g[:, :d])
        z *= z
        z -= 1.0
        if self.spherical:
            np.add.reduce(z, 1, None, d_omega, True)
        else:
            d_omega[...] = z
        g *= c[:, None]
        d_omega += beta * (d if self.spherical else 1)
        if self.sigma != "exp":  # whose slope is 1
            d_omega *= self._slope(omega)
        return g

    def noise(self, rng, n):
        return rng.standard_normal((n, self.d))

    def sample(self, h, noise):
        """μ + σ ε."""
        return h[..., : self.d] + np.exp(self._log_sigma(h[..., self.d :])) * noise

    def mode(self, h):
        return h[..., : self.d]
