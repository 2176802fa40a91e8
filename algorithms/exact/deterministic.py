"""The deterministic policy-gradient theorem on the regulator, in closed form. Silver et al. 2014.

The regulator and its symbols are those of algorithms.exact.lqr. μ(s) = −K s, and every θ here is K,
so (∇_K μ) x = −x sᵀ for a vector x of an action's length. With N = R + γ Bᵀ P_K B:

    ∇_a q(s, a)|_{a = μ(s)} = H s,       H = 2 (N K − γ Bᵀ P_K A)                 (action_gradient)
    ∫ ρ(s) ∇_K μ(s) ∇_a q(s, a)|_{a = μ(s)} ds = −H Σ,  Σ = ∫ ρ(s) s sᵀ ds   (Theorem 1: gradient)

For ρ(s) = Σ_t γᵗ Pr(s_t = s) of μ itself, Σ is Σ_K, and −H Σ_K = ∇_K J.

Theorem 2, the limit of the stochastic gradient: with a = −K s + σ ξ, ξ ~ N(0, I), the regulator is
one whose noise has the covariance W + σ² B Bᵀ, and every step costs σ² tr R more:

    J_σ = J − σ²/(1−γ) tr N           ∇_K J_σ = −H Σ_K^σ = ∇_K J − σ² H D          (no other terms)
    D = γ/(1−γ) B Bᵀ + γ M D Mᵀ       so ∇_K J_σ → ∇_K J as σ → 0, at the rate σ²

What the theorem spares is the variance. The score of one action, ∇_K ln π = −(1/σ) ξ sᵀ, times
q − b has in a state s, with g = H s and u = v(s) − b (v is that of μ),

    tr Cov = |s|² [d u²/σ² + (d+1) |g|² − 2 (d+2) u tr N + σ² (d+4) ((tr N)² + 2 tr N²)]

since q(s, −K s + σ ξ) = v(s) + σ gᵀξ − σ² ξᵀNξ, and E |ξ|² f(ξ) = (d+k) E f(ξ) if f is homogeneous
of degree k. It grows as 1/σ², unless b is v(s) or differs from it by O(σ). A sampled return G in
place of q adds E |ξ|² Var(G|s, a) |s|²/σ²: then it grows so with every b where the noise W costs
something.

Theorem 3, compatible features: gains K = Σ_i θ_i K_i have ∇_θi μ = −K_i s, and the critic

    Q^w(s, a) = (a − μ(s))ᵀ ∇_θμ(s)ᵀ w + V(s)         ∇_a Q^w = −Σ_i w_i K_i s   at a = μ(s)

may replace q if w minimises E_ρ |∇_a Q^w − ∇_a q|²: the normal equation of that is G w = ∇_θ J,
G_ij = tr(K_iᵀ K_j Σ). G is the deterministic policy's metric, so w is a natural gradient.

What an actor–critic gets wrong that takes s from elsewhere (Σ_b for Σ_K) and has q + e, with
∇_a e(s, a)|_{a = μ(s)} = H_e s, is exactly

    −(H + H_e) Σ_b − ∇_K J = −H (Σ_b − Σ_K) − H_e Σ_b                                      (errors)
"""

import numpy as np

from algorithms.exact.lqr import LQR, closed_loop, cost_matrix, lyapunov, occupancy, state_value
from npgrad import Array


def curvature(lqr: LQR, P: Array) -> Array:
    """Return N = R + γ Bᵀ P B (d, d): −2 N is ∇²_a q."""
    return lqr.R + lqr.gamma * lqr.B.T @ P @ lqr.B


def action_gradient(lqr: LQR, K: Array, critic: Array | None = None) -> Array:
    """Return H (d, n): ∇_a q(s, a) = H s at a = −K s.

    q is that of the gain `critic`, by default K: for another one, H is H_K + H_e with a critic's
    error e = q^critic − q^K.
    """
    P = cost_matrix(lqr, K if critic is None else critic)
    return 2 * (curvature(lqr, P) @ K - lqr.gamma * lqr.B.T @ P @ lqr.A)


def gradient(H: Array, Sigma: Array) -> Array:
    """Return ∫ ρ(s) ∇_K μ(s) ∇_a q ds = −H Σ (d, n), of ∇_a q = H s and Σ = ∫ ρ(s) s sᵀ ds."""
    return -H @ Sigma


def exploration(lqr: LQR, K: Array) -> Array:
    """Return D (n, n): exploring with the covariance σ² I adds σ² D to Σ_K."""
    noise = lqr.gamma / (1 - lqr.gamma) * lqr.B @ lqr.B.T
    return lyapunov(np.sqrt(lqr.gamma) * closed_loop(lqr, K), noise)


def stochastic_loss(lqr: LQR, K: Array, sigma: float) -> float:
    """Return J − J_σ = σ²/(1−γ) tr N, what the Gaussian policy N(−K s, σ² I) loses."""
    return sigma**2 / (1 - lqr.gamma) * np.trace(curvature(lqr, cost_matrix(lqr, K)))


def stochastic_gradient(lqr: LQR, K: Array, sigma: float) -> Array:
    """Return ∇_K J_σ (d, n) of the Gaussian policy N(−K s, σ² I), σ fixed; ascent."""
    return gradient(action_gradient(lqr, K), occupancy(lqr, K) + sigma**2 * exploration(lqr, K))


def score_variance(lqr: LQR, K: Array, s: Array, sigma: float, b: float) -> float:
    """Return tr Cov of ∇_K ln π(a|s) (q(s, a) − b), a ~ N(−K s, σ² I), in one state s (n,).

    q is that of μ. The q of the Gaussian policy differs from it by a constant, which b may hold.
    """
    d, N = len(K), curvature(lqr, cost_matrix(lqr, K))
    g, u, trace = action_gradient(lqr, K) @ s, state_value(lqr, K, s) - b, np.trace(N)
    square = (d + 4) * (trace**2 + 2 * np.sum(N * N))
    return (s @ s) * (
        d * u**2 / sigma**2 + (d + 1) * (g @ g) - 2 * (d + 2) * u * trace + sigma**2 * square
    )


def compatible(H: Array, Sigma: Array, basis: Array) -> tuple[Array, Array]:
    """Return (w (m,), ∇_θ J (m,)) for gains K = Σ_i θ_i basis[i], basis (m, d, n): G w = ∇_θ J.

    Where G is singular, w is the shortest solution.
    """
    G = np.einsum("iab,jac,bc->ij", basis, basis, Sigma)
    slope = np.einsum("iab,ab->i", basis, gradient(H, Sigma))
    return np.linalg.lstsq(G, slope)[0], slope


def errors(H: Array, Sigma: Array, H_e: Array, Sigma_b: Array) -> tuple[Array, Array]:
    """Return (−H (Σ_b − Σ), −H_e Σ_b), both (d, n): what the states and the critic add to ∇_K J."""
    return gradient(H, Sigma_b - Sigma), gradient(H_e, Sigma_b)
