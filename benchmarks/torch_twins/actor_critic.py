"""Actor–critic in torch, the three boxes: what algorithms/actor_critic.py computes.

    Usual    as tutorials write it: torch.distributions, one loss, one default optimiser and one
             backward pass for each network
    Lean     one loss and one optimiser for both, v̂(S') without gradient, no distribution object,
             the optimiser in its fastest form here (fused or foreach), observations used as they
             are, gradients handed over without accumulation
    Gumbel   Lean, with this library's way of sampling instead of torch.multinomial: argmax of the
             preferences plus noise drawn for many steps at once
    ...Traces      the same with a trace beside every parameter: tensor by tensor in Usual, foreach
                   in Lean and Gumbel
    ...Continuing  traces that never end, of differences to the average reward R̄

All descend, at every step, −I δ ln π(A|S, θ) − δ v̂(S, w), or take −δz for the gradient, z ← γλz +
∇(I ln π(A|S, θ) + v̂(S, w)), with δ = R + γ v̂(S', w) − v̂(S, w) a number and I = γ^t; continuing
with γ = I = 1 and R − R̄ for R. For flat observations; Usual and Gumbel for Discrete actions.
"""

import torch
from torch.distributions import Categorical

from benchmarks.torch_twins import heads, optimizers
from benchmarks.torch_twins.networks import flat, network

__all__ = [
    "Gumbel",
    "GumbelContinuing",
    "GumbelTraces",
    "Lean",
    "LeanContinuing",
    "LeanTraces",
    "Usual",
    "UsualContinuing",
    "UsualTraces",
    "flat",
    "network",
]
BLOCK = 128


class Usual:
    def __init__(self, env, config, policy, value):
        self.env, self.config, self.policy, self.value = env, config, policy, value
        self.gamma = getattr(config, "gamma", 1.0)  # the continuing method has none
        self.dtype = next(policy.parameters()).dtype
        self.groups = [
            dict(params=list(policy.parameters()), lr=config.step_size),
            dict(params=list(value.parameters()), lr=config.step_size_w),
        ]
        self.of_actor, self.of_critic = (group["params"] for group in self.groups)
        self.parameters = self.of_actor + self.of_critic
        self.actor_optimizer, self.critic_optimizer = (
            optimizers.make(config.optimizer, [group], lean=False) for group in self.groups
        )
        self.S, self.I, self.over = None, 1.0, True

    def begin(self):
        s, _ = self.env.reset()
        self.S, self.I = self.features(s), 1.0

    def features(self, s):
        return torch.as_tensor(s, dtype=self.dtype)

    def draw(self, pi):
        return pi.sample()

    def step(self):
        """One step of the environment and of both networks."""
        if self.over:
            self.begin()
        x = self.S
        pi = Categorical(logits=self.policy(x))
        a = self.draw(pi)
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
        self.policy.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step([p.grad for p in self.of_actor])
        self.value.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step([p.grad for p in self.of_critic])


class Lean(Usual):
    def __init__(self, env, config, policy, value):
        super().__init__(env, config, policy, value)
        self.optimizer = optimizers.make(config.optimizer, self.groups)
        self.head = heads.head(env.action_space, config.network)

    def features(self, s):
        x = torch.from_numpy(s)  # shares memory: CartPole's observations are new, float32 arrays
        return x if self.dtype == x.dtype else x.to(self.dtype)

    def draw_action(self, h):
        return self.head.draw(h)

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
        self.update(self.head.one(h, a), v, delta)
        self.S, self.over = x2, terminated or truncated
        self.I *= self.gamma

    def update(self, log_pi, v, delta):
        loss = log_pi * (-self.I * delta) - v * delta
        self.optimizer.step(torch.autograd.grad(loss, self.parameters))


class GumbelActions:
    """This library's way of sampling, for a lean twin."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.noise = self.draw_noise()

    def draw_noise(self):
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
        decays = [config.lambda_theta] * len(self.of_actor) + [config.lambda_w] * len(
            self.of_critic
        )
        self.keep = [self.gamma * decay for decay in decays]

    def begin(self):
        super().begin()
        for z in self.z:
            z.zero_()

    def update(self, log_pi, v, delta):
        self.policy.zero_grad()
        (self.I * log_pi).backward()
        self.value.zero_grad()
        v.backward()
        with torch.no_grad():
            for parameter, z, keep in zip(self.parameters, self.z, self.keep):
                z.mul_(keep).add_(parameter.grad)
                parameter.grad = -delta * z
        self.actor_optimizer.step([p.grad for p in self.of_actor])
        self.critic_optimizer.step([p.grad for p in self.of_critic])


class LeanTraces(Lean, UsualTraces):
    def update(self, log_pi, v, delta):
        gradients = torch.autograd.grad(log_pi * self.I + v, self.parameters)
        torch._foreach_mul_(self.z, self.keep)
        torch._foreach_add_(self.z, gradients)
        self.optimizer.step(torch._foreach_mul(self.z, -delta))


class GumbelTraces(Gumbel, LeanTraces):
    pass


class UsualContinuing(UsualTraces):
    """S' of a step that terminates is the first state of the next episode; after one that is
    truncated, which has an S' of its own, all but R̄ begins anew."""

    R_bar = 0.0

    def after(self, s, terminated, truncated):
        """S', and from where to go on, if not from a reset."""
        x2 = self.features(self.env.reset()[0] if terminated else s)
        return x2, None if truncated and not terminated else x2

    def step(self):
        if self.S is None:
            self.begin()
        x = self.S
        pi = Categorical(logits=self.policy(x))
        a = self.draw(pi)
        s, r, terminated, truncated, _ = self.env.step(a.item())
        x2, self.S = self.after(s, terminated, truncated)
        v, v2 = self.value(x).squeeze(-1), self.value(x2).squeeze(-1)
        delta = (r - self.R_bar + v2 - v).detach()
        self.R_bar += self.config.step_size_R * delta.item()
        self.update(pi.log_prob(a), v, delta)


class LeanContinuing(LeanTraces, UsualContinuing):
    def step(self):
        if self.S is None:
            self.begin()
        x = self.S
        h = self.policy(x)
        a = self.draw_action(h.detach())
        s, r, terminated, truncated, _ = self.env.step(a)
        x2, self.S = self.after(s, terminated, truncated)
        with torch.inference_mode():
            v2 = self.value(x2).item()
        v = self.value(x)[0]
        delta = r - self.R_bar + v2 - v.item()
        self.R_bar += self.config.step_size_R * delta
        self.update(self.head.one(h, a), v, delta)


class GumbelContinuing(Gumbel, LeanContinuing):
    pass
