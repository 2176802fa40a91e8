"""The field, judged: libraries as they are installed, and published formulas, by our referee.

    python -m benchmarks.field [LIBRARY ...]

Nothing of a library is changed or repeated: benchmarks/field/by_*.py hand its functions the
arguments of the referee. The extra `field` installs what can stand in one environment. AgileRL and
Sample Factory need another one (pip install agilerl==2.58.0 peft; pip install --no-deps
sample-factory==2.1.1 signal-slot-mp colorlog). What is not installed keeps the rows that it has on
record, or else is skipped, and the table says so. "Departure" is from our definition or from our
page, and no judgement: a choice is a choice, and the remark says what is documented. Bias and
cosine are exact, over all episodes of five finite worlds (of few episodes, where a library is slow
to ask): least to largest. A constant factor counts in the bias, and not in the cosine.

Writes results/field.json, with counterexamples, and field.md.
"""

import importlib
import time
import warnings
from importlib.metadata import PackageNotFoundError, version

from algorithms.referee.guard import Unusable
from benchmarks import study

LIBRARIES = {  # package: its modules here
    "published": ("published",),
    "stable-baselines3": ("by_sb3", "by_sb3_gradients"),
    "torch": ("by_torch",),
    "torchrl": ("by_torchrl",),
    "tianshou": ("by_tianshou",),
    "rlax": ("by_rlax",),
    "skrl": ("by_skrl",),
    "pfrl": ("by_pfrl",),
    "ray": ("by_rllib",),
    "agilerl": ("by_agilerl",),
    "sample-factory": ("by_sample_factory",),
}
HEAD = ("source", "what", "what it computes, in the referee's words", "bias / \\|∇J\\|", "cosine",
        "departure", "remark", "reported in")  # fmt: skip


def installed(package):
    """Return the version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def judged(package):
    """Yield the rows of a package, as dicts; one row that says so, if it is not installed."""
    number, skipped = installed(package), dict(source=package, what="", departure="", notes=[])
    if not number and package != "published":
        yield skipped | dict(computes="not installed")
        return
    try:
        modules = [importlib.import_module(f"benchmarks.field.{x}") for x in LIBRARIES[package]]
    except ImportError as error:
        yield skipped | dict(computes=f"cannot be imported: {error}")
        return
    for entry in (entry for module in modules for entry in module.ENTRIES):
        start = time.perf_counter()
        row = dict(source=f"{package} {number}" if number else package, what=entry.name)
        try:
            row |= entry.judge()
        except Unusable as error:
            row |= dict(agrees=None, computes="cannot be told", departure=str(error), notes=[])
        row |= dict(remark=entry.remark, since=entry.since)
        print(f"{time.perf_counter() - start:5.1f} s  {row['source']}, {row['what']}", flush=True)
        yield row


def cells(row):
    """Return the cells of a row of the table."""
    extents = [
        "–" if row.get(name) is None else f"{_short(row[name][0])} to {_short(row[name][1])}"
        for name in ("bias", "cosine")
    ]
    limits = [note.partition("; ")[0] for note in row["notes"] if "\n" not in note]
    computes = "; ".join([row["computes"], *limits])
    given = row["source"], row["what"], computes, *extents, row["departure"]
    given = *given, row.get("remark"), row.get("since")
    return [x.replace("|", "\\|") if x else "–" for x in given]


def _short(x):
    return "0" if abs(x) < 1e-9 else f"{x:.3g}"


def recorded(package):
    """Return the rows of a package that are on record."""
    rows = (study.load("field") or dict(rows=[]))["rows"]
    return [row for row in rows if row["source"].split()[0] == package and "agrees" in row]


def main():
    given, rows = study.options(__doc__, tuple(LIBRARIES)).parts, []
    for package in LIBRARIES:
        here = package in given and (package == "published" or installed(package))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries'
            rows += (not here and recorded(package)) or judged(package)
    text = study.minus(study.table(HEAD, [cells(row) for row in rows]))
    found = [x for x in ("numpy", "gymnasium", *LIBRARIES, "jax") if installed(x)]
    study.publish("field", dict(rows=rows), text, packages=found)


if __name__ == "__main__":
    main()
