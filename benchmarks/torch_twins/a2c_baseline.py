"""Stable-Baselines3's A2C with the page's hyper-parameters, networks and optimiser.

Stable-Baselines3 knows no reset step of NEXT_STEP environments: it takes one for a transition.
"""

import numpy as np
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecEnv
from torch import nn


class Adapter(VecEnv):
    """A NEXT_STEP vector environment of Gymnasium as Stable-Baselines3's VecEnv: the observation of
    a step that ends an episode is its last."""

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
    """A model to be trained by .learn(steps): separate networks, mean reduction. Its vf_coef
    (R − V)² is ½ c (R − V)², and its limit on the norm is that of the whole gradient, as the
    page's."""
    env, hidden = Adapter(envs), list(config.network.hidden)
    left = lambda: max(0.0, 1.0 - env.steps / config.T_max) if config.annealed else 1.0
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
            activation_fn=nn.Tanh,
            optimizer_class=FromZero,
            optimizer_kwargs=dict(alpha=config.decay, eps=config.eps),
        ),
    )
