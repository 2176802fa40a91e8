"""The terms of a method's gradient, each by the page's own functions, in every variant.

Terms are vectors like θ. The page's gradient is Σ coefficient · term over the page's coefficients,
in the page's variant. A gradient through what the page takes for a number has terms of its own:

    policy_through_v            through v in the advantage, of ln π
    policy_through_bootstrap    through the value that R bootstraps from, of ln π
    value_through_bootstrap     the same, of the value's error
    error_through_target        through the target y, of the error (ddpg-critic, async-n-step-q)
    weight_decay, bias_decay    the gradient of ½ Σ W² or ½ Σ b²; where the page ascends, minus it

Every axis of variants has the page's value first.
"""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from algorithms import a2c, a3c, actor_critic, reinforce
from algorithms.referee.gradient_others import (
    ACTION,
    ADAM,
    RMSPROP,
    TARGET,
    actor_terms,
    adam_terms,
    critic_terms,
    q_terms,
    rmsprop_terms,
)
from algorithms.referee.gradient_pages import (
    ENDS,
    bootstraps,
    decays,
    one_step,
    outputs,
    policy_of,
    reductions,
    returns_of,
    through_returns,
)
from npgrad import Array, Head

EACH = "mean of each environment's mean over steps"
NORMALISED = "no", "s.d. with ddof 0", "s.d. with ddof 1"


class Method(NamedTuple):
    """Say what d of a method is. reductions gives {reduction: factor}, the page's first."""

    sense: str  # ascent, descent, or step: what is added to θ
    reduced: str  # sum or mean
    page: Callable[..., dict[str, float]]  # batch -> {term: coefficient}
    axes: Callable[..., dict[str, Any]]  # batch -> {axis: values}
    terms: Callable[..., dict[str, Array]]  # (batch, {axis: value}) -> {term: (d,)}
    reductions: Callable[..., dict[str, float]]  # (batch, {axis: value}) -> {reduction: factor}


# reinforce, actor-critic, a3c, a2c


def _acting_axes(made: SimpleNamespace) -> dict[str, Any]:
    weighting = {"discount": ("none", "γ^t in the policy's term", "γ^t in all terms")}
    if made.method == "actor-critic":
        values = weighting["discount"]
        weighting = {"discount": (values[1], values[0], values[2])}
    if made.method == "reinforce":
        weighting = {"weighting": ("reward_to_go", "undiscounted_state", "total")}
    axes = {"reduction": (next(iter(reductions(made, made.real))), EACH), **weighting}
    axes |= {"ends": ENDS, "advantage": ("R − v", "R"), "normalised advantage": NORMALISED}
    if made.method == "a2c":
        axes["reset steps"] = "left out", "counted"
    if made.continuous:
        axes["action"] = "as drawn", "clipped"
    return axes


def _counted(made: SimpleNamespace, variant: dict[str, str]) -> Array:
    return made.real | (variant.get("reset steps") == "counted")


def _acting_reductions(made: SimpleNamespace, variant: dict[str, str]) -> dict[str, float]:
    found = reductions(made, _counted(made, variant))
    return {EACH: 1.0} if variant["reduction"] == EACH else found


def _weight(made: SimpleNamespace, variant: dict[str, str]) -> Array:
    """(k,) the factor of each step in the sum."""
    counted = _counted(made, variant)
    if variant["reduction"] == EACH:
        lengths = np.bincount(made.environment, counted)
        return counted / (lengths[made.environment] * len(lengths))
    return counted * next(iter(reductions(made, counted).values()))


def _over_time(made: SimpleNamespace, variant: dict[str, str], advantage: Array) -> Array:
    """(k,) the factors of ln π, linear in the advantage: the page's, with γ^t or without it."""
    if made.method == "reinforce":
        parts = [advantage[made.environment == i] for i in np.unique(made.environment)]
        way = made.gamma, variant["weighting"]
        return np.concatenate([reinforce.weights(np.arange(len(x)), x, 0 * x, *way) for x in parts])
    if variant["discount"] == "none":
        return advantage
    if made.method == "actor-critic":
        return one_step(made.gamma, advantage, 0.0, I=made.I).weighted
    return made.gamma**made.t * advantage


def _normalised(advantage: Array, counted: Array, how: str) -> Array:
    seen = advantage[counted]
    sd = seen.std(ddof=NORMALISED.index(how) - 1)
    return (advantage - seen.mean()) / (sd + 1e-8)


def _acting_terms(made: SimpleNamespace, variant: dict[str, str]) -> dict[str, Array]:
    net, h, v = outputs(made)
    k, head = len(made.S), policy_of(made).head
    h, v, v2, boot = h[:k].copy(), v[:k].copy(), v[k:].copy(), bootstraps(made, variant["ends"])
    clipped = variant.get("action") == "clipped"
    A = np.clip(made.A, made.low, made.high) if clipped else made.A
    R, w = returns_of(made, made.r, np.where(boot, v2, 0.0)), _weight(made, variant)
    advantage = R - v if variant["advantage"] == "R − v" else R
    normalised = variant["normalised advantage"]
    if normalised != "no":
        advantage = _normalised(advantage, _counted(made, variant), normalised)
    over_time = functools.partial(_over_time, made, variant)
    others = w * made.gamma**made.t if variant.get("discount") == "γ^t in all terms" else w

    def back(g_h: Array, g_v: Array | float, g_v2: Array | float = 0.0) -> Array:
        g_v = np.concatenate([g_v * np.ones(k), g_v2 * np.ones(k)])
        return net.backward(np.concatenate([g_h, 0 * g_h]), g_v).copy()

    of = functools.partial(_at_outputs, made, h, v, head, A, R)
    value = of(np.zeros(k), others, 0.0, 1.0)
    terms = {
        "policy": back(*of(over_time(advantage), w, 0.0, 0.0)),
        "entropy": back(*of(np.zeros(k), others, 1.0, 0.0)),
        "value": back(*value),
    }
    if normalised == "no":
        log_prob = w * head(h).log_prob(A)
        g = np.array([log_prob @ over_time(e) for e in np.eye(k)])  # ∂ Σ w factor ln π/∂ advantage
        terms["policy_through_v"] = back(0 * h, -g)
        terms["policy_through_bootstrap"] = back(0 * h, 0.0, through_returns(made, boot, g))
    through = through_returns(made, boot, -value[1])
    terms["value_through_bootstrap"] = back(0 * h, 0.0, through)
    return terms | decays(made, -1.0)


def _at_outputs(
    made: SimpleNamespace,
    h: Array,
    v: Array,
    head: Head,
    A: Array,
    R: Array,
    advantage: Array,
    w: Array,
    beta: Any,
    c: Any,
) -> tuple[Array, Array]:
    """The page's (∂/∂h, ∂/∂v) of Σ w [advantage ln π + β H − ½ c (R − v)²]."""
    if made.method == "a2c":
        return a2c.gradient(h, v, head, A, R, advantage, w, beta, c)
    if made.method == "a3c":
        return a3c.gradient(h, v, head, A, R, w * advantage, beta * w[:, None], c * w)
    if made.method == "reinforce":
        g_h = reinforce.gradient(h, head, A, w * advantage)
        g_v = -reinforce.value_gradient(v, R)
    else:
        g_h = (w * advantage)[:, None] * actor_critic.gradient(h, head, A)
        g_v = one_step(made.gamma, R, 0.0, v).delta
    return g_h + beta * w[:, None] * head(h).entropy_gradient(), c * w * g_v


def _acting_page(made: SimpleNamespace) -> dict[str, float]:
    beta, c = (made.beta, made.value_coef) if made.method in ("a3c", "a2c") else (0.0, 1.0)
    return {"policy": 1.0, "entropy": beta, "value": c}


# the methods


def _acting(reduced: str) -> Method:
    return Method("ascent", reduced, _acting_page, _acting_axes, _acting_terms, _acting_reductions)


def _fixed(found: Any) -> Callable[..., Any]:
    return lambda *_: found


def _scalar(*names: str) -> Callable[..., dict[str, float]]:
    """Return the two reductions, mean and sum, with the page's first."""

    def scales(made: SimpleNamespace, variant: dict[str, str]) -> dict[str, float]:
        k = len(made.S)
        factors = (1.0 / k, 1.0) if names[0] == "mean" else (1.0, 1.0 / k)
        return dict(zip(names, factors))

    return scales


CRITIC_AXES = _fixed({"ends": ENDS, "target networks": TARGET})
METHODS = {
    "reinforce": _acting("Σ over steps, mean over episodes, of γ^t advantage ln π − ½ (R − v)²"),
    "actor-critic": _acting("Σ over steps of I advantage ln π − ½ (R − v)², at fixed θ"),
    "a3c": _acting("Σ over the steps of all segments of advantage ln π + β H − ½ c (R − v)²"),
    "a2c": _acting("Σ weight [advantage ln π + β H − ½ c (R − v)²], a mean over real steps"),
    "ddpg-critic": Method(
        "descent", "mean of (y − Q)², plus ½ l2 Σ W²",
        lambda made: {"error": 1.0, "weight_decay": made.l2}, CRITIC_AXES, critic_terms,
        _scalar("mean", "sum")),
    "ddpg-actor": Method(
        "ascent", "mean of Q(s, μ(s))", _fixed({"policy": 1.0}),
        _fixed({"action in ∇_a Q": ACTION}), actor_terms,
        _scalar("mean", "sum")),
    "async-n-step-q": Method(
        "descent", "Σ over the steps of all segments of (y − Q)²", _fixed({"error": 1.0}),
        _fixed({"ends": ENDS, "target network": TARGET}), q_terms, _scalar("sum", "mean")),
    "rmsprop": Method(
        "step", "the step η d/√(g + ε), which is added to θ", _fixed({"step": 1.0}),
        _fixed(RMSPROP), rmsprop_terms, _fixed({"as given": 1.0})),
    "adam": Method(
        "step", "the step η m̂/(√v̂ + ε), which is added to θ", _fixed({"step": 1.0}),
        _fixed(ADAM), adam_terms, _fixed({"as given": 1.0})),
}  # fmt: skip
