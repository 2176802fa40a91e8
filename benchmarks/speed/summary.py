"""Ours beside theirs, in every race: results/speed.md, .json and .png."""

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.record import RESULTS, save
from benchmarks.speed.race import FLOORS, digits, limit, show, table

OURS, LIMIT = "#3b6fb6", "black"
LEFT_OUT = "Gumbel", "flat θ", "forward", "bare", "torch compiled"  # which each race's table has


def compared(races):
    """[(setting, ours, theirs, their µs, our µs, [ratio, 5 %, 95 %], the ratio at the limit)];
    races as results/speed_METHOD.json have them."""
    rows = []
    for setting, race in races.items():
        floor, times = limit(race["rows"]), race["rows"]
        for theirs, row in times.items():
            for ours, ratio in row.get("over", {}).items():
                if theirs in FLOORS or any(word in ours + theirs for word in LEFT_OUT):
                    continue
                x, y = (times[name]["microseconds"][0] for name in (theirs, ours))
                rows.append((setting, ours, theirs, y, x, ratio, floor and x / floor))
    return rows


def markdown(rows):
    form = lambda x: format(x, digits(x))
    head = ["setting", "ours", "theirs", "ours, µs", "theirs, µs", "ratio", "limit"]
    body = [
        (setting, ours, theirs, form(y), form(x), show(ratio, digits(ratio[0])),
         form(bound) if bound else "")
        for setting, ours, theirs, y, x, ratio, bound in rows
    ]  # fmt: skip
    return (
        "Times are of a step, an update or a call: see the tables below. ratio: their time over "
        "ours in the same round, median and the middle 90 % of rounds. limit: the ratio if ours "
        "took no time beside the environment's, or, in DDPG, beside an update's large matrix "
        f"products.\n\n{table(head, body)}"
    )


def draw(rows):
    """A bar for each ratio, and the limit as a tick."""
    fig, ax = plt.subplots(figsize=(11, 1.2 + 0.2 * len(rows)), layout="constrained")
    y = np.arange(len(rows))
    middle, low, high = np.array([row[5] for row in rows]).T
    limits = np.array([row[6] or np.nan for row in rows])
    ax.barh(y, middle, 0.62, 0, color=OURS, alpha=0.75)
    ax.hlines(y, low, high, color="black", lw=0.8)
    ax.scatter(limits, y, marker="|", s=100, color=LIMIT, lw=2)
    for k, x in enumerate(middle):
        ax.text(high[k] * 1.05, k, f" {x:.3g}", va="center", fontsize=7)
    ax.set_yticks(y, [f"{row[0]}:  {row[2]} / {row[1]}" for row in rows], fontsize=7)
    ax.set(xscale="log")
    fig.supxlabel("ratio of times, median and middle 90 % of rounds; tick: its limit", fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(left=min(0.3, 0.9 * low.min()))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.axvline(1, color="grey", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(RESULTS / "speed.png", dpi=150)
    plt.close(fig)


def write(races, tables):
    rows = compared(races)
    names = "setting", "ours", "theirs", "ours_us", "theirs_us", "ratio", "limit"
    save("speed", "benchmarks.speed", dict(rows=[dict(zip(names, row)) for row in rows]))
    (RESULTS / "speed.md").write_text("\n".join([markdown(rows), *tables]))
    if rows:
        draw(rows)
