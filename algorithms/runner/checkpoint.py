"""Checkpoints: save and restore the State of any method, bit for bit, without pickle.

A checkpoint may come from anybody. The headers of its arrays are compared with a new State before
an array is read, so it takes no more memory than the State; and it is refused in one line unless
every field has the State's name, shape, type and range.
"""

import dataclasses
import json
import math
import time
import warnings
import zipfile
from array import array
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary
from numpy.lib import format as npy

from algorithms.runner.errors import UsageError, one_line
from algorithms.runner.folder import FORMAT, check_format, opened, replacing
from npgrad.memory import available_memory

LARGEST = 2**30  # bytes of an array whose size the State does not tell, and of an unknown file's
LARGEST_TEXT = 2**26  # bytes of the JSON text, four to a letter
LARGEST_INDEX = 2**22  # bytes of an npz file's list of entries
CHUNK = 2**20


class Tally(NamedTuple):
    """Totals of a run, over all resumes: environment steps, episodes, seconds of work."""

    steps: int = 0
    episodes: int = 0
    seconds: float = 0.0


def copy_state(state, kept=None, copy=True) -> tuple[dict, dict]:
    """Return (arrays, scalars): copies of a State's fields.

    A Generator is copied as the state of its bit generator. If the State has a method filled(), it
    gives {name: number of filled rows}; of these arrays only the filled, first rows are copied.

    kept   {name: memory that this function took before, for the same State}, which is used again
    copy   False: the State's own arrays, for one who is done with them before they change

    Raises TypeError for a field that is not a plain array, a number, a Generator, or a dataclass of
    such fields, None and dicts.
    """
    arrays, scalars, filled = {}, {}, filled_rows(state)
    kept = {} if kept is None else kept
    for name, holder, attribute in _fields(state):
        value = getattr(holder, attribute)
        if isinstance(value, (array, np.integer)):
            arrays[name] = np.array(value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            rows = slice(filled.get(name)) if value.ndim else ()
            value = np.asarray(value, order="C")  # as a checkpoint has them
            arrays[name] = _copy_array(name, value, rows, kept) if copy else value[rows]
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


def _copy_array(name, value, rows, kept):
    """Copy these rows of a value into the memory kept for it."""
    if name not in kept or (kept[name].shape, kept[name].dtype) != (value.shape, value.dtype):
        kept.pop(name, None)  # before there is a second one
        kept[name] = np.empty(value.shape, value.dtype)
    kept[name][rows] = value[rows]
    return kept[name][rows]


def _fields(holder, prefix=""):
    """Yield (name, holder, attribute) of every field; a nested field is named "field.field", one
    of a list "field.0.field"."""
    for field in dataclasses.fields(holder):
        value, name = getattr(holder, field.name), prefix + field.name
        several = value if isinstance(value, (list, tuple)) else ()
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{name}.")
        elif several and all(map(dataclasses.is_dataclass, several)):
            for i, each in enumerate(several):
                yield from _fields(each, f"{name}.{i}.")
        else:
            yield name, holder, field.name


def _is_plain(value):
    return value is None or isinstance(value, (dict, tuple))


def filled_rows(state) -> dict[str, int]:
    return state.filled() if hasattr(state, "filled") else {}


def save(state, path, tally=None, copied=None):
    """Write a State, or what copy_state has given, to the npz file `path`, which is replaced as a
    whole or not at all."""
    arrays, scalars = copied or copy_state(state, copy=False)
    record = dict(format=FORMAT, tally=(tally or Tally())._asdict(), scalars=scalars)
    with replacing(Path(path)) as file:
        np.savez(file, **arrays, _json=np.array(json.dumps(record)))


def load(path, state):
    """Write what the file `path` holds into a new `state`, and return that. Raises ValueError,
    naming the file, if it cannot be read or does not fit."""
    try:
        restore(Path(path), state, "this State")
    except UsageError as error:
        raise ValueError(str(error)) from error
    return state


def write(path: Path, arrays: dict, scalars: dict, tally: Tally, parameters):
    """Write the files of checkpoint and parameters."""
    save(None, path / "checkpoint.npz", tally, (arrays, scalars))
    with replacing(path / "parameters.npz") as file:
        np.savez(file, **{name: arrays[name] for name in parameters})


class Keeper:
    """A copy of `state` as it was at a yield: in memory, and on disk every `every` seconds.

    A method that fails may leave its State half changed; in this case the copy is saved. The copy
    is renewed at every yield, as long as this takes no more than 1/20 of the time. If it does not
    fit into memory, the State itself is written to the disk instead, as often. Workers in threads
    and processes do not stop while it is made, so the fields that are copied last may contain a few
    more updates than the first.

    `tally` belongs to the latest copy, `saved` to the files. `sync` is called before they are
    written.
    """

    def __init__(self, path: Path, state, tally: Tally, every: float, sync=lambda: None):
        self.path, self.state, self.every, self.sync = path, state, every, sync
        self.begun, self.spent = time.monotonic(), 0.0
        self.copy, self.memory, self.direct = None, {}, False
        self.tally = self.saved = tally
        self.save_due = self.begun + every

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
        if not self.direct and not self._copied():
            self.direct, self.copy, self.memory = True, None, {}
            warnings.warn(
                "a copy of the State does not fit into memory: it is saved at yields, in at most "
                "1/20 of the time, and a failure loses what came after",
                RuntimeWarning,
                stacklevel=2,
            )
        self.tally = tally
        if self.direct:
            self._write(copy_state(self.state, copy=False))
        self.spent += time.monotonic() - start

    def _copied(self):
        """Renew the copy; False if it does not fit."""
        try:
            if not self.memory and not _copy_fits(self.state):
                return False
            self.copy = copy_state(self.state, self.memory)
            return True
        except MemoryError:
            return False

    def save(self):
        """Write the latest copy to the files of checkpoint and parameters."""
        if self.copy is not None:
            self._write(self.copy)

    def _write(self, copied):
        self.sync()
        write(self.path, *copied, self.tally, self.state.parameters)
        self.saved, self.save_due = self.tally, time.monotonic() + self.every


def _copy_fits(state):
    """Whether memory holds a copy of the State, and the rows of it that are still to be filled."""
    arrays = [getattr(holder, attribute) for _, holder, attribute in _fields(state)]
    sizes = [a.nbytes for a in arrays if isinstance(a, np.ndarray)]
    needed = sum(sizes)
    for name, rows in filled_rows(state).items():
        needed += getattr(state, name)[rows:].nbytes
    free = available_memory() if needed > CHUNK else None
    return free is None or needed <= 0.9 * free


class Entry(NamedTuple):
    """An array in an npz file, of which the header has been read."""

    shape: tuple[int, ...]
    dtype: np.dtype
    nbytes: int
    read: object  # (out=None) -> the array, in `out` if that is given


@contextmanager
def _entries(path: Path):
    """Yield {name: Entry} of an npz file. Raises UsageError, also for an error in the block, if it
    is missing, damaged, or not as np.savez writes it."""
    try:
        with opened(path) as file:
            end = zipfile._EndRecData(file)  # before ZipFile reads as much as the file tells it to
            if end and end[zipfile._ECD_SIZE] > LARGEST_INDEX:
                raise ValueError(f"more than {LARGEST_INDEX} bytes of names")
            with zipfile.ZipFile(file) as archive:
                entries = {info.filename: _entry(archive, info) for info in archive.infolist()}
                if len(entries) < len(archive.infolist()):
                    raise ValueError("several entries of one name")
                yield {name.removesuffix(".npy"): entry for name, entry in entries.items()}
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path}: cannot be read: {one_line(error)}") from error


def _entry(archive, info) -> Entry:
    """Read the header of an entry. Raises ValueError, with its name, if it is no plain array."""
    name = info.filename[:100]
    if not name.endswith(".npy") or info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{name!r}: must be an array, uncompressed")
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with archive.open(info) as stream:
            shape, fortran, dtype = readers[npy.read_magic(stream)](stream)
            start = stream.tell()
    except Exception as error:
        raise ValueError(f"{name!r}: {one_line(error)}") from error
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in "biufU" or (fortran and len(shape) > 1) or min(shape, default=0) < 0:
        raise ValueError(f"{name!r}: dtype {dtype}: must be numbers, row by row")
    if not start + size == info.file_size == info.compress_size:
        raise ValueError(f"{name!r}: {info.file_size} bytes: must be {start + size}")

    def read(out=None):
        out = np.empty(shape, dtype) if out is None else out
        memory = out.reshape(-1).view(np.uint8) if size else out
        with archive.open(info) as stream:
            stream.read(start)
            for at in range(0, size, CHUNK):
                part = stream.read(min(CHUNK, size - at))
                memory[at : at + CHUNK] = np.frombuffer(part, np.uint8)
            stream.read(1)  # at the end, the checksum is compared
        return out

    return Entry(shape, dtype, size, read)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file. Raises UsageError if it is missing or damaged."""
    with _entries(path) as entries:
        size = sum(entry.nbytes for entry in entries.values())
        if size > LARGEST:
            raise ValueError(f"{size} bytes: must be at most {LARGEST}")
        return {name: entry.read() for name, entry in entries.items()}


def read_parameters(path: Path, state, env_id: str) -> dict[str, np.ndarray]:
    """Return the arrays of parameters.npz, of the shapes and types in a new `state` and finite.

    Raises UsageError for others, before they are read."""
    with _entries(path) as entries:
        check_fit(entries, state, path, env_id)
        empty = {name: np.empty_like(getattr(state, name)) for name in state.parameters}
        return {name: _read(entries[name], name, target) for name, target in empty.items()}


def read_scalars(path: Path) -> dict:
    """Return the numbers and plain values of a checkpoint, by name."""
    with _entries(path) as entries:
        return _record(entries["_json"])[1]


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
    with _entries(path) as entries:
        check_fit(entries, state, path, env_id)
        try:
            tally, scalars = _record(entries.pop("_json"))
            _overwrite(state, entries, scalars)
        except Exception as error:
            text = f"{path}: not a checkpoint of this State: {one_line(error)}"
            raise UsageError(text) from error
    return tally


def _record(entry):
    """Return (Tally, scalars) of the checkpoint's JSON text."""
    if entry.dtype.kind != "U" or entry.shape or entry.nbytes > LARGEST_TEXT:
        raise ValueError(f"_json: {entry.dtype}, {entry.shape}: must be a text")
    record = json.loads(entry.read().item())
    check_format(record)
    tally, scalars = Tally(**record["tally"]), record["scalars"]
    for name, value in tally._asdict().items():
        _number(f"tally.{name}", value, getattr(Tally(), name))
    if tally.seconds < 0 or not isinstance(scalars, dict):
        raise ValueError(f"tally.seconds = {tally.seconds}: must be at least 0")
    return tally, scalars


def _overwrite(state, entries, scalars):
    """Write every field of a new `state`. Raises ValueError for a field that does not fit."""
    fields = {name: (holder, attribute) for name, holder, attribute in _fields(state)}
    given = [*entries, *scalars]
    if odd := sorted(fields.keys() ^ set(given)) or [n for n in entries if n in scalars]:
        raise ValueError(f"{odd[0][:100]}: missing, or unknown to this State")
    for name, value in scalars.items():
        holder, attribute = fields[name]
        now = _scalar(name, value, getattr(holder, attribute), nested=holder is not state)
        setattr(holder, attribute, now)
    filled = filled_rows(state)  # which the scalars tell
    for name, entry in entries.items():
        holder, attribute = fields[name]
        current = getattr(holder, attribute)
        if isinstance(current, np.ndarray) and (holder is state or current.size):
            _read(entry, name, current[: filled[name]] if name in filled else current)
        elif type(current) is int or holder is not state:
            setattr(holder, attribute, _of_any_size(entry, name, current))
        else:
            raise ValueError(f"{name}: is an array: must be {type(current).__name__}")


def _read(entry, name, target):
    """Fill the array `target`, which tells shape and type. Raises ValueError for others."""
    if (entry.shape, entry.dtype) != (target.shape, target.dtype):
        found, must = f"{entry.dtype} {entry.shape}", f"{target.dtype} {target.shape}"
        raise ValueError(f"{name}: is {found}: must be {must}")
    entry.read(target)
    if not np.isfinite(target).all():
        raise ValueError(f"{name}: must be finite")
    return target


def _of_any_size(entry, name, current):
    """Return an array whose size a new State does not tell, or an int that was NumPy's."""
    if entry.dtype.kind not in "if" or entry.nbytes > LARGEST or len(entry.shape) > 2:
        raise ValueError(f"{name}: is {entry.dtype} {entry.shape}: must be numbers, and fewer")
    if type(current) is int and (entry.shape or entry.dtype.kind != "i"):
        raise ValueError(f"{name}: is an array: must be int")
    value = entry.read()
    if not np.isfinite(value).all():
        raise ValueError(f"{name}: must be finite")
    return _number(name, int(value), current) if type(current) is int else value


def _scalar(name, value, current, nested):
    """Return a value of the JSON text, or write it into the Generator `current`."""
    if isinstance(current, np.random.Generator):
        _set_generator(name, value, current.bit_generator)
        return current
    if isinstance(current, (int, float)):
        return _number(name, value, current)
    if isinstance(current, tuple):
        return tuple((_number(name, G, 0.0), _number(name, t, 0)) for G, t in value)
    if nested and current is None and type(value) is int:
        return _number(name, value, 0)
    if not (nested and _is_plain(value) and _is_plain(current)):
        raise ValueError(f"{name} = {str(value)[:100]}: must be {type(current).__name__}")
    if value and "bit_generator" in value:
        kinds = {kind.__name__: kind for kind in (np.random.PCG64, np.random.PCG64DXSM)}
        _set_generator(name, value, kinds[value["bit_generator"]](0))
    return value


def _number(name, value, current):
    """Return a number of the type of `current`: an int from 0, a float as finite as that."""
    kind = float if isinstance(current, float) else type(current)
    right = type(value) is kind or (kind is float and type(value) is int)
    if right and kind is int:
        right = 0 <= value < 2**63
    elif right and kind is float:
        right = math.isfinite(value) or not math.isfinite(current)
    if not right:
        allowed = {int: "an int from 0", float: "a finite float", bool: "true or false"}[kind]
        raise ValueError(f"{name} = {str(value)[:100]}: must be {allowed}")
    return kind(value)


def _set_generator(name, value, bits):
    bits.state = value
    if bits.state != value:
        raise ValueError(f"{name}: is no state of a {type(bits).__name__}")


def check_actions(path: Path, state, space):
    """Raise UsageError unless the actions of every Position in the State are of this space."""
    size = 1 if isinstance(space, Discrete) else math.prod(space.shape)
    most = getattr(space, "nvec", 2 if isinstance(space, MultiBinary) else None)
    most = np.ravel(space.n if isinstance(space, Discrete) else most)
    positions = {id(holder): holder for _, holder, _ in _fields(state)}.values()
    for position in positions:
        actions = np.asarray(getattr(position, "actions", ()))
        fits = actions.ndim == 1 and actions.size % size == 0
        if fits and not isinstance(space, Box):
            rows = actions.reshape(-1, size)
            fits = bool(np.all((rows >= 0) & (rows < most)))
        if not fits:
            raise UsageError(f"{path / 'checkpoint.npz'}: actions: must be of {space}")
