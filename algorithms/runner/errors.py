"""How a command ends: with an Outcome, or with an error that is one line for its user."""

import importlib
from typing import NamedTuple


class Outcome(NamedTuple):
    """What a command has to say: as an object, as text, and as exit status."""

    result: dict
    text: str
    status: int = 0


class UsageError(Exception):
    """The command cannot be carried out as it was given; nothing has been started."""

    status = 2


class Failure(Exception):
    """Something broke on the way. `result` holds what was achieved and saved until then."""

    status = 1

    def __init__(self, message, **result):
        super().__init__(message)
        self.result = result


def one_line(error) -> str:
    """An exception as `Type: message`, without line breaks."""
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))


def require(module: str):
    """Import a module of the `app` extra. Raises Failure naming what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Failure(f"{error.name} is not installed: pip install 'npgrad[app]'") from error
