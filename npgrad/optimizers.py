"""Optimisers on flat vectors: each turns a gradient d into a STEP, and the caller applies it:

    θ ← θ + step        to ascend,        θ ← θ − step        to descend,

so the sign is visible in the code of the method. The statistics m (slots, n) are changed in place;
the caller decides whether m is its own or shared. t counts the steps from 1. step_size is a number,
or an array with one number per entry. The step is a new array, or `out` (n,) if it is given; it has
m's precision. d (n,) is only read. Every 100 steps, statistics that have decayed to almost nothing
(below 1e-30; in double precision, except adam's, below 2e-300) are set to 0: see
npgrad.memory.flush. Arguments that do not fit raise ValueError or TypeError before m changes.

rmsprop starts from g = 0 without bias correction: where ε is negligible, its first step is
η/√(1−α), ten times η for α = .99, and step 100 is still 1.26 η. adam's bias correction makes every
step of a gradient that stays the same η (`rmsprop_first`, `adam_first`).
"""

# NumPy's ufuncs are declared to return Any.
# mypy: disable-error-code="no-any-return"

import math
from collections.abc import Callable
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from npgrad.memory import flush
from npgrad.types import Array

SETTLE = 100  # number of steps between two calls of flush


def sgd(d: Array, m: Array, t: int, step_size: float | Array, out: Array | None = None) -> Array:
    """Return the step η d."""
    d, eta = _inputs(d, m, 0, t, step_size, out)
    return np.multiply(d, eta, out)


def momentum(d: Array, m: Array, t: int, step_size: float | Array, decay: float = 0.99,
             out: Array | None = None) -> Array:  # fmt: skip
    """Return the step η m, where m ← αm + (1−α)d (Mnih et al. 2016, §4)."""
    d, eta = _inputs(d, m, 1, t, step_size, out)
    alpha, rest, _ = _numbers(m.dtype, decay)
    if t % SETTLE == 0:
        flush(m)
    mean = m[0]
    mean *= alpha
    mean += rest * d
    return np.multiply(mean, eta, out)


def rmsprop(d: Array, m: Array, t: int, step_size: float | Array, decay: float = 0.99,
            eps: float = 0.1, out: Array | None = None) -> Array:  # fmt: skip
    """Return the step η d/√(g + ε), where g ← αg + (1−α)d² (Mnih et al. 2016, §4).

    ε is INSIDE the root, and g is not centred.
    """
    d, eta = _inputs(d, m, 1, t, step_size, out)
    alpha, rest, epsilon = _numbers(m.dtype, decay, eps)
    if t % SETTLE == 0:
        flush(m)
    g, step = m[0], np.multiply(d, d, out)
    step *= rest
    g *= alpha
    g += step
    np.add(g, epsilon, step)
    np.sqrt(step, step)
    np.divide(d, step, step)
    step *= eta
    return step


def rmsprop_outside(d: Array, m: Array, t: int, step_size: float | Array, decay: float = 0.99,
                    eps: float = 1e-8, out: Array | None = None) -> Array:  # fmt: skip
    """Return the step η d/(√g + ε), where g ← αg + (1−α)d².

    ε is outside the root, as in common frameworks.
    """
    d, eta = _inputs(d, m, 1, t, step_size, out)
    alpha, rest, epsilon = _numbers(m.dtype, decay, eps)
    if t % SETTLE == 0:
        flush(m)
    g, step = m[0], np.multiply(d, d, out)
    step *= rest
    g *= alpha
    g += step
    np.sqrt(g, step)
    step += epsilon
    np.divide(d, step, step)
    step *= eta
    return step


def adam(d: Array, m: Array, t: int, step_size: float | Array, beta1: float = 0.9,
         beta2: float = 0.999, eps: float = 1e-8, out: Array | None = None) -> Array:  # fmt: skip
    """Return the step η m̂/(√v̂ + ε), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ), where m ← β₁m + (1−β₁)d and
    v ← β₂v + (1−β₂)d² (Kingma & Ba 2015, Algorithm 1, from memory).

    To save passes over the arrays, the statistics are M = m/(1−β₁) and V = v/(1−β₂), so that
    M ← β₁M + d and V ← β₂V + d². With b = (1−β₁ᵗ)/(1−β₁) and c² = (1−β₂)/(1−β₂ᵗ), m̂ = M/b and
    √v̂ = c √V; hence the step is η/(b c) · M/(√V + ε/c).

    The statistics of a unit that no longer fires would decay into denormal numbers, with which
    processors are up to 20 times slower. Hence d is rounded to multiples of 1e-18 (double
    precision: 1e-27).
    """
    d, eta = _inputs(d, m, 2, t, step_size, out)
    decay1, decay2 = _numbers(m.dtype, beta1)[0], _numbers(m.dtype, beta2, eps)[0]
    if t % SETTLE == 0:
        flush(m, 1e-30)
    M, V = m
    number = m.dtype.type
    b = (1.0 - beta1**t) / (1.0 - beta1)
    c = math.sqrt((1.0 - beta2) / (1.0 - beta2**t))
    step = np.add(d, number(1e-11), out)  # rounds d
    step -= number(1e-11)
    M *= decay1
    M += step
    V *= decay2
    step *= step
    V += step
    np.sqrt(V, step)
    step += number(eps / c)
    np.divide(M, step, step)
    step *= eta / (b * c)
    return step


def rmsprop_first(d: Array, t: int, step_size: float, decay: float = 0.99,
                  eps: float = 0.1) -> Array:  # fmt: skip
    """Return rmsprop's step t if all gradients so far were d: η d/√((1−αᵗ) d² + ε).

    At t = 1 and ε → 0 its size is η/√(1−α), at last η. g of t steps is (1−α) Σ_k α^k d² (k < t).
    Raises ValueError as rmsprop.
    """
    _numbers(np.dtype(float), decay, eps)
    if not t >= 1:
        raise ValueError(f"t = {t}: must be at least 1, the first step")
    return step_size * d / np.sqrt((1.0 - decay**t) * d**2 + eps)


def adam_first(d: Array, step_size: float, eps: float = 1e-8) -> Array:
    """Return adam's step if all gradients so far were d, the same for every t: η d/(|d| + ε).

    Its bias corrections divide m and v by the same 1−βᵗ that their sums have.
    """
    return step_size * d / (np.abs(d) + eps)


def _inputs(d: Any, m: Array, slots: int, t: int, step_size: Any,
            out: Array | None) -> tuple[Array, Any]:  # fmt: skip
    """Return d and η in m's precision. Raises ValueError or TypeError where something is wrong."""
    if type(d) is not np.ndarray or d.dtype != m.dtype or m.dtype.kind != "f":
        d = _converted("d", d, m)
    if m.shape != (slots, *d.shape):
        raise ValueError(f"m of shape {m.shape}: must be {(slots, *d.shape)} for d {d.shape}")
    if not t >= 1:
        raise ValueError(f"t = {t}: must be at least 1, the first step")
    if type(step_size) is not float:
        step_size = _converted("step_size", step_size, m)
        if step_size.shape not in ((), d.shape):
            raise ValueError(f"step_size of shape {step_size.shape}: must be () or {d.shape}")
    if (d.base is not None or m.base is d) and np.may_share_memory(d, m):
        raise ValueError("d shares memory with m: must be an array of its own, for m changes")
    if out is not None:
        if out.shape != d.shape or out.dtype != m.dtype:
            raise ValueError(f"out {out.dtype} {out.shape}: must be {m.dtype} {d.shape}, as d")
        for name, other in (("d", d), ("m", m), ("step_size", step_size)):
            if type(other) is np.ndarray and np.shares_memory(out, other):
                raise ValueError(f"out shares memory with {name}: must be an array of its own")
    return d, step_size


def _converted(name: str, x: Any, m: Array) -> Array:
    """Return x in m's precision. Raises TypeError unless x is real, and m of floats."""
    if m.dtype.kind != "f":
        raise TypeError(f"m of dtype {m.dtype}: must be floating-point")
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name} of dtype {x.dtype}: must be real numbers")
    return np.asarray(x, m.dtype)


@lru_cache(maxsize=64)
def _numbers(dtype: np.dtype[Any], decay: float, eps: float = 1.0) -> list[Array]:
    """Return α, 1−α and ε as 0-d arrays: Python floats can make a ufunc take twice as long.

    Raises ValueError for numbers with which a step is not defined.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay rate = {decay}: must be at least 0 and below 1")
    if not eps > 0.0:
        raise ValueError(f"eps = {eps}: must be above 0")
    arrays = [np.array(x, dtype) for x in (decay, 1.0 - decay, eps)]
    for x in arrays:
        x.setflags(write=False)
    return arrays


class Optimizer(NamedTuple):
    step: Callable[..., Array]  # (d, m, t, step_size, ..., out=None) -> the step
    slots: int  # rows of m

    def statistics(self, theta: Array) -> Array:
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


def soft_update(theta_target: Array, theta: Array, tau: float) -> None:
    """Update θ' ← θ' + τ(θ − θ') in place; τ = 1 copies (DDPG, Algorithm 1)."""
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"tau = {tau}: must be from 0 to 1")
    if theta_target.dtype.kind != "f":
        raise TypeError(f"theta_target of dtype {theta_target.dtype}: must be floating-point")
    if theta.shape != theta_target.shape:
        raise ValueError(f"theta of shape {theta.shape}: must be {theta_target.shape}, as θ'")
    if tau == 1.0:
        theta_target[:] = theta
    else:
        difference = theta - theta_target
        difference *= tau
        theta_target += difference


def clip_norm(d: Array, limit: float) -> float:
    """Scale d ← d · min(1, limit/‖d‖₂) in place; return the norm before scaling."""
    if not limit > 0:
        raise ValueError(f"limit = {limit}: must be above 0")
    if d.dtype.kind != "f" or d.ndim != 1:
        raise ValueError(f"d {d.dtype} {d.shape}: must be floating-point and one vector")
    with np.errstate(over="ignore"):
        norm = float(np.sqrt(d.dot(d)))
    if not 1e-15 < norm < math.inf:  # the squares may overflow or underflow where d does not
        largest = float(np.abs(d).max(initial=0.0))
        if not math.isfinite(largest):
            raise FloatingPointError(f"the gradient is not finite: its largest entry is {largest}")
        norm = largest and largest * float(np.sqrt(np.sum((d / largest) ** 2)))
    if norm > limit:
        factor = limit / norm
        if factor < 1e-30:  # less than a number of single precision can hold
            factor = math.sqrt(limit) / math.sqrt(norm)
            d *= factor
        d *= factor
    return norm
