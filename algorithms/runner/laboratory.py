"""The laboratory's table: what every estimator of ∇J expects and how it varies, exactly."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unicodedata import combining

import numpy as np

from algorithms import policy_gradient_theorem, reinforce
from algorithms.common import laboratory as exact
from algorithms.common.mdp import state_values
from algorithms.runner import arguments, folder
from algorithms.runner.errors import Outcome, UsageError, one_line, require
from algorithms.runner.lookup import prepare
from algorithms.runner.plot import COLOURS, FAINT, INK

MOST_EPISODES = 10**5
ROUNDING = 1e-12  # a bias below it, relative to |∇J|, is drawn as none


@dataclass(frozen=True, kw_only=True)
class Laboratory(arguments.Output):
    env: arguments._shown(str, "ID")
    """Id of a finite MDP, such as npgrad/Chain-v0."""
    horizon: arguments._shown(int | None, "INT", "(default: the episode's own end)") = None
    """Steps after which every episode is cut: J is the return of these steps. At least 1."""
    seed: int = 0
    """Seed of the policy's θ ~ N(0, spread²), a tabular softmax. At least 0."""
    spread: float = 1.0
    """Standard deviation of θ; 0 is the policy that takes all actions alike. At least 0."""
    critic: float = 0.5
    """v̂ = critic · v is the estimators' wrong critic; 1 makes it right."""
    out: arguments._shown(str | None, "FILE", "(default: laboratory-ENV.png)") = None
    """Picture to write: .png, .pdf or .svg."""

    def __post_init__(self):
        arguments._at_least(0, seed=self.seed, spread=self.spread)
        if self.out is not None and not self.out.endswith((".png", ".pdf", ".svg")):
            raise ValueError(f"--out = {self.out}: must end in .png, .pdf or .svg")


class Row(NamedTuple):
    """|E ĝ - ∇J|, tr Cov ĝ of one episode, and the cosine of E ĝ and ∇J (None if one is 0)."""

    estimator: str
    bias: float
    variance: float
    cosine: float | None


def open_study(mdp, policy, theta, horizon=None) -> exact.Study:
    """All episodes of a Policy with Softmax head, its scores by reinforce.gradient."""
    if horizon is not None:
        mdp = exact.finite_horizon(mdp, horizon)
    x = np.eye(mdp.n_observations)[mdp.observation]
    pi = np.exp(policy.head.log_probs(policy.model(theta, x)))
    scores = exact.score_table(reinforce.gradient, theta, policy, x, pi.shape[1])
    return exact.enumerate_episodes(mdp, pi, scores, MOST_EPISODES)


def weigh(tau, b=None, *, gamma, weighting="reward_to_go", baseline=None, target=None):
    """reinforce.weights of an episode; b (T,), or else the baseline (S,) where the episode was.

    target(R, states) -> G (T,) stands for the returns, by default reinforce.returns.
    """
    R, states, T = tau.rewards, tau.states, len(tau.rewards)
    G = reinforce.returns(R, gamma) if target is None else target(R, states)
    b = baseline[states[:-1]] if b is None else b
    return reinforce.weights(np.arange(T), G, b, gamma, weighting)


def mean_return(study, weighting):
    """What REINFORCE's running mean tends to: E G_0 for total, else E[Σ_t G_t] / E[T]."""
    G = [reinforce.returns(tau.rewards, study.mdp.gamma) for tau in study.episodes]
    G = [g[:1] for g in G] if weighting == "total" else G
    Pr = np.array([tau.probability for tau in study.episodes])
    return Pr @ [g.sum() for g in G] / (Pr @ [len(g) for g in G])


def laboratory_table(study: exact.Study, critic=0.5) -> list[Row]:
    """REINFORCE's weightings with every baseline; bootstrapped advantages with v̂ = critic · v."""
    mdp, gamma = study.mdp, study.mdp.gamma
    v = state_values(mdp, study.pi)
    rows = []
    for weighting in reinforce.WEIGHTINGS:
        of = partial(weigh, gamma=gamma, weighting=weighting)
        mean = np.full_like(v, mean_return(study, weighting))
        best = exact.optimal_baseline(study, of)
        for name, b in (("0", 0 * v), ("mean return", mean), ("v", v), ("b*", best)):
            rows.append(_row(study, f"{weighting}, b = {name}", partial(of, baseline=b)))
    wrong = f"v̂ = {critic:g} v"
    rows.append(_row(study, "actor-critic, v̂ = v", n_step(v, gamma, 1)))
    rows.append(_row(study, f"actor-critic, {wrong}", n_step(critic * v, gamma, 1)))
    dropped = partial(n_step(critic * v, gamma, 1), weighting="undiscounted_state")
    rows.append(_row(study, f"actor-critic without γ^t, {wrong}", dropped))
    for n in (2, 4):
        rows.append(_row(study, f"{n}-step, {wrong}", n_step(critic * v, gamma, n)))
    for lam in (0.5, 0.9, 1.0):
        rows.append(_row(study, f"λ-return, λ = {lam:g}, {wrong}", lam_(critic * v, gamma, lam)))
    return rows


def n_step(v_hat, gamma, n):
    """The weights γ^t (G_t^(n) - v̂(S_t)); n = 1 is the one-step actor-critic."""
    G = lambda R, states: exact.n_step_returns(R, v_hat[states], gamma, n)
    return partial(weigh, gamma=gamma, baseline=v_hat, target=G)


def lam_(v_hat, gamma, lam):
    """The weights γ^t (G_t^λ - v̂(S_t))."""
    G = lambda R, states: exact.lambda_returns(R, v_hat[states], gamma, lam)
    return partial(weigh, gamma=gamma, baseline=v_hat, target=G)


def sweeps(study: exact.Study, critic=0.5, points=21):
    """{"n": rows, "λ": rows} of (value, |bias|², total variance): n up to the longest episode, λ
    from 0 to 1, with v̂ = critic · v."""
    gamma, v_hat = study.mdp.gamma, critic * state_values(study.mdp, study.pi)
    longest = max(len(tau.rewards) for tau in study.episodes)
    made = {"n": (n_step, range(1, longest + 1)), "λ": (lam_, np.linspace(0, 1, points).tolist())}
    curves = {}
    for name, (estimator, values) in made.items():
        found = [exact.moments(study, estimator(v_hat, gamma, value)) for value in values]
        curves[name] = [
            (value, float(m.bias @ m.bias), m.total_variance) for value, m in zip(values, found)
        ]
    return curves


def _row(study, name, weigh):
    m = exact.moments(study, weigh)
    cosine = None if np.isnan(m.cosine) else m.cosine
    return Row(name, float(np.linalg.norm(m.bias)), m.total_variance, cosine)


def text_table(rows) -> str:
    """The rows as aligned text."""
    columns = lambda name: sum(not combining(letter) for letter in name)
    width = max(columns(row.estimator) for row in rows)
    lines = [f"{'estimator':{width}}  {'|bias|':>9}  {'variance':>9}  {'cosine':>8}"]
    for name, bias, variance, cosine in rows:
        name += " " * (width - columns(name))
        shown = "-" if cosine is None else f"{cosine:.5f}"
        lines.append(f"{name}  {bias:9.2e}  {variance:9.4g}  {shown:>8}")
    return "\n".join(lines)


def laboratory_command(argv, methods) -> Outcome:
    """Print and draw the table of a finite MDP."""
    about = "What every estimator of the policy gradient expects and how it varies, exactly."
    (options,) = arguments.parse(argv, "npgrad laboratory", about, run=Laboratory)
    config = policy_gradient_theorem.Config()
    env, state = prepare(policy_gradient_theorem, options.env, config, options.seed)
    policy, rng = reinforce.make_policy(env, config.network), np.random.default_rng(options.seed)
    theta = options.spread * rng.standard_normal(state.theta.size)
    try:
        study = open_study(env.unwrapped.mdp, policy, theta, options.horizon)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
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
        picture=str(out),
    )
    return Outcome(result, f"{text_table(rows)}\n{out}")


def draw(rows, curves, scale, title, out: Path):
    """Bias² and variance of every row, and along n and λ. Raises UsageError if out is not writable.

    scale is |∇J|: a bias of rounding's size beside it is left out.
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
    handles = table.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK)
    try:
        with folder.replacing(out) as file:
            figure.savefig(file, format=out.suffix[1:])
    except (OSError, ValueError) as error:
        raise UsageError(f"--out = {out}: cannot be written: {one_line(error)}") from error


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
    """|bias|² and total variance against n or λ."""
    x, bias2, variance = np.array(curve).T
    shown = bias2 > floor
    axes.plot(x, variance, "o-", ms=3, color=COLOURS[0], label="total variance")
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
