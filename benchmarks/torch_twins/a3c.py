"""An A3C worker in torch: what one worker of algorithms/a3c.py computes, for comparison.

    Usual    as tutorials write it: torch.distributions and a graph at every step, losses summed
             step by step, parameters pulled by load_state_dict
    Lean     acts without gradient, then one batched forward and backward pass of both networks, no
             distribution object, pulls by torch._foreach_copy_
    Gumbel   Lean, with this library's way of sampling instead of torch.multinomial

All descend −Σ_i [(R_i − V) ln π(a_i|s_i) + β H(π(·|s_i)) − ½ c (R_i − V(s_i))²] over a segment of
up to t_max steps, by the page's optimisers (benchmarks.torch_twins.optimizers). Usual and Gumbel:
Discrete actions; Usual: separate networks.

advance() makes one update and returns its number of steps; pull, compute and push are its parts.
"""

import copy

import torch

from benchmarks.torch_twins.a2c import loss
from benchmarks.torch_twins.optimizers import Shared, Worker
from benchmarks.torch_twins.twin import ActorCritic


class Usual(Worker, ActorCritic):
    """shared: the Shared of all workers, if there are several. The worker has copies of its own."""

    lean = False

    def __init__(self, env, config, policy, value=None, shared=None):
        modules = [policy] if value is None else [policy, value]
        own = copy.deepcopy(modules)
        super().__init__(env, config, *own)
        self.join(shared or Shared(config, modules), own)

    def compute(self):
        c = self.config
        steps, terminated = self.unroll(c.t_max)
        R = self.value(self.x).squeeze(-1).detach() * (1 - terminated)
        total = 0.0
        for pi, a, v, r in reversed(steps):
            R = r + c.gamma * R
            advantage = R - v
            total = total + 0.5 * c.value_coef * advantage**2
            total = total - pi.log_prob(a) * advantage.detach() - c.beta * pi.entropy()
        self.k, self.gradients = len(steps), self.differentiate(total)


class Lean(Usual):
    lean = True

    def compute(self):
        c = self.config
        x, A, rewards, terminated = self.roll_out(c.t_max)
        with torch.inference_mode():
            last = 0.0 if terminated else self.v(x[-1]).item()
        h, v = self.evaluate(x[:-1], len(A))
        R = self.returns(rewards, last)
        log_prob, entropy = self.head.both(h, self.head.tensor(A))
        total = loss(log_prob, entropy, v, R, R - v.detach(), 1.0, c.beta, c.value_coef)
        self.k, self.gradients = len(A), self.differentiate(total)


class Gumbel(Lean):
    gumbel = True
