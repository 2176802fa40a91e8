"""`npgrad check`: the gradient test of npgrad.testing for a function in any file or module."""

import argparse
import contextlib
import functools
import os
import sys
import time

from algorithms.runner import theirs
from algorithms.runner.errors import Outcome, UsageError, one_line
from algorithms.runner.theirs import FRAMEWORKS, STATUS, Late, Untold

ABOUT = """\
Judge a gradient of f at inputs drawn from its signature, and shrink a failing one to the smallest.
Without --gradient, npgrad's own derivative of f is judged, or that of --framework.

The arguments are annotated, as in (h: Float["N A"], a: Int["N"], x: float), or the module has
inputs = {"h": strategy}; see npgrad.testing.

exit status: 0 agrees, 1 wrong, 2 usage, 3 cannot be told"""


def check_command(argv, methods) -> Outcome:
    """Judge a gradient in somebody's code, which prints to stderr."""
    start, options = time.perf_counter(), _parse(argv)
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.devnull)  # leave no folder behind
    theirs.installed("hypothesis", "npgrad[testing]")
    from npgrad.testing import Unusable, examine, paste

    framework = FRAMEWORKS[options.framework]()
    try:
        with contextlib.redirect_stdout(sys.stderr), theirs.importing_from_here():
            f, gradient, how = _functions(options)
            given = {"argnums": options.argnums, "rtol": options.rtol}
            how |= {name: x for name, x in given.items() if x is not None}
            if framework:
                how |= {"jacobian": framework.jacobian, "who": options.framework}
                f, gradient = framework.adapted(f), gradient and framework.adapted(gradient)
            trial = examine(f, gradient, examples=options.examples, seed=options.seed, **how)
    except Unusable as error:
        raise UsageError(str(error)) from error
    except Late as late:
        name, inputs = late.args
        where = paste(inputs).replace("\n", "; ")
        raise Untold(f"{name} does not end within {options.timeout:g} s at {where}") from late
    except Exception as error:
        raise error if isinstance(error, UsageError) else Untold(one_line(error)) from error
    if not trial.examples:
        raise Untold(str(trial).replace("\n", "; "))
    seconds = round(time.perf_counter() - start, 3)
    return Outcome(_result(trial, paste, seconds), str(trial), STATUS[trial.answer])


def _result(trial, paste, seconds):
    """Return the Trial as what JSON can hold."""
    names = ("argument", "entry", "output", "given", "number", "error", "method", "step")
    return {
        "answer": trial.answer,
        "line": trial.line,
        **{name: getattr(trial.verdict, name, None) for name in names},
        "input": trial.inputs and paste(trial.inputs),
        "examples": trial.examples,
        "untold": dict(trial.untold),
        "discarded": dict(trial.discarded),
        "notes": list(trial.notes),
        "seconds": seconds,
    }


# The command line


def _parse(argv):
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "npgrad check", description=ABOUT, allow_abbrev=False, formatter_class=shape
    )
    parser.error = theirs.usage
    add = parser.add_argument
    add("f", metavar="FILE:f", help="a function in a file or module, or one under @gradient_of")
    add("--gradient", metavar="FILE:g", help="its gradient, written by hand; g alone: in that FILE")
    add("--argnums", metavar="ARG", nargs="+", type=theirs.number_or_name,
        help="numbers or names (default: all floats; with g, as many as it gives)")  # fmt: skip
    add("--examples", metavar="INT", type=int, default=100, help="inputs to judge (default: 100)")
    add("--rtol", metavar="FLOAT", type=float, help="relative error that agrees (default: 1e-7)")
    add("--seed", metavar="INT", type=int, default=0, help="seed of the inputs (default: 0)")
    add("--timeout", metavar="SECONDS", type=float, default=10.0, help="per call (default: 10)")
    add("--framework", choices=FRAMEWORKS, default="numpy",
        help="whose arrays f takes, and whose derivative is judged (default: numpy)")  # fmt: skip
    add("--json", action="store_true", help="print the result as one JSON object")
    add("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(argv)
    for name, right, allowed in (
        ("examples", options.examples >= 1, "at least 1"),
        ("rtol", options.rtol is None or 0 < options.rtol < 1, "in (0, 1)"),
        ("seed", options.seed >= 0, "at least 0"),
        ("timeout", 0 < options.timeout < 1e6, "in (0, 1e6)"),
    ):
        if not right:
            raise UsageError(f"--{name} = {getattr(options, name)}: must be {allowed}")
    return options


def _functions(options):
    """Return (f, its gradient or None, what @gradient_of says about the test)."""
    file, _, name = options.f.rpartition(":")
    if not file or not name:
        raise UsageError(f"FILE:f = {options.f}: must be like losses.py:loss")
    timed = functools.partial(theirs.timed, options.timeout)
    module = theirs.load(file, options.timeout)
    f = theirs.function(module, file, name)
    if options.gradient is not None:
        other, _, other_name = options.gradient.rpartition(":")
        if not other_name:
            raise UsageError(f"--gradient = {options.gradient}: must be like losses.py:gradient")
        if other and other != file:
            file, module = other, theirs.load(other, options.timeout)
        gradient = theirs.function(module, file, other_name)
        return timed(f, name), timed(gradient, other_name), {}
    if hasattr(f, "gradient_of"):
        return timed(f.gradient_of), timed(f, name), dict(f.options)
    return timed(f, name), None, {}
