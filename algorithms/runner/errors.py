"""The end of a command: an Outcome, or an error with a message of one line for the user."""

import difflib
import importlib
from collections.abc import Iterable
from typing import NamedTuple


class Outcome(NamedTuple):
    """The result of a command: as an object, as text, and as exit status."""

    result: dict
    text: str
    status: int = 0


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
    """Return an exception as `Type: message`, without line breaks."""
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))


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
