"""TD(λ): prediction of v^π. Sutton & Barto 2018, §12.2 and §12.5: their boxes.

    δ = R + γ v̂(S', w) − v̂(S, w)                  (12.6)   v̂(terminal) = 0
    z ← γλ z + ∇v̂(S, w)                           (12.5)   accumulating
    z_i ← 1 where x_i = 1, else γλ z_i            (12.12)  replacing; x binary
    z ← γλ z + (1 − αγλ zᵀx) x                    (12.11)  dutch
    w ← w + α δ z                                 (12.7)   accumulating, replacing
    w ← w + α (δ + v̂ − v̂_old) z − α (v̂ − v̂_old) x         dutch: true online TD(λ)
    v̂_old ← v̂(S', w)                                      the w that δ was computed with

x = x(S) = ∇v̂ are the features of a linear v̂(s, w) = wᵀx(s): dutch and replacing traces are defined
for those only. z and v̂_old start every episode at zero. At every step all traces decay
first. Then, with one-hot x, that of the visited state gets + 1 (accumulating) or becomes 1
(replacing).
δ is computed before anything moves; w descends ½(G^λ − v̂)² by the semi-gradient.

Updates: `online` moves w at every step, as the boxes do. `offline` computes every v̂ and ∇v̂ of an
episode at the w of its start; with accumulating traces the sum of its updates is that of the
λ-return, Σ_t α (G^λ_t − v̂(S_t, w)) ∇v̂(S_t, w). True online TD(λ) equals the online λ-return
algorithm (§12.4) at every step.

What it descends: with λ = 1 and a small α, Σ_s d(s) (v^π(s) − v̂(s, w))², d(s) being how often s is
visited. With λ < 1 a linear v̂ approaches the fixed point of the λ-return; for γ < 1 its error is at
most (1 − γλ)/(1 − γ) times the least one (12.8; for continuing tasks).

Departures from the boxes: in the last step of a truncated episode, δ uses v̂ of the last observation
instead of 0.
"""

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import Discrete

from algorithms.common.config import NonNegative, Unit, check
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, make_value
from algorithms.common.types import Act, Env, Gradient, Training
from algorithms.common.world import BLOCK, Position, check_finite, encoder, entered, spaces
from algorithms.exact.mdp import ROW_SUM_ERROR
from npgrad import Array, at
from npgrad.memory import flush


@dataclass(frozen=True)
class Config:
    gamma: Unit = 1.0
    """Discount γ (Sutton & Barto's random walks have 1; if no state is terminal, v^π is finite
    only for γ < 1)."""
    lam: Unit = 0.8
    """Trace decay λ (near the best of figure 12.6). 0 is TD(0), 1 Monte Carlo."""
    trace: Literal["accumulating", "replacing", "dutch"] = "accumulating"
    """z: accumulating (12.5), replacing (12.12; binary features), dutch (12.11; linear v̂)."""
    updates: Literal["online", "offline"] = "online"
    """online: w moves at every step, as in the boxes; offline: at the episode's end (not dutch)."""
    step_size: NonNegative = 0.1
    """α (common practice; in figure 12.6, of 10 episodes, 0.3 is best for λ = 0.8)."""
    policy: tuple[float, ...] = ()
    """π(a|o), the policy to evaluate, row by row: O · A probabilities, or an array (O, A).
    Empty: uniformly random actions."""
    network: Network = field(default_factory=lambda: Network(approximator="linear"))
    """The model of v̂ alone, since π is given. linear: one weight per discrete observation."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", tuple(np.ravel(self.policy).tolist()))
        check(self)
        if self.trace != "accumulating" and self.network.approximator != "linear":
            raise ValueError(f"trace = {self.trace!r}: must be accumulating unless v̂ is linear")
        if self.trace == "dutch" and self.updates == "offline":
            raise ValueError("trace = 'dutch': must be another for offline updates")


def objective(v: Array) -> float:
    """v̂(S, w); its gradient ∇v̂ is what enters the trace z. v (1,) is the network's output."""
    return v[0]


def gradient(v: Array) -> Array:
    """∂ objective/∂v (1,) = 1; through the network it is ∇v̂(S, w), for a linear v̂ the x(S)."""
    return np.ones_like(v)


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("w",)
    w: Array
    z: Array
    w_start: Array  # w as the episode began; empty if updates are online
    rng: np.random.Generator
    world: Position
    v_old: float = 0.0
    v_start: float = 0.0  # v̂(S_0) as the episode began
    abs_delta: float = 0.0  # Σ |δ| in the episode
    steps: int = 0
    episodes: int = 0


def init(env: Env, config: Config, seed: int) -> State:
    """The State before learning. Raises ValueError for spaces and policies that do not fit."""
    policy_table(env, config)
    for_w, rng = np.random.default_rng(seed).spawn(2)
    w = make_value(env, config.network).init(for_w)
    w_start = w.copy() if config.updates == "offline" else np.empty(0)
    return State(w, np.zeros_like(w), w_start, rng, Position(int(rng.integers(2**31))))


def policy_table(env: Env, config: Config) -> Array:
    """π as an array (O, A), or (1, A) for one row that serves all observations."""
    observations, space = spaces(env)
    if not isinstance(space, Discrete):
        raise ValueError(f"action_space = {space}: must be Discrete")
    A = int(space.n)
    if not config.policy:
        return np.full((1, A), 1 / A)
    if not isinstance(observations, Discrete):
        raise ValueError(f"policy must be empty: observation_space = {observations}")
    O = int(observations.n)
    if len(config.policy) != O * A:
        raise ValueError(f"policy has {len(config.policy)} entries: must have O · A = {O} · {A}")
    pi = np.reshape(config.policy, (O, A))
    wrong = ~((pi.min(1) >= 0) & (np.abs(pi.sum(1) - 1) <= ROW_SUM_ERROR))
    if wrong.any():
        o = np.argmax(wrong)
        raise ValueError(f"policy row {o} = {pi[o]}: must be nonnegative and sum to one")
    return pi


def drawer(env: Env, config: Config) -> Callable[[Any, np.random.Generator], int]:
    """draw(s, rng) -> a ~ π(·|s), an index, for features s."""
    below = policy_table(env, config).cumsum(1)
    rows = (below / below[:, -1:]).tolist()  # ending at 1: what has probability 0 is never drawn
    if config.policy:
        return lambda s, rng: bisect(rows[s], rng.random())
    return lambda s, rng: bisect(rows[0], rng.random())


def actor(env: Env, config: Config) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step, drawn from π.

    π is given, not learned: parameters and greedy change nothing.
    """
    (_, encode), draw = encoder(spaces(env).observation), drawer(env, config)
    space: Any = spaces(env).action
    first = int(space.start)
    return lambda parameters, o, rng, greedy=False: first + draw(encode(o), rng)


def train(env: Env, config: Config, state: State, gradient: Gradient = gradient) -> Training:
    """The boxes as an endless generator: yields Metrics after each episode and, within one, after
    every BLOCK steps.

    Scalars: v_start is v̂(S_0) as the episode began, mean_abs_delta the mean of its |δ|. Raises
    FloatingPointError where δ or w is not finite.
    """
    model, draw = make_value(env, config.network), drawer(env, config)
    offline = config.updates == "offline"
    net = at(model, state.w_start if offline else state.w)
    with entered(env, state.world) as world:
        while True:
            for _ in range(BLOCK):
                begins = world.t == 0
                if begins:
                    state.z[:], state.v_old, state.abs_delta = 0.0, 0.0, 0.0
                    state.w_start[:] = state.w if offline else state.w_start
                S = world.s
                R, S2, terminated, _ = world.step(draw(S, state.rng))
                v_next = 0.0 if terminated else float(net.forward(S2)[0])
                v = net.forward(S)
                x = net.backward(gradient(v))
                state.v_start = float(v[0]) if begins else state.v_start
                delta = update(state, config, x, R, float(v[0]), v_next)
                state.abs_delta += abs(delta)
                state.steps += 1
                if state.steps % 100 == 0:  # before what decays in it becomes denormal
                    flush(state.z)
                if world.ended:
                    break
            check_finite(state.steps, w=state.w)
            yield report(state, world.ended)


def report(state, ended):
    """Metrics, with the scalars of the episode that ended, if one did."""
    if not ended:
        return Metrics.of(state, ())
    state.episodes += 1
    mean = state.abs_delta / ended[0][1]
    return Metrics.of(state, ended, {"v_start": state.v_start, "mean_abs_delta": mean})


def update(state, config, x, R, v, v_next):
    """One step of a box: z, w and v̂_old move. x = ∇v̂(S, w), v = v̂(S, w), v_next = v̂(S', w), the
    last one 0 if S' is terminal. Returns δ."""
    delta = R + config.gamma * v_next - v
    if not isfinite(delta):
        raise FloatingPointError(
            f"w has diverged: δ = {delta} from R = {R}, v̂(S') = {v_next}, v̂(S) = {v} (step_size = "
            f"{config.step_size} may be too large)"
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


def move_trace(z: Array, x: Array, config: Config) -> None:
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
