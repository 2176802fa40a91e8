"""What somebody's estimator of ∇J computes: expectation, bias and variance, exactly, and its name.

In a world, all episodes τ of a finite MDP under a policy π are enumerated, so that an expectation
is a sum, E ĝ = Σ_τ Pr(τ) ĝ(τ). The function is one of these, recognised by its parameters:

    weights(episode) -> (T,)              ĝ = Σ_t weights_t ∇ln π(A_t|S_t)
    loss(log_probs, episode)              a number, to be DESCENDED: weights_t = −∂loss/∂log_probs_t
    estimate(episode, policy) -> (d,)     ĝ itself
    weights(episodes) -> [(T,), ...]      of a batch of episodes; ĝ is the mean over them
    weights(episode, history) -> (T,)     history: a list of earlier episodes of the same policy

An episode has S, A and R (T,), terminated (always True), gamma, and v (T,), the exact v^π(S_t). A
policy has theta (d,), probs (O, A) and scores (O, A, d) = ∇ln π(a|s), to be indexed by S and A.

Bias is |E ĝ − ∇J| / |∇J|, or where ∇J is 0, / √(E |G_0 Σ_t ∇ln π(A_t|S_t)|²); variance is the
trace of Cov ĝ; of a batch, times its size. What E ĝ is, if it is not ∇J, is sought among 0, c times
∇J, the weighting without γ^t, and ∇E ΣR, with one c for all worlds. If all steps of an episode have
the same weight f(τ), E ĝ = ∇E f(τ), whatever f is.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from algorithms.exact import laboratory as exact
from algorithms.referee.catalogue import Estimator, batch_catalogue, catalogue
from algorithms.referee.enumerated import World, worlds
from algorithms.referee.guard import Asked, Unusable
from npgrad import Array

KINDS: dict[tuple[str, ...], str] = {
    ("episode",): "weights",
    ("log_probs", "episode"): "loss",
    ("episode", "policy"): "estimate",
    ("episodes",): "batch",
    ("episode", "history"): "history",
}
EQUAL = 1e-5  # relative; what differs less is the same, so that single precision is
FLAT = 1e-12  # of a World's size; a smaller |∇J| is 0, but for rounding
LIKELY = 4  # standard errors that chance may leave of a bias that was sampled
MOST_TUPLES, SAMPLED = 2500, 1000  # batches of episodes that are enumerated; else so many are drawn
FEW = 20  # episodes on which a name is sought; then it is tried on all


class Answers(NamedTuple):
    """Hold what a function answered in a world, to tuples of episodes of probabilities p (m,):
    weights [(T,), ...], or None; ĝ (m, d). drawn: how many tuples were sampled, or 0."""

    world: World
    chosen: list[tuple[int, ...]]
    p: Array
    drawn: int
    weights: list[Array] | None
    g: Array


class Found(NamedTuple):
    """Hold what was found in a world. A mean of ĝ over `episodes` has the accuracy asked for.
    error: the standard error of a bias that was sampled."""

    world: str
    bias: float
    cosine: float
    variance: float
    episodes: float
    error: float = 0.0


class Verdict(NamedTuple):
    """exactly: the name of the estimator; nearest: that of the one with the least mean squared
    distance, relative to the mean square; unbiased_for: what E ĝ is in all worlds, if known."""

    unbiased: bool
    unbiased_for: str | None
    exactly: str | None
    nearest: str | None
    distance: float
    worlds: tuple[Found, ...]
    notes: tuple[str, ...] = ()


def kind_of(f: Callable[..., Any]) -> str:
    """Return what a function is by its parameters that have no default. Raises Unusable."""
    parameters = inspect.signature(f).parameters.values()
    names = tuple(p.name for p in parameters if p.default is p.empty)
    if names in KINDS or len(names) == 1:
        return KINDS.get(names, "weights")
    allowed = " or ".join(f"({', '.join(names)})" for names in KINDS)
    name = getattr(f, "__name__", "f")
    raise Unusable(f"{name}({', '.join(names)}): must have parameters {allowed}")


@np.errstate(invalid="ignore", over="ignore")  # of what is not finite, a note says more
def judge(
    f: Callable[..., Any],
    among: list[World] | None = None,
    batch: int = 2,
    accuracy: float = 0.1,
    framework: str | None = None,
    name: str | None = None,
) -> Verdict:
    """Judge a function in worlds, by default the five. batch is the number of episodes of a batch,
    or of a history and its episode; accuracy is the standard error of a mean of ĝ over |E ĝ|.

    Raises Unusable for a function that cannot be judged.
    """
    ask = f if isinstance(f, Asked) else Asked(f, name, framework)
    kind = kind_of(ask.f)
    k = batch if kind in ("batch", "history") else 1
    among = worlds(most=MOST_TUPLES ** (1 / k)) if among is None else among
    answers = [answered(ask, kind, each, k) for each in among]
    notes = [note for each in answers for note in _notes(each)]
    if len(notes) == len(answers) and all(" returns " in note for note in notes):
        raise Unusable(f"{ask.name}: {notes[0]}")
    found = [_found(each, k if kind == "batch" else 1, accuracy) for each in answers]
    unbiased = all(x.bias <= max(EQUAL, LIKELY * x.error) for x in found)  # nan is not
    what = "∇J" if unbiased else _target(answers, found)
    return Verdict(unbiased, what, *_name(answers, kind), tuple(found), tuple(notes))


def answered(ask: Asked, kind: str, each: World, k: int) -> Answers:
    """Ask for all tuples of k episodes of a world, or for as many as can be asked."""
    p = np.array([tau.probability for tau in each.study.episodes])
    chosen, drawn = list(product(range(len(p)), repeat=k)) if _few(p, k) else None, 0
    if chosen is None:
        rng, drawn = np.random.default_rng(0), SAMPLED
        chosen = list(map(tuple, rng.choice(len(p), (drawn, k), p=p / p.sum()).tolist()))
    p = np.full(drawn, 1 / drawn) if drawn else np.prod(p[np.array(chosen)], axis=1)
    scores = [each.study.scores[tau.states[:-1], tau.actions] for tau in each.study.episodes]
    W, g = [], np.empty((len(chosen), len(each.gradient)))
    for m, numbers in enumerate(chosen):
        *history, episode = [each.episodes[i] for i in numbers]
        if kind == "estimate":
            g[m] = ask(episode, each.policy, shape=g[m].shape, finite=False)
            continue
        W.append(_weights(ask, kind, each, numbers[-1], history, episode))
        if kind == "batch":
            g[m] = W[m] @ np.concatenate([scores[i] for i in numbers]) / k
        else:
            g[m] = W[m] @ scores[numbers[-1]]
    return Answers(each, chosen, p, drawn, W or None, g)


def _few(p: Array, k: int) -> bool:
    return k == 1 or len(p) ** k <= MOST_TUPLES


def _weights(
    ask: Asked,
    kind: str,
    each: World,
    number: int,
    history: list[SimpleNamespace],
    episode: SimpleNamespace,
) -> Array:
    """The weights (T,) of the last episode; of a batch, those of all of them in a row."""
    if kind == "batch":
        T = sum(len(x.R) for x in (*history, episode))
        return ask([*history, episode], shape=(T,), finite=False)
    if kind == "loss":
        tau = each.study.episodes[number]
        log_probs = np.log(each.study.pi[tau.states[:-1], tau.actions])
        return -ask.gradient(log_probs, episode, finite=False)
    given = (episode, history) if kind == "history" else (episode,)
    return ask(*given, shape=episode.R.shape, finite=False)


def _notes(answers: Answers) -> Iterator[str]:
    """Yield what a reader should know of the answers in a world."""
    name, wrong = answers.world.name, ~np.isfinite(answers.g).all(1)
    if wrong.any():
        m = int(np.argmax(wrong))
        T, x = len(answers.world.episodes[answers.chosen[m][-1]].R), answers.g[m]
        yield f"{name}: it returns {x[~np.isfinite(x)][0]} for an episode of {T} step(s)"
    elif answers.drawn:
        yield f"{name}: {answers.drawn} batches were drawn, since there are too many"
    if _flat(answers.world):
        yield f"{name}: ∇J is 0 here; the bias is relative to the size of REINFORCE's estimates"


def _found(answers: Answers, k: int, accuracy: float) -> Found:
    """The row of a world, if ĝ costs k episodes."""
    world, _, p, drawn, _, g = answers
    m, norm = exact.weighted(p, g, world.gradient), float(np.linalg.norm(world.gradient))
    bias, variance, flat = float(np.linalg.norm(m.bias)), k * m.total_variance, _flat(world)
    unit = (world.size or 1.0) if flat else norm
    error = float(np.sqrt(m.total_variance / drawn) / unit) if drawn else 0.0
    own = float(np.linalg.norm(m.mean))
    cosine = np.nan if flat else m.cosine
    needed = variance / (accuracy * own) ** 2 if own > EQUAL * unit else np.nan
    return Found(world.name, bias / unit, cosine, variance, needed, error)


def _flat(world: World) -> bool:
    """Whether ∇J is 0 in a world."""
    return bool(np.linalg.norm(world.gradient) <= FLAT * world.size)


def _name(answers: list[Answers], kind: str) -> tuple[str | None, str | None, float]:
    """Return (name or None, nearest name or None, its distance) among the known estimators. Of
    several that are the same here, the first one is named that needs no factor."""
    known = batch_catalogue() if kind in ("batch", "history") else catalogue()
    rng = np.random.default_rng(0)
    few = [(each, rng.permutation(len(each.chosen))[:FEW].tolist()) for each in answers]
    every = [(each, range(len(each.chosen))) for each in answers]
    nearest: tuple[float, str | None] = np.inf, None
    same: list[tuple[bool, int, str, float]] = []
    for estimator in known:
        distance, c = _distance(estimator, few, kind)
        if distance < EQUAL:
            distance, c = _distance(estimator, every, kind)
        if distance < EQUAL:
            same.append((abs(c[0] - 1) >= EQUAL, len(same), estimator.named(c), distance))
        elif distance < nearest[0]:
            nearest = distance, estimator.named(c)
    if same:
        *_, name, distance = min(same)
        return name, name, distance
    return None, *nearest[::-1]


def _distance(
    estimator: Estimator, answers: Sequence[tuple[Answers, Iterable[int]]], kind: str
) -> tuple[float, Array]:
    """Return (|theirs − Σ_j c_j column_j| / |theirs|, the best c), over these numbers of tuples of
    episodes. It is inf where only one of the two is finite."""
    theirs: Any = []
    columns: Any = []
    for each, picked in answers:
        world, chosen, _, _, W, g = each
        for m in picked:
            theirs.append(g[m] if W is None else W[m])
            w = estimator([world.episodes[i] for i in chosen[m]])
            if kind == "estimate":
                tau = world.study.episodes[chosen[m][0]]
                w = [w[0] @ world.study.scores[tau.states[:-1], tau.actions]]
            columns.append(np.concatenate(w, axis=1) if kind == "batch" else w[-1])
    columns, theirs = np.concatenate(columns, axis=1), np.concatenate(theirs)
    finite = np.isfinite(theirs)
    if not np.array_equal(np.isfinite(columns).all(0), finite):
        return np.inf, np.ones(1)
    columns, theirs = columns[:, finite], theirs[finite]
    if not (columns.any() and theirs.any()):
        return np.inf, np.ones(1)
    c = np.linalg.lstsq(columns.T, theirs, rcond=None)[0]
    if np.linalg.norm(c[0] * columns[0]) <= EQUAL * np.linalg.norm(theirs):
        return np.inf, c  # nothing but the baseline
    return float(np.linalg.norm(theirs - c @ columns) / np.linalg.norm(theirs)), c


def _target(answers: list[Answers], found: list[Found]) -> str | None:
    """Return what E ĝ is in all worlds; None if it is not known."""
    pairs = [(a, x) for a, x in zip(answers, found) if np.isfinite(x.bias)]
    studies = [a.world.study for a, _ in pairs]
    mean = np.concatenate([a.p @ a.g for a, _ in pairs])
    error = max(EQUAL, *(LIKELY * x.error for _, x in pairs))
    if np.linalg.norm(mean) <= EQUAL * np.sqrt(sum(a.p @ (a.g**2).sum(1) for a, _ in pairs)):
        return "0"
    for name, of in TARGETS.items():
        x = np.concatenate([of(study) for study in studies])
        c = float(x @ mean / (x @ x))
        if c and np.linalg.norm(mean - c * x) <= error * np.linalg.norm(mean):
            about = f"{c:.6g}" if error == EQUAL else f"about {c:.2g}"
            return name if abs(c - 1) < EQUAL else f"{about} times {name}"
    if all(len(a.chosen[0]) == 1 and a.weights and _constant(a.weights) for a, _ in pairs):
        return "∇E f(τ), f being the weight that all steps of an episode have"
    return None


def _constant(weights: list[Array]) -> bool:
    return all(np.ptp(w) <= EQUAL * np.abs(w).max() for w in weights)


TARGETS: dict[str, Callable[[exact.Study], Array]] = {
    "∇J": exact.expectation,
    "Σ_s Σ_t Pr(S_t = s) Σ_a ∇π(a|s) q(s, a), where a visit counts 1 instead of γ^t": (
        lambda study: exact.expectation(study, discounted=False)
    ),
    "∇E ΣR, the gradient of the return without discount": (
        lambda study: exact.expectation(study._replace(mdp=replace(study.mdp, gamma=1.0)))
    ),
}
