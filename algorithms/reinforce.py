"""REINFORCE, with and without baseline. Sutton & Barto 2018, §13.3–13.4, boxes p. 328 and p. 330.

    G_t = R_{t+1} + γ R_{t+2} + ... + γ^{T−t−1} R_T
    θ ← θ + α^θ γ^t (G_t − b(S_t)) ∇ln π(A_t|S_t, θ)           (13.8, 13.11; ascent on J(θ))
    w ← w + α^w (G_t − v̂(S_t, w)) ∇v̂(S_t, w)                   (descent on ½(G_t − v̂)²; no γ^t)

R[t] in the code is R_{t+1}, the reward that follows A_t; γ^t is the box's, (13.8) and (13.11) have
none. b is 0, a running mean of the returns, or the learned v̂. All G are computed before anything
moves; so is b, but see `moving`. Weightings of ∇ln π(A_t|S_t, θ):

    total               G_0 − b(S_0)         (Σ_t ∇ln π_t)(Σ_t γ^t R_{t+1}), the likelihood ratio
    reward_to_go        γ^t (G_t − b(S_t))   the box; the same expectation
    undiscounted_state  G_t − b(S_t)         γ^t dropped, as most code has it: BIASED for γ < 1

Forms: `batch` takes the gradient at a fixed θ, summed over each episode's steps and averaged over
`episodes_per_update` episodes (unbiased, but for undiscounted_state and truncated episodes);
`moving` is the box to the letter: θ and w move at every t, and b(S_t) is of the w of then.

Departures from the box: optimisers other than sgd; a truncated episode's return goes on from
v̂(S_T, w), which needs the learned baseline: without it the return ends with the data.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from algorithms.common.episode import play
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, check, make_policy, make_value
from npgrad.optimizers import OPTIMIZERS

WEIGHTINGS = ("total", "reward_to_go", "undiscounted_state")


@dataclass(frozen=True)
class Config:
    gamma: float = 0.99
    """Discount γ (common practice; Sutton & Barto's corridor has 1). In [0, 1]."""
    weighting: Literal["total", "reward_to_go", "undiscounted_state"] = "reward_to_go"
    """What multiplies ∇ln π_t: see the page's table. reward_to_go is Sutton & Barto's box."""
    form: Literal["batch", "moving"] = "batch"
    """batch: one gradient per update, at a fixed θ; moving: the box, θ moves at every step."""
    episodes_per_update: int = 1
    """Episodes averaged in one update, for batch (the box has 1). At least 1."""
    baseline: Literal["none", "mean", "value"] = "value"
    """b: none (§13.3), mean: running mean of the returns, value: learned v̂ (§13.4)."""
    step_size: float = 2e-3
    """α^θ, the policy's step size (tuned on CartPole-v1 for adam). At least 0."""
    step_size_w: float = 1e-2
    """α^w, the value function's step size (tuned on CartPole-v1 for adam). At least 0."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "rmsprop_outside", "adam"] = "adam"
    """How both gradients become steps; constants are npgrad.optimizers' own: momentum α .99;
    rmsprop α .99, ε .1 inside the root (A3C's); rmsprop_outside α .99, ε 1e-8; adam .9, .999, 1e-8.
    The box has sgd."""
    network: Network = field(default_factory=Network)

    def __post_init__(self):
        check(self, gamma=(0.0, 1.0), step_size=(0.0, np.inf), step_size_w=(0.0, np.inf))
        check(self, weighting=WEIGHTINGS, form=("batch", "moving"), optimizer=tuple(OPTIMIZERS))
        check(self, baseline=("none", "mean", "value"), episodes_per_update=(1, np.inf))


def returns(R, gamma, v_final=0.0):
    """G_t = R[t] + γ G_{t+1}, with G_T = v_final. Shape (T,)."""
    G = np.empty(len(R))
    g = v_final
    for t in range(len(R) - 1, -1, -1):
        g = R[t] + gamma * g
        G[t] = g
    return G


def weights(t, G, b, gamma, weighting):
    """What multiplies ∇ln π(A_t|S_t, θ) at times t (n,), given all G and b (T,)."""
    if weighting == "total":
        return np.full(len(t), G[0] - b[0])
    if weighting == "reward_to_go":
        return gamma**t * (G[t] - b[t])
    return G[t] - b[t]


def objective(theta, policy, S, A, weights):
    """Σ_t weights_t ln π(A_t|S_t, θ), to be ascended; weights are numbers."""
    return np.sum(weights * policy.log_prob(theta, S, A))


def gradient(theta, policy, S, A, weights):
    """∇_θ objective = Σ_t weights_t ∇ln π(A_t|S_t, θ). Sum over t; ascent."""
    return policy.score(theta, S, A, weights)


def value_objective(w, value, S, G):
    """Σ_t ½ (G_t − v̂(S_t, w))², to be descended; G are numbers."""
    return 0.5 * np.sum((G - value(w, S)[:, 0]) ** 2)


def value_gradient(w, value, S, G):
    """∇_w value_objective = −Σ_t (G_t − v̂(S_t, w)) ∇v̂(S_t, w). Sum over t; descent."""
    v, pullback = value.vjp(w, S)
    return pullback(v - G[:, None])[0]


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: np.ndarray
    w: np.ndarray  # empty without a learned baseline
    theta_statistics: np.ndarray  # of the optimiser
    w_statistics: np.ndarray
    rng: np.random.Generator
    mean_return: float = 0.0  # the running mean that baseline "mean" takes for b
    returns_seen: int = 0  # number of returns in that mean
    optimizer_steps: int = 0
    steps: int = 0
    episodes: int = 0


def init(env, config, seed):
    """The State before learning. Raises ValueError for spaces that have no policy here."""
    for_theta, for_w, rng = np.random.default_rng(seed).spawn(3)
    optimizer = OPTIMIZERS[config.optimizer]
    theta = make_policy(env, config.network).model.init(for_theta)
    w = make_value(env, config.network).init(for_w) if config.baseline == "value" else np.empty(0)
    return State(theta, w, optimizer.statistics(theta), optimizer.statistics(w), rng)


def actor(env, config):
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    policy = make_policy(env, config.network)

    def act(parameters, observation, rng, greedy=False):
        h = policy.model(parameters["theta"], policy.encode(observation))
        head = policy.head
        return policy.decode(head.mode(h) if greedy else head.sample(h, head.noise(rng, 1)[0]))

    return act


def train(env, config, state, gradient=gradient, value_gradient=value_gradient):
    """The box as an endless generator: yields Metrics after the update(s) of each batch."""
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    update = update_moving if config.form == "moving" else update_batch
    while True:
        n = 1 if config.form == "moving" else config.episodes_per_update
        episodes = [play(env, policy, state.theta, state.rng) for _ in range(n)]
        update(state, config, policy, value, episodes, gradient, value_gradient)
        state.steps += sum(len(e.R) for e in episodes)
        state.episodes += n
        yield Metrics(
            steps=state.steps,
            episodes=state.episodes,
            returns=tuple(float(e.R.sum()) for e in episodes),
            lengths=tuple(len(e.R) for e in episodes),
            scalars={},
        )


def targets(state, config, value, episode):
    """(G, b) of an episode, both (T,), at the w that is current."""
    if config.baseline != "value":
        b = state.mean_return if config.baseline == "mean" else 0.0
        return returns(episode.R, config.gamma), np.full(len(episode.R), b)
    v_final = 0.0 if episode.terminated else value(state.w, episode.s_final)[0]
    return returns(episode.R, config.gamma, v_final), value(state.w, episode.S)[:, 0]


def learn_mean(state, config, G):
    """The running mean over all returns G_t so far (G_0 for `total`), for the NEXT episodes."""
    seen = G[:1] if config.weighting == "total" else G
    state.returns_seen += len(seen)
    state.mean_return += float(np.sum(seen - state.mean_return)) / state.returns_seen


def update_batch(state, config, policy, value, episodes, gradient, value_gradient):
    """One step of θ and of w along gradients at fixed θ and w, averaged over the episodes."""
    d_theta, d_w = np.zeros_like(state.theta), np.zeros_like(state.w)
    both = [targets(state, config, value, episode) for episode in episodes]
    for episode, (G, b) in zip(episodes, both):
        weight = weights(np.arange(len(G)), G, b, config.gamma, config.weighting)
        d_theta += gradient(state.theta, policy, episode.S, episode.A, weight) / len(episodes)
        if config.baseline == "value":
            d_w += value_gradient(state.w, value, episode.S, G) / len(episodes)
    for G, _ in both:
        learn_mean(state, config, G)
    step(state, config, d_theta, d_w)


def update_moving(state, config, policy, value, episodes, gradient, value_gradient):
    """The box: for t = 0 ... T−1, w and θ move, by the gradient of that step alone."""
    (episode,) = episodes
    G, b = targets(state, config, value, episode)
    for t in np.arange(len(G))[:, None]:
        S, A = episode.S[t], episode.A[t]
        if config.baseline == "value":  # w has moved at earlier t, not yet at this one
            b[t] = value(state.w, S)[:, 0]
        weight = weights(t, G, b, config.gamma, config.weighting)
        d_theta = gradient(state.theta, policy, S, A, weight)
        d_w = value_gradient(state.w, value, S, G[t]) if state.w.size else state.w
        step(state, config, d_theta, d_w)
    learn_mean(state, config, G)


def step(state, config, d_theta, d_w):
    """θ ascends, w descends; both gradients were computed before either moves."""
    optimizer = OPTIMIZERS[config.optimizer].step
    state.optimizer_steps += 1
    t = state.optimizer_steps
    state.theta += optimizer(d_theta, state.theta_statistics, t, config.step_size)
    state.w -= optimizer(d_w, state.w_statistics, t, config.step_size_w)
