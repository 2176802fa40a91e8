"""Every goal of speed beside what was measured: results/speed.md, .json and .png."""

import json

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.record import RESULTS, save
from benchmarks.speed.race import digits, show, table

MET, MISSED = "#3b6fb6", "#d1603d"


def goals(settings):
    """[goal with its setting]; settings as results/speed_METHOD.json have them."""
    rows = [dict(setting=s) | goal for s, result in settings.items() for goal in result["goals"]]
    return rows + solving()


def solving():
    """The goals of A2C's time until CartPole is solved, which benchmarks.a2c measured."""
    row = lambda setting, over, bound, x, met, at_most=False: dict(
        setting=setting, over=over, under="page", bound=bound, at_most=at_most,
        measured=[x] * 3, met=bool(met))  # fmt: skip
    rows, path = [], RESULTS / "a2c_baseline.json"
    if path.exists():
        record = json.loads(path.read_text())
        for kind, bound in (("sync", 6.0), ("vector_entry_point", 10.0)):
            ratio = record[kind]["sb3_by_page"]
            x, steps = ratio["seconds"], ratio["steps"]
            setting = f"A2C until 475, {kind}, steps {steps:.2f} times (benchmarks.a2c)"
            met = x >= bound and 0.75 <= steps <= 1.25
            rows.append(row(setting, "Stable-Baselines3", bound, x, met))
    path = RESULTS / "a2c_cartpole.json"
    if path.exists():
        record = json.loads(path.read_text())
        x, n = record["summary"]["seconds"], len(record["runs"])
        setting = f"A2C until 475, median of {n} seeds, seconds (benchmarks.a2c)"
        rows.append(row(setting, "seconds", 0.4, x, x <= 0.4, at_most=True))
    return rows


def what(row):
    return row["over"] if row["over"] == "seconds" else f"{row['over']} / {row['under']}"


def markdown(rows):
    head = ["setting", "time of", "goal", "measured", "met"]
    body = []
    for row in rows:
        goal = f"{'≤' if row['at_most'] else '≥'} {row['bound']:g}"
        measured, met = row["measured"], "yes" if row["met"] else "**no**"
        form = digits(measured[0])
        alone = measured[1] == measured[2]  # medians of what others recorded
        measured = format(measured[0], form) if alone else show(measured, form)
        body.append((row["setting"], what(row), goal, measured, met))
    return f"{sum(row['met'] for row in rows)} of {len(rows)} goals are met.\n\n{table(head, body)}"


def draw(rows):
    """A bar for each goal, and the goal as a tick."""
    fig, ax = plt.subplots(figsize=(11, 1.2 + 0.24 * len(rows)), layout="constrained")
    y = np.arange(len(rows))
    middle, low, high = np.array([row["measured"] for row in rows]).T
    colours = [MET if row["met"] else MISSED for row in rows]
    ax.barh(y, middle, 0.62, 0, color=colours, alpha=0.75)
    ax.hlines(y, low, high, color="black", lw=0.8)
    goal = [row["bound"] for row in rows]
    ax.scatter(goal, y, marker="|", s=170, color="black", lw=2.4, zorder=3)
    for k, row in enumerate(rows):
        text = f" {row['measured'][0]:.3g} ({'≤' if row['at_most'] else '≥'} {row['bound']:g})"
        ax.text(max(high[k], goal[k]) * 1.05, k, text, va="center", fontsize=7)
    labels = [f"{row['setting']}:  {what(row)}" for row in rows]
    ax.set_yticks(y, labels, fontsize=7)
    ax.set(xscale="log")
    fig.supxlabel("ratio of times, median and middle 90 % of rounds; thick tick: goal", fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(left=min(0.3, 0.9 * low.min()), right=1.6 * max(*high, *goal))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.axvline(1, color="grey", lw=0.8)
    for colour, label in ((MET, "met"), (MISSED, "not met")):
        ax.barh([0], [0], color=colour, alpha=0.75, label=label)
    fig.legend(frameon=False, loc="outside upper right", ncols=2, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(RESULTS / "speed.png", dpi=150)
    plt.close(fig)


def write(settings, tables):
    rows = goals(settings)
    save("speed", "benchmarks.speed", dict(goals=rows))
    (RESULTS / "speed.md").write_text("\n".join([markdown(rows), *tables]))
    if rows:
        draw(rows)
