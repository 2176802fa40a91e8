"""How far two vectors are apart, and gradients of torch at a flat θ.

A gradient's difference is relative to the largest entry of the whole vector, and the gradient is
that of an update: an entry, or one step's TD error, that is a sum of terms that cancel has no
relative accuracy of its own. A parameter's is relative to the largest entry of its own matrix or
vector W1, b1, ...: what is small is not hidden by what is large.

Runs must not be chaotic, or rounding alone tears them apart. The actions are the record's, and a
Gaussian policy is driven away from one whose advantage is negative, the faster the farther: with
A3C's step size of 1e-3 a start moved by 1e-15 ends 1e-1 away after 1,000 updates, twin beside twin.
So continuous actions get smaller steps.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.parity.world import OutOfStep
from benchmarks.torch_twins.networks import load, network, pack
from npgrad import beside

GRADIENT, PARAMETERS = 1e-10, 1e-8  # limits on the differences


class Row(NamedTuple):
    """A line of the table; the differences are the largest over all updates."""

    method: str
    option: str
    optimizer: str
    gradient: float
    parameters: float
    updates: int

    @property
    def holds(self):
        return bool(self.gradient <= GRADIENT and self.parameters <= PARAMETERS)


def relative(ours, theirs):
    """max |ours − theirs| / max |ours|; 0 if both are 0, NaN if one is not finite."""
    difference = np.abs(ours - theirs).max(initial=0.0)
    return 0.0 if difference == 0.0 else float(difference / np.abs(ours).max())


def parts(model):
    """The npgrad mlps that lie end to end in a model's θ."""
    return [model.first, model.second] if isinstance(model, beside) else [model]


def sizes(model):
    """The lengths of the arrays in θ."""
    return [math.prod(shape) for part in parts(model) for shape in part.layout.shapes.values()]


def apart(lengths, ours, theirs):
    """The largest relative difference of the arrays of these lengths, end to end in both."""
    ends = np.cumsum(lengths)
    assert ours.shape == theirs.shape == (ends[-1],), "parameters left over"
    pairs = zip(np.split(ours, ends[:-1]), np.split(theirs, ends[:-1]))
    return float(np.max([relative(*pair) for pair in pairs]))  # of NaN and others: NaN


def parted(follow, *data):
    """What `follow` finds; inf if the twin does not even do the same things in the same order."""
    try:
        return follow(*data)
    except OutOfStep:
        return math.inf


class Spy:
    """`page`, a gradient function, compared with `twin` at every call: same θ, same data."""

    def __init__(self, page, twin):
        self.page, self.twin, self.worst = page, twin, 0.0

    def __call__(self, theta, *data):
        d = self.page(theta, *data)
        self.see(d, self.twin(theta, *data))
        return d

    def see(self, ours, theirs):
        self.worst = float(np.maximum(self.worst, relative(ours, theirs)))


class SpyOnSums(Spy):
    """The same for what adds up, from call to call, until `compare`."""

    sums = 0.0, 0.0

    def see(self, ours, theirs):
        self.sums = self.sums[0] + ours, self.sums[1] + theirs

    def compare(self):
        super().see(*self.sums)
        self.sums = 0.0, 0.0


class Probe:
    """loss(*modules) -> its gradient by autograd, at a flat θ in modules of the model's parts."""

    def __init__(self, model):
        self.modules = [modules(part) for part in parts(model)]
        self.parameters = [p for module in self.modules for p in module.parameters()]

    def __call__(self, theta, loss):
        first = 0
        for module in self.modules:
            last = first + sum(p.numel() for p in module.parameters())
            load(module, theta[first:last])
            first = last
        return pack(torch.autograd.grad(loss(*self.modules), self.parameters))


def modules(model, theta=None):
    """The torch module of one npgrad mlp, in double precision."""
    return network(model, np.zeros(model.layout.size) if theta is None else theta, torch.float64)


def tensor(x):
    return torch.from_numpy(np.ascontiguousarray(x))
