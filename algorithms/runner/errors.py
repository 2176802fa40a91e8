"""The end of a command: an Outcome, or an error with a message of one line for the user."""

import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple


class Outcome(NamedTuple):
    """The result of a command: as an object, as text, and as exit status.

    kept says that files hold the result too: the command succeeds even if stdout cannot take it.
    """

    result: dict
    text: str
    status: int = 0
    kept: bool = False


class UsageError(Exception):
    """Error of a command that is invalid as given; nothing has been started."""

    status = 2


class Failure(Exception):
    """Error during a command. `result` describes what was achieved and saved before it."""

    status = 1

    def __init__(self, message, **result):
        super().__init__(message)
        self.result = result


def one_line(error) -> str:
    """Return an exception as `Type: message`, without line breaks, of at most 500 letters."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 500 else f"{text[:500]}..."
    return ": ".join(filter(None, (type(error).__name__, text)))


def tell(text: str):
    """Write a line to stderr. A line that nobody can receive is lost; it stops no work."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        silence(sys.stderr)


def silence(stream):
    """Send all that is still written to a broken stream nowhere, also when Python exits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def short(value) -> str:
    """Return a value as text in one short line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:200] + "..."


def near(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" if a known name is like this one."""
    found = difflib.get_close_matches(name, known)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def require(module: str, package: str = "npgrad[app]"):
    """Import a module of an optional package. Raises Failure that says what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Failure(f"{error.name} is not installed: pip install '{package}'") from error
