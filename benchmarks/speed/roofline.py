"""The roofline of one update with its rollout: what it must cost on this machine, and what it does.

Counted from the layers' sizes, for a network of layers n -> m (W and b) over B rows:

    forward     2 n m B operations a layer (multiply and add; b takes the place of the first add's
                zero), a tanh for every hidden unit and row; 2 L − 1 NumPy calls (dot, tanh)
    backward    2 n m B for ∂W, and 2 n m B for ∂x but at the first layer; L + 4 (L − 1) calls (two
                dots; 1 − h² and its product are three)
    inputs      2 n m B, ∂x alone, down to the first layer: what DDPG's actor needs of the critic
    bytes       W and b read once by each pass, written once as ∂W; activations written and read
                once by each pass; an optimiser's pass over its vectors, each read and written once
    optimiser   RMSProp 7 operations, a root and a division a parameter in 9 calls, on θ, d, g; Adam
                10, a root and a division in 12, on θ, d, m, v; soft targets 3 in 3, on θ and θ⁻;
                traces 3, on z and d, in 6 for both
    calls       besides: 2 for each action drawn (add noise, argmax), 10 for the gradient in the
                outputs (log-softmax, one-hot, advantages)

What is not counted costs time, but is no arithmetic: the environment (which is subtracted from what
is measured), Python between the calls, the replay memory, observations.

    bound = calls · c + tanhs · t + roots · q + max(operations / rate, bytes / bandwidth)

c is the time of a NumPy call on one number; t that of a tanh; q that of a square root and a
division, which are many times slower than a product; the rate that of a product of 1024 × 1024
matrices; the bandwidth that of x + y -> z, on vectors of as many bytes together as the
update's parameters, targets or copies, gradient and statistics, so that what fits into a cache is
read from it. All of one thread, medians. The share is the bound over what the races recorded of the
page, environment left out. ReLU counts as a tanh of no time. DDPG's critic is counted with the
action among the first layer's inputs.
"""

import json
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.record import RESULTS
from benchmarks.speed.race import digits, rounds_of, table
from benchmarks.speed.turns import repeat

ROUNDS = 9
POLICY, VALUE = (4, 64, 64, 2), (4, 64, 64, 1)
MU, Q = (3, 400, 300, 1), (4, 400, 300, 1)


class Work(NamedTuple):
    """The cost of a computation. `+` adds, `*` repeats."""

    operations: float = 0
    tanhs: float = 0
    numbers: float = 0  # moved to or from memory
    calls: float = 0
    roots: float = 0  # square roots, each with a division

    def __add__(self, other):
        return Work(*(a + b for a, b in zip(self, other)))

    def __mul__(self, n):
        return Work(*(n * a for a in self))


def parameters(sizes):
    return sum((n + 1) * m for n, m in pairwise(sizes))


def products(sizes):
    """Multiplications of one row's forward pass."""
    return sum(n * m for n, m in pairwise(sizes))


def forward(sizes, B):
    L, hidden = len(sizes) - 1, sum(sizes[1:-1])
    numbers = parameters(sizes) + B * (sizes[0] + 2 * hidden + sizes[-1])
    return Work(2 * products(sizes) * B, hidden * B, numbers, 2 * L - 1)


def backward(sizes, B):
    L, hidden = len(sizes) - 1, sum(sizes[1:-1])
    multiplications = 2 * products(sizes) - sizes[0] * sizes[1]
    numbers = 2 * parameters(sizes) + B * (sizes[0] + 3 * hidden + sizes[-1])
    return Work(2 * multiplications * B, 0, numbers, L + 4 * (L - 1))


def inputs(sizes, B):
    L, hidden = len(sizes) - 1, sum(sizes[1:-1])
    numbers = parameters(sizes) + B * (sizes[0] + 3 * hidden + sizes[-1])
    return Work(2 * products(sizes) * B, 0, numbers, L + 3 * (L - 1))


def rmsprop(n):
    return Work(7 * n, 0, 5 * n, 9, n)


def adam(n):
    return Work(10 * n, 0, 7 * n, 12, n)


def soft(n):
    return Work(3 * n, 0, 3 * n, 3)


ACT, HEAD = Work(calls=2), Work(calls=10)
BOTH = parameters(POLICY) + parameters(VALUE)


def episode(T):
    """REINFORCE with a learned baseline: T steps, then both gradients over all of them."""
    acting = (forward(POLICY, 1) + ACT) * T
    learning = backward(POLICY, T) + forward(VALUE, T) + backward(VALUE, T) + HEAD
    return acting + learning + adam(parameters(POLICY)) + adam(parameters(VALUE))


def rollout(n, N):
    """A3C and A2C: n steps of N environments, the values of one row more."""
    acting = (forward(POLICY, N) + ACT) * n
    learning = backward(POLICY, n * N) + forward(VALUE, (n + 1) * N) + backward(VALUE, n * N)
    return acting + learning + HEAD + rmsprop(BOTH)


def without_baseline(T):
    """REINFORCE without one."""
    acting = (forward(POLICY, 1) + ACT) * T
    return acting + backward(POLICY, T) + HEAD + adam(parameters(POLICY))


def traces():
    """One-step actor–critic with eligibility traces."""
    return online() + Work(3 * BOTH, 0, 4 * BOTH, 6)


def one_by_one(k):
    """One-step Q: k steps, each with a backward pass of its own that adds to d."""
    n = parameters(POLICY)
    step = forward(POLICY, 1) * 2 + ACT + backward(POLICY, 1) + HEAD + Work(n, 0, 3 * n, 1)
    return step * k + rmsprop(n)


def online():
    """One-step actor–critic: every step with both values."""
    learning = backward(POLICY, 1) + forward(VALUE, 1) * 2 + backward(VALUE, 1)
    return forward(POLICY, 1) + ACT + HEAD + learning + rmsprop(BOTH)


def segment(n):
    """n-step Q: the forward passes that act are the gradient's too; one of the target."""
    return (forward(POLICY, 1) + ACT) * n + forward(POLICY, 1) + backward(POLICY, n) + HEAD + (
        rmsprop(parameters(POLICY))
    )  # fmt: skip


def deterministic(B):
    """DDPG: both targets, the critic's gradient, the actor's through the critic, and an action."""
    critic = forward(MU, B) + forward(Q, B) * 2 + backward(Q, B)
    actor = forward(MU, B) + forward(Q, B) + inputs(Q, B) + backward(MU, B)
    n = parameters(MU) + parameters(Q)
    work = forward(MU, 1) + critic + actor + adam(n) + soft(n)
    return work._replace(tanhs=0)


class Update(NamedTuple):
    work: Work
    steps: int  # of the environment, of all its copies
    held: int  # numbers: parameters, targets or copies, gradient, statistics
    precision: str
    product: tuple  # (B, n, m) of its largest product
    race: tuple  # where it was raced: method, setting


ONE, NETS = parameters(POLICY), parameters(MU) + parameters(Q)
# fmt: off
UPDATES = {name: Update(*row) for name, *row in (
    ("REINFORCE, baseline, 465 steps", episode(465), 465, 4 * BOTH, "double", (465, 64, 64),
     ("reinforce", "REINFORCE, baseline value, learned θ")),
    ("REINFORCE, 465 steps", without_baseline(465), 465, 5 * ONE, "double", (465, 64, 64),
     ("reinforce", "REINFORCE, baseline none, learned θ")),
    ("actor–critic, one-step", online(), 1, 3 * BOTH, "double", (1, 64, 64),
     ("actor_critic", "actor–critic, one-step")),
    ("actor–critic, traces", traces(), 1, 4 * BOTH, "double", (1, 64, 64),
     ("actor_critic", "actor–critic, traces")),
    ("one-step Q, 5 steps", one_by_one(5), 5, 5 * ONE, "double", (5, 64, 64),
     ("async_q", "one-step Q")),
    ("n-step Q, t_max 5", segment(5), 5, 5 * ONE, "double", (5, 64, 64),
     ("async_q", "n-step Q, t_max 5")),
    ("A3C, t_max 5", rollout(5, 1), 5, 4 * BOTH, "double", (5, 64, 64),
     ("a3c", "A3C, one worker, t_max 5, learned θ")),
    ("A3C, t_max 20", rollout(20, 1), 20, 4 * BOTH, "double", (20, 64, 64),
     ("a3c", "A3C, one worker, t_max 20, learned θ")),
    ("A2C, 8 environments", rollout(5, 8), 40, 3 * BOTH, "single", (40, 64, 64),
     ("a2c", "A2C, CartPole's own of 8")),
    ("A2C, 64 environments", rollout(5, 64), 320, 3 * BOTH, "single", (320, 64, 64),
     ("a2c", "A2C, CartPole's own of 64")),
    ("DDPG, 400-300, batch 64", deterministic(64), 1, 5 * NETS, "single", (64, 400, 300),
     ("ddpg", "DDPG, 400-300, batch 64")),
)}
# fmt: on
LARGE = (1024, 1024, 1024)
DTYPES = dict(double=np.float64, single=np.float32)


def product(shape, precision):
    """A call of a product (B, n) @ (n, m)."""
    (B, n, m), dtype = shape, DTYPES[precision]
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(B, n)).astype(dtype), rng.normal(size=(n, m)).astype(dtype)
    return partial(np.dot, x, W, np.empty((B, m), dtype))


def stream(nbytes, precision):
    """A call of x + y -> z on three vectors of so many bytes together."""
    x, y, z = np.ones((3, int(nbytes) // 3 // DTYPES[precision]().itemsize), DTYPES[precision])
    return partial(np.add, x, y, z)


def size(update):
    """Bytes of a number."""
    return DTYPES[update.precision]().itemsize


def calls():
    """{what: call} of every rate that is needed."""
    one = np.ones(1)
    result = {"call": partial(np.add, one, one, np.empty(1))}
    for precision, dtype in DTYPES.items():
        x = np.linspace(-2.0, 2.0, 4096).astype(dtype)
        result[f"tanh, {precision}"] = partial(np.tanh, x, np.empty_like(x))
        roots = partial(np.sqrt, x * x + 1.0, np.empty_like(x)), partial(np.divide, x, x + 3.0)
        result[f"root, {precision}"], result[f"division, {precision}"] = roots
        result[f"large product, {precision}"] = product(LARGE, precision)
        result[f"memory, {precision}"] = stream(1.5e8, precision)
    for name, update in UPDATES.items():
        result[f"product, {name}"] = product(update.product, update.precision)
        result[f"stream, {name}"] = stream(update.held * size(update), update.precision)
    return result


def measure(rounds, quick):
    """The machine's rates, and every update's bound beside its recorded time."""
    turns = {}
    for name, call in calls().items():
        heavy = name.startswith(("large", "memory")) or "DDPG" in name
        turns[name] = repeat(call, 2 if heavy else 300)
    t = {name: 1e6 * float(np.median(x)) for name, x in rounds_of(turns, rounds).items()}  # µs
    rates = dict(call_microseconds=t["call"])
    for precision in DTYPES:
        rates[precision] = dict(
            tanh_nanoseconds=1e3 * t[f"tanh, {precision}"] / 4096,
            root_nanoseconds=1e3 * (t[f"root, {precision}"] + t[f"division, {precision}"]) / 4096,
            gigaflops=2e-3 * np.prod(LARGE) / t[f"large product, {precision}"],
            memory_gigabytes_per_second=1.5e5 / t[f"memory, {precision}"],
        )
    rows = {name: row(name, update, rates, t) for name, update in UPDATES.items()}
    return dict(rates=rates, updates=rows)


def row(name, update, rates, t):
    """One update: its counts, its rates, and what they come to in µs."""
    work, own = update.work, rates[update.precision]
    flops = 2e-3 * np.prod(update.product) / t[f"product, {name}"]
    moved = work.numbers * size(update)
    bandwidth = 1e-3 * update.held * size(update) / t[f"stream, {name}"]
    parts = dict(
        calls=work.calls * t["call"],
        tanh=1e-3 * work.tanhs * own["tanh_nanoseconds"],
        roots=1e-3 * work.roots * own["root_nanoseconds"],
        arithmetic=1e-3 * work.operations / own["gigaflops"],
        bytes=1e-3 * moved / bandwidth,
    )
    bound = parts["calls"] + parts["tanh"] + parts["roots"]
    bound += max(parts["arithmetic"], parts["bytes"])
    return dict(
        counts=work._asdict() | dict(bytes=moved),
        gigaflops_of_its_products=flops,
        gigabytes_per_second=bandwidth,
        microseconds=parts,
        bound=bound,
        measured=recorded(update),
    )


def recorded(update):
    """µs of an update that the race recorded, environment left out; None if it has not run."""
    method, setting = update.race
    path = RESULTS / f"speed_{method}.json"
    result = json.loads(path.read_text())["results"].get(setting) if path.exists() else None
    if result is None:
        return None
    rows = result["rows"]
    page = rows.get("page") or rows[f"page, {update.precision}"]
    return update.steps * (page["microseconds"][0] - rows["environment"]["microseconds"][0])


def markdown(results):
    rates, form = results["rates"], lambda x: format(x, digits(x))
    lines = [
        f"**Roofline of one update**\n\nA NumPy call takes {rates['call_microseconds']:.2f} µs."
    ]
    for precision in DTYPES:
        own = rates[precision]
        lines.append(
            f"{precision.capitalize()} precision: products of 1024 × 1024 {own['gigaflops']:.0f} "
            f"GFLOP/s, memory {own['memory_gigabytes_per_second']:.1f} GB/s, a tanh "
            f"{own['tanh_nanoseconds']:.1f} ns, a square root with a division "
            f"{own['root_nanoseconds']:.1f} ns."
        )
    head = ["", "kFLOP", "kB", "tanh", "calls", "GFLOP/s of its products", "µs: calls", "tanh",
            "roots", "arithmetic", "bytes", "bound", "measured", "share"]  # fmt: skip
    body = []
    for name, r in results["updates"].items():
        counts, t, measured = r["counts"], r["microseconds"], r["measured"]
        body.append([
            name, form(counts["operations"] / 1e3), form(counts["bytes"] / 1e3),
            f"{counts['tanhs']:,.0f}", f"{counts['calls']:,.0f}",
            form(r["gigaflops_of_its_products"]),
            *(form(t[k]) for k in ("calls", "tanh", "roots", "arithmetic", "bytes")),
            form(r["bound"]),
            *(("", "") if measured is None else (form(measured), f"{r['bound'] / measured:.0%}")),
        ])  # fmt: skip
    return " ".join(lines) + "\n\n" + table(head, body)


def draw(results):
    """Draw the parts of an update's time, as shares of the measured time."""
    rows = {name: r for name, r in results["updates"].items() if r["measured"]}
    if not rows:
        return
    fig, ax = plt.subplots(figsize=(9.5, 1.4 + 0.42 * len(rows)), layout="constrained")
    kinds = {
        "NumPy calls": lambda t: t["calls"],
        "tanh, roots, divisions": lambda t: t["tanh"] + t["roots"],
        "arithmetic or bytes": lambda t: max(t["arithmetic"], t["bytes"]),
    }
    left = np.zeros(len(rows))
    for (label, part), colour in zip(kinds.items(), ("#3b6fb6", "#5a9e4b", "#d1603d")):
        share = np.array([part(r["microseconds"]) / r["measured"] for r in rows.values()])
        ax.barh(list(rows), share, 0.62, left, color=colour, label=label)
        left += share
    ax.barh(list(rows), np.maximum(1 - left, 0), 0.62, left, color="#dddddd", label="the rest")
    for k, r in enumerate(rows.values()):
        text = f" {r['measured']:,.0f} µs" if r["measured"] >= 100 else f" {r['measured']:.1f} µs"
        ax.text(max(1.0, left[k]), k, text, va="center", fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel="share of the update's measured time, environment left out")
    ax.set_xlim(right=max(1.15, 1.15 * left.max()))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    ax.spines[["top", "right"]].set_visible(False)
    fig.legend(frameon=False, loc="outside upper center", ncols=4, fontsize=9)
    fig.savefig(RESULTS / "speed_roofline.png", dpi=150)
    plt.close(fig)
