"""Every method beside its torch twin: gradients, and whole learning runs, to what rounding leaves.

    python -m benchmarks.parity [METHOD ...] [--updates 1000]

All in double precision, in a small environment whose episodes end both ways. The page learns. After
each of its episodes or updates its twin does the same in the same environment, actions included,
but finds for itself all that it learns: forward passes, returns and TD errors, loss, autograd,
optimiser, target networks, traces and average reward. Compared are every displayed gradient at the
networks' outputs, every gradient in the parameters, and all parameters after every update.
benchmarks.parity.measure says how, and derives the limits. Asynchronous: two workers, the same
turns.

Writes benchmarks/results/parity.json and parity.md, if all methods are asked for. Exit status 1 if
a row falls short.
"""

import argparse
import sys

import torch

from benchmarks.parity.cases import CASES
from benchmarks.parity.measure import KINDS, judge
from benchmarks.record import RESULTS, save

HEAD = "method", "option", "optimiser", *KINDS, "updates", ""


def line(row):
    """A row of the table."""
    found = zip((row.outputs, row.gradient, row.parameters), row.limits)
    numbers = [f"{x:.1e} (≤ {limit:.0e})" for x, limit in found]
    verdict = "holds" if row.holds else "FALLS SHORT"
    cells = row.method, row.option, row.optimizer, *numbers, str(row.updates), verdict
    return f"| {' | '.join(cells)} |"


def markdown(rows):
    lines = [
        "Every method beside its torch twin, in double precision: what is compared, what the "
        "largest differences are relative to, and where the limits in brackets come from, says "
        "`benchmarks/parity/measure.py`.\n",
        f"| {' | '.join(HEAD)} |",
        "|---" * len(HEAD) + "|",
        *map(line, rows),
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(CASES))
    parser.add_argument("--updates", type=int, default=1000, help="of every run, at least")
    arguments = parser.parse_args()
    unknown = [method for method in arguments.methods if method not in CASES]
    if unknown or arguments.updates < 1:
        parser.error(f"METHOD {unknown}, --updates {arguments.updates}: allowed are "
                     f"{', '.join(CASES)}; at least 1")  # fmt: skip
    torch.set_num_threads(1)
    rows = []
    for method in arguments.methods or CASES:
        for case in CASES[method]:
            rows.append(judge(case, arguments.updates))
            print(line(rows[-1]), flush=True)
    if not arguments.methods:
        table = [row._asdict() | dict(holds=row.holds) for row in rows]
        save("parity", "benchmarks.parity", dict(rows=table), ("numpy", "gymnasium", "torch"))
        (RESULTS / "parity.md").write_text(markdown(rows))
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
