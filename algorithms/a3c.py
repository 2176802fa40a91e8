"""A3C: asynchronous advantage actor–critic. Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3, §4.

Each worker, with its own copy θ' of the shared θ, repeats until T > T_max:

    θ' ← θ
    act with π(·|s; θ') for k ≤ t_max steps, or until the episode ends
    R ← 0 if terminated, else V(s_k; θ')
    for i = k−1 ... 0:   R_i ← r_i + γ R_{i+1}
    dθ = Σ_i [ ∇ln π(a_i|s_i; θ') (R_i − V(s_i; θ')) + β ∇H(π(·|s_i; θ'))             (ascent, §4)
                + c (R_i − V(s_i; θ')) ∇V(s_i; θ') ]           (that is −c ∇½(R_i − V(s_i; θ'))²)
    θ ← θ + step(dθ), without locks;   T ← T + k

SUMMED over the steps. r are rewards, R returns. R_i and, in the first term, V are numbers. θ holds
the policy's parameters and the paper's θ_v: one network with two linear heads (trunk "shared"), or
two networks. c is value_coef: 1 where the box's ∂(R − V)² is read as ½(R − V)²; its author's factor
of ½ on the square's gradient is the same. The box leaves out the entropy H, in nats, which §4 adds;
the "entropy cost" that §9 gives for the Gaussian, −½(ln 2πσ² + 1), is −H. Optimisers (§4.5), η
annealed to 0 over T_max:

    sgd                  step = η dθ
    momentum             m ← αm + (1−α)dθ,     step = η m                  m of each worker
    rmsprop              g ← αg + (1−α)dθ²,    step = η dθ/√(g + ε)      g of each worker (eqs 8–9)
    shared_rmsprop       the same with one g, shared like θ

α is `decay` here, ε `eps`, η `step_size`.

Departures: T counts a step once its update is in, so that a worker that is killed takes the steps
it had not yet turned into an update with it. A State taken up again begins with new episodes: an
environment's inside cannot be saved.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from algorithms.common import drivers
from algorithms.common.asynchronous import (
    Asynchronous,
    Shared,
    begin,
    landed,
    start,
    stepper,
    total,
)
from algorithms.common.episode import noise_rows
from algorithms.common.policy import check, make_actor_critic
from algorithms.common.segment import Segment
from npgrad.memory import aligned_copy


@dataclass(frozen=True)
class Config(Asynchronous):
    t_max: int = 5
    """Steps of a segment, at most (the paper's 5). At least 1."""
    beta: float = 0.01
    """β, weight of the entropy (the paper's; 1e-4 for continuous actions). At least 0."""
    value_coef: float = 1.0
    """c, weight of (R − V) ∇V. At least 0."""
    trunk: Literal["shared", "separate"] = "separate"
    """One network for policy and value, or a network each (the paper's for continuous actions)."""

    def __post_init__(self):
        super().__post_init__()
        check(self, t_max=(1, np.inf), beta=(0.0, np.inf), value_coef=(0.0, np.inf))
        check(self, trunk=("shared", "separate"))


State = Shared


def objective(theta, policy, S, A, R, advantage, beta, value_coef):
    """Σ_i advantage_i ln π(a_i|s_i) + β H(π(·|s_i)) − ½ c (R_i − V(s_i))², to be ascended.

    S (k, n), A (k, ...); R (k,) returns and advantage (k,) = R − V(S; θ') are numbers.
    """
    y, head = policy.model(theta, S), policy.head
    h, v = y[:, :-1], y[:, -1]
    gain = advantage * head.log_prob(h, A) + beta * head.entropy(h)
    return np.sum(gain - 0.5 * value_coef * (R - v) ** 2)


def gradient(theta, policy, S, A, R, advantage, beta, value_coef):
    """∇_θ objective: Σ_i advantage_i ∇ln π + β ∇H + c (R_i − V) ∇V. Sum over i; ascent."""
    y, pullback = policy.model.vjp(theta, S)
    g_h, g_v = output_gradient(y[:, :-1], y[:, -1], policy, A, R, advantage, beta, value_coef)
    g = np.concatenate([g_h, g_v[:, None]], axis=1, dtype=theta.dtype)
    return pullback(g)[0]


def output_gradient(h, v, policy, A, R, advantage, beta, value_coef, memory=None):
    """∂ objective/∂h (k, m), advantage · score + β · entropy_gradient, and ∂ objective/∂v (k,), to
    be pulled back through the model."""
    return policy.head.ascent(h, A, advantage, beta, memory), value_coef * (R - v)


def returns(r, gamma, last):
    """R_i = r_i + γ R_{i+1}, with R_k = last: of k rewards in a list, (k,)."""
    R = np.empty(len(r))
    for i in range(len(r) - 1, -1, -1):
        R[i] = last = r[i] + gamma * last
    return R


def init(env, config, seed):
    """The State before learning. Raises ValueError for spaces that have no policy here."""
    model = make_actor_critic(env, config.network, config.trunk).model
    return State(**start(config, seed, model.init(np.random.default_rng(seed))))


def actor(env, config):
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    policy = make_actor_critic(env, config.network, config.trunk)

    def act(parameters, observation, rng, greedy=False):
        h = policy.model(parameters["theta"], policy.encode(observation))[:-1]
        head = policy.head
        return policy.decode(head.mode(h) if greedy else head.sample(h, head.noise(rng, 1)[0]))

    return act


def train(env, config, state, gradient=None, schedule=None):
    """Algorithm S3 with config.workers workers, each in an environment like env, as a generator
    that ends once T > T_max: yields Metrics after every update, from threads and processes when
    episodes ended (see algorithms.common.drivers, also for `schedule`).

    gradient defaults to the page's own, in memory set aside once.
    """
    return drivers.train(worker, env, config, state, schedule, gradient=gradient)


def worker(i, env, config, state, gradient=None):
    """Actor-learner i: Algorithm S3 from "repeat" to "until"."""
    policy = make_actor_critic(env, config.network, config.trunk)
    theta = aligned_copy(state.theta)
    segment, step, over = Segment(policy, theta, config.t_max), stepper(config, state, i), True
    while total(state.T) <= config.T_max:
        seen = total(state.updates)
        theta[:] = state.theta
        yield "pulled", 0
        if over:
            observation, rng = begin(state, i, env)
            s, noise = policy.encode(observation), noise_rows(policy.head, rng)
            G, length, over = 0.0, 0, False
        A, r = [], []
        while len(r) < config.t_max and not over:
            a = policy.head.sample(segment.act(len(r), s), next(noise))
            observation, reward, terminated, truncated, _ = env.step(policy.decode(a))
            s, over = policy.encode(observation), terminated or truncated
            A.append(a), r.append(float(reward))
        d = segment_gradient(config, policy, segment, theta, A, r, s, terminated, gradient)
        yield "computed", len(r)
        state.theta += step(d)
        landed(state, i, len(r), seen)
        G, length = G + sum(r), length + len(r)
        yield "pushed", ((G, length),) if over else ()


def segment_gradient(config, policy, segment, theta, A, r, s, terminated, gradient=None):
    """dθ of the k = len(r) steps that `segment` has seen, s being the features after them.

    Raises FloatingPointError if the environment gave what is not finite.
    """
    k, A = len(r), np.array(A)
    h, v = segment.evaluate(k, s)
    segment.check_finite(k, r)
    R = returns(r, config.gamma, 0.0 if terminated else float(v[k]))
    advantage, v = R - v[:k], v[:k]
    weights = config.beta, config.value_coef
    if gradient is not None:
        return gradient(theta, policy, segment.states(k), A, R, advantage, *weights)
    memory = segment.memory
    return segment.backward(*output_gradient(h, v, policy, A, R, advantage, *weights, memory))
