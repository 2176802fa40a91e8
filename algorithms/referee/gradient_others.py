"""Terms of the methods that learn from targets, and of the optimisers: by the pages' functions."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from algorithms import async_q, ddpg
from algorithms.referee.gradient_pages import (
    ENDS,
    bootstraps,
    ddpg_models,
    ddpg_targets,
    decays,
    network_of,
    returns_of,
    through_returns,
)
from npgrad import Array, at, optimizers

TARGET = "target network", "online network"
ACTION = "μ(s)", "that of the batch"
RMSPROP = {"eps": ("inside the root", "outside the root"), "decay rate": ("α", "1 − α"),
           "statistics": ("after the update", "before the update")}  # fmt: skip
CORRECTION = "yes", "no", "by t − 1", "by t + 1", "in the step size, ε added to √v"
ADAM = {"eps": ("outside the root", "inside the root"), "bias correction": CORRECTION,
        "decay rates": ("β₁, β₂", "exchanged")}  # fmt: skip


def q_terms(made: SimpleNamespace, variant: dict[str, str]) -> dict[str, Array]:
    model, k = network_of(made), len(made.S)
    net, online = at(model, made.theta), variant["target network"] == TARGET[1]
    q = net.forward(np.concatenate([made.S, made.S2])).copy()
    q2, boot = (
        q[k:] if online else model(made.theta_target, made.S2),
        bootstraps(made, variant["ends"]),
    )
    y = returns_of(made, made.r, np.where(boot, q2.max(1), 0.0))
    g = async_q.gradient(q[:k], made.A, y)
    terms = {"error": net.backward(np.concatenate([g, 0 * g])).copy()}
    if online:
        g2 = np.zeros_like(g)
        g2[np.arange(k), q2.argmax(1)] = through_returns(made, boot, -g.sum(1))
        terms["error_through_target"] = net.backward(np.concatenate([0 * g, g2])).copy()
    return terms | decays(made, 1.0)


def critic_terms(made: Any, variant: dict[str, str]) -> dict[str, Array]:
    mu, model = ddpg_models()
    q, online = at(model, made.theta), variant["target networks"] == TARGET[1]
    ended = {ENDS[0]: made.terminated, ENDS[1]: made.terminated | made.truncated}
    ended = ended.get(variant["ends"], np.zeros(len(made.r), bool))
    names = (made.actor, made.theta) if online else (made.actor_target, made.critic_target)
    y = ddpg_targets(made, ended, *names)
    W, decay = model.weights(made.theta), decays(made, 1.0)
    g, _ = ddpg.critic_gradient(q.forward(made.S, u=made.A)[:, 0], y, W, 0.0)
    terms = {"error": q.backward(g[:, None]).copy()}
    _, pulls = ddpg.critic_gradient(y, y, W, 1.0)
    for view, pull in zip(model.weights(decay["weight_decay"]), pulls):
        view[:] = pull
    if online:
        q.forward(made.S2, u=at(mu, made.actor).forward(made.S2))
        g2 = -g * ddpg.targets(made, np.zeros(len(y)), ended, np.ones(len(y)))
        terms["error_through_target"] = q.backward(g2[:, None]).copy()
    return terms | decay


def actor_terms(made: SimpleNamespace, variant: dict[str, str]) -> dict[str, Array]:
    mu, q = (at(*pair) for pair in zip(ddpg_models(), (made.theta, made.critic)))
    u = mu.forward(made.S)
    stored = variant["action in ∇_a Q"] == ACTION[1]
    g = ddpg.actor_gradient(q.forward(made.S, u=made.A if stored else u)[:, 0])
    return {"policy": mu.backward(q.backward_u(g[:, None])).copy()} | decays(made, -1.0)


def rmsprop_terms(made: SimpleNamespace, variant: dict[str, str]) -> dict[str, Array]:
    decay = made.decay if variant["decay rate"] == "α" else 1.0 - made.decay
    g = made.g[None].copy()
    if variant["statistics"] == "before the update":
        g = (g - (1.0 - decay) * made.gradient**2) / decay
    page = variant["eps"] == "inside the root"
    step = optimizers.rmsprop if page else optimizers.rmsprop_outside
    return _steps(made, step(made.gradient, g, made.t, made.step_size, decay, made.eps))


def adam_terms(made: SimpleNamespace, variant: dict[str, str]) -> dict[str, Array]:
    beta1, beta2 = made.beta1, made.beta2
    if variant["decay rates"] == "exchanged":
        beta1, beta2 = beta2, beta1
    how = variant["bias correction"]
    t = made.t + {CORRECTION[2]: -1, CORRECTION[3]: 1}.get(how, 0)
    t = 10**9 + 1 if how == "no" else t  # when it has come to 1
    statistics, eps = np.array([made.m / (1.0 - beta1), made.v / (1.0 - beta2)]), made.eps
    inside = variant["eps"] == "inside the root"
    if how == CORRECTION[4]:  # η √(1 − β₂^t)/(1 − β₁^t) m/(√v + ε)
        eps /= (1.0 - beta2**t) ** (1.0 if inside else 0.5)
    if inside:  # v̂ grows by ε, and nothing is added to its root
        statistics[1] += eps * (1.0 - beta2**t) / (1.0 - beta2) / beta2
        eps = 1e-300
    return _steps(
        made, optimizers.adam(made.gradient, statistics, t, made.step_size, beta1, beta2, eps)
    )


def _steps(made: SimpleNamespace, step: Array) -> dict[str, Array]:
    return {"step": step, "weight_decay": -made.step_size * made.theta}
