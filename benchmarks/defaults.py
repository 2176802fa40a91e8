"""What shipped defaults learn on Gymnasium's classic tasks: one method for each, ten seeds.

    python -m benchmarks.defaults [ENV ...] [--seeds 10] [--again ENV] [--draw]

Nothing is set but the number of steps. The score is the mean return of 100 episodes or more
(study.judge) with the policy learned. It has learned something if it is above a random policy by
three standard errors and half of the way to the goal; to stand still is not, on
MountainCarContinuous-v0.

Writes results/defaults.json after each run, and .md; what is recorded is not run again.
"""

from dataclasses import replace

import gymnasium
import numpy as np

from algorithms.runner.lookup import METHODS, load_method
from benchmarks import study
from benchmarks.record import RESULTS

TASKS = {  # environment: (method, steps, goal)
    "FrozenLake-v1": ("async-n-step-q", 500_000, 0.7),
    "CartPole-v1": ("reinforce", 100_000, 475.0),
    "Acrobot-v1": ("actor-critic", 50_000, -100.0),
    "Pendulum-v1": ("ddpg", 20_000, -160.0),
    "MountainCarContinuous-v0": ("ddpg", 40_000, 90.0),
}


def run(env_id, seed):
    """One run, as a dict."""
    method, steps, goal = TASKS[env_id]
    page, env = load_method(method, METHODS), gymnasium.make(env_id)
    config = page.Config()
    config = replace(config, T_max=steps) if hasattr(config, "T_max") else config
    state = page.init(env, config, seed)
    for metrics in page.train(env, config, state):
        if metrics.steps >= steps:
            break
    act = study.player(page, env, config, state, greedy=False)
    score, error, episodes = study.judge(gymnasium.make(env_id), act, goal)
    return dict(score=score, error=error, episodes=episodes, steps=metrics.steps)


def random_score(env_id):
    """Mean return of uniformly random actions."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    return float(study.play(env, lambda S: np.array([env.action_space.sample() for _ in S])).mean())


def row(env_id, runs):
    """The row of an environment in the table."""
    method, steps, goal = TASKS[env_id]
    zero, scores = random_score(env_id), np.array([run["score"] for run in runs])
    least = [max(3 * run["error"], 0.5 * (goal - zero)) for run in runs]
    learned = np.sum(scores - zero > least)
    spread = f"{scores.mean():.3g} ± {study.standard_error(scores):.2g}, worst {scores.min():.3g}"
    error = f"{max(run['error'] for run in runs):.2g}"
    told = f"{learned} of {len(runs)}"
    return env_id, method, f"{steps:,}", f"{zero:.3g}", f"{goal:g}", spread, error, told


def main():
    given = study.options(__doc__, TASKS, seeds=10, again="", draw=False)
    jobs = [(env, k) for env in TASKS for k in range(given.seeds) if env in given.parts]
    runs = study.gather("defaults", {}, [] if given.draw else jobs, run, given.again)
    found = {env: [x for key, x in runs.items() if key.split()[0] == env] for env in TASKS}
    head = "environment", "method", "steps", "random", "goal"
    head += "score: mean ± standard error over the runs", "of a score, at most", "learned something"
    text = study.minus(study.table(head, [row(env, x) for env, x in found.items() if len(x) > 1]))
    print(text)
    (RESULTS / "defaults.md").write_text(text)


if __name__ == "__main__":
    main()
