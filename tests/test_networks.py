"""Networks with a second input and batch normalisation: backward passes, reductions, averages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgrad import check_gradient, mlp, vjp
from npgrad.networks import EPSILON, Batch, network

SEEDS = st.integers(0, 2**32 - 1)
SMOOTH = st.sampled_from(("tanh", "softplus", "identity"))
ACTIVATIONS = SMOOTH | st.sampled_from(("relu", "elu"))


@st.composite
def networks(draw, activations=ACTIVATIONS, second=None, batch_norm=None):
    hidden = draw(st.lists(st.integers(1, 4), min_size=0, max_size=3))
    sizes = (draw(st.integers(1, 3)), *hidden, draw(st.integers(1, 2)))
    return network(
        sizes,
        second=draw(st.integers(0, 2) if second is None else second),
        at=draw(st.integers(1, len(sizes) - 1)),
        activation=draw(activations),
        output=draw(st.sampled_from(("identity", "tanh"))),
        batch_norm=draw(st.booleans() if batch_norm is None else batch_norm),
    )


def data(model, seed, N=5):
    """θ anywhere it may be, x, u and a cotangent."""
    rng = np.random.default_rng(seed)
    theta = 0.7 * rng.normal(size=model.layout.size)
    for _, _, _, _, var in model.layers(theta):
        if var is not None:
            var[:] = 0.1 + np.abs(var)
    shapes = model.sizes[0], model.second, model.sizes[-1]
    x, u, g = (rng.normal(size=(N, m)) for m in shapes)
    return theta, x, (u if model.second else None), g


@given(networks(), st.booleans(), SEEDS)
def test_batch__forward_is_the_model(model, running, seed):
    theta, x, u, _ = data(model, seed)
    batch, before = Batch(model, len(x), float), theta.copy()
    expected = model(theta, x, u, minibatch=not running)
    np.testing.assert_allclose(batch.forward(theta, x, u, running), expected, atol=1e-11)
    assert np.array_equal(theta, before)
    if running:
        one = model(theta, x[0], None if u is None else u[0])
        np.testing.assert_allclose(one, expected[0], atol=1e-12)


@given(networks(), SEEDS)
def test_batch__backward_is_the_tapes(model, seed):
    """Both pullbacks, after several passes: nothing of an earlier one is left over."""
    theta, x, u, g = data(model, seed)
    batch = Batch(model, len(x), float)
    batch.forward(theta[::-1].copy() ** 2 + 0.1, -x, u)
    batch.gradient(g + 1.0)[:] = np.nan  # callers may use the memory up
    batch.forward(theta, x, u)
    given_g = g.copy()
    _, pullback = vjp(batch, theta, x) if u is None else vjp(batch, theta, x, u)
    d_theta, _, *d_u = pullback(g)
    for _ in range(2):
        close = dict(rtol=1e-8, atol=1e-9 * (1 + np.abs(d_theta).max()))
        np.testing.assert_allclose(batch.gradient(g), d_theta, **close)
        if u is not None:
            np.testing.assert_allclose(batch.gradient_u(g), d_u[0], atol=1e-10)
    assert np.array_equal(g, given_g)


@given(networks(SMOOTH), SEEDS)
def test_batch__backward_is_the_numbers(model, seed):
    theta, x, u, g = data(model, seed)
    batch = Batch(model, len(x), float)

    def gradient(theta):
        batch.forward(theta, x, u)
        return batch.gradient(g).copy()

    def gradient_u(u):
        batch.forward(theta, x, u)
        return batch.gradient_u(g).copy()

    # a nearly constant column is divided by √1e-5: rounding errors grow 300-fold per layer
    loose = dict(rtol=1e-6, atol=1e-8) if model.normed else {}
    f = lambda theta: np.sum(g * batch(theta, x, u))
    check_gradient(f, gradient, theta, layout=model.layout, **loose)
    if u is not None:
        check_gradient(lambda u: np.sum(g * batch(theta, x, u)), gradient_u, u, **loose)


@given(networks(second=st.just(0), batch_norm=st.just(False)), SEEDS)
def test_network__without_u_and_normalisation_is_an_mlp(model, seed):
    theta, x, _, _ = data(model, seed)
    plain = mlp(model.sizes, model.activation)
    layers = model.layers(theta)[1:]
    arrays = {f"{name}{k}": layer["Wb".index(name)] for k, layer in enumerate(layers, 1)
              for name in "Wb"}  # fmt: skip
    y = plain(plain.layout.flatten(**arrays), x)
    expected = np.tanh(y) if model.output == "tanh" else y
    np.testing.assert_allclose(model(theta, x), expected, atol=1e-12)


@given(networks(batch_norm=st.just(False)), SEEDS)
def test_batch__in_single_precision_is_double_to_rounding(model, seed):
    theta, x, u, g = data(model, seed)
    double, single = Batch(model, len(x), float), Batch(model, len(x), np.float32)
    theta32 = theta.astype(np.float32)
    y, y32 = double.forward(theta32.astype(float), x, u), single.forward(theta32, x, u)
    assert y32.dtype == np.float32 and single.gradient(g).dtype == np.float32
    np.testing.assert_allclose(y32, y, rtol=1e-3, atol=1e-4)


@given(networks(), SEEDS)
def test_batch__sees_changes_of_theta_in_place(model, seed):
    theta, x, u, _ = data(model, seed)
    batch = Batch(model, len(x), float)
    batch.forward(theta, x, u)
    theta *= 1.25
    np.testing.assert_allclose(
        batch.forward(theta, x, u), model(theta, x, u, minibatch=True), atol=1e-11
    )


# batch normalisation


@given(networks(batch_norm=st.just(True)), st.floats(0.5, 2), st.floats(-3, 3), SEEDS)
def test_minibatch__forgets_scale_and_shift_of_the_states(model, scale, shift, seed):
    """x⁰ has mean b and variance gain² var/(var + ε), whatever x is: for columns of variance
    above 1/100, a scale changes it by a relative ε/(2·0.01·scale²) at most. Only x⁰ of a network
    without hidden layers is looked at: further ones may have columns without variance."""
    model = network((model.sizes[0], 1), batch_norm=True)
    theta, x, _, _ = data(model, seed, N=8)
    x[0], x[1] = 1.0, -1.0
    y, y2 = (model(theta, z, minibatch=True) for z in (x, scale * x + shift))
    size = np.abs(theta).sum() ** 2 * np.sqrt(8)
    np.testing.assert_allclose(y2, y, atol=size * 4 * EPSILON / (2 * 0.01) + 1e-10)


@given(networks(batch_norm=st.just(True)), st.floats(0, 1), st.integers(1, 4), SEEDS)
def test_track__is_a_moving_average_of_the_minibatch(model, decay, k, seed):
    """k times the same batch: average = last + decayᵏ (first − last); all else in θ stays."""
    theta, x, u, _ = data(model, seed)
    first, batch = theta.copy(), Batch(model, len(x), float)
    for _ in range(k):
        batch.track(theta, x, u, decay)
    _, _, _, mean, var = model.layers(theta)[0]
    _, _, _, mean0, var0 = model.layers(first)[0]
    np.testing.assert_allclose(mean, x.mean(0) + decay**k * (mean0 - x.mean(0)), atol=1e-12)
    np.testing.assert_allclose(var, x.var(0) + decay**k * (var0 - x.var(0)), atol=1e-12)
    for after, before in zip(model.layers(theta), model.layers(first)):
        for same, other in zip(after[:3], before[:3]):
            assert same is None or np.array_equal(same, other)


@given(networks(batch_norm=st.just(True)), SEEDS)
def test_track__makes_running_averages_meet_the_minibatch(model, seed):
    """decay = 0 takes this batch's numbers: both ways of normalising agree on it."""
    theta, x, u, _ = data(model, seed)
    batch = Batch(model, len(x), float)
    batch.track(theta, x, u, 0.0)
    expected = model(theta, x, u, minibatch=True)
    np.testing.assert_allclose(batch.forward(theta, x, u, running=True), expected, atol=1e-8)


@given(networks(), SEEDS)
def test_track__does_nothing_without_normalisation(model, seed):
    theta, x, u, g = data(model, seed)
    before, batch = theta.copy(), Batch(model, len(x), float)
    batch.track(theta, x, u, 0.5)
    assert np.array_equal(theta, before) == (len(model.normed) == 0)
    batch.forward(theta, x, u)
    d = model.layers(batch.gradient(g))
    assert all(not np.any(mean) and not np.any(var) for *_, mean, var in d if mean is not None)


@given(networks(second=st.integers(1, 2), batch_norm=st.just(True)), SEEDS)
def test_minibatch__rows_share_no_action(model, seed):
    """u joins after every normalisation: y_i depends on u_i alone."""
    theta, x, u, _ = data(model, seed)
    y, u2 = model(theta, x, u, minibatch=True), u.copy()
    u2[1:] += 1.0
    assert np.array_equal(model(theta, x, u2, minibatch=True)[0], y[0])


# the start, and what is refused


@given(networks(), SEEDS)
def test_init__is_the_papers(model, seed):
    theta = model.init(np.random.default_rng(seed))
    for k, (W, b, gain, mean, var) in enumerate(model.layers(theta)):
        if W is not None:
            bound = 3e-3 if k == model.depth else 1 / np.sqrt(len(W))
            assert np.abs(W).max() <= bound
            assert gain is not None or np.abs(b).max() <= bound
        if gain is not None:
            assert (gain == 1).all() and not b.any() and not mean.any() and (var == 1).all()


def test_init__fills_its_range():
    model = network((50, 40, 30, 1), second=10, at=2)
    layers = model.layers(model.init(np.random.default_rng(0)))
    for k, bound in ((1, 50**-0.5), (2, 50**-0.5), (3, 3e-3)):
        W, b, *_ = layers[k]
        assert 0.9 * bound < np.abs(W).max() <= bound
        assert abs(W.std() / bound - 3**-0.5) < 0.1 and np.abs(b).max() <= bound


@given(networks())
def test_weights__are_all_the_matrices_and_nothing_else(model):
    theta = np.zeros(model.layout.size)
    model.weights(theta)[:] = 1.0
    names = {model.layout.name_of(i)[0] for i in np.flatnonzero(theta)}
    rest = {model.layout.name_of(i)[0] for i in np.flatnonzero(theta == 0)}
    assert names == {"W"} and "W" not in rest


@pytest.mark.parametrize(
    "options",
    [dict(sizes=(3,)), dict(sizes=(3, 0, 1)), dict(at=3), dict(at=0), dict(activation="step"),
     dict(output="relu")],
)  # fmt: skip
def test_network__names_what_is_wrong(options):
    with pytest.raises(ValueError, match=r"sizes, at|activation, output"):
        network(**dict(sizes=(2, 4, 1)) | options)
