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

Descent, SUMMED over steps. A truncated step or segment bootstraps like one that goes on. The first
worker to notice that T has passed a multiple of I_target copies θ⁻ ← θ; no other waits. Each worker
has a final ε, to which its ε falls linearly from 1 while T grows to `epsilon_steps`. Optimisers and
annealing of η are A3C's (algorithms.a3c). `epsilon` is that of ε-greedy, `eps` that of RMSProp.

What they descend: Σ (y − Q)² with y held fixed (a semi-gradient), over the states that ε-greedy
policies visit. For a table Q the fixed point is q* (one-step Q) or q of the ε-greedy policy (Sarsa,
if all workers have the same ε); neither for n steps, whose rewards come from ε-greedy actions. For
other approximators it need not minimise any error.

Departures: T counts a step only after the update that uses it; if a worker is killed, the steps
since its last update are lost. θ⁻ is copied after that count. Each worker draws its final ε once;
the paper's is "periodically sampled" (§4), without a period. ε is that of a segment's first step.
In threads and processes θ may move between Q(s, ·; θ) and its gradient; resumed, they cut episodes.
"""

from dataclasses import dataclass
from math import isfinite
from numbers import Real

import numpy as np
from gymnasium.spaces import Discrete

from algorithms.common import drivers
from algorithms.common.asynchronous import (
    ACT,
    PULL,
    PUSH,
    Asynchronous,
    Shared,
    begin,
    enter,
    landed,
    running,
    start,
    stepper,
    total,
)
from algorithms.common.config import Count, check
from algorithms.common.policy import Policy, make_policy
from algorithms.common.types import Act, Env, Gradient, Schedule, Training
from algorithms.common.world import returns, spaces
from npgrad import Array, at


@dataclass(frozen=True)
class Common(Asynchronous):
    """Hyper-parameters of all three methods."""

    I_target: Count = 1000
    """Steps of T between copies of the target (the paper's 40,000, for Atari)."""
    final_epsilons: tuple[float, ...] = (0.1, 0.01, 0.5)
    """A worker's final ε is drawn from these (the paper's). Each in [0, 1]."""
    epsilon_chances: tuple[float, ...] = (0.4, 0.3, 0.3)
    """With these probabilities (the paper's). One for each, summing to 1."""
    epsilon_steps: Count = 10_000
    """Steps of T over which ε falls from 1 (the paper's 4 million, for Atari)."""

    def __post_init__(self) -> None:
        check(self)
        finals, chances = self.final_epsilons, self.epsilon_chances
        numbers = lambda x: isinstance(x, (tuple, list)) and all(isinstance(e, Real) for e in x)
        if not (numbers(finals) and finals and all(0.0 <= e <= 1.0 for e in finals)):
            raise ValueError(f"final_epsilons = {finals}: must be one or more numbers in [0, 1]")
        shares = numbers(chances) and len(chances) == len(finals) and min(chances) >= 0.0
        if not (shares and abs(sum(chances) - 1.0) <= 1e-9):
            raise ValueError(
                f"epsilon_chances = {chances}: must be {len(finals)} numbers, at least 0, of sum 1"
            )


@dataclass(frozen=True)
class OneStepQ(Common):
    """Asynchronous one-step Q-learning: `async-q`."""

    I_async_update: Count = 5
    """Steps of a worker between its updates (the paper's)."""


@dataclass(frozen=True)
class OneStepSarsa(OneStepQ):
    """Asynchronous one-step Sarsa: `async-sarsa`."""


@dataclass(frozen=True)
class NStepQ(Common):
    """Asynchronous n-step Q-learning: `async-n-step-q`."""

    t_max: Count = 5
    """Steps of a segment, at most (the paper's)."""


def objective(q: Array, A: Array, y: Array) -> float:
    """Σ_i (y_i − Q(s_i, a_i))², to be descended. q (k, actions) are the network's outputs; A (k,)
    are the actions taken; y (k,) are numbers."""
    return np.sum((y - q[np.arange(len(A)), A]) ** 2)


def gradient(q: Array, A: Array, y: Array) -> Array:
    """∂ objective/∂q (k, actions): −2 (y_i − Q(s_i, a_i)) for the action taken, 0 for the others.
    Sum over i; descent."""
    g, taken = np.zeros_like(q), (np.arange(len(A)), A)
    g[taken] = -2.0 * (y - q[taken])
    return g


def target(config: Common, r: float, terminated: bool, q2: Array, a2: int | None) -> float:
    """y = r + γ max_a' q2, or r + γ q2[a2] for Sarsa (a2 an action); r alone if s' is terminal.
    q2 (actions,) are Q(s', ·; θ⁻)."""
    if terminated:
        return r
    return r + config.gamma * (q2.max() if a2 is None else q2[a2])


@dataclass
class State(Shared):
    theta_target: Array  # θ⁻
    copied: Array  # (1,) T // I_target as θ⁻ was copied last
    final_epsilon: Array  # (N,)


def init(env: Env, config: Common, seed: int) -> State:
    """The State before learning. Raises ValueError unless the actions are Discrete."""
    policy = discrete_policy(env, config)
    rng = np.random.default_rng(seed)
    fields = start(config, seed, policy.model.init(rng))
    final = rng.choice(config.final_epsilons, config.workers, p=config.epsilon_chances)
    copied = np.zeros(1, np.int64)
    return State(**fields, theta_target=fields["theta"].copy(), copied=copied, final_epsilon=final)


def discrete_policy(env: Env, config: Common) -> Policy:
    """A Policy whose model is Q(s, ·). Raises ValueError unless the actions are Discrete."""
    if not isinstance(spaces(env).action, Discrete):
        raise ValueError(f"action_space = {spaces(env).action}: must be Discrete")
    return make_policy(env, config.network)


def actor(env: Env, config: Common) -> Act:
    """act(parameters, observation, rng, greedy) -> argmax_a Q, for env.step; always greedy."""
    act = discrete_policy(env, config).act
    return lambda parameters, o, rng, greedy=False: act(parameters, o, rng, True)


def train(env: Env, config: Common, state: State, gradient: Gradient = gradient,
          schedule: Schedule = None) -> Training:  # fmt: skip
    """Algorithm 1 or S2 with config.workers workers as a generator that ends once T > T_max: yields
    Metrics after every update (see algorithms.common.drivers, also for env and `schedule`)."""
    worker = n_step if isinstance(config, NStepQ) else one_step
    return drivers.train(worker, env, config, state, schedule, gradient=gradient)


def epsilon(config, state, i):
    """ε of worker i at the present T."""
    done = min(1.0, total(state.T) / config.epsilon_steps)
    return 1.0 + done * (float(state.final_epsilon[i]) - 1.0)


def choose(q: Array, chance: float, rng: np.random.Generator) -> int:
    """ε-greedy: any action with probability ε = chance, else argmax q. Raises FloatingPointError
    where q is not finite."""
    a = int(q.argmax())
    if not isfinite(q[a]):
        raise FloatingPointError(f"theta has diverged: Q(s, ·) = {q}")
    return int(rng.integers(len(q))) if rng.random() < chance else a


def copy_target(config, state):
    """θ⁻ ← θ if T has passed a multiple of I_target since the last copy."""
    passed = total(state.T) // config.I_target
    if passed > state.copied[0]:
        state.copied[0] = passed
        state.theta_target[:] = state.theta


def one_step(i, env, config, state, gradient):
    """Actor-learner i: Algorithm 1, from "repeat" to "until"."""
    model, sarsa = discrete_policy(env, config).model, isinstance(config, OneStepSarsa)
    me, world, step = state.learners[i], enter(env, state, i), stepper(config, state, i)
    Q, Q_target = at(model, state.theta), at(model, state.theta_target)
    while running(config, state, i):
        if me.next == PULL:
            me.d[:], me.k, me.seen, me.next = 0.0, 0, total(state.updates), ACT
            yield "pulled", 0
        while me.next == ACT:
            if me.ended:
                me.rng, me.a = begin(state, i), None
            q, chance = Q.forward(world.s), epsilon(config, state, i)
            a = choose(q, chance, me.rng) if me.a is None else me.a
            r, s2, terminated, _ = world.step(a)
            me.a = choose(Q.forward(s2, 1), chance, me.rng) if sarsa else None
            y = target(config, r, terminated, Q_target.forward(s2), me.a)
            me.d += Q.backward(gradient(q[None], np.array([a]), np.array([y])))
            me.k, me.ended = me.k + 1, world.ended
            t = state.T[i] + me.k  # the box's
            me.next = PUSH if world.ended or t % config.I_async_update == 0 else ACT
            yield "computed" if me.next == PUSH else "pulled", 1
        state.theta -= step(me.d)
        landed(state, i, me.k, me.seen)
        copy_target(config, state)
        me.next = PULL
        yield "pushed", me.ended


def n_step(i, env, config, state, gradient):
    """Actor-learner i: Algorithm S2, from "repeat" to "until"."""
    model, me = discrete_policy(env, config).model, state.learners[i]
    world, step = enter(env, state, i), stepper(config, state, i)
    Q, Q_target = at(model, me.theta), at(model, state.theta_target)
    while running(config, state, i):
        if me.next == PULL:
            me.seen, me.next = total(state.updates), ACT
            me.theta[:] = state.theta
            yield "pulled", 0
        if me.next == ACT:
            me.rng = begin(state, i) if me.ended else me.rng
            A, r, chance, me.ended = [], [], epsilon(config, state, i), ()
            while len(r) < config.t_max and not me.ended:
                A.append(choose(Q.forward(world.s, len(r)), chance, me.rng))
                reward, s, terminated, _ = world.step(A[-1])
                r.append(reward)
                me.ended = world.ended
            y = returns(r, config.gamma, 0.0 if terminated else Q_target.forward(s).max())
            me.d[:] = Q.backward(gradient(Q.outputs(len(r)), np.array(A), y))
            me.k, me.next = len(r), PUSH
            yield "computed", me.k
        state.theta -= step(me.d)
        landed(state, i, me.k, me.seen)
        copy_target(config, state)
        me.next = PULL
        yield "pushed", me.ended
