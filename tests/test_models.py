"""Hand-written backward passes: explicit = tape = complex step or differences."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import npgrad
from npgrad import Layout, beside, check_gradient, from_function, linear, linear_preferences, mlp
from npgrad.models import ACTIVATIONS, softplus

EPS = np.finfo(float).eps
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def networks(draw):
    """(model, θ, x, g): batches of any rank; no relu or elu within 1e-3 of its kink."""
    activation = draw(st.sampled_from(sorted(ACTIVATIONS)))
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    model = mlp(sizes, activation, bias=draw(st.booleans()))
    rng = np.random.default_rng(draw(SEEDS))
    theta = rng.normal(size=model.layout.size)
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    x = rng.normal(size=(*batch, sizes[0]))
    if activation in ("relu", "elu"):
        h = x
        for W, b in model._layers(theta)[:-1]:
            before = h @ W + b
            assume(np.abs(before).min() > 1e-3)
            h = ACTIVATIONS[activation][0](before)
    return model, theta, x, rng.normal(size=(*batch, sizes[-1]))


@given(networks())
def test_mlp__backward_is_the_tapes_and_the_numbers(network):
    model, theta, x, g = network
    before = theta.copy(), x.copy(), g.copy()
    y, pullback = model.vjp(theta, x)
    explicit = pullback(g)
    assert all(np.array_equal(a, b) for a, b in zip(before, (theta, x, g)))
    np.testing.assert_allclose(y, model(theta, x), rtol=1e-12, atol=1e-12)
    for a, b in zip(explicit, npgrad.vjp(model, theta, x)[1](g)):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    check_gradient(
        lambda theta, x: np.sum(g * model(theta, x)),
        lambda theta, x: model.vjp(theta, x)[1](g),
        *(theta, x),
        argnums=(0, 1),
    )


@given(networks())
def test_mlp__is_the_composition_of_its_layers(network):
    model, theta, x, _ = network
    p = model.layout.views(theta)._asdict()
    f = {
        "tanh": np.tanh,
        "relu": lambda h: h * (h > 0),
        "softplus": lambda h: np.log(1 + np.exp(h)),
        "elu": lambda h: np.where(h > 0, h, np.exp(np.minimum(h, 0)) - 1),
        "identity": lambda h: h,
    }[model.activation]
    y = x
    for k in range(1, len(model.sizes)):
        y = y @ p[f"W{k}"] + (p[f"b{k}"] if model.bias else 0.0)
        y = f(y) if k < len(model.sizes) - 1 else y
    np.testing.assert_allclose(model(theta, x), y, rtol=1e-10, atol=1e-12)


@given(networks())
def test_mlp__gradient_is_the_sum_over_the_batch(network):
    model, theta, x, g = network
    d_theta, d_x = model.vjp(theta, x)[1](g)
    rows = list(zip(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])))
    single = [model.vjp(theta, one_x)[1](one_g) for one_x, one_g in rows]
    np.testing.assert_allclose(d_theta, sum(s[0] for s in single), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        d_x.reshape(-1, x.shape[-1]), [s[1] for s in single], rtol=1e-10, atol=1e-12
    )


@given(networks())
def test_mlp__out_receives_the_same_gradient(network):
    model, theta, x, g = network
    expected, _ = model.vjp(theta, x)[1](g)
    out = np.full_like(theta, np.nan)
    assert model.vjp(theta, x)[1](g, out)[0] is out
    assert np.array_equal(out, expected)


@given(st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_linear__is_a_matrix_product_that_starts_at_zero(n, m, seed):
    rng = np.random.default_rng(seed)
    model = linear(n, m)
    assert not model.init(rng).any()
    theta, x = rng.normal(size=model.layout.size), rng.normal(size=(3, n))
    p = model.layout.views(theta)
    np.testing.assert_allclose(model(theta, x), x @ p.W1 + p.b1, rtol=1e-13)
    assert linear(n, m, bias=False).layout.size == n * m


@given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(1, 3), max_size=2))
def test_linear_preferences__backward_is_the_tapes_and_the_numbers(seed, A, d, batch):
    rng = np.random.default_rng(seed)
    model = linear_preferences(d)
    theta, x, g = rng.normal(size=d), rng.normal(size=(*batch, A, d)), rng.normal(size=(*batch, A))
    explicit = model.vjp(theta, x)[1](g)
    for a, b in zip(explicit, npgrad.vjp(model, theta, x)[1](g)):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    out = np.full(d, np.nan)
    assert model.vjp(theta, x)[1](g, out)[0] is out and np.array_equal(out, explicit[0])
    check_gradient(
        lambda theta, x: np.sum(g * model(theta, x)),
        lambda theta, x: model.vjp(theta, x)[1](g),
        *(theta, x),
        argnums=(0, 1),
    )


@given(SEEDS, st.integers(2, 4), st.integers(1, 4))
def test_linear_preferences__softmax_score_is_features_minus_their_mean(seed, A, d):
    """Sutton & Barto (13.9): ∇ln π(a) = x(a) − Σ_b π(b) x(b)."""
    rng = np.random.default_rng(seed)
    model, head = linear_preferences(d), npgrad.Softmax(A)
    theta, x = rng.normal(size=d), rng.normal(size=(A, d))
    h, pullback = model.vjp(theta, x)
    pi = np.exp(h) / np.exp(h).sum()
    for a in range(A):
        expected = x[a] - pi @ x
        np.testing.assert_allclose(pullback(head.score(h, a))[0], expected, atol=1e-12)


@given(networks())
def test_bind__is_the_model_and_sees_changes_in_place(network):
    model, theta, x, _ = network
    forward = model.bind(theta)
    assert np.array_equal(forward(x), model(theta, x))
    theta += 1.0
    assert np.array_equal(forward(x), model(theta, x))
    assert np.array_equal(from_function(model, model.layout).bind(theta)(x), model(theta, x))
    preferences, v = linear_preferences(x.shape[-1]), x.ravel()[: x.shape[-1]]
    assert np.array_equal(preferences.bind(v)(x), preferences(v, x))


@given(networks(), st.booleans(), st.sampled_from((float, np.float32)))
def test_online__is_vjp_of_one_input_after_another(network, generic, dtype):
    model, theta, x, g = network
    theta = theta.astype(dtype)
    close = dict(rtol=1e-10, atol=1e-12) if dtype is float else dict(rtol=1e-3, atol=1e-4)
    d = np.full_like(theta, np.nan)
    twin = from_function(model, model.layout) if generic else model
    forward, backward = twin.online(theta, d)
    for one_x, one_g in zip(x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])):
        y, pullback = model.vjp(theta.astype(float), one_x)
        np.testing.assert_allclose(forward(one_x), y, **close)
        assert backward(one_g) is d
        np.testing.assert_allclose(d, pullback(one_g)[0], **close)
        theta += 0.25 if dtype is float else 0.0  # later changes in place are seen
    preferences, v = linear_preferences(x.shape[-1]), x.ravel()[: x.shape[-1]]
    forward, backward = preferences.online(v, np.empty_like(v))
    assert np.array_equal(forward(x), preferences(v, x))
    total = x.reshape(-1, v.size).sum(0)
    np.testing.assert_allclose(backward(np.ones(x.shape[:-1])), total, atol=1e-12)


@given(networks(), st.integers(1, 3), SEEDS)
def test_beside__is_two_models_of_one_input(network, m, seed):
    """Each sees its own part of θ and of g; the gradient by x is the sum of theirs."""
    one, theta1, x, g1 = network
    rng = np.random.default_rng(seed)
    two = mlp((one.sizes[0], 2, m), "tanh")
    model, theta2 = beside(one, two), rng.normal(size=two.layout.size)
    theta, g2 = np.concatenate([theta1, theta2]), rng.normal(size=(*x.shape[:-1], m))
    g = np.concatenate([g1, g2], -1)
    before = theta.copy(), x.copy(), g.copy()
    y, pullback = model.vjp(theta, x)
    (y1, back1), (y2, back2) = one.vjp(theta1, x), two.vjp(theta2, x)
    assert np.array_equal(y, np.concatenate([y1, y2], -1))
    np.testing.assert_allclose(model(theta, x), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model.bind(theta)(x), y, rtol=1e-12, atol=1e-12)
    d_theta, d_x = pullback(g)
    both = np.concatenate([back1(g1)[0], back2(g2)[0]])
    np.testing.assert_allclose(d_theta, both, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(d_x, back1(g1)[1] + back2(g2)[1], rtol=1e-12, atol=1e-12)
    for a, b in zip((d_theta, d_x), npgrad.vjp(model, theta, x)[1](g)):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)
    out = np.full_like(theta, np.nan)
    assert pullback(g, out)[0] is out and np.array_equal(out, d_theta)
    forward, backward = model.online(theta, out)
    assert np.array_equal(forward(x), y) and np.array_equal(backward(g), d_theta)
    assert all(np.array_equal(a, b) for a, b in zip(before, (theta, x, g)))


@given(SEEDS)
def test_beside__starts_as_the_two_do(seed):
    one, two = mlp((3, 2)), mlp((3, 4, 1))
    start, rng = beside(one, two).init(np.random.default_rng(seed)), np.random.default_rng(seed)
    assert np.array_equal(start, [*one.init(rng), *two.init(rng)])
    assert len(start) == beside(one, two).layout.size


@given(networks())
def test_from_function__has_the_models_gradient(network):
    model, theta, x, g = network
    twin = from_function(lambda theta, x: model(theta, x), model.layout)
    for a, b in zip(twin.vjp(theta, x)[1](g), model.vjp(theta, x)[1](g)):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    out = np.empty_like(theta)
    assert twin.vjp(theta, x)[1](g, out)[0] is out
    assert np.array_equal(out, twin.vjp(theta, x)[1](g)[0])
    for layout in (3, Layout(v=(3,))):
        assert np.array_equal(from_function(model, layout).init(None), np.zeros(3))


@given(SEEDS)
def test_mlp__starts_within_the_inverse_root_of_fan_in(seed):
    model = mlp((9, 4, 2), last_scale=0.5)
    p = model.layout.views(model.init(np.random.default_rng(seed)))
    assert 0.05 < np.abs(p.W1).max() <= 1 / 3 and np.abs(p.b1).max() <= 1 / 3
    assert np.abs(p.W2).max() <= 0.5 / 2 and np.abs(p.b2).max() <= 0.5 / 2
    whole = mlp((9, 4, 2)).init(np.random.default_rng(seed))
    assert np.array_equal(mlp((9, 4, 2)).layout.views(whole).W2, 2.0 * p.W2)


@given(st.floats(-1e3, 1e3))
def test_softplus__is_exact_on_both_sides(x):
    expected = x + np.log1p(np.exp(-x)) if x > 0 else np.log1p(np.exp(x))
    assert abs(softplus(x) - expected) <= 4 * EPS * abs(expected)


def test_mlp__refuses_what_it_cannot_be():
    with pytest.raises(ValueError, match="sizes"):
        mlp((3,))
    with pytest.raises(ValueError, match="sizes"):
        mlp((3, 0, 1))
    with pytest.raises(ValueError, match="activation = 'sin'"):
        mlp((3, 1), "sin")
    with pytest.raises(ValueError, match="parameters of shape"):
        mlp((3, 1))(np.zeros(3), np.zeros(3))
