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
    net.backward_rows(g)   the terms of that sum, a row each (k, length of θ); d_theta stays

Later changes of θ in place are seen; between `forward` and `backward` θ must not change. x may
change: it is copied. What `forward` returns is overwritten when the same rows are written again,
and d_theta by the next `backward`. d_theta has θ's precision, and so has all that an mlp computes.
The memory grows with the rows. Arguments that do not fit raise ValueError, TypeError or, for the
index of a one-hot input, IndexError. A copied or pickled network is one at a copy of θ, without
rows.

`mlp`, `linear` and `linear_preferences` have backward passes by hand. A model of your own has one
if its attribute `network` is a class like `Mlp`. `from_function` makes a model of any NumPy
function, whose backward pass is the tape's.
"""

# NumPy's ufuncs are declared to return Any.
# mypy: disable-error-code="no-any-return"

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from npgrad.autodiff import vjp
from npgrad.compiled import compiled, is_compiled
from npgrad.memory import aligned
from npgrad.parameters import Layout, whole_numbers
from npgrad.types import Array

EPSILON = 1e-5  # of batch normalisation (Ioffe & Szegedy 2015 leave it open; frameworks' value)
AFTER = 20  # calls with the same shapes before the passes of a compiled function are compiled
MOST_VIEWS = 1000  # sets of views that a network keeps
REAL = "fiubO"  # kinds of dtypes; objects may be real numbers of the user's own


def softplus(x: Array) -> Array:
    """ln(1 + eˣ), without overflow, analytic on both sides of 0."""
    positive = x > 0
    return np.where(positive, x, 0.0) + np.log1p(np.exp(np.where(positive, -x, x)))


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.where(x > 0, 0.0, x)))


def _sech2(z: Array) -> Array:
    """tanh'(z) = 4t/(1 + t)², t = e^{−2|z|}."""
    t = np.exp(-2.0 * np.abs(z))
    return 4.0 * t / (1.0 + t) ** 2


# name: (f, f' in terms of y = f(z), and in terms of z if that is better where f' is small). `one`
# is 1 as an array of y's precision: Python's 1.0 makes a ufunc take twice as long
ACTIVATIONS: MappingProxyType[str, tuple[Any, Any, Any]] = MappingProxyType(
    {
        "tanh": (np.tanh, lambda y, one: one - y * y, _sech2),
        "relu": (lambda z: np.maximum(z, 0.0), lambda y, one: y > 0, None),
        "softplus": (softplus, lambda y, one: -np.expm1(-y), None),
        "elu": (_elu, lambda y, one: np.minimum(y, 0.0) + one, np.exp),
        "identity": (lambda z: z, lambda y, one: one, None),
    }
)


def at(model: Any, theta: Array, d_theta: Array | None = None) -> Any:
    """The network of `model` at the flat array θ; its gradients go into d_theta, if there is one.
    Only `track` writes into θ."""
    _check_vector("theta", theta, model.layout.size)
    d_theta = np.empty_like(theta) if d_theta is None else d_theta
    _check_vector("d_theta", d_theta, theta.size, theta.dtype)
    if np.may_share_memory(theta, d_theta):
        raise ValueError("d_theta shares memory with theta: must be an array of its own")
    return getattr(model, "network", AnyNetwork)(model, theta, d_theta)


def _check_vector(name: str, x: Any, size: int, dtype: Any = None) -> None:
    """Raise TypeError or ValueError unless x is a vector of so many floats (of this dtype)."""
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fO" or x.dtype != (dtype or x.dtype):
        kind = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{name} of {kind}: must be an array of {dtype or 'floats'}")
    if x.shape != (size,):
        raise ValueError(f"{name} of shape {x.shape}: must be ({size},)")


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

    network: ClassVar[Any]

    def __init__(self, sizes: Iterable[int], activation: str = "tanh", *, output: str = "identity",
                 bias: bool = True, one_hot: bool = False, second: int = 0, at: int = 1,
                 batch_norm: bool = False, last: float | None = None) -> None:  # fmt: skip
        self.sizes = whole_numbers("sizes", sizes, 1)
        self.depth = len(self.sizes) - 1
        if self.depth < 1:
            raise ValueError(f"sizes = {self.sizes}: must be two or more positive integers")
        if activation not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation = {activation!r}: must be one of {allowed}")
        if output not in ("identity", "tanh"):
            raise ValueError(f"output = {output!r}: must be one of identity, tanh")
        (at,), (second,) = whole_numbers("at", at, 1), whole_numbers("second", second, 0)
        if at > self.depth:
            raise ValueError(f"at = {at}: must be a layer from 1 to {self.depth}")
        if one_hot and second and at == 1:
            raise ValueError("at = 1: must be 2 or more where x is one-hot")
        self.activation, self.output, self.one_hot, self.last = activation, output, one_hot, last
        self.axes = 0 if one_hot else 1  # of one input
        self.second, self.at = second, at
        first = 1 if one_hot else 0
        self.normed = range(first, at if second else self.depth) if batch_norm else range(0)
        shapes: dict[str, tuple[int, ...]] = {}
        for k in range(1, self.depth + 1):
            shapes[f"W{k}"] = (self.fan_in(k), self.sizes[k])
            if bias and k not in self.normed:
                shapes[f"b{k}"] = (self.sizes[k],)
        for names in (("gain", "b"), ("mean", "var")):  # the averages come last
            shapes |= {f"{name}{k}": (self.sizes[k],) for k in self.normed for name in names}
        self.layout = Layout(**shapes)

    def fan_in(self, k: int) -> int:
        return self.sizes[k - 1] + (self.second if k == self.at else 0)

    def layers(self, theta: Array) -> list[list[Any]]:
        """[(W, b, gain, mean, var) of k = 0, ..., L] as views, None for what a layer lacks."""
        views, names = self.layout.views(theta), ("W", "b", "gain", "mean", "var")
        return [[getattr(views, f"{name}{k}", None) for name in names]
                for k in range(len(self.sizes))]  # fmt: skip

    def weights(self, theta: Array) -> list[Array]:
        """The matrices W¹, ..., W^L as views of θ: what weight decay pulls at."""
        return [W for W, *_ in self.layers(theta)[1:]]

    def init(self, rng: np.random.Generator) -> Array:
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

    def __call__(self, theta: Array, x: Any, u: Any = None, minibatch: bool = False) -> Array:
        """y (..., m) of x (..., n), or (...) if one-hot, and u (..., d); with minibatch (N, m)."""
        x = x if hasattr(x, "shape") else np.asarray(x)
        self._check(x, u, minibatch)
        f, *_ = ACTIVATIONS[self.activation]
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

    def _check(self, x: Array, u: Any, minibatch: bool) -> None:
        """Raise ValueError or IndexError unless the inputs fit. None of them is broadcast."""
        n, rows = self.sizes[0], x.shape
        if self._indices(x):
            _check_indices(x, n)
        elif x.shape[-1:] != (n,):
            raise ValueError(f"input of shape {x.shape}: must be (..., {n})")
        else:
            rows = x.shape[:-1]
        if (u is not None or self.second) and np.shape(u) != (*rows, self.second):
            raise ValueError(f"second input of shape {np.shape(u)}: must be {(*rows, self.second)}")
        if minibatch and self.normed and len(rows) != 1:
            raise ValueError(f"input of shape {x.shape}: a minibatch has several rows")

    def _indices(self, x: Array) -> bool:
        return self.one_hot and x.dtype.kind in "iu"


def linear(n: int, m: int, *, bias: bool = True, one_hot: bool = False) -> mlp:
    """y = x W + b, starting at zero as Sutton & Barto's linear methods do."""
    return mlp((n, m), "identity", bias=bias, one_hot=one_hot, last=0.0)


class linear_preferences:
    """h_a = θᵀ x(s, a): features x (..., A, d) -> preferences (..., A). The linear softmax of
    Sutton & Barto (13.3), whose score is x(s,a) − Σ_b π(b|s) x(s,b) (13.9). Starts at zero."""

    network: ClassVar[Any]
    axes = 2

    def __init__(self, d: int) -> None:
        self.layout = Layout(theta=d)

    def init(self, rng: np.random.Generator) -> Array:
        return np.zeros(self.layout.size)

    def __call__(self, theta: Array, x: Array) -> Array:
        if np.ndim(x) < 2:
            raise ValueError(f"features of shape {np.shape(x)}: must be (..., A, d)")
        return np.dot(x, *self.layout.views(theta))


class beside:
    """y = (y₁, y₂), θ = (θ₁, θ₂): two models of the same input, with nothing shared."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second, self.axes = first, second, getattr(first, "axes", 1)
        if getattr(second, "axes", 1) != self.axes:
            raise ValueError(f"first and second: inputs of both must have {self.axes} axes")
        self.layout = Layout(first=first.layout.size, second=second.layout.size)

    def init(self, rng: np.random.Generator) -> Array:
        return np.concatenate([self.first.init(rng), self.second.init(rng)])

    def __call__(self, theta: Array, x: Array) -> Array:
        one, two = self.layout.views(theta)
        return np.concatenate([self.first(one, x), self.second(two, x)], axis=-1)


class from_function:
    """The model of a function f(θ, x) written in plain NumPy.

    f        npgrad.compiled(f) lets the network's passes run compiled, where shapes repeat
    layout   a Layout, or the length of θ
    init     rng -> start θ; default zeros
    axes     those of one input x: 1 for a vector
    """

    def __init__(self, f: Callable[[Array, Array], Array], layout: Layout | int,
                 init: Callable[[np.random.Generator], Array] | None = None,
                 axes: int = 1) -> None:  # fmt: skip
        self.f, self.start = f, init
        (self.axes,) = whole_numbers("axes", axes, 0)
        self.layout = layout if isinstance(layout, Layout) else Layout(theta=layout)

    def init(self, rng: np.random.Generator) -> Array:
        return np.zeros(self.layout.size) if self.start is None else self.start(rng)

    def __call__(self, theta: Array, x: Array) -> Array:
        return self.f(theta, x)


class AnyNetwork:
    """Any model at θ: it keeps the inputs, and its backward pass is the tape's."""

    def __init__(self, model: Any, theta: Array, d_theta: Array) -> None:
        self.axes = getattr(model, "axes", 1)
        self.model, self.theta, self.d_theta = model, theta, d_theta
        self.x = self.y = np.empty(0)
        self.filled, self.places = 0, dict[Any, Any]()
        again = type(model) is from_function and is_compiled(model.f) and type(theta) is np.ndarray
        f = model.f.__wrapped__ if again else model
        back = lambda theta, x, g: vjp(f, theta, x, argnums=0)[1](g)
        self.up: Any = compiled(f, AFTER) if again else f
        self.down: Any = compiled(back, AFTER) if again else back

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model, self.theta, self.d_theta)

    def forward(self, x: Any, row: int = 0) -> Array:
        x = np.asarray(x)
        if not 0 <= x.ndim - self.axes <= 1:
            raise ValueError(f"input of shape {x.shape}: must have {self.axes} axes, or one more")
        y = np.asarray(self.up(self.theta, x))
        key = row, x.shape, x.dtype, y.shape, y.dtype
        inputs, outputs, end = self.places.get(key) or self._place(row, x, y)
        inputs[...], outputs[...] = x, y
        self.filled = max(self.filled, end)
        return outputs

    def _place(self, row: int, x: Array, y: Array) -> tuple[Array, Array, int]:
        """Return the views of the rows that x and y are from row `row` on, made once."""
        rows, kept = x.shape[: x.ndim - self.axes], (self.x, self.y)
        if y.ndim == 0 or y.shape[:-1] != rows:
            raise ValueError(
                f"the network gave outputs of shape {y.shape} for inputs of shape {x.shape}: must "
                f"be {rows} and one more axis"
            )
        y = _as_real("output", y)
        end = _end(row, rows[0] if rows else 1, self.filled)
        grown = self._grown(self.x, x, end, len(rows)), self._grown(self.y, y, end, len(rows))
        self.x, self.y = grown
        if self.x is not kept[0] or self.y is not kept[1] or len(self.places) >= MOST_VIEWS:
            self.places.clear()
        part: Any = slice(row, end) if rows else row
        place = self.x[part, ...], self.y[part, ...], end
        self.places[row, x.shape, x.dtype, y.shape, y.dtype] = place
        return place

    def _grown(self, memory: Array, x: Array, rows: int, batch: int) -> Array:
        """`memory`, or a new one, with room for so many rows like x, of any dtype."""
        old = memory if self.filled else np.empty((0, *x.shape[batch:]), x.dtype)
        if old.shape[1:] != x.shape[batch:]:
            raise ValueError(f"rows of shape {x.shape[batch:]}: must be {old.shape[1:]}, as before")
        dtype, enough = np.result_type(old, x), rows <= len(old)
        if enough and dtype == old.dtype:
            return old
        rows = len(old) if enough else max(rows, 2 * len(old))
        memory = np.empty((rows, *old.shape[1:]), dtype)
        memory[: len(old)] = old
        return memory

    def outputs(self, k: int) -> Array:
        return self.y[: _check_rows(k, self.filled)]

    def backward(self, g: Array) -> Array:
        g = _rows_of(g, self)
        self.d_theta[:] = self.down(self.theta, self.x[: len(g)], g)
        return self.d_theta

    def backward_rows(self, g: Array) -> Array:
        g = _rows_of(g, self)
        rows: Array = np.empty((len(g), self.theta.size), self.theta.dtype)
        for row, x, g_i in zip(rows, self.x, g):
            row[:] = self.down(self.theta, x, g_i)
        return rows


class Preferences(AnyNetwork):
    """linear_preferences at θ: ∂h_a/∂θ = x(s, a)."""

    def backward(self, g: Array) -> Array:
        g = _rows_of(g, self)
        self.d_theta[:] = np.dot(g.reshape(-1), self.x[: len(g)].reshape(-1, self.theta.size))
        return self.d_theta


def _rows_of(g: Any, network: AnyNetwork) -> Array:
    """g as (k, m) of θ's dtype. Raises ValueError unless there are k rows."""
    g = _as_real("gradient", g, network.theta.dtype)
    g = g[None] if g.ndim == 1 else g
    _check_rows(len(g) if g.ndim else 1, network.filled)
    if g.ndim != 2 or g.shape[1:] != network.y.shape[1:]:
        raise ValueError(f"gradient of shape {g.shape}: must be (k, {network.y.shape[-1]})")
    return g


def _end(row: int, k: int, filled: int) -> int:
    """row + k. Raises ValueError where rows before `row` have not gone forward."""
    if not 0 <= row <= filled:
        raise ValueError(f"row = {row}: must be from 0 to {filled}, the next one")
    return row + k


def _check_rows(k: int, filled: int) -> int:
    """k. Raises ValueError unless so many rows went forward."""
    if not 0 <= k <= filled:
        raise ValueError(f"{k} rows: only {filled} rows went forward")
    return k


def _as_real(name: str, x: Any, dtype: Any = None) -> Array:
    """x as an array, of this dtype if one is given. Raises TypeError unless x is real."""
    x = np.asarray(x)
    if x.dtype.kind not in REAL:
        raise TypeError(f"{name} of dtype {x.dtype}: must be real numbers")
    return np.asarray(x, dtype)


def _check_indices(x: Array, n: int) -> None:
    """Raise IndexError unless all integers x are from 0 to n − 1: NumPy takes −1 for n − 1."""
    low, high = (x.argmin(), x.argmax()) if x.ndim and x.size else (0, 0)
    if x.size and not (0 <= x.item(low) and x.item(high) < n):
        raise IndexError(f"input {x}: must be from 0 to {n - 1}")


class Mlp:
    """An mlp at θ.

    A layer is one product: xᵏ⁻¹ has a last column of ones where the layer has a bias, and Wᵏ has bᵏ
    as its last row, just as they lie in θ. A normalised layer adds its b afterwards.

    The rows of a minibatch go forward together, from row 0 on, and so they go back; another pass
    forgets them.
    """

    def __init__(self, model: mlp, theta: Array, d_theta: Array) -> None:
        self.model, self.theta, self.d_theta, self.dtype = model, theta, d_theta, theta.dtype
        self.W, self.d_W = _products(model, theta), _products(model, d_theta)
        f, self.slope, self.exact_slope = ACTIVATIONS[model.activation]
        self.f = f if isinstance(f, np.ufunc) else lambda z, out: np.copyto(out, f(z))
        layers = zip(model.layers(theta), model.layers(d_theta))
        self.norms = [Norm(*pair) if k in model.normed else None for k, pair in enumerate(layers)]
        self.one, self.normed = np.ones((), theta.dtype), bool(model.normed)
        # where a slope is below eps^0.4, y is rounded by a relative eps^0.6 of it, or more
        self.saturated = self.exact_slope and float(np.finfo(theta.dtype).eps) ** 0.4
        self.averages = theta.size - 2 * sum(model.sizes[k] for k in model.normed)  # from here on
        self.index = np.empty(0, np.intp)
        self.x, self.z, self.scaled = (list[Array]() for _ in range(3))
        self.classes = model.sizes[0] if model.one_hot else 0
        self.rows = self.filled = self.minibatch = 0
        self._grow(1)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model, self.theta, self.d_theta)

    def _grow(self, rows: int) -> None:
        """Set memory aside for so many rows; what the old rows hold is kept."""
        sizes, dtype, old = self.model.sizes, self.theta.dtype, [self.index, *self.x, *self.z]
        old += self.scaled
        self.index = np.zeros(rows, np.intp)  # what enters layer 1, if that is one-hot
        wide = [rows] * len(self.W)
        wide[0] = 1 if self.model.one_hot else rows  # layer 1 of a one-hot x takes the index
        self.x = [aligned((k, len(W)), dtype) for k, W in zip(wide, self.W)]  # enters each layer
        self.z = [aligned((rows, m), dtype) for m in sizes[1:]]  # what its product gives; y is last
        if self.model.output == "tanh":
            self.z.append(aligned((rows, sizes[-1]), dtype))
        self.g = [aligned((k, m), dtype) for k, m in zip(wide, sizes)]  # gradients at the inputs
        self.scaled = [aligned((rows, m if n else 0), dtype) for m, n in zip(sizes, self.norms)]
        for x in self.x:
            x[:, -1] = 1.0  # for b; without b, forward overwrites it
        for memory, kept in zip([self.index, *self.x, *self.z, *self.scaled], old):
            memory[: len(kept)] = kept[: len(memory)]
        self.rows, self.up, self.down = rows, dict[Any, Any](), dict[Any, Any]()

    def _upward(self, row: int, shape: tuple[int, ...], dtype: Any) -> tuple[Any, ...]:
        """Views of the rows that inputs of this shape are from row `row` on, made once."""
        axes, sizes, second = self.model.axes, self.model.sizes, self.model.at - 1
        one = shape[len(shape) - axes :]
        if len(shape) not in (axes, axes + 1) or one != sizes[:axes]:
            allowed = f"({sizes[0]},) or (k, {sizes[0]})" if axes else "() or (k,)"
            raise ValueError(f"input of shape {shape}: must be {allowed}")
        if dtype.kind not in ("iu" if self.model.one_hot else REAL):
            kind = "integers" if self.model.one_hot else "real numbers"
            raise TypeError(f"input of dtype {dtype}: must be {kind}")
        end = _end(row, 1 if len(shape) == axes else shape[0], self.filled)
        if end > self.rows:
            self._grow(max(end, 2 * self.rows))
        if len(self.up) >= MOST_VIEWS:
            self.up.clear()
        part: Any = row if len(shape) == axes else slice(row, end)
        x = [a[part] if len(a) == self.rows else a[0] for a in self.x]
        z = [a[part] for a in self.z]
        h = [a[..., :n] for a, n in zip(x, sizes)]
        products, first = [a.dot for a in x], h[0]
        if self.model.one_hot:
            first = self.index[part, ...]
            products[0] = lambda W, z: self._look_up(first, W, z)
        scaled = [a[part] for a in self.scaled]
        hidden = list(zip(products, self.W, z, self.norms[1:], scaled[1:], h[1:]))
        u = x[second][..., sizes[second] :][..., : self.model.second] if self.model.second else None
        last = products[-1], self.W[-1], z[self.model.depth - 1], z[-1]
        self.up[row, shape, dtype] = first, u, scaled[0], hidden, last, end
        return self.up[row, shape, dtype]

    def _look_up(self, index: Array, W: Array, z: Array) -> None:
        """z = x W + b of one-hot x."""
        n = self.model.sizes[0]
        W[:n].take(index, 0, z)
        if len(W) > n:
            z += W[-1]

    def forward(self, x: Any, row: int = 0, u: Any = None, minibatch: bool = False) -> Array:
        """y; u (k, d) is the second input, if the model has one."""
        x = np.asarray(x)
        rows = row, x.shape, x.dtype
        views = self.up.get(rows) or self._upward(*rows)
        first, second, scaled, hidden, (dot, W, z, y), end = views
        if self.classes:
            _check_indices(x, self.classes)
        if u is not second:
            u = self._second(u, second)
        if self.normed:
            self._start(minibatch, row, end, x.shape)
        first[...] = x
        if second is not None:
            second[...] = u
        if end > self.filled:
            self.filled = end
        if self.norms[0] is not None:
            self.norms[0].forward(first, scaled, minibatch)
        f = self.f
        for product, V, below, norm, scaled, h in hidden:
            product(V, below)
            if norm is not None:
                norm.forward(below, scaled, minibatch)
            f(below, h)
        dot(W, z)
        return y if y is z else np.tanh(z, y)

    def _second(self, u: Any, second: Array | None) -> Array:
        if second is None or np.shape(u) != second.shape:
            allowed = "the model has none" if second is None else f"must be {second.shape}"
            raise ValueError(f"second input of shape {np.shape(u)}: {allowed}")
        return _as_real("second input", u, self.theta.dtype)

    def _start(self, minibatch: bool, row: int, end: int, shape: tuple[int, ...]) -> None:
        """Forget the rows before a minibatch, and its own after it."""
        if minibatch and len(shape) == self.model.axes:
            raise ValueError(f"input of shape {shape}: a minibatch has several rows")
        filled = 0 if minibatch or self.minibatch else self.filled
        _end(row, 0, filled)
        self.filled, self.minibatch = filled, end if minibatch else 0

    def outputs(self, k: int) -> Array:
        """y of the first k rows (k, m), as `forward` gave them."""
        return self.z[-1][: _check_rows(k, self.filled)]

    def backward(self, g: Any) -> Array:
        """d_theta, summed over the rows of g."""
        g = self._descend(g, 0, outer=True)
        if self.normed:
            self.d_theta[self.averages :] = 0.0
        if self.norms[0] is not None:
            n = self.model.sizes[0]
            self.norms[0].backward(g.dot(self.W[0][:n].T), self.scaled[0][: len(g)])
        return self.d_theta

    def backward_rows(self, g: Any) -> Array:
        """The terms of `backward`'s sum, a row each: (k, length of θ). d_theta stays. Raises
        ValueError for a normalised network."""
        if self.normed:
            raise ValueError("backward_rows: a normalised network has none")
        top = self._descend(g, len(self.W) - 1)
        self._descend(g, 0)  # leaves the gradient at layer k's product in self.g[k]
        (n, *_), k, start = self.model.sizes, len(top), 0
        rows, x = np.empty((k, self.theta.size), self.dtype), [x[:k] for x in self.x]
        if self.model.one_hot:
            x[0] = np.eye(n, len(self.W[0]), dtype=self.dtype)[self.index[:k]]
            x[0][:, n:] = 1.0  # for b
        for W, x_W, g_W in zip(self.W, x, [*self.g[1:], top]):
            d_W = rows[:, start : start + W.size].reshape(k, *W.shape)
            np.multiply(x_W[:, :, None], g_W[:k, None], d_W)
            start += W.size
        return rows

    def backward_u(self, g: Any) -> Array:
        """(∂y_i/∂u_i)ᵀ g_i, a row for each of the first len(g) rows: (k, d). d_theta stays."""
        layer = self.model.at - 1
        n = self.model.sizes[layer]
        d_u: Array = self._descend(g, layer).dot(self.W[layer][n : n + self.model.second].T)
        return d_u

    def _descend(self, g: Any, last: int, outer: bool = False) -> Array:
        """The gradient at the product of layer last + 1, of g = ∂/∂y. With outer, every product on
        the way puts its xᵀ g into d_theta."""
        g = np.asarray(g)
        if g.dtype != self.dtype:
            g = _as_real("gradient", g, self.dtype)
        layers = self.down.get(g.shape) or self._downward(g.shape)
        g = g[None] if g.ndim == 1 else g
        if self.normed:
            self._check_minibatch(len(g))
        if len(self.z) > len(self.W):
            g = g * _sech2(self.z[-2][: len(g)])
        slope, exact, one = self.slope, self.exact_slope, self.one
        for i, dot, d_W, W, below, h, z, norm, scaled in layers:
            if outer:
                dot(g, d_W)
            if i == last:
                break
            g = g.dot(W, below)
            s = slope(h, one)
            if exact is not None and s.size and s.item(s.argmin()) < self.saturated:
                saturated = s < self.saturated
                s[saturated] = exact(z[saturated])
            g *= s
            if norm is not None:
                norm.backward(g, scaled)
        return g

    def _check_minibatch(self, k: int) -> None:
        """Raise ValueError unless k rows can go back: those of a minibatch together."""
        _check_rows(k, self.filled)
        if self.minibatch not in (0, k):
            raise ValueError(f"gradient of {k} rows: must be {self.minibatch}, the minibatch")

    def _downward(self, shape: tuple[int, ...]) -> list[tuple[Any, ...]]:
        """Views for the backward pass of a gradient of this shape, from the top layer down: made
        once."""
        sizes = self.model.sizes
        if len(shape) not in (1, 2) or shape[-1] != sizes[-1]:
            raise ValueError(f"gradient of shape {shape}: must be (k, {sizes[-1]})")
        k = 1 if len(shape) == 1 else shape[0]
        _check_rows(k, self.filled)
        if len(self.down) >= MOST_VIEWS:
            self.down.clear()
        outer: list[Any] = [x[:k].T.dot for x in self.x]
        if self.model.one_hot:
            outer[0] = self._add_up
        transposed = [W[:n].T for W, n in zip(self.W, sizes)]
        gradients, h = [g[:k] for g in self.g], [x[:k, :n] for x, n in zip(self.x, sizes)]
        z, scaled = [None, *(z[:k] for z in self.z)], [a[:k] for a in self.scaled]
        layers = zip(outer, self.d_W, transposed, gradients, h, z, self.norms, scaled)
        self.down[shape] = [(i, *layer) for i, layer in enumerate(layers)][::-1]
        return self.down[shape]

    def _add_up(self, g: Array, d_W: Array) -> None:
        """d_W = xᵀ g of one-hot x: g is added to the rows that x names."""
        n = self.model.sizes[0]
        d_W[:n] = 0.0
        np.add.at(d_W, self.index[: len(g)], g)
        if len(d_W) > n:
            np.add.reduce(g, 0, None, d_W[n])

    def track(self, decay: float) -> None:
        """mean, var ← decay (mean, var) + (1 − decay) (those of the latest minibatch), in θ."""
        for norm in self.norms:
            if norm is not None:
                norm.track(decay)


mlp.network, linear_preferences.network = Mlp, Preferences


def _products(model: mlp, theta: Array) -> list[Array]:
    """[W¹ with b¹ as its last row, ...]: views of θ, in which they lie like that."""
    matrices: list[Array] = []
    start = 0
    for W, b, gain, *_ in model.layers(theta)[1:]:
        shape = len(W) + (b is not None and gain is None), W.shape[1]
        matrices.append(theta[start : start + shape[0] * shape[1]].reshape(shape))
        start += matrices[-1].size
    return matrices


class Norm:
    """z ← gain ẑ + b, ẑ = (z − mean) / √(var + ε), of one layer; θ is entered by `track` alone.

    With minibatch, mean and var are those of the rows of z, otherwise the running averages.
    """

    def __init__(self, views: list[Any], d_views: list[Any]) -> None:
        _, self.b, self.gain, self.mean, self.var = views
        _, self.d_b, self.d_gain, *_ = d_views
        self.seen = self.mean, self.var

    def forward(self, z: Array, scaled: Array, minibatch: bool) -> None:
        mean, var = (z.mean(0), z.var(0)) if minibatch else (self.mean, self.var)
        self.minibatch, self.seen = minibatch, (mean, var) if minibatch else self.seen
        self.inverse = 1.0 / np.sqrt(var + z.dtype.type(EPSILON))
        np.multiply(z - mean, self.inverse, scaled)
        np.multiply(scaled, self.gain, z)
        z += self.b

    def backward(self, g: Array, scaled: Array) -> None:
        """d_b = Σ g, d_gain = Σ g ẑ; g ← gain/√(var + ε) (g − mean g − ẑ mean(g ẑ)), where the two
        means belong to minibatches alone."""
        g.sum(0, out=self.d_b)
        (g * scaled).sum(0, out=self.d_gain)
        if self.minibatch:
            g -= self.d_b / len(g)
            g -= scaled * (self.d_gain / len(g))
        g *= self.gain * self.inverse

    def track(self, decay: float) -> None:
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

    def __init__(self, model: Any, theta: Array) -> None:
        self.model, self.theta, self.d_theta = model, theta, np.empty_like(theta)
        self.separate = isinstance(model, beside)
        if self.separate:
            (one, two), (d_one, d_two) = map(model.layout.views, (theta, self.d_theta))
            self.pi, self.v = at(model.first, one, d_one), at(model.second, two, d_two)
        else:
            self.pi = at(model, theta, self.d_theta)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model, self.theta)

    def act(self, x: Any, row: int = 0) -> Array:
        y: Array = self.pi.forward(x, row)
        return y if self.separate else y[..., :-1]

    def evaluate(self, S: Array, k: int) -> tuple[Array, Array]:
        if not 0 <= k <= len(S):
            raise ValueError(f"k = {k}: must be from 0 to {len(S)}, the rows of S")
        if self.separate:
            return self.pi.outputs(k), self.v.forward(S)[:, 0]
        if len(S) > k:
            self.pi.forward(S[k:], k)
        y = self.pi.outputs(len(S))
        return y[:k, :-1], y[:, -1]

    def backward(self, g_h: Array, g_v: Array) -> Array:
        if g_h.ndim != 2 or g_h.shape[:1] != g_v.shape:
            raise ValueError(f"gradients of shapes {g_h.shape}, {g_v.shape}: must be (k, m), (k,)")
        if self.separate:
            self.pi.backward(g_h)
            self.v.backward(g_v[:, None])
        else:
            self.pi.backward(np.concatenate([g_h, g_v[:, None]], 1))
        return self.d_theta
