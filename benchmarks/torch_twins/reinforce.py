"""REINFORCE in torch: what algorithms/reinforce.py computes, written four ways for comparison.

    Usual    as tutorials write it: torch.distributions and a graph at every step, losses summed at
             the end, default Adam
    Lean     acts without gradient, one batched forward and backward per episode, fused Adam,
             observations used as they are
    Gumbel   Lean, with this library's way of sampling instead of torch.multinomial: argmax of the
             preferences plus noise drawn for many steps at once
    Bare     Gumbel, acting by torch's kernels on the weights, past the module: as little as torch
             can do at a step

All descend −Σ_t γ^t (G_t − b(S_t)) ln π(A_t|S_t, θ) + Σ_t ½ (G_t − v̂(S_t, w))², summed over the
steps of one episode, b = v̂ or 0; the return of a truncated episode goes on from v̂. For batch form,
reward_to_go, adam, one episode per update, Discrete actions and flat observations.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional as F

BLOCK = 128  # steps of noise drawn at once


def network(model, theta, dtype):
    """The torch module of an npgrad mlp with tanh, holding a copy of θ."""
    pairs = list(zip(model.sizes, model.sizes[1:]))
    layers = [layer for n, m in pairs for layer in (nn.Linear(n, m), nn.Tanh())][:-1]
    module = nn.Sequential(*layers).to(dtype)
    views = model.layout.views(theta.copy())
    with torch.no_grad():
        for layer, W, b in zip(module[::2], views[::2], views[1::2]):
            layer.weight.copy_(torch.from_numpy(W.T))
            layer.bias.copy_(torch.from_numpy(b))
    return module


def flat(module, gradient=False):
    """The parameters, or the gradients they hold, as θ is laid out. Shape (size of θ,)."""
    pick = (lambda p: p.grad) if gradient else (lambda p: p.detach())
    pieces = [pick(p).t().reshape(-1).double().numpy() for p in module.parameters()]
    return np.concatenate(pieces)


class Usual:
    """policy and value: modules (value None without a learned baseline)."""

    adam_options: ClassVar[dict] = {}

    def __init__(self, env, config, policy, value):
        self.env, self.gamma, self.policy, self.value = env, config.gamma, policy, value
        self.dtype = next(policy.parameters()).dtype
        groups = [dict(params=policy.parameters(), lr=config.step_size)]
        if value is not None:
            groups.append(dict(params=value.parameters(), lr=config.step_size_w))
        self.optimizer = torch.optim.Adam(groups, **self.adam_options)

    def features(self, s):
        return torch.as_tensor(s, dtype=self.dtype)

    def returns(self, rewards, v_final):
        """G_t, and γ^t. Both (T,)."""
        G = []
        for r in reversed(rewards):
            v_final = r + self.gamma * v_final
            G.append(v_final)
        G.reverse()
        discounts = self.gamma ** torch.arange(len(G), dtype=self.dtype)
        return torch.tensor(G, dtype=self.dtype), discounts

    def episode(self):
        """Play one episode, learn from it, return its number of steps."""
        log_probs, values, rewards = [], [], []
        s, _ = self.env.reset()
        terminated = truncated = False
        while not (terminated or truncated):
            x = self.features(s)
            pi = Categorical(logits=self.policy(x))
            a = pi.sample()
            log_probs.append(pi.log_prob(a))
            if self.value is not None:
                values.append(self.value(x).squeeze(-1))
            s, r, terminated, truncated, _ = self.env.step(a.item())
            rewards.append(r)
        bootstrap = self.value is not None and not terminated
        v_final = self.value(self.features(s)).item() if bootstrap else 0.0
        v = None if self.value is None else torch.stack(values)
        self.learn(torch.stack(log_probs), v, *self.returns(rewards, v_final))
        return len(rewards)

    def learn(self, log_probs, v, G, discounts):
        advantages = G if v is None else G - v.detach()
        loss = -(discounts * advantages * log_probs).sum()
        if v is not None:
            loss = loss + 0.5 * ((G - v) ** 2).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Lean(Usual):
    adam_options: ClassVar[dict] = {"fused": True}

    def features(self, s):
        x = torch.from_numpy(s)  # shares memory: CartPole's observations are new, float32 arrays
        return x if self.dtype == x.dtype else x.to(self.dtype)

    def act(self, x):
        return torch.multinomial(self.policy(x).softmax(-1), 1).item()

    def episode(self):
        S, A, R = [], [], []
        s, _ = self.env.reset()
        terminated = truncated = False
        with torch.inference_mode():
            while not (terminated or truncated):
                a = self.act(self.features(s))
                S.append(s)
                s, r, terminated, truncated, _ = self.env.step(a)
                A.append(a)
                R.append(r)
        x = self.features(np.array([*S, s]))
        log_probs = -F.cross_entropy(self.policy(x[:-1]), torch.tensor(A), reduction="none")
        v, v_final = None, 0.0
        if self.value is not None:
            v = self.value(x)[:, 0]
            v, v_final = v[:-1], 0.0 if terminated else v[-1].item()
        self.learn(log_probs, v, *self.returns(R, v_final))
        return len(R)


class Gumbel(Lean):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.noise = self.draw()

    def draw(self):
        """Rows of Gumbel noise, without end."""
        while True:
            n = int(self.env.action_space.n)
            yield from -torch.empty(BLOCK, n, dtype=self.dtype).exponential_().log_()

    def preferences(self, x):
        return self.policy(x)

    def act(self, x):
        return (self.preferences(x) + next(self.noise)).argmax().item()


class Bare(Gumbel):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.layers = [(p.weight.detach(), p.bias.detach()) for p in self.policy[::2]]

    def preferences(self, x):
        *hidden, (W, b) = self.layers
        for V, c in hidden:
            x = torch.addmv(c, V, x).tanh_()
        return torch.addmv(b, W, x)
