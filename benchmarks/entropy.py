"""The entropy bonus β ∇H against what the notes (3.2.3) say of it: exact, and on CartPole-v1.

    python -m benchmarks.entropy [--seeds 10] [--draw]

path      h += η ∂H/∂h from π = [0.9, 0.05, 0.05], in time s = η · updates, η small: where it passes
          [0.4, 0.3, 0.3], where it goes; and with an advantage, h += η ∂(adv·π + βH)/∂h, whose only
          stationary policy is π ∝ exp(adv/β)
variance  tr Cov ĝ of one episode, exactly, by enumeration, while a policy is flattened: h ← κh,
          from sharp (κ > 1) to uniform (κ = 0). A bandit whose policy is [0.9, 0.05, 0.05] at κ = 1
          and favours the best or a bad arm; two MDPs, θ ~ N(0, 1) of seed 0. ĝ: reward-to-go, b = v
gaussian  the same of one normal action: r(a) = −(a − a*)² + noise, exactly, by Gauss–Hermite
segments  tr Cov of A3C's segment gradients on CartPole-v1 (β = 0) with respect to the preferences'
          biases, for policies that learned 15,000 steps. v̂ is always that of κ = 1; for other κ it
          is wrong, which makes advantages larger
cartpole  A3C with two workers, five β: the mean of the last 100 training episodes, the entropy of
          the policy in the states that the workers visit, and 20 greedy episodes at the end

Writes results/entropy.json, .md and .png.
"""

from functools import partial

import gymnasium
import numpy as np

from algorithms import a3c
from algorithms.common.policy import Network, make_actor_critic, make_policy
from algorithms.exact.laboratory import expectation, moments
from algorithms.exact.mdp import FiniteMDP, FiniteMDPEnv, discounted_occupancy, state_values
from algorithms.exact.worlds import chain, garnet
from algorithms.referee.estimators import open_study, weigh
from algorithms.runner.plot import COLOURS, at_steps, running_mean
from benchmarks import figures, measure, study
from benchmarks.figures import dress
from benchmarks.study import Whole
from npgrad import Softmax

START, PASSED = np.array([0.9, 0.05, 0.05]), np.array([0.4, 0.3, 0.3])
ETA, DURATION = 0.01, 40.0
ADVANTAGE, BETAS_EXACT = np.array([1.0, 0.0, 0.0]), (0.0, 0.1, 0.3, 1.0, 3.0)
KAPPAS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
CARTPOLE = dict(workers=2, t_max=20, step_size=2e-3, eps=1e-5)
BETAS, T_MAX, GRID = (0.0, 0.001, 0.01, 0.1, 1.0), 60_000, 1000
HALFWAY, SEGMENTS = 15_000, 300
SETTINGS = dict(cartpole=CARTPOLE, T_max=T_MAX, grid=GRID, halfway=HALFWAY, segments=SEGMENTS)


def follow(advantage, beta, h, eta, duration):
    """Return π (updates + 1, A) along h += η ∂(adv·π + βH)/∂h, ascent, each update exact."""
    h, path = h.copy(), []
    for _ in range(round(duration / eta) + 1):
        pi = Softmax(h)
        path.append(pi.probs())
        h += eta * (pi.mean_gradient(advantage) + beta * pi.entropy_gradient())
    return np.array(path)


def crossing(path, level, eta):
    """Return the time s at which π_0 falls to `level`, between two updates linearly."""
    k = int(np.argmax(path[:, 0] <= level))
    above, below = path[k - 1, 0], path[k, 0]
    return eta * (k - 1 + (above - level) / (above - below))


def path():
    """Return, of entropy alone, the time of the passage and what is left of the way; and the paths
    with an advantage."""
    h, none = np.log(START), np.zeros(3)
    alone = follow(none, 1.0, h, ETA, DURATION)
    passed = crossing(alone, PASSED[0], ETA)
    finer = crossing(follow(none, 1.0, h, ETA / 10, 1.1 * passed), PASSED[0], ETA / 10)
    nearest = int(np.abs(alone - PASSED).max(1).argmin())
    table = {}
    for beta in BETAS_EXACT:
        ends = follow(ADVANTAGE, beta, h, 0.5, 4000.0)[-1]
        stationary = Softmax(ADVANTAGE / beta).probs() if beta else ADVANTAGE
        table[f"{beta:g}"] = dict(
            stationary=stationary.tolist(),
            miss=float(np.abs(ends - stationary).max()),
            path=follow(ADVANTAGE, beta, h, ETA, DURATION)[::20].round(4).tolist(),
        )
    others = [[0.7, 0.28, 0.02], [0.02, 0.9, 0.08], [0.02, 0.08, 0.9], [0.02, 0.55, 0.43]]
    return dict(
        passed_at=float(passed),
        passed_at_with_smaller_steps=float(finer),
        nearest_miss=float(np.abs(alone[nearest] - PASSED).max()),
        pi_at={f"{s:g}": alone[round(s / ETA)].tolist() for s in (1, 2, 5, 10, 20, 40)},
        beta_that_stops_there=float((ADVANTAGE[0] - ADVANTAGE[1]) / np.log(PASSED[0] / PASSED[1])),
        entropy_always_rises=bool((np.diff(-(alone * np.log(alone)).sum(1)) > 0).all()),
        alone=alone[::20].round(4).tolist(),
        others=[
            follow(none, 1.0, np.log(pi), ETA, DURATION)[::20].round(4).tolist() for pi in others
        ],
        with_advantage=table,
    )


def bandit(rewards):
    """Return a world of one step: the arms pay `rewards`."""
    P = np.zeros((2, len(rewards), 2))
    P[:, :, 1] = 1.0
    return FiniteMDP(P, np.array([rewards, np.zeros(3)]), np.eye(2)[0], 1.0, np.arange(2) == 1)


def variance():
    """Return entropy, tr Cov ĝ and |∇J|² for each κ and world."""
    h = np.concatenate([np.log(START), np.zeros(3)])
    normal = np.random.default_rng(0).standard_normal
    worlds = {
        "bandit, best arm favoured": (bandit([1.0, 0.0, 0.0]), h, None),
        "bandit, bad arm favoured": (bandit([0.0, 1.0, 0.0]), h, None),
        "chain": (chain(), normal(10), None),
        "garnet, 5 steps": (garnet(0), normal(8), 5),
    }
    table = {}
    for name, (mdp, theta, horizon) in worlds.items():
        policy = make_policy(FiniteMDPEnv(mdp), Network(approximator="linear"))
        table[name] = [flattened(mdp, policy, kappa * theta, horizon) for kappa in KAPPAS]
    return table


def flattened(mdp, policy, theta, horizon):
    opened = open_study(mdp, policy, theta, horizon)
    mdp, pi = opened.mdp, opened.pi
    v, d = state_values(mdp, pi), discounted_occupancy(mdp, pi)
    H = -(pi * np.log(pi)).sum(1)
    found = moments(opened, partial(weigh, gamma=mdp.gamma, baseline=v))
    signal = float(np.sum(expectation(opened) ** 2))
    return dict(entropy=float(d @ H / d.sum()), variance=found.total_variance, signal=signal)


def gaussian(distance=1.0, noise=1.0):
    """Return Var of (r − E r) ∂ln π/∂μ = (r − E r) z/σ, and (∂J/∂μ)², at μ = a* + distance; σ is
    held."""
    z, weights = np.polynomial.hermite_e.hermegauss(12)  # exact: the integrands are polynomials
    weights, table = weights / weights.sum(), []
    for sigma in SIGMAS:
        r = -((distance + sigma * z) ** 2)
        g = (r - weights @ r) * z / sigma
        mean = weights @ g
        spread = weights @ (g - mean) ** 2 + noise**2 / sigma**2  # E z² = 1
        H = float(0.5 * np.log(2 * np.pi * np.e * sigma**2))
        table.append(dict(sigma=sigma, entropy=H, variance=float(spread), signal=float(mean**2)))
    return table


def learned(beta, T_max, seed, until, watch=None):
    """Let A3C learn on CartPole-v1: (env, config, state, [(T, return)]) once T has passed `until`.

    watch(T, seen)   is called after every update; seen takes, segment by segment, the sum of the
                     entropies of its states, and their number
    """
    env = gymnasium.make("CartPole-v1")
    config = a3c.Config(**CARTPOLE, T_max=T_max, beta=beta)
    state, episodes, seen = a3c.init(env, config, seed), [], []

    def gradient(h, v, head, *rest):
        seen.append((head(h).entropy().sum(), len(h)))
        return a3c.gradient(h, v, head, *rest)

    for metrics in a3c.train(env, config, state, gradient if watch else a3c.gradient):
        episodes += [(metrics.steps, G) for G in metrics.returns]
        if watch:
            watch(metrics.steps, seen)
        if metrics.steps >= until:
            break
    return env, config, state, episodes


def cartpole(beta, seed, T_max=T_MAX):
    """Return a run: its score and entropy (nats) every GRID steps, and greedy episodes at the
    end."""
    steps, entropies = [], []

    def watch(T, seen):
        if T >= GRID * (len(steps) + 1):
            total, k = np.sum(seen, 0)
            steps.append(T)
            entropies.append(round(float(total / k), 4))
            seen.clear()

    env, config, state, episodes = learned(beta, T_max, seed, T_max, watch)
    at, returns = np.array(episodes).T
    mean = running_mean(returns)
    k = measure.episodes_until(returns, 475)
    mode = measure.player(a3c, env, config, state, greedy=True)
    return dict(
        score=float(mean[-1]),
        best_score=float(mean.max()),
        greedy=float(measure.play(env, mode, 20).mean()),
        final_entropy=float(np.mean(entropies[-5:])),
        steps_until_475=k and int(at[k - 1]),
        scores=at_steps(np.array(steps), at, mean).round(1).tolist(),
        entropies=entropies,
    )


def segments(seed, n=SEGMENTS):
    """Return for each κ: mean entropy, tr Cov and |mean|² of n segment gradients (less the noise in
    it), and the mean squared advantage."""
    env, config, state, _ = learned(0.01, T_MAX, seed, HALFWAY)
    model = make_actor_critic(env, config.network, config.trunk).model
    one, _ = model.layout.views(state.theta)
    *_, (W, b, *_) = model.first.layers(one)
    last, start, rows = (W, b), (W.copy(), b.copy()), []
    for kappa in KAPPAS:
        for x, x0 in zip(last, start):
            x[...] = kappa * x0
        g, H, squares = map(np.array, zip(*held(state.theta, seed, 1, n, of_segment)))
        spread = g.var(0, ddof=1).sum()
        signal = (g.mean(0) ** 2).sum() - spread / n
        row = dict(entropy=H.mean(), variance=spread, signal=signal, squares=squares.mean())
        rows.append({name: float(x) for name, x in row.items()})
    return dict(kappas=rows)


def of_segment(h, head, A, advantage):
    """Return (Σ_t advantage_t ∂ln π_t/∂h (m,), mean entropy, mean advantage²)."""
    pi = head(h)
    return advantage @ pi.score(A), pi.entropy().mean(), (advantage**2).mean()


def held(theta, seed, workers, n, see, env=None):
    """Return [see(h, head, A, advantage) of n segments of A3C on CartPole-v1], θ being held."""
    config = a3c.Config(**CARTPOLE | dict(workers=workers, step_size=0.0, T_max=10**9))
    env, found = env or gymnasium.make("CartPole-v1"), []

    def gradient(h, v, head, A, R, advantage, *rest):
        found.append(see(h, head, A, advantage))
        return np.zeros_like(h), np.zeros_like(v)

    state = a3c.init(env, config, seed)
    state.theta[:] = theta
    for _ in a3c.train(env, config, state, gradient):
        if len(found) >= n:
            return found


def over_runs(runs, beta):
    """Return the runs of one β, by seed."""
    return [run for key, run in runs.items() if key.startswith(f"cartpole {beta} ")]


def of_segments(runs, of):
    """Return the median over seeds of of(row), for each κ: (κ,)."""
    found = [run["kappas"] for key, run in runs.items() if key.startswith("segments")]
    return np.median([[of(row) for row in rows] for rows in found], 0)


def table(record):
    """Return (statement, verdict, number, what is so, measured), row by row."""
    path, runs = record["path"], record["runs"]
    pi = lambda s: "[" + ", ".join(f"{x:.3f}" for x in path["pi_at"][s]) + "]"
    miss = max(path["with_advantage"][beta]["miss"] for beta in ("0.3", "1", "3"))
    ratios = "; ".join(
        f"{name} {rows[0]['variance'] / rows[0]['signal']:.2g} and "
        f"{rows[-1]['variance'] / rows[-1]['signal']:.2g}"
        for name, rows in record["variance"].items()
    )
    greatest = "; ".join(
        f"{name} {rows[-1]['variance']:.2g}, {rows[5]['variance']:.2g}, {rows[0]['variance']:.2g}"
        for name, rows in record["variance"].items()
    )
    sigmas = ", ".join(f"{row['variance']:.0f} at σ = {row['sigma']}" for row in record["gaussian"])
    entropy, noise, squares = (
        of_segments(runs, lambda row, name=name: row[name])
        for name in ("entropy", "variance", "squares")
    )
    segments = ", ".join(
        f"{noise[k]:,.0f} at {entropy[k]:.2f} nats (κ = {KAPPAS[k]:g}, mean advantage² "
        f"{squares[k]:,.0f})"
        for k in (9, 7, 5, 3)
    )
    large = plus_minus(over_runs(runs, 1.0), "final_entropy", ".2f")
    least, widest = min(record["gaussian"], key=lambda row: row["variance"]), record["gaussian"][-1]
    flat, sharp = record["variance"]["chain"][0], record["variance"]["chain"][-1]
    return [
        (
            "The entropy term makes π = [0.9, 0.05, 0.05] more uniform, say [0.4, 0.3, 0.3].",
            "partly",
            f"{pi('20')} is where it leads, alone (s = 20)",
            "it passes there, by symmetry, and goes on to [⅓, ⅓, ⅓]; π stays elsewhere only "
            "against advantages: π ∝ exp(adv/β)",
            f"passed at s = η·updates = {path['passed_at_with_smaller_steps']:.3f}; {pi('10')} at "
            f"10, {pi('20')} at 20; [0.4, 0.3, 0.3] is stationary if β is "
            f"{path['beta_that_stops_there']:.3f} times the first action's advantage over the "
            f"others; exp(adv/β) is reached within {miss:.0e} for β = 0.3, 1 and 3",
        ),
        (
            "High entropy lowers the variance of the policy gradient.",
            "partly",
            f"{flat['variance']:.2g} is tr Cov ĝ of the uniform policy in the chain, "
            f"{sharp['variance']:.2g} that of a sharp one",
            "a sharp policy's scores are nearly 0: tr Cov ĝ vanishes with the entropy. What rises "
            "as the policy sharpens is the noise per signal, since ∇J vanishes faster",
            f"tr Cov ĝ sharp (κ = 4), as it was (1), uniform (0): {greatest}. "
            f"tr Cov ĝ/∣∇J∣², uniform and sharp: {ratios}. CartPole segments, median of "
            f"{len([k for k in runs if k.startswith('segments')])} seeds: {segments}",
        ),
        (
            "High entropy lowers the variance of a Gaussian policy's gradient.",
            "partly",
            f"{least['variance']:.0f} is the least variance, at σ = {least['sigma']}; "
            f"{widest['variance']:.0f} at σ = {widest['sigma']}",
            "noise in the return enters by 1/σ²; what r curves within ±σ enters by σ²",
            f"Var ĝ of the mean, one above the best action, noise 1: {sigmas}",
        ),
        (
            "Subtracting βH from the loss raises the entropy H.",
            "right",
            "every update of the exact path raises H"
            if path["entropy_always_rises"]
            else "not every update raises H",
            "the loss is descended, so that H is ascended",
            "H rises at every update of the path above"
            + ("" if path["entropy_always_rises"] else ": NOT SO"),
        ),
        (
            "With β too large the policy is too random to use what it has learned.",
            "unsupported",
            f"{gap(runs, 1.0, 'score')} of return for β = 1 against β = 0, on CartPole",
            "there π stays far from sure, the seeds spread least, and its mode plays better than "
            "what is learned without the term",
            f"β = 1 against none, mean and 95 % interval: return {gap(runs, 1.0, 'score')}, greedy "
            f"{gap(runs, 1.0, 'greedy')}; the entropy stays at {large} nats of {np.log(2):.2f}",
        ),
        (
            "With β too small the policy is too sure too soon, and stays in a local optimum.",
            "unsupported",
            f"{gap(runs, 0.1, 'score')} of return for β = 0.1 against β = 0, on CartPole",
            "without the term the seeds spread most, and some fall back; ten are too few to be "
            "sure of the mean",
            "return and greedy return against β = 0: "
            + "; ".join(
                f"β = {beta:g}: {gap(runs, beta, 'score')}, {gap(runs, beta, 'greedy')}"
                for beta in BETAS[1:-1]
            ),
        ),
    ]


def plus_minus(runs, name, form):
    return study.spread([run[name] for run in runs], form)


def gap(runs, beta, name):
    """Return the mean over seeds of `name`, less what it is at β = 0, and its bootstrap
    interval."""
    x, without = ([run[name] for run in over_runs(runs, b)] for b in (beta, 0.0))
    gaps = np.subtract(x, without)
    low, high = study.interval(gaps)
    return study.minus(f"{gaps.mean():+.0f} [{low:+.0f}, {high:+.0f}]")


def markdown(record):
    head = "statement (notes, 3.2.3)", "verdict", "number", "what is so", "measured"
    names, rows = (("score", ".0f"), ("greedy", ".0f"), ("final_entropy", ".3f")), []
    for beta in BETAS:
        runs = over_runs(record["runs"], beta)
        reached = sum(run["steps_until_475"] is not None for run in runs)
        cells = [plus_minus(runs, *name) for name in names]
        rows.append([f"{beta:g}", *cells, f"{reached} of {len(runs)}"])
    count = f"A3C on CartPole-v1 after {T_MAX:,} steps, mean ± s.d. of {len(runs)} seeds:"
    names = "β", "last 100 training episodes", "20 greedy episodes", "entropy, nats", "475 reached"
    return f"{study.table(head, table(record))}\n{count}\n\n{study.table(names, rows)}"


def picture(record):
    fig, axes = figures.subplots(2, 3, (15, 8.6))
    draw_simplex(axes[0, 0], record["path"])
    draw_stationary(axes[0, 1], record["path"])
    draw_variance(axes[0, 2], axes[1, 0], record)
    seeds, uniform = len(over_runs(record["runs"], BETAS[0])), np.log(2)
    draw_bands(axes[1, 1], record["runs"], "scores")
    dress(
        axes[1, 1],
        f"A3C on CartPole-v1, {seeds} seeds, 95 % bands",
        "upper left",
        "x",
        ylabel="return, mean of the last 100 episodes",
        ylim=(0, 500),
    )
    ax = axes[1, 2]
    draw_bands(ax, record["runs"], "entropies")
    ax.axhline(uniform, color="grey", ls=":", lw=1)
    ax.text(T_MAX, uniform, "uniform, ln 2", ha="right", va="bottom", color="grey")
    dress(ax, "Its policy's entropy", dict(loc="lower left", ncols=2), "x", ylim=(0, 0.75),
          ylabel="entropy where the workers are, nats")  # fmt: skip
    fig.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return fig


def draw_simplex(ax, path):
    """Draw π as the mean of three corners, weighted."""
    corners = np.array([[0.5, np.sqrt(0.75)], [0.0, 0.0], [1.0, 0.0]])
    at = lambda pi: (np.asarray(pi) @ corners).T
    ax.plot(*at([*np.eye(3), np.eye(3)[0]]), color="black", lw=1)
    for other in path["others"]:
        ax.plot(*at(other), color="grey", lw=1)
    ax.plot(*at(path["alone"]), color=COLOURS[0], lw=2.5)
    passed = f"[0.4, 0.3, 0.3], passed at s = {path['passed_at']:.1f}"
    for pi, up, text in ((START, 0.0, "start, [0.9, 0.05, 0.05]"), (PASSED, 0.06, passed),
                         (np.full(3, 1 / 3), -0.06, "[⅓, ⅓, ⅓], where all go")):  # fmt: skip
        x, y = at(pi)
        ax.plot(x, y, "o", color=COLOURS[1], ms=6, zorder=3)
        ax.annotate(text, (x, y), (1.02, y + up), va="center", arrowprops=dict(arrowstyle="-"))
    for a, (x, y) in enumerate(corners):
        text = f"$\\pi$ = {np.eye(3, dtype=int)[a].tolist()}"
        ax.text(x, y + (0.03 if y else -0.03), text, ha="center", va="bottom" if y else "top")
    ax.axis("off")
    dress(ax, "Entropy alone: h ← h + η ∂H/∂h", xlim=(-0.12, 1.62), ylim=(-0.1, 0.95),
          aspect="equal", anchor="N")  # fmt: skip


def draw_stationary(ax, path):
    s = np.linspace(0, DURATION, len(path["alone"]))
    ax.plot(s, np.array(path["alone"])[:, 0], color="black", lw=2.5, label="entropy alone")
    for (beta, row), colour in zip(path["with_advantage"].items(), COLOURS):
        ax.plot(s, np.array(row["path"])[:, 0], color=colour, lw=1.8, label=f"β = {beta}")
        ax.plot(DURATION * 1.02, row["stationary"][0], "<", color=colour, clip_on=False)
    for level in (0.4, 1 / 3):
        ax.axhline(level, color="grey", ls=":", lw=1)
    ax.set_yticks([1 / 3, 0.4, 0.6, 0.8, 1.0], ["⅓", "0.4", "0.6", "0.8", "1"])
    legend = dict(ncols=2, loc="upper right", bbox_to_anchor=(1.0, 0.84))
    dress(ax, "With advantages 1, 0, 0;  ◂: π ∝ exp(adv/β)", legend, ylim=(0.28, 1.02),
          xlabel="s = η · updates", ylabel="π of the first action")  # fmt: skip


def draw_variance(left, right, record):
    for (name, rows), colour in zip(record["variance"].items(), COLOURS):
        names = "entropy", "variance", "signal"
        H, noise, signal = (np.array([row[k] for row in rows]) for k in names)
        H /= np.log(3 if "bandit" in name else 2)
        left.plot(H, noise / noise.max(), "o-", ms=3.5, color=colour, label=name)
        right.semilogy(H, noise / signal, "o-", ms=3.5, color=colour, label=name)
    H = of_segments(record["runs"], lambda row: row["entropy"]) / np.log(2)
    noise = of_segments(record["runs"], lambda row: row["variance"] / row["squares"])
    label = "CartPole segments, per squared advantage"
    left.plot(H, noise / noise.max(), "s--", ms=3.5, color="black", label=label)
    x = dict(xlabel="entropy of the policy / that of the uniform one", xlim=(-0.02, 1.02))
    dress(
        left,
        "Variance of the gradient, as the policy is flattened",
        dict(loc="upper left", fontsize=8.5),
        ylabel="tr Cov ĝ / its greatest",
        ylim=(0, 1.45),
        yticks=np.linspace(0, 1, 6),
        **x,
    )
    dress(right, "The same per squared gradient: noise to signal", dict(fontsize=8.5),
          ylabel="tr Cov ĝ / |∇J|²", ylim=(0.4, 2e4), **x)  # fmt: skip


def draw_bands(ax, runs, name):
    """Draw, for each β, the mean over seeds with its bootstrap band."""
    steps = np.arange(GRID, T_MAX + 1, GRID)
    for beta, colour in zip(BETAS, COLOURS):
        curves = np.array([run[name] for run in over_runs(runs, beta)])
        figures.band(ax, steps, curves, colour, f"β = {beta:g}")
    ax.set_xlabel("environment steps")


def measured(seeds, jobs):
    todo = [("segments", k) for k in range(seeds)]
    todo += [("cartpole", beta, k) for k in range(seeds) for beta in BETAS]
    run = lambda part, *job: dict(segments=segments, cartpole=cartpole)[part](*job)
    runs = study.gather(todo, run)
    return dict(settings=SETTINGS, path=path(), variance=variance(), gaussian=gaussian(), runs=runs)


STUDIES = {"entropy": Whole(measured, markdown, picture)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
