"""The reports that a training loop yields."""

from typing import Any, NamedTuple, TypeAlias

Ended: TypeAlias = tuple[tuple[float, int], ...]  # (return, length) of episodes


class Metrics(NamedTuple):
    """One report of a training loop; counters start with the State and continue after a resume.

    steps      environment steps taken
    episodes   episodes finished
    returns    undiscounted return Σ R of each episode that ended since the last report
    lengths    number of steps of each of these episodes
    scalars    other quantities that the method measures, by name
    """

    steps: int
    episodes: int
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    scalars: dict[str, float]

    @classmethod
    def of(cls, state: Any, ended: Ended, scalars: dict[str, float] | None = None) -> "Metrics":
        """Return the report of a State, given (return, length) of the episodes that ended."""
        returns, lengths = tuple(zip(*ended)) or ((), ())
        return cls(state.steps, state.episodes, returns, lengths, scalars or {})
