"""npgrad's mlps as modules of torch, and what they hold as flat vectors."""

import numpy as np
import torch
from torch import nn

ACTIVATIONS = dict(
    tanh=nn.Tanh, relu=nn.ReLU, softplus=nn.Softplus, elu=nn.ELU, identity=nn.Identity
)


def network(model, theta, dtype):
    """The torch module of an npgrad mlp, holding a copy of θ."""
    Activation, pairs = ACTIVATIONS[model.activation], list(zip(model.sizes, model.sizes[1:]))
    layers = [x for n, m in pairs for x in (nn.Linear(n, m, model.bias), Activation())][:-1]
    module = nn.Sequential(*layers).to(dtype)
    load(module, theta)
    return module


@torch.no_grad()
def load(module, theta):
    """Put θ into the parameters of a module: matrices lie transposed."""
    first = 0
    for p in module.parameters():
        piece = theta[first : first + p.numel()].reshape(p.shape[::-1])
        p.copy_(torch.from_numpy(piece.T if p.ndim > 1 else piece))
        first += p.numel()


def pack(tensors):
    """Parameters or their gradients as one vector, as θ is laid out; double precision."""
    return np.concatenate([p.detach().t().reshape(-1).double().numpy() for p in tensors])


def flat(module, gradient=False):
    """The parameters, or the gradients they hold, as θ is laid out. Shape (size of θ,)."""
    return pack(p.grad if gradient else p for p in module.parameters())
