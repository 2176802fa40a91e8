"""How the time of an update grows: with the batch, the width, the depth, and the number of
environments of A2C.

One update: the cross-entropy of B actions under a softmax network of 4 inputs and 2 actions, tanh,
and its gradient, mean over the batch, then Adam (torch's fused). Batch: 64-64; width: two layers of
that width, B = 64; depth: so many hidden layers of 64, B = 64. Ours beside lean torch, in float32
and float64. A whole update of A2C with its
rollout of 5 steps, in CartPole's own vector environment of N, less what the environments alone
take: the page beside the lean torch twin, float32.

A curve crosses where torch's time over ours passes 1, by straight lines between the points in
logarithms.
"""

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.record import RESULTS
from benchmarks.speed.contestants import contestants as of_race
from benchmarks.speed.entries import LEAN, a2c_entry
from benchmarks.speed.race import agree, crossing, digits, interval, rounds_of, show, table, timed
from benchmarks.speed.turns import repeat
from benchmarks.torch_twins import mlp as twins
from npgrad import OPTIMIZERS, Softmax, at, mlp

ROUNDS = 11
OURS, TORCH = "#3b6fb6", "#d1603d"
STYLES = {
    "ours, float32": dict(color=OURS),
    "ours, float64": dict(color=OURS, ls="--"),
    "torch lean, float32": dict(color=TORCH),
    "torch lean, float64": dict(color=TORCH, ls="--"),
}
# {axis: {value: (hidden layers, batch)}}
AXES = {
    "batch": {B: ((64, 64), B) for B in (1, 4, 16, 64, 256, 1024, 4096)},
    "width": {m: ((m, m), 64) for m in (16, 32, 64, 128, 256, 512, 1024)},
    "depth": {L: ((64,) * L, 64) for L in range(1, 7)},
}
ENVIRONMENTS = (1, 4, 16, 64, 256)
PAIRS = (
    ("torch lean, float32", "ours, float32"),
    ("torch lean, float64", "ours, float64"),
)


def ours(model, theta, x, a):
    """One update; returns dθ, which the next one overwrites."""
    adam, step, t, net = OPTIMIZERS["adam"], np.empty_like(theta), 0, at(model, theta)
    m = adam.statistics(theta)

    def update():
        nonlocal t
        t += 1
        d = net.backward(Softmax(net.forward(x)).score(a) / -np.size(a))
        np.subtract(theta, adam.step(d, m, t, 1e-4, out=step), theta)
        return d

    return update


def contestants(hidden, batch):
    """{name: one update}, all from the same θ and data."""
    rng, model = np.random.default_rng(0), mlp((4, *hidden, 2))
    theta, calls = model.init(rng), {}
    x, a = rng.normal(size=(batch, 4)), rng.integers(2, size=batch)
    for dtype in (np.float32, np.float64):
        own, data = theta.astype(dtype), (x.astype(dtype), a)
        calls[f"ours, {dtype.__name__}"] = ours(
            model, own, *([one[0] for one in data] if batch == 1 else data)
        )
        parameters = [p.astype(dtype) for p in model.layout.views(theta)]
        update = twins.lean_update(parameters, x.astype(dtype), a)
        calls[f"torch lean, {dtype.__name__}"] = update
    return calls


def check(calls):
    """The first gradients agree, in float64 to 1e-10."""
    d = calls["ours, float64"]().copy()
    theirs = np.concatenate([p.reshape(-1).numpy() for p in calls["torch lean, float64"]()])
    agree("torch lean", [(d, theirs)])


def turn_of(call, seconds):
    """A turn of as many calls as take about so long."""
    call()
    once = timed(repeat(call, 3))
    return repeat(call, max(1, round(seconds / max(once, 1e-6))))


def measure(rounds, quick):
    """{axis: {contestant: [[value, median µs, 5 %, 95 %], ...]}}."""
    seconds, results = 0.002 if quick else 0.02, {}
    for axis, points in AXES.items():
        for value, (hidden, batch) in points.items():
            calls = contestants(hidden, batch)
            check(calls)
            turns = {name: turn_of(call, seconds) for name, call in calls.items()}
            add(results, axis, value, rounds_of(turns, rounds))
    for N in ENVIRONMENTS:
        entry = a2c_entry("", "vector_entry_point", N, 4 if quick else 20)
        entry = entry._replace(rival=False)
        times = rounds_of(of_race(entry, entry.steps), rounds)
        n = entry.config.n_steps * N
        update = lambda name, t=times, n=n: n * (t[name] - t["environment"])
        names = {"page": "ours, float32", LEAN: "torch lean, float32"}
        add(results, "environments", N, {new: update(old) for old, new in names.items()})
    return results


def add(results, axis, value, times):
    for name, t in times.items():
        results.setdefault(axis, {}).setdefault(name, []).append([value, *interval(1e6 * t)])


def markdown(results):
    body, text = [], "**How the time of one update grows (medians)**\n\n"
    for axis, curves in results.items():
        for over, under in PAIRS:
            if over not in curves:
                continue
            points = [(p[0], p[1] / q[1]) for p, q in zip(curves[over], curves[under])]
            at = crossing(points)
            (first, a), (last, b) = points[0], points[-1]
            where = f"at about {at:,.0f}" if at else "never here" if a > 1 else "from the first on"
            body.append([axis, f"{over} / {under}", f"{a:.2f} at {first}", f"{b:.2f} at {last}",
                         where])  # fmt: skip
    text += table(["along", "time of", "ratio", "ratio", "torch overtakes"], body)
    for axis, curves in results.items():
        values = [p[0] for p in next(iter(curves.values()))]
        body = [[name, *(show(p[1:], digits(p[1])) for p in row)] for name, row in curves.items()]
        text += f"\nµs against {axis}\n\n" + table(["", *values], body)
    return text


def draw(results):
    fig, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    labels = dict(
        batch="batch (64-64)",
        width="width of two layers (batch 64)",
        depth="hidden layers of 64 (batch 64)",
        environments="environments of A2C, rollout of 5 and update",
    )
    for ax, (axis, curves) in zip(axes.flat, results.items()):
        for name, points in curves.items():
            value, middle, low, high = np.array(points).T
            ax.plot(value, middle, "o", ls=STYLES[name].get("ls", "-"), ms=3.5, label=name,
                    color=STYLES[name]["color"])  # fmt: skip
            ax.fill_between(value, low, high, color=STYLES[name]["color"], alpha=0.12, lw=0)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(value, [f"{v:g}" for v in value])
        ax.minorticks_off()
        ax.set(xlabel=labels[axis], ylabel="µs per update")
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, fontsize=9)
    fig.savefig(RESULTS / "speed_scaling.png", dpi=150)
    plt.close(fig)
