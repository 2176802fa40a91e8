"""Learning curves: the mean return of the last 100 episodes against steps or seconds."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np

from algorithms.runner import folder
from algorithms.runner.errors import UsageError, one_line, require
from algorithms.runner.scores import interval, iqm

WINDOW = 100
MEAN = f"mean of the last {WINDOW} episodes"
AXES = {"step": "environment steps", "seconds": "seconds"}
TITLE = "method", "env"
POINTS = 200  # of a curve over several runs
INK, FAINT = "#2b2b2b", "#d9d9d9"
COLOURS = ("#3b6fb6", "#d1603d", "#3f8f5f", "#8a5fa8", "#b8902b", "#4aa3b5", "#b5507f", "#6b6b6b")


def running_mean(x, window: int = WINDOW):
    """Return y[k] = mean of x[max(0, k − window + 1) .. k]; shape (n,) to (n,)."""
    counts = np.minimum(np.arange(1, len(x) + 1), window)
    padded = np.concatenate([np.zeros(window - 1), x])
    return np.lib.stride_tricks.sliding_window_view(padded, window).sum(axis=1) / counts


def at_steps(grid, steps, values):
    """Return the latest of `values` at each step of `grid`; no step may precede steps[0]."""
    return values[np.searchsorted(steps, grid, side="right") - 1]


def learning_curve(path: Path):
    """Draw a run's learning_curve.png if matplotlib is installed and an episode has finished."""
    if importlib.util.find_spec("matplotlib") and len(folder.read_metrics(path)["step"]):
        draw([path], path / "learning_curve.png")


def draw(paths: list[Path], out: Path, by=("step",)):
    """Draw the episodes and running mean of one run, or the curve of each group of runs.

    A group is the runs of one method, environment and Config, with different seeds. Its curve is
    the interquartile mean over its runs, with a 95% bootstrap interval. There is a picture for
    each of `by`, which is "step" or "seconds". Raises UsageError for a run without a finished
    episode.
    """
    title, groups = groups_of(paths)
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 + 5 * len(by), 4.8), dpi=150, layout="constrained")
    for axes, x in zip(figure.subplots(1, len(by), sharey=True, squeeze=False)[0], by):
        if len(paths) == 1:
            (run,) = groups[""]
            dots = dict(color=COLOURS[0], alpha=0.35, ms=5, mew=0, label="episode")
            axes.plot(run[x], run["return"], ".", **dots)
        for (label, runs), colour in zip(groups.items(), itertools.cycle(COLOURS)):
            _draw_group(axes, runs, label, colour, x)
        _dress(axes, x)
    first = figure.axes[0]
    first.set_title(title, loc="left", color=INK, fontsize=13, pad=12)
    first.set_ylabel("return" if len(paths) == 1 else f"return, {MEAN}", color=INK)
    columns = dict(loc="outside lower center", ncols=2 if len(paths) == 1 else 1)
    handles = first.get_legend_handles_labels()
    figure.legend(*handles, **columns, frameon=False, labelcolor=INK)
    save(figure, out)


def save(figure, out: Path):
    """Write a figure to a file, completely or not at all. Raises UsageError."""
    try:
        with folder.replacing(out) as file:
            figure.savefig(file, format=out.suffix[1:])
    except (OSError, ValueError) as error:
        raise UsageError(f"--out = {out}: cannot be written: {one_line(error)}") from error


def groups_of(paths: list[Path]):
    """Return a title of what is common to all runs, and {what else the runs are: [metrics]}.

    The fields of a Config are compared with those of runs of the same method only.
    """
    records, groups = [folder.read_config(path) for path in paths], {}
    traits, varying = [_flat(record) for record in records], {}
    for trait in traits:
        for name, value in trait.items():
            of = None if name in records[0] else trait["method"]
            varying.setdefault(name, {}).setdefault(of, set()).add(value)
    varying = [k for k, found in varying.items() if max(map(len, found.values())) > 1]
    for path, trait in zip(paths, traits):
        metrics = folder.read_metrics(path)
        if not len(metrics["step"]):
            raise UsageError(f"RUN = {path}: has no finished episode; must have at least one")
        parts = (_named(name, trait[name]) for name in varying if name in trait)
        groups.setdefault(", ".join(parts), []).append(metrics)
    shared = [traits[0][name] for name in TITLE if name not in varying]
    seed = [f"seed {records[0]['seed']}"] if len(paths) == 1 else []
    return " · ".join(shared + seed), groups


def _named(name, value):
    return value if name in TITLE else f"{name} = {value}"


def _flat(record) -> dict[str, str]:
    """Return method, environment and Config fields of a config.json as text, without prefixes."""
    flat = {name: str(record[name]) for name in ("method", "env", "max_episode_steps")}
    flat["wrap"] = ", ".join(record["wrap"]) or "none"
    nested = [record["env_args"], record["config"]]
    for values in nested:
        nested += [value for value in values.values() if isinstance(value, dict)]
        flat |= {k: str(value) for k, value in values.items() if not isinstance(value, dict)}
    return flat


def _draw_group(axes, runs, label, colour, by):
    """Draw the interquartile mean of the runs' running means, where all runs have one. Short runs
    may have no seconds in common; these are left out."""
    first, last = max(run[by][0] for run in runs), min(run[by][-1] for run in runs)
    if first > last and by == "seconds":
        return
    if first > last:
        raise UsageError(f"RUN: the runs with {label or 'one config'} have no {by} in common")
    grid = np.unique(runs[0][by]) if len(runs) == 1 else np.linspace(first, last, POINTS)
    curves = [at_steps(grid, run[by], running_mean(run["return"])) for run in runs]
    curves = np.stack(curves, axis=-1)
    if len(runs) > 1:
        band = interval([curves], np.random.default_rng(0))
        axes.fill_between(grid, *band, color=colour, alpha=0.2, lw=0)
        label = f"{label} (interquartile mean of {len(runs)} runs, 95% interval)".strip()
    axes.plot(grid, iqm(curves), color=colour, lw=2, label=label or MEAN)


def _dress(axes, by):
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel(AXES[by], color=INK)
    in_steps = EngFormatter(sep="")
    axes.xaxis.set_major_formatter(in_steps if by == "step" else lambda x, _: f"{x:g}")
    axes.grid(color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, length=0)
    axes.margins(x=0.01)
