"""Stable-Baselines3's A2C and DDPG with the pages' hyper-parameters, networks, optimisers, noise
and distribution of first weights.

Its A2C knows no reset step of NEXT_STEP environments: it takes one for a transition.
"""

import gymnasium
import numpy as np
import torch
from stable_baselines3 import A2C, DDPG
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecEnv
from torch import nn


def baseline(env_id, config, seed):
    """A model, of the method that the config is of, to be trained by .learn(steps)."""
    if not hasattr(config, "environments"):
        return ddpg_model(gymnasium.make(env_id), config, seed)
    n, vectorization = config.environments, config.vectorization
    envs = gymnasium.make_vec(env_id, num_envs=n, vectorization_mode=vectorization)
    return a2c_model(envs, config, seed)


def train(model, steps, going):
    """Train a model for so many steps, or until going() is false."""

    class Callback(BaseCallback):
        def _on_step(self):
            return going()

    model.learn(steps, callback=Callback())


class Adapter(VecEnv):
    """A NEXT_STEP vector environment of Gymnasium as Stable-Baselines3's VecEnv: the observation of
    a step that ends an episode is its last."""

    def __init__(self, envs, seed):
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.envs, self.seed_of_reset = envs, seed
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


def a2c_model(envs, config, seed):
    """A model to be trained by .learn(steps): separate networks, mean reduction. Its vf_coef
    (R − V)² is ½ c (R − V)², and its limit on the norm is that of the whole gradient, as the
    page's."""
    env, hidden = Adapter(envs, seed), list(config.network.hidden)
    left = lambda: max(0.0, 1.0 - env.steps / config.T_max) if config.annealed else 1.0
    return A2C(
        "MlpPolicy",
        env,
        learning_rate=lambda _: config.step_size * left(),
        n_steps=config.n_steps,
        gamma=config.gamma,
        gae_lambda=config.lam,
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


class AsThePage(DDPG):
    """Actor and critic each keep the step size given to them; no noise on warm-up's actions."""

    def _update_learning_rate(self, optimizers):
        pass

    def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
        warming = self.num_timesteps < learning_starts
        return super()._sample_action(learning_starts, None if warming else action_noise, n_envs)


def ddpg_model(env, config, seed):
    """A model to be trained by .learn(steps). The page's Config must have action_layer = 1, l2 = 0,
    soft targets and Euler–Maruyama OU noise: more Stable-Baselines3 does not have."""
    nets, noise, zero = config.networks, config.noise, np.zeros(env.action_space.shape)
    assert nets.action_layer == 1 and config.l2 == 0 and config.target == "soft"
    assert noise.noise == "ou" and noise.ou_form == "euler" and noise.sigma_final is None
    ou = OrnsteinUhlenbeckActionNoise(
        zero + noise.ou_mean, zero + noise.sigma, noise.ou_theta, noise.dt
    )
    model = AsThePage(
        "MlpPolicy",
        env,
        buffer_size=config.replay,
        learning_starts=config.warmup,
        batch_size=config.batch,
        tau=config.tau,
        gamma=config.gamma,
        action_noise=ou,
        policy_kwargs=dict(net_arch=list(nets.hidden)),
        seed=seed,
        device="cpu",
    )
    policy = model.policy
    policy.actor.optimizer.param_groups[0]["lr"] = config.step_size
    policy.critic.optimizer.param_groups[0]["lr"] = config.step_size_w
    with torch.no_grad():  # hidden layers begin as the page's: uniform in ±1/√fan_in
        for last in (policy.actor.mu[-2], policy.critic.q_networks[0][-1]):
            last.weight.uniform_(-3e-3, 3e-3)
            last.bias.uniform_(-3e-3, 3e-3)
    policy.actor_target.load_state_dict(policy.actor.state_dict())
    policy.critic_target.load_state_dict(policy.critic.state_dict())
    return model
