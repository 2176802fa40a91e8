"""Judge somebody's advantages or returns (GAE, λ-returns, n-step returns) by their definition.

    δ_t = r_t + γ v(s'_t) − v(s_t)                     v(s'_t) = 0 if the episode terminated in step t
    A_t = δ_t + γλ A_{t+1}                             A_t = δ_t where the data stop in step t
    G_t = A_t + v(s_t)

The data stop where an episode terminated or was truncated, and in the last step; s'_t is the state
that step t led to, of a truncated episode its final observation. With λ = 1, G_t is a2c.returns.

    judge(f) -> Verdict(agrees, mistake, counterexample, cannot, segments)

f is recognised by the names of its parameters (algorithms.referee.segments), and asked about all
drawn segments. A mistake of the CATALOGUE is the definition with that one mistake. It is named if
it gives f's answers in all segments and no other mistake does. Each yields its variants: the places
in which it can be made, and for those that bear on G_t = r_t + γ ((1−λ) v(s'_t) + λ G_{t+1}), the
definition as it is written for returns, also those of that form.
"""

import functools
import inspect
from typing import NamedTuple

import numpy as np

from algorithms import a2c
from algorithms.referee.guard import Asked
from algorithms.referee.segments import Segment, drawn, signature

DOUBLE, SINGLE = 1e-9, 1e-5
"""Errors that agree, relative to the largest number of a segment's answer."""


def definition(s, bootstrap=None, carry=None, stops=None):
    """A (n, N) of a Segment. Instead of γ, γλ and s.ends: the factors of v(s'_t) and of A_{t+1},
    and where A_{t+1} is left out."""
    bootstrap = s.gamma if bootstrap is None else bootstrap
    carry = s.gamma * s.lam if carry is None else carry
    delta = s.rewards + bootstrap * np.where(s.terminated, 0.0, s.next_values) - s.values
    return a2c.returns(delta, carry, s.ends if stops is None else stops, 0.0)


def definition_by_returns(s, between=None, at_stop=None, carry=None):
    """The same by G_t = r_t + γ(1−λ) v(s'_t) + γλ G_{t+1}, or r_t + γ v(s'_t) where the data stop.
    Instead of γ(1−λ), γ and γλ: between, at_stop and carry."""
    between = s.gamma * (1 - s.lam) if between is None else between
    at_stop = s.gamma if at_stop is None else at_stop
    carry = s.gamma * s.lam if carry is None else carry
    stops = s.ends
    stops[-1] = True
    v = np.where(s.terminated, 0.0, s.next_values)
    return (
        a2c.returns(s.rewards + np.where(stops, at_stop, between) * v, carry, stops, 0.0) - s.values
    )


# the catalogue


def truncation_as_termination(s):
    """at a truncation it takes 0 in place of v of the final observation"""
    yield definition(s._replace(terminated=s.ends))


def bootstraps_next_episode(s):
    """at a truncation it takes v of the next episode's first observation, in place of the final one

    values[t+1] for next_values[t]; in the last step last_value, or else the right one.
    """
    for observed in _observed(s):
        yield definition(s._replace(next_values=np.where(s.truncated, observed, s.next_values)))


def through_reset(s):
    """the return runs through the end of an episode into the next one, or its reset step

    Nothing stops at an end, or only at terminations; s'_t is the state that step t led to, or the
    one in the next row. (At terminations, δ does not stop either. If it does: not_reset.)
    """
    nowhere = np.zeros_like(s.ends)
    for next_values in (s.next_values, *_observed(s)):
        for terminated in (nowhere, s.terminated):
            yield definition(
                s._replace(next_values=next_values, terminated=terminated, truncated=nowhere)
            )


def drops_last_step(s):
    """the last step of the segment is left out

    Its bootstrap is missing; or its answer is A = 0 or G = 0, and the steps before it run on from
    its G, from v of its state (A = 0), from G = 0, or from v after it.
    """
    yield definition(s._replace(next_values=_but_last(s.next_values, 0.0)))
    after = s.next_values[-1]
    for G in (None, s.values[-1], 0.0, after, np.where(s.terminated[-1], 0.0, after)):
        A = definition(s if G is None else s._replace(
            rewards=_but_last(s.rewards, G), terminated=_but_last(s.terminated, True)))  # fmt: skip
        for answer in (0.0, -s.values[-1]):
            yield _but_last(A, answer)


def shifted_done(s):
    """the done flag of step t+1 or t−1 is used in place of that of step t

    In δ, in the recursion or in both; where no step t+1 or t−1 is in the segment, the flag is 0,
    that of step t, or that of the other end; for t−1 also the one before the segment.
    """
    for terminated, ends in zip(_shifts(s.terminated, s.before), _shifts(s.ends, s.before)):
        yield definition(s._replace(terminated=terminated), stops=ends)
        yield definition(s, stops=ends)
        yield definition(s._replace(terminated=terminated), stops=s.ends)


def gamma_twice(s):
    """γ² is used in place of γ

    Everywhere, in δ or in the recursion; or in the recursion of returns, at v(s'_t), at v(s'_t)
    where the data stop, where they go on, or at G_{t+1}.
    """
    yield from _with_gamma(s, s.gamma**2)
    yield from _recursion_with(s, s.gamma**2)


def no_gamma(s):
    """γ is missing

    Everywhere or in δ; or in returns, at v(s'_t), all or only where the data stop, or go on. Where
    there is no λ, also in the recursion, which is otherwise lambda_without_gamma.
    """
    yield from _with_gamma(s, 1.0)


def lambda_without_gamma(s):
    """the recursion has λ in place of γλ

    That of A or that of G.
    """
    yield from _recursion_with(s, 1.0)


def not_reset(s):
    """the sum is not reset at an episode's end, although δ is right

    At no end, or not at terminations. (Not at truncations: through_reset.)
    """
    yield definition(s, stops=np.zeros_like(s.ends))
    yield definition(s, stops=s.truncated)


CATALOGUE = {
    mistake.__name__: mistake
    for mistake in (truncation_as_termination, bootstraps_next_episode, through_reset,
                    drops_last_step, shifted_done, gamma_twice, no_gamma, lambda_without_gamma,
                    not_reset)
}  # fmt: skip


def _observed(s):
    """v in the next row; in the last one, last_value or what is right."""
    return s.observed, _but_last(s.observed, s.next_values[-1])


def _but_last(x, last):
    """x with another last row."""
    x = x.copy()
    x[-1] = last
    return x


def _shifts(flag, before):
    no = np.zeros_like(flag[:1])
    for last in (no, flag[-1:], flag[:1]):
        yield np.append(flag[1:], last, axis=0)
    for first in (no, before[None], flag[:1], flag[-1:]):
        earlier = np.append(first, flag[:-1], axis=0)
        yield earlier
        yield _but_last(earlier, flag[-1])


def _with_gamma(s, g):
    """With g for γ everywhere, in δ, and in returns at v(s'_t): all, where the data stop, go on."""
    between = g * (1 - s.lam)
    yield definition(s._replace(gamma=g))
    yield definition(s, bootstrap=g)
    yield definition_by_returns(s, between=between, at_stop=g)
    yield definition_by_returns(s, at_stop=g)
    yield definition_by_returns(s, between=between)


def _recursion_with(s, g):
    """With g for γ at A_{t+1}, and at G_{t+1}."""
    yield definition(s, carry=g * s.lam)
    yield definition_by_returns(s, carry=g * s.lam)


# the verdict


class Verdict(NamedTuple):
    """Whether a function agrees; the mistake that explains all its answers, or None; the smallest
    segment in which it departs, or None; what it cannot know; the number of segments."""

    agrees: bool
    mistake: str | None
    counterexample: "Counterexample | None"
    cannot: tuple[str, ...]
    segments: int

    def __str__(self):
        """The verdict first, then the counterexample as a table, then what it cannot know."""
        if self.agrees:
            lines = [f"agrees with the definition on {self.segments} segments"]
        elif self.mistake:
            lines = [f"{self.mistake}: {CATALOGUE[self.mistake].__doc__.splitlines()[0]}"]
        else:
            lines = ["departs from the definition, by no one mistake of the catalogue"]
        table = [str(self.counterexample)] if self.counterexample else []
        return "\n".join([*lines, *table, *self.cannot])


class Counterexample(NamedTuple):
    """inputs by name; theirs and right (n, N), right is NaN in reset steps; entry [t, i], the first
    to differ; the Segment, as far as the function can know it."""

    inputs: dict
    theirs: np.ndarray
    right: np.ndarray
    entry: list[int]
    segment: Segment

    def __str__(self):
        s, (_, i) = self.segment, self.entry
        rows = [("t", "r", "v", "next v", "end", "yours", "right")]
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
        lam = f", λ = {s.lam:g}" if "lam" in self.inputs or s.lam != 1 else ""
        N = s.rewards.shape[1]
        which = f", environment {i} of {N}" if N > 1 else ""
        return "\n".join([f"γ = {s.gamma:g}{lam}, {s.autoreset}{which}", *lines])


def judge(f, what="advantages", framework=None) -> Verdict:
    """Judge a function of somebody's, or an Asked one; what is "advantages" or "returns".

    A pair that it returns is taken for (advantages, returns). Raises ValueError for parameters that
    are not recognised, and guard.Unusable for a function that cannot be judged.
    """
    if what not in ("advantages", "returns"):
        raise ValueError(f"what = {what!r}: must be advantages or returns")
    ask = f if isinstance(f, Asked) else Asked(f, framework=framework)
    names = signature(ask.f, what)
    ask.f = _named(ask.f, what)
    asked = []
    for s in map(names.known, drawn()):
        answer = ask(*names.arguments(s).values(), shape=s.rewards.shape)
        asked.append((s, answer - (s.values if what == "returns" else 0.0)))
    tolerance = SINGLE if ask.single else DOUBLE
    wrong = next(((s, A) for s, A in asked if _differs(A, definition(s), s, tolerance).any()), None)
    if wrong is None:
        return Verdict(True, None, None, names.cannot(), len(asked))
    found = _explanations(asked, tolerance)
    if not names.has("lam"):
        found = {"no_gamma" if name == "lambda_without_gamma" else name for name in found}
    mistake = found.pop() if len(found) == 1 else None
    s, A = wrong
    base = s.values if what == "returns" else 0.0
    right = definition(s)
    entry = np.argwhere(_differs(A, right, s, tolerance))[0].tolist()
    right = np.where(s.real, base + right, np.nan)
    smallest = Counterexample(names.arguments(s), base + A, right, entry, s)
    return Verdict(False, mistake, smallest, names.cannot(), len(asked))


def _explanations(asked, tolerance):
    """Names of the mistakes of which a variant gives all answers A (Segment, A)."""
    return {name for name, mistake in CATALOGUE.items() if _explains(mistake, asked, tolerance)}


def _explains(mistake, asked, tolerance):
    left = None
    for s, A in asked:
        fits = {k for k, answer in enumerate(mistake(s))
                if not _differs(A, answer, s, tolerance).any()}  # fmt: skip
        left = fits if left is None else left & fits
        if not left:
            return False
    return True


def _differs(A, right, s, tolerance):
    """Where A (n, N) is not what is right, of the steps that are real."""
    return s.real & (np.abs(A - right) > tolerance * (1 + np.abs(right).max()))


def _named(f, what):
    """f as a function of all its arguments by position, which returns one array."""
    parameters = inspect.signature(f).parameters.values()
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

    @functools.wraps(f)
    def named(*args):
        n = len(args) - len(by_name)
        y = f(*args[:n], **dict(zip(by_name, args[n:])))
        return y[what == "returns"] if isinstance(y, tuple) and len(y) == 2 else y

    return named
