"""npgrad's networks as modules of torch, as flat vectors, and twins built of them."""

import numpy as np
import torch
from torch import nn

from algorithms.common.policy import make_actor_critic, make_policy, make_value
from npgrad import beside

ACTIVATIONS = dict(
    tanh=nn.Tanh, relu=nn.ReLU, softplus=nn.Softplus, elu=nn.ELU, identity=nn.Identity
)


def network(model, theta, dtype):
    """The torch module of an npgrad mlp, holding a copy of θ."""
    Activation, bias = ACTIVATIONS[model.activation], "b1" in model.layout.shapes
    pairs = zip(model.sizes, model.sizes[1:])
    layers = [x for n, m in pairs for x in (nn.Linear(n, m, bias), Activation())]
    module = nn.Sequential(*layers[:-1]).to(dtype)
    load(module.parameters(), theta)
    return module


def networks(models, theta, dtype):
    """The modules of these models, whose parameters lie end to end in θ."""
    ends = np.cumsum([model.layout.size for model in models])
    return [network(*pair, dtype) for pair in zip(models, np.split(theta, ends[:-1]))]


def name_of(page):
    """The page's name; a process that trains one twin imports no other page."""
    return page.__name__.rpartition(".")[2]


def models(page, env, config):
    """The npgrad mlps of a page's State, in the order of its flat parameters."""
    name = name_of(page)
    if name == "ddpg":
        return list(page.models(env, config))
    if name in ("a2c", "a3c"):
        model = make_actor_critic(env, config.network, config.trunk).model
        return [model.first, model.second] if isinstance(model, beside) else [model]
    policy = make_policy(env, config.network).model
    if name == "async_q" or (name == "reinforce" and config.baseline != "value"):
        return [policy]
    return [policy, make_value(env, config.network)]


def flat(state):
    """The parameters of all networks of a State, one copy, end to end."""
    names = [name for name in state.parameters if name != "seen"]
    return np.concatenate([getattr(state, name) for name in names])


def build(Twin, page, env, config, theta, dtype=torch.float32, **how):
    """A twin of a page, holding a copy of θ, which is `flat` of a State."""
    found = models(page, env, config)
    if name_of(page) == "ddpg":
        return Twin(env, config, *found, theta, dtype)
    return Twin(env, config, *networks(found, theta, dtype), **how)


@torch.no_grad()
def load(tensors, theta):
    """Put θ into parameters: matrices lie transposed."""
    first = 0
    for p in tensors:
        piece = theta[first : first + p.numel()].reshape(p.shape[::-1])
        p.copy_(torch.from_numpy(piece.T if p.ndim > 1 else piece))
        first += p.numel()


def pack(tensors):
    """Parameters or their gradients as one vector, as θ is laid out; double precision."""
    return np.concatenate([p.detach().t().reshape(-1).double().numpy() for p in tensors])
