"""DDPG, deep deterministic policy gradient. Lillicrap et al. 2015, arXiv 1509.02971, Algorithm 1.

    a = μ(s, θ) + noise                               act, store (s, a, r, s') in the memory
    y_i = r_i + γ (1 − terminated_i) Q(s'_i, μ(s'_i, θ⁻), w⁻)     for a batch of it, uniformly
    w ← w − α^w ∇_w [ mean_i (y_i − Q(s_i, a_i, w))² + ½ l2 Σ W² ]                   (critic; Adam)
    θ ← θ + α^θ mean_i ∇_a Q(s_i, a, w)|_{a = μ(s_i, θ)} ∇_θ μ(s_i, θ)                 (actor; Adam)
    θ⁻ ← τ θ + (1 − τ) θ⁻        w⁻ ← τ w + (1 − τ) w⁻

θ is the paper's θ^μ, w its θ^Q, θ⁻ and w⁻ (`theta_target`, `w_target`) its θ^μ' and θ^Q'. y is a
number (semi-gradient); θ moves by the w that has just moved, as in the box; the square carries no
½, so its gradient has a 2; W are the critic's weight matrices, without biases. A step that is
truncated bootstraps like any other.

Inside, actions are u = tanh(h) in [−1, 1], and Q is a function of (s, u); the environment is handed
a = ½(low + high) + ½(high − low) u, which meets the bounds exactly at u = ±1, in any finite box.

What it ascends: by the deterministic policy-gradient theorem (Silver et al. 2014, Theorem 1),

    ∇J(θ) = E_{s ~ ρ} [ ∇_a Q^μ(s, a)|_{a = μ(s)} ∇_θ μ(s, θ) ],   ρ(s) = Σ_t γ^t Pr(S_t = s | μ)

The update has that integrand, but Q is learned, and s comes from the memory: from the noisy
policies of the past, without γ^t. In general it is not ∇J. E_{s ~ ρ} stands for Σ_s ρ(s). On the
linear-quadratic regulator all of this has a closed form (algorithms.exact.deterministic): what the
memory's states and the critic's ∇_a Q add to ∇J; the critics that add nothing (Theorem 3); and ∇J
as the limit σ → 0 of the gradient of the Gaussian policy N(μ(s), σ² I) (Theorem 2).

Departures from the paper: actions are uniform in the first `warmup` steps; learning begins after
them, and not before the memory holds `batch` transitions. Adam has the common β₁ .9, β₂ .999, ε
1e-8. The weight decay has a ½, where the paper is silent. With batch_norm the actor's output is not
normalised, a normalised layer's b comes after normalisation (as its shift), and targets are
normalised by running averages, which follow the online ones as θ⁻ follows θ. Numbers that decay
towards 0 are set to 0 before they become denormal (npgrad.optimizers.adam; parameters below 1e-16).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from algorithms.common.config import (
    PRECISIONS,
    Count,
    NonNegative,
    Precision,
    Unit,
    WholeNumber,
    check,
)
from algorithms.common.metrics import Metrics
from algorithms.common.types import Act, Env, Gradient, Training
from algorithms.common.world import BLOCK, Position, check_finite, encoder, entered, spaces
from algorithms.ddpg_networks import Networks as Networks  # as: ddpg.Networks is public
from algorithms.ddpg_networks import models as models
from algorithms.ddpg_noise import Noise as Noise
from algorithms.ddpg_replay import Replay, empty_ring
from npgrad import Array, at
from npgrad.memory import aligned_copy, flush
from npgrad.optimizers import adam, soft_update


@dataclass(frozen=True)
class Config:
    gamma: Unit = 0.99
    """Discount γ (§7)."""
    step_size: NonNegative = 1e-4
    """α^θ, the actor's step size (§7)."""
    step_size_w: NonNegative = 1e-3
    """α^w, the critic's step size (§7)."""
    l2: NonNegative = 1e-2
    """Weight decay of the critic: its loss has ½ l2 Σ W² (§7)."""
    target: Literal["soft", "hard"] = "soft"
    """soft: targets move by tau at every update; hard: they are copied every copy_every updates."""
    tau: Unit = 1e-3
    """τ of soft targets (§7)."""
    copy_every: Count = 1000
    """C of hard targets, in updates (as DQN does; to compare)."""
    batch: Count = 64
    """N, transitions in an update (§7)."""
    replay: Count = 1_000_000
    """Transitions that the replay memory holds (§7). At least batch."""
    warmup: WholeNumber = 1000
    """First steps, with uniform actions (common practice)."""
    precision: Precision = "single"
    """Floating-point numbers of everything learned and stored. single is faster."""
    networks: Networks = field(default_factory=Networks)
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        check(self)
        if self.batch > self.replay:
            raise ValueError(f"batch = {self.batch}: must be at most replay = {self.replay}")
        if self.networks.batch_norm and self.batch < 2:
            raise ValueError("batch = 1: must be at least 2 with batch_norm")


def critic_objective(q: Array, y: Array, W: list[Array], l2: float) -> float:
    """mean_i (y_i − q_i)² + ½ l2 Σ W², to be descended. q (N,) are the critic's outputs
    Q(s_i, u_i); y (N,) are numbers; W are the critic's weight matrices."""
    return np.mean((y - q) ** 2) + 0.5 * l2 * sum(np.sum(w**2) for w in W)


def critic_gradient(q: Array, y: Array, W: list[Array], l2: float) -> tuple[Array, list[Array]]:
    """(∂/∂q, ∂/∂W) critic_objective: −2/N (y_i − q_i) (N,), and l2 W. Mean over i; descent."""
    return (2.0 / len(y)) * (q - y), [l2 * w for w in W]


def actor_objective(q: Array) -> float:
    """mean_i q_i, to be ascended. q (N,) are the critic's outputs Q(s_i, μ(s_i, θ))."""
    return q.mean()


def actor_gradient(q: Array) -> Array:
    """∂ actor_objective/∂q (N,) = 1/N. Back through the critic to its input u it becomes
    1/N ∇_u Q(s_i, u), and through the actor 1/N Σ_i ∇_u Q ∇_θ μ(s_i, θ). Mean; ascent."""
    return np.full_like(q, 1.0 / len(q))


def targets(config: Config, r: Array, terminated: Array, q2: Array) -> Array:
    """y = r + γ (1 − terminated) q2 (N,), q2 being Q(s', μ(s', θ⁻), w⁻)."""
    return r + config.gamma * (1.0 - terminated) * q2


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: Array
    w: Array
    theta_target: Array
    w_target: Array
    theta_statistics: Array  # Adam's moments
    w_statistics: Array
    ring: Array  # the replay memory
    N: Array  # OU noise
    rng: np.random.Generator
    world: Position
    updates: int = 0
    steps: int = 0  # one transition stored in each
    episodes: int = 0

    def filled(self) -> dict[str, int]:
        """{name: rows of that array that hold something}: only these need saving."""
        return {"ring": min(self.steps, len(self.ring))}


def init(env: Env, config: Config, seed: int) -> State:
    """The State before learning. Raises ValueError for spaces it cannot handle, and for a replay
    memory that does not fit."""
    actor_model, critic_model = models(env, config)
    for_theta, for_w, rng = np.random.default_rng(seed).spawn(3)
    dtype, d = PRECISIONS[config.precision], critic_model.second
    n = 1 if actor_model.one_hot else actor_model.sizes[0]
    ring = empty_ring(config.replay, n, d, dtype)
    parameters = actor_model.init(for_theta), critic_model.init(for_w)
    theta, w, theta2, w2 = (aligned_copy(x, dtype) for x in parameters * 2)
    m_theta, m_w = (aligned_copy(np.zeros((2, x.size)), dtype) for x in parameters)
    N, world = np.zeros(d), Position(int(rng.integers(2**31)))
    return State(theta, w, theta2, w2, m_theta, m_w, ring, N, rng, world)


def scale(space: Any) -> Callable[[Array], Array]:
    """u in [−1, 1] -> the action, at u = ±1 exactly the bounds."""
    low, high = space.low.astype(float), space.high.astype(float)

    def action(u: Array) -> Array:
        share = 0.5 + 0.5 * u.astype(float).reshape(space.shape)
        a = (1.0 - share) * low + share * high
        return np.asarray(np.minimum(np.maximum(a, low), high), space.dtype)

    return action


def actor(env: Env, config: Config) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step; with or without greedy
    it is μ(s), for the policy is deterministic."""
    (_, encode), action = encoder(spaces(env).observation), scale(spaces(env).action)
    mu, _ = models(env, config)
    return lambda parameters, o, rng, greedy=False: action(mu(parameters["theta"], encode(o)))


def train(env: Env, config: Config, state: State, critic_gradient: Gradient = critic_gradient,
          actor_gradient: Gradient = actor_gradient) -> Training:  # fmt: skip
    """Algorithm 1 as an endless generator: yields Metrics after every episode and, within one,
    after every BLOCK steps."""
    mu, q = (at(*pair) for pair in zip(models(env, config), (state.theta, state.w)))
    fixed = at(mu.model, state.theta_target), at(q.model, state.w_target)
    replay = Replay(state.ring, q.model.second, config.batch, mu.model.one_hot)
    with entered(env, state.world, decode=scale(spaces(env).action)) as world:
        while True:
            for _ in range(BLOCK):
                if world.t == 0:
                    state.N[:] = config.noise.ou_mean
                s, u = world.s, behave(config, state, mu, world.s)
                r, s2, terminated, _ = world.step(u)
                replay.store(state.steps, s, u, r, s2, terminated)
                state.steps += 1
                if state.steps >= max(config.warmup, config.batch):
                    learn(config, state, replay, mu, q, *fixed, critic_gradient, actor_gradient)
                    check_finite(state.steps, w=state.w, theta=state.theta)
                if world.ended:
                    state.episodes += 1
                    break
            check_finite(state.steps, theta=state.theta_statistics, w=state.w_statistics)
            yield Metrics.of(state, world.ended)


def behave(config, state, mu, s):
    """μ(s) + N within [−1, 1], or a uniform action while warming up."""
    if state.steps < config.warmup:
        return state.rng.uniform(-1.0, 1.0, len(state.N))
    u = mu.forward(np.asarray(s))
    check_finite(state.steps, theta=u)
    return config.noise.explore(u, state.N, state.steps, state.rng)


def learn(config, state, replay, mu, q, mu_target, q_target, critic_gradient, actor_gradient):
    """The box from the sample on. w⁻ follows w at once: the actor's gradient does not need it."""
    S, U, r, S2, terminated = replay.sample(state.steps, state.rng)
    q2 = q_target.forward(S2, u=mu_target.forward(S2))[:, 0]
    y = targets(config, r, terminated, q2)
    state.updates += 1
    norm = config.networks.batch_norm
    d_q, decay = critic_gradient(q.forward(S, u=U, minibatch=norm)[:, 0], y,
                                 q.model.weights(state.w), config.l2)  # fmt: skip
    d_w = q.backward(d_q[:, None])
    for d, pull in zip(q.model.weights(d_w), decay):
        d += pull
    q.track(config.networks.norm_decay)
    state.w -= adam(d_w, state.w_statistics, state.updates, config.step_size_w)
    follow(state.w_target, state.w, config, state.updates)
    q_mu = q.forward(S, u=mu.forward(S, minibatch=norm), minibatch=norm)[:, 0]
    d_u = q.backward_u(actor_gradient(q_mu)[:, None])  # 1/N ∇_u Q(s, u) at u = μ(s)
    d_theta = mu.backward(d_u)
    mu.track(config.networks.norm_decay)
    state.theta += adam(d_theta, state.theta_statistics, state.updates, config.step_size)
    follow(state.theta_target, state.theta, config, state.updates)


def follow(target: Array, theta: Array, config: Config, updates: int) -> None:
    """Soft: θ⁻ ← θ⁻ + τ (θ − θ⁻); hard: θ⁻ ← θ at every C-th update."""
    if updates % 100 == 0:
        flush(theta, 1e-16)
    if config.target == "hard":
        if updates % config.copy_every == 0:
            target[:] = theta
        return
    soft_update(target, theta, config.tau)
    if updates % 100 == 0:
        flush(target, 1e-16)
