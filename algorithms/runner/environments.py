"""The environment of a run, as the command line describes it and config.json records it."""

import difflib
from dataclasses import asdict, dataclass

from algorithms.runner.errors import UsageError, one_line


@dataclass(frozen=True)
class Environment:
    """Everything that determines an environment. `make` makes one; config.json holds the fields."""

    env: str  # Gymnasium's id

    @classmethod
    def of(cls, record: dict):
        """Return the Environment that a config.json describes."""
        return cls(record["env"])

    record = asdict

    def make(self, **options):
        """Return a new environment, made with more options than config.json has, such as a
        render_mode. Raises UsageError if the id is not known or nothing is made."""
        import gymnasium

        import algorithms.exact.register  # noqa: F401  (registers this project's ids)

        try:
            return gymnasium.make(self.env, **options)
        except gymnasium.error.UnregisteredEnv as error:
            found = difflib.get_close_matches(self.env, gymnasium.registry)
            near = f"; did you mean {' or '.join(found)}?" if found else ""
            raise UsageError(f"--env = {self.env}: not known to Gymnasium{near}") from error
        except Exception as error:
            raise UsageError(f"--env = {self.env}: cannot be made: {one_line(error)}") from error
