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
    assert "wrong is BIASED: its expectation is no known gradient" in text
    assert "it is, exactly: reward-to-go G_t, without γ^t, divided by T" in text
    assert "step returns nan: must be finite" in text and "Traceback" not in text
    status, out = pytest_("--npgrad-referee", "mine.py", "test_other.py", "-k", "gae or other")
    assert status == 1 and out[-1].startswith("1 failed, 1 passed")


def test_plugin__says_in_one_line_what_cannot_be_judged(here):
    (here / "stops.py").write_text("import sys\nsys.exit(3)\n")
    status, out = pytest_("--npgrad-referee", "stops.py")
    text = "\n".join(out)
    assert status == 2 and out[-1].startswith("1 error")
    assert "stops.py: cannot be imported: SystemExit: 3" in text
    assert "Traceback" not in text and "INTERNALERROR" not in text
    names = (
        "def gae(rewards, values, masks, gamma): return rewards\ndef test_mine(): raise KeyError\n"
    )
    (here / "mine.py").write_text(names)
    status, out = pytest_("--npgrad-referee", "mine.py")
    assert status == 1 and out[-1].startswith("1 failed in")
    assert any(line.startswith("gae has a parameter masks: must be among") for line in out)
    (here / "test_mine.py").write_text(names)
    assert pytest_("--npgrad-referee", "test_mine.py")[1][-1].startswith("2 failed in")
