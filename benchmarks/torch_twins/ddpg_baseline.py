"""Stable-Baselines3's DDPG with the page's hyper-parameters, networks, first weights and noise.

The page's Config must have action_layer = 1, l2 = 0, soft targets and Euler–Maruyama OU noise: more
Stable-Baselines3 does not have.
"""

import numpy as np
import torch
from stable_baselines3 import DDPG
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise


class AsThePage(DDPG):
    """Actor and critic each keep the step size given to them; no noise on warm-up's actions."""

    def _update_learning_rate(self, optimizers):
        pass

    def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
        warming = self.num_timesteps < learning_starts
        return super()._sample_action(learning_starts, None if warming else action_noise, n_envs)


def baseline(env, config, seed):
    """A model to be trained by .learn(steps)."""
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
