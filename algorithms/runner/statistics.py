"""Scores of several runs, aggregated as rliable does it (Agarwal et al. 2021)."""

import numpy as np

RESAMPLES = 2000


def iqm(x):
    """Mean over the last axis of its middle half, int(n/4) entries being cut at either end."""
    x = np.sort(x, axis=-1)
    cut = x.shape[-1] // 4
    return x[..., cut : x.shape[-1] - cut].mean(-1)


def interval(tasks, rng):
    """95 % interval of the iqm over all runs of all tasks, a list of arrays (points, runs) or
    (runs,); each bootstrap sample draws every task's runs from its own."""
    draw = lambda n: rng.integers(n, size=(RESAMPLES, n))
    picks = np.concatenate([x[..., draw(x.shape[-1])] for x in tasks], axis=-1)
    return np.quantile(iqm(picks), [0.025, 0.975], axis=-1)
