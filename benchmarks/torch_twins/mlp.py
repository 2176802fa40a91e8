"""A tanh network and its cross-entropy in torch, for benchmarks/speed/tape.py and scaling.py.

    lean         tensors, addmm, torch.autograd.grad: nothing of torch that is not needed
    compiled     the same, its forward pass by torch.compile
    lean_update  the same for any depth, then fused Adam
    usual        as tutorials write it: nn.Sequential, zero_grad, loss.backward()

All compute −(1/B) Σ_b ln softmax(h_b)[a_b], mean over the batch, and its gradient in each W and b,
given as NumPy arrays (n, m) and (m,). The gradient in W is (n, m), but (m, n) for usual.
"""

import torch
from torch import nn
from torch.nn import functional as F


def lean(parameters, x, a):
    """() -> (loss, gradients): the same numbers at every call."""
    x, a = torch.from_numpy(x), torch.from_numpy(a)
    parameters = [torch.tensor(p, requires_grad=True) for p in parameters]
    W1, b1, W2, b2, W3, b3 = parameters

    def value_and_grad():
        h = torch.tanh(torch.addmm(b1, x, W1))
        h = torch.tanh(torch.addmm(b2, h, W2))
        loss = F.cross_entropy(torch.addmm(b3, h, W3), a)
        return loss, torch.autograd.grad(loss, parameters)

    return value_and_grad


def compiled(parameters, x, a):
    """`lean` compiled, or None where torch.compile does not build."""
    x, a = torch.from_numpy(x), torch.from_numpy(a)
    parameters = [torch.tensor(p, requires_grad=True) for p in parameters]

    @torch.compile(dynamic=False)
    def loss(W1, b1, W2, b2, W3, b3):
        h = torch.tanh(torch.addmm(b1, x, W1))
        h = torch.tanh(torch.addmm(b2, h, W2))
        return F.cross_entropy(torch.addmm(b3, h, W3), a)

    def value_and_grad():
        value = loss(*parameters)
        return value, torch.autograd.grad(value, parameters)

    try:
        value_and_grad()
    except Exception as error:  # whatever a compiler may lack
        print(f"torch.compile does not build here: {error}".splitlines()[0])
        return None
    return value_and_grad


def lean_update(parameters, x, a, device):
    """() -> gradients, of one step of Adam with the data as they are, on that device."""
    x, a = torch.from_numpy(x).to(device), torch.from_numpy(a).to(device)
    parameters = [torch.tensor(p, device=device, requires_grad=True) for p in parameters]
    *hidden, (W, b) = list(zip(parameters[::2], parameters[1::2]))
    adam = torch.optim.Adam(parameters, 1e-4, fused=True)

    def update():
        h = x
        for V, c in hidden:
            h = torch.addmm(c, h, V).tanh_()
        gradients = torch.autograd.grad(F.cross_entropy(torch.addmm(b, h, W), a), parameters)
        for p, d in zip(parameters, gradients):
            p.grad = d
        adam.step()
        return gradients

    return update


def lean_network(parameters, x, g):
    """() -> gradients of Σ g h, g (B, 2) given: the network's forward and backward pass alone."""
    x, g = torch.from_numpy(x), torch.from_numpy(g)
    parameters = [torch.tensor(p, requires_grad=True) for p in parameters]
    W1, b1, W2, b2, W3, b3 = parameters

    def backward():
        h = torch.tanh(torch.addmm(b1, x, W1))
        h = torch.tanh(torch.addmm(b2, h, W2))
        return torch.autograd.grad(torch.addmm(b3, h, W3), parameters, g)

    return backward


def usual(parameters, x, a):
    """() -> (loss, gradients): the same numbers at every call."""
    x, a = torch.from_numpy(x), torch.from_numpy(a)
    sizes = [p.shape for p in parameters[::2]]
    layers = [layer for n, m in sizes for layer in (nn.Linear(n, m, dtype=x.dtype), nn.Tanh())]
    network = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for layer, W, b in zip(network[::2], parameters[::2], parameters[1::2]):
            layer.weight.copy_(torch.from_numpy(W.T))
            layer.bias.copy_(torch.from_numpy(b))
    criterion = nn.CrossEntropyLoss()

    def value_and_grad():
        network.zero_grad()
        loss = criterion(network(x), a)
        loss.backward()
        return loss, [p.grad for p in network.parameters()]

    return value_and_grad
