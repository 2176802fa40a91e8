"""What the asynchronous methods learn.

    python -m benchmarks.asynchronous [PART ...] [--seeds 10] [--jobs 1] [--draw]

a3c-1, a3c-2, a3c-4   A3C on CartPole-v1 by 1, 2 and 4 processes
async-q, async-sarsa, async-n-step-q   the value methods on CartPole-v1, 8 workers in turn
acrobot               A3C on Acrobot-v1, 2 processes
pendulum              A3C on Pendulum-v1 (continuous), 8 workers in turn. It learns from a tenth of
                      the rewards, minus a cost of torques beyond the bounds
                      (algorithms.runner.wrappers.SoftBounds): runs whose μ got there in all states
                      would stay there, and end near −800. Training returns include that cost,
                      scores do not

The score of a run is the mean return of 100 episodes or more (measure.judge) with the last θ (A3C
draws from π, Q is greedy). The table also tells at which step and second the mean of the last 100
training episodes first reached the threshold. Seconds are of training alone: processor time where
workers run in turn, wall time where they are processes. --jobs seeds run at a time, unless the
workers are processes.
"""

import numpy as np

from algorithms.runner.plot import COLOURS
from benchmarks import figures, measure, study
from benchmarks.measure import Row
from benchmarks.study import Study

CAR = "CartPole-v1"
ROWS = {
    **{f"a3c-{n}": Row("a3c", CAR, 475, changes=dict(workers=n)) for n in (1, 2, 4)},
    **{name: Row(name, CAR, 475) for name in ("async-q", "async-sarsa", "async-n-step-q")},
    "acrobot": Row("a3c", "Acrobot-v1", -100),
    "pendulum": Row("a3c", "Pendulum-v1", -300),
}


def spread(row, name, form):
    """Return median and range in words, and how many of the runs there are if not all."""
    values = [x for x in row.of(name) if x is not None]
    if not values:
        return "never"
    some = "" if len(values) == len(row.runs) else f", {len(values)} of {len(row.runs)}"
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}}{some})"


COLUMNS = {
    "": lambda row: row.label,
    "environment": lambda row: f"{row.env} ({row.goal})",
    "solved": lambda row: f"{row.solved()} of {len(row.runs)}",
    "score, mean ± s.d. of the runs": lambda row: study.spread(row.of("evaluation"), ".0f"),
    "their s.e.": lambda row: study.largest_error(row.runs),
    "median (range)": lambda row: spread(row, "evaluation", ".0f"),
    "steps until its training had it": lambda row: spread(row, "steps_until_reached", ",.0f"),
    "seconds until then": lambda row: spread(row, "seconds_until_reached", ".1f"),
    "steps/s": lambda row: spread(row, "steps_per_second", ",.0f"),
}


def picture(rows):
    """Draw the mean of the last 100 training episodes over steps, every run a line."""
    n = -(-len(rows) // 4)
    figure, axes = figures.subplots(n, 4, (12, 2.8 * n), squeeze=False)
    for ax in axes.ravel()[len(rows) :]:
        ax.remove()
    for ax, row in zip(axes.ravel(), rows):
        for curve in row.of("curve"):
            ax.plot(curve["steps"], curve["means"], color=COLOURS[0], alpha=0.5, linewidth=1)
        figures.goal_line(ax, row.goal)
        figures.dress(ax, f"{row.label}, {row.env}", steps="x", xlabel="steps of all workers")
    figure.supylabel("mean of the last 100 training episodes")
    return figure


text = lambda rows: study.columns(COLUMNS, rows)
STUDIES = {"asynchronous": Study(ROWS, measure.learned, text, picture)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
