"""What shipped defaults learn on Gymnasium's classic tasks: one method for each, ten seeds.

    python -m benchmarks.defaults [ENV ...] [--seeds 10] [--draw]

Nothing is set but the number of steps. The score is the mean return of 100 episodes or more
(measure.judge) with the policy learned. It has learned something if it is above a random policy by
three standard errors and half of the way to the goal; to stand still is not, on
MountainCarContinuous-v0.
"""

import numpy as np

from benchmarks import measure, study
from benchmarks.measure import Row
from benchmarks.study import Study

ROWS = (
    Row("async-n-step-q", "FrozenLake-v1", 0.7, None, steps=500_000),
    Row("reinforce", "CartPole-v1", 475.0, None, steps=100_000),
    Row("actor-critic", "Acrobot-v1", -100.0, None, steps=50_000),
    Row("ddpg", "Pendulum-v1", -160.0, None, steps=20_000),
    Row("ddpg", "MountainCarContinuous-v0", 90.0, None, steps=40_000),
)


def score(row):
    x = np.array(row.of("evaluation"))
    return f"{x.mean():.3g} ± {measure.standard_error(x):.2g}, worst {x.min():.3g}"


def learned(row):
    """Return how many of the runs have learned something."""
    zero = measure.random_score(row.env)
    least = np.maximum(3 * np.array(row.of("evaluation_error")), 0.5 * (row.goal - zero))
    return f"{np.sum(np.array(row.of('evaluation')) - zero > least)} of {len(row.runs)}"


COLUMNS = {
    "environment": lambda row: row.env,
    "method": lambda row: row.method,
    "steps": lambda row: f"{row.steps:,}",
    "random": lambda row: f"{measure.random_score(row.env):.3g}",
    "goal": lambda row: f"{row.goal:g}",
    "score: mean ± standard error over the runs": score,
    "of a score, at most": lambda row: f"{max(row.of('evaluation_error')):.2g}",
    "learned something": learned,
}
text = lambda rows: study.minus(study.columns(COLUMNS, rows))
STUDIES = {"defaults": Study({row.env: row for row in ROWS}, measure.learned, text)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
