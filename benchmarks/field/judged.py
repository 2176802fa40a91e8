"""How a function is judged: what the referee says of it, as a dict that JSON can hold.

    agrees      whether it is what our definition, or our page, says
    computes    what it is, in the referee's words
    departure   the referee's name for how it differs, or "none"
    bias, cosine   of an estimator: [least, largest] over the worlds
    notes       what else a reader should know; of returns, a counterexample
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from algorithms.referee import estimator, gradients, returns
from algorithms.referee.advantages import CATALOGUE
from algorithms.referee.enumerated import worlds
from algorithms.referee.guard import Asked, Unusable
from algorithms.referee.segments import drawn

FEWER = 60  # episodes of a world, where a library is slow to ask


class Entry(NamedTuple):
    """One function of a library, or one published formula. `told`: where its source says that it
    does so; `since`: when a departure was reported, if a report was found."""

    name: str
    judge: Callable[[], dict]
    told: str = ""
    since: str = ""


def estimated(f, gamma=None, most=np.inf, kind="") -> dict:
    """Judge an estimator of ∇J, in the five worlds."""
    verdict = estimator.judge(f, worlds(gamma, most=most) if gamma or most < np.inf else None)
    bias, cosine = ([row[i] for row in verdict.worlds] for i in (1, 2))
    what = verdict.exactly or f"no known estimator; nearest: {verdict.nearest}"
    expects = verdict.unbiased_for or "no known gradient"
    return dict(
        agrees=verdict.unbiased,
        computes=what,
        departure="none" if verdict.unbiased else f"biased: it expects {expects}",
        bias=_range(bias),
        cosine=_range(cosine),
        notes=list(verdict.notes),
    )


def _range(values):
    """[least, largest] of those that are numbers."""
    return [float(np.nanmin(values)), float(np.nanmax(values))]


def returned(f, what="advantages", framework=None) -> dict:
    """Judge returns or advantages, by their definition. What raises where γλ = 0 is judged where it
    is not."""
    ask, raises = Asked(f, framework=framework), []
    try:
        verdict = returns.judge(ask, what)
    except Unusable as error:
        raises = [f"where γλ = 0 it raises {str(error).partition(' raises ')[2] or error}"]
        verdict = returns.judge(
            Asked(f, framework=framework), what, among=[s for s in drawn() if s.gamma * s.lam > 0]
        )
    named = verdict.mistake and CATALOGUE[verdict.mistake].__doc__.splitlines()[0]
    departs = f"{verdict.mistake}: {named}" if named else "by no one mistake of the catalogue"
    departures = raises if verdict.agrees else [departs, *raises]
    shown = [str(verdict.counterexample)] if verdict.counterexample else []
    return dict(
        agrees=verdict.agrees and not raises,
        computes=f"{what} {'by' if verdict.agrees else 'other than by'} their definition",
        departure="; ".join(departures) or "none",
        notes=[*verdict.cannot, *shown],
    )


def differentiated(f, method, descent=True) -> dict:
    """Judge f(theta, batch) -> (d,), the gradient of a loss, against that of our page."""
    made = gradients.batch(method)
    verdict = gradients.judge(f(made.theta, made), made, descent)
    return dict(
        agrees=verdict.agrees,
        computes=verdict.line.removeprefix("agrees: ").removeprefix("departs: "),
        departure="none" if verdict.agrees else ", ".join(verdict.departing),
        notes=[] if verdict.agrees else [str(verdict)],
    )
