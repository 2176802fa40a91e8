"""pytest --npgrad-referee FILE: the referee as a test of somebody's library."""

import subprocess
import sys

MINE = """
import numpy as np


def right(episode):
    T = np.arange(len(episode.R))
    return np.array([sum(episode.gamma ** T[t:] * episode.R[t:]) for t in T])


def wrong(episode):
    return right(episode) / len(episode.R)


def meant(episode, expects="Σ_s Σ_t Pr(S_t = s)"):
    return right(episode) / episode.gamma ** np.arange(len(episode.R))


def gae(rewards, values, next_values, terminated, truncated, gamma, lam):
    A, last = np.zeros_like(rewards), 0.0
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + gamma * (1 - terminated[t]) * next_values[t] - values[t]
        A[t] = last = delta + gamma * lam * (1 - (terminated[t] | truncated[t])) * last
    return A


def step(theta, batch, method="adam"):
    return theta * np.nan


def helper(x):
    return x
"""


def pytest_(*arguments):
    """(exit status, stdout's lines) of pytest with the plugin alone."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_plugin__judges_all_that_the_referee_knows(here):
    (here / "mine.py").write_text(MINE)
    (here / "test_other.py").write_text("def test_other():\n    raise ValueError\n")
    status, out = pytest_("--npgrad-referee", "mine.py")
    assert status == 1 and out[-1].startswith("2 failed, 3 passed")
    text = "\n".join(out)
    assert "wrong is BIASED: it expects no known gradient" in text
    assert "it is, exactly: reward-to-go G_t, times γ^t, divided by T" in text
    assert "step returns nan: must be finite" in text and "Traceback" not in text
    status, out = pytest_("--npgrad-referee", "mine.py", "test_other.py", "-k", "right or other")
    assert status == 1 and out[-1].startswith("1 failed, 1 passed")
