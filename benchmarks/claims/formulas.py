"""Claims decided by closed forms and short simulations: discretised actions, RMSProp's ε, noise,
target networks as filters."""

import numpy as np

from algorithms.ddpg_noise import Noise
from algorithms.exact.lqr import optimal_gain, spring
from benchmarks.claims.claim import CLAIMED, Claim, Found, claim, graded
from npgrad.optimizers import rmsprop, rmsprop_outside


@claim("1.1", "Cutting continuous actions into a few discrete ones is often too coarse.")
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
    rest = (
        f"A mass on a spring (LQR), force within ± 4, {n:,} starts: cost with k forces, evenly "
        f"spaced and chosen by q*, beside that of K*: {text}. As fine in d dimensions takes k^d"
    )
    number = f"{more[0]:+.0%} of cost with {ks[0]} forces, {more[-1]:+.1%} with {ks[-1]}"
    return Found(graded(more > 0.05), number, rest)


@claim("3.2.2", "RMSProp: θ ← θ − η Δθ/√(g + ε), with ε against division by zero.")
def inside(options):
    """Right if our step, which is A3C's, is that; ε matters where |Δθ| is small beside √ε."""
    text, same, first = [], [], None
    for d in (1e-3, 1e-2, 1e-1, 1.0):
        m = np.array([[d * d]])  # g at rest
        steps = [f(np.array([d]), m.copy(), 1, 1.0, eps=0.1)[0] for f in (rmsprop, rmsprop_outside)]
        text.append(f"{d:g}: {steps[0]:.4f} and {steps[1]:.4f}")
        same.append(np.isclose(steps[0], d / np.sqrt(d * d + 0.1), rtol=1e-12))
        first = first or steps[0]
    rest = (
        f"step per η for ε = 0.1 inside and outside the root, Δθ steady at {'; '.join(text)}. ε "
        "does more than prevent division by zero: it shortens every step with |Δθ| below √ε"
    )
    number = f"{first:.4f} η is the step for a steady Δθ = 0.001 and ε = 0.1; 1 η without ε"
    return Found("right" if all(same) else "wrong", number, rest)


@claim("4.2", "Ornstein–Uhlenbeck (OU) noise is like 0.05 sin(0.1 t): it changes by ± 0.02.")
def sinus(options):
    """Right if OU noise, with the paper's values, keeps within ± 0.05 as the sine does (95 %)."""
    stationary = lambda form: np.divide(*(lambda k, s: (s, np.sqrt(1 - k * k)))(
        *Noise(ou_form=form).coefficients(0.2)))  # fmt: skip
    exact, euler = stationary("exact"), stationary("euler")
    rng, u, N, path = np.random.default_rng(0), np.zeros(1), np.zeros(1), []
    noise = Noise(ou_form="exact")
    for t in range(10_000 if options.quick else 100_000):
        noise.explore(u, N, t, rng)
        path.append(N[0])
    path = np.array(path)
    within = np.mean(abs(path) <= 0.05)
    rest = (
        f"OU is random: s.d. {exact:.3f} (exact discretisation) or {euler:.3f} (Euler–Maruyama), "
        f"{path.std():.3f} over {len(path):,} steps; |N| ≤ 0.02 {np.mean(abs(path) <= 0.02):.0%} "
        f"of the time; correlation at lag 10 {np.exp(-1.5):.2f}, at lag 31 {np.exp(-4.65):.2f}, of "
        f"the sine {np.cos(1):.2f} and −1.00"
    )
    number = f"{within:.0%} of the time |N| ≤ 0.05 (ou_theta = 0.15, σ = 0.2)"
    data = dict(path=path[:200].round(4).tolist())
    return Found("right" if within > 0.95 else "wrong", number, rest, data)


@claim("4.2.2", "OU noise changes actions little by little, ε-greedy noise abruptly.")
def sudden(options):
    """Right if OU noise changes the action less from step to step than noise of the same s.d."""
    noise = Noise(ou_form="exact")
    keep, spread = noise.coefficients(0.2)
    sd = spread / np.sqrt(1 - keep**2)
    ou, white = sd * np.sqrt(2 * (1 - keep)), sd * np.sqrt(2)
    rest = (
        f"r.m.s. change of N in a step, same s.d. {sd:.3f}: OU {ou:.3f}, white {white:.3f}; a "
        f"uniform action where u = 0 jumps by {1 / np.sqrt(3):.3f} (units of half the range)"
    )
    number = f"{ou / white:.2f} of the change of white noise as strong, from step to step"
    return Found("right" if ou < white else "wrong", number, rest)


@claim("4.2.2", "OU noise is Markov, ε-greedy noise independent from step to step.")
def independent(options):
    """Right if OU's next value depends on the last alone and ε-greedy's on none, as far as
    correlations within three standard errors tell."""
    n, found = 10_000 if options.quick else 100_000, []
    for noise in (Noise(ou_form="exact"), Noise("epsilon", epsilon=0.5)):
        rng, u, N, path = np.random.default_rng(0), np.zeros(1), np.zeros(1), []
        for t in range(n):
            a = noise.explore(u, N, t, rng)
            path.append(N[0] if noise.noise == "ou" else a[0])
        one, two = (np.corrcoef(path[k:], path[:-k])[0, 1] for k in (1, 2))
        found += [one, (two - one**2) / (1 - one**2)]
    rest = (
        f"correlation at lag 1, and at lag 2 given the value between, {n:,} steps: OU "
        f"{found[0]:+.3f} and {found[1]:+.3f} (e^−0.15 = {np.exp(-0.15):.3f} and 0), ε-greedy "
        f"about u = 0, ε = ½, {found[2]:+.3f} and {found[3]:+.3f}"
    )
    number = f"{found[1]:+.3f}: correlation of OU at lag 2, given the value between"
    none = np.abs(found) < 3 / np.sqrt(n)
    return Found("right" if (none == [False, True, True, True]).all() else "wrong", number, rest)


@claim("4.3", "Soft target parameters are an exponential moving average, a low-pass filter.")
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
    rest = (
        f"{'; '.join(text)}. Of a constant θ all is left. A hard copy every C has mean age "
        "(C − 1)/2, and jumps C steps at once"
    )
    number = f"{gain[-1] / gain[0]:.3f} of a θ that alternates is left, for τ = 0.01"
    return Found("right" if all(same) else "wrong", number, rest)


for name, notes, says, why in (
    ("dimensions", "1.1", "In many dimensions value methods lose efficiency and precision; policy "
     "gradients are made for them.",
     "No task here is learned by both in few and in many dimensions"),
    ("fire", "1.2.2.1.1", "On Atari, one lucky shot teaches a policy without baseline to fire "
     "everywhere.",
     "There is no Atari here; rare_action and collapse are as near as it gets"),
):  # fmt: skip
    CLAIMED[name] = Claim(notes, says, lambda options, why=why: Found("unmeasured", "–", why))
