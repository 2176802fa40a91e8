"""Stable-Baselines3: the advantages of its rollouts.

They are made by A2C in Gymnasium environments that follow a script, through DummyVecEnv; an
observation is the value that the critic has of it.
"""

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import A2C
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from benchmarks.field.judged import Entry, returned

NUMBER = Box(-np.inf, np.inf, (1,))


def buffer(rewards, values, episode_starts, last_value, dones, gamma, lam):
    """Call RolloutBuffer.compute_returns_and_advantage."""
    n, N = rewards.shape
    made = RolloutBuffer(n, NUMBER, Discrete(2), gae_lambda=lam, gamma=gamma, n_envs=N)
    made.rewards, made.values, made.episode_starts = rewards, values, episode_starts
    made.compute_returns_and_advantage(torch.as_tensor(last_value), dones)
    return made.advantages


class Script(gymnasium.Env):
    """Steps of one environment: rewards, ends, the value after each step, and after a reset."""

    observation_space, action_space = NUMBER, Discrete(2)

    def __init__(self, rewards, first, next_values, observed, terminated, truncated):
        self.steps = iter(zip(rewards, next_values, terminated, truncated))
        self.resets = iter([first, *observed[terminated | truncated]])

    def reset(self, seed=None, options=None):
        return np.float32([next(self.resets)]), {}

    def step(self, action):
        r, v, terminated, truncated = next(self.steps)
        return np.float32([v]), float(r), bool(terminated), bool(truncated), {}


class OwnValue(nn.Module):
    """A policy that does nothing, and whose value of an observation is the observation."""

    def forward(self, obs):
        return torch.zeros(len(obs), dtype=torch.long), obs, torch.zeros(len(obs))

    def predict_values(self, obs):
        return obs

    def obs_to_tensor(self, obs):
        return torch.as_tensor(obs)[None], True

    def set_training_mode(self, mode):
        pass


def rollout(rewards, values, next_values, last_value, terminated, truncated, gamma, lam):
    """Call A2C.collect_rollouts."""
    n, N = rewards.shape
    observed = np.append(values[1:], last_value[None], axis=0)
    columns = [
        (rewards[:, i], values[0, i], next_values[:, i], observed[:, i], terminated[:, i],
         truncated[:, i])
        for i in range(N)
    ]  # fmt: skip
    envs = DummyVecEnv([lambda column=column: Script(*column) for column in columns])
    agent = A2C("MlpPolicy", envs, _init_setup_model=False)
    agent.policy = OwnValue()
    agent.gamma = gamma
    agent.rollout_buffer = RolloutBuffer(
        n, NUMBER, Discrete(2), gae_lambda=lam, gamma=gamma, n_envs=N
    )
    _, callback = agent._setup_learn(n * N)
    agent.collect_rollouts(envs, callback, agent.rollout_buffer, n)
    return agent.rollout_buffer.advantages


ENTRIES = (
    Entry("RolloutBuffer.compute_returns_and_advantage",
          returned, buffer, framework="numpy",
          remark="truncations are bootstrapped before, in collect_rollouts: the next row"),
    Entry("A2C.collect_rollouts, through DummyVecEnv",
          returned, rollout, framework="numpy"),
)  # fmt: skip
