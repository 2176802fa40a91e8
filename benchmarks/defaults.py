"""What every method's shipped defaults learn on the classic tasks, and what a preset does there.

    python -m benchmarks.defaults [METHOD ...] [--seeds 10] [--again "METHOD ENV"] [--draw]

50,000 steps of a method (DDPG 10,000), or as many as its preset says where that was made here. The
score is the mean return of 100 episodes or more (study.judge) with the policy learned; of the value
methods, greedy; of DDPG, μ. A method learns if most runs get half the way from a uniformly random
policy to the goal, and by three standard errors. (To stand still is better than random on
MountainCarContinuous-v0, whose goal it misses.)

Writes results/defaults.json after each run, and .md; what is recorded is not run again.
"""

from dataclasses import replace

import gymnasium
import numpy as np

from algorithms.runner.lookup import METHODS, load_method
from algorithms.runner.presets import PRESETS, configured
from benchmarks import study
from benchmarks.record import RESULTS

STEPS = 50_000
GOALS = {
    "FrozenLake-v1": 0.7,
    "CartPole-v1": 475.0,
    "Acrobot-v1": -100.0,
    "Pendulum-v1": -250.0,
    "MountainCarContinuous-v0": 90.0,
}
DISCRETE, CONTINUOUS = list(GOALS)[:3], list(GOALS)[3:]
GREEDY = ("async-q", "async-sarsa", "async-n-step-q")
LEARNERS = [
    name for name in METHODS if name not in ("theorem", "td-lambda", "actor-critic-continuing")
]
RUN_PRESETS = ("FrozenLake-v1",)  # the others' results are those of their own benchmarks


def tasks(method):
    """The environments whose actions a method takes."""
    return (DISCRETE if method != "ddpg" else []) + (CONTINUOUS if method not in GREEDY else [])


def run(method, env_id, which, seed):
    """One run, as a dict; `which` is "defaults" or "preset"."""
    page, env = load_method(method, METHODS), gymnasium.make(env_id)
    config = configured(method, env_id) if which == "preset" else page.Config()
    steps = PRESETS[method, env_id, ""].steps if which == "preset" else STEPS
    steps = steps // 5 if method == "ddpg" else steps
    config = replace(config, T_max=steps) if hasattr(config, "T_max") else config
    state = page.init(env, config, seed)
    for metrics in page.train(env, config, state):
        if metrics.steps >= steps:
            break
    act = study.player(page, env, config, state, method in GREEDY)
    score, error, episodes = study.judge(gymnasium.make(env_id), act, GOALS[env_id])
    return dict(score=score, error=error, episodes=episodes, steps=metrics.steps)


def random_score(env_id):
    """Mean return of uniformly random actions."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    return float(study.play(env, lambda S: np.array([env.action_space.sample() for _ in S])).mean())


def learns(runs, zero, goal):
    """Whether most runs are better than random, by 3 standard errors and half the way."""
    least = [max(3 * run["error"], 0.5 * (goal - zero)) for run in runs]
    return np.mean([run["score"] - zero > x for run, x in zip(runs, least)]) > 0.5


def cell(runs, zero, goal):
    """Score in words: mean ± standard error over the runs, (their number), bold if it learns."""
    if not runs:
        return "–"
    scores = np.array([run["score"] for run in runs])
    spread = f" ± {study.standard_error(scores):.2g}" if len(scores) > 1 else ""
    text = f"{scores.mean():.3g}{spread} ({len(runs)})"
    return f"**{text}**" if learns(runs, zero, goal) else text


def table(runs, zeros):
    """The results in Markdown: a row for each method, with the presets' published results."""
    of = lambda *words: [x for key, x in runs.items() if key.rpartition(" ")[0] == " ".join(words)]
    head, rows = ["", *GOALS], [["a random policy", *(f"{zeros[env]:.3g}" for env in GOALS)]]
    rows.append(["goal", *(f"{goal:g}" for goal in GOALS.values())])
    for method in LEARNERS:
        words = [method]
        for env, goal in GOALS.items():
            text = cell(of(method, env, "defaults"), zeros[env], goal)
            if (method, env, "") in PRESETS:
                found = of(method, env, "preset")
                found = cell(found, zeros[env], goal) if found else PRESETS[method, env, ""].result
                text += f"; preset: {found}"
            words.append(text)
        rows.append(words)
    return study.minus(study.table(head, rows))


def main():
    given = study.options(__doc__, LEARNERS, seeds=10, again="", draw=False)
    seeds = range(given.seeds)
    jobs = [(m, env, "defaults", k) for k in seeds for m in LEARNERS for env in tasks(m)]
    ours = [key for key in PRESETS if key[1] in RUN_PRESETS and not key[2]]
    jobs += [(m, env, "preset", k) for k in seeds for m, env, _ in ours]
    jobs = [] if given.draw else [job for job in jobs if job[0] in given.parts]
    runs = study.gather("defaults", dict(steps=STEPS), jobs, run, given.again)
    zeros = {env: random_score(env) for env in GOALS}
    text = (
        f"{table(runs, zeros)}\nMean ± standard error over the runs (their number); bold: learns.\n"
    )
    print(text)
    (RESULTS / "defaults.md").write_text(text)


if __name__ == "__main__":
    main()
