"""Checkpoints: save and restore the State of any method, bit for bit, without pickle."""

import dataclasses
import json
import time
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithms.runner.errors import UsageError, one_line
from algorithms.runner.folder import replacing


class Tally(NamedTuple):
    """Totals of a run, over all resumes: environment steps, episodes, seconds of work."""

    steps: int = 0
    episodes: int = 0
    seconds: float = 0.0


def copy_state(state) -> tuple[dict, dict]:
    """Return (arrays, scalars): copies of a State's fields.

    A Generator is copied as the state of its bit generator. If the State has a method filled(), it
    gives {name: number of filled rows}; of these arrays only the filled, first rows are copied.

    Raises TypeError for a field that is not a plain array, a number, a Generator, or a dataclass of
    such fields, None and dicts.
    """
    arrays, scalars, filled = {}, {}, filled_rows(state)
    for name, holder, attribute in _fields(state):
        value = getattr(holder, attribute)
        if isinstance(value, (array, np.integer)):
            arrays[name] = np.array(value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            arrays[name] = value[: filled[name]].copy() if name in filled else value.copy()
        elif isinstance(value, np.random.Generator):
            scalars[name] = value.bit_generator.state
        elif isinstance(value, (int, float)) or (holder is not state and _is_plain(value)):
            scalars[name] = value
        else:
            kind = type(value).__name__
            raise TypeError(
                f"State.{name}: {kind}: must be an array, an int, a float or a Generator"
            )
    return arrays, scalars


def _fields(state):
    """Yield (name, holder, attribute) of every field; a nested field is named "field.field"."""
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if dataclasses.is_dataclass(value):
            for inner in dataclasses.fields(value):
                yield f"{field.name}.{inner.name}", value, inner.name
        else:
            yield field.name, state, field.name


def _is_plain(value):
    return value is None or isinstance(value, dict)


def filled_rows(state) -> dict[str, int]:
    return state.filled() if hasattr(state, "filled") else {}


class Keeper:
    """A copy of `state` as it was at a yield: in memory, and on disk every `every` seconds.

    A method that fails may leave its State half changed; in this case the copy is saved. The copy
    is renewed at every yield, as long as this takes no more than 1/20 of the time. Workers in
    threads and processes do not stop while it is made, so the fields that are copied last may
    contain a few more updates than the first.
    """

    def __init__(self, path: Path, state, tally: Tally, every: float):
        self.path, self.state, self.every = path, state, every
        self.begun, self.spent = time.monotonic(), 0.0
        self.keep(tally)
        self.save()

    def at_yield(self, tally: Tally):
        """Copy and save the State if it is due."""
        now = time.monotonic()
        if now >= self.save_due or self.spent <= (now - self.begun) / 20:
            self.keep(tally)
        if now >= self.save_due:
            self.save()

    def keep(self, tally: Tally):
        """Copy the State, which must be at a yield."""
        start = time.monotonic()
        self.kept, self.tally = copy_state(self.state), tally
        self.spent += time.monotonic() - start

    def save(self):
        """Write the latest copy to the files of checkpoint and parameters."""
        arrays, scalars = self.kept
        text = json.dumps({"tally": self.tally._asdict(), "scalars": scalars})
        with replacing(self.path / "checkpoint.npz") as file:
            np.savez(file, **arrays, _json=np.array(text))
        with replacing(self.path / "parameters.npz") as file:
            np.savez(file, **{name: arrays[name] for name in self.state.parameters})
        self.save_due = time.monotonic() + self.every


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file. Raises UsageError if it is missing or damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as entries:
            return dict(entries)
    except Exception as error:
        raise UsageError(f"{path}: cannot be read: {one_line(error)}") from error


def check_fit(arrays: dict, state, path: Path, env_id: str):
    """Raise UsageError unless `arrays` holds parameters of the shapes in a new `state`."""
    for name in state.parameters:
        needed = getattr(state, name).shape
        found = arrays[name].shape if name in arrays else "missing"
        if found != needed:
            raise UsageError(f"{path}: {name} = {found}: must have shape {needed} to fit {env_id}")


def restore(path: Path, state, env_id: str) -> Tally:
    """Overwrite a new `state` with checkpoint.npz, and return the Tally of the checkpoint. `path`
    is the run folder, or the file itself.

    Arrays are written into those that init allocated, to keep their memory alignment.
    Raises UsageError if the checkpoint is damaged or belongs to another State.
    """
    path = path / "checkpoint.npz" if path.is_dir() else path
    arrays = read_arrays(path)
    check_fit(arrays, state, path, env_id)
    try:
        record = json.loads(arrays.pop("_json").item())
        saved = arrays | record["scalars"]
        for name, holder, attribute in _fields(state):
            value, current = saved.pop(name), getattr(holder, attribute)
            if isinstance(current, np.random.Generator):
                current.bit_generator.state = value
            elif isinstance(current, np.ndarray) and current.shape == value.shape:
                current[...] = value
            elif name in filled_rows(state):
                current[: len(value)] = value
            else:
                setattr(holder, attribute, value)
        return Tally(**record["tally"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a checkpoint of this State: {one_line(error)}") from error
