"""The laboratory's tables: bias and variance of every estimator, exactly, on five finite MDPs.

    python -m benchmarks.laboratory [--draw]

Each is npgrad laboratory --env ID [--horizon H] with its defaults: θ ~ N(0, 1) of seed 0, a tabular
softmax, v̂ = v/2 as the wrong critic. Also: the time of one exact gradient, 200 states, 10 actions.
"""

import time

import gymnasium
import numpy as np

import algorithms.exact.register  # noqa: F401  (the worlds by their ids)
from algorithms.common.policy import Network, make_policy
from algorithms.exact.laboratory import expectation
from algorithms.exact.mdp import expected_return
from algorithms.exact.worlds import garnet
from algorithms.policy_gradient_theorem import exact_gradient, gibbs
from algorithms.referee.estimators import Row, laboratory_table, open_study, sweeps
from algorithms.runner.laboratory import draw_curve, text_table
from benchmarks import figures, study
from benchmarks.study import Whole
from npgrad import linear

WORLDS = {
    "npgrad/ShortCorridor-v0": (10, "J = E[Σ_{t<10} R_{t+1}] = -E[min(T, 10)]: γ = 1, cut at 10"),
    "npgrad/Chain-v0": (None, "J = E[Σ γ^t R_{t+1}], γ = 0.9: at most 4 steps"),
    "npgrad/Garnet0-v0": (6, "J = E[Σ_{t<6} γ^t R_{t+1}], γ = 0.9: cut at 6"),
    "npgrad/Garnet1-v0": (6, "J = E[Σ_{t<6} γ^t R_{t+1}], γ = 0.9: cut at 6"),
    "npgrad/Garnet2-v0": (6, "J = E[Σ_{t<6} γ^t R_{t+1}], γ = 0.9: cut at 6"),
}


def examine(env_id, horizon, J_is):
    """Return what is recorded of one world."""
    env = gymnasium.make(env_id)
    policy = make_policy(env, Network(approximator="linear"))
    theta = np.random.default_rng(0).standard_normal(policy.model.layout.size)
    opened = open_study(env.unwrapped.mdp, policy, theta, horizon)
    return dict(
        horizon=horizon,
        J_is=J_is,
        J=expected_return(opened.mdp, opened.pi),
        gradient_norm=float(np.linalg.norm(expectation(opened))),
        episodes=len(opened.episodes),
        table=[row._asdict() for row in laboratory_table(opened)],
        sweeps=sweeps(opened),
    )


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
    """Draw bias² and variance along n and λ, one column per world."""
    worlds = record["worlds"]
    figure, grid = figures.subplots(2, len(worlds), (15, 6.5))
    for column, (env_id, world) in zip(grid.T, worlds.items()):
        floor = 1e-24 * max(1.0, world["gradient_norm"] ** 2)
        for axes, (name, curve) in zip(column, world["sweeps"].items()):
            draw_curve(axes, curve, name, floor)
        column[0].set_title(env_id.removeprefix("npgrad/"), loc="left", fontsize=11)
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False)
    title = "n-step and λ-return estimates of ∇J with v̂ = v/2, one episode"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


INTRODUCTION = """# The laboratory: estimators of ∇J, exactly

`npgrad laboratory`: θ ~ N(0, 1) of seed 0, tabular softmax; per single episode.
variance = tr Cov ĝ; |bias| near 1e-16 is rounding error.
"""


def markdown(record):
    text = [INTRODUCTION]
    for env_id, world in record["worlds"].items():
        J, norm, episodes = (world[name] for name in ("J", "gradient_norm", "episodes"))
        rows = [Row(**row) for row in world["table"]]
        text.append(f"## {env_id}\n")
        text.append(f"{world['J_is']}; J = {J:.6g}, |∇J| = {norm:.4g}, {episodes} episodes\n")
        text.append(f"```\n{text_table(rows)}\n```\n")
    text.append("## One exact gradient\n\n200 states, 10 actions, dense P, one thread:")
    for formulation, ms in record["milliseconds"].items():
        text.append(f"{formulation}: {ms['least']:.1f} ms at least, {ms['median']:.1f} ms median.")
    return "\n".join(text) + "\n"


def measured(*_):
    worlds = {env_id: examine(env_id, *given) for env_id, given in WORLDS.items()}
    return dict(worlds=worlds, milliseconds=gradient_milliseconds())


STUDIES = {"laboratory": Whole(measured, markdown, picture)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
