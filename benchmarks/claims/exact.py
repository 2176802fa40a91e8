"""Claims decided exactly, or nearly: finite worlds, closed forms, one formula against another."""

from functools import lru_cache, partial

import gymnasium
import numpy as np

import algorithms.common.register  # noqa: F401
from algorithms.common.laboratory import expectation, moments
from algorithms.common.mdp import FiniteMDPEnv, expected_return, state_values
from algorithms.common.noise import Noise
from algorithms.common.policy import Network, make_policy
from algorithms.common.worlds import SHORT_CORRIDOR_OPTIMUM, chain, short_corridor_value
from algorithms.runner.laboratory import n_step, open_study, weigh
from benchmarks.entropy import bandit
from benchmarks.laboratory import WORLDS
from npgrad.optimizers import rmsprop, rmsprop_outside

LINEAR = Network(approximator="linear")


def study(mdp, theta, horizon=None):
    """The laboratory's Study of a tabular softmax."""
    return open_study(mdp, make_policy(FiniteMDPEnv(mdp), LINEAR), theta, horizon)


@lru_cache
def studies():
    """{world: Study} of the laboratory's worlds, θ ~ N(0, 1) of seed 0."""
    found = {}
    for env_id, (horizon, _) in WORLDS.items():
        mdp = gymnasium.make(env_id).unwrapped.mdp
        size = make_policy(FiniteMDPEnv(mdp), LINEAR).model.layout.size
        found[env_id.split("/")[1].removesuffix("-v0")] = study(
            mdp, np.random.default_rng(0).standard_normal(size), horizon
        )
    return found


@lru_cache
def variances():
    """{world: {estimator: tr Cov ĝ of one episode}}, exactly."""
    table = {}
    for world, x in studies().items():
        v, of = state_values(x.mdp, x.pi), partial(weigh, gamma=x.mdp.gamma)
        estimators = {
            "total return": partial(of, weighting="total", baseline=0 * v),
            "reward to go": partial(of, baseline=0 * v),
            "reward to go − v": partial(of, baseline=v),
            "actor–critic, v̂ = v": n_step(v, x.mdp.gamma, 1),
        }
        table[world] = {name: moments(x, w).total_variance for name, w in estimators.items()}
    return table


def ratios(above, below):
    """ "world ratio, ..." of two estimators' variances, and the ratios."""
    found = {world: row[above] / row[below] for world, row in variances().items()}
    return ", ".join(f"{world} {x:.3g}" for world, x in found.items()), list(found.values())


def ascent(options):
    """Right if J rose along −∇J."""
    theta, J = np.random.default_rng(0).standard_normal(10), []
    g = expectation(study(chain(), theta))
    for step in (0.0, 0.01, -0.01):
        x = study(chain(), theta + step * g)
        J.append(expected_return(x.mdp, x.pi))
    up, down = J[1] - J[0], J[2] - J[0]
    verdict = "right" if down > 0 else "wrong"
    return verdict, f"chain: J + {up:.2e} along 0.01 ∇J, {down:.2e} along −0.01 ∇J: ascent", None


def stochastic(options):
    """Right if some stochastic policy of the corridor beats all deterministic ones."""
    greedy = max(short_corridor_value(p) for p in (0.05, 0.95))
    p, best = SHORT_CORRIDOR_OPTIMUM
    number = (
        f"short corridor: both deterministic policies never end (−∞), the better 0.1-greedy one "
        f"has {greedy:.1f}, π(right) = {p:.3f} has {best:.3f}"
    )
    return "right" if best > greedy else "wrong", number, None


def total_return(options):
    """Right if E ĝ is ∇J in every world, and the sums' limits agreed with the product's."""
    worst = 0.0
    for x in studies().values():
        v = 0 * state_values(x.mdp, x.pi)
        of = partial(weigh, gamma=x.mdp.gamma, weighting="total", baseline=v)
        worst = max(worst, np.linalg.norm(moments(x, of).bias) / np.linalg.norm(expectation(x)))
    number = (
        f"|E ĝ − ∇J|/|∇J| at most {worst:.0e} in five worlds, every episode enumerated: unbiased. "
        "But T actions are t = 0 … T − 1, in the sums as in the product"
    )
    return "partly" if worst < 1e-9 else "wrong", number, None


def to_go(options):
    """Unsupported if some world has more variance by rewards to go than by total returns."""
    text, values = ratios("total return", "reward to go")
    verdict = "partly" if min(values) > 1 - 1e-9 else "unsupported"
    number = f"R(τ) for every action: variance over that of rewards to go: {text}"
    return verdict, f"{number}. A right formula, not the best", None


def rare_action(options):
    """Right if a baseline changed what a rarely taken action expects to gain."""
    mdp = bandit([0.0, 0.0, 1.0])
    x = study(mdp, np.concatenate([np.log([0.98, 0.01, 0.01]), np.zeros(3)]))
    v, gains = state_values(mdp, x.pi), []
    for b in (0 * v, v):
        gains.append(moments(x, partial(weigh, gamma=1.0, baseline=b)).mean)
    number = (
        f"best of three arms, π = 0.01: its preference expects {gains[0][2]:.5f} per episode "
        f"without and {gains[1][2]:.5f} with b = v, difference "
        f"{abs(gains[0] - gains[1]).max():.0e}; in 100 episodes it is never tried with probability "
        f"{0.99**100:.2f}, whatever b is. The problem is real, but no baseline solves it"
    )
    return "wrong" if np.allclose(*gains) else "right", number, None


def inside(options):
    """Right by A3C's eqs 8–9; how much it matters where |Δθ| is small beside √ε."""
    text = []
    for d in (1e-3, 1e-2, 1e-1, 1.0):
        m = np.array([[d * d]])  # g at rest
        steps = [f(np.array([d]), m.copy(), 1, 1.0, eps=0.1)[0] for f in (rmsprop, rmsprop_outside)]
        text.append(f"{d:g}: {steps[0]:.4f} and {steps[1]:.4f}")
    number = "step per η for ε = 0.1 inside and outside the root, Δθ steady at " + "; ".join(text)
    return "right", f"{number}. It does more than prevent division by zero", None


def critic_variance(options):
    """Right if actor–critic has less variance in every world; biased where v̂ is wrong."""
    text, values = ratios("reward to go", "actor–critic, v̂ = v")
    cosines = []
    for x in studies().values():
        v = state_values(x.mdp, x.pi)
        cosines.append(moments(x, n_step(0.5 * v, x.mdp.gamma, 1)).cosine)
    number = (
        f"exactly, tr Cov ĝ of REINFORCE over that of one-step actor–critic with v̂ = v: {text}. "
        f"Bought with bias: with v̂ = v/2 the cosine of E ĝ with ∇J falls to {min(cosines):.2f} "
        "(chain)"
    )
    return "right" if min(values) > 1 else "partly", number, variances()


def sinus(options):
    """Right if N_t = 0.05 sin(0.1 t) looked like OU noise with the paper's values."""
    stationary = lambda form: np.divide(*(lambda k, s: (s, np.sqrt(1 - k * k)))(
        *Noise(ou_form=form).coefficients(0.2)))  # fmt: skip
    exact, euler = stationary("exact"), stationary("euler")
    rng, u, N, path = np.random.default_rng(0), np.zeros(1), np.zeros(1), []
    noise = Noise(ou_form="exact")
    for t in range(100_000):
        noise.explore(u, N, t, rng)
        path.append(N[0])
    path = np.array(path)
    number = (
        f"OU is random: s.d. {exact:.3f} (exact discretisation) or {euler:.3f} (Euler–Maruyama), "
        f"{path.std():.3f} over {len(path):,} steps; |N| ≤ 0.05 {np.mean(abs(path) <= 0.05):.0%} "
        f"of the time, ≤ 0.02 {np.mean(abs(path) <= 0.02):.0%}; correlation at lag 10 "
        f"{np.exp(-1.5):.2f}, at lag 31 {np.exp(-4.65):.2f}, of the sine {np.cos(1):.2f} and −1.00"
    )
    return "wrong", number, dict(path=path[:200].round(4).tolist())


def sudden(options):
    """Right if OU noise changes the action less from step to step than noise of the same s.d."""
    noise = Noise(ou_form="exact")
    keep, spread = noise.coefficients(0.2)
    sd = spread / np.sqrt(1 - keep**2)
    ou, white = sd * np.sqrt(2 * (1 - keep)), sd * np.sqrt(2)
    number = (
        f"r.m.s. change of N in a step, same s.d. {sd:.3f}: OU {ou:.3f}, white {white:.3f}; a "
        f"uniform action where u = 0 jumps by {1 / np.sqrt(3):.3f} (units of half the range)"
    )
    return "right" if ou < white else "wrong", number, None


def low_pass(options):
    """Right: θ⁻ is the mean of past θ, their ages distributed geometrically."""
    text = []
    for tau in (0.001, 0.005, 0.01):
        age, half = (1 - tau) / tau, np.log(0.5) / np.log(1 - tau)
        text.append(f"τ = {tau:g}: mean age {age:.0f} updates, half gone after {half:.0f}")
    number = (
        "; ".join(text) + ". A hard copy every C has mean age (C − 1)/2, and jumps C steps at once"
    )
    return "right", number, None
