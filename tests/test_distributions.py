"""Distributions at h: explicit = tape = numbers, and the laws of a distribution."""

import copy
import itertools
import math
import pickle
import re
from decimal import Decimal, localcontext
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npgrad import (
    Gaussian,
    Head,
    Product,
    Softmax,
    check_gradient,
    compare,
    complex_step,
    gaussian,
    grad,
    product,
    softmax,
)

EPS = np.finfo(float).eps
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from((1.0, 3.0))
STATES = st.sampled_from(((), (1,), (3,)))
SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=3)
SIGMA = st.sampled_from(("exp", "softplus"))
SOFTMAXES = st.integers(1, 4).map(softmax)
HEADS = {
    "softmax": SOFTMAXES,
    "product": SIZES.map(product),
    "gaussian": st.builds(gaussian, st.integers(1, 3), SIGMA),
    "spherical": st.builds(gaussian, st.integers(2, 3), SIGMA, st.just(True)),
}
GAUSSIANS = HEADS["gaussian"] | HEADS["spherical"]
ALL = pytest.mark.parametrize("kind", HEADS)
INF = float("inf")


def close(a, b, dtype=np.float64):
    """Each entry to 256 roundings of the largest one: σ is within e^±5, and some terms cancel."""
    error = 256 * np.finfo(dtype).eps * max(1.0, np.abs(b).max(initial=0.0))
    np.testing.assert_allclose(a, b, rtol=0.0, atol=error)


@st.composite
def drawn(draw, heads, states=STATES, scale=1.0):
    """(head, h, a) of one state or of k."""
    head, states = draw(heads), draw(states)
    rng = np.random.default_rng(draw(SEEDS))
    h = np.clip(scale * rng.normal(size=(*states, head.size)), -5.0, 5.0)
    noise = head.noise(rng, *states or (1,))
    return head, h, head(0.0 * h).sample(noise if states else noise[0])


def values(head, h, a=None):
    """What a test asks of a distribution: everything but samples."""
    pi = head(h)
    return pi.log_prob(a), pi.score(a), pi.entropy(), pi.entropy_gradient(), pi.mode()


# the laws of them all


@ALL
@given(data=st.data(), scale=SCALES)
def test_score__is_the_derivative_of_log_prob(kind, data, scale):
    head, h, a = data.draw(drawn(HEADS[kind], scale=scale))
    explicit, log_prob = head(h).score(a), lambda h: np.sum(head(h).log_prob(a))
    close(explicit, grad(log_prob)(h))
    close(explicit, complex_step(log_prob, h))
    # an entry far below the others may be lost in their rounding: that is no error
    assert compare(log_prob, lambda h: head(h).score(a), h, rtol=1e-6, atol=1e-11).answer != "wrong"


@ALL
@given(data=st.data(), scale=SCALES)
def test_entropy_gradient__is_the_derivative_of_entropy(kind, data, scale):
    head, h, _ = data.draw(drawn(HEADS[kind], scale=scale))
    explicit, entropy = head(h).entropy_gradient(), lambda h: np.sum(head(h).entropy())
    close(explicit, grad(entropy)(h))
    close(explicit, complex_step(entropy, h))
    check_gradient(entropy, lambda h: head(h).entropy_gradient(), h, rtol=1e-6, atol=1e-11)


@ALL
@given(data=st.data(), k=st.integers(1, 4), seed=SEEDS)
def test_distributions__of_k_states_are_those_of_each(kind, data, k, seed):
    """Samples too, given the same row of noise. Nothing that was handed in is changed."""
    head, h, a = data.draw(drawn(HEADS[kind], st.just((k,))))
    noise = head.noise(np.random.default_rng(seed), len(h))
    before = h.copy(), a.copy(), noise.copy()
    together = (*values(head, h, a), head(h).sample(noise))
    each = [(*values(head, h[i], a[i]), head(h[i]).sample(noise[i])) for i in range(len(h))]
    for many, single in zip(together, zip(*each)):
        close(many, np.array(single))
    assert together[-1].shape == (len(h), *head.action)
    assert all(np.array_equal(x, y) for x, y in zip(before, (h, a, noise)))


@ALL
@given(data=st.data())
def test_mode__is_the_most_probable(kind, data):
    head, h, a = data.draw(drawn(HEADS[kind], scale=3.0))
    pi = head(h)
    assert np.shape(pi.mode()) == np.shape(a)
    assert (pi.log_prob(pi.mode()) >= pi.log_prob(a)).all()


@ALL
@given(data=st.data())
def test_distributions__stay_in_single_precision(kind, data):
    head, h, a = data.draw(drawn(HEADS[kind]))
    a = a.astype(np.float32) if a.dtype == float else a
    h = h.astype(np.float32)
    for single, double in zip(values(head, h, a), values(head, h.astype(float), a)):
        assert single.dtype == (double.dtype if double.dtype.kind == "i" else np.float32)
        close(single, double, np.float32)
    if isinstance(head(h), Softmax):
        pi, wide = head(h), head(h.astype(float))
        singles = pi.probs(), pi.log_probs(), pi.mean_gradient(h)
        for single, double in zip(singles, (wide.probs(), wide.log_probs(), wide.mean_gradient(h))):
            assert single.dtype == np.float32
            close(single, double, np.float32)


@ALL
@given(data=st.data())
def test_distributions__refuse_other_shapes_of_actions(kind, data):
    head, h, a = data.draw(drawn(HEADS[kind]))
    pi, shape = head(h), np.shape(a)
    for other in ((*shape, 1), (*shape, 2), (2, *shape), shape[1:], shape[:-1]):
        if other != shape:
            for method in (pi.log_prob, pi.score):
                with pytest.raises(ValueError, match=re.escape(str(other))):
                    method(np.zeros(other, int))


@ALL
@given(data=st.data())
def test_distributions__refuse_other_shapes_of_h_and_of_noise(kind, data):
    """Nothing is broadcast: noise of one number would be the same for all."""
    head, h, _ = data.draw(drawn(HEADS[kind]))
    for shape in ((), (head.size + 1,), (3, head.size - 1), (*h.shape, 1), (*h.shape, 1, 2)):
        if shape[-1:] != (head.size,):
            with pytest.raises(ValueError, match=re.escape(f"h of shape {shape}: must ")):
                head(np.zeros(shape))
    noise, pi = head.noise(np.random.default_rng(0), 2), head(h)
    for shape in ((1,), (), (2, *h.shape), h.shape[1:], (*noise.shape[1:], 1)):
        if np.zeros(shape).shape != (*h.shape[:-1], *noise.shape[1:]):
            with pytest.raises(ValueError, match=re.escape(f"noise of shape {shape}: must be")):
                pi.sample(np.zeros(shape))


def test_distributions__refuse_an_h_that_is_none_of_theirs():
    """Without a head, too."""
    for shape in ((), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"must be \(n,\) or \(k, n\)"):
            Softmax(np.zeros(shape))
    wrong = [(Gaussian, dict(), 1), (Gaussian, dict(), 3), (Gaussian, dict(spherical=True), 1)]
    wrong += [(Product, dict(sizes=(2, 3)), n) for n in (4, 6)]
    for distribution, options, n in wrong:
        with pytest.raises(ValueError, match=r"h of shape \(2, .\): must hold"):
            distribution(np.zeros((2, n)), **options)
    with pytest.raises(ValueError, match="sigma = 'tanh'"):
        Gaussian(np.zeros(4), "tanh")
    with pytest.raises(ValueError, match="q of shape"):
        Softmax(np.zeros((2, 3))).mean_gradient(np.zeros(3))


WRONG = st.sampled_from((-1, 1.0, True, np.True_, None, "a", 1j)) | st.integers(-5, -2)


@pytest.mark.parametrize("kind", ["softmax", "product"])
@given(data=st.data(), wrong=WRONG | st.none(), beyond=st.integers(0, 3))
def test_softmaxes__refuse_a_number_of_no_action(kind, data, wrong, beyond):
    """Alone or among others: negative ones are not counted from the end."""
    head, h, a = data.draw(drawn(HEADS[kind]))
    actions = np.array(a, object)
    wrong = head.size + beyond if wrong is None else wrong
    actions[data.draw(st.sampled_from(list(np.ndindex(actions.shape))))] = wrong
    actions = np.array(actions.tolist()) if actions.ndim else wrong
    if isinstance(wrong, (bool, np.bool)) and np.ndim(actions):
        actions = actions.astype(bool)
    for method in (head(h).log_prob, head(h).score):
        with pytest.raises((TypeError, IndexError), match=r"must be|out of bounds"):
            method(actions)


@ALL
@given(data=st.data(), dtype=st.sampled_from((np.int8, np.uint8, np.int64, bool)))
def test_distributions__of_integers_are_those_of_floats(kind, data, dtype):
    head, h, a = data.draw(drawn(HEADS[kind], scale=3.0))
    h = np.abs(h).astype(dtype)
    for found, expected in zip(values(head, h, a), values(head, h.astype(float), a)):
        assert np.array_equal(found, expected) and np.asarray(found).dtype == expected.dtype


@ALL
@given(data=st.data(), h_dtype=st.sampled_from((np.float32, float)))
def test_distributions__compute_in_the_precision_of_h(kind, data, h_dtype):
    """Whatever the precision of actions and of noise is."""
    head, h, a = data.draw(drawn(HEADS[kind]))
    noise = head.noise(np.random.default_rng(0), len(h) if h.ndim == 2 else 1)
    noise, h = noise if h.ndim == 2 else noise[0], h.astype(h_dtype)
    for dtype in (np.float32, float):
        other = a.astype(dtype) if head.action and kind != "product" else a
        for found in values(head, h, other)[:4]:
            assert found.dtype == h_dtype
        sample = head(h).sample(noise.astype(dtype))
        assert sample.dtype == (h_dtype if other.dtype == dtype else int)
        close(sample, head(h.astype(float)).sample(noise), np.float32)


@ALL
@given(data=st.data(), copied=st.sampled_from((copy.deepcopy, pickle.dumps)), seed=SEEDS)
def test_heads__can_be_copied_and_pickled(kind, data, copied, seed):
    head, h, a = data.draw(drawn(HEADS[kind]))
    other = copied(head)
    other = pickle.loads(other) if isinstance(other, bytes) else other
    for found, expected in zip(values(other, h, a), values(head, h, a)):
        assert np.array_equal(found, expected)
    noise = [each.noise(np.random.default_rng(seed), 2) for each in (head, other)]
    assert np.array_equal(*noise) and other.action == head.action


@pytest.mark.parametrize("make", [softmax, gaussian, product])
@given(size=st.sampled_from((0, -1, 2.0, True, None, "2", [0], [2, -1], [2.0], [])))
def test_heads__are_of_whole_numbers(make, size):
    with pytest.raises(ValueError):
        make(size)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@ALL
@given(bad=st.sampled_from((np.nan, INF, None)), data=st.data())
def test_distributions__have_neither_sample_nor_mode_where_h_gives_no_action(kind, bad, data):
    """One entry that is not finite, in any state; or a state in which no action exists (None)."""
    head, h, _ = data.draw(drawn(HEADS[kind]))
    noise = head.noise(np.random.default_rng(0), len(h) if h.ndim == 2 else 1)
    at = data.draw(st.integers(0, len(h) - 1)) if h.ndim == 2 else ...
    if bad is None:
        h[at] = -INF
    else:
        (h[at] if h.ndim == 2 else h)[data.draw(st.integers(0, head.size - 1))] = bad
    pi = head(h)
    for method in (pi.mode, lambda: pi.sample(noise if h.ndim == 2 else noise[0])):
        with pytest.raises(FloatingPointError, match="theta has diverged"):
            method()


@ALL
@given(data=st.data(), k=st.integers(1, 3), seed=SEEDS)
def test_heads__draw_noise_and_actions_of_their_shape(kind, data, k, seed):
    head = data.draw(HEADS[kind])
    noise = head.noise(np.random.default_rng(seed), k)
    h = np.zeros((k, head.size))
    assert len(noise) == k and head(h).sample(noise).shape == (k, *head.action)
    assert np.shape(head(h[0]).sample(noise[0])) == head.action


def test_head__refuses_a_distribution_that_lacks_a_method():
    lacking = type("Lacking", (), {name: None for name in ("log_prob", "score", "entropy")})
    with pytest.raises(TypeError, match="Lacking: must have a method entropy_gradient"):
        Head(lacking, 2, None)
    for other in (lambda h: lacking(), partial(lambda h, made: made, made=lacking())):
        with pytest.raises(TypeError, match="Lacking: must have a method entropy_gradient"):
            Head(other, 2, None)
    assert isinstance(Head(lambda h: Softmax(h), 2, None)(np.zeros(2)), Softmax)


# softmax and its product


def logsumexp(h):
    """(ln π, π, H) in Decimals."""
    z = [Decimal(float(x)) - Decimal(float(h.max())) for x in h]
    e = [x.exp() for x in z]
    log_total, pi = sum(e).ln(), [x / sum(e) for x in e]
    log_pi = [x - log_total for x in z]
    return log_pi, pi, -sum(p * x for p, x in zip(pi, log_pi))


@given(arrays(float, st.integers(1, 4), elements=st.floats(-1e3, 1e3)), st.data())
def test_softmax__is_exact_for_extreme_preferences(h, data):
    """An error of h − max h by one rounding is one of eps |h − max h| in ln π. Terms of a sum have
    that error of their own; what is left of it when they cancel need not be smaller."""
    a, q = data.draw(st.integers(0, len(h) - 1)), np.arange(len(h)) ** 2 - 1.0
    error = 8 * EPS * (1.0 + np.ptp(h))
    with localcontext() as context:
        context.prec = 900  # e⁻²⁰⁰⁰ is seen beside 1
        log_pi, pi, H = logsumexp(h)
        others = sum(p for i, p in enumerate(pi) if i != a)
        score = [float(others if i == a else -p) for i, p in enumerate(pi)]
        entropy_gradient = [float(-p * (z + H)) for p, z in zip(pi, log_pi)]
        terms = [float(p * (H - z)) for p, z in zip(pi, log_pi)]
        differences = [[p * Decimal(y - x) for p, x in zip(pi, q)] for y in q]
        mean_gradient = [float(p * sum(row)) for p, row in zip(pi, differences)]
        sizes = [float(p * sum(map(abs, row))) for p, row in zip(pi, differences)]
        log_pi, pi, H = [float(x) for x in log_pi], [float(x) for x in pi], float(H)
    got = Softmax(h)
    np.testing.assert_allclose(got.log_probs(), log_pi, rtol=error, atol=error)
    assert got.log_prob(a) == got.log_probs()[a]
    np.testing.assert_allclose(got.probs(), pi, rtol=2 * error, atol=1e-300)
    np.testing.assert_allclose(got.score(a), score, rtol=2 * error, atol=1e-300)
    assert abs(got.entropy() - H) <= error
    off = np.abs(got.entropy_gradient() - entropy_gradient)
    assert (off <= 4 * error * np.array(terms) + 1e-300).all()
    assert (
        np.abs(got.mean_gradient(q) - mean_gradient) <= 4 * error * np.array(sizes) + 1e-300
    ).all()


@st.composite
def with_missing(draw):
    """(h with some preferences of −inf, which of them exist): one state, at least one action."""
    h = draw(arrays(float, st.integers(1, 6), elements=st.floats(-50, 50)))
    exists = draw(arrays(bool, len(h)))
    exists[draw(st.integers(0, len(h) - 1))] = True
    return np.where(exists, h, -INF), exists


@given(with_missing(), SEEDS, st.data())
def test_softmax__of_minus_infinity_is_the_softmax_without_that_action(case, seed, data):
    h, exists = case
    pi, rest, n = Softmax(h), Softmax(h[exists]), int(exists.sum())
    a = data.draw(st.integers(0, n - 1))
    action, q = np.flatnonzero(exists)[a], np.arange(len(h)) * 1.5
    assert pi.log_prob(action) == rest.log_prob(a) and pi.entropy() == rest.entropy()
    assert pi.mode() == np.flatnonzero(exists)[rest.mode()]
    tape = [grad(lambda h: Softmax(h).entropy())(x) for x in (h, h[exists])]
    log_prob = lambda h, a: Softmax(h).log_prob(a)
    of_log_prob = grad(log_prob)(h, action), grad(log_prob)(h[exists], a)
    pairs = [(x.probs(), x.score(i), x.entropy_gradient()) for x, i in ((pi, action), (rest, a))]
    for whole, part in (*zip(*pairs), tape, of_log_prob):
        assert np.array_equal(whole[exists], part) and not whole[~exists].any()
    close(pi.mean_gradient(q)[exists], rest.mean_gradient(q[exists]))
    assert not pi.mean_gradient(q)[~exists].any()
    assert pi.log_probs()[~exists].tolist() == [-INF] * (len(h) - n)
    noise = softmax(len(h)).noise(np.random.default_rng(seed), 50)
    draws = Softmax(np.broadcast_to(h, noise.shape)).sample(noise)
    kept = Softmax(np.broadcast_to(h[exists], (50, n))).sample(noise[:, exists])
    assert np.array_equal(draws, np.flatnonzero(exists)[kept])


@given(st.lists(with_missing(), min_size=1, max_size=3), SEEDS)
def test_product__of_minus_infinity_is_the_product_without_those_actions(cases, seed):
    """In k states as in one."""
    rng, sizes = np.random.default_rng(seed), [len(h) for h, _ in cases]
    h, exists = (np.concatenate(x) for x in zip(*cases))
    a = np.array([rng.integers(exists.sum()) for _, exists in cases])
    actions = np.array([np.flatnonzero(exists)[i] for i, (_, exists) in zip(a, cases)])
    whole = product(sizes)
    rest = product([exists.sum() for _, exists in cases])(h[exists])
    for pi, rows in ((whole(h), ()), (whole(np.stack([h, h])), (2,))):
        several = np.broadcast_to(actions, (*rows, len(sizes)))
        close(pi.log_prob(several), np.broadcast_to(rest.log_prob(a), rows))
        close(pi.entropy(), np.broadcast_to(rest.entropy(), rows))
        for gradient, part in ((pi.score(several), rest.score(a)),
                               (pi.entropy_gradient(), rest.entropy_gradient())):  # fmt: skip
            close(gradient[..., exists], np.broadcast_to(part, (*rows, exists.sum())))
            assert not gradient[..., ~exists].any()
        drawn = pi.sample(whole.noise(rng, 2) if rows else whole.noise(rng, 1)[0])
        assert np.isfinite(pi.log_prob(drawn)).all()


@given(drawn(SOFTMAXES, scale=3.0))
def test_softmax__probabilities_sum_to_one_scores_to_zero(case):
    head, h, _ = case
    pi = head(h)
    actions = [np.full(h.shape[:-1], a) for a in range(head.size)]
    probs = np.stack([np.exp(pi.log_prob(a)) for a in actions], -1)
    close(pi.probs(), probs)
    close(np.exp(pi.log_probs()), probs)
    np.testing.assert_allclose(pi.probs().sum(-1), 1.0, rtol=8 * EPS)
    mean_score = sum(probs[..., a, None] * pi.score(actions[a]) for a in range(head.size))
    np.testing.assert_allclose(mean_score, 0.0, atol=16 * EPS)
    H = -np.sum(probs * np.log(probs), -1)
    close(pi.entropy(), H)
    assert (pi.entropy() >= 0).all() and (pi.entropy() <= np.log(head.size) + 8 * EPS).all()


@given(drawn(SOFTMAXES, scale=3.0), SEEDS)
def test_mean_gradient__is_the_derivative_of_the_mean(case, seed):
    """∂/∂h Σ_a π(a) q_a, which sums to zero and does not see a constant in q."""
    head, h, _ = case
    q = np.random.default_rng(seed).normal(size=h.shape)
    explicit, mean = head(h).mean_gradient(q), lambda h: np.sum(head(h).probs() * q)
    close(explicit, grad(mean)(h))
    close(explicit, complex_step(mean, h))
    check_gradient(mean, lambda h: head(h).mean_gradient(q), h, rtol=1e-6, atol=1e-11)
    close(explicit.sum(-1), np.zeros(h.shape[:-1]))
    close(head(h).mean_gradient(q + 3.0), explicit)


@given(drawn(SOFTMAXES, scale=3.0), st.floats(-1e3, 1e3))
def test_softmax__does_not_see_a_common_shift(case, shift):
    head, h, a = case
    error = 16 * EPS * (1.0 + abs(shift))
    np.testing.assert_allclose(head(h + shift).log_prob(a), head(h).log_prob(a), atol=error)
    np.testing.assert_allclose(head(h + shift).score(a), head(h).score(a), atol=error)


@given(SIZES, STATES, SEEDS)
def test_product__is_the_sum_of_its_parts_and_a_softmax_of_all_combinations(sizes, states, seed):
    """That one has preferences h M, M[i, c] = 1 where combination c has choice i: by the chain
    rule, gradients at h are M times those at h M."""
    head, rng = product(sizes), np.random.default_rng(seed)
    combinations = list(itertools.product(*map(range, sizes)))
    starts = np.cumsum([0, *sizes[:-1]])
    M = np.zeros((head.size, len(combinations)))
    for c, choices in enumerate(combinations):
        M[starts + choices, c] = 1.0
    h, c = 2.0 * rng.normal(size=(*states, head.size)), rng.integers(len(combinations), size=states)
    a, pi, joint = np.array(combinations)[c], head(h), Softmax(h @ M)
    parts = [Softmax(h[..., i : i + n]) for i, n in zip(starts, sizes)]
    for whole, part, gradient in zip(values(head, h, a), values(Softmax, h @ M, c), (0, 1, 0, 1)):
        close(whole, part @ M.T if gradient else part)
    assert np.array_equal(pi.mode(), np.array(combinations)[joint.mode()])
    close(pi.log_prob(a), sum(part.log_prob(a[..., j]) for j, part in enumerate(parts)))
    close(pi.entropy(), sum(part.entropy() for part in parts))
    close(pi.score(a), np.concatenate([p.score(a[..., j]) for j, p in enumerate(parts)], -1))
    close(pi.entropy_gradient(), np.concatenate([p.entropy_gradient() for p in parts], -1))


@pytest.mark.parametrize("sizes", ([8], [2, 4]))
@given(h=arrays(float, 8, elements=st.floats(-0.5, 0.5)), seed=SEEDS)
def test_sample__has_the_probabilities(sizes, h, seed):
    """Hoeffding: each frequency of N draws is within √(ln(2/1e-12)/2N) = 0.06 but for chance 1e-12.

    With one preference of 3 above seven others, the largest of h − Gumbel would be off by 0.1.
    """
    N, h = 4000, h[: sum(sizes)]
    h[0] += 3.0
    head = product(sizes) if len(sizes) > 1 else softmax(8)
    H = np.broadcast_to(h, (N, head.size))
    draws = head(H).sample(head.noise(np.random.default_rng(seed), N))
    combinations = [c if len(sizes) > 1 else c[0] for c in itertools.product(*map(range, sizes))]
    frequencies = [np.mean((draws == c).reshape(N, -1).all(1)) for c in combinations]
    pi = np.exp([head(h).log_prob(c) for c in combinations])
    assert np.abs(frequencies - pi).max() <= np.sqrt(np.log(2e12) / 2 / N)


# Gaussian


def sigma_of(pi):
    return pi.sample(np.ones_like(pi.mode())) - pi.mode()


@given(GAUSSIANS, SEEDS)
def test_gaussian__expectations_are_the_laws(head, seed):
    """E ∇ln π = 0;  H = −E ln π;  E (∇ln π)² of μ is 1/σ²: all exact under Gauss–Hermite
    quadrature, which is for polynomials of degree < 12."""
    h, (d,) = np.random.default_rng(seed).normal(size=head.size), head.action
    x, w = np.polynomial.hermite_e.hermegauss(6)
    grid = np.stack(np.meshgrid(*[x] * d, indexing="ij"), -1).reshape(-1, d)
    weight = np.prod(np.meshgrid(*[w / w.sum()] * d, indexing="ij"), 0).ravel()
    pi = head(np.broadcast_to(h, (len(grid), head.size)))
    a, sigma = pi.sample(grid), sigma_of(head(h))
    score = pi.score(a)
    close(weight @ score / np.abs(score).max(), np.zeros(head.size))
    close(-weight @ pi.log_prob(a), head(h).entropy())
    np.testing.assert_allclose(weight @ score[:, :d] ** 2, sigma**-2.0, rtol=1e-9)
    omega = np.broadcast_to(h[d:], d)
    expected = np.exp(omega) if head(h).sigma == "exp" else np.sqrt(np.log1p(np.exp(omega)))
    np.testing.assert_allclose(sigma, expected, rtol=1e-12)


@given(drawn(GAUSSIANS, st.just(())))
def test_gaussian__density_is_the_normal_density(case):
    head, h, a = case
    mu, sigma = head(h).mode(), sigma_of(head(h))
    density = np.prod(np.exp(-((a - mu) ** 2) / (2 * sigma**2)) / sigma / np.sqrt(2 * np.pi))
    np.testing.assert_allclose(np.exp(head(h).log_prob(a)), density, rtol=1e-10)


OMEGAS = st.floats(-1e3, 1e3) | st.sampled_from((710.0, -710.0, -746.0, -1420.0, 1e6, -1e6))
OFFSETS = st.sampled_from((0.0, 1.0)) | st.builds(
    lambda x, k: x * 10.0**k, st.floats(-9, 9), st.integers(-307, 300)
)


@pytest.mark.parametrize("sigma", ["exp", "softplus"])
@given(OMEGAS, OFFSETS, st.booleans(), st.sampled_from((float, np.float32)))
def test_gaussian__is_exact_at_extreme_omega(sigma, omega, a, spherical, dtype):
    """And any distance from the mean, 0 too: against Decimals. What is too large for dtype is inf;
    ln σ of softplus is rounded, and z by as much."""
    info, h = np.finfo(dtype), np.array([0.0, omega], dtype)
    a = np.clip([a], 0.1 * float(info.min), 0.1 * float(info.max)).astype(dtype)
    with localcontext() as context:
        context.prec = 60
        e = Decimal(float(h[1])).exp()
        log_sigma, slope = Decimal(float(h[1])), Decimal(1)
        if sigma == "softplus":
            softplus = (1 + e).ln() if omega > -100 else e
            log_sigma, slope = softplus.ln() / 2, e / (1 + e) / softplus / 2
        z = Decimal(float(a[0])) * (-log_sigma).exp()
        log_prob = -z * z / 2 - log_sigma - Decimal(math.log(2 * math.pi) / 2)
        exact = [log_prob, z * (-log_sigma).exp(), (z * z - 1) * slope, log_sigma, slope]
        terms = [z * z + abs(log_sigma) + 1, abs(exact[1]), (z * z + 1) * slope,
                 abs(log_sigma) + 2, slope]  # fmt: skip
        relative = 32 * info.eps * (1 + abs(float(log_sigma)) * (sigma == "softplus"))
    pi = Gaussian(h, sigma, spherical)
    with np.errstate(over="ignore"):
        found = [pi.log_prob(a), *pi.score(a), pi.entropy() - dtype(0.5 * np.log(2 * np.pi * np.e)),
                 pi.entropy_gradient()[1]]  # fmt: skip
        tape = (
            grad(lambda h: Gaussian(h, sigma, spherical).log_prob(a))(h) if a == 0 else found[1:3]
        )
    for got, expected, size in zip((*found, *tape), exact + exact[1:3], terms + terms[1:3]):
        assert got.dtype == dtype and not np.isnan(got)
        inside = max(abs(expected), z * z) < Decimal(0.4 * float(info.max))
        if inside or math.isfinite(got):  # else z² may be inf
            off = abs(float(got) - float(expected))
            assert off <= relative * float(size) + 4 * float(info.tiny)
        else:
            assert abs(got) > 0.3 * float(info.max) and (got > 0) == (expected > 0)
    assert not pi.entropy_gradient()[0]


def test_gaussian__has_one_omega_per_dimension_or_one_in_all():
    assert (gaussian(3).size, gaussian(3, spherical=True).size) == (6, 4)


def test_gaussian__refuses_another_sigma():
    with pytest.raises(ValueError, match="sigma = 'tanh'"):
        gaussian(2, "tanh")
