"""Judge somebody's advantages or returns (GAE, λ-returns, n-step returns) by their definition.

    judge(f) -> Verdict(agrees, mistake, counterexample, cannot, segments)

f is recognised by the names of its parameters, and asked about all drawn segments, as far as it can
know them (algorithms.referee.segments). The definition and its mistakes are those of
algorithms.referee.advantages. A mistake is named if a variant of it gives f's answers in every
segment, and none of any other mistake does.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from algorithms.referee.advantages import CATALOGUE, KNOWN, WITHOUT_FLAGS, definition
from algorithms.referee.guard import Asked, Unusable
from algorithms.referee.segments import FLAGS, Segment, Signature, drawn, signature
from npgrad import Array

EQUAL = 1e-5
"""Errors that agree, relative to 1 + the largest number of a segment's answer: a part of what a
function does may be in single precision, also if its answer is not."""


class Verdict(NamedTuple):
    """Whether a function agrees; the mistake that explains all its answers, or None; the smallest
    segment in which it departs, or None; what it cannot know; the number of segments."""

    agrees: bool
    mistake: str | None
    counterexample: "Counterexample | None"
    cannot: tuple[str, ...]
    segments: int

    def __str__(self) -> str:
        """The verdict first, then the counterexample as a table, then what it cannot know."""
        if self.agrees:
            lines = [f"agrees with the definition on {self.segments} segments"]
        elif self.mistake:
            lines = [f"{self.mistake}: {str(CATALOGUE[self.mistake].__doc__).splitlines()[0]}"]
        else:
            lines = ["departs from the definition, by no one mistake of the catalogue"]
        table = [str(self.counterexample)] if self.counterexample else []
        return "\n".join([*lines, *table, *self.cannot])


class Counterexample(NamedTuple):
    """inputs by name; theirs and right (n, N), right is NaN in reset steps; entry [t, i], the first
    to differ; the Segment, as far as the function can know it."""

    inputs: dict[str, Any]
    theirs: Array
    right: Array
    entry: list[int]
    segment: Segment

    def __str__(self) -> str:
        s, (_, i) = self.segment, self.entry
        rows: list[tuple[str, ...]] = [("t", "r", "v", "next v", "end", "yours", "right")]
        for t in range(len(s.rewards)):
            numbers = (s.rewards[t, i], s.values[t, i], s.next_values[t, i])
            answers = (self.theirs[t, i], self.right[t, i])
            end = " ".join(k for k in ("terminated", "truncated") if getattr(s, k)[t, i])
            cells = [f"{x:g}" for x in numbers] + [end] + [f"{x:.6g}" for x in answers]
            if not s.real[t, i]:
                cells[3:] = "reset", "-", "-"
            rows.append((str(t), *cells))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths)) for row in rows]
        lines[1 + self.entry[0]] += "  <"
        N = s.rewards.shape[1]
        which = f", environment {i} of {N}" if N > 1 else ""
        if s.before[i] and {"next_done", "last_done", "episode_starts"} & set(self.inputs):
            which += ", an episode ended just before t = 0"
        return "\n".join([f"γ = {s.gamma:g}, λ = {s.lam:g}, {s.autoreset}{which}", *lines])


def judge(
    f: Callable[..., Any],
    what: str = "advantages",
    framework: str | None = None,
    among: Iterable[Segment] | None = None,
) -> Verdict:
    """Judge a function of somebody's, or an Asked one; what is "advantages" or "returns". `among`
    are the segments, by default those drawn.

    A pair (advantages, returns) is an answer too, and a list of n rows. A function that fails on
    (n, N) is asked about one environment at a time, (n,). Raises ValueError for
    parameters that are not recognised, and guard.Unusable for a function that cannot be judged.
    """
    if what not in ("advantages", "returns"):
        raise ValueError(f"what = {what!r}: must be advantages or returns")
    ask = f if isinstance(f, Asked) else Asked(f, framework=framework)
    names = signature(ask.f, what)
    ask.f = _named(ask.f, what)
    asked = [
        (s, answer - (s.values if what == "returns" else 0.0))
        for s, answer in _answers(ask, names, drawn() if among is None else among)
    ]
    departs = [(s, A) for s, A in asked if _differs(A, definition(s), s).any()]
    if not departs:
        return Verdict(True, None, None, names.cannot(), len(asked))
    found = _explanations(asked, possible(names))
    if not names.has("lam"):
        found = {"no_gamma" if name == "lambda_without_gamma" else name for name in found}
    found = found & KNOWN or found
    mistake = found.pop() if len(found) == 1 else None
    smallest = _counterexample(names, what, *departs[0])
    return Verdict(False, mistake, smallest, names.cannot(), len(asked))


def _answers(
    ask: Asked, names: Signature, segments: Iterable[Segment]
) -> list[tuple[Segment, Array]]:
    """Return [(Segment, its answer (n, N)), ...]: of all environments at once, or else of each."""
    segments = [names.known(s) for s in segments]
    try:
        return [(s, ask(*names.arguments(s).values(), shape=s.rewards.shape)) for s in segments]
    except Unusable as error:
        with contextlib.suppress(Unusable):
            return [(s, _of_each(ask, names.arguments(s).values(), s)) for s in segments]
        raise error


def _of_each(ask: Asked, arguments: Iterable[Any], s: Segment) -> Array:
    """The answer (n, N), asked for one environment after the other."""
    n, N = s.rewards.shape
    every = list(arguments)
    one = [[x[..., i] if isinstance(x, np.ndarray) else x for x in every] for i in range(N)]
    return np.stack([ask(*given, shape=(n,)) for given in one], 1)


def _counterexample(names: Signature, what: str, s: Segment, A: Array) -> Counterexample:
    right = definition(s)
    entry = np.argwhere(_differs(A, right, s))[0].tolist()
    v = s.values if what == "returns" else 0.0
    return Counterexample(names.arguments(s), A + v, np.where(s.real, right + v, np.nan), entry, s)


def possible(names: Signature) -> list[str]:
    """Return the names of the mistakes that a function of this Signature can make."""
    found = CATALOGUE if names.has(*FLAGS) else WITHOUT_FLAGS
    return [name for name in found if name != "exchanged_flags" or names.knows_truncation()]


def _explanations(asked: list[tuple[Segment, Array]], names: Iterable[str]) -> set[str]:
    """Return the names of the mistakes that have a variant that gives all answers (Segment, A)."""
    return {name for name in names if _explains(CATALOGUE[name], asked)}


def _explains(
    mistake: Callable[[Segment], Iterator[Array]], asked: list[tuple[Segment, Array]]
) -> bool:
    left = None
    for s, A in asked:
        fits = {k for k, answer in enumerate(mistake(s)) if not _differs(A, answer, s).any()}
        left = fits if left is None else left & fits
        if not left:
            return False
    return True


def _differs(A: Array, right: Array, s: Segment) -> Array:
    """Return where A (n, N) is wrong in a real step."""
    return s.real & (np.abs(A - right) > EQUAL * (1 + np.abs(right).max()))


def _named(f: Callable[..., Any], what: str) -> Callable[..., Any]:
    """f as a function of all its arguments by position, which returns one array."""
    parameters = inspect.signature(f).parameters.values()
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

    @functools.wraps(f)
    def named(*args: Any) -> Any:
        n = len(args) - len(by_name)
        y = f(*args[:n], **dict(zip(by_name, args[n:])))
        y = y[what == "returns"] if isinstance(y, tuple) and len(y) == 2 else y
        return np.array([np.asarray(row) for row in y]) if isinstance(y, list) else y

    return named
