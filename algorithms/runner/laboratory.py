"""The laboratory's tables: exact bias and variance of every estimator of ∇J, and what one update of
A3C and A2C expects."""

from dataclasses import dataclass
from pathlib import Path
from unicodedata import combining

import numpy as np

from algorithms import policy_gradient_theorem, reinforce
from algorithms.exact import laboratory as exact
from algorithms.referee.estimators import laboratory_table, open_study, sweeps
from algorithms.referee.updates import Term, updates_tables
from algorithms.runner import arguments
from algorithms.runner.environments import Environment
from algorithms.runner.errors import Outcome, UsageError, require
from algorithms.runner.lookup import prepare
from algorithms.runner.plot import COLOURS, FAINT, INK, save

ROUNDING = 1e-12  # a bias below this, relative to |∇J|, is not drawn


@dataclass(frozen=True, kw_only=True)
class Laboratory(arguments.Output):
    env: arguments._shown(str, "ID")
    """Id of a finite MDP, such as npgrad/Chain-v0."""
    horizon: arguments._shown(int | None, "INT", "(default: the episode's own end)") = None
    """Steps after which every episode ends; J is the return of these steps. Updates are also told
    for a time limit of so many steps in its place; ∇J is then that without a limit. At least 1."""
    seed: int = 0
    """Seed of θ ~ N(0, spread²), the parameters of a tabular softmax policy. At least 0."""
    spread: float = 1.0
    """Standard deviation of θ; 0 gives the uniform policy. At least 0."""
    critic: float = 0.5
    """The estimators use the wrong critic v̂ = critic · v; 1 makes it exact."""
    n: int = 5
    """Steps of a segment of A3C and A2C. At least 1."""
    beta: float = 0.01
    """β, weight of their entropy. At least 0."""
    out: arguments._shown(str | None, "FILE", "(default: laboratory-ENV.png)") = None
    """Picture to write: .png, .pdf or .svg."""

    def __post_init__(self):
        arguments._at_least(0, seed=self.seed, spread=self.spread, beta=self.beta)
        arguments._at_least(1, n=self.n)
        for name in ("spread", "critic", "beta"):
            value = getattr(self, name)
            if not abs(value) <= 1e100:
                raise ValueError(f"--{name} = {value}: must be a number of at most 1e100")
        arguments._picture(self.out)


def text_table(rows) -> str:
    """Return the rows as aligned text."""
    columns = lambda name: sum(not combining(letter) for letter in name)
    width = max(columns(row.estimator) for row in rows)
    head = f"{'estimator':{width}}  {'|bias|':>9}  {'variance':>9}  {'cosine':>8}"
    lines = [head + "  Pr(ĝ·∇J>0)".rjust(13)]
    for name, bias, variance, cosine, uphill in rows:
        name += " " * (width - columns(name))
        shown = "-" if cosine is None else f"{cosine:.5f}"
        lines.append(f"{name}  {bias:9.2e}  {variance:9.4g}  {shown:>8}  {uphill:10.3f}")
    return "\n".join(lines)


def updates_text(terms: list[Term], end: str) -> str:
    """Return the parts of an update of A3C and A2C as aligned text."""
    head = f"an episode's updates: parts/|∇J| ({end})"
    width = max(len(head), *(len(row.term) for row in terms))
    shown = lambda x: "-" if x is None else f"{x:.4f}"
    lines = [f"{head:{width}}  {'A3C':>8}  {'A2C':>8}"]
    lines += [f"{row.term:{width}}  {shown(row.a3c):>8}  {shown(row.a2c):>8}" for row in terms]
    return "\n".join(lines)


def laboratory_command(argv, methods) -> Outcome:
    """Print the tables of a finite MDP and draw the first."""
    about = "What every estimator of the policy gradient expects and how it varies, exactly."
    (options,) = arguments.parse(argv, "npgrad laboratory", about, run=Laboratory)
    config = policy_gradient_theorem.Config()
    env, state = prepare(policy_gradient_theorem, Environment(options.env), config, options.seed)
    policy, rng = reinforce.make_policy(env, config.network), np.random.default_rng(options.seed)
    theta = options.spread * rng.standard_normal(state.theta.size)
    try:
        study = open_study(env.unwrapped.mdp, policy, theta, options.horizon)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    settings = options.critic, options.n, options.beta, options.horizon
    updates = updates_tables(study, env.unwrapped.mdp, theta, *settings)
    rows, curves = laboratory_table(study, options.critic), sweeps(study, options.critic)
    J_gradient = exact.expectation(study)
    out = Path(options.out or f"laboratory-{options.env}.png".replace("/", "-").replace(":", "-"))
    title = f"{options.env}, {len(study.episodes)} episodes"
    draw(rows, curves, np.linalg.norm(J_gradient), title, out)
    result = dict(
        env=options.env,
        horizon=options.horizon,
        theta=theta.tolist(),
        episodes=len(study.episodes),
        gradient=J_gradient.tolist(),
        table=[row._asdict() for row in rows],
        updates={end: [row._asdict() for row in terms] for end, terms in updates.items()},
        picture=str(out),
    )
    text = [text_table(rows), *(updates_text(terms, end) for end, terms in updates.items())]
    return Outcome(result, "\n\n".join(text) + f"\n{out}")


def draw(rows, curves, scale, title, out: Path):
    """Draw bias² and variance of every row, and against n and λ.

    scale is |∇J|; a bias that is only rounding error relative to it is left out. Raises UsageError
    if out cannot be written.
    """
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), dpi=150, layout="constrained")
    table, *right = figure.subplot_mosaic("AAB\nAAC").values()
    floor = (ROUNDING * max(scale, 1.0)) ** 2
    _draw_rows(table, rows, floor)
    for axes, (name, curve) in zip(right, curves.items()):
        draw_curve(axes, curve, name, floor)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13)
    handles = right[-1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    save(figure, out)


def _draw_rows(axes, rows, floor):
    y = np.arange(len(rows))
    bias2, variance = np.array([(row.bias**2, row.variance) for row in rows]).T
    shown = bias2 > floor
    axes.plot(variance, y, "o", color=COLOURS[0], label="total variance")
    axes.plot(
        bias2[shown], y[shown], "D", color=COLOURS[1], label="|bias|² (0 where none is drawn)"
    )
    axes.set_yticks(y, [row.estimator for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    dress(axes)


def draw_curve(axes, curve, name, floor):
    """Draw |bias|² and total variance against n or λ, and the total variance with v̂ = v."""
    x, bias2, variance, right = np.array(curve).T
    shown = bias2 > floor
    axes.plot(x, variance, "o-", ms=3, color=COLOURS[0], label="total variance")
    axes.plot(x, right, "--", lw=1, color=COLOURS[0], label="total variance with v̂ = v (no bias)")
    axes.plot(
        x[shown],
        bias2[shown],
        "D-",
        ms=3,
        color=COLOURS[1],
        label="|bias|² (0 where none is drawn)",
    )
    axes.set_yscale("log")
    axes.set_xlabel(name, color=INK)
    if name == "n":
        axes.xaxis.get_major_locator().set_params(integer=True)
    dress(axes)


def dress(axes):
    axes.grid(color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, length=0)
