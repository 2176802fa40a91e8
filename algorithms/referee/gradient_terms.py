"""The terms of a method's gradient, each by the page's own functions, in every variant.

Terms are vectors like θ. The page's gradient is Σ coefficient · term over the page's coefficients,
in the page's variant. A gradient through what the page takes for a number has terms of its own:

    policy_through_v            through v in the advantage, of ln π
    policy_through_bootstrap    through the value that R bootstraps from, of ln π
    value_through_bootstrap     the same, of the value's error
    error_through_target        through the target y, of the error (ddpg-critic, async-n-step-q)
    decay, decay_biases         weight decay: of ½ Σ W², or of ½ Σ b²

Every axis of variants has the page's value first.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, reinforce
from algorithms.referee.gradient_batches import (
    ACTING,
    bootstraps,
    ddpg_models,
    ddpg_targets,
    network_of,
    one_step,
    outputs,
    policy_of,
    reductions,
    returns_of,
)
from npgrad import at, optimizers

ENDS = "as the page", "truncation as termination", "termination as truncation"
EACH = "mean of each environment's mean over steps"
NORMALISED = "no", "s.d. with ddof 0", "s.d. with ddof 1"


class Method(NamedTuple):
    """What d of a method is. reductions gives {reduction: factor}, the page's first."""

    sense: str  # ascent, descent, or step: what is added to θ
    reduced: str  # sum or mean
    page: Callable  # batch -> {term: coefficient}
    axes: Callable  # batch -> {axis: values}
    terms: Callable  # (batch, {axis: value}) -> {term: (d,)}
    reductions: Callable  # (batch, {axis: value}) -> {reduction: factor}


def _bootstraps(made, variant):
    """(k,) where the return bootstraps."""
    if variant["ends"] == ENDS[1]:
        return bootstraps(made) & ~made.truncated
    return made.stops.copy() if variant["ends"] == ENDS[2] else bootstraps(made)


def _through_returns(made, boot, g):
    """(k,) ∂/∂v_next of Σ g · R, R being linear in v_next, which counts where boot is true."""
    found, zeros = np.zeros(len(g)), np.zeros(len(g))
    for i in np.flatnonzero(boot):
        found[i] = g @ returns_of(made, zeros, np.eye(len(g))[i])
    return found


def _decays(made, sign):
    """Weight decay of matrices and of biases."""
    decay, biases = np.zeros((2, len(made.theta)))
    for name, where in made.layout.items():
        to = biases if name.rpartition(".")[2].startswith("b") else decay
        part = slice(where["offset"], where["offset"] + int(np.prod(where["shape"])))
        to[part] = sign * made.theta[part]
    return {"decay": decay, "decay_biases": biases}


# reinforce, actor-critic, a3c, a2c


def _acting_axes(made):
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


def _counted(made, variant):
    return made.real | (variant.get("reset steps") == "counted")


def _acting_reductions(made, variant):
    found = reductions(made, _counted(made, variant))
    return {EACH: 1.0} if variant["reduction"] == EACH else found


def _weight(made, variant):
    """(k,) the factor of each step in the sum."""
    counted = _counted(made, variant)
    if variant["reduction"] == EACH:
        lengths = np.bincount(made.environment, counted)
        return counted / (lengths[made.environment] * len(lengths))
    return counted * next(iter(reductions(made, counted).values()))


def _over_time(made, variant, advantage):
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


def _normalised(advantage, counted, how):
    seen = advantage[counted]
    sd = seen.std(ddof=NORMALISED.index(how) - 1)
    return (advantage - seen.mean()) / (sd + 1e-8)


def _acting_terms(made, variant):
    net, h, v = outputs(made)
    k, head = len(made.S), policy_of(made).head
    h, v, v2, boot = h[:k].copy(), v[:k].copy(), v[k:].copy(), _bootstraps(made, variant)
    clipped = variant.get("action") == "clipped"
    A = np.clip(made.A, made.low, made.high) if clipped else made.A
    R, w = returns_of(made, made.r, np.where(boot, v2, 0.0)), _weight(made, variant)
    advantage = R - v if variant["advantage"] == "R − v" else R
    normalised = variant["normalised advantage"]
    if normalised != "no":
        advantage = _normalised(advantage, _counted(made, variant), normalised)
    over_time = functools.partial(_over_time, made, variant)
    others = w * made.gamma**made.t if variant.get("discount") == "γ^t in all terms" else w

    def back(g_h, g_v, g_v2=0.0):
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
        terms["policy_through_bootstrap"] = back(0 * h, 0.0, _through_returns(made, boot, g))
    through = _through_returns(made, boot, -value[1])
    terms["value_through_bootstrap"] = back(0 * h, 0.0, through)
    return terms | _decays(made, -1.0)


def _at_outputs(made, h, v, head, A, R, advantage, w, beta, c):
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


def _acting_page(made):
    beta, c = (made.beta, made.value_coef) if made.method in ("a3c", "a2c") else (0.0, 1.0)
    return {"policy": 1.0, "entropy": beta, "value": c}


# async-n-step-q


TARGET = "target network", "online network"


def _q_terms(made, variant):
    model, k = network_of(made), len(made.S)
    net, online = at(model, made.theta), variant["target network"] == TARGET[1]
    q = net.forward(np.concatenate([made.S, made.S2])).copy()
    q2, boot = q[k:] if online else model(made.theta_target, made.S2), _bootstraps(made, variant)
    y = returns_of(made, made.r, np.where(boot, q2.max(1), 0.0))
    g = async_q.gradient(q[:k], made.A, y)
    terms = {"error": net.backward(np.concatenate([g, 0 * g])).copy()}
    if online:
        g2 = np.zeros_like(g)
        g2[np.arange(k), q2.argmax(1)] = _through_returns(made, boot, -g.sum(1))
        terms["error_through_target"] = net.backward(np.concatenate([0 * g, g2])).copy()
    return terms | _decays(made, 1.0)


# ddpg


def _critic_terms(made, variant):
    mu, model = ddpg_models()
    q, online = at(model, made.theta), variant["target networks"] == TARGET[1]
    ended = {ENDS[0]: made.terminated, ENDS[1]: made.terminated | made.truncated}
    ended = ended.get(variant["ends"], np.zeros(len(made.r), bool))
    names = (made.actor, made.theta) if online else (made.actor_target, made.critic_target)
    y = ddpg_targets(made, ended, *names)
    W, decay = model.weights(made.theta), _decays(made, 1.0)
    g, _ = ddpg.critic_gradient(q.forward(made.S, u=made.A)[:, 0], y, W, 0.0)
    terms = {"error": q.backward(g[:, None]).copy()}
    _, pulls = ddpg.critic_gradient(y, y, W, 1.0)
    for view, pull in zip(model.weights(decay["decay"]), pulls):
        view[:] = pull
    if online:
        q.forward(made.S2, u=at(mu, made.actor).forward(made.S2))
        g2 = -g * ddpg.targets(made, 0.0, ended, np.ones(len(y)))
        terms["error_through_target"] = q.backward(g2[:, None]).copy()
    return terms | decay


def _actor_terms(made, variant):
    mu, q = (at(*pair) for pair in zip(ddpg_models(), (made.theta, made.critic)))
    u = mu.forward(made.S)
    stored = variant["action in ∇_a Q"] == "that of the batch"
    g = ddpg.actor_gradient(q.forward(made.S, u=made.A if stored else u)[:, 0])
    return {"policy": mu.backward(q.backward_u(g[:, None])).copy()} | _decays(made, -1.0)


# optimisers


def _rmsprop_terms(made, variant):
    decay = made.decay if variant["decay"] == "α" else 1.0 - made.decay
    g = made.g[None].copy()
    if variant["statistics"] == "before the update":
        g = (g - (1.0 - decay) * made.gradient**2) / decay
    page = variant["eps"] == "inside the root"
    step = optimizers.rmsprop if page else optimizers.rmsprop_outside
    return _steps(made, step(made.gradient, g, made.t, made.step_size, decay, made.eps))


def _adam_terms(made, variant):
    beta1, beta2 = made.beta1, made.beta2
    if variant["decay rates"] == "exchanged":
        beta1, beta2 = beta2, beta1
    t = made.t if variant["bias correction"] == "yes" else 10**9 + 1  # when it has come to 1
    statistics, eps = np.array([made.m / (1.0 - beta1), made.v / (1.0 - beta2)]), made.eps
    if variant["eps"] == "inside the root":  # v̂ grows by ε, and nothing is added to its root
        statistics[1] += eps * (1.0 - beta2**t) / (1.0 - beta2) / beta2
        eps = 1e-300
    return _steps(
        made, optimizers.adam(made.gradient, statistics, t, made.step_size, beta1, beta2, eps)
    )


def _steps(made, step):
    return {"step": step, "decay": -made.step_size * made.theta}


RMSPROP = {"eps": ("inside the root", "outside the root"), "decay": ("α", "1 − α"),
           "statistics": ("after the update", "before the update")}  # fmt: skip
ADAM = {"eps": ("outside the root", "inside the root"), "bias correction": ("yes", "no"),
        "decay rates": ("β₁, β₂", "exchanged")}  # fmt: skip

# the methods


def _acting(reduced):
    return Method("ascent", reduced, _acting_page, _acting_axes, _acting_terms, _acting_reductions)


def _fixed(found):
    return lambda *_: found


def _scalar(*names):
    """Of these two reductions, the page's first: mean and sum, in either order."""

    def scales(made, variant):
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
        lambda made: {"error": 1.0, "decay": made.l2}, CRITIC_AXES, _critic_terms,
        _scalar("mean", "sum")),
    "ddpg-actor": Method(
        "ascent", "mean of Q(s, μ(s))", _fixed({"policy": 1.0}),
        _fixed({"action in ∇_a Q": ("μ(s)", "that of the batch")}), _actor_terms,
        _scalar("mean", "sum")),
    "async-n-step-q": Method(
        "descent", "Σ over the steps of all segments of (y − Q)²", _fixed({"error": 1.0}),
        _fixed({"ends": ENDS, "target network": TARGET}), _q_terms, _scalar("sum", "mean")),
    "rmsprop": Method(
        "step", "the step η d/√(g + ε), which is added to θ", _fixed({"step": 1.0}),
        _fixed(RMSPROP), _rmsprop_terms, _fixed({"as given": 1.0})),
    "adam": Method(
        "step", "the step η m̂/(√v̂ + ε), which is added to θ", _fixed({"step": 1.0}),
        _fixed(ADAM), _adam_terms, _fixed({"as given": 1.0})),
}  # fmt: skip
assert set(ACTING) <= set(METHODS)
