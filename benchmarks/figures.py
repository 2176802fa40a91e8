"""The one style of all pictures of the studies."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter

from algorithms.runner.plot import COLOURS
from benchmarks.measure import WINDOW
from benchmarks.study import bootstrap_band


def subplots(rows=1, columns=1, size=(8, 4.8), **how):
    """Return plt.subplots with axes that are open above and at the right."""
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        return plt.subplots(rows, columns, figsize=size, dpi=150, layout="constrained", **how)


def dress(ax, title="", legend=None, steps="", **settings):
    """Label axes: a title at the left, a legend without frame (its place, or its options), and
    20k, 1M on the axes named in `steps` ("x", "y"); ax.set takes the rest."""
    ax.set(**settings)
    ax.set_title(title, loc="left", fontsize=11)
    for name in steps:
        getattr(ax, f"{name}axis").set_major_formatter(EngFormatter(sep=""))
    if legend is not None:
        ax.legend(frameon=False, **(dict(loc=legend) if isinstance(legend, str) else legend))


def band(ax, x, curves, colour, label, thin=False):
    """Draw the mean over runs of curves (runs, n) with its 95 % bootstrap band; thin: each run."""
    if len(curves) > 1:
        ends = bootstrap_band(curves, np.random.default_rng(0))
        ax.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    if thin:
        ax.plot(x, curves.T, color=colour, alpha=0.3, linewidth=0.8)
    ax.plot(x, curves.mean(0), color=colour, linewidth=2, label=label)


def goal_line(ax, goal, **style):
    """Draw a dashed line at a threshold."""
    style = dict(color="black", ls="--", lw=1, label=f"threshold, {goal:g}") | style
    ax.axhline(goal, **style)


def picture(rows):
    """Draw the learning curves of one row's runs, as `learn` gives them."""
    (row,), (fig, ax) = rows, subplots()
    curves = row.of("curve")
    grid = np.linspace(max(c["steps"][0] for c in curves), min(c["steps"][-1] for c in curves), 300)
    means = np.array([np.interp(grid, c["steps"], c["means"]) for c in curves])
    label = f"mean of {len(curves)} seeds, 95 % bootstrap band; thin: each seed"
    band(ax, grid, means, COLOURS[0], label, thin=True)
    goal_line(ax, row.goal)
    ax.margins(x=0.01)
    dress(ax, f"{row.method} on {row.env}", "lower right", "x", xlabel="environment steps",
          ylabel=f"return, mean of the last {WINDOW} episodes")  # fmt: skip
    return fig
