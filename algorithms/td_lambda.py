"""TD(λ): prediction of v^π. Sutton & Barto 2018, §12.2 and §12.5, boxes p. 293 and p. 300.

    δ = R + γ v̂(S', w) − v̂(S, w)                  (12.6)   v̂(terminal) = 0
    z ← γλ z + ∇v̂(S, w)                           (12.5)   accumulating
    z_i ← 1 where x_i = 1, else γλ z_i            (12.12)  replacing; x binary
    z ← γλ z + (1 − αγλ zᵀx) x                    (12.11)  dutch
    w ← w + α δ z                                 (12.7)   accumulating, replacing
    w ← w + α (δ + v̂ − v̂_old) z − α (v̂ − v̂_old) x         dutch: true online TD(λ)
    v̂_old ← v̂(S', w)                                      the w that δ was computed with

x = x(S) = ∇v̂ are the features of a linear v̂(s, w) = wᵀx(s): dutch and replacing traces are defined
for those only. z and v̂_old start every episode at zero. Every trace decays at every step, also
that of the state just visited: with one-hot x, accumulating adds 1 to it, replacing sets it to 1.
δ is computed before anything moves; w descends ½(G^λ − v̂)² by the semi-gradient.

Updates: `online` moves w at every step, as the boxes do. `offline` computes every v̂ and ∇v̂ of an
episode at the w of its start; with accumulating traces the sum of its updates is that of the
λ-return, Σ_t α (G^λ_t − v̂(S_t, w)) ∇v̂(S_t, w). True online TD(λ) equals the online λ-return
algorithm (§12.4) at every step.

Departures from the boxes: a truncated episode ends with δ going on from v̂ of its last observation.
"""

from bisect import bisect
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar, Literal

import numpy as np
from gymnasium.spaces import Discrete

from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, check, encoder, make_value
from algorithms.exact.mdp import ROW_SUM_ERROR


@dataclass(frozen=True)
class Config:
    gamma: float = 1.0
    """Discount γ (Sutton & Barto's random walks have 1; where episodes are only truncated, v^π is
    finite for γ < 1 alone). In [0, 1]."""
    lam: float = 0.8
    """Trace decay λ (the best of figure 12.6). 0 is TD(0), 1 Monte Carlo. In [0, 1]."""
    trace: Literal["accumulating", "replacing", "dutch"] = "accumulating"
    """z: accumulating (12.5), replacing (12.12; binary features), dutch (12.11; linear v̂)."""
    updates: Literal["online", "offline"] = "online"
    """online: w moves at every step, as in the boxes; offline: at the episode's end (not dutch)."""
    step_size: float = 0.1
    """α (common practice; in figure 12.6, of 10 episodes, 0.3 is best for λ = 0.8). At least 0."""
    policy: tuple[float, ...] = ()
    """π(a|o), the policy to evaluate, row by row: O · A probabilities, or an array (O, A).
    Empty: uniformly random actions."""
    network: Network = field(default_factory=lambda: Network(approximator="linear"))
    """The model of v̂ alone, since π is given. linear: one weight per discrete observation."""

    def __post_init__(self):
        object.__setattr__(self, "policy", tuple(np.ravel(self.policy).tolist()))
        check(self, gamma=(0.0, 1.0), lam=(0.0, 1.0), step_size=(0.0, np.inf))
        check(self, trace=("accumulating", "replacing", "dutch"), updates=("online", "offline"))
        if self.trace != "accumulating" and self.network.approximator != "linear":
            raise ValueError(f"trace = {self.trace!r}: must be accumulating unless v̂ is linear")
        if self.trace == "dutch" and self.updates == "offline":
            raise ValueError("trace = 'dutch': must be another for offline updates")


def value(w, model, s):
    """v̂(s, w), a number, of one observation's features s (n,)."""
    return model(w, s)[0]


def gradient(w, model, s):
    """∇_w v̂(s, w), by hand through the model; for a linear v̂ the features x(s)."""
    v, pullback = model.vjp(w, s)
    return pullback(np.ones(v.shape))[0]


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("w",)
    w: np.ndarray
    z: np.ndarray
    rng: np.random.Generator
    v_old: float = 0.0
    steps: int = 0
    episodes: int = 0


def init(env, config, seed):
    """The State before learning. Raises ValueError for spaces and policies that do not fit."""
    policy_table(env, config)
    for_w, rng = np.random.default_rng(seed).spawn(2)
    w = make_value(env, config.network).init(for_w)
    return State(w, np.zeros_like(w), rng)


def policy_table(env, config):
    """π as an array (O, A), or (1, A) for one row that serves all observations."""
    space = env.action_space
    if not isinstance(space, Discrete):
        raise ValueError(f"action_space = {space}: must be Discrete")
    A = int(space.n)
    if not config.policy:
        return np.full((1, A), 1 / A)
    if not isinstance(env.observation_space, Discrete):
        raise ValueError(f"policy must be empty: observation_space = {env.observation_space}")
    O = int(env.observation_space.n)
    if len(config.policy) != O * A:
        raise ValueError(f"policy has {len(config.policy)} entries: must have O · A = {O} · {A}")
    pi = np.reshape(config.policy, (O, A))
    wrong = ~((pi.min(1) >= 0) & (np.abs(pi.sum(1) - 1) <= ROW_SUM_ERROR))
    if wrong.any():
        o = np.argmax(wrong)
        raise ValueError(f"policy row {o} = {pi[o]}: must be nonnegative and sum to one")
    return pi


def actor(env, config):
    """act(parameters, observation, rng, greedy) -> action for env.step, drawn from π.

    π is given, not learned: parameters and greedy change nothing.
    """
    below = policy_table(env, config).cumsum(1)
    rows = (below / below[:, -1:]).tolist()  # ending at 1: what has probability 0 is never drawn
    first_action = int(env.action_space.start)
    first = int(env.observation_space.start) if config.policy else None

    def act(parameters, observation, rng, greedy=False):
        row = rows[observation - first] if config.policy else rows[0]
        return first_action + bisect(row, rng.random())

    return act


def train(env, config, state, gradient=gradient):
    """The boxes as an endless generator: yields Metrics after each episode.

    Scalars: v_start is v̂(S_0) as the episode began, mean_abs_delta the mean of its |δ|.
    """
    model, act = make_value(env, config.network), actor(env, config)
    while True:
        R, delta, v_start = learn_episode(env, config, state, model, act, gradient)
        state.steps += len(R)
        state.episodes += 1
        yield Metrics(
            steps=state.steps,
            episodes=state.episodes,
            returns=(float(np.sum(R)),),
            lengths=(len(R),),
            scalars={"v_start": v_start, "mean_abs_delta": float(np.mean(np.abs(delta)))},
        )


def learn_episode(env, config, state, model, act, gradient):
    """Play an episode and learn at every step. Returns its R, δ and v̂(S_0) as it began.

    Raises FloatingPointError at a reward, an observation or a δ that is not finite.
    """
    _, encode = encoder(env.observation_space)
    observation, _ = env.reset(seed=int(state.rng.integers(2**31)))
    w = state.w.copy() if config.updates == "offline" else state.w
    v = model.bind(w)
    state.z[:], state.v_old = 0.0, 0.0
    s = encode(observation)
    v_start = float(v(s)[0])
    rewards, deltas, over = [], [], False
    while not over:
        observation, R, terminated, truncated, _ = env.step(act({}, observation, state.rng))
        s_next = encode(observation)
        if not (isfinite(R) and np.isfinite(s_next).all()):
            raise FloatingPointError(
                f"the environment returned reward {R} and observation {s_next} at step "
                f"{len(rewards) + 1} of an episode: both must be finite"
            )
        v_next = 0.0 if terminated else v(s_next)[0]
        delta = update(state, config, gradient(w, model, s), R, v(s)[0], v_next)
        rewards.append(R)
        deltas.append(delta)
        s, over = s_next, terminated or truncated
    return rewards, deltas, v_start


def update(state, config, x, R, v, v_next):
    """One step of a box: z, w and v̂_old move. x = ∇v̂(S, w), v = v̂(S, w), v_next = v̂(S', w), the
    last one 0 if S' is terminal. Returns δ."""
    delta = R + config.gamma * v_next - v
    if not isfinite(delta):
        raise FloatingPointError(
            f"δ = {delta} from R = {R}, v̂(S') = {v_next}, v̂(S) = {v}: must be finite (v̂ diverges "
            f"where step_size = {config.step_size} is too large)"
        )
    z, alpha = state.z, config.step_size
    move_trace(z, x, config)
    if config.trace == "dutch":
        change = v - state.v_old
        state.w += alpha * (delta + change) * z - alpha * change * x
    else:
        state.w += alpha * delta * z
    state.v_old = v_next
    return delta


def move_trace(z, x, config):
    """z decays by γλ and marks x, in place. Raises ValueError where replacing is not defined."""
    z *= config.gamma * config.lam
    if config.trace == "accumulating":
        z += x
    elif config.trace == "dutch":
        z += (1.0 - config.step_size * z.dot(x)) * x
    elif ((x == 0) | (x == 1)).all():
        z[x == 1] = 1.0
    else:
        raise ValueError(f"features = {x}: must be 0 or 1 for replacing traces")
