"""Claims decided exactly, or nearly: finite worlds, closed forms, one formula against another."""

from dataclasses import replace
from functools import lru_cache, partial

import gymnasium
import numpy as np

import algorithms.exact.register  # noqa: F401
from algorithms.common.policy import Network, make_policy
from algorithms.ddpg_noise import Noise
from algorithms.exact.laboratory import expectation, moments
from algorithms.exact.lqr import optimal_gain, spring
from algorithms.exact.mdp import FiniteMDPEnv, discounted_occupancy, expected_return, state_values
from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM, chain, short_corridor_value
from algorithms.referee.estimators import n_step, open_study, weigh
from benchmarks.claims.claim import CLAIMED, Claim, claim, graded
from benchmarks.entropy import bandit
from benchmarks.laboratory import WORLDS
from npgrad.optimizers import rmsprop, rmsprop_outside

LINEAR = Network(approximator="linear")


def tabular(mdp, theta, horizon=None):
    """Return the laboratory's Study of a tabular softmax."""
    return open_study(mdp, make_policy(FiniteMDPEnv(mdp), LINEAR), theta, horizon)


@lru_cache
def studies():
    """Return {world: Study} of the laboratory's worlds, θ ~ N(0, 1) of seed 0."""
    found = {}
    for env_id, (horizon, _) in WORLDS.items():
        mdp = gymnasium.make(env_id).unwrapped.mdp
        size = make_policy(FiniteMDPEnv(mdp), LINEAR).model.layout.size
        found[env_id.split("/")[1].removesuffix("-v0")] = tabular(
            mdp, np.random.default_rng(0).standard_normal(size), horizon
        )
    return found


@lru_cache
def variances():
    """Return {world: {estimator: tr Cov ĝ of one episode}}, exactly."""
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
    """Return "world ratio, ..." of two estimators' variances, and the ratios."""
    found = {world: row[above] / row[below] for world, row in variances().items()}
    return ", ".join(f"{world} {x:.3g}" for world, x in found.items()), list(found.values())


@claim("1.1", "the policy is adjusted by gradient descent")
def ascent(options):
    """Right if J rose along −∇J."""
    theta, J = np.random.default_rng(0).standard_normal(10), []
    g = expectation(tabular(chain(), theta))
    for step in (0.0, 0.01, -0.01):
        x = tabular(chain(), theta + step * g)
        J.append(expected_return(x.mdp, x.pi))
    up, down = J[1] - J[0], J[2] - J[0]
    verdict = "right" if down > 0 else "wrong"
    return verdict, f"chain: J + {up:.2e} along 0.01 ∇J, {down:.2e} along −0.01 ∇J: ascent", None


@claim("1.1", "the best policy may have to be stochastic")
def stochastic(options):
    """Right if some stochastic policy of the corridor beats all deterministic ones."""
    greedy = max(short_corridor_value(p) for p in (0.05, 0.95))
    p, best = SHORT_CORRIDOR_OPTIMUM
    number = (
        f"short corridor: both deterministic policies never end (−∞), the better 0.1-greedy one "
        f"has {greedy:.1f}, π(right) = {p:.3f} has {best:.3f}"
    )
    return "right" if best > greedy else "wrong", number, None


@claim("1.1", "discretising continuous actions is often too coarse")
def coarse(options):
    """Right if the one of k forces that has the greatest q* costs over 5 % more for every k, partly
    if for some; the best policy of k forces may cost less."""
    lqr, ks, costs = spring(), (3, 5, 9, 17, 33), []
    K, n = optimal_gain(lqr), 200 if options.quick else 2000
    for k in (None, *ks):
        rng, cost = np.random.default_rng(0), 0.0
        s = rng.standard_normal((n, 2)) @ np.sqrt(lqr.Sigma0)
        for t in range(200):
            a = np.clip(-s @ K.T, -4.0, 4.0)
            if k:  # the nearest of them: q* is a parabola in a
                a = np.round((a + 4.0) * (k - 1) / 8.0) * 8.0 / (k - 1) - 4.0
            cost += lqr.gamma**t * (((s @ lqr.Q) * s).sum(1) + lqr.R[0, 0] * a[:, 0] ** 2).mean()
            s = s @ lqr.A.T + a @ lqr.B.T + rng.standard_normal((n, 2)) @ np.sqrt(lqr.W)
        costs.append(cost)
    more = np.array(costs[1:]) / costs[0] - 1
    text = ", ".join(f"{k}: {x:+.1%}" for k, x in zip(ks, more))
    number = (
        f"a mass on a spring (LQR), force within ± 4, {n:,} starts: cost with k forces, evenly "
        f"spaced and chosen by q*, beside that of K*: {text}. As fine in d dimensions takes k^d"
    )
    return graded(more > 0.05), number, None


@claim("1.1", "a policy learned directly is spared the errors of value functions")
def errors_of_v(options):
    """Right if E ĝ is ∇J for a wrong v̂ in REINFORCE and actor–critic alike, partly if in one."""
    errors = []
    for x in studies().values():
        v, gamma = state_values(x.mdp, x.pi), x.mdp.gamma
        size = np.linalg.norm(expectation(x))
        weights = partial(weigh, gamma=gamma, baseline=0.5 * v), n_step(0.5 * v, gamma, 1)
        errors.append([np.linalg.norm(moments(x, w).bias) / size for w in weights])
    baseline, critic = np.max(errors, 0)
    number = (
        f"v̂ = v/2, exactly, five worlds: |E ĝ − ∇J|/|∇J| at most {baseline:.0e} where v̂ is "
        f"REINFORCE's baseline, {critic:.2f} where one-step actor–critic bootstraps from it"
    )
    return graded([error < 1e-9 for error in (baseline, critic)]), number, None


@claim("1.2.1", "∇J = E[Σ_t ∇ln π_t · Σ_t γ^t r_t]: product to T − 1, sums to T")
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


@claim("1.2.1", "R(τ) weighs every action of an episode", pictures=("claims",))
def to_go(options):
    """Unsupported if some world has more variance by rewards to go than by total returns."""
    text, values = ratios("total return", "reward to go")
    verdict = "partly" if min(values) > 1 - 1e-9 else "unsupported"
    number = f"R(τ) for every action: variance over that of rewards to go: {text}"
    return verdict, f"{number}. A right formula, not the best", None


@claim("3.2.2", "RMSProp: ε inside the root, against division by zero")
def inside(options):
    """Right if our step, A3C's eqs 8–9, is the notes'; ε matters where |Δθ| is small beside √ε."""
    text, same = [], []
    for d in (1e-3, 1e-2, 1e-1, 1.0):
        m = np.array([[d * d]])  # g at rest
        steps = [f(np.array([d]), m.copy(), 1, 1.0, eps=0.1)[0] for f in (rmsprop, rmsprop_outside)]
        text.append(f"{d:g}: {steps[0]:.4f} and {steps[1]:.4f}")
        same.append(np.isclose(steps[0], d / np.sqrt(d * d + 0.1), rtol=1e-12))
    number = "step per η for ε = 0.1 inside and outside the root, Δθ steady at " + "; ".join(text)
    number += ". It does more than prevent division by zero"
    return "right" if all(same) else "wrong", number, None


@claim("3.2.2", "A3C maximises J = E[R] + βH(π)")
def objective(options):
    """Right if E Σ_t γ^t ∇H(π(s_t)), which A3C adds (without γ^t), is the gradient of E Σ_t γ^t H
    everywhere."""
    cosines, alone = {}, tabular(bandit([0.0, 0.0, 1.0]), np.log([0.9, 0.05, 0.05, 1.0, 1.0, 1.0]))
    for world, x in (studies() | {"a bandit": alone}).items():
        log = np.log(x.pi)
        H = -(x.pi * log).sum(1)
        added = -np.einsum("s,sa,san->n", discounted_occupancy(x.mdp, x.pi), x.pi * log, x.scores)
        r = np.broadcast_to(H[:, None, None], x.mdp.P.shape)
        full = added + expectation(x._replace(mdp=replace(x.mdp, r=r)))
        cosines[world] = added @ full / np.linalg.norm(added) / np.linalg.norm(full)
    text = ", ".join(f"{world} {c:.3f}" for world, c in cosines.items())
    number = (
        f"exactly, cosine of the entropy term's expected update with the gradient of E Σ_t γ^t H: "
        f"{text}. The term leaves out that actions lead to states of more or less entropy"
    )
    return graded([c > 1 - 1e-9 for c in cosines.values()]), number, None


@claim("3.3", "A2C lessens the high variance of REINFORCE")
def critic_variance(options):
    """Right if actor–critic has less variance in every world; biased where v̂ is wrong."""
    text, values = ratios("reward to go", "actor–critic, v̂ = v")
    cosines = {}
    for world, x in studies().items():
        v = state_values(x.mdp, x.pi)
        cosines[world] = moments(x, n_step(0.5 * v, x.mdp.gamma, 1)).cosine
    least = min(cosines, key=cosines.get)
    number = (
        f"exactly, tr Cov ĝ of REINFORCE over that of one-step actor–critic with v̂ = v: {text}. "
        f"Bought with bias: with v̂ = v/2 the cosine of E ĝ with ∇J falls to {cosines[least]:.2f} "
        f"({least})"
    )
    return "right" if min(values) > 1 else "partly", number, variances()


@claim("4.2", "OU noise, e.g. N_t = 0.05 sin(0.1 t); changes of ± 0.02")
def sinus(options):
    """Right if OU noise, with the paper's values, kept within ± 0.05 as the sine does (95 %)."""
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
    verdict = "right" if np.mean(abs(path) <= 0.05) > 0.95 else "wrong"
    return verdict, number, dict(path=path[:200].round(4).tolist())


@claim("4.2.2", "OU changes actions little by little, ε-greedy suddenly")
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


@claim("4.2.2", "OU noise is Markov, ε-greedy noise independent")
def independent(options):
    """Right if OU's next value depended on the last alone and ε-greedy's on none, as far as
    correlations within three standard errors tell."""
    n, found = 10_000 if options.quick else 100_000, []
    for noise in (Noise(ou_form="exact"), Noise("epsilon", epsilon=0.5)):
        rng, u, N, path = np.random.default_rng(0), np.zeros(1), np.zeros(1), []
        for t in range(n):
            a = noise.explore(u, N, t, rng)
            path.append(N[0] if noise.noise == "ou" else a[0])
        one, two = (np.corrcoef(path[k:], path[:-k])[0, 1] for k in (1, 2))
        found += [one, (two - one**2) / (1 - one**2)]
    number = (
        f"correlation of N at lag 1, and at lag 2 given the one between, {n:,} steps: OU "
        f"{found[0]:+.3f} and {found[1]:+.3f} (e^−0.15 = {np.exp(-0.15):.3f} and 0), ε-greedy "
        f"about u = 0, ε = ½, {found[2]:+.3f} and {found[3]:+.3f}"
    )
    none = np.abs(found) < 3 / np.sqrt(n)
    return "right" if (none == [False, True, True, True]).all() else "wrong", number, None


@claim("4.3", "θ⁻ is an exponential moving average, a low-pass filter")
def low_pass(options):
    """Right if θ⁻ is the mean of past θ, their ages distributed geometrically, and what alternates
    is damped most."""
    text, same = [], []
    theta = np.random.default_rng(0).standard_normal(5000)
    for tau in (0.001, 0.005, 0.01):
        age, half = (1 - tau) / tau, np.log(0.5) / np.log(1 - tau)
        target = 0.0
        for x in theta:
            target = tau * x + (1 - tau) * target
        mean = tau * (1 - tau) ** np.arange(len(theta))[::-1] @ theta
        w = np.linspace(0, np.pi, 100)
        gain = tau / abs(1 - (1 - tau) * np.exp(-1j * w))
        same.append(np.isclose(target, mean, rtol=1e-9) and (np.diff(gain) < 0).all())
        text.append(f"τ = {tau:g}: mean age {age:.0f} updates, half gone after {half:.0f}")
    number = (
        f"{'; '.join(text)}. Of a θ that alternates {gain[-1] / gain[0]:.3f} is left (τ = 0.01), "
        "of a constant one all. A hard copy every C has mean age (C − 1)/2, and jumps C steps at "
        "once"
    )
    return "right" if all(same) else "wrong", number, None


for name, notes, says, why in (
    ("dimensions", "1.1",
     "many dimensions cost value methods efficiency and precision, policy gradients less",
     "no task here is learned by both in few and in many dimensions"),
    ("fire", "1.2.2.1", "on Atari, one lucky shot makes π fire everywhere",
     "there is no Atari here; rare_action and collapse are as near as it gets"),
):  # fmt: skip
    CLAIMED[name] = Claim(notes, says, lambda options, why=why: ("unmeasured", why, None))
