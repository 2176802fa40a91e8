"""A tanh network and its cross-entropy in torch, for benchmarks/speed/tape.py and scaling.py.

    lean          tensors, addmm, torch.autograd.grad: nothing of torch that is not needed
    compiled      the same, its forward pass by torch.compile
    lean_update   the same, then fused Adam
    lean_network  the network's forward and backward pass alone
    usual         as tutorials write it: nn.Sequential, zero_grad, loss.backward()

All but lean_network compute −(1/B) Σ_b ln softmax(h_b)[a_b], mean over the batch, and its gradient
in each W and b, given as NumPy arrays (n, m) and (m,), or to usual as an npgrad mlp at θ. The
gradient in W is (n, m), but (m, n) for usual.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.torch_twins.networks import network


def output(x, *parameters):
    """The network's output, of W, b, W, b, ..."""
    *hidden, (W, b) = zip(parameters[::2], parameters[1::2])
    for V, c in hidden:
        x = torch.tanh(torch.addmm(c, x, V))
    return torch.addmm(b, x, W)


def tensors(*arrays):
    return [torch.from_numpy(x) for x in arrays]


def moving(parameters):
    return [torch.tensor(p, requires_grad=True) for p in parameters]


def differentiated(loss, parameters):
    """() -> (loss, gradients): the same numbers at every call."""

    def value_and_grad():
        value = loss(*parameters)
        return value, torch.autograd.grad(value, parameters)

    return value_and_grad


def lean(parameters, x, a):
    x, a = tensors(x, a)
    loss = lambda *parameters: F.cross_entropy(output(x, *parameters), a)
    return differentiated(loss, moving(parameters))


def compiled(parameters, x, a):
    """`lean` compiled, or None where torch.compile does not build."""
    x, a = tensors(x, a)
    loss = lambda *parameters: F.cross_entropy(output(x, *parameters), a)
    value_and_grad = differentiated(torch.compile(loss, dynamic=False), moving(parameters))
    try:
        value_and_grad()
    except Exception as error:  # whatever a compiler may lack
        print(f"torch.compile does not build here: {error}".splitlines()[0])
        return None
    return value_and_grad


def lean_update(parameters, x, a):
    """() -> gradients, of one step of Adam with the data as they are."""
    (x, a), parameters = tensors(x, a), moving(parameters)
    adam = torch.optim.Adam(parameters, 1e-4, fused=True)

    def update():
        gradients = torch.autograd.grad(F.cross_entropy(output(x, *parameters), a), parameters)
        for p, d in zip(parameters, gradients):
            p.grad = d
        adam.step()
        return gradients

    return update


def lean_network(parameters, x, g):
    """() -> gradients of Σ g h, g (B, 2) given."""
    (x, g), parameters = tensors(x, g), moving(parameters)
    return lambda: torch.autograd.grad(output(x, *parameters), parameters, g)


def usual(model, theta, x, a):
    x, a = tensors(x, a)
    net, criterion = network(model, theta, x.dtype), nn.CrossEntropyLoss()

    def value_and_grad():
        net.zero_grad()
        loss = criterion(net(x), a)
        loss.backward()
        return loss, [p.grad for p in net.parameters()]

    return value_and_grad
