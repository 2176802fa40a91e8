"""The expected updates of A3C and A2C in a table, and what staleness adds to A3C's.

A stale update was computed at a θ' that k updates of others have left behind. With sgd θ is then
θ' + η Σ of k updates, each u(θ') in the mean, u being the expected update. What the stale one lacks
of a fresh one is

    E dθ(θ') − E dθ(θ) = − η k (∂u/∂θ) u + O(η²)             at θ' or at θ: the same to that order

for the policy's parameters and those of v̂ together. This is exact where each update holds a whole
episode. Else u is the mean over the segments of an episode, during which θ is held.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from algorithms.exact import updates as exact
from algorithms.exact.laboratory import Study
from algorithms.exact.mdp import FiniteMDP, state_values
from npgrad import Array, Softmax, complex_step


class Term(NamedTuple):
    """A part of one update, by page: its norm over |∇J|; in the last rows a cosine or a slope. None
    where it is not defined."""

    term: str
    a3c: float | None
    a2c: float | None


def expected_update(
    theta: Array,
    mdp: FiniteMDP,
    n: int,
    beta: float,
    value_coef: float = 1.0,
    limit: int | None = None,
    spacing: int | None = None,
    entropy: str = "step",
) -> Array:
    """u(θ), one A3C update in the mean, in plain NumPy; θ = preferences (O, A), then v̂ (S,).

    A tabular softmax over observations, and a table of v̂ over states. spacing as in exact.visits:
    A2C's for reduction "sum".
    """
    S, A, _ = mdp.P.shape
    h, v_hat = theta[:-S].reshape(-1, A)[mdp.observation], theta[-S:]
    pi = Softmax(h).probs()
    bonus = beta * exact.entropies(mdp, pi) if entropy == "return" else 0.0
    error = v_hat - state_values(mdp, pi, bonus)
    seen = exact.visits(mdp, pi, n, limit, spacing)
    c: Any = sum(exact.parts(mdp, pi, error, beta, seen, entropy))
    d_h = np.zeros((mdp.n_observations, A), c.dtype)
    np.add.at(d_h, mdp.observation, Softmax(h).mean_gradient(c))
    d_v = value_coef * exact.value_errors(mdp, pi, error, seen)
    return np.concatenate([d_h.ravel(), d_v]) / seen.segments


def staleness(update: Callable[[Array], Array], theta: Array, eta: float, k: int) -> Array:
    """−η k (∂u/∂θ) u, the first-order bias of an update that is k updates old. update(θ) is u."""
    return -eta * k * complex_step(update, theta) @ update(theta)


def updates_table(
    mdp: FiniteMDP,
    pi: Array,
    scores: Array,
    theta: Array,
    critic: float,
    n: int,
    beta: float,
    limit: int | None = None,
) -> list[Term]:
    """The parts of one update with v̂ = critic · v, of A3C and A2C with segments of n steps.

    theta are the preferences (O A,) that pi has, scores its ∇ln π (S, A, O A).
    """
    v, columns = state_values(mdp, pi), []
    error = (critic - 1) * v
    for spacing in (n, exact.clockwork(mdp, pi, n, limit)):
        seen = exact.visits(mdp, pi, n, limit, spacing)
        found = exact.through(exact.parts(mdp, pi, error, beta, seen), pi, scores)
        soft = exact.through(exact.parts(mdp, pi, error, beta, seen, "return"), pi, scores)
        column = [_over(np.linalg.norm(part), np.linalg.norm(found.gradient)) for part in found]
        column.append(_cosine(sum(found), found.gradient))
        column.append(_cosine(found.entropy, soft.gradient - found.gradient))
        columns.append(column)
    u: Callable[[Array], Array] = lambda theta: expected_update(theta, mdp, n, beta, limit=limit)
    old, whole = np.append(theta, critic * v), len(theta)
    lost, fresh = staleness(u, old, 1.0, 1)[:whole], u(old)[:whole]
    columns[0].append(_over(np.linalg.norm(lost), np.linalg.norm(fresh)))
    columns[1].append(0.0)
    names = [*exact.Parts._fields, "cosine of their sum with ∇J"]
    names += ["cosine of entropy with ∇E Σ γ^t βH", "staleness, per η and update behind"]
    return [Term(*row) for row in zip(names, *columns)]


def updates_tables(
    study: Study,
    mdp: FiniteMDP,
    theta: Array,
    critic: float,
    n: int,
    beta: float,
    horizon: int | None = None,
) -> dict[str, list[Term]]:
    """The table of a Study; and, if a horizon ends its episodes, of mdp with a time limit in its
    place, unless mdp has no J: {"end": ..., "time limit": ...}."""
    settings = theta, critic, n, beta
    found = {"end": updates_table(study.mdp, study.pi, study.scores, *settings)}
    if horizon is not None:
        S = len(mdp.p0)
        with suppress(ValueError):
            limited = updates_table(mdp, study.pi[:S], study.scores[:S], *settings, horizon)
            found["time limit"] = limited
    return found


def _over(x: Any, scale: Any) -> float | None:
    return float(x / scale) if scale else None


def _cosine(x: Any, y: Array) -> float | None:
    return _over(x @ y, np.linalg.norm(x) * np.linalg.norm(y))
