"""A2C in torch: what algorithms/a2c.py computes in NEXT_STEP vector environments, for comparison.

    Usual      as tutorials write it: torch.distributions, a graph kept along the rollout, returns
               and losses step by step in torch
    Lean       at its best: acts without gradient, one batched forward and backward pass of both
               networks, returns in NumPy, no distribution object, RMSProp in foreach operations
    Gumbel     Lean, with this library's way of sampling instead of torch.multinomial

The twins descend −Σ_i w_i [(R_i − V) ln π(a_i|s_i) + β H(π(·|s_i)) − ½ c (R_i − V(s_i))²] of the
n · N steps, w_i being 0 where an environment was reset and 1/(number of the others), or 1/N,
elsewhere. Usual and Gumbel: Discrete actions; Usual: separate networks.
"""

import numpy as np
import torch
from torch.distributions import Categorical

from benchmarks.torch_twins.optimizers import Shared
from benchmarks.torch_twins.twin import ActorCritic


def loss(log_prob, entropy, v, R, advantage, weight, beta, value_coef):
    """−Σ_i w_i [advantage_i ln π_i + β H_i − ½ c (R_i − V_i)²], advantage being numbers."""
    gain = log_prob * advantage + beta * entropy
    return -(weight * (gain - 0.5 * value_coef * (R - v) ** 2)).sum()


class Usual(ActorCritic):
    lean = False

    def __init__(self, envs, config, policy, value=None):
        super().__init__(envs, config, policy, value)
        self.shared = Shared(config, [policy] if value is None else [policy, value])
        self.parameters, self.optimizer = self.shared.parameters, self.shared.optimizer
        self.s, _ = envs.reset(seed=0)
        self.over = torch.zeros(envs.num_envs, dtype=torch.bool)

    def descend(self, total, samples):
        self.shared.push(self.optimizer, self.differentiate(total), samples)

    def advance(self):
        """One rollout and its update; the number of steps, n · N."""
        c, N, steps, x = self.config, self.env.num_envs, [], self.features(self.s)
        for _ in range(c.n_steps):
            pi, v = Categorical(logits=self.policy(x)), self.value(x).squeeze(-1)
            a, real = self.draw(pi), ~self.over
            self.s, r, terminated, truncated, _ = self.env.step(a.numpy())
            x, terminated = self.features(self.s), torch.as_tensor(terminated)
            self.over = terminated | torch.as_tensor(truncated)
            steps.append((real, v, pi.log_prob(a), pi.entropy(), self.features(r), terminated))
        samples = sum(real.sum() for real, *_ in steps)
        after = R = self.value(x).squeeze(-1).detach()
        total, over = 0.0, self.over
        for real, v, log_prob, entropy, r, terminated in reversed(steps):
            R = r + c.gamma * torch.where(over, after * ~terminated, torch.lerp(after, R, c.lam))
            weight = real.to(self.dtype) / (N if c.reduction == "sum" else samples)
            data = log_prob, entropy, v, R, (R - v).detach()
            total = total + loss(*data, weight, c.beta, c.value_coef)
            after, over = v.detach(), ~real
        self.descend(total, int(samples))
        return c.n_steps * N


class Lean(Usual):
    lean = True

    def __init__(self, envs, config, policy, value=None):
        super().__init__(envs, config, policy, value)
        n, N, space = config.n_steps, envs.num_envs, envs.single_action_space
        self.S = torch.empty(n + 1, N, *envs.single_observation_space.shape, dtype=self.dtype)
        self.A = torch.empty(n, N, *space.shape, dtype=self.dtype if space.shape else torch.int64)
        self.r, self.terminated, self.truncated = np.zeros((3, n, N))
        self.over = np.zeros((n + 1, N))

    def draw(self, h):
        return self.head.draws(h)

    def advance(self):
        c, (n, N) = self.config, self.r.shape
        self.over[0] = self.over[n]
        with torch.inference_mode():
            for t in range(n):
                x = self.features(self.s)
                a = self.draw(self.preferences(x))
                self.S[t], self.A[t] = x, a
                self.s, self.r[t], terminated, truncated, _ = self.env.step(a.numpy())
                self.terminated[t], self.truncated[t] = terminated, truncated
                self.over[t + 1] = terminated | truncated
            self.S[n] = torch.from_numpy(self.s)
        h, v = self.evaluate(self.S.view((n + 1) * N, -1), n * N)
        R = self.returns(v.detach().numpy().reshape(n + 1, N))
        real = torch.from_numpy(1.0 - self.over[:n]).to(self.dtype).view(-1)
        samples = int(n * N - self.over[:n].sum())
        weight = real / (N if c.reduction == "sum" else samples)
        R, v = torch.from_numpy(R).to(self.dtype).view(-1), v[: n * N]
        data = *self.head.both(h, self.A.flatten(0, 1)), v, R, R - v.detach()
        self.descend(loss(*data, weight, c.beta, c.value_coef), samples)
        return n * N

    def returns(self, v):
        """V plus the generalised advantage, at λ = 1 the n-step return."""
        n, gamma = len(self.r), self.config.gamma
        A = self.r + gamma * (1 - self.terminated) * v[1:] - v[:n]
        goes_on = gamma * self.config.lam * (1 - self.over[1:])
        for t in reversed(range(n - 1)):
            A[t] += goes_on[t] * A[t + 1]
        return A + v[:n]


class Gumbel(Lean):
    gumbel = True
