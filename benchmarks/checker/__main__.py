"""Trial of gradient checkers on functions of known derivative: npgrad's, torch's and autograd's.

    python -m benchmarks.checker [npgrad] [torch] [autograd] [--seeds 10] [--jobs 1]

Every seed draws 1,000 functions (see benchmarks.checker.cases); half of them are changed so
that a complex step is wrong or impossible. About each function a checker is asked

    right   the exact derivative
    1e-6    the same with one entry off by a relative 1e-6
    wrong   what a careless checker would find (the complex step of a function that is not
            analytic, the slope between the points of a grid), or sometimes the exact derivative
            with its largest entry of other sign, twice as large, 0 or nan
    kink    at a kink, where there is no derivative: the one-sided ones and their mean

and what it answers is counted. torch.autograd.gradcheck and autograd's check_grads, at their
default tolerances, only pass or refuse; to refuse counts as "wrong", but is in order at a kink.

Writes benchmarks/results/checker.md and checker.json, which lists the false answers of npgrad by
(seed, number, claim): see `draw(seed, number)`. Exit status 1 if there are any.
"""

import sys
import time
import warnings
from collections import Counter
from itertools import product

import numpy as np
import torch
from autograd.extend import defvjp, primitive
from autograd.test_util import check_grads

from benchmarks import study
from benchmarks.checker.cases import draw
from benchmarks.checker.functions import FAMILIES
from npgrad.check import compare

PER_SEED = 1000
PACKAGES = ("numpy", "torch", "autograd")
QUESTIONS = ("right", "1e-6", "wrong", "kink")
COLUMNS = ("functions", *(f"{question}, false" for question in QUESTIONS),
           *(f"{question}, not told" for question in QUESTIONS[:3]),
           "not told, complex step right")  # fmt: skip
IN_ORDER = {  # answers that claim nothing false
    "right": ("agrees", "cannot be told"),
    "1e-6": ("wrong", "cannot be told"),
    "wrong": ("wrong", "cannot be told"),
    "kink": ("cannot be told",),
}
INTRODUCTION = """# Checkers on functions of known derivative

Numbers of answers. "right, false": the exact derivative is called wrong. "1e-6, false": one with
an entry off by a relative 1e-6 agrees. "wrong, false": one that is far off agrees. "kink, false":
anything but "cannot be told" where there is no derivative. The last number of those not told is of
functions that take complex numbers and whose complex step is right. The docstring of
`benchmarks.checker` says more. torch.autograd.gradcheck and autograd's check_grads, at their
default tolerances (an absolute 1e-5 and a relative 1e-3; both 1e-6), have two answers only: to
refuse counts as wrong, except at a kink.
"""


def by_npgrad(f, claim, x):
    try:
        return compare(f, claim, x).answer
    except Exception as error:  # is counted as a false answer
        return type(error).__name__


def by_torch(f, claim, x):
    class Given(torch.autograd.Function):
        @staticmethod
        def forward(ctx, t):
            return torch.as_tensor(np.asarray(f(t.detach().numpy()[()])))

        @staticmethod
        def backward(ctx, g):
            return torch.as_tensor(np.tensordot(g.numpy(), claim(x), g.ndim))

    return passed(torch.autograd.gradcheck, Given.apply, torch.tensor(x, requires_grad=True))


def by_autograd(f, claim, x):
    given = primitive(lambda x: f(x))
    defvjp(given, lambda y, x: lambda g: np.tensordot(g, claim(x), np.ndim(g)))
    return passed(check_grads(given, modes=["rev"], order=1), x[()])


def passed(check, *args):
    try:
        check(*args)
        return "agrees"
    except Exception:  # f may raise any exception, the checker its own
        return "wrong"


CHECKERS = {"npgrad": by_npgrad, "torch": by_torch, "autograd": by_autograd}


def trial(checkers, seed):
    """Ask about the functions of a seed: ({(checker, kind): Counter}, false answers of npgrad)."""
    counts, false = {(name, kind): Counter() for name in checkers for kind in FAMILIES}, []
    np.random.seed(seed)  # noqa: NPY002  (autograd draws its directions from it)
    for name, number in product(checkers, range(PER_SEED)):
        case = draw(seed, number)
        count = counts[name, case.kind]
        count["functions"] += 1
        for k, (question, claim) in enumerate(case.claims):
            start = time.perf_counter()
            answer = CHECKERS[name](case.f, claim, case.x)
            count["ms"] += 1e3 * (time.perf_counter() - start)
            count["questions"] += 1
            refused = question == "kink" and answer == "wrong" and name != "npgrad"
            if answer not in IN_ORDER[question] and not refused:
                count[f"{question}, false"] += 1
                false += [(seed, number, k)] * (name == "npgrad")
            if answer == "cannot be told":
                count[f"{question}, not told"] += 1
                count["not told, complex step right"] += case.stepped
    return counts, false


def quiet_trial(checkers, seed):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return trial(checkers, seed)


def markdown(checkers, counts):
    """Return a table of all checkers, then one of each by kinds."""
    cells = lambda count: [
        *(f"{count[column]:,}" for column in COLUMNS),
        f"{count['ms'] / count['questions']:.2f}",
    ]
    every = lambda name: sum((counts[name, kind] for kind in FAMILIES), Counter())
    head = [*COLUMNS, "ms per question"]
    text = [study.table(["checker", *head], [[name, *cells(every(name))] for name in checkers])]
    for name in checkers:
        rows = [[kind, *cells(counts[name, kind])] for kind in FAMILIES]
        text.append(f"## {name}\n\n{study.table(['kind', *head], rows)}")
    return "\n".join(text)


def main():
    given = study.options(__doc__, tuple(CHECKERS), seeds=10, jobs=1)
    counts, false = {(name, kind): Counter() for name in given.parts for kind in FAMILIES}, []
    jobs = [(given.parts, seed) for seed in range(given.seeds)]
    for found, false_ones in study.mapped(quiet_trial, jobs, given.jobs):
        for key in counts:
            counts[key] += found[key]
        false += false_ones
    text = markdown(given.parts, counts)
    if set(given.parts) == set(CHECKERS):
        rows = [dict(checker=name, kind=kind, **count) for (name, kind), count in counts.items()]
        settings = dict(seeds=given.seeds, functions_per_seed=PER_SEED, false_answers=false)
        text = f"{INTRODUCTION}\n{text}"
        study.publish("checker", settings | dict(rows=rows), text, packages=PACKAGES)
    sys.exit(bool(false))


if __name__ == "__main__":
    main()
