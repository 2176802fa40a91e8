"""RLlib: the value targets of its episodes, one step longer than they are, as it says they must be:
the last step only has a value, and "truncated" marks the step before it."""

import numpy as np
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets

from benchmarks.field.judged import Entry, returned


def targets(rewards, values, next_values, terminated, truncated, gamma, lam):
    n, N = rewards.shape
    answers, ends = np.zeros((n, N)), terminated | truncated
    for i in range(N):
        stops = np.append(np.flatnonzero(ends[:-1, i]), n - 1)  # after each, one step more
        more = lambda x, extra, i=i, stops=stops: np.insert(x[:, i], stops + 1, extra)
        marks = truncated.copy()
        marks[stops, i] |= ~terminated[stops, i]
        longer = compute_value_targets(
            more(values, next_values[stops, i]), more(rewards, 0.0), more(terminated, True),
            more(marks, False), gamma, lam,
        )  # fmt: skip
        answers[:, i] = np.delete(longer, stops + 1 + np.arange(len(stops)))
    return answers.astype(np.float32)


ENTRIES = (Entry("compute_value_targets", returned, targets, "returns", "numpy"),)
