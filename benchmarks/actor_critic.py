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

Step sizes were tuned on seeds from 100 up; the results are of seeds 0, 1, .... Each part writes
results/actor_critic_PART.json and .png; --draw draws the .png again from the .json.
"""

import json
from dataclasses import replace
from itertools import islice
from types import MappingProxyType

import gymnasium
import matplotlib.pyplot as plt
import numpy as np

import algorithms.exact.register  # noqa: F401
from algorithms import actor_critic
from algorithms.common.policy import make_policy
from algorithms.exact.average_reward import (
    average_reward,
    differential_action_values,
    stationary_distribution,
)
from algorithms.exact.optimal import optimal_policy
from algorithms.exact.queueing import ACCEPT, PRIORITIES, SERVERS, access_control
from algorithms.exact.worlds import SHORT_CORRIDOR_OPTIMUM, short_corridor_value
from algorithms.runner.plot import COLOURS
from algorithms.runner.presets import configured
from benchmarks import study
from benchmarks.record import RESULTS, save

QUEUE = configured("actor-critic-continuing", "npgrad/AccessControl-v0")
QUEUE_STEPS = 150_000
TRACES = configured("actor-critic-traces", "npgrad/ShortCorridor-v0")
CORRIDOR = {"one-step": configured("actor-critic", "npgrad/ShortCorridor-v0")} | {
    f"traces, λ = {lam:g}": replace(TRACES, lambda_theta=lam, lambda_w=lam)
    for lam in (0.5, 0.9, 1.0)
}
CORRIDOR_EPISODES, STUCK = 1000, -500
PENDULUM = configured("actor-critic-continuing", "npgrad/ContinuingPendulum-v0")
PENDULUM_STEPS, UPRIGHT = 100_000, np.cos(np.radians(18))
CARTPOLE = configured("actor-critic-traces", "CartPole-v1")
CARTPOLE_STEPS, THRESHOLD = 100_000, 475.0


def queue(seeds):
    """Exact average reward of the learned policy as it goes; the policies at the end."""
    mdp = access_control()
    optimal = optimal_policy(mdp, differential_action_values)
    best, curves, tables, R_bars = average_reward(mdp, optimal), [], [], []
    for seed in range(seeds):
        env = gymnasium.make("npgrad/AccessControl-v0")
        state, policy = actor_critic.init(env, QUEUE, seed), make_policy(env, QUEUE.network)
        curve = []
        for metrics in study.episodes(actor_critic.train(env, QUEUE, state)):
            pi = policy.at(state.theta, np.arange(len(mdp.p0))).probs()
            curve.append(average_reward(mdp, pi))
            if metrics.steps >= QUEUE_STEPS:
                break
        print(f"queue, seed {seed}: {curve[-1]:.4f}, {curve[-1] / best:.4f} of the optimum")
        curves.append(curve)
        tables.append(pi[:, ACCEPT])
        R_bars.append(state.R_bar)
    final = np.array(curves)[:, -1]
    middle = int(np.argsort(final)[len(final) // 2])
    return dict(
        config=repr(QUEUE),
        steps=QUEUE_STEPS,
        optimum=best,
        average_reward=final.tolist(),
        share_of_optimum=dict(median=float(np.median(final) / best), worst=final.min() / best),
        R_bar=R_bars,
        policy_of_median_seed=tables[middle].round(4).tolist(),
        optimal_policy=optimal[:, ACCEPT].tolist(),
        curves=np.round(curves, 5).tolist(),
    )


def draw_queue(record):
    """The learned policy in per cent, the optimal one's border over it; and how often each number
    of servers is free under the policy: what is hardly ever seen stays undecided."""
    best, curves = record["optimum"], np.array(record["curves"])
    fig = plt.figure(figsize=(11, 4.4), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1, 1.35))
    ax = left.subplots()
    steps = np.linspace(0, record["steps"], curves.shape[1] + 1)[1:]
    ax.plot(steps, curves.T, color=COLOURS[0], alpha=0.3, linewidth=0.8)
    ax.plot(steps, np.median(curves, 0), color=COLOURS[0], linewidth=2, label="median")
    ax.axhline(best, color="black", ls="--", lw=1, label=f"optimum, {best:.4f}")
    ax.axhline(0.98 * best, color="grey", ls=":", lw=1, label="2 % below")
    ax.set(xlabel="steps", ylabel="exact average reward", ylim=(0.93 * best, 1.005 * best))
    ax.set_xticks(np.linspace(0, record["steps"], 4))
    study.in_steps(ax.xaxis)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="lower right")
    learned, optimal = record["policy_of_median_seed"], record["optimal_policy"]
    pi = np.stack([1 - np.array(learned), learned], 1)
    share = stationary_distribution(access_control(), pi).reshape(SERVERS + 1, -1).sum(1)[1:]
    above, below = right.subplots(2, sharex=True)
    draw_policy(above, learned, optimal, "learned policy: π(accept) in %, median seed")
    draw_policy(below, optimal, optimal, "optimal policy, and its border in both")
    seen = (f"{x:.1%}" if x > 5e-4 else "<0.1%" for x in share)
    below.set_xticks(range(SERVERS), [f"{n}\n{x}" for n, x in enumerate(seen, 1)])
    below.set(xlabel="free servers; share of the time, as learned")
    fig.savefig(RESULTS / "actor_critic_queue.png", dpi=150)


def draw_policy(ax, policy, optimal, title):
    grid, best = (np.reshape(p, (SERVERS + 1, -1)).T[:, 1:] for p in (policy, optimal))
    ax.imshow(grid, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (k, n), p in np.ndenumerate(grid):
        colour = "white" if p > 0.5 else "black"
        ax.text(n, k, f"{100 * p:.0f}", color=colour, ha="center", va="center", fontsize=8)
    border = (best == 0).sum(1) - 0.5  # of a threshold policy: how many free servers it asks for
    edges = np.arange(len(PRIORITIES) + 1) - 0.5
    ax.stairs(border, edges, orientation="horizontal", baseline=None, color=COLOURS[1], lw=3)
    ax.set_title(title, loc="left", fontsize=11)
    ax.set(ylabel="priority", xlim=(-0.5, SERVERS - 0.5))
    ax.set_yticks(range(len(PRIORITIES)), PRIORITIES)


def corridor_run(config, seed):
    """Exact value of the policy after each episode (CORRIDOR_EPISODES,), −∞ once it is below STUCK:
    p is then so near 0 or 1 that episodes hardly end, and the run is stopped."""
    env = gymnasium.make("npgrad/ShortCorridor-v0", max_episode_steps=10_000)
    state, policy = actor_critic.init(env, config, seed), make_policy(env, config.network)
    state.theta[:] = 1.47, -1.47  # left, right
    values = []
    training = study.episodes(actor_critic.train(env, config, state))
    for _ in islice(training, CORRIDOR_EPISODES):
        p = policy.at(state.theta, 0).probs()[1]
        values.append(short_corridor_value(p) if 0 < p < 1 else -np.inf)
        if values[-1] < STUCK:
            break
    return np.append(values, np.full(CORRIDOR_EPISODES - len(values), -np.inf))


def corridor(seeds):
    best, table = SHORT_CORRIDOR_OPTIMUM[1], {}
    known = lambda values: [round(float(v), 4) if np.isfinite(v) else None for v in values]
    for name, config in CORRIDOR.items():
        values = np.array([corridor_run(config, seed) for seed in range(seeds)])
        curve = known(np.median(values, 0))
        table[name] = dict(
            config=repr(config),
            value_at_end=known(values[:, -1]),
            median_at_end=curve[-1],
            runs_stuck=int(np.isinf(values[:, -1]).sum()),
            median=curve,
        )
        print("corridor,", name, table[name]["median_at_end"], "stuck:", table[name]["runs_stuck"])
    return dict(episodes=CORRIDOR_EPISODES, best_value=best, stuck_below=STUCK, methods=table)


def draw_corridor(record):
    """Draw how far the median value is below the best, on a logarithmic scale."""
    best = record["best_value"]
    fig, ax = study.subplots()
    for colour, (name, method) in zip(COLOURS, record["methods"].items()):
        gap = best - np.array(method["median"], float)
        seeds, stuck = len(method["value_at_end"]), method["runs_stuck"]
        label = f"{name}: {stuck} of {seeds} runs stuck"
        ax.semilogy(np.arange(1, len(gap) + 1), gap, color=colour, label=label)
    ax.set(xlabel="episode", ylabel=f"−{-best:.3f} minus the exact value, median of {seeds}")
    ax.set_ylim(bottom=2e-4)
    ax.legend(frameon=False)
    fig.savefig(RESULTS / "actor_critic_corridor.png", dpi=150)


def cartpole(seeds):
    runs, env = [], gymnasium.make("CartPole-v1")
    for seed in range(seeds):
        state, run = study.learn(actor_critic, env, CARTPOLE, seed, THRESHOLD, CARTPOLE_STEPS)
        run |= study.evaluate(actor_critic, env, CARTPOLE, state, THRESHOLD)
        runs.append(study.show("cartpole", run))
    text = study.by_seed(runs, THRESHOLD)
    (RESULTS / "actor_critic_cartpole.md").write_text(text)
    reached = sum(run["steps_until_reached"] is not None for run in runs)
    print(text, f"{reached} of {seeds} reached {THRESHOLD} in training", sep="\n")
    return dict(config=repr(CARTPOLE), steps=CARTPOLE_STEPS, reached=reached, runs=runs)


def draw_cartpole(record):
    title = "actor-critic-traces on CartPole-v1, shipped defaults"
    study.draw(record["runs"], title, THRESHOLD, RESULTS / "actor_critic_cartpole.png")


def pendulum(seeds):
    """Share of steps within 18° of upright and average reward, per report, while learning."""
    runs = []
    for seed in range(seeds):
        env, rewards = study.Watched(gymnasium.make("npgrad/ContinuingPendulum-v0")), []
        state = actor_critic.init(env, PENDULUM, seed)
        for metrics in study.episodes(actor_critic.train(env, PENDULUM, state)):
            rewards.append(metrics.scalars["average_reward"])
            if metrics.steps >= PENDULUM_STEPS:
                break
        cosines = np.array([s[0] for states, *_ in env.episodes for s in states[1:]])
        upright = (cosines > UPRIGHT).reshape(-1, PENDULUM.report_every).mean(1)
        last = slice(-10_000 // PENDULUM.report_every, None)
        run = dict(seed=seed, upright=upright[last].mean(), average_reward=np.mean(rewards[last]))
        print("pendulum, last 10,000 steps:", run, flush=True)
        runs.append(run | dict(R_bar=state.R_bar, rewards=rewards, uprights=upright.tolist()))
    held = int(sum(run["upright"] > 0.99 for run in runs))
    return dict(config=repr(PENDULUM), steps=PENDULUM_STEPS, held_upright=held, runs=runs)


def draw_pendulum(record):
    runs = record["runs"]
    fig, axes = study.subplots(1, 2, (10, 3.8))
    steps = np.linspace(0, record["steps"], len(runs[0]["rewards"]) + 1)[1:]
    labels = dict(uprights="share within 18° of upright", rewards="average reward")
    for ax, (key, label) in zip(axes, labels.items()):
        ax.plot(steps, np.transpose([run[key] for run in runs]), color=COLOURS[0], alpha=0.3, lw=1)
        middle = np.median([run[key] for run in runs], 0)
        ax.plot(steps, middle, color=COLOURS[0], lw=2, label=f"median of {len(runs)} seeds")
        ax.set(xlabel="steps, never reset", ylabel=f"{label}, per {int(steps[0]):,} steps")
        study.in_steps(ax.xaxis)
    axes[0].legend(frameon=False, loc="lower right")
    fig.savefig(RESULTS / "actor_critic_pendulum.png", dpi=150)


PARTS = MappingProxyType(
    {
        "queue": (queue, draw_queue),
        "corridor": (corridor, draw_corridor),
        "cartpole": (cartpole, draw_cartpole),
        "pendulum": (pendulum, draw_pendulum),
    }
)


def main():
    given = study.options(__doc__, PARTS, seeds=10, draw=False)
    RESULTS.mkdir(exist_ok=True)
    for name in given.parts:
        learn, draw = PARTS[name]
        path = RESULTS / f"actor_critic_{name}.json"
        if not given.draw:
            path = save(path.stem, "benchmarks.actor_critic", learn(given.seeds))
        draw(json.loads(path.read_text()))


if __name__ == "__main__":
    main()
