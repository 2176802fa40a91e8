"""Every method beside its torch twin: gradients to 1e-10, whole learning runs to 1e-8.

    python -m benchmarks.parity [METHOD ...] [--updates 1000]

All in double precision, in a small environment whose episodes end both ways. The page learns, and
what it did is recorded. Its twin does the same in the same environment, actions included, but finds
for itself all that it learns: forward passes, returns and TD errors, loss, autograd, optimiser,
target networks, traces and average reward. Compared are every displayed gradient at the networks'
outputs, every gradient in the parameters, and all parameters after every update: see
benchmarks.parity.measure. Asynchronous: two workers, the same turns.

Writes benchmarks/results/parity.json and parity.md, if all methods are asked for. Exit status 1 if
a row falls short.
"""

import argparse
import sys

import torch

from benchmarks.parity import a2c, actor_critic, asynchronous, ddpg, reinforce
from benchmarks.parity.measure import GRADIENT, PARAMETERS, judge
from benchmarks.record import RESULTS, save

MODULES = (reinforce, actor_critic, asynchronous, a2c, ddpg)
METHODS = {method: module for module in MODULES for method in module.METHODS}


def line(row):
    """A row of the table."""
    numbers = " | ".join(f"{x:.1e}" for x in (row.outputs, row.gradient, row.parameters))
    verdict = "holds" if row.holds else "FALLS SHORT"
    return (
        f"| {row.method} | {row.option} | {row.optimizer} | {numbers} | {row.updates} | {verdict} |"
    )


def markdown(rows):
    lines = [
        "Every method beside its torch twin, in double precision: what is compared, and what the "
        "largest differences are relative to, say the docstrings of `benchmarks/parity/`. Limits: "
        f"{GRADIENT:g} (outputs, gradient), {PARAMETERS:g} (parameters).\n",
        "| method | option | optimiser | outputs | gradient | parameters | updates | |",
        "|---|---|---|---|---|---|---|---|",
        *map(line, rows),
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--updates", type=int, default=1000, help="of every run, at least")
    arguments = parser.parse_args()
    unknown = [method for method in arguments.methods if method not in METHODS]
    if unknown or arguments.updates < 1:
        parser.error(f"METHOD {unknown}, --updates {arguments.updates}: allowed are "
                     f"{', '.join(METHODS)}; at least 1")  # fmt: skip
    torch.set_num_threads(1)
    rows = []
    for method in arguments.methods or METHODS:
        for case in METHODS[method].cases(method):
            rows.append(judge(METHODS[method], method, case, arguments.updates))
            print(line(rows[-1]), flush=True)
    if not arguments.methods:
        packages = "numpy", "gymnasium", "torch"
        table = [row._asdict() | dict(holds=row.holds) for row in rows]
        save("parity", "benchmarks.parity", dict(rows=table), packages)
        (RESULTS / "parity.md").write_text(markdown(rows))
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
