"""Optimisers on flat vectors: each turns a gradient d into a STEP, and the caller applies it:

    theta += step        to ascend,        theta -= step        to descend,

so the sign is visible in the code of the method. The statistics m (slots, n) are changed in place;
the caller decides whether m is its own or shared. t counts the steps from 1. step_size is a number,
or an array with one number per entry. The step is a new array, or `out` (n,) if it is given; d is
only read. Every 100 steps, statistics that have decayed to almost nothing (below 1e-30; in double
precision, except adam's, below 2e-300) are set to 0: see npgrad.memory.flush.
"""

import math
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from npgrad.memory import flush

SETTLE = 100  # number of steps between two calls of flush


def sgd(d, m, t, step_size, out=None):
    """Return the step η d."""
    return np.multiply(d, step_size, out)


def momentum(d, m, t, step_size, decay=0.99, out=None):
    """Return the step η m, where m ← αm + (1−α)d (A3C §4.5)."""
    if t % SETTLE == 0:
        flush(m)
    (mean,) = m
    mean *= decay
    mean += (1.0 - decay) * d
    return np.multiply(mean, step_size, out)


def rmsprop(d, m, t, step_size, decay=0.99, eps=0.1, out=None):
    """Return the step η d/√(g + ε), where g ← αg + (1−α)d² (A3C eqs 8–9).

    ε is INSIDE the root, and g is not centred.
    """
    if t % SETTLE == 0:
        flush(m)
    alpha, rest, eps = _numbers(m.dtype, decay, eps)
    g, step = m[0], np.multiply(d, d, out)
    step *= rest
    g *= alpha
    g += step
    np.add(g, eps, step)
    np.sqrt(step, step)
    np.divide(d, step, step)
    step *= step_size
    return step


def rmsprop_outside(d, m, t, step_size, decay=0.99, eps=1e-8, out=None):
    """Return the step η d/(√g + ε), where g ← αg + (1−α)d².

    ε is outside the root, as in common frameworks.
    """
    if t % SETTLE == 0:
        flush(m)
    alpha, rest, eps = _numbers(m.dtype, decay, eps)
    g, step = m[0], np.multiply(d, d, out)
    step *= rest
    g *= alpha
    g += step
    np.sqrt(g, step)
    step += eps
    np.divide(d, step, step)
    step *= step_size
    return step


@lru_cache(maxsize=64)
def _numbers(dtype, decay, eps):
    """Return α, 1−α and ε as 0-d arrays: Python floats can make a ufunc take twice as long."""
    arrays = [np.array(x, dtype) for x in (decay, 1.0 - decay, eps)]
    for x in arrays:
        x.setflags(write=False)
    return arrays


def adam(d, m, t, step_size, beta1=0.9, beta2=0.999, eps=1e-8, out=None):
    """Return the step η m̂/(√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ), where m ← β₁m + (1−β₁)d and
    v ← β₂v + (1−β₂)d² (Kingma & Ba 2015, Algorithm 1).

    To save passes over the arrays, the statistics are M = m/(1−β₁) and V = v/(1−β₂), so that
    M ← β₁M + d and V ← β₂V + d². With b = (1−β₁ᵗ)/(1−β₁) and c² = (1−β₂)/(1−β₂ᵗ), m̂ = M/b and
    √v̂ = c √V; hence the step is η/(b c) · M/(√V + ε/c).

    The statistics of a unit that no longer fires would decay into denormal numbers, with which
    processors are up to 20 times slower. Hence d is rounded to multiples of 1e-18 (double
    precision: 1e-27).
    """
    if t % SETTLE == 0:
        flush(m, 1e-30)
    number = d.dtype.type
    M, V = m
    b = (1.0 - beta1**t) / (1.0 - beta1)
    c = math.sqrt((1.0 - beta2) / (1.0 - beta2**t))
    step = np.add(d, number(1e-11), out)  # rounds d
    step -= number(1e-11)
    M *= number(beta1)
    M += step
    V *= number(beta2)
    step *= step
    V += step
    np.sqrt(V, step)
    step += number(eps / c)
    np.divide(M, step, step)
    step *= step_size / (b * c) if np.ndim(step_size) else number(step_size / (b * c))
    return step


class Optimizer(NamedTuple):
    step: object  # (d, m, t, step_size, ..., out=None) -> the step
    slots: int  # rows of m

    def statistics(self, theta):
        """Return m before the first step: zeros (slots, n) of θ's dtype."""
        return np.zeros((self.slots, theta.size), theta.dtype)


OPTIMIZERS = MappingProxyType(
    {
        "sgd": Optimizer(sgd, 0),
        "momentum": Optimizer(momentum, 1),
        "rmsprop": Optimizer(rmsprop, 1),
        "rmsprop_outside": Optimizer(rmsprop_outside, 1),
        "adam": Optimizer(adam, 2),
    }
)


def soft_update(theta_target, theta, tau, memory=None):
    """Update θ' ← θ' + τ(θ − θ') in place; τ = 1 copies (DDPG, Algorithm 1).

    `memory` (n,), if given, holds the difference in place of a new array.
    """
    if tau == 1.0:
        theta_target[:] = theta
    else:
        difference = np.subtract(theta, theta_target, memory)
        difference *= theta.dtype.type(tau)
        theta_target += difference


def clip_norm(d, limit):
    """Scale d ← d · min(1, limit/‖d‖₂) in place; return the norm before scaling."""
    if not limit > 0:
        raise ValueError(f"limit = {limit}: must be above 0")
    norm = float(np.sqrt(d.dot(d)))
    if not math.isfinite(norm):  # the square may overflow where d does not
        largest = float(np.abs(d).max())
        if not math.isfinite(largest):
            raise FloatingPointError(f"the gradient is not finite: its largest entry is {largest}")
        norm = largest * float(np.sqrt(np.sum((d / largest) ** 2)))
    if norm > limit:
        d *= limit / norm
    return norm
