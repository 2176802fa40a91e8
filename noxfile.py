"""The suite in several environments: nox -l lists them, nox -s tests-3.12 runs one."""

from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "uv"
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


def fast(session, *arguments):
    session.run("python", "-m", "pytest", "-m", "not slow", *arguments, *session.posargs)


@nox.session(python=PYTHONS)
def tests(session):
    """The fast suite, with the newest of everything."""
    session.install("-e", ".[test]")
    fast(session)


@nox.session(python=PYTHONS[0])
def oldest(session):
    """The fast suite, with the oldest of everything that pyproject allows.

    matplotlib 3.8 warns of pyparsing 3.3, and the suite makes warnings errors.
    """
    session.install("--resolution", "lowest-direct", "-e", ".[test]", "pyparsing==3.2.*")
    fast(session)


@nox.session(python="3.14t")
def free_threaded(session):
    """The laws of drivers and threads in a Python without a global lock."""
    session.install("-e", ".[test]")
    fast(session, "tests/test_drivers.py", "tests/test_a3c.py", "tests/test_compiled.py")


@nox.session
def lint(session):
    """Style; types, with NumPy 2.4 or newer."""
    session.install("-e", ".[test]", "mypy")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def release(session):
    """Build the sdist and its wheel; train and test with the wheel in an empty environment.

    The tests are those of what users touch: the programs in the texts, the library, the command
    line. Others read the clone's pages and benchmarks, which are not in the wheel.
    """
    folder = session.create_tmp()
    session.run("uv", "build", "--out-dir", folder)
    (wheel,) = Path(folder).glob("*.whl")
    session.install(f"{wheel}[app]")
    with session.chdir(folder):
        train = "npgrad train reinforce --env CartPole-v1 --steps 10000 --run run"
        session.run(*train.split())
        session.run("npgrad", "evaluate", "run", "--episodes", "5")
    session.install(f"{wheel}[test]")
    files = "tests/test_examples.py", "tests/test_library.py", "tests/test_runner.py"
    session.run("pytest", "-m", "not slow", *files, *session.posargs)  # not python -m: no clone
