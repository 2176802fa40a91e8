"""`npgrad referee estimator`: the command line, the text and the picture of its verdict."""

from pathlib import Path

import numpy as np

from algorithms.referee import estimator
from algorithms.referee.enumerated import WORLDS, world, worlds
from algorithms.referee.estimators import laboratory_table
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Outcome, UsageError, near, one_line, require
from algorithms.runner.laboratory import dress
from algorithms.runner.plot import COLOURS, INK, save
from algorithms.runner.referee import asked, parser
from algorithms.runner.theirs import STATUS

ABOUT = """\
Say what an estimator of the policy gradient expects: exactly, over all episodes of finite worlds.
The function, in NumPy, torch or JAX, is one of these, recognised by its parameters' names:

  weights(episode) -> (T,)             the factor of ∇ln π(A_t|S_t) at each step
  loss(log_probs, episode)             a number, to be DESCENDED; log_probs (T,) are ln π(A_t|S_t)
  estimate(episode, policy) -> (d,)    the estimate itself
  weights(episodes) -> [(T,), ...]     of a batch of --batch episodes; the estimate is their mean
  weights(episode, history) -> (T,)    history: the episodes before, --batch - 1 of them

An episode has S, A and R (T,), terminated (True), gamma, and v (T,), the exact value of S. A policy
has theta (d,), probs (O, A) and scores (O, A, d), the gradient of ln π(a|s).

exit status: 0 unbiased for ∇J, 1 biased, 2 usage, 3 cannot be told"""


def estimator_verdict(argv) -> Outcome:
    """Judge an estimator."""
    options = _parse(argv)
    ask = asked(options)
    kind = estimator.kind_of(ask.f)
    k = options.batch if kind in ("batch", "history") else 1
    among = _worlds(options, estimator.MOST_TUPLES ** (1 / k))
    verdict = estimator.judge(ask, among, options.batch, options.accuracy)
    if options.out:
        draw(verdict, among, Path(options.out))
    found = [
        {name: None if x != x else x for name, x in row._asdict().items()} for row in verdict.worlds
    ]
    result = verdict._asdict() | dict(worlds=found, picture=options.out)
    if not np.isfinite(verdict.distance):
        result["distance"] = None
    status = STATUS["agrees" if verdict.unbiased else "wrong"]
    return Outcome(result, told(options.f, verdict, options.accuracy), status)


def _parse(argv):
    made = parser("estimator", ABOUT)
    add = made.add_argument
    add("--gamma", metavar="FLOAT", type=float, help="the discount in every world, in [0, 1]")
    add("--env", metavar="ID", help="one finite MDP (default: the five worlds)")
    add("--horizon", metavar="INT", type=int, help="with --env: cut episodes after so many steps")
    add("--seed", metavar="INT", type=int, default=0, help="θ ~ N(0, 1) of this seed (default: 0)")
    add("--theta", metavar="FILE.npy", help="with --env: θ, the preferences of a tabular softmax")
    add("--batch", metavar="INT", type=int, default=2, help="episodes of a batch (default: 2)")
    add("--accuracy", metavar="FLOAT", type=float, default=0.1,
        help="of a mean: its standard error over its size (default: 0.1)")  # fmt: skip
    add("--out", metavar="FILE", help="a picture of it, .png, .pdf or .svg")
    options = made.parse_args(argv)
    for name, right, allowed in (
        ("gamma", options.gamma is None or 0 <= options.gamma <= 1, "in [0, 1]"),
        ("horizon", options.horizon is None or options.horizon >= 1, "at least 1"),
        ("seed", options.seed >= 0, "at least 0"),
        ("batch", 2 <= options.batch <= 100, "in 2, ..., 100"),
        ("accuracy", 0 < options.accuracy < np.inf, "above 0"),
        ("out", options.out is None or options.out.endswith((".png", ".pdf", ".svg")),
         "a .png, .pdf or .svg"),
    ):  # fmt: skip
        if not right:
            raise UsageError(f"--{name} = {getattr(options, name)}: must be {allowed}")
    for name in ("horizon", "theta"):
        if getattr(options, name) is not None and options.env is None:
            raise UsageError(f"--{name}: must come with --env")
    return options


def _worlds(options, most):
    """Return the Worlds that the options name. Raises UsageError."""
    if options.env is None:
        return worlds(options.gamma, options.seed, most)
    env = Environment(options.env).make()
    mdp = getattr(env.unwrapped, "mdp", None)
    if mdp is None:
        raise UsageError(f"--env = {options.env}: must be a finite MDP{near(options.env, WORLDS)}")
    horizon = options.horizon or WORLDS.get(options.env, (None, None))[1]
    try:
        theta = None if options.theta is None else np.load(options.theta, allow_pickle=False)
        return [world(mdp, options.env, horizon, options.gamma, theta, options.seed)]
    except (OSError, EOFError) as error:
        raise UsageError(f"--theta = {options.theta}: cannot be read: {one_line(error)}") from error
    except ValueError as error:
        more = "; or judge it in a smaller MDP" if "trajectories" in str(error) else ""
        raise UsageError(f"--{error}{more}") from error


def told(name, verdict, accuracy) -> str:
    """Return a Verdict as a person reads it."""
    what = verdict.unbiased_for or "no known gradient"
    lines = [f"{name} is BIASED: its expectation is {what}"]
    if verdict.unbiased:
        lines = [f"{name} is unbiased for ∇J"]
    if verdict.exactly:
        lines.append(f"it is, exactly: {verdict.exactly}")
    elif verdict.nearest:
        lines.append(f"no known estimator; nearest, {verdict.distance:.2g} away: {verdict.nearest}")
    width = max(len(row.world) for row in verdict.worlds)
    needed = f"episodes for {100 * accuracy:g} %"
    head = f"{'world':{width}}  {'bias/|∇J|':>9}  {'cosine':>7}  {'variance':>9}  {needed:>18}"
    lines += ["", head]
    for row in verdict.worlds:
        bias = f"{row.bias:.1e}" if row.bias < 1e-3 else f"{row.bias:.3f}"
        bias += f" ± {row.error:.3f}" if row.error else ""
        number = "nan" if row.episodes != row.episodes else f"{np.ceil(row.episodes):,.0f}"
        cells = f"{row.cosine:7.4f}  {row.variance:9.4g}  {number:>18}"
        lines.append(f"{row.world:{width}}  {bias:>9}  {cells}")
    return "\n".join(lines + [f"note: {note}" for note in verdict.notes])


def draw(verdict, among, out: Path):
    """Draw bias and variance beside those of the laboratory's estimators, a panel per world."""
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(among) + 1, 3.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(among), squeeze=False)[0]
    for axes, each, row in zip(panels, among, verdict.worlds):
        norm = np.linalg.norm(each.gradient)
        known = [(x.bias / norm, x.variance) for x in laboratory_table(each.study)]
        bias, variance = np.transpose(known)
        axes.plot(bias, variance, "o", ms=4, color=COLOURS[-1], alpha=0.5, label="known estimators")
        axes.plot(row.bias, row.variance, "D", ms=9, color=COLOURS[1], label="yours")
        axes.set_xscale("symlog", linthresh=0.01)
        axes.set_yscale("log")
        axes.set_title(each.name.removeprefix("npgrad/"), loc="left", fontsize=10, color=INK)
        axes.set_xlabel("bias / |∇J|", color=INK)
        axes.set_xlim(left=-0.002)
        dress(axes)
    panels[0].set_ylabel("variance, tr Cov ĝ", color=INK)
    text = "unbiased for ∇J" if verdict.unbiased else "biased"
    figure.suptitle(f"{text}: {verdict.exactly or 'no known estimator'}", x=0.01, ha="left")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    save(figure, out)
