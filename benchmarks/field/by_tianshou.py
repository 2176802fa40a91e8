"""Tianshou: its episodic returns, and the loss of its Reinforce."""

from types import SimpleNamespace

import numpy as np
import torch
from tianshou.algorithm import Reinforce
from tianshou.algorithm.algorithm_base import Algorithm
from tianshou.algorithm.modelfree.reinforce import DiscountedReturnComputation
from tianshou.data import Batch, ReplayBuffer

from benchmarks.field.judged import FEWER, Entry, estimated, returned


def filled(rewards, terminated, truncated):
    """Return a buffer of (T,) steps; observations count them."""
    buffer = ReplayBuffer(len(rewards))
    for t in range(len(rewards)):
        buffer.add(Batch(obs=t, act=0, rew=rewards[t], terminated=terminated[t],
                         truncated=truncated[t], obs_next=t + 1, info={}))  # fmt: skip
    return buffer


def gae(rewards, values, next_values, terminated, truncated, gamma, lam):
    answers = []
    for i in range(rewards.shape[1]):
        buffer = filled(rewards[:, i], terminated[:, i], truncated[:, i])
        batch, indices = buffer.sample(0)
        v_next, v = next_values[:, i], values[:, i]
        _, A = Algorithm.compute_episodic_return(batch, buffer, indices, v_next, v, gamma, lam)
        answers.append(A)
    return np.stack(answers, axis=1)


def reinforce(log_probs, episode):
    """Return the loss of one update on one episode, its policy being the log_probs given."""
    last = np.arange(len(episode.R)) == len(episode.R) - 1
    buffer, losses = filled(episode.R.numpy(), last, 0 * last), []
    batch, indices = buffer.sample(0)
    returns = DiscountedReturnComputation(gamma=episode.gamma)
    batch = returns.add_discounted_returns(batch, buffer, indices)

    def policy(steps):
        dist = SimpleNamespace(log_prob=lambda act: log_probs[torch.as_tensor(steps.obs)])
        return SimpleNamespace(dist=dist, act=log_probs)

    step = lambda loss: losses.append(loss)
    agent = SimpleNamespace(policy=policy, optim=SimpleNamespace(step=step))
    Reinforce._update_with_batch(agent, batch, batch_size=None, repeat=1)
    return losses[0]


ENTRIES = (
    Entry("compute_episodic_return", returned, gae, framework="numpy"),
    Entry("Reinforce, one update on one episode", estimated, reinforce, most=FEWER,
          remark="a mean over the steps of an update; of many episodes: without it, over E T"),
)  # fmt: skip
