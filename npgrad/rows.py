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

import numpy as np

from npgrad.models import ACTIVATIONS, mlp


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
    """Of an mlp."""

    def __init__(self, model, theta, d_theta, steps, width, inputs):
        self.width, self.d_theta = width, d_theta
        f, self.slope = ACTIVATIONS[model.activation]
        self.f = f if isinstance(f, np.ufunc) else lambda z, a: np.copyto(a, f(z))
        self.tanh = f is np.tanh
        self.matrices, self.d_matrices = model._matrices(theta), model._matrices(d_theta)
        n, dtype = steps * width, theta.dtype
        self.x = [np.ones((n, len(W)), dtype) for W in self.matrices]  # with b, the last stays 1
        if inputs is not None:
            self.x[0] = inputs.x[0]
        self.h = [x[:, :size] for x, size in zip(self.x, model.sizes)]
        self.y = [np.empty((n, size), dtype) for size in model.sizes[1:]]
        self.g = [np.empty((n, size), dtype) for size in model.sizes[1:]]
        self.scratch = [np.empty((n, size), dtype) for size in model.sizes[1:-1]]
        one = lambda a, t: a[t] if width == 1 else a[t * width : (t + 1) * width]
        self.row = [self._rise(one, t) for t in range(steps)]
        self.past = {}

    def _rise(self, part, t):
        """What forward needs for one part of the rows: (inputs, steps of the layers, outputs)."""
        layers = [
            (part(x, t).dot, W, part(y, t), part(a, t))
            for x, W, y, a in zip(self.x, self.matrices, self.y, self.h[1:])
        ]
        last = part(self.x[-1], t).dot, self.matrices[-1], part(self.y[-1], t)
        return part(self.h[0], t), layers, last

    def see(self, t, x):
        self.row[t][0][...] = x

    def forward(self, t, x):
        into, layers, (dot, W, y) = self.row[t]
        into[...] = x
        return self._run(layers, dot, W, y)

    def forward_all(self, k):
        _, layers, (dot, W, y) = self._first(k)[0]
        return self._run(layers, dot, W, y)

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
        """Views of the first k rows, made once."""
        if k not in self.past:
            n = k * self.width
            first = lambda a, _: a[:n]
            fall = []
            for i in range(len(self.matrices) - 1, 0, -1):
                back = self.matrices[i][: self.h[i].shape[1]].T
                fall.append((back, self.g[i - 1][:n], self.h[i][:n], self.scratch[i - 1][:n]))
            outer = [x[:n].T.dot for x in self.x][::-1]
            self.past[k] = self._rise(first, 0), fall, outer
        return self.past[k]

    def backward(self, g, k):
        _, fall, outer = self._first(k)
        d = self.d_matrices
        for i, dot in enumerate(outer):
            dot(g, d[-1 - i])
            if i < len(fall):
                W, below, a, scratch = fall[i]
                g = g.dot(W, below)
                if self.tanh:  # 1 − a², without new arrays
                    np.multiply(a, a, scratch)
                    np.subtract(1.0, scratch, scratch)
                    below *= scratch
                else:
                    below *= self.slope(a)
        return self.d_theta
