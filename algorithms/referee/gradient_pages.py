"""The pages' own functions on a batch: networks, returns, δ, targets, weights."""

import functools
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from algorithms import a2c, a3c, actor_critic, async_q, ddpg, reinforce
from algorithms.common.policy import Network, Policy, make_actor_critic, make_policy
from algorithms.common.world import Spaces
from npgrad import ActorCritic, Array, at, mlp

ACTING = ("reinforce", "actor-critic", "a3c", "a2c")
SEGMENTS = 4, 3, 5, 2  # lengths: one terminates, one is truncated, one goes on, one is truncated
N_STEPS, ENVIRONMENTS = 7, 3  # of a2c
PAGES = {"reinforce": reinforce, "a3c": a3c, "async-n-step-q": async_q}
NETWORK = Network(hidden=(4,))
ENDS = "as the page", "truncation as termination", "termination as truncation"


def policy_of(made: SimpleNamespace) -> Policy:
    """The Policy of a batch, its value beside it."""
    return _policy(made.continuous, made.trunk)


@functools.cache
def _policy(continuous: bool, trunk: str) -> Policy:
    action = Box(-1.0, 1.0, (2,)) if continuous else Discrete(3)
    return make_actor_critic(Spaces(Box(-np.inf, np.inf, (3,)), action), NETWORK, trunk)


def network_of(made: SimpleNamespace) -> Any:
    """The model of (h, v), or of Q."""
    return policy_of(made).model if made.method in ACTING else _q()


@functools.cache
def _q() -> Any:
    return make_policy(Spaces(Box(-np.inf, np.inf, (3,)), Discrete(3)), NETWORK).model


def returns_of(made: SimpleNamespace, r: Array, v_next: Array) -> Array:
    """The page's returns (k,) of rewards and of the values (k,) from which they bootstrap."""
    if made.method == "a2c":
        shaped = [x.reshape(N_STEPS, ENVIRONMENTS) for x in (r, made.stops, v_next)]
        return a2c.returns(shaped[0], made.gamma, *shaped[1:]).ravel()
    if made.method == "actor-critic":
        return one_step(made.gamma, r, v_next).delta
    parts = [made.environment == i for i in range(len(SEGMENTS))]
    page = PAGES[made.method]
    return np.concatenate([page.returns(r[i], made.gamma, v_next[i][-1]) for i in parts])


def one_step(
    gamma: float, R: Array, v2: Array | float, v: Array | float = 0.0, I: Array | float = 1.0
) -> SimpleNamespace:
    """δ and I δ (k,) of the page's box in steps R (k,), and the next I.

    Its gradients are 1 and its step sizes 1, so that θ and w of 0 become I δ and δ.
    """
    config = actor_critic.OneStep(gamma=gamma, optimizer="sgd", step_size=1.0, step_size_w=1.0)
    k, none, number = len(R), np.empty((0, len(R))), lambda c: c * np.ones(len(R))
    state = SimpleNamespace(theta=np.zeros(k), w=np.zeros(k), theta_statistics=none,
                            w_statistics=none, I=np.copy(I), optimizer_steps=0)  # fmt: skip
    box: Any = actor_critic.one_step
    box(config, state, R, v, v2, number, number)
    return SimpleNamespace(delta=state.w, weighted=state.theta, I=state.I)


def outputs(made: SimpleNamespace) -> tuple[ActorCritic, Array, Array]:
    """(network, h, v) on the rows S and then S2: (2k, size) and (2k,)."""
    net, both = ActorCritic(policy_of(made).model, made.theta), np.concatenate([made.S, made.S2])
    net.act(both)
    return net, *net.evaluate(both, len(both))


def reductions(made: SimpleNamespace, counted: Array) -> dict[str, float]:
    """{reduction: the factor of every step that counts}, the page's first."""
    k, N, steps = len(made.r), 1 + int(made.environment.max()), int(np.count_nonzero(counted))
    found: dict[str, float]
    if made.method == "a2c":
        found = {"mean over steps": steps, "sum over steps, mean over environments": N, "sum": 1,
                 "mean over steps, reset steps in the number": k,
                 "mean over steps, sum over environments": k / N}  # fmt: skip
    elif made.method == "reinforce":
        found = {"sum over steps, mean over episodes": N, "sum": 1, "mean over steps": steps}
    else:
        found = {"sum": 1, "mean over steps": steps, "mean over environments": N}
    return {name: 1.0 / n for name, n in found.items()}


@functools.cache
def ddpg_models() -> tuple[mlp, mlp]:
    """(actor, critic) of the page, small."""
    spaces = Spaces(Box(-np.inf, np.inf, (3,)), Box(-1.0, 1.0, (2,)))
    return ddpg.models(spaces, ddpg.Config(networks=ddpg.Networks(hidden=(6, 5))))


def ddpg_targets(made: Any, terminated: Array, actor: Array, critic: Array) -> Array:
    """The page's y (k,), by the networks at these parameters."""
    mu, q = ddpg_models()
    q2 = at(q, critic).forward(made.S2, u=at(mu, actor).forward(made.S2))[:, 0]
    return ddpg.targets(made, made.r, terminated, q2)


def bootstraps(made: SimpleNamespace, ends: str = ENDS[0]) -> Array:
    """(k,) where the return bootstraps."""
    page = made.stops & ~made.terminated
    return {ENDS[0]: page, ENDS[1]: page & ~made.truncated, ENDS[2]: made.stops.copy()}[ends]


def through_returns(made: SimpleNamespace, boot: Array, g: Array) -> Array:
    """(k,) ∂/∂v_next of Σ g · R, R being linear in v_next, which counts where boot is true."""
    found, zeros = np.zeros(len(g)), np.zeros(len(g))
    for i in np.flatnonzero(boot):
        found[i] = g @ returns_of(made, zeros, np.eye(len(g))[i])
    return found


def decays(made: SimpleNamespace, sign: float) -> dict[str, Array]:
    """Weight decay of matrices and of biases."""
    decay, biases = np.zeros((2, len(made.theta)))
    for name, where in made.layout.items():
        to = biases if name.rpartition(".")[2].startswith("b") else decay
        part = slice(where["offset"], where["offset"] + prod(where["shape"]))
        to[part] = sign * made.theta[part]
    return {"weight_decay": decay, "bias_decay": biases}
