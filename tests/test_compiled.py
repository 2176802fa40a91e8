"""Compiled functions: bit for bit their function, fresh results, threads, refusals."""

import pickle
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import programs

import npgrad.program
from npgrad import (
    compiled,
    gaussian,
    grad,
    jacobian,
    mlp,
    product,
    softmax,
    value_and_grad,
    vjp,
)
from npgrad.compiled import PROGRAMS
from npgrad.memory import aligned

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=max(2, settings().max_examples // 3))


@pytest.fixture(autouse=True, scope="module")
def nan_left_by_others():
    """Fill the memory that programs set aside with NaN: no result may depend on what lies there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npgrad.program, "aligned", lambda *args: left_by_others(*args, 255))
        yield


def left_by_others(size, dtype, values):
    memory = aligned(size, dtype)
    memory[:] = values
    return memory


def bits(x):
    """All that can be seen of a result: types, shapes, dtypes, bits."""
    if isinstance(x, (tuple, list)):
        return type(x), [bits(y) for y in x]
    if isinstance(x, dict):
        return {name: bits(y) for name, y in x.items()}
    return type(x), np.shape(x), np.result_type(x), np.asarray(x).tobytes()


def agree(f, *inputs):
    """Assert that f compiled is f at each of the inputs, a tuple of arguments each, twice."""
    program = compiled(f)
    for args in [*inputs, *inputs]:
        before = bits(list(args))
        assert bits(program(*args)) == bits(f(*args))
        assert bits(list(args)) == before


def total(f):
    """A scalar that depends on every entry of f in its own way."""

    def scalar(*args):
        y = f(*args)
        return np.sum(np.cos(y) * np.linspace(0.5, 1.5, np.size(y)).reshape(np.shape(y)))

    return scalar


@given(programs(), SEEDS)
def test_compiled__is_the_function_and_its_derivatives_bit_for_bit(program, seed):
    F, x = program
    f, rng = total(F), np.random.default_rng(seed)
    others = [(rng.normal(size=len(x)),) for _ in range(2)]
    agree(F, (x,), *others)
    agree(value_and_grad(f), (x,), *others)
    agree(lambda x, v: grad(lambda x: v @ grad(f)(x))(x), *[(x, x) for (x,) in others])
    agree(lambda x, w: vjp(F, x)[1](np.cos(w))[0], (x, np.ones(len(F(x)))))


# Programs of matrices (3, 3), in numbers that every operation rounds

STEPS = [
    lambda a, b, k: a + b,
    lambda a, b, k: a - 0.3 * b,
    lambda a, b, k: a * b,
    lambda a, b, k: a / (1.5 + b * b),
    lambda a, b, k: a @ b,
    lambda a, b, k: a @ b.T,
    lambda a, b, k: np.dot(a, b[0]) + b,
    lambda a, b, k: np.tanh(a),
    lambda a, b, k: np.exp(-np.abs(a)),
    lambda a, b, k: np.maximum(a, b),
    lambda a, b, k: np.where(a > b, a, np.sin(b)),
    lambda a, b, k: np.stack([a[k], b[0], a[-1]]),
    lambda a, b, k: np.concatenate([a[:1], b[1:]]),
    lambda a, b, k: a - np.max(a, 1, keepdims=True),
    lambda a, b, k: a - np.mean(b, 0),
    lambda a, b, k: np.sum(a, 1)[:, None] * b.T,
    lambda a, b, k: a.astype(np.float32) * b,
    lambda a, b, k: np.take(a, [2, k, k], 1),
    lambda a, b, k: a**2 + b,
    lambda a, b, k: np.logaddexp(a, b),
    lambda a, b, k: a[:, ::-1] + a.reshape(-1)[[0, k, 2]],
    lambda a, b, k: np.linalg.norm(a, axis=0) + np.cumsum(b, 1),
    lambda a, b, k: np.sort(a, 0) + np.clip(b, -0.5, 0.5),
    lambda a, b, k: np.einsum("ij,kj->ki", a, b),
]
STRIDES = [
    lambda rng: rng.normal(size=(3, 3)),
    lambda rng: rng.normal(size=(3, 3)).T,
    lambda rng: rng.normal(size=(6, 3))[::2],
    lambda rng: rng.normal(size=(3, 7))[:, 1:7:2],
    lambda rng: rng.normal(size=(3, 3))[::-1],
    lambda rng: np.float32(rng.normal(size=(3, 3))),
    lambda rng: np.round(rng.normal(size=(3, 3))),
]


@given(
    st.lists(st.tuples(st.sampled_from(STEPS), *[st.integers(0, 9)] * 3), min_size=1, max_size=7),
    *[st.sampled_from(STRIDES)] * 2,
    st.booleans(),
    SEEDS,
)
def test_compiled__rounds_as_the_function(steps, left, right, same, seed):
    def f(x, y):
        pool = [x, y]
        for step, a, b, k in steps:
            pool.append(step(pool[-1 - a % len(pool)], pool[-1 - b % len(pool)], k % 3))
        return pool[-1]

    rng = np.random.default_rng(seed)
    inputs = [(left(rng), right(rng)) for _ in range(2)]
    inputs = [(x, x) for x, _ in inputs] if same else inputs
    agree(f, *inputs)
    agree(value_and_grad(total(f), (0, 1)), *inputs)
    agree(grad(lambda x, y: total(grad(total(f), 1))(x, y)), *inputs[:1])


@FEW
@given(SEEDS, st.integers(1, 9), st.sampled_from(["tanh", "relu", "softplus", "elu"]))
def test_compiled__networks(seed, rows, activation):
    rng, model = np.random.default_rng(seed), mlp((3, 5, 4, 2), activation)
    theta = model.init(rng)

    def loss(theta, x, a):
        h = model(theta, x)
        h = h - np.max(h, 1, keepdims=True)
        return -np.mean(h[np.arange(len(a)), a] - np.log(np.sum(np.exp(h), 1)))

    inputs = [(theta, rng.normal(size=(rows, 3)), rng.integers(0, 2, rows)) for _ in range(3)]
    agree(value_and_grad(loss), *inputs)
    theta *= -1.0  # parameters that change in place are seen
    agree(value_and_grad(loss), *inputs)
    program = compiled(grad(loss))
    program(*inputs[0])
    theta += 0.125
    assert bits(program(*inputs[0])) == bits(grad(loss)(*inputs[0]))


@given(
    st.one_of(
        st.integers(1, 4).map(softmax),
        st.builds(gaussian, st.integers(1, 3), st.sampled_from(("exp", "softplus"))),
        st.lists(st.integers(1, 3), min_size=1, max_size=3).map(product),
    ),
    st.one_of(st.none(), st.integers(0, 4)),
    SEEDS,
)
def test_compiled__distributions(head, k, seed):
    rng = np.random.default_rng(seed)

    def draw():
        h = rng.normal(size=head.size if k is None else (k, head.size))
        return h, head(h).sample(head.noise(rng, k or 1)[0 if k is None else slice(k)])

    def all_of(h, a):
        pi = head(h)
        return pi.log_prob(a), pi.score(a), pi.entropy(), pi.entropy_gradient()

    inputs = [draw() for _ in range(3)]
    agree(all_of, *inputs)
    agree(grad(lambda h, a: np.sum(head(h).log_prob(a) + head(h).entropy())), *inputs)
    if k:
        h, a = inputs[0]
        wrong = np.full_like(a, -1) if a.dtype.kind in "iu" else a[:, :0]
        with pytest.raises((IndexError, ValueError)):
            compiled(all_of)(h, wrong)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_compiled__waits_until_shapes_return(after, monkeypatch):
    """f runs itself so often for each set of shapes, then only while it is traced, twice."""
    runs = []

    def f(x):
        runs.append(len(x))
        return 2 * x

    program, rng = compiled(f, after), np.random.default_rng(0)
    for n in (2, 3):
        runs.clear()
        for k in range(after + 4):
            x, out = rng.normal(size=n), np.empty(n)
            assert program(x, out=out) is out and np.array_equal(out, 2 * x)
            assert len(runs) == (k + 1 if k < after else after + 2)
    monkeypatch.setenv("NPGRAD_PLAIN", "1")
    program, before = compiled(f), len(runs)
    for k in range(3):
        program(np.ones(4))
        assert len(runs) == before + k + 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_compiled__keeps_the_routine_and_the_order_of_sums(dtype):
    """BLAS has a routine of its own for x @ x.T of one memory; sums follow the strides."""
    x = np.random.default_rng(0).normal(size=(33, 20)).astype(dtype)
    f = lambda x, y: np.sum(np.cos(x @ y.T))
    agree(f, (x, x), (x, x.copy()), (x.copy(), x))
    agree(value_and_grad(f), (x, x), (x, x.copy()))
    agree(lambda x: np.tanh(x) @ np.tanh(x).T, (x,))
    wide = np.tile(x, 2)
    views = [(x,), (np.asfortranarray(x),), (wide[:, ::2],), (wide[::2],), (x[::-1],), (x.T,)]
    agree(lambda x: np.sum(np.tanh(x)), *views)
    agree(lambda x: vjp(np.sum, x)[0], *views)
    agree(lambda x: vjp(lambda x: np.sum(np.tanh(x)), x)[0], *views)
    agree(value_and_grad(lambda x: np.sum(np.tanh(x) ** 2)), *views)


def test_compiled__keeps_the_sign_of_zeros():
    x, minus = np.array([-0.0, 1.0, -0.0, 2.0]), np.float64(-0.0)
    pieces = lambda theta, x: np.sum(theta[:2] * x[:2]) + np.sum(theta[2:] * x[2:])
    agree(grad(pieces), (x, x), (x, -x))
    agree(grad(lambda x, k, s: x[k] * s), (x, np.int64(2), minus), (x, np.int64(-1), minus))
    agree(grad(lambda x, k, s: np.sum(x[k] * s)), (np.ones((3, 2)), np.int64(2), minus))
    agree(lambda x, s: np.copysign(1.0, s) * x, (x, 0.0), (x, -0.0), (x, float("nan")))
    agree(lambda x: x * np.ones(4) + np.zeros(4), (x,))


def test_compiled__gradients_of_slices_that_are_equal_or_meet():
    x, d = np.linspace(-1, 1, 6), np.array([0.5, -2.0, 3.0])
    agree(grad(lambda x: np.sum(np.tanh(x[:3] + x[3:]))), (x,))
    agree(grad(lambda x, d: np.sum(np.tanh(x[:3] + x[1:4]) * d)), (x, d))
    f = lambda x, y, d: np.sum(x[3:] * d[0]) + np.sum(x[:3] * d) + np.sum(y[:3] * d)
    agree(grad(f, (0, 1)), (x, x, d))
    agree(value_and_grad(lambda x, d: np.sum(x * x) + np.sum(x[2:5] * d) + x[0] * x[1]), (x, d))


@given(SEEDS, *[st.integers(1, 70)] * 2, st.sampled_from(["C", "F"]))
def test_compiled__products_of_vectors_and_matrices(seed, n, m, order):
    rng = np.random.default_rng(seed)
    for dtype in np.float64, np.float32:
        W = np.asarray(rng.normal(size=(n, m)), dtype, order)
        x, y = rng.normal(size=n).astype(dtype), rng.normal(size=m).astype(dtype)
        agree(lambda x, W, y: (np.tanh(x @ W) * 2, np.tanh(W @ y) * 2, x @ (W @ y)), (x, W, y))
        agree(value_and_grad(lambda x, W, y: np.sum(np.tanh(x @ W) * y), (0, 1)), (x, W, y))


@pytest.mark.parametrize("f, inputs", [
    (np.tanh, [[0.5, 1.0], [50.0, 1.0], [800.0, -0.0]]),
    (lambda x: np.maximum(x, 0.0), [[0.5, 1.0], [0.0, 1.0], [-0.0, np.inf]]),
    (lambda x: np.arctan(x), [[0.5, 1.0], [1e200, 1.0], [3.0, -101.0]]),
    (lambda x: np.logaddexp(x[0], x[1]), [[0.5, 1.0], [np.inf, np.inf], [-np.inf, 0.0]]),
    (lambda x: np.logaddexp.reduce(x), [[0.5, 1.0], [np.inf, np.inf]]),
    (np.linalg.norm, [[0.5, 1.0], [0.0, 0.0], [1e-200, 1e-200], [1e200, 3.0]]),
    (lambda x: np.hypot(x[0], x[1]), [[3.0, 4.0], [0.0, 0.0]]),
    (lambda x: np.linalg.det(np.outer(x, x) + np.diag(x)), [[0.5, 1.0], [0.0, 0.0]]),
    (lambda x: np.average(x, weights=x), [[0.5, 1.0], [3.0, -1.0]]),
    (lambda x: np.quantile(x, 0.3), [[0.5, 1.0], [1.0, 0.5]]),
    (lambda x: x**x, [[0.5, 1.0], [0.0, 2.0]]),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_compiled__follows_the_branches_of_the_rules(f, inputs):
    inputs = [(np.array(x),) for x in inputs]
    for order in inputs, inputs[::-1]:
        agree(f, *order)
        agree(value_and_grad(total(f)), *order)
        agree(lambda x: grad(lambda x: total(grad(total(f)))(x))(x), *order)
        in_g = lambda x, v: grad(lambda v: np.sum(vjp(f, x)[1](v)[0] ** 2))(v)
        agree(in_g, *[(x, np.ones_like(f(x))) for (x,) in order])


@FEW
@given(SEEDS, st.data())
def test_compiled__takes_integers_and_booleans_as_data(seed, data):
    rng = np.random.default_rng(seed)
    x, n = rng.normal(size=(4, 3)), data.draw(st.integers(0, 5))
    i, j = (rng.integers(-2, 2, n) for _ in range(2))

    def f(x, i, j, mask, k):
        y = x[i, j] * x[k, 0] + np.take(x, i, 0)[..., 1]
        return np.sum(y**3) + np.sum(x[mask] ** 2) + np.sum(np.where(mask, x, 0.1)) + x[k] @ x[-1]

    masks = [rng.random((4, 3)) < p for p in (0.5, 0.0, 0.9, 1.0)]
    inputs = [(x, i, j, m, np.int64(k)) for k, m in enumerate(masks)]
    agree(f, *inputs)
    agree(value_and_grad(f), *inputs)
    agree(grad(lambda x, *more: np.sum(grad(f)(x, *more) ** 2)), *inputs[:2])


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_compiled__of_empty_and_0d_arrays(shape, dtype):
    f = lambda x: np.sum(np.tanh(x) * 2.0 + np.mean(x * x) if x.size else x)
    inputs = [(np.full(shape, v, dtype),) for v in (0.3, -0.7)]
    agree(f, *inputs)
    agree(value_and_grad(f), *inputs)
    agree(lambda x: np.reshape(x * 2, -1), *inputs)
    agree(lambda x: x * x - 1.0, (dtype(0.3),), (0.3,), (-0.3,), (np.int8(3),), (True,))


def test_compiled__numbers_and_strings_may_decide():
    def f(x, n, how="add", *, shift=0.0, parts=()):
        for _ in range(n):
            x = x + 1.0 if how == "add" else x * 1.1
        return {"x": [x + shift, n], "y": parts and parts[0][x.size - 1] * x}

    program, x = compiled(f), np.linspace(-1, 1, 3)
    for args, more in [
        ((x, 2), {}), ((x, 3, "times"), {"shift": -0.0}), ((x, 0), {"shift": x}),
        ((x, 2, "add"), {"parts": (x[::-1], 3)}), ((x, True), {"parts": ([x, 1.0][0],)}),
        ((x, 2), {"shift": float("nan")}), ((x, 2), {"shift": 1}), ((x, 2), {"shift": 1.0}),
    ]:  # fmt: skip
        for _ in range(2):
            assert bits(program(*args, **more)) == bits(f(*args, **more))


def test_compiled__reads_arrays_that_it_closes_over_again():
    w, shift = np.ones((3, 3)), np.zeros(3)
    f = lambda x: np.sum(np.tanh(w.T @ x + shift) ** 2)
    program, both = compiled(f), compiled(value_and_grad(f))
    same = compiled(lambda x: [w, shift[:2]])
    x = np.array([0.1, 0.2, 0.3])
    for value in (1.0, 2.0, -3.0):
        w[:] = value * np.arange(9.0).reshape(3, 3)
        shift[1] = value
        assert bits(program(x)) == bits(f(x))
        assert bits(both(x)) == bits(value_and_grad(f)(x))
        assert bits(same(x)) == bits([w, shift[:2]]) and same(x)[0] is not w


def test_compiled__results_are_fresh():
    def f(x):
        y = np.exp(x)
        return y, y.T, x, x[0], np.zeros(2), y[:1]

    program, x = compiled(f), np.arange(6.0).reshape(2, 3)
    first = program(x)
    before = bits(first)
    second = program(x + 1.0)
    assert bits(first) == before
    assert not any(np.shares_memory(a, b) for a in first for b in second)
    assert not any(np.shares_memory(x, a) for a in program(x))
    for a in program(x):
        a[...] = -1.0
    assert bits(program(x)) == bits(f(x))


def test_compiled__out_receives_the_result():
    f = value_and_grad(lambda x, y: np.sum(np.tanh(x) * y), (0, 1))
    program, x, y = compiled(f), np.linspace(-1, 1, 4), np.arange(4.0)
    value, (dx, dy) = f(x, y)
    a, b, c = np.empty(()), np.empty(4), np.empty(4)
    assert program(x, y, out=(a, (b, c)))[1][0] is b
    assert a == value and bits([b, c]) == bits([dx, dy])
    gradient = compiled(grad(lambda x: np.sum(x**3)))
    expected = 3.0 * x**2
    gradient(x, out=x)  # the argument itself
    np.testing.assert_allclose(x, expected, rtol=1e-15)
    for wrong, message in [(np.empty(3), "shape"), (np.empty(4, np.float32), "dtype"), ([], "out")]:
        with pytest.raises(TypeError, match=message):
            gradient(y, out=wrong)


def test_compiled__is_a_part_of_other_derivatives_and_programs():
    f = lambda x: np.sum(np.tanh(x) * x)
    program, x = compiled(f), np.linspace(-1, 1, 5)
    assert bits(grad(program)(x)) == bits(grad(f)(x))
    assert bits(jacobian(grad(program))(x)) == bits(jacobian(grad(f))(x))
    agree(lambda x: program(x) + grad(program)(x), (x,), (2.0 * x,))


def test_compiled__complex_steps_go_through():
    f = compiled(lambda x: np.sum(np.tanh(x) * x))
    x = np.array([0.3, 1.0])
    steps = [f(x + 1e-200j * e).imag / 1e-200 for e in np.eye(2)]
    np.testing.assert_allclose(steps, grad(f)(x), rtol=1e-14)


def test_compiled__threads_do_not_meet():
    f = value_and_grad(lambda x, w: np.sum(np.tanh(x * w) ** 2))
    program, rng = compiled(f), np.random.default_rng(0)
    jobs = [(rng.normal(size=n), rng.normal(size=n)) for n in (2000, 2000, 2000, 7)]
    expected, wrong = [bits(f(*job)) for job in jobs], []

    def work(job, right):
        for _ in range(60):
            if bits(program(*job)) != right:
                wrong.append(job)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(jobs, expected)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_compiled__may_be_called_while_it_runs():
    """As by other threads, but at a known line: NumPy calls a function where it divides by 0."""
    f = lambda x: (x + 2.0) * np.log(x) + np.exp(x)
    program, inputs, results = compiled(f), np.array([[0.0, 3.0], [0.0, 4.0], [0.0, 5.0]]), {}
    program(inputs[0] + 1.0)

    def run(k):
        results[k] = program(inputs[k])

    others = iter([1, 2])
    before = np.seterrcall(lambda *_: [run(k) for k in [next(others, 0)] if k])
    try:
        with np.errstate(divide="call"):
            run(0)
    finally:
        np.seterrcall(before)
    with np.errstate(divide="ignore"):
        assert {k: bits(y) for k, y in results.items()} == dict(
            enumerate(map(bits, map(f, inputs)))
        )


def test_compiled__keeps_a_bounded_number_of_programs():
    program = compiled(lambda x: np.sum(x * x))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(PROGRAMS + 5):
            assert program(np.ones(n)) == n
    assert [str(w.message).count(f"more than {PROGRAMS}") for w in caught] == [1]


def test_compiled__raises_what_the_function_raises():
    program = compiled(lambda a: np.sum(np.linalg.inv(a)))
    assert program(np.eye(2)) == 2.0
    with pytest.raises(np.linalg.LinAlgError):
        program(np.zeros((2, 2)))
    assert program(np.eye(2)) == 2.0
    model = mlp((4, 2), one_hot=True)
    of_states = compiled(lambda s: model(np.ones(model.layout.size) * (s[0] >= 0), s))
    of_states(np.array([0, 3]))
    with pytest.raises(IndexError):
        of_states(np.array([0, 4]))
    with pytest.raises(ZeroDivisionError):
        compiled(lambda: 1 / 0)()


def test_compiled__keeps_errstate():
    def f(x):
        with np.errstate(divide="ignore"):
            y = np.log(x)
        return y + 0.0

    program = compiled(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert bits(program(np.zeros(2))) == bits(f(np.zeros(2)))


# Refusals

STATE = {"rng": np.random.default_rng(0), "n": 0, "a": np.ones(3)}


def swallow(x):
    try:
        return float(x[0]) * x
    except TypeError:
        return x


def written(x):
    a = np.zeros(3)
    y = a * x
    a[0] = 1.0
    return y + a * x


def count(x):
    STATE["n"] += 1
    return x * STATE["n"]


def assign(x):
    a = np.zeros(3)
    a[0] = x[0]
    return a


def set_item(x):
    x[0] = 1.0
    return x


def add_to(x):
    y = 2.0 * x
    y += 1.0
    return y


REFUSED = {
    "branch": (lambda x: x if x[0] > 0 else -x, "np.where"),
    "and": (lambda x: x[0] > 0 and x, "np.where"),
    "while": (lambda x: max(x[0], x[1]), "np.where"),
    "range": (lambda x: sum(x for _ in range(int(x[0]))), "Python number among the arguments"),
    "range of an array": (lambda x: range(np.argmax(x)), "np.take"),
    "index": (lambda x: x[int(x[0])], "Python number among the arguments"),
    "index of a list": (lambda x: [1, 2][np.argmax(x)], "np.take"),
    "index of an array": (lambda x: STATE["a"][np.argmax(x)], "np.take"),
    "float": (lambda x: float(x[0]), "np.where"),
    "item": (lambda x: x.sum().item(), "np.where"),
    "tolist": (lambda x: x.tolist(), "np.where"),
    "random": (lambda x: x + np.random.normal(size=3), "random numbers"),  # noqa: NPY002
    "generator": (lambda x: x * STATE["rng"].normal(), "random numbers"),
    "random of a value": (lambda x: STATE["rng"].normal(x), "np.stack"),
    "counter": (count, "a counter"),
    "print": (lambda x: print(x), "print outside"),
    "print of text": (lambda x: [x, print("here")][0], "print outside"),
    "format": (lambda x: f"{x}", "print the result"),
    "pickle": (lambda x: pickle.dumps(x), "np.copy"),
    "save": (lambda x: np.array2string(x), "print or save"),
    "item assignment": (set_item, "np.where, np.stack or np.concatenate"),
    "assignment into a new array": (assign, "np.stack"),
    "in place": (add_to, "a = a + x"),
    "out": (lambda x: np.add(x, 1.0, out=STATE["a"]), "a = a + x"),
    "at": (lambda x: np.add.at(STATE["a"], [0], x[0]), "a = a + x"),
    "copyto": (lambda x: np.copyto(STATE["a"], x), "a = a + x"),
    "sort": (lambda x: x.sort(), "a = a + x"),
    "array": (lambda x: np.array([x[0], x[1]]), "np.stack"),
    "changed after use": (written, "a = a + x"),
    "swallowed": (swallow, "np.where"),
    "function as result": (lambda x: lambda: x, "must be arrays"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals__name_the_line_and_the_way_out(name):
    f, way_out = REFUSED[name]
    for program in compiled(f), compiled(lambda x: f(x)):
        with pytest.raises(TypeError) as caught:
            program(np.array([1.0, 2.0, 0.5]))
        message = str(caught.value)
        assert way_out in message and "\n" not in message
        if not ("arguments" in message and "differ" in message) and "must be arrays" not in message:
            first = f.__code__.co_firstlineno
            places = [f"{__file__}:{n}: " for n in range(first, first + 6)]
            assert name == "changed after use" or message.startswith(tuple(places))


@pytest.mark.parametrize("x, message", [
    (np.array([1, "a"], object), "dtype object"),
    (np.ma.masked_array([1.0]), "type MaskedArray"),
    (object(), "type object"),
])  # fmt: skip
def test_refusals__of_arguments_name_their_kind(x, message):
    with pytest.raises(TypeError, match=message):
        compiled(lambda x: x)(x)


# What others found


NUMBER = np.int64
VARYING = {  # f, arguments that come one after another
    "where": (
        lambda x: np.sum(x[np.where(x > 0)] * 2.0),
        ([1.0, 2, 3], [-1.0, -2, 3], [1.0, -2, 3]),
    ),
    "slice": (lambda x: np.sum(x[: np.argmax(x)] * 2.0), ([1.0, 2, 3], [1.0, 5, 3])),
    "axis": (
        lambda x: np.sum(np.outer(x, [1.0, 2.0]), np.argmax(x)) * 1.0,
        ([1.0, 2, 0], [3.0, 1, 0]),
    ),
    "expand": (lambda x: np.expand_dims(x, np.argmin(x)) * 2, ([1.0, 0, 2], [0.0, 1, 2])),
    "trim": (lambda x: np.sum(np.trim_zeros(x * 1.5)), ([0.0, 1, 2, 0], [1.0, 0, 2, 3])),
    "out": (lambda x: np.sum(x, out=None), ([1.0, 2], [3.0, 4])),
}


@pytest.mark.parametrize("name", VARYING)
def test_compiled__shapes_that_numbers_decide(name):
    f, inputs = VARYING[name]
    agree(f, *[(np.array(x),) for x in inputs])


@pytest.mark.parametrize("scale", [None, 1.5])  # a view of the argument; of memory set aside once
def test_compiled__views_that_numbers_decide_are_not_made_once(scale, monkeypatch):
    def f(x):
        return np.trim_zeros(x if scale is None else x * scale) * 2.0

    def two_zeros(size, dtype):
        return left_by_others(size, dtype, np.arange(size) >= 16)

    monkeypatch.setattr(npgrad.program, "aligned", two_zeros)
    program, x = compiled(f), np.array([0.0, 1, 2, 0])
    for values in [0, 1, 2, 0], [1, 2, 0, 0], [0, 0, 3, 4]:
        x[:] = values
        assert program(x).tolist() == f(x).tolist()


def test_compiled__an_item_chosen_by_the_array_itself():
    def f(x):
        return x[x[0, ...], ...] * 2

    program, x = compiled(f), np.array([1, 2, 3])
    for first in 1, 2, 0:
        x[0] = first
        assert program(x) == f(x)


def test_compiled__whole_numbers_decide_shapes():
    x = np.arange(12.0)
    for f in (
        lambda x, k: np.sum(x[:k] * 2.0),
        lambda x, k: np.reshape(x, (k, -1)) * 2.0,
        lambda x, k: np.broadcast_to(x, (k, 12)) * 2.0,
    ):
        agree(f, (x, NUMBER(3)), (x, NUMBER(1)), (x, NUMBER(4)))


def test_compiled__results_share_no_memory():
    g = compiled(value_and_grad(lambda a, b: np.sum((a + b) ** 2), (0, 1)))
    for results in (g(np.ones(2), np.ones(2))[1], compiled(lambda x: (x * 2, x * 2))(np.ones(2))):
        results[0][:] = 0.0
        assert results[1].all()


@given(SEEDS)
def test_compiled__squares_of_numbers_and_products_with_a_transpose(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(60, 50)), rng.normal(size=20)
    agree(lambda x: (x[0, 0] ** 2, np.sum(x) ** 2), (x,))
    agree(lambda x: np.linalg.matmul(x * 2, (x * 2).T), (x,))
    agree(lambda x: np.linalg.multi_dot([x * 2, (x * 2).T]), (x,))
    agree(lambda x: np.einsum("ij,kj->ik", x, x.copy(), optimize=True), (x,))
    agree(lambda x: x @ np.sin(np.arange(400.0)).reshape(20, 20)[::-1], (y,))


def test_compiled__tells_a_number_from_its_type():
    f = lambda a, b: (
        (a if isinstance(a, np.generic) else 10.0) - (b if isinstance(b, np.generic) else 10.0)
    )
    agree(f, (np.float64(2), np.float64), (np.float64, np.float64(2)))


def test_compiled__with_after_keeps_no_more_programs_than_it_may():
    runs = []

    def f(x):
        runs.append(len(x))
        return 2 * x

    program = compiled(f, 1)
    for n in 3 * [*range(1, PROGRAMS + 10)]:
        program(np.ones(n))
    # once by itself, then traced twice; beyond the programs that are kept always by itself
    assert len(runs) == 3 * PROGRAMS + 3 * 9


@pytest.mark.parametrize("after", [-1, 2.5, "x", None, True])
def test_compiled__refuses_what_is_no_number_of_calls(after):
    with pytest.raises(ValueError, match="after = "):
        compiled(np.sin, after)
