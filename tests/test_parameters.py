"""Flat vectors and their named views."""

import copy
import keyword
import math
import pickle
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgrad import Layout, grad

SHAPES = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=5)


def layout_of(shapes):
    return Layout(**{f"p{i}": shape for i, shape in enumerate(shapes)})


@given(SHAPES)
def test_layout__views_tile_the_vector_in_order(shapes):
    layout = layout_of(shapes)
    theta = np.arange(float(layout.size))
    views = layout.views(theta)
    assert layout.size == sum(math.prod(shape) for shape in shapes)
    assert [view.shape for view in views] == shapes
    assert np.array_equal(np.concatenate([view.ravel() for view in views]), theta)
    assert np.array_equal(layout.flatten(**views._asdict()), theta)


@given(SHAPES)
def test_layout__views_of_two_vectors_stay_apart_and_write_through(shapes):
    layout = layout_of(shapes)
    vectors = [np.zeros(layout.size) for _ in range(3)]
    for k in (0, 1, 2, 0, 1, 2):
        for view in layout.views(vectors[k]):
            view += k + 1
    for k, theta in enumerate(vectors):
        assert np.array_equal(theta, np.full(layout.size, 2.0 * (k + 1)))


@given(SHAPES, st.data())
def test_layout__name_of_finds_the_entry(shapes, data):
    layout = layout_of(shapes)
    i = data.draw(st.integers(0, layout.size - 1))
    name, _, index = layout.name_of(i).rstrip("]").partition("[")
    theta = np.zeros(layout.size)
    position = tuple(int(k) for k in index.split(",")) if index else ()
    getattr(layout.views(theta), name)[position] = 1.0
    assert theta[i] == 1.0 and theta.sum() == 1.0


def test_layout__views_reach_into_shared_memory():
    layout = Layout(W=(2, 3), b=(3,))
    memory = SharedMemory(create=True, size=8 * layout.size)
    try:
        theta = np.ndarray(layout.size, buffer=memory.buf)
        theta[:] = 0.0
        other = np.ndarray(layout.size, buffer=memory.buf)
        layout.views(other).W[1, 2] = 7.0
        assert theta[5] == 7.0
        layout = theta = other = None
    finally:
        memory.close()
        memory.unlink()


def test_layout__views_of_a_traced_vector_are_differentiated():
    layout = Layout(W=(2, 2), b=(2,))

    def f(theta):
        p = layout.views(theta)
        return np.sum(p.W * p.W) + 3.0 * np.sum(p.b)

    theta = np.arange(6.0)
    assert np.array_equal(grad(f)(theta), [0.0, 2.0, 4.0, 6.0, 3.0, 3.0])


@given(SHAPES, SHAPES)
def test_layout__is_equal_if_names_and_shapes_are(a, b):
    assert layout_of(a) == layout_of(a) and hash(layout_of(a)) == hash(layout_of(a))
    assert (layout_of(a) == layout_of(b)) is (a == b)
    assert layout_of(a) != a


def test_layout__names_a_scalar_without_an_index():
    assert [Layout(c=(), W=(1, 2)).name_of(i) for i in range(3)] == ["c", "W[0, 0]", "W[0, 1]"]


def test_layout__refuses_vectors_that_do_not_fit():
    layout = Layout(W=(2, 3), b=(3,))
    with pytest.raises(ValueError, match=r"shape \(8,\).*needs \(9,\)"):
        layout.views(np.zeros(8))
    with pytest.raises(ValueError, match="contiguous"):
        layout.views(np.zeros(18)[::2])
    with pytest.raises(ValueError, match="needs"):
        layout.flatten(W=0.0)
    with pytest.raises(IndexError, match="entry 9"):
        layout.name_of(9)
    with pytest.raises(TypeError, match="parameters of type list"):
        layout.views([0.0] * 9)
    for name, wrong in (("W", np.zeros(3)), ("W", np.zeros((3, 2))), ("b", np.zeros((1, 3)))):
        with pytest.raises(ValueError, match=f"{name} of shape .*: must be"):
            layout.flatten(**{"W": 0.0, "b": 0.0, name: wrong})


@given(st.integers(0, 5), st.sampled_from((int, np.int64, np.uint8)), st.booleans())
def test_layout__takes_a_number_for_a_vector_and_any_integers(n, kind, several):
    shape = [kind(n), kind(2)] if several else kind(n)
    assert Layout(self=shape) == Layout(self=(n, 2) if several else (n,))
    assert Layout(self=np.array(shape)).size == (2 * n if several else n)
    assert Layout().size == 0 and Layout().views(np.zeros(0)) == ()


@given(st.sampled_from((-1, (2, -1), 2.0, (2.0, 3), True, (True, 3), None, "23", ((2, 3),), 1j)))
def test_layout__names_a_shape_that_is_none(shape):
    with pytest.raises(ValueError, match=r"^W = .*: must be integers of at least 0$"):
        Layout(b=2, W=shape)


@given(st.sampled_from(keyword.kwlist) | st.sampled_from(("_x", "a b", "", "1a", "x.y")))
def test_layout__names_a_name_that_is_none(name):
    with pytest.raises(ValueError, match=f"'{name}'"):
        Layout(**{name: 2})


@given(SHAPES, st.sampled_from((copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)))))
def test_layout__a_copy_is_equal_and_has_views_of_its_own(shapes, copied):
    """Also if θ, whose views are known, is copied beside it."""
    layout = layout_of(shapes)
    theta = np.zeros(layout.size)
    views = layout.views(theta)
    other, other_theta = copied((layout, theta))
    assert other == layout and repr(other) == repr(layout)
    for view in other.views(other_theta):
        view += 1.0
    assert (other_theta == 1.0).all() and not theta.any() and layout.views(theta) is views
