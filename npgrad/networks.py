"""Networks with a second input and batch normalisation: forward and backward side by side.

`network` is a pure function of (θ, x, u), as the models are; `Batch` is its forward pass and its
hand-written backward pass over batches of a fixed number of rows, in memory set aside once.
"""

import numpy as np

from npgrad.memory import aligned
from npgrad.models import ACTIVATIONS
from npgrad.parameters import Layout

EPSILON = 1e-5  # of batch normalisation (Ioffe & Szegedy 2015 leave it open; frameworks' value)


class network:
    """An mlp that a second input u may join, with or without batch normalisation.

        x⁰ = n⁰(x) + b⁰, or x without normalisation
        zᵏ = xᵏ⁻¹ Wᵏ, at one layer [xᵏ⁻¹, u] Wᵏ;   xᵏ = f(nᵏ(zᵏ) + bᵏ);
        y = g(x^{L−1} W^L + b^L)                                   k = 1, ..., L−1 hidden layers
        nᵏ(z) = gainᵏ (z − mean) / √(var + 1e-5), or z without normalisation

    sizes        (n, hidden ..., m)
    second       d, the length of u; 0: there is none
    at           the layer that u enters: 1 the first hidden one, L the output
    activation   f, of npgrad.models.ACTIVATIONS
    output       g: identity or tanh
    batch_norm   normalise x and the hidden layers, those before u if there is a u (DDPG §3)

    (mean, var) are, with minibatch=True, those of the rows at hand, and derivatives go through
    them; otherwise running averages, which are entries of θ that every gradient leaves alone.

    Start: W and b of hidden layers uniform in ±1/√fan_in, u counted; of the last in ±3e-3 (DDPG
    §7). Where a layer is normalised its gain is 1 and its b 0.
    """

    def __init__(self, sizes, second=0, at=1, activation="relu", output="identity",
                 batch_norm=False):  # fmt: skip
        self.sizes, self.second, self.at = tuple(sizes), second, at
        self.activation, self.output = activation, output
        self.depth = len(self.sizes) - 1
        if activation not in ACTIVATIONS or output not in ("identity", "tanh"):
            raise ValueError(
                f"activation, output = {activation!r}, {output!r}: must be one of "
                f"{', '.join(ACTIVATIONS)}, and identity or tanh"
            )
        if min(self.sizes) < 1 or self.depth < 1 or not 1 <= at <= self.depth:
            raise ValueError(
                f"sizes, at = {self.sizes}, {at}: must be two or more positive sizes, and a layer "
                f"from 1 to {self.depth}"
            )
        self.normed = range(at if second else self.depth) if batch_norm else range(0)
        last, normed = range(1, self.depth + 1), self.normed
        biased = sorted({*last, *normed})
        self.layout = Layout(
            **{f"W{k}": (self.fan_in(k), self.sizes[k]) for k in last},
            **{f"b{k}": (self.sizes[k],) for k in biased},
            **{f"{name}{k}": (self.sizes[k],) for name in ("gain", "mean", "var") for k in normed},
        )

    def fan_in(self, k):
        return self.sizes[k - 1] + (self.second if k == self.at else 0)

    def layers(self, theta):
        """[(W, b, gain, mean, var) of k = 0, ..., L], None for what a layer does not have."""
        views, names = self.layout.views(theta), ("W", "b", "gain", "mean", "var")
        return [tuple(getattr(views, f"{name}{k}", None) for name in names)
                for k in range(len(self.sizes))]  # fmt: skip

    def weights(self, theta):
        """The part of θ that holds W¹, ..., W^L: what weight decay pulls at."""
        return theta[: sum(self.fan_in(k) * m for k, m in enumerate(self.sizes) if k > 0)]

    def init(self, rng):
        theta = np.empty(self.layout.size)
        for k, (W, b, gain, mean, var) in enumerate(self.layers(theta)):
            bound = 3e-3 if k == self.depth else 1 / np.sqrt(self.fan_in(k)) if k else None
            if W is not None:
                W[:] = rng.uniform(-bound, bound, W.shape)
            if gain is not None:
                gain[:], b[:], mean[:], var[:] = 1.0, 0.0, 0.0, 1.0
            elif b is not None:
                b[:] = rng.uniform(-bound, bound, b.shape)
        return theta

    def __call__(self, theta, x, u=None, minibatch=False):
        """y (..., m) of x (..., n) and u (..., d); with minibatch=True of x (N, n), u (N, d)."""
        f, _ = ACTIVATIONS[self.activation]
        for k, (W, b, gain, mean, var) in enumerate(self.layers(theta)):
            if k == self.at and self.second:
                x = np.concatenate([x, u], -1)
            if W is not None:
                x = np.dot(x, W)
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


class Batch:
    """Forward and backward passes of `model` over N rows, in memory set aside once.

    What a method returns is overwritten by the next pass. Called like a function it is the plain
    model with minibatch=True: of the two, npgrad differentiates one and a reader the other.
    """

    def __init__(self, model, N, dtype):
        empty = lambda *shape: aligned(shape, dtype)
        self.model, self.seen, depth = model, [], model.depth
        self.x = [empty(N, model.fan_in(k)) for k in range(1, depth + 1)]  # x[k] enters layer k + 1
        self.h = [x[:, :n] for x, n in zip(self.x, model.sizes)]  # without u
        self.z = [h if h.flags.c_contiguous else empty(*h.shape) for h in self.h]
        self.z.append(empty(N, model.sizes[-1]))
        self.g = [empty(N, m) for m in model.sizes]
        self.normalised = {k: empty(N, model.sizes[k]) for k in model.normed}
        self.inverse = {}  # 1/√(var + ε) of layers normalised by the latest minibatch
        self.d_theta, self.d_u = empty(model.layout.size), empty(N, model.second)
        averages = 2 * sum(model.sizes[k] for k in model.normed)
        self.averages = slice(model.layout.size - averages, None)  # where they are in θ
        self.ones, zeros = np.ones(N, dtype), [np.zeros_like(z) for z in self.z]
        f, self.slope = ACTIVATIONS[model.activation]
        self.activate = lambda k: np.copyto(self.h[k], f(self.z[k]))
        if model.activation == "relu":  # an array of zeros is 3 times faster than 0.0
            self.activate = lambda k: np.maximum(self.z[k], zeros[k], out=self.h[k])

    def __call__(self, theta, x, u=None):
        return self.model(theta, x, u, minibatch=True)

    def forward(self, theta, x, u=None, running=False):
        """y (N, m) of x (N, n) and u (N, d), normalised by the minibatch or `running` averages."""
        model, self.layers = self.model, self._layers(theta)
        if model.second:
            self.x[model.at - 1][:, -model.second :] = u
        self.z[0][:] = x
        for k, ((W, b, *norm), z) in enumerate(zip(self.layers, self.z)):
            if k > 0:
                np.dot(self.x[k - 1], W, z)
            if k in model.normed:
                self._normalise(k, *norm, running)
            if b is not None:
                z += b
            if 0 < k < model.depth:
                self.activate(k)
            elif k == 0 and z is not self.h[0]:
                self.h[0][:] = z
        return np.tanh(z, out=z) if model.output == "tanh" else z

    def gradient(self, g):
        """(∂y/∂θ)ᵀ g of the latest `forward` by minibatch: SUMMED over the rows of g (N, m)."""
        self.d_theta[self.averages] = 0.0
        g = self._before_output(g)
        pieces = self._layers(self.d_theta)
        for k in range(self.model.depth, 0, -1):
            d_W, d_b, d_gain, *_ = pieces[k]
            self.ones.dot(g, d_b)
            if d_gain is not None:
                self._norm_gradient(k, g, d_gain)
            np.dot(self.x[k - 1].T, g, d_W)
            if k > 1 or 0 in self.model.normed:
                g = self._below(k, g)
        if 0 in self.model.normed:
            _, d_b, d_gain, *_ = pieces[0]
            self.ones.dot(g, d_b)
            self._norm_gradient(0, g, d_gain)
        return self.d_theta

    def gradient_u(self, g):
        """(∂y/∂u)ᵀ g of the latest `forward`, one row of (N, d) for each: u comes after every
        normalisation, so no row's y depends on another's u."""
        g = self._before_output(g)
        for k in range(self.model.depth, self.model.at, -1):
            g = self._below(k, g)
        W = self.layers[self.model.at][0]
        return np.dot(g, W[-self.model.second :].T, self.d_u)

    def track(self, theta, x, u, decay):
        """mean, var ← decay (mean, var) + (1 − decay) (those of the rows x, u), in θ."""
        if not self.model.normed:
            return
        self.forward(theta, x, u)
        for k in self.model.normed:
            W, _, _, mean, var = self.layers[k]
            z = np.dot(self.x[k - 1], W) if k > 0 else x
            mean += (1.0 - decay) * (z.mean(0) - mean)
            var += (1.0 - decay) * (z.var(0) - var)

    def _layers(self, theta):
        """model.layers(θ), of the vectors seen lately looked up once."""
        for vector, layers in self.seen:
            if vector is theta:
                return layers
        self.seen = [(theta, self.model.layers(theta)), *self.seen[:2]]
        return self.seen[0][1]

    def _normalise(self, k, gain, mean, var, running):
        z, normalised = self.z[k], self.normalised[k]
        if not running:
            mean, var = z.mean(0), z.var(0)
        self.inverse[k] = 1.0 / np.sqrt(var + z.dtype.type(EPSILON))
        np.subtract(z, mean, normalised)
        normalised *= self.inverse[k]
        np.multiply(normalised, gain, z)

    def _norm_gradient(self, k, g, d_gain):
        """d_gain = Σ g ẑ, and g ← gain/√(var + ε) (g − mean g − ẑ mean(g ẑ)), ẑ the scaled z."""
        normalised, gain = self.normalised[k], self.layers[k][2]
        self.ones.dot(g * normalised, d_gain)
        g -= g.mean(0)
        g -= normalised * (d_gain / len(g))
        g *= gain * self.inverse[k]

    def _before_output(self, g):
        """∂/∂(what enters the output's function) of ∂/∂y."""
        into = self.g[-1]
        into[:] = g
        if self.model.output == "tanh":
            into *= 1.0 - self.z[-1] ** 2
        return into

    def _below(self, k, g):
        """∂/∂(what enters f in layer k − 1) of ∂/∂zᵏ; of layer 1, ∂/∂x⁰."""
        W, n = self.layers[k][0], self.model.sizes[k - 1]
        below = np.dot(g, W[:n].T, self.g[k - 1])
        if k > 1:
            below *= self.slope(self.h[k - 1])
        return below
