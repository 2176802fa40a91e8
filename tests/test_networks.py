"""Models are their formulas; networks are their models, and backward is the derivative."""

import copy
import functools
import pickle
from decimal import Decimal, localcontext
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from npgrad import (
    ActorCritic,
    Layout,
    Softmax,
    at,
    beside,
    check_gradient,
    compiled,
    complex_step,
    from_function,
    linear,
    linear_preferences,
    mlp,
    networks,
    vjp,
)
from npgrad.networks import EPSILON, softplus

EPS = np.finfo(float).eps
SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from((np.float64, np.float32))
SMOOTH = ("tanh", "softplus", "identity")
KINDS = ("mlp", "one_hot", "second", "batch_norm", "preferences", "function", "own", "beside")
GROWTH = 2.0**13  # of rounding errors: three layers of W up to 3, 1/√var up to 10, both ways


def close(a, b, dtype=np.float64):
    """Each entry to a rounding error of the largest one, times GROWTH."""
    error = GROWTH * np.finfo(dtype).eps * max(1.0, np.abs(b).max(initial=0.0))
    np.testing.assert_allclose(a, b, rtol=0.0, atol=error)


def wide(x):
    """x in double precision, unless it holds integers."""
    return x.astype(float) if np.asarray(x).dtype.kind == "f" else x


class Own:
    """A user's model: no more than what a model must have."""

    def __init__(self, f):
        self.f, self.layout = f, f.layout

    def init(self, rng):
        return self.f.init(rng)

    def __call__(self, theta, x):
        return self.f(theta, x)


class Case(NamedTuple):
    """A model at θ, with inputs x and u (or None) and gradients g of k rows."""

    model: object
    theta: np.ndarray
    x: np.ndarray
    u: object
    g: np.ndarray
    minibatch: bool

    def inputs(self, rows=slice(None)):
        """Copies of these rows, as `forward` and the model take them."""
        inputs = {"x": self.x[rows].copy()}
        if self.u is not None:
            inputs["u"] = self.u[rows].copy()
        return inputs | ({"minibatch": True} if self.minibatch else {})

    def y(self, theta, rows=slice(None), **others):
        """The model in double precision. Running averages, which have no gradient, stay."""
        names = [self.model.layout.name_of(i) for i in range(self.theta.size)]
        stays = [name.startswith(("mean", "var")) for name in names]
        inputs = {name: wide(x) for name, x in self.inputs(rows).items()} | others
        return self.model(np.where(stays, wide(self.theta), theta), **inputs)

    def gradients(self, rows=slice(None)):
        """Σ (∂y/∂θ)ᵀ g over these rows, and (∂y/∂u)ᵀ g of each if there is u: by the tape."""
        u = [] if self.u is None else [wide(self.u[rows])]
        f = lambda theta, *u: self.y(theta, rows, **dict(zip("u", u)))
        return vjp(f, wide(self.theta), *u)[1](wide(self.g[rows]))


@st.composite
def mlps(draw, kind="mlp", n=None, m=None, activations=(*SMOOTH, "relu", "elu")):
    hidden = draw(st.lists(st.integers(1, 4), max_size=2))
    sizes = (n or draw(st.integers(1, 3)), *hidden, m or draw(st.integers(1, 3)))
    one_hot = kind == "one_hot" or (kind == "batch_norm" and draw(st.booleans()))
    first = 2 if one_hot else 1  # where u can enter
    possible = kind in ("second", "batch_norm", "one_hot") and first < len(sizes)
    second = draw(st.integers(int(kind == "second"), 2)) if possible else 0
    return mlp(
        sizes,
        draw(st.sampled_from(activations)),
        output=draw(st.sampled_from(("identity", "tanh"))),
        bias=draw(st.booleans()),
        one_hot=one_hot,
        second=second,
        at=draw(st.integers(first, len(sizes) - 1)) if second else 1,
        batch_norm=kind == "batch_norm",
    )


def parameters(rng, model):
    """θ anywhere it may be."""
    theta = 0.7 * rng.normal(size=model.layout.size)
    for name, view in model.layout.views(theta)._asdict().items():
        if name.startswith("var"):
            view[:] = 0.1 + np.abs(view)
    return theta


def near_kink(net):
    """Whether a relu or elu of the latest forward pass is within 1e-3 of its kink."""
    kinked = isinstance(net.model, mlp) and net.model.activation in ("relu", "elu")
    return kinked and any(np.abs(z).min() <= 1e-3 for z in net.z[:-1])


@st.composite
def cases(draw, kind, minibatch=None, dtypes=DTYPES):
    """A Case. No relu or elu is within 1e-3 of its kink, no minibatch's variance below 1/100."""
    k, dtype = draw(st.integers(1, 6)), draw(dtypes)
    rng = np.random.default_rng(draw(SEEDS))
    if kind == "preferences":
        A, d = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        arrays = rng.normal(size=d), rng.normal(size=(k, A, d)), rng.normal(size=(k, A))
        theta, x, g = (array.astype(dtype) for array in arrays)
        return Case(linear_preferences(d), theta, x, None, g, False)
    if kind in ("function", "own", "beside"):
        inner = "one_hot" if kind != "own" and draw(st.booleans()) else "mlp"
        model = draw(mlps(inner, activations=SMOOTH).filter(lambda model: not model.second))
        n, one_hot = model.sizes[0], model.one_hot
        if kind == "own":
            model = Own(model)
        elif kind == "function":
            model = from_function(model, model.layout, axes=model.axes)
        else:
            model = beside(model, mlp((n, 2, 1), one_hot=one_hot))
    else:
        model = draw(mlps(kind))
        n, one_hot = model.sizes[0], model.one_hot
    minibatch = kind == "batch_norm" and (draw(st.booleans()) if minibatch is None else minibatch)
    k = k + 2 if minibatch else k
    theta = parameters(rng, model).astype(dtype)
    x = rng.integers(n, size=k) if one_hot else rng.normal(size=(k, n)).astype(dtype)
    d = model.second if isinstance(model, mlp) else 0
    u = rng.normal(size=(k, d)).astype(dtype) if d else None
    m = model(wide(theta), x, *([u] if d else [])).shape[-1]
    case = Case(model, theta, x, u, rng.normal(size=(k, m)).astype(dtype), minibatch)
    if isinstance(model, mlp):
        net = at(model, wide(theta))
        net.forward(**case.inputs())
        assume(not near_kink(net))
        assume(not minibatch or all(norm.seen[1].min() > 0.01 for norm in net.norms if norm))
    return case


@st.composite
def pieces(draw, k):
    """Rows 0, ..., k − 1 in pieces: a number is one row alone."""
    found, row = [], 0
    while row < k:
        end = draw(st.integers(row + 1, k))
        found.append(row if end == row + 1 and draw(st.booleans()) else slice(row, end))
        row = end
    return found


# a network is its model


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_network__is_the_model_at_any_rows(kind, data):
    """Rows go forward alone or together; some are written again; memory grows; views are dropped.
    `backward` is of the first rows, as many as g has."""
    case = data.draw(cases(kind, minibatch=False))
    k, dtype = len(case.x), case.theta.dtype
    rows, seen = np.arange(k), np.arange(k)[::-1].copy()  # row i holds input seen[i]
    net, written = at(case.model, case.theta), data.draw(pieces(k))
    again = data.draw(st.lists(st.sampled_from(written), max_size=3))
    with mock.patch.object(networks, "MOST_VIEWS", data.draw(st.sampled_from((1, 1000)))):
        for i, piece in enumerate(written + again):
            if i >= len(written):
                seen[piece] = rows[piece]
            row = piece if isinstance(piece, int) else piece.start
            y = net.forward(**case.inputs(seen[piece]), row=row)
            assert y.dtype == dtype
            close(y, case.y(case.theta, seen[piece]), dtype)
        for j in (k, data.draw(st.integers(1, k))):
            close(net.outputs(j), case.y(case.theta, seen[:j]), dtype)
            close_gradients(net, case, seen[:j])


def close_gradients(net, case, rows=slice(None)):
    g, (d_theta, *d_u) = case.g[rows].copy(), case.gradients(rows)
    for _ in range(2):
        assert net.backward(g) is net.d_theta and net.d_theta.dtype == case.theta.dtype
        close(net.d_theta, d_theta, g.dtype)
        for d in d_u:
            close(net.backward_u(g), d, g.dtype)
    assert np.array_equal(g, case.g[rows])


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_network__backward_is_the_tapes(kind, data):
    """At parameters changed in place, after other passes, also where the inputs and what `forward`
    returned were changed since: nothing but d_theta is written."""
    case = data.draw(cases(kind))
    dtype, d_theta = case.theta.dtype, np.full_like(case.theta, np.nan)
    theta = np.abs(case.theta[::-1]) + dtype.type(0.1)
    net = at(case.model, theta, d_theta)
    net.forward(**case.inputs())
    net.backward(case.g + 1)[:] = np.nan
    theta[:] = case.theta
    inputs = case.inputs()
    y = net.forward(**inputs)
    close(y, case.y(case.theta), dtype)
    y[...] = np.nan
    for name in {"x", "u"} & inputs.keys():
        inputs[name][...] = 0
    close_gradients(net, case)
    assert net.d_theta is d_theta and np.array_equal(theta, case.theta)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_network__backward_is_the_numbers(kind, data):
    """Differences, and the complex step where every function is analytic."""
    case = data.draw(cases(kind, dtypes=st.just(np.float64)))

    def gradient(theta):
        net = at(case.model, theta)
        net.forward(**case.inputs())
        return net.backward(case.g)

    def gradient_u(u):
        net = at(case.model, case.theta)
        net.forward(**case.inputs() | {"u": u})
        return net.backward_u(case.g)

    f = lambda theta: np.sum(case.g * case.y(theta))
    of_u = lambda u: np.sum(case.g * case.y(case.theta, u=u))
    laws = [(f, gradient, case.theta)] + [(of_u, gradient_u, case.u)] * (case.u is not None)
    for f, explicit, x in laws:
        check_gradient(f, explicit, x, atol=GROWTH * EPS)
        if getattr(case.model, "activation", "tanh") in SMOOTH:
            close(explicit(x), complex_step(f, x))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_network__gradient_is_the_sum_over_the_rows(kind, data):
    """Of those of one row each, with its g (m,); backward_rows keeps them apart."""
    case = data.draw(cases(kind, minibatch=False))
    net, one, rows = at(case.model, case.theta), at(case.model, case.theta), []
    net.forward(**case.inputs())
    for i in range(len(case.x)):
        one.forward(**case.inputs(i))
        rows.append(one.backward(case.g[i]).copy())
    dtype, before = case.theta.dtype, net.backward(case.g).copy()
    close(before, np.sum(rows, 0), dtype)
    if getattr(net, "normed", False):
        with pytest.raises(ValueError, match="normalised"):
            net.backward_rows(case.g)
        return
    for k in (len(rows), data.draw(st.integers(1, len(rows)))):
        found = net.backward_rows(case.g[:k])
        assert found.dtype == dtype and np.array_equal(net.d_theta, before)
        close(found, np.array(rows[:k]), dtype)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_network__refuses_rows_and_shapes_that_do_not_fit(kind, data):
    """And is afterwards what it was before."""
    case = data.draw(cases(kind))
    net, g, inputs, k = at(case.model, case.theta), case.g, case.inputs(), len(case.x)
    x = inputs["x"]
    wider = x[:, None] if case.x.ndim == 1 else np.concatenate([x, x[..., :1]], -1)
    wrong = [{"x": wider, "row": row} for row in (0, k)]
    wrong += [{"x": x[:, None]}, {"x": x[0], "row": -1}, {"x": x, "row": -k}, {"row": k + 1}]
    if isinstance(case.model, mlp):
        d = case.model.second
        wrong += [{"u": None}] * bool(d)
        wrong += [{"u": np.ones(shape)} for shape in ((k, d + 1), (k + 1, d), (d + 1,))]
    bad = [np.concatenate([g, g[:1]]), np.concatenate([g, g[:, :1]], 1), g[:, 1:], g[..., None]]
    bad += (
        [g.ravel()] * (k > 1)
        + [g.T] * (k != len(g.T))
        + [g[:-1]] * (case.minibatch and bool(case.model.normed))
    )
    bad += [g + 0j, g.astype(str), np.array(1.0)]
    wrong += [{"x": x + 0j}, {"x": x.astype(str)}]
    wrong += [] if case.u is None else [{"u": case.u + 0j}]

    def refuses():
        for other in wrong:
            with pytest.raises((ValueError, TypeError), match=r"must |only|none|several|shape|dot"):
                net.forward(**inputs | other)

    refuses()
    with pytest.raises(ValueError):
        net.backward(g)
    net.forward(**inputs)
    before = net.backward(g).copy()
    refuses()
    for other in bad:
        with pytest.raises((ValueError, TypeError), match=r"must|only"):
            net.backward(other)
    for j in (-1, k + 1):
        with pytest.raises(ValueError, match="rows went forward"):
            net.outputs(j)
    assert np.array_equal(net.backward(g), before)


@given(mlps("one_hot"), st.integers(0, 3), SEEDS)
def test_one_hot__refuses_an_index_of_no_input(model, beyond, seed):
    """Negative ones are not counted from the end, numbers with a point are not cut off."""
    rng, n = np.random.default_rng(seed), model.sizes[0]
    theta, g = parameters(rng, model), rng.normal(size=(2, model.sizes[-1]))
    net, u = at(model, theta), np.zeros((2, model.second)) if model.second else None
    net.forward(rng.integers(n, size=2), u=u)
    before = net.backward(g).copy()
    for wrong in (-1 - beyond, n + beyond):
        for x, v in ((np.array([0, wrong]), u), (wrong, u if u is None else u[0])):
            for f in (net.forward, lambda x, u: model(theta, x, u)):
                with pytest.raises(IndexError, match=f"must be from 0 to {n - 1}"):
                    f(x, u=v)
    for x in (np.zeros(2), np.zeros(2, bool), 0.0):
        with pytest.raises(TypeError, match="must be integers"):
            net.forward(x, u=u)
    assert np.array_equal(net.backward(g), before)


@pytest.mark.parametrize("kind", KINDS[:4])
@given(data=st.data())
def test_mlp__broadcasts_none_of_its_inputs(kind, data):
    case = data.draw(cases(kind, dtypes=st.just(np.float64)))
    model, inputs, x, k = case.model, case.inputs(), case.x, len(case.x)
    x = np.eye(model.sizes[0])[x] if model.one_hot else x
    wrong = [{"x": x[..., :0]}, {"x": 1.0}, {"x": np.concatenate([x, x[:, :1]], 1)}]
    wrong += [{"x": x[..., :1]}] * (model.sizes[0] > 1) + [{"u": np.zeros((k, model.second + 1))}]
    if model.second:
        wrong += [{"u": None}, {"u": case.u[0]}, {"u": case.u[:, :1].T}] * (k > 1)
    wrong += [{"x": inputs["x"][0]}] * (case.minibatch and bool(model.normed))
    for other in wrong:
        with pytest.raises(ValueError, match="input of shape"):
            model(case.theta, **inputs | other)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), dtypes=st.permutations((np.float32, np.float64, np.int8)))
def test_network__mixes_precisions_as_the_tape_does(kind, data, dtypes):
    """θ of one, inputs and gradients of another, or integers: gradients have θ's."""
    case = data.draw(cases(kind, dtypes=st.just(np.float32)))
    theta_dtype, x_dtype, g_dtype = dtypes
    if theta_dtype is np.int8:
        with pytest.raises(TypeError, match="theta of int8: must be an array of float"):
            at(case.model, case.theta.astype(np.int8))
        return
    assume(not case.minibatch)  # integers might have no variance
    cast = lambda x, dtype: x if x.dtype.kind == "i" else (2 * x).astype(dtype)
    inputs = {name: cast(x, x_dtype) for name, x in case.inputs().items()}
    theta, g = case.theta.astype(theta_dtype), cast(case.g, g_dtype)
    net = at(case.model, theta)
    net.forward(**inputs)
    assume(not near_kink(net))  # integers may be 0
    back = {name: x.astype(getattr(case, name).dtype) for name, x in inputs.items()}
    case = case._replace(theta=theta, g=g.astype(float), **back)
    d_theta, *d_u = case.gradients()
    close(net.backward(g), d_theta, np.float32)
    assert net.d_theta.dtype == theta_dtype
    for d in d_u:
        close(net.backward_u(g), d, np.float32)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_at__refuses_other_parameters(kind, data):
    case = data.draw(cases(kind))
    model, theta = case.model, case.theta
    other = np.float32 if theta.dtype == float else np.float64
    for wrong in (theta.astype(int), theta + 0j, theta.tolist()):
        with pytest.raises(TypeError, match=r"^theta of .*: must be an array of floats$"):
            at(model, wrong)
    for wrong in (theta[:-1], theta[None], np.append(theta, theta[:1])):
        with pytest.raises(ValueError, match=r"^theta of shape .*: must be "):
            at(model, wrong)
    for wrong in (theta.astype(other), theta.astype(int), theta.tolist()):
        with pytest.raises(TypeError, match=r"^d_theta of .*: must be an array of float"):
            at(model, theta, wrong)
    for wrong in (theta, theta[::-1], theta[:-1].copy(), theta[None].copy()):
        with pytest.raises(ValueError, match=r"^d_theta "):
            at(model, theta, wrong)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), copied=st.sampled_from((copy.deepcopy, pickle.dumps)))
def test_network__a_copy_is_at_a_copy_of_theta(kind, data, copied):
    """Without rows. Neither sees what happens to the other."""
    case = data.draw(cases(kind))
    net = at(case.model, case.theta)
    net.forward(**case.inputs())
    before = net.backward(case.g).copy()
    other = copied((net, net.theta, case.model))
    other, theta, model = pickle.loads(other) if isinstance(other, bytes) else other
    with pytest.raises(ValueError, match="only 0 rows went forward"):
        other.backward(case.g)
    assert other.theta is theta and model.layout == case.model.layout
    theta *= 0.5
    halved = case._replace(theta=theta)
    close(other.forward(**case.inputs()), halved.y(theta), theta.dtype)
    close(other.backward(case.g), halved.gradients()[0], theta.dtype)
    close(net.backward(case.g), before, theta.dtype)
    assert np.array_equal(case.theta, 2 * theta)


SLOPES = {
    "tanh": lambda z: 4 * (-2 * abs(z)).exp() / (1 + (-2 * abs(z)).exp()) ** 2,
    "softplus": lambda z: 1 / (1 + (-z).exp()),
    "elu": lambda z: min(z, Decimal(0)).exp(),
}


@pytest.mark.parametrize("activation", [*SLOPES, "output"])
@given(st.lists(st.floats(-360, 360), min_size=1, max_size=3), DTYPES)
def test_slopes__are_exact_where_their_function_is_saturated(activation, z, dtype):
    """∂y/∂W¹ of x = 1 is f'(W¹), to a relative eps^0.6 at least: near its limit y says nothing of
    f'. Below the normal numbers, to the least of them."""
    info, z = np.finfo(dtype), np.array(z, dtype)
    if activation == "output":
        model = mlp((1, len(z)), output="tanh", bias=False)
        theta = z
    else:
        model = mlp((1, len(z), 1), activation, bias=False)
        theta = np.append(z, np.ones_like(z))
    net = at(model, theta)
    net.forward(np.ones((2, 1), dtype))
    d = net.backward(np.ones((2, model.sizes[-1]), dtype))[: len(z)] / 2
    with localcontext() as context:
        context.prec = 60
        f = SLOPES["tanh" if activation == "output" else activation]
        expected = [float(f(Decimal(float(each)))) for each in z]
    np.testing.assert_allclose(d, expected, rtol=4 * float(info.eps) ** 0.6, atol=float(info.tiny))


@given(st.permutations([np.intp, np.float32, np.float64]), SEEDS)
def test_network__keeps_inputs_of_every_dtype_as_they_are(dtypes, seed):
    """Whichever comes first."""
    rng = np.random.default_rng(seed)
    model = from_function(lambda theta, x: np.dot(x, theta.reshape(2, 3)), 6)
    X = [(9 * rng.normal(size=2)).astype(dtype) for dtype in dtypes]
    net, g = at(model, rng.normal(size=6)), rng.normal(size=(3, 3))
    for row, x in enumerate(X):
        net.forward(x, row)
    close(net.backward(g), sum(np.outer(x, one).ravel() for x, one in zip(X, g)))


# the actor's and the critic's network


@pytest.mark.parametrize("trunk", ("shared", "separate", "function"))
@given(data=st.data())
def test_actor_critic__is_its_model_along_a_rollout(trunk, data):
    """Of N environments, or one; with the last states behind it or without; θ moves in between."""
    n, m, N = (data.draw(st.integers(1, 3)) for _ in range(3))
    kind, dtype = data.draw(st.sampled_from(("mlp", "one_hot"))), data.draw(DTYPES)
    width = m if trunk == "separate" else m + 1
    drawn = mlps(kind, n, width, activations=SMOOTH).filter(lambda model: not model.second)
    model = data.draw(drawn)
    if trunk == "separate":
        model = beside(model, mlp((n, 2, 1), one_hot=model.one_hot))
    elif trunk == "function":
        model = from_function(model, model.layout, axes=model.axes)
    rng, alone = np.random.default_rng(data.draw(SEEDS)), N == 1 and data.draw(st.booleans())
    theta = 0.7 * rng.normal(size=model.layout.size).astype(dtype)
    net = ActorCritic(model, theta)
    for T in data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)):
        theta += 0.1 * rng.normal(size=theta.size).astype(dtype)
        k, more = T * N, data.draw(st.integers(0, N))
        S = rng.integers(n, size=k + more)
        S = S if kind == "one_hot" else rng.normal(size=(k + more, n)).astype(dtype)
        y, pullback = vjp(model, wide(theta), S[:k], argnums=0)
        for t in range(T):
            h = net.act(S[t] if alone else S[t * N : t * N + N], t * N)
            close(h, y[t, :m] if alone else y[t * N : t * N + N, :m], dtype)
        h, v = net.evaluate(S, k)
        assert h.shape == (k, m) and v.shape == (k + more,) and h.dtype == v.dtype == dtype
        close(h, y[:, :m], dtype)
        close(v, model(wide(theta), S)[:, m], dtype)
        g = rng.normal(size=y.shape).astype(dtype)
        given_g = g.copy()
        close(net.backward(g[:, :m], g[:, m]), pullback(wide(g)), dtype)
        assert np.array_equal(g, given_g)


@pytest.mark.parametrize("trunk", ("shared", "separate"))
@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), DTYPES)
def test_actor_critic__refuses_gradients_and_rows_that_do_not_fit(trunk, n, m, k, dtype):
    model = mlp((n, m + 1)) if trunk == "shared" else beside(mlp((n, m)), mlp((n, 1)))
    net = ActorCritic(model, np.ones(model.layout.size, dtype))
    S, g_h, g_v = np.ones((k + 1, n)), np.ones((k, m)), np.ones(k)
    net.act(S[:k])
    for rows, j in ((S[:-2], k), (S, -1), (S, k + 2), (S[:0], k)):
        with pytest.raises(ValueError, match=r"must be|rows"):
            net.evaluate(rows, j)
    net.evaluate(S, k)
    for wrong in ((g_h, np.ones(k + 1)), (g_h, g_v[:, None]), (g_h[0], g_v[0]), (g_h[:, :0], g_v)):
        with pytest.raises(ValueError, match="must be"):
            net.backward(*wrong)
    other = pickle.loads(pickle.dumps(net))
    other.theta[:] = 0.0
    assert not other.act(S).any() and net.act(S).all()


# the models


FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda z: z * (z > 0),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "elu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
    "identity": lambda z: z,
}


def composed(model, theta, x, u=None, minibatch=False):
    """(y, {k: (mean, var) of a normalised layer}), layer by layer."""
    x = np.eye(model.sizes[0])[x] if model.one_hot else x
    p, seen = model.layout.views(theta)._asdict(), {}

    def normal(k, z):
        if f"gain{k}" in p:
            seen[k] = z.mean(0), ((z - z.mean(0)) ** 2).mean(0)
            mean, var = seen[k] if minibatch else (p[f"mean{k}"], p[f"var{k}"])
            z = p[f"gain{k}"] * (z - mean) / np.sqrt(var + 1e-5)
        return z + p.get(f"b{k}", 0.0)

    x = normal(0, x)
    for k in range(1, model.depth + 1):
        x = np.concatenate([x, u], -1) if model.second and k == model.at else x
        x = normal(k, x @ p[f"W{k}"])
        x = FUNCTIONS[model.activation](x) if k < model.depth else x
    return (np.tanh(x) if model.output == "tanh" else x), seen


@pytest.mark.parametrize("kind", KINDS[:4])
@given(data=st.data())
def test_mlp__is_the_composition_of_its_layers(kind, data):
    """At inputs of any rank; integers stand for one-hot vectors."""
    case = data.draw(cases(kind, dtypes=st.just(np.float64)))
    model, theta, inputs = case.model, case.theta, case.inputs()
    y = model(theta, **inputs)
    close(y, composed(model, theta, **inputs)[0])
    if model.one_hot:
        close(model(theta, **inputs | {"x": np.eye(model.sizes[0])[inputs["x"]]}), y)
    if not case.minibatch:
        assert np.array_equal(model(theta, **case.inputs(0)).shape, y.shape[1:])
        close(model(theta, **case.inputs(0)), y[0])
        raised = {name: x.reshape(1, len(y), 1, *x.shape[1:]) for name, x in case.inputs().items()}
        close(model(theta, **raised)[0, :, 0], y)


@pytest.mark.parametrize("kind", KINDS[:4])
@given(data=st.data())
def test_mlp__starts_within_its_bounds(kind, data):
    """1/√fan_in, or `last` in the last layer; normalised layers at gain 1, the rest of them 0."""
    model, last = data.draw(mlps(kind)), data.draw(st.sampled_from((None, 0.0, 3e-3)))
    model.last = last
    p = model.layout.views(model.init(np.random.default_rng(data.draw(SEEDS))))._asdict()
    end = model.at if model.second else model.depth
    normed = range(int(model.one_hot), end if kind == "batch_norm" else 0)
    assert [name for name in p if "gain" in name] == [f"gain{k}" for k in normed]
    for name, view in p.items():
        if name[0] in "Wb" and f"gain{name[1:]}" not in p:
            k = int(name[1:])
            bound = 1 / np.sqrt(len(p[f"W{k}"]))
            bound = last if k == model.depth and last is not None else bound
            assert np.abs(view).max() <= bound
        elif name[0] != "W":
            assert (view == (1.0 if name[:-1] in ("gain", "var") else 0.0)).all()


def test_mlp__start_fills_its_range():
    model = mlp((50, 40, 30, 1), second=10, at=2, last=3e-3)
    p = model.layout.views(model.init(np.random.default_rng(0)))
    for W, b, bound in ((p.W1, p.b1, 50**-0.5), (p.W2, p.b2, 50**-0.5), (p.W3, p.b3, 3e-3)):
        assert 0.9 * bound < np.abs(W).max() <= bound
        assert abs(W.std() / bound - 3**-0.5) < 0.1 and np.abs(b).max() <= bound


@pytest.mark.parametrize("kind", KINDS[:4])
@given(data=st.data())
def test_weights__are_all_the_matrices_and_nothing_else(kind, data):
    model = data.draw(mlps(kind))
    theta = np.zeros(model.layout.size)
    for W in model.weights(theta):
        W[:] = 1.0
    names = [model.layout.name_of(i) for i in range(theta.size)]
    assert theta.tolist() == [float(name.startswith("W")) for name in names]


@given(st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_linear__is_a_matrix_product_that_starts_at_zero(n, m, seed):
    rng, model = np.random.default_rng(seed), linear(n, m)
    assert not model.init(rng).any()
    theta, x = rng.normal(size=model.layout.size), rng.normal(size=(3, n))
    p = model.layout.views(theta)
    close(model(theta, x), x @ p.W1 + p.b1)
    table = linear(n, m, bias=False, one_hot=True)
    assert np.array_equal(table(theta[: n * m], np.arange(n)), p.W1)


@given(SEEDS, st.integers(2, 4), st.integers(1, 4))
def test_linear_preferences__softmax_score_is_features_minus_their_mean(seed, A, d):
    """Sutton & Barto (13.9): ∇ln π(a) = x(a) − Σ_b π(b) x(b)."""
    rng, model = np.random.default_rng(seed), linear_preferences(d)
    assert not model.init(rng).any()
    theta, x = rng.normal(size=d), rng.normal(size=(A, d))
    net = at(model, theta)
    pi = Softmax(net.forward(x))
    for a in range(A):
        close(net.backward(pi.score(a)), x[a] - pi.probs() @ x)


@given(mlps(), SEEDS)
def test_beside__is_two_models_of_one_input(one, seed):
    """It starts as they do, and each sees its own part of θ and of g."""
    two, rng = mlp((one.sizes[0], 2, 3)), np.random.default_rng(seed)
    model, n = beside(one, two), one.layout.size
    again = np.random.default_rng(seed)
    assert np.array_equal(model.init(rng), [*one.init(again), *two.init(again)])
    theta, x = rng.normal(size=model.layout.size), rng.normal(size=(4, one.sizes[0]))
    nets = at(model, theta), at(one, theta[:n]), at(two, theta[n:])
    y, *both = (net.forward(x) for net in nets)
    close(y, np.concatenate(both, 1))
    g = rng.normal(size=y.shape)
    m = one.sizes[-1]
    parts = nets[1].backward(g[:, :m]), nets[2].backward(g[:, m:])
    close(nets[0].backward(g), np.concatenate(parts))


def test_beside__refuses_models_of_different_inputs():
    with pytest.raises(ValueError, match="inputs of both must have 0 axes"):
        beside(linear(2, 1, one_hot=True), linear(2, 1))


def test_linear_preferences__refuse_features_that_are_none():
    model = linear_preferences(3)
    for theta, x in ((np.ones(3), 2.0), (np.ones(3), np.ones(3)), (np.ones(1), np.ones((4, 3)))):
        with pytest.raises(ValueError, match=r"must be|needs"):
            model(theta, x)


def test_beside__takes_models_that_do_not_state_their_axes():
    one = Own(mlp((2, 3)))
    assert at(beside(one, one), np.zeros(18)).forward(np.zeros((4, 2))).shape == (4, 6)


def test_from_function__starts_at_zero_or_as_told():
    f = lambda theta, x: x
    for layout in (3, Layout(v=(3,))):
        assert np.array_equal(from_function(f, layout).init(None), np.zeros(3))
    assert from_function(f, 3, init=lambda rng: "start").init(None) == "start"


@given(st.floats(-1e3, 1e3))
def test_softplus__is_exact_on_both_sides(x):
    expected = x + np.log1p(np.exp(-x)) if x > 0 else np.log1p(np.exp(x))
    assert abs(softplus(x) - expected) <= 4 * EPS * abs(expected)


@pytest.mark.parametrize(
    "options, match",
    [(dict(sizes=(3,)), "sizes"), (dict(sizes=(3, 0, 1)), "sizes"), (dict(at=3), "at = 3"),
     (dict(sizes=(2.5, 1)), "sizes = "), (dict(sizes=(3, True)), "sizes = "),
     (dict(sizes=3), "sizes = "), (dict(at=1.0), "at = 1.0"), (dict(second=1.5), "second = 1.5"),
     (dict(at=0), "at = 0"), (dict(activation="sin"), "activation = 'sin'"),
     (dict(output="relu"), "output = 'relu'"), (dict(second=-1), "second = -1"),
     (dict(one_hot=True, second=1, at=1), "at = 1")],
)  # fmt: skip
def test_mlp__names_what_is_wrong(options, match):
    with pytest.raises(ValueError, match=match):
        mlp(**dict(sizes=(2, 4, 1)) | options)
    with pytest.raises(ValueError, match="parameters of shape"):
        mlp((3, 1))(np.zeros(3), np.zeros(3))


# batch normalisation


NORMALISED = cases("batch_norm", dtypes=st.just(np.float64))
MINIBATCHES = cases("batch_norm", minibatch=True, dtypes=st.just(np.float64))


@given(st.integers(1, 3), st.floats(0.5, 2), st.floats(-3, 3), SEEDS)
def test_minibatch__forgets_scale_and_shift_of_the_states(n, scale, shift, seed):
    """x⁰ has mean b and variance gain² var/(var + ε), whatever x is: for columns of variance
    above 1/100, a scale changes it by a relative ε/(2·0.01·scale²) at most. Only x⁰ of a network
    without hidden layers is looked at: further ones may have columns without variance."""
    rng, model = np.random.default_rng(seed), mlp((n, 1), batch_norm=True)
    theta, x = parameters(rng, model), rng.normal(size=(8, n))
    x[0], x[1] = 1.0, -1.0
    y, y2 = (model(theta, z, minibatch=True) for z in (x, scale * x + shift))
    size = np.abs(theta).sum() ** 2 * np.sqrt(8)
    np.testing.assert_allclose(y2, y, rtol=0, atol=size * 4 * EPSILON / (2 * 0.01) + 1e-10)


@given(MINIBATCHES, st.floats(0, 1), st.integers(1, 4))
def test_track__is_a_moving_average_of_the_minibatches(case, decay, k):
    """k times the same one: average = last + decayᵏ (first − last); all else in θ stays. Passes
    with running averages do not count."""
    model, theta = case.model, case.theta.copy()
    net, p, first = (
        at(model, theta),
        *(model.layout.views(x)._asdict() for x in (theta, case.theta)),
    )
    _, seen = composed(model, case.theta, **case.inputs())
    for _ in range(k):
        net.forward(**case.inputs())
        net.forward(**case.inputs(slice(1)) | {"minibatch": False})
        net.track(decay)
    for k_th, pair in seen.items():
        for name, last in zip(("mean", "var"), pair):
            before = first.pop(f"{name}{k_th}")
            close(p[f"{name}{k_th}"], last + decay**k * (before - last))
    assert all(np.array_equal(p[name], before) for name, before in first.items())


@given(MINIBATCHES)
def test_track__makes_running_averages_meet_the_minibatch(case):
    """decay = 0 takes this batch's numbers: both ways of normalising agree on it."""
    net = at(case.model, case.theta)
    y = net.forward(**case.inputs()).copy()
    net.track(0.0)
    close(net.forward(**case.inputs() | {"minibatch": False}), y)


@given(NORMALISED)
def test_backward__leaves_running_averages_alone(case):
    net = at(case.model, case.theta, np.full_like(case.theta, np.nan))
    net.forward(**case.inputs())
    d = case.model.layout.views(net.backward(case.g))._asdict()
    assert not any(view.any() for name, view in d.items() if name.startswith(("mean", "var")))


@given(cases("second"), st.floats(0, 1))
def test_track__does_nothing_without_normalisation(case, decay):
    net, before = at(case.model, case.theta), case.theta.copy()
    net.forward(**case.inputs())
    net.track(decay)
    assert np.array_equal(case.theta, before)


@given(MINIBATCHES)
def test_minibatch__rows_share_no_second_input(case):
    """u enters after every normalisation: y_i depends on u_i alone."""
    assume(case.u is not None)
    u = case.u.copy()
    u[1:] += 1.0
    y, y2 = (case.y(case.theta, u=each) for each in (case.u, u))
    assert np.array_equal(y[0], y2[0])


def test_minibatch__is_not_one_input_alone():
    model = mlp((3, 1), batch_norm=True)
    theta = model.init(np.random.default_rng(0))
    for x in (np.zeros(3), np.zeros((2, 4, 3))):
        with pytest.raises(ValueError, match=r"minibatch|must be"):
            at(model, theta).forward(x, minibatch=True)
        with pytest.raises(ValueError, match="minibatch"):
            model(theta, x, minibatch=True)


@given(MINIBATCHES, st.integers(0, 2), st.integers(1, 3))
def test_minibatch__goes_back_as_it_went_forward(case, more, fewer):
    """All its rows, and no others: rows before it and, once others follow, its own are gone."""
    model, k = case.model, len(case.x)
    assume(model.normed)
    net, inputs = at(model, case.theta), case.inputs() | {"minibatch": False}
    net.forward(**inputs)
    with pytest.raises(ValueError, match="row = "):
        net.forward(**case.inputs(), row=k)
    for _ in range(more):
        net.forward(**inputs, row=net.filled)
    net.forward(**case.inputs())
    for g in (case.g[: max(1, k - fewer)], np.concatenate([case.g, case.g[:fewer]])):
        with pytest.raises(ValueError, match="rows"):
            net.backward(g)
    close(net.backward(case.g), case.gradients()[0])
    with pytest.raises(ValueError, match="row = "):
        net.forward(**inputs, row=k)
    rest = case._replace(minibatch=False)
    net.forward(**rest.inputs(slice(1)))
    with pytest.raises(ValueError, match="only 1 rows"):
        net.backward(case.g)
    with pytest.raises(ValueError, match="row = "):
        net.forward(**inputs, row=2)
    close(net.backward(case.g[:1]), rest.gradients(slice(1))[0])


def test_from_function__learns_what_the_model_says():
    """Not what it was compiled from."""
    theta, x = np.linspace(-1.0, 1.0, 6), np.ones((4, 3))
    f = compiled(lambda theta, x: np.tanh(x @ theta.reshape(3, 2)))

    class Scaled(from_function):
        def __call__(self, theta, x):
            return 10 * super().__call__(theta, x)

    @functools.wraps(f)
    def wrapped(theta, x):
        return 3 * f(theta, x)

    for model in (Scaled(f, 6), from_function(wrapped, 6), from_function(f, 6)):
        net = at(model, theta)
        assert np.array_equal(net.forward(x), model(theta, x))
        assert np.allclose(
            net.backward(np.ones((4, 2))), vjp(model, theta, x)[1](np.ones((4, 2)))[0]
        )


def test_network__a_refused_row_leaves_its_memory():
    def f(theta, x):
        y = np.tanh(x @ theta.reshape(3, 2))
        return np.concatenate([y, y], -1) if len(x) == 5 else y

    theta, x = np.linspace(-1.0, 1.0, 6), np.random.default_rng(0).normal(size=(5, 3))
    net = at(from_function(f, 6), theta)
    net.forward(x[:2])
    with pytest.raises(ValueError):
        net.forward(x)
    net.forward(x[2:4])
    expected = vjp(f, theta, x[2:4])[1](np.ones((2, 2)))[0]
    assert np.array_equal(net.backward(np.ones((2, 2))), expected)


def test_network__rows_of_two_precisions_need_no_more_memory():
    net = at(from_function(lambda theta, x: x * theta, 3), np.ones(3))
    for row in range(30):
        net.forward(np.ones(3, (np.float32, float)[row % 2]), row)
    assert len(net.x) <= 64
