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

Departures from the paper: uniform actions in the first `warmup` steps, with the last of which (or
the first that fills a batch) learning begins; Adam has the common β₁ .9, β₂ .999, ε 1e-8; the
weight decay has a ½, where the paper is silent; with batch_norm the actor's output is not
normalised, a normalised layer's b comes after normalisation (as its shift), and targets are
normalised by running averages, which follow the online ones as θ⁻ follows θ; what decays towards 0
is set to 0 before it is a denormal number (npgrad.optimizers.adam_onto; targets below 1e-16).
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from gymnasium.spaces import Box

from algorithms.common.metrics import Metrics
from algorithms.common.noise import Noise
from algorithms.common.policy import PRECISIONS, check, encoder
from algorithms.common.replay import Replay, empty_ring
from npgrad.memory import aligned_copy, flush, parts
from npgrad.networks import Batch, network
from npgrad.optimizers import adam_onto, soft_update


@dataclass(frozen=True)
class Networks:
    hidden: tuple[int, ...] = (400, 300)
    """Widths of the hidden ReLU layers, of actor and critic (§7). Positive integers."""
    action_layer: int = 2
    """The critic's hidden layer that the action enters: 2 (§7), or 1. At most len(hidden)."""
    batch_norm: bool = False
    """Normalise states, hidden layers of the actor, and those of the critic before the action (§3,
    optional)."""
    norm_decay: float = 0.99
    """Decay of the running averages by which batch_norm acts (the paper is silent). In [0, 1]."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.hidden or any(type(n) is not int or n < 1 for n in self.hidden):
            raise ValueError(f"hidden = {self.hidden}: must be one or more positive integers")
        check(self, norm_decay=(0.0, 1.0))
        if not 1 <= self.action_layer <= len(self.hidden):
            raise ValueError(
                f"action_layer = {self.action_layer}: must be one of the hidden layers, 1 to "
                f"{len(self.hidden)} with hidden = {self.hidden}"
            )


@dataclass(frozen=True)
class Config:
    gamma: float = 0.99
    """Discount γ (§7). In [0, 1]."""
    step_size: float = 1e-4
    """α^θ, the actor's step size (§7). At least 0."""
    step_size_w: float = 1e-3
    """α^w, the critic's step size (§7). At least 0."""
    l2: float = 1e-2
    """Weight decay of the critic: its loss has ½ l2 Σ W² (§7). At least 0."""
    target: Literal["soft", "hard"] = "soft"
    """soft: targets move by tau at every update; hard: they are copied every copy_every updates."""
    tau: float = 1e-3
    """τ of soft targets (§7). In [0, 1]."""
    copy_every: int = 1000
    """C of hard targets, in updates (as DQN does; to compare). At least 1."""
    batch: int = 64
    """N, transitions in an update (§7). At least 1."""
    replay: int = 1_000_000
    """Transitions that the replay memory holds (§7). At least batch."""
    warmup: int = 1000
    """First steps, with uniform actions; learning begins with the last of them, or later with the
    first that fills a batch (common practice). At least 0."""
    precision: Literal["single", "double"] = "single"
    """Floating-point numbers of everything learned and stored. single is 2.3 times faster."""
    networks: Networks = field(default_factory=Networks)
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self):
        check(self, gamma=(0.0, 1.0), step_size=(0.0, np.inf), step_size_w=(0.0, np.inf))
        check(self, l2=(0.0, np.inf), tau=(0.0, 1.0), copy_every=(1, np.inf), warmup=(0, np.inf))
        check(self, target=("soft", "hard"), precision=tuple(PRECISIONS), batch=(1, np.inf))
        check(self, replay=(1, np.inf))
        if self.batch > self.replay:
            raise ValueError(f"batch = {self.batch}: must be at most replay = {self.replay}")
        if self.networks.batch_norm and self.batch < 2:
            raise ValueError("batch = 1: must be at least 2 with batch_norm")


def critic_objective(w, critic, S, U, y, l2):
    """mean_i (y_i − Q(s_i, u_i, w))² + ½ l2 Σ W², to be descended; y (N,) are numbers."""
    W = critic.model.weights(w)
    return np.mean((y - critic(w, S, U)[:, 0]) ** 2) + 0.5 * l2 * np.sum(W**2)


def critic_gradient(w, critic, S, U, y, l2):
    """∇_w critic_objective = −2/N Σ_i (y_i − Q_i) ∇_w Q_i + l2 W. Mean over the batch; descent."""
    q = critic.forward(w, S, U)
    d_w = critic.gradient((2.0 / len(y)) * (q - y[:, None]))
    if l2 > 0.0:
        d_W = critic.model.weights(d_w)
        d_W += l2 * critic.model.weights(w)
    return d_w


def actor_objective(theta, actor, critic, w, S):
    """mean_i Q(s_i, μ(s_i, θ), w), to be ascended."""
    return np.mean(critic(w, S, actor(theta, S)))


def actor_gradient(theta, actor, critic, w, S):
    """∇_θ actor_objective = 1/N Σ_i ∇_u Q(s_i, u)|_{u = μ(s_i)} ∇_θ μ(s_i). Mean; ascent."""
    critic.forward(w, S, actor.forward(theta, S))
    mean = np.full((len(S), 1), 1.0 / len(S), theta.dtype)
    return actor.gradient(critic.gradient_u(mean))


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: np.ndarray
    w: np.ndarray
    theta_target: np.ndarray
    w_target: np.ndarray
    theta_statistics: np.ndarray  # Adam's moments
    w_statistics: np.ndarray
    ring: np.ndarray  # the replay memory
    N: np.ndarray  # OU noise
    rng: np.random.Generator
    updates: int = 0
    steps: int = 0  # one transition stored in each
    episodes: int = 0

    def filled(self):
        """How many rows of an array there are to be saved, where it is not all of them."""
        return {"ring": min(self.steps, len(self.ring))}


def models(env, config):
    """(actor, critic): networks μ(s) -> u (d,) and Q(s, u). Raises ValueError for other spaces."""
    n, _ = encoder(env.observation_space)
    space, nets = env.action_space, config.networks
    flat = isinstance(space, Box) and len(space.shape) == 1 and space.dtype.kind == "f"
    if not (flat and np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ValueError(f"action_space = {space}: must be a flat Box of floats with finite bounds")
    d, norm = space.shape[0], nets.batch_norm
    actor = network((n, *nets.hidden, d), output="tanh", batch_norm=norm)
    critic = network((n, *nets.hidden, 1), second=d, at=nets.action_layer, batch_norm=norm)
    return actor, critic


def init(env, config, seed):
    """The State before learning. Raises ValueError for spaces it cannot handle, and for a replay
    memory that does not fit."""
    actor_model, critic_model = models(env, config)
    for_theta, for_w, rng = np.random.default_rng(seed).spawn(3)
    dtype, (n, d) = PRECISIONS[config.precision], (actor_model.sizes[0], critic_model.second)
    ring = empty_ring(config.replay, n, d, dtype)
    parameters = actor_model.init(for_theta), critic_model.init(for_w)
    copies = [aligned_copy(x, dtype) for x in parameters * 2]
    moments = [aligned_copy(np.zeros((2, x.size)), dtype) for x in parameters]
    return State(*copies, *moments, ring, np.zeros(d), rng)


def scale(space):
    """u in [−1, 1] -> the action, at u = ±1 exactly the bounds."""
    low, high = space.low.astype(float), space.high.astype(float)

    def action(u):
        share = 0.5 + 0.5 * u.astype(float)
        a = (1.0 - share) * low + share * high
        return np.minimum(np.maximum(a, low), high).astype(space.dtype)

    return action


def actor(env, config):
    """act(parameters, observation, rng, greedy) -> action for env.step; with or without greedy
    it is μ(s), for the policy is deterministic."""
    _, encode = encoder(env.observation_space)
    (mu, _), action = models(env, config), scale(env.action_space)

    def act(parameters, observation, rng, greedy=False):
        theta = parameters["theta"]
        return action(mu(theta, encode(observation).astype(theta.dtype)))

    return act


def train(env, config, state, critic_gradient=critic_gradient, actor_gradient=actor_gradient):
    """Algorithm 1 as an endless generator: yields Metrics after every episode."""
    _, encode = encoder(env.observation_space)
    actor_model, critic_model = models(env, config)
    dtype, action = state.theta.dtype, scale(env.action_space)
    mu, q = (Batch(model, config.batch, dtype) for model in (actor_model, critic_model))
    replay = Replay(state.ring, actor_model.sizes[0], critic_model.second, config.batch)
    while True:
        observation, _ = env.reset(seed=int(state.rng.integers(2**31)))
        s, total, first, over = encode(observation).astype(dtype), 0.0, state.steps, False
        if not np.isfinite(s).all():
            raise FloatingPointError(f"the environment began with {observation}: must be finite")
        state.N[:] = config.noise.ou_mean
        while not over:
            u = behave(config, state, actor_model, s)
            observation, r, terminated, truncated, _ = env.step(action(u))
            s2 = encode(observation)
            replay.store(state.steps, s, u, r, s2, terminated, truncated)
            state.steps += 1
            if state.steps >= max(config.warmup, config.batch):
                learn(config, state, replay, mu, q, critic_gradient, actor_gradient)
            s, total, over = s2.astype(dtype), total + float(r), terminated or truncated
        check_finite(state)
        state.episodes += 1
        yield Metrics(state.steps, state.episodes, (total,), (state.steps - first,), {})


def behave(config, state, actor_model, s):
    """μ(s) + N within [−1, 1], or a uniform action while warming up."""
    if state.steps < config.warmup:
        return state.rng.uniform(-1.0, 1.0, len(state.N))
    u = actor_model(state.theta, s)
    if not np.isfinite(u).all():
        check_finite(state)
        raise FloatingPointError(f"theta has diverged: μ(s) = {u} at step {state.steps + 1}")
    return config.noise.explore(u, state.N, state.steps, state.rng)


def check_finite(state):
    """Raise FloatingPointError naming what has diverged: w first, for it takes θ with it."""
    for name in ("w", "theta"):
        if not np.isfinite(getattr(state, name)).all():
            raise FloatingPointError(f"{name} has diverged: not finite at step {state.steps}")


def learn(config, state, replay, mu, q, critic_gradient, actor_gradient):
    """The box from the sample on. w⁻ follows w at once: the actor's gradient does not need it."""
    S, U, R, S2, terminated, _ = replay.sample(state.steps, state.rng)
    u2 = mu.forward(state.theta_target, S2, running=True)
    y = R + config.gamma * (1 - terminated) * q.forward(state.w_target, S2, u2, running=True)[:, 0]
    state.updates += 1
    t, norm_decay = state.updates, config.networks.norm_decay
    d_w = critic_gradient(state.w, q, S, U, y, config.l2)
    q.track(state.w, S, U, norm_decay)
    move(state.w, d_w, state.w_statistics, state.w_target, config, t, -config.step_size_w)
    d_theta = actor_gradient(state.theta, mu, q, state.w, S)
    mu.track(state.theta, S, None, norm_decay)
    moments, target = state.theta_statistics, state.theta_target
    move(state.theta, d_theta, moments, target, config, t, config.step_size)


def move(theta, d, m, target, config, t, step_size):
    """θ ← θ + step of Adam, then θ⁻ towards θ, in parts that stay in the processor's cache; d is
    used up."""
    for part in parts(theta):
        adam_onto(theta[part], d[part], m[:, part], t, step_size)
        follow(target[part], theta[part], d[part], config, t)


def follow(target, theta, memory, config, updates):
    """Soft: θ⁻ ← θ⁻ + τ (θ − θ⁻); hard: θ⁻ ← θ at every C-th update."""
    if config.target == "hard":
        if updates % config.copy_every == 0:
            target[:] = theta
    else:
        soft_update(target, theta, config.tau, memory)
        if updates % 100 == 0:
            flush(target, 1e-16)
