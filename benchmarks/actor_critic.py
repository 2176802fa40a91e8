"""What actor–critic learns, where the truth is known or the threshold published.

    python -m benchmarks.actor_critic [queue] [corridor] [cartpole] [pendulum] [--seeds 10]

queue      access-control queue (a job may finish in the step that accepts it), continuing: exact
           average reward of the policy learned, against the optimum, 2.7476; both policies drawn
corridor   short corridor, one-step and traces, γ = 1: exact value of the policy after each episode,
           against the best, −11.657. All its states look alike, so v̂(S') = v̂(S) until the end: what
           a method bootstraps from is wrong, the less so the longer its traces
cartpole   CartPole-v1, traces with the shipped defaults, online: the mean of the last 100 training
           episodes reaches 475; and 100 episodes played with the policy at the end
pendulum   swing-up without resets, continuing: the share of steps spent within 18° of upright

Step sizes were tuned on seeds from 100 up; reported are seeds 0, 1, .... Each part writes
results/actor_critic_PART.json and .png.
"""

import argparse
from itertools import islice

import gymnasium
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter

import algorithms.common.register  # noqa: F401
from algorithms import actor_critic
from algorithms.actor_critic import Continuing, OneStep, State, Traces
from algorithms.common.average_reward import average_reward, differential_action_values
from algorithms.common.optimal import optimal_policy
from algorithms.common.policy import Network, make_policy
from algorithms.common.queueing import ACCEPT, PRIORITIES, SERVERS, access_control
from algorithms.common.worlds import SHORT_CORRIDOR_OPTIMUM, short_corridor_value
from algorithms.runner.lookup import Method
from algorithms.runner.plot import COLOURS
from benchmarks import learning
from benchmarks.record import RESULTS, save

LINEAR = Network(approximator="linear")
QUEUE = Continuing(
    network=LINEAR,
    optimizer="sgd",
    step_size=0.02,
    step_size_w=0.02,
    step_size_R=0.002,
    lambda_theta=0.5,
    lambda_w=0.9,
    report_every=5000,
)
QUEUE_STEPS = 150_000
BOX = dict(network=LINEAR, optimizer="sgd", gamma=1.0, step_size=2**-9, step_size_w=2**-6)
CORRIDOR = {
    "one-step": OneStep(**BOX),
    "traces, λ = 0.5": Traces(**BOX, lambda_theta=0.5, lambda_w=0.5),
    "traces, λ = 0.9": Traces(**BOX, lambda_theta=0.9, lambda_w=0.9),
    "traces, λ = 1": Traces(**BOX, lambda_theta=1.0, lambda_w=1.0),
}
CORRIDOR_EPISODES, STUCK = 1000, -500
PENDULUM = Continuing(
    features="fourier",
    order=3,
    network=LINEAR,
    optimizer="rmsprop",
    step_size=2e-4,
    step_size_w=1e-2,
    step_size_R=1e-3,
    lambda_theta=0.8,
    lambda_w=0.8,
    report_every=2000,
)
PENDULUM_STEPS, UPRIGHT = 100_000, np.cos(np.radians(18))
CARTPOLE_STEPS, THRESHOLD = 100_000, 475.0


def probabilities(policy, theta, S):
    """π(a|s) for features S (n, d)."""
    return np.exp(policy.head.log_probs(policy.model(theta, S)))


def queue(seeds):
    """Exact average reward of the learned policy as it goes; the policies at the end."""
    mdp = access_control()
    optimal = optimal_policy(mdp, differential_action_values)
    best, curves, tables, R_bars = average_reward(mdp, optimal), [], [], []
    for seed in range(seeds):
        env = gymnasium.make("npgrad/AccessControl-v0")
        state, policy = actor_critic.init(env, QUEUE, seed), make_policy(env, QUEUE.network)
        curve = []
        for metrics in actor_critic.train(env, QUEUE, state):
            pi = probabilities(policy, state.theta, np.eye(len(mdp.p0)))
            curve.append(average_reward(mdp, pi))
            if metrics.steps >= QUEUE_STEPS:
                break
        print(f"queue, seed {seed}: {curve[-1]:.4f}, {curve[-1] / best:.4f} of the optimum")
        curves.append(curve)
        tables.append(pi[:, ACCEPT])
        R_bars.append(state.R_bar)
    final = np.array(curves)[:, -1]
    middle = int(np.argsort(final)[len(final) // 2])
    draw_queue(np.array(curves), best, tables[middle], optimal[:, ACCEPT])
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


def draw_queue(curves, best, learned, optimal):
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    steps = QUEUE.report_every * np.arange(1, curves.shape[1] + 1)
    axes[0].plot(steps, curves.T, color=COLOURS[0], alpha=0.3, linewidth=0.8)
    axes[0].plot(steps, np.median(curves, 0), color=COLOURS[0], linewidth=2, label="median")
    axes[0].axhline(best, color="black", ls="--", lw=1, label=f"optimum, {best:.4f}")
    axes[0].axhline(0.98 * best, color="grey", ls=":", lw=1, label="2 % below")
    axes[0].set(xlabel="steps", ylabel="exact average reward", ylim=(0.93 * best, 1.005 * best))
    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].legend(frameon=False, loc="lower right")
    names = {"learned: π(accept)": learned, "optimal policy": optimal}
    for ax, (name, table) in zip(axes[1:], names.items()):
        shades = ax.imshow(table.reshape(SERVERS + 1, -1).T[:, 1:], cmap="Blues", vmin=0, vmax=1)
        ax.set(title=name, xlabel="free servers", ylabel="priority")
        ax.set_xticks(range(SERVERS), range(1, SERVERS + 1))
        ax.set_yticks(range(len(PRIORITIES)), PRIORITIES)
    fig.colorbar(shades, ax=axes[1:], shrink=0.5)
    fig.savefig(RESULTS / "actor_critic_queue.png", dpi=150)


def corridor_run(config, seed):
    """Exact value of the policy after each episode (CORRIDOR_EPISODES,), −∞ once it is below STUCK:
    p is then so near 0 or 1 that episodes hardly end, and the run is stopped."""
    env = gymnasium.make("npgrad/ShortCorridor-v0", max_episode_steps=10_000)
    state, policy = actor_critic.init(env, config, seed), make_policy(env, config.network)
    state.theta[:] = 1.47, -1.47  # left, right
    values = []
    for _ in islice(actor_critic.train(env, config, state), CORRIDOR_EPISODES):
        p = probabilities(policy, state.theta, np.ones((1, 1)))[0, 1]
        values.append(short_corridor_value(p) if 0 < p < 1 else -np.inf)
        if values[-1] < STUCK:
            break
    return np.append(values, np.full(CORRIDOR_EPISODES - len(values), -np.inf))


def corridor(seeds):
    best, table = SHORT_CORRIDOR_OPTIMUM[1], {}
    fig, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for colour, (name, config) in zip(COLOURS, CORRIDOR.items()):
        values = np.array([corridor_run(config, seed) for seed in range(seeds)])
        curve = np.median(values, 0)
        ax.plot(np.arange(1, CORRIDOR_EPISODES + 1), curve, color=colour, label=name)
        table[name] = dict(
            config=repr(config),
            value_at_end=[float(v) if np.isfinite(v) else None for v in values[:, -1]],
            median_at_end=float(curve[-1]) if np.isfinite(curve[-1]) else None,
            runs_stuck=int(np.isinf(values[:, -1]).sum()),
        )
        print("corridor,", name, table[name]["median_at_end"], "stuck:", table[name]["runs_stuck"])
    ax.axhline(best, color="black", ls="--", lw=1, label=f"best policy, −{-best:.3f}")
    ax.set(xlabel="episode", ylabel=f"exact value of the policy, median of {seeds}", ylim=(-90, -8))
    ax.legend(frameon=False, loc="lower right")
    fig.savefig(RESULTS / "actor_critic_corridor.png", dpi=150)
    return dict(episodes=CORRIDOR_EPISODES, best_value=best, stuck_below=STUCK, methods=table)


def cartpole(seeds):
    method = Method(Traces, State, actor_critic.init, actor_critic.train, actor_critic.actor)
    runs = []
    for seed in range(seeds):
        runs.append(learning.learn(method, "CartPole-v1", CARTPOLE_STEPS, seed, THRESHOLD))
        print({name: x for name, x in runs[-1].items() if name != "curve"}, flush=True)
    title = "actor-critic-traces on CartPole-v1, shipped defaults"
    learning.draw(runs, title, THRESHOLD, RESULTS / "actor_critic_cartpole.png")
    text = learning.markdown(runs, THRESHOLD)
    (RESULTS / "actor_critic_cartpole.md").write_text(text)
    reached = sum(run["steps_until_reached"] is not None for run in runs)
    print(text, f"{reached} of {seeds} reached {THRESHOLD} in training", sep="\n")
    return dict(config=repr(Traces()), steps=CARTPOLE_STEPS, reached=reached, runs=runs)


class Angles(gymnasium.Wrapper):
    """Keeps cos θ of every step, 1 being upright."""

    def __init__(self, env):
        super().__init__(env)
        self.cosines = []

    def step(self, action):
        result = self.env.step(action)
        self.cosines.append(float(result[0][0]))
        return result


def pendulum(seeds):
    """Share of steps within 18° of upright and average reward, per report, while learning."""
    runs = []
    for seed in range(seeds):
        env, rewards = Angles(gymnasium.make("npgrad/ContinuingPendulum-v0")), []
        state = actor_critic.init(env, PENDULUM, seed)
        for metrics in actor_critic.train(env, PENDULUM, state):
            rewards.append(metrics.scalars["average_reward"])
            if metrics.steps >= PENDULUM_STEPS:
                break
        upright = (np.array(env.cosines) > UPRIGHT).reshape(-1, PENDULUM.report_every).mean(1)
        last = slice(-10_000 // PENDULUM.report_every, None)
        run = dict(seed=seed, upright=upright[last].mean(), average_reward=np.mean(rewards[last]))
        print("pendulum, last 10,000 steps:", run, flush=True)
        runs.append(run | dict(R_bar=state.R_bar, rewards=rewards, uprights=upright.tolist()))
    draw_pendulum(runs)
    held = int(sum(run["upright"] > 0.99 for run in runs))
    return dict(config=repr(PENDULUM), steps=PENDULUM_STEPS, held_upright=held, runs=runs)


def draw_pendulum(runs):
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    steps = PENDULUM.report_every * np.arange(1, len(runs[0]["rewards"]) + 1)
    for ax, key, label in zip(
        axes, ("uprights", "rewards"), ("within 18° of upright", "average reward")
    ):
        ax.plot(steps, np.transpose([run[key] for run in runs]), color=COLOURS[0], alpha=0.4)
        middle = np.median([run[key] for run in runs], 0)
        ax.plot(steps, middle, color=COLOURS[0], lw=2, label=f"median of {len(runs)} seeds")
        ax.set(xlabel="steps, never reset", ylabel=f"{label}, per {PENDULUM.report_every} steps")
    axes[0].legend(frameon=False, loc="lower right")
    fig.savefig(RESULTS / "actor_critic_pendulum.png", dpi=150)


def main():
    parts = dict(queue=queue, corridor=corridor, cartpole=cartpole, pendulum=pendulum)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=", ".join(parts) + "; all of them by default")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(parts)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: must be of {', '.join(parts)}")
    RESULTS.mkdir(exist_ok=True)
    for name in arguments.parts or parts:
        save(f"actor_critic_{name}", "benchmarks.actor_critic", parts[name](arguments.seeds))


if __name__ == "__main__":
    main()
