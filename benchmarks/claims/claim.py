"""A claim: what the notes say, beside the function that decides it."""

from typing import NamedTuple


class Claim(NamedTuple):
    notes: str  # section
    says: str
    run: object  # (options) -> (verdict, number, data or None)
    how: str = ""  # the command, if it is not that of the claims
    pictures: tuple = ()  # in results/, beside claims.png


CLAIMED = {}  # by name


def claim(notes, says, how="", pictures=()):
    """Decorate the function that decides a claim, of the same name."""

    def claimed(run):
        CLAIMED[run.__name__] = Claim(notes, says, run, how, pictures)
        return run

    return claimed
