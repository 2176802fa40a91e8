"""A2C: synchronous advantage actor–critic, A3C (Mnih et al. 2016, §4) in N environments at once.

Repeat until T > T_max:

    act with π(·|s; θ) for n steps in each of N environments, which start again as they end
    R_i ← r_i + γ R_{i+1} back to front, within an episode; of its last step
          R_i ← r_i if it terminated, r_i + γ V(s'; θ) if it was truncated, s' its last state;
          after the n-th step R ← V(s; θ)
    dθ = Σ_i w_i [ ∇ln π(a_i|s_i; θ) (R_i − V(s_i; θ)) + β ∇H(π(·|s_i; θ))
                    + c (R_i − V(s_i; θ)) ∇V(s_i; θ) ]                               (ascent)
    θ ← θ + step(dθ);   T ← T + number of samples

The terms in brackets are A3C's (algorithms.a3c), R_i and, in the first, V being numbers. The weight

    w_i = 1/N                      reduction "sum": summed over the steps, averaged over the
                                   environments; with N = 1, A3C's gradient of the same segment
    w_i = 1/number of samples      reduction "mean": averaged over both, as common code has it

Where the environments take a step to reset (autoreset mode NEXT_STEP), it is no sample: w_i = 0,
and no return goes through it. α is `decay` here, ε `eps`, η `step_size`; optimisers are A3C's §4.5.

Against A3C: where N of its workers add Σ_i Δ_i, each in its own time (the founding notes' 3.3.2),
one update here makes 1/N Σ_i Δ_i of N segments at the same θ (with reduction "mean" over n, too).

Departure: a State taken up again begins with new episodes, since an environment's inside cannot be
saved.
"""

from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from algorithms.a3c import output_gradient
from algorithms.common.metrics import Metrics
from algorithms.common.policy import (
    BELOW_1,
    PRECISIONS,
    TINY,
    Network,
    check,
    encoder,
    make_actor_critic,
)
from algorithms.common.segment import Segment
from algorithms.common.vector import (
    VECTORIZATIONS,
    Single,
    Stream,
    check_vector,
    draw,
    make,
    noise_rows,
    normalize,
)
from npgrad import OPTIMIZERS, Softmax
from npgrad.memory import aligned, aligned_copy
from npgrad.optimizers import clip_norm

SETTINGS = MappingProxyType({"sgd": (), "momentum": ("decay",), "rmsprop": ("decay", "eps")})


@dataclass(frozen=True)
class Config:
    environments: int = 8
    """N, if the environment is not a vector of them already (common practice). At least 1."""
    vectorization: Literal["sync", "async", "vector_entry_point"] = "sync"
    """Gymnasium's ways: in turn, in processes, or the environment's own vectorised form."""
    n_steps: int = 5
    """n, steps of an update in each environment (A3C's t_max). At least 1."""
    T_max: int = 1_000_000
    """Environment steps in all, after which learning ends. At least 1."""
    gamma: float = 0.99
    """Discount γ (A3C's). In [0, 1]."""
    beta: float = 0.01
    """β, weight of the entropy (A3C's; 1e-4 for continuous actions). At least 0."""
    value_coef: float = 1.0
    """c, weight of (R − V) ∇V. At least 0."""
    reduction: Literal["sum", "mean"] = "mean"
    """Over the n steps; over the environments it is the mean."""
    trunk: Literal["shared", "separate"] = "separate"
    """One network for policy and value, or a network each."""
    step_size: float = 1e-3
    """η at the start (tuned on CartPole-v1). At least 0."""
    annealed: bool = False
    """η falls linearly, to 0 at T_max (as A3C's does)."""
    optimizer: Literal["sgd", "momentum", "rmsprop"] = "rmsprop"
    """How dθ becomes a step (A3C §4.5)."""
    decay: float = 0.99
    """α of momentum and RMSProp (A3C's). At least 0, below 1."""
    eps: float = 1e-5
    """ε of RMSProp, inside the root (common practice). Above 0."""
    max_norm: float = np.inf
    """Limit on the norm of dθ. Above 0."""
    normalize_observations: bool = False
    """Act on features less their running mean, over their running standard deviation."""
    normalize_returns: bool = False
    """Learn from rewards over the running standard deviation of Σ_k γ^k r_{t−k}, past rewards
    discounted backwards from now (common practice)."""
    precision: Literal["single", "double"] = "single"
    """Floating-point numbers of θ and all that belongs to it. single is faster."""
    network: Network = field(default_factory=Network)

    def __post_init__(self):
        check(self, environments=(1, np.inf), n_steps=(1, np.inf), T_max=(1, np.inf))
        check(self, gamma=(0.0, 1.0), beta=(0.0, np.inf), value_coef=(0.0, np.inf))
        check(self, reduction=("sum", "mean"), trunk=("shared", "separate"))
        check(self, step_size=(0.0, np.inf), optimizer=tuple(SETTINGS), decay=(0.0, BELOW_1))
        check(self, eps=(TINY, np.inf), max_norm=(TINY, np.inf), precision=tuple(PRECISIONS))
        check(self, vectorization=VECTORIZATIONS)


def objective(theta, policy, S, A, R, advantage, weight, beta, value_coef):
    """Σ_i w_i [advantage_i ln π(a_i|s_i) + β H(π(·|s_i)) − ½ c (R_i − V(s_i))²], to be ascended.

    S (k, n), A (k, ...) of all environments; R, advantage = R − V(S) and weight (k,) are numbers.
    """
    y, head = policy.model(theta, S), policy.head
    h, v = y[:, :-1], y[:, -1]
    gain = advantage * head.log_prob(h, A) + beta * head.entropy(h)
    return np.sum(weight * (gain - 0.5 * value_coef * (R - v) ** 2))


def gradient(theta, policy, S, A, R, advantage, weight, beta, value_coef):
    """∇_θ objective: Σ_i w_i [advantage_i ∇ln π + β ∇H + c (R_i − V) ∇V]. Sum over i; ascent."""
    y, pullback = policy.model.vjp(theta, S)
    g_h, g_v = output_gradient(y[:, :-1], y[:, -1], policy, A, R, advantage, beta, value_coef)
    return pullback(weight[:, None] * np.concatenate([g_h, g_v[:, None]], axis=1))[0]


def returns(r, discount, last, out=None):
    """R_t = r_t + discount_t R_{t+1}, with R_n = last (N,); all (n, N). The discount is γ, or 0 in
    the step that ends an episode."""
    R = np.empty_like(r) if out is None else out
    for t in range(len(r) - 1, -1, -1):
        last = np.multiply(last, discount[t], R[t])
        last += r[t]
    return R


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "seen")
    theta: np.ndarray
    seen: np.ndarray  # moments of the features, if they are normalised (algorithms.common.vector)
    returned: np.ndarray  # moments of the discounted returns, if they are
    statistics: np.ndarray  # of the optimiser
    rng: np.random.Generator
    T: int = 0  # environment steps
    updates: int = 0
    episodes: int = 0


def init(env, config, seed):
    """The State before learning. Raises ValueError for spaces that have no policy here, and for
    environments that cannot be vectorised as config says."""
    policy = make_actor_critic(Single(env), config.network, config.trunk)
    check_vector(env, config.vectorization)
    for_theta, rng = np.random.default_rng(seed).spawn(2)
    theta = aligned_copy(policy.model.init(for_theta), PRECISIONS[config.precision])
    statistics = aligned_copy(OPTIMIZERS[config.optimizer].statistics(theta))
    n, _ = encoder(Single(env).observation_space)
    return State(theta, np.zeros((3, n)), np.zeros((3, 1)), statistics, rng)


def actor(env, config):
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    policy = make_actor_critic(Single(env), config.network, config.trunk)

    def act(parameters, observation, rng, greedy=False):
        s = policy.encode(observation)
        if config.normalize_observations:
            s = normalize(parameters["seen"], s)
        h, head = policy.model(parameters["theta"], s)[:-1], policy.head
        return policy.decode(head.mode(h) if greedy else head.sample(h, head.noise(rng, 1)[0]))

    return act


def train(env, config, state, gradient=None):
    """The loop above, as a generator that ends once T > T_max: yields Metrics after every update.

    env is one environment, of which config.environments are made, or a VectorEnv as it is.
    gradient defaults to the page's own, in memory set aside once.
    """
    envs = make(env, config.environments, config.vectorization)
    try:
        yield from learn(envs, config, state, gradient)
    finally:
        if envs is not env:
            envs.close()


def learn(envs, config, state, gradient):
    """`train`, in environments that are there."""
    policy = make_actor_critic(Single(envs), config.network, config.trunk)
    n, N, dtype = config.n_steps, envs.num_envs, state.theta.dtype
    segment = Segment(policy, state.theta, n, N)
    seen = state.seen if config.normalize_observations else None
    returned = state.returned if config.normalize_returns else None
    stream = Stream(envs, n, dtype, seen, returned, config.gamma)
    update = Update(config, state, policy, segment, stream, gradient)
    noise = noise_rows(policy.head, state.rng, N, dtype)
    stream.start(int(state.rng.integers(2**31)))
    while state.T <= config.T_max:
        for t, a in enumerate(update.A):
            draw(policy.head, segment.act(t, stream.s), next(noise), a)
            stream.step(t, policy.decode(a))
        ended = update()
        state.episodes += len(ended)
        yield Metrics(state.T, state.episodes, *(zip(*ended) if ended else ((), ())), {})


class Update:
    """From a rollout to the next θ, in memory set aside once; A (n, N, ...) are its actions."""

    def __init__(self, config, state, policy, segment, stream, gradient):
        self.config, self.state, self.policy = config, state, policy
        self.segment, self.stream, self.gradient = segment, stream, gradient
        (n, N), theta, head = stream.r.shape, state.theta, policy.head
        discrete = isinstance(head, Softmax)
        self.A = np.empty((n, N), np.intp) if discrete else np.empty((n, N, head.d), theta.dtype)
        self.R, self.advantage, self.weight, self.g_v = np.empty((4, n * N), theta.dtype)
        self.step = aligned(theta.shape, theta.dtype)
        self.discount, self.after = np.empty((n, N), theta.dtype), np.empty(N, theta.dtype)
        self.ends = None if stream.final is None else Segment(policy, theta, 1, N)

    def __call__(self):
        """dθ, θ ← θ + step(dθ), T; returns (return, length) of each episode that ended.

        Raises FloatingPointError, before θ moves, unless all that was observed and the norm of dθ
        are finite.
        """
        config, state, stream = self.config, self.state, self.stream
        (n, N), segment = stream.r.shape, self.segment
        discount, S = self.discount, segment.states(n + 1)
        with np.errstate(all="ignore"):
            h, v = segment.evaluate(n, stream.s)
            ended = stream.finish()
            samples = int(np.count_nonzero(stream.real))
            if not samples:
                return ended
            np.copyto(discount, config.gamma)
            np.copyto(discount, 0.0, where=stream.over[1:])
            if np.count_nonzero(stream.truncated):
                self.bootstrap(v)
            returns(stream.r, discount, v[n * N :], self.R.reshape(n, N))
            np.subtract(self.R, v[: n * N], self.advantage)
            np.copyto(self.weight, stream.real.reshape(-1))
            self.weight /= N if config.reduction == "sum" else samples
            d = self.total(h)
            if not (isfinite(d.dot(d)) and isfinite(np.add.reduce(S, None))):
                stream.check_finite(S)
            ascend(config, state, d, self.step)
        state.T += samples
        return ended

    def bootstrap(self, v):
        """r ← r + γ V(s') where a step was truncated."""
        N, final, truncated = self.stream.r.shape[1], self.stream.final, self.stream.truncated
        for t in np.flatnonzero(truncated.any(1)):
            after = v[(t + 1) * N :][:N] if final is None else self.ends.evaluate(0, final[t])[1]
            np.multiply(after, self.config.gamma, self.after)
            np.add(self.stream.r[t], self.after, self.stream.r[t], where=truncated[t])
        if final is not None and not np.isfinite(final).all():
            self.stream.check_finite(self.segment.states(len(final) + 1))

    def total(self, h):
        """dθ, from h, the policy's outputs."""
        config, segment, advantage, weight = self.config, self.segment, self.advantage, self.weight
        beta, c = config.beta, config.value_coef
        A = self.A.reshape(len(self.R), *self.A.shape[2:])
        if self.gradient is not None:
            S = segment.states(len(self.A))
            data = S, A, self.R, advantage, weight
            return self.gradient(self.state.theta, self.policy, *data, beta, c)
        g_h = self.policy.head.ascent(h, A, advantage, beta, segment.memory)
        g_h *= weight[:, None]
        np.multiply(advantage, c, self.g_v)  # at the rollout's θ, R − V is the advantage
        self.g_v *= weight
        return segment.backward(g_h, self.g_v)


def ascend(config, state, d, out):
    """θ ← θ + step(d), by way of `out`; d is clipped in place.

    Raises FloatingPointError, before anything moves, unless the norm of d is finite.
    """
    norm = float(np.sqrt(d.dot(d)))
    if not isfinite(norm):
        raise FloatingPointError(f"theta has diverged: ‖dθ‖ = {norm} at T = {state.T}")
    if config.max_norm < np.inf:
        clip_norm(d, config.max_norm)
    eta = config.step_size * (max(0.0, 1.0 - state.T / config.T_max) if config.annealed else 1.0)
    settings = {name: getattr(config, name) for name in SETTINGS[config.optimizer]}
    state.updates += 1
    optimizer = OPTIMIZERS[config.optimizer].step
    state.theta += optimizer(d, state.statistics, state.updates, eta, **settings, out=out)
