"""What all races share: rounds, ratios within a round, tables.

A contestant is a function without arguments, a TURN: it does some work and returns how many units
of it (steps of the environment, updates, calls). In every round each contestant has one turn, in
random order; the first round only warms up. Ratios are taken within a round, so that what slows
the machine for a while slows both sides of them; shown are the median over the rounds and the range
of their middle 90 %.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from algorithms.common.config import PRECISIONS

PRODUCTS = "ten products"
FLOORS = "environment", PRODUCTS  # that nobody can be faster than: limits, not rivals


@dataclass(frozen=True)
class Race:
    setting: str
    measure: Callable  # rounds -> {contestant: seconds per unit (rounds,)}
    ours: tuple[str, ...] = ("page",)
    unit: str = "step"
    differences: dict = field(default_factory=dict)  # {contestant: from the page}, checked before
    leave_out: bool = True  # the environment's time, if it takes part, in ratios of their own


def timed(turn):
    """Seconds of processor time per unit."""
    start = time.process_time()
    units = turn()
    return (time.process_time() - start) / units


def rounds_of(turns, rounds):
    """{contestant: seconds of processor time per unit (rounds,)}."""
    rng, times = np.random.default_rng(0), {name: np.empty(rounds) for name in turns}
    for k in range(-1, rounds):
        for name in rng.permutation(list(turns)):
            seconds = timed(turns[name])
            if k >= 0:
                times[name][k] = seconds
    return times


def interval(x):
    """[median, 5 %, 95 %] of the rounds, to four digits."""
    return [float(f"{q:.4g}") for q in np.quantile(x, [0.5, 0.05, 0.95])]


def outcome(race, rounds):
    """The race run: what results/speed_METHOD.json holds of it."""
    times = race.measure(rounds)
    names = sorted(times, key=lambda name: name in race.ours)
    rows = {name: dict(microseconds=interval(1e6 * times[name])) for name in names}
    floor = times.get("environment") if race.leave_out else None
    for name, row in rows.items():
        if name not in (*race.ours, "environment"):
            row["over"] = {page: interval(times[name] / times[page]) for page in race.ours}
            if floor is not None:
                rest = {page: times[page] - floor for page in race.ours}
                row["over_without_environment"] = {
                    page: interval((times[name] - floor) / rest[page]) for page in race.ours
                }
    return dict(unit=race.unit, ours=race.ours, differences=race.differences, rows=rows)


def limit(rows):
    """The time that nobody can be faster than: the large products alone, or the environment."""
    found = [rows[name]["microseconds"][0] for name in FLOORS if name in rows]
    return max(found) if found else None


def crossing(points):
    """Return where the ratio of points [(value, ratio)] first falls below 1, or None: never, or
    is so from the first on."""
    x, ratio = np.log(np.array(points)).T
    below = np.flatnonzero(ratio < 0)
    if not below.size or below[0] == 0:
        return None
    k = below[0]
    share = ratio[k - 1] / (ratio[k - 1] - ratio[k])
    return float(np.exp(x[k - 1] + share * (x[k] - x[k - 1])))


def show(q, form):
    """median (5 %–95 %)."""
    return "" if q is None else "{} ({}–{})".format(*(format(x, form) for x in q))


def digits(x):
    """A format of three digits for what is about x."""
    return ",.0f" if x >= 100 else ".1f" if x >= 10 else ".2f"


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines) + "\n"


def markdown(setting, result):
    """One race as a table."""
    unit, ours, rows = result["unit"], result["ours"], result["rows"]
    kinds = [k for k in ("over", "over_without_environment") if any(k in r for r in rows.values())]
    text = {"over": "× {}", "over_without_environment": "× {}, environment left out"}
    head = ["", f"µs per {unit}", f"{unit}s/s"]
    head += [text[kind].format(page) for kind in kinds for page in ours]
    body = []
    for name, row in rows.items():
        t = row["microseconds"]
        ratios = [row.get(kind, {}).get(page) for kind in kinds for page in ours]
        cells = [show(q, digits(q[0]) if q else "") for q in ratios]
        body.append([name, show(t, digits(t[0])), f"{1e6 / t[0]:,.0f}", *cells])
    return f"**{setting}**\n\n{table(head, body)}"


def precisions(config):
    """{name: config}: in each precision."""
    return {f"page, {kind}": replace(config, precision=kind) for kind in PRECISIONS}


def relative(x, y):
    """Largest difference, relative to the largest entry of x."""
    return float(np.abs(x - y).max() / np.abs(x).max())


def agree(name, pairs, bound=1e-10):
    """The worst of `relative` over pairs. Raises AssertionError if it is above the bound."""
    worst = max(relative(x, y) for x, y in pairs)
    assert worst <= bound, f"{name} differs from the page by {worst:.1e}"
    return worst
