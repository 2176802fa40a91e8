"""The linear-quadratic regulator: exact results and a Gymnasium environment from the same arrays.

    s' = A s + B a + ε, ε ~ N(0, W);   r = −(sᵀ Q s + aᵀ R a);   J = E Σ_t γᵗ r_t,  E s₀ s₀ᵀ = Σ₀

For a linear policy a = −K s, with M = A − B K (all sums by linear solves):

    P_K = Q + Kᵀ R K + γ Mᵀ P_K M                 v(s) = −sᵀ P_K s − c,  c = γ/(1−γ) tr(P_K W)
    q(s, a) = −sᵀ Q s − aᵀ R a − γ (A s + B a)ᵀ P_K (A s + B a) − c
    Σ_K = Σ_t γᵗ E s_t s_tᵀ:  Σ_K = Σ₀ + γ/(1−γ) W + γ M Σ_K Mᵀ
    J(K) = −tr(P_K Σ₀) − c
    ∇_K J = −2 ((R + γ Bᵀ P_K B) K − γ Bᵀ P_K A) Σ_K     (Fazel et al. 2018, Lemma 1; from memory)
    K* = (R + γ Bᵀ P B)⁻¹ γ Bᵀ P A
    P = Q + γ Aᵀ P A − γ² Aᵀ P B (R + γ Bᵀ P B)⁻¹ Bᵀ P A                     (Riccati's equation)

All of these require √γ ρ(M) < 1.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from npgrad import Array


@dataclass(frozen=True)
class LQR:
    """The arrays of a regulator: A (n, n), B (n, d), Q, W, Sigma0 (n, n), R (d, d); γ in [0, 1).

    Raises ValueError if shapes disagree, if Q, W or Sigma0 is not symmetric and positive
    semidefinite, or if R is not symmetric and positive definite.
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    W: Array
    Sigma0: Array
    gamma: float

    def __post_init__(self) -> None:
        n, d = np.shape(self.B)
        for name, shape in dict(A=(n, n), Q=(n, n), R=(d, d), W=(n, n), Sigma0=(n, n)).items():
            x = np.array(getattr(self, name), float)
            object.__setattr__(self, name, x)
            if x.shape != shape:
                raise ValueError(f"{name} has shape {x.shape}: must be {shape}, as B has {(n, d)}")
            least = np.inf if name == "A" else np.linalg.eigvalsh(x)[0]
            if name != "A" and not np.array_equal(x, x.T):
                raise ValueError(f"{name} = {x.tolist()}: must be symmetric")
            if least <= 0.0 if name == "R" else least < -1e-12 * np.abs(x).max():
                kind = "definite" if name == "R" else "semidefinite"
                raise ValueError(f"{name} = {x.tolist()}: must be positive {kind}")
        object.__setattr__(self, "B", np.array(self.B, float))
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma = {self.gamma}: must be in [0, 1)")


def closed_loop(lqr: LQR, K: Array) -> Array:
    """Return M = A − B K. Raises ValueError unless √γ ρ(M) < 1: the sums would diverge."""
    M = lqr.A - lqr.B @ K
    radius = np.sqrt(lqr.gamma) * np.abs(np.linalg.eigvals(M)).max()
    if not radius < 1:
        raise ValueError(f"K = {np.asarray(K).tolist()}: √γ ρ(A − BK) = {radius:.4g}, must be < 1")
    return M


def lyapunov(M: Array, X0: Array) -> Array:
    """Solve X = X₀ + M X Mᵀ, as one linear system in n² unknowns."""
    n = len(M)
    return np.linalg.solve(np.eye(n * n) - np.kron(M, M), X0.reshape(-1)).reshape(n, n)


def cost_matrix(lqr: LQR, K: Array) -> Array:
    """Return P_K (n, n): −sᵀ P_K s is the value of s, without the constant."""
    M = closed_loop(lqr, K)
    return lyapunov(np.sqrt(lqr.gamma) * M.T, lqr.Q + K.T @ lqr.R @ K)


def constant(lqr: LQR, P: Array) -> float:
    """Return c = γ/(1−γ) tr(P W), the discounted cost of the noise."""
    return lqr.gamma / (1 - lqr.gamma) * np.trace(P @ lqr.W)


def state_value(lqr: LQR, K: Array, S: Array) -> Array:
    """Return v(s) of a = −K s, for S (..., n)."""
    P = cost_matrix(lqr, K)
    return -np.einsum("...i,ij,...j", S, P, S) - constant(lqr, P)


def action_value(lqr: LQR, K: Array, S: Array, A: Array) -> Array:
    """Return q(s, a): first a, then −K s at every step, for S (..., n) and A (..., d)."""
    P = cost_matrix(lqr, K)
    S2 = S @ lqr.A.T + A @ lqr.B.T
    now = np.einsum("...i,ij,...j", S, lqr.Q, S) + np.einsum("...i,ij,...j", A, lqr.R, A)
    return -now - lqr.gamma * np.einsum("...i,ij,...j", S2, P, S2) - constant(lqr, P)


def occupancy(lqr: LQR, K: Array) -> Array:
    """Return Σ_K (n, n) = Σ_t γᵗ E s_t s_tᵀ."""
    start = lqr.Sigma0 + lqr.gamma / (1 - lqr.gamma) * lqr.W
    return lyapunov(np.sqrt(lqr.gamma) * closed_loop(lqr, K), start)


def performance(lqr: LQR, K: Array) -> float:
    """Return J(K) of a = −K s."""
    P = cost_matrix(lqr, K)
    return -np.trace(P @ lqr.Sigma0) - constant(lqr, P)


def policy_gradient(lqr: LQR, K: Array) -> Array:
    """Return ∇_K J (d, n); ascent."""
    P = cost_matrix(lqr, K)
    E = (lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B) @ K - lqr.gamma * lqr.B.T @ P @ lqr.A
    return -2 * E @ occupancy(lqr, K)


def optimal_gain(lqr: LQR) -> Array:
    """Return K* (d, n). Raises ValueError if no K has a finite cost.

    P is computed by the doubling algorithm (Anderson 1978): H_k is the cost matrix of 2ᵏ steps, so
    a few dozen iterations suffice. With A₀ = √γ A, G₀ = γ B R⁻¹ Bᵀ, H₀ = Q:

        A ← A (I + G H)⁻¹ A      G ← G + A (I + G H)⁻¹ G Aᵀ      H ← H + Aᵀ H (I + G H)⁻¹ A
    """
    A, B = np.sqrt(lqr.gamma) * lqr.A, np.sqrt(lqr.gamma) * lqr.B
    G, H = B @ np.linalg.solve(lqr.R, B.T), lqr.Q
    for _ in range(60):
        step = np.linalg.solve(np.eye(len(A)) + G @ H, np.hstack([A, G]))
        A_step, G_step = np.hsplit(step, 2)
        with np.errstate(over="ignore", invalid="ignore"):
            A, G, H, before = A @ A_step, G + A @ G_step @ A.T, H + A.T @ H @ A_step, H
        if not np.isfinite(H).all():
            break
        if np.abs(H - before).max() <= 1e-14 * np.abs(H).max():
            P = (H + H.T) / 2
            left = lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B
            return np.linalg.solve(left, lqr.gamma * lqr.B.T @ P @ lqr.A)
    raise ValueError("no linear policy has a finite cost: (√γ A, √γ B) must be stabilisable")


class LQREnv(gymnasium.Env[Any, Any]):
    """Environment of an LQR: s₀ ~ N(0, Σ₀), truncated after `horizon` steps, no terminal state.

    The action space is ±bound, but `step` takes any action unchanged.
    """

    def __init__(self, lqr: LQR, bound: float, horizon: int) -> None:
        n, d = lqr.B.shape
        self.lqr, self.horizon = lqr, horizon
        self.observation_space = Box(-np.inf, np.inf, (n,), np.float64)
        self.action_space = Box(-bound, bound, (d,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.s = self._normal(self.lqr.Sigma0)
        self.t = 0
        return self.s.copy(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        a, lqr = np.asarray(action, float), self.lqr
        r = -float(self.s @ lqr.Q @ self.s + a @ lqr.R @ a)
        self.s = lqr.A @ self.s + lqr.B @ a + self._normal(lqr.W)
        self.t += 1
        return self.s.copy(), r, False, self.t >= self.horizon, {}

    def _normal(self, covariance: Array) -> Array:
        values, vectors = np.linalg.eigh(covariance)
        root = np.sqrt(np.maximum(values, 0.0))
        return vectors @ (root * self.np_random.standard_normal(len(root)))


def spring() -> LQR:
    """Return a mass on a spring, with friction, pushed by a force: position, speed; γ = 0.95."""
    return LQR(
        A=np.array([[1.0, 0.1], [-0.1, 0.9]]),
        B=np.array([[0.0], [0.1]]),
        Q=np.diag([1.0, 0.1]),
        R=np.array([[0.1]]),
        W=1e-4 * np.eye(2),
        Sigma0=np.diag([0.25, 0.25]),
        gamma=0.95,
    )


def lqr_env() -> LQREnv:
    """Return the spring as an environment: gymnasium.make("npgrad/LQR-v0") calls this."""
    return LQREnv(spring(), bound=4.0, horizon=100)
