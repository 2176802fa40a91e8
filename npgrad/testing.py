"""Property-based tests of gradients, and Hypothesis strategies for reinforcement learning.

    import numpy as np
    from npgrad.testing import Float, Int, gradient_of

    def log_prob(h, a):
        return h[np.arange(len(a)), a] - np.log(np.sum(np.exp(h), 1))

    @gradient_of(log_prob)
    def score(h: Float["N A"], a: Int["N < A"]):
        return np.eye(h.shape[1])[a] - np.exp(h) / np.sum(np.exp(h), 1, keepdims=True)

`score` stays the function that it is. pytest collects it as a test, and `score.check()` runs the
test anywhere: inputs are drawn from the signature, each is judged by `npgrad.check.compare`, and a
failing one is shrunk to the smallest. A parameter is drawn by the first of these that there is:

    a strategy or a value given by name     gradient_of(f, h=strategy)
    the same in the module                  inputs = {"h": strategy}, or a function that returns it
    its annotation                          float, int, bool, np.ndarray, NDArray[np.float64],
                                            Float["N A"], Int["T+1"], Bool[""],
                                            Annotated[type, strategy], jaxtyping's annotations
    its default                             which is then kept

A name in Float["N A"] is one size, 1 to 4, in all of an input; `...` and `*batch` are up to two
axes. Integers Int["N < A"] are below A; of Int["N"] below a size of another argument, or 4. Inputs
at which f raises are discarded. Type checkers accept Annotated[np.ndarray, Float["N A"]]; ruff
takes "N A" for a type: ignore F722 and F821 there.
"""

# Hypothesis's strategies are drawn inside functions that need no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, allow-incomplete-defs
# mypy: disable-error-code="no-any-return,arg-type,attr-defined,assignment,index,var-annotated"

import contextlib
import functools
import inspect
import itertools
import operator
import re
import typing
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from npgrad import autodiff
from npgrad.check import CannotTell, Verdict, compare
from npgrad.parameters import Layout
from npgrad.types import Array

try:
    from hypothesis import HealthCheck, Phase, given, reject, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
    from hypothesis.errors import Flaky, Unsatisfiable
    from hypothesis.extra.numpy import arrays
except ModuleNotFoundError as error:
    what = f"{error.name} is not installed: pip install 'npgrad[testing]'"
    raise ModuleNotFoundError(what, name=error.name) from None

F = TypeVar("F", bound=Callable[..., Any])

# Numbers


SIZES = st.integers(1, 4)
UNIT = st.sampled_from((0.0, 0.5, 0.9, 1.0)) | st.floats(0, 1)
SIMPLE = st.sampled_from((0.0, 1.0, -1.0, 0.5, 2.0))
MODERATE = SIMPLE | st.floats(-3, 3).map(lambda x: round(x, 6))
EXTREME = MODERATE | st.floats(-1e3, 1e3).map(lambda x: round(x, 6)) | st.sampled_from((1e3, -1e3))
MOST_SHRINKS = 500
WEIGHTS = st.sampled_from((0.0, 1e-9, 1e-3, 1.0)) | st.floats(0, 1)


def reals(shape: Any) -> st.SearchStrategy[Array]:
    """Draw an array of floats, many of them equal: within ±3, or some up to ±1e3."""
    kinds = MODERATE, MODERATE, EXTREME
    return st.one_of(*[arrays(float, shape, elements=kind) for kind in kinds])


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Draw a Layout of one to three arrays of at most two axes."""
    shapes = draw(st.lists(st.lists(SIZES, max_size=2).map(tuple), min_size=1, max_size=3))
    return Layout(**{f"{'bvW'[len(shape)]}{k}": shape for k, shape in enumerate(shapes, 1)})


def thetas(model: Any) -> st.SearchStrategy[Array]:
    """Draw parameters θ (size,) of a Layout, or of a model that has one."""
    return reals(getattr(model, "layout", model).size)


@st.composite
def batches(draw: st.DrawFn, shape: int | tuple[int, ...], rows: int = 5) -> Array:
    """Draw N inputs of a shape, (N, *shape), N from 1 to `rows`; some are equal, zero or large."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    some = draw(st.lists(st.just(np.zeros(shape)) | reals(shape), min_size=1, max_size=3))
    which = draw(st.lists(st.integers(0, len(some) - 1), min_size=1, max_size=rows))
    return np.stack([some[i] for i in which])


@st.composite
def preferences(draw: st.DrawFn, shape: Any, absent: bool = False) -> Array:
    """Draw preferences (..., A): moderate, up to ±1e3, or tied.

    absent   some are −inf, for actions that do not exist; every row keeps one action
    """
    tied = st.sampled_from((0.0, 1.0, -1e3))
    h = draw(reals(shape) | arrays(float, shape, elements=tied))
    if absent:
        lacking = draw(arrays(bool, shape))
        kept = draw(arrays(int, h.shape[:-1], elements=st.integers(0, h.shape[-1] - 1)))
        np.put_along_axis(lacking, np.expand_dims(kept, -1), False, axis=-1)
        h[lacking] = -np.inf
    return h


# Experience


class Steps(typing.NamedTuple):
    """T steps of one episode, or (T, N) of N environments.

    S, S2   (..., n) states before and after a step: S[t + 1] is S2[t] unless the data end with t
    """

    S: np.ndarray
    A: np.ndarray
    R: np.ndarray
    S2: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    gamma: float
    lam: float


@st.composite
def segments(
    draw: st.DrawFn, features: int = 2, actions: int = 3, steps: int = 5, environments: int = 3
) -> Steps:
    """Draw up to `steps` Steps of up to `environments` environments, (T, N).

    Any step may terminate or truncate an episode, or both: the first, the last, all and none.
    """
    shape = draw(st.integers(1, steps)), draw(st.integers(1, environments))
    first = np.arange(shape[0])[:, None] + np.zeros(shape, int) == 0
    ends = st.sampled_from((first & False, first, first[::-1], first | True)) | arrays(bool, shape)
    return draw(_steps(shape, features, actions, draw(ends).copy(), draw(ends).copy()))


@st.composite
def episodes(draw: st.DrawFn, features: int = 2, actions: int = 3, steps: int = 5) -> Steps:
    """Draw the Steps of one episode, (T,): it terminates, is truncated, both, or has not ended."""
    T = draw(st.integers(1, steps))
    terminated, truncated = ((np.arange(T) == T - 1) & draw(st.booleans()) for _ in range(2))
    return draw(_steps((T,), features, actions, terminated, truncated))


@st.composite
def _steps(draw, shape, features, actions, terminated, truncated):
    S, S2 = draw(reals((*shape, features))), draw(reals((*shape, features)))
    goes_on = ~(terminated | truncated)[:-1]
    S[1:][goes_on] = S2[:-1][goes_on]
    A = draw(arrays(int, shape, elements=st.integers(0, actions - 1)))
    return Steps(S, A, draw(reals(shape)), S2, terminated, truncated, draw(UNIT), draw(UNIT))


@st.composite
def distributions(draw: st.DrawFn, shape: tuple[int, ...]) -> Array:
    """Draw an array whose last axis holds distributions: spread, nearly or wholly deterministic."""
    weights = draw(arrays(float, shape, elements=WEIGHTS))
    sure = draw(arrays(int, shape[:-1], elements=st.integers(0, shape[-1] - 1)))
    np.put_along_axis(weights, sure[..., None], 1.0, axis=-1)
    return weights / weights.sum(-1, keepdims=True)


class MDP(typing.NamedTuple):
    """P (S, A, S), r (S, A) or (S, A, S), p0 (S,), gamma, terminal (S,) bool."""

    P: np.ndarray
    r: np.ndarray
    p0: np.ndarray
    gamma: float
    terminal: np.ndarray


@st.composite
def finite_mdps(
    draw: st.DrawFn, kinds: Sequence[str] = ("continuing", "unsure", "proper", "layered")
) -> MDP:
    """Draw an MDP of 1-5 nonterminal states in any order among 0-2 terminal ones, 1-4 actions.

    continuing  no terminal state                             0 <= γ <= 0.99
    unsure      0-2 terminal states, which may never come     0 <= γ <= 0.99
    proper      every step ends the episode with Pr >= 0.1    γ = 1 too
    layered     states come in one order: at most 5 steps     γ = 1 too
    """
    kind = draw(st.sampled_from(kinds))
    N, A = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    ended = draw(st.integers(*{"continuing": (0, 0), "unsure": (0, 2)}.get(kind, (1, 2))))
    S = N + ended
    P = draw(distributions((S, A, S)))
    if kind == "proper":
        P = 0.9 * P + 0.1 * np.eye(S)[S - 1]
    if kind == "layered":
        P = np.where(np.triu(np.ones((S, S)), 1)[:, None] > 0, P, 0)
        P[..., S - 1] += P.sum(-1) == 0
        P /= P.sum(-1, keepdims=True)
    r = draw(arrays(float, draw(st.sampled_from(((S, A), (S, A, S)))), elements=st.floats(-5, 5)))
    p0 = np.append(draw(distributions((N,))), np.zeros(ended))
    gamma = draw(
        st.just(0.0) | st.floats(0, 0.99) | st.just(1.0 if kind in ("proper", "layered") else 0.9)
    )
    order = np.array(draw(st.permutations(range(S))))
    P, r = P[order][..., order], r[order] if r.ndim == 2 else r[order][..., order]
    return MDP(P, r, p0[order], gamma, (np.arange(S) >= N)[order])


# Arguments


class Unusable(TypeError):
    """Error of functions that cannot be tested, whatever the input."""


@dataclass(frozen=True)
class Shaped:
    """An annotation such as Float["N A"]; jaxtyping's have the same two attributes."""

    dtypes: tuple[str, ...]
    dim_str: str | None = None

    def __getitem__(self, dims: Any) -> "Shaped":
        return replace(self, dim_str=dims if isinstance(dims, str) else dims[-1])


Float, Int, Bool = Shaped(("float64",)), Shaped(("int64",)), Shaped(("bool",))
PLAIN = ((float, Float[""]), (int, Int[""]), (bool, Bool[""]), (np.ndarray, Float))
SCALARS = ((np.integer, Int), (np.bool_, Bool), (np.complexfloating, None))
TOGETHER = ("", "N", "M", "N M", "M N", "N N")  # for unknown shapes: many of them fit together


def _read(annotation):
    """Return the strategy or the Shaped object that an annotation stands for; None for neither."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    alias = getattr(annotation, "__value__", None)
    if alias is not None:  # type Row[K] = ..., and from NumPy 2.5 on NDArray[np.float64]
        return _read(alias[parts] if parts else alias)
    if origin is typing.Annotated:
        found = map(_read, (*parts[1:], parts[0]))
        return next((read for read in found if read is not None), None)
    if origin is np.ndarray:  # NDArray[np.float64] of earlier ones
        scalar = (*typing.get_args(parts[-1]), None)[0]
        found = (s for k, s in SCALARS if isinstance(scalar, type) and issubclass(scalar, k))
        return next(found, Float)
    for plain, shaped in PLAIN:
        if annotation is plain:
            return shaped
    dtypes = getattr(annotation, "dtypes", None)
    shaped = isinstance(dtypes, tuple) and str(dtypes[0])[0] in "fiub"
    return annotation if shaped or isinstance(annotation, st.SearchStrategy) else None


def _module(f):
    return getattr(inspect.unwrap(f), "__globals__", {})


def _parameters(f):
    """Return the parameters of f, their annotations evaluated; None if f does not tell them."""
    try:
        found = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return None
    scope = {"Float": Float, "Int": Int, "Bool": Bool, "np": np, **_module(f)}
    single = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.replace(annotation=_evaluated(p.annotation, scope)) for p in single]


def _evaluated(annotation, scope):
    try:
        return eval(annotation, scope) if isinstance(annotation, str) else annotation
    except Exception:  # e.g. a name that only type checkers import
        return annotation


def _inputs(f):
    """Return the `inputs` of the module of f: {name: strategy or value}."""
    found = _module(f).get("inputs")
    if inspect.isfunction(found) and not inspect.signature(found).parameters:
        found = found()
    return found if isinstance(found, dict) else {}


def _source(same, inputs):
    """Return the strategy, or Shaped object, of an argument; None to leave it to its default.

    same    the argument's parameter in the signature of each function
    inputs  {name: strategy or value}
    """
    for p in same:
        if p.name in inputs:
            given = inputs[p.name]
            return given if isinstance(given, st.SearchStrategy) else st.just(given)
    for p in same:
        if (read := _read(p.annotation)) is not None:
            return read
    if all(p.default is not p.empty for p in same):
        return None
    name = same[0].name
    if name == "self":
        raise Unusable("argument self: a method needs its object; name a function or object.method")
    raise Unusable(
        f"argument {name}: cannot be drawn; annotate it, as in {name}: float or "
        f'{name}: Float["N A"], or write inputs = {{"{name}": strategy}} into the module'
    )


def _shape(draw, sizes, largest, dims):
    """Draw a shape; `sizes` has the sizes of the names met so far."""
    shape = []
    for token in dims.split():
        token = token.lstrip("#?").split("=")[-1]
        if token.startswith(("...", "*")):
            if token not in sizes:
                sizes[token] = draw(st.lists(st.integers(1, largest), max_size=2))
            shape += sizes[token]
            continue
        for name in re.findall(r"[A-Za-z_]\w*", token):
            if name not in sizes or name == "_":
                sizes[name] = draw(st.integers(1, largest))
        shape.append(_size(token, sizes))
    return tuple(shape)


def _size(text, sizes):
    try:
        size = operator.index(eval(text, {"__builtins__": {}}, sizes))
    except Exception as error:
        raise Unusable(f"annotation: {text!r} is no size: {_line(error)}") from error
    return size if size >= 0 else reject()


def _bounds(sizes, dims, bound):
    """Return upper bounds of integers: `bound`, else the sizes that are not their own axes."""
    if bound:
        return [_size(bound, sizes)]
    own = re.findall(r"\w+", dims)
    return [n for name, n in sizes.items() if name not in own and isinstance(n, int)] or [4]


@st.composite
def _values(draw, sources, largest):
    """Draw one value for each strategy or Shaped object: all shapes first, then the entries."""
    sizes, shapes, values = {}, {}, []
    for k, source in enumerate(sources):
        if not isinstance(source, st.SearchStrategy):
            text = draw(st.sampled_from(TOGETHER)) if source.dim_str is None else source.dim_str
            dims, _, bound = text.partition("<")
            shapes[k] = _shape(draw, sizes, largest, dims), dims, bound
    for k, source in enumerate(sources):
        if k not in shapes:
            values.append(draw(source))
            continue
        kind, (shape, dims, bound) = source.dtypes[0][0], shapes[k]
        if kind == "f":
            values.append(draw(reals(shape))[()])
            continue
        n = 2 if kind == "b" else draw(st.sampled_from(_bounds(sizes, dims, bound)))
        x = draw(arrays(int, shape, elements=st.integers(0, max(n - 1, 0))))
        x = x.astype(bool) if kind == "b" else x
        values.append(x if x.ndim else x.item())
    return values


class Arguments:
    """The arguments that all functions take, by position.

    names     of those that are drawn; the others keep their defaults
    sources   the strategy, or object like Shaped, of each
    """

    def __init__(self, functions, inputs):
        signatures = [own for own in map(_parameters, functions) if own is not None]
        told = " and ".join(map(_name, functions))
        if not any(signatures):
            raise Unusable(f"{told}: no argument has a name; wrap it, as in def f(x: float)")
        shared = list(zip(*signatures))
        if any(p.default is p.empty for own in signatures for p in own[len(shared) :]):
            raise Unusable(f"{told}: must take the same arguments")
        names = {p.name: None for same in shared for p in same}
        if unknown := inputs.keys() - names:
            raise Unusable(f"{min(unknown)}: must be an argument of {told}: {', '.join(names)}")
        module = {name: given for f in functions for name, given in _inputs(f).items()}
        sources = [_source(same, {**module, **inputs}) for same in shared]
        self.places = [k for k, source in enumerate(sources) if source is not None]
        self.names = [shared[k][0].name for k in self.places]
        self.sources = [source for source in sources if source is not None]

    def positions(self, argnums):
        """Return the positions of arguments that are chosen by number or name."""
        numbers = range(len(self.names))
        chosen = argnums if isinstance(argnums, (tuple, list)) else [argnums]
        try:
            return [self.names.index(a) if a in self.names else numbers[a] for a in chosen]
        except (IndexError, TypeError):
            allowed = ", ".join(f"{k} ({name})" for k, name in enumerate(self.names))
            raise Unusable(f"argnums = {argnums}: must be among {allowed}") from None

    def calling(self, f, notes):
        """Return f as a function of the drawn values, by copies; `notes` counts what f changes."""
        own = _parameters(f)
        keys = [
            own[k].name if own and (k != i or own[k].kind is own[k].KEYWORD_ONLY) else None
            for i, k in enumerate(self.places)
        ]

        def called(*values):
            mine = [v.copy() if type(v) is np.ndarray else v for v in values]
            keywords = {key: v for key, v in zip(keys, mine) if key}
            y = f(*[v for key, v in zip(keys, mine) if not key], **keywords)
            for name, v, m in zip(self.names, values, mine):
                if type(v) is np.ndarray and v.tobytes() != m.tobytes():
                    notes[f"{_name(f)} changes {name} in place; it was given copies"] += 1
            return y

        return self.signed(called, _name(f))

    def signed(self, called, name):
        """Give a function of the drawn values a name and a signature, for messages."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(argument, kind) for argument in self.names]
        called.__name__, called.__signature__ = name, inspect.Signature(parameters)
        return called


# Judgement


@dataclass
class Trial:
    """The answer over all inputs.

    answer      "agrees", "wrong" or "cannot be told"
    line        what was found at the input that decides
    verdict     the Verdict there, if numbers were compared
    inputs      {name: value}, the smallest input at which the gradient is wrong; else None
    precision   the relative error of a gradient that agrees is at most this, at all inputs
    examples    inputs that were judged, those without an answer included
    untold      {why there is no answer: how often}
    discarded   {what f raises: how often}
    notes       {what else was seen: how often}
    """

    answer: str = "cannot be told"
    line: str = ""
    verdict: Verdict | None = None
    inputs: dict[str, Any] | None = None
    precision: float = 0.0
    examples: int = 0
    untold: Counter[str] = field(default_factory=Counter)
    discarded: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{self.answer}: {self.line}"]
        if self.inputs is not None:
            lines += ["smallest failing input:", paste(self.inputs)]
        for what, found in (("no answer at", self.untold), ("discarded", self.discarded)):
            if found:
                lines.append(f"{what} {found.total()} inputs, {_often(found)}")
        return "\n".join([*lines, *self.notes])


def _often(found):
    """Return the most frequent of {why: times}."""
    why, times = found.most_common(1)[0]
    return f"{'' if times == found.total() else 'most often '}because {why}"


class Wrong(AssertionError):
    """Error of a gradient that is wrong."""


class Enough(BaseException):
    """The end of a search for a smaller input that fails."""


def examine(f, gradient=None, *, argnums=None, examples=None, seed=None, rtol=1e-7, atol=0.0,
            inputs=None, jacobian=autodiff.jacobian, who="npgrad"):  # fmt: skip
    """Judge a gradient of f at drawn inputs and return a Trial.

    gradient   a function of f's arguments. Its shape is f's + the argument's; or the argument's
               alone, for the gradient of the sum of f's outputs. A tuple, for several arguments.
               None: the derivative of f by `jacobian`, which messages call `who`
    argnums    numbers or names of arguments. Default: the first float, or as many as there are in
               the tuple, or all for `jacobian`
    examples   how many inputs to judge; default: as the Hypothesis profile says
    inputs     {name: strategy or value}
    Raises Unusable for functions that cannot be tested, whatever the input.
    """
    arguments = Arguments([f] if gradient is None else [gradient, f], inputs or {})
    positions = None if argnums is None else arguments.positions(argnums)
    trial = Trial()
    value = arguments.calling(f, trial.notes)
    if gradient is None:
        slope = arguments.signed(_derivative(value, jacobian, positions), who)
    else:
        slope = arguments.calling(gradient, trial.notes)

    usual, failures = _usual(value, slope, arguments.sources, seed), itertools.count()

    def one(values):
        searching = trial.answer != "wrong"  # else a failing input is being shrunk
        if not searching and next(failures) == MOST_SHRINKS:
            raise Enough
        with np.errstate(all="ignore"):
            answer, line, verdict = _judged(value, slope, values, positions, rtol, atol, usual)
        if answer == "discarded":
            trial.discarded.update([line] * searching)
            reject()
        trial.examples += searching
        if answer == "wrong":
            trial.answer, trial.line, trial.verdict = answer, line, verdict
            trial.inputs = dict(zip(arguments.names, values))
            raise Wrong
        if answer == "cannot be told":
            trial.untold.update([line] * searching)
            return
        precision = verdict.precision if verdict.precision <= rtol else 0.0  # both are 0
        if trial.answer != "agrees" or precision > trial.precision:
            trial.answer, trial.line, trial.verdict = answer, line, verdict
            trial.precision = precision

    try:
        _run(one, arguments.sources, examples or settings().max_examples, seed)
    except (Wrong, Enough):
        pass
    except Flaky:
        trial.answer, trial.inputs = "cannot be told", None
        trial.line = f"{slope.__name__} or {value.__name__} gives other numbers at the same input"
    if trial.answer == "agrees":
        known = f"at {trial.examples - trial.untold.total()} inputs"
        trial.line += f" {known}, to a relative {trial.precision:.0e} or better"
    trial.line = trial.line or "no input gives an answer"
    return trial


def sample(f, *, seed=0, inputs=None):
    """Return (f of positional arguments, Arguments, values): one input drawn as `examine` draws.

    It is the one with the most different numbers of a few at which f does not raise.
    """
    arguments, found, errors = Arguments([f], inputs or {}), [], []
    called = arguments.calling(f, Counter())

    def look(values):
        try:
            with np.errstate(all="ignore"):
                called(*values)
        except Exception as error:
            errors.append(error)
            reject()
        found.append(values)

    _run(look, arguments.sources, 40, seed)
    if not found:
        raise Unusable(f"{_name(f)} raises at every input: {_line(errors[-1])}")
    return called, arguments, max(found, key=lambda v: sum(len(np.unique(x)) for x in v))


def _run(one, sources, examples, seed):
    """Call one(values) for drawn values until it raises, then for simpler ones.

    Small sizes come first: Hypothesis simplifies numbers well, but sizes of several arrays badly.
    """
    shares = {1: examples // 8, 2: examples // 4, 4: examples - examples // 8 - examples // 4}
    if all(isinstance(source, st.SearchStrategy) or source.dim_str == "" for source in sources):
        shares = {1: examples}
    for largest, share in shares.items():
        if not share:
            continue
        run = settings(
            max_examples=share,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )(given(_values(sources, largest))(one))
        with contextlib.suppress(Unsatisfiable):
            (run if seed is None else seeded(seed)(run))()


def _usual(f, gradient, sources, seed):
    """Return {(argument, flat index): the usual size of that entry}, from a few inputs.

    Beside it, smaller errors than 1e-13 of it may be rounding: of a saturated f, e.g. of ln π(a)
    where π(a) = 1 - 1e-16, and of its right gradient. They are no proof that a gradient is wrong.
    """
    sizes = defaultdict(list)

    def look(values):
        with np.errstate(all="ignore"), contextlib.suppress(Exception):
            _value(f, values)
            given = gradient(*values)
            for k, g in enumerate(given if isinstance(given, tuple) else (given,)):
                for i, size in enumerate(np.abs(np.asarray(g, float)).reshape(-1).tolist()):
                    sizes[k, i] += [size] * (0.0 < size < np.inf)

    _run(look, sources, 16, seed)
    return {key: float(np.median(found)) for key, found in sizes.items() if found}


def _derivative(f, jacobian, positions):
    def derivative(*values):
        try:
            return tuple(jacobian(f, tuple(positions or _floats(values)))(*values))
        except Exception as error:
            raise CannotTell(f"{f.__name__}: {_line(error)}") from error

    return derivative


def _value(f, values):
    y = f(*values)
    if inspect.iscoroutine(y):
        y.close()
    if not _is_real(y):
        raise Unusable(f"{f.__name__} gives {_kind(y)}: must be a float or an array of floats")
    return y


def _judged(f, gradient, values, positions, rtol, atol, usual):
    """Return (answer, line, Verdict or None) of one input; "discarded" where f raises."""
    try:
        y = _value(f, values)
    except Unusable:
        raise
    except Exception as error:
        return "discarded", f"{f.__name__} raises {_line(error)}", None
    try:
        given = gradient(*values)
    except CannotTell as error:
        return "cannot be told", str(error), None
    except Exception as error:
        what = f"{gradient.__name__} raises {_line(error)} where {f.__name__} does not"
        return "wrong", what, None
    several, floats = isinstance(given, tuple), _floats(values)
    where = positions or floats[: len(given) if several else 1]
    if not set(where) <= set(floats) or not where:
        raise Unusable(f"{f.__name__}: must be differentiated by floats or arrays of floats")
    names = [list(f.__signature__.parameters)[i] for i in where]
    shapes = {name: np.shape(values[i]) for name, i in zip(names, where)}
    complaint, total = _form(given if several else (given,), shapes, np.shape(y))
    if complaint:
        return "wrong", f"{gradient.__name__} gives {complaint}", None
    as_tuple = functools.wraps(gradient)(lambda *v: gradient(*v) if several else (gradient(*v),))
    f = _summed(f) if total else f
    try:
        verdict = compare(f, as_tuple, *values, argnums=where, rtol=rtol, atol=atol)
    except Exception as error:
        return "cannot be told", f"{_line(error)} beside an input", None
    if verdict.answer == "agrees":
        line = f"{gradient.__name__} agrees with the derivative of {f.__name__} by "
        return "agrees", line + ", ".join(names), verdict
    if verdict.answer == "wrong":
        k, shape = where.index(verdict.argnum), np.shape(y) * (not total)
        entry = _flat(verdict.output + verdict.entry, shape + shapes[names[k]])
        if not abs(verdict.given - verdict.number) <= 1e-13 * usual.get((k, entry), 0.0):
            return "wrong", f"{verdict}, step {verdict.step:.1g}", verdict
    why = verdict.reason or "its error may be rounding, beside the usual gradient"
    return "cannot be told", why, verdict


def _flat(index, shape):
    return int(np.ravel_multi_index(index, shape)) if index else 0


def _summed(f):
    summed = functools.wraps(f)(lambda *values: np.sum(f(*values)))
    summed.__name__ = f"the sum of {f.__name__}"
    return summed


def _form(parts, shapes, shape):
    """Return (what is wrong with the form of a gradient or None, whether it is that of the sum).

    shapes   {name: shape} of the arguments; `shape` is that of f's value
    """
    if len(parts) != len(shapes):
        return f"{len(parts)} arrays: must be {len(shapes)}, for {', '.join(shapes)}", False
    total = all(_is_real(g) and np.shape(g) == own for g, own in zip(parts, shapes.values()))
    for g, (name, own) in zip(parts, shapes.items()):
        if not _is_real(g):
            return f"{_kind(g)} for {name}: must be an array of floats", False
        if not total and np.shape(g) != shape + own:
            allowed = f"{shape + own}" + f", or {own} for the sum of the outputs" * bool(shape)
            return f"shape {np.shape(g)} for {name}: must be {allowed}", False
    return None, total and bool(shape)


def _is_real(y):
    plain = isinstance(y, (float, int, np.ndarray, np.generic)) and not isinstance(y, bool)
    return plain and np.asarray(y).dtype.kind in "fiu"


def _kind(y):
    return f"an array of {y.dtype}" if isinstance(y, np.ndarray) else type(y).__name__


def _floats(values):
    return [i for i, x in enumerate(values) if np.asarray(x).dtype.kind == "f"]


def _name(f):
    return getattr(f, "__name__", type(f).__name__)


def _line(error):
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))


def paste(inputs: dict[str, Any]) -> str:
    """Return {name: value} as lines of Python."""
    return "\n".join(f"{name} = {_code(x)}" for name, x in inputs.items())


def _code(x):
    array = isinstance(x, np.ndarray)
    text = repr(x.tolist() if array else x.item() if isinstance(x, np.generic) else x)
    if array or isinstance(x, float):
        text = re.sub(r"\b(nan|inf)\b", r"np.\1", text)
    if not array:
        return text
    dtype = "" if x.dtype in (float, int, bool) and x.size else f", np.{x.dtype}"
    return f"np.array({text}{dtype})" if x.size or x.ndim < 2 else f"np.zeros({x.shape}{dtype})"


def gradient_of(
    f: Callable[..., Any],
    *,
    argnums: Any = None,
    rtol: float = 1e-7,
    atol: float = 0.0,
    **inputs: Any,
) -> Callable[[F], F]:
    """Return a decorator that makes a test of a function that computes the gradient of f.

    The function stays as it is. pytest collects it, and its attribute check(examples=None,
    seed=None) runs the test: it returns a Trial, or raises AssertionError if the gradient is
    wrong, CannotTell if no input gives an answer. The arguments are those of `examine`.
    """
    options = {"argnums": argnums, "rtol": rtol, "atol": atol, "inputs": inputs}

    def decorate(gradient):
        def check(examples=None, seed=None):
            __tracebackhide__ = True  # for pytest
            trial = examine(f, gradient, examples=examples, seed=seed, **options)
            if trial.answer != "agrees":
                raise (AssertionError if trial.answer == "wrong" else CannotTell)(str(trial))
            return trial

        gradient.gradient_of, gradient.options, gradient.check = f, options, check
        return gradient

    return decorate
