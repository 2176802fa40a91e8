"""Optimisers on flat vectors: each turns a gradient d into the STEP that the caller adds or takes.

    theta += step        to ascend,        theta -= step        to descend,

so that the sign stands where the method is read. The statistics m (slots, n) are changed in place;
own or shared memory is only a matter of which m is handed in. t counts the steps from 1. step_size
is a number, or an array with one for each entry. The step is a new array, or out, if there is one
(n,); d is only read.
"""

import math
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np


def sgd(d, m, t, step_size, out=None):
    """η d."""
    return np.multiply(d, step_size, out)


def momentum(d, m, t, step_size, decay=0.99, out=None):
    """m ← αm + (1−α)d;  step η m  (A3C §4.5)."""
    (mean,) = m
    mean *= decay
    mean += (1.0 - decay) * d
    return np.multiply(mean, step_size, out)


def rmsprop(d, m, t, step_size, decay=0.99, eps=0.1, out=None):
    """g ← αg + (1−α)d²;  step η d/√(g + ε): ε INSIDE the root, not centred (A3C eqs 8–9)."""
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
    """α, 1−α and ε as 0-d arrays: a Python float costs a ufunc up to as much as its work."""
    arrays = [np.array(x, dtype) for x in (decay, 1.0 - decay, eps)]
    for x in arrays:
        x.setflags(write=False)
    return arrays


def adam(d, m, t, step_size, beta1=0.9, beta2=0.999, eps=1e-8, out=None):
    """m ← β₁m + (1−β₁)d;  v ← β₂v + (1−β₂)d²;  step η m̂/(√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
    (Kingma & Ba 2015, Algorithm 1)."""
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


def soft_update(theta_target, theta, tau):
    """θ' ← θ' + τ(θ − θ'), in place; τ = 1 copies (DDPG, Algorithm 1)."""
    if tau == 1.0:
        theta_target[:] = theta
    else:
        theta_target += tau * (theta - theta_target)


def clip_norm(d, limit):
    """d ← d · min(1, limit/‖d‖₂), in place; returns the norm before."""
    norm = float(np.sqrt(d.dot(d)))
    if norm > limit:
        d *= limit / norm
    return norm
