"""pytest --npgrad-referee FILE: the referee as a test of somebody's library."""

import subprocess
import sys

MINE = """
import numpy as np


def to_go(R, gamma):
    return np.array([np.sum(gamma ** np.arange(len(R) - t) * R[t:]) for t in range(len(R))])


def wrong(episode):
    return to_go(episode.R, episode.gamma) / len(episode.R)


def meant(episode, expects="Σ_s Σ_t Pr(S_t = s)"):
    return to_go(episode.R, episode.gamma)


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
    assert status == 1 and out[-1].startswith("2 failed, 2 passed")
    text = "\n".join(out)
    assert "wrong is BIASED: it expects no known gradient" in text
    assert "it is, exactly: reward-to-go G_t, without γ^t, divided by T" in text
    assert "step returns nan: must be finite" in text and "Traceback" not in text
    status, out = pytest_("--npgrad-referee", "mine.py", "test_other.py", "-k", "gae or other")
    assert status == 1 and out[-1].startswith("1 failed, 1 passed")
