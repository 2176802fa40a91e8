"""The suite in several environments: nox -l lists them, nox -s tests-3.12 runs one."""

from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "uv"
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
THREADS = "tests/test_drivers.py", "tests/test_a3c.py", "tests/test_compiled.py"


def fast(session, *arguments):
    session.run("python", "-m", "pytest", "-m", "not slow", *arguments, *session.posargs)


@nox.session(python=PYTHONS)
def tests(session):
    """The fast suite, with the newest of everything."""
    session.install("-e", ".[test]")
    fast(session)


@nox.session(python=PYTHONS[0])
def oldest(session):
    """The fast suite, with the oldest of everything that pyproject allows."""
    session.install("--resolution", "lowest-direct", "-e", ".[test]", "pyparsing==3.2.*")
    fast(session)


@nox.session(python="3.14t")
def free_threaded(session):
    """The laws of drivers and threads in a Python without a global lock."""
    session.install("-e", ".[test]")
    fast(session, *THREADS)


@nox.session
def lint(session):
    """Style and types."""
    session.install("-e", ".[test]", "mypy")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def release(session):
    """Build the wheel, install it in an empty environment, train, and test from there.

    Tests of what users touch: the texts' programs, the library, the command line. The others are
    about the clone: its pages' text, its benchmarks. They would test the same code once more.
    """
    folder = session.create_tmp()
    session.run("uv", "build", "--out-dir", folder)
    (wheel,) = Path(folder).glob("*.whl")
    session.install(f"{wheel}[app]")
    with session.chdir(folder):
        command = "npgrad train reinforce --env CartPole-v1 --steps 10000 --run run"
        session.run(*command.split())
        session.run(*"npgrad evaluate run --episodes 5".split())
    session.install(f"{wheel}[test]")
    session.env["PYTHONSAFEPATH"] = "1"  # the clone is not on sys.path
    fast(session, "tests/test_examples.py", "tests/test_library.py", "tests/test_runner.py")
