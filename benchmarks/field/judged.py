"""How a function is judged: what the referee says of it, as a dict that JSON can hold.

agrees      whether it is what our definition, or our page, says
computes    what it is, in the referee's words
departure   the referee's name for how it differs, or "none"
bias, cosine   of an estimator: [least, largest] over the worlds
notes       what else a reader should know; of returns, a counterexample
"""

from functools import partial

import numpy as np

from algorithms.referee import estimator, gradients, returns
from algorithms.referee.advantages import CATALOGUE
from algorithms.referee.enumerated import worlds
from algorithms.referee.guard import Asked, Unusable
from algorithms.referee.segments import drawn

FEWER = 60  # episodes of a world, where a library is slow to ask
PAIRS = 50  # episodes of a world of which all pairs are few
EXCEPTIONS = {
    "γ = 0": lambda s: s.gamma == 0.0,
    "γλ = 0": lambda s: s.gamma * s.lam == 0.0,
    "a step both terminates and truncates": lambda s: (s.terminated & s.truncated).any(),
}


class Entry:
    """One function of a library, or one published formula, and how it is judged. `remark`: what is
    to be said for it, or of it; `since`: when a departure was reported, if a report was found."""

    def __init__(self, name, judge, *given, remark="", since="", **how):
        self.name, self.remark, self.since = name, remark, since
        self.judge = partial(judge, *given, **how)


def estimated(f, gamma=None, most=np.inf) -> dict:
    """Judge an estimator of ∇J, in the five worlds, at their own γ or another."""
    verdict = estimator.judge(f, worlds(gamma, most=most))
    bias, cosine = ([row[i] for row in verdict.worlds] for i in (1, 2))
    what = verdict.exactly or f"no known estimator; nearest: {verdict.nearest}"
    expects = verdict.unbiased_for or "no known gradient"
    return dict(
        agrees=verdict.unbiased,
        computes=what,
        departure="none" if verdict.unbiased else f"biased: its expectation is {expects}",
        bias=_range(bias),
        cosine=_range(cosine),
        notes=list(verdict.notes),
    )


def _range(values):
    """Return [least, largest] of those that are numbers."""
    return [float(np.nanmin(values)), float(np.nanmax(values))]


def returned(f, what="advantages", framework=None) -> dict:
    """Judge returns or advantages, by their definition. What departs in no known way, or raises, is
    judged again without each of the EXCEPTIONS."""
    judge = lambda among=None: returns.judge(Asked(f, framework=framework), what, among=among)
    verdict = _verdict_or_error(judge)
    departure, shown, cannot = "none", "", ()
    if isinstance(verdict, Unusable) or not verdict.agrees:
        departure = _departure(judge, verdict)
    if not isinstance(verdict, Unusable):
        shown, cannot = verdict.counterexample, verdict.cannot
    by = "by" if departure == "none" or " only where " in departure else "other than by"
    return dict(
        agrees=departure == "none",
        computes=f"{what} {by} their definition",
        departure=departure,
        notes=[*cannot, *([str(shown)] if shown else [])],
    )


def _verdict_or_error(judge, *among):
    try:
        return judge(*among)
    except Unusable as error:
        return error


def _departure(judge, verdict):
    """Say how a function departs that does not agree, or raises. Raises Unusable if it does so
    everywhere."""
    if isinstance(verdict, Unusable):
        how = f"raises {str(verdict).partition(' raises ')[2]}"
    elif verdict.mistake:
        return f"{verdict.mistake}: {CATALOGUE[verdict.mistake].__doc__.splitlines()[0]}"
    else:
        how = "departs"
    for where, there in EXCEPTIONS.items():
        others = _verdict_or_error(judge, [s for s in drawn() if not there(s)])
        if not isinstance(others, Unusable) and others.agrees:
            return f"{how}, only where {where}"
    if isinstance(verdict, Unusable):
        raise verdict
    return "by no one mistake of the catalogue"


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
