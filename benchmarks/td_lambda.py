"""Sutton & Barto's figures 12.3, 12.6 and 12.8: λ and α on the 19-state random walk.

    python -m benchmarks.td_lambda [--seeds 100] [--draw]

Root-mean-square error of the 19 values at the end of an episode, averaged over the first 10
episodes and the repetitions; all values start at 0, γ = 1. Drawn against α, a curve for each λ:

    off-line λ-return   (12.4): w ← w + α (G^λ_t − wᵀx_t) x_t for t = 0 ... T−1, after an episode
    accumulating        TD(λ)
    dutch               true online TD(λ), which is the online λ-return algorithm
    replacing           TD(λ); not in the book's figures

G^λ_t of the off-line algorithm is taken at the w that moves. The book leaves it open, but says that
its λ = 0 is that of the online algorithm, and so it is with this reading only.

π is fixed, so learning does not change the walks. All λ and α learn at once from the same walks,
which the page's `train` made. Some runs are made again by `train`, one λ and α at a time, and must
be the same bit for bit; the off-line algorithm must agree with its definition.
"""

from dataclasses import replace
from itertools import islice

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

import algorithms.exact.register  # noqa: F401
from algorithms import td_lambda
from algorithms.exact.laboratory import lambda_returns
from algorithms.exact.worlds import RANDOM_WALK_19_VALUES
from algorithms.runner.presets import configured
from benchmarks import figures, measure, study
from benchmarks.study import Whole

LAMBDAS = np.array([0.0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0])
ALPHAS = np.linspace(0.0, 1.0, 61) ** 1.6
EPISODES = 10
STATES = 20  # the last one is terminal: its value stays 0
ONLINE = ("accumulating", "replacing", "dutch")
TITLES = {
    "offline": "Off-line λ-return algorithm (figure 12.3)",
    "accumulating": "TD(λ), accumulating traces (figure 12.6)",
    "dutch": "True online TD(λ), dutch traces (figure 12.8)",
    "replacing": "TD(λ), replacing traces",
}


def train(env, seed, **options):
    """Return w after each episode (EPISODES, STATES), by the page."""
    config = replace(configured("td-lambda", "npgrad/RandomWalk19-v0"), **options)
    state = td_lambda.init(env, config, seed)
    training = measure.episodes(td_lambda.train(env, config, state))
    return np.array([state.w.copy() for _ in islice(training, EPISODES)])


def walks(seed):
    """Return the first episodes' states (T + 1) and rewards (T)."""
    env = measure.Watched(gymnasium.make("npgrad/RandomWalk19-v0"))
    train(env, seed, step_size=0.0)
    return [episode[:2] for episode in env.episodes[:EPISODES]]  # the next one has begun


def learn_online(w, states, rewards, trace, decays, alphas, gamma):
    """Learn from one episode with TD(λ), for all decays γλ and all α at once. w (γλ, α, STATES)
    moves in place."""
    z, v_old = np.zeros_like(w), 0.0
    for s, s2, R in zip(states, states[1:], rewards):
        v, v_next = w[..., s].copy(), w[..., s2].copy()
        delta = R + gamma * v_next - v
        z *= decays[:, None, None]
        if trace == "dutch":
            z[..., s] += 1.0 - alphas * z[..., s]
            change = v - v_old
            step = (alphas * (delta + change))[..., None] * z
            step[..., s] -= alphas * change
            w += step
        else:
            z[..., s] = z[..., s] + 1.0 if trace == "accumulating" else 1.0
            w += (alphas * delta)[..., None] * z
        v_old = v_next


def learn_offline(w, states, rewards):
    """Make one sweep of (12.4). With one-hot states G^λ_t = c_t + M_tᵀ w, by the recursion
    G^λ_t = R_{t+1} + (1 − λ) w(S_{t+1}) + λ G^λ_{t+1}."""
    T = len(rewards)
    c, M = np.zeros((T + 1, len(LAMBDAS))), np.zeros((T + 1, len(LAMBDAS), STATES))
    for t in range(T - 1, -1, -1):
        c[t] = rewards[t] + LAMBDAS * c[t + 1]
        M[t] = LAMBDAS[:, None] * M[t + 1]
        M[t, :, states[t + 1]] += 1.0 - LAMBDAS
    for t, s in enumerate(states[:-1]):
        G = c[t, :, None] + np.einsum("ls,las->la", M[t], w)
        w[..., s] += ALPHAS * (G - w[..., s])


def learn(episodes, kind, decays=LAMBDAS, alphas=ALPHAS, gamma=1.0):
    """Return w after each episode, for all decays and all α: (EPISODES, γλ, α, STATES)."""
    w, path = np.zeros((len(decays), len(alphas), STATES)), []
    with np.errstate(over="ignore", invalid="ignore"):  # some diverge
        for states, rewards in episodes:
            if kind == "offline":
                learn_offline(w, states, rewards)
            else:
                learn_online(w, states, rewards, kind, decays, alphas, gamma)
            path.append(w.copy())
    return np.array(path)


def rms_error(path, v=RANDOM_WALK_19_VALUES):
    """Return the error over the 19 states, averaged over the episodes: (γλ, α)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt(((path[..., : len(v)] - v) ** 2).mean(-1)).mean(0)


def by_definition(w, states, rewards, alpha, lam):
    """Make the same sweep as `learn_offline` for one λ and α, each G^λ_t anew at the present w."""
    for t, s in enumerate(states[:-1]):
        w[s] += alpha * (lambda_returns(rewards, w[states], 1.0, lam)[t] - w[s])


def check(seed, count=8):
    """Assert that runs of each trace equal the page's, and short sweeps their definition. Returns
    the number of runs compared."""
    rng, episodes = np.random.default_rng(seed), walks(seed)
    env = gymnasium.make("npgrad/RandomWalk19-v0")
    shortest = min(episodes, key=lambda episode: len(episode[1]))
    sweep, compared = learn([shortest], "offline")[0], 0
    for trace in ONLINE:
        path = learn(episodes, trace)
        for i, j in zip(rng.integers(len(LAMBDAS), size=count), rng.integers(1, 30, size=count)):
            options = dict(lam=float(LAMBDAS[i]), step_size=float(ALPHAS[j]))
            assert np.array_equal(path[:, i, j], train(env, seed, trace=trace, **options)), options
            compared += 1
            w = np.zeros(STATES)
            by_definition(w, *shortest, ALPHAS[j], LAMBDAS[i])
            np.testing.assert_allclose(sweep[i, j], w, atol=1e-12)
    return compared


def summary(errors):
    """Summarise errors (repetitions, λ, α): per λ the best α, its error, and the mean over
    repetitions for all α, None where some run diverged."""
    rows = {}
    for lam, runs in zip(LAMBDAS, np.moveaxis(errors, 1, 0)):
        mean = np.where(np.isfinite(runs).all(0), runs.mean(0), np.nan)
        j = np.nanargmin(mean)
        rows[f"{lam:g}"] = dict(
            best_step_size=round(float(ALPHAS[j]), 4),
            rms_error=round(float(mean[j]), 4),
            standard_error=round(float(runs[:, j].std(ddof=1) / np.sqrt(len(runs))), 4),
            curve=[float(f"{e:.4g}") if np.isfinite(e) else None for e in mean],
        )
    return rows


def statements(errors):
    """Return the book's statements as numbers, from errors[kind] (repetitions, λ, α)."""
    mean = {kind: runs.mean(0) for kind, runs in errors.items()}
    offline, td, online = (mean[kind] for kind in ("offline", "accumulating", "dutch"))
    best = {kind: np.nanargmin(m, axis=1) for kind, m in mean.items()}
    rows = {}
    for i, lam in enumerate(LAMBDAS[1:], 1):
        j, k = best["offline"][i], best["dutch"][i]
        low = ALPHAS <= ALPHAS[j] / 2
        high = np.searchsorted(ALPHAS, min(1.0, 2 * ALPHAS[j]))
        gain = errors["offline"][:, i, j] - errors["dutch"][:, i, k]
        rows[f"{lam:g}"] = dict(
            td_minus_offline_at_most_below_half_of_best=float(
                np.abs(td - offline)[i, low].max().round(4)
            ),
            high_step_size=round(float(ALPHAS[high]), 4),
            td_minus_offline_at_high=float(f"{(td - offline)[i, high]:.4g}"),
            offline_minus_online_each_at_its_best=float(gain.mean().round(4) + 0.0),
            standard_error=float((gain.std(ddof=1) / np.sqrt(len(gain))).round(4)),
        )
    return {
        "12.8: λ = 0 is the same for both": float(np.abs(offline[0] - online[0]).max()),
        "12.3: the best λ lies in between": {
            kind: float(LAMBDAS[np.nanargmin(np.nanmin(m, axis=1))]) for kind, m in mean.items()
        },
        "12.6: TD(λ) is virtually identical at low α, worse at high α; "
        "12.8: the online algorithm is subtly better": rows,
    }


def picture(record):
    fig, axes = figures.subplots(2, 2, (10, 7.6), sharex=True, sharey=True)
    colors = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(LAMBDAS)))
    for ax, (kind, title) in zip(axes.flat, TITLES.items()):
        for (lam, row), color in zip(record["curves"][kind].items(), colors):
            error = np.array(row["curve"], float)
            ax.plot(ALPHAS, error, color=color, linewidth=1.6, label=f"λ = {lam}")
            ax.plot(row["best_step_size"], row["rms_error"], "o", color=color, markersize=3.5)
        figures.dress(ax, title, xlim=(0, 1), ylim=(0.24, record["error_at_the_start"]))
    lines = axes[0, 0].get_legend_handles_labels()
    fig.legend(*lines, frameon=False, ncols=len(LAMBDAS), loc="outside upper center", fontsize=9)
    fig.supxlabel("α", fontsize=11)
    what = f"mean of 10 episodes and {record['repetitions']} repetitions"
    fig.supylabel(f"RMS error of 19 values, {what}")
    return fig


def measured(repetitions, jobs):
    compared, runs = check(repetitions), {kind: [] for kind in TITLES}
    for seed in range(repetitions):
        episodes = walks(seed)
        for kind in TITLES:
            runs[kind].append(rms_error(learn(episodes, kind)))
    errors = {kind: np.array(errors) for kind, errors in runs.items()}
    curves = {kind: summary(e) for kind, e in errors.items()}
    for kind, rows in curves.items():
        print(TITLES[kind])
        for lam, row in rows.items():
            print(f"  λ = {lam:5}  best α = {row['best_step_size']:.4f}", end="  ")
            print(f"RMS error {row['rms_error']:.4f} ± {row['standard_error']:.4f}")
    return dict(
        repetitions=repetitions,
        episodes=EPISODES,
        error_at_the_start=float(np.sqrt(np.mean(np.square(RANDOM_WALK_19_VALUES)))),
        runs_equal_to_the_page_bit_for_bit=compared,
        step_sizes=ALPHAS.round(6).tolist(),
        statements_of_the_book=statements(errors),
        curves=curves,
    )


STUDIES = {"td_lambda": Whole(measured, None, picture, 100)}

if __name__ == "__main__":
    study.main(__doc__, STUDIES)
