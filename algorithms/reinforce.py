"""REINFORCE, with and without baseline. Sutton & Barto 2018, §13.3–13.4, boxes p. 328 and p. 330.

    G_t = R_{t+1} + γ R_{t+2} + ... + γ^{T−t−1} R_T
    θ ← θ + α^θ γ^t (G_t − b(S_t)) ∇ln π(A_t|S_t, θ)           (13.8, 13.11; ascent on J(θ))
    w ← w + α^w (G_t − v̂(S_t, w)) ∇v̂(S_t, w)                   (descent on ½(G_t − v̂)²; no γ^t)

R[t] in the code is R_{t+1}, the reward that follows A_t. The box multiplies by γ^t; (13.8) and
(13.11) leave it out. b is 0, a running mean of the returns, or the learned v̂. In each
update, G − b is computed before θ and w move. Weightings of ∇ln π(A_t|S_t, θ):

    total               G_0 − b(S_0)         (Σ_t ∇ln π_t)(Σ_t γ^t R_{t+1}), the likelihood ratio
    reward_to_go        γ^t (G_t − b(S_t))   the box; the same expectation
    undiscounted_state  G_t − b(S_t)         γ^t dropped, as most code has it

What it ascends: with total and reward_to_go in the form `batch`, the expected gradient is ∇J, J =
E[Σ_t γ^t R_{t+1}]. undiscounted_state moves θ along Σ_s Σ_t Pr(S_t = s) Σ_a ∇π(a|s) q(s, a). For γ
< 1 this is not ∇J (Thomas 2014), and in general the gradient of no function (Nota & Thomas 2020,
cited from memory). Truncated episodes make the gradient biased. So does the form `moving`, since θ
changes within the episode. One sample need not improve the policy: Pr(ĝ·∇J > 0) of `total`
without baseline is .31 to .78 in the laboratory's worlds. The baseline of least variance is not v
(exact.variance says why).

Forms: `batch` takes the gradient at a fixed θ, summed over an episode's steps and averaged over
`episodes_per_update` episodes. `moving` is the box to the letter: θ and w move at every t, and
b(S_t) uses the current w (with `total`: b(S_0), at the w of t = 0).

Departures from the box: optimisers other than sgd. If an episode is truncated, γ^{T−t} v̂(S_T, w) is
added to G_t; without a learned v̂ nothing is added.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from algorithms.common.config import Checked, Count, NonNegative, OptimizerName, Unit
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, make_policy, make_value
from algorithms.common.types import Act, Env, Gradient, Training
from algorithms.common.world import BLOCK, Position, check_finite, entered, returns
from npgrad import OPTIMIZERS, Array, Head, at

WEIGHTINGS = ("total", "reward_to_go", "undiscounted_state")


@dataclass(frozen=True)
class Config(Checked):
    gamma: Unit = 0.99
    """Discount γ (common practice; Sutton & Barto's corridor has 1)."""
    weighting: Literal["total", "reward_to_go", "undiscounted_state"] = "reward_to_go"
    """The factor of ∇ln π_t: see the table at the top of this file. The box has reward_to_go."""
    form: Literal["batch", "moving"] = "batch"
    """batch: one gradient per update, at a fixed θ; moving: the box, θ moves at every step."""
    episodes_per_update: Count = 1
    """Episodes averaged in one update, for batch (the box has 1)."""
    baseline: Literal["none", "mean", "value"] = "value"
    """b: none (§13.3), mean: running mean of the returns, value: learned v̂ (§13.4)."""
    step_size: NonNegative = 2e-3
    """α^θ, the policy's step size (tuned on CartPole-v1 for adam)."""
    step_size_w: NonNegative = 1e-2
    """α^w, the value function's step size (tuned on CartPole-v1 for adam)."""
    optimizer: OptimizerName = "adam"
    """Turns both gradients into steps, with the constants of npgrad.optimizers: momentum α .99;
    rmsprop α .99, ε .1 inside the root (A3C's); rmsprop_outside α .99, ε 1e-8; adam .9, .999, 1e-8.
    The box has sgd."""
    network: Network = field(default_factory=Network)


def weights(t: Array, G: Array, b: Array, gamma: float, weighting: str) -> Array:
    """Return the factors of ∇ln π(A_t|S_t, θ) at times t (n,), given all G and b (T,)."""
    if weighting == "total":
        return np.full(len(t), G[0] - b[0])
    if weighting == "reward_to_go":
        return gamma**t * (G[t] - b[t])
    return G[t] - b[t]


def objective(h: Array, head: Head, A: Array, weights: Array) -> float:
    """Σ_t weights_t ln π(A_t|S_t), to be ascended. h (T, size) are the policy's outputs; weights
    (T,) are numbers."""
    return np.sum(weights * head(h).log_prob(A))


def gradient(h: Array, head: Head, A: Array, weights: Array) -> Array:
    """∂ objective/∂h (T, size) = weights_t ∂ln π(A_t|S_t)/∂h_t. Sum over t; ascent."""
    return weights[:, None] * head(h).score(A)


def value_objective(v: Array, G: Array) -> float:
    """Σ_t ½ (G_t − v_t)², to be descended. v (T,) are the outputs v̂(S_t, w); G (T,) are numbers."""
    return 0.5 * np.sum((G - v) ** 2)


def value_gradient(v: Array, G: Array) -> Array:
    """∂ value_objective/∂v (T,) = −(G_t − v_t). Sum over t; descent."""
    return v - G


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: Array
    w: Array  # empty without a learned baseline
    theta_statistics: Array  # of the optimiser
    w_statistics: Array
    d_theta: Array  # Σ of the gradients of the episodes since the last update
    d_w: Array
    rng: np.random.Generator
    world: Position
    waiting: int = 0  # episodes since the last update
    mean_return: float = 0.0  # the running mean that baseline "mean" takes for b
    returns_seen: int = 0  # number of returns in that mean
    optimizer_steps: int = 0
    steps: int = 0
    episodes: int = 0


def init(env: Env, config: Config, seed: int) -> State:
    """The State before learning. Raises ValueError for spaces that have no policy here."""
    for_theta, for_w, rng = np.random.default_rng(seed).spawn(3)
    statistics = OPTIMIZERS[config.optimizer].statistics
    theta = make_policy(env, config.network).model.init(for_theta)
    w = make_value(env, config.network).init(for_w) if config.baseline == "value" else np.empty(0)
    sums, world = (np.zeros_like(theta), np.zeros_like(w)), Position(int(rng.integers(2**31)))
    return State(theta, w, statistics(theta), statistics(w), *sums, rng, world)


def actor(env: Env, config: Config) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    return make_policy(env, config.network).act


def train(env: Env, config: Config, state: State, gradient: Gradient = gradient,
          value_gradient: Gradient = value_gradient) -> Training:  # fmt: skip
    """The box as an endless generator: yields Metrics after every episode, and within one after
    every BLOCK steps. What it yields there is a State that a run can go on from."""
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    head, pi = policy.head, at(policy.model, state.theta)
    v = at(value, state.w) if config.baseline == "value" else None
    learn = learn_moving if config.form == "moving" else learn_batch
    with entered(env, state.world, record=True) as world:
        while True:
            for noise in head.noise(state.rng, BLOCK):
                world.step(head(pi.forward(world.s)).sample(noise))
                state.steps += 1
                if world.ended:
                    learn(state, config, world.episode, head, pi, v, gradient, value_gradient)
                    check_finite(
                        state.steps,
                        theta=(state.theta, state.theta_statistics),
                        w=(state.w, state.w_statistics),
                    )
                    state.episodes += 1
                    break
            yield Metrics.of(state, world.ended)


def targets(state, config, v, episode):
    """(G, b) of an episode, both (T,), at the current w."""
    if v is None:
        b = state.mean_return if config.baseline == "mean" else 0.0
        return returns(episode.R, config.gamma), np.full(len(episode.R), b)
    v_final = 0.0 if episode.terminated else v.forward(episode.s_final)[0]
    return returns(episode.R, config.gamma, v_final), v.forward(episode.S)[:, 0].copy()


def learn_batch(state, config, episode, head, pi, v, gradient, value_gradient):
    """Add an episode's gradients, at fixed θ and w; step when there are enough episodes."""
    G, b = targets(state, config, v, episode)
    weight = weights(np.arange(len(G)), G, b, config.gamma, config.weighting)
    h, n = pi.forward(episode.S), config.episodes_per_update
    state.d_theta += pi.backward(gradient(h, head, episode.A, weight)) / n
    if v is not None:
        state.d_w += v.backward(value_gradient(b, G)[:, None]) / n
    learn_mean(state, config, G)
    state.waiting += 1
    if state.waiting == n:
        step(state, config, state.d_theta, state.d_w)
        state.d_theta[:], state.d_w[:], state.waiting = 0.0, 0.0, 0


def learn_moving(state, config, episode, head, pi, v, gradient, value_gradient):
    """The box: for t = 0 ... T−1, w and θ move, by the gradient of that step alone."""
    G, b = targets(state, config, v, episode)
    for t in np.arange(len(G))[:, None]:
        S, A, d_w = episode.S[t], episode.A[t], state.w
        if v is not None:  # w has moved at earlier t, not yet at this one
            b[t] = v.forward(S)[:, 0]
            d_w = v.backward(value_gradient(b[t], G[t])[:, None])
        weight = weights(t, G, b, config.gamma, config.weighting)
        d_theta = pi.backward(gradient(pi.forward(S), head, A, weight))
        step(state, config, d_theta, d_w)
    learn_mean(state, config, G)


def learn_mean(state, config, G):
    """The running mean over all returns G_t so far (G_0 for `total`), for the NEXT episodes."""
    seen = G[:1] if config.weighting == "total" else G
    state.returns_seen += len(seen)
    state.mean_return += float(np.sum(seen - state.mean_return)) / state.returns_seen


def step(state, config, d_theta, d_w):
    """θ ascends, w descends; both gradients were computed before either moves."""
    optimizer = OPTIMIZERS[config.optimizer].step
    state.optimizer_steps += 1
    t = state.optimizer_steps
    state.theta += optimizer(d_theta, state.theta_statistics, t, config.step_size)
    state.w -= optimizer(d_w, state.w_statistics, t, config.step_size_w)
