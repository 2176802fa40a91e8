"""Run folders from strangers: truncated, corrupted, hostile, enormous or newer files.

    change(folder, rng)    damages one file of a run folder; returns what was done
    judge(folder, rng)     opens the folder as the runner does; returns what the runner said

The runner must refuse in one line, or take the folder if it is still whole. It must execute nothing
of the folder's and take no more memory than the run.
"""

import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from algorithms.runner import folder as folders
from algorithms.runner import plot, training
from algorithms.runner.errors import Failure, UsageError
from algorithms.runner.evaluate import evaluate
from algorithms.runner.lookup import METHODS, load_method

READ = {  # by each of the runner's ways to open a folder
    "resume": ("config.json", "metrics.csv", "checkpoint.npz"),
    "evaluate": ("config.json", "parameters.npz"),
    "plot": ("config.json", "metrics.csv"),
}
FILES = ("config.json", "metrics.csv", "checkpoint.npz", "parameters.npz")
TEXTS = ("x", "", "../../etc/passwd", "CartPole-v1\n", "\ud800", "é" * 9, "y" * 10**5, "2", "nan")
NUMBERS = (0, -1, 1, 2, 2**31, 2**63, 2**64, 10**300, 0.5, 1e308, float("nan"), float("inf"))
VALUES = (*TEXTS, *NUMBERS, None, True, False, [], {}, [1], [[]], {"a": {}}, [10**9, 10**9])
RAW = (b"[" * 10**5, b'{"a":' * 10**5, b"1" * 10**5, b"1e999", b"null", b"[]", b"\xff\xfe", b"{}")


class Payload:
    """An object whose unpickling leaves a file in the working directory."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def change(folder: Path, rng) -> str:
    """Damage one file of the folder."""
    name = pick(rng, FILES)
    if not small(folder / name):
        return f"{name}: as it is"
    ways = [bytewise, bytewise, odd_file]
    ways += {".json": [in_json] * 4, ".csv": [in_rows] * 4}.get(Path(name).suffix, [in_npz] * 6)
    way = pick(rng, ways)
    return f"{name}: {way(folder / name, rng)}"


def small(path):
    """Tell whether it is a file that can be read here: no pipe, not enormous, and not empty."""
    return path.is_file() and not path.is_symlink() and 0 < path.stat().st_size < 10**8


# any file


def flipped(data, rng):
    data = bytearray(data)
    for k in rng.integers(len(data), size=pick(rng, (1, 3, 30))):
        data[k] ^= int(rng.integers(1, 256))
    return data


BYTES = {  # of the data, a place in it, and rng
    "cut": lambda data, at, rng: data[:at],
    "flip": lambda data, at, rng: flipped(data, rng),
    "zero": lambda data, at, rng: data[:at] + bytes(64) + data[at + 64 :],
    "random": lambda data, at, rng: rng.bytes(500),
    "empty": lambda data, at, rng: b"",
    "longer": lambda data, at, rng: data + rng.bytes(99),
    "doubled": lambda data, at, rng: data * 2,
    "spliced": lambda data, at, rng: data[:at] + rng.bytes(16) + data[at:],
}


def bytewise(path, rng):
    data, how = path.read_bytes(), pick(rng, list(BYTES))
    path.write_bytes(BYTES[how](data, int(rng.integers(len(data))), rng))
    return how


ODD = {
    "missing": lambda path: None,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "enormous": lambda path: (path.touch(), os.truncate(path, 2**40)),
}


def odd_file(path, rng):
    how = pick(rng, list(ODD))
    path.unlink()
    ODD[how](path)
    return how


# config.json, and the text in checkpoint.npz


def in_json(path, rng):
    if rng.random() < 0.2:
        path.write_bytes(pick(rng, RAW))
        return "raw"
    record = json.loads(path.read_bytes())
    what = edit(record, rng)
    path.write_bytes(dumped(record))
    return what


def dumped(record):
    return json.dumps(record).encode(errors="surrogatepass")


def edit(record, rng):
    """Change, remove or add one value, at any depth."""
    places = [(record, key) for key in record]
    for holder, key in places:
        if isinstance(holder[key], dict):
            places += [(holder[key], inner) for inner in holder[key]]
    holder, key = pick(rng, places)
    how = pick(rng, ("set", "set", "set", "removed", "added", "newer", "deep"))
    if how == "set":
        holder[key] = pick(rng, VALUES)
    elif how == "removed":
        del holder[key]
    elif how == "added":
        holder[pick(rng, TEXTS[:3])] = pick(rng, VALUES)
    elif how == "newer":
        record["format"] = pick(rng, (2, 99, 2**70, "1", 0, -1, 1.0, None, True))
    else:
        holder[key] = json.loads("[" * 500 + "]" * 500)
    return f"{key} {how}"


# metrics.csv


CELLS = b"nan", b"", b"-1", b"1e999", b"9" * 5000, b"\xff", b"=1+1", b"1_0", b"0x1", b"\r"
HEADERS = b"\n", b"a,b\n", b",,,,\n", b"step\n"


def in_rows(path, rng):
    lines = path.read_bytes().splitlines(keepends=True)
    at = int(rng.integers(1, len(lines)))
    how = pick(rng, ("lost", "twice", "swapped", "cell", "cell", "long", "column", "header"))
    row, cells = lines[at], lines[at].rstrip(b"\n").split(b",")
    if how == "swapped":
        lines[at], lines[-1] = lines[-1], row
    elif how == "header":
        lines[0] = pick(rng, HEADERS)
    else:
        cells[rng.integers(len(cells))] = pick(rng, CELLS)
        lines[at : at + 1] = {
            "lost": [],
            "twice": [row, row],
            "cell": [b",".join(cells) + b"\n"],
            "long": [b"1" * 10**6 + b"\n"],
            "column": [row.rpartition(b",")[0] + b"\n"],
        }[how]
    path.write_bytes(b"".join(lines))
    return f"row {how}"


# checkpoint.npz, parameters.npz


def in_npz(path, rng):
    """Write the archive anew with one entry changed."""
    arrays = entries(path)
    name = pick(rng, sorted(arrays))
    how = pick(rng, (*ARRAYS, *ARCHIVES, "text"))
    extra, compression = [], zipfile.ZIP_STORED
    if how == "text" and "_json" in arrays:
        record = json.loads(np.load(BytesIO(arrays["_json"])).item())
        how, name = f"text: {edit(record, rng)}", "_json"
        arrays["_json"] = npy(np.array(dumped(record).decode(errors="replace")))
    elif how in ARRAYS:
        arrays[name] = ARRAYS[how](np.load(BytesIO(arrays[name])))
    elif how == "bomb":
        compression, arrays[name] = zipfile.ZIP_DEFLATED, arrays[name] + bytes(10**7)
    elif how == "twice":
        extra = [(name, arrays[name])]
    elif how == "renamed":
        arrays[pick(rng, ("../../x", "/etc/x", "C:\\x", "x" * 60000))] = arrays.pop(name)
    elif how == "crowd":
        extra = [(f"x{k}", b"") for k in range(70000)] if rng.random() < 0.02 else [("x", b"")]
    else:
        arrays.pop(name)
    rewrite(path, (*arrays.items(), *extra), compression)
    return f"{name} {how}"


def entries(path):
    """Return {name: the bytes of that npy file}."""
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}


def rewrite(path, files, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        with zipfile.ZipFile(path, "w", compression) as archive:
            for key, data in files:
                archive.writestr(f"{key}.npy", data)


def npy(value):
    file = BytesIO()
    np.save(file, value)
    return file.getvalue()


def header(shape="(10,)", descr="'<f8'", order="False", body=b"", version=(1, 0)):
    """Return the bytes of an npy file with any text in its header."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H", len(text)) if version == (1, 0) else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + body


ARRAYS = {
    "pickle": lambda value: npy(np.array([Payload()])),
    "pickle alone": lambda value: pickle.dumps(Payload()),
    "shape": lambda value: npy(np.resize(value, (*value.shape, 1))),
    "longer": lambda value: npy(np.resize(value, value.size + 1)),
    "none": lambda value: npy(value.reshape(-1)[:0]),
    "nan": lambda value: npy(np.full(value.shape, np.nan)),
    "text": lambda value: npy(np.array("x" * 99)),
    "complex": lambda value: npy(np.zeros(value.shape, complex)),
    "single": lambda value: npy(np.zeros(value.shape, np.float32)),
    "bytes swapped": lambda value: npy(np.zeros(value.shape, ">f8")),
    "bool": lambda value: npy(np.zeros(value.shape, bool)),
    "negative": lambda value: npy(np.full(value.shape, -1)),
    "record": lambda value: npy(np.zeros(3, [("a", "f8"), ("b", "O")])),
    "huge": lambda value: header("(1000000000000,)"),
    "beyond": lambda value: header(f"({10**30},)"),
    "minus": lambda value: header("(-1, -10)", body=bytes(80)),
    "true": lambda value: header("(True,)", body=bytes(8)),
    "nested": lambda value: header("(" * 900 + ")" * 900),
    "objects": lambda value: header("(1,)", "'|O'", body=pickle.dumps([Payload()])),
    "code": lambda value: header("__import__('os').mkdir('executed')"),
    "subarray": lambda value: header("(1,)", "('<f8', (1000000,))"),
    "later": lambda value: header(version=(4, 0)),
    "long header": lambda value: header("(1,)" + " " * 60000, body=bytes(8)),
    "fortran": lambda value: header("(2, 5)", order="True", body=bytes(80)),
}  # fmt: skip
ARCHIVES = ("bomb", "twice", "renamed", "crowd", "lost")


def judge(folder: Path, steps: int, rng) -> str:
    """Open the folder to resume, to evaluate or to plot it. Returns "...: taken" or the one line.

    Raises AssertionError if the runner says several lines; other errors are the runner's own.
    """
    way = pick(rng, ("resume", "resume", "evaluate", "plot"))
    try:
        method = load_method(folders.read_config(folder)["method"], METHODS)
        if way == "evaluate":
            evaluate(folder, method, 1, 0, False, 9)
        elif way == "plot":
            plot.groups_of([folder])
        else:
            session = training.resume(folder, method, steps)
            if rng.random() < 0.1:
                training.learn(session, steps)
            session.env.close()
            session.lock.close()
        line = f"{way}: taken"
    except (UsageError, Failure) as error:
        line = str(error)
    assert "\n" not in line and len(line) < 1000, f"{way}: {line[:2000]}"
    assert not Path("executed").exists(), f"{way}: code was executed"
    return line


def trial(pristine: Path, steps: int, rng) -> tuple[str, str]:
    """Damage a copy of a run folder, one to three times, and judge it."""
    shutil.rmtree("stranger", ignore_errors=True)
    shutil.copytree(pristine, "stranger")
    done = []
    for _ in range(pick(rng, (1, 1, 1, 2, 3))):
        try:
            done.append(change(Path("stranger"), rng))
        except Exception:
            if not done:  # else it has been damaged too much to be damaged in this way
                raise
    try:
        return "; ".join(done), judge(Path("stranger"), steps, rng)
    except Exception as error:
        raise AssertionError(f"after {done}: {type(error).__name__}: {error}") from error


def outcome(done: str, line: str) -> str:
    """Return refused; taken; or not read, if no file was changed that this way reads."""
    way, _, end = line.partition(": ")
    if end != "taken":
        return "refused"
    return "taken" if any(each.startswith(READ[way]) for each in done.split("; ")) else "not read"
