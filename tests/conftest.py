"""One BLAS thread per test process; Ctrl-C works, also where a script has started the suite in the
background; Hypothesis profiles, the same examples on every run in CI."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from folders import scratch
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def here():
    """A new working directory."""
    with scratch() as path:
        yield path


settings.register_profile("fast", max_examples=25, deadline=None)
settings.register_profile("ci", settings.get_profile("fast"), derandomize=True)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "fast")
)
