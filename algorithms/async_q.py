"""Asynchronous one-step Q, one-step Sarsa, n-step Q. Mnih et al. 2016, Algorithms 1 and S2, §4.

Workers share θ, a target θ⁻ and T (arXiv 1602.01783), and act ε-greedily. One step (Algorithm 1),
on the SHARED θ:

    y = r                                    if s' is terminal
        r + γ max_a' Q(s', a'; θ⁻)           Q-learning
        r + γ Q(s', a'; θ⁻)                  Sarsa: a' is the action that is taken next
    dθ ← dθ + ∂(y − Q(s, a; θ))²/∂θ          = −2 (y − Q) ∇Q(s, a; θ), y being a number
    T ← T + 1,   t ← t + 1                               (t counts the worker's own)
    if T has passed a multiple of I_target:              θ⁻ ← θ
    if t mod I_AsyncUpdate = 0 or the episode is over:   θ ← θ − step(dθ),  dθ ← 0

n steps (Algorithm S2), with a copy θ' ← θ that acts for k ≤ t_max steps, or until the episode ends:

    R ← 0 if s_k is terminal, else max_a Q(s_k, a; θ⁻)
    for i = k−1 ... 0:   R ← r_i + γR,   dθ ← dθ + ∂(R − Q(s_i, a_i; θ'))²/∂θ'
    θ ← θ − step(dθ);   T ← T + k;   θ⁻ ← θ as above

Descent, SUMMED over steps. A truncated step or segment bootstraps like one that goes on. Whichever
worker sees that T has passed a multiple of I_target copies θ⁻ ← θ; nobody waits. Every worker draws
a final ε of its own, to which its ε falls linearly from 1 over the first `epsilon_steps` of T.
Optimisers (§4.5) and the annealing of η are A3C's (algorithms.a3c). `epsilon` is that of ε-greedy,
`eps` that of RMSProp.

Departures: T counts a step once its update is in, so that a worker that is killed takes the steps
it had not yet turned into an update with it; θ⁻ is copied after that. n steps keep the ε of their
first. In threads and processes θ may move between Q(s, ·; θ) and its gradient, as it may in the
box. A State taken up again begins with new episodes: an environment's inside cannot be saved.
"""

from dataclasses import dataclass
from math import isfinite
from numbers import Real

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
from algorithms.common.online import finite
from algorithms.common.policy import check, make_policy
from npgrad import Softmax
from npgrad.rows import rows


@dataclass(frozen=True)
class Common(Asynchronous):
    """What the three methods have in common."""

    I_target: int = 1000
    """Steps of T between copies of the target (the paper's 40,000, for Atari). At least 1."""
    final_epsilons: tuple[float, ...] = (0.1, 0.01, 0.5)
    """What a worker's final ε is drawn from (the paper's). Each in [0, 1]."""
    epsilon_chances: tuple[float, ...] = (0.4, 0.3, 0.3)
    """With these probabilities (the paper's). One for each, summing to 1."""
    epsilon_steps: int = 10_000
    """Steps of T over which ε falls from 1 (the paper's 4 million, for Atari). At least 1."""

    def __post_init__(self):
        super().__post_init__()
        check(self, I_target=(1, np.inf), epsilon_steps=(1, np.inf))
        finals, chances = self.final_epsilons, self.epsilon_chances
        if not (numbers(finals) and finals and all(0.0 <= e <= 1.0 for e in finals)):
            raise ValueError(f"final_epsilons = {finals}: must be one or more numbers in [0, 1]")
        shares = numbers(chances) and len(chances) == len(finals) and min(chances) >= 0.0
        if not (shares and abs(sum(chances) - 1.0) <= 1e-9):
            raise ValueError(
                f"epsilon_chances = {chances}: must be {len(finals)} numbers, at least 0, of sum 1"
            )


def numbers(x):
    return isinstance(x, (tuple, list)) and all(isinstance(e, Real) for e in x)


@dataclass(frozen=True)
class OneStepQ(Common):
    """Asynchronous one-step Q-learning: `async-q`."""

    I_async_update: int = 5
    """Steps of a worker between its updates (the paper's). At least 1."""

    def __post_init__(self):
        super().__post_init__()
        check(self, I_async_update=(1, np.inf))


@dataclass(frozen=True)
class OneStepSarsa(OneStepQ):
    """Asynchronous one-step Sarsa: `async-sarsa`."""


@dataclass(frozen=True)
class NStepQ(Common):
    """Asynchronous n-step Q-learning: `async-n-step-q`."""

    t_max: int = 5
    """Steps of a segment, at most (the paper's). At least 1."""

    def __post_init__(self):
        super().__post_init__()
        check(self, t_max=(1, np.inf))


def objective(theta, model, S, A, y):
    """Σ_i (y_i − Q(s_i, a_i; θ))², to be descended; y (k,) are numbers. S (k, n), A (k,)."""
    return np.sum((y - model(theta, S)[np.arange(len(A)), A]) ** 2)


def gradient(theta, model, S, A, y):
    """∇_θ objective = Σ_i −2 (y_i − Q(s_i, a_i)) ∇Q(s_i, a_i; θ). Sum over i; descent."""
    q, pullback = model.vjp(theta, np.asarray(S, theta.dtype))
    return pullback(output_gradient(q, A, y))[0]


def output_gradient(q, A, y):
    """∂ objective/∂q (k, actions): zero but for the actions that were taken."""
    g, taken = np.zeros_like(q), (np.arange(len(A)), A)
    g[taken] = -2.0 * (y - q[taken])
    return g


@dataclass
class State(Shared):
    theta_target: np.ndarray  # θ⁻
    copied: np.ndarray  # (1,) T // I_target as θ⁻ was copied last
    final_epsilon: np.ndarray  # (N,)


def init(env, config, seed):
    """The State before learning. Raises ValueError unless the actions are Discrete."""
    policy = make_policy(env, config.network)
    if not isinstance(policy.head, Softmax):
        raise ValueError(f"action_space = {env.action_space}: must be Discrete")
    rng = np.random.default_rng(seed)
    fields = start(config, seed, policy.model.init(rng))
    final = rng.choice(config.final_epsilons, config.workers, p=config.epsilon_chances)
    return State(
        **fields,
        theta_target=fields["theta"].copy(),
        copied=np.zeros(1, np.int64),
        final_epsilon=final,
    )


def actor(env, config):
    """act(parameters, observation, rng, greedy) -> argmax_a Q, for env.step; always greedy."""
    policy = make_policy(env, config.network)

    def act(parameters, observation, rng, greedy=False):
        q = policy.model(parameters["theta"], policy.encode(observation))
        return policy.decode(int(q.argmax()))

    return act


def train(env, config, state, gradient=None, schedule=None):
    """Algorithm 1 or S2 with config.workers workers, each in an environment like env, as a
    generator that ends once T > T_max: yields Metrics after every update, from threads and
    processes when episodes ended (see algorithms.common.drivers, also for `schedule`).

    gradient defaults to the page's own, in memory set aside once.
    """
    worker = n_step if isinstance(config, NStepQ) else one_step
    return drivers.train(worker, env, config, state, schedule, gradient=gradient)


def epsilon(config, state, i):
    """ε of worker i at the present T."""
    done = min(1.0, total(state.T) / config.epsilon_steps)
    return 1.0 + done * (float(state.final_epsilon[i]) - 1.0)


def choose(q, chance, rng):
    """ε-greedy: any action with probability ε = chance, else argmax q."""
    return int(rng.integers(len(q))) if rng.random() < chance else int(q.argmax())


def copy_target(config, state):
    """θ⁻ ← θ if T has passed a multiple of I_target since the last copy."""
    passed = total(state.T) // config.I_target
    if passed > state.copied[0]:
        state.copied[0] = passed
        state.theta_target[:] = state.theta


def observe(env, policy, a):
    """Take a: (s', r, terminated, truncated). Raises FloatingPointError for what is not finite."""
    observation, r, terminated, truncated, _ = env.step(policy.decode(a))
    s = policy.encode(observation)
    if not (isfinite(r) and finite(s.tolist())):
        raise FloatingPointError(
            f"the environment returned reward {r} and observation {s}: both must be finite"
        )
    return s, float(r), terminated, truncated


def one_step(i, env, config, state, gradient=None):
    """Actor-learner i: Algorithm 1, from "repeat" to "until"."""
    policy, sarsa = make_policy(env, config.network), isinstance(config, OneStepSarsa)
    model, d, over = policy.model, np.empty_like(state.theta), True
    q_rows = rows(model, state.theta, np.empty_like(d), 1)
    q_shared, q_target = model.bind(state.theta), model.bind(state.theta_target)
    step = stepper(config, state, i)
    while total(state.T) <= config.T_max:
        d[:], k, due, seen = 0.0, 0, False, total(state.updates)
        while not due:
            yield "pulled", int(k > 0)
            if over:
                observation, rng = begin(state, i, env)
                s, a, G, length = policy.encode(observation), None, 0.0, 0
            q = q_rows.forward(0, s)
            if a is None:
                a = choose(q, epsilon(config, state, i), rng)
            s2, r, terminated, truncated = observe(env, policy, a)
            a2 = choose(q_shared(s2), epsilon(config, state, i), rng) if sarsa else None
            q2 = q_target(s2)
            y = r + config.gamma * (0.0 if terminated else q2[a2] if sarsa else q2.max())
            if gradient is None:
                d += q_rows.backward(output_gradient(q[None], [a], np.array([y])), 1)
            else:
                d += gradient(state.theta, model, s[None], np.array([a]), np.array([y]))
            over, k, s, a = terminated or truncated, k + 1, s2, a2
            due = over or (state.T[i] + k) % config.I_async_update == 0  # T[i] + k is the box's t
            G, length = G + r, length + 1
        yield "computed", 1
        state.theta -= step(d)
        landed(state, i, k, seen)
        copy_target(config, state)
        yield "pushed", ((G, length),) if over else ()


def n_step(i, env, config, state, gradient=None):
    """Actor-learner i: Algorithm S2, from "repeat" to "until"."""
    policy, theta, over = make_policy(env, config.network), state.theta.copy(), True
    model = policy.model
    q_rows = rows(model, theta, np.empty_like(theta), config.t_max)
    q_target, step = model.bind(state.theta_target), stepper(config, state, i)
    while total(state.T) <= config.T_max:
        seen = total(state.updates)
        theta[:] = state.theta
        yield "pulled", 0
        if over:
            observation, rng = begin(state, i, env)
            s, G, length, over = policy.encode(observation), 0.0, 0, False
        S, A, r, chance = [], [], [], epsilon(config, state, i)
        while len(r) < config.t_max and not over:
            a = choose(q_rows.forward(len(r), s), chance, rng)
            S.append(s)
            s, reward, terminated, truncated = observe(env, policy, a)
            over = terminated or truncated
            A.append(a), r.append(reward)
        k, R = len(r), 0.0 if terminated else q_target(s).max()
        y = np.empty(k)
        for j in range(k - 1, -1, -1):
            y[j] = R = r[j] + config.gamma * R
        if gradient is None:
            d = q_rows.backward(output_gradient(q_rows.outputs(k), A, y), k)
        else:
            d = gradient(theta, model, np.array(S), np.array(A), y)
        yield "computed", k
        state.theta -= step(d)
        landed(state, i, k, seen)
        copy_target(config, state)
        G, length = G + sum(r), length + k
        yield "pushed", ((G, length),) if over else ()
