"""Workers of asynchronous Q-learning in torch: what those of algorithms/async_q.py compute.

    Usual       one-step Q and Sarsa as tutorials write it: a forward pass to act, one to learn, and
                backward() at every step, into gradients that add up until the update
    Lean        acts without gradient, then one batched forward and backward pass of Q and one
                forward pass of the target for all steps of an update. θ is that of the update: no
                other worker may move it meanwhile
    UsualNStep  n-step Q with a graph at every step, losses summed step by step, parameters pulled
                by load_state_dict
    LeanNStep   acts without gradient, then one batched forward and backward pass; pulls by
                torch._foreach_copy_

All descend Σ_i (y_i − Q(s_i, a_i))², y without gradient, by the page's optimisers
(benchmarks.torch_twins.optimizers), and copy the target by torch._foreach_copy_. An action drawn at
random costs no forward pass. For Discrete actions.

advance() makes one update and returns its number of steps; pull, compute and push are its parts.
T of `shared` sets ε; set it to config.epsilon_steps to race at the final ε.
"""

import copy
import random

import torch
from torch.nn import functional as F

from algorithms.async_q import OneStepSarsa
from benchmarks.torch_twins.optimizers import Shared, Worker
from benchmarks.torch_twins.twin import Twin


class SharedQ(Shared):
    """Q, its target and T, for all workers."""

    def __init__(self, config, q):
        super().__init__(config, [q])
        self.q, self.target, self.copied = q, copy.deepcopy(q).requires_grad_(False), 0
        self.target_parameters = list(self.target.parameters())

    def push(self, optimizer, gradients, steps):
        super().push(optimizer, gradients, steps)
        if self.T // self.config.I_target > self.copied:
            self.copied = self.T // self.config.I_target
            with torch.no_grad():
                torch._foreach_copy_(self.target_parameters, self.parameters)


def alias(module):
    """A module on the same memory, with gradients of its own: what another process would have."""
    own = copy.deepcopy(module)
    for p, theirs in zip(own.parameters(), module.parameters()):
        p.data = theirs.data
    return own


class OneQ(Worker, Twin):
    """shared: the SharedQ of all workers, if there are several; final_epsilon: this worker's; own:
    what makes its Q of the shared one."""

    own = staticmethod(alias)

    def __init__(self, env, config, q=None, shared=None, final_epsilon=0.1):
        shared = shared or SharedQ(config, q)
        super().__init__(env, config, self.own(shared.q))
        self.join(shared, [self.policy])
        self.q, self.target, self.final = self.policy, shared.target, final_epsilon
        self.n = int(env.action_space.n)
        self.sarsa = isinstance(config, OneStepSarsa)
        self.over, self.a, self.t = True, None, 0  # t: this worker's steps before the update

    def epsilon(self):
        return 1.0 + min(1.0, self.shared.T / self.config.epsilon_steps) * (self.final - 1.0)

    def draw(self, preferences, eps):
        """ε-greedily; preferences() are only asked for where they matter."""
        if random.random() < eps:
            return random.randrange(self.n)
        return preferences().argmax().item()

    def push(self):
        super().push()
        self.t += self.k


class Usual(OneQ):
    lean = False

    def act(self, x):
        with torch.no_grad():
            return self.draw(lambda: self.q(x), self.epsilon())

    def pull(self):
        self.q.zero_grad()
        self.k = 0

    def step(self):
        """One step and its gradient, added to those since `pull`."""
        if self.over:
            self.x, self.a = self.features(self.env.reset()[0]), None
        a = self.act(self.x) if self.a is None else self.a
        s, r, terminated, truncated, _ = self.env.step(a)
        x2 = self.features(s)
        self.a = self.act(x2) if self.sarsa else None
        with torch.no_grad():
            q2 = self.target(x2)
            q2 = q2.max() if self.a is None else q2[self.a]
        y = r + self.config.gamma * q2 * (1 - terminated)
        loss = (y - self.q(self.x)[a]) ** 2
        loss.backward()
        self.gradients = [p.grad for p in self.parameters]
        self.x, self.over, self.k = x2, terminated or truncated, self.k + 1

    def compute(self):
        due = False
        while not due:
            self.step()
            due = self.over or (self.t + self.k) % self.config.I_async_update == 0


class Lean(OneQ):
    def pull(self):
        """Q is the shared one."""

    def act(self, x):
        """The action, if Sarsa has drawn it already; else a new one."""
        a, self.a = self.a, None
        return self.draw(lambda: self.q(x), self.eps) if a is None else a

    def begin(self, steps):
        """Roll out at the present ε."""
        self.a, self.eps = None if self.over else self.a, self.epsilon()
        found = self.roll_out(steps)
        self.k = len(found[1])
        return found

    def descend(self, x, A, y):
        q = self.q(x).gather(1, torch.tensor(A)[:, None])[:, 0]
        self.gradients = self.differentiate(F.mse_loss(q, y, reduction="sum"))

    def compute(self):
        every = self.config.I_async_update
        x, A, rewards, terminated = self.begin(every - self.t % every)
        q2 = self.target(x[1:])
        if self.sarsa:
            with torch.inference_mode():
                self.a = self.act(x[-1])
            q2 = q2.gather(1, torch.tensor([*A[1:], self.a])[:, None])[:, 0]
        else:
            q2 = q2.amax(1)
        if terminated:
            q2[-1] = 0.0
        y = torch.tensor(rewards, dtype=self.dtype).add_(q2, alpha=self.config.gamma)
        self.descend(x[:-1], A, y)


class UsualNStep(OneQ):
    lean, own = False, staticmethod(copy.deepcopy)

    def compute(self):
        c, values, rewards, eps = self.config, [], [], self.epsilon()
        if self.over:
            self.x, self.over = self.features(self.env.reset()[0]), False
        while len(rewards) < c.t_max and not self.over:
            q = self.q(self.x)
            a = self.draw(lambda q=q: q, eps)
            s, r, terminated, truncated, _ = self.env.step(a)
            values.append(q[a]), rewards.append(r)
            self.x, self.over = self.features(s), terminated or truncated
        with torch.no_grad():
            R = 0.0 if terminated else self.target(self.x).max()
        loss = 0.0
        for i in reversed(range(len(rewards))):
            R = rewards[i] + c.gamma * R
            loss = loss + (R - values[i]) ** 2
        self.k, self.gradients = len(rewards), self.differentiate(loss)


class LeanNStep(Lean):
    own, pull = staticmethod(copy.deepcopy), Worker.pull

    def compute(self):
        x, A, rewards, terminated = self.begin(self.config.t_max)
        last = 0.0 if terminated else self.target(x[-1]).max().item()
        self.descend(x[:-1], A, self.returns(rewards, last))
