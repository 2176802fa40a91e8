"""Learning curves: the mean return of the last 100 episodes against environment steps."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np

from algorithms.runner import folder
from algorithms.runner.errors import UsageError, one_line, require

WINDOW = 100
MEAN = f"mean of the last {WINDOW} episodes"
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


def bootstrap_band(curves, rng: np.random.Generator, resamples: int = 2000, level: float = 0.95):
    """Return the percentile confidence band (low, high) of the mean over runs, each (n,).

    curves is (runs, n). Whole runs are drawn with replacement (Efron 1979), because the points of
    one curve are dependent.
    """
    drawn = rng.integers(len(curves), size=(resamples, len(curves)))
    weights = np.stack([np.bincount(d, minlength=len(curves)) for d in drawn]) / len(curves)
    return np.quantile(weights @ curves, [(1 - level) / 2, (1 + level) / 2], axis=0)


def learning_curve(path: Path):
    """Draw a run's learning_curve.png if matplotlib is installed and an episode has finished."""
    if importlib.util.find_spec("matplotlib") and len(folder.read_metrics(path)["step"]):
        draw([path], path / "learning_curve.png")


def draw(paths: list[Path], out: Path):
    """Draw the episodes and running mean of one run, or the mean curve of each group of runs.

    A group is the runs of one method, environment and Config, with different seeds; its band is the
    95% bootstrap interval of the mean over its runs. Raises UsageError for a run without a finished
    episode.
    """
    title, groups = _groups(paths)
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    if len(paths) == 1:
        ((steps, returns),) = groups[""]
        axes.plot(steps, returns, ".", color=COLOURS[0], alpha=0.35, ms=5, mew=0, label="episode")
    for (label, runs), colour in zip(groups.items(), itertools.cycle(COLOURS)):
        _draw_group(axes, runs, label, colour)
    _dress(axes, title, "return" if len(paths) == 1 else f"return, {MEAN}")
    try:
        with folder.replacing(out) as file:
            figure.savefig(file, format=out.suffix[1:])
    except (OSError, ValueError) as error:
        raise UsageError(f"--out = {out}: cannot be written: {one_line(error)}") from error


def _groups(paths):
    """Return a title of the traits common to all runs, and {other traits: [(steps, returns)]}."""
    records, groups = [folder.read_config(path) for path in paths], {}
    traits = [_flat(record) for record in records]
    varying = [name for name in traits[0] if len({trait.get(name) for trait in traits}) > 1]
    for path, trait in zip(paths, traits):
        metrics = folder.read_metrics(path)
        if not len(metrics["step"]):
            raise UsageError(f"RUN = {path}: has no finished episode; must have at least one")
        label = ", ".join(f"{name} = {trait[name]}" for name in varying if name in trait)
        groups.setdefault(label, []).append((metrics["step"], metrics["return"]))
    shared = [traits[0][name] for name in ("method", "env") if name not in varying]
    seed = [f"seed {records[0]['seed']}"] if len(paths) == 1 else []
    return " · ".join(shared + seed), groups


def _flat(record) -> dict[str, str]:
    """Return method, environment and Config fields of a config.json as text, without prefixes."""
    flat = {name: str(record[name]) for name in ("method", "env", "max_episode_steps", "wrap")}
    nested = [record["env_args"], record["config"]]
    for values in nested:
        nested += [value for value in values.values() if isinstance(value, dict)]
        flat |= {k: str(value) for k, value in values.items() if not isinstance(value, dict)}
    return flat


def _draw_group(axes, runs, label, colour):
    """Draw the mean of the runs' running means, on the steps that all runs cover."""
    first, last = max(steps[0] for steps, _ in runs), min(steps[-1] for steps, _ in runs)
    if first > last:
        raise UsageError(f"RUN: the runs with {label or 'one config'} have no steps in common")
    grid = np.unique(runs[0][0]) if len(runs) == 1 else np.linspace(first, last, 400)
    curves = np.stack([at_steps(grid, steps, running_mean(returns)) for steps, returns in runs])
    if len(runs) > 1:
        band = bootstrap_band(curves, np.random.default_rng(0))
        axes.fill_between(grid, *band, color=colour, alpha=0.2, lw=0)
        label = f"{label} (mean of {len(runs)} runs, 95% band)".strip()
    axes.plot(grid, curves.mean(axis=0), color=colour, lw=2, label=label or MEAN)


def _dress(axes, title, ylabel):
    from matplotlib.ticker import EngFormatter

    axes.set_title(title, loc="left", color=INK, fontsize=13, pad=12)
    axes.set_xlabel("environment steps", color=INK)
    axes.set_ylabel(ylabel, color=INK)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, length=0)
    axes.margins(x=0.01)
    columns = 2 if ylabel == "return" else 1
    axes.figure.legend(loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK)
