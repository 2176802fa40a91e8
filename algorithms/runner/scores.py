"""Scores of several runs: the interquartile mean and its bootstrap interval (Agarwal et al. 2021).

rliable, the authors' own package, is not used: it needs packages that no longer import together.
"""

import numpy as np

RESAMPLES = 2000


def iqm(x):
    """Return the mean of the middle half of the last axis: int(n/4) entries are cut at each end."""
    x = np.sort(x, axis=-1)
    cut = x.shape[-1] // 4
    return x[..., cut : x.shape[-1] - cut].mean(-1)


def interval(tasks, rng):
    """Return the 95 % interval of the iqm over all runs of all tasks, by stratified bootstrap.

    tasks is a list of arrays (points, runs) or (runs,). Each bootstrap sample draws every task's
    runs, with replacement, from that task.
    """
    draw = lambda n: rng.integers(n, size=(RESAMPLES, n))
    picks = np.concatenate([x[..., draw(x.shape[-1])] for x in tasks], axis=-1)
    return np.quantile(iqm(picks), [0.025, 0.975], axis=-1)


def summarise(results: list[dict]) -> dict:
    """Return the interquartile mean of the scores of trials, its interval, the worst score, the
    mean standard error of the scores if they are evaluations, and how many have one or failed."""
    scores = np.array([r["score"] for r in results if r.get("score") is not None])
    errors = [r["error"] for r in results if r.get("error") is not None]
    failed = sum("failed" in r for r in results)
    summary = dict(seeds=len(scores), failed=failed, iqm=None, low=None, high=None, worst=None)
    summary["error"] = float(np.mean(errors)) if errors else None
    if len(scores):
        low, high = interval([scores], np.random.default_rng(0)).tolist()
        summary |= dict(iqm=float(iqm(scores)), low=low, high=high, worst=float(scores.min()))
    return summary


def told(summary: dict) -> str:
    """Return a summary in words."""
    words = f"{summary['iqm']:.4g}" if summary["seeds"] else "no score"
    if summary["seeds"]:
        words += f" [{summary['low']:.4g}, {summary['high']:.4g}], worst {summary['worst']:.4g}"
    if summary["error"] is not None:
        words += f", standard error of a score {summary['error']:.2g}"
    words += f", {summary['seeds']} seeds"
    return words + (f", {summary['failed']} failed" if summary["failed"] else "")
