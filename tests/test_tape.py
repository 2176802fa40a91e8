"""The tape's mechanics: indices, casts, branches, pieces and wholes, copies, memory and time."""

import array
import gc
import numbers
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import polynomial
from strategies import programs

from npgrad import autodiff, check_grads, grad, jacobian, value_and_grad, vjp
from npgrad.node import keep, plain

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=max(2, settings().max_examples * 2 // 5))  # of each of many
MANY = settings(max_examples=settings().max_examples * 3)


# Indices of every type


class Sequence:
    """A sequence, of which NumPy makes an array."""

    def __init__(self, items):
        self.items = list(items)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Convertible(Sequence):
    def __array__(self, dtype=None, copy=None):
        return np.array(self.items, dtype)


class Integer:
    def __init__(self, i):
        self.i = i

    def __index__(self):
        return self.i


INTEGERS = {  # forms of a list of positions
    "list": list,
    "tuple": tuple,
    "list of np.int64": lambda i: [np.int64(k) for k in i],
    "array": np.array,
    "int8": lambda i: np.array(i, np.int8),
    "strided": lambda i: np.repeat(i, 2)[::2],
    "nested tuple": lambda i: (tuple(i), tuple(i[::-1])),
    "nested list": lambda i: [i, i],
    "array.array": lambda i: array.array("q", i),
    "memoryview": lambda i: memoryview(array.array("q", i)),
    "__array__": Convertible,
    "sequence": Sequence,
    "of both signs": lambda i: [k if n % 2 else k - 3 for n, k in enumerate(i)],
    "range": lambda i: range(-3, 3),
    "0-d": lambda i: np.array(i[0]),
    "np.int64": lambda i: np.int64(i[0]),
    "integer": lambda i: Integer(i[0]),
}
OTHERS = {
    "empty": lambda i: [],
    "mask": lambda i: np.isin(np.arange(3), i),
    "list mask": lambda i: np.isin(np.arange(3), i).tolist(),
    "slice": lambda i: slice(Integer(i[0]), None, np.array(1)),
    "bool": lambda i: True,
    "np.bool": lambda i: np.bool_(i[0] > 0),
}
ONE = {  # (number of axes of x, index) of a part
    "alone": lambda i: (1, (i,) if isinstance(i, tuple) else i),
    "first of two": lambda i: (2, (i,)),
    "after a slice": lambda i: (2, (slice(None, None, -1), i)),
    "before a slice": lambda i: (2, (i, slice(1, None))),
    "after dots": lambda i: (3, (..., i)),
    "between new axes": lambda i: (2, (None, i, np.newaxis)),
    "beside an integer": lambda i: (3, (slice(1), i, 2)),
}
TWO = {  # of two parts of one form
    "both": lambda i, j: (2, (i, j)),
    "around a slice": lambda i, j: (3, (i, slice(None), j)),
}


@pytest.mark.parametrize("form", [*INTEGERS, *OTHERS])
@FEW
@given(st.data(), st.lists(st.integers(0, 2), min_size=8, max_size=8), SEEDS)
def test_indexing__adds_up_repeated_positions_of_every_type(form, data, positions, seed):
    """Of four positions on an axis of size 3, one repeats."""
    make = (INTEGERS | OTHERS)[form]
    layouts = list(ONE.items()) + (list(TWO.items()) if form in INTEGERS else [])
    name, layout = data.draw(st.sampled_from(layouts))
    parts = [make(positions[:4]), make(positions[4:])]
    ndim, index = layout(*parts[: 1 if name in ONE else 2])
    shape = (3,) * ndim
    x = np.random.default_rng(seed).normal(size=shape)
    places = np.arange(x.size).reshape(shape)[index]  # by NumPy alone
    w = np.random.default_rng(seed).integers(-5, 6, places.shape).astype(float)
    f = lambda x: np.sum(w * x[index])
    expected = np.bincount(places.ravel(), w.ravel(), x.size)
    value, d = value_and_grad(f)(x)
    assert value == f(x) and np.array_equal(d.ravel(), expected)
    hessian = jacobian(grad(lambda x: f(x * x)))(x).reshape(x.size, x.size)
    assert np.array_equal(hessian, np.diag(2.0 * expected))


def set_all(i):
    i[...] = 0


CHANGES = {  # an index, and a change of it
    "array": (lambda: np.array([0, 2, 2]), set_all),
    "large array": (lambda: np.full(4000, 2), set_all),
    "0-d": (lambda: np.array(2), set_all),
    "mask": (lambda: np.array([True, False, True]), set_all),
    "list": (lambda: [0, 2, 2], lambda i: i.clear()),
    "nested list": (lambda: [[0, 2], [2, 2]], lambda i: i[1].reverse() or i[0].reverse()),
    "array in a tuple": (lambda: (np.array([0, 2, 2]),), lambda i: set_all(i[0])),
    "list in a tuple": (lambda: (None, [0, 2, 2]), lambda i: i[1].reverse()),
    "array.array": (lambda: array.array("q", [0, 2, 2]), lambda i: i.reverse()),
    "sequence": (lambda: Sequence([0, 2, 2]), lambda i: i.items.reverse()),
    "integer": (lambda: Integer(2), lambda i: setattr(i, "i", 0)),
    "slice": (lambda: slice(np.array(1), None), lambda i: set_all(i.start)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_indexing__is_not_affected_by_later_changes_of_the_index(name):
    make, change = CHANGES[name]

    def f(x, change):
        index = make()
        y = x[index] * x[index]
        change(index)
        return np.sum(y * np.arange(1.0, y.size + 1).reshape(y.shape))

    x = np.array([3.0, 4.0, 5.0])
    assert np.array_equal(grad(f)(x, change), grad(f)(x, lambda i: None))


def test_take__is_numpys_for_masks_and_repetitions():
    x = np.array([3.0, 4.0, 5.0])
    for indices in ([True, False, True], np.array([False, False]), ((2, 2), (0, 2)), range(2), 1):
        check_grads(lambda x, i=indices: np.take(x, i) ** 2, x)
        assert np.array_equal(vjp(lambda x, i=indices: np.take(x, i), x)[0], np.take(x, indices))
    assert np.array_equal(grad(lambda x: np.sum(np.repeat(x, (0, 2, 3))))(x), [0.0, 2.0, 3.0])
    repeated = np.array([[0, 0], [1, 1]])
    d = grad(lambda x: np.sum(np.take_along_axis(x, repeated, 1)))(np.ones((2, 2)))
    assert np.array_equal(d, [[2.0, 0.0], [0.0, 2.0]])
    for axis in (0, None):
        f = lambda x, axis=axis: np.sum(np.take_along_axis(x, x > 3, axis))
        for function in (f, grad(f)):
            with pytest.raises(IndexError, match="integer"):
                function(x)


# Casts, and other ways in which a derivative could be lost


NOT_FLOATS = [complex, np.complex64, object, "m8[s]", "M8[s]", "S8", "U8", [("a", float)], "2f8"]


@pytest.mark.parametrize("dtype", NOT_FLOATS, ids=str)
def test_casts__to_what_is_no_real_number_are_refused(dtype):
    message = "astype.*must be a real float type, or an integer type or bool for a constant"
    for f in (lambda x: x.astype(dtype), grad(lambda x: np.sum(x.astype(dtype)))):
        with pytest.raises(TypeError, match=message):
            grad(f)(np.ones(2))


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", np.longdouble, int, "u1", bool])
def test_casts__to_floats_have_slope_one_and_to_integers_zero(dtype):
    x = np.array([0.5, 1.5, 2.0])  # exact in all
    value, pullback = vjp(lambda x: x.astype(dtype), x)
    slope = np.dtype(dtype).kind == "f"
    assert value.dtype == dtype and np.array_equal(value, x.astype(dtype))
    assert np.array_equal(pullback(np.arange(3))[0], slope * np.arange(3.0))
    hessian = jacobian(grad(lambda x: np.sum(x.astype(dtype) * x * x)))(x)
    expected = np.diag(6.0 * x if slope else 2.0 * x.astype(dtype))
    assert np.array_equal(hessian, expected)


@pytest.mark.parametrize("n", [2, 3000])
@pytest.mark.parametrize("dtype", [complex, object])
def test_constants__that_are_no_real_numbers_are_refused(n, dtype):
    c = np.ones(n).astype(dtype)
    for f in (
        lambda x: x * c,
        lambda x: np.where(c == 1, x, c),
        lambda x: np.stack([c, c * 0]) @ x,
    ):
        with pytest.raises(TypeError, match="must be real numbers"):
            jacobian(f)(np.ones(n))


def test_full_like__has_the_arrays_dtype():
    x = np.array([1.0, 2.0], np.float32)
    f = lambda x, y: np.full_like(x, y) * x
    assert vjp(f, x, 1 / 3)[0].dtype == np.float32
    assert grad(lambda y: np.sum(f(x * y, y)))(2.0) == 12.0
    with pytest.raises(TypeError, match="has no derivative rule"):
        grad(lambda y: np.sum(np.full_like(np.arange(3), y)))(1.5)


def test_pad__refuses_a_differentiated_fill_of_zero():
    with pytest.raises(TypeError, match="with zeros"):
        grad(lambda y: np.sum(np.pad(y * np.ones(2), 1, constant_values=y)))(0.0)


def test_parameters__that_have_no_rule_are_refused():
    x = np.array([1.0, 2.0, 3.0])
    for f in (lambda p: np.linalg.norm(x * p, p), lambda p: np.var(x * p, ddof=p)):
        with pytest.raises(TypeError, match="no derivative rule"):
            grad(f)(1.0)


# isinstance and the like


BRANCHES = {
    "np.ndarray": lambda x: isinstance(x, np.ndarray),
    "float": lambda x: isinstance(x, float),
    "(int, float)": lambda x: isinstance(x, (int, float)),
    "np.floating": lambda x: isinstance(x, np.floating),
    "np.float32": lambda x: isinstance(x, np.float32),
    "Number": lambda x: isinstance(x, numbers.Number),
    "Real": lambda x: isinstance(x, numbers.Real),
    "list": lambda x: isinstance(x, (list, tuple)),
    "np.isscalar": np.isscalar,
    "np.iterable": np.iterable,
    "np.ndim": np.ndim,
    "__class__": lambda x: x.__class__,
}
VALUES = {
    "0-d": lambda x: np.reshape(x[0], ()),
    "1-d": lambda x: x * 2.0,
    "2-d": lambda x: np.outer(x, x),
    "entry": lambda x: x[1],
    "slice": lambda x: x[:1],
    "float32": lambda x: x.astype(np.float32)[0],
    "sum": np.sum,
    "mean": lambda x: x.mean(),
    "inner": lambda x: np.inner(x, x),
    "dot": lambda x: x @ x,
    "norm": np.linalg.norm,
    "copy of 0-d": lambda x: np.copy(np.reshape(x[0], ())),
    "copy": lambda x: np.copy(x[0]),
    "trace": lambda x: np.trace(np.outer(x, x)),
    "einsum": lambda x: np.einsum("i,i->", x, x),
    "where": lambda x: np.where(x[0] > 0, x[0], x[1]),
    "prod": np.prod,
    "max": np.max,
    "std": np.std,
    "median": np.median,
    "quantile": lambda x: np.quantile(x, 0.3),
    "interp": lambda x: np.interp(x[0], [0.0, 3.0], [1.0, 2.0]),
    "nan_to_num": lambda x: np.nan_to_num(x[0]),
}


@pytest.mark.parametrize("value", VALUES)
def test_branches__are_those_of_plain_values(value):
    x, make, seen = np.array([1.0, 2.0]), VALUES[value], []
    plain = [branch(make(x)) for branch in BRANCHES.values()]

    def f(x):
        seen.append([branch(make(x)) for branch in BRANCHES.values()])
        return np.sum(x)

    grad(f)(x)
    jacobian(grad(f))(x)
    assert seen == [plain] * 2


def test_branches__of_arguments():
    def f(x):
        seen.append([BRANCHES[name](x) for name in ("np.ndarray", "float", "Number")])
        return x * x

    for x in (1.5, np.float64(1.5), np.float32(1.5), np.array(1.5)):
        seen = []
        f(x)
        grad(f)(x)
        assert seen[0] == seen[1]


@given(SEEDS, st.sampled_from([(3,), (3, 2)]), st.sampled_from([(), (2,), (2, 2)]))
def test_branches__of_numpys_own_python_code(seed, shape_c, shape_x):
    rng = np.random.default_rng(seed)
    c, x = rng.normal(size=shape_c), np.asarray(rng.normal(size=shape_x))
    f = lambda x: polynomial.polyval(x, c)
    np.testing.assert_array_equal(vjp(f, x)[0], f(x))
    check_grads(f, x)


# Pieces and wholes: polynomials of degree 3 at most with integer coefficients, at integers. All
# values are exact, and so are central differences: f's Richardson, for degree 4; ∇f's, for degree
# 3; those of the Hessian, which is linear.


def differences(f, x, step=1.0):
    """[f(x + step e) - f(x - step e)] for each unit vector e, along a new last axis."""
    return np.stack([f(x + e) - f(x - e) for e in step * np.eye(len(x))], -1)


@MANY
@given(programs(), SEEDS)
def test_pieces_and_wholes__have_exact_derivatives(program, seed):
    F, x = program
    y = F(x)
    w = np.random.default_rng(seed).integers(-3, 4, len(y)).astype(float)
    f = lambda x: np.sum(w * F(x))
    J = (8.0 * differences(F, x) - differences(F, x, 2.0)) / 12.0
    H = differences(grad(f), x) / 2.0
    assert np.array_equal(jacobian(F)(x), J)
    assert np.array_equal(grad(f)(x), w @ J)
    assert np.array_equal(jacobian(grad(f))(x), H)
    assert np.array_equal(jacobian(lambda w: vjp(F, x)[1](w * w)[0])(w), 2.0 * w * J.T)
    v = np.arange(1.0, len(x) + 1)
    assert np.array_equal(grad(lambda x: v @ grad(f)(x))(x), H @ v)
    assert np.array_equal(vjp(grad(f), x)[1](v)[0], H @ v)
    assert np.array_equal(jacobian(lambda t: grad(f)(x + t * v))(0.0), H @ v)


@MANY
@given(programs(), SEEDS)
def test_pieces_and_wholes__nest_three_deep(program, seed):
    F, x = program
    w = np.random.default_rng(seed).integers(-3, 4, len(F(x))).astype(float)
    hessian = jacobian(grad(lambda x: np.sum(w * F(x))))
    third = jacobian(hessian)(x)
    assert np.array_equal(third, differences(hessian, x) / 2.0)
    assert np.array_equal(third, np.transpose(third, (2, 0, 1)))


def test_pieces__of_scalars_and_of_mixed_precision_add_up():
    f = lambda x: np.sum(x[None] * x) + x * x + x[()] * x[...] * np.sum(x[None, None])
    for x in (2.0, np.array(2.0)):
        assert grad(f)(x) == 4 * x + 3 * x**2 and grad(grad(f))(x) == 4 + 6 * x
    x, c = np.array([1.0, 2.0], np.float32), np.array([1.0, 1e-9])
    d = grad(lambda x: np.sum(x[:1] * c[1]) + np.sum(x[:1]) + np.sum(x * c[0]) + x[0] * c[1])(x)
    assert d.dtype == np.float32 and np.array_equal(d, [2.0, 1.0])


# Copies of constants


@pytest.mark.parametrize("dtype", [float, np.float32, np.longdouble, np.int16, bool])
def test_keep__copies_a_large_array_once_while_it_is_the_same(dtype):
    x = np.random.default_rng(0).integers(0, 2, (200, 200)).astype(dtype)
    for a in (x, x.T, x[None], x.reshape(-1), x[::2], x[:, 3:], x[::-1], np.stack([x] * 2).T):
        kept = keep(a)
        assert np.array_equal(kept, a) and kept.dtype == a.dtype
        assert not np.shares_memory(kept, a) and np.shares_memory(kept, keep(a))
        for own in (kept, kept.T, kept[..., 1:]):
            assert keep(own) is own
        with pytest.raises(ValueError, match="WRITEABLE"):
            kept.flags.writeable = True
    assert np.shares_memory(keep(x), keep(x.T)) and keep(x.T).flags.f_contiguous


@pytest.mark.parametrize("dtype", [float, np.float32, np.longdouble])
def test_keep__sees_every_change_of_a_large_array(dtype):
    x = np.zeros(20_000, dtype)
    kept = [keep(x)]
    for i, value in ((-1, 1.0), (0, -0.0), (0, np.nan)):
        x[i] = value
        kept.append(keep(x))
        assert np.shares_memory(kept[-1], keep(x))
    assert [k[-1] for k in kept] == [0, 1, 1, 1] and np.isnan(kept[3][0])
    assert [bool(np.signbit(k[0])) for k in kept[:3]] == [False, False, True]


def test_keep__copies_objects_each_time():
    x = np.full(3000, 0.5, object)
    assert not np.shares_memory(keep(x), keep(x)) and keep(x).flags.owndata


def test_keep__tells_arrays_of_one_memory_apart():
    x = np.random.default_rng(0).normal(size=(100, 100))
    views = [x, x.view(np.int64), x[:50], x[::2], x[:, ::2], x[:99, :99], x.T[:50]]
    for kept, view in [(keep(v), v) for v in views]:
        assert kept.dtype == view.dtype and np.array_equal(kept, view)
        assert np.shares_memory(kept, keep(view))


CONSTANTS = {
    "x @ W": lambda x, W: x @ W,
    "W @ x": lambda x, W: W @ x,
    "x @ W.T": lambda x, W: x @ W.T,
    "dot": lambda x, W: np.dot(W, x),
    "einsum": lambda x, W: np.einsum("ij,j->i", W, x),
    "strided": lambda x, W: W[::2] @ x,
    "columns": lambda x, W: W[:, 5:] @ x[5:],
    "solve": lambda x, W: np.linalg.solve(W, x),
    "index": lambda x, W: x[(W[0] * 0).astype(int)],
    "derivative": lambda x, W: grad(lambda y: np.sum(np.sin(W @ y)) * (x @ x))(np.ones(len(x))),
    "derivative of x": lambda x, W: grad(lambda x: np.sum(np.sin(W @ x)))(x),
}


def peak(f, *args):
    """The most bytes in use while f runs."""
    tracemalloc.start()
    try:
        f(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants__are_kept_once(name):
    """Ten more uses of W cost less than half of W."""
    form, n = CONSTANTS[name], 300
    W, x = 3 * np.eye(n) + np.random.default_rng(0).normal(size=(n, n)) / n, np.ones(n)
    f = lambda x, uses: sum(np.sum(np.sin(form(x, W))) for _ in range(uses))
    grad(f)(x, 1)
    assert peak(grad(f), x, 12) - peak(grad(f), x, 2) < W.nbytes / 2


@pytest.mark.parametrize(
    ("form", "arrays"),
    [
        (lambda x, c: np.einsum("i,i->", c, x), 1),
        (lambda x, c: c.reshape(2, -1) @ x[: len(x) // 2], 1),
        (lambda x, c: x[: len(x) // 2] @ c.reshape(-1, 2), 1),
        (lambda x, c: np.where(c > 0, x, c), 2),
    ],
)
def test_constants__that_are_temporary_are_held_once(form, arrays):
    """With the result, as many arrays as named, for each use."""
    x, uses = np.ones(20_000), 8
    f = lambda x: sum(np.sum(form(x, np.full(len(x), k))) for k in range(uses))
    assert peak(grad(f), x) < (arrays + 0.7) * uses * x.nbytes


@given(SEEDS, st.sampled_from([5, 2000]), st.lists(st.sampled_from("keep change undo".split())))
def test_constants__may_change_in_place(seed, n, changes):
    """Between any two uses, and after the function has returned."""
    rng = np.random.default_rng(seed)
    x, start, other = rng.normal(size=(3, n))
    c, kept = start.copy(), [start.copy()]

    def f(x):
        total = np.sum(c * x * x)
        for change in changes:
            c[:] = {"keep": c, "change": c + 1.0, "undo": start}[change]
            kept.append(c.copy())
            total = total + np.sum(c * x * x)
        return total

    _, pullback = vjp(f, x)
    c[:] = other
    np.testing.assert_allclose(pullback(1.0)[0], 2 * x * np.sum(kept, 0), rtol=1e-12, atol=1e-12)


MUTABLE = {
    "multiply": lambda x, a, i, m: x * a,
    "matmul": lambda x, a, i, m: x * x @ np.stack([a, a], 1),
    "where": lambda x, a, i, m: np.where(m, x * x, a),
    "indices": lambda x, a, i, m: x[i] * x[m][0] * np.take(x, i),
    "roll": lambda x, a, i, m: x * np.roll(x, i[:1], 0),
    "concatenate": lambda x, a, i, m: np.concatenate([a, x]) * np.concatenate([x, a]),
    "stack": lambda x, a, i, m: np.prod(np.stack([x, a, x]), 0),
    "einsum": lambda x, a, i, m: np.einsum("i,i,j->j", x, a, x),
    "power": lambda x, a, i, m: np.exp(x) ** a,
    "clip": lambda x, a, i, m: np.clip(x, a, None) * x,
}


@pytest.mark.parametrize("name", MUTABLE)
@pytest.mark.parametrize("n", [3, 3000])
def test_vjp__is_not_affected_by_later_changes(name, n):
    """Of its arguments, of its value, and of what the function used."""
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(2, n))
    i, m = rng.integers(1, n, n), rng.random(n) < 0.6
    m[0] = True
    value, pullback = vjp(lambda x, y: MUTABLE[name](x * y, a, i, m), x, a)
    g = rng.normal(size=value.shape)
    before = pullback(g)
    x[:], a[:], i[:], m[:], value[...] = 7.0, 8.0, 0, False, 9.0
    for d, e in zip(pullback(g), before):
        assert np.array_equal(d, e)


def test_vjp__is_not_affected_by_later_changes_of_lists():
    x, shift, axis, index = np.arange(3.0), [1], [0], [0, 2, 2]
    c, mask = [1.0, 2.0, 3.0], [True, True, False]
    roll = lambda x: np.roll(np.where(mask, x * c, c), shift, axis)
    pullbacks = [vjp(lambda x: roll(x) * x[index], x)[1]]
    grad(lambda y: pullbacks.append(vjp(lambda x: roll(x * y), x)[1]) or y)(1.0)
    before = [pullback(np.ones(3))[0] for pullback in pullbacks]
    for changed in (shift, axis, index, c, mask):
        changed.clear()
    for pullback, d in zip(pullbacks, before):
        assert np.array_equal(pullback(np.ones(3))[0], d)


def test_nodes__that_outlived_their_derivative_are_arguments_like_others():
    kept, x = [], np.array([1.0, 2.0])
    grad(lambda x: kept.append(x * x) or np.sum(x))(x)
    f = lambda y: np.sum(np.where(y > 1.0, y * y, 0.0))
    assert np.array_equal(grad(f)(kept[0]), [0.0, 8.0])
    assert np.array_equal(jacobian(grad(f))(kept[0]), [[0.0, 0.0], [0.0, 2.0]])
    with pytest.raises(TypeError, match="must be real"):
        jacobian(lambda y: np.where(y > 1.0, y, 1j))(kept[0])


# Memory and time


def test_tape__is_freed_at_once():
    """By reference counts alone, after an error too."""
    W, x = np.random.default_rng(0).normal(size=(2, 100, 100))
    kept = []

    def f(x, fail):
        y = np.tanh(W @ x)[:50]
        kept.append(y[0, 0])
        return np.sum(y) / (0 if fail else 1)

    def run():
        grad(f)(x, False)
        with pytest.raises(ZeroDivisionError):
            grad(lambda x: f(x, 1 // 0))(x)

    run()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run()
        assert tracemalloc.get_traced_memory()[0] - before < W.nbytes / 2
    finally:
        tracemalloc.stop()
        gc.enable()


def calls(f, *args):
    """The number of calls, of Python and C functions, while f runs."""
    events = []
    gc.disable()  # whose callbacks are calls
    sys.setprofile(lambda frame, event, arg: events.append(event))
    try:
        f(*args)
    finally:
        sys.setprofile(None)
        gc.enable()
    return sum("call" in event for event in events)


JOINED = {
    "whole": lambda x: x,
    "stack": lambda x: np.stack([a * a for a in x]),
    "concatenate": lambda x: np.concatenate([x[i : i + 1] for i in range(len(x))]) * x,
    "with constants": lambda x: np.stack([a * a if n % 2 else 1.0 for n, a in enumerate(x)]) * x,
    "hstack": lambda x: np.hstack([a * a for a in x]),
    "vstack": lambda x: np.vstack([a * a for a in x])[:, 0],
    "column_stack": lambda x: np.column_stack([a[None] * a for a in x])[0],
    "append": lambda x: np.append(np.stack(list(x)), x),
    "split": lambda x: sum(a * a for a in np.split(x, len(x))),
    "array_split": lambda x: sum(a * a for a in np.array_split(x, len(x))),
    "iteration": lambda x: sum(a * a for a in x),
}


@pytest.mark.parametrize("name", JOINED)
def test_pieces__cost_as_much_each_however_many(name):
    """Calls, and bytes on the tape, are linear in the number of pieces; nested too."""
    f = lambda x: sum(a for a in x) + np.sum(JOINED[name](x) ** 2)

    def cost(n):
        held = autodiff._Trace(grad(f), [np.ones(n)], {}, [0]).entries
        product = grad(lambda x: np.sum(grad(f)(x) * x))
        size = sum(plain(node).nbytes for node, *_ in held)
        return np.array([calls(grad(f), np.ones(n)), calls(product, np.ones(n)), size])

    small, medium, large = cost(20), cost(40), cost(80)
    assert np.array_equal(large - medium, 2 * (medium - small))


def test_pieces__leave_the_gradients_of_others_alone():
    """x + y has one gradient for both; a piece of x adds to that of x."""

    def f(x, y):
        piece = x[0] * 2.0
        return (x + y) + piece * np.array([0.0, 1.0])

    x, g = np.ones(2), np.array([3.0, 5.0])
    _, pullback = vjp(f, x, x)
    for d, expected in zip(pullback(g), ([13.0, 5.0], [3.0, 5.0])):
        assert np.array_equal(d, expected)
    assert np.array_equal(vjp(lambda x, y: x[::-1] * 0.0 + (x + y), x, x)[1](g)[1], g)
    assert np.array_equal(g, [3.0, 5.0])


def test_pieces__of_arrays_share_one_array(monkeypatch):
    arrays, scatter = [], autodiff.scatter
    monkeypatch.setattr(autodiff, "scatter", lambda *args: arrays.append(args) or scatter(*args))
    x = np.ones(20)
    grad(lambda x: sum(a * a for a in x) + np.sum(x[1:] * x[:-1]))(x)
    grad(lambda x: sum(a * a for a in x) + np.sum(x))(x)
    assert len(arrays) == 2


def test_threads__keep_their_own_constants():
    twice = lambda x, c: np.sum(c * x + c * x)

    def work(k, results):
        c, x = np.full(5000, float(k)), np.arange(5000.0)
        for _ in range(20):
            c += 1.0
            results.append(np.array_equal(grad(twice)(x, c), 2 * c))

    results = []
    threads = [threading.Thread(target=work, args=(k, results)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 80
