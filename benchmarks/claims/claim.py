"""A claim: a statement of the notes in our words, beside the function that decides it."""

import inspect
from collections.abc import Callable
from math import comb
from typing import NamedTuple

from benchmarks import record, study


class Found(NamedTuple):
    """Hold what a claim's function finds."""

    verdict: str
    number: str  # the one that carries the verdict, with what it is of
    rest: str = ""  # everything else
    data: dict | None = None  # for the picture


class Claim(NamedTuple):
    notes: str  # section
    says: str
    run: Callable  # (options) -> Found
    how: str = ""  # the command, if it is not that of the claims
    pictures: tuple = ()  # in results/, beside claims.png
    asks: str = ""  # what would make the statement right


CLAIMED = {}  # by name
UNRECORDED = Found("unmeasured", "not recorded yet")


def result(name):
    """Return what results/NAME.json holds, or None; of a study of rows {label: Recorded}."""
    found = record.load(name)
    return {row.label: row for row in study.recorded(name)} if found and "rows" in found else found


def claim(notes, says, *reads, how="", pictures=()):
    """Decorate the function that decides a claim, of the same name. It is given the options and the
    results that it reads; where one of these is not there, it is unmeasured. Its docstring says
    what would make the statement right."""

    def claimed(decide):
        def run(options):
            records = [result(name) for name in reads]
            if None in records:
                return UNRECORDED
            try:
                return decide(options, *records)
            except KeyError as error:
                return Found("unmeasured", f"not recorded yet: {error.args[0]}")

        given = f"python -m benchmarks.{how}" if how else ""
        decides, asks = run if reads else decide, " ".join((inspect.getdoc(decide) or "").split())
        CLAIMED[decide.__name__] = Claim(notes, says, decides, given, pictures, asks)
        return decides

    return claimed


def graded(found, none="wrong"):
    """Return right if all of what was found is so, partly if any, else `none`."""
    return "right" if all(found) else "partly" if any(found) else none


def differ(a, n, b, m):
    """Tell whether a of n and b of m are apart by Fisher's exact test, two-sided, at 5 %."""
    return exact_test(a, n, b, m) < 0.05


def exact_test(a, n, b, m):
    """Return p of Fisher's exact test, two-sided, for a of n and b of m."""
    ways = [comb(n, k) * comb(m, a + b - k) for k in range(a + b + 1)]
    return sum(x for x in ways if x <= ways[a]) / sum(ways)
