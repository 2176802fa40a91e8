"""A3C: asynchronous advantage actor–critic. Mnih et al. 2016 (arXiv 1602.01783v2), Algorithm S3.

Each worker, with its own copy θ' of the shared θ, repeats until T > T_max:

    θ' ← θ
    act with π(·|s; θ') for k ≤ t_max steps, or until the episode ends
    R_k ← 0 if terminated, else V(s_k; θ')
    for i = k−1 ... 0:   R_i ← r_i + γ R_{i+1}
    dθ = Σ_i [ ∇ln π(a_i|s_i; θ') (R_i − V(s_i; θ')) + β ∇H(π(·|s_i; θ'))             (ascent, §4)
                + c (R_i − V(s_i; θ')) ∇V(s_i; θ') ]           (that is −c ∇½(R_i − V(s_i; θ'))²)
    θ ← θ + step(dθ), without locks;   T ← T + k

SUMMED over the steps. r are rewards, R returns. R_i and, in the first term, V are numbers. θ holds
the policy's parameters and the paper's θ_v: one network with two linear heads (trunk "shared"), or
two networks. c is value_coef: 1 where the box's ∂(R − V)² is read as ½(R − V)²; its author's factor
of ½ on the square's gradient is the same. The box leaves out the entropy H, in nats, which §4 adds;
the "entropy cost" that §9 gives for the Gaussian, −½(ln 2πσ² + 1), is −H. Optimisers
(sgd, and those of §4), η annealed to 0 over T_max:

    sgd                  step = η dθ
    momentum             m ← αm + (1−α)dθ,     step = η m                  m of each worker
    rmsprop              g ← αg + (1−α)dθ²,    step = η dθ/√(g + ε)      g of each worker
    shared_rmsprop       the same with one g, shared like θ

α is `decay` here, ε `eps`, η `step_size`.

What it ascends: the expected dθ is not ∇J, J = E[Σ_t γ^t r_t], for these reasons. For γ < 1, a
step's weight lacks γ^t, as in REINFORCE's `undiscounted_state`. The bootstrap R_k ← V(s_k) is
biased as far as V is wrong, also where a time limit cuts the episode; the steps beyond the limit
are left out. The entropy term is taken at each visited state only; it ignores that an action also
changes which states come later. And dθ, computed at θ', is added to a θ that other workers have
moved meanwhile (staleness).

`npgrad laboratory` splits the expected dθ of a finite world into these parts, exactly. In
`npgrad/Chain-v0`, t_max = 2 and V = v/2, the lack of γ^t adds 0.10 |∇J|, the bootstrap 0.84 |∇J|.
The entropy term has the cosine 0.952 with the gradient of E[Σ_t γ^t H_t]; entropy "return" is for
that: R_i ← r_i + β H_i + γ R_{i+1}, from which V learns the value with entropy. Under sgd, an
update that is k updates old is off by 0.14 η k of its own length, to first order in η.

Departures: T counts a step only after the update that uses it; if a worker is killed, the steps
since its last update are lost and not counted. Resuming a run in threads or processes starts new
episodes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

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
from algorithms.common.config import Count, NonNegative
from algorithms.common.policy import make_actor_critic, soft_rewards
from algorithms.common.types import Act, Env, Gradient, Schedule, Training
from algorithms.common.world import returns
from npgrad import ActorCritic, Array, Head


@dataclass(frozen=True)
class Config(Asynchronous):
    t_max: Count = 5
    """Steps of a segment, at most (the paper's 5)."""
    beta: NonNegative = 0.01
    """β, weight of the entropy (the paper's; 1e-4 for continuous actions)."""
    entropy: Literal["step", "return"] = "step"
    """step: β∇H at each step (the paper's §4); return: R counts βH too, as a reward (Schulman, Chen
    & Abbeel 2017, arXiv 1704.06440)."""
    value_coef: NonNegative = 1.0
    """c, weight of (R − V) ∇V."""
    trunk: Literal["shared", "separate"] = "separate"
    """One network for policy and value, or a network each (the paper's for continuous actions)."""


State = Shared


def objective(h: Array, v: Array, head: Head, A: Array, R: Array, advantage: Array,
              beta: float, value_coef: float) -> float:  # fmt: skip
    """Σ_i advantage_i ln π(a_i|s_i) + β H(π(·|s_i)) − ½ c (R_i − v_i)², to be ascended.

    h (k, size) and v (k,) are the networks' outputs at s_0 ... s_{k−1}. A (k, ...) are actions; the
    returns R (k,) and advantage (k,) = R − v are numbers.
    """
    pi = head(h)
    gain = advantage * pi.log_prob(A) + beta * pi.entropy()
    return np.sum(gain - 0.5 * value_coef * (R - v) ** 2)


def gradient(h: Array, v: Array, head: Head, A: Array, R: Array, advantage: Array,
             beta: float, value_coef: float) -> tuple[Array, Array]:  # fmt: skip
    """(∂/∂h, ∂/∂v) objective: advantage_i ∂ln π/∂h + β ∂H/∂h (k, size), and c (R_i − v_i) (k,).
    Sum over i; ascent."""
    pi = head(h)
    return (
        advantage[:, None] * pi.score(A) + beta * pi.entropy_gradient(),
        value_coef * (R - v),
    )


def init(env: Env, config: Config, seed: int) -> State:
    """The State before learning. Raises ValueError for spaces that have no policy here."""
    model = make_actor_critic(env, config.network, config.trunk).model
    return State(**start(config, seed, model.init(np.random.default_rng(seed))))


def actor(env: Env, config: Config) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    return make_actor_critic(env, config.network, config.trunk).act


def train(env: Env, config: Config, state: State, gradient: Gradient = gradient,
          schedule: Schedule = None) -> Training:  # fmt: skip
    """Algorithm S3 with config.workers workers, each in an environment like env, as a generator
    that ends once T > T_max: yields Metrics after every update, from threads and processes when
    episodes ended (see algorithms.common.drivers, also for `schedule`)."""
    return drivers.train(worker, env, config, state, schedule, gradient=gradient)


def worker(i, env, config, state, gradient):
    """Actor-learner i: Algorithm S3 from "repeat" to "until"."""
    policy, me = make_actor_critic(env, config.network, config.trunk), state.learners[i]
    world, head, step = enter(env, state, i), policy.head, stepper(config, state, i)
    net, gradient = ActorCritic(policy.model, me.theta), policy.compiled(gradient)
    while running(config, state, i):
        if me.next == PULL:
            me.seen, me.next = total(state.updates), ACT
            me.theta[:] = state.theta
            yield "pulled", 0
        if me.next == ACT:
            me.rng = begin(state, i) if me.ended else me.rng
            S, A, r = [world.s], [], []
            for noise in head.noise(me.rng, config.t_max):
                A.append(head(net.act(world.s, len(r))).sample(noise))
                reward, s, terminated, _ = world.step(A[-1])
                r.append(reward)
                S.append(s)
                if world.ended:
                    break
            k, A = len(r), np.array(A)
            h, v = net.evaluate(np.array(S), k)
            r = soft_rewards(r, h, head, config.beta, config.entropy)
            R = returns(r, config.gamma, 0.0 if terminated else v[k])
            advantage = R - v[:k]  # a number: nothing is differentiated through it
            data = head, A, R, advantage, config.beta, config.value_coef
            me.d[:] = net.backward(*gradient(h, v[:k], *data))
            me.k, me.ended, me.next = k, world.ended, PUSH
            yield "computed", k
        state.theta += step(me.d)
        landed(state, i, me.k, me.seen)
        me.next = PULL
        yield "pushed", me.ended
