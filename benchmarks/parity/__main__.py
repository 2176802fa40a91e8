"""Every method beside its torch twin: gradients to 1e-10, whole learning runs to 1e-8.

    python -m benchmarks.parity [METHOD ...] [--updates 1000]

All in double precision, in a small world whose episodes end both ways (benchmarks.parity.world).
gradient: at every update of a learning run the twin's own scalar loss, at the page's θ and on the
page's data, is differentiated by torch's autograd and compared with the page's gradient.
parameters: the page learns, recorded; the twin, from the same start, learns from the same steps on
its own: forward passes, returns and TD errors, loss, autograd, optimiser, target networks, traces
and average reward. After every update (REINFORCE, the episodic actor–critics: after every episode)
all its parameters are compared with the page's. Asynchronous: two workers, the same turns.
What the differences are relative to: benchmarks.parity.measure.

Writes benchmarks/results/parity.json and parity.md, if all methods are asked for. Exit status 1 if
a row falls short.
"""

import argparse
import sys

import torch

from benchmarks.parity import a2c, actor_critic, asynchronous, ddpg, reinforce
from benchmarks.parity.measure import GRADIENT, PARAMETERS
from benchmarks.record import RESULTS, save

MODULES = (reinforce, actor_critic, asynchronous, a2c, ddpg)
METHODS = {method: module for module in MODULES for method in module.METHODS}


def line(row):
    """A row of the table."""
    numbers = f"{row.gradient:.1e} | {row.parameters:.1e} | {row.updates}"
    verdict = "holds" if row.holds else "FALLS SHORT"
    return f"| {row.method} | {row.option} | {row.optimizer} | {numbers} | {verdict} |"


def markdown(rows):
    lines = [
        "Every method beside its torch twin, in double precision: what is compared, and what the "
        "largest differences are relative to, say the docstrings of `benchmarks/parity/`. Limits: "
        f"{GRADIENT:g} (gradient), {PARAMETERS:g} (parameters).\n",
        "| method | option | optimiser | gradient | parameters | updates | |",
        "|---|---|---|---|---|---|---|",
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
            rows.append(METHODS[method].row(method, case, arguments.updates))
            print(line(rows[-1]), flush=True)
    if not arguments.methods:
        packages = "numpy", "gymnasium", "torch"
        table = [row._asdict() | dict(holds=row.holds) for row in rows]
        save("parity", "benchmarks.parity", dict(rows=table), packages)
        (RESULTS / "parity.md").write_text(markdown(rows))
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
