"""A2C in torch: what algorithms/a2c.py computes in NEXT_STEP vector environments, for comparison.

    Usual      as tutorials write it: torch.distributions, a graph kept along the rollout, returns
               and losses step by step in torch
    Lean       at its best: acts without gradient, one batched forward and backward pass of both
               networks, returns in NumPy, no distribution object, RMSProp in foreach operations
    Gumbel     Lean, with this library's way of sampling instead of torch.multinomial
    LeanTrunk  Lean, with one network whose last output is V
    Adapter    a vector environment of Gymnasium as Stable-Baselines3's VecEnv
    baseline   Stable-Baselines3's A2C with the page's hyper-parameters, networks and optimiser

The twins descend −Σ_i w_i [(R_i − V) ln π(a_i|s_i) + β H(π(·|s_i)) − ½ c (R_i − V(s_i))²] of the
n · N steps, w_i being 0 where an environment was reset and 1/(number of the others), or 1/N,
elsewhere. For flat observations; Usual and Gumbel for Discrete actions, separate networks.
Stable-Baselines3 knows no reset step: it takes one for a transition.
"""

import numpy as np
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecEnv
from torch import nn
from torch.distributions import Categorical

from benchmarks.torch_twins import heads
from benchmarks.torch_twins.a3c import Trunk
from benchmarks.torch_twins.asynchronous import Shared
from benchmarks.torch_twins.networks import flat, network

__all__ = [
    "Adapter",
    "Gumbel",
    "Lean",
    "LeanTrunk",
    "Usual",
    "baseline",
    "flat",
    "loss",
    "network",
]


def loss(log_prob, entropy, v, R, advantage, weight, beta, value_coef):
    """−Σ_i w_i [advantage_i ln π_i + β H_i − ½ c (R_i − V_i)²], advantage being numbers."""
    gain = log_prob * advantage + beta * entropy
    return -(weight * (gain - 0.5 * value_coef * (R - v) ** 2)).sum()


class Usual:
    """policy, value: modules, changed in place."""

    def __init__(self, envs, config, policy, value):
        self.envs, self.config, self.policy, self.value = envs, config, policy, value
        self.state = Shared(config, [policy] if value is None else [policy, value])
        self.parameters, self.dtype = self.state.parameters, self.state.parameters[0].dtype
        self.s, _ = envs.reset(seed=0)
        self.over = torch.zeros(envs.num_envs, dtype=torch.bool)

    def draw(self, pi):
        return pi.sample()

    def update(self):
        """One rollout and its update."""
        c, N, steps, x = self.config, self.envs.num_envs, [], self.features(self.s)
        for _ in range(c.n_steps):
            pi, v = Categorical(logits=self.policy(x)), self.value(x).squeeze(-1)
            a, real = self.draw(pi), ~self.over
            s, r, terminated, truncated, _ = self.envs.step(a.numpy())
            x, terminated = self.features(s), torch.as_tensor(terminated)
            self.over = terminated | torch.as_tensor(truncated)
            steps.append((real, v, pi.log_prob(a), pi.entropy(), self.features(r), terminated))
        samples = sum(real.sum() for real, *_ in steps)
        after = R = self.value(x).squeeze(-1).detach()
        total, over = 0.0, self.over
        for real, v, log_prob, entropy, r, terminated in reversed(steps):
            R = r + c.gamma * torch.where(over, after * ~terminated, R)
            weight = real.to(self.dtype) / (N if c.reduction == "sum" else samples)
            data = log_prob, entropy, v, R, (R - v).detach()
            total = total + loss(*data, weight, c.beta, c.value_coef)
            after, over = v.detach(), ~real
        for parameter in self.parameters:
            parameter.grad = None
        total.backward()
        self.gradients = [p.grad for p in self.parameters]
        self.state.push(self.state.optimizer, self.gradients, int(samples))
        self.s = s

    def features(self, x):
        return torch.as_tensor(x, dtype=self.dtype)


class Lean(Usual):
    def __init__(self, envs, config, policy, value):
        super().__init__(envs, config, policy, value)
        n, N, space = config.n_steps, envs.num_envs, envs.single_action_space
        self.head = heads.head(space, config.network)
        self.S = torch.empty(n + 1, N, *envs.single_observation_space.shape, dtype=self.dtype)
        discrete = isinstance(self.head, heads.Softmax)
        self.A = torch.empty(n, N, *space.shape, dtype=torch.int64 if discrete else self.dtype)
        self.r, self.terminated, self.truncated = np.zeros((3, n, N))
        self.over = np.zeros((n + 1, N))

    def draw_actions(self, h):
        return self.head.draws(h)

    def preferences(self, x):
        return self.policy(x)

    def both(self, x, k):
        """Preferences of the first k rows x, V of all."""
        return self.policy(x[:k]), self.value(x)[:, 0]

    def update(self):
        c, (n, N) = self.config, self.r.shape
        self.over[0] = self.over[n]
        with torch.inference_mode():
            for t in range(n):
                x = torch.from_numpy(self.s).to(self.dtype)
                a = self.draw_actions(self.preferences(x))
                self.S[t], self.A[t] = x, a
                self.s, self.r[t], terminated, truncated, _ = self.envs.step(a.numpy())
                self.terminated[t], self.truncated[t] = terminated, truncated
                self.over[t + 1] = terminated | truncated
            self.S[n] = torch.from_numpy(self.s)
        h, v = self.both(self.S.view((n + 1) * N, -1), n * N)
        R = self.returns(v.detach().numpy().reshape(n + 1, N))
        real = torch.from_numpy(1.0 - self.over[:n]).to(self.dtype).view(-1)
        samples = int(n * N - self.over[:n].sum())
        weight = real / (N if c.reduction == "sum" else samples)
        R, v = torch.from_numpy(R).to(self.dtype).view(-1), v[: n * N]
        log_prob, entropy = self.head.both(h, self.A.flatten(0, 1))
        data = log_prob, entropy, v, R, R - v.detach()
        total = loss(*data, weight, c.beta, c.value_coef)
        self.gradients = torch.autograd.grad(total, self.parameters)
        self.state.push(self.state.optimizer, self.gradients, samples)

    def returns(self, v):
        n, gamma = len(self.r), self.config.gamma
        R, last = np.empty_like(self.r), v[n]
        for t in reversed(range(n)):
            over = self.over[t + 1]
            last = (1 - over) * last + over * (1 - self.terminated[t]) * v[t + 1]
            R[t] = last = self.r[t] + gamma * last
        return R


class LeanTrunk(Trunk, Lean):
    def both(self, x, k):
        y = self.policy(x)
        return y[:k, :-1], y[:, -1]


class Gumbel(Lean):
    def draw_actions(self, h):
        return (h - torch.empty_like(h).exponential_().log_()).argmax(-1)


class Adapter(VecEnv):
    """NEXT_STEP environments: the observation of a step that ends an episode is its last."""

    def __init__(self, envs):
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.envs, self.seed_of_reset = envs, 0
        self.episodes, self.G, self.steps = [], np.zeros(self.num_envs), 0
        self.over = np.zeros(self.num_envs, bool)

    def reset(self):
        return self.envs.reset(seed=self.seed_of_reset)[0]

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        s, r, terminated, truncated, _ = self.envs.step(self.actions)
        infos, over = [{} for _ in range(self.num_envs)], terminated | truncated
        self.G += r
        self.steps += self.num_envs - int(np.count_nonzero(self.over))
        for i in np.flatnonzero(over):
            infos[i] = {"terminal_observation": s[i], "TimeLimit.truncated": not terminated[i]}
            self.episodes.append((self.steps, float(self.G[i])))
            self.G[i] = 0.0
        self.over = over
        return s, r.astype(np.float32), over, infos

    def close(self):
        self.envs.close()

    def get_attr(self, name, indices=None):
        return [getattr(self.envs, name, None)] * self.num_envs

    def set_attr(self, name, value, indices=None):
        raise NotImplementedError

    def env_method(self, name, *arguments, indices=None, **how):
        raise NotImplementedError

    def env_is_wrapped(self, wrapper, indices=None):
        return [False] * self.num_envs


class FromZero(RMSpropTFLike):
    """RMSProp with ε inside the root and g₀ = 0, where RMSpropTFLike has g₀ = 1."""

    def __init__(self, *arguments, **how):
        super().__init__(*arguments, **how)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].update(step=0, square_avg=torch.zeros_like(p))


def baseline(envs, config, seed):
    """Stable-Baselines3's A2C: separate networks, mean reduction; its vf_coef (R − V)² is ½ c
    (R − V)², and its limit on the norm is that of the whole gradient, as the page's."""
    env = Adapter(envs)
    left = lambda: max(0.0, 1.0 - env.steps / config.T_max) if config.annealed else 1.0
    hidden, Activation = list(config.network.hidden), nn.Tanh
    return A2C(
        "MlpPolicy",
        env,
        learning_rate=lambda _: config.step_size * left(),
        n_steps=config.n_steps,
        gamma=config.gamma,
        gae_lambda=1.0,
        ent_coef=config.beta,
        vf_coef=0.5 * config.value_coef,
        max_grad_norm=config.max_norm,
        seed=seed,
        device="cpu",
        policy_kwargs=dict(
            net_arch=dict(pi=hidden, vf=hidden),
            ortho_init=False,  # as the page: uniform in ±1/√fan_in
            activation_fn=Activation,
            optimizer_class=FromZero,
            optimizer_kwargs=dict(alpha=config.decay, eps=config.eps),
        ),
    )
