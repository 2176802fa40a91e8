"""A model along a rollout: forward row by row as the inputs come, backward over all rows at once.

    rows(model, θ, d_theta, steps, width=1, inputs=None)

θ and d_theta: its parameters and where their gradient goes, both flat
steps           rows t = 0 ... steps − 1, each of `width` inputs (width 1: one input, 1-D)
inputs          other rows whose inputs are also these' (they must be given them first)

    see(t, x)        takes the inputs of row t, no more
    forward(t, x)    y of row t: (m,), or (width, m); overwritten by the next rollout's row t
    forward_all(k)   y of the first k rows at once, (k · width, m), for inputs that are there
    outputs(k)       the same, as earlier forward calls left it
    backward(g, k)   Σ over the first k rows of (∂y/∂θ)ᵀ g, g (k · width, m), into d_theta
    seen(k)          the inputs of the first k rows, (k · width, n)

The numbers are those of the model and of its vjp. For an mlp the memory is set aside once, and what
the rows gave on the way forward is kept for the way back. Later changes of θ in place are seen, but
between forward and backward θ must stay.
"""

from functools import partial

import numpy as np

from npgrad.memory import aligned
from npgrad.models import ACTIVATIONS, mlp

UNPACKED = 10**6  # products n · m · k up to this OpenBLAS takes as they are
TURNED = 16  # rows from which it pays to copy W into the order of its transpose


def rows(model, theta, d_theta, steps, width=1, inputs=None):
    fast = isinstance(model, mlp) and not isinstance(inputs, AnyRows)
    kind = MlpRows if fast else AnyRows
    return kind(model, theta, d_theta, steps, width, inputs)


class AnyRows:
    """Of any model, by its vjp."""

    def __init__(self, model, theta, d_theta, steps, width, inputs):
        self.model, self.theta, self.d_theta = model, theta, d_theta
        self.width, self.n, self.inputs = width, steps * width, inputs
        self.x = self.y = None  # set aside at the first row, which tells their shapes

    def _put(self, a, t, row):
        if a is None:
            a = np.empty((self.n, np.shape(row)[-1]), self.theta.dtype)
        a[t * self.width : (t + 1) * self.width] = row
        return a

    def see(self, t, x):
        self.x = self._put(self.x, t, x)

    def forward(self, t, x):
        self.see(t, x)
        first = t * self.width
        x = self.x[first] if self.width == 1 else self.x[first : first + self.width]
        y = self.model(self.theta, x)
        self.y = self._put(self.y, t, y)
        return y

    def forward_all(self, k):
        return self.model(self.theta, self.seen(k))

    def outputs(self, k):
        return self.y[: k * self.width]

    def seen(self, k):
        return self.x[: k * self.width] if self.inputs is None else self.inputs.seen(k)

    def backward(self, g, k):
        _, pullback = self.model.vjp(self.theta, self.seen(k))
        return pullback(g, self.d_theta)[0]


class MlpRows:
    """Of an mlp.

    Many rows are taken in blocks small enough for BLAS to multiply without packing matrices first,
    and W is turned before a backward pass: a fifth to a third faster.
    """

    def __init__(self, model, theta, d_theta, steps, width, inputs):
        self.width, self.d_theta, self.spare = width, d_theta, np.empty_like(d_theta)
        f, self.slope = ACTIVATIONS[model.activation]
        self.f = f if isinstance(f, np.ufunc) else lambda z, a: np.copyto(a, f(z))
        self.tanh, self.one = f is np.tanh, np.ones((), theta.dtype)
        self.matrices, self.d_matrices = (model._matrices(x) for x in (theta, d_theta))
        self.spare_matrices = model._matrices(self.spare)
        n, empty = steps * width, partial(aligned, dtype=theta.dtype)
        self.x = [empty((n, len(W))) for W in self.matrices]
        for x in self.x:
            x[:, -1] = 1.0  # with b; without, forward overwrites it
        if inputs is not None:
            self.x[0] = inputs.x[0]
        self.h = [x[:, :size] for x, size in zip(self.x, model.sizes)]
        self.y = [empty((n, size)) for size in model.sizes[1:]]
        self.g, self.scratch = ([empty((n, size)) for size in model.sizes[1:-1]] for _ in range(2))
        self.upright = [W[:n].T for W, n in zip(self.matrices[1:], model.sizes[1:])]
        self.turned = [empty(W.shape) for W in self.upright]
        unpacked = UNPACKED // max(W.size for W in self.matrices)
        self.block = unpacked if unpacked >= 64 else n  # shorter blocks do not pay
        one = lambda t: t if width == 1 else slice(t * width, (t + 1) * width)
        self.row = [self._rise(one(t)) for t in range(steps)]
        self.past = {}

    def _rise(self, part):
        """What forward needs for one part of the rows: (inputs, steps of the layers, last step)."""
        layers = [
            (x[part].dot, W, y[part], a[part])
            for x, W, y, a in zip(self.x, self.matrices, self.y, self.h[1:])
        ]
        last = self.x[-1][part].dot, self.matrices[-1], self.y[-1][part]
        return self.h[0][part], layers, last

    def _fall(self, part, d):
        """What backward needs for one part of the rows: (part, last layer's step, steps of the
        layers below, from the top down); the gradient goes into the matrices d."""
        outer = [(x[part].T.dot, d_W) for x, d_W in zip(self.x, d)][::-1]
        W = self.turned if part.stop >= TURNED else self.upright
        below = zip(W, self.g, self.h[1:], self.scratch)
        layers = [(V, g[part], a[part], scratch[part]) for V, g, a, scratch in below]
        return part, outer[0], list(zip(layers[::-1], outer[1:]))

    def see(self, t, x):
        self.row[t][0][...] = x

    def forward(self, t, x):
        into, layers, (dot, W, y) = self.row[t]
        into[...] = x
        return self._run(layers, dot, W, y)

    def forward_all(self, k):
        for _, layers, (dot, W, y) in self._first(k)[0]:
            self._run(layers, dot, W, y)
        return self.outputs(k)

    def _run(self, layers, dot, W, y):
        f = self.f
        for dot_here, V, z, a in layers:
            dot_here(V, z)
            f(z, a)
        return dot(W, y)

    def outputs(self, k):
        return self.y[-1][: k * self.width]

    def seen(self, k):
        return self.h[0][: k * self.width]

    def _first(self, k):
        """Views of the first k rows, block by block, made once: (upward, downward)."""
        if k not in self.past:
            n = k * self.width
            blocks = -(-n // self.block)
            ends = [n * i // blocks for i in range(blocks + 1)]
            parts = [slice(*ends[i : i + 2]) for i in range(blocks)]
            into = [self.d_matrices] + [self.spare_matrices] * (blocks - 1)
            self.past[k] = [self._rise(p) for p in parts], list(map(self._fall, parts, into))
        return self.past[k]

    def backward(self, g, k):
        if len(g) >= TURNED:
            for turned, W in zip(self.turned, self.upright):
                np.copyto(turned, W)
        for i, (part, (dot, d), layers) in enumerate(self._first(k)[1]):
            here = g[part]
            dot(here, d)
            for (W, below, a, scratch), (dot, d) in layers:
                here.dot(W, below)
                if self.tanh:  # 1 − a², without new arrays
                    np.multiply(a, a, scratch)
                    np.subtract(self.one, scratch, scratch)
                    below *= scratch
                else:
                    below *= self.slope(a)
                here = below
                dot(here, d)
            if i > 0:
                self.d_theta += self.spare
        return self.d_theta
