"""The deterministic policy-gradient theorem on the regulator: σ → 0, and what errors cost.

    python -m benchmarks.regulator [--draw]

The spring (npgrad/LQR-v0) at half its best gain, in closed form (algorithms.exact.deterministic).
The picture: how far the gradient of the Gaussian policy N(−K s, σ² I) is from the deterministic
one, and the variance of the score's estimate from one action in the state s = (½, ½). The table:
how far from ∇J an actor's update is that has another policy's states, or another policy's Q.
"""

import numpy as np

from algorithms.exact.deterministic import (
    action_gradient,
    curvature,
    errors,
    exploration,
    score_variance,
    stochastic_gradient,
)
from algorithms.exact.lqr import (
    cost_matrix,
    occupancy,
    optimal_gain,
    policy_gradient,
    spring,
    state_value,
)
from algorithms.runner.plot import COLOURS
from benchmarks import figures, study
from benchmarks.study import Whole

SIGMAS = np.logspace(-3, 0.5, 36)
STATE = np.array([0.5, 0.5])
LQR = spring()
K = 0.5 * optimal_gain(LQR)
COASTING, BEST = np.zeros_like(K), optimal_gain(LQR)


def limit():
    """Return the distance of the gradients and variance of the score's estimate, for each σ."""
    exact, v = policy_gradient(LQR, K), state_value(LQR, K, STATE)
    N = np.trace(curvature(LQR, cost_matrix(LQR, K)))
    apart = [stochastic_gradient(LQR, K, sigma) - exact for sigma in SIGMAS]
    g = action_gradient(LQR, K) @ STATE
    return dict(
        sigma=SIGMAS.tolist(),
        distance=[float(np.linalg.norm(x) / np.linalg.norm(exact)) for x in apart],
        variance_without_baseline=[
            float(score_variance(LQR, K, STATE, sigma, 0.0)) for sigma in SIGMAS
        ],
        variance_with_value=[  # b = E_a q: the value of the Gaussian policy, as q is of μ
            float(score_variance(LQR, K, STATE, sigma, v - sigma**2 * N)) for sigma in SIGMAS
        ],
        squared_mean=float(STATE @ STATE * (g @ g)),
    )


def wrong():
    """Return [(what is wrong, its parts and the whole, relative to |∇J|, cosine of the update)]."""
    exact, H, Sigma = policy_gradient(LQR, K), action_gradient(LQR, K), occupancy(LQR, K)
    explored = Sigma + 0.5**2 * exploration(LQR, K)
    coasting, best = (occupancy(LQR, gain) for gain in (COASTING, BEST))
    cases = {
        "nothing": (H, Sigma),
        "states: with noise σ = ½": (H, explored),
        "states: of K = 0": (H, coasting),
        "states: of K*": (H, best),
        "critic: of K = 0": (action_gradient(LQR, K, COASTING), Sigma),
        "critic: of K*": (action_gradient(LQR, K, BEST), Sigma),
        "both: of K = 0": (action_gradient(LQR, K, COASTING), coasting),
        "both: of K*": (action_gradient(LQR, K, BEST), best),
    }
    norm, rows = np.linalg.norm(exact), []
    for name, (H_b, Sigma_b) in cases.items():
        of_states, of_critic = errors(H, Sigma, H_b - H, Sigma_b)
        update = exact + of_states + of_critic
        parts = [float(np.linalg.norm(x) / norm) for x in (of_states, of_critic, update - exact)]
        cosine = float(np.sum(update * exact) / norm / np.linalg.norm(update))
        rows.append((name, *parts, cosine))
    return rows


def picture(record):
    found = record["limit"]
    fig, (left, right) = figures.subplots(1, 2, (11, 4.4))
    left.loglog(found["sigma"], found["distance"], color=COLOURS[0], lw=2)
    left.set_title("the stochastic gradient tends to the deterministic one, as σ²", loc="left")
    left.set(xlabel="σ", ylabel="|∇J_σ − ∇J| / |∇J|")
    for name, label, colour in (
        ("variance_without_baseline", "b = 0: grows as 1/σ²", COLOURS[1]),
        ("variance_with_value", "b = the value: stays", COLOURS[2]),
    ):
        right.loglog(found["sigma"], found[name], color=colour, lw=2, label=label)
    label = "squared mean (the deterministic theorem's variance is 0)"
    right.axhline(found["squared_mean"], color="black", ls="--", lw=1, label=label)
    right.set_title("variance of ∇ln π (q − b), one action in one state", loc="left")
    right.set(xlabel="σ", ylabel="tr Cov")
    right.set(ylim=(None, 1e10))
    right.legend(frameon=False, loc="upper right")
    return fig


HEAD = "wrong", "error of states", "error of critic", "whole error", "cosine with ∇J"


def markdown(record):
    rows = [row.values() for row in record["errors"]]
    cells = [(name, *(f"{x:.4f}" for x in numbers)) for name, *numbers in rows]
    text = "# The deterministic policy gradient on the regulator, exactly\n\n"
    text += "The spring at half its best gain; errors are relative to |∇J|, and parts are vectors: "
    text += "their sum, not that of their lengths, is the whole.\n\n" + study.table(HEAD, cells)
    return text + "\n![σ → 0](regulator.png)\n"


def measured(*_):
    return dict(limit=limit(), errors=[dict(zip(HEAD, row)) for row in wrong()])


STUDIES = {"regulator": Whole(measured, markdown, picture)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
