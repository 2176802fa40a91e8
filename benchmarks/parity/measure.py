"""What is compared, and how far two vectors are apart.

outputs      `Displayed`: a displayed gradient of the page, at every call of a learning run, beside
             torch's autograd of the twin's loss at the same outputs of the networks and data.
gradient     `Beside`: what the page's optimiser is given at every update, which is a gradient in
             all parameters, beside what the twin's is given. The twin has learned from the same
             steps by its own forward passes, returns, TD errors, loss and autograd, and its
             parameters are set to the page's after every update.
parameters   `Beside`: all parameters after every update, of a twin that goes its own way.

A gradient's difference is relative to the largest entry of the whole vector: an entry that is a sum
of terms that cancel has no relative accuracy of its own. A parameter's is relative to the largest
entry of its own matrix or vector W1, b1, ...: what is small is not hidden by what is large.

Runs must not be chaotic, or rounding alone tears them apart. The actions are the record's, and a
policy is driven away from one whose advantage is negative, the faster the farther: with A3C's step
size of 1e-3 and Gaussian actions, a start moved by 1e-15 ends 1e-1 away after 1,000 updates, twin
beside twin. So REINFORCE, and continuous actions, have smaller steps. So has DDPG's critic with
batch normalisation: its weight decay shrinks a W1 whose scale the normalisation takes out, and
beside a smaller W1 the same steps are larger.
"""

import copy
import math
from functools import partial
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from algorithms.common.policy import Network
from benchmarks.parity.world import OutOfStep
from benchmarks.torch_twins.networks import load, pack
from npgrad import beside

GRADIENT, PARAMETERS = 1e-10, 1e-8  # limits on the differences
GAUSSIANS = {
    "Gaussian, exp": Network(),
    "Gaussian, softplus": Network(sigma="softplus"),
    "Gaussian, spherical": Network(spherical=True),
}
TOGETHER = {"b0": "gain0", "var1": "mean1"}  # see `lengths`


class Row(NamedTuple):
    """A line of the table; the differences are the largest over all updates."""

    method: str
    option: str
    optimizer: str
    outputs: float
    gradient: float
    parameters: float
    updates: int

    @property
    def holds(self):
        gradients = self.outputs <= GRADIENT and self.gradient <= GRADIENT
        return bool(gradients and self.parameters <= PARAMETERS)


class Update(NamedTuple):
    """An update of the page: the gradient that its optimiser was given, as of a loss, and all
    parameters after it."""

    d: np.ndarray
    theta: np.ndarray


class Record(NamedTuple):
    """A learning run of the page.

    config     with which it ran
    displayed  {argument of train: a Displayed}
    envs       its environments, which have recorded what they gave
    start      a State as it was at the beginning
    updates    [Update, ...]
    also       what else the twin needs to do the same
    """

    config: object
    displayed: dict
    envs: list
    start: object
    updates: list
    also: list


def recorded(page, env, config, displayed, updates, name, note):
    """Let the page learn for at least so many updates, and return the Record. The page calls its
    function `name` at each update; `note` makes an Update of the same arguments afterwards."""
    state, function = page.init(env, config, 0), getattr(page, name)
    record = Record(config, displayed, [env], copy.deepcopy(state), [], [])

    def noting(*data):
        function(*data)
        record.updates.append(note(*data))

    with patch.object(page, name, noting):
        learning = page.train(env, config, state, **displayed)
        while len(record.updates) < updates:
            next(learning)
    return record


def relative(ours, theirs):
    """Return max |ours − theirs| / max |ours|; 0 if both are 0, NaN if one is not finite."""
    difference = np.abs(ours - theirs).max(initial=0.0)
    return 0.0 if difference == 0.0 else float(difference / np.abs(ours).max())


def lengths(*models):
    """Return the lengths of the arrays in the models' θ, end to end.

    Where inputs and layer 1 are both normalised, layer 1 takes the inputs' b away again, so that
    its gradient, b itself and layer 1's mean are 0 but for rounding. They count as one array with
    what they stand beside: gain and variance.
    """
    found = []
    for model in models:
        parts = [model.first, model.second] if isinstance(model, beside) else [model]
        for part in parts:
            sums = {}
            for name, shape in part.layout.shapes.items():
                name = TOGETHER.get(name, name)
                sums[name] = sums.get(name, 0) + math.prod(shape)
            found += sums.values()
    return found


def apart(lengths, ours, theirs):
    """Return the largest relative difference of the arrays of these lengths, end to end in both."""
    ends = np.cumsum(lengths)
    assert ours.shape == theirs.shape == (ends[-1],), "parameters left over"
    pairs = zip(np.split(ours, ends[:-1]), np.split(theirs, ends[:-1]))
    return float(np.max([relative(*pair) for pair in pairs]))  # of NaN and others: NaN


def tensors(x):
    """Turn arrays into tensors, also within lists; leave anything else as it is."""
    if isinstance(x, list):
        return [tensors(one) for one in x]
    return torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x


def flattened(x):
    return [one for part in x for one in flattened(part)] if isinstance(x, (list, tuple)) else [x]


class Displayed:
    """`page`, a displayed gradient, compared at every call with the gradient of `objective`, by
    torch's autograd, in the arguments of these numbers."""

    def __init__(self, page, objective, outputs=(0,)):
        self.page, self.objective, self.outputs, self.worst = page, objective, outputs, 0.0

    def __call__(self, *data):
        ours = self.page(*data)
        arguments = tensors(list(data))
        leaves = flattened([arguments[k] for k in self.outputs])
        for leaf in leaves:
            leaf.requires_grad_()
        theirs = torch.autograd.grad(self.objective(*arguments), leaves)
        pairs = zip(flattened(ours), theirs, strict=True)
        self.worst = float(np.max([self.worst, *(relative(x, d.numpy()) for x, d in pairs)]))
        return ours


class Beside:
    """The page's updates, beside those of the optimisers of a twin that are watched. If it is led,
    the twin's parameters are set to the page's after each."""

    def __init__(self, updates, lengths, led):
        self.updates, self.lengths, self.led, self.done = updates, lengths, led, 0
        self.gradient = self.parameters = 0.0

    def watch(self, optimizer, parameters=None):
        """Compare at every step of this optimiser. parameters: all that θ holds, if those of the
        optimiser are not all."""
        parameters = optimizer.parameters if parameters is None else parameters
        optimizer.step = partial(self.step, optimizer, optimizer.step, parameters)

    def follow(self, optimizer, advance):
        """Let the twin advance through all updates, and return [self]."""
        self.watch(optimizer)
        while self.done < len(self.updates):
            advance()
        return [self]

    def step(self, optimizer, move, parameters, gradients):
        page, self.done = self.updates[self.done], self.done + 1
        theirs = np.zeros_like(page.d)
        decayed = pack(with_decay(optimizer, gradients))
        theirs[: decayed.size] = decayed  # running averages have no gradient
        self.gradient = float(np.maximum(self.gradient, relative(page.d, theirs)))
        move(gradients)
        self.compare(page.theta, parameters)

    def compare(self, theta, parameters):
        """Compare parameters of the twin with the page's, and set them to those if it is led."""
        difference = apart(self.lengths, theta, pack(parameters))
        self.parameters = float(np.maximum(self.parameters, difference))
        if self.led:
            load(parameters, theta)


def with_decay(optimizer, gradients):
    """Add l2 p to d, as torch's optimisers do inside."""
    decay = {id(p): g.get("weight_decay", 0) for g in optimizer.param_groups for p in g["params"]}
    pairs = zip(optimizer.parameters, gradients)
    return [d + decay[id(p)] * p.detach() if decay[id(p)] else d for p, d in pairs]


def parted(follow, Twin, record, led):
    """Return (gradient, parameters) of the twin; inf if it does not do the same in the same way."""
    try:
        found = follow(Twin, record, led)
        return np.max([(beside.gradient, beside.parameters) for beside in found], 0)
    except (OutOfStep, IndexError):  # or it asks for more than there is
        return math.inf, math.inf


def judge(module, method, case, updates):
    """Make the Row of a case of a module of this package."""
    option, config, continuous, Twin = case
    record = module.run(config, continuous, updates)
    outputs = float(np.max([displayed.worst for displayed in record.displayed.values()]))
    gradient, _ = parted(module.follow, Twin, record, True)
    _, parameters = parted(module.follow, Twin, record, False)
    optimizer, done = getattr(config, "optimizer", "adam"), len(record.updates)
    return Row(method, option, optimizer, outputs, float(gradient), float(parameters), done)


def check(module, config, Twin, continuous=False):
    """Return how far the twin's gradients are from the page's in 60 updates. Raises AssertionError
    unless the Row holds."""
    row = judge(module, Twin.__name__, ("", config, continuous, Twin), 60)
    assert row.holds, f"{Twin.__name__} differs from the page: {row}"
    return row.gradient


def actor(replay, Twin):
    """Make `draw` of a twin: it gives the record's action, a tensor if the twin is not lean."""
    return replay.action if Twin.lean else lambda _: torch.as_tensor(replay.action())
