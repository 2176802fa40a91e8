"""value_and_grad of a 4-64-64-2 tanh network by the tape and compiled, beside torch, HIPS autograd
and by hand, with and without memory set aside (out=); and the network alone, forward and backward.

The cross-entropy of B observations, mean over the batch, in plain NumPy, written twice: with one
argument per parameter, and with one flat θ cut into them. HIPS autograd runs the same source with
its own numpy. All compute in float64 and must agree in value and gradient to 1e-12.
"""

from functools import partial

import autograd
import autograd.numpy
import numpy as np

from benchmarks.speed.race import Race, agree, rounds_of
from benchmarks.speed.turns import repeat
from benchmarks.torch_twins import mlp as twins
from npgrad import Softmax, at, compiled, mlp, value_and_grad

ROUNDS = 100
SIZES = (4, 64, 64, 2)
BATCHES = (1, 40, 256)
BUILT = 1, 256  # also by torch.compile, where it builds


def programs(np, parts):
    """(f of one array per parameter, f of a flat θ), in this numpy."""

    def arrays(W1, b1, W2, b2, W3, b3, x, a):
        h = np.tanh(x @ W1 + b1)
        h = np.tanh(h @ W2 + b2)
        h = h @ W3 + b3
        log_pi = h - np.log(np.sum(np.exp(h), axis=1, keepdims=True))
        return -np.mean(log_pi[np.arange(len(a)), a])

    def flat(theta, x, a):
        return arrays(*[theta[part].reshape(shape) for part, shape in parts], x, a)

    return arrays, flat


def by_hand(model, theta, x, a):
    """The cross-entropy and its gradient by the network's and the distribution's formulas."""
    net = at(model, theta)

    def value_and_grad():
        pi = Softmax(net.forward(x))
        return -np.mean(pi.log_prob(a)), net.backward(pi.score(a) / -len(a))

    return value_and_grad


def set_aside(model, theta, x, a):
    """The same as straight-line NumPy that writes into memory of its own, as fast as we can."""
    W1, b1, W2, b2, W3, b3 = model.layout.views(theta)
    d = np.empty_like(theta)
    d_W1, d_b1, d_W2, d_b2, d_W3, d_b3 = model.layout.views(d)
    rows = np.arange(len(a))
    h1, h2, g1, g2, s1, s2 = (np.empty((len(x), 64)) for _ in range(6))
    h, e = np.empty((2, len(x), 2))

    def layer(x, W, b, y):
        np.add(np.matmul(x, W, y), b, y)

    def back(g, x, d_W, d_b):
        np.matmul(x.T, g, d_W)
        np.add.reduce(g, 0, None, d_b)

    def through_tanh(y, slope, g):
        np.subtract(1.0, np.multiply(y, y, slope), slope)
        np.multiply(g, slope, g)

    def value_and_grad():
        layer(x, W1, b1, h1)
        layer(np.tanh(h1, h1), W2, b2, h2)
        layer(np.tanh(h2, h2), W3, b3, h)
        total = np.add.reduce(np.exp(h, e), 1, keepdims=True)
        value = np.add.reduce(np.log(total[:, 0]) - h[rows, a]) / len(a)
        g = np.divide(e, total, e)
        g[rows, a] -= 1.0
        g /= len(a)
        back(g, h2, d_W3, d_b3)
        through_tanh(h2, s2, np.matmul(g, W3.T, g2))
        back(g2, h1, d_W2, d_b2)
        through_tanh(h1, s1, np.matmul(g2, W2.T, g1))
        back(g1, x, d_W1, d_b1)
        return value, d

    return value_and_grad


def contestants(batch):
    """{name: () -> (value, gradients)}; "forward" gives the value only."""
    rng = np.random.default_rng(batch)
    model = mlp(SIZES)
    theta = model.init(rng)
    parameters = [p.copy() for p in model.layout.views(theta)]
    x, a = rng.normal(size=(batch, SIZES[0])), rng.integers(SIZES[-1], size=batch)
    ends = np.cumsum([p.size for p in parameters]).tolist()
    parts = [(slice(end - p.size, end), p.shape) for end, p in zip(ends, parameters)]
    arrays, flat = programs(np, parts)
    hips_arrays, hips_flat = programs(autograd.numpy, parts)
    each = tuple(range(len(parameters)))
    built = twins.compiled(parameters, x, a) if batch in BUILT else None
    return {
        "forward": partial(arrays, *parameters, x, a),
        "forward, flat θ": partial(flat, theta, x, a),
        "tape": partial(value_and_grad(arrays, each), *parameters, x, a),
        "tape, flat θ": partial(value_and_grad(flat), theta, x, a),
        "compiled": partial(compiled(value_and_grad(arrays, each)), *parameters, x, a),
        "compiled, flat θ": partial(compiled(value_and_grad(flat)), theta, x, a),
        "by hand": by_hand(model, theta, x, a),
        "by hand, out=": set_aside(model, theta, x, a),
        "torch lean": twins.lean(parameters, x, a),
        "torch usual": twins.usual(model, theta, x, a),
        **({} if built is None else {"torch compiled": built}),
        "HIPS": partial(autograd.value_and_grad(hips_arrays, each), *parameters, x, a),
        "HIPS, flat θ": partial(autograd.value_and_grad(hips_flat), theta, x, a),
    }


def passes():
    """{name: () -> gradients of Σ g h}: the network alone, forward and backward, for one input."""
    rng = np.random.default_rng(0)
    model = mlp(SIZES)
    theta = model.init(rng)
    x, g = rng.normal(size=(1, SIZES[0])), rng.normal(size=(1, SIZES[-1]))
    net = at(model, theta)

    def by_hand():
        net.forward(x[0])
        return net.backward(g[0])

    return {
        "by hand": by_hand,
        "torch lean": twins.lean_network([p.copy() for p in model.layout.views(theta)], x, g),
    }


def flattened(name, gradients):
    """Any contestant's gradients as one vector, in θ's order."""
    if name == "torch usual":  # its weights are transposed
        gradients = [d.t() if d.ndim == 2 else d for d in gradients]
    pieces = gradients if isinstance(gradients, (tuple, list)) else [gradients]
    return np.concatenate([np.ravel(d) for d in pieces])


def check(calls):
    """{name: largest difference of its value or gradient from the tape's}."""
    value, gradients = calls["tape"]()
    d, differences = flattened("tape", gradients), {}
    for name, call in calls.items():
        got, *rest = call() if not name.startswith("forward") else (call(),)
        got = got.detach() if "torch" in name else got
        pairs = [(value, np.asarray(got))] + [(d, flattened(name, x)) for x in rest]
        differences[name] = agree(name, pairs, 1e-12)
    return differences


def races(quick):
    for batch in BATCHES:
        calls = contestants(batch)
        setting = f"tape, value_and_grad of 4-64-64-2, {batch} input{'s' * (batch > 1)}"
        ours = "compiled", "compiled, flat θ", "tape", "tape, flat θ", "by hand"
        yield race(setting, calls, check(calls), ours)
    calls = passes()
    d = calls["by hand"]().copy()
    differences = {
        name: agree(name, [(d, flattened(name, call()))], 1e-12) for name, call in calls.items()
    }
    yield race("by hand, the network alone, 1 input", calls, differences, ("by hand",))


def race(setting, calls, differences, ours):
    turns = {name: repeat(call, 20) for name, call in calls.items()}
    return Race(setting, partial(rounds_of, turns), ours, "call", differences)
