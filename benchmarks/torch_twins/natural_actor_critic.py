"""Natural actor–critic in torch: what algorithms/natural_actor_critic.py computes, for comparison.

    Usual    as tutorials write it: torch.distributions and a graph at every step, autograd.grad of
             every step alone, torch.linalg.lstsq of the rows
    Lean     acts without gradient; one pass forward and back for all steps of an update; the rows
             by layer, as the product of what enters it and the gradient at what leaves it (in less
             time than torch.func.vmap takes); normal equations, by Cholesky's factors

Each has advance(): the episodes of one update, and the update; it returns the number of steps.

Δw minimises Σ_t (δ_t − Δwᵀφ_t)² and ω minimises Σ_t γ^t (δ_t − Δwᵀφ_t − ωᵀψ_t)², each with a ridge:
its damping in mean eigenvalues. φ_t = ∇v̂(S_t), ψ_t = ∇ln π(A_t|S_t), δ_t = G_t − v̂(S_t). SGD is
handed −ω, with the page's α, and −Δw, with 1. Usual: Discrete actions.
"""

import torch
from torch import nn

from benchmarks.torch_twins import optimizers
from benchmarks.torch_twins.twin import Twin


class Usual(Twin):
    lean = False

    def __init__(self, env, config, policy, value):
        super().__init__(env, config, policy, value)
        pairs = (policy, config.step_size), (value, 1.0)
        groups = [dict(params=list(net.parameters()), lr=rate) for net, rate in pairs]
        self.optimizer = optimizers.make("sgd", groups, lean=self.lean)

    def advance(self):
        """Play the episodes of one update, learn from them, return their number of steps."""
        c = self.config
        episodes = [self.episode() for _ in range(c.episodes_per_update)]
        psi, phi, delta, discounts = self.rows(*map(torch.cat, zip(*episodes)))
        d_w = self.fit(phi, delta, torch.ones_like(delta), c.damping_w)
        omega = self.fit(psi, delta - phi @ d_w, discounts, c.damping)
        self.optimizer.step([*like(self.policy, -omega), *like(self.value, -d_w)])
        return len(delta)

    def episode(self):
        """Play one episode: ψ (T, n), φ (T, m), δ (T,), γ^t (T,)."""
        steps, terminated = self.unroll()
        _, _, values, rewards = zip(*steps)
        psi = [alone(pi.log_prob(a), self.policy) for pi, a, *_ in steps]
        phi = [alone(v, self.value) for v in values]
        G, discounts = self.targets(rewards, terminated, self.x)
        return torch.stack(psi), torch.stack(phi), G - torch.stack(values).detach(), discounts

    def targets(self, rewards, terminated, x):
        """G and γ^t (T,) of an episode that ends at x."""
        G = self.returns(rewards, 0.0 if terminated else self.value(x).item())
        return G, self.config.gamma ** torch.arange(len(G), dtype=self.dtype)

    def rows(self, *found):
        """ψ, φ, δ and γ^t of all steps, from what `episode` gave."""
        return found

    def fit(self, X, y, weights, damping):
        """The shortest u that minimises Σ_t c_t (y_t − uᵀx_t)² + λ tr(Σ_t c_t x_t x_tᵀ)/n |u|²."""
        root, n = weights.sqrt(), X.shape[1]
        X, y = root[:, None] * X, root * y
        ridge = (damping / n * X.square().sum()).sqrt()
        X = torch.cat([X, ridge * torch.eye(n, dtype=X.dtype)])
        y = torch.cat([y, y.new_zeros(n)])
        cut = (n * torch.finfo(X.dtype).eps) ** 0.5
        return torch.linalg.lstsq(X, y[:, None], rcond=cut, driver="gelsd").solution[:, 0]


class Lean(Usual):
    lean = True

    def episode(self):
        """Play one episode: S (T, d), A (T, ...), G (T,), γ^t (T,)."""
        x, A, rewards, terminated = self.roll_out()
        return x[:-1], self.head.tensor(A), *self.targets(rewards, terminated, x[-1])

    def rows(self, S, A, G, discounts):
        _, psi = each(self.policy, S, lambda h: self.head.log_prob(h, A))
        v, phi = each(self.value, S, lambda v: v[:, 0])
        return psi, phi, G - v, discounts

    def fit(self, X, y, weights, damping):
        weighted = (weights[:, None] * X).T
        F, g = weighted @ X, weighted @ y[:, None]
        F.diagonal().add_(damping * F.diagonal().mean())
        L, failed = torch.linalg.cholesky_ex(F)
        if damping == 0.0 or failed:
            return torch.linalg.lstsq(F, g, driver="gelsd").solution[:, 0]
        return torch.cholesky_solve(g, L)[:, 0]


def alone(y, net):
    """∂y/∂θ of a number, in the order of the parameters."""
    d = torch.autograd.grad(y, list(net.parameters()), retain_graph=True)
    return torch.cat([x.flatten() for x in d])


def each(net, x, f):
    """f(net(x)) (T,), row by row a function of x, and the gradients of its entries (T, n)."""
    inputs, outputs = [], []
    for layer in net:
        below, x = x, layer(x)
        if isinstance(layer, nn.Linear):
            inputs.append(below.detach())
            outputs.append(x)
    y = f(x)
    parts = []
    for layer, u, g in zip(net[::2], inputs, torch.autograd.grad(y.sum(), outputs)):
        parts.append((g[:, :, None] * u[:, None]).flatten(1))
        if layer.bias is not None:
            parts.append(g)
    return y.detach(), torch.cat(parts, 1)


def like(net, u):
    """u in pieces, as the parameters lie."""
    parameters = list(net.parameters())
    pieces = u.split([p.numel() for p in parameters])
    return [piece.view_as(p) for piece, p in zip(pieces, parameters)]
