"""An A3C worker in torch: what one worker of algorithms/a3c.py computes, for comparison.

    Usual    as tutorials write it: torch.distributions and a graph at every step, losses summed
             step by step, parameters pulled by load_state_dict
    Lean     acts without gradient, then one batched forward and backward pass of both networks, no
             distribution object, pulls by torch._foreach_copy_, observations used as they are
    Gumbel   Lean, with this library's way of sampling instead of torch.multinomial

All descend −Σ_i [(R_i − V) ln π(a_i|s_i) + β H(π(·|s_i)) − ½ c (R_i − V(s_i))²] over a segment of
up to t_max steps, by Shared RMSProp with ε inside the root (A3C eqs 8–9), which torch lacks:
it is written in its foreach operations. For Discrete actions, flat observations, separate networks.
"""

import torch
from torch.distributions import Categorical
from torch.nn import functional as F

from benchmarks.torch_twins.actor_critic import GumbelActions
from benchmarks.torch_twins.reinforce import flat, network

__all__ = ["Gumbel", "Lean", "RMSProp", "Usual", "flat", "network"]


class RMSProp:
    """g ← αg + (1−α)d²;  p ← p − η d/√(g + ε), on lists of tensors."""

    def __init__(self, parameters, config):
        self.parameters, self.config = parameters, config
        self.g = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, gradients):
        c = self.config
        torch._foreach_mul_(self.g, c.decay)
        torch._foreach_addcmul_(self.g, gradients, gradients, 1.0 - c.decay)
        root = torch._foreach_add(self.g, c.eps)
        torch._foreach_sqrt_(root)
        torch._foreach_addcdiv_(self.parameters, gradients, root, -c.step_size)


class Usual:
    """policy, value: the shared modules; the worker has copies of its own."""

    def __init__(self, env, config, policy, value, make):
        self.env, self.config, self.shared = env, config, (policy, value)
        self.policy, self.value = make(), make(value=True)
        self.dtype = next(policy.parameters()).dtype
        self.theirs = [*policy.parameters(), *value.parameters()]
        self.parameters = [*self.policy.parameters(), *self.value.parameters()]
        self.optimizer = RMSProp(self.theirs, config)
        self.over = True

    def features(self, s):
        return torch.as_tensor(s, dtype=self.dtype)

    def pull(self):
        for module, shared in zip((self.policy, self.value), self.shared):
            module.load_state_dict(shared.state_dict())

    def segment(self):
        """One segment: pull, act, differentiate, push; returns its number of steps."""
        c = self.config
        self.pull()
        if self.over:
            s, _ = self.env.reset()
            self.x, self.over = self.features(s), False
        log_probs, entropies, values, rewards = [], [], [], []
        while len(rewards) < c.t_max and not self.over:
            pi = Categorical(logits=self.policy(self.x))
            a = pi.sample()
            values.append(self.value(self.x).squeeze(-1))
            s, r, terminated, truncated, _ = self.env.step(a.item())
            log_probs.append(pi.log_prob(a)), entropies.append(pi.entropy()), rewards.append(r)
            self.x, self.over = self.features(s), terminated or truncated
        R = (
            torch.zeros((), dtype=self.dtype)
            if terminated
            else self.value(self.x).squeeze(-1).detach()
        )
        loss = 0.0
        for i in reversed(range(len(rewards))):
            R = rewards[i] + c.gamma * R
            advantage = R - values[i]
            loss = loss + 0.5 * c.value_coef * advantage**2
            loss = loss - log_probs[i] * advantage.detach() - c.beta * entropies[i]
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        self.gradients = [p.grad for p in self.parameters]
        self.optimizer.step(self.gradients)
        return len(rewards)


class Lean(Usual):
    def features(self, s):
        x = torch.from_numpy(s)  # shares memory: CartPole's observations are new, float32 arrays
        return x if self.dtype == x.dtype else x.to(self.dtype)

    @torch.no_grad()
    def pull(self):
        torch._foreach_copy_(self.parameters, self.theirs)

    def draw_action(self, h):
        return torch.multinomial(h.softmax(-1), 1).item()

    def segment(self):
        c = self.config
        self.pull()
        if self.over:
            s, _ = self.env.reset()
            self.x, self.over = self.features(s), False
        S, A, rewards = [], [], []
        with torch.inference_mode():
            while len(rewards) < c.t_max and not self.over:
                a = self.draw_action(self.policy(self.x))
                S.append(self.x), A.append(a)
                s, r, terminated, truncated, _ = self.env.step(a)
                rewards.append(r)
                self.x, self.over = self.features(s), terminated or truncated
            R = 0.0 if terminated else self.value(self.x).item()
        G = [0.0] * len(rewards)
        for i in reversed(range(len(rewards))):
            G[i] = R = rewards[i] + c.gamma * R
        x = torch.stack(S)
        log_pi, v = F.log_softmax(self.policy(x), -1), self.value(x)[:, 0]
        advantage = torch.tensor(G, dtype=self.dtype) - v
        chosen = log_pi.gather(1, torch.tensor(A)[:, None])[:, 0]
        loss = (
            -(chosen * advantage.detach()).sum()
            + c.beta * (log_pi.exp() * log_pi).sum()
            + 0.5 * c.value_coef * (advantage * advantage).sum()
        )
        self.gradients = torch.autograd.grad(loss, self.parameters)
        self.optimizer.step(self.gradients)
        return len(rewards)


class Gumbel(GumbelActions, Lean):
    pass
