"""`npgrad referee`: what an estimator, returns or a gradient of somebody's computes, exactly."""

import argparse
import contextlib
import importlib
import sys
import time

from algorithms.referee.guard import FRAMEWORKS, Asked, Unusable
from algorithms.runner import theirs
from algorithms.runner.errors import Outcome, UsageError, near
from algorithms.runner.theirs import Late, Untold

WHAT = {"estimator": "estimator", "returns": "returns", "gradient": "gradient", "dump": "gradient"}
HELP = """\
usage: npgrad referee WHAT ...   (npgrad referee WHAT --help explains its flags)

  npgrad referee estimator FILE:f               bias and variance of an estimator of ∇J, exactly
  npgrad referee returns FILE:f                 returns or advantages, against their definition
  npgrad referee gradient FILE:f --method M     the gradient of a method, term by term
  npgrad referee dump --method M --out B.npz    a batch to compute a gradient from, anywhere
  npgrad referee gradient D.npy --batch B.npz   the gradient that was computed from it

exit status: 0 right, 1 it departs, 2 usage, 3 cannot be told
"""


def referee_command(argv, methods) -> Outcome:
    """Judge what somebody's code computes."""
    if argv and argv[0] in ("-h", "--help"):
        print(HELP, end="")
        raise SystemExit(0)
    if not argv or argv[0] not in WHAT:
        given, hint = (
            (f"WHAT = {argv[0]}", near(argv[0], WHAT)) if argv else ("WHAT is missing", "")
        )
        must = f"must be one of {', '.join(WHAT)} (npgrad referee --help)"
        raise UsageError(f"{given}: {must}{hint}")
    start = time.perf_counter()
    module = importlib.import_module(f"algorithms.runner.referee_{WHAT[argv[0]]}")
    try:
        with _prints_to_stderr(argv), theirs.importing_from_here():
            outcome = getattr(module, f"{argv[0]}_verdict")(argv[1:])
    except Late as late:
        raise Untold(f"{late.args[0]} does not end in time (--timeout)") from late
    except Unusable as error:
        raise Untold(str(error)) from error
    seconds = round(time.perf_counter() - start, 3)
    return outcome._replace(result=outcome.result | dict(seconds=seconds))


def _prints_to_stderr(argv):
    """Send what somebody's code prints to stderr; only help goes to stdout."""
    wants_help = {"-h", "--help"} & set(argv)
    return contextlib.nullcontext() if wants_help else contextlib.redirect_stdout(sys.stderr)


def parser(what, about, metavar="FILE:f"):
    """Return an ArgumentParser with the flags that all verdicts on a function have; if metavar is
    None, there is no function."""
    shape = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        f"npgrad referee {what}", description=about, allow_abbrev=False, formatter_class=shape
    )
    made.error = theirs.usage
    add = made.add_argument
    if metavar:
        add("f", metavar=metavar, help="a function in a Python file")
        add("--framework", choices=("numpy", *FRAMEWORKS), default=None,
            help="whose arrays f takes (default: what its file imports, or NumPy)")  # fmt: skip
        add("--timeout", metavar="SECONDS", type=float, default=10.0,
            help="per call (default: 10)")  # fmt: skip
    add("--json", action="store_true", help="print the result as one JSON object")
    add("--debug", action="store_true", help="show the traceback of an error")
    return made


def asked(options) -> Asked:
    """Return the function that the options name, to be asked. Raises UsageError."""
    if options.framework in FRAMEWORKS:
        theirs.installed(options.framework, options.framework)
    if not 0 < options.timeout < 1e6:
        raise UsageError(f"--timeout = {options.timeout}: must be in (0, 1e6)")
    f, name = theirs.named("FILE:f", options.f, options.timeout)
    return Asked(f, name, options.framework)
