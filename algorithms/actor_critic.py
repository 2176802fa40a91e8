"""Actor–critic: one step, and with eligibility traces. Sutton & Barto 2018, §13.5–13.6, p. 332–333.

    δ = R + γ v̂(S', w) − v̂(S, w), v̂(terminal) = 0                      one-step (13.12–13.14)
    w ← w + α^w δ ∇v̂(S, w)                       θ ← θ + α^θ I δ ∇ln π(A|S, θ)        I ← γI

    z^w ← γλ^w z^w + ∇v̂(S, w)                    z^θ ← γλ^θ z^θ + I ∇ln π(A|S, θ)     traces,
    w ← w + α^w δ z^w                            θ ← θ + α^θ δ z^θ        I ← γI      episodic

    δ = R − R̄ + v̂(S', w) − v̂(S, w)               R̄ ← R̄ + α^R̄ δ                       traces,
    z^w ← λ^w z^w + ∇v̂(S, w)                     z^θ ← λ^θ z^θ + ∇ln π(A|S, θ)        continuing
    w ← w + α^w δ z^w                            θ ← θ + α^θ δ z^θ

(13.12–13.14) have no I, the boxes do. R follows A in S and leads to S'. v̂, ∇v̂, ∇ln π and δ are all
computed before anything moves. Both θ and w ascend: θ the performance, w −½ (target − v̂)², the
target being a number (semi-gradient). Episodic: I = 1 and z = 0 at the start of every episode; a
step that terminates has v̂(S') = 0, one that is truncated goes on from v̂(S'). Continuing: there is
no γ and no I, and R̄, which starts at 0, is never reset; nor are the traces, but at a cut (below).

A continuing method on an episodic environment restarts it at once, and the restart is part of its
dynamics: the S' of a step that terminates is the first state of the next episode. A truncated step
goes on from v̂ of its own S'; the next one begins in the restarted environment, with z = 0, since
the δ that follow are not those of the states before the cut.

Departures from the boxes: optimisers other than sgd take δ∇v̂, Iδ∇ln π, δz^w, δz^θ for gradients;
R̄ always moves by α^R̄ δ; traces that have decayed to next to nothing are set to 0
(npgrad.memory.flush). An environment's inside cannot be saved: a continuing method taken up from a
saved State goes on with its θ, w and R̄ from a reset environment, as after a truncation.
"""

from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from algorithms.common.features import BASES, Features
from algorithms.common.metrics import Metrics
from algorithms.common.online import Actor, Ascent, Critic
from algorithms.common.policy import PRECISIONS, Network, check, make_policy, make_value
from npgrad import Softmax
from npgrad.memory import flush
from npgrad.optimizers import OPTIMIZERS

HEADS = ("from the space", "softmax", "gaussian")


@dataclass(frozen=True)
class Shared:
    """What the three methods have in common."""

    step_size: float = 2e-3
    """α^θ, the policy's step size (tuned on CartPole-v1 for rmsprop). At least 0."""
    step_size_w: float = 5e-3
    """α^w, the value function's step size (tuned on CartPole-v1 for rmsprop). At least 0."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "rmsprop_outside", "adam"] = "rmsprop"
    """How gradients become steps; constants are npgrad.optimizers' own: momentum α .99; rmsprop
    α .99, ε .1 inside the root (A3C's); rmsprop_outside α .99, ε 1e-8; adam .9, .999, 1e-8. The
    boxes have sgd."""
    head: Literal["from the space", "softmax", "gaussian"] = "from the space"
    """softmax asks for a Discrete action space, gaussian for a flat Box."""
    precision: Literal["double", "single"] = "double"
    """Floating-point numbers of θ, w and all that belongs to them. single is faster."""
    features: Literal["none", "fourier", "polynomial", "tiles"] = "none"
    """Basis in which a Box observation with finite bounds is seen, above all by linear methods."""
    order: int = 3
    """Order n of that basis: (n + 1)^d features of d observations; for tiles, 1/n wide, so many in
    each of N tilings, N the least power of 2 that is 4d or more. At least 1."""
    network: Network = field(default_factory=Network)

    def __post_init__(self):
        check(self, step_size=(0.0, np.inf), step_size_w=(0.0, np.inf), head=HEADS)
        check(self, features=("none", *BASES), order=(1, np.inf), precision=tuple(PRECISIONS))
        check(self, optimizer=tuple(OPTIMIZERS))


@dataclass(frozen=True)
class OneStep(Shared):
    """One-step actor–critic, episodic: `actor-critic`."""

    gamma: float = 0.99
    """Discount γ (common practice; Sutton & Barto's corridor has 1). In [0, 1]."""

    def __post_init__(self):
        super().__post_init__()
        check(self, gamma=(0.0, 1.0))


@dataclass(frozen=True)
class Decays(Shared):
    """What the two methods with traces have in common."""

    lambda_theta: float = 0.9
    """λ^θ, decay of the policy's trace; at 0 for both, episodic traces are the one-step method.
    In [0, 1]."""
    lambda_w: float = 0.9
    """λ^w, decay of the value function's trace. In [0, 1]."""

    def __post_init__(self):
        super().__post_init__()
        check(self, lambda_theta=(0.0, 1.0), lambda_w=(0.0, 1.0))


@dataclass(frozen=True)
class Traces(Decays, OneStep):
    """Eligibility traces, episodic: `actor-critic-traces`."""


@dataclass(frozen=True)
class Continuing(Decays):
    """Eligibility traces, continuing, average reward: `actor-critic-continuing`."""

    step_size_R: float = 1e-2
    """α^R̄, step size of the average reward R̄. At least 0."""
    report_every: int = 1000
    """Steps between two reports, which stand where an episodic method has episodes, and after which
    actions draw on fresh random numbers. At least 1."""

    def __post_init__(self):
        super().__post_init__()
        check(self, step_size_R=(0.0, np.inf), report_every=(1, np.inf))


def objective(theta, policy, s, a):
    """ln π(a|s, θ), of which every box ascends a multiple."""
    return policy.log_prob(theta, s, a)


def gradient(theta, policy, s, a):
    """∇_θ objective = ∇ln π(a|s, θ), the score. Of one state s (n,) and action a; ascent."""
    return policy.score(theta, s[None], np.asarray(a)[None], np.ones(1))


def value_objective(w, value, s):
    """v̂(s, w), of which every box ascends a multiple."""
    return value(w, s)[..., 0]


def value_gradient(w, value, s):
    """∇_w value_objective = ∇v̂(s, w). Of one state s (n,); ascent."""
    _, pullback = value.vjp(w, s)
    return pullback(np.ones(1))[0]


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: np.ndarray  # `train` makes θ and w views of one vector
    w: np.ndarray
    z_theta: np.ndarray  # traces, empty in the one-step method
    z_w: np.ndarray
    statistics: np.ndarray  # of the optimiser, of θ and then w
    rng: np.random.Generator
    I: float = 1.0  # γ^t; 1 in the continuing method
    R_bar: float = 0.0  # the average reward; 0 in the episodic methods
    optimizer_steps: int = 0
    steps: int = 0
    episodes: int = 0


def one_step(config, state, R, v, v2, dv, dlogpi, ascend):
    """One-step actor–critic (episodic), p. 332: from δ to I.

    v, v2     v̂(S, w), v̂(S', w)
    dv        c -> c ∇v̂(S, w)
    dlogpi    c -> c ∇ln π(A|S, θ)
    ascend    (d_theta, d_w, c) -> θ ← θ + step(c d_theta), w ← w + step(c d_w); with sgd, step(d)
              is α d
    """
    delta = R + config.gamma * v2 - v
    ascend(dlogpi(state.I * delta), dv(delta))
    state.I *= config.gamma


def traces(config, state, R, v, v2, dv, dlogpi, ascend):
    """Actor–critic with eligibility traces (episodic), p. 332: as `one_step`."""
    delta = R + config.gamma * v2 - v
    state.z_w *= config.gamma * config.lambda_w
    state.z_w += dv(1.0)
    state.z_theta *= config.gamma * config.lambda_theta
    state.z_theta += dlogpi(state.I)
    ascend(state.z_theta, state.z_w, delta)
    state.I *= config.gamma


def continuing(config, state, R, v, v2, dv, dlogpi, ascend):
    """Actor–critic with eligibility traces (continuing), p. 333: as `one_step`."""
    delta = R - state.R_bar + v2 - v
    state.R_bar += config.step_size_R * delta
    state.z_w *= config.lambda_w
    state.z_w += dv(1.0)
    state.z_theta *= config.lambda_theta
    state.z_theta += dlogpi(1.0)
    ascend(state.z_theta, state.z_w, delta)


BOXES = MappingProxyType({OneStep: one_step, Traces: traces, Continuing: continuing})


def observed(env, config):
    """env, seen through the features that config asks for."""
    return env if config.features == "none" else Features(env, config.features, config.order)


def init(env, config, seed):
    """The State before learning. Raises ValueError for spaces that have no policy here."""
    env = observed(env, config)
    policy = make_policy(env, config.network)
    head = "softmax" if isinstance(policy.head, Softmax) else "gaussian"
    if config.head not in (HEADS[0], head):
        raise ValueError(f"head = {config.head!r}: must be {head} for {env.action_space}")
    for_theta, for_w, rng = np.random.default_rng(seed).spawn(3)
    dtype = PRECISIONS[config.precision]
    theta = policy.model.init(for_theta).astype(dtype)
    w = make_value(env, config.network).init(for_w).astype(dtype)
    z = [np.zeros(0 if type(config) is OneStep else x.size, dtype) for x in (theta, w)]
    statistics = OPTIMIZERS[config.optimizer].statistics(np.concatenate((theta, w)))
    return State(theta, w, *z, statistics, rng)


def actor(env, config):
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    world = observed(env, config)
    policy = make_policy(world, config.network)
    see = policy.encode if world is env else world.observation

    def act(parameters, observation, rng, greedy=False):
        h = policy.model(parameters["theta"], see(observation))
        head = policy.head
        return policy.decode(head.mode(h) if greedy else head.sample(h, head.noise(rng, 1)[0]))

    return act


def train(env, config, state, gradient=None, value_gradient=None):
    """The box of `config` as an endless generator: yields Metrics after every episode; if it is
    continuing, after every `report_every` steps, the sum of whose rewards stands for a return.

    Gradients default to the page's own, in memory set aside once (algorithms.common.online).
    """
    env, box = observed(env, config), BOXES[type(config)]
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    ascend = Ascent(config, state)
    actor = Actor(policy, state.theta, ascend.d_theta, gradient)
    critic = Critic(value, state.w, ascend.d_w, value_gradient)

    def learn(S, R, S2):
        """The box from δ on; S2 None is the terminal state."""
        v, v2 = critic.value(S), 0.0 if S2 is None else critic.peek(S2)
        if not isfinite(v2 - v):
            raise FloatingPointError(f"w has diverged: v̂ = {v}, then {v2} at step {state.steps}")
        box(config, state, R, v, v2, critic.gradient, actor.score, ascend)
        if state.steps % 100 == 0:  # before what decays in them becomes denormal
            flush(state.z_theta), flush(state.z_w)

    play = stretches if isinstance(config, Continuing) else episodes
    for total, length, scalars in play(env, config, state, actor, learn):
        for name in state.parameters:
            if not np.isfinite(getattr(state, name)).all():
                raise FloatingPointError(f"{name} has diverged: not finite at step {state.steps}")
        state.episodes += 1
        yield Metrics(state.steps, state.episodes, (total,), (length,), scalars)


def episodes(env, config, state, actor, learn):
    """The outer loop of the episodic boxes: yields (return, length, scalars) of every episode."""
    while True:
        S, total, first = actor.start(env, state.rng), 0.0, state.steps
        state.I, state.z_theta[:], state.z_w[:] = 1.0, 0.0, 0.0
        for noise in actor.noise(state.rng):
            state.steps += 1
            R, S2, terminated, truncated = actor.step(env, S, noise, state.steps)
            learn(S, R, None if terminated else S2)
            total += R
            S = S2
            if terminated or truncated:
                break
        yield total, state.steps - first, {}


def stretches(env, config, state, actor, learn):
    """The outer loop of the continuing box: yields (sum of rewards, length, scalars)."""
    S, state.z_theta[:], state.z_w[:] = actor.start(env, state.rng), 0.0, 0.0
    while True:
        total = 0.0
        for noise, _ in zip(actor.noise(state.rng), range(config.report_every)):
            state.steps += 1
            R, S2, terminated, truncated = actor.step(env, S, noise, state.steps)
            if terminated:
                S2 = actor.start(env, state.rng)
            learn(S, R, S2)
            total += R
            S = S2
            if truncated and not terminated:
                S, state.z_theta[:], state.z_w[:] = actor.start(env, state.rng), 0.0, 0.0
        rewards = total / config.report_every
        yield total, config.report_every, {"average_reward": rewards, "R_bar": state.R_bar}
