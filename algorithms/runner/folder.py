"""The run folder: its files, and how they are written so that no interruption damages them.

config.json         method, env, seed, config, versions, command; written last of a new run's files
metrics.csv         one row per finished episode, written at once:
                    step, episode, return, length, seconds, then the method's scalars
checkpoint.npz      the method's State and its Tally; arrays and one JSON text, no pickle
parameters.npz      the learned parameters alone, one array per name in State.parameters
log.txt             one line per event: begin, resume, warnings, stop
lock                locked by the process that trains
learning_curve.png  the picture of metrics.csv
events.out.*        metrics.csv for TensorBoard, a file for each session with --tensorboard
video/, act.*       what `npgrad record` and `npgrad export` made

Every file except metrics.csv and the events is replaced completely or not at all. metrics.csv grows
row by row and is never behind the checkpoint; rows beyond the checkpoint are removed when a run is
resumed.

A run folder may come from anybody. Its files are read by no code of theirs (no pickle), and no more
of them than fits the run.
"""

import dataclasses
import itertools
import json
import os
import platform
import stat
import sys
import typing
import weakref
from array import array
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import numpy as np

from algorithms.runner.environments import Environment, own, trusted
from algorithms.runner.errors import UsageError, one_line, short

COLUMNS = ("step", "episode", "return", "length", "seconds")
FORMAT = 1  # of config.json and checkpoint.npz; a file of a later format is refused
LARGEST_CONFIG = 2**22  # bytes
LONGEST_ROW = 2**16  # bytes
# what a run that was killed before it had a config.json leaves; none of it is worth keeping
BEGUN = {"lock", "log.txt", "checkpoint.npz", "parameters.npz", "config.json.tmp"}
BEGUN |= {"checkpoint.npz.tmp", "parameters.npz.tmp"}


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
        taken = any(entry.name not in BEGUN for entry in path.iterdir())
    except OSError as error:
        raise UsageError(f"--run = {path}: cannot be made: {error.strerror}") from error
    if taken:
        raise UsageError(f"--run = {path}: is not empty; must be a new or an empty folder")
    return path


class Lock:
    """The right to write into a run folder, held until close() or until the process ends.

    It is the system's lock on an open file, so it dies with its owner. Forked processes, which
    inherit open files, close theirs. Raises UsageError if another process has the lock, or if the
    folder cannot be written.
    """

    held: typing.ClassVar = weakref.WeakSet()

    def __init__(self, path: Path):
        self.file = None
        try:
            self.file = os.open(path / "lock", os.O_RDWR | os.O_CREAT | _no_link, 0o666)
            _lock(self.file)
        except BlockingIOError as error:
            self.close()
            raise UsageError(f"RUN = {path}: another process trains in it; must be idle") from error
        except OSError as error:
            if self.file is None:
                raise UsageError(f"RUN = {path}: cannot be written: {error.strerror}") from error
            # else this file system has no locks
        self.held.add(self)

    def close(self):
        if self.file is not None:
            os.close(self.file)
            self.file = None

    __del__ = close


_no_link = getattr(os, "O_NOFOLLOW", 0)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [lock.close() for lock in list(Lock.held)])


def _lock(file: int):
    """Lock an open file. Raises BlockingIOError if somebody else has locked it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def log(path: Path, text: str):
    """Append a line to log.txt. A disk that does not take it stops nothing."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _no_link
    line = f"{now} {' '.join(text.split())}\n".encode(errors="backslashreplace")
    with suppress(OSError):
        file = os.open(path / "log.txt", flags, 0o666)
        try:
            os.write(file, line)
        finally:
            os.close(file)


@contextmanager
def replacing(path: Path):
    """Open a binary file that atomically replaces `path` if the block ends without an error."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:  # never through somebody's link
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(path: Path):
    """Make the names in a folder survive a loss of power, where the system can."""
    with suppress(OSError, AttributeError):
        file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def opened(path: Path):
    """Open a file to read its bytes. Raises OSError for what is no file: a pipe may never end."""
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path.name} is no regular file")
    return file


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
    values = recorded(config)
    record = dict(format=FORMAT, method=method, **environment.record(), seed=seed, config=values)
    record |= dict(versions=versions(), command=command)
    with replacing(path / "config.json") as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def recorded(config) -> dict:
    """Return dataclasses.asdict, with the class of a nested dataclass that is not the annotated
    one: {"class": "FILE.py:CLASS", ...}."""
    values = dataclasses.asdict(config)
    for name, hint in typing.get_type_hints(type(config)).items():
        kind = type(getattr(config, name, None))
        if dataclasses.is_dataclass(hint) and kind is not hint:
            file = getattr(sys.modules.get(kind.__module__), "__file__", None)
            values[name] = {"class": f"{file}:{kind.__qualname__}"} | values[name]
    return values


def read_config(path: Path) -> dict:
    """Read config.json of a run folder. Raises UsageError if `path` is not a run folder."""
    if not (path / "config.json").is_file():
        what = "has no config.json" if path.is_dir() else "no such folder"
        raise UsageError(f"RUN = {path}: {what}; must be a folder that npgrad train made")
    try:
        with opened(path / "config.json") as file:
            text = file.read(LARGEST_CONFIG + 1)
        if len(text) > LARGEST_CONFIG:
            raise ValueError(f"more than {LARGEST_CONFIG} bytes")
        record = json.loads(text)
        check_format(record)
        for name, kind in dict(method=str, env=str, seed=int, config=dict).items():
            if type(record[name]) is not kind:
                raise ValueError(f"{name} is of type {type(record[name]).__name__}: must be {kind}")
            if kind is str and not (record[name].isprintable() and len(record[name]) <= 500):
                raise ValueError(f"{name} = {record[name][:100]!r}: must be printable, and short")
        if not 0 <= record["seed"] < 2**63:
            raise ValueError("seed: must be at least 0 and below 2**63")
    except Exception as error:
        raise UsageError(f"{path / 'config.json'}: cannot be read: {one_line(error)}") from error
    return record | Environment.read(record).record()  # who makes it asks whether it may


def check_format(record):
    """Raise ValueError unless the record is a dict of a format that this version knows."""
    number = record.get("format", FORMAT) if isinstance(record, dict) else None
    if type(number) is not int or number < 1:
        raise ValueError("must be an object whose format is a number")
    if number > FORMAT:
        raise ValueError(f"format = {number}: made by a newer version, this one reads {FORMAT}")


def build(cls: type, values: dict):
    """Invert dataclasses.asdict: make a `cls` from `values`, with nested dataclasses and tuples.

    Raises UsageError unless `values` has exactly the fields of `cls`, with allowed values.
    """
    if not isinstance(values, dict):
        raise UsageError(f"config.json: {short(values)}: must be the fields of {cls.__qualname__}")
    hints = typing.get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)}
    if names != set(values):
        odd = short(", ".join(sorted(names ^ set(values))))
        raise UsageError(f"config.json: {odd}: missing, or unknown to this {cls.__qualname__}")
    built = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            value = build(*_own_class(hints[name], value))
        built[name] = value = tuple(value) if isinstance(value, list) else value
        if not _fits(value, hints[name]):
            raise UsageError(f"config.json: {name} = {short(value)}: must be {hints[name]}")
    try:
        return cls(**built)
    except (ValueError, TypeError) as error:
        raise UsageError(f"config.json: {short(error)}") from error


def _fits(value, hint) -> bool:
    """Whether a value of JSON may stand where `hint` is; ints for floats, and the ranges of a
    Config, are left to the Config."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is tuple:
        if not isinstance(value, tuple):
            return False
        inner = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is typing.Literal:
        return value in inner
    if inner:  # a union
        return any(_fits(value, each) for each in inner)
    if hint is float and type(value) is int:
        return abs(value) < 2**63
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _own_class(hint, values):
    """Return (class, its values) of a nested dataclass as `recorded` gives it."""
    if not isinstance(values, dict) or "class" not in values:
        return hint, values
    values = dict(values)
    text = str(values.pop("class"))
    trusted(Path(text).parent)
    return own("config.json: class", text, None, hint), values


class MetricsFile:
    """Writer that appends episodes to metrics.csv; each update's rows go to the system at once.

    The columns of the scalars are those of the first update that ends an episode; a scalar that an
    update does not report is left empty.
    """

    def __init__(self, path: Path):
        header = next(_rows(path), None) if (path / "metrics.csv").exists() else None
        self.scalars = header[len(COLUMNS) :] if header else None
        self.file = open(path / "metrics.csv", "ab", buffering=0)

    def append(self, metrics, seconds: float):
        if not metrics.returns:
            return
        rows = []
        if self.scalars is None:
            self.scalars = list(metrics.scalars)
            rows.append((*COLUMNS, *self.scalars))
        scalars = [metrics.scalars.get(name, "") for name in self.scalars]
        first = metrics.episodes - len(metrics.returns) + 1
        for episode, (G, length) in enumerate(zip(metrics.returns, metrics.lengths), first):
            rows.append((metrics.steps, episode, G, length, f"{seconds:.3f}", *scalars))
        data = "".join(",".join(map(str, row)) + "\n" for row in rows).encode()
        while data:  # a disk that is almost full takes a part of it
            data = data[self.file.write(data) :]

    def sync(self):
        """Wait until all rows are on the disk, which the checkpoint must not precede."""
        os.fsync(self.file.fileno())

    def close(self):
        self.file.close()


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Return the COLUMNS of metrics.csv as float arrays, one entry per episode.

    Raises UsageError if the file is missing or damaged.
    """
    table = array("d")
    try:
        for row in itertools.islice(_rows(path), 1, None):
            table.extend(map(float, row[: len(COLUMNS)]))
    except ValueError as error:
        raise UsageError(f"{path / 'metrics.csv'}: cannot be read: {one_line(error)}") from error
    return dict(zip(COLUMNS, np.array(table).reshape(-1, len(COLUMNS)).T))


def cut_metrics(path: Path, steps: int, episodes: int):
    """Remove the rows after a checkpoint, which a resumed run writes again.

    Raises UsageError unless the others are those of its episodes 1, 2, ..., within its steps.
    """
    file, last, before = path / "metrics.csv", -1, 0
    if episodes == 0 and not file.exists():
        return
    with replacing(file) as kept:
        for last, row in enumerate(itertools.islice(_rows(path), 1 + episodes)):
            if last:
                before = _continued(file, row, last, before, steps)
            kept.write((",".join(row) + "\n").encode())
        if max(last, 0) < episodes:
            raise UsageError(f"{file}: ends after episode {last}: must have those up to {episodes}")


def _continued(file, row, episode, before, steps) -> int:
    """Return the step of a row. Raises UsageError unless it belongs to this episode, at a step from
    `before` to `steps`."""
    given = ",".join(row[: len(COLUMNS)])
    try:
        if [str(int(row[1])), str(int(row[0]))] != [str(episode), row[0]] or len(row) < 5:
            raise ValueError
        step, *numbers = int(row[0]), float(row[2]), int(row[3]), float(row[4])
        if not before <= step <= steps or not np.isfinite(numbers).all():
            raise ValueError
    except ValueError as error:
        must = f"must be episode {episode}, at a step from {before} to {steps}, all finite"
        raise UsageError(f"{file}: row {episode} = {short(given)}: {must}") from error
    return step


def _rows(path: Path):
    """Yield header and rows of metrics.csv, without a last row that is incomplete."""
    columns = None
    try:
        with opened(path / "metrics.csv") as file:
            while (line := file.readline(LONGEST_ROW)).endswith(b"\n"):
                row = line[:-1].decode().split(",")
                if columns is None and tuple(row[: len(COLUMNS)]) != COLUMNS:
                    raise ValueError(f"must begin with {','.join(COLUMNS)}")
                columns = columns or len(row)
                if len(row) != columns:
                    raise ValueError(f"a row of {len(row)} columns: must be {columns}")
                yield row
        if len(line) == LONGEST_ROW:
            raise ValueError(f"a row of more than {LONGEST_ROW} bytes")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path / 'metrics.csv'}: cannot be read: {one_line(error)}") from error
