"""The pytest plugin, by its entry point: functions under @gradient_of are tests; and so, with
--npgrad-referee FILE, are the estimators, returns and gradients in FILE.

It is a module outside the package, so that pytest does not import NumPy before a conftest.py can
set the number of threads.
"""

from pathlib import Path
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


def pytest_addoption(parser):
    """Add --npgrad-referee."""
    parser.getgroup("npgrad").addoption(
        "--npgrad-referee", metavar="FILE", action="append", default=[],
        help="judge every estimator, returns and gradient in FILE (see npgrad referee --help)",
    )  # fmt: skip


def pytest_configure(config):
    """Collect the files of --npgrad-referee, alone unless other arguments are given."""
    files = config.getoption("--npgrad-referee")
    given = config.args_source is config.ArgsSource.ARGS
    config.args[:] = [*(config.args if given or not files else []), *files]


def pytest_collect_file(file_path, parent):
    """Collect a file of --npgrad-referee that has tests, too."""
    return _judged(file_path, parent, tests=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path, parent):
    """Collect any other file of --npgrad-referee, which is no module of tests."""
    return _judged(module_path, parent, tests=False)


def _judged(path, parent, tests):
    """The collector of a file of --npgrad-referee, if its name is one of tests, or if it is not."""
    files = parent.config.getoption("--npgrad-referee")
    if not any(path.samefile(file) for file in files if Path(file).exists()):
        return None
    if any(map(path.match, parent.config.getini("python_files"))) != tests:
        return None
    return Judged.from_parent(parent, path=path, name=f"{path.name} (referee)")


class Judged(pytest.File):
    """A file whose functions are judged."""

    def collect(self):
        from algorithms.runner.errors import UsageError
        from algorithms.runner.verdicts import verdicts_in

        try:
            found = list(verdicts_in(str(self.path)))
        except UsageError as error:
            raise self.CollectError(str(error)) from error
        for name, judge in found:
            yield Verdict.from_parent(self, name=name, judge=judge)


class Verdict(pytest.Item):
    """The verdict of the referee on one function."""

    def __init__(self, *, judge, **how):
        super().__init__(**how)
        self.judge = judge

    def runtest(self):
        right, text = self.judge()
        if not right:
            raise Departs(text)
        print(text)

    def repr_failure(self, excinfo, style=None):
        if type(excinfo.value).__name__ in ("Departs", "Unusable"):
            return str(excinfo.value)
        if type(excinfo.value).__name__ == "Late":
            return f"{self.name} does not end in time"
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, self.name


class Departs(Exception):
    """Error of a function that is not right: the referee's text."""
