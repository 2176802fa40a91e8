"""`npgrad explain`: a function in any file, and its gradient, as the NumPy program that runs."""

import argparse
import contextlib
import os
import sys

from algorithms.runner import theirs
from algorithms.runner.errors import Failure, Outcome, UsageError, one_line
from algorithms.runner.theirs import Late

ABOUT = """\
Print f as a straight line of NumPy calls, one operation a line, and with --grad its gradient too.
The text is a program: it runs as it is printed, and agrees with npgrad bit for bit.

The shapes are those of an input drawn from f's signature, as for `npgrad check`: the arguments are
annotated, as in (h: Float["N A"], a: Int["N"], x: float), or the module has
inputs = {"h": strategy or value}.
"""


def explain_command(argv, methods) -> Outcome:
    """Print somebody's function as a program; what its code prints goes to stderr."""
    options = _parse(argv)
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.devnull)  # leave no folder behind
    theirs.installed("hypothesis", "npgrad[testing]")
    import numpy as np

    from npgrad.explain import explain
    from npgrad.testing import Unusable, paste, sample

    try:
        with contextlib.redirect_stdout(sys.stderr), theirs.importing_from_here():
            f, _ = theirs.named("FILE:f", options.f, options.timeout)
            called, arguments, values = sample(f, seed=options.seed)
            chosen = _chosen(options.by, arguments, values)
            with np.errstate(all="ignore"):
                text = explain(called, *values, argnums=chosen)
    except Unusable as error:
        raise UsageError(str(error)) from error
    except Late as late:
        raise Failure(f"{late.args[0]} does not end within {options.timeout:g} s") from late
    except Exception as error:
        raise error if isinstance(error, UsageError) else Failure(one_line(error)) from error
    inputs = paste(dict(zip(arguments.names, values)))
    return Outcome({"program": text, "input": inputs}, text.rstrip())


def _chosen(by, arguments, values):
    """Return argnums of `explain`: all floats for --grad without names."""
    if by is None:
        return None
    if by:
        found = arguments.positions(by)
        return tuple(found) if len(found) > 1 else found[0]
    from npgrad.testing import _floats

    found = _floats(values)
    if not found:
        raise UsageError("--grad: f has no argument of floats")
    return tuple(found) if len(found) > 1 else found[0]


def _parse(argv):
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "npgrad explain", description=ABOUT, allow_abbrev=False, formatter_class=shape
    )
    parser.error = theirs.usage
    add = parser.add_argument
    add("f", metavar="FILE:f", help="a function in a file or module")
    add("--grad", dest="by", metavar="ARG", nargs="*", type=theirs.number_or_name,
        help="the gradient too, by these arguments (default: all floats)")  # fmt: skip
    add("--seed", metavar="INT", type=int, default=0, help="seed of the input (default: 0)")
    add("--timeout", metavar="SECONDS", type=float, default=10.0, help="per call (default: 10)")
    add("--json", action="store_true", help="print the result as one JSON object")
    add("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(argv)
    if options.seed < 0:
        raise UsageError(f"--seed = {options.seed}: must be at least 0")
    if not 0 < options.timeout < 1e6:
        raise UsageError(f"--timeout = {options.timeout}: must be in (0, 1e6)")
    return options
