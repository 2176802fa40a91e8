"""The pytest plugin: collects functions under @gradient_of as tests, by its entry point.

It is a module outside the package, so that pytest does not import NumPy before a conftest.py can
set the number of threads.
"""

from types import FunctionType

import pytest


class GradientTest(pytest.Function):
    """The test of a function `tested`, which has the attributes that @gradient_of gives."""

    def reportinfo(self):
        code = self.obj.tested.__code__
        return code.co_filename, code.co_firstlineno - 1, self.name


def pytest_pycollect_makeitem(collector, name, obj):
    """Collect `score` of @gradient_of(log_prob) as the test score[gradient of log_prob]."""
    if not isinstance(obj, FunctionType) or not hasattr(obj, "gradient_of"):
        return None

    def check():
        __tracebackhide__ = True
        print(obj.check())

    check.tested, check.pytestmark = obj, getattr(obj, "pytestmark", [])
    f = getattr(obj.gradient_of, "__name__", type(obj.gradient_of).__name__)
    return GradientTest.from_parent(collector, name=f"{name}[gradient of {f}]", callobj=check)
