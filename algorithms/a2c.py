"""A2C: synchronous advantage actor–critic, A3C (Mnih et al. 2016, §4) in N environments at once.

Repeat until T > T_max:

    for t = 0 ... n−1, in all N environments:  a_t ~ π(·|s_t; θ); take it, observe r_t and s'_t
    for t = n−1 ... 0:  R_t = r_t                 if the episode terminated in step t
                              r_t + γ V(s'_t; θ)  if the data stop there: truncated, or t = n−1
                              r_t + γ [(1−λ) V(s'_t; θ) + λ R_{t+1}]   otherwise
    dθ = Σ w [ (R − V) ∇ln π(a|s; θ) + β ∇H(π(·|s; θ)) + c (R − V) ∇V(s; θ) ]            (ascent)
    θ ← θ + step(dθ);   T ← T + number of steps

The sum runs over all steps of all environments. R, and V in the first term, are numbers. Weights:

    w = 1/N                     reduction "sum": summed over the steps, averaged over environments;
                                with N = 1 it is A3C's gradient of the same segment
    w = 1/number of steps       reduction "mean": averaged over both, as common code has it
    w = 0                       where `real` is False: the environment only reset itself

λ = 1 gives A3C's n-step return. Else R − V is GAE's Σ_k (γλ)^k δ_{t+k}, δ_t = r_t + γ V(s'_t) −
V(s_t), up to where the data stop (Schulman et al. 2016, eqs 11–16). λ is `lam` here, α `decay`, ε
`eps`, η `step_size`; optimisers are sgd, and momentum and RMSProp of A3C §4.

What it ascends: the expected dθ is not ∇J, J = E[Σ_t γ^t r_t], for A3C's reasons but one. For γ <
1, a step's weight lacks γ^t. The bootstrap is biased as far as V is wrong; steps beyond a time
limit are left out. The entropy term is taken at each visited state only; it ignores that an action
also changes which states come later (entropy "return" counts that, by R_t = r_t + β H_t + ...). No
gradient is stale: all segments have the same θ and enter one update. But the clock ends them, not
the episode: in `npgrad/Chain-v0`, n = 5 and V = v/2, the bootstrap adds 0.48 |∇J|, and in A3C
nothing, whose segments hold whole episodes there (`npgrad laboratory`, exactly).

A vector environment is resumed by repeating its steps, up to 1e6 actions (Discrete(128): 1e7).
"""

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from algorithms.a2c_scaling import Scaled, acting, seen_spaces
from algorithms.common.config import (
    PRECISIONS,
    BelowOne,
    Checked,
    Count,
    Limit,
    NonNegative,
    Positive,
    Precision,
    Unit,
)
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, Policy, make_actor_critic, soft_rewards
from algorithms.common.types import Act, Envs, Gradient, Training
from algorithms.common.world import HasSpaces, Position, check_finite, encoder, spaces
from algorithms.common.worlds import beside, close, positions, vectorized
from npgrad import OPTIMIZERS, ActorCritic, Array, Head
from npgrad.memory import aligned_copy
from npgrad.optimizers import clip_norm

SETTINGS = MappingProxyType({"sgd": (), "momentum": ("decay",), "rmsprop": ("decay", "eps")})


@dataclass(frozen=True)
class Config(Checked):
    environments: Count = 8
    """N, if the environment is not a vector of them already (common practice)."""
    vectorization: Literal["sync", "async", "vector_entry_point"] = "sync"
    """Gymnasium's ways: in turn, in processes, or the environment's own vectorised form."""
    n_steps: Count = 5
    """n, steps of an update in each environment (A3C's t_max)."""
    T_max: Count = 1_000_000
    """Environment steps in all, after which learning ends."""
    gamma: Unit = 0.99
    """Discount γ (A3C's)."""
    lam: Unit = 1.0
    """λ of the returns (A3C's is 1). Below 1, they lean more on V: less variance, more bias."""
    beta: NonNegative = 0.01
    """β, weight of the entropy (A3C's; 1e-4 for continuous actions)."""
    entropy: Literal["step", "return"] = "step"
    """step: β∇H at each step (A3C §4); return: R counts βH too, as a reward (Schulman, Chen &
    Abbeel 2017, arXiv 1704.06440)."""
    value_coef: NonNegative = 1.0
    """c, weight of (R − V) ∇V."""
    reduction: Literal["sum", "mean"] = "mean"
    """Over the n steps; over the environments it is the mean."""
    trunk: Literal["shared", "separate"] = "separate"
    """One network for policy and value, or a network each."""
    step_size: NonNegative = 1e-3
    """η at the start (tuned on CartPole-v1)."""
    annealed: bool = False
    """η falls linearly, to 0 at T_max (as A3C's does)."""
    optimizer: Literal["sgd", "momentum", "rmsprop"] = "rmsprop"
    """How dθ becomes a step (A3C §4)."""
    decay: BelowOne = 0.99
    """α of momentum and RMSProp (A3C's)."""
    eps: Positive = 1e-5
    """ε of RMSProp, inside the root (common practice)."""
    max_norm: Limit = np.inf
    """Limit on the norm of dθ."""
    normalize_observations: bool = False
    """Act on normalised features, (s − mean)/s.d., both running (algorithms.a2c_scaling)."""
    normalize_returns: bool = False
    """Learn from rewards divided by the running s.d. of Σ_k γ^k r_{t−k}, the past rewards
    discounted backwards from now (common practice)."""
    precision: Precision = "single"
    """Floating-point numbers of θ and all that belongs to it. single is faster."""
    network: Network = field(default_factory=Network)


def objective(h: Array, v: Array, head: Head, A: Array, R: Array, advantage: Array, w: Array,
              beta: float, c: float) -> float:  # fmt: skip
    """Σ w [advantage ln π(A) + β H(π) − ½ c (R − v)²], to be ascended.

    h (k, size) and v (k,) are the networks' outputs in all k = n N steps. A (k, ...) are actions;
    the returns R, advantage = R − v and the weights w (k,) are numbers.
    """
    pi = head(h)
    gain = advantage * pi.log_prob(A) + beta * pi.entropy()
    return np.sum(w * (gain - 0.5 * c * (R - v) ** 2))


def gradient(h: Array, v: Array, head: Head, A: Array, R: Array, advantage: Array, w: Array,
             beta: float, c: float) -> tuple[Array, Array]:  # fmt: skip
    """(∂/∂h, ∂/∂v) objective: w [advantage ∂ln π/∂h + β ∂H/∂h] (k, size) and w c (R − v) (k,).
    Sum over all steps, with weights w; ascent."""
    pi = head(h)
    d_h = advantage[:, None] * pi.score(A) + beta * pi.entropy_gradient()
    return w[:, None] * d_h, w * c * (R - v)


def returns(r: Array, gamma: float, stops: Array, v_next: Array, lam: Array | float = 1.0) -> Array:
    """R_t = r_t + γ [(1−λ) v_next_t + λ R_{t+1}], with 0 for λ where the data stop in step t. They
    stop in every environment's last. All (n, N). v_next is V(s'), 0 if the episode terminated."""
    lam = lam * (1 - stops.astype(r.dtype))
    R, goes_on = r + gamma * (1 - lam) * v_next, gamma * lam
    for t in reversed(range(len(r) - 1)):
        R[t] += goes_on[t] * R[t + 1]
    return R


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "seen")
    theta: Array
    seen: Array  # moments of the features, if they are normalised (algorithms.a2c_scaling)
    returned: Array  # moments of the discounted returns, if they are
    statistics: Array  # of the optimiser
    trace: Array  # (N,) Σ_k γ^k r_{t−k} within each episode
    rng: np.random.Generator
    worlds: list[Position]  # one for each environment; one of a vector
    T: int = 0  # environment steps
    updates: int = 0
    episodes: int = 0


def init(env: Envs, config: Config, seed: int) -> State:
    """The State before learning. Raises ValueError for spaces that have no policy here, and for
    environments that cannot be vectorised as config says."""
    policy = policy_of(env, config)
    envs = vectorized(env, config.environments, config.vectorization)
    N = len(envs) if isinstance(envs, list) else envs.num_envs
    for_theta, rng = np.random.default_rng(seed).spawn(2)
    places = positions(envs, int(rng.integers(2**31)))
    close(envs, env)
    theta = aligned_copy(policy.model.init(for_theta), PRECISIONS[config.precision])
    statistics = aligned_copy(OPTIMIZERS[config.optimizer].statistics(theta))
    n, _ = encoder(spaces(env).observation)
    moments = np.zeros((3, n)), np.zeros((3, 1))
    return State(theta, *moments, statistics, np.zeros(N), rng, places)


def policy_of(env: HasSpaces, config: Config) -> Policy:
    """π and v̂."""
    return make_actor_critic(seen_spaces(env, config), config.network, config.trunk)


def actor(env: Envs, config: Config) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    policy = policy_of(env, config)
    return acting(policy, env) if config.normalize_observations else policy.act


def train(env: Envs, config: Config, state: State, gradient: Gradient = gradient) -> Training:
    """The loop above as a generator: yields Metrics after every update, and ends once T > T_max.

    env is an environment or a function that makes one, of which there will be config.environments;
    or a VectorEnv, which is used as it is.
    """
    envs = vectorized(env, config.environments, config.vectorization)
    try:
        yield from learn(envs, config, state, gradient)
    finally:
        close(envs, env)


def learn(envs, config, state, gradient):
    """`train` in environments that exist."""
    policy = policy_of(envs[0] if isinstance(envs, list) else envs, config)
    worlds = beside(envs, state.worlds)
    state.trace[~worlds.resumed] = 0.0
    if config.normalize_observations or config.normalize_returns:
        worlds = Scaled(worlds, config, state)
    n, N, dtype, head = config.n_steps, worlds.N, state.theta.dtype, policy.head
    net, gradient = ActorCritic(policy.model, state.theta), policy.compiled(gradient)
    S, S2 = np.empty((2, n, *worlds.s.shape), worlds.s.dtype)
    r, v_next = np.empty((2, n, N), dtype)
    terminated, truncated, real = np.empty((3, n, N), bool)
    while state.T <= config.T_max:
        A, noise = [], head.noise(state.rng, n * N)
        noise = noise.reshape(n, N, *noise.shape[1:])
        for t in range(n):
            S[t] = worlds.s
            A.append(head(net.act(S[t], t * N)).sample(noise[t]))
            r[t], S2[t], terminated[t], truncated[t], real[t] = worlds.step(A[t])
        stops = terminated | truncated
        stops[-1] = True
        bootstraps = stops & ~terminated
        seen = np.concatenate([S.reshape(n * N, *S.shape[2:]), S2[bootstraps]])
        h, v = net.evaluate(seen, n * N)
        v, last = v[: n * N], v[n * N :]
        v_next[:-1] = v.reshape(n, N)[1:]  # s'_t is s_{t+1} where the data go on
        v_next[terminated], v_next[bootstraps] = 0.0, last
        counted = soft_rewards(r, h, head, config.beta, config.entropy)
        R = returns(counted, config.gamma, stops, v_next, config.lam).ravel()
        steps = int(np.count_nonzero(real))
        w = real.ravel() / dtype.type(N if config.reduction == "sum" else max(1, steps))
        advantage, A = R - v, np.concatenate(A)  # numbers: nothing is differentiated through them
        data = head, A, R, advantage, w, config.beta, config.value_coef
        d = net.backward(*gradient(h, v, *data))
        if steps:
            ascend(config, state, d)
        state.T += steps
        ended = worlds.take_ended()
        state.episodes += len(ended)
        yield Metrics(state.T, state.episodes, *(tuple(zip(*ended)) or ((), ())), {})


def ascend(config, state, d):
    """θ ← θ + step(dθ), dθ clipped to max_norm. Raises FloatingPointError for a dθ that is not
    finite, before anything moves; and if the step leaves θ or its statistics not finite."""
    check_finite(state.T, theta=d)
    clip_norm(d, config.max_norm)
    eta = config.step_size * (max(0.0, 1.0 - state.T / config.T_max) if config.annealed else 1.0)
    settings = {name: getattr(config, name) for name in SETTINGS[config.optimizer]}
    state.updates += 1
    optimizer = OPTIMIZERS[config.optimizer].step
    state.theta += optimizer(d, state.statistics, state.updates, eta, **settings)
    check_finite(state.T, theta=(state.theta, state.statistics))
