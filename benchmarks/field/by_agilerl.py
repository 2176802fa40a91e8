"""AgileRL: the advantages that its collect_rollouts leaves in the RolloutBuffer; an observation is
the value that the agent has of it."""

from types import SimpleNamespace

import numpy as np
import torch
from agilerl.components.rollout_buffer import RolloutBuffer
from agilerl.rollouts.on_policy import collect_rollouts
from gymnasium.spaces import Box, Discrete

from benchmarks.field.judged import Entry, returned

NUMBER = Box(-np.inf, np.inf, (1,))


class Script:
    """A vector environment whose steps are given; after an end it shows the next episode."""

    def __init__(self, rewards, observed, dones):
        self.first, *rest = observed
        self.steps = iter(zip(rest, rewards, dones))

    def reset(self):
        return np.float32(self.first)[:, None], {}

    def step(self, action):
        v, r, done = next(self.steps)
        return np.float32(v)[:, None], np.float32(r), done, np.zeros_like(done), {}


def rollout(rewards, values, last_value, dones, gamma, lam):
    n, N = rewards.shape
    buffer = RolloutBuffer(n, NUMBER, Discrete(2), N, gae_lambda=lam, gamma=gamma)
    zeros = np.zeros(N)
    agent = SimpleNamespace(
        num_envs=N, learn_step=n * N, rollout_buffer=buffer, action_space=Discrete(2), scores=[],
        hidden_state=None, registry=SimpleNamespace(policy=lambda: "actor"), actor=None,
        preprocess_observation=lambda obs: obs,
        get_action=lambda obs, action_mask: (zeros.astype(int), zeros, zeros, obs[:, 0]),
        _get_action_and_values=lambda obs: (None, None, None, torch.as_tensor(obs[:, 0]), None),
    )  # fmt: skip
    observed = np.append(values, last_value[None], axis=0)
    collect_rollouts(agent, Script(rewards, observed, dones), n)
    return buffer.buffer["advantages"].numpy().reshape(n, N)


ENTRIES = (
    Entry("collect_rollouts and RolloutBuffer", returned, rollout, framework="numpy",
          remark="dones[t] is stored as the end of step t, and read as that of step t−1"),
)  # fmt: skip
