"""Batches to compute a gradient from: drawn from a seed, saved as plain arrays, loaded again.

Fields of every batch, k being its number of steps (for ddpg, of transitions):

    theta          (d,) the parameters that d is for; the networks are x ↦ tanh(x W1 + b1) W2 + b2
    layout         {name: {"offset", "shape"}} of the arrays in θ, each in row-major order
    method, seed, continuous, trunk     what the batch was drawn for

of reinforce, actor-critic, a3c, a2c (names in θ: policy.W1 ..., value.W1 ...; with trunk "shared",
one network whose last output is v̂; a Gaussian's h is (μ, ω), σ = exp ω):

    S, S2          (k, 3) states, and the states that followed
    A              (k,) actions; or (k, 2), as drawn, where `low` and `high` (2,) bound what is done
    r              (k,) rewards
    terminated, truncated     (k,) true where the episode ended in that step
    environment, t (k,) the environment (episode, segment) of a step, and its time in its episode
    stops          (k,) true where the return stops, and bootstraps from S2 unless terminated
    real           (k,) false where a vector environment only reset itself (a2c)
    v, v_next      (k,) v̂ of S; v̂ of S2 where the return bootstraps from it, else 0
    R, advantage   (k,) the returns, and R − v
    weight         (k,) the factor of each step in the sum, without γ^t
    I              (k,) γ^t (actor-critic)
    gamma, beta, value_coef     γ, β, c

of async-n-step-q: S, S2, A, r, terminated, truncated, environment, stops, gamma as above, and
theta_target (d,), v_next = max_a Q(S2, a; θ⁻) or 0, the targets y (k,).

of ddpg-critic: theta is the critic's; S, S2, A (k, 2) in [−1, 1], r, terminated, truncated, gamma,
l2; actor, actor_target, critic_target (flat, as actor_layout and layout), the targets y (k,).
of ddpg-actor: theta is the actor's; S, A, and critic (flat, as critic_layout). Hidden layers of
ddpg are ReLU, the action enters at W2 after the hidden units, and the actor's output is a tanh.

of rmsprop and adam: theta, gradient (d,), step_size, eps, t (the steps from 1, this one counted);
decay and g (d,), or beta1, beta2, and m, v (d,): Kingma & Ba's, before this step.
"""

import json
import os
import zipfile
from math import prod
from types import SimpleNamespace
from typing import IO, Any

import numpy as np

from algorithms.referee.gradient_pages import (
    ACTING,
    ENVIRONMENTS,
    N_STEPS,
    SEGMENTS,
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
from algorithms.referee.guard import Unusable
from npgrad import Array, Layout

NAMES = (*ACTING, "ddpg-critic", "ddpg-actor", "async-n-step-q", "rmsprop", "adam")
TRANSITIONS = 11


def batch(
    method: str, seed: int = 0, continuous: bool = False, trunk: str = "separate"
) -> SimpleNamespace:
    """Return the batch of this method and seed; see the module. Raises Unusable."""
    checks = {
        "method": (method, NAMES),
        "continuous": (continuous, (False, True) if method in ACTING else (False,)),
        "trunk": (trunk, ("separate", "shared") if method in ("a3c", "a2c") else ("separate",)),
    }
    for name, (value, allowed) in checks.items():
        if value not in allowed:
            one = " or ".join(map(str, allowed))
            raise Unusable(f"{name} = {value}: must be {one} for {method}")
    if not isinstance(seed, int) or seed < 0:
        raise Unusable(f"seed = {seed}: must be a whole number of at least 0")
    made = SimpleNamespace(method=method, seed=seed, continuous=continuous, trunk=trunk)
    rng = np.random.default_rng(seed)
    if method in ("rmsprop", "adam"):
        return _optimizer_batch(made, rng)
    if method.startswith("ddpg"):
        return _ddpg_batch(made, rng)
    draw_steps(made, rng)
    model = network_of(made)
    made.theta = _drawn(rng, model)
    if method == "async-n-step-q":
        made.theta_target = _drawn(rng, model)
        made.A = rng.integers(0, 3, len(made.S))
        made.layout = _named(model.layout)
        return derived(made)
    made.beta, made.value_coef = 0.01, 0.4
    made.layout = _named(model.layout)
    if trunk == "separate":
        made.layout = _named(Layout(policy=0, value=0), model.first.layout, model.second.layout)
    pi = policy_of(made).at(made.theta, made.S)
    made.A = pi.sample(policy_of(made).head.noise(rng, len(made.S)))
    if continuous:
        made.low, made.high = -np.ones(2), np.ones(2)
    return derived(made)


def _drawn(rng: np.random.Generator, model: Any) -> Array:
    """θ of which every part matters: no layer starts small."""
    return 0.6 * rng.standard_normal(model.layout.size)


def _named(layout: Layout, *parts: Layout) -> dict[str, dict[str, Any]]:
    """{name: offset and shape} of a layout, or of parts that lie one after the other."""
    pieces = [(f"{part}.", inner) for part, inner in zip(layout.shapes, parts)] or [("", layout)]
    found, offset = {}, 0
    for prefix, inner in pieces:
        for name, shape in inner.shapes.items():
            found[prefix + name] = {"offset": offset, "shape": shape}
            offset += prod(shape)
    return found


# Steps of a policy


def draw_steps(made: SimpleNamespace, rng: np.random.Generator) -> None:
    """Put segments, or for a2c n steps of N environments, into the batch."""
    if made.method == "a2c":
        _draw_vector(made, rng)
    else:
        states = [rng.standard_normal((n + 1, 3)) for n in SEGMENTS]
        made.S = np.concatenate([s[:-1] for s in states])
        made.S2 = np.concatenate([s[1:] for s in states])
        made.environment = np.repeat(np.arange(len(SEGMENTS)), SEGMENTS)
        begun = (0, 2, 5, 1) if made.method == "a3c" else (0, 0, 0, 0)
        made.t = np.concatenate([np.arange(n) + t for n, t in zip(SEGMENTS, begun)])
        ends = np.cumsum(SEGMENTS) - 1
        made.terminated, made.truncated, made.stops = np.zeros((3, len(made.S)), bool)
        made.terminated[ends[0]] = made.truncated[ends[1::2]] = True
        made.terminated[ends[2]] = made.method == "reinforce"  # which learns from whole episodes
        made.stops[ends] = True
        made.stops |= made.method == "actor-critic"
        made.real = np.ones(len(made.S), bool)
    made.r = rng.standard_normal(len(made.S))
    made.r[~made.real] = 0.0
    made.gamma = 0.9


def _draw_vector(made: SimpleNamespace, rng: np.random.Generator) -> None:
    """Environment 0 terminates in step 2, 1 is truncated in step 4; their next steps only reset."""
    n, N = N_STEPS, ENVIRONMENTS
    states = rng.standard_normal((n + 1, N, 3))
    terminated, truncated, stops = np.zeros((3, n, N), bool)
    real, t = np.ones((n, N), bool), np.arange(n)[:, None] + [0, 3, 5]
    terminated[2, 0] = truncated[4, 1] = True
    real[3, 0] = real[5, 1] = False
    t[4:, 0], t[6:, 1] = np.arange(3), 0
    stops[:] = terminated | truncated
    stops[-1] = True
    made.S, made.S2 = states[:-1].reshape(-1, 3), states[1:].reshape(-1, 3)
    made.environment = np.tile(np.arange(N), n)
    flat = {"terminated": terminated, "truncated": truncated, "stops": stops, "real": real, "t": t}
    for name, x in flat.items():
        setattr(made, name, x.ravel())


def derived(made: SimpleNamespace) -> SimpleNamespace:
    """Add what the page computes from the rest of a batch: values, returns, targets, weights."""
    if made.method == "async-n-step-q":
        q2 = network_of(made)(made.theta_target, made.S2)
        made.v_next = np.where(bootstraps(made), q2.max(1), 0.0)
        made.y = returns_of(made, made.r, made.v_next)
        return made
    if made.method == "ddpg-critic":
        made.y = ddpg_targets(made, made.terminated, made.actor_target, made.critic_target)
    if made.method in ACTING:
        k, v = len(made.S), outputs(made)[2]
        made.v, made.v_next = v[:k].copy(), np.where(bootstraps(made), v[k:], 0.0)
        made.R = returns_of(made, made.r, made.v_next)
        made.advantage = made.R - made.v
        made.weight = made.real * next(iter(reductions(made, made.real).values()))
    if made.method == "actor-critic":
        made.I = np.ones(k)
        for i in np.flatnonzero(made.t):
            made.I[i] = one_step(made.gamma, np.zeros(1), 0.0, I=made.I[i - 1]).I
    return made


# DDPG and the optimisers


def _ddpg_batch(made: SimpleNamespace, rng: np.random.Generator) -> SimpleNamespace:
    mu, q = ddpg_models()
    made.S, made.A = rng.standard_normal((TRANSITIONS, 3)), rng.uniform(-1, 1, (TRANSITIONS, 2))
    if made.method == "ddpg-actor":
        made.theta, made.critic = _drawn(rng, mu), _drawn(rng, q)
        made.layout, made.critic_layout = _named(mu.layout), _named(q.layout)
        return made
    made.theta, made.critic_target = _drawn(rng, q), _drawn(rng, q)
    made.actor, made.actor_target = _drawn(rng, mu), _drawn(rng, mu)
    made.layout, made.actor_layout = _named(q.layout), _named(mu.layout)
    made.S2, made.r = rng.standard_normal((TRANSITIONS, 3)), rng.standard_normal(TRANSITIONS)
    made.terminated, made.truncated = np.zeros((2, TRANSITIONS), bool)
    made.terminated[[2, 7]], made.truncated[[4, 9]] = True, True
    made.gamma, made.l2 = 0.9, 0.01
    return derived(made)


def _optimizer_batch(made: SimpleNamespace, rng: np.random.Generator) -> SimpleNamespace:
    d = 20
    made.theta, made.gradient = rng.standard_normal((2, d))
    made.t, made.step_size, made.eps = 3, 3e-3, 0.1
    if made.method == "rmsprop":
        made.decay, made.g = 0.95, rng.uniform(0.5, 2.0, d)
    else:
        made.beta1, made.beta2, made.eps = 0.8, 0.97, 1e-3
        made.m, made.v = 0.3 * rng.standard_normal(d), rng.uniform(0.1, 1.0, d)
    made.layout = _named(Layout(theta=d))
    return made


# Files


def save(made: SimpleNamespace, file: IO[bytes]) -> None:
    """Write a batch into an open binary file: its arrays, and the rest as a JSON text `meta`."""
    fields = vars(made)
    arrays: dict[str, Any] = {name: x for name, x in fields.items() if isinstance(x, np.ndarray)}
    meta = json.dumps({name: x for name, x in fields.items() if name not in arrays})
    np.savez(file, meta=np.array(meta), **arrays)


def load(path: str | os.PathLike[str]) -> SimpleNamespace:
    """Return the batch in a file that `save` wrote. Raises Unusable, and OSError."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        meta = json.loads(str(arrays.pop("meta")))
        drawn = {name: meta[name] for name in ("method", "seed", "continuous", "trunk")}
    except (ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise Unusable(f"{path} is no batch that npgrad referee dump wrote") from error
    like = vars(batch(**drawn))
    for name, x in like.items():
        given: Any = arrays.get(name) if isinstance(x, np.ndarray) else meta.get(name)
        if np.shape(given) != np.shape(x) or np.asarray(given).dtype != np.asarray(x).dtype:
            if isinstance(x, (np.ndarray, float, int)):
                raise Unusable(f"{path}: {name} of shape {np.shape(given)}: must be {np.shape(x)}")
    own = {name: arrays.get(name, meta.get(name)) for name in like if not name.endswith("layout")}
    made = SimpleNamespace(**(like | own))
    for name, x in vars(derived(SimpleNamespace(**vars(made)))).items():
        if isinstance(x, np.ndarray) and not np.allclose(x, own[name], 1e-9, 1e-9):
            raise Unusable(f"{path}: {name} is not what the page computes from the rest")
    return made
