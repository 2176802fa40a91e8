"""Alignment, minima, small numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from npgrad.memory import aligned, aligned_copy, flush, smallest


@given(st.integers(1, 50), st.sampled_from((np.float32, np.float64)))
def test_aligned__begins_at_a_cache_line(n, dtype):
    x = aligned((n, 3), dtype)
    assert x.ctypes.data % 64 == 0 and x.shape == (n, 3) and x.dtype == dtype


@given(
    arrays(st.sampled_from((float, np.float32)), st.tuples(st.integers(0, 2), st.integers(1, 9))),
    st.sampled_from((None, np.float64)),
)
def test_aligned_copy__is_a_copy_that_begins_at_a_cache_line(x, dtype):
    copy = aligned_copy(x, dtype)
    assert np.array_equal(copy, x, equal_nan=True) and copy.dtype == (dtype or x.dtype)
    assert not np.shares_memory(copy, x) and (x.size == 0 or copy.ctypes.data % 64 == 0)


@given(
    arrays(st.sampled_from((float, np.float32, int, bool)), array_shapes(min_dims=0, min_side=0))
)
def test_smallest__is_the_minimum(x):
    assert np.array_equal(smallest(x), x.min() if x.size else np.inf, equal_nan=x.dtype.kind == "f")


@given(st.sampled_from((np.float32, np.float64)))
def test_flush__by_default_clears_what_is_on_its_way_to_a_denormal_number(dtype):
    tiny = float(np.finfo(dtype).tiny)
    x = np.array([0.0, tiny / 2, -tiny, 0.9e8 * tiny, -1.1e8 * tiny, 1.0], dtype)
    flushed = x.copy()
    flush(flushed)
    assert flushed.tolist() == [0.0, 0.0, 0.0, 0.0, *x[4:].tolist()]


@given(arrays(float, 5, elements=st.floats(-1, 1)), st.floats(1e-9, 0.9))
def test_flush__clears_what_is_small_and_nothing_else(x, least):
    flushed = x.copy()
    flush(flushed, least)
    assert flushed.tolist() == [0.0 if abs(number) < least else number for number in x.tolist()]
