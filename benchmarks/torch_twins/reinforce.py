"""REINFORCE in torch: what algorithms/reinforce.py computes, written five ways for comparison.

    Usual    as tutorials write it: torch.distributions and a graph at every step, losses summed at
             the end, torch's default optimiser
    Lean     acts without gradient, one batched forward and backward per episode, fused or foreach
             optimiser
    Gumbel   Lean, with this library's way of sampling instead of torch.multinomial: argmax of the
             preferences plus noise drawn for many steps at once
    Bare     Gumbel, acting by torch's kernels on the weights, past the module: as little as torch
             can do at a step
    Moving   Lean, in the page's form "moving": an update for every step of the episode

Each has advance(): an update, or those of an episode; it returns the number of steps.

All descend −Σ_t weight_t ln π(A_t|S_t, θ) + Σ_t ½ (G_t − v̂(S_t, w))², summed over the steps of one
episode, weight_t = γ^t (G_t − b(S_t)) or as the page's table says; the return of a truncated
episode goes on from v̂. Usual, Gumbel, Bare: Discrete actions. Usual: one episode per update.
"""

import torch

from benchmarks.torch_twins.twin import Twin


def loss(log_probs, weights):
    """−Σ_t weights_t ln π_t."""
    return -(weights * log_probs).sum()


def value_loss(v, G):
    """½ Σ_t (G_t − v̂_t)²."""
    return 0.5 * ((G - v) ** 2).sum()


class Usual(Twin):
    lean = False

    def __init__(self, env, config, policy, value=None):
        super().__init__(env, config, policy, value)
        self.both_step_sizes()
        self.mean_return, self.returns_seen = 0.0, 0

    def discounts(self, G):
        """γ^t. (T,)"""
        return self.config.gamma ** torch.arange(len(G), dtype=self.dtype)

    def advance(self):
        """Play one episode, learn from it, return its number of steps."""
        steps, terminated = self.unroll()
        _, _, values, rewards = zip(*steps)
        log_probs = [pi.log_prob(a) for pi, a, *_ in steps]
        bootstrap = self.value is not None and not terminated
        v_final = self.value(self.x).item() if bootstrap else 0.0
        v = None if self.value is None else torch.stack(values)
        G = self.returns(rewards, v_final)
        total = self.loss(torch.stack(log_probs), v, G, self.discounts(G))
        self.optimizer.step(self.differentiate(total))
        self.learn_mean(G)
        return len(rewards)

    def loss(self, log_probs, v, G, discounts):
        advantages = G - (self.mean_return if v is None else v.detach())
        if self.config.weighting == "total":
            advantages = advantages[:1]
        if self.config.weighting == "reward_to_go":
            advantages = discounts * advantages
        total = loss(log_probs, advantages)
        return total if v is None else total + value_loss(v, G)

    def learn_mean(self, G):
        """The running mean of the returns, for baseline "mean"."""
        if self.config.baseline == "mean":
            seen = G[:1] if self.config.weighting == "total" else G
            self.returns_seen += len(seen)
            self.mean_return += (seen - self.mean_return).sum().item() / self.returns_seen


class Lean(Usual):
    lean = True

    def targets(self, x, rewards, terminated):
        """v̂ of all steps, or None; G."""
        v, v_final = None, 0.0
        if self.value is not None:
            v = self.value(x)[:, 0]
            v, v_final = v[:-1], 0.0 if terminated else v[-1].item()
        return v, self.returns(rewards, v_final)

    def advance(self):
        """Play the episodes of one update, learn from them, return their number of steps."""
        steps, total, n = 0, 0.0, self.config.episodes_per_update
        for _ in range(n):
            x, A, rewards, terminated = self.roll_out()
            v, G = self.targets(x, rewards, terminated)
            log_probs = self.head.log_prob(self.policy(x[:-1]), self.head.tensor(A))
            total = total + self.loss(log_probs, v, G, self.discounts(G)) / n
            self.learn_mean(G)
            steps += len(rewards)
        self.optimizer.step(self.differentiate(total))
        return steps


class Moving(Lean):
    def advance(self):
        """Play one episode; for each of its steps an update of θ and w."""
        x, A, rewards, terminated = self.roll_out()
        with torch.no_grad():
            v, G = self.targets(x, rewards, terminated)
        A, discounts = self.head.tensor(A), self.discounts(G)
        first = G[0] - (self.mean_return if v is None else v[0])
        for t in range(len(rewards)):
            t = slice(t, t + 1)
            log_prob = self.head.log_prob(self.policy(x[t]), A[t])
            v = None if self.value is None else self.value(x[t])[:, 0]
            total = self.loss(log_prob, v, G[t], discounts[t])
            if self.config.weighting == "total":
                total = loss(log_prob, first) + (0.0 if v is None else value_loss(v, G[t]))
            self.optimizer.step(self.differentiate(total))
        self.learn_mean(G)
        return len(rewards)


class Gumbel(Lean):
    gumbel = True


class Bare(Gumbel):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.layers = [(p.weight.detach(), p.bias.detach()) for p in self.policy[::2]]

    def preferences(self, x):
        *hidden, (W, b) = self.layers
        for V, c in hidden:
            x = torch.addmv(c, V, x).tanh_()
        return torch.addmv(b, W, x)
