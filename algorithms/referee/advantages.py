"""Advantages of a Segment by their definition, and by the definition with one mistake.

    δ_t = r_t + γ v(s'_t) − v(s_t)         v(s'_t) = 0 if the episode terminated in step t
    A_t = δ_t + γλ A_{t+1}                 A_t = δ_t where the data stop in step t
    G_t = A_t + v(s_t)

The data stop where an episode terminated or was truncated, and in the last step; s'_t is the state
that step t led to, of a truncated episode its final observation. In terms of the returns G,

    G_t = r_t + γ v(s'_t)                          where the data stop in step t
    G_t = r_t + γ ((1−λ) v(s'_t) + λ G_{t+1})      elsewhere.

Both recursions are run by a2c.returns. Each function of the CATALOGUE is a mistake. It yields its
variants: the places in which it can be made, in either form. The first line of its docstring says
what the code that makes it does.
"""

from collections.abc import Iterator

import numpy as np

from algorithms import a2c
from algorithms.referee.segments import Segment
from npgrad import Array

NONE = np.zeros(())  # for v(s'): the recursion alone


def definition(
    s: Segment,
    bootstrap: float | None = None,
    carry: float | None = None,
    stops: Array | None = None,
) -> Array:
    """A (n, N) of a Segment. Instead of γ, γλ and s.ends: the factors of v(s'_t) and of A_{t+1},
    and where A_{t+1} is left out."""
    bootstrap = s.gamma if bootstrap is None else bootstrap
    carry = s.gamma * s.lam if carry is None else carry
    delta = s.rewards + bootstrap * np.where(s.terminated, 0.0, s.next_values) - s.values
    return a2c.returns(delta, carry, s.ends if stops is None else stops, NONE)


def definition_by_returns(
    s: Segment,
    between: float | None = None,
    at_stop: float | None = None,
    carry: float | None = None,
    stops: Array | None = None,
) -> Array:
    """The same by G_t = r_t + γ(1−λ) v(s'_t) + γλ G_{t+1}, or r_t + γ v(s'_t) where the data stop.
    Instead of γ(1−λ), γ, γλ and s.ends: between, at_stop, carry and stops."""
    between = s.gamma * (1 - s.lam) if between is None else between
    at_stop = s.gamma if at_stop is None else at_stop
    carry = s.gamma * s.lam if carry is None else carry
    stops = _but_last(s.ends if stops is None else stops, True)
    v = np.where(s.terminated, 0.0, s.next_values)
    r = s.rewards + np.where(stops, at_stop, between) * v
    return a2c.returns(r, carry, stops, NONE) - s.values


# the catalogue


def truncation_as_termination(s: Segment) -> Iterator[Array]:
    """at a truncation it takes 0 in place of v of the final observation"""
    yield definition(s._replace(terminated=s.ends))


def bootstraps_at_termination(s: Segment) -> Iterator[Array]:
    """where an episode terminated it takes v of the next state in place of 0

    That of the state that step t led to, or that in the next row; or only in the last step.
    """
    nowhere = np.zeros_like(s.ends)
    for shown in (s.next_values, *_observed(s)):
        v = np.where(s.terminated, shown, s.next_values)
        yield definition(s._replace(next_values=v, terminated=nowhere), stops=s.ends)
    last = _but_last(s.terminated, False)
    yield definition(s._replace(terminated=last), stops=s.ends)


def exchanged_flags(s: Segment) -> Iterator[Array]:
    """it takes terminated for truncated, and truncated for terminated"""
    yield definition(s._replace(terminated=s.truncated, truncated=s.terminated))


def bootstraps_next_episode(s: Segment) -> Iterator[Array]:
    """at a truncation it takes v of the next episode's first observation, in place of the final one

    values[t+1] for next_values[t]; in the last step last_value, or else the right one, that of
    the first or the last row of values, or 0.
    """
    others = (_but_last(s.observed, last) for last in (s.values[0], s.values[-1], 0.0))
    for observed in (*_observed(s), *others):
        yield definition(s._replace(next_values=np.where(s.truncated, observed, s.next_values)))


def through_reset(s: Segment) -> Iterator[Array]:
    """the return runs through the end of an episode into the next one, or its reset step

    Nothing stops at an end, or only at terminations; s'_t is the state that step t led to, or the
    one in the next row. (At terminations, δ does not stop either. If it does: not_reset.) Or all
    that stops is the end of the segment.
    """
    nowhere = np.zeros_like(s.ends)
    for next_values in (s.next_values, *_observed(s)):
        for terminated in (nowhere, s.terminated):
            yield from _either(
                s._replace(next_values=next_values, terminated=terminated, truncated=nowhere)
            )
        last = _but_last(nowhere, s.terminated[-1])
        yield definition_by_returns(
            s._replace(next_values=next_values, terminated=last, truncated=nowhere)
        )


def drops_last_step(s: Segment) -> Iterator[Array]:
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


def shifted_done(s: Segment) -> Iterator[Array]:
    """the done flag of step t+1 or t−1 is used in place of that of step t

    In δ, in the recursion or in both; where no step t+1 or t−1 is in the segment, the flag is 0,
    that of step t, or that of the other end; for t−1 also the one before the segment.
    """
    for terminated, ends in zip(_shifts(s.terminated, s.before), _shifts(s.ends, s.before)):
        yield from _either(s._replace(terminated=terminated), ends)
        yield from _either(s, ends)
        yield from _either(s._replace(terminated=terminated), s.ends)


def gamma_twice(s: Segment) -> Iterator[Array]:
    """γ² is used in place of γ

    Everywhere, in δ or in the recursion; or in the recursion of returns, at v(s'_t), at v(s'_t)
    where the data stop, where they go on, or at G_{t+1}.
    """
    yield from _with_gamma(s, s.gamma**2)
    yield from _recursion_with(s, s.gamma**2)


def no_gamma(s: Segment) -> Iterator[Array]:
    """γ is missing

    Everywhere or in δ; or in returns, at v(s'_t), all or only where the data stop, or go on. Where
    there is no λ, also in the recursion, which is otherwise lambda_without_gamma.
    """
    yield from _with_gamma(s, 1.0)


def lambda_without_gamma(s: Segment) -> Iterator[Array]:
    """the recursion has λ in place of γλ

    That of A or that of G.
    """
    yield from _recursion_with(s, 1.0)


def no_lambda(s: Segment) -> Iterator[Array]:
    """λ is missing: the recursion has γ in place of γλ"""
    yield definition(s, carry=s.gamma)


def no_recursion(s: Segment) -> Iterator[Array]:
    """it is δ_t alone, without γλ A_{t+1}: right only for λ = 0"""
    yield definition(s, carry=0.0)


def returns_or_advantages(s: Segment) -> Iterator[Array]:
    """it gives returns where advantages are asked for, or the reverse (--what)"""
    yield definition(s) + s.values
    yield definition(s) - s.values


def wrong_sign(s: Segment) -> Iterator[Array]:
    """it gives the negative, of advantages or of returns"""
    yield -definition(s)
    yield -definition(s) - 2.0 * s.values


def not_reset(s: Segment) -> Iterator[Array]:
    """the sum is not reset at an episode's end, although δ is right

    At no end, or not at terminations. (Not at truncations: through_reset.)
    """
    yield definition(s, stops=np.zeros_like(s.ends))
    yield definition(s, stops=s.truncated)


WELL_KNOWN = (truncation_as_termination, bootstraps_next_episode, through_reset, drops_last_step,
              shifted_done, gamma_twice, no_gamma, lambda_without_gamma, not_reset)  # fmt: skip
OTHERS = (bootstraps_at_termination, exchanged_flags, no_lambda, no_recursion,
          returns_or_advantages, wrong_sign)  # fmt: skip
CATALOGUE = {mistake.__name__: mistake for mistake in WELL_KNOWN + OTHERS}
KNOWN = {mistake.__name__ for mistake in WELL_KNOWN}
"""The names that are preferred, and the `mistake` of the command's JSON; another is its `other`."""
WITHOUT_FLAGS = ("drops_last_step", "gamma_twice", "no_gamma", "lambda_without_gamma", "no_lambda",
                 "no_recursion", "returns_or_advantages", "wrong_sign")  # fmt: skip
"""The mistakes that a function can make that is not told where an episode ends."""


def _observed(s: Segment) -> tuple[Array, Array]:
    """v in the next row; in the last one, last_value or what is right."""
    return s.observed, _but_last(s.observed, s.next_values[-1])


def _but_last(x: Array, last: Array | float) -> Array:
    """x with another last row."""
    x = x.copy()
    x[-1] = last
    return x


def _shifts(flag: Array, before: Array) -> Iterator[Array]:
    no = np.zeros_like(flag[:1])
    for last in (no, flag[-1:], flag[:1]):
        yield np.append(flag[1:], last, axis=0)
    for first in (no, before[None], flag[:1], flag[-1:]):
        earlier = np.append(first, flag[:-1], axis=0)
        yield earlier
        yield _but_last(earlier, flag[-1])


def _either(s: Segment, stops: Array | None = None) -> Iterator[Array]:
    """The definition in either form."""
    yield definition(s, stops=stops)
    yield definition_by_returns(s, stops=stops)


def _with_gamma(s: Segment, g: float) -> Iterator[Array]:
    """With g for γ everywhere, in δ, and in returns at v(s'_t): all, where the data stop, go on."""
    between = g * (1 - s.lam)
    yield definition(s._replace(gamma=g))
    yield definition(s, bootstrap=g)
    yield definition_by_returns(s, between=between, at_stop=g)
    yield definition_by_returns(s, at_stop=g)
    yield definition_by_returns(s, between=between)


def _recursion_with(s: Segment, g: float) -> Iterator[Array]:
    """With g for γ at A_{t+1}, and at G_{t+1}."""
    yield definition(s, carry=g * s.lam)
    yield definition_by_returns(s, carry=g * s.lam)
