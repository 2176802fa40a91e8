"""A model along a rollout gives the numbers of the model and of its vjp."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npgrad import from_function, mlp
from npgrad.models import ACTIVATIONS
from npgrad.rows import rows

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from((np.float64, np.float32))
CLOSE = {np.float64: dict(rtol=1e-10, atol=1e-12), np.float32: dict(rtol=1e-3, atol=1e-4)}


@st.composite
def rollouts(draw):
    """(model, θ, steps, width, rng, tolerance): rows are drawn from rng. Some are so many that they
    are taken in blocks."""
    sizes, width = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)), st.integers(1, 3)
    if draw(st.sampled_from((False, False, False, True))):
        sizes, width = (2, 100, 100, 3), st.integers(50, 70)
    model = mlp(sizes, draw(st.sampled_from(sorted(ACTIVATIONS))), bias=draw(st.booleans()))
    rng, dtype = np.random.default_rng(draw(SEEDS)), draw(DTYPES)
    if model.activation == "relu":  # whose kink single and double precision may round apart
        dtype = np.float64
    theta = rng.normal(size=model.layout.size).astype(dtype)
    theta /= max(sizes) ** 0.5
    return model, theta, draw(st.integers(1, 4)), draw(width), rng, CLOSE[dtype]


def inputs(rng, model, width):
    """One row's, as the environment would give it."""
    return rng.normal(size=(width, model.sizes[0])[width == 1 :])


def anything(model):
    """The same function, as one of which nothing is known."""
    return from_function(lambda theta, x: model(theta, x), model.layout)


@given(rollouts(), st.booleans(), st.data())
def test_rows__are_the_model_and_its_vjp_in_one_rollout_after_another(rollout, known, data):
    """Of every length k, with θ changed in place between; g and the inputs are left alone."""
    model, theta, steps, width, rng, close = rollout
    d_theta = np.full_like(theta, np.nan)
    along = rows(model if known else anything(model), theta, d_theta, steps, width)
    for k in data.draw(st.lists(st.integers(1, steps), min_size=1, max_size=3)):
        theta += (0.01 + theta.std()) * rng.normal(size=theta.size).astype(theta.dtype)
        X = [inputs(rng, model, width) for _ in range(k)]
        before = [x.copy() for x in X]
        Y = [along.forward(t, x).copy() for t, x in enumerate(X)]
        flat = np.reshape(X, (-1, model.sizes[0]))
        y, pullback = model.vjp(theta.astype(float), flat)
        assert np.shape(Y) == np.shape(X)[:-1] + model.sizes[-1:]
        np.testing.assert_allclose(np.reshape(Y, y.shape), y, **close)
        assert np.array_equal(along.outputs(k), np.reshape(Y, y.shape))
        assert np.array_equal(along.seen(k), flat.astype(theta.dtype))
        g = rng.normal(size=y.shape).astype(theta.dtype)
        given_g = g.copy()
        assert along.backward(g, k) is d_theta
        np.testing.assert_allclose(d_theta, pullback(g.astype(float))[0], **close)
        np.testing.assert_allclose(along.forward_all(k), y, **close)
        np.testing.assert_allclose(along.backward(g, k), pullback(g.astype(float))[0], **close)
        assert np.array_equal(g, given_g) and all(map(np.array_equal, X, before))


@given(rollouts(), st.integers(1, 3), st.booleans(), st.booleans())
def test_rows__can_share_anothers_inputs(rollout, m, known, other_known):
    """Of which the other has only to be told."""
    model, theta, steps, width, rng, close = rollout
    other = mlp((model.sizes[0], 3, m), model.activation, bias=model.bias)
    weights = rng.normal(size=other.layout.size).astype(theta.dtype)
    first = rows(model if known else anything(model), theta, np.empty_like(theta), steps, width)
    second = other if other_known else anything(other)
    second = rows(second, weights, np.empty_like(weights), steps, width, inputs=first)
    X = [inputs(rng, model, width) for _ in range(steps)]
    for t, x in enumerate(X):
        first.see(t, x)
    flat = np.reshape(X, (-1, model.sizes[0]))
    for along, net, p in ((first, model, theta), (second, other, weights)):
        y, pullback = net.vjp(p.astype(float), flat)
        np.testing.assert_allclose(along.forward_all(steps), y, **close)
        g = np.ones_like(y, p.dtype)
        np.testing.assert_allclose(along.backward(g, steps), pullback(g.astype(float))[0], **close)
