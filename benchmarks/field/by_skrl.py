"""skrl: the returns that A2C makes of the transitions that it records; an observation is the value
that its critic has of it."""

import torch
from gymnasium.spaces import Box
from skrl.agents.torch.a2c import A2C
from skrl.memories.torch import RandomMemory
from torch import nn
from torch.distributions import Normal

from benchmarks.field.judged import Entry, returned

SILENT = dict(write_interval=0, checkpoint_interval=0)
SPACE = Box(-100.0, 100.0, (1,))


class OwnValue(nn.Module):
    """A policy that does nothing, and whose value of an observation is the observation."""

    device = "cpu"

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1, 1))

    def act(self, inputs, role):
        values = inputs["observations"] + self.zero
        return (values, {}) if role == "value" else (0.0 * values, {"log_prob": 0.0 * values})

    def distribution(self, role):
        return Normal(torch.zeros(1), torch.ones(1))

    def enable_training_mode(self, enabled):
        pass


def a2c(bootstrap):
    def asked(rewards, values, next_values, terminated, truncated, gamma, lam):
        n, N = rewards.shape
        model, memory = OwnValue(), RandomMemory(memory_size=n, num_envs=N)
        cfg = dict(discount_factor=gamma, gae_lambda=lam, time_limit_bootstrap=bootstrap,
                   experiment=SILENT)  # fmt: skip
        agent = A2C(models=dict(policy=model, value=model), memory=memory, cfg=cfg,
                    observation_space=SPACE, action_space=SPACE, device="cpu")  # fmt: skip
        agent.init()
        agent.training = True
        column = lambda x: torch.as_tensor(x).reshape(N, 1)
        for t in range(n):
            S, when = column(values[t]).float(), dict(timestep=t, timesteps=n)
            with torch.no_grad():
                actions, _ = agent.act(S, None, **when)
            agent.record_transition(
                observations=S, states=None, actions=actions, rewards=column(rewards[t]).float(),
                next_observations=column(next_values[t]).float(), next_states=None,
                terminated=column(terminated[t]), truncated=column(truncated[t]), infos={}, **when,
            )  # fmt: skip
        agent.update(timestep=n, timesteps=n)
        return memory.get_tensor_by_name("returns").numpy().reshape(n, N)

    return asked


ENTRIES = (
    Entry("A2C, time_limit_bootstrap=False (its default)",
          returned, a2c(False), "returns", "numpy",
          since="November 2024, July 2026"),
    Entry("A2C, time_limit_bootstrap=True", returned, a2c(True), "returns", "numpy",
          remark="documented: bootstraps at timeouts"),
)  # fmt: skip
