"""What A2C learns, and how long that takes.

    python -m benchmarks.a2c [cartpole] [baseline] [acrobot] [pendulum] [lunarlander] [--seeds N]
                             [--jobs 1] [--draw]

cartpole   CartPole-v1 in its own vector environment, until the mean of the last 100 TRAINING
           episodes is 475; 20 seeds
baseline   the same, beside Stable-Baselines3's A2C with the same hyper-parameters, networks, start
           distribution and optimiser, in 8 environments: SyncVectorEnv, and CartPole's own form; 10
           seeds, ours and theirs in turn. Stable-Baselines3 takes the step that resets an
           environment for a transition with reward 0; here it does not count as a step
acrobot, pendulum, lunarlander
           Acrobot-v1 (threshold −100), Pendulum-v1 (−250; as in benchmarks/asynchronous.py) and
           LunarLander-v3 (156 is published for Stable-Baselines3 on -v2 at 200,000 steps; needs
           box2d): 10 seeds each, then 100 episodes or more (measure.judge) with the policy learned,
           and 100 with its mode

Seconds are processor time of acting, environment and learning, on one thread. Each part writes
results/a2c_PART.json and .md, the last three a picture too.
"""

import time

import numpy as np

from benchmarks import figures, measure, study
from benchmarks.measure import OURS, SB3, Row
from benchmarks.study import Study

CARTPOLE = Row("a2c", "CartPole-v1", 475.0)
FORMS = "sync", "vector_entry_point"
BASELINE = {
    f"{who}, {form}": Row(*CARTPOLE.preset[:2], 475.0, "sync", dict(vectorization=form), who=who)
    for form in FORMS
    for who in (OURS, SB3)
}
TASKS = {
    "acrobot": Row("a2c", "Acrobot-v1", -100.0),
    "pendulum": Row("a2c", "Pendulum-v1", -250.0),
    "lunarlander": Row("a2c", "LunarLander-v3", 156.0),
}


def until_solved(row, seed):
    """Return a run that ends where the mean of 100 training episodes is at the goal; ours after a
    short one that warms up."""
    episodes, start, wall = [], time.process_time(), time.perf_counter()  # (step, return)
    solved = lambda: measure.episodes_until([G for _, G in episodes[-measure.WINDOW :]], row.goal)
    if row.who == SB3:
        import torch

        from benchmarks.torch_twins.baselines import baseline, train

        torch.set_num_threads(1)
        model = baseline(row.env, row.config, seed)
        episodes, start, wall = model.env.episodes, time.process_time(), time.perf_counter()
        train(model, row.config.T_max, lambda: not solved())
    else:
        env, state = row.begin(seed)
        start, wall = time.process_time(), time.perf_counter()
        for metrics in row.page.train(env, row.config, state):
            episodes += [(metrics.steps, G) for G in metrics.returns]
            if metrics.returns and solved():
                break
    k = measure.episodes_until([G for _, G in episodes], row.goal)
    return dict(
        steps=k and episodes[k - 1][0],
        episodes=len(episodes),
        seconds=time.process_time() - start,
        wall_seconds=time.perf_counter() - wall,
    )


def medians(row, name):
    """Return the median over all runs, one that failed counting as infinite."""
    ended = [np.inf if run["steps"] is None else run[name] for run in row.runs]
    return float(np.median(ended))


def reach(row):
    steps = [x for x in row.of("steps") if x is not None]
    middle = medians(row, "steps")
    return f"{middle:,.0f} ({min(steps):,}–{max(steps):,})" if steps else "never"


COLUMNS = {
    "": lambda row: row.who if row.who == SB3 else row.label.replace(OURS, "page"),
    "runs": lambda row: len(row.runs),
    "failed": lambda row: row.of("steps").count(None),
    "steps to 475, median (range)": reach,
    "seconds, median": lambda row: f"{medians(row, 'seconds'):.2f}",
    "most": lambda row: f"{max(row.of('seconds')):.2f}",
}


def table(rows):
    """Return the table of `cartpole` and `baseline`."""
    text = study.columns(COLUMNS, rows)
    for form, ours, theirs in zip(FORMS, rows[::2], rows[1::2]):
        seconds, steps = (medians(theirs, x) / medians(ours, x) for x in ("seconds", "steps"))
        text += f"\n{form}: {SB3} takes {seconds:.1f} times the seconds, {steps:.2f} times the "
        text += "steps.\n"
    return text


def by_seed(rows):
    """Return the table of a task."""
    names = "return_last_100", "evaluation", "evaluation_greedy"
    spread = ((x.replace("_", " "), study.spread(rows[0].of(x), ".1f")) for x in names)
    means = ", ".join(f"{name} {x}" for name, x in spread)
    return f"{study.by_seed(rows)}\nMean and s.d. over seeds: {means}.\n"


STUDIES = {
    "cartpole": Study({"page": CARTPOLE}, until_solved, table, seeds=20),
    "baseline": Study(BASELINE, until_solved, table),
} | {
    name: Study({name: row}, measure.learned, by_seed, figures.picture)
    for name, row in TASKS.items()
}

if __name__ == "__main__":
    study.main(__doc__, STUDIES, "a2c_")
