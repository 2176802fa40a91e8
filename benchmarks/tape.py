"""value_and_grad of a 4-64-64-2 tanh network by the tape, beside torch, HIPS autograd and by hand.

    python -m benchmarks.tape [--rounds 200] [--calls 10]

The cross-entropy of B observations, mean over the batch, in plain NumPy, written twice: with one
argument per parameter, and with one flat θ cut into them. HIPS autograd runs the same source with
its own numpy. All contestants compute in float64, on one thread, and must agree in value and
gradient to 1e-12 before anything is timed. Then they take turns: in each round, in random order,
each makes `calls` calls; ratios are taken within a round. Shown are the median and the range of the
middle 90 % of rounds, in microseconds of processor time. Set OMP_NUM_THREADS=1.
"""

import argparse
import time
from functools import partial

import autograd
import autograd.numpy
import numpy as np
import torch

from benchmarks.record import RESULTS, save
from benchmarks.torch_twins import mlp as twins
from npgrad import Softmax, mlp, value_and_grad

SIZES = (4, 64, 64, 2)
BATCHES = (1, 40, 256)
TARGETS = {
    "torch lean / tape": 1.9,
    "HIPS / tape": 9.0,
    "tape / forward": 3.2,
    "torch lean / by hand": 5.0,
}


def programs(np, parts):
    """(f of one array per parameter, f of a flat θ), in this numpy."""

    def arrays(W1, b1, W2, b2, W3, b3, x, a):
        h = np.tanh(x @ W1 + b1)
        h = np.tanh(h @ W2 + b2)
        h = h @ W3 + b3
        log_pi = h - np.log(np.sum(np.exp(h), axis=1, keepdims=True))
        return -np.mean(log_pi[np.arange(len(a)), a])

    def flat(theta, x, a):
        return arrays(*[theta[part].reshape(shape) for part, shape in parts], x, a)

    return arrays, flat


def by_hand(model, theta, x, a):
    """The cross-entropy and its gradient by the models' and heads' explicit formulas."""
    softmax = Softmax(model.sizes[-1])

    def value_and_grad():
        h, pullback = model.vjp(theta, x)
        return -np.mean(softmax.log_prob(h, a)), pullback(softmax.score(h, a) / -len(a))[0]

    return value_and_grad


def contestants(batch):
    """{name: () -> (value, gradients)}; "forward" gives the value only."""
    rng = np.random.default_rng(batch)
    model = mlp(SIZES)
    theta = model.init(rng)
    parameters = [p.copy() for p in model.layout.views(theta)]
    x, a = rng.normal(size=(batch, SIZES[0])), rng.integers(SIZES[-1], size=batch)
    ends = np.cumsum([p.size for p in parameters]).tolist()
    parts = [(slice(end - p.size, end), p.shape) for end, p in zip(ends, parameters)]
    arrays, flat = programs(np, parts)
    hips_arrays, hips_flat = programs(autograd.numpy, parts)
    each = tuple(range(len(parameters)))
    return {
        "forward": partial(arrays, *parameters, x, a),
        "forward, flat θ": partial(flat, theta, x, a),
        "tape": partial(value_and_grad(arrays, each), *parameters, x, a),
        "tape, flat θ": partial(value_and_grad(flat), theta, x, a),
        "by hand": by_hand(model, theta, x, a),
        "torch lean": twins.lean(parameters, x, a),
        "torch usual": twins.usual(parameters, x, a),
        "HIPS": partial(autograd.value_and_grad(hips_arrays, each), *parameters, x, a),
        "HIPS, flat θ": partial(autograd.value_and_grad(hips_flat), theta, x, a),
    }


def network_passes():
    """{name: () -> gradients of Σ g h}: the network alone, forward and backward, for one input."""
    rng = np.random.default_rng(0)
    model = mlp(SIZES)
    theta = model.init(rng)
    x, g = rng.normal(size=(1, SIZES[0])), rng.normal(size=(1, SIZES[-1]))
    d_theta, d_online = np.empty_like(theta), np.empty_like(theta)
    forward, backward = model.online(theta, d_online)

    def online():
        forward(x[0])
        return backward(g[0])

    return {
        "by hand, vjp": lambda: model.vjp(theta, x)[1](g, d_theta)[0],
        "by hand, online": online,
        "torch lean": twins.lean_network([p.copy() for p in model.layout.views(theta)], x, g),
    }


def flattened(name, gradients):
    """Any contestant's gradients as one vector, in θ's order."""
    if name == "torch usual":  # its weights are transposed
        gradients = [d.t() if d.ndim == 2 else d for d in gradients]
    pieces = gradients if isinstance(gradients, (tuple, list)) else [gradients]
    return np.concatenate([np.ravel(d) for d in pieces])


def check(calls):
    """Largest relative difference of any value or gradient; AssertionError above 1e-12."""
    value, gradients = calls["tape"]()
    d = flattened("tape", gradients)
    worst = 0.0
    for name, call in calls.items():
        with_gradient = not name.startswith("forward")
        got = call()[0] if with_gradient else call()
        worst = max(worst, abs(np.asarray(got.detach() if "torch" in name else got) / value - 1))
        if with_gradient:
            worst = max(worst, np.abs(flattened(name, call()[1]) - d).max() / np.abs(d).max())
        assert worst < 1e-12, f"{name} differs from the tape by {worst:.1e}"
    return float(worst)


def race(calls, rounds, repeats):
    """{name: microseconds per call (rounds,)}."""
    rng = np.random.default_rng(0)
    times = {name: np.empty(rounds) for name in calls}
    for k in range(-5, rounds):
        for name in rng.permutation(list(calls)):
            call = calls[name]
            start = time.process_time_ns()
            for _ in range(repeats):
                call()
            if k >= 0:
                times[name][k] = (time.process_time_ns() - start) / repeats / 1e3
    return times


def interval(x):
    """Median and the range of the middle 90 %."""
    return [float(f"{q:.4g}") for q in np.quantile(x, [0.5, 0.05, 0.95])]


def compare(times):
    """Microseconds of each, and the ratios that matter."""
    ratios = {}
    for flat in ("", ", flat θ"):
        tape = times[f"tape{flat}"]
        ratios[f"tape / forward{flat}"] = interval(tape / times[f"forward{flat}"])
        ratios[f"HIPS / tape{flat}"] = interval(times[f"HIPS{flat}"] / tape)
        for name in ("torch lean", "torch usual"):
            ratios[f"{name} / tape{flat}"] = interval(times[name] / tape)
    ratios["torch lean / by hand"] = interval(times["torch lean"] / times["by hand"])
    return dict(microseconds={name: interval(t) for name, t in times.items()}, ratios=ratios)


def markdown(results, kind, digits):
    """One table: a column for each batch size."""
    show = lambda q: "{} ({}–{})".format(*(format(v, digits) for v in q))
    lines = [
        f"| {kind} | " + " | ".join(f"B = {batch}" for batch in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for name in next(iter(results.values()))[kind]:
        cells = [show(result[kind][name]) for result in results.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--calls", type=int, default=10, help="in a turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for batch in BATCHES:
        calls = contestants(batch)
        difference = check(calls)
        times = race(calls, arguments.rounds, arguments.calls)
        results[batch] = dict(difference=difference) | compare(times)
    passes = network_passes()
    d = flattened("", passes["by hand, vjp"]())
    for name, call in passes.items():
        worst = np.abs(flattened(name, call()) - d).max() / np.abs(d).max()
        assert worst < 1e-12, f"{name} differs from the vjp by {worst:.1e}"
    times = race(passes, arguments.rounds, arguments.calls)
    ratios = {
        f"torch lean / {name}": interval(times["torch lean"] / times[name])
        for name in passes
        if name != "torch lean"
    }
    network = {1: dict(microseconds={k: interval(t) for k, t in times.items()}, ratios=ratios)}
    text = markdown(results, "microseconds", ".0f") + "\n" + markdown(results, "ratios", ".2f")
    text += "\nThe network alone, g given, one input: forward and backward pass\n\n"
    text += markdown(network, "microseconds", ".0f") + "\n" + markdown(network, "ratios", ".2f")
    print(text)
    packages = ("numpy", "torch", "autograd")
    save(
        "tape", "benchmarks.tape", dict(targets=TARGETS, batches=results, network=network), packages
    )
    (RESULTS / "tape.md").write_text(text)


if __name__ == "__main__":
    main()
