"""DDPG in torch: what algorithms/ddpg.py computes, for comparison; no normalisation.

Lean: nothing of torch that is not needed. Tensors for parameters, addmm, autograd.grad for the
parameters that move and no others, fused Adam with weight decay on the critic's matrices, target
updates by foreach, a replay memory of torch tensors drawn from by index, inference mode wherever
no gradient is asked for.
"""

import torch
from torch.nn import functional as F


def tensors(model, theta, dtype):
    """[(W, b) of layers 1, ..., L], W (n, m), from a flat θ of npgrad.networks.network."""
    copy = lambda x: torch.tensor(x, dtype=dtype, requires_grad=True)
    return [(copy(W), copy(b)) for W, b, *_ in model.layers(theta)[1:]]


def flat(layers, gradient=False):
    """The tensors (or what is in their .grad) as one vector in the order of model.layout."""
    pieces = [W for W, _ in layers] + [b for _, b in layers]
    return torch.cat([(x.grad if gradient else x.detach()).reshape(-1) for x in pieces]).numpy()


class Lean:
    def __init__(self, env, config, actor, critic, state, dtype):
        """`actor`, `critic` and `state` are the page's models and State."""
        self.env, self.config, self.dtype, self.at = env, config, dtype, critic.at
        self.mu, self.mu_target = (tensors(actor, x, dtype) for x in (state.theta,) * 2)
        self.q, self.q_target = (tensors(critic, x, dtype) for x in (state.w,) * 2)
        parts = lambda layers: [x for layer in layers for x in layer]
        self.theta, self.w = parts(self.mu), parts(self.q)
        self.online = self.theta + self.w
        self.targets = [x.detach() for x in parts(self.mu_target) + parts(self.q_target)]
        self.actor_adam = torch.optim.Adam(self.theta, config.step_size, fused=True)
        groups = [dict(params=[W for W, _ in self.q], weight_decay=config.l2),
                  dict(params=[b for _, b in self.q])]  # fmt: skip
        self.critic_adam = torch.optim.Adam(groups, config.step_size_w, fused=True)
        n, d = actor.sizes[0], critic.second
        room = lambda *shape: torch.zeros(config.replay, *shape, dtype=dtype)
        self.ring = room(n), room(d), room(1), room(n), room(1)
        low, high = env.action_space.low, env.action_space.high
        self.middle, self.half = (high + low) / 2, (high - low) / 2
        self.noise, self.t, self.over = torch.zeros(d, dtype=dtype), 0, True

    def actor(self, layers, s):
        for W, b in layers[:-1]:
            s = torch.addmm(b, s, W).relu_()
        W, b = layers[-1]
        return torch.addmm(b, s, W).tanh_()

    def critic(self, layers, s, u):
        for k, (W, b) in enumerate(layers, 1):
            if k == self.at:
                s = torch.cat([s, u], 1)
            s = torch.addmm(b, s, W)
            if k < len(layers):
                s = s.relu_()
        return s

    def update(self, S, U, R, S2, terminated):
        with torch.inference_mode():
            q2 = self.critic(self.q_target, S2, self.actor(self.mu_target, S2))
            y = R + self.config.gamma * (1 - terminated) * q2
        y = y.clone()
        loss = F.mse_loss(self.critic(self.q, S, U), y)
        self.descend(self.critic_adam, self.w, loss)
        loss = -self.critic(self.q, S, self.actor(self.mu, S)).mean()
        self.descend(self.actor_adam, self.theta, loss)
        with torch.no_grad():
            torch._foreach_lerp_(self.targets, self.online, self.config.tau)

    def descend(self, optimizer, parameters, loss):
        for x, d in zip(parameters, torch.autograd.grad(loss, parameters)):
            x.grad = d
        optimizer.step()

    def step(self):
        """One step of the environment, and one update once there is a batch to draw."""
        if self.over:
            s, _ = self.env.reset()
            self.s = torch.as_tensor(s, dtype=self.dtype)
            self.noise.zero_()
        noise = self.config.noise
        with torch.inference_mode():
            self.noise.mul_(1 - noise.ou_theta * noise.dt)
            self.noise.add_(torch.randn_like(self.noise), alpha=noise.sigma * noise.dt**0.5)
            u = (self.actor(self.mu, self.s[None])[0] + self.noise).clamp_(-1, 1)
        a = self.middle + self.half * u.numpy()
        s2, r, terminated, truncated, _ = self.env.step(a)
        s2 = torch.as_tensor(s2, dtype=self.dtype)
        i = self.t % self.config.replay
        for memory, x in zip(self.ring, (self.s, u, float(r), s2, float(terminated))):
            memory[i] = x
        self.s, self.over, self.t = s2, terminated or truncated, self.t + 1
        if self.t >= self.config.batch:
            k = torch.randint(min(self.t, self.config.replay), (self.config.batch,))
            self.update(*(memory.index_select(0, k) for memory in self.ring))
