"""What is compared, how far two vectors are apart, and how far rounding may put them apart.

outputs      `Displayed`: a displayed gradient of the page, at every call of a learning run, beside
             torch's autograd of the twin's loss at the same outputs of the networks and data.
gradient     what the page's optimiser is given at every update, which is a gradient in all
             parameters, beside what the twin's is given. The twin has learned from the same steps
             by its own forward passes, returns, TD errors, loss and autograd, and its parameters
             are set to the page's after every update.
parameters   all parameters after every update, of a twin that goes its own way.

A gradient's difference is relative to the largest entry of its network's: an entry that is a sum of
terms that cancel has no relative accuracy of its own. A parameter's is relative to the largest
entry of its own matrix or vector W1, b1, ...: what is small is not hidden by what is large.

The limits are n ε times a condition that is measured, as the largest difference that moving numbers
by about ε makes: the response. n is the number of roundings on the way, at most: the sum of the
networks' widths, forward and back, and of STEPS, of the page and of the twin (Higham, Accuracy and
Stability, 2002, §3.1, from memory). What is displayed, and the twin's, is moved by the errors that
it has in single precision, at data moved by that ε, times the ratio of both ε: in 1 − π, where π is
near 1, they are large. A second run of the page has the first one's parameters after every update,
each entry moved by ± ε at random, and gradients so moved; a third goes its own way, its own
parameters so moved. A limit is n times the response, or n ε if that is more. A TD error that is a
small difference of large values, and a run that tears apart what was close, have larger responses;
a run whose limit is above TELLS tells nothing, and does not hold.

So runs must not be chaotic. The actions are the record's, and a policy is driven away from one
whose advantage is negative, the faster the farther: with A3C's step size of 1e-3 and Gaussian
actions, a start moved by 1e-15 ends 1e-1 away after 1,000 updates, twin beside twin. So REINFORCE,
and continuous actions, have smaller steps. So has DDPG's critic with batch normalisation: its
weight decay shrinks a W1 whose scale the normalisation takes out, and beside a smaller W1 the same
steps are larger. Natural actor–critic fits 97 parameters of v̂ to some 50 returns by a whole
Gauss–Newton step: with the settings that are shipped, a run moved by ε at every update is 5e-2 away
after 20. So it has γ = .5 and λ^w = 1; with a linear v̂ it has the shipped ones, too. A linear π has
small steps: near a deterministic one F̂ is almost 0 and ω large. Undamped, Gaussian actions have no
row: some updates' F̂ is almost singular.
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np

from algorithms import ddpg
from benchmarks.parity.cases import Case
from benchmarks.parity.displayed import EPS, displayed, nudged, relative
from benchmarks.parity.follow import Follower
from benchmarks.parity.runs import Page, lasting, page_of
from benchmarks.parity.world import OutOfStep, System
from benchmarks.torch_twins.networks import load, models, pack

TELLS = 1e-6
STEPS = 100  # that a gradient sums over: more than almost any episode or minibatch here has
KINDS = "outputs", "gradient", "parameters"
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
    limits: tuple[float, float, float]

    @property
    def holds(self):
        pairs = zip((self.outputs, self.gradient, self.parameters), self.limits)
        return all(x <= limit <= TELLS for x, limit in pairs)


def lengths(models):
    """Return the lengths of the arrays in the models' θ, end to end.

    Where inputs and layer 1 are both normalised, layer 1 takes the inputs' b away again, so that
    its gradient, b itself and layer 1's mean are 0 but for rounding. They count as one array with
    what they stand beside: gain and variance.
    """
    found = []
    for model in models:
        sums = {}
        for name, shape in model.layout.shapes.items():
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


class Beside:
    """The leader's updates beside those of another run, which tells of each by `see`."""

    def __init__(self, nets):
        self.ahead, self.lengths = deque(), lengths(nets)
        self.networks = [model.layout.size for model in nets]
        self.gradient = self.parameters = 0.0

    def see(self, d, theta):
        """Compare an update; return the leader's parameters after it."""
        ours = self.ahead.popleft()
        worst = lambda known, x: float(np.maximum(known, x))
        self.gradient = worst(self.gradient, apart(self.networks, ours.d, d))
        self.parameters = worst(self.parameters, apart(self.lengths, ours.theta, theta))
        return ours.theta


def twin_beside(Twin, run, nets, led):
    """(Beside, what lets a twin follow an advance). Led: it gets the page's parameters."""
    beside = Beside(nets)

    def seen(d, holders):
        theta = beside.see(d, pack(holders))
        if led:
            load(holders, theta)

    return beside, Follower(Twin, run, seen).follow


def moved_beside(leader, continuous, nets, led):
    """The same of the page itself, its parameters moved by ± ε after every update."""
    beside, rng = Beside(nets), np.random.default_rng(0)

    def seen(update, state):
        theta = beside.see(*update)
        first = 0
        for name in (name for name in state.parameters if name != "seen"):
            x = getattr(state, name)
            x[:] = nudged(theta[first : first + x.size] if led else x, rng)
            first += x.size

    gradients = {name: pair.rounded for name, pair in leader.gradients.items()}
    run = Page(leader.config, continuous, gradients, seen)
    return beside, lambda advance: run.advance()


def judge(case, updates):
    """Make the Row of a case, of at least so many updates."""
    config, continuous = lasting(case.config, updates), case.continuous
    pairs = displayed(config, System(continuous).action_space)
    run = Page(config, continuous, pairs)
    nets = models(page_of(config), run.envs[0], config)
    twins = [twin_beside(case.Twin, run, nets, led) for led in (True, False)]
    moved = [moved_beside(run, continuous, nets, led) for led in (True, False)]
    done, parted = 0, set()
    while done < updates:
        advance = run.advance()
        done += len(advance.updates)
        for beside, follow in (*twins, *moved):
            if beside not in parted:
                beside.ahead.extend(advance.updates)
                try:
                    follow(advance)
                except (OutOfStep, IndexError):  # it does something else, or asks for more
                    beside.gradient = beside.parameters = math.inf
                    parted.add(beside)
    outputs, at_moved = ([getattr(pair, name) for pair in pairs.values()]
                         for name in ("worst", "response"))  # fmt: skip
    (led, _), (free, _) = twins
    responses = max(at_moved), moved[0][0].gradient, moved[1][0].parameters
    n = 4 * sum(sum(net.sizes) for net in nets) + 2 * STEPS
    optimizer = getattr(config, "optimizer", "adam" if run.page is ddpg else "least squares")
    return Row(case.method, case.option, optimizer, float(np.max(outputs)), led.gradient,
               free.parameters, done, tuple(n * max(EPS, x) for x in responses))  # fmt: skip


def check(config, Twin, continuous=False):
    """Return how far the twin's gradients are from the page's in 60 updates. Raises AssertionError
    unless the Row holds."""
    row = judge(Case(Twin.__name__, "", config, Twin, continuous), 60)
    assert row.holds, f"{Twin.__name__} differs from the page: {row}"
    return row.gradient
