"""Checkpoints: any method's State to a file and back, bit for bit, without pickle."""

import dataclasses
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithms.runner.errors import UsageError, one_line
from algorithms.runner.folder import replacing


class Position(NamedTuple):
    """How far a run has come, over every resume: environment steps, episodes, seconds of work."""

    steps: int = 0
    episodes: int = 0
    seconds: float = 0.0


def copy_state(state) -> tuple[dict, dict]:
    """(arrays, scalars): copies of a State's fields; a Generator as its bit generator's state. Of
    arrays that state.filled(), if there is such a method, names, the first rows that it says.

    Raises TypeError for a field that is not a plain array, an int, a float or a Generator.
    """
    arrays, scalars, filled = {}, {}, filled_rows(state)
    for name in (field.name for field in dataclasses.fields(state)):
        value = getattr(state, name)
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            arrays[name] = value[: filled[name]].copy() if name in filled else value.copy()
        elif isinstance(value, np.random.Generator):
            scalars[name] = value.bit_generator.state
        elif isinstance(value, (int, float)):
            scalars[name] = value
        else:
            kind = type(value).__name__
            raise TypeError(
                f"State.{name}: {kind}: must be an array, an int, a float or a Generator"
            )
    return arrays, scalars


def filled_rows(state) -> dict[str, int]:
    return state.filled() if hasattr(state, "filled") else {}


class Keeper:
    """Keeps a copy of `state` as it was at a yield: in memory, and on disk every `every` seconds.

    A method that fails leaves its State half changed; the copy is then what there is to save. It is
    renewed at every yield, as long as that takes no more than 1/20 of the time. Workers in threads
    and processes do not stop for it: what is copied last may be some updates ahead of the first.
    """

    def __init__(self, path: Path, state, position: Position, every: float):
        self.path, self.state, self.every = path, state, every
        self.begun, self.spent = time.monotonic(), 0.0
        self.keep(position)
        self.save()

    def at_yield(self, position: Position):
        """Copy and save if it is time to."""
        now = time.monotonic()
        if now >= self.save_due or self.spent <= (now - self.begun) / 20:
            self.keep(position)
        if now >= self.save_due:
            self.save()

    def keep(self, position: Position):
        """Copy the State, which must be at a yield."""
        start = time.monotonic()
        self.kept, self.position = copy_state(self.state), position
        self.spent += time.monotonic() - start

    def save(self):
        """Write the latest copy: checkpoint and parameters."""
        arrays, scalars = self.kept
        text = json.dumps({"position": self.position._asdict(), "scalars": scalars})
        with replacing(self.path / "checkpoint.npz") as file:
            np.savez(file, **arrays, _json=np.array(text))
        with replacing(self.path / "parameters.npz") as file:
            np.savez(file, **{name: arrays[name] for name in self.state.parameters})
        self.save_due = time.monotonic() + self.every


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file, without pickle. Raises UsageError if it is missing or damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as entries:
            return dict(entries)
    except Exception as error:
        raise UsageError(f"{path}: cannot be read: {one_line(error)}") from error


def check_fit(arrays: dict, state, path: Path, env_id: str):
    """Raise UsageError unless `arrays` holds parameters shaped as those of a new `state`."""
    for name in state.parameters:
        needed = getattr(state, name).shape
        found = arrays[name].shape if name in arrays else "missing"
        if found != needed:
            raise UsageError(f"{path}: {name} = {found}: must have shape {needed} to fit {env_id}")


def restore(path: Path, state, env_id: str) -> Position:
    """Overwrite a new `state` with checkpoint.npz, and say how far that one had come.

    Arrays are written into those that init allocated, so that their memory alignment is kept.
    Raises UsageError if the checkpoint is damaged or belongs to another State.
    """
    path = path / "checkpoint.npz"
    arrays = read_arrays(path)
    check_fit(arrays, state, path, env_id)
    try:
        record = json.loads(arrays.pop("_json").item())
        saved = arrays | record["scalars"]
        for name in (field.name for field in dataclasses.fields(state)):
            value, current = saved.pop(name), getattr(state, name)
            if isinstance(current, np.random.Generator):
                current.bit_generator.state = value
            elif isinstance(current, np.ndarray) and current.shape == value.shape:
                current[...] = value
            elif name in filled_rows(state):
                current[: len(value)] = value
            else:
                setattr(state, name, value)
        return Position(**record["position"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a checkpoint of this State: {one_line(error)}") from error
