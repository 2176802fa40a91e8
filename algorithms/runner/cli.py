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

from algorithms.runner.errors import (
    Failure,
    Outcome,
    UsageError,
    one_line,
    require,
    silence,
    tell,
)
from algorithms.runner.lookup import METHODS

HELP = """\
usage: npgrad COMMAND ...   (npgrad COMMAND --help explains its flags)

  npgrad train METHOD --env ID --steps N    learn; the results go into a run folder
  npgrad train --resume RUN --steps N       resume a run from its checkpoint
  npgrad sweep METHOD --env ID --steps N    train many seeds and settings at once
  npgrad search METHOD --env ID --steps N   search good settings
  npgrad evaluate RUN                       play episodes with the learned policy
  npgrad plot RUN [RUN ...]                 draw learning curves
  npgrad compare RUN [RUN ...]              a table of scores, and curves by steps and by seconds
  npgrad record RUN                         a video of episodes with the learned policy
  npgrad export RUN                         the learned policy as a program that needs only NumPy
  npgrad laboratory --env ID                exact bias and variance of estimators of ∇J
  npgrad check FILE:f [--gradient FILE:g]   judge a gradient of your own at drawn inputs
  npgrad explain FILE:f [--grad]            print f and its gradient as the NumPy program that runs
  npgrad referee WHAT FILE:f                judge an estimator, returns or gradient of your own
  npgrad book [--out DIR]                   build the book of the project, a site that works offline
  npgrad list [--presets]                   name the methods (the settings of published results)
  npgrad --version                          name the versions of npgrad and what it runs on

Every command takes --json (the last line of stdout is one JSON object) and --debug (tracebacks).
"""

COMMANDS = {  # name: the module of algorithms.runner that has NAME_command(argv, methods)
    "train": "commands",
    "evaluate": "commands",
    "plot": "commands",
    "compare": "compare",
    "record": "record",
    "export": "export",
    "laboratory": "laboratory",
    "check": "check",
    "explain": "explain",
    "referee": "referee",
    "book": "book",
    "list": "commands",
    "sweep": "sweep",
    "search": "search",
}


def main(argv=None, methods=METHODS) -> int:
    """Run one command line; return its exit status: 0, 1 failure, 2 usage, 128 + signal;
    `check` and `referee` have statuses of their own.

    Results go to stdout, everything else to stderr. An error is one line, unless --debug is given.
    """
    # NumPy's BLAS reads these once, at import. Small networks are many times slower on two
    # threads than on one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")  # pygame's, which would swallow SIGTERM
    argv = sys.argv[1:] if argv is None else list(argv)
    _open_streams()
    with _one_line_warnings():
        try:
            outcome = _dispatch(argv, methods)
            text = strict_json(outcome.result) if "--json" in argv else outcome.text
            return _printed(text, outcome)
        except SystemExit as after_help:
            return _printed("", Outcome({}, "", after_help.code or 0))
        except BrokenPipeError:  # e.g. `npgrad train reinforce --help | head`
            return _printed("", Outcome({}, "", 1))
        except (Exception, KeyboardInterrupt) as error:
            outcome = _failed(error, "--debug" in argv)
            return _printed(strict_json(outcome.result) if "--json" in argv else "", outcome)


def _printed(text, outcome) -> int:
    """Write the result to stdout; return the exit status."""
    try:
        if text:
            print(text)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        if not isinstance(error, BrokenPipeError) and outcome.status == 0:
            tell(f"npgrad: stdout cannot be written: {one_line(error)}")
        return outcome.status or (0 if outcome.kept else 1)
    return outcome.status


def _open_streams():
    """Let every line be printable: on terminals that lack its letters, and if a stream is closed.

    The numbers 0 to 2 are kept in use, or the next file to be opened would be taken for stdout.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, encoding="utf-8")  # for reading, so that writing is an error
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(argv, methods) -> Outcome:
    if argv and argv[0] in ("-h", "--help"):
        print(HELP, end="")
        raise SystemExit(0)
    if argv and argv[0] == "--version":
        versions = importlib.import_module("algorithms.runner.folder").versions()
        lines = (f"{name} {version or 'not installed'}" for name, version in versions.items())
        return Outcome(versions, "\n".join(lines))
    if not argv or argv[0] not in COMMANDS:
        given = f"COMMAND = {argv[0]}" if argv else "COMMAND is missing"
        raise UsageError(f"{given}: must be one of {', '.join(COMMANDS)} (npgrad --help)")
    if argv[0] not in ("check", "explain", "referee", "book"):
        require("tyro")
    module = importlib.import_module(f"algorithms.runner.{COMMANDS[argv[0]]}")
    return getattr(module, f"{argv[0]}_command")(argv[1:], methods)


def _failed(error, debug: bool) -> Outcome:
    if debug:
        tell("".join(traceback.format_exception(error)).rstrip())
    message, status = f"{one_line(error)} (--debug shows where)", 1
    if isinstance(error, KeyboardInterrupt):
        message, status = "interrupted", 128 + signal.SIGINT
    elif isinstance(error, (UsageError, Failure)):
        message, status = str(error), error.status
    tell(f"npgrad: {message}")
    return Outcome({**getattr(error, "result", {}), "error": message}, "", status)


def strict_json(result) -> str:
    """Return one line of JSON; numbers that JSON cannot hold (NaN, infinity) become null."""
    return json.dumps(_strict(result), allow_nan=False)


def _strict(x):
    if isinstance(x, dict):
        return {key: _strict(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_strict(value) for value in x]
    if hasattr(x, "tolist"):  # NumPy's
        return _strict(x.tolist())
    return None if isinstance(x, float) and not math.isfinite(x) else x


@contextlib.contextmanager
def _one_line_warnings():
    def show(message, category, filename, lineno, file=None, line=None):
        text = " ".join(re.sub(r"\x1b\[\d+m|WARN: ", "", str(message)).split())
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # erases the rest of a progress bar
        tell(f"{clear}npgrad: warning: {text}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
