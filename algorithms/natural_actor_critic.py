"""Natural actor–critic, episodic. Kakade 2001; Peters & Schaal 2008.

    ψ_t = ∇ln π(A_t|S_t, θ)        φ_t = ∇v̂(S_t, w)        δ_t = G_t − v̂(S_t, w)

    Δw minimises  Σ_t (δ_t − Δwᵀφ_t)²                        w ← w + Δw              (least squares)
    ω  minimises  Σ_t γ^t (δ_t − Δwᵀφ_t − ωᵀψ_t)²            θ ← θ + α ω             (ascent on J)

The sums run over all steps of `episodes_per_update` episodes, G_t = R_{t+1} + γ R_{t+2} + ... +
γ^{T−t−1} R_T, and R[t] in the code is R_{t+1}. The critic fits the returns: first by v̂, then the
rest by f_ω(s, a) = ωᵀ∇ln π(a|s, θ), whose features are compatible with π (PG99, Theorem 2). ω is
Kakade's ω̃, and the w of PG99 and of Peters & Schaal. The normal equations, with damping λ:

    (V + λ^w tr(V)/m I) Δw = b         V = Σ_t φ_t φ_tᵀ          b = Σ_t δ_t φ_t
    (F̂ + λ tr(F̂)/n I) ω = ĝ − C Δw     F̂ = Σ_t γ^t ψ_t ψ_tᵀ      ĝ = Σ_t γ^t δ_t ψ_t
                                       C = Σ_t γ^t ψ_t φ_tᵀ

What it ascends: for every v̂, E ĝ = ∇J, J = E[Σ_t γ^t R_{t+1}], and E C = 0, since E[ψ_t|S_t] = 0.
E F̂ = Σ_s d(s) Σ_a π ψψᵀ = F, the Fisher matrix under d(s) = Σ_t γ^t Pr(S_t = s). So with λ = 0 and
more and more episodes ω goes to the natural gradient F⁻¹∇J. With few it is biased: the inverse of
a mean is not the mean of an inverse. With λ > 0 it goes to another direction in which J rises.
Truncated episodes make ĝ biased.

Why natural: let θ = Mϑ, M invertible. For the parameters ϑ, ψ becomes Mᵀψ and ω M⁻¹ω, the same step
of θ; a plain step along ĝ becomes one along MMᵀĝ. Under a smooth θ(ϑ) with an inverse the step is
the same to first order in α. So the policy's path does not depend on how it is parameterised. This
needs λ = 0, and that the directions in which F̂ is singular leave π as it is. With λ > 0 it is true
only of M = c times an orthogonal matrix.

Damping: F̂ is singular if a step of θ can leave π as it is, or with fewer steps than parameters; λ
counts in its mean eigenvalue. λ = 0 is allowed, and takes the shortest solution of the equations
above: directions in which ψ is below 1e-7 of its largest count as singular.

Departures: Peters & Schaal's episodic algorithm (cited from memory) has an equation for an episode,
Σ_t γ^t R_{t+1} = ωᵀ Σ_t γ^t ψ_t + J. In expectation that weighs steps by γ^{2t}, and for γ < 1 its
ω is not F⁻¹∇J unless f_ω fits the advantages exactly. It has the constant J where v̂ is here; of a
network v̂, Δw is one Gauss–Newton step. They update θ when ω's direction has settled, here after so
many episodes. λ is not theirs. If an episode is truncated, γ^{T−t} v̂(S_T, w) is added to G_t. F̂
has n² numbers, and an update takes of the order of n³ operations: this is for small networks.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from algorithms.common.config import Checked, Count, NonNegative, Unit
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, make_policy, make_value
from algorithms.common.types import Act, Env, Gradient, Training
from algorithms.common.world import BLOCK, Position, check_finite, entered, returns
from npgrad import Array, Head, at


@dataclass(frozen=True)
class Config(Checked):
    gamma: Unit = 0.99
    """Discount γ (common practice)."""
    episodes_per_update: Count = 5
    """Episodes in the sums of one update (tuned on CartPole-v1)."""
    step_size: NonNegative = 1e-1
    """α, of the natural gradient (tuned on CartPole-v1)."""
    damping: Unit = 1e-1
    """λ, in mean eigenvalues of F̂ (tuned on CartPole-v1). 0: the shortest solution."""
    damping_w: Unit = 1e-2
    """λ^w, in mean eigenvalues of V (tuned on CartPole-v1). 0: the shortest solution."""
    network: Network = field(default_factory=lambda: Network(hidden=(16,)))


def objective(h: Array, head: Head, A: Array) -> float:
    """Σ_t ln π(A_t|S_t). h (T, size) are the policy's outputs."""
    return np.sum(head(h).log_prob(A))


def gradient(h: Array, head: Head, A: Array) -> Array:
    """∂ objective/∂h (T, size), the scores ∂ln π(A_t|S_t)/∂h_t. Row t alone, sent back through the
    network, is ψ_t. θ ascends along ω = F̂⁻¹ĝ, which is of degree −1 in ψ."""
    return head(h).score(A)


def sums(psi: Array, phi: Array, delta: Array, gamma: float) -> tuple[Array, ...]:
    """Return F̂ (n, n), C (n, m), ĝ (n,), V (m, m) and b (m,) of one episode: sums over its steps.

    psi (T, n), phi (T, m) and delta (T,) are numbers.
    """
    weighted = gamma ** np.arange(len(psi))[:, None] * psi
    return weighted.T @ psi, weighted.T @ phi, weighted.T @ delta, phi.T @ phi, phi.T @ delta


def solve(F: Array, g: Array, damping: float) -> Array:
    """Return the solution x (n,) of (F + λ tr(F)/n I) x = g, the shortest if there are many."""
    n = len(F)
    return np.linalg.lstsq(F + np.sum(damping / n * np.diagonal(F)) * np.eye(n), g)[0]


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: Array
    w: Array
    F: Array  # F̂, C, ĝ, V and b of the episodes since the last update
    C: Array
    g: Array
    V: Array
    b: Array
    rng: np.random.Generator
    world: Position
    waiting: int = 0  # episodes since the last update
    steps: int = 0
    episodes: int = 0


def init(env: Env, config: Config, seed: int) -> State:
    """The State before learning. Raises ValueError for spaces that have no policy here."""
    for_theta, for_w, rng = np.random.default_rng(seed).spawn(3)
    theta = make_policy(env, config.network).model.init(for_theta)
    w = make_value(env, config.network).init(for_w)
    n, m, world = theta.size, w.size, Position(int(rng.integers(2**31)))
    F, C, g, V, b = (np.zeros(shape) for shape in ((n, n), (n, m), (n,), (m, m), (m,)))
    return State(theta, w, F, C, g, V, b, rng, world)


def actor(env: Env, config: Config) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    return make_policy(env, config.network).act


def train(env: Env, config: Config, state: State, gradient: Gradient = gradient) -> Training:
    """The method as an endless generator: yields Metrics after every episode, and within one after
    every BLOCK steps. What it yields there is a State that a run can go on from."""
    policy, value = make_policy(env, config.network), make_value(env, config.network)
    head, pi, v = policy.head, at(policy.model, state.theta), at(value, state.w)
    with entered(env, state.world, record=True) as world:
        while True:
            for noise in head.noise(state.rng, BLOCK):
                world.step(head(pi.forward(world.s)).sample(noise))
                state.steps += 1
                if world.ended:
                    learn(state, config, world.episode, head, pi, v, gradient)
                    state.episodes += 1
                    break
            yield Metrics.of(state, world.ended)


def learn(state, config, episode, head, pi, v, gradient):
    """Add an episode's sums, at fixed θ and w; step when there are enough episodes."""
    S, v_final = episode.S, 0.0 if episode.terminated else v.forward(episode.s_final)[0]
    delta = returns(episode.R, config.gamma, v_final) - v.forward(S)[:, 0]
    psi = pi.backward_rows(gradient(pi.forward(S), head, episode.A))
    phi = v.backward_rows(np.ones((len(S), 1)))
    totals = state.F, state.C, state.g, state.V, state.b
    for total, part in zip(totals, sums(psi, phi, delta, config.gamma)):
        total += part
    state.waiting += 1
    if state.waiting == config.episodes_per_update:
        step(state, config)
        state.waiting = 0
        for total in totals:
            total[:] = 0.0


def step(state, config):
    """w ← w + Δw and θ ← θ + α ω."""
    check_finite(state.steps, theta=(state.F, state.C, state.g), w=(state.V, state.b))
    d_w = solve(state.V, state.b, config.damping_w)
    omega = solve(state.F, state.g - state.C @ d_w, config.damping)
    state.w += d_w
    state.theta += config.step_size * omega
    check_finite(state.steps, theta=state.theta, w=state.w)
