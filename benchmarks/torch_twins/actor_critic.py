"""Actor–critic in torch, one-step and with traces: what algorithms/actor_critic.py computes.

    Usual    as tutorials write it: torch.distributions, one loss, one default RMSprop and one
             backward pass for each network
    Lean     one loss and one optimiser for both, v̂(S') without gradient, no distribution object,
             RMSprop in its fastest form here (foreach), observations used as they are, gradients
             handed over without accumulation
    Gumbel   Lean, with this library's way of sampling instead of torch.multinomial: argmax of the
             preferences plus noise drawn for many steps at once
    ...Traces   the same with a trace beside every parameter: tensor by tensor in Usual, foreach in
                Lean and Gumbel

All descend, at every step, −I δ ln π(A|S, θ) − δ v̂(S, w), or take −δz for the gradient, z ← γλz +
∇(I ln π(A|S, θ) + v̂(S, w)), with δ = R + γ v̂(S', w) − v̂(S, w) a number and I = γ^t, by torch's
RMSprop (ε outside the root, 1e-8; the page's rmsprop_outside). For Discrete actions and flat
observations.
"""

import torch
from torch.distributions import Categorical
from torch.nn import functional as F

from benchmarks.torch_twins.reinforce import flat, network

__all__ = [
    "Gumbel",
    "GumbelTraces",
    "Lean",
    "LeanTraces",
    "Usual",
    "UsualTraces",
    "flat",
    "network",
]
BLOCK = 128


class Usual:
    def __init__(self, env, config, policy, value):
        self.env, self.gamma, self.policy, self.value = env, config.gamma, policy, value
        self.dtype = next(policy.parameters()).dtype
        self.groups = [
            dict(params=list(policy.parameters()), lr=config.step_size),
            dict(params=list(value.parameters()), lr=config.step_size_w),
        ]
        self.parameters = self.groups[0]["params"] + self.groups[1]["params"]
        self.actor_optimizer, self.critic_optimizer = (
            torch.optim.RMSprop([group]) for group in self.groups
        )
        self.S, self.I, self.over = None, 1.0, True

    def begin(self):
        s, _ = self.env.reset()
        self.S, self.I = self.features(s), 1.0

    def features(self, s):
        return torch.as_tensor(s, dtype=self.dtype)

    def step(self):
        """One step of the environment and of both networks."""
        if self.over:
            self.begin()
        x = self.S
        pi = Categorical(logits=self.policy(x))
        a = pi.sample()
        s, r, terminated, truncated, _ = self.env.step(a.item())
        x2 = self.features(s)
        v, v2 = self.value(x).squeeze(-1), self.value(x2).squeeze(-1)
        delta = r + self.gamma * v2.detach() * (1 - terminated) - v
        self.update(pi.log_prob(a), v, delta)
        self.S, self.over = x2, terminated or truncated
        self.I *= self.gamma

    def update(self, log_pi, v, delta):
        actor_loss = -self.I * delta.detach() * log_pi
        critic_loss = 0.5 * delta**2
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()


class Lean(Usual):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.optimizer = torch.optim.RMSprop(self.groups, foreach=True)

    def features(self, s):
        x = torch.from_numpy(s)  # shares memory: CartPole's observations are new, float32 arrays
        return x if self.dtype == x.dtype else x.to(self.dtype)

    def draw_action(self, h):
        return torch.multinomial(h.softmax(-1), 1).item()

    def step(self):
        if self.over:
            self.begin()
        x = self.S
        h = self.policy(x)
        a = self.draw_action(h.detach())
        s, r, terminated, truncated, _ = self.env.step(a)
        x2, v2 = self.features(s), 0.0
        if not terminated:
            with torch.inference_mode():
                v2 = self.value(x2).item()
        v = self.value(x)[0]
        delta = r + self.gamma * v2 - v.item()
        self.update(F.log_softmax(h, -1)[a], v, delta)
        self.S, self.over = x2, terminated or truncated
        self.I *= self.gamma

    def update(self, log_pi, v, delta):
        loss = log_pi * (-self.I * delta) - v * delta
        self.descend(torch.autograd.grad(loss, self.parameters))

    def descend(self, gradients):
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = gradient
        self.optimizer.step()


class GumbelActions:
    """This library's way of sampling, for a lean twin."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.noise = self.draw()

    def draw(self):
        """Rows of Gumbel noise, without end."""
        while True:
            n = int(self.env.action_space.n)
            yield from -torch.empty(BLOCK, n, dtype=self.dtype).exponential_().log_()

    def draw_action(self, h):
        return (h + next(self.noise)).argmax().item()


class Gumbel(GumbelActions, Lean):
    pass


class UsualTraces(Usual):
    def __init__(self, env, config, policy, value):
        super().__init__(env, config, policy, value)
        self.z = [torch.zeros_like(parameter) for parameter in self.parameters]
        n_theta = len(self.groups[0]["params"])
        keep = [config.lambda_theta] * n_theta + [config.lambda_w] * (len(self.z) - n_theta)
        self.keep = [self.gamma * decay for decay in keep]

    def begin(self):
        super().begin()
        for z in self.z:
            z.zero_()

    def update(self, log_pi, v, delta):
        self.actor_optimizer.zero_grad()
        (self.I * log_pi).backward()
        self.critic_optimizer.zero_grad()
        v.backward()
        with torch.no_grad():
            for parameter, z, keep in zip(self.parameters, self.z, self.keep):
                z.mul_(keep).add_(parameter.grad)
                parameter.grad = -delta * z
        self.actor_optimizer.step()
        self.critic_optimizer.step()


class LeanTraces(Lean, UsualTraces):
    def update(self, log_pi, v, delta):
        gradients = torch.autograd.grad(log_pi * self.I + v, self.parameters)
        torch._foreach_mul_(self.z, self.keep)
        torch._foreach_add_(self.z, gradients)
        self.descend(torch._foreach_mul(self.z, -delta))


class GumbelTraces(Gumbel, LeanTraces):
    pass
