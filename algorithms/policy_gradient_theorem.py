"""The policy-gradient theorem, exactly. Sutton, McAllester, Singh & Mansour 1999 (PG99).

On finite MDPs both sides of every equation are linear solves. J is the paper's ρ(π), ∇ is ∂/∂θ; two
formulations (PG99 §1), d and q as in exact.mdp and exact.average_reward:

    start      J = E[Σ_t γ^t R_{t+1}]      d(s) = Σ_t γ^t Pr(S_t = s)   q(s,a) = E[Σ γ^t R | s,a]
    average    J = lim 1/n E[Σ_{t≤n} R_t]  d stationary, Σ_s d = 1      q(s,a) = Σ E[R_t − J | s,a]

Theorem 1    ∇J = Σ_s d(s) Σ_a ∇π(a|s) q(s,a)                                                (2)

    start:   ∇v(s) = Σ_a (∇π q + π ∇q) and ∇q(s,a) = γ Σ_s' P ∇v(s'); unrolled along an episode,
             ∇v(S_0) = Σ_t γ^t Σ_s Pr(S_t = s) Σ_a ∇π q, and the mean over p0 is (2).
    average: ∇q(s,a) = −∇J + Σ_s' P ∇v(s'), so ∇J = Σ_a ∇π q + Σ_s' P_π ∇v(s') − ∇v(s) in every
             s; in the mean under d the last two terms cancel, since dᵀP_π = dᵀ.
    No ∇d and no ∇q: ∇J is the gradient of Σ_s d Σ_a π q with d and q held (`objective`).

Theorem 2    If w solves     Σ_s d(s) Σ_a π(a|s) (q(s,a) − f_w(s,a)) ∇_w f_w(s,a) = 0        (3)
             and f_w fits π: ∇_w f_w(s,a) = ∇π(a|s) / π(a|s)    (compatible)                 (4)
             then            ∇J = Σ_s d(s) Σ_a ∇π(a|s) f_w(s,a).                             (5)

    (4) turns (3) into Σ_s d Σ_a ∇π (q − f_w) = 0 (6), which is (2) minus (5). For a Gibbs policy,
    π ∝ exp(θᵀφ(s,a)), (4) is φ(s,a) − Σ_b π(b|s) φ(s,b) (§3): f_w = wᵀ(that) has mean 0 under π, an
    advantage, and any v(s) may be added to it in (5), since Σ_a ∇π = 0. Features that are not
    centred, f_w = wᵀφ, are not compatible: they solve (3) too, but then (5) is wrong. One state,
    two actions, φ = (0, 1), q = (1, 0), θ = 0: ∇J = −1/4; centred, w = −1, and (5) is −1/4;
    uncentred, w = 0, and (5) is 0.

    Natural gradient: with (4), (3) reads F w = ∇J, F = Σ_s d Σ_a π (∇π/π)(∇π/π)ᵀ the Fisher matrix.
    w is the direction of steepest ascent when the length of a step is measured by how much π
    changes (Kakade 2001).

Theorem 3    w_k solves (3) at θ_k;   θ_{k+1} = θ_k + α_k Σ_s d(s) Σ_a ∇π(a|s) f_{w_k}(s,a).

    If α_k → 0, Σ_k α_k = ∞, rewards and the second derivatives of π are bounded, then ∇J → 0
    (`train`).

Departures: direction "natural" steps along w_k instead; α_k = α/(1 + k)^p is one choice of many. An
update evaluates one policy exactly and takes no step in the environment: Metrics count updates as
steps and as episodes, and J as their return.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from algorithms.common.config import Checked, NonNegative, Range
from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, make_policy
from algorithms.common.types import Act, Env, Gradient, Model, Training
from algorithms.common.world import check_finite, opened
from algorithms.exact.average_reward import differential_action_values, stationary_distribution
from algorithms.exact.mdp import FiniteMDP, action_values, discounted_occupancy, markov_chain
from npgrad import Array, Softmax, at


@dataclass(frozen=True)
class Config(Checked):
    formulation: Literal["start", "average"] = "start"
    """J: the discounted return from p0, or the average reward per step (PG99 §1)."""
    direction: Literal["gradient", "natural"] = "gradient"
    """gradient: Theorem 3; natural: along w, the natural gradient."""
    step_size: NonNegative = 0.1
    """α of α_k = α/(1 + k)^p, k the number of updates before (suits the short corridor)."""
    decay: Annotated[float, Range(0, 1, above=True)] = 0.1
    """p of α_k, so that α_k → 0 and Σ α_k = ∞."""
    network: Network = field(default_factory=lambda: Network(approximator="linear"))


class gibbs:
    """π(a|s) = exp h_a / Σ_b exp h_b (S, A), h = model(θ, x): a policy.

    With linear_preferences(n) as model and φ (S, A, n) as x it is the Gibbs policy of PG99 §3. Any
    npgrad model whose outputs are probabilities (S, A) is a policy here, also npgrad.from_function
    of a function (θ, x) -> π in plain NumPy.
    """

    network: ClassVar[Any]

    def __init__(self, model: Model) -> None:
        self.model, self.layout, self.init = model, model.layout, model.init
        self.axes = model.axes

    def __call__(self, theta: Array, x: Array) -> Array:
        return Softmax(self.model(theta, x)).probs()


class Gibbs:
    """A gibbs policy at θ: its backward pass goes through ∂π/∂h (npgrad.Softmax) and the model."""

    def __init__(self, policy: gibbs, theta: Array, d_theta: Array) -> None:
        self.net, self.d_theta = at(policy.model, theta, d_theta), d_theta

    def forward(self, x: Array, row: int = 0) -> Array:
        self.pi = Softmax(np.array(self.net.forward(x, row)))
        return self.pi.probs()

    def backward(self, g: Array) -> Array:
        return self.net.backward(self.pi.mean_gradient(g))


gibbs.network = Gibbs


def performance(theta: Array, mdp: FiniteMDP, policy: Model, x: Array,
                formulation: str = "start") -> Array:  # fmt: skip
    """J(θ) written out in plain NumPy, to be differentiated by the tape or by complex steps."""
    pi = policy(theta, x)
    P = np.einsum("sa,sat->st", pi, mdp.P)
    r = np.einsum("sa,sat,sat->s", pi, mdp.P, mdp.r)
    S = len(mdp.P)
    if formulation == "average":
        return np.linalg.solve(np.eye(S) - P.T + 1 / S, np.ones(S) / S) @ r
    alive = np.flatnonzero(~mdp.terminal)
    K = np.eye(len(alive)) - mdp.gamma * P[alive][:, alive]
    return mdp.p0[alive] @ np.linalg.solve(K, r[alive])


def evaluate(mdp: FiniteMDP, pi: Array, formulation: str = "start") -> tuple[Array, Array, Array]:
    """(J, d (S,), q (S, A)) of pi. Raises ValueError where they do not exist, naming the state."""
    if formulation == "average":
        d, q = stationary_distribution(mdp, pi), differential_action_values(mdp, pi)
    else:
        d, q = discounted_occupancy(mdp, pi), action_values(mdp, pi)
    return d @ markov_chain(mdp, pi)[1], d, q


def objective(pi: Array, d: Array, q: Array) -> float:
    """Σ_s d(s) Σ_a π(a|s) q(s,a), to be ascended. π (S, A) are the policy's outputs; d (S,) and q
    (S, A) are numbers."""
    return np.sum(d[:, None] * pi * q)


def gradient(pi: Array, d: Array, q: Array) -> Array:
    """∂ objective/∂π (S, A) = d(s) q(s,a). Through ∂π/∂θ it is (2); with f_w for q, (5). Ascent."""
    return d[:, None] * q


def exact_gradient(theta: Array, mdp: FiniteMDP, policy: Model, x: Array,
                   formulation: str = "start", gradient: Gradient = gradient) -> Array:  # fmt: skip
    """∇J by Theorem 1."""
    net = at(policy, theta)
    pi = net.forward(x)
    _, d, q = evaluate(mdp, pi, formulation)
    return net.backward(gradient(pi, d, q))


def score(theta: Array, policy: Model, x: Array) -> Array:
    """∇π(a|s)/π(a|s) (S, A, n), the compatible features of (4). 0 where π(a|s) = 0: such an action
    enters (3) with weight 0, and ∇π = 0 there, because π has its minimum."""
    net = at(policy, theta)
    return scores(net, net.forward(x))


def scores(net: Any, pi: Array) -> Array:
    """`score` of the policy that went forward through `net` and gave π."""
    one, psi = np.zeros_like(pi), np.zeros((*pi.shape, net.d_theta.size))
    for s, a in np.argwhere(pi > 0):
        one[s, a] = 1.0
        psi[s, a] = net.backward(one) / pi[s, a]
        one[s, a] = 0.0
    return psi


def fit(features: Array, pi: Array, d: Array, q: Array) -> Array:
    """w (n,) of f_w = features · w that solves (3): least squares, weighted by d(s) π(a|s).

    features (S, A, n). Where (3) has many solutions, which all give the same f_w wherever
    d π > 0, the shortest. Compatible features have mean 0 under π, so that q and q − v have the
    same w; where the policy is nearly deterministic, q − v gives it to rounding error and q not.
    """
    root = np.sqrt(np.maximum(d[:, None] * pi, 0.0)).ravel()
    x = features.reshape(root.size, -1)
    return np.linalg.lstsq(root[:, None] * x, root * q.ravel())[0]


def fisher(features: Array, pi: Array, d: Array) -> Array:
    """F (n, n) = Σ_s d(s) Σ_a π(a|s) ψψᵀ of the scores ψ (S, A, n); F w = ∇J for their fit."""
    return np.einsum("s,sa,sai,saj->ij", d, pi, features, features, optimize=True)


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: Array
    w: Array  # the solution of (3) for the policy before the last update
    updates: int = 0


def world(env: Env, config: Config) -> tuple[FiniteMDP, gibbs, Array]:
    """(mdp, policy, x): the arrays behind env, and what its agent sees of each state."""
    with opened(env) as made:
        mdp = getattr(made.unwrapped, "mdp", None)
    if mdp is None:
        raise ValueError(
            "the environment has no exact answers: must be a finite MDP, such as npgrad/Chain-v0"
        )
    return mdp, gibbs(make_policy(env, config.network).model), mdp.observation


def init(env: Env, config: Config, seed: int) -> State:
    """The State before learning. Raises ValueError for an env that is not a FiniteMDPEnv, or whose
    J does not exist."""
    mdp, policy, x = world(env, config)
    theta = policy.model.init(np.random.default_rng(seed))
    evaluate(mdp, policy(theta, x), config.formulation)
    return State(theta, np.zeros_like(theta))


def actor(env: Env, config: Config) -> Act:
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    return make_policy(env, config.network).act


def train(env: Env, config: Config, state: State, gradient: Gradient = gradient) -> Training:
    """Theorem 3 for the policy of config.network, as an endless generator."""
    yield from iterate(*world(env, config), config, state, gradient)


def iterate(mdp, policy, x, config, state, gradient=gradient):
    """Theorem 3 for any policy. Metrics of update k tell J(θ_k) and ‖∇J(θ_k)‖, before its step."""
    net = at(policy, state.theta)
    while True:
        pi = net.forward(x)
        check_finite(state.updates, theta=pi)
        J, d, q = evaluate(mdp, pi, config.formulation)
        psi = scores(net, pi)
        state.w[:] = fit(psi, pi, d, q - (pi * q).sum(1, keepdims=True))
        ascent = net.backward(gradient(pi, d, psi @ state.w))
        step_size = config.step_size / (1 + state.updates) ** config.decay
        state.theta += step_size * (state.w if config.direction == "natural" else ascent)
        check_finite(state.updates + 1, theta=state.theta)
        state.updates += 1
        yield Metrics(
            steps=state.updates,
            episodes=state.updates,
            returns=(float(J),),
            lengths=(1,),
            scalars={"gradient_norm": float(np.linalg.norm(ascent)), "step_size": step_size},
        )
