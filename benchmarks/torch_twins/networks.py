"""npgrad's mlps as modules of torch, and what they hold as flat vectors."""

import numpy as np
import torch
from torch import nn

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


def networks(model, theta, dtype):
    """The modules of an actor–critic's model: [policy, value], or one of both."""
    if not isinstance(model, beside):
        return [network(model, theta, dtype)]
    pairs = zip((model.first, model.second), model.layout.views(theta))
    return [network(one, part, dtype) for one, part in pairs]


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
