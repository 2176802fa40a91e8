"""What actor–critic learns, where the truth is known or the threshold published.

    python -m benchmarks.actor_critic [queue] [corridor] [cartpole] [pendulum] [--seeds 10] [--draw]

queue      access-control queue (a job may finish in the step that accepts it), continuing: exact
           average reward of the policy learned, beside the optimum, 2.7476; both policies are drawn
corridor   short corridor, one-step and traces, γ = 1: exact value of the policy after each episode,
           beside the best, −11.657. All its states look alike, so v̂(S') = v̂(S) until the end: the
           methods bootstrap from a wrong value, and the longer their traces, the less they use it
cartpole   CartPole-v1, traces with the shipped defaults: when the mean of the last 100 training
           episodes reaches 475; and 100 episodes with the policy learned, 100 with its mode
pendulum   swing-up without resets, continuing: the share of steps within 18° of upright

Each part writes results/actor_critic_PART.json and .png; --draw draws the .png again.
"""

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

from algorithms.common.policy import make_policy
from algorithms.exact import average_reward as exact
from algorithms.exact.optimal import optimal_policy
from algorithms.exact.queueing import ACCEPT, PRIORITIES, SERVERS, access_control
from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM
from algorithms.runner.plot import COLOURS
from benchmarks import figures, measure, study
from benchmarks.corridor import values
from benchmarks.measure import Row
from benchmarks.study import Study, Whole

QUEUE = Row("actor-critic-continuing", "npgrad/AccessControl-v0")
PENDULUM = Row("actor-critic-continuing", "npgrad/ContinuingPendulum-v0")
CARTPOLE = Row("actor-critic-traces", "CartPole-v1", 475.0)
CORRIDOR = {"one-step": Row("actor-critic", "npgrad/ShortCorridor-v0")} | {
    f"traces, λ = {lam:g}": Row("actor-critic-traces", "npgrad/ShortCorridor-v0",
                                changes=dict(lambda_theta=lam, lambda_w=lam))
    for lam in (0.5, 0.9, 1.0)
}  # fmt: skip
CORRIDOR_EPISODES, STUCK = 1000, -500
UPRIGHT = np.cos(np.radians(18))


def reports(row, env, state):
    """Yield the reports with episodes of a row until it has made its steps."""
    for metrics in measure.episodes(row.page.train(env, row.config, state)):
        yield metrics
        if metrics.steps >= row.length:
            break


def queue(seeds, jobs):
    """Return the exact average reward of the learned policy as it goes; the policies at the end."""
    mdp = access_control()
    optimal = optimal_policy(mdp, exact.differential_action_values)
    best, curves, tables, R_bars = exact.average_reward(mdp, optimal), [], [], []
    for seed in range(seeds):
        (env, state), curve = QUEUE.begin(seed), []
        policy = make_policy(env, QUEUE.config.network)
        for _ in reports(QUEUE, env, state):
            pi = policy.at(state.theta, np.arange(len(mdp.p0))).probs()
            curve.append(exact.average_reward(mdp, pi))
        print(f"queue, seed {seed}: {curve[-1]:.4f}, {curve[-1] / best:.4f} of the optimum")
        curves.append(curve)
        tables.append(pi[:, ACCEPT])
        R_bars.append(state.R_bar)
    final = np.array(curves)[:, -1]
    middle = int(np.argsort(final)[len(final) // 2])
    return dict(
        config=repr(QUEUE.config),
        steps=QUEUE.length,
        optimum=best,
        average_reward=final.tolist(),
        share_of_optimum=dict(median=float(np.median(final) / best), worst=final.min() / best),
        R_bar=R_bars,
        policy_of_median_seed=tables[middle].round(4).tolist(),
        optimal_policy=optimal[:, ACCEPT].tolist(),
        curves=np.round(curves, 5).tolist(),
    )


def draw_queue(record):
    """Draw the learned policy in per cent, the optimal one's border over it; and how often each
    number of servers is free under the policy: what is hardly ever seen stays undecided."""
    best, curves = record["optimum"], np.array(record["curves"])
    fig = plt.figure(figsize=(11, 4.4), dpi=150, layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1, 1.35))
    ax = left.subplots()
    draw_median(ax, record["steps"], curves, "median")
    figures.goal_line(ax, best, label=f"optimum, {best:.4f}")
    figures.goal_line(ax, 0.98 * best, color="grey", ls=":", label="2 % below")
    ax.spines[["top", "right"]].set_visible(False)
    figures.dress(ax, "", "lower right", xlabel="steps", ylabel="exact average reward",
                  ylim=(0.93 * best, 1.005 * best), xticks=np.linspace(0, record["steps"], 4),
                  steps="x")  # fmt: skip
    learned, optimal = record["policy_of_median_seed"], record["optimal_policy"]
    pi = np.stack([1 - np.array(learned), learned], 1)
    share = exact.stationary_distribution(access_control(), pi).reshape(SERVERS + 1, -1).sum(1)[1:]
    above, below = right.subplots(2, sharex=True)
    draw_policy(above, learned, optimal, "learned policy: π(accept) in %, median seed")
    draw_policy(below, optimal, optimal, "optimal policy, and its border in both")
    seen = (f"{x:.1%}" if x > 5e-4 else "<0.1%" for x in share)
    below.set_xticks(range(SERVERS), [f"{n}\n{x}" for n, x in enumerate(seen, 1)])
    below.set(xlabel="free servers; share of the time, as learned")
    return fig


def draw_median(ax, steps, curves, label):
    """Draw curves (runs, n), which end after so many steps, and their median."""
    steps = np.linspace(0, steps, curves.shape[1] + 1)[1:]
    ax.plot(steps, curves.T, color=COLOURS[0], alpha=0.3, lw=0.8)
    ax.plot(steps, np.median(curves, 0), color=COLOURS[0], lw=2, label=label)


def draw_policy(ax, policy, optimal, title):
    grid, best = (np.reshape(p, (SERVERS + 1, -1)).T[:, 1:] for p in (policy, optimal))
    ax.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (k, n), p in np.ndenumerate(grid):
        colour = "white" if p > 0.5 else "black"
        ax.text(n, k, f"{100 * p:.0f}", color=colour, ha="center", va="center", fontsize=8)
    border = (best == 0).sum(1) - 0.5  # of a threshold policy: how many free servers it asks for
    edges = np.arange(len(PRIORITIES) + 1) - 0.5
    ax.stairs(border, edges, orientation="horizontal", baseline=None, color=COLOURS[1], lw=3)
    figures.dress(ax, title, ylabel="priority", xlim=(-0.5, SERVERS - 0.5))
    ax.set_yticks(range(len(PRIORITIES)), PRIORITIES)


def corridor_run(row, seed):
    """Return the exact value of the policy after each episode (CORRIDOR_EPISODES,), −∞ once it is
    below STUCK."""
    env = gymnasium.make(row.env, max_episode_steps=10_000)
    found = [value for _, value in values(row, seed, CORRIDOR_EPISODES, STUCK, env)]
    return np.append(found, np.full(CORRIDOR_EPISODES - len(found), -np.inf))


def corridor(seeds, jobs):
    """Return the exact values of the methods' policies."""
    table = {}
    known = lambda values: [round(float(v), 4) if np.isfinite(v) else None for v in values]
    for name, row in CORRIDOR.items():
        found = np.array([corridor_run(row, seed) for seed in range(seeds)])
        curve = known(np.median(found, 0))
        table[name] = dict(
            config=repr(row.config),
            value_at_end=known(found[:, -1]),
            median_at_end=curve[-1],
            runs_stuck=int(np.isinf(found[:, -1]).sum()),
            median=curve,
        )
        study.show(f"corridor, {name}", table[name])
    best = SHORT_CORRIDOR_OPTIMUM[1]
    return dict(episodes=CORRIDOR_EPISODES, best_value=best, stuck_below=STUCK, methods=table)


def draw_corridor(record):
    """Draw how far the median value is below the best, on a logarithmic scale."""
    best = record["best_value"]
    fig, ax = figures.subplots()
    for colour, (name, method) in zip(COLOURS, record["methods"].items()):
        gap = best - np.array(method["median"], float)
        seeds, stuck = len(method["value_at_end"]), method["runs_stuck"]
        label = f"{name}: {stuck} of {seeds} runs stuck"
        ax.semilogy(np.arange(1, len(gap) + 1), gap, color=colour, label=label)
    ax.set_ylim(bottom=2e-4)
    figures.dress(ax, "", {}, xlabel="episode",
                  ylabel=f"−{-best:.3f} minus the exact value, median of {seeds}")  # fmt: skip
    return fig


def pendulum(seeds, jobs):
    """Return the share of steps within 18° of upright and the average reward, per report."""
    runs, config = [], PENDULUM.config
    for seed in range(seeds):
        env, rewards = measure.Watched(PENDULUM.make()), []
        state = PENDULUM.page.init(env, config, seed)
        for metrics in reports(PENDULUM, env, state):
            rewards.append(metrics.scalars["average_reward"])
        cosines = np.array([s[0] for states, *_ in env.episodes for s in states[1:]])
        upright = (cosines > UPRIGHT).reshape(-1, config.report_every).mean(1)
        last = slice(-10_000 // config.report_every, None)
        run = dict(seed=seed, upright=upright[last].mean(), average_reward=np.mean(rewards[last]))
        print("pendulum, last 10,000 steps:", run, flush=True)
        runs.append(run | dict(R_bar=state.R_bar, rewards=rewards, uprights=upright.tolist()))
    held = int(sum(run["upright"] > 0.99 for run in runs))
    return dict(config=repr(config), steps=PENDULUM.length, held_upright=held, runs=runs)


def draw_pendulum(record):
    runs, steps = record["runs"], record["steps"]
    fig, axes = figures.subplots(1, 2, (10, 3.8))
    labels = dict(uprights="share within 18° of upright", rewards="average reward")
    for ax, (key, label) in zip(axes, labels.items()):
        curves = np.array([run[key] for run in runs])
        draw_median(ax, steps, curves, f"median of {len(runs)} seeds")
        label = f"{label}, per {steps // curves.shape[1]:,} steps"
        figures.dress(ax, steps="x", xlabel="steps, never reset", ylabel=label)
    axes[0].legend(frameon=False, loc="lower right")
    return fig


STUDIES = {
    "queue": Whole(queue, None, draw_queue),
    "corridor": Whole(corridor, None, draw_corridor),
    "cartpole": Study({"cartpole": CARTPOLE}, measure.learned, study.by_seed, figures.picture),
    "pendulum": Whole(pendulum, None, draw_pendulum),
}

if __name__ == "__main__":
    study.main(__doc__, STUDIES, "actor_critic_")
