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
    The same w is the direction of steepest ascent per change of the policy (Kakade 2001).

Theorem 3    w_k solves (3) at θ_k;   θ_{k+1} = θ_k + α_k Σ_s d(s) Σ_a ∇π(a|s) f_{w_k}(s,a).

    If α_k → 0, Σ_k α_k = ∞ and the second derivatives of π are bounded, then ∇J → 0: `train`.

Departures: direction "natural" steps along w_k instead; α_k = α/(1 + k)^p is one choice of many. An
update evaluates one policy exactly and takes no step in the environment: Metrics count updates as
steps and as episodes, and J as their return.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from algorithms.common.metrics import Metrics
from algorithms.common.policy import Network, check, make_policy
from algorithms.exact.average_reward import differential_action_values, stationary_distribution
from algorithms.exact.mdp import action_values, discounted_occupancy, markov_chain


@dataclass(frozen=True)
class Config:
    formulation: Literal["start", "average"] = "start"
    """J: the discounted return from p0, or the average reward per step (PG99 §1)."""
    direction: Literal["gradient", "natural"] = "gradient"
    """gradient: Theorem 3; natural: along w, the natural gradient."""
    step_size: float = 0.1
    """α of α_k = α/(1 + k)^p, k the number of updates before (suits the short corridor). At least
    0."""
    decay: float = 0.1
    """p of α_k. In (0, 1], so that α_k → 0 and Σ α_k = ∞."""
    network: Network = field(default_factory=lambda: Network(approximator="linear"))

    def __post_init__(self):
        check(self, formulation=("start", "average"), direction=("gradient", "natural"))
        check(self, step_size=(0.0, np.inf), decay=(0.0, 1.0))
        if self.decay == 0:
            raise ValueError(f"decay = {self.decay}: must be in (0, 1], or the steps never shrink")


class gibbs:
    """π(a|s) = exp h_a / Σ_b exp h_b (S, A), h = model(θ, x): a policy, with ∂π/∂h by hand.

    With linear_preferences(n) as model and φ (S, A, n) as x it is the Gibbs policy of PG99 §3. A
    policy here is whatever has policy(θ, x) -> π and policy.vjp(θ, x) -> (π, pullback), as
    npgrad.from_function makes of any function (θ, x) -> π (S, A) in plain NumPy.
    """

    def __init__(self, model):
        self.model = model

    def __call__(self, theta, x):
        return self._softmax(self.model(theta, x))

    def vjp(self, theta, x):
        """(π, pullback): pullback(g) = (Σ g ∂π/∂θ, Σ g ∂π/∂x), by ∂π_a/∂h_b = π_a (1_ab − π_b).

        Σ_a g_a ∂π_a/∂h_b = π_b Σ_a π_a (g_b − g_a): in differences, so that what is left of the
        gradient of a nearly deterministic policy is right to relative rounding error.
        """
        h, pullback = self.model.vjp(theta, x)
        pi = self._softmax(h)
        apart = lambda g: (g[..., :, None] - g[..., None, :]) @ pi[..., None]
        return pi, lambda g: pullback(pi * apart(g)[..., 0])

    def _softmax(self, h):
        e = np.exp(h - h.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)


def performance(theta, mdp, policy, x, formulation="start"):
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


def evaluate(mdp, pi, formulation="start"):
    """(J, d (S,), q (S, A)) of pi. Raises ValueError where they do not exist, naming the state."""
    if formulation == "average":
        d, q = stationary_distribution(mdp, pi), differential_action_values(mdp, pi)
    else:
        d, q = discounted_occupancy(mdp, pi), action_values(mdp, pi)
    return d @ markov_chain(mdp, pi)[1], d, q


def objective(theta, policy, x, d, q):
    """Σ_s d(s) Σ_a π(a|s,θ) q(s,a), to be ascended; d and q are numbers."""
    return np.sum(d[:, None] * policy(theta, x) * q)


def gradient(theta, policy, x, d, q):
    """∇_θ objective = Σ_s d(s) Σ_a ∇π(a|s) q(s,a): (2), or with f_w (S, A) for q, (5). Ascent."""
    _, pullback = policy.vjp(theta, x)
    return pullback(d[:, None] * q)[0]


def exact_gradient(theta, mdp, policy, x, formulation="start"):
    """∇J by Theorem 1."""
    _, d, q = evaluate(mdp, policy(theta, x), formulation)
    return gradient(theta, policy, x, d, q)


def score(theta, policy, x):
    """∇π(a|s)/π(a|s) (S, A, n), the compatible features of (4). 0 where π(a|s) = 0: such an action
    enters (3) with weight 0, and ∇π = 0 there, at the least a probability can be."""
    pi, pullback = policy.vjp(theta, x)
    one = np.zeros_like(pi)
    psi = np.zeros((*pi.shape, theta.size))
    for s, a in np.argwhere(pi > 0):
        one[s, a] = 1.0
        psi[s, a] = pullback(one)[0] / pi[s, a]
        one[s, a] = 0.0
    return psi


def fit(features, pi, d, q):
    """w (n,) of f_w = features @ w that solves (3): least squares, weighted by d(s) π(a|s).

    features (S, A, n). Where (3) has many solutions, which all give the same f_w wherever
    d π > 0, the shortest. Compatible features have mean 0 under π, so that q and q − v have the
    same w; where the policy is nearly deterministic, q − v gives it to rounding error and q not.
    """
    root = np.sqrt(np.maximum(d[:, None] * pi, 0.0)).ravel()
    x = features.reshape(root.size, -1)
    return np.linalg.lstsq(root[:, None] * x, root * q.ravel())[0]


def fisher(features, pi, d):
    """F (n, n) = Σ_s d(s) Σ_a π(a|s) ψψᵀ of the scores ψ (S, A, n); F w = ∇J for their fit."""
    return np.einsum("s,sa,sai,saj->ij", d, pi, features, features, optimize=True)


@dataclass
class State:
    parameters: ClassVar[tuple[str, ...]] = ("theta", "w")
    theta: np.ndarray
    w: np.ndarray  # the solution of (3) for the policy before the last update
    updates: int = 0


def world(env, config):
    """(mdp, policy, x): the arrays behind env, and what its agent sees of each state, one-hot."""
    mdp = getattr(env.unwrapped, "mdp", None)
    if mdp is None:
        raise ValueError(
            "the environment has no exact answers: must be a finite MDP, such as npgrad/Chain-v0"
        )
    x = np.eye(mdp.n_observations)[mdp.observation]
    return mdp, gibbs(make_policy(env, config.network).model), x


def init(env, config, seed):
    """The State before learning. Raises ValueError for an env that is not a FiniteMDPEnv, or whose
    J does not exist."""
    mdp, policy, x = world(env, config)
    theta = policy.model.init(np.random.default_rng(seed))
    evaluate(mdp, policy(theta, x), config.formulation)
    return State(theta, np.zeros_like(theta))


def actor(env, config):
    """act(parameters, observation, rng, greedy) -> action for env.step."""
    policy = make_policy(env, config.network)

    def act(parameters, observation, rng, greedy=False):
        h = policy.model(parameters["theta"], policy.encode(observation))
        head = policy.head
        return policy.decode(head.mode(h) if greedy else head.sample(h, head.noise(rng, 1)[0]))

    return act


def train(env, config, state, gradient=gradient):
    """Theorem 3 for the policy of config.network, as an endless generator."""
    yield from iterate(*world(env, config), config, state, gradient)


def iterate(mdp, policy, x, config, state, gradient=gradient):
    """Theorem 3 for any policy. Metrics of update k tell J(θ_k) and ‖∇J(θ_k)‖, before its step."""
    while True:
        pi = policy(state.theta, x)
        J, d, q = evaluate(mdp, pi, config.formulation)
        psi = score(state.theta, policy, x)
        state.w[:] = fit(psi, pi, d, q - (pi * q).sum(1, keepdims=True))
        ascent = gradient(state.theta, policy, x, d, psi @ state.w)
        step_size = config.step_size / (1 + state.updates) ** config.decay
        state.theta += step_size * (state.w if config.direction == "natural" else ascent)
        state.updates += 1
        yield Metrics(
            steps=state.updates,
            episodes=state.updates,
            returns=(float(J),),
            lengths=(1,),
            scalars={"gradient_norm": float(np.linalg.norm(ascent)), "step_size": step_size},
        )
