"""Networks: pure functions of (θ, x), and the same at their parameters, with a backward pass.

A model is a definition:

    model.layout          the names in its flat θ
    model.init(rng)       a start θ
    model.axes            the axes of one input x: 1 for a vector
    model(θ, x)           the output y of input x, in plain NumPy: the tape and the complex step go
                          through it

At parameters θ it is a network that remembers its inputs, in memory that is set aside once:

    net = at(model, θ)
    net.outputs(k)         what the first k rows gave (k, m)
    net.forward(x, row=0)  y of one input x (n,), or of inputs x (k, n), which from now on are row
                           `row`, or rows row, ..., row + k − 1
    net.backward(g)        d_theta = Σ_i (∂y_i/∂θ)ᵀ g_i, summed over rows 0, ..., k − 1 of g (k, m);
                           or (∂y_0/∂θ)ᵀ g of one g (m,)

Later changes of θ in place are seen; between `forward` and `backward` θ must not change. What
`forward` returns is overwritten when the same rows are written again, and d_theta by the next
`backward`. The memory grows with the rows. Arrays of other shapes raise ValueError.

`mlp`, `linear` and `linear_preferences` have backward passes by hand. A model of your own has one
if its attribute `network` is a class like `Mlp`. `from_function` makes a model of any NumPy
function, whose backward pass is the tape's.
"""

from types import MappingProxyType

import numpy as np

from npgrad.autodiff import vjp
from npgrad.memory import aligned
from npgrad.parameters import Layout

EPSILON = 1e-5  # of batch normalisation (Ioffe & Szegedy 2015 leave it open; frameworks' value)
MOST_VIEWS = 1000  # sets of views that a network keeps


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


def at(model, theta, d_theta=None):
    """The network of `model` at the flat array θ; its gradients go into d_theta, if there is one.
    Only `track` writes into θ."""
    d_theta = np.empty_like(theta) if d_theta is None else d_theta
    return getattr(model, "network", AnyNetwork)(model, theta, d_theta)


class mlp:
    """A multilayer perceptron, which a second input u may join, with or without normalisation.

        x⁰ = n⁰(x) + b⁰, or x without normalisation
        xᵏ = f(nᵏ(xᵏ⁻¹ Wᵏ) + bᵏ), k = 1, ..., L − 1; at one layer [xᵏ⁻¹, u] Wᵏ
        y = g(x^{L−1} W^L + b^L)
        nᵏ(z) = gainᵏ (z − mean) / √(var + 1e-5), or z without normalisation

    sizes        (n, hidden ..., m)
    activation   f: tanh, relu, softplus, elu or identity
    output       g: identity or tanh
    bias         False: no b, except in normalised layers
    one_hot      integers x are taken for one-hot vectors: x W is row x of W
    second       d, the length of u; 0: there is none
    at           the layer that u enters: 1 the first hidden one, L the output
    batch_norm   normalise x, unless it is one-hot, and the hidden layers, those before u if there
                 is a u (DDPG §3)
    last         bound of the last layer's start values, default 1/√fan_in

    (mean, var) are those of the rows with minibatch=True, and derivatives go through them; else
    they are running averages, which are entries of θ that every gradient leaves alone.

    Start: W and b of a layer are uniform in ±1/√fan_in, u counted. A normalised layer has gain 1
    and b 0.
    """

    def __init__(self, sizes, activation="tanh", *, output="identity", bias=True, one_hot=False,
                 second=0, at=1, batch_norm=False, last=None):  # fmt: skip
        self.sizes = tuple(int(n) for n in sizes)
        self.depth = len(self.sizes) - 1
        if self.depth < 1 or min(self.sizes) < 1:
            raise ValueError(f"sizes = {sizes}: must be two or more positive integers")
        if activation not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation = {activation!r}: must be one of {allowed}")
        if output not in ("identity", "tanh"):
            raise ValueError(f"output = {output!r}: must be one of identity, tanh")
        if not 1 <= at <= self.depth:
            raise ValueError(f"at = {at}: must be a layer from 1 to {self.depth}")
        if one_hot and second and at == 1:
            raise ValueError("at = 1: must be 2 or more where x is one-hot")
        if second < 0:
            raise ValueError(f"second = {second}: must be at least 0")
        self.activation, self.output, self.one_hot, self.last = activation, output, one_hot, last
        self.axes = 0 if one_hot else 1  # of one input
        self.second, self.at = second, at
        first = 1 if one_hot else 0
        self.normed = range(first, at if second else self.depth) if batch_norm else range(0)
        shapes = {}
        for k in range(1, self.depth + 1):
            shapes[f"W{k}"] = (self.fan_in(k), self.sizes[k])
            if bias and k not in self.normed:
                shapes[f"b{k}"] = (self.sizes[k],)
        for names in (("gain", "b"), ("mean", "var")):  # the averages come last
            shapes |= {f"{name}{k}": (self.sizes[k],) for k in self.normed for name in names}
        self.layout = Layout(**shapes)

    def fan_in(self, k):
        return self.sizes[k - 1] + (self.second if k == self.at else 0)

    def layers(self, theta):
        """[(W, b, gain, mean, var) of k = 0, ..., L] as views, None for what a layer lacks."""
        views, names = self.layout.views(theta), ("W", "b", "gain", "mean", "var")
        return [[getattr(views, f"{name}{k}", None) for name in names]
                for k in range(len(self.sizes))]  # fmt: skip

    def weights(self, theta):
        """The matrices W¹, ..., W^L as views of θ: what weight decay pulls at."""
        return [W for W, *_ in self.layers(theta)[1:]]

    def init(self, rng):
        theta = np.empty(self.layout.size)
        for k, (W, b, gain, mean, var) in enumerate(self.layers(theta)):
            if W is not None:
                bound = 1.0 / np.sqrt(self.fan_in(k))
                bound = self.last if k == self.depth and self.last is not None else bound
                W[:] = rng.uniform(-bound, bound, W.shape)
            if gain is not None:
                gain[:], b[:], mean[:], var[:] = 1.0, 0.0, 0.0, 1.0
            elif b is not None:
                b[:] = rng.uniform(-bound, bound, b.shape)
        return theta

    def __call__(self, theta, x, u=None, minibatch=False):
        """y (..., m) of x (..., n), or (...) if one-hot, and u (..., d); with minibatch (N, m)."""
        f, _ = ACTIVATIONS[self.activation]
        for k, (W, b, gain, mean, var) in enumerate(self.layers(theta)):
            if k == self.at and self.second:
                x = np.concatenate([x, u], -1)
            if W is not None:
                x = W[x] if k == 1 and self._indices(x) else np.dot(x, W)
            if gain is not None:
                if minibatch:
                    mean = np.mean(x, 0)
                    var = np.mean((x - mean) ** 2, 0)
                x = gain * (x - mean) / np.sqrt(var + EPSILON)
            if b is not None:
                x = x + b
            if 0 < k < self.depth:
                x = f(x)
        return np.tanh(x) if self.output == "tanh" else x

    def _indices(self, x):
        return self.one_hot and np.asarray(x).dtype.kind in "iu"


def linear(n, m, *, bias=True, one_hot=False):
    """y = x W + b, starting at zero as Sutton & Barto's linear methods do."""
    return mlp((n, m), "identity", bias=bias, one_hot=one_hot, last=0.0)


class linear_preferences:
    """h_a = θᵀ x(s, a): features x (..., A, d) -> preferences (..., A). The linear softmax of
    Sutton & Barto (13.3), whose score is x(s,a) − Σ_b π(b|s) x(s,b) (13.9). Starts at zero."""

    axes = 2

    def __init__(self, d):
        self.layout = Layout(theta=(d,))

    def init(self, rng):
        return np.zeros(self.layout.size)

    def __call__(self, theta, x):
        return np.dot(x, theta)


class beside:
    """y = (y₁, y₂), θ = (θ₁, θ₂): two models of the same input, with nothing shared."""

    def __init__(self, first, second):
        self.first, self.second, self.axes = first, second, getattr(first, "axes", 1)
        self.layout = Layout(first=(first.layout.size,), second=(second.layout.size,))

    def init(self, rng):
        return np.concatenate([self.first.init(rng), self.second.init(rng)])

    def __call__(self, theta, x):
        one, two = self.layout.views(theta)
        return np.concatenate([self.first(one, x), self.second(two, x)], axis=-1)


class from_function:
    """The model of a function f(θ, x) written in plain NumPy.

    layout   a Layout, or the length of θ
    init     rng -> start θ; default zeros
    axes     those of one input x: 1 for a vector
    """

    def __init__(self, f, layout, init=None, axes=1):
        self.f, self.axes = f, axes
        self.layout = layout if isinstance(layout, Layout) else Layout(theta=(layout,))
        self.init = init or (lambda rng: np.zeros(self.layout.size))

    def __call__(self, theta, x):
        return self.f(theta, x)


class AnyNetwork:
    """Any model at θ: it keeps the inputs, and its backward pass is the tape's."""

    def __init__(self, model, theta, d_theta):
        self.axes = getattr(model, "axes", 1)
        self.model, self.theta, self.d_theta = model, theta, d_theta
        self.x = self.y = None
        self.filled = 0

    def forward(self, x, row=0):
        x = np.asarray(x)
        rows = x.shape[: max(0, x.ndim - self.axes)]
        if x.ndim < self.axes or len(rows) > 1:
            raise ValueError(f"input of shape {x.shape}: must have {self.axes} axes, or one more")
        y = np.asarray(self.model(self.theta, x))
        if y.ndim == 0 or y.shape[:-1] != rows:
            raise ValueError(
                f"the network gave outputs of shape {y.shape} for inputs of shape {x.shape}: must "
                f"be {rows} and one more axis"
            )
        end = _end(row, *rows or (1,), self.filled)
        self.x = self._grown(self.x, x, end, len(rows))
        self.y = self._grown(self.y, y, end, len(rows))
        self.x[row:end], self.y[row:end] = x, y
        self.filled = max(self.filled, end)
        return y

    def _grown(self, memory, x, rows, batch):
        """`memory`, or a new one, with room for so many rows like x, of any dtype."""
        old = np.empty((0, *x.shape[batch:]), x.dtype) if memory is None else memory
        if old.shape[1:] != x.shape[batch:]:
            raise ValueError(f"rows of shape {x.shape[batch:]}: must be {old.shape[1:]}, as before")
        if rows <= len(old) and x.dtype == old.dtype:
            return old
        memory = np.empty((max(rows, 2 * len(old)), *old.shape[1:]), np.result_type(old, x))
        memory[: len(old)] = old
        return memory

    def outputs(self, k):
        return self.y[:k]

    def backward(self, g):
        g, x = _rows_of(g, self), self.x
        self.d_theta[:] = vjp(self.model, self.theta, x[: len(g)], argnums=0)[1](g)
        return self.d_theta


class Preferences(AnyNetwork):
    """linear_preferences at θ: ∂h_a/∂θ = x(s, a)."""

    def backward(self, g):
        g = _rows_of(g, self)
        self.d_theta[:] = np.dot(g.reshape(-1), self.x[: len(g)].reshape(-1, self.theta.size))
        return self.d_theta


def _rows_of(g, network):
    """g as (k, m) of θ's dtype. Raises ValueError unless there are k rows."""
    g = np.asarray(g, network.theta.dtype)
    g = g[None] if g.ndim == 1 else g
    if len(g) > network.filled:
        raise ValueError(f"gradient of shape {g.shape}: only {network.filled} rows went forward")
    if g.shape[1:] != network.y.shape[1:]:
        raise ValueError(f"gradient of shape {g.shape}: must be (k, {network.y.shape[1]})")
    return g


def _end(row, k, filled):
    """row + k. Raises ValueError where rows before `row` have not gone forward."""
    if not 0 <= row <= filled:
        raise ValueError(f"row = {row}: must be from 0 to {filled}, the next one")
    return row + k


class Mlp:
    """An mlp at θ.

    A layer is one product: xᵏ⁻¹ has a last column of ones where the layer has a bias, and Wᵏ has bᵏ
    as its last row, just as they lie in θ. A normalised layer adds its b afterwards.
    """

    def __init__(self, model, theta, d_theta):
        self.model, self.theta, self.d_theta = model, theta, d_theta
        self.W, self.d_W = _products(model, theta), _products(model, self.d_theta)
        f, self.slope = ACTIVATIONS[model.activation]
        self.f = f if isinstance(f, np.ufunc) else lambda z, out: np.copyto(out, f(z))
        layers = zip(model.layers(theta), model.layers(self.d_theta))
        self.norms = [Norm(*pair) if k in model.normed else None for k, pair in enumerate(layers)]
        self.averages = theta.size - 2 * sum(model.sizes[k] for k in model.normed)  # from here on
        self.index, self.x, self.z, self.scaled = np.empty(0, np.intp), [], [], []
        self.rows = self.filled = 0
        self._grow(1)

    def _grow(self, rows):
        """Set memory aside for so many rows; what the old rows hold is kept."""
        sizes, dtype, old = self.model.sizes, self.theta.dtype, [self.index, *self.x, *self.z]
        old += self.scaled
        self.index = np.zeros(rows, np.intp)  # what enters layer 1, if that is one-hot
        wide = [rows] * len(self.W)
        wide[0] = 1 if self.model.one_hot else rows  # layer 1 of a one-hot x takes the index
        self.x = [aligned((k, len(W)), dtype) for k, W in zip(wide, self.W)]  # enters each layer
        self.z = [aligned((rows, m), dtype) for m in sizes[1:]]  # what its product gives
        self.g = [aligned((k, m), dtype) for k, m in zip(wide, sizes)]  # gradients at the inputs
        self.scaled = [aligned((rows, m if n else 0), dtype) for m, n in zip(sizes, self.norms)]
        for x in self.x:
            x[:, -1] = 1.0  # for b; without b, forward overwrites it
        for memory, kept in zip([self.index, *self.x, *self.z, *self.scaled], old):
            memory[: len(kept)] = kept[: len(memory)]
        self.rows, self.up, self.down = rows, {}, {}

    def _upward(self, row, k):
        """Views of row `row` (k None) or of rows row, ..., row + k − 1, made once."""
        end = _end(row, 1 if k is None else k, self.filled)
        if end > self.rows:
            self._grow(max(end, 2 * self.rows))
        if len(self.up) >= MOST_VIEWS:
            self.up.clear()
        part, sizes, second = slice(row, end), self.model.sizes, self.model.at - 1
        part = row if k is None else part
        x = [a[part] if len(a) == self.rows else a[0] for a in self.x]
        z = [a[part] for a in self.z]
        h = [a[..., :n] for a, n in zip(x, sizes)]
        products, first = [a.dot for a in x], h[0]
        if self.model.one_hot:
            first = self.index[part, ...]
            products[0] = lambda W, z: self._look_up(first, W, z)
        scaled = [a[part] for a in self.scaled]
        hidden = list(zip(products, self.W, z, self.norms[1:], scaled[1:], h[1:]))
        u = x[second][..., sizes[second] :][..., : self.model.second]
        self.up[row, k] = first, u, scaled[0], hidden, (products[-1], self.W[-1], z[-1]), end
        return self.up[row, k]

    def _look_up(self, index, W, z):
        """z = x W + b of one-hot x."""
        n = self.model.sizes[0]
        W[:n].take(index, 0, z)
        if len(W) > n:
            z += W[-1]

    def forward(self, x, row=0, u=None, minibatch=False):
        """y; u (k, d) is the second input, if the model has one."""
        rows = row, None if x.ndim == self.model.axes else len(x)
        first, second, scaled, hidden, (dot, W, y), end = self.up.get(rows) or self._upward(*rows)
        if x.shape != first.shape:
            raise ValueError(f"input of shape {x.shape}: must be {first.shape}")
        if second.size if u is None else np.shape(u) != second.shape:
            raise ValueError(f"second input of shape {np.shape(u)}: must be {second.shape}")
        if minibatch and rows[1] is None:
            raise ValueError(f"input of shape {x.shape}: a minibatch has several rows")
        first[...] = x
        if u is not None:
            second[...] = u
        if end > self.filled:
            self.filled = end
        if self.norms[0] is not None:
            self.norms[0].forward(first, scaled, minibatch)
        f = self.f
        for product, V, z, norm, scaled, h in hidden:
            product(V, z)
            if norm is not None:
                norm.forward(z, scaled, minibatch)
            f(z, h)
        dot(W, y)
        return np.tanh(y, y) if self.model.output == "tanh" else y

    def outputs(self, k):
        """y of the first k rows (k, m), as `forward` gave them."""
        return self.z[-1][:k]

    def backward(self, g):
        """d_theta, summed over the rows of g."""
        self.d_theta[self.averages :] = 0.0
        g = self._descend(g, 0, outer=True)
        if self.norms[0] is not None:
            n = self.model.sizes[0]
            self.norms[0].backward(g.dot(self.W[0][:n].T), self.scaled[0][: len(g)])
        return self.d_theta

    def backward_u(self, g):
        """(∂y_i/∂u_i)ᵀ g_i, a row for each of the first len(g) rows: (k, d). d_theta stays."""
        layer = self.model.at - 1
        n = self.model.sizes[layer]
        return self._descend(g, layer).dot(self.W[layer][n : n + self.model.second].T)

    def _descend(self, g, last, outer=False):
        """The gradient at the product of layer last + 1, of g = ∂/∂y. With outer, every product on
        the way puts its xᵀ g into d_theta."""
        g = np.asarray(g, self.theta.dtype)
        g = g[None] if g.ndim == 1 else g
        if g.shape[1:] != (self.model.sizes[-1],):
            raise ValueError(f"gradient of shape {g.shape}: must be (k, {self.model.sizes[-1]})")
        layers = self.down.get(len(g)) or self._downward(len(g))
        if self.model.output == "tanh":
            g = g * (1.0 - self.z[-1][: len(g)] ** 2)
        slope = self.slope
        for i, dot, d_W, W, below, h, norm, scaled in layers:
            if outer:
                dot(g, d_W)
            if i == last:
                return g
            g = g.dot(W, below)
            g *= slope(h)
            if norm is not None:
                norm.backward(g, scaled)

    def _downward(self, k):
        """Views for the backward pass over the first k rows, from the top layer down: made once."""
        if k > self.filled:
            raise ValueError(f"gradient of {k} rows: only {self.filled} rows went forward")
        if len(self.down) >= MOST_VIEWS:
            self.down.clear()
        outer, sizes = [x[:k].T.dot for x in self.x], self.model.sizes
        if self.model.one_hot:
            outer[0] = self._add_up
        transposed = [W[:n].T for W, n in zip(self.W, sizes)]
        gradients, h = [g[:k] for g in self.g], [x[:k, :n] for x, n in zip(self.x, sizes)]
        scaled = [a[:k] for a in self.scaled]
        layers = zip(outer, self.d_W, transposed, gradients, h, self.norms, scaled)
        self.down[k] = [(i, *layer) for i, layer in enumerate(layers)][::-1]
        return self.down[k]

    def _add_up(self, g, d_W):
        """d_W = xᵀ g of one-hot x: g is added to the rows that x names."""
        n = self.model.sizes[0]
        d_W[:n] = 0.0
        np.add.at(d_W, self.index[: len(g)], g)
        if len(d_W) > n:
            np.add.reduce(g, 0, None, d_W[n])

    def track(self, decay):
        """mean, var ← decay (mean, var) + (1 − decay) (those of the latest minibatch), in θ."""
        for norm in self.norms:
            if norm is not None:
                norm.track(decay)


mlp.network, linear_preferences.network = Mlp, Preferences


def _products(model, theta):
    """[W¹ with b¹ as its last row, ...]: views of θ, in which they lie like that."""
    matrices, start = [], 0
    for W, b, gain, *_ in model.layers(theta)[1:]:
        shape = len(W) + (b is not None and gain is None), W.shape[1]
        matrices.append(theta[start : start + shape[0] * shape[1]].reshape(shape))
        start += matrices[-1].size
    return matrices


class Norm:
    """z ← gain ẑ + b, ẑ = (z − mean) / √(var + ε), of one layer; θ is entered by `track` alone.

    With minibatch, mean and var are those of the rows of z, otherwise the running averages.
    """

    def __init__(self, views, d_views):
        _, self.b, self.gain, self.mean, self.var = views
        _, self.d_b, self.d_gain, *_ = d_views
        self.seen = self.mean, self.var

    def forward(self, z, scaled, minibatch):
        mean, var = (z.mean(0), z.var(0)) if minibatch else (self.mean, self.var)
        self.minibatch, self.seen = minibatch, (mean, var) if minibatch else self.seen
        self.inverse = 1.0 / np.sqrt(var + z.dtype.type(EPSILON))
        np.multiply(z - mean, self.inverse, scaled)
        np.multiply(scaled, self.gain, z)
        z += self.b

    def backward(self, g, scaled):
        """d_b = Σ g, d_gain = Σ g ẑ; g ← gain/√(var + ε) (g − mean g − ẑ mean(g ẑ)), where the two
        means belong to minibatches alone."""
        g.sum(0, out=self.d_b)
        (g * scaled).sum(0, out=self.d_gain)
        if self.minibatch:
            g -= self.d_b / len(g)
            g -= scaled * (self.d_gain / len(g))
        g *= self.gain * self.inverse

    def track(self, decay):
        mean, var = self.seen
        self.mean += (1.0 - decay) * (mean - self.mean)
        self.var += (1.0 - decay) * (var - self.var)


class ActorCritic:
    """Two outputs at one θ: h, all of y but its last number, and v, the last.

    model   `beside` of two models, the second with one output, so that acting needs the first only;
            or one model of both

    act(x, row)          h of inputs that are row `row`, or rows row, ... from now on
    evaluate(S, k)       (h of the first k rows of S, on which `act` was called; v of all of S)
    backward(g_h, g_v)   d_theta = Σ_i (∂h_i/∂θ)ᵀ g_h,i + (∂v_i/∂θ)ᵀ g_v,i over the first k rows
    """

    def __init__(self, model, theta):
        self.d_theta, self.separate = np.empty_like(theta), isinstance(model, beside)
        if self.separate:
            (one, two), (d_one, d_two) = map(model.layout.views, (theta, self.d_theta))
            self.pi, self.v = at(model.first, one, d_one), at(model.second, two, d_two)
        else:
            self.pi = at(model, theta, self.d_theta)

    def act(self, x, row=0):
        y = self.pi.forward(x, row)
        return y if self.separate else y[..., :-1]

    def evaluate(self, S, k):
        if self.separate:
            return self.pi.outputs(k), self.v.forward(S)[:, 0]
        if len(S) > k:
            self.pi.forward(S[k:], k)
        y = self.pi.outputs(len(S))
        return y[:k, :-1], y[:, -1]

    def backward(self, g_h, g_v):
        if self.separate:
            self.pi.backward(g_h)
            self.v.backward(g_v[:, None])
        else:
            self.pi.backward(np.concatenate([g_h, g_v[:, None]], 1))
        return self.d_theta
