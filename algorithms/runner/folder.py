"""The run folder: its files, and how they are written so that no interruption damages them.

config.json         method, env, seed, config, versions, command
metrics.csv         one row per finished episode, written at once:
                    step, episode, return, length, seconds, then the method's scalars
checkpoint.npz      the method's State and its Tally; arrays and one JSON text, no pickle
parameters.npz      the learned parameters alone, one array per name in State.parameters
learning_curve.png  the picture of metrics.csv
events.out.*        metrics.csv for TensorBoard, a file for each session with --tensorboard
video/, act.*       what `npgrad record` and `npgrad export` made

Every file except metrics.csv and the events is replaced completely or not at all. metrics.csv grows
row by row and is never behind the checkpoint; rows beyond the checkpoint are removed when a run is
resumed.
"""

import dataclasses
import itertools
import json
import os
import platform
import typing
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np

from algorithms.runner.errors import UsageError, one_line

COLUMNS = ("step", "episode", "return", "length", "seconds")


def create(run: str | None, default: str) -> Path:
    """Create a new, empty run folder and return its path.

    The path is `run`, if given. Otherwise it is runs/`default`, with -2, -3, ... appended if that
    exists. Raises UsageError if `run` is not empty or the folder cannot be written.
    """
    numbered = (f"{default}-{number}" for number in itertools.count(2))
    names = map(Path("runs").joinpath, itertools.chain([default], numbered))
    path = next(p for p in names if not p.exists()) if run is None else Path(run)
    try:
        path.mkdir(parents=True, exist_ok=run is not None)
        taken = any(path.iterdir())
    except OSError as error:
        raise UsageError(f"--run = {path}: cannot be made: {error.strerror}") from error
    if taken:
        raise UsageError(f"--run = {path}: is not empty; must be a new or an empty folder")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"--run = {path}: cannot be written; must be a folder you may write to")
    return path


@contextmanager
def replacing(path: Path):
    """Open a binary file that atomically replaces `path` if the block ends without an error."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def versions() -> dict[str, str | None]:
    """Return the versions that are installed of npgrad and of what it runs on."""
    found = {}
    for name in ("npgrad", "numpy", "gymnasium"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found | {"python": platform.python_version()}


def write_config(path: Path, method: str, environment, seed: int, config, command: list[str]):
    """Write everything that determines a run to config.json."""
    record = dict(
        method=method, **environment.record(), seed=seed, config=dataclasses.asdict(config)
    )
    record |= dict(versions=versions(), command=command)
    with replacing(path / "config.json") as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def read_config(path: Path) -> dict:
    """Read config.json of a run folder. Raises UsageError if `path` is not a run folder."""
    if not (path / "config.json").is_file():
        what = "has no config.json" if path.is_dir() else "no such folder"
        raise UsageError(f"RUN = {path}: {what}; must be a folder that npgrad train made")
    try:
        record = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return {name: record[name] for name in ("method", "env", "seed", "config")}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path / 'config.json'}: cannot be read: {one_line(error)}") from error


def build(cls: type, values: dict):
    """Invert dataclasses.asdict: make a `cls` from `values`, with nested dataclasses and tuples.

    Raises UsageError unless `values` has exactly the fields of `cls`, with allowed values.
    """
    hints = typing.get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)}
    if names != set(values):
        odd = ", ".join(sorted(names ^ set(values)))
        raise UsageError(f"config.json: {odd}: missing, or unknown to this {cls.__qualname__}")
    built = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = build(hints[name], value)
        built[name] = tuple(value) if isinstance(value, list) else value
    try:
        return cls(**built)
    except (ValueError, TypeError) as error:
        raise UsageError(f"config.json: {error}") from error


class MetricsFile:
    """Writer that appends episodes to metrics.csv; each row is passed to the system at once.

    The columns of the scalars are those of the first update that ends an episode; a scalar that an
    update does not report is left empty.
    """

    def __init__(self, path: Path):
        header = _rows(path)[:1] if (path / "metrics.csv").exists() else []
        self.scalars = header[0][len(COLUMNS) :] if header else None
        self.file = open(path / "metrics.csv", "a", buffering=1, encoding="utf-8", newline="\n")

    def append(self, metrics, seconds: float):
        if not metrics.returns:
            return
        if self.scalars is None:
            self.scalars = list(metrics.scalars)
            self._write(*COLUMNS, *self.scalars)
        scalars = [metrics.scalars.get(name, "") for name in self.scalars]
        first = metrics.episodes - len(metrics.returns) + 1
        for episode, (G, length) in enumerate(zip(metrics.returns, metrics.lengths), first):
            self._write(metrics.steps, episode, G, length, f"{seconds:.3f}", *scalars)

    def _write(self, *values):
        self.file.write(",".join(map(str, values)) + "\n")

    def close(self):
        self.file.close()


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Return the COLUMNS of metrics.csv as float arrays, one entry per episode.

    Raises UsageError if the file is missing or damaged.
    """
    try:
        table = np.array([row[: len(COLUMNS)] for row in _rows(path)[1:]], dtype=float)
        return dict(zip(COLUMNS, table.reshape(-1, len(COLUMNS)).T))
    except ValueError as error:
        raise UsageError(f"{path / 'metrics.csv'}: cannot be read: {one_line(error)}") from error


def cut_metrics(path: Path, episodes: int):
    """Remove the rows after episode `episodes`, which a resumed run writes again."""
    rows = _rows(path)
    kept = [",".join(row) + "\n" for row in rows[: 1 + episodes]]
    with replacing(path / "metrics.csv") as file:
        file.write("".join(kept).encode())


def _rows(path: Path) -> list[list[str]]:
    """Return header and rows of metrics.csv, without a last row that is incomplete."""
    try:
        lines = (path / "metrics.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path / 'metrics.csv'}: cannot be read: {one_line(error)}") from error
    return [line.rstrip("\n").split(",") for line in lines if line.endswith("\n")]
