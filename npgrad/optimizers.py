"""Optimisers on flat vectors: each turns a gradient d into the STEP that the caller adds or takes.

    theta += step        to ascend,        theta -= step        to descend,

so that the sign stands where the method is read. The statistics m (slots, n) are changed in place;
own or shared memory is only a matter of which m is handed in. t counts the steps from 1. step_size
is a number, or an array with one for each entry. The step is a new array, or out, if there is one
(n,); d is only read. Every 100 steps statistics that have decayed to next to nothing (below 2e-300,
in single precision 1e-30) are set to 0: see npgrad.memory.flush.
"""

import math
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from npgrad.memory import flush


def sgd(d, m, t, step_size, out=None):
    """η d."""
    return np.multiply(d, step_size, out)


def momentum(d, m, t, step_size, decay=0.99, out=None):
    """m ← αm + (1−α)d;  step η m  (A3C §4.5)."""
    _settle(m, t)
    (mean,) = m
    mean *= decay
    mean += (1.0 - decay) * d
    return np.multiply(mean, step_size, out)


def rmsprop(d, m, t, step_size, decay=0.99, eps=0.1, out=None):
    """g ← αg + (1−α)d²;  step η d/√(g + ε): ε INSIDE the root, not centred (A3C eqs 8–9)."""
    _settle(m, t)
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
    """g ← αg + (1−α)d²;  step η d/(√g + ε): ε outside the root, as frameworks have it."""
    _settle(m, t)
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


def _settle(m, t):
    if t % 100 == 0:
        flush(m)


@lru_cache(maxsize=64)
def _numbers(dtype, decay, eps):
    """α, 1−α and ε as 0-d arrays: a Python float costs a ufunc up to as much as its work."""
    arrays = [np.array(x, dtype) for x in (decay, 1.0 - decay, eps)]
    for x in arrays:
        x.setflags(write=False)
    return arrays


def adam(d, m, t, step_size, beta1=0.9, beta2=0.999, eps=1e-8, out=None):
    """m ← β₁m + (1−β₁)d;  v ← β₂v + (1−β₂)d²;  step η m̂/(√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
    (Kingma & Ba 2015, Algorithm 1)."""
    _settle(m, t)
    mean, square = m
    mean *= beta1
    mean += (1.0 - beta1) * d
    d2 = np.multiply(d, d, out)
    d2 *= 1.0 - beta2
    square *= beta2
    square += d2
    root = np.sqrt(square, d2)  # √v̂ + ε = (√v + ε c)/c with c = √(1−β₂ᵗ): fewer passes
    c = math.sqrt(1.0 - beta2**t)
    root += eps * c
    np.divide(mean, root, root)
    root *= step_size * c / (1.0 - beta1**t)
    return root


def adam_onto(theta, d, m, t, step_size):
    """θ ← θ + step of `adam`, in 12 passes over memory that is there; d is used up.

    m holds m/(1−β₁) and v/(1−β₂) of Adam's moments: M ← β₁M + d; V ← β₂V + d²; then
    η m̂/(√v̂ + ε) = η (1−β₁)/(1−β₁ᵗ)/c · M/(√V + ε/c), c = √((1−β₂)/(1−β₂ᵗ)).

    What belongs to a unit that no longer fires decays into denormal numbers, with which processors
    are up to 20 times slower. Hence a small d is rounded to multiples of 1e-18 (in double precision
    of 1e-27), and every 100 steps moments below 1e-30 and parameters below 1e-16 are set to 0.
    """
    number = theta.dtype.type
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    c = math.sqrt((1 - beta2) / (1 - beta2**t))
    M, V = m
    d += number(1e-11)  # rounds d
    d -= number(1e-11)
    if t % 100 == 0:
        flush(m, 1e-30), flush(theta, 1e-16)
    M *= number(beta1)
    M += d
    V *= number(beta2)
    d *= d
    V += d
    np.sqrt(V, d)
    d += number(eps / c)
    np.divide(M, d, d)
    d *= number(step_size * (1 - beta1) / (1 - beta1**t) / c)
    theta += d


class Optimizer(NamedTuple):
    step: object  # (d, m, t, step_size, ..., out=None) -> the step
    slots: int  # rows of m

    def statistics(self, theta):
        """m before the first step: zeros (slots, n) of θ's dtype."""
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
    """θ' ← θ' + τ(θ − θ'), in place, by way of `memory` (n,) if there is one; τ = 1 copies (DDPG,
    Algorithm 1)."""
    if tau == 1.0:
        theta_target[:] = theta
    else:
        difference = np.subtract(theta, theta_target, memory)
        difference *= theta.dtype.type(tau)
        theta_target += difference


def clip_norm(d, limit):
    """d ← d · min(1, limit/‖d‖₂), in place; returns the norm before."""
    norm = float(np.sqrt(d.dot(d)))
    if norm > limit:
        d *= limit / norm
    return norm
