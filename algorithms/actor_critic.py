"""Actor–critic: one step, and with eligibility traces. Sutton & Barto 2018, §13.5–13.6, p. 332–333.

    δ = R + γ v̂(S', w) − v̂(S, w), v̂(terminal) = 0                      one-step (13.12–13.14)
    w ← w + α^w δ ∇v̂(S, w)                       θ ← θ + α^θ I δ ∇ln π(A|S, θ)        I ← γI

    z^w ← γλ^w z^w + ∇v̂(S, w)                    z^θ ← γλ^θ z^θ + I ∇ln π(A|S, θ)     traces,
    w ← w + α^w δ z^w                            θ ← θ + α^θ δ z^θ        I ← γI      episodic

    δ = R − R̄ + v̂(S', w) − v̂(S, w)               R̄ ← R̄ + α^R̄ δ                       traces,
    z^w ← λ^w z^w + ∇v̂(S, w)                     z^θ ← λ^θ z^θ + ∇ln π(A|S, θ)        continuing
    w ← w + α^w δ z^w                            θ ← θ + α^θ δ z^θ

(13.12–13.14) have no I, the boxes do. A in S gives R and leads to S'. v̂, ∇v̂, ∇ln π and δ are all
computed before anything moves. Both θ and w ascend: θ the performance, w −½ (target − v̂)² with a
fixed target. Episodic: I = 1 and z = 0 at the start of every episode; v̂(S') = 0 if S' is terminal,
but not if the step is truncated. Continuing: no γ, no I; R̄ starts at 0 and is never reset.

For a continuing method, an environment's restart is part of its dynamics: S' of a step that
terminates is the next episode's first state. A truncated step uses v̂ of its own S'; then z is set
to 0, since later δ come from a new start and say nothing about earlier states.

What they ascend: for v̂ = v^π and a fixed θ, sgd's updates of an episode over α^θ sum to ∇J on
average, J = E[Σ_t γ^t R_{t+1}]; a continuing one is ∇ρ, ρ the average reward. A wrong v̂ biases
both unless λ^θ = 1 (exact.average_reward); so do θ and w that move. Departures: other optimisers
take δ∇v̂, Iδ∇ln π, δz^w, δz^θ for gradients; R̄ always moves by α^R̄ δ; tiny traces are set to 0.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, ClassVar, Literal

import numpy as np

from algorithms.common.config import (
    PRECISIONS,
    Checked,
    Count,
    NonNegative,
    OptimizerName,
    Precision,
    Unit,
)
from algorithms.common.features import observed
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, make_policy, make_value
from algorithms.common.types import Act, Env, Gradient, Training
from algorithms.common.world import BLOCK, Position, check_finite, entered, opened
from npgrad import OPTIMIZERS, Array, Head, at
from npgrad.memory import aligned_copy, flush


@dataclass(frozen=True)
class Shared(Checked):
    """Hyper-parameters of all three methods."""

    step_size: NonNegative = 2e-3
    """α^θ, the policy's step size (tuned on CartPole-v1 for rmsprop)."""
    step_size_w: NonNegative = 5e-3
    """α^w, the value function's step size (tuned on CartPole-v1 for rmsprop)."""
    optimizer: OptimizerName = "rmsprop"
    """Turns gradients into steps, with the constants of npgrad.optimizers. The boxes have sgd."""
    precision: Precision = "double"
    """Floating-point numbers of everything learned. single is faster."""
    features: Literal["none", "fourier", "polynomial", "tiles"] = "none"
    """Basis for a Box observation with finite bounds, above all for linear methods."""
    order: Count = 3
    """Order n of that basis: (n + 1)^d features of d observations; of tiles, so many per tiling."""
    network: Network = field(default_factory=Network)


@dataclass(frozen=True)
class OneStep(Shared):
    """One-step actor–critic, episodic: `actor-critic`."""

    gamma: Unit = 0.99
    """Discount γ (common practice; Sutton & Barto's corridor has 1)."""


@dataclass(frozen=True)
class Traces(OneStep):
    """Eligibility traces, episodic: `actor-critic-traces`. At λ = 0 it is the one-step method."""

    lambda_theta: Unit = 0.9
    """λ^θ, decay of the policy's trace."""
    lambda_w: Unit = 0.9
    """λ^w, decay of the value function's trace."""


@dataclass(frozen=True)
class Continuing(Shared):
    """Eligibility traces, continuing, average reward: `actor-critic-continuing`."""

    lambda_theta: Unit = 0.9
    """λ^θ, decay of the policy's trace."""
    lambda_w: Unit = 0.9
    """λ^w, decay of the value function's trace."""
    step_size_R: NonNegative = 1e-2
    """α^R̄, step size of the average reward R̄."""
    report_every: Count = 1000
    """Steps between two reports, which stand where an episodic method has episodes."""


def objective(h: Array, head: Head, a: Array) -> float:
    """ln π(a|s, θ), of which every box ascends a multiple. h (size,) is the policy's output."""
    return head(h).log_prob(a)


def gradient(h: Array, head: Head, a: Array) -> Array:
    """∂ objective/∂h (size,), the score of one action a. Ascent."""
    return head(h).score(a)


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: Array
    w: Array
    z_theta: Array  # traces, empty in the one-step method
    z_w: Array
    theta_statistics: Array  # of the optimiser
    w_statistics: Array
    rng: np.random.Generator
    world: Position
    I: float = 1.0  # γ^t; 1 in the continuing method
    R_bar: float = 0.0  # the average reward; 0 in the episodic methods
    rewards: float = 0.0  # their sum since the latest report of the continuing method
    optimizer_steps: int = 0
    steps: int = 0
    episodes: int = 0


def one_step(config, state, R, v, v2, dv, dlogpi):
    """One-step actor–critic (episodic), p. 332. v, v2 are v̂(S, w), v̂(S', w); dv is
    c -> c ∇v̂(S, w), and dlogpi is c -> c ∇ln π(A|S, θ)."""
    delta = R + config.gamma * v2 - v
    ascend(config, state, dlogpi(state.I * delta), dv(delta))
    state.I *= config.gamma


def traces(config, state, R, v, v2, dv, dlogpi):
    """Actor–critic with eligibility traces (episodic), p. 332: as `one_step`."""
    delta = R + config.gamma * v2 - v
    state.z_w *= config.gamma * config.lambda_w
    state.z_w += dv(1.0)
    state.z_theta *= config.gamma * config.lambda_theta
    state.z_theta += dlogpi(state.I)
    ascend(config, state, delta * state.z_theta, delta * state.z_w)
    state.I *= config.gamma


def continuing(config, state, R, v, v2, dv, dlogpi):
    """Actor–critic with eligibility traces (continuing), p. 333: as `one_step`."""
    delta = R - state.R_bar + v2 - v
    state.R_bar += config.step_size_R * delta
    state.z_w *= config.lambda_w
    state.z_w += dv(1.0)
    state.z_theta *= config.lambda_theta
    state.z_theta += dlogpi(1.0)
    ascend(config, state, delta * state.z_theta, delta * state.z_w)


def ascend(config, state, d_theta, d_w):
    """θ ← θ + step(dθ), w ← w + step(dw); with sgd, step(d) is α d."""
    optimizer = OPTIMIZERS[config.optimizer].step
    state.optimizer_steps = t = state.optimizer_steps + 1
    state.theta += optimizer(d_theta, state.theta_statistics, t, config.step_size)
    state.w += optimizer(d_w, state.w_statistics, t, config.step_size_w)


def init(env: Env, config: Shared, seed: int) -> State:
    """The State before learning. Raises ValueError for spaces that have no policy here."""
    with opened(env) as made:
        world = observed(made, config)
        policy, value = make_policy(world, config.network), make_value(world, config.network)
    for_theta, for_w, rng = np.random.default_rng(seed).spawn(3)
    dtype, statistics = PRECISIONS[config.precision], OPTIMIZERS[config.optimizer].statistics
    theta = aligned_copy(policy.model.init(for_theta), dtype)
    w = aligned_copy(value.init(for_w), dtype)
    z, z_w = (np.zeros(0 if type(config) is OneStep else x.size, dtype) for x in (theta, w))
    m, m_w = (aligned_copy(statistics(x)) for x in (theta, w))
    return State(theta, w, z, z_w, m, m_w, rng, Position(int(rng.integers(2**31))))


def actor(env: Env, config: Shared) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    with opened(env) as made:
        world: Any = observed(made, config)
    act = make_policy(world, config.network).act
    if world is made:
        return act
    return lambda theta, o, rng, greedy=False: act(theta, world.observation(o), rng, greedy)


def train(env: Env, config: Shared, state: State, gradient: Gradient = gradient) -> Training:
    """The box of `config` as an endless generator: yields Metrics after every episode (of a
    continuing method: after every `report_every` steps) and, in between, every BLOCK steps."""
    with entered(env, state.world, lambda env: observed(env, config)) as world:
        yield from learn(world, config, state, gradient)


def learn(world, config, state, gradient):
    """`train` in a World."""
    boxes = {OneStep: one_step, Traces: traces, Continuing: continuing}
    box, goes_on = boxes[type(config)], isinstance(config, Continuing)
    policy, value = make_policy(world.env, config.network), make_value(world.env, config.network)
    head, pi, v_hat = policy.head, at(policy.model, state.theta), at(value, state.w)
    gradient = policy.compiled(gradient)
    theta, w = (state.theta, state.theta_statistics), (state.w, state.w_statistics)
    S = np.array([world.s, world.s])  # S and S'
    if not world.resumed:
        state.I, state.z_theta[:], state.z_w[:] = 1.0, 0.0, 0.0
    while True:
        for noise in head.noise(state.rng, BLOCK):
            S[0] = world.s
            h = pi.forward(S[0])
            A = head(h).sample(noise)
            R, s2, terminated, truncated = world.step(A)
            S[1] = world.s if goes_on and terminated else s2  # the restart is part of the dynamics
            v, v2 = v_hat.forward(S)[:, 0].tolist()
            if not isfinite(v2 - v):
                raise FloatingPointError(f"w has diverged: v̂ = {v}, then {v2}")
            v2 = 0.0 if terminated and not goes_on else v2
            g = gradient(h, head, A)
            dv, dlogpi = lambda c: v_hat.backward(np.full(1, c)), lambda c, g=g: pi.backward(c * g)
            box(config, state, R, v, v2, dv, dlogpi)
            state.steps += 1
            state.rewards += R if goes_on else 0.0
            if state.steps % 100 == 0:  # before what decays in them becomes denormal
                flush(state.z_theta)
                flush(state.z_w)
            if truncated and not terminated if goes_on else world.ended:
                state.I, state.z_theta[:], state.z_w[:] = 1.0, 0.0, 0.0
            ended, scalars = report(config, state, world.ended)
            if ended:
                break
        check_finite(state.steps, theta=theta, w=w)
        yield Metrics.of(state, ended, scalars)


def report(config, state, ended):
    """((return, length),) of what has ended, if something has, and the scalars beside it."""
    scalars = {}
    if isinstance(config, Continuing):
        n, ended = config.report_every, ()
        if state.steps % n == 0:
            scalars = {"average_reward": state.rewards / n, "R_bar": state.R_bar}
            ended, state.rewards = ((state.rewards, n),), 0.0
    state.episodes += len(ended)
    return ended, scalars
