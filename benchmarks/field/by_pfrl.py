"""PFRL: the returns of A2C, the advantages of PPO, and REINFORCE."""

from types import SimpleNamespace

import numpy as np
import torch
from pfrl.agents import A2C, REINFORCE
from pfrl.agents.ppo import _add_advantage_and_value_target_to_episode
from pfrl.optimizers import RMSpropEpsInsideSqrt

from algorithms.referee.guard import Asked
from benchmarks.field.by_torch import rmsprop
from benchmarks.field.judged import FEWER, Entry, differentiated, estimated, returned


def a2c(rewards, values, last_value, dones, gamma, lam):
    v = np.append(values, last_value[None], axis=0)
    return computed(rewards, last_value, dones, gamma, use_gae=True, tau=lam, value_preds=v)


def a2c_without_gae(rewards, last_value, dones, gamma):
    return computed(rewards, last_value, dones, gamma, use_gae=False)


def computed(rewards, last_value, dones, gamma, **fields):
    """Return the returns of an A2C with these fields."""
    n, N = rewards.shape
    agent = SimpleNamespace(update_steps=n, rewards=rewards, masks=1.0 - dones, gamma=gamma,
                            returns=np.zeros((n + 1, N)), **fields)  # fmt: skip
    A2C._compute_returns(agent, last_value)
    return agent.returns[:-1]


def ppo(rewards, values, next_values, terminated, truncated, gamma, lam):
    """Give PPO one episode at a time, as it does itself: cut at ends, and after the last step."""
    A = np.zeros_like(rewards)
    ends = terminated | truncated
    for i in range(rewards.shape[1]):
        steps = [
            dict(reward=r, v_pred=v, next_v_pred=v_next, nonterminal=1.0 - over)
            for r, v, v_next, over in zip(
                rewards[:, i], values[:, i], next_values[:, i], terminated[:, i]
            )
        ]
        for part in np.split(np.arange(len(steps)), np.flatnonzero(ends[:, i]) + 1):
            episode = [steps[t] for t in part]
            _add_advantage_and_value_target_to_episode(episode, gamma, lam)
            A[part, i] = [step["adv"] for step in episode]
    return A


class Given(torch.nn.Module):
    """A policy whose ln π(A_t|S_t), t = 0, 1, ..., are parameters (T,); there is one action."""

    def __init__(self, T):
        super().__init__()
        self.log_probs = torch.nn.Parameter(torch.zeros(T))

    def forward(self, t):
        log_prob = self.log_probs[t.flatten().long()]
        return SimpleNamespace(
            sample=lambda: torch.zeros(1),
            log_prob=lambda a: log_prob,
            entropy=lambda: torch.zeros(1),
        )


def reinforce(episode):
    """Return what REINFORCE ascends, in ln π(A_t|S_t), after an episode of its act and observe."""
    T, model = len(episode.R), Given(len(episode.R))
    agent = REINFORCE(model, torch.optim.SGD(model.parameters(), lr=0.0), beta=0.0, batchsize=1)
    for t in range(T):
        agent.act(np.array([t], np.float32))
        agent.observe(np.array([t + 1], np.float32), episode.R[t], t == T - 1, False)
    return -model.log_probs.grad.numpy()


ENTRIES = (
    Entry("A2C, returns with GAE", returned, a2c, "returns", "numpy",
          remark="it warns that a reset without termination counts as done"),
    Entry("A2C, returns without GAE", returned, a2c_without_gae, "returns", "numpy"),
    Entry("PPO, advantages", returned, ppo, framework="numpy"),
    Entry("RMSpropEpsInsideSqrt.step",
          differentiated, rmsprop(RMSpropEpsInsideSqrt), "rmsprop"),
    Entry("REINFORCE, γ = 1 (it has none)",
          estimated, Asked(reinforce, framework="numpy"), gamma=1.0, most=FEWER,
          remark="step t is paid the rewards after its own, and the last reward once more; "
          "the same where all rewards are equal"),
)  # fmt: skip
