"""DDPG in torch: what algorithms/ddpg.py computes, for comparison.

    Usual   as tutorials write it: a deque for a memory, random.choices, torch.stack, zero_grad and
            backward, torch's default Adam, targets moved parameter by parameter; no batch
            normalisation
    Lean    nothing of torch that is not needed: autograd.grad for the parameters that move and no
            others, fused Adam with weight decay on the critic's matrices, target updates by
            foreach, a replay memory of torch tensors drawn from by index, inference mode wherever
            no gradient is asked for

Weight decay is Adam's, which adds l2 W to the gradient of W: the page's ½ l2 Σ W² in the loss.
Both have mu, q, mu_target, q_target: networks whose tensors() are in the order of the page's flat
vectors, matrices transposed.
"""

import random
from collections import deque
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.torch_twins.networks import load
from benchmarks.torch_twins.optimizers import Torch

KINDS = "W", "b", "gain", "mean", "var"


def critic_loss(q, y, matrices, l2):
    """mean_i (y_i − q_i)² + ½ l2 Σ W²."""
    return F.mse_loss(q, y) + 0.5 * l2 * sum((W * W).sum() for W in matrices)


def actor_loss(q):
    """−mean_i q_i, of q_i = Q(s_i, μ(s_i))."""
    return -q.mean()


class Network(nn.Module):
    """An npgrad mlp at θ, with or without batch normalisation; u joins before layer `at`."""

    def __init__(self, model, theta, dtype):
        super().__init__()
        named = {name: torch.zeros(shape[::-1], dtype=dtype)
                 for name, shape in model.layout.shapes.items()}  # fmt: skip
        load(named.values(), theta)
        self.all = [nn.Parameter(x, not name.startswith(("mean", "var")))
                    for name, x in named.items()]  # fmt: skip
        for name, x in zip(named, self.all):
            self.register_parameter(name, x)
        self.moving = [x for x in self.all if x.requires_grad]
        self.at, self.squash = (model.at if model.second else -1), model.output == "tanh"
        at = dict(zip(named, self.all)).get
        self.layers = [[at(f"{kind}{k}") for kind in KINDS] for k in range(model.depth + 1)]

    def tensors(self):
        return self.all

    def forward(self, x, u=None, running=False):
        """Normalised by the minibatch, or by `running` averages."""
        self.seen, last = [], len(self.layers) - 1
        for k, (W, b, gain, mean, var) in enumerate(self.layers):
            if k == self.at:
                x = torch.cat([x, u], -1)
            if W is not None:
                x = F.linear(x, W, None if gain is not None else b)
            if gain is not None:
                self.seen.append((mean, var, x.detach()))
                averages = (mean, var) if running else (None, None)
                x = F.batch_norm(x, *averages, gain, b, training=not running, eps=1e-5)
            if 0 < k < last:
                x = x.relu_()
        return x.tanh_() if self.squash else x

    @torch.no_grad()
    def track(self, share):
        """The running averages move towards the latest mean and (biased) variance."""
        for mean, var, x in self.seen:
            mean.lerp_(x.mean(0), share)
            var.lerp_(x.var(0, unbiased=False), share)


class Usual:
    fused: ClassVar[dict] = {}

    def __init__(self, env, config, actor, critic, parameters, dtype):
        """`actor` and `critic` are the page's models, `parameters` their θ and w, end to end."""
        theta, w = np.split(parameters, [actor.layout.size])
        self.env, self.config, self.dtype = env, config, dtype
        self.mu, self.mu_target = (Network(actor, theta, dtype) for _ in range(2))
        self.q, self.q_target = (Network(critic, w, dtype) for _ in range(2))
        adam = torch.optim.Adam(self.mu.moving, config.step_size, **self.fused)
        self.actor_adam = Torch(adam, self.mu.moving)
        groups = [dict(params=[x for x in self.q.moving if x.ndim > 1], weight_decay=config.l2),
                  dict(params=[x for x in self.q.moving if x.ndim == 1])]  # fmt: skip
        adam = torch.optim.Adam(groups, config.step_size_w, **self.fused)
        self.critic_adam = Torch(adam, self.q.moving)
        low, high = env.action_space.low, env.action_space.high
        self.middle, self.half = (high + low) / 2, (high - low) / 2
        self.noise, self.s = torch.zeros(critic.second, dtype=dtype), None
        self.memory, self.t, self.updates = self.make_memory(actor.sizes[0], critic.second), 0, 0

    def make_memory(self, n, d):
        return deque(maxlen=self.config.replay)

    def store(self, s, u, r, s2, terminated):
        numbers = [torch.tensor([x], dtype=self.dtype) for x in (r, terminated)]
        self.memory.append((s, u, numbers[0], s2, numbers[1]))

    def draw(self, stored):
        """Indices of a batch."""
        return random.choices(range(stored), k=self.config.batch)

    def sample(self, stored):
        batch = [self.memory[i] for i in self.draw(stored)]
        return map(torch.stack, zip(*batch))

    def explore(self):
        """μ(s) + N within [−1, 1]; N by Euler–Maruyama."""
        noise = self.config.noise
        self.noise = (1 - noise.ou_theta * noise.dt) * self.noise
        self.noise = self.noise + noise.sigma * noise.dt**0.5 * torch.randn_like(self.noise)
        return (self.mu(self.s) + self.noise).clamp(-1, 1)

    def advance(self):
        """One step of the environment, and one update once there is a batch to draw; 1."""
        if self.s is None:
            self.s = torch.as_tensor(self.env.reset()[0], dtype=self.dtype)
            self.noise = torch.zeros_like(self.noise)
        with torch.no_grad():
            u = self.explore()
        a = self.middle + self.half * u.numpy()
        s2, r, terminated, truncated, _ = self.env.step(a)
        s2 = torch.as_tensor(s2, dtype=self.dtype)
        self.store(self.s, u, float(r), s2, float(terminated))
        self.s, self.t = None if terminated or truncated else s2, self.t + 1
        if self.t >= self.config.batch:
            self.update(*self.sample(min(self.t, self.config.replay)))
        return 1

    def update(self, S, U, R, S2, terminated):
        with torch.no_grad():
            q2 = self.q_target(S2, self.mu_target(S2))
            y = R + self.config.gamma * (1 - terminated) * q2
        self.descend(self.critic_adam, F.mse_loss(self.q(S, U), y))
        self.descend(self.actor_adam, actor_loss(self.q(S, self.mu(S))))
        self.updates += 1
        c, soft = self.config, self.config.target == "soft"
        if soft or self.updates % c.copy_every == 0:
            self.follow(c.tau if soft else 1.0)

    def descend(self, adam, loss):
        for p in adam.parameters:
            p.grad = None
        loss.backward()
        adam.step([p.grad for p in adam.parameters])

    def follow(self, tau):
        for target, net in ((self.mu_target, self.mu), (self.q_target, self.q)):
            for theirs, p in zip(target.parameters(), net.parameters()):
                theirs.data.copy_(tau * p.data + (1 - tau) * theirs.data)


class Lean(Usual):
    fused: ClassVar[dict] = dict(fused=True)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.online = self.mu.all + self.q.all
        self.targets = [x.detach() for x in self.mu_target.all + self.q_target.all]

    def make_memory(self, n, d):
        room = lambda m: torch.zeros(self.config.replay, m, dtype=self.dtype)
        return room(n), room(d), room(1), room(n), room(1)

    def store(self, *transition):
        i = self.t % self.config.replay
        for memory, x in zip(self.memory, transition):
            memory[i] = x

    def draw(self, stored):
        return torch.randint(stored, (self.config.batch,))

    def sample(self, stored):
        k = self.draw(stored)
        return [memory.index_select(0, k) for memory in self.memory]

    def explore(self):
        noise = self.config.noise
        self.noise.mul_(1 - noise.ou_theta * noise.dt)
        self.noise.add_(torch.randn_like(self.noise), alpha=noise.sigma * noise.dt**0.5)
        return (self.mu(self.s[None], running=True)[0] + self.noise).clamp_(-1, 1)

    def update(self, S, U, R, S2, terminated):
        with torch.inference_mode():
            q2 = self.q_target(S2, self.mu_target(S2, running=True), running=True)
            y = R + self.config.gamma * (1 - terminated) * q2
        loss, share = F.mse_loss(self.q(S, U), y.clone()), 1 - self.config.networks.norm_decay
        self.q.track(share)
        self.descend(self.critic_adam, loss)
        loss = actor_loss(self.q(S, self.mu(S)))
        self.mu.track(share)
        self.descend(self.actor_adam, loss)
        self.updates += 1
        self.follow()

    def descend(self, adam, loss):
        adam.step(torch.autograd.grad(loss, adam.parameters))

    @torch.no_grad()
    def follow(self):
        if self.config.target == "soft":
            torch._foreach_lerp_(self.targets, self.online, self.config.tau)
        elif self.updates % self.config.copy_every == 0:
            torch._foreach_copy_(self.targets, self.online)
