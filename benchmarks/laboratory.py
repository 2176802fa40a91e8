"""The laboratory's tables: bias and variance of every estimator, exactly, on five finite MDPs.

    python -m benchmarks.laboratory [--draw]

Each is npgrad laboratory --env ID [--horizon H] with its defaults: θ ~ N(0, 1) of seed 0, a tabular
softmax, v̂ = v/2 as the wrong critic. Also exact: what the first n steps explain of the variance,
and what bootstrapping leaves out (exact.variance); the bias of the continuing actor–critic in
garnets, which never end (exact.average_reward); the first hundred steps of RMSProp and Adam. Timed:
one exact gradient, 200 states, 10 actions.
"""

import time

import gymnasium
import numpy as np

import algorithms.exact.register  # noqa: F401  (the worlds by their ids)
from algorithms.common.policy import Network, make_policy
from algorithms.exact.average_reward import differential_values, expected_step
from algorithms.exact.laboratory import expectation, moments, score_table
from algorithms.exact.mdp import FiniteMDPEnv, expected_return, state_values
from algorithms.exact.variance import explained, lambda_spread, n_step_spread, own_terms
from algorithms.exact.worlds import garnet
from algorithms.policy_gradient_theorem import exact_gradient, gibbs
from algorithms.referee.estimators import Row, laboratory_table, lam_, n_step, open_study, sweeps
from algorithms.reinforce import gradient
from algorithms.runner.laboratory import draw_curve, dress, text_table
from algorithms.runner.plot import COLOURS
from benchmarks import figures, study
from benchmarks.study import Whole
from npgrad import linear
from npgrad.optimizers import adam, rmsprop

LAMBDAS = 0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0
CONTINUING = 0.0, 0.5, 0.9, 0.99, 1.0
STEPS = 1, 2, 5, 10, 20, 50, 100
WORLDS = {
    "npgrad/ShortCorridor-v0": (10, "J = E[Σ_{t<10} R_{t+1}] = -E[min(T, 10)]: γ = 1, cut at 10"),
    "npgrad/Chain-v0": (None, "J = E[Σ γ^t R_{t+1}], γ = 0.9: at most 4 steps"),
    "npgrad/Garnet0-v0": (6, "J = E[Σ_{t<6} γ^t R_{t+1}], γ = 0.9: cut at 6"),
    "npgrad/Garnet1-v0": (6, "J = E[Σ_{t<6} γ^t R_{t+1}], γ = 0.9: cut at 6"),
    "npgrad/Garnet2-v0": (6, "J = E[Σ_{t<6} γ^t R_{t+1}], γ = 0.9: cut at 6"),
}


def tabular(mdp):
    """Return (policy, θ) of a tabular softmax, θ ~ N(0, 1) of seed 0."""
    policy = make_policy(FiniteMDPEnv(mdp), Network(approximator="linear"))
    return policy, np.random.default_rng(0).standard_normal(policy.model.layout.size)


def examine(env_id, horizon, J_is):
    """Return what is recorded of one world."""
    mdp = gymnasium.make(env_id).unwrapped.mdp
    opened = open_study(mdp, *tabular(mdp), horizon)
    by_n, by_lambda = total_variance(opened)
    return dict(
        horizon=horizon,
        J_is=J_is,
        J=expected_return(opened.mdp, opened.pi),
        gradient_norm=float(np.linalg.norm(expectation(opened))),
        episodes=len(opened.episodes),
        table=[row._asdict() for row in laboratory_table(opened)],
        sweeps=sweeps(opened),
        by_n=by_n,
        by_lambda=by_lambda,
    )


def total_variance(opened):
    """Return, with v̂ = v, [(n, tr Cov of the n-step ĝ, Σ_t E|its term t|², what n steps explain of
    Monte Carlo's tr Cov, the rest)] and [(λ, tr Cov, Σ_t E|term t|²)]."""
    mdp, pi = opened.mdp, opened.pi
    v = state_values(mdp, pi)
    variance = lambda weigh: moments(opened, weigh).total_variance
    by_n, by_lambda = [], []
    for n in range(1, 1 + max(len(tau.rewards) for tau in opened.episodes)):
        own = own_terms(opened, n_step_spread(mdp, pi, n))
        split = explained(opened, lam_(v, mdp.gamma, 1.0), n)
        by_n.append((n, variance(n_step(v, mdp.gamma, n)), own, *split))
    for lam in LAMBDAS:
        own = own_terms(opened, lambda_spread(mdp, pi, lam))
        by_lambda.append((lam, variance(lam_(v, mdp.gamma, lam)), own))
    return by_n, by_lambda


def continuing_bias(seed):
    """Return [|bias|/|∇ρ| for λ in CONTINUING] of the continuing actor–critic's expected step in a
    garnet, with half the differential values for v̂."""
    mdp = garnet(seed)
    policy, theta = tabular(mdp)
    pi = policy.at(theta, mdp.observation).probs()
    scores = score_table(gradient, theta, policy, mdp.observation, pi.shape[1])
    exact, e = expected_step(mdp, pi, scores, 0.0), -0.5 * differential_values(mdp, pi)
    found = [expected_step(mdp, pi, scores, lam, e) - exact for lam in CONTINUING]
    return (np.linalg.norm(found, axis=1) / np.linalg.norm(exact)).tolist()


def first_steps(count=100):
    """Return {optimiser: its first steps over η}, of a gradient that stays 1."""
    kinds = {"RMSProp, α .99, ε → 0": (rmsprop, 1, dict(eps=1e-30)),
             "RMSProp, α .99, ε .1 (A3C's)": (rmsprop, 1, dict(eps=0.1)),
             "RMSProp, α .9, ε → 0": (rmsprop, 1, dict(decay=0.9, eps=1e-30)),
             "Adam": (adam, 2, {})}  # fmt: skip
    found = {}
    for name, (step, slots, options) in kinds.items():
        m = np.zeros((slots, 1))
        found[name] = [float(step(np.ones(1), m, t, 1.0, **options)[0])
                       for t in range(1, count + 1)]  # fmt: skip
    return found


def gradient_milliseconds(states=200, actions=10, repeats=20):
    """Return the least and median wall time of Theorem 1's ∇J, a tabular softmax on a dense random
    MDP."""
    mdp = garnet(0, states, actions, branching=states, gamma=0.99)
    policy, x = gibbs(linear(states, actions, bias=False)), np.eye(states)
    theta = np.random.default_rng(0).standard_normal(states * actions)
    found = {}
    for formulation in ("start", "average"):
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            exact_gradient(theta, mdp, policy, x, formulation)
            times.append(1e3 * (time.perf_counter() - start))
        found[formulation] = dict(least=min(times[1:]), median=float(np.median(times[1:])))
    return found


def picture(record):
    return {"": draw_sweeps(record["worlds"]), "_exact": draw_exact(record)}


def draw_sweeps(worlds):
    """Draw bias² and variance along n and λ, one column per world."""
    figure, grid = figures.subplots(2, len(worlds), (15, 6.5))
    for column, (env_id, world) in zip(grid.T, worlds.items()):
        floor = 1e-24 * max(1.0, world["gradient_norm"] ** 2)
        for axes, (name, curve) in zip(column, world["sweeps"].items()):
            draw_curve(axes, curve, name, floor)
        column[0].set_title(env_id.removeprefix("npgrad/"), loc="left", fontsize=11)
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    title = "n-step and λ-return estimates of ∇J with v̂ = v/2, one episode"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def table_of(world):
    return [Row(**row) for row in world["table"]]


def draw_exact(record):
    """Draw Pr(ĝ·∇J > 0), what n steps explain, the continuing bias, and the first hundred steps."""
    biases, steps = record["continuing"], record["first_steps"]
    figure, grid = figures.subplots(1, 4, (17, 6), width_ratios=(1.5, 1, 1, 1))
    uphill, share, bias, first = grid
    for (env_id, found), colour in zip(record["worlds"].items(), COLOURS):
        world, rows = env_id.removeprefix("npgrad/").removesuffix("-v0"), table_of(found)
        uphill.plot([row.uphill for row in rows], range(len(rows)), "o", color=colour, label=world)
        known = [(n, inside / (inside + rest)) for n, _, _, inside, rest in found["by_n"]]
        share.plot(*np.transpose(known), "o-", ms=3, color=colour, label=world)
        if world in biases:
            bias.plot(CONTINUING, biases[world], "o-", ms=3, color=colour, label=world)
    for (name, values), colour in zip(steps.items(), COLOURS[4:]):
        first.loglog(range(1, len(values) + 1), values, color=colour, label=name)
    uphill.set_yticks(range(len(rows)), [row.estimator for row in rows], fontsize=8)
    uphill.invert_yaxis()
    for axes, title, x in zip(grid, (
        "Pr(ĝ·∇J > 0) of one episode\n(1: every sample improves the policy)",
        "share of tr Cov ĝ that n steps explain\n(Monte Carlo, b = v)",
        "continuing actor–critic, v̂ = v/2\n|E[δz] − ∇ρ| / |∇ρ|",
        "step t over η\n(the gradient is 1 at every step)",
    ), ("", "n", "λ", "t")):  # fmt: skip
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(x)
        dress(axes)
    for axes in (share, bias, first):
        axes.legend(frameon=False)
    return figure


def variance_lines(by_n, by_lambda, rows):
    """Return the law of total variance of one world as text."""
    lines = ["tr Cov ĝ with v̂ = v; Σ own: E|term|² summed over an episode's steps; of tr Cov ĝ of "
             "Monte Carlo, b = v, what the first n steps explain, and the rest.\n\n```",
             "  n    tr Cov     Σ own  explained      rest"]  # fmt: skip
    lines += ["{:3d} {:9.4g} {:9.4g}  {:9.4g} {:9.4g}".format(*row) for row in by_n]
    lines += ["", "    λ    tr Cov     Σ own"]
    lines += ["{:5g} {:9.4g} {:9.4g}".format(*row) for row in by_lambda]
    of = {row.estimator: row.variance for row in rows}
    ratio = of["reward_to_go, b = v"] / of["reward_to_go, b = b*"]
    return [*lines, "```\n", f"b = v leaves {ratio:.3f} times the variance of b = b*.\n"]


def continuing_lines(biases):
    lines = ["## The continuing actor–critic: bias over λ\n",
             "|E[δz] − ∇ρ|/|∇ρ|, S ~ d, v̂ half the differential values, θ and w held.\n\n```",
             f"{'λ':10}" + "".join(f"{lam:>9g}" for lam in CONTINUING)]  # fmt: skip
    lines += [
        f"{name:10}" + "".join(f"{x:9.4f}" for x in ratios) for name, ratios in biases.items()
    ]
    return [*lines, "```\n"]


def steps_lines(steps):
    lines = ["## The first hundred steps of an optimiser\n",
             "Step t over η, the gradient being 1 at every step; Σ: all hundred.\n\n```",
             f"{'t':30}" + "".join(f"{t:>8}" for t in STEPS) + f"{'Σ':>8}"]  # fmt: skip
    lines += [f"{name:30}" + "".join(f"{x[t - 1]:8.3f}" for t in STEPS) + f"{sum(x):8.1f}"
              for name, x in steps.items()]  # fmt: skip
    return [*lines, "```\n"]


INTRODUCTION = """# The laboratory: estimators of ∇J, exactly

`npgrad laboratory`: θ ~ N(0, 1) of seed 0, tabular softmax; per single episode.
variance = tr Cov ĝ; |bias| near 1e-16 is rounding error.
"""


def markdown(record):
    text = [INTRODUCTION]
    for env_id, world in record["worlds"].items():
        J, norm, episodes = (world[name] for name in ("J", "gradient_norm", "episodes"))
        text.append(f"## {env_id}\n")
        text.append(f"{world['J_is']}; J = {J:.6g}, |∇J| = {norm:.4g}, {episodes} episodes\n")
        text.append(f"```\n{text_table(table_of(world))}\n```\n")
        text += variance_lines(world["by_n"], world["by_lambda"], table_of(world))
    text += continuing_lines(record["continuing"]) + steps_lines(record["first_steps"])
    text.append("## One exact gradient\n\n200 states, 10 actions, dense P, one thread:")
    for formulation, ms in record["milliseconds"].items():
        text.append(f"{formulation}: {ms['least']:.1f} ms at least, {ms['median']:.1f} ms median.")
    return "\n".join(text) + "\n"


def measured(*_):
    return dict(
        worlds={env_id: examine(env_id, *given) for env_id, given in WORLDS.items()},
        continuing={f"Garnet{seed}": continuing_bias(seed) for seed in range(3)},
        first_steps=first_steps(),
        milliseconds=gradient_milliseconds(),
    )


STUDIES = {"laboratory": Whole(measured, markdown, picture)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
