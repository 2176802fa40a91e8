"""A State in one file: what `algorithms.save` and `algorithms.load` do."""

import importlib
import json
from pathlib import Path

import numpy as np


def save(state, path):
    """Write a State to the npz file `path`, which is replaced as a whole or not at all."""
    checkpoint = importlib.import_module("algorithms.runner.checkpoint")
    arrays, scalars = checkpoint.copy_state(state)
    text = json.dumps(
        {"format": checkpoint.FORMAT, "tally": checkpoint.Tally()._asdict(), "scalars": scalars}
    )
    with checkpoint.replacing(Path(path)) as file:
        np.savez(file, **arrays, _json=np.array(text))


def load(path, state):
    """Write what `path` holds into a new `state`, and return that.

    Raises ValueError, naming the file, if it cannot be read or does not fit.
    """
    checkpoint = importlib.import_module("algorithms.runner.checkpoint")
    try:
        checkpoint.restore(Path(path), state, "this State")
    except checkpoint.UsageError as error:
        raise ValueError(str(error)) from error
    return state
