"""What a training loop tells whoever iterates it."""

from typing import NamedTuple


class Metrics(NamedTuple):
    """One update's report; counters run from the State's beginning, over every resume.

    steps      environment steps taken
    episodes   episodes finished
    returns    undiscounted return Σ R of each episode that ended in this update
    lengths    its number of steps
    scalars    what else the method measures, by name
    """

    steps: int
    episodes: int
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    scalars: dict[str, float]
