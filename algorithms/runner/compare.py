"""Several runs side by side: a table of scores, and learning curves by steps and by seconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from algorithms.runner import arguments, plot
from algorithms.runner.errors import Outcome, UsageError
from algorithms.runner.statistics import interval, iqm

COLUMNS = {"steps": ("step",), "seconds": ("seconds",), "both": ("step", "seconds")}
HEAD = "runs", "score [95% interval]", "steps", "seconds"


@dataclass(frozen=True, kw_only=True)
class Compare(arguments.Output):
    runs: arguments.tyro.conf.Positional[arguments._shown(tuple[str, ...], "RUN ...")]
    """Run folders. Runs that differ in nothing but their seeds are one row and one curve."""
    x: Literal["steps", "seconds", "both"] = "both"
    """What the curves are drawn against; both: side by side."""
    out: arguments._shown(str | None, "FILE", "(default: ./comparison.png)") = None
    """Picture to write: .png, .pdf or .svg."""

    def __post_init__(self):
        arguments._picture(self.out)


def compare_command(argv, methods) -> Outcome:
    """Print the table of several runs and draw their learning curves."""
    about = "Compare runs: the last-100 return, as interquartile mean over the seeds."
    (options,) = arguments.parse(argv, "npgrad compare", about, run=Compare)
    runs = [Path(run) for run in dict.fromkeys(options.runs)]
    if not runs:
        raise UsageError("RUN is missing after compare: must be one run folder or more")
    out = Path(options.out or "comparison.png")
    title, groups = plot.groups_of(runs)
    rows = [_row(label or title, group) for label, group in groups.items()]
    plot.draw(runs, out, COLUMNS[options.x])
    shown = [(title if len(groups) > 1 else "", *HEAD)] + [_shown(row) for row in rows]
    return Outcome(dict(title=title, rows=rows, picture=str(out)), f"{aligned(shown)}\n{out}")


def _row(label, runs):
    """Return the numbers of runs that differ in their seeds only."""
    scores = np.array([run["return"][-plot.WINDOW :].mean() for run in runs])
    low, high = interval([scores], np.random.default_rng(0))
    ends = {name: float(np.mean([run[name][-1] for run in runs])) for name in plot.AXES}
    score = dict(score=float(iqm(scores)), low=float(low), high=float(high))
    return dict(label=label, runs=len(runs), **score, steps=ends["step"], seconds=ends["seconds"])


def _shown(row):
    interval = f" [{row['low']:.4g}, {row['high']:.4g}]" if row["runs"] > 1 else ""
    numbers = f"{row['score']:.4g}{interval}", f"{row['steps']:.0f}", f"{row['seconds']:.1f}"
    return row["label"], str(row["runs"]), *numbers


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Return the rows as text: the first column aligned to the left, the others to the right."""
    first, *others = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for name, *cells in rows:
        right = (f"{cell:>{width}}" for cell, width in zip(cells, others))
        lines.append("  ".join([f"{name:{first}}", *right]))
    return "\n".join(lines)
