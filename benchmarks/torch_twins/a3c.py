"""An A3C worker in torch: what one worker of algorithms/a3c.py computes, for comparison.

    Usual    as tutorials write it: torch.distributions and a graph at every step, losses summed
             step by step, parameters pulled by load_state_dict
    Lean     acts without gradient, then one batched forward and backward pass of both networks, no
             distribution object, pulls by torch._foreach_copy_, observations used as they are
    Gumbel   Lean, with this library's way of sampling instead of torch.multinomial
    LeanTrunk   Lean, with one network whose last output is V

All descend −Σ_i [(R_i − V) ln π(a_i|s_i) + β H(π(·|s_i)) − ½ c (R_i − V(s_i))²] over a segment of
up to t_max steps, by the page's optimisers (benchmarks.torch_twins.optimizers). For flat
observations; Usual and Gumbel for Discrete actions, separate networks.

segment() makes one update and returns its number of steps; pull, compute and push are its parts.
"""

import torch
from torch.distributions import Categorical

from benchmarks.torch_twins import heads
from benchmarks.torch_twins.actor_critic import GumbelActions
from benchmarks.torch_twins.asynchronous import Shared
from benchmarks.torch_twins.networks import flat, network

__all__ = ["Gumbel", "Lean", "LeanTrunk", "Trunk", "Usual", "flat", "loss", "network"]


def loss(log_prob, entropy, v, R, advantage, beta, value_coef):
    """−Σ_i [advantage_i ln π_i + β H_i − ½ c (R_i − V_i)²], advantage being numbers."""
    gain = log_prob * advantage + beta * entropy
    return -(gain - 0.5 * value_coef * (R - v) ** 2).sum()


class Usual:
    """policy, value: the shared modules; the worker has copies of its own, by make(value=False).
    state: the Shared of all workers, if there are several."""

    def __init__(self, env, config, policy, value, make, state=None):
        self.env, self.config = env, config
        self.shared = (policy,) if value is None else (policy, value)
        self.state = state or Shared(config, self.shared)
        self.own = [make(value=bool(i)) for i, _ in enumerate(self.shared)]
        self.policy, self.value = self.own[0], self.own[-1]
        self.theirs = self.state.parameters
        self.parameters = [p for module in self.own for p in module.parameters()]
        self.dtype = self.parameters[0].dtype
        self.optimizer = self.state.optimizer_of_a_worker()
        self.over = True

    def features(self, s):
        return torch.as_tensor(s, dtype=self.dtype)

    def draw(self, pi):
        return pi.sample()

    def pull(self):
        for module, shared in zip(self.own, self.shared):
            module.load_state_dict(shared.state_dict())

    def push(self):
        self.state.push(self.optimizer, self.gradients, self.k)

    def segment(self):
        """One segment: pull, act, differentiate, push; returns its number of steps."""
        self.pull()
        self.compute()
        self.push()
        return self.k

    def compute(self):
        c = self.config
        if self.over:
            s, _ = self.env.reset()
            self.x, self.over = self.features(s), False
        log_probs, entropies, values, rewards = [], [], [], []
        while len(rewards) < c.t_max and not self.over:
            pi = Categorical(logits=self.policy(self.x))
            a = self.draw(pi)
            values.append(self.value(self.x).squeeze(-1))
            s, r, terminated, truncated, _ = self.env.step(a.item())
            log_probs.append(pi.log_prob(a)), entropies.append(pi.entropy()), rewards.append(r)
            self.x, self.over = self.features(s), terminated or truncated
        R = (
            torch.zeros((), dtype=self.dtype)
            if terminated
            else self.value(self.x).squeeze(-1).detach()
        )
        total = 0.0
        for i in reversed(range(len(rewards))):
            R = rewards[i] + c.gamma * R
            advantage = R - values[i]
            total = total + 0.5 * c.value_coef * advantage**2
            total = total - log_probs[i] * advantage.detach() - c.beta * entropies[i]
        for parameter in self.parameters:
            parameter.grad = None
        total.backward()
        self.k, self.gradients = len(rewards), [p.grad for p in self.parameters]


class Lean(Usual):
    def __init__(self, env, config, policy, value, make, state=None):
        super().__init__(env, config, policy, value, make, state)
        self.head = heads.head(env.action_space, config.network)

    def features(self, s):
        x = torch.from_numpy(s)  # shares memory: CartPole's observations are new, float32 arrays
        return x if self.dtype == x.dtype else x.to(self.dtype)

    @torch.no_grad()
    def pull(self):
        torch._foreach_copy_(self.parameters, self.theirs)

    def draw_action(self, h):
        return self.head.draw(h)

    def preferences(self, x):
        return self.policy(x)

    def v(self, x):
        return self.value(x)[..., 0]

    def both(self, x):
        """Preferences and V of rows x."""
        return self.policy(x), self.value(x)[:, 0]

    def compute(self):
        c = self.config
        if self.over:
            s, _ = self.env.reset()
            self.x, self.over = self.features(s), False
        S, A, rewards = [], [], []
        with torch.inference_mode():
            while len(rewards) < c.t_max and not self.over:
                a = self.draw_action(self.preferences(self.x))
                S.append(self.x), A.append(a)
                s, r, terminated, truncated, _ = self.env.step(a)
                rewards.append(r)
                self.x, self.over = self.features(s), terminated or truncated
            R = 0.0 if terminated else self.v(self.x).item()
        G = [0.0] * len(rewards)
        for i in reversed(range(len(rewards))):
            G[i] = R = rewards[i] + c.gamma * R
        h, v = self.both(torch.stack(S))
        R = torch.tensor(G, dtype=self.dtype)
        log_prob, entropy = self.head.both(h, self.head.tensor(A))
        total = loss(log_prob, entropy, v, R, R - v.detach(), c.beta, c.value_coef)
        self.k, self.gradients = len(G), torch.autograd.grad(total, self.parameters)


class Trunk:
    """One network with two heads, for a lean twin: `policy`, whose last output is V."""

    def preferences(self, x):
        return self.policy(x)[..., :-1]

    def v(self, x):
        return self.policy(x)[..., -1]

    def both(self, x):
        y = self.policy(x)
        return y[:, :-1], y[:, -1]


class LeanTrunk(Trunk, Lean):
    pass


class Gumbel(GumbelActions, Lean):
    pass
