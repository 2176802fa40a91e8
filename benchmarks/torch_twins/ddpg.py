"""DDPG in torch: what algorithms/ddpg.py computes, for comparison.

    Usual   as tutorials write it: nn.Modules, a deque for a memory, random.choices, torch.stack,
            zero_grad and backward, torch's default Adam, targets moved parameter by parameter
    Lean    nothing of torch that is not needed: tensors for parameters, addmm, autograd.grad for
            the parameters that move and no others, fused Adam with weight decay on the critic's
            matrices, target updates by foreach, a replay memory of torch tensors drawn from by
            index, inference mode wherever no gradient is asked for
    Normalised   with batch normalisation: for its numbers, not for its speed

Weight decay is Adam's, which adds l2 W to the gradient of W: the page's ½ l2 Σ W² in the loss.
"""

import copy
import random
from collections import deque

import torch
from torch import nn
from torch.nn import functional as F


def tensors(model, theta, dtype):
    """[(W, b) of layers 1, ..., L], W (n, m), from a flat θ of npgrad.networks.network."""
    copy = lambda x: torch.tensor(x, dtype=dtype, requires_grad=True)
    return [(copy(W), copy(b)) for W, b, *_ in model.layers(theta)[1:]]


def all_tensors(model, theta, dtype):
    """[(W, b, gain, mean, var) of layers 0, ..., L], None for what a layer does not have."""
    names = "W", "b", "gain", "mean", "var"
    copy = lambda x, name: torch.tensor(x, dtype=dtype, requires_grad=name not in ("mean", "var"))
    return [tuple(None if x is None else copy(x, name) for x, name in zip(layer, names))
            for layer in model.layers(theta)]  # fmt: skip


def in_order(layers):
    """The tensors in the order of model.layout."""
    return [x for kind in zip(*layers) for x in kind if x is not None]


def flat(layers, gradient=False):
    """The tensors (or what is in their .grad) as one vector."""
    pieces = [x.grad if gradient else x.detach() for x in in_order(layers)]
    return torch.cat([x.reshape(-1) for x in pieces]).numpy()


def actor(layers, s):
    """μ(s) of tensors."""
    for W, b in layers[:-1]:
        s = torch.addmm(b, s, W).relu_()
    W, b = layers[-1]
    return torch.addmm(b, s, W).tanh_()


def critic(layers, at, s, u):
    """Q(s, u) of tensors, u entering at layer `at`."""
    for k, (W, b) in enumerate(layers, 1):
        if k == at:
            s = torch.cat([s, u], 1)
        s = torch.addmm(b, s, W)
        if k < len(layers):
            s = s.relu_()
    return s


def normalised(layers, x, u=None, at=0, running=False, seen=None):
    """What enters the output's function, of all_tensors: normalised by the minibatch or `running`
    averages; `seen` gets what enters each normalisation."""
    for k, (W, b, gain, mean, var) in enumerate(layers):
        if k == at and u is not None:
            x = torch.cat([x, u], 1)
        if W is not None:
            x = x @ W
        if gain is not None:
            if seen is not None:
                seen.append(x)
            averages = (mean, var) if running else (None, None)
            x = F.batch_norm(x, *averages, gain, b, training=not running, eps=1e-5)
        elif b is not None:
            x = x + b
        if 0 < k < len(layers) - 1:
            x = F.relu(x)
    return x


def critic_loss(q, y, matrices, l2):
    """mean_i (y_i − q_i)² + ½ l2 Σ W²."""
    return F.mse_loss(q, y) + 0.5 * l2 * sum((W * W).sum() for W in matrices)


def actor_loss(q):
    """−mean_i q_i, of q_i = Q(s_i, μ(s_i))."""
    return -q.mean()


class Lean:
    tensors, actor, critic = map(staticmethod, (tensors, actor, critic))

    def __init__(self, env, config, actor, critic, state, dtype):
        """`actor`, `critic` and `state` are the page's models and State."""
        self.env, self.config, self.dtype, self.at = env, config, dtype, critic.at
        self.mu, self.mu_target = (self.tensors(actor, x, dtype) for x in (state.theta,) * 2)
        self.q, self.q_target = (self.tensors(critic, x, dtype) for x in (state.w,) * 2)
        self.online, self.updates = in_order(self.mu) + in_order(self.q), 0
        self.targets = [x.detach() for x in in_order(self.mu_target) + in_order(self.q_target)]
        self.theta, self.w = ([x for x in in_order(layers) if x.requires_grad]
                              for layers in (self.mu, self.q))  # fmt: skip
        self.actor_adam = torch.optim.Adam(self.theta, config.step_size, fused=True)
        groups = [dict(params=[x for x in self.w if x.ndim > 1], weight_decay=config.l2),
                  dict(params=[x for x in self.w if x.ndim == 1])]  # fmt: skip
        self.critic_adam = torch.optim.Adam(groups, config.step_size_w, fused=True)
        n, d = actor.sizes[0], critic.second
        room = lambda *shape: torch.zeros(config.replay, *shape, dtype=dtype)
        self.ring = room(n), room(d), room(1), room(n), room(1)
        low, high = env.action_space.low, env.action_space.high
        self.middle, self.half = (high + low) / 2, (high - low) / 2
        self.noise, self.t, self.over = torch.zeros(d, dtype=dtype), 0, True

    def update(self, S, U, R, S2, terminated):
        with torch.inference_mode():
            q2 = critic(self.q_target, self.at, S2, actor(self.mu_target, S2))
            y = R + self.config.gamma * (1 - terminated) * q2
        y = y.clone()
        loss = F.mse_loss(critic(self.q, self.at, S, U), y)
        self.descend(self.critic_adam, self.w, loss)
        loss = actor_loss(critic(self.q, self.at, S, actor(self.mu, S)))
        self.descend(self.actor_adam, self.theta, loss)
        self.updates += 1
        self.follow()

    @torch.no_grad()
    def follow(self):
        if self.config.target == "soft":
            torch._foreach_lerp_(self.targets, self.online, self.config.tau)
        elif self.updates % self.config.copy_every == 0:
            torch._foreach_copy_(self.targets, self.online)

    def descend(self, optimizer, parameters, loss):
        for x, d in zip(parameters, torch.autograd.grad(loss, parameters)):
            x.grad = d
        optimizer.step()

    def explore(self):
        """μ(s) + N within [−1, 1]; N by Euler–Maruyama."""
        noise = self.config.noise
        self.noise.mul_(1 - noise.ou_theta * noise.dt)
        self.noise.add_(torch.randn_like(self.noise), alpha=noise.sigma * noise.dt**0.5)
        return (actor(self.mu, self.s[None])[0] + self.noise).clamp_(-1, 1)

    def draw(self, stored):
        """Indices of a batch."""
        return torch.randint(stored, (self.config.batch,))

    def step(self):
        """One step of the environment, and one update once there is a batch to draw."""
        if self.over:
            s, _ = self.env.reset()
            self.s = torch.as_tensor(s, dtype=self.dtype)
            self.noise.zero_()
        with torch.inference_mode():
            u = self.explore()
        a = self.middle + self.half * u.numpy()
        s2, r, terminated, truncated, _ = self.env.step(a)
        s2 = torch.as_tensor(s2, dtype=self.dtype)
        i = self.t % self.config.replay
        for memory, x in zip(self.ring, (self.s, u, float(r), s2, float(terminated))):
            memory[i] = x
        self.s, self.over, self.t = s2, terminated or truncated, self.t + 1
        if self.t >= self.config.batch:
            k = self.draw(min(self.t, self.config.replay))
            self.update(*(memory.index_select(0, k) for memory in self.ring))


class Normalised(Lean):
    tensors = staticmethod(all_tensors)
    actor = staticmethod(lambda layers, s: normalised(layers, s).tanh())
    critic = staticmethod(lambda layers, at, s, u: normalised(layers, s, u, at))

    def update(self, S, U, R, S2, terminated):
        with torch.no_grad():
            u2 = normalised(self.mu_target, S2, running=True).tanh()
            q2 = normalised(self.q_target, S2, u2, self.at, running=True)
            y = R + self.config.gamma * (1 - terminated) * q2
        loss = F.mse_loss(self.critic(self.q, self.at, S, U), y)
        self.track(self.q, S, U, self.at)
        self.descend(self.critic_adam, self.w, loss)
        loss = actor_loss(self.critic(self.q, self.at, S, self.actor(self.mu, S)))
        self.track(self.mu, S)
        self.descend(self.actor_adam, self.theta, loss)
        self.updates += 1
        self.follow()

    @torch.no_grad()
    def track(self, layers, *data):
        """The running averages move towards the minibatch's mean and (biased) variance."""
        seen, share = [], 1 - self.config.networks.norm_decay
        normalised(layers, *data, seen=seen)
        for (*_, mean, var), z in zip((layer for layer in layers if layer[2] is not None), seen):
            mean.lerp_(z.mean(0), share)
            var.lerp_(z.var(0, unbiased=False), share)


class Layers(nn.Module):
    """Linear layers with ReLU between them; u joins before layer `at`."""

    def __init__(self, model, theta, dtype):
        super().__init__()
        self.at, self.squash = (model.at if model.second else 0), model.output == "tanh"
        pairs = [(W, b) for W, b, *_ in model.layers(theta)[1:]]
        self.layers = nn.ModuleList(nn.Linear(*W.shape).to(dtype) for W, _ in pairs)
        with torch.no_grad():
            for layer, (W, b) in zip(self.layers, pairs):
                layer.weight.copy_(torch.from_numpy(W.T))
                layer.bias.copy_(torch.from_numpy(b))

    def forward(self, x, u=None):
        for k, layer in enumerate(self.layers, 1):
            x = layer(torch.cat([x, u], -1) if k == self.at else x)
            if k < len(self.layers):
                x = F.relu(x)
        return torch.tanh(x) if self.squash else x

    def tensors(self):
        """[(W, b), ...], W (n, m), as `flat` takes them."""
        return [(layer.weight.t(), layer.bias) for layer in self.layers]


class Usual:
    def __init__(self, env, config, actor, critic, state, dtype):
        """`actor`, `critic` and `state` are the page's models and State."""
        self.env, self.config, self.dtype = env, config, dtype
        self.actor, self.critic = Layers(actor, state.theta, dtype), Layers(critic, state.w, dtype)
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_target = copy.deepcopy(self.critic)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), config.step_size)
        matrices = [p for p in self.critic.parameters() if p.ndim > 1]
        biases = [p for p in self.critic.parameters() if p.ndim == 1]
        groups = [dict(params=matrices, weight_decay=config.l2), dict(params=biases)]
        self.critic_adam = torch.optim.Adam(groups, config.step_size_w)
        self.memory, self.updates = deque(maxlen=config.replay), 0
        low, high = env.action_space.low, env.action_space.high
        self.middle, self.half = (high + low) / 2, (high - low) / 2
        self.noise, self.over = torch.zeros(critic.second, dtype=dtype), True

    mu = property(lambda self: self.actor.tensors())
    q = property(lambda self: self.critic.tensors())
    mu_target = property(lambda self: self.actor_target.tensors())
    q_target = property(lambda self: self.critic_target.tensors())

    def explore(self):
        noise = self.config.noise
        self.noise = (1 - noise.ou_theta * noise.dt) * self.noise
        self.noise = self.noise + noise.sigma * noise.dt**0.5 * torch.randn_like(self.noise)
        return (self.actor(self.s) + self.noise).clamp(-1, 1)

    def draw(self, stored):
        return random.choices(range(stored), k=self.config.batch)

    def step(self):
        if self.over:
            s, _ = self.env.reset()
            self.s = torch.as_tensor(s, dtype=self.dtype)
            self.noise = torch.zeros_like(self.noise)
        with torch.no_grad():
            u = self.explore()
        s2, r, terminated, truncated, _ = self.env.step(self.middle + self.half * u.numpy())
        s2 = torch.as_tensor(s2, dtype=self.dtype)
        numbers = [torch.tensor([x], dtype=self.dtype) for x in (float(r), float(terminated))]
        self.memory.append((self.s, u, numbers[0], s2, numbers[1]))
        self.s, self.over = s2, terminated or truncated
        if len(self.memory) >= self.config.batch:
            batch = [self.memory[i] for i in self.draw(len(self.memory))]
            self.update(*map(torch.stack, zip(*batch)))

    def update(self, S, U, R, S2, terminated):
        with torch.no_grad():
            q2 = self.critic_target(S2, self.actor_target(S2))
            y = R + self.config.gamma * (1 - terminated) * q2
        loss = F.mse_loss(self.critic(S, U), y)
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        loss = actor_loss(self.critic(S, self.actor(S)))
        self.actor_adam.zero_grad()
        loss.backward()
        self.actor_adam.step()
        self.updates += 1
        c, soft = self.config, self.config.target == "soft"
        if not soft and self.updates % c.copy_every:
            return
        tau = c.tau if soft else 1.0
        for target, module in (
            (self.actor_target, self.actor),
            (self.critic_target, self.critic),
        ):
            for theirs, p in zip(target.parameters(), module.parameters()):
                theirs.data.copy_(tau * p.data + (1 - tau) * theirs.data)
