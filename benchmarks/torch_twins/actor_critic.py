"""Actor–critic in torch, the three boxes: what algorithms/actor_critic.py computes.

    Usual    as tutorials write it: torch.distributions, one loss, one default optimiser, backward()
    Lean     v̂(S') without gradient, no distribution object, the optimiser in its fastest form here
             (fused or foreach), gradients handed over without accumulation
    Gumbel   Lean, with this library's way of sampling instead of torch.multinomial: argmax of the
             preferences plus noise drawn for many steps at once
    ...Traces      the same with a trace beside every parameter: tensor by tensor in Usual, foreach
                   in Lean and Gumbel
    ...Continuing  traces that never end, of differences to the average reward R̄

All descend, at every step, −I δ ln π(A|S, θ) − δ v̂(S, w), or take −δz for the gradient, z ← γλz +
∇(I ln π(A|S, θ) + v̂(S, w)), with δ = R + γ v̂(S', w) − v̂(S, w) a number and I = γ^t; continuing
with γ = I = 1 and R − R̄ for R. Usual has ½ (R + γ v̂(S', w) − v̂(S, w))² in place of −δ v̂(S, w),
which has the same gradient. Usual and Gumbel: Discrete actions.
"""

import torch
from torch.distributions import Categorical

from benchmarks.torch_twins.twin import Twin


class Usual(Twin):
    lean, goes_on = False, False  # goes_on: beyond a step that terminates

    def __init__(self, env, config, policy, value):
        super().__init__(env, config, policy, value)
        self.both_step_sizes()
        self.gamma = getattr(config, "gamma", 1.0)  # the continuing method has none
        self.step_size_R = getattr(config, "step_size_R", 0.0)  # which the others have not
        self.S, self.I, self.R_bar = None, 1.0, 0.0

    def begin(self):
        s, _ = self.env.reset()
        self.S, self.I = self.features(s), 1.0

    def advance(self):
        """One step of the environment and of both networks; 1."""
        if self.S is None:
            self.begin()
        a, log_pi = self.act(self.S)
        s, r, terminated, truncated, _ = self.env.step(a)
        v, over = self.value(self.S)[0], terminated or truncated
        if self.goes_on and terminated:  # S' is the first state of the next episode
            s, over = self.env.reset()[0], False
        x2 = self.features(s)
        v2 = self.next_value(x2, terminated and not self.goes_on)
        target = r - self.R_bar + self.gamma * v2
        delta = float(target - v.item())
        self.R_bar += self.step_size_R * delta
        self.update(log_pi, v, target, delta)
        self.S = None if over else x2
        self.I *= self.gamma
        return 1

    def act(self, x):
        """(a for env.step, ln π(a|x))."""
        pi = Categorical(logits=self.policy(x))
        a = self.draw(pi)
        return a.item(), pi.log_prob(a)

    def next_value(self, x, terminal):
        return self.value(x)[0].detach() * (1 - terminal)

    def update(self, log_pi, v, target, delta):
        loss = -self.I * delta * log_pi + 0.5 * (target - v) ** 2
        self.optimizer.step(self.differentiate(loss))


class Lean(Usual):
    lean = True

    def act(self, x):
        h = self.policy(x)
        a = self.draw(h.detach())
        return a, self.head.one(h, a)

    def next_value(self, x, terminal):
        if terminal:
            return 0.0
        with torch.inference_mode():
            return self.value(x).item()

    def update(self, log_pi, v, target, delta):
        loss = log_pi * (-self.I * delta) - v * delta
        self.optimizer.step(self.differentiate(loss))


class Gumbel(Lean):
    gumbel = True


class UsualTraces(Usual):
    def __init__(self, env, config, policy, value):
        super().__init__(env, config, policy, value)
        self.z = [torch.zeros_like(p) for p in self.parameters]
        nets = (policy, config.lambda_theta), (value, config.lambda_w)
        self.keep = [self.gamma * decay for net, decay in nets for _ in net.parameters()]

    def begin(self):
        super().begin()
        for z in self.z:
            z.zero_()

    def update(self, log_pi, v, target, delta):
        for z, keep, d in zip(self.z, self.keep, self.differentiate(self.I * log_pi + v)):
            z.mul_(keep).add_(d)
        self.optimizer.step([-delta * z for z in self.z])


class LeanTraces(Lean, UsualTraces):
    def update(self, log_pi, v, target, delta):
        gradients = self.differentiate(log_pi * self.I + v)
        torch._foreach_mul_(self.z, self.keep)
        torch._foreach_add_(self.z, gradients)
        self.optimizer.step(torch._foreach_mul(self.z, -delta))


class GumbelTraces(LeanTraces):
    gumbel = True


class UsualContinuing(UsualTraces):
    goes_on = True


class LeanContinuing(LeanTraces):
    goes_on = True
