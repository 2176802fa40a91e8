"""The suite in several environments: nox -l lists them, nox -s tests-3.12 runs one."""

import nox

nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "uv|virtualenv"
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
OLDEST = "numpy==2.0.*", "gymnasium==1.1.*"


def fast(session, *arguments):
    session.run("python", "-m", "pytest", "-m", "not slow", *arguments, *session.posargs)


@nox.session(python=PYTHONS)
def tests(session):
    """The fast suite, with the newest NumPy and Gymnasium."""
    session.install("-e", ".[test]")
    fast(session)


@nox.session(python="3.10")
def oldest(session):
    """The fast suite, with the oldest NumPy and Gymnasium that are allowed."""
    session.install("-e", ".[test]", *OLDEST)
    fast(session)


@nox.session(python="3.14t")
def free_threaded(session):
    """The laws of drivers and threads in a Python without a global lock."""
    session.install("-e", ".[test]")
    fast(session, "tests/test_drivers.py", "tests/test_a3c.py", "tests/test_compiled.py")


@nox.session
def lint(session):
    """Style, types, docstrings' examples."""
    session.install("-e", ".[test]", "mypy")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def release(session):
    """Build the wheel, install it in an empty environment, and train from there."""
    session.install("build")
    session.run("python", "-m", "build", "--outdir", session.create_tmp())
    (wheel,) = __import__("pathlib").Path(session.create_tmp()).glob("*.whl")
    session.install(f"{wheel}[app]")
    with session.chdir(session.create_tmp()):
        session.run(
            "npgrad",
            "train",
            "reinforce",
            "--env",
            "CartPole-v1",
            "--steps",
            "10000",
            "--run",
            "run",
        )
        session.run("npgrad", "evaluate", "run", "--episodes", "5")
