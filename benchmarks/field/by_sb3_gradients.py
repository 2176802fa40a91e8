"""Stable-Baselines3: the gradients of A2C and DDPG, as `train` hands them to the optimiser, and the
step of RMSpropTFLike."""

from collections import namedtuple
from functools import partial
from types import SimpleNamespace

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import A2C, DDPG
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn
from torch.nn.functional import relu

from benchmarks.field.by_torch import rmsprop
from benchmarks.field.judged import Entry, differentiated


class Spaces(gymnasium.Env):
    """An environment that only has spaces."""

    def __init__(self, action_space):
        self.observation_space, self.action_space = Box(-np.inf, np.inf, (3,)), action_space


def single(x):
    return torch.as_tensor(np.asarray(x), dtype=torch.float32)


def pieces(theta, layout):
    """Return {name: array} of a flat θ."""
    return {
        name: theta[where["offset"] :][: int(np.prod(where["shape"]))].reshape(where["shape"])
        for name, where in layout.items()
    }


class Kept:
    """An optimiser that keeps the gradients that it is given, and makes no step."""

    param_groups = ()

    def __init__(self, parameters):
        self.parameters = parameters

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None

    def step(self):
        self.found = np.concatenate([p.grad.numpy().ravel() for p in self.parameters])


STEPS = namedtuple("Steps", "observations actions old_values old_log_prob advantages returns")


def a2c(theta, made, normalised=False):
    """Call A2C.train, on the steps that are real, with advantages and returns as given."""
    agent = A2C("MlpPolicy", Spaces(Discrete(3)), ent_coef=made.beta, vf_coef=made.value_coef,
                max_grad_norm=np.inf, normalize_advantage=normalised,
                policy_kwargs=dict(net_arch=[4]))  # fmt: skip
    agent.set_logger(Logger(None, []))
    policy, layers = agent.policy, {}
    for part, hidden, out in (
        ("policy", policy.mlp_extractor.policy_net[0], policy.action_net),
        ("value", policy.mlp_extractor.value_net[0], policy.value_net),
    ):
        for i, layer in ((1, hidden), (2, out)):
            layers[f"{part}.W{i}"], layers[f"{part}.b{i}"] = layer.weight, layer.bias
    for name, x in pieces(theta, made.layout).items():
        layers[name].data[:] = single(x.T)
    keep = made.real
    data = (made.S, made.A, made.v, 0.0 * made.v, made.advantage, made.R)
    steps = STEPS(*(single(x[keep]) for x in data))
    agent.rollout_buffer = SimpleNamespace(
        get=lambda batch_size: [steps], values=made.v[keep], returns=made.R[keep]
    )
    agent.train()
    return np.concatenate([layers[name].grad.numpy().T.ravel() for name in made.layout])


class Net(nn.Module):
    """The networks of our DDPG page, at θ: of an actor; or of a critic, with the action in."""

    def __init__(self, theta, layout):
        super().__init__()
        parts = {name: nn.Parameter(single(x)) for name, x in pieces(theta, layout).items()}
        self.parts, self.names = nn.ParameterDict(parts), list(layout)

    def output(self, S, *actions):
        W = self.parts
        x = relu(S @ W["W1"] + W["b1"])
        x = relu(torch.cat([x, *actions], dim=1) @ W["W2"] + W["b2"])
        return x @ W["W3"] + W["b3"]


class Actor(Net):
    def forward(self, S):
        return torch.tanh(self.output(S))


class Critic(Net):
    def forward(self, S, A):
        return (self.output(S, A),)

    def q1_forward(self, S, A):
        return self.output(S, A)


def ddpg(made, actors, critics):
    """Call DDPG.train, with (actor, target) and (critic, target); return their optimisers."""
    agent = DDPG("MlpPolicy", Spaces(Box(-1.0, 1.0, (2,))), gamma=getattr(made, "gamma", 0.9),
                 buffer_size=1, _init_setup_model=False)  # fmt: skip
    agent.set_logger(Logger(None, []))
    agent.policy = SimpleNamespace(set_training_mode=lambda mode: None)
    agent.lr_schedule = lambda progress: 0.0
    agent.actor, agent.actor_target = actors
    agent.critic, agent.critic_target = critics
    agent.actor_batch_norm_stats = agent.actor_batch_norm_stats_target = []
    agent.critic_batch_norm_stats = agent.critic_batch_norm_stats_target = []
    for net in (agent.actor, agent.critic):
        net.optimizer = Kept([net.parts[name] for name in net.names])
    k, spaces = len(made.S), agent.env
    replay = ReplayBuffer(k, spaces.observation_space, spaces.action_space)
    zeros = np.zeros(k)
    rest = [getattr(made, name, zeros) for name in ("r", "terminated", "truncated")]
    for s, s2, a, r, over, cut in zip(made.S, getattr(made, "S2", made.S), made.A, *rest):
        replay.add(s, s2, a, r, over or cut, [{"TimeLimit.truncated": bool(cut)}])
    agent.replay_buffer = SimpleNamespace(
        sample=lambda *args, **how: replay._get_samples(np.arange(k))
    )
    agent.train(1, k)
    return agent.actor.optimizer, agent.critic.optimizer


def ddpg_critic(theta, made):
    actors = [Actor(x, made.actor_layout) for x in (made.actor, made.actor_target)]
    critics = [Critic(x, made.layout) for x in (theta, made.critic_target)]
    return ddpg(made, actors, critics)[1].found


def ddpg_actor(theta, made):
    actor, critic = Actor(theta, made.layout), Critic(made.critic, made.critic_layout)
    return ddpg(made, (actor, actor), (critic, critic))[0].found


ENTRIES = (
    Entry("A2C.train", differentiated, a2c, "a2c",
          remark="vf_coef times the mean squared error; on our page c times half of it"),
    Entry("A2C.train, normalize_advantage",
          differentiated, partial(a2c, normalised=True), "a2c",
          remark="off by default; its comment: not in the original implementation"),
    Entry("RMSpropTFLike.step", differentiated, rmsprop(RMSpropTFLike), "rmsprop"),
    Entry("DDPG.train, critic", differentiated, ddpg_critic, "ddpg-critic", descent=False,
          remark="weight decay is left to the optimiser (optimizer_kwargs)"),
    Entry("DDPG.train, actor", differentiated, ddpg_actor, "ddpg-actor"),
)  # fmt: skip
