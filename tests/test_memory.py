"""Arrays that begin at a cache line."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npgrad.memory import aligned, aligned_copy


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
