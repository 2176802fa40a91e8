"""What all twins share: modules of torch, actions, and how a loss is differentiated.

`lean` twins have nothing of torch that is not needed; the others are written as tutorials are.
`gumbel` twins draw actions in this library's way instead of by torch.multinomial.
"""

import numpy as np
import torch
from torch.distributions import Categorical

from algorithms.common.world import spaces
from benchmarks.torch_twins import heads, optimizers


class Twin:
    """A learner for flat observations, with the page's config.

    policy, value   modules, changed in place; without value, V is the policy's last output or,
                    where the method needs none, is left out
    """

    lean, gumbel = True, False

    def __init__(self, env, config, policy, value=None):
        self.env, self.config, self.policy, self.value = env, config, policy, value
        self.dtype = next(policy.parameters()).dtype
        self.over = True  # the episode
        self.head = heads.head(spaces(env).action, config.network, self.gumbel)

    def features(self, s):
        """A tensor, on the memory of s if that has the twin's dtype."""
        return torch.as_tensor(s, dtype=self.dtype)

    def draw(self, h):
        """An action for env.step; for a twin that is not lean, a tensor drawn from h.sample()."""
        return self.head.draw(h) if self.lean else h.sample()

    def act(self, x):
        """An action for env.step, of one observation."""
        return self.draw(self.preferences(x))

    def roll_out(self, most=np.inf):
        """Act without gradient, for so many steps at most, until the episode ends: observations
        (k + 1, n), the actions and rewards of k steps, whether it terminated."""
        if self.over:
            self.s, self.over = self.env.reset()[0], False
        S, A, rewards = [self.s], [], []
        with torch.inference_mode():
            while len(A) < most and not self.over:
                a = self.act(self.features(self.s))
                self.s, r, terminated, truncated, _ = self.env.step(a)
                self.over = terminated or truncated
                S.append(self.s), A.append(a), rewards.append(r)
        return self.features(np.array(S)), A, rewards, terminated

    def unroll(self, most=np.inf):
        """The same as tutorials write it, with a graph at every step: (π, a, v, r) of each, and
        whether it terminated. x is where it ends."""
        if self.over:
            self.x, self.over = self.features(self.env.reset()[0]), False
        steps = []
        while len(steps) < most and not self.over:
            pi = Categorical(logits=self.policy(self.x))
            a = self.draw(pi)
            v = None if self.value is None else self.value(self.x).squeeze(-1)
            s, r, terminated, truncated, _ = self.env.step(a.item())
            self.x, self.over = self.features(s), terminated or truncated
            steps.append((pi, a, v, r))
        return steps, terminated

    def returns(self, rewards, last):
        """G_t = R_{t+1} + γ G_{t+1}, from what comes after the last. (T,)"""
        G = []
        for r in reversed(rewards):
            last = r + self.config.gamma * last
            G.append(last)
        return torch.tensor(G[::-1], dtype=self.dtype)

    def both_step_sizes(self):
        """Make the optimiser of policy and value, each with a step size of its own."""
        c = self.config
        pairs = [
            (self.policy, c.step_size),
            *([(self.value, c.step_size_w)] if self.value is not None else []),
        ]
        groups = [dict(params=list(net.parameters()), lr=rate) for net, rate in pairs]
        self.optimizer = optimizers.make(c.optimizer, groups, lean=self.lean)
        self.parameters = self.optimizer.parameters

    def preferences(self, x):
        return self.policy(x)

    def differentiate(self, loss):
        """The gradient in every parameter: handed over if lean, else left behind by backward()."""
        if self.lean:
            return torch.autograd.grad(loss, self.parameters)
        for p in self.parameters:
            p.grad = None
        loss.backward()
        return [p.grad for p in self.parameters]


class ActorCritic(Twin):
    """A twin whose policy and value are two networks or, without `value`, one."""

    def preferences(self, x):
        return self.policy(x) if self.value is not None else self.policy(x)[..., :-1]

    def v(self, x):
        return self.value(x)[..., 0] if self.value is not None else self.policy(x)[..., -1]

    def evaluate(self, x, k):
        """Preferences of the first k rows x, V of all."""
        if self.value is not None:
            return self.policy(x[:k]), self.value(x)[:, 0]
        y = self.policy(x)
        return y[:k, :-1], y[:, -1]
