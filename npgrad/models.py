"""Models: pure functions of (θ, x), with hand-written backward passes.

A model has
    layout             the names in its flat θ
    model(θ, x)        the output y (..., m) of inputs x (..., n), plain NumPy: the tape and the
                       complex step go through it
    model.vjp(θ, x)    (y, pullback), pullback(g) = ((∂y/∂θ)ᵀ g, (∂y/∂x)ᵀ g): SUMMED over the batch
                       for θ, one row per input for x; what npgrad.vjp(model, θ, x) gives, by hand.
                       pullback(g, out=d) writes the gradient of θ into d
    model.bind(θ)      x -> model(θ, x), faster for plain arrays: θ's views are looked up once, and
                       its later changes in place are seen; for acting step by step
    model.online(θ, d) (forward, backward) for one input x (n,) at a time, in memory set aside once:
                       forward(x) -> y (m,), overwritten by the next; backward(g) writes (∂y/∂θ)ᵀ g
                       at the latest x into d and returns d. Later changes of θ in place are seen,
                       but between forward and backward θ must stay
    model.init(rng)    a start θ
`from_function` makes a model of any NumPy function, differentiated by the tape.
"""

from functools import partial
from types import MappingProxyType

import numpy as np

from npgrad.autodiff import vjp as tape_vjp
from npgrad.parameters import Layout


def softplus(x):
    """ln(1 + eˣ), without overflow, analytic on both sides of 0."""
    positive = x > 0
    return np.where(positive, x, 0.0) + np.log1p(np.exp(np.where(positive, -x, x)))


def _elu(x):
    return np.where(x > 0, x, np.expm1(np.where(x > 0, 0.0, x)))


# name: (f, f' in terms of y = f(x))
ACTIVATIONS = MappingProxyType(
    {
        "tanh": (np.tanh, lambda y: 1.0 - y * y),
        "relu": (lambda x: np.maximum(x, 0.0), lambda y: y > 0),
        "softplus": (softplus, lambda y: -np.expm1(-y)),
        "elu": (_elu, lambda y: np.minimum(y, 0.0) + 1.0),
        "identity": (lambda x: x, lambda y: 1.0),
    }
)


def _slopes(activation, y, out):
    """A function that writes f'(x) into out wherever y = f(x); tanh's without temporaries."""
    if activation != "tanh":
        _, slope = ACTIVATIONS[activation]
        return lambda: np.copyto(out, slope(y))
    one = np.ones((), y.dtype)

    def put():
        np.multiply(y, y, out)
        np.subtract(one, out, out)

    return put


class mlp:
    """h⁰ = x;  hˡ = f(hˡ⁻¹ Wˡ + bˡ);  y = hᴸ⁻¹ Wᴸ + bᴸ.

    sizes        (n, hidden ..., m)
    activation   f: tanh, relu, softplus, elu or identity
    bias         False leaves every b out
    last_scale   factor on the last layer's start values

    Start: W and b of a layer uniform in ±1/√fan_in.
    """

    def __init__(self, sizes, activation="tanh", *, bias=True, last_scale=1.0):
        self.sizes = tuple(int(n) for n in sizes)
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"sizes = {sizes}: must be two or more positive integers")
        if activation not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation = {activation!r}: must be one of {allowed}")
        self.activation, self.bias, self.last_scale = activation, bias, last_scale
        shapes = {}
        for k, (n, m) in enumerate(zip(self.sizes, self.sizes[1:]), 1):
            shapes[f"W{k}"] = (n, m)
            if bias:
                shapes[f"b{k}"] = (m,)
        self.layout = Layout(**shapes)

    def _layers(self, theta):
        """[(W1, b1), ...], b 0 if there is none."""
        views = self.layout.views(theta)
        return list(zip(views[::2], views[1::2])) if self.bias else [(W, 0.0) for W in views]

    def init(self, rng):
        theta = np.empty(self.layout.size)
        for name, view in self.layout.views(theta)._asdict().items():
            fan_in = self.sizes[int(name[1:]) - 1]
            view[...] = rng.uniform(-1.0, 1.0, view.shape) / np.sqrt(fan_in)
            if int(name[1:]) == len(self.sizes) - 1:
                view *= self.last_scale
        return theta

    def __call__(self, theta, x):
        f, _ = ACTIVATIONS[self.activation]
        *hidden, (W, b) = self._layers(theta)
        for V, c in hidden:
            x = f(np.dot(x, V) + c)
        return np.dot(x, W) + b

    def bind(self, theta):
        f, _ = ACTIVATIONS[self.activation]
        *hidden, (W, b) = self._layers(theta)

        def forward(x):
            for V, c in hidden:
                x = x.dot(V)
                x += c
                x = f(x)
            y = x.dot(W)
            y += b
            return y

        return forward

    def _matrices(self, theta):
        """Each layer's W with b as its last row, as they lie in θ: (n + 1, m), or W if no b."""
        pieces, start = [], 0
        for n, m in zip(self.sizes, self.sizes[1:]):
            rows = n + int(self.bias)
            pieces.append(theta[start : start + rows * m].reshape(rows, m))
            start += rows * m
        return pieces

    def online(self, theta, d_theta):
        f, _ = ACTIVATIONS[self.activation]
        into = f if isinstance(f, np.ufunc) else lambda z, out: np.copyto(out, f(z))
        matrices, empty = self._matrices(theta), partial(np.empty, dtype=theta.dtype)
        ends = np.cumsum([len(W) for W in matrices])
        x = np.ones(ends[-1], theta.dtype)  # all layers' inputs; with b, the last of each stays 1
        slopes = empty(ends[-1])  # f' of all hidden layers, in one go
        put_slopes = _slopes(self.activation, x[ends[0] :], slopes[ends[0] :])
        inputs = np.split(x, ends[:-1])
        h = [x[:n] for x, n in zip(inputs, self.sizes)]
        dh = [s[:n] for s, n in zip(np.split(slopes, ends[:-1]), self.sizes)]
        y = [empty(m) for m in self.sizes[1:]]
        g = [empty(m) for m in self.sizes[1:]]
        last = matrices[-1], y[-1]
        rise = [(x.dot, W, z, a) for x, W, z, a in zip(inputs, matrices, y, h[1:])]
        fall = [(matrices[k][: len(h[k])].dot, g[k], g[k - 1], dh[k]) for k in range(1, len(h))]
        fall.reverse()
        pieces = self._matrices(d_theta)
        outer = [(x[:, None].dot, g_y[None], d) for x, g_y, d in zip(inputs, g, pieces)]
        x_first, x_last, g_last = h[0], inputs[-1].dot, g[-1]

        def forward(x):
            x_first[:] = x
            for dot, W, z, a in rise:
                dot(W, z)
                into(z, a)
            return x_last(*last)

        def backward(g_y):
            g_last[:] = g_y
            if fall:
                put_slopes()
            for dot, g_y, g_h, slope in fall:
                dot(g_y, g_h)
                g_h *= slope
            for dot, row, d in outer:
                dot(row, d)
            return d_theta

        return forward, backward

    def vjp(self, theta, x):
        f, slope = ACTIVATIONS[self.activation]
        layers = self._layers(theta)
        inputs = [x.reshape(-1, self.sizes[0])]
        for W, b in layers[:-1]:
            h = inputs[-1].dot(W)
            h += b
            inputs.append(f(h))
        W, b = layers[-1]
        y = inputs[-1].dot(W)
        y += b

        def pullback(g, out=None):
            d_theta = np.empty_like(theta) if out is None else out
            g = g.reshape(y.shape)
            pieces = self._layers(d_theta)
            for (W, _), (d_W, d_b), h in zip(layers[::-1], pieces[::-1], inputs[::-1]):
                np.dot(h.T, g, d_W)
                if self.bias:
                    np.add.reduce(g, 0, None, d_b)
                g = g.dot(W.T)
                if h is not inputs[0]:
                    g *= slope(h)
            return d_theta, g.reshape(x.shape)

        return y.reshape(*x.shape[:-1], self.sizes[-1]), pullback


def _online(model, theta, d_theta):
    """`online` for any model, by its vjp."""
    y = pullback = None

    def forward(x):
        nonlocal y, pullback
        y, pullback = model.vjp(theta, x)
        return y

    return forward, lambda g: pullback(np.reshape(g, y.shape), d_theta)[0]


def linear(n, m, *, bias=True):
    """y = x W + b, starting at zero as Sutton & Barto's linear methods do."""
    return mlp((n, m), "identity", bias=bias, last_scale=0.0)


class linear_preferences:
    """h_a = θᵀ x(s, a): features x (..., A, d) -> preferences (..., A); the linear softmax of
    Sutton & Barto (13.3), whose score is x(s,a) − Σ_b π(b|s) x(s,b) (13.9). Starts at zero."""

    def __init__(self, d):
        self.layout = Layout(theta=(d,))

    def init(self, rng):
        return np.zeros(self.layout.size)

    def __call__(self, theta, x):
        return np.dot(x, theta)

    def bind(self, theta):
        return lambda x: x.dot(theta)

    online = _online

    def vjp(self, theta, x):
        def pullback(g, out=None):
            d_theta = np.empty_like(theta) if out is None else out
            np.dot(g.reshape(-1), x.reshape(-1, theta.size), d_theta)
            return d_theta, g[..., None] * theta

        return np.dot(x, theta), pullback


class beside:
    """y = (y₁, y₂), θ = (θ₁, θ₂): two models of the same input, with nothing shared."""

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.layout = Layout(first=(first.layout.size,), second=(second.layout.size,))

    def init(self, rng):
        return np.concatenate([self.first.init(rng), self.second.init(rng)])

    def __call__(self, theta, x):
        one, two = self.layout.views(theta)
        return np.concatenate([self.first(one, x), self.second(two, x)], axis=-1)

    def bind(self, theta):
        return partial(self, theta)

    online = _online

    def vjp(self, theta, x):
        one, two = self.layout.views(theta)
        y1, pullback1 = self.first.vjp(one, x)
        y2, pullback2 = self.second.vjp(two, x)
        m = y1.shape[-1]

        def pullback(g, out=None):
            d_theta = np.empty_like(theta) if out is None else out
            d_one, d_two = self.layout.views(d_theta)
            _, d_x = pullback1(g[..., :m], d_one)
            return d_theta, d_x + pullback2(g[..., m:], d_two)[1]

        return np.concatenate([y1, y2], axis=-1), pullback


class from_function:
    """The model of a function f(θ, x) written in plain NumPy; its vjp is the tape's.

    layout   a Layout, or the length of θ
    init     rng -> start θ; default zeros
    """

    def __init__(self, f, layout, init=None):
        self.f = f
        self.layout = layout if isinstance(layout, Layout) else Layout(theta=(layout,))
        self.init = init or (lambda rng: np.zeros(self.layout.size))

    def __call__(self, theta, x):
        return self.f(theta, x)

    def bind(self, theta):
        return partial(self.f, theta)

    online = _online

    def vjp(self, theta, x):
        y, tape_pullback = tape_vjp(self.f, theta, x)

        def pullback(g, out=None):
            d_theta, d_x = tape_pullback(g)
            if out is None:
                return d_theta, d_x
            out[:] = d_theta
            return out, d_x

        return y, pullback
