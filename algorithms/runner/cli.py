"""The command `npgrad`: the common part of its sub-commands, which imports nothing slow."""

import contextlib
import importlib
import json
import math
import os
import re
import signal
import sys
import traceback
import warnings

from algorithms.runner.errors import Failure, Outcome, UsageError, one_line, require
from algorithms.runner.lookup import METHODS

HELP = """\
usage: npgrad COMMAND ...   (npgrad COMMAND --help explains its flags)

  npgrad train METHOD --env ID --steps N    learn; the results go into a run folder
  npgrad train --resume RUN --steps N       resume a run from its checkpoint
  npgrad sweep METHOD --env ID --steps N    train many seeds and settings at once
  npgrad search METHOD --env ID --steps N   search good settings
  npgrad evaluate RUN                       play episodes with the learned policy
  npgrad plot RUN [RUN ...]                 draw learning curves
  npgrad laboratory --env ID                exact bias and variance of estimators of ∇J
  npgrad check FILE:f [--gradient FILE:g]   judge a gradient of your own at drawn inputs
  npgrad list                               name the methods

Every command takes --json (the last line of stdout is one JSON object) and --debug (tracebacks).
"""

COMMANDS = {  # name: the module of algorithms.runner that has NAME_command(argv, methods)
    "train": "commands",
    "evaluate": "commands",
    "plot": "commands",
    "laboratory": "laboratory",
    "check": "check",
    "list": "commands",
    "sweep": "sweep",
    "search": "search",
}


def main(argv=None, methods=METHODS) -> int:
    """Run one command line; return its exit status: 0, 1 failure, 2 usage, 128 + signal;
    `check` has statuses of its own.

    Results go to stdout, everything else to stderr. An error is one line, unless --debug is given.
    """
    # NumPy's BLAS reads these once, at import. Small networks are many times slower on two
    # threads than on one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    argv = sys.argv[1:] if argv is None else list(argv)
    with _one_line_warnings():
        try:
            outcome = _dispatch(argv, methods)
        except SystemExit as after_help:
            return after_help.code or 0
        except BrokenPipeError:  # e.g. `npgrad train reinforce --help | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (Exception, KeyboardInterrupt) as error:
            outcome = _failed(error, "--debug" in argv)
    text = strict_json(outcome.result) if "--json" in argv else outcome.text
    if text:
        print(text, flush=True)
    return outcome.status


def _dispatch(argv, methods) -> Outcome:
    if argv and argv[0] in ("-h", "--help"):
        print(HELP, end="")
        raise SystemExit(0)
    if not argv or argv[0] not in COMMANDS:
        given = f"COMMAND = {argv[0]}" if argv else "COMMAND is missing"
        raise UsageError(f"{given}: must be one of {', '.join(COMMANDS)} (npgrad --help)")
    if argv[0] != "check":
        require("tyro")
    module = importlib.import_module(f"algorithms.runner.{COMMANDS[argv[0]]}")
    return getattr(module, f"{argv[0]}_command")(argv[1:], methods)


def _failed(error, debug: bool) -> Outcome:
    if debug:
        traceback.print_exception(error)
    message, status = f"{one_line(error)} (--debug shows where)", 1
    if isinstance(error, KeyboardInterrupt):
        message, status = "interrupted", 128 + signal.SIGINT
    elif isinstance(error, (UsageError, Failure)):
        message, status = str(error), error.status
    print(f"npgrad: {message}", file=sys.stderr)
    return Outcome({**getattr(error, "result", {}), "error": message}, "", status)


def strict_json(result: dict) -> str:
    """Return one line of JSON; numbers that JSON cannot hold (NaN, infinity) become null."""
    odd = [k for k, v in result.items() if isinstance(v, float) and not math.isfinite(v)]
    return json.dumps({**result, **dict.fromkeys(odd)}, allow_nan=False)


@contextlib.contextmanager
def _one_line_warnings():
    def show(message, category, filename, lineno, file=None, line=None):
        text = " ".join(re.sub(r"\x1b\[\d+m|WARN: ", "", str(message)).split())
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # erases the rest of a progress bar
        print(f"{clear}npgrad: warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
